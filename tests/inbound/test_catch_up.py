"""Reading back on a local Slack: what is read, how much of it, how fast, and from when."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bot.context import Context
from bot.core.cards import sentence
from bot.core.errors import StoreUnavailable
from bot.core.model import ChannelId, Incoming, MessageTs, RowId, RunState, TeamId
from bot.core.pacing import Patience
from bot.door import Door
from bot.effects import Links
from bot.inbound.catch_up import CatchUp
from bot.openhands import OpenHands
from bot.openhands.repositories import Repositories
from bot.slots import Limits
from bot.store import checkpoints, inbox, runs
from bot.store.checkpoints import Mark
from bot.store.database import Database, open_database
from tests.slack.bench import Bench, bench
from tests.store.bench import a_message, a_run, file_in

MINUTES = timedelta(minutes=5)
LATE_S = 10.0  # real seconds after which a test counts as hung
REPLIES, HISTORY, PLACES = "conversations.replies", "conversations.history", "users.conversations"


async def no_openhands() -> OpenHands:
    raise AssertionError("reading back asks only Slack")


@dataclass
class Reader:
    """The loop that reads back, beside nothing else."""

    at: Bench
    database: Database
    folder: Path
    catch_up: CatchUp
    team: TeamId
    heard: list[Incoming] = field(default_factory=list)
    failures: int = 0
    """How many of the next requests the database does not take."""
    mistakes: int = 0
    """How many of the next requests meet a mistake of ours."""
    heard_until: datetime | None = None
    task: "asyncio.Task[None] | None" = None

    async def remember(self, incoming: Incoming) -> bool:
        """Take a request; one that was heard before is not new."""
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable(perhaps_saved=False)
        if self.mistakes:
            self.mistakes -= 1
            raise ValueError
        self.heard.append(incoming)
        return incoming not in self.heard[:-1]

    async def marked(self, at: datetime) -> None:
        async with self.database.transaction() as tx:
            await checkpoints.put(tx, Mark.HEARD, at)

    async def mark(self) -> datetime | None:
        async with self.database.reading() as tx:
            return await checkpoints.get(tx, Mark.HEARD)

    async def thread(
        self, number: int, *, state: RunState = RunState.WORKING, age_s: float = 0.0, in_: str | None = None
    ) -> MessageTs:
        """Have a run in a thread of #dev or another place, whose last news is so old."""
        channel = ChannelId(in_ or self.at.dev)
        root = MessageTs(await self.says(f"root {number}", in_=channel))
        news_at = self.at.clock.now() - timedelta(seconds=age_s)
        run = a_run(f"run-{number}", team=self.team, channel=channel, state=state, thread_ts=root, news_at=news_at)
        async with self.database.transaction() as tx:
            await runs.add(tx, run)
            await runs.own_thread(tx, run, root, every_reply=True)
        return root

    async def gap(self) -> None:
        """Let what was said so far have arrived, some minutes later be a gap, and now be some minutes later still."""
        await self.marked(self.at.clock.now() + MINUTES)
        self.at.clock.move(self.at.clock.now() + 2 * MINUTES)

    async def says(self, text: str, *, thread: str | None = None, in_: str | None = None) -> str:
        text = self.at.slack.wire(text)
        return await self.at.slack.say(self.at.alice, in_ or self.at.dev, text, thread_ts=thread)

    def starts(self) -> None:
        self.task = asyncio.create_task(self.catch_up.run(lambda: self.heard_until))

    async def stops(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(LATE_S):
            while not reached():  # noqa: ASYNC110 - what it waits for is on the other side of a wire
                await asyncio.sleep(0.001)

    async def rests(self) -> None:
        """Wait until the loop waits for time to pass."""
        await self.until(lambda: self.at.clock.resting() == 1)

    async def passes(self, seconds: float) -> None:
        """Let time pass, stopping wherever something is due."""
        end = self.at.clock.now() + timedelta(seconds=seconds)
        while self.at.clock.now() < end:
            await self.rests()
            self.at.clock.move(min(end, self.at.clock.next_due() or end))
        await self.rests()

    async def reads(self, seconds: float = 0.0) -> None:
        """Have a gap read back, and let so much time pass."""
        self.heard_until = self.at.clock.now()
        self.catch_up.missed()
        if self.task is None:
            self.starts()
        await self.passes(seconds)

    def texts(self) -> list[str]:
        return [one.text for one in self.heard]

    def called(self, method: str) -> list[Any]:
        return [call for call in self.at.slack.calls if call.method == method]

    def read_threads(self) -> list[str]:
        return [call.args["ts"] for call in self.called(REPLIES)]


@asynccontextmanager
async def reader(folder: Path, patience: Patience) -> AsyncIterator[Reader]:
    async with bench() as at:
        database = await open_database(file_in(folder))
        us, _ = await at.gateway.identity()
        ctx = Context(
            database=database,
            gateway=at.gateway,
            door=Door(at.gateway, us),
            openhands=no_openhands,
            repositories=Repositories(no_openhands, at.clock, patience),
            links=Links(us, "https://openhands.example", notifies=False),
            limits=Limits(slots=10, full_s=60.0),
            clock=at.clock,
            patience=patience,
        )
        made: Reader

        async def remember(incoming: Incoming) -> bool:
            return await made.remember(incoming)

        made = Reader(at, database, folder, CatchUp(ctx, remember), us.team)
        try:
            yield made
        finally:
            await made.stops()
            await database.close()


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Reader]:
    """Return a reader as in production."""
    async with reader(tmp_path, Patience(heard_settle_s=0.0)) as made:
        yield made


@pytest.fixture
async def bounded(tmp_path: Path) -> AsyncIterator[Reader]:
    """Return one that may read three pages of each kind, two a minute."""
    async with reader(tmp_path, Patience(heard_settle_s=0.0, heard_calls=3, heard_pace=2)) as made:
        yield made


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as caught:
        yield caught


@contextmanager
def table_away(folder: Path, table: str = "marks") -> Iterator[None]:
    """Take a table away, so that the database fails at once."""
    with closing(sqlite3.connect(folder / "openhands.db")) as file:
        file.execute(f"ALTER TABLE {table} RENAME TO away")
        yield
        file.execute(f"ALTER TABLE away RENAME TO {table}")


def accounts(logs: list[EventDict]) -> list[tuple[Any, Any, Any]]:
    """Return what each reading came to: requests found, calls, and what was left unread."""
    return [(one["found"], one["calls"], one["unread"]) for one in logs if one["event"] == "slack.read_back"]


def oldest(call: Any) -> datetime:
    return datetime.fromtimestamp(float(call.args["oldest"]), UTC)


# --- what is read ------------------------------------------------------------------------------------------------


async def test_everything_said_to_the_bot_is_found(quick: Reader, logs: list[EventDict]) -> None:
    """Live threads first, then places, then other threads: of runs that ended, or that places show to have news."""
    direct = quick.at.slack.dm(quick.at.alice)
    ended = await quick.thread(1, state=RunState.DONE)
    live = await quick.thread(2)
    talk = await quick.says("the links are dead")
    await quick.gap()
    await quick.says("fix README in org/repo", in_=direct)
    await quick.says("@OpenHands fix the docs")
    await quick.says("and the tests", thread=live)
    await quick.says("once more", thread=ended)
    await quick.says("@OpenHands fix that", thread=talk)
    await quick.reads()

    us = f"<@{quick.at.slack.bot_user_id}>"
    assert quick.texts() == [
        "and the tests",
        f"{us} fix the docs",
        "fix README in org/repo",
        f"{us} fix that",
        "once more",
    ]
    assert [(one.direct, one.mentions_us, one.thread_ts) for one in quick.heard] == [
        (False, False, live),
        (False, True, None),
        (True, False, None),
        (False, True, talk),
        (False, False, ended),
    ]
    assert accounts(logs) == [(5, 6, {})]


async def test_what_no_person_said_is_passed_over(quick: Reader) -> None:
    """Our own messages, other bots and joins are no requests, as ever."""
    robot, bob = quick.at.slack.add_user("robot", bot=True), quick.at.slack.add_user("bob")
    quick.at.slack.join(quick.at.dev, robot)
    await quick.gap()
    quick.at.slack.join(quick.at.dev, bob)
    await quick.at.slack.say(robot, quick.at.dev, quick.at.slack.wire("@OpenHands hello"))
    await quick.at.gateway.post(quick.at.dev, sentence("hello"), RowId("1"))
    await quick.reads()

    assert quick.heard == []


async def test_long_threads_and_places_are_read_to_their_end(quick: Reader) -> None:
    """Page by page: a thread forwards, a place back in time as far as the gap goes."""
    live = await quick.thread(1)
    for number in range(400):
        await quick.says(f"before {number}")
    await quick.gap()
    for number in range(250):
        await quick.says(f"reply {number}", thread=live)
        await quick.says(f"after {number}")
    await quick.reads()

    assert len(quick.called(REPLIES)) == 2
    assert len(quick.called(HISTORY)) == 2
    assert {*quick.texts()} == {f"{kind} {number}" for kind in ("reply", "after") for number in range(250)}
    assert quick.texts()[:250] == [f"reply {number}" for number in range(250)]


async def test_a_place_that_cannot_be_read_costs_nothing_else(quick: Reader, logs: list[EventDict]) -> None:
    """The bot was removed, a thread deleted: the others are read."""
    live = await quick.thread(1)
    quick.at.slack.add_channel("ops")
    await quick.gap()
    await quick.says("@OpenHands fix README")
    quick.at.slack.fail(REPLIES, error="thread_not_found")
    quick.at.slack.fail(HISTORY, error="channel_not_found", channel=quick.at.slack.add_channel("gone"))
    await quick.reads()

    assert (len(quick.heard), quick.read_threads()) == (1, [live])
    assert [one["code"] for one in logs if one["event"] == "slack.not_readable"] == [
        "thread_not_found",
        "channel_not_found",
    ]


async def test_a_slack_that_lists_no_places_is_read_where_runs_are(quick: Reader, logs: list[EventDict]) -> None:
    """Those places are always known."""
    await quick.thread(1)
    quick.at.slack.add_channel("ops")
    await quick.gap()
    await quick.says("@OpenHands fix README")
    quick.at.slack.fail(PLACES, error="unknown_method")
    quick.at.slack.fail("conversations.list", error="unknown_method")
    await quick.reads()

    assert [call.args["channel"] for call in quick.called(HISTORY)] == [quick.at.dev]
    assert len(quick.heard) == 1
    assert "slack.places_unknown" in [one["event"] for one in logs]
    assert accounts(logs) == [(1, 2, {PLACES: 1})]


@pytest.mark.parametrize(
    "refusal", [{"error": "unknown_method"}, {"status": 404, "html": True}], ids=["in words", "as a page"]
)
async def test_a_slack_with_the_older_list_is_read_everywhere_too(quick: Reader, refusal: dict[str, Any]) -> None:
    """It lists channels of others as well, which are left out."""
    direct = quick.at.slack.dm(quick.at.alice)
    quick.at.slack.add_channel("theirs", bot_member=False)
    await quick.gap()
    quick.at.slack.fail(PLACES, **refusal)
    await quick.reads()

    assert {call.args["channel"] for call in quick.called(HISTORY)} == {direct, quick.at.dev}


async def test_places_are_listed_to_the_end(quick: Reader) -> None:
    """Page by page: those of runs first, then direct messages, then the others."""
    await quick.thread(1)
    others = [quick.at.slack.add_channel(f"channel-{number}") for number in range(199)]
    direct = quick.at.slack.dm(quick.at.alice)
    await quick.gap()
    await quick.reads(360)

    assert len(quick.called(PLACES)) == 2
    assert [call.args["channel"] for call in quick.called(HISTORY)] == [quick.at.dev, direct, *others[:98]]


# --- from when ---------------------------------------------------------------------------------------------------


async def test_a_first_start_reads_nothing(quick: Reader) -> None:
    """What people said before the bot was there is not for it; from here on it is known until when all arrived."""
    await quick.says("@OpenHands fix README in org/repo")
    await quick.catch_up.begin()
    await quick.reads()

    assert (quick.heard, await quick.mark()) == ([], quick.at.clock.now())
    assert {call.method for call in quick.at.slack.calls} == {"auth.test"}


async def test_a_first_start_that_is_killed_at_once_leaves_a_mark(quick: Reader) -> None:
    """It may have been connected, and killed before it could write until when it heard all."""
    await quick.catch_up.begin()
    quick.at.clock.move(quick.at.clock.now() + MINUTES)
    await quick.says("@OpenHands fix README in org/repo")
    quick.catch_up = CatchUp(quick.catch_up._ctx, quick.remember)
    await quick.catch_up.begin()
    await quick.reads()

    assert quick.texts() == [f"<@{quick.at.slack.bot_user_id}> fix README in org/repo"]


@pytest.mark.parametrize(
    ("mark_s", "read_s"),
    [(-60, -180), (-30 * 86400, -6 * 86400), (3600, -120)],
    ids=["clocks differ", "long ago", "a clock that went back"],
)
async def test_reading_begins_somewhat_before_the_mark(quick: Reader, mark_s: float, read_s: float) -> None:
    """Two minutes, for clocks that differ; never earlier than keys are surely kept, nor later than now."""
    await quick.thread(1)
    now = quick.at.clock.now()
    await quick.marked(now + timedelta(seconds=mark_s))
    await quick.reads()

    [call] = quick.called(REPLIES)
    assert oldest(call) == now + timedelta(seconds=read_s)


async def test_threads_that_ended_long_ago_are_left_alone(quick: Reader) -> None:
    """People seldom reply there, and each costs a call at every gap."""
    await quick.thread(1, state=RunState.DONE, age_s=3 * 86400.0)
    lately = await quick.thread(2, state=RunState.STOPPED, age_s=86400.0)
    await quick.gap()
    await quick.reads()

    assert quick.read_threads() == [lately]


# --- the mark ----------------------------------------------------------------------------------------------------


async def test_the_mark_moves_when_a_gap_is_read_and_as_time_passes(quick: Reader) -> None:
    """To the last sign of life of the connection, every half minute at most, and at a stop."""
    await quick.gap()
    await quick.reads()
    after_reading = await quick.mark()
    quick.heard_until = later = quick.at.clock.now() + timedelta(seconds=29)
    await quick.passes(29)
    too_soon = await quick.mark()
    await quick.passes(1)
    in_time = await quick.mark()
    quick.heard_until = last = quick.at.clock.now()
    await quick.stops()

    assert (after_reading, too_soon, in_time) == (quick.heard_until - timedelta(seconds=30), after_reading, later)
    assert await quick.mark() == last


async def test_the_mark_stays_while_a_gap_is_not_read(bounded: Reader) -> None:
    """A stop in the middle changes nothing: the next start begins from the old mark."""
    for number in range(3):
        await bounded.thread(number)
    await bounded.gap()
    mark = await bounded.mark()
    await bounded.reads(30)
    read = len(bounded.called(REPLIES))
    await bounded.stops()

    assert (read, await bounded.mark()) == (2, mark)


async def test_a_gap_while_one_is_read_is_read_after_it(bounded: Reader) -> None:
    """What is known after the first reading is known: the second begins there."""
    threads = [await bounded.thread(number, age_s=number) for number in range(3)]
    await bounded.gap()
    heard_until = bounded.at.clock.now()
    await bounded.reads(30)
    await bounded.says("meanwhile", thread=threads[0])
    bounded.catch_up.missed()
    bounded.heard_until = bounded.at.clock.now()
    await bounded.passes(200)

    assert bounded.read_threads() == threads * 2
    assert oldest(bounded.called(REPLIES)[-1]) == heard_until - timedelta(seconds=120)
    assert await bounded.mark() == bounded.heard_until


async def test_gaps_in_quick_succession_are_read_back_once(tmp_path: Path) -> None:
    """A connection that comes and goes costs no calls; meanwhile the mark stays."""
    async with reader(tmp_path, Patience()) as patient:
        await patient.thread(1)
        await patient.gap()
        mark = await patient.mark()
        await patient.reads(2)
        patient.catch_up.missed()
        await patient.passes(0.9)
        early = (patient.read_threads(), await patient.mark())
        patient.heard_until = patient.at.clock.now()
        await patient.passes(0.1)

        assert early == ([], mark)
        assert (len(patient.read_threads()), await patient.mark()) == (1, patient.heard_until)


async def test_a_mark_that_cannot_be_written_is_written_later(quick: Reader, logs: list[EventDict]) -> None:
    """An unreachable database ends nothing; a stop says that the next start will read somewhat more."""
    await quick.gap()
    mark = await quick.mark()
    with table_away(quick.folder):
        await quick.reads()
        await quick.passes(30)
    await quick.passes(30)
    written = await quick.mark()
    quick.heard_until = quick.at.clock.now()
    with table_away(quick.folder):
        await quick.stops()

    assert mark is not None
    assert written == mark + MINUTES
    assert [one["event"] for one in logs if one["log_level"] == "warning"] == ["slack.not_marked"]


async def test_without_a_mark_the_newest_request_is_one(quick: Reader) -> None:
    """0.1.0 kept no mark: what people wrote during the upgrade is read back from the last request it took."""
    await inbox.add(quick.database, a_message("1.0", mentions_us=True), quick.at.clock.now())
    quick.at.clock.move(quick.at.clock.now() + MINUTES)
    await quick.says("@OpenHands fix README")
    await quick.reads(60)
    assert quick.texts() == [f"<@{quick.at.slack.bot_user_id}> fix README"]


async def test_the_mark_follows_a_clock_that_is_put_back(quick: Reader) -> None:
    """Left in the future it would hide the next gap."""
    await quick.gap()
    await quick.reads()
    quick.heard_until = put_back = quick.at.clock.now() - timedelta(hours=5)
    await quick.passes(30)

    assert await quick.mark() == put_back


# --- what waits for it -------------------------------------------------------------------------------------------


def a_reply(quick: Reader, thread: MessageTs) -> Incoming:
    return replace(a_message("99.0"), channel=quick.at.dev, thread_ts=thread)


async def test_a_later_reply_waits_while_the_database_keeps_a_gap_open(quick: Reader) -> None:
    """Nothing was read yet: let through, it would go before older ones."""
    live = await quick.thread(1)
    await quick.gap()
    with table_away(quick.folder):
        await quick.reads()
        meanwhile = quick.catch_up.is_ahead(a_reply(quick, live))
    await quick.passes(5)  # it looks again as soon as every loop does

    assert (meanwhile, quick.catch_up.is_ahead(a_reply(quick, live))) == (True, False)
    assert quick.read_threads() == [live]


async def test_a_later_reply_waits_for_the_second_of_two_gaps(tmp_path: Path) -> None:
    """That the first is closed does not mean that the thread is read."""
    async with reader(tmp_path, Patience(heard_settle_s=3.0, heard_pace=1)) as slow:
        live = await slow.thread(1)
        await slow.thread(2, age_s=1)
        await slow.gap()
        await slow.reads(30)
        slow.catch_up.missed()
        reply = a_reply(slow, live)
        ahead = []
        while len(slow.read_threads()) < 3:
            ahead.append(slow.catch_up.is_ahead(reply))
            await slow.passes(1)

        assert {*ahead} == {True}
        assert not slow.catch_up.is_ahead(reply)


async def test_a_thread_in_which_somebody_waits_is_read_next(bounded: Reader) -> None:
    """Beyond the pace, too: the others can wait, a person should not."""
    threads = [await bounded.thread(number, age_s=-number) for number in range(6)]
    await bounded.gap()
    await bounded.reads(1)
    reply = a_reply(bounded, threads[0])
    before = bounded.catch_up.is_ahead(reply)
    await bounded.passes(1)

    assert bounded.read_threads() == [threads[5], threads[4], threads[0]]
    assert (before, bounded.catch_up.is_ahead(reply)) == (True, False)


async def test_a_reply_waits_five_minutes_at_most(quick: Reader) -> None:
    """Slack lets nobody read threads for hours, while everything else works: people are not kept waiting for that."""
    live = await quick.thread(1)
    for number in range(2, 10):
        await quick.thread(number)
    await quick.gap()
    quick.at.slack.fail(REPLIES, status=500, times=1000)
    await quick.reads(299)
    before = quick.catch_up.is_ahead(a_reply(quick, live))
    await quick.passes(1)

    assert (before, quick.catch_up.is_ahead(a_reply(quick, live))) == (True, False)


# --- bounds and faults -------------------------------------------------------------------------------------------


async def test_sixty_live_threads_are_read_at_a_pace_that_leaves_room(quick: Reader, logs: list[EventDict]) -> None:
    """Twenty calls of a method in any minute, of the fifty Slack allows; the newest news first."""
    threads = [await quick.thread(number, age_s=-number) for number in range(60)]
    await quick.gap()
    for thread in threads:
        await quick.says("and the docs", thread=thread)
    await quick.reads(120)

    assert quick.read_threads() == threads[::-1]
    times = [call.at for call in quick.called(REPLIES)]
    assert all(after - before >= timedelta(minutes=1) for before, after in zip(times, times[20:], strict=False))
    assert accounts(logs) == [(60, 62, {})]


async def test_what_is_too_much_for_one_gap_is_counted(bounded: Reader, logs: list[EventDict]) -> None:
    """The newest is read, the rest is named in the log, and read ten minutes later; until then the mark stays."""
    threads = [await bounded.thread(number, age_s=-number) for number in range(5)]
    for number in range(3):
        bounded.at.slack.add_channel(f"more-{number}")
    await bounded.gap()
    mark = await bounded.mark()
    await bounded.reads(300)
    assert bounded.read_threads() == threads[:1:-1]
    assert accounts(logs) == [(0, 7, {REPLIES: 2, HISTORY: 1})]
    assert await bounded.mark() == mark

    await bounded.passes(700)
    assert bounded.read_threads() == threads[::-1]
    assert accounts(logs)[1:] == [(0, 4, {})]
    assert await bounded.mark() == bounded.heard_until


async def test_a_thread_that_a_full_round_found_is_read_in_the_next(bounded: Reader) -> None:
    """Its place is not read again, which showed it."""
    talk = await bounded.says("the links are dead")
    for number in range(3):
        await bounded.thread(number)
    await bounded.gap()
    await bounded.says("@OpenHands fix that", thread=talk)
    await bounded.reads(1000)

    assert bounded.texts() == [f"<@{bounded.at.slack.bot_user_id}> fix that"]


async def test_what_is_never_read_is_given_up_in_the_log(quick: Reader, logs: list[EventDict]) -> None:
    """Nothing is held open for ever: after four rounds the mark moves on, and the line says so."""
    await quick.thread(1)
    await quick.gap()
    mark = await quick.mark()
    quick.at.slack.fail(REPLIES, status=500, times=1000)
    await quick.reads(5000)
    before = await quick.mark()
    await quick.passes(2000)

    rest = [one["rest"] for one in logs if one["event"] == "slack.read_back"]
    assert [one.startswith("given up") for one in rest] == [False, False, False, True]
    assert (before, await quick.mark()) == (mark, quick.heard_until)


async def test_limits_and_outages_are_waited_out(quick: Reader, logs: list[EventDict]) -> None:
    """Each method when Slack says, or when it answers again."""
    live = await quick.thread(1)
    await quick.gap()
    await quick.says("and the docs", thread=live)
    quick.at.slack.fail(REPLIES, status=429, retry_after=40)
    quick.at.slack.fail(REPLIES, status=500, times=3)
    quick.at.slack.fail(PLACES, status=429, retry_after=10)
    quick.at.slack.fail(PLACES, drop=True)
    began = quick.at.clock.now()
    await quick.reads(39)
    early = [*quick.heard]
    await quick.passes(60)

    assert (early, quick.texts()) == ([], ["and the docs"])
    assert [(call.at - began).total_seconds() for call in quick.called(REPLIES)] == [0, 40, 42, 46, 54]
    assert accounts(logs) == [(1, 3, {})]


async def test_a_thread_slack_never_answers_for_holds_up_no_other(quick: Reader, logs: list[EventDict]) -> None:
    """The others are read in between; in the end it is given up and counted."""
    ops = quick.at.slack.add_channel("ops", members=[quick.at.alice])
    await quick.thread(1, age_s=-1, in_=ops)
    good = await quick.thread(2)
    await quick.gap()
    await quick.says("and the docs", thread=good)
    quick.at.slack.fail(REPLIES, status=500, times=100, channel=ops)
    await quick.reads(1)
    soon = quick.texts()
    await quick.passes(1400)

    assert soon == ["and the docs"]
    assert [call.args["channel"] for call in quick.called(REPLIES)].count(ops) == 20
    assert accounts(logs) == [(1, 4, {REPLIES: 1})]


async def test_places_that_are_never_listed_are_given_up(quick: Reader, logs: list[EventDict]) -> None:
    """Those of runs are read, and the log counts the list as unread."""
    await quick.thread(1)
    await quick.gap()
    quick.at.slack.fail(PLACES, status=500, times=30)
    await quick.reads(1500)

    assert len(quick.called(HISTORY)) == 1
    assert accounts(logs)[0] == (0, 2, {PLACES: 1})


async def test_a_refused_token_leaves_the_gap_for_a_start_with_a_good_one(quick: Reader, logs: list[EventDict]) -> None:
    """Nothing could be read, so nothing counts as read; that is told once, and nobody waits for it."""
    live = await quick.thread(1)
    await quick.gap()
    mark = await quick.mark()
    quick.at.slack.fail(REPLIES, error="token_revoked", times=3)
    await quick.reads(60)
    refused = (await quick.mark(), accounts(logs), quick.catch_up.is_ahead(a_reply(quick, live)))
    await quick.passes(30)

    assert refused == (mark, [], False)
    assert [(one["event"], one["code"]) for one in logs if one["log_level"] == "error"] == [
        ("slack.not_read_back", "token_revoked")
    ]
    assert (accounts(logs), await quick.mark()) == ([(0, 3, {})], quick.heard_until)


async def test_a_token_refused_for_the_list_of_places_is_refused_for_all(quick: Reader, logs: list[EventDict]) -> None:
    """Only a scope that is missing concerns this call alone."""
    await quick.gap()
    mark = await quick.mark()
    quick.at.slack.fail(PLACES, error="invalid_auth")
    await quick.reads()
    refused = await quick.mark()
    quick.at.slack.fail(PLACES, error="missing_scope")
    await quick.passes(30)

    assert (refused, await quick.mark()) == (mark, quick.heard_until)
    assert "slack.places_unknown" in [one["event"] for one in logs]


async def test_requests_wait_for_the_database(quick: Reader) -> None:
    """What was found is handed in again until it is taken."""
    live = await quick.thread(1)
    await quick.gap()
    await quick.says("and the docs", thread=live)
    quick.failures = 2
    await quick.reads(10)

    assert quick.texts() == ["and the docs"]


async def test_a_mistake_with_one_page_costs_no_other(quick: Reader, logs: list[EventDict]) -> None:
    """It is told with its traceback, and counted."""
    live = await quick.thread(1)
    await quick.gap()
    await quick.says("and the docs", thread=live)
    await quick.says("@OpenHands fix README")
    quick.mistakes = 1
    await quick.reads()

    assert quick.texts() == [f"<@{quick.at.slack.bot_user_id}> fix README"]
    assert accounts(logs) == [(2, 3, {REPLIES: 1})]
    assert [one["event"] for one in logs if one["log_level"] == "error"] == ["slack.page_failed"]
