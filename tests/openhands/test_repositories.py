"""The repositories of an account: what is looked up by itself, and how long that may take."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bot.core.errors import Unavailable
from bot.core.pacing import Patience
from bot.openhands import OpenHands
from bot.openhands.repositories import Repositories
from bot.openhands.v1 import V1
from tests.conftest import HandClock

PATIENCE = Patience(lookup_s=0.05)


class Server(V1):
    """Has every repository of `org`; never answers about `silent/…`, and fails at `broken/…`."""

    def __init__(self) -> None:
        """Make none of the things that calls need."""

    async def lists(self, repository: str) -> bool:
        owner = repository.partition("/")[0]
        if owner == "silent":
            await asyncio.Event().wait()
        if owner == "broken":
            raise Unavailable("503")
        return owner == "org"


def of(openhands: Callable[[], Awaitable[OpenHands]]) -> Repositories:
    return Repositories(openhands, HandClock(), PATIENCE)


async def there() -> OpenHands:
    return Server()


async def silent() -> OpenHands:
    await asyncio.Event().wait()
    return Server()


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (["org/a", "acme/b", "org/c"], ["org/a", "org/c"]),
        (["org/a", "silent/b", "org/c"], ["org/a"]),
        (["org/a", "broken/b", "org/c"], ["org/a"]),
    ],
)
async def test_what_can_not_be_told_in_time_counts_as_missing(named: list[str], found: list[str]) -> None:
    """What was found before counts all the same; one time holds for all names of a request."""
    async with asyncio.timeout(5):
        assert await of(there).listed(named) == found


async def test_a_server_that_was_never_reached_lists_nothing() -> None:
    """Its first answer is waited for no longer than any other."""
    async with asyncio.timeout(5):
        assert await of(silent).listed(["org/a"]) == []
