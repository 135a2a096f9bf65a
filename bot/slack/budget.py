"""What Slack lets us call: per method and minute, and one message a second in each channel. Pure, but for its memory."""

from collections import defaultdict, deque
from datetime import datetime, timedelta

MINUTE = timedelta(seconds=60)
POST_GAP = timedelta(seconds=1)
"""chat.postMessage: about one a second in a channel."""
PER_MINUTE = {"chat.update": 50, "reactions.add": 50}  # tier 3
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

        method: chat.postMessage, or one of `PER_MINUTE`. live: an edit that a later one will make up for; it leaves
        room for final states.
        """
        if (closed := self._closed.get(method)) and closed > now:
            return closed
        if method == "chat.postMessage":
            return self._post(channel, now)
        calls = self._calls[method]
        while calls and calls[0] <= now - MINUTE:
            calls.popleft()
        limit = LIVE_EDITS if live else PER_MINUTE[method]
        if len(calls) >= limit:
            return calls[-limit] + MINUTE
        calls.append(now)
        return None

    def _post(self, channel: str, now: datetime) -> datetime | None:
        self._posted = {place: at for place, at in self._posted.items() if now - at < POST_GAP}
        if channel in self._posted:
            return self._posted[channel] + POST_GAP
        self._posted[channel] = now
        return None

    def close(self, method: str, until: datetime) -> None:
        """Slack asked to wait: this method alone, the others are not affected."""
        self._closed[method] = until
