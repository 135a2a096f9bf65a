"""One statement, committed in one step before everything else that waits: how requests are written down."""

import asyncio

import pytest

from bot.core.errors import StoreUnavailable
from bot.store import inbox
from bot.store.database import Database
from tests.store.bench import NOW, a_message, locked

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""A server writes several at once, so a request waits there for nothing."""
ONE, TWO = (a_message(f"{number}.000001", mentions_us=True) for number in (1, 2))


async def kept(database: Database) -> list[str]:
    async with database.reading() as tx:
        return [row.incoming.key for row in await inbox.due(tx, NOW, [], 10)]


@SQLITE
async def test_it_waits_for_the_transaction_under_way(database: Database) -> None:
    """Two writers never meet in the database, where one would wait far longer than its turn takes."""
    async with database.transaction():
        waiting = asyncio.create_task(inbox.add(database, ONE, NOW))
        await asyncio.sleep(0.05)
        early = (waiting.done(), await kept(database))
    added = await waiting
    assert (early, added, await kept(database)) == ((False, []), True, [ONE.key])


@SQLITE
async def test_nothing_else_begins_while_it_is_done(database: Database, url: str) -> None:
    """Slack waits for this one: the work behind the loops can wait, readings too."""
    order: list[str] = []

    async def write_down() -> None:
        await inbox.add(database, ONE, NOW)
        order.append("written down")

    async def read() -> None:
        async with database.reading():
            order.append("read")

    async with locked(url):
        written = asyncio.create_task(write_down())
        await asyncio.sleep(0)
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.05)
        early = [*order]
    await asyncio.gather(written, reading)
    assert (early, order) == ([], ["written down", "read"])


async def test_a_cancelled_caller_does_not_take_it_back(database: Database) -> None:
    """What is on its way to the disk gets there, and the next writer has its turn too, whichever is first."""
    writing = asyncio.create_task(inbox.add(database, ONE, NOW))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await inbox.add(database, TWO, NOW)
    async with asyncio.timeout(20):
        while len(await kept(database)) < 2:  # noqa: ASYNC110 - nobody is left who could tell that it is there
            await asyncio.sleep(0.001)
    assert sorted(await kept(database)) == [ONE.key, TWO.key]


async def test_a_locked_database_is_a_clear_no(database: Database, url: str) -> None:
    """Another program holds the lock: after the database's own time-out nothing was saved, and later it works."""
    async with locked(url):
        with pytest.raises(StoreUnavailable) as outage:
            await inbox.add(database, ONE, NOW)
    added = await inbox.add(database, TWO, NOW)
    assert (outage.value.perhaps_saved, added, await kept(database)) == (False, True, [TWO.key])


@SQLITE
async def test_a_writer_that_gets_no_turn_in_time_is_told(database: Database) -> None:
    """Slack waits three seconds for all of it: after one of them nothing was begun, and nothing is saved."""
    async with database.transaction():
        with pytest.raises(StoreUnavailable) as refused:
            await inbox.add(database, ONE, NOW)
    assert refused.value.perhaps_saved is False
    assert await inbox.add(database, ONE, NOW) is True


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_server_takes_it_beside_a_transaction(database: Database) -> None:
    """A long one refuses no request, and a reading goes on beside both."""
    async with database.transaction():
        added = await inbox.add(database, ONE, NOW)
        assert (added, await kept(database)) == (True, [ONE.key])
