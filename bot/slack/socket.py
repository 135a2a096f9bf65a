"""Socket Mode: connected for as long as the process lives."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import aiohttp
import structlog
from slack_bolt.adapter.socket_mode.async_internals import run_async_bolt_app, send_async_response
from slack_bolt.app.async_app import AsyncApp
from slack_sdk.socket_mode.request import SocketModeRequest

from bot.clock import Clock
from bot.core.errors import SlackBusy, SlackError, SlackLocked, SlackUnavailable
from bot.core.pacing import Patience
from bot.slack.connection import LOST, WARNING, Connection, open_connection
from bot.slack.envelopes import Envelopes
from bot.slack.gateway import Gateway

log = structlog.get_logger("slack")

NOT_OURS = "forbidden_team"
"""What Slack says of an app-level token of another workspace's app, beside the codes for tokens of any kind."""
REFRESH = "refresh_requested"
"""Slack's word for the ordinary end of a connection, after some hours."""
NO_GREETING = "no_greeting"
"""Our word for a connection that Slack opened, and left without a word."""
HELP = {
    "link_disabled": "Socket Mode is switched off: switch it on in the app's settings",
    "too_many_websockets": "other copies of the bot hold all ten connections of the app: stop them",
}
NOTHING_TO_DO = "nothing: it tries on by itself"


class Socket:
    """One Socket Mode connection at a time, two while one takes over from the other.

    It waits in the event loop's own time, as the pings do that show whether a connection lives.
    """

    def __init__(self, app: AsyncApp, app_token: str, gateway: Gateway, clock: Clock, patience: Patience) -> None:
        """app: Bolt, whose middleware answers every envelope."""
        self._app = app
        self._token = app_token
        self._gateway = gateway
        self._clock = clock
        self._patience = patience
        self._envelopes: Envelopes[Connection] = Envelopes(self._answer)
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()  # all that are not closed yet
        self._uncounted: set[Connection] = set()  # those whose end is not counted yet
        self._retiring: set[asyncio.Task[None]] = set()
        self._tries = 0  # since the last connection that lasted
        self._trouble = ""
        self.ended: Counter[str] = Counter()
        """How often a connection ended, by Slack's reason, or ours where it gave none."""

    @property
    def live(self) -> bool:
        """Whether what people do arrives now: Slack greeted the connection, uses it and answers its pings."""
        return self._connection is not None and not self._connection.gone.is_set()

    @property
    def heard_until(self) -> datetime | None:
        """When the latest connection last gave a sign of life; None before the first one."""
        return None if self._connection is None else self._connection.heard_at

    async def keep(self, connected: Callable[[], None], missed: Callable[[], None]) -> None:
        """Stay connected until cancelled.

        connected: called once. missed: called whenever something may have gone by unheard, the time before the first
        connection included. Raises `SlackLocked` or `SlackRefused` where Slack refuses the token at first; everything
        else is waited out.
        """
        while True:
            connection = await self._opened()
            before, self._connection = self._connection, connection
            seamless = before is not None and not before.gone.is_set()
            if before is None:
                connected()
            else:
                self._retire(before, missed)
            if not seamless:
                missed()
            if not self._trouble:
                log.info("slack.renewed" if before else "slack.connected", seamless=seamless)
            await self._leaving(connection, reconnected=before is not None)

    async def _leaving(self, connection: Connection, *, reconnected: bool) -> None:
        """Wait until a connection is to be replaced. What lasted for a while was no false start."""
        try:
            async with asyncio.timeout(self._patience.socket_proven_s):
                await connection.leaving.wait()
        except TimeoutError:
            if self._trouble:
                log.info("slack.reconnected" if reconnected else "slack.connected", tries=self._tries)
            self._tries, self._trouble = 0, ""
            await connection.leaving.wait()
        if connection.why not in ("", REFRESH):
            self._told("slack.disconnected", connection.why)

    def _told(self, event: str, code: str, **more: str) -> None:
        """Log that there is no connection, and why: once for each reason in a row."""
        if code != self._trouble:
            log.warning(event, code=code, **more, help=HELP.get(code, NOTHING_TO_DO))
        self._trouble = code

    # --- the next connection ------------------------------------------------------------------------------------

    async def _opened(self) -> Connection:
        """Open a connection, however long that takes. One that did not last makes the next one wait."""
        while True:
            await asyncio.sleep(self._pause_s())
            self._tries += 1
            try:
                return await self._open()
            except SlackError as err:
                if self._connection is None and (isinstance(err, SlackLocked) or err.code == NOT_OURS):
                    raise
                self._told("slack.unreachable", err.code, cause=err.cause, server=self._gateway.server)
                if isinstance(err, SlackBusy):
                    await asyncio.sleep(err.retry_after_s)
            if self._connection is not None and self._connection.gone.is_set():
                await self._close(self._connection)  # it may be its place that is lacking

    def _pause_s(self) -> float:
        if self._tries == 0:
            return 0.0
        doubled = self._patience.socket_again_s * 2.0 ** min(self._tries - 1, 16)
        return min(doubled, self._patience.retry_slowest_s)

    async def _open(self) -> Connection:
        """Open a connection and wait for Slack's greeting. Raises a `SlackError`.

        Each try has an address of its own: one that is used or too old stays refused.
        """
        url = await self._gateway.socket_url(self._token)
        try:
            async with asyncio.timeout(self._patience.slack_timeout_s):
                connection = await open_connection(
                    self._gateway.session, url, self._envelopes.take, self._clock.now, ping_s=self._patience.ping_s
                )
        except (aiohttp.ClientError, TimeoutError):
            raise SlackUnavailable("no_socket") from None
        self._connections.add(connection)
        self._uncounted.add(connection)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience.slack_timeout_s):
                await connection.begun.wait()
        if connection.greeted:
            return connection
        why = connection.why or NO_GREETING
        await self._close(connection)
        raise SlackUnavailable(why)

    async def _answer(self, connection: Connection, request: SocketModeRequest) -> None:
        """Let Bolt answer, on the connection that brought the envelope: whether Slack takes it on another is not known."""
        began = time.time()
        response = await run_async_bolt_app(self._app, request)
        await send_async_response(connection, request, response, began)

    # --- the end of one -----------------------------------------------------------------------------------------

    def _retire(self, connection: Connection, missed: Callable[[], None]) -> None:
        retiring = asyncio.create_task(self._retired(connection, missed))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retired(self, connection: Connection, missed: Callable[[], None]) -> None:
        """Close a connection that has a successor when Slack uses it no more; with a mere warning that may take a while."""
        if not connection.gone.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.handover_s):
                    await connection.gone.wait()
            if connection.why == LOST:
                missed()
        await self._close(connection)

    async def _close(self, connection: Connection) -> None:
        """Let what a connection brought be answered on it, then close it."""
        if connection in self._uncounted:
            self._uncounted.remove(connection)
            self.ended[connection.why or (WARNING if connection.greeted else NO_GREETING)] += 1
        await self._envelopes.settled(connection, self._patience.drain_s)
        await connection.disconnect()
        self._connections.discard(connection)

    async def close(self) -> None:
        """Let the answers under way go out, then close; envelopes not acknowledged are Slack's to send again."""
        await self._envelopes.end(self._patience.drain_s)
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for connection in [*self._connections]:
            await self._close(connection)
