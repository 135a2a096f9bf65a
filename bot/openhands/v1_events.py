"""Reads the events of a V1 conversation, newest first, from whichever of its two servers has them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from bot.core.errors import NotFound, OpenHandsError, TooLong, Unauthorised, Unavailable, Unreadable
from bot.core.model import ConversationId
from bot.core.pacing import later
from bot.openhands.events import Event
from bot.openhands.http import SESSION_HEADER, Answer, Http, origin, read_as
from bot.openhands.recent import Recent
from bot.openhands.v1_answers import Conversation, EventPage, event_of

AGENT_TIMEOUT_S = 10.0  # no longer for an agent server, since the app server has nearly the same events
AGENT_REST_S = 60.0  # pause before an unreachable agent server is tried again


@dataclass(frozen=True, slots=True)
class Reading:
    events: Sequence[Event]
    """Newest first, each once."""
    complete: bool
    """There are no older ones."""


class EventReader:
    """Reads from the agent server, which has events at once, or the app server's copy.

    The copy is up to 30 s late, but outlives the sandbox.
    """

    def __init__(self, http: Http) -> None:
        self._http = http
        self._resting = Recent[str, datetime](http.clock)

    async def read(
        self,
        conversation: ConversationId,
        known: Conversation | None,
        *,
        limit: int,
        pages: int,
        enough: Callable[[Sequence[Event]], bool],
    ) -> Reading:
        """Read events until they are enough, there are no more, or `pages` pages of `limit` are read.

        known: the latest state of the conversation; None if it is gone and only the copy is left.
        """
        page = await self._from_agent(known, limit)
        if page is not None and known is not None:
            return await collect(page, partial(self._agent_page, known, limit), pages, enough)
        page = await self._from_app(conversation, limit)
        return await collect(page, partial(self._from_app, conversation, limit), pages, enough)

    async def read_now(
        self, known: Conversation, *, limit: int, pages: int, enough: Callable[[Sequence[Event]], bool]
    ) -> Reading:
        """Read events as `read` does, but only from the agent server, which has them all at once.

        Raises `Unavailable` if that server can't be asked.
        """
        if not known.conversation_url:
            raise Unavailable("no agent server")
        fetch = partial(self._agent_page, known, limit)
        try:
            return await collect(await fetch(), fetch, pages, enough)
        except (NotFound, Unauthorised, Unreadable):  # its key has changed since, or another server has its address
            raise Unavailable("not our agent server") from None

    async def _from_agent(self, known: Conversation | None, limit: int) -> EventPage | None:
        """Return the agent server's first page; None if it sleeps, can't be reached or does not know us."""
        if known is None or not known.conversation_url:
            return None
        server = origin(known.conversation_url)
        rest_until = self._resting.get(server)
        if rest_until is not None and self._http.clock.now() < rest_until:
            return None
        try:
            return await self._agent_page(known, limit)
        except Unavailable:
            self._resting.put(server, later(self._http.clock.now(), AGENT_REST_S))
        except OpenHandsError:  # its key has changed since, or another server has its address: the next poll decides
            pass
        return None

    async def _agent_page(self, known: Conversation, limit: int, page_id: str | None = None) -> EventPage:
        def ask(limit: int) -> Awaitable[Answer]:
            return self._http.ask(
                "GET",
                f"{known.conversation_url}/events/search",
                params=newest_first(limit, page_id),
                headers=agent_headers(known),
                timeout_s=min(AGENT_TIMEOUT_S, self._http.patience.openhands_timeout_s),
            )

        return await page_of(limit, ask)

    async def _from_app(self, conversation: ConversationId, limit: int, page_id: str | None = None) -> EventPage:
        path = f"/api/v1/conversation/{conversation}/events/search"  # singular, unlike all its neighbours
        return await page_of(limit, lambda limit: self._http.get(path, newest_first(limit, page_id)))


async def page_of(limit: int, ask: Callable[[int], Awaitable[Answer]]) -> EventPage:
    """Return a page of at most so many events; of fewer, where so many are too long for one answer."""
    while True:
        try:
            page = read_as(EventPage, (await ask(limit)).value())
        except TooLong:
            if limit == 1:
                raise
            limit = max(1, limit // 10)
        else:
            return page.model_copy(update={"items": page.items[:limit]})


async def collect(
    page: EventPage,
    more: Callable[[str], Awaitable[EventPage]],
    pages: int,
    enough: Callable[[Sequence[Event]], bool],
) -> Reading:
    """Read on from a page until the events are enough, there are no more, or `pages` pages are read."""
    events: dict[str, Event] = {}
    while True:
        for event in map(event_of, page.items):
            if event is not None:
                events.setdefault(event.id, event)  # pages shift when events arrive meanwhile
        pages -= 1
        if page.next_page_id is None or not pages or enough(list(events.values())):
            return Reading(list(events.values()), complete=page.next_page_id is None)
        page = await more(page.next_page_id)


def agent_headers(known: Conversation) -> dict[str, str]:
    """Return the header for the conversation's agent server: it takes the session's key, and must not get ours."""
    key = known.session_api_key
    return {SESSION_HEADER: key.get_secret_value()} if key else {}


def newest_first(limit: int, page_id: str | None) -> dict[str, Any]:
    """Return the query for a page of events."""
    page = {} if page_id is None else {"page_id": page_id}
    return {"sort_order": "TIMESTAMP_DESC", "limit": limit, **page}
