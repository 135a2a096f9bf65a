"""Slack refuses, breaks or repeats itself: nothing is lost, nothing is there twice, and people hear of it elsewhere."""

from typing import Any

import pytest

from bot.pacing import Patience
from bot.simulator.slack.records import Message
from tests.conftest import Card, Make, Story

SINCE = "since <!date^1772442000^{time}|09:00 UTC>"
ON_IT = "On it. A card for this run appears in the channel in a moment."
ELSEWHERE = (
    "I can't write to the thread of one of your runs any more (archived, or I was removed). "
    "This is what it would have said:"
)
INVITE = (
    "I can't post here, so nothing was started. If this is a channel, type `/invite @OpenHands` in it and ask again; "
    "or write to me directly."
)


def asked_by(world: Story) -> str:
    return f"Asked by <@{world.alice.id}> · `org/repo`"


def direct(world: Story) -> list[str]:
    """Give what the bot wrote to alice directly."""
    return [one.text for one in world.posts(world.slack.dm(world.alice.id))]


async def working(world: Story) -> Message:
    """Have a run at work, and give its card."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    return world.cards()[0]


# --- a place the bot can't post to -------------------------------------------------------------------------------


async def test_where_the_bot_is_not_in_the_channel_nothing_starts(world: Story) -> None:
    """One sentence, only to the person, with the command that mends it."""
    world.channel("#ops", world.alice, bot_member=False)
    await world.alice.commands("fix README in org/repo", in_="#ops")
    await world.passes(10)

    assert world.alice.sees() == [ON_IT, INVITE]
    assert world.posts("#ops") == []
    assert world.openhands.conversations == {}


async def test_in_a_private_channel_without_the_bot_nothing_starts(world: Story) -> None:
    """Slack says `channel_not_found` there; the sentence is the same."""
    world.channel("#secret", world.alice, private=True, bot_member=False)
    await world.alice.commands("fix README in org/repo", in_="#secret")
    await world.passes(10)

    assert world.alice.sees() == [ON_IT, INVITE]
    assert world.openhands.conversations == {}


async def test_in_an_archived_channel_nothing_starts(world: Story) -> None:
    """Inviting the bot would not help there, so the sentence is another one."""
    world.slack.fail("chat.postMessage", error="is_archived")
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert world.alice.sees() == [
        ON_IT,
        "I am not allowed to post here any more (archived, or for some people only), so nothing was started. "
        "Ask again in another channel.",
    ]
    assert world.posts("#dev") == []
    assert world.openhands.conversations == {}


async def test_a_mention_where_the_bot_may_not_post_is_answered_directly(world: Story) -> None:
    """A message has no `response_url`: the sentence comes as a direct message."""
    world.slack.fail("chat.postMessage", error="restricted_action", channel=world.place("#dev"))
    await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert direct(world) == [
        "I am not allowed to post here any more (archived, or for some people only), so nothing was started. "
        "Ask again in another channel."
    ]
    assert world.posts("#dev") == []
    assert world.openhands.conversations == {}


async def test_the_end_of_a_run_in_a_channel_archived_meanwhile_comes_directly(world: Story) -> None:
    """What was accepted is told to its end, wherever that is possible."""
    await working(world)
    world.slack.archive(world.place("#dev"))
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert direct(world) == [f"{ELSEWHERE}\n<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert len(world.news("#news")) == 1


async def test_the_end_of_a_run_in_a_channel_the_bot_was_removed_from_comes_directly(world: Story) -> None:
    """The same for `not_in_channel`."""
    await working(world)
    world.slack.leave(world.place("#dev"), world.slack.bot_user_id)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert direct(world) == [f"{ELSEWHERE}\n<@{world.alice.id}> ✅ Done\nFixed two links."]


async def test_a_team_channel_that_is_gone_costs_nobody_the_end(world: Story) -> None:
    """The line for the team is dropped, the thread has its own."""
    await working(world)
    world.slack.archive(world.place("#news"))
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert world.news("#news") == []


async def test_a_team_channel_nobody_knows_costs_nobody_the_end(make_world: Make) -> None:
    """A wrong NOTIFY_CHANNEL is a warning in the log, not an exit, and not a failure of runs."""
    world = await make_world(notify_channel="#nowhere")
    await working(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]


async def test_a_team_channel_that_cannot_be_looked_up_at_start_is_looked_up_later(make_world: Make) -> None:
    """A fault of Slack's at the wrong moment does not cost the team its news."""
    world = await make_world(start=False, notify_channel="#news")
    world.slack.fail("conversations.list", status=500, times=2)
    await world.starts()
    await working(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(20)

    assert len(world.news("#news")) == 1


# --- a card that is gone -----------------------------------------------------------------------------------------


async def test_a_deleted_card_comes_back_with_a_thread_of_its_own(world: Story) -> None:
    """A root without replies takes its thread along: replies to the new card reach the agent, the end is told there."""
    card = await working(world)
    await world.slack.delete(world.alice.id, card.channel, card.ts)
    world.openhands.ask(world.conversation, "Which README?")
    await world.passes(12)
    [again] = world.cards()
    assert (world.card().state, again.thread_ts) == ("Has a question", None)

    await world.alice.says("the first", thread=again)
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(12)
    assert world.conversation.messages == ["fix README", "the first"]
    assert (world.card().state, world.card().lines[0]) == ("Done", "Fixed two links.")
    [end] = [one for one in world.posts("#dev", thread=again.ts) if one.thread_ts]
    assert end.text == f"<@{world.alice.id}> ✅ Done\nFixed two links."


async def test_a_deleted_card_with_replies_comes_back_in_its_thread(world: Story) -> None:
    """Slack leaves a tombstone at the head of the thread, so people go on where they are."""
    card = await working(world)
    await world.bob.says("aside, how are you?", thread=card)
    await world.slack.delete(world.alice.id, card.channel, card.ts)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(12)

    [again] = world.cards()
    assert (world.card().state, again.thread_ts) == ("Done", card.ts)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]


async def test_a_card_deleted_again_stays_away(world: Story) -> None:
    """Somebody does not want it: the news come as messages, the run is not disturbed."""
    card = await working(world)
    await world.bob.says("and the docs", thread=card)
    await world.slack.delete(world.alice.id, card.channel, card.ts)
    world.openhands.ask(world.conversation, "Which docs?")
    await world.passes(12)
    [second] = world.cards()
    await world.slack.delete(world.alice.id, second.channel, second.ts)
    await world.bob.says("all of them", thread=card)
    await world.passes(12)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(12)

    assert world.cards() == []
    assert world.news() == [
        f"<@{world.alice.id}> 💬 Has a question\nReply here to answer.\nWhich docs?",
        f"<@{world.alice.id}> ✅ Done\nFixed two links.",
    ]


async def test_a_request_deleted_before_its_card_still_has_a_thread(world: Story) -> None:
    """The mention is gone when the card is posted: the card is a root then, and its thread the run's."""
    world.slack.fail("chat.postMessage", status=429, retry_after=5)
    said = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.slack.delete(world.alice.id, said.channel, said.ts)
    await world.passes(12)
    [card] = world.cards()
    assert card.thread_ts is None

    await world.alice.says("and the docs", thread=card)
    await world.passes(8)
    assert world.conversation.messages == ["fix README", "and the docs"]


@pytest.mark.parametrize("error", ["cant_update_message", "edit_window_closed"])
async def test_a_card_that_may_not_be_edited_is_left_alone(world: Story, error: str) -> None:
    """A second card would be noise: the end is told by its message."""
    await working(world)
    world.slack.fail("chat.update", error=error)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(12)

    assert len(world.cards()) == 1
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]


@pytest.mark.parametrize("error", ["invalid_blocks", "msg_too_long"])
async def test_a_layout_slack_refuses_is_replaced_by_plain_text(world: Story, error: str) -> None:
    """Our own mistake costs the layout, not the news."""
    world.slack.fail("chat.postMessage", error=error)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(8)
    assert len(world.openhands.conversations) == 1

    world.slack.fail("chat.postMessage", error=error, channel=world.place("#dev"))
    world.slack.fail("chat.update", error=error)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)
    card, end = world.posts("#dev")
    assert card.text == f"*✅ Done*\nfix README\nFixed two links.\n{asked_by(world)} · took 10 s"
    assert end.text == f"<@{world.alice.id}> ✅ Done\nFixed two links."


# --- limits and faults -------------------------------------------------------------------------------------------


async def test_slacks_limits_are_waited_out(world: Story) -> None:
    """A 429 names a time; the call is made once more after it, and not before."""
    world.slack.fail("chat.postMessage", status=429, retry_after=20)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(15)
    assert world.posts("#dev") == []
    assert [call.method for call in world.slack.calls].count("chat.postMessage") == 1

    await world.passes(15)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert [call.method for call in world.slack.calls].count("chat.postMessage") == 2


async def test_a_limit_on_edits_holds_up_no_message(world: Story) -> None:
    """Limits are per method: the end is told while the card still has to wait."""
    await working(world)
    world.slack.fail("chat.update", status=429, retry_after=30)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    assert world.card().state == "Working"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]

    await world.passes(30)
    assert world.card().state == "Done"


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 503}, {"html": True}, {"drop": True}, {"error": "fatal_error"}],
    ids=lambda fault: str(fault),
)
async def test_a_broken_edit_is_repeated(world: Story, fault: dict[str, Any]) -> None:
    """The card is true in the end, whatever Slack answered meanwhile."""
    await working(world)
    world.slack.fail("chat.update", times=2, **fault)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(20)

    assert (world.card().state, world.card().lines[0]) == ("Done", "Fixed two links.")
    assert len(world.news()) == 1


async def test_a_token_refused_for_a_while_loses_nothing(world: Story) -> None:
    """A revoked token or a missing scope stops every post; what is owed stays owed until an operator has acted."""
    await working(world)
    world.slack.fail("chat.postMessage", error="token_revoked", times=4)
    world.slack.fail("chat.update", error="token_revoked", times=2)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(30)
    assert world.news() == []

    await world.passes(240)
    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert len(world.news("#news")) == 1


async def test_an_outage_of_slack_in_mid_run_loses_nothing(world: Story) -> None:
    """No connection at all: the end is told as soon as there is one."""
    await working(world)
    world.slack.fail("chat.postMessage", status=503, times=3)
    world.slack.fail("chat.update", status=503, times=3)
    world.slack.fail("conversations.replies", status=503, times=3)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(60)

    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert len(world.news("#news")) == 1


async def test_an_answer_only_one_person_would_see_comes_later_when_slack_is_busy(world: Story) -> None:
    """A limit says that nothing was done, so it may be said again."""
    world.slack.fail("response_url", status=429, retry_after=5)
    await world.alice.commands("list", in_="#dev")
    assert world.alice.sees() == []

    await world.passes(40)
    assert world.alice.sees() == ["There are no runs here yet. Start one with `/openhands fix README in org/repo`."]


async def test_an_answer_whose_address_is_used_up_comes_directly(world: Story) -> None:
    """A `response_url` that Slack refuses is no reason to stay silent."""
    world.slack.fail("response_url", status=404)
    await world.alice.commands("list", in_="#dev")
    await world.passes(4)

    assert direct(world) == ["There are no runs here yet. Start one with `/openhands fix README in org/repo`."]


async def test_a_reaction_slack_refuses_costs_nothing(world: Story) -> None:
    """Reactions are best effort: the run does not depend on them."""
    world.slack.fail("reactions.add", error="too_many_reactions", times=2)
    await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]


async def test_a_reaction_that_is_there_already_is_fine(world: Story) -> None:
    """Its answer was lost, so it is given again; `already_reacted` is what was wanted."""
    world.slack.fail("reactions.add", after=True)
    said = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(10)

    message = world.slack.message(said.channel, said.ts)
    assert message is not None
    assert dict(message.reactions) == {"eyes": [world.slack.bot_user_id]}


# --- who asked ---------------------------------------------------------------------------------------------------


async def test_a_request_waits_while_slack_cannot_say_who_asked(world: Story) -> None:
    """Unknown people are not let in; a fault of Slack's is no refusal either."""
    world.slack.fail("users.info", status=500, times=3)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    assert world.posts("#dev") == []

    await world.passes(30)
    assert world.card().state == "Working"


async def test_a_limit_on_asking_who_it_was_is_waited_out(world: Story) -> None:
    """Slack names a time; the request is taken up again then."""
    world.slack.fail("users.info", status=429, retry_after=10)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(5)
    assert world.posts("#dev") == []

    await world.passes(12)
    assert world.card().state == "Working"


async def test_after_ten_minutes_without_knowing_who_asked_the_request_is_refused(make_world: Make) -> None:
    """Waiting for ever would be silence. (The story's ten minutes are one.)"""
    world = await make_world(start=False)
    world.patience = Patience(ping_s=0.2, drain_s=5.0, facts_person_s=60.0)
    await world.starts()
    world.slack.fail("users.info", status=500, times=100)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(100)

    assert world.alice.sees() == [
        ON_IT,
        "For ten minutes I could not find out from Slack who asked, so nothing was started. Please ask again.",
    ]
    assert world.posts("#dev") == []
    assert world.openhands.conversations == {}


async def test_a_thread_that_cannot_be_read_just_now_is_read_later(world: Story) -> None:
    """What people said before the mention goes along: a fault of Slack's does not cut it off."""
    root = await world.bob.says("the links in the README are dead", in_="#dev")
    world.slack.fail("conversations.replies", status=500)
    await world.alice.says("@OpenHands fix that in org/repo", thread=root)
    await world.passes(10)

    [message] = world.conversation.messages
    assert message == (
        "fix that\n\nThe task came up in this conversation:\n"
        f"{world.bob.id}: the links in the README are dead"
    )


async def test_a_thread_that_may_not_be_read_is_left_out(world: Story) -> None:
    """The run starts from the mention alone."""
    root = await world.bob.says("the links in the README are dead", in_="#dev")
    world.slack.fail("conversations.replies", error="thread_not_found")
    await world.alice.says("@OpenHands fix README in org/repo", thread=root)
    await world.passes(10)

    assert world.conversation.messages == ["fix README"]


async def test_a_requester_slack_cannot_name_just_now_is_given_by_id(make_world: Make) -> None:
    """The name is for the agent's eyes only: no reason to wait."""
    world = await make_world(start=False)
    world.patience = Patience(ping_s=0.2, drain_s=5.0, facts_cache_s=5.0)
    await world.starts()
    await world.alice.commands("fix README", in_="#dev")
    await world.passes(6)
    await world.bob.commands("list", in_="#dev")  # from here on bob is known
    world.slack.fail("users.info", status=500)
    await world.bob.says("org/repo", thread=world.cards()[0])
    await world.passes(10)

    suffix = world.conversation.suffix or ""
    assert suffix.startswith(f"This task was given by {world.alice.id} in this Slack thread: https://")


# --- the same thing again, and cut lines -------------------------------------------------------------------------


async def test_a_redelivered_mention_is_one_request(world: Story) -> None:
    """Both of its events again: the same key, no second run."""
    said = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.slack.redeliver(said.ts)
    await world.passes(10)
    await world.slack.redeliver(said.ts)
    await world.passes(10)

    assert len(world.cards()) == 1
    assert world.conversation.messages == ["fix README"]


async def test_a_redelivered_reply_is_sent_once(world: Story) -> None:
    """The agent reads it once, however often Slack repeats it."""
    card = await working(world)
    said = await world.alice.says("and the docs", thread=card)
    await world.slack.redeliver(said.ts)
    await world.passes(10)
    await world.slack.redeliver(said.ts)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", "and the docs"]


@pytest.mark.parametrize("when", ["before_ack", "after_ack"])
async def test_a_socket_cut_at_the_ack_doubles_nothing(world: Story, when: str) -> None:
    """Whether Slack got the ack or not: one request, one card, one conversation."""
    world.slack.cut_socket(**{when: True})
    await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(70)

    assert len(world.cards()) == 1
    assert world.conversation.messages == ["fix README"]


async def test_a_command_whose_ack_was_cut_off_runs_all_the_same(world: Story) -> None:
    """It was saved before the ack, so its card appears although Slack showed an error."""
    world.slack.cut_socket(before_ack=True)
    asked = await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert asked.failed
    assert len(world.cards()) == 1
    assert world.conversation.messages == ["fix README"]


async def test_a_socket_cut_in_mid_run_is_opened_again(world: Story) -> None:
    """What is said afterwards arrives."""
    card = await working(world)
    world.slack.cut_socket()
    await world.settle()
    await world.alice.says("and the docs", thread=card)
    await world.passes(8)

    assert world.conversation.messages == ["fix README", "and the docs"]


async def test_a_socket_slack_wants_to_renew_is_renewed(world: Story) -> None:
    """Connections last some hours; the change is nothing people notice."""
    card = await working(world)
    world.slack.disconnect("refresh_requested")
    await world.settle()
    await world.alice.says("and the docs", thread=card)
    await world.passes(20)

    assert world.conversation.messages == ["fix README", "and the docs"]
