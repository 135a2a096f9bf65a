"""The process ends and another one begins: everything goes on from the tables, and what was missed is told."""

import asyncio

from bot.core import words
from bot.core.pacing import Patience
from tests.conftest import Card, Make, Story, until
from tests.stories.shared import SINCE, asked_by


async def test_a_run_that_ended_while_the_bot_was_down_is_told(world: Story) -> None:
    """The card, the thread and the team catch up."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.stops()
    world.openhands.finish(world.conversation, "Fixed two links.", cost=0.12)
    await world.passes(600)
    assert world.news() == []

    await world.starts()
    await world.passes(4)
    assert world.card() == Card(
        "Done", "fix README", ("Fixed two links.", f"{asked_by(world)} · took 10 min 4 s · $0.12")
    )
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert len(world.news("#news")) == 1


async def test_a_working_run_is_followed_by_the_next_process(world: Story) -> None:
    """A restart is only a longer pause: no new card, no message."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.restarts()
    await world.passes(10)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert world.news() == []

    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(4)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert len(world.openhands.conversations) == 1
    world.leaves("#dev: card ✅ Done")


async def test_a_start_on_its_way_is_followed_by_the_next_process(make_world: Make) -> None:
    """The start task is in the database; nothing is started a second time."""
    world = await make_world(openhands={"start_seconds": 14.0})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.restarts()
    await world.passes(20)

    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert [call.kind for call in world.openhands.calls].count("start") == 1


async def test_a_question_for_a_repository_survives(world: Story) -> None:
    """It does not expire either: the answer a day later starts the run."""
    await world.alice.commands("fix README", in_="#dev")
    await world.stops()
    await world.passes(86_400)
    await world.starts()
    await world.bob.says("org/repo", thread=world.cards()[0])
    await world.passes(8)

    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} (chosen here) · {SINCE}",))
    assert world.conversation.repository == "org/repo"


async def test_held_replies_go_out_after_the_restart_in_order(make_world: Make) -> None:
    """Replies written while the run was starting are in the database, each once."""
    world = await make_world(openhands={"start_seconds": 14.0})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    card = world.cards()[0]
    await world.alice.says("and the docs", thread=card)
    await world.bob.says("and the changelog", thread=card)
    await world.restarts()
    await world.passes(24)

    assert world.conversation.messages == ["fix README", "and the docs", "and the changelog"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_stop_asked_for_before_the_restart_is_carried_out(make_world: Make) -> None:
    """Kept while the run starts, sent when it is ready, by whatever process is there then."""
    world = await make_world(openhands={"start_seconds": 14.0})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.bob.says("stop", thread=world.cards()[0])
    await world.restarts()
    await world.passes(24)

    stopped = f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert world.card().state == "Stopped"
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\n{stopped}"]
    assert world.conversation.interrupts == 1


async def test_an_edit_owed_is_made_by_the_next_process(world: Story) -> None:
    """A card that is behind is a debt in the database, not in memory."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.slack.fail("chat.update", status=500, times=1)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(2)
    await world.restarts()
    await world.passes(4)

    assert (world.card().state, world.card().lines[0]) == ("Done", "Fixed two links.")
    assert len(world.news()) == 1


async def test_the_thread_of_a_finished_run_still_wakes_it_after_a_restart(world: Story) -> None:
    """No state is final: which thread is whose is in the database."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)
    await world.restarts()
    await world.bob.says("and the docs", thread=world.cards()[0])
    await world.passes(8)

    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.leaves("#dev: ✅ Done")


async def test_a_request_redelivered_to_the_next_process_is_the_same_request(world: Story) -> None:
    """Its key outlives the process: no second run of it."""
    said = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.restarts()
    await world.slack.redeliver(said.ts)
    await world.passes(4)

    assert len(world.cards()) == 1
    assert len(world.openhands.conversations) == 1


async def test_a_stop_of_the_process_lets_a_call_end(make_world: Make) -> None:
    """SIGTERM: what is under way ends within the drain time, and its answer is kept."""
    world = await make_world(start=False)
    world.patience = Patience(ping_s=0.2, drain_s=5.0)
    await world.starts()
    world.openhands.break_next("start", hang_s=0.3, after=True)
    asking = asyncio.create_task(world.alice.commands("fix README in org/repo", in_="#dev"))
    await until(lambda: any(call.kind == "start" for call in world.openhands.calls))
    await world.stops()
    await asking
    assert [call.kind for call in world.openhands.calls].count("find_start") == 0

    await world.starts()
    await world.passes(8)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert [call.kind for call in world.openhands.calls].count("start") == 1
    assert [call.kind for call in world.openhands.calls].count("find_start") == 0


async def test_what_arrives_while_the_process_drains_is_left_to_the_next_one(world: Story) -> None:
    """No ack for a mention, so Slack brings it again; a command is declined in words, since Slack will not.

    Nothing is wrong with that, so nothing is logged as if it were.
    """
    world.openhands.break_next("start", hang_s=0.4, after=True)
    await world.slack.command(world.alice.id, world.place("#dev"), "fix README in org/repo")
    await until(lambda: any(call.kind == "start" for call in world.openhands.calls))
    stopping = asyncio.create_task(world.stops())
    await asyncio.sleep(0)
    declined = await world.slack.command(world.bob.id, world.place("#dev"), "update the docs in org/docs")
    mention = world.slack.wire("@OpenHands fix the links in org/links")
    await world.slack.say(world.bob.id, world.place("#dev"), mention)
    await stopping
    assert declined.ack_text == words.not_saved(perhaps=False)
    mentions = [one for one in world.slack.deliveries if one.event_id and "org/links" in str(one.payload)]
    assert [one.acked_at for one in mentions] == [None, None]

    await world.starts()
    await world.passes(75)
    assert sorted(message for one in world.openhands.conversations.values() for message in one.messages) == [
        "fix README",
        "fix the links",
    ]
    assert len(world.cards()) == 2
    world.leaves("bob alone: I could not save your request")


async def test_a_call_that_does_not_end_is_cut_off_and_looked_up_later(make_world: Make) -> None:
    """The drain time has an end; the next process finds out what became of the call."""
    world = await make_world(start=False)
    world.patience = Patience(ping_s=0.2, drain_s=0.1)
    await world.starts()
    world.openhands.break_next("start", hang_s=30, after=True)
    asking = asyncio.create_task(world.alice.commands("fix README in org/repo", in_="#dev"))
    await until(lambda: any(call.kind == "start" for call in world.openhands.calls))
    await world.stops()
    await asking

    await world.starts()
    await world.passes(8)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert [call.kind for call in world.openhands.calls].count("start") == 1
