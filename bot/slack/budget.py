"""What Slack lets us call: per method and minute, and one message a second in each channel. Pure, but for its memory."""

from collections import defaultdict, deque
from datetime import datetime, timedelta

from bot.core.owed import POST

MINUTE = timedelta(seconds=60)
POST_GAP = timedelta(seconds=1)
"""About one message a second in a channel."""
EDIT = "chat.update"
A_MINUTE = {"conversations.list": 20, "chat.postEphemeral": 100, "users.info": 100}
"""Calls of a method a minute, as Slack documents them; those not named here have `TIER_3`."""
TIER_3 = 50
LIVE_EDITS = 40
"""Edits a minute for cards of live runs, at most; and at least:"""
LIVE_EDITS_MIN = 5
SPARE_EDITS = 5
"""Edits a minute that are kept beside one for the end of each run at work."""


class Budget:
    """Remembers what was called when, and what Slack told us to wait for."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[datetime]] = defaultdict(deque)
        self._live_edits: deque[datetime] = deque()
        self._posted: dict[str, datetime] = {}
        self._closed: dict[str, datetime] = {}
        self._closed_places: dict[str, datetime] = {}

    def admit(self, method: str, channel: str, now: datetime) -> datetime | None:
        """Take a place for a call now and give None, or say when to ask again. channel: matters to posts alone."""
        if closed := self.closed(method, channel, now):
            return closed
        if method == POST:
            return self._post(channel, now)
        calls = self._calls[method]
        if wait := full(calls, A_MINUTE.get(method, TIER_3), now):
            return wait
        calls.append(now)
        return None

    def full_until(self, method: str, now: datetime) -> datetime | None:
        """Say until when no call of a method is admitted, whatever it concerns; None where one may be."""
        if closed := self.closed(method, "", now):
            return closed
        return None if method == POST else full(self._calls[method], A_MINUTE.get(method, TIER_3), now)

    def admit_live_edit(self, at_work: int, now: datetime) -> datetime | None:
        """Take a place for an edit that a later one will make up for, as `admit` does.

        at_work: runs that may end at any moment. Room is left for the final state of each.
        """
        live, every = self._live_edits, self._calls[EDIT]
        share = max(LIVE_EDITS_MIN, min(LIVE_EDITS, TIER_3 - SPARE_EDITS - at_work))
        wait = self.closed(EDIT, "", now) or full(live, share, now) or full(every, TIER_3 - SPARE_EDITS, now)
        if wait is None:
            live.append(now)
            every.append(now)
        return wait

    def _post(self, channel: str, now: datetime) -> datetime | None:
        self._posted = {place: at for place, at in self._posted.items() if now - at < POST_GAP}
        if channel in self._posted:
            return self._posted[channel] + POST_GAP
        self._posted[channel] = now
        return None

    def closed(self, method: str, channel: str, now: datetime) -> datetime | None:
        """Say until when Slack wants no such call; None where it may be made."""
        times = [self._closed.get(method, now)]
        if method == POST:
            times.append(self._closed_places.get(channel, now))
        until = max(times)
        return until if until > now else None

    def close(self, method: str, channel: str, until: datetime, now: datetime) -> None:
        """Pause one method as Slack asked; the others are not affected.

        Posts have a limit in each channel and one in the whole workspace, and Slack does not say which was reached.
        It is taken for the channel's, until a second channel is refused while the first has to wait.
        channel: "" for what surely concerns the whole workspace.
        """
        if method == POST and channel:
            self._closed_places = {place: at for place, at in self._closed_places.items() if at > now}
            alone = self._closed_places.keys() <= {channel}
            self._closed_places[channel] = until
            if alone:
                return
        self._closed[method] = until


def full(calls: deque[datetime], limit: int, now: datetime) -> datetime | None:
    """Return when one more call stays within so many a minute; None: now. Calls older than a minute are dropped."""
    while calls and calls[0] <= now - MINUTE:
        calls.popleft()
    return calls[-limit] + MINUTE if len(calls) >= limit else None
