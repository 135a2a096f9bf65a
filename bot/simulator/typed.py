"""Parsing of lines typed into the demo. Pure."""

import re
from dataclasses import dataclass
from difflib import get_close_matches

ENDS = frozenset({"quit", "exit", "/quit", "/exit"})
KNOWN = ("/openhands", "/click", "/run", "/help", "/quit")
IN_PLACE = re.compile(r"(#[\w.-]+|dm):\s*(.*)", re.DOTALL | re.IGNORECASE)
CLICK = re.compile(r"/click\s+(.*?)(?:\s+(?:run\s+)?#?(\d+))?", re.DOTALL | re.IGNORECASE)
CHOICE = re.compile(r"/run\s+#?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class End:
    pass


@dataclass(frozen=True)
class HowTo:
    pass


@dataclass(frozen=True)
class Slash:
    """`/openhands` with this text."""

    text: str


@dataclass(frozen=True)
class Write:
    """A message in a channel, `#dev`, or `dm`."""

    place: str
    text: str


@dataclass(frozen=True)
class Reply:
    """A reply in the thread in focus."""

    text: str


@dataclass(frozen=True)
class Press:
    """Press a button by its name, on this run; run None: the newest run that has it."""

    button: str
    run: int | None


@dataclass(frozen=True)
class Choose:
    """Send replies to the thread of this run from now on."""

    run: int


@dataclass(frozen=True)
class Mistyped:
    """Do nothing, and print this hint."""

    hint: str


Typed = End | HowTo | Slash | Write | Reply | Press | Choose | Mistyped


def read(line: str) -> Typed | None:
    """Parse a line; return None if it is empty."""
    line = line.strip()
    if line.casefold() in ENDS:
        return End()
    if line.startswith("/"):
        return _slash(line)
    if line.casefold().startswith("@openhands"):
        return Write("#dev", line)
    if found := IN_PLACE.fullmatch(line):
        return Write(found[1].casefold(), found[2]) if found[2] else Mistyped(f"What is to be written in {found[1]}?")
    return Reply(line) if line else None


def _slash(line: str) -> Typed:
    word, _, rest = line.partition(" ")
    match word.casefold():
        case "/openhands":
            return Slash(rest.strip())
        case "/help":
            return HowTo()
        case "/click":
            found = CLICK.fullmatch(line)
            name = found[1].strip("[] ") if found else ""
            return Press(name, int(found[2]) if found and found[2] else None)
        case "/run":
            chosen = CHOICE.fullmatch(line)
            return Choose(int(chosen[1])) if chosen else Mistyped("Which run? Type its number: /run 1")
        case "/quit" | "/exit":
            return Mistyped(f"Nothing was sent. {word} ends the demo only where it stands alone.")
        case _:
            close = get_close_matches(word.casefold(), KNOWN, n=1)
            meant = f" Did you mean {close[0]}?" if close else " /help shows what there is."
            return Mistyped(f"Nothing was sent: there is no command {word}.{meant}")
