"""The world of a story: both local servers, the real bot in this process, and a clock that is moved by hand."""

import asyncio
import dataclasses
import shutil
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog
from sqlalchemy import Connection, Dialect, Engine, event

from bot import settings
from bot.app import Bot
from bot.core import words
from bot.core.pacing import Patience
from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message
from bot.simulator.world import Person, Said, World
from bot.store.database import open_database
from tests.core.runs import a_run
from tests.watch import Left, Lines, Watch, is_card, lines_kept, open_rows, tasks_left

hypothesis.settings.register_profile("shared", deadline=None)  # machines are shared, so a time limit proves nothing
hypothesis.settings.load_profile("shared")

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PACE = Patience(ping_s=1.0, socket_again_s=0.05, drain_s=5.0)
"""Production's patience, in the story's time; sockets live in real time, so they are quicker."""
HURRY = replace(PACE, look_around_s=60.0, poll_eager_s=20.0)
"""The same with fewer looks, since each of them costs real time."""
SHARP = timedelta(seconds=30)
"""How long a story stops at each moment when something is due."""
REAL_S = 20.0
"""Real seconds a story may take to settle before it counts as hung."""


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = START
        self.skew = timedelta(0)  # what somebody did to the machine's clock; the servers have their own
        self._waiting: dict[int, tuple[asyncio.Event | None, datetime | None]] = {}
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return self._now + self.skew

    def true(self) -> datetime:
        return self._now

    async def wait(self, event: asyncio.Event | None, until: datetime | None) -> None:
        me = id(asyncio.current_task())
        until = until and until - self.skew
        self._waiting[me] = (event, until)
        try:
            while not (event and event.is_set()) and not (until and self._now >= until):
                looks = [asyncio.ensure_future(one.wait()) for one in (event, self._moved) if one]
                try:
                    await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for look in looks:
                        look.cancel()
        finally:
            del self._waiting[me]

    def resting(self) -> int:
        """Return how many wait and have no reason to continue yet."""
        return sum(
            not (event and event.is_set()) and not (until and self._now >= until)
            for event, until in self._waiting.values()
        )

    def next_due(self) -> datetime | None:
        return min((until for _, until in self._waiting.values() if until), default=None)

    def move(self, to: datetime) -> None:
        self._now = to
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class Story(World):
    """The world with our bot in it. Time moves only when every loop waits and both servers are idle."""

    alice: Person
    bob: Person

    def __init__(
        self,
        clock: HandClock,
        slack: LocalSlack,
        openhands: LocalOpenHands,
        *,
        folder: Path,
        tables: Path,
        lines: Lines,
    ) -> None:
        """folder: the bot's own. tables: a database with empty tables. lines: what is logged."""
        super().__init__(slack, openhands, self.settles)
        self._tables = tables
        self.lines = lines
        self._watch = Watch(slack, openhands, lines)
        self._leaves: list[str] = []
        self.clock = clock
        self.patience = HURRY
        self.given: dict[str, Any] = {}
        self._folder = folder
        self._bot: Bot | None = None
        self._started = False
        self._running: asyncio.Task[None] | None = None

    @property
    def bot(self) -> Bot:
        assert self._bot is not None, "the bot does not run"
        return self._bot

    @property
    def database(self) -> Path:
        return self._folder / "openhands.db"

    def settings(self) -> settings.Settings:
        return settings.load(
            _env_file=None,
            **{
                "slack_bot_token": self.slack.bot_token,
                "slack_app_token": self.slack.app_token,
                "slack_api_url": self.slack.api_url,
                "openhands_api_key": "key",
                "openhands_base_url": self.openhands.base_url,
                "database_url": f"sqlite:///{self.database}",
                "max_runs_per_hour": 0,  # some stories ask for more within theirs
                **self.given,
            },
        )

    async def starts(self) -> None:
        """Start the bot and wait until it settles. The first start copies ready-made tables: making them is slow."""
        if not self.database.exists() and "database_url" not in self.given:
            shutil.copy(self._tables, self.database)
        self._bot = Bot(self.settings(), self.clock, self.patience)
        self._started = True
        self._running = asyncio.create_task(self._bot.run())
        ready = asyncio.create_task(self._bot.ready.wait())
        await asyncio.wait([self._running, ready], timeout=REAL_S, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._running.done():
            await self._running
        await self.settles()

    async def stops(self) -> None:
        """Stop the bot as SIGTERM does."""
        if self._bot is not None and self._running is not None:
            self._bot.stop()
            await asyncio.wait([self._running], timeout=REAL_S)
            assert self._running.done(), "the bot does not stop"
            if not self._running.cancelled():  # as by a story that failed while it waited for the end
                self._running.result()
        self._bot = self._running = None

    async def restarts(self) -> None:
        await self.stops()
        await self.starts()

    def _resting(self) -> bool:
        bot = self._bot
        if bot is None or bot.dispatcher is None or bot.sender is None or bot.poller is None:
            return self.slack.idle and self.openhands.idle
        ours = 6 + len(bot.dispatcher.lanes.under_way) + len(bot.sender.lanes.under_way) + len(bot.poller.reading)
        resting = (
            self.clock.resting() + self.openhands.timers.parked
        )  # a call may wait for the agent and thereby for time
        return resting >= ours and self.slack.idle and self.openhands.idle and self.slack.sockets > 0

    async def settles(self) -> None:
        """Wait, in real time, until nothing is left to do before the clock moves."""
        deadline = asyncio.get_running_loop().time() + REAL_S
        quiet = 0
        while quiet < 3:
            await asyncio.sleep(0.001)
            await self.openhands.tick()  # so that what is due happens even without a call
            quiet = quiet + 1 if self._resting() else 0
            if self._running is not None and self._running.done():
                await self._running
            assert asyncio.get_running_loop().time() < deadline, "the story does not come to rest"

    async def passes(self, seconds: float, *, stopping_at_all: bool = False) -> None:
        """Move time forward, stopping whenever something is due; after half a minute at fewer moments.

        It is as on a machine that is slow to wake up: nothing may hang on the very second, and each stop costs real time.
        stopping_at_all: for what is only seen between two looks, or is told with its time.
        """
        start = self.clock.true()
        end = start + timedelta(seconds=seconds)
        await self.settles()
        while (now := self.clock.true()) < end:
            together = timedelta() if stopping_at_all else max(now - start - SHARP, timedelta()) / 10
            await self._moves(min(end, max(self.clock.next_due() or end, now + together)))

    async def _moves(self, to: datetime) -> None:
        self.clock.move(to)
        await self.slack.tick()
        await self.openhands.tick()
        await self.settles()

    # --- looking at what happened -------------------------------------------------------------------------------

    def person(self, name: str, **kind: Any) -> Person:
        return Witness(self, name, self.slack.add_user(name, **kind))

    def posts(self, in_: str, *, thread: str | None = None) -> list[Message]:
        return self._watch.saw(super().posts(in_, thread=thread))

    def cards(self, in_: str = "#dev") -> list[Message]:
        """Return the bot's cards in a place."""
        return self._watch.saw([one for one in super().posts(in_) if is_card(one)])

    def card(self, in_: str = "#dev") -> "Card":
        """Return the only card in a place."""
        [card] = self.cards(in_)
        return read_card(card)

    def news(self, in_: str = "#dev") -> list[str]:
        """Return the texts of everything else the bot posted in a place."""
        return [one.text for one in self._watch.saw([one for one in super().posts(in_) if not is_card(one)])]

    def reactions(self, said: Said) -> list[str]:
        """Return the reactions on what a person wrote, in the order they were given."""
        message = self.slack.message(said.channel, said.ts)
        assert message is not None, "it was deleted"
        return self._watch.saw_reactions(message)

    def looked_at_everything(self) -> None:
        """Count all that was said as looked at. Fails if an error was logged: warnings may be."""
        for channel in self.slack._workspace.channels:
            self.posts(channel)
            for one in self.slack.messages(channel):
                self._watch.saw_reactions(one)
        for user in self.slack._workspace.users:
            self._watch.saw_alone(user)
        errors = [line for line in self.lines.open if line["level"] != "warning"]
        assert errors == []
        self.lines.open.clear()

    def kept(self) -> list[str]:
        """Return the keys of all requests the bot ever stored."""
        with closing(sqlite3.connect(self.database)) as file:
            return [key for (key,) in file.execute("SELECT key FROM inbox ORDER BY seq")]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return and claim the lines logged at warning or above under this name. Fails if there are none."""
        lines = self.lines.claim(event)
        assert lines, f"{event} was not logged"
        return lines

    def leaves(self, *left: str) -> None:
        """Declare what this story leaves without looking at it, each as a failure would name it."""
        self._leaves += left

    def finish(self) -> list[Left]:
        """Return what nobody looked at. Fails if `leaves` declared something that is not there."""
        notify = self.given.get("notify_channel")
        left = [*self._watch.left(notify and self.place(notify)), *self._open_rows()]
        named = Counter(self._leaves)
        left = [one for one in left if not (named[one.short] > 0 and not named.subtract([one.short]))]
        assert not +named, f"not there: {list((+named).elements())}"
        return left

    def _open_rows(self) -> list[Left]:
        try:
            return [*open_rows(self.database)] if self._started and "database_url" not in self.given else []
        except sqlite3.Error:
            return []

    @property
    def conversation(self) -> Conversation:
        """The only conversation that OpenHands has."""
        [conversation] = self.openhands.conversations.values()
        return conversation


class Witness(Person):
    """A person whose looks the story's watch records."""

    def __init__(self, world: Story, name: str, id: str) -> None:  # noqa: A002 - Slack's word
        super().__init__(world, name, id)
        self._watch = world._watch

    def sees(self) -> list[str]:
        self._watch.saw_alone(self.id)
        return super().sees()


@dataclasses.dataclass(frozen=True)
class Card:
    """What a card shows: the label of its state, the task, and its other lines."""

    state: str
    task: str
    lines: tuple[str, ...]

    def __contains__(self, part: str) -> bool:
        return any(part in line for line in self.lines)


WHO_HEARS = [words.who_hears(a_run(mentions_only=only)) for only in (False, True)]
"""What every new card says of replies: `tests/core/test_cards.py` looks at it."""


def read_card(message: Message) -> Card:
    head, task, *lines = message.text.split("\n")
    lines = [line for line in lines if line not in WHO_HEARS]
    return Card(head.strip("*").split(" ", 1)[1], task, tuple(lines))


async def until(true: Callable[[], bool], seconds: float = REAL_S) -> None:
    """Wait in real time until something is true. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - no event announces what a server or another process does
            await asyncio.sleep(0.001)


DIALECTS: dict[type[Dialect], Dialect] = {}
COMPILED: dict[Any, Any] = {}


@event.listens_for(Engine, "engine_connect")
def compiled_once(connection: Connection) -> None:
    """Let all stories of this process share the SQL that SQLAlchemy compiled: each has engines of its own.

    It compiles for a dialect object, of which each engine has one; those for SQLite are all alike.
    """
    if connection.dialect.name == "sqlite":
        connection.dialect = DIALECTS.setdefault(type(connection.dialect), connection.dialect)
        connection.execution_options(compiled_cache=COMPILED)


Make = Callable[..., Awaitable[Story]]
FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """Print tracebacks as the bot does: structlog's default, with every variable, takes seconds per traceback."""
    printed = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, printed]
    )


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database made by the bot's own migrations, once for all stories."""
    file = tmp_path_factory.mktemp("tables") / "openhands.db"

    async def make() -> None:
        await (await open_database(f"sqlite:///{file}")).close()

    asyncio.run(make())
    return file


@pytest.fixture
async def make_world(tmp_path: Path, tables: Path, request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Return a function that makes a world with its own settings or servers, and starts the bot unless told not to."""
    made: list[Story] = []

    async def make(
        *, start: bool = True, patience: Patience = HURRY, openhands: dict[str, Any] | None = None, **given: Any
    ) -> Story:
        clock = HandClock()
        slack = LocalSlack(now=clock.true)
        server = LocalOpenHands(now=clock.true, key="key", **(openhands or {}))
        await slack.start()
        await server.start()
        story = Story(clock, slack, server, folder=tmp_path, tables=tables, lines=lines)
        story.given, story.patience = given, patience
        story.alice, story.bob = story.person("alice"), story.person("bob")
        story.channel("#dev", story.alice, story.bob)
        story.channel("#news")
        made.append(story)
        if start:
            await story.starts()
        return story

    with lines_kept() as lines:
        yield make
        try:
            for story in made:
                await story.stops()
        finally:
            for story in made:
                await story.slack.stop()
                await story.openhands.stop()
        left = await tasks_left()
    for story in made:
        assert story.slack.violations == [], "Slack was asked for something it does not know"
        assert story.openhands.violations == [], "OpenHands was asked for something it does not know"
    if FAILED not in request.node.stash:
        left += [one for story in made for one in story.finish()]
        assert not left, "nobody looked at\n" + "\n".join(f"{one.short}\n    {one.whole}" for one in left)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember that a story failed, so that it is not also blamed for what it did not look at."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture
async def world(make_world: Make) -> Story:
    """Return the usual world: V1, alice and bob in #dev, and #news as the team's channel."""
    return await make_world(notify_channel="#news")
