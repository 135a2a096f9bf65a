"""Transactions: all or nothing, one writer at a time, readers beside it, and outages survived."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from bot.core.errors import StoreUnavailable
from bot.core.model import RunId
from bot.store import runs
from bot.store.database import Database, Turns
from tests.store.bench import a_run, locked


async def stored(database: Database) -> list[str]:
    """Return the runs that are committed."""
    async with database.reading() as tx:
        found = await tx.execute(text("SELECT id FROM runs ORDER BY id"))
        return list(found.scalars())


# --- all or nothing ---------------------------------------------------------------------------------------------


async def test_a_transaction_is_committed_whole(database: Database) -> None:
    """Both halves of a change are there afterwards."""
    async with database.transaction() as tx:
        await runs.add(tx, a_run("one"))
        await runs.add(tx, a_run("two"))
    assert await stored(database) == ["one", "two"]


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    """An error of ours rises as it is, nothing of the transaction stays, and the next one works."""

    async def work() -> None:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one"))
            raise LookupError("ours")

    with pytest.raises(LookupError, match="ours"):
        await work()
    async with database.transaction() as tx:
        await runs.add(tx, a_run("two"))
    assert await stored(database) == ["two"]


async def test_a_cancelled_transaction_leaves_nothing(database: Database) -> None:
    """Cancelled between two statements, it is rolled back, and the next one works."""
    inside = asyncio.Event()

    async def work() -> None:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one"))
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as tx:
        await runs.add(tx, a_run("two"))
    assert await stored(database) == ["two"]


async def test_a_reader_sees_the_last_commit_beside_the_writer(database: Database) -> None:
    """Reading waits for no writer, and sees nothing that is not committed."""
    async with database.transaction() as tx:
        await runs.add(tx, a_run("one"))
        beside = await stored(database)
    assert (beside, await stored(database)) == ([], ["one"])


async def test_one_reading_sees_one_state(database: Database) -> None:
    """What is committed meanwhile appears in the next reading, not in the middle of this one."""
    count = text("SELECT count(*) FROM runs")
    async with database.reading() as tx:
        before = (await tx.execute(count)).scalar()
        async with database.transaction() as writing:
            await runs.add(writing, a_run("one"))
        after = (await tx.execute(count)).scalar()
    assert (before, after, await stored(database)) == (0, 0, ["one"])


# --- turns ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # on a server they wait for nobody
async def test_urgent_writers_overtake(database: Database) -> None:
    """First come, first served, but intake's inserts go before whatever else waits."""
    order: list[str] = []

    async def write(name: str) -> None:
        async with database.transaction():
            order.append(name)

    async def write_down(name: str) -> None:
        await database.write_down(text("SELECT 1"), {})
        order.append(name)

    async with database.transaction():
        waiting = [
            asyncio.create_task(work)
            for work in (write("first"), write("second"), write_down("urgent"), write_down("urgent too"))
        ]
        await asyncio.sleep(0)
        order.append("holder")
    await asyncio.gather(*waiting)
    assert order == ["holder", "urgent", "urgent too", "first", "second"]


async def test_writers_never_meet(database: Database) -> None:
    """Many writers at once add up to the same as one after the other."""
    run = RunId("one")

    async def count_up() -> None:
        async with database.transaction() as tx:
            cost = (await tx.execute(text("SELECT cost FROM runs"))).scalar_one()
            await tx.execute(text("UPDATE runs SET cost = :cost"), {"cost": cost + 1})

    async with database.transaction() as tx:
        await runs.add(tx, a_run(run))
    await asyncio.gather(*(count_up() for _ in range(20)))
    async with database.reading() as tx:
        assert (await runs.get(tx, run)).cost == 20


async def waiter(turns: Turns, *, urgent: bool = False) -> "asyncio.Task[None]":
    """Queue for a turn, and be in the queue."""
    task = asyncio.create_task(turns.take(urgent=urgent))
    await asyncio.sleep(0)
    return task


async def test_a_waiter_that_is_cancelled_leaves_the_queue() -> None:
    """The turn goes to the one behind it."""
    turns = Turns()
    await turns.take(urgent=False)
    gone, behind = await waiter(turns), await waiter(turns)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    turns.give()
    async with asyncio.timeout(1):
        await behind


async def test_a_waiter_cancelled_with_its_turn_in_hand_gives_it_on() -> None:
    """The turn and the cancellation come in the same moment: the one behind must not wait for ever."""
    turns = Turns()
    await turns.take(urgent=False)
    gone, behind = await waiter(turns, urgent=True), await waiter(turns)
    turns.give()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    async with asyncio.timeout(1):
        await behind


async def test_a_turn_nobody_waits_for_is_free() -> None:
    """Also when everybody who waited has been cancelled."""
    turns = Turns()
    await turns.take(urgent=False)
    gone = await waiter(turns)
    gone.cancel()
    turns.give()
    async with asyncio.timeout(1):
        await turns.take(urgent=False)
    with pytest.raises(asyncio.CancelledError):
        await gone


# --- outages ----------------------------------------------------------------------------------------------------


async def test_a_database_locked_by_another_program_is_an_outage(database: Database, url: str) -> None:
    """Well within Slack's 3 s it is known that nothing was saved; once the lock is gone all works again."""
    asked = time.monotonic()
    async with locked(url):
        with pytest.raises(StoreUnavailable) as outage:
            async with database.transaction() as tx:
                await runs.add(tx, a_run("one"))
        took_s = time.monotonic() - asked
    async with database.transaction() as tx:
        await runs.add(tx, a_run("two"))
    assert (outage.value.perhaps_saved, took_s < 2.5, await stored(database)) == (False, True, ["two"])


async def test_a_failing_statement_saves_nothing(database: Database) -> None:
    """An error before the commit is a clear answer."""

    async def work() -> None:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one"))
            await tx.execute(text("INSERT INTO nowhere VALUES (1)"))

    with pytest.raises(StoreUnavailable) as outage:
        await work()
    assert (outage.value.perhaps_saved, str(outage.value), await stored(database)) == (False, "nothing was saved", [])


async def test_reading_what_is_not_there_is_an_outage(database: Database) -> None:
    """A reading that fails is told in the same way, and the next one works."""
    with pytest.raises(StoreUnavailable) as outage:
        async with database.reading() as tx:
            await tx.execute(text("SELECT * FROM nowhere"))
    assert (outage.value.perhaps_saved, await stored(database)) == (False, [])


async def test_readers_that_are_all_busy_are_an_outage(database: Database) -> None:
    """It passes, as every outage does; it is no fault that ends the process."""
    async with AsyncExitStack() as busy:
        for _ in range(4):
            await busy.enter_async_context(database.reading())
        with pytest.raises(StoreUnavailable):
            async with database.reading():
                pass
    async with database.reading():
        pass
