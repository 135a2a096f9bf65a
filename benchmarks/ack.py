"""Measures acknowledgement latency, commit included, against a bare Bolt app: idle, back to back, and at 50 a second.

`python benchmarks/ack.py` prints Markdown. Exit code 1: a request was lost. The database is in the current folder, so
that disk is measured.

Each app runs in its own process with its own local Slack; the servers run in this process. Times are from sending an
envelope to receiving its acknowledgement.
"""

import argparse
import asyncio
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stage import BARE, Site, folder_for, local_openhands, report, shares, site, table, told

from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.limits import POSTS_A_MINUTE
from bot.simulator.slack.records import Command

CALLS_PER_S = 8.0  # the bot's own limit for OpenHands
RECORD = b"x" * 4096  # about what one request adds to the database's log
COUNT_S = 0.2  # between two counts, since counting itself takes time
WARM_UP = 5  # requests per app: the first ones load what later ones find loaded
PAUSE_S = 0.03  # between two measurements, for the work the last one left
ACKED_LOOK_S = 0.0005  # how soon after an acknowledgement the next request is sent, back to back
BLOCK = 50  # requests to one app before the other's turn, back to back
ALONE = 4  # the fewest calls a run needs from a loop with one request per conversation: start, task, status, events


@dataclass(frozen=True)
class Size:
    """How much to measure."""

    pairs: int
    load_s: int
    per_s: int
    channels: int


FULL = Size(pairs=300, load_s=20, per_s=50, channels=50)
QUICK = Size(pairs=3, load_s=1, per_s=5, channels=5)


async def ack_ms(place: Site, number: int, answers: int) -> float | None:
    """Return the time of one acknowledgement of an idle app, in ms; None if there was none.

    answers: how many messages follow the acknowledgement of `help`.
    """
    command = await place.asks(number, "help")
    await place.until(lambda: command.failed or (command.acked is True and len(command.responses) >= answers))
    return None if command.ack_seconds is None else command.ack_seconds * 1000


def disk_ms(file: int) -> float:
    """Return how long the disk takes to write and sync a small record, in ms."""
    before = time.perf_counter()
    os.write(file, RECORD)
    os.fsync(file)
    return (time.perf_counter() - before) * 1000


def in_ms(values: Sequence[float]) -> list[str]:
    return [f"{share:.2f}" for share in shares(values)]


def side_by_side(title: str, our_ms: Sequence[float], bare_ms: Sequence[float], *more: tuple[str, list[str]]) -> None:
    """Print the figures of both apps and their ratio."""
    ratios = [mine / theirs for mine, theirs in zip(shares(our_ms), shares(bare_ms), strict=True)]
    table(
        (f"{title}, ms, {len(our_ms)} each", ["p50", "p95", "p99"]),
        ("bare Bolt app, acks only", in_ms(bare_ms)),
        ("this bot, committed", in_ms(our_ms)),
        *more,
        ("this bot / bare", [f"{ratio:.2f}×" for ratio in ratios]),
    )


async def idle(ours: Site, bare: Site, folder: Path, pairs: int) -> list[str]:
    """Measure both apps and the disk in turn; return what was lost."""
    our_ms: list[float] = []
    bare_ms: list[float] = []
    fsync_ms: list[float] = []
    lost = 0
    file = os.open(folder / "record", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for number in range(-WARM_UP if pairs > WARM_UP else 0, pairs):
            for place, answers, took in ((ours, 1, our_ms), (bare, 0, bare_ms)):
                one_ms = await ack_ms(place, number, answers)
                lost += one_ms is None
                if one_ms is not None and number >= 0:
                    took.append(one_ms)
                await asyncio.sleep(PAUSE_S)
            fsync_ms.append(disk_ms(file))
    finally:
        os.close(file)
    side_by_side("acknowledgement", our_ms, bare_ms, ("append and fsync", in_ms(fsync_ms)))
    return [f"{lost} acknowledgements while idle"] if lost else []


async def back_to_back(ours: Site, bare: Site, pairs: int) -> list[str]:
    """Measure both apps in turn, sending each request right after the last acknowledgement; return what was lost.

    The work that follows an acknowledgement is then still to be done.
    """
    took: dict[Site, list[float]] = {bare: [], ours: []}
    lost = 0
    for begin in range(0, pairs, BLOCK):
        for place, answers in ((ours, 1), (bare, 0)):
            asked = [await acked(place, number) for number in range(begin, min(begin + BLOCK, pairs))]
            took[place] += [one.ack_seconds * 1000 for one in asked if one.ack_seconds is not None]
            lost += sum(one.acked is not True for one in asked)
            await place.until(lambda: all(one.failed or len(one.responses) >= answers for one in asked))  # noqa: B023 - awaited here
    side_by_side("back to back", took[ours], took[bare])
    return [f"{lost} acknowledgements back to back"] if lost else []


async def acked(place: Site, number: int) -> Command:
    command = await place.asks(number, "help")
    await place.until(lambda: command.acked is not None, look_s=ACKED_LOOK_S)
    return command


async def load(ours: Site, openhands: LocalOpenHands, size: Size) -> list[str]:
    """Send requests steadily, wait until the end of every run was told, and return what was lost."""
    loop = asyncio.get_running_loop()
    wanted = size.load_s * size.per_s
    calls_before, posts_before = len(openhands.calls), posts(ours.slack)
    begun = loop.time()
    commands = []
    for number in range(wanted):
        await asyncio.sleep(max(0.0, begun + number / size.per_s - loop.time()))
        commands.append(await ours.asks(number, f"fix number {number} in org/repo"))
    await ours.until(lambda: all(command.acked is not None for command in commands))
    while (so_far := told(ours)) < wanted:
        if not await ours.until(lambda: told(ours) > so_far, look_s=COUNT_S):
            break
    took_s = loop.time() - begun
    kinds = Counter(call.kind for call in openhands.calls[calls_before:])
    calls, posted = kinds.total(), posts(ours.slack) - posts_before
    acks = [command.ack_seconds * 1000 for command in commands if command.ack_seconds is not None]
    usual, _, slow = shares(acks)
    table(
        (f"{size.per_s} requests a second for {size.load_s} s, {size.channels} channels", ["figure"]),
        ("p50 of the acknowledgements", [f"{usual:.1f} ms"]),
        ("p99 of the acknowledgements", [f"{slow:.1f} ms"]),
        ("slowest acknowledgement", [f"{max(acks):.0f} ms"]),
        ("every run started and told its end after", [f"{took_s:.0f} s"]),
        ("calls to OpenHands", [f"{calls}: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())]),
        ("calls a second", [f"{calls / took_s:.2f} of {CALLS_PER_S:g}"]),
        ("at least, for these calls to OpenHands", [f"{calls / CALLS_PER_S:.0f} s"]),
        ("at least, with one request for each conversation", [f"{ALONE * wanted / CALLS_PER_S:.0f} s"]),
        (f"at least, for {posted} posts, of which Slack takes {POSTS_A_MINUTE} a minute", [f"{waits_s(posted):.0f} s"]),
    )
    started = Counter(conversation.messages[0] for conversation in openhands.conversations.values())
    missing = {
        "acknowledgements": wanted - len(acks),
        "starts": wanted - len(started),
        "ends told": wanted - told(ours),
        "runs started twice": started.total() - len(started),
    }
    return [f"{count} {what}" for what, count in missing.items() if count]


def posts(slack: LocalSlack) -> int:
    return sum(call.method == "chat.postMessage" and call.ok is True for call in slack.calls)


def waits_s(posted: int) -> float:
    """Return the seconds that Slack's rate limit costs; the first minute's quota is available at once."""
    return max(0, posted - 1) // POSTS_A_MINUTE * 60.0


async def measure(folders: Sequence[Path], size: Size) -> list[str]:
    """Measure everything, with a folder per app; return what was lost, and the end of the bot's log."""
    async with local_openhands() as openhands:

        async def finish(c: Conversation, _text: str) -> None:
            openhands.finish(c, "Done.")

        openhands.agent = finish
        bare_folder, our_folder = folders
        async with (
            site(bare_folder, openhands, python=BARE, channels=size.channels) as bare,
            site(our_folder, openhands, channels=size.channels) as ours,
        ):
            lost = [
                *await idle(ours, bare, our_folder, size.pairs),
                *await back_to_back(ours, bare, size.pairs),
                *await load(ours, openhands, size),
            ]
            rules = [*ours.slack.violations, *openhands.violations]
            return [*lost, *rules, *(ours.last_lines if lost or rules else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure acknowledgements, idle and under load.")
    parser.add_argument("--quick", action="store_true", help="a few requests only, to see that nothing is lost")
    size = QUICK if parser.parse_args().quick else FULL
    with folder_for("bare", "ours") as folders:
        return report(asyncio.run(measure(folders, size)))


if __name__ == "__main__":
    raise SystemExit(main())
