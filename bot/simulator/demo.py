"""One run from a command to its end, played by itself: the production app between a local Slack and a local OpenHands.

The app is a process of its own and knows of the two servers only by its settings.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.process import App, app_in
from bot.simulator.screen import Entry, Feed, Screen, What
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message
from bot.simulator.world import World

KEY = "demo-key"
ASKED = "fix README in org/repo"
FOLLOW_UP = "and please name the licence in it"
STEPS = ("Read README.md", "Mend two broken links", "Open a pull request")
STEP_S = 3.0  # a card is edited every 3 s at most
START_S = 1.0
LOOK_S = 0.05
PATIENCE_S = 60.0  # for each part of the story; far more than it takes, for slow machines
INTERRUPTED = 130

Work = Callable[[LocalOpenHands, Conversation, str], Awaitable[None]]
"""What the agent does with a message."""


async def work(openhands: LocalOpenHands, c: Conversation, text: str) -> None:
    """Do what agents do, in a few seconds: some steps, with what is asked meanwhile between them, then an answer."""
    asked = [text]
    for step in STEPS:
        await do(openhands, c, step)
        while c.unread:
            asked.append(c.unread.pop(0))
            await do(openhands, c, f"Take in: {asked[-1]}")
    done = "\n".join(f"- **{one}**" for one in asked if one)
    link = f"\n\nThe pull request: https://github.com/{c.repository}/pull/7" if c.repository else ""
    openhands.finish(c, f"Done, and the checks pass:\n\n{done}{link}", cost=0.07)


async def do(openhands: LocalOpenHands, c: Conversation, step: str) -> None:
    openhands.progress(c, step)
    await asyncio.sleep(STEP_S)


class Stage:
    """The world of the demo, and what of the story has happened in it."""

    def __init__(self, slack: LocalSlack, openhands: LocalOpenHands, console: Console) -> None:
        self.slack = slack
        self.openhands = openhands
        world = World(slack, openhands)
        self.alice, self.bob = world.person("alice"), world.person("bob")
        self.dev = world.channel("#dev", self.alice, self.bob)
        self.team = world.channel("#team", self.alice, self.bob)
        people = {self.alice.id: "alice", self.bob.id: "bob", slack.bot_user_id: "OpenHands"}
        self._feed = Feed(slack, people, {self.dev: "#dev", self.team: "#team"})
        self.screen = Screen(console, "#dev")

    def look(self) -> None:
        """Show what became visible."""
        for entry in self._feed.news():
            self.screen.show(entry)

    async def asks(self, text: str) -> None:
        """Let alice type the command, which Slack itself shows to nobody."""
        typed = f"/openhands {text}"
        self.screen.show(Entry(datetime.now(UTC), "#dev", "alice", What.SAYS, typed, typed))
        await self.alice.commands(text, in_="#dev")

    def posts(self, channel: str) -> list[Message]:
        return [one for one in self.slack.messages(channel) if one.bot_id == self.slack.bot_id]

    @property
    def card(self) -> Message | None:
        """The newest card: a message of the bot that no thread holds."""
        return next((one for one in reversed(self.posts(self.dev)) if one.thread_ts is None), None)

    @property
    def works(self) -> bool:
        """The card shows that the agent is at work, and with what."""
        card = self.card
        return card is not None and "Working" in card.text and any(step in card.text for step in STEPS)

    def missing(self) -> list[str]:
        """Name what of the story has not happened."""
        card = self.card
        got = [text for c in self.openhands.conversations.values() for text in c.messages]
        answers = [one.text for one in self.posts(self.dev) if card and one.thread_ts == card.ts]
        facts = {
            "one conversation on OpenHands": len(self.openhands.conversations) == 1,
            "a card that says Done": card is not None and "Done" in card.text.split("\n")[0],
            "bob's reply with the agent, once": sum(FOLLOW_UP in text for text in got) == 1,
            "the answer in the thread": any("/pull/7" in text and f"<@{self.alice.id}>" in text for text in answers),
            "the line in #team": any("Done" in one.text for one in self.posts(self.team)),
        }
        broken = [*self.slack.violations, *self.openhands.violations]
        return [*(what for what, happened in facts.items() if not happened), *broken]


def settings(folder: Path, slack: LocalSlack, openhands: LocalOpenHands) -> dict[str, str]:
    """Give what the app is told, as an operator would set it."""
    return {
        "SLACK_BOT_TOKEN": slack.bot_token,
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_API_URL": slack.api_url,
        "OPENHANDS_API_KEY": KEY,
        "OPENHANDS_BASE_URL": openhands.base_url,
        "DATABASE_URL": f"sqlite:///{folder / 'openhands.db'}",
        "NOTIFY_CHANNEL": "#team",
        "POLL_INTERVAL_S": "0.5",
    }


async def until(happened: Callable[[], bool], stage: Stage, app: App, patience_s: float) -> bool:
    """Show what becomes visible until it has happened; False when it takes too long, or the app is gone."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while app.runs and asyncio.get_running_loop().time() < deadline:
        stage.look()
        if happened():
            return True
        await asyncio.sleep(LOOK_S)
    return False


async def tell(stage: Stage, app: App, patience_s: float) -> list[str]:
    """Play the story; give what of it did not happen."""
    wait = partial(until, stage=stage, app=app, patience_s=patience_s)
    if not await wait(lambda: stage.slack.sockets > 0):
        return ["the app's connection to Slack"]
    await stage.asks(ASKED)
    if await wait(lambda: stage.works):
        await stage.bob.says(FOLLOW_UP, thread=stage.card)
        await wait(lambda: not stage.missing())
    return stage.missing()


@contextmanager
def typed_lines() -> Iterator[asyncio.Queue[str]]:
    """Collect what the person types; the end of the input and Ctrl-C read as `/quit`."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        typed = os.read(sys.stdin.fileno(), 65_536)
        for line in typed.decode(errors="replace").splitlines() if typed else ["/quit"]:
            lines.put_nowait(line.strip())

    loop.add_reader(sys.stdin.fileno(), read)
    loop.add_signal_handler(signal.SIGINT, lines.put_nowait, "/quit")
    try:
        yield lines
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_reader(sys.stdin.fileno())


async def talk(stage: Stage, app: App) -> None:
    """Let the person go on as alice."""
    stage.screen.say("Now you are alice. Type a reply in the thread, /openhands and a new task, or /quit.")
    with typed_lines() as lines:
        while app.runs:
            stage.look()
            try:
                line = await asyncio.wait_for(lines.get(), LOOK_S)
            except TimeoutError:
                continue
            if line == "/quit":
                return
            if line.startswith("/openhands"):
                await stage.asks(line.removeprefix("/openhands").strip())
            elif line:
                await stage.alice.says(line, thread=stage.card)


async def play(console: Console, work: Work = work, *, patience_s: float = PATIENCE_S, talks: bool = False) -> int:
    """Play the demo and give its exit code: 0 only if everything happened. talks: the person goes on after that."""
    slack = LocalSlack()
    openhands = LocalOpenHands(key=KEY, start_seconds=START_S)
    openhands.agent = partial(work, openhands)
    stage = Stage(slack, openhands, console)
    await slack.start()
    await openhands.start()
    try:
        with TemporaryDirectory(prefix="openhands-demo-") as made:
            folder = Path(made)
            async with app_in(folder, settings(folder, slack, openhands)) as app:
                missing = await tell(stage, app, patience_s)
                stage.screen.let_go()
                if talks and not missing:
                    await talk(stage, app)
                if (code := await app.end()) != 0:
                    missing.append(f"the app's good end: its exit code is {code}")
            return report(stage.screen, missing, app.log)
    finally:
        stage.screen.let_go()
        await openhands.stop()
        await slack.stop()


def report(screen: Screen, missing: list[str], log: str) -> int:
    """Say how it went, and give the exit code."""
    if missing:
        screen.say("\n".join(["The log of the bot:", log, "The demo failed. What is missing:", *missing]))
        return 1
    screen.say(
        "It all worked: the card, the reply, the answer and the team's line. To go live: README.md, “Going live”."
    )
    return 0


def demo() -> int:
    """Play the demo on this terminal, or in plain lines, and give the exit code."""
    talks = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        return asyncio.run(play(Console(highlight=False), talks=talks))
    except KeyboardInterrupt:
        return INTERRUPTED
