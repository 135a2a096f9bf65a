"""The workspace: people, places, messages, and the events they cause. No HTTP, no sockets."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from bot.simulator.slack import shapes
from bot.simulator.slack.records import JSON, Channel, Ephemeral, Kind, Message, User
from bot.simulator.slack.text import Notified

HISTORY_SCOPE = {"channel": "channels:history", "group": "groups:history", "im": "im:history", "mpim": "mpim:history"}
READ_SCOPE = {"channel": "channels:read", "group": "groups:read", "im": "im:read", "mpim": "mpim:read"}

# The scopes granted at first.
SCOPES = frozenset(
    {
        "app_mentions:read",
        "channels:history",
        "channels:read",
        "chat:write",
        "commands",
        "files:read",
        "files:write",
        "groups:history",
        "groups:read",
        "im:history",
        "im:read",
        "im:write",
        "mpim:history",
        "mpim:read",
        "reactions:read",
        "reactions:write",
        "usergroups:read",
        "users:read",
    }
)

Emit = Callable[[JSON, Channel], None]


class Workspace:
    """All stored state. emit: called with each event that the app would be sent, and the event's channel."""

    def __init__(self, now: Callable[[], datetime], emit: Emit) -> None:
        self.now = now
        self._emit = emit
        self._counts: Counter[str] = Counter()
        self.scopes: set[str] = set(SCOPES)
        self.users: dict[str, User] = {}
        self.channels: dict[str, Channel] = {}
        self.groups: dict[str, set[str]] = {}  # user groups
        self.names: dict[str, str] = {}  # lower-case user name → id
        self.ephemerals: list[Ephemeral] = []
        self.violations: list[str] = []
        self.narrow = False  # whether history is read as by an app that is sold outside of the Marketplace
        self.team = shapes.Team(
            id=self._id("T"),
            domain="local-team",
            name="Local team",
            app_id=self._id("A"),
            bot_user_id=self._id("U"),
            bot_id=self._id("B"),
            bot_name="OpenHands",
            bot_token=f"xoxb-local-{uuid.uuid4().hex}",
            app_token=f"xapp-1-local-{uuid.uuid4().hex}",
        )
        self.add_user(User(self.team.bot_user_id, self.team.bot_name, self.team.id, bot_id=self.team.bot_id))

    @property
    def bot(self) -> User:
        return self.users[self.team.bot_user_id]

    # -- people and places

    def new_user_id(self) -> str:
        return self._id("U")

    def new_bot_id(self) -> str:
        return self._id("B")

    def add_user(self, user: User) -> None:
        if user.name.lower() in self.names:
            raise ValueError(f"there is a {user.name} already")
        self.users[user.id] = user
        self.names[user.name.lower()] = user.id

    def add_group(self, members: Iterable[str]) -> str:
        made = self._id("S")
        self.groups[made] = {self.user(one).id for one in members}
        return made

    def add_channel(self, kind: Kind, name: str, members: Iterable[str], *, ext_shared: bool = False) -> Channel:
        people = list(dict.fromkeys(members))
        for person in people:
            self.user(person)
        creator = next((person for person in people if person != self.team.bot_user_id), self.team.bot_user_id)
        made = Channel(self._id("D" if kind == "im" else "C"), name, kind, creator, set(people), ext_shared)
        self.channels[made.id] = made
        return made

    def conversation(self, people: Iterable[str]) -> tuple[Channel, bool]:
        """Return the direct message of these people and the bot, made if missing, and whether it existed before."""
        others = {self.user(person).id for person in people} - {self.team.bot_user_id}
        members = others | {self.team.bot_user_id}
        if not others:
            raise ValueError("nobody to talk to")
        kind: Kind = "im" if len(others) == 1 else "mpim"
        for place in self.channels.values():
            if place.kind == kind and place.members == members:
                return place, True
        names = sorted(self.users[one].name.lower() for one in members)
        return self.add_channel(kind, "" if kind == "im" else f"mpdm-{'--'.join(names)}-1", members), False

    def user(self, user_id: str) -> User:
        if user_id not in self.users:
            raise ValueError(f"no user {user_id}")
        return self.users[user_id]

    def channel(self, channel_id: str) -> Channel:
        if channel_id not in self.channels:
            raise ValueError(f"no channel {channel_id}")
        return self.channels[channel_id]

    def bot_is_in(self, place: Channel) -> bool:
        return self.team.bot_user_id in place.members

    def join(self, place: Channel, person: User) -> None:
        if person.id in place.members:
            return
        place.members.add(person.id)
        self._tell(shapes.membership("member_joined_channel", person, place, self.next_ts(place)), place)
        kind = "channel_join" if place.kind == "channel" else "group_join"
        joined = self.post(place, person, f"<@{person.id}> has joined the channel", subtype=kind)
        self.tell_posted(joined)

    def leave(self, place: Channel, person: User) -> None:
        if person.id not in place.members:
            return
        self._tell(shapes.membership("member_left_channel", person, place, self.next_ts(place)), place)
        place.members.remove(person.id)

    def archive(self, place: Channel) -> None:
        place.archived = True
        self._tell(shapes.archived(place.creator, place, self.next_ts(place)), place)

    def share(self, place: Channel, *, shared: bool) -> None:
        """Share a channel with another company, or end that."""
        place.ext_shared = shared
        kind = "channel_shared" if shared else "channel_unshared"
        told = {"type": kind, "channel": place.id, "event_ts": self.next_ts(place)}
        self._tell(told | ({"connected_team_id": "T0OTHER"} if shared else {"is_ext_shared": False}), place)

    # -- messages

    def next_ts(self, place: Channel) -> str:
        """Return the next `ts`: unique and increasing in its channel even while the clock stands still."""
        us = int(self.now().timestamp() * 1_000_000)
        place.last_us = max(us, place.last_us + 1)
        return f"{place.last_us // 1_000_000}.{place.last_us % 1_000_000:06d}"

    def root_of(self, place: Channel, ts: str | None) -> str | None:
        """Return the root of the thread that `ts` is in; None if there is no such message."""
        found = place.messages.get(ts or "")
        return None if found is None else found.thread_ts or found.ts

    def post(
        self,
        place: Channel,
        author: User,
        text: str,
        *,
        blocks: tuple[JSON, ...] = (),
        thread_ts: str | None = None,
        metadata: JSON | None = None,
        notified: Notified | None = None,
        subtype: str | None = None,
        typed: bool = False,
        attachments: tuple[JSON, ...] = (),
        files: tuple[JSON, ...] = (),
    ) -> Message:
        """Store a message. A reply's `thread_ts` means its root; one of no message means the channel itself."""
        notified = notified or Notified()
        ts = self.next_ts(place)
        root = self.root_of(place, thread_ts)
        message = Message(
            ts=ts,
            channel=place.id,
            user=author.id,
            text=text,
            posted_at=self.now(),
            bot_id=author.bot_id,
            blocks=blocks,
            thread_ts=root,
            subtype=subtype,
            metadata=metadata,
            mentions=(notified.sure & place.members) - {author.id},
            broadcasts=notified.broadcasts,
            client_msg_id=str(uuid.uuid4()) if typed else None,
            attachments=attachments,
            files=files,
        )
        place.messages[ts] = message
        if root is not None:
            place.threads.setdefault(root, []).append(ts)
        return message

    def tell_posted(self, message: Message, *, mentions_bot: bool = False, mention_first: bool = True) -> None:
        """Send the app the event of a new message; if it mentions the bot, two events in either order."""
        place = self.channel(message.channel)
        shown = self._in_event(message)
        if message.subtype == "thread_broadcast" and message.thread_ts:
            shown["root"] = self._in_event(place.messages[message.thread_ts])
        events = [shapes.posted(shown, place)]
        if mentions_bot and place.kind != "im":
            events.append(shapes.mentioned(shown, place))
        for event in reversed(events) if mention_first else events:
            self._tell(event, place)

    def change(
        self,
        message: Message,
        *,
        text: str,
        blocks: tuple[JSON, ...],
        metadata: JSON | None,
        broadcasts: frozenset[str],
    ) -> Message:
        """Edit a message and send the app the event. An edit notifies nobody."""
        after = replace(
            message,
            text=text,
            blocks=blocks,
            metadata=metadata,
            edited=message.edited + 1,
            history=(*message.history, (message.text, message.blocks)),
            broadcasts=message.broadcasts | broadcasts,
        )
        self._replace(message, after)
        return after

    def unfurl(self, message: Message, preview: JSON) -> None:
        """Add a preview to a message and send the app the event: words and `edited` stay as they are."""
        self._replace(message, replace(message, attachments=(*message.attachments, preview)))

    def delete(self, message: Message) -> None:
        """Delete a message and send the app the event. A root with replies becomes a tombstone, sent as a change."""
        place = self.channel(message.channel)
        if place.threads.get(message.ts):
            self._replace(message, replace(message, **shapes.tombstone(message)))
            return
        before = self._in_event(message)
        del place.messages[message.ts]
        if message.thread_ts is not None:
            place.threads[message.thread_ts].remove(message.ts)
        self._tell(shapes.deleted(before, place, self.next_ts(place)), place)

    def react(self, message: Message, person: User, name: str) -> None:
        place = self.channel(message.channel)
        users = [*message.reactions.get(name, []), person.id]
        place.messages[message.ts] = replace(message, reactions={**message.reactions, name: users})
        self._tell(shapes.reacted(person.id, name, message, self.next_ts(place)), place)

    def shown(self, message: Message, *, all_metadata: bool = True) -> JSON:
        place = self.channel(message.channel)
        return shapes.message(self.team, place, message, self.users.get(message.user), all_metadata=all_metadata)

    def whisper(
        self,
        user: str,
        channel: str,
        text: str,
        via: str,
        *,
        blocks: tuple[JSON, ...] = (),
        thread_ts: str | None = None,
    ) -> None:
        """Show one person something that is not stored as a message and causes no event."""
        self.ephemerals.append(Ephemeral(user, channel, text, blocks, thread_ts, self.now(), via))

    def new_block_id(self) -> str:
        self._counts["block"] += 1
        return f"b{self._counts['block']:04d}"

    def _replace(self, before: Message, after: Message) -> None:
        place = self.channel(before.channel)
        shown_before = self._in_event(before)
        place.messages[before.ts] = after
        self._tell(shapes.changed(self._in_event(after), shown_before, place, self.next_ts(place)), place)

    def _in_event(self, message: Message) -> JSON:
        """Return a message without its metadata's payload, which apps get only by a call or a scope for its events."""
        return self.shown(message, all_metadata=False)

    def _tell(self, event: JSON, place: Channel) -> None:
        if self.bot_is_in(place) and self._scope_of(event, place) in self.scopes:
            self._emit(event, place)

    def _scope_of(self, event: JSON, place: Channel) -> str:
        match event["type"]:
            case "app_mention":
                return "app_mentions:read"
            case "message":
                return HISTORY_SCOPE[place.kind]
            case "reaction_added":
                return "reactions:read"
            case _:
                return READ_SCOPE[place.kind]

    def _id(self, prefix: str) -> str:
        self._counts[prefix] += 1
        return f"{prefix}0{self._counts[prefix]:08d}"


def utc_now() -> datetime:
    return datetime.now(UTC)
