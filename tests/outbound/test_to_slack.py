"""What Slack refuses meets what happens to the run meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bot.context import Context
from bot.core.errors import SlackRefused
from bot.core.model import RowId, RunState
from bot.core.owed import OutboxKind
from bot.core.pacing import Patience
from bot.door import Door
from bot.effects import Links
from bot.openhands.repositories import Repositories
from bot.outbound.to_slack import ToSlack
from bot.slots import Limits, admit_waiting
from bot.store import outbox, runs
from bot.store.database import Database
from tests.inbound.test_catch_up import no_openhands
from tests.slack.bench import bench
from tests.store.bench import NOW, a_run, opened


@asynccontextmanager
async def context(folder: Path) -> AsyncIterator[Context]:
    """Open a database and a local Slack, and nothing that works on them."""
    async with bench() as at, opened(folder) as database:
        us, _ = await at.gateway.identity()
        yield Context(
            database=database,
            gateway=at.gateway,
            door=Door(at.gateway, us),
            openhands=no_openhands,
            repositories=Repositories(no_openhands, at.clock, Patience()),
            links=Links(us, "https://openhands.example", notifies=False),
            limits=Limits(slots=1, full_s=60.0),
            clock=at.clock,
            patience=Patience(),
        )


async def kinds_owed(database: Database) -> list[OutboxKind]:
    async with database.reading() as tx:
        return [row.kind for row in await outbox.due(tx, NOW, (), 10)]


async def test_a_slot_that_falls_free_while_the_card_is_refused_is_given_back(tmp_path: Path) -> None:
    """The queued run gets its slot just before the refusal is written: it is cancelled from there, not forgotten."""
    async with context(tmp_path) as ctx:
        waiting = a_run("6a6c6d4e-0000-4000-8000-000000000001", state=RunState.QUEUED, queued_at=NOW)
        about = {"channel": waiting.channel, "response_url": None}
        async with ctx.database.transaction() as tx:
            await runs.add(tx, waiting)
            await outbox.add(tx, OutboxKind.CARD, id=RowId("card"), lane="card", now=NOW, run=waiting.id, payload=about)
            [row] = await outbox.due(tx, NOW, (), 10)
        async with ctx.database.transaction() as tx:
            refusing = asyncio.create_task(ToSlack(ctx, notify_channel=None)._refused(row, SlackRefused("is_archived")))
            async with asyncio.timeout(10):
                while not ctx.database._turns._others:  # noqa: ASYNC110 - it waits for its turn, and announces nothing
                    await asyncio.sleep(0.001)
            assert await admit_waiting(tx, ctx.links, ctx.limits, NOW)
        await refusing

        async with ctx.database.reading() as tx:
            assert (await runs.get(tx, waiting.id)).state is RunState.CANCELLED
            assert await runs.occupying(tx) == 0
        assert await kinds_owed(ctx.database) == [OutboxKind.DIRECT]
