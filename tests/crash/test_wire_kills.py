"""SIGKILL before and after each call of a whole journey.

The ordinary suite kills at the few calls that matter most. `make crash-test` makes each journey once, lists its calls
in `CRASH_CALLS`, and kills at every one of them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.oracle import complaints, kept
from tests.crash.town import Kind
from tests.crash.wire import Moment, Trap, journey, made

CALLS = os.environ.get("CRASH_CALLS")
SAMPLE = (
    Moment(Kind.WHOLE, "slack", "chat.postMessage", 1, "after"),
    Moment(Kind.WHOLE, "openhands", "start", 1, "after"),
    Moment(Kind.WHOLE, "openhands", "send", 1, "after"),
    Moment(Kind.GATED, "openhands", "respond", 1, "after"),
    Moment(Kind.WHOLE, "openhands", "shell", 1, "after", "agent"),
    Moment(Kind.WHOLE, "openhands", "start", 1, "after", "agent"),
    Moment(Kind.WHOLE, "openhands", "send", 1, "after", "agent"),
    Moment(Kind.GATED, "openhands", "respond", 1, "after", "agent"),
)
OWED_S = 20.0
"""Real seconds after which nothing may be left to do."""
LOOKS = {"status", "tasks", "events", "agent_events", "chat.update", "conversations.history", "conversations.replies"}
"""Calls whose number depends on how fast the machine is today: polls, and edits that show their results."""


def moments(recorded: str) -> Iterator[Moment]:
    """Yield the moments before and after every call of every journey."""
    found = json.loads(recorded)
    journeys = [(api, kind, services) for api, kinds in found.items() for kind, services in kinds.items()]
    for api, kind, services in journeys:
        for service, calls in services.items():
            for call, times in calls.items():
                for number in range(1, times + 1):
                    for phase in ("before", "after"):
                        yield Moment(Kind(kind), service, call, number, phase, api)


@pytest.mark.parametrize("moment", tuple(moments(CALLS)) if CALLS else SAMPLE, ids=str)
async def test_killed_at_a_call(moment: Moment, tmp_path: Path) -> None:
    """The next process completes whatever was under way: nothing is lost or done twice, and the end is told."""
    async with journey(tmp_path, moment.journey, moment.api) as (at, errand):
        trap = Trap(at, moment)
        await made(at, errand)
        found = [*await kept(at, [errand], OWED_S), *complaints(at, [errand]), *at.ended_badly()]

    assert not found, "\n".join([f"the bot's log is {tmp_path / 'bot.log'}", *found])
    assert trap.sprung or moment.kind in LOOKS, "there was no such call"
