"""One Socket Mode connection, from Slack's hello to its close."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import aiohttp
import structlog
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest

log = structlog.get_logger("slack")

WARNING = "warning"
"""Slack's reason when it announces, some seconds ahead, that it will close a connection; it uses it until then."""
LOST = "connection_lost"
"""Our reason for a connection that ended or fell silent without a reason from Slack."""
CLOSE_S = 2.0
"""How long the other side may take to answer our close frame; a dead one never answers."""

Take = Callable[["Connection", SocketModeRequest], None]


class Connection(AsyncBaseSocketModeClient):
    """One connection. Its successor is another object, so that both can be open during a handover.

    The SDK's own client is one object for all successive connections: it closes the old one before it opens the new
    one, notices a cut only at its next ping, and retries an expired address for ever. So we use our own transport
    beneath the SDK's envelopes and acknowledgements.
    """

    def __init__(self, ws: "aiohttp.ClientWebSocketResponse[bool]", take: Take, now: Callable[[], datetime]) -> None:
        """take: starts answering an envelope. Use `open_connection` to create one."""
        self.logger = logging.getLogger("slack.sdk")
        self.greeted = False
        self.connections = 1
        """How many the app had, by Slack's count, when this one was opened."""
        self.begun = asyncio.Event()
        """Slack has sent its first message: a hello, or a refusal because there are too many connections."""
        self.leaving = asyncio.Event()
        """A successor is needed: Slack has announced the end of this connection, or it has ended."""
        self.gone = asyncio.Event()
        """Slack no longer uses this connection."""
        self.why = ""
        """Why it is gone: Slack's reason, or `LOST`."""
        self.heard_at = now()
        """When the other side last sent anything, pings included."""
        self._ws = ws
        self._take = take
        self._now = now
        self._reading = asyncio.create_task(self._read())
        self._closing: asyncio.Task[bool] | None = None

    async def _read(self) -> None:
        try:
            async for frame in self._ws:
                if frame.type is aiohttp.WSMsgType.ERROR:  # such as an unanswered ping
                    break
                self.heard_at = self._now()
                if frame.type is aiohttp.WSMsgType.PING:
                    with suppress(ConnectionError):
                        await self._ws.pong(frame.data)
                elif frame.type is aiohttp.WSMsgType.TEXT:
                    self._hear(str(frame.data))
        finally:
            self._end(LOST)

    def _hear(self, text: str) -> None:
        try:
            message = json.loads(text)
            kind = message.get("type")
            if kind == "hello":
                self.greeted = True
                count = message.get("num_connections")
                self.connections = count if isinstance(count, int) else 1
                self.begun.set()
            elif kind == "disconnect":
                self._told_to_go(str(message.get("reason")))
            elif (request := SocketModeRequest.from_dict(message)) is not None:
                self._take(self, request)
        except (AttributeError, ValueError):
            log.warning("slack.unreadable", characters=len(text))

    def _told_to_go(self, reason: str) -> None:
        if reason == WARNING:
            self.leaving.set()
        else:
            self._end(reason)

    def _end(self, why: str) -> None:
        self.why = self.why or why
        for reached in (self.begun, self.leaving, self.gone):
            reached.set()

    async def send_message(self, message: str) -> None:
        """Send an acknowledgement. Raises `ConnectionError` if the connection has ended."""
        await self._ws.send_str(message)

    async def disconnect(self) -> None:
        """Close the connection and wait until it is closed. It closes even if the caller is cancelled."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._ws.close())
        await asyncio.wait([self._closing, self._reading])


async def open_connection(
    session: aiohttp.ClientSession, url: str, take: Take, now: Callable[[], datetime], *, ping_s: float
) -> Connection:
    """Open a connection. Raises `aiohttp.ClientError` or `TimeoutError`.

    ping_s: after this long without a frame we ping the other side, and give up after another half of that.
    """
    ws = await session.ws_connect(
        url, autoping=False, heartbeat=ping_s, timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S)
    )
    return Connection(ws, take, now)
