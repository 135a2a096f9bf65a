"""The account's repositories, kept warm: read in the background, so that no request waits for them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from bot.clock import Clock
from bot.core.errors import OpenHandsError
from bot.core.pacing import Patience, later
from bot.core.repositories import Known
from bot.openhands import CanFindRepository, CanListRepositories, OpenHands

log = structlog.get_logger("repositories")

REFRESH_S = 600.0
AGAIN_S = 60.0
"""How soon it is tried again if OpenHands did not answer."""


class Repositories:
    """The list of one key, in memory only: it can be read again."""

    def __init__(self, openhands: Callable[[], Awaitable[OpenHands]], clock: Clock, patience: Patience) -> None:
        self._openhands = openhands
        self._clock = clock
        self._patience = patience
        self.known = Known.of(())
        """The list as it was read last; empty before that, and where the server has none."""

    async def run(self) -> None:
        """Read the list now and again, until cancelled. What is known stays while OpenHands is out of reach."""
        while True:
            try:
                openhands = await self._openhands()
                if isinstance(openhands, CanListRepositories):
                    listed = await openhands.repositories()
                    self.known = Known.of(listed.names, whole=listed.whole)
                pause_s = REFRESH_S
            except OpenHandsError as err:
                log.debug("repositories.unread", error=type(err).__name__)
                pause_s = AGAIN_S
            await self._clock.wait(None, later(self._clock.now(), pause_s))

    async def listed(self, names: Sequence[str]) -> Sequence[str]:
        """Return which of these the account has, though they may be too new for the list.

        Those count as missing that can't be told, or not within `Patience.lookup_s` for all of them.
        """
        found: list[str] = []
        with suppress(OpenHandsError, TimeoutError):
            async with asyncio.timeout(self._patience.lookup_s):
                openhands = await self._openhands()
                for name in names:
                    if isinstance(openhands, CanFindRepository) and await openhands.lists(name):
                        found.append(name)  # noqa: PERF401 - what was found before the time is over counts
        return found
