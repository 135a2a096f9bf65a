"""However much there is to write at one look, a request gets its turn in between."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.context import Context
from bot.core.errors import Unavailable
from bot.core.model import Finish, Observation, Phase, Run, RunState
from bot.core.pacing import Patience
from bot.door import Door
from bot.effects import Links
from bot.inbound.poller import Poller
from bot.openhands.repositories import Repositories
from bot.slots import Limits, admit_waiting
from bot.store import inbox, runs
from tests.inbound.test_catch_up import no_openhands
from tests.slack.bench import bench
from tests.store.bench import NOW, a_message, a_run, at, opened


@pytest.fixture
async def ctx(tmp_path: Path) -> AsyncIterator[Context]:
    async with bench() as there, opened(tmp_path) as database:
        us, _ = await there.gateway.identity()
        yield Context(
            database=database,
            gateway=there.gateway,
            door=Door(there.gateway, us),
            openhands=no_openhands,
            repositories=Repositories(no_openhands, there.clock, Patience()),
            links=Links(us, "https://openhands.example", notifies=True),
            limits=Limits(slots=2000, full_s=60.0),
            clock=there.clock,
            patience=Patience(unreachable_shown_s=0.0),
        )


async def many(ctx: Context, number: int, state: RunState) -> list[Run]:
    several = [
        a_run(f"6a6c6d4e-0000-4000-8000-{one:012d}", state=state, queued_at=at(one), created_at=at(one))
        for one in range(number)
    ]
    async with ctx.database.transaction() as tx:
        for run in several:
            await runs.add(tx, run)
    return several


async def is_taken_beside(ctx: Context, work: "asyncio.Task[object]") -> bool:
    """Return whether a request is taken while this work goes on."""
    await asyncio.sleep(0)
    taken = await inbox.add(ctx.database, a_message("1.000001", mentions_us=True), NOW)
    beside = taken and not work.done()
    await work
    return beside


async def test_an_outage_with_many_runs_lets_requests_through(ctx: Context) -> None:
    """Each of their cards is to say so, which is far more than one turn."""
    several = await many(ctx, 990, RunState.WORKING)
    work = asyncio.create_task(Poller(ctx)._out_of_reach(several, Unavailable("no connection")))
    assert await is_taken_beside(ctx, work)
    async with ctx.database.reading() as tx:
        after = await runs.get_all(tx, [run.id for run in several])
    assert all(run.watch.unreachable_since is not None for run in after.values())


async def test_many_ends_at_one_look_let_requests_through(ctx: Context) -> None:
    """Each end is a change and what it causes; all of them are told in the end."""
    several = await many(ctx, 300, RunState.WORKING)
    asked_at = ctx.clock.now() + timedelta(seconds=1)
    looks = [(run, Observation(asked_at=asked_at, phase=Phase.ENDED, last=Finish("Fixed."))) for run in several]
    work = asyncio.create_task(Poller(ctx)._apply(looks))
    assert await is_taken_beside(ctx, work)
    async with ctx.database.reading() as tx:
        after = await runs.get_all(tx, [run.id for run in several])
    assert {run.state for run in after.values()} == {RunState.DONE}


async def test_a_long_queue_lets_requests_through(ctx: Context) -> None:
    """A thousand queued runs are not written to when a slot is given, so that others are taken meanwhile."""
    several = await many(ctx, 1000, RunState.QUEUED)

    async def given() -> None:
        async with ctx.database.transaction() as tx:
            assert await admit_waiting(tx, ctx.links, Limits(slots=1, full_s=60.0), at(1000))

    before = time.process_time()
    _, taken = await asyncio.gather(given(), inbox.add(ctx.database, a_message("1.000001", mentions_us=True), NOW))
    used_s = time.process_time() - before
    assert taken
    async with ctx.database.reading() as tx:
        after = await runs.get_all(tx, [run.id for run in several])
    assert [run.id for run in several if after[run.id] != run] == [several[0].id]
    assert used_s < 0.5  # of the processor; with positions written to each it was seconds
