"""`deploy/openhands-slack.service` and `Containerfile`: the deployment does what the documents say."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bot.__main__ import WRONG
from tests.conftest import Make
from tests.stories.test_operations import free_port

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "deploy/openhands-slack.service"
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")


def settings_of_the_unit() -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE))


def instructions() -> dict[str, list[str]]:
    """Return the arguments of each instruction of the image, in order."""
    found: dict[str, list[str]] = {}
    for word, rest in re.findall(
        r"^([A-Z]+) (.*)$", (ROOT / "Containerfile").read_text(encoding="utf-8"), re.MULTILINE
    ):
        found.setdefault(word, []).append(rest)
    return found


# --- systemd ----------------------------------------------------------------------------------------------------


def verified(unit: Path) -> tuple[int, str]:
    done = subprocess.run([ROOT / ".ci/unit", unit], check=False, capture_output=True, text=True)
    return done.returncode, done.stderr


@needs_systemd
def test_systemd_has_nothing_to_say_of_the_unit() -> None:
    """Every key is known and every value valid."""
    assert verified(UNIT) == (0, "")


@needs_systemd
@pytest.mark.parametrize(
    ("right", "wrong"),
    [("RestartPreventExitStatus", "RestartPreventStatus"), ("TimeoutStopSec=15", "TimeoutStopSec=soon")],
)
def test_a_mistake_in_a_unit_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    """Systemd itself would only ignore it."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(right, wrong), encoding="utf-8")
    code, said = verified(unit)
    assert code == 1
    assert (wrong.partition("=")[2] or wrong) in said


def test_the_unit_restarts_what_may_pass_and_nothing_else() -> None:
    """Wrong settings stay wrong, so they end it. A stop allows more time than the bot gives its calls to end."""
    found = settings_of_the_unit()
    assert (found["Restart"], found["RestartPreventExitStatus"]) == ("on-failure", str(WRONG))
    assert float(found["TimeoutStopSec"]) > 10
    assert float(found["RestartSec"]) * 5 > 10  # systemd gives up after five starts within ten seconds


def test_the_unit_runs_the_console_script_in_a_folder_that_stays() -> None:
    """The default database is a file there. Nobody else may read it, and no user has to be created."""
    found = settings_of_the_unit()
    program, command = found["ExecStart"].split()
    assert Path(program).name in SCRIPTS
    assert command == "run"
    assert found["WorkingDirectory"] == f"%S/{found['StateDirectory']}"
    assert (found["DynamicUser"], found["UMask"], found["StateDirectoryMode"]) == ("yes", "0077", "0700")
    assert found["EnvironmentFile"]


# --- the container ----------------------------------------------------------------------------------------------


def test_the_image_runs_the_console_script_without_root() -> None:
    """The user is a number, which a host that forbids root can check."""
    made = instructions()
    [command] = made["CMD"]
    [user] = made["USER"]
    program, *rest = json.loads(command)
    assert program in SCRIPTS
    assert rest == ["run"]
    assert int(user) > 0
    assert f"useradd --uid {user} " in made["RUN"][-1]


def test_the_image_keeps_its_database_in_a_volume() -> None:
    """The bot runs in that folder and may write there."""
    made = instructions()
    [volume] = made["VOLUME"]
    assert made["WORKDIR"][-1] == volume
    assert made["RUN"][-1].endswith(f"install -d -o bot -m 700 {volume}")


def test_the_image_holds_what_is_pinned_and_what_the_wheel_is_made_of() -> None:
    """It holds each library with its hash, and exactly the sources that the package check builds."""
    made = instructions()
    assert "--require-hashes -r requirements.txt" in made["RUN"][0]
    assert "--no-deps ." in made["RUN"][1]
    copied = {name for line in made["COPY"] for name in line.split()[:-1]}
    [built] = re.findall(r"^cp -R (.*) \S+$", (ROOT / ".ci/package").read_text(encoding="utf-8"), re.MULTILINE)
    assert copied == {"requirements.txt", *built.split()}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == copied


async def test_the_image_asks_the_bot_whether_it_lives(make_world: Make) -> None:
    """The file's own health check succeeds on a running bot, and fails if nothing answers."""
    [check] = instructions()["HEALTHCHECK"]
    _, *arguments = json.loads(check.partition("CMD ")[2])
    world = await make_world(http_port=free_port())
    assert await asked(arguments, world.given["http_port"]) == 0
    assert await asked(arguments, free_port()) == 1


async def asked(arguments: list[str], port: int) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={"HTTP_PORT": str(port)}, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()
