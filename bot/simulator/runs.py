"""The bot's runs as people in Slack know them: by their cards and the buttons on them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import JSON, Message


@dataclass(frozen=True)
class Button:
    """A button as a message shows it. `url` is empty unless it is a link."""

    action_id: str
    label: str
    value: str
    url: str

    def is_called(self, name: str) -> bool:
        name = name.casefold()
        return name == self.action_id.casefold() or self.label.casefold().startswith(name)


@dataclass(eq=False)
class Run:
    """One run. `number` counts from 1 in the order in which the cards appeared."""

    number: int
    channel: str
    card_ts: str
    thread_ts: str
    others: list[str] = field(default_factory=list)  # ts of its other messages with buttons, oldest first


class Runs:
    """Finds runs by the buttons of the bot's messages. All buttons of a run share the id before the first colon."""

    def __init__(self, slack: LocalSlack) -> None:
        self._slack = slack
        self._by_id: dict[str, Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def newest(self) -> Run | None:
        return next(reversed(self._by_id.values()), None)

    def number(self, number: int) -> Run | None:
        return next((run for run in self if run.number == number), None)

    def in_thread(self, channel: str, thread_ts: str) -> Run | None:
        """Return the run of a thread; the newest if there are several."""
        found = (run for run in reversed(self._by_id.values()) if (run.channel, run.thread_ts) == (channel, thread_ts))
        return next(found, None)

    def note(self, message: Message) -> Run | None:
        """Record a message of the bot. Return the run if the message is its card."""
        versions = (*(blocks for _, blocks in message.history), message.blocks)
        ids = (button.value.partition(":")[0] for blocks in versions for button in buttons_in(blocks))
        run_id = next(filter(None, ids), None)
        if run_id is None:
            return next((run for run in self if (run.channel, run.card_ts) == (message.channel, message.ts)), None)
        run = self._by_id.get(run_id)
        if run is None:
            root = message.thread_ts or message.ts
            run = self._by_id[run_id] = Run(len(self._by_id) + 1, message.channel, message.ts, root)
        if message.ts == run.card_ts:
            return run
        if message.ts not in run.others:
            run.others.append(message.ts)
        return None

    def card(self, run: Run) -> Message | None:
        """Return the card as it is now; None if somebody deleted it."""
        return self._slack.message(run.channel, run.card_ts)

    def find(self, name: str, run: Run) -> tuple[Message, Button] | None:
        """Return a button by its name, from the card or else from the newest other message of the run."""
        for ts in (run.card_ts, *reversed(run.others)):
            message = self._slack.message(run.channel, ts)
            for button in buttons_in(message.blocks if message else ()):
                if message and button.is_called(name):
                    return message, button
        return None


def buttons_in(blocks: tuple[JSON, ...]) -> list[Button]:
    """Return the buttons of a message, in the order in which people see them."""
    rows = (block["elements"] for block in blocks if block.get("type") == "actions")
    return [
        Button(one.get("action_id", ""), one["text"]["text"], one.get("value", ""), one.get("url", ""))
        for row in rows
        for one in row
        if one.get("type") == "button"
    ]
