"""Time in the local OpenHands: what is due, and which calls wait for it."""

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
    number: int  # timers due at the same time run in the order they were added
    do: Callable[[], object] = field(compare=False)


class Timers:
    """Things to do later, by the wall clock or by a clock that is moved by hand."""

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
        """Run timers by the wall clock until cancelled; with a clock moved by hand, return at once."""
        while not self._by_hand:
            self.do_what_is_due()
            self._changed.clear()
            wait = (self._timers[0].due - self.now()).total_seconds() if self._timers else None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    async def wait(self, seconds: float, future: asyncio.Future[None] | None = None) -> bool:
        """Wait for the future, at most so many seconds of this clock, or just that long; return whether it was done."""
        over = self._over(seconds)
        self.parked += 1
        try:
            await asyncio.wait({over} if future is None else {over, future}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.parked -= 1
        return future is not None and future.done()

    async def passes(self, seconds: float) -> None:
        """Wait so many seconds of this clock, for an agent: no call waits for it."""
        await self._over(seconds)

    def _over(self, seconds: float) -> asyncio.Future[None]:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.after(seconds, partial(_resolve, over))
        return over

    async def hold_back(self, seconds: float) -> None:
        """Delay a caller by the wall clock; not with a clock moved by hand, which stands still while a caller waits."""
        if not self._by_hand:
            await asyncio.sleep(seconds)


def _resolve(future: asyncio.Future[None]) -> None:
    """Resolve the future, unless its waiter has gone already."""
    if not future.done():
        future.set_result(None)
