"""Follow-ups: messages to the agent, in order, each once."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.context import Context
from bot.core import lifecycle, words
from bot.core.errors import Asleep, CannotTell, OpenHandsError, SlackError, Stored, Unsure
from bot.core.model import Act, FollowUp, FollowUpState, Phase, Reason, Run, RunState, UserId
from bot.core.owed import OutboxRow
from bot.core.pacing import later, retry_at
from bot.core.retrying import Ask, Call, Done, GiveBack, Hold, Lost, Refuse, Requeue, Retry, Step
from bot.openhands import CanResume, CanSeeImages, OpenHands
from bot.outbound.files import Files, types_seen
from bot.outbound.handler import Handler, Withdrawn
from bot.store import outbox, runs

SENDS = 2
"""Sends of one message: if it did not arrive, it is sent once more; then a person decides."""


class FollowUps(Handler):
    """Sends messages to the agent."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self._files = Files(ctx)

    async def _step(self, row: OutboxRow, run: Run) -> Step | None:
        """Send the row's message, or find out whether it arrived."""
        async with self._ctx.database.reading() as tx:
            follow_up = await runs.get_follow_up(tx, row.id)
        if follow_up.state is FollowUpState.DELIVERED and lifecycle.waits_for_room(run):
            return await self._asked(Call.RUN, row, run, self._run_on(row, run))
        if follow_up.state in (FollowUpState.WITHDRAWN, FollowUpState.DELIVERED, FollowUpState.FAILED):
            return Done(follow_up.state)
        if follow_up.state is FollowUpState.HELD:
            await self._ask_whether(row, run, follow_up)
            return None
        if run.state is RunState.CANCELLED:
            return GiveBack(words.follow_up_cancelled())
        if lifecycle.restartable(run):
            return GiveBack(words.cannot_follow_up(run))
        if self._held(run):
            return Hold()
        return await self._asked(Call.SEND, row, run, self._send(row, run, follow_up))

    def _held(self, run: Run) -> bool:
        return lifecycle.holds(run)

    async def _send(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> Step | None:
        openhands = await self._ctx.openhands_of(run)
        if openhands is None:
            return self._lacks(Call.SEND, row, run)
        if follow_up.state is FollowUpState.WAITING:
            return await self._deliver(row, run, follow_up, openhands)
        # it went out, and its answer was lost
        checking = self._check(row, run, follow_up, openhands, row.tried_at or row.created_at)
        return await self._asked(Call.CHECK, row, run, checking)

    async def _deliver(self, row: OutboxRow, run: Run, follow_up: FollowUp, openhands: OpenHands) -> Step | None:
        if follow_up.sends and await self._heard_meanwhile(run, follow_up, openhands):
            await self._delivered(row, run, follow_up, row.tried_at or row.created_at)
            return None
        barred = await self._no_longer(run, follow_up.author, Act.ANSWER)
        if barred is not None:
            return barred
        if run.reason is Reason.ASLEEP:
            raise Asleep
        anchor = await openhands.last_event(run)
        at = await self._tell_end(row, run, openhands)
        if at is not None:
            return Retry(at=at)
        try:
            attached = await self._files.attached(follow_up.files, images=types_seen(openhands), since=row.created_at)
        except SlackError:
            return Retry(at=later(self._ctx.clock.now(), self._ctx.patience.poll_s))
        left_out = words.files_left_out(attached.left_out)
        if not follow_up.text and attached.empty:
            return GiveBack(left_out)
        written = follow_up
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
                if await runs.get_follow_up(tx, row.id) != written:  # withdrawn, or edited
                    raise Withdrawn
                if lifecycle.holds(await runs.get(tx, run.id)):  # by now it would count as approval
                    raise Withdrawn
                if left_out:
                    await self._tell(tx, row, run, left_out, once=f"files {follow_up.id}")
                await runs.save_follow_up(tx, follow_up)
                await outbox.mark_attempt(tx, row.seq, went_out)

        try:
            text = words.and_attached(said(follow_up), attached)
            if isinstance(openhands, CanSeeImages):
                await openhands.send(run, text, going_out, images=attached.images)
            else:
                await openhands.send(run, text, going_out)
        except Withdrawn:
            return Retry(at=self._ctx.clock.now())  # its state by now decides: closed, or held
        except Unsure:
            await self._unsure(follow_up)
            raise
        except Stored:
            await self._delivered(row, run, follow_up, went_out, begun=False)
            return None
        except OpenHandsError:  # it surely did not arrive
            await self._not_delivered(row, run, follow_up, went_out)
            raise
        await self._delivered(row, run, follow_up, went_out)
        return None

    async def _tell_end(self, row: OutboxRow, run: Run, openhands: OpenHands) -> datetime | None:
        """Tell how the turn under way ended, if it did since the last look; return when to try the message again.

        None: there was nothing to tell. Once the message is out, all words before it are old news. Where the agent of a
        woken sandbox does not answer yet, nothing is told, and nothing goes out: its answer would be lost.
        """
        if run.state not in lifecycle.MAY_HAVE_ENDED:
            return None
        seen = (await openhands.observe([run])).get(run.id)
        if seen is not None and seen.phase is Phase.UNCLEAR and lifecycle.wakes_up(run, seen.asked_at):
            return later(seen.asked_at, self._pause_s((seen.asked_at - row.created_at).total_seconds()))
        if seen is None or seen.phase not in lifecycle.WORDS_DECIDE:
            return None
        if seen.last is None:
            seen = await openhands.read(run, seen)
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt != run.attempt:
                return now
            await effects.enqueue_overtaken(tx, fresh, seen, self._ctx.links, now)
            after, effect = lifecycle.advance(fresh, seen)
            await self._ctx.save(tx, fresh, (after, effect))
        if lifecycle.shown(after) != lifecycle.shown(run):
            return now
        return later(now, self._ctx.patience.poll_s) if lifecycle.words_expected(after, now) else None

    async def _heard_meanwhile(self, run: Run, follow_up: FollowUp, openhands: OpenHands) -> bool:
        """Return whether a message that a person wants sent again arrived after they were asked."""
        try:
            return await openhands.heard(run, said(follow_up), follow_up.last_event)
        except CannotTell:
            return False

    async def _not_delivered(self, row: OutboxRow, run: Run, follow_up: FollowUp, went_out: datetime) -> None:
        """Keep a message for the next try; withdraw it if somebody stopped the run while it was on its way."""
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            overtaken = fresh.stop_at is not None and fresh.stop_at >= went_out
            state = FollowUpState.WITHDRAWN if overtaken else FollowUpState.WAITING
            await runs.save_follow_up(tx, replace(follow_up, state=state, sends=follow_up.sends - 1))
            await outbox.undo_attempt(tx, row.seq, row.attempts)
            if overtaken:
                await self._tell(tx, row, run, words.withdrawn(1))

    async def _run_on(self, row: OutboxRow, run: Run) -> Step | None:
        """Let the agent begin with a message that its server keeps."""
        openhands = await self._ctx.openhands_of(run)
        if not isinstance(openhands, CanResume):
            return self._lacks(Call.RUN, row, run)
        if not await openhands.go_on(run):
            seen = (await openhands.observe([run])).get(run.id)
            if seen is None or seen.phase is Phase.ENDED:  # it still shows the end of the turn before
                return self._after(Call.RUN, None, row, run)
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if lifecycle.waits_for_room(fresh):
                await self._ctx.save(tx, fresh, (lifecycle.taken_up(fresh, now), ()))
            elif fresh.stop_by is not None:  # a stop came while this call, which set it to work, was on its way
                await effects.enqueue_stop(tx, fresh, now, woken=True)
            await outbox.done(tx, row.seq, now)
        self._ctx.wake_poller.set()
        return None

    async def _delivered(
        self, row: OutboxRow, run: Run, follow_up: FollowUp, went_out: datetime, *, begun: bool = True
    ) -> None:
        """Begin the turn of a message that the agent has. begun: if not, its row stays until the agent begins."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt != run.attempt:  # the conversation that has it was given up: the next one gets it too
                await outbox.reschedule(tx, row.seq, now, sent=False)
                return
            after, effect = lifecycle.sent(
                lifecycle.asks_no_more(fresh, follow_up.id), follow_up.author, follow_up.last_event, went_out, now
            )
            after = after if begun else lifecycle.stored(after, went_out)
            await self._ctx.save(tx, fresh, (after, effect))
            await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.DELIVERED))
            ts, where, told = follow_up.source_ts, follow_up.source_channel, bool(follow_up.files)
            await effects.enqueue_reaction(  # told: which of them the agent did not get
                tx, run, ts, effects.HAS_IT, now, channel=where, after_messages=told
            )
            if after.stop_by is not None:  # a stop came while the message, which woke the agent, was on its way
                await effects.enqueue_stop(tx, after, now)
            if begun:
                await outbox.done(tx, row.seq, now)
            else:
                await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.poll_s))
        self._ctx.wake_poller.set()

    async def _unsure(self, follow_up: FollowUp) -> None:
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get_follow_up(tx, follow_up.id)
            if fresh.state is FollowUpState.SENDING:  # else it waits for a new conversation by now
                await runs.save_follow_up(tx, replace(fresh, state=FollowUpState.UNSURE))

    async def _check(
        self, row: OutboxRow, run: Run, follow_up: FollowUp, openhands: OpenHands, tried_at: datetime
    ) -> None:
        """Look up whether a message whose answer was lost arrived; nothing later is sent before that is known."""
        if await openhands.heard(run, said(follow_up), follow_up.last_event):
            await self._delivered(row, run, follow_up, tried_at)
            return
        now = self._ctx.clock.now()
        quiet_since = None if run.watch.phase in (Phase.WORKING, None) else follow_up.quiet_since or now
        after = replace(follow_up, state=FollowUpState.UNSURE, quiet_since=quiet_since)
        if quiet_since and (now - quiet_since).total_seconds() >= self._ctx.patience.heard_settled_s:
            if run.stop_at is not None and run.stop_at >= tried_at:
                await self._withdraw(row, run, follow_up)
                return
            if follow_up.sends >= SENDS:
                await self._ask(row, run, follow_up)
                return
            after = replace(after, state=FollowUpState.WAITING)  # it surely did not arrive: send it again
        elif (now - tried_at).total_seconds() >= self._ctx.patience.unsure_person_s:
            await self._ask(row, run, after)
            return
        unsure = after.state is FollowUpState.UNSURE
        pause_s = self._pause_s((now - tried_at).total_seconds() if unsure else 0.0)  # each look-up reads events
        async with self._ctx.database.transaction() as tx:
            if await self._as_it_was(tx, follow_up):
                await runs.save_follow_up(tx, after)
                await outbox.reschedule(tx, row.seq, later(now, pause_s), sent=unsure)
            await runs.poll_again(tx, [run.id], now)
        self._ctx.wake_poller.set()

    def _pause_s(self, age_s: float) -> float:
        """Return the pause between looks for something that has been awaited for so long."""
        return min(self._ctx.patience.poll_slowest_s, max(self._ctx.patience.poll_s, age_s / 8))

    async def _as_it_was(self, tx: AsyncConnection, follow_up: FollowUp) -> bool:
        """Return whether nobody decided about a message while OpenHands was asked about it."""
        fresh = await runs.get_follow_up(tx, follow_up.id)
        return (fresh.state, fresh.asked_at) == (follow_up.state, follow_up.asked_at)

    async def _withdraw(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Withdraw a message that did not arrive before the run was stopped."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            if not await self._as_it_was(tx, follow_up):
                return
            await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.WITHDRAWN))
            fresh = await runs.get(tx, run.id)
            await runs.save(tx, fresh, lifecycle.asks_no_more(lifecycle.within_reach(fresh), follow_up.id))
            await self._tell(tx, row, run, words.withdrawn(1))
            await outbox.done(tx, row.seq, now, "withdrawn")

    async def _ask(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Ask a person, once, about a message nobody can find; keep looking for it meanwhile."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get_follow_up(tx, follow_up.id)
            if fresh.asked_at != follow_up.asked_at or fresh.state not in (FollowUpState.SENDING, FollowUpState.UNSURE):
                return  # somebody decided meanwhile
            asked = replace(follow_up, state=FollowUpState.UNSURE, asked_at=follow_up.asked_at or now)
            await runs.save_follow_up(tx, asked)
            before = await runs.get(tx, run.id)
            asking = await self._ctx.save(tx, before, (lifecycle.not_resumed(lifecycle.asks(before, follow_up)), ()))
            if follow_up.asked_at is None:
                await self._tell(tx, row, run, words.follow_up_unsure(follow_up.text), offers=asking)
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.retry_slowest_s))

    async def _ask_whether(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Ask about an old message whose turn has come, unless the card already asks about one."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            before = await runs.get(tx, run.id)
            if before.doubtful_follow_up is None and (await runs.get_follow_up(tx, row.id)).state is FollowUpState.HELD:
                asking = await self._ctx.save(tx, before, (lifecycle.asks(before, follow_up), ()))
                await self._tell(tx, row, run, words.follow_up_old(follow_up.text), offers=asking)
            await outbox.reschedule(tx, row.seq, later(now, self._ctx.patience.poll_person_s))

    async def _wake(self, row: OutboxRow, run: Run) -> Step | None:
        """Wake a sleeping conversation, then retry."""
        async with self._ctx.database.reading() as tx:
            follow_up = await runs.get_follow_up(tx, row.id)
        now = self._ctx.clock.now()
        if follow_up.state is not FollowUpState.WAITING:  # called off meanwhile
            return Retry(at=now)
        openhands = await self._ctx.openhands_of(run)
        if not isinstance(openhands, CanResume):
            return self._lacks(Call.WAKE, row, run)
        await openhands.resume(run)
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if (await runs.get_follow_up(tx, row.id)).state is FollowUpState.WITHDRAWN:  # by a stop
                await effects.enqueue_stop(tx, fresh, now, woken=True)
            elif fresh.attempt == run.attempt:
                await self._ctx.save(tx, fresh, lifecycle.sandbox_woken(fresh, now))
            await outbox.mark_attempt(tx, row.seq, now)  # count only calls that OpenHands took: an outage is waited out
            await outbox.reschedule(tx, row.seq, retry_at(row.attempts + 1, now, self._ctx.patience), sent=False)
        self._ctx.wake_poller.set()
        return None

    async def _end(self, row: OutboxRow, run: Run, step: Refuse | Requeue | Lost | Ask) -> None:
        match step:
            case Lost():
                await self._lost(row, run)
            case Ask():
                async with self._ctx.database.reading() as tx:
                    follow_up = await runs.get_follow_up(tx, row.id)
                await self._ask(row, run, follow_up)
            case _:
                raise AssertionError(step)

    async def _lost(self, row: OutboxRow, run: Run) -> None:
        """Mark the run as lost, since its conversation is gone; close the follow-up, and tell its author."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt != run.attempt:  # the next conversation gets it
                await outbox.reschedule(tx, row.seq, now, sent=False)
                return
            lost, effect = lifecycle.gone(fresh, now)
            await self._ctx.save(tx, fresh, (lost, effect))
        await self._give_back(row, lost, words.cannot_follow_up(lost))

    async def _person(self, tx: AsyncConnection, row: OutboxRow, run: Run) -> UserId:
        del run
        return (await runs.get_follow_up(tx, row.id)).author

    async def _close(self, tx: AsyncConnection, row: OutboxRow, fresh: Run) -> None:
        """Close a follow-up the agent will never get."""
        now, follow_up = self._ctx.clock.now(), await runs.get_follow_up(tx, row.id)
        await runs.save(tx, fresh, lifecycle.asks_no_more(lifecycle.within_reach(fresh), follow_up.id))
        await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.FAILED))
        ts, where = follow_up.source_ts, follow_up.source_channel
        await effects.enqueue_reaction(tx, fresh, ts, effects.FAILED, now, channel=where)
        await outbox.failed(tx, row.seq, now, "undeliverable")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Close the follow-up, and tell its author."""
        await self._give_back(row, run, words.follow_up_rejected(""))


def said(follow_up: FollowUp) -> str:
    """Return what a message begins with for the agent, whatever becomes of its files."""
    return words.with_files(follow_up.text, follow_up.files)
