"""Starts that may have happened: looked up before they are repeated, so that no agent works twice and none is lost."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from bot.core.model import Reason
from tests.conftest import Card, Make, Story
from tests.stories.shared import SINCE, asked_by, starts, why

NINE = "<!date^1772442000^{date_short_pretty} {time}|2 Mar 09:00 UTC>"
OUT_OF_REACH = f"⚠️ I haven't got through to OpenHands since {NINE}. I keep trying; nothing is lost."
UNSURE = "OpenHands' answer was lost and I can't find out whether the task started."


def working(world: Story) -> Card:
    """Return the card of a run at work that nothing is wrong with."""
    return Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))


def looked(world: Story) -> int:
    """Count the looks for a start in the list of start tasks."""
    return sum(call.kind == "find_start" for call in world.openhands.calls)


# --- found -------------------------------------------------------------------------------------------------------


async def test_a_start_whose_answer_is_lost_is_found(world: Story) -> None:
    """The task is there, so it is followed; a second start with its id would destroy it."""
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert world.card() == working(world)
    assert len(starts(world)) == 1
    assert world.conversation.messages == ["fix README"]


@pytest.mark.parametrize("restart", [False, True], ids=["the same process", "after a restart"])
async def test_a_start_whose_answer_is_lost_is_found_while_it_still_starts(make_world: Make, *, restart: bool) -> None:
    """Before it is ready only the list of start tasks knows it; what went out was written down before the call."""
    world = await make_world(openhands={"start_seconds": 14.0})
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    if restart:
        await world.restarts()
    await world.passes(10)
    assert world.card().state == "Starting"

    await world.passes(15)
    assert world.card() == working(world)
    assert len(starts(world)) == 1


async def test_a_start_whose_second_answer_is_lost_too_is_found(world: Story) -> None:
    """The first never arrived, the second did: one conversation, under the one id."""
    world.openhands.break_next("start", drop=True)
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(75)

    first, second = starts(world)
    assert first == second
    assert world.card() == working(world)
    assert world.conversation.messages == ["fix README"]


async def test_a_start_found_to_have_failed_is_told_and_retried_under_another_id(world: Story) -> None:
    """Its task is there, in error: an id that has a task is never posted again."""
    world.openhands.fail_next_start()
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)
    assert world.card().state == "Failed"
    assert "OpenHands took the task but could not start it." in world.card()
    assert len(world.news()) == 1

    await world.alice.says("retry", thread=world.cards()[0])
    await world.passes(6)
    assert world.card().state == "Working"
    first, second = starts(world)
    assert first["conversation_id"] != second["conversation_id"]
    world.logged("run.changed")


# --- looks that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("status", {"drop": True}),
        ("status", {"status": 404, "body": {"detail": "Not Found"}}),
        ("find_start", {"status": 422, "body": {"detail": "no"}}),
        ("find_start", {"html": True}),
    ],
    ids=["nothing", "404", "422", "a web page"],
)
async def test_a_look_that_fails_is_no_answer(world: Story, kind: str, fault: dict[str, Any]) -> None:
    """It may run, so nothing is posted and nothing given up, however long; after a minute the card says so."""
    world.openhands.start_seconds = 600.0  # so that only the list of start tasks can show it
    world.openhands.break_next("start", drop=True, after=True)
    world.openhands.break_next(kind, times=100, **fault)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(80)
    assert world.card() == Card("Starting", "fix README", (OUT_OF_REACH, f"{asked_by(world)} · {SINCE}"))

    world.openhands.recover()
    await world.passes(30)
    assert world.card() == Card("Starting", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert (len(starts(world)), len(world.openhands.tasks), world.news()) == (1, 1, [])
    world.logged("openhands.unreachable")


@pytest.mark.parametrize(
    ("api", "kind", "fault"),
    [
        ("v1", "find_start", {"status": 404, "body": {"detail": "Not Found"}}),
        ("v1", "find_start", {"status": 200, "body": {"items": "odd"}}),
        ("v0", "list", {"html": True}),
    ],
    ids=["404", "an odd list", "a web page of V0"],
)
async def test_a_start_that_can_never_be_looked_up_is_left_to_a_person(
    make_world: Make, api: str, kind: str, fault: dict[str, Any]
) -> None:
    """After ten minutes; Retry then first stops what may have started, and begins anew."""
    world = await make_world(openhands={"api": api, "start_seconds": 3600.0})
    world.openhands.break_next("start", drop=True, after=True)
    world.openhands.break_next(kind, times=1000, **fault)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(590)
    assert (world.card().state, world.news()) == ("Starting", [])

    await world.passes(70)
    assert (world.card().state, world.card().lines[0]) == ("Failed", why(Reason.START_UNSURE).split("\n")[0])
    assert len(world.news()) == len(starts(world)) == 1

    world.openhands.recover()
    world.openhands.start_seconds = 0
    await world.alice.says("retry", thread=world.cards()[0])
    await world.passes(90)
    assert world.card().state == "Working"
    world.logged("openhands.unreachable")
    world.logged("run.changed")


async def test_a_stop_of_a_start_that_cannot_be_looked_up_holds_when_it_turns_up(make_world: Make) -> None:
    """The run may be at work all the same: once a look shows it, it is stopped as asked."""
    world = await make_world(openhands={"start_seconds": 900.0})
    world.openhands.break_next("start", drop=True, after=True)
    world.openhands.break_next("find_start", times=1000, html=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(30)
    await world.alice.says("stop", thread=world.cards()[0])
    await world.passes(640)
    assert world.card().state == "Failed"

    await world.passes(900)
    assert world.card().state == "Stopped"
    assert not world.conversation.working
    world.logged("openhands.unreachable")
    world.logged("run.changed")
    world.leaves("#dev: ❌ Failed", "#dev: ⏹️ Stopped")


async def test_a_key_refused_while_a_start_is_looked_for_gives_nothing_up(world: Story) -> None:
    """The start may run all the same: the card names the key, and the look goes on once it is right again."""
    world.openhands.break_next("start", drop=True, after=True)
    world.openhands.break_next("status", status=401, body={"detail": "Unauthorized"}, times=100)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)
    assert world.card().state == "Starting"
    assert "rejected this bot's key" in world.card()

    world.openhands.recover()
    await world.passes(30)
    assert world.card() == working(world)
    assert (len(starts(world)), world.news()) == (1, [])


async def test_too_many_looks_are_no_full_account(world: Story) -> None:
    """A limit on calls says nothing about the start either."""
    world.openhands.break_next("start", drop=True, after=True)
    world.openhands.break_next("find_start", status=429, body={"message": "Too many requests"}, times=10)
    world.openhands.break_next("status", status=429, body={"message": "Too many requests"}, times=10)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(60)

    assert world.card() == working(world)
    assert len(starts(world)) == 1


# --- on its way for ever -----------------------------------------------------------------------------------------


async def test_a_start_that_gets_nowhere_is_told_and_can_be_retried(make_world: Make) -> None:
    """A server that restarts leaves a start task as it was, for ever: without news for long it has failed."""
    world = await make_world(start=False, openhands={"start_seconds": 100_000.0})
    world.patience = replace(world.patience, start_stuck_s=60.0)
    await world.starts()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(80)
    assert world.card().state == "Failed"
    assert len(world.news()) == 1

    world.openhands.start_seconds = 1.0
    await world.alice.says("retry", thread=world.cards()[0])
    await world.passes(6)
    assert world.card().state == "Working"
    first, second = starts(world)
    assert first["conversation_id"] != second["conversation_id"]
    world.logged("run.changed")


# --- nothing went out --------------------------------------------------------------------------------------------


async def test_a_start_that_never_left_is_simply_repeated(world: Story) -> None:
    """Where nobody listens nothing can have arrived: no minute of looking, as soon as somebody listens again."""
    port = urlsplit(world.openhands.base_url).port or 0
    await world.openhands.stop()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(80)
    assert world.card() == Card("Starting", "fix README", (OUT_OF_REACH, f"{asked_by(world)} · {SINCE}"))

    await world.openhands.start(port)
    await world.passes(40)
    assert world.card() == working(world)
    assert (len(starts(world)), looked(world)) == (1, 0)
    world.logged("openhands.unreachable")


# --- V0 ----------------------------------------------------------------------------------------------------------


async def test_a_start_lost_on_v0_is_found_by_its_words(make_world: Make) -> None:
    """V0 takes no id of ours: the list of conversations, and the first message in each, tell which it is."""
    world = await make_world(openhands={"api": "v0"})
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert world.card() == working(world)
    assert len(starts(world)) == 1
    assert world.conversation.messages == ["fix README"]


async def test_a_start_lost_on_v0_that_shows_its_words_late_is_waited_for(make_world: Make) -> None:
    """A runtime may take minutes to come up; a conversation without a message may be ours or anybody's."""
    world = await make_world(openhands={"api": "v0", "start_seconds": 70.0})
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(68)
    assert world.card() == Card("Starting", "fix README", (f"{asked_by(world)} · {SINCE}",))

    await world.passes(40)
    assert world.card() == working(world)
    assert len(starts(world)) == 1


async def test_a_start_lost_on_v0_that_never_shows_its_words_is_left_to_a_person(make_world: Make) -> None:
    """When a start would long be through it never will; whether it was ours only a person can see."""
    world = await make_world(start=False, openhands={"api": "v0"})
    world.patience = replace(world.patience, start_stuck_s=90.0)
    await world.starts()
    world.openhands.fail_next_start()
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(80)
    assert world.card().state == "Starting"

    await world.passes(40)

    assert world.card().state == "Failed"
    assert UNSURE in world.card()
    assert (len(starts(world)), len(world.news())) == (1, 1)
    world.logged("run.changed")


async def test_a_start_lost_on_v0_without_a_list_is_left_to_a_person(make_world: Make) -> None:
    """Where nothing can tell, the bot asks rather than start a second agent."""
    world = await make_world(openhands={"api": "v0", "v0_list": False})
    world.openhands.break_next("start", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert UNSURE in world.card()
    assert (len(starts(world)), len(world.news())) == (1, 1)

    await world.alice.says("retry", thread=world.cards()[0])
    await world.passes(10)
    assert world.card().state == "Working"
    assert len(starts(world)) == 2
    world.logged("run.changed")
