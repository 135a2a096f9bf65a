"""People talk in a run's thread: what is not for the agent neither wakes it nor is answered."""

import re

import pytest

from tests.conftest import Story
from tests.stories.shared import labels
from tests.watch import is_card


async def at_rest(world: Story) -> None:
    """Let a run end, and look at all that it leaves."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(6)
    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(6)
    assert world.card().state == "Done"
    assert len(world.news()) == len(world.news("#news")) == 1
    assert world.reactions(asked) == ["eyes", "white_check_mark"]


@pytest.mark.parametrize("text", ["thanks!", "lol", ":tada:", "{bob} can you review that?"])
async def test_talk_under_a_run_at_rest_changes_nothing(world: Story, text: str) -> None:
    """No reaction, no turn, no news; the card keeps its result."""
    await at_rest(world)
    [card] = world.cards()
    said = await world.bob.says(text.replace("{bob}", f"<@{world.alice.id}>"), thread=card)
    await world.passes(40)

    assert world.reactions(said) == []
    assert world.card().state == "Done"
    assert world.conversation.messages == ["fix README"]
    assert len(world.news()) == len(world.news("#news")) == 1


async def test_a_mention_of_the_bot_is_for_the_agent_whoever_else_is_named(world: Story) -> None:
    """Whoever mentions the bot means it."""
    await at_rest(world)
    [card] = world.cards()
    await world.bob.says(f"@OpenHands say why, <@{world.alice.id}> asks", thread=card)
    await world.passes(6)

    assert world.conversation.messages == ["fix README", f"say why, <@{world.alice.id}> asks"]
    assert world.card().state == "Working"


@pytest.mark.parametrize("text", ["please stop", "stop 🛑", "stop please", "@OpenHands stop it"])
async def test_a_stop_with_manners_stops(world: Story, text: str) -> None:
    """The agent is interrupted, and is sent nothing."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(6)
    await world.alice.says(text, thread=asked)
    await world.passes(6)

    assert world.card().state == "Stopped"
    assert world.conversation.messages == ["fix README"]
    world.leaves("#dev: ⏹️ Stopped", "outbox: stop")


@pytest.mark.parametrize(("text", "answer"), [("hi", "works on your code"), ("status please", "no live run")])
async def test_first_words_are_answered_and_start_nothing(world: Story, text: str, answer: str) -> None:
    """Only to who wrote them."""
    await world.alice.commands(text, in_="#dev")
    await world.alice.says(f"@OpenHands {text}", in_="#dev")

    told = world.alice.sees()
    assert len(told) == 2
    assert all(answer in text for text in told)
    assert world.cards() == []


async def test_who_replied_is_called_and_the_first_result_stays(world: Story) -> None:
    """Alice has her answer, which the card keeps; the team hears again only of another pull request."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(10)
    world.openhands.finish(world.conversation, "Fixed, see https://github.com/org/repo/pull/7")
    await world.passes(3600)
    await world.bob.says("is the licence right?", thread=asked)
    await world.passes(10)
    world.openhands.finish(world.conversation, "It is MIT.")
    await world.passes(10)
    await world.bob.says("and fix the docs", thread=asked)
    await world.passes(10)
    world.openhands.finish(world.conversation, "See https://github.com/org/repo/pull/8")
    await world.passes(10)

    assert [line.split("\n")[0] for line in world.news()] == [
        f"<@{world.alice.id}> ✅ Done",
        f"<@{world.bob.id}> ✅ Done",
        f"<@{world.bob.id}> ✅ Done",
    ]
    assert "First result: Fixed, see https://github.com/org/repo/pull/7" in world.card()
    assert re.search(r"· took \d\d s$", world.card().lines[-1])
    one, two = (f"<https://github.com/org/repo/pull/{number}|org/repo #{number}>" for number in (7, 8))
    for_alice = f"for <@{world.alice.id}>"
    assert [line.rsplit(" · ", 2)[0] for line in world.news("#news")] == [
        f"✅ Done: fix README · {one} · {for_alice}",
        f"✅ Done: fix README · {one}, {two} · {for_alice}",
    ]


async def test_a_message_that_tells_to_press_a_button_has_it(world: Story) -> None:
    """Whoever reads it far down in the thread need not look for the card."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(6)
    [told] = [one for one in world.posts("#dev") if "✋" in one.text and one.thread_ts == asked.ts and not is_card(one)]
    assert labels(told) == ["Approve", "Reject"]
    await world.bob.clicks("approve", told)
    await world.passes(6)

    assert world.card().state == "Working"
