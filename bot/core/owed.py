"""What the outbox can owe to Slack and OpenHands: one table with a row for each kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from bot.core.model import RowId, RunId


class OutboxKind(StrEnum):
    """The kinds of outbox rows, each done by one handler."""

    CARD = "card"
    MESSAGE = "message"
    """A new message in the thread of a run."""
    REPLY = "reply"
    """A message in any thread or conversation."""
    NOTIFY = "notify"
    """A line in the team's channel."""
    DIRECT = "direct"
    """A direct message to one person."""
    ANSWER = "answer"
    """A sentence that only one person sees; sent at most once."""
    REACT = "react"
    START = "start"
    SEND = "send"
    """A follow-up."""
    RESUME = "resume"
    DECIDE = "decide"
    """Approve or reject the action that the agent waits with."""
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row of the outbox. `tried_at`: when a call of unknown outcome went out; None if there was none."""

    seq: int
    id: RowId
    run: RunId | None
    kind: OutboxKind
    lane: str
    rank: int
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int
    tried_at: datetime | None


class Service(StrEnum):
    SLACK = "slack"
    OPENHANDS = "openhands"


class Refusal(StrEnum):
    """What becomes of a row that the service will never accept."""

    NO_CARD = "no_card"
    """A run without its first card does not start; a card that was to be posted again is given up."""
    DIRECT = "direct"
    """The person gets it as a direct message."""
    DROPPED = "dropped"
    """Nobody waits for it."""
    HANDLER = "handler"
    """The handler of that kind tells the person that it was not done."""


POST = "chat.postMessage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is true of every row of a kind."""

    service: Service
    rank: int
    """The lower goes first when the budget is short: a person must look > new card > the rest."""
    method: str | None = None
    """The Slack method whose limit it counts against; None where no limit is kept."""
    slow: bool = False
    """The call may take tens of seconds, so only a few run at once."""
    repostable: bool = False
    """It can be posted again after it failed: nothing but the post itself depends on it."""
    refusal: Refusal


OUTBOX: Mapping[OutboxKind, Spec] = MappingProxyType(
    {
        OutboxKind.MESSAGE: Spec(service=Service.SLACK, rank=0, method=POST, repostable=True, refusal=Refusal.DIRECT),
        OutboxKind.DIRECT: Spec(service=Service.SLACK, rank=0, method=POST, repostable=True, refusal=Refusal.DROPPED),
        OutboxKind.ANSWER: Spec(service=Service.SLACK, rank=0, refusal=Refusal.DIRECT),
        OutboxKind.REPLY: Spec(service=Service.SLACK, rank=1, method=POST, repostable=True, refusal=Refusal.DIRECT),
        OutboxKind.STOP: Spec(service=Service.OPENHANDS, rank=1, refusal=Refusal.HANDLER),
        OutboxKind.DECIDE: Spec(service=Service.OPENHANDS, rank=1, refusal=Refusal.HANDLER),
        OutboxKind.RESUME: Spec(service=Service.OPENHANDS, rank=2, slow=True, refusal=Refusal.HANDLER),
        OutboxKind.CARD: Spec(service=Service.SLACK, rank=2, method=POST, refusal=Refusal.NO_CARD),
        OutboxKind.SEND: Spec(service=Service.OPENHANDS, rank=2, slow=True, refusal=Refusal.HANDLER),
        OutboxKind.START: Spec(service=Service.OPENHANDS, rank=3, slow=True, refusal=Refusal.HANDLER),
        OutboxKind.NOTIFY: Spec(service=Service.SLACK, rank=3, method=POST, repostable=True, refusal=Refusal.DROPPED),
        OutboxKind.REACT: Spec(service=Service.SLACK, rank=4, method="reactions.add", refusal=Refusal.DROPPED),
    }
)
REPOSTABLE = frozenset(kind for kind, spec in OUTBOX.items() if spec.repostable)
TO_OPENHANDS = frozenset(kind for kind, spec in OUTBOX.items() if spec.service is Service.OPENHANDS)
