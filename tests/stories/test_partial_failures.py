"""OpenHands fails for some runs only: that is their trouble alone, and the ends of all others are told."""

from typing import Any

import pytest

from bot.simulator.openhands.state import Conversation
from tests.conftest import Make, Story

NAMES = [f"task {number}" for number in range(6)]


async def several(world: Story) -> list[Conversation]:
    """Have six runs at work, and return their conversations."""
    for name in NAMES:
        await world.alice.commands(f"{name} in org/repo", in_="#dev")
    await world.passes(10)
    by_task = {one.messages[0]: one for one in world.openhands.conversations.values()}
    return [by_task[name] for name in NAMES]


def states(world: Story) -> list[str]:
    """Return the states on the cards, in the order of the tasks."""
    shown = {card.text.split("\n")[1]: card.text.split("*")[1].split(" ")[1] for card in world.cards()}
    return [shown[name] for name in NAMES]


async def all_end(world: Story, conversations: list[Conversation], seconds: float) -> None:
    for one in conversations:
        world.openhands.finish(one, "Done that.")
    await world.passes(seconds)


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("bad", [0, 5])
async def test_one_id_that_makes_the_server_fail_hides_no_other(world: Story, bad: int, status: int) -> None:
    """On V1 all share a request: it is asked again in halves, and the end of the odd one is told when it can be seen."""
    conversations = await several(world)
    world.openhands.break_about(conversations[bad], "status", status=status)
    await all_end(world, conversations, 20)
    assert states(world) == ["Working" if number == bad else "Done" for number in range(6)]
    assert len(world.news()) == 5

    world.openhands.recover()
    await world.passes(120)
    assert states(world) == ["Done"] * 6
    assert len(world.news()) == 6


@pytest.mark.parametrize("kind", ["status", "events"])
@pytest.mark.parametrize("bad", [0, 5])
async def test_on_v0_one_conversation_that_fails_hides_no_other(make_world: Make, bad: int, kind: Any) -> None:
    """There each is asked by itself, and so fails by itself."""
    world = await make_world(openhands={"api": "v0"})
    conversations = await several(world)
    world.openhands.break_about(conversations[bad], kind, status=500)
    await all_end(world, conversations, 30)
    assert states(world) == ["Working" if number == bad else "Done" for number in range(6)]
    assert len(world.news()) == 5

    world.openhands.recover()
    await world.passes(60)
    assert states(world) == ["Done"] * 6
    assert len(world.news()) == 6


@pytest.mark.parametrize("api", ["v1", "v0"])
async def test_an_entry_of_odd_shape_hides_nothing_but_itself(make_world: Make, api: str) -> None:
    """Numbers of pull requests only adorn; without a status that can be read a run is not seen."""
    world = await make_world(openhands={"api": api})
    conversations = await several(world)
    status = "sandbox_status" if api == "v1" else "status"
    conversations[0].oddities = {status: {"is": "new"}}
    conversations[1].oddities = {"pr_number": [None]}
    await all_end(world, conversations, 20)
    assert states(world) == ["Working", *["Done"] * 5]

    conversations[0].oddities = {}
    await world.passes(60)
    assert states(world) == ["Done"] * 6
    assert len(world.news()) == 6


async def test_a_start_is_seen_without_its_task(world: Story) -> None:
    """The list of start tasks fails for hours, while conversations answer."""
    world.openhands.break_next("tasks", status=500, times=10_000)
    await several(world)
    assert states(world) == ["Working"] * 6
    await all_end(world, [*world.openhands.conversations.values()], 60)
    assert states(world) == ["Done"] * 6
    assert len(world.news()) == 6
