"""A few counts of what the tables hold, read at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.outbox import OPEN
from bot.store.tables import inbox, outbox, runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the tables hold. Nothing that a person wrote."""

    runs: Mapping[str, int]
    """By state."""
    waiting: int
    """Requests that were acknowledged and are not handled yet."""
    owed: Mapping[str, int]
    """What is owed to Slack and OpenHands, by kind."""
    oldest: Mapping[str, datetime]
    """When the oldest of them was enqueued, by kind."""
    dead: Mapping[str, int]
    """Dead letters, by kind; deleted after seven days."""


OWED = select(outbox.c.kind, func.count(), func.min(outbox.c.created_at)).where(OPEN).group_by(outbox.c.kind)
DEAD = select(outbox.c.kind, func.count()).where(outbox.c.failed_at.is_not(None)).group_by(outbox.c.kind)
STATES = select(runs.c.state, func.count()).group_by(runs.c.state)
WAITING = select(func.count()).select_from(inbox).where(inbox.c.done_at.is_(None))


async def standing(connection: AsyncConnection) -> Standing:
    """Return the counts; each is answered from an index."""
    owed = (await connection.execute(OWED)).all()
    dead = await connection.execute(DEAD)
    states = await connection.execute(STATES)
    waiting = await connection.execute(WAITING)
    return Standing(
        runs=dict(states.all()),
        waiting=waiting.scalar_one(),
        owed={kind: count for kind, count, _ in owed},
        oldest={kind: since for kind, _, since in owed},
        dead=dict(dead.all()),
    )
