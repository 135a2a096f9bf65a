"""Recorded exchanges with real OpenHands servers, replayed; and what tests of the client start from."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from bot.clock import Clock
from bot.core.model import ChannelId, ConversationId, Run, RunId, RunState, TeamId, UserId, Watch
from bot.core.pacing import Patience
from bot.openhands.http import Http
from tests.changes import changed

RECORDED = Path(__file__).parent.parent / "recorded"
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
BASE = "http://openhands.test"


def exchange(name: str) -> dict[str, Any]:
    """Read one recording, such as "finished.01"."""
    [file] = RECORDED.glob(f"{name}-*.json")
    read: dict[str, Any] = json.loads(file.read_text())
    return read


def response_of(recording: dict[str, Any]) -> httpx.Response:
    kind = recording["response_headers"].get("content-type", "")
    body = json.dumps(recording["response"]) if "json" in kind else str(recording["response"])
    return httpx.Response(recording["status"], content=body, headers=recording["response_headers"])


class Wire(httpx.MockTransport):
    """Answers with recordings, in turn per method, path and query; the last one stays. Anything else fails the test."""

    def __init__(self, *names: str) -> None:
        super().__init__(self._answer)
        self.requests: list[httpx.Request] = []
        self._waiting: dict[tuple[Any, ...], list[httpx.Response | Exception]] = {}
        for name in names:
            one = exchange(name)
            self.then(one["method"], one["path"], response_of(one), query=one["query"])

    def then(
        self, method: str, path: str, answer: httpx.Response | Exception, *, query: dict[str, Any] | None = None
    ) -> "Wire":
        """Also answer this, with a response made up or with a failure of the connection."""
        key = (method, httpx.URL(path).path, _pairs(httpx.QueryParams(query or {})))
        self._waiting.setdefault(key, []).append(answer)
        return self

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        queue = self._waiting[request.method, request.url.path, _pairs(request.url.params)]
        one = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(one, Exception):
            raise one
        return httpx.Response(one.status_code, content=one.content, headers=one.headers)

    @property
    def bodies(self) -> list[Any]:
        """What was sent, in order, calls without a body left out."""
        return [json.loads(request.content) for request in self.requests if request.content]

    @property
    def calls(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def _pairs(params: httpx.QueryParams) -> tuple[tuple[str, str], ...]:
    """Order a query; ids are the same with and without dashes, as to the servers."""
    return tuple(
        sorted((key, value.replace("-", "") if key == "ids" else value) for key, value in params.multi_items())
    )


class JumpingClock(Clock):
    """Waiting moves it at once; nothing else does."""

    def __init__(self) -> None:
        self.time = NOON

    def now(self) -> datetime:
        return self.time

    async def wait(self, event: object, until: datetime | None) -> None:
        assert event is None
        assert until is not None
        self.time = max(self.time, until)


def client(
    transport: httpx.AsyncBaseTransport | Callable[[httpx.Request], httpx.Response],
    *,
    key: str = "the-key",
    clock: Clock | None = None,
    patience: Patience | None = None,
) -> Http:
    """Make a client on this transport that never waits for its own pace."""
    return Http(
        BASE,
        key,
        clock=clock or JumpingClock(),
        patience=patience or Patience(openhands_calls_per_s=1000),
        transport=transport if isinstance(transport, httpx.AsyncBaseTransport) else httpx.MockTransport(transport),
    )


def a_run(conversation: str | None, **changes: Any) -> Run:
    """Make a run that works, in its first turn."""
    run = Run(
        id=RunId(f"run of {conversation}"),
        team=TeamId("T1"),
        channel=ChannelId("C1"),
        thread_ts=None,
        request_ts=None,
        private=False,
        requester=UserId("U1"),
        task="fix it",
        state=RunState.WORKING,
        conversation_id=ConversationId(conversation) if conversation else None,
        created_at=NOON,
        turn_at=NOON,
        watch=Watch(observed_at=NOON, news_at=NOON),
    )
    return changed(run, **changes)
