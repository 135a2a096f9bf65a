"""Retrying: what becomes of an outbox row whose call to OpenHands failed, decided apart from carrying it out.

`next_step` is a table from (call, error) to a `Step`. It touches nothing; `Handler` writes what it decides.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import accumulate
from typing import assert_never

from bot.core import lifecycle, words
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
    Unreadable,
    Unsure,
)
from bot.core.model import Failed, Obstacle, Reason, Run, RunState
from bot.core.owed import OutboxKind, OutboxRow
from bot.core.pacing import Patience, later, retry_at

REFUSED_S = 10.0
"""A start that gets 429 for so long, or is to wait for so long, is refused by the account's limit: it is queued."""
QUOTA_UNNAMED_S = 3600.0
"""Pause after a day's quota is used up, where the server does not say when the next begins."""
QUOTA_LONGEST_S = 25 * 3600.0
WAKES = 11
"""Tries to wake a conversation before a person is told: about six minutes, with backoff; five are not rare."""
DECISIONS = 6
"""How often the server may accept a decision without effect before the person is told."""
STOPS = 6
"""How often a stop may have no effect before the person is told: a minute, with its pauses."""
INTERRUPTS = 3
"""How many stops may have no effect before the sandbox is paused: a frozen agent is deaf to interrupts."""
NO_MESSAGES = "takes no messages"
"""Why a run is told once, and not for each message, that its server lacks a call."""
MISSES = 12
"""How often a call may find no conversation before it counts as gone, or the person is told: about seven minutes."""
STOP_SHOWS_S = lifecycle.FRESH.total_seconds() + 3
"""A stop shows by then; sooner after a message, an observation can't yet show that nobody works."""


class Call(StrEnum):
    """What was asked of OpenHands."""

    START = "start"
    FIND = "find"
    """Look up whether a start whose answer was lost arrived."""
    SEND = "send"
    RUN = "run"
    """Let the agent begin with a message that its server only keeps."""
    CHECK = "check"
    """Look up whether a message whose answer was lost arrived."""
    WAKE = "wake"
    """Wake the sandbox, for a message or a decision that needs it awake."""
    RESUME = "resume"
    DECIDE = "decide"
    STOP = "stop"
    STOP_OLD = "stop_old"
    """Stop what may still work in the conversation that a retry gives up."""


class Effort(StrEnum):
    """What the row remembers of the call that failed."""

    KEPT = "kept"
    """What it knew before: if an earlier call's effect is unknown, it stays unknown."""
    COUNTED = "counted"
    """One more attempt, which need not be looked up before it is repeated."""
    UNDONE = "undone"
    """Nothing: the call surely had no effect and counts as not made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """OpenHands has not answered for so long that the card says so."""

    why: Obstacle
    cause: str = ""
    """For the log, which is told once: the first time that it is shown."""


@dataclass(frozen=True, slots=True)
class Done:
    """Close the row: nothing is left to do."""

    result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Reschedule the row."""

    at: datetime
    effort: Effort = Effort.KEPT
    observe: bool = False
    """Poll the run at once: what it shows decides."""
    unreachable: Unreachable | None = None
    say: str = ""
    """Told once to the person who waits for it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the row until the run's next state releases it."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Wake the sandbox, then reschedule the row."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Close the row as not done, and tell the person who waits for it."""

    text: str
    once: str = ""
    """If set, a run is told so at most once, whoever waits; the reaction on each message says the rest."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """End the run: it will not start."""

    why: Failed


@dataclass(frozen=True, slots=True)
class Requeue:
    """Queue the run until a slot is free."""

    until: datetime | None = None
    """Before then nothing is started, whatever slots are free."""
    numbers: str = ""
    """What OpenHands says of its limit for the day."""


@dataclass(frozen=True, slots=True)
class Lost:
    """End the run: its conversation is gone."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a person to decide: nobody can find out whether the message arrived."""


Step = Done | Retry | Hold | Wake | GiveBack | Refuse | Requeue | Lost | Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision about a row is based on."""

    row: OutboxRow
    """As it was before the call."""
    run: Run
    moment: datetime
    """When the decision is taken."""
    patience: Patience
    page: str | None
    """The conversation's address for people."""

    @property
    def age_s(self) -> float:
        """Return the seconds since the row was written."""
        return (self.moment - self.row.created_at).total_seconds()

    @property
    def tried_s(self) -> float:
        """Return the seconds since its call of unknown outcome went out; if there is none, since it was written."""
        return (self.moment - (self.row.tried_at or self.row.created_at)).total_seconds()

    def after(self, seconds: float) -> datetime:
        return later(self.moment, seconds)

    def backoff(self) -> datetime:
        """Return the time of the next attempt, by exponential backoff."""
        return retry_at(self.row.attempts + 1, self.moment, self.patience)


def next_step(call: Call, error: OpenHandsError | None, here: Situation) -> Step:
    """Decide what becomes of a row.

    error: None if the call was accepted and only time shows whether it took effect. Total: an error without a case of
    its own is an outage.
    """
    match call:
        case Call.START:
            step = _start(error, here)
        case Call.FIND:
            step = _find(error, here)
        case Call.SEND:
            step = _send(error, here)
        case Call.RUN:
            step = _run(error, here)
        case Call.CHECK:
            step = _check(error, here) or _send(error, here)
        case Call.WAKE:
            step = _wake(error, here)
        case Call.RESUME:
            step = _resume(error, here)
        case Call.DECIDE:
            step = _decide(error, here)
        case Call.STOP:
            step = _stop(error, here)
        case Call.STOP_OLD:
            step = _stop_old(error, here)
        case _:
            assert_never(call)
    return step or _outage(call, error, here)


def next_look(tried_at: datetime, now: datetime, patience: Patience) -> datetime:
    """Return when a start is looked up again: soon after it went out, then more and more rarely."""
    age_s, pauses_s = (now - tried_at).total_seconds(), patience.start_lookups_s
    return later(tried_at, next((at_s for at_s in accumulate(pauses_s) if at_s > age_s), age_s + pauses_s[-1]))


def _start(error: OpenHandsError | None, here: Situation) -> Step | None:
    match error:
        case Unsure():
            return Retry(at=here.after(here.patience.start_lookups_s[0]))
        case AtCapacity():
            return Requeue()
        case OverQuota():
            return Requeue(_new_day(error.reset_at, here), error.numbers)
        case OutOfBudget():
            return Refuse(Failed(Reason.ACCOUNT_BUDGET))
        case TooFast() if max(here.age_s, error.retry_after_s) >= REFUSED_S:
            return Requeue()
        case TooFast():
            pause_s = max(error.retry_after_s, here.patience.poll_s)
            return Retry(at=here.after(pause_s), effort=Effort.UNDONE)
        case NoAccess():
            return Refuse(Failed(Reason.REPOSITORY))
        case Unauthorised():
            return Refuse(Failed(Reason.KEY_REFUSED))
        case Rejected():
            return Refuse(Failed(Reason.START_REJECTED, error.words))
        case Unreadable() | NotFound() | NoSuchCall():
            return Refuse(Failed(Reason.START_UNREADABLE))
        case _:
            return None


def _new_day(reset_at: datetime | None, here: Situation) -> datetime:
    """Return when a day's quota begins anew, as the server says; clocks differ, and it may say nonsense or nothing."""
    said = reset_at or here.after(QUOTA_UNNAMED_S)
    return min(max(said, here.after(here.patience.full_s)), here.after(QUOTA_LONGEST_S))


def _find(error: OpenHandsError | None, here: Situation) -> Step | None:
    """Decide after a failed look-up: whatever the reason, it is no answer, and nothing is posted on it.

    An outage is waited out; what can't be looked up for long, a person looks up.
    """
    match error:
        case CannotTell():
            return Refuse(Failed(Reason.START_UNSURE))
        case NotFound() | Unreadable() | NoSuchCall() | Rejected() if here.tried_s >= here.patience.unsure_person_s:
            return Refuse(Failed(Reason.START_UNSURE))  # OpenHands answers, but never with what shows it
        case NotFound():  # a candidate does not show its message yet
            return Retry(at=next_look(here.row.tried_at or here.row.created_at, here.moment, here.patience))
        case _:
            return None


def _check(error: OpenHandsError | None, here: Situation) -> Step | None:
    if isinstance(error, CannotTell) or here.tried_s >= here.patience.unsure_person_s:
        return Ask()
    if isinstance(error, Asleep):  # only a message that surely did not arrive wakes it
        return Retry(at=here.after(here.patience.poll_s))
    return None


def _send(error: OpenHandsError | None, here: Situation) -> Step | None:
    match error:
        case Unsure():
            return Retry(at=here.after(here.patience.poll_s))
        case Asleep():
            return Wake() if here.row.attempts < WAKES else GiveBack(words.cannot_wake())
        case NotFound() | Archived() if here.row.attempts < MISSES:
            return _perhaps_gone(here)
        case NotFound() if here.run.state not in lifecycle.ENDED:  # polls still show it
            return GiveBack(words.follow_up_given_up(here.page))
        case NotFound() | Archived():
            return Lost()
        case AtCapacity():
            at = here.after(here.patience.full_s)
            return Retry(at=at, effort=Effort.UNDONE, say=words.no_room_to_wake())
        case OutOfBudget():
            return GiveBack(words.out_of_budget())
        case Rejected():
            return GiveBack(words.follow_up_rejected(error.words))
        case NoSuchCall():
            return GiveBack(words.follow_up_unsupported(here.page), once=NO_MESSAGES)
        case _:
            return None


def _run(error: OpenHandsError | None, here: Situation) -> Step:
    """Try until the agent begins; the card says all the while that the message waits. None: it did not begin yet."""
    match error:
        case NotFound() | Archived() | NoSuchCall() | Rejected():  # the next look shows what became of it
            return Done()
        case _:
            return Retry(at=here.after(here.patience.full_s), unreachable=Unreachable(why=Obstacle.FULL))


def _wake(error: OpenHandsError | None, here: Situation) -> Step | None:
    at = here.after(here.patience.full_s)
    match here.row.kind, error:
        case OutboxKind.SEND, AtCapacity():
            return Retry(at=at, effort=Effort.UNDONE, say=words.no_room_to_wake())
        case _, OutOfBudget():
            return GiveBack(words.out_of_budget())
        case OutboxKind.SEND, NoSuchCall():
            return GiveBack(words.follow_up_unsupported(here.page), once=NO_MESSAGES)
        case OutboxKind.SEND, NotFound() | Archived() | Rejected() if here.row.attempts < WAKES - 1:
            return _perhaps_gone(here)
        case OutboxKind.SEND, NotFound() | Archived() | Rejected():
            return Lost()
        case _, AtCapacity():
            return Retry(at=at, observe=True, say=words.no_room_to_resume())
        case _:
            return None


def _perhaps_gone(here: Situation) -> Retry:
    """Try again: one answer may be wrong, so a conversation is gone only if it stays away for minutes."""
    return Retry(at=here.backoff(), effort=Effort.COUNTED, observe=here.run.state not in lifecycle.ENDED)


def _resume(error: OpenHandsError | None, here: Situation) -> Step | None:
    match error:
        case Asleep() | Unsure() if here.row.attempts >= WAKES:
            return GiveBack(words.cannot_resume(here.run))
        case Asleep() | Unsure():  # repeating it is safe
            waking = Unreachable(why=Obstacle.WAKING) if isinstance(error, Asleep) else None
            return Retry(at=here.backoff(), effort=Effort.COUNTED, observe=True, unreachable=waking)
        case AtCapacity():
            at = here.after(here.patience.full_s)
            return Retry(at=at, effort=Effort.UNDONE, say=words.no_room_to_resume())
        case NotFound() | Archived() if here.row.attempts < MISSES:
            return _perhaps_gone(here)
        case NotFound() | Archived():
            return Lost()
        case OutOfBudget():
            return GiveBack(words.out_of_budget())
        case NoSuchCall():
            return GiveBack(words.no_resume_here())
        case Rejected():
            return GiveBack(words.cannot_resume(here.run))
        case _:
            return None


def _decide(error: OpenHandsError | None, here: Situation) -> Step | None:
    match error:
        case None | Unsure() if here.row.attempts >= DECISIONS:
            return GiveBack(words.decision_lost(here.page))
        case None | Unsure():  # accepted at the instant the agent begins to wait, it may have had no effect
            return Retry(at=here.after(here.patience.decision_settled_s), observe=True)
        case AtCapacity():  # it waits on, and so does the decision
            at = here.after(here.patience.full_s)
            return Retry(at=at, effort=Effort.UNDONE, say=words.no_room_to_resume())
        case Asleep() if here.age_s >= here.patience.unsure_person_s:
            return GiveBack(words.decision_lost(here.page))
        case Asleep():
            return Wake()
        case NotFound() | Archived() if here.row.attempts >= MISSES:
            return GiveBack(words.decision_lost(here.page))
        case NotFound() | Archived():  # the next look shows what became of it
            return Retry(at=here.backoff(), effort=Effort.COUNTED, observe=True)
        case NoSuchCall() | Rejected():
            return GiveBack(words.cannot_decide(here.page))
        case _ if _only_the_agent_is_out_of_reach(here):
            return GiveBack(words.decision_lost(here.page))
        case _:
            return None


def _only_the_agent_is_out_of_reach(here: Situation) -> bool:
    """Return whether decisions can't be passed on though OpenHands answers, as when a firewall hides its agents."""
    long_s, seen_s = here.patience.unreachable_shown_s, (here.moment - here.run.watch.observed_at).total_seconds()
    return here.age_s >= long_s and seen_s < long_s / 2


def _stop(error: OpenHandsError | None, here: Situation) -> Step | None:
    """Repeat an interrupt until an observation shows its effect; a run shown as stopped is not polled."""
    woken = here.run.state is RunState.STOPPED
    match error:
        case None | Unsure() if here.row.attempts >= STOPS:
            return Done() if woken else GiveBack(words.cannot_stop(here.page))
        case None | Unsure():  # an interrupt has no effect just as the agent turns to something else
            at = max(here.after(STOP_SHOWS_S), here.backoff())
            return Retry(at=at, effort=Effort.COUNTED, observe=not woken)
        case NotFound() if woken:
            return Done("gone")
        case NotFound() if here.row.attempts >= MISSES:
            return GiveBack(words.cannot_stop(here.page))
        case NotFound():
            return Retry(at=here.backoff(), effort=Effort.COUNTED, observe=True)
        case NoSuchCall() | Rejected() | Archived():
            return GiveBack(words.cannot_stop(here.page))
        case _:
            return None


def _stop_old(error: OpenHandsError | None, here: Situation) -> Step:
    """Repeat it for about a minute; the new start waits for that, and no longer."""
    match error:
        case None | NotFound() | Archived():
            return Done()
        case _ if isinstance(error, NoSuchCall | Rejected) or here.row.attempts >= STOPS:
            return GiveBack(words.old_not_stopped())
        case _:
            return Retry(at=here.backoff(), effort=Effort.COUNTED)


def _outage(call: Call, error: OpenHandsError | None, here: Situation) -> Retry:
    """Retry, with growing pauses, a call that did nothing or a look that failed; after a while the card shows it.

    A server that asks for a longer wait than the slowest of these is asked all the same, so that people hear of it.
    """
    asked_s = error.retry_after_s if isinstance(error, TooFast) else 0.0
    why = _obstacle(error)
    shown_s = here.patience.unreachable_shown_s
    shown = why is Obstacle.KEY or here.age_s >= shown_s
    first = shown_s <= here.age_s < shown_s * 1.25  # since each pause is a quarter of the age
    pause_s = min(here.patience.retry_slowest_s, max(here.patience.retry_first_s, here.age_s / 4, asked_s))
    return Retry(
        at=here.after(pause_s),
        effort=Effort.UNDONE if call is Call.START else Effort.KEPT,
        observe=here.row.kind is OutboxKind.DECIDE,
        unreachable=Unreachable(why=why, cause=str(error or "") if first else "") if shown else None,
    )


def _obstacle(error: OpenHandsError | None) -> Obstacle:
    match error:
        case Unauthorised():
            return Obstacle.KEY
        case TooFast():
            return Obstacle.BUSY
        case Moved():
            return Obstacle.MOVED
        case _:
            return Obstacle.AWAY
