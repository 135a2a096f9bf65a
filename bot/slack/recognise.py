"""Payload → Incoming: what Slack sends is parsed once, at the edge. Pure.

Commands, messages, their edits and deletions, and clicks are requests. Everything else (joins, link previews, clicks on a
link button, our own messages, other bots) is acknowledged and ignored.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from bot.core.model import ChannelId, File, Incoming, IncomingKind, MessageTs, PlaceGone, TeamId, UserId
from bot.core.vocabulary import ACTION_IDS
from bot.slack.said import Reader, files_of

USER = re.compile(r"[UW][A-Za-z0-9_-]{1,31}")
CHANNEL = re.compile(r"[CDG][A-Za-z0-9_-]{1,31}")
TS = re.compile(r"[0-9]{1,16}\.[0-9]{1,6}")
SLACKBOT = "USLACKBOT"
SAID_BY_PEOPLE = (None, "file_share", "me_message", "thread_broadcast")
"""Subtypes of messages that a person wrote."""
ARCHIVED = ("channel_archive", "group_archive")
SHARING = ("channel_shared", "channel_unshared")
TURNED = ("channel_convert_to_private", "channel_convert_to_public")
"""Subtypes of messages that tell what a channel became."""
RATE_LIMITED = "app_rate_limited"


@dataclass(frozen=True, slots=True)
class Linked:
    """A message that somebody pointed to by its permalink."""

    address: str
    channel: ChannelId
    ts: MessageTs
    thread: MessageTs | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are, from `auth.test` at start."""

    team: TeamId
    user: UserId
    bot: str
    """Empty if the answer names none."""
    workspace_url: str
    """The base of permalinks; ends with a slash."""

    def permalink(self, channel: ChannelId, ts: MessageTs, thread_ts: MessageTs | None = None) -> str:
        """Return the permalink of a message, built as Slack builds it, without a call."""
        address = f"{self.workspace_url}archives/{channel}/p{ts.replace('.', '')}"
        return address if thread_ts in (None, ts) else f"{address}?thread_ts={thread_ts}&cid={channel}"

    def linked(self, text: str) -> list[Linked]:
        """Return the messages of our workspace that a text links, each once."""
        base = re.escape(self.workspace_url)
        found = re.finditer(rf"{base}archives/({CHANNEL.pattern})/p(\d{{10}})(\d{{6}})([^\s|<>]*)", text)
        linked = []
        for one in found:
            thread = re.search(rf"thread_ts=({TS.pattern})", one[4])
            ts = MessageTs(f"{one[2]}.{one[3]}")
            linked.append(Linked(one[0], ChannelId(one[1]), ts, MessageTs(thread[1]) if thread else None))
        return [*dict.fromkeys(linked)]

    def wrote(self, message: Mapping[str, Any]) -> bool:
        """Return whether a message is our own: it names our bot, our user, or both."""
        return message.get("user") == self.user or (self.bot != "" and message.get("bot_id") == self.bot)


def recognise(body: Mapping[str, Any], us: Identity) -> Incoming | None:
    """Parse a payload; return None for everything that is not a request.

    A mention arrives as two events; both yield equal requests, since the verdict comes from the text, not the type.
    """
    if body.get("type") == "event_callback":
        return message(body, us)
    if "command" in body and "trigger_id" in body:
        return command(body, us)
    if body.get("type") == "block_actions":
        return click(body, us)
    return None


def command(body: Mapping[str, Any], us: Identity) -> Incoming | None:
    channel, user, trigger = body.get("channel_id"), body.get("user_id"), body["trigger_id"]
    if not (known(channel, CHANNEL) and known(user, USER) and isinstance(trigger, str)):
        return None
    team, response_url = body.get("team_id"), body.get("response_url")
    return Incoming(
        key=f"cmd:{trigger}"[:255],
        kind=IncomingKind.COMMAND,
        team=us.team,
        channel=ChannelId(channel),
        user=UserId(user),
        text=str(body.get("text") or ""),
        actor_team=TeamId(team) if isinstance(team, str) else None,
        response_url=response_url if isinstance(response_url, str) else None,
    )


def click(body: Mapping[str, Any], us: Identity) -> Incoming | None:
    """Parse a click on one of our buttons; a click on a link button is not a request.

    Slack says twice where the button is: in `container`, and in `channel` and `message`. Either is enough.
    """
    actions = body.get("actions")
    action = fields(actions[0]) if isinstance(actions, list) and actions else {}
    user, container, shown = fields(body.get("user")), fields(body.get("container")), fields(body.get("message"))
    channel = fields(body.get("channel")).get("id") or container.get("channel_id")
    ts, by, name = container.get("message_ts") or shown.get("ts"), user.get("id"), action.get("action_id")
    if not (known(channel, CHANNEL) and known(ts, TS) and known(by, USER)):
        return None
    at, trigger = action.get("action_ts"), body.get("trigger_id")
    clicked_at = MessageTs(at) if known(at, TS) else None
    which = clicked_at or trigger
    done = ACTION_IDS.get(name.partition(":")[0]) if isinstance(name, str) else None
    if done is None or not isinstance(which, str):
        return None
    thread = container.get("thread_ts") or shown.get("thread_ts")
    team, response_url = user.get("team_id"), body.get("response_url")
    return Incoming(
        key=f"act:{channel}:{ts}:{name}:{by}:{which}"[:255],
        kind=IncomingKind.CLICK,
        team=us.team,
        channel=ChannelId(channel),
        user=UserId(by),
        text="",
        ts=MessageTs(ts),
        thread_ts=MessageTs(thread) if known(thread, TS) and thread != ts else None,
        direct=channel.startswith("D"),
        action=done,
        value=str(action.get("value") or ""),
        clicked_at=clicked_at,
        actor_team=TeamId(team) if isinstance(team, str) else None,
        response_url=response_url if isinstance(response_url, str) else None,
    )


def message(body: Mapping[str, Any], us: Identity) -> Incoming | None:
    event = body.get("event")
    if not isinstance(event, dict) or event.get("type") not in ("message", "app_mention"):
        return None
    match event.get("subtype"):
        case "message_changed":
            return changed(body, event, us)
        case "message_deleted":
            return deleted(body, event, fields(event.get("previous_message")), us)
    return None if event.get("hidden") else said(body, event, us)


def said(body: Mapping[str, Any], event: Mapping[str, Any], us: Identity) -> Incoming | None:
    """Parse what a person wrote."""
    user, channel, ts = event.get("user"), event.get("channel"), event.get("ts")
    if event.get("subtype") not in SAID_BY_PEOPLE:
        return None
    if not (known(user, USER) and known(channel, CHANNEL) and known(ts, TS)):
        return None
    if event.get("bot_id") or event.get("app_id") or user in (us.user, SLACKBOT):
        return None
    reader, thread = Reader(us.user), event.get("thread_ts")
    text = reader.words(event)
    team = event.get("user_team") or event.get("source_team") or event.get("team")
    return Incoming(
        key=f"msg:{us.team}:{channel}:{ts}",
        kind=IncomingKind.MESSAGE,
        team=us.team,
        channel=ChannelId(channel),
        user=UserId(user),
        text=text,
        ts=MessageTs(ts),
        thread_ts=MessageTs(thread) if known(thread, TS) and thread != ts else None,
        mentions_us=reader.mentioned(text),
        direct=event.get("channel_type") == "im" or str(channel).startswith("D"),
        actor_team=TeamId(team) if isinstance(team, str) else None,
        external=bool(body.get("is_ext_shared_channel")),
        files=files_of(event),
    )


def changed(body: Mapping[str, Any], event: Mapping[str, Any], us: Identity) -> Incoming | None:
    """Parse an edit; return None for what is none: link previews, and whatever else leaves the words as they were.

    One that adds our mention is a request under the message's own key, as its author wrote it now. A thread's root that is
    deleted arrives as a change too.
    """
    after, before = fields(event.get("message")), fields(event.get("previous_message"))
    if after.get("subtype") == "tombstone":
        return deleted(body, event, before, us)
    where = {"channel": event.get("channel"), "channel_type": event.get("channel_type")}
    now, at = said(body, {**after, **where}, us), event.get("event_ts") or event.get("ts")
    if now is None or not known(at, TS):
        return None
    was = Reader(us.user).words(before)
    if now.text == was and ids(now.files) == ids(files_of(before)):
        return None
    edit = replace(now, edited_at=MessageTs(at), was=was)
    return edit if now.mentions_us and not Reader(us.user).mentioned(was) else as_edit(edit)


def ids(files: Iterable[File]) -> list[str]:
    return [one.id for one in files]


def as_edit(now: Incoming) -> Incoming:
    """Return a message's newer words, or files that came late, as an edit of what it said before."""
    which = now.edited_at or "files"
    return replace(now, kind=IncomingKind.EDIT, key=f"edit:{now.team}:{now.channel}:{now.ts}:{which}")


def deleted(
    body: Mapping[str, Any], event: Mapping[str, Any], before: Mapping[str, Any], us: Identity
) -> Incoming | None:
    """Parse the deletion of a person's message. before: the message as it was."""
    where = {"channel": event.get("channel"), "channel_type": event.get("channel_type")}
    was, at = said(body, {**before, **where}, us), event.get("event_ts") or event.get("ts")
    if was is None or not known(at, TS):
        return None
    key = f"delete:{was.team}:{was.channel}:{was.ts}"
    return replace(
        was, kind=IncomingKind.DELETION, key=key, text="", files=(), mentions_us=False, edited_at=MessageTs(at)
    )


def is_rate_limited(body: Mapping[str, Any]) -> bool:
    """Return whether Slack says that it dropped events of this minute, since there were too many."""
    return RATE_LIMITED in (body.get("type"), fields(body.get("event")).get("type"))


def place_gone(body: Mapping[str, Any], us: Identity) -> PlaceGone | None:
    """Parse the event that says the bot can't write in a channel any more; return None for everything else."""
    event = body.get("event")
    if body.get("type") != "event_callback" or not isinstance(event, dict):
        return None
    channel, kind = event.get("channel"), event.get("type")
    left = kind == "member_left_channel" and event.get("user") == us.user
    if not (left or kind in ARCHIVED) or not known(channel, CHANNEL):
        return None
    return PlaceGone(ChannelId(channel))


def place_changed(body: Mapping[str, Any]) -> ChannelId | None:
    """Parse the event that says with whom a channel is shared by now, or that it turned private; None for others."""
    event = body.get("event")
    if body.get("type") != "event_callback" or not isinstance(event, dict):
        return None
    channel = event.get("channel")
    changed = event.get("type") in SHARING or event.get("subtype") in TURNED
    return ChannelId(channel) if changed and known(channel, CHANNEL) else None


def fields(value: Any) -> Mapping[str, Any]:
    """Return an object within a payload; empty if it is missing or not an object."""
    return value if isinstance(value, dict) else {}


def known(value: Any, pattern: re.Pattern[str]) -> TypeGuard[str]:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
