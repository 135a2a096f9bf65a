"""Slack's wire form of text, and whom a text notifies."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bot.simulator.slack.records import JSON

_MENTION = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^>]*)?>")
_BROADCAST = re.compile(r"<!(channel|here|everyone|subteam\^\w+)(?:\|[^>]*)?>")
_RAW_BROADCAST = re.compile(r"(?<![\w@<!./])@(channel|here|everyone)\b")
_RAW_NAME = re.compile(r"(?<![\w@<!./])@([\w.-]*\w)")
_TYPED = re.compile(r"(?<![\w@#/&.])([@#])([\w-]+(?:\.[\w-]+)*)")
_WELL_FORMED = re.compile(
    r"<(?:@[UW][A-Z0-9]+|#[CG][A-Z0-9]+|!(?:channel|here|everyone|subteam\^\w+|date\^[^<>|]+)|(?:https?://|mailto:)[^<>|\s]+)"
    r"(?:\|[^<>]*)?>"
)
_BARE = re.compile(r"<|&(?!(?:amp|lt|gt);)")
_TOKEN = re.compile(r"<([@#!]?)([^<>|]+)(?:\|([^<>]*))?>")


@dataclass(frozen=True)
class Notified:
    """`sure`: people whom Slack certainly notifies. `doubtful`: people named where it may not notify them."""

    sure: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    broadcasts: frozenset[str] = frozenset()


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def to_wire(text: str, users: Mapping[str, str], channels: Mapping[str, str]) -> str:
    """Return what Slack sends for what a person types. users, channels: lower-case name → id."""

    def link(match: re.Match[str]) -> str:
        mark, name = match[1], match[2]
        if mark == "@" and name in {"channel", "here", "everyone"}:
            return f"<!{name}>"
        known = users if mark == "@" else channels
        found = known.get(name.lower())
        if found is None:
            return match[0]
        return f"<@{found}>" if mark == "@" else f"<#{found}|{name}>"

    return _TYPED.sub(link, escape(text))


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Return text with names in mentions, as commands with `should_escape` have: `<@U1|alice>`. names: id → name."""
    return _MENTION.sub(lambda match: f"<@{match[1]}|{names.get(match[1], match[1])}>", text)


def rich_text(text: str, block_id: str) -> JSON:
    """Return the block that Slack's own composer adds to a person's text."""
    elements: list[JSON] = []
    end = 0
    for token in _TOKEN.finditer(text):
        if token.start() > end:
            elements.append({"type": "text", "text": unescape(text[end : token.start()])})
        elements.append(_element(token))
        end = token.end()
    if end < len(text) or not elements:
        elements.append({"type": "text", "text": unescape(text[end:])})
    return {
        "type": "rich_text",
        "block_id": block_id,
        "elements": [{"type": "rich_text_section", "elements": elements}],
    }


def _element(token: re.Match[str]) -> JSON:
    match token[1]:
        case "@":
            return {"type": "user", "user_id": token[2]}
        case "#":
            return {"type": "channel", "channel_id": token[2]}
        case "!":
            return {"type": "broadcast", "range": token[2]}
        case _:
            link = {"type": "link", "url": unescape(token[2])}
            return link | {"text": unescape(token[3])} if token[3] else link


def notified(
    text: str, blocks: Iterable[JSON], *, parses_names: bool, names: Mapping[str, str], markdown: bool = False
) -> Notified:
    """Return whom a message notifies.

    With blocks, people named only in `text` or in a Markdown block are doubtful: nothing documents that they are
    notified. Groups count wherever they are named, since the point is to catch accidents. parses_names: `link_names`,
    or `parse` other than "none". names: lower-case user name → id.
    """
    blocks = tuple(blocks)
    sure: set[str] = set()
    doubtful: set[str] = set(_MENTION.findall(text))
    broadcasts: set[str] = set(_BROADCAST.findall(text))
    if parses_names:
        doubtful |= _raw_names(text, names)
        broadcasts |= set(_RAW_BROADCAST.findall(text))
    if not blocks and not markdown:
        sure, doubtful = doubtful, set()
    for kind, words in _spoken(blocks):
        match kind:
            case "user":
                sure.add(words)
            case "broadcast":
                broadcasts.add(words)
            case "markdown":
                doubtful |= set(_MENTION.findall(words))
                broadcasts |= {*_BROADCAST.findall(words), *_RAW_BROADCAST.findall(words)}
            case _:
                sure |= set(_MENTION.findall(words))
                broadcasts |= set(_BROADCAST.findall(words))
                if kind == "mrkdwn" or parses_names:
                    broadcasts |= set(_RAW_BROADCAST.findall(words))
                if parses_names:
                    sure |= _raw_names(words, names)
    return Notified(frozenset(sure), frozenset(doubtful - sure), frozenset(broadcasts))


def is_escaped(text: str) -> bool:
    """Return whether every `<` and `&` is Slack's own syntax. A bare `>` marks a quotation, so it is always allowed."""
    return _BARE.search(_WELL_FORMED.sub("", text)) is None


def mrkdwn_texts(blocks: Iterable[JSON]) -> Iterator[str]:
    return (words for kind, words in _spoken(tuple(blocks)) if kind in {"mrkdwn", "verbatim"})


def _raw_names(text: str, names: Mapping[str, str]) -> set[str]:
    return {names[name.lower()] for name in _RAW_NAME.findall(text) if name.lower() in names}


def _spoken(part: object) -> Iterator[tuple[str, str]]:
    """Yield what can notify: (user | broadcast | markdown | mrkdwn | verbatim, id or text). Plain text never does."""
    if isinstance(part, list | tuple):
        for item in part:
            yield from _spoken(item)
        return
    if not isinstance(part, dict):
        return
    match part.get("type"):
        case "user":
            yield "user", str(part.get("user_id"))
        case "usergroup":
            yield "broadcast", f"subteam^{part.get('usergroup_id')}"
        case "broadcast":
            yield "broadcast", str(part.get("range"))
        case "markdown":
            yield "markdown", str(part.get("text"))
        case "mrkdwn":
            yield "verbatim" if part.get("verbatim") else "mrkdwn", str(part.get("text"))
        case "plain_text" | "text":
            return
        case _:
            for value in part.values():
                yield from _spoken(value)
