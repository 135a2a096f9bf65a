"""The V1 app server: sandboxes."""

from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Conversation, Event, StartTask, zulu
from bot.simulator.openhands.v1 import living
from bot.simulator.openhands.wire import NOT_FOUND, Asked, Refused, Route, at_capacity, page, read_limit, read_offset

SPEC = "ghcr.io/openhands/agent-server:1.34.0-python"


def _sandbox(world: Starts, identifier: str) -> Conversation | None:
    return next((c for c in world.residents(identifier) if c.sandbox_exists and not c.deleted), None)


def _sandbox_info(c: Conversation, base_url: str) -> Event:
    running = c.sandbox_status == "RUNNING"
    url = f"{base_url}{c.path}".partition("/api/")[0]
    return {
        "id": c.sandbox_id,
        "created_by_user_id": None,
        "sandbox_spec_id": SPEC,
        "status": c.sandbox_status,
        "session_api_key": c.session_api_key if running else None,
        "exposed_urls": [{"name": "AGENT_SERVER", "url": url, "port": 3200}] if running else None,
        "created_at": zulu(c.created_at),
    }


def _leftover_info(task: StartTask) -> Event:
    """Return the sandbox that a failed start left behind: it keeps running, and no conversation names it."""
    return {
        "id": task.sandbox_id,
        "created_by_user_id": None,
        "sandbox_spec_id": SPEC,
        "status": "RUNNING",
        "session_api_key": f"session-{task.id}",
        "exposed_urls": None,
        "created_at": zulu(task.created_at),
    }


async def sandboxes(world: Starts, asked: Asked) -> object:
    found = [_sandbox(world, one) for one in asked.query.get("id", [])]
    return [None if c is None else _sandbox_info(c, asked.base_url) for c in found]


async def sandboxes_search(world: Starts, asked: Asked) -> object:
    limit = read_limit(asked, default=100)
    there = {c.sandbox_id: c for c in living(world) if c.sandbox_exists}
    shown = [_sandbox_info(c, asked.base_url) for c in there.values()]
    shown += [_leftover_info(task) for task in {task.sandbox_id: task for task in world.leftovers()}.values()]
    return page(shown, offset=read_offset(asked), limit=limit)


async def sandbox_pause(world: Starts, asked: Asked) -> object:
    c = _sandbox(world, asked.path["id"])
    if c is None:
        raise Refused(404, NOT_FOUND)
    if c.sandbox_status == "RUNNING":
        world.fall_asleep(c)
    return {"success": True}


async def sandbox_resume(world: Starts, asked: Asked) -> object:
    """Resume a sandbox. A dead one gets a 200 too, and stays dead."""
    c = _sandbox(world, asked.path["id"])
    if c is None:
        raise Refused(404, NOT_FOUND)
    if c.sandbox_status == "PAUSED":
        if not world.make_room(waking=c):
            raise at_capacity(world.limit)
        world.wake(c)
    return {"success": True}


ROUTES = (
    Route("GET", "/api/v1/sandboxes", "other", "v1", sandboxes),
    Route("GET", "/api/v1/sandboxes/search", "other", "v1", sandboxes_search),
    Route("POST", "/api/v1/sandboxes/{id}/pause", "sandbox_pause", "v1", sandbox_pause),
    Route("POST", "/api/v1/sandboxes/{id}/resume", "sandbox_resume", "v1", sandbox_resume),
)
