"""Pages of message history → the requests in them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.core.model import ChannelId, Incoming, MessageTs
from bot.slack.recognise import TS, Identity, known, recognise

ROOTS_BACK = timedelta(days=1)
"""How much older than the gap a thread's root may be for us to notice replies that were missed in its thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of what was said in a place or thread since a moment."""

    requests: tuple[Incoming, ...] = ()
    """In the order they were written."""
    threads: tuple[MessageTs, ...] = ()
    """Thread roots on this page that got replies since then."""
    cursor: str = ""
    """The next page; empty at the end."""


def thread_page(answer: Mapping[str, Any], channel: ChannelId, since: datetime, us: Identity) -> Page:
    """Read a page of a thread. Every page may start with the thread's root."""
    return Page(requests=requests_in(answer, channel, since, us), cursor=next_cursor(answer))


def place_page(answer: Mapping[str, Any], channel: ChannelId, since: datetime, us: Identity) -> Page:
    """Read a page of a place's top level. Pages go back in time; there is no next one once `since` is reached."""
    messages = answer.get("messages") or []
    return Page(
        requests=requests_in(answer, channel, since, us),
        threads=tuple(MessageTs(one["ts"]) for one in messages if is_after(one.get("latest_reply"), since)),
        cursor=next_cursor(answer) if all(is_after(one.get("ts"), since) for one in messages) else "",
    )


def requests_in(answer: Mapping[str, Any], channel: ChannelId, since: datetime, us: Identity) -> tuple[Incoming, ...]:
    """Read messages as if each had come as an event, so that verdict and key are the same."""
    found = [
        recognise({"type": "event_callback", "event": {"type": "message", **one, "channel": channel}}, us)
        for one in answer.get("messages") or []
        if is_after(one.get("ts"), since)
    ]
    return tuple(sorted((one for one in found if isinstance(one, Incoming)), key=lambda one: float(one.ts or 0)))


def is_after(ts: Any, at: datetime) -> bool:
    return known(ts, TS) and float(ts) > at.timestamp()


def slack_time(at: datetime) -> str:
    return f"{at.timestamp():.6f}"


def next_cursor(answer: Mapping[str, Any]) -> str:
    """Return the cursor of the next page; empty at the end."""
    return (answer.get("response_metadata") or {}).get("next_cursor") or ""
