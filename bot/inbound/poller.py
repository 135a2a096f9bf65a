"""Runs that are due, in batches → what OpenHands shows of them → advance → one transaction for each `SLICE`."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects, slots
from bot.causes import trust_help
from bot.clock import Backwards
from bot.context import Context, speaks_of
from bot.core import cards, lifecycle, words
from bot.core.errors import Moved, OpenHandsError, StoreUnavailable, StoreUnreadable, TooFast, Unauthorised, Unreadable
from bot.core.lifecycle import OCCUPIES, WORDS_DECIDE, Changed
from bot.core.model import Failed, Observation, Phase, Reason, Run, RunId, RunState, Waiting
from bot.core.pacing import later, poll_at, poll_ended_at, retry_at
from bot.openhands import OpenHands
from bot.store import ahead, checkpoints, inbox, outbox, runs, threads
from bot.store.checkpoints import Mark
from bot.store.database import Turn

log = structlog.get_logger("poller")

POLLED = frozenset({RunState.STARTING, RunState.WORKING, RunState.WAITING, RunState.PAUSED})
PROGRESS_GAP_S = 1.5
"""Seconds between two readings of progress over all runs: cards of live runs share 40 edits a minute."""
PROGRESS_AT_ONCE = 8
"""Burst: readings that may follow each other at once after a while without any."""
ROUND = 990
"""Runs asked about in one round, in about ten full requests. If more are due, the next round follows at once."""
SLICE = 99
"""Observations read in one transaction, so that other writers need not wait for a whole round."""
HELP: dict[type[OpenHandsError], str] = {
    Unauthorised: "OPENHANDS_API_KEY is refused: set a new one and start the bot again",
    Moved: "set OPENHANDS_BASE_URL to where OpenHands is, as people open it, and start the bot again",
    Unreadable: "if OPENHANDS_BASE_URL is an old server, OPENHANDS_API=v0 says so",
}
ASKED_AGAIN = "nothing is lost, it is asked for again"
OTHER_API = (
    "it was started with another API than the server speaks now: look in OpenHands; OPENHANDS_API says which to use"
)
TIDY_EVERY = timedelta(hours=1)
ENDED_AT_ONCE = 100
"""Runs whose questions end at one look: the others wait for the next."""
FORGET_AT_ONCE = 100
"""Runs that are deleted in one transaction: others wait for it."""
MISSED_KEPT = timedelta(days=2)
"""How long a run that can't be observed is remembered; after that it is logged anew."""


class Poller:
    """Polls the runs that are due, all that share a due time in as few requests as OpenHands allows."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._down_since: datetime | None = None
        self._failures = 0
        self._failed = False
        self._store_down = False
        self._missed_since: dict[RunId, datetime] = {}  # runs that could not be observed when they were last due
        self._missed_told: set[RunId] = set()
        self._reached_at: datetime | None = None  # when any run was last seen
        self._progress_at: dict[str, datetime] = {}
        self._progress_used = datetime.min.replace(tzinfo=UTC)  # the readings so far use up the budget until then
        self._tidied_at: datetime | None = None
        self._back = Backwards()
        self.wake = ctx.wake_poller
        self.reading: dict[RunId, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Poll until cancelled."""
        try:
            while True:
                self.wake.clear()
                try:
                    with self._ctx.metrics.looking():
                        until = await self._round()
                    self._failed = False
                    if self._store_down:
                        log.info("store.available", loop="poller")
                    self._store_down = False
                except StoreUnavailable:
                    if not self._store_down:  # once in a row
                        log.exception("store.unavailable", loop="poller")
                    self._store_down = True
                    until = later(self._ctx.clock.now(), self._ctx.patience.look_around_s)
                except Exception:  # the loop must go on, whatever failed in one round
                    if not self._failed:  # once in a row
                        log.exception("round.failed")
                    self._failed = True
                    until = later(self._ctx.clock.now(), self._ctx.patience.look_around_s)
                await self._ctx.clock.wait(self.wake, until)
        finally:
            for task in self.reading.values():
                task.cancel()
            await asyncio.gather(*self.reading.values(), return_exceptions=True)

    async def _round(self) -> datetime:
        now = self._ctx.clock.now()
        by = self._back.by(now)
        try:
            if by is not None:
                await self._clock_went_back(now, by)
            return await self._poll(now)
        except StoreUnreadable as err:
            await self._ctx.close_unreadable(err)
            return now

    async def _clock_went_back(self, now: datetime, by: timedelta) -> None:
        """Let nothing wait for a time that was written down before."""
        log.warning(
            "clock.went_back", by_s=round(by.total_seconds()), help="nothing is lost; look at this machine's clock"
        )
        self._missed_since.clear()
        self._progress_at.clear()
        self._progress_used = datetime.min.replace(tzinfo=UTC)
        self._reached_at = self._tidied_at = None
        self._down_since = None if self._down_since is None else now
        async with self._ctx.database.transaction() as tx:
            await ahead.drawn_back(tx, now)
        for wake in (self._ctx.wake_dispatcher, self._ctx.wake_sender):
            wake.set()

    async def _poll(self, now: datetime) -> datetime:
        await self._tidy(now)
        async with self._ctx.database.reading() as tx:
            due = await runs.due(tx, now, ROUND)
        if due:
            try:
                await self._observe(due)
            except OpenHandsError as err:
                return await self._out_of_reach(due, err)
        async with self._ctx.database.reading() as tx:
            next_at, somebody_waits = await runs.next_poll(tx)
        queue_at = await self._let_in(now) if somebody_waits else None
        return min(at for at in (later(now, self._ctx.patience.look_around_s), next_at, queue_at) if at)

    async def _let_in(self, now: datetime) -> datetime | None:
        """Start waiting runs while slots are free; return when the next try is due while OpenHands is full."""
        async with self._ctx.database.transaction() as tx:
            await slots.admit_waiting(tx, self._ctx.links, self._ctx.limits, now)
            marks = [await checkpoints.get(tx, mark) for mark in (Mark.FULL, Mark.QUOTA)]
        self._ctx.wake_sender.set()
        return max((at for at in marks if at is not None and at > now), default=None)

    async def _observe(self, due: Sequence[Run]) -> None:
        openhands = await self._ctx.openhands()
        asked = [run for run in due if run.id not in self.reading and speaks_of(openhands, run)]
        seen = await openhands.observe(asked) if asked else {}
        if asked:  # with nothing to ask about, no answer says that OpenHands is there
            if self._down_since is not None:
                log.info("openhands.reached", down_s=(self._ctx.clock.now() - self._down_since).total_seconds())
            self._down_since, self._failures = None, 0
        if seen:
            self._reached_at = self._ctx.clock.now()
        told: list[tuple[Run, Observation | None]] = []
        for run in due:
            it = seen.get(run.id)
            if it is not None:
                self._seen_again(run)
            elif not speaks_of(openhands, run):
                self._missed(run, alone=True, help=OTHER_API)
            elif run.id not in self.reading:
                self._missed(run, alone=True)
            if it is not None and says_nothing_new(run, it):
                it = None
            if it is not None and self._words_wanted(run, it, len(due)):
                self.reading[run.id] = asyncio.create_task(self._read(openhands, run, it))
                it = None
            told.append((run, it))
        await self._apply(told)

    def _missed(self, run: Run, *, alone: bool, help: str = ASKED_AGAIN) -> datetime:  # noqa: A002 - the log's word
        """Remember that a run could not be observed; return since when. alone: others could be, so it is logged."""
        now = self._ctx.clock.now()
        since = self._missed_since.setdefault(run.id, now)
        if alone and run.id not in self._missed_told and self._missed_for_long(run.id, now):
            self._missed_told.add(run.id)
            log.warning("run.unseen", run=run.id, since=since.isoformat(), help=help)
        return since

    def _missed_for_long(self, run: RunId, now: datetime) -> bool:
        since = self._missed_since.get(run)
        return since is not None and (now - since).total_seconds() >= self._ctx.patience.unreachable_shown_s

    def _seen_again(self, run: Run) -> None:
        since = self._missed_since.pop(run.id, None)
        if since is not None and run.id in self._missed_told:
            self._missed_told.remove(run.id)
            log.info("run.seen", run=run.id, down_s=(self._ctx.clock.now() - since).total_seconds())

    async def _read(self, openhands: OpenHands, run: Run, seen: Observation) -> None:
        """Read one run's events beside the rounds, so that a slow conversation does not delay the news of others."""
        structlog.contextvars.bind_contextvars(run=run.id)  # it runs in a task of its own
        look: Observation | None = seen
        try:
            try:
                look = await openhands.read(run, seen)
            except OpenHandsError as err:
                log.info("events.unreadable", run=run.id, error=type(err).__name__)
                if seen.phase is Phase.WORKING and lifecycle.begins_anew(run):
                    look = None  # the next look reads them: an end that a message overtook may be among them
            if await self._apply([(run, look)]):
                self.wake.set()  # its next poll may be due earlier now
        except Exception:  # one run's failure is its own; it is polled again when it is next due
            log.exception("look.failed", run=run.id)
        finally:
            del self.reading[run.id]

    def _words_wanted(self, run: Run, seen: Observation, live: int) -> bool:
        """Return whether to read the run's events.

        They decide its state, may hold an end that a message overtook, or its last line of progress is due.

        live: how many runs share the readings of progress.
        """
        if seen.phase in WORDS_DECIDE and seen.last is None:
            fresh = (seen.asked_at - run.watch.news_at).total_seconds() < self._ctx.patience.poll_eager_s
            same = seen.phase is run.watch.phase
            if run.state in (RunState.LOST, RunState.FAILED):  # of a gone one, nothing new can be read either
                return not (same and (run.watch.ambiguous_since is None or seen.phase not in lifecycle.TURN_OVER))
            return not (same and run.state is RunState.WAITING and fresh)
        if seen.phase is not Phase.WORKING or seen.blind:
            return False
        return lifecycle.begins_anew(run) or self._progress_due(run, live)

    def _progress_due(self, run: Run, live: int) -> bool:
        now = self._ctx.clock.now()
        gap_s = max(self._ctx.patience.card_gap_s, PROGRESS_GAP_S * live)
        last = self._progress_at.get(run.id)
        if last is not None and (now - last).total_seconds() < gap_s:
            return False
        used = max(self._progress_used, later(now, -PROGRESS_AT_ONCE * PROGRESS_GAP_S))
        if later(used, PROGRESS_GAP_S) > now:
            return False
        self._progress_used = later(used, PROGRESS_GAP_S)
        self._progress_at[run.id] = now
        return True

    async def _apply(self, looks: Sequence[tuple[Run, Observation | None]]) -> bool:
        """Apply observations in short transactions; return whether any was news.

        None in place of an observation: the run was not seen this time, so only its next poll is set.
        """
        news = False
        while looks:
            any_news, left = await self._apply_some(looks[:SLICE])
            looks = [*left, *looks[SLICE:]]
            news = news or any_news
        return news

    async def _apply_some(
        self, looks: Sequence[tuple[Run, Observation | None]]
    ) -> tuple[bool, Sequence[tuple[Run, Observation | None]]]:
        """Apply observations until the turn is over; return whether any was news, and those that are left."""
        now = self._ctx.clock.now()
        written: set[RunId] = set()
        saved: list[bool] = []
        changed: list[tuple[Run, Changed, Observation | None]] = []
        unchanged: dict[tuple[datetime, datetime | None], list[RunId]] = defaultdict(list)
        async with self._ctx.database.transaction() as tx:
            turn = Turn()
            now_there = await runs.get_all(tx, [run.id for run, _ in looks])
            for run, seen in looks:
                fresh = now_there[run.id]
                seen_now = seen if fresh.attempt == run.attempt else None
                after, owed = self._judged(fresh, seen_now, now)
                if owed or after != replace(
                    fresh,
                    watch=replace(
                        fresh.watch, observed_at=after.watch.observed_at, next_poll_at=after.watch.next_poll_at
                    ),
                ):
                    changed.append((fresh, (after, owed), seen_now))
                else:
                    unchanged[after.watch.observed_at, after.watch.next_poll_at].append(run.id)
            for (seen_at, next_poll_at), ids in unchanged.items():
                await runs.looked_at(tx, ids, seen_at, next_poll_at)
            for fresh, change, seen in changed:
                told = seen is not None and await effects.enqueue_overtaken(tx, fresh, seen, self._ctx.links, now)
                saved.append(await self._write(tx, fresh, change, now) or told)
                written.add(fresh.id)
                if turn.over:
                    break
        if any(saved):
            self._ctx.wake_sender.set()
        left = {fresh.id for fresh, *_ in changed} - written
        return any(saved), [look for look in looks if look[0].id in left]

    def _judged(self, fresh: Run, seen: Observation | None, now: datetime) -> Changed:
        """Decide what an observation changes, and when the next poll is due."""
        after, owed = (fresh, ()) if seen is None else lifecycle.advance(fresh, seen)
        if seen is None and self._missed_for_long(fresh.id, now):
            after = lifecycle.out_of_reach(after, self._missed_since[fresh.id], key_refused=False)
        return self._timed(lifecycle.silence_told(after, now) if self._silence_due(after, now) else after, now), owed

    async def _write(self, tx: AsyncConnection, fresh: Run, change: Changed, now: datetime) -> bool:
        """Write one run's change; return whether the card is to show it."""
        saved = await self._ctx.save(tx, fresh, change)
        if self._silence_due(fresh, now) == self._ctx.patience.stale_s and saved.watch.silence_told_at == now:
            await effects.enqueue_message(tx, saved, cards.stale(saved, self._ctx.links.page(saved)), now)
        if saved.state not in POLLED:
            self._progress_at.pop(saved.id, None)
        return saved.version > fresh.version

    def _silence_due(self, run: Run, now: datetime) -> float | None:
        """Return how long a run at work has shown nothing new, if that is to be told now: on the card, then in words."""
        if run.state not in OCCUPIES:
            return None
        since, told_at = run.watch.heard_at or run.watch.news_at, run.watch.silence_told_at
        quiet_s = (now - since).total_seconds()
        told_s = 0.0 if told_at is None else (told_at - since).total_seconds()
        steps = (self._ctx.patience.quiet_shown_s, self._ctx.patience.stale_s)
        return max((step for step in steps if told_s < step <= quiet_s), default=None)

    def _timed(self, run: Run, now: datetime) -> Run:
        """Return the run with the time of its next poll; None for one that is not polled."""
        if run.state not in POLLED:
            return replace(run, watch=replace(run.watch, next_poll_at=self._after_end(run, now)))
        if lifecycle.rests(run, now, timedelta(seconds=self._ctx.patience.rest_s)):
            return replace(run, watch=replace(run.watch, next_poll_at=None))
        person = run.state in (RunState.WAITING, RunState.PAUSED)
        return replace(
            run,
            watch=replace(
                run.watch,
                next_poll_at=poll_at(now, news_at=run.watch.news_at, person=person, patience=self._ctx.patience),
            ),
        )

    def _after_end(self, run: Run, now: datetime) -> datetime | None:
        """Return when an ended run is polled next, in case it comes back."""
        if run.ended_at is None or not lifecycle.watched_after_end(run):
            return None
        return poll_ended_at(now, ended_at=run.ended_at, patience=self._ctx.patience)

    async def _out_of_reach(self, due: Sequence[Run], err: OpenHandsError) -> datetime:
        """Back off, and return when to try again; after `unreachable_shown_s` the cards say so."""
        now = self._ctx.clock.now()
        self._failures += 1
        reached_at = self._reached_at
        alone = reached_at is not None and all(self._missed_since.get(run.id, now) < reached_at for run in due)
        if self._down_since is None and not alone:  # else others were seen since, so it is these runs' own trouble
            self._down_since = now
            log.warning(
                "openhands.unreachable",
                error=type(err).__name__,
                cause=str(err),
                server=self._ctx.links.server,
                help=trust_help(str(err)) or HELP.get(type(err), "nothing is lost, it tries on"),
            )
        at = (
            later(
                now, min(err.retry_after_s, self._ctx.patience.retry_slowest_s)
            )  # so that ends are told soon after it
            if isinstance(err, TooFast)
            else retry_at(self._failures, now, self._ctx.patience)
        )
        key_refused = isinstance(err, Unauthorised)
        since = {run.id: self._missed(run, alone=alone) for run in due}
        async with self._ctx.database.transaction() as tx:
            await runs.poll_again(tx, [run.id for run in due], at)
        left = deque(run for run in due if key_refused or self._missed_for_long(run.id, now))
        while left:
            async with self._ctx.database.transaction() as tx:
                turn = Turn()
                while left and not turn.over:
                    fresh = await runs.get(tx, left.popleft().id)
                    await runs.save(tx, fresh, lifecycle.out_of_reach(fresh, since[fresh.id], key_refused=key_refused))
        self._ctx.wake_sender.set()
        return at

    async def _tidy(self, now: datetime) -> None:
        """Delete, every `TIDY_EVERY`, what nothing will ask for again, and end runs that wait for nothing or nobody."""
        if self._tidied_at is not None and now - self._tidied_at < TIDY_EVERY:
            return
        self._tidied_at = now
        self._missed_since = {run: at for run, at in self._missed_since.items() if now - at < MISSED_KEPT}
        self._missed_told &= self._missed_since.keys()
        self._progress_at = {run: at for run, at in self._progress_at.items() if now - at < TIDY_EVERY}
        async with self._ctx.database.transaction() as tx:
            await inbox.forget(tx, now, self._ctx.patience.keep_keys_s)
            await outbox.forget(tx, now, self._ctx.patience.keep_keys_s)
            for run in await runs.forgotten(tx):
                log.error("run.forgotten", run=run.id, help="a fault of the bot: please report it; people are told")
                await self._ctx.save(tx, run, lifecycle.not_started(run, Failed(Reason.FORGOTTEN), now))
            asked_before = now - timedelta(seconds=self._ctx.patience.question_s)
            for run in await runs.unanswered(tx, asked_before, ENDED_AT_ONCE):
                ended = await self._ctx.save(tx, run, lifecycle.unanswered(run, now))
                await effects.enqueue_message(tx, ended, cards.sentence(words.unanswered(ended)), now)
        self._ctx.wake_sender.set()
        await self._forget_runs(now)

    async def _forget_runs(self, now: datetime) -> None:
        """Delete the runs that are over for long, a few at a time; their threads are remembered four times as long."""
        keep = timedelta(seconds=self._ctx.patience.keep_runs_s)
        forgotten = FORGET_AT_ONCE if keep else 0
        while forgotten == FORGET_AT_ONCE:
            async with self._ctx.database.transaction() as tx:
                forgotten = await runs.forget(tx, now - keep, FORGET_AT_ONCE)
                await threads.forget(tx, now - 4 * keep)


def says_nothing_new(run: Run, seen: Observation) -> bool:
    """Return whether a run that answered or asks shows just what it showed last: its events need not be read again.

    An agent that worked meanwhile has spent something; where the server shows no cost, nothing can be told.
    """
    told = run.state is RunState.WAITING and run.waiting is not Waiting.APPROVAL and run.stop_by is None
    known = run.watch.ambiguous_since is None and run.watch.unreachable_since is None
    return (
        told
        and known
        and seen.phase is run.watch.phase
        and seen.phase in WORDS_DECIDE
        and seen.cost is not None
        and run.cost_before + seen.cost <= run.cost
        and {*seen.pull_requests} <= {*run.pull_requests}
    )
