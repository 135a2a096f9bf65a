"""Decisions: passes on to the agent what a person decided on an action that waits for approval."""

from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core import lifecycle, words
from bot.core.model import Act, DecisionOutcome, Run, RunState, UserId, Waiting
from bot.core.owed import OutboxRow
from bot.core.pacing import later
from bot.core.retrying import Call, Done, GiveBack, Retry, Step
from bot.openhands import CanDecide, CanResume
from bot.outbound.handler import Handler, Withdrawn
from bot.store import outbox, runs


class Decisions(Handler):
    """Approves or rejects the actions that agents wait with."""

    async def _step(self, row: OutboxRow, run: Run) -> Step | None:
        """Send the decision, again and again until the run shows that it took effect."""
        if run.waiting is not Waiting.APPROVAL or run.approved is None or run.action != row.payload["action"]:
            return Done("over")
        if run.approved:
            for person in filter(None, (run.first_approval, run.decided_by)):
                barred = await self._no_longer(run, person, Act.APPROVE)
                if barred is not None:
                    return barred
        return await self._asked(Call.DECIDE, row, run, self._decide(row, run))

    async def _decide(self, row: OutboxRow, run: Run) -> Step:
        async def going_out() -> None:
            async with self._ctx.database.transaction() as tx:
                if (await runs.get(tx, run.id)).approved is None:  # somebody stopped the run
                    raise Withdrawn
                await outbox.mark_attempt(tx, row.seq, self._ctx.clock.now())

        openhands = await self._ctx.openhands_of(run)
        if not isinstance(openhands, CanDecide):
            return self._lacks(Call.DECIDE, row, run)
        outcome = await openhands.decide(
            run,
            row.payload["action"],
            accept=bool(row.payload["accept"]),
            reason=words.rejected_for_agent(),
            before=going_out,
        )
        match outcome:
            case DecisionOutcome.OTHER if row.tried_at is None:
                return GiveBack(words.other_action())
            case DecisionOutcome.OVER | DecisionOutcome.OTHER:  # it took effect, and the agent may want the next by now
                await self._observe_soon(run)
                return Done()
            case DecisionOutcome.POSTED:
                return self._after(Call.DECIDE, None, row, run)
            case _:
                assert_never(outcome)

    async def _wake(self, row: OutboxRow, run: Run) -> Step:
        """Wake the sandbox in which the action waits, then retry."""
        openhands = await self._ctx.openhands_of(run)
        if not isinstance(openhands, CanResume):
            return self._lacks(Call.DECIDE, row, run)
        await openhands.resume(run)
        return Retry(at=later(self._ctx.clock.now(), self._ctx.patience.decision_settled_s), observe=True)

    async def _observe_soon(self, run: Run) -> None:
        async with self._ctx.database.transaction() as tx:
            await runs.poll_again(tx, [run.id], self._ctx.clock.now())
        self._ctx.wake_poller.set()

    async def _person(self, tx: AsyncConnection, row: OutboxRow, run: Run) -> UserId:
        del tx, run
        return UserId(row.payload["by"])

    async def _close(self, tx: AsyncConnection, row: OutboxRow, fresh: Run) -> None:
        """Undo the decision, so that it can be made again; the next poll shows what waits by then."""
        now = self._ctx.clock.now()
        if fresh.state is RunState.WAITING and fresh.action == row.payload["action"]:
            await runs.save(tx, fresh, lifecycle.undecide(lifecycle.within_reach(fresh)))
        await runs.poll_again(tx, [fresh.id], now)
        await outbox.done(tx, row.seq, now, "not decided")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Tell the person that the agent still waits."""
        await self._give_back(row, run, words.decision_lost(self._ctx.links.page(run)))
