"""How the Web API parses its arguments, and which it refuses."""

import base64
import binascii
import json
from dataclasses import dataclass

from bot.simulator.slack import blocks as block_kit
from bot.simulator.slack.records import JSON, Refused
from bot.simulator.slack.text import Notified, is_escaped, mrkdwn_texts, notified
from bot.simulator.slack.workspace import Workspace

POST_TEXT_MAX = 40_000  # chat.postMessage truncates a longer text
UPDATE_TEXT_MAX = 4_000
MARKDOWN_TEXT_MAX = 12_000
METADATA_MAX_BYTES = 1_024  # Slack has a limit but does not publish it; this is on the safe side
PAGE_DEFAULT = 100
PAGE_MAX = 1_000


@dataclass(frozen=True)
class Content:
    """The part of a call that becomes a message's content, within Slack's limits."""

    text: str
    blocks: tuple[JSON, ...]
    notified: Notified


def read_content(workspace: Workspace, args: JSON, *, parse_default: str) -> Content:
    """Return text and blocks, or raise Refused.

    Stricter than Slack in one way: refuses blocks without a `text`, since people would get an empty notification.
    Records violations for text that is not escaped, and for people named only where Slack may not notify them.
    """
    text, markdown = args.get("text"), args.get("markdown_text")
    given = args.get("blocks")
    blocks = () if given in (None, [], "[]", "") else block_kit.checked(given)
    if markdown is not None and (text is not None or given is not None):
        raise Refused("markdown_text_conflict")
    if markdown is not None and len(markdown) > MARKDOWN_TEXT_MAX:
        raise Refused("msg_too_long")
    if blocks and not text:
        workspace.violations.append("blocks without a text to notify people with")
        raise Refused("no_text")
    if not (text or markdown):
        raise Refused("no_text")
    parses_names = str(args.get("parse") or parse_default) != "none" or flag(args, "link_names")
    who = notified(
        str(text or markdown),
        blocks,
        parses_names=parses_names,
        names=workspace.names,
        markdown=markdown is not None,
    )
    texts = [str(text), *mrkdwn_texts(blocks)] if text else []
    workspace.violations.extend(f"not escaped: {one}" for one in texts if not is_escaped(one))
    for person in sorted(who.doubtful):
        workspace.violations.append(f"{person} is named only where Slack may not notify them")
    return Content(str(text or markdown), block_kit.with_ids(blocks, workspace.new_block_id), who)


def read_metadata(args: JSON) -> JSON | None:
    value = args.get("metadata")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Refused("invalid_metadata_format") from None
    if value is None or value == {}:
        return None
    if not isinstance(value, dict) or value.keys() != {"event_type", "event_payload"}:
        raise Refused("invalid_metadata_format")
    if not isinstance(value["event_type"], str) or not isinstance(value["event_payload"], dict):
        raise Refused("invalid_metadata_format")
    if len(json.dumps(value).encode()) > METADATA_MAX_BYTES:
        raise Refused("metadata_too_large")
    return value


def flag(args: JSON, name: str) -> bool:
    return str(args.get(name, "")).lower() in {"1", "true", "t"}


def time_of(ts: str) -> float:
    try:
        return float(ts)
    except ValueError:
        raise Refused("invalid_ts_oldest") from None


def page(args: JSON, total: int, default: int) -> tuple[int, int]:
    """Return the start and end of the slice that `limit` and `cursor` ask for."""
    limit, start = str(args.get("limit") or default), 0
    if not limit.isdigit() or not 1 <= int(limit) <= PAGE_MAX:
        raise Refused("invalid_limit")
    if args.get("cursor"):
        try:
            start = int(base64.b64decode(str(args["cursor"]), validate=True).decode().removeprefix("next:"))
        except (binascii.Error, ValueError):
            raise Refused("invalid_cursor") from None
    return start, min(start + int(limit), total)


def cursor(start: int) -> str:
    return base64.b64encode(f"next:{start}".encode()).decode()
