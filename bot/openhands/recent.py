"""A bounded cache of the latest value per conversation; evicts the least recently written first."""

from datetime import datetime, timedelta
from itertools import islice
from typing import Generic, TypeVar

from bot.clock import Clock

Key = TypeVar("Key")
Value = TypeVar("Value")

ROOM = 5_000  # conversations; an evicted one costs one more call
KEPT = timedelta(hours=1)  # a conversation that is still polled is written every few minutes


class Recent(Generic[Key, Value]):
    """At most `room` values, none older than an hour. In memory only, since each can be fetched again."""

    def __init__(self, clock: Clock, room: int = ROOM) -> None:
        self._clock = clock
        self._room = room
        self._values: dict[Key, tuple[datetime, Value]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> Value | None:
        found = self._values.get(key)
        return None if found is None else found[1]

    def put(self, key: Key, value: Value) -> None:
        now = self._clock.now()
        self._values.pop(key, None)
        self._values[key] = now, value
        for old, (touched_at, _) in list(islice(self._values.items(), 2)):  # evict up to two per value added
            if len(self._values) > self._room or now - touched_at > KEPT:
                del self._values[old]

    def drop(self, key: Key) -> None:
        self._values.pop(key, None)
