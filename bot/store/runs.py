"""Runs, their threads and their follow-ups."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.model import (
    LIVE,
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
)
from bot.store.rows import column_value, from_row, to_row
from bot.store.tables import follow_ups, runs, threads

UNSEEN = frozenset(
    {
        "thread_ts",
        "request_ts",
        "card_ts",
        "api",
        "start_task_id",
        "turn",
        "turn_at",
        "turn_after",
        "ending",
        "phase",
        "seen_at",
        "unsettled_since",
        "stop_at",
        "version",
        "card_version",
        "card_at",
        "cards",
        "card_gone",
        "news_at",
        "next_poll_at",
    }
)
"""Bookkeeping: the card shows none of it, so a change of it is no debt to edit."""


async def add(connection: AsyncConnection, run: Run) -> None:
    await connection.execute(insert(runs).values(**to_row(run)))


async def get(connection: AsyncConnection, run: RunId) -> Run:
    """Give a run by id; runs are never deleted, so it is there."""
    found = await connection.execute(select(runs).where(runs.c.id == run))
    return from_row(Run, found.mappings().one())


async def save(connection: AsyncConnection, before: Run, after: Run) -> Run | None:
    """Write what changed, by compare-and-swap on state and turn; None when somebody else was first.

    The version goes up when the card would look different.
    """
    old, new = to_row(before), to_row(after)
    changed = {name: value for name, value in new.items() if value != old[name]}
    if not changed:
        return before
    seen = changed.keys() - UNSEEN
    if seen:
        changed["version"] = runs.c.version + 1
    found = await connection.execute(
        update(runs)
        .where(
            runs.c.id == before.id,
            runs.c.state == before.state.value,
            runs.c.turn == before.turn,
            runs.c.attempt == before.attempt,
        )
        .values(**changed)
        .returning(runs)
    )
    row = found.mappings().one_or_none()
    return None if row is None else from_row(Run, row)


async def card_shown(connection: AsyncConnection, run: RunId, version: int, now: datetime) -> None:
    """Remember which version the card shows."""
    await connection.execute(
        update(runs).where(runs.c.id == run, runs.c.card_version < version).values(card_version=version, card_at=now)
    )
    await connection.execute(update(runs).where(runs.c.id == run).values(card_at=now))


async def behind(connection: AsyncConnection, edited_before: datetime, busy: Collection[RunId]) -> Sequence[Run]:
    """Give the runs whose card shows an older version and was last edited before then, ended ones first."""
    found = await connection.execute(
        select(runs)
        .where(
            runs.c.version > runs.c.card_version,
            runs.c.card_ts.is_not(None),
            runs.c.card_gone.is_(False),
            runs.c.card_at <= edited_before,
            runs.c.id.not_in(busy),
        )
        .order_by(runs.c.state.in_([column_value(state) for state in LIVE]), runs.c.news_at)
        .limit(100)
    )
    return [from_row(Run, row) for row in found.mappings()]


async def next_edit_base(connection: AsyncConnection, edited_after: datetime) -> datetime | None:
    """When the next card that is behind, but was edited too recently, was edited."""
    found = await connection.execute(
        select(func.min(runs.c.card_at)).where(
            runs.c.version > runs.c.card_version,
            runs.c.card_ts.is_not(None),
            runs.c.card_gone.is_(False),
            runs.c.card_at > edited_after,
        )
    )
    at: datetime | None = found.scalar()
    return at


async def due(connection: AsyncConnection, now: datetime) -> Sequence[Run]:
    """Give the runs to look at now."""
    found = await connection.execute(select(runs).where(runs.c.next_poll_at <= now).order_by(runs.c.next_poll_at))
    return [from_row(Run, row) for row in found.mappings()]


async def next_poll_at(connection: AsyncConnection) -> datetime | None:
    found = await connection.execute(select(func.min(runs.c.next_poll_at)))
    at: datetime | None = found.scalar()
    return at


async def poll_again(connection: AsyncConnection, ids: Collection[RunId], at: datetime) -> None:
    await connection.execute(update(runs).where(runs.c.id.in_(ids)).values(next_poll_at=at))


async def of_thread(
    connection: AsyncConnection, team: TeamId, channel: ChannelId, thread: MessageTs
) -> tuple[Run, bool] | None:
    """Give a thread's run, and whether every reply there steers it."""
    found = await connection.execute(
        select(runs, threads.c.every_reply)
        .join(threads, threads.c.run == runs.c.id)
        .where(threads.c.team == team, threads.c.channel == channel, threads.c.thread_ts == thread)
    )
    row = found.mappings().one_or_none()
    return None if row is None else (from_row(Run, row), row["every_reply"])


async def own_thread(connection: AsyncConnection, run: Run, thread: MessageTs, *, every_reply: bool) -> None:
    """Make a thread this run's."""
    values: dict[str, Any] = {"run": run.id, "every_reply": every_reply}
    await connection.execute(
        upsert(threads)
        .values(team=run.team, channel=run.channel, thread_ts=thread, **values)
        .on_conflict_do_update(index_elements=["team", "channel", "thread_ts"], set_=values)
    )


async def live_of(connection: AsyncConnection, channel: ChannelId, requester: UserId) -> Sequence[Run]:
    """Give a person's live runs in a place, newest first."""
    found = await connection.execute(
        select(runs)
        .where(
            runs.c.channel == channel,
            runs.c.requester == requester,
            runs.c.state.in_([state.value for state in LIVE]),
        )
        .order_by(runs.c.created_at.desc())
    )
    return [from_row(Run, row) for row in found.mappings()]


async def latest_in(connection: AsyncConnection, channel: ChannelId, limit: int) -> Sequence[Run]:
    """Give the runs of a place, newest first."""
    found = await connection.execute(
        select(runs).where(runs.c.channel == channel).order_by(runs.c.created_at.desc()).limit(limit)
    )
    return [from_row(Run, row) for row in found.mappings()]


async def is_of_another(connection: AsyncConnection, run: RunId, conversation: ConversationId) -> bool:
    """Tell whether a conversation belongs to another run: it looks like the one searched for, and is not."""
    found = await connection.execute(
        select(runs.c.id).where(runs.c.conversation_id == conversation, runs.c.id != run).limit(1)
    )
    return found.first() is not None


async def used_in(connection: AsyncConnection, channel: ChannelId, repository: str) -> bool:
    """Tell whether a run in this place ever used this repository."""
    found = await connection.execute(
        select(runs.c.id)
        .where(runs.c.channel == channel, func.lower(runs.c.repository) == func.lower(repository))
        .limit(1)
    )
    return found.first() is not None


# --- follow-ups -------------------------------------------------------------------------------------------------


async def add_follow_up(connection: AsyncConnection, follow_up: FollowUp) -> None:
    await connection.execute(insert(follow_ups).values(**to_row(follow_up)))


async def get_follow_up(connection: AsyncConnection, follow_up: str) -> FollowUp:
    found = await connection.execute(select(follow_ups).where(follow_ups.c.id == follow_up))
    return from_row(FollowUp, found.mappings().one())


async def save_follow_up(connection: AsyncConnection, follow_up: FollowUp) -> None:
    await connection.execute(update(follow_ups).where(follow_ups.c.id == follow_up.id).values(**to_row(follow_up)))


async def follow_ups_of(
    connection: AsyncConnection, run: RunId, states: Collection[FollowUpState]
) -> Sequence[FollowUp]:
    """Give a run's follow-ups in these states, in the order they were written."""
    found = await connection.execute(
        select(follow_ups)
        .where(follow_ups.c.run == run, follow_ups.c.state.in_([state.value for state in states]))
        .order_by(follow_ups.c.seq)
    )
    return [from_row(FollowUp, row) for row in found.mappings()]


async def perhaps_undecided(
    connection: AsyncConnection, channel: ChannelId, requester: UserId
) -> Sequence[tuple[Run, bool]]:
    """Give a person's runs in a place that failed, were lost, or have a follow-up the person was asked about.

    Newest first, each with whether there is such a follow-up.
    """
    asked = runs.c.id.in_(
        select(follow_ups.c.run).where(
            follow_ups.c.state == FollowUpState.UNSURE.value, follow_ups.c.asked_at.is_not(None)
        )
    )
    ended_badly = runs.c.state.in_([RunState.FAILED.value, RunState.LOST.value])
    found = await connection.execute(
        select(runs, asked.label("asked"))
        .where(runs.c.channel == channel, runs.c.requester == requester, ended_badly | asked)
        .order_by(runs.c.created_at.desc())
    )
    return [(from_row(Run, row), bool(row["asked"])) for row in found.mappings()]
