"""What the handlers of rows owed to OpenHands have in common: they make a call, and `finish` writes what came of it."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.context import Context
from bot.core import cards, lifecycle, words
from bot.core.errors import OpenHandsError
from bot.core.model import Run, UserId
from bot.core.owed import OutboxRow
from bot.core.pacing import later
from bot.core.retrying import (
    Ask,
    Call,
    Done,
    Effort,
    GiveBack,
    Hold,
    Lost,
    Refuse,
    Requeue,
    Retry,
    Situation,
    Step,
    Wake,
    next_step,
)
from bot.store import outbox, runs


class Withdrawn(Exception):
    """What was owed was called off just before it went out."""


class Handler(ABC):
    """Calls OpenHands for one row at a time. What comes of it is one transaction."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Make the row's call, and write what came of it."""
        step = await self._step(row, run)
        if isinstance(step, Wake):
            step = await self._asked(Call.WAKE, row, run, self._wake(row, run))
        if step is not None:
            await self._finish(row, run, step)

    @abstractmethod
    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """End a row that failed again and again for reasons nobody foresaw, and say so."""

    # --- what each kind does its own way ------------------------------------------------------------------------

    @abstractmethod
    async def _step(self, row: OutboxRow, run: Run) -> Step | None:
        """Make the call. None: what came of it is written already."""

    async def _wake(self, row: OutboxRow, run: Run) -> Step | None:
        """Wake the sandbox. Only what needs it awake comes here."""
        raise AssertionError(row.kind, run.id)

    @abstractmethod
    async def _person(self, tx: AsyncConnection, row: OutboxRow, run: Run) -> UserId:
        """Return who waits for what is owed."""

    @abstractmethod
    async def _close(self, tx: AsyncConnection, row: OutboxRow, fresh: Run) -> None:
        """Close the row as not done, and take back what the run shows of it."""

    async def _end(self, row: OutboxRow, run: Run, step: Refuse | Requeue | Lost | Ask) -> None:
        """Write a step that only this kind of row can come to."""
        raise AssertionError(step, row.kind, run.id)

    def _overtaken(self, fresh: Run) -> bool:
        """Return whether a person stopped the run meanwhile, which this call may have woken."""
        del fresh
        return False

    def _held(self, run: Run) -> bool:
        """Return whether the row still waits for another state of the run."""
        raise AssertionError(run.id)

    # --- what they share ----------------------------------------------------------------------------------------

    async def _asked(self, call: Call, row: OutboxRow, run: Run, asking: Awaitable[Step | None]) -> Step | None:
        """Await a call; where it failed, return what becomes of the row."""
        try:
            return await asking
        except Withdrawn:
            return Done("withdrawn")
        except OpenHandsError as err:
            return self._after(call, err, row, run)

    def _after(self, call: Call, error: OpenHandsError | None, row: OutboxRow, run: Run) -> Step:
        here = Situation(
            row=row, run=run, moment=self._ctx.clock.now(), patience=self._ctx.patience, page=self._ctx.links.page(run)
        )
        return next_step(call, error, here)

    async def _finish(self, row: OutboxRow, run: Run, step: Step) -> None:
        match step:
            case Done(result):
                await self._done(row, run, result)
            case Retry():
                await self._retry(row, run, step)
            case Hold():
                await self._hold(row, run)
            case GiveBack(text):
                await self._give_back(row, run, text)
            case Refuse() | Requeue() | Lost() | Ask():
                await self._end(row, run, step)
            case Wake():
                raise AssertionError(row.kind, run.id)
            case _:
                assert_never(step)

    async def _done(self, row: OutboxRow, run: Run, result: str) -> None:
        async with self._ctx.database.transaction() as tx:
            await outbox.done(tx, row.seq, self._ctx.clock.now(), result)
            fresh = await runs.get(tx, run.id)
            if fresh.state in lifecycle.ENDED:  # nobody looks at it, so nothing else would take the warning back
                await runs.save(tx, fresh, lifecycle.within_reach(fresh))

    async def _retry(self, row: OutboxRow, run: Run, step: Retry) -> None:
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if step.unreachable is not None:
                shown = lifecycle.out_of_reach(fresh, row.created_at, key_refused=step.unreachable.key_refused)
                await runs.save(tx, fresh, shown)
            if step.say:
                await self._tell(tx, row, run, step.say, once=f"no room {row.id}")
            match step.effort:
                case Effort.COUNTED:
                    await outbox.undo_attempt(tx, row.seq, row.attempts + 1)
                case Effort.UNDONE:
                    await outbox.undo_attempt(tx, row.seq, row.attempts)
                case Effort.KEPT:
                    pass
                case _:
                    assert_never(step.effort)
            await outbox.reschedule(tx, row.seq, step.at)
            if self._overtaken(fresh):
                await effects.enqueue_stop(tx, fresh, self._ctx.clock.now(), woken=True)
            if step.observe:
                await runs.poll_again(tx, [run.id], self._ctx.clock.now())
        if step.observe:
            self._ctx.wake_poller.set()

    async def _hold(self, row: OutboxRow, run: Run) -> None:
        """Keep a row until the run's next state releases it; one that was released just now goes at once."""
        at = later(self._ctx.clock.now(), self._ctx.patience.poll_slowest_s)
        async with self._ctx.database.transaction() as tx:
            if self._held(await runs.get(tx, run.id)):
                await outbox.reschedule(tx, row.seq, at)

    async def _give_back(self, row: OutboxRow, run: Run, text: str) -> None:
        async with self._ctx.database.transaction() as tx:
            await self._tell(tx, row, run, text)
            await self._close(tx, row, await runs.get(tx, run.id))
        self._ctx.wake_poller.set()

    async def _tell(self, tx: AsyncConnection, row: OutboxRow, run: Run, text: str, *, once: str | None = None) -> None:
        """Say something in the thread to the person who waits for this row."""
        person = await self._person(tx, row, run)
        message = cards.sentence(f"{words.mention(person)} {text}")
        await effects.enqueue_message(tx, run, message, self._ctx.clock.now(), to=person, once=once)
