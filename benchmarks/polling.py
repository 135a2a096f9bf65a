"""Counts the requests per polling round over all live runs, against one GET per run.

`python benchmarks/polling.py` prints Markdown. Exit code 1: a run was not polled, or a rule of OpenHands broken.

Half of the runs work and half are starting, since OpenHands has a different call for each. The number of rounds is that
of the polls of the run polled most often.
"""

import argparse
import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
from stage import (
    CONVERSATIONS,
    KEY,
    OPENHANDS_CALLS_PER_S,
    Site,
    folder_for,
    follow,
    local_openhands,
    report,
    site,
    starting,
    table,
    working,
)

from bot.simulator.openhands.state import Call
from bot.simulator.openhands.v1 import MAX_IDS

FULL = (1, 99, 100, 1000)
QUICK = (2,)
ROUNDS = 5
QUICK_INTERVAL_S = 0.2


async def one_each(count: int) -> int:
    """Ask about each conversation once, separately; return how many requests that took."""
    async with local_openhands() as openhands:
        openhands.rate_limit = False  # requests are counted, not timed: at the real rate it would take minutes
        runs = working(openhands, count)
        async with httpx.AsyncClient(base_url=openhands.base_url, headers={"Authorization": f"Bearer {KEY}"}) as client:
            for run in runs:
                (await client.get(CONVERSATIONS, params={"ids": str(run.conversation_id)})).raise_for_status()
        return len(openhands.calls)


def of_kind(calls: Sequence[Call], kind: str) -> list[Call]:
    return [call for call in calls if call.kind == kind and call.status == 200]


def looks(calls: Sequence[Call]) -> Counter[str]:
    """Return how often each run was asked about."""
    return Counter(one for call in calls for one in call.query["ids"])


def rounds(calls: Sequence[Call]) -> int:
    return max(looks(calls).values(), default=0)


async def ours(folder: Path, count: int, interval_s: float) -> tuple[list[str], list[str]]:
    """Have the bot follow so many runs for some rounds; return the table's figures, and what went wrong."""
    async with local_openhands() as openhands:
        await follow(folder, [*working(openhands, count), *starting(openhands, count)])
        settings = {"POLL_INTERVAL_S": str(interval_s)}
        async with site(folder, openhands, settings=settings) as place:
            await enough(place, openhands.calls)
            calls = [*openhands.calls]
        status, tasks = of_kind(calls, "status"), of_kind(calls, "tasks")
        events = sum(call.kind.endswith("events") for call in calls)
        missing = 2 * count - len(looks(status)) - len(looks(tasks))
        wrong = [*openhands.violations, *([f"{missing} runs of {count}, not looked at"] if missing else [])]
        figures = [
            str(math.ceil(count / MAX_IDS)),
            f"{len(status) / rounds(status):.2f}",
            f"{len(tasks) / rounds(tasks):.2f}",
            f"{events / rounds(status):.1f}",
        ]
        return figures, [*wrong, *(place.last_lines if wrong else [])]


async def enough(place: Site, calls: Sequence[Call]) -> None:
    """Wait until both kinds completed `ROUNDS` rounds, which the start of the next round shows."""
    await place.until(lambda: all(rounds(of_kind(calls, kind)) > ROUNDS for kind in ("status", "tasks")), look_s=0.05)


async def measure(counts: Sequence[int], interval_s: float) -> list[str]:
    wrong: list[str] = []
    rows: list[tuple[str, list[str]]] = []
    with folder_for(*map(str, counts)) as folders:
        for count, folder in zip(counts, folders, strict=True):
            apart = await one_each(count)
            figures, failed = await ours(folder, count, interval_s)
            rows.append(
                (f"{count:,}", [str(apart), f"{apart / OPENHANDS_CALLS_PER_S:.1f} s", *figures]),
            )
            wrong += failed
    table(
        (
            "live runs, requests a round",
            ["one GET each", f"at {OPENHANDS_CALLS_PER_S:g} a second", "target", "status", "start tasks", "events"],
        ),
        *rows,
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the requests a round of looking at live runs costs.")
    parser.add_argument("--quick", action="store_true", help="a few runs only, to see that all are looked at")
    quick = parser.parse_args().quick
    return report(asyncio.run(measure(QUICK if quick else FULL, QUICK_INTERVAL_S if quick else 2.0)))


if __name__ == "__main__":
    raise SystemExit(main())
