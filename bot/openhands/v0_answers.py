"""The shapes of V0's answers, and what they mean. Pure, and as lenient as `v1_answers`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, SecretStr, ValidationError

from bot.core.errors import (
    Archived,
    Asleep,
    AtCapacity,
    NoAccess,
    NoSuchCall,
    NotFound,
    OpenHandsError,
    TooFast,
    Unauthorised,
    Unreadable,
)
from bot.core.model import Phase
from bot.openhands.events import ANSWER_LENGTH, UNKNOWN_RISK, WANTED_LENGTH, Event, Kind, command_of, words_of
from bot.openhands.http import OR_NONE, Answer

END_LENGTH = 10  # events kept of a conversation that is done: its last words, and the changes of state after them
STORY_LENGTH = 200  # events kept; what a turn ended with is among its newest


class Started0(BaseModel):
    conversation_id: str


class Conversation0(BaseModel):
    conversation_id: str
    status: str | None = None
    created_at: Annotated[datetime | None, OR_NONE] = None
    selected_repository: str | None = None
    git_provider: str | None = None
    pr_number: Annotated[list[int] | None, OR_NONE] = None
    url: str | None = None
    """The base address of the conversation's own calls; a full address in the cloud."""
    session_api_key: SecretStr | None = None

    @property
    def runtime(self) -> str:
        """The state of the runtime, not of the agent, in upper case."""
        return (self.status or "").upper()

    @property
    def takes_a_slot(self) -> bool:
        return self.runtime in {"RUNNING", "STARTING"}

    @property
    def created(self) -> datetime | None:
        if self.created_at is None or self.created_at.tzinfo is not None:
            return self.created_at
        return self.created_at.replace(tzinfo=UTC)


class ConversationPage(BaseModel):
    results: list[Any]
    next_page_id: str | None = None


class EventPage0(BaseModel):
    events: list[Any]
    has_more: bool = False


# --- events -----------------------------------------------------------------------------------------------------


class _Args(BaseModel, extra="allow"):
    content: Any = None
    final_thought: str | None = None
    security_risk: int | str | None = None


class _Extras(BaseModel):
    agent_state: str | None = None
    reason: str | None = None


class _Metrics(BaseModel):
    accumulated_cost: float | None = None


class _RawEvent(BaseModel):
    id: int
    source: str | None = None
    message: str | None = None
    action: str | None = None
    observation: str | None = None
    cause: int | None = None
    args: _Args = _Args()
    extras: _Extras = _Extras()
    llm_metrics: _Metrics | None = None


_FAILED_STATES = frozenset({"error", "rate_limited"})
_NO_STEPS = frozenset({"system", "recall", "change_agent_state", "condensation", "condensation_request", "null"})
_RISKS = {0: "LOW", 1: "MEDIUM", 2: "HIGH"}


@dataclass(frozen=True, slots=True)
class Told:
    """One event, with the agent's state and the cost so far (USD) if it contains them."""

    number: int
    event: Event
    state: str | None = None
    cost: float | None = None
    rejects: bool = False
    """A person rejected an action."""


def told(value: Any) -> Told | None:
    """Parse one event. One of an unknown shape becomes OTHER; one without a number, None."""
    try:
        raw = _RawEvent.model_validate(value)
    except ValidationError:
        number = value.get("id") if isinstance(value, dict) else None
        return Told(number, Event(id=str(number), kind=Kind.OTHER)) if isinstance(number, int) else None
    state = raw.extras.agent_state if raw.observation == "agent_state_changed" else None
    cost = raw.llm_metrics.accumulated_cost if raw.llm_metrics else None
    return Told(raw.id, _event(raw, state), state and state.lower(), cost, raw.observation == "user_rejected")


def _event(raw: _RawEvent, state: str | None) -> Event:
    name = str(raw.id)
    match raw.action:
        case "message":
            return Event(
                id=name,
                kind=Kind.SAID if raw.source == "agent" else Kind.MESSAGE,
                text=raw.args.content if isinstance(raw.args.content, str) else "",
            )
        case "finish":
            return Event(id=name, kind=Kind.FINISH, text=raw.args.final_thought or "")  # its message is a stock phrase
        case str(action) if raw.source == "agent" and action not in _NO_STEPS:
            risk = raw.args.security_risk
            named = risk if isinstance(risk, str) else _RISKS.get(-1 if risk is None else risk)
            return Event(
                id=name,
                kind=Kind.ACTION,
                text=raw.message or "",
                batch=name,
                tool=action,
                command=command_of(_arguments(raw.args)),
                risk=named or UNKNOWN_RISK,
            )
        case _ if state and state.lower() in _FAILED_STATES:
            return Event(
                id=name, kind=Kind.ERROR, text=raw.extras.reason or "", code="" if raw.extras.reason else state
            )
        case None if raw.cause is not None:
            return Event(id=name, kind=Kind.ANSWER, answers=str(raw.cause))
        case _:
            return Event(id=name, kind=Kind.OTHER)


def _arguments(args: _Args) -> dict[str, Any]:
    """Return all that an action would be carried out with; left out are words about it, and what is not set."""
    named = {**(args.model_extra or {}), "content": args.content}
    return {name: value for name, value in named.items() if name not in _ABOUT_AN_ACTION and value not in _NOT_SET}


_ABOUT_AN_ACTION = frozenset({"thought", "confirmation_state"})
_NOT_SET: tuple[Any, ...] = (None, False, "")


def _kept(event: Event) -> Event:
    """Return the event with what is kept of it: whole files may be in a command, and a message only begins a turn."""
    longest = 0 if event.kind is Kind.MESSAGE else 2 * (WANTED_LENGTH if event.kind is Kind.ACTION else ANSWER_LENGTH)
    return replace(event, text=event.text[:longest], command=event.command[: 2 * WANTED_LENGTH])


@dataclass(frozen=True, slots=True)
class Story:
    """What the events of a conversation that were read so far add up to."""

    next_id: int = 0
    state: str = ""
    """The agent's newest state; empty before the first."""
    events: Sequence[Event] = ()
    """Newest first."""
    cost: float | None = None
    """USD; None before the first event that contains it."""
    rejected: bool = False
    """A person rejected what the agent wanted to do, and nothing was said or done since then."""

    def on(self, values: Iterable[Any]) -> "Story":
        """Return the story with these events added. Idempotent."""
        next_id, state, cost, events = self.next_id, self.state, self.cost, list(reversed(self.events))
        rejected = self.rejected
        for one in filter(None, map(told, values)):
            if one.number < next_id:
                continue
            next_id = one.number + 1
            state = one.state or state
            cost = cost if one.cost is None else one.cost
            rejected = one.rejects or (rejected and one.event.kind is Kind.OTHER)
            events.append(_kept(one.event))
        return Story(next_id, state, tuple(reversed(events[-STORY_LENGTH:])), cost, rejected)

    def at_rest(self) -> "Story":
        """Return the story of an agent that is done: its end, and where to read on if a reply wakes it."""
        return replace(self, events=self.events[:END_LENGTH])

    @property
    def loading(self) -> bool:
        """Whether the agent still starts: a message would be accepted but never answered."""
        return self.state in {"", "loading", "init"}


_STATES = {
    "": Phase.STARTING,
    "init": Phase.STARTING,
    "loading": Phase.STARTING,
    "running": Phase.WORKING,
    "user_confirmed": Phase.WORKING,
    "user_rejected": Phase.WORKING,
    "finished": Phase.ENDED,
    "rejected": Phase.ENDED,
    "awaiting_user_input": Phase.ENDED,
    "awaiting_user_confirmation": Phase.WANTS_APPROVAL,
    "paused": Phase.PAUSED,
    "error": Phase.ERROR,
    "rate_limited": Phase.ERROR,
}


def phase_of(runtime: str, story: Story | None, turn_after: str | None) -> Phase:
    """Return the phase, from the runtime's state and, if the server has events, the agent's.

    story: None if the server has no events. Then only the runtime's state can end the run.
    """
    match runtime:
        case "STARTING":
            return Phase.STARTING
        case "ERROR":
            return Phase.BROKEN
        case "ARCHIVED":
            return Phase.MISSING
        case "RUNNING" if story is None:
            return Phase.WORKING
        case "RUNNING" if story is not None and story.rejected and story.state == "awaiting_user_input":
            return Phase.IDLE  # it neither ended nor asked
        case "RUNNING" if story is not None and story.state != "stopped":
            return _STATES.get(story.state, Phase.UNKNOWN)
        case "STOPPED" if story is None:
            return Phase.ENDED
        case "RUNNING" | "STOPPED" if story is not None:
            # The agent's state is "stopped" too; only the events say whether the turn had ended before.
            ends = (phase for phase in (Phase.ENDED, Phase.ERROR) if words_of(story.events, phase, turn_after).last)
            return next(ends, Phase.ASLEEP)
        case _:
            return Phase.UNKNOWN


# --- what an answer means ---------------------------------------------------------------------------------------


def refusal(answer: Answer, *, repository: str | None, key_works: bool) -> OpenHandsError:
    """Return what a refused start means.

    The guide has one AuthenticationError for a wrong key and for an inaccessible repository; a key that has worked
    before is not wrong.
    """
    body = answer.body
    if answer.status == 429:
        return too_many(answer)
    if answer.status == 401 and isinstance(body, str):
        return NoAccess("401")  # "Unable to access repo …"
    if answer.status in {400, 401, 403} and isinstance(body, dict):
        if "GIT_PROVIDER" in str(body.get("msg_id")):
            return NoAccess(str(answer.status))
        if "AuthenticationError" in str(body):
            return NoAccess(str(answer.status)) if repository and key_works else Unauthorised(str(answer.status))
    error = answer.error()
    if isinstance(error, NotFound | NoSuchCall | Asleep | Archived):
        return Unreadable(f"{answer.status} to a start")
    return error


def too_many(answer: Answer) -> OpenHandsError:
    """Return whether a 429 is the account's limit or the limit on calls, which names a time to wait."""
    error = answer.error()
    slots = answer.retry_after_s is None and isinstance(error, TooFast)
    return AtCapacity("no free slot") if slots else error


def no_such_call(answer: Answer) -> bool:
    """Return whether the server itself says that it lacks the call. A web page may be a proxy's, or there for a moment."""
    return answer.no_route or (answer.status == 405 and answer.readable)


def of_a_conversation(answer: Answer) -> bool:
    """Return whether it is a 404 about the conversation, rather than the call."""
    words = str(answer.body).lower()
    return answer.status == 404 and answer.readable and ("conversation" in words or "session" in words)


def check_taken(answer: Answer) -> None:
    """Raise the reason if a message was not accepted."""
    if answer.status == 500 and "no_conversation" in str(answer.body):
        raise Asleep("stopped meanwhile")
    answer.value()
