"""The production bot in its own process, with short time-outs, so that a kill test ends soon."""

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from bot import settings
from bot.app import Bot
from bot.core.pacing import Patience
from bot.ops import logs
from bot.simulator.process import KEPT
from bot.store import postgres  # noqa: F401 - the bot imports it lazily; here it must be loaded before the fork

HURRY = Patience(
    poll_s=0.2,
    poll_slowest_s=0.4,
    poll_person_s=0.4,
    look_around_s=0.3,
    retry_first_s=0.2,
    retry_slowest_s=1.0,
    slack_timeout_s=2.0,
    openhands_timeout_s=2.0,
    openhands_calls_per_s=100.0,
    send_timeout_s=3.0,
    start_lookups_s=(0.2, 0.5, 1.0, 1.0),
    start_settled_s=3.0,
    heard_settled_s=2.0,
    full_s=0.5,
    unsure_person_s=3.0,
    decision_settled_s=0.5,
    post_settled_s=0.5,
    card_gap_s=0.2,
    final_gap_s=0.1,
    ping_s=0.5,
    socket_again_s=0.1,
    heard_mark_s=0.3,
    heard_margin_s=5.0,
    heard_calls=1000,
    heard_pace=1000,
)
"""Production's patience, at least ten times shorter. Time-outs of calls stay longer than calls take on this machine."""
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])
GONE_S = 10.0  # to wait after SIGKILL; the process takes milliseconds to end


async def work() -> None:
    """Run the bot until SIGTERM; its settings come from the environment, as in production."""
    given = settings.load(_env_file=None)
    logs.configure(given)
    bot = Bot(given, patience=HURRY)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bot.stop)
    await bot.run()


def end_with_parent() -> None:
    """End when the tests do, however they do: a bot that outlives them goes on asking whoever has the port next."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def main(environment: Mapping[str, str], log: Path) -> None:
    """Set up the process's environment and standard streams, and run the bot."""
    os.environ.clear()
    os.environ.update(environment)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(work())


class Child:
    """The bot as a host sees it: started, killed, started again.

    Each life is its own process, forked from one that has only imported the code, since the imports take longer than
    everything else between two kills.
    """

    def __init__(self, given: Mapping[str, str], folder: Path) -> None:
        self._environment = {name: os.environ[name] for name in KEPT if name in os.environ} | dict(given)
        self._log = folder / "bot.log"
        self._process: ForkServerProcess | None = None
        self.kills = 0
        self.ended_badly: list[int | None] = []
        """Exit codes of lives that ended by themselves, or not well when told to; None: it did not end."""

    def start(self) -> None:
        self._process = FORKS.Process(target=main, args=(self._environment, self._log), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """End it by SIGKILL, and wait until it is gone."""
        if (process := self._taken()) is None or process.pid is None:
            return
        self.kills += 1
        os.kill(process.pid, signal.SIGKILL)
        process.join(GONE_S)
        process.close()

    async def end(self) -> None:
        """End it by SIGTERM, as a host does, while the servers keep answering it."""
        if (process := self._taken()) is None or process.pid is None:
            return
        os.kill(process.pid, signal.SIGTERM)
        await asyncio.to_thread(process.join, GONE_S)
        if process.exitcode != 0:
            self.ended_badly.append(process.exitcode)
            process.kill()
            process.join(GONE_S)
        process.close()

    def _taken(self) -> ForkServerProcess | None:
        """Return and forget the process if it still runs; if it ended by itself, record that and return None."""
        process, self._process = self._process, None
        if process is not None and process.exitcode is not None:
            self.ended_badly.append(process.exitcode)
            process.close()
            return None
        return process

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""
