"""Time: the only place where the bot reads the clock or waits."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

SLIP = timedelta(minutes=2)
"""A clock that is put back by no more than this is waited for: nothing is late by longer."""


class Clock(Protocol):
    """The bot's source of time. Tests pass one that they move by hand."""

    def now(self) -> datetime:
        """Return the time, aware and UTC."""
        ...

    async def wait(self, event: asyncio.Event | None, until: datetime | None) -> None:
        """Wait for the event or the time, whichever comes first; leave the event as it is.

        With neither, wait until cancelled.
        """
        ...


class Backwards:
    """Notices that the clock was put back, from the times it is shown: whatever waits for a later one would be late."""

    def __init__(self) -> None:
        self._latest: datetime | None = None

    def by(self, now: datetime) -> timedelta | None:
        """Return by how much the clock was put back since the last call; None if it was not."""
        latest, self._latest = self._latest, now
        return latest - now if latest is not None and latest - now > SLIP else None


class WallClock:
    """The machine's own time. A wait goes on for as long as it seemed when it began, whatever is done to the clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait(self, event: asyncio.Event | None, until: datetime | None) -> None:
        seconds = None if until is None else max(0.0, (until - self.now()).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # Python 3.11's wait_for loses a cancellation that meets the event
                await (event or asyncio.Event()).wait()
