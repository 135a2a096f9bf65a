"""Servers that lack calls which newer ones have: what people see, and that nothing is asked of them for ever."""

from bot.core import words
from bot.simulator.openhands.wire import NOT_FOUND
from tests.conftest import Card, Make, Story
from tests.stories.shared import SINCE, asked_by, working


def calls(world: Story, *kinds: str) -> list[str]:
    """Return the calls of these kinds, in order."""
    return [call.kind for call in world.openhands.calls if call.kind in kinds]


def page(world: Story) -> str:
    return f"{world.openhands.base_url}/conversations/{world.conversation.id}"


async def test_where_nothing_can_be_interrupted_a_stop_pauses_the_agent(make_world: Make) -> None:
    """Agent servers got the call for an interrupt late; the older pause does as well."""
    world = await make_world(openhands={"lacks": ["interrupt"]})
    card = await working(world)
    await world.alice.says("stop", thread=card)
    await world.passes(120)

    assert world.conversation.state == "paused"
    assert world.card().state == "Stopped"
    assert world.conversation.sandbox_status == "RUNNING"
    assert set(calls(world, "interrupt", "pause", "sandbox_pause")) == {"interrupt", "pause"}
    world.leaves("#dev: ⏹️ Stopped")


async def test_where_no_agent_can_be_paused_either_its_sandbox_is(make_world: Make) -> None:
    """The last way is the app server's."""
    world = await make_world(openhands={"lacks": ["interrupt", "pause"]})
    card = await working(world)
    await world.alice.says("stop", thread=card)
    await world.passes(120)

    assert world.conversation.sandbox_status == "PAUSED"
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped")


async def test_a_server_that_takes_no_messages_is_told_of_once(make_world: Make) -> None:
    """The first reply comes back with the place where it can be written, each later one with a sign; the run goes on."""
    world = await make_world(openhands={"lacks": ["send"]})
    card = await working(world)
    await world.bob.says("and the docs", thread=card)
    await world.passes(10)
    later = await world.alice.says("and the licence", thread=card)
    await world.passes(110)

    assert world.news() == [f"<@{world.bob.id}> {words.follow_up_unsupported(page(world))}"]
    assert calls(world, "send") == ["send", "send"]
    assert world.reactions(later) == ["x"]
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    world.leaves("#dev: x on a message")


async def test_a_message_for_a_conversation_that_is_there_and_unknown_comes_back(world: Story) -> None:
    """Polls show the conversation, sends do not find it: after some minutes that is said, not tried for ever."""
    card = await working(world)
    world.openhands.break_next("send", status=404, body={"detail": "Conversation 1 not found"}, times=1_000)
    await world.bob.says("and the docs", thread=card)
    await world.passes(900)

    assert world.news() == [f"<@{world.bob.id}> {words.follow_up_given_up(page(world))}"]
    assert len(calls(world, "send")) == 13
    assert world.card().state == "Working"
    world.leaves("#dev: x on a message")


async def test_a_stop_of_a_conversation_that_is_there_and_unknown_is_given_up_aloud(world: Story) -> None:
    """The same for a stop: the card no longer promises it."""
    card = await working(world)
    world.openhands.break_next("interrupt", status=400, body={"detail": "Bad Request"}, times=1_000)
    world.openhands.break_next("sandbox_pause", status=400, body={"detail": "Bad Request"}, times=1_000)
    await world.alice.says("stop", thread=card)
    await world.passes(900)

    assert world.news() == [f"<@{world.alice.id}> {words.cannot_stop(page(world))}"]
    assert len(calls(world, "interrupt")) + len(calls(world, "sandbox_pause")) == 4
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))


async def test_a_decision_on_a_conversation_that_is_there_and_unknown_is_given_up_aloud(world: Story) -> None:
    """And for an approval: what waits can be decided anew."""
    await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(10)
    world.openhands.break_next("respond", status=404, body=NOT_FOUND, times=1_000)
    await world.alice.clicks("approve", world.cards()[0])
    await world.passes(900)

    assert world.news()[1:] == [f"<@{world.alice.id}> {words.decision_lost(page(world))}"]
    assert len(calls(world, "respond")) == 13
    assert world.card().state == "Needs approval"
