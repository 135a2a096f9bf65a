"""Who may do what: the rules in force, and what Slack says of the person and the place, put before `policy.judge`."""

from dataclasses import dataclass

import structlog

from bot.core.errors import SlackRefused
from bot.core.model import ChannelId, Place, TeamId, UserId, Why
from bot.core.policy import DIRECT, NONE, OPEN, Allowed, Refused, Rules, Verdict, What, Who, first_rules, judge
from bot.slack.gateway import Gateway
from bot.slack.recognise import Identity

log = structlog.get_logger("policy")

NOT_THERE = "channel_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Somebody who acts somewhere, and the rules by which that is decided."""

    rules: Rules
    who: Who
    where: Place

    def judge(self, what: What) -> Allowed | Refused:
        return judge(self.rules, self.who, self.where, what)


class Door:
    """The rules in force. Whoever acts is judged here: when they ask, and again when it is done."""

    def __init__(self, gateway: Gateway, us: Identity, rules: Rules = OPEN) -> None:
        self._gateway = gateway
        self._us = us
        self.rules = rules
        self._unread: set[str] = set()

    async def asker(
        self, user: UserId, channel: ChannelId, *, team: TeamId | None = None, external: bool = False
    ) -> Asker:
        """Return who acts where. Raises `SlackError` while Slack does not say.

        team, external: what an event says of the person's team and of the channel.
        """
        person = await self._gateway.person(user)
        groups = [group for group in sorted(self.rules.groups) if user in await self.members(group)]
        where = await self.place(channel)
        return Asker(
            rules=self.rules,
            who=Who(person=person, home=self._us.team, team=team, groups=frozenset(groups)),
            where=Place(id=channel, private=where.private, external=where.external or external),
        )

    async def explain(self, asked: Why) -> Allowed | Refused:
        """Return what the rules say of somebody else. Raises `SlackError`, refused also where there is nobody of that name."""
        user = await self._gateway.person_called(asked.person)
        channel = ChannelId("D0") if asked.place == DIRECT else await self._gateway.channel_called(asked.place)
        if user is None or channel is None:
            raise SlackRefused("not_found")
        asker = await self.asker(user, channel)
        repository = None if asked.repository == NONE else asked.repository
        return asker.judge(What(act=asked.act, repository=repository))

    async def members(self, group: str) -> frozenset[UserId]:
        """Return who is in a user group; nobody where Slack refuses to say, which is logged once."""
        try:
            return await self._gateway.members(group)
        except SlackRefused as err:
            if group not in self._unread:
                self._unread.add(group)
                log.warning("policy.group_unread", group=group, code=err.code)
            return frozenset()

    async def standing(self, user: UserId) -> Verdict:
        """Return what the first rules say of a person, wherever they are. Raises `SlackError`."""
        who = Who(person=await self._gateway.person(user), home=self._us.team)
        return first_rules(who, Place(id=ChannelId(""), private=False))

    async def admins(self) -> frozenset[UserId]:
        """Return the people who administer the bot, those of user groups among them. Raises `SlackError`."""
        people = [UserId(one) for one in self.rules.admins if not one.startswith("S")]
        groups = [await self.members(one) for one in self.rules.admins if one.startswith("S")]
        return frozenset(people).union(*groups)

    async def place(self, channel: ChannelId) -> Place:
        """Return what Slack says of a place. One that is not there counts as private: the bot can't post there either."""
        try:
            return await self._gateway.place(channel)
        except SlackRefused as err:
            if err.code != NOT_THERE:
                raise  # it can't be known with whom the place is shared
            return Place(id=channel, private=True)
