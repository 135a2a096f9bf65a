"""The inbox: requests, each committed once, before Slack gets its ack."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, case, delete, exists, func, literal, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core import addressee
from bot.core.model import Incoming, IncomingKind, MessageTs
from bot.store import unreadable, upserts
from bot.store.database import Database
from bot.store.listed import as_list, listed
from bot.store.mapping import from_row, to_row
from bot.store.runs import asking_in, of_message, of_thread
from bot.store.tables import inbox, outbox, runs, threads


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A request that is not done."""

    seq: int
    lane: str
    incoming: Incoming
    received_at: datetime
    attempts: int

    @property
    def id(self) -> int:
        """Identifies the request."""
        return self.seq


def message_key(incoming: Incoming, ts: str) -> str:
    """Return the idempotency key of a message, equal for both events of a mention and every redelivery."""
    return f"msg:{incoming.team}:{incoming.channel}:{ts}"


def lane(incoming: Incoming) -> str:
    """Return the lane of a request: its thread, a person's direct messages outside of threads, or a command by itself.

    What is urgent has a lane beside its thread's, so that a reply that waits there does not hold it up.
    """
    if incoming.kind is IncomingKind.COMMAND:
        return incoming.key
    if incoming.corrects:
        return corrections_lane(incoming)
    if incoming.direct and incoming.action is None and incoming.thread_ts is None:
        return incoming.channel
    thread = f"{incoming.channel}:{incoming.thread}"
    return f"{thread}:urgent" if addressee.is_urgent(incoming) else thread


def corrections_lane(incoming: Incoming) -> str:
    """Return the lane of a message's edits and its deletion."""
    return f"{incoming.channel}:{incoming.ts}:corrections"


async def waits_for_earlier(connection: AsyncConnection, incoming: Incoming, root: MessageTs, *, ahead: bool) -> bool:
    """Return whether what must be handled before this request of a thread is still open in another lane.

    That is its root, and for what is urgent every earlier reply. ahead: these may themselves wait to be read back, so
    only a thread that has no run yet waits for them.
    """
    urgent = addressee.is_urgent(incoming)
    if not (incoming.direct or urgent):
        return False
    waits = _root_waits(incoming, root)
    if urgent:
        earlier = exists().where(
            inbox.c.lane == f"{incoming.channel}:{root}",
            inbox.c.done_at.is_(None),
            inbox.c.position < position(incoming),
        )
        waits |= earlier & ~exists().where(_is_thread(incoming, root)) if ahead else earlier
    return bool((await connection.execute(select(waits))).scalar())


def position(incoming: Incoming) -> str:
    """Return Slack's time of a message, an edit or a click, by which a lane is in order."""
    return incoming.clicked_at or incoming.edited_at or incoming.ts or ""


def _is_thread(incoming: Incoming, root: MessageTs) -> Any:
    return (threads.c.team == incoming.team) & (threads.c.channel == incoming.channel) & (threads.c.thread_ts == root)


def _root_waits(incoming: Incoming, root: MessageTs) -> Any:
    return exists().where(inbox.c.key == message_key(incoming, root), inbox.c.done_at.is_(None))


def may_be_talk(incoming: Incoming) -> bool:
    """Return whether only `is_for_us` can decide: a message between people, or a change of any message."""
    return incoming.corrects or not (
        incoming.kind is not IncomingKind.MESSAGE or incoming.mentions_us or incoming.direct
    )


async def is_for_us(connection: AsyncConnection, incoming: Incoming) -> bool:
    """Return whether a message is a request and not talk. Only a reply that does not mention us costs a query.

    Such a reply is kept if its thread is ours, or if it answers a run in a thread of people. It is also kept if its root
    is a request not handled yet, or if a command's card is still owed in that channel, which may turn out to be its
    root: then the dispatcher decides.
    """
    if not may_be_talk(incoming):
        return True
    if incoming.corrects:
        return await _is_known(connection, incoming, incoming.ts or MessageTs(""))
    if incoming.thread_ts is None:
        return False
    here = _is_thread(incoming, incoming.thread_ts)
    ours = exists().where(here, threads.c.every_reply.is_(True))
    asked = _root_waits(incoming, incoming.thread_ts)
    owed = first_card_owed(incoming.channel)
    is_ours, may_be = (await connection.execute(select(ours | asked | owed, exists().where(here)))).one()
    return bool(is_ours) or (bool(may_be) and await _is_answer(connection, incoming, incoming.thread_ts))


async def _is_known(connection: AsyncConnection, incoming: Incoming, ts: MessageTs) -> bool:
    """Return whether a message was for us."""
    kept = exists().where(inbox.c.key == message_key(incoming, ts))
    if (await connection.execute(select(kept))).scalar():
        return True
    return await of_message(connection, incoming.channel, ts) is not None


async def is_open(connection: AsyncConnection, incoming: Incoming, ts: MessageTs) -> bool:
    """Return whether a message is still to be handled."""
    return bool((await connection.execute(select(_root_waits(incoming, ts)))).scalar())


async def corrections(connection: AsyncConnection, incoming: Incoming) -> Sequence[Incoming]:
    """Return the edits of a message, and its deletion, that came before it was handled, in their order."""
    found = await connection.execute(CORRECTIONS, {"lane": corrections_lane(incoming)})
    return [unreadable.read("inbox", row["seq"], row, inbox_row).incoming for row in found.mappings()]


async def _is_answer(connection: AsyncConnection, incoming: Incoming, thread: MessageTs) -> bool:
    """Return whether a reply in a thread of people is for a run there, although it does not mention us."""
    found = await of_thread(connection, incoming.team, incoming.channel, thread)
    newest = () if found is None else (found[0],)
    runs_there = (*newest, *await asking_in(connection, incoming.channel, thread))
    return any(addressee.counts_unmentioned(run, incoming.user, incoming.text) for run in runs_there)


def first_card_owed(channel: str) -> Any:
    """Return an SQL condition: a command's card, which may be the root of a new thread, is still owed in this channel.

    So may one that is posted once more, if its thread went with it. The card of a mention belongs to a known thread.
    """
    return exists().where(
        outbox.c.kind == "card",
        outbox.c.done_at.is_(None),
        outbox.c.failed_at.is_(None),
        outbox.c.run == runs.c.id,
        runs.c.channel == channel,
        runs.c.request_ts.is_(None),
    )


async def card_owed(connection: AsyncConnection, channel: str) -> bool:
    return bool((await connection.execute(select(literal(1)).where(first_card_owed(channel)))).first())


async def add(database: Database, incoming: Incoming, now: datetime) -> bool:
    """Commit a request, ahead of all waiting writers; return False if it was there already."""
    values = {
        "key": incoming.key,
        "lane": lane(incoming),
        "position": position(incoming),
        "payload": to_row(incoming),
        "received_at": now,
        "next_at": now,
    }
    added = await database.write_down(upserts.add_once(database, inbox, "key"), values)
    return added == 1


EARLIER = inbox.alias()
BEFORE = (EARLIER.c.position < inbox.c.position) | (
    (EARLIER.c.position == inbox.c.position) & (EARLIER.c.seq < inbox.c.seq)
)
# Statements are built once: building one takes longer than the database needs for it.
CORRECTIONS = (
    select(inbox)
    .where(inbox.c.lane == bindparam("lane"), inbox.c.done_at.is_(None))
    .order_by(inbox.c.position, inbox.c.seq)
)
DUE = (
    select(inbox)
    .where(
        inbox.c.done_at.is_(None),
        inbox.c.next_at <= bindparam("now"),
        inbox.c.lane.not_in(listed("busy")),
        ~exists().where(EARLIER.c.lane == inbox.c.lane, EARLIER.c.done_at.is_(None), BEFORE),
    )
    .order_by(inbox.c.seq)
    .limit(bindparam("most"))
)
NEXT_AT = select(func.min(inbox.c.next_at)).where(inbox.c.done_at.is_(None), inbox.c.next_at > bindparam("now"))
DONE = update(inbox).where(inbox.c.seq == bindparam("row")).values(done_at=bindparam("now"), payload=null())


async def due(connection: AsyncConnection, now: datetime, busy: Collection[str], limit: int) -> Sequence[InboxRow]:
    """Return the first open row of each lane that is not busy and may be tried now, oldest first.

    Raises `StoreUnreadable`.
    """
    found = await connection.execute(DUE, {"now": now, "busy": as_list(busy), "most": limit})
    return [unreadable.read("inbox", row["seq"], row, inbox_row) for row in found.mappings()]


def inbox_row(row: Mapping[Any, Any]) -> InboxRow:
    return InboxRow(row["seq"], row["lane"], from_row(Incoming, row["payload"]), row["received_at"], row["attempts"])


async def next_at(connection: AsyncConnection, now: datetime) -> datetime | None:
    """Return when the next row, of those not due yet, becomes due."""
    found = await connection.execute(NEXT_AT, {"now": now})
    at: datetime | None = found.scalar()
    return at


async def done(connection: AsyncConnection, seq: int, now: datetime) -> None:
    """Close a row. Its payload is deleted at once; its key stays, to recognise late repeats."""
    await connection.execute(DONE, {"row": seq, "now": now})


async def again(connection: AsyncConnection, seq: int, at: datetime) -> None:
    await connection.execute(update(inbox).where(inbox.c.seq == seq).values(next_at=at, attempts=inbox.c.attempts + 1))


async def last_received(connection: AsyncConnection) -> Mapping[str, datetime]:
    """Return when each sort of request was last committed; requests deleted since then are not counted."""
    key = inbox.c.key
    sort = case(
        (key.like("cmd:%"), "command"),
        (key.like("act:%"), "click"),
        (key.like("msg:%:D%"), "direct message"),
        else_="message in a channel",
    )
    found = await connection.execute(select(sort, func.max(inbox.c.received_at)).group_by(sort))
    return dict(found.all())


async def newest(connection: AsyncConnection) -> datetime | None:
    """Return when the latest request was committed; None if none is known."""
    at: datetime | None = (await connection.execute(select(func.max(inbox.c.received_at)))).scalar()
    return at


async def forget(connection: AsyncConnection, now: datetime, keep_s: float) -> None:
    """Delete the keys of requests that can't be repeated any more: those done more than `keep_s` seconds ago."""
    await connection.execute(delete(inbox).where(inbox.c.done_at < now - timedelta(seconds=keep_s)))
