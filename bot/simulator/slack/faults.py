"""Faults on demand: the next calls of a method are answered wrongly, late or not at all."""

from dataclasses import dataclass

from bot.simulator.slack.records import JSON


@dataclass
class Fault:
    method: str
    error: str | None
    status: int | None
    retry_after: int | None
    html: bool
    drop: bool
    hang_s: float | None
    after: bool
    times: int
    channel: str | None

    def __post_init__(self) -> None:
        if self.status == 429 and self.retry_after is None:
            raise ValueError("a 429 of Slack always has Retry-After")
        if self.retry_after is not None and self.status != 429:
            raise ValueError("Retry-After goes with status=429")
        if not (self.error or self.status or self.html or self.drop or self.hang_s or self.after):
            raise ValueError("say what goes wrong")

    @property
    def replaces_answer(self) -> bool:
        return bool(self.error or self.status or self.html)


class Faults:
    """A queue: each call uses up the oldest fault that matches it."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def take(self, method: str, args: JSON) -> Fault | None:
        for fault in self._waiting:
            if fault.method == method and fault.channel in (None, args.get("channel")):
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None
