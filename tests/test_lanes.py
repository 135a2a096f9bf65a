"""The loop over due rows: order within a lane, concurrency between lanes, and what happens when work fails."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bot.core.errors import StoreUnavailable
from bot.core.pacing import Patience
from bot.lanes import GIVE_UP_AFTER, LaneScheduler
from tests.conftest import START, HandClock

PATIENCE = Patience(look_around_s=5, retry_first_s=1, retry_slowest_s=60, drain_s=0.05)
WIDTH = 3
LATE_S = 5.0  # real seconds after which a test counts as hung
OUTAGE = StoreUnavailable(perhaps_saved=False)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Job:
    """A job named by its lane and number: `a1` is the first of lane a."""

    name: str

    @property
    def id(self) -> str:
        return self.name

    @property
    def lane(self) -> str:
        return self.name[0]


@dataclass
class Table:
    """Stands in for the tables: the first open job of each lane is due.

    log: what happened: `+a1` a job was begun, `-a1` it was done, `!a1` it was given up.
    """

    jobs: list[Job]
    clock: HandClock = field(default_factory=HandClock)
    log: list[str] = field(default_factory=list)
    looked_at: list[float] = field(default_factory=list)
    next_at: datetime | None = None
    down: bool = False
    faults: dict[str, list[Exception]] = field(default_factory=dict)
    not_before: dict[str, datetime] = field(default_factory=dict)
    no_budget: dict[str, datetime] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    beside: Collection[str] = ()
    cannot_give_up: bool = False

    def __post_init__(self) -> None:
        self.lanes = LaneScheduler[Job](
            "table",
            self.clock,
            PATIENCE,
            due=self.due,
            work=self.work,
            give_up=self.give_up,
            admit=self.admit,
            width=WIDTH,
            wake=asyncio.Event(),
        )

    async def due(self, now: datetime, busy: Collection[str]) -> tuple[Sequence[Job], datetime | None]:
        self.looked_at.append((now - START).total_seconds())
        if self.down:
            raise OUTAGE
        first: dict[str, Job] = {}
        for job in self.jobs:
            first.setdefault(job.lane, job)
        return [job for lane, job in first.items() if lane not in busy], self.next_at

    async def work(self, job: Job) -> datetime | None:
        self.log.append(f"+{job.name}")
        if job.name in self.held:
            with self.lanes.beside() if job.name in self.beside else nullcontext():
                await self.held[job.name].wait()
        if faults := self.faults.get(job.name):
            raise faults.pop(0)
        if later := self.not_before.pop(job.name, None):
            return later
        self.jobs.remove(job)
        self.log.append(f"-{job.name}")
        return None

    async def give_up(self, job: Job) -> None:
        self.log.append(f"!{job.name}")
        if self.cannot_give_up:
            raise LookupError("no way out")
        self.jobs.remove(job)

    def admit(self, job: Job, now: datetime) -> datetime | None:
        until = self.no_budget.get(job.name)
        return until if until and until > now else None

    def hold(self, *names: str) -> None:
        """Keep these jobs under way, once begun, until `let_go`."""
        self.held |= {name: asyncio.Event() for name in names}

    async def let_go(self, name: str) -> None:
        self.held[name].set()
        await self.rests()

    async def rests(self) -> None:
        """Wait until the loop waits for the clock, and every job under way for `let_go`."""
        quiet = 0
        async with asyncio.timeout(LATE_S):
            while quiet < 10:  # more steps than anything here takes between two waits
                await asyncio.sleep(0)
                quiet = quiet + 1 if self.clock.resting() == 1 else 0

    async def moves(self, seconds: float) -> None:
        """Move the clock to this many seconds after the start, stopping whenever the loop is due."""
        while (due := self.clock.next_due()) and due < at(seconds):
            self.clock.move(max(due, self.clock.now()))
            await self.rests()
        self.clock.move(at(seconds))
        await self.rests()


@asynccontextmanager
async def running(*names: str, **about: Any) -> AsyncIterator[Table]:
    """Run the loop on these jobs, wait until it rests, and end it with the test."""
    table = Table([Job(name) for name in names], **about)
    loop = asyncio.create_task(table.lanes.run())
    try:
        await table.rests()
        yield table
    finally:
        loop.cancel()
        await asyncio.wait([loop], timeout=LATE_S)
    assert loop.cancelled()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    """Yield what is logged."""
    with capture_logs() as caught:
        yield caught


def held(*names: str) -> dict[str, asyncio.Event]:
    return {name: asyncio.Event() for name in names}


def begun(table: Table, name: str) -> int:
    return table.log.count(f"+{name}")


def logged(logs: Sequence[EventDict]) -> list[Mapping[str, Any]]:
    """Return what was logged, without the tracebacks."""
    return [{name: value for name, value in line.items() if name != "exc_info"} for line in logs]


# --- order ------------------------------------------------------------------------------------------------------


async def test_a_lane_goes_in_order() -> None:
    """Jobs run one at a time; each begins when the one before it is done."""
    async with running("a1", "a2", "a3") as table:
        assert table.log == ["+a1", "-a1", "+a2", "-a2", "+a3", "-a3"]


async def test_a_slow_lane_holds_up_no_other() -> None:
    """Its own jobs wait, while those of other lanes are done."""
    async with running("a1", "a2", "b1", "b2", held=held("a1")) as table:
        before = list(table.log)
        await table.let_go("a1")
    assert sorted(before) == ["+a1", "+b1", "+b2", "-b1", "-b2"]
    assert table.log[5:] == ["-a1", "+a2", "-a2"]


async def test_no_more_at_once_than_the_width() -> None:
    """The next job begins when one ends, without waiting for the clock."""
    async with running("a1", "b1", "c1", "d1", held=held("a1", "b1", "c1")) as table:
        under_way = sorted(table.lanes.under_way)
        before = begun(table, "d1")
        await table.let_go("b1")
        assert (under_way, before, begun(table, "d1"), table.looked_at[-1]) == (["a", "b", "c"], 0, 1, 0)


async def test_a_job_that_waits_for_another_service_takes_no_place() -> None:
    """However many wait beside the others, those go on; a place is taken again with the end of the wait."""
    jobs = ("a1", "b1", "c1", "d1", "e1", "f1", "g1")
    async with running(*jobs, held=held("a1", "b1", "c1", "d1", "e1", "f1"), beside=("a1", "b1", "c1")) as table:
        first = (sorted(table.lanes.under_way), begun(table, "g1"))
        await table.let_go("a1")
        after_a_wait = begun(table, "g1")
        await table.let_go("d1")
        assert (first, after_a_wait, begun(table, "g1")) == (([*"abcdef"], 0), 0, 1)


async def test_a_job_without_budget_waits_alone() -> None:
    """Other jobs continue, and the loop polls again exactly when there is budget."""
    async with running("a1", "b1", no_budget={"a1": at(1.5)}) as table:
        before = list(table.log)
        await table.moves(1.4)
        waiting = begun(table, "a1")
        await table.moves(1.5)
    assert (before, waiting, table.log[2:]) == (["+b1", "-b1"], 0, ["+a1", "-a1"])


async def test_a_lane_that_asks_for_time_gets_it() -> None:
    """Its job begins exactly then, even though the tables say that it is due earlier."""
    async with running("a1", "b1", not_before={"a1": at(2.5)}) as table:
        await table.moves(2.4)
        waiting = begun(table, "a1")
        await table.moves(2.5)
    assert (waiting, begun(table, "a1"), table.jobs) == (1, 2, [])


# --- when it looks ----------------------------------------------------------------------------------------------


async def test_it_looks_by_itself() -> None:
    """It polls every few seconds, with or without an event."""
    async with running() as table:
        await table.moves(11)
    assert table.looked_at == [0, 5, 10]


async def test_it_looks_when_the_next_row_is_due() -> None:
    """It polls sooner than usual if the tables name a time."""
    async with running(next_at=at(1.25)) as table:
        table.next_at = None
        await table.moves(2)
    assert table.looked_at == [0, 1.25]


async def test_it_looks_at_once_when_woken() -> None:
    """A new row does not wait for the next poll."""
    async with running() as table:
        table.jobs.append(Job("a1"))
        table.lanes.wake.set()
        await table.rests()
        assert (table.log, set(table.looked_at)) == (["+a1", "-a1"], {0})


# --- failures ---------------------------------------------------------------------------------------------------


async def test_a_job_that_fails_is_tried_again(logs: list[EventDict]) -> None:
    """It is logged with its lane and retried with exponential backoff; other lanes are not affected."""
    async with running("a1", "a2", "b1", faults={"a1": [LookupError("one"), LookupError("two")]}) as table:
        times = [begun(table, "a1")]
        for seconds in (0.9, 1, 2.9, 3):
            await table.moves(seconds)
            times.append(begun(table, "a1"))
    assert times == [1, 1, 2, 2, 3]
    assert table.log == ["+a1", "+b1", "-b1", "+a1", "+a1", "-a1", "+a2", "-a2"]
    failed = {"event": "job.failed", "log_level": "error", "loop": "table", "lane": "a"}
    assert logged(logs) == [failed | {"failures": 1}, failed | {"failures": 2}]
    assert [str(line["exc_info"]) for line in logs] == ["one", "two"]


async def test_a_success_is_a_fresh_start() -> None:
    """The failures of one job do not count for the next one in its lane."""
    faults: dict[str, list[Exception]] = {
        name: [LookupError(name) for _ in range(GIVE_UP_AFTER - 1)] for name in ("a1", "a2")
    }
    async with running("a1", "a2", faults=faults) as table:
        await table.moves(600)
    assert [table.log.count(what) for what in ("-a1", "-a2", "!a1", "!a2")] == [1, 1, 0, 0]


async def test_a_job_that_fails_again_and_again_is_given_up() -> None:
    """After about two minutes it is handed to `give_up`, and its lane continues."""
    faults: dict[str, list[Exception]] = {"a1": [LookupError("again") for _ in range(GIVE_UP_AFTER)]}
    async with running("a1", "a2", faults=faults) as table:
        await table.moves(1 + 2 + 4 + 8 + 16 + 32 + 60 - 1)
        before = list(table.log)
        await table.moves(1 + 2 + 4 + 8 + 16 + 32 + 60)
        given_up = list(table.log)
        await table.moves(600)
    assert before == ["+a1"] * (GIVE_UP_AFTER - 1)
    assert given_up == ["+a1"] * GIVE_UP_AFTER + ["!a1"]
    assert table.log[len(given_up) :] == ["+a2", "-a2"]


async def test_what_cannot_be_given_up_is_tried_again(logs: list[EventDict]) -> None:
    """If giving up fails too, that is logged and the count starts again."""
    faults: dict[str, list[Exception]] = {"a1": [LookupError("again") for _ in range(2 * GIVE_UP_AFTER)]}
    async with running("a1", faults=faults, cannot_give_up=True) as table:
        await table.moves(600)
    given_up = ["+a1"] * GIVE_UP_AFTER + ["!a1"]
    assert table.log == [*given_up, *given_up, "+a1", "-a1"]
    assert logged(logs)[-1] == {"event": "job.not_given_up", "log_level": "error", "loop": "table", "lane": "a"}


# --- outages of the database ------------------------------------------------------------------------------------


async def test_an_outage_of_the_database_is_waited_out(logs: list[EventDict]) -> None:
    """The loop keeps polling, logs the outage once at its start and once at its end, and continues where it was."""
    async with running("a1", down=True) as table:
        await table.moves(11)
        before = list(table.log)
        table.down = False
        await table.moves(15)
        await table.moves(21)
    assert (before, table.log, sorted(set(table.looked_at))) == ([], ["+a1", "-a1"], [0, 5, 10, 15, 20])
    assert logged(logs) == [
        {"event": "store.unavailable", "log_level": "error", "loop": "table"},
        {"event": "store.available", "log_level": "info", "loop": "table"},
    ]


async def test_a_job_the_database_fails_is_never_given_up(logs: list[EventDict]) -> None:
    """Such a job is retried until it works, and logged once per outage."""
    outage = [OUTAGE] * (GIVE_UP_AFTER + 5)
    async with running("a1", "a2", faults={"a1": [*outage], "a2": [OUTAGE]}) as table:
        await table.moves(5 * len(outage) - 1)
        before = begun(table, "a1")
        await table.moves(5 * len(outage) + 5)
    assert (before, begun(table, "a1"), table.jobs) == (len(outage), len(outage) + 1, [])
    assert logged(logs) == [{"event": "job.unsaved", "log_level": "error", "loop": "table", "lane": "a"}] * 2


async def test_what_failed_long_ago_is_forgotten() -> None:
    """Lanes come and go: nothing is kept of a lane that failed and never came back."""
    names = [f"{lane}1" for lane in "abcd"]
    async with running(*names, faults={name: [OUTAGE, LookupError("mine")] for name in names}) as table:
        await table.moves(10)
        kept = len(table.lanes._failures)
        await table.moves(3700)
    assert (kept, table.jobs, table.lanes._failures, table.lanes._unsaved_lanes) == (4, [], {}, {})


async def test_an_outage_does_not_count_towards_giving_up() -> None:
    """After an outage a job still has all its attempts."""
    faults: list[Exception] = [OUTAGE] * GIVE_UP_AFTER + [LookupError("mine")] * (GIVE_UP_AFTER - 1)
    async with running("a1", faults={"a1": faults}) as table:
        await table.moves(200)
    assert (table.log.count("!a1"), table.log[-1]) == (0, "-a1")


# --- the end ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def ending() -> AsyncIterator[tuple[Table, "asyncio.Task[None]"]]:
    """Yield a loop that was told to end with a1 under way and a2 waiting."""
    table = Table([Job("a1"), Job("a2")], held=held("a1"))
    loop = asyncio.create_task(table.lanes.run())
    await table.rests()
    loop.cancel()
    await asyncio.sleep(0)
    yield table, loop
    assert (loop.cancelled(), table.lanes.under_way) == (True, {})


async def test_what_is_under_way_may_end(ending: tuple[Table, "asyncio.Task[None]"]) -> None:
    """The loop ends when it is done, and begins nothing new."""
    table, loop = ending
    table.held["a1"].set()
    await asyncio.wait([loop], timeout=LATE_S)
    assert table.log == ["+a1", "-a1"]


async def test_what_does_not_end_in_time_is_cancelled(ending: tuple[Table, "asyncio.Task[None]"]) -> None:
    """The next start repeats it or looks it up."""
    table, loop = ending
    await asyncio.wait([loop], timeout=LATE_S)
    assert (table.log, table.jobs) == (["+a1"], [Job("a1"), Job("a2")])
