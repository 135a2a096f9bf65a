"""What of a message's files goes to the agent."""

import pytest

from bot.core.files import (
    FILE_BYTES,
    IMAGE_BYTES,
    IMAGES,
    IMAGES_MAX,
    TEXT_MAX,
    Attached,
    Fetched,
    Kind,
    LeftOut,
    Omission,
    attach,
    kind_of,
    text_of,
    too_big,
)
from bot.core.model import File
from tests.papers import GIF, JPEG, MOVIE, PNG, WEBP, a_docx, a_pdf


def fetched(data: bytes, document: str | None = None, *, why: Omission | None = None) -> Fetched:
    return Fetched(File(id="F1", name="a.png"), data, document, why)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, Kind.PNG),
        (PNG[:4], Kind.OTHER),
        (JPEG, Kind.JPEG),
        (GIF, Kind.GIF),
        (b"GIF87a", Kind.GIF),
        (b"GIF8 is a format", Kind.TEXT),
        (WEBP, Kind.WEBP),
        (b"RIFFLE", Kind.TEXT),
        (a_pdf("x"), Kind.PDF),
        (a_docx("x"), Kind.ZIP),
        (MOVIE, Kind.OTHER),
        (b"print(1)\n", Kind.TEXT),
        ("README を直して".encode(), Kind.TEXT),
        (b"", Kind.TEXT),
        (b"\xff\xfe\x00", Kind.OTHER),
        (b"\x80", Kind.OTHER),
    ],
)
def test_a_file_is_what_its_bytes_are(data: bytes, kind: Kind) -> None:
    """Names and types are claims of whoever uploaded it."""
    assert kind_of(data) is kind


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("é".encode(), "é"),
        (b"\xef\xbb\xbfa", "a"),
        ("é".encode("utf-16"), "é"),
        (b"\xfe\xff\x00a", "a"),
        (b"a\x00b", None),
        (b"\xe9", None),
    ],
)
def test_text_is_what_decodes(data: bytes, text: str | None) -> None:
    assert text_of(data) == text


@pytest.mark.parametrize(
    ("one", "images", "expected"),
    [
        (fetched(GIF), True, Attached(images=("data:image/gif;base64,R0lGODlhAQABAAAAADs=",))),
        (fetched(GIF), False, Omission.NO_IMAGES),
        (fetched(GIF + bytes(IMAGE_BYTES)), True, Omission.BIG_IMAGE),
        (fetched(b"a\x07b\r\nc "), True, Attached(texts=(("a.png", "ab\nc"),))),
        (fetched(b" \n"), True, Omission.NO_TEXT),
        (fetched(b"%PDF", "read"), True, Attached(texts=(("a.png", "read"),))),
        (fetched(b"%PDF", None), True, Omission.NO_TEXT),
        (fetched(b"PK\x03\x04", None), True, Omission.KIND),
        (fetched(MOVIE), True, Omission.KIND),
        (fetched(b"", why=Omission.GONE), True, Omission.GONE),
    ],
)
def test_one_file(one: Fetched, images: bool, expected: Attached | Omission) -> None:  # noqa: FBT001 - a column of the table
    """It goes along as an image or as text, or there is a reason."""
    found = attach([one], images=IMAGES if images else ())
    assert found == (Attached(left_out=(LeftOut("a.png", expected),)) if isinstance(expected, Omission) else expected)
    assert found.empty is isinstance(expected, Omission)


def test_there_is_room_for_five_images_and_50_000_characters_of_all_texts_together() -> None:
    """The first ones go along; of the text that no longer fits whole, the beginning does."""
    images = attach([fetched(GIF)] * (IMAGES_MAX + 1), images=IMAGES)
    assert (len(images.images), images.left_out) == (IMAGES_MAX, (LeftOut("a.png", Omission.MANY_IMAGES),))
    texts = attach([fetched(b"x" * (TEXT_MAX - 2)), fetched(b"yyyy"), fetched(b"z")], images=IMAGES)
    assert [text[-3:] for _, text in texts.texts] == ["xxx", "y…"]
    assert [one.why for one in texts.left_out] == [Omission.CUT, Omission.NO_ROOM]


@pytest.mark.parametrize(("size", "big"), [(0, False), (FILE_BYTES, False), (FILE_BYTES + 1, True)])
def test_what_says_that_it_is_too_big_is_not_fetched(size: int, big: bool) -> None:  # noqa: FBT001 - a column
    assert too_big(File(id="F1", name="a", size=size)) is big
