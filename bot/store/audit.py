"""Who did what, and by which rule: rows that are only added, each with a fingerprint of the one before.

No row holds a text. Written in the transaction of what it is about.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.model import Act, Action, ChannelId, MessageTs, UserId
from bot.store.tables import audit, runs

BOT = ""
"""The actor of what happens by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one row says."""

    actor: str
    """Who did it; empty: the bot."""
    action: str
    verdict: str
    rule: str = ""
    """The rule that allowed or refused it; of an end its reason."""
    place: str = ""
    run: str = ""
    shown: str = ""
    """A fingerprint of what the person was shown."""


LAST = select(audit.c.seq, audit.c.fingerprint).order_by(audit.c.seq.desc()).limit(1)
ADD = insert(audit)
SINCE = select(audit).where(audit.c.at >= bindparam("since")).order_by(audit.c.seq)
OF_POLICY = select(audit.c.shown).where(audit.c.action == "policy", audit.c.verdict == "in force")
LAST_POLICY = OF_POLICY.order_by(audit.c.seq.desc()).limit(1)
BEGUN = (
    select(audit.c.at)
    .where(
        audit.c.at > bindparam("since"),
        audit.c.action.in_([Act.START.value, Action.RETRY.value]),
        audit.c.verdict == "allowed",
    )
    .order_by(audit.c.seq.desc())
    .limit(bindparam("most"))
)
BEGUN_BY = BEGUN.where(audit.c.actor == bindparam("person"))
BEGUN_IN = BEGUN.join(runs, runs.c.id == audit.c.run).where(
    runs.c.channel == bindparam("channel"), runs.c.thread_ts == bindparam("thread")
)
CONTENT = ("seq", "at", *(field.name for field in fields(Entry)), "before")
PAGE = 1_000


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(row: Mapping[str, Any]) -> str:
    """Return the fingerprint of a row: of all that it says, and of the row before. Lengths keep values apart."""
    values = [
        str(int(one.timestamp() * 1_000_000)) if isinstance(one, datetime) else str(one)
        for one in map(row.get, CONTENT)
    ]
    return sha256("".join(f"{len(value)}:{value}" for value in values))


async def add(connection: AsyncConnection, entry: Entry, now: datetime) -> None:
    """Add a row to the end of the chain."""
    seq, before = (await connection.execute(LAST)).one_or_none() or (0, "")
    row: dict[str, Any] = {"seq": seq + 1, "at": now.astimezone(UTC), **asdict(entry), "before": before}
    await connection.execute(ADD, row | {"fingerprint": fingerprint(row)})


async def policy_in_force(connection: AsyncConnection, shown: str, now: datetime) -> None:
    """Add a row if another policy file is in force than before. shown: its fingerprint; empty without a file."""
    before = (await connection.execute(LAST_POLICY)).scalar()
    if (before or "") != shown:
        await add(connection, Entry(actor=BOT, action="policy", verdict="in force", shown=shown), now)


async def since(connection: AsyncConnection, at: datetime) -> Sequence[Mapping[str, Any]]:
    """Return the rows since a moment, oldest first."""
    return [dict(row) for row in (await connection.execute(SINCE, {"since": at})).mappings()]


async def begun_by(connection: AsyncConnection, person: UserId, since: datetime, most: int) -> Sequence[datetime]:
    """Return when a person began runs or retried some, the latest first, `most` of them."""
    return (await connection.execute(BEGUN_BY, {"person": person, "since": since, "most": most})).scalars().all()


async def begun_in(
    connection: AsyncConnection, channel: ChannelId, thread: MessageTs, since: datetime, most: int
) -> Sequence[datetime]:
    """Return the same of all people in a thread."""
    asked = {"channel": channel, "thread": thread, "since": since, "most": most}
    return (await connection.execute(BEGUN_IN, asked)).scalars().all()


async def every(connection: AsyncConnection) -> AsyncIterator[Mapping[str, Any]]:
    """Yield all rows, in their order."""
    seq = 0
    while True:
        page = select(audit).where(audit.c.seq > seq).order_by(audit.c.seq).limit(PAGE)
        rows = (await connection.execute(page)).mappings().all()
        for row in rows:
            yield dict(row)
        if not rows:
            return
        seq = rows[-1]["seq"]


def broken(row: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterable[str]:
    """Yield what is wrong with a row that follows another one; None: with the first."""
    seq = before["seq"] + 1 if before else 1
    if row["seq"] != seq:
        missing = f"row {seq}" if row["seq"] == seq + 1 else f"rows {seq} to {row['seq'] - 1}"
        yield f"{missing} missing"
    elif row["before"] != (before["fingerprint"] if before else ""):
        yield f"row {row['seq']} does not follow the one before: a row was added, or one was exchanged"
    if row["fingerprint"] != fingerprint(row):
        yield f"row {row['seq']} was changed"
