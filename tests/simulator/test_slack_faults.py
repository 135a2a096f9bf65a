"""The local Slack's faults on demand: before or after the effect, late, broken or not at all."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.simulator.slack_wire import JSON, Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def texts(at: Bench) -> list[str]:
    return [one.text for one in at.slack.messages(at.dev)]


async def test_an_error_is_answered_instead_of_the_effect(at: Bench) -> None:
    """Ok is false, HTTP 200, and nothing happened; the next call is served."""
    at.slack.fail("chat.postMessage", error="internal_error")
    assert await at.error("chat.postMessage", channel=at.dev, text="one") == "internal_error"
    assert await at.error("chat.postMessage", channel=at.dev, text="two") is None
    assert texts(at) == ["two"]
    assert [(call.ok, call.error) for call in at.slack.calls] == [(False, "internal_error"), (True, None)]


async def test_a_limit_on_demand_says_when_to_come_back(at: Bench) -> None:
    """429 never comes without Retry-After."""
    at.slack.fail("users.info", status=429, retry_after=7)
    async with await at.call("users.info", user=at.alice) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
    with pytest.raises(ValueError, match="always has Retry-After"):
        at.slack.fail("users.info", status=429)


async def test_an_error_page_is_html(at: Bench) -> None:
    """Slack's front answers 502 with a page, not JSON."""
    at.slack.fail("users.info", html=True)
    async with await at.call("users.info", user=at.alice) as response:
        assert (response.status, response.content_type) == (502, "text/html")
    at.slack.fail("users.info", html=True, status=503)
    async with await at.call("users.info", user=at.alice) as response:
        assert response.status == 503


async def test_a_call_is_dropped_before_its_effect(at: Bench) -> None:
    """The connection ends without an answer and nothing happened."""
    at.slack.fail("chat.postMessage", drop=True)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await at.call("chat.postMessage", channel=at.dev, text="one")
    assert texts(at) == []
    assert (at.slack.calls[0].ok, at.slack.calls[0].error) == (False, "no_answer")


@pytest.mark.parametrize("how", [{}, {"drop": True}])
async def test_an_answer_is_lost_after_the_effect(at: Bench, how: dict[str, Any]) -> None:
    """The message is there though the caller was told nothing."""
    at.slack.fail("chat.postMessage", after=True, **how)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await at.call("chat.postMessage", channel=at.dev, text="one")
    assert texts(at) == ["one"]


async def test_an_answer_is_replaced_after_the_effect(at: Bench) -> None:
    """The caller is told of an error that is not true."""
    at.slack.fail("chat.postMessage", after=True, error="internal_error")
    assert await at.error("chat.postMessage", channel=at.dev, text="one") == "internal_error"
    assert texts(at) == ["one"]


async def test_a_slow_call_that_its_caller_gave_up_did_nothing(at: Bench) -> None:
    """Hanging before the effect, it notices that nobody waits any more."""
    at.slack.fail("chat.postMessage", hang_s=30)
    with pytest.raises(TimeoutError):
        await _impatient(at)
    assert at.slack.idle is False
    await at.until(lambda: at.slack.idle)
    assert texts(at) == []


async def test_a_slow_answer_that_nobody_waited_for_had_its_effect(at: Bench) -> None:
    """Hanging after the effect, the message stays."""
    at.slack.fail("chat.postMessage", hang_s=30, after=True)
    with pytest.raises(TimeoutError):
        await _impatient(at)
    assert texts(at) == ["one"]


async def test_a_slow_call_is_served_in_the_end(at: Bench) -> None:
    """Whoever waits gets the true answer, or the error that was to come with it."""
    at.slack.fail("chat.postMessage", hang_s=0.05)
    assert await at.error("chat.postMessage", channel=at.dev, text="one") is None
    at.slack.fail("chat.postMessage", hang_s=0.05, error="fatal_error")
    assert await at.error("chat.postMessage", channel=at.dev, text="two") == "fatal_error"
    assert texts(at) == ["one"]


async def test_faults_queue_up_for_the_calls_they_fit(at: Bench) -> None:
    """Each takes the next `times` calls of its method, in its channel if it names one."""
    other = at.slack.add_channel("other")
    at.slack.fail("chat.postMessage", error="internal_error", times=2, channel=at.dev)
    at.slack.fail("chat.postMessage", error="fatal_error")
    errors = [await at.error("chat.postMessage", channel=place, text="x") for place in (at.dev, other, at.dev, other)]
    assert errors == ["internal_error", "fatal_error", "internal_error", None]


@pytest.mark.parametrize(
    ("fault", "why"), [({}, "say what goes wrong"), ({"error": "x", "retry_after": 1}, "goes with status=429")]
)
async def test_a_fault_must_make_sense(at: Bench, fault: dict[str, Any], why: str) -> None:
    """One that would change nothing, or could not come from Slack, is a mistake in the test."""
    with pytest.raises(ValueError, match=why):
        at.slack.fail("users.info", **fault)


async def test_answers_to_commands_can_go_wrong_too(at: Bench) -> None:
    """A response_url fails under that name."""
    command = await at.slack.command(at.alice, at.dev, "help")
    at.slack.fail("response_url", status=500)
    async with at.http.post(command.response_url, json={"text": "x"}) as response:
        assert response.status == 500
    assert command.responses == []


async def test_the_hook_runs_before_and_after_each_effect(at: Bench) -> None:
    """It sees method and arguments, and what is stored at that moment."""
    seen: list[tuple[str, str, JSON, list[str]]] = []

    async def look(phase: str, method: str, args: JSON) -> None:
        seen.append((phase, method, args, texts(at)))

    at.slack.on_call = look
    args = {"channel": at.dev, "text": "one"}
    await at.api("chat.postMessage", **args)
    at.slack.on_call = None
    await at.api("chat.postMessage", channel=at.dev, text="two")
    assert seen == [("before", "chat.postMessage", args, []), ("after", "chat.postMessage", args, ["one"])]


@pytest.mark.parametrize(("phase", "stored"), [("before", []), ("after", ["one"])])
async def test_the_hook_can_end_a_call_where_it_stands(at: Bench, phase: str, stored: list[str]) -> None:
    """Raising ConnectionError is the caller's end: before the effect it never happens, after it nobody is told."""

    async def end(now: str, method: str, args: JSON) -> None:  # noqa: ARG001 - the hook's signature
        if now == phase:
            raise ConnectionError

    at.slack.on_call = end
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await at.call("chat.postMessage", channel=at.dev, text="one")
    assert texts(at) == stored
    assert (at.slack.calls[0].ok, at.slack.idle) == (False, True)


async def test_a_stopped_slack_comes_back_where_it_was(at: Bench) -> None:
    """An outage closes every connection; what was stored is there again at the same address."""
    await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    api_url = at.slack.api_url
    await at.slack.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await at.api("auth.test")
    await at.slack.start()
    assert (at.slack.api_url, at.slack.sockets, texts(at)) == (api_url, 0, ["hi"])
    assert await at.error("auth.test") is None


async def test_stopping_does_not_wait_for_a_hanging_call(at: Bench) -> None:
    """The caller is cut off."""
    at.slack.fail("auth.test", hang_s=30)

    async def stop(phase: str, method: str, args: JSON) -> None:  # noqa: ARG001 - the hook's signature
        at.slack.on_call = None
        stopping.append(asyncio.create_task(at.slack.stop()))

    stopping: list[asyncio.Task[None]] = []
    at.slack.on_call = stop
    with pytest.raises(aiohttp.ClientConnectionError):
        await at.api("auth.test")
    await stopping[0]


async def _impatient(at: Bench) -> None:
    headers = {"Authorization": f"Bearer {at.slack.bot_token}"}
    patience = aiohttp.ClientTimeout(total=0.05)
    args = {"channel": at.dev, "text": "one"}
    await at.http.post(f"{at.slack.api_url}chat.postMessage", json=args, headers=headers, timeout=patience)
