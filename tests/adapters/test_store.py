"""The database file: its address, its tables, its lock, and that what is committed stays."""

import re
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from bot.errors import StoreInUse, StoreUnavailable
from bot.store import inbox, runs
from bot.store.database import open_database, sqlite_url
from bot.store.tables import metadata
from tests.adapters.store_bench import NOW, a_message, a_run, opened

# --- addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("sqlite:///openhands.db", "openhands.db"),
        ("sqlite:////var/lib/openhands.db", "/var/lib/openhands.db"),
        ("sqlite+aiosqlite:///openhands.db", "openhands.db"),
        ("sqlite+pysqlite:///openhands.db", "openhands.db"),
    ],
)
def test_a_database_address_is_taken_as_people_write_it(written: str, file: str) -> None:
    """Whatever driver an address names, ours is used."""
    url = sqlite_url(written)
    assert (url.drivername, url.database) == ("sqlite+aiosqlite", file)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("postgresql://db/bot", "postgresql is not supported: write sqlite:///openhands.db"),
        ("postgresql+asyncpg://db/bot", "postgresql is not supported: write sqlite:///openhands.db"),
        ("postgres://db/bot", "postgres is not supported: write sqlite:///openhands.db"),
        ("mysql://db/bot", "mysql is not supported: write sqlite:///openhands.db"),
        (
            "sqlite:///:memory:",
            "it names no file, and what the bot knows must survive it: write sqlite:///openhands.db",
        ),
        ("sqlite://", "it names no file, and what the bot knows must survive it: write sqlite:///openhands.db"),
        ("openhands.db", "it is no database address: write sqlite:///openhands.db"),
        ("", "it is no database address: write sqlite:///openhands.db"),
    ],
)
def test_another_address_is_refused_with_what_to_write(written: str, sentence: str) -> None:
    """The sentence goes to the operator as it is."""
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        sqlite_url(written)
    assert str(refused.value) == sentence


# --- tables -----------------------------------------------------------------------------------------------------


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_the_migrations_make_the_tables_of_the_code(tmp_path: Path) -> None:
    """A fresh file has the tables, columns and indexes that the code names, and nothing else."""
    async with opened(tmp_path) as database, database.reading() as tx:
        found = await tx.run_sync(differences)
    assert found == []


async def test_a_filled_database_is_opened_again(tmp_path: Path) -> None:
    """A restart finds what was committed; migrating again changes nothing."""
    run, asked = a_run(), a_message("1.000001", mentions_us=True)
    async with opened(tmp_path) as database:
        async with database.transaction() as tx:
            await runs.add(tx, run)
        await inbox.add(database, asked, NOW)

    async with opened(tmp_path) as database, database.reading() as tx:
        found = await runs.get(tx, run.id), [row.incoming for row in await inbox.due(tx, NOW, [], 10)]
        differs = await tx.run_sync(differences)
    assert (*found, differs) == (run, [asked], [])


async def test_tables_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    """After a step back to an older version of the bot, the file is not touched, and free for the newer one."""
    async with opened(tmp_path) as database, database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as unknown:
            await open_database(sqlite_url(f"sqlite:///{tmp_path}/openhands.db"))
        assert "9999" in str(unknown.value.__cause__)


async def test_what_is_committed_is_on_the_disk(tmp_path: Path) -> None:
    """Write-ahead log and synchronous=FULL (2), on the writer's connection and the readers' alike."""
    pragmas = ("journal_mode", "synchronous", "busy_timeout")
    async with opened(tmp_path) as database:
        async with database.transaction() as tx:
            writer = [(await tx.execute(text(f"PRAGMA {name}"))).scalar() for name in pragmas]
        async with database.reading() as tx:
            reader = [(await tx.execute(text(f"PRAGMA {name}"))).scalar() for name in pragmas]
    assert writer == reader == ["wal", 2, 1000]


# --- one process ------------------------------------------------------------------------------------------------


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """One bot per file; the refused one names the file, and the first works on."""
    async with opened(tmp_path) as database:
        with pytest.raises(StoreInUse) as refused:
            await open_database(sqlite_url(f"sqlite:///{tmp_path}/openhands.db"))
        async with database.transaction() as tx:
            await runs.add(tx, a_run())
    assert str(refused.value) == f"{tmp_path}/openhands.db"


async def test_a_closed_database_is_free_for_the_next(tmp_path: Path) -> None:
    """The lock goes with the process, not with the lock file, which stays."""
    async with opened(tmp_path):
        pass
    assert (tmp_path / "openhands.db.lock").exists()
    async with opened(tmp_path):
        pass


# --- files that are no database ---------------------------------------------------------------------------------


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Nothing is made up: the operator corrects the address."""
    with pytest.raises(StoreUnavailable) as told:
        await open_database(sqlite_url(f"sqlite:///{tmp_path}/nowhere/openhands.db"))
    assert (told.value.perhaps_saved, type(told.value.__cause__)) == (False, FileNotFoundError)


async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    """A wrong path must not cost anybody a file, and its lock is given back."""
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but somebody's notes" * 100)
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as told:
            await open_database(sqlite_url(f"sqlite:///{file}"))
        assert "file is not a database" in str(told.value.__cause__)
    assert file.read_text() == "not a database, but somebody's notes" * 100


async def test_a_file_that_another_program_locks_is_told(tmp_path: Path) -> None:
    """Not only bots lock files: after SQLite's own second of patience it is the operator's turn."""
    async with opened(tmp_path):
        pass
    other = sqlite3.connect(tmp_path / "openhands.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreUnavailable) as told:
            await open_database(sqlite_url(f"sqlite:///{tmp_path}/openhands.db"))
    finally:
        other.close()
    assert "locked" in str(told.value.__cause__)
    async with opened(tmp_path):
        pass
