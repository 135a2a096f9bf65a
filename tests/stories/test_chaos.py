"""A day in which everything goes wrong: parts of both services fail, the clock jumps, the bot is restarted.

The ordinary suite has a short morning, `make chaos-test` fifty runs in whole days. `CHAOS_SEEDS`, `CHAOS_RUNS` and
`CHAOS_HOURS` repeat or lengthen it.
"""

import asyncio
import os
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import HURRY, Make, Story
from tests.crash.errands import Errand
from tests.crash.oracle import complaints, kept
from tests.crash.tables import late
from tests.crash.town import PLACES, TEAM, Agents, Kind, Town
from tests.crash.trouble import AT_OPENHANDS, AT_SLACK, FULL

SEEDS = [int(one) for one in (os.environ.get("CHAOS_SEEDS") or "1").split()]
RUNS = int(os.environ.get("CHAOS_RUNS") or 6)
HOURS = float(os.environ.get("CHAOS_HOURS") or 1.5)
STEP_S = (5.0, 300.0)
"""What people and agents do, they do at such steps."""
WORK_S = (20.0, 400.0)
CALM_S = 3000.0
"""The clock jumps no sooner than this after its last jump: by then nothing may be late that a jump made look old."""
SKEW_S = 3000.0
"""The clock is wrong by less than an hour: by more, what people just wrote would count as old, and be asked about."""
LAST_HOURS = 6
PATIENCE = replace(HURRY, poll_s=10.0, heard_mark_s=300.0, look_around_s=300.0, socket_proven_s=0.01)
"""Production's, with fewer looks, since each costs real time, in which no socket lives long here."""


AT_CONNECTING = {"auth.test", "apps.connections.open"}
"""Calls that a connection needs: it lives in real time, in which no 429 of the story's time comes to its end."""


def faults_of(method: str) -> list[dict[str, Any]]:
    """Return what may go wrong with a method of Slack, except what takes real time."""
    unfit = {"hang_s", *(("retry_after",) if method in AT_CONNECTING else ())}
    return [how for how in AT_SLACK if not unfit & how.keys()]


class Day(Town):
    """The day: people look at what happened whenever time has passed."""

    def __init__(self, world: Story, seed: int) -> None:
        super().__init__(world, world.alice, f"sqlite:///{world.database}")
        self.story = world
        self.rng = random.Random(seed)
        self.seen_late: list[str] = []
        self._passed = asyncio.Event()
        self._jumped_at = world.clock.true()

    async def look(self) -> None:
        await self._passed.wait()

    async def rest(self, seconds: float) -> None:
        until = self.story.clock.true() + timedelta(seconds=seconds)
        while self.story.clock.true() < until:
            await self.look()

    async def goes_on(self, seconds: float) -> None:
        """Let time pass, then let everybody act."""
        await self.story.passes(seconds)
        passed, self._passed = self._passed, asyncio.Event()
        passed.set()
        await self.story.settles()

    async def clock_jumps(self) -> None:
        """Put the machine's clock forward or back, once nothing is left that the last jump made look old."""
        clock = self.story.clock
        if (clock.true() - self._jumped_at).total_seconds() > CALM_S:
            self.seen_late += await late(self.database_url, clock.now(), self.story.patience)
            clock.skew = timedelta(seconds=self.rng.uniform(-SKEW_S, SKEW_S))
            self._jumped_at = clock.true()

    async def trouble(self) -> None:
        """Let something go wrong, or come right again."""
        rng, slack, openhands = self.rng, self.world.slack, self.world.openhands
        openhands.down = False
        match rng.random():
            case chance if chance < 0.35:
                method = rng.choice(sorted({call.method for call in slack.calls}))
                slack.fail(method, **rng.choice(faults_of(method)), times=rng.randint(1, 3))
            case chance if chance < 0.7:
                kind = rng.choice(sorted({call.kind for call in openhands.calls}))
                full = {"status": 429, "body": FULL["v1"]}
                how = rng.choice([how for how in AT_OPENHANDS if "hang_s" not in how] + [full] * (kind == "start"))
                openhands.break_next(kind, **how, times=rng.randint(1, 3))
            case chance if chance < 0.78 and openhands.conversations:
                one = rng.choice([*openhands.conversations.values()])
                openhands.break_about(one, rng.choice(("status", "events")), status=rng.choice((400, 404, 500)))
            case chance if chance < 0.83:
                openhands.recover()
            case chance if chance < 0.87:
                openhands.down = True
            case chance if chance < 0.92:
                rng.choice((slack.cut_socket, lambda: slack.disconnect("refresh_requested")))()
            case chance if chance < 0.96:
                await self.story.restarts()
            case _:
                await self.clock_jumps()

    def calms_down(self) -> None:
        self.world.openhands.down = False
        self.world.openhands.recover()
        self.world.slack._server.faults._waiting.clear()


async def a_day(make_world: Make, seed: int) -> Day:
    agents = Agents(seed, WORK_S, look_s=30.0)
    world = await make_world(
        start=False,
        patience=PATIENCE,
        openhands={"agent": agents, "start_seconds": 5.0},
        notify_channel=TEAM,
        max_concurrent_runs=6,
        max_queued_per_person=0,
    )
    agents.openhands = world.openhands
    for name in PLACES[:-1]:
        world.channel(name, world.alice)
    world.channel(TEAM)
    await world.starts()
    return Day(world, seed)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_run_of_a_day_of_chaos_ends_and_is_told_once(make_world: Make, seed: int) -> None:
    """No second conversation or card, each end told once, each reply heard, nothing late, nothing left to do."""
    print(f"CHAOS_SEEDS={seed} CHAOS_RUNS={RUNS} CHAOS_HOURS={HOURS:g}")  # noqa: T201 - shown if the test fails
    day = await a_day(make_world, seed)
    kinds = day.rng.sample([*Kind], len(Kind))
    errands = [
        Errand(day, number, kinds[number % len(kinds)], day.rng.choice(PLACES), typed=day.rng.random() < 0.5)
        for number in range(RUNS)
    ]
    end = day.story.clock.true() + timedelta(hours=HOURS)
    begins = sorted(day.rng.uniform(0, HOURS * 0.9) * 3600 for _ in errands)
    start = day.story.clock.true()
    under_way = list[asyncio.Task[None]]()
    try:
        while (now := day.story.clock.true()) < end:
            await day.trouble()
            while len(under_way) < RUNS and begins[len(under_way)] <= (now - start).total_seconds():
                under_way.append(asyncio.create_task(errands[len(under_way)].run()))
            await day.goes_on(day.rng.uniform(*STEP_S))
        day.calms_down()
        end += timedelta(hours=LAST_HOURS)
        while not all(task.done() for task in under_way) and day.story.clock.true() < end:
            await day.goes_on(STEP_S[1])
        for task in under_way:
            if task.done():
                task.result()
        await day.story.restarts()
        await day.goes_on(600)
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    found = [*day.seen_late, *complaints(day, errands), *await kept(day, errands, 0)]
    found += await late(day.database_url, day.story.clock.now(), day.story.patience)
    assert not found, "\n".join(found)
    day.story.looked_at_everything()
