"""The life of a run: the only place that decides a state, from what OpenHands shows and what people do.

Everything here is pure: a run goes in, and comes out changed together with the effects of the change.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from bot.model import (
    Api,
    ConversationId,
    Effect,
    Failed,
    Finish,
    Last,
    Origin,
    Phase,
    Reason,
    Run,
    RunState,
    Said,
    Seen,
    Started,
    UserId,
    Waiting,
    Wants,
)

FRESH = timedelta(seconds=5)
"""So soon after a message the status may still be that of the turn before."""
PASSING = timedelta(seconds=5)
"""Idle is on the way from one state to the next; only what lasts means that nobody works."""
WAKING = timedelta(minutes=2)
"""How long a sandbox may take to wake up."""
WORDS_SETTLED = timedelta(seconds=35)
"""Events of an error may be readable so late."""
SILENCE = timedelta(minutes=2)
"""A sandbox that says nothing of its agent, or an end without readable words, is taken as it is after so long."""

ENDED = frozenset({RunState.DONE, RunState.FAILED, RunState.STOPPED, RunState.LOST, RunState.CANCELLED})
TOLD = frozenset({RunState.WAITING, RunState.PAUSED, RunState.DONE, RunState.FAILED, RunState.STOPPED, RunState.LOST})
"""States in which a person must look: one new message in the thread."""
NOTIFIED = frozenset({RunState.WAITING, RunState.DONE, RunState.FAILED, RunState.LOST})
"""States the team hears of."""
SETTLED = frozenset({RunState.DONE, RunState.FAILED, RunState.LOST})
"""Ends that are shown on the request itself."""

EXISTS = frozenset(Phase) - {Phase.STARTING, Phase.START_FAILED, Phase.GONE, Phase.MISSING, Phase.UNKNOWN}
"""Phases of a conversation that people can open."""

Changed = tuple[Run, tuple[Effect, ...]]


def advance(run: Run, seen: Seen) -> Changed:
    """Decide what one look at the conversation changes. Safe to repeat: a late or equal answer has no effects.

    No state is final: a follow-up may wake each. The server's own times are not used, they go backwards.
    """
    if seen.asked_at <= run.seen_at:
        return run, ()
    looked = replace(
        run,
        seen_at=seen.asked_at,
        phase=seen.phase,
        cost=max(run.cost, seen.cost or 0.0),
        pull_requests=merged(run.pull_requests, seen.pull_requests),
        progress=seen.progress or run.progress,
        blind=seen.blind or run.blind,
        start_task_id=seen.start_task_id or run.start_task_id,
        started_at=run.started_at or (seen.asked_at if seen.phase in EXISTS else None),
        unreachable_since=None,
        key_refused=False,
        unsettled_since=(run.unsettled_since or seen.asked_at) if unsettled(seen) else None,
    )
    if run.state in ENDED and seen.phase is not Phase.WORKING:
        return looked, ()
    after, effects = changed(run, judge(looked, seen), seen.asked_at)
    if seen.ending is not None and seen.ending == run.ending:
        return after, tuple(effect for effect in effects if effect is Effect.RELEASE)  # this end was told before
    return replace(after, ending=seen.ending or run.ending), effects


def unsettled(seen: Seen) -> bool:
    """Tell whether a look may mean several things, and time has to tell which."""
    match seen.phase:
        case Phase.UNCLEAR | Phase.IDLE:
            return True
        case Phase.ENDED | Phase.WANTS_APPROVAL | Phase.ERROR | Phase.STUCK:
            return seen.last is None
        case _:
            return False


def judge(run: Run, seen: Seen) -> Run:
    """Choose the state that a look at the conversation shows, on a run that has the look's other news already."""
    fresh = seen.asked_at - run.turn_at < FRESH
    unsettled_for = seen.asked_at - (run.unsettled_since or seen.asked_at)
    match seen.phase, seen.last:
        case Phase.WORKING, _:
            return at(run, RunState.WORKING, answer=run.answer if run.state is RunState.WORKING else "")
        case ((Phase.ENDED | Phase.WANTS_APPROVAL | Phase.ERROR), Finish() | Said() | Wants() | Failed() as last):
            return spoken(run, last)
        case (Phase.ASLEEP, Finish() | Said() | Failed() as last) | (Phase.GONE | Phase.MISSING, Finish() as last):
            return spoken(run, last)  # it ended before, while nobody looked
        case Phase.ENDED, None:  # nothing newer than our message: old news, or its events are still on their way
            return at(run, RunState.DONE, reason=Reason.NO_WORDS) if unsettled_for >= SILENCE else run
        case Phase.WANTS_APPROVAL, None:
            return at(run, RunState.WAITING, waiting=Waiting.APPROVAL) if unsettled_for >= SILENCE else run
        case Phase.ERROR, None:
            return failed(run, Failed(Reason.AGENT_ERROR)) if unsettled_for >= WORDS_SETTLED else run
        case Phase.STUCK, _:
            return run if fresh else failed(run, Failed(Reason.STUCK))
        case Phase.START_FAILED, last:
            return failed(run, last if isinstance(last, Failed) else Failed(Reason.START_FAILED))
        case Phase.BROKEN, _:
            return failed(run, Failed(Reason.SANDBOX_BROKEN))
        case Phase.PAUSED, _:
            return run if fresh else halted(run, None)
        case Phase.IDLE, _:
            return halted(run, None) if run.stop_by or unsettled_for >= PASSING else run
        case Phase.ASLEEP, _:
            waking = seen.asked_at - run.turn_at < WAKING and run.stop_by is None
            return run if waking or run.state is RunState.WAITING else halted(run, Reason.ASLEEP)
        case ((Phase.GONE | Phase.MISSING), _):
            return at(run, RunState.LOST, reason=Reason.GONE)
        case Phase.UNCLEAR, _:
            return at(run, RunState.LOST, reason=Reason.SILENT) if unsettled_for >= SILENCE else run
        case _:  # still starting, or a word newer than this code
            return run


def spoken(run: Run, last: Last) -> Run:
    """Read the agent's last words of this turn."""
    match last:
        case Finish(words):
            return at(run, RunState.DONE, answer=words or run.answer)
        case Said(words):
            kind = Waiting.QUESTION if words.rstrip(" *_\n)").endswith("?") else Waiting.ANSWER
            return at(run, RunState.WAITING, waiting=kind, answer=words)
        case Wants(tool=tool, command=command, risk=risk):
            wish = " · ".join(part for part in (tool, command, f"risk {risk.lower()}" if risk else "") if part)
            return at(run, RunState.WAITING, waiting=Waiting.APPROVAL, detail=wish)
        case Failed():
            return failed(run, last)
        case _:
            assert_never(last)


def failed(run: Run, why: Failed) -> Run:
    return at(run, RunState.FAILED, reason=why.reason, detail=why.detail)


def halted(run: Run, reason: Reason | None) -> Run:
    """Nobody works: as asked, or somebody else's doing."""
    if run.stop_by is not None:
        return at(run, RunState.STOPPED)
    return at(run, RunState.PAUSED, reason=reason)


def at(
    run: Run,
    state: RunState,
    *,
    waiting: Waiting | None = None,
    reason: Reason | None = None,
    detail: str = "",
    answer: str | None = None,
) -> Run:
    return replace(
        run,
        state=state,
        waiting=waiting,
        reason=reason,
        detail=detail,
        answer=run.answer if answer is None else answer,
    )


def merged(known: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    return known + tuple(link for link in new if link not in known)


def changed(before: Run, after: Run, now: datetime) -> Changed:
    """Add what a change of state brings: times, and who is told."""
    if before.turn == after.turn and shown(before) == shown(after):
        return after, ()
    after = replace(after, news_at=now, ended_at=now if after.state in ENDED else None)
    if after.state is not RunState.WORKING:
        after = replace(after, progress="")
    effects: list[Effect] = []
    if after.state in TOLD:
        effects.append(Effect.TELL)
    if after.state in NOTIFIED:
        effects.append(Effect.NOTIFY)
    if after.state in SETTLED:
        effects.append(Effect.REACT)
    if holds(before) and not holds(after):
        effects.append(Effect.RELEASE)
    return after, tuple(effects)


def shown(run: Run) -> tuple[object, ...]:
    """Give what must differ for a look to be news: where a run waits, also what it said or wants."""
    said = (run.answer, run.detail) if run.state is RunState.WAITING else ()
    return (run.state, run.waiting, run.reason, *said)


def holds(run: Run) -> bool:
    """Tell whether follow-ups wait: before the conversation is ready, or when a message would count as approval."""
    return run.state in (RunState.NEEDS_REPOSITORY, RunState.STARTING) or run.waiting is Waiting.APPROVAL


# --- what people do, and what becomes of our own calls -----------------------------------------------------------


def choose(
    run: Run, repository: str | None, branch: str | None, conversation: ConversationId, now: datetime
) -> Changed:
    """Answer the run's question for a repository; None: it needs none."""
    after = replace(
        run,
        repository=repository,
        branch=branch or run.branch,
        origin=Origin.NONE if repository is None else Origin.CHOSEN,
        candidates=(),
        conversation_id=conversation,
        turn_at=now,
    )
    return changed(run, at(after, RunState.STARTING), now)


def stop(run: Run, by: UserId, now: datetime) -> Changed:
    """Stop as a person asked: at once where nothing runs, else as soon as OpenHands shows it. The first to ask is named."""
    asked = replace(run, stop_by=run.stop_by or by, stop_at=now)
    match run.state:
        case RunState.NEEDS_REPOSITORY:
            return changed(run, at(asked, RunState.CANCELLED), now)
        case RunState.PAUSED:
            return changed(run, at(asked, RunState.STOPPED), now)
        case RunState.WAITING if run.waiting is not Waiting.APPROVAL:
            return changed(run, at(asked, RunState.STOPPED), now)
        case RunState.STARTING | RunState.WORKING | RunState.WAITING:
            return asked, ()
        case RunState.DONE | RunState.FAILED | RunState.STOPPED | RunState.LOST | RunState.CANCELLED:
            return run, ()
        case _:
            assert_never(run.state)


def stop_later(run: Run, by: UserId, now: datetime) -> Run:
    """Stop an ended run that a message on its way is about to wake."""
    return replace(run, stop_by=by, stop_at=now)


def cancel(run: Run, by: UserId, now: datetime) -> Changed:
    """End a run whose start has not gone out."""
    return changed(run, at(replace(run, stop_by=by, stop_at=now), RunState.CANCELLED), now)


def again(run: Run, conversation: ConversationId, now: datetime) -> Changed:
    """Try the start once more, in a new conversation."""
    after = replace(
        run,
        attempt=run.attempt + 1,
        turn=run.turn + 1,
        turn_at=now,
        turn_after=None,
        conversation_id=conversation,
        start_task_id=None,
        started_at=None,
        phase=None,
        stop_by=None,
        stop_at=None,
        unsettled_since=None,
        seen_at=now,
    )
    return changed(run, at(after, RunState.STARTING, answer=""), now)


def nowhere(run: Run, now: datetime) -> Changed:
    """End a run whose card can't be posted: nothing starts where the bot can't speak."""
    return changed(run, at(replace(run, card_gone=True), RunState.CANCELLED), now)


def restartable(run: Run) -> bool:
    """Tell whether the run has no conversation to go on with, so that only a new attempt helps."""
    return run.state is RunState.LOST or (run.state is RunState.FAILED and run.reason in NEVER_STARTED)


NEVER_STARTED = frozenset(
    {
        Reason.START_FAILED,
        Reason.START_STUCK,
        Reason.REPOSITORY,
        Reason.KEY_REFUSED,
        Reason.AT_CAPACITY,
        Reason.START_REJECTED,
        Reason.START_UNREADABLE,
        Reason.START_UNSURE,
        Reason.MODEL_UNSUPPORTED,
        Reason.SANDBOX_BROKEN,
    }
)


def started(run: Run, api: Api, it: Started, now: datetime) -> Changed:
    """Take in that OpenHands has the task."""
    after = replace(
        run,
        api=api,
        conversation_id=it.conversation_id,
        start_task_id=it.start_task_id,
        unreachable_since=None,
        key_refused=False,
        next_poll_at=now,
    )
    return changed(run, after, now)


def not_started(run: Run, why: Failed, now: datetime) -> Changed:
    """Take in that the task will not run."""
    return changed(run, failed(within_reach(run), why), now)


def within_reach(run: Run) -> Run:
    """Take in that nothing is tried any more, so that nothing is out of reach."""
    return replace(run, unreachable_since=None, key_refused=False)


def sent(run: Run, anchor: str | None, went_out: datetime, now: datetime) -> Changed:
    """Take in that a follow-up reached the agent: a new turn, of which everything so far is old news.

    A stop asked for while the message was on its way still holds; an older one is over.
    """
    overtaken = run.stop_at is not None and run.stop_at >= went_out
    after = replace(
        run,
        turn=run.turn + 1,
        turn_at=now,
        turn_after=anchor,
        seen_at=now,
        phase=None,
        stop_by=run.stop_by if overtaken else None,
        stop_at=run.stop_at if overtaken else None,
        unsettled_since=None,
        unreachable_since=None,
        key_refused=False,
        next_poll_at=now,
    )
    return changed(run, at(after, RunState.WORKING, answer=""), now)


def out_of_reach(run: Run, since: datetime, *, key_refused: bool) -> Run:
    """Show on the card that OpenHands can't be asked, and whether that is because of the bot's key."""
    return replace(run, unreachable_since=run.unreachable_since or since, key_refused=key_refused)


def gone(run: Run, now: datetime) -> Changed:
    """Take in that the conversation can't be woken any more."""
    return changed(run, at(run, RunState.LOST, reason=Reason.GONE), now)


def woken(run: Run, now: datetime) -> Changed:
    """Take in that a sleeping conversation runs again: it may go on by itself before the message arrives."""
    after = replace(run, phase=None, next_poll_at=now, seen_at=now, turn_at=now)
    if run.reason is Reason.ASLEEP:
        after = at(after, RunState.WORKING)
    return changed(run, after, now)
