"""What is owed to OpenHands, done: starts, follow-ups and stops, each looked up before it is repeated."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import cards, effects, lifecycle, words
from bot.clock import Clock
from bot.effects import Site
from bot.errors import (
    Archived,
    Asleep,
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
from bot.lifecycle import Changed
from bot.model import Api, Failed, FollowUp, FollowUpState, Phase, Reason, Run, RunId, RunState, Started
from bot.openhands import OpenHands
from bot.pacing import Patience, later, retry_at
from bot.slack.gateway import Gateway
from bot.store import outbox, runs
from bot.store.database import Database
from bot.store.outbox import OutboxRow, Owed

log = structlog.get_logger("sender")

STARTS = 2
"""A start that is nowhere to be found a minute later is posted once more, with the same id."""
WAKES = 8
"""Tries to wake a conversation before its message is given up: with doubling pauses about two minutes."""


class Withdrawn(Exception):
    """The message was withdrawn just before it went out."""


class OpenHandsRows:
    """Calls OpenHands for one row at a time. What comes of it is one transaction."""

    def __init__(
        self,
        *,
        database: Database,
        openhands: Callable[[], Awaitable[OpenHands]],
        site: Site,
        clock: Clock,
        patience: Patience,
        wake_poller: Callable[[], None],
        gateway: Gateway,
    ) -> None:
        self._database = database
        self._openhands = openhands
        self._site = site
        self._clock = clock
        self._patience = patience
        self._wake_poller = wake_poller
        self._gateway = gateway

    async def do(self, row: OutboxRow) -> None:
        """Do a row, or say when it is tried again."""
        async with self._database.reading() as tx:
            run = await runs.get(tx, RunId(row.run or ""))
        match row.kind:
            case Owed.START:
                await self._start(row, run)
            case Owed.SEND:
                await self._send(row, run)
            case _:
                await self._stop(row, run)

    async def give_up(self, row: OutboxRow) -> None:
        """End a row that failed again and again for reasons nobody foresaw, and say so."""
        now = self._clock.now()
        async with self._database.transaction() as tx:
            run = await runs.get(tx, RunId(row.run or ""))
            match row.kind:
                case Owed.START if run.state is RunState.STARTING:
                    await self._save(tx, run, lifecycle.not_started(run, Failed(Reason.START_UNSURE), now))
                case Owed.SEND:
                    follow_up = await runs.get_follow_up(tx, row.id)
                    await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.FAILED))
                    await self._tell(tx, run, words.follow_up_rejected(""), now)
                case _:
                    await self._tell(tx, run, words.cannot_stop(self._site.page(run)), now)
            await outbox.failed(tx, row.seq, now, "given up")

    # --- what they share ----------------------------------------------------------------------------------------

    async def _again(self, row: OutboxRow, at: datetime) -> None:
        """Come back later; whether an earlier call may have had its effect stays as the row has it."""
        async with self._database.transaction() as tx:
            await outbox.again(tx, row.seq, at, sent=True)

    async def _hold(self, row: OutboxRow, run: Run, held: Callable[[Run], bool]) -> None:
        """Keep a row until the run's next state releases it; one that was released just now goes at once."""
        at = later(self._clock.now(), self._patience.poll_slowest_s)
        async with self._database.transaction() as tx:
            if held(await runs.get(tx, run.id)):
                await outbox.again(tx, row.seq, at, sent=row.tried_at is not None)

    async def _done(self, row: OutboxRow, result: str = "") -> None:
        async with self._database.transaction() as tx:
            await outbox.done(tx, row.seq, self._clock.now(), result)

    async def _trying(self, row: OutboxRow) -> None:
        async with self._database.transaction() as tx:
            await outbox.trying(tx, row.seq, self._clock.now())

    async def _tell(self, tx: AsyncConnection, run: Run, text: str, now: datetime) -> None:
        await effects.owe_message(tx, run, cards.sentence(f"{words.mention(run.requester)} {text}"), now)

    async def _save(self, tx: AsyncConnection, before: Run, changed: Changed) -> None:
        await effects.take_over(tx, before, changed, self._site, self._clock.now())

    async def _out_of_reach(self, row: OutboxRow, run: Run, err: OpenHandsError) -> None:
        """Nothing was done, or a look failed: try again, slower and slower, and say so on the card after a while.

        Whether an earlier call may have had its effect stays as the row has it.
        """
        now = self._clock.now()
        wait = later(now, err.retry_after_s) if isinstance(err, TooFast) else None
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            since = fresh.unreachable_since or row.created_at
            key_refused = isinstance(err, Unauthorised)
            long = now - row.created_at >= timedelta(seconds=self._patience.unreachable_shown_s) and wait is None
            if key_refused or long:
                await runs.save(tx, fresh, lifecycle.out_of_reach(fresh, since, key_refused=key_refused))
            age = (now - row.created_at).total_seconds()
            pause = min(self._patience.retry_slowest_s, max(self._patience.retry_first_s, age / 4))
            await outbox.again(tx, row.seq, wait or later(now, pause), sent=True)

    # --- starts -------------------------------------------------------------------------------------------------

    async def _start(self, row: OutboxRow, run: Run) -> None:
        if run.state is not RunState.STARTING or row.payload.get("attempt") != run.attempt:
            await self._done(row, "withdrawn")
            return
        try:
            openhands = await self._openhands()
            if openhands.api is Api.V0 and run.model:
                await self._not_started(row, run, Failed(Reason.MODEL_UNSUPPORTED))
                return
            message = words.task_for_agent(run, with_branch=openhands.api is Api.V0)
            if row.tried_at is None:
                await self._post_start(row, run, openhands, message)
            else:
                await self._find_start(row, run, openhands, message, row.tried_at)
        except Unsure:
            await self._again(row, later(self._clock.now(), self._patience.start_lookups_s[0]))
        except CannotTell:
            await self._not_started(row, run, Failed(Reason.START_UNSURE))
        except AtCapacity:
            await self._not_started(row, run, Failed(Reason.AT_CAPACITY))
        except NoAccess:
            await self._not_started(row, run, Failed(Reason.REPOSITORY))
        except Unauthorised:
            await self._not_started(row, run, Failed(Reason.KEY_REFUSED))
        except Rejected as err:
            await self._not_started(row, run, Failed(Reason.START_REJECTED, err.words))
        except (Unreadable, NotFound, Unsupported) as err:
            if row.tried_at is None:
                await self._not_started(row, run, Failed(Reason.START_UNREADABLE))
            else:
                await self._out_of_reach(row, run, err)
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)

    async def _post_start(self, row: OutboxRow, run: Run, openhands: OpenHands, message: str) -> None:
        about = words.about_for_agent(await self._name(run), None if run.private else self._site.thread(run))
        try:
            it = await openhands.start(run, message, about, before=lambda: self._trying(row))
        except Unsure:
            raise
        except OpenHandsError:  # it surely did not arrive
            async with self._database.transaction() as tx:
                await outbox.not_sent(tx, row.seq, row.attempts)
            raise
        await self._started(row, run, openhands.api, it)

    async def _name(self, run: Run) -> str:
        """Name the requester for the agent; the id where Slack does not answer just now."""
        try:
            return (await self._gateway.person(run.requester)).name or run.requester
        except SlackError:
            return run.requester

    async def _find_start(
        self, row: OutboxRow, run: Run, openhands: OpenHands, message: str, tried_at: datetime
    ) -> None:
        """Look for a start whose answer was lost; only when it is surely nowhere, post it once more."""
        it = await openhands.find_start(run, message, tried_at)
        if it is not None:
            async with self._database.reading() as tx:
                if await runs.is_of_another(tx, run.id, it.conversation_id):
                    raise CannotTell
            await self._started(row, run, openhands.api, it)
            return
        age_s = (self._clock.now() - tried_at).total_seconds()
        if age_s < self._patience.start_settled_s:
            elapsed = 0.0
            for pause in self._patience.start_lookups_s:
                elapsed += pause
                if elapsed > age_s:
                    break
            await self._again(row, later(tried_at, min(max(elapsed, age_s + 1), self._patience.start_settled_s)))
        elif row.attempts < STARTS:
            await self._post_start(row, run, openhands, message)
        else:
            await self._not_started(row, run, Failed(Reason.START_UNSURE))

    async def _started(self, row: OutboxRow, run: Run, api: Api, it: Started) -> None:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._save(tx, fresh, lifecycle.started(fresh, api, it, now))
            await outbox.done(tx, row.seq, now)
        self._wake_poller()

    async def _not_started(self, row: OutboxRow, run: Run, why: Failed) -> None:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._save(tx, fresh, lifecycle.not_started(fresh, why, now))
            await outbox.failed(tx, row.seq, now, why.reason)

    # --- follow-ups ---------------------------------------------------------------------------------------------

    async def _send(self, row: OutboxRow, run: Run) -> None:
        async with self._database.reading() as tx:
            follow_up = await runs.get_follow_up(tx, row.id)
        if follow_up.state in (FollowUpState.WITHDRAWN, FollowUpState.DELIVERED, FollowUpState.FAILED):
            await self._done(row, follow_up.state)
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
            openhands = await self._openhands()
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
                await self._again(row, later(self._clock.now(), self._patience.poll_s))
                await self._look_soon(run)
        except Archived:
            await self._gone(row, run, follow_up)
        except Rejected as err:
            await self._undeliverable(row, run, follow_up, words.follow_up_rejected(err.words))
        except Unsupported:
            await self._undeliverable(row, run, follow_up, words.follow_up_unsupported(self._site.page(run)))
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)

    async def _deliver(self, row: OutboxRow, run: Run, follow_up: FollowUp, openhands: OpenHands) -> None:
        if run.reason is Reason.ASLEEP:
            raise Asleep
        anchor = await openhands.last_event(run)
        follow_up = replace(follow_up, state=FollowUpState.SENDING, last_event=anchor, quiet_since=None, asked_at=None)
        went_out = self._clock.now()

        async def going_out() -> None:
            nonlocal went_out
            went_out = self._clock.now()
            async with self._database.transaction() as tx:
                if (await runs.get_follow_up(tx, row.id)).state is FollowUpState.WITHDRAWN:
                    raise Withdrawn
                await runs.save_follow_up(tx, follow_up)
                await outbox.trying(tx, row.seq, went_out)

        try:
            await openhands.send(run, follow_up.text, before=going_out)
        except Withdrawn:
            await self._done(row, "withdrawn")
            return
        except Unsure:
            raise
        except OpenHandsError:  # it surely did not arrive
            await self._not_delivered(row, run, follow_up, went_out)
            raise
        await self._delivered(row, run, follow_up, went_out)

    async def _not_delivered(self, row: OutboxRow, run: Run, follow_up: FollowUp, went_out: datetime) -> None:
        """Keep a message for the next try, unless somebody stopped the run while it was on its way."""
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            overtaken = fresh.stop_at is not None and fresh.stop_at >= went_out
            state = FollowUpState.WITHDRAWN if overtaken else FollowUpState.WAITING
            await runs.save_follow_up(tx, replace(follow_up, state=state))
            await outbox.not_sent(tx, row.seq, row.attempts)
            if overtaken:
                await self._tell(tx, run, words.withdrawn(1), self._clock.now())

    async def _delivered(self, row: OutboxRow, run: Run, follow_up: FollowUp, went_out: datetime) -> None:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            after, effect = lifecycle.sent(fresh, follow_up.last_event, went_out, now)
            await self._save(tx, fresh, (after, effect))
            await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.DELIVERED))
            await effects.owe_reaction(tx, run, follow_up.source_ts, effects.DELIVERED, now)
            if after.stop_by is not None:  # the stop came while the message was on its way, and it woke the agent
                await effects.owe_stop(tx, after, now)
            await outbox.done(tx, row.seq, now)
        self._wake_poller()

    async def _unsure(self, row: OutboxRow, follow_up: FollowUp) -> None:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get_follow_up(tx, follow_up.id)
            await runs.save_follow_up(tx, replace(fresh, state=FollowUpState.UNSURE))
            await outbox.again(tx, row.seq, later(now, self._patience.poll_s), sent=True)

    async def _check(
        self, row: OutboxRow, run: Run, follow_up: FollowUp, openhands: OpenHands, tried_at: datetime
    ) -> None:
        """Find out whether a message arrived whose answer was lost; nothing later is sent before that is known."""
        now = self._clock.now()
        try:
            heard = await openhands.heard(run, follow_up.text, follow_up.last_event)
        except CannotTell:
            await self._ask(row, run, follow_up, now)
            return
        if heard:
            await self._delivered(row, run, follow_up, tried_at)
            return
        quiet_since = None if run.phase in (Phase.WORKING, None) else follow_up.quiet_since or now
        after = replace(follow_up, state=FollowUpState.UNSURE, quiet_since=quiet_since)
        if quiet_since and (now - quiet_since).total_seconds() >= self._patience.heard_settled_s:
            after = replace(after, state=FollowUpState.WAITING)  # it surely did not arrive: send it again
        elif (now - tried_at).total_seconds() >= self._patience.unsure_person_s:
            await self._ask(row, run, after, now)
            return
        unsure = after.state is FollowUpState.UNSURE
        age_s = (now - tried_at).total_seconds() if unsure else 0.0  # each look reads events: slower and slower
        pause_s = min(self._patience.poll_slowest_s, max(self._patience.poll_s, age_s / 8))
        async with self._database.transaction() as tx:
            await runs.save_follow_up(tx, after)
            await outbox.again(tx, row.seq, later(now, pause_s), sent=unsure)
        await self._look_soon(run)

    async def _ask(self, row: OutboxRow, run: Run, follow_up: FollowUp, now: datetime) -> None:
        """Let a person decide about a message nobody can find."""
        async with self._database.transaction() as tx:
            if follow_up.asked_at is None:
                await self._tell(tx, run, words.follow_up_unsure(follow_up.text), now)
            asked = replace(follow_up, state=FollowUpState.UNSURE, asked_at=follow_up.asked_at or now)
            await runs.save_follow_up(tx, asked)
            await outbox.again(tx, row.seq, later(now, self._patience.retry_slowest_s), sent=True)

    async def _wake_up(self, row: OutboxRow, run: Run) -> None:
        """Wake a sleeping conversation, then try again."""
        async with self._database.reading() as tx:
            follow_up = await runs.get_follow_up(tx, row.id)
        now = self._clock.now()
        try:
            await (await self._openhands()).resume(run)
        except (NotFound, Archived, Unsupported, Rejected):
            await self._gone(row, run, follow_up)
            return
        except AtCapacity:
            await self._undeliverable(row, run, follow_up, words.no_room_to_wake())
            return
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
            return
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await self._save(tx, fresh, lifecycle.woken(fresh, now))
            await outbox.trying(tx, row.seq, now)  # only what OpenHands took counts: an outage is waited out
            await outbox.again(tx, row.seq, retry_at(row.attempts + 1, now, self._patience), sent=False)
        self._wake_poller()

    async def _gone(self, row: OutboxRow, run: Run, follow_up: FollowUp) -> None:
        """Give a follow-up back whose conversation is there no more; the run is lost with it."""
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            lost, effect = lifecycle.gone(fresh, self._clock.now())
            await self._save(tx, fresh, (lost, effect))
        await self._undeliverable(row, lost, follow_up, words.cannot_follow_up(lost))

    async def _undeliverable(self, row: OutboxRow, run: Run, follow_up: FollowUp, text: str) -> None:
        """Close a follow-up the agent will never get, and tell its author."""
        now = self._clock.now()
        async with self._database.transaction() as tx:
            await runs.save_follow_up(tx, replace(follow_up, state=FollowUpState.FAILED))
            await effects.owe_message(tx, run, cards.sentence(f"{words.mention(follow_up.author)} {text}"), now)
            await effects.owe_reaction(tx, run, follow_up.source_ts, effects.FAILED, now)
            await outbox.failed(tx, row.seq, now, "undeliverable")

    async def _look_soon(self, run: Run) -> None:
        async with self._database.transaction() as tx:
            await runs.poll_again(tx, [run.id], self._clock.now())
        self._wake_poller()

    # --- stops --------------------------------------------------------------------------------------------------

    async def _stop(self, row: OutboxRow, run: Run) -> None:
        if run.stop_by is None or run.state in lifecycle.ENDED:
            await self._done(row, "over")
            return
        if is_starting(run):
            await self._hold(row, run, is_starting)
            return
        try:
            await (await self._openhands()).stop(run)
        except NotFound:
            await self._again(row, retry_at(row.attempts + 1, self._clock.now(), self._patience))
            await self._look_soon(run)
        except (Unsupported, Rejected, Archived):
            now = self._clock.now()
            async with self._database.transaction() as tx:
                fresh = await runs.get(tx, run.id)
                await runs.save(tx, fresh, replace(fresh, stop_by=None, stop_at=None))
                await self._tell(tx, run, words.cannot_stop(self._site.page(run)), now)
                await outbox.failed(tx, row.seq, now, "unsupported")
        except Unsure:
            await self._again(row, later(self._clock.now(), self._patience.poll_s))
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
        else:
            await self._done(row)
            await self._look_soon(run)


def is_starting(run: Run) -> bool:
    return run.state is RunState.STARTING
