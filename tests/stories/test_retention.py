"""What is over for long is deleted; who comes back to it is told."""

from contextlib import closing
from dataclasses import replace
from sqlite3 import connect

import pytest

from bot.core import words
from tests.conftest import HURRY, Make, Story
from tests.stories.shared import working

WEEK = replace(HURRY, keep_runs_s=1800.0, look_around_s=600.0)
"""The story's 90 days are half an hour."""


@pytest.fixture
async def over(make_world: Make) -> Story:
    """Return a world whose only run got a reply, and ended an hour ago."""
    world = await make_world(patience=WEEK)
    card = await working(world)
    await world.alice.says("and the docs", thread=card)
    await world.passes(10)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(30)
    assert (world.card().state, len(world.news())) == ("Done", 1)
    assert rows(world) == {"runs": 1, "follow_ups": 1, "threads": 1}
    await world.passes(4200)
    return world


def rows(world: Story) -> dict[str, int]:
    with closing(connect(world.database)) as file:
        return {
            table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("runs", "follow_ups", "threads")
        }


async def test_a_run_that_is_over_for_long_is_deleted_with_what_was_said(over: Story) -> None:
    """Its thread is remembered for longer, and forgotten too in the end."""
    assert rows(over) == {"runs": 0, "follow_ups": 0, "threads": 1}
    await over.passes(2 * 3600)
    assert rows(over) == {"runs": 0, "follow_ups": 0, "threads": 0}


async def test_a_reply_to_a_run_that_is_not_kept_is_told_once(over: Story) -> None:
    """It was meant for the agent; what people say there later is talk."""
    [card] = over.cards()
    await over.alice.says("and the tests, please", thread=card)
    await over.bob.says("nice weather", thread=card)
    await over.passes(5)
    assert over.alice.sees()[1:] == [words.not_kept()]
    assert over.bob.sees() == []
    assert over.conversation.messages == ["fix README", "and the docs"]


async def test_a_mention_under_a_run_that_is_not_kept_starts_anew(over: Story) -> None:
    [card] = over.cards()
    await over.alice.says("@OpenHands fix the tests in org/repo", thread=card)
    await over.passes(10)
    first, anew = over.openhands.conversations.values()
    assert first.messages == ["fix README", "and the docs"]
    assert anew.messages[0].startswith("fix the tests\n")
    over.leaves("#dev: card 🛠️ Working")


async def test_a_button_of_a_run_that_is_not_kept_says_so(over: Story) -> None:
    await over.alice.commands("fix LICENSE in org/repo", in_="#dev")
    await over.passes(4)
    at_work = over.cards()[1]
    over.openhands.finish(over.openhands.find("fix LICENSE"), "Fixed that.")
    await over.passes(2 * 3700)
    await over.alice.clicks("stop", at_work)
    await over.passes(5)
    assert over.alice.sees()[-1:] == [words.unknown_button()]
    assert len(over.news()) == 2
    over.leaves("#dev: card ✅ Done")


async def test_runs_are_kept_for_ever_where_the_operator_wants_it(make_world: Make) -> None:
    world = await make_world(patience=replace(WEEK, keep_runs_s=0.0))
    await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(2 * 3700)
    assert rows(world) == {"runs": 1, "follow_ups": 0, "threads": 1}
    assert (world.card().state, len(world.news())) == ("Done", 1)
