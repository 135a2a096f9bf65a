"""Does what is owed to OpenHands: starts, follow-ups, stops, and what people decide by a button."""

from bot.context import Context
from bot.core.model import Run, RunId
from bot.core.owed import OutboxKind, OutboxRow
from bot.outbound.decisions import Decisions
from bot.outbound.follow_ups import FollowUps
from bot.outbound.resumes import Resumes
from bot.outbound.starts import Starts
from bot.outbound.stops import Stops
from bot.store import runs


class ToOpenHands:
    """Hands each row to the handler of its kind."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.kinds: dict[OutboxKind, Starts | FollowUps | Resumes | Decisions | Stops] = {
            OutboxKind.START: Starts(ctx),
            OutboxKind.SEND: FollowUps(ctx),
            OutboxKind.RESUME: Resumes(ctx),
            OutboxKind.DECIDE: Decisions(ctx),
            OutboxKind.STOP: Stops(ctx),
        }

    async def do(self, row: OutboxRow) -> None:
        """Do a row, or reschedule it."""
        await self.kinds[row.kind].do(row, await self._run(row))

    async def give_up(self, row: OutboxRow) -> None:
        """End a row that keeps failing unexpectedly, and tell the person."""
        await self.kinds[row.kind].give_up(row, await self._run(row))

    async def _run(self, row: OutboxRow) -> Run:
        async with self._ctx.database.reading() as tx:
            return await runs.get(tx, RunId(row.run or ""))
