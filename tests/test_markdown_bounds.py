"""Markdown made to be expensive. Apart from the core's own tests, since measuring coverage would take most of the time."""

import json
import time

import pytest

from bot.core.markdown import MAX_DEPTH, rich_text
from tests.core.test_markdown import size


@pytest.mark.parametrize(
    "source",
    [
        *("*" * 100_000, ">" * 100_000, "- " * 50_000, "[" * 100_000, "![" * 50_000, "`" * 100_000, "<" * 100_000, "|" * 100_000),
        *("*a " * 20_000 + "a* " * 20_000, "~~a" * 30_000, "a\n\n" * 30_000, "[a](https://a.example) " * 5000, "&#60;" * 20_000),
        *("|a" * 500 + "\n" + "|-" * 500 + "\n" + "|b\n" * 5000, "\n".join(" " * n + "- a" for n in range(2 * MAX_DEPTH))),
    ],
)  # fmt: skip
def test_hostile_sources_are_shown_in_time(source: str) -> None:
    """However deep or long, there is something to show, within the limit, and the bot goes on."""
    began = time.process_time()
    shown = rich_text(source, limit=9000)
    spent = time.process_time() - began

    assert 0 < size(shown) <= 9000
    assert len(json.dumps(shown)) < 100_000
    assert spent < 10  # seconds; it takes one at most, and without bounds it would be minutes
