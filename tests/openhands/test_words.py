"""What V1's events say of a turn: which server is read, and what counts."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from bot.core import errors
from bot.core.model import ApprovalRequest, Failed, Finish, Observation, Phase, Reason, Run, Said
from bot.core.pacing import later
from bot.openhands.v1 import V1
from bot.openhands.v1_events import AGENT_REST_S
from tests.openhands.recorded import NOON, JumpingClock, Wire, a_run, client, exchange, response_of

NAME = str(UUID(exchange("interrupted.03")["query"]["ids"]))
AGENT = f"http://127.0.0.1:3200/api/conversations/{NAME.replace('-', '')}"
AGENT_EVENTS = f"{AGENT}/events/search"
APP_EVENTS = f"/api/v1/conversation/{NAME}/events/search"
QUERY: dict[str, Any] = {"sort_order": "TIMESTAMP_DESC", "limit": 20}
HEARD: dict[str, Any] = {"sort_order": "TIMESTAMP_DESC", "limit": 100}

RUN = a_run(NAME)
MESSAGE = exchange("running-long.05")["response"]["items"][0]
FINISH = exchange("finished.21")["response"]["items"][0]
SAID = exchange("asked.03")["response"]["items"][2]
ASKS = exchange("confirm.02")["response"]["items"][0]
REJECTED = {**exchange("confirm.07")["response"]["items"][0], "action_id": ASKS["id"]}


def entry(**changes: Any) -> httpx.Response:
    known = {"id": NAME, "conversation_url": AGENT, "session_api_key": "SESSION-API-KEY", **changes}
    return httpx.Response(200, json=[known])


def page(*events: Any, more: str | None = None) -> httpx.Response:
    return httpx.Response(200, json={"items": list(events), "next_page_id": more})


def recorded_events(*names: str) -> list[Any]:
    """Return the events of recordings, in order."""
    return [event for name in names for event in exchange(name)["response"]["items"]]


def wire_with(*events: Any, agent: Any = None, more: str | None = None) -> Wire:
    """Have events at the agent server, or, if that fails so, at the app server."""
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(), query={"ids": NAME})
    if agent is None:
        return wire.then("GET", AGENT_EVENTS, page(*events, more=more), query=QUERY)
    return wire.then("GET", AGENT_EVENTS, agent, query=QUERY).then("GET", APP_EVENTS, page(*events), query=QUERY)


async def read(wire: Wire, phase: Phase, run: Run = RUN, **changes: Any) -> Observation:
    http = client(wire)
    seen = await V1(http).read(run, Observation(asked_at=NOON, phase=phase, **changes))
    await http.aclose()
    return seen


# --- which words ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "last"),
    [
        (("finished.19", "finished.22"), Finish("Added a section on installing.")),
        (("running.07",), Finish("Heard you.")),
        (("interrupted.11",), Finish("Thought about it.")),
        (("asked.03",), Said("Which branch shall I use?")),
        (("finished.22", "finished.21"), None),
        (("interrupted.05",), None),
        (("failed-model.02", "finished.21"), None),
        (("stuck.03",), None),
        (("stuck.03", "finished.21"), None),
        ((), None),
    ],
)
@pytest.mark.parametrize("phase", [Phase.ENDED, Phase.ASLEEP, Phase.MISSING])
async def test_a_turn_ends_with_the_agents_newest_step(names: tuple[str, ...], last: object, phase: Phase) -> None:
    """If that is an end; words older than the newest message, or than an action or error, are old news."""
    assert (await read(wire_with(*recorded_events(*names)), phase)).last == last


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("failed-model.02", Failed(Reason.MODEL_REFUSED, "The scripted model was told to fail.")),
        ("failed-model.10", Failed(Reason.MODEL_KEY, "The scripted model was told to fail.")),
        ("failed-model.12", Failed(Reason.MODEL_LIMIT, "The scripted model was told to fail.")),
        ("failed-model.14", Failed(Reason.MODEL_DOWN, "The scripted model was told to fail.")),
        ("failed-model.04", Failed(Reason.MODEL_REFUSED, "The scripted model was told to fail.")),
        ("follow-up-failed.06", None),
    ],
)
async def test_an_error_has_a_reason_and_the_providers_words(name: str, last: object) -> None:
    """Which may come later than the status: then there are none yet."""
    assert (await read(wire_with(*recorded_events(name)), Phase.ERROR)).last == last


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([ASKS], ApprovalRequest(ASKS["id"], "terminal", "echo step 1", "HIGH")),
        ([MESSAGE, ASKS], ApprovalRequest(ASKS["id"], "terminal", "echo step 1", "HIGH")),
        ([REJECTED, ASKS], None),
        ([REJECTED, {**ASKS, "id": "second"}, ASKS], ApprovalRequest("second", "terminal", "echo step 1", "HIGH")),
        (
            [{**ASKS, "action": {"kind": "FileEditorAction"}}],
            ApprovalRequest(ASKS["id"], "terminal", "echo step 1", "HIGH"),
        ),
    ],
    ids=["asks", "a message does not answer", "answered", "the newest unanswered", "what the model named counts"],
)
async def test_approval_is_wanted_for_what_nobody_has_answered(events: list[Any], last: object) -> None:
    """Whatever was said since."""
    assert (await read(wire_with(*events), Phase.WANTS_APPROVAL)).last == last


async def test_going_in_circles_is_a_failure_without_words() -> None:
    """There is no event for it; the last step shows where."""
    seen = await read(wire_with(*recorded_events("stuck.03")), Phase.STUCK)
    assert (seen.last, seen.progress) == (Failed(Reason.STUCK), 'terminal: {"command": "echo again"}')


async def test_words_of_an_earlier_turn_do_not_count() -> None:
    """What came before the anchor was there before this turn's message."""
    run = a_run(NAME, turn=2, turn_after="newer")
    assert (await read(wire_with({"id": "newer"}, FINISH), Phase.ENDED, run)).last is None
    assert (await read(wire_with(FINISH, {"id": "newer"}), Phase.ENDED, run)).last is None  # ours is not there yet
    assert (await read(wire_with(FINISH, MESSAGE, {"id": "newer"}), Phase.ENDED, run)).last == Finish(
        FINISH["action"]["message"]
    )


@pytest.mark.parametrize("phase", [Phase.WORKING, Phase.PAUSED, Phase.IDLE, Phase.UNCLEAR, Phase.UNKNOWN])
async def test_a_run_that_has_not_ended_has_progress_only(phase: Phase) -> None:
    """The newest step of this turn, in one line, without secrets."""
    step = {**ASKS, "summary": "Log in\nwith ghp_" + "a" * 36}
    seen = await read(wire_with(FINISH, step), phase)
    assert (seen.last, seen.progress) == (None, "Log in with [redacted]")


async def test_pull_requests_in_the_last_words_are_listed() -> None:
    """Beside those the server knows, each once."""
    words = (
        "See https://github.com/org/repo/pull/7, https://gitlab.com/g/s/repo/-/merge_requests/8 (merged)\n"
        "[9](https://bitbucket.org/org/repo/pull-requests/9) http://github.com/org/repo/pull/1 github.com/org/repo/pull/2"
    )
    finish = {**FINISH, "action": {"kind": "FinishAction", "message": words}}
    seen = await read(wire_with(finish), Phase.ENDED, pull_requests=("https://github.com/org/repo/pull/7",))
    assert seen.pull_requests == (
        "https://github.com/org/repo/pull/7",
        "https://gitlab.com/g/s/repo/-/merge_requests/8",
        "https://bitbucket.org/org/repo/pull-requests/9",
    )


async def test_secrets_in_the_last_words_are_taken_out() -> None:
    """The agent may have seen some."""
    said = {**SAID, "llm_message": {"content": [{"type": "text", "text": "ghp_" + "a" * 36}, {"type": "image"}]}}
    assert (await read(wire_with(said), Phase.ENDED)).last == Said("[redacted]")


async def test_events_of_unknown_shape_are_passed_over() -> None:
    """One with an id can still be the anchor."""
    odd = [{"id": "x", "kind": "ActionEvent", "action": "?"}, {"kind": "ActionEvent"}, "text", None]
    assert (await read(wire_with(*odd, FINISH), Phase.ENDED)).last == Finish(FINISH["action"]["message"])


async def test_before_the_start_there_is_nothing_to_read() -> None:
    """Nor a conversation to ask about."""
    seen = Observation(asked_at=NOON, phase=Phase.STARTING)
    assert await read(Wire(), Phase.STARTING) == seen


# --- which server -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "agent",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        response_of(exchange("finished.17")),
        response_of(exchange("paused.18")),
        httpx.Response(200, html="<html>another server</html>"),
    ],
)
async def test_the_app_servers_copy_is_read_when_the_agent_server_does_not_answer(agent: Any) -> None:
    """It may be later, but it is there."""
    assert (await read(wire_with(FINISH, agent=agent), Phase.ENDED)).last == Finish(FINISH["action"]["message"])


@pytest.mark.parametrize("phase", [Phase.ASLEEP, Phase.GONE])
async def test_the_copy_is_read_when_there_is_no_agent_server(phase: Phase) -> None:
    """Asleep there is no address; deleted there is not even an entry."""
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(conversation_url=None), query={"ids": NAME})
    wire.then("GET", APP_EVENTS, page(FINISH), query=QUERY)
    assert (await read(wire, phase)).last == Finish(FINISH["action"]["message"])


async def test_an_agent_server_out_of_reach_is_left_alone_for_a_minute() -> None:
    """Every look would wait for it."""
    clock = JumpingClock()
    wire = wire_with(FINISH, agent=httpx.ConnectTimeout("slow"))
    http = client(wire, clock=clock)
    openhands, seen = V1(http), Observation(asked_at=NOON, phase=Phase.ENDED)
    for moment in (0.0, AGENT_REST_S - 1, AGENT_REST_S):
        clock.time = later(NOON, moment)
        await openhands.read(RUN, seen)
    await http.aclose()
    agent, app = f"GET {httpx.URL(AGENT_EVENTS).path}", f"GET {APP_EVENTS}"
    assert [call for call in wire.calls if call.endswith("search")] == [agent, app, app, agent, app]


async def test_the_agent_server_gets_the_sessions_key_only() -> None:
    """Ours is for the app server."""
    wire = wire_with(FINISH)
    await read(wire, Phase.ENDED)
    asked = wire.requests[-1]
    assert (str(asked.url.copy_with(query=None)), asked.headers["X-Session-API-Key"]) == (
        AGENT_EVENTS,
        "SESSION-API-KEY",
    )
    assert "Authorization" not in asked.headers


async def test_the_key_of_the_latest_look_is_used() -> None:
    """It changes when a sandbox wakes up; nothing is asked twice for it."""
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(session_api_key="old"), query={"ids": NAME})
    wire.then("GET", "/api/v1/app-conversations", entry(session_api_key="new"), query={"ids": NAME})
    wire.then("GET", AGENT_EVENTS, page(FINISH), query=QUERY)
    http = client(wire)
    openhands = V1(http)
    await openhands.observe([RUN])
    looked = await openhands.observe([RUN])
    await openhands.read(RUN, looked[RUN.id])
    await http.aclose()
    assert [request.headers.get("X-Session-API-Key") for request in wire.requests] == [None, None, "new"]


async def test_older_pages_are_read_until_the_turn_is_settled() -> None:
    """Events that shift to the next page meanwhile are not counted twice."""
    error = recorded_events("failed-model.02")[0]
    wire = wire_with({"id": "1"}, {"id": "2"}, more="p2")
    wire.then("GET", AGENT_EVENTS, page({"id": "2"}, error, more="p3"), query={**QUERY, "page_id": "p2"})
    assert (await read(wire, Phase.ERROR)).last == Failed(Reason.MODEL_REFUSED, "The scripted model was told to fail.")


async def test_what_waits_for_approval_is_searched_for_past_a_message() -> None:
    """A message that did not run leaves it waiting."""
    wire = wire_with(MESSAGE, more="p2")
    wire.then("GET", AGENT_EVENTS, page(ASKS), query={**QUERY, "page_id": "p2"})
    wanted = (await read(wire, Phase.WANTS_APPROVAL)).last
    assert wanted == ApprovalRequest(ASKS["id"], "terminal", "echo step 1", "HIGH")


async def test_older_pages_of_the_copy_are_read_too() -> None:
    """As recorded: the page's name is an offset."""
    first, second = exchange("finished.19")["response"], exchange("finished.20")["response"]
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(conversation_url=None), query={"ids": NAME})
    events = [{"id": "state"}, first["items"][0]]
    wire.then("GET", APP_EVENTS, page(*events, more=first["next_page_id"]), query=QUERY)
    older = page(FINISH, *second["items"])
    wire.then("GET", APP_EVENTS, older, query={**QUERY, "page_id": first["next_page_id"]})
    assert (await read(wire, Phase.ENDED)).last == Finish(FINISH["action"]["message"])


async def test_pages_are_bounded() -> None:
    """A turn whose newest steps are all unknown to us is given up on."""
    wire = wire_with({"id": "0"}, more="same")
    wire.then("GET", AGENT_EVENTS, page({"id": "1"}, more="same"), query={**QUERY, "page_id": "same"})
    assert (await read(wire, Phase.ENDED)).last is None
    assert len([call for call in wire.calls if call.endswith("search")]) == 10


# --- anchors and what arrived -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("events", "name"), [([{"id": "newest"}], "newest"), ([], None)])
async def test_the_newest_event_is_the_anchor(events: list[Any], name: str | None) -> None:
    """None where there are no events."""
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(), query={"ids": NAME})
    http = client(wire.then("GET", AGENT_EVENTS, page(*events), query={**QUERY, "limit": 1}))
    assert await V1(http).last_event(RUN) == name
    await http.aclose()


def message(text: str, name: str = "m") -> dict[str, Any]:
    return {**MESSAGE, "id": name, "llm_message": {"role": "user", "content": [{"type": "text", "text": text}]}}


@pytest.mark.parametrize(
    ("events", "after", "heard"),
    [
        ([message("Go on."), {"id": "anchor"}], "anchor", True),
        ([message("Go on.\n"), {"id": "anchor"}], "anchor", True),
        ([{"id": "anchor"}, message("Go on.")], "anchor", False),
        ([message("Go on.", "m2"), {"id": "anchor"}, message("Go on.")], "anchor", True),
        ([message("Go on, please."), {"id": "anchor"}], "anchor", False),
        ([{**SAID, "llm_message": message("Go on.")["llm_message"]}, {"id": "anchor"}], "anchor", False),
        ([message("Go on.")], "anchor", False),
        ([message("Go on.")], None, True),
        ([], None, False),
    ],
    ids=[
        "arrived",
        "but for its last line end",
        "an earlier one",
        "twice, one new",
        "another text",
        "the agent's words",
        "the anchor is not there yet",
        "the first event of all",
        "nothing at all",
    ],
)
async def test_a_message_is_heard_when_it_is_newer_than_the_anchor(
    events: list[Any], after: str | None, heard: object
) -> None:
    """A text may come twice."""
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(), query={"ids": NAME})
    http = client(wire.then("GET", AGENT_EVENTS, page(*events), query=HEARD))
    assert await V1(http).heard(RUN, "Go on.", after) is heard
    await http.aclose()


async def test_when_the_anchor_is_too_far_back_nobody_can_tell() -> None:
    """The search is bounded."""
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(), query={"ids": NAME})
    wire.then("GET", AGENT_EVENTS, page({"id": "0"}, more="same"), query=HEARD)
    wire.then("GET", AGENT_EVENTS, page({"id": "1"}, more="same"), query={**HEARD, "page_id": "same"})
    http = client(wire)
    with pytest.raises(errors.CannotTell):
        await V1(http).heard(RUN, "Go on.", "anchor")
    await http.aclose()


async def test_without_an_anchor_an_unfinished_search_tells_nothing() -> None:
    """The message may be among the events that were not read."""
    wire = Wire().then("GET", "/api/v1/app-conversations", entry(), query={"ids": NAME})
    wire.then("GET", AGENT_EVENTS, page({"id": "0"}, more="same"), query=HEARD)
    wire.then("GET", AGENT_EVENTS, page(message("Go on."), more="same"), query={**HEARD, "page_id": "same"})
    http = client(wire)
    assert await V1(http).heard(RUN, "Go on.", None)
    with pytest.raises(errors.CannotTell):
        await V1(http).heard(RUN, "Stop.", None)
    await http.aclose()
