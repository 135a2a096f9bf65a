"""`HTTP_PORT`: liveness, readiness and metrics. No texts, no secrets."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from bot.clock import Clock
from bot.core.errors import SettingsWrong, StoreUnavailable
from bot.openhands.http import Http
from bot.ops.metrics import Metrics, Moment, exposition
from bot.slack.gateway import Gateway
from bot.slack.socket import Socket
from bot.store.database import Database
from bot.store.stats import Standing, standing

ANSWER_S = 2.0
"""Time limit for the database: probes give up after a few seconds, so a later answer is useless."""


@dataclass(slots=True)
class Components:
    """What the endpoints report on; each is None until the bot has created it."""

    stopping: asyncio.Event
    database: Database | None = None
    gateway: Gateway | None = None
    openhands: Http | None = None
    socket: Socket | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Scopes the token lacks, each with what does not work without it."""


class Health:
    """Serves three endpoints on all interfaces, since probes come from outside the container."""

    def __init__(self, port: int, components: Components, metrics: Metrics, clock: Clock) -> None:
        self._port = port
        self._components = components
        self._metrics = metrics
        self._clock = clock
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._alive),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._numbers),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Open the port. Raises `SettingsWrong` if it can't be opened."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, port=self._port).start()
        except OSError as err:
            await self._runner.cleanup()
            raise SettingsWrong(
                [f"HTTP_PORT: {self._port} can't be opened ({err.strerror}). Stop what uses it, or set another one."]
            ) from None

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _alive(self, _request: web.Request) -> web.Response:
        """Return only that the event loop runs: a restart would not fix an outage of Slack."""
        return web.json_response({"alive": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        """Return whether requests arrive, can be stored and can be acted on."""
        good = {"process": "running", "slack": "connected", "database": "answers", "tokens": "accepted"}
        found = {
            "process": "stopping" if self._components.stopping.is_set() else "running",
            "slack": self._slack(),
            "database": await self._written(),
            "tokens": "refused" if self._refused() else "accepted",
        }
        about = {"ready": found == good, **found, "without": dict(self._components.lacking)}
        return web.json_response(about, status=200 if found == good else 503)

    def _slack(self) -> str:
        socket = self._components.socket
        if socket is None:
            return "connecting"
        return "connected" if socket.live else "disconnected"

    async def _written(self) -> str:
        if await self._standing() is None:
            return "silent"
        database = self._components.database
        return "answers" if database is not None and database.takes_writes else "takes nothing"

    def _refused(self) -> bool:
        gateway, openhands = self._components.gateway, self._components.openhands
        return bool(gateway and gateway.locked) or bool(openhands and openhands.key_refused)

    async def _numbers(self, _request: web.Request) -> web.Response:
        moment = Moment(
            now=self._clock.now(),
            connected=self._slack() == "connected",
            ended=self._components.socket.ended if self._components.socket else {},
            standing=await self._standing(),
        )
        return web.Response(body=exposition(self._metrics, moment), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _standing(self) -> Standing | None:
        """Return counts of what is in the tables; None if the database does not answer in time."""
        database = self._components.database
        if database is None:
            return None
        try:
            async with asyncio.timeout(ANSWER_S), database.reading() as tx:
                return await standing(tx)
        except (StoreUnavailable, TimeoutError):
            return None


@asynccontextmanager
async def answering(port: int | None, components: Components, metrics: Metrics, clock: Clock) -> AsyncIterator[None]:
    """Serve the endpoints on a port until the end of the block; None: no server. Raises `SettingsWrong`."""
    if port is None:
        yield
        return
    health = Health(port, components, metrics, clock)
    await health.start()
    try:
        yield
    finally:
        await health.close()
