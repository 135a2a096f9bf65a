"""An OpenHands and a Slack in memory, for tests that need every interleaving rather than the wire."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import count
from typing import Any

from bot.core.cards import Message
from bot.core.errors import Archived, Asleep, AtCapacity, NotFound, TooFast, Unavailable, Unsure
from bot.core.model import (
    Api,
    ApprovalRequest,
    ChannelId,
    ConversationId,
    DecisionOutcome,
    Failed,
    Finish,
    Last,
    MessageTs,
    Observation,
    Person,
    Phase,
    Place,
    Reason,
    RowId,
    Run,
    RunId,
    RunState,
    Said,
    Slots,
    Started,
    UserId,
)
from bot.openhands import GO_ON, Before, nothing
from bot.slack.gateway import Gateway, Posted
from bot.slack.recognise import Identity

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ENDINGS = frozenset({Phase.ENDED, Phase.ASLEEP, Phase.GONE, Phase.MISSING})


class TickingClock:
    """A clock on which no two moments are the same, and nothing else passes by itself."""

    def __init__(self) -> None:
        self._now = START

    def now(self) -> datetime:
        self._now += timedelta(milliseconds=1)
        return self._now

    def passes(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def wait(self, event: object, until: datetime | None) -> None:
        """Refuse: nothing that is tested here may wait."""
        raise AssertionError(f"waits for {event} until {until}")


class Died(BaseException):
    """The process was killed in the middle of a call."""


class Fate(StrEnum):
    """What becomes of a call that goes out."""

    FINE = "fine"
    DOWN = "down"
    TOO_FAST = "too fast"
    LOST = "lost on its way"
    ANSWER_LOST = "taken, and its answer lost"
    DIES_BEFORE = "the process dies before it is taken"
    DIES_AFTER = "the process dies after it was taken"
    IGNORED = "taken without effect"
    """Approvals at the instant the status turns, and nothing else."""


class What(StrEnum):
    """Kinds of events."""

    PERSON = "person"
    FINISH = "finish"
    SAID = "said"
    WANTS = "wants"
    FAILED = "failed"
    STEP = "step"
    """What came of an action that was approved or rejected."""


@dataclass(frozen=True)
class Event:
    id: str
    what: What
    text: str


@dataclass
class Talk:
    """A conversation as its agent lives it."""

    phase: Phase = Phase.STARTING
    frozen: Phase = Phase.WORKING
    """What it goes on with when it is woken."""
    events: list[Event] = field(default_factory=list)

    @property
    def heard(self) -> list[str]:
        """What people said to it, the task first."""
        return [event.text for event in self.events if event.what is What.PERSON]


class Account:
    """`OpenHands` (V1) in memory. A start that arrives twice is noted in `violations`."""

    def __init__(self, clock: TickingClock) -> None:
        self._clock = clock
        self._ids = count(1)
        self.talks: dict[ConversationId, Talk] = {}
        self.full = False
        self.down = False
        self.fate = Fate.FINE
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What people do while the next call is under way."""
        self.violations: list[str] = []

    # --- what agents do -----------------------------------------------------------------------------------------

    def add(self, talk: Talk, what: What, text: str) -> Event:
        event = Event(f"e{next(self._ids)}", what, text)
        talk.events.append(event)
        return event

    def ends(self, talk: Talk, what: What, phase: Phase) -> None:
        """Let the turn end, or halt, with words that name their event."""
        event = self.add(talk, what, "")
        ask = "?" if what is What.SAID and int(event.id[1:]) % 2 else "."
        talk.events[-1] = Event(event.id, what, f"These are the words ({event.id}){ask}")
        talk.phase = phase

    def falls_asleep(self, talk: Talk) -> None:
        talk.frozen, talk.phase = talk.phase, Phase.ASLEEP

    # --- the calls ----------------------------------------------------------------------------------------------

    async def _goes_out(self, before: Before, effect: Callable[[], None]) -> None:
        """Make a call that changes something; what becomes of it was decided beforehand."""
        await before()
        fate, self.fate = self.fate, Fate.FINE
        if (meanwhile := self.meanwhile) is not None:
            self.meanwhile = None
            await meanwhile()
        match fate:
            case _ if self.down:
                raise Unavailable
            case Fate.DOWN:
                raise Unavailable
            case Fate.TOO_FAST:
                raise TooFast(1.0)
            case Fate.LOST:
                raise Unsure
            case Fate.DIES_BEFORE:
                raise Died
            case Fate.ANSWER_LOST:
                effect()
                raise Unsure
            case Fate.DIES_AFTER:
                effect()
                raise Died
            case Fate.FINE | Fate.IGNORED:
                effect()

    def _reachable(self) -> None:
        if self.down:
            raise Unavailable

    def _there(self, run: Run) -> Talk:
        self._reachable()
        talk = self.talks.get(run.conversation_id or ConversationId(""))
        if talk is None or talk.phase in (Phase.STARTING, Phase.START_FAILED, Phase.GONE):
            raise NotFound
        return talk

    def _wake(self, talk: Talk) -> None:
        if self.full:
            raise AtCapacity(None)
        if talk.phase is Phase.ASLEEP:
            talk.phase = talk.frozen

    @property
    def api(self) -> Api:
        return Api.V1

    def link(self, conversation: ConversationId) -> str:
        return f"https://oh.example/conversations/{conversation}"

    async def start(self, run: Run, message: str, about: str, before: Before = nothing) -> Started:  # noqa: ARG002 - the protocol's
        name = run.conversation_id or ConversationId("")
        self._reachable()

        def begins() -> None:
            if self.full:
                raise AtCapacity(None)
            if name in self.talks:
                self.violations.append(f"{name} was started twice")
            self.add(self.talks.setdefault(name, Talk()), What.PERSON, message)

        await self._goes_out(before, begins)
        return Started(conversation_id=name, start_task_id=name)

    async def find_start(self, run: Run, message: str, since: datetime) -> Started | None:  # noqa: ARG002 - the protocol's
        self._reachable()
        name = run.conversation_id or ConversationId("")
        return Started(conversation_id=name, start_task_id=name) if name in self.talks else None

    async def observe(self, runs: Sequence[Run]) -> Mapping[RunId, Observation]:
        self._reachable()
        return {run.id: self._seen(run) for run in runs if run.conversation_id is not None}

    def _seen(self, run: Run) -> Observation:
        talk = self.talks.get(run.conversation_id or ConversationId(""))
        unknown = Phase.STARTING if run.state is RunState.STARTING and run.start_task_id is None else Phase.GONE
        phase = unknown if talk is None else talk.phase
        return Observation(asked_at=self._clock.now(), phase=phase, start_task_id=run.start_task_id)

    async def read(self, run: Run, seen: Observation) -> Observation:
        talk = self.talks.get(run.conversation_id or ConversationId(""))
        found = None if talk is None else self._last(talk, seen.phase, run.turn_after)
        if found is None:
            return seen
        last, event = found
        ending = None if isinstance(last, ApprovalRequest) else event.id
        return Observation(
            asked_at=seen.asked_at, phase=seen.phase, last=last, ending=ending, start_task_id=run.start_task_id
        )

    def _last(self, talk: Talk, phase: Phase, turn_after: str | None) -> tuple[Last, Event] | None:
        """Return the newest words if they are of this turn and say what the phase is about."""
        newest = talk.events[-1]
        said = next(at for at, event in reversed([*enumerate(talk.events)]) if event.what is What.PERSON)
        if turn_after in [event.id for event in talk.events[said:]]:  # the turn's own message has not shown up
            return None
        match newest.what:
            case What.FINISH if phase in ENDINGS:
                return Finish(newest.text), newest
            case What.SAID if phase in ENDINGS:
                return Said(newest.text), newest
            case What.FAILED if phase is Phase.ERROR:
                return Failed(Reason.MODEL_DOWN, newest.text), newest
            case What.WANTS if phase is Phase.WANTS_APPROVAL:
                return ApprovalRequest(newest.id, "terminal", newest.text, "LOW"), newest
            case _:
                return None

    async def last_event(self, run: Run) -> str | None:
        return self._there(run).events[-1].id

    async def send(self, run: Run, text: str, before: Before = nothing) -> None:
        def arrives() -> None:
            talk = self._there(run)
            if talk.phase is Phase.ASLEEP:
                raise Asleep
            if talk.phase is Phase.MISSING:
                raise Archived
            self.add(talk, What.PERSON, text)
            talk.phase = Phase.WORKING

        await self._goes_out(before, arrives)

    async def heard(self, run: Run, text: str, after: str | None) -> bool:
        events = self._there(run).events
        anchor = next((at for at, event in enumerate(events) if event.id == after), -1)
        return any(event.what is What.PERSON and event.text == text for event in events[anchor + 1 :])

    async def stop(self, run: Run, *, interrupts: bool = True) -> None:  # noqa: ARG002 - they always work here
        def halts() -> None:
            talk = self._there(run)
            if talk.phase is Phase.WORKING:
                talk.phase = Phase.PAUSED
            elif talk.phase is Phase.WANTS_APPROVAL:
                self._rejected(talk)

        await self._goes_out(nothing, halts)

    def _rejected(self, talk: Talk) -> None:
        self.add(talk, What.STEP, "rejected")
        talk.phase = Phase.IDLE

    async def resume(self, run: Run) -> None:
        def wakes() -> None:
            talk = self._there(run)
            if talk.phase is Phase.MISSING:
                raise Archived
            self._wake(talk)

        await self._goes_out(nothing, wakes)

    async def go_on(self, run: Run, before: Before = nothing) -> bool:
        talk = self._there(run)
        match talk.phase:
            case Phase.MISSING:
                raise Archived
            case Phase.ASLEEP:
                await self._goes_out(before, lambda: self._wake(talk))
                raise Asleep
            case Phase.PAUSED | Phase.IDLE | Phase.ERROR:
                await self._goes_out(before, lambda: setattr(talk, "phase", Phase.WORKING))
            case Phase.STUCK:
                await self.send(run, GO_ON, before)
            case _:
                return False
        return True

    async def decide(
        self,
        run: Run,
        action_id: str,
        *,
        accept: bool,
        reason: str,  # noqa: ARG002 - the protocol's
        before: Before = nothing,
    ) -> DecisionOutcome:
        talk = self._there(run)
        if talk.phase is Phase.ASLEEP:
            raise Asleep
        if talk.phase is not Phase.WANTS_APPROVAL:
            return DecisionOutcome.OVER
        if talk.events[-1].id != action_id:
            return DecisionOutcome.OTHER
        deaf = self.fate is Fate.IGNORED

        def takes() -> None:
            if deaf:
                return
            if accept:
                self.add(talk, What.STEP, "carried out")
                talk.phase = Phase.WORKING
            else:
                self._rejected(talk)

        await self._goes_out(before, takes)
        return DecisionOutcome.POSTED

    async def slots(self) -> Slots | None:
        return None


@dataclass(frozen=True)
class Button:
    """A button as somebody may still have it on the screen."""

    action: str
    value: str


def buttons_in(message: Message) -> list[Button]:
    """Return a message's buttons that are no links."""
    row: list[dict[str, Any]] = [one for block in message.blocks for one in block.get("elements", ())]
    return [Button(one["action_id"], one["value"]) for one in row if "value" in one]


@dataclass(frozen=True)
class Post:
    row: RowId
    thread: MessageTs | None
    ts: MessageTs
    text: str


class Memory(Gateway):
    """Slack in memory: it takes everything, and keeps every button it ever showed."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.shown: dict[MessageTs, Message] = {}
        self.buttons: dict[Button, None] = {}
        self._ts = count(1)

    async def post(
        self,
        channel: ChannelId,  # noqa: ARG002 - the gateway's
        message: Message,
        row: RowId,
        *,
        thread: MessageTs | None = None,
    ) -> Posted:
        ts = MessageTs(f"{START.timestamp():.0f}.{next(self._ts):06d}")
        self.posts.append(Post(row, thread, ts, message.text))
        self._show(ts, message)
        return Posted(ts, thread)

    async def find(
        self,
        channel: ChannelId,  # noqa: ARG002 - the gateway's
        row: RowId,
        us: Identity,  # noqa: ARG002 - the gateway's
        *,
        thread: MessageTs | None,  # noqa: ARG002 - the gateway's
        sent_at: datetime,  # noqa: ARG002 - the gateway's
    ) -> Posted | None:
        return next((Posted(post.ts, post.thread) for post in self.posts if post.row == row), None)

    async def update(self, channel: ChannelId, ts: MessageTs, message: Message) -> None:  # noqa: ARG002 - the gateway's
        self._show(ts, message)

    def _show(self, ts: MessageTs, message: Message) -> None:
        self.shown[ts] = message
        self.buttons |= dict.fromkeys(buttons_in(message))

    async def person(self, user: UserId) -> Person:
        return Person(id=user, team=None, name=f"name of {user}")

    async def place(self, channel: ChannelId) -> Place:
        return Place(id=channel, private=False)

    async def direct(self, user: UserId) -> ChannelId:
        return ChannelId(f"D{user}")

    async def whisper(self, channel: ChannelId, user: UserId, text: str, *, thread: MessageTs | None) -> None:
        """Let it pass: nobody keeps what only one person sees."""

    async def react(self, channel: ChannelId, ts: MessageTs, name: str) -> None:
        """Let it pass."""
