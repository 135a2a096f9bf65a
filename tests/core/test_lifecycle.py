"""Every rule by which a look, or a person, changes a run."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from bot.core import lifecycle, words
from bot.core.lifecycle import advance
from bot.core.model import (
    Action,
    Api,
    ApprovalRequest,
    Card,
    Choice,
    ConversationId,
    Effect,
    Failed,
    File,
    Finish,
    FollowUp,
    Incoming,
    IncomingKind,
    Last,
    MessageTs,
    Observation,
    Obstacle,
    Origin,
    Overtaken,
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
    Waiting,
    Watch,
)
from tests.changes import changed
from tests.core.runs import ALICE, BOB, NOW, a_run

TOLD = (Effect.TELL, Effect.NOTIFY)


def look(phase: Phase, last: Last | None = None, at: datetime = NOW, **given: Any) -> Observation:
    return replace(Observation(asked_at=at, phase=phase, last=last), **given)


def a_request(choice: Choice) -> Run:
    """Make a run of what alice asks for in a private channel."""
    asked = Start("fix README", branch="dev")
    team, channel = a_run().team, a_run().channel
    incoming = Incoming(
        key="msg:1", kind=IncomingKind.MESSAGE, team=team, channel=channel, user=ALICE, text="", ts=MessageTs("1.1")
    )
    return lifecycle.requested(
        asked,
        incoming,
        Person(id=ALICE, team=team),
        Place(id=channel, private=True),
        id=RunId("run"),
        conversation=ConversationId("c"),
        context="",
        choice=choice,
        now=NOW,
    )


WISH = ApprovalRequest("e1", "terminal", "rm -rf build", "HIGH")


@pytest.mark.parametrize(
    ("before", "seen", "state", "effects"),
    [
        (RunState.STARTING, look(Phase.STARTING), RunState.STARTING, ()),
        (RunState.STARTING, look(Phase.WORKING), RunState.WORKING, (Effect.RELEASE,)),
        (RunState.STARTING, look(Phase.ENDED, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT, Effect.RELEASE)),
        (
            RunState.STARTING,
            look(Phase.START_FAILED, Failed(Reason.REPOSITORY)),
            RunState.FAILED,
            (*TOLD, Effect.REACT, Effect.RELEASE),
        ),
        (RunState.STARTING, look(Phase.START_FAILED), RunState.FAILED, (*TOLD, Effect.REACT, Effect.RELEASE)),
        (RunState.WORKING, look(Phase.WORKING), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.ENDED, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.ENDED, Said("Which one?")), RunState.WAITING, TOLD),
        (RunState.WORKING, look(Phase.ENDED, Failed(Reason.MAX_STEPS)), RunState.FAILED, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.ENDED), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.WANTS_APPROVAL, WISH), RunState.WAITING, TOLD),
        (RunState.WORKING, look(Phase.WANTS_APPROVAL), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.ERROR, Failed(Reason.MODEL_KEY)), RunState.FAILED, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.ERROR), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.STUCK), RunState.FAILED, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.BROKEN), RunState.FAILED, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.PAUSED), RunState.PAUSED, (Effect.TELL,)),
        (RunState.WORKING, look(Phase.IDLE), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.ASLEEP), RunState.PAUSED, (Effect.TELL,)),
        (RunState.WORKING, look(Phase.GONE), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.MISSING), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.UNCLEAR), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.UNKNOWN), RunState.WORKING, ()),
        (RunState.WORKING, look(Phase.ASLEEP, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.ASLEEP, Said("Which one?")), RunState.WAITING, TOLD),
        (RunState.WORKING, look(Phase.GONE, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.MISSING, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT)),
        (RunState.WORKING, look(Phase.GONE, Said("Which one?")), RunState.WORKING, ()),
        (RunState.WAITING, look(Phase.WORKING), RunState.WORKING, ()),
        (RunState.WAITING, look(Phase.ASLEEP), RunState.WAITING, ()),
        (RunState.PAUSED, look(Phase.PAUSED), RunState.PAUSED, ()),
        (RunState.PAUSED, look(Phase.ENDED, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT)),
        (RunState.DONE, look(Phase.WORKING), RunState.WORKING, ()),
        (RunState.DONE, look(Phase.ASLEEP), RunState.DONE, ()),
        (RunState.STOPPED, look(Phase.ENDED, Said("Hello?")), RunState.STOPPED, ()),
        (RunState.LOST, look(Phase.GONE), RunState.LOST, ()),
        (
            RunState.WORKING,
            look(Phase.ERROR, Finish("Done.", Reason.MAX_STEPS)),
            RunState.DONE,
            (*TOLD, Effect.REACT),
        ),
        (RunState.LOST, look(Phase.WORKING), RunState.WORKING, ()),
        (RunState.LOST, look(Phase.ENDED, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT)),
        (RunState.LOST, look(Phase.ENDED), RunState.LOST, ()),
        (RunState.LOST, look(Phase.ASLEEP), RunState.PAUSED, (Effect.TELL,)),
        (RunState.FAILED, look(Phase.WORKING), RunState.WORKING, ()),
        (RunState.FAILED, look(Phase.ENDED, Finish("Done.")), RunState.DONE, (*TOLD, Effect.REACT)),
        (RunState.FAILED, look(Phase.ENDED), RunState.FAILED, ()),
        (RunState.FAILED, look(Phase.GONE), RunState.FAILED, ()),
        (RunState.FAILED, look(Phase.ERROR, Failed(Reason.MODEL_KEY)), RunState.FAILED, ()),
    ],
)
def test_a_look_changes_the_state(
    before: RunState, seen: Observation, state: RunState, effects: tuple[Effect, ...]
) -> None:
    """What OpenHands shows, in one table."""
    after, caused = advance(a_run(before), seen)
    assert (after.state, caused) == (state, effects)


def test_a_late_answer_changes_nothing() -> None:
    """A look that was asked before the last one applied is dropped whole."""
    run = a_run(observed_at=NOW)
    assert advance(run, look(Phase.GONE)) == (run, ())


def test_the_same_look_twice_has_no_effects() -> None:
    """Hearing the same thing twice tells nobody twice."""
    once, _ = advance(a_run(), look(Phase.ENDED, Said("Which one?")))
    twice, effects = advance(once, look(Phase.ENDED, Said("Which one?"), NOW + timedelta(seconds=2)))
    assert effects == ()
    assert replace(twice, watch=replace(twice.watch, observed_at=once.watch.observed_at)) == once


def test_an_end_is_told_once() -> None:
    """The same words are the same end, whichever turn they are counted to."""
    end = look(Phase.ENDED, Finish("Done."), ending="e7")
    done, first = advance(a_run(), end)
    after, second = advance(
        replace(done, state=RunState.WORKING, turn=2), replace(end, asked_at=NOW + timedelta(seconds=9))
    )
    assert (first, after.state, second) == ((*TOLD, Effect.REACT), RunState.DONE, ())


def test_another_question_of_a_waiting_run_is_news() -> None:
    """Somebody answered in OpenHands, and the agent asks the next thing, between two looks."""
    waiting, _ = advance(a_run(), look(Phase.ENDED, Said("Which one?")))
    after, effects = advance(waiting, look(Phase.ENDED, Said("And where?"), NOW + timedelta(minutes=5)))
    assert (after.answer, effects) == ("And where?", (Effect.TELL,))


def test_another_action_that_wants_approval_is_news() -> None:
    """The first one was approved in OpenHands between two looks."""
    waiting, _ = advance(a_run(), look(Phase.WANTS_APPROVAL, WISH))
    other = ApprovalRequest("e2", "terminal", "git push", "")
    after, effects = advance(waiting, look(Phase.WANTS_APPROVAL, other, NOW + timedelta(minutes=5)))
    assert (after.detail, effects) == ("terminal\ngit push", (Effect.TELL,))


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Which one?", Waiting.QUESTION),
        ("Is it **this?**\n", Waiting.QUESTION),
        ("Here is what I found.", Waiting.ANSWER),
        ("Why? Because it is slow.", Waiting.ANSWER),
    ],
)
def test_a_plain_message_is_a_question_if_it_ends_in_one(words: str, kind: Waiting) -> None:
    """The API can't tell the two apart, the last character can."""
    after, _ = advance(a_run(), look(Phase.ENDED, Said(words)))
    assert (after.waiting, after.answer) == (kind, words)


def test_approval_names_what_it_approves() -> None:
    """Tool, command and risk."""
    after, _ = advance(a_run(), look(Phase.WANTS_APPROVAL, WISH))
    assert (after.waiting, after.detail) == (Waiting.APPROVAL, "terminal · the agent rates it high\nrm -rf build")


@pytest.mark.parametrize(
    ("phase", "seconds", "state", "reason"),
    [
        (Phase.ENDED, 119, RunState.WORKING, None),
        (Phase.ENDED, 120, RunState.DONE, Reason.NO_WORDS),
        (Phase.WANTS_APPROVAL, 119, RunState.WORKING, None),
        (Phase.WANTS_APPROVAL, 120, RunState.WAITING, None),
        (Phase.ERROR, 34, RunState.WORKING, None),
        (Phase.ERROR, 35, RunState.FAILED, Reason.AGENT_ERROR),
        (Phase.UNCLEAR, 299, RunState.WORKING, None),
        (Phase.UNCLEAR, 300, RunState.LOST, Reason.SILENT),
        (Phase.GONE, 299, RunState.WORKING, None),
        (Phase.GONE, 300, RunState.LOST, Reason.GONE),
        (Phase.MISSING, 300, RunState.LOST, Reason.GONE),
        (Phase.IDLE, 4, RunState.WORKING, None),
        (Phase.IDLE, 5, RunState.PAUSED, None),
    ],
)
def test_what_cannot_be_judged_yet_is_judged_later(
    phase: Phase, seconds: int, state: RunState, reason: Reason | None
) -> None:
    """Words may come late and a status may pass; nothing stays open for ever."""
    first, _ = advance(a_run(), look(phase))
    after, _ = advance(first, look(phase, at=NOW + timedelta(seconds=seconds)))
    assert (after.state, after.reason) == (state, reason)


def test_a_passing_doubt_starts_anew() -> None:
    """Two minutes count from the last time all was well."""
    first, _ = advance(a_run(), look(Phase.UNCLEAR))
    well, _ = advance(first, look(Phase.WORKING, at=NOW + timedelta(seconds=100)))
    after, _ = advance(well, look(Phase.UNCLEAR, at=NOW + timedelta(seconds=200)))
    assert (after.state, after.watch.ambiguous_since) == (RunState.WORKING, NOW + timedelta(seconds=200))


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.IDLE, Phase.ASLEEP])
def test_nobody_works_as_asked(phase: Phase) -> None:
    """After Stop, each kind of rest is the stop."""
    after, effects = advance(a_run(stop_by=BOB), look(phase))
    assert (after.state, effects) == (RunState.STOPPED, (Effect.TELL,))


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.STUCK, Phase.ASLEEP])
def test_right_after_a_message_an_old_status_means_nothing(phase: Phase) -> None:
    """It may still be that of the turn before."""
    run = a_run(turn=2, turn_at=NOW - timedelta(seconds=2))
    assert advance(run, look(phase))[0].state is RunState.WORKING


def test_a_waking_sandbox_may_take_its_time() -> None:
    """For five minutes after it was woken, asleep is no news."""
    woken, _ = lifecycle.sandbox_woken(a_run(RunState.PAUSED, reason=Reason.ASLEEP), NOW)
    still, _ = advance(woken, look(Phase.ASLEEP, at=NOW + timedelta(seconds=299)))
    after, _ = advance(woken, look(Phase.ASLEEP, at=NOW + timedelta(seconds=300)))
    assert (woken.state, still.state, after.state) == (RunState.WORKING, RunState.WORKING, RunState.PAUSED)


def test_what_was_awake_and_falls_asleep_is_paused_at_once() -> None:
    """Only what is being woken may take its time: this one was put to sleep, however lately its turn began."""
    run = a_run(RunState.WORKING, turn_at=NOW - timedelta(seconds=10), phase=Phase.WORKING)
    after, effects = advance(run, look(Phase.ASLEEP))
    assert (after.state, after.reason, effects) == (RunState.PAUSED, Reason.ASLEEP, (Effect.TELL,))


def test_a_wake_up_is_shown_until_it_has_taken_too_long() -> None:
    """It counts from the first call that the server took, however often that is repeated."""
    once, _ = lifecycle.sandbox_woken(a_run(RunState.PAUSED, reason=Reason.ASLEEP), NOW)
    twice, _ = lifecycle.sandbox_woken(once, NOW + timedelta(minutes=2))
    shown = [lifecycle.wakes_up(twice, NOW + timedelta(seconds=age_s)) for age_s in (150, 299, 300)]
    assert (twice.watch.call_waits_since, shown) == (NOW, [True, True, False])
    assert not lifecycle.wakes_up(a_run(), NOW)


def test_waking_what_did_not_sleep_changes_no_state() -> None:
    """A conversation that OpenHands called asleep before a look showed it."""
    assert lifecycle.sandbox_woken(a_run(RunState.DONE), NOW)[0].state is RunState.DONE


def test_cost_and_links_only_grow() -> None:
    """The server's figures go backwards; what was seen once stays."""
    run = a_run(cost=0.5, pull_requests=("https://github.com/a/b/pull/1",))
    new = ("https://github.com/a/b/pull/1", "https://github.com/a/b/pull/2")
    after, _ = advance(run, look(Phase.WORKING, cost=0.2, pull_requests=new, progress="Reading"))
    assert (after.cost, after.pull_requests, after.progress) == (0.5, new, "Reading")


def test_news_of_the_conversation_are_taken_along() -> None:
    """What kind of server it is, its task, that it can be opened, and that it can be reached again."""
    run = a_run(RunState.STARTING, unreachable_since=NOW)
    after, _ = advance(run, look(Phase.WORKING, blind=True, start_task_id="t1"))
    assert (after.blind, after.start_task_id, after.started_at, after.watch.unreachable_since) == (
        True,
        "t1",
        NOW,
        None,
    )


def test_a_finish_without_words_keeps_those_there_were() -> None:
    """A server that tells only whether it runs has no words."""
    after, _ = advance(a_run(answer="So far."), look(Phase.ENDED, Finish("")))
    assert (after.state, after.answer, after.ended_at) == (RunState.DONE, "So far.", NOW)


# --- what people do ---------------------------------------------------------------------------------------------


def test_a_chosen_repository_lets_the_run_wait_for_its_turn() -> None:
    """The answer to the bot's question."""
    asking = a_run(RunState.NEEDS_REPOSITORY, candidates=("a/b", "c/d"))
    after, effects = lifecycle.choose(asking, "a/b", "dev", ConversationId("new"), NOW)
    assert (after.state, after.repository, after.branch, after.origin) == (
        RunState.QUEUED,
        "a/b",
        "dev",
        Origin.CHOSEN,
    )
    assert (after.candidates, after.conversation_id, effects) == ((), "new", ())


UNOPENED: dict[str, Any] = {"repository": "a/b", "reason": Reason.REPOSITORY}


def test_a_repository_that_cannot_be_opened_is_asked_about() -> None:
    """The thread hears of it; an answer starts over in a conversation of its own, and so does Retry."""
    run = a_run(RunState.STARTING, repository="a/b", origin=Origin.TYPED, start_task_id="t1")
    asking, effects = lifecycle.not_started(run, Failed(Reason.REPOSITORY), NOW)
    assert (asking.state, asking.reason, asking.repository) == (RunState.NEEDS_REPOSITORY, Reason.REPOSITORY, "a/b")
    assert effects == (Effect.TELL,)

    after, _ = lifecycle.choose(asking, "a/c", None, ConversationId("new"), NOW)
    assert (after.state, after.reason, after.repository) == (RunState.QUEUED, None, "a/c")
    assert (after.attempt, after.conversation_id, after.start_task_id) == (2, "new", None)

    again, _ = lifecycle.retry(asking, BOB, ConversationId("new"), NOW)
    assert (again.state, again.repository, again.attempt) == (RunState.QUEUED, "a/b", 2)


def test_an_answer_may_be_asked_about_as_well() -> None:
    """What the account does not have is not started without a further word."""
    asking = lifecycle.asked_again(a_run(RunState.NEEDS_REPOSITORY, candidates=("a/b",)), "a/x", ("a/y",))
    assert (asking.repository, asking.candidates, asking.reason) == ("a/x", ("a/y",), Reason.UNLISTED)
    assert lifecycle.usable(asking) == ("a/y", "a/x")


@pytest.mark.parametrize(
    ("candidates", "repository", "suggested"),
    [(("a/b",), "c/d", ("a/b",)), ((), "c/d", ("c/d",)), ((), None, ())],
)
def test_a_yes_means_what_is_suggested(
    candidates: tuple[str, ...], repository: str | None, suggested: tuple[str, ...]
) -> None:
    """Else what was named; a question that names nothing has no yes."""
    asking = a_run(RunState.NEEDS_REPOSITORY, candidates=candidates, repository=repository)
    assert lifecycle.suggested(asking) == suggested


def test_none_is_a_choice_and_keeps_the_branch() -> None:
    """Not every task needs a repository."""
    after, _ = lifecycle.choose(a_run(RunState.NEEDS_REPOSITORY, branch="dev"), None, None, ConversationId("new"), NOW)
    assert (after.repository, after.branch, after.origin) == (None, "dev", Origin.NONE)


@pytest.mark.parametrize(
    ("run", "state", "effects"),
    [
        (a_run(RunState.NEEDS_REPOSITORY), RunState.CANCELLED, (Effect.RELEASE,)),
        (a_run(RunState.NEEDS_GO), RunState.CANCELLED, (Effect.RELEASE,)),
        (a_run(RunState.QUEUED), RunState.CANCELLED, (Effect.RELEASE,)),
        (a_run(RunState.PAUSED), RunState.STOPPED, (Effect.TELL,)),
        (a_run(RunState.WAITING, waiting=Waiting.QUESTION), RunState.STOPPED, (Effect.TELL,)),
        (a_run(RunState.WAITING, waiting=Waiting.APPROVAL), RunState.WAITING, ()),
        (a_run(RunState.STARTING), RunState.STARTING, ()),
        (a_run(RunState.WORKING), RunState.WORKING, ()),
    ],
)
def test_stop(run: Run, state: RunState, effects: tuple[Effect, ...]) -> None:
    """At once where nothing runs, else as soon as OpenHands shows it; who asked is remembered."""
    after, caused = lifecycle.stop(run, BOB, NOW)
    assert (after.state, after.stop_by, after.stop_at, caused) == (state, BOB, NOW, effects)


@pytest.mark.parametrize("state", sorted(lifecycle.ENDED))
def test_there_is_nothing_to_stop_after_the_end(state: RunState) -> None:
    """The run stays as it is."""
    assert lifecycle.stop(a_run(state), BOB, NOW) == (a_run(state), ())


def test_a_stop_calls_a_resume_off() -> None:
    """Also where the run had ended, and only the resume would have woken it."""
    after, effects = lifecycle.stop(a_run(RunState.STOPPED, resume_by=ALICE), BOB, NOW)
    assert (after.state, after.resume_by, after.stop_by, after.stop_at, effects) == (
        RunState.STOPPED,
        None,
        BOB,
        NOW,
        (),
    )


def test_an_ended_run_that_a_message_is_about_to_wake_is_stopped_then() -> None:
    """It stays ended until then."""
    after = lifecycle.stop_later(a_run(RunState.DONE), BOB, NOW)
    assert (after.state, after.stop_by, after.stop_at) == (RunState.DONE, BOB, NOW)


def test_cancel_before_the_start_went_out() -> None:
    """Nothing ran, so nobody is told anew; the card shows it."""
    after, effects = lifecycle.cancel(a_run(RunState.STARTING), BOB, NOW)
    assert (after.state, after.stop_by, after.ended_at, effects) == (RunState.CANCELLED, BOB, NOW, (Effect.RELEASE,))


@pytest.mark.parametrize(
    ("choice", "state", "candidates"),
    [
        (Choice("org/repo", Origin.DEFAULT), RunState.QUEUED, ()),
        (Choice(candidates=("org/a", "org/b")), RunState.NEEDS_REPOSITORY, ("org/a", "org/b")),
        (Choice(candidates=("org/a",), unlisted="org/c"), RunState.NEEDS_REPOSITORY, ("org/a",)),
    ],
)
def test_a_request_waits_for_its_turn_or_for_a_repository(
    choice: Choice, state: RunState, candidates: tuple[str, ...]
) -> None:
    """It asks where nothing says which one; what else was asked for is kept."""
    run = a_request(choice)
    named = choice.repository or choice.unlisted
    assert (run.state, run.candidates, run.repository, run.origin) == (state, candidates, named, choice.origin)
    assert run.reason is (Reason.UNLISTED if choice.unlisted else None)
    assert (run.task, run.branch, run.requester, run.private) == ("fix README", "dev", ALICE, True)
    assert (run.queued_at, run.created_at, run.watch) == (NOW, NOW, Watch(observed_at=NOW, news_at=NOW))


def test_an_old_request_is_asked_about_before_it_starts() -> None:
    """Only where nothing else is asked anyway."""
    long_ago = NOW - timedelta(hours=2)
    run = a_request(Choice())
    asked = lifecycle.asked_long_ago(a_request(Choice("org/repo", Origin.TYPED)), long_ago)
    assert (asked.state, asked.asked_at) == (RunState.NEEDS_GO, long_ago)
    assert lifecycle.asked_long_ago(run, long_ago) == run


def test_a_stop_that_is_not_possible_is_dropped() -> None:
    """The run goes on, and may be stopped again."""
    run = a_run()
    stopping, _ = lifecycle.stop(run, BOB, NOW)
    assert lifecycle.not_stopped(stopping) == replace(run, last_action=Action.STOP, last_action_by=BOB)


def test_a_deleted_card_may_come_back_and_one_that_is_gone_does_not() -> None:
    """Either way there is none to edit now."""
    run = changed(a_run(), ts=MessageTs("1.1"))
    assert (lifecycle.card_deleted(run).card.ts, lifecycle.card_gone(run).card.gone) == (None, True)


def test_where_the_bot_cannot_speak_nothing_starts() -> None:
    """What waited for the start is let go."""
    after, effects = lifecycle.unpostable(a_run(RunState.STARTING), NOW)
    assert (after.state, after.card.gone, after.ended_at, effects) == (RunState.CANCELLED, True, NOW, (Effect.RELEASE,))


def test_again_is_a_new_attempt_in_a_new_conversation() -> None:
    """Nothing of the old one counts any more."""
    run = a_run(RunState.FAILED, reason=Reason.AT_CAPACITY, answer="old", started_at=NOW, turn_after="e9", ended_at=NOW)
    after, effects = lifecycle.retry(run, BOB, ConversationId("new"), NOW)
    assert (after.state, after.attempt, after.turn, after.conversation_id) == (RunState.QUEUED, 2, 2, "new")
    assert (after.queued_at, after.last_action, after.last_action_by) == (NOW, Action.RETRY, BOB)
    assert (after.answer, after.reason, after.started_at, after.turn_after, after.ended_at) == (
        "",
        None,
        None,
        None,
        None,
    )
    assert effects == ()


@pytest.mark.parametrize(
    ("run", "restartable"),
    [
        (a_run(RunState.LOST, reason=Reason.GONE), True),
        (a_run(RunState.FAILED, reason=Reason.START_FAILED), True),
        (a_run(RunState.FAILED, reason=Reason.MODEL_KEY), False),
        (a_run(RunState.DONE), False),
    ],
)
def test_only_a_run_without_a_conversation_needs_a_new_attempt(run: Run, restartable: bool) -> None:  # noqa: FBT001 - a table's column
    """All others go on with a reply."""
    assert lifecycle.restartable(run) is restartable


# --- what becomes of our own calls ------------------------------------------------------------------------------


def test_started_keeps_what_openhands_calls_it() -> None:
    """V0 names the conversation itself."""
    after, effects = lifecycle.started(
        a_run(RunState.STARTING), Api.V0, Started(conversation_id=ConversationId("hex")), NOW
    )
    assert (after.api, after.conversation_id, after.watch.next_poll_at, after.state) == (
        Api.V0,
        "hex",
        NOW,
        RunState.STARTING,
    )
    assert effects == ()


def test_not_started_is_a_failure_with_its_reason() -> None:
    """And is told as one."""
    after, effects = lifecycle.not_started(a_run(RunState.STARTING), Failed(Reason.START_REJECTED, "no model"), NOW)
    assert (after.state, after.reason, after.detail) == (RunState.FAILED, Reason.START_REJECTED, "no model")
    assert effects == (*TOLD, Effect.REACT, Effect.RELEASE)


def test_a_message_begins_a_new_turn() -> None:
    """All that was seen so far is of the turn before."""
    run = a_run(RunState.DONE, answer="old", stop_by=BOB, stop_at=NOW - timedelta(hours=1), ended_at=NOW)
    after, effects = lifecycle.sent(run, BOB, "e9", NOW - timedelta(seconds=3), NOW)
    assert (after.state, after.turn, after.turn_after, after.watch.observed_at) == (RunState.WORKING, 2, "e9", NOW)
    assert (after.answer, after.stop_by, after.ended_at, effects) == ("", None, None, ())


def test_a_stop_during_the_send_still_holds() -> None:
    """The message woke the agent again, so it has to be interrupted again."""
    run = a_run(stop_by=BOB, stop_at=NOW)
    after, _ = lifecycle.sent(run, BOB, "e9", NOW - timedelta(seconds=3), NOW)
    assert (after.stop_by, after.stop_at) == (BOB, NOW)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("Fixed two links. Next I will run the tests.", RunState.WAITING),
        ("I fixed it.\n\nNow let me run the tests:", RunState.WAITING),
        ("Now I'll open a pull request.", RunState.WAITING),
        ("I’m going to check the build.", RunState.WAITING),
        ("**Next, I will run the tests.**", RunState.WAITING),
        ("Fixed two links.", RunState.DONE),
        ("Next I will run the tests. They pass.", RunState.DONE),
        ("Fixed. Let me know if you want more.", RunState.DONE),
        ("Fixed. I'll be happy to adjust it.", RunState.DONE),
        ("Fixed. I will wait for your review.", RunState.DONE),
        ("Shall I go on?", RunState.DONE),
        ("I will add tests if you want them.", RunState.DONE),
        ("", RunState.DONE),
    ],
)
def test_who_says_what_comes_next_is_not_done(said: str, state: RunState) -> None:
    """An agent may end in the middle, with the words for what it meant to do; a reply lets it go on."""
    after, _ = advance(a_run(), look(Phase.ENDED, Finish(said)))
    assert (after.state, after.answer) == (state, said)


def test_what_cannot_be_woken_is_lost() -> None:
    """And the thread is told."""
    after, effects = lifecycle.gone(a_run(RunState.PAUSED), NOW)
    assert (after.state, after.reason, effects) == (RunState.LOST, Reason.GONE, (*TOLD, Effect.REACT))


def test_out_of_reach_counts_from_the_first_time() -> None:
    """The card names the beginning of the outage."""
    first = lifecycle.out_of_reach(a_run(), NOW, key_refused=False)
    later = lifecycle.out_of_reach(first, NOW + timedelta(hours=1), key_refused=True)
    assert (later.watch.unreachable_since, later.watch.key_refused) == (NOW, True)
    assert advance(later, look(Phase.WORKING))[0].watch.key_refused is False


def test_a_call_that_does_not_get_through_is_shown_until_it_does() -> None:
    """Looks that succeed meanwhile say nothing of it; the latest reason counts."""
    first = lifecycle.call_waits(a_run(), NOW, Obstacle.AWAY)
    later = lifecycle.call_waits(first, NOW + timedelta(hours=1), Obstacle.BUSY)
    seen, _ = advance(later, look(Phase.WORKING))
    assert (seen.watch.call_waits_since, seen.watch.call_waits_why) == (NOW, Obstacle.BUSY)
    through = lifecycle.call_through(seen)
    assert (through.watch.call_waits_since, through.watch.call_waits_why) == (None, None)


@pytest.mark.parametrize("phase", [Phase.ENDED, Phase.IDLE, Phase.PAUSED, Phase.ERROR, Phase.STUCK])
def test_a_message_that_is_only_kept_has_no_end(phase: Phase) -> None:
    """However long the agent does not begin with it; unless a person stops that, or it begins and stays idle."""
    late = NOW + timedelta(hours=1)
    kept = replace(lifecycle.stored(a_run(), NOW), turn_at=NOW - timedelta(hours=1))
    kept = advance(kept, look(phase))[0]
    assert advance(kept, look(phase, at=late))[0].state is RunState.WORKING
    assert kept.watch.call_waits_why is Obstacle.FULL

    begun = lifecycle.taken_up(kept, late)
    assert not lifecycle.waits_for_room(begun)
    assert (begun.turn_at, begun.watch.ambiguous_since) == (late, None)
    stopped = replace(kept, stop_by=BOB, stop_at=NOW)
    assert advance(stopped, look(phase, at=late))[0].state is not RunState.WORKING


def test_a_retry_adds_its_cost_to_that_of_the_attempts_before() -> None:
    """What was spent stays spent, however little the next attempt costs."""
    again, _ = lifecycle.retry(a_run(RunState.FAILED, cost=3.0, cost_before=1.0), BOB, ConversationId("new"), NOW)
    after, _ = advance(
        replace(again, state=RunState.WORKING), look(Phase.WORKING, cost=2.0, at=NOW + timedelta(minutes=1))
    )
    assert (again.cost, again.cost_before, after.cost) == (3.0, 3.0, 5.0)


# --- the queue --------------------------------------------------------------------------------------------------


def test_what_is_still_wanted_waits_for_its_turn() -> None:
    """Said by whoever presses the button."""
    after, effects = lifecycle.go(a_run(RunState.NEEDS_GO), BOB, NOW)
    assert (after.state, after.queued_at, after.last_action_by, effects) == (RunState.QUEUED, NOW, BOB, ())


def test_who_is_let_in_starts() -> None:
    """Messages stay held until the conversation is there."""
    after, effects = lifecycle.admit(a_run(RunState.QUEUED, queued_at=NOW, queue_position=1), NOW)
    assert (after.state, after.queue_position, after.turn_at, effects) == (RunState.STARTING, None, NOW, ())
    assert after.admitted_at == NOW


def test_where_the_account_is_full_the_run_waits_with_its_seniority() -> None:
    """And is asked for under another id: nobody knows what became of the first."""
    starting = a_run(RunState.STARTING, start_task_id="task", unreachable_since=NOW)
    after, effects = lifecycle.requeue_full(starting, ConversationId("new"), NOW)
    assert (after.state, after.attempt, after.conversation_id, after.start_task_id, after.queued_at) == (
        RunState.QUEUED,
        2,
        "new",
        None,
        starting.created_at,
    )
    assert (after.watch.unreachable_since, effects) == (None, ())


def test_who_is_told_to_come_back_tomorrow_waits_until_then() -> None:
    """With the numbers of the limit; the one try that is made then has neither."""
    starting = a_run(RunState.STARTING, start_task_id="task")
    until = NOW + timedelta(hours=5)
    after, effects = lifecycle.requeue_until(starting, ConversationId("new"), until, "10 of 10 used", NOW)
    assert (after.state, after.reason, after.detail, after.starts_after, after.conversation_id, effects) == (
        RunState.QUEUED,
        Reason.DAY_LIMIT,
        "10 of 10 used",
        until,
        "new",
        (),
    )
    again, _ = lifecycle.admit(after, until)
    assert (again.state, again.reason, again.detail, again.starts_after) == (RunState.STARTING, None, "", None)


# --- buttons and words ------------------------------------------------------------------------------------------

ASKING = {"waiting": Waiting.APPROVAL, "action": "e1"}


@pytest.mark.parametrize(
    ("run", "offered"),
    [
        (a_run(RunState.NEEDS_REPOSITORY), "no_repository cancel"),
        (a_run(RunState.NEEDS_REPOSITORY, candidates=("a/b",)), "use no_repository cancel"),
        (a_run(RunState.NEEDS_REPOSITORY, **UNOPENED), "no_repository retry cancel"),
        (a_run(RunState.NEEDS_GO), "go cancel"),
        (a_run(RunState.QUEUED), "cancel"),
        (a_run(RunState.STARTING), "stop"),
        (a_run(RunState.WORKING), "stop"),
        (a_run(RunState.WORKING, stop_by=BOB), ""),
        (a_run(RunState.WORKING, doubtful_follow_up="m"), "stop again leave"),
        (a_run(RunState.WAITING, waiting=Waiting.QUESTION), "stop"),
        (a_run(RunState.WAITING, **ASKING), "approve reject stop"),
        (a_run(RunState.WAITING, **ASKING, approved=True), "stop"),
        (a_run(RunState.WAITING, **ASKING, stop_by=BOB), ""),
        (a_run(RunState.WAITING, waiting=Waiting.APPROVAL), "stop"),
        (a_run(RunState.PAUSED), "resume stop"),
        (a_run(RunState.PAUSED, resume_by=BOB), "stop"),
        (a_run(RunState.PAUSED, doubtful_follow_up="m"), "stop again leave"),
        (a_run(RunState.DONE), ""),
        (a_run(RunState.FAILED, reason=Reason.MODEL_KEY), "resume retry"),
        (a_run(RunState.FAILED, reason=Reason.STUCK), "retry"),
        (a_run(RunState.FAILED, reason=Reason.START_FAILED), "retry"),
        (a_run(RunState.STOPPED), "resume retry"),
        (a_run(RunState.LOST, reason=Reason.GONE), "retry"),
        (a_run(RunState.CANCELLED), ""),
    ],
)
def test_what_can_be_done(run: Run, offered: str) -> None:
    """What fits the state and nothing else, in the order of the buttons."""
    assert [action.value for action in lifecycle.offers(run)] == offered.split()


@pytest.mark.parametrize(
    ("run", "action", "move"),
    [
        (a_run(RunState.WORKING), Action.STOP, Action.STOP),
        (a_run(RunState.DONE), Action.CANCEL, Action.STOP),
        (a_run(RunState.PAUSED), Action.RESUME, Action.RESUME),
        (a_run(RunState.WORKING), Action.RESUME, None),
        (a_run(RunState.LOST), Action.AGAIN, Action.RETRY),
        (a_run(RunState.LOST, doubtful_follow_up="m"), Action.AGAIN, Action.AGAIN),
        (a_run(RunState.WORKING, doubtful_follow_up="m"), Action.RETRY, Action.AGAIN),
        (a_run(RunState.WORKING), Action.LEAVE, None),
        (a_run(RunState.WAITING, **ASKING), Action.APPROVE, Action.APPROVE),
    ],
)
def test_what_a_word_means(run: Run, action: Action, move: Action | None) -> None:
    """Where it can do nothing, it is a word like any other; a stop is answered even then."""
    assert lifecycle.action_for_word(run, action) is move


@pytest.mark.parametrize(
    ("run", "action", "turn", "thing", "move"),
    [
        (a_run(RunState.WORKING, turn=4), Action.STOP, 1, "", Action.STOP),
        (a_run(RunState.QUEUED), Action.STOP, 1, "", Action.STOP),
        (a_run(RunState.WORKING), Action.CANCEL, 1, "", Action.STOP),
        (a_run(RunState.WORKING, stop_by=BOB), Action.STOP, 1, "", None),
        (a_run(RunState.DONE), Action.STOP, 1, "", None),
        (a_run(RunState.PAUSED, turn=2), Action.RESUME, 2, "", Action.RESUME),
        (a_run(RunState.PAUSED, turn=2), Action.RESUME, 1, "", None),
        (a_run(RunState.WORKING), Action.RESUME, 1, "", None),
        (a_run(RunState.WAITING, **ASKING), Action.APPROVE, 1, "e1", Action.APPROVE),
        (a_run(RunState.WAITING, **ASKING), Action.REJECT, 1, "e0", None),
        (a_run(RunState.WORKING, doubtful_follow_up="m", turn=9), Action.LEAVE, 1, "m", Action.LEAVE),
        (a_run(RunState.WORKING, doubtful_follow_up="m"), Action.AGAIN, 1, "n", None),
        (a_run(RunState.NEEDS_REPOSITORY, candidates=("a/b",)), Action.USE, 1, "a/b", Action.USE),
        (a_run(RunState.NEEDS_REPOSITORY, candidates=("a/b",)), Action.USE, 1, "a/c", None),
        (a_run(RunState.NEEDS_REPOSITORY), Action.NO_REPOSITORY, 1, "", Action.NO_REPOSITORY),
        (a_run(RunState.QUEUED), Action.NO_REPOSITORY, 1, "", None),
    ],
)
def test_what_a_click_does_now(run: Run, action: Action, turn: int, thing: str, move: Action | None) -> None:
    """What the button stood for when it was drawn, or nothing."""
    assert lifecycle.action_for_click(run, action, turn, thing) is move


def test_a_decision_holds_for_the_action_it_was_made_on() -> None:
    """Another one has to be decided anew."""
    decided = lifecycle.decide(
        a_run(RunState.WAITING, **ASKING, detail="terminal · the agent rates it high\nrm -rf build"), BOB, approve=True
    )
    same, _ = advance(decided, look(Phase.WANTS_APPROVAL, WISH))
    other, effects = advance(decided, look(Phase.WANTS_APPROVAL, replace(WISH, action_id="e2")))
    assert (same.approved, same.decided_by, same.last_action) == (True, BOB, Action.APPROVE)
    assert (other.approved, other.decided_by, other.action, effects) == (None, None, "e2", TOLD)
    assert lifecycle.undecide(decided).approved is None


def test_an_agent_whose_action_was_rejected_waits_for_other_words() -> None:
    """It stays idle, and nobody paused it."""
    rejected = lifecycle.decide(a_run(RunState.WAITING, **ASKING), BOB, approve=False)
    idle, first = advance(
        replace(rejected, watch=replace(rejected.watch, ambiguous_since=NOW - timedelta(minutes=1))), look(Phase.IDLE)
    )
    again, second = advance(idle, look(Phase.IDLE, at=NOW + timedelta(minutes=5)))
    assert (idle.state, idle.reason, first) == (RunState.PAUSED, Reason.REJECTED, (Effect.TELL, Effect.RELEASE))
    assert (again.state, again.reason, second) == (RunState.PAUSED, Reason.REJECTED, ())


def test_a_resume_is_over_once_the_agent_works() -> None:
    """Whoever made it go on."""
    asked = lifecycle.resume(a_run(RunState.PAUSED), BOB)
    after, _ = advance(asked, look(Phase.WORKING))
    assert (asked.resume_by, asked.last_action, after.state, after.resume_by) == (
        BOB,
        Action.RESUME,
        RunState.WORKING,
        None,
    )
    assert lifecycle.not_resumed(asked).resume_by is None


def test_a_stop_is_over_once_its_run_works_again() -> None:
    """It was resumed, here or elsewhere; only a stop that came later, for a message on its way, still holds."""
    stopped, _ = lifecycle.stop(a_run(RunState.PAUSED), ALICE, NOW - timedelta(minutes=2))
    resumed, _ = advance(lifecycle.resume(stopped, BOB), look(Phase.WORKING))
    woken, _ = advance(stopped, look(Phase.WORKING))
    later, _ = advance(lifecycle.stop_later(stopped, ALICE, NOW), look(Phase.WORKING))
    assert (resumed.state, resumed.stop_by, resumed.stop_at, resumed.turn) == (RunState.WORKING, None, None, 2)
    assert (woken.state, woken.stop_by, woken.stop_at, woken.turn) == (RunState.WORKING, None, None, 1)
    assert (later.state, later.stop_by, later.stop_at) == (RunState.WORKING, ALICE, NOW)


def test_what_a_resumed_run_says_is_told_though_nobody_wrote_to_it() -> None:
    """It counts from the last message on; the words told before are old news, and at first not even that."""
    failed = a_run(RunState.FAILED, ending="e7", turn_after="e3", resume_by=BOB)
    on, _ = lifecycle.turn_resumed(failed, BOB, NOW - timedelta(seconds=1), NOW - timedelta(seconds=1))
    error = look(Phase.ERROR, Failed(Reason.MODEL_DOWN))
    still, nothing = advance(on, replace(error, ending="e7"))
    old, untold = advance(on, replace(error, ending="e7", asked_at=NOW + timedelta(seconds=9)))
    new, told = advance(on, replace(error, ending="e9"))
    assert (on.state, on.turn, on.turn_after, on.resume_by) == (RunState.WORKING, 2, "e3", None)
    assert (still.state, nothing) == (RunState.WORKING, ())
    assert (old.state, untold) == (RunState.FAILED, ())
    assert (new.state, told[0]) == (RunState.FAILED, Effect.TELL)


def test_a_stop_takes_back_what_was_decided() -> None:
    """To stop is to reject what waits, so an approval that has not gone out does not."""
    decided = lifecycle.decide(a_run(RunState.WAITING, **ASKING), BOB, approve=True)
    after, _ = lifecycle.stop(decided, ALICE, NOW)
    assert (after.approved, after.decided_by, after.stop_by) == (None, None, ALICE)


def test_one_message_at_a_time_is_decided_about() -> None:
    """The first; a decision on another leaves it."""
    first, second = (
        FollowUp(id=name, run=RunId("run"), author=BOB, text=f"{name} words", source_ts=MessageTs("1.0"))
        for name in ("first", "second")
    )
    asked = lifecycle.asks(lifecycle.asks(a_run(), first), second)
    assert (asked.doubtful_follow_up, asked.doubtful_text) == ("first", "first words")
    assert lifecycle.asks_no_more(asked, "second").doubtful_follow_up == "first"
    assert lifecycle.asks_no_more(asked, "first") == a_run()
    assert lifecycle.asks_no_more(asked).doubtful_follow_up is None


def test_anything_new_ends_the_silence() -> None:
    """A step, a cost, a link, another status: it was heard of."""
    silent = lifecycle.silence_told(a_run(phase=Phase.WORKING, heard_at=NOW - timedelta(hours=13)), NOW)
    same, _ = advance(silent, look(Phase.WORKING))
    heard, _ = advance(silent, look(Phase.WORKING, progress="Reading"))
    assert (same.watch.silence_told_at, same.watch.heard_at) == (NOW, silent.watch.heard_at)
    assert (heard.watch.silence_told_at, heard.watch.heard_at) == (None, NOW)


@pytest.mark.parametrize("state", [RunState.NEEDS_REPOSITORY, RunState.NEEDS_GO, RunState.QUEUED])
def test_a_look_says_nothing_of_a_run_that_has_not_begun(state: RunState) -> None:
    """It is about the conversation before, or about none."""
    run = a_run(state)
    assert advance(run, look(Phase.GONE)) == (run, ())


def test_what_waits_for_approval_still_waits_while_its_sandbox_sleeps() -> None:
    """Who approves it wakes the sandbox."""
    run = a_run(RunState.WAITING, waiting=Waiting.APPROVAL, action="e1", api=Api.V1)
    after, effects = advance(run, look(Phase.ASLEEP))
    assert (after.state, after.action, effects) == (RunState.WAITING, "e1", ())


def test_what_waited_for_approval_is_forgotten_by_a_sleeping_old_server() -> None:
    """V0 does not go on with it; what was held for it may wake it."""
    run = a_run(RunState.WAITING, waiting=Waiting.APPROVAL, action="e1", api=Api.V0)
    after, effects = advance(run, look(Phase.ASLEEP))
    assert (after.state, after.reason, after.action) == (RunState.PAUSED, Reason.ASLEEP, None)
    assert effects == (Effect.TELL, Effect.RELEASE)


def test_a_stop_ends_what_waits_in_a_sleeping_sandbox() -> None:
    """Nobody works there."""
    run = a_run(RunState.WAITING, waiting=Waiting.APPROVAL, action="e1", stop_by=ALICE)
    assert advance(run, look(Phase.ASLEEP))[0].state is RunState.STOPPED


def test_a_start_that_is_called_off_is_out_of_reach_no_more() -> None:
    """Nothing is tried any more."""
    run = a_run(RunState.STARTING, unreachable_since=NOW, key_refused=True)
    after, _ = lifecycle.cancel(run, BOB, NOW)
    assert (after.state, after.watch.unreachable_since, after.watch.key_refused) == (RunState.CANCELLED, None, False)


def test_a_stop_without_effect_is_forgotten() -> None:
    """The card no longer says that it was asked for, and Stop is offered again."""
    asked, _ = lifecycle.stop(a_run(), BOB, NOW)
    assert lifecycle.not_stopped(asked).stop_by is None
    assert Action.STOP in lifecycle.offers(lifecycle.not_stopped(asked))


def test_a_deleted_card_is_posted_once_more_and_then_given_up() -> None:
    """Without a place it is owed anew; given up, nothing is edited any more."""
    run = a_run(ts=MessageTs("1.000001"), posts=1)
    assert lifecycle.card_deleted(run).card == Card(posts=1)
    assert lifecycle.card_gone(run).card == Card(ts=MessageTs("1.000001"), posts=1, gone=True)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (a_run(ambiguous_since=NOW), True),
        (a_run(), False),
        (a_run(RunState.DONE, ambiguous_since=NOW), False),
        (a_run(ambiguous_since=NOW, turn_at=NOW - timedelta(seconds=2)), False),
    ],
)
def test_words_are_expected_of_a_turn_that_is_over(run: Run, *, expected: bool) -> None:
    """Not right after our own message: the end is more likely the one before it."""
    assert lifecycle.words_expected(run, NOW) is expected


@pytest.mark.parametrize(
    ("state", "reason", "watched", "may_live"),
    [
        (RunState.LOST, Reason.SILENT, True, True),
        (RunState.LOST, Reason.GONE, True, True),
        (RunState.FAILED, Reason.AGENT_ERROR, True, False),
        (RunState.FAILED, Reason.START_UNSURE, True, True),
        (RunState.FAILED, Reason.REPOSITORY, False, False),
        (RunState.DONE, None, False, False),
    ],
)
def test_what_may_come_back_is_still_looked_at(
    state: RunState, reason: Reason | None, *, watched: bool, may_live: bool
) -> None:
    """What OpenHands refused to start can't come back; what may live is stopped before a retry."""
    run = a_run(state, reason=reason)
    assert (lifecycle.watched_after_end(run), lifecycle.may_live(run)) == (watched, may_live)
    assert (lifecycle.looked_at_later(run, NOW).watch.next_poll_at == NOW) is watched


def test_a_finish_at_the_limit_of_steps_says_so() -> None:
    """It is done, and why it ended there is kept for the card."""
    after, _ = advance(a_run(), look(Phase.ERROR, Finish("Done.", Reason.MAX_STEPS)))
    assert (after.answer, after.reason) == ("Done.", Reason.MAX_STEPS)
    assert "limit of steps" in words.explanation(after)


@pytest.mark.parametrize(
    ("run", "rests"),
    [
        (a_run(RunState.WAITING, waiting=Waiting.ANSWER), True),
        (a_run(RunState.WAITING, waiting=Waiting.ANSWER, news_at=NOW), False),
        (a_run(RunState.WAITING, waiting=Waiting.ANSWER, doubtful_follow_up="f"), False),
        (a_run(RunState.WAITING, waiting=Waiting.QUESTION), False),
        (a_run(RunState.WORKING), False),
    ],
)
def test_what_was_answered_rests(run: Run, *, rests: bool) -> None:
    """Only where nothing was asked, and no message is in doubt."""
    assert lifecycle.rests(run, NOW, timedelta(minutes=5)) is rests


def test_a_run_takes_the_time_of_its_turns() -> None:
    """Whoever replied after a day does not read that it took a day."""
    first, _ = advance(a_run(), look(Phase.ENDED, Finish("Fixed.")))
    assert lifecycle.took(a_run(), NOW) == lifecycle.took(first, NOW + timedelta(days=1)) == timedelta(minutes=10)
    again, _ = lifecycle.sent(first, BOB, "e9", NOW + timedelta(days=1), NOW + timedelta(days=1))
    later = NOW + timedelta(days=1, seconds=40)
    assert lifecycle.took(again, later) == timedelta(minutes=10, seconds=40)
    second, _ = advance(again, look(Phase.ENDED, Finish("Fixed more."), at=later))
    assert lifecycle.took(second, later + timedelta(days=1)) == timedelta(minutes=10, seconds=40)


def test_whoever_replied_is_called() -> None:
    """Who had an end coming when the reply arrived still waits for it."""
    done = a_run(RunState.DONE)
    replied, _ = lifecycle.sent(done, BOB, "e9", NOW, NOW)
    assert (lifecycle.waits_for_end(done), lifecycle.waits_for_end(replied)) == ((ALICE,), (BOB,))
    both, _ = lifecycle.sent(a_run(RunState.WORKING), BOB, "e9", NOW, NOW)
    assert lifecycle.waits_for_end(both) == (ALICE, BOB)
    woken, _ = lifecycle.turn_resumed(replied, None, NOW, NOW)
    assert lifecycle.waits_for_end(woken) == (BOB,)
    anew, _ = lifecycle.retry(a_run(RunState.FAILED), BOB, ConversationId("c2"), NOW)
    assert lifecycle.waits_for_end(anew) == (BOB,)


def test_the_first_result_is_kept_and_the_team_hears_of_what_differs() -> None:
    """A question is no result; a pull request more is another outcome."""
    asked, _ = advance(a_run(), look(Phase.ENDED, Said("Which one?")))
    assert asked.first_answer == ""
    run, heard = a_run(), []
    ends: list[tuple[Last, tuple[str, ...]]] = [
        (Finish("Fixed."), ()),
        (Said("You are welcome."), ()),
        (Said("Sure."), ()),
        (Finish("Opened."), ("link",)),
    ]
    for number, (last, links) in enumerate(ends, start=1):
        at = NOW + timedelta(minutes=number)
        run, effects = advance(run, look(Phase.ENDED, last, at=at, ending=f"e{number}", pull_requests=links))
        heard.append(Effect.NOTIFY in effects)
        run, _ = lifecycle.sent(run, BOB, f"e{number}", at, at)
    assert (run.first_answer, heard) == ("Fixed.", [True, True, False, True])


# --- ends that a message overtook ---------------------------------------------------------------------------------


EARLIER = (Overtaken("e1", Finish("First, see https://github.com/org/repo/pull/7")), Overtaken("e2", Said("And?")))


def test_an_overtaken_end_is_told_as_it_would_have_been_and_is_known_from_then_on() -> None:
    """The run itself stays at work: what it shows is the newest turn."""
    run = a_run(RunState.WORKING)
    seen = look(Phase.WORKING, at=NOW + timedelta(seconds=5), overtaken=EARLIER, pull_requests=("link",))
    told = lifecycle.overtaken(run, seen)
    assert [(one.state, one.answer, effects) for one, effects in told] == [
        (RunState.DONE, "First, see https://github.com/org/repo/pull/7", TOLD),
        (RunState.WAITING, "And?", TOLD),
    ]
    assert {one.pull_requests for one, _ in told} == {("link",)}

    after, effects = advance(run, seen)
    assert (after.state, after.ending, effects) == (RunState.WORKING, "e2", ())
    assert (after.first_answer, after.told_team) == (told[0][0].answer, "waiting question with pull request")
    assert lifecycle.overtaken(after, replace(seen, asked_at=NOW + timedelta(seconds=6), overtaken=EARLIER[1:])) == ()


def test_an_old_look_tells_nothing() -> None:
    run = a_run(RunState.WORKING)
    assert lifecycle.overtaken(run, look(Phase.WORKING, at=run.watch.observed_at, overtaken=EARLIER)) == ()
    queued = a_run(RunState.QUEUED)
    assert lifecycle.overtaken(queued, look(Phase.WORKING, at=NOW + timedelta(seconds=5), overtaken=EARLIER)) == ()


def test_a_turn_begins_anew_until_somebody_looks() -> None:
    """The first turn begins with the task, which overtakes nothing."""
    run = a_run(RunState.WORKING)
    unseen = replace(run, turn=2, watch=replace(run.watch, phase=None))
    assert lifecycle.begins_anew(unseen)
    assert not lifecycle.begins_anew(replace(unseen, turn=1))
    seen = replace(unseen, watch=replace(run.watch, phase=Phase.WORKING))
    assert not lifecycle.begins_anew(seen)
    assert lifecycle.reads_back(unseen, look(Phase.WORKING))
    assert lifecycle.reads_back(seen, look(Phase.ENDED))
    assert not lifecycle.reads_back(seen, look(Phase.WORKING))
    assert not lifecycle.reads_back(replace(unseen, turn=1), look(Phase.ENDED))


def test_the_first_of_two_approvals_holds_only_for_its_action() -> None:
    """The agent is told after the second; another action asks for both anew."""
    run = a_run(RunState.WAITING, waiting=Waiting.APPROVAL, action="e1", detail="make")
    once = lifecycle.approved_by_one(run, BOB)
    assert (once.first_approval, once.approved, lifecycle.offers(once)[:2]) == (BOB, None, lifecycle.offers(run)[:2])
    assert lifecycle.spoken(once, ApprovalRequest("e1", "bash", "make", "LOW")).first_approval == BOB
    assert lifecycle.spoken(once, ApprovalRequest("e2", "bash", "make", "LOW")).first_approval is None


def test_a_start_that_is_not_allowed_any_more_is_cancelled() -> None:
    """Whoever asked for it last answers for it."""
    run = a_run(RunState.STARTING)
    after, effects = lifecycle.barred(run, NOW)
    assert (after.state, after.reason, effects) == (RunState.CANCELLED, Reason.NOT_ALLOWED, (Effect.RELEASE,))
    assert lifecycle.starter(run) == run.requester
    assert lifecycle.starter(changed(run, last_action=Action.STOP, last_action_by=BOB)) == run.requester
    assert lifecycle.starter(changed(run, last_action=Action.RETRY, last_action_by=BOB)) == BOB


def test_a_question_that_nobody_answered_is_over() -> None:
    """Replies that were held for it go back to their authors."""
    after, effects = lifecycle.unanswered(a_run(RunState.NEEDS_REPOSITORY, reason=Reason.UNLISTED), NOW)
    assert (after.state, after.reason, effects) == (RunState.CANCELLED, Reason.UNANSWERED, (Effect.RELEASE,))


# --- edits and deletions ----------------------------------------------------------------------------------------

FILES = (File(id="F1", name="a.png"),)
WORDED = Start("fix LICENCE", branch="dev", model="x")
TYPED, UNKNOWN = Choice("org/other", Origin.TYPED), Choice(candidates=("org/a",), unlisted="org/b")


def reworded(run: Run, choice: Choice | None, command: Start = WORDED) -> lifecycle.Changed:
    return lifecycle.reworded(run, command, choice, files=FILES, conversation=ConversationId("c2"), now=NOW)


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.NEEDS_GO, RunState.STARTING])
def test_an_edit_of_what_waits_changes_it_where_it_stands(state: RunState) -> None:
    """Task, files, branch, model and repository are those of the words as they are now."""
    after, effects = reworded(a_run(state, repository="org/repo"), TYPED)
    assert (after.state, after.task, after.files, effects) == (state, "fix LICENCE", FILES, ())
    assert (after.repository, after.origin, after.branch, after.model) == ("org/other", Origin.TYPED, "dev", "x")


def test_an_edit_keeps_a_repository_that_a_person_chose() -> None:
    """And its branch, unless the words name one."""
    run = a_run(RunState.QUEUED, repository="org/repo", origin=Origin.CHOSEN, branch="main")
    after, _ = reworded(run, None, Start("fix LICENCE"))
    assert (after.task, after.repository, after.branch) == ("fix LICENCE", "org/repo", "main")
    assert reworded(run, None)[0].branch == "dev"


def test_an_edit_can_ask_which_repository_and_can_answer_it() -> None:
    """As the request would have, had it been written like that."""
    asks, effects = reworded(a_run(RunState.QUEUED, repository="org/repo"), UNKNOWN)
    assert (asks.state, asks.repository, asks.candidates) == (RunState.NEEDS_REPOSITORY, "org/b", ("org/a",))
    assert (asks.reason, effects) == (Reason.UNLISTED, (Effect.TELL,))
    assert reworded(a_run(RunState.QUEUED), Choice())[0].reason is None
    answered, _ = reworded(asks, TYPED)
    assert (answered.state, answered.repository) == (RunState.QUEUED, "org/other")
    assert (answered.origin, answered.branch) == (Origin.TYPED, "dev")


def test_an_edit_of_a_start_that_came_to_nothing_is_for_the_next_one() -> None:
    """Where the words name no repository, it stays what it was."""
    failed = a_run(RunState.FAILED, reason=Reason.BRANCH, repository="org/repo")
    after, effects = reworded(failed, TYPED)
    assert (after.state, after.task, after.repository, effects) == (RunState.FAILED, "fix LICENCE", "org/other", ())
    assert reworded(failed, Choice())[0].repository == "org/repo"


def test_a_deletion_before_the_start_cancels_and_forgets_the_words() -> None:
    """Who deleted it is not known. A run without words can't be started again."""
    after, effects = lifecycle.taken_back(a_run(RunState.QUEUED), NOW)
    assert (after.state, after.stop_by, effects) == (RunState.CANCELLED, None, (Effect.RELEASE,))
    blank = lifecycle.without_words(a_run(RunState.FAILED, reason=Reason.BRANCH, context="x", files=FILES))
    assert (blank.task, blank.context, blank.files) == (lifecycle.DELETED, "", ())
    assert (lifecycle.has_words(blank), lifecycle.has_words(a_run())) == (False, True)
    assert Action.RETRY in lifecycle.offers(a_run(RunState.FAILED, reason=Reason.BRANCH))
    assert Action.RETRY not in lifecycle.offers(blank)


def test_a_question_about_a_message_shows_its_words_as_they_are_now() -> None:
    """Only about the very message that was edited."""
    edited = FollowUp(id="f1", run=RunId("run"), author=ALICE, text="new", source_ts=MessageTs("1.1"))
    run = a_run(doubtful_follow_up="f1", doubtful_text="old")
    assert lifecycle.asks_anew(run, edited).doubtful_text == "new"
    assert lifecycle.asks_anew(replace(run, doubtful_follow_up="f2"), edited).doubtful_text == "old"
