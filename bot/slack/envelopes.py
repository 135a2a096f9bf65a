"""Answering Socket Mode envelopes: concurrently, but in order where order matters."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

import structlog
from slack_sdk.socket_mode.request import SocketModeRequest

log = structlog.get_logger("slack")

AConnection = TypeVar("AConnection")


class Envelopes(Generic[AConnection]):
    """Answers envelopes concurrently, but events of one channel in the order they came.

    That order holds across connections: during a handover both bring envelopes.
    """

    def __init__(self, answer: Callable[[AConnection, SocketModeRequest], Awaitable[None]]) -> None:
        """answer: handles an envelope and acknowledges it on the connection that brought it."""
        self._answer = answer
        self._under_way: dict[asyncio.Task[None], AConnection] = {}
        self._latest: dict[str, asyncio.Task[None]] = {}

    def take(self, connection: AConnection, request: SocketModeRequest) -> None:
        """Start answering an envelope."""
        event = request.payload.get("event")
        channel = str(event.get("channel", "")) if isinstance(event, dict) else ""
        earlier = self._latest.get(channel) if channel else None
        answering = asyncio.create_task(self._answer_after(earlier, connection, request))
        self._under_way[answering] = connection
        if channel:
            self._latest[channel] = answering
        answering.add_done_callback(partial(self._answered, channel))

    async def _answer_after(
        self, earlier: asyncio.Task[None] | None, connection: AConnection, request: SocketModeRequest
    ) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        await self._answer(connection, request)

    def _answered(self, channel: str, answering: asyncio.Task[None]) -> None:
        del self._under_way[answering]
        if self._latest.get(channel) is answering:
            del self._latest[channel]
        if not answering.cancelled() and (err := answering.exception()) is not None:
            log.warning("slack.not_answered", error=type(err).__name__)

    async def settled(self, connection: AConnection, within_s: float) -> None:
        """Wait until all envelopes of a connection are answered, at most `within_s` seconds."""
        if under_way := [answering for answering, by in self._under_way.items() if by is connection]:
            await asyncio.wait(under_way, timeout=within_s)

    async def end(self, within_s: float) -> None:
        """Wait for the answers under way; cancel those that take longer than `within_s` seconds."""
        if not self._under_way:
            return
        _, late = await asyncio.wait([*self._under_way], timeout=within_s)
        for answering in late:
            answering.cancel()
        await asyncio.gather(*late, return_exceptions=True)
