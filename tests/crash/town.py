"""The world of the crash tests: both local servers, their people and agents, and the bot in its own process."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from math import inf
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

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.openhands: LocalOpenHands | None = None

    async def __call__(self, c: Conversation, text: str) -> None:
        """Work for a moment on a message, or continue; then end the turn as the kind of task demands."""
        openhands = self.openhands
        assert openhands is not None
        first, text = said(c.messages[0]), said(text)
        task = first.partition("\n")[0]
        pause = random.Random(f"{self._seed} {task} {text}").uniform(0.05, 0.4)
        await asyncio.sleep(pause)
        openhands.progress(c, "Looking around")
        await asyncio.sleep(pause)
        kind = Kind(task.rpartition(" ")[2])
        new = text == first and text == task and self._tries(task) == 1
        if (kind in ENDLESS and new) or (kind is Kind.GATED and not new):
            await asyncio.Event().wait()
        elif kind in FAILING and new:
            openhands.fail(c)
        elif kind in {Kind.APPROVED, Kind.REJECTED, Kind.GATED} and new:
            openhands.want_approval(c, f"deploy {task}", summary="Deploy")
        elif kind is Kind.WHOLE and new:
            await until(lambda: len(c.messages) > 1, seconds=inf)  # the follow-up comes while it works
        elif (kind is Kind.ASKS and new) or (kind is Kind.WHOLE and len(c.messages) == 2):
            openhands.ask(c, f"{done(text)} Shall I go on?")
        else:
            openhands.finish(c, done(text or the_rest(task)), cost=0.01)

    def _tries(self, task: str) -> int:
        assert self.openhands is not None
        return len(conversations_of(self.openhands, task))


def conversations_of(openhands: LocalOpenHands, task: str) -> list[Conversation]:
    """Return the conversations of a task, including those of later attempts."""
    return [c for c in openhands.conversations.values() if c.messages and c.messages[0].partition("\n")[0] == task]


class Town:
    """The world, and the bot's process in it."""

    def __init__(self, world: World, alice: Person, child: Child, database_url: str) -> None:
        self.database_url = database_url
        self.world = world
        self.alice = alice
        self.child = child

    def place(self, name: str) -> str:
        """Return the id of a place by its name; "dm" for alice's direct messages."""
        return self.world.slack.dm(self.alice.id) if name == "dm" else self.world.place(name)

    async def connected(self) -> None:
        """Wait until the bot is connected."""
        await until(lambda: self.world.slack.sockets > 0)

    async def dies(self) -> None:
        """Kill the bot, and wait until Slack notices."""
        self.child.kill()
        await until(lambda: self.world.slack.sockets == 0)


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something that other processes do is true. Raises `TimeoutError`."""
    async with asyncio.timeout(None if seconds == inf else seconds):
        while not true():  # noqa: ASYNC110 - no event announces it
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def town(folder: Path, database_url: str, seed: int, api: Api = "v1") -> AsyncIterator[Town]:
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
    }
    child = Child(settings, folder)
    try:
        yield Town(world, alice, child, database_url)
    finally:
        child.kill()
        await slack.stop()
        await openhands.stop()
