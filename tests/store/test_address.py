"""`DATABASE_URL`: every common spelling is taken, and what is wrong is told without the password."""

import re
import struct
from asyncio import IncompleteReadError, StreamReader, StreamWriter, start_server, start_unix_server
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import certifi
import pytest

from bot.store.address import PostgresServer, SqliteFile, read_address
from bot.store.postgres import Postgres

SSL_REQUEST = 80877103
EITHER = "write sqlite:///openhands.db or postgresql://user:password@host/database"
NO_FILE = "it names no file, and what the bot knows must survive it: write sqlite:///openhands.db"
ODD = "it can't be read: special characters in user and password are written with %, such as %23 for #"


@dataclass
class Heard:
    """What a client told before it was turned away."""

    tls: bool = False
    told: dict[str, str] = field(default_factory=dict)
    password: str = ""


class Listener:
    """Looks like a PostgreSQL that is starting up: it listens to who asks, and turns everybody away."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        heard = Heard()
        self.heard.append(heard)
        try:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            if code == SSL_REQUEST:
                heard.tls = True
                writer.write(b"N")
                length, _ = struct.unpack("!II", await reader.readexactly(8))
            words = (await reader.readexactly(length - 8)).decode().split("\0")
            heard.told = dict(zip(words[::2], words[1::2], strict=False))
            writer.write(b"R" + struct.pack("!II", 8, 3))  # the password, please
            _, length = struct.unpack("!cI", await reader.readexactly(5))
            heard.password = (await reader.readexactly(length - 4)).rstrip(b"\0").decode()
            said = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"
            writer.write(b"E" + struct.pack("!I", len(said) + 4) + said)
        except IncompleteReadError:
            pass  # it wanted TLS or nothing
        finally:
            writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Listener, str]]:
    """Return a listener, and its host and port."""
    made = Listener()
    listening = await start_server(made, "127.0.0.1", 0)
    async with listening:
        yield made, f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def ask(url: str) -> None:
    """Connect, in vain."""
    address = read_address(url)
    assert isinstance(address, PostgresServer)
    backend = Postgres(address, tool=True)
    with pytest.raises(backend.faults):
        await backend.connect()
    await backend.close()


# --- SQLite -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("sqlite:///openhands.db", "openhands.db"),
        ("sqlite:////var/lib/openhands.db", "/var/lib/openhands.db"),
        ("sqlite+aiosqlite:///openhands.db", "openhands.db"),
        ("sqlite+pysqlite:///openhands.db", "openhands.db"),
    ],
)
def test_a_file_is_named_as_people_write_it(written: str, file: str) -> None:
    """Whatever driver an address names, ours is used."""
    assert read_address(written) == SqliteFile(Path(file))


# --- PostgreSQL -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "POSTGRESQL"]
)
async def test_a_server_is_named_as_people_write_it(listener: tuple[Listener, str], scheme: str) -> None:
    """Hosts give out `postgres://`, frameworks put a driver in: ours is used, with user, password and database."""
    made, place = listener
    await ask(f"{scheme}://bot:hunter2@{place}/team")
    [heard] = made.heard
    assert (heard.told["user"], heard.password, heard.told["database"]) == ("bot", "hunter2", "team")


@pytest.mark.parametrize(
    ("login", "user", "password"),
    [
        ("b%40t:p%23s%2Fs%3A%25", "b@t", "p#s/s:%"),
        ("bot:p@ss", "bot", "p@ss"),
        ("bot:a+b", "bot", "a+b"),
        ("bot:100%", "bot", "100%"),
        ("bot:%C3%BC", "bot", "ü"),
    ],
)
async def test_odd_passwords(listener: tuple[Listener, str], login: str, user: str, password: str) -> None:
    """Written with %, or, where nothing can be mistaken, as they are."""
    made, place = listener
    await ask(f"postgresql://{login}@{place}/team")
    [heard] = made.heard
    assert (heard.told["user"], heard.password) == (user, password)


@pytest.mark.parametrize(
    ("asked", "name", "value"),
    [
        ("?application_name=our+bot", "application_name", "our+bot"),
        ("", "application_name", "openhands-for-slack"),
        ("?options=-c%20search_path%3Dbots", "options", "-c search_path=bots"),
        ("?options=-csearch_path=bots", "options", "-csearch_path=bots"),
        ("?statement_timeout=0", "statement_timeout", "1000"),
        ("?dbname=other", "database", "team"),
    ],
)
async def test_what_an_address_sets_for_the_session(
    listener: tuple[Listener, str], asked: str, name: str, value: str
) -> None:
    """Settings reach the server; the bot's own time-outs go before."""
    made, place = listener
    await ask(f"postgresql://bot:hunter2@{place}/team{asked}")
    [heard] = made.heard
    assert heard.told[name] == value


async def test_what_only_libpq_knows_is_left_out(listener: tuple[Listener, str]) -> None:
    """Hosts put it into the addresses they give out, and a server refuses settings that it does not know."""
    made, place = listener
    names = "channel_binding=prefer&connect_timeout=10&gssencmode=disable&keepalives=1&keepalives_idle=30"
    await ask(f"postgresql://bot:hunter2@{place}/team?{names}&sslmode=disable")
    [heard] = made.heard
    assert heard.told.keys() & {name.partition("=")[0] for name in names.split("&")} == set()


@pytest.mark.parametrize(
    ("asked", "tls", "in_the_clear"),
    [
        ("?sslmode=disable", False, True),
        ("?sslmode=allow", False, True),
        ("?sslmode=prefer", True, True),
        ("", True, True),
        ("?sslmode=require", True, False),
        (f"?sslmode=verify-ca&sslrootcert={certifi.where()}", True, False),
        (f"?sslmode=verify-full&sslrootcert={certifi.where()}", True, False),
        ("?sslmode=verify-full&sslrootcert=system", True, False),
        ("?sslrootcert=system", True, False),
    ],
)
async def test_whether_it_is_encrypted(
    listener: tuple[Listener, str], asked: str, *, tls: bool, in_the_clear: bool
) -> None:
    """Each of libpq's words means what it means there: who requires it says nothing to a server that has no TLS."""
    made, place = listener
    await ask(f"postgresql://bot:hunter2@{place}/team{asked}")
    first = made.heard[0]
    assert (first.tls, any(heard.told != {} for heard in made.heard)) == (tls, in_the_clear)


@pytest.mark.parametrize("asked", ["?host={folder}", "?host={folder}&port=5432", "?host={folder}&dbname=team"])
async def test_a_socket_in_a_folder(tmp_path: Path, asked: str) -> None:
    """A server on the same computer: the folder of its socket stands where a host can't."""
    made = Listener()
    async with await start_unix_server(made, tmp_path / ".s.PGSQL.5432"):
        await ask(f"postgresql://bot:hunter2@/team{asked.format(folder=tmp_path)}")
    [heard] = made.heard
    assert (heard.told["database"], heard.tls) == ("team", False)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("postgresql://bot:hunter2@db.internal:5433/team", "team on db.internal:5433"),
        ("postgresql://bot:hunter2@one,two:5433/team", "team on one,two:5433"),
        ("postgresql://bot:hunter2@[::1]:5433/team", "team on [::1]:5433"),
        ("postgresql://bot:hunter2@/team?host=/var/run/postgresql", "team on /var/run/postgresql"),
        ("postgresql://bot:hunter2@%2Fvar%2Frun/team", "team on /var/run"),
        ("postgresql:///team", "team on this computer"),
        ("postgresql://bot:hunter2@db", "the default database on db"),
    ],
)
def test_a_server_has_a_name_for_people(written: str, name: str) -> None:
    """It goes to the terminal and the log, and holds no password; nor does anything that is printed."""
    address = read_address(written)
    assert isinstance(address, PostgresServer)
    assert (address.name, "hunter2" in repr(address)) == (name, False)


# --- wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("mysql://bot:hunter2@db/bot", f"mysql is not supported: {EITHER}"),
        ("sqlite:///:memory:", NO_FILE),
        ("sqlite://", NO_FILE),
        ("openhands.db", f"it is no database address: {EITHER}"),
        ("", f"it is no database address: {EITHER}"),
        ("postgresql://bot:hunter#2@db/team", ODD),
        ("postgresql://bot:hunter/2@db/team", ODD),
        ("postgresql://bot:hunter?2@db/team", ODD),
        ("postgresql://bot:hunter[2@db/team", ODD),
        ("postgresql://bot:hunter2@db:port/team", ODD),
        ("postgresql://bot:hunter2@db/team?ssl", ODD),
        (
            "postgresql://bot:hunter2@db/team?sslmode=on",
            "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full",
        ),
        ("postgresql://bot:hunter2@db/team?sslrootcert=/no/such.pem", "sslrootcert names a file that is not there"),
        (
            "postgresql://bot:hunter2@db/team?sslmode=require&sslrootcert=system",
            "sslrootcert=system goes with sslmode=verify-full",
        ),
    ],
)
def test_another_address_is_refused_with_what_to_write(written: str, sentence: str) -> None:
    """The sentence goes to the operator as it is, and holds no part of the password."""
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        read_address(written)
    assert str(refused.value) == sentence
