"""An answer that never comes: the bot looks before it repeats, so that nothing is there twice and nothing is missing."""

from typing import Any

import pytest

from bot.core import words
from bot.core.pacing import Patience
from tests.conftest import Card, Make, Story
from tests.stories.shared import SINCE, asked_by, reactions, working

ASKS_SOON = Patience(ping_s=0.2, drain_s=5.0, unsure_person_s=60.0)
"""A person is asked after one minute instead of ten."""


def calls(world: Story, kind: str) -> int:
    return sum(call.kind == kind for call in world.openhands.calls)


# --- posts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["the same process", "after a restart"])
async def test_a_card_whose_answer_is_lost_is_not_posted_twice(world: Story, *, restart: bool) -> None:
    """Slack took the message but its reply never came: it is found by the id it carries."""
    world.slack.fail("chat.postMessage", after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    if restart:
        await world.restarts()
    await world.passes(12)

    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert len(world.posts("#dev")) == 1
    assert world.conversation.messages == ["fix README"]


@pytest.mark.parametrize(
    "fault",
    [{"drop": True}, {"status": 500}, {"html": True}, {"error": "internal_error"}],
    ids=["nothing", "500", "a web page", "internal_error"],
)
async def test_a_card_that_did_not_arrive_is_posted_again(world: Story, fault: dict[str, Any]) -> None:
    """Looked for, not found after a few seconds, posted once more."""
    world.slack.fail("chat.postMessage", **fault)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(12)

    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert len(world.posts("#dev")) == 1


@pytest.mark.parametrize("restart", [False, True], ids=["the same process", "after a restart"])
async def test_the_end_is_told_once_though_the_answer_is_lost(world: Story, *, restart: bool) -> None:
    """The same for the news in the thread: one message, one ping."""
    await working(world)
    world.slack.fail("chat.postMessage", after=True)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(2)
    if restart:
        await world.restarts()
    await world.passes(12)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ✅ Done")


async def test_a_search_that_fails_is_no_reason_to_post_again(world: Story) -> None:
    """Slack is in trouble as a whole: the card waits until it can be told whether it is there."""
    world.slack.fail("chat.postMessage", after=True)
    world.slack.fail("conversations.history", status=500, times=3)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(40)

    assert world.card().state == "Working"
    assert len(world.posts("#dev")) == 1


async def test_an_edit_whose_answer_is_lost_is_repeated(world: Story) -> None:
    """Equal edits may be repeated; the card ends up true."""
    await working(world)
    world.slack.fail("chat.update", after=True, times=2)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(20)

    assert (world.card().state, world.card().lines[0]) == ("Done", "Fixed two links.")
    world.leaves("#dev: ✅ Done")


async def test_an_answer_for_one_person_is_not_said_twice(world: Story) -> None:
    """Nobody can look whether it arrived, so it is said at most once."""
    world.slack.fail("response_url", after=True)
    await world.alice.commands("list", in_="#dev")
    await world.passes(30)

    assert world.alice.sees() == [words.runs([])]


# --- follow-ups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [False, True], ids=["the same process", "after a restart"])
@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 502}], ids=["nothing", "502"])
async def test_a_follow_up_whose_answer_is_lost_is_not_sent_twice(
    world: Story, fault: dict[str, Any], *, restart: bool
) -> None:
    """Its event shows that it arrived; the later one goes only then."""
    card = await working(world)
    world.openhands.break_next("send", after=True, **fault)
    first = await world.alice.says("and the docs", thread=card)
    second = await world.bob.says("and the changelog", thread=card)
    if restart:
        await world.restarts()
    await world.passes(12)

    assert world.conversation.messages == ["fix README", "and the docs", "and the changelog"]
    assert [reactions(world, one.ts) for one in (first, second)] == [["eyes"]] * 2
    assert world.news() == []


async def test_a_follow_up_that_never_arrived_is_sent_again_when_the_agent_rests(world: Story) -> None:
    """While the agent works it may still be on its way; after 35 quiet seconds it surely is not."""
    card = await working(world)
    world.openhands.break_next("send", status=502)
    said = await world.alice.says("and the docs", thread=card)
    await world.passes(60)
    assert world.conversation.messages == ["fix README"]

    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(60)
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert reactions(world, said.ts) == ["eyes"]
    assert calls(world, "send") == 2
    world.leaves("#dev: card 🛠️ Working", "#dev: ✅ Done")


async def test_a_follow_up_nobody_can_find_is_left_to_a_person(make_world: Make) -> None:
    """After a while its author is asked; later replies wait, and `again` sends them in order."""
    world = await make_world(start=False)
    world.patience = ASKS_SOON
    await world.starts()
    card = await working(world)
    world.openhands.break_next("send", status=502)
    await world.bob.says("and the docs", thread=card)
    await world.alice.says("and the changelog", thread=card)
    await world.passes(75)

    assert world.news() == [f"<@{world.bob.id}> {words.follow_up_unsure('and the docs')}"]
    assert world.conversation.messages == ["fix README"]

    await world.alice.says("again", thread=card)
    await world.passes(4)
    assert world.conversation.messages == ["fix README", "and the docs", "and the changelog"]
    assert len(world.news()) == 1
    world.leaves("#dev: card 🛠️ Working")


async def test_a_follow_up_nobody_can_find_can_be_left(make_world: Make) -> None:
    """`leave it` drops that one message; the later one goes."""
    world = await make_world(start=False)
    world.patience = ASKS_SOON
    await world.starts()
    card = await working(world)
    world.openhands.break_next("send", status=502)
    await world.alice.says("and the docs", thread=card)
    await world.bob.says("and the changelog", thread=card)
    await world.passes(75)
    await world.alice.says("leave it", thread=card)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the changelog"]
    assert world.news()[1:] == ["All right, I leave it as it is."]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_stop_whose_answer_is_lost_is_repeated(world: Story) -> None:
    """An interrupt may be repeated: the run is stopped either way, and told once."""
    card = await working(world)
    world.openhands.break_next("interrupt", drop=True, after=True)
    await world.bob.says("stop", thread=card)
    await world.passes(10)

    stopped = f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\n{stopped}"]
    assert world.card().state == "Stopped"


async def test_a_stop_lost_on_every_way_is_repeated(world: Story) -> None:
    """Neither the agent server nor the app server answers: the stop stays owed until one of them does."""
    card = await working(world)
    world.openhands.break_next("interrupt", drop=True)
    world.openhands.break_next("sandbox_pause", drop=True)
    await world.bob.says("stop", thread=card)
    await world.passes(10)

    stopped = f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\n{stopped}"]
    assert world.conversation.interrupts == 1
    world.leaves("#dev: card ⏹️ Stopped", "outbox: stop")
