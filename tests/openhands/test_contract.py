"""What the protocol promises, held by the client of every kind of server against the local one, over the real wire."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from bot.clock import WallClock
from bot.core import errors
from bot.core.model import ConversationId, Finish, Observation, Phase, Run, RunState, Said
from bot.openhands import CanCount, CanFindRepository, CanListBranches, CanListRepositories
from bot.openhands.connect import Client, connect
from bot.openhands.http import Http
from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.openhands.bare import BareOpenHands
from tests.openhands.recorded import a_run
from tests.openhands.test_local import PATIENCE

Server = LocalOpenHands | BareOpenHands


def hosted(**more: Any) -> LocalOpenHands:
    """Make an Agent Server with a stored token, by which it lists repositories."""
    local = LocalOpenHands(key="key", api="agent", repositories=["org/repo"], **more)
    local.machine.secrets["GITHUB_TOKEN"] = "hidden"
    return local


KINDS: dict[str, Callable[[], Server]] = {
    "v1": lambda: LocalOpenHands(key="key", repositories=["org/repo"]),
    "v0": lambda: LocalOpenHands(key="key", api="v0"),
    "guide": lambda: BareOpenHands(key="key"),
    "agent": hosted,
    "agent 1.49": lambda: hosted(version="1.49.1"),
}
TALKS = [kind for kind in KINDS if kind != "guide"]
"""Kinds that have more than a start and a look."""


@dataclass
class Bench:
    """A server with its client."""

    server: Server
    openhands: Client
    http: Http

    @property
    def local(self) -> LocalOpenHands:
        assert isinstance(self.server, LocalOpenHands)
        return self.server

    def talk(self) -> Conversation:
        """Return the only conversation."""
        [found] = self.local.conversations.values()
        return found

    def new(self) -> Run:
        return a_run(str(uuid4()), state=RunState.STARTING)

    async def starts(self, run: Run) -> Run:
        """Start a run, and wait until it works."""
        it = await self.openhands.start(run, "fix it", "Asked by alice.")
        run = replace(run, conversation_id=it.conversation_id, start_task_id=it.start_task_id)
        for _ in range(10):
            if isinstance(self.server, LocalOpenHands):
                await self.server.tick()
            if (await self.sees(run)).phase is Phase.WORKING:
                return replace(run, state=RunState.WORKING)
        raise AssertionError("it does not get to work")

    async def sees(self, run: Run) -> Observation:
        return await self.openhands.read(run, (await self.openhands.observe([run]))[run.id])

    def ends(self) -> None:
        """End the turn of the only run, with words where the server has any."""
        if isinstance(self.server, BareOpenHands):
            [run] = self.server.runs
            self.server.stop_run(run)
        else:
            self.server.finish(self.talk(), "Done.")


@asynccontextmanager
async def bench(kind: str) -> AsyncIterator[Bench]:
    server = KINDS[kind]()
    await server.start()
    http = Http(server.base_url, "key", clock=WallClock(), patience=PATIENCE)
    try:
        yield Bench(server, await connect(http, "auto"), http)
    finally:
        await http.aclose()
        await server.stop()
    if isinstance(server, LocalOpenHands):
        assert server.violations == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_starts_works_and_ends(kind: str) -> None:
    """Words where there are any; a second look says the same."""
    async with bench(kind) as at:
        run = await at.starts(at.new())
        at.ends()
        first, second = await at.sees(run), await at.sees(run)
    assert (first.phase, first.last) == (Phase.ENDED, Finish("" if kind == "guide" else "Done."))
    assert replace(first, asked_at=second.asked_at) == second


@pytest.mark.parametrize("kind", KINDS)
async def test_many_are_seen_each_as_what_it_is(kind: str) -> None:
    """One that is not there hides none that is."""
    async with bench(kind) as at:
        run = await at.starts(at.new())
        gone = a_run(uuid4().hex if kind != "guide" else "abc1234", start_task_id="it was there")
        seen = await at.openhands.observe([gone, run])
    assert (seen[run.id].phase, seen[gone.id].phase) == (Phase.WORKING, Phase.GONE)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_wrong_key_is_told_apart(kind: str) -> None:
    """At the probe, and at a start."""
    async with bench(kind) as at:
        wrong = Http(at.server.base_url, "wrong", clock=WallClock(), patience=PATIENCE)
        with pytest.raises(errors.Unauthorised):
            await connect(wrong, "auto")
        await wrong.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_is_not_there_was_asked_nothing(kind: str) -> None:
    """So everything may be tried again."""
    async with bench(kind) as at:
        run = await at.starts(at.new())
        await at.server.stop()
        with pytest.raises(errors.Unavailable):
            await at.openhands.observe([run])
        with pytest.raises(errors.Unavailable):
            await at.openhands.start(at.new(), "fix it", "")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_attempt_is_marked_just_before_it_goes_out(kind: str) -> None:
    """If the mark fails, nothing is sent."""

    class CalledOffError(Exception):
        pass

    async def call_off() -> None:
        raise CalledOffError

    async with bench(kind) as at:
        with pytest.raises(CalledOffError):
            await at.openhands.start(at.new(), "fix it", "", before=call_off)
        there = at.server.runs if isinstance(at.server, BareOpenHands) else at.server.conversations
        assert len(there) == 0


@pytest.mark.parametrize("kind", TALKS)
async def test_a_start_whose_answer_was_lost_is_found(kind: str) -> None:
    """By whatever the server shows of it; it is there once."""
    async with bench(kind) as at:
        run, since = at.new(), WallClock().now()
        at.local.break_next("start", drop=True, after=True, times=2)
        with pytest.raises(errors.Unsure):
            await at.openhands.start(run, "fix it", "")
        await at.local.tick()
        message = at.talk().messages[0]
        found = await at.openhands.find_start(run, message, since)
        assert found is not None
        assert at.talk().id.replace("-", "") == found.conversation_id.replace("-", "")


@pytest.mark.parametrize("kind", TALKS)
async def test_a_follow_up_is_heard_and_begins_a_new_turn(kind: str) -> None:
    """The words before it are old news from then on."""
    async with bench(kind) as at:
        run = await at.starts(at.new())
        at.ends()
        await at.sees(run)
        anchor = await at.openhands.last_event(run)
        await at.openhands.send(run, "and the tests")
        run = replace(run, turn=2, turn_after=anchor)
        assert await at.openhands.heard(run, "and the tests", anchor)
        assert not await at.openhands.heard(run, "something else", anchor)
        assert (await at.sees(run)).last is None
        at.local.ask(at.talk(), "Which tests?")
        assert (await at.sees(run)).last == Said("Which tests?")


@pytest.mark.parametrize("kind", TALKS)
async def test_a_stop_stops_and_may_be_repeated(kind: str) -> None:
    """And what was stopped goes on."""
    async with bench(kind) as at:
        run = await at.starts(at.new())
        for _ in range(2):
            await at.openhands.stop(run)
        assert (await at.sees(run)).phase in {Phase.PAUSED, Phase.ASLEEP}
        for _ in range(3):
            try:
                await at.openhands.go_on(run)
            except errors.Asleep:
                await at.local.tick()
        assert (await at.sees(run)).phase is Phase.WORKING


@pytest.mark.parametrize("kind", TALKS)
async def test_what_is_not_there_is_not_found(kind: str) -> None:
    """Whatever is wanted of it."""
    async with bench(kind) as at:
        run = a_run(uuid4().hex if kind == "v0" else str(uuid4()))
        with pytest.raises(errors.NotFound):
            await at.openhands.send(run, "hello")
        with pytest.raises(errors.NotFound):
            await at.openhands.stop(run)


@pytest.mark.parametrize("kind", TALKS)
async def test_who_runs_is_counted(kind: str) -> None:
    """None before a start, one while it runs."""
    async with bench(kind) as at:
        assert isinstance(at.openhands, CanCount)
        before = await at.openhands.slots()
        await at.starts(at.new())
        after = await at.openhands.slots()
    assert before is not None
    assert after is not None
    assert (before.running, after.running) == (0, 1)


@pytest.mark.parametrize("kind", TALKS)
async def test_what_can_be_known_before_a_start_is_known_there_or_nowhere(kind: str) -> None:
    """A repository, its branches, a name among those there are."""
    async with bench(kind) as at:
        known: list[object] = []
        if isinstance(at.openhands, CanFindRepository):
            known.append(await at.openhands.lists("org/repo"))
        if isinstance(at.openhands, CanListBranches):
            known.append("main" in (await at.openhands.branches("org/repo", "main") or ()))
        if isinstance(at.openhands, CanListRepositories):
            known.append("org/repo" in (await at.openhands.repositories()).names)
    assert known == ([] if kind == "v0" else [True, True, True])


@pytest.mark.parametrize("kind", KINDS)
async def test_its_page_names_the_conversation(kind: str) -> None:
    """Below the address that was set."""
    async with bench(kind) as at:
        assert at.openhands.link(ConversationId("abc")) == f"{at.server.base_url}/conversations/abc"
