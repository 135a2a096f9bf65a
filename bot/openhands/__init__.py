"""The OpenHands adapter: one protocol for all of its APIs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bot.core.model import Api, ConversationId, DecisionOutcome, Listed, Observation, Run, RunId, Slots, Started

Before = Callable[[], Awaitable[None]]
"""Awaited just before a call goes out, after its wait for the rate limiter. If it raises, nothing is sent."""


async def nothing() -> None:
    """Do nothing before a call: the default `Before`."""


GO_ON = "Please go on."
"""The message for an agent that continues only when it gets one."""


class OpenHands(Protocol):
    """What the bot asks of OpenHands.

    Every call may raise `Unauthorised`, `TooFast`, `Unavailable` (nothing was done), `Unreadable` and, if it changes
    something, `Unsure` (perhaps done). Each call lists what else it raises.
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

        since: our clock just before the first attempt. Raises `CannotTell` if this server can't show it, or shows
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
        first), `NotFound` (not ready yet, or deleted), `Archived`, `Rejected`, `Unsupported` (this server takes none),
        `Stored` (it has the message; `go_on` lets it begin).
        """
        ...

    async def heard(self, run: Run, text: str, after: str | None) -> bool:
        """Return whether a person's message with this text is among the events newer than `after`.

        Raises `CannotTell` if the server has no events.
        """
        ...

    async def stop(self, run: Run, *, interrupts: bool = True) -> None:
        """Interrupt the agent, or pause the sandbox if its server can't be reached. Idempotent.

        interrupts: False if they had no effect before, so that only pausing the sandbox may help.
        Raises `NotFound`, `Unsupported`.
        """
        ...

    async def resume(self, run: Run) -> None:
        """Wake a sleeping sandbox. Idempotent. Raises `AtCapacity`, `NotFound`, `Archived`, `Unsupported`."""
        ...

    async def go_on(self, run: Run, before: Before = nothing) -> bool:
        """Continue a paused, stopped, failed or sleeping conversation without a new message. Idempotent.

        Returns False without a call if it already works, has ended, or waits for a decision; the next poll tells which.
        Raises `Asleep` while it is being woken (ask again in a moment), `AtCapacity`, `NotFound`, `Archived`,
        `Rejected`, `Unsupported`.
        """
        ...

    async def decide(
        self, run: Run, action_id: str, *, accept: bool, reason: str, before: Before = nothing
    ) -> DecisionOutcome:
        """Approve or reject the action that waits, if it is still the one `action_id` names. Idempotent.

        reason: what the agent is told about a rejection. Just when an action begins to wait, the server may accept a
        decision and drop it: poll a moment later and repeat. Raises `NotFound`, `Archived`, `Asleep`, `Unsupported`.
        """
        ...

    async def slots(self) -> Slots | None:
        """Return how many sandboxes run in this account now; None if the server can't tell."""
        ...

    async def branches(self, repository: str, like: str) -> Sequence[str] | None:
        """Return names of a repository's branches, `like` among them if there is one of this name.

        None if the server can't tell. OpenHands itself starts without the repository if the branch is missing.
        """
        ...

    async def repositories(self) -> Listed:
        """Return the repositories that the account can see, up to a few thousand; none if the server lists none."""
        ...

    async def lists(self, repository: str) -> bool:
        """Return whether the account can see a repository of exactly this name; False if the server can't tell."""
        ...
