"""A real database file, and rows to put in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.model import ChannelId, Incoming, IncomingKind, MessageTs, Run, RunId, RunState, TeamId, UserId
from bot.store.database import Database, open_database, sqlite_url

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEAM, DEV, DIRECT, ALICE, BOB = (
    TeamId("T1"),
    ChannelId("C1"),
    ChannelId("D1"),
    UserId("U1"),
    UserId("U2"),
)


def at(seconds: float) -> datetime:
    """Give the time so many seconds after the start."""
    return NOW + timedelta(seconds=seconds)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Database]:
    database = await open_database(sqlite_url(f"sqlite:///{folder}/openhands.db"))
    try:
        yield database
    finally:
        await database.close()


def a_run(name: str = "run-1", **about: Any) -> Run:
    """Give a run at its very start, in a thread of #dev."""
    start: dict[str, Any] = {
        "id": RunId(name),
        "team": TEAM,
        "channel": DEV,
        "thread_ts": None,
        "request_ts": None,
        "private": False,
        "requester": ALICE,
        "task": "fix README",
        "state": RunState.STARTING,
        "turn_at": NOW,
        "seen_at": NOW,
        "created_at": NOW,
        "news_at": NOW,
    }
    return Run(**start | about)


def a_message(ts: str, **about: Any) -> Incoming:
    """Give a message in #dev, outside of a thread, that does not mention us."""
    start: dict[str, Any] = {
        "kind": IncomingKind.MESSAGE,
        "team": TEAM,
        "channel": DEV,
        "user": ALICE,
        "text": "hello",
        "ts": MessageTs(ts),
    }
    merged = start | about
    return Incoming(key=f"msg:{merged['team']}:{merged['channel']}:{ts}", **merged)


def a_command(name: str, **about: Any) -> Incoming:
    return Incoming(
        key=f"cmd:{name}", kind=IncomingKind.COMMAND, team=TEAM, channel=DEV, user=ALICE, text="fix README", **about
    )
