"""The V0 API of the local OpenHands."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bot.simulator.openhands import Conversation, LocalOpenHands
from tests.simulator.openhands_rig import Rig

BASE = "/api/conversations"
UNKNOWN = "0123456789abcdef0123456789abcdef"

Deed = Callable[[LocalOpenHands, Conversation], object]


def v0(**options: Any) -> Rig:
    return Rig(api="v0", **options)


async def shown(rig: Rig, c: Conversation) -> Any:
    return (await rig.client.get(f"{BASE}/{c.id}")).raise_for_status().json()


async def events(rig: Rig, c: Conversation, **query: str | int) -> Any:
    answer = await rig.client.get(f"{BASE}/{c.id}/events", params={"limit": 100, **query})
    return answer.raise_for_status().json()["events"]


async def last_state(rig: Rig, c: Conversation) -> tuple[str, str]:
    """Agent state and reason, as a caller finds them."""
    changes = [event for event in await events(rig, c) if event.get("observation") == "agent_state_changed"]
    return changes[-1]["extras"]["agent_state"], changes[-1]["extras"]["reason"]


# Starts


async def test_a_start_is_answered_with_an_id_of_the_servers_own() -> None:
    """32 hex digits; the same request again is a second conversation."""
    async with v0() as rig:
        body = {"initial_user_msg": "fix README", "repository": "org/repo"}
        first, second = [(await rig.client.post(BASE, json=body)).json() for _ in range(2)]
        assert first == {
            "status": "ok",
            "conversation_id": first["conversation_id"],
            "message": None,
            "conversation_status": "STARTING",
        }
        assert first["conversation_id"] != second["conversation_id"]
        assert list(rig.server.conversations) == [first["conversation_id"], second["conversation_id"]]
        assert rig.server.violations == []


async def test_the_runtime_starts_in_time_and_then_the_agent_works() -> None:
    """STARTING, then RUNNING; the message is in the first events."""
    async with v0(start_seconds=2) as rig:
        answer = await rig.client.post(BASE, json={"initial_user_msg": "fix README"})
        c = rig.server.conversations[answer.json()["conversation_id"]]
        before = (await shown(rig, c))["status"], c.agent_state
        await rig.later(2)
        told = [(event["id"], event.get("action") or event["observation"]) for event in await events(rig, c)]
        assert before == ("STARTING", "loading")
        assert ((await shown(rig, c))["status"], c.agent_state, c.messages) == ("RUNNING", "running", ["fix README"])
        assert told == [(0, "agent_state_changed"), (1, "system"), (2, "message"), (3, "agent_state_changed")]


async def test_the_fields_are_those_of_the_published_contract() -> None:
    """And the title comes later, by itself."""
    async with v0() as rig:
        c = await rig.start_v0("fix README", repository="org/repo")
        first = await shown(rig, c)
        await rig.later(5)
        assert {name: first[name] for name in ("conversation_id", "title", "created_at", "selected_repository")} == {
            "conversation_id": c.id,
            "title": f"Conversation {c.id[:5]}",
            "created_at": "2026-11-24T09:00:00Z",
            "selected_repository": "org/repo",
        }
        assert (await shown(rig, c))["title"] == "fix README"


@pytest.mark.parametrize("name", ["colour", "conversation_id", "selected_branch", "git_provider"])
async def test_a_start_has_two_fields_and_no_other(name: str) -> None:
    """422 and a violation; nothing starts."""
    async with v0() as rig:
        answer = await rig.client.post(BASE, json={"initial_user_msg": "fix README", name: "x"})
        assert (answer.status_code, answer.json()) == (
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", name],
                        "msg": "Extra inputs are not permitted",
                        "input": "x",
                    }
                ]
            },
        )
        assert rig.server.violations == [f"unknown field in a V0 start: {name}"]
        assert rig.server.conversations == {}


@pytest.mark.parametrize(
    ("body", "kind"), [("{nonsense", "json_invalid"), ("[]", "model_attributes_type"), ("", "missing")]
)
async def test_a_start_that_is_no_object_is_refused(body: str, kind: str) -> None:
    """422 that says why."""
    async with v0() as rig:
        answer = await rig.client.post(BASE, content=body)
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, kind)


async def test_a_message_that_is_no_text_is_refused() -> None:
    """422."""
    async with v0() as rig:
        answer = await rig.client.post(BASE, json={"initial_user_msg": ["fix README"]})
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "string_type")


@pytest.mark.parametrize(("providers", "status"), [(False, 401), (True, 200)])
async def test_a_repository_out_of_reach_refuses_the_start_itself(*, providers: bool, status: int) -> None:
    """401 with a bare string; nothing is left behind. An empty repository counts as none."""
    async with v0(providers=providers) as rig:
        answer = await rig.client.post(BASE, json={"initial_user_msg": "fix README", "repository": "org/repo"})
        without = await rig.client.post(BASE, json={"initial_user_msg": "fix README", "repository": ""})
        assert (answer.status_code, without.status_code) == (status, 200)
        assert status == 200 or answer.json() == "Unable to access repo org/repo"


async def test_a_runtime_that_cannot_start_stays_starting_for_ever() -> None:
    """Nothing tells that it failed."""
    async with v0() as rig:
        rig.server.fail_next_start()
        c = await rig.start_v0()
        await rig.later(3600)
        assert (await shown(rig, c))["status"] == "STARTING"


@pytest.mark.parametrize(
    ("key_header", "headers", "status", "body"),
    [
        ("bearer", {"Authorization": "Bearer right"}, 200, None),
        ("bearer", {"Authorization": "Bearer wrong"}, 401, {"error": "NoCredentialsError"}),
        ("session", {"X-Session-API-Key": "right"}, 200, None),
        ("session", {"Authorization": "Bearer right"}, 401, {"detail": "Unauthorized"}),
    ],
)
async def test_a_wrong_key_is_told_in_the_words_of_its_kind_of_server(
    key_header: str, headers: dict[str, str], status: int, body: object
) -> None:
    """The cloud names the error, a server of one's own does not."""
    async with v0(key="right", key_header=key_header) as rig:
        answer = await rig.client.get(f"{BASE}/{UNKNOWN}", headers=headers)
        assert (answer.status_code, answer.json()) == (status, body)


async def test_at_the_limit_a_start_is_refused_or_another_is_stopped() -> None:
    """The guide says 429; recorded is that the one updated longest ago is stopped, working or not."""
    async with v0(limit=2) as rig:
        first, second = await rig.start_v0("first"), await rig.start_v0("second")
        await rig.later(1)
        rig.server.progress(first, "Look")
        refused = await rig.client.post(BASE, json={"initial_user_msg": "third"})
        rig.server.limit_answers = "pauses-oldest"
        await rig.start_v0("third")
        assert refused.status_code == 429
        assert [(await shown(rig, c))["status"] for c in (first, second)] == ["RUNNING", "STOPPED"]


# What a status means


@pytest.mark.parametrize(
    ("deed", "state", "reason"),
    [
        (lambda server, c: server.progress(c, "Look"), "running", ""),
        (lambda server, c: server.finish(c, "Done."), "finished", ""),
        (lambda server, c: server.ask(c, "Which?"), "awaiting_user_input", ""),
        (lambda server, c: server.want_approval(c, "rm x", summary="Clear"), "awaiting_user_confirmation", ""),
        (lambda server, c: server.fail(c), "error", "STATUS$ERROR_LLM_AUTHENTICATION"),
        (lambda server, c: server.fail(c, "LLMBadRequestError", "no"), "error", "BadRequestError: no"),
        (lambda server, c: server.fail(c, "MaxIterationsReached", "500"), "error", "MaxIterationsReached: 500"),
        (lambda server, c: server.fail(c, "LLMRateLimitError"), "rate_limited", ""),
        (lambda server, c: server.get_stuck(c), "error", "AgentStuckInLoopError: Agent got stuck in a loop"),
        (lambda server, c: server.someone_pauses(c), "paused", ""),
        (lambda server, c: server.set_status(c, execution_status="dreaming"), "dreaming", ""),
    ],
)
async def test_the_status_is_the_runtimes_and_only_events_tell_of_the_agent(
    deed: Deed, state: str, reason: str
) -> None:
    """RUNNING whatever the agent does."""
    async with v0() as rig:
        c = await rig.start_v0()
        deed(rig.server, c)
        assert (await shown(rig, c))["status"] == "RUNNING"
        assert await last_state(rig, c) == (state, reason)


@pytest.mark.parametrize(
    ("deed", "status"),
    [
        (lambda server, c: server.fall_asleep(c), "STOPPED"),
        (lambda server, c: server.lose_sandbox(c), "ARCHIVED"),
        (lambda server, c: server.wreck(c), "ERROR"),
        (lambda server, c: server.set_status(c, sandbox_status="DREAMING"), "DREAMING"),
    ],
)
async def test_a_runtime_that_is_gone_has_no_address(deed: Deed, status: str) -> None:
    """Its events can still be read."""
    async with v0() as rig:
        c = await rig.start_v0()
        deed(rig.server, c)
        now = await shown(rig, c)
        assert (now["status"], now["url"], now["runtime_status"]) == (status, None, None)
        assert (await events(rig, c))[2]["args"]["content"] == "fix README"


async def test_the_answer_is_the_final_thought_of_the_finish_action() -> None:
    """Its message is a stock phrase; the cost so far goes with it."""
    async with v0() as rig:
        c = await rig.start_v0()
        rig.server.finish(c, "Fixed.", cost=0.42)
        finish = (await events(rig, c))[-2]
        assert (finish["args"]["final_thought"], finish["message"]) == (
            "Fixed.",
            "All done! What's next on the agenda?",
        )
        assert finish["llm_metrics"]["accumulated_cost"] == 0.42


async def test_what_is_unknown_or_deleted_is_null() -> None:
    """200; its events are 404 then, and it is gone from the list."""
    async with v0() as rig:
        c = await rig.start_v0()
        deleted = [(await rig.client.delete(f"{BASE}/{c.id}")).json() for _ in range(2)]
        gone = await rig.client.get(f"{BASE}/{c.id}/events")
        assert (deleted, await shown(rig, c)) == ([True, False], None)
        assert (gone.status_code, gone.json()) == (404, {"detail": f"Conversation {c.id} not found"})
        assert (await rig.client.get(BASE)).json() == {"results": [], "next_page_id": None}


@pytest.mark.parametrize(
    ("identifier", "detail"),
    [
        ("..abc", "Conversation ID contains invalid path characters"),
        ("a" * 100, "Conversation ID is too long"),
    ],
)
async def test_malformed_ids_are_refused(identifier: str, detail: str) -> None:
    """400, and a violation."""
    async with v0() as rig:
        answer = await rig.client.get(f"{BASE}/{identifier}")
        assert (answer.status_code, answer.json()) == (400, {"detail": detail})
        assert rig.server.violations == [f"malformed id: {identifier!r}"]


# Events and the list


@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ({}, list(range(20)), True),
        ({"limit": 3}, [0, 1, 2], True),
        ({"limit": 100, "start_id": 22}, [22, 23], False),
        ({"start_id": 5, "end_id": 7}, [5, 6, 7], False),
        ({"reverse": "true", "limit": 2}, [23, 22], True),
        ({"reverse": "true", "limit": 2, "end_id": 8}, [8, 7], True),
        ({"start_id": 500}, [], False),
        ({"limit": 0}, [], True),
    ],
)
async def test_events_are_read_by_their_ids(query: dict[str, str | int], ids: list[int], *, has_more: bool) -> None:
    """20 unless asked otherwise, oldest first unless asked otherwise; the last id counts in."""
    async with v0() as rig:
        c = await rig.start_v0()
        for _ in range(10):
            rig.server.progress(c, "Look")
        answer = (await rig.client.get(f"{BASE}/{c.id}/events", params=query)).json()
        assert ([event["id"] for event in answer["events"]], answer["has_more"]) == (ids, has_more)


@pytest.mark.parametrize("limit", [-1, 101])
async def test_a_page_of_events_holds_at_most_100(limit: int) -> None:
    """400 otherwise."""
    async with v0() as rig:
        c = await rig.start_v0()
        answer = await rig.client.get(f"{BASE}/{c.id}/events", params={"limit": limit})
        assert (answer.status_code, answer.json()) == (400, {"detail": "Invalid limit"})


async def test_the_list_has_the_newest_first_and_filters_after_paging() -> None:
    """So a page may be empty and not the last; a page id that is none is a bare 500."""
    async with v0() as rig:
        for repository in ("org/a", "org/b"):
            await rig.start_v0("fix README", repository=repository)
            await rig.later(1)

        async def listed(**query: str | int) -> tuple[list[str], str | None]:
            answer = (await rig.client.get(BASE, params=query)).json()
            return [one["selected_repository"] for one in answer["results"]], answer["next_page_id"]

        everything = await listed()
        filtered, following = await listed(selected_repository="org/a", limit=1)
        assert everything == (["org/b", "org/a"], None)
        assert filtered == []
        assert await listed(selected_repository="org/a", limit=1, page_id=str(following)) == (["org/a"], None)
        assert (await rig.client.get(BASE, params={"page_id": "nonsense"})).status_code == 500
        assert (await rig.client.get(BASE, params={"limit": "many"})).status_code == 422


async def test_a_title_is_changed_by_hand() -> None:
    """A body without one is refused, and so is an unknown conversation."""
    async with v0() as rig:
        c = await rig.start_v0()
        changed = await rig.client.patch(f"{BASE}/{c.id}", json={"title": "Mine"})
        assert (changed.json(), (await shown(rig, c))["title"]) == (True, "Mine")
        assert (await rig.client.patch(f"{BASE}/{c.id}", json={})).status_code == 422
        assert (await rig.client.patch(f"{BASE}/{UNKNOWN}", json={"title": "x"})).status_code == 404


# Messages


@pytest.mark.parametrize(
    "deed",
    [
        lambda server, c: server.work_on(c, "sleep 60", seconds=60),
        lambda server, c: server.finish(c, "Done."),
        lambda server, c: server.ask(c, "Which?"),
        lambda server, c: server.fail(c),
        lambda server, c: server.fail(c, "LLMRateLimitError"),
        lambda server, c: server.someone_pauses(c),
    ],
    ids=["working", "finished", "asked", "failed", "rate limited", "paused"],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [("message", {"message": "second"}), ("events", {"action": "message", "args": {"content": "second"}})],
)
async def test_a_message_is_taken_at_once(deed: Deed, path: str, body: object) -> None:
    """Also while a command runs. Both ways of sending one."""
    async with v0() as rig:
        c = await rig.start_v0("first")
        deed(rig.server, c)
        answer = await rig.client.post(f"{BASE}/{c.id}/{path}", json=body)
        assert (answer.status_code, answer.json(), rig.server.calls[-1].kind) == (200, {"success": True}, "send")
        assert (c.messages, c.agent_state) == (["first", "second"], "running")


async def test_a_message_before_the_runtime_is_up_is_never_answered() -> None:
    """200 all the same; it stands in the events, and the agent does not take it."""
    async with v0(start_seconds=2) as rig:
        answer = await rig.client.post(BASE, json={"initial_user_msg": "first"})
        c = rig.server.conversations[answer.json()["conversation_id"]]
        early = await rig.client.post(f"{BASE}/{c.id}/message", json={"message": "too early"})
        await rig.later(2)
        written = [event["args"]["content"] for event in await events(rig, c) if event.get("action") == "message"]
        assert (early.status_code, written, c.messages) == (200, ["too early", "first"], ["first"])


async def test_a_stopped_conversation_takes_no_message() -> None:
    """500, in two forms; an unknown one is 404."""
    async with v0() as rig:
        c = await rig.start_v0("first")
        rig.server.fall_asleep(c)
        message = await rig.client.post(f"{BASE}/{c.id}/message", json={"message": "second"})
        event = await rig.client.post(
            f"{BASE}/{c.id}/events", json={"action": "message", "args": {"content": "second"}}
        )
        unknown = await rig.client.post(f"{BASE}/{UNKNOWN}/message", json={"message": "second"})
        error = f"Error adding message to conversation: no_conversation:{c.id}"
        assert (message.status_code, message.json()) == (500, {"success": False, "error": error})
        assert (event.status_code, event.text) == (500, "Internal Server Error")
        assert unknown.status_code == 404
        assert c.messages == ["first"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("message", {}, 422),
        ("message", {"message": 1}, 422),
        ("events", {"action": "message"}, 500),
        ("events", {"action": "dance", "args": {}}, 500),
    ],
)
async def test_a_malformed_message_is_refused(path: str, body: object, status: int) -> None:
    """Validated in the one place, a crash in the other."""
    async with v0() as rig:
        c = await rig.start_v0("first")
        answer = await rig.client.post(f"{BASE}/{c.id}/{path}", json=body)
        assert (answer.status_code, c.messages) == (status, ["first"])


# Stop, resume, approve


async def test_a_stop_ends_the_runtime_and_cuts_the_work_off() -> None:
    """It answers with the status before; a second one finds nothing to stop."""
    async with v0() as rig:
        c = await rig.start_v0()
        first, second = [(await rig.client.post(f"{BASE}/{c.id}/stop")).json() for _ in range(2)]
        assert (first["message"], first["conversation_status"]) == ("Conversation stopped successfully", "RUNNING")
        assert (second["message"], second["conversation_status"]) == ("Conversation was not running", "STOPPED")
        assert (await last_state(rig, c), c.interrupts) == (("stopped", ""), 1)


async def test_a_stop_waits_for_a_command_half_a_minute_at_most() -> None:
    """Then the command is cut off."""
    async with v0() as rig:
        c = await rig.start_v0()
        rig.server.work_on(c, "sleep 60", seconds=60)
        stopping = asyncio.create_task(rig.client.post(f"{BASE}/{c.id}/stop"))
        await rig.until_parked()
        before = c.sandbox_status
        await rig.later(30)
        answer = await stopping
        cut_off = (await events(rig, c))[-2]
        assert (before, answer.status_code, c.sandbox_status) == ("RUNNING", 200, "STOPPED")
        assert cut_off["extras"]["error_id"] == "AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED"


async def test_a_stop_hides_that_it_had_finished() -> None:
    """The finish is further back in the events."""
    async with v0() as rig:
        c = await rig.start_v0()
        rig.server.finish(c, "Fixed.")
        await rig.client.post(f"{BASE}/{c.id}/stop")
        last = [event.get("action") or event["extras"]["agent_state"] for event in (await events(rig, c))[-3:]]
        assert last == ["finish", "finished", "stopped"]


async def test_to_stop_what_does_not_exist_is_fine() -> None:
    """To start it is not, nor to start without a body."""
    async with v0() as rig:
        stop = await rig.client.post(f"{BASE}/{UNKNOWN}/stop")
        start = await rig.client.post(f"{BASE}/{UNKNOWN}/start", json={})
        no_body = await rig.client.post(f"{BASE}/{UNKNOWN}/start")
        assert (stop.status_code, stop.json()["conversation_status"]) == (200, "STOPPED")
        assert (start.status_code, start.json()) == (404, {"status": "error", "conversation_id": UNKNOWN})
        assert no_body.status_code == 422


async def test_a_start_wakes_the_runtime_but_not_the_work() -> None:
    """The agent waits for a message, and one sent before it waits is never answered."""
    async with v0(start_seconds=2) as rig:
        c = await rig.start_v0("first")
        await rig.client.post(f"{BASE}/{c.id}/stop")
        woken = (await rig.client.post(f"{BASE}/{c.id}/start", json={})).json()
        await rig.client.post(f"{BASE}/{c.id}/message", json={"message": "too early"})
        await rig.later(2)
        waiting = c.agent_state
        again = (await rig.client.post(f"{BASE}/{c.id}/start", json={})).json()
        await rig.client.post(f"{BASE}/{c.id}/message", json={"message": "go on"})
        assert (woken["conversation_status"], again["conversation_status"]) == ("STARTING", "RUNNING")
        assert (waiting, c.agent_state, c.messages) == ("awaiting_user_input", "running", ["first", "go on"])


async def ask_for(rig: Rig, c: Conversation, state: str) -> None:
    body = {"action": "change_agent_state", "args": {"agent_state": state}}
    (await rig.client.post(f"{BASE}/{c.id}/events", json=body)).raise_for_status()


async def test_an_agent_is_paused_and_goes_on_when_asked() -> None:
    """The runtime runs on."""
    async with v0() as rig:
        c = await rig.start_v0()
        await ask_for(rig, c, "paused")
        paused = (c.agent_state, c.sandbox_status)
        await ask_for(rig, c, "running")
        assert (paused, c.agent_state) == (("paused", "RUNNING"), "running")
        assert [call.kind for call in rig.server.calls[-2:]] == ["pause", "run"]


async def test_an_approval_carries_the_command_out() -> None:
    """The agent goes on."""
    async with v0() as rig:
        c = await rig.start_v0()
        rig.server.want_approval(c, "rm x", summary="Clear")
        await ask_for(rig, c, "user_confirmed")
        *_, confirmed, result, running = await events(rig, c)
        assert (result["observation"], result["extras"]["command"]) == ("run", "rm x")
        assert [event["extras"]["agent_state"] for event in (confirmed, running)] == ["user_confirmed", "running"]
        assert [call.kind for call in rig.server.calls[-2:]] == ["respond", "events"]


async def test_a_rejection_leaves_it_waiting_for_words() -> None:
    """The command is never carried out."""
    async with v0() as rig:
        c = await rig.start_v0()
        rig.server.want_approval(c, "rm x", summary="Clear")
        await ask_for(rig, c, "user_rejected")
        told = [event.get("action") or event["observation"] for event in (await events(rig, c))[-4:]]
        assert told == ["run", "agent_state_changed", "user_rejected", "agent_state_changed"]
        assert (c.agent_state, c.pending) == ("awaiting_user_input", [])


async def test_a_decided_command_is_told_anew() -> None:
    """What comes of it names the new event: the one that waited is never answered."""
    async with v0() as rig:
        c = await rig.start_v0()
        rig.server.want_approval(c, "rm x", summary="Clear")
        waited = (await events(rig, c))[-1]
        await ask_for(rig, c, "user_confirmed")
        _, told, _, result, _ = (await events(rig, c))[-5:]
        assert (told["action"], told["args"]["confirmation_state"]) == ("run", "confirmed")
        assert (result["cause"], told["id"] > waited["id"]) == (told["id"], True)


async def test_a_pause_leaves_the_command_alone() -> None:
    """It ends in its time, whoever is paused."""
    async with v0() as rig:
        c = await rig.start_v0()
        rig.server.work_on(c, "sleep 12", seconds=12)
        await ask_for(rig, c, "paused")
        at_once = [event.get("observation") for event in (await events(rig, c))[-1:]]
        await ask_for(rig, c, "running")
        await rig.later(12)
        assert at_once == ["agent_state_changed"]
        assert ((await events(rig, c))[-1]["observation"], c.agent_state) == ("run", "running")


async def test_a_v0_agent_wants_one_thing_at_a_time() -> None:
    """Anything else is a mistake of the test."""
    async with v0() as rig:
        c = await rig.start_v0()
        with pytest.raises(RuntimeError, match="one thing at a time"):
            rig.server.want_approval(c, "rm x", "rm y", summary="Clear")


async def test_waking_a_runtime_counts_against_the_limit_too() -> None:
    """Refused, or another one is stopped for it; one that runs already takes no second place."""
    async with v0(limit=1) as rig:
        stopped = await rig.start_v0("first")
        await rig.client.post(f"{BASE}/{stopped.id}/stop")
        other = await rig.start_v0("second")
        again = await rig.client.post(f"{BASE}/{other.id}/start", json={})
        refused = await rig.client.post(f"{BASE}/{stopped.id}/start", json={})
        rig.server.limit_answers = "pauses-oldest"
        woken = await rig.client.post(f"{BASE}/{stopped.id}/start", json={})
        assert [answer.status_code for answer in (again, refused, woken)] == [200, 429, 200]
        assert other.sandbox_status == "STOPPED"


# Older servers


async def test_a_server_without_events_tells_only_whether_it_runs() -> None:
    """Neither events nor messages exist there."""
    async with v0(v0_events=False) as rig:
        c = await rig.start_v0()
        answers = [
            await rig.client.get(f"{BASE}/{c.id}/events"),
            await rig.client.post(f"{BASE}/{c.id}/events", json={"action": "message", "args": {"content": "x"}}),
            await rig.client.post(f"{BASE}/{c.id}/message", json={"message": "x"}),
        ]
        assert [(one.status_code, one.json()) for one in answers] == [(404, {"detail": "Not Found"})] * 3
        assert ((await shown(rig, c))["status"], rig.server.violations) == ("RUNNING", [])


async def test_a_server_may_lack_the_stop_and_the_list() -> None:
    """404 for the one; 405 for the other, since its path takes a POST."""
    async with v0(v0_stop=False, v0_list=False) as rig:
        c = await rig.start_v0()
        stop = await rig.client.post(f"{BASE}/{c.id}/stop")
        start = await rig.client.post(f"{BASE}/{c.id}/start", json={})
        listed = await rig.client.get(BASE)
        assert (stop.status_code, start.status_code) == (404, 404)
        assert (listed.status_code, listed.json()) == (405, {"detail": "Method Not Allowed"})
        assert rig.server.violations == []


async def test_a_server_may_have_both_apis() -> None:
    """Each lists its own conversations."""
    async with Rig(api="both") as rig:
        old, new = await rig.start_v0("old"), await rig.start("new")
        count = (await rig.client.get("/api/v1/app-conversations/count")).json()
        listed = (await rig.client.get(BASE)).json()["results"]
        assert (count, [one["conversation_id"] for one in listed]) == (1, [old.id])
        assert (await rig.status(new))["execution_status"] == "running"


async def test_a_v0_server_has_no_v1() -> None:
    """404 for the probe, which is no violation."""
    async with v0() as rig:
        answer = await rig.client.get("/api/v1/app-conversations/count")
        assert (answer.status_code, answer.json(), rig.server.violations) == (404, {"detail": "Not Found"}, [])
