"""Where the demo's input lines come from if there is no terminal for a prompt."""

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
    """What was typed but not read yet.

    ended: no more input will come. left: the person also wants to end the demo.
    """

    waiting: deque[str] = field(default_factory=deque)
    ended: bool = False
    left: bool = False

    def leave(self) -> None:
        self.ended = self.left = True


Keyboard = Callable[[Callable[[], str]], AbstractAsyncContextManager[Lines]]
"""Reads lines until the end of the block. Its argument returns the prompt's text."""


@contextmanager
def ctrl_c(lines: Lines) -> Iterator[None]:
    """Treat Ctrl-C as leaving."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lines.leave)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@asynccontextmanager
async def nobody(_says: Callable[[], str]) -> AsyncIterator[Lines]:
    """Yield no lines: a keyboard that nobody uses."""
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

    # A thread, since an event loop can't wait for every kind of input; a daemon, since the input may never end.
    threading.Thread(target=read_all, daemon=True).start()
    with ctrl_c(lines):
        yield lines
