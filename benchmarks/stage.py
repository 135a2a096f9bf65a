"""What the benchmarks share: an app in its own process between local servers, runs for it to follow, and tables."""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # a script finds the modules beside it, but not the package

from bot.core.model import Api, Card, ChannelId, ConversationId, Run, RunId, RunState, TeamId, UserId, Watch  # noqa: E402
from bot.simulator.openhands import Conversation, LocalOpenHands  # noqa: E402
from bot.simulator.openhands.state import StartTask  # noqa: E402
from bot.simulator.process import THE_BOT, App, app_in  # noqa: E402
from bot.simulator.slack import LocalSlack  # noqa: E402
from bot.simulator.slack.records import Command  # noqa: E402
from bot.simulator.world import World  # noqa: E402
from bot.store import runs  # noqa: E402
from bot.store.database import open_database  # noqa: E402

KEY = "benchmark-key"
BARE = (str(ROOT / "benchmarks" / "bare.py"),)
CONVERSATIONS = "/api/v1/app-conversations"
DATABASE = "openhands.db"
OPENHANDS_CALLS_PER_S = 10.0  # what servers allow
LOOK_S = 0.002
GIVES_UP_S = 120.0  # without progress for this long, what is missing counts as lost
PEOPLE = 10
LOG_LINES = 20  # lines of the app's log to show if something is wrong


class Site:
    """A local Slack with people and channels, and an app connected to it."""

    def __init__(self, slack: LocalSlack, openhands: LocalOpenHands, app: App, *, channels: int) -> None:
        self.slack = slack
        self.app = app
        world = World(slack, openhands)
        people = [world.person(f"person{number}") for number in range(PEOPLE)]
        self.people = [one.id for one in people]
        self.channels = [world.channel(f"channel{number}", *people) for number in range(channels)]

    async def asks(self, number: int, text: str) -> Command:
        person, channel = self.people[number % PEOPLE], self.channels[number % len(self.channels)]
        return await self.slack.command(person, channel, text)

    async def says(self, number: int, text: str) -> None:
        person, channel = self.people[number % PEOPLE], self.channels[number % len(self.channels)]
        await self.slack.say(person, channel, self.slack.wire(text))

    async def until(self, happened: Callable[[], bool], *, look_s: float = LOOK_S) -> bool:
        """Wait until it has happened; return False if the app ends or `GIVES_UP_S` passes first."""
        deadline = time.monotonic() + GIVES_UP_S
        while not happened():
            if time.monotonic() > deadline or not self.app.runs:
                return False
            await asyncio.sleep(look_s)
        return True

    @property
    def last_lines(self) -> list[str]:
        return self.app.log.splitlines()[-LOG_LINES:]


@asynccontextmanager
async def site(
    folder: Path,
    openhands: LocalOpenHands,
    *,
    python: Sequence[str] = THE_BOT,
    channels: int = 1,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Site]:
    """Run an app on its own Slack until the end of the block.

    settings: in addition to the addresses of the servers and of a database in this folder.
    """
    slack = LocalSlack()
    await slack.start()
    environment = {
        "SLACK_BOT_TOKEN": slack.bot_token,
        "SLACK_APP_TOKEN": slack.app_token,
        "SLACK_API_URL": slack.api_url,
        "OPENHANDS_API_KEY": KEY,
        "OPENHANDS_BASE_URL": openhands.base_url,
        "DATABASE_URL": f"sqlite:///{DATABASE}",
        "MAX_QUEUED_PER_PERSON": "0",
        "MAX_RUNS_PER_HOUR": "0",
        "MAX_CONCURRENT_RUNS": "1000",  # the maximum, since the account's limit is not measured
        **(settings or {}),
    }
    try:
        async with app_in(folder, environment, python=python) as app:
            made = Site(slack, openhands, app, channels=channels)
            if not await made.until(lambda: slack.sockets > 0):
                raise RuntimeError(f"the app does not connect: {app.log}")
            yield made
    finally:
        await slack.stop()


@asynccontextmanager
async def local_openhands() -> AsyncIterator[LocalOpenHands]:
    openhands = LocalOpenHands(key=KEY)
    await openhands.start()
    try:
        yield openhands
    finally:
        await openhands.stop()


def told(place: Site) -> int:
    """Return the number of threads in which the bot told how the run ended."""
    return len(
        {
            (channel, message.thread_ts)
            for channel in place.channels
            for message in place.slack.messages(channel)
            if message.thread_ts is not None and message.bot_id == place.slack.bot_id and "Done" in message.text
        }
    )


# --- runs that are under way already ----------------------------------------------------------------------------


def at_work(openhands: LocalOpenHands) -> Conversation:
    """Make an agent that works for ever."""
    now = datetime.now(UTC)
    c = Conversation(str(uuid4()), "v1", now, now, "A conversation", repository="org/repo", state="running")
    c.sandbox_status, c.working = "RUNNING", True
    openhands.conversations[c.id] = c
    return c


def working(openhands: LocalOpenHands, count: int, *, news_at: datetime | None = None) -> list[Run]:
    """Make so many agents that work for ever; return their runs.

    news_at: when all runs had their last news; None: just now.
    """
    runs = [a_run(at_work(openhands).id, RunState.WORKING) for _ in range(count)]
    if news_at is None:
        return runs
    return [replace(run, turn_at=news_at, watch=replace(run.watch, news_at=news_at)) for run in runs]


def starting(openhands: LocalOpenHands, count: int) -> list[Run]:
    """Make so many starts that are under way for ever; return their runs."""
    return [_on_its_way(openhands) for _ in range(count)]


def _on_its_way(openhands: LocalOpenHands) -> Run:
    now = datetime.now(UTC)
    task = StartTask(uuid4(), {}, now, now)
    openhands.tasks[task.id] = task
    return a_run(str(task.conversation_id), RunState.STARTING, task=task.id)


def a_run(conversation: str, state: RunState, *, task: str | None = None) -> Run:
    """Return a run with news just now; it has no card, so that the bot calls only OpenHands."""
    now = datetime.now(UTC)
    return Run(
        id=RunId(str(uuid4())),
        team=TeamId("T0"),
        channel=ChannelId("C0"),
        thread_ts=None,
        request_ts=None,
        private=False,
        requester=UserId("U0"),
        task="Find out why the nightly build became slow, mend it, and add a test. " * 5,
        repository="org/repo",
        state=state,
        api=Api.V1,
        conversation_id=ConversationId(conversation),
        start_task_id=task,
        turn_at=now,
        created_at=now,
        started_at=now,
        card=Card(gone=True),
        watch=Watch(observed_at=now, news_at=now, next_poll_at=now),
    )


async def follow(folder: Path, these: Iterable[Run]) -> None:
    """Write runs into the database of this folder's app, before it starts."""
    database = await open_database(f"sqlite:///{folder / DATABASE}")
    try:
        async with database.transaction() as tx:
            for run in these:
                await runs.add(tx, run)
    finally:
        await database.close()


# --- folders and tables -----------------------------------------------------------------------------------------


@contextmanager
def folder_for(*names: str) -> Iterator[list[Path]]:
    """Make temporary folders below the current one, whose disk is measured."""
    with TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as made:
        folders = [Path(made) / name for name in names]
        for folder in folders:
            folder.mkdir()
        yield folders


def shares(values: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def row(name: str, values: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(values)} |"


def table(*rows: tuple[str, Sequence[str]]) -> None:
    """Print a table. The first row is its head."""
    head, *rest = rows
    print("\n".join([row(*head), row("---", ["---:"] * len(head[1])), *(row(*one) for one in rest)]), flush=True)
    print()


def report(wrong: Iterable[str]) -> int:
    """Print what went wrong, one line each, and return the exit code."""
    lines = [*wrong]
    for line in lines:
        print(f"lost: {line}")
    return 1 if lines else 0
