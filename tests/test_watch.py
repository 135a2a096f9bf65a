"""A story that leaves something nobody looked at fails and names it."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from slack_sdk.web.async_client import AsyncWebClient

from bot.simulator.slack.records import Command
from tests.conftest import Story
from tests.stories.shared import ON_IT, working
from tests.watch import tasks_left

ROOT = Path(__file__).parent.parent
FORGETFUL = """
import asyncio
import logging

from tests.conftest import Story

async def test_forgets(world: Story) -> None:
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    logging.getLogger("somebody").warning("odd")
    task = asyncio.create_task(asyncio.Event().wait())
    assert task

async def test_remembers(world: Story) -> None:
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    assert world.card().state == "Working"

async def test_fails(world: Story) -> None:
    await world.alice.says("@OpenHands fix README in org/repo")
    raise RuntimeError("for another reason")
"""


def named(world: Story) -> list[str]:
    return [one.short for one in world.finish()]


async def asked(world: Story) -> Command:
    command = await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    return command


async def test_a_message_is_named_until_it_is_looked_at(world: Story) -> None:
    """The current version of a card counts: a story that saw it start has not seen it work."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    assert world.card().state == "Starting"
    await world.passes(4)
    assert named(world) == ["#dev: card 🛠️ Working"]
    assert world.card().state == "Working"
    assert named(world) == []


async def test_news_is_named_and_the_teams_line_goes_with_it(world: Story) -> None:
    """The team's line follows from one message in a thread; a line that follows from nothing is named."""
    await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    assert named(world) == ["#dev: card ✅ Done", "#dev: ✅ Done"]
    assert (world.card().state, len(world.news())) == ("Done", 1)
    assert named(world) == []

    again = world.posts("#news")[0].text
    client = AsyncWebClient(world.slack.bot_token, world.slack.api_url)
    await client.chat_postMessage(channel=world.place("#news"), text=again, link_names=False, parse="none")
    assert named(world) == ["#news: ✅ Done"]
    world.leaves("#news: ✅ Done")


async def test_what_one_person_is_shown_is_named(world: Story) -> None:
    """The receipt of a command is not named, since it is always the same."""
    command = await world.alice.commands("list", in_="#dev")
    assert command.ack_text is None
    assert named(world) == ["alice alone: There are no runs here yet"]
    assert world.alice.sees() != []
    assert (await asked(world)).ack_text == ON_IT
    assert named(world) == ["#dev: card 🛠️ Working"]
    world.leaves("#dev: card 🛠️ Working")


async def test_reactions_are_named_unless_they_say_that_all_went_well(world: Story) -> None:
    """👀 on an accepted message or one that reached the agent needs no look; ❌ does."""
    request = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    reply = await world.bob.says("and the docs", thread=request)
    await world.passes(4)
    assert named(world) == ["#dev: card 🛠️ Working"]

    world.openhands.vanish(world.conversation)
    late = await world.bob.says("and the tests", thread=request)
    await world.passes(330)
    assert [one for one in named(world) if "on a message" in one] == [
        "#dev: eyes, x on a message",
        "#dev: x on a message",
    ]
    assert [world.reactions(one) for one in (request, reply, late)] == [
        ["eyes", "x"],
        ["eyes"],
        ["x"],
    ]
    assert (world.card().state, len(world.news())) == ("Lost", 2)


@pytest.mark.parametrize(
    ("table", "statement", "short"),
    [
        (
            "outbox",
            (
                "INSERT INTO outbox (id, kind, lane, rank, created_at, next_at) "
                "VALUES ('i', 'reply', 'l', 0, '2026-03-02', '2099-01-01')"
            ),
            "outbox: reply",
        ),
        (
            "inbox",
            (
                "INSERT INTO inbox (key, lane, position, received_at, next_at) "
                "VALUES ('k', 'l', '', '2026-03-02', '2099-01-01')"
            ),
            "inbox: request",
        ),
    ],
)
async def test_rows_that_are_still_owed_are_named(world: Story, table: str, statement: str, short: str) -> None:
    """A closed row is not named."""
    await world.stops()
    with closing(sqlite3.connect(world.database)) as file, file:
        file.execute(statement)
    assert named(world) == [short]
    with closing(sqlite3.connect(world.database)) as file, file:
        file.execute(f"UPDATE {table} SET done_at = next_at")
    assert named(world) == []


async def test_log_lines_are_named_until_they_are_claimed(world: Story) -> None:
    """Only lines at warning or above are named."""
    structlog.get_logger("bot").info("fine")
    structlog.get_logger("bot").warning("odd", code=7)
    assert named(world) == ["log: odd"]
    [line] = world.logged("odd")
    assert line["code"] == 7
    assert named(world) == []
    with pytest.raises(AssertionError, match="odd was not logged"):
        world.logged("odd")


async def test_tasks_are_named_until_they_end() -> None:
    """Each task that still runs is named."""
    before = await tasks_left()
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    [one] = [one for one in await tasks_left() if one not in before]
    assert (one.short, "forgotten" in one.whole) == ("task", True)
    task.cancel()
    assert [one for one in await tasks_left() if "forgotten" in one.whole] == []


async def test_what_a_story_says_it_leaves_must_be_there(world: Story) -> None:
    """Declaring something that is not there is as wrong as not declaring something that is."""
    await working(world)
    world.leaves("#dev: card ✅ Done")
    with pytest.raises(AssertionError, match="not there"):
        world.finish()
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    world.leaves("#dev: ✅ Done")
    assert named(world) == []


def test_such_a_story_fails_and_one_that_failed_already_is_not_blamed_twice(tmp_path: Path) -> None:
    """Pytest reports each forgotten thing by name."""
    file = tmp_path / "test_forgetful.py"
    file.write_text(FORGETFUL)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-o", "asyncio_mode=auto"]
    ran = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(file)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 2 passed, 1 error" in ran.stdout.splitlines()[-1], ran.stdout
    for short in ("task", "#dev: card 🛠️ Working", "log: somebody: odd"):
        assert ["E", *short.split()] in [line.split() for line in ran.stdout.splitlines()], ran.stdout
