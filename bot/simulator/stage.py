"""The demo's world: two people, their channels, what they do there, and what of it is shown."""

from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from time import monotonic
from typing import assert_never

from rich.console import Console

from bot.simulator.feed import Entry, Feed, What
from bot.simulator.openhands import LocalOpenHands
from bot.simulator.runs import Button, Run, Runs, buttons_in
from bot.simulator.screen import Screen
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message
from bot.simulator.world import World

KEY = "demo-key"
CLOSED = "org/missing"
"""The repository that OpenHands has no access to."""


class Scene(Enum):
    STARTING = auto()
    STORY = auto()
    YOURS = auto()


class Stage:
    """Everything the demo is played with. `focus` is the run whose thread gets the replies."""

    def __init__(self, slack: LocalSlack, openhands: LocalOpenHands, console: Console) -> None:
        self.slack = slack
        self.openhands = openhands
        world = World(slack, openhands)
        self.alice, self.bob = world.person("alice"), world.person("bob")
        self.dev = world.channel("#dev", self.alice, self.bob)
        self.team = world.channel("#team", self.alice, self.bob)
        people = {self.alice.id: "alice", self.bob.id: "bob", slack.bot_user_id: "OpenHands"}
        self.places = {self.dev: "#dev", self.team: "#team", slack.dm(self.alice.id): "dm"}
        self.runs = Runs(slack)
        self._feed = Feed(slack, self.runs, people, self.places)
        self.screen = Screen(console)
        self.focus: Run | None = None
        self.scene = Scene.STARTING
        self._began = monotonic()

    def look(self) -> None:
        """Show what became visible. A new run gets the focus."""
        newest = self.runs.newest
        for entry in self._feed.news():
            self.screen.show(entry)
        if self.runs.newest is not newest:
            self.focus = self.runs.newest

    async def asks(self, text: str) -> None:
        """Have alice type the command. Print it, since Slack itself shows it to nobody."""
        typed = f"/openhands {text}"
        self.screen.show(Entry(datetime.now(UTC), "#dev", "alice", What.SAYS, typed, typed))
        await self.alice.commands(text, in_="#dev")

    async def presses(self, run: Run, message: Message, button: Button) -> None:
        """Have alice click a button."""
        pressed = f"[{button.label}] of run {run.number}"
        place = self.places[message.channel]
        self.screen.show(Entry(datetime.now(UTC), place, "alice", What.PRESSES, pressed, pressed))
        await self.alice.clicks(button.action_id, message)
        if button.url:
            self.screen.say(f"In Slack that opens {button.url}; the OpenHands of the demo has no pages.")

    async def replies(self, text: str) -> None:
        """Have alice write in the thread of the run in focus."""
        card = self.runs.card(self.focus) if self.focus else None
        await self.alice.says(text, in_="#dev", thread=card)

    def find_button(self, name: str, number: int | None) -> tuple[Run, Message, Button] | None:
        """Return a button by its name, from this run or (number None) from the newest run that has it."""
        for run in reversed(list(self.runs)):
            if number in (None, run.number) and (found := self.runs.find(name, run)):
                return run, *found
        return None

    def buttons(self) -> str:
        """Return the buttons that can be pressed, as a phrase, newest run first."""
        shown = []
        for run in reversed(list(self.runs)):
            card = self.runs.card(run)
            labels = " ".join(f"[{one.label}]" for one in buttons_in(card.blocks if card else ()))
            shown.append(f"{labels or 'none'} of run {run.number}")
        return ", ".join(shown)

    def prompts(self) -> str:
        """Return the prompt's text: whose thread a typed line goes to, or why it goes nowhere yet."""
        match self.scene:
            case Scene.STARTING:
                return f"the bot starts, {monotonic() - self._began:.0f} s"
            case Scene.STORY:
                return "a story first, then it is your turn"
            case Scene.YOURS:
                return f"alice, run {self.focus.number}" if self.focus else "alice"
            case _:
                assert_never(self.scene)

    def posts(self, channel: str) -> list[Message]:
        return [one for one in self.slack.messages(channel) if one.bot_id == self.slack.bot_id]

    @property
    def at_work(self) -> bool:
        """Whether an agent works or is starting."""
        starts = any(task.under_way for task in self.openhands.tasks.values())
        return starts or any(c.working for c in self.openhands.conversations.values())


def settings(folder: Path, slack: LocalSlack, openhands: LocalOpenHands) -> dict[str, str]:
    """Return the app's settings, as an operator would set them."""
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
