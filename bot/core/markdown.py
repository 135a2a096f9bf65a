"""Render the agent's Markdown for Slack: as one `rich_text` block, or as plain text for notifications.

Text in a `rich_text` block is literal, so nothing the agent writes can mention anybody. Slack refuses a block with an
empty list of elements or an empty text (`invalid_blocks`), so neither is ever made.

Steps: source → markdown-it's tokens → `_Paragraph`s, the only shapes Slack has → cut to size → Slack's JSON.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from html.parser import HTMLParser
from itertools import takewhile, zip_longest
from typing import Any

import emoji
from markdown_it import MarkdownIt
from markdown_it.common.utils import isPunctChar
from markdown_it.parser_inline import ParserInline
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Scanned
from markdown_it.token import Token
from markdown_it.utils import EnvType
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.tasklists import tasklists_plugin

from bot.core import mrkdwn

MAX_SOURCE = 10_000  # characters that are parsed: about what fits in one message; the most hostile input takes a second
MAX_PIECES = 1_000  # texts and links in one block, each some 50 bytes of JSON beside its words
MAX_DEPTH = 100  # nested lists and quotes; deeper ones are left out
MAX_INDENT = 8  # levels Slack's own editor offers
MAX_PADDING = 40  # columns; a wider table cell is not aligned
MAX_DRAWN = 20  # lines of a diff or of a diagram's source that are shown
DRAWN = frozenset({"diff", "patch", "mermaid"})
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
    parser = MarkdownIt("zero")
    parser.inline = _Inline()
    parser.configure("commonmark", {"linkify": True, "maxNesting": MAX_DEPTH})
    parser.enable(["linkify", "strikethrough", "table"])
    parser.use(tasklists_plugin).use(footnote_plugin, inline=False)
    assert parser.linkify is not None  # noqa: S101 - the extra is installed; only its type says it may not be
    parser.linkify.set({"fuzzy_link": False, "fuzzy_email": False})  # README.md is a file, not a site in Moldova
    return parser


def _presentable(text: str) -> str:
    return mrkdwn.redact(mrkdwn.clean(text))


class _Line(StateInline):
    """A line in which emphasis may also begin and end at punctuation beside a wide character: `**「設定」**を`.

    CommonMark expects a space there, which Chinese, Japanese and Korean do not write.
    """

    def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:  # noqa: N802, N803, FBT001 - markdown-it's names
        found = super().scanDelims(start, canSplitWord)
        before = self.src[start - 1 : start]
        after = self.src[start + found.length : self.posMax][:1]
        opens = _is_mark(after) and (_is_wide(after) or _is_wide(before))
        closes = _is_mark(before) and (_is_wide(before) or _is_wide(after))
        return Scanned(found.can_open or opens, found.can_close or closes, found.length)


class _Inline(ParserInline):
    def parse(self, src: str, md: MarkdownIt, env: EnvType, tokens: list[Token]) -> list[Token]:
        line = _Line(src, md, env, tokens)
        self.tokenize(line)
        for rule in self.ruler2.getRules(""):
            rule(line)
        return line.tokens


def _is_mark(character: str) -> bool:
    return bool(character) and isPunctChar(character)


def _is_wide(character: str) -> bool:
    return bool(character) and unicodedata.east_asian_width(character) in "WF"


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
        self._note = ""
        """The mark of a footnote whose text is still to come."""

    def read(self, tokens: Iterable[Token]) -> None:
        rest = iter(tokens)
        for token in rest:
            match token.type:
                case "inline":
                    style = {_Style.BOLD} if self._heading else set[_Style]()
                    note, self._note = self._note, ""
                    pieces = _trimmed(_inline(token.children or [], frozenset(style)))
                    self._add(_Shape.SECTION, [_Piece(note), *pieces])
                case "fence" | "code_block":
                    self._add_code([_Piece(_presentable(_drawn(token)).strip("\n"))])
                case "html_block":  # the Markdown in it is read too, whatever GitHub does with it
                    lines = _parser().parseInline(token.content.strip())[0].children or []
                    self._add(_Shape.SECTION, _trimmed(_inline(lines, frozenset())))
                case "footnote_open":
                    self._note = _mark(token)
                case "hr":
                    self._add(_Shape.SECTION, [_Piece(RULE)])
                case "table_open":
                    self._add_code(_table(rest))
                case "heading_open" | "heading_close":
                    self._heading = token.type == "heading_open"
                case "blockquote_open":
                    self._quotes += 1
                case "blockquote_close":
                    self._quotes = max(0, self._quotes - 1)
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
                    self._lists = self._lists[:-1]  # of a footnote that is defined within itself, only the end is there
                case "list_item_open":
                    self._item = self._lists[-1] = replace(self._lists[-1], number=self._lists[-1].number + 1)
                case "list_item_close":
                    self._item = None  # an empty item shows nothing
                case _:
                    pass  # the ends of paragraphs and fences have no meaning of their own here

    def _add_code(self, pieces: Iterable[_Piece]) -> None:
        if self._quotes:  # Slack allows no preformatted text in a quote
            self._add(_Shape.QUOTE, [replace(piece, styles=frozenset({_Style.CODE})) for piece in pieces])
        else:
            self._add(_Shape.CODE, pieces)

    def _add(self, shape: _Shape, pieces: Iterable[_Piece]) -> None:
        """Add text to the open item, quote or section, or as a paragraph of its own."""
        pieces = _without_secrets(_joined(pieces))
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


def _trimmed(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Leave out the blank ends that hidden HTML leaves behind."""
    kept = list(pieces)
    while kept and not kept[0].text.strip():
        del kept[0]
    while kept and not kept[-1].text.strip():
        del kept[-1]
    if kept:
        kept[0] = replace(kept[0], text=kept[0].text.lstrip())
        kept[-1] = replace(kept[-1], text=kept[-1].text.rstrip())
    return kept


def _without_secrets(pieces: tuple[_Piece, ...]) -> tuple[_Piece, ...]:
    """Redact what only styles, hidden HTML or a link's end kept apart; styles and links of that paragraph are lost."""
    whole = "".join(piece.text for piece in pieces)
    shown = mrkdwn.redact(whole)
    return pieces if shown == whole else (_Piece(shown),)


def _drawn(token: Token) -> str:
    """Return a block of code; of a long diff or diagram only its first lines."""
    lines = token.content.splitlines()
    kind = token.info.split(maxsplit=1)[:1]
    if len(lines) <= MAX_DRAWN or not (DRAWN & set(kind) or token.content.startswith("diff --git ")):
        return token.content
    return "\n".join(
        [*lines[:MAX_DRAWN], f"{mrkdwn.ELLIPSIS} {len(lines) - MAX_DRAWN} more lines: the whole is in OpenHands"]
    )


def _mark(token: Token) -> str:
    """Return the mark of a footnote, at its reference and before its text."""
    return f"[{_presentable(token.meta.get('label') or '')}] "


# --- lines ------------------------------------------------------------------------------------------------------


def _inline(tokens: Iterable[Token], outer: frozenset[_Style]) -> Iterator[_Piece]:
    """Yield the pieces of one paragraph; `outer`: the styles around it."""
    depths = Counter[_Style](outer)
    label: list[_Piece] = []
    target: str | None = None
    for token in tokens:
        kind = token.type.removesuffix("_open").removesuffix("_close")
        tag = _tag(token)
        style = _STYLES.get(kind) or (_HTML_STYLES.get(tag.name) if tag else None)
        if style:
            depths[style] = max(0, depths[style] + (tag.nesting if tag else token.nesting))
            continue
        opens = token.attrGet("href") if token.type == "link_open" else None
        if tag and tag.name == "a":
            opens = tag.values.get("href")
        if opens is not None:
            if target is not None:
                yield from _link(target, label)
            target, label = str(opens), []
        elif token.type == "link_close" or (tag and tag.name == "a"):
            if target is not None:
                yield from _link(target, label)
            target = None
        else:
            styles = frozenset(+depths)
            pieces = _html(tag, styles) if tag else _leaf(token, styles, in_link=target is not None)
            if target is None:
                yield from pieces
            else:
                label.extend(pieces)
    if target is not None:
        yield from _link(target, label)


def _leaf(token: Token, styles: frozenset[_Style], *, in_link: bool) -> Iterable[_Piece]:
    text = _presentable(token.content)
    match token.type:
        case "softbreak" | "hardbreak":
            return [_Piece("\n", styles)]
        case "code_inline":
            return [_Piece(text, styles | {_Style.CODE})]
        case "text":
            return [_Piece(_EMOJI.sub(_pictured, text), styles)]
        case "footnote_ref":
            return [_Piece(_mark(token).rstrip(), styles)]
        case "image":
            alt = [_Piece(text or "image", styles)]
            return alt if in_link else _link(str(token.attrGet("src")), alt)
        case _:
            return [_Piece(text, styles)]  # what only looks like HTML: `<@U1>`, `List<String>`


_EMOJI = re.compile(r"(?<![\w:/.]):[a-z0-9_+-]{1,60}:(?![\w:])")  # not the 100 of `file.py:100:5`


def _pictured(code: re.Match[str]) -> str:
    return emoji.emojize(code[0], language="alias")


@dataclass(frozen=True, slots=True)
class _Tag:
    """A piece of HTML that GitHub would not show as text; a comment has no name."""

    name: str = ""
    nesting: int = 0
    values: dict[str, str | None] = field(default_factory=dict)


_HTML_STYLES = {
    **dict.fromkeys(("b", "strong", "summary", "h1", "h2", "h3", "h4", "h5", "h6"), _Style.BOLD),
    **dict.fromkeys(("i", "em"), _Style.ITALIC),
    **dict.fromkeys(("s", "del", "strike"), _Style.STRIKE),
    **dict.fromkeys(("code", "kbd", "tt", "samp"), _Style.CODE),
}
_HTML_LINES = frozenset({"br", "p", "div", "li", "tr", "hr"})
_HTML_HIDDEN = frozenset(
    {
        "a",
        "blockquote",
        "dd",
        "details",
        "dl",
        "dt",
        "img",
        "input",
        "ins",
        "ol",
        "picture",
        "pre",
        "q",
        "small",
        "span",
    }
    | {"sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "u", "ul", "wbr"}
)  # of those that GitHub allows; names that people also use as placeholders, such as <source>, stay text


class _TagReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tag: _Tag | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = _Tag(tag, 1, dict(attrs))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = _Tag(tag, 0, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        self.tag = _Tag(tag, -1)


def _tag(token: Token) -> _Tag | None:
    """Return the HTML that a token holds, which is one tag or comment; None if it is to be read as text."""
    if token.type != "html_inline":
        return None
    if token.content.startswith("<!--"):
        return _Tag()
    reader = _TagReader()
    reader.feed(token.content)
    tag = reader.tag
    known = tag and (tag.name in _HTML_STYLES or tag.name in _HTML_LINES or tag.name in _HTML_HIDDEN)
    return tag if known else None


def _html(tag: _Tag, styles: frozenset[_Style]) -> list[_Piece]:
    """Return what a tag shows by itself."""
    match tag.name:
        case "input":
            return [_Piece("☑" if "checked" in tag.values else "☐", styles)]
        case "img":
            alt = [_Piece(_presentable(tag.values.get("alt") or "image"), styles)]
            address = tag.values.get("src")
            return _link(address, alt) if address else alt
        case "td" | "th":
            return [_Piece(" ", styles)]
        case name:
            return [_Piece("\n", styles)] if name in _HTML_LINES and (tag.nesting < 1 or name == "br") else []


def _link(url: str, label: Sequence[_Piece]) -> list[_Piece]:
    """Return a label as one link; an address that is unsafe to link, or holds a secret, is written out beside it."""
    text = "".join(piece.text for piece in label).replace("\n", " ").strip()
    styles = frozenset.intersection(*(piece.styles for piece in label)) if label else frozenset()
    shown = _presentable(url)
    if shown == url and mrkdwn.web_host(url):
        return [_Piece(mrkdwn.outside_label(text, url) or url, styles, url)]
    return [*label, _Piece("" if text == shown.removeprefix("mailto:") else f" ({shown})")]


def _table(tokens: Iterator[Token]) -> Iterator[_Piece]:
    """Read tokens up to the end of the table, and yield it in columns; links stay links."""
    rows: list[list[_Cell]] = []
    right: set[int] = set()
    for token in takewhile(lambda token: token.type != "table_close", tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in {"th_open", "td_open"} and "right" in str(token.attrGet("style")):
            right.add(len(rows[-1]))
        elif token.type == "inline":
            pieces = _inline(token.children or [], frozenset())
            words = [replace(one, text=one.text.replace("\n", " "), styles=frozenset()) for one in pieces]
            rows[-1].append(_Cell(words, sum(_width(piece.text) for piece in words)))
    widths = [min(MAX_PADDING, max(cell.width for cell in column)) for column in zip_longest(*rows, fillvalue=_Cell())]
    rows.insert(1, [_Cell([_Piece("-" * width)], width) for width in widths])
    before = ""
    for row in rows:
        while len(row) > 1 and not row[-1].width:
            del row[-1]
        for at, cell in enumerate(row):
            space = " " * (widths[at] - cell.width)
            yield _Piece(before + space if at in right else before)
            yield from cell.pieces
            before = "  " if at in right else space + "  "
        before = "\n"


@dataclass(frozen=True, slots=True)
class _Cell:
    pieces: Sequence[_Piece] = ()
    width: int = 0


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
