"""PostgreSQL: lost connections, restarts of the server, lost answers, and who may write after all that."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from bot.core.errors import SettingsWrong, StoreInUse, StoreUnavailable
from bot.store import inbox, runs
from bot.store.address import PostgresServer, read_address
from bot.store.database import Database, open_database, reason
from bot.store.postgres import STATEMENT_MS, Postgres
from tests.postgres import Pooler, Proxy, Server, database_of, server
from tests.store.bench import NOW, a_message, a_run, at, opened

ONE, TWO = (a_message(f"{number}.000001", mentions_us=True) for number in (1, 2))


@pytest.fixture
def postgres() -> Server:
    return server()


@pytest.fixture
async def url(postgres: Server) -> str:
    return await postgres.fresh()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with opened(url) as made:
        yield made


@asynccontextmanager
async def stopped(postgres: Server) -> AsyncIterator[None]:
    """Have no server for a while."""
    await postgres.stop()
    try:
        yield
    finally:
        await postgres.start()


async def write(database: Database, name: str) -> None:
    async with database.transaction() as tx:
        await runs.add(tx, a_run(name))


async def stored(database: Database) -> list[str]:
    async with database.reading() as tx:
        return list((await tx.execute(text("SELECT id FROM runs ORDER BY id"))).scalars())


async def show(database: Database, name: str) -> tuple[str, str]:
    """Return a setting of the connection that writes, and of one that reads."""
    async with database.transaction() as tx:
        writing = (await tx.execute(text(f"SHOW {name}"))).scalar_one()
    async with database.reading() as tx:
        return writing, (await tx.execute(text(f"SHOW {name}"))).scalar_one()


# --- sessions ---------------------------------------------------------------------------------------------------


async def test_a_reading_can_not_write(database: Database) -> None:
    """Every write takes its turn."""
    with pytest.raises(StoreUnavailable) as refused:
        async with database.reading() as tx:
            await runs.add(tx, a_run("one"))
    assert reason(refused.value) == "cannot execute INSERT in a read-only transaction"
    assert await stored(database) == []


async def test_what_is_committed_is_on_the_disk(postgres: Server) -> None:
    """Somebody saved time where requests would be lost: the bot does not join in."""
    url = await postgres.empty()
    await postgres.execute(f"ALTER DATABASE {database_of(url)} SET synchronous_commit = off")
    async with opened(url) as database:
        assert (await show(database, "synchronous_commit"))[0] == "on"


async def test_statements_have_a_time_out_and_migrations_have_none(url: str, database: Database) -> None:
    """Slack waits three seconds; a migration of a large table takes what it takes."""
    shown = []

    def look(connection: Connection) -> None:
        shown.append(connection.execute(text("SHOW statement_timeout")).scalar_one())

    address = read_address(url)
    assert isinstance(address, PostgresServer)
    backend = Postgres(address, tool=True)
    await backend.migrate(look)
    await backend.close()
    assert (await show(database, "statement_timeout"), shown) == (("1s", "1s"), ["0"])
    assert STATEMENT_MS == 1000


async def test_an_error_quotes_no_row(database: Database) -> None:
    """What goes to the log says what was wrong, and not what people wrote."""

    async def breaks_a_rule() -> None:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one", task="my secret plan"))
            await tx.execute(text("UPDATE runs SET state = NULL"))

    with pytest.raises(StoreUnavailable) as outage:
        await breaks_a_rule()
    said = "".join(traceback.format_exception(outage.value))
    assert ("violates not-null constraint" in said, "my secret plan" in said) == (True, False)


# --- outages ----------------------------------------------------------------------------------------------------


async def test_sessions_that_were_ended_are_made_anew(postgres: Server, url: str, database: Database) -> None:
    """An administrator, or a time-out on the way, ended all of them: the next write and the next reading work."""
    await write(database, "one")
    await stored(database)
    await postgres.throw_out(url)

    await write(database, "two")
    added = await inbox.add(database, ONE, NOW)
    assert (await stored(database), added) == (["one", "two"], True)
    with pytest.raises(StoreInUse):
        await open_database(url)


async def test_a_session_that_is_ended_in_a_transaction_saves_nothing(
    postgres: Server, url: str, database: Database
) -> None:
    """Nothing was committed: a clear no, and the next one works."""

    async def is_thrown_out() -> None:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("one"))
            await postgres.throw_out(url)
            await runs.add(tx, a_run("two"))

    with pytest.raises(StoreUnavailable) as outage:
        await is_thrown_out()
    await write(database, "three")
    assert (outage.value.perhaps_saved, await stored(database)) == (False, ["three"])


async def test_a_session_that_is_ended_in_a_reading_is_an_outage(
    postgres: Server, url: str, database: Database
) -> None:
    """It is told in the same way, and the next one works."""

    async def is_thrown_out() -> None:
        async with database.reading() as tx:
            await postgres.throw_out(url)
            await tx.execute(text("SELECT 1"))

    with pytest.raises(StoreUnavailable):
        await is_thrown_out()
    assert await stored(database) == []


async def test_a_server_that_is_started_again_is_found_again(postgres: Server, database: Database) -> None:
    """While it is down nothing is saved, and that is known; afterwards all goes on."""
    await write(database, "one")
    outages = []
    async with stopped(postgres):
        for doing in (write(database, "two"), inbox.add(database, ONE, NOW), stored(database)):
            with pytest.raises(StoreUnavailable) as outage:
                await doing
            outages.append(outage.value.perhaps_saved)

    await write(database, "three")
    added = await inbox.add(database, TWO, NOW)
    assert (outages, added, await stored(database)) == ([False, False, False], True, ["one", "three"])


async def test_a_server_that_takes_no_writes_is_left(postgres: Server) -> None:
    """It was demoted, and its name leads to another by now: the next write goes over a new connection."""
    url = await postgres.empty()
    async with opened(url) as database:
        read_only = f"ALTER DATABASE {database_of(url)} SET default_transaction_read_only"
        await postgres.execute(f"{read_only} = on")
        await postgres.throw_out(url)
        with pytest.raises(StoreUnavailable) as outage:
            await write(database, "one")
        await postgres.execute(f"{read_only} = off")
        await write(database, "two")
        assert (outage.value.perhaps_saved, await stored(database)) == (False, ["two"])


async def test_a_network_that_falls_silent_is_an_outage(postgres: Server, url: str, tmp_path: Path) -> None:
    """No answer, no error, nothing closed: within Slack's 3 s it is known, and later all goes on."""
    async with Proxy(postgres, tmp_path) as proxy, opened(proxy.url(database_of(url))) as database:
        await write(database, "one")
        proxy.falls_silent()
        asked = time.monotonic()
        with pytest.raises(StoreUnavailable) as outage:
            await inbox.add(database, ONE, NOW)
        took_s = time.monotonic() - asked
        proxy.falls_silent(silent=False)
        await write(database, "two")
        assert (outage.value.perhaps_saved, took_s < 2.5, await stored(database)) == (False, True, ["one", "two"])


async def test_a_burst_is_taken_over_a_long_way(postgres: Server, url: str, tmp_path: Path) -> None:
    """A request is one round trip, several are under way at once, and none waits for the bot's other work."""
    burst = [a_message(f"{number}.000001", mentions_us=True) for number in range(60)]
    async with Proxy(postgres, tmp_path) as proxy, opened(proxy.url(database_of(url))) as database:
        proxy.delay_s = 0.02
        asked = time.monotonic()
        async with database.transaction():
            added = await asyncio.gather(*(inbox.add(database, one, NOW) for one in burst))
        took_s = time.monotonic() - asked
    assert (added, took_s < 3) == ([True] * 60, True)


# --- commits ----------------------------------------------------------------------------------------------------


async def test_a_commit_whose_answer_is_lost_may_have_saved(postgres: Server, url: str, tmp_path: Path) -> None:
    """It is in the database here, but nobody could know: whoever asked is told to look first."""
    async with Proxy(postgres, tmp_path) as proxy, opened(proxy.url(database_of(url))) as database:
        proxy.loses_answer_to(ONE.key.encode())
        with pytest.raises(StoreUnavailable) as outage:
            await inbox.add(database, ONE, NOW)
        again = await inbox.add(database, ONE, NOW)
        assert (outage.value.perhaps_saved, again) == (True, False)


@pytest.mark.parametrize(
    ("at_commit", "perhaps"),
    [
        ("RAISE EXCEPTION 'no' USING ERRCODE = '23514'", False),
        ("RAISE EXCEPTION 'no' USING ERRCODE = '53100'", False),
        ("RAISE EXCEPTION 'no' USING ERRCODE = '58030'", True),
        ("PERFORM pg_terminate_backend(pg_backend_pid())", True),
    ],
    ids=["constraint", "disk full", "disk broken", "thrown out"],
)
async def test_a_commit_that_fails(postgres: Server, at_commit: str, *, perhaps: bool) -> None:
    """Only what surely undoes a transaction counts as a no; the next transaction works either way."""
    url = await postgres.empty()
    async with opened(url) as database:
        await postgres.execute(
            f"CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {at_commit.replace(chr(39), chr(39) * 2)}; "
            "RETURN NULL; END';"
            "CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION fails()",
            database_of(url),
        )
        with pytest.raises(StoreUnavailable) as outage:
            await inbox.add(database, ONE, NOW)
        await write(database, "two")
        assert (outage.value.perhaps_saved, await stored(database)) == (perhaps, ["two"])


# --- who may write ----------------------------------------------------------------------------------------------


async def test_a_session_of_ours_that_was_cut_off_does_not_lock_us_out(
    postgres: Server, url: str, tmp_path: Path
) -> None:
    """The server has not noticed, and that session has the lock: it is ended, and the bot goes on."""
    async with Proxy(postgres, tmp_path) as proxy, opened(proxy.url(database_of(url))) as database:
        proxy.loses_answer_to(b"COMMIT")
        with pytest.raises(StoreUnavailable):
            await write(database, "one")
        await write(database, "two")
        assert await stored(database) == ["one", "two"]


async def test_who_lost_the_database_to_another_process_does_not_write(
    postgres: Server, url: str, database: Database
) -> None:
    """Another process was started while this one had no connection: it writes, and this one is told to end.

    A request that Slack gave to this one is kept, and is the other's to do.
    """
    kept = asyncio.create_task(database.kept())
    await postgres.throw_out(url)
    async with opened(url) as other:
        with pytest.raises(StoreUnavailable) as refused:
            await write(database, "one")
        assert refused.value.perhaps_saved is False
        assert await inbox.add(database, ONE, NOW)
        async with other.reading() as tx:
            assert [row.incoming.key for row in await inbox.due(tx, NOW, (), 10)] == [ONE.key]
        await write(other, "two")
        with pytest.raises(StoreInUse) as ended:
            await kept
        assert (await stored(other), str(ended.value)) == (["two"], f"{database_of(url)} on {postgres.sockets}")


# --- at the start -----------------------------------------------------------------------------------------------


async def test_a_server_that_comes_up_later_is_waited_for(postgres: Server, url: str) -> None:
    """It is often started together with the bot."""
    async with stopped(postgres):
        opening = asyncio.create_task(open_database(url))
        await asyncio.sleep(0.05)
        early = opening.done()
    database = await opening
    await write(database, "one")
    assert (early, await stored(database)) == (False, ["one"])
    await database.close()


async def test_a_server_that_does_not_come_up_is_told(postgres: Server, url: str) -> None:
    """After so long whoever started the bot has to look."""
    async with stopped(postgres):
        with pytest.raises(StoreUnavailable) as told:
            await open_database(url, wait_s=0)
    assert reason(told.value) == "[Errno 2] No such file or directory"


@pytest.mark.parametrize(
    ("database", "user", "asked", "said"),
    [
        ("nowhere", "postgres", "", 'database "nowhere" does not exist'),
        ("postgres", "nobody", "", 'role "nobody" does not exist'),
        ("postgres", "postgres", "&schema=public", 'unrecognized configuration parameter "schema"'),
        ("postgres", "postgres", "&target_session_attrs=any2", "target_session_attrs is expected to be one of"),
    ],
)
async def test_an_address_that_the_server_refuses_is_told_at_once(
    postgres: Server, database: str, user: str, asked: str, said: str
) -> None:
    """Trying again changes nothing: the server's words go to the operator, without the password."""
    url = postgres.url(database).replace("postgres@", f"{user}:hunter2@") + asked
    with pytest.raises(SettingsWrong) as wrong:
        await open_database(url)
    [problem] = wrong.value.problems
    assert problem.startswith(f"DATABASE_URL is refused by PostgreSQL: {said}")
    assert "hunter2" not in problem


async def test_a_pooler_in_transaction_mode_is_refused(postgres: Server, url: str, tmp_path: Path) -> None:
    """The bot's lock lives in one session of the server; a proxy that leaves it there is fine."""
    async with Pooler(postgres, tmp_path) as pooler:
        with pytest.raises(SettingsWrong, match="a pooler in transaction mode"):
            await open_database(pooler.url(database_of(url)))
    direct = tmp_path / "direct"
    direct.mkdir()
    async with Proxy(postgres, direct) as proxy, opened(proxy.url(database_of(url))) as database:
        await write(database, "one")


async def test_a_migration_that_fails_leaves_the_database_free(postgres: Server) -> None:
    """Somebody else's table is in the way: told, and nothing stays locked."""
    url = await postgres.empty()
    await postgres.execute("CREATE TABLE inbox (nothing integer)", database_of(url))
    with pytest.raises(StoreUnavailable) as told:
        await open_database(url)
    assert reason(told.value) == 'relation "inbox" already exists'
    await postgres.execute("DROP TABLE inbox", database_of(url))
    async with opened(url) as database:
        await write(database, "one")


# --- texts ------------------------------------------------------------------------------------------------------


async def test_no_text_is_too_long_or_too_odd(database: Database) -> None:
    """What SQLite takes, PostgreSQL takes: a length in the tables is only for the reader."""
    run = a_run("one", branch="b" * 300, answer="a\x00b\ud83d", heard_at=at(0.000001))
    async with database.transaction() as tx:
        await runs.add(tx, run)
        found = await runs.get(tx, run.id)
    assert (found.branch, found.answer, found.watch.heard_at) == ("b" * 300, "ab\ufffd", at(0.000001))
