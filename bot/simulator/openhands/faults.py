"""Faults on demand, and the limit on the rate of calls."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

RATE = 10  # calls a second that are answered at once; as many more are delayed, the rest refused
RATE_HOLDS_BACK_S = 1.0


@dataclass
class Fault:
    """What happens to the next calls of a kind. `after`: the effect happens, only the answer goes wrong."""

    kind: str
    status: int | None
    body: object
    html: bool
    invalid_json: bool
    drop: bool
    hang_s: float | None
    after: bool
    times: int
    retry_after_s: int | None = None


class Faults:
    """The faults that are still to come, in order."""

    def __init__(self) -> None:
        self._to_come: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._to_come.append(fault)

    def clear(self) -> None:
        self._to_come.clear()

    def next(self, kind: str) -> Fault | None:
        """Return and use up the fault for a call of this kind; None if there is none."""
        for fault in self._to_come:
            if fault.kind == kind:
                fault.times -= 1
                if fault.times == 0:
                    self._to_come.remove(fault)
                return fault
        return None


class Rate:
    """Calls of the last second. All count together, since they all come from this machine."""

    def __init__(self) -> None:
        self._calls: deque[datetime] = deque()

    def count(self, now: datetime) -> int:
        """Record this call and return the number of calls in the last second, including it and refused ones."""
        while self._calls and self._calls[0] <= now - timedelta(seconds=1):
            self._calls.popleft()
        self._calls.append(now)
        return len(self._calls)
