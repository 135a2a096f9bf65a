"""What Slack lets us call: per method and minute, and one message a second in each channel. Pure, but for its memory."""

from collections import defaultdict, deque
from datetime import datetime, timedelta

MINUTE = timedelta(seconds=60)
POST_GAP = timedelta(seconds=1)
"""chat.postMessage: about one a second in a channel."""
PER_MINUTE = {
    "chat.update": 50,  # tier 3
    "reactions.add": 50,  # tier 3
    "chat.postEphemeral": 100,  # tier 4
    "conversations.open": 50,  # tier 3
}
LIVE_EDITS = 40
"""Edits a minute for cards of live runs: the rest of chat.update's budget is for final states."""


class Budget:
    """Remembers what was called when, and what Slack told us to wait for."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[datetime]] = defaultdict(deque)
        self._posted: dict[str, datetime] = {}
        self._closed: dict[str, datetime] = {}

    def admit(self, method: str, channel: str, now: datetime, *, live: bool = False) -> datetime | None:
        """Take a place for a call now and give None, or say when to ask again.

        live: an edit that a later one will make up for; it leaves room for final states.
        """
        if (closed := self._closed.get(method)) and closed > now:
            return closed
        calls = self._calls[method]
        while calls and calls[0] <= now - MINUTE:
            calls.popleft()
        limit = LIVE_EDITS if live and method == "chat.update" else PER_MINUTE.get(method)
        if limit is not None and len(calls) >= limit:
            return calls[-limit] + MINUTE
        if method == "chat.postMessage":
            last = self._posted.get(channel)
            if last is not None and now - last < POST_GAP:
                return last + POST_GAP
            self._posted[channel] = now
            if len(self._posted) > 10_000:
                self._posted = {place: at for place, at in self._posted.items() if now - at < POST_GAP}
            return None
        calls.append(now)
        return None

    def close(self, method: str, until: datetime) -> None:
        """Slack asked to wait: this method alone, the others are not affected."""
        self._closed[method] = until
