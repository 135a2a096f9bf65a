"""Rows that this version can't read, as after a rollback to an earlier one: closed, so that all others go on."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.errors import StoreUnreadable
from bot.core.model import Run, RunState
from bot.store.mapping import from_row, misfits
from bot.store.tables import inbox, outbox, runs

Data = TypeVar("Data")

WHY = "unreadable"
WRONG = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a row raises if a word in it is unknown, or a part has another shape."""


def read(table: str, key: Any, row: Mapping[Any, Any], make: Callable[[Mapping[Any, Any]], Data]) -> Data:
    """Return what a row holds. Raises `StoreUnreadable`."""
    try:
        return make(row)
    except WRONG as err:
        raise StoreUnreadable(table, key) from err


async def close(connection: AsyncConnection, found: StoreUnreadable, now: datetime) -> None:
    """Close a row. A run fails, without the words that are unknown here, so that it can be read from then on.

    If even that does not help, nothing looks at it any more.
    """
    match found.table:
        case "inbox":
            this = update(inbox).where(inbox.c.seq == found.key, inbox.c.done_at.is_(None))
            await connection.execute(this.values(done_at=now, payload=null()))
        case "outbox":
            this = update(outbox).where(outbox.c.seq == found.key, outbox.c.failed_at.is_(None))
            await connection.execute(this.values(failed_at=now, result=WHY, payload=null()))
        case _:
            row = (await connection.execute(select(runs).where(runs.c.id == found.key))).mappings().one()
            blank = dict.fromkeys(misfits(Run, row)) | {"state": RunState.FAILED.value, "next_poll_at": None}
            with suppress(*WRONG):
                from_row(Run, {**row, **blank})
                blank["version"] = row["version"] + 1
            this = update(runs).where(runs.c.id == found.key)
            await connection.execute(this.values({"card_version": row["version"], **blank}))
