"""Settings: all mistakes are reported at once, with how to fix them, and no secret is ever shown."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bot import settings
from bot.core.errors import SettingsWrong
from bot.settings import LogFormat, Settings

TOKENS = {"SLACK_BOT_TOKEN": "xoxb-1-secret", "SLACK_APP_TOKEN": "xapp-1-secret"}
EITHER = "write sqlite:///openhands.db or postgresql://user:password@host/database"
ODD = "it can't be read: special characters in user and password are written with %, such as %23 for #"
ROTATES = (
    "a token that begins with xoxe ends after twelve hours, since token rotation is on under OAuth & Permissions > "
    "Advanced token security; it can't be switched off again, so make the app anew from manifest.yml"
)
NO_FILE = "it names no file, and what the bot knows must survive it: write sqlite:///openhands.db"
HOW = {
    "SLACK_BOT_TOKEN": "Slack app settings > OAuth & Permissions > Bot User OAuth Token (xoxb-…)",
    "SLACK_APP_TOKEN": "Slack app settings > Basic Information > App-Level Tokens, scope connections:write (xapp-…)",
    "SLACK_API_URL": "nothing, unless you test against a local Slack",
    "OPENHANDS_API_KEY": "OpenHands > Settings > API Keys; empty where your own server needs none",
    "OPENHANDS_BASE_URL": "the address at which people open your OpenHands in the browser",
    "OPENHANDS_PUBLIC_URL": "the address of OpenHands' pages, if it is another one; /conversations/ follows it",
    "OPENHANDS_API": "auto, which finds out what your server speaks; or v1, v0 or agent, which says it",
    "OPENHANDS_WORKSPACE_ROOT": "a folder of your Agent Server, from its root: /srv/runs; without it one in its home",
    "WORKSPACES": "org/repo = /srv/repo, org/other = /srv/other: clones on your Agent Server, of which runs get worktrees",
    "DATABASE_URL": "sqlite:///file.db, where four slashes begin an absolute path, or postgresql://user:password@host/database",
    "POLL_INTERVAL_S": "seconds from 0.05 to 60",
    "POLICY_FILE": "a file that exists, such as policy.toml",
    "DEFAULT_REPOSITORY": "org/repo",
    "LOG_LEVEL": "DEBUG, INFO, WARNING or ERROR",
    "LOG_FORMAT": "console or json",
    "HTTP_PORT": "a free port, from 1 to 65535; without it no server",
    "STALE_AFTER_H": "hours, fractions allowed, above 0 and up to 1000",
    "MAX_CONCURRENT_RUNS": "a whole number from 1 to 1000",
    "MAX_QUEUED_PER_PERSON": "a whole number up to 1000; or 0, for no limit",
    "MAX_RUNS_PER_HOUR": "a whole number up to 1000; or 0, for no limit",
    "RETENTION_DAYS": "whole days, from 8; or 0, which keeps all",
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty folder, without `.env`, as the current one, with no setting in the environment."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in (TOKENS | values).items():
        monkeypatch.setenv(name, value)


def problems() -> tuple[str, ...]:
    with pytest.raises(SettingsWrong) as wrong:
        settings.load()
    return wrong.value.problems


def test_two_tokens_are_all_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else has a default that works."""
    given(monkeypatch)
    assert settings.load().model_dump() == {
        "slack_bot_token": SecretStr("xoxb-1-secret"),
        "slack_app_token": SecretStr("xapp-1-secret"),
        "slack_api_url": "https://slack.com/api/",
        "openhands_api_key": SecretStr(""),
        "openhands_base_url": "https://app.all-hands.dev",
        "openhands_public_url": None,
        "openhands_api": "auto",
        "openhands_agent_hosts": None,
        "openhands_agent_profile": None,
        "openhands_workspace_root": None,
        "workspaces": None,
        "database_url": "sqlite:///openhands.db",
        "poll_interval_s": 2.0,
        "notify_channel": None,
        "policy_file": None,
        "default_repository": None,
        "log_level": "INFO",
        "log_format": LogFormat.CONSOLE,
        "http_port": None,
        "http_host": "127.0.0.1",
        "stale_after_h": 12.0,
        "max_concurrent_runs": 10,
        "max_queued_per_person": 5,
        "max_runs_per_hour": 20,
        "retention_days": 90,
    }


def test_every_problem_is_named_at_once(nothing_set: Path) -> None:
    """Nobody has to start the bot once per missing token."""
    assert problems() == (
        f"SLACK_BOT_TOKEN is missing. How to get it: {HOW['SLACK_BOT_TOKEN']}.",
        f"SLACK_APP_TOKEN is missing. How to get it: {HOW['SLACK_APP_TOKEN']}.",
        f"Put them in `.env` in {nothing_set}, or in the environment.",
    )


def test_missing_and_wrong_values_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at the terminal shows everything that has to be fixed."""
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-1")
    monkeypatch.setenv("LOG_FORMAT", "xml")
    monkeypatch.setenv("POLL_INTERVAL_S", "0")
    assert [line.split(" ", 1)[0] for line in problems()] == [
        "SLACK_APP_TOKEN",
        "POLL_INTERVAL_S",
        "LOG_FORMAT",
        "Put",
    ]


def test_in_a_checkout_the_example_is_the_place_to_begin(nothing_set: Path) -> None:
    """Once it is copied, the copy is what has to be filled in."""
    (nothing_set / ".env.example").touch()
    assert problems()[-1] == "Put them in `.env`: cp .env.example .env"
    (nothing_set / ".env").touch()
    assert problems()[-1] == f"Put them in `.env` in {nothing_set}, or in the environment."


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("SLACK_BOT_TOKEN", "xapp-1", "a bot token begins with xoxb-"),
        ("SLACK_APP_TOKEN", "xoxb-1", "an app-level token begins with xapp-"),
        ("SLACK_API_URL", "localhost", "it must begin with https:// (or http:// for a server of your own)"),
        (
            "SLACK_BOT_TOKEN",
            "xoxe.xoxb-1-secret",
            ROTATES,
        ),
        ("OPENHANDS_BASE_URL", "all-hands.dev", "it must begin with https:// (or http:// for a server of your own)"),
        ("OPENHANDS_BASE_URL", "https://", "it names no server"),
        (
            "OPENHANDS_PUBLIC_URL",
            "openhands.example",
            "it must begin with https:// (or http:// for a server of your own)",
        ),
        ("OPENHANDS_BASE_URL", "http:///conversations", "it names no server"),
        ("OPENHANDS_BASE_URL", "https://[::1", "it names no server"),
        ("OPENHANDS_BASE_URL", "https://openhands.test/?tab=code", "it must end before the ? or #"),
        ("OPENHANDS_PUBLIC_URL", "canvas", "it must begin with https:// (or http:// for a server of your own)"),
        ("OPENHANDS_API", "v2", "it must be 'auto', 'v1', 'v0' or 'agent'"),
        (
            "OPENHANDS_BASE_URL",
            "https://me:word@openhands.example",
            "it must name no user or password: the address is shown to people",
        ),
        ("OPENHANDS_API_KEY", "kéy", "it has characters that no key has: copy it again"),
        ("SLACK_BOT_TOKEN", "xoxb-1\u200b", "it has characters that no key has: copy it again"),
        ("WORKSPACES", "org/repo", "it must begin at the root, since it is on the server"),
        ("WORKSPACES", "org/a=/srv/a, b=/srv/b", "write it as org/repo"),
        ("OPENHANDS_WORKSPACE_ROOT", "runs", "it must begin at the root, since it is on the server"),
        ("DATABASE_URL", "mysql://bot:hunter2@db/bot", f"mysql is not supported: {EITHER}"),
        ("DATABASE_URL", "openhands.db", f"it is no database address: {EITHER}"),
        ("DATABASE_URL", "postgresql://bot:hunter#2@db/bot", ODD),
        ("DATABASE_URL", "sqlite:///:memory:", NO_FILE),
        ("DATABASE_URL", "sqlite://", NO_FILE),
        ("POLL_INTERVAL_S", "0", "it must be greater than or equal to 0.05"),
        ("POLL_INTERVAL_S", "61", "it must be less than or equal to 60"),
        ("POLL_INTERVAL_S", "2 s", "it must be a valid number, unable to parse string as a number"),
        ("DEFAULT_REPOSITORY", "repo", "write it as org/repo"),
        ("LOG_LEVEL", "LOUD", "it must be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("LOG_FORMAT", "xml", "it must be 'console' or 'json'"),
        ("HTTP_PORT", "65536", "it must be less than or equal to 65535"),
        ("HTTP_PORT", "http", "it must be a valid integer, unable to parse string as an integer"),
        ("STALE_AFTER_H", "0", "it must be greater than 0"),
        ("MAX_CONCURRENT_RUNS", "0", "it must be greater than or equal to 1"),
        ("MAX_QUEUED_PER_PERSON", "-1", "it must be greater than or equal to 0"),
        ("MAX_RUNS_PER_HOUR", "1001", "it must be less than or equal to 1000"),
        ("RETENTION_DAYS", "7", "the keys of requests are kept for 7 days, and runs for longer"),
    ],
)
def test_a_wrong_value_is_told_with_how_to_get_it_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str
) -> None:
    """One line has the name, what is wrong, and what to write instead."""
    given(monkeypatch, **{name: value})
    got = "How to get it" if name in TOKENS or name == "OPENHANDS_API_KEY" else "Expected"
    assert problems() == (f"{name} is wrong: {what}. {got}: {HOW[name]}.",)


@pytest.mark.parametrize("name", ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "OPENHANDS_BASE_URL", "DATABASE_URL"])
def test_a_wrong_value_itself_is_never_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A token pasted into the wrong line, or a password in an address, stays out of the terminal and the log."""
    given(monkeypatch, **{name: "hunter2@secret"})
    [line] = problems()
    assert "hunter2" not in line


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log or a traceback would show neither tokens nor the key."""
    given(monkeypatch, OPENHANDS_API_KEY="key-secret")
    found = settings.load()
    assert "secret" not in f"{found!r} {found} {found.model_dump_json()}"


def test_settings_are_read_from_the_file(nothing_set: Path) -> None:
    """A `.env` in the folder where the bot is started is enough."""
    lines = [*(f"{name}={value}" for name, value in TOKENS.items()), "NOTIFY_CHANNEL='#agents'", "UNRELATED=1"]
    (nothing_set / ".env").write_text("\n".join(lines), encoding="utf-8")
    found = settings.load()
    assert (found.slack_bot_token.get_secret_value(), found.notify_channel) == ("xoxb-1-secret", "#agents")


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, nothing_set: Path) -> None:
    """A file left over from a trial does not override what a host sets."""
    (nothing_set / ".env").write_text("LOG_LEVEL=DEBUG\nOPENHANDS_API=v0\n", encoding="utf-8")
    given(monkeypatch, LOG_LEVEL="ERROR")
    found = settings.load()
    assert (found.log_level, found.openhands_api) == ("ERROR", "v0")


def test_an_empty_variable_switches_off_what_the_file_sets(monkeypatch: pytest.MonkeyPatch, nothing_set: Path) -> None:
    """A start without the setting needs no edit of the file."""
    (nothing_set / ".env").write_text("NOTIFY_CHANNEL=agents\nSTALE_AFTER_H=3\n", encoding="utf-8")
    given(monkeypatch, NOTIFY_CHANNEL="")
    found = settings.load()
    assert (found.notify_channel, found.stale_after_h) == (None, 3.0)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_said(nothing_set: Path, encoding: str) -> None:
    """Some editors and shells on Windows write such files."""
    (nothing_set / ".env").write_text("SLACK_BOT_TOKEN=xoxb-1 # für Ärger\n", encoding=encoding)
    assert problems() == ("`.env` is not UTF-8: save it as UTF-8.",)


def test_a_mark_at_the_beginning_of_the_file_is_no_part_of_the_first_name(nothing_set: Path) -> None:
    """Some editors on Windows write a byte order mark."""
    lines = "\n".join(f"{name}={value}" for name, value in TOKENS.items())
    (nothing_set / ".env").write_text(lines, encoding="utf-8-sig")
    assert settings.load().slack_bot_token.get_secret_value() == "xoxb-1-secret"
    assert settings.unknown() == []


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("NOTIFY_CHANEL", "NOTIFY_CHANEL in `.env` is no setting of the bot: did you mean NOTIFY_CHANNEL?"),
        ("poll_intervals", "POLL_INTERVALS in `.env` is no setting of the bot: did you mean POLL_INTERVAL_S?"),
        ("OPENHANDS_KEY", "OPENHANDS_KEY in `.env` is no setting of the bot: did you mean OPENHANDS_API_KEY?"),
        ("HTTP_PROXY", "HTTP_PROXY in `.env` is no setting of the bot: it changes nothing, so take it out"),
    ],
)
def test_a_name_in_the_file_that_nobody_reads_is_told(nothing_set: Path, written: str, said: str) -> None:
    """The message names the setting that was probably meant, if one is similar, but never the value."""
    (nothing_set / ".env").write_text(f"{written}=secret\nlog_level=INFO\n", encoding="utf-8")
    assert list(map(str, settings.unknown())) == [said]


def test_of_the_environment_only_slips_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other names in the environment belong to somebody else."""
    given(monkeypatch, NOTIFY_CHANEL="ops", HTTP_PROXY="http://proxy", SLACK_CLIENT_ID="1.2", EDITOR="vi")
    assert list(map(str, settings.unknown())) == [
        "NOTIFY_CHANEL in the environment is no setting of the bot: did you mean NOTIFY_CHANNEL?"
    ]


def test_what_is_given_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the demo and the tests can choose their own servers."""
    given(monkeypatch, SLACK_API_URL="https://slack.com/api/")
    assert settings.load(slack_api_url="http://127.0.0.1:1/api/").slack_api_url == "http://127.0.0.1:1/api/"


def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of `.env.example` that was left empty means the default."""
    given(monkeypatch, NOTIFY_CHANNEL="", DEFAULT_REPOSITORY="", POLL_INTERVAL_S="")
    found = settings.load()
    assert (found.notify_channel, found.default_repository, found.poll_interval_s) == (None, None, 2.0)


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("slack_api_url", "http://localhost:8080/api", "http://localhost:8080/api/"),
        ("slack_api_url", "http://localhost:8080/api/", "http://localhost:8080/api/"),
        ("openhands_base_url", "https://app.all-hands.dev/", "https://app.all-hands.dev"),
        ("openhands_base_url", "http://localhost:3000", "http://localhost:3000"),
        ("default_repository", "group/sub/repo", "group/sub/repo"),
        ("poll_interval_s", "0.5", 0.5),
        ("http_port", "8080", 8080),
        ("log_level", "info", "INFO"),
        ("log_format", "JSON", LogFormat.JSON),
        ("openhands_api", "V0", "v0"),
        ("openhands_api", "Agent", "agent"),
        ("openhands_workspace_root", "/srv/runs", "/srv/runs"),
        ("openhands_workspace_root", "C:\\runs", "C:\\runs"),
        ("workspaces", "org/a = /srv/a,org/b=/srv/b/", "org/a = /srv/a,org/b=/srv/b/"),
        ("stale_after_h", "1.5", 1.5),
        ("database_url", "sqlite+aiosqlite:////data/bot.db", "sqlite+aiosqlite:////data/bot.db"),
    ],
)
def test_values_are_taken_as_people_write_them(
    monkeypatch: pytest.MonkeyPatch, name: str, written: str, meant: Any
) -> None:
    """A missing or extra slash at the end of an address is no mistake."""
    given(monkeypatch, **{name.upper(): written})
    assert getattr(settings.load(), name) == meant


def test_clones_that_are_kept_are_named_by_their_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are, each with its folder."""
    given(monkeypatch, WORKSPACES="org/a = /srv/a, org/b=/srv/b/")
    assert settings.load().hosting.workspaces == {"org/a": "/srv/a", "org/b": "/srv/b"}


def test_hosts_are_separated_as_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch)
    assert settings.load().agent_hosts == ()
    given(monkeypatch, OPENHANDS_AGENT_HOSTS="*.Runtime.example.com, 10.0.0.5")
    assert settings.load().agent_hosts == ("*.runtime.example.com", "10.0.0.5")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OPENHANDS_BASE_URL", "http://openhands.example.com", "OPENHANDS_BASE_URL sends the key unencrypted to another network: write https://"),
        ("SLACK_API_URL", "http://8.8.8.8/api", "SLACK_API_URL sends the key unencrypted to another network: write https://"),
        ("OPENHANDS_BASE_URL", "http://localhost:3000", None),
        ("OPENHANDS_BASE_URL", "http://openhands:3000", None),
        ("OPENHANDS_BASE_URL", "http://10.0.0.5:3000", None),
        ("DATABASE_URL", "postgresql://bot:word@db.example.com/bot", "DATABASE_URL does not insist on encryption: add ?sslmode=verify-full, or require"),
        ("DATABASE_URL", "postgresql://bot:word@db,db.example.com:5432/bot?sslmode=prefer", "DATABASE_URL does not insist on encryption: add ?sslmode=verify-full, or require"),
        ("DATABASE_URL", "postgresql://bot:word@db.example.com/bot?sslmode=require", None),
        ("DATABASE_URL", "postgresql://bot:word@db.example.com/bot?sslrootcert=system", None),
        ("DATABASE_URL", "postgresql://bot:word@[::1]:5432/bot", None),
        ("DATABASE_URL", "postgresql:///bot?host=/run/postgresql", None),
        ("DATABASE_URL", "postgresql://bot@db/bot", None),
    ],
)  # fmt: skip
def test_settings_that_let_others_read_along_are_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str | None
) -> None:
    given(monkeypatch, **{name: value})
    assert settings.risks(settings.load()) == ([said] if said else [])


def test_a_file_that_others_can_read_is_told(nothing_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch)
    file = nothing_set / ".env"
    file.write_text("", encoding="utf-8")
    file.chmod(0o640)
    assert settings.risks(settings.load()) == ["`.env` can be read by other users of this machine: chmod 600 .env"]
    file.chmod(0o600)
    assert settings.risks(settings.load()) == []
