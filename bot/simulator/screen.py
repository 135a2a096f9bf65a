"""The demo's screen: Slack as lines that are only appended, so that nothing is drawn over."""

from datetime import datetime

from rich.console import Console
from rich.text import Text

from bot.simulator.feed import Entry, What

COLOURS = ("cyan", "magenta", "yellow", "blue")
INDENT = " " * 9  # the width of a time and a space
NARROWEST = 20  # columns; in a narrower window the terminal itself breaks the lines
ENDLESS = 100_000  # columns if the output is not a terminal: lines are not broken


class Screen:
    """Prints what becomes visible. A new or redrawn card is a box; every other change is a line."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, entry: Entry) -> None:
        if entry.is_card and entry.redrawn:
            self._show_card(entry)
        elif entry.fresh:
            self._print(self._wrapped(line_of(entry), beside=INDENT), at=entry.at)

    def say(self, text: str) -> None:
        """Print a remark of the demo itself, which is not in Slack."""
        for line in text.split("\n"):
            indent = " " * (len(line) - len(line.lstrip()))
            for number, part in enumerate(self._wrapped(Text(line.strip(), style="dim"), beside=indent + "  ")):
                self._console.print(Text.assemble(indent + "  " * (number > 0), part), soft_wrap=True)

    def dump(self, text: str) -> None:
        """Print other programs' text unchanged."""
        self._console.out(text, highlight=False)

    def _show_card(self, entry: Entry) -> None:
        head, _, rest = entry.text.partition("\n")
        where = f"{entry.place} ↳" if entry.in_thread else entry.place
        title = Text.assemble(f"run {entry.run} · {where} · ", (head, "bold"))
        buttons = Text(" ".join(f"[{label}]" for label in entry.buttons), style="bold")
        lines = [
            *(Text.assemble(("╭─ ", "dim"), line) for line in self._wrapped(title, beside=f"{INDENT}╭─ ")),
            *(Text.assemble(("│ ", "dim"), line) for line in self._wrapped(Text(rest), beside=f"{INDENT}│ ")),
            *(Text.assemble(("│ ", "dim"), line) for line in self._wrapped(buttons, beside=f"{INDENT}│ ")),
        ]
        self._print([*lines, Text("╰─", style="dim")], at=entry.at)

    def _wrapped(self, text: Text, *, beside: str) -> list[Text]:
        """Return the text broken between words into lines that fit beside this indent."""
        width = self._console.width if self._console.is_terminal else ENDLESS
        return list(text.wrap(self._console, max(NARROWEST, width - len(beside))))

    def _print(self, lines: list[Text], *, at: datetime) -> None:
        for number, line in enumerate(lines):
            whole = Text.assemble((INDENT if number else f"{at.astimezone():%H:%M:%S} ", "dim"), line)
            whole.rstrip()
            self._console.print(whole, soft_wrap=True)


def line_of(entry: Entry) -> Text:
    """Return an entry as one line: place, name, what is said or done."""
    where = entry.place
    if entry.in_thread and not entry.is_card:
        where += f" run {entry.run} ↳" if entry.run else " ↳"
    colour = "green" if entry.who == "OpenHands" else COLOURS[sum(map(ord, entry.who)) % len(COLOURS)]
    buttons = " ".join(f"[{label}]" for label in entry.buttons) if not entry.is_card else ""
    return Text.assemble(
        (f"{where} ", "dim"),
        (entry.who, f"bold {colour}"),
        f"{doing(entry)}: {entry.fresh}",
        (f"\n{buttons}" if buttons else "", "bold"),
    )


def doing(entry: Entry) -> str:
    match entry.what:
        case What.EDITS if entry.is_card:
            return f" edits the card of run {entry.run}"
        case What.EDITS:
            return " edits a message"
        case What.REACTS:
            return " reacts"
        case What.WHISPERS:
            return f" (only {entry.only_for} sees this)"
        case What.PRESSES:
            return " presses"
        case _:
            return ""
