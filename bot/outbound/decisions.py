"""Decisions: what a person said to an action that waits for approval, passed on to the agent."""

from bot import effects
from bot.core import cards, lifecycle, words
from bot.core.errors import Archived, Asleep, AtCapacity, NotFound, OpenHandsError, Rejected, Unsupported, Unsure
from bot.core.model import DecisionOutcome, Run, RunState, UserId, Waiting
from bot.core.pacing import later, retry_at
from bot.openhands import OpenHands
from bot.outbound.handler import Handler, Withdrawn
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow

DECISIONS = 6
"""A decision the server takes again and again without effect is given back to the person."""


class Decisions(Handler):
    """Approves or rejects what agents wait with."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Pass a decision on, until the run shows that it took effect."""
        if run.waiting is not Waiting.APPROVAL or run.approved is None or run.action != row.payload["action"]:
            await self._done(row, run, "over")
            return
        try:
            await self._decide(row, run, await self._ctx.openhands())
        except Withdrawn:
            await self._done(row, run, "withdrawn")
        except Asleep:
            await self._wake_up(row, run)
        except (NotFound, Archived):  # the next look tells what became of it
            await self._reschedule(row, retry_at(row.attempts + 1, self._ctx.clock.now(), self._ctx.patience))
            await self._look_soon(run)
        except (Unsupported, Rejected):
            await self._undo(row, run, words.cannot_decide(self._ctx.links.page(run)))
        except Unsure:  # it may be repeated: what waits is compared again
            await self._reschedule(row, later(self._ctx.clock.now(), self._ctx.patience.decision_settled_s))
        except OpenHandsError as err:
            if self._only_the_agent_is_out_of_reach(row, run):
                await self._undo(row, run, words.decision_lost(self._ctx.links.page(run)))
            else:
                await self._out_of_reach(row, run, err)
                await self._look_soon(run)

    def _only_the_agent_is_out_of_reach(self, row: OutboxRow, run: Run) -> bool:
        """Return whether decisions can't be passed on though OpenHands itself answers, as where its agents are walled off."""
        now, long_s = self._ctx.clock.now(), self._ctx.patience.unreachable_shown_s
        tried_s, seen_s = (now - row.created_at).total_seconds(), (now - run.watch.observed_at).total_seconds()
        return tried_s >= long_s and seen_s < long_s / 2

    async def _decide(self, row: OutboxRow, run: Run, openhands: OpenHands) -> None:
        async def going_out() -> None:
            async with self._ctx.database.transaction() as tx:
                if (await runs.get(tx, run.id)).approved is None:  # somebody stopped the run
                    raise Withdrawn
                await outbox.mark_attempt(tx, row.seq, self._ctx.clock.now())

        came_to = await openhands.decide(
            run,
            row.payload["action"],
            accept=bool(row.payload["accept"]),
            reason=words.rejected_for_agent(),
            before=going_out,
        )
        match came_to:
            case DecisionOutcome.OVER:
                await self._done(row, run)
            case DecisionOutcome.OTHER:
                await self._undo(row, run, words.other_action())
            case DecisionOutcome.POSTED if row.attempts >= DECISIONS:
                await self._undo(row, run, words.decision_lost(self._ctx.links.page(run)))
            case DecisionOutcome.POSTED:  # taken at the very moment something begins to wait, it may have had no effect
                await self._reschedule(row, later(self._ctx.clock.now(), self._ctx.patience.decision_settled_s))
        await self._look_soon(run)

    async def _wake_up(self, row: OutboxRow, run: Run) -> None:
        """Wake the sandbox in which the action waits, and come back; where that takes too long, it is decided again."""
        now = self._ctx.clock.now()
        if (now - row.created_at).total_seconds() >= self._ctx.patience.unsure_person_s:
            await self._undo(row, run, words.decision_lost(self._ctx.links.page(run)))
            return
        try:
            await (await self._ctx.openhands()).resume(run)
        except AtCapacity:
            await self._no_room(row, run)
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
        else:
            await self._reschedule(row, later(now, self._ctx.patience.decision_settled_s))
        await self._look_soon(run)

    async def _no_room(self, row: OutboxRow, run: Run) -> None:
        """Try again when there may be a slot, and say so once."""
        now, by = self._ctx.clock.now(), UserId(row.payload["by"])
        async with self._ctx.database.transaction() as tx:
            message = cards.sentence(f"{words.mention(by)} {words.no_room_to_resume()}")
            await effects.enqueue_message(tx, run, message, now, to=by, once=f"no room {row.id}")
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.full_s), sent=True)

    async def _undo(self, row: OutboxRow, run: Run, text: str) -> None:
        """Let it be decided again."""
        now, by = self._ctx.clock.now(), UserId(row.payload["by"])
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.state is RunState.WAITING and fresh.action == row.payload["action"]:
                await runs.save(tx, fresh, lifecycle.undecide(lifecycle.within_reach(fresh)))
            await effects.enqueue_message(tx, run, cards.sentence(f"{words.mention(by)} {text}"), now, to=by)
            await outbox.done(tx, row.seq, now, "not decided")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Say that the agent still waits."""
        await self._undo(row, run, words.decision_lost(self._ctx.links.page(run)))
