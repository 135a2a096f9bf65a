"""The V0 API: `/api/conversations…`, on the app server alone."""

import base64
import json
from typing import Any

from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Conversation, Event, zulu
from bot.simulator.openhands.wire import (
    CRASH,
    NOT_FOUND,
    Asked,
    Kind,
    Refused,
    Route,
    as_object,
    invalid,
    missing,
    whole_number,
)

START_FIELDS = ("initial_user_msg", "repository")  # the published contract; more is refused here
LONGEST_ID = 100
MOST_EVENTS = 100


def conversation_info(c: Conversation) -> Event:
    """Return what callers see of a conversation. `status` is the runtime's: nothing shows whether the agent is done."""
    up = c.sandbox_status in {"STARTING", "RUNNING"}
    return {
        "conversation_id": c.id,
        "title": c.title,
        "last_updated_at": zulu(c.updated_at),
        "status": c.sandbox_status,
        "runtime_status": "STATUS$RUNTIME_STARTED" if c.sandbox_status == "RUNNING" else None,
        "selected_repository": c.repository,
        "selected_branch": c.branch,
        "git_provider": None,
        "trigger": c.trigger,
        "num_connections": 0,
        "url": f"/api/conversations/{c.id}" if up else None,
        "session_api_key": None,
        "created_at": zulu(c.created_at),
        "pr_number": c.pull_requests,
        "conversation_version": "V0",
        "sub_conversation_ids": [],
        "public": None,
        "sandbox_id": None,
    } | c.oddities


def _lookup(world: Starts, asked: Asked) -> Conversation | None:
    identifier = asked.path["id"]
    if ".." in identifier:
        raise _malformed(world, identifier, "Conversation ID contains invalid path characters")
    if len(identifier) >= LONGEST_ID:
        raise _malformed(world, identifier, "Conversation ID is too long")
    c = world.conversations.get(identifier)
    return None if c is None or c.api == "v1" or c.deleted else c


def _malformed(world: Starts, identifier: str, detail: str) -> Refused:
    world.violations.append(f"malformed id: {identifier!r}")
    return Refused(400, {"detail": detail})


def _known(world: Starts, asked: Asked) -> Conversation:
    c = _lookup(world, asked)
    if c is None:
        raise Refused(404, {"detail": f"Conversation {asked.path['id']} not found"})
    return c


def _too_many(world: Starts) -> Refused:
    return Refused(429, {"detail": f"Too many conversations at once. The limit is {world.limit}."})


async def start(world: Starts, asked: Asked) -> object:
    body = as_object(asked.body)
    for name in START_FIELDS:
        if not isinstance(body.get(name), str | None):
            raise invalid("string_type", ["body", name], "Input should be a valid string", body[name])
    for name in body.keys() - set(START_FIELDS):
        world.violations.append(f"unknown field in a V0 start: {name}")
        raise invalid("extra_forbidden", ["body", name], "Extra inputs are not permitted", body[name])
    repository = body.get("repository")
    if not world.can_open(repository):
        raise Refused(401, f"Unable to access repo {repository}")
    if not world.make_room():
        raise _too_many(world)
    c = world.start_v0(body.get("initial_user_msg"), repository)
    return {"status": "ok", "conversation_id": c.id, "message": None, "conversation_status": "STARTING"}


async def conversation(world: Starts, asked: Asked) -> object:
    """Return the conversation; null, with a 200, if it is unknown or deleted."""
    c = _lookup(world, asked)
    return None if c is None else conversation_info(c)


async def conversations(world: Starts, asked: Asked) -> object:
    """Return a page, newest first. The filter applies after the page is cut, so even an early page may be empty."""
    limit = whole_number(asked.one("limit") or "20", ["query", "limit"])
    offset = _read_page(asked.one("page_id"))
    every = [c for c in reversed(world.conversations.values()) if c.api == "v0" and not c.deleted]
    every.sort(key=lambda c: c.created_at, reverse=True)
    cut = every[offset : offset + limit]
    if (repository := asked.one("selected_repository")) is not None:
        cut = [c for c in cut if c.repository == repository]
    following = _write_page(offset + limit) if offset + limit < len(every) else None
    return {"results": [conversation_info(c) for c in cut], "next_page_id": following}


def _write_page(offset: int) -> str:
    inner = base64.b64encode(str(offset).encode()).decode()
    return base64.b64encode(json.dumps({"v0": inner, "v1": None}).encode()).decode()


def _read_page(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return int(base64.b64decode(json.loads(base64.b64decode(text))["v0"]))
    except (ValueError, KeyError, TypeError):
        raise Refused(500, CRASH) from None


async def events(world: Starts, asked: Asked) -> object:
    """Return events. Ids start at 0; `end_id` is inclusive. A stopped conversation still has its events."""
    c = _known(world, asked)
    limit = whole_number(asked.one("limit") or "20", ["query", "limit"])
    if not 0 <= limit <= MOST_EVENTS:
        raise Refused(400, {"detail": "Invalid limit"})
    first = whole_number(asked.one("start_id") or "0", ["query", "start_id"])
    last = whole_number(asked.one("end_id") or str(len(c.events)), ["query", "end_id"])
    found = c.events[first : last + 1]
    if (asked.one("reverse") or "").lower() in {"true", "1", "on", "yes"}:
        found = found[::-1]
    return {"events": found[:limit], "has_more": len(found) > limit}


async def message(world: Starts, asked: Asked) -> object:
    body = as_object(asked.body)
    if "message" not in body:
        raise missing(["body", "message"], body)
    if not isinstance(body["message"], str):
        raise invalid("string_type", ["body", "message"], "Input should be a valid string", body["message"])
    c = _known(world, asked)
    if not _up(c):
        error = f"Error adding message to conversation: no_conversation:{c.id}"
        raise Refused(500, {"success": False, "error": error})
    world.take(c, body["message"], run=True)
    return {"success": True}


def _up(c: Conversation) -> bool:
    return c.sandbox_status in {"RUNNING", "STARTING"}


async def add_event(world: Starts, asked: Asked) -> object:
    """Accept a message or a requested state. Anything else gets a bare 500."""
    c = _known(world, asked)
    match asked.body:
        case {"action": "message", "args": {"content": str(text)}} if _up(c):
            world.take(c, text, run=True)
        case {"action": "change_agent_state", "args": {"agent_state": str(word)}} if _up(c):
            world.change_state_v0(c, word)
        case _:
            raise Refused(500, CRASH)
    return {"success": True}


def kind_of_event(body: Any) -> Kind:
    match body:
        case {"action": "change_agent_state", "args": {"agent_state": "paused"}}:
            return "pause"
        case {"action": "change_agent_state", "args": {"agent_state": "running"}}:
            return "run"
        case {"action": "change_agent_state"}:
            return "respond"
        case _:
            return "send"


async def stop(world: Starts, asked: Asked) -> object:
    """Stop a conversation. Unknown ones get a 200 too. The answer has the status from before."""
    c = _lookup(world, asked)
    before = "STOPPED" if c is None else c.sandbox_status
    said = "Conversation was not running" if before == "STOPPED" else "Conversation stopped successfully"
    if c is not None and before != "STOPPED":
        await world.stop_v0(c)
    return {"status": "ok", "conversation_id": asked.path["id"], "message": said, "conversation_status": before}


async def start_again(world: Starts, asked: Asked) -> object:
    as_object(asked.body)
    c = _lookup(world, asked)
    if c is None:
        raise Refused(404, {"status": "error", "conversation_id": asked.path["id"]})
    if c.sandbox_status == "STOPPED" and not world.make_room(waking=c):
        raise _too_many(world)
    world.start_again_v0(c)
    return {"status": "ok", "conversation_id": c.id, "message": None, "conversation_status": c.sandbox_status}


async def patch(world: Starts, asked: Asked) -> object:
    body = as_object(asked.body)
    if not isinstance(body.get("title"), str):
        raise missing(["body", "title"], body)
    c = _lookup(world, asked)
    if c is None:
        gone = {"status": "error", "message": "Conversation not found", "msg_id": "CONVERSATION$NOT_FOUND"}
        raise Refused(404, gone)
    c.title = body["title"]
    return True


async def delete(world: Starts, asked: Asked) -> object:
    c = _lookup(world, asked)
    if c is None:
        return False
    world.vanish(c)
    return True


def routes(*, with_events: bool, with_stop: bool, with_list: bool) -> tuple[Route, ...]:
    """Return the routes of a server; older ones lack some of them."""
    base = "/api/conversations"
    one = f"{base}/{{id}}"

    async def absent(world: Starts, asked: Asked) -> object:  # noqa: ARG001
        raise Refused(404, NOT_FOUND)

    async def not_allowed(world: Starts, asked: Asked) -> object:  # noqa: ARG001
        raise Refused(405, {"detail": "Method Not Allowed"})

    return (
        Route("POST", base, "start", "v0", start),
        Route("GET", base, "list", "v0", conversations if with_list else not_allowed),
        Route("GET", one, "status", "v0", conversation),
        Route("PATCH", one, "other", "v0", patch),
        Route("DELETE", one, "other", "v0", delete),
        Route("GET", f"{one}/events", "events", "v0", events if with_events else absent),
        Route("POST", f"{one}/events", kind_of_event, "v0", add_event if with_events else absent),
        Route("POST", f"{one}/message", "send", "v0", message if with_events else absent),
        Route("POST", f"{one}/stop", "interrupt", "v0", stop if with_stop else absent),
        Route("POST", f"{one}/start", "sandbox_resume", "v0", start_again if with_stop else absent),
    )
