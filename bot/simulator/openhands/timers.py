"""Time in the local OpenHands: what is due, and who waits for it."""

import asyncio
import heapq
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial


@dataclass(order=True)
class _Timer:
    due: datetime
    number: int  # what is due at the same time is done in the order it was asked for
    do: Callable[[], object] = field(compare=False)


class Timers:
    """Things to do later, by the wall clock or by a clock that somebody moves."""

    def __init__(self, now: Callable[[], datetime] | None) -> None:
        self._by_hand = now is not None
        self.now = now or (lambda: datetime.now(UTC))
        self._timers: list[_Timer] = []
        self._count = 0
        self._changed = asyncio.Event()
        self.parked = 0  # calls that wait for a time or for the agent

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._timers, _Timer(self.now() + timedelta(seconds=seconds), self._count, do))
        self._changed.set()

    @property
    def due(self) -> bool:
        return bool(self._timers) and self._timers[0].due <= self.now()

    def do_what_is_due(self) -> None:
        while self.due:
            heapq.heappop(self._timers).do()

    async def run(self) -> None:
        """Keep to the wall clock until cancelled; with a clock moved by hand there is nothing to do."""
        while not self._by_hand:
            self.do_what_is_due()
            self._changed.clear()
            wait = (self._timers[0].due - self.now()).total_seconds() if self._timers else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    async def wait(self, seconds: float, future: asyncio.Future[None] | None = None) -> bool:
        """Whether the future was done within so many seconds of this clock; without one just let them pass."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.after(seconds, partial(_resolve, over))
        self.parked += 1
        try:
            await asyncio.wait({over} if future is None else {over, future}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.parked -= 1
        return future is not None and future.done()

    async def hold_back(self, seconds: float) -> None:
        """Let a caller wait by the wall clock. A clock moved by hand never passes while a caller waits: no wait."""
        if not self._by_hand:
            await asyncio.sleep(seconds)


def _resolve(future: asyncio.Future[None]) -> None:
    """Let whoever waits go on; it may have gone already."""
    if not future.done():
        future.set_result(None)
