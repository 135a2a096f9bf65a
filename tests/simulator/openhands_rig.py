"""A local OpenHands on a clock moved by hand, with a client that speaks to it over the real wire."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from bot.simulator.openhands import Conversation, LocalOpenHands

APP = "/api/v1/app-conversations"


def content(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


class Rig:
    """`later` moves the clock; everything else goes over HTTP."""

    def __init__(self, **options: Any) -> None:
        self.clock = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
        self.server = LocalOpenHands(now=lambda: self.clock, **options)

    async def __aenter__(self) -> Self:
        await self.server.start()
        self.client = httpx.AsyncClient(base_url=self.server.base_url, timeout=5, verify=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        await self.server.stop()

    async def later(self, seconds: float) -> None:
        self.clock += timedelta(seconds=seconds)
        await self.server.tick()

    async def post_start(self, text: str | None = "fix README", **fields: object) -> httpx.Response:
        message = {} if text is None else {"initial_message": {"content": content(text)}}
        return await self.client.post(APP, json={"conversation_id": str(uuid4())} | message | fields)

    async def start(self, text: str = "fix README", **fields: object) -> Conversation:
        """Start a V1 conversation and see it READY."""
        answer = (await self.post_start(text, **fields)).raise_for_status().json()
        await self.later(self.server.start_seconds)
        return self.server.conversations[answer["request"]["conversation_id"]]

    async def start_v0(self, text: str = "fix README", **fields: object) -> Conversation:
        answer = await self.client.post("/api/conversations", json={"initial_user_msg": text} | fields)
        await self.later(self.server.start_seconds)
        return self.server.conversations[answer.raise_for_status().json()["conversation_id"]]

    async def until_parked(self) -> None:
        """Turn the loop until a call, on its way over a real socket, waits in the server."""
        while not self.server.timers.parked:  # noqa: ASYNC110  a waiting call gives no sign to set an event by
            await asyncio.sleep(0)

    async def task(self, identifier: str) -> Any:
        answer = await self.client.get(f"{APP}/start-tasks", params={"ids": identifier})
        return answer.raise_for_status().json()[0]

    async def status(self, c: Conversation | str) -> Any:
        identifier = c if isinstance(c, str) else c.id
        answer = await self.client.get(APP, params={"ids": identifier})
        return answer.raise_for_status().json()[0]

    async def words(self, c: Conversation) -> tuple[str, str | None]:
        """Read what the status says: of the sandbox, and of the agent."""
        shown = await self.status(c)
        return shown["sandbox_status"], shown["execution_status"]

    async def send(self, c: Conversation | str, text: str, **fields: object) -> httpx.Response:
        identifier = c if isinstance(c, str) else c.id
        body = {"role": "user", "content": content(text), "run": True} | fields
        return await self.client.post(f"{APP}/{identifier}/send-message", json=body)

    async def tell(self, c: Conversation, call: str, body: object = None) -> httpx.Response:
        """POST to the agent server, with the key of this conversation."""
        return await self.client.post(f"{c.path}/{call}", json=body, headers=key_of(c))

    async def ask_agent(self, c: Conversation, call: str, **query: str | int) -> httpx.Response:
        """GET from the agent server, with the key of this conversation."""
        return await self.client.get(f"{c.path}/{call}", params=query, headers=key_of(c))

    async def events(self, c: Conversation, **query: str | int) -> Any:
        answer = await self.client.get(f"/api/v1/conversation/{c.id}/events/search", params=query)
        return answer.raise_for_status().json()["items"]

    async def kinds(self, c: Conversation, **query: str | int) -> list[str]:
        return [event["kind"] for event in await self.events(c, **query)]


def key_of(c: Conversation) -> dict[str, str]:
    return {"X-Session-API-Key": c.session_api_key}
