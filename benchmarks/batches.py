"""Measures what a look at many runs of an Agent Server costs, by how many are asked about at once.

`python benchmarks/batches.py` prints Markdown. Exit code 1: not every run was seen.

Each entry of an answer holds figures of every call of the run's model, so answers grow as runs go on. The server works in
a process of its own, so that the work of this one is the client's.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import httpx
from stage import KEY, report, table

from bot.clock import WallClock
from bot.core.pacing import Patience
from bot.openhands.agent_server import BATCH, CONVERSATIONS
from bot.openhands.agent_server_answers import Conversation
from bot.openhands.http import Http, read_as
from bot.simulator.openhands import LocalOpenHands


@dataclass(frozen=True)
class Size:
    runs: int
    calls: Sequence[int]
    """How many calls of its model each run has made, in one table each."""
    at_once: Sequence[int]


FULL = Size(runs=100, calls=(50, 250), at_once=(6, 12, 24, 50, 99))
QUICK = Size(runs=4, calls=(2,), at_once=(1, 3))


async def serve(runs: int, calls: int) -> None:
    """Run an Agent Server with so many agents at work until standard input ends; print its address and their ids."""
    openhands = LocalOpenHands(key=KEY, api="agent")
    openhands.rate_limit = False
    await openhands.start()
    for number in range(runs):
        c = openhands.make_hosted(UUID(int=number + 1), f"/srv/runs/{number}")
        c.state, c.working, c.tokens, c.cost = "running", True, calls * 1000, calls * 0.01
        c.model = "openhands/claude-sonnet-4-5"
    print(openhands.base_url, *openhands.conversations, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await openhands.stop()


@asynccontextmanager
async def serving(runs: int, calls: int) -> AsyncIterator[tuple[str, list[str]]]:
    """Have a server in another process; give its address and the ids of its conversations."""
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--serve", str(runs), str(calls), stdin=pipe, stdout=pipe, limit=1_000_000
    )
    assert server.stdout
    assert server.stdin
    address, *ids = (await server.stdout.readline()).decode().split()
    try:
        yield address, ids
    finally:
        server.stdin.close()
        await server.wait()


async def a_round(http: Http, ids: Sequence[str], at_once: int) -> tuple[int, float, float, float]:
    """Ask about all runs; return how many were seen, the longest answer, the whole time and the work, in seconds."""
    seen, slowest_s, began, worked = 0, 0.0, time.perf_counter(), time.process_time()
    for first in range(0, len(ids), at_once):
        sent = time.perf_counter()
        answer = await http.get(CONVERSATIONS, {"ids": list(ids[first : first + at_once])})
        seen += sum(read_as(Conversation, entry).cost is not None for entry in answer.value())
        slowest_s = max(slowest_s, time.perf_counter() - sent)
    return seen, slowest_s, time.perf_counter() - began, time.process_time() - worked


async def measure(size: Size) -> list[str]:
    wrong: list[str] = []
    for calls in size.calls:
        rows: list[tuple[str, list[str]]] = []
        async with serving(size.runs, calls) as (address, ids):
            http = Http(address, KEY, clock=WallClock(), patience=Patience())
            async with httpx.AsyncClient(headers={"X-Session-API-Key": KEY}) as bare:
                for at_once in size.at_once:
                    asked = await bare.get(f"{address}{CONVERSATIONS}", params={"ids": ids[:at_once]})
                    await a_round(http, ids, at_once)  # to warm up, and to let the limiter forget the one before
                    seen, slowest_s, whole_s, work_s = await a_round(http, ids, at_once)
                    wrong += [f"{size.runs - seen} of {size.runs} runs, {at_once} at once"] if seen < size.runs else []
                    figures = [
                        f"{-(-size.runs // at_once)}",
                        f"{len(asked.content) / 1000:,.0f} KB",
                        f"{slowest_s * 1000:.0f} ms",
                        f"{whole_s:.2f} s",
                        f"{work_s * 1000:.0f} ms",
                    ]
                    rows.append((f"{at_once}{' (ours)' if at_once == BATCH else ''}", figures))
            await http.aclose()
        head = ["requests a round", "largest answer", "slowest answer", "a round takes", "work of the bot for it"]
        table((f"{size.runs} live runs of {calls} model calls each, asked about at once", head), *rows)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure looks at many runs of an Agent Server.")
    parser.add_argument("--quick", action="store_true", help="a few runs only, to see that all are seen")
    parser.add_argument("--serve", nargs=2, type=int, metavar=("RUNS", "CALLS"), help="be the server")
    asked = parser.parse_args()
    if asked.serve:
        asyncio.run(serve(*asked.serve))
        return 0
    return report(asyncio.run(measure(QUICK if asked.quick else FULL)))


if __name__ == "__main__":
    raise SystemExit(main())
