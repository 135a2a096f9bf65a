"""What intake commits before Slack gets its ack, and what it does where the database is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.context import Context
from bot.core.errors import StoreUnavailable
from bot.core.pacing import Patience
from bot.door import Door
from bot.effects import Links
from bot.inbound.intake import Intake, Middleware
from bot.openhands.repositories import Repositories
from bot.slots import Limits
from bot.store import outbox, runs
from bot.store.database import Database, open_database
from tests.inbound.test_catch_up import no_openhands, table_away
from tests.slack.bench import bench
from tests.store.bench import NOW, a_run, file_in

ARCHIVED = {"type": "event_callback", "event": {"type": "channel_archive", "channel": "C01"}}


class Missed:
    """Counts how often intake asked for a reading back."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


@asynccontextmanager
async def intake(folder: Path, missed: Missed) -> AsyncIterator[tuple[Middleware, Database]]:
    async with bench() as at:
        database = await open_database(file_in(folder))
        us, _ = await at.gateway.identity()
        ctx = Context(
            database=database,
            gateway=at.gateway,
            door=Door(at.gateway, us),
            openhands=no_openhands,
            repositories=Repositories(no_openhands, at.clock, Patience()),
            links=Links(us, "https://openhands.example", notifies=False),
            limits=Limits(slots=10, full_s=60.0),
            clock=at.clock,
            patience=Patience(),
        )
        try:
            yield Intake(ctx).middleware(missed, lambda _said: None), database
        finally:
            await database.close()


async def test_what_is_no_request_is_committed_before_it_is_acknowledged(tmp_path: Path) -> None:
    """A lost place ends the edits there and is told to whoever has a run in it."""
    async with intake(tmp_path, Missed()) as (middleware, database):
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one", channel="C01", posts=1))
        answer = await middleware(body=ARCHIVED)
        async with database.reading() as tx:
            told = [row.kind for row in await outbox.due(tx, NOW.replace(year=2030), [], 10)]
            lost = (await runs.get(tx, a_run("one").id)).card.gone
    assert (answer.status, answer.body, told, lost) == (200, "", ["direct"], True)


async def test_what_could_not_be_committed_is_not_acknowledged(tmp_path: Path) -> None:
    """Slack sends it again."""
    async with intake(tmp_path, Missed()) as (middleware, _):
        with table_away(tmp_path, "runs"), pytest.raises(StoreUnavailable):
            await middleware(body=ARCHIVED)


async def test_a_message_that_could_not_be_committed_is_read_back(tmp_path: Path) -> None:
    """Slack repeats an event only so often; after that nobody but the bot would look for it."""
    missed = Missed()
    message = {
        "type": "event_callback",
        "team_id": "T01",
        "event": {"type": "message", "channel": "D01", "channel_type": "im", "user": "U01", "ts": "1.0", "text": "hi"},
    }
    async with intake(tmp_path, missed) as (middleware, _):
        with table_away(tmp_path, "inbox"), pytest.raises(StoreUnavailable):
            await middleware(body=message)
    assert missed.count == 1
