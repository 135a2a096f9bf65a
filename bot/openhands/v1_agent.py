"""Calls that act on a V1 conversation: at its agent server, and on the sandbox around it."""

from collections.abc import Mapping, Sequence
from typing import assert_never
from urllib.parse import quote

from bot.core.errors import (
    Archived,
    Asleep,
    AtCapacity,
    NoSuchCall,
    NotFound,
    Stored,
    Unauthorised,
    Unavailable,
    Unreadable,
    Unsure,
)
from bot.core.model import Phase
from bot.openhands import GO_ON, Before, nothing
from bot.openhands.http import Answer, Http
from bot.openhands.v1_answers import Conversation
from bot.openhands.v1_events import AGENT_TIMEOUT_S, agent_headers

CONVERSATIONS = "/api/v1/app-conversations"
CONFIRMATION = "events/respond_to_confirmation"
REJECTION = "Stopped by a person."  # what the agent is told when a stop rejects its action


class AgentCalls:
    """Acts on a conversation, according to its latest known state."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def send(self, name: str, text: str, before: Before, images: Sequence[str] = ()) -> None:
        """Send a message through the app server. See `OpenHands.send`."""
        answer = await self._http.post(
            f"{CONVERSATIONS}/{name}/send-message",
            {"role": "user", "content": content(text, images), "run": True},
            timeout_s=self._http.patience.send_timeout_s,
            before=before,
        )
        if answer.status == 502 and answer.words.startswith("Agent server error: 404"):
            raise Archived("the agent server does not know the conversation")
        if answer.status == 502 and answer.words.startswith("Agent server error: 429"):
            raise Stored("kept, not run")
        if answer.status == 404 and answer.words.startswith("Sandbox"):
            raise Archived("no sandbox")
        if answer.no_route:  # of an unknown conversation it says more; servers before 1.7 have no such call
            raise NoSuchCall("no call for messages")
        answer.value()

    async def stop(self, conversation: Conversation, *, interrupts: bool) -> None:
        """Interrupt the agent, or pause its sandbox. While the agent waits for approval, only a rejection stops it.

        Agent servers before 1.23 can't interrupt: they pause, which lets a running command or model call end.
        """
        if conversation.phase in {Phase.MISSING, Phase.BROKEN} or conversation.sleeps:
            return  # no agent runs there
        if not interrupts:
            await self.sandbox(conversation, "pause")
            return
        try:
            if conversation.phase is Phase.WANTS_APPROVAL:
                answer = await self._tell(conversation, CONFIRMATION, {"accept": False, "reason": REJECTION})
            else:
                answer = await self._interrupt(conversation)
            _check_known(answer)
            answer.value()
        except (Unavailable, Unsure, Unreadable, Unauthorised, NoSuchCall):
            await self.sandbox(conversation, "pause")

    async def _interrupt(self, conversation: Conversation) -> Answer:
        for call in ("interrupt", "pause"):
            answer = await self._tell(conversation, call)
            if not answer.no_route:  # an unknown conversation would be a 400
                return answer
        raise NoSuchCall("neither interrupt nor pause")

    async def go_on(self, conversation: Conversation, name: str, before: Before) -> bool:
        """See `CanResume.go_on`.

        A frozen agent continues by itself once its sandbox is awake. A stuck agent gets a message, since `/run` would
        stop again at once; so does one whose agent server only the app server can reach.
        """
        match conversation.phase:
            case Phase.MISSING | Phase.BROKEN:
                raise Archived("no sandbox")
            case Phase.ASLEEP:
                if conversation.sleeps:
                    await self.sandbox(conversation, "resume", before)
                raise Asleep("waking up")
            case Phase.PAUSED | Phase.IDLE | Phase.ERROR:
                try:
                    answer = await self._tell(conversation, "run", before=before)
                except Unavailable:
                    await self.send(name, GO_ON, before)
                    return True
                if answer.status == 409:
                    return False  # it runs already
                if answer.status == 429:
                    raise AtCapacity("its server runs no more agents")
                _value_of_agent(answer)
            case Phase.STUCK:
                await self.send(name, GO_ON, before)
            case Phase.UNCLEAR | Phase.UNKNOWN:
                raise Unavailable("what it does can't be told")
            case Phase.STARTING | Phase.START_FAILED | Phase.WORKING | Phase.ENDED | Phase.WANTS_APPROVAL | Phase.GONE:
                return False
            case _:
                assert_never(conversation.phase)
        return True

    async def decide(self, conversation: Conversation, *, accept: bool, reason: str, before: Before) -> None:
        """Approve or reject everything that waits for approval."""
        body: dict[str, object] = {"accept": True} if accept else {"accept": False, "reason": reason}
        _value_of_agent(await self._tell(conversation, CONFIRMATION, body, before=before))

    async def sandbox(self, conversation: Conversation, call: str, before: Before = nothing) -> None:
        """Pause or resume the sandbox, through the app server."""
        if conversation.sandbox_id is None:
            raise NotFound("no sandbox")
        path = f"/api/v1/sandboxes/{quote(conversation.sandbox_id, safe='')}/{call}"
        answer = await self._http.post(path, before=before)
        if answer.status == 404:
            raise Archived("no sandbox")
        answer.value()

    async def _tell(
        self,
        conversation: Conversation,
        call: str,
        body: Mapping[str, object] | None = None,
        *,
        before: Before = nothing,
    ) -> Answer:
        if not conversation.conversation_url:
            raise Unavailable("no agent server")
        return await self._http.post(
            f"{conversation.conversation_url}/{call}",
            body,
            headers=agent_headers(conversation),
            timeout_s=min(AGENT_TIMEOUT_S, self._http.patience.openhands_timeout_s),
            before=before,
        )


def content(text: str, images: Sequence[str] = ()) -> list[dict[str, object]]:
    """Return a message's content. images: data URLs, which need no text beside them."""
    words: list[dict[str, object]] = [{"type": "text", "text": text}] if text or not images else []
    return [*words, {"type": "image", "image_urls": list(images)}] if images else words


def _check_known(answer: Answer) -> None:
    if answer.status in {400, 404} and answer.readable:
        raise NotFound("the agent server does not know the conversation")


def _value_of_agent(answer: Answer) -> None:
    """Raise unless it is a success. Another server at the address, or a changed key, counts as `Unavailable`."""
    _check_known(answer)
    try:
        answer.value()
    except (Unauthorised, Unreadable):
        raise Unavailable("not our agent server") from None
