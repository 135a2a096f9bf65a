"""What app hands to dispatcher, sender and poller to work with."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects, queue
from bot.clock import Clock
from bot.effects import Site
from bot.lifecycle import OCCUPIES, Changed
from bot.metrics import Metrics
from bot.model import Run, RunState
from bot.openhands import OpenHands
from bot.pacing import Patience
from bot.slack.gateway import Gateway
from bot.store import runs
from bot.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The outside world, time, and how the loops wake each other."""

    database: Database
    gateway: Gateway
    openhands: Callable[[], Awaitable[OpenHands]]
    """Gives the client once the server has been reached; until then it raises what the probe raises."""
    site: Site
    clock: Clock
    patience: Patience
    wake_sender: asyncio.Event
    """Set after each commit that owes something."""
    wake_poller: asyncio.Event
    metrics: Metrics = field(default_factory=Metrics)


class Worker:
    """Has its means at hand."""

    def __init__(self, means: Means) -> None:
        self._database = means.database
        self._gateway = means.gateway
        self._openhands = means.openhands
        self._site = means.site
        self._clock = means.clock
        self._patience = means.patience
        self._metrics = means.metrics
        self._wake_sender = means.wake_sender.set
        self._wake_poller = means.wake_poller.set

    async def _save(self, tx: AsyncConnection, before: Run, changed: Changed) -> Run | None:
        """Write a run's change and all it causes, in the queue too; None when somebody else changed it first."""
        now = self._clock.now()
        saved = await effects.take_over(tx, before, changed, self._site, now)
        if saved is None or not queue.moves(before, saved):
            return saved
        if before.state in OCCUPIES and saved.state is not RunState.QUEUED:
            await queue.has_room(tx, now)
        await queue.let_in(tx, self._site, now)
        return await runs.get(tx, saved.id)
