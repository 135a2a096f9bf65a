"""The OpenHands adapter: what every server can do, and what one may be able to do, each a protocol."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from bot.core.model import Api, ConversationId, DecisionOutcome, Listed, Observation, Run, RunId, Slots, Started

Before = Callable[[], Awaitable[None]]
"""Awaited just before a call goes out, after its wait for the rate limiter. If it raises, nothing is sent."""


async def nothing() -> None:
    """Do nothing before a call: the default `Before`."""


IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What models take; OpenHands itself hands on any."""

GO_ON = "Please go on."
"""The message for an agent that continues only when it gets one."""


class OpenHands(Protocol):
    """What every server can do. What only some can is a protocol of its own below: ask for it with `isinstance`.

    Every call may raise `Unauthorised`, `TooFast`, `Unavailable` (nothing was done), `Unreadable` and, if it changes
    something, `Unsure` (perhaps done); also `NoSuchCall`, where a version turns out to lack what its kind has. Each
    call lists what else it raises.
    """

    @property
    def api(self) -> Api:
        """Which of the APIs this server speaks."""
        ...

    def link(self, conversation: ConversationId) -> str:
        """Return the address of the conversation's page for people."""
        ...

    async def start(self, run: Run, message: str, about: str, before: Before = nothing) -> Started:
        """Start a conversation for this attempt. Never repeat it without `find_start` in between.

        run: V1 and an Agent Server use `conversation_id` (made and stored before), `repository`, `branch`, `model`.
        about: where the work came from, for the agent to read (V1 `system_message_suffix`; V0 has no field for it).
        Raises `AtCapacity`, `NoAccess`, `Rejected`.
        """
        ...

    async def find_start(self, run: Run, message: str, since: datetime) -> Started | None:
        """Return the start whose answer was lost, if it arrived; None: not there (yet).

        message: as it was given, or its first paragraphs. since: our clock just before the first attempt. Raises `CannotTell` if this server can't show it, or shows
        several candidates, and `NotFound` while a candidate does not show its message yet. Any other error is not an
        answer either: nothing may be started because of it.
        """
        ...

    async def observe(self, runs: Sequence[Run]) -> Mapping[RunId, Observation]:
        """Return the phase of each of these runs, asked in batches of at most 99 ids, without the words of its turn.

        A run missing from the answer could not be asked about this time. For a starting run (V1) this asks for the
        start task, and for the conversation once the task is ready.
        """
        ...

    async def read(self, run: Run, seen: Observation) -> Observation:
        """Return the observation of this run with the words of its turn, its progress and pull requests added.

        Only events newer than `run.turn_after` and after a person's newest message count; every unanswered action
        counts as waiting for approval. A turn that had ended keeps its words, even if the sandbox is asleep, missing
        or gone.
        """
        ...

    async def last_event(self, run: Run) -> str | None:
        """Return the id of the conversation's newest event, as an anchor: later events are newer. None: no events."""
        ...

    async def send(self, run: Run, text: str, before: Before = nothing) -> None:
        """Send a message to the agent.

        Never send one while the agent waits for approval: it would count as approval (V1). Raises `Asleep` (wake it
        first), `NotFound` (not ready yet, or deleted), `Archived`, `Rejected`, `Stored`
        (it has the message; `go_on` lets it begin).
        """
        ...

    async def heard(self, run: Run, text: str, after: str | None) -> bool:
        """Return whether a person's message that is this text, or begins with it, is among the events newer than `after`.

        Raises `CannotTell` if the server has no events.
        """
        ...

    async def stop(self, run: Run, *, interrupts: bool = True) -> None:
        """Interrupt the agent, or pause the sandbox if its server can't be reached. Idempotent.

        interrupts: False if they had no effect before, so that only pausing the sandbox may help. Raises `NotFound`.
        """
        ...


@runtime_checkable
class CanResume(OpenHands, Protocol):
    """Its conversations go on after they were stopped, failed or fell asleep."""

    async def resume(self, run: Run) -> None:
        """Wake a sleeping sandbox. Idempotent. Raises `AtCapacity`, `NotFound`, `Archived`."""
        ...

    async def go_on(self, run: Run, before: Before = nothing) -> bool:
        """Continue a paused, stopped, failed or sleeping conversation without a new message. Idempotent.

        Returns False without a call if it already works, has ended, or waits for a decision; the next poll tells which.
        Raises `Asleep` while it is being woken (ask again in a moment), `AtCapacity`, `NotFound`, `Archived`,
        `Rejected`.
        """
        ...


@runtime_checkable
class CanDecide(OpenHands, Protocol):
    """Its agents can wait for a person's approval."""

    async def decide(
        self, run: Run, action_id: str, *, accept: bool, reason: str, before: Before = nothing
    ) -> DecisionOutcome:
        """Approve or reject the action that waits, if it is still the one `action_id` names. Idempotent.

        reason: what the agent is told about a rejection. Just when an action begins to wait, the server may accept a
        decision and drop it: poll a moment later and repeat. Raises `AtCapacity`, `NotFound`, `Archived`, `Asleep`.
        """
        ...


@runtime_checkable
class CanSeeImages(OpenHands, Protocol):
    """Its agents see pictures, beside the text of a message."""

    @property
    def image_types(self) -> Collection[str]:
        """The media types that may be sent."""
        ...

    async def start(
        self, run: Run, message: str, about: str, before: Before = nothing, *, images: Sequence[str] = ()
    ) -> Started:
        """See `OpenHands.start`. images: data URLs."""
        ...

    async def find_start(
        self, run: Run, message: str, since: datetime, *, images: Sequence[str] = ()
    ) -> Started | None:
        """See `OpenHands.find_start`. images: those of the start, in case its message has to be sent again."""
        ...

    async def send(self, run: Run, text: str, before: Before = nothing, *, images: Sequence[str] = ()) -> None:
        """See `OpenHands.send`. images: data URLs."""
        ...


@runtime_checkable
class CanChooseModel(OpenHands, Protocol):
    """A start may name the model."""

    @property
    def takes_models(self) -> bool:
        """Whether this version does; an older one would ignore the name."""
        ...


@runtime_checkable
class CanListBranches(OpenHands, Protocol):
    """A branch that is not there is known before the start."""

    async def branches(self, repository: str, like: str) -> Sequence[str] | None:
        """Return names of a repository's branches, `like` among them if there is one of this name.

        None if it can't be told. OpenHands itself starts without the repository if the branch is missing.
        """
        ...


@runtime_checkable
class CanListRepositories(OpenHands, Protocol):
    """It lists the repositories that it can open."""

    async def repositories(self) -> Listed:
        """Return the repositories that the account can see, up to a few thousand."""
        ...


@runtime_checkable
class CanFindRepository(OpenHands, Protocol):
    """It tells of a repository whether it can open it."""

    async def lists(self, repository: str) -> bool:
        """Return whether there is one of exactly this name; False also if it can't be told."""
        ...


@runtime_checkable
class CanCount(OpenHands, Protocol):
    """It tells how much of its capacity is in use."""

    async def slots(self) -> Slots | None:
        """Return how many run there now; None if this version can't tell."""
        ...


@runtime_checkable
class SelfHosted(OpenHands, Protocol):
    """Agents work on the server's own machine, with its git and its agent profiles; its key opens all of that."""

    @property
    def version(self) -> str:
        """The server's version; empty if it tells none."""
        ...

    async def profile_name(self) -> str:
        """Return the name of the agent profile for starts. Raises `Rejected` if the one that was set is not there."""
        ...

    async def lacks(self) -> Sequence[str]:
        """Return what a start with that profile would miss on the server; empty if it has all."""
        ...
