"""The V1 agent server, one per sandbox: `conversation_url` and below."""

from typing import Any

from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Conversation
from bot.simulator.openhands.v1 import newest_first, since_and_until
from bot.simulator.openhands.wire import (
    NOT_FOUND,
    Asked,
    NoAnswer,
    Refused,
    Route,
    as_object,
    as_uuid,
    invalid,
    missing,
    read_limit,
)

BAD_REQUEST = {"detail": "Bad Request"}


def _conversation(world: Starts, asked: Asked) -> Conversation | None:
    """Return the conversation at this address; None if this agent server does not know it.

    Raises NoAnswer if no agent server runs there (any more), Refused(401) without this server's key.
    """
    sandbox, wakes = asked.path["sandbox"].rsplit("-", 1)
    there = [c for c in world.residents(sandbox) if _serves(c, wakes)]
    if not there:
        raise NoAnswer
    if asked.headers.get("x-session-api-key") != there[0].session_api_key:
        raise Refused(401, {"detail": "Unauthorized"})
    wanted = as_uuid(asked.path["id"])
    return next((c for c in there if wanted is not None and c.id == str(wanted) and not c.destroyed), None)


def _serves(c: Conversation, wakes: str) -> bool:
    return not c.deleted and not c.silent and c.sandbox_status == "RUNNING" and str(c.wakes) == wakes


def _known(world: Starts, asked: Asked, *, unknown: int = 404) -> Conversation:
    """unknown: the status for a conversation this agent server does not know."""
    c = _conversation(world, asked)
    if c is None:
        raise Refused(unknown, BAD_REQUEST if unknown == 400 else NOT_FOUND)
    return c


async def conversation(world: Starts, asked: Asked) -> object:
    c = _known(world, asked)
    return {"id": c.id, "execution_status": c.state, "max_iterations": 500, "stuck_detection": True}


async def final_response(world: Starts, asked: Asked) -> object:
    """Return the conversation's latest words, which are old after a follow-up that failed; empty before the first."""
    c = _known(world, asked)
    for event in reversed(c.events):
        if event["kind"] == "ActionEvent" and event["action"]["kind"] == "FinishAction":
            return {"response": event["action"]["message"]}
        if event["kind"] == "MessageEvent" and event["source"] == "agent":
            return {"response": event["llm_message"]["content"][0]["text"]}
    return {"response": ""}


def _body_text(event: dict[str, Any]) -> str:
    if event["kind"] == "MessageEvent":
        return "".join(part["text"] for part in event["llm_message"]["content"])
    return str(event.get("action", event.get("observation", "")))


async def events(world: Starts, asked: Asked) -> object:
    """Return events without any lag. `kind` must be a full class name; a short one finds nothing."""
    c = _known(world, asked)
    limit = read_limit(asked, default=100)
    found = since_and_until(c.events, asked.one("timestamp__gte"), asked.one("timestamp__lt"))
    if (kind := asked.one("kind")) is not None:
        full = kind.startswith("openhands.sdk.event.")
        found = [event for event in found if full and kind.rpartition(".")[2] == event["kind"]]
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


async def interrupt(world: Starts, asked: Asked) -> object:
    world.interrupt(_known(world, asked, unknown=400))
    return {"success": True}


async def pause(world: Starts, asked: Asked) -> object:
    await world.pause(_known(world, asked, unknown=400))
    return {"success": True}


async def run(world: Starts, asked: Asked) -> object:
    c = _known(world, asked)
    if world.runs_full:
        raise Refused(429, {"detail": "Too many running conversations"})
    if world.run(c) == "busy":
        raise Refused(409, {"detail": "Conversation already running. Wait for completion or pause first."})
    return {"success": True}


async def respond(world: Starts, asked: Asked) -> object:
    c = _known(world, asked)
    body = as_object(asked.body)
    if "accept" not in body:
        raise missing(["body", "accept"], body)
    if not isinstance(body["accept"], bool):
        raise invalid("bool_type", ["body", "accept"], "Input should be a valid boolean", body["accept"])
    world.respond(c, accept=body["accept"], reason=body.get("reason", "User rejected the action."))
    return {"success": True}


_ONE = "/agent/{sandbox}/api/conversations/{id}"
ROUTES = (
    Route("GET", _ONE, "other", "v1", conversation, needs_key=False),
    Route("GET", f"{_ONE}/agent_final_response", "final_response", "v1", final_response, needs_key=False),
    Route("GET", f"{_ONE}/events/search", "agent_events", "v1", events, needs_key=False),
    Route("POST", f"{_ONE}/interrupt", "interrupt", "v1", interrupt, needs_key=False),
    Route("POST", f"{_ONE}/pause", "pause", "v1", pause, needs_key=False),
    Route("POST", f"{_ONE}/run", "run", "v1", run, needs_key=False),
    Route("POST", f"{_ONE}/events/respond_to_confirmation", "respond", "v1", respond, needs_key=False),
)
