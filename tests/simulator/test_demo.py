"""The demo: the real command plays the story, what is typed does what it says, and what goes wrong is told."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import StringIO
from select import select
from time import monotonic

import pytest
from rich.console import Console

from bot.simulator import story
from bot.simulator.feed import Entry, Feed, What, readable
from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.runs import Runs
from bot.simulator.screen import Screen
from bot.simulator.scripted import STEPS, Job, answer
from bot.simulator.typed import Choose, End, HowTo, Mistyped, Press, Reply, Slash, Typed, Write, read
from tests.simulator.slack_wire import bench

PLAYED = """
import asyncio
from rich.console import Console
from bot.simulator import demo, story
from bot.simulator.{module} import {keyboard}
from tests.simulator.test_demo import quick
demo._play = lambda _api: asyncio.run(story.play(Console(highlight=False), quick, keyboard={keyboard}))
raise SystemExit(demo.demo())
"""
THEIRS = "/help shows this again."
"""The last words before it is the person's turn."""
WORKED = "It all worked: the card, the reply, the answer and the team's line.\n"
PATIENCE_S = 60  # far more than anything takes, for slow machines
LEFT = "You left before the story was over. Nothing is left running."


async def quick(openhands: LocalOpenHands, c: Conversation, text: str) -> None:
    """Be an agent that is done at once, but with the story's task and with long ones; these it only begins."""
    openhands.progress(c, STEPS[0])
    if not (story.ASKED.startswith(text) or text.startswith("long")):
        openhands.finish(c, "Done: https://github.com/org/repo/pull/7")


async def fails(openhands: LocalOpenHands, c: Conversation, _text: str) -> None:
    """Be an agent whose model refuses its key."""
    openhands.fail(c)


class Played:
    """A demo in a process of its own: what it shows is read up to the words that are waited for."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, out: int) -> None:
        self.process = process
        self._unread = b""
        self._to = to
        self._out = out

    def types(self, text: str, *, until: str) -> str:
        """Type, and give what is shown from then on up to these words."""
        os.write(self._to, text.encode())
        return self.shows(until)

    def shows(self, wanted: str) -> str:
        """Return what is shown up to these words, or all there was if it ends before. Too long a wait fails."""
        deadline = monotonic() + PATIENCE_S
        while wanted not in plain(self._unread):
            readable, _, _ = select([self._out], [], [], max(0, deadline - monotonic()))
            assert readable, f"not shown: {wanted!r}, but\n{plain(self._unread)}"
            try:
                got = os.read(self._out, 65_536)
            except OSError:  # Linux says so when the other side of a terminal is gone
                break
            if not got:
                break
            self._unread += got
        before, found, after = plain(self._unread).partition(wanted)
        self._unread = after.encode()
        return before + found


def plain(shown: bytes) -> str:
    """Give what was written without colours and movements of the cursor."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown.decode(errors="replace")).replace("\r\n", "\n")


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Wait for its end; one that goes on by mistake is told to end."""
    try:
        yield
        process.wait(PATIENCE_S)
    finally:
        process.terminate()


@contextmanager
def piped() -> Iterator[Played]:
    """Play with quick agents, and read plain lines."""
    code = PLAYED.format(module="keyboard", keyboard="plain")
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with ended(process):
            yield Played(process, process.stdin.fileno(), process.stdout.fileno())


@contextmanager
def on_a_terminal() -> Iterator[Played]:
    """Play with quick agents on a terminal, with a prompt."""
    ours, theirs = pty.openpty()
    code = PLAYED.format(module="prompt", keyboard="prompt")
    environment = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        with ended(process):
            yield Played(process, ours, ours)
    os.close(ours)


def in_order(text: str, *parts: str) -> bool:
    """Tell whether the parts come one after the other."""
    rest = text
    for part in parts:
        _, found, rest = rest.partition(part)
        if not found:
            return False
    return True


@pytest.mark.parametrize("options", [[], ["--api", "agent"]])
def test_the_command_plays_the_whole_story(options: list[str]) -> None:
    """Request, card, progress, a reply the agent takes in, the answer, the team's line: all of it, then exit code 0."""
    played = subprocess.run(
        [sys.executable, "-m", "bot", "demo", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (played.returncode, played.stderr) == (0, ""), played.stdout
    assert in_order(
        played.stdout,
        "#dev alice: /openhands fix README in org/repo\n",
        "#dev OpenHands (only alice sees this): ",
        "╭─ run 1 · #dev · ⏳ Starting\n",
        "│ Asked by @alice",
        "│ [Stop]\n",
        "╭─ run 1 · #dev · 🛠️ Working\n",
        "│ [Open in OpenHands] [Stop]\n",
        "#dev run 1 ↳ bob: and please name the licence in it [screenshot.png]\n",
        "#dev run 1 ↳ OpenHands reacts: 👀 on “and please name the licence in it”\n",
    ), played.stdout
    assert in_order(
        played.stdout,
        "#dev run 1 ↳ OpenHands: @alice @bob ✅ Done\n",
        "Done: fix README. The tests pass.\n",
        "• and please name the licence in it\n",
        "https://github.com/org/repo/pull/7\n",
    ), played.stdout
    assert "#team OpenHands: ✅ Done: fix README" in played.stdout
    assert "╭─ run 1 · #dev · ✅ Done\n" in played.stdout
    assert played.stdout.endswith(f"{WORKED}To run it with your own Slack and OpenHands: openhands-slack --help\n"), (
        played.stdout
    )


async def test_a_run_that_fails_is_no_success() -> None:
    """What is missing is named, after the bot's own log, and the exit code is 1."""
    out = StringIO()

    code = await story.play(Console(file=out), fails)

    assert code == 1
    assert in_order(
        out.getvalue(),
        "The language model rejects its key",
        "The log of the bot:",
        "slack.connected",
        "What is missing:\na card that says Done\nbob's reply with the agent, once\nbob's screenshot with the agent\nthe answer in the thread\n",
    ), out.getvalue()
    assert WORKED not in out.getvalue()


def test_what_is_typed_goes_where_it_is_meant_to() -> None:
    """A reply, a mention, other places, a repository that is refused; what looks like a command is never a message."""
    with piped() as played:
        told = played.shows(THEIRS)
        replied = played.types("thank bob\n", until="run 1 ↳ OpenHands reacts: 👀 on “thank bob”")
        unsent = played.types("/quit now\n/openhnds fix it\n#nowhere: hi\n", until="no #nowhere")
        refused = played.types("/openhands fix it in org/missing\n", until="[Retry]")
        asked = played.types("@OpenHands fix it in org/other\n", until="╭─ run 3 · #dev ↳ · ✅ Done")
        alone = played.types("dm: fix it in org/third\n", until="╭─ run 4 · dm ↳ · ✅ Done")
        other = played.types("#team: lunch?\n/run 1\nand thank bob again\n", until="👀 on “and thank bob again”")
        ended = played.types("quit\n", until="--help")

    assert "/openhands fix README in org/missing" in told
    assert "#dev run 1 ↳ alice: thank bob\n" in replied
    assert in_order(unsent, "/quit ends the demo only where it stands alone", "Did you mean /openhands?"), unsent
    assert in_order(refused, "❔ Which repository?\n", "OpenHands can't open `org/missing`"), refused
    assert in_order(asked, "#dev alice: @OpenHands fix it in org/other\n", "╭─ run 3 · #dev ↳ · "), asked
    assert "dm alice: fix it in org/third\n" in alone
    assert in_order(other, "#team alice: lunch?\n", "#dev run 1 ↳ alice: and thank bob again\n"), other
    everything = told + replied + unsent + refused + asked + alone + other + ended
    assert "alice: /quit" not in everything
    assert "alice: /openhnds" not in everything
    assert WORKED in ended
    assert played.process.returncode == 0


def test_buttons_are_pressed_by_their_names() -> None:
    """Without a number it is the newest card that has the button. Who leaves while an agent works is told so."""
    with piped() as played:
        played.shows(THEIRS)
        for number in (2, 3):
            played.types(f"/openhands long task in org/r{number}\n", until=f"run {number} · #dev · 🛠️ Working")
        wrong = played.types("/click approve\n", until="of run 1.")
        newest = played.types("/click stop\n", until="took ")
        named = played.types("/click [Retry] 3\n", until="╭─ run 3 · #dev · 🛠️ Working")
        older = played.types("/click Stop 2\n", until="took ")
        opened = played.types("/click open 1\n", until="has no pages")
        ended = played.types("exit\n", until="--help")

    assert "No card has a button “approve” now. There are [Open in OpenHands] [Stop] of run 3" in wrong, wrong
    assert in_order(newest, "#dev alice presses: [Stop] of run 3\n", "Stopped by @alice"), newest
    assert "#dev alice presses: [Retry] of run 3\n" in named
    assert "#dev alice presses: [Stop] of run 2\n" in older
    assert "In Slack that opens http://127.0.0.1:" in opened
    assert "You left while an agent was still at work" in ended
    assert WORKED not in ended
    assert played.process.returncode == 0


def test_a_terminal_has_a_prompt_that_nothing_tears() -> None:
    """What is typed before its turn waits in the prompt, can be edited there, and is shown once, as the message."""
    with on_a_terminal() as played:
        starting = played.shows("the bot starts, ")
        shown = played.types("thank ob", until=THEIRS)
        talked = played.types("\x1b[D\x1b[Db\r", until="👀 on “thank bob”")
        ended = played.types("\x04", until="--help")

    assert starting.startswith("Starting: a local Slack, a local OpenHands, and the bot.")
    assert in_order(shown, "╭─", "✅ Done"), shown
    assert in_order(talked, "alice, run 1 ›", "alice", ": thank bob", "👀"), talked
    assert "^[[D" not in shown + talked
    assert WORKED in ended
    assert played.process.returncode == 0


@pytest.mark.parametrize("key", ["\x03", "quit\r"])
def test_leaving_during_the_story_is_one_sentence(key: str) -> None:
    """Ctrl-C and quit end it there: no traceback, no log, no success."""
    with on_a_terminal() as played:
        played.shows("╭─ run 1")
        ended = played.types(key, until="is left running.\n")

    assert LEFT in ended
    assert "Traceback" not in ended
    assert WORKED not in ended
    assert played.process.returncode == 130


def test_an_interrupt_before_there_is_a_prompt_is_one_sentence() -> None:
    """Who changes his mind in the first second gets no traceback either."""
    with piped() as played:
        started = played.shows("Starting: ")
        played.process.send_signal(signal.SIGINT)
        ended = started + played.shows("is left running.\n")

    assert LEFT in ended
    assert "Traceback" not in ended
    assert played.process.returncode == 130


def test_an_interrupt_while_the_event_loop_starts_is_one_sentence() -> None:
    """It waits until the loop can handle it, so that neither a half-made loop nor an unused coroutine complains."""
    code = """
import asyncio, signal
class Interrupted(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        signal.raise_signal(signal.SIGINT)
        return super().new_event_loop()
asyncio.set_event_loop_policy(Interrupted())
from bot.simulator.demo import demo
raise SystemExit(demo())
"""
    played = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert played.stderr == ""
    assert played.stdout.endswith(f"{LEFT}\n")
    assert played.returncode == 130


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_no_word_breaks_in_the_middle(columns: int) -> None:
    """Every line fits, and the words are those that were said."""
    out = StringIO()
    screen = Screen(Console(file=out, width=columns, force_terminal=True, color_system=None))
    text = "Done\n" + "A sentence of the bot with some words, and a link: https://github.com/org/repo/pull/7. " * 3
    at = datetime(2026, 3, 2, 9, 5, tzinfo=UTC)

    screen.show(Entry(at, "#dev", "OpenHands", What.SAYS, text, text, in_thread=True, run=1))
    screen.show(
        Entry(
            at, "#dev", "OpenHands", What.SAYS, text, text, run=1, is_card=True, redrawn=True, buttons=("Stop", "Open")
        )
    )
    screen.say(story.HOW_TO)

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    assert set(re.findall(r"\w+", text + story.HOW_TO)) <= set(re.findall(r"\w+", out.getvalue()))
    assert "         │ [Stop] [Open]" in lines


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("", None),
        ("  ", None),
        ("fix the links too", Reply("fix the links too")),
        ("quit the app when it fails", Reply("quit the app when it fails")),
        ("the fix: use dm", Reply("the fix: use dm")),
        ("Quit", End()),
        ("exit", End()),
        ("/quit", End()),
        ("/help", HowTo()),
        ("/openhands fix README in org/repo", Slash("fix README in org/repo")),
        ("/openhands", Slash("")),
        ("@OpenHands fix it in org/other", Write("#dev", "@OpenHands fix it in org/other")),
        ("#team: lunch?", Write("#team", "lunch?")),
        ("DM: fix it", Write("dm", "fix it")),
        ("/click stop", Press("stop", None)),
        ("/click Send again 2", Press("Send again", 2)),
        ("/click [Stop] run 2", Press("Stop", 2)),
        ("/click", Press("", None)),
        ("/run 2", Choose(2)),
        ("/run", Mistyped("Which run? Type its number: /run 1")),
        ("#team:", Mistyped("What is to be written in #team?")),
        ("/quit now", Mistyped("Nothing was sent. /quit ends the demo only where it stands alone.")),
        ("/openhnds x", Mistyped("Nothing was sent: there is no command /openhnds. Did you mean /openhands?")),
        ("/xyz", Mistyped("Nothing was sent: there is no command /xyz. /help shows what there is.")),
    ],
)
def test_lines_are_read(line: str, typed: Typed | None) -> None:
    assert read(line) == typed


def test_the_agent_answers_in_sensible_words() -> None:
    """What comes with a task, such as the talk before it, is not told back."""
    assert answer(Job("write the changelog", []), "", rejected=False) == "Done: write the changelog. The tests pass."
    assert answer(Job("fix it", [], answered=1, added=["again, please"]), "https://a.example", rejected=False) == (
        "Done too: again, please.\n\nThe pull request: https://a.example"
    )
    assert "did not deploy" in answer(Job("deploy it", [], asked_at=3), "", rejected=True)


def test_wire_text_is_shown_as_people_see_it() -> None:
    """Ids become names, dates become local times, links what they are called, escapes and marks go."""
    at = datetime(2026, 3, 2, 9, 5, tzinfo=UTC)
    wire = (
        f"*Done* &amp; dusted\n_by_ <@U1> in <#C1|dev> at <!date^{int(at.timestamp())}^{{time}}|09:05 UTC> "
        "<https://a.example/1|one> <https://a.example/2> <!here> <@U2>"
    )

    assert readable(wire, {"U1": "alice"}) == (
        f"Done & dusted\nby @alice in #dev at {at.astimezone():%H:%M} one https://a.example/2 @here @U2"
    )


async def test_a_reaction_that_is_there_at_the_first_look_is_shown() -> None:
    """A quick bot has reacted to a message before the screen looks at it."""
    async with bench() as at:
        ts = await at.slack.say(at.alice, at.dev, "thank you")
        await at.api("reactions.add", channel=at.dev, timestamp=ts, name="white_check_mark")
        people = {at.alice: "alice", at.slack.bot_user_id: "OpenHands"}
        entries = Feed(at.slack, Runs(at.slack), people, {at.dev: "#dev"}).news()

    assert [(one.who, one.what, one.text) for one in entries] == [
        ("alice", What.SAYS, "thank you"),
        ("OpenHands", What.REACTS, "✅ on “thank you”"),
    ]
