"""The HTTP server: Web API, response URLs and the socket's address, with faults on demand."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from bot.simulator.slack.arguments import read_content
from bot.simulator.slack.delivery import Deliveries
from bot.simulator.slack.faults import Fault, Faults
from bot.simulator.slack.files import FILE, Files
from bot.simulator.slack.limits import Limits
from bot.simulator.slack.methods import TooFast, WebApi
from bot.simulator.slack.records import JSON, Call, Command, Refused
from bot.simulator.slack.workspace import Workspace

OnCall = Callable[[str, str, JSON], Awaitable[None]]

RESPONSES_MAX = 5
RESPONSES_LIFE = timedelta(minutes=30)
RESPONSE_URL = "response_url"  # its name in calls and faults, beside the Web API's methods
LOOK_EVERY_S = 0.02  # how soon a hanging answer notices that its caller is gone
_RESPONSE_ARGS = {"text", "blocks", "response_type", "replace_original", "delete_original", "parse", "link_names"}
_RESPONSE_ARGS |= {"unfurl_links", "unfurl_media", "thread_ts"}
_ERROR_PAGE = (
    "<!DOCTYPE html><html><head><title>Server Error | Slack</title></head><body>Something went wrong</body></html>"
)


@dataclass
class _ResponseUrl:
    command: Command
    typed: bool
    until: datetime
    uses: int = 0


class Server:
    """Runs on loopback. `port` survives stop and start, so a client finds the server again after an outage."""

    def __init__(self, workspace: Workspace, deliveries: Deliveries, limits: Limits) -> None:
        self.port = 0
        self.calls: list[Call] = []
        self.faults = Faults()
        self.on_call: OnCall | None = None
        self.handling = 0  # requests being handled, sockets aside
        self._workspace = workspace
        self._deliveries = deliveries
        self.files = Files(workspace)
        self._api = WebApi(workspace, self._socket_url, limits, self.files)
        self._response_urls: dict[str, _ResponseUrl] = {}
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    async def start(self, port: int) -> None:
        self._stopping.clear()
        app = web.Application(client_max_size=4 * 1024**2)
        app.router.add_route("*", "/api/{method}", self._web_api)
        app.router.add_post("/commands/{key}", self._respond)
        app.router.add_get("/files-pri/{file}/{name}", self._file)
        app.router.add_get("/link", self._deliveries.connect)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port or self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is None:
            return
        self._stopping.set()
        self._deliveries.close()
        await self._runner.cleanup()
        self._runner = None

    def new_response_url(self, command: Command, *, typed: bool = True) -> None:
        """Set the address for answers to a command, or (typed False) to a click, whose message may be replaced."""
        key = secrets.token_hex(12)
        command.response_url = f"http://127.0.0.1:{self.port}/commands/{key}"
        self._response_urls[key] = _ResponseUrl(command, typed, self._workspace.now() + RESPONSES_LIFE)

    def forget_expired(self) -> None:
        """Drop expired response URLs. They expire in the order they were made."""
        now = self._workspace.now()
        for key, known in list(self._response_urls.items()):
            if known.until > now:
                return
            del self._response_urls[key]

    def _socket_url(self) -> str:
        ticket = self._deliveries.new_ticket()
        return f"ws://127.0.0.1:{self.port}/link?ticket={ticket}&app_id={self._workspace.team.app_id}"

    async def _web_api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        try:
            args, token = await _read(request)
        except Refused as refused:
            return self._json({"ok": False, "error": refused.error})
        return await self._handle(
            request, method, args, lambda: self._json({"ok": True} | self._api.call(method, args, token))
        )

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        try:
            args, _ = await _read(request)
        except Refused as refused:
            return self._json({"ok": False, "error": refused.error}, status=400)
        key = request.match_info["key"]
        return await self._handle(
            request, RESPONSE_URL, args, lambda: self._json({"ok": True} | self._answer_command(key, args))
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["file"]
        return await self._handle(request, FILE, {"file": key}, lambda: self.files.download(key, request.headers))

    async def _handle(
        self, request: web.Request, method: str, args: JSON, act: Callable[[], web.Response]
    ) -> web.StreamResponse:
        """Handle one call, with its fault if there is one. `act` is atomic: it happens completely or not at all."""
        self.handling += 1
        call = Call(method, args, self._workspace.now())
        self.calls.append(call)
        try:
            await self._tell("before", method, args)
            fault = self.faults.take(method, args)
            if fault and not fault.after and (spoilt := await self._spoil(request, call, fault)):
                return spoilt
            response = self._answer(call, act)
            await self._tell("after", method, args)
            if fault and fault.after and (spoilt := await self._spoil(request, call, fault)):
                return spoilt
            return response  # noqa: TRY300 - the last of four ends, not what an else would be for
        except ConnectionError:  # the hook ended the call here
            return self._lost(request, call)
        finally:
            self.handling -= 1

    def _answer(self, call: Call, act: Callable[[], web.Response]) -> web.Response:
        try:
            answer = act()
        except Refused as refused:
            call.ok, call.error = False, refused.error
            status = 404 if call.method == RESPONSE_URL else 200
            return self._json({"ok": False, "error": refused.error} | refused.extra, status=status)
        except TooFast as limit:
            call.ok, call.error = False, "ratelimited"
            return self._too_many(limit.retry_after_s)
        call.ok = True
        return answer

    def _answer_command(self, key: str, args: JSON) -> JSON:
        """Accept an answer to a command, shown to one person, or to all with `response_type: in_channel`."""
        known = self._response_urls.get(key)
        if known is None or known.until <= self._workspace.now():
            raise Refused("expired_url")
        if known.uses >= RESPONSES_MAX:
            raise Refused("used_url")
        for unknown in sorted(args.keys() - _RESPONSE_ARGS):
            self._workspace.violations.append(f"{RESPONSE_URL}: argument not known here: {unknown}")
        if known.typed and (args.get("replace_original") or args.get("delete_original")):
            self._workspace.violations.append(f"{RESPONSE_URL}: a typed command cannot be replaced")
        self.show_answer(known.command, args, RESPONSE_URL)
        known.uses += 1
        known.command.responses.append(args)
        return {}

    def show_answer(self, command: Command, args: JSON, via: str) -> None:
        """Show what came back for a command. Raises Refused if Slack would show nothing."""
        content = read_content(self._workspace, args, parse_default="none")
        place = self._workspace.channel(command.channel)
        if args.get("response_type") != "in_channel":
            thread_ts = args.get("thread_ts")
            self._workspace.whisper(
                command.user, place.id, content.text, via, blocks=content.blocks, thread_ts=thread_ts
            )
            return
        message = self._workspace.post(
            place,
            self._workspace.bot,
            content.text,
            blocks=content.blocks,
            thread_ts=args.get("thread_ts"),
            notified=content.notified,
            subtype="bot_message",
        )
        self._workspace.tell_posted(message)

    async def _tell(self, phase: str, method: str, args: JSON) -> None:
        if self.on_call is not None:
            await self.on_call(phase, method, args)

    async def _hang(self, request: web.Request, fault: Fault) -> bool:
        """Wait as long as the fault says. Return False if the caller gave up or the server stops."""
        left_s = fault.hang_s or 0.0
        while left_s > 0:
            try:
                await asyncio.wait_for(self._stopping.wait(), min(left_s, LOOK_EVERY_S))
            except TimeoutError:
                left_s -= LOOK_EVERY_S
            if self._stopping.is_set() or request.transport is None or request.transport.is_closing():
                return False
        return True

    def _lost(self, request: web.Request, call: Call) -> web.Response:
        """Abort the connection without an answer."""
        call.ok, call.error = False, "no_answer"
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _spoil(self, request: web.Request, call: Call, fault: Fault) -> web.Response | None:
        """Wait as the fault says, then return its answer; None if the true one follows."""
        if not await self._hang(request, fault) or fault.drop:
            return self._lost(request, call)
        if not fault.replaces_answer:
            return None
        call.ok, call.error = False, fault.error or f"http_{fault.status or 502}"
        if fault.retry_after is not None:
            return self._too_many(fault.retry_after)
        if fault.html:
            return web.Response(text=_ERROR_PAGE, content_type="text/html", status=fault.status or 502)
        error = fault.error or "internal_error"
        return self._json({"ok": False, "error": error}, status=fault.status or 200)

    def _too_many(self, retry_after_s: int) -> web.Response:
        response = self._json({"ok": False, "error": "ratelimited"}, status=429)
        response.headers["Retry-After"] = str(retry_after_s)
        return response

    def _json(self, fields: Mapping[str, Any], status: int = 200) -> web.Response:
        headers = {
            "Date": format_datetime(self._workspace.now(), usegmt=True),
            "x-oauth-scopes": ",".join(sorted(self._workspace.scopes)),
            "x-slack-req-id": secrets.token_hex(8),
        }
        return web.json_response(fields, status=status, headers=headers)


async def _read(request: web.Request) -> tuple[JSON, str | None]:
    """Return arguments from query, form or JSON, and the token from header or arguments. Raises Refused."""
    args: JSON = dict(request.query)
    if request.content_type == "application/json":
        try:
            body = await request.json()
        except ValueError:
            raise Refused("invalid_json") from None
        if not isinstance(body, dict):
            raise Refused("json_not_object")
        args |= body
    else:
        args |= await request.post()
    in_args = args.pop("token", None)
    header = request.headers.get("Authorization", "")
    return args, header.removeprefix("Bearer ") or in_args
