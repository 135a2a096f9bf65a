"""Socket Mode: connected for as long as the process lives, whatever happens in between."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bot.errors import SlackLocked
from bot.pacing import Patience
from bot.slack.socket import Socket
from tests.adapters.gateway_bench import Bench, bench

HURRY = Patience(ping_s=0.03, retry_first_s=0.02, retry_slowest_s=0.04, socket_down_s=0.4)
"""The socket lives in real time, so these are real seconds."""
LATE_S = 10.0  # real seconds after which a test counts as hung
TICKET_LIFE_S = 31
OPEN = "apps.connections.open"


@dataclass
class Line:
    """A bot that only listens, on a local Slack."""

    at: Bench
    socket: Socket
    heard: list[str]
    connected: int = 0
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def _count(self) -> None:
        self.connected += 1

    def keep(self) -> "asyncio.Task[None]":
        """Connect and stay connected, in the background."""
        task = asyncio.create_task(self.socket.keep(self._count))
        self.tasks.append(task)
        return task

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let both sides of the wire work until something holds."""
        async with asyncio.timeout(LATE_S):
            while not reached():  # noqa: ASYNC110 - what it waits for is on the other side of a wire
                await asyncio.sleep(0.001)

    async def is_open(self) -> None:
        await self.until(lambda: self.at.slack.sockets == 1)

    def tickets(self) -> int:
        return self.at.called().count(OPEN)

    def next_ticket_expires(self) -> None:
        """Let the next ticket be too old when it is used; later ones are good."""

        async def hook(phase: str, method: str, _args: dict[str, Any]) -> None:
            if (phase, method) == ("after", OPEN):
                self.at.slack.on_call = None
                self.at.clock.move(self.at.clock.now() + timedelta(seconds=TICKET_LIFE_S))

        self.at.slack.on_call = hook


def listening(heard: list[str]) -> AsyncApp:
    """Build an app that acknowledges everything and does nothing."""

    async def authorize(**_context: Any) -> AuthorizeResult:
        return AuthorizeResult(enterprise_id=None, team_id="T1", bot_token="xoxb-local-bot", bot_user_id="U0")

    async def hear(body: dict[str, Any]) -> BoltResponse:
        heard.append(body["text"])
        return BoltResponse(status=200, body="heard")

    app = AsyncApp(authorize=authorize)
    app.use(hear)
    return app


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """Catch what we log."""
    with capture_logs() as caught:
        yield caught


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    heard: list[str] = []
    async with bench() as at:
        made = Line(at, Socket(listening(heard), at.slack.app_token, at.gateway, HURRY), heard)
        yield made
        for task in made.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, SlackLocked):
                await task
        await made.socket.close()


def events(logs: list[EventDict]) -> list[str]:
    return [line["event"] for line in logs]


async def test_what_people_do_is_heard(line: Line) -> None:
    """Connected once, told so once, and an envelope is acknowledged with the app's answer."""
    line.keep()
    await line.until(lambda: line.connected == 1)
    command = await line.at.slack.command(line.at.alice, line.at.dev, "help")
    await line.until(lambda: command.ack_text is not None)
    assert (line.heard, command.ack_text, line.at.slack.sockets, line.tickets()) == (["help"], "heard", 1, 1)


async def test_a_connection_that_works_is_left_alone(line: Line, logs: list[EventDict]) -> None:
    """However often it is looked at."""
    line.keep()
    await line.is_open()
    await asyncio.sleep(HURRY.ping_s * 4)
    assert (line.tickets(), line.at.slack.sockets, events(logs)) == (1, 1, ["slack.connected"])


async def test_a_token_that_is_refused_is_the_operators_turn(line: Line) -> None:
    """Told at once and asked once: it would be refused for ever."""
    refused = Socket(listening([]), "xapp-wrong", line.at.gateway, HURRY)
    with pytest.raises(SlackLocked, match="invalid_auth"):
        await refused.keep(line._count)
    await refused.close()
    assert (line.connected, line.tickets()) == (0, 1)


async def test_an_outage_at_the_start_is_waited_out(line: Line, logs: list[EventDict]) -> None:
    """Asked again after pauses that double up to the slowest, until Slack is there."""
    line.at.slack.fail(OPEN, status=500, times=3)
    line.keep()
    await line.until(lambda: line.connected == 1)
    assert [(one["event"], one.get("code"), one.get("again_in_s")) for one in logs] == [
        ("slack.unreachable", "internal_error", 0.02),
        ("slack.unreachable", "internal_error", 0.04),
        ("slack.unreachable", "internal_error", 0.04),
        ("slack.connected", None, None),
    ]


async def test_a_first_ticket_that_is_too_old_is_replaced(line: Line, logs: list[EventDict]) -> None:
    """The SDK alone would try it for ever, and never come back."""
    line.next_ticket_expires()
    line.keep()
    await line.until(lambda: line.connected == 1)
    assert (line.tickets(), line.at.slack.sockets) == (2, 1)
    assert events(logs) == ["slack.unreachable", "slack.connected"]


async def test_a_cut_connection_comes_back(line: Line) -> None:
    """With a ticket of its own, and what people do is heard again."""
    line.keep()
    await line.is_open()
    line.at.slack.cut_socket()
    await line.until(lambda: line.tickets() == 2)
    await line.is_open()
    await line.at.slack.command(line.at.alice, line.at.dev, "status")
    await line.until(lambda: line.heard == ["status"])
    assert line.connected == 1


async def test_a_ticket_that_is_too_old_after_a_cut_is_replaced(line: Line, logs: list[EventDict]) -> None:
    """Down for long, the connection gets a new address; the loss and the return are logged once each."""
    line.keep()
    await line.is_open()
    line.next_ticket_expires()
    line.at.slack.cut_socket()
    await line.until(lambda: "slack.reconnected" in events(logs))
    assert (line.tickets(), line.at.slack.sockets) == (3, 1)
    assert events(logs) == ["slack.connected", "slack.disconnected", "slack.reconnected"]


async def test_an_outage_of_all_slack_is_waited_out(line: Line, logs: list[EventDict]) -> None:
    """However long it takes: the process stays, and is connected again soon after Slack is back."""
    line.keep()
    await line.is_open()
    await line.at.slack.stop()
    await line.until(lambda: "slack.disconnected" in events(logs))
    await line.at.slack.start()
    await line.until(lambda: "slack.reconnected" in events(logs))
    await asyncio.sleep(HURRY.ping_s * 4)
    assert (line.at.slack.sockets, line.connected) == (1, 1)
    assert events(logs) == ["slack.connected", "slack.disconnected", "slack.reconnected"]


async def test_closing_ends_the_connection(line: Line) -> None:
    """Slack sees it gone; without a connection there is nothing to close."""
    task = line.keep()
    await line.is_open()
    task.cancel()
    await line.socket.close()
    await line.until(lambda: line.at.slack.sockets == 0)
    await Socket(listening([]), line.at.slack.app_token, line.at.gateway, HURRY).close()


async def test_stopping_while_it_connects_leaves_nothing_open(line: Line) -> None:
    """A stop does not wait for Slack; what was begun is closed."""
    line.next_ticket_expires()
    task = line.keep()
    await line.until(lambda: line.tickets() == 1 and line.at.slack.idle and line.at.slack.on_call is None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (line.connected, line.at.slack.sockets) == (0, 0)


async def test_no_ticket_or_token_is_logged(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    """The SDK's complaints name the address; what opens a connection is taken out of it."""
    caplog.set_level(logging.INFO)
    line.next_ticket_expires()
    line.keep()
    await line.until(lambda: line.connected == 1)
    assert "ticket=…" in caplog.text
    assert re.findall(r"ticket=[^…]|xapp-\S+|xoxb-\S+", caplog.text) == []
