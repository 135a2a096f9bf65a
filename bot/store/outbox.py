"""The outbox: what is owed to Slack and OpenHands, written in the transaction of the state that causes it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete, exists, func, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.model import ChannelId, MessageTs, RowId, RunId
from bot.core.owed import OUTBOX, REPOSTABLE, OutboxKind, OutboxRow
from bot.store import unreadable, upserts
from bot.store.listed import as_list, listed
from bot.store.tables import outbox, runs


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A dead letter: a row that could never succeed."""

    seq: int
    kind: str
    """An `OutboxKind`, or a word of a later version."""
    run: RunId | None
    failed_at: datetime
    result: str
    """Slack's or OpenHands' own word for why."""
    channel: ChannelId | None = None
    thread: MessageTs | None = None
    task: str | None = None
    """What the run is about; None without a run, and for one of a private place."""


async def add(
    connection: AsyncConnection,
    kind: OutboxKind,
    *,
    id: RowId,  # noqa: A002 - the column's name
    lane: str,
    now: datetime,
    run: RunId | None = None,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Enqueue a row. Idempotent: an id that is there already changes nothing."""
    values = {
        "id": id,
        "run": run,
        "kind": kind.value,
        "lane": lane,
        "rank": OUTBOX[kind].rank,
        "payload": dict(payload or {}),
        "created_at": now,
        "next_at": now,
    }
    await connection.execute(upserts.add_once(connection, outbox, "id"), values)


OPEN = outbox.c.done_at.is_(None) & outbox.c.failed_at.is_(None)
EARLIER = outbox.alias()
WAITS = exists().where(
    EARLIER.c.lane == outbox.c.lane,
    EARLIER.c.done_at.is_(None),
    EARLIER.c.failed_at.is_(None),
    EARLIER.c.seq < outbox.c.seq,
)
# Statements are built once: building one takes longer than the database needs for it.
DUE = (
    select(outbox)
    .where(
        OPEN,
        outbox.c.next_at <= bindparam("now"),
        outbox.c.lane.not_in(listed("busy")),
        outbox.c.kind.not_in(listed("held")),
        ~WAITS,
    )
    .order_by(outbox.c.rank, outbox.c.seq)
    .limit(bindparam("most"))
)
NEXT_AT = select(func.min(outbox.c.next_at)).where(OPEN, outbox.c.next_at > bindparam("now"))
THIS = update(outbox).where(outbox.c.seq == bindparam("row"))
MARK_ATTEMPT = THIS.values(tried_at=bindparam("now"), attempts=outbox.c.attempts + 1)
RESCHEDULE = THIS.values(next_at=bindparam("at"))
RESCHEDULE_UNSENT = THIS.values(next_at=bindparam("at"), tried_at=None)
UNDO_ATTEMPT = THIS.values(tried_at=None, attempts=bindparam("before"))
DONE = THIS.values(done_at=bindparam("now"), payload=null(), result=bindparam("said"))
RELEASE = (
    update(outbox)
    .where(OPEN, outbox.c.lane.in_(listed("held")), outbox.c.next_at > bindparam("now"))
    .values(next_at=bindparam("now"))
)


async def due(
    connection: AsyncConnection, now: datetime, busy: Collection[str], limit: int, *, held: Collection[OutboxKind] = ()
) -> Sequence[OutboxRow]:
    """Return the first open row of each lane that is not busy and may be tried now, by rank and age.

    held: kinds that nothing can be done for now; a lane waits while its first row is of such a kind.
    Raises `StoreUnreadable`.
    """
    asked = {"now": now, "busy": as_list(busy), "held": as_list(held), "most": limit}
    found = await connection.execute(DUE, asked)
    return [unreadable.read("outbox", row["seq"], row, outbox_row) for row in found.mappings()]


def outbox_row(row: Mapping[Any, Any]) -> OutboxRow:
    return OutboxRow(
        seq=row["seq"],
        id=RowId(row["id"]),
        run=None if row["run"] is None else RunId(row["run"]),
        kind=OutboxKind(row["kind"]),
        lane=row["lane"],
        rank=row["rank"],
        payload=row["payload"] or {},
        created_at=row["created_at"],
        attempts=row["attempts"],
        tried_at=row["tried_at"],
    )


async def next_at(connection: AsyncConnection, now: datetime) -> datetime | None:
    """Return when the next row, of those not due yet, becomes due."""
    found = await connection.execute(NEXT_AT, {"now": now})
    at: datetime | None = found.scalar()
    return at


async def mark_attempt(connection: AsyncConnection, seq: int, now: datetime) -> None:
    """Record, before a call, that it goes out now: from here on its outcome is unknown until reported."""
    await connection.execute(MARK_ATTEMPT, {"row": seq, "now": now})


async def reschedule(connection: AsyncConnection, seq: int, at: datetime, *, sent: bool = True) -> None:
    """Retry a row later. sent: keep the record of a call that may have gone out; False: it surely had no effect."""
    await connection.execute(RESCHEDULE if sent else RESCHEDULE_UNSENT, {"row": seq, "at": at})


async def undo_attempt(connection: AsyncConnection, seq: int, attempts: int) -> None:
    """Undo `mark_attempt`: the call surely had no effect. attempts: how many count from now on."""
    await connection.execute(UNDO_ATTEMPT, {"row": seq, "before": attempts})


async def done(connection: AsyncConnection, seq: int, now: datetime, result: str = "") -> None:
    """Close a row, and delete its payload."""
    await connection.execute(DONE, {"row": seq, "now": now, "said": result[:255]})


async def failed(connection: AsyncConnection, seq: int, now: datetime, result: str) -> None:
    """Close a row that can never succeed; its lane goes on. Its payload is kept only if it can be posted again."""
    row = update(outbox).where(outbox.c.seq == seq)
    await connection.execute(row.values(failed_at=now, result=result[:255]))
    await connection.execute(row.where(outbox.c.kind.not_in([kind.value for kind in REPOSTABLE])).values(payload=None))


async def release(connection: AsyncConnection, *lanes: str, now: datetime) -> None:
    """Make the rows held in these lanes due now."""
    await connection.execute(RELEASE, {"held": as_list(lanes), "now": now})


async def never_sent(connection: AsyncConnection, run: RunId, kind: OutboxKind, now: datetime) -> bool:
    """Close a run's open rows of a kind for which no call went out; return whether there was one."""
    closed = await connection.execute(
        update(outbox)
        .where(OPEN, outbox.c.run == run, outbox.c.kind == kind.value, outbox.c.tried_at.is_(None))
        .values(done_at=now, payload=None, result="withdrawn")
    )
    return closed.rowcount > 0


async def is_unsent(connection: AsyncConnection, run: RunId, kind: OutboxKind) -> bool:
    """Return whether a run's row of a kind is open, and no call went out for it."""
    waits = select(outbox.c.seq).where(
        OPEN, outbox.c.run == run, outbox.c.kind == kind.value, outbox.c.tried_at.is_(None)
    )
    return (await connection.execute(waits.limit(1))).first() is not None


OF_ROW = (outbox.c.seq, outbox.c.kind, outbox.c.run, outbox.c.failed_at, outbox.c.result, outbox.c.payload)
OF_RUN = (runs.c.channel, runs.c.thread_ts, runs.c.card_ts, runs.c.private, runs.c.task)
DEAD = (
    select(*OF_ROW, *OF_RUN)
    .join_from(outbox, runs, outbox.c.run == runs.c.id, isouter=True)
    .where(outbox.c.failed_at.is_not(None))
    .order_by(outbox.c.failed_at, outbox.c.seq)
)


async def dead(connection: AsyncConnection) -> Sequence[DeadRow]:
    """Return every row that was closed as failed, oldest first."""
    found = await connection.execute(DEAD)
    return [
        DeadRow(
            row["seq"],
            row["kind"],
            row["run"],
            row["failed_at"],
            row["result"] or "",
            channel=row["channel"] or (row["payload"] or {}).get("channel"),
            thread=row["thread_ts"] or row["card_ts"] or (row["payload"] or {}).get("thread"),
            task=None if row["private"] else row["task"],
        )
        for row in found.mappings()
    ]


async def revive(connection: AsyncConnection, seqs: Collection[int], now: datetime) -> None:
    """Enqueue failed posts again. Each is looked up before it is posted: an earlier attempt may have arrived."""
    await connection.execute(
        update(outbox)
        .where(outbox.c.seq.in_(seqs), outbox.c.failed_at.is_not(None))
        .where(outbox.c.kind.in_([kind.value for kind in REPOSTABLE]))
        .values(failed_at=None, result=None, attempts=0, next_at=now)
    )


async def drop(connection: AsyncConnection, seqs: Collection[int]) -> None:
    """Delete failed rows, with their payload."""
    await connection.execute(delete(outbox).where(outbox.c.seq.in_(seqs), outbox.c.failed_at.is_not(None)))


FORGET = tuple(
    delete(outbox).where(closed_at < bindparam("before")) for closed_at in (outbox.c.done_at, outbox.c.failed_at)
)


async def forget(connection: AsyncConnection, now: datetime, keep_s: float) -> None:
    """Delete rows that were closed more than `keep_s` seconds ago."""
    for delete_closed in FORGET:  # one statement for each index
        await connection.execute(delete_closed, {"before": now - timedelta(seconds=keep_s)})
