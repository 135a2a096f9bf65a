"""What goes wrong with Slack: one error for each next step, no repeats, no secrets."""

import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer
from structlog.testing import capture_logs

from bot.core.cards import Message
from bot.core.errors import SlackBusy, SlackError, SlackLocked, SlackRefused, SlackUnavailable, SlackUnsure
from bot.core.model import ChannelId, MessageTs, RowId, UserId
from bot.slack.gateway import BUSY, FLOODED, LOCKED, UNKNOWN_OUTCOME, is_slacks, session_of
from tests.conftest import HandClock
from tests.slack.bench import Bench, bench, gateway

SECRET = "a secret plan"


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def post(at: Bench) -> MessageTs:
    return (await at.gateway.post(at.dev, Message(SECRET), RowId("row-1"))).ts


def budget(at: Bench, *methods: str) -> list[float | None]:
    """Return the seconds each method is closed for, None where it is open."""
    now = at.clock.now()
    closed = [at.gateway.budget.closed(method, at.dev, now) for method in methods]
    return [None if until is None else (until - now).total_seconds() for until in closed]


# --- answers that are clear -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((code, SlackLocked) for code in sorted(LOCKED)),
        *((code, SlackUnsure) for code in sorted(UNKNOWN_OUTCOME)),
        *((code, SlackBusy) for code in sorted(BUSY | FLOODED)),
        ("channel_not_found", SlackRefused),
        ("is_archived", SlackRefused),
        ("msg_too_long", SlackRefused),
        ("a_word_newer_than_this_code", SlackRefused),
    ],
)
async def test_each_word_of_slack_is_one_next_step(at: Bench, code: str, kind: type[SlackError]) -> None:
    """The error has Slack's own word, and nothing was asked twice."""
    at.slack.fail("chat.postMessage", error=code)
    with pytest.raises(SlackError) as told:
        await post(at)
    assert (type(told.value), told.value.code, at.called()) == (kind, code, ["chat.postMessage"])


def test_no_word_has_two_meanings() -> None:
    """Else the order of the code would decide."""
    words = [LOCKED, BUSY, FLOODED, UNKNOWN_OUTCOME]
    assert len(frozenset.union(*words)) == sum(map(len, words))


async def test_a_limit_closes_that_method_alone(at: Bench) -> None:
    """Slack's Retry-After goes for one method; the others go on."""
    at.slack.fail("chat.update", status=429, retry_after=7)
    ts = await post(at)
    with pytest.raises(SlackBusy) as told:
        await at.gateway.update(at.dev, ts, Message("Done"))
    assert (told.value.code, told.value.retry_after_s, at.called().count("chat.update")) == ("ratelimited", 7, 1)
    assert budget(at, "chat.update", "chat.postMessage", "reactions.add") == [7, None, None]
    at.clock.move(at.clock.now() + timedelta(seconds=7))
    assert budget(at, "chat.update") == [None]


async def test_a_limit_without_a_time_is_half_a_minute(at: Bench) -> None:
    """Whatever answered, it did not say how long."""
    at.slack.fail("chat.postMessage", error="ratelimited")
    with pytest.raises(SlackBusy) as told:
        await post(at)
    assert (told.value.retry_after_s, budget(at, "chat.postMessage")) == (30, [30])


@pytest.mark.parametrize("code", sorted(FLOODED))
async def test_a_flooded_workspace_is_left_alone_for_longer(at: Bench, code: str) -> None:
    """In every channel, for two minutes; the operator reads one line until a message is taken again."""
    at.slack.fail("chat.postMessage", error=code, times=2)
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(SlackBusy, match=code):
                await post(at)
            assert at.gateway.budget.closed("chat.postMessage", "C404", at.clock.now()) is not None
            at.clock.move(at.clock.now() + timedelta(seconds=120))
        await post(at)
        at.slack.fail("chat.postMessage", error=code)
        with pytest.raises(SlackBusy):
            await post(at)
    assert [(line["event"], line["method"], line["code"]) for line in logs] == [
        ("slack.flooded", "chat.postMessage", code)
    ] * 2


async def test_a_limit_on_posts_closes_that_channel(at: Bench) -> None:
    """Another one's news goes on, until it is refused as well: then it is the whole workspace's limit."""
    news = ChannelId(at.slack.add_channel("news"))
    third = ChannelId(at.slack.add_channel("third"))
    at.slack.fail("chat.postMessage", status=429, retry_after=30, channel=at.dev)
    with pytest.raises(SlackBusy):
        await post(at)
    await at.gateway.post(news, Message("Done"), RowId("row-2"))

    at.slack.fail("chat.postMessage", status=429, retry_after=20, channel=news)
    with pytest.raises(SlackBusy):
        await at.gateway.post(news, Message("Done"), RowId("row-3"))
    before = at.called()
    with pytest.raises(SlackBusy) as told:
        await at.gateway.post(third, Message("Done"), RowId("row-4"))
    assert (told.value.retry_after_s, at.called()) == (20, before)


CALLS: dict[str, Callable[[Bench], Awaitable[object]]] = {
    "auth.test": lambda at: at.gateway.identity(),
    "apps.connections.open": lambda at: at.gateway.socket_url(at.slack.app_token),
    "chat.postMessage": post,
    "chat.update": lambda at: at.gateway.update(at.dev, MessageTs("1.000001"), Message("Done")),
    "chat.postEphemeral": lambda at: at.gateway.whisper(at.dev, at.alice, "psst", thread=None),
    "reactions.add": lambda at: at.gateway.react(at.dev, MessageTs("1.000001"), "eyes"),
    "conversations.open": lambda at: at.gateway.direct(at.alice),
    "conversations.info": lambda at: at.gateway.place(at.dev),
    "conversations.list": lambda at: at.gateway.channel_named("dev"),
    "conversations.replies": lambda at: at.gateway.spoken(at.dev, MessageTs("1.000001"), MessageTs("2.000001"), at.us),
    "conversations.history": lambda at: at.gateway.find(
        at.dev, RowId("row-1"), at.us, thread=None, sent_at=at.clock.now()
    ),
    "users.info": lambda at: at.gateway.person(at.alice),
}


@pytest.mark.parametrize("method", sorted(CALLS))
async def test_a_closed_method_is_not_called(at: Bench, method: str) -> None:
    """Whatever the call is for, reads included: Slack named a time, and before it there is nothing to ask."""
    at.slack.fail(method, status=429, retry_after=7)
    waits = []
    for seconds in (0, 5):
        at.clock.move(at.clock.now() + timedelta(seconds=seconds))
        with pytest.raises(SlackBusy) as told:
            await CALLS[method](at)
        waits.append(told.value.retry_after_s)
    assert (waits, at.called()) == ([7, 2], [method])


async def test_a_token_that_is_refused(at: Bench) -> None:
    """Nothing works until an operator acts."""
    async with gateway(at.slack.api_url, at.clock, token="xoxb-wrong") as wrong:
        with pytest.raises(SlackLocked, match="invalid_auth"):
            await wrong.identity()
    with pytest.raises(SlackLocked, match="not_allowed_token_type"):
        await at.gateway.socket_url(at.slack.bot_token)


# --- answers that are not ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 500}, "internal_error"),
        ({"status": 503, "error": "channel_not_found"}, "channel_not_found"),
        ({"html": True}, "http_502"),
        ({"html": True, "status": 503}, "http_503"),
        ({"html": True, "status": 200}, "http_200"),
        ({"drop": True}, "answer_lost"),
        ({"after": True}, "answer_lost"),
        ({"after": True, "status": 500}, "internal_error"),
    ],
    ids=str,
)
async def test_an_answer_that_tells_nothing(at: Bench, fault: dict[str, Any], code: str) -> None:
    """It may have been done or not: the caller looks before repeating, the gateway never repeats."""
    at.slack.fail("chat.postMessage", **fault)
    with pytest.raises(SlackUnsure) as told:
        await post(at)
    done = [SECRET] if fault.get("after") else []
    assert (told.value.code, at.called()) == (code, ["chat.postMessage"])
    assert [message.text for message in at.slack.messages(at.dev)] == done


@pytest.mark.parametrize("after", [False, True])
async def test_an_answer_that_takes_too_long(at: Bench, *, after: bool) -> None:
    """The session's time-out ends the call; whether it was done is unknown."""
    at.slack.fail("chat.postMessage", hang_s=30, after=after)
    async with gateway(at.slack.api_url, at.clock, token=at.slack.bot_token, timeout_s=0.2) as hasty:
        with pytest.raises(SlackUnsure, match="timed_out"):
            await hasty.post(at.dev, Message("hello"), RowId("row-1"))
    assert at.called() == ["chat.postMessage"]


async def test_slack_out_of_reach(at: Bench) -> None:
    """Nobody took the connection, so nothing was done."""
    command = await at.slack.command(at.alice, at.dev, "help")
    await at.slack.stop()
    with pytest.raises(SlackUnavailable, match="no_connection"):
        await post(at)
    with pytest.raises(SlackUnavailable, match="no_connection"):
        await at.gateway.respond(command.response_url, "hello")


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        ({"text": "all good"}, SlackUnsure, "answer_unreadable"),
        ({"text": "[1, 2]", "content_type": "application/json"}, SlackUnsure, "answer_unreadable"),
        ({"body": b'{"ok": "\xff"}', "content_type": "application/json"}, SlackUnsure, "answer_unreadable"),
        ({"text": '{"ok": tr', "content_type": "application/json"}, SlackUnsure, "http_200"),
        ({"text": '{"ok": tr', "content_type": "application/json", "status": 502}, SlackUnsure, "http_502"),
        ({"text": "{}", "content_type": "application/json"}, SlackUnsure, "http_200"),
        ({"text": '{"error": ["odd"]}', "content_type": "application/json"}, SlackRefused, "['odd']"),
        ({"text": "slow down", "status": 429, "headers": {"Retry-After": "5"}}, SlackBusy, "ratelimited"),
        ({"text": "slow down", "status": 429, "headers": {"Retry-After": "soon"}}, SlackBusy, "ratelimited"),
    ],
    ids=str,
)
async def test_an_answer_that_is_not_slacks(answer: dict[str, Any], kind: type[SlackError], code: str) -> None:
    """A proxy's page, half an answer: still one of our errors."""

    async def handler(_request: web.BaseRequest) -> web.Response:
        return web.Response(**answer)

    async with RawTestServer(handler) as server, gateway(str(server.make_url("/api/")), HandClock()) as slack:
        with pytest.raises(SlackError) as told:
            await slack.direct(UserId("U1"))
    assert (type(told.value), told.value.code) == (kind, code)


@pytest.mark.parametrize(("header", "wait_s"), [("5", 5), ("0", 0), ("soon", 30), ("-1", 30), ("1e9", 30), ("", 30)])
async def test_how_long_slack_asks_to_wait(header: str, wait_s: float) -> None:
    """Whole seconds; anything else is as good as nothing."""

    async def handler(_request: web.BaseRequest) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": header})

    async with RawTestServer(handler) as server, gateway(str(server.make_url("/api/")), HandClock()) as slack:
        with pytest.raises(SlackBusy) as told:
            await slack.direct(UserId("U1"))
    assert told.value.retry_after_s == wait_s


# --- a command's own address ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ({"status": 429, "retry_after": 9}, SlackBusy, "ratelimited"),
        ({"status": 500}, SlackUnsure, "http_500"),
        ({"html": True}, SlackUnsure, "http_502"),
        ({"drop": True}, SlackUnsure, "answer_lost"),
        ({"status": 404}, SlackRefused, "http_404"),
    ],
    ids=str,
)
async def test_an_answer_to_a_command_that_goes_wrong(
    at: Bench, fault: dict[str, Any], kind: type[SlackError], code: str
) -> None:
    """The same errors as anywhere, asked once."""
    command = await at.slack.command(at.alice, at.dev, "help")
    at.slack.fail("response_url", **fault)
    with pytest.raises(SlackError) as told:
        await at.gateway.respond(command.response_url, "hello")
    assert (type(told.value), told.value.code, at.called()) == (kind, code, ["response_url"])
    assert command.responses == []


async def test_how_long_a_commands_address_asks_to_wait(at: Bench) -> None:
    """It is no method: another command's answer does not wait."""
    first, second = [await at.slack.command(at.alice, at.dev, "help") for _ in range(2)]
    at.slack.fail("response_url", status=429, retry_after=9)
    with pytest.raises(SlackBusy) as told:
        await at.gateway.respond(first.response_url, "hello")
    await at.gateway.respond(second.response_url, "hello")
    assert (told.value.retry_after_s, len(second.responses)) == (9, 1)


async def test_an_address_that_is_used_up_is_refused(at: Bench) -> None:
    """Slack takes five answers; the sixth never succeeds."""
    command = await at.slack.command(at.alice, at.dev, "help")
    for count in range(5):
        await at.gateway.respond(command.response_url, f"answer {count}")
    with pytest.raises(SlackRefused, match="http_404"):
        await at.gateway.respond(command.response_url, "one more")


# --- secrets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"error": "invalid_blocks"},
        {"error": "invalid_auth"},
        {"status": 429, "retry_after": 3},
        {"status": 500},
        {"html": True},
        {"drop": True},
    ],
    ids=str,
)
async def test_no_token_text_or_address_leaks(
    at: Bench, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever prints the error with its whole traceback, or reads the log, sees Slack's word and no more."""
    command = await at.slack.command(at.alice, at.dev, "help")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: post(at),
        lambda: at.gateway.update(at.dev, MessageTs("1.000001"), Message(SECRET)),
        lambda: at.gateway.whisper(at.dev, at.alice, SECRET, thread=None),
        lambda: at.gateway.respond(command.response_url, SECRET),
        lambda: at.gateway.socket_url(at.slack.app_token),
    ]
    methods = ["chat.postMessage", "chat.update", "chat.postEphemeral", "response_url", "apps.connections.open"]
    for method in methods:
        at.slack.fail(method, **({"status": 404} if method == "response_url" and "error" in fault else fault))
    caplog.set_level(logging.INFO)
    printed = []
    with capture_logs() as ours:
        for call in calls:
            with pytest.raises(SlackError) as told:
                await call()
            printed += [repr(told.value), *traceback.format_exception(told.value)]
    everything = "\n".join([*printed, caplog.text, str(ours)])
    key = command.response_url.rsplit("/", 1)[1]
    secrets = (at.slack.bot_token, at.slack.app_token, SECRET, key)
    assert at.called() == methods
    assert [secret for secret in secrets if secret in everything] == []


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/commands/1",
        "http://hooks.slack.com/1",
        "https://slack.com.evil.example/1",
        "https://[",
        "",
    ],
)
async def test_an_answer_to_a_command_goes_to_slack_alone(at: Bench, url: str) -> None:
    """The address comes with the command: whoever made it up gets no word of ours."""
    with pytest.raises(SlackRefused, match="foreign_response_url"):
        await at.gateway.respond(url, SECRET)


@pytest.mark.parametrize("url", ["https://hooks.slack.com/commands/T1/1", "https://slack.com/1"])
def test_slacks_own_hosts_are_known(url: str) -> None:
    assert is_slacks(url, "https://slack.com/api/")


async def test_passwords_of_the_home_folder_are_not_read(
    at: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would go along with every call to Slack, in the place of the token."""
    (tmp_path / ".netrc").write_text("default login me password word\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    async with session_of(5.0) as session, session.post(f"{at.slack.api_url}auth.test") as answer:
        assert "Authorization" not in answer.request_info.headers
