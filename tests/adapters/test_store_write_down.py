"""One statement, committed in one step before everything else that waits: how requests are written down."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from bot.errors import StoreUnavailable
from bot.store import inbox
from bot.store.database import Database
from tests.adapters.store_bench import NOW, a_message, opened

ONE, TWO = (a_message(f"{number}.000001", mentions_us=True) for number in (1, 2))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path) as made:
        yield made


async def kept(database: Database) -> list[str]:
    async with database.reading() as tx:
        return [row.incoming.key for row in await inbox.due(tx, NOW, [], 10)]


async def test_it_is_on_the_disk_when_it_returns(database: Database, tmp_path: Path) -> None:
    """Another connection sees the row at once, and it was synced: a loss of power would not take it."""
    added = await inbox.add(database, ONE, NOW)

    other = sqlite3.connect(tmp_path / "openhands.db")
    keys = [key for (key,) in other.execute("SELECT key FROM inbox")]
    other.close()
    with database._quick.connect() as connection:
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    assert (added, keys, synchronous) == (True, [ONE.key], 2)


async def test_it_waits_for_the_transaction_under_way(database: Database) -> None:
    """Two writers never meet in the database, where one would wait far longer than its turn takes."""
    async with database.transaction():
        waiting = asyncio.create_task(inbox.add(database, ONE, NOW))
        await asyncio.sleep(0.05)
        early = (waiting.done(), await kept(database))
    added = await waiting
    assert (early, added, await kept(database)) == ((False, []), True, [ONE.key])


async def test_nothing_else_begins_while_it_is_done(database: Database, tmp_path: Path) -> None:
    """Slack waits for this one: the work behind the loops can wait, readings too."""
    order: list[str] = []

    async def write_down() -> None:
        await inbox.add(database, ONE, NOW)
        order.append("written down")

    async def read() -> None:
        async with database.reading():
            order.append("read")

    other = sqlite3.connect(tmp_path / "openhands.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    written = asyncio.create_task(write_down())
    await asyncio.sleep(0)
    reading = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    early = [*order]
    other.execute("ROLLBACK")
    other.close()
    await asyncio.gather(written, reading)
    assert (early, order) == ([], ["written down", "read"])


async def test_a_cancelled_caller_does_not_take_it_back(database: Database) -> None:
    """What is on its way to the disk gets there, and the next writer has its turn after that."""
    writing = asyncio.create_task(inbox.add(database, ONE, NOW))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await inbox.add(database, TWO, NOW)
    assert await kept(database) == [ONE.key, TWO.key]


async def test_a_locked_database_is_a_clear_no(database: Database, tmp_path: Path) -> None:
    """Another program holds the lock: after the database's own time-out nothing was saved, and later it works."""
    other = sqlite3.connect(tmp_path / "openhands.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable) as outage:
        await inbox.add(database, ONE, NOW)
    other.execute("ROLLBACK")
    other.close()
    added = await inbox.add(database, TWO, NOW)
    assert (outage.value.perhaps_saved, added, await kept(database)) == (False, True, [TWO.key])


@pytest.mark.parametrize(
    ("said", "perhaps"),
    [("disk I/O error", True), ("database is locked", False), ("database or disk is full", False)],
)
async def test_a_commit_that_fails_may_have_saved(database: Database, said: str, *, perhaps: bool) -> None:
    """Only for want of a lock or of room is it sure that nothing was; the next request works either way."""

    def breaks(_connection: object) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError(said))

    event.listen(database._quick, "commit", breaks)
    with pytest.raises(StoreUnavailable) as outage:
        await inbox.add(database, ONE, NOW)
    event.remove(database._quick, "commit", breaks)
    added = await inbox.add(database, TWO, NOW)
    assert (outage.value.perhaps_saved, added, await kept(database)) == (perhaps, True, [TWO.key])


async def test_a_writer_that_gets_no_turn_in_time_is_told(database: Database) -> None:
    """Slack waits three seconds for all of it: after one of them nothing was begun, and nothing is saved."""
    async with database.transaction():
        with pytest.raises(StoreUnavailable) as refused:
            await inbox.add(database, ONE, NOW)
    assert refused.value.perhaps_saved is False
    assert await inbox.add(database, ONE, NOW) is True
