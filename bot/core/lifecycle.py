"""The life of a run: the only place that decides a state, from what OpenHands shows and what people do.

Everything here is pure: functions take a run and return it changed, with the effects of the change.
"""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar, assert_never

from bot.core.model import (
    LIVE,
    Action,
    Api,
    ApprovalRequest,
    Choice,
    ConversationId,
    Effect,
    Failed,
    File,
    Finish,
    FollowUp,
    Incoming,
    Last,
    Observation,
    Obstacle,
    Origin,
    Person,
    Phase,
    Place,
    Reason,
    Run,
    RunId,
    RunState,
    Said,
    Start,
    Started,
    UserId,
    Waiting,
    Watch,
)
from bot.core.vocabulary import BUTTONS, About

FRESH = timedelta(seconds=5)
"""For this long after a message, the status may still be the previous turn's."""
PASSING = timedelta(seconds=5)
"""A conversation is also idle between two states; nobody works only if it stays idle this long."""
WAKING = timedelta(minutes=5)
"""How long a sandbox may take to wake up."""
WORDS_SETTLED = timedelta(seconds=35)
"""How late the events of an error may become readable."""
SILENCE = timedelta(minutes=2)
"""After this long, an end without readable words is accepted as it is."""
CONFIRMED = timedelta(minutes=5)
"""A conversation is lost if it was not there, or silent, in every look for this long: one look may be wrong."""

ENDED = frozenset({RunState.DONE, RunState.FAILED, RunState.STOPPED, RunState.LOST, RunState.CANCELLED})
TOLD = frozenset(
    {
        RunState.NEEDS_REPOSITORY,
        RunState.WAITING,
        RunState.PAUSED,
        RunState.DONE,
        RunState.FAILED,
        RunState.STOPPED,
        RunState.LOST,
    }
)
"""States in which a person must look: one new message in the thread."""
NOTIFIED = frozenset({RunState.WAITING, RunState.DONE, RunState.FAILED, RunState.LOST})
"""States the team hears of."""
SETTLED = frozenset({RunState.DONE, RunState.FAILED, RunState.LOST})
"""End states that are shown on the request itself."""
OCCUPIES = frozenset({RunState.STARTING, RunState.WORKING})
"""States that take a slot of the account."""
RESUMABLE = frozenset({RunState.PAUSED, RunState.FAILED, RunState.STOPPED})
NOT_BEGUN = frozenset({RunState.NEEDS_REPOSITORY, RunState.NEEDS_GO, RunState.QUEUED})
"""States in which nothing has gone out for this attempt: a stop cancels the run at once."""

NOWHERE = frozenset(
    {Phase.STARTING, Phase.START_FAILED, Phase.GONE, Phase.MISSING, Phase.UNCLEAR, Phase.BROKEN, Phase.UNKNOWN}
)
"""Phases that show no agent: a lost run stays lost."""
TURN_OVER = frozenset({Phase.ENDED, Phase.ASLEEP})
EXISTS = frozenset(Phase) - {Phase.STARTING, Phase.START_FAILED, Phase.GONE, Phase.MISSING, Phase.UNKNOWN}
"""Phases of a conversation that people can open."""

WORDS_DECIDE = frozenset(
    {Phase.ENDED, Phase.WANTS_APPROVAL, Phase.ERROR, Phase.STUCK, Phase.ASLEEP, Phase.GONE, Phase.MISSING}
)
"""Phases whose meaning is in the events: a run that sleeps or is gone may have ended before, between two looks."""
MAY_HAVE_ENDED = frozenset({RunState.WORKING, RunState.WAITING, RunState.PAUSED})
"""States in which a turn may have ended since the last look: a message must not go out before that end is told."""

GOES_FURTHER = re.compile(
    r"(?:(?:next|now|then|after that|afterwards),? +)?(?:i(?:'ll| will| am going to|'m going to)|let me) +(?:now |then |next )?"
    r"(?!(?:be|gladly|happily|wait|await|leave|stop|keep|need|know|not|never|only|also be)\b)(?!.*\bif\b)\w[^?]*$",
    re.IGNORECASE,
)
"""A last sentence such as "Next I will run the tests."; not "Let me know …" or "I'll be glad to …"."""

MOST_SUGGESTED = 5
"""So many repositories get a button; a person may name any other."""

Changed = tuple[Run, tuple[Effect, ...]]
Text = TypeVar("Text", bound=str)


def advance(run: Run, seen: Observation) -> Changed:
    """Decide what one observation of the conversation changes. Idempotent: a late or equal one has no effects.

    No state is final: a follow-up may wake a run from each. The server's own times are not used: they go backwards.
    """
    # An old answer, or a run that has no conversation yet, or none any more.
    if seen.asked_at <= run.watch.observed_at or run.state in NOT_BEGUN:
        return run, ()
    ended = [one for one, _ in overtaken(run, seen)]
    looked = replace(
        run,
        cost=max(run.cost, run.cost_before + (seen.cost or 0.0)),
        pull_requests=merged(run.pull_requests, seen.pull_requests),
        progress=seen.progress or run.progress,
        blind=seen.blind or run.blind,
        start_task_id=seen.start_task_id or run.start_task_id,
        started_at=run.started_at or (seen.asked_at if seen.phase in EXISTS else None),
        ending=seen.overtaken[-1].id if seen.overtaken else run.ending,
        told_team=outcome(ended[-1]) if ended else run.told_team,
        first_answer=ended[0].first_answer if ended else run.first_answer,
        watch=replace(
            run.watch,
            observed_at=seen.asked_at,
            phase=seen.phase,
            unreachable_since=None,
            key_refused=False,
            ambiguous_since=(run.watch.ambiguous_since or seen.asked_at) if unsettled(seen) else None,
        ),
    )
    if figures(looked) != figures(run):
        looked = replace(looked, watch=replace(looked.watch, heard_at=seen.asked_at, silence_told_at=None))
    if run.state in ENDED and not comes_back(run, seen):
        return looked, ()
    told_before = seen.ending is not None and seen.ending == run.ending
    if told_before and seen.asked_at - run.turn_at < FRESH:  # the status is older than the resume
        return looked, ()
    after, effects = changed(run, judge(looked, seen, run.watch.phase), seen.asked_at)
    if told_before:
        return after, tuple(effect for effect in effects if effect is Effect.RELEASE)
    return replace(after, ending=seen.ending or looked.ending), effects


def overtaken(run: Run, seen: Observation) -> tuple[Changed, ...]:
    """Return the run as each turn left it whose end a message overtook, so that it is still to be told, oldest first.

    Who began those turns is not known any more, so the requester is called.
    """
    if seen.asked_at <= run.watch.observed_at or run.state in NOT_BEGUN:
        return ()
    left = replace(run, pull_requests=merged(run.pull_requests, seen.pull_requests), turn_by=())
    ended: list[Changed] = []
    for one in seen.overtaken:
        if one.id != run.ending:
            left, news = for_team(spoken(left, one.last))
            ended.append((left, (Effect.TELL, *news)))
    return tuple(ended)


def for_team(run: Run) -> Changed:
    """Let the team hear of a run's outcome, unless it was the last it heard."""
    if run.state not in NOTIFIED or outcome(run) == run.told_team:
        return run, ()
    return replace(run, told_team=outcome(run)), (Effect.NOTIFY,)


def begins_anew(run: Run) -> bool:
    """Return whether a message began the run's turn and nobody looked since."""
    return run.turn > 1 and run.watch.phase is None


def reads_back(run: Run, seen: Observation) -> bool:
    """Return whether to read events back to the last end that was told: one may have been overtaken by a message."""
    return run.turn > 1 and (begins_anew(run) or seen.phase is not Phase.WORKING)


def figures(run: Run) -> tuple[object, ...]:
    """Return what changes, besides the state, while an agent works; a change is a sign of life."""
    return run.watch.phase, run.cost, run.pull_requests, run.progress


def unsettled(seen: Observation) -> bool:
    """Return whether an observation is ambiguous, so that only time shows what it means."""
    match seen.phase:
        case Phase.UNCLEAR | Phase.IDLE | Phase.GONE | Phase.MISSING:
            return True
        case Phase.ENDED | Phase.WANTS_APPROVAL | Phase.ERROR | Phase.STUCK:
            return seen.last is None
        case (
            Phase.STARTING
            | Phase.START_FAILED
            | Phase.WORKING
            | Phase.PAUSED
            | Phase.ASLEEP
            | Phase.BROKEN
            | Phase.UNKNOWN
        ):
            return False
        case _:
            assert_never(seen.phase)


def comes_back(run: Run, seen: Observation) -> bool:
    """Return whether an ended run turns out to be at work, or to have ended otherwise than was told.

    A lost run was only out of sight; a failed one may have been continued in OpenHands and have ended since.
    """
    if seen.phase is Phase.WORKING:
        return True
    if run.state is RunState.LOST:
        return seen.phase not in NOWHERE
    return run.state is RunState.FAILED and seen.phase in TURN_OVER and isinstance(seen.last, Finish | Said)


def watched_after_end(run: Run) -> bool:
    """Return whether an ended run may come back: its conversation may be there, and nobody asked for its end."""
    return run.state is RunState.LOST or (run.state is RunState.FAILED and run.reason not in NOTHING_STARTED)


def took(run: Run, now: datetime) -> timedelta:
    """Return how long the run's turns took together, or take so far; the hours between them do not count."""
    since = now - run.watch.news_at if run.state in OCCUPIES else timedelta(0)
    return timedelta(seconds=run.worked_s) + since


def waits_for_end(run: Run) -> tuple[UserId, ...]:
    """Return who is called when the run's turn ends."""
    return run.turn_by or (run.requester,)


def outcome(run: Run) -> str:
    """Return what the team is told anew only if it differs."""
    return " ".join(filter(None, [run.state, run.waiting, *(["with pull request"] * len(run.pull_requests))]))


def rests(run: Run, now: datetime, after: timedelta) -> bool:
    """Return whether a run has answered and asked nothing for so long that only people can have news of it."""
    answered = run.state is RunState.WAITING and run.waiting is Waiting.ANSWER
    return answered and run.doubtful_follow_up is None and now - run.watch.news_at >= after


def may_live(run: Run) -> bool:
    """Return whether an agent may be at work in the run's conversation although the run has ended."""
    return run.state is RunState.LOST or (
        run.state is RunState.FAILED and run.reason in (Reason.START_UNSURE, Reason.START_STUCK)
    )


def words_expected(run: Run, now: datetime) -> bool:
    """Return whether this turn is over, and its words are on their way: a message would overtake them.

    Right after our own message the end is more likely the previous turn's.
    """
    return run.state is RunState.WORKING and run.watch.ambiguous_since is not None and now - run.turn_at >= FRESH


def judge(run: Run, seen: Observation, before: Phase | None) -> Run:
    """Return the run in the state that an observation shows; it has the observation's other news already.

    before: the phase of the previous observation; None if there was none since a message or a wake-up.
    """
    fresh = seen.asked_at - run.turn_at < FRESH
    unsettled_for = seen.asked_at - (run.watch.ambiguous_since or seen.asked_at)
    match seen.phase, seen.last:
        case [Phase.ENDED | Phase.IDLE | Phase.PAUSED | Phase.ERROR | Phase.STUCK, None] if waits_for_room(run):
            return run  # it has not begun with the message
        case [Phase.WORKING, _]:
            return enter_state(awake(run), RunState.WORKING, answer=run.answer if run.state is RunState.WORKING else "")
        case (
            (Phase.ENDED | Phase.WANTS_APPROVAL | Phase.ERROR),
            Finish() | Said() | ApprovalRequest() | Failed() as last,
        ):
            return spoken(run, last)
        case (Phase.ASLEEP, Finish() | Said() | Failed() as last) | (Phase.GONE | Phase.MISSING, Finish() as last):
            return spoken(run, last)  # it had ended before, unobserved
        case [Phase.ENDED, None]:  # nothing newer than our message: old news, or its events are still on their way
            return enter_state(run, RunState.DONE, reason=Reason.NO_WORDS) if unsettled_for >= SILENCE else run
        case [Phase.WANTS_APPROVAL, None]:
            return enter_state(run, RunState.WAITING, waiting=Waiting.APPROVAL) if unsettled_for >= SILENCE else run
        case [Phase.ERROR, None]:
            return failed(run, Failed(Reason.AGENT_ERROR)) if unsettled_for >= WORDS_SETTLED else run
        case [Phase.STUCK, _]:
            return run if fresh else failed(run, Failed(Reason.STUCK))
        case [Phase.START_FAILED, last]:
            return failed(run, last if isinstance(last, Failed) else Failed(Reason.START_FAILED))
        case [Phase.BROKEN, _]:
            return failed(run, Failed(Reason.SANDBOX_BROKEN))
        case [Phase.PAUSED, _]:
            return run if fresh else halted(run, None)
        case [Phase.IDLE, _]:
            return halted(run, None) if run.stop_by or unsettled_for >= PASSING else run
        case [Phase.ASLEEP, _]:
            asleep_since = before in (None, Phase.ASLEEP)  # else it was awake meanwhile, and has been put to sleep
            waking = asleep_since and seen.asked_at - run.turn_at < WAKING and run.stop_by is None
            return run if waking or waits_asleep(run) else halted(run, Reason.ASLEEP)
        case ((Phase.GONE | Phase.MISSING | Phase.UNCLEAR), _) if unsettled_for >= CONFIRMED:
            return enter_state(run, RunState.LOST, reason=Reason.SILENT if seen.phase is Phase.UNCLEAR else Reason.GONE)
        case _:  # still starting, or a word newer than this code: it changes nothing
            return run


def waits_for_room(run: Run) -> bool:
    """Return whether the agent server keeps a message that the agent has not begun with, and nobody wants it stopped."""
    return run.watch.call_waits_why is Obstacle.FULL and run.state is RunState.WORKING and run.stop_by is None


def waits_asleep(run: Run) -> bool:
    """Return whether a run still waits for a person while its sandbox sleeps. V0 then forgets what it wanted."""
    forgotten = run.api is Api.V0 and run.waiting is Waiting.APPROVAL
    return run.state is RunState.WAITING and run.stop_by is None and not forgotten


def awake(run: Run) -> Run:
    """Clear a stop that is over: the run ended by it, or was resumed since, which begins a new turn."""
    if run.resume_by is not None:
        return replace(run, turn=run.turn + 1, turn_by=(run.resume_by,), stop_by=None, stop_at=None)
    ended_by_it = run.stop_at is not None and run.ended_at is not None and run.stop_at <= run.ended_at
    ended_by_it = ended_by_it and not may_live(run)  # nothing ended it: it was only out of sight
    return replace(run, stop_by=None, stop_at=None) if ended_by_it else run


def spoken(run: Run, last: Last) -> Run:
    """Return the run in the state that the agent's last words of this turn mean."""
    match last:
        case Finish(words, None) if goes_further(words):
            return enter_state(run, RunState.WAITING, waiting=Waiting.ANSWER, answer=words)
        case Finish(words, reason):
            done = enter_state(run, RunState.DONE, reason=reason, answer=words or run.answer)
            return replace(done, first_answer=run.first_answer or done.answer)
        case Said(words):
            kind = Waiting.QUESTION if words.rstrip(" *_\n)").endswith("?") else Waiting.ANSWER
            first = run.first_answer or (words if kind is Waiting.ANSWER else "")
            return replace(enter_state(run, RunState.WAITING, waiting=kind, answer=words), first_answer=first)
        case ApprovalRequest(action_id=action_id, tool=tool, command=command, risk=risk, whole=whole):
            head = " · ".join(part for part in (tool, f"the agent rates it {risk.lower()}" if risk else "") if part)
            wish = "\n".join(part for part in (head, command) if part)
            return enter_state(
                run, RunState.WAITING, waiting=Waiting.APPROVAL, detail=wish, action=action_id if whole else None
            )
        case Failed():
            return failed(run, last)
        case _:
            assert_never(last)


def goes_further(words: str) -> bool:
    """Return whether an agent's last sentence says what it does next, although it has ended: it is not done then."""
    last = re.split(r"(?<=[.!?:])\s+|\n", words.strip(" *_\n"))[-1]
    return GOES_FURTHER.match(last.strip(" *_-•").replace("’", "'")) is not None


def failed(run: Run, why: Failed) -> Run:
    """Fail the run; one whose repository can't be opened asks for another one."""
    if why.reason is Reason.REPOSITORY and run.repository is not None:
        return replace(enter_state(run, RunState.NEEDS_REPOSITORY, reason=why.reason), candidates=())
    return enter_state(run, RunState.FAILED, reason=why.reason, detail=why.detail)


def halted(run: Run, reason: Reason | None) -> Run:
    """Stop or pause a run on which nobody works: as asked, since its action was rejected, or by somebody else."""
    if run.stop_by is not None:
        return enter_state(run, RunState.STOPPED)
    if run.watch.phase is Phase.IDLE and (run.approved is False or run.reason is Reason.REJECTED):
        return enter_state(run, RunState.PAUSED, reason=Reason.REJECTED)
    return enter_state(run, RunState.PAUSED, reason=reason)


def enter_state(
    run: Run,
    state: RunState,
    *,
    waiting: Waiting | None = None,
    reason: Reason | None = None,
    detail: str = "",
    action: str | None = None,
    answer: str | None = None,
) -> Run:
    """Put a run in a state, and drop what belonged to the last one. A decision holds only for its very action."""
    same_action = action is not None and action == run.action
    return replace(
        run,
        state=state,
        waiting=waiting,
        reason=reason,
        action=action,
        resume_by=run.resume_by if state in RESUMABLE else None,
        approved=run.approved if same_action else None,
        decided_by=run.decided_by if same_action else None,
        first_approval=run.first_approval if same_action else None,
        detail=detail,
        answer=run.answer if answer is None else answer,
    )


def merged(known: tuple[Text, ...], new: tuple[Text, ...]) -> tuple[Text, ...]:
    return known + tuple(one for one in new if one not in known)


def changed(before: Run, after: Run, now: datetime) -> Changed:
    """Add what a change of state causes: times, and effects."""
    if before.turn == after.turn and shown(before) == shown(after):
        return after, ()
    after = replace(
        after,
        ended_at=now if after.state in ENDED else None,
        worked_s=took(before, now).total_seconds(),
        watch=replace(after.watch, news_at=now, heard_at=now, silence_told_at=None),
    )
    if after.state is not RunState.WORKING:
        after = replace(after, progress="")
    effects: list[Effect] = []
    if after.state in TOLD:
        effects.append(Effect.TELL)
    after, news = for_team(after)
    effects += news
    if after.state in SETTLED:
        effects.append(Effect.REACT)
    if (holds(before) and not holds(after)) or (may_live(before) and before.stop_by is not None):
        effects.append(Effect.RELEASE)
    return after, tuple(effects)


def shown(run: Run) -> tuple[object, ...]:
    """Return what must differ for an observation to be news; of a waiting run also what it said or wants."""
    said = (run.answer, run.detail, run.action) if run.state is RunState.WAITING else ()
    return (run.state, run.waiting, run.reason, *said)


def holds(run: Run) -> bool:
    """Return whether follow-ups are held: the conversation is not ready, or a message would count as approval."""
    return run.state in NOT_BEGUN or run.state is RunState.STARTING or run.waiting is Waiting.APPROVAL


def offers(run: Run) -> tuple[Action, ...]:
    """Return what a person can do now, in the order of the buttons."""
    match run.state:
        case RunState.NEEDS_GO:
            fit: tuple[Action, ...] = (Action.GO, Action.CANCEL)
        case RunState.NEEDS_REPOSITORY:
            fit = (*((Action.USE,) if usable(run) else ()), Action.NO_REPOSITORY)
            fit = (*fit, *((Action.RETRY,) if run.reason is Reason.REPOSITORY else ()), Action.CANCEL)
        case RunState.QUEUED:
            fit = (Action.CANCEL,)
        case RunState.STARTING | RunState.WORKING:
            fit = ()
        case RunState.WAITING if run.waiting is Waiting.APPROVAL:
            undecided = run.action is not None and run.approved is None and run.stop_by is None
            fit = (Action.APPROVE, Action.REJECT) if undecided else ()
        case RunState.WAITING | RunState.DONE | RunState.CANCELLED:
            fit = ()
        case RunState.PAUSED:
            fit = (Action.RESUME,)
        case RunState.FAILED:
            fit = (Action.RETRY,) if restartable(run) or run.reason is Reason.STUCK else (Action.RESUME, Action.RETRY)
        case RunState.STOPPED:
            fit = (Action.RESUME, Action.RETRY)
        case RunState.LOST:
            fit = (Action.RETRY,)
        case _:
            assert_never(run.state)
    if run.resume_by is not None:
        fit = tuple(action for action in fit if action not in (Action.RESUME, Action.RETRY))
    if not has_words(run):
        fit = tuple(action for action in fit if action is not Action.RETRY)
    if run.doubtful_follow_up is not None:  # that message goes out first, if at all
        fit = tuple(action for action in fit if action is not Action.RESUME)
    rests = run.waiting is Waiting.ANSWER
    if run.state in LIVE - NOT_BEGUN and run.stop_by is None and not rests:
        fit = (*fit, Action.STOP)
    return (*fit, Action.AGAIN, Action.LEAVE) if run.doubtful_follow_up is not None else fit


def action_for_word(run: Run, action: Action) -> Action | None:
    """Return the action that a typed word means for a run; None where it means none and is ordinary text.

    `again` means Retry where no message waits to be sent again; `retry` means Send again where Retry is not offered.
    """
    if action in (Action.STOP, Action.CANCEL):
        return Action.STOP
    others = {Action.AGAIN: Action.RETRY, Action.RETRY: Action.AGAIN}
    return next((one for one in (action, others.get(action)) if one is not None and one in offers(run)), None)


def action_for_click(run: Run, action: Action, turn: int, drawn_for: str) -> Action | None:
    """Return the action that a click means now; None where the button is outdated.

    turn: the run's when the button was drawn. drawn_for: the action or the message the button was about. A new turn
    does not outdate Stop and Cancel: whoever wants a run stopped wants it stopped in each of its turns.
    """
    offered = offers(run)
    if action in (Action.STOP, Action.CANCEL):
        return Action.STOP if {Action.STOP, Action.CANCEL} & {*offered} else None
    match BUTTONS[action].about:
        case About.TURN:
            same = turn == run.turn
        case About.REPOSITORY:
            same = drawn_for in usable(run)
        case About.RUN:
            same = True
        case About.APPROVAL | About.MESSAGE:
            same = drawn_for == thing(run, action)
        case _:
            assert_never(BUTTONS[action].about)
    return action if same and action in offered else None


def thing(run: Run, action: Action) -> str | None:
    """Return the action or the message that a button is about now; None if it is about the run or its turn."""
    match BUTTONS[action].about:
        case About.RUN | About.TURN | About.REPOSITORY:
            return None
        case About.APPROVAL:
            return run.action
        case About.MESSAGE:
            return run.doubtful_follow_up
        case _:
            assert_never(BUTTONS[action].about)


def acted(run: Run, action: Action, by: UserId) -> Run:
    """Record who acted last, for whoever comes second."""
    return replace(run, last_action=action, last_action_by=by)


# --- what people do, and what becomes of our own calls -----------------------------------------------------------


def requested(
    command: Start,
    incoming: Incoming,
    person: Person,
    place: Place,
    *,
    id: RunId,  # noqa: A002 - the field it becomes
    conversation: ConversationId,
    context: str,
    choice: Choice,
    now: datetime,
    files: tuple[File, ...] = (),
) -> Run:
    """Return a request's new run, which is queued or asks which repository is meant.

    context: what people had said before. files: those of the request, and of what was said before.
    """
    asks = choice.origin is None
    return Run(
        id=id,
        team=incoming.team,
        channel=incoming.channel,
        thread_ts=incoming.thread,
        request_ts=incoming.ts,
        private=place.private,
        requester=person.id,
        task=command.task,
        context=context,
        files=files,
        repository=choice.unlisted if asks else choice.repository,
        origin=choice.origin,
        candidates=choice.candidates,
        branch=command.branch or choice.branch,
        model=command.model,
        state=RunState.NEEDS_REPOSITORY if asks else RunState.QUEUED,
        reason=Reason.UNLISTED if choice.unlisted else None,
        conversation_id=conversation,
        queued_at=now,
        turn_at=now,
        created_at=now,
        watch=Watch(observed_at=now, news_at=now),
    )


def asked_long_ago(run: Run, asked_at: datetime) -> Run:
    """Ask whether a queued run is still wanted. A run that asks for its repository is confirmed by the answer."""
    return replace(run, state=RunState.NEEDS_GO, asked_at=asked_at) if run.state is RunState.QUEUED else run


def suggested(run: Run) -> tuple[str, ...]:
    """Return what a "yes" to "which repository?" may mean: what is suggested, else what was named."""
    return run.candidates or ((run.repository,) if run.repository is not None else ())


def usable(run: Run) -> tuple[str, ...]:
    """Return the repositories that have a button: those suggested, and one that is only not listed."""
    named = (run.repository,) if run.repository is not None and run.reason is Reason.UNLISTED else ()
    return (*run.candidates[:MOST_SUGGESTED], *named)


def asked_again(run: Run, repository: str, candidates: tuple[str, ...]) -> Run:
    """Ask about the repository that a person answered with, since the account has none of that name."""
    return replace(run, repository=repository, candidates=candidates, reason=Reason.UNLISTED)


def choose(
    run: Run, repository: str | None, branch: str | None, conversation: ConversationId, now: datetime
) -> Changed:
    """Set the repository that a person chose, or None if none is needed, and queue the run."""
    after = replace(
        run,
        repository=repository,
        branch=branch or run.branch,
        origin=Origin.NONE if repository is None else Origin.CHOSEN,
        candidates=(),
        attempt=run.attempt + (run.reason is Reason.REPOSITORY),
        conversation_id=conversation,
        start_task_id=None,
        turn_at=now,
        queued_at=now,
        watch=replace(run.watch, phase=None, ambiguous_since=None, next_poll_at=None),
    )
    return changed(run, enter_state(after, RunState.QUEUED), now)


def reworded(
    run: Run,
    command: Start,
    choice: Choice | None,
    *,
    files: tuple[File, ...],
    conversation: ConversationId,
    now: datetime,
) -> Changed:
    """Take over the words of a request that was edited before it went out.

    choice: None keeps the repository, since a person chose it. Whoever edits an old request still wants it.
    """
    after = replace(run, task=command.task, files=files, model=command.model)
    if choice is None:
        return replace(after, branch=command.branch or run.branch), ()
    placed = replace(
        after,
        branch=command.branch or choice.branch,
        repository=choice.unlisted if choice.origin is None else choice.repository,
        origin=choice.origin,
        candidates=choice.candidates,
    )
    if restartable(run):
        return (placed if choice.origin is not None else after), ()
    if choice.origin is None:
        reason = Reason.UNLISTED if choice.unlisted else None
        return changed(run, enter_state(placed, RunState.NEEDS_REPOSITORY, reason=reason), now)
    if run.state is not RunState.NEEDS_REPOSITORY:
        return placed, ()
    chosen, effects = choose(placed, choice.repository, None, conversation, now)
    return replace(chosen, origin=choice.origin), effects


def taken_back(run: Run, now: datetime) -> Changed:
    """Cancel a run whose request was deleted before it went out; nobody says by whom."""
    return changed(run, enter_state(within_reach(run), RunState.CANCELLED), now)


DELETED = "(the request was deleted)"
"""The task of a run whose request was deleted."""


def without_words(run: Run) -> Run:
    """Forget what people wrote in a request that was deleted."""
    return replace(run, task=DELETED, context="", files=())


def has_words(run: Run) -> bool:
    """Return whether a run's request is still there: without it nothing can be started."""
    return run.task != DELETED


def go(run: Run, by: UserId, now: datetime) -> Changed:
    """Queue a run that a person still wants."""
    return changed(run, enter_state(replace(acted(run, Action.GO, by), queued_at=now), RunState.QUEUED), now)


def admit(run: Run, now: datetime) -> Changed:
    """Admit a queued run to a slot: it starts."""
    admitted = replace(run, queue_position=None, starts_after=None, admitted_at=now, turn_at=now)
    return changed(run, enter_state(admitted, RunState.STARTING), now)


def requeue_full(run: Run, conversation: ConversationId, now: datetime) -> Changed:
    """Queue the run because the account has no free slot; its next attempt gets a new conversation id.

    It keeps its place in line, and its person's turn counts as not had.
    """
    after = replace(
        within_reach(run),
        attempt=run.attempt + 1,
        conversation_id=conversation,
        start_task_id=None,
        queued_at=run.queued_at or run.created_at,
        admitted_at=None,
    )
    return changed(run, enter_state(after, RunState.QUEUED), now)


def requeue_until(run: Run, conversation: ConversationId, until: datetime, numbers: str, now: datetime) -> Changed:
    """Queue the run because OpenHands starts nothing more before then. numbers: those of its limit."""
    after, _ = requeue_full(run, conversation, now)
    resting = replace(after, starts_after=until)
    return changed(run, enter_state(resting, RunState.QUEUED, reason=Reason.DAY_LIMIT, detail=numbers), now)


def stop(run: Run, by: UserId, now: datetime) -> Changed:
    """Stop a run: at once where nothing runs, else as soon as OpenHands shows it. The first person to ask is named."""
    asked = acted(replace(run, stop_by=run.stop_by or by, stop_at=now, resume_by=None), Action.STOP, run.stop_by or by)
    match run.state:
        case RunState.NEEDS_REPOSITORY | RunState.NEEDS_GO | RunState.QUEUED:
            return changed(run, enter_state(asked, RunState.CANCELLED), now)
        case RunState.PAUSED:
            return changed(run, enter_state(asked, RunState.STOPPED), now)
        case RunState.WAITING if run.waiting is not Waiting.APPROVAL:
            return changed(run, enter_state(asked, RunState.STOPPED), now)
        case RunState.STARTING | RunState.WORKING | RunState.WAITING:
            return replace(asked, approved=None, decided_by=None), ()  # a stop rejects what waits
        case RunState.DONE | RunState.FAILED | RunState.STOPPED | RunState.LOST | RunState.CANCELLED:
            return (asked if run.resume_by else run), ()
        case _:
            assert_never(run.state)


def stop_later(run: Run, by: UserId, now: datetime) -> Run:
    """Record a stop of an ended run that a message on its way is about to wake."""
    return replace(run, stop_by=by, stop_at=now)


def not_stopped(run: Run) -> Run:
    """Drop a stop that had no effect."""
    return replace(run, stop_by=None, stop_at=None)


def cancel(run: Run, by: UserId, now: datetime) -> Changed:
    """Cancel a run whose start has not gone out."""
    asked = acted(replace(within_reach(run), stop_by=by, stop_at=now), Action.CANCEL, by)
    return changed(run, enter_state(asked, RunState.CANCELLED), now)


def barred(run: Run, now: datetime) -> Changed:
    """Cancel a run that the rules do not allow any more, before anything of this attempt went out."""
    return changed(run, enter_state(within_reach(run), RunState.CANCELLED, reason=Reason.NOT_ALLOWED), now)


def unanswered(run: Run, now: datetime) -> Changed:
    """Cancel a run whose question, before anything of this attempt went out, nobody has answered for long."""
    return changed(run, enter_state(within_reach(run), RunState.CANCELLED, reason=Reason.UNANSWERED), now)


def starter(run: Run) -> UserId:
    """Return who answers for the start of a run: its requester, or whoever asked for it anew."""
    return run.last_action_by if run.last_action is Action.RETRY and run.last_action_by else run.requester


def retry(run: Run, by: UserId, conversation: ConversationId, now: datetime) -> Changed:
    """Queue the run to start over in a new conversation."""
    after = replace(
        acted(run, Action.RETRY, by),
        attempt=run.attempt + 1,
        cost_before=run.cost,
        api=None,
        turn=run.turn + 1,
        turn_at=now,
        turn_by=(by,),
        turn_after=None,
        conversation_id=conversation,
        start_task_id=None,
        started_at=None,
        stop_by=None,
        stop_at=None,
        resume_by=None,
        queued_at=now,
        watch=replace(within_reach(run).watch, phase=None, ambiguous_since=None, observed_at=now, next_poll_at=None),
    )
    return changed(run, enter_state(after, RunState.QUEUED, answer=""), now)


def resume(run: Run, by: UserId) -> Run:
    """Record that a person wants the run resumed; it takes effect once OpenHands is told."""
    return acted(replace(run, resume_by=by), Action.RESUME, by)


def not_resumed(run: Run) -> Run:
    """Drop a resume that is not possible."""
    return replace(run, resume_by=None)


def decide(run: Run, by: UserId, *, approve: bool) -> Run:
    """Record a decision on the action that waits; it takes effect once OpenHands is told."""
    return acted(replace(run, approved=approve, decided_by=by), Action.APPROVE if approve else Action.REJECT, by)


def approved_by_one(run: Run, by: UserId) -> Run:
    """Record the first of two approvals; the agent is told after the second."""
    return acted(replace(run, first_approval=by), Action.APPROVE, by)


def undecide(run: Run) -> Run:
    """Drop a decision that had no effect. The waiting action is read again: it may be another by now."""
    return replace(run, approved=None, decided_by=None, watch=replace(run.watch, phase=None))


def asks(run: Run, follow_up: FollowUp) -> Run:
    """Show that a person must decide about a message; of several only the first one is shown."""
    if run.doubtful_follow_up is not None:
        return run
    return replace(run, doubtful_follow_up=follow_up.id, doubtful_text=follow_up.text)


def asks_anew(run: Run, follow_up: FollowUp) -> Run:
    """Show the new words of a message that a person must decide about."""
    return replace(run, doubtful_text=follow_up.text) if run.doubtful_follow_up == follow_up.id else run


def asks_no_more(run: Run, follow_up: str | None = None) -> Run:
    """Show that no message needs a decision any more. follow_up: only this one; another stays shown."""
    return (
        replace(run, doubtful_follow_up=None, doubtful_text="") if follow_up in (None, run.doubtful_follow_up) else run
    )


def silence_told(run: Run, now: datetime) -> Run:
    """Show that nothing has been heard of the run for long."""
    return replace(run, watch=replace(run.watch, silence_told_at=now))


def card_gone(run: Run) -> Run:
    """Record that there is no card to edit any more."""
    return replace(run, card=replace(run.card, gone=True))


def card_deleted(run: Run) -> Run:
    """Forget where the card was, so that it is posted once more."""
    return replace(run, card=replace(run.card, ts=None))


def unpostable(run: Run, now: datetime) -> Changed:
    """Cancel a run whose card can't be posted: nothing starts where the bot can't speak."""
    return changed(run, enter_state(card_gone(run), RunState.CANCELLED), now)


def restartable(run: Run) -> bool:
    """Return whether the run has no conversation to continue, so that only a new attempt helps."""
    return run.state is RunState.LOST or (run.state is RunState.FAILED and run.reason in NEVER_STARTED)


NOTHING_STARTED = frozenset(
    {
        Reason.REPOSITORY,
        Reason.BRANCH,
        Reason.KEY_REFUSED,
        Reason.AT_CAPACITY,
        Reason.ACCOUNT_BUDGET,
        Reason.START_REJECTED,
        Reason.START_UNREADABLE,
        Reason.MODEL_UNSUPPORTED,
    }
)
"""OpenHands refused these starts, so there is no conversation."""
NEVER_STARTED = NOTHING_STARTED | {
    Reason.START_FAILED,
    Reason.START_STUCK,
    Reason.START_UNSURE,
    Reason.FORGOTTEN,
    Reason.SANDBOX_BROKEN,
}
"""Whatever there is of these conversations, no agent can go on in it."""


def started(run: Run, api: Api, it: Started, now: datetime) -> Changed:
    """Record that OpenHands has the task."""
    after = replace(
        run,
        api=api,
        conversation_id=it.conversation_id,
        start_task_id=it.start_task_id,
        queued_at=None,
        watch=replace(within_reach(run).watch, next_poll_at=now),
    )
    return changed(run, after, now)


def not_started(run: Run, why: Failed, now: datetime) -> Changed:
    """Fail a run whose start was refused."""
    after, effects = changed(run, failed(within_reach(run), why), now)
    return looked_at_later(after, now), effects


def looked_at_later(run: Run, now: datetime) -> Run:
    """Return an ended run that is polled if it may come back."""
    return replace(run, watch=replace(run.watch, next_poll_at=now)) if watched_after_end(run) else run


def within_reach(run: Run) -> Run:
    """Clear the warning that OpenHands is out of reach: nothing is being tried."""
    return call_through(replace(run, watch=replace(run.watch, unreachable_since=None, key_refused=False)))


def call_waits(run: Run, since: datetime, why: Obstacle) -> Run:
    """Show on the card that a call for the run does not get through, whatever looks at the run show."""
    return replace(
        run, watch=replace(run.watch, call_waits_since=run.watch.call_waits_since or since, call_waits_why=why)
    )


def wakes_up(run: Run, now: datetime) -> bool:
    """Return whether a call waits for a sandbox to wake up, and that may still take a while: silence is no outage."""
    watch = run.watch
    since = watch.call_waits_since if watch.call_waits_why is Obstacle.WAKING else None
    return since is not None and now - since < WAKING


def call_through(run: Run) -> Run:
    """Clear that warning: the call got through, or is not made any more."""
    return replace(run, watch=replace(run.watch, call_waits_since=None, call_waits_why=None))


def sent(run: Run, by: UserId, anchor: str | None, went_out: datetime, now: datetime) -> Changed:
    """Begin a new turn: the agent has the message, and everything before it is old news."""
    return turn_resumed(replace(run, turn_after=anchor), by, went_out, now)


def stored(run: Run, since: datetime) -> Run:
    """Show that the agent server has the message of this turn, and that the agent does not begin with it yet."""
    return call_waits(call_through(run), since, Obstacle.FULL)


def taken_up(run: Run, now: datetime) -> Run:
    """Record that the agent begins with such a message: the status may still be that of before."""
    watch = replace(run.watch, phase=None, ambiguous_since=None, observed_at=now, next_poll_at=now)
    return call_through(replace(run, turn_at=now, watch=watch))


def turn_resumed(run: Run, by: UserId | None, went_out: datetime, now: datetime) -> Changed:
    """Begin a new turn: the conversation runs again, whether or not by our call. The next poll shows if it has ended.

    by: who is called when it does, beside those whom the turn before was for if it had not ended.

    What was said since the last message is still to be told, unless it was. A stop requested while the call was on its
    way still holds; an older one is over.
    """
    overtaken = run.stop_at is not None and run.stop_at >= went_out
    before = waits_for_end(run) if by is None or run.state is RunState.WORKING else ()
    after = replace(
        run,
        turn=run.turn + 1,
        turn_at=now,
        turn_by=merged(before, (by,) if by else ()),
        stop_by=run.stop_by if overtaken else None,
        stop_at=run.stop_at if overtaken else None,
        resume_by=None,
        watch=replace(
            run.watch,
            observed_at=now,
            phase=None,
            ambiguous_since=None,
            unreachable_since=None,
            key_refused=False,
            call_waits_since=None,
            call_waits_why=None,
            next_poll_at=now,
        ),
    )
    return changed(run, enter_state(after, RunState.WORKING, answer=""), now)


def out_of_reach(run: Run, since: datetime, *, key_refused: bool) -> Run:
    """Show on the card that OpenHands can't be asked, and whether that is because of the bot's key."""
    return replace(
        run, watch=replace(run.watch, unreachable_since=run.watch.unreachable_since or since, key_refused=key_refused)
    )


def gone(run: Run, now: datetime) -> Changed:
    """Mark a run as lost because its conversation can't be woken any more."""
    after, effects = changed(run, enter_state(call_through(run), RunState.LOST, reason=Reason.GONE), now)
    return looked_at_later(after, now), effects


def sandbox_woken(run: Run, now: datetime) -> Changed:
    """Record that a sandbox was woken: its agent may continue before the message arrives."""
    after = replace(run, turn_at=now, watch=replace(run.watch, phase=None, next_poll_at=now, observed_at=now))
    if not wakes_up(after, now):
        after = call_waits(call_through(after), now, Obstacle.WAKING)
    if run.reason is Reason.ASLEEP:
        after = enter_state(after, RunState.WORKING)
    return changed(run, after, now)
