"""Ends: each end of each turn is told once, whatever crosses it."""

from dataclasses import replace

import pytest

from bot.core import words
from bot.core.model import Reason, RunState
from bot.simulator.openhands import events_v1
from bot.simulator.world import Said
from tests.conftest import Make, Story, read_card
from tests.stories.shared import permalink, why


async def working(world: Story) -> Said:
    """Let alice start a run and give her request; its agent works, and is looked at every 30 seconds."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(1200)
    return asked


def calls(world: Story, kind: str) -> int:
    return [call.kind for call in world.openhands.calls].count(kind)


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
    assert len(world.news("#news")) == 1
    assert world.card().state == "Done"


async def test_an_end_in_the_moment_of_the_send_is_told(world: Story) -> None:
    """The agent ends after the look that goes before a message, and before the message arrives."""
    asked = await working(world)

    async def ends(when: str, kind: str) -> None:
        if (when, kind) == ("before", "send") and world.conversation.working:
            world.openhands.finish(world.conversation, "First answer, see https://github.com/org/repo/pull/7.")

    world.openhands.on_call = ends
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(10)
    world.openhands.on_call = None

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.card().state == "Working"
    [first] = world.news()
    assert first.startswith(f"<@{world.alice.id}> ✅ Done\nFirst answer, see")
    assert "https://github.com/org/repo/pull/7" in first
    assert len(world.news("#news")) == 1

    world.openhands.finish(world.conversation, "Fixed the licence.")
    await world.passes(40)
    assert [one.split("\n")[1] for one in world.news()[1:]] == ["Fixed the licence."]
    assert world.card().state == "Done"
    assert len(world.news("#news")) == 1


async def test_a_reply_does_not_overtake_a_question(world: Story) -> None:
    """Nor what the agent asks: it is told first, and the reply is the next turn."""
    asked = await working(world)
    world.openhands.ask(world.conversation, "Which licence do you want?")
    await world.passes(1)
    await world.alice.says("and the changelog", thread=asked)
    await world.passes(4)

    assert world.news() == [f"<@{world.alice.id}> 💬 Has a question\nWhich licence do you want?\nReply here to answer."]
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
    assert world.reactions(reply) == []
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


async def test_one_null_is_not_the_end(world: Story) -> None:
    """A replica that lags, or a fault between two servers: one look is not believed."""
    await working(world)
    world.openhands.break_next("status", status=200, body=[None])
    await world.passes(60)
    assert world.card().state == "Working"
    assert world.news() == []

    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(40)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    world.leaves("#dev: card ✅ Done")


async def test_a_silent_agent_server_that_comes_back_is_no_loss(world: Story) -> None:
    """A network fault between OpenHands and its sandboxes silences every run; two minutes of that mean nothing."""
    await working(world)
    world.conversation.destroyed = True
    await world.passes(200)
    world.conversation.destroyed = False
    assert world.card().state == "Working"

    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(40)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    world.leaves("#dev: card ✅ Done")


@pytest.mark.parametrize("away", ["deleted", "destroyed"])
async def test_a_lost_run_that_comes_back_is_told_how_it_ended(world: Story, away: str) -> None:
    """It was out of sight for an hour; it is looked at now and then, and its end is told."""
    await working(world)
    setattr(world.conversation, away, True)
    await world.passes(3600)
    assert world.card().state == "Lost"
    reason = Reason.GONE if away == "deleted" else Reason.SILENT
    assert world.news() == [f"<@{world.alice.id}> ⚠️ Lost\n{why(reason, RunState.LOST)}"]
    before = calls(world, "status")
    await world.passes(3600)
    assert calls(world, "status") - before < 10

    setattr(world.conversation, away, False)
    await world.passes(1500)
    assert world.card().state == "Working"
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(60)

    assert world.news()[1:] == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    assert world.card().state == "Done"
    assert len(world.news("#news")) == 2
    world.leaves("#dev: eyes, x, white_check_mark on a message")


async def test_a_stop_of_a_run_that_gets_lost_is_not_forgotten(world: Story) -> None:
    """Its conversation is out of sight when somebody stops it: once it is back, it is stopped."""
    card = await working(world)
    world.conversation.deleted = True
    await world.alice.says("stop", thread=card)
    await world.passes(400)
    assert world.card().state == "Lost"
    world.conversation.deleted = False
    await world.passes(700, stopping_at_all=True)

    assert world.card().state == "Stopped"
    assert calls(world, "interrupt") == 1
    world.leaves("#dev: ⚠️ Lost", "#dev: ⏹️ Stopped", "#dev: eyes, x on a message")


async def test_one_answer_that_a_sandbox_is_not_there_loses_no_reply(world: Story) -> None:
    """As from a server's copy that lags behind: the message is sent again, and arrives."""
    card = await working(world)
    world.openhands.interrupt(world.conversation)
    await world.passes(10)
    world.openhands.break_next("send", status=404, body={"detail": "Sandbox not found"}, times=3)
    await world.alice.says("and the docs", thread=card)
    await world.passes(60)

    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.leaves("#dev: ⏸️ Paused")


async def test_a_lost_run_that_ended_meanwhile_is_told(world: Story) -> None:
    """Nobody saw it work again: its words are there, and are told."""
    await working(world)
    world.conversation.destroyed = True
    await world.passes(600)
    assert world.card().state == "Lost"
    world.conversation.destroyed = False
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(700)

    assert len(world.news()) == 2
    assert world.news()[1] == f"<@{world.alice.id}> ✅ Done\nFixed it."
    assert world.card().state == "Done"
    world.leaves("#dev: eyes, x, white_check_mark on a message")


async def test_a_lost_run_is_not_looked_at_for_ever(make_world: Make) -> None:
    """After a day (here 20 minutes) it is really gone, and costs nothing any more."""
    world = await make_world(start=False)
    world.patience = replace(world.patience, poll_ended_s=1200.0)
    await world.starts()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.vanish(world.conversation)
    await world.passes(1900)
    before = calls(world, "status")
    await world.passes(1200)

    assert calls(world, "status") == before
    assert world.card().state == "Lost"
    assert len(world.news()) == 1


async def test_a_retry_first_stops_what_may_live(world: Story) -> None:
    """Two agents on one repository would undo each other's work."""
    await working(world)
    old = world.conversation
    old.destroyed = True
    await world.passes(600)
    assert world.card().state == "Lost"
    old.destroyed = False
    await world.alice.clicks("retry", world.cards()[0])
    await world.passes(10)

    assert [call.kind for call in world.openhands.calls if call.kind in ("start", "interrupt")][-2:] == [
        "interrupt",
        "start",
    ]
    assert not old.working
    assert world.card().state == "Working"
    assert len(world.news()) == 1
    world.leaves("#dev: eyes, x on a message")


async def test_a_retry_says_what_it_could_not_stop(world: Story) -> None:
    """The new conversation starts after a minute anyway; people are told where to look."""
    await working(world)
    old = world.conversation
    old.destroyed = True
    await world.passes(600)
    world.openhands.break_next("interrupt", status=500, times=100)
    world.openhands.break_next("sandbox_pause", status=500, times=100)
    await world.alice.clicks("retry", world.cards()[0])
    await world.passes(100)

    assert len(world.openhands.conversations) == 2
    assert world.news()[1:] == [f"<@{world.alice.id}> {words.old_not_stopped()}"]
    assert world.card().state == "Working"
    world.leaves("#dev: eyes, x on a message")


async def test_a_run_that_alone_cannot_be_seen_says_so(world: Story) -> None:
    """OpenHands fails when it is asked for this one: its own card says so after a minute, until it is seen."""
    await world.bob.commands("update the docs in org/docs", in_="#dev")
    await world.passes(4)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.break_about(list(world.openhands.conversations.values())[1], "status", status=500)
    await world.passes(150)

    other, blind = (read_card(card) for card in world.cards())
    assert "I haven't got through to OpenHands" in blind
    assert "I haven't got through to OpenHands" not in other
    assert len(world.logged("run.unseen")) == 1

    world.openhands.recover()
    await world.passes(70)
    blind = read_card(world.cards()[1])
    assert blind.state == "Working"
    assert "I haven't got through to OpenHands" not in blind


async def test_a_finish_on_the_last_step_is_told(world: Story) -> None:
    """The server calls it an error, since the limit of steps is reached; the answer and its link are there."""
    await working(world)
    agent = world.conversation
    world.openhands._add(agent, events_v1.finish("Fixed it: https://github.com/org/repo/pull/7"))
    world.openhands.fail(agent, "MaxIterationsReached", "Agent reached maximum iterations limit (500).")
    await world.passes(40)

    [told] = world.news()
    assert told.startswith(f"<@{world.alice.id}> ✅ Done\nThe agent finished just as it reached its limit of steps.")
    assert "https://github.com/org/repo/pull/7" in told
    assert world.card().state == "Done"
    assert "limit of steps" in world.card()


async def test_a_run_that_answered_rests_after_an_hour(world: Story) -> None:
    """It costs nothing any more, and is not what `stop` means; a reply wakes it."""
    card = await world.alice.says("@OpenHands what does the build do in org/repo")
    await world.passes(4)
    old = world.conversation
    world.openhands.ask(old, "It compiles the docs.")
    await world.passes(600)
    before = calls(world, "events") + calls(world, "agent_events")
    await world.passes(3300)
    assert calls(world, "events") + calls(world, "agent_events") == before
    looks = calls(world, "status")
    await world.passes(1200)
    assert calls(world, "status") == looks

    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.alice.commands("stop", in_="#dev")
    await world.passes(10)
    assert world.alice.sees()[-1] == words.stopping(permalink(world, world.cards()[-1]))
    assert sorted(read_card(one).state for one in world.cards()) == ["Answered", "Stopped"]

    await world.bob.says("and the tests?", thread=card)
    await world.passes(6)
    assert old.messages[-1] == "and the tests?"
    assert "Working" in [read_card(one).state for one in world.cards()]
    assert len(world.news()) == 2
