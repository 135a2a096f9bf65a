"""Detects which of the three APIs a server speaks."""

import asyncio
from typing import Literal
from urllib.parse import urlsplit

import structlog

from bot.core.errors import LoginPage, NoSuchCall, NotFound, Rejected, Unauthorised, Unreadable
from bot.core.model import Api
from bot.openhands.agent_server import CONVERSATIONS as AGENT_CONVERSATIONS
from bot.openhands.agent_server import AgentServer, Hosting
from bot.openhands.agent_server_answers import TITLE, ServerInfo, wants_ids
from bot.openhands.http import Http, read_as
from bot.openhands.v0 import V0
from bot.openhands.v0_answers import no_such_call, of_a_conversation
from bot.openhands.v0_calls import CONVERSATIONS as V0_CONVERSATIONS
from bot.openhands.v1 import V1
from bot.openhands.v1_agent import CONVERSATIONS as V1_CONVERSATIONS

Asked = Literal["auto", "v1", "v0", "agent"]
"""What the operator says of the server's API."""

Client = V1 | V0 | AgentServer

log = structlog.get_logger("openhands")

NO_CONVERSATION = "0" * 32
"""An id that no conversation has. A V0 server answers that there is no such conversation; others, no such page."""


class LateOpenHands:
    """The client for a server, chosen when that server first answers, so that an outage at start does not stop us."""

    def __init__(self, http: Http, api: Asked, hosting: Hosting | None = None) -> None:
        self.http = http
        self._api: Asked = api
        self._hosting = hosting
        self._found: Client | None = None
        self._probe: asyncio.Task[Client] | None = None
        self._waiting = 0

    async def __call__(self) -> Client:
        """Return the client for the API this server speaks. Raises what the probe raises until it has answered once.

        All who ask meanwhile share one probe and its outcome: of a server that hangs, none waits for another's try.
        """
        if self._found is None:
            if self._probe is None or self._probe.done():
                self._probe = asyncio.create_task(connect(self.http, self._api, self._hosting))
            self._found = await self._shared(self._probe)
        return self._found

    async def _shared(self, probe: asyncio.Task[Client]) -> Client:
        """Return a probe's outcome. Who gives up leaves it to the others; with the last one it ends."""
        self._waiting += 1
        try:
            return await asyncio.shield(probe)
        finally:
            self._waiting -= 1
            if self._waiting == 0 and self._probe is not None:
                self._probe.cancel()
                self._probe = None


async def connect(http: Http, api: Asked, hosting: Hosting | None = None) -> Client:
    """Return the client for the API the server speaks. If `api` is not "auto" it decides, and only the key is tried.

    hosting: what an operator set for an Agent Server. Raises `Unauthorised` if the key is refused, and `Unreadable` if
    the server speaks none of them. Any other `OpenHandsError` means that it is not known yet: retry.
    """
    found: Client
    if api in {"auto", "agent"} and (info := await _agent_server(http)):
        await _try_key(http)
        found = AgentServer(http, info, hosting)
    elif api == "agent":
        raise Unreadable("not an Agent Server, though it is said to be")
    elif api != "v0" and await _speaks_v1(http):
        found = V1(http)
    elif api == "v1":
        raise Unreadable("not V1, though it is said to be")
    elif await _is_v0(http, certain=api == "v0"):
        found = V0(http)
    else:
        found = AgentServer(http, ServerInfo(), hosting)
    log.info("openhands.connected", api=Api(found.api).value, asked=api)
    return found


async def _agent_server(http: Http) -> ServerInfo | None:
    """Return what an Agent Server tells of itself; None for any other server.

    The key is not sent: it would be taken in either header, since this call needs none, and prove nothing.
    """
    answer = await http.get("/server_info", headers={})
    try:
        info = read_as(ServerInfo, answer.value())
    except (LoginPage, NotFound, Rejected, Unauthorised, Unreadable, NoSuchCall):
        return None
    return info if info.title == TITLE else None


async def _try_key(http: Http) -> None:
    answer = await http.get(f"{AGENT_CONVERSATIONS}/count")
    try:
        answer.value()
    except (NotFound, Rejected, NoSuchCall):
        raise Unreadable("an Agent Server that counts no conversations") from None


async def _speaks_v1(http: Http) -> bool:
    """Ask for a count, which changes nothing. The status alone does not decide: a server's web page is a 200 too."""
    answer = await http.get(f"{V1_CONVERSATIONS}/count")
    try:
        return type(answer.value()) is int
    except (LoginPage, NotFound, Rejected, Unreadable, NoSuchCall):
        return False


async def _is_v0(http: Http, *, certain: bool) -> bool:
    """Try the key on the list of conversations. A V0 server without that list must at least know conversations.

    Returns False for an Agent Server, which wants ids there: one whose `/server_info` something in front of it hides.
    certain: the operator says it is V0, so a web page in place of the list, or a 404, is accepted.
    """
    answer = await http.get(V0_CONVERSATIONS, {"limit": 1})
    try:
        answer.value()
    except Rejected:
        return certain or not wants_ids(answer)
    except NoSuchCall:
        pass
    except NotFound:
        if not certain:
            await _knows_conversations(http)
    except Unreadable:
        if not certain:
            raise
    return True


async def _knows_conversations(http: Http) -> None:
    """Ask for a conversation that does not exist. Raises `Unreadable` if the server lacks the call itself."""
    answer = await http.get(f"{V0_CONVERSATIONS}/{NO_CONVERSATION}")
    if no_such_call(answer) or (answer.status == 404 and not of_a_conversation(answer)):
        raise Unreadable("neither V1 nor V0")
    try:
        answer.value()
    except (NotFound, Rejected):
        return


def wrong_address(base_url: str) -> str:
    """Return what an operator should do about an address where something other than OpenHands answers."""
    path = urlsplit(base_url).path.rstrip("/")
    if path:
        return f"OPENHANDS_BASE_URL is the server's address alone: leave out {path}"
    return "look at OPENHANDS_BASE_URL; is it an old server? OPENHANDS_API=v0 says so"
