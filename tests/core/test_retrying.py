"""The table of what becomes of a call to OpenHands that failed, row by row."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bot.core import words
from bot.core.errors import (
    Archived,
    Asleep,
    AtCapacity,
    CannotTell,
    Moved,
    NoAccess,
    NoSuchCall,
    NotFound,
    OpenHandsError,
    OutOfBudget,
    OverQuota,
    Rejected,
    TooFast,
    Unauthorised,
    Unavailable,
    Unreadable,
    Unsure,
)
from bot.core.model import Failed, Obstacle, Reason, RowId, Run, RunState
from bot.core.owed import OutboxKind, OutboxRow
from bot.core.pacing import Patience
from bot.core.retrying import (
    DECISIONS,
    MISSES,
    NO_MESSAGES,
    QUOTA_LONGEST_S,
    QUOTA_UNNAMED_S,
    REFUSED_S,
    STOPS,
    WAKES,
    Ask,
    Call,
    Done,
    Effort,
    GiveBack,
    Lost,
    Refuse,
    Requeue,
    Retry,
    Situation,
    Step,
    Unreachable,
    Wake,
    next_look,
    next_step,
)
from tests.core.runs import NOW, a_run

PATIENCE = Patience()
PAGE = "https://oh.example/conversations/c"
KINDS = {
    Call.START: OutboxKind.START,
    Call.FIND: OutboxKind.START,
    Call.SEND: OutboxKind.SEND,
    Call.RUN: OutboxKind.SEND,
    Call.CHECK: OutboxKind.SEND,
    Call.WAKE: OutboxKind.SEND,
    Call.RESUME: OutboxKind.RESUME,
    Call.DECIDE: OutboxKind.DECIDE,
    Call.STOP: OutboxKind.STOP,
    Call.STOP_OLD: OutboxKind.STOP,
}
WORKING, ENDED, STOPPED = a_run(), a_run(RunState.DONE), a_run(RunState.STOPPED)
ERRORS: list[OpenHandsError | None] = [
    None,
    Unauthorised(),
    NoAccess(),
    NotFound(),
    AtCapacity(),
    OverQuota(None, ""),
    OutOfBudget(),
    TooFast(40.0),
    Archived(),
    Asleep(),
    Rejected("no such branch"),
    NoSuchCall(),
    CannotTell(),
    Unsure(),
    Unreadable(),
    Unavailable(),
]


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def here(call: Call, run: Run = WORKING, **about: Any) -> Situation:
    """Make the situation of a row written just now, whose call went out for the first time."""
    row = OutboxRow(
        seq=1,
        id=RowId("row"),
        run=run.id,
        kind=KINDS[call],
        lane="lane",
        rank=1,
        payload={},
        created_at=NOW,
        attempts=0,
        tried_at=None,
    )
    return Situation(row=replace(row, **about), run=run, moment=NOW, patience=PATIENCE, page=PAGE)


OLD = {"created_at": at(-3600)}
LATE = {"created_at": at(-900), "tried_at": at(-900)}

TABLE: list[tuple[Call, OpenHandsError | None, Run, dict[str, Any], Step]] = [
    # a start: what is refused surely did not start, a lost answer is looked up
    (Call.START, Unsure(), WORKING, {}, Retry(at=at(PATIENCE.start_lookups_s[0]))),
    (Call.START, AtCapacity(), WORKING, {}, Requeue()),
    (Call.START, OverQuota(at(7200), "10 of 10 used"), WORKING, {}, Requeue(at(7200), "10 of 10 used")),
    (Call.START, OverQuota(at(-60), ""), WORKING, {}, Requeue(at(PATIENCE.full_s))),
    (Call.START, OverQuota(at(9e9), ""), WORKING, {}, Requeue(at(QUOTA_LONGEST_S))),
    (Call.START, OverQuota(None, ""), WORKING, {}, Requeue(at(QUOTA_UNNAMED_S))),
    (Call.START, OutOfBudget(), WORKING, {}, Refuse(Failed(Reason.ACCOUNT_BUDGET))),
    (Call.SEND, OutOfBudget(), WORKING, {}, GiveBack(words.out_of_budget())),
    (Call.WAKE, OutOfBudget(), WORKING, {}, GiveBack(words.out_of_budget())),
    (Call.RESUME, OutOfBudget(), WORKING, {}, GiveBack(words.out_of_budget())),
    (Call.START, TooFast(5), WORKING, {}, Retry(at=at(5), effort=Effort.UNDONE)),
    (Call.START, TooFast(0), WORKING, {}, Retry(at=at(PATIENCE.poll_s), effort=Effort.UNDONE)),
    (Call.START, TooFast(40), WORKING, {}, Requeue()),
    (Call.START, TooFast(0), WORKING, {"created_at": at(-REFUSED_S)}, Requeue()),
    (Call.START, NoAccess(), WORKING, {}, Refuse(Failed(Reason.REPOSITORY))),
    (Call.START, Unauthorised(), WORKING, {}, Refuse(Failed(Reason.KEY_REFUSED))),
    (Call.START, Rejected("why"), WORKING, {}, Refuse(Failed(Reason.START_REJECTED, "why"))),
    (Call.START, Unreadable(), WORKING, {}, Refuse(Failed(Reason.START_UNREADABLE))),
    (Call.START, NotFound(), WORKING, {}, Refuse(Failed(Reason.START_UNREADABLE))),
    (Call.START, NoSuchCall(), WORKING, {}, Refuse(Failed(Reason.START_UNREADABLE))),
    (Call.START, Unavailable(), WORKING, {}, Retry(at=at(1), effort=Effort.UNDONE)),
    # a look-up: whatever it can't tell, nothing is posted on it
    (Call.FIND, CannotTell(), WORKING, {}, Refuse(Failed(Reason.START_UNSURE))),
    (Call.FIND, NotFound(), WORKING, {"tried_at": NOW}, Retry(at=at(PATIENCE.start_lookups_s[0]))),
    (Call.FIND, NoSuchCall(), WORKING, {}, Retry(at=at(1))),
    (Call.FIND, Unavailable(), WORKING, {}, Retry(at=at(1))),
    *(
        (Call.FIND, error, WORKING, LATE, Refuse(Failed(Reason.START_UNSURE)))
        for error in (NotFound(), Unreadable(), NoSuchCall(), Rejected(""))
    ),
    (Call.FIND, Unavailable(), WORKING, LATE, Retry(at=at(60), unreachable=Unreachable(why=Obstacle.AWAY))),
    # a message
    (Call.SEND, Unsure(), WORKING, {}, Retry(at=at(PATIENCE.poll_s))),
    (Call.SEND, Asleep(), WORKING, {}, Wake()),
    (Call.SEND, Asleep(), WORKING, {"attempts": WAKES}, GiveBack(words.cannot_wake())),
    (Call.SEND, NotFound(), WORKING, {"attempts": 2}, Retry(at=at(4), effort=Effort.COUNTED, observe=True)),
    (Call.SEND, NotFound(), WORKING, {"attempts": MISSES}, GiveBack(words.follow_up_given_up(PAGE))),
    (Call.SEND, NotFound(), ENDED, {"attempts": 2}, Retry(at=at(4), effort=Effort.COUNTED)),
    (Call.SEND, NotFound(), ENDED, {"attempts": MISSES}, Lost()),
    (Call.SEND, Archived(), WORKING, {"attempts": 2}, Retry(at=at(4), effort=Effort.COUNTED, observe=True)),
    (Call.SEND, Archived(), WORKING, {"attempts": MISSES}, Lost()),
    (Call.SEND, Rejected("why"), WORKING, {}, GiveBack(words.follow_up_rejected("why"))),
    (Call.SEND, NoSuchCall(), WORKING, {}, GiveBack(words.follow_up_unsupported(PAGE), once=NO_MESSAGES)),
    (
        Call.SEND,
        AtCapacity(),
        WORKING,
        {},
        Retry(at=at(PATIENCE.full_s), effort=Effort.UNDONE, say=words.no_room_to_wake()),
    ),
    # a message that the agent server only keeps, until the agent begins
    (Call.RUN, None, WORKING, {}, Retry(at=at(PATIENCE.full_s), unreachable=Unreachable(why=Obstacle.FULL))),
    (Call.RUN, AtCapacity(), WORKING, OLD, Retry(at=at(PATIENCE.full_s), unreachable=Unreachable(why=Obstacle.FULL))),
    (Call.RUN, NotFound(), WORKING, {}, Done()),
    # whether a message arrived: after ten minutes a person decides
    (Call.CHECK, CannotTell(), WORKING, {}, Ask()),
    (Call.CHECK, Unavailable(), WORKING, LATE, Ask()),
    (Call.CHECK, Unsure(), WORKING, {"tried_at": NOW}, Retry(at=at(PATIENCE.poll_s))),
    (Call.CHECK, Asleep(), WORKING, {"tried_at": NOW}, Retry(at=at(PATIENCE.poll_s))),
    (Call.CHECK, Unavailable(), WORKING, {"tried_at": NOW}, Retry(at=at(1))),
    # a wake-up, for a message and for a decision
    (
        Call.WAKE,
        AtCapacity(),
        WORKING,
        {},
        Retry(at=at(PATIENCE.full_s), effort=Effort.UNDONE, say=words.no_room_to_wake()),
    ),
    (Call.WAKE, NoSuchCall(), WORKING, {}, GiveBack(words.follow_up_unsupported(PAGE), once=NO_MESSAGES)),
    (Call.WAKE, NotFound(), WORKING, {}, Retry(at=at(1), effort=Effort.COUNTED, observe=True)),
    (Call.WAKE, NotFound(), WORKING, {"attempts": WAKES - 1}, Lost()),
    (Call.WAKE, Archived(), WORKING, {}, Retry(at=at(1), effort=Effort.COUNTED, observe=True)),
    (Call.WAKE, Archived(), WORKING, {"attempts": WAKES - 1}, Lost()),
    (Call.WAKE, Rejected("why"), WORKING, {}, Retry(at=at(1), effort=Effort.COUNTED, observe=True)),
    (Call.WAKE, Rejected("why"), WORKING, {"attempts": WAKES - 1}, Lost()),
    (Call.WAKE, Unavailable(), WORKING, {}, Retry(at=at(1))),
    (
        Call.WAKE,
        AtCapacity(),
        WORKING,
        {"kind": OutboxKind.DECIDE},
        Retry(at=at(PATIENCE.full_s), observe=True, say=words.no_room_to_resume()),
    ),
    (Call.WAKE, NotFound(), WORKING, {"kind": OutboxKind.DECIDE}, Retry(at=at(1), observe=True)),
    # a resume may be repeated
    (
        Call.RESUME,
        Asleep(),
        STOPPED,
        {"attempts": 1},
        Retry(at=at(2), effort=Effort.COUNTED, observe=True, unreachable=Unreachable(why=Obstacle.WAKING)),
    ),
    (Call.RESUME, Unsure(), STOPPED, {}, Retry(at=at(1), effort=Effort.COUNTED, observe=True)),
    (Call.RESUME, Asleep(), STOPPED, {"attempts": WAKES}, GiveBack(words.cannot_resume(STOPPED))),
    (
        Call.RESUME,
        AtCapacity(),
        STOPPED,
        {},
        Retry(at=at(PATIENCE.full_s), effort=Effort.UNDONE, say=words.no_room_to_resume()),
    ),
    (Call.RESUME, NotFound(), STOPPED, {}, Retry(at=at(1), effort=Effort.COUNTED)),
    (Call.RESUME, NotFound(), STOPPED, {"attempts": MISSES}, Lost()),
    (Call.RESUME, Archived(), STOPPED, {}, Retry(at=at(1), effort=Effort.COUNTED)),
    (Call.RESUME, Archived(), STOPPED, {"attempts": MISSES}, Lost()),
    (Call.RESUME, NoSuchCall(), STOPPED, {}, GiveBack(words.no_resume_here())),
    (Call.RESUME, Rejected("why"), STOPPED, {}, GiveBack(words.cannot_resume(STOPPED))),
    (Call.RESUME, Unavailable(), STOPPED, {}, Retry(at=at(1))),
    # a decision: what waits is compared again each time
    (Call.DECIDE, None, WORKING, {}, Retry(at=at(PATIENCE.decision_settled_s), observe=True)),
    (Call.DECIDE, None, WORKING, {"attempts": DECISIONS}, GiveBack(words.decision_lost(PAGE))),
    (Call.DECIDE, Unsure(), WORKING, {}, Retry(at=at(PATIENCE.decision_settled_s), observe=True)),
    (Call.DECIDE, Unsure(), WORKING, {"attempts": DECISIONS}, GiveBack(words.decision_lost(PAGE))),
    (Call.DECIDE, Asleep(), WORKING, {}, Wake()),
    (
        Call.DECIDE,
        AtCapacity(),
        WORKING,
        OLD,
        Retry(at=at(PATIENCE.full_s), effort=Effort.UNDONE, say=words.no_room_to_resume()),
    ),
    (Call.DECIDE, Asleep(), WORKING, OLD, GiveBack(words.decision_lost(PAGE))),
    (Call.DECIDE, NotFound(), WORKING, {"attempts": 1}, Retry(at=at(2), effort=Effort.COUNTED, observe=True)),
    (Call.DECIDE, Archived(), WORKING, {}, Retry(at=at(1), effort=Effort.COUNTED, observe=True)),
    (Call.DECIDE, NotFound(), WORKING, {"attempts": MISSES}, GiveBack(words.decision_lost(PAGE))),
    (Call.DECIDE, NoSuchCall(), WORKING, {}, GiveBack(words.cannot_decide(PAGE))),
    (Call.DECIDE, Rejected("why"), WORKING, {}, GiveBack(words.cannot_decide(PAGE))),
    (Call.DECIDE, Unavailable(), WORKING, {}, Retry(at=at(1), observe=True)),
    (Call.DECIDE, Unavailable(), a_run(observed_at=NOW), OLD, GiveBack(words.decision_lost(PAGE))),
    # a stop is repeated until a look shows it
    (Call.STOP, None, WORKING, {}, Retry(at=at(8), effort=Effort.COUNTED, observe=True)),
    (Call.STOP, None, STOPPED, {"attempts": 5}, Retry(at=at(32), effort=Effort.COUNTED)),
    (Call.STOP, Unsure(), WORKING, {"attempts": STOPS}, GiveBack(words.cannot_stop(PAGE))),
    (Call.STOP, None, STOPPED, {"attempts": STOPS}, Done()),
    (Call.STOP, NotFound(), STOPPED, {}, Done("gone")),
    (Call.STOP, NotFound(), WORKING, {"attempts": 1}, Retry(at=at(2), effort=Effort.COUNTED, observe=True)),
    (Call.STOP, NotFound(), WORKING, {"attempts": MISSES}, GiveBack(words.cannot_stop(PAGE))),
    (Call.STOP, NoSuchCall(), WORKING, {}, GiveBack(words.cannot_stop(PAGE))),
    (Call.STOP, Rejected("why"), WORKING, {}, GiveBack(words.cannot_stop(PAGE))),
    (Call.STOP, Archived(), WORKING, {}, GiveBack(words.cannot_stop(PAGE))),
    # the conversation that a retry gives up: for a minute, then the new one starts anyway
    (Call.STOP_OLD, None, WORKING, {}, Done()),
    (Call.STOP_OLD, NotFound(), WORKING, {}, Done()),
    (Call.STOP_OLD, Unavailable(), WORKING, {}, Retry(at=at(1), effort=Effort.COUNTED)),
    (Call.STOP_OLD, Unavailable(), WORKING, {"attempts": STOPS}, GiveBack(words.old_not_stopped())),
    (Call.STOP_OLD, NoSuchCall(), WORKING, {}, GiveBack(words.old_not_stopped())),
    # an outage: slower and slower, on the card after a minute, a refused key at once
    (Call.STOP, Unavailable(), WORKING, {"created_at": at(-40)}, Retry(at=at(10))),
    (
        Call.STOP,
        Unreadable(),
        WORKING,
        {"created_at": at(-61)},
        Retry(at=at(15.25), unreachable=Unreachable(why=Obstacle.AWAY)),
    ),
    (Call.SEND, Unauthorised(), WORKING, {}, Retry(at=at(1), unreachable=Unreachable(why=Obstacle.KEY))),
    (
        Call.FIND,
        Moved("https://oh.example"),
        WORKING,
        OLD,
        Retry(at=at(60), unreachable=Unreachable(why=Obstacle.MOVED)),
    ),
    # too many requests: as long as asked, but slower and slower, and on the card as any other
    (Call.STOP, TooFast(0), WORKING, {}, Retry(at=at(1))),
    (Call.STOP, TooFast(40), WORKING, {}, Retry(at=at(40))),
    (Call.STOP, TooFast(3600), WORKING, {}, Retry(at=at(60))),
    (Call.STOP, TooFast(1), WORKING, OLD, Retry(at=at(60), unreachable=Unreachable(why=Obstacle.BUSY))),
]


@pytest.mark.parametrize(("call", "error", "run", "about", "step"), TABLE)
def test_the_next_step(call: Call, error: OpenHandsError | None, run: Run, about: dict[str, Any], step: Step) -> None:
    """Each line of the table, as it stands."""
    assert next_step(call, error, here(call, run, **about)) == step


COMES_TO: dict[Call, set[type[Step]]] = {
    Call.START: {Retry, Refuse, Requeue},
    Call.FIND: {Retry, Refuse},
    Call.SEND: {Retry, Wake, GiveBack, Lost},
    Call.RUN: {Retry, Done},
    Call.CHECK: {Retry, GiveBack, Lost, Ask},
    Call.WAKE: {Retry, GiveBack, Lost},
    Call.RESUME: {Retry, GiveBack, Lost},
    Call.DECIDE: {Retry, Wake, GiveBack},
    Call.STOP: {Retry, Done, GiveBack},
    Call.STOP_OLD: {Retry, Done, GiveBack},
}
"""What a call can come to: its handler writes each of these."""


@pytest.mark.parametrize("call", Call)
def test_what_a_call_can_come_to(call: Call) -> None:
    """Every error, met young and old, awake and ended: no handler meets a step it can't write."""
    situations = [
        here(call, run, attempts=attempts, **about)
        for run in (WORKING, ENDED, STOPPED)
        for attempts in (0, 20)
        for about in ({}, OLD, LATE)
    ]
    assert {type(next_step(call, error, one)) for error in ERRORS for one in situations} == COMES_TO[call]


def test_looks_for_a_lost_start_become_rarer() -> None:
    """Soon at first; past the last named pause always that pause again."""
    first, *_, last = PATIENCE.start_lookups_s
    assert next_look(NOW, NOW, PATIENCE) == at(first)
    assert next_look(NOW, at(3600), PATIENCE) == at(3600 + last)
