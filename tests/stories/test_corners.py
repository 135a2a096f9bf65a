"""Moments between two steps: replies that come before the card is known, and rows that nobody can do."""

import sqlite3
from contextlib import closing

from bot.core import words
from bot.core.model import Unclear, UnclearReason
from bot.store import outbox
from tests.conftest import Story


async def test_a_reply_under_a_card_the_bot_does_not_know_yet_reaches_the_agent(world: Story) -> None:
    """Slack took the card and its answer got lost: people see it and reply before the bot has found it again."""
    world.slack.fail("chat.postMessage", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    [card] = world.cards()
    said = await world.bob.says("and the docs", thread=card)
    await world.passes(12)
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert world.reactions(said) == ["eyes"]
    assert len(world.posts("#dev")) == 1


async def test_talk_beside_a_card_on_its_way_is_dropped_once_the_card_is_known(world: Story) -> None:
    """A reply in another thread might have been for it; it was not."""
    root = await world.alice.says("lunch?", in_="#dev")
    world.slack.fail("chat.postMessage", drop=True, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.bob.says("pizza", thread=root)
    await world.passes(12)
    assert world.conversation.messages == ["fix README"]
    assert [key for key in world.kept() if key.startswith("msg:")] != []
    assert world.bob.sees() == []
    world.leaves("#dev: card 🛠️ Working")


async def test_talk_under_a_run_in_peoples_thread_stays_talk_while_another_card_is_on_its_way(world: Story) -> None:
    """Only a mention steers there; that some card is owed in the channel changes nothing."""
    talk = await world.bob.says("the links are dead", in_="#dev")
    await world.alice.says("@OpenHands fix README in org/repo", thread=talk)
    await world.passes(6)
    world.slack.fail("chat.postMessage", status=429, retry_after=20)
    await world.alice.commands("fix the build in org/repo", in_="#dev")
    await world.bob.says("lunch?", thread=talk)
    await world.passes(30)
    first, second = world.openhands.conversations.values()
    assert (len(first.messages), second.messages) == (1, ["fix the build"])
    world.leaves("#dev: card 🛠️ Working", "#dev: card 🛠️ Working")


async def test_who_only_talks_while_a_card_is_on_its_way_is_told_of_no_rule(world: Story) -> None:
    """A guest who did not ask for anything hears nothing."""
    gast = world.person("gast", restricted=True)
    world.slack.join(world.place("#dev"), gast.id)
    talk = await world.alice.says("lunch?", in_="#dev")
    world.slack.fail("chat.postMessage", status=429, retry_after=20)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await gast.says("pizza", thread=talk)
    await world.passes(30)
    assert (gast.sees(), world.card().state) == ([], "Working")


async def test_the_repository_may_be_named_before_the_card_is_there(world: Story) -> None:
    """Slack is busy; the answer in the thread starts the run all the same, once its card stands."""
    world.slack.fail("chat.postMessage", status=429, retry_after=10)
    asked = await world.alice.says("@OpenHands fix the build", in_="#dev")
    await world.alice.says("org/repo", thread=asked)
    assert world.cards() == []
    await world.passes(16)
    assert world.card().state == "Working"
    assert world.conversation.repository == "org/repo"


async def test_commands_in_the_thread_of_a_run(world: Story) -> None:
    """`list` and `help` answer the person alone; a misspelt one is no message to the agent; nor is a bare mention."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(6)
    for text in ("list", "help", "statsu", "@OpenHands"):
        await world.bob.says(text, thread=asked)
    await world.passes(6)
    listed, helped, misspelt, empty = world.bob.sees()
    assert listed.startswith("• 🛠️ Working: <https://")
    assert helped.startswith("*OpenHands works on your code from here.*")
    assert misspelt.startswith("I don't know `statsu`. Did you mean `status`?")
    assert empty == words.unclear(Unclear(UnclearReason.EMPTY))
    assert world.conversation.messages == ["fix README"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_reply_to_a_run_that_never_got_a_card_says_so(world: Story) -> None:
    """The bot was thrown out between the request and the card; the reply that waited is given back, not sent."""
    world.slack.fail("chat.postMessage", status=429, retry_after=10)
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.alice.says("and the docs", thread=asked)
    world.slack.leave(world.place("#dev"), world.slack.bot_user_id)
    await world.passes(20)
    invite, back = [one.text for one in world.posts(world.slack.dm(world.alice.id))]
    assert invite.startswith(words.invite())
    assert words.follow_up_cancelled() in back
    assert world.openhands.conversations == {}
    world.logged("slack.refused")


# --- what nobody foresaw: a row that can't be done is ended, and a person is told --------------------------------


async def test_a_start_that_cannot_be_done_is_told(world: Story) -> None:
    """After many unexpected failures the run is not left starting for ever."""
    world.openhands.down = True
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await given_up(world, "start")
    assert world.card().state == "Failed"
    [news] = world.news()
    assert news.startswith(f"<@{world.alice.id}> ❌ Failed\nOpenHands' answer was lost and I can't find out")
    world.logged("run.changed")


async def test_a_message_that_cannot_be_sent_is_told(world: Story) -> None:
    """Its author hears of it."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    [card] = world.cards()
    world.openhands.down = True
    await world.bob.says("and the docs", thread=card)
    await given_up(world, "send")
    [news] = world.news()
    assert "OpenHands refused your message" in news
    world.leaves("#dev: x on a message")


async def test_a_stop_that_cannot_be_done_is_told(world: Story) -> None:
    """The run goes on, and people know."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    [card] = world.cards()
    world.openhands.down = True
    await world.bob.says("stop", thread=card)
    await given_up(world, "stop")
    [news] = world.news()
    assert "can't be told to stop a run" in news
    world.leaves("#dev: card 🛠️ Working")


async def test_a_broken_post_holds_up_nothing_after_it(world: Story) -> None:
    """Somebody edited the database: the row fails again and again, is closed, and the next news come."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.slack.fail("chat.postMessage", status=429, retry_after=5, channel=world.place("#dev"))
    world.openhands.ask(world.conversation, "Which one?")
    await world.passes(3)
    with closing(sqlite3.connect(world.database)) as other, other:
        other.execute("UPDATE outbox SET payload = '{}' WHERE kind = 'message' AND done_at IS NULL")
    await world.passes(240)
    await world.alice.says("the first", thread=asked)
    await world.passes(4)
    world.openhands.finish(world.conversation, "Done with it.")
    await world.passes(8)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nDone with it."]
    world.leaves("#dev: card ✅ Done", "#news: 💬 Has a question")
    world.logged("job.failed")


async def test_a_request_nobody_can_read_is_answered(world: Story) -> None:
    """The dispatcher gives it up in words."""
    world.slack.fail("users.info", status=500, times=100)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    lanes = world.bot.dispatcher.lanes if world.bot.dispatcher else None
    assert lanes is not None
    jobs, _ = await lanes._due(world.clock.now().replace(year=2030), [])
    await lanes._give_up(jobs[0])
    await world.settles()
    assert world.alice.sees()[-1].startswith("Something went wrong on my side, so nothing was done")
    world.logged("request.waits")


async def given_up(world: Story, kind: str) -> None:
    """End the open row of a kind as the loop does after its last unexpected failure."""
    sender = world.bot.sender
    assert sender is not None
    async with sender._ctx.database.reading() as tx:
        rows = await outbox.due(tx, world.clock.now().replace(year=2030), [], 100)
    [row] = [one for one in rows if one.kind == kind]
    await sender._give_up(row)
    sender.lanes.wake.set()
    world.openhands.down = False
    await world.passes(8)


async def test_a_stop_of_an_earlier_conversation_that_keeps_failing_is_told_as_such(world: Story) -> None:
    """It is the conversation before Retry that may go on, not the run."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.conversation.destroyed = True
    await world.passes(600)
    world.openhands.break_next("interrupt", status=500, times=100)
    world.openhands.break_next("sandbox_pause", status=500, times=100)
    await world.alice.clicks("retry", world.cards()[0])
    await given_up(world, "stop")

    assert f"<@{world.alice.id}> {words.old_not_stopped()}" in world.news()
    assert not any(words.cannot_stop(None) in one for one in world.news())
    assert len(world.openhands.conversations) == 2
    world.leaves("#dev: card 🛠️ Working")
