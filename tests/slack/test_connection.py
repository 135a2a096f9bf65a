"""One Socket Mode connection, against a server that says anything."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from slack_sdk.socket_mode.request import SocketModeRequest
from structlog.testing import capture_logs

from bot.slack.connection import Connection, open_connection

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LATE_S = 5.0


@dataclass
class Bare:
    """The other side: it says what it is told to say, then pings once, and waits for the end."""

    says: list[str] = field(default_factory=list)
    took: list[str] = field(default_factory=list)
    connection: Connection | None = None
    pongs: int = 0

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        for text in self.says:
            await ws.send_str(text)
        await ws.ping(b"there?")
        async for frame in ws:
            self.pongs += frame.type is aiohttp.WSMsgType.PONG
        return ws

    def take(self, _line: Connection, request: SocketModeRequest) -> None:
        self.took.append(request.envelope_id)


@pytest.fixture
async def bare() -> AsyncIterator[tuple[Bare, str, aiohttp.ClientSession]]:
    made = Bare()
    app = web.Application()
    app.router.add_get("/", made.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as session:
        yield made, f"ws://127.0.0.1:{runner.addresses[0][1]}/", session
    await runner.cleanup()


async def test_what_cannot_be_read_is_passed_over(bare: tuple[Bare, str, aiohttp.ClientSession]) -> None:
    """Nonsense ends no connection: the greeting, an envelope and a ping after it count."""
    made, url, session = bare
    made.says = [
        "nonsense",
        "[1]",
        '{"type": "events_api", "envelope_id": "bad", "payload": 1}',
        '{"type": "unheard_of"}',
        '{"type": "hello"}',
        '{"type": "events_api", "envelope_id": "good", "payload": {}}',
    ]
    with capture_logs() as logs:
        connection = await open_connection(session, url, made.take, lambda: NOW, ping_s=LATE_S)
        async with asyncio.timeout(LATE_S):
            await connection.begun.wait()
            while not made.pongs:  # noqa: ASYNC110 - on the other side of a wire
                await asyncio.sleep(0.001)
    assert (connection.greeted, connection.gone.is_set(), made.took, connection.heard_at) == (
        True,
        False,
        ["good"],
        NOW,
    )
    assert [one["event"] for one in logs] == ["slack.unreadable"] * 3
    await connection.disconnect()
    assert (connection.gone.is_set(), connection.why) == (True, "connection_lost")


async def test_a_connection_without_a_greeting_that_ends_has_begun_and_gone(
    bare: tuple[Bare, str, aiohttp.ClientSession],
) -> None:
    """Whoever waits for its first word waits no longer."""
    made, url, session = bare
    made.says = ['{"type": "disconnect", "reason": "too_many_websockets"}']
    connection = await open_connection(session, url, made.take, lambda: NOW, ping_s=LATE_S)
    async with asyncio.timeout(LATE_S):
        await connection.begun.wait()
    assert (connection.greeted, connection.gone.is_set(), connection.why) == (False, True, "too_many_websockets")
    await connection.disconnect()
    with pytest.raises(ConnectionError):
        await connection.send_message("{}")
