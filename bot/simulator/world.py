"""People in the local Slack, what they do and what they see: the vocabulary of the demo and the tests."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bot.simulator.openhands import LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Command, Delivery, Message


async def at_once() -> None:
    """Return at once: nothing needs to settle, since the demo shows changes as they come."""


@dataclass(frozen=True)
class Said:
    """A message a person wrote."""

    channel: str
    ts: str
    thread_ts: str | None

    @property
    def root(self) -> str:
        return self.thread_ts or self.ts


class Person:
    """Somebody who types."""

    def __init__(self, world: "World", name: str, id: str) -> None:  # noqa: A002 - Slack's word
        self._world = world
        self.name = name
        self.id = id

    async def commands(self, text: str, *, in_: str) -> Command:
        """Type `/openhands …`."""
        command = await self._world.slack.command(self.id, self._world.place(in_), text)
        await self._world.settle()
        return command

    async def says(
        self,
        text: str,
        *,
        in_: str | None = None,
        thread: "Said | Message | None" = None,
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Said:
        """Write a message, with `@OpenHands` and `@names` as people type them.

        in_: "dm" for a message to the bot. files: what is attached, by name.
        """
        if thread is not None:
            channel, root = thread.channel, (thread.thread_ts or thread.ts)
        else:
            channel = self._world.slack.dm(self.id) if in_ == "dm" else self._world.place(in_ or "#dev")
            root = None
        slack = self._world.slack
        attached = [slack.upload(self.id, name, data) for name, data in files.items()]
        ts = await slack.say(self.id, channel, slack.wire(text), thread_ts=root, files=attached)
        await self._world.settle()
        return Said(channel, ts, root)

    async def clicks(self, action_id: str, message: Message) -> Delivery:
        """Click a button on the version of a message that this person still has on screen, however old."""
        click = await self._world.slack.click(self.id, message.channel, message.ts, action_id, shown=message)
        await self._world.settle()
        return click

    def sees(self) -> list[str]:
        """Return the texts that only this person saw, in order."""
        return [one.text for one in self._world.slack.ephemerals(self.id)]


class World:
    """One Slack workspace, one OpenHands, and the people."""

    def __init__(
        self, slack: LocalSlack, openhands: LocalOpenHands, settle: Callable[[], Awaitable[None]] = at_once
    ) -> None:
        """settle: awaited after everything a person does."""
        self.slack = slack
        self.openhands = openhands
        self.settle = settle
        self._places: dict[str, str] = {}

    def person(self, name: str, **kind: Any) -> Person:
        """Add a person. kind: as in `LocalSlack.add_user`, such as restricted or stranger."""
        return Person(self, name, self.slack.add_user(name, **kind))

    def channel(self, name: str, *people: Person, **kind: Any) -> str:
        """Add a channel with these people and return its id. kind: as in `LocalSlack.add_channel`."""
        made = self.slack.add_channel(name.removeprefix("#"), members=[one.id for one in people], **kind)
        self._places[name.removeprefix("#")] = made
        return made

    def place(self, name: str) -> str:
        """Return the id of a channel by its name; an id is returned as it is."""
        return self._places.get(name.removeprefix("#"), name)

    def posts(self, in_: str, *, thread: str | None = None) -> list[Message]:
        """Return what the bot posted in a place, oldest first."""
        return [
            one for one in self.slack.messages(self.place(in_), thread_ts=thread) if one.bot_id == self.slack.bot_id
        ]
