"""The outbox: what is owed, in the order of its lane, until it is done or can never be."""

from typing import Any

import pytest
from sqlalchemy import select

from bot.core.model import RowId, RunId
from bot.core.owed import OutboxKind, OutboxRow
from bot.store import outbox
from bot.store.database import Database
from bot.store.tables import outbox as table
from tests.store.bench import NOW, at

RUN = RunId("run-1")


async def owe(
    database: Database, name: str, *, kind: OutboxKind = OutboxKind.MESSAGE, lane: str = "a", **about: Any
) -> None:
    async with database.transaction() as tx:
        await outbox.add(tx, kind, id=RowId(name), lane=lane, now=NOW, **about)


async def due(database: Database, seconds: float = 0, busy: tuple[str, ...] = (), limit: int = 100) -> list[OutboxRow]:
    async with database.reading() as tx:
        return list(await outbox.due(tx, at(seconds), busy, limit))


async def ids(database: Database, seconds: float = 0) -> list[str]:
    return [row.id for row in await due(database, seconds)]


async def the(database: Database, name: str, seconds: float = 0) -> OutboxRow:
    """Return one of the rows that are due."""
    [row] = [row for row in await due(database, seconds) if row.id == name]
    return row


async def columns(database: Database, name: str) -> dict[str, Any]:
    async with database.reading() as tx:
        found = await tx.execute(
            select(table.c.payload, table.c.done_at, table.c.failed_at, table.c.result).where(table.c.id == name)
        )
        return dict(found.mappings().one())


async def test_what_is_owed_comes_back_as_it_was(database: Database) -> None:
    """Every field survives the table; a row of no run has none."""
    payload = {"text": "done, <@U1> \U0001f600", "blocks": [{"type": "divider"}], "thread": None}
    await owe(database, "one", kind=OutboxKind.MESSAGE, lane="card:run-1", run=RUN, payload=payload)
    await owe(database, "two", kind=OutboxKind.REACT, lane="reaction:1")
    first, second = await due(database)
    assert first == OutboxRow(
        seq=first.seq,
        id=RowId("one"),
        run=RUN,
        kind=OutboxKind.MESSAGE,
        lane="card:run-1",
        rank=0,
        payload=payload,
        created_at=NOW,
        attempts=0,
        tried_at=None,
    )
    assert (second.run, second.kind, second.payload, second.rank) == (None, OutboxKind.REACT, {}, 4)


async def test_the_same_id_is_owed_once(database: Database) -> None:
    """A decision repeated after a crash owes nothing more."""
    await owe(database, "one", payload={"text": "first"})
    await owe(database, "one", lane="b", payload={"text": "second"})
    assert [(row.lane, row.payload) for row in await due(database)] == [("a", {"text": "first"})]


# --- in order ---------------------------------------------------------------------------------------------------


async def test_a_lane_goes_in_order_and_holds_up_no_other(database: Database) -> None:
    """The next of a lane comes when the one before it is closed, done or failed alike."""
    await owe(database, "a1")
    await owe(database, "a2")
    await owe(database, "b1", lane="b")
    await owe(database, "a3")
    seen = [await ids(database)]
    async with database.transaction() as tx:
        await outbox.done(tx, (await the(database, "a1")).seq, NOW)
    seen.append(await ids(database))
    async with database.transaction() as tx:
        await outbox.failed(tx, (await the(database, "a2")).seq, NOW, "is_archived")
    seen.append(await ids(database))
    assert seen == [["a1", "b1"], ["a2", "b1"], ["b1", "a3"]]


async def test_a_row_put_off_holds_its_lane(database: Database) -> None:
    """What comes after it waits too, and the time to look again is known."""
    await owe(database, "a1")
    await owe(database, "a2")
    await owe(database, "b1", lane="b")
    async with database.transaction() as tx:
        await outbox.reschedule(tx, (await the(database, "a1")).seq, at(10), sent=False)
    async with database.reading() as tx:
        times = [await outbox.next_at(tx, at(seconds)) for seconds in (0, 10)]
    assert [await ids(database, seconds) for seconds in (9, 10)] == [["b1"], ["a1", "b1"]]
    assert times == [at(10), None]


async def test_who_goes_first(database: Database) -> None:
    """A person must look, then answers and stops, then new cards and follow-ups, then starts and news, then emoji."""
    for kind in reversed(OutboxKind):
        await owe(database, kind.value, kind=kind, lane=kind.value)
    assert [(row.rank, row.kind.value) for row in await due(database)] == [
        (0, "answer"),
        (0, "direct"),
        (0, "message"),
        (1, "stop"),
        (1, "decide"),
        (1, "reply"),
        (2, "resume"),
        (2, "send"),
        (2, "card"),
        (3, "start"),
        (3, "notify"),
        (4, "react"),
    ]


async def test_busy_lanes_and_more_than_asked_for_are_left(database: Database) -> None:
    """Busy: somebody works on it. Limit: so many at once, and a rank goes before age."""
    await owe(database, "a1", kind=OutboxKind.REACT)
    await owe(database, "b1", lane="b")
    await owe(database, "c1", lane="c")
    assert [row.id for row in await due(database, busy=("b",))] == ["c1", "a1"]
    assert [row.id for row in await due(database, limit=2)] == ["b1", "c1"]


# --- trying -----------------------------------------------------------------------------------------------------


async def test_a_call_that_went_out_is_remembered(database: Database) -> None:
    """Written down before the call: whoever finds the row after a crash looks before repeating."""
    await owe(database, "one")
    row = await the(database, "one")
    async with database.transaction() as tx:
        await outbox.mark_attempt(tx, row.seq, at(1))
    tried = await the(database, "one", 1)
    assert (row.tried_at, row.attempts, tried.tried_at, tried.attempts) == (None, 0, at(1), 1)


@pytest.mark.parametrize(("sent", "tried_at"), [(True, at(1)), (False, None)])
async def test_only_a_call_that_may_have_worked_is_looked_for(
    database: Database, tried_at: object, *, sent: bool
) -> None:
    """A call that surely did nothing is repeated without a look."""
    await owe(database, "one")
    seq = (await the(database, "one")).seq
    async with database.transaction() as tx:
        await outbox.mark_attempt(tx, seq, at(1))
        await outbox.reschedule(tx, seq, at(5), sent=sent)
    row = await the(database, "one", 5)
    assert (row.tried_at, row.attempts) == (tried_at, 1)


async def test_a_call_that_surely_did_nothing_is_taken_back(database: Database) -> None:
    """As if it had not been made: no look before the next, and not counted."""
    await owe(database, "one")
    before = await the(database, "one")
    async with database.transaction() as tx:
        await outbox.mark_attempt(tx, before.seq, at(1))
        await outbox.undo_attempt(tx, before.seq, before.attempts)
    assert await the(database, "one") == before


@pytest.mark.parametrize(
    ("close", "result", "expected"),
    [
        (outbox.done, "said", {"payload": None, "done_at": at(2), "failed_at": None, "result": "said"}),
        (outbox.done, "w" * 300, {"payload": None, "done_at": at(2), "failed_at": None, "result": "w" * 255}),
        (outbox.failed, "archived", {"payload": None, "done_at": None, "failed_at": at(2), "result": "archived"}),
        (outbox.failed, "w" * 300, {"payload": None, "done_at": None, "failed_at": at(2), "result": "w" * 255}),
    ],
    ids=["done", "done-long", "failed", "failed-long"],
)
async def test_a_closed_row_keeps_no_words(database: Database, close: Any, result: str, expected: object) -> None:
    """When, and in one word what became of it; the words are gone, and it is never due again."""
    await owe(database, "one", kind=OutboxKind.ANSWER, payload={"text": "secret"})
    async with database.transaction() as tx:
        await close(tx, (await the(database, "one")).seq, at(2), result)
    assert (await columns(database, "one"), await ids(database, 60)) == (expected, [])


async def test_closed_rows_go_after_a_while(database: Database) -> None:
    """Done and failed alike, once they are old; open ones stay however old they are."""
    for name in ("done", "failed", "newer", "open"):
        await owe(database, name, lane=name)
    rows = {row.id: row.seq for row in await due(database)}
    async with database.transaction() as tx:
        await outbox.done(tx, rows[RowId("done")], NOW)
        await outbox.failed(tx, rows[RowId("failed")], NOW, "is_archived")
        await outbox.done(tx, rows[RowId("newer")], at(1))
        await outbox.forget(tx, at(100), keep_s=99.5)
    async with database.reading() as tx:
        left = list((await tx.execute(select(table.c.id).order_by(table.c.seq))).scalars())
    assert left == ["newer", "open"]


# --- held and withdrawn -----------------------------------------------------------------------------------------


async def test_what_was_held_in_a_lane_goes_now(database: Database) -> None:
    """Release moves the rows of that lane alone, and none that is due already or closed."""
    for name, lane in (("held", "a"), ("other", "b"), ("closed", "c")):
        await owe(database, name, lane=lane)
    rows = {row.id: row.seq for row in await due(database)}
    async with database.transaction() as tx:
        for seq in rows.values():
            await outbox.reschedule(tx, seq, at(1000), sent=False)
        await outbox.done(tx, rows[RowId("closed")], at(1))
        await outbox.release(tx, "a", now=at(2))
        await outbox.release(tx, "c", now=at(2))
    assert (await ids(database, 1), await ids(database, 2), await ids(database, 1000)) == (
        [],
        ["held"],
        ["held", "other"],
    )


async def test_what_was_never_sent_is_withdrawn(database: Database) -> None:
    """Only rows of that run and kind for which no call went out; the answer says whether there was one."""
    await owe(database, "tried", kind=OutboxKind.START, lane="a", run=RUN)
    await owe(database, "fresh", kind=OutboxKind.START, lane="b", run=RUN, payload={"task": "fix"})
    await owe(database, "other kind", kind=OutboxKind.SEND, lane="c", run=RUN)
    await owe(database, "other run", kind=OutboxKind.START, lane="d", run=RunId("run-2"))
    async with database.transaction() as tx:
        await outbox.mark_attempt(tx, (await the(database, "tried")).seq, NOW)
        found = await outbox.never_sent(tx, RUN, OutboxKind.START, at(3))
        again = await outbox.never_sent(tx, RUN, OutboxKind.START, at(4))
    assert (found, again) == (True, False)
    assert await ids(database, 60) == ["other kind", "tried", "other run"]
    assert await columns(database, "fresh") == {
        "payload": None,
        "done_at": at(3),
        "failed_at": None,
        "result": "withdrawn",
    }
