"""What only SQLite has: a file, its lock file, the disk, and other programs that lock it."""

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Executable, event, text
from sqlalchemy.exc import OperationalError

from bot.core.errors import StoreUnavailable
from bot.store import inbox, outbox, runs, stats
from bot.store.database import Database, open_database, reason
from bot.store.sqlite import Sqlite, network_share
from tests.store.bench import NOW, a_message, a_run, file_in, locked, opened

ONE, TWO = (a_message(f"{number}.000001", mentions_us=True) for number in (1, 2))
COMMIT_FAILS = pytest.mark.parametrize(
    ("said", "perhaps"),
    [("disk I/O error", True), ("database is locked", False), ("database or disk is full", False)],
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened(tmp_path) as made:
        yield made


def backend(database: Database) -> Sqlite:
    assert isinstance(database._backend, Sqlite)
    return database._backend


async def stored(database: Database) -> list[str]:
    async with database.reading() as tx:
        return list((await tx.execute(text("SELECT id FROM runs ORDER BY id"))).scalars())


# --- the disk ---------------------------------------------------------------------------------------------------


async def test_what_is_committed_is_on_the_disk(database: Database) -> None:
    """Write-ahead log and synchronous=FULL (2), on the writer's connection and the readers' alike."""
    pragmas = ("journal_mode", "synchronous", "busy_timeout", "secure_delete")
    async with database.transaction() as tx:
        writer = [(await tx.execute(text(f"PRAGMA {name}"))).scalar() for name in pragmas]
    async with database.reading() as tx:
        reader = [(await tx.execute(text(f"PRAGMA {name}"))).scalar() for name in pragmas]
    assert writer == reader == ["wal", 2, 1000, 1]


async def test_a_request_is_on_the_disk_when_it_is_written_down(database: Database, tmp_path: Path) -> None:
    """Another connection sees the row at once, and it was synced: a loss of power would not take it."""
    added = await inbox.add(database, ONE, NOW)

    other = sqlite3.connect(tmp_path / "openhands.db")
    keys = [key for (key,) in other.execute("SELECT key FROM inbox")]
    other.close()
    with backend(database).quick.connect() as connection:
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    assert (added, keys, synchronous) == (True, [ONE.key], 2)


async def test_a_full_disk_saves_nothing(database: Database) -> None:
    """The database can't grow: a clear no, and small changes still work."""
    async with database.transaction() as tx:
        pages = (await tx.execute(text("PRAGMA page_count"))).scalar_one()
        await tx.execute(text(f"PRAGMA max_page_count = {pages + 1}"))
    with pytest.raises(StoreUnavailable) as outage:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one", answer="long " * 20_000))
    async with database.transaction() as tx:
        await runs.add(tx, a_run("two"))
    assert (outage.value.perhaps_saved, await stored(database)) == (False, ["two"])


@COMMIT_FAILS
async def test_a_commit_that_fails_may_have_saved(database: Database, said: str, *, perhaps: bool) -> None:
    """Only for want of a lock or of room is it sure that nothing was; the next transaction works either way."""

    def breaks(_connection: object) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError(said))

    engine = backend(database).writer.sync_engine
    event.listen(engine, "commit", breaks)
    with pytest.raises(StoreUnavailable) as outage:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one"))
    event.remove(engine, "commit", breaks)
    async with database.transaction() as tx:
        await runs.add(tx, a_run("two"))
    assert (outage.value.perhaps_saved, await stored(database)) == (perhaps, ["two"])


@COMMIT_FAILS
async def test_a_request_whose_commit_fails_may_be_saved(database: Database, said: str, *, perhaps: bool) -> None:
    """It is told in the same way; the next request works either way."""

    def breaks(_connection: object) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError(said))

    event.listen(backend(database).quick, "commit", breaks)
    with pytest.raises(StoreUnavailable) as outage:
        await inbox.add(database, ONE, NOW)
    event.remove(backend(database).quick, "commit", breaks)
    added = await inbox.add(database, TWO, NOW)
    async with database.reading() as tx:
        kept = [row.incoming.key for row in await inbox.due(tx, NOW, [], 10)]
    assert (outage.value.perhaps_saved, added, kept) == (perhaps, True, [TWO.key])


# --- files that are no database ---------------------------------------------------------------------------------


async def test_the_lock_file_stays_and_locks_nobody_out(tmp_path: Path) -> None:
    """The lock is the open descriptor, not the file."""
    async with opened(tmp_path):
        pass
    assert (tmp_path / "openhands.db.lock").exists()
    async with opened(tmp_path):
        pass


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Nothing is made up: the operator corrects the address."""
    with pytest.raises(StoreUnavailable) as told:
        await open_database(f"sqlite:///{tmp_path}/nowhere/openhands.db")
    assert (told.value.perhaps_saved, type(told.value.__cause__)) == (False, FileNotFoundError)


async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    """A wrong path must not cost anybody a file, and its lock is given back."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but somebody's notes" * 100)
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as told:
            await open_database(f"sqlite:///{file}")
        assert reason(told.value) == "file is not a database"
    assert file.read_text() == "not a database, but somebody's notes" * 100


async def test_a_file_that_another_program_locks_is_told(tmp_path: Path) -> None:
    """Not only bots lock files: after SQLite's own second of patience it is the operator's turn."""
    async with opened(tmp_path):
        pass
    async with locked(file_in(tmp_path)):
        with pytest.raises(StoreUnavailable) as told:
            await open_database(file_in(tmp_path))
    assert reason(told.value) == "database is locked"
    async with opened(tmp_path):
        pass


async def test_a_lock_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The lock stands beside the database, so that folder is named in what the system says."""
    (tmp_path / "openhands.db.lock").mkdir()
    with pytest.raises(StoreUnavailable) as told:
        await open_database(file_in(tmp_path))
    assert type(told.value.__cause__) is IsADirectoryError


@pytest.mark.parametrize(
    "statement", [stats.OWED, stats.DEAD, stats.STATES, stats.WAITING, outbox.DEAD, *outbox.FORGET], ids=str
)
async def test_nobody_reads_a_whole_week_to_count_a_few_rows(tmp_path: Path, statement: Executable) -> None:
    """Probes ask every few seconds; each table is read by an index."""
    async with opened(tmp_path) as database, database.reading() as tx:
        sql = str(statement.compile(dialect=tx.dialect))  # type: ignore[attr-defined]  # SQLAlchemy's types hide it
        plan = await tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", ("",) * sql.count("?"))
        steps = [step for *_, step in plan if step.startswith(("SCAN", "SEARCH"))]
    assert steps
    assert all(" INDEX " in step for step in steps), steps


async def test_a_look_at_the_lock_keeps_no_bot_from_starting(tmp_path: Path) -> None:
    """`doctor` holds it for an instant, to see whether a bot works on the file."""
    with (tmp_path / "openhands.db.lock").open("w") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        asyncio.get_running_loop().call_later(0.15, fcntl.flock, look, fcntl.LOCK_UN)
        async with opened(tmp_path) as database, database.reading() as tx:
            assert await runs.queued(tx, 1) == []


MOUNTED = """\
/dev/vda / ext4 rw 0 0
files:/export /srv nfs4 rw 0 0
/dev/vdb /srv/local ext4 rw 0 0
//files/team /data/our\\040team cifs rw 0 0
odd
"""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/var/lib/bot/openhands.db", None),
        ("/srv/bot/openhands.db", "nfs4"),
        ("/srv/local/openhands.db", None),
        ("/data/our team/openhands.db", "cifs"),
    ],
)
def test_a_file_on_a_network_share_is_known_by_its_mount(tmp_path: Path, file: str, kind: str | None) -> None:
    """The nearest mount above it counts; where no list of mounts can be read, nothing is said."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTED, encoding="utf-8")
    assert network_share(Path(file), mounts) == kind
    assert network_share(Path(file), tmp_path / "none") is None
