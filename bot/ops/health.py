"""`HTTP_PORT`: liveness, readiness and metrics. No texts, no secrets."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

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
FRESH_S = 5.0
"""How long one look at the database answers whoever asks: many who ask must not keep requests waiting."""
CONNECTIONS = 50
"""How many may be connected; who comes on top is turned away at once."""
OPEN_S = 15.0
"""How long a connection may stay open."""


class TurnedAway(asyncio.Protocol):
    """Closes a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


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
    """Serves three endpoints, however many ask, without taking time or connections from requests."""

    def __init__(
        self, host: str, port: int, components: Components, metrics: Metrics, *, clock: Clock, open_s: float
    ) -> None:
        self._open_s = open_s
        self._host = host
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
        self._listens: asyncio.Server | None = None
        self._looking = asyncio.Lock()
        self._look_after: datetime | None = None
        self._saw: Standing | None = None

    async def start(self) -> None:
        """Open the port. Raises `SettingsWrong` if it can't be opened."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listens = await loop.create_server(self._connection, self._host, self._port)
        except OSError as err:
            await self._runner.cleanup()
            problem = f"HTTP_PORT: {self._host}:{self._port} can't be opened ({os.strerror(err.errno or 0)}). "
            raise SettingsWrong(
                [f"{problem}Stop what uses it, or set another one; HTTP_HOST must be an address of this machine."]
            ) from None

    async def close(self) -> None:
        if self._listens is not None:
            self._listens.close()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        """Return what serves a new connection, for a while: also one that never sends a whole request ends."""
        server = self._runner.server
        if server is None or len(server.connections) >= CONNECTIONS:
            return TurnedAway()
        serves = server()
        asyncio.get_running_loop().call_later(self._open_s, serves.force_close)
        return serves

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
        """Return recent counts of what is in the tables; None if the database does not answer in time."""
        async with self._looking:
            now = self._clock.now()
            if self._look_after is None or now >= self._look_after:
                self._saw = await self._look()
                self._look_after = now + timedelta(seconds=FRESH_S) if self._components.database else None
            return self._saw

    async def _look(self) -> Standing | None:
        database = self._components.database
        if database is None:
            return None
        try:
            async with asyncio.timeout(ANSWER_S), database.reading() as tx:
                return await standing(tx)
        except (StoreUnavailable, TimeoutError):
            return None


@asynccontextmanager
async def answering(
    host: str, port: int | None, components: Components, metrics: Metrics, clock: Clock, *, open_s: float = OPEN_S
) -> AsyncIterator[None]:
    """Serve the endpoints on a port of an address until the end of the block; None: no server. Raises `SettingsWrong`."""
    if port is None:
        yield
        return
    health = Health(host, port, components, metrics, clock=clock, open_s=open_s)
    await health.start()
    try:
        yield
    finally:
        await health.close()
