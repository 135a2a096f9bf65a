"""Starts: creates the conversation of a run; a lost answer is looked up before the call is repeated."""

from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects, slots
from bot.context import Context
from bot.core import lifecycle, words
from bot.core.errors import SlackError
from bot.core.files import Attached
from bot.core.model import Act, Api, Failed, File, FollowUpState, Reason, Run, RunState, Started, UserId
from bot.core.owed import OutboxRow
from bot.core.pacing import later
from bot.core.retrying import Ask, Call, Done, Lost, Refuse, Requeue, Retry, Step, next_look
from bot.openhands import CanChooseModel, CanListBranches, CanSeeImages, OpenHands
from bot.outbound.files import Files, types_seen
from bot.outbound.handler import Handler, Reworded, Withdrawn
from bot.store import outbox, runs

STARTS = 2
"""Posts of one start: if it is nowhere to be found after a minute, it is posted once more, with the same id."""


class Starts(Handler):
    """Starts conversations."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(ctx)
        self._files = Files(ctx)

    async def _step(self, row: OutboxRow, run: Run) -> Step | None:
        """Start the run's attempt, or look up whether it has started."""
        if run.state is not RunState.STARTING or row.payload.get("attempt") != run.attempt:
            return Done("withdrawn")
        if row.tried_at is None:
            return await self._asked(Call.START, row, run, self._start(row, run))
        return await self._asked(Call.FIND, row, run, self._find(row, run, row.tried_at))

    async def _start(self, row: OutboxRow, run: Run) -> Step | None:
        """Ask OpenHands for the conversation."""
        if run.stop_by is not None or not lifecycle.has_words(run):  # it came while an earlier try was on its way
            await self._called_off(row, run)
            return None
        barred = await self._no_longer(run, lifecycle.starter(run), Act.START)
        if barred is not None:
            return barred
        openhands = await self._ctx.openhands()
        if run.model and not (isinstance(openhands, CanChooseModel) and openhands.takes_models):
            return Refuse(Failed(Reason.MODEL_UNSUPPORTED))
        if run.repository is not None and run.branch is not None and isinstance(openhands, CanListBranches):
            names = await openhands.branches(run.repository, run.branch)
            if names is not None and run.branch not in names:
                return Refuse(Failed(Reason.BRANCH, words.near_branches(run.branch, names)))
        message, files = await self._message(run, openhands)
        try:
            attached = await self._files.attached(files, images=types_seen(openhands), since=row.created_at)
        except SlackError:
            return Retry(at=later(self._ctx.clock.now(), self._ctx.patience.poll_s))
        about = words.about_for_agent(await self._name(run), None if run.private else self._ctx.links.thread(run))
        message = words.and_attached(message, attached)
        try:
            before = partial(self._going_out, row, run, attached)
            if isinstance(openhands, CanSeeImages):
                it = await openhands.start(run, message, about, before, images=attached.images)
            else:
                it = await openhands.start(run, message, about, before)
        except Reworded:
            return Retry(at=self._ctx.clock.now())
        await self._started(row, run, openhands.api, it)
        return None

    async def _find(self, row: OutboxRow, run: Run, tried_at: datetime) -> Step | None:
        """Look up a start whose answer was lost; repeat it, once, only when it surely did not arrive."""
        openhands = await self._ctx.openhands()
        message, files = await self._message(run, openhands)
        if openhands.api is Api.AGENT and isinstance(openhands, CanSeeImages):  # it may have to be told once more
            try:
                attached = await self._files.attached(files, images=openhands.image_types, since=row.created_at)
            except SlackError:
                return Retry(at=next_look(tried_at, self._ctx.clock.now(), self._ctx.patience))
            message = words.and_attached(message, attached)
            it = await openhands.find_start(run, message, tried_at, images=attached.images)
        else:
            it = await openhands.find_start(run, message, tried_at)
        now = self._ctx.clock.now()
        settled_at = later(tried_at, self._ctx.patience.start_settled_s)
        if it is not None and not await self._is_of_another(run, it):
            await self._started(row, run, openhands.api, it)  # one that failed counts too: the next poll reports it
            return None
        if it is None and now < settled_at:
            return Retry(at=min(next_look(tried_at, now, self._ctx.patience), settled_at))
        if (
            it is None and openhands.api is not Api.V0 and row.attempts < STARTS
        ):  # V0 has no id that would show a duplicate
            return await self._asked(Call.START, row, run, self._start(row, run))
        return Refuse(Failed(Reason.START_UNSURE))

    async def _is_of_another(self, run: Run, it: Started) -> bool:
        async with self._ctx.database.reading() as tx:
            return await runs.is_of_another(tx, run.id, it.conversation_id)

    async def _message(self, run: Run, openhands: OpenHands) -> tuple[str, tuple[File, ...]]:
        """Return what the agent is told, and the files that go along.

        A new attempt carries over what people said to the conversations before it.
        """
        said: list[str] = []
        files = run.files
        if run.turn > 1:
            async with self._ctx.database.reading() as tx:
                found = await runs.follow_ups_of(tx, run.id, [FollowUpState.DELIVERED, FollowUpState.FAILED])
            said = [words.with_files(one.text, one.files) for one in found if one.text or one.files]  # else deleted
            files = (*files, *(file for one in found for file in one.files))
        return words.task_for_agent(run, said, with_branch=openhands.api is Api.V0), files

    async def _going_out(self, row: OutboxRow, run: Run, attached: Attached) -> None:
        """Mark the attempt, just before the call, and tell which files don't go along.

        Raises `Withdrawn` if somebody called it off while it waited.
        """
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.state is not RunState.STARTING or fresh.attempt != run.attempt:
                raise Withdrawn
            if wording(fresh) != wording(run):
                raise Reworded
            if attached.left_out:
                await self._tell(tx, row, run, words.files_left_out(attached.left_out), once=f"files {run.attempt}")
            await outbox.mark_attempt(tx, row.seq, self._ctx.clock.now())

    async def _name(self, run: Run) -> str:
        """Return the requester's name for the agent; the id if Slack does not answer now."""
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
            await slots.mark_started(tx, now)
            await slots.admit_waiting(tx, self._ctx.links, self._ctx.limits, now)
        self._ctx.wake_poller.set()

    async def _end(self, row: OutboxRow, run: Run, step: Refuse | Requeue | Lost | Ask) -> None:
        match step:
            case Refuse(why):
                await self._refuse(row, run, why)
            case Requeue():
                await self._requeue(row, run, step)
            case _:
                raise AssertionError(step)

    async def _requeue(self, row: OutboxRow, run: Run, step: Requeue) -> None:
        """Queue the run for a slot again, under another id, since nobody knows what became of this one."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if step.until is None:
                await slots.mark_full(tx, self._ctx.limits, now)
            else:
                await slots.mark_over_quota(tx, step.until)
            if fresh.stop_by is not None:
                waits = lifecycle.cancel(fresh, fresh.stop_by, now)
            elif step.until is None:
                waits = lifecycle.requeue_full(fresh, effects.new_conversation(), now)
            else:
                waits = lifecycle.requeue_until(fresh, effects.new_conversation(), step.until, step.numbers, now)
            await self._ctx.save(tx, fresh, waits)
            await outbox.done(tx, row.seq, now, "no free slot")
        self._ctx.wake_poller.set()

    async def _called_off(self, row: OutboxRow, run: Run) -> None:
        """Cancel a run that a person stopped and that surely did not start."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._ctx.save(tx, fresh, lifecycle.cancel(fresh, fresh.stop_by or fresh.requester, now))
            await outbox.done(tx, row.seq, now, "withdrawn")

    async def _give_back(self, row: OutboxRow, run: Run, text: str, *, once: str | None = None) -> None:
        """Cancel a run that the rules do not allow any more, and tell its thread."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.state is RunState.STARTING and fresh.attempt == run.attempt:
                await self._tell(tx, row, run, text, once=once)
                await self._ctx.save(tx, fresh, lifecycle.barred(fresh, now))
            await outbox.done(tx, row.seq, now, "not allowed")
        self._ctx.wake_poller.set()

    async def _refuse(self, row: OutboxRow, run: Run, why: Failed) -> None:
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._ctx.save(tx, fresh, lifecycle.not_started(fresh, why, now))
            await outbox.done(tx, row.seq, now, why.reason)  # no dead letter: a person was told, and can retry

    async def _person(self, tx: AsyncConnection, row: OutboxRow, run: Run) -> UserId:
        del tx, row
        return run.requester

    async def _close(self, tx: AsyncConnection, row: OutboxRow, fresh: Run) -> None:
        del fresh
        await outbox.failed(tx, row.seq, self._ctx.clock.now(), "not started")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Fail the run with `START_UNSURE`: only a person can find out whether it started."""
        if run.state is RunState.STARTING:
            await self._refuse(row, run, Failed(Reason.START_UNSURE))
        else:
            await self._done(row, run, "given up")


def wording(run: Run) -> tuple[object, ...]:
    """Return what an edit of the request may change."""
    return run.task, run.files, run.repository, run.branch, run.model
