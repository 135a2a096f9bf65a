"""The local Slack's call limits."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.simulator.slack_wire import Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def statuses(at: Bench, times: int, method: str, **args: Any) -> list[int]:
    answers = []
    for _ in range(times):
        async with await at.call(method, **args) as response:
            answers.append(response.status)
    return answers


@pytest.mark.parametrize(
    ("method", "a_minute"),
    [("conversations.list", 20), ("conversations.info", 50), ("chat.update", 50), ("users.info", 100)],
)
async def test_each_method_has_its_calls_a_minute(at: Bench, method: str, a_minute: int) -> None:
    """One call past the tier is answered 429, the method is free again a minute after its first call."""
    ts = (await at.api("chat.postMessage", channel=at.dev, text="x"))["ts"]
    arguments = {
        "conversations.info": {"channel": at.dev},
        "chat.update": {"channel": at.dev, "ts": ts, "text": "y"},
        "users.info": {"user": at.alice},
    }
    args = arguments.get(method, {})
    assert await statuses(at, a_minute + 1, method, **args) == [200] * a_minute + [429]
    await at.move(60)
    assert await statuses(at, 1, method, **args) == [200]


async def test_a_limited_call_says_when_to_come_back(at: Bench) -> None:
    """Retry-After is in whole seconds; the call had no effect and no other method suffers."""
    await statuses(at, 20, "conversations.list")
    await at.move(12.5)
    async with await at.call("conversations.list") as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "48")
        assert await response.json() == {"ok": False, "error": "ratelimited"}
    assert await statuses(at, 1, "users.info", user=at.alice) == [200]
    assert at.slack.calls[20].error == "ratelimited"


async def test_a_channel_takes_one_post_a_second_after_a_short_burst(at: Bench) -> None:
    """Five at once are let through, then one a second; another channel has its own pace."""
    other = at.slack.add_channel("other")
    post = "chat.postMessage"
    assert await statuses(at, 6, post, channel=at.dev, text="x") == [200] * 5 + [429]
    assert await statuses(at, 1, post, channel=other, text="x") == [200]
    await at.move(1)
    assert await statuses(at, 2, post, channel=at.dev, text="x") == [200, 429]
    assert len(at.slack.messages(at.dev)) == 6
