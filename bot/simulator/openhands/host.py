"""An Agent Server's conversations: looks, events, messages, and what people do to them."""

from datetime import timedelta
from typing import Any

from bot.simulator.openhands.hosted import last_message, leaf
from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Conversation, Event, images_in, zulu
from bot.simulator.openhands.v1 import newest_first, since_and_until
from bot.simulator.openhands.wire import (
    NOT_FOUND,
    Asked,
    NoAnswer,
    Refused,
    Route,
    as_object,
    invalid,
    missing,
    not_one_of,
    read_content,
    read_limit,
    uuid_or_refuse,
)

MAX_IDS = 99
STATUSES = ("idle", "running", "paused", "waiting_for_confirmation", "finished", "error", "stuck", "deleting")
ROLES = ("user", "system", "assistant", "tool")
RUNNING = {"detail": "Conversation already running. Wait for completion or pause first."}
FULL = {"detail": "Conversation run limit reached. Retry the request later."}


# What is shown


def _usage(model: str, cost: float, tokens: int) -> Event:
    """Return the figures of one use of a model: they grow with each of its calls, and so does every look."""
    calls = [f"chatcmpl-{number:012x}" for number in range(tokens // 1000)]
    used: Event = {"model": model, "prompt_tokens": 1000, "completion_tokens": 20, "cache_read_tokens": 0}
    used |= {"cache_write_tokens": 0, "reasoning_tokens": 0, "context_window": 0, "per_turn_token": 1020}
    each = cost / len(calls) if calls else 0.0
    return {
        "model_name": model,
        "accumulated_cost": cost,
        "max_budget_per_task": None,
        "accumulated_token_usage": used | {"prompt_tokens": tokens, "response_id": ""},
        "costs": [{"model": model, "cost": each, "timestamp": 1795864045.9} for _ in calls] if cost else [],
        "response_latencies": [{"model": model, "latency": 1.05, "response_id": one} for one in calls],
        "token_usages": [used | {"response_id": one} for one in calls],
    }


def info(world: Starts, c: Conversation, *, looked_at: bool = True) -> Event:
    """Return a conversation's entry. looked_at: a look, not the answer to a start."""
    model = c.model or ""
    shown: Event = {
        "id": c.id,
        "workspace": {"working_dir": c.folder, "kind": "LocalWorkspace"},
        "persistence_dir": f"/srv/openhands/store/{c.id}",
        "max_iterations": 500,
        "stuck_detection": True,
        "execution_status": c.state,
        "confirmation_policy": {"kind": "NeverConfirm"},
        "security_analyzer": None,
        "last_user_message_id": last_message(c),
        "leaf_event_id": leaf(c),
        "stats": {"usage_to_metrics": {"default": _usage(model, c.cost, c.tokens), "condenser": _usage(model, 0, 0)}},
        "secret_registry": {"secret_sources": {}},
        "agent_state": {},
        "title": c.title or None,
        "metrics": None,
        "created_at": zulu(c.created_at),
        "updated_at": zulu(c.updated_at),
        "parent_conversation_id": None,
        "sub_conversation_ids": [],
        "tags": c.tags,
        "launched_agent_profile": {"agent_profile_id": c.profile, "revision": 0},
        "agent": {"kind": "Agent", "llm": {"model": model, "api_key": None}},
    }
    if not world.machine.old:
        available = {"runtime_status": "available", "can_resume": True, "runtime_error": None}
        shown["runtime_info"] = available if looked_at else None
    return shown | c.oddities


# Looks


async def count(world: Starts, asked: Asked) -> object:
    return len(_with_status(world, asked))


def _with_status(world: Starts, asked: Asked) -> list[Conversation]:
    status = asked.one("status")
    if status is not None and status not in STATUSES:
        raise not_one_of(STATUSES, ["query", "status"], status)
    return [c for c in world.hosted() if status in (None, c.state)]


async def search(world: Starts, asked: Asked) -> object:
    limit = read_limit(asked, default=100)
    found = _with_status(world, asked)
    first = asked.one("page_id")
    at = next((number for number, c in enumerate(found) if c.id == first), 0)
    following = found[at + limit].id if at + limit < len(found) else None
    return {"items": [info(world, c) for c in found[at : at + limit]], "next_page_id": following}


async def batch(world: Starts, asked: Asked) -> object:
    """Return conversations in the order asked, null if unknown or deleted. One malformed id fails all."""
    ids = asked.query.get("ids")
    if not ids:
        raise missing(["query", "ids"], None)
    found = [uuid_or_refuse(world, one, ["query", "ids", number]) for number, one in enumerate(ids)]
    if len(ids) > MAX_IDS:
        message = f"List should have at most {MAX_IDS} items after validation, not {len(ids)}"
        figures: Event = {"field_type": "List", "max_length": MAX_IDS, "actual_length": len(ids)}
        raise invalid("too_long", ["query", "ids"], message, ids, **figures)
    there = [world.conversations.get(str(one)) for one in found]
    return [None if c is None or c.deleted else info(world, c) for c in there]


def _known(world: Starts, asked: Asked, *, named: bool = False) -> Conversation:
    """Return the conversation. named: the refusal of an unknown one names it."""
    identifier = uuid_or_refuse(world, asked.path["id"], ["path", "conversation_id"])
    c = world.conversations.get(str(identifier))
    if c is None or c.deleted:
        raise Refused(404, {"detail": f"Conversation not found: {identifier}"} if named else NOT_FOUND)
    return c


async def one(world: Starts, asked: Asked) -> object:
    return info(world, _known(world, asked))


async def final_response(world: Starts, asked: Asked) -> object:
    """Return the conversation's latest words, which are old after a follow-up that failed; empty before the first."""
    for event in reversed(_known(world, asked).events):
        if event["kind"] == "ActionEvent" and event["action"]["kind"] == "FinishAction":
            return {"response": event["action"]["message"]}
        if event["kind"] == "MessageEvent" and event["source"] == "agent":
            return {"response": event["llm_message"]["content"][0]["text"]}
    return {"response": ""}


def _body_text(event: Event) -> str:
    if event["kind"] == "MessageEvent":
        return "".join(part["text"] for part in event["llm_message"]["content"])
    return str(event.get("action", event.get("observation", "")))


async def events(world: Starts, asked: Asked) -> object:
    """Return events without any lag. On 1.49 a bare `kind` finds nothing. An unknown page is the first one."""
    c = _known(world, asked, named=True)
    limit = read_limit(asked, default=100)
    found = since_and_until(c.events, asked.one("timestamp__gte"), asked.one("timestamp__lt"))
    if (kind := asked.one("kind")) is not None:
        found = [event for event in found if event["kind"] == kind and not world.machine.old]
    if (source := asked.one("source")) is not None:
        found = [event for event in found if event["source"] == source]
    if (text := asked.one("body")) is not None:
        found = [event for event in found if text.lower() in _body_text(event).lower()]
    if newest_first(asked):
        found = found[::-1]
    first = asked.one("page_id")
    at = next((number for number, event in enumerate(found) if event["id"] == first), 0)
    following = found[at + limit]["id"] if at + limit < len(found) else None
    return {"items": found[at : at + limit], "next_page_id": following}


# Messages, and what people do


async def send(world: Starts, asked: Asked) -> object:
    """Send a message, after the running command if there is one. Nobody works on it unless `run` is true."""
    uuid_or_refuse(world, asked.path["id"], ["path", "conversation_id"])
    body = as_object(asked.body)
    if (role := body.get("role", "user")) not in ROLES:
        raise not_one_of(ROLES, ["body", "role"], role, kind="literal_error")
    content = read_content(body.get("content", []), ["body", "content"], least=0)
    c = _known(world, asked, named=True)
    text = "".join(part.get("text", "") for part in content)
    c.images += images_in(content)
    match await world.send_hosted(c, text, run=body.get("run", False) is True):
        case "lost":
            raise NoAnswer
        case "saved":
            retry = f"Retry POST /api/conversations/{c.id}/run without resending the message."
            raise Refused(429, {"detail": f"Message saved, but the conversation run limit was reached. {retry}"})
        case _:
            return {"success": True}


async def run(world: Starts, asked: Asked) -> object:
    return _done(world.run_hosted(_known(world, asked)))


def _done(outcome: str) -> object:
    if outcome == "busy":
        raise Refused(409, RUNNING)
    if outcome == "full":
        raise Refused(429, FULL)
    return {"success": True}


async def interrupt(world: Starts, asked: Asked) -> object:
    world.interrupt(_known(world, asked))
    return {"success": True}


async def pause(world: Starts, asked: Asked) -> object:
    await world.pause_hosted(_known(world, asked))
    return {"success": True}


async def respond(world: Starts, asked: Asked) -> object:
    body = as_object(asked.body)
    if "accept" not in body:
        raise missing(["body", "accept"], body)
    if not isinstance(body["accept"], bool):
        raise invalid("bool_type", ["body", "accept"], "Input should be a valid boolean", body["accept"])
    c = _known(world, asked, named=True)
    reason: Any = body.get("reason", "User rejected the action.")
    return _done(world.respond_hosted(c, accept=body["accept"], reason=reason))


async def patch(world: Starts, asked: Asked) -> object:
    body = as_object(asked.body)
    title = body.get("title")
    if isinstance(title, str) and not title.strip():
        error = "title must not be blank"
        raise invalid("value_error", ["body", "title"], f"Value error, {error}", title, error=error)
    c = _known(world, asked)
    c.title = title or c.title
    c.tags = body.get("tags", c.tags)
    return {"success": True}


async def delete(world: Starts, asked: Asked) -> object:
    """Delete a conversation, once its running command has ended."""
    c = _known(world, asked)
    if c.tool is not None:
        await world.timers.wait((c.tool.ends - world.timers.now()) / timedelta(seconds=1))
    world.vanish(c)
    return {"success": True}


_ALL, _ONE = "/api/conversations", "/api/conversations/{id}"
ROUTES = (
    Route("GET", f"{_ALL}/count", "probe", "agent", count),
    Route("GET", f"{_ALL}/search", "list", "agent", search),
    Route("GET", _ALL, "status", "agent", batch),
    Route("GET", _ONE, "status", "agent", one),
    Route("PATCH", _ONE, "other", "agent", patch),
    Route("DELETE", _ONE, "other", "agent", delete),
    Route("GET", f"{_ONE}/agent_final_response", "final_response", "agent", final_response),
    Route("GET", f"{_ONE}/events/search", "agent_events", "agent", events),
    Route("POST", f"{_ONE}/events", "send", "agent", send),
    Route("POST", f"{_ONE}/events/respond_to_confirmation", "respond", "agent", respond),
    Route("POST", f"{_ONE}/run", "run", "agent", run),
    Route("POST", f"{_ONE}/interrupt", "interrupt", "agent", interrupt),
    Route("POST", f"{_ONE}/pause", "pause", "agent", pause),
)
