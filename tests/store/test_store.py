"""An opened database: its tables, its lock, and that what is committed stays."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, insert, text
from structlog.testing import capture_logs

from bot.core.errors import StoreInUse, StoreNewer, StoreReplaced, StoreUnavailable
from bot.core.model import FollowUp, FollowUpState, MessageTs, RunId
from bot.core.owed import OutboxKind
from bot.store import audit, checkpoints, inbox, outbox, runs
from bot.store.address import PostgresServer, read_address
from bot.store.checkpoints import Mark
from bot.store.database import MIGRATIONS, known_versions, open_database, reason
from bot.store.mapping import to_row
from bot.store.tables import metadata
from tests.postgres import server
from tests.store.bench import ALICE, NOW, a_message, a_run, file_in, opened


@pytest.fixture(params=["sqlite", "postgresql"])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of a database without tables."""
    if request.param == "postgresql":
        return await server().empty()
    (tmp_path / "openhands.db").touch()
    return file_in(tmp_path)


def name_of(url: str) -> str:
    address = read_address(url)
    return address.name if isinstance(address, PostgresServer) else str(address.file)


# --- tables -----------------------------------------------------------------------------------------------------


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_the_migrations_make_the_tables_of_the_code(empty: str) -> None:
    """A fresh database has the tables, columns and indexes that the code names, and nothing else."""
    async with opened(empty) as database, database.reading() as tx:
        found = await tx.run_sync(differences)
    assert found == []


def test_a_migration_is_named_by_its_version() -> None:
    """The newest one is known by its file's name: a start with tables of that version looks no further."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    names = [Path(script.path).stem for script in scripts.walk_revisions()]
    assert [name.partition("_")[0] for name in names] == [script.revision for script in scripts.walk_revisions()]
    assert max(names).partition("_")[0] == scripts.get_current_head()


async def test_a_filled_database_is_opened_again(url: str) -> None:
    """A restart finds what was committed; migrating again changes nothing."""
    run, asked = a_run(), a_message("1.000001", mentions_us=True)
    async with opened(url) as database:
        async with database.transaction() as tx:
            await runs.add(tx, run)
        await inbox.add(database, asked, NOW)

    async with opened(url) as database, database.reading() as tx:
        found = await runs.get(tx, run.id), [row.incoming for row in await inbox.due(tx, NOW, [], 10)]
        differs = await tx.run_sync(differences)
    assert (*found, differs) == (run, [asked], [])


RUN = a_run(branch="dev", answer="Fixed two links.", ts=MessageTs("1.000002"))
SAID = FollowUp(
    id="f-1",
    run=RUN.id,
    author=ALICE,
    text="and the docs",
    source_ts=MessageTs("1.000003"),
    state=FollowUpState.DELIVERED,
)
ASKED = a_message("1.000001", mentions_us=True)
ROWS: dict[str, dict[str, Any]] = {
    "runs": to_row(RUN),
    "follow_ups": to_row(SAID),
    "inbox": {
        "key": ASKED.key,
        "lane": inbox.lane(ASKED),
        "position": ASKED.ts,
        "payload": to_row(ASKED),
        "received_at": NOW,
        "next_at": NOW,
    },
    "outbox": {
        "id": "o-1",
        "run": RUN.id,
        "kind": "message",
        "lane": "card:1",
        "rank": 0,
        "payload": {"text": "Done"},
        "created_at": NOW,
        "next_at": NOW,
    },
    "threads": {
        "team": RUN.team,
        "channel": RUN.channel,
        "thread_ts": "1.000001",
        "run": RUN.id,
        "every_reply": True,
    },
    "decisions": {"run": RUN.id, "at": NOW, "person": "U1", "accept": True, "action": "e1", "shown": "0" * 64},
    "audit": {
        "seq": 1,
        "at": NOW,
        "actor": "U1",
        "action": "approve",
        "verdict": "allowed",
        "rule": "everybody",
        "place": "",
        "run": RUN.id,
        "shown": "0" * 64,
        "before": "",
        "fingerprint": "37",
    },
    "marks": {"name": "heard", "at": NOW},
}
"""A row of every table, with all that any version kept in it."""


def filled(connection: Connection, made_by: str) -> None:
    """Make the tables of a version, with a row in each of them."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, made_by)
    then = MetaData()
    then.reflect(connection)
    for name in then.tables.keys() - {"alembic_version"}:
        columns = [column.name for column in then.tables[name].columns]
        row = {column: ROWS[name][column] for column in columns if column in ROWS[name]}
        today = metadata.tables.get(name, then.tables[name])  # its types write each value as every version did
        connection.execute(insert(today).values(row))


@pytest.mark.parametrize("made_by", known_versions())
async def test_a_database_of_each_earlier_version_is_brought_up_to_date(empty: str, made_by: str) -> None:
    """Nothing that it holds is lost or read as something else, and what is new has its default."""
    tool = await open_database(empty, tool=True)
    async with tool.transaction() as tx:
        await tx.run_sync(filled, made_by)
    await tool.close()

    with capture_logs() as logs:
        async with opened(empty) as database, database.reading() as tx:
            rows = await runs.get(tx, RUN.id), await runs.get_follow_up(tx, SAID.id)
            [asked] = [row.incoming for row in await inbox.due(tx, NOW, [], 10)]
            [owed] = await outbox.due(tx, NOW, [], 10)
            thread = await runs.of_thread(tx, RUN.team, RUN.channel, MessageTs("1.000001"))
            heard = await checkpoints.get(tx, Mark.HEARD)
            differs = await tx.run_sync(differences)
    assert rows == (RUN, SAID)
    assert (asked, owed.kind, owed.payload) == (ASKED, OutboxKind.MESSAGE, {"text": "Done"})
    assert (thread, differs) == ((RUN, True), [])
    assert heard == (None if made_by == "0001" else NOW)
    if "0006" <= made_by < "0010":  # decisions are rows of the audit by now
        async with opened(empty) as database, database.reading() as tx:
            [kept] = [row async for row in audit.every(tx)]
        assert (kept["actor"], kept["action"], kept["run"], kept["at"]) == ("U1", "approve", RUN.id, NOW)
        assert [*audit.broken(kept, None)] == []
    newest = known_versions()[-1]
    told = [{"event": "store.migrated", "log_level": "info", "before": made_by, "after": newest}]
    assert [one for one in logs if one["event"] == "store.migrated"] == ([] if made_by == newest else told)


async def test_tables_of_a_newer_version_are_left_alone(empty: str) -> None:
    """After a step back to an older version of the bot, nothing is touched, and all is free for the newer one."""
    async with opened(empty) as database, database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for _ in range(2):
        with pytest.raises(StoreNewer, match=f"9999; this one knows {known_versions()[-1]}"):
            await open_database(empty)


# --- the file ---------------------------------------------------------------------------------------------------


def modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}


async def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    """What people wrote is in it and in its log."""
    async with opened(file_in(tmp_path)) as database:
        async with database.transaction() as tx:
            await runs.add(tx, a_run())
        found = modes(tmp_path)
    assert found == dict.fromkeys(("openhands.db", "openhands.db-wal", "openhands.db-shm", "openhands.db.lock"), 0o600)


async def killed(folder: Path, name: str) -> Path:
    """Leave in a folder what a killed process leaves: the file, and a log that holds its latest run."""
    source = folder / f"of {name}"
    source.mkdir()
    async with opened(file_in(source)) as database:
        async with database.transaction() as tx:
            await runs.add(tx, a_run(name))
        left = folder / name
        left.mkdir()
        for file in ("openhands.db", "openhands.db-wal"):
            shutil.copy2(source / file, left / file)
    return left


async def test_the_log_of_a_killed_process_is_read(tmp_path: Path) -> None:
    """What was committed is there, though the file itself does not have it yet."""
    left = await killed(tmp_path, "one")
    async with opened(file_in(left)) as database, database.reading() as tx:
        assert (await runs.get(tx, RunId("one"))).id == "one"


@pytest.mark.parametrize("tool", [False, True], ids=["bot", "tool"])
async def test_a_copy_beside_the_log_of_another_file_is_not_opened(tmp_path: Path, *, tool: bool) -> None:
    """SQLite would apply that log, and undo the restore without a word; nothing is touched until a person decides."""
    left = await killed(tmp_path, "one")
    log = left / "openhands.db-wal"
    before = log.read_bytes()
    os.utime(log, (log.stat().st_atime, log.stat().st_mtime - 60))  # the copy was put there a minute later
    with pytest.raises(StoreReplaced):
        async with (await open_database(file_in(left), tool=tool)).reading() as tx:
            await runs.find(tx, "one")
    assert log.read_bytes() == before
    log.unlink()
    async with opened(file_in(left)) as database, database.reading() as tx:
        assert await runs.find(tx, "one") is None


# --- one process ------------------------------------------------------------------------------------------------


async def test_a_second_process_is_refused(url: str) -> None:
    """One bot per database; the refused one names it, without a password, and the first works on."""
    async with opened(url) as database:
        with pytest.raises(StoreInUse) as refused:
            await open_database(url)
        async with database.transaction() as tx:
            await runs.add(tx, a_run())
    assert str(refused.value) == name_of(url)


async def test_a_closed_database_is_free_for_the_next(url: str) -> None:
    """The lock goes with the process."""
    async with opened(url):
        pass
    async with opened(url):
        pass


async def test_a_tool_works_beside_the_bot(url: str) -> None:
    """The command line reads and changes rows while the bot runs; each sees what the other has committed."""
    async with opened(url) as database:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one"))
        tool = await open_database(url, tool=True)
        async with tool.reading() as tx:
            seen = (await runs.get(tx, RunId("one"))).id
        async with tool.transaction() as tx:
            await runs.add(tx, a_run("two"))
        await tool.close()
        async with database.reading() as tx:
            assert (seen, (await runs.get(tx, RunId("two"))).id) == ("one", "two")


async def test_a_tool_and_the_bot_take_turns(url: str) -> None:
    """What a transaction has read nobody changes before it is through."""
    order = []
    async with opened(url) as database:
        tool = await open_database(url, tool=True)

        async def tool_writes() -> None:
            async with tool.transaction() as tx:
                await tx.execute(text("SELECT count(*) FROM runs"))
                order.append("tool")

        async with database.transaction() as tx:
            await tx.execute(text("SELECT count(*) FROM runs"))
            writing = asyncio.create_task(tool_writes())
            await asyncio.sleep(0.05)
            order.append("bot")
        await writing
        await tool.close()
    assert order == ["bot", "tool"]


async def test_a_tool_makes_and_migrates_nothing(tmp_path: Path, empty: str) -> None:
    """A wrong address is told rather than filled with tables."""
    tool = await open_database(empty, tool=True)
    with pytest.raises(StoreUnavailable):
        async with tool.reading() as tx:
            await runs.get(tx, RunId("one"))
    await tool.close()
    with pytest.raises(StoreUnavailable) as told:
        await open_database(f"sqlite:///{tmp_path}/nothing.db", tool=True)
    assert (reason(told.value), (tmp_path / "nothing.db").exists()) == (f"no such file: {tmp_path}/nothing.db", False)
