"""A state change and all its effects, in one transaction."""

from dataclasses import replace
from pathlib import Path

import pytest

from bot import effects
from bot.core.errors import StoreOvertaken
from bot.core.model import Effect, RunState, TeamId, UserId
from bot.effects import Links
from bot.slack.recognise import Identity
from bot.store import outbox, runs
from tests.store.bench import NOW, a_run, opened

US = Identity(TeamId("T1"), UserId("UBOT"), "B1", "https://team.slack.com/")
LINKS = Links(US, "https://oh.example", notifies=True)


async def test_who_comes_second_changes_and_owes_nothing(tmp_path: Path) -> None:
    """Of two changes based on the same state, the second one finds another state and does nothing, aloud."""
    async with opened(tmp_path) as database, database.transaction() as tx:
        run = replace(a_run("one"), state=RunState.WORKING)
        await runs.add(tx, run)
        stale = replace(run, state=RunState.STARTING)
        changed = (replace(stale, state=RunState.LOST), (Effect.TELL, Effect.NOTIFY))
        with pytest.raises(StoreOvertaken):
            await effects.apply_transition(tx, stale, changed, LINKS, NOW)
        assert await outbox.due(tx, NOW, [], 10) == []
        assert (await runs.get(tx, run.id)).state is RunState.WORKING
