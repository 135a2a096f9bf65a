"""The database for commands that run beside the bot: opened for a moment, and checked as an operator would."""

import fcntl
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.store.address import SqliteFile, read_address
from bot.store.database import Database, known_versions, open_database, version

WAIT_S = 5.0
"""Seconds to wait for a server that does not answer: somebody sits in front of the screen."""


class NoDatabase(Exception):
    """The file does not exist, or not yet."""


def file_of(url: str) -> Path | None:
    """Return the file the database is in; None where a server keeps it."""
    address = read_address(url)
    return address.file.absolute() if isinstance(address, SqliteFile) else None


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open the database beside the bot. Raises `NoDatabase`, and what `open_database` raises."""
    file = file_of(url)
    if file is not None and not file.is_file():
        raise NoDatabase(str(file))
    database = await open_database(url, tool=True, wait_s=WAIT_S)
    try:
        yield database
    finally:
        await database.close()


async def versions(connection: AsyncConnection) -> tuple[str | None, Sequence[str]]:
    """Return the version of the tables, None where there are none, and those that this program knows, oldest first."""
    return await connection.run_sync(version), known_versions()


async def is_sound(connection: AsyncConnection) -> bool:
    """Return whether SQLite finds no damage in its file; True for a server, which checks by itself."""
    if connection.dialect.name != "sqlite":
        return True
    return (await connection.execute(text("PRAGMA quick_check(1)"))).scalar() == "ok"


async def is_in_use(connection: AsyncConnection, file: Path | None) -> bool:
    """Return whether a bot works on the database now."""
    return await _server_is_in_use(connection) if file is None else _file_is_in_use(file)


async def _server_is_in_use(connection: AsyncConnection) -> bool:
    from bot.store.postgres import BOT_LOCK  # noqa: PLC0415 - its driver is for those who use it

    held = text(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
        "WHERE locktype = 'advisory' AND granted AND datname = current_database() "
        "AND classid::bigint = :high AND objid::bigint = :low"  # the two halves of the key
    )
    found = await connection.execute(held, {"high": BOT_LOCK >> 32, "low": BOT_LOCK & 0xFFFFFFFF})
    return bool(found.scalar())


def _file_is_in_use(file: Path) -> bool:
    """Return whether the lock is held: take it, and release it at once."""
    try:
        lock = os.open(f"{file}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
