"""What an Agent Server tells and does besides conversations: itself, profiles, a shell, folders, secrets and git."""

from uuid import uuid4

from bot.simulator.openhands.machine import CAPABILITIES, HOME, Profile, Ran
from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import Event, zulu
from bot.simulator.openhands.wire import Asked, Refused, Route, as_object, missing, not_one_of, read_limit

PROVIDERS = ("github", "gitlab", "bitbucket", "azure_devops")


async def server_info(world: Starts, asked: Asked) -> object:  # noqa: ARG001 - every handler gets both
    """Tell what server this is, to whoever asks: it proves no key."""
    version = world.machine.version
    parts = ("version", "sdk_version", "tools_version", "workspace_version")
    return {
        "uptime": 7.0,
        "idle_time": 1.0,
        "title": "OpenHands Agent Server",
        **dict.fromkeys(parts, version),
        "python_version": "3.13.0",
        "usable_tools": ["file_editor", "task_tracker", "terminal"],
        "conversation_runtime": "local",
        "capabilities": list(CAPABILITIES[version]),
        "docs": "/docs",
        "redoc": "/redoc",
    }


async def ready(world: Starts, asked: Asked) -> object:  # noqa: ARG001 - every handler gets both
    return {"status": "ready"}


# Profiles


def _shown(profile: Profile) -> Event:
    return {
        "id": profile.id,
        "name": profile.name,
        "agent_kind": "openhands",
        "revision": 0,
        "llm_profile_ref": profile.model,
        "mcp_server_refs": None,
    }


async def profiles(world: Starts, asked: Asked) -> object:  # noqa: ARG001 - every handler gets both
    shown = [_shown(one) for one in world.machine.profiles]
    return {"profiles": shown, "active_agent_profile_id": world.machine.active.id}


async def models(world: Starts, asked: Asked) -> object:  # noqa: ARG001 - every handler gets both
    shown = [{"name": name, "model": model, "api_key_set": True} for name, model in world.machine.models.items()]
    return {"profiles": shown, "active_profile": next(iter(world.machine.models), None)}


async def materialize(world: Starts, asked: Asked) -> object:
    """Tell what a start with this profile would miss."""
    name = asked.path["name"]
    profile = next((one for one in world.machine.profiles if one.name == name), None)
    if profile is None:
        raise Refused(404, {"detail": f"Agent profile '{name}' not found"})
    there = profile.model in world.machine.models
    return {
        "agent_kind": "openhands",
        "valid": there,
        "errors": [] if there else [f"LLM profile '{profile.model}' not found"],
        "llm_profile_ref": profile.model,
        "llm_profile_resolved": there,
        "llm_api_key_set": there,
    }


# The machine


async def execute(world: Starts, asked: Asked) -> object:
    """Run a command: one of git's, since this machine has no other program."""
    body = as_object(asked.body)
    if "command" not in body:
        raise missing(["body", "command"], body)
    timeout_s = float(body.get("timeout", 300))
    if "clone" in body["command"] and world.machine.clone_s:
        await world.timers.wait(min(timeout_s, world.machine.clone_s))
    if "clone" in body["command"] and world.machine.clone_s > timeout_s:
        world.machine.commands.append(body["command"])
        ran: Ran | None = Ran(-1)
    else:
        ran = world.machine.run(body["command"], world.can_open)
    if ran is None:
        world.violations.append(f"a command that is not git's: {body['command']!r}")
        ran = Ran(127, stderr="not found\n")
    return {
        "id": uuid4().hex,
        "timestamp": zulu(world.timers.now()),
        "command_id": uuid4().hex,
        "order": 0,
        "exit_code": ran.exit_code,
        "stdout": ran.stdout,
        "stderr": ran.stderr,
        "kind": "BashOutput",
    }


async def home(world: Starts, asked: Asked) -> object:  # noqa: ARG001 - every handler gets both
    return {"home": HOME, "favorites": [], "locations": [{"label": "/", "path": "/"}]}


async def secrets(world: Starts, asked: Asked) -> object:  # noqa: ARG001 - every handler gets both
    """Name the secrets that the operator stored."""
    return {"secrets": [{"name": name, "description": None} for name in world.machine.secrets]}


async def repositories(world: Starts, asked: Asked) -> object:
    """List the repositories of a provider: none without a stored token, and of GitHub alone."""
    provider = asked.one("provider")
    if provider is None:
        raise missing(["query", "provider"], None)
    if provider not in PROVIDERS:
        raise not_one_of(PROVIDERS, ["query", "provider"], provider)
    if provider != "github":
        raise Refused(400, {"detail": f"Repository discovery is not supported for provider '{provider}'"})
    limit = read_limit(asked, default=100)
    if "GITHUB_TOKEN" not in world.machine.secrets:
        return {"items": [], "next_page_id": None, "missing_token": True}
    query = (asked.one("query") or "").lower()
    names = sorted(name for name in world.repositories or () if query in name.lower())
    return {"items": [{"full_name": name} for name in names[:limit]], "next_page_id": None, "missing_token": False}


ROUTES = (
    Route("GET", "/server_info", "probe", "agent", server_info, needs_key=False),
    Route("GET", "/", "other", "agent", server_info, needs_key=False),
    Route("GET", "/ready", "other", "agent", ready, needs_key=False),
    Route("GET", "/api/agent-profiles", "profiles", "agent", profiles),
    Route("POST", "/api/agent-profiles/{name}/materialize", "profiles", "agent", materialize),
    Route("GET", "/api/profiles", "other", "agent", models),
    Route("POST", "/api/bash/execute_bash_command", "shell", "agent", execute),
    Route("GET", "/api/file/home", "other", "agent", home),
    Route("GET", "/api/settings/secrets", "other", "agent", secrets),
    Route("GET", "/api/git/repositories/search", "repositories", "agent", repositories),
)
