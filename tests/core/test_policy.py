"""The first rules."""

from dataclasses import replace
from typing import Any

import pytest

from bot.core.model import ChannelId, Incoming, IncomingKind, Person, Place, TeamId, UserId
from bot.core.policy import Verdict, judge

ASKED = Incoming(
    key="k", kind=IncomingKind.COMMAND, team=TeamId("T1"), channel=ChannelId("C1"), user=UserId("U1"), text="fix it"
)
ALICE = Person(id=UserId("U1"), team=TeamId("T1"))
DEV = Place(id=ChannelId("C1"), private=False)


@pytest.mark.parametrize(
    ("person", "place", "asked", "verdict"),
    [
        ({}, {}, {}, Verdict.ALLOWED),
        ({}, {"private": True}, {}, Verdict.ALLOWED),
        ({}, {}, {"actor_team": "T1"}, Verdict.ALLOWED),
        ({"bot": True}, {}, {}, Verdict.DROPPED),
        ({"bot": True, "guest": True}, {}, {}, Verdict.DROPPED),
        ({"deleted": True}, {}, {}, Verdict.DELETED),
        ({"guest": True}, {}, {}, Verdict.GUEST),
        ({"stranger": True}, {}, {}, Verdict.OUTSIDE),
        ({"team": "T2"}, {}, {}, Verdict.OUTSIDE),
        ({"team": None}, {}, {}, Verdict.ALLOWED),
        ({"team": None, "stranger": True}, {}, {}, Verdict.OUTSIDE),
        ({}, {}, {"actor_team": "T2"}, Verdict.OUTSIDE),
        ({}, {"external": True}, {}, Verdict.SHARED),
        ({}, {}, {"external": True}, Verdict.SHARED),
        ({"stranger": True}, {"external": True}, {}, Verdict.OUTSIDE),
    ],
)
def test_who_may_do_what_where(
    person: dict[str, Any], place: dict[str, Any], asked: dict[str, Any], verdict: Verdict
) -> None:
    """Everyone of the company, in its own places. Slack marks strangers; a team it leaves out is ours."""
    assert judge(replace(ASKED, **asked), replace(ALICE, **person), replace(DEV, **place)) is verdict
