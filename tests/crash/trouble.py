"""Faults of both services while the bot is being killed, drawn from a seed so that they can be repeated."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bot.simulator.openhands import LocalOpenHands
from bot.simulator.slack import LocalSlack
from tests.crash.town import Api

METHODS = (
    "chat.postMessage",
    "chat.update",
    "conversations.replies",
    "conversations.history",
    "users.conversations",
    "users.info",
    "conversations.info",
    "reactions.add",
    "auth.test",
    "apps.connections.open",
)
CALLS = (
    "probe",
    "start",
    "find_start",
    "tasks",
    "status",
    "events",
    "agent_events",
    "send",
    "interrupt",
    "run",
    "respond",
)
OF_AN_AGENT_SERVER = (
    "probe",
    "profiles",
    "shell",
    "start",
    "status",
    "agent_events",
    "send",
    "interrupt",
    "run",
    "respond",
)
LOST: tuple[dict[str, Any], ...] = (
    {"drop": True},
    {"drop": True, "after": True},
    {"hang_s": 0.5, "after": True},
    {"hang_s": 2.5, "drop": True},
    {"hang_s": 2.5, "after": True},
)
"""Answers that are lost before or after the effect, that are slow, or that come when nobody waits any more."""
AT_SLACK: tuple[dict[str, Any], ...] = (
    *LOST,
    {"status": 429, "retry_after": 1},
    {"html": True, "status": 502},
    {"html": True, "status": 503, "after": True},
    {"error": "internal_error"},
    {"error": "fatal_error", "after": True},
)
AT_OPENHANDS: tuple[dict[str, Any], ...] = (
    *LOST,
    {"status": 429, "body": {"message": "Too many requests"}},
    {"status": 500},
    {"status": 502, "body": {"detail": "Failed to reach agent server."}},
    {"status": 502, "body": {"detail": "Failed to reach agent server."}, "after": True},
    {"status": 503, "body": {"detail": "Service Unavailable"}},
    {"html": True, "status": 502},
)
FULL: dict[Api, dict[str, Any]] = {
    "v1": {"detail": {"error": "CONCURRENCY_LIMIT_REACHED", "limit": 3, "current": 3}},
    "agent": {"detail": "Conversation run limit reached. Retry the request later."},
}
SAVED = {"detail": "Message saved, but the conversation run limit was reached. Retry POST /run without resending it."}


@dataclass(frozen=True)
class Trouble:
    """One fault."""

    pause_s: float
    """The pause after the previous fault."""
    where: str
    what: str
    how: dict[str, Any]


def drawn(rng: random.Random, api: Api) -> Trouble:
    """Return a random fault."""
    calls = OF_AN_AGENT_SERVER if api == "agent" else CALLS
    pause_s = rng.uniform(0.1, 0.5)
    match rng.random():
        case chance if chance < 0.4:
            return Trouble(pause_s, "slack", rng.choice(METHODS), rng.choice(AT_SLACK))
        case chance if chance < 0.8:
            return Trouble(pause_s, "openhands", rng.choice(calls), rng.choice(AT_OPENHANDS))
        case chance if chance < 0.83 or (chance < 0.85 and api == "v1"):
            return Trouble(pause_s, "openhands", "start", {"status": 429, "body": FULL[api]})
        case chance if chance < 0.85:
            return Trouble(pause_s, "openhands", "send", {"status": 429, "body": SAVED, "after": True})
        case _:
            return Trouble(pause_s, "socket", rng.choice(("cut", "unheard", "heard", "half_open", "refresh")), {})


async def happens(trouble: Trouble, slack: LocalSlack, openhands: LocalOpenHands) -> None:
    """Cause a fault: of a socket at once, else at the next call of its kind, unless a fault is already due there."""
    if trouble.where == "slack":
        if all(one.method != trouble.what for one in slack._server.faults._waiting):
            slack.fail(trouble.what, **trouble.how)
    elif trouble.where == "openhands":
        if all(one.kind != trouble.what for one in openhands._faults._to_come):
            openhands.break_next(trouble.what, **trouble.how)
    elif trouble.what == "half_open":
        await slack.half_open()
    else:
        sockets: dict[str, Callable[[], None]] = {
            "cut": slack.cut_socket,
            "unheard": lambda: slack.cut_socket(before_ack=True),
            "heard": lambda: slack.cut_socket(after_ack=True),
            "refresh": lambda: slack.disconnect("refresh_requested"),
        }
        sockets[trouble.what]()
