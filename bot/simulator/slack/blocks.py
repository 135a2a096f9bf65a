"""Block Kit's rules for messages: when Slack answers `invalid_blocks` or `msg_blocks_too_long`.

Sizes are Slack's published ones, in characters. The limit for a whole message is not published; people report the error
a little above 13,000.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from bot.simulator.slack.records import JSON, Refused

BLOCKS_MAX = 50
ALL_TEXT_MAX = 13_000
ALL_MARKDOWN_MAX = 12_000
ID_MAX = 255

_BOTH = ("mrkdwn", "plain_text")
_PLAIN = ("plain_text",)
_STYLES = {"bold", "italic", "strike", "code", "underline", "highlight", "client_highlight", "unlink"}

Problems = Iterator[str]


def checked(value: Any) -> tuple[JSON, ...]:
    """Return the blocks of the `blocks` argument, a list or its JSON text, or raise Refused with Slack's error."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Refused("invalid_blocks_format") from None
    if not isinstance(value, list):
        raise Refused("invalid_blocks_format")
    problems = list(_message(value))
    if problems:
        raise Refused("invalid_blocks", errors=problems, response_metadata={"messages": problems})
    markdown = sum(len(block["text"]) for block in value if block["type"] == "markdown")
    if markdown > ALL_MARKDOWN_MAX or sum(_lengths(value)) > ALL_TEXT_MAX:
        raise Refused("msg_blocks_too_long")
    return tuple(value)


def with_ids(blocks: tuple[JSON, ...], new_id: Callable[[], str]) -> tuple[JSON, ...]:
    """Return the blocks, each with a `block_id`: Slack adds one if it is missing."""
    return tuple(block if "block_id" in block else block | {"block_id": new_id()} for block in blocks)


def _message(blocks: list[Any]) -> Problems:
    if len(blocks) > BLOCKS_MAX:
        yield _error(f"no more than {BLOCKS_MAX} items allowed", "/blocks")
    seen: set[str] = set()
    for number, block in enumerate(blocks):
        at = f"/blocks/{number}"
        if not isinstance(block, dict):
            yield _error("must be an object", at)
            continue
        check = _BLOCKS.get(str(block.get("type")))
        if check is None:
            yield _error(f"unsupported type: {block.get('type')}", f"{at}/type")
            continue
        block_id = block.get("block_id")
        if block_id is not None:
            yield from _string(block_id, f"{at}/block_id", ID_MAX)
            if block_id in seen:
                yield _error("block_id already exists", f"{at}/block_id")
            seen.add(str(block_id))
        yield from check(block, at)


def _section(block: JSON, at: str) -> Problems:
    yield from _known(block, at, "text", "fields", "accessory", "expand")
    if "text" not in block and "fields" not in block:
        yield _error("missing required field: text or fields", at)
    if "text" in block:
        yield from _text(block["text"], f"{at}/text", 3000)
    if "fields" in block:
        yield from _items(block["fields"], f"{at}/fields", 10, lambda item, where: _text(item, where, 2000))
    if "accessory" in block:
        yield from _element(block["accessory"], f"{at}/accessory")


def _header(block: JSON, at: str) -> Problems:
    yield from _known(block, at, "text")
    yield from _text(block.get("text"), f"{at}/text", 150, _PLAIN)


def _divider(block: JSON, at: str) -> Problems:
    yield from _known(block, at)


def _context(block: JSON, at: str) -> Problems:
    yield from _known(block, at, "elements")
    yield from _items(block.get("elements"), f"{at}/elements", 10, _context_element)


def _context_element(item: Any, at: str) -> Problems:
    if isinstance(item, dict) and item.get("type") == "image":
        yield from _image_element(item, at)
    else:
        yield from _text(item, at, 3000)


def _actions(block: JSON, at: str) -> Problems:
    yield from _known(block, at, "elements")
    elements = block.get("elements")
    yield from _items(elements, f"{at}/elements", 25, _element)
    if isinstance(elements, list):
        ids = [element["action_id"] for element in elements if isinstance(element, dict) and "action_id" in element]
        if len(set(map(str, ids))) < len(ids):
            yield _error("action_id already exists", f"{at}/elements")


def _markdown(block: JSON, at: str) -> Problems:
    yield from _known(block, at, "text")
    yield from _string(block.get("text"), f"{at}/text", None)


def _image(block: JSON, at: str) -> Problems:
    yield from _known(block, at, "image_url", "alt_text", "title")
    yield from _string(block.get("image_url"), f"{at}/image_url", 3000)
    yield from _string(block.get("alt_text"), f"{at}/alt_text", 2000)
    if "title" in block:
        yield from _text(block["title"], f"{at}/title", 2000, _PLAIN)


def _image_element(item: JSON, at: str) -> Problems:
    yield from _known(item, at, "image_url", "alt_text")
    yield from _string(item.get("image_url"), f"{at}/image_url", 3000)
    yield from _string(item.get("alt_text"), f"{at}/alt_text", 2000)


def _rich_text(block: JSON, at: str) -> Problems:
    yield from _known(block, at, "elements")
    yield from _items(block.get("elements"), f"{at}/elements", None, _rich_part)


def _rich_part(part: Any, at: str) -> Problems:
    kind = part.get("type") if isinstance(part, dict) else None
    match kind:
        case "rich_text_section":
            yield from _known(part, at, "elements")
            yield from _items(part.get("elements"), f"{at}/elements", None, _rich_leaf)
        case "rich_text_preformatted":
            yield from _known(part, at, "elements", "border", "language")
            yield from _items(part.get("elements"), f"{at}/elements", None, _rich_leaf)
        case "rich_text_quote":
            yield from _known(part, at, "elements", "border")
            yield from _items(part.get("elements"), f"{at}/elements", None, _rich_leaf)
        case "rich_text_list":
            yield from _known(part, at, "elements", "style", "indent", "border", "offset")
            if part.get("style") not in {"bullet", "ordered"}:
                yield _error("must be a valid enum value", f"{at}/style")
            if part.get("indent", 0) not in range(9):
                yield _error("must be between 0 and 8", f"{at}/indent")
            yield from _items(part.get("elements"), f"{at}/elements", None, _list_item)
        case _:
            yield _error(f"unsupported type: {kind}", f"{at}/type")


def _list_item(part: Any, at: str) -> Problems:
    if isinstance(part, dict) and part.get("type") == "rich_text_section":
        yield from _rich_part(part, at)
    else:
        yield _error("must be a rich_text_section", at)


# The leaves of rich text: the required field of each, and its optional ones.
_LEAVES = {
    "text": ("text", {"style"}),
    "link": ("url", {"text", "style", "unsafe"}),
    "user": ("user_id", {"style"}),
    "usergroup": ("usergroup_id", {"style"}),
    "channel": ("channel_id", {"style"}),
    "emoji": ("name", {"unicode", "style", "skin_tone"}),
    "broadcast": ("range", {"style"}),
}


def _rich_leaf(leaf: Any, at: str) -> Problems:
    kind = leaf.get("type") if isinstance(leaf, dict) else None
    if kind not in _LEAVES:
        yield _error(f"unsupported type: {kind}", f"{at}/type")
        return
    required, others = _LEAVES[kind]
    yield from _known(leaf, at, required, *others)
    yield from _string(leaf.get(required), f"{at}/{required}", None)
    style = leaf.get("style", {})
    if not isinstance(style, dict) or not set(style) <= _STYLES:
        yield _error("invalid style", f"{at}/style")


def _element(item: Any, at: str) -> Problems:
    if not isinstance(item, dict):
        yield _error("must be an object", at)
        return
    if "action_id" in item:
        yield from _string(item["action_id"], f"{at}/action_id", ID_MAX)
    if "confirm" in item:
        yield from _confirm(item["confirm"], f"{at}/confirm")
    match item.get("type"):
        case "button":
            yield from _known(item, at, "text", "action_id", "url", "value", "style", "confirm", "accessibility_label")
            yield from _text(item.get("text"), f"{at}/text", 75, _PLAIN)
            if "value" in item:
                yield from _string(item["value"], f"{at}/value", 2000)
            if "url" in item:
                yield from _string(item["url"], f"{at}/url", 3000)
            if item.get("style", "primary") not in {"primary", "danger"}:
                yield _error("must be a valid enum value", f"{at}/style")
        case "static_select":
            yield from _known(item, at, "placeholder", "action_id", "options", "initial_option", "confirm")
            yield from _text(item.get("placeholder"), f"{at}/placeholder", 150, _PLAIN)
            yield from _items(item.get("options"), f"{at}/options", 100, _option)
        case "external_select":
            yield from _known(item, at, "placeholder", "action_id", "min_query_length", "initial_option", "confirm")
            yield from _text(item.get("placeholder"), f"{at}/placeholder", 150, _PLAIN)
        case "overflow":
            yield from _known(item, at, "action_id", "options", "confirm")
            yield from _items(item.get("options"), f"{at}/options", 5, _option)
        case "image":
            yield from _image_element(item, at)
        case other:
            yield _error(f"unsupported type: {other}", f"{at}/type")


def _option(item: Any, at: str) -> Problems:
    if not isinstance(item, dict):
        yield _error("must be an object", at)
        return
    yield from _known(item, at, "text", "value", "description", "url")
    yield from _text(item.get("text"), f"{at}/text", 75)
    yield from _string(item.get("value"), f"{at}/value", 150)
    if "description" in item:
        yield from _text(item["description"], f"{at}/description", 75)


def _confirm(item: Any, at: str) -> Problems:
    if not isinstance(item, dict):
        yield _error("must be an object", at)
        return
    yield from _known(item, at, "title", "text", "confirm", "deny", "style")
    for field, limit, kinds in (
        ("title", 100, _PLAIN),
        ("text", 300, _BOTH),
        ("confirm", 30, _PLAIN),
        ("deny", 30, _PLAIN),
    ):
        yield from _text(item.get(field), f"{at}/{field}", limit, kinds)


def _text(value: Any, at: str, limit: int, kinds: tuple[str, ...] = _BOTH) -> Problems:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in kinds:
        yield _error(f"must be {' or '.join(kinds)}", at)
        return
    yield from _known(value, at, "text", "verbatim" if kind == "mrkdwn" else "emoji")
    yield from _string(value.get("text"), f"{at}/text", limit)


def _string(value: Any, at: str, limit: int | None) -> Problems:
    if not isinstance(value, str):
        yield _error("must be a string", at)
    elif not value:
        yield _error("must be more than 0 characters", at)
    elif limit is not None and len(value) > limit:
        yield _error(f"must be less than {limit + 1} characters", at)


def _items(value: Any, at: str, limit: int | None, check: Callable[[Any, str], Problems]) -> Problems:
    if not isinstance(value, list) or not value:
        yield _error("must provide at least one item", at)
        return
    if limit is not None and len(value) > limit:
        yield _error(f"no more than {limit} items allowed", at)
    for number, item in enumerate(value):
        yield from check(item, f"{at}/{number}")


def _known(value: JSON, at: str, *fields: str) -> Problems:
    for field in value.keys() - {"type", "block_id", *fields}:
        yield _error(f"invalid additional property: {field}", at)


def _error(why: str, at: str) -> str:
    return f"[ERROR] {why} [json-pointer:{at}]"


def _lengths(part: Any) -> Iterator[int]:
    """Yield the length of every text a person would read."""
    if isinstance(part, list):
        for item in part:
            yield from _lengths(item)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key == "text" and isinstance(value, str):
                yield len(value)
            else:
                yield from _lengths(value)


_BLOCKS: dict[str, Callable[[JSON, str], Problems]] = {
    "section": _section,
    "header": _header,
    "divider": _divider,
    "context": _context,
    "actions": _actions,
    "markdown": _markdown,
    "image": _image,
    "rich_text": _rich_text,
}
