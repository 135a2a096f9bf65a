"""Who may do what, where: the first rules, and those of a policy file."""

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest

from bot.core.model import (
    Act,
    Action,
    ChannelId,
    Command,
    Do,
    Origin,
    Person,
    Place,
    RunState,
    Start,
    TeamId,
    Unclear,
    UnclearReason,
    UserId,
    Why,
)
from bot.core.policy import (
    ACTS,
    KEY_OF,
    OPEN,
    UNKNOWN,
    WORK,
    Allowed,
    Approval,
    Refused,
    Rule,
    Rules,
    Verdict,
    What,
    Who,
    act_of,
    allowed,
    first_rules,
    judge,
    what_of,
)
from tests.core.runs import ALICE, BOB, a_run

MEMBER = Who(person=Person(id=ALICE, team=TeamId("T1")), home=TeamId("T1"))
DEV = Place(id=ChannelId("C1"), private=False)
DM = Place(id=ChannelId("D1"), private=True)
START = What(act=Act.START, repository="org/repo")


@pytest.mark.parametrize(
    ("person", "place", "team", "verdict"),
    [
        ({}, {}, None, Verdict.ALLOWED),
        ({}, {"private": True}, None, Verdict.ALLOWED),
        ({}, {}, "T1", Verdict.ALLOWED),
        ({"bot": True}, {}, None, Verdict.DROPPED),
        ({"bot": True, "guest": True}, {}, None, Verdict.DROPPED),
        ({"deleted": True}, {}, None, Verdict.DELETED),
        ({"guest": True}, {}, None, Verdict.GUEST),
        ({"stranger": True}, {}, None, Verdict.OUTSIDE),
        ({"team": "T2"}, {}, None, Verdict.OUTSIDE),
        ({"team": None}, {}, None, Verdict.ALLOWED),
        ({"team": None, "stranger": True}, {}, None, Verdict.OUTSIDE),
        ({}, {}, "T2", Verdict.OUTSIDE),
        ({}, {"external": True}, None, Verdict.SHARED),
        ({"stranger": True}, {"external": True}, None, Verdict.OUTSIDE),
    ],
)
def test_the_first_rules(person: dict[str, Any], place: dict[str, Any], team: str | None, verdict: Verdict) -> None:
    """Everyone of the company, in its own places. Slack marks strangers; a team it leaves out is ours."""
    who = replace(MEMBER, person=replace(MEMBER.person, **person), team=None if team is None else TeamId(team))
    where = replace(DEV, **place)
    assert first_rules(who, where) is verdict
    first = Refused(verdict.value, verdict)
    for act in set(Act) - {Act.ADMINISTER}:
        said = judge(OPEN, who, where, What(act=act, repository="org/repo"))
        assert said == (Allowed("everybody") if verdict is Verdict.ALLOWED else first)


def rules(**given: Any) -> Rules:
    """Return rules for which alice and the group S1 may do what the general part lists."""
    people = {key: tuple(given.pop(key)) for key in [*given] if key in {*KEY_OF.values()}}
    approval = given.pop("approval", None)
    return Rules(general=Rule(people=people, approval=approval), **given)


def says(rules: Rules, what: What = START, where: Place = DEV, **who: Any) -> str:
    """Return the rule that allows or refuses, a refusal with a "not " before it."""
    said = judge(rules, replace(MEMBER, **who), where, what)
    return said.rule if isinstance(said, Allowed) else f"not {said.rule}"


OTHERS = ("UOTHER",)


@pytest.mark.parametrize(
    ("given", "what", "said"),
    [
        ({"repositories": ("org/*",)}, {}, "everybody"),
        ({"repositories": ("ORG/Re*",)}, {}, "everybody"),
        ({"repositories": ("org/*",)}, {"repository": "evil/payload"}, "not repositories"),
        ({"repositories": ("org/*",)}, {"repository": "evil/org/repo"}, "not repositories"),
        ({"repositories": ("org/*",)}, {"repository": None}, "not repositories"),
        ({"repositories": ("*",)}, {"repository": None}, "not repositories"),
        ({"repositories": ("org/*", "none")}, {"repository": None}, "everybody"),
        ({"repositories": ("org/*",)}, {"repository": UNKNOWN}, "everybody"),
        ({"repositories": ("org/*",)}, {"repository": "evil/payload", "act": Act.STOP}, "everybody"),
        ({"channels": ("C1",)}, {}, "everybody"),
        ({"channels": ("C2",)}, {}, "not channels"),
        ({"channels": ("C2",)}, {"act": Act.REJECT}, "everybody"),
        ({"denied_channels": ("C1",)}, {}, "not denied_channels"),
        ({"denied_channels": ("C1",), "channels": ("C1",)}, {}, "not denied_channels"),
        ({"admins": ("UALICE",), "repositories": ("org/*",)}, {"repository": "evil/payload"}, "not repositories"),
        ({"starters": OTHERS}, {}, "not starters"),
        ({"starters": ("UALICE",)}, {}, "starters"),
        ({"starters": ("S1",)}, {}, "starters"),
        ({"starters": ("S2",)}, {}, "not starters"),
        ({"starters": ("everybody",)}, {}, "everybody"),
        ({"starters": ()}, {}, "not starters"),
        ({"starters": OTHERS, "admins": ("S1",)}, {}, "admins"),
        ({"starters": OTHERS}, {"act": Act.LOOK}, "everybody"),
        ({"watchers": OTHERS}, {"act": Act.LOOK}, "not watchers"),
        ({"starters": OTHERS}, {"act": Act.STOP}, "not starters"),
        ({"starters": OTHERS, "stop": ("everybody",)}, {"act": Act.STOP}, "everybody"),
        ({"starters": OTHERS, "stop": ("requester",)}, {"act": Act.STOP, "requester": ALICE}, "stop"),
        ({"starters": OTHERS, "stop": ("requester",)}, {"act": Act.STOP, "requester": BOB}, "not stop"),
        ({"answer": OTHERS}, {"act": Act.ANSWER}, "not answer"),
        ({"answer": OTHERS}, {"act": Act.RESUME}, "everybody"),
        ({"retry": OTHERS}, {"act": Act.RETRY}, "not retry"),
        ({"approvers": OTHERS}, {"act": Act.APPROVE}, "not approvers"),
        ({"approvers": OTHERS}, {"act": Act.REJECT}, "not approvers"),
        ({"approval": Approval.OTHERS}, {"act": Act.APPROVE, "requester": BOB}, "everybody"),
        (
            {"approval": Approval.OTHERS, "admins": ("UALICE",)},
            {"act": Act.APPROVE, "requester": ALICE},
            'not approval = "not the requester"',
        ),
        ({"approval": Approval.OTHERS}, {"act": Act.REJECT, "requester": ALICE}, "everybody"),
        ({}, {"act": Act.ADMINISTER}, "not admins"),
        ({"admins": OTHERS}, {"act": Act.ADMINISTER}, "not admins"),
        ({"admins": ("UALICE",)}, {"act": Act.ADMINISTER}, "admins"),
    ],
)
def test_what_a_file_says(given: dict[str, Any], what: dict[str, Any], said: str) -> None:
    """Places and repositories bind everybody, admins too; then come the people."""
    assert says(rules(**given), replace(START, **what), groups=frozenset({"S1"})) == said


def test_the_first_rule_that_fits_decides() -> None:
    """By channel and repository; what it leaves out is as in the general part."""
    file = replace(
        rules(starters=("UALICE",), stop=OTHERS),
        rules=(
            Rule(name="payments", repositories=("org/pay*",), people={"starters": OTHERS}),
            Rule(name="here", channels=("C1",), people={"starters": ("everybody",)}),
            Rule(name="never", channels=("C1",), people={"starters": ()}),
        ),
    )
    elsewhere = replace(DEV, id=ChannelId("C2"))
    assert says(file, replace(START, repository="org/payments")) == "not starters of payments"
    assert says(file, replace(START, repository="org/payments"), elsewhere) == "not starters of payments"
    assert says(file) == "everybody"
    assert says(file, where=elsewhere) == "starters"
    assert says(file, replace(START, repository=None), elsewhere) == "starters"
    assert says(file, replace(START, act=Act.STOP)) == "not stop"


def test_who_may_start_something_may_be_asked_which_repository() -> None:
    """Each rule that may come to fit is looked at; once the repository is known only one decides."""
    file = replace(
        rules(starters=OTHERS), rules=(Rule(name="docs", repositories=("org/docs",), people={"starters": ("UALICE",)}),)
    )
    assert says(file, replace(START, repository=UNKNOWN)) == "starters of docs"
    assert says(file, replace(START, repository=UNKNOWN), groups=frozenset(), person=Person(id=BOB, team=None)) == (
        "not starters"
    )


def test_direct_messages_are_a_place() -> None:
    """Each person has one with the bot, so that no list could name them all."""
    assert says(rules(channels=("C1", "direct")), where=DM) == "everybody"
    assert says(rules(channels=("C1",)), where=DM) == "not channels"
    assert says(rules(denied_channels=("direct",)), where=DM) == "not denied_channels"


def test_two_people_are_two_approvals() -> None:
    """Only an approval needs them, and a part of the file may ask for less than the whole."""
    file = replace(
        rules(approval=Approval.TWO), rules=(Rule(name="docs", repositories=("org/docs",), approval=Approval.ONE),)
    )
    approve = replace(START, act=Act.APPROVE)
    assert judge(file, MEMBER, DEV, approve) == Allowed("everybody", 2)
    assert judge(file, MEMBER, DEV, replace(approve, act=Act.REJECT)) == Allowed("everybody")
    assert judge(file, MEMBER, DEV, replace(approve, repository="org/docs")) == Allowed("everybody")


def test_every_path_counts_as_something() -> None:
    """A new button or command is judged, or said to be for everybody."""
    assert {*ACTS} == {*Action}
    assert {*KEY_OF} == {*Act} - {Act.ADMINISTER}
    made: dict[type, Command] = {
        Start: Start("fix it"),
        Do: Do(Action.STOP),
        Unclear: Unclear(UnclearReason.EMPTY),
        Why: Why("@bob", "#dev", "none", Act.STOP),
    }
    acts = {kind.__name__: act_of(made.get(kind) or kind()) for kind in get_args(Command)}
    free = {name for name, act in acts.items() if act is None}
    assert free == {"Help", "Unclear"}


@pytest.mark.parametrize("act", Act)
def test_nobody_does_what_no_list_names_them_for(act: Act) -> None:
    """Whatever the act, the place and the repository: with empty lists nothing is allowed."""
    nobody = rules(**dict.fromkeys({*KEY_OF.values()}, ()))
    for where, repository in product((DEV, DM), ("org/repo", None, UNKNOWN)):
        assert isinstance(judge(nobody, MEMBER, where, What(act=act, repository=repository, requester=ALICE)), Refused)


@pytest.mark.parametrize("act", sorted(WORK))
def test_no_agent_works_outside_of_the_bounds(act: Act) -> None:
    """Whoever asks, admins too."""
    for bound in ({"repositories": ("org/*",)}, {"channels": ("C2",)}, {"denied_channels": ("C1",)}):
        assert isinstance(
            judge(rules(admins=("UALICE",), **bound), MEMBER, DEV, What(act=act, repository="evil/payload")), Refused
        )


def test_a_run_that_asks_for_its_repository_has_none_yet() -> None:
    """It is not a task without a repository."""
    assert what_of(a_run(RunState.NEEDS_REPOSITORY), Act.ANSWER).repository == UNKNOWN
    assert what_of(a_run(origin=Origin.NONE), Act.ANSWER).repository is None
    assert what_of(a_run(repository="org/repo"), Act.STOP) == What(act=Act.STOP, repository="org/repo", requester=ALICE)


def test_only_what_is_allowed_is_offered() -> None:
    """As an answer to "which repository?"."""
    assert allowed(rules(repositories=("org/*",)), ("org/a", "evil/b")) == ("org/a",)


def test_groups_that_are_named_anywhere_are_read() -> None:
    """And no others."""
    file = replace(
        rules(admins=("S1", "U1"), starters=("S2",)), rules=(Rule(name="docs", people={"stop": ("S3", "requester")}),)
    )
    assert file.groups == {"S1", "S2", "S3"}
    assert UserId("U1") not in file.groups
