"""Moments that must be known at the next start."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import upserts
from bot.store.tables import marks


class Mark(StrEnum):
    """What is remembered."""

    HEARD = "heard"
    """Until then everything people did in Slack reached the bot: the socket was open and answered."""
    FULL = "full"
    """OpenHands had no free slot; who is first in the queue tries again then."""
    PLACES = "places"
    """Cards may show new places in the queue from then on."""


async def get(connection: AsyncConnection, mark: Mark) -> datetime | None:
    found = await connection.execute(select(marks.c.at).where(marks.c.name == mark.value))
    at: datetime | None = found.scalar()
    return at


async def put(connection: AsyncConnection, mark: Mark, at: datetime) -> None:
    await connection.execute(upserts.put(connection, marks, {"name": mark.value}, {"at": at}))


async def drop(connection: AsyncConnection, mark: Mark) -> None:
    await connection.execute(delete(marks).where(marks.c.name == mark.value))
