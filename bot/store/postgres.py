"""PostgreSQL: one bot at a time, by an advisory lock that lives and dies with the connection that writes."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import structlog
from sqlalchemy import Connection, Executable, Pool, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from bot.core.errors import SettingsWrong, StoreInUse, StoreUnavailable
from bot.store.address import PostgresServer

log = structlog.get_logger("store")

STATEMENT_MS = 1000
"""Milliseconds a statement may take, waiting for locks included, so that a write fails within Slack's 3 s."""
NO_ANSWER_S = 1.5
"""Seconds we wait for the server to report that. No answer at all means that the network is gone."""
CONNECT_S = 2.0
CLOSE_S = 1.0
RETRY_S = 0.5
READERS = 4
QUICK = 4
"""Connections for requests: a burst of 60 takes 15 round trips."""
MIGRATION_LOCK_MS = 10_000
"""A migration may take any time, but waits only this long for a table that another program holds."""
BOT_LOCK, TURN_LOCK = 0x6F70656E_68616E64, 0x6F70656E_68616E65
"""Keys of two advisory locks: who is the bot (held as long as the connection), and who writes (as long as a
transaction, so that the tools of the command line take turns with it)."""
ALIVE = {"tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""So the server notices within half a minute that a process is gone, and releases its lock; by default after hours."""
PID = "SELECT pg_backend_pid()"
POOLED = (
    "DATABASE_URL leads to a pooler in transaction mode, where no lock of the bot holds. Use the direct address of the "
    "database, or a pooler in session mode."
)
WHO = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"
ON_DISK = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""What is acknowledged must not be lost, whatever somebody set for this role or database."""
PASSING = frozenset({"08", "53", "57", "58", "XX"})
"""Classes of SQLSTATE about the server's condition, not about what it was asked."""
NOT_COMMITTED = frozenset({"23", "25", "40", "53"})
"""Classes of SQLSTATE after which a transaction is surely rolled back, even when COMMIT fails with them."""
READ_ONLY = "25006"
TIMED_OUT = "57014"
NOT_POSTGRES = "08P01"
"""What poolers answer to a setting that they do not know."""


class Postgres:
    """The database of a bot. See `bot.store.database.Backend`."""

    faults: tuple[type[Exception], ...] = (
        DBAPIError,
        NoneFree,
        OSError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )
    """On connect, SQLAlchemy does not wrap the driver's own errors."""
    shares = True

    def __init__(self, server: PostgresServer, *, tool: bool) -> None:
        """tool: works beside the bot, so it takes no lock."""
        self._server = server
        self._tool = tool
        self._session: tuple[Any, Any] | None = None
        self.writer = engine(self._writing, poolclass=NullPool)
        self.readers = engine(
            partial(self._connected, {"default_transaction_read_only": "on"}),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=NO_ANSWER_S,
            isolation_level="REPEATABLE READ",
        )
        self.quick = engine(
            self._durable,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=QUICK,
            max_overflow=0,
            pool_timeout=NO_ANSWER_S,
            isolation_level="AUTOCOMMIT",
        )
        drop_the_dead(self.readers.sync_engine.pool)
        drop_the_dead(self.quick.sync_engine.pool)

        @event.listens_for(self.writer.sync_engine, "begin")
        def begun(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN_LOCK})")

    async def connect(self) -> AsyncConnection:
        return await self.writer.connect()

    async def directly_reached(self) -> None:
        """Raise `SettingsWrong` if a pooler changes the server's session between two transactions: no lock would hold.

        One session asks who it is, another then keeps whatever the pooler gives it, and the first asks again.
        """
        first = await self._connected()
        try:
            before = await first.fetchval(PID)
            other = await self._connected()
            try:
                async with other.transaction():
                    moved = await first.fetchval(PID) != before
            finally:
                other.terminate()
        except asyncpg.InvalidSQLStatementNameError:  # prepared in the session before
            moved = True
        finally:
            first.terminate()
        if moved:
            raise SettingsWrong([POOLED])

    def is_lost(self, connection: AsyncConnection) -> bool:
        at_server = driver(connection)
        return at_server is None or bool(at_server.is_closed())

    async def let_go(self, connection: AsyncConnection) -> None:
        """Cut the connection off: the server may not answer, and rolls back by itself what was not committed."""
        at_server = driver(connection)
        if at_server is not None:
            at_server.terminate()
            await connection.invalidate()
        await connection.close()

    def is_trusted_after(self, err: Exception) -> bool:
        # Read-only: the server was demoted, and its name leads to another one by now.
        return isinstance(err, DBAPIError) and not err.connection_invalidated and sqlstate(err) != READ_ONLY

    def surely_refused(self, err: Exception) -> bool:
        return sqlstate(err)[:2] in NOT_COMMITTED

    def in_one_step(self, statement: Executable, values: Mapping[str, Any]) -> asyncio.Future[int]:
        """Commit in one round trip, on a connection of its own.

        It takes no turn: an insert that does nothing where its key is there already meets no other writer.
        """
        return asyncio.ensure_future(self._committed(statement, values))

    async def _committed(self, statement: Executable, values: Mapping[str, Any]) -> int:
        sent = False
        try:
            async with self.quick.connect() as connection:
                sent = True
                try:
                    return (await connection.execute(statement, values)).rowcount
                except self.faults as err:
                    if not self.is_trusted_after(err):
                        await self.let_go(connection)
                    raise
        except self.faults as err:
            raise StoreUnavailable(perhaps_saved=sent and not answered(err)) from err

    async def close(self) -> None:
        for one in (self.writer, self.readers, self.quick):
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await one.dispose()

    async def migrate(self, migrate: Callable[[Connection], None]) -> None:
        """Migrate on a connection without time-outs, while the writing connection holds the lock. Raises `faults`."""
        patient = {"statement_timeout": "0", "lock_timeout": str(MIGRATION_LOCK_MS)}
        migrating = engine(partial(self._connected, patient, None), poolclass=NullPool)
        try:
            async with migrating.begin() as connection:
                await connection.run_sync(migrate)
        finally:
            await migrating.dispose()

    async def _connected(
        self, settings: dict[str, str] | None = None, no_answer_s: float | None = NO_ANSWER_S
    ) -> asyncpg.Connection:
        named = {} if "application_name=" in self._server.dsn else {"application_name": "openhands-for-slack"}
        return await asyncpg.connect(
            self._server.dsn,
            ssl=True if self._server.public else None,
            timeout=CONNECT_S,
            command_timeout=no_answer_s,
            server_settings={"statement_timeout": str(STATEMENT_MS), **ALIVE, **named, **(settings or {})},
        )

    async def _durable(self) -> asyncpg.Connection:
        """Return a connection whose commits are on the disk."""
        connection = await self._connected()
        try:
            await connection.execute(ON_DISK)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _writing(self) -> asyncpg.Connection:
        """Return a connection that may write, because it holds the lock; a tool's needs none."""
        connection = await self._durable()
        try:
            if not self._tool:
                await self._take_lock(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _take_lock(self, connection: asyncpg.Connection) -> None:
        """Take the lock of the one bot that writes. Raises `StoreInUse` if another process holds it."""
        if self._session is not None:  # our last one was cut off, but may still hold the lock
            with suppress(asyncpg.InsufficientPrivilegeError):
                await connection.execute(END, *self._session)
        try:
            await connection.execute(f"SELECT pg_advisory_lock({BOT_LOCK})")
        except asyncpg.QueryCanceledError as err:
            raise StoreInUse(self._server.name) from err
        who = await connection.fetchrow(WHO)
        self._session = None if who is None else (who["pid"], who["backend_start"])


def engine(connected: Callable[[], Any], **about: Any) -> AsyncEngine:
    """Return an engine on connections we open: asyncpg reads addresses as libpq does, SQLAlchemy does not."""
    # hide_parameters: database errors go to the log, and what people wrote must not.
    made = create_async_engine("postgresql+asyncpg://", async_creator=connected, hide_parameters=True, **about)

    @event.listens_for(made.sync_engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        said = driver_error(context.original_exception)
        if isinstance(said, asyncpg.PostgresError):
            said.detail = None  # it quotes the row that was refused
        elif isinstance(said, TimeoutError) and context.connection is not None:
            # SQLAlchemy would close it gracefully, and wait for the silent server once more.
            silent: Any = context.connection.connection.driver_connection
            silent.terminate()

    return made


def drop_the_dead(pool: Pool) -> None:
    """Keep a pool from handing out a connection that the server or the network has closed meanwhile."""

    @event.listens_for(pool, "checkout")
    def alive(connection: Any, _record: Any, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError


def driver(connection: AsyncConnection) -> Any:
    """Return asyncpg's own connection; None where SQLAlchemy has dropped it."""
    ours = connection.sync_connection
    return None if ours is None or ours.invalidated or ours.closed else ours.connection.driver_connection


def driver_error(err: BaseException) -> BaseException:
    """Return asyncpg's own error, however SQLAlchemy wrapped it."""
    wrapped = err.orig if isinstance(err, DBAPIError) and err.orig is not None else err
    inner = wrapped.__cause__
    return inner if isinstance(inner, asyncpg.PostgresError | asyncpg.InterfaceError) else wrapped


def sqlstate(err: Exception) -> str:
    """Return the server's code for an error; empty if the error is not the server's."""
    return str(getattr(driver_error(err), "sqlstate", None) or "")


def answered(err: Exception) -> bool:
    """Return whether the server itself refused a statement that it commits by itself, so that nothing was saved."""
    return sqlstate(err)[:2] in NOT_COMMITTED or sqlstate(err) == TIMED_OUT


def passes(err: Exception) -> bool:
    """Return whether a retry may help: the server is gone, not up yet, or overloaded."""
    said = driver_error(err)
    if isinstance(said, asyncpg.PostgresError):
        return sqlstate(err)[:2] in PASSING and sqlstate(err) != NOT_POSTGRES
    return not isinstance(said, asyncpg.ClientConfigurationError | ssl.SSLCertVerificationError)


async def reached(connect: Callable[[], Awaitable[None]], wait_s: float) -> None:
    """Connect, retrying for `wait_s` seconds: a database is often started together with the bot.

    Raises `SettingsWrong` if retrying can't help, `StoreInUse`, and `StoreUnavailable`.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + wait_s
    waiting = False
    while True:
        try:
            return await connect()
        except Postgres.faults as err:
            if not passes(err):
                raise SettingsWrong([f"DATABASE_URL is refused by PostgreSQL: {driver_error(err)}."]) from None
            if loop.time() >= give_up_at:
                raise StoreUnavailable(perhaps_saved=False) from err
            if not waiting:
                log.warning("store.unreachable", error=type(err).__name__, waiting_s=wait_s)
            waiting = True
        await asyncio.sleep(RETRY_S)
