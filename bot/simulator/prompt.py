"""The demo's prompt on a terminal. Its library is slow to import, so this is imported only for a terminal."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress

from prompt_toolkit import PromptSession
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.patch_stdout import patch_stdout

from bot.simulator.keyboard import Lines
from bot.simulator.typed import End, read

REDRAWN_S = 0.5  # how often the prompt's text is refreshed


class StaysRaw(Vt100Input):
    """Keeps every key for the prompt, even while something is printed above it.

    The library would let the terminal handle keys meanwhile, which echoes them and swallows Ctrl-D.
    """

    def cooked_mode(self) -> AbstractContextManager[None]:
        return nullcontext()


@asynccontextmanager
async def prompt(says: Callable[[], str]) -> AsyncIterator[Lines]:
    """Read lines on a terminal; output appears above the prompt.

    says: returns the prompt's text, called at each refresh. Quitting, Ctrl-D and Ctrl-C leave at once.
    """
    lines = Lines()
    session: PromptSession[str] = PromptSession(
        lambda: f"{says()} › ", input=StaysRaw(sys.stdin), erase_when_done=True, refresh_interval=REDRAWN_S
    )

    async def read_all() -> None:
        with suppress(EOFError, KeyboardInterrupt):
            while not isinstance(read(line := await session.prompt_async()), End):
                lines.waiting.append(line)
        lines.leave()

    reading = asyncio.create_task(read_all())
    try:
        with patch_stdout(raw=True):
            yield lines
    finally:
        if session.app.is_running:
            session.app.exit(exception=EOFError)
        await reading
