"""Where the demo's lines come from where there is no terminal to show a prompt on."""

import asyncio
import os
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

STDIN = 0


@dataclass
class Lines:
    """What was typed and not read yet.

    ended: nothing more will come. left: the person does not want to see more either.
    """

    waiting: deque[str] = field(default_factory=deque)
    ended: bool = False
    left: bool = False

    def leave(self) -> None:
        self.ended = self.left = True


Keyboard = Callable[[Callable[[], str]], AbstractAsyncContextManager[Lines]]
"""Reads lines as long as the block lasts; it is given what a prompt says."""


@contextmanager
def ctrl_c(lines: Lines) -> Iterator[None]:
    """Take Ctrl-C for leaving."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lines.leave)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@asynccontextmanager
async def nobody(_says: Callable[[], str]) -> AsyncIterator[Lines]:
    """Be a keyboard that nobody sits at."""
    lines = Lines(ended=True)
    with ctrl_c(lines):
        yield lines


@asynccontextmanager
async def plain(_says: Callable[[], str]) -> AsyncIterator[Lines]:
    """Read standard input, whatever it is: a pipe, a file, or closed."""
    lines = Lines()

    def read_all() -> None:
        rest = b""
        with suppress(OSError):
            while got := os.read(STDIN, 65_536):
                *whole, rest = (rest + got).split(b"\n")
                lines.waiting.extend(line.decode(errors="replace") for line in whole)
        if rest:
            lines.waiting.append(rest.decode(errors="replace"))
        lines.ended = True

    # A thread, for not everything can be waited for in a loop; nobody waits for its end, for nothing may ever come.
    threading.Thread(target=read_all, daemon=True).start()
    with ctrl_c(lines):
        yield lines
