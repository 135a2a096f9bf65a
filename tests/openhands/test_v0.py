"""V0 against recorded answers: what the guide says, and what newer servers of it have besides."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from bot.core import errors
from bot.core.model import (
    Api,
    ApprovalRequest,
    ConversationId,
    Failed,
    Finish,
    Observation,
    Phase,
    Reason,
    Run,
    RunId,
    RunState,
    Said,
    Started,
)
from bot.openhands.v0 import V0
from bot.openhands.v0_answers import Story
from tests.openhands.recorded import BASE, NOON, JumpingClock, Wire, a_run, client, exchange, response_of

LIST = "/api/conversations"
NAME = exchange("v0-start.01")["response"]["conversation_id"]
ONE = f"{LIST}/{NAME}"
FIRST = {"start_id": 0, "limit": 100}
NO_SUCH_CALL = response_of(exchange("v0-old.08"))
PAGE = httpx.Response(200, html="<html>OpenHands</html>")


@asynccontextmanager
async def v0(transport: Any, clock: JumpingClock | None = None) -> AsyncIterator[V0]:
    http = client(transport, clock=clock)
    yield V0(http)
    await http.aclose()


def status(word: str, **changes: Any) -> httpx.Response:
    known = exchange("v0-start.03")["response"]
    return httpx.Response(200, json={**known, "status": word, **changes})


def events_of(*names: str) -> list[Any]:
    """Return recorded events in the order in which they happened."""
    found = [event for name in names for event in exchange(name)["response"]["events"]]
    return sorted(found, key=lambda event: int(event["id"]))


def told(events: Sequence[Any], *, has_more: bool = False) -> httpx.Response:
    return httpx.Response(200, json={"events": list(events), "has_more": has_more})


def server(word: str = "RUNNING", events: Any = None, **changes: Any) -> Wire:
    """Have the conversation in this state, with these events or this answer in their place."""
    wire = Wire().then("GET", ONE, status(word, **changes))
    if events is not None:
        wire.then("GET", f"{ONE}/events", told(events) if isinstance(events, list) else events, query=FIRST)
    return wire


async def see(openhands: V0, run: Run) -> Observation:
    return await openhands.read(run, (await openhands.observe([run]))[run.id])


RUN = a_run(NAME)
AT_WORK = events_of("v0-start.06")[:8]


# --- start ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "repository"), [("v0-start.01", None), ("v0-repository.08", "acme/widgets"), ("v0-old.01", None)]
)
async def test_a_start_sends_the_guides_two_fields_and_no_other(name: str, repository: str | None) -> None:
    """Servers refuse any other; the branch, the model and where it came from stay out."""
    wire, recording = Wire(name), exchange(name)
    run = a_run(None, repository=repository, branch="dev", model="some/model")
    async with v0(wire) as openhands:
        started = await openhands.start(run, recording["request"]["initial_user_msg"], "asked in Slack")
    assert wire.bodies == [recording["request"]]
    assert started == Started(conversation_id=ConversationId(recording["response"]["conversation_id"]))


GUIDE = {"error": "AuthenticationError", "message": "Invalid API key"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("v0-auth.03", errors.Unauthorised),
        ("v0-repository.03", errors.NoAccess),
        ("v0-repository.05", errors.NoAccess),
        ("v0-repository.16", errors.NoAccess),
        ("v0-old.16", errors.NoAccess),
        ("v0-no-settings.01", errors.Rejected),
        ("v0-no-settings.03", errors.Rejected),
        ("v0-bad-start.07", errors.Rejected),
        ("v0-rate.01", errors.TooFast),
        (httpx.Response(429, json={"detail": "Maximum number of conversations reached"}), errors.AtCapacity),
        (httpx.Response(429, text="busy"), errors.AtCapacity),
        (httpx.Response(401, json={"error": "NoCredentialsError"}), errors.Unauthorised),
        (httpx.Response(401, json={"error": "AuthError"}), errors.Unauthorised),
        (httpx.Response(401, json=GUIDE), errors.Unauthorised),
        (httpx.Response(404, json={"detail": "Not Found"}), errors.Unreadable),
        (httpx.Response(200, json={"status": "error"}), errors.Unsure),
        (PAGE, errors.Unsure),
        (httpx.Response(502), errors.Unsure),
        (httpx.Response(503), errors.Unavailable),
        (httpx.ReadTimeout("slow"), errors.Unsure),
        (httpx.ConnectError("refused"), errors.Unavailable),
    ],
)
async def test_a_refused_start_says_why(answer: Any, error: type[Exception]) -> None:
    """In the guide's words and in the recorded ones."""
    wire = Wire().then("POST", LIST, response_of(exchange(answer)) if isinstance(answer, str) else answer)
    async with v0(wire) as openhands:
        with pytest.raises(error):
            await openhands.start(a_run(None, repository="acme/none"), "fix it", "")


async def test_an_authentication_error_with_a_key_that_works_is_about_the_repository() -> None:
    """The guide has one error for a wrong key and for a repository without access."""
    wire = server("STARTING").then("POST", LIST, httpx.Response(401, json=GUIDE))
    async with v0(wire) as openhands:
        await openhands.observe([RUN])
        with pytest.raises(errors.NoAccess):
            await openhands.start(a_run(None, repository="acme/none"), "fix it", "")
        with pytest.raises(errors.Unauthorised):
            await openhands.start(a_run(None), "fix it", "")


def listed(*conversations: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"results": list(conversations), "next_page_id": None})


def created(name: str, moment: datetime, repository: str | None = None) -> dict[str, Any]:
    return {"conversation_id": name, "created_at": moment.isoformat(), "selected_repository": repository}


@pytest.mark.parametrize(
    ("repository", "there", "error"),
    [
        ("acme/widgets", [], errors.NoAccess),
        ("acme/widgets", [created("x", NOON, "acme/widgets")], errors.Unsure),
        (None, [], errors.Unsure),
    ],
)
async def test_a_bare_500_is_a_refusal_if_nothing_was_created(
    repository: str | None, there: list[dict[str, Any]], error: type[Exception]
) -> None:
    """A user without any git token gets one for each repository, as recorded."""
    wire = Wire("v0-repository.01").then("GET", LIST, listed(*there), query={"limit": 100})
    async with v0(wire) as openhands:
        with pytest.raises(error):
            await openhands.start(a_run(None, repository=repository), "FINISH Read it.", "")


async def test_a_bare_500_stays_unsure_where_nothing_can_be_listed() -> None:
    """Looking must not replace the error by its own."""
    wire = Wire("v0-repository.01").then("GET", LIST, NO_SUCH_CALL, query={"limit": 100})
    async with v0(wire) as openhands:
        with pytest.raises(errors.Unsure):
            await openhands.start(a_run(None, repository="acme/widgets"), "FINISH Read it.", "")


def first_message(text: str) -> httpx.Response:
    return told([{"id": 0}, {"id": 2, "source": "user", "action": "message", "args": {"content": text}}])


OURS, OLDER, OTHER = created("a", NOON), created("b", NOON - timedelta(minutes=3)), created("c", NOON, "org/other")
ANCIENT = created("d", NOON - timedelta(hours=1))


@pytest.mark.parametrize(
    ("there", "messages", "found"),
    [
        ([OURS], {"a": "fix it"}, Started(conversation_id=ConversationId("a"))),
        ([OTHER, OURS, ANCIENT], {"a": "fix it\n"}, Started(conversation_id=ConversationId("a"))),
        ([OURS, OLDER], {"a": "fix it", "b": "fix it"}, Started(conversation_id=ConversationId("a"))),
        ([OURS], {"a": "something else"}, None),
        ([OTHER, ANCIENT], {}, None),
        ([], {}, None),
        ([OLDER], {"b": "fix it"}, errors.CannotTell),
        ([OURS, {**OURS, "conversation_id": "e"}], {"a": "fix it", "e": "fix it"}, errors.CannotTell),
    ],
    ids=["ours", "among others", "and an older", "another's", "too old", "none", "only an older", "two"],
)
async def test_a_lost_start_is_found_by_time_repository_and_message(
    there: list[dict[str, Any]], messages: dict[str, str], found: Any
) -> None:
    """If exactly one can be it; one that may be an older request's is not taken."""
    wire = Wire().then("GET", LIST, listed(*there), query={"limit": 100})
    for name, text in messages.items():
        wire.then("GET", f"{LIST}/{name}/events", first_message(text), query=FIRST)
    async with v0(wire) as openhands:
        try:
            outcome: Any = await openhands.find_start(a_run(None), "fix it", NOON)
        except errors.CannotTell as error:
            outcome = type(error)
    assert outcome == found


async def test_a_conversation_without_its_message_yet_may_be_ours() -> None:
    """Then nothing can be said, and nothing may be started."""
    wire = Wire().then("GET", LIST, listed(OURS), query={"limit": 100})
    wire.then("GET", f"{LIST}/a/events", told([{"id": 0}]), query=FIRST)
    async with v0(wire) as openhands:
        with pytest.raises(errors.NotFound):
            await openhands.find_start(a_run(None), "fix it", NOON)


@pytest.mark.parametrize(
    ("there", "found"),
    [([OURS], errors.CannotTell), ([OURS, {**OURS, "conversation_id": "e"}], ConversationId("e"))],
    ids=["alone", "beside ours"],
)
async def test_a_conversation_that_never_shows_a_message_is_not_waited_for_for_ever(
    there: list[dict[str, Any]], found: Any
) -> None:
    """Its start has failed, ours or another's: where ours does not show, a person decides."""
    wire = Wire().then("GET", LIST, listed(*there), query={"limit": 100})
    wire.then("GET", f"{LIST}/a/events", told([{"id": 0}]), query=FIRST)
    wire.then("GET", f"{LIST}/e/events", first_message("fix it"), query=FIRST)
    clock = JumpingClock()
    clock.time = NOON + timedelta(minutes=10)
    outcome: Any = None
    async with v0(wire, clock) as openhands:
        try:
            started = await openhands.find_start(a_run(None), "fix it", NOON)
            outcome = started and started.conversation_id
        except errors.CannotTell as error:
            outcome = type(error)
    assert outcome == found


async def test_the_recorded_list_is_read_over_its_pages() -> None:
    """Five conversations, two a page; times with and without zone are UTC."""
    pages = [exchange(name)["response"] for name in ("v0-list.03", "v0-list.04", "v0-list.05")]
    last = pages[-1]["results"][-1]
    last["created_at"] = last["created_at"].removesuffix("Z")
    wire, query = Wire(), {"limit": 100}
    for page in pages:
        wire.then("GET", LIST, httpx.Response(200, json=page), query=query)
        query = {"limit": 100, "page_id": page["next_page_id"]}
    for page in pages:
        for one in page["results"]:
            text = "found" if one is last else "other"
            wire.then("GET", f"{LIST}/{one['conversation_id']}/events", first_message(text), query=FIRST)
    async with v0(wire) as openhands:
        found = await openhands.find_start(a_run(None), "found", datetime.fromisoformat("2026-11-24T21:11:04Z"))
    assert found == Started(conversation_id=last["conversation_id"])


@pytest.mark.parametrize(("answer", "events"), [(NO_SUCH_CALL, None), (listed(OURS), NO_SUCH_CALL)])
async def test_without_list_or_events_nobody_can_tell(answer: httpx.Response, events: httpx.Response | None) -> None:
    """The guide names neither."""
    wire = Wire().then("GET", LIST, answer, query={"limit": 100})
    if events is not None:
        wire.then("GET", f"{LIST}/a/events", events, query=FIRST)
    async with v0(wire) as openhands:
        with pytest.raises(errors.CannotTell):
            await openhands.find_start(a_run(None), "fix it", NOON)


@pytest.mark.parametrize(("answer", "events"), [(PAGE, None), (listed(OURS), PAGE)])
async def test_a_page_in_place_of_list_or_events_is_no_answer(
    answer: httpx.Response, events: httpx.Response | None
) -> None:
    """It may be a proxy's: the start is looked for again."""
    wire = Wire().then("GET", LIST, answer, query={"limit": 100})
    if events is not None:
        wire.then("GET", f"{LIST}/a/events", events, query=FIRST)
    async with v0(wire) as openhands:
        with pytest.raises(errors.Unreadable):
            await openhands.find_start(a_run(None), "fix it", NOON)


@pytest.mark.parametrize("created_at", [None, "yesterday"])
async def test_a_conversation_without_a_time_does_not_end_the_search(created_at: str | None) -> None:
    """Else the start would be made a second time."""
    undated = {**OURS, "conversation_id": "u", "created_at": created_at}
    more = httpx.Response(200, json={"results": [undated], "next_page_id": "1"})
    wire = Wire().then("GET", LIST, more, query={"limit": 100})
    wire.then("GET", LIST, listed(OURS, ANCIENT), query={"limit": 100, "page_id": "1"})
    wire.then("GET", f"{LIST}/u/events", first_message("another"), query=FIRST)
    wire.then("GET", f"{LIST}/a/events", first_message("fix it"), query=FIRST)
    async with v0(wire) as openhands:
        assert await openhands.find_start(a_run(None), "fix it", NOON) == Started(conversation_id=ConversationId("a"))


async def test_a_conversation_without_a_time_and_with_our_message_is_left_to_a_person() -> None:
    """It may be an older request's, or ours."""
    wire = Wire().then("GET", LIST, listed({**OURS, "created_at": None}), query={"limit": 100})
    wire.then("GET", f"{LIST}/a/events", first_message("fix it"), query=FIRST)
    async with v0(wire) as openhands:
        with pytest.raises(errors.CannotTell):
            await openhands.find_start(a_run(None), "fix it", NOON)


async def test_an_entry_that_cannot_be_read_hides_no_other_but_may_be_ours() -> None:
    """Found is found; not found beside it is no answer."""
    wire = Wire().then("GET", LIST, listed({"conversation_id": 7}, OURS), query={"limit": 100})
    wire.then("GET", f"{LIST}/a/events", first_message("fix it"), query=FIRST)
    async with v0(wire) as openhands:
        assert await openhands.find_start(a_run(None), "fix it", NOON) == Started(conversation_id=ConversationId("a"))
        with pytest.raises(errors.Unreadable):
            await openhands.find_start(a_run(None), "fix that", NOON)
        assert await openhands.slots() is not None


async def test_a_list_without_an_end_is_no_answer() -> None:
    """Nor is it read for ever."""
    page = httpx.Response(200, json={"results": [OTHER], "next_page_id": "1"})
    wire = Wire().then("GET", LIST, page, query={"limit": 100})
    wire.then("GET", LIST, page, query={"limit": 100, "page_id": "1"})
    async with v0(wire) as openhands:
        with pytest.raises(errors.Unreadable):
            await openhands.find_start(a_run(None), "fix it", NOON)


async def test_events_that_are_known_to_be_missing_are_not_asked_for() -> None:
    """Also not to find a start."""
    wire = server("RUNNING", NO_SUCH_CALL).then("GET", LIST, listed(OURS), query={"limit": 100})
    async with v0(wire) as openhands:
        await openhands.observe([RUN])
        with pytest.raises(errors.CannotTell):
            await openhands.find_start(a_run(None), "fix it", NOON)


# --- look, read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "phase", "last"),
    [
        (("v0-start.06",), Phase.ENDED, Finish("Slept well.")),
        (("v0-old.05",), Phase.ENDED, Finish("Slept well.")),
        (("v0-asked.02",), Phase.ENDED, Said("Which file do you mean?")),
        (("v0-asked.02", "v0-asked.04"), Phase.ENDED, Finish("The README.")),
        (("v0-failed-model.02",), Phase.ERROR, Failed(Reason.MODEL_REFUSED, "The scripted model was told to fail.")),
        (("v0-failed-model.06",), Phase.ERROR, Failed(Reason.MODEL_KEY)),
        (("v0-failed-model.08",), Phase.ERROR, Failed(Reason.MODEL_LIMIT)),
        (("v0-failed-model.12",), Phase.ERROR, Failed(Reason.MODEL_DOWN)),
        (
            ("v0-max-steps.02",),
            Phase.ERROR,
            Failed(
                Reason.MAX_STEPS,
                "RuntimeError: Agent reached maximum iteration. Current iteration: 2, max iteration: 2",
            ),
        ),
        (("v0-stuck.02",), Phase.ERROR, Failed(Reason.STUCK, "AgentStuckInLoopError: Agent got stuck in a loop")),
        (("v0-confirm.02",), Phase.WANTS_APPROVAL, ApprovalRequest("8", "run", "echo step 1", "UNKNOWN")),
        (("v0-confirm.06",), Phase.IDLE, None),
        (("v0-pause.03",), Phase.PAUSED, None),
        (("v0-failed-start.03",), Phase.STARTING, None),
        (("v0-stop-finished.03",), Phase.ENDED, Finish("All done.")),
        (("v0-stop.03",), Phase.ASLEEP, None),
        ((), Phase.STARTING, None),
    ],
)
async def test_the_agents_newest_state_tells_what_it_does(names: tuple[str, ...], phase: Phase, last: object) -> None:
    """The conversation's own status is RUNNING in all of these."""
    async with v0(server("RUNNING", events_of(*names))) as openhands:
        seen = await see(openhands, RUN)
    assert (seen.phase, seen.last, seen.blind) == (phase, last, False)


@pytest.mark.parametrize(
    ("names", "phase", "last"),
    [
        (("v0-stop.03",), Phase.ASLEEP, None),
        (("v0-stop-finished.03",), Phase.ENDED, Finish("All done.")),
        (("v0-idle.03",), Phase.ENDED, Finish("All done.")),
        (("v0-failed-model.06",), Phase.ERROR, Failed(Reason.MODEL_KEY)),
        (("v0-restart.03",), Phase.ASLEEP, None),
    ],
)
async def test_a_stopped_conversation_has_ended_if_its_agent_had(
    names: tuple[str, ...], phase: Phase, last: object
) -> None:
    """A stop, the limit, an hour without talk and a restart all look the same otherwise."""
    async with v0(server("STOPPED", events_of(*names))) as openhands:
        seen = await see(openhands, RUN)
    assert (seen.phase, seen.last) == (phase, last)


@pytest.mark.parametrize(
    ("word", "phase"),
    [
        ("STARTING", Phase.STARTING),
        ("starting", Phase.STARTING),
        ("ERROR", Phase.BROKEN),
        ("ARCHIVED", Phase.MISSING),
        ("DREAMING", Phase.UNKNOWN),
        (None, Phase.UNKNOWN),
    ],
)
async def test_a_conversation_that_does_not_run_is_told_by_its_status(word: str, phase: Phase) -> None:
    """No events are asked for."""
    async with v0(server(word)) as openhands:
        assert (await see(openhands, RUN)) == Observation(asked_at=NOON, phase=phase)


@pytest.mark.parametrize("name", ["v0-unknown.01", "v0-old.17", "v0-delete.02", "v0-unknown.06"])
async def test_a_conversation_that_is_not_there_is_gone(name: str) -> None:
    """The answer is 200 and null, on others 404."""
    run = a_run(exchange(name)["path"].split("/")[3])
    wire = Wire().then("GET", f"{LIST}/{run.conversation_id}", response_of(exchange(name)))
    async with v0(wire) as openhands:
        assert await see(openhands, run) == Observation(asked_at=NOON, phase=Phase.GONE)


async def test_events_are_read_on_from_where_they_were_left() -> None:
    """Each only once; a restart reads all again."""
    all_of_them = events_of("v0-start.06")
    wire = Wire().then("GET", ONE, status("RUNNING"))
    wire.then("GET", f"{ONE}/events", told(all_of_them[:6], has_more=True), query=FIRST)
    wire.then("GET", f"{ONE}/events", told(all_of_them[6:9]), query={"start_id": 6, "limit": 100})
    wire.then("GET", f"{ONE}/events", told(all_of_them[9:]), query={"start_id": 9, "limit": 100})
    wire.then("GET", f"{ONE}/events", told([]), query={"start_id": 11, "limit": 100})
    async with v0(wire) as openhands:
        first = await see(openhands, RUN)
        second = await see(openhands, RUN)
        anchor = await openhands.last_event(RUN)
    assert (first.phase, first.last, first.progress) == (Phase.WORKING, None, "Running command: sleep 6 && echo slept")
    assert (second.phase, second.last) == (Phase.ENDED, Finish("Slept well."))
    assert anchor == "10"


def test_what_is_kept_of_events_is_bounded() -> None:
    """Commands may hold whole files; a message of a person only begins a turn; of what is done only the end is kept."""
    long = "x" * 100_000
    steps = [
        {"id": n, "source": "agent", "action": "run", "message": long, "args": {"command": long}} for n in range(300)
    ]
    message = {"id": 300, "source": "user", "action": "message", "args": {"content": long}}
    finish = {"id": 301, "source": "agent", "action": "finish", "args": {"final_thought": "Done."}}
    story = Story().on([*steps, message, finish])
    assert (len(story.events), story.events[1].text) == (200, "")
    assert {(len(one.command), len(one.text)) for one in story.events[2:]} == {(4_000, 4_000)}
    assert [one.text for one in story.at_rest().events[:2]] == ["Done.", ""]
    assert (len(story.at_rest().events), story.at_rest().next_id) == (10, 302)


async def test_events_told_again_change_nothing() -> None:
    """A server may not heed where to begin."""
    everything = events_of("v0-start.06")
    wire = server("RUNNING", everything)
    wire.then("GET", f"{ONE}/events", told(everything), query={"start_id": 11, "limit": 100})
    async with v0(wire) as openhands:
        assert await see(openhands, RUN) == await see(openhands, RUN)
        assert await openhands.last_event(RUN) == "10"


async def test_events_of_unknown_shape_are_passed_over() -> None:
    """One with a number still counts as read."""
    odd = [{"id": 11, "args": "?"}, {"action": "finish"}, "text", None]
    wire = server("RUNNING", [*events_of("v0-start.06"), *odd])
    wire.then("GET", f"{ONE}/events", told([]), query={"start_id": 12, "limit": 100})
    async with v0(wire) as openhands:
        assert (await see(openhands, RUN)).last == Finish("Slept well.")
        assert await openhands.last_event(RUN) == "11"


async def test_an_approval_that_was_answered_is_wanted_no_more() -> None:
    """What came of an action names it."""
    answer = {"id": 9, "source": "agent", "observation": "run", "cause": 8}
    async with v0(server("RUNNING", [*events_of("v0-confirm.02"), answer])) as openhands:
        seen = await see(openhands, RUN)
    assert (seen.phase, seen.last) == (Phase.WANTS_APPROVAL, None)


async def test_old_news_does_not_end_a_new_turn() -> None:
    """Right after a message the state is still the old one."""
    async with v0(server("RUNNING", events_of("v0-start.06"))) as openhands:
        seen = await see(openhands, replace(RUN, turn=2, turn_after="10"))
    assert (seen.phase, seen.last) == (Phase.ENDED, None)


async def test_the_cost_is_what_the_newest_event_tells() -> None:
    """The status has none; a recorded run with a scripted model costs nothing."""
    costly = {"id": 11, "llm_metrics": {"accumulated_cost": 0.12}}
    events = events_of("v0-start.06")
    wire = server("RUNNING", events[:3])
    wire.then("GET", f"{ONE}/events", told(events[3:]), query={"start_id": 3, "limit": 100})
    wire.then("GET", f"{ONE}/events", told([costly, {"id": 12}]), query={"start_id": 11, "limit": 100})
    async with v0(wire) as openhands:
        costs = [(await see(openhands, RUN)).cost, (await see(openhands, RUN)).cost, (await see(openhands, RUN)).cost]
    assert costs == [None, 0.0, 0.12]


async def test_pull_requests_come_from_both_the_status_and_the_words() -> None:
    """As on V1."""
    finish = {
        "id": 0,
        "source": "agent",
        "action": "finish",
        "args": {"final_thought": "https://gitlab.com/o/r/-/merge_requests/2"},
    }
    state = {"id": 1, "observation": "agent_state_changed", "extras": {"agent_state": "finished"}}
    async with v0(server("RUNNING", [finish, state], pr_number=[1])) as openhands:
        seen = await see(openhands, replace(RUN, repository="o/r"))
    assert seen.pull_requests == ("o/r #1", "https://gitlab.com/o/r/-/merge_requests/2")


@pytest.mark.parametrize("answer", [NO_SUCH_CALL, httpx.Response(405, json={})])
@pytest.mark.parametrize(
    ("word", "phase", "last"), [("RUNNING", Phase.WORKING, None), ("STOPPED", Phase.ENDED, Finish(""))]
)
async def test_a_server_without_events_tells_only_whether_it_runs(
    answer: httpx.Response, word: str, phase: Phase, last: object
) -> None:
    """They are tried once; then a stop is the end."""
    wire = server(word, answer)
    async with v0(wire) as openhands:
        seen = [await see(openhands, RUN), await see(openhands, RUN)]
        with pytest.raises(errors.CannotTell):
            await openhands.heard(RUN, "x", None)
    assert seen == [Observation(asked_at=NOON, phase=phase, last=last, blind=True)] * 2  # type: ignore[arg-type]
    assert wire.calls == [f"GET {ONE}", f"GET {ONE}/events", *[f"GET {ONE}"] * 2]


@pytest.mark.parametrize("page", [PAGE, httpx.Response(404, text="no")])
async def test_a_web_page_instead_of_events_is_believed_after_two_minutes(page: httpx.Response) -> None:
    """An older server with a page answers so for ever, a proxy only for a while: until then nothing is known."""
    clock, wire = JumpingClock(), server("STOPPED", page)
    async with v0(wire, clock) as openhands:
        for _ in range(2):
            with pytest.raises(errors.Unreadable):
                await openhands.observe([RUN])
            clock.time += timedelta(seconds=60)
        assert (await see(openhands, RUN)).blind
        with pytest.raises(errors.CannotTell):
            await openhands.heard(RUN, "x", None)


@pytest.mark.parametrize(
    "page", [PAGE, httpx.Response(404, text="no"), httpx.Response(404, json={"message": "no Route"})]
)
async def test_a_page_of_a_proxy_is_forgotten(page: httpx.Response) -> None:
    """Also when it comes back hours later."""
    clock, wire = JumpingClock(), server("RUNNING", page)
    for answer in (httpx.Response(502), page, told(AT_WORK)):
        wire.then("GET", f"{ONE}/events", answer, query=FIRST)
    async with v0(wire, clock) as openhands:
        for _ in range(3):
            with pytest.raises((errors.Unreadable, errors.Unavailable)):
                await openhands.observe([RUN])
            clock.time += timedelta(hours=1)
        assert not (await see(openhands, RUN)).blind


@pytest.mark.parametrize("page", [PAGE, httpx.Response(404, text="no")])
async def test_a_page_of_a_proxy_does_not_cost_the_call_for_messages(page: httpx.Response) -> None:
    """The older call would leave open whether a message arrived."""
    wire = server("RUNNING", AT_WORK).then("POST", f"{ONE}/message", page)
    wire.then("POST", f"{ONE}/message", httpx.Response(200, json={"success": True}))
    wire.then("GET", f"{ONE}/events", told([]), query={"start_id": 8, "limit": 100})
    async with v0(wire) as openhands:
        with pytest.raises((errors.Unreadable, errors.Unsure)):
            await openhands.send(RUN, "Hello")
        await openhands.send(RUN, "Hello")
    assert [call for call in wire.calls if call.startswith("POST")] == [f"POST {ONE}/message"] * 2


async def test_a_server_that_has_events_is_not_taken_for_blind_later() -> None:
    """A web page in their place, while it is being replaced, is a failure like others."""
    wire = server("RUNNING", AT_WORK)
    wire.then("GET", f"{ONE}/events", PAGE, query={"start_id": 8, "limit": 100})
    wire.then("GET", f"{ONE}/events", told([]), query={"start_id": 8, "limit": 100})
    async with v0(wire) as openhands:
        await openhands.observe([RUN])
        with pytest.raises(errors.Unreadable):
            await openhands.observe([RUN])
        seen = await see(openhands, RUN)
    assert (seen.phase, seen.blind) == (Phase.WORKING, False)


async def test_events_missing_for_one_conversation_are_not_missing_for_all() -> None:
    """Older servers have none of a conversation that does not run."""
    name = exchange("v0-old.18")["path"].split("/")[3]
    wire = Wire().then("GET", f"{LIST}/{name}", status("STOPPED", conversation_id=name))
    wire.then("GET", f"{LIST}/{name}/events", response_of(exchange("v0-old.18")), query=FIRST)
    wire.then("GET", ONE, status("RUNNING"))
    wire.then("GET", f"{ONE}/events", told(events_of("v0-start.06")), query=FIRST)
    async with v0(wire) as openhands:
        stopped = await see(openhands, a_run(name))
        ended = await see(openhands, RUN)
    assert (stopped.phase, stopped.blind, ended.last) == (Phase.ASLEEP, False, Finish("Slept well."))


async def test_a_start_that_never_ends_has_failed() -> None:
    """Its status is STARTING for ever, as recorded; ten minutes by our own clock."""
    clock = JumpingClock()
    run = a_run(exchange("v0-failed-start.02")["path"].split("/")[-1], state=RunState.STARTING)
    seen = []
    async with v0(Wire("v0-failed-start.02"), clock) as openhands:
        for seconds in (0, 599, 600):
            clock.time = NOON + timedelta(seconds=seconds)
            seen.append(await see(openhands, run))
    assert [(one.phase, one.last) for one in seen] == [
        (Phase.STARTING, None),
        (Phase.STARTING, None),
        (Phase.START_FAILED, Failed(Reason.START_STUCK)),
    ]


async def test_one_conversation_that_cannot_be_asked_costs_the_others_nothing() -> None:
    """It is missing from the answer."""
    wire = server("STARTING").then("GET", f"{LIST}/x", httpx.Response(200, json={"conversation_id": 7}))
    async with v0(wire) as openhands:
        with pytest.raises(errors.Unreadable):
            await openhands.observe([a_run("x")])
        assert list(await openhands.observe([a_run("x"), RUN, a_run(None)])) == [RUN.id]
        assert await openhands.observe([a_run("x")]) == {}


@pytest.mark.parametrize("failure", [httpx.Response(500), httpx.ReadTimeout("slow"), PAGE], ids=["500", "slow", "page"])
async def test_events_that_fail_cost_only_their_own_run(failure: Any) -> None:
    """Whatever their place in the order."""
    wire, runs = Wire(), [a_run(str(number)) for number in range(12)]
    for number, run in enumerate(runs):
        wire.then("GET", f"{LIST}/{number}", status("RUNNING", conversation_id=run.conversation_id))
        wire.then("GET", f"{LIST}/{number}/events", failure if number in {0, 5} else told([]), query=FIRST)
    async with v0(wire) as openhands:
        for _ in range(2):
            seen = await openhands.observe(runs)
            assert set(seen) == {run.id for number, run in enumerate(runs) if number not in {0, 5}}
    asked = [call for call in wire.calls if call.endswith(tuple("0123456789"))]
    assert [call.rpartition("/")[2] for call in asked[-2:]] == ["0", "5"]


async def test_a_conversation_whose_own_host_is_away_costs_the_others_nothing() -> None:
    """In the cloud each has one."""
    wire = Wire().then("GET", f"{LIST}/x", status("RUNNING", url="https://one.example/x", session_api_key="k"))
    wire.then("GET", "https://one.example/x/events", httpx.ConnectError("refused"), query=FIRST)
    wire.then("GET", ONE, status("STARTING"))
    async with v0(wire) as openhands:
        assert list(await openhands.observe([a_run("x"), *[a_run("x", id=RunId(str(n))) for n in range(4)], RUN])) == [
            RUN.id
        ]


async def test_a_server_that_fails_at_every_conversation_is_left_in_peace() -> None:
    """Fifteen failures in a row are enough for once."""
    wire = Wire()
    for number in range(40):
        wire.then("GET", f"{LIST}/{number}", httpx.Response(500))
    async with v0(wire) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.observe([a_run(str(number)) for number in range(40)])
    assert len(wire.calls) == 15


async def test_when_openhands_is_out_of_reach_the_rest_is_not_waited_for() -> None:
    """It would fare no better."""
    wire = Wire()
    for number in range(20):
        wire.then("GET", f"{LIST}/{number}", httpx.ConnectError("refused"))
    async with v0(wire) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.observe([a_run(str(number)) for number in range(20)])
    assert len(wire.calls) == 1


async def test_four_conversations_are_asked_at_the_same_time() -> None:
    """There are no batches, and one that hangs must not hold up all."""
    under_way: set[str] = set()
    most = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal most
        under_way.add(request.url.path)
        most = max(most, len(under_way))
        await asyncio.sleep(0.001)
        under_way.remove(request.url.path)
        return httpx.Response(200, content="null")

    async with v0(httpx.MockTransport(answer)) as openhands:
        assert len(await openhands.observe([a_run(str(number)) for number in range(20)])) == 20
    assert most == 4


async def test_more_events_than_fit_in_one_go_are_read_on_next_time() -> None:
    """Until then nothing is said of the run."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == ONE:
            return status("RUNNING")
        first = int(request.url.params["start_id"])
        events = [{"id": number} for number in range(first, min(first + 100, 2_050))]
        return told(events, has_more=first + 100 < 2_050)

    async with v0(answer) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.observe([RUN])
        assert (await openhands.observe([RUN]))[RUN.id].phase is Phase.STARTING
        assert await openhands.last_event(RUN) == "2049"


# --- messages ---------------------------------------------------------------------------------------------------


async def test_a_message_goes_to_the_agent() -> None:
    """As recorded."""
    recording = exchange("v0-send.01")
    wire = server("RUNNING", AT_WORK).then("POST", f"{ONE}/message", response_of(recording))
    async with v0(wire) as openhands:
        await openhands.send(RUN, recording["request"]["message"])
    assert wire.bodies == [recording["request"]]


async def test_a_message_by_the_older_call_may_be_lost() -> None:
    """Some servers accept and lose it, so it must be looked for."""
    recording = exchange("v0-old.09")
    wire = server("RUNNING", AT_WORK).then("POST", f"{ONE}/message", response_of(exchange("v0-old.08")))
    wire.then("POST", f"{ONE}/events", response_of(recording))
    wire.then("GET", f"{ONE}/events", told([]), query={"start_id": 8, "limit": 100})
    async with v0(wire) as openhands:
        for _ in range(2):
            with pytest.raises(errors.Unsure):
                await openhands.send(RUN, recording["request"]["args"]["content"])
    sent = [call for call in wire.calls if call.startswith("POST")]
    assert sent == [f"POST {ONE}/message", f"POST {ONE}/events", f"POST {ONE}/events"]
    assert wire.bodies[-1] == recording["request"]


async def test_a_server_that_takes_no_messages_says_so() -> None:
    """The guide names no call for them."""
    wire = server("RUNNING", NO_SUCH_CALL).then("POST", f"{ONE}/message", NO_SUCH_CALL)
    wire.then("POST", f"{ONE}/events", httpx.Response(405, json={"detail": "Method Not Allowed"}))
    async with v0(wire) as openhands:
        with pytest.raises(errors.NoSuchCall):
            await openhands.send(RUN, "Hello")


@pytest.mark.parametrize(
    ("word", "events", "error"),
    [
        ("STARTING", None, errors.Unavailable),
        ("RUNNING", events_of("v0-failed-start.03"), errors.Unavailable),
        ("RUNNING", [], errors.Unavailable),
        ("STOPPED", AT_WORK, errors.Asleep),
        ("STOPPED", NO_SUCH_CALL, errors.NoSuchCall),
        ("ERROR", AT_WORK, errors.Asleep),
        ("ERROR", NO_SUCH_CALL, errors.NoSuchCall),
        ("ARCHIVED", None, errors.Archived),
    ],
)
async def test_a_message_nobody_would_answer_is_not_sent(
    word: str, events: list[Any] | httpx.Response | None, error: type[Exception]
) -> None:
    """While the agent is not there a server takes it and never answers."""
    wire = server(word, events)
    async with v0(wire) as openhands:
        with pytest.raises(error):
            await openhands.send(RUN, "Hello")
    assert not [call for call in wire.calls if call.startswith("POST")]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (response_of(exchange("v0-stop.05")), errors.Asleep),
        (response_of(exchange("v0-unknown.09")), errors.NotFound),
        (response_of(exchange("v0-send.09")), errors.Rejected),
        (response_of(exchange("v0-failed-start.04")), errors.Unsure),
        (PAGE, errors.Unsure),
    ],
)
async def test_a_message_that_was_not_taken_says_what_to_do(answer: httpx.Response, error: type[Exception]) -> None:
    """Recorded refusals."""
    async with v0(server("RUNNING", AT_WORK).then("POST", f"{ONE}/message", answer)) as openhands:
        with pytest.raises(error):
            await openhands.send(RUN, "Hello")


async def test_nothing_can_be_done_with_a_conversation_that_is_gone() -> None:
    """Stop answers 200 even for unknown ids: it is looked for first."""
    wire = Wire().then("GET", ONE, httpx.Response(200, content="null"))
    async with v0(wire) as openhands:
        for call in (openhands.stop(RUN), openhands.resume(RUN), openhands.send(RUN, "x"), openhands.last_event(RUN)):
            with pytest.raises(errors.NotFound):
                await call
        with pytest.raises(errors.NotFound):
            await openhands.stop(a_run(None))


@pytest.mark.parametrize(
    ("events", "after", "heard"),
    [
        ([{"id": 8, "source": "user", "action": "message", "args": {"content": "Go on.\n"}}], "7", True),
        ([{"id": 8, "source": "agent", "action": "message", "args": {"content": "Go on."}}], "7", False),
        ([{"id": 8, "source": "user", "action": "message", "args": {"content": "Stop."}}], "7", False),
        ([], "7", False),
        ([{"id": 0, "source": "user", "action": "message", "args": {"content": "Go on."}}], None, True),
    ],
)
async def test_a_message_is_heard_when_it_is_newer_than_the_anchor(
    events: list[Any], after: str | None, heard: object
) -> None:
    """Events have numbers, so only newer ones are asked for."""
    wire = server()
    query = {"start_id": int(after) + 1 if after else 0, "limit": 100}
    wire.then("GET", f"{ONE}/events", told(events), query=query)
    async with v0(wire) as openhands:
        assert await openhands.heard(RUN, "Go on.", after) is heard


async def test_a_message_is_searched_for_over_pages() -> None:
    """The recorded events of a conversation, four a page."""
    everything = events_of("v0-events.01")

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == ONE:
            return status("RUNNING")
        first = int(request.url.params["start_id"])
        return told(everything[first : first + 4], has_more=first + 4 < len(everything))

    async with v0(answer) as openhands:
        assert [await openhands.heard(RUN, text, None) for text in ("STEPS 4", "STEPS 5")] == [True, False]


async def test_a_message_is_not_searched_for_without_end() -> None:
    """Then a person decides."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == ONE:
            return status("RUNNING")
        return told([{"id": int(request.url.params["start_id"])}], has_more=True)

    async with v0(answer) as openhands:
        with pytest.raises(errors.CannotTell):
            await openhands.heard(RUN, "Go on.", "7")


# --- stop, resume, the rest -------------------------------------------------------------------------------------


async def test_stop_stops_the_conversation() -> None:
    """Which may wait for the running command; what does not run is left alone."""
    wire = server("RUNNING").then("POST", f"{ONE}/stop", response_of(exchange("v0-stop.01")))
    async with v0(wire) as openhands:
        await openhands.stop(RUN)
    stopped = server("STOPPED")
    async with v0(stopped) as openhands:
        await openhands.stop(RUN)
    assert (wire.calls, stopped.calls) == ([f"GET {ONE}", f"POST {ONE}/stop"], [f"GET {ONE}"])


async def test_resume_starts_a_stopped_conversation() -> None:
    """With an empty object as body; what runs is left alone."""
    wire = server("STOPPED").then("POST", f"{ONE}/start", response_of(exchange("v0-restart.05")))
    async with v0(wire) as openhands:
        await openhands.resume(RUN)
    running = server("RUNNING")
    async with v0(running) as openhands:
        await openhands.resume(RUN)
    assert (wire.bodies, running.calls) == ([exchange("v0-restart.05")["request"]], [f"GET {ONE}"])


async def test_older_servers_can_neither_stop_nor_resume() -> None:
    """0.40 has no such calls."""
    wire = server("RUNNING").then("POST", f"{ONE}/stop", response_of(exchange("v0-old.11")))
    async with v0(wire) as openhands:
        with pytest.raises(errors.NoSuchCall):
            await openhands.stop(RUN)
    wire = server("STOPPED").then("POST", f"{ONE}/start", response_of(exchange("v0-old.12")))
    async with v0(wire) as openhands:
        with pytest.raises(errors.NoSuchCall):
            await openhands.resume(RUN)
    async with v0(server("ARCHIVED")) as openhands:
        with pytest.raises(errors.Archived):
            await openhands.resume(RUN)


async def test_in_the_cloud_a_conversations_calls_go_to_its_own_host() -> None:
    """With the key it names; ours stays with the main host."""
    wire = Wire().then("GET", ONE, status("RUNNING", url=f"http://runtime.test{ONE}", session_api_key="its-own"))
    wire.then("GET", f"{ONE}/events", told(AT_WORK), query=FIRST)
    wire.then("POST", f"{ONE}/message", response_of(exchange("v0-send.01")))
    async with v0(wire) as openhands:
        await openhands.send(RUN, "Hello")
    hosts = [(request.url.host, request.headers.get("X-Session-API-Key")) for request in wire.requests]
    assert hosts == [("openhands.test", None), ("runtime.test", "its-own"), ("runtime.test", "its-own")]
    assert [("Authorization" in request.headers) for request in wire.requests] == [True, False, False]


async def test_its_page_is_that_of_the_conversation() -> None:
    """As on V1."""
    async with v0(Wire()) as openhands:
        assert (openhands.api, openhands.link(ConversationId(NAME))) == (Api.V0, f"{BASE}/conversations/{NAME}")
