"""What intake does with payloads that are no request."""

from collections.abc import Mapping
from typing import Any

import pytest

from bot.errors import StoreUnavailable
from bot.intake import Hear, Middleware, middleware
from bot.model import Incoming, UserId

EVENT = {"type": "event_callback", "event": {"type": "channel_archive", "channel": "C01"}}


async def nothing_to_remember(_incoming: Incoming) -> None:
    raise AssertionError("it is no request")


def nobody_to_answer(_incoming: Incoming, _said: str) -> None:
    raise AssertionError("nobody asked")


def handing_on(hear: Hear) -> Middleware:
    return middleware(lambda _body: None, nothing_to_remember, nobody_to_answer, hear, UserId("U0BOT"))


async def test_what_is_no_request_is_handed_on_before_it_is_acknowledged() -> None:
    """As it came: somebody else may have use for it."""
    heard: list[Mapping[str, Any]] = []

    async def hear(body: Mapping[str, Any]) -> None:
        heard.append(body)

    answer = await handing_on(hear)(body=EVENT)
    assert (answer.status, answer.body, heard) == (200, "", [EVENT])


async def test_what_could_not_be_taken_in_is_not_acknowledged() -> None:
    """Slack sends it again."""

    async def hear(_body: Mapping[str, Any]) -> None:
        raise StoreUnavailable(perhaps_saved=False)

    with pytest.raises(StoreUnavailable):
        await handing_on(hear)(body=EVENT)
