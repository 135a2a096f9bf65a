"""Runs an app against the local servers, in its own process, which knows them only from its settings."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

END_S = 20.0  # the bot itself ends within 10 s
ROOT = Path(__file__).parents[2]
THE_BOT = ("-m", "bot", "run")
KEPT = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")
"""Environment variables passed on to the app; a person's own settings and proxies must not reach it."""


class Process(Protocol):
    """What is needed of `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    async def wait(self) -> int: ...


class App:
    """A running app and the output of its standard streams."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def end(self) -> int:
        """Terminate the app, as a host does, kill it if it does not end, and return its exit code."""
        if self.runs:
            self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), END_S)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables an app with these settings begins with."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), **settings}


@asynccontextmanager
async def app_in(folder: Path, settings: Mapping[str, str], *, python: Sequence[str] = THE_BOT) -> AsyncIterator[App]:
    """Run an app until the end of the block, in this folder, so that it reads no `.env` of the person.

    settings: its environment. python: the arguments of the interpreter.
    """
    log = folder / "app.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *python,
            cwd=folder,
            env=environment(settings),
            stdout=out,
            stderr=out,
        )
    app = App(process, log)
    try:
        yield app
    finally:
        await app.end()
