"""A plain client of the local Slack, without Slack's SDK: what goes over the wire is what the test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from bot.simulator.slack import LocalSlack

JSON = dict[str, Any]


class Clock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


@dataclass
class Socket:
    ws: aiohttp.ClientWebSocketResponse
    hello: JSON

    async def next(self) -> JSON:
        async with asyncio.timeout(2):
            received: JSON = await self.ws.receive_json()
            return received

    async def event(self) -> JSON:
        """Return the next envelope's event and acknowledge it."""
        envelope = await self.next()
        await self.ack(envelope["envelope_id"])
        event: JSON = envelope["payload"]["event"]
        return event

    async def ack(self, envelope_id: str, payload: Any = None) -> None:
        await self.ws.send_str(json.dumps({"envelope_id": envelope_id} | ({"payload": payload} if payload else {})))

    async def ended(self) -> bool:
        """Whether the other side has ended the connection."""
        async with asyncio.timeout(2):
            message = await self.ws.receive()
        return message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


@dataclass
class Bench:
    """A local Slack with alice in #dev, the bot too."""

    slack: LocalSlack
    clock: Clock
    http: aiohttp.ClientSession
    alice: str
    dev: str
    open_sockets: list[Socket] = field(default_factory=list)

    async def call(self, method: str, *, token: str | None = None, **args: Any) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {token or self.slack.bot_token}"}
        return await self.http.post(f"{self.slack.api_url}{method}", json=args, headers=headers)

    async def api(self, method: str, *, token: str | None = None, **args: Any) -> JSON:
        async with await self.call(method, token=token, **args) as response:
            answer: JSON = await response.json()
            return answer

    async def error(self, method: str, **args: Any) -> str | None:
        """Return the error a call is refused with, None if it is not."""
        return (await self.api(method, **args)).get("error")

    async def url(self) -> str:
        answer = await self.api("apps.connections.open", token=self.slack.app_token)
        return str(answer["url"])

    async def connect(self) -> Socket:
        ws = await self.http.ws_connect(await self.url(), autoping=False)
        socket = Socket(ws, await ws.receive_json())
        self.open_sockets.append(socket)
        return socket

    async def move(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)
        await self.slack.tick()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let both sides of the wire work until something holds."""
        async with asyncio.timeout(2):
            while not reached():  # noqa: ASYNC110 - what it waits for is on the other side of a wire
                await asyncio.sleep(0.001)


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    clock = Clock()
    slack = LocalSlack(now=clock.now)
    alice = slack.add_user("alice")
    dev = slack.add_channel("dev", members=[alice])
    await slack.start()
    async with aiohttp.ClientSession() as http:
        made = Bench(slack, clock, http, alice, dev)
        try:
            yield made
        finally:
            for socket in made.open_sockets:
                await socket.ws.close()
            await slack.stop()
