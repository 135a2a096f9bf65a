"""A Slack workspace on this machine: what people do in it, what they see, and what fails."""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from bot.simulator.slack import shapes
from bot.simulator.slack import text as wire_text
from bot.simulator.slack.delivery import Deliveries
from bot.simulator.slack.faults import Fault
from bot.simulator.slack.files import in_connect
from bot.simulator.slack.limits import Limits
from bot.simulator.slack.records import JSON, Call, Channel, Command, Delivery, Ephemeral, Message, Refused, User
from bot.simulator.slack.server import OnCall, Server
from bot.simulator.slack.workspace import Workspace, utc_now

TICK_S = 0.05  # real seconds between two ticks


class LocalSlack:
    """A strict Slack for one app, in memory, over real HTTP and WebSockets.

    With the wall clock it ticks by itself; with a `now` of its own, whoever moves that clock must call `tick`.
    """

    def __init__(self, *, now: Callable[[], datetime] | None = None, limits_times: int = 1) -> None:
        """limits_times: a factor on Slack's rate limits, for tests that pack an hour into minutes."""
        self._ticks_itself = now is None
        self._now = now or utc_now
        self._events = 0
        self._clicks = 0  # no two at the same instant
        self._workspace = Workspace(self._now, self._emit)
        self.dropping = False  # events are not delivered, and nobody sends them again
        self._deliveries = Deliveries(self._now, self._workspace.team.app_id, self._workspace.violations)
        self._server = Server(self._workspace, self._deliveries, Limits(self._now, limits_times))
        self._ticking: asyncio.Task[None] | None = None
        self.bot_token = self._workspace.team.bot_token
        self.app_token = self._workspace.team.app_token

    async def start(self, port: int = 0) -> None:
        """Open the port; port 0 after a `stop` opens the same port again."""
        await self._server.start(port)
        if self._ticks_itself:
            self._ticking = asyncio.create_task(self._keep_ticking())

    async def stop(self) -> None:
        """Close every connection. The stored state remains."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        await self._server.stop()

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self.tick()

    async def tick(self) -> None:
        """Do what is due: ack time-outs, redeliveries, and the end of tickets, response URLs and draining sockets."""
        self._deliveries.tick()
        self._server.forget_expired()

    # -- who and where this is

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}/api/"

    @property
    def team_id(self) -> str:
        return self._workspace.team.id

    @property
    def bot_user_id(self) -> str:
        return self._workspace.team.bot_user_id

    @property
    def bot_id(self) -> str:
        return self._workspace.team.bot_id

    @property
    def app_id(self) -> str:
        return self._workspace.team.app_id

    @property
    def workspace_url(self) -> str:
        return self._workspace.team.url

    @property
    def granted_scopes(self) -> set[str]:
        return self._workspace.scopes

    @granted_scopes.setter
    def granted_scopes(self, scopes: Iterable[str]) -> None:
        self._workspace.scopes = set(scopes)

    # -- the workspace

    def add_user(
        self,
        name: str,
        *,
        bot: bool = False,
        restricted: bool = False,
        ultra_restricted: bool = False,
        deleted: bool = False,
        stranger: bool = False,
        team_id: str | None = None,
    ) -> str:
        """Add a person or another app's bot; return its id. team_id: another workspace's, for people from outside."""
        user = User(
            id=self._workspace.new_user_id(),
            name=name,
            team_id=team_id or self.team_id,
            bot_id=self._workspace.new_bot_id() if bot else None,
            restricted=restricted,
            ultra_restricted=ultra_restricted,
            deleted=deleted,
            stranger=stranger,
        )
        self._workspace.add_user(user)
        return user.id

    def add_channel(
        self,
        name: str,
        *,
        private: bool = False,
        members: Iterable[str] = (),
        bot_member: bool = True,
        ext_shared: bool = False,
        archived: bool = False,
    ) -> str:
        people = [*members, *([self.bot_user_id] if bot_member else [])]
        made = self._workspace.add_channel("group" if private else "channel", name, people, ext_shared=ext_shared)
        made.archived = archived
        return made.id

    def change_user(self, user: str, **kind: Any) -> None:
        """Make a person something else. kind: deleted, restricted and the like, as in `add_user`."""
        self._workspace.users[user] = replace(self._workspace.user(user), **kind)

    def add_group(self, members: Iterable[str]) -> str:
        """Add a user group of these people and return its id."""
        return self._workspace.add_group(members)

    def dm(self, user: str) -> str:
        return self._workspace.conversation([user])[0].id

    def group_dm(self, users: Iterable[str]) -> str:
        """Return the group direct message of the bot and these people, two or more."""
        return self._workspace.conversation(users)[0].id

    def join(self, channel: str, user: str) -> None:
        self._workspace.join(self._workspace.channel(channel), self._workspace.user(user))

    def leave(self, channel: str, user: str) -> None:
        self._workspace.leave(self._workspace.channel(channel), self._workspace.user(user))

    def share(self, channel: str, *, shared: bool = True) -> None:
        """Share a channel with another company, or end that."""
        self._workspace.share(self._workspace.channel(channel), shared=shared)

    def archive(self, channel: str) -> None:
        self._workspace.archive(self._workspace.channel(channel))

    def wire(self, text: str) -> str:
        """Return typed text, such as `@alice look at #dev`, in Slack's wire form."""
        channels = {place.name: place.id for place in self._workspace.channels.values() if place.name}
        return wire_text.to_wire(text, self._workspace.names, channels)

    # -- what people do

    async def say(
        self,
        user: str,
        channel: str,
        text: str,
        *,
        thread_ts: str | None = None,
        broadcast: bool = False,
        mention_first: bool = True,
        blocks: Iterable[JSON] | None = None,
        attachments: Iterable[JSON] = (),
        files: Iterable[JSON] = (),
        subtype: str | None = None,
    ) -> str:
        """Post `text`, in wire form, as a person or another app; return its ts.

        mention_first: `app_mention` precedes `message`. blocks: instead of those that Slack makes of the text.
        attachments: of a forwarded message, a link preview or an alert. subtype: as Slack gives it, if it is none that
        the rest tells.
        """
        place, person = self._place_of(user, channel)
        shown = (wire_text.rich_text(text, self._workspace.new_block_id()),) if blocks is None else tuple(blocks)
        who = wire_text.notified(text, () if blocks is None else shown, parses_names=False, names=self._workspace.names)
        kept = tuple(files)
        message = self._workspace.post(
            place,
            person,
            text,
            blocks=shown,
            thread_ts=thread_ts,
            notified=who,
            subtype=subtype or ("thread_broadcast" if broadcast and thread_ts else "file_share" if kept else None),
            typed=person.bot_id is None,
            attachments=tuple(attachments),
            files=kept,
        )
        self._workspace.tell_posted(message, mentions_bot=self.bot_user_id in who.sure, mention_first=mention_first)
        return message.ts

    async def command(self, user: str, channel: str, text: str, *, name: str = "/openhands") -> Command:
        """Type a slash command, which Slack sends once and never repeats. The record fills as the bot answers."""
        person, place = self._workspace.user(user), self._workspace.channel(channel)
        if person.team_id != self.team_id:
            raise ValueError(f"{person.name}: Slack offers commands only to people of the app's own workspace")
        trigger_id = self._new_trigger_id()
        if place.kind != "channel" and user not in place.members:
            raise ValueError(f"{person.name} is not in {place.name or place.id}")
        command = Command(user, channel, text, trigger_id, response_url="")
        self._server.new_response_url(command)
        names = {one.id: one.name.lower() for one in self._workspace.users.values()}
        payload = shapes.slash_command(
            self._workspace.team,
            person,
            place,
            name=name,
            text=wire_text.with_names(text, names),
            response_url=command.response_url,
            trigger_id=trigger_id,
        )
        self._deliveries.send(
            "slash_commands", payload, event_id=None, settled=lambda delivery: self._settle(command, delivery)
        )
        return command

    async def click(
        self, user: str, channel: str, ts: str, action_id: str, *, shown: Message | None = None
    ) -> Delivery:
        """Click a button of a message, which Slack sends once and never repeats; also for a link button.

        shown: an older version of the message, for a person whose screen does not show its edits yet.
        """
        place, person = self._place_of(user, channel)
        message = shown or self._stored(channel, ts)
        elements = [one for block in message.blocks for one in block.get("elements", ()) if isinstance(one, dict)]
        element = next((one for one in elements if one.get("action_id") == action_id), None)
        if element is None:
            raise ValueError(f"no button {action_id} on message {ts}")
        trigger_id = self._new_trigger_id()
        clicked = Command(user, channel, action_id, trigger_id, response_url="")
        self._server.new_response_url(clicked, typed=False)
        self._clicks += 1
        payload = shapes.block_action(
            self._workspace.team,
            person,
            place,
            message,
            element,
            response_url=clicked.response_url,
            trigger_id=trigger_id,
            action_ts=f"{self._now().timestamp() + self._clicks / 1e6:.6f}",
        )
        return self._deliveries.send("interactive", payload, event_id=None)

    def upload(
        self,
        user: str,
        name: str,
        data: bytes,
        *,
        mimetype: str = "application/octet-stream",
        snippet: bool = False,
        connect: bool = False,
    ) -> JSON:
        """Upload a file, and return it for `say`. connect: as a channel that is shared with another company shows it."""
        address = f"http://127.0.0.1:{self._server.port}"
        shown = self._server.files.add(user, name, data, mimetype, address, snippet=snippet)
        return in_connect(shown) if connect else shown

    def delete_file(self, file: JSON) -> None:
        self._server.files.delete(file["id"])

    async def edit(self, user: str, channel: str, ts: str, text: str, *, blocks: Iterable[JSON] | None = None) -> None:
        """Edit a message. blocks: instead of those that Slack makes of the text."""
        message = self._stored(channel, ts)
        if message.user != user:
            raise ValueError("people edit only what they wrote")
        who = wire_text.notified(text, (), parses_names=False, names=self._workspace.names)
        shown = (wire_text.rich_text(text, self._workspace.new_block_id()),) if blocks is None else tuple(blocks)
        self._workspace.change(message, text=text, blocks=shown, metadata=None, broadcasts=who.broadcasts)

    async def unfurl(self, channel: str, ts: str, url: str) -> None:
        """Let Slack add the preview of a link to a message, which it tells as a change of it."""
        self._workspace.unfurl(
            self._stored(channel, ts), {"from_url": url, "title": "A page", "text": "Its first lines"}
        )

    async def delete(self, user: str, channel: str, ts: str) -> None:
        """Delete a message, even somebody else's, as a workspace's admins can."""
        self._place_of(user, channel)
        self._workspace.delete(self._stored(channel, ts))

    async def redeliver(self, ts_or_envelope: str) -> None:
        """Send again what went out for this message or envelope: same event_id, with a retry's number and reason."""
        self._deliveries.resend(ts_or_envelope)

    # -- what is visible

    def messages(self, channel: str, *, thread_ts: str | None = None) -> list[Message]:
        """Return stored messages, oldest first: the whole channel with all replies, or one thread from its root."""
        place = self._workspace.channel(channel)
        if thread_ts is None:
            return list(place.messages.values())
        return [place.messages[ts] for ts in (thread_ts, *place.threads.get(thread_ts, [])) if ts in place.messages]

    def message(self, channel: str, ts: str) -> Message | None:
        return self._workspace.channel(channel).messages.get(ts)

    def ephemerals(self, user: str, channel: str | None = None) -> list[Ephemeral]:
        """Return what only this person saw, in order: ephemeral messages, answers to commands, and texts of acks."""
        return [one for one in self._workspace.ephemerals if one.user == user and channel in (None, one.channel)]

    @property
    def calls(self) -> list[Call]:
        return self._server.calls

    @property
    def deliveries(self) -> list[Delivery]:
        return self._deliveries.log

    @property
    def violations(self) -> list[str]:
        """What the app did that no well-behaved app does. Tests expect none."""
        return self._workspace.violations

    @property
    def sockets(self) -> int:
        return len(self._deliveries.open_sockets)

    @property
    def idle(self) -> bool:
        """Whether no request is being handled and no envelope waits for its ack; retries due later do not count."""
        return self._server.handling == 0 and self._deliveries.idle

    # -- what goes wrong

    @property
    def on_call(self) -> OnCall | None:
        """Awaited with ("before" | "after", method, arguments) around the effect of every call.

        It may raise ConnectionError to end the call there without an answer, as when the caller's process dies.
        """
        return self._server.on_call

    @on_call.setter
    def on_call(self, hook: OnCall | None) -> None:
        self._server.on_call = hook

    def narrow_reads(self) -> None:
        """Let history be read as Slack lets apps read it that are sold outside of its Marketplace: little at a time."""
        self._workspace.narrow = True

    def fail(
        self,
        method: str,
        *,
        error: str | None = None,
        status: int | None = None,
        retry_after: int | None = None,
        html: bool = False,
        drop: bool = False,
        hang_s: float | None = None,
        after: bool = False,
        times: int = 1,
        channel: str | None = None,
    ) -> None:
        """Make the next `times` calls of a method (or of `response_url`) fail; several faults queue up.

        after: the effect happens first, then the answer is replaced, or lost if no other fault is given. hang_s: real
        seconds; without `after`, there is no effect if the caller gives up meanwhile.
        """
        lost = drop or (after and not (error or status or html or hang_s))
        self._server.faults.add(Fault(method, error, status, retry_after, html, lost, hang_s, after, times, channel))

    @property
    def forgetful(self) -> bool:
        """Whether an event that met no connection, or one that then broke, is lost for good. Reports disagree on it."""
        return self._deliveries.forgetful

    @forgetful.setter
    def forgetful(self, forgetful: bool) -> None:
        self._deliveries.forgetful = forgetful

    def say_dropped(self) -> None:
        """Tell the app that events of this minute were not delivered, as those while `dropping`."""
        payload = {
            "type": "app_rate_limited",
            "team_id": self.team_id,
            "api_app_id": self.app_id,
            "minute_rate_limited": int(self._now().timestamp()) // 60 * 60,
        }
        self._events += 1
        self._deliveries.send("events_api", payload, event_id=f"Ev0{self._events:08d}")

    def cut_socket(self, *, before_ack: bool = False, after_ack: bool = False) -> None:
        """Break every socket now, or the next one that acks, just before or after its ack counts."""
        self._deliveries.cut(before_ack=before_ack, after_ack=after_ack)

    def disconnect(self, reason: str, *, oldest: bool = False) -> None:
        """Send `disconnect` with one of the reasons in `delivery.DISCONNECTS`, to all sockets or the oldest."""
        self._deliveries.disconnect(reason, oldest=oldest)

    async def half_open(self) -> None:
        """Freeze the open sockets: they look open, but carry nothing. New ones work."""
        self._deliveries.freeze()

    # -- inside

    def _emit(self, event: JSON, place: Channel) -> None:
        if self.dropping:
            return
        self._events += 1
        event_id = f"Ev0{self._events:08d}"
        payload = shapes.callback(
            self._workspace.team, event, event_id, int(self._now().timestamp()), ext_shared=place.ext_shared
        )
        self._deliveries.send("events_api", payload, event_id=event_id)

    def _settle(self, command: Command, delivery: Delivery) -> None:
        command.acked = delivery.acked_at is not None
        command.failed = not command.acked
        if delivery.acked_at is None or delivery.sent_at is None:
            return
        command.ack_seconds = (delivery.acked_at - delivery.sent_at).total_seconds()
        answer: Any = delivery.ack_payload
        if isinstance(answer, str):
            answer = {"text": answer}
        if not answer:
            return
        command.ack_text = answer.get("text")
        try:
            self._server.show_answer(command, answer, "ack")
        except Refused as refused:
            self._workspace.violations.append(f"ack of a command: {refused.error}")

    def _new_trigger_id(self) -> str:
        return f"{len(self._deliveries.log) + 1}.{self.team_id[1:]}.{secrets.token_hex(16)}"

    def _stored(self, channel: str, ts: str) -> Message:
        message = self.message(channel, ts)
        if message is None:
            raise ValueError(f"no message {ts} in {channel}")
        return message

    def _place_of(self, user: str, channel: str) -> tuple[Channel, User]:
        person, place = self._workspace.user(user), self._workspace.channel(channel)
        if person.id not in place.members:
            raise ValueError(f"{person.name} is not in {place.name or place.id}")
        if place.archived:
            raise ValueError(f"{place.name} is archived")
        return place, person
