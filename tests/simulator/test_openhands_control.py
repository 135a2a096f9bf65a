"""Stop, resume and approve on the local OpenHands."""

import asyncio

import pytest

from tests.simulator.openhands_rig import Rig

OK = (200, {"success": True})
BUSY = (409, {"detail": "Conversation already running. Wait for completion or pause first."})


async def test_an_interrupt_cuts_off_a_command_at_once() -> None:
    """Paused, and it stays so; the command's result never comes."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 60", seconds=60)
        answer = await rig.tell(c, "interrupt")
        await rig.later(120)
        kinds = await rig.kinds(c, sort_order="TIMESTAMP_DESC", limit=3)
        assert (answer.status_code, answer.json()) == OK
        assert (await rig.words(c), c.interrupts) == (("RUNNING", "paused"), 1)
        assert kinds == ["InterruptEvent", "ConversationStateUpdateEvent", "AgentErrorEvent"]


async def test_a_pause_in_mid_thought_does_not_stop_the_thought() -> None:
    """Paused at once, yet the model's answer counts: it may become finished."""
    async with Rig() as rig:
        c = await rig.start()
        await rig.tell(c, "pause")
        paused = await rig.words(c)
        rig.server.finish(c, "Done all the same.")
        assert paused == ("RUNNING", "paused")
        assert await rig.words(c) == ("RUNNING", "finished")


async def test_a_pause_waits_for_a_command() -> None:
    """It is answered when the command is through, and the agent stays paused."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 18", seconds=18)
        pausing = asyncio.create_task(rig.tell(c, "pause"))
        await rig.until_parked()
        before = await rig.words(c)
        await rig.later(18)
        answer = await pausing
        with pytest.raises(RuntimeError, match="not at work"):
            rig.server.finish(c, "Too late.")
        assert (before, (answer.status_code, answer.json())) == (("RUNNING", "running"), OK)
        assert (await rig.words(c), await rig.kinds(c, kind__eq="ObservationEvent")) == (
            ("RUNNING", "paused"),
            ["ObservationEvent"],
        )


async def test_a_turn_that_ends_while_a_pause_waits_is_not_paused() -> None:
    """200 all the same."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 18", seconds=18)
        pausing = asyncio.create_task(rig.tell(c, "pause"))
        await rig.until_parked()
        rig.server.finish(c, "Done.")
        await rig.later(18)
        assert (await pausing).status_code == 200
        assert await rig.words(c) == ("RUNNING", "finished")


async def test_a_second_pause_has_no_effect() -> None:
    """200, one event."""
    async with Rig() as rig:
        c = await rig.start()
        answers = [await rig.tell(c, "pause") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert await rig.kinds(c, kind__eq="PauseEvent") == ["PauseEvent"]


@pytest.mark.parametrize("call", ["interrupt", "pause"])
async def test_after_the_end_a_stop_has_no_effect(call: str) -> None:
    """200, still finished."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.finish(c, "Done.")
        answer = await rig.tell(c, call)
        assert (answer.status_code, answer.json()) == OK
        assert await rig.words(c) == ("RUNNING", "finished")


@pytest.mark.parametrize("call", ["interrupt", "pause"])
async def test_while_it_waits_for_approval_a_stop_has_no_effect(call: str) -> None:
    """200, still waiting: only a rejection stops it."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.want_approval(c, "rm x", summary="Clear")
        answer = await rig.tell(c, call)
        assert (answer.status_code, answer.json()) == OK
        assert await rig.words(c) == ("RUNNING", "waiting_for_confirmation")


async def test_run_goes_on_after_a_stop_without_a_message() -> None:
    """The agent is told nothing new."""
    async with Rig() as rig:
        c = await rig.start("first")
        await rig.tell(c, "interrupt")
        answer = await rig.tell(c, "run")
        assert (answer.status_code, answer.json(), c.messages) == (*OK, ["first"])
        assert await rig.words(c) == ("RUNNING", "running")


async def test_run_is_refused_while_it_runs_or_waits() -> None:
    """409 both times."""
    async with Rig() as rig:
        c = await rig.start()
        running = await rig.tell(c, "run")
        rig.server.want_approval(c, "rm x", summary="Clear")
        waiting = await rig.tell(c, "run")
        assert [(one.status_code, one.json()) for one in (running, waiting)] == [BUSY, BUSY]


async def test_run_after_the_end_has_no_effect() -> None:
    """200, still finished."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.finish(c, "Done.")
        answer = await rig.tell(c, "run")
        assert (answer.status_code, await rig.words(c)) == (200, ("RUNNING", "finished"))


async def test_run_does_not_get_an_agent_out_of_its_circles() -> None:
    """200, still stuck: a message does."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.get_stuck(c)
        answer = await rig.tell(c, "run")
        stuck = await rig.words(c)
        await rig.send(c, "Try another way.")
        assert (answer.status_code, stuck, await rig.words(c)) == (
            200,
            ("RUNNING", "stuck"),
            ("RUNNING", "running"),
        )


async def test_run_tries_again_after_an_error() -> None:
    """And after a rejection."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.fail(c)
        await rig.tell(c, "run")
        tried = await rig.words(c)
        rig.server.want_approval(c, "rm x", summary="Clear")
        await rig.tell(c, "events/respond_to_confirmation", {"accept": False})
        await rig.tell(c, "run")
        assert [tried, await rig.words(c)] == [("RUNNING", "running")] * 2


@pytest.mark.parametrize(("call", "status"), [("pause", 400), ("interrupt", 400), ("run", 404)])
async def test_an_agent_server_knows_only_its_own_conversation(call: str, status: int) -> None:
    """Another's id at the right address with the right key is unknown there."""
    async with Rig() as rig:
        c, other = await rig.start("one"), await rig.start("two")
        path = c.path.replace(f"conversations/{c.sandbox_id}", f"conversations/{other.sandbox_id}")
        answer = await rig.client.post(f"{path}/{call}", headers={"X-Session-API-Key": c.session_api_key})
        assert answer.status_code == status


# Approval


async def test_an_approval_carries_the_command_out() -> None:
    """And the agent goes on, perhaps to the next question."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.want_approval(c, "rm x", summary="Clear x")
        [asked] = await rig.events(c, kind__eq="ActionEvent")
        answer = await rig.tell(c, "events/respond_to_confirmation", {"accept": True})
        [result] = await rig.events(c, kind__eq="ObservationEvent")
        approved = await rig.words(c)
        rig.server.want_approval(c, "rm y", summary="Clear y")
        assert (asked["summary"], asked["action"]["command"], asked["security_risk"]) == ("Clear x", "rm x", "HIGH")
        assert (answer.status_code, answer.json(), result["action_id"]) == (*OK, asked["id"])
        assert (approved, await rig.words(c)) == (("RUNNING", "running"), ("RUNNING", "waiting_for_confirmation"))


async def test_an_approval_at_the_very_instant_does_nothing() -> None:
    """200, and it still waits; a little later the same call works."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.approval_deaf_s = 1.0
        rig.server.want_approval(c, "rm x", summary="Clear")
        early = await rig.tell(c, "events/respond_to_confirmation", {"accept": True})
        still = await rig.words(c)
        await rig.later(3)
        await rig.tell(c, "events/respond_to_confirmation", {"accept": True})
        assert (early.status_code, early.json()) == OK
        assert (still, await rig.words(c)) == (("RUNNING", "waiting_for_confirmation"), ("RUNNING", "running"))


async def test_a_rejection_leaves_it_idle() -> None:
    """Also at the very instant; only a message gets it on."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.approval_deaf_s = 1.0
        rig.server.want_approval(c, "rm x", summary="Clear")
        await rig.tell(c, "events/respond_to_confirmation", {"accept": False, "reason": "Not on main."})
        [rejected] = await rig.events(c, kind__eq="UserRejectObservation")
        idle = await rig.words(c)
        await rig.send(c, "Then on a branch.")
        assert (rejected["rejection_reason"], idle) == ("Not on main.", ("RUNNING", "idle"))
        assert await rig.words(c) == ("RUNNING", "running")


async def test_one_approval_carries_out_all_that_waits() -> None:
    """Several commands of one answer of the model, in order."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.want_approval(c, "rm x", "rm y", summary="Clear")
        asked = await rig.events(c, kind__eq="ActionEvent")
        await rig.tell(c, "events/respond_to_confirmation", {"accept": True})
        done = await rig.events(c, kind__eq="ObservationEvent")
        assert [event["action"]["command"] for event in asked] == ["rm x", "rm y"]
        assert len({event["llm_response_id"] for event in asked}) == 1
        assert [event["action_id"] for event in done] == [event["id"] for event in asked]


async def test_one_rejection_rejects_all_that_waits() -> None:
    """Idle, and it says so once."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.want_approval(c, "rm x", "rm y", summary="Clear")
        await rig.tell(c, "events/respond_to_confirmation", {"accept": False})
        kinds = await rig.kinds(c, sort_order="TIMESTAMP_DESC", limit=3)
        assert kinds == ["ConversationStateUpdateEvent", "UserRejectObservation", "UserRejectObservation"]
        assert await rig.words(c) == ("RUNNING", "idle")


async def test_to_approve_nothing_is_fine() -> None:
    """200 without effect; a body without a decision is not."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.finish(c, "Done.")
        nothing = await rig.tell(c, "events/respond_to_confirmation", {"accept": True})
        undecided = await rig.tell(c, "events/respond_to_confirmation", {"yes": 1})
        assert (nothing.status_code, await rig.words(c)) == (200, ("RUNNING", "finished"))
        for answer in (undecided, await rig.tell(c, "events/respond_to_confirmation", {"accept": "perhaps"})):
            assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "accept"])


# Sandboxes


async def test_a_sandbox_is_paused_and_resumed_as_often_as_one_likes() -> None:
    """A frozen agent goes on by itself."""
    async with Rig() as rig:
        c = await rig.start()
        path = f"/api/v1/sandboxes/{c.sandbox_id}"
        pauses = [await rig.client.post(f"{path}/pause") for _ in range(2)]
        asleep = await rig.words(c)
        resumes = [await rig.client.post(f"{path}/resume") for _ in range(2)]
        rig.server.finish(c, "Done.")
        assert [(one.status_code, one.json()) for one in (*pauses, *resumes)] == [OK] * 4
        assert (asleep, await rig.words(c)) == (("PAUSED", None), ("RUNNING", "finished"))


async def test_a_command_does_not_end_while_its_sandbox_is_frozen() -> None:
    """It is through as soon as the sandbox wakes."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 10", seconds=10)
        rig.server.fall_asleep(c)
        await rig.later(20)
        frozen = await rig.kinds(c, kind__eq="ObservationEvent")
        await rig.client.post(f"/api/v1/sandboxes/{c.sandbox_id}/resume")
        assert (frozen, await rig.kinds(c, kind__eq="ObservationEvent")) == ([], ["ObservationEvent"])


async def test_an_agent_server_that_restarts_brings_a_cut_off_run_back_as_an_error() -> None:
    """Without a word why; `/run` goes on. What had ended stays as it was."""
    async with Rig() as rig:
        rig.server.restarts_on_resume = True
        c, over = await rig.start("one"), await rig.start("two")
        rig.server.work_on(c, "sleep 10", seconds=10)
        rig.server.finish(over, "Done.")
        for one in (c, over):
            await rig.client.post(f"/api/v1/sandboxes/{one.sandbox_id}/pause")
            await rig.client.post(f"/api/v1/sandboxes/{one.sandbox_id}/resume")
        words = [await rig.words(one) for one in (c, over)]
        kinds = await rig.kinds(c, sort_order="TIMESTAMP_DESC", limit=2)
        await rig.tell(c, "run")
        await rig.later(10)
        assert words == [("RUNNING", "error"), ("RUNNING", "finished")]
        assert kinds == ["ConversationStateUpdateEvent", "AgentErrorEvent"]
        assert (await rig.words(c), await rig.kinds(c, kind__eq="ObservationEvent")) == (("RUNNING", "running"), [])


async def test_a_dead_sandbox_is_resumed_in_words_only() -> None:
    """200, still MISSING; a deleted one is 404."""
    async with Rig() as rig:
        c = await rig.start()
        path = f"/api/v1/sandboxes/{c.sandbox_id}"
        rig.server.lose_sandbox(c)
        dead = await rig.client.post(f"{path}/resume")
        words = await rig.words(c)
        rig.server.delete_sandbox(c)
        deleted = await rig.client.post(f"{path}/resume")
        unknown = await rig.client.post("/api/v1/sandboxes/no-such-sandbox/pause")
        assert ((dead.status_code, dead.json()), words) == (OK, ("MISSING", None))
        assert [(one.status_code, one.json()) for one in (deleted, unknown)] == [(404, {"detail": "Not Found"})] * 2


async def test_sandboxes_are_listed() -> None:
    """With their status; address and key only while they run."""
    async with Rig() as rig:
        awake, asleep = await rig.start("one"), await rig.start("two")
        rig.server.fall_asleep(asleep)
        ids = [awake.sandbox_id, asleep.sandbox_id, "no-such-sandbox"]
        by_id = (await rig.client.get("/api/v1/sandboxes", params={"id": ids})).json()
        listed = (await rig.client.get("/api/v1/sandboxes/search")).json()["items"]
        assert [one and (one["status"], one["session_api_key"]) for one in by_id] == [
            ("RUNNING", awake.session_api_key),
            ("PAUSED", None),
            None,
        ]
        assert {one["id"] for one in listed} == set(ids[:2])


async def test_what_befalls_a_shared_sandbox_befalls_all_in_it() -> None:
    """One id, one key and one place for all of them, and each its own conversation."""
    async with Rig(shared_sandbox=True, limit=1) as rig:
        one, two = await rig.start("one"), await rig.start("two")
        path = f"/api/v1/sandboxes/{one.sandbox_id}"
        listed = (await rig.client.get("/api/v1/sandboxes/search")).json()["items"]
        await rig.client.post(f"{path}/pause")
        asleep = [await rig.words(c) for c in (one, two)]
        await rig.client.post(f"{path}/resume")
        await rig.tell(one, "interrupt")
        awake = [await rig.words(c) for c in (one, two)]
        await rig.client.delete(f"/api/v1/app-conversations/{one.id}")
        rig.server.delete_sandbox(two)
        assert (one.sandbox_id, one.session_api_key) == (two.sandbox_id, two.session_api_key)
        assert [one["id"] for one in listed] == [two.sandbox_id]
        assert asleep == [("PAUSED", None)] * 2
        assert awake == [("RUNNING", "paused"), ("RUNNING", "running")]
        assert (await rig.client.post(f"{path}/resume")).status_code == 404
