"""Who waits for a slot of the OpenHands account, and who may start: the oldest first, by itself."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects, lifecycle
from bot.effects import Site
from bot.lifecycle import OCCUPIES
from bot.model import Run, RunState
from bot.pacing import later
from bot.store import marks, runs
from bot.store.marks import Mark

REDRAWN_EVERY_S = 60.0
"""Places move on with each start; their cards follow at most so often."""


def moves(before: Run, after: Run) -> bool:
    """Tell whether a change concerns the queue: a slot was given back, or somebody came to wait."""
    waits = after.state is RunState.QUEUED and before.state is not RunState.QUEUED
    return waits or (before.state in OCCUPIES and after.state not in OCCUPIES)


async def let_in(tx: AsyncConnection, site: Site, now: datetime) -> bool:
    """Start who waits while there are slots, and tell the others their places; tell whether anybody was let in.

    While OpenHands itself says that it is full, only the first in the queue tries, once in a while.
    """
    waiting = list(await runs.queued(tx))
    if not waiting:
        await marks.drop(tx, Mark.FULL)
        return False
    free = site.slots - await runs.occupying(tx)
    full_until = await marks.get(tx, Mark.FULL)
    if full_until is not None:
        free = min(free, 1 if full_until <= now else 0)
    entering, waiting = waiting[: max(0, free)], waiting[max(0, free) :]
    if entering and full_until is not None:
        await marks.put(tx, Mark.FULL, later(now, site.full_s))
    for run in entering:
        after = await effects.take_over(tx, run, lifecycle.let_in(run, now), site, now)
        if after is not None and after.cards > 0:  # else the card, once it stands, owes the start
            await effects.owe_start(tx, after, now)
    await _number(tx, waiting, now)
    return bool(entering)


async def _number(tx: AsyncConnection, waiting: list[Run], now: datetime) -> None:
    """Write down the places; who came newly gets one at once."""
    shown = await marks.get(tx, Mark.PLACES)
    due = shown is None or shown <= now
    for place, run in enumerate(waiting, 1):
        if run.queue_place != place and (due or run.queue_place is None):
            await runs.save(tx, run, lifecycle.placed(run, place))
    if due and waiting:
        await marks.put(tx, Mark.PLACES, later(now, REDRAWN_EVERY_S))


async def is_full(tx: AsyncConnection, site: Site, now: datetime) -> None:
    """Remember that OpenHands has no free slot, whoever has them: try again after a while, or when a run of ours ends."""
    await marks.put(tx, Mark.FULL, later(now, site.full_s))


async def has_room(tx: AsyncConnection, now: datetime) -> None:
    """Let the first in the queue try at once: OpenHands took a start, or a slot was given back.

    Only that one: of several that try together for one slot any might get it.
    """
    if await marks.get(tx, Mark.FULL) is not None:
        await marks.put(tx, Mark.FULL, now)
