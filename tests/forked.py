"""Runs the bot's commands in processes that begin with its modules loaded: loading them takes longer than most tests."""

import asyncio
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from bot.simulator.process import App, environment

LOADED = multiprocessing.get_context("forkserver")
LOADED.set_forkserver_preload(["bot.__main__", "bot.ops.doctor", "bot.ops.dead_letters", "tests.forked"])


class _Process:
    """What `App` needs of a process."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.terminate = process.terminate
        self.kill = process.kill

    @property
    def pid(self) -> int:
        assert self._process.pid is not None, "it was never started"
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    async def wait(self) -> int:
        await asyncio.to_thread(self._process.join)
        code = self._process.exitcode
        assert code is not None
        return code


@asynccontextmanager
async def forked(folder: Path, settings: Mapping[str, str], *arguments: str) -> AsyncIterator[App]:
    """Run a command of the bot until the end of the block, as `app_in` does.

    arguments: those of `python -m bot`; `run` without any.
    """
    log = folder / "app.log"
    log.touch()
    process = LOADED.Process(target=_command, args=(folder, environment(settings), arguments or ("run",), log))
    process.start()
    app = App(_Process(process), log)
    try:
        yield app
    finally:
        await app.end()


def _command(folder: Path, variables: Mapping[str, str], arguments: tuple[str, ...], log: Path) -> None:
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["openhands-slack", *arguments]
    from bot.__main__ import cli

    cli()
