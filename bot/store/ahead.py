"""Times that lie ahead because the clock was put back: what waits for them is due, and what happened then was now."""

from datetime import datetime

from sqlalchemy import Table, Update, case, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.clock import SLIP
from bot.store import checkpoints
from bot.store.checkpoints import Mark
from bot.store.tables import UtcTime, follow_ups, inbox, marks, outbox, runs

LEFT_ALONE = {
    "runs": {"created_at", "queued_at", "starts_after"},  # the order of the queue, and a time of OpenHands
}


async def drawn_back(connection: AsyncConnection, now: datetime) -> None:
    """Set every time that lies more than `SLIP` ahead to now, so that nothing waits for it."""
    for table in (inbox, outbox, runs, follow_ups, marks):
        await connection.execute(_drawn_back(table, now))


def _drawn_back(table: Table, now: datetime) -> Update:
    left = LEFT_ALONE.get(table.name, set())
    times = [column for column in table.c if isinstance(column.type, UtcTime) and column.name not in left]
    ahead = now + SLIP
    back = update(table).where(or_(*(column > ahead for column in times)))
    if table is marks:
        back = back.where(marks.c.name != Mark.QUOTA.value)
    return back.values({column.name: case((column > ahead, now), else_=column) for column in times})


async def is_ahead(connection: AsyncConnection, now: datetime) -> bool:
    """Return whether the clock was put back since the bot was last at work."""
    heard = await checkpoints.get(connection, Mark.HEARD)
    return heard is not None and heard - now > SLIP
