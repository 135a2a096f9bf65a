"""Runs, their threads and their follow-ups as rows; changes by compare-and-swap."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from bot.core.errors import StoreOvertaken
from bot.core.model import (
    Action,
    Api,
    ChannelId,
    ConversationId,
    File,
    FollowUp,
    FollowUpState,
    MessageTs,
    Obstacle,
    Origin,
    Phase,
    Reason,
    Run,
    RunId,
    RunState,
    TeamId,
    UserId,
    Waiting,
)
from bot.store import runs
from bot.store.database import Database
from bot.store.runs import Behind
from tests.changes import changed, flat
from tests.store.bench import ALICE, BOB, DEV, DIRECT, NOW, TEAM, a_run, at

FULL: dict[str, Any] = {
    "id": RunId("full"),
    "team": TeamId("T9"),
    "channel": ChannelId("C9"),
    "thread_ts": MessageTs("1.000001"),
    "request_ts": MessageTs("1.000002"),
    "ts": MessageTs("1.000003"),
    "private": True,
    "mentions_only": True,
    "requester": UserId("U9"),
    "task": "täsk \U0001f600 '; DROP TABLE runs; --",
    "context": "U1: before",
    "files": (File(id="F1", name="ä.png", url="https://files.slack.com/f1", size=7), File(id="F2", name="")),
    "repository": "org/repo",
    "origin": Origin.LINKED,
    "candidates": ("org/a", "org/b"),
    "branch": "dev",
    "model": "a-model",
    "state": RunState.WAITING,
    "waiting": Waiting.APPROVAL,
    "action": "action-1",
    "reason": Reason.MODEL_LIMIT,
    "detail": "rm -rf build",
    "answer": "# Answer",
    "pull_requests": ("https://github.com/org/repo/pull/1",),
    "cost": 0.1 + 0.2,
    "cost_before": 0.05,
    "progress": "Reading README",
    "blind": True,
    "api": Api.V1,
    "conversation_id": ConversationId("c-1"),
    "start_task_id": "s-1",
    "attempt": 3,
    "turn": 4,
    "turn_at": at(1.000001),
    "turn_by": (UserId("U9"),),
    "worked_s": 12.5,
    "first_answer": "Fixed one link.",
    "told_team": "done",
    "turn_after": "e-1",
    "ending": "event-8",
    "phase": Phase.WANTS_APPROVAL,
    "observed_at": at(2),
    "ambiguous_since": at(3),
    "stop_by": UserId("U8"),
    "stop_at": at(4),
    "resume_by": UserId("U7"),
    "approved": True,
    "decided_by": UserId("U6"),
    "first_approval": UserId("U7"),
    "last_action": Action.RETRY,
    "last_action_by": UserId("U5"),
    "doubtful_follow_up": "follow-up-1",
    "doubtful_text": "and the docs",
    "queued_at": at(4.5),
    "admitted_at": at(4.6),
    "queue_position": 3,
    "starts_after": at(4.75),
    "unreachable_since": at(5),
    "key_refused": True,
    "call_waits_since": at(5.5),
    "call_waits_why": Obstacle.MOVED,
    "version": 7,
    "card_version": 6,
    "edited_at": at(6),
    "posts": 2,
    "gone": True,
    "created_at": at(7),
    "started_at": at(8),
    "ended_at": at(9),
    "asked_at": at(9.5),
    "news_at": at(10),
    "heard_at": at(10.25),
    "silence_told_at": at(10.5),
    "next_poll_at": at(11),
}
"""A value for every field, none of them its default."""


async def add(database: Database, *several: Run) -> None:
    async with database.transaction() as tx:
        for run in several:
            await runs.add(tx, run)


async def get(database: Database, run: Run) -> Run:
    async with database.reading() as tx:
        return await runs.get(tx, run.id)


async def save(database: Database, before: Run, after: Run) -> Run:
    async with database.transaction() as tx:
        return await runs.save(tx, before, after)


# --- round trips ------------------------------------------------------------------------------------------------


def test_the_full_run_leaves_nothing_at_its_default() -> None:
    """A field added to `Run` needs a value here, or its way through the table is not looked at."""
    bare = flat(a_run())
    assert bare.keys() == FULL.keys()
    assert [name for name, value in FULL.items() if bare[name] == value] == []


@pytest.mark.parametrize("run", [changed(a_run(), **FULL), a_run()], ids=["full", "bare"])
async def test_a_run_comes_back_as_it_was(database: Database, run: Run) -> None:
    """Every field survives, with its type: enums, tuples, times to the microsecond, and what is None."""
    await add(database, run)
    found = await get(database, run)
    assert found == run
    assert [type(value) for value in flat(found).values()] == [type(value) for value in flat(run).values()]


async def test_times_come_back_in_utc(database: Database) -> None:
    """Whatever zone a time was in, it is the same moment, and compares as text in the table."""
    tokyo = datetime(2026, 3, 2, 18, 0, tzinfo=timezone(timedelta(hours=9)))
    await add(database, a_run(next_poll_at=tokyo))
    async with database.reading() as tx:
        due = [await runs.due(tx, at(seconds), 10) for seconds in (-1, 0)]
    found = await get(database, a_run())
    assert (found.watch.next_poll_at, found.watch.next_poll_at and found.watch.next_poll_at.tzname()) == (NOW, "UTC")
    assert [len(some) for some in due] == [0, 1]


# --- compare-and-swap -------------------------------------------------------------------------------------------

SHOWN = {
    "team",
    "channel",
    "private",
    "requester",
    "task",
    "context",
    "repository",
    "origin",
    "candidates",
    "branch",
    "model",
    "state",
    "waiting",
    "action",
    "reason",
    "detail",
    "answer",
    "pull_requests",
    "cost",
    "progress",
    "first_answer",
    "blind",
    "conversation_id",
    "attempt",
    "stop_by",
    "resume_by",
    "approved",
    "decided_by",
    "first_approval",
    "last_action_by",
    "doubtful_follow_up",
    "doubtful_text",
    "unreachable_since",
    "key_refused",
    "call_waits_since",
    "call_waits_why",
    "starts_after",
    "created_at",
    "started_at",
    "ended_at",
    "asked_at",
    "silence_told_at",
    "mentions_only",
}
"""A change of one of these is a debt to edit the card; of any other it is not."""


@pytest.mark.parametrize("name", [name for name in FULL if name not in ("id", "version", "card_version")])
async def test_the_version_counts_what_the_card_shows(database: Database, name: str) -> None:
    """Polling's own bookkeeping does not make the card old; what people see does."""
    before = a_run()
    after = changed(before, **{name: FULL[name]})
    await add(database, before)
    saved = await save(database, before, after)
    expected = replace(after, version=2 if name in SHOWN else 1)
    assert (saved, await get(database, before)) == (expected, expected)


async def test_several_changes_are_one_version(database: Database) -> None:
    """The version is counted from what is stored, whatever the caller last saw of it."""
    before = a_run()
    await add(database, before)
    await save(database, before, replace(before, progress="Reading"))
    saved = await save(database, before, replace(before, answer="Done.", cost=0.5, turn_after="e-1"))
    assert saved == replace(before, progress="Reading", answer="Done.", cost=0.5, turn_after="e-1", version=3)


async def test_saving_no_change_changes_nothing(database: Database) -> None:
    """Not even for a run that moved on meanwhile."""
    before = a_run()
    await add(database, replace(before, state=RunState.DONE))
    saved = await save(database, before, replace(before))
    assert (saved, (await get(database, before)).state) == (before, RunState.DONE)


@pytest.mark.parametrize(
    "first", [{"state": RunState.STOPPED}, {"turn": 2}, {"attempt": 2}], ids=["state", "turn", "attempt"]
)
async def test_who_comes_second_loses(database: Database, first: dict[str, Any]) -> None:
    """A decision on a state, turn or attempt that is no more is not written: its maker looks again."""
    before = a_run()
    await add(database, before)
    won = await save(database, before, replace(before, **first))
    with pytest.raises(StoreOvertaken):
        await save(database, before, replace(before, state=RunState.DONE, answer="Too late."))
    assert await get(database, before) == won


async def test_bookkeeping_of_two_does_not_collide(database: Database) -> None:
    """Only the columns that changed are written: what another wrote beside it stays."""
    before = a_run()
    await add(database, before)
    await save(database, before, replace(before, watch=replace(before.watch, next_poll_at=at(5))))
    await save(database, before, replace(before, watch=replace(before.watch, observed_at=at(4))))
    assert await get(database, before) == replace(
        before, watch=replace(before.watch, next_poll_at=at(5), observed_at=at(4))
    )


# --- cards that are behind --------------------------------------------------------------------------------------


def carded(name: str, **about: Any) -> Run:
    """Return a run whose card shows version 1 and was edited at the start."""
    return a_run(name, **about, ts=MessageTs("1.000001"), edited_at=NOW, card_version=1)


FINAL = (RunState.WAITING, RunState.FAILED)


async def behind(database: Database, busy: tuple[RunId, ...] = (), limit: int = 100) -> list[Behind]:
    async with database.reading() as tx:
        return list(await runs.behind(tx, FINAL, busy, limit))


async def test_cards_that_are_behind(database: Database) -> None:
    """An older version on a card that is there: final states first, then states not shown yet, then the oldest news."""
    await add(
        database,
        carded("current", version=1),
        carded("live", version=2, state=RunState.WORKING, news_at=at(-5)),
        carded("question", version=2, state=RunState.WAITING, news_at=at(-1)),
        carded("ended", version=3, state=RunState.FAILED, news_at=at(-9)),
        changed(carded("just edited", version=9, news_at=at(-2)), edited_at=at(2)),
        carded("another state", version=2, state=RunState.WORKING, news_at=at(1)),
        changed(carded("no card", version=2), ts=None),
        carded("gone", version=2, gone=True),
    )
    assert await behind(database) == [
        Behind(RunId("ended"), 3, final=True, edited_at=NOW),
        Behind(RunId("question"), 2, final=True, edited_at=NOW),
        Behind(RunId("another state"), 2, final=False, edited_at=NOW),
        Behind(RunId("live"), 2, final=False, edited_at=NOW),
        Behind(RunId("just edited"), 9, final=False, edited_at=at(2)),
    ]
    assert [card.run for card in await behind(database, (RunId("ended"),), limit=2)] == [
        "question",
        "another state",
    ]


async def test_a_place_that_is_lost_loses_its_live_cards(database: Database) -> None:
    """Each requester is named for each run; ended runs and other places are left; the second time nobody is named."""
    await add(
        database,
        carded("working", state=RunState.WORKING, posts=1),
        carded("asks", state=RunState.WAITING, posts=1, requester=BOB),
        carded("done", state=RunState.DONE, posts=1),
        carded("elsewhere", state=RunState.WORKING, posts=1, channel=DIRECT),
        a_run("no card yet"),
    )
    async with database.transaction() as tx:
        lost = [sorted(await runs.lose_cards(tx, DEV)) for _ in range(2)]
    async with database.reading() as tx:
        gone = [(await runs.get(tx, RunId(name))).card.gone for name in ("working", "asks", "done", "elsewhere")]
    assert (lost, gone) == ([[ALICE, BOB], []], [True, True, False, False])


async def test_a_card_that_is_back(database: Database) -> None:
    """It is owed its edit again."""
    await add(database, carded("one", version=2, gone=True))
    before = await behind(database)
    async with database.transaction() as tx:
        await runs.try_card_again(tx, RunId("one"))
    assert (before, [card.run for card in await behind(database)]) == ([], ["one"])


async def test_a_card_never_goes_back(database: Database) -> None:
    """Two edits may end in either order: the version stays the highest shown, the time the last edit."""
    run = carded("one", version=5)
    await add(database, run)
    async with database.transaction() as tx:
        await runs.card_shown(tx, replace(run, version=4), at(10))
        await runs.card_shown(tx, replace(run, version=3), at(11))
    assert await get(database, run) == replace(run, card=replace(run.card, version=4, edited_at=at(11)))


# --- polling ----------------------------------------------------------------------------------------------------


async def test_runs_that_are_due(database: Database) -> None:
    """Those whose time has come, the longest waiting first, so many; a run without a time is not looked at."""
    await add(
        database,
        a_run("now", next_poll_at=at(10)),
        a_run("late", next_poll_at=at(5)),
        a_run("later", next_poll_at=at(11)),
        a_run("never"),
    )
    async with database.reading() as tx:
        due, first, next_at = (
            await runs.due(tx, at(10), 10),
            await runs.due(tx, at(10), 1),
            (await runs.next_poll(tx))[0],
        )
    assert ([run.id for run in due], [run.id for run in first], next_at) == (["late", "now"], ["late"], at(5))


async def test_looks_that_changed_nothing_are_written_together(database: Database) -> None:
    """When they were and when the next ones are due, for several runs in one statement; no card is behind for it."""
    one, two, other = a_run("one"), a_run("two"), a_run("other")
    await add(database, one, two, other)
    async with database.transaction() as tx:
        before = await runs.get_all(tx, [one.id, two.id])
        await runs.looked_at(tx, [*before], at(18), at(20))
    assert before == {one.id: one, two.id: two}
    assert [await get(database, run) for run in (one, two, other)] == [
        replace(one, watch=replace(one.watch, observed_at=at(18), next_poll_at=at(20))),
        replace(two, watch=replace(two.watch, observed_at=at(18), next_poll_at=at(20))),
        other,
    ]


async def test_runs_are_put_off_together(database: Database) -> None:
    """One statement for a whole batch, which makes no card old; with nothing to look at there is no time."""
    one, two, other = a_run("one"), a_run("two"), a_run("other")
    await add(database, one, two, other)
    async with database.transaction() as tx:
        none = (await runs.next_poll(tx))[0]
        await runs.poll_again(tx, [one.id, two.id], at(20))
    assert none is None
    assert [await get(database, run) for run in (one, two, other)] == [
        replace(one, watch=replace(one.watch, next_poll_at=at(20))),
        replace(two, watch=replace(two.watch, next_poll_at=at(20))),
        other,
    ]


# --- places -----------------------------------------------------------------------------------------------------

ROOT = MessageTs("1.000001")


async def test_a_thread_belongs_to_one_run(database: Database) -> None:
    """The last to own it; the same ts in another channel is another thread."""
    first, second = a_run("first"), a_run("second")
    await add(database, first, second)
    async with database.transaction() as tx:
        before = await runs.of_thread(tx, TEAM, DEV, ROOT)
        await runs.own_thread(tx, first, ROOT, every_reply=True)
        owned = await runs.of_thread(tx, TEAM, DEV, ROOT)
        await runs.own_thread(tx, second, ROOT, every_reply=False)
        after = await runs.of_thread(tx, TEAM, DEV, ROOT)
        elsewhere = await runs.of_thread(tx, TEAM, ChannelId("C2"), ROOT)
    assert (before, owned, after, elsewhere) == (None, (first, True), (second, False), None)


async def test_a_persons_live_runs(database: Database) -> None:
    """Theirs, in that place, not ended, newest first."""
    await add(
        database,
        *(a_run(state.value, state=state, created_at=at(index)) for index, state in enumerate(RunState)),
        a_run("elsewhere", channel=ChannelId("C2")),
        a_run("bob's", requester=BOB),
    )
    async with database.reading() as tx:
        found = [run.id for run in await runs.live_of(tx, DEV, ALICE)]
    assert found == ["paused", "waiting", "working", "starting", "queued", "needs_go", "needs_repository"]


async def test_the_latest_runs_of_a_place(database: Database) -> None:
    """Of everybody, ended or not, newest first, so many."""
    await add(
        database,
        a_run("oldest", created_at=at(0)),
        a_run("ended", created_at=at(1), state=RunState.DONE),
        a_run("bob's", created_at=at(2), requester=BOB),
        a_run("elsewhere", created_at=at(3), channel=ChannelId("C2")),
    )
    async with database.reading() as tx:
        found = [run.id for run in await runs.latest_in(tx, DEV, 2)]
    assert found == ["bob's", "ended"]


async def test_the_repositories_used_here_before(database: Database) -> None:
    """In this place, by runs that really worked there, ended or not; the latest first."""
    given = (("Org/repo", NOW), ("org/other", NOW), ("org/typo", None), (None, NOW))
    for number, (repository, started_at) in enumerate(given):
        created_at = NOW + timedelta(minutes=number)
        one = a_run(id=RunId(f"r{number}"), repository=repository, started_at=started_at, created_at=created_at)
        await add(database, one)
    async with database.reading() as tx:
        assert await runs.used_in(tx, ChannelId("C1")) == ["org/other", "Org/repo"]
        assert await runs.used_in(tx, ChannelId("C2")) == []


async def test_a_conversation_of_another_run(database: Database) -> None:
    """Looking for a run's own, one that belongs to another is not it; its own and unknown ones may be."""
    await add(
        database,
        a_run("one", conversation_id=ConversationId("c-1")),
        a_run("two", conversation_id=ConversationId("c-2")),
    )
    async with database.reading() as tx:
        found = [
            await runs.is_of_another(tx, RunId("one"), ConversationId(conversation))
            for conversation in ("c-1", "c-2", "c-3")
        ]
    assert found == [False, True, False]


def waiting(name: str, person: UserId, queued_s: float, **about: Any) -> Run:
    """Return a run whose card, two minutes old, shows no position in the queue yet."""
    card = {"ts": MessageTs("1.000001"), "edited_at": at(-120), "card_version": 1}
    return a_run(name, state=RunState.QUEUED, requester=person, queued_at=at(queued_s), **card | about)


CAROL = UserId("U3")


def served(person: UserId, seconds: float) -> Run:
    return a_run(f"of {person}", state=RunState.WORKING, requester=person, admitted_at=at(seconds))


@pytest.mark.parametrize(
    ("had", "order"),
    [
        ([], ["a1", "b1", "c1", "a2", "b2", "a3"]),
        ([served(ALICE, -9)], ["b1", "c1", "a1", "b2", "a2", "a3"]),
        ([served(ALICE, -9), served(BOB, -5), served(CAROL, -7)], ["a1", "c1", "b1", "a2", "b2", "a3"]),
    ],
    ids=["nobody had a slot", "alice had one", "each had one"],
)
async def test_slots_go_round_over_people(database: Database, had: list[Run], order: list[str]) -> None:
    """Who had a slot longest ago is next, each with their oldest; as many as there are, each once in a round."""
    queue = [waiting(f"a{n}", ALICE, n) for n in (1, 2, 3)]
    queue += [waiting("b1", BOB, 4), waiting("b2", BOB, 5), waiting("c1", CAROL, 6)]
    await add(database, *reversed(queue), *had)
    async with database.reading() as tx:
        found = [run.id for run in await runs.queued(tx, 10)]
        drawn = {run.id: run.queue_position for run in await runs.with_positions(tx, [*queue, a_run("ended")])}
    assert (found, sorted(order, key=lambda name: drawn[RunId(name)] or 0), drawn[RunId("ended")]) == (
        order,
        order,
        None,
    )


async def test_how_many_of_a_person_wait(database: Database) -> None:
    """What somebody retried is theirs; what they only stopped, or is at work, is not."""
    retried: dict[str, Any] = {"last_action": Action.RETRY, "last_action_by": BOB}
    await add(
        database,
        waiting("one", ALICE, 1),
        waiting("two", ALICE, 2, last_action=Action.GO, last_action_by=BOB),
        waiting("three", ALICE, 3, **retried),
        waiting("four", ALICE, 4, last_action=Action.RETRY),
        a_run("working"),
    )
    async with database.reading() as tx:
        assert [await runs.count_queued(tx, person) for person in (ALICE, BOB, CAROL)] == [3, 1, 0]


async def test_cards_whose_position_moved(database: Database) -> None:
    """Those alone, unless they were edited since then, are edited anyway or can't be; a drawn one is true again."""
    await add(
        database,
        waiting("first", ALICE, 1, queue_position=1),
        waiting("second", ALICE, 2, queue_position=3),
        waiting("third", ALICE, 3),
        waiting("just edited", ALICE, 4, edited_at=NOW),
        waiting("behind", ALICE, 5, version=2),
        waiting("gone", ALICE, 6, gone=True),
        waiting("no card", ALICE, 7, ts=None),
        waiting("busy", ALICE, 8),
    )

    async def moved() -> list[Behind]:
        async with database.reading() as tx:
            return list(await runs.moved(tx, [RunId("busy")], at(-60), 10))

    before = await moved()
    async with database.transaction() as tx:
        [second] = await runs.with_positions(tx, [await runs.get(tx, RunId("second"))])
        await runs.card_shown(tx, second, at(-90))
    assert before == [Behind(RunId(name), 1, final=False, edited_at=at(-120)) for name in ("second", "third")]
    assert [card.run for card in await moved()] == ["third"]


# --- follow-ups -------------------------------------------------------------------------------------------------


def a_follow_up(name: str, **about: Any) -> FollowUp:
    start: dict[str, Any] = {"run": RunId("one"), "author": ALICE, "text": "and the docs", "source_ts": ROOT}
    return FollowUp(id=name, **start | about)


async def test_a_follow_up_comes_back_as_it_was(database: Database) -> None:
    """First with its defaults, then with everything set."""
    written = a_follow_up("f-1")
    changed = replace(
        written, text="\U0001f600", state=FollowUpState.UNSURE, last_event="e-1", quiet_since=at(1), asked_at=at(2)
    )
    async with database.transaction() as tx:
        await runs.add_follow_up(tx, written)
        await runs.add_follow_up(tx, a_follow_up("f-2"))
        first = await runs.get_follow_up(tx, "f-1")
        await runs.save_follow_up(tx, changed)
    async with database.reading() as tx:
        found = [await runs.get_follow_up(tx, name) for name in ("f-1", "f-2")]
    assert (first, *found) == (written, changed, a_follow_up("f-2"))


async def test_a_runs_follow_ups_in_the_order_they_were_written(database: Database) -> None:
    """Those of this run, in the states asked for."""
    async with database.transaction() as tx:
        for name, state in (("z", "waiting"), ("y", "delivered"), ("x", "unsure"), ("a", "waiting")):
            await runs.add_follow_up(tx, a_follow_up(name, state=FollowUpState(state)))
        await runs.add_follow_up(tx, a_follow_up("other", run=RunId("two")))
        wanted = [FollowUpState.WAITING, FollowUpState.UNSURE]
        found = [one.id for one in await runs.follow_ups_of(tx, RunId("one"), wanted)]
        none = await runs.follow_ups_of(tx, RunId("one"), [])
    assert (found, none) == (["z", "x", "a"], [])
