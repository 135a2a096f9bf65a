"""People correct themselves: edits and deletions of what they asked for."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import Any

from bot.core import words
from bot.core.lifecycle import DELETED
from bot.simulator.slack.records import Message
from bot.simulator.world import Said
from bot.slack.scopes import SCOPES
from tests.conftest import Make, Story, read_card, until
from tests.core.runs import a_run
from tests.papers import PNG
from tests.stories.shared import in_database, labels, meanwhile

TOO_LATE = words.edited_too_late(a_run())


async def edits(world: Story, said: Said, text: str, **more: Any) -> None:
    """Have alice edit what she wrote."""
    await world.slack.edit(world.alice.id, said.channel, said.ts, world.slack.wire(text), **more)
    await world.passes(4)


async def deletes(world: Story, said: Said) -> None:
    await world.slack.delete(world.alice.id, said.channel, said.ts)
    await world.passes(4)


async def full(make_world: Make) -> tuple[Story, Said]:
    """Return a world whose only slot is taken by bob, and a request of alice that waits for it."""
    world = await make_world(max_concurrent_runs=1)
    await world.bob.commands("fix the build in org/build", in_="#dev")
    await world.passes(4)
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    return world, asked


async def lets_in(world: Story) -> None:
    """Let bob's run end, so that what waits can start."""
    world.openhands.finish(world.openhands.find("fix the build"), "Done.")
    await world.passes(10)
    assert (read_card(world.cards()[0]).state, bool(world.news())) == ("Done", True)


def kept(world: Story, *tables: str) -> str:
    """Return all that the database holds in these tables, as text."""
    with closing(sqlite3.connect(world.database)) as file:
        return "".join(str(file.execute(f"SELECT * FROM {table}").fetchall()) for table in tables)


def her_card(world: Story) -> Message:
    return world.cards()[-1]


async def test_an_edit_of_what_is_queued_changes_it_and_its_card(make_world: Make) -> None:
    """The agent gets the words as they are when it starts, in the repository that they name."""
    world, asked = await full(make_world)
    await edits(world, asked, "@OpenHands fix the licence in org/other@dev")
    assert read_card(her_card(world)).task == "fix the licence"
    assert "`org/other` · branch `dev`" in her_card(world).text
    await lets_in(world)

    started = world.openhands.find("fix the licence")
    assert (started.messages, started.repository, started.branch) == (["fix the licence"], "org/other", "dev")
    assert read_card(her_card(world)).state == "Working"


async def test_a_queued_request_that_is_edited_to_cancel_is_cancelled(make_world: Make) -> None:
    """And an edit that is no task changes nothing, which its author is told."""
    world, asked = await full(make_world)
    await edits(world, asked, "@OpenHands help")
    assert world.alice.sees() == [words.edit_unread()]
    await edits(world, asked, "@OpenHands cancel")

    assert read_card(her_card(world)).state == "Cancelled"


async def test_an_edit_answers_which_repository(world: Story) -> None:
    """The question is answered by the request itself; a repository that was chosen stays if an edit names none."""
    asked = await world.alice.says("@OpenHands fix README", in_="#dev")
    await world.passes(4)
    assert world.card().state == "Which repository?"
    await edits(world, asked, "@OpenHands fix README in org/repo")

    assert (world.conversation.messages, world.conversation.repository) == (["fix README"], "org/repo")
    assert world.card().state == "Working"


async def test_an_edit_that_names_no_repository_any_more_asks(make_world: Make) -> None:
    """Nothing starts in a place that its author took back."""
    world, asked = await full(make_world)
    await edits(world, asked, "@OpenHands fix README")
    assert read_card(her_card(world)).state == "Which repository?"
    await lets_in(world)

    assert len(world.openhands.conversations) == 1


async def test_an_edit_of_a_reply_that_is_held_changes_it(make_world: Make) -> None:
    """While the run starts, nothing has gone out."""
    world = await make_world(openhands={"start_seconds": 60.0})
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    first = await world.alice.says("and the docs", thread=asked)
    second = await world.alice.says("and lunch", thread=asked)
    await edits(world, first, "and the licence")
    await edits(world, second, "aside: lunch?")
    await world.passes(70)

    assert world.conversation.messages == ["fix README", "and the licence"]
    assert world.alice.sees() == [words.kept_among_people()]
    assert world.card().state == "Working"
    assert (world.reactions(first), world.reactions(second)) == (["eyes"], [])


async def test_a_reply_edited_to_a_word_for_the_bot_is_that_word(make_world: Make) -> None:
    """The agent gets nothing of it."""
    world = await make_world(openhands={"start_seconds": 60.0})
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    reply = await world.alice.says("and stop", thread=asked)
    await edits(world, reply, "stop")
    await world.passes(70)

    assert world.card().state == "Stopped"
    assert world.conversation.messages == ["fix README"]
    assert world.news()


async def test_an_edit_of_what_has_gone_out_is_told_once(world: Story) -> None:
    """Whether it is the task or a reply; its author alone hears it."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(10)
    reply = await world.alice.says("and the docs", thread=asked)
    await world.passes(4)
    for said, text in ((asked, "@OpenHands fix LICENCE in org/repo"), (reply, "and the licence"), (reply, "or not")):
        await edits(world, said, text)

    assert world.alice.sees() == [TOO_LATE, TOO_LATE]
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert world.card().task == "fix README"
    assert world.reactions(reply) == ["eyes"]


async def test_an_edit_that_adds_a_mention_is_a_request_and_one_without_new_words_is_nothing(world: Story) -> None:
    """Slack tells a link preview as a change of the message, too."""
    said = await world.alice.says("fix README in org/repo", in_="#dev")
    await edits(world, said, "fix README in org/repo")
    await world.slack.unfurl(said.channel, said.ts, "https://example.com")
    await world.passes(4)
    assert world.kept() == []
    await edits(world, said, "@OpenHands fix README in org/repo")
    await edits(world, said, "@OpenHands fix README in org/repo")

    assert world.conversation.messages == ["fix README"]
    assert (world.card().state, world.alice.sees()) == ("Working", [])


async def test_a_slip_that_is_mended_by_an_edit_is_a_request(world: Story) -> None:
    """The bot did not understand it, so nothing came of it before."""
    said = await world.alice.says("@OpenHands hlep", in_="#dev")
    await world.passes(4)
    await edits(world, said, "@OpenHands fix README in org/repo")

    assert world.conversation.messages == ["fix README"]
    assert "hlep" in world.alice.sees()[0]
    world.leaves("#dev: card 🛠️ Working")


async def test_an_edit_of_a_start_that_was_refused_goes_out_with_retry(make_world: Make) -> None:
    """Nobody has the task yet."""
    world = await make_world(openhands={"repositories": ["org/repo"]})
    asked = await world.alice.says("@OpenHands fix README in org/repo@dve", in_="#dev")
    await world.passes(10)
    assert world.card().state == "Failed"
    await edits(world, asked, "@OpenHands fix README in org/repo")
    assert world.alice.sees() == [words.edited_for_retry()]
    await world.alice.clicks("retry", world.cards()[0])
    await world.passes(10)

    assert (world.conversation.messages, world.conversation.branch) == (["fix README"], None)
    assert (world.card().state, len(world.news())) == ("Working", 1)
    world.leaves("#dev: eyes, x on a message", "log: run.changed")


async def test_an_edit_of_a_start_that_can_not_get_through_changes_it(world: Story) -> None:
    """It is still on this side."""
    await world.openhands.stop()
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    await edits(world, asked, "@OpenHands fix LICENCE in org/repo")
    await world.openhands.start(int(world.openhands.base_url.rsplit(":", 1)[1]))
    await world.passes(20)

    assert world.conversation.messages == ["fix LICENCE"]
    assert world.card().task == "fix LICENCE"
    assert world.alice.sees() == []


async def test_an_edit_at_the_last_moment_goes_out_or_is_told(world: Story) -> None:
    """While the branch is looked up, nothing has gone out; the start is made with the words as they are then."""

    async def edit() -> None:
        new = world.slack.wire("@OpenHands fix LICENCE in org/repo@main")
        await world.slack.edit(world.alice.id, asked.channel, asked.ts, new)
        await until(lambda: in_database(world, "task") == "fix LICENCE")

    meanwhile(world, "before", "branches", edit)
    channel, text = world.place("#dev"), world.slack.wire("@OpenHands fix README in org/repo@main")
    asked = Said(channel, await world.slack.say(world.alice.id, channel, text), None)
    await world.passes(10)

    assert world.conversation.messages == ["fix LICENCE"]
    assert (world.card().task, world.alice.sees()) == ("fix LICENCE", [])


async def test_a_deletion_takes_back_what_waits(make_world: Make) -> None:
    """A request in the queue, with all that was said to it; nothing of the words is kept."""
    world, asked = await full(make_world)
    reply = await world.alice.says("and the docs", thread=asked)
    await deletes(world, reply)
    await deletes(world, asked)
    card = her_card(world)
    assert (read_card(card).state, read_card(card).task) == ("Cancelled", DELETED)
    await lets_in(world)

    assert len(world.openhands.conversations) == 1
    assert "README" not in kept(world, "runs", "follow_ups", "inbox")
    assert "docs" not in kept(world, "runs", "follow_ups", "inbox")


async def test_a_deletion_of_what_has_gone_out_blanks_what_is_kept(world: Story) -> None:
    """The agent works on; Retry has nothing to start with any more."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(10)
    reply = await world.alice.says("and the docs", thread=asked)
    await world.passes(4)
    await deletes(world, reply)
    await deletes(world, asked)
    assert (world.card().state, world.card().task) == ("Working", DELETED)
    assert "README" not in kept(world, "runs", "follow_ups")
    assert "the docs" not in kept(world, "runs", "follow_ups")
    await world.alice.says("stop", thread=world.cards()[0])
    await world.passes(10)

    assert labels(world.cards()[0]) == ["Open in OpenHands", "Resume"]
    assert world.card().state == "Stopped"
    assert world.news()


async def test_a_message_that_slack_sends_again_after_its_key_was_forgotten_starts_nothing(world: Story) -> None:
    """Eight days later the bot still knows what became of it."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(10)
    world.openhands.finish(world.conversation, "Done.")
    await world.passes(10)
    await world.stops()
    world.clock.move(world.clock.true() + timedelta(days=8))
    await world.starts()
    await world.slack.redeliver(asked.ts)
    await world.passes(10)

    assert len(world.openhands.conversations) == 1
    assert (len(world.cards()), len(world.news())) == (1, 1)
    assert world.alice.sees() == []


async def test_files_reach_the_agent_after_a_start_that_went_out_before_slack_told_of_them(make_world: Make) -> None:
    """They come with one of a mention's two events, which is read back here after a gap."""
    world = await make_world(openhands={"start_seconds": 20.0})
    shot = world.slack.upload(world.alice.id, "shot.png", PNG)
    said = world.slack.wire("@OpenHands fix it in org/repo")
    world.slack.granted_scopes = SCOPES - {"channels:history"}  # the one event comes, the other does not
    await world.slack.say(world.alice.id, world.place("#dev"), said, files=[shot])
    await world.passes(2)
    world.slack.granted_scopes = SCOPES
    world.slack.cut_socket()
    await until(lambda: world.slack.sockets > 0)
    await world.passes(60)

    assert world.conversation.messages == ["fix it", 'Attached: "shot.png"']
    assert len(world.conversation.images) == 1
    assert (world.card().state, len(world.openhands.conversations)) == ("Working", 1)
    world.logged("slack.disconnected")
