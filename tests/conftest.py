"""The world of a story: both local servers, the real bot in this process, and a clock moved by hand."""

import asyncio
import dataclasses
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from bot import settings
from bot.app import Bot
from bot.core.pacing import Patience
from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message
from bot.simulator.world import Person, Said, World
from bot.store.database import open_database

hypothesis.settings.register_profile("shared", deadline=None)  # machines are shared: a bound on time proves nothing
hypothesis.settings.load_profile("shared")

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HURRY = Patience(ping_s=1.0, socket_again_s=0.05, drain_s=5.0, look_around_s=30.0)
"""Production's patience in the story's time. The socket, which lives in real time, is quicker; the loops look around by
themselves more rarely, since every look costs real time."""
REAL_S = 20.0
"""Real seconds a story may take to come to rest before it counts as hung."""


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = START
        self._waiting: dict[int, tuple[asyncio.Event | None, datetime | None]] = {}
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    async def wait(self, event: asyncio.Event | None, until: datetime | None) -> None:
        me = id(asyncio.current_task())
        self._waiting[me] = (event, until)
        woken = asyncio.ensure_future(event.wait()) if event else None
        try:
            while not (event and event.is_set()) and not (until and self._now >= until):
                moved = asyncio.ensure_future(self._moved.wait())
                await asyncio.wait([one for one in (woken, moved) if one], return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
        finally:
            if woken:
                woken.cancel()
            del self._waiting[me]

    def resting(self) -> int:
        """Count those who wait and have no reason to go on yet."""
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
    """The world with our bot in it. It moves the time only when every loop waits and both servers are idle."""

    alice: Person
    bob: Person

    def __init__(
        self, clock: HandClock, slack: LocalSlack, openhands: LocalOpenHands, folder: Path, tables: Path
    ) -> None:
        """folder: the bot's own. tables: a database in which nothing is written yet."""
        super().__init__(slack, openhands, self.settles)
        self._tables = tables
        self.clock = clock
        self.patience = HURRY
        self.given: dict[str, Any] = {}
        self._folder = folder
        self._bot: Bot | None = None
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
                **self.given,
            },
        )

    async def starts(self) -> None:
        """Start the bot and let it come to rest; the first time with tables made before, as making them takes time."""
        if not self.database.exists() and "database_url" not in self.given:
            shutil.copy(self._tables, self.database)
        self._bot = Bot(self.settings(), self.clock, self.patience)
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
            await asyncio.wait_for(self._running, REAL_S)
        self._bot = self._running = None

    async def restarts(self) -> None:
        await self.stops()
        await self.starts()

    def _resting(self) -> bool:
        bot = self._bot
        if bot is None or bot.dispatcher is None or bot.sender is None or bot.poller is None:
            return self.slack.idle and self.openhands.idle
        ours = 4 + len(bot.dispatcher.lanes.under_way) + len(bot.sender.lanes.under_way) + len(bot.poller.reading)
        resting = (
            self.clock.resting() + self.openhands.timers.parked
        )  # a call may wait for the agent, and thus for time
        return resting >= ours and self.slack.idle and self.openhands.idle and self.slack.sockets > 0

    async def settles(self) -> None:
        """Wait, in real time, until nothing is left to do before the clock moves."""
        deadline = asyncio.get_running_loop().time() + REAL_S
        quiet = 0
        while quiet < 3:
            await asyncio.sleep(0.001)
            await self.openhands.tick()  # what is due now happens even if no call comes by
            quiet = quiet + 1 if self._resting() else 0
            if self._running is not None and self._running.done():
                await self._running
            assert asyncio.get_running_loop().time() < deadline, "the story does not come to rest"

    async def passes(self, seconds: float) -> None:
        """Let time pass, stopping wherever something is due."""
        end = self.clock.now() + timedelta(seconds=seconds)
        await self.settles()
        while self.clock.now() < end:
            due = self.clock.next_due()
            await self._moves(min(end, max(due, self.clock.now())) if due else end)

    async def _moves(self, to: datetime) -> None:
        self.clock.move(to)
        await self.slack.tick()
        await self.openhands.tick()
        await self.settles()

    # --- looking ------------------------------------------------------------------------------------------------

    def cards(self, in_: str = "#dev") -> list[Message]:
        """Return the bot's cards in a place: what carries the id of the run's first row."""
        return [
            one
            for one in self.posts(in_)
            if any(block["type"] == "context" for block in one.blocks) and one.edited >= 0 and is_card(one)
        ]

    def card(self, in_: str = "#dev") -> "Card":
        """Read the only card in a place."""
        [card] = self.cards(in_)
        return read_card(card)

    def news(self, in_: str = "#dev") -> list[str]:
        """Return the texts of everything else the bot posted in a place."""
        return [one.text for one in self.posts(in_) if not is_card(one)]

    def reactions(self, said: Said) -> list[str]:
        """Return the reactions on what a person wrote, in the order they were given."""
        message = self.slack.message(said.channel, said.ts)
        assert message is not None, "it was deleted"
        return list(message.reactions)

    def kept(self) -> list[str]:
        """Return the requests the bot ever wrote down, by their keys."""
        with closing(sqlite3.connect(self.database)) as file:
            return [key for (key,) in file.execute("SELECT key FROM inbox ORDER BY seq")]

    @property
    def conversation(self) -> Conversation:
        """Return the only conversation OpenHands has."""
        [conversation] = self.openhands.conversations.values()
        return conversation


@dataclasses.dataclass(frozen=True)
class Card:
    """What a card shows: the label of its state, the task, and all its lines."""

    state: str
    task: str
    lines: tuple[str, ...]

    def __contains__(self, part: str) -> bool:
        return any(part in line for line in self.lines)


def is_card(message: Message) -> bool:
    """Tell a card from other posts: its last lines say who asked."""
    return any(
        element.get("text", "").startswith("Asked by ")
        for block in message.blocks
        if block["type"] == "context"
        for element in block["elements"]
    )


def read_card(message: Message) -> Card:
    head, task, *lines = message.text.split("\n")
    return Card(head.strip("*").split(" ", 1)[1], task, tuple(lines))


async def until(true: Callable[[], bool]) -> None:
    """Let the loop run until something is so, in real time."""
    async with asyncio.timeout(REAL_S):
        while not true():  # noqa: ASYNC110 - no event announces what a server or another process has come to
            await asyncio.sleep(0.002)


Make = Callable[..., Awaitable[Story]]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a database by the bot's own migrations, once for all stories."""
    file = tmp_path_factory.mktemp("tables") / "openhands.db"

    async def make() -> None:
        await (await open_database(f"sqlite:///{file}")).close()

    asyncio.run(make())
    return file


@pytest.fixture
async def make_world(tmp_path: Path, tables: Path) -> AsyncIterator[Make]:
    """Make a world with settings or servers of its own; the bot is started unless told otherwise."""
    made: list[Story] = []

    async def make(*, start: bool = True, openhands: dict[str, Any] | None = None, **given: Any) -> Story:
        clock = HandClock()
        slack = LocalSlack(now=clock.now)
        server = LocalOpenHands(now=clock.now, key="key", **(openhands or {}))
        await slack.start()
        await server.start()
        story = Story(clock, slack, server, tmp_path, tables)
        story.given = given
        story.alice, story.bob = story.person("alice"), story.person("bob")
        story.channel("#dev", story.alice, story.bob)
        story.channel("#news")
        made.append(story)
        if start:
            await story.starts()
        return story

    yield make
    for story in made:
        try:
            await story.stops()
        finally:
            await story.slack.stop()
            await story.openhands.stop()
    for story in made:
        assert story.slack.violations == [], "Slack was asked for something it does not know"
        assert story.openhands.violations == [], "OpenHands was asked for something it does not know"


@pytest.fixture
async def world(make_world: Make) -> Story:
    """Make the usual world: V1, alice and bob in #dev, the team hears in #news."""
    return await make_world(notify_channel="#news")
