"""Follow-ups: messages to the agent, in order, each once."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.core import cards, lifecycle, words
from bot.core.errors import (
    Archived,
    Asleep,
    AtCapacity,
    CannotTell,
    NotFound,
    OpenHandsError,
    Rejected,
    Unsupported,
    Unsure,
)
from bot.core.model import FollowUp, FollowUpState, Phase, Reason, Run, RunState
from bot.core.pacing import later, retry_at
from bot.openhands import OpenHands
from bot.outbound.handler import Handler, Withdrawn
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow

SENDS = 2
"""A message that did not arrive is sent once more; then a person decides."""
WAKES = 8
"""Tries to wake a conversation before its message is given up: with doubling pauses about two minutes."""


class FollowUps(Handler):
    """Sends messages to the agent."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Send the row's message, or find out whether it arrived."""
        async with self._ctx.database.reading() as tx:
            follow_up = await runs.get_follow_up(tx, row.id)
        if follow_up.state in (FollowUpState.WITHDRAWN, FollowUpState.DELIVERED, FollowUpState.FAILED):
            await self._done(row, run, follow_up.state)
            return
        if follow_up.state is FollowUpState.HELD:
            await self._ask_whether(row, run, follow_up)
            return
        if run.state is RunState.CANCELLED:
            await self._undeliverable(row, run, follow_up, words.follow_up_cancelled())
            return
        if lifecycle.restartable(run):
            await self._undeliverable(row, run, follow_up, words.cannot_follow_up(run))
            return
        if lifecycle.holds(run):
            await self._hold(row, run, lifecycle.holds)
            return
        try:
            openhands = await self._ctx.openhands()
            if follow_up.state is not FollowUpState.WAITING:  # it went out, and its answer is not known
                await self._check(row, run, follow_up, openhands, row.tried_at or row.created_at)
            else:
                await self._deliver(row, run, follow_up, openhands)
        except Unsure:
            await self._unsure(row, follow_up)
        except Asleep:
            if row.attempts < WAKES:
                await self._wake_up(row, run)
            else:
                await self._undeliverable(row, run, follow_up, words.cannot_wake())
        except NotFound:
            if run.state in lifecycle.ENDED:
                await self._gone(row, run, follow_up)
            else:  # the next look tells whether it is gone
                await self._reschedule(row, later(self._ctx.clock.now(), self._ctx.patience.poll_s))
                await self._look_soon(run)
        except Archived:
            await self._gone(row, run, follow_up)
        except Rejected as err:
            await self._undeliverable(row, run, follow_up, words.follow_up_rejected(err.words))
        except Unsupported:
            await self._undeliverable(row, run, follow_up, words.follow_up_unsupported(self._ctx.links.page(run)))
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)

    async def _deliver(self, row: OutboxRow, run: Run, follow_up: FollowUp, openhands: OpenHands) -> None:
        if follow_up.sends and await self._heard_meanwhile(run, follow_up, openhands):
            await self._delivered(row, run, follow_up, row.tried_at or row.created_at)
            return
        if run.reason is Reason.ASLEEP:
            raise Asleep
        anchor = await openhands.last_event(run)
        follow_up = replace(
            follow_up,
            state=FollowUpState.SENDING,
            last_event=anchor,
            quiet_since=None,
            asked_at=None,
            sends=follow_up.sends + 1,
        )
        went_out = self._ctx.clock.now()

        async def going_out() -> None:
            nonlocal went_out
            went_out = self._ctx.clock.now()
            async with self._ctx.database.transaction() as tx:
                if (await runs.get_follow_up(tx, row.id)).state is FollowUpState.WITHDRAWN:
                    raise Withdrawn
                if lifecycle.holds(await runs.get(tx, run.id)):  # by now it would count as approval
                    raise Withdrawn
                await runs.save_follow_up(tx, follow_up)
                await outbox.mark_attempt(tx, row.seq, went_out)

        try:
            await openhands.send(run, follow_up.text, before=going_out)
        except Withdrawn:
            await self._reschedule(row, self._ctx.clock.now())  # what it is now decides: closed, or held
            return
        except Unsure:
            raise
        except OpenHandsError:  # it surely did not arrive
            await self._not_delivered(row, run, follow_up, went_out)
            raise
        await self._delivered(row, run, follow_up, went_out)

    async def _heard_meanwhile(self, run: Run, follow_up: FollowUp, openhands: OpenHands) -> bool:
        """Return whether a message that a person wants sent again has arrived since they were asked."""
        try:
            return await openhands.heard(run, follow_up.text, follow_up.last_event)
        except CannotTell:
            return False

    async def _not_delivered(self, row: OutboxRow, run: Run, follow_up: FollowUp, went_out: datetime) -> None:
        """Keep a message for the next try, unless somebody stopped the run while it was on its way."""
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            overtaken = fresh.stop_at is not None and fresh.stop_at >= went_out
            state = FollowUpState.WITHDRAWN if overtaken else FollowUpState.WAITING
            await runs.save_follow_up(tx, replace(follow_up, state=state, sends=follow_up.sends - 1))
            await outbox.undo_attempt(tx, row.seq, row.attempts)
            if overtaken:
                await self._tell(tx, run, words.withdrawn(1), self._ctx.clock.now())

    async def _delivered(self, row: OutboxRow, run: Run, follow_up: FollowUp, went_out: datetime) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt != run.attempt:  # the conversation that has it is given up: the next one gets it, too
                await outbox.reschedule(tx, row.seq, now, sent=False)
                return
            after, effect = lifecycle.sent(
                lifecycle.asks_no_more(fresh, follow_up.id), follow_up.last_event, went_out, now
            )
            await self._ctx.save(tx, fresh, (after, effect))
            await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.DELIVERED))
            await effects.enqueue_reaction(tx, run, follow_up.source_ts, effects.DELIVERED, now)
            if after.stop_by is not None:  # the stop came while the message was on its way, and it woke the agent
                await effects.enqueue_stop(tx, after, now)
            await outbox.done(tx, row.seq, now)
        self._ctx.wake_poller.set()

    async def _unsure(self, row: OutboxRow, follow_up: FollowUp) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get_follow_up(tx, follow_up.id)
            if fresh.state is FollowUpState.SENDING:  # else it is to go to a new conversation by now
                await runs.save_follow_up(tx, replace(fresh, state=FollowUpState.UNSURE))
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.poll_s), sent=True)

    async def _check(
        self, row: OutboxRow, run: Run, follow_up: FollowUp, openhands: OpenHands, tried_at: datetime
    ) -> None:
        """Find out whether a message arrived whose answer was lost; nothing later is sent before that is known."""
        now = self._ctx.clock.now()
        try:
            heard = await openhands.heard(run, follow_up.text, follow_up.last_event)
        except OpenHandsError as err:
            if isinstance(err, CannotTell) or (now - tried_at).total_seconds() >= self._ctx.patience.unsure_person_s:
                await self._ask(row, run, follow_up, now)
                return
            raise
        if heard:
            await self._delivered(row, run, follow_up, tried_at)
            return
        quiet_since = None if run.watch.phase in (Phase.WORKING, None) else follow_up.quiet_since or now
        after = replace(follow_up, state=FollowUpState.UNSURE, quiet_since=quiet_since)
        if quiet_since and (now - quiet_since).total_seconds() >= self._ctx.patience.heard_settled_s:
            if run.stop_at is not None and run.stop_at >= tried_at:
                await self._withdraw(row, run, follow_up)
                return
            if follow_up.sends >= SENDS:
                await self._ask(row, run, follow_up, now)
                return
            after = replace(after, state=FollowUpState.WAITING)  # it surely did not arrive: send it again
        elif (now - tried_at).total_seconds() >= self._ctx.patience.unsure_person_s:
            await self._ask(row, run, after, now)
            return
        unsure = after.state is FollowUpState.UNSURE
        age_s = (now - tried_at).total_seconds() if unsure else 0.0  # each look reads events: slower and slower
        pause_s = min(self._ctx.patience.poll_slowest_s, max(self._ctx.patience.poll_s, age_s / 8))
        async with self._ctx.database.transaction() as tx:
            if await self._as_it_was(tx, follow_up):
                await runs.save_follow_up(tx, after)
                await outbox.reschedule(tx, row.seq, later(now, pause_s), sent=unsure)
        await self._look_soon(run)

    async def _as_it_was(self, tx: AsyncConnection, follow_up: FollowUp) -> bool:
        """Return whether nobody decided about a message while OpenHands was asked about it."""
        fresh = await runs.get_follow_up(tx, follow_up.id)
        return (fresh.state, fresh.asked_at) == (follow_up.state, follow_up.asked_at)

    async def _withdraw(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Call off a message that did not arrive before the run was stopped."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            if not await self._as_it_was(tx, follow_up):
                return
            await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.WITHDRAWN))
            fresh = await runs.get(tx, run.id)
            await runs.save(tx, fresh, lifecycle.asks_no_more(lifecycle.within_reach(fresh), follow_up.id))
            await self._tell(tx, run, words.withdrawn(1), now)
            await outbox.done(tx, row.seq, now, "withdrawn")

    async def _ask(self, row: OutboxRow, run: Run, follow_up: FollowUp, now: datetime) -> None:
        """Let a person decide about a message nobody can find."""
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get_follow_up(tx, follow_up.id)
            if fresh.asked_at != follow_up.asked_at or fresh.state not in (FollowUpState.SENDING, FollowUpState.UNSURE):
                return  # somebody decided meanwhile
            if follow_up.asked_at is None:
                await self._tell(tx, run, words.follow_up_unsure(follow_up.text), now)
            asked = replace(follow_up, state=FollowUpState.UNSURE, asked_at=follow_up.asked_at or now)
            await runs.save_follow_up(tx, asked)
            asking = await runs.get(tx, run.id)
            await self._ctx.save(tx, asking, (lifecycle.not_resumed(lifecycle.asks(asking, follow_up)), ()))
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.retry_slowest_s), sent=True)

    async def _ask_whether(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Ask about an old message whose turn has come, unless the card does already."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            asking = await runs.get(tx, run.id)
            if asking.doubtful_follow_up is None and (await runs.get_follow_up(tx, row.id)).state is FollowUpState.HELD:
                await self._tell(tx, run, words.follow_up_old(follow_up.text), now)
                await self._ctx.save(tx, asking, (lifecycle.asks(asking, follow_up), ()))
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.poll_person_s), sent=True)

    async def _wake_up(self, row: OutboxRow, run: Run) -> None:
        """Wake a sleeping conversation, then try again."""
        async with self._ctx.database.reading() as tx:
            follow_up = await runs.get_follow_up(tx, row.id)
        now = self._ctx.clock.now()
        if follow_up.state is not FollowUpState.WAITING:  # called off meanwhile
            await self._reschedule(row, now)
            return
        try:
            await (await self._ctx.openhands()).resume(run)
        except Unsupported:
            await self._undeliverable(row, run, follow_up, words.follow_up_unsupported(self._ctx.links.page(run)))
            return
        except (NotFound, Archived, Rejected):
            await self._gone(row, run, follow_up)
            return
        except AtCapacity:
            await self._no_room(row, run, follow_up)
            return
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
            return
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if (await runs.get_follow_up(tx, row.id)).state is FollowUpState.WITHDRAWN:  # by a stop
                await effects.enqueue_stop(tx, fresh, now, woken=True)
            elif fresh.attempt == run.attempt:
                await self._ctx.save(tx, fresh, lifecycle.sandbox_woken(fresh, now))
            await outbox.mark_attempt(tx, row.seq, now)  # only what OpenHands took counts: an outage is waited out
            await outbox.reschedule(tx, row.seq, retry_at(row.attempts + 1, now, self._ctx.patience), sent=False)
        self._ctx.wake_poller.set()

    async def _no_room(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Keep a message until the account has room to wake its conversation, and say so once."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            message = cards.sentence(f"{words.mention(follow_up.author)} {words.no_room_to_wake()}")
            await effects.enqueue_message(tx, run, message, now, to=follow_up.author, once=f"no room {follow_up.id}")
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.full_s), sent=False)

    async def _gone(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Return a follow-up back whose conversation is there no more; the run is lost with it."""
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt != run.attempt:  # the next conversation gets it
                await outbox.reschedule(tx, row.seq, self._ctx.clock.now(), sent=False)
                return
            lost, effect = lifecycle.gone(fresh, self._ctx.clock.now())
            await self._ctx.save(tx, fresh, (lost, effect))
        await self._undeliverable(row, lost, follow_up, words.cannot_follow_up(lost))

    async def _undeliverable(self, row: OutboxRow, run: Run, follow_up: FollowUp, text: str) -> None:
        """Close a follow-up the agent will never get, and tell its author."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await runs.save(tx, fresh, lifecycle.asks_no_more(lifecycle.within_reach(fresh), follow_up.id))
            await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.FAILED))
            message = cards.sentence(f"{words.mention(follow_up.author)} {text}")
            await effects.enqueue_message(tx, run, message, now, to=follow_up.author)
            await effects.enqueue_reaction(tx, run, follow_up.source_ts, effects.FAILED, now)
            await outbox.failed(tx, row.seq, now, "undeliverable")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Return the message back to its author."""
        async with self._ctx.database.reading() as tx:
            follow_up = await runs.get_follow_up(tx, row.id)
        await self._undeliverable(row, run, follow_up, words.follow_up_rejected(""))
