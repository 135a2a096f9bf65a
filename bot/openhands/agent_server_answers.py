"""The shapes of an Agent Server's answers, and what they mean. Pure.

Models are lenient: unknown fields are ignored, missing ones are None, and no status word is refused.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel

from bot.core.model import Observation, Phase, Run, RunState
from bot.openhands.http import OR_NONE, Answer, shown_words

TITLE = "OpenHands Agent Server"
FULL = "Conversation run limit reached"
SAVED = "Message saved"


class ServerInfo(BaseModel):
    """What a server tells of itself to whoever asks."""

    title: str = ""
    version: str = ""
    capabilities: list[str] = []

    @property
    def knows_starts(self) -> bool:
        """Whether two starts with one id at the same instant are one."""
        return "idempotent_conversation_create_v1" in self.capabilities

    @property
    def takes_models(self) -> bool:
        return "agent_launch_pipeline_v1" in self.capabilities


class Profile(BaseModel):
    id: UUID
    name: str


class Profiles(BaseModel):
    profiles: list[Profile]
    active_agent_profile_id: UUID | None = None


class DryRun(BaseModel):
    """What a start with a profile would miss."""

    valid: bool
    errors: list[str] = []


class Home(BaseModel):
    home: str


class Secret(BaseModel):
    name: str


class Secrets(BaseModel):
    secrets: list[Secret]


class Ran(BaseModel):
    """What a command of the server's shell came to."""

    exit_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class Usage(BaseModel):
    accumulated_cost: float | None = None


class Stats(BaseModel):
    usage_to_metrics: dict[str, Usage] = {}


class Conversation(BaseModel):
    id: UUID
    execution_status: str | None = None
    last_user_message_id: str | None = None
    leaf_event_id: str | None = None
    stats: Annotated[Stats | None, OR_NONE] = None

    @property
    def unread(self) -> str | None:
        """The newest message, if nobody works on it and nothing came after it."""
        idle = (self.execution_status or "").lower() == "idle"
        return self.last_user_message_id if idle and self.last_user_message_id == self.leaf_event_id else None

    @property
    def phase(self) -> Phase:
        if self.unread is not None:
            return Phase.STARTING
        return _PHASES.get((self.execution_status or "").lower(), Phase.UNKNOWN)

    @property
    def cost(self) -> float | None:
        """What all uses of models cost together, in USD."""
        used = self.stats.usage_to_metrics.values() if self.stats else ()
        costs = [one.accumulated_cost for one in used if one.accumulated_cost is not None]
        return sum(costs) if costs else None


_PHASES = {
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


def not_begun(run: Run) -> bool:
    """Return whether nobody knows yet that the run's start arrived."""
    return run.state is RunState.STARTING and run.start_task_id is None


def seen_of(run: Run, conversation: Conversation | None, asked_at: datetime) -> Observation:
    phase = Phase.GONE if conversation is None else conversation.phase
    if not_begun(run) and phase in {Phase.GONE, Phase.IDLE}:
        phase = Phase.STARTING  # its start is on its way, or is looked up
    cost = conversation.cost if conversation else None
    return Observation(asked_at=asked_at, phase=phase, cost=cost, start_task_id=run.start_task_id)


def said(answer: Answer) -> str:
    """Return a refusal in the server's words; those about a profile stand one level deeper than usual."""
    detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
    return shown_words(detail.get("message")) if isinstance(detail, dict) else answer.words


def wants_ids(answer: Answer) -> bool:
    """Return whether a list of conversations was refused because it has to be asked for by their ids."""
    detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
    problems = detail if isinstance(detail, list) else []
    return any(isinstance(one, dict) and one.get("loc") == ["query", "ids"] for one in problems)


def is_full(answer: Answer) -> bool:
    """Return whether a call was refused because as many agents work as the server allows."""
    return answer.status == 429 and answer.words.startswith(FULL)


def is_saved(answer: Answer) -> bool:
    """Return whether a message was refused only to be worked on: it is delivered."""
    return answer.status == 429 and answer.words.startswith(SAVED)
