"""The shapes of V1's answers, and what they mean. Pure.

Models are lenient: unknown fields are ignored, missing ones are None, and no status word is refused.
"""

import json
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, SecretStr, ValidationError

from bot.core.errors import NotFound
from bot.core.model import ConversationId, Failed, Observation, Phase, Reason, Run
from bot.openhands.events import UNKNOWN_RISK, Event, Kind, command_of, numbered_pull_requests
from bot.openhands.http import OR_NONE


class Metrics(BaseModel):
    accumulated_cost: float | None = None


class Conversation(BaseModel):
    id: UUID
    sandbox_id: str | None = None
    sandbox_status: str | None = None
    execution_status: str | None = None
    selected_repository: str | None = None
    git_provider: str | None = None
    pr_number: Annotated[list[int] | None, OR_NONE] = None
    metrics: Annotated[Metrics | None, OR_NONE] = None
    conversation_url: str | None = None
    """Its address on the agent server; None while the sandbox does not run."""
    session_api_key: SecretStr | None = None
    """The agent server's key; may change at each resume."""

    @property
    def sandbox(self) -> str:
        """The state of the sandbox, in upper case."""
        return (self.sandbox_status or "").upper()

    @property
    def sleeps(self) -> bool:
        """Whether the sandbox rests until it is told to resume."""
        return self.sandbox in {"PAUSED", "STOPPED"}

    @property
    def phase(self) -> Phase:
        match self.sandbox:
            case "RUNNING":
                return _EXECUTION.get((self.execution_status or "").lower(), Phase.UNKNOWN)
            case "PAUSED" | "STOPPED" | "STARTING":
                return Phase.ASLEEP
            case "ERROR":
                return Phase.BROKEN
            case "MISSING" | "ARCHIVED":
                return Phase.MISSING
            case _:
                return Phase.UNKNOWN

    @property
    def takes_a_slot(self) -> bool:
        return self.sandbox in {"RUNNING", "STARTING"}


_EXECUTION = {
    "running": Phase.WORKING,
    "finished": Phase.ENDED,
    "waiting_for_confirmation": Phase.WANTS_APPROVAL,
    "error": Phase.ERROR,
    "stuck": Phase.STUCK,
    "paused": Phase.PAUSED,
    "idle": Phase.IDLE,
    "deleting": Phase.GONE,
    "": Phase.UNCLEAR,
}


class StartRequest(BaseModel):
    conversation_id: UUID | None = None


class TaskOf(BaseModel):
    """The one part of a start task by which it is found."""

    request: StartRequest


class StartTask(BaseModel):
    id: UUID
    status: str | None = None
    detail: str | None = None
    updated_at: str | None = None
    request: StartRequest = StartRequest()

    @property
    def ready(self) -> bool:
        return (self.status or "").upper() == "READY"

    @property
    def failed(self) -> bool:
        return (self.status or "").upper() == "ERROR"

    def failure(self, run: Run) -> Failed:
        """Return why the start failed, as our reason only: the detail contains internal addresses.

        If the repository can't be opened and no git provider is connected, the detail is empty.
        """
        detail = self.detail or ""
        repository = (not detail and run.repository) or "git provider authentication" in detail.lower()
        return Failed(Reason.REPOSITORY if repository else Reason.START_FAILED)


class TaskPage(BaseModel):
    items: list[Any]
    next_page_id: str | None = None


class ConversationPage(BaseModel):
    items: list[Any]
    next_page_id: str | None = None


class EventPage(BaseModel):
    items: list[Any]
    next_page_id: str | None = None


class Repository(BaseModel):
    full_name: str


class RepositoryPage(BaseModel):
    items: list[Any]
    next_page_id: str | None = None


class ServerSettings(BaseModel):
    provider_tokens_set: dict[str, Any] | None = None
    """The git providers that the account has a token of; the values are hosts."""


class Branch(BaseModel):
    name: str


class BranchPage(BaseModel):
    items: list[Any]


def seen_of(run: Run, conversation: Conversation, asked_at: datetime) -> Observation:
    return Observation(
        asked_at=asked_at,
        phase=conversation.phase,
        cost=conversation.metrics.accumulated_cost if conversation.metrics else None,
        pull_requests=numbered_pull_requests(
            conversation.pr_number or (), conversation.selected_repository or run.repository, conversation.git_provider
        ),
        start_task_id=run.start_task_id,
    )


# --- events -----------------------------------------------------------------------------------------------------


class _Text(BaseModel):
    text: str = ""


class _Message(BaseModel):
    content: list[_Text] = []


class _Action(BaseModel, extra="allow"):
    kind: str | None = None
    message: Any = None


class _Call(BaseModel):
    arguments: str = ""


class _RawEvent(BaseModel):
    id: str
    kind: str | None = None
    source: str | None = None
    llm_message: _Message = _Message()
    action: _Action | None = None
    action_id: str | None = None
    tool_call_id: str | None = None
    tool_call: Annotated[_Call | None, OR_NONE] = None
    llm_response_id: str | None = None
    summary: str | None = None
    tool_name: str | None = None
    security_risk: str | None = None
    code: str | None = None
    detail: str | None = None


def _arguments(raw: _RawEvent) -> dict[str, Any]:
    """Return all that an action would be carried out with: what the model named, as the server understood it.

    Left out are the model's rating and its summary, which carry nothing out, and what is not set.
    """
    try:
        named = json.loads(raw.tool_call.arguments) if raw.tool_call else {}
    except (ValueError, RecursionError):
        named = None
    arguments = named if isinstance(named, dict) else {}
    if raw.action:
        understood = {**(raw.action.model_extra or {}), "message": raw.action.message}
        arguments |= {
            name: value for name, value in understood.items() if value not in (None, False) or name in arguments
        }
    return {name: value for name, value in arguments.items() if name not in _ABOUT_AN_ACTION}


_ABOUT_AN_ACTION = frozenset({"security_risk", "summary"})


def event_of(value: Any) -> Event | None:
    """Parse one event. One of an unknown shape becomes OTHER; one without an id, None.

    The kind decides, not the source: the system prompt has source "agent" too, and an interruption "user".
    """
    try:
        raw = _RawEvent.model_validate(value)
    except ValidationError:
        name = value.get("id") if isinstance(value, dict) else None
        if not isinstance(name, str):
            return None
        return Event(id=name, kind=Kind.OTHER, call=name, batch=name, unread=value.get("kind") == "ActionEvent")
    match raw.kind:
        case "MessageEvent":
            text = "\n".join(part.text for part in raw.llm_message.content if part.text)
            return Event(id=raw.id, kind=Kind.MESSAGE if raw.source == "user" else Kind.SAID, text=text)
        case "ActionEvent" if raw.action and raw.action.kind == "FinishAction":
            return Event(
                id=raw.id, kind=Kind.FINISH, text=raw.action.message if isinstance(raw.action.message, str) else ""
            )
        case "ActionEvent":
            return Event(
                id=raw.id,
                kind=Kind.ACTION,
                text=raw.summary or "",
                call=raw.tool_call_id or "",
                batch=raw.llm_response_id or raw.id,
                tool=raw.tool_name or "",
                command=command_of(_arguments(raw)),
                risk=raw.security_risk or UNKNOWN_RISK,
            )
        case "ObservationEvent" | "UserRejectObservation" | "AgentErrorEvent":
            return Event(id=raw.id, kind=Kind.ANSWER, answers=raw.action_id or raw.tool_call_id or "")
        case "ConversationErrorEvent":
            return Event(id=raw.id, kind=Kind.ERROR, text=raw.detail or "", code=raw.code or "")
        case _:
            return Event(id=raw.id, kind=Kind.OTHER)


def id_of(run: Run) -> ConversationId:
    """Return the id of a run's conversation. Raises `NotFound` if it has none yet."""
    if run.conversation_id is None:
        raise NotFound("no conversation yet")
    return run.conversation_id


def uuid_of(text: str | None) -> UUID | None:
    """Parse an id, with or without dashes, since servers send either; return None if it is not a UUID."""
    try:
        return UUID(text or "")
    except ValueError:
        return None
