"""The port for probes and Prometheus, with parts of the bot missing or out of order."""

import asyncio
import json
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest

from bot.clock import WallClock
from bot.core.errors import StoreUnavailable
from bot.ops.health import Components, answering
from bot.ops.metrics import Metrics
from bot.store import checkpoints, inbox
from bot.store.checkpoints import Mark
from bot.store.database import open_database
from bot.store.maintenance import is_in_use, is_sound, opened, versions
from tests.postgres import database_of, server
from tests.store.bench import a_message, file_in


@asynccontextmanager
async def port_of(components: Components) -> AsyncIterator[str]:
    """Answer about these components; return the address."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    async with answering(port, components, Metrics(), WallClock()):
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


async def test_a_database_that_went_away_is_told_and_holds_up_no_answer() -> None:
    """The numbers of the process itself are still there; those of the tables come back with the database."""
    url = await server().empty()
    name = database_of(url)
    database = await open_database(url)
    try:
        async with port_of(Components(asyncio.Event(), database=database)) as port:
            before = json.loads((await get(f"{port}/readyz"))[1])["database"]
            await server().execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            await server().throw_out(url)
            during = json.loads((await get(f"{port}/readyz"))[1])["database"]
            numbers = await get(f"{port}/metrics")
            await server().execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
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
