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
ROUNDS = 4
"""A gap is read back this often before what is left of it is given up."""
AGAIN_S = 600.0
"""Seconds between two of these rounds: outages pass, and other calls need room too."""
TRIES = 20
"""Attempts for one page, with others in between; with the pauses they last at least a quarter of an hour."""
GIVEN_UP = "given up: what people wrote there since then may have got no answer, so ask them to write it again"
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
    def where(self) -> Thread:
        """Return the thread, or the place as a thread without a root."""
        return Thread(self.channel, self.thread or MessageTs(""))

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
    again: bool = False
    """Some of what is unread may be readable later: it was an outage, or too much for one round."""
    met: set[Thread] = field(default_factory=set)
    """Threads that were read, or given up."""


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
        self._wanted: set[Thread] = set()
        """Unread threads in which somebody waits; they are read first."""
        self._hurry = asyncio.Event()
        self._rounds = 0
        """How often the open gap was read back without an end."""
        self._read: set[Thread] = set()
        """What was read to its end in an earlier round for the same gap."""
        self._seen: list[Thread] = []
        """Threads with new replies, as found while reading places, in any round for the same gap."""
        self._begun: set[Thread] = set()
        """Threads whose requests were found while reading places, in any round for the same gap."""
        self._passed_over: set[Thread] = set()
        """Threads in which somebody said what was not for us as far as was known, since the gap."""
        self._round_gaps = 0
        """The gaps at the start of that round."""
        self._again_at = self._ctx.clock.now()
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
        self._ctx.gateway.forget_places()
        self._gaps += 1
        self._unknown = True
        self._hold_until = later(self._ctx.clock.now(), self._ctx.patience.heard_hold_s)
        self._wake.set()

    def is_ahead(self, incoming: Incoming) -> bool:
        """Return whether older replies of the same thread may still be unread: a later one must not overtake them.

        That thread is then read next. False after `heard_hold_s`: people must not wait where Slack does not let the bot
        read.
        """
        if incoming.thread_ts is None or self._ctx.clock.now() >= self._hold_until:
            return False
        thread = Thread(incoming.channel, incoming.thread_ts)
        if thread in self._unread:
            self._wanted.add(thread)
            self._hurry.set()
            return True
        return self._unknown

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
            if self._rounds and self._gaps == self._round_gaps and self._ctx.clock.now() < self._again_at:
                return
            async with self._ctx.database.reading() as tx:
                mark = None if self._new else await self._marked_until(tx)
            if mark is not None:
                await self._ctx.clock.wait(None, later(self._ctx.clock.now(), self._ctx.patience.heard_settle_s))
            gaps, heard = self._gaps, heard_until()  # the reading may miss what comes later
            if gaps != self._round_gaps:
                self._forget()
            ended = mark is None or await self._read_back(mark)
            self._new = False
            self._unknown, self._locked = self._gaps != gaps, False
            if not ended:
                self._rounds, self._round_gaps = self._rounds + 1, gaps
                self._again_at = later(self._ctx.clock.now(), AGAIN_S)
                return
            self._rounds, self._closed = 0, gaps
            self._forget()
            await self._put(heard)
        await self._mark(heard_until())

    def _forget(self) -> None:
        self._seen.clear()
        for found in (self._read, self._begun, self._passed_over):
            found.clear()

    def passed_over(self, incoming: Incoming) -> None:
        """Note a reply that is not for us as far as is known: its request may be among what is still to be read."""
        if self._gaps != self._closed and incoming.thread_ts is not None:
            self._passed_over.add(Thread(incoming.channel, incoming.thread_ts))

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

    async def _read_back(self, mark: datetime) -> bool:
        """Read threads of live runs, then places, then other threads, each newest first, within the limit of calls.

        Return whether that is the end of it: all was read, or the rest is given up. Else another round is to follow.
        """
        now, patience = self._ctx.clock.now(), self._ctx.patience
        since = max(later(min(mark, now), -patience.heard_margin_s), later(now, -patience.heard_back_s))
        reading = Round(since)
        if not self._locked:
            log.info("slack.reading_back", since=since.isoformat(timespec="seconds"))
        async with self._ctx.database.reading() as tx:
            live = await threads.of_runs(tx, self._ctx.links.us.team, live=True)
            ended = await threads.of_runs(tx, self._ctx.links.us.team, live=False, news_after=since - ENDED_LATELY)
            known = await threads.places(tx, self._ctx.links.us.team)
        self._unread, self._unknown = set(live) - self._read, False
        await self._read_threads(reading, live)
        self._unread.clear()  # a thread that could not be read holds up nobody
        self._wanted.clear()
        await self._read_all(reading, [Spot(channel) for channel in await self._places(reading, known)])
        await self._read_threads(reading, [*self._seen, *ended, *(self._begun & self._passed_over)])
        unread = dict(reading.unread)
        counts = {"new": reading.new, "found": reading.found, "calls": reading.calls.total(), "unread": unread}
        self._ctx.metrics.read_back(complete=not unread)
        if not unread:
            log.info("slack.read_back", **counts)
            return True
        again = reading.again and self._rounds + 1 < ROUNDS
        rest = "it is read again in ten minutes, and until then the watermark stays" if again else GIVEN_UP
        log.warning("slack.read_back", **counts, since=since.isoformat(timespec="seconds"), rest=rest)
        return not again

    async def _places(self, reading: Round, known: Sequence[ChannelId]) -> Sequence[ChannelId]:
        """Return the places the bot is in: those of its runs first, then direct messages, then the others."""
        listed: list[ChannelId] = []
        cursor: str | None = ""
        failures = 0
        while cursor is not None:
            if reading.calls[PLACES] >= self._ctx.patience.heard_calls or failures >= TRIES:
                reading.unread[PLACES] += 1
                reading.again = True
                break
            while not await self._is_turn(PLACES):
                pass
            try:
                page, following = await self._ctx.gateway.places(cursor)
            except PASSES as err:
                failures += 1
                await self._wait_out(err, failures)
                continue
            except SlackError as err:  # not every Slack has this call
                raise_if_of_all(err)
                log.warning("slack.places_unknown", code=err.code, help="only places of runs are read back")
                reading.unread[PLACES] += 1
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
        waiting = deque(spot for spot in spots if spot.where not in self._read)
        failures = 0
        while waiting:
            wanted = next((one for one in waiting if one.where in self._wanted and not one.tries), None)
            spot = wanted or waiting[0]
            if reading.calls[spot.method] >= self._ctx.patience.heard_calls or spot.tries >= TRIES:
                waiting.remove(spot)
                reading.unread[spot.method] += 1
                reading.again = True
                self._unread.discard(spot.where)
                continue
            if not await self._is_turn(spot.method, at_once=wanted is not None):
                continue
            waiting.remove(spot)
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
                reading.again = True
                self._unread.discard(spot.where)
                failures = 0
                reading.calls[spot.method] += 1
                continue
            failures = 0
            reading.calls[spot.method] += 1
            self._seen.extend(Thread(spot.channel, ts) for ts in page.threads)
            if page.cursor:
                waiting.append(replace(spot, cursor=page.cursor))
            else:
                self._read.add(spot.where)
                self._unread.discard(spot.where)

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
                    new = await self._remember(incoming)
                    break
                except StoreUnavailable:
                    await self._ctx.clock.wait(None, later(self._ctx.clock.now(), self._ctx.patience.look_around_s))
            reading.new += new
            if new and incoming.thread_ts is None and incoming.ts is not None:
                self._begun.add(Thread(incoming.channel, incoming.ts))

    async def _is_turn(self, method: str, *, at_once: bool = False) -> bool:
        """Wait until this method may be called again: reading back can be slow, cards must not be.

        at_once: somebody waits for it. False: while it waited, a thread came up that somebody waits for.
        """
        called = self._called.setdefault(method, deque(maxlen=self._ctx.patience.heard_pace))
        if len(called) == called.maxlen and not at_once:
            until = min(later(called[0], MINUTE_S), later(self._ctx.clock.now(), MINUTE_S))
            self._hurry.clear()
            await self._ctx.clock.wait(self._hurry, until)
            if self._ctx.clock.now() < until:
                return False
        called.append(self._ctx.clock.now())
        return True


def raise_if_of_all(err: SlackError) -> None:
    """Raise an error that concerns every place: with this token nothing can be read."""
    if isinstance(err, SlackLocked):
        raise err
