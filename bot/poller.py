"""Runs that are due, in batches → what OpenHands shows of them → advance → one transaction each."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from bot import lifecycle
from bot.errors import OpenHandsError, TooFast, Unauthorised, Unreadable
from bot.means import Means, Worker
from bot.model import Phase, Run, RunId, RunState, Seen
from bot.openhands import OpenHands
from bot.pacing import later, poll_at, retry_at
from bot.store import inbox, outbox, runs

log = structlog.get_logger("poller")

WORDS_DECIDE = frozenset(
    {Phase.ENDED, Phase.WANTS_APPROVAL, Phase.ERROR, Phase.STUCK, Phase.ASLEEP, Phase.GONE, Phase.MISSING}
)
"""Phases whose meaning is in the events: what sleeps or is gone may have ended before, while nobody looked."""
POLLED = frozenset({RunState.STARTING, RunState.WORKING, RunState.WAITING, RunState.PAUSED})
PROGRESS_GAP_S = 1.5
"""Seconds between two readings of progress over all runs: cards of live runs share 40 edits a minute."""
HELP: dict[type[OpenHandsError], str] = {
    Unauthorised: "OPENHANDS_API_KEY is refused: set a new one and start the bot again",
    Unreadable: "if OPENHANDS_BASE_URL is an old server, OPENHANDS_API=v0 says so",
}
TIDY_EVERY = timedelta(hours=1)


class Poller(Worker):
    """Looks at the runs that are due, all that share a due time in as few requests as OpenHands allows."""

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self._down_since: datetime | None = None
        self._failures = 0
        self._failed = False
        self._progress_at: dict[str, datetime] = {}
        self._tidied_at: datetime | None = None
        self.wake = means.wake_poller
        self.reading: dict[RunId, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                self.wake.clear()
                try:
                    until = await self._round()
                    self._failed = False
                except Exception:  # the loop itself must go on, whatever one round met
                    if not self._failed:  # once in a row
                        log.exception("round.failed")
                    self._failed = True
                    until = later(self._clock.now(), self._patience.look_around_s)
                await self._clock.wait(self.wake, until)
        finally:
            for task in self.reading.values():
                task.cancel()
            await asyncio.gather(*self.reading.values(), return_exceptions=True)

    async def _round(self) -> datetime:
        now = self._clock.now()
        await self._tidy(now)
        async with self._database.reading() as tx:
            due = [run for run in await runs.due(tx, now) if run.id not in self.reading]
        if due:
            try:
                await self._look(due)
            except OpenHandsError as err:
                return await self._out_of_reach(due, err)
        async with self._database.reading() as tx:
            next_at = await runs.next_poll_at(tx)
        around = later(now, self._patience.look_around_s)
        return min(next_at, around) if next_at else around

    async def _look(self, due: Sequence[Run]) -> None:
        openhands = await self._openhands()
        seen = await openhands.look(due)
        if self._down_since is not None:
            log.info("openhands.reached", down_s=(self._clock.now() - self._down_since).total_seconds())
        self._down_since, self._failures = None, 0
        told: list[tuple[Run, Seen | None]] = []
        for run in due:
            it = seen.get(run.id)
            if it is not None and self._words_wanted(run, it, len(due)):
                self.reading[run.id] = asyncio.create_task(self._read(openhands, run, it))
                it = None
            told.append((run, it))
        await self._apply(told)

    async def _read(self, openhands: OpenHands, run: Run, seen: Seen) -> None:
        """Read one run's events, beside the rounds: a slow conversation holds up nobody else's news."""
        try:
            try:
                seen = await openhands.read(run, seen)
            except OpenHandsError as err:
                log.info("events.unreadable", run=run.id, error=type(err).__name__)
            if await self._apply([(run, seen)]):
                self.wake.set()  # its next time may be another now
        except Exception:  # one run's trouble is its own; it is looked at again at its next time
            log.exception("look.failed", run=run.id)
        finally:
            del self.reading[run.id]

    def _words_wanted(self, run: Run, seen: Seen, live: int) -> bool:
        """Tell whether the events decide, or whether it is time for the last line of progress."""
        if seen.phase in WORDS_DECIDE and seen.last is None:
            fresh = (seen.asked_at - run.news_at).total_seconds() < self._patience.poll_eager_s
            return not (seen.phase is run.phase and run.state is RunState.WAITING and fresh)
        return seen.phase is Phase.WORKING and not seen.blind and self._progress_due(run, live)

    def _progress_due(self, run: Run, live: int) -> bool:
        now = self._clock.now()
        gap_s = max(self._patience.card_gap_s, PROGRESS_GAP_S * live)
        last = self._progress_at.get(run.id)
        if last is not None and (now - last).total_seconds() < gap_s:
            return False
        self._progress_at[run.id] = now
        return True

    async def _apply(self, looks: Sequence[tuple[Run, Seen | None]]) -> bool:
        """Take looks in, all in one transaction, and tell whether there was news.

        None in place of a look: not seen this time, so only look again later.
        """
        now = self._clock.now()
        news = False
        async with self._database.transaction() as tx:
            for run, seen in looks:
                fresh = await runs.get(tx, run.id)
                after, effect = (
                    lifecycle.advance(fresh, seen) if seen is not None and fresh.attempt == run.attempt else (fresh, ())
                )
                saved = await self._save(tx, fresh, (self._timed(after, now), effect))
                news = news or (saved is not None and saved.version > fresh.version)
                if after.state not in POLLED:
                    self._progress_at.pop(run.id, None)
        if news:
            self._wake_sender()
        return news

    def _timed(self, run: Run, now: datetime) -> Run:
        """Say when the run is looked at next; an ended one is not."""
        if run.state not in POLLED:
            return replace(run, next_poll_at=None)
        person = run.state in (RunState.WAITING, RunState.PAUSED)
        return replace(run, next_poll_at=poll_at(now, news_at=run.news_at, person=person, patience=self._patience))

    async def _out_of_reach(self, due: Sequence[Run], err: OpenHandsError) -> datetime:
        """Wait longer and longer; after a minute the cards say so."""
        now = self._clock.now()
        self._failures += 1
        if self._down_since is None:
            self._down_since = now
            log.warning("openhands.unreachable", error=type(err).__name__, help=HELP.get(type(err), ""))
        at = (
            later(now, err.retry_after_s) if isinstance(err, TooFast) else retry_at(self._failures, now, self._patience)
        )
        key_refused = isinstance(err, Unauthorised)
        shown = key_refused or (now - self._down_since).total_seconds() >= self._patience.unreachable_shown_s
        async with self._database.transaction() as tx:
            await runs.poll_again(tx, [run.id for run in due], at)
            for run in due if shown else ():
                fresh = await runs.get(tx, run.id)
                await runs.save(tx, fresh, lifecycle.out_of_reach(fresh, self._down_since, key_refused=key_refused))
        self._wake_sender()
        return at

    async def _tidy(self, now: datetime) -> None:
        """Forget, now and then, what nothing will ask for again."""
        if self._tidied_at is not None and now - self._tidied_at < TIDY_EVERY:
            return
        self._tidied_at = now
        async with self._database.transaction() as tx:
            await inbox.forget(tx, now, self._patience.keep_keys_s)
            await outbox.forget(tx, now, self._patience.keep_keys_s)
