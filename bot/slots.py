"""The queue for slots of the OpenHands account: waiting runs start by themselves, in turn over people."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.core import lifecycle, words
from bot.core.lifecycle import OCCUPIES
from bot.core.model import ChannelId, MessageTs, Run, RunState, UserId
from bot.core.pacing import later
from bot.effects import Links
from bot.store import audit, checkpoints, runs
from bot.store.checkpoints import Mark


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the OpenHands account may do at once."""

    slots: int
    """How many runs may be starting or working at once."""
    full_s: float
    """Seconds until OpenHands is asked again after it said that it is full."""
    queued_per_person: int = 0
    """How many runs of one person may wait; 0: no limit."""
    runs_per_hour: int = 0
    """How many runs one person, and all people in one thread, may start within an hour; 0: no limit."""


@dataclass(frozen=True, slots=True)
class OverLimit:
    """Why somebody may not start a run now."""

    rule: str
    """The setting that says so."""
    told: str
    """The sentence for the person."""


def concerns_queue(before: Run, after: Run) -> bool:
    """Return whether a change concerns the queue: a slot became free, or a run was queued."""
    waits = after.state is RunState.QUEUED and before.state is not RunState.QUEUED
    return waits or (before.state in OCCUPIES and after.state not in OCCUPIES)


async def admit_waiting(tx: AsyncConnection, links: Links, limits: Limits, now: datetime) -> bool:
    """Start waiting runs while slots are free; return whether any was started.

    While OpenHands itself says that it is full, only the first in the queue tries, every `limits.full_s`; once a day's
    quota is used up, not before the next day's.
    """
    free = max(0, limits.slots - await runs.occupying(tx))
    closed = {mark: until for mark in (Mark.FULL, Mark.QUOTA) if (until := await checkpoints.get(tx, mark)) is not None}
    if closed:
        free = min(free, 1 if max(closed.values()) <= now else 0)
    waiting = await runs.queued(tx, free + 1)
    if not waiting:
        await checkpoints.drop(tx, Mark.FULL)
        return False
    entering = waiting[:free]
    if entering:
        for mark in closed:
            await checkpoints.put(tx, mark, later(now, limits.full_s))
    for run in entering:
        after = await effects.apply_transition(tx, run, lifecycle.admit(run, now), links, now)
        if after.card.posts > 0:  # else the start is enqueued once the card is posted
            await effects.enqueue_start(tx, after, now)
    if len(waiting) > free:
        quota_until = closed.get(Mark.QUOTA)
        if quota_until is not None and quota_until > now:
            await runs.rest_queue(tx, quota_until)
    return bool(entering)


HOUR = timedelta(hours=1)


async def over_limit(tx: AsyncConnection, limits: Limits, person: UserId) -> OverLimit | None:
    """Return why one more run of a person may not wait for a slot; None if it may."""
    most = limits.queued_per_person
    if most and (waiting := await runs.count_queued(tx, person)) >= most:
        return OverLimit("MAX_QUEUED_PER_PERSON", words.too_many_queued(waiting))
    return None


async def over_hour(
    tx: AsyncConnection, limits: Limits, person: UserId, thread: tuple[ChannelId, MessageTs] | None, now: datetime
) -> OverLimit | None:
    """Return why a person, or anybody in a thread, may not begin another run so soon; None if they may."""
    most = limits.runs_per_hour
    if not most:
        return None
    begun = await audit.begun_by(tx, person, now - HOUR, most)
    here = [] if thread is None else await audit.begun_in(tx, *thread, now - HOUR, most)
    for times, in_thread in ((begun, False), (here, True)):
        if len(times) == most:
            return OverLimit("MAX_RUNS_PER_HOUR", words.too_many_runs(most, times[-1] + HOUR, in_thread=in_thread))
    return None


async def mark_full(tx: AsyncConnection, limits: Limits, now: datetime) -> None:
    """Record that OpenHands has no free slot, whoever uses them: retry after `full_s`, or when a run of ours ends."""
    await checkpoints.put(tx, Mark.FULL, later(now, limits.full_s))


async def mark_over_quota(tx: AsyncConnection, until: datetime) -> None:
    """Record that OpenHands starts nothing before then."""
    await checkpoints.put(tx, Mark.QUOTA, until)


async def mark_started(tx: AsyncConnection, now: datetime) -> None:
    """Record that OpenHands took a start: no quota is used up, and the first in the queue tries at once."""
    if await checkpoints.get(tx, Mark.QUOTA) is not None:
        await checkpoints.drop(tx, Mark.QUOTA)
        await runs.rest_queue(tx, None)
    await mark_available(tx, now)


async def mark_available(tx: AsyncConnection, now: datetime) -> None:
    """Let the first in the queue try at once: OpenHands took a start, or a slot became free.

    Only the first: if several tried for one slot, any of them might get it.
    """
    if await checkpoints.get(tx, Mark.FULL) is not None:
        await checkpoints.put(tx, Mark.FULL, now)
