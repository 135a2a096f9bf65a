"""Runs for the tables of the core tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bot.core.model import ChannelId, ConversationId, Run, RunId, RunState, TeamId, UserId, Watch
from tests.changes import changed

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ALICE, BOB = UserId("UALICE"), UserId("UBOB")


def a_run(state: RunState = RunState.WORKING, **given: Any) -> Run:
    """Make a run in its first turn, ten minutes old, last looked at a minute ago."""
    old = NOW - timedelta(minutes=10)
    run = Run(
        id=RunId("run"),
        team=TeamId("T1"),
        channel=ChannelId("C1"),
        thread_ts=None,
        request_ts=None,
        private=False,
        requester=ALICE,
        task="fix README",
        state=state,
        conversation_id=ConversationId("c"),
        turn_at=old,
        created_at=old,
        watch=Watch(observed_at=NOW - timedelta(minutes=1), news_at=old),
    )
    return changed(run, **given)
