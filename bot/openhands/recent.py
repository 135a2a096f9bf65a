"""A bounded memory: what was last learnt of each of many conversations, the longest untouched forgotten first."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

ROOM = 5_000  # conversations; what is forgotten costs one more call


class Recent(Generic[Key, Value]):
    """At most `room` values. All of it can be learnt anew, so none of it is stored."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._values: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._room:
            del self._values[next(iter(self._values))]

    def drop(self, key: Key) -> None:
        self._values.pop(key, None)
