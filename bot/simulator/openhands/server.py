"""The local OpenHands as an HTTP server on this machine."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Literal, get_args

from aiohttp import web
from aiohttp.typedefs import Handler

from bot.simulator.openhands import (
    agent_server,
    catalogue,
    host,
    host_around,
    host_starts,
    v0,
    v1,
    v1_sandboxes,
    v1_starts,
)
from bot.simulator.openhands.faults import RATE, RATE_HOLDS_BACK_S, Fault, Faults, Rate
from bot.simulator.openhands.machine import NEW, Machine, Version
from bot.simulator.openhands.starts import LimitAnswers, Starts
from bot.simulator.openhands.state import Agent, Call, Conversation, bare
from bot.simulator.openhands.timers import Timers
from bot.simulator.openhands.wire import (
    CRASH,
    NOT_FOUND,
    Asked,
    Broken,
    Created,
    Kind,
    NoAnswer,
    Refused,
    Route,
    as_response,
)

HOST = "127.0.0.1"
TOO_MANY = {"message": "Too many requests"}
BODY_MAX = 64 * 1024**2  # bytes; the real one took a message with 4 MB of images, and names no limit


class LocalOpenHands(Starts):
    """OpenHands on this machine, in memory: as strict as the real one, with faults on demand.

    now: a clock that its owner moves by hand and then calls `tick`; None: the wall clock.
    api: "agent" is an Agent Server as people host it themselves, of one of two versions: see `machine`.
    agent: what an agent does by itself with each message, and with "" when it is told to continue; None: it works
    until a test says what it does next.
    lacks: kinds of calls that this server does not have yet, as older ones: their paths are unknown to it.
    start_seconds: how long a start takes; with 0 it is over at the next poll.
    limit: how many sandboxes may run; limit_answers: whether one more is refused or pauses the oldest.
    shared_sandbox: V1 conversations share one sandbox, where starting an id twice does not destroy it.
    providers: whether a git provider is connected; repositories: those that can be opened there, None for all;
    closed: those that can't, whatever `repositories` says.

    Most of these may be changed later, and so may these: `down`, `moved_to`, `runs_full`; `on_call`, called with "before" or "after" and the
    kind of each call, which may raise `NoAnswer` to lose the call or its answer; `events_lag_s`, `status_lag_s`,
    `approval_deaf_s`: three delays of the real server, 0 here unless a test sets them; `restarts_on_resume`, which
    varies between real servers.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] | None = None,
        api: Literal["v1", "v0", "both", "agent"] = "v1",
        version: Version = NEW,
        key: str | None = None,
        key_header: Literal["bearer", "session"] | None = None,
        agent: Agent | None = None,
        v0_events: bool = True,
        v0_stop: bool = True,
        v0_list: bool = True,
        lacks: Iterable[Kind] = (),
        start_seconds: float = 0.0,
        limit: int | None = None,
        limit_answers: LimitAnswers = "429",
        shared_sandbox: bool = False,
        providers: bool = True,
        repositories: Iterable[str] | None = None,
        closed: Iterable[str] = (),
        rate_limit: bool = True,
    ) -> None:
        super().__init__(
            Timers(now),
            agent,
            start_seconds=start_seconds,
            limit=limit,
            limit_answers=limit_answers,
            shared_sandbox=shared_sandbox,
            providers=providers,
            repositories=None if repositories is None else frozenset(repositories),
            closed=frozenset(closed),
            machine=Machine(version),
        )
        self.base_url = ""
        self.key = key
        self.key_header = key_header or ("session" if api == "agent" else "bearer")
        self.rate_limit = rate_limit
        self.calls: list[Call] = []
        self.down = False  # every connection is closed without an answer
        self.moved_to = ""  # every call is answered with a redirect to there
        self.on_call: Callable[[str, str], Awaitable[None]] | None = None
        self._api = api
        self._lacks = frozenset(lacks)
        self._v0 = v0.routes(with_events=v0_events, with_stop=v0_stop, with_list=v0_list)
        self._faults = Faults()
        self._broken_about: dict[tuple[str, str], int] = {}
        self._rate = Rate()
        self._under_way = 0
        self._hanging = 0
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._clock: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> None:
        """Listen on loopback. Port 0 picks a free one; see `base_url`."""
        app = web.Application(middlewares=[self._catch_all], client_max_size=BODY_MAX)
        app_server = (
            *v1_starts.ROUTES,
            *v1.ROUTES,
            *v1_sandboxes.ROUTES,
            *agent_server.ROUTES,
            *catalogue.ROUTES,
            *self._v0,
        )
        hosted = (*host_starts.ROUTES, *host.ROUTES, *host_around.ROUTES)
        for route in hosted if self._api == "agent" else app_server:
            app.router.add_route(route.method, route.path, partial(self._serve, route))
        # A caller that hangs up does not cancel its call: what it began continues, as on a real server.
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        self.base_url = f"http://{HOST}:{bound}"
        self._stopping.clear()
        self._clock = asyncio.create_task(self.timers.run())

    async def stop(self) -> None:
        """End every agent and close every connection."""
        self._stopping.set()
        for runner in self._runners:
            runner.cancel()
        await asyncio.gather(*self._runners, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._clock is not None:
            self._clock.cancel()
            with suppress(asyncio.CancelledError):
                await self._clock  # if it failed, its exception is raised here

    async def tick(self) -> None:
        """Do what is due by the clock, and let those who waited for it continue."""
        self.timers.do_what_is_due()
        await asyncio.sleep(0)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do until a call comes or the clock moves; an agent by itself may only `think`."""
        waiting = self._hanging + self.timers.parked
        return self._under_way == waiting and len(self._runners) == self._thinking and not self.timers.due

    def break_next(
        self,
        kind: str,
        *,
        status: int | None = None,
        body: object = None,
        html: bool = False,
        invalid_json: bool = False,
        drop: bool = False,
        hang_s: float | None = None,
        after: bool = False,
        times: int = 1,
        retry_after_s: int | None = None,
    ) -> None:
        """Make the next calls of this kind fail. after: the effect happens, but the answer is lost or replaced.

        status, body: answer this instead; html: a web page; invalid_json: half an object; drop: close the connection
        without an answer; hang_s: wait this many wall-clock seconds first, or before the true answer if `after`;
        retry_after_s: say so in the header of that name.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"no such kind of call: {kind}")
        self._faults.add(Fault(kind, status, body, html, invalid_json, drop, hang_s, after, times, retry_after_s))

    def break_about(self, c: Conversation, kind: Kind, *, status: int) -> None:
        """Make calls of this kind fail that ask about this conversation, also among others, until `recover`."""
        self._broken_about[kind, bare(c.id)] = status

    def recover(self) -> None:
        """Cancel the faults that are still to come."""
        self._faults.clear()
        self._broken_about.clear()

    def _status_about(self, kind: str, request: web.Request) -> int | None:
        """Return the status with which a call fails because of a conversation it asks about."""
        asked = [request.match_info.get("id", ""), *request.query.getall("ids", [])]
        found = (self._broken_about.get((kind, one.replace("-", ""))) for one in asked)
        return next((status for status in found if status is not None), None)

    # The wire

    @web.middleware
    async def _catch_all(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer unknown paths and methods in JSON, as the real server does."""
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as unserved:
            if self.down:
                return _hang_up(request)
            self.violations.append(f"unknown path: {request.method} {request.path}")
            call = self._note("other", request, await _read_body(request))
            call.status = unserved.status
            return as_response(unserved.status, {"detail": unserved.reason})

    async def _serve(self, route: Route, request: web.Request) -> web.StreamResponse:
        body = await _read_body(request)
        kind = route.kind if isinstance(route.kind, str) else route.kind(body)
        call = self._note(kind, request, body)
        if self.down:
            return _hang_up(request)
        if self.moved_to:
            call.status = 301
            return web.Response(status=301, headers={"Location": self.moved_to + request.path_qs})
        self._under_way += 1
        try:
            await self._tell("before", kind)
            _check_caller(request)
            response = await self._answer_or_break(route, kind, request, body)
            call.status = response.status
            await self._tell("after", kind)
        except NoAnswer:
            return _hang_up(request)
        except Exception as broken:
            self.violations.append(f"the simulator broke on {request.method} {request.path}: {broken!r}")
            raise
        finally:
            self._under_way -= 1
        return response

    def _note(self, kind: str, request: web.Request, body: object) -> Call:
        query = {name: request.query.getall(name) for name in request.query}
        call = Call(kind, request.method, request.path, query, body, self.timers.now())
        self.calls.append(call)
        return call

    async def _tell(self, phase: str, kind: str) -> None:
        if self.on_call is not None:
            await self.on_call(phase, kind)

    async def _answer_or_break(self, route: Route, kind: str, request: web.Request, body: object) -> web.Response:
        """Return the answer, or what a fault makes of it."""
        if (status := self._status_about(kind, request)) is not None:
            return as_response(status, CRASH)
        fault = self._faults.next(kind)
        if fault is not None and not fault.after:
            return await self._broken(fault, None)
        status, answer = (404, NOT_FOUND) if kind in self._lacks else await self._answer(route, request, body)
        response = as_response(status, answer)
        if answer is TOO_MANY:
            response.headers["Retry-After"] = "1"
        return response if fault is None else await self._broken(fault, response)

    async def _answer(self, route: Route, request: web.Request, body: object) -> tuple[int, object]:
        if self._api not in {route.api, "both"} and route.path.startswith(("/api/", "/server_info")):
            return 404, NOT_FOUND
        while (until := self.machine.stalled_until) is not None and until > self.timers.now():
            await self.timers.wait((until - self.timers.now()).total_seconds())
        if self.rate_limit and self._api != "agent" and not route.path.startswith("/agent/"):
            now = self._rate.count(self.timers.now())
            if now > 2 * RATE:
                return 429, TOO_MANY
            if now > RATE:
                await self.timers.hold_back(RATE_HOLDS_BACK_S)
        if route.needs_key and not self._has_key(request):
            return 401, self._unauthorised(route)
        self.timers.do_what_is_due()
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = {name: request.query.getall(name) for name in request.query}
        try:
            asked = Asked(query, dict(request.match_info), headers, body, self.base_url)
            answer = await route.handle(self, asked)
            return (201, answer.body) if isinstance(answer, Created) else (200, answer)
        except Refused as refused:
            return refused.status, refused.body

    def _has_key(self, request: web.Request) -> bool:
        if self.key is None:
            return True
        if self.key_header == "bearer":
            return request.headers.get("Authorization") == f"Bearer {self.key}"
        return request.headers.get("X-Session-API-Key") == self.key

    def _unauthorised(self, route: Route) -> object:
        """Return a 401's body. V0 in the cloud, where keys belong to users, names the error; all others do not."""
        if route.api == "v0" and self.key_header == "bearer":
            return {"error": "NoCredentialsError"}
        return {"detail": "Unauthorized"}

    async def _broken(self, fault: Fault, true_answer: web.Response | None) -> web.Response:
        if fault.hang_s is not None:
            await self._hang(fault.hang_s)
        if fault.drop:
            raise NoAnswer
        if fault.html:
            page = "<!doctype html><title>OpenHands</title>"
            return web.Response(status=fault.status or 200, text=page, content_type="text/html")
        if fault.invalid_json:
            return web.Response(status=fault.status or 200, text='{"id": "', content_type="application/json")
        if fault.status is not None:
            response = as_response(fault.status, fault.body if fault.body is not None else CRASH)
            if fault.retry_after_s is not None:
                response.headers["Retry-After"] = str(fault.retry_after_s)
            return response
        if true_answer is None:
            raise NoAnswer
        return true_answer

    async def _hang(self, seconds: float) -> None:
        """Keep the caller waiting, until the server stops at the latest."""
        self._hanging += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        finally:
            self._hanging -= 1


async def _read_body(request: web.Request) -> Any:
    text = await request.text()
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return Broken(text)


def _check_caller(request: web.Request) -> None:
    """Raise NoAnswer if the caller died while the hook ran: then the call must have no effect."""
    if request.transport is None:
        raise NoAnswer


def _hang_up(request: web.Request) -> web.Response:
    """Abort the connection; the returned response is never sent."""
    if request.transport is not None:
        with suppress(OSError):
            request.transport.abort()
    return web.Response()
