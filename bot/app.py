"""Builds everything, starts the loops, and ends them in good order."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiohttp
import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult

from bot import intake
from bot.clock import Clock, WallClock
from bot.dispatcher import Dispatcher
from bot.effects import Site
from bot.errors import (
    OpenHandsError,
    SettingsWrong,
    SlackError,
    SlackLocked,
    SlackRefused,
    StoreUnavailable,
    Unauthorised,
)
from bot.means import Means
from bot.model import Incoming
from bot.openhands import OpenHands
from bot.openhands.connect import connect
from bot.openhands.http import Http
from bot.pacing import Patience
from bot.poller import Poller
from bot.sender import Sender
from bot.settings import Settings
from bot.slack.gateway import Gateway
from bot.slack.recognise import Identity, recognise
from bot.slack.socket import Socket
from bot.store import inbox
from bot.store.database import Database, open_database, sqlite_url

log = structlog.get_logger("app")

SCOPES = frozenset(
    {
        "app_mentions:read",
        "channels:history",
        "channels:read",
        "chat:write",
        "commands",
        "groups:history",
        "groups:read",
        "im:history",
        "im:read",
        "im:write",
        "mpim:history",
        "mpim:read",
        "reactions:write",
        "users:read",
    }
)
"""What the bot's token must be allowed; `manifest.yml` asks for the same."""
OAUTH_VARIABLES = ("SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET")
"""With both set, Bolt would quietly turn into an app for many workspaces and drop our token."""


class LateOpenHands:
    """OpenHands, found out about when it first answers: an outage at start is no reason to stop."""

    def __init__(self, settings: Settings, clock: Clock, patience: Patience) -> None:
        self._api = settings.openhands_api
        self.http = Http(
            settings.openhands_base_url, settings.openhands_api_key.get_secret_value(), clock=clock, patience=patience
        )
        self._found: OpenHands | None = None
        self._lock = asyncio.Lock()

    async def __call__(self) -> OpenHands:
        """Give the client for the API this server speaks. Raises what the probe raises until it has answered once."""
        if self._found is None:
            async with self._lock:
                if self._found is None:
                    self._found = await connect(self.http, self._api)
        return self._found


class Bot:
    """The whole bot: `run` works until `stop`."""

    def __init__(self, settings: Settings, clock: Clock | None = None, patience: Patience | None = None) -> None:
        self._settings = settings
        self._clock = clock or WallClock()
        self._patience = patience or Patience(poll_s=settings.poll_interval_s)
        self._stop = asyncio.Event()
        self._draining = False
        self.dispatcher: Dispatcher | None = None
        self.sender: Sender | None = None
        self.poller: Poller | None = None
        self.socket: Socket | None = None
        self.ready = asyncio.Event()
        """Set once every loop runs and the socket is open."""

    def stop(self) -> None:
        """Ask `run` to end: no new requests, what is under way ends, the rest goes on at the next start."""
        self._stop.set()

    async def run(self) -> None:
        """Work until `stop`.

        Raises `SettingsWrong` where a token or the key is refused, `StoreInUse`, and `StoreUnavailable` when the
        database can't be opened. Outages of Slack and OpenHands are waited out.
        """
        if all(os.environ.get(name) for name in OAUTH_VARIABLES):
            raise SettingsWrong(
                [f"{' and '.join(OAUTH_VARIABLES)} must not be set: they would replace SLACK_BOT_TOKEN."]
            )
        database = await open_database(sqlite_url(self._settings.database_url))
        openhands = LateOpenHands(self._settings, self._clock, self._patience)
        timeout = aiohttp.ClientTimeout(total=self._patience.slack_timeout_s)
        try:
            async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
                gateway = self._gateway(session)
                if (us := await self._unless_stopped(self._known(gateway, openhands))) is not None:
                    await self._work(database, gateway, openhands, us)
        finally:
            await openhands.http.aclose()
            await database.close()

    def _gateway(self, session: aiohttp.ClientSession) -> Gateway:
        settings = self._settings
        return Gateway(
            settings.slack_bot_token.get_secret_value(), settings.slack_api_url, session, self._clock, self._patience
        )

    async def _unless_stopped(self, knowing: Coroutine[Any, Any, Identity]) -> Identity | None:
        """Give what it comes to; None when asked to stop before, however long a call is under way."""
        known, stopping = asyncio.create_task(knowing), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([known, stopping], return_when=asyncio.FIRST_COMPLETED)
            return known.result() if known.done() else None
        finally:
            known.cancel()
            stopping.cancel()
            await asyncio.gather(known, stopping, return_exceptions=True)

    async def _known(self, gateway: Gateway, openhands: LateOpenHands) -> Identity:
        """Try the key, then find out who we are."""
        await self._probe(openhands)
        return await self._identity(gateway)

    async def _probe(self, openhands: LateOpenHands) -> None:
        try:
            async with asyncio.timeout(self._patience.probe_s):
                await openhands()
        except Unauthorised:
            raise SettingsWrong(
                ["OPENHANDS_API_KEY is refused by OpenHands. How to get it: OpenHands > Settings > API Keys."]
            ) from None
        except (OpenHandsError, TimeoutError) as err:
            log.warning("openhands.unreachable", error=type(err).__name__, help="the bot starts anyway and tries on")

    async def _identity(self, gateway: Gateway) -> Identity:
        """Find out who we are, however long it takes."""
        pause_s = self._patience.retry_first_s
        while True:
            try:
                us, scopes = await gateway.identity()
            except SlackLocked as err:
                raise SettingsWrong(
                    [f"SLACK_BOT_TOKEN is refused by Slack ({err.code}). How to get it: {how_to('slack_bot_token')}."]
                ) from None
            except SlackError as err:
                log.warning("slack.unreachable", code=err.code, again_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._patience.retry_slowest_s)
                continue
            if scopes and (missing := SCOPES - scopes):
                lacking = ", ".join(sorted(missing))
                raise SettingsWrong(
                    [f"SLACK_BOT_TOKEN lacks scopes ({lacking}): update the app from manifest.yml and reinstall it."]
                )
            return us

    async def _work(self, database: Database, gateway: Gateway, openhands: LateOpenHands, us: Identity) -> None:
        settings = self._settings
        site = Site(us, settings.openhands_base_url, notifies=settings.notify_channel is not None)
        means = Means(
            database=database,
            gateway=gateway,
            openhands=openhands,
            site=site,
            clock=self._clock,
            patience=self._patience,
            wake_sender=asyncio.Event(),
            wake_poller=asyncio.Event(),
        )
        self.poller = poller = Poller(means)
        self.sender = sender = Sender(means, notify_channel=settings.notify_channel)
        self.dispatcher = dispatcher = Dispatcher(means, default_repository=settings.default_repository)
        bolt = AsyncApp(authorize=authorize(settings, us), logger=bolt_log())
        bolt.use(
            intake.middleware(
                lambda body: recognise(body, us), self._remember(database, dispatcher.lanes.wake.set), us.user
            )
        )
        self.socket = socket = Socket(bolt, settings.slack_app_token.get_secret_value(), gateway, self._patience)
        try:
            await self._loops(
                socket, dispatcher.lanes.run(), sender.lanes.run(), poller.run(), self._team_channel(sender)
            )
        finally:
            await socket.close()

    async def _team_channel(self, sender: Sender) -> None:
        """Look the team's channel up beside the loops: nobody waits for it, and it ends as they do."""
        await sender.team_channel_known()
        await self._stop.wait()

    async def _loops(self, socket: Socket, *loops: Any) -> None:
        """Run until asked to stop or until one of them ends with an error."""
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        connecting = asyncio.ensure_future(self._connected(socket))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, connecting, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._draining = True
            for task in (connecting, stopping, *tasks):
                task.cancel()
            results = await asyncio.gather(connecting, stopping, *tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        log.info("app.stopped", asked=stopping in done)

    async def _connected(self, socket: Socket) -> None:
        try:
            await socket.keep(self.ready.set)
        except (SlackLocked, SlackRefused) as err:
            raise SettingsWrong(
                [f"SLACK_APP_TOKEN is refused by Slack ({err.code}). How to get it: {how_to('slack_app_token')}."]
            ) from None

    def _remember(self, database: Database, wake: Callable[[], None]) -> Callable[[Incoming], Awaitable[None]]:
        async def remember(incoming: Incoming) -> None:
            """Commit a request, if it is for us and new."""
            if self._draining:
                raise StoreUnavailable(perhaps_saved=False)
            if inbox.may_be_talk(incoming):
                async with database.reading() as tx:
                    if not await inbox.is_for_us(tx, incoming):
                        return
            if await inbox.add(database, incoming, self._clock.now()):
                wake()

        return remember


def bolt_log() -> logging.Logger:
    """Let Bolt say what went wrong, and no more: it warns of the token in the environment, which it is not to use."""
    logger = logging.getLogger("slack.bolt")
    logger.setLevel(logging.ERROR)
    return logger


def how_to(name: str) -> str:
    return Settings.model_fields[name].description or ""


def authorize(settings: Settings, us: Identity) -> Callable[..., Awaitable[AuthorizeResult]]:
    """Answer Bolt from what we asked at start: by itself it would ask at the first event, and drop that on a fault."""
    result = AuthorizeResult(
        enterprise_id=None,
        team_id=us.team,
        bot_token=settings.slack_bot_token.get_secret_value(),
        bot_id=us.bot,
        bot_user_id=us.user,
    )

    async def ours(**_context: Any) -> AuthorizeResult:
        return result

    return ours
