"""The V1 app server: starts and their tasks."""

from datetime import UTC
from typing import Any

from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Event, StartTask, naive, zulu
from bot.simulator.openhands.wire import (
    Asked,
    Refused,
    Route,
    as_object,
    as_uuid,
    at_capacity,
    invalid,
    missing,
    not_one_of,
    page,
    read_content,
    read_limit,
    read_offset,
    read_time,
    uuid_or_refuse,
)

MAX_TASK_IDS = 100
TRIGGERS = (
    "resolver",
    "gui",
    "suggested_task",
    "openhands_api",
    "slack",
    "microagent_management",
    "jira",
    "jira_dc",
    "linear",
    "bitbucket",
    "automation",
)
PROVIDERS = (
    "github",
    "gitlab",
    "bitbucket",
    "bitbucket_data_center",
    "forgejo",
    "azure_devops",
    "enterprise_sso",
)
# Every field of a start that the server knows, with its default. The server ignores all others.
START_FIELDS: dict[str, object] = {
    "sandbox_id": None,
    "conversation_id": None,
    "initial_message": None,
    "system_message_suffix": None,
    "processors": None,
    "llm_model": None,
    "agent_profile_id": None,
    "selected_repository": None,
    "selected_branch": None,
    "git_provider": None,
    "suggested_task": None,
    "title": None,
    "trigger": None,
    "pr_number": [],
    "parent_conversation_id": None,
    "agent_type": "default",
    "public": None,
    "plugins": None,
    "secrets": None,
}


def task_info(task: StartTask, *, zone: bool) -> Event:
    """zone: whether times have a zone, as in the answer to a start but not in a list."""
    time = zulu if zone else naive
    return {
        "id": task.id,
        "created_by_user_id": None,
        "status": task.status,
        "detail": task.detail,
        "app_conversation_id": task.conversation_id.hex if task.status == "READY" else None,
        "sandbox_id": task.sandbox_id,
        "agent_server_url": task.agent_server_url,
        "request": task.request,
        "created_at": time(task.created_at),
        "updated_at": time(task.updated_at),
    }


def _read_start(world: Starts, body: dict[str, Any]) -> Event:
    request = {name: body.get(name, otherwise) for name, otherwise in START_FIELDS.items()}
    if request["conversation_id"] is not None:
        request["conversation_id"] = str(uuid_or_refuse(world, request["conversation_id"], ["body", "conversation_id"]))
    for name, words in (("trigger", TRIGGERS), ("git_provider", PROVIDERS)):
        if request[name] is not None and request[name] not in words:
            raise not_one_of(words, ["body", name], request[name])
    for name in ("selected_repository", "selected_branch", "llm_model", "system_message_suffix", "title"):
        if request[name] is not None and not isinstance(request[name], str):
            raise invalid("string_type", ["body", name], "Input should be a valid string", request[name])
    first = request["initial_message"]
    if first is not None:
        loc: list[object] = ["body", "initial_message"]
        if not isinstance(first, dict):
            message = "Input should be a valid dictionary or object to extract fields from"
            raise invalid("model_attributes_type", loc, message, first)
        content = read_content(first.get("content", []), [*loc, "content"], least=0)
        request["initial_message"] = {"role": first.get("role", "user"), "content": content, "run": False}
    return request


async def start(world: Starts, asked: Asked) -> object:
    """Begin a start. A 200 means only that it was stored, and says nothing about the repository or the sandbox."""
    request = _read_start(world, as_object(asked.body))
    identifier = as_uuid(request["conversation_id"])
    if not world.make_room():
        raise at_capacity(world.limit)
    return task_info(world.start_v1(identifier, request), zone=True)


async def tasks(world: Starts, asked: Asked) -> object:
    ids = asked.query.get("ids")
    if not ids:
        raise missing(["query", "ids"], None)
    wanted = [uuid_or_refuse(world, one, ["query", "ids", number]) for number, one in enumerate(ids)]
    if len(wanted) > MAX_TASK_IDS:
        raise Refused(400, {"detail": f"Too many ids requested. Maximum is {MAX_TASK_IDS}."})
    found = [world.tasks.get(one.hex) for one in wanted]
    return [None if task is None or task.deleted else task_info(task, zone=False) for task in found]


async def find_start(world: Starts, asked: Asked) -> object:
    """Return start tasks, newest first: all of them, or with the filter by conversation only those that are READY."""
    limit = read_limit(asked, default=100)
    found = sorted(
        (task for task in reversed(world.tasks.values()) if not task.deleted),
        key=lambda task: task.created_at,
        reverse=True,
    )
    if (conversation := asked.one("conversation_id__eq")) is not None:
        wanted = uuid_or_refuse(world, conversation, ["query", "conversation_id__eq"])
        found = [task for task in found if task.status == "READY" and task.conversation_id == wanted]
    if (since := asked.one("created_at__gte")) is not None:
        earliest = read_time(since, "created_at__gte")
        earliest = earliest if earliest.tzinfo else earliest.replace(tzinfo=UTC)
        found = [task for task in found if task.created_at >= earliest]
    offset = read_offset(asked)
    return page([task_info(task, zone=False) for task in found], offset=offset, limit=limit)


_APP = "/api/v1/app-conversations"
ROUTES = (
    Route("POST", _APP, "start", "v1", start),
    Route("GET", f"{_APP}/start-tasks", "tasks", "v1", tasks),
    Route("GET", f"{_APP}/start-tasks/search", "find_start", "v1", find_start),
)
