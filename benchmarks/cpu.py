"""Measures the CPU time per request, and the share of a core that a hundred quiet runs take, against a bare Bolt app.

`python benchmarks/cpu.py` prints Markdown; only on Linux, since it reads /proc. Exit code 1: a run's end was not told.

For this bot, a request is a mention and all that follows: the inbox row, reactions, card, start, polls while the agent
works for some seconds, and its end told in the thread and in the team's channel. The bare app only acknowledges a
command. Only the app's own CPU time counts, so other processes matter little; both servers run in this process.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stage import BARE, Site, folder_for, follow, local_openhands, report, site, table, told, working

from bot.simulator.openhands import Conversation, LocalOpenHands

TARGET_S = 0.08
"""CPU seconds per request."""
TARGET_SHARE = 0.01
"""Share of a core with a hundred runs without news."""
QUIET = timedelta(minutes=30)
"""Time since the runs' last news, after which a run at work is polled at the slowest rate."""
COUNT_S = 0.2  # between two counts, since counting itself takes time
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Pace:
    """How many requests to send, and how fast."""

    requests: int
    per_s: float


@dataclass(frozen=True)
class Size:
    """How much to measure."""

    paces: Sequence[Pace]
    channels: int
    warm_up: int
    live: int
    rest_s: float
    """From the app's start to measuring its share of a core without requests."""
    watch_s: float
    works_s: float
    """How long an agent works."""


FULL = Size(
    paces=(Pace(40, 0.5), Pace(200, 10)), channels=50, warm_up=5, live=100, rest_s=10.0, watch_s=60.0, works_s=5.0
)
QUICK = Size(paces=(Pace(2, 2),), channels=2, warm_up=1, live=3, rest_s=0.5, watch_s=0.5, works_s=0.2)


def worked_s(place: Site) -> float:
    """Return the CPU seconds that an app has used so far."""
    fields = Path(f"/proc/{place.app.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


async def asked(place: Site, pace: Pace, *, runs: bool) -> int:
    """Send requests steadily until all are over; return how many were not acknowledged, or not told their end."""
    loop = asyncio.get_running_loop()
    before, begun = told(place), loop.time()
    commands = []
    for number in range(pace.requests):
        await asyncio.sleep(max(0.0, begun + number / pace.per_s - loop.time()))
        text = f"fix number {number} in org/repo"
        if runs:
            await place.says(number, f"@OpenHands {text}")
        else:
            commands.append(await place.asks(number, text))
    if not runs:
        await place.until(lambda: all(command.acked is not None for command in commands), look_s=COUNT_S)
        return sum(command.acked is not True for command in commands)
    while (so_far := told(place) - before) < pace.requests:
        if not await place.until(lambda: told(place) - before > so_far, look_s=COUNT_S):
            break
    return pace.requests - so_far


async def cost_s(place: Site, pace: Pace, *, runs: bool) -> tuple[float, int]:
    """Return the CPU seconds per request, and how many requests were lost."""
    before = worked_s(place)
    lost = await asked(place, pace, runs=runs)
    return (worked_s(place) - before) / pace.requests, lost


async def quiet_share(place: Site, size: Size) -> float:
    """Return the share of a core that an app takes without requests."""
    await asyncio.sleep(size.rest_s)
    before, begun = worked_s(place), time.perf_counter()
    await asyncio.sleep(size.watch_s)
    return (worked_s(place) - before) / (time.perf_counter() - begun)


def percent(share: float) -> str:
    return f"{share * 100:.1f} %"


async def live_share(folder: Path, openhands: LocalOpenHands, size: Size, quiet: timedelta) -> float:
    """Return the share of a core that `size.live` runs at work take, with their last news `quiet` ago."""
    news_at = datetime.now(UTC) - quiet
    await follow(folder, working(openhands, size.live, news_at=news_at))
    async with site(folder, openhands) as place:
        return await quiet_share(place, size)


async def measure(size: Size) -> list[str]:
    """Measure everything, with a folder per app; return what was lost, and the end of the bot's log."""
    wrong: list[str] = []
    with folder_for("bare", "ours", "fresh", "quiet") as (bare_folder, our_folder, fresh, quiet):
        async with local_openhands() as openhands:

            async def work(c: Conversation, _text: str) -> None:
                await asyncio.sleep(size.works_s)
                openhands.finish(c, "Done.")

            openhands.agent = work
            paces = [*map(name_of, size.paces)]
            costs: dict[str, list[str]] = {"bare Bolt app, acks only": [], "this bot, a whole run": []}
            async with (
                site(bare_folder, openhands, python=BARE, channels=size.channels) as bare,
                site(our_folder, openhands, channels=size.channels, settings={"NOTIFY_CHANNEL": "channel0"}) as ours,
            ):
                for (name, cells), place, runs in zip(costs.items(), (bare, ours), (False, True), strict=True):
                    await asked(place, Pace(size.warm_up, 10), runs=runs)
                    for pace in size.paces:
                        cost, lost = await cost_s(place, pace, runs=runs)
                        cells.append(f"{cost * 1000:.0f} ms")
                        wrong += [f"{lost} of {pace.requests}: {name}"] if lost else []
                wrong += [*ours.slack.violations, *(ours.last_lines if wrong else [])]
                bare_share = await quiet_share(bare, size)
        async with local_openhands() as openhands:
            fresh_share = await live_share(fresh, openhands, size, timedelta())
        async with local_openhands() as openhands:
            none_share = await live_share(quiet, openhands, size, QUIET)
    table(
        ("work of the process for a request", paces),
        *costs.items(),
        ("target", [f"≤ {TARGET_S * 1000:.0f} ms" for _ in paces]),
    )
    table(
        ("share of a core, without requests", ["figure"]),
        ("bare Bolt app", [percent(bare_share)]),
        (f"this bot, {size.live} live runs that began just now", [percent(fresh_share)]),
        (f"this bot, {size.live} live runs without news for half an hour", [percent(none_share)]),
        ("target", [f"≤ {percent(TARGET_SHARE)}"]),
    )
    return wrong


def name_of(pace: Pace) -> str:
    if pace.per_s < 1:
        return f"{pace.requests}, one every {1 / pace.per_s:g} s"
    return f"{pace.requests}, {pace.per_s:g} a second"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the work of the process.")
    parser.add_argument("--quick", action="store_true", help="a few requests only, to see that none is lost")
    return report(asyncio.run(measure(QUICK if parser.parse_args().quick else FULL)))


if __name__ == "__main__":
    raise SystemExit(main())
