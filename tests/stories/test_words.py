"""Words for the bot, in the places they are declared for."""

from bot.core.vocabulary import WORDS, Where
from tests.conftest import Story


def alone_in(where: Where) -> list[str]:
    """Return all spellings of the words that are commands there by themselves."""
    return [one for word in WORDS if word.command is not None and where in word.where for one in word.spellings]


async def test_no_word_is_taken_for_a_task_in_a_command(world: Story) -> None:
    """Each is answered, only to the person who typed it."""
    typed = [await world.alice.commands(word, in_="#dev") for word in alone_in(Where.COMMAND)]
    await world.passes(20)

    assert len(world.alice.sees()) == len(typed)
    assert (world.posts("#dev"), world.openhands.conversations) == ([], {})


async def test_no_word_is_taken_for_a_task_in_a_mention(world: Story) -> None:
    """As in a command."""
    typed = [await world.alice.says(f"@OpenHands {word}", in_="#dev") for word in alone_in(Where.MENTION)]
    await world.passes(20)

    assert len(world.alice.sees()) == len(typed)
    assert (world.posts("#dev"), world.openhands.conversations) == ([], {})


async def test_no_word_is_taken_for_a_task_in_a_direct_message(world: Story) -> None:
    """Each is answered there."""
    typed = [await world.alice.says(word, in_="dm") for word in alone_in(Where.DIRECT)]
    await world.passes(20)

    assert len(world.posts(world.slack.dm(world.alice.id))) == len(typed)
    assert world.openhands.conversations == {}
