"""A local Agent Server on a clock moved by hand, asked over the real wire as the recorded one was."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from bot.simulator.openhands import Conversation, LocalOpenHands
from tests.openhands.recorded import exchange

ALL = "/api/conversations"
UNKNOWN = "01234567-89ab-4def-8123-456789abcdef"
OF_ANSWERS = ("id", "timestamp", "command_id", "error_id", "uptime", "idle_time")
"""What differs with every answer."""


class AgentRig:
    """`later` moves the clock; everything else goes over HTTP."""

    def __init__(self, **options: Any) -> None:
        self.clock = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
        self.server = LocalOpenHands(now=lambda: self.clock, api="agent", **options)

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

    async def until_parked(self) -> None:
        """Turn the loop until a call, on its way over a real socket, waits in the server."""
        while not self.server.timers.parked:  # noqa: ASYNC110  a waiting call gives no sign to set an event by
            await asyncio.sleep(0)

    def body(self, text: str | None = "fix README", **fields: object) -> dict[str, Any]:
        message = {} if text is None else {"initial_message": {"content": [{"type": "text", "text": text}]}}
        name = str(uuid4())
        return {
            "conversation_id": name,
            "agent_profile_id": self.server.machine.active.id,
            "workspace": {"working_dir": f"/srv/runs/{name}"},
            **message,
            **fields,
        }

    async def post_start(self, body: dict[str, Any] | None = None) -> httpx.Response:
        return await self.client.post(ALL, json=body or self.body())

    async def start(self, text: str = "fix README", **fields: object) -> Conversation:
        answer = (await self.post_start(self.body(text, **fields))).raise_for_status().json()
        return self.server.conversations[answer["id"]]

    async def look(self, c: Conversation | str) -> Any:
        answer = await self.client.get(ALL, params={"ids": c if isinstance(c, str) else c.id})
        return answer.raise_for_status().json()[0]

    async def word(self, c: Conversation | str) -> str:
        shown = await self.look(c)
        return str(shown["execution_status"])

    async def send(self, c: Conversation, text: str, **fields: object) -> httpx.Response:
        content = [{"type": "text", "text": text}]
        return await self.client.post(f"{ALL}/{c.id}/events", json={"role": "user", "content": content, **fields})

    async def tell(self, c: Conversation | str, call: str, body: object = None) -> httpx.Response:
        return await self.client.post(f"{ALL}/{c if isinstance(c, str) else c.id}/{call}", json=body)

    async def events(self, c: Conversation, **query: str | int) -> list[Any]:
        answer = await self.client.get(f"{ALL}/{c.id}/events/search", params=query)
        items: list[Any] = answer.raise_for_status().json()["items"]
        return items

    async def kinds(self, c: Conversation, **query: str | int) -> list[str]:
        """Return the kinds of events, newest first, without the figures that a real one adds in between."""
        items = await self.events(c, sort_order="TIMESTAMP_DESC", **query)
        return [kind_of(one) for one in items if one.get("key") != "stats"]

    def here(self, value: Any, recording: dict[str, Any]) -> Any:
        """Return a part of a recording with the profile of this server in place of the recorded one."""
        request = recording["request"]
        profile = request.get("agent_profile_id") if isinstance(request, dict) else None
        if profile in (None, UNKNOWN, "default"):
            return value
        return json.loads(json.dumps(value).replace(profile, self.server.machine.active.id))

    async def replay(self, name: str) -> tuple[httpx.Response, dict[str, Any]]:
        """Send a recorded request; return the answer, and the recording."""
        recording = exchange(name)
        request = self.here(recording["request"], recording)
        sent = {} if request is None else {"json": request}
        answer = await self.client.request(recording["method"], recording["path"], params=recording["query"], **sent)
        return answer, recording


def kind_of(event: dict[str, Any]) -> str:
    """Return an event's kind; for a change of state the word."""
    return f"= {event['value']}" if event.get("key") == "execution_status" else str(event["kind"])


def lasting(value: Any) -> Any:
    """Return an answer without what differs with every one."""
    if isinstance(value, dict):
        return {name: lasting(part) for name, part in value.items() if name not in OF_ANSWERS}
    return [lasting(part) for part in value] if isinstance(value, list) else value


def relation(entry: dict[str, Any]) -> tuple[str, bool, bool]:
    """Return what tells the state of a conversation: its word, whether it has a message, whether that is the leaf."""
    last = entry["last_user_message_id"]
    return entry["execution_status"], last is not None, last == entry["leaf_event_id"]
