"""Measures memory with many live runs and with a growing backlog, against an idle bot and a bare Bolt app.

`python benchmarks/memory.py` prints Markdown; only on Linux, since it reads /proc. Exit code 1: a run was not polled, or
a request not acknowledged.

Every run is polled as often as OpenHands' rate limit allows, when memory is highest. The backlog grows because requests
come faster than Slack accepts posts, so that more and more rows wait; the agents end at once.
"""

import argparse
import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stage import BARE, Site, folder_for, follow, local_openhands, report, site, table, working

from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.openhands.state import Call
from bot.simulator.slack.records import Command

FULL, QUICK = 10_000, 20
ROUNDS = 3
REST_S, QUICK_REST_S = 10.0, 0.2  # how long the apps without runs rest before they are measured
INTERVAL_S, QUICK_INTERVAL_S = 2.0, 0.2
TARGET_MB = 150
BACKLOG, QUICK_BACKLOG = (600, 3000), (2, 4)
"""Requests after which memory is measured: once there is a backlog, and when it is several times as long."""
PER_S = 10.0
CHANNELS = 50
GROWTH_MB = 10
MB = 1_000_000
LOOK_S = 0.2


@dataclass(frozen=True)
class Memory:
    """The memory of one process, in MB."""

    resident: float
    own: float
    """Not shared with another process."""
    highest: float
    """Highest resident memory since the start."""

    @property
    def cells(self) -> list[str]:
        return [f"{value:.0f} MB" for value in (self.resident, self.own, self.highest)]


def memory_of(pid: int) -> Memory:
    about = Path(f"/proc/{pid}")
    maps = (about / "smaps_rollup").read_text()
    status = (about / "status").read_text()
    return Memory(
        resident=in_mb(maps, "Rss"),
        own=in_mb(maps, "Private_Clean") + in_mb(maps, "Private_Dirty"),
        highest=in_mb(status, "VmHWM"),
    )


def in_mb(lines: str, name: str) -> float:
    [kibibytes] = re.findall(rf"^{name}:\s+(\d+) kB$", lines, re.MULTILINE)
    return int(kibibytes) * 1024 / MB


async def rest(seconds: float, place: Site) -> Memory:
    await asyncio.sleep(seconds)
    return memory_of(place.app.pid)


def looks(calls: list[Call], count: int) -> Callable[[], bool]:
    """Return a function that says whether `count` runs were polled `ROUNDS` times on average; counts each call once."""
    counted, asked = 0, 0

    def enough() -> bool:
        nonlocal counted, asked
        new, counted = calls[counted:], len(calls)
        asked += sum(len(call.query["ids"]) for call in new if call.kind == "status")
        return asked >= ROUNDS * count

    return enough


async def with_runs(
    folder: Path, openhands: LocalOpenHands, count: int, interval_s: float
) -> tuple[Memory, float, list[str]]:
    """Have the bot follow so many runs; return its memory, the seconds per polling round, and what went wrong."""
    await follow(folder, working(openhands, count))
    openhands.calls.clear()
    async with site(folder, openhands, settings={"POLL_INTERVAL_S": str(interval_s)}) as place:
        begun = time.perf_counter()
        went_on = await place.until(looks(openhands.calls, count), look_s=LOOK_S)
        took_s = (time.perf_counter() - begun) / ROUNDS
        seen = {one for call in openhands.calls if call.kind == "status" for one in call.query["ids"]}
        wrong = [] if went_on and len(seen) == count else [f"{count - len(seen)} runs, not looked at"]
        return memory_of(place.app.pid), took_s, wrong + (place.last_lines if wrong else [])


async def with_backlog(folder: Path, openhands: LocalOpenHands, after: Sequence[int]) -> tuple[list[Memory], list[str]]:
    """Send requests faster than Slack accepts the posts; return the memory after each count, and what went wrong."""

    async def finish(c: Conversation, _text: str) -> None:
        openhands.finish(c, "Done.")

    openhands.agent = finish
    taken: list[Memory] = []
    async with site(folder, openhands, channels=CHANNELS) as place:
        loop = asyncio.get_running_loop()
        begun, commands = loop.time(), list[Command]()
        for number in range(max(after)):
            await asyncio.sleep(max(0.0, begun + number / PER_S - loop.time()))
            commands.append(await place.asks(number, f"fix number {number} in org/repo"))
            if number + 1 in after:
                await place.until(lambda: all(command.acked is not None for command in commands), look_s=LOOK_S)
                taken.append(memory_of(place.app.pid))
        lost = sum(command.acked is not True for command in commands)
        wrong = [f"{lost} requests, not acknowledged"] if lost else []
        return taken, [*wrong, *place.slack.violations, *(place.last_lines if wrong else [])]


async def measure(count: int, rest_s: float, interval_s: float, backlog: Sequence[int]) -> list[str]:
    with folder_for("bare", "none", "ours", "asked") as (bare, none, ours, asked):
        async with local_openhands() as openhands:
            async with site(bare, openhands, python=BARE) as place:
                bare_app = await rest(rest_s, place)
            async with site(none, openhands) as place:
                without = await rest(rest_s, place)
            tracked, round_s, wrong = await with_runs(ours, openhands, count, interval_s)
            wrong += openhands.violations
        async with local_openhands() as openhands:
            grown, lost = await with_backlog(asked, openhands, backlog)
            wrong += lost
    table(
        ("memory of the process", ["resident", "its own", "highest"]),
        ("bare Bolt app", bare_app.cells),
        ("this bot, no runs", without.cells),
        (f"this bot, {count:,} live runs", tracked.cells),
        (f"target with {count:,} runs", [f"< {TARGET_MB} MB", "", ""]),
        ("seconds for one round over all of them", [f"{round_s:.1f}", "", ""]),
    )
    first, last = grown[0], grown[-1]
    table(
        (f"memory of the process, {PER_S:g} requests a second", ["resident", "its own", "highest"]),
        *(
            (f"this bot, after {number:,} requests", memory.cells)
            for number, memory in zip(backlog, grown, strict=True)
        ),
        ("grown by", [f"{last.resident - first.resident:.0f} MB", f"{last.own - first.own:.0f} MB", ""]),
        ("target", [f"< {GROWTH_MB} MB", "", ""]),
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure memory with many live runs and with a backlog.")
    parser.add_argument("--quick", action="store_true", help="a few runs and requests only, to see that none is lost")
    quick = parser.parse_args().quick
    if quick:
        return report(asyncio.run(measure(QUICK, QUICK_REST_S, QUICK_INTERVAL_S, QUICK_BACKLOG)))
    return report(asyncio.run(measure(FULL, REST_S, INTERVAL_S, BACKLOG)))


if __name__ == "__main__":
    raise SystemExit(main())
