"""Messages to conversations on the local OpenHands: when they arrive, and what they do."""

import asyncio
from collections.abc import Callable

import pytest

from bot.simulator.openhands import Conversation, LocalOpenHands
from tests.simulator.openhands_rig import APP, Rig

UNKNOWN = "0b07bff2-e73a-49bd-b24f-9d0057b26279"
TAKEN = {"success": True, "sandbox_status": "RUNNING", "message": None}

Deed = Callable[[LocalOpenHands, Conversation], object]


@pytest.mark.parametrize(
    "deed",
    [
        lambda server, c: server.progress(c, "Look"),
        lambda server, c: server.finish(c, "Done."),
        lambda server, c: server.ask(c, "Which?"),
        lambda server, c: server.fail(c),
        lambda server, c: server.get_stuck(c),
        lambda server, c: server.someone_pauses(c),
    ],
    ids=["working", "finished", "asked", "failed", "stuck", "paused"],
)
async def test_a_message_gets_an_agent_going_from_every_state(deed: Deed) -> None:
    """It is taken at once and the agent runs."""
    async with Rig() as rig:
        c = await rig.start("first")
        deed(rig.server, c)
        answer = await rig.send(c, "second")
        assert (answer.status_code, answer.json()) == (200, TAKEN)
        assert c.messages == ["first", "second"]
        assert await rig.words(c) == ("RUNNING", "running")


async def test_a_message_without_run_wakes_nobody() -> None:
    """The agent has it, and is idle."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.finish(c, "Done.")
        await rig.send(c, "later", run=False)
        assert c.messages == ["first", "later"]
        assert await rig.words(c) == ("RUNNING", "idle")


async def test_just_after_a_message_the_old_status_may_still_be_shown() -> None:
    """Finished, though the next turn has begun."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.status_lag_s = 0.3
        rig.server.finish(c, "Done.")
        await rig.send(c, "more")
        at_once = await rig.words(c)
        await rig.later(0.3)
        assert at_once == ("RUNNING", "finished")
        assert await rig.words(c) == ("RUNNING", "running")


async def test_a_message_while_it_waits_for_approval_counts_as_approval() -> None:
    """Even "No, stop.": the command is carried out."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.want_approval(c, "rm -r build", summary="Clear the build")
        await rig.send(c, "No, stop.")
        [carried_out] = await rig.events(c, kind__eq="ObservationEvent")
        assert carried_out["observation"]["command"] == "rm -r build"
        assert (c.pending, c.messages[-1]) == ([], "No, stop.")
        assert await rig.words(c) == ("RUNNING", "running")


async def test_a_message_without_run_leaves_it_waiting_for_approval() -> None:
    """Nothing is carried out."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.want_approval(c, "rm -r build", summary="Clear the build")
        await rig.send(c, "No, stop.", run=False)
        assert await rig.events(c, kind__eq="ObservationEvent") == []
        assert await rig.words(c) == ("RUNNING", "waiting_for_confirmation")


async def test_while_a_command_runs_a_message_waits_for_its_end() -> None:
    """The call is answered when the agent takes the message, not before."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.work_on(c, "make test", seconds=13)
        sending = asyncio.create_task(rig.send(c, "second"))
        await rig.until_parked()
        held = (list(c.messages), rig.server.idle)
        await rig.later(13)
        answer = await sending
        assert held == (["first"], True)
        assert (answer.status_code, answer.json(), c.messages) == (200, TAKEN, ["first", "second"])


async def test_a_message_the_server_gave_up_on_is_delivered_all_the_same() -> None:
    """502 after 30 s; the agent takes it when its command ends, 50 s after it was sent, and only then is it seen."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.work_on(c, "make test", seconds=50)
        sending = asyncio.create_task(rig.send(c, "second"))
        await rig.until_parked()
        await rig.later(30)
        answer = await sending
        meanwhile = list(c.messages)
        await rig.later(20)
        [_, taken] = await rig.events(c, kind__eq="MessageEvent")
        assert (answer.status_code, answer.json()) == (502, {"detail": "Failed to reach agent server."})
        assert (meanwhile, c.messages) == (["first"], ["first", "second"])
        assert taken["timestamp"].startswith("2026-11-24T09:00:50")


async def test_a_caller_that_hangs_up_does_not_take_its_message_back() -> None:
    """It is delivered when the command ends."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.work_on(c, "make test", seconds=13)
        sending = asyncio.create_task(rig.send(c, "second"))
        await rig.until_parked()
        sending.cancel()
        await rig.later(13)
        assert c.messages == ["first", "second"]


async def test_what_waited_for_a_command_is_taken_when_the_command_is_cut_off() -> None:
    """And sets the interrupted agent going again."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.work_on(c, "make test", seconds=13)
        sending = asyncio.create_task(rig.send(c, "second"))
        await rig.until_parked()
        await rig.tell(c, "interrupt")
        assert (await sending).status_code == 200
        assert (c.messages, await rig.words(c)) == (["first", "second"], ("RUNNING", "running"))


@pytest.mark.parametrize(
    ("deed", "status", "detail"),
    [
        (
            lambda server, c: server.fall_asleep(c),
            409,
            "Sandbox is PAUSED. Use POST /api/v1/sandboxes/{sandbox}/resume to resume it first.",
        ),
        (lambda server, c: server.lose_sandbox(c), 410, "Conversation is archived. The sandbox no longer exists."),
        (lambda server, c: server.delete_sandbox(c), 404, "Sandbox not found for conversation {id}"),
        (lambda server, c: server.vanish(c), 404, "Conversation {id} not found"),
        (lambda server, c: server.wreck(c), 502, "Agent server error: 404"),
        (lambda _, c: setattr(c, "silent", True), 502, "Failed to reach agent server."),
        (
            lambda server, c: server.set_status(c, sandbox_status="STARTING"),
            503,
            "Sandbox is STARTING. Try again later.",
        ),
        (lambda server, c: server.set_status(c, sandbox_status="ERROR"), 503, "Sandbox is ERROR. Try again later."),
    ],
)
async def test_a_message_that_cannot_be_delivered_is_refused(deed: Deed, status: int, detail: str) -> None:
    """The status tells what to do; the agent never gets it."""
    async with Rig() as rig:
        c = await rig.start("first")
        deed(rig.server, c)
        answer = await rig.send(c, "second")
        assert (answer.status_code, answer.json()["detail"]) == (status, detail.format(id=c.id, sandbox=c.sandbox_id))
        assert c.messages == ["first"]


async def test_a_full_agent_server_keeps_a_message_without_running_it() -> None:
    """Its refusal reaches the sender as a 502, and a later `/run` begins once there is room."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.finish(c, "Done.")
        rig.server.runs_full = True
        answer = await rig.send(c, "second")
        assert (answer.status_code, answer.json()) == (502, {"detail": "Agent server error: 429"})
        assert (c.messages, c.state) == (["first", "second"], "idle")
        assert (await rig.tell(c, "run")).status_code == 429
        rig.server.runs_full = False
        assert (await rig.tell(c, "run")).status_code == 200
        assert c.working


@pytest.mark.parametrize(
    ("identifier", "body", "loc"),
    [
        ("not-an-id", {"content": [{"type": "text", "text": "Hello"}]}, ["path", "conversation_id"]),
        (UNKNOWN, {"content": []}, ["body", "content"]),
        (UNKNOWN, {"role": "user"}, ["body", "content"]),
        (UNKNOWN, {"content": [{"type": "text"}]}, ["body", "content", 0, "TextContent", "text"]),
        (UNKNOWN, {"role": "system", "content": [{"type": "text", "text": "Hello"}]}, ["body", "role"]),
    ],
)
async def test_a_malformed_message_is_refused(identifier: str, body: object, loc: list[object]) -> None:
    """422 that names the place, before anything is looked up."""
    async with Rig() as rig:
        answer = await rig.client.post(f"{APP}/{identifier}/send-message", json=body)
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, loc)


async def test_a_person_may_write_in_openhands_itself() -> None:
    """The event looks like one of ours."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.ask(c, "Which?")
        rig.server.someone_says(c, "That one.")
        [event] = await rig.events(c, kind__eq="MessageEvent", sort_order="TIMESTAMP_DESC", limit=1)
        assert (event["source"], event["llm_message"]["content"][0]["text"]) == ("user", "That one.")
        assert (c.messages, c.execution_status) == (["first", "That one."], "running")


async def test_what_a_person_writes_waits_for_a_command_too() -> None:
    """And nobody can write to a sandbox that sleeps."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.work_on(c, "make test", seconds=13)
        rig.server.someone_says(c, "second")
        meanwhile = list(c.messages)
        await rig.later(13)
        rig.server.fall_asleep(c)
        with pytest.raises(RuntimeError, match="PAUSED"):
            rig.server.someone_says(c, "third")
        assert (meanwhile, c.messages) == (["first"], ["first", "second"])


async def test_a_turn_that_is_over_before_it_was_shown_is_never_shown_as_running() -> None:
    """The status goes from finished to finished."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.status_lag_s = 0.3
        rig.server.finish(c, "First.")
        await rig.send(c, "more")
        rig.server.finish(c, "Second.")
        await rig.later(0.3)
        states = [event["value"] for event in await rig.events(c) if event.get("key") == "execution_status"]
        assert states == ["idle", "running", "finished", "finished"]
