"""Render the agent's Markdown for Slack: as one `rich_text` block, or as plain text for notifications.

Text in a `rich_text` block is literal, so nothing the agent writes can mention anybody. Slack refuses a block with an
empty list of elements or an empty text (`invalid_blocks`), so neither is ever made.

Steps: source → markdown-it's tokens → `_Paragraph`s, the only shapes Slack has → cut to size → Slack's JSON.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import takewhile, zip_longest
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bot.core import mrkdwn

MAX_SOURCE = 10_000  # characters that are parsed: about what fits in one message; the most hostile input takes a second
MAX_PIECES = 1_000  # texts and links in one block, each some 50 bytes of JSON beside its words
MAX_DEPTH = 100  # nested lists and quotes; deeper ones are left out
MAX_INDENT = 8  # levels Slack's own editor offers
MAX_PADDING = 40  # columns; a wider table cell is not aligned
RULE = "———"
GAP = "\n\n"


def rich_text(source: str, *, limit: int) -> list[dict[str, Any]]:
    """Render as one `rich_text` block, or none if there is nothing to show.

    `limit` counts the characters of all texts and addresses. A longer source is cut and ends in `…`; a link is kept or
    left out as a whole.
    """
    elements = _elements(_cut(_read(source), limit))
    return [{"type": "rich_text", "elements": elements}] if elements else []


def plain(source: str, *, limit: int) -> str:
    """Render as text without any markup, at most `limit` characters, not yet escaped."""
    lines = []
    for paragraph in _read(source):
        text = "".join(
            piece.text if _speaks_for_itself(piece) else f"{piece.text} ({piece.url})" for piece in paragraph.pieces
        )
        lines.append(_marker(paragraph.item) + text)
    return mrkdwn.shorten("\n".join(lines), limit)


# --- what Slack can show ----------------------------------------------------------------------------------------


class _Shape(StrEnum):
    SECTION = "rich_text_section"
    LIST = "rich_text_list"
    QUOTE = "rich_text_quote"
    CODE = "rich_text_preformatted"


class _Style(StrEnum):
    BOLD = "bold"
    ITALIC = "italic"
    STRIKE = "strike"
    CODE = "code"


_STYLES = {"strong": _Style.BOLD, "em": _Style.ITALIC, "s": _Style.STRIKE}


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of text in one style, or one link."""

    text: str
    styles: frozenset[_Style] = frozenset()
    url: str | None = None

    @property
    def size(self) -> int:
        return len(self.text) + len(self.url or "")


@dataclass(frozen=True, slots=True)
class _Item:
    """The marker of a list item."""

    ordered: bool
    indent: int
    number: int


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """One of Slack's shapes; each item of a list is a paragraph of its own."""

    shape: _Shape
    pieces: tuple[_Piece, ...]
    item: _Item | None = None


def _marker(item: _Item | None) -> str:
    if item is None:
        return ""
    return "  " * item.indent + (f"{item.number}. " if item.ordered else "• ")


def _speaks_for_itself(piece: _Piece) -> bool:
    return piece.url is None or piece.text.rstrip("/") == piece.url.rstrip("/")


# --- source → paragraphs ----------------------------------------------------------------------------------------


def _read(source: str) -> list[_Paragraph]:
    text = mrkdwn.shorten(_presentable(source), MAX_SOURCE)
    reader = _Reader()
    reader.read(_parser().parse(text))
    if text.strip() and not reader.paragraphs:  # nothing but markup, such as `- ` or `> `: show it
        return [_Paragraph(_Shape.SECTION, (_Piece(text.strip()),))]
    return reader.paragraphs


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"linkify": True, "maxNesting": MAX_DEPTH})
    parser.enable(["linkify", "strikethrough", "table"])
    assert parser.linkify is not None  # noqa: S101 - the extra is installed; only its type says it may not be
    parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False})  # README.md is a file, not a site in Moldova
    return parser


def _presentable(text: str) -> str:
    return mrkdwn.redact(mrkdwn.clean(text))


class _Reader:
    """Reads the tokens once, without recursion, so that nothing the agent writes is too deep."""

    def __init__(self) -> None:
        self.paragraphs: list[_Paragraph] = []
        self._lists: list[_Item] = []
        """The open lists, each as its latest item."""
        self._item: _Item | None = None
        """An item whose text is still to come."""
        self._quotes = 0
        self._heading = False

    def read(self, tokens: Iterable[Token]) -> None:
        rest = iter(tokens)
        for token in rest:
            match token.type:
                case "inline":
                    style = {_Style.BOLD} if self._heading else set[_Style]()
                    self._add(_Shape.SECTION, _inline(token.children or [], frozenset(style)))
                case "fence" | "code_block":
                    self._add_code(token.content)
                case "html_block":
                    self._add(_Shape.SECTION, [_Piece(_presentable(token.content.rstrip("\n")))])
                case "hr":
                    self._add(_Shape.SECTION, [_Piece(RULE)])
                case "table_open":
                    self._add_code(_table(rest))
                case "heading_open" | "heading_close":
                    self._heading = token.type == "heading_open"
                case "blockquote_open":
                    self._quotes += 1
                case "blockquote_close":
                    self._quotes -= 1
                case "bullet_list_open" | "ordered_list_open":
                    start = token.attrGet("start")
                    self._lists.append(
                        _Item(
                            ordered=token.type == "ordered_list_open",
                            indent=min(len(self._lists), MAX_INDENT),
                            number=(1 if start is None else int(start)) - 1,
                        )
                    )
                case "bullet_list_close" | "ordered_list_close":
                    self._lists.pop()
                case "list_item_open":
                    self._item = self._lists[-1] = replace(self._lists[-1], number=self._lists[-1].number + 1)
                case "list_item_close":
                    self._item = None  # an empty item shows nothing
                case _:
                    pass  # the ends of paragraphs and fences have no meaning of their own here

    def _add_code(self, content: str) -> None:
        text = _presentable(content).strip("\n")
        if self._quotes:  # Slack allows no preformatted text in a quote
            self._add(_Shape.QUOTE, [_Piece(text, frozenset({_Style.CODE}))])
        else:
            self._add(_Shape.CODE, [_Piece(text)])

    def _add(self, shape: _Shape, pieces: Iterable[_Piece]) -> None:
        """Add text to the open item, quote or section, or as a paragraph of its own."""
        pieces = _joined(pieces)
        if not any(piece.text.strip() for piece in pieces):
            return
        item, self._item = self._item, None
        last = self.paragraphs[-1] if self.paragraphs else None
        if self._quotes:
            shape, pieces = _Shape.QUOTE, (_Piece(_marker(item)), *pieces)
        elif shape is _Shape.SECTION and item:
            self.paragraphs.append(_Paragraph(_Shape.LIST, pieces, item))
            return
        elif shape is _Shape.SECTION and last and last.item and last.item is self._latest_item():
            shape = _Shape.LIST  # one more paragraph of that item
        if last and last.shape is shape and shape is not _Shape.CODE:
            gap = GAP if shape is _Shape.SECTION else "\n"
            self.paragraphs[-1] = replace(last, pieces=_joined([*last.pieces, _Piece(gap), *pieces]))
        else:
            self.paragraphs.append(_Paragraph(shape, _joined(pieces)))

    def _latest_item(self) -> _Item | None:
        return self._lists[-1] if self._lists else None


def _joined(pieces: Iterable[_Piece]) -> tuple[_Piece, ...]:
    """Join adjacent pieces of the same style and drop empty ones."""
    joined: list[_Piece] = []
    for piece in pieces:
        if joined and piece.url is None and joined[-1].url is None and piece.styles == joined[-1].styles:
            joined[-1] = replace(piece, text=joined[-1].text + piece.text)
        elif piece.text:
            joined.append(piece)
    return tuple(joined)


# --- lines ------------------------------------------------------------------------------------------------------


def _inline(tokens: Iterable[Token], outer: frozenset[_Style]) -> Iterator[_Piece]:
    """Yield the pieces of one paragraph; `outer`: the styles around it."""
    depths = Counter[_Style](outer)
    label: list[_Piece] = []
    target: str | None = None
    for token in tokens:
        kind = token.type.removesuffix("_open").removesuffix("_close")
        if kind in _STYLES:
            depths[_STYLES[kind]] += token.nesting
        elif token.type == "link_open":
            target, label = str(token.attrGet("href")), []
        elif token.type == "link_close":
            yield from _link(target or "", label)
            target = None
        else:
            pieces = _leaf(token, frozenset(+depths), in_link=target is not None)
            if target is None:
                yield from pieces
            else:
                label.extend(pieces)


def _leaf(token: Token, styles: frozenset[_Style], *, in_link: bool) -> Iterable[_Piece]:
    text = _presentable(token.content)
    match token.type:
        case "softbreak" | "hardbreak":
            return [_Piece("\n", styles)]
        case "code_inline":
            return [_Piece(text, styles | {_Style.CODE})]
        case "image":
            alt = [_Piece(text or "image", styles)]
            return alt if in_link else _link(str(token.attrGet("src")), alt)
        case _:
            return [_Piece(text, styles)]  # HTML is shown as text too, not interpreted


def _link(url: str, label: Sequence[_Piece]) -> list[_Piece]:
    """Return a label as one link; an address that is unsafe to link, or holds a secret, is written out beside it."""
    text = "".join(piece.text for piece in label).replace("\n", " ").strip()
    styles = frozenset.intersection(*(piece.styles for piece in label)) if label else frozenset()
    shown = _presentable(url)
    if shown == url and mrkdwn.web_host(url):
        return [_Piece(mrkdwn.honest_label(text, url) or url, styles, url)]
    return [*label, _Piece("" if text == shown.removeprefix("mailto:") else f" ({shown})")]


def _table(tokens: Iterator[Token]) -> str:
    """Read tokens up to the end of the table, and return it in columns."""
    rows: list[list[str]] = []
    right: set[int] = set()
    for token in takewhile(lambda token: token.type != "table_close", tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in {"th_open", "td_open"} and "right" in str(token.attrGet("style")):
            right.add(len(rows[-1]))
        elif token.type == "inline":
            pieces = _inline(token.children or [], frozenset())
            rows[-1].append("".join(piece.text for piece in pieces).replace("\n", " "))
    widths = [min(MAX_PADDING, max(map(_width, column))) for column in zip_longest(*rows, fillvalue="")]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(_padded(cell, widths[at], right=at in right) for at, cell in enumerate(row)).rstrip() for row in rows
    )


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Return the width in columns: East Asian characters and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


# --- paragraphs → Slack's JSON ----------------------------------------------------------------------------------


def _cut(paragraphs: Sequence[_Paragraph], limit: int) -> Iterator[_Paragraph]:
    """Yield what fits; if anything is left out, the last text ends in `…`."""
    sizes = [piece.size for paragraph in paragraphs for piece in paragraph.pieces]
    fits = sum(sizes) <= limit and len(sizes) <= MAX_PIECES
    if limit < 1:
        return
    left, pieces_left = (limit, MAX_PIECES) if fits else (limit - len(mrkdwn.ELLIPSIS), MAX_PIECES - 1)
    for paragraph in paragraphs:
        for at, piece in enumerate(paragraph.pieces):
            if piece.size > left or pieces_left == 0:
                text = ("" if piece.url else piece.text) + mrkdwn.ELLIPSIS
                end = replace(piece, text=mrkdwn.shorten(text, left + len(mrkdwn.ELLIPSIS)), url=None)
                yield replace(paragraph, pieces=(*paragraph.pieces[:at], end))
                return
            left, pieces_left = left - piece.size, pieces_left - 1
        yield paragraph


def _elements(paragraphs: Iterable[_Paragraph]) -> list[dict[str, Any]]:
    """Return the JSON of each paragraph; consecutive items go into one list."""
    elements: list[dict[str, Any]] = []
    before: _Item | None = None
    for paragraph in paragraphs:
        item = paragraph.item
        pieces = [_written(piece) for piece in paragraph.pieces]
        if item is None:
            elements.append({"type": str(paragraph.shape), "elements": pieces})
        else:
            if before is None or item != replace(before, number=before.number + 1):
                elements.append(_list(item))
            elements[-1]["elements"].append({"type": str(_Shape.SECTION), "elements": pieces})
        before = item
    return elements


def _list(first: _Item) -> dict[str, Any]:
    opened: dict[str, Any] = {
        "type": str(_Shape.LIST),
        "style": "ordered" if first.ordered else "bullet",
        "indent": first.indent,
        "elements": [],
    }
    return opened | {"offset": first.number - 1} if first.ordered and first.number > 1 else opened


def _written(piece: _Piece) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "text", "text": piece.text}
    if piece.url:
        written = {"type": "link", "url": piece.url, "text": piece.text}
    if piece.styles:
        written["style"] = dict.fromkeys(map(str, sorted(piece.styles)), True)
    return written
