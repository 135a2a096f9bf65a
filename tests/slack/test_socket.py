"""Socket Mode: connected for as long as the process lives, whatever happens in between."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bot.core.errors import SlackLocked
from bot.core.pacing import Patience
from bot.slack.socket import Socket
from tests.slack.bench import Bench, bench, gateway

HURRY = Patience(
    ping_s=0.2,
    slack_timeout_s=5.0,
    socket_again_s=0.02,
    retry_slowest_s=0.08,
    socket_proven_s=0.15,
    handover_s=0.3,
)
"""The socket lives in real time, so these are real seconds."""
LATE_S = 10.0  # real seconds after which a test counts as hung
TICKET_LIFE_S = 31
OPEN = "apps.connections.open"


@dataclass
class Ear:
    """A bot that only listens, on a local Slack."""

    at: Bench
    heard: list[str] = field(default_factory=list)
    connected: int = 0
    missed: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Answers wait for it; set unless a test holds them."""
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()
        self.socket = self.new_socket(self.at.slack.app_token)

    def new_socket(self, token: str) -> Socket:
        return Socket(self._app(), token, self.at.gateway, self.at.clock, HURRY)

    def _app(self) -> AsyncApp:
        """Build an app that notes what it hears and acknowledges it."""

        async def authorize(**_context: Any) -> AuthorizeResult:
            return AuthorizeResult(enterprise_id=None, team_id="T1", bot_token="xoxb-any", bot_user_id="U0")

        async def hear(body: dict[str, Any]) -> BoltResponse:
            self.heard.append(body["event"]["text"] if "event" in body else body["text"])
            await self.gate.wait()
            return BoltResponse(status=200, body="" if "event" in body else "heard")

        app = AsyncApp(authorize=authorize)
        app.use(hear)
        return app

    def count_connected(self) -> None:
        self.connected += 1

    def count_missed(self) -> None:
        self.missed += 1

    def keep(self) -> "asyncio.Task[None]":
        """Connect and stay connected, in the background."""
        task = asyncio.create_task(self.socket.keep(self.count_connected, self.count_missed))
        self.tasks.append(task)
        return task

    async def opens(self) -> None:
        """Connect, and let the connection prove itself."""
        self.keep()
        await self.until(lambda: self.connected == 1 and self.socket._tries == 0)

    async def says(self, text: str) -> None:
        await self.at.slack.say(self.at.alice, self.at.dev, text)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let both sides of the wire work until something holds."""
        async with asyncio.timeout(LATE_S):
            while not reached():  # noqa: ASYNC110 - what it waits for is on the other side of a wire
                await asyncio.sleep(0.001)

    @property
    def open(self) -> int:
        """Count the connections Slack has, those included that it has told to go."""
        return len(self.at.slack._deliveries._sockets)

    def tickets(self) -> int:
        return self.at.called().count(OPEN)

    def next_ticket_expires(self) -> None:
        """Let the next ticket be too old when it is used; later ones are good."""

        async def hook(phase: str, method: str, _args: dict[str, Any]) -> None:
            if (phase, method) == ("after", OPEN):
                self.at.slack.on_call = None
                self.at.clock.move(self.at.clock.now() + timedelta(seconds=TICKET_LIFE_S))

        self.at.slack.on_call = hook


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """Catch what we log."""
    with capture_logs() as caught:
        yield caught


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    async with bench() as at:
        made = Ear(at)
        yield made
        for task in made.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, SlackLocked):
                await task
        await made.socket.close()
        await made.until(lambda: made.open == 0)


async def no_authorize() -> AuthorizeResult:
    raise AssertionError("nothing was brought")


def told(logs: list[EventDict]) -> list[tuple[str, Any]]:
    """Return what was logged: each event with its code, or how many tries it took."""
    return [(line["event"], line.get("code", line.get("tries"))) for line in logs]


# --- connecting --------------------------------------------------------------------------------------------------


async def test_what_people_do_is_heard(ear: Ear) -> None:
    """Connected once, told so once, and an envelope is acknowledged with the app's answer."""
    before = (ear.socket.live, ear.socket.heard_until)
    ear.keep()
    await ear.until(lambda: ear.connected == 1)
    command = await ear.at.slack.command(ear.at.alice, ear.at.dev, "help")
    await ear.until(lambda: command.ack_text is not None)
    assert (ear.heard, command.ack_text, ear.open, ear.tickets(), ear.missed) == (["help"], "heard", 1, 1, 1)
    assert (before, ear.socket.live) == ((False, None), True)


async def test_a_connection_that_works_is_left_alone(ear: Ear, logs: list[EventDict]) -> None:
    """Its signs of life move the time until when everything arrived."""
    await ear.opens()
    began = ear.at.clock.now()
    ear.at.clock.move(began + timedelta(seconds=30))
    await ear.until(lambda: ear.socket.heard_until == began + timedelta(seconds=30))
    assert (ear.tickets(), ear.open, ear.connected, ear.missed) == (1, 1, 1, 1)
    assert told(logs) == [("slack.connected", None)]


async def test_a_token_that_is_refused_is_the_operators_turn(ear: Ear) -> None:
    """Told at once and asked once: it would be refused for ever."""
    refused = ear.new_socket("xapp-wrong")
    with pytest.raises(SlackLocked, match="invalid_auth"):
        await refused.keep(ear.count_connected, ear.count_missed)
    await refused.close()
    assert (ear.connected, ear.tickets()) == (0, 1)


async def test_an_outage_at_the_start_is_waited_out(ear: Ear, logs: list[EventDict]) -> None:
    """Asked again, more and more slowly, until Slack is there; each new reason is told once, and so is the end."""
    began = asyncio.get_running_loop().time()
    ear.at.slack.fail(OPEN, status=500, times=3)
    ear.at.slack.fail(OPEN, status=429, retry_after=0)
    await ear.opens()
    await ear.until(lambda: len(logs) == 3)
    assert asyncio.get_running_loop().time() - began > 0.02 + 0.04 + 0.08 + 0.08
    assert told(logs) == [
        ("slack.unreachable", "internal_error"),
        ("slack.unreachable", "ratelimited"),
        ("slack.connected", 5),
    ]


async def test_a_ticket_that_is_too_old_is_replaced(ear: Ear, logs: list[EventDict]) -> None:
    """It would be refused for ever; each try has one of its own."""
    ear.next_ticket_expires()
    await ear.opens()
    await ear.until(lambda: len(logs) == 2)
    assert (ear.tickets(), ear.open, told(logs)) == (2, 1, [("slack.unreachable", "no_socket"), ("slack.connected", 2)])


async def test_a_connection_slack_does_not_greet_is_none(ear: Ear, logs: list[EventDict]) -> None:
    """It is given up and tried again; a stop closes it at once."""

    async def open_(request: web.Request) -> web.Response:
        date = format_datetime(ear.at.clock.now(), usegmt=True)
        return web.json_response({"ok": True, "url": f"ws://{request.host}/link"}, headers={"Date": date})

    async def link(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            pass
        return ws

    app = web.Application()
    app.add_routes([web.post("/apps.connections.open", open_), web.get("/link", link)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with gateway(f"http://127.0.0.1:{runner.addresses[0][1]}/", ear.at.clock) as mute:
        patience = replace(HURRY, slack_timeout_s=0.05)
        socket = Socket(AsyncApp(authorize=no_authorize), "xapp-1", mute, ear.at.clock, patience)
        keeping = asyncio.create_task(socket.keep(ear.count_connected, ear.count_missed))
        await ear.until(lambda: socket.ended["no_greeting"] == 2 and bool(socket._connections))
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await socket.close()
    await runner.cleanup()
    assert (socket.live, ear.connected, ear.missed) == (False, 0, 0)
    assert told(logs) == [("slack.unreachable", "no_greeting")]


# --- losing it ---------------------------------------------------------------------------------------------------


async def test_a_cut_connection_comes_back(ear: Ear, logs: list[EventDict]) -> None:
    """At once, with a ticket of its own; what people do is heard again, and what was missed can be read back."""
    await ear.opens()
    ear.at.slack.cut_socket()
    await ear.until(lambda: ear.missed == 2)
    await ear.at.slack.command(ear.at.alice, ear.at.dev, "status")
    await ear.until(lambda: ear.heard == ["status"] and len(logs) == 3)
    assert (ear.connected, ear.tickets(), ear.socket.ended) == (1, 2, {"connection_lost": 1})
    assert told(logs) == [
        ("slack.connected", None),
        ("slack.disconnected", "connection_lost"),
        ("slack.reconnected", 1),
    ]


async def test_an_outage_of_all_slack_is_waited_out(ear: Ear, logs: list[EventDict]) -> None:
    """However long it takes: the process stays, says what is so, and is connected again soon after Slack is back."""
    await ear.opens()
    heard_until = ear.socket.heard_until
    await ear.at.slack.stop()
    await ear.until(lambda: ("slack.unreachable", "no_connection") in told(logs))
    ear.at.clock.move(ear.at.clock.now() + timedelta(minutes=5))
    assert (ear.socket.live, ear.socket.heard_until) == (False, heard_until)
    await ear.at.slack.start()
    await ear.until(lambda: told(logs)[-1][0] == "slack.reconnected")
    assert (ear.socket.live, ear.open, ear.connected, ear.missed) == (True, 1, 1, 2)
    assert [event for event, _ in told(logs)] == [
        "slack.connected",
        "slack.disconnected",
        "slack.unreachable",
        "slack.reconnected",
    ]


async def test_a_connection_that_only_looks_open_is_replaced(ear: Ear) -> None:
    """It answers no ping, so it is given up, and all that went into it may be lost."""
    await ear.opens()
    await ear.at.slack.half_open()
    await ear.until(lambda: ear.missed == 2)
    await ear.says("anyone?")
    await ear.until(lambda: ear.heard == ["anyone?"])
    assert ear.tickets() == 2


async def test_a_token_that_is_refused_later_ends_nothing(ear: Ear, logs: list[EventDict]) -> None:
    """Runs go on being told; the log says what is wrong, and it goes on as soon as the token is taken again."""
    await ear.opens()
    ear.at.slack.fail(OPEN, error="invalid_auth", times=2)
    ear.at.slack.cut_socket()
    await ear.until(lambda: ear.missed == 2)
    assert ("slack.unreachable", "invalid_auth") in told(logs)


# --- handing over ------------------------------------------------------------------------------------------------


async def test_a_warned_connection_is_replaced_before_it_ends(ear: Ear, logs: list[EventDict]) -> None:
    """Both are open for a while and bring envelopes, so that nothing at all goes by, and nothing has to be read back."""
    ear.at.slack.forgetful = True
    await ear.opens()
    ear.at.slack.disconnect("warning")
    await ear.until(lambda: ear.open == 2 and len(logs) == 2)
    await ear.says("one")
    await ear.says("two")
    await ear.until(lambda: ear.heard == ["one", "two"] and ear.at.slack.idle)
    ear.at.slack.disconnect("refresh_requested", oldest=True)
    await ear.says("three")
    await ear.until(lambda: ear.open == 1 and ear.at.slack.idle)
    assert (ear.heard, ear.missed, ear.tickets()) == (["one", "two", "three"], 1, 2)
    assert [one.attempts for one in ear.at.slack.deliveries] == [1, 1, 1]
    assert [(line["event"], line["seamless"]) for line in logs] == [("slack.connected", False), ("slack.renewed", True)]
    assert ear.socket.ended == {"refresh_requested": 1}


async def test_after_a_warning_alone_the_old_connection_is_let_go(ear: Ear) -> None:
    """Slack does not come back to it, and two for ever would take another copy's place."""
    await ear.opens()
    ear.at.slack.disconnect("warning")
    await ear.until(lambda: ear.open == 2)
    await ear.until(lambda: ear.open == 1)
    assert (ear.socket.live, ear.missed) == (True, 1)


async def test_a_warned_connection_that_breaks_while_it_goes_may_have_lost_something(ear: Ear) -> None:
    """Slack used it still, so what was on its way is read back."""
    await ear.opens()
    ear.at.slack.disconnect("warning")
    await ear.until(lambda: ear.open == 2)
    ear.at.slack._deliveries._drop(ear.at.slack._deliveries._sockets[0])
    await ear.until(lambda: ear.missed == 2)
    assert (ear.open, ear.socket.live) == (1, True)
    assert ear.socket.ended == {"connection_lost": 1}


async def test_without_a_warning_the_next_connection_is_open_before_the_last_is_closed(ear: Ear) -> None:
    """An envelope it brought is acknowledged on it; what Slack could send nowhere meanwhile is to be read back."""
    await ear.opens()
    ear.gate.clear()
    command = await ear.at.slack.command(ear.at.alice, ear.at.dev, "help")
    await ear.until(lambda: ear.heard == ["help"])
    ear.at.slack.disconnect("refresh_requested")
    await ear.until(lambda: ear.open == 2 and ear.missed == 2)
    ear.gate.set()
    await ear.until(lambda: ear.open == 1 and command.acked is not None)
    assert (command.ack_text, ear.socket.live) == ("heard", True)


# --- no place, no link -------------------------------------------------------------------------------------------


async def test_without_a_free_place_it_asks_more_and_more_slowly(ear: Ear, logs: list[EventDict]) -> None:
    """Ten copies hold all connections: the log says once what to do; when one ends, this one takes its place."""
    async with aiohttp.ClientSession() as others:
        held = [await others.ws_connect(await ear.at.gateway.socket_url(ear.at.slack.app_token)) for _ in range(10)]
        began, before = asyncio.get_running_loop().time(), ear.tickets()
        ear.keep()
        await ear.until(lambda: ear.tickets() == before + 5)
        assert asyncio.get_running_loop().time() - began > 0.02 + 0.04 + 0.08 + 0.08
        await held[0].close()
        await ear.until(lambda: len(logs) == 3)
        assert (ear.socket.live, ear.missed) == (True, 1)
        for one in held:
            await one.close()
    assert ear.socket.ended["too_many_websockets"] >= 4
    assert [(line["event"], line.get("help")) for line in logs] == [
        ("slack.unreachable", "other copies of the bot hold all ten connections of the app: stop them"),
        ("slack.not_alone", "if this stays so, other copies of the bot get part of what people write: stop them"),
        ("slack.connected", None),
    ]


async def test_a_place_of_its_own_that_is_lacking_is_given_back(ear: Ear) -> None:
    """Slack told this connection to go, and has no place for the next while it is open."""
    async with aiohttp.ClientSession() as others:
        await ear.opens()
        held = [await others.ws_connect(await ear.at.gateway.socket_url(ear.at.slack.app_token)) for _ in range(9)]
        ear.at.slack.disconnect("refresh_requested", oldest=True)
        await ear.until(lambda: ear.missed == 2)
        assert (ear.open, ear.socket.live) == (10, True)
        for one in held:
            await one.close()


async def test_a_switched_off_link_is_no_hot_loop(ear: Ear, logs: list[EventDict]) -> None:
    """Slack ends each connection as soon as it is open: told once, tried slowly, until somebody switches it on."""
    await ear.opens()
    began = asyncio.get_running_loop().time()

    def ended_four_times() -> bool:
        if ear.at.slack.sockets:
            ear.at.slack.disconnect("link_disabled")
        return ear.socket.ended["link_disabled"] >= 4

    await ear.until(ended_four_times)
    assert asyncio.get_running_loop().time() - began > 0.02 + 0.04
    await ear.until(lambda: len(logs) == 3)
    assert (ear.socket.live, ear.connected) == (True, 1)
    assert [(line["event"], line.get("help")) for line in logs] == [
        ("slack.connected", None),
        ("slack.disconnected", "Socket Mode is switched off: switch it on in the app's settings"),
        ("slack.reconnected", None),
    ]


# --- the end -----------------------------------------------------------------------------------------------------


async def test_closing_ends_the_connection(ear: Ear) -> None:
    """Slack sees it gone; without a connection there is nothing to close."""
    task = ear.keep()
    await ear.until(lambda: ear.connected == 1)
    task.cancel()
    await ear.socket.close()
    await ear.until(lambda: ear.open == 0)
    await ear.new_socket(ear.at.slack.app_token).close()


async def test_closing_in_a_hand_over_ends_both_connections(ear: Ear) -> None:
    """The one that goes and the one that came."""
    await ear.opens()
    ear.at.slack.disconnect("warning")
    await ear.until(lambda: ear.open == 2)
    ear.tasks.pop().cancel()
    await ear.socket.close()
    await ear.until(lambda: ear.open == 0)
    assert (ear.socket._retiring, ear.socket._connections) == (set(), set())


async def test_stopping_while_it_connects_leaves_nothing_open(ear: Ear) -> None:
    """A stop does not wait for Slack; what was begun is closed."""
    ear.next_ticket_expires()
    task = ear.keep()
    await ear.until(lambda: ear.tickets() == 1 and ear.at.slack.idle and ear.at.slack.on_call is None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ear.socket.close()
    assert (ear.connected, ear.open, ear.socket._connections) == (0, 0, set())


async def test_no_ticket_or_token_is_logged(ear: Ear, logs: list[EventDict], caplog: pytest.LogCaptureFixture) -> None:
    """Addresses and tokens open connections; errors that name them are not repeated."""
    caplog.set_level(logging.DEBUG, logger="slack")
    ear.next_ticket_expires()
    ear.keep()
    await ear.until(lambda: ear.connected == 1)
    assert re.findall(r"ticket=|xapp-\S+|xoxb-\S+", f"{caplog.text}{logs}") == []
