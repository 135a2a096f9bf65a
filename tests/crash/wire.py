"""Journeys with one errand each, and a trap that kills the bot at one of its calls.

`python -m tests.crash.wire` makes each journey once and prints as JSON how many calls of each kind it took.
"""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

from bot.simulator.openhands import NoAnswer
from tests.crash.errands import Errand
from tests.crash.oracle import complaints
from tests.crash.town import Api, Hosted, Kind, town

JOURNEY_S = 45.0
"""Real seconds a journey may take; it takes a few, or a few more with a kill."""
JOURNEYS = {Kind.WHOLE: True, Kind.GATED: False}
"""Kind → typed as a command. Command to question, reply, end and the team's line; mention, approval, stop."""
PLACE = "#place0"
SEED = 0


@dataclass(frozen=True)
class Moment:
    """Before or after the n-th call of a kind to a service, in a journey."""

    journey: Kind
    service: str
    kind: str
    number: int
    phase: str
    api: Api = "v1"

    def __str__(self) -> str:
        return f"{self.api}-{self.journey}-{self.service}-{self.kind}-{self.number}-{self.phase}"


class Trap:
    """Kills the bot at a moment and restarts it at once, so that both servers see a caller that is gone."""

    def __init__(self, at: Hosted, moment: Moment) -> None:
        self._at = at
        self._moment = moment
        self._calls = 0
        self.sprung = False
        if moment.service == "slack":
            at.world.slack.on_call = self._of_slack
        else:
            at.world.openhands.on_call = self._of_openhands

    async def _of_slack(self, phase: str, method: str, _args: object) -> None:
        if self._is_it(phase, method):
            raise ConnectionError

    async def _of_openhands(self, phase: str, kind: str) -> None:
        if self._is_it(phase, kind):
            raise NoAnswer

    def _is_it(self, phase: str, kind: str) -> bool:
        """Count a call; at the right one kill and restart the bot. Return whether it was that one."""
        if (phase, kind) != (self._moment.phase, self._moment.kind):
            return False
        self._calls += 1
        if self._calls != self._moment.number:
            return False
        self.sprung = True
        self._at.child.kill()
        self._at.child.start()
        return True


@asynccontextmanager
async def journey(folder: Path, kind: Kind, api: Api) -> AsyncIterator[tuple[Hosted, Errand]]:
    """Yield the world and errand of a journey, without starting the bot."""
    async with town(folder, f"sqlite:///{folder / 'journey.db'}", SEED, api) as at:
        yield at, Errand(at, 0, kind, PLACE, typed=JOURNEYS[kind])


async def made(at: Hosted, errand: Errand) -> None:
    """Make the journey, from the bot's start until everybody was told the end, or `JOURNEY_S` has passed."""
    at.child.start()
    await at.connected()
    with suppress(TimeoutError):
        async with asyncio.timeout(JOURNEY_S):
            await errand.run()


def calls(at: Hosted) -> Mapping[str, Mapping[str, int]]:
    """Return the number of calls of each kind to each service."""
    slack, openhands = at.world.slack, at.world.openhands
    return {
        "slack": Counter(call.method for call in slack.calls),
        "openhands": Counter(call.kind for call in openhands.calls),
    }


async def recorded() -> Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]:
    """Make each journey on each kind of server, and return the number of its calls."""
    found: dict[str, dict[str, Mapping[str, Mapping[str, int]]]] = {}
    for api, kind in product(get_args(Api), JOURNEYS):
        with tempfile.TemporaryDirectory() as folder:
            async with journey(Path(folder), kind, api) as (at, errand):
                await made(at, errand)
                await at.child.end()
                assert not [*complaints(at, [errand]), *at.ended_badly()], "the journey must be whole"
                found.setdefault(api, {})[kind.value] = calls(at)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(recorded())))  # noqa: T201 - this is what it is for
