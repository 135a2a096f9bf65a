"""The local Slack's files: who may read them, and how a message shows them."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bot.simulator.slack.files import LOGIN_PAGE
from tests.papers import PNG
from tests.simulator.slack_wire import Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def got(url: str, token: str) -> tuple[int, str, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, answer.content_type, await answer.read()


async def test_only_the_bots_token_with_the_scope_opens_a_file(at: Bench) -> None:
    """Everybody else gets a page to sign in, with status 200; a deleted file is not found."""
    shown = at.slack.upload(at.alice, "a shot.png", PNG, mimetype="image/png")
    url, page = shown["url_private"], (200, "text/html", LOGIN_PAGE.encode())
    assert await got(url, at.slack.bot_token) == (200, "image/png", PNG)
    assert [await got(url, token) for token in ("", "xoxb-other", at.slack.app_token)] == [page] * 3
    at.slack.granted_scopes = at.slack.granted_scopes - {"files:read"}
    assert await got(url, at.slack.bot_token) == page
    at.slack.granted_scopes = at.slack.granted_scopes | {"files:read"}
    at.slack.delete_file(shown)
    assert (await got(url, at.slack.bot_token))[0] == 404


async def test_a_shared_channel_shows_only_where_to_ask(at: Bench) -> None:
    """`files.info` tells the rest, to an app with the scope."""
    shown = at.slack.upload(at.alice, "a.txt", b"a", snippet=True, connect=True)
    assert (shown["file_access"], "url_private" in shown) == ("check_file_info", False)
    told: dict[str, Any] = (await at.api("files.info", file=shown["id"]))["file"]
    assert (told["name"], told["size"], told["mode"]) == ("a.txt", 1, "snippet")
    assert (await at.api("files.info", file="F9"))["error"] == "file_not_found"
    at.slack.granted_scopes = at.slack.granted_scopes - {"files:read"}
    assert (await at.api("files.info", file=shown["id"]))["error"] == "missing_scope"


async def test_of_a_mentions_two_events_one_has_the_files(at: Bench) -> None:
    """The `message`; `app_mention` has none."""
    shown = at.slack.upload(at.alice, "a.png", PNG)
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, f"<@{at.slack.bot_user_id}> look", files=[shown])
    events = [await socket.event(), await socket.event()]
    assert [(one["type"], one.get("files")) for one in events] == [("app_mention", None), ("message", [shown])]


async def test_a_link_preview_is_told_as_a_change_without_an_edit(at: Bench) -> None:
    """The words stay as they are."""
    ts = await at.slack.say(at.alice, at.dev, "see https://example.com")
    socket = await at.connect()
    await at.slack.unfurl(at.dev, ts, "https://example.com")
    event = await socket.event()
    assert (event["subtype"], event["message"]["text"]) == ("message_changed", event["previous_message"]["text"])
    assert "edited" not in event["message"]
    assert [one["from_url"] for one in event["message"]["attachments"]] == ["https://example.com"]
