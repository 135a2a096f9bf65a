"""What a story leaves that nobody looked at: messages, reactions, rows, log lines, tasks."""

import asyncio
import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from bot.core import words
from bot.core.model import Start
from bot.simulator.openhands import LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message

RECEIPT = words.receipt(Start("anything"))
PERMALINK = re.compile(r"/archives/(\w+)/p(\d{10})(\d{6})")
HEAD = re.compile(r"(?:<@\w+> )*((?:(?! · )[^\n:,.])*)")

OPEN = {
    "outbox": "SELECT kind, lane FROM outbox WHERE done_at IS NULL AND failed_at IS NULL ORDER BY kind",
    "inbox": "SELECT 'request', lane FROM inbox WHERE done_at IS NULL",
}
"""Queries for the open rows of each table: their kind, and the lane they wait in."""

WRONG = frozenset({"warning", "error", "critical"})


class Lines(logging.Handler):
    """The log lines of the bot and its libraries, at warning or above, that nobody has claimed yet."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.open: list[dict[str, Any]] = []

    def __call__(self, _logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        """Record a line of the bot and pass it on; installed as a structlog processor."""
        if line["level"] in WRONG:
            self.open.append(dict(line))
        return line

    def emit(self, record: logging.LogRecord) -> None:
        """Record a line of a library."""
        self.open.append({"event": f"{record.name}: {record.getMessage()}", "level": record.levelname.lower()})

    def claim(self, event: str) -> list[dict[str, Any]]:
        claimed = [line for line in self.open if line["event"] == event]
        self.open = [line for line in self.open if line["event"] != event]
        return claimed


@contextmanager
def lines_kept() -> Iterator[Lines]:
    """Record what is logged until the end of the block."""
    lines = Lines()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.stdlib.add_log_level, lines, *before])
    logging.getLogger().addHandler(lines)
    try:
        yield lines
    finally:
        logging.getLogger().removeHandler(lines)
        structlog.configure(processors=before)


@dataclass(frozen=True)
class Left:
    """Something nobody looked at. `short` is how a story names it, `whole` what its failure shows."""

    short: str
    whole: str


class Watch:
    """Records what a story looked at, and reports what it did not.

    What always follows from something a story looked at need not be looked at: the receipt of a command, 👀 on what was
    accepted, ✅ on what was done, and the team's line about what a thread was told.
    """

    def __init__(self, slack: LocalSlack, openhands: LocalOpenHands, lines: Lines) -> None:
        self._slack = slack
        self._openhands = openhands
        self._lines = lines
        self._messages: set[tuple[str, str, int]] = set()
        self._reactions: dict[tuple[str, str], tuple[str, ...]] = {}
        self._alone: dict[str, int] = {}

    def saw(self, messages: list[Message]) -> list[Message]:
        """Record these versions of messages as looked at, and return them."""
        self._messages.update((one.channel, one.ts, one.edited) for one in messages)
        return messages

    def saw_alone(self, user: str) -> None:
        """Record everything that only this person was shown so far as looked at."""
        self._alone[user] = len(self._slack.ephemerals(user))

    def saw_reactions(self, message: Message) -> list[str]:
        self._reactions[message.channel, message.ts] = tuple(message.reactions)
        return list(message.reactions)

    def left(self, team: str | None) -> Iterator[Left]:
        """Yield what nobody looked at. team: the team's channel."""
        everything = [one for place in self._slack._workspace.channels.values() for one in place.messages.values()]
        ours = [one for one in everything if one.bot_id == self._slack.bot_id and one.subtype is None]
        told = Counter((one.channel, one.thread_ts, label(one)) for one in ours if not is_card(one))
        for one in ours:
            about = self._thread_of(one) if one.channel == team else None
            follows = about is not None and told[*about, label(one)] > 0
            if about is not None and follows:
                told[*about, label(one)] -= 1
            if follows or (one.channel, one.ts, one.edited) in self._messages:
                continue
            yield Left(f"{self._place(one)}: {'card ' if is_card(one) else ''}{label(one)}", one.text)
        for one in everything:
            if self._reactions.get((one.channel, one.ts), ()) != tuple(one.reactions) and not self._usual(one, ours):
                yield Left(f"{self._place(one)}: {', '.join(one.reactions)} on a message", one.text)
        for user in self._slack._workspace.users.values():
            for shown in self._slack.ephemerals(user.id)[self._alone.get(user.id, 0) :]:
                if (shown.via, shown.text) != ("ack", RECEIPT):
                    yield Left(f"{user.name} alone: {head(shown.text)}", shown.text)
        yield from (Left(f"log: {line['event']}", str(line)) for line in self._lines.open)

    def _usual(self, message: Message, ours: list[Message]) -> bool:
        """Return whether the reactions only say that a message was accepted, or also that it ended well."""
        match tuple(message.reactions):
            case ("eyes",):
                return True
            case ("eyes", "white_check_mark"):
                return any(
                    "Done" in shown
                    for one in ours
                    if is_card(one) and one.thread_ts == (message.thread_ts or message.ts)
                    for shown in [one.text, *(text for text, _ in one.history)]
                )
            case _:
                return False

    def _thread_of(self, line: Message) -> tuple[str, str] | None:
        """Return the thread that a line for the team links to."""
        found = PERMALINK.search(line.text)
        if found is None:
            return None
        channel, seconds, rest = found.groups()
        linked = self._slack.message(channel, f"{seconds}.{rest}")
        return None if linked is None else (channel, linked.thread_ts or linked.ts)

    def _place(self, message: Message) -> str:
        name = self._slack._workspace.channel(message.channel).name
        return f"#{name}" if name else "dm"


def is_card(message: Message) -> bool:
    """Return whether a post is a card: only a card's context says who asked."""
    return any(
        element.get("text", "").startswith("Asked by ")
        for block in message.blocks
        if block["type"] == "context"
        for element in block["elements"]
    )


def label(message: Message) -> str:
    return head(message.text)


def head(text: str) -> str:
    """Return the beginning of a text: the label of a state, or the first words of a sentence."""
    return HEAD.match(text.replace("*", "")).group(1)  # type: ignore[union-attr]  # it matches anything


def open_rows(database: Path) -> Iterator[Left]:
    """Yield the open rows. Raises `sqlite3.Error` for a file without the bot's tables."""
    with closing(sqlite3.connect(database)) as file:
        for table, rows in OPEN.items():
            yield from (Left(f"{table}: {kind}", f"in the lane {lane}") for kind, lane in file.execute(rows))


async def tasks_left() -> list[Left]:
    """Return the tasks that still run, except the caller's, after giving cancelled ones time to end."""
    for _ in range(5):
        await asyncio.sleep(0)
    return [Left("task", repr(task)) for task in asyncio.all_tasks() - {asyncio.current_task()}]
