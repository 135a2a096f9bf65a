"""What the handlers of rows owed to OpenHands share: `_step` makes a call, and `_finish` writes its outcome."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.causes import trust_help
from bot.context import Context
from bot.core import cards, lifecycle, policy, words
from bot.core.errors import NoSuchCall, OpenHandsError, SlackError, SlackRefused
from bot.core.model import Act, Obstacle, Run, UserId
from bot.core.owed import OutboxRow
from bot.core.pacing import later
from bot.core.policy import Allowed
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
from bot.store import audit, outbox, runs
from bot.store.audit import Entry

log = structlog.get_logger("sender")


class Withdrawn(Exception):
    """The row was called off just before its call went out."""


class Reworded(Exception):
    """The request was edited just before its call went out: the call is made anew."""


class Handler(ABC):
    """Calls OpenHands for one row at a time, and writes the outcome in one transaction."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Make the row's call, and write its outcome."""
        step = await self._step(row, run)
        if isinstance(step, Wake):
            step = await self._asked(Call.WAKE, row, run, self._wake(row, run))
        if step is not None:
            await self._finish(row, run, step)

    @abstractmethod
    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """End a row that keeps failing unexpectedly, and tell the person."""

    # --- what each kind does its own way ------------------------------------------------------------------------

    @abstractmethod
    async def _step(self, row: OutboxRow, run: Run) -> Step | None:
        """Make the call, and return what becomes of the row. None: the outcome is written already."""

    async def _wake(self, row: OutboxRow, run: Run) -> Step | None:
        """Wake the sandbox. Called only for kinds of rows that need it awake."""
        raise AssertionError(row.kind, run.id)

    @abstractmethod
    async def _person(self, tx: AsyncConnection, row: OutboxRow, run: Run) -> UserId:
        """Return the person who waits for the row."""

    @abstractmethod
    async def _close(self, tx: AsyncConnection, row: OutboxRow, fresh: Run) -> None:
        """Close the row as not done, and undo what the run shows of it."""

    async def _end(self, row: OutboxRow, run: Run, step: Refuse | Requeue | Lost | Ask) -> None:
        """Write a step that only this kind of row can reach."""
        raise AssertionError(step, row.kind, run.id)

    def _overtaken(self, fresh: Run) -> bool:
        """Return whether a person has meanwhile stopped the run, which this call may have woken."""
        del fresh
        return False

    def _held(self, run: Run) -> bool:
        """Return whether the row still waits for another state of the run."""
        raise AssertionError(run.id)

    # --- what they share ----------------------------------------------------------------------------------------

    async def _asked(self, call: Call, row: OutboxRow, run: Run, asking: Awaitable[Step | None]) -> Step | None:
        """Await a call; if it fails, return what becomes of the row."""
        try:
            return await asking
        except Withdrawn:
            return Done("withdrawn")
        except OpenHandsError as err:
            return self._after(call, err, row, run)

    def _lacks(self, call: Call, row: OutboxRow, run: Run) -> Step:
        """Return what becomes of a row for which the server lacks an ability."""
        return self._after(call, NoSuchCall(), row, run)

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
            case GiveBack(text, once):
                await self._give_back(row, run, text, once=once or None)
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
            # an ended run is not polled, so nothing else would clear that warning
            through = lifecycle.within_reach if fresh.state in lifecycle.ENDED else lifecycle.call_through
            await runs.save(tx, fresh, through(fresh))

    async def _retry(self, row: OutboxRow, run: Run, step: Retry) -> None:
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            wakes_up = lifecycle.wakes_up(fresh, self._ctx.clock.now())
            if wakes_up and (step.unreachable is None or step.unreachable.why is Obstacle.AWAY):
                pass  # the card says so
            elif step.unreachable is not None:
                if step.unreachable.cause:
                    log.warning(
                        "openhands.unreachable",
                        call=row.kind,
                        run=run.id,
                        cause=step.unreachable.cause,
                        server=self._ctx.links.server,
                        help=trust_help(step.unreachable.cause) or "nothing is lost, it tries on",
                    )
                await runs.save(tx, fresh, lifecycle.call_waits(fresh, row.created_at, step.unreachable.why))
            else:
                await runs.save(tx, fresh, lifecycle.call_through(fresh))
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

    async def _no_longer(self, run: Run, user: UserId, act: Act) -> GiveBack | Retry | None:
        """Ask the rules again, now that it is to be done; return why it is not, or when they can be asked."""
        what = policy.what_of(run, act)
        try:
            verdict = (await self._ctx.door.asker(user, run.channel)).judge(what)
        except SlackRefused as err:
            log.warning("request.refused", rule="unknown", code=err.code, user=user, act=act)
            return GiveBack(words.cannot_tell_who())
        except SlackError:
            return Retry(at=later(self._ctx.clock.now(), self._ctx.patience.look_around_s))
        if isinstance(verdict, Allowed):
            return None
        log.info("request.refused", rule=verdict.rule, act=act, user=user, channel=run.channel)
        refused = Entry(
            actor=user, action=act.value, verdict="refused", rule=verdict.rule, place=run.channel, run=run.id
        )
        async with self._ctx.database.transaction() as tx:
            await audit.add(tx, refused, self._ctx.clock.now())
        return GiveBack(words.barred(verdict, what, user))

    async def _hold(self, row: OutboxRow, run: Run) -> None:
        """Hold a row until the run's next state releases it; one that was released just now stays due."""
        at = later(self._ctx.clock.now(), self._ctx.patience.poll_slowest_s)
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if self._held(fresh):
                await runs.save(tx, fresh, lifecycle.call_through(fresh))
                await outbox.reschedule(tx, row.seq, at)

    async def _give_back(self, row: OutboxRow, run: Run, text: str, *, once: str | None = None) -> None:
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._close(tx, row, await runs.save(tx, fresh, lifecycle.call_through(fresh)))
            await self._tell(tx, row, fresh, text, once=once, offers=await runs.get(tx, run.id))
        self._ctx.wake_poller.set()

    async def _tell(
        self,
        tx: AsyncConnection,
        row: OutboxRow,
        run: Run,
        text: str,
        *,
        once: str | None = None,
        offers: Run | None = None,
    ) -> None:
        """Enqueue a message in the thread to the person who waits for this row. offers: the run whose buttons it has."""
        person = await self._person(tx, row, run)
        message = cards.sentence(f"{words.mention(person)} {text}", offers)
        await effects.enqueue_message(tx, run, message, self._ctx.clock.now(), to=person, once=once)
