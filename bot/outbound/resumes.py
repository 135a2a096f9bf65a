"""Resumes: continues runs when a person asks for it without a message to the agent."""

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.core import lifecycle, words
from bot.core.model import Act, Run, RunState, UserId
from bot.core.owed import OutboxRow
from bot.core.retrying import Ask, Call, Done, Lost, Refuse, Requeue, Step
from bot.openhands import CanResume
from bot.outbound.handler import Handler, Withdrawn
from bot.store import outbox, runs


class Resumes(Handler):
    """Resumes runs that are paused, stopped, failed or asleep."""

    async def _step(self, row: OutboxRow, run: Run) -> Step | None:
        """Ask OpenHands to continue the run; ask again while its conversation is being woken."""
        if run.resume_by is None or run.state not in lifecycle.RESUMABLE:
            return Done("over")
        barred = await self._no_longer(run, run.resume_by, Act.RESUME)
        return barred or await self._asked(Call.RESUME, row, run, self._resume(row, run))

    async def _resume(self, row: OutboxRow, run: Run) -> Step | None:
        openhands = await self._ctx.openhands_of(run)
        if not isinstance(openhands, CanResume):
            return self._lacks(Call.RESUME, row, run)
        went_out = self._ctx.clock.now()

        async def going_out() -> None:
            nonlocal went_out
            went_out = self._ctx.clock.now()
            async with self._ctx.database.reading() as tx:
                if (await runs.get(tx, run.id)).resume_by is None:
                    raise Withdrawn

        await openhands.go_on(run, before=going_out)
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt == run.attempt:  # else the run has another conversation by now
                after, effect = lifecycle.turn_resumed(fresh, fresh.resume_by, went_out, now)
                await self._ctx.save(tx, fresh, (after, effect))
                if after.stop_by is not None:  # a stop came while this call was on its way
                    await effects.enqueue_stop(tx, after, now)
            await outbox.done(tx, row.seq, now)
        self._ctx.wake_poller.set()
        return None

    def _overtaken(self, fresh: Run) -> bool:
        return fresh.state is RunState.STOPPED and fresh.resume_by is None

    async def _end(self, row: OutboxRow, run: Run, step: Refuse | Requeue | Lost | Ask) -> None:
        assert isinstance(step, Lost)  # noqa: S101 - this call leads to no other step, as the table's test shows
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt == run.attempt:
                await self._ctx.save(tx, fresh, lifecycle.gone(fresh, now))
            await outbox.done(tx, row.seq, now, "gone")

    async def _person(self, tx: AsyncConnection, row: OutboxRow, run: Run) -> UserId:
        del tx, row
        return run.resume_by or run.requester

    async def _close(self, tx: AsyncConnection, row: OutboxRow, fresh: Run) -> None:
        await runs.save(tx, fresh, lifecycle.not_resumed(lifecycle.within_reach(fresh)))
        await outbox.done(tx, row.seq, self._ctx.clock.now(), "not resumed")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Tell the person that the run stays as it is."""
        await self._give_back(row, run, words.cannot_resume(run))
