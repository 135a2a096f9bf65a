"""Envelope → inbox row → ack: one middleware answers everything Slack sends."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from slack_bolt.response import BoltResponse

from bot import effects
from bot.context import Context
from bot.core import cards, commands, words
from bot.core.errors import SlackError, StoreUnavailable
from bot.core.model import Incoming, IncomingKind, PlaceGone
from bot.core.mrkdwn import unescape_request
from bot.slack.recognise import as_edit, is_rate_limited, place_changed, place_gone, recognise
from bot.store import inbox, runs

log = structlog.get_logger("intake")

NO_ACK = 503
"""Bolt acknowledges only what is answered with 200."""

Middleware = Callable[..., Awaitable[BoltResponse]]


class Intake:
    """Commits what Slack sends before it is acknowledged: after its ack Slack never sends it again."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._us = ctx.links.us
        self._saying: set[asyncio.Task[None]] = set()

    def middleware(self, missed: Callable[[], None], passed_over: Callable[[Incoming], None]) -> Middleware:
        """Return Bolt's global middleware. It never calls `next`: no listener answers, the inbox does.

        missed: called when a message could not be committed, so that it is read back even if Slack gives it up.
        passed_over: called with what is not for us, or was heard before.
        """

        async def write_down(body: dict[str, Any]) -> BoltResponse:
            with self._ctx.metrics.acknowledging():
                return await self._answer(body, missed, passed_over)

        return write_down

    async def remember(self, incoming: Incoming) -> bool:
        """Commit a request, if it is for us and new; return whether it was. Raises `StoreUnavailable`."""
        if self._ctx.stopping.is_set():
            raise StoreUnavailable(perhaps_saved=False)
        if inbox.may_be_talk(incoming):
            async with self._ctx.database.reading() as tx:
                if not await inbox.is_for_us(tx, incoming):
                    return False
        if not await inbox.add(self._ctx.database, incoming, self._ctx.clock.now()):
            if incoming.kind is IncomingKind.MESSAGE and (incoming.files or incoming.edited_at):
                await self.remember(as_edit(incoming))  # the event that came first had less to say
            return False
        self._ctx.metrics.requested(incoming.kind)
        self._ctx.wake_dispatcher.set()
        return True

    async def close(self) -> None:
        """Cancel the answers to single people that are still on their way."""
        for saying in self._saying:
            saying.cancel()
        await asyncio.gather(*self._saying, return_exceptions=True)

    async def _answer(
        self, body: Mapping[str, Any], missed: Callable[[], None], passed_over: Callable[[Incoming], None]
    ) -> BoltResponse:
        incoming = recognise(body, self._us)
        if incoming is None:
            if is_rate_limited(body):
                log.warning("slack.events_dropped", help="nothing is lost: what Slack did not deliver is read back")
                missed()
            await self._hear(body)
            return BoltResponse(status=200, body="")
        try:
            if not await self.remember(incoming):
                passed_over(incoming)
        except StoreUnavailable as down:
            if self._ctx.stopping.is_set():  # nothing is wrong, and no gap: the next start reads back from before it
                log.info("intake.stopping", kind=incoming.kind, help="Slack sends it again, or its person is told")
                if incoming.redelivered_by_slack:
                    return BoltResponse(status=NO_ACK, body="")
                return BoltResponse(status=200, body=self._not_saved(incoming, down))
            missed()
            log.exception("intake.not_saved", kind=incoming.kind)
            if incoming.redelivered_by_slack:
                raise  # no ack: Slack sends it again
            return BoltResponse(status=200, body=self._not_saved(incoming, down))
        return BoltResponse(status=200, body=self._receipt(incoming))

    def _receipt(self, incoming: Incoming) -> str:
        """Return the body of the ack, which only the person sees: words for a command, nothing for anything else."""
        if incoming.kind is not IncomingKind.COMMAND:
            return ""
        return words.receipt(commands.parse(unescape_request(incoming.text, self._us.user)))

    def _not_saved(self, incoming: Incoming, down: StoreUnavailable) -> str:
        """Return the body of the ack. Nobody sees the ack of a click, so that person is answered beside it."""
        if incoming.kind is not IncomingKind.CLICK:
            return words.not_saved(perhaps=down.perhaps_saved)
        saying = asyncio.create_task(self._say(incoming, words.click_not_saved()))
        self._saying.add(saying)
        saying.add_done_callback(self._saying.discard)
        return ""

    async def _say(self, incoming: Incoming, text: str) -> None:
        """Answer one person while the database can't keep the answer, so that it can't be retried."""
        try:
            if incoming.response_url is not None:
                await self._ctx.gateway.respond(incoming.response_url, text)
        except SlackError as err:
            log.warning("intake.not_answered", code=err.code)

    # --- what is no request -------------------------------------------------------------------------------------

    async def _hear(self, body: Mapping[str, Any]) -> None:
        """Commit what an event that is no request changes. Idempotent. Raises `StoreUnavailable`: Slack redelivers."""
        self._ctx.metrics.ignored(body)
        if (changed := place_changed(body)) is not None:
            self._ctx.gateway.forget_places(changed)
            self._ctx.wake_sender.set()
        if gone := place_gone(body, self._us):
            await self._place_lost(gone)

    async def _place_lost(self, gone: PlaceGone) -> None:
        """Stop editing cards in a place, and tell everybody with live runs there why, once and directly."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            people = sorted(set(await runs.lose_cards(tx, gone.channel)))
            for person in people:
                told = cards.sentence(words.place_lost(gone.channel))
                await effects.enqueue_direct(tx, None, person, told, now)
        if people:
            log.warning("place.lost", channel=gone.channel, people=len(people))
            self._ctx.wake_sender.set()
