"""Outbox row, or a card that is behind → OpenHands or Slack → done, or when to try again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from bot.errors import SlackError
from bot.lanes import Lanes
from bot.lifecycle import ENDED, TOLD
from bot.means import Means, Worker
from bot.model import RunId
from bot.openhands_rows import KINDS, OpenHandsRows
from bot.pacing import later
from bot.slack.budget import EDIT, POST
from bot.slack.recognise import place_gone
from bot.slack_rows import SlackRows
from bot.store import outbox, runs
from bot.store.outbox import OutboxRow, Owed
from bot.store.runs import Behind

log = structlog.get_logger("sender")

WIDTH = 64
"""Calls under way at once; a message to a working agent may take 40 s, and must hold up nobody else's."""
SLOW_WIDTH = 48
"""Starts, messages and wake-ups under way at once: the rest of the width is for Slack and for stops."""
SLOW = frozenset({Owed.START, Owed.SEND, Owed.RESUME})
BATCH = 100
EDIT_LANE = "edit:"
FINAL = TOLD | ENDED
"""States whose cards are edited before all others: a person looks, or nothing will follow."""
FINAL_EDIT, LIVE_EDIT = 1, 5
"""Ranks of edits among `RANKS`: final states before new cards, all others last."""

METHODS = {
    Owed.CARD: POST,
    Owed.MESSAGE: POST,
    Owed.REPLY: POST,
    Owed.NOTIFY: POST,
    Owed.DIRECT: POST,
    Owed.REACT: "reactions.add",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """A card that is behind."""

    card: Behind

    @property
    def id(self) -> object:
        return self.card.version

    @property
    def lane(self) -> str:
        return f"{EDIT_LANE}{self.card.run}"

    @property
    def rank(self) -> int:
        return FINAL_EDIT if self.card.final else LIVE_EDIT


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
        self._at_work = 0
        self._slack = SlackRows(means, notify_channel=notify_channel)
        self._rows = OpenHandsRows(means)

    async def team_channel_known(self) -> None:
        """Look NOTIFY_CHANNEL up at start, so that a wrong one is in the log before it is needed."""
        try:
            await self._slack.team_channel()
        except SlackError as err:
            log.warning("notify.channel_unknown", code=err.code)

    async def hear(self, body: Mapping[str, Any]) -> None:
        """Take in what Slack tells beside requests. Safe to repeat. Raises `StoreUnavailable`."""
        if gone := place_gone(body, self._site.us):
            await self._slack.place_lost(gone)

    async def _due(self, now: datetime, busy: Collection[str]) -> tuple[Sequence[OutboxRow | Edit], datetime | None]:
        unfunded = self.lanes.unfunded
        edited = [RunId(lane[len(EDIT_LANE) :]) for lane in busy if lane.startswith(EDIT_LANE) and lane not in unfunded]
        async with self._database.reading() as tx:
            rows = await outbox.due(tx, now, busy, BATCH)
            next_row = await outbox.next_at(tx, now)
            cards = await runs.behind(tx, FINAL, edited, BATCH)
            if any(not card.final for card in cards):  # else nobody has to leave room
                self._at_work = await runs.occupying(tx)
        edits = [edit for edit in map(Edit, cards) if edit.card.final or edit.lane not in unfunded]
        jobs: list[OutboxRow | Edit] = [*rows, *(edit for edit in edits if self._edit_at(edit.card) <= now)]
        jobs.sort(key=lambda job: job.rank)
        times = [at for at in (next_row, *(self._edit_at(edit.card) for edit in edits)) if at is not None and at > now]
        return jobs, min(times, default=None)

    def _edit_at(self, card: Behind) -> datetime:
        """Say how soon a card may be edited again."""
        return later(card.edited_at, self._patience.final_gap_s if card.final else self._patience.card_gap_s)

    def _admit(self, job: OutboxRow | Edit, now: datetime) -> datetime | None:
        budget = self._gateway.budget
        if isinstance(job, Edit):
            return budget.admit(EDIT, "", now) if job.card.final else budget.admit_live_edit(self._at_work, now)
        if job.kind in SLOW:
            hanging = sum(lane.startswith(("start:", "send:")) for lane in self.lanes.under_way)
            return later(now, self._patience.retry_first_s) if hanging >= SLOW_WIDTH else None
        method = METHODS.get(job.kind)
        if method is None:
            return None
        return budget.admit(method, self._slack.channel_of(job), now)

    async def _work(self, job: OutboxRow | Edit) -> datetime | None:
        run = job.card.run if isinstance(job, Edit) else job.run
        if run is not None:
            structlog.contextvars.bind_contextvars(run=run)  # each job is a task of its own: all it logs is of this run
        if isinstance(job, Edit):
            return await self._slack.edit(job.card.run)
        if job.kind in KINDS:
            await self._rows.do(job)
        else:
            await self._slack.do(job)
        return None

    async def _give_up(self, job: OutboxRow | Edit) -> None:
        if isinstance(job, Edit):
            return
        if job.kind in KINDS:
            await self._rows.give_up(job)
            return
        await self._slack.give_up(job)
