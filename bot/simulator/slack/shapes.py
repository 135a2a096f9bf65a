"""The JSON that Slack sends for people, places, messages and events."""

from dataclasses import dataclass
from typing import Any

from bot.simulator.slack.records import JSON, Channel, Message, User

_MEMBER_KIND = {"channel": "C", "group": "G", "im": "D", "mpim": "G"}
_DELETED_TEXT = "This message was deleted."
SLACKBOT = "USLACKBOT"


@dataclass(frozen=True)
class Team:
    """The workspace and the one app installed in it."""

    id: str
    domain: str
    name: str
    app_id: str
    bot_user_id: str
    bot_id: str
    bot_name: str
    bot_token: str
    """Its own for each workspace: a bot left over from another one, whose port this one has now, is refused."""
    app_token: str

    @property
    def url(self) -> str:
        return f"https://{self.domain}.slack.com/"


def user(person: User) -> JSON:
    return {
        "id": person.id,
        "team_id": person.team_id,
        "name": person.name.lower(),
        "real_name": person.name,
        "deleted": person.deleted,
        "tz": "Etc/UTC",
        "tz_offset": 0,
        "profile": {
            "real_name": person.name,
            "display_name": person.name,
            "real_name_normalized": person.name,
            "display_name_normalized": person.name,
            "team": person.team_id,
        },
        "is_admin": False,
        "is_owner": False,
        "is_primary_owner": False,
        "is_restricted": person.restricted or person.ultra_restricted,
        "is_ultra_restricted": person.ultra_restricted,
        "is_bot": person.bot_id is not None,
        "is_app_user": False,
        "is_stranger": person.stranger,
        "updated": 0,
    }


def channel(team: Team, place: Channel) -> JSON:
    if place.kind == "im":
        [other] = place.members - {team.bot_user_id}
        return {
            "id": place.id,
            "is_im": True,
            "is_org_shared": False,
            "user": other,
            "is_archived": False,
            "created": 0,
        }
    return {
        "id": place.id,
        "name": place.name,
        "name_normalized": place.name,
        "is_channel": place.kind == "channel",
        "is_group": False,
        "is_im": False,
        "is_mpim": place.kind == "mpim",
        "is_private": place.kind != "channel",
        "is_archived": place.archived,
        "is_general": False,
        "is_shared": place.ext_shared,
        "is_org_shared": False,
        "is_ext_shared": place.ext_shared,
        "is_pending_ext_shared": False,
        "is_member": team.bot_user_id in place.members,
        "creator": place.creator,
        "created": 0,
        "context_team_id": team.id,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": {"value": "", "creator": "", "last_set": 0},
    }


def message(team: Team, place: Channel, one: Message, author: User | None, *, all_metadata: bool) -> JSON:
    """Return one message as histories, answers and events show it. author: None for Slackbot."""
    shown: JSON = {"type": "message", "user": one.user, "ts": one.ts, "text": one.text}
    if one.subtype:
        shown["subtype"] = one.subtype
    if one.client_msg_id:
        shown["client_msg_id"] = one.client_msg_id
    if author is not None:
        shown["team"] = author.team_id
        if author.team_id != team.id:
            shown |= {"user_team": author.team_id, "source_team": author.team_id}
    if one.bot_id:
        ours = one.bot_id == team.bot_id
        shown["bot_id"] = one.bot_id
        shown["app_id"] = team.app_id if ours else f"A{one.bot_id[1:]}"
        shown["bot_profile"] = {
            "id": one.bot_id,
            "app_id": shown["app_id"],
            "user_id": one.user,
            "name": author.name if author else "",
            "deleted": False,
            "updated": 0,
            "team_id": team.id,
        }
    if one.blocks:
        shown["blocks"] = list(one.blocks)
    if one.attachments:
        shown["attachments"] = list(one.attachments)
    if one.files:
        shown |= {"files": list(one.files), "upload": False}
    if one.edited:
        shown["edited"] = {"user": one.bot_id or one.user, "ts": one.ts}
    if one.metadata is not None:
        shown["metadata"] = one.metadata if all_metadata else {"event_type": one.metadata["event_type"]}
    if one.reactions:
        shown["reactions"] = [
            {"name": name, "users": users, "count": len(users)} for name, users in one.reactions.items()
        ]
    return shown | _thread(place, one)


def _thread(place: Channel, one: Message) -> JSON:
    if one.thread_ts is not None:
        root = place.messages.get(one.thread_ts)
        return {"thread_ts": one.thread_ts} | ({"parent_user_id": root.user} if root else {})
    replies = place.threads.get(one.ts)
    if not replies:
        return {}
    people = list(dict.fromkeys(place.messages[ts].user for ts in replies))
    return {
        "thread_ts": one.ts,
        "reply_count": len(replies),
        "reply_users": people,
        "reply_users_count": len(people),
        "latest_reply": replies[-1],
        "is_locked": False,
        "subscribed": False,
    }


def tombstone(one: Message) -> dict[str, Any]:
    """Return the Message fields that a deleted root with replies gets."""
    return {
        "user": SLACKBOT,
        "text": _DELETED_TEXT,
        "subtype": "tombstone",
        "blocks": (),
        "attachments": (),
        "files": (),
        "bot_id": None,
        "metadata": None,
        "client_msg_id": None,
        "reactions": {},
        "history": (*one.history, (one.text, one.blocks)),
    }


def posted(shown: JSON, place: Channel) -> JSON:
    """Return the `message` event of a new message."""
    return shown | {"channel": place.id, "event_ts": shown["ts"], "channel_type": place.kind}


def mentioned(shown: JSON, place: Channel) -> JSON:
    """Return the `app_mention` event of the same message: same channel and ts, no channel_type, no files."""
    kept = {key: value for key, value in shown.items() if key not in ("subtype", "files", "upload")}
    return kept | {"type": "app_mention", "channel": place.id, "event_ts": shown["ts"]}


def changed(after: JSON, before: JSON, place: Channel, ts: str) -> JSON:
    return {
        "type": "message",
        "subtype": "message_changed",
        "hidden": True,
        "message": after,
        "previous_message": before,
        "channel": place.id,
        "channel_type": place.kind,
        "ts": ts,
        "event_ts": ts,
    }


def deleted(before: JSON, place: Channel, ts: str) -> JSON:
    return {
        "type": "message",
        "subtype": "message_deleted",
        "hidden": True,
        "deleted_ts": before["ts"],
        "previous_message": before,
        "channel": place.id,
        "channel_type": place.kind,
        "ts": ts,
        "event_ts": ts,
    }


def membership(kind: str, person: User, place: Channel, ts: str) -> JSON:
    """Return a membership event. kind: member_joined_channel or member_left_channel."""
    return {
        "type": kind,
        "user": person.id,
        "team": person.team_id,
        "channel": place.id,
        "channel_type": _MEMBER_KIND[place.kind],
        "event_ts": ts,
    }


def archived(person_id: str, place: Channel, ts: str) -> JSON:
    kind = "channel_archive" if place.kind == "channel" else "group_archive"
    return {"type": kind, "channel": place.id, "user": person_id, "is_moved": 0, "event_ts": ts}


def reacted(person_id: str, name: str, one: Message, ts: str) -> JSON:
    return {
        "type": "reaction_added",
        "user": person_id,
        "reaction": name,
        "item": {"type": "message", "channel": one.channel, "ts": one.ts},
        "item_user": one.user,
        "event_ts": ts,
    }


def callback(team: Team, event: JSON, event_id: str, event_time: int, *, ext_shared: bool) -> JSON:
    """Return an event wrapped as the payload of an `events_api` envelope."""
    return {
        "token": "local-verification-token",
        "team_id": team.id,
        "context_team_id": team.id,
        "context_enterprise_id": None,
        "api_app_id": team.app_id,
        "event": event,
        "type": "event_callback",
        "event_id": event_id,
        "event_time": event_time,
        "authorizations": [
            {
                "enterprise_id": None,
                "team_id": team.id,
                "user_id": team.bot_user_id,
                "is_bot": True,
                "is_enterprise_install": False,
            }
        ],
        "is_ext_shared_channel": ext_shared,
        "event_context": f"4-{event_id}",
    }


def block_action(
    team: Team,
    person: User,
    place: Channel,
    message: Message,
    element: JSON,
    *,
    response_url: str,
    trigger_id: str,
    action_ts: str,
) -> JSON:
    """Return the payload of a click on a button of a message."""
    thread = {"thread_ts": message.thread_ts} if message.thread_ts else {}
    block = next(block for block in message.blocks if element in block.get("elements", ()))
    return {
        "type": "block_actions",
        "token": "local-verification-token",
        "team": {"id": team.id, "domain": team.domain},
        "user": {
            "id": person.id,
            "username": person.name.lower(),
            "name": person.name.lower(),
            "team_id": person.team_id,
        },
        "api_app_id": team.app_id,
        "container": {
            "type": "message",
            "message_ts": message.ts,
            "channel_id": place.id,
            "is_ephemeral": False,
            **thread,
        },
        "trigger_id": trigger_id,
        "response_url": response_url,
        "channel": {"id": place.id, "name": place.name or "directmessage"},
        "message": {
            "type": "message",
            "ts": message.ts,
            "text": message.text,
            "blocks": list(message.blocks),
            **thread,
        },
        "state": {"values": {}},
        "actions": [{**element, "block_id": block.get("block_id", ""), "action_ts": action_ts}],
    }


def slash_command(
    team: Team, person: User, place: Channel, *, name: str, text: str, response_url: str, trigger_id: str
) -> JSON:
    names = {"channel": place.name, "group": "privategroup", "im": "directmessage", "mpim": "privategroup"}
    return {
        "token": "local-verification-token",
        "team_id": team.id,
        "team_domain": team.domain,
        "channel_id": place.id,
        "channel_name": names[place.kind],
        "user_id": person.id,
        "user_name": person.name.lower(),
        "command": name,
        "text": text,
        "api_app_id": team.app_id,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": trigger_id,
    }
