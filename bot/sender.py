"""Outbox row, or a card that is behind → OpenHands or Slack → done, or when to try again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from bot.errors import SlackError
from bot.lanes import Lanes
from bot.lifecycle import TOLD
from bot.means import Means, Worker
from bot.model import Run, RunId
from bot.openhands_rows import OpenHandsRows
from bot.pacing import later
from bot.slack_rows import SlackRows
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow, Owed

log = structlog.get_logger("sender")

WIDTH = 64
"""Calls under way at once; a message to a working agent may take 40 s, and must hold up nobody else's."""
SLOW_WIDTH = 48
"""Starts and messages under way at once: the rest of the width is for Slack and for stops."""
BATCH = 100
FINAL_EDIT, LIVE_EDIT = 1, 5
"""Ranks of edits among `RANKS`: final states before new cards, all others last."""

METHODS = {
    Owed.CARD: "chat.postMessage",
    Owed.MESSAGE: "chat.postMessage",
    Owed.REPLY: "chat.postMessage",
    Owed.NOTIFY: "chat.postMessage",
    Owed.DIRECT: "chat.postMessage",
    Owed.REACT: "reactions.add",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """A card that is behind."""

    run: Run

    @property
    def id(self) -> object:
        return self.run.version

    @property
    def lane(self) -> str:
        return f"edit:{self.run.id}"

    @property
    def live(self) -> bool:
        """A later edit will make up for this one."""
        return self.run.state not in TOLD

    @property
    def rank(self) -> int:
        return LIVE_EDIT if self.live else FINAL_EDIT


class Sender(Worker):
    """Does what is owed, the most urgent first, within Slack's budget."""

    def __init__(self, means: Means, *, notify_channel: str | None) -> None:
        """notify_channel: name or id of the team's channel."""
        super().__init__(means)
        self.lanes = Lanes[OutboxRow | Edit](
            "sender",
            means.clock,
            means.patience,
            due=self._due,
            work=self._work,
            give_up=self._give_up,
            admit=self._admit,
            width=WIDTH,
            wake=means.wake_sender,
        )
        self._slack = SlackRows(means, notify_channel=notify_channel)
        self._rows = OpenHandsRows(means)

    async def team_channel_known(self) -> None:
        """Look NOTIFY_CHANNEL up at start, so that a wrong one is in the log before it is needed."""
        try:
            await self._slack.team_channel()
        except SlackError as err:
            log.warning("notify.channel_unknown", code=err.code)

    async def _due(self, now: datetime, busy: Collection[str]) -> tuple[Sequence[OutboxRow | Edit], datetime | None]:
        gap = timedelta(seconds=self._patience.card_gap_s)
        edited = [RunId(lane.removeprefix("edit:")) for lane in busy if lane.startswith("edit:")]
        async with self._database.reading() as tx:
            rows = await outbox.due(tx, now, busy, BATCH)
            behind = await runs.behind(tx, now - gap, edited)
            next_row = await outbox.next_at(tx, now)
            next_edit = await runs.next_edit_base(tx, now - gap)
        jobs: list[OutboxRow | Edit] = [*rows, *map(Edit, behind)]
        jobs.sort(key=lambda job: job.rank)
        times = [at for at in (next_row, next_edit + gap if next_edit else None) if at]
        return jobs, min(times, default=None)

    def _admit(self, job: OutboxRow | Edit, now: datetime) -> datetime | None:
        budget = self._gateway.budget
        if isinstance(job, Edit):
            return budget.admit("chat.update", job.run.channel, now, live=job.live)
        if job.kind in (Owed.START, Owed.SEND):
            hanging = sum(lane.startswith(("start:", "send:")) for lane in self.lanes.under_way)
            return later(now, self._patience.retry_first_s) if hanging >= SLOW_WIDTH else None
        method = METHODS.get(job.kind)
        if method is None:
            return None
        return budget.admit(method, self._slack.channel_of(job), now)

    async def _work(self, job: OutboxRow | Edit) -> datetime | None:
        if isinstance(job, Edit):
            return await self._slack.edit(job.run)
        if job.kind in (Owed.START, Owed.SEND, Owed.STOP):
            await self._rows.do(job)
        else:
            await self._slack.do(job)
        return None

    async def _give_up(self, job: OutboxRow | Edit) -> None:
        if isinstance(job, Edit):
            return
        if job.kind in (Owed.START, Owed.SEND, Owed.STOP):
            await self._rows.give_up(job)
            return
        await self._slack.give_up(job)
