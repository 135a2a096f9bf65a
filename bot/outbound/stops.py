"""Stops: agents that a person wants interrupted."""

from dataclasses import replace

from bot import effects
from bot.core import cards, lifecycle, words
from bot.core.errors import Archived, NotFound, OpenHandsError, Rejected, Unsupported, Unsure
from bot.core.model import Run, RunState
from bot.core.pacing import later, retry_at
from bot.outbound.handler import Handler
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow

STOPS = 6
"""A stop that is asked for again and again without effect is given back to the person: with its pauses, in a minute."""
SETTLED_S = lifecycle.FRESH.total_seconds() + 3
"""A stop shows by then: so soon after a message a look does not yet believe that nobody works."""


class Stops(Handler):
    """Interrupts agents."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Interrupt the run, as soon as there is something to interrupt."""
        if run.stop_by is None or run.resume_by is not None or not still_on(row, run):
            await self._done(row, run, "over")
            return
        if is_starting(run):
            await self._hold(row, run, is_starting)
            return
        try:
            await (await self._ctx.openhands()).stop(run)
        except NotFound:
            await self._not_found(row, run)
        except (Unsupported, Rejected, Archived):
            await self.give_up(row, run)
        except Unsure:
            await self._come_back(row, run)
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
        else:
            await self._come_back(row, run)

    async def _not_found(self, row: OutboxRow, run: Run) -> None:
        """Have the next look tell what became of it; of what shows as stopped nothing more is to be told."""
        if run.state is RunState.STOPPED:
            await self._done(row, run, "gone")
            return
        await self._reschedule(row, retry_at(row.attempts + 1, self._ctx.clock.now(), self._ctx.patience))
        await self._look_soon(run)

    async def _come_back(self, row: OutboxRow, run: Run) -> None:
        """Stop it again unless a look shows that it took effect: just as the agent turns to something else it has none.

        What shows as stopped is not looked at. It is stopped as often as it may take until it is awake.
        """
        woken = run.state is RunState.STOPPED
        if row.attempts >= STOPS:
            await (self._done(row, run) if woken else self.give_up(row, run))
            return
        now = self._ctx.clock.now()
        at = max(later(now, SETTLED_S), retry_at(row.attempts + 1, now, self._ctx.patience))
        async with self._ctx.database.transaction() as tx:
            await outbox.mark_attempt(tx, row.seq, now)
            await outbox.reschedule(tx, row.seq, at, sent=True)
        if not woken:
            await self._look_soon(run)

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Say that the run goes on."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await runs.save(tx, fresh, replace(fresh, stop_by=None, stop_at=None))
            who = run.stop_by or run.requester
            text = f"{words.mention(who)} {words.cannot_stop(self._ctx.links.page(run))}"
            await effects.enqueue_message(tx, run, cards.sentence(text), now)
            await outbox.failed(tx, row.seq, now, "not stopped")


def is_starting(run: Run) -> bool:
    return run.state is RunState.STARTING


def still_on(row: OutboxRow, run: Run) -> bool:
    """Return whether an agent may be at work: the run is, or shows as stopped while its conversation was being woken."""
    woken = bool(row.payload.get("woken")) and run.state is RunState.STOPPED
    return woken or run.state not in lifecycle.ENDED
