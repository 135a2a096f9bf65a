"""Starts on an Agent Server: checked as strictly as by the real one, and made only once for each id."""

from typing import Any
from uuid import UUID, uuid4

from bot.simulator.openhands.host import FULL, info
from bot.simulator.openhands.machine import Profile
from bot.simulator.openhands.starts import Starts
from bot.simulator.openhands.state import images_in
from bot.simulator.openhands.wire import (
    Asked,
    Created,
    NoAnswer,
    Refused,
    Route,
    as_object,
    as_uuid,
    invalid,
    missing,
    read_content,
    uuid_or_refuse,
)

NOT_AN_OBJECT = "Input should be a valid dictionary or object to extract fields from"
AGENTS = ("agent", "agent_settings", "agent_profile_id")
KNOWN = {
    "conversation_id",
    "agent_profile_id",
    "workspace",
    "initial_message",
    "tags",
    "secrets",
    "agent_launch_additions",
    "max_iterations",
    "confirmation_policy",
}
CLOSED_FOLDERS = ("/proc/", "/sys/")


def crash(world: Starts, exception: str) -> Refused:
    """Return a 500. A real server draws its traceback for seconds, and answers nobody meanwhile."""
    world.stall()
    body = {"detail": "Internal Server Error", "exception": exception, "error_id": uuid4().hex}
    return Refused(500, body)


def _object(body: dict[str, Any], name: str, loc: list[object]) -> dict[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise invalid("model_attributes_type", [*loc, name], NOT_AN_OBJECT, found)
    return found


def _check(world: Starts, body: dict[str, Any]) -> None:
    """Raise a 422 for what can't be a start. Unknown fields are ignored, but no caller should send any."""
    if "workspace" not in body:
        raise missing(["body", "workspace"], body)
    _object(body, "workspace", ["body"])
    for name in ("conversation_id", "agent_profile_id"):
        if body.get(name) is not None:
            uuid_or_refuse(world, body[name], ["body", name])
    if "initial_message" in body:
        content = _object(body, "initial_message", ["body"]).get("content", [])
        read_content(content, ["body", "initial_message", "content"], least=0)
    for key in body.get("tags", {}):
        if not (key.isascii() and key.isalnum() and key == key.lower()):
            error = f"Tag key '{key}' is invalid: keys must be lowercase alphanumeric only"
            raise invalid("value_error", ["body", "tags"], f"Value error, {error}", body["tags"], error=error)
    for name, secret in body.get("secrets", {}).items():
        if not isinstance(secret, dict):
            raise invalid("model_attributes_type", ["body", "secrets", name], NOT_AN_OBJECT, secret)
    agents = [name for name in AGENTS if body.get(name) is not None]
    if not agents:
        error = "One of `agent`, `agent_settings`, or `agent_profile_id` must be provided"
        raise invalid("value_error", ["body"], f"Value error, {error}", body, error=error)
    if len(agents) > 1:
        error = f"`agent_profile_id` is mutually exclusive with `{agents[0]}`"
        raise invalid("value_error", ["body"], f"Value error, {error}", body, error=error)
    if odd := body.keys() - KNOWN:
        world.violations.append(f"a start with fields that no bot sends: {sorted(odd)}")


def _profile(world: Starts, body: dict[str, Any]) -> Profile:
    """Return the profile, if it and its model are there."""
    wanted = str(as_uuid(body["agent_profile_id"]))
    profile = next((one for one in world.machine.profiles if one.id == wanted), None)
    if profile is None:
        raise Refused(404, {"detail": f"Agent profile with id '{wanted}' not found"})
    additions = {} if world.machine.old else body.get("agent_launch_additions") or {}
    model = additions.get("llm_profile_ref") or profile.model
    if model not in world.machine.models:
        said = f"LLM profile '{model}' not found"
        if world.machine.old:
            raise Refused(404, {"detail": said})
        detail: dict[str, object] = {
            "code": "unresolved_profile_references",
            "message": said,
            "dangling_llm_profile_ref": model,
            "dangling_mcp_server_refs": [],
            "dangling_meta_profile_ref": None,
            "dangling_meta_profile_llm_refs": [],
        }
        raise Refused(422, {"detail": detail})
    return Profile(profile.name, model, profile.id)


async def start(world: Starts, asked: Asked) -> object:
    """Start a conversation, or return the one that has this id already: then nothing is sent."""
    body = as_object(asked.body)
    _check(world, body)
    identifier = as_uuid(body.get("conversation_id")) or uuid4()
    if (there := world.conversations.get(str(identifier))) is not None and not there.deleted:
        return info(world, there, looked_at=False)
    profile = _profile(world, body)
    if world.full:
        raise Refused(429, FULL)
    folder = body["workspace"].get("working_dir")
    if not isinstance(folder, str):
        raise crash(world, "LocalWorkspace.__init__() missing 1 required keyword-only argument: 'working_dir'")
    if folder.startswith(CLOSED_FOLDERS):
        raise crash(world, f"[Errno 2] No such file or directory: '{folder}'")
    return _begin(world, identifier, profile, body)


def _begin(world: Starts, identifier: UUID, profile: Profile, body: dict[str, Any]) -> Created:
    """Make the conversation, as far as the server lives to make it."""
    dies, world.machine.dies = world.machine.dies, None
    if dies == "before it is made":
        _die(world)
    c = world.make_hosted(identifier, body["workspace"]["working_dir"])
    c.profile, c.model, c.tags = profile.id, world.machine.models[profile.model], dict(body.get("tags", {}))
    c.secrets = dict(body.get("secrets", {}))
    if dies == "before its message":
        _die(world)
    text = "".join(part.get("text", "") for part in body.get("initial_message", {}).get("content", []))
    if "initial_message" in body:
        c.images += images_in(body["initial_message"].get("content", []))
        world.save_hosted(c, text)
    if dies == "before it runs":
        _die(world)
    answer = info(world, c, looked_at=False)
    if "initial_message" in body:
        world.run_hosted(c)  # whatever `run` in the message says
    return Created(answer)


def _die(world: Starts) -> None:
    world.kill_server()
    raise NoAnswer


ROUTES = (Route("POST", "/api/conversations", "start", "agent", start),)
