"""The server speaks another API than a run was started with: it can say nothing of that run, so nothing is believed."""

from typing import Literal

import pytest

from bot.core import words
from tests.conftest import Make
from tests.stories.shared import reactions, working


@pytest.mark.parametrize(("was", "now"), [("v0", "v1"), ("v1", "v0")])
async def test_a_run_is_judged_only_by_the_api_it_was_started_with(
    make_world: Make, was: Literal["v0", "v1"], now: Literal["v0", "v1"]
) -> None:
    """It is not seen, which its card says; messages and stops come back, and nothing is lost once it is back."""
    world = await make_world(openhands={"api": was})
    card = await working(world)
    await world.stops()
    world.openhands._api = now
    await world.starts()
    await world.passes(600)
    assert world.card().state == "Working"
    assert "I haven't got through to OpenHands" in world.cards()[0].text

    there = (
        world.openhands.base_url + "/conversations/" + world.conversation.id.replace("-", "" if was == "v0" else "-")
    )
    said = await world.alice.says("and the docs", thread=card)
    await world.alice.says("stop", thread=card)
    await world.passes(4)
    assert world.news() == [
        f"<@{world.alice.id}> {words.follow_up_unsupported(there)}",
        f"<@{world.alice.id}> {words.cannot_stop(there)}",
    ]

    await world.stops()
    world.openhands._api = was
    await world.starts()
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(40)
    assert world.card().state == "Done"
    assert len(world.news()) == 3
    assert reactions(world, said.ts) == ["x"]
    world.logged("run.unseen")
