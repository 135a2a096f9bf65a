"""People who left, or are no full members any more: what of theirs waits is cancelled, what runs is told."""

from collections import defaultdict
from collections.abc import Sequence

import structlog

from bot import effects
from bot.context import Context
from bot.core import cards, lifecycle, words
from bot.core.errors import SlackError, StoreError
from bot.core.model import Act, Run, UserId
from bot.core.pacing import later
from bot.core.policy import Refused, Verdict, What
from bot.store import runs

log = structlog.get_logger("leavers")

EVERY_S = 3600.0


class Leavers:
    """Looks every hour at who asked for the live runs."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def run(self) -> None:
        """Look until cancelled. What can't be found out now is looked at an hour later."""
        while True:
            await self._ctx.clock.wait(None, later(self._ctx.clock.now(), EVERY_S))
            try:
                await self._look()
            except (SlackError, StoreError) as err:
                log.info("leavers.unknown", error=type(err).__name__)

    async def _look(self) -> None:
        by_person: dict[UserId, list[Run]] = defaultdict(list)
        async with self._ctx.database.reading() as tx:
            for run in await runs.live(tx):
                by_person[run.requester].append(run)
        for person, theirs in by_person.items():
            verdict = await self._ctx.door.standing(person)
            if verdict is not Verdict.ALLOWED:
                await self._left(person, theirs, verdict)

    async def _left(self, person: UserId, theirs: Sequence[Run], verdict: Verdict) -> None:
        """Cancel what waits, and tell the threads of what goes on and the admins, each once."""
        now, ctx = self._ctx.clock.now(), self._ctx
        admins = await ctx.door.admins()
        async with ctx.database.transaction() as tx:
            going_on: list[Run] = []
            for one in theirs:
                run = await runs.get(tx, one.id)
                if run.state in lifecycle.NOT_BEGUN:
                    text = words.barred(Refused(verdict.value, verdict), What(act=Act.START), person)
                    await ctx.save(tx, run, lifecycle.barred(run, now))
                    await effects.enqueue_message(tx, run, cards.sentence(text), now)
                elif run.state not in lifecycle.ENDED:
                    going_on.append(run)
                    told = cards.sentence(words.left_behind(verdict, person))
                    await effects.enqueue_message(tx, run, told, now, once=f"left: {verdict}")
            if going_on:
                links = [(run, ctx.links.thread(run)) for run in going_on]
                told = cards.sentence(f"{words.left_behind(verdict, person)}\n{words.runs(links)}")
                for admin in sorted(admins):
                    row = effects.row_of(going_on[0], f"left: {verdict}, {admin}")
                    await effects.enqueue_direct(tx, None, admin, told, now, instead_of=row)
        log.info("leavers.found", user=person, verdict=verdict, runs=len(theirs))
        ctx.wake_sender.set()
