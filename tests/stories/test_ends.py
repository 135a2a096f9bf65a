"""Ends: each end of each turn is told once, whatever crosses it."""

from bot.simulator.world import Said
from tests.conftest import Story


async def working(world: Story) -> Said:
    """Let alice start a run and give her request; its agent works, and is looked at every 30 seconds."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(1200)
    return asked


async def test_a_reply_does_not_overtake_the_end(world: Story) -> None:
    """The agent ends, and somebody replies before the next look: the end is told before the message goes out."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "First answer, see https://github.com/org/repo/pull/7.")
    await world.passes(1)
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(4)

    first = world.news()
    assert len(first) == 1
    assert first[0].startswith(f"<@{world.alice.id}> ✅ Done\nFirst answer, see")
    assert "https://github.com/org/repo/pull/7" in first[0]
    assert len(world.news("#news")) == 1
    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.card().state == "Working"

    world.openhands.finish(world.conversation, "Fixed the licence.")
    await world.passes(40)
    assert world.news()[1:] == [
        f"<@{world.alice.id}> ✅ Done\nFixed the licence.\nPull requests: <https://github.com/org/repo/pull/7|org/repo #7>"
    ]
    assert len(world.news("#news")) == 2
    assert world.card().state == "Done"


async def test_a_reply_does_not_overtake_a_question(world: Story) -> None:
    """Nor what the agent asks: it is told first, and the reply is the next turn."""
    asked = await working(world)
    world.openhands.ask(world.conversation, "Which licence do you want?")
    await world.passes(1)
    await world.alice.says("and the changelog", thread=asked)
    await world.passes(4)

    assert world.news() == [f"<@{world.alice.id}> 💬 Has a question\nReply here to answer.\nWhich licence do you want?"]
    assert world.conversation.messages == ["fix README", "and the changelog"]
    assert world.card().state == "Working"


async def test_a_reply_waits_for_words_that_are_late(world: Story) -> None:
    """The status says that the turn is over before its words can be read: the message goes out after them."""
    world.openhands.events_lag_s = 6
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(1)
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(20)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.card().state == "Working"


async def test_a_reply_does_not_approve_what_began_to_wait_since_the_last_look(world: Story) -> None:
    """A message then would count as approval: it is held, and people are asked first."""
    asked = await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(1)
    reply = await world.alice.says("and the licence too", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README"]
    assert world.reactions(reply) == ["eyes"]
    assert world.card().state == "Needs approval"
    assert len(world.news()) == len(world.news("#news")) == 1
    world.leaves("outbox: send")


async def test_a_reply_is_sent_though_the_look_before_it_fails(world: Story) -> None:
    """OpenHands does not answer for a moment: the look is made again, then the message goes out."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(1)
    world.openhands.break_next("status", status=500)
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.card().state == "Working"
