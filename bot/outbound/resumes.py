"""Resumes: runs that go on as a person asked."""

from bot import effects
from bot.core import cards, lifecycle, words
from bot.core.errors import Archived, Asleep, AtCapacity, NotFound, OpenHandsError, Rejected, Unsupported, Unsure
from bot.core.model import Run, RunState, UserId
from bot.core.pacing import later, retry_at
from bot.openhands import OpenHands
from bot.outbound.handler import Handler, Withdrawn
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow

WAKES = 8
"""Tries to wake a conversation before a person is told: with doubling pauses about two minutes."""


class Resumes(Handler):
    """Lets runs go on that were paused, stopped or failed, or sleep."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Tell OpenHands that the run goes on; while its conversation is being woken, again in a moment."""
        if run.resume_by is None or run.state not in lifecycle.RESUMABLE:
            await self._done(row, run, "over")
            return
        by = run.resume_by
        try:
            await self._go_on(row, run, await self._ctx.openhands())
        except Withdrawn:
            await self._done(row, run, "withdrawn")
        except (Asleep, Unsure):  # it may be repeated
            await self._come_back(row, run, by)
        except AtCapacity:
            await self._no_room(row, run, by)
        except (NotFound, Archived):
            await self._gone(row, run)
        except Unsupported:
            await self._cannot(row, run, by, words.no_resume_here())
        except Rejected:
            await self._cannot(row, run, by, words.cannot_resume(run))
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)

    async def _go_on(self, row: OutboxRow, run: Run, openhands: OpenHands) -> None:
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
            if fresh.attempt == run.attempt:  # else it is another conversation's by now
                after, effect = lifecycle.turn_resumed(fresh, went_out, now)
                await self._ctx.save(tx, fresh, (after, effect))
                if after.stop_by is not None:  # the stop came while this was on its way
                    await effects.enqueue_stop(tx, after, now)
            await outbox.done(tx, row.seq, now)
        self._ctx.wake_poller.set()

    async def _come_back(self, row: OutboxRow, run: Run, by: UserId) -> None:
        """Retry when the conversation may be awake; what was frozen goes on by itself, as the next look shows."""
        if row.attempts >= WAKES:
            await self._cannot(row, run, by, words.cannot_resume(run))
            return
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if overtaken := fresh.state is RunState.STOPPED and fresh.resume_by is None:
                await effects.enqueue_stop(tx, fresh, now, woken=True)
            await outbox.mark_attempt(tx, row.seq, now)
            await outbox.reschedule(tx, row.seq, retry_at(row.attempts + 1, now, self._ctx.patience), sent=False)
        if not overtaken:
            await self._look_soon(run)

    async def _no_room(self, row: OutboxRow, run: Run, by: UserId) -> None:
        """Try again when there may be a slot, and say so once."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            message = cards.sentence(f"{words.mention(by)} {words.no_room_to_resume()}")
            await effects.enqueue_message(tx, run, message, now, to=by, once=f"no room {row.id}")
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.full_s), sent=False)

    async def _gone(self, row: OutboxRow, run: Run) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt == run.attempt:
                await self._ctx.save(tx, fresh, lifecycle.gone(fresh, now))
            await outbox.done(tx, row.seq, now, "gone")

    async def _cannot(self, row: OutboxRow, run: Run, by: UserId, text: str) -> None:
        """Return the choice to the person."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await runs.save(tx, fresh, lifecycle.not_resumed(lifecycle.within_reach(fresh)))
            await effects.enqueue_message(tx, run, cards.sentence(f"{words.mention(by)} {text}"), now, to=by)
            await outbox.done(tx, row.seq, now, "not resumed")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Say that it stays as it is."""
        await self._cannot(row, run, run.resume_by or run.requester, words.cannot_resume(run))
