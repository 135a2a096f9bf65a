"""Measures the time from process start to open socket, against a bare Bolt app.

`python benchmarks/cold_start.py` prints Markdown. Exit code 1: an app did not connect.

The apps start in turn, each alone on the machine: the bare app, this bot in an empty folder, and this bot with the
database of its last start. The servers run in this process.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from stage import BARE, DATABASE, folder_for, local_openhands, report, site, table

from bot.simulator.openhands import LocalOpenHands
from bot.simulator.process import THE_BOT

BARE_APP, EMPTY, AGAIN = "bare Bolt app", "this bot, the first start", "this bot, every later start"
FULL, QUICK = 15, 1


async def start_s(folder: Path, openhands: LocalOpenHands, python: Sequence[str]) -> float:
    """Start once; return the seconds until the socket is open, the start of the local Slack included."""
    begun = time.perf_counter()
    async with site(folder, openhands, python=python):
        return time.perf_counter() - begun


async def measure(times: int) -> list[str]:
    took: dict[str, list[float]] = {BARE_APP: [], EMPTY: [], AGAIN: []}
    with folder_for("bare", "ours") as (bare, ours):
        async with local_openhands() as openhands:
            for number in range(-1 if times > QUICK else 0, times):  # the first one reads its files from the disk
                for name, folder, python in (
                    (BARE_APP, bare, BARE),
                    (EMPTY, ours, THE_BOT),
                    (AGAIN, ours, THE_BOT),
                ):
                    if name is EMPTY:
                        for left in ours.glob(f"{DATABASE}*"):
                            left.unlink()
                    seconds = await start_s(folder, openhands, python)
                    if number >= 0:
                        took[name].append(seconds)
            wrong = openhands.violations
    medians = {name: statistics.median(values) for name, values in took.items()}
    table(
        (f"start to open socket, {times} each", ["median", "fastest", "slowest", "median / bare"]),
        *(
            (
                name,
                [
                    f"{medians[name]:.2f} s",
                    f"{min(values):.2f} s",
                    f"{max(values):.2f} s",
                    f"{medians[name] / medians[BARE_APP]:.2f}×",
                ],
            )
            for name, values in took.items()
        ),
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how long a start takes.")
    parser.add_argument("--quick", action="store_true", help="a few starts only, to see that all connect")
    return report(asyncio.run(measure(QUICK if parser.parse_args().quick else FULL)))


if __name__ == "__main__":
    raise SystemExit(main())
