"""OpenHands, behind one protocol for both of its APIs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bot.core.model import Api, ConversationId, DecisionOutcome, Observation, Run, RunId, Slots, Started

Before = Callable[[], Awaitable[None]]
"""Awaited when a call's turn has come, just before it goes out. What it raises ends the call unsent."""


async def nothing() -> None:
    """Have nothing to do before a call."""


GO_ON = "Please go on."
"""What an agent is told that continues only with a message."""


class OpenHands(Protocol):
    """What the bot asks of OpenHands.

    Every call may raise `Unauthorised`, `TooFast`, `Unavailable` (nothing was done), `Unreadable`, and, where it
    changes something, `Unsure` (perhaps done). More is said at each call.
    """

    @property
    def api(self) -> Api:
        """Which of the two APIs this server speaks."""
        ...

    def link(self, conversation: ConversationId) -> str:
        """Return the page where people see the conversation."""
        ...

    async def start(self, run: Run, message: str, about: str, before: Before = nothing) -> Started:
        """Start a conversation for this attempt; never repeated without `find_start` in between.

        run: V1 uses `conversation_id` (made and stored before), `repository`, `branch`, `model`.
        about: where the work came from, for the agent's eyes (V1 `system_message_suffix`; V0 has no place for it).
        Raises `AtCapacity`, `NoAccess`, `Rejected`.
        """
        ...

    async def find_start(self, run: Run, message: str, since: datetime) -> Started | None:
        """Return whether a start whose answer was lost arrived; None: not (yet) there.

        since: our clock just before the first try. Raises `CannotTell` where this server can't show it, or shows
        several that could be it, and `NotFound` while one that could be it does not show its message yet; any other
        error is no answer either, and nothing may be started on it.
        """
        ...

    async def observe(self, runs: Sequence[Run]) -> Mapping[RunId, Observation]:
        """Ask how these runs are, in batches of at most 99 ids; words are not read.

        A run missing from the answer could not be asked about this time. For a starting run (V1) the start task is
        asked, and the conversation as soon as that is ready.
        """
        ...

    async def read(self, run: Run, seen: Observation) -> Observation:
        """Add the words of this turn, its progress and pull requests to a look at the same run.

        Only events newer than `run.turn_after` count, and only those after the newest message of a person; what waits
        for approval is whatever stands unanswered. Asleep, missing or gone, a turn that had ended still has its words.
        """
        ...

    async def last_event(self, run: Run) -> str | None:
        """Return the newest event of the conversation, as an anchor: what comes later is newer. None: no events."""
        ...

    async def send(self, run: Run, text: str, before: Before = nothing) -> None:
        """Send a message to the agent.

        Raises `Asleep` (wake it first), `NotFound` (not ready yet, or deleted), `Archived`, `Rejected`,
        `Unsupported` (this server takes none). While it waits for approval a message would count as approval (V1).
        """
        ...

    async def heard(self, run: Run, text: str, after: str | None) -> bool:
        """Return whether a person's message with this text is among the events newer than `after`.

        Raises `CannotTell` where the server has no events.
        """
        ...

    async def stop(self, run: Run) -> None:
        """Interrupt the agent; where its server is out of reach, pause the sandbox. Safe to repeat.

        Raises `NotFound`, `Unsupported`.
        """
        ...

    async def resume(self, run: Run) -> None:
        """Wake a sleeping sandbox. Safe to repeat. Raises `AtCapacity`, `NotFound`, `Archived`, `Unsupported`."""
        ...

    async def go_on(self, run: Run, before: Before = nothing) -> bool:
        """Let a paused, stopped, failed or sleeping conversation continue without a new message. Safe to repeat.

        False: it was not told to, since it works already, has ended, or waits for a decision; the next look tells which.
        Raises `Asleep` while it is being woken (ask again in a moment), `AtCapacity`, `NotFound`, `Archived`, `Rejected`,
        `Unsupported`.
        """
        ...

    async def decide(
        self, run: Run, action_id: str, *, accept: bool, reason: str, before: Before = nothing
    ) -> DecisionOutcome:
        """Approve or reject what waits for approval, if that is still what `action_id` names. Safe to repeat.

        reason: what the agent is told of a rejection. At the instant something begins to wait the server may take a
        decision and drop it, so look a moment later and repeat. Raises `NotFound`, `Archived`, `Asleep`, `Unsupported`.
        """
        ...

    async def slots(self) -> Slots | None:
        """Count what runs in this account now; None where the server can't tell."""
        ...

    async def lists(self, repository: str) -> bool:
        """Return whether the account can see a repository of exactly this name; False where that can't be told."""
        ...
