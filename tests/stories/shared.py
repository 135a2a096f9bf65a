"""Words and acts that several stories share."""

from typing import Any

from bot.simulator.slack.records import Message
from tests.conftest import Story

SINCE = "since <!date^1772442000^{time}|09:00 UTC>"
ON_IT = "On it. A card for this run appears in the channel in a moment."
ONLY_THERE = "This OpenHands server tells only whether a run is on; what came of it is only there."


def asked_by(world: Story) -> str:
    return f"Asked by <@{world.alice.id}> · `org/repo`"


def direct(world: Story) -> list[str]:
    """Give what the bot wrote to alice directly."""
    return [one.text for one in world.posts(world.slack.dm(world.alice.id))]


def starts(world: Story) -> list[Any]:
    """Give what the bot asked OpenHands to start."""
    return [call.body for call in world.openhands.calls if call.kind == "start"]


def reactions(world: Story, ts: str) -> list[str]:
    message = world.slack.message(world.place("#dev"), ts)
    assert message is not None
    return list(message.reactions)


async def working(world: Story) -> Message:
    """Have a run at work, and give its card."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    return world.cards()[0]
