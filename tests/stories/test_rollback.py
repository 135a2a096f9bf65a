"""An earlier version is started again: what it can't read costs one request or one run, never the process."""

import sqlite3
from contextlib import closing

import pytest

from bot.core.model import RunState
from tests.conftest import Story, read_card
from tests.stories.shared import why, working


async def rolled_back(world: Story, change: str) -> None:
    """Restart the bot on tables in which a later version has left something."""
    await world.stops()
    with closing(sqlite3.connect(world.database)) as file, file:
        file.execute(change)
    await world.starts()
    await world.passes(10)


async def lives(world: Story) -> None:
    """Ask for another run, which goes to its end."""
    await world.bob.commands("fix tests in org/repo", in_="#dev")
    await world.passes(10)
    world.openhands.finish(list(world.openhands.conversations.values())[-1], "Fixed.")
    await world.passes(10)
    assert read_card(world.cards()[-1]).state == "Done"
    assert "✅ Done" in world.news()[-1]
    assert len(world.news("#news")) > 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE outbox SET kind = 'poem', done_at = NULL WHERE kind = 'start'",
        'UPDATE inbox SET done_at = NULL, payload = \'{"kind": "poem"}\'',
        "UPDATE inbox SET done_at = NULL, payload = NULL",
    ],
    ids=["outbox", "inbox", "no payload"],
)
async def test_a_row_that_cannot_be_read_is_closed(world: Story, change: str) -> None:
    """It is in the log once, and nothing waits behind it."""
    await working(world)
    await rolled_back(world, change)
    assert len(world.logged("store.row_unreadable")) == 1
    await lives(world)


@pytest.mark.parametrize("column", ["state", "phase", "reason", "api"])
async def test_a_run_that_cannot_be_read_fails_in_words(world: Story, column: str) -> None:
    """All others are looked at as ever."""
    await working(world)
    await rolled_back(world, f"UPDATE runs SET {column} = 'poem'")
    assert world.card().state == "Failed"
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(None, RunState.FAILED)}"]
    assert len(world.logged("store.row_unreadable")) == 1
    await lives(world)


async def test_a_run_of_an_unknown_shape_is_left_alone(world: Story) -> None:
    """Nobody can say what it is; it costs one line in the log."""
    await working(world)
    await rolled_back(world, "UPDATE runs SET pull_requests = '7'")
    assert len(world.logged("store.row_unreadable")) == 1
    assert world.card().state == "Working"
    await lives(world)
