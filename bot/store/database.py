"""The database: opened, migrated, and every write in one short transaction after the other."""

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, Executable, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from bot.errors import StoreInUse, StoreUnavailable

BUSY_MS = 1000
"""How long SQLite itself waits for somebody else's lock; with it a write fails well within Slack's 3 s."""
READERS = 4


def sqlite_url(url: str) -> URL:
    """Read `sqlite:///file.db` or `sqlite+aiosqlite:///file.db`.

    Raises ValueError, with what to write instead, for anything else.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as err:
        raise ValueError("it is no database address: write sqlite:///openhands.db") from err
    if parsed.get_backend_name() != "sqlite":
        raise ValueError(f"{parsed.get_backend_name()} is not supported: write sqlite:///openhands.db")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("it names no file, and what the bot knows must survive it: write sqlite:///openhands.db")
    return parsed.set(drivername="sqlite+aiosqlite")


class Turns:
    """One writer at a time, first come first served, but the urgent before the others."""

    def __init__(self) -> None:
        self._taken = False
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    async def take(self, *, urgent: bool) -> None:
        if not self._taken:
            self._taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def give(self) -> None:
        for waiting in (self._urgent, self._others):
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._taken = False


class Database:
    """An open database. `open_database` makes one; `close` ends it."""

    def __init__(self, writer: AsyncEngine, quick: Engine, readers: AsyncEngine, lock: int) -> None:
        self._writer = writer
        self._quick = quick
        self._thread = ThreadPoolExecutor(1, "write-down")
        self._readers = readers
        self._lock = lock
        self._turns = Turns()
        self._calm = asyncio.Event()
        self._calm.set()
        self._connection: AsyncConnection | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Write: everything inside is committed together, or nothing is. Raises `StoreUnavailable`."""
        await self._calm.wait()
        await self._turns.take(urgent=False)
        try:
            async with self._committed() as connection:
                yield connection
        finally:
            self._turns.give()

    async def write_down(self, statement: Executable) -> int:
        """Commit one statement, before all others that wait for their turn; give how many rows it changed.

        It is one step in a thread. In a `transaction` begin, statement and commit cross over to the driver's thread
        eight times, which takes longer than the disk. While it is done nothing else begins here: the work behind the
        loops is what keeps the process busy, and Slack waits for this one. A caller that is cancelled does not take it
        back. Raises `StoreUnavailable`.
        """
        try:
            async with asyncio.timeout(BUSY_MS / 1000):
                await self._turns.take(urgent=True)
        except TimeoutError:  # nothing was begun, and Slack waits no longer than 3 s for all of it
            raise StoreUnavailable(perhaps_saved=False) from None
        self._calm.clear()
        step = asyncio.get_running_loop().run_in_executor(self._thread, committed, self._quick, statement)
        step.add_done_callback(self._written_down)
        return await asyncio.shield(step)

    def _written_down(self, _step: object) -> None:
        self._calm.set()
        self._turns.give()

    @asynccontextmanager
    async def _committed(self) -> AsyncIterator[AsyncConnection]:
        committing = False
        try:
            if self._connection is None:
                self._connection = await self._writer.connect()
            await self._connection.begin()
            yield self._connection
            committing = True
            await self._connection.commit()
        except DBAPIError as err:
            await self._drop()
            raise StoreUnavailable(perhaps_saved=committing and not refused(err)) from err
        except BaseException:
            await self._drop()
            raise

    async def _drop(self) -> None:
        """End a transaction that did not succeed, and the connection with it: the next one starts clean."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(DBAPIError):
                await connection.rollback()
            with suppress(DBAPIError):
                await connection.close()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Read one consistent state, beside the writer. Raises `StoreUnavailable`."""
        await self._calm.wait()
        try:
            async with self._readers.connect() as connection:
                yield connection
        except DBAPIError as err:
            raise StoreUnavailable(perhaps_saved=False) from err

    async def close(self) -> None:
        """Close every connection and let another process have the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        self._thread.shutdown()
        self._quick.dispose()
        await self._writer.dispose()
        await self._readers.dispose()
        os.close(self._lock)


def committed(engine: Engine, statement: Executable) -> int:
    """Do one statement as a transaction; give how many rows it changed. Raises `StoreUnavailable`."""
    try:
        opened = engine.connect()
    except DBAPIError as err:
        raise StoreUnavailable(perhaps_saved=False) from err
    committing = False
    with opened as connection:
        try:
            changed = connection.execute(statement).rowcount
            committing = True
            connection.commit()
        except DBAPIError as err:
            connection.invalidate()  # and with it what is left of the transaction: the next one starts clean
            raise StoreUnavailable(perhaps_saved=committing and not refused(err)) from err
        return changed


def refused(err: DBAPIError) -> bool:
    """Tell whether SQLite surely did not commit: it had no lock, or no room."""
    said = str(err.orig)
    return isinstance(err, OperationalError) and ("locked" in said or "full" in said)


async def open_database(url: URL) -> Database:
    """Open the file, create or migrate its tables, and keep every other process off it.

    Raises `StoreInUse` when another process has it, `StoreUnavailable` when it can't be read or written, or was
    written by a newer version.
    """
    lock = locked(Path(url.database or ""))
    # hide_parameters: an error of the database goes to the log, and what people wrote must not.
    writer = create_async_engine(url, pool_size=1, max_overflow=0, hide_parameters=True)
    quick = create_engine(url.set(drivername="sqlite"), pool_size=1, max_overflow=0, hide_parameters=True)
    readers = create_async_engine(url, pool_size=READERS, max_overflow=0, hide_parameters=True)
    prepare(writer.sync_engine, "BEGIN IMMEDIATE")
    prepare(quick, "BEGIN IMMEDIATE")
    prepare(readers.sync_engine, "BEGIN")
    database = Database(writer, quick, readers, lock)
    try:
        async with database.transaction() as connection:
            await connection.run_sync(migrate)
    except BaseException:
        await database.close()
        raise
    return database


def locked(file: Path) -> int:
    """Take the lock file beside the database; it is free again when the descriptor closes, or the process dies."""
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


def prepare(engine: Engine, begin: str) -> None:
    """Set every new connection up, and start its transactions ourselves: the driver would start them too late."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA synchronous")
        if tuple(cursor.fetchone()) != (2,):
            raise RuntimeError("SQLite does not take synchronous=FULL: what is acknowledged could be lost")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def migrate(connection: Connection) -> None:
    """Bring the tables to this version; nothing to do is a look at one row.

    Raises `StoreUnavailable` for tables of a version that is not known here.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as err:
        raise StoreUnavailable(perhaps_saved=False) from err
