"""What all loops and handlers share: the services, time, and the events with which they wake each other."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects, slots
from bot.clock import Clock
from bot.core import policy
from bot.core.errors import StoreUnreadable
from bot.core.lifecycle import OCCUPIES, Changed
from bot.core.model import Effect, Run, RunId, RunState
from bot.core.pacing import Patience
from bot.core.repositories import suggest
from bot.door import Door
from bot.effects import Links
from bot.openhands import OpenHands
from bot.openhands.repositories import Repositories
from bot.ops.metrics import Metrics
from bot.slack.gateway import Gateway
from bot.slots import Limits
from bot.store import runs, unreadable
from bot.store.database import Database

log = structlog.get_logger("store")


def speaks_of(openhands: OpenHands, run: Run) -> bool:
    """Return whether a server, by the API it speaks now, can say anything about a run's conversation."""
    return run.api in (None, openhands.api)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The services, made once by `app` and handed to everything that works with them."""

    database: Database
    gateway: Gateway
    door: Door
    openhands: Callable[[], Awaitable[OpenHands]]
    """Returns the client once the server has been reached; until then raises what the probe raises."""
    repositories: Repositories
    links: Links
    limits: Limits
    clock: Clock
    patience: Patience
    metrics: Metrics = field(default_factory=Metrics)
    wake_dispatcher: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after each commit that adds a request."""
    wake_sender: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after each commit that leaves work for the sender."""
    wake_poller: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is to end: from then on no request is taken from Slack."""

    async def openhands_of(self, run: Run) -> OpenHands | None:
        """Return the client for what a run has there; None where the server speaks another API by now.

        A conversation of one API is unknown to the other, which says nothing about it.
        """
        found = await self.openhands()
        return found if speaks_of(found, run) else None

    async def close_unreadable(self, found: StoreUnreadable) -> None:
        """Close a row that this version can't read; people are told of a run."""
        now = self.clock.now()
        log.error("store.row_unreadable", table=found.table, row=found.key, exc_info=found)
        async with self.database.transaction() as tx:
            await unreadable.close(tx, found, now)
            if found.table == "runs":
                with suppress(StoreUnreadable):
                    run = await runs.get(tx, RunId(str(found.key)))
                    await effects.enqueue(tx, run, (Effect.TELL, Effect.NOTIFY, Effect.REACT), self.links, now)
        self.wake_sender.set()

    async def save(self, tx: AsyncConnection, before: Run, changed: Changed) -> Run:
        """Write a run's transition and everything it causes, also in the queue.

        before: as read in this transaction. Raises `StoreOvertaken` if another writer was first.
        """
        now = self.clock.now()
        after, effect = changed
        if not after.candidates:
            after = suggest(after, self.repositories.known)
            after = replace(after, candidates=policy.allowed(self.door.rules, after.candidates))
        changed = after, effect
        saved = await effects.apply_transition(tx, before, changed, self.links, now)
        if not slots.concerns_queue(before, saved):
            return saved
        if before.state in OCCUPIES and saved.state is not RunState.QUEUED:
            await slots.mark_available(tx, now)
        await slots.admit_waiting(tx, self.links, self.limits, now)
        return await runs.get(tx, saved.id)
