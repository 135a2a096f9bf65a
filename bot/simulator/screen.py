"""What the demo shows: Slack as people see it, drawn on a terminal, as plain lines elsewhere."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message
from bot.simulator.slack.text import unescape

WIRE = re.compile(r"<([@#!]?)([^<>|]+)(?:\|([^<>]*))?>")
MARKED = re.compile(r"(?m)^(?P<mark>[*_])(.+?)(?P=mark)")  # bold and italic, where sentences of the bot have them
EMOJI = {"eyes": "👀", "white_check_mark": "✅", "x": "❌"}
COLOURS = ("cyan", "magenta", "yellow", "blue")
INDENT = " " * 9  # the width of a time
QUOTED = 40  # characters of a message that are enough to know it by


class What(StrEnum):
    SAYS = ""
    EDITS = " edits the card"
    REACTS = " reacts"
    WHISPERS = " (seen by one person only)"


@dataclass(frozen=True)
class Entry:
    """Something that became visible. `text` is readable and whole; `fresh` has only the lines that are new in it."""

    at: datetime
    place: str
    who: str
    what: What
    text: str
    fresh: str
    in_thread: bool = False
    is_card: bool = False


def readable(text: str, names: Mapping[str, str]) -> str:
    """Give Slack's wire text as people see it. names: ids of people → their names."""

    def seen(token: re.Match[str]) -> str:
        kind, what, label = token.groups()
        match kind:
            case "@":
                return f"@{names.get(what, what)}"
            case "#":
                return f"#{label or what}"
            case "!" if what.startswith("date^"):
                return f"{datetime.fromtimestamp(int(what.split('^')[1]), UTC).astimezone():%H:%M}"
            case "!":
                return f"@{label or what}"
            case _:
                return f"{label} ({what})" if label and label != what else what

    return unescape(WIRE.sub(seen, MARKED.sub(r"\2", text)))


class Feed:
    """Finds what became visible in Slack since the last look."""

    def __init__(self, slack: LocalSlack, people: Mapping[str, str], places: Mapping[str, str]) -> None:
        """people, places: ids → names. A root message of the bot in a place is a card."""
        self._slack = slack
        self._people = people
        self._places = places
        self._seen: dict[tuple[str, str], Message] = {}
        self._whispers = 0

    def news(self) -> list[Entry]:
        found = [entry for place in self._places for entry in self._messages(place)]
        whispers = [one for person in self._people for one in self._slack.ephemerals(person)]
        for one in sorted(whispers, key=lambda one: one.at)[self._whispers :]:
            self._whispers += 1
            text = f"to {self._people[one.user]}: {readable(one.text, self._people)}"
            found.append(Entry(one.at, self._places[one.channel], "OpenHands", What.WHISPERS, text, text))
        return sorted(found, key=lambda entry: entry.at)

    def _messages(self, place: str) -> Iterator[Entry]:
        for message in self._slack.messages(place):
            key = (place, message.ts)
            before = self._seen.get(key)
            if message is before:
                continue
            self._seen[key] = message
            if before is None:
                yield self._entry(message, What.SAYS, message.posted_at, text=message.text)
                continue
            now = datetime.now(UTC)
            if message.text != before.text:
                yield self._entry(message, What.EDITS, now, text=message.text, before=before.text)
            for name in message.reactions.keys() - before.reactions.keys():
                said = f"{EMOJI.get(name, name)} on “{message.text[:QUOTED]}”"
                yield self._entry(message, What.REACTS, now, text=said, who=message.reactions[name][0])

    def _entry(
        self, message: Message, what: What, at: datetime, *, text: str, before: str = "", who: str | None = None
    ) -> Entry:
        """text, before: in wire form. who: where it is not the author of the message."""
        whole = readable(text, self._people)
        old = readable(before, self._people).split("\n")
        by = who or message.user
        return Entry(
            at,
            self._places[message.channel],
            self._people.get(by, by),
            what,
            whole,
            "\n".join(line for line in whole.split("\n") if line not in old),
            in_thread=message.thread_ts is not None,
            is_card=message.bot_id == self._slack.bot_id and message.thread_ts is None and what is not What.REACTS,
        )


class Screen:
    """Prints what becomes visible. On a terminal the card stays at the foot and is redrawn, until `let_go`."""

    def __init__(self, console: Console, cards_in: str) -> None:
        """cards_in: the place whose cards are drawn; those elsewhere are messages like others."""
        self._console = console
        self._cards_in = cards_in
        self._live: Live | None = None
        self._draws = console.is_terminal

    def show(self, entry: Entry) -> None:
        if self._draws and entry.is_card and entry.place == self._cards_in:
            self._draw(entry)
        elif entry.fresh:
            self._print(entry_lines(entry))

    def say(self, text: str) -> None:
        """Tell something that is not in Slack."""
        self._print(Text(text, style="dim"))

    def let_go(self) -> None:
        """Leave the card where it is; from here on its changes are lines like others."""
        self._draws = False
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def _draw(self, entry: Entry) -> None:
        head, _, rest = entry.text.partition("\n")
        shown = Panel(
            Text.assemble((head, "bold"), f"\n{rest}"),
            title=f"{entry.place} · {entry.who} · the card",
            title_align="left",
        )
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(shown, refresh=True)


def entry_lines(entry: Entry) -> Text:
    """Lay an entry out: time, place, name, then its text, further lines indented."""
    where = f"{entry.place} ↳" if entry.in_thread else entry.place
    colour = "green" if entry.who == "OpenHands" else COLOURS[sum(map(ord, entry.who)) % len(COLOURS)]
    text = entry.fresh.replace("\n", f"\n{INDENT}")
    return Text.assemble(
        (f"{entry.at.astimezone():%H:%M:%S} {where} ", "dim"), (entry.who, f"bold {colour}"), f"{entry.what}: {text}"
    )
