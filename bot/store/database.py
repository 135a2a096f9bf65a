"""Opens and migrates the database, and runs all writes in short transactions, one after the other."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn, Protocol

import structlog
from sqlalchemy import Connection, Dialect, Executable, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.core.errors import StoreInUse, StoreNewer, StoreReplaced, StoreUnavailable
from bot.store.address import PostgresServer, SqliteFile, read_address
from bot.store.sqlite import Sqlite, locked_soon, made_private, network_share, not_replaced, there

log = structlog.get_logger("store")

MIGRATIONS = Path(__file__).parent / "migrations"
TURN_S = 1.0
"""Seconds a request waits for its turn to be committed; Slack waits no longer than 3 s for all of it."""
LONG_S = 0.1
"""Seconds after which a transaction with many things to write leaves the rest to the next one: requests wait for it."""
WAIT_S = 30.0
"""Seconds a starting bot waits for a server that does not answer yet."""


class Backend(Protocol):
    """What differs between SQLite and PostgreSQL."""

    faults: tuple[type[Exception], ...]
    """What the driver raises when the database, or the connection to it, fails."""
    readers: AsyncEngine

    async def connect(self) -> AsyncConnection:
        """Return a connection that may write. Raises `faults`, and `StoreInUse` if another process has that right."""
        ...

    def is_lost(self, connection: AsyncConnection) -> bool:
        """Return whether the other end is known to have closed the connection."""
        ...

    async def let_go(self, connection: AsyncConnection) -> None:
        """Roll back and close a connection, whatever state it is in."""
        ...

    def is_trusted_after(self, err: Exception) -> bool:
        """Return whether the connection can still be used after one of `faults`."""
        ...

    def surely_refused(self, err: Exception) -> bool:
        """Return whether a commit that failed with this error surely saved nothing."""
        ...

    shares: bool
    """Whether `in_one_step` may go on beside the writer, beside readings and beside itself."""

    def in_one_step(self, statement: Executable, values: Mapping[str, Any]) -> asyncio.Future[int]:
        """Commit a statement faster than a transaction does; return how many rows it changed.

        Its future raises `StoreUnavailable`.
        """
        ...

    async def close(self) -> None: ...


class Turns:
    """A lock for one writer at a time, first come first served, but urgent writers before the others."""

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


class Turn:
    """How long a transaction has held the writer's turn. In real time: requests wait in real time for it."""

    def __init__(self) -> None:
        self._began = perf_counter()

    @property
    def over(self) -> bool:
        """Whether the rest is to be written in the next turn."""
        return perf_counter() - self._began > LONG_S


class Database:
    """An open database. `open_database` makes one; `close` ends it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._turns = Turns()
        self._calm = asyncio.Event()
        self._calm.set()
        self._connection: AsyncConnection | None = None
        self._steps: set[asyncio.Future[int]] = set()
        self._taken_over = asyncio.Event()
        self._name = ""
        self.takes_writes = True
        """Whether the last write succeeded: a full disk, or a file that somebody locks, can still be read."""

    @property
    def dialect(self) -> Dialect:
        return self._backend.readers.dialect

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Yield the writing connection: all is committed together at the end, or nothing. Raises `StoreUnavailable`."""
        await self._calm.wait()
        await self._turns.take(urgent=False)
        try:
            async with self._committed() as connection:
                yield connection
        finally:
            self._turns.give()

    async def write_down(self, statement: Executable, values: Mapping[str, Any]) -> int:
        """Commit one statement with its values, ahead of all waiting writers; return how many rows it changed.

        On SQLite no other read or write begins meanwhile: the loops' work is what keeps the process busy, and Slack
        waits for this one. A server does it beside everything else. Cancelling the caller does not undo it. Raises
        `StoreUnavailable`.
        """
        if self._backend.shares:
            return await asyncio.shield(self._stepped(statement, values))
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.take(urgent=True)
        except TimeoutError:  # nothing was begun
            raise StoreUnavailable(perhaps_saved=False) from None
        self._calm.clear()
        step = self._stepped(statement, values)
        step.add_done_callback(self._calmed)
        return await asyncio.shield(step)

    def _stepped(self, statement: Executable, values: Mapping[str, Any]) -> asyncio.Future[int]:
        step = self._backend.in_one_step(statement, values)
        self._steps.add(step)
        step.add_done_callback(self._written_down)
        return step

    def _written_down(self, step: asyncio.Future[int]) -> None:
        self._steps.discard(step)
        self.takes_writes = not step.cancelled() and step.exception() is None

    def _calmed(self, _step: asyncio.Future[int]) -> None:
        self._calm.set()
        self._turns.give()

    @asynccontextmanager
    async def _committed(self) -> AsyncIterator[AsyncConnection]:
        committing = False
        try:
            connection = await self._writing()
            await connection.begin()
            yield connection
            committing = True
            await connection.commit()
            self.takes_writes = True
        except self._backend.faults as err:
            self.takes_writes = False
            await self._undo(keep=self._backend.is_trusted_after(err))
            raise StoreUnavailable(perhaps_saved=committing and not self._backend.surely_refused(err)) from err
        except Exception:
            await self._undo(keep=True)
            raise
        except BaseException:  # cancelled, at any point
            await self._undo(keep=False)
            raise

    async def _writing(self) -> AsyncConnection:
        """Return the one connection that writes. Raises what the driver raises, and `StoreUnavailable`."""
        if self._connection is not None and self._backend.is_lost(self._connection):
            await self._undo(keep=False)
        if self._connection is None:
            try:
                self._connection = await self._backend.connect()
            except StoreInUse as err:
                self._name = str(err)
                self._taken_over.set()
                raise StoreUnavailable(perhaps_saved=False) from err
        return self._connection

    async def _undo(self, *, keep: bool) -> None:
        """Roll back a failed transaction; if even that fails, drop the connection, so that the next one is clean."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if keep:
                await connection.rollback()
                self._connection = connection
        except self._backend.faults:
            pass  # the caller raises why the transaction failed
        finally:
            if self._connection is None:
                await self._backend.let_go(connection)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection that reads one consistent snapshot, beside the writer. Raises `StoreUnavailable`."""
        await self._calm.wait()
        try:
            async with self._backend.readers.connect() as connection:
                try:
                    yield connection
                except self._backend.faults as err:
                    if not self._backend.is_trusted_after(err):
                        await self._backend.let_go(connection)
                    raise
        except self._backend.faults as err:
            raise StoreUnavailable(perhaps_saved=False) from err

    async def connect(self) -> None:
        """Open the writing connection now rather than at the first write. Raises what the driver raises."""
        self._connection = await self._backend.connect()

    async def kept(self) -> NoReturn:
        """Wait forever; raises `StoreInUse` when another process has taken over after a connection was lost."""
        await self._taken_over.wait()
        raise StoreInUse(self._name)

    async def close(self) -> None:
        """Close every connection and let another process have the database."""
        if self._steps:
            await asyncio.wait(self._steps)
        await self._undo(keep=False)
        await self._backend.close()


async def open_database(url: str, *, tool: bool = False, wait_s: float = WAIT_S) -> Database:
    """Open a database, create or migrate its tables, and keep every other process off it.

    tool: work beside the bot for a moment: keep nobody off, migrate nothing, create no file.
    wait_s: seconds to wait for a server that does not answer.
    Raises ValueError for an invalid address, `StoreInUse` when another process has the database, `StoreNewer`,
    `StoreReplaced`, `StoreUnavailable` when it can't be read or written, and `SettingsWrong` when a server refuses the
    address.
    """
    match read_address(url):
        case SqliteFile(file):
            return await opened_file(file, tool=tool)
        case PostgresServer() as server:
            return await opened_server(server, tool=tool, wait_s=wait_s)


async def opened_file(file: Path, *, tool: bool) -> Database:
    if tool:
        there(file)
        not_replaced(file)
        return Database(Sqlite(file, None))
    if kind := network_share(file):
        log.warning("store.on_network_share", kind=kind, help="move it to a local disk, or use PostgreSQL")
    database = Database(Sqlite(file, await locked_soon(file)))
    try:
        made_private(file)
        not_replaced(file)
        async with database.transaction() as connection:
            await connection.run_sync(migrate)
    except BaseException:
        await database.close()
        raise
    return database


async def opened_server(server: PostgresServer, *, tool: bool, wait_s: float) -> Database:
    from bot.store.postgres import Postgres, reached  # noqa: PLC0415 - its driver is for those who use it

    backend = Postgres(server, tool=tool)
    database = Database(backend)

    async def connect() -> None:
        if not tool:
            await backend.directly_reached()
        await database.connect()

    try:
        await reached(connect, wait_s)
        if not tool:
            await backend.migrate(migrate)
    except backend.faults as err:
        await database.close()
        raise StoreUnavailable(perhaps_saved=False) from err
    except BaseException:
        await database.close()
        raise
    return database


def migrate(connection: Connection) -> None:
    """Migrate the tables to this version; if they have it already, that only reads one row.

    Raises `StoreNewer` for tables of a version that is not known here.
    """
    before, known = version(connection), known_versions()
    if before == known[-1]:
        return
    if before is not None and before not in known:
        raise StoreNewer(before, known[-1])
    from alembic import command  # noqa: PLC0415 - a start seldom needs it, and importing it takes a tenth of one
    from alembic.config import Config  # noqa: PLC0415 - as above

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    log.info("store.migrated", before=before or "nothing", after=known[-1])


def version(connection: Connection) -> str | None:
    """Return the version of the tables; None where there are none yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def known_versions() -> Sequence[str]:
    """Return the versions this program can migrate, oldest first: each migration's file begins with its version."""
    return sorted(file.stem.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def replaced(err: StoreReplaced) -> tuple[str, str]:
    """Return what is wrong with a restored file, and what to do about it; for operators."""
    return (
        f"{err.file} was put there beside the write-ahead log (-wal) of another file, which would undo it",
        (
            f"If you restored a copy, delete {err.file}-wal and {err.file}-shm, then try again. If not, the log holds the "
            f"latest requests: `touch {err.file}-wal`, then try again."
        ),
    )


def reason(err: StoreUnavailable) -> str:
    """Return the driver's own words for what went wrong, without SQL and links; for operators."""
    said = err.__cause__ or err
    said = getattr(said, "orig", None) or said
    said = said.__cause__ or said
    return str(said).partition("\n")[0] or "no answer in time"
