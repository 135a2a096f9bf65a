"""Socket Mode: connect, stay connected, drain."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import SlackError, SlackLocked, SlackUnavailable
from bot.pacing import Patience
from bot.slack.gateway import Gateway

log = structlog.get_logger("slack")

NOT_OURS = "forbidden_team"
"""What Slack says of an app-level token of another workspace's app, beside the codes for tokens of any kind."""
TICKET = re.compile(r"ticket=[^&\s'\"]+")


class Socket:
    """One Socket Mode connection, kept up for as long as the process lives.

    It waits in the event loop's own time, as the SDK's pings do that it watches.
    """

    def __init__(self, app: AsyncApp, app_token: str, gateway: Gateway, patience: Patience) -> None:
        """app: Bolt, whose middleware answers every envelope."""
        self._app = app
        self._token = app_token
        self._gateway = gateway
        self._patience = patience
        self._client: SocketModeClient | None = None
        self._envelopes: Envelopes | None = None
        self._down_since: float | None = None

    async def connect(self) -> None:
        """Connect for the first time.

        The ticket is asked for here, since the SDK's own loop would go on for ever with a refused token, and given up
        after a while, since that loop would go on for ever with an old ticket too. Raises a `SlackError`.
        """
        url = await self._gateway.socket_url(self._token)
        client = self._gateway.client
        handler = AsyncSocketModeHandler(
            self._app,
            self._token,
            logger=sdk_log(),
            web_client=AsyncWebClient(base_url=client.base_url, session=client.session, retry_handlers=[]),
            ping_interval=self._patience.ping_s,
        )
        handler.client.web_client.proxy = None
        handler.client.proxy = None
        handler.client.wss_uri = url
        self._envelopes = Envelopes(partial(handler.handle, handler.client))
        handler.client.socket_mode_request_listeners = [self._envelopes.take]
        try:
            async with asyncio.timeout(self._patience.socket_down_s):
                await handler.client.connect()  # type: ignore[no-untyped-call]  # the SDK's
        except TimeoutError:
            raise SlackUnavailable("no_socket") from None
        else:
            self._client = handler.client
        finally:
            if self._client is None:
                await handler.client.close()  # type: ignore[no-untyped-call]  # the SDK's
        log.info("slack.connected")

    async def keep(self, connected: Callable[[], None]) -> None:
        """Connect, call `connected`, and watch the connection until cancelled.

        Raises `SlackLocked` or `SlackRefused` where Slack refuses the token; everything else is waited out.
        """
        pause_s = self._patience.retry_first_s
        while self._client is None:
            try:
                await self.connect()
            except SlackError as err:
                if isinstance(err, SlackLocked) or err.code == NOT_OURS:
                    raise
                log.warning("slack.unreachable", code=err.code, again_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._patience.retry_slowest_s)
        connected()
        while True:
            await asyncio.sleep(self._patience.ping_s)
            await self._watch(self._client)

    async def _watch(self, client: SocketModeClient) -> None:
        """Give the SDK a new address when it has been down for long: by itself it tries the old one for ever."""
        if await client.is_connected():
            if self._down_since is not None:
                log.info("slack.reconnected")
            self._down_since = None
            return
        now = asyncio.get_running_loop().time()
        if self._down_since is None:
            self._down_since = now
            log.warning("slack.disconnected")
        elif now - self._down_since > self._patience.socket_down_s:
            client.wss_uri = None
            self._down_since = now

    async def close(self) -> None:
        """Let the answers under way go out, then close; envelopes not acknowledged are Slack's to send again."""
        if self._envelopes is not None:
            await self._envelopes.end(self._patience.drain_s)
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]  # the SDK's


class Envelopes:
    """Answers envelopes side by side, those of events in one channel in the order they came.

    The SDK by itself begins with one when the one before is answered: under load, each would wait for all before it.
    """

    def __init__(self, answer: Callable[[SocketModeRequest], Awaitable[None]]) -> None:
        self._answer = answer
        self._under_way: set[asyncio.Task[None]] = set()
        self._latest: dict[str, asyncio.Task[None]] = {}

    async def take(self, _client: object, request: SocketModeRequest) -> None:
        """Begin to answer one."""
        event = request.payload.get("event") or {}
        channel = str(event.get("channel", ""))
        earlier = self._latest.get(channel) if channel else None
        answering = asyncio.create_task(self._answer_after(earlier, request))
        self._under_way.add(answering)
        if channel:
            self._latest[channel] = answering
        answering.add_done_callback(partial(self._answered, channel))

    async def _answer_after(self, earlier: asyncio.Task[None] | None, request: SocketModeRequest) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        await self._answer(request)

    def _answered(self, channel: str, answering: asyncio.Task[None]) -> None:
        self._under_way.discard(answering)
        if self._latest.get(channel) is answering:
            del self._latest[channel]
        if not answering.cancelled() and (err := answering.exception()) is not None:
            log.warning("slack.not_answered", error=type(err).__name__)

    async def end(self, within_s: float) -> None:
        """Let what is under way end; cut off what takes longer than so many seconds."""
        if not self._under_way:
            return
        _, late = await asyncio.wait([*self._under_way], timeout=within_s)
        for answering in late:
            answering.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class NoTickets(logging.Filter):
    """Keeps tickets out of the SDK's log, whose errors name addresses: each opens a connection."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = TICKET.sub("ticket=…", record.getMessage()), ()
        record.exc_info = None  # it says the same again, address and all
        return True


NO_TICKETS = NoTickets()


def sdk_log() -> logging.Logger:
    sdk = logging.getLogger("slack.sdk")
    sdk.addFilter(NO_TICKETS)
    return sdk
