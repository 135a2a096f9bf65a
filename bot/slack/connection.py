"""One Socket Mode connection, from its greeting to its end."""

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
"""Slack's word, some seconds ahead, that it will close a connection: until then it goes on using it."""
LOST = "connection_lost"
"""Our word for a connection that ended, or fell silent, without one of Slack's."""
CLOSE_S = 2.0
"""So long the other side may take to answer our closing word; a dead one never does."""

Take = Callable[["Connection", SocketModeRequest], None]


class Connection(AsyncBaseSocketModeClient):
    """One connection; the next one is another object, so that both can be open while one takes over.

    The SDK's own client is one for all connections in turn: it closes the old before it opens the new, notices a cut at
    its next ping, and tries an address that has expired for ever. Hence this transport of ours beneath its envelopes
    and acknowledgements.
    """

    def __init__(self, ws: "aiohttp.ClientWebSocketResponse[bool]", take: Take, now: Callable[[], datetime]) -> None:
        """take: begins to answer an envelope. `open_connection` makes one."""
        self.logger = logging.getLogger("slack.sdk")
        self.greeted = False
        self.begun = asyncio.Event()
        """Slack has said its first word: a greeting, or that there is no place for this connection."""
        self.leaving = asyncio.Event()
        """Another connection is wanted: Slack has said, or warned, that this one ends, or it has ended."""
        self.gone = asyncio.Event()
        """Slack uses it no more."""
        self.why = ""
        """Slack's reason for that, or `LOST`."""
        self.heard_at = now()
        """When the other side last gave a sign of life."""
        self._ws = ws
        self._take = take
        self._now = now
        self._reading = asyncio.create_task(self._read())
        self._closing: asyncio.Task[bool] | None = None

    async def _read(self) -> None:
        try:
            async for frame in self._ws:
                if frame.type is aiohttp.WSMsgType.ERROR:  # such as no answer to a ping
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
        """Send an acknowledgement. Raises `ConnectionError` on a connection that has ended."""
        await self._ws.send_str(message)

    async def disconnect(self) -> None:
        """Close the connection, or wait until it is closed; it will be, though the caller be cancelled."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._ws.close())
        await asyncio.wait([self._closing, self._reading])


async def open_connection(
    session: aiohttp.ClientSession, url: str, take: Take, now: Callable[[], datetime], *, ping_s: float
) -> Connection:
    """Open a connection. Raises `aiohttp.ClientError` or `TimeoutError`.

    ping_s: after so long without a word the other side is pinged, and given up after half of that again.
    """
    ws = await session.ws_connect(
        url, autoping=False, heartbeat=ping_s, timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S)
    )
    return Connection(ws, take, now)
