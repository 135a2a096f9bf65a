"""The HTTP client for OpenHands: a call returns an `Answer`; an answer becomes its value or one of our errors.

Calls are not retried here, except once to find out which header a server takes the key in. No key, address, query or
body gets into an exception's text, so wrapped exceptions are dropped with `from None`.
"""

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from ipaddress import ip_address
from itertools import islice
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from bot.causes import cause
from bot.clock import Backwards, Clock
from bot.core.errors import (
    Archived,
    Asleep,
    AtCapacity,
    LoginPage,
    Moved,
    NoSuchCall,
    NotFound,
    OpenHandsError,
    OutOfBudget,
    OverQuota,
    Rejected,
    TooFast,
    TooLong,
    Unauthorised,
    Unavailable,
    Unreadable,
    Unsure,
)
from bot.core.mrkdwn import clean, redact, shorten
from bot.core.pacing import Patience
from bot.openhands import Before, nothing
from bot.openhands.recent import Recent
from bot.trust import trusted

MAX_BYTES = 2_000_000  # of one answer; a page of events with long outputs has some hundred thousand
LONG_BYTES = 100_000  # of an answer that is parsed in a thread, so that the loop goes on meanwhile
MAX_ITEMS = 1000  # of a list in an answer; pages of a hundred are asked for
WORDS_LENGTH = 300  # characters of the server's own words
LONGEST_RETRY_S = 3600.0  # the cap on Retry-After; a longer one is nonsense
RETRY_AFTER_S = 1.0  # if a 429 has no Retry-After; the value that servers were seen to send

DAY_LIMIT = "daily_conversation_limit_reached"
BUDGET = re.compile("budget|credit", re.IGNORECASE)

METADATA = frozenset({"metadata", "metadata.google.internal", "instance-data"})
"""Names under which clouds keep a machine's own credentials."""

SESSION_HEADER = "X-Session-API-Key"
BEARER = "Authorization"

# Failures before anything was sent; any other may have come after.
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_NO_PROXY_TO = ("all://localhost", "all://127.0.0.1", "all://[::1]")  # a proxy can't reach our own machine

Model = TypeVar("Model", bound=BaseModel)
Called = Callable[[int | None], None]


def nobody_counts(_status: int | None) -> None:
    """Ignore a call: the default where nobody counts calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A server's answer to one call."""

    status: int
    changes: bool
    """The call was not a GET, so it may have changed something."""
    asked_at: datetime
    """Our clock when the request was sent."""
    readable: bool
    """The body is JSON."""
    body: Any = field(default=None, repr=False)
    """The parsed JSON; None if the body is not JSON."""
    too_long: bool = False
    """The body was not read, since it has more than `MAX_BYTES`."""
    page: bool = False
    """The body is a web page: OpenHands' own answers are none."""
    retry_after_s: float | None = None
    leads_to: str = ""
    """For a redirect: scheme, host and port of its target, without what else may stand there."""

    @property
    def words(self) -> str:
        """The server's own explanation, cleaned, redacted and shortened; empty if there is none."""
        found: Any = self.body
        if isinstance(found, dict):
            found = found.get("detail") or found.get("message") or found.get("error")
        if isinstance(found, list):  # a validation error: one entry per field
            found = "; ".join(str(one["msg"]) for one in found if isinstance(one, dict) and "msg" in one)
        return shown_words(found)

    @property
    def no_route(self) -> bool:
        """Whether the server has no such call: the web framework's own words for a path that no code serves."""
        return self.status == 404 and self.body == {"detail": "Not Found"}

    def value(self) -> Any:
        """Return the JSON of a success; otherwise raise `error()`."""
        if 200 <= self.status < 300 and self.readable:
            return self.body
        raise self.error()

    def error(self) -> OpenHandsError:
        """Return the error that an answer without a value means, for calls without rules of their own."""
        match self.status:
            case 401 | 403 if self.page:
                return LoginPage()
            case 401:
                return Unauthorised("401")
            case 402:
                return OutOfBudget("402")
            case 403 if self.readable and self._names_budget:
                return OutOfBudget("403")
            case 403 if self.readable:
                return Unauthorised("403")
            case 429:
                return self._too_many()
            case 503:
                return Unavailable("503")
            case status if status >= 500:
                return Unsure(str(status)) if self.changes else Unavailable(str(status), faltered=True)
            case status if status < 300 and self.too_long and not self.changes:
                return TooLong("too long")
            case status if status < 300:
                return Unsure("an answer that can't be read") if self.changes else Unreadable("not JSON")
            case 301 | 302 | 303 | 307 | 308:
                return Moved(self.leads_to)
            case _ if not self.readable:
                return Unreadable(f"{self.status}, not JSON")
            case 404:
                return NotFound("404")
            case 405:
                return NoSuchCall("405")
            case 409:
                return Asleep("409")
            case 410:
                return Archived("410")
            case status if status >= 400:
                return Rejected(self.words)
            case _:
                return Unreadable(str(self.status))

    @property
    def _detail(self) -> Mapping[str, Any]:
        found = self.body.get("detail") if isinstance(self.body, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def _names_budget(self) -> bool:
        return bool(BUDGET.search(str(self._detail.get("code") or self._detail.get("error") or "")))

    def _too_many(self) -> OpenHandsError:
        """Return whether a 429 is one of the account's limits, which the body names, or the limit on calls."""
        detail = self._detail
        if detail.get("code") == DAY_LIMIT:
            return OverQuota(_time(detail.get("reset_at")), _of(detail.get("used"), detail.get("limit")))
        if self._names_budget:
            return OutOfBudget("429")
        if "error" in detail:
            return AtCapacity("no free slot")
        return TooFast(RETRY_AFTER_S if self.retry_after_s is None else self.retry_after_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    method: str
    url: str
    params: Mapping[str, Any] | None = field(repr=False)
    body: Mapping[str, Any] | None = field(repr=False)
    timeout_s: float


def shown_words(found: Any) -> str:
    """Return a server's words cleaned, redacted and shortened; empty if they are no text."""
    return shorten(redact(clean(found)), WORDS_LENGTH) if isinstance(found, str) else ""


def read_as(model: type[Model], value: Any) -> Model:
    """Return a value as a model. Raises `Unreadable`, without pydantic's text, since that quotes the answer."""
    try:
        return model.model_validate(value)
    except ValidationError:
        raise Unreadable(f"not a {model.__name__}") from None


def readable(model: type[Model], values: Iterable[Any]) -> Iterator[Model]:
    """Yield the values that are of this shape, of at most `MAX_ITEMS`: one of another hides none of its neighbours."""
    for value in islice(values, MAX_ITEMS):
        with suppress(ValidationError):
            yield model.model_validate(value)


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


OR_NONE = WrapValidator(_or_none)
"""For parts that only adorn: one of an odd shape counts as missing, and does not hide the rest."""


class Limiter:
    """A sliding-window rate limiter: first come, first served."""

    def __init__(self, calls_per_s: float, clock: Clock) -> None:
        calls = max(1, int(calls_per_s))
        self._window = timedelta(seconds=calls / calls_per_s)
        self._slots: deque[datetime] = deque(maxlen=calls)
        self._back = Backwards()
        self._clock = clock

    async def turn(self) -> None:
        """Wait until one more call is allowed. Calls are admitted in the order they asked."""
        now = slot = self._clock.now()
        if self._back.by(now) is not None:
            self._slots.clear()
        if len(self._slots) == self._slots.maxlen:
            slot = max(now, self._slots[0] + self._window)
        self._slots.append(slot)
        if slot > now:
            await self._clock.wait(None, slot)


class Http:
    """The client: base address, key, time-outs and rate limits. Close it when done."""

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        clock: Clock,
        patience: Patience,
        transport: httpx.AsyncBaseTransport | None = None,
        called: Called = nobody_counts,
        agent_hosts: Sequence[str] = (),
    ) -> None:
        """Create the client; nothing is sent yet.

        base_url: of the app server, without `/api`.
        key: empty if the server needs none; then no header is sent.
        transport: replaces the network, for tests.
        called: is told each call's status; None if no answer came.
        agent_hosts: the hosts, `*` for any part, to which full addresses may lead; none: to all but link-local ones.
        """
        self.base_url = base_url.rstrip("/")
        self.clock = clock
        self.patience = patience
        self.key_works = False
        """A call with this key, in the header now used, has succeeded."""
        self.key_refused = False
        """The latest answer that says anything about the key refused it."""
        # The cloud takes the key as a bearer token, a self-hosted server with SESSION_API_KEY in its own header.
        self._forms = ({BEARER: f"Bearer {key}"}, {SESSION_HEADER: key}) if key else ({}, {})
        self._form = 0
        self._called = called
        self._agent_hosts = agent_hosts
        self._limiters = Recent[str, Limiter](clock)  # each sandbox is a server of its own
        for name in ("httpx", "httpcore"):  # they log headers, and addresses with their queries
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = httpx.AsyncClient(
            transport=transport,
            verify=trusted(),
            mounts=None if transport else dict.fromkeys(_NO_PROXY_TO),
            limits=httpx.Limits(max_connections=None),  # a message may hold one for 30 s; the limiter bounds the rate
            headers={
                "User-Agent": "openhands-for-slack",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # packed answers are not read: a small one may unpack to any length
            },
        )

    @property
    def server(self) -> str:
        """Host and port of the server, without any secret that its address may contain."""
        return origin(self.base_url).rpartition("://")[2]

    @property
    def as_session(self) -> Mapping[str, str]:
        """The header in which an Agent Server takes the key; empty without a key."""
        return self._forms[1]

    async def aclose(self) -> None:
        await self._client.aclose()

    async def get(
        self, url: str, params: Mapping[str, Any] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a GET; see `ask`."""
        return await self.ask("GET", url, params=params, headers=headers)

    async def post(
        self,
        url: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        before: Before = nothing,
    ) -> Answer:
        """Send a POST; see `ask`."""
        return await self.ask("POST", url, body=body, headers=headers, timeout_s=timeout_s, before=before)

    async def ask(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        before: Before = nothing,
    ) -> Answer:
        """Make one call and return the answer, whatever its status.

        url: a path of the app server, or a full address elsewhere, which needs its own `headers`: our key is not sent.
        timeout_s: for the whole call; None: `Patience.openhands_timeout_s`.
        before: awaited just before the call goes out; if it raises, nothing is sent.
        Raises `Unavailable` (nothing was sent, or a GET failed), `Unsure` (the answer to a change was lost) and
        `Unreadable` (`url` is not an address, or one that must not be called).
        """
        if not url.startswith("/") and not may_call(url, self._agent_hosts):
            raise Unreadable("not an agent server's address")
        ours = url.startswith("/") and headers is None
        call = _Call(
            method=method,
            url=self.base_url + url if url.startswith("/") else url,
            params=params,
            body=body,
            timeout_s=self.patience.openhands_timeout_s if timeout_s is None else timeout_s,
        )
        form = self._form
        answer = await self._once(call, self._forms[form] if ours else headers, before)
        # Once a header form has worked, a 401 is about the key, unless the form was found during this call.
        open_question = not self.key_works or form != self._form
        if ours and self._forms[0] and _key_refused(answer) and open_question:
            answer = await self._once(call, self._forms[1 - form], nothing)
            if not _key_refused(answer):
                self._form = 1 - form
        if ours and 200 <= answer.status < 300 and answer.readable:
            self.key_works, self.key_refused = True, False
        elif ours and method == "GET" and _key_refused(answer):
            # Even if the key worked before: a refused GET can only be about the key.
            self.key_works, self.key_refused = False, True
        return answer

    async def _once(self, call: _Call, headers: Mapping[str, str] | None, before: Before) -> Answer:
        await self._limiter(call.url).turn()
        await before()
        status = None
        try:
            answer = await self._answered(call, headers)
            status = answer.status
        finally:
            self._called(status)
        return answer

    async def _answered(self, call: _Call, headers: Mapping[str, str] | None) -> Answer:
        changes = call.method != "GET"
        asked_at = self.clock.now()
        try:
            async with (
                asyncio.timeout(call.timeout_s),
                self._client.stream(
                    call.method,
                    call.url,
                    params=call.params,
                    json=call.body,
                    headers=headers,
                    # Half for connecting, so that its time-out fires first: it proves that nothing was sent.
                    timeout=httpx.Timeout(call.timeout_s, connect=call.timeout_s / 2),
                ) as response,
            ):
                content = await _bounded(response)
        except _NOTHING_SENT as failure:
            raise Unavailable(cause(failure)) from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise Unreadable("not an address") from None
        except (httpx.HTTPError, TimeoutError) as failure:
            lost = cause(failure)
            raise (Unsure(lost) if changes else Unavailable(lost, faltered=True)) from None
        found, readable = await _parsed(content or b"")
        return Answer(
            status=response.status_code,
            changes=changes,
            asked_at=asked_at,
            readable=readable,
            body=found,
            too_long=content is None,
            page=response.headers.get("Content-Type", "").lower().startswith("text/html"),
            retry_after_s=_seconds(response.headers.get("Retry-After")),
            leads_to=_target(response),
        )

    def _limiter(self, url: str) -> Limiter:
        server = origin(url)
        limiter = self._limiters.get(server) or Limiter(self.patience.openhands_calls_per_s, self.clock)
        self._limiters.put(server, limiter)
        return limiter


def _time(said: Any) -> datetime | None:
    """Return a time in an answer, in UTC where it names no zone; None if it is none."""
    try:
        found = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _of(used: Any, limit: Any) -> str:
    """Return how much of a limit is used, if an answer says it in numbers."""
    return f"{used} of {limit} used" if type(used) is int and type(limit) is int else ""


def _target(response: httpx.Response) -> str:
    """Return the origin a redirect leads to; a path leads to the server's own. Empty if there is none."""
    location = response.headers.get("Location")
    if location is None:
        return ""
    try:
        return origin(str(response.url.join(location)))
    except httpx.InvalidURL:
        return ""


def origin(url: str) -> str:
    """Return an address's scheme, host and port; the address itself if it can't be parsed."""
    try:
        read = httpx.URL(url)
    except httpx.InvalidURL:
        return url
    return f"{read.scheme}://{read.netloc.decode()}"


def may_call(url: str, hosts: Sequence[str]) -> bool:
    """Return whether an address that a server named may be called, with the key it gave for it.

    hosts: see `Http`. Without them, any but link-local ones, where clouds keep a machine's own credentials.
    """
    try:
        read = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    if read.scheme not in {"http", "https"} or not read.host or read.userinfo:
        return False
    if hosts:
        return any(fnmatchcase(read.host, one) for one in hosts)
    try:
        return not ip_address(read.host).is_link_local
    except ValueError:
        return read.host not in METADATA


def _key_refused(answer: Answer) -> bool:
    """Return whether the key was refused. A V0 server's refusal of a repository is a 401 too, with a bare string."""
    return answer.status == 401 and not isinstance(answer.body, str)


async def _bounded(response: httpx.Response) -> bytes | None:
    """Return the body, empty if it is packed although we asked for it plain; None if it is longer than `MAX_BYTES`."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return b""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > MAX_BYTES:
            return None
    return bytes(content)


async def _parsed(content: bytes) -> tuple[Any, bool]:
    """Return the JSON in a body, and whether there is any."""
    try:
        long = len(content) > LONG_BYTES
        return (await asyncio.to_thread(json.loads, content) if long else json.loads(content)), True
    except (ValueError, RecursionError):
        return None, False


def _seconds(header: str | None) -> float | None:
    """Return a `Retry-After` in seconds; None also for a date, which OpenHands never sends."""
    if header is None or not (header.isascii() and header.isdigit()):
        return None
    return min(float(header), LONGEST_RETRY_S)
