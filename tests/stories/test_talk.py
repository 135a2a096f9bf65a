"""People talk in a run's thread: what is not for the agent neither wakes it nor is answered."""

import pytest

from tests.conftest import Story


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
