"""Slack is busy, broken, or refuses the token: nothing is lost, nothing is there twice."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.core import words
from bot.core.pacing import Patience
from tests.conftest import HURRY, Card, Make, Story, until
from tests.stories.shared import ON_IT, SINCE, asked_by, direct, said_by, working

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


@pytest.mark.parametrize("error", ["message_limit_exceeded", "rate_limited"])
async def test_a_flooded_workspace_is_waited_out(world: Story, error: str) -> None:
    """The whole workspace posts too much: nothing for two minutes, then everything, once."""
    world.channel("#ops", world.bob)
    card = await working(world)
    world.slack.fail("chat.postMessage", error=error)
    await world.alice.says("stop", thread=card)
    await world.passes(10)
    await world.bob.commands("fix LICENSE in org/repo", in_="#ops")
    await world.passes(100)
    assert (world.news(), world.posts("#ops"), world.card().state) == ([], [], "Stopped")

    await world.passes(20)
    assert (world.news(), len(world.cards("#ops"))) == (["⏹️ Stopped\nReply here to continue."], 1)
    world.logged("slack.flooded")


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "retry_after": 5},
        {"status": 503},
        {"status": 503, "after": True},
        {"drop": True},
        {"after": True},
        {"hang_s": 3.0},
        {"hang_s": 3.0, "after": True},
    ],
    ids=str,
)
async def test_messages_of_a_thread_stay_in_order(make_world: Make, fault: dict[str, Any]) -> None:
    """The first of two is in trouble, before or after it arrived: the second waits for it, and each is there once."""
    world = await make_world(start=False)
    if "hang_s" in fault:  # other calls must not time out, however slow the machine is
        world.patience = replace(world.patience, slack_timeout_s=1.0)
    await world.starts()
    card = await working(world)
    world.openhands.ask(world.conversation, "Which docs?")
    world.slack.fail("chat.postMessage", **fault)
    await world.passes(3)
    await world.bob.says("all", thread=card)
    await world.passes(1)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(30)

    assert world.news() == [
        f"<@{world.alice.id}> 💬 Has a question\nWhich docs?\nReply here to answer.",
        f"<@{world.bob.id}> ✅ Done\nFixed two links.",
    ]
    world.leaves("#dev: card ✅ Done")


@pytest.mark.parametrize(
    "fault",
    [{"status": 429, "retry_after": 5}, {"status": 503}, {"drop": True}, {"html": True}, {"error": "internal_error"}],
    ids=str,
)
async def test_a_search_that_fails_tells_nothing(world: Story, fault: dict[str, Any]) -> None:
    """Only a search that was answered says that a message never arrived: it is not posted again before."""
    await working(world)
    world.slack.fail("chat.postMessage", after=True, channel=world.place("#dev"))
    world.slack.fail("conversations.replies", times=3, **fault)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(60)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.leaves("#dev: card ✅ Done")


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"status": 503}, {"html": True}, {"drop": True}, {"error": "fatal_error"}],
    ids=str,
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
    world.logged("slack.locked")


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
    assert world.alice.sees() == [words.runs([])]


async def test_an_answer_whose_address_is_used_up_comes_directly(world: Story) -> None:
    """A `response_url` that Slack refuses is no reason to stay silent."""
    world.slack.fail("response_url", status=404)
    await world.alice.commands("list", in_="#dev")
    await world.passes(4)

    assert direct(world) == [words.runs([])]
    world.logged("slack.refused")


async def test_an_answer_that_was_never_said_comes_directly_when_it_is_too_late_for_it(world: Story) -> None:
    """The token was refused for half an hour; whoever asked is told all the same."""
    world.slack.fail("chat.postEphemeral", error="token_revoked", times=1000)
    await world.alice.says("@OpenHands list")
    await world.passes(1440)
    assert direct(world) == []

    await world.passes(120)
    assert direct(world) == [words.runs([])]
    world.logged("slack.locked")
    world.logged("slack.refused")


async def test_what_is_asked_before_a_post_is_asked_more_and_more_slowly(world: Story) -> None:
    """Nothing went out, so no attempt is counted; all the same, a Slack in trouble is not hammered."""
    await working(world)
    world.slack.archive(world.place("#dev"))
    world.slack.fail("conversations.open", status=503, times=1000)
    await world.passes(600, stopping_at_all=True)

    asked = [call.at for call in world.slack.calls if call.method == "conversations.open"]
    assert 10 < len(asked) < 25
    assert asked[-1] - asked[-2] == timedelta(minutes=1)
    world.leaves("outbox: direct")
    world.logged("place.lost")


async def test_a_reaction_slack_refuses_costs_nothing(world: Story) -> None:
    """Reactions are best effort: the run does not depend on them."""
    world.slack.fail("reactions.add", error="too_many_reactions", times=2)
    await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.leaves("#dev: card ✅ Done")
    world.logged("slack.refused")


async def test_a_reaction_that_is_there_already_is_fine(world: Story) -> None:
    """Its answer was lost, so it is given again; `already_reacted` is what was wanted."""
    world.slack.fail("reactions.add", after=True)
    said = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(10)

    message = world.slack.message(said.channel, said.ts)
    assert message is not None
    assert dict(message.reactions) == {"eyes": [world.slack.bot_user_id]}
    world.leaves("#dev: card 🛠️ Working")


async def test_without_any_connection_to_slack_the_end_waits_for_the_next_one(make_world: Make) -> None:
    """Nothing reached Slack, so nothing has to be looked for: it is told when Slack is back."""
    world = await make_world(start=False)
    world.patience = Patience(ping_s=0.1, drain_s=5.0, socket_again_s=0.05)
    await world.starts()
    await working(world)
    await world.slack.stop()
    world.openhands.finish(world.conversation, "Fixed two links.")
    looks = len(world.openhands.calls)
    world.clock.move(world.clock.now() + timedelta(seconds=4))
    await until(lambda: len(world.openhands.calls) > looks)
    sender = world.bot.sender
    assert sender is not None
    await until(lambda: world.clock.resting() >= 3 and not sender.lanes.under_way)

    await world.slack.start()
    await until(lambda: world.slack.sockets == 1)
    await world.passes(20)
    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.logged("slack.disconnected")


# --- who asked ---------------------------------------------------------------------------------------------------


async def test_a_request_waits_while_slack_cannot_say_who_asked(world: Story) -> None:
    """Unknown people are not let in; a fault of Slack's is no refusal either."""
    world.slack.fail("users.info", status=500, times=3)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    assert world.posts("#dev") == []

    await world.passes(30)
    assert world.card().state == "Working"
    world.logged("request.waits")


async def test_a_limit_on_asking_who_it_was_is_waited_out(world: Story) -> None:
    """Slack names a time; the request is taken up again then."""
    world.slack.fail("users.info", status=429, retry_after=10)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(5)
    assert world.posts("#dev") == []

    await world.passes(12)
    assert world.card().state == "Working"
    world.logged("request.waits")


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
        words.cannot_tell_who(),
    ]
    assert world.posts("#dev") == []
    assert world.openhands.conversations == {}
    world.logged("request.refused")
    world.logged("request.waits")


async def test_a_thread_that_cannot_be_read_just_now_is_read_later(world: Story) -> None:
    """What people said before the mention goes along: a fault of Slack's does not cut it off."""
    root = await world.bob.says("the links in the README are dead", in_="#dev")
    world.slack.fail("conversations.replies", status=500)
    await world.alice.says("@OpenHands fix that in org/repo", thread=root)
    await world.passes(10)

    [message] = world.conversation.messages
    assert message == (f"fix that\n\n{words.CAME_UP}\n{said_by(world.bob, 'the links in the README are dead')}")
    world.leaves("#dev: card 🛠️ Working")
    world.logged("request.waits")


async def test_a_thread_that_cannot_be_read_for_long_is_left_out_and_said(make_world: Make) -> None:
    """Who asked is known, and Slack may not let anybody read for hours; two minutes are enough."""
    world = await make_world()
    root = await world.bob.says("the links in the README are dead", in_="#dev")
    world.slack.fail("conversations.replies", status=500, times=100)
    await world.alice.says("@OpenHands fix README in org/repo", thread=root)
    await world.passes(140)

    assert world.conversation.messages == ["fix README"]
    assert world.alice.sees() == [words.thread_unread_for_now()]
    world.leaves("#dev: card 🛠️ Working")
    world.logged("request.waits")
    world.logged("context.unreadable")


async def test_a_thread_that_may_not_be_read_is_left_out(world: Story) -> None:
    """The run starts from the mention alone."""
    root = await world.bob.says("the links in the README are dead", in_="#dev")
    world.slack.fail("conversations.replies", error="thread_not_found")
    await world.alice.says("@OpenHands fix README in org/repo", thread=root)
    await world.passes(10)

    assert world.conversation.messages == ["fix README"]
    world.leaves("#dev: card 🛠️ Working")
    world.logged("context.unreadable")
    assert world.alice.sees()[-1] == words.thread_unread()


async def test_a_start_waits_while_slack_does_not_say_who_asked(make_world: Make) -> None:
    """Its requester may have left meanwhile; it goes out, with their name, once Slack says that they have not."""
    world = await make_world(start=False)
    world.patience = Patience(ping_s=0.2, drain_s=5.0, facts_cache_s=5.0)
    await world.starts()
    await world.alice.commands("fix README", in_="#dev")
    await world.passes(6)
    await world.bob.commands("list", in_="#dev")  # from here on bob is known
    world.slack.fail("users.info", status=500)
    await world.bob.says("org/repo", thread=world.cards()[0])
    await world.passes(2)
    assert len(world.openhands.conversations) == 0
    await world.passes(10)

    suffix = world.conversation.suffix or ""
    assert suffix.startswith('This task was given by "alice" in this Slack thread: https://')
    world.leaves("#dev: card 🛠️ Working", "bob alone: • ❔ Which repository?")


async def test_a_post_that_took_too_long_is_waited_for_as_long_again(make_world: Make) -> None:
    """It may still be under way: posted again at once, it would stand there twice."""
    world = await make_world(start=False)
    world.patience = replace(HURRY, slack_timeout_s=1.0, post_settled_s=0.1, retry_first_s=0.01)
    await world.starts()
    world.slack.fail("chat.postMessage", hang_s=5.0)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await until(lambda: world.bot.sender is not None and not world.bot.sender.lanes.under_way)
    await world.passes(4)

    first, second = [call.at for call in world.slack.calls if call.method == "chat.postMessage"][:2]
    assert (second - first).total_seconds() >= 1.0
    assert len(world.cards()) == 1
