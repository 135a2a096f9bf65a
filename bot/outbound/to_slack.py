"""Does what is owed to Slack: each kind of outbox row, and the edits of cards."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar, assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.context import Context
from bot.core import cards, lifecycle, words
from bot.core.cards import Message
from bot.core.errors import (
    SlackBusy,
    SlackError,
    SlackLocked,
    SlackNoScope,
    SlackRefused,
    SlackUnavailable,
    SlackUnsure,
)
from bot.core.model import ChannelId, MessageTs, Run, RunId, RunState, UserId
from bot.core.owed import OUTBOX, OutboxKind, OutboxRow, Refusal
from bot.core.pacing import asked_to_wait, later, retry_at
from bot.core.policy import Verdict
from bot.slack.gateway import TIMED_OUT, Posted
from bot.store import outbox, runs

log = structlog.get_logger("sender")

NOT_THERE = frozenset({"not_in_channel", "channel_not_found"})
TOO_MUCH = frozenset(
    {"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long", "metadata_too_large"}
)
"""Our own mistakes in layout or size: the text alone is sent instead."""
GIVEN_UP = "given_up"
SHARED = "shared_outside"
"""Our code for a place that another company reads along in: nothing is said there."""
CARDS = 2  # a deleted card comes back once


Result = TypeVar("Result")


class ToSlack:
    """Calls Slack for one row at a time, and writes the outcome in one transaction."""

    def __init__(self, ctx: Context, *, notify_channel: str | None) -> None:
        """notify_channel: name or id of the team's channel."""
        self._ctx = ctx
        self._notify_channel = notify_channel
        self._notify_id: ChannelId | None = None
        self._locked: set[str] = set()
        self.kinds: Mapping[OutboxKind, Callable[[OutboxRow], Awaitable[None]]] = {
            OutboxKind.CARD: self._card,
            OutboxKind.MESSAGE: self._message,
            OutboxKind.REPLY: self._reply,
            OutboxKind.NOTIFY: self._notify,
            OutboxKind.DIRECT: self._direct,
            OutboxKind.ANSWER: self._answer,
            OutboxKind.REACT: self._react,
        }

    def channel_of(self, row: OutboxRow) -> str:
        """Return where a row posts, for Slack's limit of one message a second; for a direct message, its person."""
        if row.kind is OutboxKind.NOTIFY:
            return self._notify_id or ""
        return str(row.payload.get("channel") or row.payload.get("user"))

    async def do(self, row: OutboxRow) -> None:
        """Do a row, or reschedule it."""
        try:
            await self.kinds[row.kind](row)
        except SlackBusy as err:
            await self._reschedule(row, asked_to_wait(err.retry_after_s, self._ctx.clock.now(), self._ctx.patience))
        except SlackUnavailable:
            await self._reschedule(row, self._trouble_until(row, at_least_s=self._ctx.patience.retry_first_s))
        except SlackUnsure as err:  # a call that timed out may take as long again before it shows
            slow = err.code == TIMED_OUT
            settled_s = self._ctx.patience.slack_timeout_s if slow else self._ctx.patience.post_settled_s
            await self._reschedule(row, self._trouble_until(row, at_least_s=settled_s))
        except SlackLocked as err:
            self._say_locked(err)
            await self._reschedule(row, later(self._ctx.clock.now(), self._ctx.patience.retry_slowest_s))
        except SlackRefused as err:
            log.warning("slack.refused", code=err.code, kind=row.kind, run=row.run)
            await self._refused(row, err)

    def _trouble_until(self, row: OutboxRow, *, at_least_s: float) -> datetime:
        """Return when to retry: with backoff, for as long as Slack stays in trouble.

        Only posts count as attempts. A look-up before a post fails without one, so the row's age counts as well.
        """
        now = self._ctx.clock.now()
        trouble_s = (now - (row.tried_at or row.created_at)).total_seconds()
        pause_s = max(at_least_s, min(self._ctx.patience.retry_slowest_s, trouble_s / 2))
        return max(later(now, pause_s), retry_at(row.attempts + 1, now, self._ctx.patience))

    def _say_locked(self, err: SlackLocked) -> None:
        if err.code not in self._locked:
            self._locked.add(err.code)
            log.error("slack.locked", code=err.code, help="nothing is lost, it waits until the token is mended")

    async def _reschedule(self, row: OutboxRow, at: datetime) -> None:
        """Reschedule a row; keep what it records of an earlier call that may have had its effect."""
        async with self._ctx.database.transaction() as tx:
            await outbox.reschedule(tx, row.seq, at, sent=True)

    async def _call(self, row: OutboxRow, send: Callable[[], Awaitable[Result]]) -> Result:
        """Call Slack once for a row. The outcome counts as unknown from before the call until Slack reports it."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            await outbox.mark_attempt(tx, row.seq, now)
        try:
            return await send()
        except (SlackBusy, SlackLocked, SlackUnavailable):  # it surely had no effect
            async with self._ctx.database.transaction() as tx:
                await outbox.reschedule(tx, row.seq, now, sent=False)
            raise

    async def _done(self, row: OutboxRow, result: str = "") -> None:
        async with self._ctx.database.transaction() as tx:
            await outbox.done(tx, row.seq, self._ctx.clock.now(), result)

    # --- posting ------------------------------------------------------------------------------------------------

    async def _posted(
        self, row: OutboxRow, channel: ChannelId, message: Message, thread: MessageTs | None
    ) -> Posted | None:
        """Post once: after a lost answer, look for the message before posting again.

        None: not found yet, and too early to be sure that it never arrived.
        """
        await self._stays_inside(channel)
        now = self._ctx.clock.now()
        if row.tried_at is not None:
            try:
                found = await self._ctx.gateway.find(
                    channel, row.id, self._ctx.links.us, thread=thread, sent_at=row.tried_at
                )
            except SlackNoScope as err:  # whether it arrived can't be looked up: wait until an operator acts
                raise SlackLocked(err.code) from err
            if found is not None:
                return found
            settled = later(row.tried_at, self._ctx.patience.post_settled_s)
            if now < settled:
                await self._reschedule(row, settled)
                return None
        return await self._call(row, lambda: self._post(row, channel, message, thread))

    async def _stays_inside(self, channel: ChannelId) -> None:
        """Raise `SlackRefused` where another company would read along, also since a moment ago."""
        if not channel.startswith("D") and (await self._ctx.door.place(channel)).external:
            raise SlackRefused(SHARED)

    async def _post(self, row: OutboxRow, channel: ChannelId, message: Message, thread: MessageTs | None) -> Posted:
        try:
            return await self._ctx.gateway.post(channel, message, row.id, thread=thread)
        except SlackRefused as err:
            if err.code not in TOO_MUCH:
                raise
            log.error("slack.too_much", code=err.code, run=row.run)  # noqa: TRY400 - the code says it all
            return await self._ctx.gateway.post(channel, plain(message), row.id, thread=thread)

    async def _card(self, row: OutboxRow) -> None:
        run = await self._run(row)
        posted = await self._posted(row, run.channel, cards.card(run, self._ctx.links.page(run)), run.thread_ts)
        if posted is None:
            return
        now = self._ctx.clock.now()
        shown = run.version if row.tried_at is None else 0  # a card that was looked up may show an older version
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run.id)
            after = replace(
                fresh,
                thread_ts=posted.thread or posted.ts,
                queue_position=run.queue_position,
                card=replace(fresh.card, ts=posted.ts, version=shown, edited_at=now, posts=fresh.card.posts + 1),
            )
            await runs.save(tx, fresh, after)
            if posted.thread is None:
                await runs.own_thread(tx, after, posted.ts, every_reply=True)
            if after.state is RunState.STARTING:
                await effects.enqueue_start(tx, after, now)
            await outbox.done(tx, row.seq, now)

    async def _message(self, row: OutboxRow) -> None:
        """Post in the run's thread, even if it was refused before: nothing else shows that the thread is back."""
        run = await self._run(row)
        perhaps_gone = run.thread_ts if run.card.gone and row.tried_at is None else None
        if perhaps_gone is not None and await self._ctx.gateway.is_gone(run.channel, perhaps_gone):
            raise SlackRefused("thread_not_found")  # Slack would post it in the channel instead
        if await self._posted(row, run.channel, message_of(row), run.thread_ts):
            async with self._ctx.database.transaction() as tx:
                await outbox.done(tx, row.seq, self._ctx.clock.now())
                await runs.try_card_again(tx, run.id)

    async def _reply(self, row: OutboxRow) -> None:
        about = row.payload
        if await self._posted(row, about["channel"], message_of(row), about["thread"]):
            await self._done(row)

    async def _direct(self, row: OutboxRow) -> None:
        channel = await self._ctx.gateway.direct(UserId(row.payload["user"]))
        if posted := await self._posted(row, channel, message_of(row), None):
            async with self._ctx.database.transaction() as tx:
                if row.run is not None:  # who replies below it means that run
                    run = await runs.get(tx, row.run)
                    await runs.own_thread(tx, run, posted.ts, every_reply=True, channel=channel)
                await outbox.done(tx, row.seq, self._ctx.clock.now())

    async def _notify(self, row: OutboxRow) -> None:
        channel = await self.team_channel()
        if channel is None:
            async with self._ctx.database.transaction() as tx:
                await outbox.failed(tx, row.seq, self._ctx.clock.now(), "channel not found")
        elif await self._posted(row, channel, message_of(row), None):
            await self._done(row)

    async def team_channel(self) -> ChannelId | None:
        """Return NOTIFY_CHANNEL's id, looked up once; None, with a warning, if the bot can see no such channel."""
        if self._notify_id is None and self._notify_channel is not None:
            self._notify_id = await self._ctx.gateway.channel_called(self._notify_channel)
            if self._notify_id is None:
                log.warning(
                    "notify.channel_not_found",
                    channel=self._notify_channel,
                    help="create the channel or correct NOTIFY_CHANNEL, and invite the bot to it",
                )
        return self._notify_id

    # --- what is not posted -------------------------------------------------------------------------------------

    async def _answer(self, row: OutboxRow) -> None:
        """Send an answer that one person sees, at most once: whether it arrived can't be looked up."""
        now, about = self._ctx.clock.now(), row.payload
        stale = now - row.created_at > timedelta(seconds=self._ctx.patience.answer_stale_s)
        if row.tried_at is not None:
            await self._done(row, "perhaps said")
            return
        if stale:
            raise SlackRefused("stale")  # surely not sent yet: it becomes a direct message
        await self._call(row, lambda: self._whisper(about))
        await self._done(row)

    async def _whisper(self, about: Mapping[str, Any]) -> None:
        if about.get("response_url"):
            await self._ctx.gateway.respond(about["response_url"], about["text"])
        else:
            await self._ctx.gateway.whisper(about["channel"], about["user"], about["text"], thread=about.get("thread"))

    def is_stale(self, row: OutboxRow, now: datetime) -> bool:
        """Return whether a row is a reaction that says nothing new any more."""
        age_s = (now - row.created_at).total_seconds()
        return row.kind is OutboxKind.REACT and age_s > self._ctx.patience.reaction_stale_s

    async def _react(self, row: OutboxRow) -> None:
        if self.is_stale(row, self._ctx.clock.now()):
            await self._done(row, "stale")
            return
        try:
            await self._ctx.gateway.react(row.payload["channel"], row.payload["ts"], row.payload["name"])
        except SlackNoScope as err:  # logged at start; nobody waits for a reaction
            await self._done(row, err.code)
            return
        await self._done(row)

    async def give_up(self, row: OutboxRow) -> None:
        """End a row that keeps failing unexpectedly, as if Slack had refused it."""
        try:
            await self._refused(row, SlackRefused(GIVEN_UP))
        except (KeyError, TypeError):  # nothing in it can be read, so nobody can be told
            async with self._ctx.database.transaction() as tx:
                await outbox.failed(tx, row.seq, self._ctx.clock.now(), GIVEN_UP)

    async def give_up_card(self, run: RunId) -> None:
        """End the edits of a card that keep failing unexpectedly; its news goes on as messages."""
        log.error("card.given_up", run=run)
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run)
            await runs.save(tx, fresh, lifecycle.card_gone(fresh))
            told = cards.sentence(words.card_given_up())
            await effects.enqueue_message(tx, fresh, told, self._ctx.clock.now(), once="card given up")
        self._ctx.wake_sender.set()

    # --- what can never succeed ---------------------------------------------------------------------------------

    async def _refused(self, row: OutboxRow, err: SlackRefused) -> None:
        """Close the row as failed, and do what its kind has for that: most reach the person another way."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            run = await runs.get(tx, row.run) if row.run else None
            await outbox.failed(tx, row.seq, now, err.code)
            match OUTBOX[row.kind].refusal:
                case Refusal.NO_CARD if run is not None and run.card.posts == 0:
                    await self._nowhere(tx, row, run, err, now)
                case Refusal.NO_CARD:
                    if run is not None:
                        await runs.save(tx, run, lifecycle.card_gone(run))
                case Refusal.DIRECT:
                    await self._said_directly(tx, row, run, err, now)
                case Refusal.DROPPED:
                    if row.kind is OutboxKind.NOTIFY:  # look it up anew for the next line
                        self._notify_id = None
                case Refusal.HANDLER:
                    raise AssertionError(row.kind)
                case _ as never:
                    assert_never(never)

    async def _said_directly(
        self, tx: AsyncConnection, row: OutboxRow, run: Run | None, err: SlackRefused, now: datetime
    ) -> None:
        """Enqueue as a direct message what could not be posted where it belongs."""
        about = row.payload
        if row.kind is OutboxKind.ANSWER:  # it may name no person
            if about.get("user"):
                await effects.enqueue_direct(tx, None, about["user"], cards.sentence(about["text"]), now)
            return
        if run is None:
            why, person = words.not_answered(), about["user"]
        else:
            why, person = words.not_posted(run), about.get("user") or run.requester
        if err.code == SHARED:
            why = words.shared_meanwhile(about["channel"])
        await effects.enqueue_direct(tx, run, person, elsewhere(why, message_of(row)), now, instead_of=row.id)

    async def _nowhere(self, tx: AsyncConnection, row: OutboxRow, run: Run, err: SlackRefused, now: datetime) -> None:
        """End a run that never had a card: nothing starts where the bot can't post."""
        await self._ctx.save(tx, run, lifecycle.unpostable(run, now))
        text = words.invite() if err.code in NOT_THERE else words.place_closed()
        if err.code == SHARED:
            text = words.refused(Verdict.SHARED)
        if err.code == GIVEN_UP or err.code in TOO_MUCH:
            text = words.broken()
        url = row.payload.get("response_url")
        if url is None:
            await effects.enqueue_direct(tx, run, run.requester, cards.sentence(text), now)
            return
        about = {"response_url": url, "channel": run.channel, "user": run.requester, "text": text}
        await outbox.add(tx, OutboxKind.ANSWER, id=effects.new_id(), lane=f"answer:{run.id}", now=now, payload=about)

    # --- edits --------------------------------------------------------------------------------------------------

    async def edit(self, id: RunId) -> datetime | None:  # noqa: A002 - a run's own word
        """Show the newest state on the card; return the time before which it can't be edited, if Slack delays it."""
        async with self._ctx.database.reading() as tx:
            [run] = await runs.with_positions(tx, [await runs.get(tx, id)])
        if run.card.ts is None:
            return None
        now = self._ctx.clock.now()
        message = cards.card(run, self._ctx.links.page(run))
        try:
            await self._stays_inside(run.channel)
            await self._edited(run.channel, run.card.ts, message)
        except SlackBusy as err:
            return asked_to_wait(err.retry_after_s, now, self._ctx.patience)
        except (SlackUnavailable, SlackUnsure):
            return later(now, self._ctx.patience.card_gap_s)
        except SlackLocked as err:
            self._say_locked(err)
            return later(now, self._ctx.patience.retry_slowest_s)
        except SlackRefused as err:
            await self._card_gone(run.id, err, now)
            return None
        async with self._ctx.database.transaction() as tx:
            await runs.card_shown(tx, run, self._ctx.clock.now())
        return None

    async def _edited(self, channel: ChannelId, ts: MessageTs, message: Message) -> None:
        try:
            await self._ctx.gateway.update(channel, ts, message)
        except SlackRefused as err:
            if err.code not in TOO_MUCH:
                raise
            log.error("slack.too_much", code=err.code)  # noqa: TRY400 - the code says it all
            await self._ctx.gateway.update(channel, ts, plain(message))

    async def _card_gone(self, run: RunId, err: SlackError, now: datetime) -> None:
        """Post a deleted card once more; if it can't be edited for another reason, news comes as messages only."""
        log.warning("card.gone", run=run, code=err.code)
        async with self._ctx.database.transaction() as tx:
            fresh = await runs.get(tx, run)
            if err.code == "message_not_found" and fresh.card.posts < CARDS:
                await runs.save(tx, fresh, lifecycle.card_deleted(fresh))
                await effects.enqueue_card(tx, fresh, None, now)
            else:
                await runs.save(tx, fresh, lifecycle.card_gone(fresh))

    async def _run(self, row: OutboxRow) -> Run:
        async with self._ctx.database.reading() as tx:
            [run] = await runs.with_positions(tx, [await runs.get(tx, RunId(row.run or ""))])
            return run


def message_of(row: OutboxRow) -> Message:
    return Message(row.payload["text"], row.payload["blocks"])


def plain(message: Message) -> Message:
    return Message(cards.cut(message.text, cards.TEXT_MAX))


def elsewhere(head: str, message: Message) -> Message:
    """Return a message under a heading, since it does not stand in the thread it belongs to."""
    return Message(cards.cut(f"{head}\n{message.text}", cards.TEXT_MAX), [cards.section(head), *message.blocks])
