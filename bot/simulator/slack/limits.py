"""Slack's rate limits, per method (of one app in one workspace) and per channel."""

import math
from collections import deque
from collections.abc import Callable
from datetime import datetime

WINDOW_S = 60.0
TIERS = {1: 1, 2: 20, 3: 50, 4: 100}  # calls per minute and method; "special" methods have their own limits
POSTS_A_MINUTE = 300  # in all channels together: documented as "several hundred"
SPECIAL_A_MINUTE = 600  # auth.test, chat.getPermalink, …: "hundreds"
NARROWED = ("conversations.history", "conversations.replies")
NARROW_A_MINUTE, NARROW_PAGE = 1, 15
"""Calls a minute and messages a call, for apps that are sold outside of Slack's Marketplace."""
CHANNEL_RATE_S = 1.0  # seconds per post in a channel
CHANNEL_BURST = 5  # posts; "short bursts" are allowed, but how short is not documented


class Limits:
    def __init__(self, now: Callable[[], datetime], times: int = 1) -> None:
        """Multiply Slack's limits by `times`, for tests that pack an hour into minutes."""
        self._now = now
        self._times = times
        self._calls: dict[str, deque[float]] = {}
        self._full_at: dict[str, float] = {}  # channel → when its burst is available in full again

    def take(self, method: str, a_minute: int, channel: str | None) -> int | None:
        """Count one call and return None, or return the seconds to wait (`Retry-After`) without counting it.

        channel: only for posts, which have a limit per channel.
        """
        now = self._now().timestamp()
        calls = self._calls.setdefault(method, deque())
        while calls and calls[0] <= now - WINDOW_S:
            calls.popleft()
        if len(calls) >= a_minute * self._times:
            return max(1, math.ceil(calls[0] + WINDOW_S - now))
        if channel is not None:
            full_at = max(self._full_at.get(channel, now), now) + CHANNEL_RATE_S / self._times
            over_s = full_at - now - CHANNEL_BURST * CHANNEL_RATE_S
            if over_s > 0:
                return max(1, math.ceil(over_s))
            self._full_at[channel] = full_at
        calls.append(now)
        return None
