"""`python -m bot demo`: plays one run from command to end, then lets the person try whatever they want."""

import asyncio
import signal
import sys
from typing import Literal

INTERRUPTED = 130
TERMINATED = 143


def demo(api: Literal["v1", "agent"] = "v1") -> int:
    """Play the demo on this terminal, or in plain lines, and return the exit code. api: what OpenHands speaks."""
    # Block Ctrl-C until the event loop handles it: in the middle of an import or of the loop's own start it would
    # leave either half done, and a traceback on the screen. `story.play` unblocks it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server = "a local Agent Server" if api == "agent" else "a local OpenHands"
        say(f"Starting: a local Slack, {server}, and the bot.")
        code = _play(api)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except asyncio.CancelledError:
        code = TERMINATED
    if code == INTERRUPTED:
        over_the_echo = "\r" if sys.stdout.isatty() else ""
        say(f"{over_the_echo}You left before the story was over. Nothing is left running.")
    return code


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _play(api: Literal["v1", "agent"]) -> int:
    # Imported here, once the first line is on the screen, because these imports take a while.
    from rich.console import Console  # noqa: PLC0415 - see above

    from bot.simulator import keyboard, story  # noqa: PLC0415 - see above

    console = Console(highlight=False)
    if not sys.stdin.isatty():
        return asyncio.run(story.play(console, keyboard=keyboard.plain, api=api))
    if not console.is_terminal:
        return asyncio.run(story.play(console, keyboard=keyboard.nobody, api=api))

    from bot.simulator.prompt import prompt  # noqa: PLC0415 - see above

    return asyncio.run(story.play(console, keyboard=prompt, api=api))
