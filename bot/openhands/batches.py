"""Batches of ids: one that fails is asked again in halves, so that one id which fails hides nobody else."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from bot.clock import Clock
from bot.core.errors import NotFound, OpenHandsError, TooFast, Unauthorised, Unavailable
from bot.core.pacing import later
from bot.openhands.recent import Recent

BATCH = 99  # ids per request; the server refuses 100
FAILURES = 15  # in a row: the whole, its halves, quarters and eighths; it is the server then, not the ids
LEAST = 12  # ids per request after an outage, however often it failed, so that its end is no flood of requests
SPLITTING_S = 75.0  # after that long the rest waits for the next time: a request that hangs takes up to 30 s
REST_S = 60.0  # pause before an id that failed by itself is asked again, and a batch that failed in that size

Entry = TypeVar("Entry")


def is_its_own(err: OpenHandsError) -> bool:
    """Return whether a call may have failed because of what it asked about, so that others need not fail."""
    return not isinstance(err, NotFound | TooFast | Unauthorised | Unavailable) or (
        isinstance(err, Unavailable) and err.faltered
    )


class Batches:
    """Asks for many entries. Remembers, in memory only, in how small a batch each id that failed must be asked."""

    def __init__(self, clock: Clock, most: int = BATCH) -> None:
        """most: ids per request."""
        self._clock = clock
        self._most = most
        self._sizes = Recent[UUID, tuple[int, datetime]](clock)
        """In how small a batch an id is asked, and when a larger one is tried again."""
        self._resting = Recent[UUID, datetime](clock)

    async def ask(
        self, ids: Iterable[UUID], fetch: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, Entry]]]
    ) -> tuple[dict[UUID, Entry], OpenHandsError | None]:
        """Return the entries, and the last failure. Those of ids that could not be asked about are missing.

        An id that is known to fail by itself, while others are answered, is no failure.
        fetch: makes one request; its entries that can't be read are missing.
        """
        began = self._clock.now()
        found: dict[UUID, Entry] = {}
        failure: OpenHandsError | None = None
        failed: list[list[UUID]] = []
        answered, in_a_row = False, 0
        parts = deque(self._parts(one for one in ids if (self._resting.get(one) or began) <= began))
        while parts and in_a_row < FAILURES and self._clock.now() < later(began, SPLITTING_S):
            part = parts.popleft()
            try:
                entries = await fetch(part)
            except OpenHandsError as err:
                if not is_its_own(err):
                    failure = err
                    break  # the next request would fail as well
                if len(part) == 1 and self._resting.get(part[0]):
                    self._rest(part[0])
                    continue
                failure = err
                failed.append(part)
                in_a_row += 1
                half = len(part) // 2
                parts.extend([part[:half], part[half:]] if half else [])
            else:
                answered, in_a_row = True, 0
                found.update(entries)
                self._grow(part)
        for part in failed:
            self._shrink(part, 1 if answered else LEAST)
        return found, failure

    def _parts(self, ids: Iterable[UUID]) -> list[list[UUID]]:
        """Return the batches to ask in, none larger than any of its ids allows."""
        parts: list[list[UUID]] = []
        for one in sorted(ids, key=self._size, reverse=True):
            if parts and len(parts[-1]) < self._size(one):
                parts[-1].append(one)
            else:
                parts.append([one])
        return parts

    def _size(self, one: UUID) -> int:
        known = self._sizes.get(one)
        return self._most if known is None else known[0]

    def _grow(self, part: Sequence[UUID]) -> None:
        now = self._clock.now()
        for one in part:
            self._resting.drop(one)
            known = self._sizes.get(one)
            if known is None or now < known[1]:
                continue
            size = 2 * known[0]
            if size < self._most:
                self._sizes.put(one, (size, now))
            else:
                self._sizes.drop(one)

    def _shrink(self, part: Sequence[UUID], least: int) -> None:
        if len(part) == least == 1:
            self._rest(part[0])
        # After an outage it grows at once; what was too much while others were answered will be so for a while.
        again_at = later(self._clock.now(), REST_S if least == 1 else 0)
        for one in part:
            self._sizes.put(one, (min(self._size(one), max(least, len(part) // 2)), again_at))

    def _rest(self, one: UUID) -> None:
        self._resting.put(one, later(self._clock.now(), REST_S))
