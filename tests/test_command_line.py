"""`openhands-slack`: what it prints about itself, and what it says if it can't run."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from typer.testing import CliRunner

import bot
from bot.__main__ import cli
from bot.slack.manifest import link

ROOT = Path(__file__).parents[1]
MANIFEST = (ROOT / "manifest.yml").read_text(encoding="utf-8")


def typed(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, words)
    return result.exit_code, result.output


def test_it_tells_its_version() -> None:
    """People who report a problem can name the version."""
    assert typed("--version") == (0, f"openhands-slack {bot.__version__}\n")


def test_it_prints_the_manifest_of_the_repository() -> None:
    """It needs no settings, since there are none before the app exists. The packaged manifest is the same file."""
    assert typed("manifest") == (0, MANIFEST)
    assert (ROOT / "bot/slack/manifest.yml").samefile(ROOT / "manifest.yml")


def test_another_command_is_the_only_difference() -> None:
    """Two bots in one workspace need two commands."""
    code, printed = typed("manifest", "--command", "/agent")
    expected = yaml.safe_load(MANIFEST)
    expected["features"]["slash_commands"][0]["command"] = "/agent"
    assert (code, yaml.safe_load(printed)) == (0, expected)


@pytest.mark.parametrize("command", ["agent", "/", "/Agent", "/my agent", f"/{'a' * 32}"])
def test_a_command_that_slack_refuses_is_not_printed(command: str) -> None:
    """Slack would refuse it later, and less clearly."""
    assert typed("manifest", "--command", command) == (
        2,
        f"{command} can't be the command: a slash command is / and up to 31 small letters, digits, _ or -, such as /agent.\n",
    )


@pytest.mark.parametrize("command", ["/openhands", "/agent"])
def test_the_link_holds_the_whole_manifest(command: str) -> None:
    """Slack's page for a new app opens with it filled in. Browsers and chats accept a link of this length."""
    code, printed = typed("manifest", "--link", "--command", command)
    address = urlsplit(printed.strip())
    query = parse_qs(address.query, strict_parsing=True)
    assert (code, address.scheme, address.netloc, address.path) == (0, "https", "api.slack.com", "/apps")
    assert query.keys() == {"new_app", "manifest_yaml"}
    assert query["new_app"] == ["1"]
    assert yaml.safe_load(query["manifest_yaml"][0]) == yaml.safe_load(typed("manifest", "--command", command)[1])
    assert len(link(command)) < 2048


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_without_its_libraries_it_says_what_to_do(command: str) -> None:
    """A Python without the libraries prints one sentence and no traceback."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "bot", command], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    [said] = done.stderr.splitlines()
    assert said.startswith("typer is not installed for this Python. In a checkout type `make run`")


def test_a_policy_file_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before the bot is told to read it: every mistake has its line, and exit code 2."""
    file = tmp_path / "policy.toml"
    for name, value in {"SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1", "POLICY_FILE": str(file)}.items():
        monkeypatch.setenv(name, value)
    file.write_text('starters = ["U0ALICE"]\n[[rules]]\nname = "docs"\n')
    code, said = typed("policy", "check")
    assert (code, said.startswith(f"{file} is right: 1 rule beside the general part (SHA-256 ")) == (0, True)
    file.write_text("starter = []\nstops = []\n")
    assert typed("policy", "check") == (
        2,
        "policy.toml, line 1: starter is no key of this file\npolicy.toml, line 2: stops is no key of this file\n",
    )
    monkeypatch.setenv("POLICY_FILE", "")
    assert typed("policy", "check") == (2, "POLICY_FILE is not set: the bot is open to the whole workspace.\n")
