"""Which API a server speaks."""

import asyncio
from typing import Any, Literal

import httpx
import pytest
import structlog

from bot.core import errors
from bot.openhands.connect import NO_CONVERSATION, Asked, LateOpenHands, connect, wrong_address
from tests.openhands.recorded import Wire, client, exchange, response_of

COUNT = "/api/v1/app-conversations/count"
LIST = "/api/conversations"
LOOKUP = f"/api/conversations/{NO_CONVERSATION}"
PAGE = httpx.Response(200, html="<html>OpenHands</html>")


def server(count: Any, listed: Any = None, looked_up: Any = None) -> Wire:
    """Answer the probes, each with a recording or with something made up. It is no Agent Server."""
    wire = Wire("app.04")
    for path, query, answer in ((COUNT, {}, count), (LIST, {"limit": 1}, listed), (LOOKUP, {}, looked_up)):
        if answer is not None:
            wire.then("GET", path, response_of(exchange(answer)) if isinstance(answer, str) else answer, query=query)
    return wire


async def outcome(wire: Wire, api: Asked) -> object:
    http = client(wire)
    try:
        return str((await connect(http, api)).api)
    except errors.OpenHandsError as error:
        return type(error)
    finally:
        await http.aclose()


@pytest.mark.parametrize(
    ("count", "listed", "found"),
    [
        ("app.07", None, "v1"),
        ("finished.26", None, "v1"),
        ("auth.01", None, errors.Unauthorised),
        ("v0-only.01", "v0-only.03", "v0"),
        ("v0-only.01", "v0-auth.01", errors.Unauthorised),
        ("v0-only.01", httpx.Response(405, json={"detail": "Method Not Allowed"}), "v0"),
        ("v0-only.01", PAGE, errors.Unreadable),
        (PAGE, "v0-only.03", "v0"),
        (PAGE, PAGE, errors.Unreadable),
        (httpx.Response(200, json={"count": 1}), "v0-only.03", "v0"),
        (httpx.Response(200, json=True), "v0-only.03", "v0"),
        (httpx.Response(302, headers={"Location": "/login"}), None, errors.Moved),
        (httpx.Response(500, text="Internal Server Error"), None, errors.Unavailable),
        (httpx.Response(503, html="<html>soon</html>"), None, errors.Unavailable),
        (httpx.ConnectError("refused"), None, errors.Unavailable),
        (httpx.ReadTimeout("slow"), None, errors.Unavailable),
        ("rate.01", None, errors.TooFast),
        ("v0-only.01", httpx.Response(502), errors.Unavailable),
    ],
)
async def test_a_server_is_known_by_what_it_answers(count: Any, listed: Any, found: object) -> None:
    """V1 counts; a status alone does not decide, since a server with its web page answers any GET with 200."""
    assert await outcome(server(count, listed), "auto") == found


@pytest.mark.parametrize(
    ("looked_up", "found"),
    [
        ("v0-unknown.01", "v0"),
        ("v0-old.17", "v0"),
        (httpx.Response(404, json={"detail": "Conversation 0000 not found"}), "v0"),
        (httpx.Response(400, json={"detail": "malformed id"}), "v0"),
        ("v0-auth.01", errors.Unauthorised),
        ("app.05", errors.Unreadable),
        (httpx.Response(405, json={"detail": "Method Not Allowed"}), errors.Unreadable),
        (PAGE, errors.Unreadable),
        (httpx.Response(503), errors.Unavailable),
    ],
)
async def test_without_a_list_it_must_know_of_conversations(looked_up: Any, found: object) -> None:
    """The guide names no list. Not found twice is no V0: any web server says that to an address with a path too much."""
    assert await outcome(server("v0-only.01", "app.05", looked_up), "auto") == found


@pytest.mark.parametrize(
    ("base_url", "advice"),
    [
        (
            "https://openhands.test/conversations",
            "OPENHANDS_BASE_URL is the server's address alone: leave out /conversations",
        ),
        ("https://openhands.test:3000/api/", "OPENHANDS_BASE_URL is the server's address alone: leave out /api"),
        (
            "https://openhands.test",
            "look at OPENHANDS_BASE_URL; is it an old server? OPENHANDS_API=v0 says so",
        ),
    ],
)
def test_a_path_in_the_address_is_the_first_to_be_suspected(base_url: str, advice: str) -> None:
    """It was copied from the browser."""
    assert wrong_address(base_url) == advice


@pytest.mark.parametrize(
    ("api", "count", "listed", "found"),
    [
        ("v1", "app.07", None, "v1"),
        ("v1", "v0-only.01", None, errors.Unreadable),
        ("v1", PAGE, None, errors.Unreadable),
        ("v1", "auth.01", None, errors.Unauthorised),
        ("v0", None, "v0-only.03", "v0"),
        ("v0", None, "app.05", "v0"),
        ("v0", None, PAGE, "v0"),
        ("v0", None, "v0-auth.02", errors.Unauthorised),
        ("v0", None, httpx.ConnectError("refused"), errors.Unavailable),
    ],
)
async def test_an_api_that_was_chosen_is_only_tried(
    api: Literal["v1", "v0"], count: Any, listed: Any, found: object
) -> None:
    """The key must work, and V1 must be there; V0 has no call that must be."""
    assert await outcome(server(count, listed), api) == found


@pytest.mark.parametrize(
    ("info", "count", "found"),
    [
        ("as-fresh.04", "as-auth.10", "agent"),
        ("as-old-fresh.04", "as-auth.10", "agent"),
        ("as-fresh.04", "as-auth.01", errors.Unauthorised),
        ("as-fresh.04", "as-auth.14", errors.Unreadable),
        ("app.04", None, errors.Unreadable),
        ("as-auth.14", None, errors.Unreadable),
        (PAGE, None, errors.Unreadable),
        (httpx.ConnectError("refused"), None, errors.Unavailable),
    ],
)
@pytest.mark.parametrize("api", ["auto", "agent"])
async def test_an_agent_server_tells_its_title_and_must_take_the_key(
    api: Asked, info: Any, count: Any, found: object
) -> None:
    """To whoever asks, so that alone proves no key; whoever has no title is looked at as before, unless told not to."""
    wire = Wire()
    for path, answer in (("/server_info", info), ("/api/conversations/count", count)):
        if answer is not None:
            wire.then("GET", path, response_of(exchange(answer)) if isinstance(answer, str) else answer)
    if api == "auto" and count is None:
        wire.then("GET", COUNT, response_of(exchange("app.07")))
        found = "v1" if found is errors.Unreadable else found
    assert await outcome(wire, api) == found


@pytest.mark.parametrize("count", ["as-fresh.07", PAGE])
async def test_an_agent_server_behind_something_that_hides_what_it_tells_is_known_by_its_list(count: Any) -> None:
    """It wants ids there. Who says that it is V0 is believed."""
    assert await outcome(server(count, "as-fresh.08"), "auto") == "agent"
    assert await outcome(server(None, "as-fresh.08"), "v0") == "v0"


async def test_the_key_is_not_shown_to_who_asks_for_none() -> None:
    """An answer without a key would count as one with it, in whichever header was tried first."""
    wire = Wire("as-fresh.04").then("GET", "/api/conversations/count", response_of(exchange("as-auth.10")))
    await outcome(wire, "auto")
    first, second = wire.requests
    shown = [{"authorization", "x-session-api-key"} & set(one.headers) for one in (first, second)]
    assert (shown[0], bool(shown[1])) == (set(), True)


async def test_which_api_was_found_is_logged() -> None:
    """Once, at the start."""
    with structlog.testing.capture_logs() as logs:
        await outcome(server("app.07"), "auto")
    assert logs == [{"event": "openhands.connected", "log_level": "info", "api": "v1", "asked": "auto"}]


async def test_all_who_ask_a_server_that_hangs_share_one_probe() -> None:
    """Sixteen requests wait as long as one, and the next try is theirs together too."""
    calls, answered = 0, asyncio.Event()

    async def hang(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        if request.url.path == "/server_info":
            return response_of(exchange("app.04"))
        calls += 1
        await answered.wait()
        return httpx.Response(503) if calls == 1 else response_of(exchange("app.07"))

    late = LateOpenHands(client(httpx.MockTransport(hang)), "auto")
    asking = [asyncio.create_task(late()) for _ in range(16)]
    while calls == 0:  # noqa: ASYNC110 - it is on its way
        await asyncio.sleep(0)
    answered.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert ({type(one) for one in outcomes}, calls) == ({errors.Unavailable}, 1)

    found = await asyncio.gather(*[late() for _ in range(16)])
    assert ({one.api for one in found}, calls) == ({"v1"}, 2)


async def test_one_who_gives_up_leaves_the_probe_to_the_others() -> None:
    """And with the last of them it ends: whoever asks next tries anew."""

    async def hang(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    late = LateOpenHands(client(httpx.MockTransport(hang)), "auto")
    first, second = asyncio.create_task(late()), asyncio.create_task(late())
    await asyncio.sleep(0)
    first.cancel()
    done, waiting = await asyncio.wait([first, second], timeout=0.02)
    assert (done, waiting) == ({first}, {second})
    second.cancel()
    await asyncio.wait([second])
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
