"""Writes the tables of `docs/using.md` from the declarations of words and buttons: `python -m tests.docs`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bot.core.addressee import RULES
from bot.core.vocabulary import BUTTONS, EVERYWHERE, OPEN, WORDS, Word

PAGE = Path(__file__).parents[1] / "docs" / "using.md"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def row(word: Word) -> list[str]:
    spellings = ", ".join(f"`{spelling}`" for spelling in word.spellings)
    where = "everywhere" if word.where == EVERYWHERE else ", ".join(word.where)
    return [spellings, where, word.help + (f", as in `{word.example}`" if word.example else "")]


TABLES = {
    "replies": table(["a reply that …", "is for"], [[rule.what, rule.to.value] for rule in RULES]),
    "words": table(["word", "where", "what it does"], [row(word) for word in WORDS]),
    "buttons": table(
        ["button", "what it does"],
        [[OPEN.label, OPEN.help], *([button.label, button.help] for button in BUTTONS.values())],
    ),
}


def written(page: str) -> str:
    """Return the page with each table, between its marker and the next end, replaced by the declared one."""
    for name, lines in TABLES.items():
        before, marker, rest = page.partition(f"<!-- {name}: written by `make docs` -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{marker}{lines}\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
