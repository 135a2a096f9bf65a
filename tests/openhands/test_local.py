"""The client against the local OpenHands, over the real wire: both must mean the same by the same words."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from bot.clock import WallClock
from bot.core import errors
from bot.core.model import (
    ApprovalRequest,
    DecisionOutcome,
    Failed,
    Finish,
    Observation,
    Phase,
    Reason,
    Run,
    RunState,
    Said,
    Slots,
)
from bot.core.pacing import Patience
from bot.openhands.connect import Client, connect
from bot.openhands.http import Http
from bot.simulator.openhands import LocalOpenHands
from bot.simulator.openhands.bare import BareOpenHands
from tests.openhands.recorded import a_run

PATIENCE = Patience(openhands_calls_per_s=1000, openhands_timeout_s=2.0, send_timeout_s=2.0)


@asynccontextmanager
async def connected(server: LocalOpenHands | BareOpenHands, key: str = "") -> AsyncIterator[Client]:
    """Start the server and find out what it speaks."""
    await server.start()
    http = Http(server.base_url, key, clock=WallClock(), patience=PATIENCE)
    try:
        yield await connect(http, "auto")
    finally:
        await http.aclose()
        await server.stop()


async def see(openhands: Client, run: Run) -> Observation:
    """Look and read, and leave out what differs from time to time."""
    looked = await openhands.observe([run])
    return await openhands.read(run, looked[run.id])


async def ready(local: LocalOpenHands, openhands: Client, **changes: Any) -> Run:
    """Start a run and wait until it works."""
    run = a_run(None if openhands.api == "v0" else str(uuid4()), state=RunState.STARTING, **changes)
    started = await openhands.start(run, "fix it", "")
    run = replace(run, conversation_id=started.conversation_id, start_task_id=started.start_task_id)
    for _ in range(10):
        await local.tick()
        if (await openhands.observe([run]))[run.id].phase is Phase.WORKING:
            return replace(run, state=RunState.WORKING)
    raise AssertionError("it does not get to work")


async def test_a_v1_run_is_followed_from_start_to_end() -> None:
    """Start, progress, end, follow-up, second end."""
    local = LocalOpenHands()
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        local.progress(conversation, "Reading the code", command="ls")
        assert (await see(openhands, run)).progress == "Reading the code"
        local.finish(conversation, "Done, see https://github.com/org/repo/pull/7.", cost=0.25)
        first = await see(openhands, run)
        assert (first.phase, first.last, first.cost, first.pull_requests) == (
            Phase.ENDED,
            Finish("Done, see https://github.com/org/repo/pull/7."),
            0.25,
            ("https://github.com/org/repo/pull/7",),
        )
        anchor = await openhands.last_event(run)
        await openhands.send(run, "and the tests")
        run = replace(run, turn=2, turn_after=anchor)
        assert (await see(openhands, run)).last is None
        assert await openhands.heard(run, "and the tests", anchor)
        assert not await openhands.heard(run, "something else", anchor)
        local.ask(conversation, "Which tests?")
        assert (await see(openhands, run)).last == Said("Which tests?")
        assert conversation.messages == ["fix it", "and the tests"]
    assert local.violations == []


async def test_v1_failures_have_their_reason() -> None:
    """The model's key, going in circles, an approval."""
    local = LocalOpenHands()
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        local.fail(conversation, "LLMAuthenticationError", "litellm.AuthenticationError: Provider - Wrong key.")
        assert (await see(openhands, run)).last == Failed(Reason.MODEL_KEY, "Wrong key.")
        await openhands.send(run, "try again")
        local.get_stuck(conversation)
        assert (await see(openhands, run)).last == Failed(Reason.STUCK)
        await openhands.send(run, "and again")
        local.want_approval(conversation, "rm -rf build", summary="Delete the build")
        wants = await see(openhands, run)
        assert wants.phase is Phase.WANTS_APPROVAL
        assert isinstance(wants.last, ApprovalRequest)
        assert (wants.last.command, wants.last.risk) == ("rm -rf build", "HIGH")
    assert local.violations == []


async def test_a_v1_run_is_stopped_put_to_sleep_and_woken() -> None:
    """An interrupt; then the sandbox."""
    local = LocalOpenHands()
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        await openhands.stop(run)
        assert (conversation.interrupts, (await see(openhands, run)).phase) == (1, Phase.PAUSED)
        local.fall_asleep(conversation)
        assert (await see(openhands, run)).phase is Phase.ASLEEP
        with pytest.raises(errors.Asleep):
            await openhands.send(run, "wake up")
        await openhands.resume(run)
        await openhands.send(run, "wake up")
        assert conversation.messages == ["fix it", "wake up"]
        local.vanish(conversation)
        assert (await see(openhands, run)).phase is Phase.GONE
        with pytest.raises(errors.NotFound):
            await openhands.stop(run)
    assert local.violations == []


async def test_a_v1_start_whose_answer_was_lost_is_found() -> None:
    """Not by asking for it: it is listed by the conversation's id while it is being made."""
    local = LocalOpenHands(start_seconds=30)
    async with connected(local) as openhands:
        run = a_run(str(uuid4()), state=RunState.STARTING)
        since = WallClock().now()
        assert await openhands.find_start(run, "fix it", since) is None
        local.break_next("start", drop=True, after=True)
        with pytest.raises(errors.Unsure):
            await openhands.start(run, "fix it", "")
        found = await openhands.find_start(run, "fix it", since)
        assert found is not None
        looked = await openhands.observe([replace(run, start_task_id=found.start_task_id)])
        assert looked[run.id].phase is Phase.STARTING
    assert local.violations == []


async def test_a_v1_repository_that_cannot_be_opened_fails_the_start() -> None:
    """Its task ends in an error without a word."""
    local = LocalOpenHands(repositories=["org/other"])
    async with connected(local) as openhands:
        run = a_run(str(uuid4()), state=RunState.STARTING, repository="org/none")
        started = await openhands.start(run, "fix it", "")
        await local.tick()
        run = replace(run, start_task_id=started.start_task_id)
        seen = await see(openhands, run)
        assert (seen.phase, seen.last) == (Phase.START_FAILED, Failed(Reason.REPOSITORY))


@pytest.mark.parametrize("api", ["v1", "v0", "agent"])
async def test_a_full_account_is_told(api: Any) -> None:
    """At a start, whichever it speaks."""
    local = LocalOpenHands(api=api, limit=1)
    async with connected(local) as openhands:
        await ready(local, openhands)
        with pytest.raises(errors.AtCapacity):
            await openhands.start(a_run(str(uuid4())), "another", "")


@pytest.mark.parametrize("api", ["v1", "v0"])
async def test_where_the_oldest_is_put_to_sleep_for_another_that_is_seen(api: Any) -> None:
    """Silently, when one more starts and when one wakes up."""
    local = LocalOpenHands(api=api, limit=1, limit_answers="pauses-oldest")
    async with connected(local) as openhands:
        first = await ready(local, openhands)
        second = a_run(str(uuid4()) if api == "v1" else None, state=RunState.STARTING)
        started = await openhands.start(second, "another", "")
        second = replace(second, conversation_id=started.conversation_id, start_task_id=started.start_task_id)
        await local.tick()
        phases = [(await see(openhands, run)).phase for run in (first, second)]
        await openhands.resume(first)
        await local.tick()
        slots = await openhands.slots()
        assert phases == [Phase.ASLEEP, Phase.WORKING]
        assert ((await see(openhands, second)).phase, slots) == (Phase.ASLEEP, Slots(running=1))
    assert local.violations == []


@pytest.mark.parametrize("api", ["v1", "v0"])
async def test_a_full_account_wakes_nobody(api: Any) -> None:
    """Where the server refuses."""
    local = LocalOpenHands(api=api, limit=1)
    async with connected(local) as openhands:
        sleeper = await ready(local, openhands)
        local.fall_asleep(local.find("fix it"))
        await openhands.start(a_run(str(uuid4()) if api == "v1" else None), "another", "")
        await local.tick()
        with pytest.raises(errors.AtCapacity):
            await openhands.resume(sleeper)
        with pytest.raises(errors.AtCapacity):
            await openhands.go_on(sleeper)
    assert local.violations == []


@pytest.mark.parametrize("api", ["v1", "v0", "agent"])
async def test_what_waits_for_approval_is_decided(api: Any) -> None:
    """Approved, then rejected; each decision only for what it names, and none for what is over."""
    local = LocalOpenHands(api=api)
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        local.want_approval(conversation, "rm a", summary="Delete a")
        first = (await see(openhands, run)).last
        assert isinstance(first, ApprovalRequest)
        approved = await openhands.decide(run, first.action_id, accept=True, reason="")
        over = await openhands.decide(run, first.action_id, accept=True, reason="")
        local.want_approval(conversation, "rm b", summary="Delete b")
        second = (await see(openhands, run)).last
        assert isinstance(second, ApprovalRequest)
        other = await openhands.decide(run, first.action_id, accept=True, reason="")
        rejected = await openhands.decide(run, second.action_id, accept=False, reason="No.")
        assert (first.command, second.command) == ("rm a", "rm b")
        assert [approved, over, other, rejected] == [
            DecisionOutcome.POSTED,
            DecisionOutcome.OVER,
            DecisionOutcome.OTHER,
            DecisionOutcome.POSTED,
        ]
        assert conversation.pending == []
        await openhands.go_on(run)
        assert (await see(openhands, run)).phase is Phase.WORKING
    assert local.violations == []


async def test_several_actions_are_decided_together() -> None:
    """Under a name that is not that of the last one alone."""
    local = LocalOpenHands()
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        local.progress(conversation, "Reading the code", command="ls")
        local.want_approval(conversation, "rm a", "rm b", summary="Delete")
        wants = (await see(openhands, run)).last
        assert isinstance(wants, ApprovalRequest)
        assert (wants.command, wants.action_id.endswith("+1")) == ("rm a\nrm b", True)
        alone = wants.action_id.removesuffix("+1")
        assert await openhands.decide(run, alone, accept=True, reason="") is DecisionOutcome.OTHER
        assert await openhands.decide(run, wants.action_id, accept=True, reason="") is DecisionOutcome.POSTED
        assert (await see(openhands, run)).phase is Phase.WORKING
    assert local.violations == []


async def test_a_v1_run_goes_on_from_wherever_it_is() -> None:
    """Paused, failed, in circles, asleep, asleep with a server that restarts, and where nothing is to be done."""
    local = LocalOpenHands()
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        await openhands.stop(run)
        await openhands.go_on(run)
        local.fail(conversation)
        await openhands.go_on(run)
        local.get_stuck(conversation)
        await openhands.go_on(run)
        for restarts in (False, True):
            local.restarts_on_resume = restarts
            local.fall_asleep(conversation)
            with pytest.raises(errors.Asleep):
                await openhands.go_on(run)
            await openhands.go_on(run)
        assert (await see(openhands, run)).phase is Phase.WORKING
        assert conversation.messages == ["fix it", "Please go on."]
        assert await openhands.slots() == Slots(running=1)
    assert local.violations == []


async def test_a_v0_run_goes_on_from_wherever_it_is() -> None:
    """Paused, failed, stopped."""
    local = LocalOpenHands(api="v0")
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        local.someone_pauses(conversation)
        assert (await see(openhands, run)).phase is Phase.PAUSED
        await openhands.go_on(run)
        assert (await see(openhands, run)).phase is Phase.WORKING
        local.fail(conversation)
        await openhands.go_on(run)
        await openhands.stop(run)
        with pytest.raises(errors.Asleep):
            await openhands.go_on(run)
        await local.tick()
        await openhands.go_on(run)
        assert (await see(openhands, run)).phase is Phase.WORKING
        assert conversation.messages == ["fix it", "Please go on.", "Please go on."]
        assert await openhands.slots() == Slots(running=1)
    assert local.violations == []


@pytest.mark.parametrize("header", ["bearer", "session"])
@pytest.mark.parametrize("api", ["v1", "v0", "agent"])
async def test_either_header_for_the_key_works(api: Any, header: Any) -> None:
    """And no key does not."""
    local = LocalOpenHands(api=api, key="right", key_header=header)
    async with connected(local, "right") as openhands:
        assert openhands.api == api
        wrong = Http(local.base_url, "wrong", clock=WallClock(), patience=PATIENCE)
        with pytest.raises(errors.Unauthorised):
            await connect(wrong, "auto")
        await wrong.aclose()


async def test_a_server_on_this_machine_is_reached_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's proxy could not reach it."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with connected(LocalOpenHands()) as openhands:
        assert await openhands.observe([a_run(str(uuid4()))]) != {}


async def test_a_v0_run_is_followed_from_start_to_end() -> None:
    """By its events; a follow-up, a stop and waking it."""
    local = LocalOpenHands(api="v0")
    async with connected(local) as openhands:
        run = await ready(local, openhands)
        conversation = local.find("fix it")
        local.finish(conversation, "Done.")
        assert (await see(openhands, run)).last == Finish("Done.")
        anchor = await openhands.last_event(run)
        await openhands.send(run, "and the tests")
        run = replace(run, turn=2, turn_after=anchor)
        assert await openhands.heard(run, "and the tests", anchor)
        assert (await see(openhands, run)).last is None
        local.ask(conversation, "Which tests?")
        assert (await see(openhands, run)).last == Said("Which tests?")
        await openhands.send(run, "the new ones")
        local.fail(conversation, "STATUS$ERROR_LLM_AUTHENTICATION", "STATUS$ERROR_LLM_AUTHENTICATION")
        assert (await see(openhands, run)).last == Failed(Reason.MODEL_KEY)
        await openhands.send(run, "go on")
        await openhands.stop(run)
        await local.tick()
        assert (await see(openhands, run)).phase is Phase.ASLEEP
        with pytest.raises(errors.Asleep):
            await openhands.send(run, "hello?")
        await openhands.resume(run)
        await local.tick()
        await openhands.send(run, "hello?")
        assert conversation.messages[-1] == "hello?"
    assert local.violations == []


async def test_a_v0_start_whose_answer_was_lost_is_found_once() -> None:
    """By its first message; a second one like it can't be told apart."""
    local = LocalOpenHands(api="v0")
    async with connected(local) as openhands:
        run, since = a_run(None), WallClock().now()
        local.break_next("start", drop=True, after=True)
        with pytest.raises(errors.Unsure):
            await openhands.start(run, "fix it", "")
        await local.tick()
        found = await openhands.find_start(run, "fix it", since)
        assert found is not None
        assert [found.conversation_id] == list(local.conversations)
        assert await openhands.find_start(run, "something else", since) is None
        with pytest.raises(errors.CannotTell):
            await openhands.find_start(run, "fix it", since + timedelta(minutes=1))
        await openhands.start(run, "fix it", "")
        await local.tick()
        with pytest.raises(errors.CannotTell):
            await openhands.find_start(run, "fix it", since)
    assert local.violations == []


async def test_a_server_with_the_guides_two_calls_tells_only_whether_it_runs() -> None:
    """No events, no messages, no stop, no list."""
    bare = BareOpenHands()
    async with connected(bare, "key") as openhands:
        run = a_run(None)
        started = await openhands.start(replace(run, repository="org/repo"), "fix it", "")
        run = replace(run, conversation_id=started.conversation_id)
        working = await see(openhands, run)
        bare.stop_run(started.conversation_id)
        ended = await see(openhands, run)
        assert (working.phase, working.last, working.blind) == (Phase.WORKING, None, True)
        assert (ended.phase, ended.last, ended.blind) == (Phase.ENDED, Finish(""), True)
        assert await openhands.last_event(run) is None
        with pytest.raises(errors.CannotTell):
            await openhands.heard(run, "hello", None)
        with pytest.raises(errors.CannotTell):
            await openhands.find_start(run, "fix it", WallClock().now())
