"""Socket Mode: tickets, sockets, envelopes, and Slack's time-outs and retries for them."""

import asyncio
import contextlib
import heapq
import itertools
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import WSMsgType, web

from bot.simulator.slack.records import JSON, Delivery

ACK_TIMEOUT = timedelta(seconds=3)
RETRY_AFTER = (timedelta(0), timedelta(minutes=1), timedelta(minutes=5))  # counted from the first failure
SOCKETS_MAX = 10
TICKET_LIFE = timedelta(seconds=30)  # documented only as "valid for a short time"
CONNECTION_LIFE_S = 18_060  # as in Slack's hello: about five hours
DISCONNECTS = ("warning", "refresh_requested", "link_disabled", "too_many_websockets")
GRACE = timedelta(seconds=10)  # from announcing that a socket will be closed to closing it


@dataclass(eq=False)
class Socket:
    """One open connection. Draining: still open, but told to disconnect, so nothing new is sent on it."""

    ws: web.WebSocketResponse
    request: web.Request
    outgoing: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    half_open: bool = False
    close_at: datetime | None = None

    @property
    def draining(self) -> bool:
        return self.close_at is not None

    def say(self, message: JSON) -> None:
        if not self.half_open:
            self.outgoing.put_nowait(json.dumps(message))

    async def write(self) -> None:
        """Send queued messages until cancelled or until the connection is gone."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self.ws.send_str(await self.outgoing.get())

    def abort(self) -> None:
        """End the connection as a broken network does, without a close frame."""
        if self.request.transport is not None:
            self.request.transport.abort()


class Deliveries:
    """Sends envelopes to open sockets in turn, and follows each until its ack or the last retry."""

    def __init__(self, now: Callable[[], datetime], app_id: str, violations: list[str]) -> None:
        self._now = now
        self._app_id = app_id
        self._violations = violations
        self._tickets: dict[str, datetime] = {}
        self._sockets: list[Socket] = []
        self._turn = 0
        self._by_envelope: dict[str, Delivery] = {}
        self._waiting: dict[str, tuple[Delivery, Socket]] = {}  # by envelope id: sent but not acked
        self._retries: list[tuple[datetime, int, Delivery, str]] = []
        self._order = itertools.count()
        self._cut: str | None = None  # whether to cut "before_ack" or "after_ack" of the next envelope
        self.log: list[Delivery] = []
        self.forgetful = False  # reports disagree on whether Slack retries what met no connection

    @property
    def idle(self) -> bool:
        return not self._waiting

    @property
    def open_sockets(self) -> list[Socket]:
        return [socket for socket in self._sockets if not socket.draining]

    def new_ticket(self) -> str:
        ticket = str(uuid.uuid4())
        self._tickets[ticket] = self._now() + TICKET_LIFE
        return ticket

    # -- envelopes

    def send(
        self, kind: str, payload: JSON, *, event_id: str | None, settled: Callable[[Delivery], None] | None = None
    ) -> Delivery:
        """Deliver a new payload. settled: called once, when it is acked or given up."""
        delivery = Delivery(kind, payload, event_id, settled=settled)
        self.log.append(delivery)
        self._attempt(delivery, None)
        return delivery

    def resend(self, wanted: str) -> None:
        """Send again the envelope with this id, or all events about the message with this ts.

        Raises ValueError if there is none, or if it is a command or click, which Slack never repeats.
        """
        by_id = self._by_envelope.get(wanted)
        found = [by_id] if by_id else [one for one in self.log if one.payload.get("event", {}).get("ts") == wanted]
        if not found or any(one.event_id is None for one in found):
            raise ValueError(f"no event to redeliver: {wanted}")
        for delivery in found:
            delivery.retries = max(delivery.retries, 1)
            self._attempt(delivery, "timeout")

    def tick(self) -> None:
        """Fail what was not acked in time, send retries that are due, expire tickets, close draining sockets."""
        now = self._now()
        for delivery, _ in [*self._waiting.values()]:
            if self._overdue(delivery):
                self._fail(delivery, "timeout")
        while self._retries and self._retries[0][0] <= now:
            _, _, delivery, reason = heapq.heappop(self._retries)
            self._attempt(delivery, reason)
        self._tickets = {ticket: until for ticket, until in self._tickets.items() if until > now}
        for socket in [*self._sockets]:
            if socket.close_at is not None and socket.close_at <= now:
                self._drop(socket)

    def _overdue(self, delivery: Delivery) -> bool:
        return delivery.sent_at is not None and delivery.sent_at + ACK_TIMEOUT <= self._now()

    def _attempt(self, delivery: Delivery, retry_reason: str | None) -> None:
        self._waiting.pop(delivery.envelope_id, None)
        delivery.envelope_id = str(uuid.uuid4())
        delivery.sent_at = self._now()
        delivery.attempts += 1
        self._by_envelope[delivery.envelope_id] = delivery
        sockets = self.open_sockets
        if not sockets:
            self._fail(delivery, "connection_failed")
            return
        self._turn += 1
        socket = sockets[self._turn % len(sockets)]
        self._waiting[delivery.envelope_id] = (delivery, socket)
        envelope: JSON = {
            "envelope_id": delivery.envelope_id,
            "payload": delivery.payload,
            "type": delivery.type,
            "accepts_response_payload": delivery.event_id is None,
        }
        if delivery.event_id is not None:
            envelope |= {"retry_attempt": delivery.retries, "retry_reason": retry_reason or ""}
        socket.say(envelope)

    def _fail(self, delivery: Delivery, reason: str) -> None:
        self._waiting.pop(delivery.envelope_id, None)
        unheard = self.forgetful and reason == "connection_failed"
        if delivery.event_id is None or unheard or delivery.retries >= len(RETRY_AFTER):
            delivery.failed = True
            self._settle(delivery)
            return
        now = self._now()
        delivery.first_failed_at = delivery.first_failed_at or now
        due = delivery.first_failed_at + RETRY_AFTER[delivery.retries]
        delivery.retries += 1
        if due <= now:
            self._attempt(delivery, reason)
        else:
            heapq.heappush(self._retries, (due, next(self._order), delivery, reason))

    def _settle(self, delivery: Delivery) -> None:
        settled, delivery.settled = delivery.settled, None
        if settled is not None:
            settled(delivery)

    # -- sockets

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve one socket until it ends. A ticket opens one socket, once, before it expires."""
        until = self._tickets.pop(request.query.get("ticket", ""), None)
        if until is None or until <= self._now():
            return web.Response(status=408)  # what people report for a stale Socket Mode address
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        if len(self._sockets) >= SOCKETS_MAX:
            await ws.send_json(self._disconnect("too_many_websockets"))
            await ws.close()
            return ws
        socket = Socket(ws, request)
        self._sockets.append(socket)
        socket.say(self._hello())
        writer = asyncio.create_task(socket.write())
        try:
            await self._read(socket)
        finally:
            writer.cancel()
            self._gone(socket)
        return ws

    def cut(self, *, before_ack: bool, after_ack: bool) -> None:
        if before_ack and after_ack:
            raise ValueError("before or after, not both")
        if before_ack or after_ack:
            self._cut = "before_ack" if before_ack else "after_ack"
            return
        for socket in [*self._sockets]:
            self._drop(socket)

    def disconnect(self, reason: str, *, oldest: bool) -> None:
        """Send `disconnect` to all sockets, or the oldest. A `warning` changes nothing; other reasons close it soon."""
        if reason not in DISCONNECTS:
            raise ValueError(f"Slack has no such reason: {reason}")
        for socket in self.open_sockets[: 1 if oldest else None]:
            socket.say(self._disconnect(reason))
            if reason != "warning":
                socket.close_at = self._now() + GRACE

    def freeze(self) -> None:
        for socket in self._sockets:
            socket.half_open = True

    def close(self) -> None:
        for socket in [*self._sockets]:
            self._drop(socket)
        self._tickets.clear()

    async def _read(self, socket: Socket) -> None:
        async for message in socket.ws:
            if socket.half_open:
                continue
            if message.type is WSMsgType.PING:
                await socket.ws.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                self._acked(socket, message.data)

    def _acked(self, socket: Socket, text: str) -> None:
        ack, envelope_id = _read_ack(text)
        delivery = self._by_envelope.get(envelope_id)
        if delivery is None:
            self._violations.append(f"not the ack of any envelope: {text}")
            return
        if envelope_id not in self._waiting or self._overdue(delivery):
            return  # a late or second ack has no effect
        cut, self._cut = self._cut, None
        if cut == "before_ack":
            self._drop(socket)
            return
        del self._waiting[envelope_id]
        delivery.acked_at = self._now()
        delivery.ack_payload = ack.get("payload")
        if delivery.event_id is not None and delivery.ack_payload is not None:
            self._violations.append(f"ack of an event with a payload: {delivery.ack_payload}")
        self._settle(delivery)
        if cut == "after_ack":
            self._drop(socket)

    def _drop(self, socket: Socket) -> None:
        self._gone(socket)
        socket.abort()

    def _gone(self, socket: Socket) -> None:
        """Remove a socket; deliveries it had not acked fail."""
        if socket in self._sockets:
            self._sockets.remove(socket)
        for delivery in [one for one, on in self._waiting.values() if on is socket]:
            self._fail(delivery, "connection_failed")

    def _hello(self) -> JSON:
        return {
            "type": "hello",
            "num_connections": len(self._sockets),
            "debug_info": {
                "host": "applink-local",
                "build_number": 1,
                "approximate_connection_time": CONNECTION_LIFE_S,
            },
            "connection_info": {"app_id": self._app_id},
        }

    def _disconnect(self, reason: str) -> JSON:
        return {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-local"}}


def _read_ack(text: str) -> tuple[JSON, str]:
    """Return the ack and its envelope id; "" if it has none."""
    try:
        ack: Any = json.loads(text)
    except ValueError:
        return {}, ""
    return (ack, str(ack.get("envelope_id", ""))) if isinstance(ack, dict) else ({}, "")
