"""`DATABASE_URL` in every common spelling → where the database is."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

WRITE = "write sqlite:///openhands.db or postgresql://user:password@host/database"
FOUR_SLASHES = "an absolute path begins with four slashes, as in sqlite:////data/openhands.db"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ENCRYPTED = ("require", "verify-ca", "verify-full")
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
PUBLIC = "system"
"""libpq's word, in place of a file, for the certificate authorities that this computer trusts."""
IGNORED = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)
"""Parameters of libpq, found in the addresses that hosters give out. asyncpg would send them to the server as settings,
which it refuses. The bot has time-outs of its own."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """An SQLite file."""

    file: Path

    @property
    def advice(self) -> str:
        """What to look at when it can't be opened."""
        folder = self.file.absolute().parent
        if folder.is_dir():
            return "Check DATABASE_URL, the folder's rights and the disk."
        return f"Make it, or correct DATABASE_URL ({FOUR_SLASHES})."

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return str(self.file.absolute())


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A database on a server."""

    dsn: str = field(repr=False)
    """As asyncpg reads it. Holds the password."""
    name: str
    """The database and where it is, for people; nothing secret."""
    public: bool = False
    """The server must present a certificate for its own name, from an authority that this computer trusts."""
    hosts: tuple[str, ...] = ()
    """The names or addresses of its machines; none, or a folder: this one."""
    encrypted: bool = False
    """A connection without TLS is refused."""
    advice = "Check DATABASE_URL, and that the server runs and lets the bot in."


Address = SqliteFile | PostgresServer


def read_address(url: str) -> Address:
    """Read an address. Raises ValueError with what to write instead, without the password."""
    backend = url.partition("://")[0].partition("+")[0].lower()
    if backend in ("postgresql", "postgres"):
        return server(url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as err:
        raise ValueError(f"it is no database address: {WRITE}") from err
    if backend != "sqlite":
        raise ValueError(f"{backend} is not supported: {WRITE}")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("it names no file, and what the bot knows must survive it: write sqlite:///openhands.db")
    return SqliteFile(Path(parsed.database))


def server(url: str) -> PostgresServer:
    """Read a PostgreSQL address as libpq does, whatever driver it names. Raises ValueError."""
    try:
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")  # "@" can be in a password, but in no host
        [int(port) for port in ports(hosts)]
        asked = query(parts)
    except ValueError:
        parts = None
    if parts is None or parts.fragment:
        raise ValueError(
            "it can't be read: special characters in user and password are written with %, such as %23 for #"
        ) from None
    mode, root = asked.get("sslmode"), asked.get("sslrootcert")
    if mode not in (None, *SSL_MODES):
        raise ValueError(f"sslmode must be one of {', '.join(SSL_MODES)}")
    if public := root == PUBLIC:
        if mode not in (None, "verify-full"):
            raise ValueError("sslrootcert=system goes with sslmode=verify-full")
        asked = {name: value for name, value in asked.items() if name not in ("sslmode", "sslrootcert")}
    for name in FILES:
        if name in asked and not Path(asked[name]).is_file():
            raise ValueError(f"{name} names a file that is not there")
    user, colon, password = login.partition(":")
    login = quote(unquote(user), safe="") + colon + quote(unquote(password), safe="")
    kept = {name: value for name, value in asked.items() if name not in IGNORED}
    dsn = f"postgresql://{login}@{hosts}{parts.path}" + (f"?{urlencode(kept, quote_via=quote)}" if kept else "")
    database = unquote(parts.path.lstrip("/")) or asked.get("dbname", "the default database")
    where = unquote(hosts) or asked.get("host", "this computer")
    machines = [host.strip("[]") for host in without_ports(unquote(hosts) or asked.get("host", ""))]
    return PostgresServer(dsn, f"{database} on {where}", public, tuple(machines), encrypted=public or mode in ENCRYPTED)


def ports(hosts: str) -> list[str]:
    """Return the ports of `host`, `host:port`, `[address]:port`, or several of them with commas."""
    after = [host.rpartition("]")[2].rpartition(":") for host in hosts.split(",")]
    return [port for _, colon, port in after if colon and port]


def without_ports(hosts: str) -> list[str]:
    """Return the hosts of `host`, `host:port`, `[address]:port`, or several of them with commas; none of a folder."""
    names = [host[: host.index("]") + 1] if "]" in host else host.partition(":")[0] for host in hosts.split(",")]
    return [name for name in names if name and not name.startswith("/")]


def query(parts: SplitResult) -> dict[str, str]:
    """Read the query string; a plus sign is literal. Raises ValueError for a part that is not `name=value`."""
    asked = {}
    for part in filter(None, parts.query.split("&")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(part)
        asked[unquote(name)] = unquote(value)
    return {name: value for name, value in asked.items() if value}
