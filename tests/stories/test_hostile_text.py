"""Text that could ping, break, hide, leak or flood: shown as it is, or not at all."""

from typing import Any

import pytest

from bot.simulator.slack.records import Message
from tests.conftest import Story

PINGS = "<!channel> <!here> <!everyone> @channel @here @everyone <!subteam^S0123456789>"
LITERAL = "&lt;!channel&gt; &lt;!here&gt; &lt;!everyone&gt; @channel @here @everyone &lt;!subteam^S0123456789&gt;"
TYPED = "@channel @here @everyone @channel @here @everyone @S0123456789"
TOKEN = "ghp_" + "a1B2c3D4e5" * 4


def texts(message: Message) -> str:
    """Return all that a message says, in `text` and blocks alike."""
    return message.text + "".join(said(message.blocks))


def said(part: Any) -> list[str]:
    match part:
        case list() | tuple():
            return [text for one in part for text in said(one)]
        case {"type": "text" | "mrkdwn" | "plain_text", "text": str(text)}:
            return [text]
        case dict():
            return [text for one in part.values() for text in said(one)]
        case _:
            return []


async def test_a_task_pings_nobody(world: Story) -> None:
    """Groups named in a task stand on the card as they were typed, for the team's line too; no one is called."""
    await world.alice.commands(f"tell {PINGS} in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Told them.")
    await world.passes(4)

    assert world.card().task == f"tell {TYPED}"
    assert world.conversation.messages == [f"tell {TYPED}"]
    assert all(one.broadcasts == frozenset() for one in (*world.posts("#dev"), *world.posts("#news")))


async def test_an_answer_pings_nobody(world: Story) -> None:
    """The agent's words are literal: groups, people and the bot itself."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, f"{PINGS} <@{world.bob.id}> @bob <@{world.slack.bot_user_id}>")
    await world.passes(4)

    posts = (*world.posts("#dev"), *world.posts("#news"))
    assert all(one.broadcasts == frozenset() for one in posts)
    assert all(one.mentions <= {world.alice.id} for one in posts)
    assert world.news() == [
        f"<@{world.alice.id}> ✅ Done\n{LITERAL} &lt;@{world.bob.id}&gt; @bob &lt;@{world.slack.bot_user_id}&gt;"
    ]


async def test_progress_and_errors_ping_nobody(world: Story) -> None:
    """Nor do the lines in between, or what a model's provider says."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.progress(world.conversation, f"Calling {PINGS}")
    await world.passes(6)
    assert world.card().lines[0] == f"_Calling {LITERAL}_"

    world.openhands.fail(world.conversation, "LLMBadRequestError", f"Bad: {PINGS}")
    await world.passes(6)

    assert world.card().lines[1] == f"> Bad: {LITERAL}"
    assert all(one.broadcasts == frozenset() for one in world.posts("#dev"))
    world.leaves("#dev: eyes, x on a message")


async def test_a_questions_options_and_a_status_ping_nobody(world: Story) -> None:
    """Sentences of ours that quote people escape what they quote."""
    asked = await world.alice.says("@OpenHands tell @channel and @here what org/a has over org/b")
    await world.alice.says("status", thread=asked)
    await world.alice.commands("list", in_="#dev")
    await world.passes(4)

    assert all(one.broadcasts == frozenset() for one in world.posts("#dev"))
    assert "<!" not in world.alice.sees()[0].replace("<!date", "")


async def test_forty_thousand_characters_reach_the_agent_whole(world: Story) -> None:
    """The card shows the beginning; nothing of the task is lost."""
    task = "fix this: " + "lorem ipsum " * 3330
    await world.alice.commands(f"{task}in org/repo", in_="#dev")
    await world.passes(4)

    assert world.conversation.messages == [task.strip()]
    card = world.card()
    assert card.state == "Working"
    assert len(card.task) == 600
    assert card.task.endswith("…")


async def test_forty_thousand_characters_in_a_reply_reach_the_agent_whole(world: Story) -> None:
    """Slack's longest message is a follow-up like any other."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    long = "word " * 7_999 + "end"
    await world.alice.says(long, thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", long]
    world.leaves("#dev: card 🛠️ Working")


@pytest.mark.parametrize("character", ["&", "<", "x", "🙂", "\u0301"], ids=["amp", "lt", "letter", "emoji", "accent"])
async def test_a_task_of_one_character_over_and_over_still_has_a_card(world: Story, character: str) -> None:
    """Escaping makes some five times as long, and nothing has a space to be cut at."""
    await world.alice.says(f"@OpenHands fix {character * 8_000} in org/repo")
    await world.passes(4)

    assert world.conversation.messages == [f"fix {character * 8_000}"]
    assert world.card().state == "Working"
    assert world.card().task.startswith("fix ")


async def test_a_long_answer_is_shortened_with_a_link_to_the_rest(world: Story) -> None:
    """Slack takes only so much; where the rest is, is said."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, "word " * 8_000)
    await world.passes(4)

    assert world.card().state == "Done"
    [told] = [one for one in world.posts("#dev") if one not in world.cards()]
    assert told.text.startswith(f"<@{world.alice.id}> ✅ Done\nword word")
    assert len(told.text) <= 4_000
    [link] = told.blocks[-1]["elements"]
    page = f"{world.openhands.base_url}/conversations/{world.conversation.id}"
    assert link["text"] == f"<{page}|The whole answer is in OpenHands>"


async def test_an_answer_of_nothing_but_ampersands_is_told(world: Story) -> None:
    """Five times as long once escaped: it is cut, never refused, and no half entity is left."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, "&" * 30_000)
    await world.passes(4)

    assert world.card().state == "Done"
    assert [text.split("\n")[0] for text in world.news()] == [f"<@{world.alice.id}> ✅ Done"]


async def test_markdown_of_the_agent_becomes_slacks_rich_text(world: Story) -> None:
    """Lists, code and links are shown as such, and a link never claims another address."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(
        world.conversation, "# Fixed\n\n- **one** in `README.md`\n- [github.com](https://evil.example/x)\n"
    )
    await world.passes(4)

    [told] = [one for one in world.posts("#dev") if one not in world.cards()]
    [rich] = [block for block in told.blocks if block["type"] == "rich_text"]
    kinds = [element["type"] for element in rich["elements"]]
    assert kinds == ["rich_text_section", "rich_text_list"]
    assert "github.com (evil.example)" in told.text


async def test_emoji_and_writing_from_right_to_left_stay_what_they_are(world: Story) -> None:
    """People write in their own script."""
    task = "תקן את README 👩‍👩‍👧 🇩🇪 é"
    await world.alice.says(f"@OpenHands {task} in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, f"بعد {task}")
    await world.passes(4)

    assert world.conversation.messages == [task]
    assert world.card().task == task
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nبعد {task}"]


async def test_control_characters_are_not_shown(world: Story) -> None:
    """Bidi controls reorder what is read, others hide or break it; the words remain."""
    await world.alice.says("@OpenHands fix\x00 \u202ethe\u202c \x1b[31mREADME\x07 in org/repo")
    await world.passes(4)
    assert world.card().task == "fix the README"

    world.openhands.finish(world.conversation, "did\x00 \u202eit\u202c \x1b[31mnow\x07")
    await world.passes(4)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\ndid it now"]
    assert world.card().lines[0] == "did it now"


async def test_what_looks_like_a_token_is_not_shown_in_answers(world: Story) -> None:
    """An agent may quote what it found; the channel must not learn it."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.progress(world.conversation, f"export TOKEN={TOKEN}")
    await world.passes(6)
    assert world.card().lines[0] == "_export TOKEN=[redacted]_"

    world.openhands.finish(world.conversation, f"Found {TOKEN} in the README")
    await world.passes(6)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFound [redacted] in the README"]
    assert all(TOKEN not in texts(one) for one in (*world.posts("#dev"), *world.posts("#news")))


async def test_what_looks_like_a_token_in_a_command_is_not_posted_for_all_to_see(world: Story) -> None:
    """Nobody but its author saw the command; the agent gets it whole, the card does not show it."""
    await world.alice.commands(f"push with {TOKEN} in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Pushed.")
    await world.passes(4)
    await world.bob.commands("list", in_="#dev")
    await world.passes(2)

    assert world.conversation.messages == [f"push with {TOKEN}"]
    assert world.card().task == "push with [redacted]"
    assert all(TOKEN not in texts(one) for one in (*world.posts("#dev"), *world.posts("#news")))
    assert all(TOKEN not in one for one in world.bob.sees())
