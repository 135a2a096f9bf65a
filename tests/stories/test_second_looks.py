"""Looks that fail, words that were told before, and calls that somebody calls off: never twice, never in silence."""

from dataclasses import replace
from datetime import timedelta

from bot.core import words
from bot.simulator.slack.records import Message
from tests.conftest import Make, Story, until
from tests.stories.shared import permalink, starts, working


async def done(world: Story) -> Message:
    """Have a run that is done, and give its card."""
    card = await working(world)
    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(5)
    return card


def looks(world: Story) -> int:
    return sum(call.kind == "agent_events" for call in world.openhands.calls)


def sends(world: Story) -> int:
    return sum(call.kind == "send" for call in world.openhands.calls)


# --- posts ------------------------------------------------------------------------------------------------------


async def test_a_busy_search_is_no_reason_to_post_again(world: Story) -> None:
    """The card's answer was lost and Slack is too busy to look: what is unknown stays unknown."""
    world.slack.fail("chat.postMessage", after=True)
    world.slack.fail("conversations.history", status=429, retry_after=5)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(60)
    assert len(world.posts("#dev")) == 1
    assert world.card().state == "Working"


async def test_a_search_without_a_scope_is_no_reason_to_post_again(world: Story) -> None:
    """Until an operator acts nothing can tell whether the card is there."""
    world.slack.fail("chat.postMessage", after=True)
    world.slack.fail("conversations.history", error="missing_scope")
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(200)
    assert len(world.posts("#dev")) == 1
    world.logged("slack.locked")


async def test_posts_in_one_channel_keep_a_second_apart(world: Story) -> None:
    """Slack never has to say no, which would close every other channel too."""
    for number in range(12):
        await world.alice.says(f"@OpenHands task {number} in org/repo", in_="#dev")
    await world.passes(60)
    assert [one for one in world.slack.calls if one.method == "chat.postMessage" and one.error == "ratelimited"] == []
    assert len(world.cards()) == 12


async def test_a_reply_under_a_card_that_came_back_reaches_the_agent(world: Story) -> None:
    """The card was deleted and posted once more, that answer got lost, and somebody replies under it at once."""
    card = await working(world)
    await world.slack.delete(world.slack.bot_user_id, card.channel, card.ts)
    world.slack.fail("chat.postMessage", after=True)
    world.openhands.progress(world.conversation, "Reading")
    await world.passes(4)
    await world.alice.says("and the docs", thread=world.cards()[0])
    await world.passes(30)
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.leaves("#dev: card 🛠️ Working")
    world.logged("card.gone")


# --- ends that were told before ---------------------------------------------------------------------------------


async def test_the_end_of_a_message_that_was_thought_lost_is_told_once(world: Story) -> None:
    """Its answer was a 502; the agent took it, finished, and the end was told before the message was found."""
    card = await working(world)
    world.openhands.break_next("send", status=502, after=True)
    await world.alice.says("and the docs", thread=card)
    world.openhands.finish(world.conversation, "Docs too.")
    await world.passes(60)
    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nDocs too."]


async def test_the_end_after_a_long_command_is_told_once(make_world: Make) -> None:
    """While a command runs the server gives up on the message, and takes it when the command ends."""
    world = await make_world(notify_channel="#news")
    card = await working(world)
    world.openhands.work_on(world.conversation, "make test", seconds=47)
    await world.alice.says("and the docs", thread=card)
    await world.passes(48)
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.openhands.finish(world.conversation, "Docs too.")
    await world.passes(60)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nDocs too."]
    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ✅ Done")


# --- called off -------------------------------------------------------------------------------------------------


async def test_a_start_called_off_while_it_waits_for_its_turn_does_not_go_out(make_world: Make) -> None:
    """Thirty at once: the last ones wait for OpenHands' pace, and one of them is stopped meanwhile."""
    world = await make_world(max_concurrent_runs=30, openhands={"repositories": ["org/repo"]})
    await world.passes(2)  # the repositories are known by then
    for number in range(30):
        world.channel(f"#c{number}", world.alice)
        await world.slack.command(world.alice.id, world.place(f"#c{number}"), f"task {number} in org/repo")
    await world.settles()
    await world.alice.commands("stop", in_="#c29")
    await world.passes(60)
    assert world.card("#c29").state == "Cancelled"
    assert len(starts(world)) == 29
    assert {world.card(f"#c{number}").state for number in range(29)} == {"Starting", "Working"}
    assert world.alice.sees()[-1] == words.stopping(permalink(world, world.cards("#c29")[0]))


async def test_a_message_that_did_not_arrive_before_a_stop_is_called_off(world: Story) -> None:
    """It would wake the agent again; it is given back instead."""
    card = await working(world)
    world.openhands.break_next("send", status=502)
    await world.alice.says("and the docs", thread=card)
    await world.passes(5)
    await world.alice.says("stop", thread=card)
    await world.passes(100)
    assert world.conversation.messages == ["fix README"]
    assert world.card().state == "Stopped"
    assert world.news()[-1] == f"<@{world.alice.id}> {words.withdrawn(1)}"


async def test_stop_calls_off_a_reply_to_an_ended_run(world: Story) -> None:
    """OpenHands is down; the run is over, the reply is not, so there is something to stop."""
    card = await done(world)
    world.openhands.break_next("send", status=503, times=3)
    await world.alice.says("now delete everything", thread=card)
    await world.passes(1)
    await world.alice.says("stop", thread=card)
    await world.passes(60)
    assert world.conversation.messages == ["fix README"]
    assert len(world.alice.sees()) == 1  # the receipt of the command, and not that there is nothing to stop
    assert "1 waiting message was dropped" in world.news()[-1]
    world.leaves("#dev: card ✅ Done")


async def test_stop_holds_for_a_message_on_its_way_to_an_ended_run(world: Story) -> None:
    """Its answer is lost, nobody knows yet that it arrived; once it shows up, the agent is interrupted."""
    card = await done(world)
    world.openhands.break_next("send", drop=True, after=True)
    await world.alice.says("now delete everything", thread=card)
    await world.alice.says("stop", thread=card)
    await world.passes(60)
    assert world.conversation.messages == ["fix README", "now delete everything"]
    assert world.conversation.interrupts == 1
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped", "#dev: ✅ Done")


# --- nothing is tried for ever in silence -----------------------------------------------------------------------


async def test_a_message_that_never_arrives_is_left_to_a_person_after_the_second_try(world: Story) -> None:
    """A server that always answers 502."""
    card = await done(world)
    world.openhands.break_next("send", status=502, times=100)
    await world.alice.says("and more", thread=card)
    await world.passes(600)
    assert sends(world) == 2
    assert world.news()[-1] == f"<@{world.alice.id}> {words.follow_up_unsure('and more')}"
    world.leaves("#dev: card ✅ Done", "outbox: send")


async def test_a_v0_server_that_loses_messages_is_found_out(make_world: Make) -> None:
    """Some take a message and lose it: it is sent twice, then a person decides."""
    world = await make_world(openhands={"api": "v0"})
    card = await working(world)
    await world.passes(6)
    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(10)
    world.openhands.break_next("send", status=404, body={"detail": "Not Found"})
    world.openhands.break_next("send", status=200, body={"success": True}, times=100)
    await world.alice.says("and more", thread=card)
    await world.passes(600)
    assert words.follow_up_unsure("and more") in world.news()[-1]
    world.leaves("#dev: card ✅ Done", "outbox: send")


async def test_a_limit_in_other_words_is_taken_for_one_within_seconds(world: Story) -> None:
    """A 429 that names neither the limit nor a time may be either; what goes on is the limit, and is waited for."""
    world.openhands.break_next("start", status=429, body={"detail": "Too many conversations"}, times=7)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    assert world.card().state == "Starting"
    await world.passes(11)
    assert world.card().state == "Queued"
    assert world.news() == []

    await world.passes(120)
    assert (world.card().state, len(starts(world))) == ("Working", 8)


async def test_a_start_lost_on_v0_is_never_repeated_unasked(make_world: Make) -> None:
    """V0 takes no id of ours, so a second one would be a second agent."""
    world = await make_world(openhands={"api": "v0"})
    world.openhands.break_next("start", drop=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(120)
    assert len(starts(world)) == 1
    assert world.card().state == "Failed"
    assert "If it did not start, press Retry." in world.card()
    world.leaves("#dev: ❌ Failed")
    world.logged("run.changed")


async def test_a_decision_holds_though_a_look_was_under_way(make_world: Make) -> None:
    """`leave it` comes while OpenHands is being asked once more; the late answer changes nothing."""
    world = await make_world(start=False)
    world.patience = replace(world.patience, unsure_person_s=60.0)
    await world.starts()
    card = await working(world)
    world.openhands.break_next("send", status=502)
    await world.alice.says("and the docs", thread=card)
    await world.passes(75)
    before = looks(world)
    world.openhands.break_next("agent_events", hang_s=2, times=2)  # the poller reads too
    world.clock.move(world.clock.now() + timedelta(seconds=61))
    await until(lambda: looks(world) == before + 2)
    await world.alice.says("leave it", thread=card)
    await world.bob.says("and the changelog", thread=card)
    await world.passes(120)
    assert world.conversation.messages == ["fix README", "and the changelog"]
    world.leaves("#dev: All right", "#dev: Did the agent get “and the docs”? I can't tell", "#dev: card 🛠️ Working")


async def test_a_run_that_ended_is_not_out_of_reach_any_more(world: Story) -> None:
    """The last try came to nothing, so nothing is tried on, and the card does not say so."""
    card = await done(world)
    world.openhands.break_next("send", status=503, times=25)
    world.openhands.break_next("send", status=422, body={"detail": "no"})
    await world.alice.says("and more", thread=card)
    await world.passes(900)
    assert "can't reach" not in world.cards()[0].text
    world.leaves("#dev: OpenHands refused your message", "#dev: x on a message", "#dev: ✅ Done")
    world.logged("openhands.unreachable")


async def test_a_post_that_may_still_arrive_is_not_repeated_at_once(world: Story) -> None:
    """The connection broke and the process was restarted at once: a moment's patience, a look, and then the post."""
    world.slack.fail("chat.postMessage", drop=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.restarts()
    assert world.posts("#dev") == []
    await world.passes(10)
    assert world.card().state == "Working"
    assert len(world.posts("#dev")) == 1


async def test_a_reply_on_its_way_is_held_when_the_agent_asks_for_approval(world: Story) -> None:
    """It was let go while the agent worked; a message now would be taken for a yes."""
    card = await working(world)
    before = looks(world)
    world.openhands.break_next("agent_events", hang_s=2)  # the look just before the message goes out
    await world.slack.say(world.bob.id, card.channel, "No, leave it alone", thread_ts=card.ts)
    await until(lambda: looks(world) == before + 1 and world.slack.idle)  # its ack must not come after the clock moved
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    world.clock.move(world.clock.now() + timedelta(seconds=3))
    await world.settles()
    await world.passes(10)
    assert (world.card().state, sends(world)) == ("Needs approval", 0)
    assert world.conversation.messages == ["fix README"]
    world.leaves("#dev: ✋ Needs approval", "outbox: send")
