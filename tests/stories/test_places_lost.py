"""A place the bot can't write to any more: runs there go on, and their news finds the people another way."""

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from bot.core import words
from bot.core.model import ChannelId
from tests.conftest import Story
from tests.stories.shared import ELSEWHERE, direct, working

NOT_ANSWERED = words.not_answered()


def question(world: Story) -> str:
    return f"<@{world.alice.id}> 💬 Has a question\nWhich docs?\nReply here to answer."


def end(world: Story) -> str:
    return f"<@{world.alice.id}> ✅ Done\nFixed two links."


def of_bobs(world: Story) -> list[str]:
    """Return what the bot wrote to bob directly."""
    return [one.text for one in world.posts(world.slack.dm(world.bob.id))]


def calls(world: Story, method: str) -> int:
    return [call.method for call in world.slack.calls].count(method)


def dead(world: Story) -> list[tuple[str, str]]:
    """Return kind and reason of the rows that were closed as failed."""
    with closing(sqlite3.connect(world.database)) as file:
        return file.execute("SELECT kind, result FROM outbox WHERE failed_at IS NOT NULL ORDER BY seq").fetchall()


def removed(world: Story) -> None:
    world.slack.leave(world.place("#dev"), world.slack.bot_user_id)


def archived(world: Story) -> None:
    world.slack.archive(world.place("#dev"))


# --- every kind of news -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lose", [removed, archived])
async def test_the_end_of_a_run_comes_directly(world: Story, lose: Callable[[Story], None]) -> None:
    """What was accepted is told to its end, once; the card that can't be edited is not tried again and again."""
    await working(world)
    lose(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    tries = calls(world, "chat.update")
    await world.passes(60)

    assert direct(world) == [place_lost(world), f"{ELSEWHERE}\n{end(world)}"]
    assert len(world.news("#news")) == 1
    assert calls(world, "chat.update") == tries
    world.logged("place.lost")
    world.logged("slack.refused")


async def test_when_a_place_is_back_its_threads_are_told_again(world: Story) -> None:
    """Nobody has to say so: each message is tried where it belongs first, and with it the card is true again."""
    card = await working(world)
    archived(world)
    world.openhands.ask(world.conversation, "Which docs?")
    await world.passes(10)
    assert direct(world) == [place_lost(world), f"{ELSEWHERE}\n{question(world)}"]
    assert world.card().state == "Working"

    world.slack._workspace.channel(world.place("#dev")).archived = False
    await world.alice.says("all of them", thread=card)
    await world.passes(8)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)
    assert (len(direct(world)), world.news(), world.card().state) == (2, [end(world)], "Done")
    world.leaves("#news: 💬 Has a question")
    world.logged("place.lost")
    world.logged("slack.refused")


@pytest.mark.parametrize("below", [True, False])
async def test_a_question_that_was_told_directly_can_be_answered_there(world: Story, *, below: bool) -> None:
    """Below it, or as the next thing she writes to the bot; the signs are on her answer."""
    await working(world)
    archived(world)
    world.openhands.ask(world.conversation, "Which docs?")
    await world.passes(10)
    [_, asks] = world.posts(world.slack.dm(world.alice.id))
    said = await world.alice.says("all of them", in_="dm", thread=asks if below else None)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", "all of them"]
    assert world.reactions(said) == ["eyes"]
    assert direct(world) == [place_lost(world), f"{ELSEWHERE}\n{question(world)}"]
    world.leaves("#news: 💬 Has a question")
    world.logged("place.lost")
    world.logged("slack.refused")


async def test_an_answer_in_a_place_that_is_lost_comes_to_who_asked(world: Story) -> None:
    """Not to the requester of the run it is about."""
    card = await working(world)
    world.slack.fail("chat.postMessage", error="is_archived", channel=world.place("#dev"))
    await world.bob.says("status", thread=card)
    await world.passes(4)

    [told] = of_bobs(world)
    assert told.startswith(f"{NOT_ANSWERED}\n*🛠️ Working*")
    assert direct(world) == []
    world.logged("slack.refused")


async def test_a_reply_the_agent_never_gets_comes_back_to_its_author(world: Story) -> None:
    """The thread can't say so, and the run is somebody else's."""
    card = await working(world)
    world.openhands.break_next("send", status=422, body={"detail": "no"})
    world.slack.fail("chat.postMessage", error="not_in_channel", channel=world.place("#dev"))
    await world.bob.says("and the docs", thread=card)
    await world.passes(6)

    [told] = of_bobs(world)
    assert told.startswith(f"{ELSEWHERE}\n<@{world.bob.id}> ")
    assert direct(world) == []
    world.leaves("#dev: x on a message")
    world.logged("slack.refused")


async def test_the_news_of_a_thread_that_was_deleted_comes_directly(world: Story) -> None:
    """The card is the thread's root, and it was deleted twice: in the channel itself its news would explain nothing."""
    await working(world)
    await deleted_twice(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert world.cards() == []
    assert direct(world) == [f"{ELSEWHERE}\n{end(world)}"]
    world.leaves("#news: ✅ Done")
    world.logged("card.gone")
    world.logged("slack.refused")


async def deleted_twice(world: Story) -> None:
    """Have somebody delete the card, and the one that takes its place."""
    for number in range(2):
        [card] = world.cards()
        await world.slack.delete(world.alice.id, card.channel, card.ts)
        world.openhands.progress(world.conversation, f"Reading file {number}")
        await world.passes(20)


@pytest.mark.parametrize("error", ["ekm_access_denied", "restricted_action_thread_locked", "a_word_of_tomorrow"])
async def test_whatever_slack_calls_it_the_news_comes_directly(world: Story, error: str) -> None:
    """A refusal is one, also in words that are newer than the bot."""
    await working(world)
    world.slack.fail("chat.postMessage", error=error, channel=world.place("#dev"))
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(6)
    assert direct(world) == [f"{ELSEWHERE}\n{end(world)}"]
    world.leaves("#dev: card ✅ Done", "#news: ✅ Done")
    world.logged("slack.refused")


@pytest.mark.parametrize(
    ("method", "error"),
    [("conversations.open", "user_disabled"), ("chat.postMessage", "messages_tab_disabled")],
)
async def test_who_cannot_be_told_at_all_is_not_tried_again_and_again(world: Story, method: str, error: str) -> None:
    """Deactivated, or without the app's messages: the row is closed as failed, where it is counted."""
    await working(world)
    archived(world)
    place = world.slack.dm(world.alice.id)
    world.slack.fail(method, error=error, channel=place if method == "chat.postMessage" else None, times=2)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    tries = calls(world, method)
    await world.passes(120)

    assert (direct(world), calls(world, method)) == ([], tries)
    assert dead(world) == [("direct", error), ("message", "is_archived"), ("direct", error)]
    world.leaves("#news: ✅ Done")
    world.logged("place.lost")
    world.logged("slack.refused")


# --- what Slack tells of it -------------------------------------------------------------------------------------


def place_lost(world: Story) -> str:
    return words.place_lost(ChannelId(world.place("#dev")))


def told_again(world: Story) -> str:
    """Return the event that told of the loss."""
    events = [one for one in world.slack.deliveries if one.event_id is not None]
    return next(one.envelope_id for one in events if one.payload["event"]["type"] == "channel_archive")


async def test_who_has_runs_in_a_place_that_is_lost_is_told_why(world: Story) -> None:
    """At once, one message a person however many runs, and none when Slack says it again; the runs go on."""
    await working(world)
    await world.alice.commands("fix LICENSE in org/repo", in_="#dev")
    await world.bob.commands("update the docs in org/repo", in_="#dev")
    await world.passes(6)
    archived(world)
    await world.passes(2)
    await world.slack.redeliver(told_again(world))
    await world.passes(2)
    edits = calls(world, "chat.update")
    assert (direct(world), of_bobs(world)) == ([place_lost(world)], [place_lost(world)])

    world.openhands.finish(world.openhands.find("fix README"), "Fixed two links.")
    await world.passes(8)
    assert direct(world)[1:] == [f"{ELSEWHERE}\n{end(world)}"]
    assert calls(world, "chat.update") == edits
    world.leaves("#dev: card 🛠️ Working", "#dev: card 🛠️ Working", "#news: ✅ Done")
    world.logged("place.lost")
    world.logged("slack.refused")


async def test_a_bot_that_left_a_place_without_runs_is_silent(world: Story) -> None:
    """What has ended is told already."""
    await working(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)
    removed(world)
    await world.passes(2)
    assert (direct(world), world.card().state) == ([], "Done")
    world.leaves("#dev: ✅ Done")


async def test_somebody_else_who_leaves_changes_nothing(world: Story) -> None:
    """The same event, about another."""
    await working(world)
    world.slack.leave(world.place("#dev"), world.bob.id)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)
    assert (direct(world), world.news(), world.card().state) == ([], [end(world)], "Done")
