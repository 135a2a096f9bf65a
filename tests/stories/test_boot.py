"""`python -m bot run` begins: what is wrong is said at once, what is only out of reach is waited for."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bot.core.errors import SettingsWrong
from bot.core.model import Reason
from bot.core.pacing import Patience
from bot.simulator.process import App
from bot.slack.scopes import REINSTALL, SCOPES
from bot.store.database import known_versions
from tests.conftest import Make, Story, until
from tests.forked import forked
from tests.stories.shared import ON_IT, why

HASTY = Patience(ping_s=0.2, drain_s=5.0, retry_first_s=0.05)
"""Tries again quickly, in real time: there is no story yet whose clock could move."""


def environment(world: Story, **given: str) -> dict[str, str]:
    """Return what an operator would have set for these two servers."""
    return {
        "SLACK_BOT_TOKEN": world.slack.bot_token,
        "SLACK_APP_TOKEN": world.slack.app_token,
        "SLACK_API_URL": world.slack.api_url,
        "OPENHANDS_API_KEY": "key",
        "OPENHANDS_BASE_URL": world.openhands.base_url,
        "DATABASE_URL": f"sqlite:///{world.database}",
        **given,
    }


async def ended(app: App) -> int:
    """Wait until a process has ended by itself, and give its exit code."""
    await until(lambda: not app.runs)
    return await app.end()


@pytest.fixture
async def still(make_world: Make) -> Story:
    """Both servers, and no bot yet."""
    return await make_world(start=False)


# --- the process ends with 2, and one clear last line ------------------------------------------------------------


async def test_every_missing_setting_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    """Both tokens at once, rather than one error after the other."""
    async with forked(tmp_path, {}) as app:
        code = await ended(app)

    assert code == 2
    bot_token, app_token, where = app.log.splitlines()
    assert bot_token.startswith("SLACK_BOT_TOKEN is missing. How to get it: ")
    assert app_token.startswith("SLACK_APP_TOKEN is missing. How to get it: ")
    assert where == f"Put them in `.env` in {tmp_path}, or in the environment."


@pytest.mark.parametrize("command", ["run", "doctor"])
async def test_a_file_of_settings_in_another_encoding_is_one_sentence(tmp_path: Path, command: str) -> None:
    """Without a traceback, which would quote the file."""
    (tmp_path / ".env").write_text("SLACK_BOT_TOKEN=xoxb-1\n", encoding="utf-16")
    async with forked(tmp_path, {}, command) as app:
        code = await ended(app)

    assert (code, app.log) == (2, "`.env` is not UTF-8: save it as UTF-8.\n")


async def test_a_setting_that_nobody_reads_is_told_at_the_start(still: Story, tmp_path: Path) -> None:
    """It starts all the same; the operator sees that it does not do what was meant."""
    (tmp_path / ".env").write_text("NOTIFY_CHANEL=ops\n", encoding="utf-8")
    async with forked(tmp_path, environment(still)) as app:
        await until(lambda: still.slack.sockets == 1)
        assert await app.end() == 0

    [line] = [line for line in app.log.splitlines() if "settings.unknown" in line]
    assert "[warning" in line
    assert "did you mean NOTIFY_CHANNEL?" in line


@pytest.mark.parametrize(
    ("given", "last_line"),
    [
        (
            {"OPENHANDS_API_KEY": "a key"},
            "OPENHANDS_API_KEY is refused by OpenHands. How to get it: OpenHands > Settings > API Keys.",
        ),
        ({"SLACK_BOT_TOKEN": "xoxb-wrong"}, "SLACK_BOT_TOKEN is refused by Slack (invalid_auth). How to get it: "),
        ({"SLACK_APP_TOKEN": "xapp-wrong"}, "SLACK_APP_TOKEN is refused by Slack (invalid_auth). How to get it: "),
    ],
    ids=["key", "bot token", "app token"],
)
async def test_what_is_refused_ends_the_process(
    still: Story, tmp_path: Path, given: dict[str, str], last_line: str
) -> None:
    """Trying again would not help: no traceback, no loop, no secret on the screen."""
    async with forked(tmp_path, environment(still, **given)) as app:
        code = await ended(app)

    assert code == 2
    assert app.log.splitlines()[-1].startswith(last_line)
    assert "Traceback" not in app.log
    assert still.slack.bot_token not in app.log
    [secret] = given.values()
    assert secret not in app.log


async def test_an_app_token_of_another_workspace_ends_the_process(still: Story) -> None:
    """Only the operator can mend it, though Slack has a word of its own for it."""
    still.slack.fail("apps.connections.open", error="forbidden_team")
    with pytest.raises(SettingsWrong) as wrong:
        await still.starts()
    still._bot = None
    assert wrong.value.problems == (
        (
            "SLACK_APP_TOKEN is refused by Slack (forbidden_team). How to get it: Slack app settings > Basic Information > "
            "App-Level Tokens, scope connections:write (xapp-…)."
        ),
    )


async def test_a_token_with_which_nothing_works_ends_the_process(still: Story) -> None:
    """A scope does nothing until the app is installed again; the operator is told which and what to do."""
    still.slack.granted_scopes = SCOPES - {"chat:write", "im:write"}
    with pytest.raises(SettingsWrong) as wrong:
        await still.starts()
    still._bot = None
    assert wrong.value.problems == (f"SLACK_BOT_TOKEN lacks scopes (chat:write): {REINSTALL}.",)


async def test_variables_that_would_replace_the_token_are_refused(
    still: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both of them the library would quietly become an app for many workspaces."""
    monkeypatch.setenv("SLACK_CLIENT_ID", "1.2")
    monkeypatch.setenv("SLACK_CLIENT_SECRET", "made up")
    with pytest.raises(SettingsWrong) as wrong:
        await still.starts()
    still._bot = None
    assert wrong.value.problems == (
        "SLACK_CLIENT_ID and SLACK_CLIENT_SECRET must not be set: they would replace SLACK_BOT_TOKEN.",
    )


async def test_a_second_process_on_the_same_file_is_refused(world: Story, tmp_path: Path) -> None:
    """Two processes on one file would do everything twice; the first is not disturbed."""
    async with forked(tmp_path, environment(world)) as app:
        code = await ended(app)

    assert code == 2
    assert app.log.splitlines()[-1] == (
        f"Another process works on {world.database}: one bot per database. Stop it, or set another DATABASE_URL."
    )
    assert "Traceback" not in app.log
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    assert world.card().state == "Working"


async def test_a_database_that_is_none_ends_the_process_with_1(still: Story, tmp_path: Path) -> None:
    """Settings are right in form, the file is not: the last line says what SQLite said and where to look."""
    still.database.write_text("This is a shopping list, and by no means a database. " * 100)
    async with forked(tmp_path, environment(still)) as app:
        code = await ended(app)

    assert code == 1
    last = app.log.splitlines()[-1]
    assert last.startswith("The database can't be opened: ")
    assert last.endswith("Check DATABASE_URL, the folder's rights and the disk.")
    assert "Traceback" not in app.log


async def test_a_database_of_a_newer_version_ends_the_process_with_2(world: Story, tmp_path: Path) -> None:
    """Starting again changes nothing; the last line names both versions and the next step."""
    await world.stops()
    with closing(sqlite3.connect(world.database)) as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
        file.commit()
    async with forked(tmp_path, environment(world)) as app:
        code = await ended(app)

    assert code == 2
    assert app.log.splitlines()[-1] == (
        f"Not started: the database was made by a newer version of this bot (9999; this one knows {known_versions()[-1]}). "
        "Start that version, or restore a backup made before it."
    )
    assert "Traceback" not in app.log


def old_log_beside(file: Path) -> Path:
    """Leave a write-ahead log that is far older than the file."""
    log = Path(f"{file}-wal")
    log.write_bytes(b"the log of another file")
    os.utime(log, (0, 0))
    return log


async def test_a_copy_beside_an_old_log_ends_the_process_with_2(world: Story, tmp_path: Path) -> None:
    """The log would undo the restore; the last line says what to do, whichever was meant."""
    await world.stops()
    log = old_log_beside(world.database)
    async with forked(tmp_path, environment(world)) as app:
        code = await ended(app)

    assert code == 2
    last = app.log.splitlines()[-1]
    assert last.startswith(
        f"Not started: {world.database} was put there beside the write-ahead log (-wal) of another file"
    )
    assert f"delete {log} and {world.database}-shm, then try again." in last
    assert log.exists()


async def test_a_folder_that_is_not_there_ends_the_process_with_1(still: Story, tmp_path: Path) -> None:
    """So does a path nobody can write to."""
    given = {"DATABASE_URL": f"sqlite:///{tmp_path}/missing/openhands.db"}
    async with forked(tmp_path, environment(still, **given)) as app:
        code = await ended(app)

    assert code == 1
    assert app.log.splitlines()[-1].startswith("The database can't be opened: ")
    assert "Traceback" not in app.log


# --- outages are waited out --------------------------------------------------------------------------------------


async def test_an_outage_of_openhands_at_boot_is_waited_out(still: Story) -> None:
    """Requests are taken meanwhile, and start when it is there."""
    still.openhands.down = True
    await still.starts()
    asked = await still.alice.commands("fix README in org/repo", in_="#dev")
    assert asked.ack_text == ON_IT
    await still.passes(10)
    assert still.card().state == "Starting"

    still.openhands.down = False
    await still.passes(30)
    assert still.card().state == "Working"
    assert still.conversation.messages == ["fix README"]
    still.logged("openhands.unreachable")


async def test_a_key_that_turns_out_wrong_after_an_outage_is_told_to_the_requester(make_world: Make) -> None:
    """The probe at boot could not tell; who asks is told, and the process stays up."""
    world = await make_world(start=False, openhands_api_key="wrong")
    world.openhands.down = True
    await world.starts()
    world.openhands.down = False
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(Reason.KEY_REFUSED)}"]
    world.leaves("#dev: card ❌ Failed")
    world.logged("openhands.unreachable")
    world.logged("run.changed")


@pytest.mark.parametrize("method", ["auth.test", "apps.connections.open"])
async def test_an_outage_of_slack_at_boot_is_waited_out(still: Story, method: str) -> None:
    """An exit would turn Slack's outage into a restart loop."""
    still.patience = HASTY
    still.slack.fail(method, status=503, times=2)
    await still.starts()
    await still.alice.commands("fix README in org/repo", in_="#dev")
    await still.passes(8)

    assert [call.method for call in still.slack.calls].count(method) == 3
    assert still.card().state == "Working"
    still.logged("slack.unreachable")


@pytest.mark.parametrize("method", ["auth.test", "apps.connections.open"])
async def test_a_refusal_that_is_not_the_tokens_fault_is_waited_out(still: Story, method: str) -> None:
    """Whatever else Slack refuses at boot, and may take back: no operator has to start the bot again then."""
    still.patience = HASTY
    still.slack.fail(method, error="org_login_required", times=2)
    await still.starts()
    await still.alice.commands("fix README in org/repo", in_="#dev")
    await still.passes(8)

    assert [call.method for call in still.slack.calls].count(method) == 3
    assert still.card().state == "Working"
    still.logged("slack.unreachable")


async def test_an_openhands_that_hangs_at_boot_does_not_keep_people_waiting(still: Story) -> None:
    """Slack is answered after a moment, long before a call to OpenHands is given up."""
    still.openhands.break_next("probe", hang_s=60)
    await still.starts()
    asked = await still.alice.commands("fix README in org/repo", in_="#dev")
    assert asked.ack_text == ON_IT

    await still.passes(8)
    assert still.card().state == "Working"
    still.logged("openhands.unreachable")


async def test_a_process_that_waits_for_openhands_ends_when_asked(still: Story) -> None:
    """SIGTERM counts while the first call is under way: nothing else is begun."""
    still.openhands.break_next("probe", hang_s=60)
    starting = asyncio.create_task(still.starts())
    await until(lambda: any(call.kind == "probe" for call in still.openhands.calls))
    still.bot.stop()
    await starting
    still._bot = None

    assert still.slack.calls == []


async def test_a_process_that_hangs_in_a_call_to_slack_ends_when_asked(still: Story) -> None:
    """SIGTERM does not wait until a call is given up."""
    still.slack.fail("auth.test", hang_s=60)
    starting = asyncio.create_task(still.starts())
    await until(lambda: any(call.method == "auth.test" for call in still.slack.calls))
    still.bot.stop()
    async with asyncio.timeout(still.patience.slack_timeout_s / 2):
        await starting
    still._bot = None

    assert [call.method for call in still.slack.calls] == ["auth.test"]


async def test_the_look_for_the_teams_channel_holds_nothing_up(still: Story, tmp_path: Path) -> None:
    """Neither the socket nor the end of the process: it is a courtesy to the operator."""
    still.slack.fail("conversations.list", hang_s=60)
    async with forked(tmp_path, environment(still, NOTIFY_CHANNEL="news")) as app:
        await until(lambda: still.slack.sockets == 1)
        await until(lambda: any(call.method == "conversations.list" for call in still.slack.calls))
        code = await app.end()

    assert code == 0
    assert "app.stopped" in app.log
    assert "notify.channel_unknown" not in app.log


async def test_a_process_that_waits_for_slack_ends_when_asked(still: Story) -> None:
    """SIGTERM counts before the first connection, too."""
    still.slack.fail("auth.test", status=503, times=100)
    starting = asyncio.create_task(still.starts())
    await until(lambda: any(call.method == "auth.test" for call in still.slack.calls))
    still.bot.stop()
    await starting
    still._bot = None

    assert still.slack.sockets == 0
    still.logged("slack.unreachable")


async def test_a_folder_that_is_missing_is_named_with_the_slashes(still: Story, tmp_path: Path) -> None:
    """Three slashes in place of four are the usual reason: the path then begins where the bot was started."""
    async with forked(tmp_path, environment(still, DATABASE_URL="sqlite:///data/openhands.db")) as app:
        code = await ended(app)

    assert code == 1
    assert app.log.splitlines()[-1] == (
        f"The database can't be opened: there is no folder {tmp_path}/data. Make it, or correct DATABASE_URL "
        "(an absolute path begins with four slashes, as in sqlite:////data/openhands.db)."
    )


# --- a whole life ------------------------------------------------------------------------------------------------


async def test_a_process_takes_requests_drains_at_sigterm_and_the_next_one_goes_on(
    still: Story, tmp_path: Path
) -> None:
    """Started by its settings alone: exit code 0, no secret and no text of people's in its log."""
    async with forked(tmp_path, environment(still, POLL_INTERVAL_S="0.05")) as app:
        await until(lambda: still.slack.sockets == 1)
        await still.slack.command(still.alice.id, still.place("#dev"), "fix README in org/repo")
        await until(lambda: bool(still.openhands.conversations) and bool(still.cards()))
        assert await app.end() == 0
        first = app.log
    still.openhands.finish(still.conversation, "Fixed two links.")
    async with forked(tmp_path, environment(still, POLL_INTERVAL_S="0.05")) as app:
        await until(lambda: bool(still.news()))
        assert await app.end() == 0
        log = first + app.log

    assert still.news() == [f"<@{still.alice.id}> ✅ Done\nFixed two links."]
    assert len(still.cards()) == 1
    assert len(still.openhands.conversations) == 1
    assert "app.stopped" in log
    for secret in (still.slack.bot_token, still.slack.app_token, "README", "Fixed two links", "Traceback"):
        assert secret not in log
    assert sqlite3.connect(still.database).execute("PRAGMA integrity_check").fetchone() == ("ok",)
