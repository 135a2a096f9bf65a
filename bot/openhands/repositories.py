"""The account's repositories, kept warm: read in the background, so that no request waits for them."""

from collections.abc import Awaitable, Callable

import structlog

from bot.clock import Clock
from bot.core.errors import OpenHandsError
from bot.core.pacing import later
from bot.core.repositories import Known
from bot.openhands import CanFindRepository, CanListRepositories, OpenHands

log = structlog.get_logger("repositories")

REFRESH_S = 600.0
AGAIN_S = 60.0
"""How soon it is tried again if OpenHands did not answer."""


class Repositories:
    """The list of one key, in memory only: it can be read again."""

    def __init__(self, openhands: Callable[[], Awaitable[OpenHands]], clock: Clock) -> None:
        self._openhands = openhands
        self._clock = clock
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

    async def lists(self, repository: str) -> bool:
        """Return whether the account has a repository, which may be too new for the list; False if it can't be told."""
        try:
            openhands = await self._openhands()
            return isinstance(openhands, CanFindRepository) and await openhands.lists(repository)
        except OpenHandsError:
            return False
