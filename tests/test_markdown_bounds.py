"""Markdown made to be expensive to parse. Not with the core's tests, where measuring coverage would take most time."""

import json
import time

import pytest

from bot.core.markdown import MAX_DEPTH, rich_text
from bot.core.mrkdwn import unescape_request
from tests.core.test_markdown import size


@pytest.mark.parametrize(
    "source",
    [
        *("*" * 100_000, ">" * 100_000, "- " * 50_000, "[" * 100_000, "![" * 50_000, "`" * 100_000, "<" * 100_000, "|" * 100_000),
        *("*a " * 20_000 + "a* " * 20_000, "~~a" * 30_000, "a\n\n" * 30_000, "[a](https://a.example) " * 5000, "&#60;" * 20_000),
        *("- [ ] a\n" * 5000, "".join(f"[^{n}]: a[^{n}]\n" for n in range(3000)), ":a" * 50_000, "<b>" * 30_000, "<div>\n" + "<a href='x'>" * 9000),
        *("|a" * 500 + "\n" + "|-" * 500 + "\n" + "|b\n" * 5000, "\n".join(" " * n + "- a" for n in range(2 * MAX_DEPTH))),
    ],
)  # fmt: skip
def test_hostile_sources_are_shown_in_time(source: str) -> None:
    """However deep or long the source, there is something to show, within the limit and in bounded time."""
    began = time.process_time()
    shown = rich_text(source, limit=9000)
    spent = time.process_time() - began

    assert 0 < size(shown) <= 9000
    assert len(json.dumps(shown)) < 100_000
    assert spent < 10  # seconds; it takes at most one, and would take minutes without bounds


@pytest.mark.parametrize(
    "wire", [" " * 40_000 + "x", ("<@U0BOT> " + " " * 20) * 1_400, "x" + "\t" * 40_000 + "<@U0BOT>"]
)
def test_our_mention_is_found_in_time(wire: str) -> None:
    """A pattern that looks for blanks before it took seconds, in which nobody was answered."""
    began = time.process_time()
    said = unescape_request(f"fix{wire}", "U0BOT")
    spent = time.process_time() - began

    assert said.startswith("fix")
    assert "<@U0BOT>" not in said
    assert spent < 0.5
