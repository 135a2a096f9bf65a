"""Measures the latency from a change at OpenHands to Slack, against a loop with one request per conversation.

`python benchmarks/latency.py` prints Markdown. Exit code 1: an end was not told, or a rule of Slack or OpenHands broken.

About a hundred agents work at any time: when one ends, another begins. Both local servers enforce their limits. The
loop has its own servers, with the same ends at the same moments. It asks only for the status, which favours it: the bot
also reads the agent's last words. Polling slows down once a run has had no news for minutes; no run here is that old.
"""

import argparse
import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from stage import (
    CONVERSATIONS,
    KEY,
    Site,
    at_work,
    folder_for,
    local_openhands,
    report,
    shares,
    site,
    table,
)

from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.slack import LocalSlack

TARGET_OVER_INTERVAL_S = 0.5
LOOP_CALLS_PER_S = 9.0  # the highest rate at which the local OpenHands, which allows 10, never delays a call
CHANNELS = 50
SEED = 9
LOOK_S = 0.02
UNDER_WAY_ROUNDS = 3  # polling rounds after the last start, until the bot has seen it work


@dataclass(frozen=True)
class Size:
    """How much to measure."""

    live: int
    ends: int
    every_s: float
    interval_s: float


FULL = Size(live=100, ends=50, every_s=2.0, interval_s=2.0)
QUICK = Size(live=3, ends=2, every_s=0.2, interval_s=0.2)


def name_of(number: int) -> str:
    """Return a run's name, which is part of no other run's name."""
    return f"number {number:04}"


class Loop:
    """The baseline: asks about one conversation after the other, and posts when a status has changed."""

    def __init__(self, slack: LocalSlack, openhands: LocalOpenHands, channels: Sequence[str]) -> None:
        self.openhands = openhands
        self._channels = channels
        self._threads: dict[int, tuple[Conversation, str, str]] = {}
        self._web = AsyncWebClient(token=slack.bot_token, base_url=slack.api_url)
        self._http = httpx.AsyncClient(base_url=openhands.base_url, headers={"Authorization": f"Bearer {KEY}"})

    async def begins(self, number: int) -> None:
        channel = self._channels[number % len(self._channels)]
        posted = await self._patiently("chat.postMessage", channel=channel, text=f"Working: {name_of(number)}")
        self._threads[number] = (at_work(self.openhands), channel, posted)

    def ends(self, number: int) -> None:
        self.openhands.finish(self._threads[number][0], "Done.")

    async def run(self, interval_s: float) -> None:
        """Poll until cancelled."""
        clock = asyncio.get_running_loop()
        next_s = clock.time()
        while True:
            begun_s = clock.time()
            for number, (conversation, channel, thread) in [*self._threads.items()]:
                next_s = max(next_s + 1 / LOOP_CALLS_PER_S, clock.time())
                await asyncio.sleep(next_s - clock.time())
                answer = await self._http.get(CONVERSATIONS, params={"ids": conversation.id})
                if answer.raise_for_status().json()[0]["execution_status"] != "running":
                    del self._threads[number]
                    text = f"Done: {name_of(number)}"
                    await self._patiently("chat.postMessage", channel=channel, thread_ts=thread, text=text)
                    await self._patiently("chat.update", channel=channel, ts=thread, text=text)
            await asyncio.sleep(begun_s + interval_s - clock.time())

    async def _patiently(self, method: str, **about: str) -> str:
        """Call Slack, honouring Retry-After; return the message's `ts`."""
        while True:
            try:
                answer = await self._web.api_call(method, json=about)
            except SlackApiError as refused:
                if refused.response.status_code != 429:
                    raise
                await asyncio.sleep(int(refused.response.headers["Retry-After"]))
            else:
                return str(answer["ts"])

    async def close(self) -> None:
        await self._http.aclose()


@asynccontextmanager
async def reference(channels: int) -> AsyncIterator[tuple[LocalSlack, Loop]]:
    slack = LocalSlack()
    person = slack.add_user("person")
    places = [slack.add_channel(f"channel{number}", members=[person]) for number in range(channels)]
    await slack.start()
    async with local_openhands() as openhands:
        loop = Loop(slack, openhands, places)
        try:
            yield slack, loop
        finally:
            await loop.close()
            await slack.stop()


async def begin(place: Site, openhands: LocalOpenHands, loop: Loop, size: Size) -> None:
    """Start all runs at both, and wait until they are under way."""
    for number in range(size.live):
        await place.asks(number, f"fix {name_of(number)} in org/repo")
        await loop.begins(number)
    if not await place.until(lambda: len(openhands.conversations) == size.live, look_s=LOOK_S):
        begun = len(openhands.conversations)
        raise RuntimeError(f"{begun} of {size.live} runs began: {place.last_lines}")
    await asyncio.sleep(UNDER_WAY_ROUNDS * size.interval_s)


async def end_some(place: Site, openhands: LocalOpenHands, loop: Loop, size: Size) -> dict[int, datetime]:
    """End runs one by one at both, each at a random moment of its turn, and start others; return when each ended."""
    chance = random.Random(SEED)  # noqa: S311 - the same moments in each run, nothing secret
    clock = asyncio.get_running_loop()
    begun_s = clock.time()
    ended: dict[int, datetime] = {}
    for turn, number in enumerate(chance.sample(range(size.live), size.ends)):
        at_s = begun_s + (turn + chance.random()) * size.every_s
        await asyncio.sleep(at_s - clock.time())
        ended[number] = datetime.now(UTC)
        openhands.finish(openhands.find(name_of(number)), f"Mended {name_of(number)}.", cost=0.05)
        loop.ends(number)
        await place.asks(size.live + turn, f"fix {name_of(size.live + turn)} in org/repo")
        await loop.begins(size.live + turn)
    return ended


def told(slack: LocalSlack, method: str, number: int) -> datetime | None:
    """Return when a call of this method first told Slack the end of a run; None: not yet."""
    about = f"{name_of(number)}"
    return next(
        (
            call.at
            for call in slack.calls
            if call.method == method and call.ok and "Done" in call.args["text"] and about in str(call.args)
        ),
        None,
    )


def delays(slack: LocalSlack, method: str, ended: dict[int, datetime]) -> list[float]:
    """Return the seconds from each end to when it was told, for the ends that were told."""
    when = {number: told(slack, method, number) for number in ended}
    return [(at - ended[number]).total_seconds() for number, at in when.items() if at is not None]


def all_told(slack: LocalSlack, ended: dict[int, datetime]) -> Callable[[], bool]:
    methods = ("chat.postMessage", "chat.update")
    return lambda: all(len(delays(slack, method, ended)) == len(ended) for method in methods)


def cells(values: Sequence[float]) -> list[str]:
    p50, p95, _ = shares(values)
    return [f"{p50:.2f} s", f"{p95:.2f} s", f"{max(values):.2f} s"]


async def measure(folder: Path, size: Size) -> list[str]:
    settings = {"POLL_INTERVAL_S": str(size.interval_s)}
    async with (
        local_openhands() as openhands,
        reference(CHANNELS) as (loop_slack, loop),
        site(folder, openhands, channels=CHANNELS, settings=settings) as place,
    ):
        await begin(place, openhands, loop, size)
        looping = asyncio.create_task(loop.run(size.interval_s))
        try:
            ended = await end_some(place, openhands, loop, size)
            await place.until(all_told(place.slack, ended), look_s=0.5)
            await place.until(lambda: looping.done() or all_told(loop_slack, ended)(), look_s=0.5)
        finally:
            looping.cancel()
            await asyncio.gather(looping, return_exceptions=True)
        figures = {
            "one request each, news in the thread": delays(loop_slack, "chat.postMessage", ended),
            "one request each, card": delays(loop_slack, "chat.update", ended),
            "this bot, news in the thread": delays(place.slack, "chat.postMessage", ended),
            "this bot, card": delays(place.slack, "chat.update", ended),
        }
        missing = [f"{size.ends - len(found)} of {name}" for name, found in figures.items() if len(found) < size.ends]
        wrong = [*missing, *place.slack.violations, *openhands.violations]
        if missing:
            return [*wrong, *place.last_lines]
        table(
            (f"{size.live} live runs, one ends every {size.every_s:g} s: until it is seen", ["p50", "p95", "slowest"]),
            *((name, cells(found)) for name, found in figures.items()),
            ("target for news in the thread", ["", f"≤ {size.interval_s + TARGET_OVER_INTERVAL_S:.2f} s", ""]),
        )
        return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure how long a change at OpenHands takes to be seen in Slack.")
    parser.add_argument("--quick", action="store_true", help="a few runs only, to see that every end is told")
    size = QUICK if parser.parse_args().quick else FULL
    with folder_for("ours") as [folder]:
        return report(asyncio.run(measure(folder, size)))


if __name__ == "__main__":
    raise SystemExit(main())
