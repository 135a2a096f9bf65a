"""V0's calls: one conversation, the list of conversations, and a conversation's own calls on its host."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from bot.core.errors import CannotTell, NotFound, Unavailable, Unreadable
from bot.core.model import ConversationId, Run
from bot.openhands import Before, nothing
from bot.openhands.http import SESSION_HEADER, Answer, Http, read_as, readable
from bot.openhands.v0_answers import Conversation0, ConversationPage, no_such_call

CONVERSATIONS = "/api/conversations"

LIST_PAGES = 20  # of 100 conversations
CLOCKS_DIFFER = timedelta(minutes=5)  # the most by which the server's clock may differ from ours


@dataclass(frozen=True, slots=True)
class Created:
    conversations: Sequence[Conversation0]
    """Those without a time may be older."""
    whole: bool
    """Every entry of the list could be read."""


class Calls0:
    """Makes the calls, and parses their answers."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def conversation(self, name: ConversationId) -> tuple[Conversation0 | None, datetime]:
        """Return one conversation (None: unknown or deleted), and when the request was sent."""
        answer = await self._http.get(_path(name))
        try:
            value = answer.value()
        except NotFound:
            value = None
        return (None if value is None else read_as(Conversation0, value)), answer.asked_at

    async def existing(self, run: Run) -> Conversation0:
        """Return a run's conversation. Raises `NotFound` if it is not there."""
        if run.conversation_id is None:
            raise NotFound("no conversation yet")
        conversation, _ = await self.conversation(run.conversation_id)
        if conversation is None:
            raise NotFound("no such conversation")
        return conversation

    async def pages(self) -> AsyncIterator[ConversationPage]:
        """Yield pages of conversations, newest first. Raises `CannotTell` if the server has no list."""
        params: dict[str, Any] = {"limit": 100}
        for _ in range(LIST_PAGES):
            answer = await self._http.get(CONVERSATIONS, params)
            if no_such_call(answer):
                raise CannotTell("no list of conversations")
            page = read_as(ConversationPage, answer.value())
            yield page
            if page.next_page_id is None:
                return
            params["page_id"] = page.next_page_id
        raise Unreadable("a list of conversations without an end")

    async def created(self, run: Run, since: datetime) -> Created:
        """Return conversations with the run's repository that may have been created since then."""
        found: list[Conversation0] = []
        whole = True
        async for page in self.pages():
            read = list(readable(Conversation0, page.results))
            whole = whole and len(read) == len(page.results)
            old = [one for one in read if one.created and one.created < since - CLOCKS_DIFFER]
            found += [one for one in read if one not in old and (one.selected_repository or None) == run.repository]
            if old:
                break
        return Created(found, whole=whole)

    async def ask(
        self,
        method: str,
        conversation: Conversation0,
        call: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        before: Before = nothing,
    ) -> Answer:
        """Make one of the conversation's own calls. In the cloud these go to another host, with another key."""
        url, key = conversation.url or "", conversation.session_api_key
        elsewhere = key is not None and url.startswith(("https://", "http://"))
        try:
            return await self._http.ask(
                method,
                (url if elsewhere else _path(conversation.conversation_id)) + call,
                params=params,
                body=body,
                headers={SESSION_HEADER: key.get_secret_value()} if key is not None and elsewhere else None,
                timeout_s=None if method == "GET" else self._http.patience.send_timeout_s,
                before=before,
            )
        except Unavailable as err:
            raise Unavailable(str(err), faltered=err.faltered or elsewhere) from None  # its host is its own


def _path(name: str) -> str:
    """Return a conversation's path. The id comes from the server, so it is escaped."""
    return f"{CONVERSATIONS}/{quote(name, safe='')}"
