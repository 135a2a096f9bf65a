"""SIGKILL at random moments of a mixed load, and an oracle that compares what was asked with what both servers saw."""

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Command, Message
from bot.simulator.world import Person, World
from tests.conftest import is_card, read_card

KILLS = int(os.environ.get("CRASH_KILLS", "20"))
SEED = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1_000_000))
REQUESTS = 9
PLACES = 6
REST_S = 120.0
"""Real seconds until everything must have come to rest after the last kill; Slack takes 50 edits a minute."""


@dataclass
class Asked:
    """One request, and the replies that its thread gets."""

    task: str
    place: str
    command: Command | None = None
    ts: str = ""
    replies: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> bool:
        """It was acknowledged; a mention that was not is sent again by Slack."""
        return self.command is None or bool(self.command.acked)


class Load:
    """People who go on asking while the bot is killed again and again."""

    def __init__(self, world: World, alice: Person, folder: Path, rng: random.Random) -> None:
        self.world = world
        self.alice = alice
        self.folder = folder
        self.rng = rng
        self.asked: list[Asked] = []
        self.process: asyncio.subprocess.Process | None = None
        self.log = (folder / "bot.log").open("ab")

    async def begins(self) -> None:
        slack, openhands = self.world.slack, self.world.openhands
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.crash.child",
            env={
                **os.environ,
                "SLACK_BOT_TOKEN": slack.bot_token,
                "SLACK_APP_TOKEN": slack.app_token,
                "SLACK_API_URL": slack.api_url,
                "OPENHANDS_API_KEY": "key",
                "OPENHANDS_BASE_URL": openhands.base_url,
                "DATABASE_URL": f"sqlite:///{self.folder / 'crash.db'}",
                "NOTIFY_CHANNEL": "team",
            },
            stdout=self.log,
            stderr=self.log,
        )

    async def dies(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def lives(self) -> None:
        """Let it connect, then go on for a random while, with people asking and answering meanwhile."""
        for _ in range(200):
            if self.world.slack.sockets:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(self.rng.uniform(0, 0.3))
        if len(self.asked) < REQUESTS:
            await self.asks()
        await self.replies()
        await asyncio.sleep(self.rng.uniform(0, 0.4))

    async def asks(self) -> None:
        number = len(self.asked)
        asked = Asked(f"task number {number:02}", f"#place{number % PLACES}")
        self.asked.append(asked)
        channel = self.world.place(asked.place)
        if number % 2:
            asked.ts = await self.world.slack.say(
                self.alice.id, channel, self.world.slack.wire(f"@OpenHands {asked.task} in org/repo")
            )
        else:
            asked.command = await self.world.slack.command(self.alice.id, channel, f"{asked.task} in org/repo")

    async def replies(self) -> None:
        """Answer in one thread whose run has come to rest, as far as people can see."""
        for asked in self.rng.sample(self.asked, len(self.asked)):
            card = self.card(asked)
            if card is None or asked.replies or not card.text.startswith(("*✅", "*💬")):
                continue
            asked.replies = [f"reply to {asked.task}", f"one more to {asked.task}"]
            for text in asked.replies:
                await self.world.slack.say(self.alice.id, card.channel, text, thread_ts=card.thread_ts or card.ts)
            return

    def card(self, asked: Asked) -> Message | None:
        found = [one for one in self.world.posts(asked.place) if is_card(one) and read_card(one).task == asked.task]
        return found[0] if found else None

    async def sent_again(self) -> None:
        """Do for Slack what it does a minute later: send what was not acknowledged once more."""
        for delivery in self.world.slack.deliveries:
            if delivery.event_id is not None and delivery.acked_at is None:
                await self.world.slack.redeliver(delivery.envelope_id)

    def conversations(self, asked: Asked) -> list[Conversation]:
        return [one for one in self.world.openhands.conversations.values() if one.messages[:1] == [asked.task]]

    def told(self, asked: Asked) -> bool:
        """Tell whether the run's end is on its card and in its thread, with the agent's last words."""
        conversations, card = self.conversations(asked), self.card(asked)
        if len(conversations) != 1 or card is None:
            return False
        last = f"Did: {conversations[0].messages[-1]}."
        ended = card.text.startswith(("*✅ Done", "*💬 Has a question")) and last in card.text
        return ended and self.news(asked, last) > 0 and len(conversations[0].messages) == 1 + len(asked.replies)

    def news(self, asked: Asked, words: str) -> int:
        """Count the messages, beside cards, that say these words where something was asked."""
        return sum(not is_card(one) and words in one.text for one in self.world.posts(asked.place))

    def must(self) -> list[Asked]:
        """Give what has to end: everything accepted, and what went out though its acknowledgement was lost."""
        return [asked for asked in self.asked if asked.accepted or self.card(asked) is not None]


@pytest.fixture
async def load(tmp_path: Path) -> AsyncIterator[Load]:
    slack = LocalSlack()

    async def works(conversation: Conversation, text: str) -> None:
        await asyncio.sleep(0.2)
        openhands.progress(conversation, "Looking around")
        await asyncio.sleep(0.3)
        said = f"Did: {text or conversation.messages[-1]}."
        if not conversation.working:
            return
        if conversation.messages[-1].endswith(("3", "6", "9")) and len(conversation.messages) == 1:
            openhands.ask(conversation, f"{said} Shall I go on?")
        else:
            openhands.finish(conversation, said, cost=0.01)

    openhands = LocalOpenHands(key="key", agent=works, start_seconds=0.3)
    await slack.start()
    await openhands.start()
    world = World(slack, openhands)
    alice = world.person("alice")
    for number in range(PLACES):
        world.channel(f"#place{number}", alice)
    world.channel("#team")
    load = Load(world, alice, tmp_path, random.Random(SEED))
    yield load
    if load.process is not None and load.process.returncode is None:
        load.process.kill()
        await load.process.wait()
    load.log.close()
    await slack.stop()
    await openhands.stop()


async def test_killed_at_random_moments(load: Load) -> None:
    """Nothing accepted is lost, nothing is done twice, every run is told to its end."""
    for _ in range(KILLS):
        await load.begins()
        await load.lives()
        await load.dies()
    await load.begins()

    deadline = asyncio.get_running_loop().time() + REST_S
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.3)
        await load.sent_again()
        if load.must() and all(map(load.told, load.must())):
            break
    await asyncio.sleep(0.4)  # what would come twice, comes now

    why = f"repeat with CRASH_SEED={SEED} CRASH_KILLS={KILLS}"
    for asked in load.must():
        assert load.told(asked), f"{asked.task} was not told to its end: {why}"
    for asked in load.asked:
        conversations = load.conversations(asked)
        assert len(conversations) == (1 if asked in load.must() else len(conversations) and 1), f"{asked.task}: {why}"
        assert not any(one.destroyed for one in conversations), f"{asked.task} was started twice: {why}"
        for one in conversations:
            assert one.messages == [asked.task, *asked.replies], f"{asked.task}: {why}"
            assert len(one.start_tasks) == 1, f"{asked.task} was started twice: {why}"
            for text in one.messages:
                assert load.news(asked, f"Did: {text}.") <= 1, f"the end of {text} was told twice: {why}"
        cards = [one for one in load.world.posts(asked.place) if is_card(one) and read_card(one).task == asked.task]
        assert len(cards) <= 1, f"{asked.task} has {len(cards)} cards: {why}"
    posts = Counter(
        one.metadata["event_payload"]["id"]
        for place in [*(f"#place{number}" for number in range(PLACES)), "#team"]
        for one in load.world.posts(place)
        if one.metadata
    )
    assert [row for row, times in posts.items() if times > 1] == [], f"posted twice: {why}"
    assert load.world.slack.violations == []
    assert load.world.openhands.violations == []
