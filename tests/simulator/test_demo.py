"""The demo: the story is played by the real command, and a story that goes wrong is told so."""

import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from io import StringIO

from rich.console import Console

from bot.simulator import demo
from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.screen import readable

ON_A_TERMINAL = """
import asyncio
from rich.console import Console
from bot.simulator import demo
from tests.simulator.test_demo import quick
raise SystemExit(asyncio.run(demo.play(Console(highlight=False, width=100), quick, talks=True)))
"""


async def quick(openhands: LocalOpenHands, c: Conversation, text: str) -> None:
    """Be an agent that is done as soon as it has heard a second message."""
    openhands.progress(c, demo.STEPS[0])
    if not demo.ASKED.startswith(text):
        openhands.finish(c, "Done: https://github.com/org/repo/pull/7")


async def fails(openhands: LocalOpenHands, c: Conversation, _text: str) -> None:
    """Be an agent whose model refuses its key."""
    openhands.fail(c)


def in_order(text: str, *parts: str) -> bool:
    """Tell whether the parts come one after the other."""
    rest = text
    for part in parts:
        _, found, rest = rest.partition(part)
        if not found:
            return False
    return True


def test_the_command_plays_the_whole_story() -> None:
    """Request, card, progress, a reply the agent takes in, the answer, the team's line: all of it, then exit code 0."""
    played = subprocess.run(
        [sys.executable, "-m", "bot", "demo"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )

    assert (played.returncode, played.stderr) == (0, ""), played.stdout
    assert in_order(
        played.stdout,
        "#dev alice: /openhands fix README in org/repo",
        "#dev OpenHands: ⏳ Starting",
        "Asked by @alice",
        "#dev OpenHands edits the card: 🛠️ Working",
        "Read README.md",
        "#dev ↳ bob: and please name the licence in it",
        "#dev ↳ OpenHands reacts: ✅ on “and please name the licence in it”",
        "Take in: and please name the licence in it",
    ), played.stdout
    assert in_order(
        played.stdout,
        "#dev ↳ OpenHands: @alice ✅ Done",
        "• and please name the licence in it",
        "https://github.com/org/repo/pull/7",
    ), played.stdout
    assert "#team OpenHands: ✅ Done: fix README" in played.stdout
    assert "#dev OpenHands edits the card: ✅ Done" in played.stdout
    assert played.stdout.splitlines()[-1].endswith("To go live: README.md, “Going live”.")


async def test_a_run_that_fails_is_no_success() -> None:
    """What is missing is named, after the bot's own log, and the exit code is 1."""
    out = StringIO()

    code = await demo.play(Console(file=out), fails, patience_s=6)

    assert code == 1
    assert in_order(
        out.getvalue(),
        "The language model refuses its key",
        "The log of the bot:",
        "slack.connected",
        "What is missing:\na card that says Done\nbob's reply with the agent, once\nthe answer in the thread\n",
    ), out.getvalue()


def test_on_a_terminal_the_person_goes_on() -> None:
    """The card is drawn in a frame; after the story a typed line is a reply in its thread, and `/quit` ends."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", ON_A_TERMINAL], stdin=theirs, stdout=theirs, stderr=theirs) as playing:
        os.close(theirs)
        shown = read_until(ours, "/quit.")
        os.write(ours, b"thank you\n")
        talked = read_until(ours, "✅ on “thank you”")
        os.write(ours, b"/quit\n")
        ended = read_until(ours, "Going live”.")
    os.close(ours)

    assert playing.returncode == 0, ended
    assert in_order(shown, "╭─ #dev · OpenHands · the card ─", "✅ Done", "Now you are alice."), shown
    assert "alice" in talked


def read_until(terminal: int, wanted: str) -> str:
    """Read what is shown on a terminal until these words come; what ends before that gives all there was."""
    shown = b""
    while wanted.encode() not in shown:
        try:
            shown += os.read(terminal, 65_536)
        except OSError:  # Linux says so when the other side is gone
            break
    return shown.decode(errors="replace")


def test_wire_text_is_shown_as_people_see_it() -> None:
    """Ids become names, dates become local times, links keep their address, escapes and marks go."""
    at = datetime(2026, 3, 2, 9, 5, tzinfo=UTC)
    wire = (
        f"*Done* &amp; dusted\n_by_ <@U1> in <#C1|dev> at <!date^{int(at.timestamp())}^{{time}}|09:05 UTC> "
        "<https://a.example/1|one> <https://a.example/2> <!here> <@U2>"
    )

    assert readable(wire, {"U1": "alice"}) == (
        f"Done & dusted\nby @alice in #dev at {at.astimezone():%H:%M} "
        "one (https://a.example/1) https://a.example/2 @here @U2"
    )
