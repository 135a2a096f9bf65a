"""What the rows owed to OpenHands have in common: how they end, wait, come back, and tell people."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.context import Context
from bot.core import cards, lifecycle, words
from bot.core.errors import OpenHandsError, TooFast, Unauthorised
from bot.core.model import Run
from bot.core.pacing import later
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow


class Withdrawn(Exception):
    """What was owed was called off just before it went out."""


class Handler:
    """Calls OpenHands for one row at a time. What comes of it is one transaction."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def _reschedule(self, row: OutboxRow, at: datetime) -> None:
        """Reschedule; whether an earlier call may have had its effect stays as the row has it."""
        async with self._ctx.database.transaction() as tx:
            await outbox.reschedule(tx, row.seq, at, sent=True)

    async def _hold(self, row: OutboxRow, run: Run, held: Callable[[Run], bool]) -> None:
        """Keep a row until the run's next state releases it; one that was released just now goes at once."""
        at = later(self._ctx.clock.now(), self._ctx.patience.poll_slowest_s)
        async with self._ctx.database.transaction() as tx:
            if held(await runs.get(tx, run.id)):
                await outbox.reschedule(tx, row.seq, at, sent=True)

    async def _done(self, row: OutboxRow, run: Run, result: str = "") -> None:
        async with self._ctx.database.transaction() as tx:
            await outbox.done(tx, row.seq, self._ctx.clock.now(), result)
            fresh = await runs.get(tx, run.id)
            if fresh.state in lifecycle.ENDED:  # nobody looks at it, so nothing else would take the warning back
                await runs.save(tx, fresh, lifecycle.within_reach(fresh))

    async def _tell(self, tx: AsyncConnection, run: Run, text: str, now: datetime) -> None:
        await effects.enqueue_message(tx, run, cards.sentence(f"{words.mention(run.requester)} {text}"), now)

    async def _out_of_reach(self, row: OutboxRow, run: Run, err: OpenHandsError) -> None:
        """Nothing was done, or a look failed: try again, slower and slower, and say so on the card after a while.

        Whether an earlier call may have had its effect stays as the row has it.
        """
        now = self._ctx.clock.now()
        wait = later(now, err.retry_after_s) if isinstance(err, TooFast) else None
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            since = fresh.watch.unreachable_since or row.created_at
            key_refused = isinstance(err, Unauthorised)
            long = now - row.created_at >= timedelta(seconds=self._ctx.patience.unreachable_shown_s) and wait is None
            if key_refused or long:
                await runs.save(tx, fresh, lifecycle.out_of_reach(fresh, since, key_refused=key_refused))
            await outbox.reschedule(tx, row.seq, wait or self._by_age(row, now), sent=True)

    def _by_age(self, row: OutboxRow, now: datetime) -> datetime:
        """Return the time of the next try: the older what is owed, the later."""
        age = (now - row.created_at).total_seconds()
        return later(now, min(self._ctx.patience.retry_slowest_s, max(self._ctx.patience.retry_first_s, age / 4)))

    async def _look_soon(self, run: Run) -> None:
        async with self._ctx.database.transaction() as tx:
            await runs.poll_again(tx, [run.id], self._ctx.clock.now())
        self._ctx.wake_poller.set()
