"""An OpenHands that has only the two calls of the published V0 guide."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler

HOST = "127.0.0.1"
FIELDS = {"initial_user_msg", "repository"}


@dataclass(eq=False)
class Run:
    """One conversation. This server knows only whether its runtime is up."""

    id: str
    message: str
    repository: str | None
    created_at: datetime
    status: str = "RUNNING"


class BareOpenHands:
    """POST /api/conversations and GET /api/conversations/{id}, with a Bearer key; every other request gets a 404."""

    def __init__(self, *, key: str = "key", now: Callable[[], datetime] | None = None) -> None:
        self.key = key
        self.base_url = ""
        self.runs: dict[str, Run] = {}
        self._now = now or (lambda: datetime.now(UTC))
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._gate])
        app.router.add_route("POST", "/api/conversations", self._begin)
        app.router.add_route("GET", "/api/conversations/{id}", self._look)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, port).start()
        bound: int = self._runner.addresses[0][1]
        self.base_url = f"http://{HOST}:{bound}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def stop_run(self, identifier: str) -> None:
        """End the runtime, without saying whether the work was done."""
        self.runs[identifier].status = "STOPPED"

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is not None:
            return web.json_response({"detail": "Not Found"}, status=404)
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "NoCredentialsError"}, status=401)
        return await handler(request)

    async def _begin(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        if body.keys() - FIELDS or not isinstance(body.get("initial_user_msg"), str):
            return web.json_response({"detail": "Unprocessable Entity"}, status=422)
        run = Run(uuid4().hex[:7], body["initial_user_msg"], body.get("repository"), self._now())
        self.runs[run.id] = run
        return web.json_response({"status": "ok", "conversation_id": run.id})

    async def _look(self, request: web.Request) -> web.Response:
        run = self.runs.get(request.match_info["id"])
        if run is None:
            return web.json_response(None)
        created_at = run.created_at.isoformat()
        return web.json_response(
            {
                "conversation_id": run.id,
                "title": "",
                "created_at": created_at,
                "last_updated_at": created_at,
                "status": run.status,
                "selected_repository": run.repository,
                "trigger": "openhands_api",
            }
        )
