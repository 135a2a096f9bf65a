"""Starts: a conversation for a run, looked up before it is asked for again."""

from datetime import datetime
from itertools import accumulate

from bot import effects, slots
from bot.core import lifecycle, words
from bot.core.errors import (
    AtCapacity,
    CannotTell,
    NoAccess,
    NotFound,
    OpenHandsError,
    Rejected,
    SlackError,
    TooFast,
    Unauthorised,
    Unreadable,
    Unsupported,
    Unsure,
)
from bot.core.model import Api, Failed, FollowUpState, Reason, Run, RunState, Started
from bot.core.pacing import later, retry_at
from bot.openhands import OpenHands
from bot.outbound.handler import Handler, Withdrawn
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow

STARTS = 2
"""A start that is nowhere to be found a minute later is posted once more, with the same id."""
REFUSALS = 6
"""Tries that got a 429 without the limit named: with doubling pauses about a minute, then it counts as the limit."""


class Starts(Handler):
    """Starts conversations."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Start the run's attempt, or look whether it has started."""
        if run.state is not RunState.STARTING or row.payload.get("attempt") != run.attempt:
            await self._done(row, run, "withdrawn")
        elif row.tried_at is None:
            await self._start(row, run)
        else:
            await self._find(row, run, row.tried_at)

    async def _start(self, row: OutboxRow, run: Run) -> None:
        """Ask for the conversation. What is refused surely did not start; a lost answer is looked up."""
        if run.stop_by is not None:  # asked for while an earlier try was on its way
            await self._called_off(row, run)
            return
        try:
            openhands = await self._ctx.openhands()
            if openhands.api is Api.V0 and run.model:
                await self._not_started(row, run, Failed(Reason.MODEL_UNSUPPORTED))
            else:
                await self._post_start(row, run, openhands)
        except Withdrawn:
            await self._done(row, run, "withdrawn")
        except Unsure:
            await self._reschedule(row, later(self._ctx.clock.now(), self._ctx.patience.start_lookups_s[0]))
        except AtCapacity:
            await self._full(row, run)
        except TooFast as err:
            if row.attempts >= REFUSALS:
                await self._full(row, run)
            else:
                now = self._ctx.clock.now()
                await self._reschedule(
                    row, max(later(now, err.retry_after_s), retry_at(row.attempts + 1, now, self._ctx.patience))
                )
        except NoAccess:
            await self._not_started(row, run, Failed(Reason.REPOSITORY))
        except Unauthorised:
            await self._not_started(row, run, Failed(Reason.KEY_REFUSED))
        except Rejected as err:
            await self._not_started(row, run, Failed(Reason.START_REJECTED, err.words))
        except (Unreadable, NotFound, Unsupported):
            await self._not_started(row, run, Failed(Reason.START_UNREADABLE))
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)

    async def _find(self, row: OutboxRow, run: Run, tried_at: datetime) -> None:
        """Look for a start whose answer was lost; only when it is surely nowhere, ask for it once more.

        A look that fails, for whatever reason, is no answer: it may run, so nothing is posted and nothing given up.
        """
        try:
            openhands = await self._ctx.openhands()
            it = await openhands.find_start(run, await self._message(run, openhands), tried_at)
        except CannotTell:
            await self._not_started(row, run, Failed(Reason.START_UNSURE))
        except NotFound:  # what may be it does not tell yet
            await self._reschedule(row, self._next_look(tried_at))
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
        else:
            await self._found(row, run, openhands.api, it, tried_at)

    async def _found(self, row: OutboxRow, run: Run, api: Api, it: Started | None, tried_at: datetime) -> None:
        """Apply what a look-up shows. A start that failed counts as started: the next poll reports it."""
        settled_at = later(tried_at, self._ctx.patience.start_settled_s)
        if it is not None and not await self._is_of_another(run, it):
            await self._started(row, run, api, it)
        elif it is None and self._ctx.clock.now() < settled_at:
            await self._reschedule(row, min(self._next_look(tried_at), settled_at))
        elif it is None and api is Api.V1 and row.attempts < STARTS:  # V0 takes no id that would show a second one
            await self._start(row, run)
        else:
            await self._not_started(row, run, Failed(Reason.START_UNSURE))

    def _next_look(self, tried_at: datetime) -> datetime:
        """Return when a start is looked for again: soon after it went out, then more and more rarely."""
        age_s, pauses_s = (self._ctx.clock.now() - tried_at).total_seconds(), self._ctx.patience.start_lookups_s
        return later(tried_at, next((at_s for at_s in accumulate(pauses_s) if at_s > age_s), age_s + pauses_s[-1]))

    async def _is_of_another(self, run: Run, it: Started) -> bool:
        async with self._ctx.database.reading() as tx:
            return await runs.is_of_another(tx, run.id, it.conversation_id)

    async def _message(self, run: Run, openhands: OpenHands) -> str:
        return words.task_for_agent(run, await self._said(run), with_branch=openhands.api is Api.V0)

    async def _said(self, run: Run) -> list[str]:
        """Return what people said to the conversations before this one, which a new attempt carries over."""
        if run.turn == 1:
            return []
        async with self._ctx.database.reading() as tx:
            found = await runs.follow_ups_of(tx, run.id, [FollowUpState.DELIVERED, FollowUpState.FAILED])
        return [one.text for one in found]

    async def _post_start(self, row: OutboxRow, run: Run, openhands: OpenHands) -> None:
        message = await self._message(run, openhands)
        about = words.about_for_agent(await self._name(run), None if run.private else self._ctx.links.thread(run))
        try:
            it = await openhands.start(run, message, about, before=lambda: self._going_out(row, run))
        except (Unsure, Withdrawn):
            raise
        except TooFast:  # counted: it may be the account's limit in other words
            async with self._ctx.database.transaction() as tx:
                await outbox.reschedule(tx, row.seq, self._ctx.clock.now(), sent=False)
            raise
        except OpenHandsError:  # it surely did not arrive
            async with self._ctx.database.transaction() as tx:
                await outbox.undo_attempt(tx, row.seq, row.attempts)
            raise
        await self._started(row, run, openhands.api, it)

    async def _going_out(self, row: OutboxRow, run: Run) -> None:
        """Say that the start goes out now, unless somebody called it off while it waited for its turn."""
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.state is not RunState.STARTING or fresh.attempt != run.attempt:
                raise Withdrawn
            await outbox.mark_attempt(tx, row.seq, self._ctx.clock.now())

    async def _name(self, run: Run) -> str:
        """Return the requester for the agent; the id where Slack does not answer just now."""
        try:
            return (await self._ctx.gateway.person(run.requester)).name or run.requester
        except SlackError:
            return run.requester

    async def _started(self, row: OutboxRow, run: Run, api: Api, it: Started) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._ctx.save(tx, fresh, lifecycle.started(fresh, api, it, now))
            await outbox.done(tx, row.seq, now)
            await slots.mark_available(tx, now)
            await slots.admit_waiting(tx, self._ctx.links, self._ctx.limits, now)
        self._ctx.wake_poller.set()

    async def _full(self, row: OutboxRow, run: Run) -> None:
        """Let the run wait for a slot; it will be asked for under another id, as nobody knows what became of this one."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await slots.mark_full(tx, self._ctx.limits, now)
            if fresh.stop_by is None:
                waits = lifecycle.requeue_full(fresh, effects.new_conversation(), now)
            else:
                waits = lifecycle.cancel(fresh, fresh.stop_by, now)
            await self._ctx.save(tx, fresh, waits)
            await outbox.done(tx, row.seq, now, "no free slot")
        self._ctx.wake_poller.set()

    async def _called_off(self, row: OutboxRow, run: Run) -> None:
        """End a run that a person stopped and that surely did not start."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._ctx.save(tx, fresh, lifecycle.cancel(fresh, fresh.stop_by or fresh.requester, now))
            await outbox.done(tx, row.seq, now, "withdrawn")

    async def _not_started(self, row: OutboxRow, run: Run, why: Failed) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._ctx.save(tx, fresh, lifecycle.not_started(fresh, why, now))
            await outbox.failed(tx, row.seq, now, why.reason)

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Leave it to a person whether it started."""
        if run.state is RunState.STARTING:
            await self._not_started(row, run, Failed(Reason.START_UNSURE))
        else:
            await self._done(row, run, "given up")
