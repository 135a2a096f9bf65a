"""The V1 app server: conversations, messages to them, and the copy of their events."""

from bot.simulator.openhands.events_v1 import KINDS
from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Conversation, Event, bare, dashed, images_in, zulu
from bot.simulator.openhands.wire import (
    CRASH,
    Asked,
    Refused,
    Route,
    as_object,
    as_uuid,
    missing,
    not_one_of,
    opaque_offset,
    page,
    read_content,
    read_limit,
    read_offset,
    read_time,
    uuid_or_refuse,
)

MAX_IDS = 99


# What is shown


def conversation_info(c: Conversation, base_url: str) -> Event:
    cost, tokens, updated_at = c.older_figures or (c.cost, c.tokens, c.updated_at)
    running = c.sandbox_status == "RUNNING"
    return {
        "id": bare(c.id),
        "created_by_user_id": None,
        "sandbox_id": c.sandbox_id,
        "selected_repository": c.repository,
        "selected_branch": c.branch,
        "git_provider": c.git_provider,
        "title": c.title,
        "trigger": c.trigger,
        "pr_number": c.pull_requests,
        "llm_model": c.model,
        "agent_kind": "openhands",
        "metrics": {
            "model_name": "default",
            "accumulated_cost": cost,
            "max_budget_per_task": None,
            "accumulated_token_usage": {
                "model": "",
                "prompt_tokens": tokens,
                "completion_tokens": tokens // 50,
                "cache_read_tokens": 0,
                "cache_write_tokens": 0,
                "reasoning_tokens": 0,
                "context_window": 0,
                "per_turn_token": 1020,
                "response_id": "",
            },
        },
        "parent_conversation_id": None,
        "sub_conversation_ids": [],
        "public": None,
        "tags": {"archiveworkspacepath": "."},
        "created_at": zulu(c.created_at),
        "updated_at": zulu(updated_at),
        "sandbox_status": c.sandbox_status,
        "execution_status": c.state if running and not (c.destroyed or c.silent) else None,
        "conversation_url": f"{base_url}{c.path}" if running else None,
        "session_api_key": c.session_api_key if running else None,
        "acp_server": None,
        "launched_agent_profile": None,
    } | c.oddities


def living(world: Starts) -> list[Conversation]:
    """Return the V1 conversations that are not deleted, newest first."""
    every = [c for c in reversed(world.conversations.values()) if c.api == "v1" and not c.deleted]
    return sorted(every, key=lambda c: c.created_at, reverse=True)


def _lookup(world: Starts, identifier: object) -> Conversation | None:
    c = world.conversations.get(dashed(str(identifier)))
    return None if c is None or c.deleted else c


# Conversations


async def count(world: Starts, asked: Asked) -> object:  # noqa: ARG001
    return len(living(world))


async def search(world: Starts, asked: Asked) -> object:
    limit = read_limit(asked, default=100)
    shown = [conversation_info(c, asked.base_url) for c in living(world)]
    return page(shown, offset=opaque_offset(asked.one("page_id")), limit=limit, opaque=True)


async def batch(world: Starts, asked: Asked) -> object:
    """Return conversations in the order asked, null if unknown, not READY or deleted. One malformed id fails all."""
    ids = asked.query.get("ids")
    if not ids:
        raise missing(["query", "ids"], None)
    if len(ids) > MAX_IDS:
        raise Refused(400, {"detail": f"Too many ids requested. Maximum is {MAX_IDS}."})
    malformed = [one for one in ids if as_uuid(one) is None]
    if malformed:
        world.violations.append(f"malformed ids: {malformed}")
        raise Refused(400, {"detail": f"Invalid UUID format for ids: {malformed}"})
    found = [_lookup(world, one) for one in ids]
    return [None if c is None else conversation_info(c, asked.base_url) for c in found]


async def patch(world: Starts, asked: Asked) -> object:
    identifier = asked.path["id"]
    if as_uuid(identifier) is None:
        world.violations.append(f"malformed id: {identifier!r}")
        raise Refused(500, CRASH)
    body = as_object(asked.body)
    c = _lookup(world, identifier)
    if c is None:
        raise Refused(404, {"detail": "unknown_app_conversation"})
    if isinstance(body.get("title"), str):
        c.title = body["title"]
    return conversation_info(c, asked.base_url)


async def delete(world: Starts, asked: Asked) -> object:
    identifier = asked.path["id"]
    if as_uuid(identifier) is None:
        world.violations.append(f"malformed id: {identifier!r}")
        raise Refused(400, {"detail": "Invalid conversation ID format"})
    c = _lookup(world, identifier)
    if c is None:
        raise Refused(404, {"detail": "Conversation not found"})
    world.vanish(c)
    return {"success": True}


# Messages


async def send_message(world: Starts, asked: Asked) -> object:
    """Send a message, waiting at most half a minute for a running command. It is delivered later even after that."""
    identifier = uuid_or_refuse(world, asked.path["id"], ["path", "conversation_id"])
    body = as_object(asked.body)
    if (role := body.get("role", "user")) != "user":
        raise not_one_of(("user",), ["body", "role"], role, kind="literal_error")
    if "content" not in body:
        raise missing(["body", "content"], body)
    content = read_content(body["content"], ["body", "content"], least=1)
    text = "".join(part.get("text", "") for part in content)
    c = _reachable(world, str(identifier))
    runs = body.get("run", True) is not False
    if not await world.send(c, text, run=runs and not world.runs_full):
        raise Refused(502, {"detail": "Failed to reach agent server."})
    c.images += images_in(content)
    if runs and world.runs_full:
        raise Refused(502, {"detail": "Agent server error: 429"})
    return {"success": True, "sandbox_status": "RUNNING", "message": None}


def _reachable(world: Starts, identifier: str) -> Conversation:
    c = _lookup(world, identifier)
    if c is None:
        raise Refused(404, {"detail": f"Conversation {identifier} not found"})
    if not c.sandbox_exists:
        raise Refused(404, {"detail": f"Sandbox not found for conversation {identifier}"})
    match c.sandbox_status:
        case "MISSING":
            raise Refused(410, {"detail": "Conversation is archived. The sandbox no longer exists."})
        case "PAUSED":
            resume = f"POST /api/v1/sandboxes/{c.sandbox_id}/resume"
            raise Refused(409, {"detail": f"Sandbox is PAUSED. Use {resume} to resume it first."})
        case "RUNNING" if c.destroyed:
            raise Refused(502, {"detail": "Agent server error: 404"})
        case "RUNNING" if not c.silent:
            return c
        case "RUNNING":
            raise Refused(502, {"detail": "Failed to reach agent server."})
        case status:
            raise Refused(503, {"detail": f"Sandbox is {status}. Try again later."})


# The copy of the events


def since_and_until(events: list[Event], since: str | None, until: str | None) -> list[Event]:
    """Return the events in between. Compares text, as the real filter does: a zone makes a time sort as later."""
    if since is not None:
        earliest = read_time(since, "timestamp__gte").isoformat()
        events = [event for event in events if event["timestamp"] >= earliest]
    if until is not None:
        latest = read_time(until, "timestamp__lt").isoformat()
        events = [event for event in events if event["timestamp"] < latest]
    return events


def newest_first(asked: Asked) -> bool:
    order = asked.one("sort_order") or "TIMESTAMP"
    orders = ("TIMESTAMP", "TIMESTAMP_DESC")
    if order not in orders:
        raise not_one_of(orders, ["query", "sort_order"], order)
    return order == "TIMESTAMP_DESC"


def _copied(world: Starts, asked: Asked) -> list[Event]:
    """Return the events that have reached the app server; deleted conversations keep theirs."""
    identifier = asked.path["id"]
    if as_uuid(identifier) is None:
        world.violations.append(f"malformed id: {identifier!r}")
        raise Refused(500, CRASH)
    c = world.conversations.get(dashed(identifier))
    return [] if c is None else c.events[: c.copied]


async def events(world: Starts, asked: Asked) -> object:
    limit = read_limit(asked, default=100)
    kind = asked.one("kind__eq")
    if kind is not None and kind not in KINDS:
        raise not_one_of(KINDS, ["query", "kind__eq"], kind, kind="literal_error")
    descending = newest_first(asked)
    offset = read_offset(asked)
    found = [event for event in _copied(world, asked) if kind is None or event["kind"] == kind]
    found = since_and_until(found, asked.one("timestamp__gte"), asked.one("timestamp__lt"))
    return page(found[::-1] if descending else found, offset=offset, limit=limit)


async def events_count(world: Starts, asked: Asked) -> object:
    return len(_copied(world, asked))


_APP = "/api/v1/app-conversations"
ROUTES = (
    Route("GET", f"{_APP}/count", "probe", "v1", count),
    Route("GET", f"{_APP}/search", "list", "v1", search),
    Route("GET", _APP, "status", "v1", batch),
    Route("PATCH", f"{_APP}/{{id}}", "other", "v1", patch),
    Route("DELETE", f"{_APP}/{{id}}", "other", "v1", delete),
    Route("POST", f"{_APP}/{{id}}/send-message", "send", "v1", send_message),
    Route("GET", "/api/v1/conversation/{id}/events/search", "events", "v1", events),
    Route("GET", "/api/v1/conversation/{id}/events/count", "other", "v1", events_count),
)
