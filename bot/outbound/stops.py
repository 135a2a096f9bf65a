"""Stops: interrupts agents when a person asks for it."""

from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core import lifecycle, words
from bot.core.model import ConversationId, Run, RunState, UserId
from bot.core.owed import OutboxRow
from bot.core.retrying import INTERRUPTS, Call, Done, Hold, Step
from bot.outbound.handler import Handler
from bot.store import outbox, runs


class Stops(Handler):
    """Interrupts agents."""

    async def _step(self, row: OutboxRow, run: Run) -> Step | None:
        """Interrupt the run, once there is something to interrupt; or the conversation that a retry gave up."""
        if old := row.payload.get("conversation"):
            old_one = replace(run, conversation_id=ConversationId(old))
            return await self._asked(Call.STOP_OLD, row, old_one, self._stop(Call.STOP_OLD, row, old_one))
        if run.stop_by is None or run.resume_by is not None:
            return Done("over")
        if self._held(run):
            return Hold()
        if not still_on(row, run):
            return Done("over")
        return await self._asked(Call.STOP, row, run, self._stop(Call.STOP, row, run))

    async def _stop(self, call: Call, row: OutboxRow, run: Run) -> Step:
        """Interrupt the run, again and again until a poll shows that it took effect."""
        openhands = await self._ctx.openhands_of(run)
        if openhands is None:
            return self._lacks(call, row, run)
        await openhands.stop(run, interrupts=row.attempts < INTERRUPTS)
        return self._after(call, None, row, run)

    def _held(self, run: Run) -> bool:
        may_come_back = lifecycle.may_live(run) and run.watch.next_poll_at is not None
        return run.state is RunState.STARTING or may_come_back

    async def _hold(self, row: OutboxRow, run: Run) -> None:
        async with self._ctx.database.transaction() as tx:
            await outbox.undo_attempt(tx, row.seq, 0)  # tries while it was out of sight say nothing about later ones
        await super()._hold(row, run)

    async def _person(self, tx: AsyncConnection, row: OutboxRow, run: Run) -> UserId:
        del tx, row
        return run.stop_by or run.requester

    async def _close(self, tx: AsyncConnection, row: OutboxRow, fresh: Run) -> None:
        if "conversation" not in row.payload:
            await runs.save(tx, fresh, lifecycle.not_stopped(fresh))
        await outbox.failed(tx, row.seq, self._ctx.clock.now(), "not stopped")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Tell the person that the run, or the conversation it had before, may go on."""
        old = "conversation" in row.payload
        text = words.old_not_stopped() if old else words.cannot_stop(self._ctx.links.page(run))
        await self._give_back(row, run, text)


def still_on(row: OutboxRow, run: Run) -> bool:
    """Return whether an agent may be at work: the run has not ended, or shows as stopped but may have been woken."""
    woken = bool(row.payload.get("woken")) and run.state is RunState.STOPPED
    return woken or run.state not in lifecycle.ENDED
