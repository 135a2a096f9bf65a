"""Points in time that must survive a restart."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store import upserts
from bot.store.tables import marks


class Mark(StrEnum):
    """The names of these points."""

    HEARD = "heard"
    """A watermark: until then everything people did in Slack reached the bot: the socket was open and answered."""
    FULL = "full"
    """OpenHands had no free slot; the first in the queue tries again then."""
    QUOTA = "quota"
    """OpenHands starts no conversations before then, whatever slots are free; then the first in the queue tries."""


# Built once: building a statement takes longer than the database needs for it.
OF_NAME = marks.c.name == bindparam("mark")
AT = select(marks.c.at).where(OF_NAME)
DROP = delete(marks).where(OF_NAME)


async def get(connection: AsyncConnection, mark: Mark) -> datetime | None:
    found = await connection.execute(AT, {"mark": mark.value})
    at: datetime | None = found.scalar()
    return at


async def put(connection: AsyncConnection, mark: Mark, at: datetime) -> None:
    await connection.execute(upserts.put(connection, marks, "name"), {"name": mark.value, "at": at})


async def drop(connection: AsyncConnection, mark: Mark) -> None:
    await connection.execute(DROP, {"mark": mark.value})
