"""Times that lie ahead after the clock was put back: the tables hold none of them any more."""

from datetime import timedelta

from bot.core.model import RowId
from bot.core.owed import OutboxKind
from bot.store import ahead, checkpoints, outbox, runs
from bot.store.checkpoints import Mark
from bot.store.database import Database
from tests.core.runs import NOW, a_run
from tests.store.test_runs import add, get

HOUR = timedelta(hours=1)


async def test_what_lies_ahead_is_due_and_the_rest_stays(database: Database) -> None:
    """All but the order of the queue, and the time at which OpenHands begins a new day."""
    late, soon = NOW + HOUR, NOW + timedelta(seconds=30)
    there = a_run(next_poll_at=late, observed_at=late, queued_at=late, starts_after=late, heard_at=soon, created_at=NOW)
    await add(database, there)
    async with database.transaction() as tx:
        await outbox.add(tx, OutboxKind.MESSAGE, id=RowId("o"), lane="l", now=late)
        for mark in (Mark.HEARD, Mark.FULL, Mark.QUOTA):
            await checkpoints.put(tx, mark, late)
        assert await ahead.is_ahead(tx, NOW)
        await ahead.drawn_back(tx, NOW)
        assert not await ahead.is_ahead(tx, NOW)
        marks = [await checkpoints.get(tx, mark) for mark in (Mark.HEARD, Mark.FULL, Mark.QUOTA)]
        [row] = await outbox.due(tx, NOW, (), 10)
        [due] = await runs.due(tx, NOW, 10)
    after = await get(database, there)
    assert (marks, row.created_at, due.id) == ([NOW, NOW, late], NOW, there.id)
    assert (after.watch.next_poll_at, after.watch.observed_at, after.watch.heard_at) == (NOW, NOW, soon)
    assert (after.queued_at, after.starts_after, after.created_at) == (late, late, NOW)
