"""`python -m bot doctor`: what the bot needs from outside, each with how to mend it."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bot.__main__ import cli
from bot.core.model import Slots
from bot.ops import doctor
from bot.ops.doctor import Finding, examine
from bot.settings import load
from bot.slack.scopes import REINSTALL, SCOPES, WITHOUT
from bot.store.database import known_versions
from tests.conftest import Make, Story
from tests.forked import forked
from tests.stories.shared import working
from tests.stories.test_boot import ended, environment, old_log_beside


async def said(world: Story) -> list[str]:
    """Return what the doctor says, without what depends on the machine."""
    return [line for line in map(str, await examine(world.settings(), world.clock)) if "Disk" not in line]


async def told(world: Story, about: str) -> str:
    """Return the only line about something."""
    [line] = [line for line in await said(world) if line[2:].startswith(about)]
    return line


async def test_everything_is_well_beside_a_running_bot(make_world: Make) -> None:
    """One line each, nothing to mend; the bot is not disturbed."""
    world = await make_world(
        notify_channel="#news", default_repository="org/repo", openhands={"repositories": ["org/repo"]}
    )
    await working(world)
    lines = await said(world)
    assert lines[:4] == [
        f"✓ Slack bot token: {world.slack.bot_user_id} in {world.slack.workspace_url}",
        f"✓ Scopes: all {len(SCOPES)} of manifest.yml",
        "✓ NOTIFY_CHANNEL: the bot is in it",
        "✓ Slack app-level token: Socket Mode may connect",
    ]
    assert lines[4].startswith("✓ Database: answers in ")
    assert lines[4].endswith(" ms, a bot works on it")
    assert lines[6:] == [
        "✓ OpenHands: cloud or Enterprise (OPENHANDS_API=v1), key accepted",
        "✓ At work: 1 sandbox, other people's included; at most MAX_CONCURRENT_RUNS=10 of this bot's runs at once",
        "✓ Git provider: org/repo can be opened",
    ]
    assert world.card().state == "Working"


@pytest.mark.parametrize(
    ("given", "about", "line"),
    [
        ({}, "NOTIFY_CHANNEL", "– NOTIFY_CHANNEL: not set, so only threads hear of ends"),
        (
            {"notify_channel": "nowhere"},
            "NOTIFY_CHANNEL",
            "✗ NOTIFY_CHANNEL: no such channel that the bot can see → correct it; invite the bot if private",
        ),
        (
            {"notify_channel": "C0NOWHERE"},
            "NOTIFY_CHANNEL",
            "✗ NOTIFY_CHANNEL: no such channel that the bot can see → correct it; invite the bot if private",
        ),
        (
            {"slack_bot_token": "xoxb-other"},
            "SLACK_BOT_TOKEN",
            (
                "✗ SLACK_BOT_TOKEN is refused by Slack (invalid_auth) → Slack app settings > OAuth & Permissions > "
                "Bot User OAuth Token (xoxb-…)"
            ),
        ),
        (
            {"slack_app_token": "xapp-other"},
            "SLACK_APP_TOKEN",
            (
                "✗ SLACK_APP_TOKEN is refused by Slack (invalid_auth) → Slack app settings > Basic Information > "
                "App-Level Tokens, scope connections:write (xapp-…)"
            ),
        ),
        (
            {"openhands_api_key": "other"},
            "OPENHANDS_API_KEY",
            (
                "✗ OPENHANDS_API_KEY is refused by OpenHands → OpenHands > Settings > API Keys; "
                "empty where your own server needs none"
            ),
        ),
        (
            {"openhands_base_url": "http://127.0.0.1:9"},
            "OpenHands",
            "✗ OpenHands: it can't be reached → look at OPENHANDS_BASE_URL; look at the network",
        ),
        ({}, "Git provider", "– Git provider: not checked without DEFAULT_REPOSITORY"),
        (
            {"default_repository": "org/other"},
            "Git provider",
            "– Git provider: org/other is in no list → connect the provider in OpenHands' settings; look at the name",
        ),
    ],
)
async def test_what_is_wrong_is_named_with_how_to_mend_it(
    make_world: Make, given: dict[str, str], about: str, line: str
) -> None:
    """A setting that is not as it should be is told by its name; its value, which may be a secret, is not."""
    world = await make_world(start=False, **given)
    assert await told(world, about) == line


async def test_missing_scopes_are_named(make_world: Make) -> None:
    """Each with what does not work without it: a scope does nothing until the app is installed again."""
    world = await make_world(start=False)
    world.slack.granted_scopes = SCOPES - {"reactions:write", "im:write"}
    assert await told(world, "Scopes") == (
        f"✗ Scopes: without im:write {WITHOUT['im:write']}; without reactions:write {WITHOUT['reactions:write']} → "
        f"{REINSTALL}"
    )


async def test_a_scope_without_which_the_bot_does_not_start_is_named(make_world: Make) -> None:
    """It goes before all others."""
    world = await make_world(start=False)
    world.slack.granted_scopes = SCOPES - {"chat:write", "im:write"}
    assert await told(world, "Scopes") == f"✗ Scopes: chat:write missing, and the bot can't start → {REINSTALL}"


async def test_a_channel_without_the_bot_is_told(make_world: Make) -> None:
    """It is there, and yet the team would hear nothing."""
    world = await make_world(start=False, notify_channel="#ops")
    world.channel("#ops", world.alice, bot_member=False)
    assert await told(world, "NOTIFY_CHANNEL") == "✗ NOTIFY_CHANNEL: the bot is not in it → /invite @OpenHands there"


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            {"status": 429, "retry_after": 7},
            "✗ NOTIFY_CHANNEL: Slack takes no more calls for now (ratelimited) → try again in 7 s",
        ),
        (
            {"status": 503},
            "✗ NOTIFY_CHANNEL: a fault inside Slack (internal_error) → try again; look at https://slack-status.com",
        ),
        (
            {"error": "fatal_error"},
            "✗ NOTIFY_CHANNEL: a fault inside Slack (fatal_error) → try again; look at https://slack-status.com",
        ),
    ],
    ids=["rate limit", "5xx", "fault"],
)
async def test_a_fault_of_slack_is_not_one_of_the_network(make_world: Make, fault: dict[str, Any], line: str) -> None:
    """Only where no answer came is the network worth a look."""
    world = await make_world(start=False, notify_channel="#news")
    world.slack.fail("conversations.list", **fault)
    assert await told(world, "NOTIFY_CHANNEL") == line


async def test_a_channel_that_may_not_be_looked_up_is_not_missing(make_world: Make) -> None:
    """To create it, or to invite the bot, would not help."""
    world = await make_world(start=False, notify_channel="#news")
    world.slack.granted_scopes = SCOPES - {"channels:read"}
    line = await told(world, "NOTIFY_CHANNEL")
    assert line.startswith("✗ NOTIFY_CHANNEL: it can't be looked up, since the token lacks ")
    assert "channels:read" in line
    assert line.endswith(f" → {REINSTALL}")


async def test_a_service_that_hangs_costs_a_line_and_not_the_rest(make_world: Make) -> None:
    """What was found before it hung is told as well."""
    world = await make_world(start=False, notify_channel="#news")
    world.slack.fail("conversations.list", hang_s=60)
    lines = list(map(str, await examine(world.settings(), world.clock, within_s=0.4)))
    assert lines[1:4] == [
        f"✓ Scopes: all {len(SCOPES)} of manifest.yml",
        "✗ Slack did not answer within 0.4 s → try again; look at the network",
        "✓ Slack app-level token: Socket Mode may connect",
    ]


async def test_an_openhands_that_does_not_answer_every_question_is_told(make_world: Make) -> None:
    """Not the doctor is ill then."""
    world = await make_world(start=False, default_repository="org/repo", openhands={"repositories": ["org/repo"]})
    world.openhands.break_next("repositories", status=500)
    assert (await said(world))[-2:] == [
        "✓ At work: 0 sandboxes, other people's included; at most MAX_CONCURRENT_RUNS=10 of this bot's runs at once",
        "✗ OpenHands: it does not answer every question → try again; if it stays so, look at its own log",
    ]


# --- what Slack sent --------------------------------------------------------------------------------------------


async def test_what_was_heard_last_is_told_by_its_sort(world: Story) -> None:
    """Slack tells nobody which events an app gets, so the operator compares with what people did."""
    assert (await told(world, "Events")).startswith(
        "– Events of the last 7 days: nothing → write `@OpenHands status` in a channel; if no answer comes, "
    )
    await world.alice.commands("status", in_="#dev")
    assert (await told(world, "Events")).startswith("– Events of the last 7 days: command ")
    await world.alice.says("@OpenHands status", in_="#dev")
    assert "message in a channel" in await told(world, "Events")
    assert (await told(world, "Events")).startswith("✓ ")
    world.leaves("alice alone: You have no live run here", "alice alone: You have no live run here")


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-3), "0 min"),
        (timedelta(seconds=59), "0 min"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(hours=47), "47 h 0 min"),
        (timedelta(hours=49), "2 days"),
    ],
)
def test_ages_are_told_in_words(age: timedelta, words: str) -> None:
    """The clocks of two machines may differ by seconds."""
    assert doctor.ago(age) == words


# --- the database -----------------------------------------------------------------------------------------------


async def test_before_the_first_start_there_is_nothing_to_mend(make_world: Make) -> None:
    """Nor is a file made by looking."""
    world = await make_world(start=False)
    assert await told(world, "Database") == (
        f"– Database: {world.database} is not there → the first start makes it; if that was, correct DATABASE_URL"
    )
    assert not world.database.exists()


async def test_a_folder_that_is_missing_is_wrong(make_world: Make, tmp_path: Path) -> None:
    """The bot makes no folders, so no start would mend it; mostly a slash is missing. Of a disk nothing can be said."""
    missing = tmp_path / "data"
    world = await make_world(start=False, database_url=f"sqlite:///{missing}/openhands.db")
    lines = [
        line
        for line in map(str, await examine(world.settings(), world.clock))
        if line[2:].startswith(("Database", "Disk"))
    ]
    assert lines == [
        (
            f"✗ Database: there is no folder {missing} → make it, or correct DATABASE_URL "
            "(an absolute path begins with four slashes, as in sqlite:////data/openhands.db)"
        )
    ]
    assert not missing.exists()


async def test_a_database_nobody_works_on_is_told(world: Story) -> None:
    """The lock is free again after the look."""
    await world.stops()
    assert (await told(world, "Database")).endswith(" ms, no bot works on it")
    await world.starts()


async def says_made_by(world: Story, version: str) -> None:
    """Have the tables say which version they are of."""
    await world.stops()
    with closing(sqlite3.connect(world.database)) as file:
        file.execute("UPDATE alembic_version SET version_num = ?", [version])
        file.commit()


async def test_tables_of_an_older_version_are_told(world: Story) -> None:
    """A start brings them up to date; until then nothing is wrong."""
    await says_made_by(world, "0001")
    assert await told(world, "Database") == (
        "– Database: tables of an older version, no bot works on it → a start of this version brings them up to date"
    )


async def test_tables_of_a_newer_version_are_wrong(world: Story) -> None:
    """This program can't open them; no start mends that."""
    await says_made_by(world, "9999")
    assert await told(world, "Database") == (
        f"✗ Database: made by a newer version of this bot (9999; this one knows {known_versions()[-1]}), no bot works on "
        "it → start that version, or restore a backup made before it"
    )


async def test_a_file_that_is_no_database_is_told(make_world: Make) -> None:
    """In the driver's own words, with where to look."""
    world = await make_world(start=False)
    world.database.write_text("This is a shopping list. " * 100, encoding="utf-8")
    line = await told(world, "Database")
    assert line.startswith("✗ Database: it can't be read (")
    assert line.endswith("Check DATABASE_URL, the folder's rights and the disk.")


REPLACED = (
    "{file} was put there beside the write-ahead log (-wal) of another file, which would undo it",
    (
        "If you restored a copy, delete {file}-wal and {file}-shm, then try again. If not, the log holds the latest requests: "
        "`touch {file}-wal`, then try again."
    ),
)


async def test_a_restored_copy_beside_an_old_log_is_told_and_left_alone(world: Story, tmp_path: Path) -> None:
    """To open it would undo the restore."""
    await world.stops()
    log = old_log_beside(world.database)
    what, mend = (part.format(file=world.database) for part in REPLACED)
    assert await told(world, "Database") == f"✗ Database: {what} → {mend}"
    async with forked(tmp_path, environment(world), "dead") as app:
        assert await ended(app) == 2
    assert app.log.splitlines()[-1] == f"Not opened: {what}. {mend}"
    assert log.read_bytes() == b"the log of another file"


def test_a_full_disk_is_wrong(tmp_path: Path) -> None:
    """No request can be taken where nothing can be written."""
    assert doctor.of_room(199_999_999, tmp_path) == Finding(
        ok=False,
        what=f"Disk: 0.2 GB free in {tmp_path}",
        mend="make room: on a full disk no request can be taken",
    )
    assert doctor.of_room(200_000_000, tmp_path).ok


def test_the_disk_is_that_of_the_file(tmp_path: Path) -> None:
    """Or of the folder it will be in; a server looks after its own."""
    found = doctor.room(tmp_path / "openhands.db")
    assert found.what.endswith(f" GB free in {tmp_path}")
    assert doctor.room(None) == Finding(ok=None, what="Disk: the database is on a server")


# --- OpenHands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (None, "– At work: this server does not tell how many run"),
        (
            Slots(running=10),
            "✓ At work: 10 sandboxes, other people's included; at most MAX_CONCURRENT_RUNS=10 of this bot's runs at once",
        ),
    ],
)
def test_slots_are_told(found: Slots | None, line: str) -> None:
    """A full account is no fault."""
    assert str(doctor.slots(found, 10)) == line


async def test_an_api_that_will_be_removed_is_warned_of(make_world: Make) -> None:
    """While it works it is no fault; and it can't tell about repositories."""
    world = await make_world(openhands={"api": "v0"}, default_repository="org/repo", start=False)
    assert (await said(world))[-3:] == [
        f"– OpenHands: an older server (OPENHANDS_API=v0), key accepted → {doctor.DEPRECATED}",
        "✓ At work: 0 sandboxes, other people's included; at most MAX_CONCURRENT_RUNS=10 of this bot's runs at once",
        "– Git provider: this server does not tell whether it can open org/repo → start a task on it",
    ]


async def test_an_agent_server_is_looked_at_as_one(make_world: Make) -> None:
    """Which version, whether its profile is complete, how many work there, and what its key is."""
    world = await make_world(openhands={"api": "agent", "closed": ["org/other"]}, default_repository="org/repo")
    await working(world)
    assert (await said(world))[-4:] == [
        f"✓ OpenHands: Agent Server 1.58.2, key accepted → {doctor.WHOLE_MACHINE}",
        "✓ Agent profile: default, complete",
        "✓ At work: 1 agent, other people's included; at most MAX_CONCURRENT_RUNS=10 of this bot's runs at once",
        "✓ Git provider: org/repo can be opened",
    ]
    world.given |= {"workspaces": "org/repo = /srv/kept, org/other = /srv/other"}
    world.openhands.machine.clones["/srv/kept"] = ("org/repo", "main")
    assert [one for one in await said(world) if "Workspace" in one] == [
        "✓ Workspace: org/repo in /srv/kept",
        "✗ Workspace: no clone of org/other in /srv/other, or its origin can't be read → correct WORKSPACES",
    ]
    world.openhands.machine.models.clear()
    assert await told(world, "Agent profile") == (
        "✗ Agent profile: default is not complete (LLM profile 'default' not found) → set its model in OpenHands' settings"
    )
    world.given |= {"openhands_agent_profile": "mine", "default_repository": "org/other"}
    assert await told(world, "Agent profile") == (
        "✗ Agent profile: the server has no agent profile mine → correct OPENHANDS_AGENT_PROFILE, or make that profile there"
    )
    assert await told(world, "Git provider") == (
        "– Git provider: org/other can't be opened → give the server's own git a login; look at the name"
    )


async def test_a_web_page_in_place_of_openhands_is_told(make_world: Make) -> None:
    """The address is one of something else."""
    world = await make_world(start=False, openhands_api="v1")
    world.openhands.break_next("probe", html=True)
    assert await told(world, "OpenHands") == (
        "✗ OpenHands: no OpenHands at this address → look at OPENHANDS_BASE_URL; is it an old server? OPENHANDS_API=v0 says so"
    )


# --- the command line -------------------------------------------------------------------------------------------


async def test_the_exit_code_tells_whether_something_is_wrong(make_world: Make, tmp_path: Path) -> None:
    """0 where nothing is wrong, though not everything could be looked at; no secret is printed."""
    world = await make_world(start=False)
    async with forked(tmp_path, environment(world), "doctor") as app:
        code = await ended(app)
    assert code == 0
    assert "✗" not in app.log
    for secret in (world.slack.bot_token, world.slack.app_token, "Traceback"):
        assert secret not in app.log


def test_settings_that_cannot_be_read_give_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing can be looked at then."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLACK_APP_TOKEN", "xapp-1")
    without = CliRunner().invoke(cli, ["doctor"])
    assert without.exit_code == 2
    assert without.output.startswith("SLACK_BOT_TOKEN is missing. How to get it: ")


async def test_names_that_nobody_reads_come_first(make_world: Make, tmp_path: Path) -> None:
    """A slip is wrong; what is like no setting may be there for another program."""
    world = await make_world(start=False)
    (tmp_path / ".env").write_text("COLOUR=red\nNOTIFY_CHANEL=ops\n", encoding="utf-8")
    async with forked(tmp_path, environment(world), "doctor") as app:
        code = await ended(app)
    assert code == 1
    assert app.log.splitlines()[:2] == [
        "– Settings: COLOUR in `.env` is no setting of the bot: it changes nothing, so take it out",
        "✗ Settings: NOTIFY_CHANEL in `.env` is no setting of the bot: did you mean NOTIFY_CHANNEL?",
    ]


async def test_something_wrong_gives_1(tmp_path: Path) -> None:
    """Nothing answers here."""
    nowhere = dict.fromkeys(("SLACK_API_URL", "OPENHANDS_BASE_URL"), "http://127.0.0.1:9")
    tokens = {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1"}
    async with forked(tmp_path, {**nowhere, **tokens}, "doctor") as app:
        code = await ended(app)
    assert code == 1
    assert app.log.splitlines()[1].startswith("✗ SLACK_BOT_TOKEN: no answer of Slack (no_connection) → ")


def test_without_a_policy_file_the_bot_is_open() -> None:
    """It is no fault, and whoever runs it should know."""
    [line] = doctor.rules(load(_env_file=None, slack_bot_token="xoxb-1", slack_app_token="xapp-1"))
    assert str(line) == "– Rules: open to the whole workspace → POLICY_FILE says who may do what, and where"


async def test_the_policy_file_is_looked_at(make_world: Make, tmp_path: Path) -> None:
    """Its mistakes with their lines, and whether the groups that it names can be read."""
    file = tmp_path / "policy.toml"
    world = await make_world(start=False, policy_file=file)
    group = world.slack.add_group([world.alice.id])
    file.write_text(f'repositories = ["org/*"]\nstarters = ["{group}", "S0OTHER"]')
    assert [str(one) for one in doctor.rules(world.settings())] == [
        f"✓ Rules: {file}, with 0 of its own for some, bound to its repositories"
    ]
    assert await told(world, f"User group {group}") == f"✓ User group {group}: 1 person"
    assert await told(world, "User group S0OTHER") == (
        "✗ User group S0OTHER: Slack does not show it (no_such_subteam) → correct its id in POLICY_FILE"
    )
    world.slack.granted_scopes = SCOPES - {"usergroups:read"}
    assert "lacks usergroups:read" in await told(world, f"User group {group}")
    file.write_text("starter = []")
    assert [str(one) for one in doctor.rules(world.settings())] == [
        "✗ Rules: policy.toml, line 1: starter is no key of this file → correct it: the bot does not start with it"
    ]
