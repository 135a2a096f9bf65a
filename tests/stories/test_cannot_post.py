"""Slack takes no message, or no edit: nothing starts in silence, and what was accepted is told elsewhere."""

import sqlite3
from contextlib import closing

import pytest

from bot.core import words
from bot.lanes import GIVE_UP_AFTER
from tests.conftest import Make, Story
from tests.stories.shared import ON_IT, asked_by, direct, working

INVITE = words.invite()


# --- a place the bot can't post to -------------------------------------------------------------------------------


async def test_where_the_bot_is_not_in_the_channel_nothing_starts(world: Story) -> None:
    """One sentence, only to the person, with the command that mends it."""
    world.channel("#ops", world.alice, bot_member=False)
    await world.alice.commands("fix README in org/repo", in_="#ops")
    await world.passes(10)

    assert world.alice.sees() == [ON_IT, INVITE]
    assert world.posts("#ops") == []
    assert world.openhands.conversations == {}
    world.logged("slack.refused")


async def test_in_a_private_channel_without_the_bot_nothing_starts(world: Story) -> None:
    """Slack says `channel_not_found` there; the sentence is the same."""
    world.channel("#secret", world.alice, private=True, bot_member=False)
    await world.alice.commands("fix README in org/repo", in_="#secret")
    await world.passes(10)

    assert world.alice.sees() == [ON_IT, INVITE]
    assert world.openhands.conversations == {}
    world.logged("slack.refused")


async def test_in_an_archived_channel_nothing_starts(world: Story) -> None:
    """Inviting the bot would not help there, so the sentence is another one."""
    world.slack.fail("chat.postMessage", error="is_archived")
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert world.alice.sees() == [
        ON_IT,
        words.place_closed(),
    ]
    assert world.posts("#dev") == []
    assert world.openhands.conversations == {}
    world.logged("slack.refused")


async def test_a_mention_where_the_bot_may_not_post_is_answered_directly(world: Story) -> None:
    """A message has no `response_url`: the sentence comes as a direct message."""
    world.slack.fail("chat.postMessage", error="restricted_action", channel=world.place("#dev"))
    await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert direct(world) == [words.place_closed()]
    assert world.posts("#dev") == []
    assert world.openhands.conversations == {}
    world.logged("slack.refused")


async def test_a_team_channel_that_is_gone_costs_nobody_the_end(world: Story) -> None:
    """The line for the team is dropped, the thread has its own."""
    await working(world)
    world.slack.archive(world.place("#news"))
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert world.news("#news") == []
    world.leaves("#dev: card ✅ Done")
    world.logged("slack.refused")


async def test_a_team_channel_nobody_knows_costs_nobody_the_end(make_world: Make) -> None:
    """A wrong NOTIFY_CHANNEL is a warning in the log, not an exit, and not a failure of runs."""
    world = await make_world(notify_channel="#nowhere")
    await working(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.leaves("#dev: card ✅ Done")
    world.logged("notify.channel_not_found")


async def test_a_team_channel_that_cannot_be_looked_up_at_start_is_looked_up_later(make_world: Make) -> None:
    """A fault of Slack's at the wrong moment does not cost the team its news."""
    world = await make_world(start=False, notify_channel="#news")
    world.slack.fail("conversations.list", status=500, times=2)
    await world.starts()
    await working(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(20)

    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ✅ Done", "#dev: ✅ Done")
    world.logged("notify.channel_unknown")


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
    world.leaves("#dev: 💬 Has a question", "#news: 💬 Has a question")
    world.logged("card.gone")


async def test_a_deleted_card_with_replies_comes_back_in_its_thread(world: Story) -> None:
    """Slack leaves a tombstone at the head of the thread, so people go on where they are."""
    card = await working(world)
    await world.bob.says("aside: how are you?", thread=card)
    await world.slack.delete(world.alice.id, card.channel, card.ts)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(12)

    [again] = world.cards()
    assert (world.card().state, again.thread_ts) == ("Done", card.ts)
    assert world.bob.sees() == [words.kept_among_people()]
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.logged("card.gone")


async def test_a_card_deleted_again_stays_away(world: Story) -> None:
    """Somebody does not want it: the news come as messages in the thread, the run is not disturbed."""
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
        f"<@{world.alice.id}> <@{world.bob.id}> 💬 Has a question\nWhich docs?\nReply here to answer.",
        f"<@{world.bob.id}> ✅ Done\nFixed two links.",
    ]
    world.leaves("#news: ✅ Done")
    world.logged("card.gone")


async def test_a_request_deleted_before_its_card_starts_nothing(world: Story) -> None:
    """The mention is gone when the card is posted: the card is a root then, and says what became of it."""
    world.slack.fail("chat.postMessage", status=429, retry_after=5)
    said = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.slack.delete(world.alice.id, said.channel, said.ts)
    await world.passes(12)
    [card] = world.cards()
    assert card.thread_ts is None
    assert world.card().state == "Cancelled"
    assert world.openhands.conversations == {}


@pytest.mark.parametrize(
    "error",
    [
        "cant_update_message",
        "channel_not_found",
        "edit_window_closed",
        "is_archived",
        "is_inactive",
        "streaming_state_conflict",
    ],
)
async def test_a_card_that_may_not_be_edited_is_left_alone(world: Story, error: str) -> None:
    """A second card would be noise: the end is told by its message, and the card is tried only when there is one."""
    await working(world)
    world.slack.fail("chat.update", error=error, times=3)
    world.openhands.ask(world.conversation, "Which docs?")
    await world.passes(12)
    tries = [call.method for call in world.slack.calls].count("chat.update")
    await world.passes(60)
    assert [call.method for call in world.slack.calls].count("chat.update") == tries

    assert world.card().state == "Working"
    assert (len(world.cards()), len(world.news())) == (1, 1)
    world.logged("card.gone")


@pytest.mark.parametrize(
    "error",
    ["invalid_blocks", "invalid_blocks_format", "metadata_too_large", "msg_blocks_too_long", "msg_too_long"],
)
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
    world.logged("slack.too_much")


async def test_a_card_that_can_not_be_drawn_is_given_up_aloud(world: Story) -> None:
    """Once in the thread, and without an end of tracebacks; the run itself goes on."""
    await working(world)
    await world.stops()
    with closing(sqlite3.connect(world.database)) as file, file:
        file.execute("UPDATE runs SET pull_requests = '[7]', version = version + 1")
    await world.starts()
    await world.passes(1200)
    assert world.news() == [words.card_given_up()]
    assert len(world.logged("card.given_up")) <= 2
    assert len(world.logged("job.failed")) <= 2 * GIVE_UP_AFTER
    assert world.card().state == "Working"
