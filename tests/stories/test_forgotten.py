"""A run that nothing is going to move gives its slot back, and says so."""

import sqlite3
from contextlib import closing

from bot.core.model import Reason
from tests.conftest import Make, read_card
from tests.stories.shared import why


async def test_a_run_that_waits_for_nothing_fails_in_words(make_world: Make) -> None:
    """With one slot, the whole queue would stand behind it for ever."""
    world = await make_world(max_concurrent_runs=1)
    await world.alice.commands("fix one in org/repo", in_="#dev")
    await world.passes(4)
    await world.bob.commands("fix two in org/repo", in_="#dev")
    await world.passes(4)
    await world.stops()
    with closing(sqlite3.connect(world.database)) as file, file:  # as a bot of an earlier version may have left it
        file.execute("UPDATE runs SET state = 'starting', next_poll_at = NULL WHERE state = 'working'")

    await world.starts()
    await world.passes(70)
    forgotten, waiting = map(read_card, world.cards())
    assert (forgotten.state, waiting.state) == ("Failed", "Working")
    assert why(Reason.FORGOTTEN) in forgotten
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(Reason.FORGOTTEN)}"]
    world.logged("run.forgotten")
    world.logged("run.changed")
