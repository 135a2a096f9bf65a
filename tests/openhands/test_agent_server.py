"""An Agent Server against recorded answers of both versions: starting, looking, and what people do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from bot.core import errors
from bot.core.model import (
    ApprovalRequest,
    ConversationId,
    DecisionOutcome,
    Failed,
    Finish,
    Listed,
    Observation,
    Phase,
    Reason,
    RunState,
    Said,
    Slots,
)
from bot.openhands.agent_server import AgentServer, Hosting
from bot.openhands.agent_server_answers import ServerInfo
from tests.changes import changed
from tests.openhands.recorded import NOON, JumpingClock, Wire, a_run, client, exchange, response_of

ALL = "/api/conversations"
NEW = ServerInfo.model_validate(exchange("as-fresh.04")["response"])
OLD = ServerInfo.model_validate(exchange("as-old-fresh.04")["response"])
PROFILES = exchange("as-fresh.12")["response"]
PROFILE = PROFILES["active_agent_profile_id"]


@asynccontextmanager
async def agent_server(
    transport: Any, info: ServerInfo = NEW, *, clock: JumpingClock | None = None, **hosting: Any
) -> AsyncIterator[AgentServer]:
    http = client(transport, clock=clock)
    yield AgentServer(http, info, Hosting(**{"root": "/srv/runs", **hosting}))
    await http.aclose()


def ready_to_start(*names: str) -> Wire:
    """Answer what is asked before a start, and then with these recordings."""
    return (
        Wire(*names)
        .then("GET", "/api/agent-profiles", response_of(exchange("as-fresh.12")))
        .then("GET", "/api/settings/secrets", response_of(exchange("as-fresh.17")))
    )


def started_by(name: str) -> str:
    """Return the id that a recorded start names."""
    return str(exchange(name)["request"]["conversation_id"])


def asked_about(name: str, number: int = 0) -> str:
    """Return an id that a recorded look asks about."""
    ids = exchange(name)["query"]["ids"]
    return str(UUID(ids if isinstance(ids, str) else ids[number]))


async def looked_at(name: str, *events: str, number: int = 0, **changes: Any) -> Observation:
    """Look at a conversation of a recording, and read what other recordings say of it."""
    conversation = asked_about(name, number)
    run = a_run(conversation, **changes)
    look = {"ids": conversation}
    entry = exchange(name)["response"][number]
    wire = Wire().then("GET", ALL, httpx.Response(200, json=[entry]), query=look)
    for one in events:
        query = {"sort_order": "TIMESTAMP_DESC", "limit": 20}
        wire.then("GET", f"{ALL}/{conversation}/events/search", newest_first(one), query=query)
    async with agent_server(wire) as openhands:
        seen = (await openhands.observe([run]))[run.id]
        return await openhands.read(run, seen) if events else seen


def newest_first(name: str) -> httpx.Response:
    """Return recorded events as the last page of them, newest first."""
    answer = exchange(name)["response"]
    items = answer["items"]
    newest = items if exchange(name)["query"].get("sort_order") else items[::-1]
    return httpx.Response(200, json={"items": newest, "next_page_id": None})


# --- start ------------------------------------------------------------------------------------------------------


async def test_a_start_sends_our_id_the_profile_a_folder_and_where_it_came_from() -> None:
    """Nothing that the server would ignore."""
    wire = ready_to_start("as-start.02")
    run = a_run(started_by("as-start.02"), thread_ts="1700000000.000100")
    async with agent_server(wire) as openhands:
        it = await openhands.start(run, "fix it", "Asked by alice.")
    assert wire.bodies == [
        {
            "conversation_id": run.conversation_id,
            "agent_profile_id": PROFILE,
            "workspace": {"working_dir": f"/srv/runs/{run.id}"},
            "initial_message": {"content": [{"type": "text", "text": "fix it\n\nAsked by alice."}]},
            "tags": {"slackteam": "T1", "slackthread": "C1:1700000000.000100"},
        }
    ]
    assert (it.conversation_id, it.start_task_id) == (run.conversation_id, run.conversation_id)


async def test_a_private_thread_is_not_named() -> None:
    """Its people are the only ones who should find it."""
    wire = ready_to_start("as-start.02")
    async with agent_server(wire) as openhands:
        run = a_run(started_by("as-start.02"), thread_ts="1700000000.000100", private=True)
        await openhands.start(run, "fix it", "")
    assert wire.bodies[0]["tags"] == {"slackteam": "T1"}


@pytest.mark.parametrize("profile", ["default", PROFILE])
async def test_a_profile_is_found_by_its_name_or_its_id(profile: str) -> None:
    """Starts take only the id."""
    wire = ready_to_start("as-start.02")
    async with agent_server(wire, profile=profile) as openhands:
        await openhands.start(a_run(started_by("as-start.02")), "fix it", "")
    assert wire.bodies[0]["agent_profile_id"] == PROFILE


async def test_a_profile_that_is_not_there_is_named() -> None:
    """Nothing is started."""
    wire = ready_to_start()
    async with agent_server(wire, profile="mine") as openhands:
        with pytest.raises(errors.Rejected) as refused:
            await openhands.start(a_run(started_by("as-start.02")), "fix it", "")
    assert refused.value.words == "the server has no agent profile mine"
    assert wire.bodies == []


@pytest.mark.parametrize("name", ["as-start.03", "as-start.08", "as-start.09", "as-limit.04", "as-restart.05"])
async def test_a_start_that_is_known_is_a_start(name: str) -> None:
    """At work, ended, with other words, at the limit, after a restart: nothing was sent twice."""
    wire = ready_to_start(name)
    async with agent_server(wire) as openhands:
        it = await openhands.start(a_run(started_by(name)), "fix it", "")
    assert it.conversation_id == started_by(name)


@pytest.mark.parametrize("name", ["as-start.13", "as-lost-start.05"])
async def test_a_start_without_its_message_is_none_yet(name: str) -> None:
    """Another one with this id is under way, or the server died in it: it is looked up."""
    async with agent_server(ready_to_start(name)) as openhands:
        with pytest.raises(errors.Unsure):
            await openhands.start(a_run(started_by(name)), "fix it", "")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("as-fresh.19", errors.Rejected, "LLM profile 'default' not found"),
        ("as-old-fresh.19", errors.Rejected, "LLM profile 'default' not found"),
        ("as-bodies.06", errors.Rejected, "Agent profile with id '01234567-89ab-4def-8123-456789abcdef' not found"),
        ("as-bodies.30", errors.Rejected, "Value error, Tag key 'Slack-Team' is invalid"),
        ("as-bodies.31", errors.Rejected, "This server only runs local conversations"),
        ("as-limit.02", errors.AtCapacity, ""),
        ("as-auth.05", errors.Unauthorised, ""),
    ],
)
async def test_a_refused_start_says_why(name: str, error: type[errors.OpenHandsError], words: str) -> None:
    """In the server's words, without the request that its answer repeats."""
    async with agent_server(ready_to_start(name)) as openhands:
        with pytest.raises(error) as refused:
            await openhands.start(a_run("70175397-fc73-4ea3-81b3-56b8f762b8ca"), "fix it", "")
    assert str(getattr(refused.value, "words", "")).startswith(words)
    assert "working_dir" not in str(getattr(refused.value, "words", ""))


async def test_a_folder_that_is_refused_is_told_once_nothing_is_there() -> None:
    """A 500 alone does not say that."""
    conversation = started_by("as-bodies.11")
    async with agent_server(ready_to_start("as-bodies.11", "as-bodies.12")) as openhands:
        with pytest.raises(errors.Rejected) as refused:
            await openhands.start(a_run(conversation), "fix it", "")
    assert refused.value.words == "[Errno 2] No such file or directory: '/proc/nowhere'"


@pytest.mark.parametrize("look", ["as-bodies.22", None])
async def test_a_500_that_left_something_is_no_refusal(look: str | None) -> None:
    """Nor is one after which nobody can look."""
    conversation = started_by("as-bodies.21")
    wire = ready_to_start("as-bodies.21")
    if look is None:
        wire.then("GET", ALL, httpx.ReadTimeout("slow"), query={"ids": conversation})
    else:
        wire.then("GET", ALL, response_of(exchange(look)), query={"ids": conversation})
    async with agent_server(wire) as openhands:
        with pytest.raises(errors.Unsure):
            await openhands.start(a_run(conversation), "fix it", "")


@pytest.mark.parametrize(
    ("info", "second", "outcome"),
    [
        (NEW, "as-start.03", None),
        (NEW, httpx.ReadTimeout("slow"), errors.Unsure),
        (NEW, httpx.ConnectError("refused"), errors.Unsure),
        (OLD, "as-start.03", errors.Unsure),
    ],
)
async def test_a_lost_answer_is_asked_for_again_only_where_the_server_knows_starts(
    info: ServerInfo, second: Any, outcome: type[Exception] | None
) -> None:
    """Elsewhere, and where that fails as well, it is looked up: nobody knows what became of the first."""
    wire = ready_to_start().then("POST", ALL, httpx.ReadTimeout("slow"))
    wire.then("POST", ALL, response_of(exchange(second)) if isinstance(second, str) else second)
    told: list[type[Exception] | None] = []
    async with agent_server(wire, info) as openhands:
        try:
            await openhands.start(a_run(started_by("as-start.02")), "fix it", "")
            told.append(None)
        except errors.OpenHandsError as err:
            told.append(type(err))
    assert told == [outcome]
    assert wire.calls.count(f"POST {ALL}") == (1 if info is OLD else 2)


async def test_a_model_goes_by_its_name_where_the_server_takes_one() -> None:
    """The recorded request, as far as it is about the model."""
    name = "as-bodies.33"
    wire = ready_to_start(name)
    run = a_run("765825ec-02b2-4381-98e3-769e61b388de", model="other")
    async with agent_server(wire) as openhands:
        await openhands.start(run, "fix it", "")
        assert openhands.takes_models
    async with agent_server(Wire(), OLD) as openhands:
        assert not openhands.takes_models
    wanted = exchange(name)["request"]["agent_launch_additions"]["llm_profile_ref"]
    assert [one["agent_launch_additions"] for one in wire.bodies] == [{"llm_profile_ref": wanted}]


async def test_the_operators_token_is_referred_to() -> None:
    """As recorded; a server without secrets is asked for none."""
    wire = Wire("as-secrets.09", "as-secrets.11").then(
        "GET", "/api/agent-profiles", response_of(exchange("as-fresh.12"))
    )
    conversation = started_by("as-secrets.11")
    async with agent_server(wire) as openhands:
        await openhands.start(a_run(conversation), "fix it", "")
    [sent] = [one["secrets"]["GITHUB_TOKEN"] for one in wire.bodies]
    recorded = exchange("as-secrets.11")["request"]["secrets"]["GITHUB_TOKEN"]
    assert sent == recorded | {"headers": {"X-Session-API-Key": "the-key"}}


async def test_without_a_root_folders_are_below_the_servers_home() -> None:
    """It is asked for that once."""
    wire = ready_to_start("as-fresh.16", "as-start.02")
    async with agent_server(wire, root="") as openhands:
        for _ in range(2):
            await openhands.start(a_run(started_by("as-start.02")), "fix it", "")
    home = exchange("as-fresh.16")["response"]["home"]
    assert {one["workspace"]["working_dir"] for one in wire.bodies} == {
        f"{home}/openhands-for-slack/run of {started_by('as-start.02')}"
    }
    assert wire.calls.count("GET /api/file/home") == 1


async def test_a_server_without_stored_secrets_is_asked_for_none() -> None:
    """The start is the same otherwise."""
    wire = Wire("as-start.02").then("GET", "/api/agent-profiles", response_of(exchange("as-fresh.12")))
    wire.then("GET", "/api/settings/secrets", response_of(exchange("as-auth.15")))
    async with agent_server(wire) as openhands:
        await openhands.start(a_run(started_by("as-start.02")), "fix it", "")
    assert "secrets" not in wire.bodies[0]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(201, json={"status": "ok"}), errors.Unsure),
        (httpx.Response(201, html="<html>OpenHands</html>"), errors.Unsure),
        (httpx.Response(302, headers={"Location": "/login"}), errors.Moved),
        (httpx.Response(404, html="<html>nothing here</html>"), errors.Unreadable),
    ],
)
async def test_an_answer_of_another_shape_is_no_start(answer: httpx.Response, error: type[Exception]) -> None:
    """If it was a success, the start may be there."""
    wire = ready_to_start().then("POST", ALL, answer)
    async with agent_server(wire) as openhands:
        with pytest.raises(error):
            await openhands.start(a_run(started_by("as-start.02")), "fix it", "")


async def test_an_id_that_is_none_is_asked_nowhere() -> None:
    """Such as that of a run which another kind of server started."""
    wire = Wire()
    async with agent_server(wire) as openhands:
        assert await openhands.find_start(a_run("abc1234"), "fix it", NOON) is None
        with pytest.raises(errors.NotFound):
            await openhands.stop(a_run("abc1234"))
        with pytest.raises(errors.NotFound):
            await openhands.last_event(a_run(None))
    assert wire.calls == []


async def test_a_batch_that_is_none_is_not_read() -> None:
    """Neither a web page nor too few entries."""
    name = asked_about("as-batch.03")
    for answer in (httpx.Response(200, json=[]), httpx.Response(200, json={}), httpx.Response(200, html="<html>")):
        async with agent_server(Wire().then("GET", ALL, answer, query={"ids": name})) as openhands:
            with pytest.raises(errors.Unreadable):
                await openhands.observe([a_run(name)])


# --- the repository ---------------------------------------------------------------------------------------------

SHELL = "/api/bash/execute_bash_command"


def ran(*names: str | dict[str, Any]) -> Wire:
    """Answer the shell's commands in turn."""
    wire = ready_to_start("as-start.02")
    for one in names:
        answer = response_of(exchange(one)) if isinstance(one, str) else httpx.Response(200, json=one)
        wire.then("POST", SHELL, answer)
    return wire


async def cloned(wire: Wire, **changes: Any) -> tuple[list[str], str]:
    """Start a run in org/repo; return the commands of the shell, and the folder it was started in."""
    run = a_run(started_by("as-start.02"), repository="org/repo", **changes)
    async with agent_server(wire) as openhands:
        await openhands.start(run, "fix it", "")
    commands = [one["command"] for one in wire.bodies if "command" in one]
    return commands, wire.bodies[-1]["workspace"]["working_dir"]


async def test_a_repository_is_cloned_with_quoted_words() -> None:
    """Whatever a person wrote stays one word of the command."""
    commands, folder = await cloned(ran("as-workspace.01"), branch="x; rm -rf ~", id="run-1")
    own = "/srv/runs/run-1/repo"
    git = "env GIT_TERMINAL_PROMPT=0 LC_ALL=C git"
    assert commands == [f"{git} clone --quiet --branch 'x; rm -rf ~' -- https://github.com/org/repo {own}"]
    assert folder == own


async def test_a_clone_that_is_there_is_used_and_a_broken_one_is_not() -> None:
    """The second folder then."""
    whole, folder = await cloned(ran("as-workspace.02", {"exit_code": 0}))
    assert (len(whole), folder.rpartition("/")[2]) == (2, "repo")
    broken, folder = await cloned(ran("as-workspace.02", {"exit_code": 128, "stderr": "fatal"}, "as-workspace.01"))
    assert (len(broken), folder.rpartition("/")[2]) == (3, "repo-2")


async def test_a_retry_gets_a_folder_of_its_own() -> None:
    """What the attempt before left does not stand in its way."""
    _, first = await cloned(ran("as-workspace.01"), id="run-1")
    _, second = await cloned(ran("as-workspace.01"), id="run-1", turn=4)
    assert (first, second) == ("/srv/runs/run-1/repo", "/srv/runs/run-1-4/repo")


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        (["as-workspace.03"], errors.NoAccess, ""),
        (["as-workspace.04"], errors.Rejected, "Remote branch nowhere not found in upstream origin"),
        (["as-workspace.06"], errors.Rejected, "cloning org/repo took longer than 5 minutes"),
        (
            [{"exit_code": 127, "stderr": "env: 'git': No such file"}],
            errors.Rejected,
            "git could not be run on the server",
        ),
        (
            [{"exit_code": 128, "stderr": "fatal: unable to access: Could not resolve host: github.com\n"}],
            errors.Rejected,
            "Could not resolve host: github.com",
        ),
        (["as-workspace.02", {"exit_code": 128}] * 3, errors.Unavailable, ""),
    ],
)
async def test_a_clone_that_fails_is_told_apart(answers: list[Any], error: type[Exception], words: str) -> None:
    """Nothing is started."""
    wire = ran(*answers)
    with pytest.raises(error) as refused:
        await cloned(wire, branch="nowhere")
    assert getattr(refused.value, "words", "") == words
    assert f"POST {ALL}" not in wire.calls


async def test_a_shell_that_does_not_answer_is_an_outage() -> None:
    """The start has not gone out, so it is tried again from the beginning."""
    wire = ready_to_start("as-start.02").then("POST", SHELL, httpx.ReadTimeout("slow"))
    with pytest.raises(errors.Unavailable):
        await cloned(wire)


# --- a clone that is there ------------------------------------------------------------------------------------------

DONE = {"exit_code": 0}
CHECKED_OUT = (
    "fatal: refusing to fetch into branch 'refs/heads/openhands/run-1' checked out at '/srv/runs/run-1/repo'\n"
)
EXISTS = "fatal: '/srv/runs/run-1/repo' already exists\n"


async def worktree(wire: Wire, **changes: Any) -> tuple[list[str], str]:
    """Start a run in org/repo, of which an operator keeps a clone; return git's commands, and the folder."""
    run = a_run(started_by("as-start.02"), repository="org/repo", **{"id": "run-1", **changes})
    async with agent_server(wire, workspaces={"Org/Repo": "/srv/kept"}) as openhands:
        await openhands.start(run, "fix it", "")
    commands = [one["command"].partition(" git ")[2] for one in wire.bodies if "command" in one]
    return commands, wire.bodies[-1]["workspace"]["working_dir"]


@pytest.mark.parametrize(
    ("changes", "begin", "folder"),
    [
        ({}, "HEAD:refs/heads/openhands/run-1", "run-1/repo"),
        ({"branch": "dev"}, "refs/heads/dev:refs/heads/openhands/run-1", "run-1/repo"),
        ({"turn": 3}, "HEAD:refs/heads/openhands/run-1-3", "run-1-3/repo"),
    ],
)
async def test_each_run_gets_a_worktree_of_its_own(changes: dict[str, Any], begin: str, folder: str) -> None:
    """On a branch of its own, from what the remote has now."""
    commands, found = await worktree(ran(DONE, DONE), **changes)
    own = begin.partition(":refs/heads/")[2]
    assert found == f"/srv/runs/{folder}"
    assert commands == [
        f"-C /srv/kept fetch --quiet origin {begin}",
        f"-C /srv/kept worktree add --quiet {found} {own}",
    ]


async def test_a_worktree_that_is_there_is_used_and_a_broken_one_is_not() -> None:
    """Nor is a folder that something else left: then it is the second one."""
    there = {"exit_code": 128, "stderr": CHECKED_OUT}
    whole, folder = await worktree(ran(there, DONE))
    assert (whole[1], folder) == ("-C /srv/runs/run-1/repo diff --quiet HEAD", "/srv/runs/run-1/repo")
    _, folder = await worktree(ran(there, {"exit_code": 1}, DONE, DONE))
    assert folder == "/srv/runs/run-1/repo-2"
    commands, folder = await worktree(ran(DONE, {"exit_code": 128, "stderr": EXISTS}, DONE, DONE))
    assert (folder, commands[-1].endswith(" openhands/run-1-2")) == ("/srv/runs/run-1/repo-2", True)


@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        ("fatal: cannot change to '/srv/kept': No such file or directory\n", errors.NoAccess),
        ("fatal: 'origin' does not appear to be a git repository\n", errors.NoAccess),
        ("fatal: couldn't find remote ref refs/heads/nowhere\n", errors.Rejected),
        ("fatal: unable to access: Could not resolve host: github.com\n", errors.Rejected),
    ],
)
async def test_a_worktree_that_can_not_be_made_is_told_apart(stderr: str, error: type[Exception]) -> None:
    """Nothing is started."""
    wire = ran({"exit_code": 128, "stderr": stderr})
    with pytest.raises(error):
        await worktree(wire)
    assert f"POST {ALL}" not in wire.calls


async def test_branches_are_those_that_git_lists() -> None:
    """Of the remote, or of the clone's; None where git can't tell."""
    wire = ran("as-workspace.05", "as-workspace.03")
    async with agent_server(wire) as openhands:
        assert await openhands.branches("org/repo", "dev") == ["main"]
        assert await openhands.branches("org/repo", "dev") is None
    kept = ran("as-workspace.05")
    async with agent_server(kept, workspaces={"org/repo": "/srv/kept"}) as openhands:
        assert await openhands.branches("org/repo", "dev") == ["main"]
    assert kept.bodies[0]["command"].endswith("git -C /srv/kept ls-remote --heads origin")


async def test_what_the_stored_token_sees_is_listed_with_the_clones_that_are_kept() -> None:
    """Page by page; without a token only those, and it is never all there is."""
    search = "/api/git/repositories/search"
    first, second = (
        httpx.Response(200, json={"items": [{"full_name": name}], "next_page_id": more})
        for name, more in (("org/a", "2"), ("org/b", None))
    )
    wire = Wire().then("GET", search, first, query={"provider": "github"})
    wire.then("GET", search, second, query={"provider": "github", "page_id": "2"})
    async with agent_server(wire, workspaces={"org/kept": "/srv/kept"}) as openhands:
        assert await openhands.repositories() == Listed(("org/kept", "org/a", "org/b"))
    for name in ("as-git.01", "as-git.05"):
        wire = Wire().then("GET", search, response_of(exchange(name)), query={"provider": "github"})
        async with agent_server(wire, workspaces={"org/kept": "/srv/kept"}) as openhands:
            assert await openhands.repositories() == Listed(("org/kept",))


# --- a lost start -----------------------------------------------------------------------------------------------


async def test_a_start_that_is_not_there_is_not_found() -> None:
    """Yet."""
    run = a_run(asked_about("as-lost-start.01"), state=RunState.STARTING)
    async with agent_server(Wire("as-lost-start.01")) as openhands:
        assert await openhands.find_start(run, "fix it", NOON) is None


@pytest.mark.parametrize("name", ["as-lost-start.10", "as-lost-start.16", "as-lost-start.19", "as-old-lost-start.13"])
async def test_a_start_with_its_message_is_found(name: str) -> None:
    """Whatever became of it since."""
    run = a_run(asked_about(name), state=RunState.STARTING)
    async with agent_server(Wire(name)) as openhands:
        it = await openhands.find_start(run, "fix it", NOON)
    assert it is not None
    assert (it.conversation_id, it.start_task_id) == (run.conversation_id, run.conversation_id)


@pytest.mark.parametrize(
    ("look", "send"),
    [("as-lost-start.04", "as-lost-start.08"), ("as-old-lost-start.04", "as-old-lost-start.08")],
)
async def test_a_start_without_its_message_gets_it_after_a_while(look: str, send: str) -> None:
    """Once it can't be on its way any more; as recorded."""
    run = a_run(asked_about(look), state=RunState.STARTING)
    wire, clock = Wire(look, send), JumpingClock()
    async with agent_server(wire, clock=clock) as openhands:
        early = await openhands.find_start(run, "COUNT 9", NOON)
        clock.time += timedelta(seconds=11)
        late = await openhands.find_start(run, "COUNT 9", NOON)
    assert (early, late and late.conversation_id) == (None, run.conversation_id)
    assert wire.bodies == [exchange(send)["request"]]


async def test_a_start_without_its_message_gets_its_pictures_too() -> None:
    """With the words, in one message."""
    run, wire, clock = a_run(asked_about("as-lost-start.04"), state=RunState.STARTING), Wire(), JumpingClock()
    wire = Wire("as-lost-start.04", "as-lost-start.08")
    clock.time += timedelta(seconds=11)
    async with agent_server(wire, clock=clock) as openhands:
        await openhands.find_start(run, "COUNT 9", NOON, images=["data:image/png;base64,AAAA"])
    [sent] = wire.bodies
    assert sent["content"] == [
        {"type": "text", "text": "COUNT 9"},
        {"type": "image", "image_urls": ["data:image/png;base64,AAAA"]},
    ]


@pytest.mark.parametrize("name", ["as-images.03", "as-images.06"])
async def test_pictures_go_with_a_message_or_alone(name: str) -> None:
    """As recorded."""
    wire, recorded = Wire(name), exchange(name)
    request, conversation = recorded["request"], recorded["path"].split("/")[3]
    text = "".join(one.get("text", "") for one in request["content"])
    async with agent_server(wire) as openhands:
        await openhands.send(a_run(conversation), text, images=request["content"][-1]["image_urls"])
    assert wire.bodies == [{**request, "run": True}]


async def test_pictures_go_with_a_start() -> None:
    """As recorded."""
    name = "as-images.01"
    wire, request = ready_to_start(name), exchange(name)["request"]
    text, pictures = request["initial_message"]["content"]
    async with agent_server(wire) as openhands:
        await openhands.start(a_run(started_by(name)), text["text"], "", images=pictures["image_urls"])
    assert wire.bodies[-1]["initial_message"] == request["initial_message"]


# --- observe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number", "phase"),
    [
        ("as-start.04", 0, Phase.WORKING),
        ("as-start.05", 0, Phase.ENDED),
        ("as-words.01", 0, Phase.ENDED),
        ("as-confirm.03", 0, Phase.WANTS_APPROVAL),
        ("as-confirm-message.05", 0, Phase.WANTS_APPROVAL),
        ("as-confirm.08", 0, Phase.IDLE),
        ("as-lost-start.06", 0, Phase.IDLE),
        ("as-lost-start.10", 0, Phase.STARTING),
        ("as-follow-up.06", 0, Phase.STARTING),
        ("as-stop.09", 0, Phase.PAUSED),
        ("as-restart.15", 0, Phase.PAUSED),
        ("as-failed-model.01", 0, Phase.ERROR),
        ("as-restart.01", 0, Phase.ERROR),
        ("as-restart.01", 1, Phase.ENDED),
        ("as-restart.01", 2, Phase.WANTS_APPROVAL),
        ("as-restart.01", 3, Phase.PAUSED),
        ("as-lost-start.19", 0, Phase.ERROR),
        ("as-stuck.01", 0, Phase.STUCK),
        ("as-batch.03", 0, Phase.GONE),
        ("as-old-start.04", 0, Phase.WORKING),
        ("as-old-start.05", 0, Phase.ENDED),
    ],
)
async def test_each_word_is_a_phase(name: str, number: int, phase: Phase) -> None:
    """Of both versions."""
    assert (await looked_at(name, number=number)).phase is phase


async def test_a_start_on_its_way_is_not_gone() -> None:
    """Nor idle, if its message is still to come; once it arrived, both are."""
    for name in ("as-start.01", "as-lost-start.04"):
        early = await looked_at(name, state=RunState.STARTING)
        late = await looked_at(name, state=RunState.STARTING, start_task_id="it arrived")
        assert (early.phase, late.phase in {Phase.GONE, Phase.IDLE}) == (Phase.STARTING, True)


async def test_the_cost_is_the_sum_of_all_uses() -> None:
    """`metrics` is empty."""
    assert (await looked_at("as-cost.01")).cost == pytest.approx(0.053)
    assert (await looked_at("as-start.05")).cost == 0.0
    assert (await looked_at("as-batch.03")).cost is None


async def test_answers_that_grow_too_long_are_asked_for_in_smaller_batches_for_a_while() -> None:
    """Each model call makes an entry longer, and stays in it: the whole is tried again once a minute, not each time."""
    runs, clock, sizes = [a_run(str(UUID(int=number))) for number in range(24)], JumpingClock(), list[int]()

    def answer(request: httpx.Request) -> httpx.Response:
        ids = request.url.params.get_list("ids")
        sizes.append(len(ids))
        if len(ids) > 12:
            raise httpx.ReadTimeout("too long")
        return httpx.Response(200, json=[None] * len(ids))

    async with agent_server(httpx.MockTransport(answer), clock=clock) as openhands:
        for _ in range(3):
            assert len(await openhands.observe(runs)) == 24
        assert sizes == [24, 12, 12, 12, 12, 12, 12]
        clock.time += timedelta(seconds=61)
        await openhands.observe(runs)
        await openhands.observe(runs)
    assert sizes[7:] == [12, 12, 24, 12, 12]


async def test_many_are_asked_in_batches_of_a_few() -> None:
    """Each entry grows with every call of a model."""
    names = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(60)]
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        ids = request.url.params.get_list("ids")
        asked.append(len(ids))
        return httpx.Response(200, json=[{"id": one, "execution_status": "running"} for one in ids])

    async with agent_server(httpx.MockTransport(answer)) as openhands:
        seen = await openhands.observe([a_run(name) for name in names])
    assert ({one.phase for one in seen.values()}, asked) == ({Phase.WORKING}, [24, 24, 12])


async def test_an_entry_that_can_not_be_read_hides_no_other() -> None:
    """Alone, it is the failure."""
    good, odd = asked_about("as-start.04"), asked_about("as-batch.03")
    entry = exchange("as-start.04")["response"][0]
    wire = Wire().then("GET", ALL, httpx.Response(200, json=[entry, {"id": 7}]), query={"ids": [good, odd]})
    wire.then("GET", ALL, httpx.Response(200, json=[{"id": 7}]), query={"ids": odd})
    runs = [a_run(good), a_run(odd)]
    async with agent_server(wire) as openhands:
        assert list(await openhands.observe(runs)) == [runs[0].id]
        with pytest.raises(errors.Unreadable):
            await openhands.observe(runs[1:])
        assert await openhands.observe([a_run(None)]) == {}


@pytest.mark.parametrize(
    ("answers", "phases", "runs"),
    [
        (["as-lost-start.14"], [Phase.STARTING, Phase.STARTING, Phase.STARTING, Phase.IDLE], 1),
        (["as-limit.09", "as-lost-start.14"], [Phase.STARTING] * 4, 2),
        (["as-follow-up.03"], [Phase.STARTING] * 4, 2),
        (["as-follow-up.25"], [Phase.STARTING] * 4, 2),
    ],
)
async def test_a_message_that_nobody_works_on_is_brought_to_run(
    answers: list[str], phases: list[Phase], runs: int
) -> None:
    """After ten seconds, and as long as there is no room; once it was of no use, a person decides."""
    name = "as-lost-start.10"
    run = a_run(asked_about(name))
    wire, clock = Wire(name), JumpingClock()
    for one in answers:
        wire.then("POST", f"{ALL}/{run.conversation_id}/run", response_of(exchange(one)))
    seen = []
    async with agent_server(wire, clock=clock) as openhands:
        for passes in (0, 9, 2, 31):
            clock.time += timedelta(seconds=passes)
            seen.append((await openhands.observe([run]))[run.id].phase)
    assert (seen, sum(call.endswith("/run") for call in wire.calls)) == (phases, runs)


async def test_a_message_of_a_stopped_run_is_left_alone() -> None:
    """Nobody wants it worked on."""
    name = "as-lost-start.10"
    run = a_run(asked_about(name), stop_by="U2")
    wire = Wire(name)
    async with agent_server(wire) as openhands:
        assert (await openhands.observe([run]))[run.id].phase is Phase.IDLE


# --- read -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("look", "events", "last"),
    [
        ("as-start.05", "as-events.01", Finish("Took 2 steps.")),
        ("as-words.01", "as-words.03", Said("Shall I go on with all 31 lines?")),
        (
            "as-failed-model.12",
            "as-failed-model.13",
            Failed(Reason.MODEL_KEY, "Your LLM API key appears to be invalid or has expired."),
        ),
        (
            "as-failed-model.14",
            "as-failed-model.15",
            Failed(Reason.MODEL_LIMIT, "The scripted model was told to fail."),
        ),
        ("as-failed-model.16", "as-failed-model.17", Failed(Reason.MODEL_DOWN, "The scripted model was told to fail.")),
        ("as-failed-model.18", "as-failed-model.19", Failed(Reason.MODEL_DOWN, "Connection error.")),
        ("as-max-steps.01", "as-max-steps.02", Failed(Reason.MAX_STEPS, "Agent reached maximum iterations limit (2).")),
        ("as-stuck.01", "as-stuck.03", Failed(Reason.STUCK)),
        ("as-old-start.05", "as-old-events.01", Finish("Took 2 steps.")),
    ],
)
async def test_words_are_read_from_the_events(look: str, events: str, last: object) -> None:
    """Codes and words as on V1."""
    assert (await looked_at(look, events)).last == last


async def test_an_error_without_a_word_is_a_killed_server_at_the_second_look() -> None:
    """At the first one its event may still be on its way."""
    events = exchange("as-restart.02")["response"]["items"]
    first = await looked_at("as-restart.01", "as-restart.02")
    run = a_run(asked_about("as-restart.01"))
    known = changed(run, phase=Phase.ERROR)
    person = exchange("as-start.10")["response"]["items"]
    path, query = f"{ALL}/{run.conversation_id}/events/search", {"sort_order": "TIMESTAMP_DESC", "limit": 20}
    page = httpx.Response(200, json={"items": [*events, *person], "next_page_id": None})
    async with agent_server(Wire().then("GET", path, page, query=query)) as openhands:
        second = await openhands.read(known, first)
    assert (first.last, second.last) == (None, Failed(Reason.CUT_OFF))


async def test_what_waits_is_read_with_its_command() -> None:
    """And named by its event."""
    seen = await looked_at("as-confirm.03", "as-confirm.04")
    [action] = exchange("as-confirm.04")["response"]["items"]
    assert seen.last == ApprovalRequest(action["id"], "terminal", "echo step 1", "UNKNOWN")


async def test_nothing_is_read_of_what_is_gone_or_not_begun() -> None:
    """Its events are not found."""
    wire = Wire()
    async with agent_server(wire) as openhands:
        for phase in (Phase.GONE, Phase.STARTING):
            seen = Observation(asked_at=NOON, phase=phase)
            assert await openhands.read(a_run("c"), seen) == seen
    assert wire.calls == []


async def test_the_newest_event_is_the_anchor() -> None:
    """Whatever kind it is of."""
    name = "as-events.02"
    page = exchange(name)["response"]
    conversation = exchange(name)["path"].split("/")[3]
    query = {"sort_order": "TIMESTAMP_DESC", "limit": 1}
    wire = Wire().then("GET", exchange(name)["path"], response_of(exchange(name)), query=query)
    async with agent_server(wire) as openhands:
        assert await openhands.last_event(a_run(conversation)) == page["items"][0]["id"]


@pytest.mark.parametrize(("text", "heard"), [("COUNT 7", True), ("SLEEP 25", True), ("COUNT 8", False)])
async def test_a_message_given_up_by_us_is_heard_once_it_was_delivered(text: str, heard: bool) -> None:  # noqa: FBT001 - what is expected
    """After the command that held it up."""
    name = "as-running.11"
    conversation = exchange(name)["path"].split("/")[3]
    query = {"sort_order": "TIMESTAMP_DESC", "limit": 100}
    wire = Wire().then("GET", exchange(name)["path"], newest_first(name), query=query)
    async with agent_server(wire) as openhands:
        assert await openhands.heard(a_run(conversation), text, None) is heard


# --- act --------------------------------------------------------------------------------------------------------


def of(name: str) -> str:
    """Return the id of the conversation that a recorded call names."""
    return str(exchange(name)["path"].split("/")[3])


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("as-follow-up.01", None),
        ("as-running.02", None),
        ("as-stop.21", None),
        ("as-limit.06", None),
        ("as-follow-up.23", errors.NotFound),
        ("as-delete.05", errors.NotFound),
        ("as-old-limit.06", None),
    ],
)
async def test_a_message_is_sent_to_be_worked_on(name: str, error: type[Exception] | None) -> None:
    """One that was saved without room to run it is delivered: it must not be sent again."""
    wire = Wire(name)
    recorded = exchange(name)["request"]
    async with agent_server(wire) as openhands:
        try:
            await openhands.send(a_run(of(name)), recorded["content"][0]["text"])
            told = None
        except errors.OpenHandsError as err:
            told = type(err)
    assert (told, wire.bodies) == (error, [recorded])


@pytest.mark.parametrize(
    ("look", "call"), [("as-start.04", "interrupt"), ("as-stop.09", "interrupt"), ("as-stop.30", "interrupt")]
)
async def test_a_stop_is_an_interrupt(look: str, call: str) -> None:
    """Whatever it does, and repeatable."""
    run = a_run(asked_about(look))
    wire = Wire(look).then("POST", f"{ALL}/{run.conversation_id}/{call}", response_of(exchange("as-stop.08")))
    async with agent_server(wire) as openhands:
        await openhands.stop(run)
    assert wire.calls[-1].endswith(f"/{call}")


async def test_a_stop_of_what_waits_is_a_rejection_and_of_nothing_is_not_found() -> None:
    """An interrupt would leave it waiting."""
    run = a_run(asked_about("as-confirm.03"))
    respond = f"{ALL}/{run.conversation_id}/events/respond_to_confirmation"
    wire = Wire("as-confirm.03").then("POST", respond, response_of(exchange("as-confirm.07")))
    async with agent_server(wire) as openhands:
        await openhands.stop(run)
    assert wire.bodies == [{"accept": False, "reason": "Stopped by a person."}]
    async with agent_server(Wire("as-batch.03")) as openhands:
        with pytest.raises(errors.NotFound):
            await openhands.stop(a_run(asked_about("as-batch.03")))


@pytest.mark.parametrize(
    ("look", "call", "outcome"),
    [
        ("as-stop.09", "as-stop.14", True),
        ("as-restart.15", "as-restart.17", True),
        ("as-failed-model.01", "as-failed-model.04", True),
        ("as-restart.03", "as-restart.06", True),
        ("as-confirm.08", "as-follow-up.08", True),
        ("as-lost-start.10", "as-lost-start.14", True),
        ("as-stop.09", "as-follow-up.03", False),
        ("as-stop.09", "as-limit.22", errors.AtCapacity),
        ("as-start.04", None, False),
        ("as-start.05", None, False),
        ("as-confirm.03", None, False),
    ],
)
async def test_it_goes_on_from_wherever_it_is(look: str, call: str | None, outcome: Any) -> None:
    """Never where it waits for approval, since that would be one."""
    run = a_run(asked_about(look))
    wire = Wire(look)
    if call is not None:
        wire.then("POST", f"{ALL}/{run.conversation_id}/run", response_of(exchange(call)))
    async with agent_server(wire) as openhands:
        try:
            told: object = await openhands.go_on(run)
        except errors.OpenHandsError as err:
            told = type(err)
        await openhands.resume(run)  # nothing sleeps here, so nothing is called
    assert (told, len(wire.calls)) == (outcome, 1 if call is None else 2)


async def test_one_that_goes_in_circles_gets_a_message() -> None:
    """It would stop again at once."""
    run = a_run(asked_about("as-stuck.01"))
    wire = Wire("as-stuck.01", "as-stuck.04")
    async with agent_server(wire) as openhands:
        assert await openhands.go_on(run)
    assert wire.bodies[0]["content"][0]["text"] == "Please go on."


async def test_what_can_not_be_told_is_left_alone() -> None:
    """A word newer than this code, and none at all."""
    for word in ("dancing", None):
        entry = exchange("as-start.05")["response"][0] | {"execution_status": word}
        wire = Wire().then("GET", ALL, httpx.Response(200, json=[entry]), query={"ids": entry["id"]})
        async with agent_server(wire) as openhands:
            with pytest.raises(errors.Unavailable):
                await openhands.go_on(a_run(entry["id"]))
            with pytest.raises(errors.Unavailable):
                await openhands.decide(a_run(entry["id"]), "e", accept=True, reason="")


@pytest.mark.parametrize(
    ("accept", "call", "outcome"),
    [
        (True, "as-confirm.05", DecisionOutcome.POSTED),
        (False, "as-confirm.07", DecisionOutcome.POSTED),
        (True, "as-limit.16", errors.AtCapacity),
    ],
)
async def test_a_decision_is_on_what_waits(accept: bool, call: str, outcome: Any) -> None:  # noqa: FBT001 - what a person decided
    """As recorded; one without room waits."""
    run = a_run(asked_about("as-confirm.03"))
    [action] = exchange("as-confirm.04")["response"]["items"]
    events = f"{ALL}/{run.conversation_id}/events"
    wire = Wire("as-confirm.03")
    wire.then(
        "GET", f"{events}/search", newest_first("as-confirm.04"), query={"sort_order": "TIMESTAMP_DESC", "limit": 20}
    )
    wire.then("POST", f"{events}/respond_to_confirmation", response_of(exchange(call)))
    async with agent_server(wire) as openhands:
        other = await openhands.decide(run, "another", accept=accept, reason="Not on main, please.")
        try:
            told: object = await openhands.decide(run, action["id"], accept=accept, reason="Not on main, please.")
        except errors.OpenHandsError as err:
            told = type(err)
    assert (other, told) == (DecisionOutcome.OTHER, outcome)
    assert wire.bodies == [exchange(call)["request"]]


async def test_nothing_is_decided_where_nothing_waits_or_it_can_not_be_read() -> None:
    """The next poll tells."""
    async with agent_server(Wire("as-start.05")) as openhands:
        run = a_run(asked_about("as-start.05"))
        assert await openhands.decide(run, "e", accept=True, reason="") is DecisionOutcome.OVER
    run = a_run(asked_about("as-confirm.03"))
    path = f"{ALL}/{run.conversation_id}/events/search"
    nothing = httpx.Response(200, json={"items": [], "next_page_id": None})
    wire = Wire("as-confirm.03").then("GET", path, nothing, query={"sort_order": "TIMESTAMP_DESC", "limit": 20})
    async with agent_server(wire) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.decide(run, "e", accept=True, reason="")


# --- the server -------------------------------------------------------------------------------------------------


async def test_who_works_is_counted() -> None:
    """Everybody's runs; a server that can't count is not known."""
    query = {"status": "running"}
    for answer, found in (
        (httpx.Response(200, json=2), Slots(running=2, of="agent")),
        (httpx.Response(404, json={}), None),
    ):
        async with agent_server(Wire().then("GET", f"{ALL}/count", answer, query=query)) as openhands:
            assert await openhands.slots() == found


@pytest.mark.parametrize(("name", "listed"), [("as-workspace.05", True), ("as-workspace.03", False)])
async def test_a_repository_is_listed_if_the_servers_git_can_read_it(name: str, listed: bool) -> None:  # noqa: FBT001 - what is expected
    """The server's own search lists nothing without a stored token."""
    wire = Wire(name)
    async with agent_server(wire) as openhands:
        assert await openhands.lists("org/repo") is listed
    assert wire.bodies[0]["command"].endswith("git ls-remote --heads -- https://github.com/org/repo")


@pytest.mark.parametrize(("name", "lacks"), [("as-fresh.18", ["LLM profile 'default' not found"]), ("as-fresh.26", [])])
async def test_what_a_profile_lacks_is_known_beforehand(name: str, lacks: list[str]) -> None:
    """By a dry run."""
    wire = Wire("as-fresh.12", name)
    async with agent_server(wire) as openhands:
        assert await openhands.lacks() == lacks


async def test_its_page_is_that_of_the_conversation() -> None:
    """Where the page for people stands in front of it."""
    async with agent_server(Wire()) as openhands:
        assert openhands.link(ConversationId("c")) == "http://openhands.test/conversations/c"
