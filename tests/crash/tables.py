"""What the bot's tables say is still to be done, and what of it is late: read beside the bot, in SQL of its own."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from bot.core.pacing import Patience

SEVERAL = 10
"""So many pauses of the slowest retry are within the promise: a service in trouble answers at last."""


@dataclass(frozen=True)
class Duty:
    """One way in which a row says that something is to be done.

    query: what, about what, and the times of which the latest is when it came to be due. promise_s: how long it may
    take while both services are there; `what` is the first column.
    """

    query: str
    promise_s: Callable[[str, Patience], float]
    rests: bool = False
    """It stays when nothing is left to do, and may still be late."""


@dataclass(frozen=True)
class Open:
    """Something to be done. `since`: None if nothing will ever do it."""

    what: str
    about: str
    since: datetime | None
    duty: Duty

    def __str__(self) -> str:
        return f"{self.what} of {self.about}"

    def late(self, now: datetime, patience: Patience) -> bool:
        """Return whether it is older than its promise."""
        return self.since is None or (now - self.since).total_seconds() > self.duty.promise_s(self.what, patience)


def judged_s(_what: str, patience: Patience) -> float:
    """Return how long a request may wait: to be read in order, and to find out who made it."""
    return patience.heard_hold_s + patience.facts_person_s + patience.retry_slowest_s


def done_s(kind: str, patience: Patience) -> float:
    """Return how long a row that is the first of its lane may take to be done, or given up aloud."""
    tries_s = SEVERAL * patience.retry_slowest_s
    match kind:
        case "react":
            return patience.reaction_stale_s + tries_s
        case "answer":
            return patience.answer_stale_s + tries_s
        case "start" | "send" | "resume" | "decide" | "stop":
            return patience.unsure_person_s + tries_s
        case _:
            return tries_s


def begun_s(_what: str, patience: Patience) -> float:
    return patience.start_stuck_s + patience.unsure_person_s


def admitted_s(_what: str, patience: Patience) -> float:
    return SEVERAL * patience.full_s


def drawn_s(_what: str, patience: Patience) -> float:
    return SEVERAL * patience.retry_slowest_s


def looked_s(_what: str, patience: Patience) -> float:
    return SEVERAL * patience.retry_slowest_s


def at_once_s(_what: str, _patience: Patience) -> float:
    return 0.0


HELD = "r.undecided IS NOT NULL OR r.waiting = 'approval' OR r.state IN ('queued', 'needs_go', 'needs_repository', 'starting')"
"""A message to the agent waits for a person, a slot or the start."""
OWED = "o.done_at IS NULL AND o.failed_at IS NULL"
REQUEST = Duty(
    """
    SELECT 'request', i.lane, i.received_at, (SELECT max(done_at) FROM inbox p WHERE p.lane = i.lane)
    FROM inbox i WHERE i.done_at IS NULL
    """,
    judged_s,
)
ROW = Duty(
    f"""
    SELECT o.kind, o.lane, o.created_at, (SELECT max(done_at) FROM outbox p WHERE p.lane = o.lane), r.news_at
    FROM outbox o LEFT JOIN runs r ON r.id = o.run
    WHERE {OWED} AND NOT (o.kind = 'send' AND r.id IS NOT NULL AND ({HELD}))
    AND NOT EXISTS (SELECT 1 FROM outbox p WHERE p.lane = o.lane AND p.seq < o.seq AND p.done_at IS NULL AND p.failed_at IS NULL)
    """,
    done_s,
)
REPLY = Duty(
    f"""
    SELECT 'reply that is in no row', f.run, NULL FROM follow_ups f
    WHERE f.state IN ('waiting', 'held', 'sending', 'unsure')
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = f.id AND {OWED})
    """,
    at_once_s,
)
START = Duty("SELECT 'start', id, news_at FROM runs WHERE state = 'starting'", begun_s)
STOP = Duty(
    "SELECT 'stop', id, stop_at FROM runs WHERE stop_by IS NOT NULL AND state = 'working'",
    lambda _what, patience: done_s("stop", patience),
)
CLICK = Duty(
    f"""
    SELECT 'resume or decision that is in no row', r.id, NULL FROM runs r
    WHERE (r.resume_by IS NOT NULL OR (r.approved IS NOT NULL AND r.waiting = 'approval' AND r.next_poll_at IS NULL))
    AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.run = r.id AND o.kind IN ('resume', 'decide') AND {OWED})
    """,
    at_once_s,
)
QUEUED = Duty(
    """
    SELECT 'free slot', id, queued_at, (SELECT max(ended_at) FROM runs) FROM runs WHERE state = 'queued'
    AND NOT EXISTS (SELECT 1 FROM runs b WHERE b.state IN ('starting', 'working'))
    """,
    admitted_s,
)
"""Somebody waits though nothing is at work."""
CARD = Duty(
    """
    SELECT 'card', id, card_at, news_at, heard_at, unreachable_since, call_waits_since, stop_at, queued_at FROM runs
    WHERE version > card_version AND card_ts IS NOT NULL AND NOT card_gone
    """,
    drawn_s,
)
LOOK = Duty(
    "SELECT 'look', id, next_poll_at FROM runs WHERE next_poll_at IS NOT NULL AND state IN ('starting', 'working', 'waiting')",
    looked_s,
    rests=True,
)
BLIND = Duty(
    f"""
    SELECT 'look that will never come', r.id, NULL FROM runs r
    WHERE r.next_poll_at IS NULL AND (r.state = 'working' OR (r.state = 'waiting' AND r.waiting <> 'answer')
    OR (r.state = 'starting' AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.run = r.id AND o.kind IN ('card', 'start') AND {OWED})))
    """,
    at_once_s,
)
DUTIES = (REQUEST, ROW, REPLY, START, STOP, CLICK, QUEUED, CARD, LOOK, BLIND)


async def still_open(database_url: str) -> list[Open]:
    """Return everything that is to be done."""
    if database_url.startswith("sqlite:///"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as file:
            return [one for duty in DUTIES for one in read(duty, file.execute(duty.query))]
    connection = await asyncpg.connect(database_url)
    try:
        return [one for duty in DUTIES for one in read(duty, await connection.fetch(duty.query))]
    finally:
        await connection.close()


def read(duty: Duty, rows: Iterable[Any]) -> Iterable[Open]:
    for what, about, *times in rows:
        yield Open(what, about, max((moment(one) for one in times if one is not None), default=None), duty)


def moment(stored: datetime | str) -> datetime:
    """Return a time as a database gives it: SQLite as text, in UTC."""
    return stored if isinstance(stored, datetime) else datetime.fromisoformat(stored).replace(tzinfo=UTC)


async def late(database_url: str, now: datetime, patience: Patience) -> list[str]:
    """Return everything that is older than its promise."""
    return [f"late: {one}" for one in await still_open(database_url) if one.late(now, patience)]


async def owed(database_url: str, seconds: float) -> list[str]:
    """Return what the bot still owes once everybody was told, and after this real time still does."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (found := unsettled(await still_open(database_url))) and loop.time() < deadline:  # noqa: ASYNC110 - as `until`
        await asyncio.sleep(0.1)
    return found


def unsettled(found: Iterable[Open]) -> list[str]:
    """Return what keeps the bot from being at rest."""
    return [f"owed for ever: {one}" for one in found if not one.duty.rests]


async def replies(database_url: str) -> Mapping[str, str]:
    """Return what became of each reply for an agent, by the `ts` of the message."""
    query = "SELECT source_ts, state FROM follow_ups"
    if database_url.startswith("sqlite:///"):
        with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as file:
            return dict(file.execute(query).fetchall())
    connection = await asyncpg.connect(database_url)
    try:
        return {one["source_ts"]: one["state"] for one in await connection.fetch(query)}
    finally:
        await connection.close()
