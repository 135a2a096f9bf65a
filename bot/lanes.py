"""The loop of dispatcher and sender: rows that are due, one at a time in each lane, several lanes at once."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

import structlog

from bot.clock import Backwards, Clock
from bot.core.errors import StoreUnavailable
from bot.core.pacing import Patience, later, retry_at

log = structlog.get_logger("lanes")

GIVE_UP_AFTER = 8
"""Unexpected failures of one job before a person is told: about two minutes with exponential backoff."""

REMEMBERED = timedelta(hours=1)
"""How long a failure counts: retries come within a minute, so a lane that is silent for longer has lost that job."""


class Job(Protocol):
    """Something due."""

    @property
    def id(self) -> object:
        """Identifies the job within its lane."""
        ...

    @property
    def lane(self) -> str:
        """Jobs of one lane run in order."""
        ...


AJob = TypeVar("AJob", bound=Job)


class LaneScheduler(Generic[AJob]):
    """Runs jobs as the tables and the budget allow. Progress is kept in the tables, only pauses are kept here."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        patience: Patience,
        *,
        due: Callable[[datetime, Collection[str]], Awaitable[tuple[Sequence[AJob], datetime | None]]],
        work: Callable[[AJob], Awaitable[datetime | None]],
        give_up: Callable[[AJob], Awaitable[None]],
        admit: Callable[[AJob, datetime], datetime | None] = lambda _job, _now: None,
        width: int,
        wake: asyncio.Event,
    ) -> None:
        """due: (now, busy lanes) → jobs that may start now, in order, and when the next one becomes due.

        work: does a job; a time that it returns pauses the lane until then, although the tables say it is due.
        give_up: ends a job that keeps failing unexpectedly.
        admit: returns None, or the time before which there is no budget for this job.
        width: how many jobs may be under way at once.
        wake: set by whoever makes something due.
        """
        self._name = name
        self._clock = clock
        self._patience = patience
        self._due = due
        self._work = work
        self._give_up = give_up
        self._admit = admit
        self._width = width
        self._later: dict[str, datetime] = {}
        self.throttled: dict[str, datetime] = {}
        """Lanes whose job had no budget at the last look, with the time when there may be some."""
        self._failures: dict[str, tuple[object, int, datetime]] = {}
        """By lane: the job that failed last, how often, and when."""
        self._unsaved_lanes: dict[str, datetime] = {}
        """By lane: when its job last failed because of the database."""
        self._store_down = False
        self._back = Backwards()
        self._beside = 0  # jobs under way that `width` does not count
        self.wake = wake
        self.under_way: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Run jobs until cancelled."""
        try:
            while True:
                self.wake.clear()
                await self._clock.wait(self.wake, await self._start_due())
        finally:
            await self._end()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Let a job wait for another service, within the block, without a place of `width`: others go on meanwhile."""
        self._beside += 1
        self.wake.set()
        try:
            yield
        finally:
            self._beside -= 1

    async def _start_due(self) -> datetime:
        """Start every job that can start; return when to look again."""
        now = self._clock.now()
        if self._back.by(now) is not None:
            self._later.clear()
            self.throttled.clear()
        self._later = {lane: at for lane, at in self._later.items() if at > now}
        self.throttled = {lane: at for lane, at in self.throttled.items() if at > now}
        self._failures = {lane: last for lane, last in self._failures.items() if now - last[2] < REMEMBERED}
        self._unsaved_lanes = {lane: at for lane, at in self._unsaved_lanes.items() if now - at < REMEMBERED}
        look_at = later(now, self._patience.look_around_s)
        try:
            jobs, next_at = await self._due(now, [*self.under_way, *self._later, *self.throttled])
        except StoreUnavailable:
            if not self._store_down:
                log.exception("store.unavailable", loop=self._name)
            self._store_down = True
            return look_at
        if self._store_down:
            log.info("store.available", loop=self._name)
            self._store_down = False
        for job in jobs:
            if len(self.under_way) - self._beside >= self._width:
                break  # a job that ends wakes the loop
            if not_before := self._admit(job, now):
                self.throttled[job.lane] = not_before
                continue
            self.throttled.pop(job.lane, None)
            self.under_way[job.lane] = asyncio.create_task(self._do(job))
        return min([look_at, *self._later.values(), *self.throttled.values(), *([next_at] if next_at else [])])

    async def _do(self, job: AJob) -> None:
        try:
            not_before = await self._work(job)
            self._unsaved_lanes.pop(job.lane, None)
            if not_before is not None:
                self._later[job.lane] = not_before
        except StoreUnavailable as err:
            self._unsaved(job, err)
        except Exception as err:  # noqa: BLE001 - the one catch-all around a row: log, reschedule, go on
            await self._failed(job, err)
        finally:
            del self.under_way[job.lane]
            self.wake.set()

    async def _failed(self, job: AJob, err: Exception) -> None:
        now = self._clock.now()
        before, failures, _ = self._failures.get(job.lane, (job.id, 0, now))
        failures = failures + 1 if before == job.id else 1  # an attempt that ends well in between does not end the job
        self._failures[job.lane] = (job.id, failures, now)
        log.error("job.failed", loop=self._name, lane=job.lane, failures=failures, exc_info=err)
        self._later[job.lane] = retry_at(failures, now, self._patience)
        if failures >= GIVE_UP_AFTER:
            del self._failures[job.lane]
            try:
                await self._give_up(job)
            except Exception:
                log.exception("job.not_given_up", loop=self._name, lane=job.lane)

    def _unsaved(self, job: AJob, err: StoreUnavailable) -> None:
        """Retry a job that failed because of the database: log once in a row, and never give the job up for that."""
        now = self._clock.now()
        if job.lane not in self._unsaved_lanes:
            log.error("job.unsaved", loop=self._name, lane=job.lane, exc_info=err)
        self._unsaved_lanes[job.lane] = now
        self._later[job.lane] = later(now, self._patience.look_around_s)

    async def _end(self) -> None:
        """Wait for jobs under way, then cancel the rest: the next start repeats them or looks up their outcome."""
        tasks = list(self.under_way.values())
        if not tasks:
            return
        _done, pending = await asyncio.wait(tasks, timeout=self._patience.drain_s)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
