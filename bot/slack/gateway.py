"""The only caller of Slack's Web API: one session, our time-outs, no retries here, one error type per next step."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.causes import cause
from bot.clock import SLIP, Clock
from bot.core.cards import Message
from bot.core.errors import (
    SlackBusy,
    SlackError,
    SlackLocked,
    SlackNoScope,
    SlackRefused,
    SlackUnavailable,
    SlackUnsure,
)
from bot.core.model import ChannelId, File, MessageTs, Person, Place, RowId, TeamId, UserId
from bot.core.pacing import Patience, later
from bot.slack.budget import Budget
from bot.slack.history import ROOTS_BACK, Page, next_cursor, place_page, slack_time, thread_page
from bot.slack.recognise import SAID_BY_PEOPLE, Identity, Linked
from bot.slack.said import Reader, file_in, files_of
from bot.trust import trusted

log = structlog.get_logger("slack")

NO_SCOPE = "missing_scope"
LOCKED = frozenset(
    {
        "account_inactive",
        "invalid_auth",
        "not_allowed_token_type",
        "not_authed",
        "token_expired",
        "token_revoked",
    }
)
BUSY = frozenset({"ratelimited"})
UNKNOWN_OUTCOME = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
CONNECT = "apps.connections.open"
"""The only method that is called with the app-level token."""
ANSWER_LOST = "answer_lost"
"""Our code for a connection that broke before the answer."""
TIMED_OUT = "timed_out"
"""Our code for an answer that took too long: the call may still be under way."""
BUSY_S = 30.0
"""How long to wait if Slack sends no Retry-After."""
FLOODED = frozenset({"message_limit_exceeded", "rate_limited"})
"""The workspace or the app as a whole has posted too much, which takes longer to pass."""
FLOODED_S = 120.0
CARD_EVENT = "openhands_card"
PAGE = 200  # items; Slack advises no more
PLACES = "public_channel,private_channel,mpim,im"
NO_SUCH_CALL = frozenset({"http_404", "unknown_method"})
"""Codes from a Slack-compatible server that lacks a method."""
SEARCH_AROUND = timedelta(minutes=10)
"""Search for a message this long before and after we sent it, because Slack's clock and ours differ; no further,
because we may look for a lost message days later, in a busy place."""
APART_MOST = timedelta(days=1)
"""By no more than this a search allows for a wrong clock."""
CONTEXT_MESSAGES = 30
WRONG_CLOCK = "nothing is lost; set this machine's clock right, or requests may count as old"
USER = re.compile(r"[UW][A-Z0-9]{2,31}")
FILES_HOST = "files.slack.com"
READ_FILES = "files:read"
DOWNLOAD = "file"
"""Our name for a download, beside Slack's methods."""
NO_FILE, TOO_BIG = "file_not_found", "file_too_big"
HTML = "text/html"
FACTS = 5_000
"""People, and places, that are remembered at most: an evicted one costs one more call."""


def session_of(timeout_s: float) -> aiohttp.ClientSession:
    """Return a session for Slack. It honours proxies, and trusts whom the machine trusts. Close it when done."""
    # Proxies come from the environment; passwords of ~/.netrc, which the library would read too, are for nobody here.
    os.environ["NETRC"] = os.devnull
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        connector=aiohttp.TCPConnector(ssl=trusted()),
        trust_env=True,
    )


def is_slacks(url: str, api_url: str) -> bool:
    """Return whether an address is on Slack's own hosts, or on that of the API which the bot is set to."""
    try:
        there, api = urlsplit(url), urlsplit(api_url)
    except ValueError:
        return False
    if (there.scheme, there.netloc) == (api.scheme, api.netloc):
        return True
    host = there.hostname or ""
    return there.scheme == "https" and (host == "slack.com" or host.endswith(".slack.com"))


Key = TypeVar("Key", UserId, ChannelId)
Fact = TypeVar("Fact", Person, Place)
Called = Callable[[str, str], None]
"""(method, outcome). The outcome is "ok", or the error's class name without `Slack`, in lower case."""


def nobody_counts(_method: str, _outcome: str) -> None:
    """Ignore a call: the default where nobody counts calls."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """One earlier message of a thread."""

    user: UserId
    text: str
    ts: MessageTs
    app: str | None = None
    """The name of the app that wrote it; None: a person did."""
    files: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class Posted:
    """Where one of our messages is."""

    ts: MessageTs
    thread: MessageTs | None
    """The root of its thread; None if it is a root itself, as a reply becomes when its thread is gone."""


class Gateway:
    """Slack's Web API as the bot uses it. Raises only `SlackError`s."""

    def __init__(
        self,
        token: str,
        api_url: str,
        session: aiohttp.ClientSession,
        clock: Clock,
        patience: Patience,
        *,
        called: Called = nobody_counts,
    ) -> None:
        """session: shared, closed by the caller; its time-out applies, and it honours proxies and NO_PROXY itself.

        called: is told each call's method and outcome.
        """
        self._api_url = api_url
        self._token = token
        self.client = AsyncWebClient(token=token, base_url=api_url, session=session, retry_handlers=[])
        self.client.proxy = None
        self.budget = Budget()
        self.locked: set[str] = set()
        """Tokens, `bot` and `app`, that Slack refused at the most recent call with them."""
        self._apart = timedelta(0)
        self._called = called
        self._session = session
        self._clock = clock
        self._patience = patience
        self._flooded: set[str] = set()
        self._people: dict[UserId, tuple[datetime, Person]] = {}
        self._places: dict[ChannelId, tuple[datetime, Place]] = {}
        self._groups: dict[str, tuple[datetime, frozenset[UserId]]] = {}

    async def _call(self, method: str, call: Callable[..., Awaitable[Any]], **arguments: Any) -> Any:
        """Call Slack once, or not at all while the method is paused. Raises only `SlackError`s."""
        channel, now = str(arguments.get("channel") or ""), self._clock.now()
        token = "app" if method == CONNECT else "bot"
        if closed := self.budget.closed(method, channel, now):
            raise SlackBusy("ratelimited", retry_after_s=(closed - now).total_seconds())
        try:
            answer = await self._answered(method, channel, call(**arguments))
        except SlackError as err:
            if isinstance(err, SlackLocked):
                self.locked.add(token)
            elif isinstance(err, SlackRefused):  # for another reason
                self.locked.discard(token)
            self._called(method, type(err).__name__.removeprefix("Slack").lower())
            raise
        self._called(method, "ok")
        self.locked.discard(token)
        self._flooded.discard(method)
        self._compare_clocks(answer.headers.get("Date", ""))
        return answer

    def _compare_clocks(self, date: str) -> None:
        """Note the most that Slack's clock and ours were apart: messages bear its time, what we wrote down has ours."""
        try:
            ahead = self._clock.now() - parsedate_to_datetime(date)
        except (TypeError, ValueError):  # no such header, as behind an odd proxy, or one without a zone
            return
        apart = min(abs(ahead), APART_MOST)
        if apart > self._apart + SLIP:
            self._apart = apart
            log.warning("clock.wrong", ahead_s=round(ahead.total_seconds()), help=WRONG_CLOCK)

    async def _answered(self, method: str, channel: str, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except SlackApiError as err:
            raise self._error(method, channel, err) from None
        except aiohttp.ClientConnectorError as err:
            raise SlackUnavailable("no_connection", cause(err)) from None
        except TimeoutError:  # before ClientError: a single read that times out raises an error that is both
            raise SlackUnsure(TIMED_OUT) from None
        except aiohttp.ClientError:
            raise SlackUnsure(ANSWER_LOST) from None
        except (AttributeError, ValueError):  # from the SDK, if the body is not a JSON object
            raise SlackUnsure("answer_unreadable") from None

    def _error(self, method: str, channel: str, err: SlackApiError) -> SlackError:
        response = err.response  # the SDK's, or aiohttp's own if the body was broken JSON
        status = getattr(response, "status_code", None) or response.status
        data = getattr(response, "data", None)
        code = str(data.get("error") or "") if isinstance(data, Mapping) else ""
        if status == 429 or code in BUSY:
            return self._busy(method, channel, code or "ratelimited", retry_after(response.headers))
        if code in FLOODED:
            return self._flood(method, code)
        if not code or status >= 500 or code in UNKNOWN_OUTCOME:
            return SlackUnsure(code or f"http_{status}")
        if code == NO_SCOPE:
            return SlackNoScope(str(data["needed"]) if isinstance(data, Mapping) and data.get("needed") else "")
        return SlackLocked(code) if code in LOCKED else SlackRefused(code)

    def _busy(self, method: str, channel: str, code: str, wait_s: float) -> SlackBusy:
        now = self._clock.now()
        self.budget.close(method, channel, later(now, wait_s), now)
        return SlackBusy(code, retry_after_s=wait_s)

    def _flood(self, method: str, code: str) -> SlackBusy:
        """Pause the method in the whole workspace, and log for the operator once per streak of refusals."""
        if method not in self._flooded:
            self._flooded.add(method)
            log.error("slack.flooded", method=method, code=code, again_in_s=FLOODED_S, help="nothing is lost, it waits")
        return self._busy(method, "", code, FLOODED_S)

    async def _pages(
        self, method: str, call: Callable[..., Awaitable[Any]], items: str, **arguments: Any
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the items of all pages, in Slack's order."""
        cursor: str | None = None
        while cursor != "":
            answer = await self._call(method, call, **arguments, limit=PAGE, cursor=cursor)
            for item in answer.get(items) or []:
                yield item
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""

    async def identity(self) -> tuple[Identity, frozenset[str]]:
        """Return who we are and which scopes the token has."""
        answer = await self._call("auth.test", self.client.auth_test)
        scopes = answer.headers.get("x-oauth-scopes", "")
        us = Identity(TeamId(answer["team_id"]), UserId(answer["user_id"]), answer.get("bot_id", ""), answer["url"])
        return us, frozenset(scope.strip() for scope in scopes.split(",") if scope.strip())

    async def socket_url(self, app_token: str) -> str:
        """Return a fresh address for one Socket Mode connection."""
        answer = await self._call("apps.connections.open", self.client.apps_connections_open, app_token=app_token)
        return str(answer["url"])

    # --- messages -----------------------------------------------------------------------------------------------

    async def post(
        self, channel: ChannelId, message: Message, row: RowId, *, thread: MessageTs | None = None
    ) -> Posted:
        """Post a message that carries its outbox row's id. After `SlackUnsure`, call `find` before repeating."""
        answer = await self._call(
            "chat.postMessage",
            self.client.chat_postMessage,
            channel=channel,
            text=message.text,
            blocks=message.blocks,
            thread_ts=thread,
            metadata={"event_type": CARD_EVENT, "event_payload": {"id": row}},
            parse="none",
            link_names=False,
            unfurl_links=False,
            unfurl_media=False,
        )
        stored = answer.get("message")
        unnamed = isinstance(stored, Mapping) and "thread_ts" not in stored
        if thread is not None and unnamed and await self.is_gone(channel, thread):
            thread = None
        return Posted(MessageTs(answer["ts"]), thread)

    async def is_gone(self, channel: ChannelId, thread: MessageTs) -> bool:
        """Return whether a thread was certainly deleted, root included; False also if Slack does not say."""
        try:
            await self._call(
                "conversations.replies", self.client.conversations_replies, channel=channel, ts=thread, limit=1
            )
        except SlackError as err:
            return err.code == "thread_not_found"
        return False

    async def find(
        self, channel: ChannelId, row: RowId, us: Identity, *, thread: MessageTs | None, sent_at: datetime
    ) -> Posted | None:
        """Return our message with this row's id, searching around the time it was sent; None if it is not there.

        thread: where it was meant to go. If that thread is gone, the message is at the channel's top level.
        """
        try:
            return await self._found(channel, row, us, thread=thread, sent_at=sent_at)
        except SlackRefused as err:
            if err.code != "thread_not_found":
                raise
        return await self._found(channel, row, us, thread=None, sent_at=sent_at)

    async def _found(
        self, channel: ChannelId, row: RowId, us: Identity, *, thread: MessageTs | None, sent_at: datetime
    ) -> Posted | None:
        margin = SEARCH_AROUND + self._apart
        around = {"oldest": slack_time(sent_at - margin), "latest": slack_time(sent_at + margin)}
        where = {"channel": channel, **around, "include_all_metadata": True}
        messages = (
            self._pages("conversations.history", self.client.conversations_history, "messages", **where)
            if thread is None
            else self._pages("conversations.replies", self.client.conversations_replies, "messages", ts=thread, **where)
        )
        async for message in messages:
            payload = (message.get("metadata") or {}).get("event_payload") or {}
            if payload.get("id") == row and us.wrote(message):
                ts, root = MessageTs(message["ts"]), message.get("thread_ts")
                return Posted(ts, None if root == ts else root)  # a root with replies names itself
        return None

    async def update(self, channel: ChannelId, ts: MessageTs, message: Message) -> None:
        """Edit a message. Idempotent."""
        await self._call(
            "chat.update",
            self.client.chat_update,
            channel=channel,
            ts=ts,
            text=message.text,
            blocks=message.blocks,
            parse="none",
            link_names=False,
        )

    async def whisper(self, channel: ChannelId, user: UserId, text: str, *, thread: MessageTs | None) -> None:
        """Post an ephemeral message, which only one person sees."""
        await self._call(
            "chat.postEphemeral",
            self.client.chat_postEphemeral,
            channel=channel,
            user=user,
            text=text,
            thread_ts=thread,
            parse="none",
            link_names=False,
        )

    async def respond(self, response_url: str, text: str) -> None:
        """Answer a command so that only its author sees it. Raises only `SlackError`s.

        The address came with the command: one that is not Slack's own gets no word of ours.
        """
        if not is_slacks(response_url, self._api_url):
            raise SlackRefused("foreign_response_url")
        said = {"response_type": "ephemeral", "text": text}
        try:
            async with self._session.post(response_url, json=said, allow_redirects=False) as answer:
                status, wait_s = answer.status, retry_after(answer.headers)
        except aiohttp.ClientConnectorError as err:
            raise SlackUnavailable("no_connection", cause(err)) from None
        except (aiohttp.ClientError, TimeoutError):
            raise SlackUnsure(ANSWER_LOST) from None
        if status == 429:
            raise SlackBusy("ratelimited", retry_after_s=wait_s)
        if status >= 500:
            raise SlackUnsure(f"http_{status}")
        if status >= 300:
            raise SlackRefused(f"http_{status}")

    async def react(self, channel: ChannelId, ts: MessageTs, name: str) -> None:
        """Add a reaction to a message. Idempotent."""
        try:
            await self._call("reactions.add", self.client.reactions_add, channel=channel, timestamp=ts, name=name)
        except SlackRefused as err:
            if err.code != "already_reacted":
                raise

    async def direct(self, user: UserId) -> ChannelId:
        """Open the direct message with a person and return its channel, which is always the same one."""
        answer = await self._call("conversations.open", self.client.conversations_open, users=user)
        return ChannelId(part(answer, "channel")["id"])

    # --- files --------------------------------------------------------------------------------------------------

    async def download(self, file: File, most: int) -> tuple[File, bytes]:
        """Return a file's bytes, and the file as Slack shows it by now.

        The token goes to Slack's own hosts alone, and no redirect is followed. Raises `SlackRefused`, as with `TOO_BIG` for
        one of more than `most` bytes, `SlackNoScope` and, for what may pass, the others.
        """
        if not file.url:
            answer = part(await self._call("files.info", self.client.files_info, file=file.id), "file")
            file = replace(file_in({**answer, "file_access": None}), id=file.id)
        if not self._is_slacks(file.url):
            raise SlackRefused(NO_FILE)
        try:
            data = await self._downloaded(file, most)
        except SlackError as err:
            self._called(DOWNLOAD, type(err).__name__.removeprefix("Slack").lower())
            raise
        self._called(DOWNLOAD, "ok")
        return file, data

    def _is_slacks(self, url: str) -> bool:
        """Return whether an address is one of Slack's, or of the server that stands for it."""
        try:
            asked, ours = urlsplit(url), urlsplit(self._api_url)
        except ValueError:
            return False
        if asked.scheme == "https" and asked.netloc in (FILES_HOST, f"files.{ours.netloc}"):
            return True
        return (asked.scheme, asked.netloc) == (ours.scheme, ours.netloc)

    async def _downloaded(self, file: File, most: int) -> bytes:
        within = aiohttp.ClientTimeout(total=self._patience.file_timeout_s)
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with self._session.get(file.url, headers=headers, allow_redirects=False, timeout=within) as answer:
                if answer.status == 429:
                    raise SlackBusy("ratelimited", retry_after_s=retry_after(answer.headers))
                if answer.status >= 500:
                    raise SlackUnsure(f"http_{answer.status}")
                if answer.status in (401, 403):
                    raise SlackNoScope(READ_FILES)
                if answer.status != 200:
                    raise SlackRefused(NO_FILE)
                try:
                    data = await answer.content.readexactly(most + 1)
                except asyncio.IncompleteReadError as whole:
                    data = whole.partial
        except aiohttp.ClientConnectorError as err:
            raise SlackUnavailable("no_connection", cause(err)) from None
        except TimeoutError:
            raise SlackUnsure(TIMED_OUT) from None
        except (aiohttp.ClientError, ValueError):
            raise SlackUnsure(ANSWER_LOST) from None
        if answer.content_type == HTML and len(data) != file.size:
            raise SlackNoScope(READ_FILES)  # a page to sign in, which comes instead of a refusal
        if len(data) > most:
            raise SlackRefused(TOO_BIG)
        return data

    # --- facts --------------------------------------------------------------------------------------------------

    async def person(self, user: UserId) -> Person:
        """Return who somebody is, cached for a few minutes."""
        if known := self._remembered(self._people.get(user)):
            return known
        answer = part(await self._call("users.info", self.client.users_info, user=user), "user")
        profile = answer.get("profile") or {}
        person = Person(
            id=user,
            team=answer.get("team_id"),
            name=profile.get("display_name") or answer.get("real_name") or answer.get("name") or "",
            bot=bool(answer.get("is_bot")),
            guest=bool(answer.get("is_restricted") or answer.get("is_ultra_restricted")),
            stranger=bool(answer.get("is_stranger")),
            deleted=bool(answer.get("deleted")),
        )
        self._remember(self._people, user, person)
        return person

    async def members(self, group: str) -> frozenset[UserId]:
        """Return who is in a user group, cached for a few minutes."""
        if (known := self._groups.get(group)) is not None and not self._is_old(known[0]):
            return known[1]
        answer = await self._call("usergroups.users.list", self.client.usergroups_users_list, usergroup=group)
        people = frozenset(UserId(one) for one in answer.get("users") or [])
        self._groups[group] = (self._clock.now(), people)
        return people

    async def place(self, channel: ChannelId) -> Place:
        """Return what kind of conversation this is, cached for a few minutes."""
        if known := self._remembered(self._places.get(channel)):
            return known
        answer = part(
            await self._call("conversations.info", self.client.conversations_info, channel=channel), "channel"
        )
        private = any(answer.get(kind) for kind in ("is_private", "is_im", "is_mpim"))
        place = Place(id=channel, private=private, external=bool(answer.get("is_ext_shared")))
        self._remember(self._places, channel, place)
        return place

    def forget_places(self, channel: ChannelId | None = None) -> None:
        """Ask anew about a place that changed; None: about all, since a change may have been missed."""
        if channel is None:
            self._places.clear()
        else:
            self._places.pop(channel, None)

    def _remembered(self, asked: tuple[datetime, Fact] | None) -> Fact | None:
        return None if asked is None or self._is_old(asked[0]) else asked[1]

    def _remember(self, facts: dict[Key, tuple[datetime, Fact]], key: Key, fact: Fact) -> None:
        """Cache a fact, and evict expired ones, then the oldest ones beyond `FACTS`."""
        facts.pop(key, None)
        facts[key] = (self._clock.now(), fact)
        for old in [one for one, (at, _) in facts.items() if self._is_old(at)]:
            del facts[old]
        while len(facts) > FACTS:
            del facts[next(iter(facts))]

    def _is_old(self, at: datetime) -> bool:
        return (self._clock.now() - at).total_seconds() > self._patience.facts_cache_s

    async def spoken(
        self, channel: ChannelId, thread: MessageTs, before: MessageTs, us: Identity, *, after: MessageTs | None = None
    ) -> tuple[list[Spoken], bool]:
        """Return what people and other apps said in a thread before a message, and whether that is all that is meant.

        Oldest first, at most the last few. after: only what is newer than that message. Where Slack refuses a later page,
        it is what could be read.
        """
        where = {"channel": channel, "ts": thread, "latest": before, "oldest": after}
        said: dict[str, Spoken] = {}  # by ts, since every page starts with the thread's root
        whole = True
        try:
            async for message in self._pages(
                "conversations.replies", self.client.conversations_replies, "messages", **where
            ):
                one = spoken_in(message, us)
                if one is not None and (after or "") < one.ts < before:
                    said[one.ts] = one
        except SlackError:
            if not said:
                raise
            whole = False
        return list(said.values())[-CONTEXT_MESSAGES:], whole

    async def spoken_at(self, linked: Linked, us: Identity) -> Spoken | None:
        """Return what a person or another app said in a message that somebody linked; None if it is not there."""
        around = {"channel": linked.channel, "oldest": linked.ts, "latest": linked.ts, "inclusive": True, "limit": 1}
        if linked.thread in (None, linked.ts):
            answer = await self._call("conversations.history", self.client.conversations_history, **around)
        else:
            answer = await self._call(
                "conversations.replies",
                self.client.conversations_replies,
                ts=linked.thread,
                **{**around, "limit": 2},  # the thread's root comes first
            )
        found = [one for one in answer.get("messages") or [] if one.get("ts") == linked.ts]
        return spoken_in(found[0], us) if found else None

    async def is_in(self, channel: ChannelId) -> bool:
        """Return whether the bot is a member of a channel."""
        answer = await self._call("conversations.info", self.client.conversations_info, channel=channel)
        return bool(part(answer, "channel").get("is_member"))

    async def channel_called(self, written: str) -> ChannelId | None:
        """Return the channel an operator wrote as an id, or as a name with or without `#`; None: no such name."""
        name = written.removeprefix("#")
        is_id = name[:1] in ("C", "G") and name.isalnum() and name.isupper()
        return ChannelId(name) if is_id else await self.channel_named(name)

    async def person_called(self, written: str) -> UserId | None:
        """Return the person somebody wrote as a mention, an id, or a name with `@`; None: no such name."""
        name = written.strip("<>").removeprefix("@")
        if USER.fullmatch(name):
            return UserId(name)
        async for user in self._pages("users.list", self.client.users_list, "members"):
            names = {user.get("name"), user.get("real_name"), (user.get("profile") or {}).get("display_name")}
            if name in names:
                return UserId(user["id"])
        return None

    async def channel_named(self, name: str) -> ChannelId | None:
        """Return the channel with this name; None if there is none."""
        where = {"types": "public_channel,private_channel", "exclude_archived": True}
        async for channel in self._pages("conversations.list", self.client.conversations_list, "channels", **where):
            if channel["name"] == name:
                return ChannelId(channel["id"])
        return None

    # --- reading back: one page per call, since only the caller knows how many calls there may be ---------------

    async def places(self, cursor: str) -> tuple[Sequence[ChannelId], str]:
        """Return a page of the channels and direct messages the bot is in, and the next cursor; "" at the end."""
        wanted = {"types": PLACES, "exclude_archived": True, "limit": PAGE, "cursor": cursor or None}
        try:
            answer = await self._call("users.conversations", self.client.users_conversations, **wanted)
        except (SlackRefused, SlackUnsure) as err:  # conversations.list also lists channels the bot is not in
            if err.code not in NO_SUCH_CALL:
                raise
            answer = await self._call("conversations.list", self.client.conversations_list, **wanted)
        listed = answer.get("channels") or []
        return [ChannelId(one["id"]) for one in listed if one.get("is_member", True)], next_cursor(answer)

    async def replies_since(
        self, channel: ChannelId, thread: MessageTs, since: datetime, us: Identity, cursor: str
    ) -> Page:
        """Read a page of what people said to us in a thread since a moment."""
        since -= self._apart
        answer = await self._call(
            "conversations.replies",
            self.client.conversations_replies,
            channel=channel,
            ts=thread,
            oldest=slack_time(since),
            limit=PAGE,
            cursor=cursor or None,
        )
        return thread_page(answer, channel, since, us)

    async def said_since(self, channel: ChannelId, since: datetime, us: Identity, cursor: str) -> Page:
        """Read a page of what people said to us at the top level of a place since a moment, newest page first.

        Replies are not included, only the threads that got some, as far as their roots are on the pages read.
        """
        since -= self._apart
        answer = await self._call(
            "conversations.history",
            self.client.conversations_history,
            channel=channel,
            oldest=slack_time(since - ROOTS_BACK),
            limit=PAGE,
            cursor=cursor or None,
        )
        return place_page(answer, channel, since, us)

    @property
    def server(self) -> str:
        """Host and port of the server that answers as Slack."""
        return urlsplit(self._api_url).netloc.rpartition("@")[2]

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session for every connection to Slack."""
        return self._session


def spoken_in(message: Mapping[str, Any], us: Identity) -> Spoken | None:
    """Return what a person or another app said in a message; None for everything else."""
    reader, ts, subtype = Reader(us.user), MessageTs(message["ts"]), message.get("subtype")
    if subtype not in (*SAID_BY_PEOPLE, "bot_message") or us.wrote(message):
        return None
    if subtype == "bot_message" or message.get("bot_id"):
        profile = message.get("bot_profile") or {}
        name = message.get("username") or profile.get("name") or ""
        by, text = message.get("user") or message.get("bot_id") or "", reader.alert(message)
        return Spoken(UserId(by), text, ts, app=str(name)) if text else None
    text, files = reader.words(message), files_of(message)
    return Spoken(UserId(message["user"]), text, ts, files=files) if "user" in message and (text or files) else None


def part(answer: Any, name: str) -> Mapping[str, Any]:
    """Return an object that an answer must contain. Raises `SlackUnsure` if it is missing."""
    found = answer.get(name)
    if not isinstance(found, Mapping):
        raise SlackUnsure("answer_unreadable")
    return found


def retry_after(headers: Mapping[str, str]) -> float:
    """Return how long to wait, in seconds. headers: aiohttp's, so case-insensitive."""
    said = headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else BUSY_S
