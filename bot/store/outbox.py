"""What is owed to Slack and OpenHands, written in the transaction of the state that causes it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.model import RowId, RunId
from bot.store.tables import outbox


class Owed(StrEnum):
    """The kinds of rows, each done by one handler of the sender."""

    CARD = "card"
    MESSAGE = "message"
    """A new message in the thread of a run."""
    REPLY = "reply"
    """A message in any thread or conversation."""
    NOTIFY = "notify"
    """A line in the team's channel."""
    DIRECT = "direct"
    """A direct message to one person."""
    ANSWER = "answer"
    """A sentence only one person sees; at most once."""
    REACT = "react"
    START = "start"
    SEND = "send"
    STOP = "stop"


RANKS = {
    Owed.MESSAGE: 0,
    Owed.DIRECT: 0,
    Owed.ANSWER: 0,
    Owed.REPLY: 1,
    Owed.STOP: 1,
    Owed.CARD: 2,
    Owed.SEND: 2,
    Owed.START: 3,
    Owed.NOTIFY: 3,
    Owed.REACT: 4,
}
"""Who goes first when there is not enough for all: the lower. A person must look > new card > the rest."""


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """Something owed. `tried_at` is when a call went out whose outcome is not known; None: nothing went out."""

    seq: int
    id: RowId
    run: RunId | None
    kind: Owed
    lane: str
    rank: int
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int
    tried_at: datetime | None


async def add(
    connection: AsyncConnection,
    kind: Owed,
    *,
    id: RowId,  # noqa: A002 - the column's name
    lane: str,
    now: datetime,
    run: RunId | None = None,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Owe something; an id that is there already changes nothing."""
    await connection.execute(
        insert(outbox)
        .values(
            id=id,
            run=run,
            kind=kind.value,
            lane=lane,
            rank=RANKS[kind],
            payload=dict(payload or {}),
            created_at=now,
            next_at=now,
        )
        .on_conflict_do_nothing(index_elements=["id"])
    )


def open_() -> Any:
    return outbox.c.done_at.is_(None) & outbox.c.failed_at.is_(None)


async def due(connection: AsyncConnection, now: datetime, busy: Collection[str], limit: int) -> Sequence[OutboxRow]:
    """Give the first open row of each lane that is not busy and may be tried now, by rank and age."""
    earlier = outbox.alias()
    waits = exists().where(
        earlier.c.lane == outbox.c.lane,
        earlier.c.done_at.is_(None),
        earlier.c.failed_at.is_(None),
        earlier.c.seq < outbox.c.seq,
    )
    found = await connection.execute(
        select(outbox)
        .where(open_(), outbox.c.next_at <= now, outbox.c.lane.not_in(busy), ~waits)
        .order_by(outbox.c.rank, outbox.c.seq)
        .limit(limit)
    )
    return [
        OutboxRow(
            seq=row["seq"],
            id=RowId(row["id"]),
            run=None if row["run"] is None else RunId(row["run"]),
            kind=Owed(row["kind"]),
            lane=row["lane"],
            rank=row["rank"],
            payload=row["payload"] or {},
            created_at=row["created_at"],
            attempts=row["attempts"],
            tried_at=row["tried_at"],
        )
        for row in found.mappings()
    ]


async def next_at(connection: AsyncConnection, now: datetime) -> datetime | None:
    """When the next row becomes due that is not yet."""
    found = await connection.execute(select(func.min(outbox.c.next_at)).where(open_(), outbox.c.next_at > now))
    at: datetime | None = found.scalar()
    return at


async def trying(connection: AsyncConnection, seq: int, now: datetime) -> None:
    """Say, before the call, that it goes out now: from here on its outcome is unknown until told."""
    await connection.execute(
        update(outbox).where(outbox.c.seq == seq).values(tried_at=now, attempts=outbox.c.attempts + 1)
    )


async def again(connection: AsyncConnection, seq: int, at: datetime, *, sent: bool) -> None:
    """Try later. sent: the last call may have had its effect, so look before repeating."""
    values: dict[str, Any] = {"next_at": at}
    if not sent:
        values["tried_at"] = None
    await connection.execute(update(outbox).where(outbox.c.seq == seq).values(**values))


async def not_sent(connection: AsyncConnection, seq: int, attempts: int) -> None:
    """Take back `trying`: the call surely had no effect. attempts: as many as there were before."""
    await connection.execute(update(outbox).where(outbox.c.seq == seq).values(tried_at=None, attempts=attempts))


async def done(connection: AsyncConnection, seq: int, now: datetime, result: str = "") -> None:
    """Close a row; its words go."""
    await connection.execute(
        update(outbox).where(outbox.c.seq == seq).values(done_at=now, payload=None, result=result[:255])
    )


async def failed(connection: AsyncConnection, seq: int, now: datetime, result: str) -> None:
    """Close a row that can never succeed; its lane goes on."""
    await connection.execute(
        update(outbox).where(outbox.c.seq == seq).values(failed_at=now, payload=None, result=result[:255])
    )


async def release(connection: AsyncConnection, lane: str, now: datetime) -> None:
    """Let what was held in a lane go now."""
    await connection.execute(
        update(outbox).where(open_(), outbox.c.lane == lane, outbox.c.next_at > now).values(next_at=now)
    )


async def never_sent(connection: AsyncConnection, run: RunId, kind: Owed, now: datetime) -> bool:
    """Close a run's open rows of a kind for which no call went out; True when there was one."""
    closed = await connection.execute(
        update(outbox)
        .where(open_(), outbox.c.run == run, outbox.c.kind == kind.value, outbox.c.tried_at.is_(None))
        .values(done_at=now, payload=None, result="withdrawn")
    )
    return closed.rowcount > 0


async def forget(connection: AsyncConnection, now: datetime, keep_s: float) -> None:
    """Delete rows that were closed long ago."""
    before = now - timedelta(seconds=keep_s)
    await connection.execute(delete(outbox).where((outbox.c.done_at < before) | (outbox.c.failed_at < before)))
