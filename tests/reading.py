"""Messages as a person reads them: a line per part, with text styles, link targets and button values.

A line break within a part is shown as ⏎. The notification's text is shown if it differs from the parts.
"""

from collections.abc import Iterable
from typing import Any

from bot.core.cards import Message

JSON = dict[str, Any]
MARKS = {"bold": "*", "italic": "_", "strike": "~", "code": "`"}


def read(message: Message) -> str:
    """Return a message as text, a line per part."""
    return "\n".join([*_text(message), *(part(block) for block in message.blocks)])


def part(block: JSON) -> str:
    match block["type"]:
        case "actions":
            said = " ".join(map(_button, block["elements"]))
        case "rich_text":
            said = "\n".join(map(_rich, block["elements"]))
        case _:
            said = "\n".join(_texts(block))
    return f"[{block['type']}] {_one_line(said)}"


def said(blocks: Iterable[JSON]) -> str:
    """Return the text of all parts except buttons."""
    return "\n".join(text for block in blocks for text in _texts(block))


def _text(message: Message) -> list[str]:
    heads = [block for block in message.blocks if block["type"] != "context"]
    return [] if message.text in (said(message.blocks), said(heads)) else [f"[text] {_one_line(message.text)}"]


def _texts(block: JSON) -> list[str]:
    match block["type"]:
        case "section":
            return [block["text"]["text"]]
        case "context":
            return [element["text"] for element in block["elements"]]
        case "rich_text":
            return ["".join(_leaves(element)) for element in block["elements"]]
        case _:
            return []


def _leaves(element: JSON) -> list[str]:
    if "elements" not in element:
        return [element["text"]]
    return [leaf for inner in element["elements"] for leaf in _leaves(inner)]


def _rich(element: JSON) -> str:
    match element["type"]:
        case "rich_text_list":
            mark = "1." if element["style"] == "ordered" else "•"
            return "\n".join(f"{'  ' * element.get('indent', 0)}{mark} {_rich(one)}" for one in element["elements"])
        case "rich_text_preformatted":
            return f"```{''.join(map(_piece, element['elements']))}```"
        case "rich_text_quote":
            return f"> {''.join(map(_piece, element['elements']))}"
        case _:
            return "".join(map(_piece, element["elements"]))


def _piece(piece: JSON) -> str:
    marks = "".join(MARKS[style] for style in piece.get("style", {}))
    target = f"→{piece['url']}" if "url" in piece else ""
    return f"{marks}{piece['text']}{marks[::-1]}{target}"


def _button(button: JSON) -> str:
    """Return a button as `[Label style](id value)`, with → before an address."""
    style = f" {button['style']}" if "style" in button else ""
    carries = f"→{button['url']}" if "url" in button else button["value"]
    return f"[{button['text']['text']}{style}]({button['action_id']} {carries})"


def _one_line(text: str) -> str:
    return text.replace("\n", " ⏎ ")
