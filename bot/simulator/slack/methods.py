"""The Web API's methods: the arguments, scopes, effects and answers of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bot.simulator.slack import files, shapes
from bot.simulator.slack.arguments import (
    PAGE_DEFAULT,
    PAGE_MAX,
    POST_TEXT_MAX,
    UPDATE_TEXT_MAX,
    cursor,
    flag,
    page,
    read_content,
    read_metadata,
    time_of,
)
from bot.simulator.slack.limits import (
    NARROW_A_MINUTE,
    NARROW_PAGE,
    NARROWED,
    POSTS_A_MINUTE,
    SPECIAL_A_MINUTE,
    TIERS,
    Limits,
)
from bot.simulator.slack.records import JSON, Channel, Message, Refused
from bot.simulator.slack.workspace import HISTORY_SCOPE, READ_SCOPE, Workspace


class TooFast(Exception):
    """HTTP 429."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"wait {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Method:
    run: Callable[["WebApi", JSON], JSON]
    args: frozenset[str]
    a_minute: int
    caller: Literal["bot", "app"] = "bot"
    posts: bool = False  # has Slack's limit of one a second per channel


class WebApi:
    """Answers calls by name. socket_url: returns a fresh address for one socket."""

    def __init__(
        self, workspace: Workspace, socket_url: Callable[[], str], limits: Limits, stored: files.Files
    ) -> None:
        self.workspace = workspace
        self._files = stored
        self._socket_url = socket_url
        self._limits = limits

    def call(self, name: str, args: JSON, token: str | None) -> JSON:
        """Execute the method and return the answer's fields. Raises Refused (ok: false) or TooFast (429)."""
        method = METHODS.get(name)
        if method is None:
            self.workspace.violations.append(f"{name}: no such method")
            raise Refused("unknown_method", req_method=name)
        self._authenticate(method, token)
        for unknown in sorted(args.keys() - method.args):
            self.workspace.violations.append(f"{name}: argument not known here: {unknown}")
        channel = str(args.get("channel")) if method.posts else None
        narrow = self.workspace.narrow and name in NARROWED
        wait_s = self._limits.take(name, NARROW_A_MINUTE if narrow else method.a_minute, channel)
        if wait_s is not None:
            raise TooFast(wait_s)
        return method.run(self, args)

    def _authenticate(self, method: Method, token: str | None) -> None:
        if not token:
            raise Refused("not_authed")
        team = self.workspace.team
        if token not in {team.bot_token, team.app_token}:
            raise Refused("invalid_auth")
        if token != (team.app_token if method.caller == "app" else team.bot_token):
            raise Refused("not_allowed_token_type")

    # -- auth, sockets

    def auth_test(self, _: JSON) -> JSON:
        team = self.workspace.team
        return {
            "url": team.url,
            "team": team.name,
            "user": team.bot_name.lower(),
            "team_id": team.id,
            "user_id": team.bot_user_id,
            "bot_id": team.bot_id,
            "is_enterprise_install": False,
        }

    def connections_open(self, _: JSON) -> JSON:
        return {"url": self._socket_url()}

    # -- chat

    def post_message(self, args: JSON) -> JSON:
        self._need("chat:write")
        place = self._place_to_post(args)
        content = read_content(self.workspace, args, parse_default="none")
        broadcast = flag(args, "reply_broadcast")
        in_thread = self.workspace.root_of(place, args.get("thread_ts")) is not None
        message = self.workspace.post(
            place,
            self.workspace.bot,
            content.text[:POST_TEXT_MAX],
            blocks=content.blocks,
            thread_ts=args.get("thread_ts"),
            metadata=read_metadata(args),
            notified=content.notified,
            subtype="thread_broadcast" if broadcast and in_thread else None,
        )
        self.workspace.tell_posted(message)
        return {"channel": place.id, "ts": message.ts, "message": self.workspace.shown(message)}

    def update(self, args: JSON) -> JSON:
        self._need("chat:write")
        place = self._visible(args)
        message = self._message(place, args.get("ts"))
        if place.archived:
            raise Refused("is_inactive")
        if message.bot_id != self.workspace.team.bot_id:
            raise Refused("cant_update_message")
        content = read_content(self.workspace, args, parse_default="client")
        if len(content.text) > UPDATE_TEXT_MAX:
            raise Refused("msg_too_long")
        after = self.workspace.change(
            message,
            text=content.text,
            blocks=content.blocks,
            metadata=message.metadata if args.get("metadata") is None else read_metadata(args),
            broadcasts=content.notified.broadcasts,
        )
        return {"channel": place.id, "ts": after.ts, "text": after.text, "message": self.workspace.shown(after)}

    def delete(self, args: JSON) -> JSON:
        self._need("chat:write")
        place = self._visible(args)
        message = self._message(place, args.get("ts"))
        if message.bot_id != self.workspace.team.bot_id:
            raise Refused("cant_delete_message")
        self.workspace.delete(message)
        return {"channel": place.id, "ts": message.ts}

    def post_ephemeral(self, args: JSON) -> JSON:
        self._need("chat:write")
        place = self._place_to_post(args)
        user = args.get("user")
        if user not in place.members:
            raise Refused("user_not_in_channel")
        content = read_content(self.workspace, args, parse_default="none")
        self.workspace.whisper(
            user,
            place.id,
            content.text[:POST_TEXT_MAX],
            "chat.postEphemeral",
            blocks=content.blocks,
            thread_ts=args.get("thread_ts"),
        )
        return {"message_ts": self.workspace.next_ts(place)}

    def permalink(self, args: JSON) -> JSON:
        place = self._visible(args)
        message = self._message(place, args.get("message_ts"))
        link = f"{self.workspace.team.url}archives/{place.id}/p{message.ts.replace('.', '')}"
        if message.thread_ts:
            link += f"?thread_ts={message.thread_ts}&cid={place.id}"
        return {"channel": place.id, "permalink": link}

    # -- conversations

    def list_conversations(self, args: JSON) -> JSON:
        return self._conversations(args, lambda place: place.kind == "channel" or self.workspace.bot_is_in(place))

    def own_conversations(self, args: JSON) -> JSON:
        return self._conversations(args, self.workspace.bot_is_in)

    def _conversations(self, args: JSON, is_shown: Callable[[Channel], bool]) -> JSON:
        kinds = {
            "public_channel": "channel",
            "private_channel": "group",
            "im": "im",
            "mpim": "mpim",
        }
        wanted = [kind.strip() for kind in str(args.get("types") or "public_channel").split(",")]
        if not set(wanted) <= kinds.keys():
            raise Refused("invalid_types")
        for kind in wanted:
            self._need(READ_SCOPE[kinds[kind]])
        shown = [
            place
            for place in self.workspace.channels.values()
            if place.kind in {kinds[kind] for kind in wanted}
            and is_shown(place)
            and not (place.archived and flag(args, "exclude_archived"))
        ]
        start, end = page(args, len(shown), PAGE_DEFAULT)
        return {
            "channels": [shapes.channel(self.workspace.team, place) for place in shown[start:end]],
            "response_metadata": {"next_cursor": cursor(end) if end < len(shown) else ""},
        }

    def conversation_info(self, args: JSON) -> JSON:
        place = self._visible(args)
        self._need(READ_SCOPE[place.kind])
        return {"channel": shapes.channel(self.workspace.team, place)}

    def members(self, args: JSON) -> JSON:
        place = self._visible(args)
        self._need(READ_SCOPE[place.kind])
        people = sorted(place.members)
        start, end = page(args, len(people), PAGE_DEFAULT)
        return {
            "members": people[start:end],
            "response_metadata": {"next_cursor": cursor(end) if end < len(people) else ""},
        }

    def open_conversation(self, args: JSON) -> JSON:
        if args.get("channel"):
            place, was_open = self._visible(args), True
        else:
            people = [user for user in str(args.get("users") or "").split(",") if user]
            if not people:
                raise Refused("users_list_not_supplied")
            self._need("im:write" if len(people) == 1 else "mpim:write")
            for person in people:
                self._person(person)
                if self.workspace.users[person].bot_id:
                    raise Refused("cannot_dm_bot")
                if self.workspace.users[person].deleted:
                    raise Refused("user_disabled")
            place, was_open = self.workspace.conversation(people)
        shown = shapes.channel(self.workspace.team, place) if flag(args, "return_im") else {"id": place.id}
        return {"channel": shown} | ({"no_op": True, "already_open": True} if was_open else {})

    def history(self, args: JSON) -> JSON:
        place = self._readable(args)
        tops = [one for one in place.messages.values() if one.thread_ts is None or one.subtype == "thread_broadcast"]
        return self._read(list(reversed(tops)), args, PAGE_DEFAULT)

    def replies(self, args: JSON) -> JSON:
        """Return a page of a thread, oldest first, with the root at the head of every page."""
        place = self._readable(args)
        root_ts = self.workspace.root_of(place, args.get("ts"))
        if root_ts is None:
            raise Refused("thread_not_found")
        answer = self._read([place.messages[ts] for ts in place.threads.get(root_ts, [])], args, PAGE_MAX)
        root = self.workspace.shown(place.messages[root_ts], all_metadata=flag(args, "include_all_metadata"))
        return answer | {"messages": [root, *answer["messages"]]}

    def _read(self, messages: list[Message], args: JSON, page_size: int) -> JSON:
        oldest, latest = str(args.get("oldest") or "0"), str(args.get("latest") or "9999999999")
        bounds = (time_of(oldest), time_of(latest))
        edges = flag(args, "inclusive")
        found = [
            one for one in messages if bounds[0] < time_of(one.ts) < bounds[1] or (edges and time_of(one.ts) in bounds)
        ]
        if self.workspace.narrow:
            args = {**args, "limit": min(NARROW_PAGE, int(args.get("limit") or page_size))}
        start, end = page(args, len(found), page_size)
        metadata = flag(args, "include_all_metadata")
        answer: JSON = {
            "messages": [self.workspace.shown(one, all_metadata=metadata) for one in found[start:end]],
            "has_more": end < len(found),
        }
        return answer | ({"response_metadata": {"next_cursor": cursor(end)}} if end < len(found) else {})

    # -- files, users, reactions

    def file_info(self, args: JSON) -> JSON:
        self._need(files.SCOPE)
        return self._files.info(args)

    def user_info(self, args: JSON) -> JSON:
        self._need("users:read")
        return {"user": shapes.user(self.workspace.users[self._person(args.get("user"))])}

    def list_users(self, args: JSON) -> JSON:
        self._need("users:read")
        people = [*self.workspace.users.values()]
        start, end = page(args, len(people), PAGE_DEFAULT)
        return {
            "members": [shapes.user(one) for one in people[start:end]],
            "response_metadata": {"next_cursor": cursor(end) if end < len(people) else ""},
        }

    def group_members(self, args: JSON) -> JSON:
        self._need("usergroups:read")
        group = str(args.get("usergroup") or "")
        if group not in self.workspace.groups:
            raise Refused("no_such_subteam")
        return {"users": sorted(self.workspace.groups[group])}

    def react(self, args: JSON) -> JSON:
        self._need("reactions:write")
        name = str(args.get("name") or "").strip(":")
        if not name:
            raise Refused("no_reaction")
        if not name.replace("_", "").replace("-", "").replace("+", "").isalnum() or not name.isascii():
            raise Refused("invalid_name")
        place = self._place_to_post(args)
        message = self._message(place, args.get("timestamp"))
        bot = self.workspace.bot
        if bot.id in message.reactions.get(name, []):
            raise Refused("already_reacted")
        self.workspace.react(message, bot, name)
        return {}

    # -- shared rules

    def _need(self, scope: str) -> None:
        provided = self.workspace.scopes
        if scope not in provided:
            raise Refused("missing_scope", needed=scope, provided=",".join(sorted(provided)))

    def _visible(self, args: JSON) -> Channel:
        """Return the channel. Raises Refused if there is none, or a private one without the bot."""
        place = self.workspace.channels.get(str(args.get("channel")))
        if place is None or (place.kind != "channel" and not self.workspace.bot_is_in(place)):
            raise Refused("channel_not_found")
        return place

    def _place_to_post(self, args: JSON) -> Channel:
        """Return where to post: a channel the bot is in or, for a person's id, the direct message with them."""
        person = self.workspace.users.get(str(args.get("channel")))
        if person is not None and not person.bot_id:
            return self.workspace.conversation([person.id])[0]
        place = self._visible(args)
        if place.archived:
            raise Refused("is_archived")
        if not self.workspace.bot_is_in(place):
            raise Refused("not_in_channel")
        return place

    def _readable(self, args: JSON) -> Channel:
        place = self._visible(args)
        self._need(HISTORY_SCOPE[place.kind])
        if not self.workspace.bot_is_in(place):
            raise Refused("not_in_channel")
        return place

    def _message(self, place: Channel, ts: object) -> Message:
        message = place.messages.get(str(ts))
        if message is None or message.subtype == "tombstone":
            raise Refused("message_not_found")
        return message

    def _person(self, user: object) -> str:
        if user not in self.workspace.users:
            raise Refused("user_not_found")
        return str(user)


def _method(run: Callable[[WebApi, JSON], JSON], args: str, a_minute: int, **more: Any) -> Method:
    return Method(run, frozenset(args.split()), a_minute, **more)


_CONTENT = "text blocks markdown_text metadata parse link_names"
_POST = f"channel thread_ts {_CONTENT} unfurl_links unfurl_media"
_PAGE = "cursor limit"
_READ = f"channel {_PAGE} oldest latest inclusive include_all_metadata"

METHODS = {
    "auth.test": _method(WebApi.auth_test, "", SPECIAL_A_MINUTE),
    "apps.connections.open": _method(WebApi.connections_open, "", TIERS[3], caller="app"),
    "chat.postMessage": _method(WebApi.post_message, f"{_POST} reply_broadcast", POSTS_A_MINUTE, posts=True),
    "chat.update": _method(WebApi.update, f"channel ts {_CONTENT}", TIERS[3]),
    "chat.delete": _method(WebApi.delete, "channel ts", TIERS[3]),
    "chat.postEphemeral": _method(
        WebApi.post_ephemeral, "channel user thread_ts text blocks markdown_text parse link_names", TIERS[4]
    ),
    "chat.getPermalink": _method(WebApi.permalink, "channel message_ts", SPECIAL_A_MINUTE),
    "conversations.list": _method(
        WebApi.list_conversations, f"types exclude_archived team_id {_PAGE}", TIERS[2]
    ),
    "conversations.info": _method(WebApi.conversation_info, "channel", TIERS[3]),
    "conversations.members": _method(WebApi.members, f"channel {_PAGE}", TIERS[4]),
    "conversations.open": _method(WebApi.open_conversation, "channel users return_im", TIERS[3]),
    "conversations.history": _method(WebApi.history, _READ, TIERS[3]),
    "conversations.replies": _method(WebApi.replies, f"ts {_READ}", TIERS[3]),
    "users.conversations": _method(
        WebApi.own_conversations, f"types exclude_archived team_id {_PAGE}", TIERS[3]
    ),
    "usergroups.users.list": _method(WebApi.group_members, "usergroup include_disabled", TIERS[2]),
    "users.list": _method(WebApi.list_users, f"include_locale team_id {_PAGE}", TIERS[2]),
    "files.info": _method(WebApi.file_info, f"file {_PAGE}", TIERS[4]),
    "users.info": _method(WebApi.user_info, "user", TIERS[4]),
    "reactions.add": _method(WebApi.react, "channel name timestamp", TIERS[3]),
}  # fmt: skip
