"""The port for probes and Prometheus, with parts of the bot missing or out of order."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import event

from bot.clock import Clock, WallClock
from bot.core.errors import StoreUnavailable
from bot.ops.health import CONNECTIONS, FRESH_S, OPEN_S, Components, answering
from bot.ops.metrics import Metrics
from bot.store import checkpoints, inbox
from bot.store.checkpoints import Mark
from bot.store.database import open_database
from bot.store.maintenance import is_in_use, is_sound, opened, versions
from tests.postgres import database_of, server
from tests.store.bench import a_message, file_in


class Later(WallClock):
    """The clock, put forward by hand."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@asynccontextmanager
async def port_of(components: Components, clock: Clock | None = None, *, open_s: float = OPEN_S) -> AsyncIterator[str]:
    """Answer about these components; return the address."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    async with answering("127.0.0.1", port, components, Metrics(), clock or WallClock(), open_s=open_s):
        yield f"http://127.0.0.1:{port}"


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_before_anything_is_there_the_process_is_alive_and_not_ready() -> None:
    """A start that waits for its database is no reason to kill it."""
    async with port_of(Components(asyncio.Event())) as url:
        alive, (status, body), (shown, text) = [await get(url + path) for path in ("/healthz", "/readyz", "/metrics")]
    assert alive == (200, '{"alive": true}')
    assert (status, json.loads(body)) == (
        503,
        {
            "ready": False,
            "process": "running",
            "slack": "connecting",
            "database": "silent",
            "tokens": "accepted",
            "without": {},
        },
    )
    assert (shown, "bot_database_up 0.0\n" in text, "bot_runs" in text) == (200, True, False)


async def test_many_who_ask_get_one_look_at_the_database(tmp_path: Path) -> None:
    """It takes one of the connections that requests are checked on."""
    database = await open_database(f"sqlite:///{tmp_path / 'bot.db'}")
    looks = 0

    @event.listens_for(database._backend.readers.sync_engine, "checkout")
    def counted(*_: object) -> None:
        nonlocal looks
        looks += 1

    clock = Later()
    try:
        async with port_of(Components(asyncio.Event(), database=database), clock) as port:
            await asyncio.gather(*(get(f"{port}/{path}") for path in ("readyz", "metrics") * 10))
            at_once = looks
            clock.ahead += timedelta(seconds=FRESH_S)
            await get(f"{port}/readyz")
    finally:
        await database.close()
    assert (at_once, looks) == (1, 2)


async def test_only_so_many_are_connected_and_none_for_long() -> None:
    """Connections that send half a request are closed, those above the bound at once; then others get an answer."""
    async with port_of(Components(asyncio.Event()), open_s=0.5) as url:
        where = url.removeprefix("http://").split(":")
        halves = []
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection(where[0], int(where[1]))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: ")
            halves.append((reader, writer))
        with pytest.raises(aiohttp.ClientError):
            await get(f"{url}/healthz")
        assert [await reader.read() for reader, _ in halves] == [b""] * CONNECTIONS
        assert await get(f"{url}/healthz") == (200, '{"alive": true}')
        for _, writer in halves:
            writer.close()


async def test_a_database_that_went_away_is_told_and_holds_up_no_answer() -> None:
    """The numbers of the process itself are still there; those of the tables come back with the database."""
    url = await server().empty()
    name = database_of(url)
    database = await open_database(url)
    try:
        clock = Later()
        async with port_of(Components(asyncio.Event(), database=database), clock) as port:
            before = json.loads((await get(f"{port}/readyz"))[1])["database"]
            await server().execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await server().throw_out(url)
            clock.ahead += timedelta(seconds=FRESH_S)
            during = json.loads((await get(f"{port}/readyz"))[1])["database"]
            numbers = await get(f"{port}/metrics")
            await server().execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            clock.ahead += timedelta(seconds=FRESH_S)
            after = json.loads((await get(f"{port}/readyz"))[1])["database"]
    finally:
        await database.close()
    assert (before, during, after) == ("answers", "silent", "answers")
    assert numbers[0] == 200
    assert "bot_database_up 0.0\n" in numbers[1]


async def test_a_database_that_only_takes_nothing_is_told(tmp_path: Path) -> None:
    """It can be read, so its numbers are there, but no request can be taken until something is written again."""
    database = await open_database(file_in(tmp_path))
    try:
        async with port_of(Components(asyncio.Event(), database=database)) as port:
            with closing(sqlite3.connect(tmp_path / "openhands.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreUnavailable):
                    await inbox.add(database, a_message("1.0"), WallClock().now())
                during = json.loads((await get(f"{port}/readyz"))[1])["database"]
            async with database.transaction() as tx:
                await checkpoints.put(tx, Mark.HEARD, WallClock().now())
            after = json.loads((await get(f"{port}/readyz"))[1])["database"]
    finally:
        await database.close()
    assert (during, after) == ("takes nothing", "answers")


async def test_a_bot_is_seen_on_a_server_too() -> None:
    """The lock it holds there shows that somebody works on it."""
    url = await server().fresh()
    database = await open_database(url)
    try:
        async with opened(url) as beside, beside.reading() as tx:
            found, known = await versions(tx)
            seen = (found == known[-1], await is_sound(tx), await is_in_use(tx, None))
    finally:
        await database.close()
    async with opened(url) as beside, beside.reading() as tx:
        afterwards = await is_in_use(tx, None)
    assert (seen, afterwards) == ((True, True, True), False)
