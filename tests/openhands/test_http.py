"""How a call's fate becomes an answer or an error."""

import asyncio
import gzip
import logging
from collections.abc import Sequence
from datetime import timedelta

import httpx
import pytest

from bot.core import errors
from bot.core.pacing import Patience
from bot.openhands.http import MAX_BYTES, Answer, Http, Limiter, may_call
from bot.openhands.v1_events import page_of
from tests.openhands.recorded import NOON, JumpingClock, Wire, client

READ, CHANGE = "GET", "POST"
HTML = {"content-type": "text/html"}


async def outcome(http: Http, method: str, **more: object) -> object:
    """Return a call's value, or its error with the words or seconds in it."""
    try:
        return (await http.ask(method, "/x")).value()
    except errors.OpenHandsError as error:
        return {"error": type(error).__name__, **{name: getattr(error, name) for name in more}}
    finally:
        await http.aclose()


@pytest.mark.parametrize("call", [READ, CHANGE])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_login_page_says_nothing_of_the_key(call: str, status: int) -> None:
    """It is a proxy's: nothing was done, and the server was not reached; OpenHands refuses a key in JSON."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, html="<html>Log in</html>")

    assert await outcome(client(answer), call) == {"error": "LoginPage"}


@pytest.mark.parametrize(
    ("status", "of_a_read", "of_a_change"),
    [
        (401, "Unauthorised", "Unauthorised"),
        (403, "Unauthorised", "Unauthorised"),
        (404, "NotFound", "NotFound"),
        (405, "NoSuchCall", "NoSuchCall"),
        (409, "Asleep", "Asleep"),
        (410, "Archived", "Archived"),
        (400, "Rejected", "Rejected"),
        (422, "Rejected", "Rejected"),
        (500, "Unavailable", "Unsure"),
        (502, "Unavailable", "Unsure"),
        (504, "Unavailable", "Unsure"),
        (503, "Unavailable", "Unavailable"),
        (302, "Moved", "Moved"),
        (308, "Moved", "Moved"),
        (304, "Unreadable", "Unreadable"),
    ],
)
async def test_a_status_tells_what_to_do_next(status: int, of_a_read: str, of_a_change: str) -> None:
    """A change that failed inside the server may have happened; a read may just be made again."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"detail": "no"}, headers={"Location": "http://elsewhere.test/"})

    assert await outcome(client(answer), READ) == {"error": of_a_read}
    assert await outcome(client(answer), CHANGE) == {"error": of_a_change}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>hello</html>", HTML),
        (b"", {}),
        (b'{"id": "1", ', {}),
        (b"\xff\xfe\x00", {}),
        (b"[" * 100_000, {}),
        (b" " * (MAX_BYTES + 1), {}),
        (gzip.compress(gzip.compress(b"[" + b" " * 10_000_000 + b"]")), {"content-encoding": "gzip, gzip"}),
    ],
    ids=["html", "empty", "cut off", "no text", "too deep", "too long", "packed twice"],
)
async def test_an_answer_that_is_no_json_is_unreadable(body: bytes, headers: dict[str, str]) -> None:
    """A change was taken all the same, perhaps: look before repeating it."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(body), headers=headers)

    assert (await outcome(client(answer), READ)) in ({"error": "Unreadable"}, {"error": "TooLong"})
    assert (await outcome(client(answer), CHANGE)) == {"error": "Unsure"}


@pytest.mark.parametrize(
    ("failure", "of_a_read", "of_a_change"),
    [
        (httpx.ConnectError("refused"), "Unavailable", "Unavailable"),
        (httpx.ConnectTimeout("slow"), "Unavailable", "Unavailable"),
        (httpx.ProxyError("no"), "Unavailable", "Unavailable"),
        (httpx.ReadTimeout("slow"), "Unavailable", "Unsure"),
        (httpx.ReadError("reset"), "Unavailable", "Unsure"),
        (httpx.WriteError("reset"), "Unavailable", "Unsure"),
        (httpx.RemoteProtocolError("cut off"), "Unavailable", "Unsure"),
    ],
)
async def test_a_connection_lost_after_sending_leaves_a_change_unsure(
    failure: Exception, of_a_read: str, of_a_change: str
) -> None:
    """Only what fails before anything was sent has surely not happened."""
    assert await outcome(client(Wire().then(READ, "/x", failure)), READ) == {"error": of_a_read}
    assert await outcome(client(Wire().then(CHANGE, "/x", failure)), CHANGE) == {"error": of_a_change}


async def test_answers_are_asked_for_as_they_are() -> None:
    """A server that packs them all the same is not read: a few bytes may unpack to any length."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["accept-encoding"])
        return httpx.Response(200, json={})

    await outcome(client(answer), READ)
    assert asked == ["identity"]


async def test_a_long_answer_does_not_hold_up_the_loop() -> None:
    """It is parsed beside it: whatever else runs gets its turns meanwhile."""
    items = MAX_BYTES // 3 - 1
    http = client(lambda _: httpx.Response(200, stream=httpx.ByteStream(b"[" + b"{}," * (items - 1) + b"{}]")))
    turns = 0

    async def counts() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(counts())
    assert len((await http.get("/x")).value()) == items
    counting.cancel()
    await http.aclose()
    assert turns > 5


@pytest.mark.parametrize(
    ("url", "hosts", "may"),
    [
        ("https://abc.runtime.example.com/api/conversations/1", (), True),
        ("http://localhost:8000/api", (), True),
        ("http://10.0.0.5:8000/api", (), True),
        ("http://169.254.169.254/latest/meta-data", (), False),
        ("http://[fe80::1]/", (), False),
        ("http://metadata.google.internal/", (), False),
        ("ftp://example.com/", (), False),
        ("https://user:word@example.com/", (), False),
        ("https://", (), False),
        ("http://[::1", (), False),
        ("https://abc.runtime.example.com/", ("*.runtime.example.com",), True),
        ("https://runtime.example.com.evil.example/", ("*.runtime.example.com", "runtime.example.com"), False),
        ("http://169.254.1.1/", ("169.254.1.1",), True),
    ],
)
def test_addresses_that_servers_name_are_called_only_where_they_may_lead(
    url: str, hosts: Sequence[str], *, may: bool
) -> None:
    assert may_call(url, hosts) is may


async def test_an_address_that_must_not_be_called_is_not() -> None:
    http = client(lambda _: httpx.Response(200, json={}))
    with pytest.raises(errors.Unreadable):
        await http.get("http://169.254.169.254/latest/meta-data", headers={})
    await http.aclose()


async def test_a_server_that_drips_is_left_after_the_whole_time() -> None:
    """The time-out is for the call, not for each part of its answer."""

    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
            while True:
                yield b" "
                await asyncio.sleep(0.01)

    http = client(
        lambda _: httpx.Response(200, stream=Dripping()),
        patience=Patience(openhands_timeout_s=0.05, openhands_calls_per_s=1000),
    )
    assert await outcome(http, CHANGE) == {"error": "Unsure"}


async def test_a_limit_on_calls_says_how_long_to_wait() -> None:
    """The recorded 429 names a second."""
    http = client(Wire("rate.01"))
    with pytest.raises(errors.TooFast) as found:
        (await http.get("/api/v1/app-conversations/count")).value()
    await http.aclose()
    assert found.value.retry_after_s == 1.0


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 1.0), ("7", 7.0), ("soon", 1.0), ("-1", 1.0), ("9" * 400, 3600.0)]
)
async def test_a_nonsense_wait_is_a_second(header: str | None, seconds: float) -> None:
    """What a 429 says is taken when it makes sense."""
    headers = {} if header is None else {"Retry-After": header}
    http = client(lambda _: httpx.Response(429, json={}, headers=headers))
    assert await outcome(http, READ, retry_after_s=0) == {"error": "TooFast", "retry_after_s": seconds}


async def test_a_full_account_is_not_a_limit_on_calls() -> None:
    """The cloud names the account's limit in the body of its 429."""
    detail = {"error": "CONCURRENCY_LIMIT_REACHED", "limit": 3, "current": 3}
    http = client(lambda _: httpx.Response(429, json={"detail": detail}))
    assert await outcome(http, CHANGE) == {"error": "AtCapacity"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "No such thing."}, "No such thing."),
        ({"detail": [{"msg": "Field required"}, {"msg": "Too short"}]}, "Field required; Too short"),
        ({"message": "Settings not found"}, "Settings not found"),
        ("Unable to access repo a/b", "Unable to access repo a/b"),
        ({"detail": "token ghp_" + "a" * 36}, "token [redacted]"),
        ({"detail": {"deep": 1}}, ""),
        ([], ""),
    ],
)
async def test_a_rejection_has_the_servers_words(body: object, words: str) -> None:
    """They are shown to people, so what looks like a token is taken out."""
    http = client(lambda _: httpx.Response(422, json=body))
    assert await outcome(http, CHANGE, words=0) == {"error": "Rejected", "words": words}


# --- the key ----------------------------------------------------------------------------------------------------


def header_wanted(name: str, value: str) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(
            {key: text for key, text in request.headers.items() if key in {"authorization", "x-session-api-key"}}
        )
        right = request.headers.get(name) == value
        return httpx.Response(200 if right else 401, json=0 if right else {"detail": "Unauthorized"})

    seen: list[dict[str, str]] = []
    transport = httpx.MockTransport(answer)
    transport.seen = seen  # type: ignore[attr-defined]
    return transport


async def test_the_header_in_which_the_key_works_is_kept() -> None:
    """The cloud wants a bearer, a self-hosted server its own header; the second is tried once."""
    transport = header_wanted("X-Session-API-Key", "the-key")
    http = client(transport)
    assert [(await http.get("/x")).value(), (await http.get("/x")).value()] == [0, 0]
    await http.aclose()
    own = {"x-session-api-key": "the-key"}
    assert transport.seen == [{"authorization": "Bearer the-key"}, own, own]  # type: ignore[attr-defined]


async def test_a_key_that_worked_and_is_refused_later_is_not_tried_differently() -> None:
    """Then it was taken back, and only an operator can help."""
    answers = iter([httpx.Response(200, json=0), httpx.Response(401, json={}), httpx.Response(401, json={})])
    http = client(lambda _: next(answers))
    await http.get("/x")
    with pytest.raises(errors.Unauthorised):
        (await http.get("/x")).value()
    assert http.key_works is False
    await http.aclose()
    assert len(list(answers)) == 1


async def test_a_call_refused_while_another_found_the_header_is_tried_in_it() -> None:
    """It is not refused for good."""
    asked, found = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if "X-Session-API-Key" in request.headers:
            return httpx.Response(200, json=0)
        if request.url.path == "/late":
            asked.set()
            await found.wait()
        return httpx.Response(401, json={"detail": "Unauthorized"})

    http = client(httpx.MockTransport(answer))
    late = asyncio.create_task(http.get("/late"))
    await asked.wait()
    early = await http.get("/early")
    found.set()
    assert [early.status, (await late).status] == [200, 200]
    await http.aclose()


async def test_without_a_key_no_header_is_sent() -> None:
    """A server without SESSION_API_KEY needs none."""
    transport = header_wanted("X-Session-API-Key", "")
    http = client(transport, key="")
    with pytest.raises(errors.Unauthorised):
        (await http.get("/x")).value()
    await http.aclose()
    assert transport.seen == [{}]  # type: ignore[attr-defined]


async def test_another_server_never_gets_our_key() -> None:
    """An agent server has its own; its address comes from an answer."""
    transport = header_wanted("X-Session-API-Key", "its-own")
    http = client(transport)
    await http.get("http://agent.test/x", headers={"X-Session-API-Key": "its-own"})
    await http.get("http://agent.test/x")
    await http.aclose()
    assert transport.seen == [{"x-session-api-key": "its-own"}, {}]  # type: ignore[attr-defined]


async def test_nothing_secret_is_logged_or_in_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Not the key, the query or the body; also where the libraries underneath would log them."""
    caplog.set_level(logging.DEBUG)
    http = client(Wire().then("POST", "/x", httpx.ReadError("secret-body at http://x/?secret-query")))
    with pytest.raises(errors.Unsure) as found:
        await http.ask("POST", "/x", body={"text": "secret-body"})
    await http.aclose()
    reading = client(lambda _: httpx.Response(200, json={"secret": "secret-answer"}))
    answer = await reading.get("/x", {"query": "secret-query"})
    await reading.aclose()
    assert str(found.value) == "ReadError"
    assert found.value.__suppress_context__
    assert "secret" not in caplog.text + repr(http) + repr(answer)


@pytest.mark.parametrize("url", ["gopher://x/", "http://", "http://[::1", "nonsense", "http://x:99999999/"])
async def test_an_address_that_is_none_is_unreadable(url: str) -> None:
    """Agent servers' addresses come from answers."""
    http = Http("http://127.0.0.1:9", "", clock=JumpingClock(), patience=Patience())
    with pytest.raises((errors.Unreadable, errors.Unavailable)):
        await http.get(url, headers={})
    await http.aclose()


async def test_a_refused_connection_is_unavailable() -> None:
    """Over the real network stack."""
    http = Http("http://127.0.0.1:9", "k", clock=JumpingClock(), patience=Patience(openhands_timeout_s=2))
    assert await outcome(http, CHANGE) == {"error": "Unavailable"}


# --- pace -------------------------------------------------------------------------------------------------------


async def test_calls_over_the_pace_wait_for_their_turn() -> None:
    """Eight at once, and the next when the first is a second old."""
    clock = JumpingClock()
    limiter = Limiter(8.0, clock)
    times = []
    for _ in range(17):
        await limiter.turn()
        times.append((clock.now() - NOON).total_seconds())
    assert times == [0.0] * 8 + [1.0] * 8 + [2.0]


async def test_a_pace_under_one_call_a_second_is_kept() -> None:
    """Fractions count."""
    clock = JumpingClock()
    limiter = Limiter(0.5, clock)
    await limiter.turn()
    await limiter.turn()
    assert clock.now() - NOON == timedelta(seconds=2)


async def test_each_server_has_its_own_pace() -> None:
    """An agent server is not the app server."""
    clock = JumpingClock()
    http = client(lambda _: httpx.Response(200, json=0), clock=clock, patience=Patience(openhands_calls_per_s=1))
    for url in ("/x", "http://agent.test:1/x", "http://agent.test:2/x"):
        await http.get(url, headers={})
    assert clock.now() == NOON
    await http.get("/y")
    await http.aclose()
    assert clock.now() == NOON + timedelta(seconds=1)


async def test_the_pace_of_a_server_that_is_gone_is_forgotten() -> None:
    """Each sandbox is a server of its own, and there is no end of them."""
    clock = JumpingClock()
    http = client(lambda _: httpx.Response(200, json={}), clock=clock)
    for number in range(300):
        clock.time += timedelta(minutes=1)
        await http.get(f"https://sandbox{number}.test/events", headers={})
    assert len(http._limiters) == 61
    await http.aclose()


# --- pages --------------------------------------------------------------------------------------------------------


def an_answer(body: object, *, too_long: bool = False) -> Answer:
    return Answer(
        status=200,
        changes=False,
        asked_at=NOON,
        readable=not too_long,
        body=None if too_long else body,
        too_long=too_long,
    )


async def test_a_page_that_is_too_long_is_asked_for_in_smaller_ones() -> None:
    """Its events may be long; the first of them are seen all the same."""
    asked: list[int] = []

    async def ask(limit: int) -> Answer:
        asked.append(limit)
        return an_answer({"items": [{}] * limit, "next_page_id": "2"}, too_long=limit > 2)

    page = await page_of(20, ask)
    assert (asked, len(page.items), page.next_page_id) == ([20, 2], 2, "2")


async def test_one_event_that_is_too_long_is_unreadable() -> None:
    async def ask(_limit: int) -> Answer:
        return an_answer({}, too_long=True)

    with pytest.raises(errors.TooLong):
        await page_of(100, ask)


async def test_no_more_events_are_read_than_were_asked_for() -> None:
    """Whoever sits in a sandbox may send a million."""

    async def ask(_limit: int) -> Answer:
        return an_answer({"items": [{}] * 100_000})

    assert len((await page_of(20, ask)).items) == 20
