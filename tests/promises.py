"""The promises, checked from the tables: after each step against the step before, and once everything has settled."""

from datetime import UTC, datetime
from typing import Any

from bot.core import cards, lifecycle
from bot.core.model import ConversationId, FollowUp, FollowUpState, Phase, Run, RunId, RunState, UserId, Waiting
from bot.core.owed import OutboxKind
from bot.core.pacing import Patience
from bot.effects import Links
from bot.slack.recognise import Identity
from bot.slots import Limits
from tests.openhands.account import Account, Memory, buttons_in
from tests.store.bench import TEAM

SLOTS = 2
PATIENCE = Patience()
LINKS = Links(Identity(TEAM, UserId("UBOT"), "B1", "https://team.slack.com/"), "https://oh.example", notifies=False)
LIMITS = Limits(slots=SLOTS, full_s=PATIENCE.full_s)
SAID = "words "
"""The beginning of every message to an agent."""


class Now:
    """The contents of the tables at one moment."""

    def __init__(self, all_runs: list[Run], follow_ups: list[FollowUp], owed: list[Any], full: bool) -> None:  # noqa: FBT001 - read from the tables
        self.runs = {run.id: run for run in all_runs}
        self.follow_ups = follow_ups
        self.owed = owed
        self.full = full

    @property
    def open(self) -> list[Any]:
        return [row for row in self.owed if row["done_at"] is None and row["failed_at"] is None]

    def has_open(self, run: Run, kind: OutboxKind) -> bool:
        return any(row["run"] == run.id and row["kind"] == kind.value for row in self.open)

    @property
    def occupying(self) -> int:
        return sum(run.state in lifecycle.OCCUPIES for run in self.runs.values())

    @property
    def queue(self) -> list[Run]:
        return sorted(self._in(RunState.QUEUED), key=place_in_queue)

    def served(self, person: UserId) -> datetime:
        """Return when somebody got a slot last."""
        times = [run.admitted_at for run in self.runs.values() if run.requester == person]
        return max((at for at in times if at is not None), default=datetime.min.replace(tzinfo=UTC))

    def _in(self, state: RunState) -> list[Run]:
        return [run for run in self.runs.values() if run.state is state]

    def without_answers(self) -> tuple[Any, ...]:
        """Return everything a click may change, except the sentences that only one person sees."""
        return self.runs, self.follow_ups, [row for row in self.owed if row["kind"] != OutboxKind.ANSWER.value]


def place_in_queue(run: Run) -> tuple[Any, Any]:
    return run.queued_at or run.created_at, run.created_at


class Promises:
    """What must hold after every step, in whatever order they happen."""

    def __init__(self, account: Account, slack: Memory) -> None:
        self.account = account
        self.slack = slack
        self.before = Now([], [], [], full=False)
        self.attempts: dict[str, tuple[RunId, int]] = {}

    def kept(self, now: Now) -> None:
        """Check the contents of the tables after a step."""
        assert self.account.violations == []
        self.starts_are_single(now)
        self.changes_are_told_once(now)
        self.the_queue_moves_in_order(now)
        self.cards_are_true_or_behind(now)
        for run in now.runs.values():
            something_moves_it_on(now, run)
        for one in now.follow_ups:
            nothing_is_lost(now, one)
        self.agents_heard_in_order(now)
        self.before = now

    def starts_are_single(self, now: Now) -> None:
        """Check that an attempt has at most one open start, and a conversation's id only one attempt."""
        starts = [(row["run"], row["payload"]["attempt"]) for row in now.open if row["kind"] == OutboxKind.START.value]
        assert len(starts) == len(set(starts))
        for run in now.runs.values():
            assert self.attempts.setdefault(str(run.conversation_id), (run.id, run.attempt)) == (run.id, run.attempt)

    def changes_are_told_once(self, now: Now) -> None:
        """Check that one message tells each change into a state that needs a person, and that no end is told twice."""
        old = {row["id"] for row in self.before.owed}
        told = [row for row in now.owed if row["kind"] == OutboxKind.MESSAGE.value and row["id"] not in old]
        for run in now.runs.values():
            was = self.before.runs.get(run.id)
            changed = was is None or lifecycle.shown(was) != lifecycle.shown(run) or was.turn != run.turn
            news = cards.news(run, LINKS.page(run)).text
            count = sum(row["run"] == run.id and self.text_of(row) == news for row in told)
            seen_before = was is not None and run.ending is not None and was.ending == run.ending
            asked_by_its_card = was is None and run.state is RunState.NEEDS_REPOSITORY
            if run.state in lifecycle.TOLD and changed and not seen_before and not asked_by_its_card:
                assert count == 1, (was, run)
            elif not changed:
                assert count == 0, (was, run)
        said = [post.text for post in self.slack.posts if "These are the words" in post.text and post.thread]
        assert len(said) == len(set(said))

    def text_of(self, row: Any) -> str:
        """Return the text of a row owed to Slack; for a done row, which has lost its text, the text that was posted."""
        said: list[str] = [post.text for post in self.slack.posts if post.row == row["id"]]
        return said[0] if said else row["payload"]["text"]

    def the_queue_moves_in_order(self, now: Now) -> None:
        """Check that no run is admitted beyond the slots or out of turn, or waits while there is a slot."""
        were = {one: run for one, run in self.before.runs.items() if run.state is not RunState.QUEUED}
        entered = [run for run in now.runs.values() if run.state is RunState.STARTING and run.id not in were]
        busy = {(run.id, run.turn) for run in self.before.runs.values() if run.state in lifecycle.OCCUPIES}
        still = [run for run in now.runs.values() if run.state in lifecycle.OCCUPIES and (run.id, run.turn) in busy]
        assert not entered or len(entered) + len(still) <= SLOTS  # only a message to a run that began may exceed it
        for run in entered:
            asked = self.before.runs.get(run.id, run)
            for other in now.queue:
                if other.requester == run.requester:
                    assert place_in_queue(asked) < place_in_queue(other)
                else:
                    assert self.before.served(run.requester) <= self.before.served(other.requester)
        if now.queue and not now.full:
            assert now.occupying >= SLOTS

    def cards_are_true_or_behind(self, now: Now) -> None:
        """Check that each card shows its run, unless an edit is owed."""
        for run in now.runs.values():
            if run.card.ts is not None and run.version == run.card.version:
                shown, due = self.slack.shown[run.card.ts], cards.card(run, LINKS.page(run))
                assert (shown.text, *buttons_of(shown)) == (due.text, *buttons_of(due)), run

    def agents_heard_in_order(self, now: Now) -> None:
        """Check that no message reaches an agent twice or out of order; a new attempt's agent may hear old ones."""
        written = [one.text for one in now.follow_ups if one.text.startswith(SAID)]
        for talk in self.account.talks.values():
            heard = [written.index(text) for text in talk.heard[1:] if text in written]
            assert heard == sorted(set(heard)), (talk, now.follow_ups)

    def at_rest(self, now: Now) -> None:
        """Check that everything still open waits for a person or a slot."""
        for run in now.runs.values():
            assert run.resume_by is None, run
            assert run.approved is None or run.waiting is not Waiting.APPROVAL, run
            assert run.stop_by is None or run.state not in lifecycle.OCCUPIES, run
            assert run.version == run.card.version, run
        for one in now.follow_ups:
            if one.state in (FollowUpState.SENDING, FollowUpState.UNSURE, FollowUpState.WAITING):
                run = now.runs[RunId(one.run)]
                assert lifecycle.holds(run) or run.doubtful_follow_up is not None, (one, run)
            if one.state is FollowUpState.HELD:
                assert now.runs[RunId(one.run)].doubtful_follow_up is not None, one
        for run in now.runs.values():
            talk = self.account.talks.get(run.conversation_id or ConversationId(""))
            if talk is not None and talk.phase is Phase.ENDED and run.state is not RunState.STARTING:
                assert any(talk.events[-1].text in post.text for post in self.slack.posts if post.thread), (run, talk)


def buttons_of(message: cards.Message) -> list[tuple[str, str]]:
    """Return each button's action and target, without its turn: a Stop of an earlier turn counts for every turn."""
    return [(one.action, one.value.split(":")[2]) for one in buttons_in(message)]


def something_moves_it_on(now: Now, run: Run) -> None:
    """Check that no run can stay as it is for ever unless it waits for a person."""
    starts = any(
        row["run"] == run.id and row["kind"] == OutboxKind.START.value and row["payload"]["attempt"] == run.attempt
        for row in now.open
    )
    if run.state is RunState.STARTING:
        assert (
            starts or (run.card.posts == 0 and now.has_open(run, OutboxKind.CARD)) or run.watch.next_poll_at is not None
        ), run
    if run.state in (RunState.WORKING, RunState.WAITING, RunState.PAUSED):
        assert run.watch.next_poll_at is not None, run
    if run.resume_by is not None:
        assert now.has_open(run, OutboxKind.RESUME), run
    if run.approved is not None and run.watch.phase is Phase.WANTS_APPROVAL:
        assert now.has_open(run, OutboxKind.DECIDE) or run.watch.next_poll_at is not None, run
    if run.card.posts == 0:
        assert now.has_open(run, OutboxKind.CARD), run


def nothing_is_lost(now: Now, one: FollowUp) -> None:
    """Check that a message has reached its end, is on its way, or that a person is asked about it."""
    run = now.runs[RunId(one.run)]
    on_its_way = any(row["id"] == one.id for row in now.open)
    match one.state:
        case FollowUpState.WAITING | FollowUpState.SENDING | FollowUpState.UNSURE | FollowUpState.HELD:
            assert on_its_way, (one, run)
            assert one.asked_at is None or run.doubtful_follow_up is not None, (one, run)
        case FollowUpState.DELIVERED | FollowUpState.FAILED:
            assert not on_its_way, (one, run)
        case FollowUpState.WITHDRAWN:
            pass  # its row ends when its lane reaches it
