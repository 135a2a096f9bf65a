"""Dead rows: what could never succeed is kept in sight, and what can be posted later keeps its words."""

from typing import Any

from sqlalchemy import select

from bot.core.model import RowId, RunId, RunState
from bot.core.owed import OutboxKind, OutboxRow
from bot.store import inbox, outbox, runs
from bot.store.database import Database
from bot.store.outbox import DeadRow
from bot.store.stats import Standing, standing
from bot.store.tables import outbox as table
from tests.store.bench import NOW, a_command, a_message, a_run, at

RUN = RunId("run-1")
WORDS = {"text": "Done", "blocks": []}


async def owed(database: Database, *kinds: OutboxKind) -> dict[OutboxKind, int]:
    """Enqueue one row of each kind; return their numbers."""
    async with database.transaction() as tx:
        for kind in kinds:
            await outbox.add(tx, kind, id=RowId(kind.value), lane=kind.value, now=NOW, run=RUN, payload=WORDS)
    return {row.kind: row.seq for row in await due(database)}


async def died(database: Database, *kinds: OutboxKind) -> dict[OutboxKind, int]:
    """Enqueue one row of each kind, and let all of them fail after one call, each a second later than the one before."""
    numbers = await owed(database, *kinds)
    async with database.transaction() as tx:
        for after, kind in enumerate(kinds):
            await outbox.mark_attempt(tx, numbers[kind], at(1))
            await outbox.failed(tx, numbers[kind], at(2 + after), "is_archived")
    return numbers


async def due(database: Database, seconds: float = 0) -> list[OutboxRow]:
    async with database.reading() as tx:
        return list(await outbox.due(tx, at(seconds), (), 100))


async def dead(database: Database) -> list[DeadRow]:
    async with database.reading() as tx:
        return list(await outbox.dead(tx))


async def payloads(database: Database) -> dict[str, Any]:
    async with database.reading() as tx:
        return dict((await tx.execute(select(table.c.kind, table.c.payload))).all())


async def test_only_what_can_be_posted_later_keeps_its_words(database: Database) -> None:
    """An answer's holds an address that lets anybody answer; a card, a start or a reaction comes back another way."""
    await died(database, *OutboxKind)
    kept = {kind for kind, payload in (await payloads(database)).items() if payload == WORDS}
    lost = {kind for kind, payload in (await payloads(database)).items() if payload is None}
    assert kept == {"message", "reply", "notify", "direct"}
    assert kept | lost == {kind.value for kind in OutboxKind}


async def test_dead_rows_are_listed_oldest_first(database: Database) -> None:
    """When, and in Slack's own word why; done and open rows are none."""
    numbers = await died(database, OutboxKind.START, OutboxKind.MESSAGE)
    await owed(database, OutboxKind.REPLY)
    assert await dead(database) == [
        DeadRow(numbers[OutboxKind.START], OutboxKind.START, RUN, at(2), "is_archived"),
        DeadRow(numbers[OutboxKind.MESSAGE], OutboxKind.MESSAGE, RUN, at(3), "is_archived"),
    ]


async def test_a_dead_post_is_owed_again(database: Database) -> None:
    """At once and with all tries; that a call went out is still known, so it is looked for before it is posted."""
    numbers = await died(database, OutboxKind.MESSAGE, OutboxKind.START)
    async with database.transaction() as tx:
        await outbox.revive(tx, numbers.values(), at(60))
    [row] = await due(database, 60)
    assert (row.kind, row.payload, row.attempts, row.tried_at) == (OutboxKind.MESSAGE, WORDS, 0, at(1))
    assert [one.kind for one in await dead(database)] == [OutboxKind.START]


async def test_only_dead_rows_are_dropped(database: Database) -> None:
    """An open one with that number stays."""
    numbers = await died(database, OutboxKind.MESSAGE)
    numbers |= await owed(database, OutboxKind.REPLY)
    async with database.transaction() as tx:
        await outbox.drop(tx, numbers.values())
    assert (await payloads(database), await dead(database)) == ({"reply": WORDS}, [])


async def test_everything_is_counted(database: Database) -> None:
    """By kind or state, each with the age of its oldest; what is done counts no more."""
    numbers = await died(database, OutboxKind.MESSAGE)
    numbers |= await owed(database, OutboxKind.DIRECT, OutboxKind.STOP)
    async with database.transaction() as tx:
        await outbox.done(tx, numbers[OutboxKind.STOP], NOW)
        for name, state in (("run-1", RunState.WORKING), ("run-2", RunState.DONE), ("run-3", RunState.DONE)):
            await runs.add(tx, a_run(name, state=state))
    await inbox.add(database, a_command("one"), NOW)
    async with database.reading() as tx:
        found = await standing(tx)
    assert found == Standing(
        runs={"working": 1, "done": 2}, waiting=1, owed={"direct": 1}, oldest={"direct": NOW}, dead={"message": 1}
    )


async def test_what_was_heard_last_is_known_by_its_sort(database: Database) -> None:
    """The keys outlive the words, so it is known of handled requests too."""
    await inbox.add(database, a_command("one"), at(1))
    await inbox.add(database, a_message("1.000001", direct=True, channel="D1"), at(2))
    await inbox.add(database, a_message("2.000001"), at(3))
    await inbox.add(database, a_message("3.000001"), at(4))
    async with database.reading() as tx:
        found = await inbox.last_received(tx)
    assert found == {"command": at(1), "direct message": at(2), "message in a channel": at(4)}
