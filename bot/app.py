"""Builds all parts, starts the loops, and shuts them down in order."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import structlog
from slack_bolt.app.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult

from bot import __version__
from bot.causes import trust_help
from bot.clock import Clock, WallClock
from bot.context import Context
from bot.core.errors import (
    OpenHandsError,
    SettingsWrong,
    SlackError,
    SlackLocked,
    SlackRefused,
    Unauthorised,
    Unreadable,
)
from bot.core.pacing import Patience
from bot.core.policy import OPEN
from bot.door import Door
from bot.effects import Links
from bot.inbound.catch_up import CatchUp
from bot.inbound.dispatcher import Dispatcher
from bot.inbound.intake import Intake
from bot.inbound.leavers import Leavers
from bot.inbound.poller import Poller
from bot.openhands.connect import LateOpenHands, wrong_address
from bot.openhands.http import Http
from bot.openhands.repositories import Repositories
from bot.ops import health, policy_file
from bot.ops.metrics import Metrics
from bot.outbound.sender import Sender
from bot.settings import Settings, how_to
from bot.slack.gateway import Gateway, session_of
from bot.slack.recognise import Identity
from bot.slack.scopes import REINSTALL, REQUIRED, lacking
from bot.slack.socket import Socket
from bot.slots import Limits
from bot.store import ahead, audit
from bot.store.address import read_address
from bot.store.database import Database, open_database

log = structlog.get_logger("app")

Known = TypeVar("Known")

OAUTH_VARIABLES = ("SLACK_CLIENT_ID", "SLACK_CLIENT_SECRET")
"""With both set, Bolt would silently become an app for many workspaces and drop our token."""


class Bot:
    """The whole bot: `run` works until `stop`."""

    def __init__(self, settings: Settings, clock: Clock | None = None, patience: Patience | None = None) -> None:
        self._settings = settings
        self._clock = clock or WallClock()
        self._patience = patience or Patience(
            poll_s=settings.poll_interval_s,
            stale_s=settings.stale_after_h * 3600,
            keep_runs_s=settings.retention_days * 86400,
        )
        self._metrics = Metrics()
        self._stop = asyncio.Event()
        self._rules = OPEN
        self._policy = ""
        """The fingerprint of the policy file in force."""
        self._policy_asked = asyncio.Event()
        self._components = health.Components(stopping=self._stop)
        self.dispatcher: Dispatcher | None = None
        self.sender: Sender | None = None
        self.poller: Poller | None = None
        self.socket: Socket | None = None
        self.ready = asyncio.Event()
        """Set once every loop runs and the socket is open."""

    def read_policy(self) -> None:
        """Read `POLICY_FILE` again, as a whole; a wrong file leaves the rules that are in force."""
        self._policy_asked.set()

    async def _policy_kept(self, ctx: Context) -> None:
        """Record which policy is in force, and read the file again whenever that is asked for."""
        while True:
            async with ctx.database.transaction() as tx:
                await audit.policy_in_force(tx, self._policy, ctx.clock.now())
            await self._policy_asked.wait()
            self._policy_asked.clear()
            self._read_policy(ctx)

    def _read_policy(self, ctx: Context) -> None:
        try:
            ctx.door.rules, self._policy = policy_file.read(self._settings.policy_file)
        except SettingsWrong as err:
            log.error(  # noqa: TRY400 - the problems say it all
                "policy.wrong", problems=err.problems, help="the rules stay as they were; mend it, then SIGHUP again"
            )
            return
        log.info("policy.read", file=str(self._settings.policy_file), rules=len(ctx.door.rules.rules))

    def stop(self) -> None:
        """Ask `run` to end: it takes no new requests and finishes calls under way; the next start does the rest."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`.

        Raises `SettingsWrong` when a token or the key is refused or the port is taken, `StoreInUse`, `StoreNewer`,
        `StoreReplaced`, and `StoreUnavailable` when the database can't be opened. Outages of Slack and OpenHands
        are waited out.
        """
        if all(os.environ.get(name) for name in OAUTH_VARIABLES):
            raise SettingsWrong(
                [f"{' and '.join(OAUTH_VARIABLES)} must not be set: they would replace SLACK_BOT_TOKEN."]
            )
        self._rules, self._policy = policy_file.read(self._settings.policy_file)
        async with health.answering(
            self._settings.http_host, self._settings.http_port, self._components, self._metrics, self._clock
        ):
            await self._run()

    async def _run(self) -> None:
        if (database := await self._unless_stopped(open_database(self._settings.database_url))) is None:
            return
        http = Http(
            self._settings.openhands_base_url,
            self._settings.openhands_api_key.get_secret_value(),
            clock=self._clock,
            patience=self._patience,
            called=self._metrics.openhands_called,
            agent_hosts=self._settings.agent_hosts,
        )
        openhands = LateOpenHands(http, self._settings.openhands_api, self._settings.hosting)
        self._components.database, self._components.openhands = database, http
        try:
            async with session_of(self._patience.slack_timeout_s) as session:
                gateway = self._gateway(session)
                if (us := await self._unless_stopped(self._known(gateway, openhands))) is not None:
                    await self._work(database, gateway, openhands, us)
        finally:
            await http.aclose()
            await database.close()

    def _gateway(self, session: aiohttp.ClientSession) -> Gateway:
        settings = self._settings
        self._components.gateway = gateway = Gateway(
            settings.slack_bot_token.get_secret_value(),
            settings.slack_api_url,
            session,
            self._clock,
            self._patience,
            called=self._metrics.slack_called,
        )
        return gateway

    async def _unless_stopped(self, knowing: Coroutine[Any, Any, Known]) -> Known | None:
        """Return the coroutine's result; None if `stop` comes first, even in the middle of a call."""
        known, stopping = asyncio.create_task(knowing), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([known, stopping], return_when=asyncio.FIRST_COMPLETED)
            return known.result() if known.done() else None
        finally:
            known.cancel()
            stopping.cancel()
            await asyncio.gather(known, stopping, return_exceptions=True)

    async def _known(self, gateway: Gateway, openhands: LateOpenHands) -> Identity:
        """Check the key, then ask Slack who we are."""
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
        except Unreadable:
            log.warning("openhands.not_there", help=wrong_address(self._settings.openhands_base_url))
        except (OpenHandsError, TimeoutError) as err:
            log.warning(
                "openhands.unreachable",
                error=type(err).__name__,
                cause=str(err) or f"no answer within {self._patience.probe_s:g} s",
                server=openhands.http.server,
                help=trust_help(str(err)) or "the bot starts anyway and tries on",
            )

    async def _identity(self, gateway: Gateway) -> Identity:
        """Ask Slack who we are, with backoff until it answers. Raises `SettingsWrong` for a refused token."""
        pause_s = self._patience.retry_first_s
        while True:
            try:
                us, scopes = await gateway.identity()
            except SlackLocked as err:
                raise SettingsWrong(
                    [f"SLACK_BOT_TOKEN is refused by Slack ({err.code}). How to get it: {how_to('slack_bot_token')}."]
                ) from None
            except SlackError as err:
                log.warning(
                    "slack.unreachable",
                    code=err.code,
                    cause=err.cause,
                    server=gateway.server,
                    again_in_s=pause_s,
                    **({"help": help_} if (help_ := trust_help(err.cause)) else {}),
                )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._patience.retry_slowest_s)
                continue
            if scopes:
                self._check(scopes)
            return us

    def _check(self, scopes: frozenset[str]) -> None:
        """Raise `SettingsWrong` if a required scope is missing; log what does not work without the others."""
        if missing := REQUIRED - scopes:
            names = ", ".join(sorted(missing))
            raise SettingsWrong([f"SLACK_BOT_TOKEN lacks scopes ({names}): {REINSTALL}."])
        self._components.lacking = lacking(scopes)
        if self._components.lacking:
            log.warning("slack.scopes_missing", without=dict(self._components.lacking), help=REINSTALL)

    async def _work(self, database: Database, gateway: Gateway, openhands: LateOpenHands, us: Identity) -> None:
        settings = self._settings
        log.info(
            "app.started",
            version=__version__,
            workspace=urlsplit(us.workspace_url).netloc,
            user=us.user,
            database=read_address(settings.database_url).name,
            port=settings.http_port,
        )
        ctx = Context(
            database=database,
            gateway=gateway,
            door=Door(gateway, us, self._rules),
            openhands=openhands,
            repositories=Repositories(openhands, self._clock, self._patience),
            links=Links(
                us,
                settings.openhands_base_url,
                notifies=settings.notify_channel is not None,
                public_url=settings.openhands_public_url,
            ),
            limits=Limits(
                slots=settings.max_concurrent_runs,
                full_s=self._patience.full_s,
                queued_per_person=settings.max_queued_per_person,
                runs_per_hour=settings.max_runs_per_hour,
            ),
            clock=self._clock,
            patience=self._patience,
            metrics=self._metrics,
            stopping=self._stop,
        )
        await self._clock_checked(database)
        intake = Intake(ctx)
        catch_up = CatchUp(ctx, intake.remember)
        await catch_up.begin()
        self.dispatcher = dispatcher = Dispatcher(
            ctx, default_repository=settings.default_repository, is_ahead=catch_up.is_ahead
        )
        self.poller = poller = Poller(ctx)
        self.sender = sender = Sender(ctx, notify_channel=settings.notify_channel)
        # A name, since Bolt reads every source file on the stack to make one up.
        bolt = AsyncApp(name="openhands", authorize=authorize(settings, us), logger=bolt_log())
        bolt.use(intake.middleware(catch_up.missed, catch_up.passed_over))
        self.socket = self._components.socket = socket = Socket(
            bolt, settings.slack_app_token.get_secret_value(), gateway, self._clock, self._patience
        )
        try:
            await self._loops(
                self._connected(socket, catch_up),
                catch_up.run(lambda: socket.heard_until),
                dispatcher.lanes.run(),
                sender.lanes.run(),
                poller.run(),
                Leavers(ctx).run(),
                self._policy_kept(ctx),
                self._team_channel(sender),
                ctx.repositories.run(),
                database.kept(),
            )
        finally:
            await socket.close()
            await intake.close()

    async def _clock_checked(self, database: Database) -> None:
        """Let nothing wait for a time that was written down before the clock was put back."""
        now = self._clock.now()
        async with database.transaction() as tx:
            if await ahead.is_ahead(tx, now):
                log.warning("clock.went_back", help="nothing is lost; look at this machine's clock")
                await ahead.drawn_back(tx, now)

    async def _team_channel(self, sender: Sender) -> None:
        """Look the team's channel up beside the loops, which do not wait for it, then wait for `stop` as they do."""
        await sender.team_channel_known()
        await self._stop.wait()

    async def _loops(self, *loops: Any) -> None:
        """Run the loops until `stop`, or until one of them ends; raise its error, and log those of the others."""
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stop.set()
            for task in (stopping, *tasks):
                task.cancel()
            results = await asyncio.gather(stopping, *tasks, return_exceptions=True)
        errors = [result for result in results if isinstance(result, Exception)]
        for other in errors[1:]:
            log.error("app.loop_failed", exc_info=other)
        if errors:
            raise errors[0]
        log.info("app.stopped", asked=stopping in done)

    async def _connected(self, socket: Socket, catch_up: CatchUp) -> None:
        try:
            await socket.keep(self.ready.set, catch_up.missed)
        except (SlackLocked, SlackRefused) as err:
            raise SettingsWrong(
                [f"SLACK_APP_TOKEN is refused by Slack ({err.code}). How to get it: {how_to('slack_app_token')}."]
            ) from None


def bolt_log() -> logging.Logger:
    """Return Bolt's logger, limited to errors: Bolt also warns that it does not use the token in the environment."""
    logger = logging.getLogger("slack.bolt")
    logger.setLevel(logging.ERROR)
    return logger


def authorize(settings: Settings, us: Identity) -> Callable[..., Awaitable[AuthorizeResult]]:
    """Return an `authorize` for Bolt that answers from our `auth.test` at start.

    Bolt by itself would call it at the first event, and drop that event if the call failed.
    """
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
