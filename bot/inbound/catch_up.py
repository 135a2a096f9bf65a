"""Reads back what people may have said while the bot had no connection to Slack.

Slack redelivers some events and not others, so every gap is read back. That is idempotent: a message has the same key
however often it arrives. Slack does not store commands and clicks, so those can't be read back.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.context import Context
from bot.core.errors import SlackBusy, SlackError, SlackLocked, SlackUnavailable, SlackUnsure, StoreUnavailable
from bot.core.model import ChannelId, Incoming, MessageTs
from bot.core.pacing import later, retry_at
from bot.slack.history import Page
from bot.store import checkpoints, inbox, threads
from bot.store.checkpoints import Mark
from bot.store.threads import Thread

log = structlog.get_logger("catch_up")

ENDED_LATELY = timedelta(days=2)
"""People reply to a run that ended, but seldom later than this."""
MINUTE_S = 60.0
TRIES = 20
"""Attempts for one page, with others in between; with the pauses they last at least a quarter of an hour."""
REPLIES, HISTORY, PLACES = "conversations.replies", "conversations.history", "users.conversations"
PASSES = (SlackBusy, SlackUnavailable, SlackUnsure)
"""Limits and outages: the same call may succeed later."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where to continue reading: a place, or a thread in it."""

    channel: ChannelId
    thread: MessageTs | None = None
    cursor: str = ""
    tries: int = 0

    @property
    def method(self) -> str:
        return HISTORY if self.thread is None else REPLIES


@dataclass(slots=True)
class Round:
    """One reading of everything since a moment, with its counts."""

    since: datetime
    calls: Counter[str] = field(default_factory=Counter)
    found: int = 0
    """Requests read, most of which had arrived before."""
    new: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    met: set[Thread] = field(default_factory=set)
    """Threads that were read, or given up."""
    seen: list[Thread] = field(default_factory=list)
    """Threads with new replies, as found while reading places."""


class CatchUp:
    """Keeps a watermark up to which everything arrived, and reads back what may be missing since then."""

    def __init__(self, ctx: Context, remember: Callable[[Incoming], Awaitable[bool]]) -> None:
        """remember: commits a request if it is for us and new; returns whether it was; raises `StoreUnavailable`."""
        self._ctx = ctx
        self._remember = remember
        self._called: dict[str, deque[datetime]] = {}
        self._gaps = 0
        self._closed = 0
        self._marked: datetime | None = None
        self._unknown = False
        self._new = False
        self._unread: set[Thread] = set()
        self._hold_until = self._ctx.clock.now()
        self._locked = False
        self._wake = asyncio.Event()

    async def begin(self) -> None:
        """Write a watermark into a new database, before anything can arrive. Raises `StoreUnavailable`.

        Without one, a process killed in its first moments leaves nothing that tells the next one where to read on.
        What was said before is not read back: nobody was promised anything then.
        """
        async with self._ctx.database.transaction() as tx:
            if await self._marked_until(tx) is None:
                await checkpoints.put(tx, Mark.HEARD, self._ctx.clock.now())
                self._new = True

    def missed(self) -> None:
        """Record a gap, in which something may have been missed, and wake the reader."""
        self._gaps += 1
        self._unknown = True
        self._hold_until = later(self._ctx.clock.now(), self._ctx.patience.heard_hold_s)
        self._wake.set()

    def is_ahead(self, incoming: Incoming) -> bool:
        """Return whether older replies of the same thread may still be unread: a later one must not overtake them.

        False after `heard_hold_s`: people must not wait where Slack does not let the bot read.
        """
        if incoming.thread_ts is None or self._ctx.clock.now() >= self._hold_until:
            return False
        return self._unknown or Thread(incoming.channel, incoming.thread_ts) in self._unread

    async def run(self, heard_until: Callable[[], datetime | None]) -> None:
        """Run until cancelled. heard_until: when the connection to Slack last gave a sign of life."""
        try:
            while True:
                self._wake.clear()
                pause_s = self._ctx.patience.heard_mark_s
                try:
                    await self._look(heard_until)
                except StoreUnavailable:  # which the other loops log
                    log.debug("slack.not_marked")
                    pause_s = self._ctx.patience.look_around_s
                except SlackLocked as err:
                    self._no_token(err)
                await self._ctx.clock.wait(self._wake, later(self._ctx.clock.now(), pause_s))
        finally:
            try:
                await self._mark(heard_until())
            except StoreUnavailable:
                log.warning("slack.not_marked", help="the next start reads back a little more")

    async def _look(self, heard_until: Callable[[], datetime | None]) -> None:
        """Read back the gap if there is one, and advance the watermark."""
        if self._gaps != self._closed:
            async with self._ctx.database.reading() as tx:
                mark = None if self._new else await self._marked_until(tx)
            if mark is not None:
                await self._ctx.clock.wait(None, later(self._ctx.clock.now(), self._ctx.patience.heard_settle_s))
            gaps, heard = self._gaps, heard_until()  # the reading may miss what comes later
            if mark is not None:
                await self._read_back(mark)
            self._new = False
            self._closed, self._unknown, self._locked = gaps, self._gaps != gaps, False
            await self._put(heard)
        await self._mark(heard_until())

    async def _marked_until(self, tx: AsyncConnection) -> datetime | None:
        """Return the watermark; 0.1.0 kept none, but the requests it took."""
        return await checkpoints.get(tx, Mark.HEARD) or await inbox.newest(tx)

    def _no_token(self, err: SlackLocked) -> None:
        """Leave the gap open until a start with a valid token; no reply waits for that."""
        self._unknown = False
        self._unread.clear()
        if not self._locked:
            log.error("slack.not_read_back", code=err.code, help="mend the token and restart: then it is read back")
        self._locked = True

    async def _mark(self, heard: datetime | None) -> None:
        """Advance the watermark, unless something before it may be missing."""
        if self._gaps == self._closed:
            await self._put(heard)

    async def _put(self, heard: datetime | None) -> None:
        if heard is None or heard == self._marked:  # an earlier time is written too: the clock was set back
            return
        async with self._ctx.database.transaction() as tx:
            await checkpoints.put(tx, Mark.HEARD, heard)
        self._marked = heard

    # --- one reading --------------------------------------------------------------------------------------------

    async def _read_back(self, mark: datetime) -> None:
        """Read threads of live runs, then places, then other threads, each newest first, within the limit of calls."""
        now, patience = self._ctx.clock.now(), self._ctx.patience
        since = max(later(min(mark, now), -patience.heard_margin_s), later(now, -patience.heard_back_s))
        reading = Round(since)
        if not self._locked:
            log.info("slack.reading_back", since=since.isoformat(timespec="seconds"))
        async with self._ctx.database.reading() as tx:
            live = await threads.of_runs(tx, self._ctx.links.us.team, live=True)
            ended = await threads.of_runs(tx, self._ctx.links.us.team, live=False, news_after=since - ENDED_LATELY)
            known = await threads.places(tx, self._ctx.links.us.team)
        self._unread, self._unknown = set(live), False
        await self._read_threads(reading, live)
        self._unread.clear()  # a thread that could not be read holds up nobody
        await self._read_all(reading, [Spot(channel) for channel in await self._places(reading, known)])
        await self._read_threads(reading, [*reading.seen, *ended])
        unread = dict(reading.unread)
        level = log.warning if unread else log.info
        level("slack.read_back", new=reading.new, found=reading.found, calls=reading.calls.total(), unread=unread)
        self._ctx.metrics.read_back(complete=not unread)

    async def _places(self, reading: Round, known: Sequence[ChannelId]) -> Sequence[ChannelId]:
        """Return the places the bot is in: those of its runs first, then direct messages, then the others."""
        listed: list[ChannelId] = []
        cursor: str | None = ""
        failures = 0
        while cursor is not None and reading.calls[PLACES] < self._ctx.patience.heard_calls and failures < TRIES:
            await self._turn(PLACES)
            try:
                page, following = await self._ctx.gateway.places(cursor)
            except PASSES as err:
                failures += 1
                await self._wait_out(err, failures)
                continue
            except SlackError as err:  # not every Slack has this call
                raise_if_of_all(err)
                log.warning("slack.places_unknown", code=err.code, help="only places of runs are read back")
                break
            reading.calls[PLACES] += 1
            listed.extend(page)
            cursor = following or None
        listed.sort(key=lambda channel: not channel.startswith("D"))
        return list(dict.fromkeys([*known, *listed]))

    async def _read_threads(self, reading: Round, wanted: Iterable[Thread]) -> None:
        fresh = [one for one in dict.fromkeys(wanted) if one not in reading.met]
        reading.met.update(fresh)
        await self._read_all(reading, [Spot(one.channel, one.ts) for one in fresh])

    async def _read_all(self, reading: Round, spots: Iterable[Spot]) -> None:
        """Read the first page of each spot, then the second pages, until all is read or the calls are used up."""
        waiting = deque(spots)
        failures = 0
        while waiting:
            spot = waiting.popleft()
            if reading.calls[spot.method] >= self._ctx.patience.heard_calls or spot.tries >= TRIES:
                reading.unread[spot.method] += 1
                continue
            await self._turn(spot.method)
            try:
                page = await self._page(reading, spot)
                await self._keep(reading, page)
            except PASSES as err:
                failures += 1
                waiting.append(replace(spot, tries=spot.tries + 1))
                await self._wait_out(err, failures)
                continue
            except SlackError as err:  # the bot was removed, the thread deleted, a scope taken away
                raise_if_of_all(err)
                log.info("slack.not_readable", code=err.code, channel=spot.channel)
                page = Page()
            except Exception:  # the one catch-all around a page: log, count, go on
                log.exception("slack.page_failed", channel=spot.channel)
                reading.unread[spot.method] += 1
                page = Page()
            failures = 0
            reading.calls[spot.method] += 1
            reading.seen.extend(Thread(spot.channel, ts) for ts in page.threads)
            if page.cursor:
                waiting.append(replace(spot, cursor=page.cursor))
            elif spot.thread is not None:
                self._unread.discard(Thread(spot.channel, spot.thread))

    async def _page(self, reading: Round, spot: Spot) -> Page:
        """Read one page. Raises `SlackError`."""
        us = self._ctx.links.us
        if spot.thread is None:
            return await self._ctx.gateway.said_since(spot.channel, reading.since, us, spot.cursor)
        return await self._ctx.gateway.replies_since(spot.channel, spot.thread, reading.since, us, spot.cursor)

    async def _wait_out(self, err: SlackError, failures: int) -> None:
        """Wait as long as Slack asks, else with exponential backoff."""
        now = self._ctx.clock.now()
        asked = later(now, err.retry_after_s) if isinstance(err, SlackBusy) else None
        await self._ctx.clock.wait(None, asked or retry_at(failures, now, self._ctx.patience))

    async def _keep(self, reading: Round, page: Page) -> None:
        """Commit a page's requests as intake does, waiting while the database is unavailable."""
        for incoming in page.requests:
            reading.found += 1
            while True:
                try:
                    reading.new += await self._remember(incoming)
                    break
                except StoreUnavailable:
                    await self._ctx.clock.wait(None, later(self._ctx.clock.now(), self._ctx.patience.look_around_s))

    async def _turn(self, method: str) -> None:
        """Wait until this method may be called again: reading back can be slow, cards must not be."""
        called = self._called.setdefault(method, deque(maxlen=self._ctx.patience.heard_pace))
        if len(called) == called.maxlen:
            await self._ctx.clock.wait(None, later(called[0], MINUTE_S))
        called.append(self._ctx.clock.now())


def raise_if_of_all(err: SlackError) -> None:
    """Raise an error that concerns every place: with this token nothing can be read."""
    if isinstance(err, SlackLocked):
        raise err
