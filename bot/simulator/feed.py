"""What becomes visible in Slack, as one entry per change."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from bot.simulator.runs import Runs, buttons_in
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message
from bot.simulator.slack.text import unescape

WIRE = re.compile(r"<([@#!]?)([^<>|]+)(?:\|([^<>]*))?>")
MARKED = re.compile(r"(?m)^(?P<mark>[*_])(.+?)(?P=mark)")  # bold and italic, where the bot's sentences use them
EMOJI = {"eyes": "👀", "white_check_mark": "✅", "x": "❌"}
QUOTED = 40  # characters of a message that are enough to recognise it


class What(StrEnum):
    SAYS = "says"
    EDITS = "edits"
    REACTS = "reacts"
    WHISPERS = "whispers"
    PRESSES = "presses"


@dataclass(frozen=True)
class Entry:
    """Something that became visible. `text` is the whole readable text; `fresh` has only its new lines.

    run: the number of the run whose card or thread it is in. redrawn: show the whole card again, since it is new or
    its state or buttons changed. only_for: the one person who sees it; empty if everybody does.
    """

    at: datetime
    place: str
    who: str
    what: What
    text: str
    fresh: str
    run: int | None = None
    in_thread: bool = False
    is_card: bool = False
    redrawn: bool = False
    buttons: tuple[str, ...] = ()
    only_for: str = ""


def readable(text: str, names: Mapping[str, str]) -> str:
    """Return Slack's wire text as people see it. names: people's ids → their names."""

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
                return label or what

    return unescape(WIRE.sub(seen, MARKED.sub(r"\2", text)))


class Feed:
    """Finds what became visible in Slack since the last call of `news`."""

    def __init__(self, slack: LocalSlack, runs: Runs, people: Mapping[str, str], places: Mapping[str, str]) -> None:
        """people, places: ids → names. runs: is told every card that is found."""
        self._slack = slack
        self._runs = runs
        self._people = people
        self._places = places
        self._seen: dict[tuple[str, str], Message] = {}
        self._whispers = 0

    def news(self) -> list[Entry]:
        found = [entry for place in self._places for entry in self._messages(place)]
        whispers = [one for person in self._people for one in self._slack.ephemerals(person)]
        for one in sorted(whispers, key=lambda one: one.at)[self._whispers :]:
            self._whispers += 1
            text = readable(one.text, self._people)
            person = self._people[one.user]
            place = self._places[one.channel]
            found.append(Entry(one.at, place, "OpenHands", What.WHISPERS, text, text, only_for=person))
        return sorted(found, key=lambda entry: entry.at)

    def _messages(self, place: str) -> Iterator[Entry]:
        for message in self._slack.messages(place):
            key = (place, message.ts)
            before = self._seen.get(key)
            if message is before:
                continue
            self._seen[key] = message
            now = datetime.now(UTC)
            if before is None:
                names = "".join(f" [{one.get('name', 'a file')}]" for one in message.files)
                yield self._entry(message, What.SAYS, message.posted_at, text=f"{message.text}{names}")
            elif message.text != before.text or message.blocks != before.blocks:
                yield self._entry(message, What.EDITS, now, text=message.text, before=before)
            known = before.reactions if before else {}  # a quick bot reacts before the first look at a message
            for name in [one for one in message.reactions if one not in known]:
                quoted = readable(message.text, self._people)[:QUOTED]
                said = f"{EMOJI.get(name, name)} on “{quoted}”"
                yield self._entry(message, What.REACTS, now, text=said, who=message.reactions[name][0])

    def _entry(
        self,
        message: Message,
        what: What,
        at: datetime,
        *,
        text: str,
        before: Message | None = None,
        who: str | None = None,
    ) -> Entry:
        """text: in wire form. before: for an edit, the previous version. who: the actor, if not the author."""
        card = self._runs.note(message) if message.bot_id == self._slack.bot_id else None
        thread = self._runs.in_thread(message.channel, message.thread_ts or message.ts)
        run = card or thread
        whole = readable(text, self._people)
        old = readable(before.text, self._people).split("\n") if before else []
        buttons = tuple(one.label for one in buttons_in(message.blocks))
        by = who or message.user
        return Entry(
            at,
            self._places[message.channel],
            self._people.get(by, by),
            what,
            whole,
            "\n".join(line for line in whole.split("\n") if line not in old),
            run=run.number if run else None,
            in_thread=message.thread_ts is not None,
            is_card=card is not None and what is not What.REACTS,
            redrawn=before is None
            or message.text.partition("\n")[0] != before.text.partition("\n")[0]
            or buttons != tuple(one.label for one in buttons_in(before.blocks)),
            buttons=() if what is What.REACTS else buttons,
        )
