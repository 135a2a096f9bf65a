"""How fast a request is acknowledged, its commit included, beside a bare Bolt app; and what 50 requests a second do.

`python benchmarks/ack.py` prints Markdown. Exit code 1: a request was lost. The folder it is run in is where the
database lies, so it is that disk that is measured.

Both apps are processes of their own, each with a local Slack; the servers run in this process. Times are those
between Slack's sending of an envelope and the arrival of its acknowledgement.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # a script finds what lies beside it, not the package

from bot.simulator.openhands import Conversation, LocalOpenHands  # noqa: E402
from bot.simulator.process import THE_BOT, App, app_in  # noqa: E402
from bot.simulator.slack import LocalSlack  # noqa: E402
from bot.simulator.slack.limits import POSTS_A_MINUTE  # noqa: E402
from bot.simulator.slack.records import Command  # noqa: E402
from bot.simulator.world import World  # noqa: E402

KEY = "benchmark-key"
BARE = (str(ROOT / "benchmarks" / "bare.py"),)
CALLS_PER_S = 8.0  # what the bot allows itself on OpenHands
RECORD = b"x" * 4096  # about what one request adds to the database's log
LOOK_S = 0.002
COUNT_S = 0.2  # between two counts, which take a moment themselves
WARM_UP = 5  # of both apps: the first requests load what all later ones find there
PAUSE_S = 0.03  # between two measurements, for what the last one left to do
GIVES_UP_S = 120.0  # without any progress for so long, what is missing is lost
PEOPLE = 10
LOG_LINES = 20  # of the bot, where something is lost
ALONE = 4  # calls that a loop with one request for each conversation needs at least: start, its task, status, events


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    pairs: int
    load_s: int
    per_s: int
    channels: int


FULL = Size(pairs=300, load_s=20, per_s=50, channels=50)
QUICK = Size(pairs=10, load_s=3, per_s=10, channels=10)


class Site:
    """A local Slack with people and channels, and an app on it."""

    def __init__(self, slack: LocalSlack, openhands: LocalOpenHands, app: App, *, channels: int, answers: int) -> None:
        """answers: so many messages follow the acknowledgement of `help`."""
        self.slack = slack
        self.answers = answers
        self.app = app
        world = World(slack, openhands)
        people = [world.person(f"person{number}") for number in range(PEOPLE)]
        self.people = [one.id for one in people]
        self.channels = [world.channel(f"channel{number}", *people) for number in range(channels)]

    async def asks(self, number: int, text: str) -> Command:
        person, channel = self.people[number % PEOPLE], self.channels[number % len(self.channels)]
        return await self.slack.command(person, channel, text)

    async def until(self, happened: Callable[[], bool], *, look_s: float = LOOK_S) -> bool:
        """Wait; False when the app is gone or too much time has passed."""
        deadline = time.monotonic() + GIVES_UP_S
        while not happened():
            if time.monotonic() > deadline or not self.app.runs:
                return False
            await asyncio.sleep(look_s)
        return True

    async def ack_ms(self, number: int) -> float | None:
        """Measure one acknowledgement while nothing else goes on; None where none came."""
        command = await self.asks(number, "help")
        await self.until(lambda: command.failed or (command.acked is True and len(command.responses) >= self.answers))
        return None if command.ack_seconds is None else command.ack_seconds * 1000


@asynccontextmanager
async def site(
    folder: Path, openhands: LocalOpenHands, *, python: Sequence[str], channels: int, answers: int
) -> AsyncIterator[Site]:
    """Run an app on a Slack of its own until the end of the block."""
    slack = LocalSlack()
    await slack.start()
    settings = {
        "SLACK_BOT_TOKEN": slack.bot_token,
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_API_URL": slack.api_url,
        "OPENHANDS_API_KEY": KEY,
        "OPENHANDS_BASE_URL": openhands.base_url,
        "DATABASE_URL": "sqlite:///openhands.db",
    }
    try:
        async with app_in(folder, settings, python=python) as app:
            made = Site(slack, openhands, app, channels=channels, answers=answers)
            if not await made.until(lambda: slack.sockets > 0):
                raise RuntimeError(f"the app does not connect: {app.log}")
            yield made
    finally:
        await slack.stop()


def disk_ms(file: int) -> float:
    """Measure what the disk takes to have a small record for good."""
    before = time.perf_counter()
    os.write(file, RECORD)
    os.fsync(file)
    return (time.perf_counter() - before) * 1000


def shares(values: Sequence[float]) -> tuple[float, float, float]:
    """Give p50, p95 and p99."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def in_ms(values: Sequence[float]) -> list[str]:
    return [f"{share:.2f}" for share in shares(values)]


def row(name: str, values: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(values)} |"


def table(*rows: tuple[str, Sequence[str]]) -> None:
    """Print a table, its head first."""
    head, *rest = rows
    print("\n".join([row(*head), row("---", ["---:"] * len(head[1])), *(row(*one) for one in rest)]), flush=True)
    print()


async def idle(ours: Site, bare: Site, folder: Path, pairs: int) -> list[str]:
    """Measure both apps and the disk in turn; give what is lost."""
    our_ms: list[float] = []
    bare_ms: list[float] = []
    fsync_ms: list[float] = []
    lost = 0
    file = os.open(folder / "record", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for number in range(-WARM_UP, pairs):
            for place, took in ((ours, our_ms), (bare, bare_ms)):
                ack_ms = await place.ack_ms(number)
                lost += ack_ms is None
                if ack_ms is not None and number >= 0:
                    took.append(ack_ms)
                await asyncio.sleep(PAUSE_S)
            fsync_ms.append(disk_ms(file))
    finally:
        os.close(file)
    ratios = [mine / theirs for mine, theirs in zip(shares(our_ms), shares(bare_ms), strict=True)]
    table(
        (f"acknowledgement, ms, {pairs} each", ["p50", "p95", "p99"]),
        ("bare Bolt app, acks only", in_ms(bare_ms)),
        ("this bot, committed", in_ms(our_ms)),
        ("append and fsync", in_ms(fsync_ms)),
        ("this bot / bare", [f"{ratio:.2f}×" for ratio in ratios]),
    )
    return [f"{lost} acknowledgements while idle"] if lost else []


async def load(ours: Site, openhands: LocalOpenHands, size: Size) -> list[str]:
    """Ask steadily, then wait until every run was told its end; give what is lost."""
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
    _, _, slow = shares(acks)
    table(
        (f"{size.per_s} requests a second for {size.load_s} s, {size.channels} channels", ["figure"]),
        ("slowest acknowledgement", [f"{max(acks):.0f} ms"]),
        ("p99 of the acknowledgements", [f"{slow:.1f} ms"]),
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
    """Give the seconds that Slack's limit costs: the first minute's share goes at once."""
    return max(0, posted - 1) // POSTS_A_MINUTE * 60.0


def told(place: Site) -> int:
    """Count the threads in which the bot said how the run ended."""
    return len(
        {
            (channel, message.thread_ts)
            for channel in place.channels
            for message in place.slack.messages(channel)
            if message.thread_ts is not None and message.bot_id == place.slack.bot_id and "Done" in message.text
        }
    )


async def measure(folder: Path, size: Size) -> list[str]:
    """Measure everything, below a folder with one for each app; give what is lost, and the end of the bot's log."""
    openhands = LocalOpenHands(key=KEY)

    async def finish(c: Conversation, _text: str) -> None:
        openhands.finish(c, "Done.")

    openhands.agent = finish
    await openhands.start()
    try:
        async with (
            site(folder / "bare", openhands, python=BARE, channels=size.channels, answers=0) as bare,
            site(folder / "ours", openhands, python=THE_BOT, channels=size.channels, answers=1) as ours,
        ):
            lost = [*await idle(ours, bare, folder, size.pairs), *await load(ours, openhands, size)]
            rules = [*ours.slack.violations, *openhands.violations]
            last = ours.app.log.splitlines()[-LOG_LINES:] if lost or rules else []
            return [*lost, *rules, *last]
    finally:
        await openhands.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure acknowledgements, idle and under load.")
    parser.add_argument("--quick", action="store_true", help="a few requests only, to see that nothing is lost")
    size = QUICK if parser.parse_args().quick else FULL
    with TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as made:
        folder = Path(made)
        for app in ("bare", "ours"):
            (folder / app).mkdir()
        lost = asyncio.run(measure(folder, size))
    for what in lost:
        print(f"lost: {what}")
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
