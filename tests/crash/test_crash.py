"""SIGKILL at random moments of a mixed load, while both services have faults.

The ordinary suite runs a short version, `make crash-test` the long one. `CRASH_SEED` repeats what was drawn: who asks
for what, when the bot dies, and what fails. `CRASH_KILLS` is how often it dies.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from tests.crash.errands import Errand
from tests.crash.oracle import complaints, kept
from tests.crash.town import PLACES, Api, Hosted, Kind, Town, town, until
from tests.crash.trouble import drawn, happens
from tests.postgres import server

KILLS = int(os.environ.get("CRASH_KILLS") or 3)
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1_000_000))
FEWEST = 4
ERRANDS_A_KILL = 0.4
REST_S = 180.0
"""Real seconds after the last kill until everything must have settled."""
SENT_AGAIN_EVERY_S = 2.0
LAST_LOOK_S = 10.0
OWED_S = 30.0
"""Real seconds after which nothing may be left to do; a stop without effect is repeated for ten or so."""
TYPED = 0.5
"""The share of errands that begin with a command, which Slack never redelivers."""


class Since(StrEnum):
    """The moment from which a life's time is counted."""

    START = "start"
    CONNECTED = "connected"
    ACKNOWLEDGED = "acknowledged"
    """The first acknowledgement: a request that was not on disk before it is lost."""


@dataclass(frozen=True)
class Life:
    """One life of the bot."""

    since: Since
    seconds: float
    errands: int
    """How many errands begin with it."""


LONGEST_S = {Since.START: 0.5, Since.CONNECTED: 1.2, Since.ACKNOWLEDGED: 0.05}


def lives(rng: random.Random, kills: int) -> list[Life]:
    """Draw when the bot dies, and spread the errands over all lives but the last ones."""
    wanted = max(FEWEST, round(kills * ERRANDS_A_KILL))
    begins = [rng.randrange(max(1, kills * 9 // 10)) for _ in range(wanted)]
    counted = rng.choices([*Since], weights=[1, 5, 4], k=kills)
    return [Life(since, rng.uniform(0, LONGEST_S[since]), begins.count(number)) for number, since in enumerate(counted)]


def errands(rng: random.Random, at: Town, wanted: int) -> list[Errand]:
    """Draw what people want: each kind in turn, in a random place, as a command or a message."""
    kinds = rng.sample([*Kind], len(Kind))
    drawn_: list[Errand] = []
    for number in range(wanted):
        place = rng.choice(PLACES)
        drawn_.append(Errand(at, number, kinds[number % len(kinds)], place, typed=rng.random() < TYPED))
    return drawn_


async def in_trouble(at: Town, rng: random.Random, api: Api) -> None:
    """Cause random faults until cancelled."""
    while True:
        trouble = drawn(rng, api)
        await asyncio.sleep(trouble.pause_s)
        await happens(trouble, at.world.slack, at.world.openhands)


async def live(at: Hosted, life: Life, begin: Callable[[int], None]) -> None:
    """Let the bot live for as long as was drawn, then kill it. begin: starts so many errands."""
    deliveries = at.world.slack.deliveries
    acknowledged = sum(one.acked_at is not None for one in deliveries)
    at.child.start()
    with suppress(TimeoutError):
        if life.since is not Since.START:
            await until(lambda: at.world.slack.sockets > 0, 5)
        begin(life.errands)
        if life.since is Since.ACKNOWLEDGED:
            await until(lambda: sum(one.acked_at is not None for one in deliveries) > acknowledged, 1.5)
    await asyncio.sleep(life.seconds)
    await at.dies()


async def sent_again(at: Town) -> None:
    """Redeliver events that were not acknowledged, as Slack does minutes later, unless it is `forgetful`."""
    if not at.world.slack.forgetful:
        for delivery in at.world.slack.deliveries:
            if delivery.event_id is not None and delivery.acked_at is None:
                await at.world.slack.redeliver(delivery.envelope_id)


async def rests(at: Town, asked: Sequence[Errand], under_way: Sequence[asyncio.Task[None]]) -> None:
    """Wait until everything that must end has ended, at most `REST_S`."""

    def all_over() -> bool:
        return all(errand.over or not errand.promised for errand in asked) or any(
            task.done() and task.exception() for task in under_way
        )

    deadline = asyncio.get_running_loop().time() + REST_S
    while not all_over() and asyncio.get_running_loop().time() < deadline:
        await sent_again(at)
        with suppress(TimeoutError):
            await until(all_over, SENT_AGAIN_EVERY_S)


@asynccontextmanager
async def running(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    """Cancel the tasks at the end of the block, and raise the exception that broke one of them."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def address(database: str, folder: Path) -> str:
    return f"sqlite:///{folder / 'crash.db'}" if database == "sqlite" else await server().fresh()


@pytest.mark.parametrize(("database", "api"), [("sqlite", "v1"), ("postgresql", "v1"), ("sqlite", "agent")])
async def test_killed_at_random_moments(database: str, api: Api, tmp_path: Path) -> None:
    """Nothing acknowledged is lost, nothing is done twice, replies keep their order, and the end of every run is told.

    Answers that only one person sees are exempt: they are sent at most once, and nobody can check whether they arrived.
    """
    print(f"CRASH_SEED={SEED} CRASH_KILLS={KILLS}")  # noqa: T201 - shown if the test fails or hangs
    async with town(tmp_path, await address(database, tmp_path), SEED, api) as at:
        at.world.slack.forgetful = random.Random(f"{SEED} {database} Slack").random() < 0.5
        drawn_lives = lives(random.Random(f"{SEED} {database} kills"), KILLS)
        asked = errands(random.Random(f"{SEED} {database} errands"), at, sum(life.errands for life in drawn_lives))
        waiting, under_way = iter(asked), list[asyncio.Task[None]]()

        def begin(errands: int) -> None:
            under_way.extend(asyncio.create_task(next(waiting).run()) for _ in range(errands))

        trouble = asyncio.create_task(in_trouble(at, random.Random(f"{SEED} {database} trouble"), api))
        async with running(trouble):
            for life in drawn_lives:
                await live(at, life, begin)
        begin(len(asked) - len(under_way))
        at.child.start()
        async with running(*under_way):
            await rests(at, asked, under_way)
        await at.dies()
        at.child.start()
        await at.connected()  # whatever would come twice comes now
        with suppress(TimeoutError):  # a message that is found late reopens its turn until the next poll
            await until(lambda: all(errand.told() for errand in asked if errand.over), LAST_LOOK_S)
        found = await kept(at, asked, OWED_S)
        await at.child.end()
        found += [*complaints(at, asked), *at.ended_badly()]

    again = f"repeat with CRASH_SEED={SEED} CRASH_KILLS={KILLS}; the bot's log is {tmp_path / 'bot.log'}"
    assert not found, "\n".join([again, *found])
