"""What all parts of the local server share: routes, refusals, and the parsing of parameters."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from aiohttp import web

from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Api, Event

Kind = Literal[
    "start",
    "find_start",
    "tasks",
    "status",
    "events",
    "agent_events",
    "final_response",
    "send",
    "interrupt",
    "pause",
    "run",
    "respond",
    "sandbox_pause",
    "sandbox_resume",
    "list",
    "probe",
    "profiles",
    "shell",
    "repositories",
    "branches",
    "other",
]


@dataclass(frozen=True)
class Broken:
    """A body that is not JSON."""

    text: str


@dataclass(frozen=True)
class Asked:
    """One request, with its body read."""

    query: dict[str, list[str]]
    path: dict[str, str]  # what the braces in the route matched
    headers: dict[str, str]  # names in lower case
    body: Any  # parsed JSON; None if the body was empty; `Broken` if it was not JSON
    base_url: str

    def one(self, name: str) -> str | None:
        """Return the last value of a query parameter, as the real server does; None if it is missing."""
        return self.query.get(name, [None])[-1]


@dataclass(frozen=True)
class Plain:
    """An answer in plain text, such as `Internal Server Error`."""

    text: str


@dataclass(frozen=True)
class Created:
    """The body of a 201."""

    body: object


class Refused(Exception):
    """The answer is this error."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body


class NoAnswer(Exception):
    """Close the connection without an answer."""


Handle = Callable[[Starts, Asked], Awaitable[object]]


@dataclass(frozen=True)
class Route:
    """handle: returns the body of a 200 or `Created`, or raises `Refused`."""

    method: str
    path: str
    kind: Kind | Callable[[Any], Kind]  # computed from the body if one path serves several purposes
    api: Api
    handle: Handle
    needs_key: bool = True  # the app server's; the agent server checks its own


NOT_FOUND = {"detail": "Not Found"}
CRASH = Plain("Internal Server Error")


def as_response(status: int, body: object) -> web.Response:
    if isinstance(body, Plain):
        return web.Response(status=status, text=body.text)
    return web.json_response(body, status=status)


def invalid(kind: str, loc: list[object], msg: str, given: object, **ctx: object) -> Refused:
    """Return a 422 in the words of the real server's validation."""
    problem: dict[str, object] = {"type": kind, "loc": loc, "msg": msg, "input": given}
    return Refused(422, {"detail": [problem | ({"ctx": ctx} if ctx else {})]})


def missing(loc: list[object], given: object) -> Refused:
    return invalid("missing", loc, "Field required", given)


def not_one_of(words: tuple[str, ...], loc: list[object], given: object, *, kind: str = "enum") -> Refused:
    expected = ", ".join(f"'{word}'" for word in words[:-1])
    expected = f"{expected} or '{words[-1]}'" if expected else f"'{words[-1]}'"
    return invalid(kind, loc, f"Input should be {expected}", given, expected=expected)


def as_uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


def uuid_or_refuse(world: Starts, text: object, loc: list[object]) -> UUID:
    found = as_uuid(text)
    if found is not None:
        return found
    world.violations.append(f"malformed id: {text!r}")
    at, bad = next(((i, x) for i, x in enumerate(str(text)) if x not in "0123456789abcdefABCDEF-"), (0, ""))
    error = f"invalid character: found `{bad}` at {at}" if bad else f"invalid length: found {len(str(text))}"
    raise invalid("uuid_parsing", loc, f"Input should be a valid UUID, {error}", text, error=error)


def as_object(body: object) -> dict[str, Any]:
    """Return the body. Raises `Refused` unless it is a JSON object."""
    if isinstance(body, Broken):
        error = "Expecting property name enclosed in double quotes"
        raise invalid("json_invalid", ["body", 1], "JSON decode error", {}, error=error)
    if body is None:
        raise missing(["body"], None)
    if not isinstance(body, dict):
        raise invalid(
            "model_attributes_type",
            ["body"],
            "Input should be a valid dictionary or object to extract fields from",
            body,
        )
    return body


def read_limit(asked: Asked, *, default: int) -> int:
    """Return `limit`. Raises `Refused` unless it is 1 to 100."""
    text = asked.one("limit")
    if text is None:
        return default
    loc: list[object] = ["query", "limit"]
    limit = whole_number(text, loc)
    if limit > 100:
        raise invalid("less_than_equal", loc, "Input should be less than or equal to 100", text, le=100)
    if limit < 1:
        raise invalid("greater_than", loc, "Input should be greater than 0", text, gt=0)
    return limit


def whole_number(text: str, loc: list[object]) -> int:
    try:
        return int(text)
    except ValueError:
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise invalid("int_parsing", loc, message, text) from None


def page(items: Sequence[object], *, offset: int, limit: int, opaque: bool = False) -> dict[str, object]:
    """Return one page, with the id of the next: its offset, or (opaque) the offset in base64."""
    end = offset + limit
    following = None if end >= len(items) else str(end)
    if opaque and following is not None:
        following = base64.b64encode(following.encode()).decode().rstrip("=")
    return {"items": list(items[offset:end]), "next_page_id": following}


def opaque_offset(text: str | None) -> int:
    """Return the offset from a page id in base64. Like the real server, treats nonsense as the first page."""
    try:
        return int(base64.b64decode(f"{text or ''}===")) if text else 0
    except ValueError:
        return 0


def read_content(content: object, loc: list[object], *, least: int) -> list[Event]:
    if not isinstance(content, list):
        raise invalid("list_type", loc, "Input should be a valid list", content)
    if len(content) < least:
        message = f"List should have at least {least} item after validation, not {len(content)}"
        raise invalid("too_short", loc, message, content, field_type="List", min_length=least, actual_length=0)
    parts: list[Event] = []
    for number, part in enumerate(content):
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if kind not in {"text", "image"}:
            raise not_one_of(("text",), [*loc, number, "TextContent", "type"], kind, kind="literal_error")
        needed = "text" if kind == "text" else "image_urls"
        if needed not in part:
            raise missing([*loc, number, f"{kind.title()}Content", needed], part)
        parts.append({"cache_prompt": False} | part)
    return parts


def read_time(text: str, name: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        message = "Input should be a valid datetime or date, invalid character in year"
        raise invalid("datetime_from_date_parsing", ["query", name], message, text) from None


def read_offset(asked: Asked) -> int:
    text = asked.one("page_id")
    if text is None:
        return 0
    if not text.isdigit():
        raise Refused(500, CRASH)
    return int(text)


def at_capacity(limit: int | None) -> Refused:
    """Return the refusal of one more sandbox."""
    return Refused(429, {"detail": {"error": "CONCURRENCY_LIMIT_REACHED", "limit": limit, "current": limit}})
