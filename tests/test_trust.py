"""Certificates, over real TLS: an authority of one's own is trusted by both HTTP libraries, or named as the trouble."""

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from bot import settings
from bot.causes import NOT_TRUSTED, TRUST_IT
from bot.clock import WallClock
from bot.core.errors import SlackUnavailable, Unavailable
from bot.core.pacing import Patience
from bot.openhands.http import Http
from bot.ops import doctor
from bot.slack.gateway import Gateway, session_of
from bot.trust import trusted

PATIENCE = Patience(openhands_timeout_s=5.0)


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Have the store read anew, before and after."""
    trusted.cache_clear()
    yield
    trusted.cache_clear()


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[str]:
    """Run a server whose certificate that authority signed; return its address."""

    async def number(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "team_id": "T1", "user_id": "U1", "url": "https://team.slack.com/"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", number)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    await web.TCPSite(runner, "localhost", 0, ssl_context=context).start()
    yield f"https://localhost:{runner.addresses[0][1]}"
    await runner.cleanup()


async def openhands_answers(address: str) -> object:
    http = Http(address, "key", clock=WallClock(), patience=PATIENCE)
    try:
        return (await http.get("/api/v1/app-conversations/count")).value()
    finally:
        await http.aclose()


async def slack_answers(address: str) -> str:
    async with session_of(5.0) as session:
        us, _ = await Gateway("xoxb-1", f"{address}/api/", session, WallClock(), PATIENCE).identity()
    return us.user


async def test_an_authority_of_ones_own_is_named_as_the_trouble(server: str) -> None:
    """In a word, without anything else of the certificate; the doctor names the setting."""
    with pytest.raises(Unavailable, match=NOT_TRUSTED):
        await openhands_answers(server)
    with pytest.raises(SlackUnavailable) as refused:
        await slack_answers(server)
    assert refused.value.cause == NOT_TRUSTED

    given = settings.load(
        _env_file=None,
        slack_bot_token="xoxb-1",
        slack_app_token="xapp-1",
        slack_api_url=f"{server}/api/",
        openhands_base_url=server,
    )
    found = [str(one) for one in await doctor.examine(given, WallClock())]
    assert f"✗ OpenHands: {NOT_TRUSTED} → {TRUST_IT}" in found
    assert f"✗ SLACK_BOT_TOKEN: Slack's {NOT_TRUSTED} → {TRUST_IT}" in found
    assert f"✗ SLACK_APP_TOKEN: Slack's {NOT_TRUSTED} → {TRUST_IT}" in found


async def test_one_setting_has_both_libraries_trust_it(
    server: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE, as everywhere on the machine."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert await openhands_answers(server) == {
        "ok": True,
        "team_id": "T1",
        "user_id": "U1",
        "url": "https://team.slack.com/",
    }
    assert await slack_answers(server) == "U1"
