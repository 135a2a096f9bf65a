"""Files are fetched from Slack's own hosts alone, within limits, and what is no file is told."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from bot.core.errors import SlackBusy, SlackError, SlackNoScope, SlackRefused, SlackUnsure
from bot.core.model import File
from bot.slack.gateway import NO_FILE, TOO_BIG
from tests.papers import PNG
from tests.slack.bench import Bench, bench

MOST = 100


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def file(at: Bench, data: bytes = PNG, **about: object) -> File:
    shown = at.slack.upload(at.alice, "a.png", data) | about
    return File(id=shown["id"], name="a.png", url=shown["url_private"], size=shown["size"])


async def refused(at: Bench, one: File) -> SlackError:
    with pytest.raises(SlackError) as told:
        await at.gateway.download(one, MOST)
    return told.value


@pytest.mark.parametrize("size", [0, MOST])
async def test_a_file_of_at_most_so_many_bytes_comes_whole(at: Bench, size: int) -> None:
    """One more, and nothing of it is used, whatever size was named."""
    _, data = await at.gateway.download(file(at, b"x" * size), MOST)
    assert data == b"x" * size
    err = await refused(at, file(at, b"x" * (MOST + 1), size=7))
    assert (type(err), err.code) == (SlackRefused, TOO_BIG)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(302, SlackRefused), (401, SlackNoScope), (403, SlackNoScope), (404, SlackRefused), (503, SlackUnsure)],
)
async def test_each_refusal_is_one_next_step(at: Bench, status: int, kind: type[SlackError]) -> None:
    """A redirect is not followed."""
    at.slack.fail("file", status=status, html=True)
    assert type(await refused(at, file(at))) is kind
    assert at.called() == ["file"]


async def test_a_limit_says_for_how_long(at: Bench) -> None:
    at.slack.fail("file", status=429, retry_after=7)
    err = await refused(at, file(at))
    assert isinstance(err, SlackBusy)
    assert err.retry_after_s == 7


async def test_an_answer_that_breaks_off_is_no_file(at: Bench) -> None:
    at.slack.fail("file", drop=True, times=2)
    assert type(await refused(at, file(at))) is SlackUnsure


async def test_the_token_goes_nowhere_else(at: Bench) -> None:
    """Neither to another host, nor to one whose name only looks like Slack's, nor without encryption."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.headers.get("Authorization", ""))
        return web.Response(body=PNG)

    async with RawTestServer(answer) as other:
        urls = [str(other.make_url("/f1")), "http://files.slack.com/f1", "https://files.slack.com.evil.example/f1"]
        urls += ["https://files.slack.com@evil.example/f1", "https://[files.slack.com/f1"]
        errors = [await refused(at, File(id="F1", name="a.png", url=url)) for url in urls]
    assert [err.code for err in errors] == [NO_FILE] * len(urls)
    assert (asked, at.called()) == ([], [])


async def test_a_web_page_that_somebody_attached_is_a_file(at: Bench) -> None:
    """A page to sign in has another length than the file."""
    page = b"<!DOCTYPE html><p>report</p>"
    shown = at.slack.upload(at.alice, "report.html", page, mimetype="text/html")
    one = File(id=shown["id"], name="report.html", url=shown["url_private"], size=len(page))
    assert (await at.gateway.download(one, MOST))[1] == page
    at.slack.granted_scopes = at.slack.granted_scopes - {"files:read"}
    assert type(await refused(at, one)) is SlackNoScope
