"""Words and actions that several stories share."""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.core import words
from bot.core.model import Reason, RunState, Start
from bot.simulator.slack.records import Message
from bot.simulator.world import Person
from tests.conftest import Make, Story
from tests.core.runs import a_run


def nine(seconds: int = 0) -> str:
    """Return how the bot writes 9:00, the beginning of a story, and so many seconds."""
    return f"<!date^{1772442000 + seconds}^{{date_short_pretty}} {{time}}|2 Mar 09:00 UTC>"


SINCE = f"since {nine()}"
ON_IT = words.receipt(Start("fix README"))
NOBODY = words.cannot_follow_up(a_run(RunState.LOST, reason=Reason.GONE))
ELSEWHERE = words.not_posted(a_run(task="fix README"))
ONLY_THERE = words.only_there()
APPROVE_OR_REJECT = words.approval(a_run(action="e1", detail="rm -rf build"))


def why(reason: Reason | None, state: RunState = RunState.FAILED, **given: Any) -> str:
    """Return what the bot says about a run in this state for this reason, and what to do next."""
    return words.explanation(a_run(state, reason=reason, **given))


def asked_by(world: Story) -> str:
    return f"Asked by <@{world.alice.id}> · `org/repo`"


def direct(world: Story) -> list[str]:
    """Return the bot's direct messages to alice."""
    return [one.text for one in world.posts(world.slack.dm(world.alice.id))]


def starts(world: Story) -> list[Any]:
    """Return the bodies of the starts that the bot sent to OpenHands."""
    return [call.body for call in world.openhands.calls if call.kind == "start"]


def reactions(world: Story, ts: str) -> list[str]:
    message = world.slack.message(world.place("#dev"), ts)
    assert message is not None
    return world._watch.saw_reactions(message)


def in_database(world: Story, column: str) -> object:
    """Read one column of the youngest run: what a person did has come to the database, and to nowhere else yet."""
    with closing(sqlite3.connect(world.database)) as file:
        [value] = file.execute(f"SELECT {column} FROM runs ORDER BY created_at DESC").fetchone()
    return value


def meanwhile(world: Story, phase: str, kind: str, act: Callable[[], Awaitable[None]]) -> None:
    """Let something happen before or after the first call of this kind, while it is on its way."""
    acts = [act]

    async def on_call(its_phase: str, its_kind: str) -> None:
        if (its_phase, its_kind) == (phase, kind) and acts:
            await acts.pop()()

    world.openhands.on_call = on_call


async def working(world: Story) -> Message:
    """Bring a run to work; return its card."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    return world.cards()[0]


def permalink(world: Story, card: Message) -> str:
    """Return the address of a card."""
    address = f"{world.slack.workspace_url}archives/{card.channel}/p{card.ts.replace('.', '')}"
    root = card.thread_ts
    return address if root in (None, card.ts) else f"{address}?thread_ts={root}&cid={card.channel}"


def labels(message: Message) -> list[str]:
    """Return the labels of a message's buttons, in order."""
    rows = [block["elements"] for block in message.blocks if block["type"] == "actions"]
    return [one["text"]["text"] for row in rows for one in row]


def said_by(person: Person, text: str, *, what: str = "") -> str:
    """Return a message of 9:00 as it goes along with a task."""
    marked = {"is": what} if what else {}
    return json.dumps(
        {"at": "2026-03-02 09:00 UTC", "by": person.id, "name": person.name, **marked, "said": text}, ensure_ascii=False
    )


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Block every write with another process's transaction until the end of the block."""
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def quick_to_doubt(make_world: Make) -> Story:
    """Return a world in which a person is asked about a doubtful message after one minute instead of ten."""
    world = await make_world(start=False)
    world.patience = replace(world.patience, unsure_person_s=60.0)
    await world.starts()
    return world
