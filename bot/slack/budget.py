"""Slack's rate limits: calls per method and minute, and one message a second per channel. Stateful, but without I/O."""

from collections import defaultdict, deque
from datetime import datetime, timedelta

from bot.clock import Backwards
from bot.core.owed import POST

MINUTE = timedelta(seconds=60)
POST_GAP = timedelta(seconds=1)
"""Slack allows about one message a second per channel."""
EDIT = "chat.update"
A_MINUTE = {"conversations.list": 20, "chat.postEphemeral": 100, "users.info": 100}
"""Calls per method and minute, as Slack documents them; methods not listed get `TIER_3`."""
TIER_3 = 50
LIVE_EDITS = 40
"""Most edits a minute for cards of live runs."""
LIVE_EDITS_MIN = 5
"""Fewest edits a minute for cards of live runs, however many runs are at work."""
SPARE_EDITS = 5
"""Edits a minute held in reserve, beside one for the final state of each run at work."""


class Budget:
    """Remembers recent calls, and for how long Slack told us to wait."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[datetime]] = defaultdict(deque)
        self._live_edits: deque[datetime] = deque()
        self._posted: dict[str, datetime] = {}
        self._closed: dict[str, datetime] = {}
        self._closed_places: dict[str, datetime] = {}
        self._back = Backwards()

    def admit(self, method: str, channel: str, now: datetime) -> datetime | None:
        """Reserve a call now and return None, or return when to ask again. channel: matters only for posts."""
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
        """Return until when no call of a method is admitted, in any channel; None if one may be."""
        if closed := self.closed(method, "", now):
            return closed
        return None if method == POST else full(self._calls[method], A_MINUTE.get(method, TIER_3), now)

    def admit_live_edit(self, at_work: int, now: datetime) -> datetime | None:
        """Reserve an edit that a later edit would supersede; returns like `admit`.

        at_work: how many runs may end at any moment. Room is left for the final edit of each.
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
        """Return until when Slack refuses such calls; None if they may be made."""
        if self._back.by(now) is not None:
            for times_of in (self._calls, self._live_edits, self._posted, self._closed, self._closed_places):
                times_of.clear()
        times = [self._closed.get(method, now)]
        if method == POST:
            times.append(self._closed_places.get(channel, now))
        until = max(times)
        return until if until > now else None

    def close(self, method: str, channel: str, until: datetime, now: datetime) -> None:
        """Pause one method as Slack asked; other methods are not affected.

        Posts have a limit per channel and one per workspace, and Slack does not say which was reached. We assume the
        channel's, until a second channel is refused while the first still has to wait.
        channel: "" if the limit certainly applies to the whole workspace.
        """
        if method == POST and channel:
            self._closed_places = {place: at for place, at in self._closed_places.items() if at > now}
            alone = self._closed_places.keys() <= {channel}
            self._closed_places[channel] = until
            if alone:
                return
        self._closed[method] = until


def full(calls: deque[datetime], limit: int, now: datetime) -> datetime | None:
    """Return when one more call fits into `limit` a minute; None means now. Drops calls older than a minute."""
    while calls and calls[0] <= now - MINUTE:
        calls.popleft()
    return calls[-limit] + MINUTE if len(calls) >= limit else None
