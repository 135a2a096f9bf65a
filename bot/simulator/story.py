"""The demo's story, which plays by itself, and then the person's turn.

The app runs in its own process and knows the two servers only from its settings.
"""

import asyncio
import signal
from base64 import b64decode
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Literal, assert_never

from rich.console import Console

from bot.simulator.demo import INTERRUPTED
from bot.simulator.keyboard import Keyboard, Lines, nobody
from bot.simulator.openhands import Conversation, LocalOpenHands
from bot.simulator.process import App, app_in
from bot.simulator.screen import Screen
from bot.simulator.scripted import STEPS, Scripted
from bot.simulator.slack import LocalSlack
from bot.simulator.slack.records import Message
from bot.simulator.stage import CLOSED, KEY, Scene, Stage, settings
from bot.simulator.typed import Choose, End, HowTo, Mistyped, Press, Reply, Slash, Typed, Write, read

ASKED = "fix README in org/repo"
FOLLOW_UP = "and please name the licence in it"
SHOT = "screenshot.png"
PICTURE = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")
"""A PNG of one pixel."""
STEP_S = 1.5  # in the story; a card is edited at most every 3 s
SLOW_STEP_S = 3.0  # in later runs, so that there is time to press Stop
START_S = 0.5
LOOK_S = 0.05
PATIENCE_S = 60.0  # per part of the story; far more than it takes, for slow machines

HOW_TO = f"""\
You are alice. The prompt names the run in whose thread you write. Try:
  and check the links too — a reply, which the agent gets
  /openhands add tests in org/other — a new run
  @OpenHands add tests in org/other — the same by a mention
  /openhands fix README in {CLOSED} — a repository that OpenHands cannot open
  /openhands deploy it in org/repo — an agent that asks for approval
  /click stop — press that button on the newest card that has it
  /click retry 2 — press that of run 2
  /run 1 — write in the thread of run 1
  #dev: lunch? — write in a channel, #dev or #team
  dm: fix README in org/other — write to the bot alone
  quit — end the demo; exit and Ctrl-D do too. /help shows this again."""

Work = Callable[[LocalOpenHands, Conversation, str], Awaitable[None]]
"""What the agent does with a message."""


async def play(
    console: Console, work: Work | None = None, *, keyboard: Keyboard = nobody, api: Literal["v1", "agent"] = "v1"
) -> int:
    """Play the demo and return its exit code: 0 only if everything happened. work: replaces the usual agent."""
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    if this is not None:
        loop.add_signal_handler(signal.SIGTERM, this.cancel)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # `demo` blocked it
    slack = LocalSlack()
    openhands = LocalOpenHands(key=KEY, api=api, start_seconds=START_S, closed=[CLOSED])
    agent = Scripted(STEP_S, waits_for_reply=True)
    openhands.agent = partial(work or agent, openhands)
    stage = Stage(slack, openhands, console)
    await slack.start()
    await openhands.start()
    try:
        with TemporaryDirectory(prefix="openhands-demo-") as made:
            folder = Path(made)
            async with app_in(folder, settings(folder, slack, openhands)) as app:
                stage.screen.say("Both run; the bot starts and connects to them.")
                async with keyboard(stage.prompts) as lines:
                    missing = await tell(stage, app, lines)
                    if not missing:
                        agent.step_s, agent.waits_for_reply = SLOW_STEP_S, False
                        await talk(stage, app, lines)
                    cut_short = stage.at_work
                if missing and lines.left:
                    return INTERRUPTED
                if (code := await app.end()) != 0:
                    missing.append(f"the app's good end: its exit code is {code}")
            return report(stage.screen, missing, app.log, cut_short=cut_short)
    finally:
        await openhands.stop()
        await slack.stop()
        loop.remove_signal_handler(signal.SIGTERM)


async def tell(stage: Stage, app: App, lines: Lines) -> list[str]:
    """Play the story; return what of it did not happen."""

    async def until(happened: Callable[[], bool]) -> bool:
        """Show what becomes visible until it has happened; return False if it never will."""
        deadline = monotonic() + PATIENCE_S
        while app.runs and not lines.left and monotonic() < deadline:
            stage.look()
            if happened():
                return True
            await asyncio.sleep(LOOK_S)
        return False

    if not await until(lambda: stage.slack.sockets > 0):
        return ["the app's connection to Slack"]
    stage.scene = Scene.STORY
    await stage.asks(ASKED)
    if await until(lambda: works(stage) or failed(stage)) and not failed(stage):
        await stage.bob.says(FOLLOW_UP, thread=card_of(stage), files={SHOT: PICTURE})
        await until(lambda: not missing_in(stage))
    return missing_in(stage)


def card_of(stage: Stage) -> Message | None:
    """Return the card of the story's run; None before it is there."""
    run = stage.runs.number(1)
    return stage.runs.card(run) if run else None


def works(stage: Stage) -> bool:
    """Return whether the card shows that the agent works, and at which step."""
    card = card_of(stage)
    return card is not None and "Working" in card.text and any(step in card.text for step in STEPS)


def failed(stage: Stage) -> bool:
    card = card_of(stage)
    return card is not None and "Failed" in card.text.split("\n")[0]


def missing_in(stage: Stage) -> list[str]:
    """Return what of the story has not happened, and every violation."""
    card = card_of(stage)
    got = [text for c in stage.openhands.conversations.values() for text in c.messages]
    answers = [one.text for one in stage.posts(stage.dev) if card and one.thread_ts == card.ts]
    facts = {
        "one conversation on OpenHands": len(stage.openhands.conversations) == 1,
        "a card that says Done": card is not None and "Done" in card.text.split("\n")[0],
        "bob's reply with the agent, once": sum(FOLLOW_UP in text for text in got) == 1,
        "bob's screenshot with the agent": any(one.images for one in stage.openhands.conversations.values()),
        "the answer in the thread": any("/pull/7" in text and f"<@{stage.alice.id}>" in text for text in answers),
        "the line in #team": any("Done" in one.text for one in stage.posts(stage.team)),
    }
    broken = [*stage.slack.violations, *stage.openhands.violations]
    return [*(what for what, happened in facts.items() if not happened), *broken]


async def talk(stage: Stage, app: App, lines: Lines) -> None:
    """Do what the person types as alice, until the input ends."""
    if lines.waiting or not lines.ended:
        stage.scene = Scene.YOURS
        stage.screen.say(f"That was the story. Now it is your turn.\n{HOW_TO}")
    while app.runs and not lines.left:
        stage.look()
        typed = read(lines.waiting.popleft()) if lines.waiting else None
        if isinstance(typed, End) or (lines.ended and not lines.waiting and typed is None):
            return
        if typed is not None:
            await do(stage, typed)
        await asyncio.sleep(LOOK_S)


async def do(stage: Stage, typed: Typed) -> None:
    """Do what was typed, or print why that is not possible."""
    match typed:
        case Slash(text):
            await stage.asks(text)
        case Write(place, text) if place in stage.places.values():
            await stage.alice.says(text, in_=place)
        case Write(place):
            stage.screen.say(f"Nothing was sent: there is no {place}, only {', '.join(stage.places.values())}.")
        case Reply(text):
            await stage.replies(text)
        case Press(name, number) if name and (found := stage.find_button(name, number)):
            await stage.presses(*found)
        case Press(name):
            wanted = f"No card has a button “{name}” now." if name else "Which button?"
            stage.screen.say(f"{wanted} There are {stage.buttons()}.")
        case Choose(number) if (run := stage.runs.number(number)) is not None:
            stage.focus = run
        case Choose(number):
            stage.screen.say(f"There is no run {number}; the newest is run {len(stage.runs)}.")
        case Mistyped(hint):
            stage.screen.say(hint)
        case HowTo() | End():
            stage.screen.say(HOW_TO)
        case _:
            assert_never(typed)


def report(screen: Screen, missing: list[str], log: str, *, cut_short: bool) -> int:
    """Print how it went, and return the exit code. cut_short: the person left while an agent was at work."""
    if missing:
        screen.dump(f"The log of the bot:\n{log}")
        screen.dump("\n".join(["The demo failed. What is missing:", *missing]))
        return 1
    if cut_short:
        screen.say("The story worked. You left while an agent was still at work; it ended with the demo.")
    else:
        screen.say("It all worked: the card, the reply, the answer and the team's line.")
    screen.say("To run it with your own Slack and OpenHands: openhands-slack --help")
    return 0
