"""PDF and Word documents → text, in a process of their own."""

import pytest

from bot.documents import text_in
from tests.papers import PNG, a_docx, a_pdf, zipped


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (a_pdf("The licence is MIT."), "The licence is MIT."),
        (a_docx("First.", "Second."), "First.\n\nSecond."),
        (a_docx("x" * 200), "x" * 100),
        (zipped({"a.txt": "no document"}), None),
        (b"%PDF-1.4\nno more", None),
        (PNG, None),
    ],
)
async def test_a_document_gives_its_text(data: bytes, text: str | None) -> None:
    """At most as much as is wanted; what is none, or broken, gives nothing."""
    found = await text_in(data, most=100, within_s=30)
    assert (found if found is None else found.strip()) == text


async def test_a_document_that_takes_too_long_is_given_up() -> None:
    """Its process ends with it."""
    assert await text_in(a_pdf("The licence is MIT."), most=100, within_s=0.001) is None
