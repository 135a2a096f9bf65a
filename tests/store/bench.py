"""A real database, a program that is in its way, and rows to put in it."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from bot.core.model import ChannelId, Incoming, IncomingKind, MessageTs, Run, RunId, RunState, TeamId, UserId, Watch
from bot.store.database import Database, open_database
from tests.changes import changed

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TEAM, DEV, DIRECT, ALICE, BOB = (
    TeamId("T1"),
    ChannelId("C1"),
    ChannelId("D1"),
    UserId("U1"),
    UserId("U2"),
)


def at(seconds: float) -> datetime:
    """Return the time so many seconds after the start."""
    return NOW + timedelta(seconds=seconds)


@asynccontextmanager
async def opened(where: Path | str) -> AsyncIterator[Database]:
    """Open a database by its address, or the file of a folder."""
    database = await open_database(file_in(where) if isinstance(where, Path) else where)
    try:
        yield database
    finally:
        await database.close()


def file_in(folder: Path) -> str:
    return f"sqlite:///{folder}/openhands.db"


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Let another program hold what a writer needs; whoever reads is not in its way."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE inbox, runs IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


def a_run(name: str = "run-1", **about: Any) -> Run:
    """Return a run at its very start, in a thread of #dev."""
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
        "created_at": NOW,
        "watch": Watch(observed_at=NOW, news_at=NOW),
    }
    return changed(Run(**start), **about)


def a_message(ts: str, **about: Any) -> Incoming:
    """Return a message in #dev, outside of a thread, that does not mention us."""
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
