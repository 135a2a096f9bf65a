"""Going on without a new message, and how full an account is: both APIs against recorded answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest

from bot.core import errors
from bot.core.model import Slots
from bot.openhands.v0 import V0
from bot.openhands.v1 import V1
from tests.openhands.recorded import Wire, a_run, client, exchange, response_of

CONVERSATIONS = "/api/v1/app-conversations"
NAME = str(UUID(exchange("interrupted.03")["query"]["ids"]))
AGENT = f"http://127.0.0.1:3200/api/conversations/{NAME.replace('-', '')}"
SANDBOX = f"/api/v1/sandboxes/{NAME.replace('-', '')}"
RUN = a_run(NAME)

OLD = exchange("v0-start.01")["response"]["conversation_id"]
ONE = f"/api/conversations/{OLD}"
OLD_RUN = a_run(OLD)
OK = response_of(exchange("paused.05"))
WEB_PAGE = httpx.Response(200, html="<html>OpenHands</html>")


@asynccontextmanager
async def v1(transport: Any) -> AsyncIterator[V1]:
    http = client(transport)
    yield V1(http)
    await http.aclose()


@asynccontextmanager
async def v0(transport: Any) -> AsyncIterator[V0]:
    http = client(transport)
    yield V0(http)
    await http.aclose()


def conversation(sandbox: str, execution: str | None = None, **changes: Any) -> Wire:
    """Have the conversation in this state."""
    up = {"conversation_url": AGENT} if sandbox == "RUNNING" else {"conversation_url": None}
    known = {"id": NAME, "sandbox_id": NAME.replace("-", ""), "session_api_key": "SESSION-API-KEY", **up, **changes}
    entry = {**known, "sandbox_status": sandbox, "execution_status": execution}
    return Wire().then("GET", CONVERSATIONS, httpx.Response(200, json=[entry]), query={"ids": NAME})


# --- V1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("execution", ["paused", "idle", "error"])
@pytest.mark.parametrize("recording", ["paused.05", "paused.14", "running.03"])
async def test_an_agent_at_rest_is_told_to_run(execution: str, recording: str) -> None:
    """That it runs already, or has ended meanwhile, is no error; its server gets the session's key, not ours."""
    wire = conversation("RUNNING", execution).then("POST", f"{AGENT}/run", response_of(exchange(recording)))
    async with v1(wire) as openhands:
        assert await openhands.go_on(RUN) is (recording != "running.03")
    last = wire.requests[-1]
    assert (str(last.url), last.content) == (f"{AGENT}/run", b"")
    assert (last.headers["X-Session-API-Key"], "Authorization" in last.headers) == ("SESSION-API-KEY", False)


@pytest.mark.parametrize("execution", ["running", "finished", "waiting_for_confirmation"])
async def test_an_agent_that_works_has_ended_or_waits_is_left_alone(execution: str) -> None:
    """Nothing would come of it; approval has its own call."""
    wire = conversation("RUNNING", execution)
    async with v1(wire) as openhands:
        assert not await openhands.go_on(RUN)
    assert wire.calls == [f"GET {CONVERSATIONS}"]


async def test_an_agent_going_in_circles_goes_on_with_a_message() -> None:
    """Which is known to get it out; to run it again is not."""
    wire = conversation("RUNNING", "stuck").then(
        "POST", f"{CONVERSATIONS}/{NAME}/send-message", response_of(exchange("stuck.04"))
    )
    async with v1(wire) as openhands:
        assert await openhands.go_on(RUN)
    assert [body["content"][0]["text"] for body in wire.bodies] == ["Please go on."]


@pytest.mark.parametrize("word", ["PAUSED", "STOPPED"])
async def test_a_sleeping_sandbox_is_woken_and_asked_about_again_later(word: str) -> None:
    """A frozen agent goes on by itself; where it does not, the next call tells it to."""
    wire = conversation(word).then("POST", f"{SANDBOX}/resume", response_of(exchange("sandbox.08")))
    async with v1(wire) as openhands:
        with pytest.raises(errors.Asleep):
            await openhands.go_on(RUN)
    assert wire.calls[-1] == f"POST {SANDBOX}/resume"


async def test_a_sandbox_that_is_waking_up_is_waited_for() -> None:
    """It is not woken twice."""
    wire = conversation("STARTING")
    async with v1(wire) as openhands:
        with pytest.raises(errors.Asleep):
            await openhands.go_on(RUN)
    assert wire.calls == [f"GET {CONVERSATIONS}"]


FULL = httpx.Response(429, json={"detail": {"error": "CONCURRENCY_LIMIT_REACHED", "limit": 3, "current": 3}})


async def test_a_full_account_wakes_nothing() -> None:
    """Nothing was done: the caller waits for a place."""
    wire = conversation("PAUSED").then("POST", f"{SANDBOX}/resume", FULL)
    async with v1(wire) as openhands:
        with pytest.raises(errors.AtCapacity):
            await openhands.go_on(RUN)
        with pytest.raises(errors.AtCapacity):
            await openhands.resume(RUN)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("MISSING",), errors.Archived),
        (("ERROR",), errors.Archived),
        (("RUNNING", None), errors.Unavailable),
        (("RUNNING", "meditating"), errors.Unavailable),
        (("DELETING",), errors.Unavailable),
    ],
)
async def test_what_cannot_go_on_says_why(words: tuple[str], error: type[Exception]) -> None:
    """Its sandbox is gone or broken for good; or nobody can tell just now."""
    wire = conversation(*words)
    async with v1(wire) as openhands:
        with pytest.raises(error):
            await openhands.go_on(RUN)
    assert wire.calls == [f"GET {CONVERSATIONS}"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.ReadTimeout("slow"), errors.Unsure),
        (httpx.Response(502, text="Bad Gateway"), errors.Unsure),
        (httpx.Response(503, text="Service Unavailable"), errors.Unavailable),
        (response_of(exchange("paused.18")), errors.NotFound),
        (httpx.Response(401, json={"detail": "Unauthorized"}), errors.Unavailable),
        (httpx.Response(404, html="<html>another server</html>"), errors.Unavailable),
    ],
    ids=["lost", "502", "503", "unknown there", "another key", "another server"],
)
async def test_an_agent_server_that_does_not_do_it_says_what_to_do(answer: Any, error: type[Exception]) -> None:
    """Its refusal of a session's key is not a refusal of ours."""
    async with v1(conversation("RUNNING", "paused").then("POST", f"{AGENT}/run", answer)) as openhands:
        with pytest.raises(error):
            await openhands.go_on(RUN)


@pytest.mark.parametrize("address", [AGENT, None])
async def test_an_agent_server_out_of_reach_is_told_by_way_of_the_app_server(address: str | None) -> None:
    """It may have an address that only the app server can reach; that takes messages alone."""
    wire = conversation("RUNNING", "error", conversation_url=address)
    wire.then("POST", f"{AGENT}/run", httpx.ConnectError("refused"))
    wire.then("POST", f"{CONVERSATIONS}/{NAME}/send-message", response_of(exchange("stuck.03")))
    async with v1(wire) as openhands:
        assert await openhands.go_on(RUN)
    assert wire.bodies[-1]["content"] == [{"type": "text", "text": "Please go on."}]


async def test_without_a_conversation_nothing_goes_on() -> None:
    """None was made yet, or it is there no more."""
    async with v1(Wire()) as openhands:
        with pytest.raises(errors.NotFound):
            await openhands.go_on(a_run(None))
    gone = exchange("finished.39")
    async with v1(Wire("finished.39")) as openhands:
        with pytest.raises(errors.NotFound):
            await openhands.go_on(a_run(str(UUID(gone["query"]["ids"]))))


# --- V0 ---------------------------------------------------------------------------------------------------------


def old(runtime: str, *events: Any) -> Wire:
    """Have the V0 conversation in this state, with these events."""
    known = {**exchange("v0-start.03")["response"], "status": runtime}
    wire = Wire().then("GET", ONE, httpx.Response(200, json=known))
    page = httpx.Response(200, json={"events": list(events), "has_more": False})
    wire.then("GET", f"{ONE}/events", page, query={"start_id": 0, "limit": 100})
    nothing_new = httpx.Response(200, json={"events": []})
    next_id = events[-1]["id"] + 1 if events else 0
    return wire.then("GET", f"{ONE}/events", nothing_new, query={"start_id": next_id, "limit": 100})


def numbered(*events: Any) -> list[Any]:
    return [{**event, "id": number} for number, event in enumerate(events)]


def state(word: str) -> dict[str, Any]:
    return {"source": "environment", "observation": "agent_state_changed", "extras": {"agent_state": word}}


MESSAGE = {"source": "user", "action": "message", "args": {"content": "fix it"}}
STEP = {"source": "agent", "action": "run", "args": {"command": "ls"}}
ASKED = {"source": "agent", "action": "message", "args": {"content": "Which one?"}}


async def test_a_paused_v0_agent_is_asked_to_run() -> None:
    """As recorded."""
    wire = old("RUNNING", *numbered(MESSAGE, STEP, state("paused")))
    wire.then("POST", f"{ONE}/events", response_of(exchange("v0-pause.04")))
    async with v0(wire) as openhands:
        assert await openhands.go_on(OLD_RUN)
    assert wire.bodies == [exchange("v0-pause.04")["request"]]


@pytest.mark.parametrize(
    "events",
    [
        numbered(MESSAGE, STEP, state("stopped"), state("loading"), state("awaiting_user_input")),
        numbered(MESSAGE, STEP, state("error")),
        numbered(MESSAGE, STEP, state("rate_limited")),
        exchange("v0-confirm.06")["response"]["events"][::-1],
    ],
    ids=["woken", "failed", "model limit", "rejected"],
)
async def test_a_v0_agent_that_awaits_words_gets_some(events: list[Any]) -> None:
    """Awake again it does not go on by itself; after a failure a message is what helps."""
    wire = old("RUNNING", *events).then("POST", f"{ONE}/message", response_of(exchange("v0-send.01")))
    async with v0(wire) as openhands:
        assert await openhands.go_on(OLD_RUN)
    assert wire.bodies == [{"message": "Please go on."}]


@pytest.mark.parametrize(
    "events",
    [
        numbered(MESSAGE, state("running")),
        numbered(MESSAGE, ASKED, state("awaiting_user_input")),
        numbered(MESSAGE, STEP, state("awaiting_user_confirmation")),
    ],
    ids=["works", "asks", "wants approval"],
)
async def test_a_v0_agent_with_nothing_to_go_on_with_is_left_alone(events: list[Any]) -> None:
    """What it asked waits for an answer."""
    wire = old("RUNNING", *events)
    async with v0(wire) as openhands:
        assert not await openhands.go_on(OLD_RUN)
    assert {call.split()[0] for call in wire.calls} == {"GET"}


async def test_a_stopped_v0_runtime_is_started() -> None:
    """Then asked about again; at the limit it stays as it is."""
    wire = old("STOPPED").then("POST", f"{ONE}/start", response_of(exchange("v0-restart.05")))
    async with v0(wire) as openhands:
        with pytest.raises(errors.Asleep):
            await openhands.go_on(OLD_RUN)
    assert wire.bodies == [{}]
    full = old("STOPPED").then("POST", f"{ONE}/start", httpx.Response(429, json={"detail": "Too many"}))
    async with v0(full) as openhands:
        with pytest.raises(errors.AtCapacity):
            await openhands.resume(OLD_RUN)


@pytest.mark.parametrize(
    ("runtime", "events", "error"),
    [
        ("STARTING", [], errors.Asleep),
        ("RUNNING", numbered(state("loading")), errors.Asleep),
        ("RUNNING", numbered(MESSAGE, STEP, state("stopped")), errors.Asleep),
        ("RUNNING", numbered(MESSAGE, state("meditating")), errors.Unavailable),
        ("ARCHIVED", [], errors.Archived),
    ],
)
async def test_a_v0_agent_that_is_not_there_says_why(runtime: str, events: list[Any], error: type[Exception]) -> None:
    """Waking up, or for ever."""
    async with v0(old(runtime, *events)) as openhands:
        with pytest.raises(error):
            await openhands.go_on(OLD_RUN)


async def test_a_v0_server_without_such_calls_says_so() -> None:
    """Without a start it can't be woken; without events nobody knows what it does, so it is left alone."""
    no_start = old("STOPPED").then("POST", f"{ONE}/start", response_of(exchange("v0-old.12")))
    async with v0(no_start) as openhands:
        with pytest.raises(errors.NoSuchCall):
            await openhands.go_on(OLD_RUN)
    paused = old("RUNNING", *numbered(MESSAGE, state("paused")))
    paused.then("POST", f"{ONE}/events", response_of(exchange("v0-old.12")))
    async with v0(paused) as openhands:
        with pytest.raises(errors.NoSuchCall):
            await openhands.go_on(OLD_RUN)
    known = {**exchange("v0-start.03")["response"], "status": "RUNNING"}
    blind = Wire().then("GET", ONE, httpx.Response(200, json=known))
    blind.then("GET", f"{ONE}/events", response_of(exchange("v0-old.12")), query={"start_id": 0, "limit": 100})
    async with v0(blind) as openhands:
        assert not await openhands.go_on(OLD_RUN)
    assert blind.calls == [f"GET {ONE}", f"GET {ONE}/events"]


# --- slots ------------------------------------------------------------------------------------------------------


def listing(*entries: tuple[str, str], more: str | None = None) -> httpx.Response:
    """List conversations by the sandbox they are in and its status."""
    items = [{"id": NAME, "sandbox_id": sandbox, "sandbox_status": status} for sandbox, status in entries]
    return httpx.Response(200, json={"items": items, "next_page_id": more})


async def test_sandboxes_that_run_are_counted_once_over_all_pages() -> None:
    """Several conversations may share one; what sleeps or is lost takes no place."""
    path = f"{CONVERSATIONS}/search"
    wire = Wire().then(
        "GET", path, listing(("a", "RUNNING"), ("a", "RUNNING"), ("b", "PAUSED"), more="2"), query={"limit": 100}
    )
    wire.then("GET", path, listing(("c", "STARTING"), ("d", "MISSING")), query={"limit": 100, "page_id": "2"})
    async with v1(wire) as openhands:
        assert await openhands.slots() == Slots(running=2)


async def test_the_recorded_list_is_counted() -> None:
    """One finished conversation, whose sandbox runs on."""
    answer = response_of(exchange("finished.25"))
    async with v1(Wire().then("GET", f"{CONVERSATIONS}/search", answer, query={"limit": 100})) as openhands:
        assert await openhands.slots() == Slots(running=1)


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(404, json={"detail": "Not Found"}), WEB_PAGE, listing(("a", "RUNNING"), more="again")],
    ids=["no list", "a web page", "a list without an end"],
)
async def test_where_nobody_can_count_the_slots_are_not_known(answer: httpx.Response) -> None:
    """No number is better than a wrong one. An outage is no answer either way."""
    async with v1(lambda _: answer) as openhands:
        assert await openhands.slots() is None
    async with v0(lambda _: answer) as openhands:
        assert await openhands.slots() is None
    async with v1(lambda _: httpx.Response(503)) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.slots()


async def test_v0_runtimes_that_run_are_counted() -> None:
    """By their status; the agent in them may be done."""
    one = exchange("v0-start.03")["response"]
    results = [{**one, "status": word} for word in ("RUNNING", "STOPPED", "STARTING", "RUNNING", "ARCHIVED")]
    wire = Wire().then(
        "GET", "/api/conversations", httpx.Response(200, json={"results": results}), query={"limit": 100}
    )
    async with v0(wire) as openhands:
        assert await openhands.slots() == Slots(running=3)


async def test_a_message_that_gets_an_agent_on_waits_for_its_turn() -> None:
    """What is awaited just before a call may still call it off."""

    class CalledOff(Exception):
        """Nothing goes out."""

    async def call_off() -> None:
        raise CalledOff

    wire = conversation("RUNNING", "paused")
    async with v1(wire) as openhands:
        with pytest.raises(CalledOff):
            await openhands.go_on(RUN, call_off)
    older = old("RUNNING", *numbered(MESSAGE, STEP, state("paused")))
    async with v0(older) as earlier:
        with pytest.raises(CalledOff):
            await earlier.go_on(OLD_RUN, call_off)
    assert {call.split()[0] for call in wire.calls + older.calls} == {"GET"}
