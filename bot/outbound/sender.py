"""Outbox row, or a card that is behind → OpenHands or Slack → done, or when to try again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from bot.context import Context
from bot.core.errors import SlackError, StoreUnreadable
from bot.core.lifecycle import ENDED, TOLD
from bot.core.model import RunId
from bot.core.owed import OUTBOX, OutboxKind, OutboxRow, Service
from bot.core.pacing import later
from bot.lanes import LaneScheduler
from bot.outbound.to_openhands import ToOpenHands
from bot.outbound.to_slack import ToSlack
from bot.slack.budget import EDIT
from bot.store import outbox, runs
from bot.store.runs import Behind

log = structlog.get_logger("sender")

WIDTH = 64
"""Calls under way at once; a message to a working agent may take 40 s, and must hold up nobody else's."""
SLOW_WIDTH = 48
"""Starts, messages and wake-ups under way at once: the rest of the width is for Slack and for stops."""
BATCH = 100
EDIT_LANE = "edit:"
FINAL = TOLD | ENDED
"""States whose cards are edited before all others: a person must look, or nothing will follow."""
FINAL_EDIT, LIVE_EDIT = 1, 5
"""Ranks of edits among those of `OUTBOX`: final states before new cards, all others last."""


@dataclass(frozen=True, slots=True)
class Edit:
    """The edit of a card that is behind."""

    card: Behind

    @property
    def id(self) -> object:
        """Identifies the card in all its versions: one that always fails is given up, however often it changes."""
        return self.card.run

    @property
    def lane(self) -> str:
        return f"{EDIT_LANE}{self.card.run}"

    @property
    def rank(self) -> int:
        return FINAL_EDIT if self.card.final else LIVE_EDIT


class Sender:
    """Does what is owed, the most urgent first, within Slack's budget."""

    def __init__(self, ctx: Context, *, notify_channel: str | None) -> None:
        """notify_channel: name or id of the team's channel."""
        self._ctx = ctx
        self.lanes = LaneScheduler[OutboxRow | Edit](
            "sender",
            ctx.clock,
            ctx.patience,
            due=self._due,
            work=self._work,
            give_up=self._give_up,
            admit=self._admit,
            width=WIDTH,
            wake=ctx.wake_sender,
        )
        self._at_work = 0
        self._slack = ToSlack(ctx, notify_channel=notify_channel)
        self._rows = ToOpenHands(ctx)

    async def team_channel_known(self) -> None:
        """Look NOTIFY_CHANNEL up at start, so that a wrong one is in the log before it is needed."""
        try:
            channel = await self._slack.team_channel()
            if channel is not None and (await self._ctx.door.place(channel)).external:
                log.warning("notify.channel_shared", channel=channel, help="name one that no other company reads")
            if channel is not None and not await self._ctx.gateway.is_in(channel):
                log.warning("notify.not_in_channel", channel=channel, help="/invite @OpenHands there")
        except SlackError as err:
            log.warning("notify.channel_unknown", code=err.code)

    async def _due(self, now: datetime, busy: Collection[str]) -> tuple[Sequence[OutboxRow | Edit], datetime | None]:
        try:
            return await self._owed(now, busy)
        except StoreUnreadable as err:
            await self._ctx.close_unreadable(err)
            return [], now

    async def _owed(self, now: datetime, busy: Collection[str]) -> tuple[Sequence[OutboxRow | Edit], datetime | None]:
        throttled, full = self.lanes.throttled, self._full(now)
        edited = [
            RunId(lane[len(EDIT_LANE) :]) for lane in busy if lane.startswith(EDIT_LANE) and lane not in throttled
        ]
        async with self._ctx.database.reading() as tx:
            rows = await outbox.due(tx, now, busy, BATCH, held=full)
            next_row = await outbox.next_at(tx, now)
            cards = await runs.behind(tx, FINAL, edited, BATCH)
            if len(cards) < BATCH:
                settled = now - timedelta(seconds=self._ctx.patience.position_gap_s)
                cards = [*cards, *await runs.moved(tx, edited, settled, BATCH - len(cards))]
            if any(not card.final for card in cards):  # only their edits have to leave room
                self._at_work = await runs.occupying(tx)
        edits = [edit for edit in map(Edit, cards) if edit.card.final or edit.lane not in throttled]
        jobs: list[OutboxRow | Edit] = [*rows, *(edit for edit in edits if self._edit_at(edit.card) <= now)]
        jobs.sort(key=lambda job: job.rank)
        times = (next_row, *full.values(), *(self._edit_at(edit.card) for edit in edits))
        return jobs, min((at for at in times if at is not None and at > now), default=None)

    def _full(self, now: datetime) -> Mapping[OutboxKind, datetime]:
        """Return the kinds whose Slack method is used up or closed, and until when: no row of theirs is read before."""
        budget = self._ctx.gateway.budget
        until = {kind: budget.full_until(spec.method, now) for kind, spec in OUTBOX.items() if spec.method}
        return {kind: at for kind, at in until.items() if at is not None}

    def _edit_at(self, card: Behind) -> datetime:
        """Return when a card may be edited again."""
        return later(card.edited_at, self._ctx.patience.final_gap_s if card.final else self._ctx.patience.card_gap_s)

    def _admit(self, job: OutboxRow | Edit, now: datetime) -> datetime | None:
        budget = self._ctx.gateway.budget
        if isinstance(job, Edit):
            return budget.admit(EDIT, "", now) if job.card.final else budget.admit_live_edit(self._at_work, now)
        spec = OUTBOX[job.kind]
        if spec.slow:
            hanging = sum(lane.startswith(("start:", "send:")) for lane in self.lanes.under_way)
            return later(now, self._ctx.patience.retry_first_s) if hanging >= SLOW_WIDTH else None
        if spec.method is None or self._slack.is_stale(job, now):  # Slack is not called then
            return None
        return budget.admit(spec.method, self._slack.channel_of(job), now)

    async def _work(self, job: OutboxRow | Edit) -> datetime | None:
        run = job.card.run if isinstance(job, Edit) else job.run
        if run is not None:
            structlog.contextvars.bind_contextvars(run=run)  # each job is a task of its own: all it logs is of this run
        try:
            if isinstance(job, Edit):
                return await self._slack.edit(job.card.run)
            if OUTBOX[job.kind].service is Service.OPENHANDS:
                await self._rows.do(job)
            else:
                await self._slack.do(job)
        except StoreUnreadable as err:
            await self._ctx.close_unreadable(err)
        return None

    async def _give_up(self, job: OutboxRow | Edit) -> None:
        if isinstance(job, Edit):
            await self._slack.give_up_card(job.card.run)
            return
        if OUTBOX[job.kind].service is Service.OPENHANDS:
            await self._rows.give_up(job)
            return
        await self._slack.give_up(job)
