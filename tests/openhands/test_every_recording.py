"""The client meets each recorded answer of an Agent Server, of both versions, in the call that would get it."""

import re
from collections.abc import Awaitable, Callable
from functools import cache

import httpx
import pytest

from bot.core import errors
from bot.core.model import DecisionOutcome, Listed, Phase, Run, RunState, Started
from bot.openhands.agent_server import AgentServer, Hosting
from bot.openhands.agent_server_answers import ServerInfo
from bot.openhands.clones import Clones
from bot.openhands.connect import connect
from tests.openhands.recorded import RECORDED, a_run, client, exchange, response_of
from tests.openhands.test_agent_server import NEW, newest_first

ALL = "/api/conversations"
ONE = "/api/conversations/{id}"


def name_of(stem: str) -> str:
    """Return the name of a recording without what it shows: as-start.02."""
    return re.sub(r"(\.\d\d)-.*", r"\1", stem)


EVERY = sorted(name_of(file.stem) for file in RECORDED.glob("as-*.json"))
NOT_CALLED = {
    "GET /": "the same as /server_info",
    "GET /alive": "the server says what it is",
    "GET /api/conversations/search": "runs are asked about by their ids",
    "GET /api/file/search_subdirs": "each run has a folder of its own",
    "GET /api/git/branches/search": "there is no such call: git lists branches",
    "GET /api/git/changes": "no card shows changes",
    "GET /api/git/diff": "no card shows changes",
    "GET /api/no-such-thing": "there is no such call",
    "GET /api/profiles": "a model is named by people, and refused by the start",
    "GET /api/settings": "the server has its settings",
    "GET /api/workspaces": "each run has a folder of its own",
    "GET /health": "the server says what it is",
    "GET /openapi.json": "it shows what there is to those who write a client",
    "GET /ready": "the server says what it is",
    f"GET {ONE}": "runs are asked about together",
    f"GET {ONE}/agent_final_response": "words come from the events, since these are old after a failure",
    f"GET {ONE}/events/count": "events are read from the newest on",
    f"GET {ONE}/events/{{id}}": "events are read from the newest on",
    f"GET {ONE}/git/changes": "no card shows changes",
    f"DELETE {ONE}": "nothing is deleted",
    f"PATCH {ONE}": "the model's title stays",
    f"POST {ONE}/ask_agent": "people ask the agent itself",
    f"POST {ONE}/confirmation_policy": "what has to be approved is the operator's matter",
    f"POST {ONE}/pause": "it waits for the running command: a stop is an interrupt",
    f"POST {ONE}/secrets": "a start refers to the one that is passed on",
    f"POST {ONE}/send-message": "there is no such call",
    f"POST {ONE}/switch_profile": "a model is chosen at the start",
    "POST /api/profiles/{id}": "the server has its settings",
    "POST /api/profiles/{id}/activate": "the server has its settings",
    "PUT /api/settings/secrets": "the server has its settings",
}
"""Calls that the client never makes, with why."""
NOT_ASKED = {
    "as-batch.02": "no id is asked about twice",
    "as-batch.04": "an id that is none is left out",
    "as-batch.05": "nothing is asked about no run",
    "as-batch.06": "no more than 24 are asked about at once",
    "as-batch.07": "no more than 24 are asked about at once",
    "as-events.19": "an id that is none is left out",
    "as-follow-up.24": "an id that is none is left out",
    "as-git.02": "GitHub is the one that it lists",
    "as-git.03": "GitHub is the one that it lists",
    "as-git.04": "a provider is always named",
    "as-fresh.08": "it is V0 that would ask so: see test_connect.py",
    "as-old-events.19": "an id that is none is left out",
    "as-old-fresh.08": "it is V0 that would ask so: see test_connect.py",
}
"""Requests that the client never makes, with why."""


@cache
def call_of(name: str) -> str:
    """Return a recording's call, without ids."""
    recording = exchange(name)
    path = str(recording["path"])
    if path not in (f"{ALL}/count", f"{ALL}/search"):
        path = re.sub(rf"({ALL}|/events)/[\w]+-[\w-]+", r"\1/{id}", path)
    path = re.sub(r"/api/(agent-profiles|profiles)/\w+", r"/api/\1/{id}", path)
    return f"{recording['method']} {path}"


class Around(httpx.MockTransport):
    """Answers one call with a recording, and those around it so that the client gets to it."""

    def __init__(self, name: str, state: str) -> None:
        super().__init__(self._answer)
        self.recording = exchange(name)
        self.state = state
        self.reached = False

    def _answer(self, request: httpx.Request) -> httpx.Response:
        recording, path = self.recording, request.url.path
        if (request.method, path) == (recording["method"], recording["path"]):
            self.reached = True
            return response_of(recording)
        if path == ALL and request.method == "GET":
            ids = request.url.params.get_list("ids")
            entry = {"execution_status": self.state, "last_user_message_id": "m", "leaf_event_id": "e"}
            return httpx.Response(200, json=[{"id": one, **entry} for one in ids])
        usual = {
            "/server_info": "as-fresh.04",
            "/api/agent-profiles": "as-fresh.12",
            "/api/settings/secrets": "as-fresh.17",
            "/api/file/home": "as-fresh.16",
            f"{ALL}/count": "as-auth.10",
            ALL: "as-start.02",
        }
        if path in usual:
            return response_of(exchange(usual[path]))
        if path.endswith("/events/search"):
            return newest_first("as-confirm.04")
        return httpx.Response(404, json={"detail": "Not Found"})


def conversation_in(name: str) -> str:
    """Return the conversation a recording is about; one of our own if it names none."""
    recording = exchange(name)
    request = recording["request"] if isinstance(recording["request"], dict) else {}
    ids = recording["query"].get("ids", [])
    named = [ids] if isinstance(ids, str) else ids
    found = [*re.findall(rf"{ALL}/([\w-]{{36}})", recording["path"]), request.get("conversation_id"), *named]
    return next((one for one in found if one and len(one) == 36), "70175397-fc73-4ea3-81b3-56b8f762b8ca")


Act = Callable[[AgentServer, Run], Awaitable[object]]


async def look(openhands: AgentServer, run: Run) -> object:
    """Look at all the runs that stand in the task of this one, and return the phase of the first."""
    others = [a_run(one) for one in run.task.split()[1:]]
    seen = await openhands.observe([run, *others])
    assert len(seen) == len(others) + 1
    return seen[run.id].phase


async def decided(openhands: AgentServer, run: Run) -> object:
    [action] = exchange("as-confirm.04")["response"]["items"]
    return await openhands.decide(run, action["id"], accept=True, reason="")


CALLS: dict[str, tuple[str, Act]] = {
    f"GET {ALL}": ("", look),
    f"POST {ALL}": ("", lambda openhands, run: openhands.start(run, "fix it", "")),
    f"GET {ONE}/events/search": ("", lambda openhands, run: openhands.last_event(run)),
    f"POST {ONE}/events": ("running", lambda openhands, run: openhands.send(run, "and more")),
    f"POST {ONE}/run": ("paused", lambda openhands, run: openhands.go_on(run)),
    f"POST {ONE}/interrupt": ("running", lambda openhands, run: openhands.stop(run)),
    f"POST {ONE}/events/respond_to_confirmation": ("waiting_for_confirmation", decided),
    f"GET {ALL}/count": ("", lambda openhands, _run: openhands.slots()),
    "GET /api/agent-profiles": ("", lambda openhands, _run: openhands.profile()),
    "POST /api/agent-profiles/{id}/materialize": ("", lambda openhands, _run: openhands.lacks()),
    "GET /api/settings/secrets": ("", lambda openhands, run: openhands.start(run, "fix it", "")),
    "GET /api/git/repositories/search": ("", lambda openhands, _run: openhands.repositories()),
    "GET /api/file/home": ("", lambda openhands, run: openhands.start(run, "fix it", "")),
}
"""Call → what the conversation does meanwhile, and who makes the call."""
REFUSALS: dict[int, tuple[type[errors.OpenHandsError], ...]] = {
    401: (errors.Unauthorised,),
    404: (errors.NotFound, errors.Rejected),
    422: (errors.Rejected,),
    429: (errors.AtCapacity,),
    500: (errors.Unsure, errors.Rejected),
    502: (errors.Unavailable,),
}


def test_every_recording_is_met_or_it_is_said_why_not() -> None:
    """Of each call, and nothing is said of calls that were not recorded."""
    others = {"GET /server_info", "GET /api/v1/app-conversations/count", "POST /api/bash/execute_bash_command"}
    calls = {call_of(name) for name in EVERY}
    assert calls == CALLS.keys() | NOT_CALLED.keys() | others
    assert NOT_ASKED.keys() <= set(EVERY)


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_answered_means_something(call: str) -> None:
    """A success is read whole; a refusal is one that the handlers know, and never one that says nothing was answered."""
    met = [name for name in EVERY if call_of(name) == call and name not in NOT_ASKED]
    wrong = [(name, outcome) for name in met if not fits(name, outcome := await made(name))]
    assert met
    assert wrong == []


async def made(name: str) -> object:
    """Make the call of a recording; return what came of it, or the error."""
    state, act = CALLS[call_of(name)]
    ids = exchange(name)["query"].get("ids", [])
    task = ids if isinstance(ids, str) else " ".join(ids)
    run = a_run(conversation_in(name), state=RunState.STARTING, start_task_id="it arrived", task=task)
    around = Around(name, state)
    http = client(around)
    openhands = AgentServer(http, NEW, Hosting(root="" if call_of(name) == "GET /api/file/home" else "/srv/runs"))
    try:
        return await act(openhands, run)
    except errors.OpenHandsError as err:
        return err
    finally:
        await http.aclose()
        assert around.reached


def fits(name: str, outcome: object) -> bool:
    """Return whether an outcome is what a recorded answer means."""
    recording = exchange(name)
    status, response = recording["status"], recording["response"]
    match outcome:
        case errors.Unsure() if status < 300:  # a start that another one of this id has begun
            return response["last_user_message_id"] is None
        case errors.OpenHandsError():
            return isinstance(outcome, REFUSALS.get(status, ()))
        case Listed():
            return outcome == Listed()  # without a token, or out of reach, it is none
        case Started(conversation_id=conversation):
            return status < 300 and conversation == conversation_in(name)
        case _:
            known = outcome not in (Phase.UNKNOWN, Phase.UNCLEAR, DecisionOutcome.OVER)
            return known and (status < 300 or status == 409 or "Message saved" in str(response))


@pytest.mark.parametrize("name", [name for name in EVERY if call_of(name).endswith("execute_bash_command")])
async def test_what_a_command_came_to_is_told_apart(name: str) -> None:
    """Cloned, refused, too long; never an answer that can't be read."""
    http = client(httpx.MockTransport(lambda _request: response_of(exchange(name))))
    try:
        outcome: object = await Clones(http).checkout("org/repo", None, "/srv/runs/one")
    except errors.OpenHandsError as err:
        outcome = type(err)
    await http.aclose()
    code = exchange(name)["response"]["exit_code"]
    wanted = {0: "/srv/runs/one/repo", -1: errors.Rejected}
    said = str(exchange(name)["response"]["stderr"])
    again = errors.Unavailable if "already exists" in said else errors.NoAccess
    assert outcome == wanted.get(code, errors.Rejected if "Remote branch" in said else again)


@pytest.mark.parametrize("name", [name for name in EVERY if call_of(name) == "GET /server_info"])
async def test_what_a_server_tells_of_itself_is_enough_to_know_it(name: str) -> None:
    """Of both versions."""
    around = Around(name, "")
    http = client(around)
    found = await connect(http, "auto")
    await http.aclose()
    assert isinstance(found, AgentServer)
    assert found.info == ServerInfo.model_validate(exchange(name)["response"])
    assert found.info.knows_starts == found.info.takes_models == (found.info.version == "1.58.2")
