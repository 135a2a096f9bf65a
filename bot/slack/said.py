"""What a message says, in the wire form of `text`: its words, wherever Slack keeps them, what it forwards, its files. Pure.

Quoted lines begin with `&gt;`, as Slack writes them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.core.model import File
from bot.core.mrkdwn import escape, redact
from bot.core.words import forwarded_for_agent

QUOTE = "&gt; "
DEEPEST = 20  # nested parts of a block that are read
LONGEST = 40_000  # characters; Slack cuts a message's text at this length
MOST_FILES = 20  # of one message; what is more is not even named
ASK = "check_file_info"
"""Slack's word for a file of which a message shows only the id, as in channels shared with other companies."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads messages for the bot whose user id this is."""

    us: str

    def words(self, message: Mapping[str, Any]) -> str:
        """Return the words of a message, then those it forwards, as a quote.

        Its own are its text or, if that is empty or only mentions us, those of its blocks.
        """
        return "\n".join(filter(None, [self._own(message), *forwards(message.get("attachments"))]))

    def _own(self, message: Mapping[str, Any]) -> str:
        text = string(message.get("text"))
        if self._without_us(text):
            return text
        found = in_blocks(message.get("blocks"))
        if not self._without_us(found):
            return text or found
        return f"{text.strip()} {found}" if text.strip() and not self.mentioned(found) else found

    def alert(self, message: Mapping[str, Any]) -> str:
        """Return the words of another app's message, which are often in attachments alone."""
        words, more = self.words(message), in_attachments(message.get("attachments"))
        return "\n".join(filter(None, [words, more]))[:LONGEST]

    def mentioned(self, text: str) -> bool:
        """Return whether a text mentions us, outside of quotes."""
        return re.search(self._mention, without_quotes(text)) is not None

    def _without_us(self, text: str) -> str:
        return re.sub(self._mention, "", text).strip()

    @property
    def _mention(self) -> str:
        return rf"<@{re.escape(self.us)}(?:\|[^<>]*)?>"


def without_quotes(text: str) -> str:
    """Return the lines of a text that are no quotes. `>>>` quotes all that follows."""
    own = re.split(r"^\s*&gt;&gt;&gt;", text, maxsplit=1, flags=re.MULTILINE)[0]
    return "\n".join(line for line in own.split("\n") if not line.lstrip().startswith("&gt;"))


def forwards(attachments: Any) -> Iterable[str]:
    """Return the messages that are forwarded, each as a quote that names author and place; a link's preview is none."""
    for one in listed(attachments):
        if one.get("is_share") is not True:
            continue
        held = [block for kept in listed(one.get("message_blocks")) for block in listed(inside(kept, "blocks"))]
        said = redact(string(one.get("text")) or in_blocks(held)).strip()
        author = string(one.get("author_name")) or string(one.get("author_subname"))
        place = string(one.get("channel_name"))
        yield quoted(f"{escape(forwarded_for_agent(author, place, readable=bool(said)))}\n{said}".strip())


def files_of(message: Mapping[str, Any]) -> tuple[File, ...]:
    """Return the files of a message and of the messages it forwards."""
    kept = [message, *(one for one in listed(message.get("attachments")) if one.get("is_share") is True)]
    return tuple(file_in(one) for each in kept for one in listed(each.get("files")) if string(one.get("id")))[
        :MOST_FILES
    ]


def file_in(one: Mapping[str, Any]) -> File:
    """Return a file as Slack shows it. One that is deleted, or shown by its id alone, has no address."""
    url = string(one.get("url_private_download")) or string(one.get("url_private"))
    return File(
        id=string(one.get("id")),
        name=string(one.get("name")) or string(one.get("title")),
        url="" if one.get("file_access") == ASK else url,
        size=whole(one.get("size")),
    )


def in_attachments(attachments: Any) -> str:
    """Return the words of attachments, as apps write their alerts; those of forwards and link previews are not among them."""
    found = []
    for one in listed(attachments):
        if one.get("is_share") is True or "from_url" in one:
            continue
        url, title = string(one.get("title_link")), string(one.get("title"))
        parts = [
            string(one.get("pretext")),
            f"<{url}|{title}>" if url and title else title,
            string(one.get("text")),
            *(f"{string(field.get('title'))}: {string(field.get('value'))}" for field in listed(one.get("fields"))),
            in_blocks(one.get("blocks")),
        ]
        found.append("\n".join(filter(None, parts)) or string(one.get("fallback")))
    return "\n".join(filter(None, found))


def inside(kept: Mapping[str, Any], name: str) -> Any:
    message = kept.get("message")
    return message.get(name) if isinstance(message, Mapping) else None


def in_blocks(blocks: Any) -> str:
    """Return the words in blocks, one block a paragraph. Buttons and the like say nothing."""
    return "\n".join(filter(None, (block_text(block).strip() for block in listed(blocks))))[:LONGEST]


def block_text(block: Mapping[str, Any]) -> str:
    match block.get("type"):
        case "rich_text":
            return "\n".join(rich(part, 0) for part in listed(block.get("elements")))
        case "section":
            parts = [object_text(block.get("text")), *map(object_text, listed(block.get("fields")))]
            return "\n".join(filter(None, parts))
        case "header":
            return object_text(block.get("text"))
        case "context":
            return " ".join(filter(None, map(object_text, listed(block.get("elements")))))
        case "markdown":
            return string(block.get("text"))
        case "image" | "video":
            return object_text(block.get("title")) or escape(string(block.get("alt_text")))
        case _:
            return ""


def object_text(value: Any) -> str:
    """Return the words of a text object; only those of `mrkdwn` are in wire form."""
    if not isinstance(value, Mapping):
        return ""
    text = string(value.get("text"))
    return text if value.get("type") == "mrkdwn" else escape(text)


def rich(part: Mapping[str, Any], depth: int) -> str:
    """Return a part of a `rich_text` block as Slack writes it in `text`."""
    inner = listed(part.get("elements")) if depth < DEEPEST else []
    match part.get("type"):
        case "rich_text_list":
            ordered = part.get("style") == "ordered"
            indent = "    " * min(whole(part.get("indent")), DEEPEST)
            lines = (rich(one, depth + 1) for one in inner)
            first = whole(part.get("offset")) + 1
            return "\n".join(f"{indent}{f'{at}.' if ordered else '•'} {line}" for at, line in enumerate(lines, first))
        case "rich_text_preformatted":
            return f"```{''.join(element(one) for one in inner)}```"
        case "rich_text_quote":
            return quoted("".join(element(one) for one in inner))
        case _:
            return "".join(element(one) for one in inner)


def element(one: Mapping[str, Any]) -> str:
    match one.get("type"):
        case "text":
            text, style = escape(string(one.get("text"))), one.get("style")
            return f"`{text}`" if isinstance(style, Mapping) and style.get("code") and text.strip() else text
        case "link":
            url, label = escape(string(one.get("url"))), escape(string(one.get("text")))
            return f"<{url}|{label}>" if label else f"<{url}>"
        case "user":
            return f"<@{string(one.get('user_id'))}>"
        case "usergroup":
            return f"<!subteam^{string(one.get('usergroup_id'))}>"
        case "channel":
            return f"<#{string(one.get('channel_id'))}>"
        case "broadcast":
            return f"<!{string(one.get('range'))}>"
        case "emoji":
            return f":{string(one.get('name'))}:"
        case "date":
            return escape(string(one.get("fallback")))
        case "color":
            return escape(string(one.get("value")))
        case _:
            return ""


def quoted(text: str) -> str:
    return "\n".join(f"{QUOTE}{line}" for line in text.strip("\n").split("\n"))


def listed(value: Any) -> Iterable[Mapping[str, Any]]:
    """Return the objects of a list in a payload; empty if it is missing or no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def whole(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
