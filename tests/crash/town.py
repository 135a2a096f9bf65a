"""The world of the crash tests: both local servers, their people and agents, and the bot in its own process."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Literal

from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.world import Person, World
from tests.crash.child import Child

LOOK_EVERY_S = 0.02
CHANNELS = 5
PLACES = (*(f"#place{number}" for number in range(CHANNELS)), "dm")
TEAM = "#team"
LIMITS_TIMES = 20
"""A factor on Slack's limits: so many restarts a minute read back more than Slack allows. 429s are drawn instead."""


class Kind(StrEnum):
    """What kind of task it is. The last word of its text tells the agent what to do; the person knows it, too."""

    PLAIN = "plain"
    """The agent does it."""
    CHAT = "chat"
    """People add two messages in quick succession while it works."""
    ASKS = "asks"
    """The agent asks, is answered, and does it."""
    APPROVED = "approved"
    REJECTED = "rejected"
    """It is rejected, and then told what else to do."""
    STOPPED = "stopped"
    RESUMED = "resumed"
    """Stopped, then resumed."""
    RETRIED = "retried"
    """Stopped, then retried."""
    FAILS_RESUMED = "fails-resumed"
    FAILS_RETRIED = "fails-retried"
    FAILS_REPLIED = "fails-replied"
    WHOLE = "whole"
    """Progress, a follow-up while it works, a question, an answer, and the end."""
    GATED = "gated"
    """Approved by a button, then stopped by one."""


Api = Literal["v1", "agent"]
"""What the local OpenHands speaks."""
ADDED = re.compile(r"\n\nThe repository \S+ is cloned in |\n\nThis task was given by ")
ENDLESS = {Kind.STOPPED, Kind.RESUMED, Kind.RETRIED}
FAILING = {Kind.FAILS_RESUMED, Kind.FAILS_RETRIED, Kind.FAILS_REPLIED}


def said(text: str) -> str:
    """Return a message without what the bot adds to the first one on an Agent Server: folder, and who asked."""
    return next(iter(ADDED.split(text, maxsplit=1)))


def done(text: str) -> str:
    """Return the agent's final answer to a message."""
    return f"Did: {text}."


def the_rest(task: str) -> str:
    return f"the rest of {task}"


class Agents:
    """The agents: each does what its task says."""

    def __init__(self, seed: int, pause_s: tuple[float, float] = (0.05, 0.4), look_s: float = LOOK_EVERY_S) -> None:
        """pause_s: how long they work at least and at most, twice a turn. look_s: how often they look for news."""
        self._seed = seed
        self._pause_s = pause_s
        self._look_s = look_s
        self.openhands: LocalOpenHands | None = None

    async def __call__(self, c: Conversation, text: str) -> None:
        """Work for a moment on a message, or continue; then end the turn as the kind of task demands."""
        openhands = self.openhands
        assert openhands is not None
        pause = random.Random(f"{self._seed} {task_of(c)} {said(text)}").uniform(*self._pause_s)
        await openhands.think(pause)
        openhands.progress(c, "Looking around")
        await openhands.think(pause)
        while not ends(openhands, c, text):
            await openhands.think(self._look_s)


def task_of(c: Conversation) -> str:
    return said(c.messages[0]).partition("\n")[0]


def ends(openhands: LocalOpenHands, c: Conversation, text: str) -> bool:
    """End a turn as the kind of task demands. Return False if it works on: until it is stopped, or told more."""
    first, text, task = said(c.messages[0]), said(text), task_of(c)
    kind = Kind(task.rpartition(" ")[2])
    new = text == first and text == task and conversations_of(openhands, task)[0] is c
    if (kind in ENDLESS and new) or (kind is Kind.GATED and not new):
        return False
    if kind is Kind.WHOLE and new and len(c.messages) == 1:
        return False  # the follow-up comes while it works
    if kind in FAILING and new:
        openhands.fail(c)
    elif kind in {Kind.APPROVED, Kind.REJECTED, Kind.GATED} and new:
        openhands.want_approval(c, f"deploy {task}", summary="Deploy")
    elif (kind is Kind.ASKS and new) or (kind is Kind.WHOLE and not new and len(c.messages) == 2):
        openhands.ask(c, f"{done(text)} Shall I go on?")
    elif not (kind is Kind.WHOLE and new):
        openhands.finish(c, done(text or the_rest(task)), cost=0.01)
    return True


def conversations_of(openhands: LocalOpenHands, task: str) -> list[Conversation]:
    """Return the conversations of a task, including those of later attempts."""
    return [c for c in openhands.conversations.values() if c.messages and c.messages[0].partition("\n")[0] == task]


class Town:
    """The world, as the people in it and the oracle see it."""

    def __init__(self, world: World, alice: Person, database_url: str) -> None:
        self.database_url = database_url
        self.world = world
        self.alice = alice

    def place(self, name: str) -> str:
        """Return the id of a place by its name; "dm" for alice's direct messages."""
        return self.world.slack.dm(self.alice.id) if name == "dm" else self.world.place(name)

    async def look(self) -> None:
        """Wait until it is worth to look again at what happened."""
        await self.rest(LOOK_EVERY_S)

    async def rest(self, seconds: float) -> None:
        """Wait for so long, as people see it."""
        await asyncio.sleep(seconds)


class Hosted(Town):
    """The world, and the bot's process in it."""

    def __init__(self, world: World, alice: Person, child: Child, database_url: str) -> None:
        super().__init__(world, alice, database_url)
        self.child = child

    def ended_badly(self) -> list[str]:
        """Return a complaint for each end of the bot that was none of ours."""
        return [f"the bot ended by itself, or not as told: {code}" for code in self.child.ended_badly]

    async def connected(self) -> None:
        """Wait until the bot is connected."""
        await until(lambda: self.world.slack.sockets > 0)

    async def dies(self) -> None:
        """Kill the bot, and wait until Slack notices."""
        self.child.kill()
        await until(lambda: self.world.slack.sockets == 0)


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something that other processes do is true. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def town(folder: Path, database_url: str, seed: int, api: Api = "v1") -> AsyncIterator[Hosted]:
    """Yield the world, without starting the bot."""
    agents = Agents(seed)
    slack = LocalSlack(limits_times=LIMITS_TIMES)
    openhands = agents.openhands = LocalOpenHands(key="key", api=api, agent=agents, start_seconds=0.3, rate_limit=False)
    await slack.start()
    await openhands.start()
    world = World(slack, openhands)
    alice = world.person("alice")
    for name in PLACES[:CHANNELS]:
        world.channel(name, alice)
    world.channel(TEAM)
    settings = {
        "SLACK_BOT_TOKEN": slack.bot_token,
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_API_URL": slack.api_url,
        "OPENHANDS_API_KEY": "key",
        "OPENHANDS_BASE_URL": openhands.base_url,
        "DATABASE_URL": database_url,
        "NOTIFY_CHANNEL": TEAM,
        "MAX_CONCURRENT_RUNS": "6",
        "MAX_QUEUED_PER_PERSON": "0",  # one person asks for all
        "MAX_RUNS_PER_HOUR": "0",
    }
    child = Child(settings, folder)
    try:
        yield Hosted(world, alice, child, database_url)
    finally:
        child.kill()
        await slack.stop()
        await openhands.stop()
