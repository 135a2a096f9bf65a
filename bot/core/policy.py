"""Who may do what, where: one decision for every path, on the server, from Slack's ids.

The first rules hold without any policy file: they keep out bots, guests, people of other companies and what would leave
the company. Then come the rules of the file, in the order of `judge`; the first one that fits decides.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import assert_never

from bot.core.model import (
    Act,
    Action,
    Command,
    Do,
    Help,
    ListRuns,
    Origin,
    Person,
    Place,
    Run,
    Start,
    Status,
    TeamId,
    Unclear,
    UserId,
    Why,
)


class Verdict(StrEnum):
    """What the first rules say. The person, and nobody else, is told of all but `ALLOWED` and `DROPPED`."""

    ALLOWED = "allowed"
    DROPPED = "dropped"
    """Another bot: answering it would loop."""
    GUEST = "guest"
    OUTSIDE = "outside"
    """The person belongs to another company."""
    SHARED = "shared"
    """The channel is shared with another company: repositories and answers would leave ours."""
    DELETED = "deleted"


ACTS: Mapping[Action, Act] = MappingProxyType(
    {
        Action.STOP: Act.STOP,
        Action.CANCEL: Act.STOP,
        Action.RESUME: Act.RESUME,
        Action.RETRY: Act.RETRY,
        Action.APPROVE: Act.APPROVE,
        Action.REJECT: Act.REJECT,
        Action.AGAIN: Act.ANSWER,
        Action.LEAVE: Act.ANSWER,
        Action.GO: Act.START,
        Action.USE: Act.START,
        Action.NO_REPOSITORY: Act.START,
    }
)
"""What each button, and the word that does the same, counts as."""


def act_of(command: Command) -> Act | None:
    """Return what a command counts as; None for what everybody may ask."""
    match command:
        case Start():
            return Act.START
        case Do(action):
            return ACTS[action]
        case Status() | ListRuns():
            return Act.LOOK
        case Why():
            return Act.ADMINISTER
        case Help() | Unclear():
            return None
        case _:
            assert_never(command)


WORK = frozenset({Act.START, Act.RESUME, Act.RETRY, Act.ANSWER, Act.APPROVE})
"""Acts that set an agent to work, and so are bound to places and repositories. To stop is not."""

# --- the file ---------------------------------------------------------------------------------------------------

EVERYBODY = "everybody"
REQUESTER = "requester"
"""Who asked for the run. As `everybody`, a word that stands among ids."""
DIRECT = "direct"
"""Direct messages with the bot, as a word among channels."""
NONE = "none"
"""A task that needs no repository, as a word among patterns."""


class Approval(StrEnum):
    """Whose approval lets an agent do what it asks for."""

    ONE = "one person"
    OTHERS = "not the requester"
    TWO = "two people"
    """Two different ones."""


KEYS: Mapping[str, Act] = MappingProxyType(
    {
        "starters": Act.START,
        "approvers": Act.APPROVE,
        "watchers": Act.LOOK,
        "stop": Act.STOP,
        "resume": Act.RESUME,
        "retry": Act.RETRY,
        "answer": Act.ANSWER,
    }
)
"""The keys of the file that list people, and what these people may do."""
KEY_OF: Mapping[Act, str] = MappingProxyType({act: key for key, act in KEYS.items()} | {Act.REJECT: "approvers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One part of the file. What it leaves out is as in the general part."""

    name: str = ""
    channels: tuple[str, ...] = ()
    """Where it holds; empty: everywhere."""
    repositories: tuple[str, ...] = ()
    """Patterns of the repositories it is about; empty: all."""
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By key of `KEYS`: ids of people and of user groups, and the words `everybody` and `requester`."""
    approval: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A whole policy file, or none: everything is open then to whom the first rules let in."""

    admins: tuple[str, ...] = ()
    """They may do everything that is not bound to places, repositories or a second person."""
    channels: tuple[str, ...] = ()
    """The only places where agents are set to work; empty: all."""
    denied_channels: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    """Patterns of the only repositories that agents work in; empty: all that the account has."""
    general: Rule = Rule()
    rules: tuple[Rule, ...] = ()

    @property
    def groups(self) -> frozenset[str]:
        """Return the ids of the user groups that are named anywhere."""
        listed = [self.admins, *(ids for rule in (self.general, *self.rules) for ids in rule.people.values())]
        return frozenset(one for ids in listed for one in ids if one.startswith("S"))


OPEN = Rules()
"""The rules where there is no file."""

# --- the decision -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Somebody who acts, as Slack knows them."""

    person: Person
    home: TeamId
    """Our own team."""
    team: TeamId | None = None
    """The person's team, if the event names one."""
    groups: frozenset[str] = frozenset()
    """The user groups of the rules that they are in."""


UNKNOWN = "?"
"""A repository that is still to be asked for: whoever may start anything here may be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class What:
    """What somebody wants to do."""

    act: Act
    repository: str | None = UNKNOWN
    """None: the task needs none."""
    requester: UserId | None = None
    """Who asked for the run; None for a new one."""


def what_of(run: Run, act: Act) -> What:
    """Return an act on a run."""
    unknown = run.repository is None and run.origin is not Origin.NONE
    return What(act=act, repository=UNKNOWN if unknown else run.repository, requester=run.requester)


LOOKING = What(act=Act.LOOK)


@dataclass(frozen=True, slots=True)
class Allowed:
    rule: str
    """The rule that allows it."""
    approvals: int = 1
    """How many different people must approve before the agent is told."""


@dataclass(frozen=True, slots=True)
class Refused:
    rule: str
    """The rule that refuses it, as the file spells it, or the name of a first rule."""
    first: Verdict | None = None
    """The first rule it breaks; None for one of the file."""


def first_rules(who: Who, where: Place) -> Verdict:
    """Return the verdict that holds whatever the file says. Slack marks strangers; where it names no team, it is ours."""
    if who.person.bot:
        return Verdict.DROPPED
    if who.person.deleted:
        return Verdict.DELETED
    if who.person.stranger or {who.person.team, who.team} - {None, who.home}:
        return Verdict.OUTSIDE
    if who.person.guest:
        return Verdict.GUEST
    if where.external:
        return Verdict.SHARED
    return Verdict.ALLOWED


def judge(rules: Rules, who: Who, where: Place, what: What) -> Allowed | Refused:
    """Decide whether somebody may do something somewhere: the first of these rules that fits decides."""
    first = first_rules(who, where)
    if first is not Verdict.ALLOWED:
        return Refused(first.value, first)
    if what.act in WORK:
        bound = _bound(rules, where, what)
        if bound is not None:
            return bound
    is_admin = _among(rules.admins, who, what)
    if what.act is Act.ADMINISTER:
        return Allowed("admins") if is_admin else Refused("admins")
    decided = [_by(rules, rule, who, what, is_admin=is_admin) for rule in _fitting(rules, where, what)]
    return next((one for one in decided if isinstance(one, Allowed)), decided[-1])


def _bound(rules: Rules, where: Place, what: What) -> Refused | None:
    """Return the bound of the whole file that an act is outside of."""
    if _is_among(rules.denied_channels, where):
        return Refused("denied_channels")
    if rules.channels and not _is_among(rules.channels, where):
        return Refused("channels")
    if not allows(rules, what.repository):
        return Refused("repositories")
    return None


def allows(rules: Rules, repository: str | None) -> bool:
    """Return whether agents may work in a repository at all; None: a task without any."""
    return repository == UNKNOWN or not rules.repositories or _is_like(rules.repositories, repository)


def allowed(rules: Rules, names: Iterable[str]) -> tuple[str, ...]:
    """Return the repositories among these that agents may work in."""
    return tuple(name for name in names if allows(rules, name))


def _fitting(rules: Rules, where: Place, what: What) -> Iterator[Rule]:
    """Yield the rule that decides: the first that fits, else the general part.

    While the repository is unknown, each one that may come to fit.
    """
    for rule in rules.rules:
        if rule.channels and not _is_among(rule.channels, where):
            continue
        if not rule.repositories:
            yield rule
            return
        if what.repository == UNKNOWN:
            yield rule
        elif _is_like(rule.repositories, what.repository):
            yield rule
            return
    yield rules.general


def _by(rules: Rules, rule: Rule, who: Who, what: What, *, is_admin: bool) -> Allowed | Refused:
    """Return what one part of the file says."""
    key, ids, source = _listed(rules, rule, what.act)
    named = f"{key} of {source.name}" if source.name else key
    if not is_admin and not _among(ids, who, what):
        return Refused(named)
    approval = rule.approval or rules.general.approval or Approval.ONE
    if what.act is Act.APPROVE and approval is Approval.OTHERS and who.person.id == what.requester:
        return Refused(f'approval = "{approval}"')
    allowed = "admins" if is_admin else named if ids != (EVERYBODY,) else EVERYBODY
    return Allowed(allowed, 2 if what.act is Act.APPROVE and approval is Approval.TWO else 1)


def _listed(rules: Rules, rule: Rule, act: Act) -> tuple[str, tuple[str, ...], Rule]:
    """Return who may do something: the key that says so, its people, and the part it is in.

    Who may start may also do to a run what no key says; where no key is set, everybody may.
    """
    for key in dict.fromkeys([KEY_OF[act], *(["starters"] if act is not Act.LOOK else [])]):
        for part in (rule, rules.general):
            if key in part.people:
                return key, part.people[key], part
    return KEY_OF[act], (EVERYBODY,), rules.general


def _among(ids: tuple[str, ...], who: Who, what: What) -> bool:
    asked = what.requester is not None and what.requester == who.person.id
    return any(one in (EVERYBODY, who.person.id) or one in who.groups or (one == REQUESTER and asked) for one in ids)


def _is_among(channels: tuple[str, ...], where: Place) -> bool:
    return where.id in channels or (DIRECT in channels and where.id.startswith("D"))


def _is_like(patterns: tuple[str, ...], repository: str | None) -> bool:
    """Return whether a repository fits a pattern, in which `*` stands for anything. Services ignore case in names."""
    if repository is None:
        return NONE in patterns
    return any(fnmatchcase(repository.lower(), pattern.lower()) for pattern in patterns)
