"""Metrics of the process, and their Prometheus exposition: numbers, kinds and types only."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bot.store.stats import Standing

WORD = re.compile(r"[a-z][a-z_.]{0,39}")
TYPES_MAX = 50
"""Most types of ignored payloads with a counter of their own: each costs memory until the process ends."""
OTHER = "other"
ACK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
"""Seconds. Slack gives up after the last."""
ROUND_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds."""


class Metrics:
    """The counters, in a registry of their own, so that two bots in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("bot_requests", "Requests written down, by kind.", ["kind"], registry=self.registry)
        self._ignored = Counter(
            "bot_ignored_payloads",
            "Payloads acknowledged that are no request, by type.",
            ["type"],
            registry=self.registry,
        )
        self._acknowledging = Histogram(
            "bot_ack_seconds",
            "From a payload to its acknowledgement, the commit included.",
            buckets=ACK_BUCKETS,
            registry=self.registry,
        )
        self._slack = Counter(
            "bot_slack_calls", "Calls of Slack's Web API.", ["method", "outcome"], registry=self.registry
        )
        self._openhands = Counter(
            "bot_openhands_calls", "Calls of OpenHands, by class of status.", ["status"], registry=self.registry
        )
        self._rounds = Histogram(
            "bot_poll_round_seconds",
            "One look at all runs that were due.",
            buckets=ROUND_BUCKETS,
            registry=self.registry,
        )
        self._gaps = Counter(
            "bot_gaps_read_back",
            "Times without a connection that were read back, completely or not.",
            ["complete"],
            registry=self.registry,
        )
        self._types: set[str] = set()

    def requested(self, kind: str) -> None:
        """Count a new request that was committed."""
        self._requests.labels(kind).inc()

    def ignored(self, body: Mapping[str, Any]) -> None:
        """Count a payload that is not a request, by its type alone."""
        kind = type_of(body)
        if kind not in self._types and len(self._types) >= TYPES_MAX:
            kind = OTHER
        self._types.add(kind)
        self._ignored.labels(kind).inc()

    @contextmanager
    def acknowledging(self) -> Iterator[None]:
        """Measure an answer to Slack, unless it fails."""
        began = perf_counter()
        yield
        self._acknowledging.observe(perf_counter() - began)

    def slack_called(self, method: str, outcome: str) -> None:
        """Count a call. outcome: "ok", or the name of the gateway's error; see `gateway.Called`."""
        self._slack.labels(method, outcome).inc()

    def openhands_called(self, status: int | None) -> None:
        """Count a call. status: None if no answer came."""
        self._openhands.labels(status_class(status)).inc()

    def read_back(self, *, complete: bool) -> None:
        """Count a gap that was read back. complete: False if it ran out of calls or Slack refused some."""
        self._gaps.labels("yes" if complete else "no").inc()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Measure a round of the poller, unless it fails."""
        began = perf_counter()
        yield
        self._rounds.observe(perf_counter() - began)


def type_of(body: Mapping[str, Any]) -> str:
    """Return a payload's type, or its event's type; `other` if that is not one of Slack's words."""
    event = body.get("event")
    return word(event.get("type") if isinstance(event, Mapping) else body.get("type"))


def word(kind: Any) -> str:
    """Return a value if it looks like one of Slack's words; else `other`, since it may contain anything."""
    return kind if isinstance(kind, str) and WORD.fullmatch(kind) else OTHER


def status_class(status: int | None) -> str:
    """Return the class of a status, such as 2xx. 429 stands for itself, since its next step differs."""
    if status is None:
        return "none"
    return "429" if status == 429 else f"{status // 100}xx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The values at the time of a scrape."""

    now: datetime
    connected: bool
    """The socket to Slack is open and answers."""
    ended: Mapping[str, int]
    """Connections that have ended, by Slack's reason."""
    standing: Standing | None
    """None if the database does not answer."""


def exposition(metrics: Metrics, moment: Moment) -> bytes:
    """Return all metrics in Prometheus' text format, without those from the database while it does not answer."""
    return generate_latest(metrics.registry) + generate_latest(gauges(moment))


def gauges(moment: Moment) -> CollectorRegistry:
    """Return the gauges in a registry made anew for each scrape, so that none goes stale."""
    registry, standing = CollectorRegistry(), moment.standing
    Gauge("bot_socket_up", "1 while Slack can reach the bot.", registry=registry).set(moment.connected)
    Gauge("bot_database_up", "1 while the database answers.", registry=registry).set(standing is not None)
    lines = Counter("bot_socket_ended", "Connections to Slack that ended, by reason.", ["reason"], registry=registry)
    for reason, count in moment.ended.items():
        lines.labels(word(reason)).inc(count)
    if standing is None:
        return registry
    waiting = Gauge("bot_inbox_rows", "Requests acknowledged and not handled yet.", registry=registry)
    waiting.set(standing.waiting)
    ages = {kind: (moment.now - since).total_seconds() for kind, since in standing.oldest.items()}
    for name, about, label, values in (
        ("bot_runs", "Runs, by state.", "state", standing.runs),
        ("bot_owed_rows", "What is owed to Slack and OpenHands, by kind.", "kind", standing.owed),
        ("bot_owed_oldest_seconds", "Age of the oldest row that is owed, by kind.", "kind", ages),
        ("bot_dead_rows", "What could never succeed, by kind.", "kind", standing.dead),
    ):
        gauge = Gauge(name, about, [label], registry=registry)
        for key, value in values.items():
            gauge.labels(key).set(value)
    return registry
