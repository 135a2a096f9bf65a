"""Time: the only place where the bot reads the clock or waits."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol


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


class WallClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def wait(self, event: asyncio.Event | None, until: datetime | None) -> None:
        seconds = None if until is None else max(0.0, (until - self.now()).total_seconds())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # Python 3.11's wait_for loses a cancellation that meets the event
                await (event or asyncio.Event()).wait()
