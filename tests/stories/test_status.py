"""Asking how it is: in the thread for everybody, by command for oneself."""

import re

from bot.core import words
from bot.core.model import Unclear, UnclearReason
from tests.conftest import Story
from tests.core.runs import a_run
from tests.stories.shared import nine

HELP = words.help_text()

LINK = r" · <https://[^>]*\|thread>"


async def test_status_in_a_thread_is_answered_there(world: Story) -> None:
    """One message, and the agent hears nothing of it."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.progress(world.conversation, "Reading the README")
    await world.passes(6)
    await world.bob.says("Status?", thread=asked)
    await world.passes(4)

    [answer] = [one for one in world.posts("#dev", thread=asked.ts) if one not in world.cards()]
    assert re.sub(LINK, "", answer.text) == "*🛠️ Working*: fix README · `org/repo`\nLast: Reading the README"
    assert answer.mentions == frozenset()
    assert world.conversation.messages == ["fix README"]
    assert world.bob.sees() == []


async def test_status_says_what_a_waiting_run_needs(world: Story) -> None:
    """The same words as on the card: why it is where it is, and the one thing to do."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.bob.says("status", thread=asked)
    await world.passes(2)

    [told] = world.news()
    assert (
        re.sub(LINK, "", told) == f"*❔ Which repository?*: why is the build slow?\n{words.which_repository(a_run())}"
    )
    world.leaves("#dev: card ❔ Which repository?")


async def test_status_by_mention_works_in_peoples_thread(world: Story) -> None:
    """There a bare word is talk; with a mention it is for the bot."""
    talk = await world.bob.says("the build is red")
    await world.alice.says("@OpenHands find out why in org/repo", thread=talk)
    await world.passes(4)
    await world.bob.says("status", thread=talk)
    await world.bob.says("@OpenHands status", thread=talk)
    await world.passes(4)

    assert [re.sub(LINK, "", one) for one in world.news()] == ["*🛠️ Working*: find out why · `org/repo`"]
    assert len(world.conversation.messages) == 1
    world.leaves("#dev: card 🛠️ Working")


async def test_the_status_command_shows_ones_own_live_runs_alone(world: Story) -> None:
    """Only to the person who asked, and only what is not over; the channel sees nothing."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.bob.commands("fix LICENSE in org/repo", in_="#dev")
    await world.passes(6)
    typed = await world.alice.commands("status", in_="#dev")
    await world.passes(2)

    assert typed.ack_text is None
    assert [re.sub(LINK, "", one) for one in world.alice.sees()[1:]] == ["*🛠️ Working*: fix README · `org/repo`"]
    assert world.bob.sees()[1:] == []
    assert world.news() == []

    world.openhands.finish(world.openhands.find("fix README"), "Fixed it.")
    await world.passes(4)
    await world.alice.commands("status", in_="#dev")

    assert world.alice.sees()[2:] == [words.no_run_of_yours()]
    world.leaves("#dev: card ✅ Done", "#dev: card 🛠️ Working", "#dev: ✅ Done")


async def test_the_list_command_shows_the_runs_of_the_place(world: Story) -> None:
    """Everybody's, newest first, each linked to its thread; none of other places."""
    world.channel("#other", world.alice)
    await world.alice.commands("fix NOTICE in org/repo", in_="#other")
    await world.passes(2)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(2)
    await world.bob.commands("why is the build slow?", in_="#dev")
    await world.passes(2)
    await world.bob.commands("list", in_="#dev")
    await world.passes(2)

    first, second = (card.ts.replace(".", "") for card in world.cards())
    base = f"{world.slack.workspace_url}archives/{world.place('#dev')}/p"
    assert world.bob.sees()[1:] == [
        (
            f"• ❔ Which repository?: <{base}{second}|why is the build slow?>, asked by <@{world.bob.id}> {nine(4)}\n"
            f"• 🛠️ Working: <{base}{first}|fix README> in `org/repo`, asked by <@{world.alice.id}> {nine(2)}"
        )
    ]
    world.leaves("#other: card 🛠️ Working")


async def test_an_empty_list_says_how_to_start(world: Story) -> None:
    """Nothing to show is no reason to say nothing."""
    await world.alice.commands("list", in_="#dev")

    assert world.alice.sees() == [words.runs([])]


async def test_help_is_shown_to_whoever_asks(world: Story) -> None:
    """By command, by mention, and in a thread: always to the person alone."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    await world.bob.commands("help", in_="#dev")
    await world.bob.says("@OpenHands help")
    await world.bob.says("help", thread=asked)
    await world.passes(4)

    assert world.bob.sees() == [HELP, HELP, HELP]
    assert world.conversation.messages == ["fix README"]
    assert world.news() == []
    world.leaves("#dev: card 🛠️ Working")


async def test_in_direct_messages_answers_are_messages(world: Story) -> None:
    """Nobody else reads there, so the answer stays."""
    said = await world.alice.says("help", in_="dm")

    assert world.news(said.channel) == [HELP]
    assert world.alice.sees() == []


async def test_a_slip_of_the_fingers_is_no_task(world: Story) -> None:
    """`stauts` starts no agent: it is asked about, whatever way it was said."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    await world.bob.commands("stauts", in_="#dev")
    await world.bob.says("stpo", thread=asked)
    await world.passes(4)

    assert world.bob.sees() == [
        words.unclear(Unclear(UnclearReason.MISSPELT, "stauts", "status")),
        words.unclear(Unclear(UnclearReason.MISSPELT, "stpo", "stop")),
    ]
    assert world.conversation.messages == ["fix README"]
    assert len(world.openhands.conversations) == 1
    world.leaves("#dev: card 🛠️ Working")


async def test_a_command_delivered_twice_is_answered_once(world: Story) -> None:
    """The reply that asks is a message like any other: Slack may repeat it."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    status = await world.bob.says("status", thread=asked)
    await world.slack.redeliver(status.ts)
    await world.passes(4)

    assert [re.sub(LINK, "", one) for one in world.news()] == ["*🛠️ Working*: fix README · `org/repo`"]
    world.leaves("#dev: card 🛠️ Working")
