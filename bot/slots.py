"""The queue for slots of the OpenHands account: waiting runs start by themselves, in turn over people."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.core import lifecycle
from bot.core.lifecycle import OCCUPIES
from bot.core.model import Run, RunState
from bot.core.pacing import later
from bot.effects import Links
from bot.store import checkpoints, runs
from bot.store.checkpoints import Mark


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the OpenHands account may do at once."""

    slots: int
    """How many runs may be starting or working at once."""
    full_s: float
    """Seconds until OpenHands is asked again after it said that it is full."""


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
