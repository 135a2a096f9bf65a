"""The local OpenHands' state: conversations, start tasks, and the calls it received."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

Api = Literal["v1", "v0", "agent"]
"""Two APIs of the app server, and that of an Agent Server which people host by itself."""

Event = dict[str, Any]  # as it goes over the wire


def zulu(moment: datetime) -> str:
    """Return a time as conversations and sandboxes have it: UTC with Z."""
    return naive(moment) + "Z"


def naive(moment: datetime) -> str:
    """Return a time as events and lists of start tasks have it: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def bare(identifier: str | UUID) -> str:
    """Return an id without dashes, as answers have it, however it was sent."""
    return UUID(str(identifier)).hex


def images_in(content: list[Event]) -> list[str]:
    """Return the addresses of a message's images."""
    return [address for part in content for address in part.get("image_urls", ())]


def is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def dashed(identifier: str | UUID) -> str:
    return str(UUID(str(identifier)))


@dataclass(frozen=True)
class Tool:
    """A command that takes a while."""

    action: Event
    ends: datetime


@dataclass(frozen=True)
class Held:
    """A message that waits for the running command, before whose end the agent reads nothing."""

    text: str
    run: bool
    taken: asyncio.Future[None]


@dataclass(eq=False)
class Conversation:
    """One conversation as the agent sees it; what callers see may be older or incomplete."""

    id: str  # with dashes on V1 and on an Agent Server, 32 hex digits on V0
    api: Api
    created_at: datetime
    updated_at: datetime
    title: str
    repository: str | None = None
    branch: str | None = None
    git_provider: str | None = None
    model: str | None = None
    suffix: str | None = None  # what the start added to the system message
    trigger: str | None = None
    folder: str = ""  # where the agent works, on an Agent Server
    tags: dict[str, str] = field(default_factory=dict)
    secrets: Event = field(default_factory=dict)  # what the start named; values are never shown
    profile: str = ""  # the agent profile it was started with
    messages: list[str] = field(default_factory=list)  # what the agent really got, in order, the first included
    images: list[str] = field(default_factory=list)  # the addresses of the images it got, data URLs among them
    events: list[Event] = field(default_factory=list)
    copied: int = 0  # how many events have reached the app server's copy
    start_tasks: list["StartTask"] = field(default_factory=list)
    sandbox_status: str = "STARTING"  # on V0 the runtime's status, the only one there is
    sandbox_exists: bool = True
    shares: str | None = None  # the sandbox it shares with others; None: it has its own
    state: str | None = None  # the agent's own word: an agent state on V0, else an execution status
    working: bool = False  # the agent's loop is alive, even while `paused` during a model call
    silent: bool = False  # the agent server does not answer the app server, so the status is null
    frozen: bool = False  # it works for ever: the agent server answers, and interrupts have no effect
    destroyed: bool = False  # lost to a second start with the same id
    deleted: bool = False
    interrupts: int = 0  # calls of /interrupt (V0: /stop) that reached it
    cost: float = 0.0  # USD
    tokens: int = 0  # prompt tokens
    older_figures: tuple[float, int, datetime] | None = None  # shown instead of cost, tokens and updated_at
    pull_requests: list[int] = field(default_factory=list)
    oddities: Event = field(default_factory=dict)  # parts of its entry that are shown instead of the true ones
    tool: Tool | None = None
    held: list[Held] = field(default_factory=list)
    pending: list[Event] = field(default_factory=list)  # actions that wait for approval
    forgot: bool = False  # what waits is not shown to the model, which asks for the same again
    pending_since: datetime | None = None
    unread: list[str] = field(default_factory=list)
    runner: asyncio.Task[None] | None = None
    wakes: int = 0  # the session key and the address change with each
    session_api_key: str = field(default_factory=lambda: f"session-{uuid4().hex}")

    @property
    def execution_status(self) -> str | None:
        """V1's word for what the agent does; None on V0."""
        return None if self.api == "v0" else self.state

    @property
    def agent_state(self) -> str | None:
        """V0's word for what the agent does; None on V1."""
        return self.state if self.api == "v0" else None

    @property
    def awake(self) -> bool:
        """Whether its sandbox runs and its agent server knows it."""
        return self.sandbox_status == "RUNNING" and not self.destroyed and not self.deleted

    @property
    def sandbox_id(self) -> str:
        return self.shares or bare(self.id)

    @property
    def path(self) -> str:
        """The path of its agent server on this server. That of a destroyed one leads to an empty agent server."""
        return f"/agent/{self.sandbox_id}-{self.wakes}/api/conversations/{bare(self.id)}"


@dataclass(eq=False)
class StartTask:
    """A start. The task remains after a failure; deleting its conversation deletes it."""

    conversation_id: UUID
    request: Event  # as the server understood it
    created_at: datetime
    updated_at: datetime
    id: str = field(default_factory=lambda: uuid4().hex)
    status: str = "WORKING"
    detail: str | None = None
    sandbox_id: str | None = None
    agent_server_url: str | None = None
    sandbox_error: str | None = None  # why no sandbox will be made
    agent_error: str | None = None  # why the agent server will not take the conversation
    overwrites: Conversation | None = None  # the conversation this second start destroys
    deleted: bool = False

    @property
    def under_way(self) -> bool:
        return self.status not in {"READY", "ERROR"}


@dataclass(eq=False)
class Call:
    """One request as it arrived. `status` is None until it is answered."""

    kind: str
    method: str
    path: str
    query: dict[str, list[str]]
    body: object
    at: datetime
    status: int | None = None


Agent = Callable[[Conversation, str], Awaitable[None]]
