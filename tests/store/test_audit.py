"""The audit: rows are only added, and what was done to them afterwards is found."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.model import MessageTs
from bot.ops.audit import Tampered, listed, verified
from bot.store import audit, runs
from bot.store.audit import Entry
from bot.store.tables import audit as table
from tests.store.bench import ALICE, DEV, NOW, a_run, file_in, opened

Harm = Callable[[AsyncConnection], Coroutine[Any, Any, None]]


async def three(url: str) -> list[str]:
    """Add three rows; return their fingerprints."""
    async with opened(url) as database:
        for at, actor in enumerate(("U1", "U2", "U3")):
            async with database.transaction() as tx:
                entry = Entry(actor=actor, action="stop", verdict="allowed", rule="stop", place="C1", run="r")
                await audit.add(tx, entry, NOW + timedelta(seconds=at))
        async with database.reading() as tx:
            return [row["fingerprint"] async for row in audit.every(tx)]


async def test_a_whole_chain_is_verified(url: str) -> None:
    """On both databases a row reads as it was written, and the end is told, to be noted elsewhere."""
    fingerprints = await three(url)
    said = await verified(url, fingerprints[0])
    assert (
        said == f"3 rows, none changed, missing or added. Note the last one's fingerprint elsewhere: {fingerprints[2]}"
    )


async def test_what_was_begun_within_an_hour(url: str) -> None:
    """Starts and retries that were allowed, the latest first: of a person, and of all in a thread."""
    done = [
        ("U1", "start", "allowed"),
        ("U2", "retry", "allowed"),
        ("U1", "start", "refused"),
        ("U1", "stop", "allowed"),
    ]
    async with opened(url) as database:
        async with database.transaction() as tx:
            await runs.add(tx, a_run("r", thread_ts=MessageTs("1.000001")))
            for at, (actor, action, verdict) in enumerate(done):
                entry = Entry(actor=actor, action=action, verdict=verdict, run="r")
                await audit.add(tx, entry, NOW + timedelta(seconds=at))
        first, second = NOW, NOW + timedelta(seconds=1)
        early = NOW - timedelta(seconds=1)
        thread = DEV, MessageTs("1.000001")
        async with database.reading() as tx:
            assert await audit.begun_by(tx, ALICE, early, 5) == [first]
            assert await audit.begun_by(tx, ALICE, NOW, 5) == []
            assert await audit.begun_in(tx, *thread, early, 5) == [second, first]
            assert await audit.begun_in(tx, *thread, early, 1) == [second]
            assert await audit.begun_in(tx, DEV, MessageTs("1.000002"), early, 5) == []


async def change(tx: AsyncConnection) -> None:
    await tx.execute(update(table).where(table.c.seq == 2).values(actor="U9"))


async def rewrite(tx: AsyncConnection) -> None:
    """Change a row together with its fingerprint."""
    row = dict((await tx.execute(select(table).where(table.c.seq == 2))).mappings().one()) | {"actor": "U9"}
    await tx.execute(update(table).where(table.c.seq == 2).values(actor="U9", fingerprint=audit.fingerprint(row)))


async def take_out(tx: AsyncConnection) -> None:
    await tx.execute(delete(table).where(table.c.seq == 2))


async def put_in(tx: AsyncConnection) -> None:
    """Make room for a row, and forge one that fits the one before."""
    await tx.execute(text("UPDATE audit SET seq = 4 WHERE seq = 3"))
    first = (await tx.execute(select(table.c.fingerprint).where(table.c.seq == 2))).scalar_one()
    forged = Entry(actor="U9", action="approve", verdict="allowed")
    row = {"seq": 3, "at": NOW, **{name: getattr(forged, name) for name in forged.__slots__}, "before": first}
    await tx.execute(insert(table).values(**row, fingerprint=audit.fingerprint(row)))


async def cut_off(tx: AsyncConnection) -> None:
    await tx.execute(delete(table).where(table.c.seq == 3))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (change, ["row 2 was changed"]),
        (rewrite, ["row 3 does not follow the one before: a row was added, or one was exchanged"]),
        (take_out, ["row 2 missing"]),
        (put_in, ["row 4 does not follow the one before: a row was added, or one was exchanged", "row 4 was changed"]),
        (cut_off, ["no row has the fingerprint {last}: the end was cut off, or rows were exchanged"]),
    ],
)
async def test_what_was_done_to_it_is_found(harm: Harm, said: list[str], tmp_path: Path) -> None:
    """A changed, a missing and an added row by the chain itself; a missing end by a fingerprint that was noted."""
    url = file_in(tmp_path)
    fingerprints = await three(url)
    async with opened(url) as database, database.transaction() as tx:
        await harm(tx)
    with pytest.raises(Tampered) as found:
        await verified(url, fingerprints[2] if harm is cut_off else None)
    assert found.value.problems == [one.format(last=fingerprints[2]) for one in said]


async def test_it_is_listed_for_people_and_programs(tmp_path: Path) -> None:
    """From a moment on, as CSV or a JSON object each."""
    url = file_in(tmp_path)
    await three(url)
    since = NOW + timedelta(seconds=1)
    lines = (await listed(url, since, as_json=False)).splitlines()
    assert lines[0] == "seq,at,actor,action,verdict,rule,place,run,shown,before,fingerprint"
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["2", "2026-03-02T09:00:01+00:00", "U2", "stop"],
        ["3", "2026-03-02T09:00:02+00:00", "U3", "stop"],
    ]
    assert (await listed(url, since, as_json=True)).count('"action": "stop"') == 2


async def test_another_policy_is_recorded_once(tmp_path: Path) -> None:
    """A restart with the same file is no change."""
    async with opened(file_in(tmp_path)) as database:
        for shown in ("", "a", "a", "b", ""):
            async with database.transaction() as tx:
                await audit.policy_in_force(tx, shown, NOW)
        async with database.reading() as tx:
            assert [row["shown"] async for row in audit.every(tx)] == ["a", "b", ""]
