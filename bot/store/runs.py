"""Runs, their threads and their follow-ups."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import UpdateBase, and_, bindparam, case, delete, exists, func, insert, not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.errors import StoreOvertaken
from bot.core.lifecycle import ENDED, OCCUPIES
from bot.core.model import (
    LIVE,
    Action,
    ChannelId,
    ConversationId,
    FollowUp,
    FollowUpState,
    MessageTs,
    Run,
    RunId,
    RunState,
    TeamId,
    UserId,
    Waiting,
)
from bot.core.owed import OutboxKind
from bot.store import unreadable, upserts
from bot.store.listed import as_list, listed
from bot.store.mapping import column_value, from_row, to_row
from bot.store.tables import follow_ups, outbox, runs, threads

UNSEEN = frozenset(
    {
        "files",
        "thread_ts",
        "request_ts",
        "card_ts",
        "api",
        "start_task_id",
        "turn",
        "turn_at",
        "turn_by",
        "worked_s",
        "told_team",
        "turn_after",
        "ending",
        "phase",
        "seen_at",
        "unsettled_since",
        "stop_at",
        "moved",
        "queued_at",
        "admitted_at",
        "queue_place",
        "cost_before",
        "heard_at",
        "version",
        "card_version",
        "card_at",
        "cards",
        "card_gone",
        "news_at",
        "next_poll_at",
    }
)
"""Bookkeeping: the card shows none of it, so a change of it requires no edit."""


# The statements of every request are built once: building one takes longer than the database needs for it.
THIS = runs.c.id == bindparam("run")
GET = select(runs).where(THIS)
GET_ALL = select(runs).where(runs.c.id.in_(listed("ids")))


def run_of(row: Mapping[Any, Any]) -> Run:
    """Return the run in a row. Raises `StoreUnreadable`, as everything that reads runs does."""
    return unreadable.read("runs", row["id"], row, partial(from_row, Run))


async def add(connection: AsyncConnection, run: Run) -> None:
    await connection.execute(insert(runs), to_row(run))


async def get(connection: AsyncConnection, run: RunId) -> Run:
    """Return a run by id. It is there: a run is deleted only long after its end, and when nothing about it is open."""
    found = await connection.execute(GET, {"run": run})
    return run_of(found.mappings().one())


async def get_all(connection: AsyncConnection, ids: Collection[RunId]) -> Mapping[RunId, Run]:
    """Return runs by their ids, a few hundred at most."""
    found = await connection.execute(GET_ALL, {"ids": as_list(ids)})
    return {run.id: run for run in (run_of(row) for row in found.mappings())}


async def find(connection: AsyncConnection, run: str) -> Run | None:
    """Return a run by an id from outside; None if there is no such run."""
    found = (await connection.execute(GET, {"run": run})).mappings().one_or_none()
    return None if found is None else run_of(found)


async def save(connection: AsyncConnection, before: Run, after: Run) -> Run:
    """Write what changed, by compare-and-swap on state, turn and attempt.

    The version goes up when the card would look different. Raises `StoreOvertaken` if another writer was first: read the
    run in the transaction that changes it.
    """
    old, new = to_row(before), to_row(after)
    changed = {name: value for name, value in new.items() if value != old[name]}
    if not changed:
        return before
    found = await connection.execute(
        _saving(tuple(changed)),
        {
            "run": before.id,
            "old_state": before.state.value,
            "old_turn": before.turn,
            "old_attempt": before.attempt,
            **{f"new_{name}": value for name, value in changed.items()},
        },
    )
    row = found.mappings().one_or_none()
    if row is None:
        raise StoreOvertaken(before.id)
    return run_of(row)


@lru_cache(maxsize=256)
def _saving(names: tuple[str, ...]) -> UpdateBase:
    """Build the update of some columns; cached, since transitions change the same ones again and again."""
    swap = update(runs).where(
        THIS,
        runs.c.state == bindparam("old_state"),
        runs.c.turn == bindparam("old_turn"),
        runs.c.attempt == bindparam("old_attempt"),
    )
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    if not UNSEEN.issuperset(names):
        values["version"] = runs.c.version + 1
    return swap.values(**values).returning(runs)


async def last_heard(connection: AsyncConnection, run: Run) -> MessageTs | None:
    """Return the newest message of the thread that was for the run's agent; None if none was a message."""
    found = await connection.execute(select(func.max(follow_ups.c.source_ts)).where(follow_ups.c.run == run.id))
    return found.scalar_one() or run.request_ts


SHOWN = (
    update(runs)
    .where(THIS)
    .values(
        card_version=case((runs.c.card_version < bindparam("shown"), bindparam("shown")), else_=runs.c.card_version),
        card_at=bindparam("now"),
        queue_place=bindparam("position"),
    )
)


async def card_shown(connection: AsyncConnection, run: Run, now: datetime) -> None:
    """Record which version the card shows, which never goes down, and which position in the queue. run: as drawn."""
    shown = {"run": run.id, "shown": run.version, "position": run.queue_position, "now": now}
    await connection.execute(SHOWN, shown)


@dataclass(frozen=True, slots=True)
class Behind:
    """A card that shows an older version than its run has."""

    run: RunId
    version: int
    final: bool
    """Its run is in one of the states whose cards are edited first."""
    edited_at: datetime


IS_FINAL = runs.c.state.in_(listed("final")).label("final")
BEHIND = (
    select(runs.c.id, runs.c.version, IS_FINAL, runs.c.card_at)
    .where(
        runs.c.version > runs.c.card_version,
        runs.c.card_ts.is_not(None),
        runs.c.card_gone.is_(False),
        runs.c.id.not_in(listed("busy")),
    )
    .order_by(IS_FINAL.desc(), (runs.c.news_at > runs.c.card_at).desc(), runs.c.news_at)
    .limit(bindparam("most"))
)


async def behind(
    connection: AsyncConnection, final: Collection[RunState], busy: Collection[RunId], limit: int
) -> Sequence[Behind]:
    """Return the cards that are behind, including those edited just now: first final states, then other new states.

    Lines of progress come last; among equals the oldest news comes first.
    """
    asked = {"final": as_list(final), "busy": as_list(busy), "most": limit}
    found = await connection.execute(BEHIND, asked)
    return [Behind(RunId(run), version, bool(is_final), at) for run, version, is_final, at in found]


async def lose_cards(connection: AsyncConnection, channel: ChannelId) -> Sequence[UserId]:
    """Stop edits of the cards of live runs in a place; return those runs' requesters, none of them on a repeat."""
    found = await connection.execute(
        update(runs)
        .where(
            runs.c.channel == channel,
            runs.c.state.in_([state.value for state in LIVE]),
            runs.c.cards > 0,
            runs.c.card_gone.is_(False),
        )
        .values(card_gone=True)
        .returning(runs.c.requester)
    )
    return [UserId(requester) for (requester,) in found]


CARD_BACK = update(runs).where(THIS).values(card_gone=False)


async def try_card_again(connection: AsyncConnection, run: RunId) -> None:
    """Allow edits of a run's card again: where a message could be posted, perhaps the card can be edited too."""
    await connection.execute(CARD_BACK, {"run": run})


DUE = select(runs).where(runs.c.next_poll_at <= bindparam("now")).order_by(runs.c.next_poll_at).limit(bindparam("most"))
WAITS = runs.c.state == RunState.QUEUED.value
NEXT_POLL = select(select(func.min(runs.c.next_poll_at)).scalar_subquery(), select(runs.c.id).where(WAITS).exists())
THESE = update(runs).where(runs.c.id.in_(listed("ids")))
LOOKED_AT = THESE.values(seen_at=bindparam("seen"), next_poll_at=bindparam("next"))
POLL_AGAIN = THESE.values(next_poll_at=bindparam("next"))


async def due(connection: AsyncConnection, now: datetime, limit: int) -> Sequence[Run]:
    """Return the runs due for polling, the longest overdue first."""
    found = await connection.execute(DUE, {"now": now, "most": limit})
    return [run_of(row) for row in found.mappings()]


async def next_poll(connection: AsyncConnection) -> tuple[datetime | None, bool]:
    """Return when the next poll is due, and whether a run waits for a slot."""
    at, somebody_waits = (await connection.execute(NEXT_POLL)).one()
    return at, bool(somebody_waits)


async def looked_at(
    connection: AsyncConnection, ids: Collection[RunId], seen_at: datetime, next_poll_at: datetime | None
) -> None:
    """Record observations that changed nothing, in the transaction in which these runs were read."""
    await connection.execute(LOOKED_AT, {"ids": as_list(ids), "seen": seen_at, "next": next_poll_at})


async def poll_again(connection: AsyncConnection, ids: Collection[RunId], at: datetime) -> None:
    await connection.execute(POLL_AGAIN, {"ids": as_list(ids), "next": at})


OF_THREAD = (
    select(runs, threads.c.every_reply)
    .join(threads, threads.c.run == runs.c.id)
    .where(
        threads.c.team == bindparam("team"),
        threads.c.channel == bindparam("channel"),
        threads.c.thread_ts == bindparam("thread"),
    )
)


async def of_thread(
    connection: AsyncConnection, team: TeamId, channel: ChannelId, thread: MessageTs
) -> tuple[Run, bool] | None:
    """Return a thread's run, and whether every reply there steers it."""
    found = await connection.execute(OF_THREAD, {"team": team, "channel": channel, "thread": thread})
    row = found.mappings().one_or_none()
    return None if row is None else (run_of(row), row["every_reply"])


IN_THREAD = (
    select(runs)
    .where(runs.c.channel == bindparam("channel"), runs.c.thread_ts == bindparam("thread"))
    .order_by(runs.c.created_at)
)
ASKS = (runs.c.state == RunState.NEEDS_REPOSITORY.value) | (
    (runs.c.state == RunState.WAITING.value) & (runs.c.waiting == Waiting.QUESTION.value)
)
ASKING = IN_THREAD.where(ASKS)
ASKING_DIRECTLY = select(runs).where(
    ASKS,
    runs.c.requester == bindparam("requester"),
    runs.c.channel != bindparam("channel"),
    exists().where(threads.c.run == runs.c.id, threads.c.channel == bindparam("channel")),
)


async def in_thread(connection: AsyncConnection, channel: ChannelId, thread: MessageTs) -> Sequence[Run]:
    """Return all runs of a thread, the oldest first."""
    found = await connection.execute(IN_THREAD, {"channel": channel, "thread": thread})
    return [run_of(row) for row in found.mappings()]


async def asking_in(connection: AsyncConnection, channel: ChannelId, thread: MessageTs) -> Sequence[Run]:
    """Return the runs of a thread that ask something which a reply can answer, the oldest first."""
    found = await connection.execute(ASKING, {"channel": channel, "thread": thread})
    return [run_of(row) for row in found.mappings()]


async def asking_directly(connection: AsyncConnection, channel: ChannelId, requester: UserId) -> Sequence[Run]:
    """Return a person's runs of other places that ask something, and told so in their direct messages."""
    found = await connection.execute(ASKING_DIRECTLY, {"channel": channel, "requester": requester})
    return [run_of(row) for row in found.mappings()]


async def own_thread(
    connection: AsyncConnection, run: Run, thread: MessageTs, *, every_reply: bool, channel: ChannelId | None = None
) -> None:
    """Make a thread this run's. channel: where it is, if not in the run's place."""
    where = channel or run.channel
    row = {"team": run.team, "channel": where, "thread_ts": thread, "run": run.id, "every_reply": every_reply}
    await connection.execute(upserts.put(connection, threads, "team", "channel", "thread_ts"), row)


IS_LIVE = runs.c.state.in_([state.value for state in LIVE])
RESTS = and_(
    runs.c.state == RunState.WAITING.value,
    func.coalesce(runs.c.waiting, "") == Waiting.ANSWER.value,
    runs.c.next_poll_at.is_(None),
)
"""A run that answered long ago: it is not polled any more, and nobody means it by `stop`, `status` or a new message."""
GOES_ON = IS_LIVE & not_(RESTS)


async def live_of(connection: AsyncConnection, channel: ChannelId, requester: UserId) -> Sequence[Run]:
    """Return a person's live runs in a place, newest first."""
    found = await connection.execute(
        select(runs)
        .where(
            runs.c.channel == channel,
            runs.c.requester == requester,
            GOES_ON,
        )
        .order_by(runs.c.created_at.desc())
    )
    return [run_of(row) for row in found.mappings()]


ALL_LIVE = select(runs).where(GOES_ON).order_by(runs.c.created_at)


async def live(connection: AsyncConnection) -> Sequence[Run]:
    """Return all live runs, oldest first."""
    return [run_of(row) for row in (await connection.execute(ALL_LIVE)).mappings()]


async def latest_in(connection: AsyncConnection, channel: ChannelId, limit: int) -> Sequence[Run]:
    """Return the runs of a place, newest first."""
    found = await connection.execute(
        select(runs).where(runs.c.channel == channel).order_by(runs.c.created_at.desc()).limit(limit)
    )
    return [run_of(row) for row in found.mappings()]


async def is_of_another(connection: AsyncConnection, run: RunId, conversation: ConversationId) -> bool:
    """Return whether a conversation belongs to another run, and only looks like the one searched for."""
    found = await connection.execute(
        select(runs.c.id).where(runs.c.conversation_id == conversation, runs.c.id != run).limit(1)
    )
    return found.first() is not None


FORGOTTEN = select(runs).where(
    runs.c.state == RunState.STARTING.value,
    runs.c.next_poll_at.is_(None),
    ~exists().where(
        outbox.c.run == runs.c.id,
        outbox.c.kind.in_([OutboxKind.CARD.value, OutboxKind.START.value]),
        outbox.c.done_at.is_(None),
        outbox.c.failed_at.is_(None),
    ),
)


async def forgotten(connection: AsyncConnection) -> Sequence[Run]:
    """Return the runs that have a slot and wait for nothing: no start is owed, no card before it, no poll after it."""
    found = await connection.execute(FORGOTTEN)
    return [run_of(row) for row in found.mappings()]


UNANSWERED = (
    select(runs)
    .where(
        runs.c.state.in_([RunState.NEEDS_REPOSITORY.value, RunState.NEEDS_GO.value]),
        runs.c.news_at < bindparam("before"),
    )
    .order_by(runs.c.news_at)
    .limit(bindparam("most"))
)


async def unanswered(connection: AsyncConnection, before: datetime, limit: int) -> Sequence[Run]:
    """Return the runs about which people have been asked since before then, and nobody has answered, oldest first."""
    found = await connection.execute(UNANSWERED, {"before": before, "most": limit})
    return [run_of(row) for row in found.mappings()]


OVER = (
    select(runs.c.id)
    .where(
        runs.c.state.in_([state.value for state in ENDED]) | RESTS,
        runs.c.next_poll_at.is_(None),
        runs.c.news_at < bindparam("before"),
        ~exists().where(outbox.c.run == runs.c.id, outbox.c.done_at.is_(None), outbox.c.failed_at.is_(None)),
    )
    .order_by(runs.c.news_at)
    .limit(bindparam("most"))
)


async def forget(connection: AsyncConnection, before: datetime, limit: int) -> int:
    """Delete the runs that are over and have had no news since then, with their follow-ups; return how many.

    Their threads stay known, so that who replies there is told. The oldest go first, `limit` at most.
    """
    found = await connection.execute(OVER, {"before": before, "most": limit})
    ids = as_list([run for (run,) in found])
    await connection.execute(delete(follow_ups).where(follow_ups.c.run.in_(listed("ids"))), {"ids": ids})
    return (await connection.execute(delete(runs).where(runs.c.id.in_(listed("ids"))), {"ids": ids})).rowcount


EARLIER = runs.alias("earlier")
OLDEST_FIRST = (runs.c.queued_at, runs.c.created_at, runs.c.id)
WAITING = (
    select(
        runs.c.id,
        runs.c.requester,
        func.row_number().over(partition_by=runs.c.requester, order_by=OLDEST_FIRST).label("nth"),
        func.min(runs.c.queued_at).over(partition_by=runs.c.requester).label("since"),
    )
    .where(WAITS)
    .cte("waiting")
)
PEOPLE = select(WAITING.c.requester).distinct().cte("people")
SERVED = (
    select(
        PEOPLE.c.requester,
        select(func.max(EARLIER.c.admitted_at))
        .where(EARLIER.c.requester == PEOPLE.c.requester)
        .scalar_subquery()
        .label("at"),
    )
).cte("served")
IN_TURN = (WAITING.c.nth, SERVED.c.at.nulls_first(), WAITING.c.since, WAITING.c.requester)
"""A round over all people who wait, then the next: in each, who got a slot longest ago comes first."""
QUEUE = (
    select(WAITING.c.id, func.row_number().over(order_by=IN_TURN).label("position"))
    .join(SERVED, SERVED.c.requester == WAITING.c.requester)
    .cte("queue")
)
QUEUED = select(runs).join(QUEUE, QUEUE.c.id == runs.c.id).order_by(QUEUE.c.position).limit(bindparam("most"))
POSITIONS = select(QUEUE.c.id, QUEUE.c.position).where(QUEUE.c.id.in_(listed("ids")))
MOVED = (
    select(runs.c.id, runs.c.version, runs.c.card_at)
    .join(QUEUE, QUEUE.c.id == runs.c.id)
    .where(
        runs.c.queue_place.is_distinct_from(QUEUE.c.position),
        runs.c.version == runs.c.card_version,
        runs.c.card_at <= bindparam("before"),
        runs.c.card_ts.is_not(None),
        runs.c.card_gone.is_(False),
        runs.c.id.not_in(listed("busy")),
    )
    .order_by(QUEUE.c.position)
    .limit(bindparam("most"))
)


async def queued(connection: AsyncConnection, limit: int) -> Sequence[Run]:
    """Return the runs that wait for a slot, the one that goes next first: in turn over people, each one's oldest first."""
    found = await connection.execute(QUEUED, {"most": limit})
    return [run_of(row) for row in found.mappings()]


STARTER = case(
    (runs.c.moved == Action.RETRY.value, func.coalesce(runs.c.moved_by, runs.c.requester)), else_=runs.c.requester
)
"""As `lifecycle.starter`."""
COUNT_QUEUED = select(func.count()).where(WAITS, bindparam("person") == STARTER)


async def count_queued(connection: AsyncConnection, person: UserId) -> int:
    """Count the runs of a person that wait for a slot; one that somebody retried is theirs."""
    return int((await connection.execute(COUNT_QUEUED, {"person": person})).scalar_one())


async def with_positions(connection: AsyncConnection, drawn: Sequence[Run]) -> Sequence[Run]:
    """Return runs that are to be drawn, those that wait for a slot with their positions in the queue of this moment."""
    ids = [run.id for run in drawn if run.state is RunState.QUEUED]
    if not ids:
        return drawn
    found = await connection.execute(POSITIONS, {"ids": as_list(ids)})
    positions: dict[RunId, int] = {RunId(run): position for run, position in found}
    return [replace(run, queue_position=positions.get(run.id)) for run in drawn]


async def moved(connection: AsyncConnection, busy: Collection[RunId], before: datetime, limit: int) -> Sequence[Behind]:
    """Return the cards that show a position in the queue which is not true any more, and were last edited by then."""
    found = await connection.execute(MOVED, {"busy": as_list(busy), "before": before, "most": limit})
    return [Behind(RunId(run), version, final=False, edited_at=at) for run, version, at in found]


REST_UNTIL = (
    update(runs)
    .where(WAITS, runs.c.starts_after.is_distinct_from(bindparam("until")))
    .values(starts_after=bindparam("until"), version=runs.c.version + 1)
)


async def rest_queue(connection: AsyncConnection, until: datetime | None) -> None:
    """Write on the runs that wait for a slot when the first of them starts at the earliest; None: as soon as it can."""
    await connection.execute(REST_UNTIL, {"until": until})


OCCUPYING = select(func.count()).where(runs.c.state.in_([column_value(state) for state in OCCUPIES]))


async def occupying(connection: AsyncConnection) -> int:
    """Count the runs that take a slot of the account."""
    return int((await connection.execute(OCCUPYING)).scalar_one())


USED = 200
"""Repositories of a place that count as known, those used last."""


async def used_in(connection: AsyncConnection, channel: ChannelId) -> Sequence[str]:
    """Return the repositories that runs in this place really worked in, the latest first."""
    found = await connection.execute(
        select(runs.c.repository)
        .where(runs.c.channel == channel, runs.c.repository.is_not(None), runs.c.started_at.is_not(None))
        .group_by(runs.c.repository)
        .order_by(func.max(runs.c.created_at).desc())
        .limit(USED)
    )
    return found.scalars().all()


# --- follow-ups -------------------------------------------------------------------------------------------------


async def add_follow_up(connection: AsyncConnection, follow_up: FollowUp) -> None:
    await connection.execute(insert(follow_ups), to_row(follow_up))


async def get_follow_up(connection: AsyncConnection, follow_up: str) -> FollowUp:
    found = await connection.execute(select(follow_ups).where(follow_ups.c.id == follow_up))
    return from_row(FollowUp, found.mappings().one())


async def save_follow_up(connection: AsyncConnection, follow_up: FollowUp) -> None:
    await connection.execute(update(follow_ups).where(follow_ups.c.id == follow_up.id).values(**to_row(follow_up)))


async def follow_ups_of(
    connection: AsyncConnection, run: RunId, states: Collection[FollowUpState]
) -> Sequence[FollowUp]:
    """Return a run's follow-ups in these states, in the order they were written."""
    found = await connection.execute(
        select(follow_ups)
        .where(follow_ups.c.run == run, follow_ups.c.state.in_([state.value for state in states]))
        .order_by(follow_ups.c.seq)
    )
    return [from_row(FollowUp, row) for row in found.mappings()]


async def of_message(connection: AsyncConnection, channel: ChannelId, ts: MessageTs) -> Run | FollowUp | None:
    """Return what a message became: a run, or a follow-up of one. None: neither, or it is not kept any more."""
    asked = select(runs).where(runs.c.channel == channel, runs.c.request_ts == ts)
    row = (await connection.execute(asked.order_by(runs.c.created_at.desc()).limit(1))).mappings().first()
    if row is not None:
        return run_of(row)
    said = select(follow_ups).join(runs, runs.c.id == follow_ups.c.run)
    said = said.where(runs.c.channel == channel, follow_ups.c.source_ts == ts).order_by(follow_ups.c.seq).limit(1)
    row = (await connection.execute(said)).mappings().first()
    return None if row is None else from_row(FollowUp, row)


async def recent_of(
    connection: AsyncConnection, channel: ChannelId, requester: UserId, since: datetime
) -> Sequence[Run]:
    """Return a person's runs in a place that are live, wait for a decision or had news since then, newest first.

    Those that answered long ago count as little as for `stop`.
    """
    found = await connection.execute(
        select(runs)
        .where(
            runs.c.channel == channel,
            runs.c.requester == requester,
            GOES_ON | runs.c.undecided.is_not(None) | ((runs.c.news_at >= since) & not_(RESTS)),
        )
        .order_by(runs.c.created_at.desc())
    )
    return [run_of(row) for row in found.mappings()]
