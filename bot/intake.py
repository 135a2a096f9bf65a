"""Envelope → inbox row → ack: one middleware answers everything Slack sends."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from slack_bolt.response import BoltResponse

from bot import commands, words
from bot.errors import StoreUnavailable
from bot.model import Incoming, IncomingKind, UserId
from bot.mrkdwn import unescape_request

log = structlog.get_logger("intake")

Recognise = Callable[[Mapping[str, Any]], Incoming | None]
Remember = Callable[[Incoming], Awaitable[None]]
Hear = Callable[[Mapping[str, Any]], Awaitable[None]]
Answer = Callable[[Incoming, str], None]
Middleware = Callable[..., Awaitable[BoltResponse]]


def middleware(recognise: Recognise, remember: Remember, answer: Answer, hear: Hear, us: UserId) -> Middleware:
    """Build Bolt's global middleware. It never calls `next`: no listener answers, the inbox does.

    remember: commits the request if it is for us; raises `StoreUnavailable`. answer: says something to one person, in a
    while, since what acknowledges a click is shown to nobody. hear: takes in what is no request, and commits what comes
    of it; raises `StoreUnavailable`, so that Slack sends it again. us: our own user.
    """

    async def write_down(body: dict[str, Any]) -> BoltResponse:
        """Once Slack has its ack it never sends this again, so the row comes first."""
        incoming = recognise(body)
        if incoming is None:
            await hear(body)
            return BoltResponse(status=200, body="")
        try:
            await remember(incoming)
        except StoreUnavailable as down:
            log.exception("intake.not_saved", kind=incoming.kind)
            if incoming.redelivered_by_slack:
                raise  # no ack: Slack sends it again
            said = words.not_saved(perhaps=down.perhaps_saved)
            if incoming.kind is IncomingKind.CLICK:
                answer(incoming, words.click_not_saved())
                said = ""
            return BoltResponse(status=200, body=said)
        return BoltResponse(status=200, body=receipt(incoming, us))

    return write_down


def receipt(incoming: Incoming, us: UserId) -> str:
    """Give what only the person sees at once: a command is answered in words, an event with nothing."""
    if incoming.kind is not IncomingKind.COMMAND:
        return ""
    return words.receipt(commands.parse(unescape_request(incoming.text, us)))
