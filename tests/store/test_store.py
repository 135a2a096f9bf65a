"""An opened database: its tables, its lock, and that what is committed stays."""

import asyncio
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, insert, text

import bot.store
from bot.core.errors import StoreInUse, StoreUnavailable
from bot.core.model import FollowUp, FollowUpState, MessageTs, RunId
from bot.store import inbox, runs
from bot.store.address import PostgresServer, read_address
from bot.store.database import MIGRATIONS, open_database, reason
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


def fill_the_first_version(connection: Connection) -> None:
    """Make the tables of the first release, with a run and a follow-up in them."""
    config = Config()
    config.set_main_option("script_location", str(Path(bot.store.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    first = MetaData()
    first.reflect(connection)
    for table, row in (("runs", to_row(RUN)), ("follow_ups", to_row(SAID))):
        columns = first.tables[table].columns.keys()
        connection.execute(insert(first.tables[table]).values({name: row[name] for name in columns if name in row}))


async def test_a_database_of_the_first_release_is_brought_up_to_date(empty: str) -> None:
    """Nothing that it holds is lost or read as something else, and what is new has its default."""
    tool = await open_database(empty, tool=True)
    async with tool.transaction() as tx:
        await tx.run_sync(fill_the_first_version)
    await tool.close()

    async with opened(empty) as database, database.reading() as tx:
        found = await runs.get(tx, RUN.id), await runs.get_follow_up(tx, SAID.id), await tx.run_sync(differences)
    assert found == (RUN, SAID, [])


async def test_tables_of_a_newer_version_are_left_alone(empty: str) -> None:
    """After a step back to an older version of the bot, nothing is touched, and all is free for the newer one."""
    async with opened(empty) as database, database.transaction() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as unknown:
            await open_database(empty)
        assert "9999" in reason(unknown.value)


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
