"""`python -m bot dead`: what could never be posted is seen, and is posted or dropped when an operator says so."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bot.__main__ import cli
from bot.ops.dead_letters import Unknown, dropped, listed, retried
from bot.store.database import open_database
from tests.conftest import Make, Story
from tests.stories.shared import direct, working


async def team_missed_the_end(world: Story) -> int:
    """Let the line for the team die: the channel is archived just then. Give its number."""
    await working(world)
    world.slack.fail("chat.postMessage", error="is_archived", channel=world.place("#news"))
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    assert world.news("#news") == []
    with closing(sqlite3.connect(world.database)) as file:
        [(number,)] = file.execute("SELECT seq FROM outbox WHERE failed_at IS NOT NULL")
    return int(number)


# --- beside the running bot -------------------------------------------------------------------------------------


async def test_where_nothing_is_dead_that_is_said(world: Story) -> None:
    """What is done, or still owed, is none."""
    await working(world)
    assert await listed(world.settings().database_url) == "Nothing is dead."


async def test_a_dead_row_is_listed_with_its_thread_and_what_it_is_about(world: Story) -> None:
    """Number, kind, run, when, why, where to look and the task; what it would have said is nobody's business."""
    number = await team_missed_the_end(world)
    [card] = world.cards()
    heading, row, empty, where, advice = (await listed(world.settings().database_url)).splitlines()
    assert heading.split() == ["id", "kind", "run", "failed", "(UTC)", "why", "thread", "about"]
    assert row.split()[:2] == [str(number), "notify"]
    assert row.endswith(
        f"2026-03-02 09:00  is_archived  /archives/{card.channel}/p{card.ts.replace('.', '')}  fix README"
    )
    assert (empty, advice) == ("", "`retry` posts these again: direct, message, notify, reply.")
    assert where.startswith("A thread's address is that of your workspace")
    world.leaves("#dev: ✅ Done")
    world.logged("slack.refused")


async def test_the_task_of_a_private_place_is_not_listed(world: Story) -> None:
    """It may be none of the operator's business; the place is named."""
    place = world.channel("#secret", world.alice, private=True)
    world.slack.fail("reactions.add", error="no_permission")
    await world.alice.says("@OpenHands fix README in org/repo", in_="#secret")
    await world.passes(4)
    thread = world.cards("#secret")[0].thread_ts
    assert thread is not None
    _, row, *_ = (await listed(world.settings().database_url)).splitlines()
    assert row.split()[-3:-1] == ["no_permission", f"/archives/{place}/p{thread.replace('.', '')}"]
    assert row.endswith("  -")
    world.logged("slack.refused")


async def test_a_mistyped_repository_is_not_dead(make_world: Make) -> None:
    """The person was told and can correct it: there is nothing for an operator to do."""
    world = await make_world(openhands={"repositories": ["org/other"]})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    assert world.card().state == "Which repository?"
    assert await listed(world.settings().database_url) == "Nothing is dead."


async def test_a_dead_row_is_posted_when_it_is_retried(world: Story) -> None:
    """The running bot finds it by itself when it looks around next, and posts it once."""
    number = await team_missed_the_end(world)
    url = world.settings().database_url
    said = await retried(url, [number], world.clock.now())
    await world.passes(world.patience.look_around_s)
    assert said == "Owed again: 1. A running bot posts them within seconds."
    assert len(world.news("#news")) == 1
    assert await listed(url) == "Nothing is dead."
    world.leaves("#dev: card ✅ Done", "#dev: ✅ Done")
    world.logged("slack.refused")


async def test_what_fails_again_is_told_once(world: Story) -> None:
    """The channel is still archived: the message dies again, and the requester got its words before."""
    await working(world)
    world.slack.archive(world.place("#dev"))
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    before = direct(world)
    url = world.settings().database_url
    await retried(url, None, world.clock.now())
    await world.passes(world.patience.look_around_s)
    assert "message" in [line.split()[1] for line in (await listed(url)).splitlines() if "is_archived" in line]
    assert len(before) == 2  # that the place is lost, and the words themselves
    assert direct(world) == before
    world.leaves("#news: ✅ Done")
    world.logged("place.lost")
    world.logged("slack.refused")


async def test_a_dead_row_that_is_dropped_is_gone(world: Story) -> None:
    """Nothing is posted of it any more."""
    await team_missed_the_end(world)
    url = world.settings().database_url
    assert await dropped(url, None) == "Dropped: 1."
    assert await listed(url) == "Nothing is dead."
    world.leaves("#dev: card ✅ Done", "#dev: ✅ Done")
    world.logged("slack.refused")


async def test_what_only_a_person_can_bring_back_is_said(world: Story) -> None:
    """A reaction that was refused is listed, and not tried again; so are starts, messages to the agent and stops."""
    world.slack.fail("reactions.add", error="no_permission")
    await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    said = await retried(world.settings().database_url, None, world.clock.now())
    assert said.splitlines() == [
        "Owed again: 0. A running bot posts them within seconds.",
        "These were told to a person, who can go on in Slack (reply, or ask again): react.",
    ]
    world.leaves("#dev: card 🛠️ Working")
    world.logged("slack.refused")


async def test_an_unknown_number_changes_nothing(world: Story) -> None:
    """One wrong number of several, and none is touched."""
    number = await team_missed_the_end(world)
    url = world.settings().database_url
    with pytest.raises(Unknown, match=r"^4711$"):
        await dropped(url, [number, 4711])
    assert await dropped(url, [number]) == "Dropped: 1."
    world.leaves("#dev: card ✅ Done", "#dev: ✅ Done")
    world.logged("slack.refused")


# --- the command line -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be in a folder where nothing ran yet, with settings that can be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("SLACK_APP_TOKEN", "xapp-1")
    return tmp_path


def typed(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["dead", *words])
    return result.exit_code, result.output


@pytest.mark.parametrize("words", [(), ("retry", "1"), ("drop", "--all")], ids=["list", "retry", "drop"])
def test_without_a_database_the_command_says_so(folder: Path, words: Sequence[str]) -> None:
    """Most likely it runs in another folder than the bot, so no empty file is left behind."""
    assert typed(*words) == (
        2,
        (
            f"There is no database at {folder}/openhands.db: the bot makes it at its first start. "
            "Else correct DATABASE_URL.\n"
        ),
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("words", [("retry",), ("drop", "1", "--all")], ids=["neither", "both"])
def test_numbers_or_all_have_to_be_named(folder: Path, words: Sequence[str]) -> None:
    """What is meant is not guessed at."""
    assert typed(*words) == (2, "Name the ids of the list, or say --all.\n")
    assert list(folder.iterdir()) == []


def test_the_exit_code_tells_an_unknown_number(folder: Path) -> None:
    """A script that names it is told; a list that is empty is no mistake."""
    asyncio.run(opened_once(f"sqlite:///{folder}/openhands.db"))
    assert typed() == (0, "Nothing is dead.\n")
    assert typed("retry", "4711") == (2, "Not dead, or dropped already: 4711. Nothing was changed.\n")
    assert typed("retry", "--all") == (0, "Owed again: 0. A running bot posts them within seconds.\n")


async def opened_once(url: str) -> None:
    """Make the database, as a first start does."""
    await (await open_database(url)).close()


def test_a_file_that_is_no_database_is_said(folder: Path) -> None:
    """In the words of the driver, without a traceback."""
    (folder / "openhands.db").write_text("This is a shopping list. " * 100, encoding="utf-8")
    code, said = typed()
    assert code == 1
    assert said.startswith("The database can't be opened: ")


def test_settings_that_cannot_be_read_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at every other command."""
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    code, said = typed()
    assert code == 2
    assert said.startswith("SLACK_BOT_TOKEN is missing. How to get it: ")
    assert list(folder.iterdir()) == []
