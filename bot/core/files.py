"""What of a message's files goes to the agent: kinds are told by the bytes, and what is left out has a reason. Pure."""

from base64 import b64encode
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bot.core.model import File
from bot.core.mrkdwn import clean, shorten

FILES_MAX = 10
"""Files of one message that are fetched; Slack's own window takes no more."""
FILE_BYTES = 10 * 1024**2
"""The most that is fetched of one file."""
HEAD = 12
"""Bytes by which a file that is no text is told."""
IMAGES_MAX = 5
IMAGE_BYTES = 5 * 1024**2
TEXT_MAX = 50_000
"""Characters of all text files, PDF and Word documents of one message together."""


class Kind(StrEnum):
    """What a file is, whatever its name says."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    GIF = "image/gif"
    WEBP = "image/webp"
    PDF = "application/pdf"
    ZIP = "application/zip"
    """Perhaps a Word document, which is an archive."""
    TEXT = "text/plain"
    OTHER = "application/octet-stream"


IMAGES = frozenset({Kind.PNG, Kind.JPEG, Kind.GIF, Kind.WEBP})
DOCUMENTS = frozenset({Kind.PDF, Kind.ZIP})
"""Kinds whose text has to be extracted."""


class Omission(StrEnum):
    """Why a file, or a part of it, does not go to the agent."""

    KIND = "kind"
    """Neither an image, text, a PDF nor a Word document."""
    BIG = "big"
    BIG_IMAGE = "big_image"
    MANY = "many"
    MANY_IMAGES = "many_images"
    NO_ROOM = "no_room"
    """The text of other files has filled the room there is."""
    CUT = "cut"
    """Only its beginning goes along."""
    NO_TEXT = "no_text"
    """A document in which no text could be found."""
    NO_IMAGES = "no_images"
    """This server takes text only."""
    GONE = "gone"
    """It was deleted, or is not kept by Slack."""
    UNFETCHED = "unfetched"
    """Slack did not give it out in time."""
    NO_SCOPE = "no_scope"
    """The app lacks the permission to read files."""
    AUTHOR = "author"
    """Somebody sent it who may not start runs."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that does not go to the agent as it is."""

    name: str
    why: Omission


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one file: its bytes, and the text of a document; or the reason why there are none."""

    file: File
    data: bytes = b""
    document: str | None = None
    """None: it is no document, or could not be read as one."""
    why: Omission | None = None


@dataclass(frozen=True, slots=True)
class Attached:
    """What goes along with a message."""

    images: tuple[str, ...] = ()
    """As data URLs."""
    texts: tuple[tuple[str, str], ...] = ()
    """Name and text of each."""
    left_out: tuple[LeftOut, ...] = ()

    @property
    def empty(self) -> bool:
        """Return whether nothing goes along."""
        return not (self.images or self.texts)


def kind_of(data: bytes) -> Kind:
    """Return what a file is, by its first bytes; text is what decodes as text."""
    match data[:4]:
        case b"\x89PNG" if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return Kind.PNG
        case b"GIF8" if data[4:6] in (b"7a", b"9a"):
            return Kind.GIF
        case b"RIFF" if data[8:12] == b"WEBP":
            return Kind.WEBP
        case b"PK\x03\x04":
            return Kind.ZIP
        case b"%PDF":
            return Kind.PDF
    if data.startswith(b"\xff\xd8\xff"):
        return Kind.JPEG
    return Kind.OTHER if text_of(data) is None else Kind.TEXT


def text_of(data: bytes) -> str | None:
    """Return the text that a file is, in UTF-8, or in UTF-16 if it says so; None if it is none."""
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        encoding, data = "utf-8", data.removeprefix(BOM_UTF8)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


def too_big(file: File) -> bool:
    """Return whether a file need not be fetched, by the size that Slack names."""
    return file.size > FILE_BYTES


def attach(fetched: Sequence[Fetched], *, images: Collection[str]) -> Attached:
    """Sort fetched files into what goes along and what does not, in their order. images: the types a server takes."""
    pictures: list[str] = []
    texts: list[tuple[str, str]] = []
    left_out: list[LeftOut] = []
    room = TEXT_MAX
    for one in fetched:
        kind = kind_of(one.data)
        why, text = one.why, text_of(one.data) if kind is Kind.TEXT else one.document
        if why is not None:
            pass
        elif kind in IMAGES:
            why = Omission.NO_IMAGES if kind not in images else refused_image(one.data, len(pictures))
            if why is None:
                pictures.append(f"data:{kind.value};base64,{b64encode(one.data).decode()}")
        elif text is None:
            why = Omission.NO_TEXT if kind is Kind.PDF else Omission.KIND
        elif not (said := clean(text).strip()):
            why = Omission.NO_TEXT
        elif room < 1:
            why = Omission.NO_ROOM
        else:
            texts.append((one.file.name, shorten(said, room)))
            why = Omission.CUT if len(said) > room else None
            room -= len(said)
        if why is not None:
            left_out.append(LeftOut(one.file.name, why))
    return Attached(tuple(pictures), tuple(texts), tuple(left_out))


def refused_image(data: bytes, before: int) -> Omission | None:
    """Return why an image does not go along; None: it does. before: how many go along already."""
    if before >= IMAGES_MAX:
        return Omission.MANY_IMAGES
    return Omission.BIG_IMAGE if len(data) > IMAGE_BYTES else None
