"""A run that nothing is going to move gives its slot back, and says so."""

import sqlite3
from contextlib import closing
from dataclasses import replace

from bot.core import words
from bot.core.model import Reason, RunState, UserId
from bot.core.pacing import Patience
from tests.conftest import HURRY, Make, read_card
from tests.core.runs import a_run
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


async def test_a_question_that_nobody_answers_ends(make_world: Make) -> None:
    """The thread hears of it once, a younger question stays, and who answers later is told what to do."""
    world = await make_world(patience=replace(HURRY, question_s=3000.0, look_around_s=600.0))
    asked = await world.alice.says("@OpenHands fix README", in_="#dev")
    await world.passes(1800)
    await world.bob.says("@OpenHands fix the tests", in_="#dev")
    await world.passes(2500)
    old, young = map(read_card, world.cards())
    assert (old.state, young.state) == ("Cancelled", "Which repository?")
    assert "Cancelled, since nobody answered my question, before anything was started." in old
    told = words.unanswered(a_run(RunState.CANCELLED, requester=UserId(world.alice.id)))
    assert world.news() == [told]
    assert Patience().question_s == 7 * 86400.0  # as the sentence says

    await world.alice.says("org/repo", thread=asked)
    await world.passes(4)
    assert world.news() == [told, words.follow_up_cancelled()]
    assert world.openhands.conversations == {}
