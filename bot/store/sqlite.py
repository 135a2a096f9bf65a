"""SQLite: one file, one process, and every commit is on the disk."""

import asyncio
import fcntl
import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import Connection, Engine, Executable, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from bot.core.errors import StoreInUse, StoreReplaced, StoreUnavailable

BUSY_MS = 1000
"""Milliseconds SQLite itself waits for another process's lock, so that a write fails well within Slack's 3 s."""
READERS = 4
FREE_S = 1.5
"""Seconds a reader waits for a connection while all are busy."""
LOCK_TRIES = 5
LOCK_AGAIN_S = 0.1
REPLACED_S = 5.0
"""Seconds. SQLite moves its log into the file within one commit, so both files' times are closer than this."""
MOUNTS = Path("/proc/self/mounts")
SHARES = frozenset(
    {"afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
)
"""File systems on which SQLite's locks, and its log in shared memory, can't be relied on."""
READ, WRITE = "BEGIN", "BEGIN IMMEDIATE"
ROWS_AT_ONCE = 64  # fetched by a cursor that is iterated; none is


class Direct(aiosqlite.Connection):
    """Runs most calls directly in the event loop's thread, and only those that may block in the driver's thread.

    A statement takes some ten microseconds, a round trip to a thread several hundred. What may block is the begin of a
    writing transaction, for another process's lock, and its commit, for the disk.
    """

    _left_alone = False
    """A call was cancelled, but goes on in the driver's thread: all later calls have to queue up there behind it."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not (self._left_alone or fn.__name__ == "commit" or args[:1] == (WRITE,)):
            return fn(*args, **kwargs)
        try:
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]  # the driver's
        except asyncio.CancelledError:
            self._left_alone = True
            raise


class Sqlite:
    """The file of a bot. See `bot.store.database.Backend`."""

    faults: tuple[type[Exception], ...] = (DBAPIError, NoneFree)
    shares = False

    def __init__(self, file: Path, lock: int | None) -> None:
        """lock: the descriptor that keeps other processes off; None for a tool that works beside the bot."""
        url = URL.create("sqlite+aiosqlite", database=str(file))
        # hide_parameters: database errors go to the log, and what people wrote must not.
        opened = partial(direct, file)
        self.writer = create_async_engine(url, async_creator=opened, pool_size=1, max_overflow=0, hide_parameters=True)
        self.readers = create_async_engine(
            url,
            async_creator=opened,
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=FREE_S,
            hide_parameters=True,
        )
        self.quick = create_engine(url.set(drivername="sqlite"), pool_size=1, max_overflow=0, hide_parameters=True)
        prepare(self.writer.sync_engine, WRITE)
        prepare(self.quick, WRITE)
        prepare(self.readers.sync_engine, READ)
        self._thread = ThreadPoolExecutor(1, "write-down")
        self._lock = lock

    async def connect(self) -> AsyncConnection:
        return await self.writer.connect()

    def is_lost(self, _connection: AsyncConnection) -> bool:
        return False

    async def let_go(self, connection: AsyncConnection) -> None:
        with suppress(DBAPIError):
            await connection.rollback()
        with suppress(DBAPIError):
            await connection.close()

    def is_trusted_after(self, _err: Exception) -> bool:
        return False  # a disk that failed, or filled up, may work again for a new connection

    def surely_refused(self, err: Exception) -> bool:
        return refused(err)

    def in_one_step(self, statement: Executable, values: Mapping[str, Any]) -> asyncio.Future[int]:
        """Commit in a thread with a connection of its own.

        In a `transaction` the loops' work would run between begin, statement and commit.
        """
        return asyncio.get_running_loop().run_in_executor(self._thread, committed, self.quick, statement, values)

    async def close(self) -> None:
        self._thread.shutdown()
        self.quick.dispose()
        await self.writer.dispose()
        await self.readers.dispose()
        if self._lock is not None:
            os.close(self._lock)


async def direct(file: Path) -> Direct:
    """Open a connection."""
    # Two threads use it, one after the other.
    connection = Direct(lambda: sqlite3.connect(file, check_same_thread=False), ROWS_AT_ONCE)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does with those it opens itself
    await connection
    return connection


def committed(engine: Engine, statement: Executable, values: Mapping[str, Any]) -> int:
    """Run one statement as a transaction; return how many rows it changed. Raises `StoreUnavailable`."""
    try:
        opened = engine.connect()
    except DBAPIError as err:
        raise StoreUnavailable(perhaps_saved=False) from err
    committing = False
    with opened as connection:
        try:
            changed = connection.execute(statement, values).rowcount
            committing = True
            connection.commit()
        except DBAPIError as err:
            connection.invalidate()  # drops what is left of the transaction: the next one starts clean
            raise StoreUnavailable(perhaps_saved=committing and not refused(err)) from err
        return changed


def refused(err: Exception) -> bool:
    """Return whether SQLite surely did not commit: it had no lock, or the disk is full."""
    if not isinstance(err, OperationalError):
        return False
    said = str(err.orig)
    return "locked" in said or "full" in said


def locked(file: Path) -> int:
    """Lock a file beside the database, and return its descriptor; closing that, or process death, releases the lock."""
    if not file.absolute().parent.is_dir():  # else the error would name the lock file, which nobody asked for
        raise StoreUnavailable(perhaps_saved=False) from FileNotFoundError(
            f"there is no folder {file.absolute().parent}"
        )
    try:
        lock = os.open(f"{file}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise StoreUnavailable(perhaps_saved=False) from err
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        os.close(lock)
        raise StoreInUse(str(file.absolute())) from err
    return lock


async def locked_soon(file: Path) -> int:
    """Lock a file as `locked` does, and again if it is held for an instant, as by a tool that looks for a bot."""
    for _ in range(LOCK_TRIES - 1):
        with suppress(StoreInUse):
            return locked(file)
        await asyncio.sleep(LOCK_AGAIN_S)
    return locked(file)


def network_share(file: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the kind of network share a file is on; None if it is on a local disk, or nobody tells."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    folder, found = file.absolute().parent, (0, "")
    for line in lines:
        _, place, kind, *_ = [*line.split(" "), "", "", ""]
        at = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place))  # a blank is written \040
        if folder.is_relative_to(at) and len(at.parts) >= found[0]:  # of two at one place, the later one counts
            found = (len(at.parts), kind)
    return found[1] if found[1] in SHARES else None


def made_private(file: Path) -> None:
    """Create the file, if there is none, readable for its owner alone; SQLite gives its log files the same mode."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as err:
        raise StoreUnavailable(perhaps_saved=False) from err


def not_replaced(file: Path) -> None:
    """Raise `StoreReplaced` if SQLite would apply the write-ahead log of another file to this one.

    A killed process leaves its log there, and the next process to open the file applies it. SQLite writes to the file
    only from its log, at the same moment: a file that is much younger than the log was put there since.
    """
    wal = Path(f"{file}-wal")
    try:
        log, data = wal.stat(), file.stat()
    except FileNotFoundError:
        return
    if log.st_size > 0 and data.st_mtime - log.st_mtime > REPLACED_S:
        raise StoreReplaced(str(file.absolute()))


def there(file: Path) -> None:
    """Raise `StoreUnavailable` if there is no file: SQLite would create an empty one."""
    if not file.is_file():
        raise StoreUnavailable(perhaps_saved=False) from FileNotFoundError(f"no such file: {file}")


def prepare(engine: Engine, begin: str) -> None:
    """Configure every new connection, and begin its transactions ourselves: the driver would begin them too late."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA secure_delete=ON")  # what is deleted or blanked is overwritten in the file
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA synchronous")
        if tuple(cursor.fetchone()) != (2,):
            raise RuntimeError("SQLite does not take synchronous=FULL: what is acknowledged could be lost")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
