"""Starts: a conversation for a run, looked up before it is asked for again."""

from datetime import datetime

from bot import lifecycle, words
from bot.errors import (
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
from bot.handler import Handler, Withdrawn
from bot.model import Api, Failed, Reason, Run, RunState, Started
from bot.openhands import OpenHands
from bot.pacing import later, retry_at
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
        except Withdrawn:
            await self._done(row, "withdrawn")
        except Unsure:
            await self._again(row, later(self._clock.now(), self._patience.start_lookups_s[0]))
        except CannotTell:
            await self._not_started(row, run, Failed(Reason.START_UNSURE))
        except AtCapacity:
            await self._not_started(row, run, Failed(Reason.AT_CAPACITY))
        except TooFast as err:
            if row.attempts >= REFUSALS:
                await self._not_started(row, run, Failed(Reason.AT_CAPACITY))
            else:
                now = self._clock.now()
                await self._again(
                    row, max(later(now, err.retry_after_s), retry_at(row.attempts + 1, now, self._patience))
                )
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
            it = await openhands.start(run, message, about, before=lambda: self._going_out(row, run))
        except (Unsure, Withdrawn):
            raise
        except TooFast:  # counted: it may be the account's limit in other words
            async with self._database.transaction() as tx:
                await outbox.again(tx, row.seq, self._clock.now(), sent=False)
            raise
        except OpenHandsError:  # it surely did not arrive
            async with self._database.transaction() as tx:
                await outbox.not_sent(tx, row.seq, row.attempts)
            raise
        await self._started(row, run, openhands.api, it)

    async def _going_out(self, row: OutboxRow, run: Run) -> None:
        """Say that the start goes out now, unless somebody called it off while it waited for its turn."""
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.state is not RunState.STARTING or fresh.attempt != run.attempt:
                raise Withdrawn
            await outbox.trying(tx, row.seq, self._clock.now())

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
        elif openhands.api is Api.V1 and row.attempts < STARTS:  # V0 takes no id that would show a second one
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

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Leave it to a person whether it started."""
        if run.state is RunState.STARTING:
            await self._not_started(row, run, Failed(Reason.START_UNSURE))
        else:
            await self._done(row, "given up")
