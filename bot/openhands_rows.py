"""What is owed to OpenHands, done: starts, follow-ups, stops, and what people decide by a button."""

from dataclasses import replace

from bot import cards, effects, lifecycle, words
from bot.errors import Archived, NotFound, OpenHandsError, Rejected, Unsupported, Unsure
from bot.follow_ups import FollowUps
from bot.going_on import Decisions, Resumes
from bot.handler import Handler
from bot.means import Means
from bot.model import Run, RunId, RunState
from bot.pacing import later, retry_at
from bot.starts import Starts
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow, Owed

STOPS = 6
"""A stop that is asked for again and again without effect is given back to the person: with its pauses, in a minute."""
SETTLED_S = lifecycle.FRESH.total_seconds() + 3
"""A stop shows by then: so soon after a message a look does not yet believe that nobody works."""
KINDS = frozenset({Owed.START, Owed.SEND, Owed.RESUME, Owed.DECIDE, Owed.STOP})
"""What is owed to OpenHands; all else is owed to Slack."""


class OpenHandsRows:
    """Finds the one that does a row."""

    def __init__(self, means: Means) -> None:
        self._database = means.database
        self._kinds: dict[Owed, Starts | FollowUps | Resumes | Decisions | Stops] = {
            Owed.START: Starts(means),
            Owed.SEND: FollowUps(means),
            Owed.RESUME: Resumes(means),
            Owed.DECIDE: Decisions(means),
            Owed.STOP: Stops(means),
        }

    async def do(self, row: OutboxRow) -> None:
        """Do a row, or say when it is tried again."""
        await self._kinds[row.kind].do(row, await self._run(row))

    async def give_up(self, row: OutboxRow) -> None:
        """End a row that failed again and again for reasons nobody foresaw, and say so."""
        await self._kinds[row.kind].give_up(row, await self._run(row))

    async def _run(self, row: OutboxRow) -> Run:
        async with self._database.reading() as tx:
            return await runs.get(tx, RunId(row.run or ""))


class Stops(Handler):
    """Interrupts agents."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Interrupt the run, as soon as there is something to interrupt."""
        if run.stop_by is None or run.resume_by is not None or not still_on(row, run):
            await self._done(row, run, "over")
            return
        if is_starting(run):
            await self._hold(row, run, is_starting)
            return
        try:
            await (await self._openhands()).stop(run)
        except NotFound:
            await self._not_found(row, run)
        except (Unsupported, Rejected, Archived):
            await self.give_up(row, run)
        except Unsure:
            await self._come_back(row, run)
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
        else:
            await self._come_back(row, run)

    async def _not_found(self, row: OutboxRow, run: Run) -> None:
        """Have the next look tell what became of it; of what shows as stopped nothing more is to be told."""
        if run.state is RunState.STOPPED:
            await self._done(row, run, "gone")
            return
        await self._again(row, retry_at(row.attempts + 1, self._clock.now(), self._patience))
        await self._look_soon(run)

    async def _come_back(self, row: OutboxRow, run: Run) -> None:
        """Stop it again unless a look shows that it took effect: just as the agent turns to something else it has none.

        What shows as stopped is not looked at. It is stopped as often as it may take until it is awake.
        """
        woken = run.state is RunState.STOPPED
        if row.attempts >= STOPS:
            await (self._done(row, run) if woken else self.give_up(row, run))
            return
        now = self._clock.now()
        at = max(later(now, SETTLED_S), retry_at(row.attempts + 1, now, self._patience))
        async with self._database.transaction() as tx:
            await outbox.trying(tx, row.seq, now)
            await outbox.again(tx, row.seq, at, sent=True)
        if not woken:
            await self._look_soon(run)

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Say that the run goes on."""
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await runs.save(tx, fresh, replace(fresh, stop_by=None, stop_at=None))
            who = run.stop_by or run.requester
            text = f"{words.mention(who)} {words.cannot_stop(self._site.page(run))}"
            await effects.owe_message(tx, run, cards.sentence(text), now)
            await outbox.failed(tx, row.seq, now, "not stopped")


def is_starting(run: Run) -> bool:
    return run.state is RunState.STARTING


def still_on(row: OutboxRow, run: Run) -> bool:
    """Tell whether an agent may be at work: the run is, or shows as stopped while its conversation was being woken."""
    woken = bool(row.payload.get("woken")) and run.state is RunState.STOPPED
    return woken or run.state not in lifecycle.ENDED
