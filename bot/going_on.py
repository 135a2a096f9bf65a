"""What people decide by a button, told to OpenHands: that a run goes on, and whether an action is carried out."""

from bot import cards, effects, lifecycle, words
from bot.errors import (
    Archived,
    Asleep,
    AtCapacity,
    NotFound,
    OpenHandsError,
    Rejected,
    Unsupported,
    Unsure,
)
from bot.handler import Handler, Withdrawn
from bot.model import Deciding, Run, RunState, UserId, Waiting
from bot.openhands import OpenHands
from bot.pacing import later, retry_at
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow

WAKES = 8
"""Tries to wake a conversation before a person is told: with doubling pauses about two minutes."""
DECISIONS = 6
"""A decision the server takes again and again without effect is given back to the person."""


class Resumes(Handler):
    """Lets runs go on that were paused, stopped or failed, or sleep."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Tell OpenHands that the run goes on; while its conversation is being woken, again in a moment."""
        if run.resume_by is None or run.state not in lifecycle.RESUMABLE:
            await self._done(row, run, "over")
            return
        by = run.resume_by
        try:
            await self._go_on(row, run, await self._openhands())
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
        went_out = self._clock.now()

        async def going_out() -> None:
            nonlocal went_out
            went_out = self._clock.now()
            async with self._database.reading() as tx:
                if (await runs.get(tx, run.id)).resume_by is None:
                    raise Withdrawn

        await openhands.go_on(run, before=going_out)
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt == run.attempt:  # else it is another conversation's by now
                after, effect = lifecycle.goes_on(fresh, went_out, now)
                await self._save(tx, fresh, (after, effect))
                if after.stop_by is not None:  # the stop came while this was on its way
                    await effects.owe_stop(tx, after, now)
            await outbox.done(tx, row.seq, now)
        self._wake_poller()

    async def _come_back(self, row: OutboxRow, run: Run, by: UserId) -> None:
        """Come back when the conversation may be awake; what was frozen goes on by itself, as the next look shows."""
        if row.attempts >= WAKES:
            await self._cannot(row, run, by, words.cannot_resume(run))
            return
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if overtaken := fresh.state is RunState.STOPPED and fresh.resume_by is None:
                await effects.owe_stop(tx, fresh, now, woken=True)
            await outbox.trying(tx, row.seq, now)
            await outbox.again(tx, row.seq, retry_at(row.attempts + 1, now, self._patience), sent=False)
        if not overtaken:
            await self._look_soon(run)

    async def _no_room(self, row: OutboxRow, run: Run, by: UserId) -> None:
        """Try again when there may be a slot, and say so once."""
        now = self._clock.now()
        async with self._database.transaction() as tx:
            message = cards.sentence(f"{words.mention(by)} {words.no_room_to_resume()}")
            await effects.owe_message(tx, run, message, now, to=by, once=f"no room {row.id}")
            await outbox.again(tx, row.seq, later(now, self._patience.full_s), sent=False)

    async def _gone(self, row: OutboxRow, run: Run) -> None:
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.attempt == run.attempt:
                await self._save(tx, fresh, lifecycle.gone(fresh, now))
            await outbox.done(tx, row.seq, now, "gone")

    async def _cannot(self, row: OutboxRow, run: Run, by: UserId, text: str) -> None:
        """Give it back to the person."""
        now = self._clock.now()
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            await runs.save(tx, fresh, lifecycle.not_resumed(lifecycle.within_reach(fresh)))
            await effects.owe_message(tx, run, cards.sentence(f"{words.mention(by)} {text}"), now, to=by)
            await outbox.done(tx, row.seq, now, "not resumed")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Say that it stays as it is."""
        await self._cannot(row, run, run.resume_by or run.requester, words.cannot_resume(run))


class Decisions(Handler):
    """Approves or rejects what agents wait with."""

    async def do(self, row: OutboxRow, run: Run) -> None:
        """Pass a decision on, until the run shows that it took effect."""
        if run.waiting is not Waiting.APPROVAL or run.approved is None or run.action != row.payload["action"]:
            await self._done(row, run, "over")
            return
        try:
            await self._decide(row, run, await self._openhands())
        except Withdrawn:
            await self._done(row, run, "withdrawn")
        except Asleep:
            await self._wake_up(row, run)
        except (NotFound, Archived):  # the next look tells what became of it
            await self._again(row, retry_at(row.attempts + 1, self._clock.now(), self._patience))
            await self._look_soon(run)
        except (Unsupported, Rejected):
            await self._undo(row, run, words.cannot_decide(self._site.page(run)))
        except Unsure:  # it may be repeated: what waits is compared again
            await self._again(row, later(self._clock.now(), self._patience.decision_settled_s))
        except OpenHandsError as err:
            if self._only_the_agent_is_out_of_reach(row, run):
                await self._undo(row, run, words.decision_lost(self._site.page(run)))
            else:
                await self._out_of_reach(row, run, err)
                await self._look_soon(run)

    def _only_the_agent_is_out_of_reach(self, row: OutboxRow, run: Run) -> bool:
        """Tell whether decisions can't be passed on though OpenHands itself answers, as where its agents are walled off."""
        now, long_s = self._clock.now(), self._patience.unreachable_shown_s
        tried_s, seen_s = (now - row.created_at).total_seconds(), (now - run.seen_at).total_seconds()
        return tried_s >= long_s and seen_s < long_s / 2

    async def _decide(self, row: OutboxRow, run: Run, openhands: OpenHands) -> None:
        async def going_out() -> None:
            async with self._database.transaction() as tx:
                if (await runs.get(tx, run.id)).approved is None:  # somebody stopped the run
                    raise Withdrawn
                await outbox.trying(tx, row.seq, self._clock.now())

        came_to = await openhands.decide(
            run,
            row.payload["action"],
            accept=bool(row.payload["accept"]),
            reason=words.rejected_for_agent(),
            before=going_out,
        )
        match came_to:
            case Deciding.OVER:
                await self._done(row, run)
            case Deciding.OTHER:
                await self._undo(row, run, words.other_action())
            case Deciding.POSTED if row.attempts >= DECISIONS:
                await self._undo(row, run, words.decision_lost(self._site.page(run)))
            case Deciding.POSTED:  # taken at the very moment something begins to wait, it may have had no effect
                await self._again(row, later(self._clock.now(), self._patience.decision_settled_s))
        await self._look_soon(run)

    async def _wake_up(self, row: OutboxRow, run: Run) -> None:
        """Wake the sandbox in which the action waits, and come back; where that takes too long, it is decided again."""
        now = self._clock.now()
        if (now - row.created_at).total_seconds() >= self._patience.unsure_person_s:
            await self._undo(row, run, words.decision_lost(self._site.page(run)))
            return
        try:
            await (await self._openhands()).resume(run)
        except AtCapacity:
            await self._no_room(row, run)
        except OpenHandsError as err:
            await self._out_of_reach(row, run, err)
        else:
            await self._again(row, later(now, self._patience.decision_settled_s))
        await self._look_soon(run)

    async def _no_room(self, row: OutboxRow, run: Run) -> None:
        """Try again when there may be a slot, and say so once."""
        now, by = self._clock.now(), UserId(row.payload["by"])
        async with self._database.transaction() as tx:
            message = cards.sentence(f"{words.mention(by)} {words.no_room_to_resume()}")
            await effects.owe_message(tx, run, message, now, to=by, once=f"no room {row.id}")
            await outbox.again(tx, row.seq, later(now, self._patience.full_s), sent=True)

    async def _undo(self, row: OutboxRow, run: Run, text: str) -> None:
        """Let it be decided again."""
        now, by = self._clock.now(), UserId(row.payload["by"])
        async with self._database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            if fresh.state is RunState.WAITING and fresh.action == row.payload["action"]:
                await runs.save(tx, fresh, lifecycle.undecide(lifecycle.within_reach(fresh)))
            await effects.owe_message(tx, run, cards.sentence(f"{words.mention(by)} {text}"), now, to=by)
            await outbox.done(tx, row.seq, now, "not decided")

    async def give_up(self, row: OutboxRow, run: Run) -> None:
        """Say that the agent still waits."""
        await self._undo(row, run, words.decision_lost(self._site.page(run)))
