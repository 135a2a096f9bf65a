"""Socket Mode: stays connected for as long as the process lives."""

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

from bot.causes import cause, trust_help
from bot.clock import Clock
from bot.core.errors import SlackBusy, SlackError, SlackLocked, SlackUnavailable
from bot.core.pacing import Patience
from bot.slack.connection import LOST, WARNING, Connection, open_connection
from bot.slack.envelopes import Envelopes
from bot.slack.gateway import Gateway

log = structlog.get_logger("slack")

NOT_OURS = "forbidden_team"
"""Slack's code for an app-level token of another workspace's app, beside the codes for tokens of any kind."""
REFRESH = "refresh_requested"
"""Slack's reason for the ordinary end of a connection, after some hours."""
NO_GREETING = "no_greeting"
"""Our reason for a connection that Slack opened but sent no hello on."""
HELP = {
    "link_disabled": "Socket Mode is switched off: switch it on in the app's settings",
    "not_alone": "if this stays so, other copies of the bot get part of what people write: stop them",
    "too_many_websockets": "other copies of the bot hold all ten connections of the app: stop them",
}
NOTHING_TO_DO = "nothing: it tries on by itself"


class Socket:
    """Holds one Socket Mode connection at a time, two during a handover.

    Its waits use the event loop's time, not `Clock`, as do the pings that show whether a connection is alive.
    """

    def __init__(self, app: AsyncApp, app_token: str, gateway: Gateway, clock: Clock, patience: Patience) -> None:
        """app: the Bolt app, whose middleware answers every envelope."""
        self._app = app
        self._token = app_token
        self._gateway = gateway
        self._clock = clock
        self._patience = patience
        self._envelopes: Envelopes[Connection] = Envelopes(self._answer)
        self._connection: Connection | None = None
        self._connections: set[Connection] = set()  # all that are not closed yet
        self._uncounted: set[Connection] = set()  # all whose end is not counted in `ended` yet
        self._retiring: set[asyncio.Task[None]] = set()
        self._tries = 0  # since the last connection that lasted `socket_proven_s`
        self._trouble = ""
        self._others = 0
        self.ended: Counter[str] = Counter()
        """How often a connection ended, by Slack's reason, or by ours if it gave none."""

    @property
    def live(self) -> bool:
        """Whether events arrive now: Slack sent its hello on the connection, uses it and answers its pings."""
        return self._connection is not None and not self._connection.gone.is_set()

    @property
    def heard_until(self) -> datetime | None:
        """When the latest connection last received a frame; None before the first connection."""
        return None if self._connection is None else self._connection.heard_at

    async def keep(self, connected: Callable[[], None], missed: Callable[[], None]) -> None:
        """Stay connected until cancelled.

        connected: called once. missed: called whenever events may have been missed, including those before the first
        connection. Raises `SlackLocked` or `SlackRefused` if Slack refuses the token before the first connection;
        retries after everything else.
        """
        while True:
            connection = await self._opened()
            before, self._connection = self._connection, connection
            seamless = before is not None and not before.gone.is_set()
            if before is None:
                connected()
            else:
                self._retire(before, missed, was_live=seamless)
            if not seamless:
                missed()
            if not self._trouble:
                log.info("slack.renewed" if before else "slack.connected", seamless=seamless)
            await self._leaving(connection, reconnected=before is not None)

    async def _leaving(self, connection: Connection, *, reconnected: bool) -> None:
        """Wait until a connection needs a successor; reset the backoff once it has lasted `socket_proven_s`."""
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
        """Log that there is no connection, and why; repeats of the same reason are not logged."""
        if code != self._trouble:
            log.warning(
                event, code=code, **more, help=trust_help(more.get("cause", "")) or HELP.get(code, NOTHING_TO_DO)
            )
        self._trouble = code

    # --- the next connection ------------------------------------------------------------------------------------

    async def _opened(self) -> Connection:
        """Open a connection, however long that takes, with backoff after attempts that failed or did not last."""
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
                await self._close(self._connection)  # it may still count towards Slack's limit of connections

    def _pause_s(self) -> float:
        if self._tries == 0:
            return 0.0
        doubled = self._patience.socket_again_s * 2.0 ** min(self._tries - 1, 16)
        return min(doubled, self._patience.retry_slowest_s)

    async def _open(self) -> Connection:
        """Open a connection and wait for Slack's hello. Raises a `SlackError`.

        Each attempt asks for a new address: one that was used or has expired stays refused.
        """
        url = await self._gateway.socket_url(self._token)
        try:
            async with asyncio.timeout(self._patience.slack_timeout_s):
                connection = await open_connection(
                    self._gateway.session, url, self._envelopes.take, self._clock.now, ping_s=self._patience.ping_s
                )
        except (aiohttp.ClientError, TimeoutError) as err:
            raise SlackUnavailable("no_socket", cause(err)) from None
        self._connections.add(connection)
        self._uncounted.add(connection)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience.slack_timeout_s):
                await connection.begun.wait()
        if connection.greeted:
            self._tell_of_others(connection.connections - len(self._connections))
            return connection
        why = connection.why or NO_GREETING
        await self._close(connection)
        raise SlackUnavailable(why)

    def _tell_of_others(self, others: int) -> None:
        """Log that Slack delivers to others too, once until it does not. A connection that was cut lingers for a while."""
        if others > 0 and not self._others:
            log.warning("slack.not_alone", others=others, help=HELP["not_alone"])
        self._others = max(0, others)

    async def _answer(self, connection: Connection, request: SocketModeRequest) -> None:
        """Have Bolt answer on the connection that brought the envelope; Slack may not accept it on another."""
        began = time.time()
        response = await run_async_bolt_app(self._app, request)
        await send_async_response(connection, request, response, began)

    # --- the end of one -----------------------------------------------------------------------------------------

    def _retire(self, connection: Connection, missed: Callable[[], None], *, was_live: bool) -> None:
        retiring = asyncio.create_task(self._retired(connection, missed, was_live=was_live))
        self._retiring.add(retiring)
        retiring.add_done_callback(self._retiring.discard)

    async def _retired(self, connection: Connection, missed: Callable[[], None], *, was_live: bool) -> None:
        """Close a connection that has a successor once Slack no longer uses it; after a warning that takes a while.

        was_live: Slack still used it when its successor took over, so it may be lost only now, with what it carried.
        """
        if was_live:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.handover_s):
                    await connection.gone.wait()
            if connection.why == LOST:
                missed()
        await self._close(connection)

    async def _close(self, connection: Connection) -> None:
        """Wait until the connection's envelopes are answered on it, then close it."""
        if connection in self._uncounted:
            self._uncounted.remove(connection)
            self.ended[connection.why or (WARNING if connection.greeted else NO_GREETING)] += 1
        await self._envelopes.settled(connection, self._patience.drain_s)
        await connection.disconnect()
        self._connections.discard(connection)

    async def close(self) -> None:
        """Wait for the answers under way, then close. Slack redelivers envelopes that were not acknowledged."""
        await self._envelopes.end(self._patience.drain_s)
        for retiring in self._retiring:
            retiring.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for connection in [*self._connections]:
            await self._close(connection)
