"""Builds everything, starts the loops, and ends them in good order."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import aiohttp
import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.response import BoltResponse

from bot import health, intake
from bot.catch_up import CatchUp
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
from bot.metrics import Metrics
from bot.model import Incoming
from bot.openhands import OpenHands
from bot.openhands.connect import connect
from bot.openhands.http import Called, Http, nobody_counts
from bot.pacing import Patience
from bot.poller import Poller
from bot.sender import Sender
from bot.settings import Settings
from bot.slack.gateway import Gateway
from bot.slack.recognise import Identity, recognise
from bot.slack.socket import Socket
from bot.store import inbox
from bot.store.database import Database, open_database

log = structlog.get_logger("app")

Known = TypeVar("Known")

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

    def __init__(self, settings: Settings, clock: Clock, patience: Patience, *, called: Called = nobody_counts) -> None:
        self._api = settings.openhands_api
        self.http = Http(
            settings.openhands_base_url,
            settings.openhands_api_key.get_secret_value(),
            clock=clock,
            patience=patience,
            called=called,
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
        self._patience = patience or Patience(poll_s=settings.poll_interval_s, stale_s=settings.stale_after_h * 3600)
        self._metrics = Metrics()
        self._parts = health.Parts()
        self._stop = asyncio.Event()
        self._saying: set[asyncio.Task[None]] = set()
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

        Raises `SettingsWrong` where a token or the key is refused or the port can't be had, `StoreInUse`, and
        `StoreUnavailable` when the database can't be opened. Outages of Slack and OpenHands are waited out.
        """
        if all(os.environ.get(name) for name in OAUTH_VARIABLES):
            raise SettingsWrong(
                [f"{' and '.join(OAUTH_VARIABLES)} must not be set: they would replace SLACK_BOT_TOKEN."]
            )
        async with health.answering(self._settings.http_port, self._parts, self._metrics, self._clock):
            await self._run()

    async def _run(self) -> None:
        if (database := await self._unless_stopped(open_database(self._settings.database_url))) is None:
            return
        openhands = LateOpenHands(self._settings, self._clock, self._patience, called=self._metrics.openhands_called)
        self._parts.database, self._parts.openhands = database, openhands.http
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
        self._parts.gateway = gateway = Gateway(
            settings.slack_bot_token.get_secret_value(),
            settings.slack_api_url,
            session,
            self._clock,
            self._patience,
            called=self._metrics.slack_called,
        )
        return gateway

    async def _unless_stopped(self, knowing: Coroutine[Any, Any, Known]) -> Known | None:
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
        site = Site(
            us,
            settings.openhands_base_url,
            notifies=settings.notify_channel is not None,
            slots=settings.max_concurrent_runs,
            full_s=self._patience.full_s,
        )
        means = Means(
            database=database,
            gateway=gateway,
            openhands=openhands,
            site=site,
            clock=self._clock,
            patience=self._patience,
            wake_sender=asyncio.Event(),
            wake_poller=asyncio.Event(),
            metrics=self._metrics,
        )
        self.poller = poller = Poller(means)
        self.sender = sender = Sender(means, notify_channel=settings.notify_channel)
        self.dispatcher = dispatcher = Dispatcher(
            means,
            default_repository=settings.default_repository,
            is_ahead=lambda incoming: catch_up.is_ahead(incoming),  # noqa: PLW0108 - made below, the two need each other
        )
        catch_up = CatchUp(means, self._remember(database, dispatcher.lanes.wake.set))
        bolt = AsyncApp(authorize=authorize(settings, us), logger=bolt_log())
        bolt.use(
            self._measured(
                intake.middleware(
                    self._recognise(us),
                    catch_up.hear,
                    self._answer(gateway),
                    sender.hear,
                    us.user,
                )
            )
        )
        self.socket = self._parts.socket = socket = Socket(
            bolt, settings.slack_app_token.get_secret_value(), gateway, self._clock, self._patience
        )
        try:
            await self._loops(
                self._connected(socket, catch_up),
                catch_up.run(lambda: socket.heard_until),
                dispatcher.lanes.run(),
                sender.lanes.run(),
                poller.run(),
                self._team_channel(sender),
                database.kept(),
            )
        finally:
            await socket.close()
            for saying in self._saying:
                saying.cancel()
            await asyncio.gather(*self._saying, return_exceptions=True)

    async def _team_channel(self, sender: Sender) -> None:
        """Look the team's channel up beside the loops: nobody waits for it, and it ends as they do."""
        await sender.team_channel_known()
        await self._stop.wait()

    async def _loops(self, *loops: Any) -> None:
        """Run until asked to stop or until one of them ends with an error."""
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._parts.stopping = True
            for task in (stopping, *tasks):
                task.cancel()
            results = await asyncio.gather(stopping, *tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        log.info("app.stopped", asked=stopping in done)

    async def _connected(self, socket: Socket, catch_up: CatchUp) -> None:
        try:
            await socket.keep(self.ready.set, catch_up.missed)
        except (SlackLocked, SlackRefused) as err:
            raise SettingsWrong(
                [f"SLACK_APP_TOKEN is refused by Slack ({err.code}). How to get it: {how_to('slack_app_token')}."]
            ) from None

    def _measured(self, write_down: intake.Middleware) -> intake.Middleware:
        async def measured(body: dict[str, Any]) -> BoltResponse:
            with self._metrics.acknowledging():
                return await write_down(body)

        return measured

    def _recognise(self, us: Identity) -> intake.Recognise:
        def counted(body: Mapping[str, Any]) -> Incoming | None:
            incoming = recognise(body, us)
            if incoming is None:
                self._metrics.ignored(body)
            return incoming

        return counted

    def _answer(self, gateway: Gateway) -> intake.Answer:
        def answer(incoming: Incoming, text: str) -> None:
            saying = asyncio.create_task(said(gateway, incoming, text))
            self._saying.add(saying)
            saying.add_done_callback(self._saying.discard)

        return answer

    def _remember(self, database: Database, wake: Callable[[], None]) -> Callable[[Incoming], Awaitable[None]]:
        async def remember(incoming: Incoming) -> None:
            """Commit a request, if it is for us and new."""
            if self._parts.stopping:
                raise StoreUnavailable(perhaps_saved=False)
            if inbox.may_be_talk(incoming):
                async with database.reading() as tx:
                    if not await inbox.is_for_us(tx, incoming):
                        return
            if await inbox.add(database, incoming, self._clock.now()):
                self._metrics.requested(incoming.kind)
                wake()

        return remember


def bolt_log() -> logging.Logger:
    """Let Bolt say what went wrong, and no more: it warns of the token in the environment, which it is not to use."""
    logger = logging.getLogger("slack.bolt")
    logger.setLevel(logging.ERROR)
    return logger


async def said(gateway: Gateway, incoming: Incoming, text: str) -> None:
    """Say something to one person, when the database can't keep it; nobody can try that again."""
    try:
        if incoming.response_url is not None:
            await gateway.respond(incoming.response_url, text)
    except SlackError as err:
        log.warning("intake.not_answered", code=err.code)


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
