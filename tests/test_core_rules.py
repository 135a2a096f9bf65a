"""The core only decides and renders: it has no waiting, clock, randomness, environment, log or library.

Only the core decides: `lifecycle` chooses the state of a run.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARIES = {"markdown": {"emoji", "markdown_it", "mdit_py_plugins"}}
"""The only libraries of the core: those that read what the agent writes."""
FORBIDDEN_IMPORTS = frozenset(
    {"asyncio", "logging", "os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time", "uuid"}
)
FORBIDDEN_NAMES = frozenset({"environ", "getenv", "now", "open", "print", "today", "utcnow"})


def core() -> list[str]:
    """Return the names of all modules in the core's folder."""
    return sorted(file.stem for file in (ROOT / "bot" / "core").glob("*.py"))


def breaches(source: str, libraries: frozenset[str] = frozenset()) -> list[str]:
    """Return what a core module does but must not, in the order of its lines."""
    allowed = (sys.stdlib_module_names - FORBIDDEN_IMPORTS) | {"bot"} | libraries
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                found.append((node.lineno, "async"))
            case ast.Import():
                found += [(node.lineno, f"import {name.name}") for name in node.names if top(name.name) not in allowed]
            case ast.ImportFrom() if node.level or top(node.module or "") not in allowed:
                found.append((node.lineno, f"import {node.module}"))
            case ast.Attribute() if node.attr in FORBIDDEN_NAMES:
                found.append((node.lineno, node.attr))
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_NAMES:
                found.append((node.lineno, name))
            case _:
                pass
    return [what for _, what in sorted(found)]


DECIDED = frozenset(
    {"waiting", "reason", "action", "stop_by", "stop_at", "resume_by", "approved", "decided_by", "gone"}
    | {"turn", "attempt", "doubtful_follow_up"}
)
"""The fields of a run that only `lifecycle` changes, beside its state."""


def decisions(source: str) -> list[str]:
    """Return each creation of a run and each change of a run's decided field. Ignores the states of follow-ups."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="Run")):
                found.append("Run")
            case ast.Call(func=ast.Name(id="replace"), args=[what], keywords=given):
                found += [each.arg for each in given if each.arg in DECIDED]
                found += [
                    "state"
                    for each in given
                    if each.arg == "state"
                    and "follow_up" not in ast.unparse(what)
                    and "FollowUpState" not in ast.unparse(each.value)
                ]
            case _:
                pass
    return found


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", core())
def test_a_core_module_only_decides(module: str) -> None:
    """Times and ids are arguments, so that every case can be tested and nothing depends on the machine."""
    source = (ROOT / "bot" / "core" / f"{module}.py").read_text(encoding="utf-8")
    assert breaches(source, frozenset(LIBRARIES.get(module, ()))) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("async def f(): ...", ["async"]),
        ("async def f():\n await g()", ["async", "async"]),
        ("import os.path", ["import os.path"]),
        ("import structlog", ["import structlog"]),
        ("from uuid import uuid4", ["import uuid"]),
        ("from . import words", ["import None"]),
        ("from datetime import datetime\ndatetime.now(UTC)", ["now"]),
        ("open('file')", ["open"]),
        ("from bot.core.model import Run\nimport re\nfrom datetime import datetime", []),
    ],
)
def test_a_breach_is_seen(source: str, found: list[str]) -> None:
    """The rule itself is tested on what it must catch and on what it must allow."""
    assert breaches(source) == found


MODULES = [file for file in sorted((ROOT / "bot").glob("**/*.py")) if "simulator" not in file.parts]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_lifecycle_decides_a_state(file: Path) -> None:
    """Other modules call its functions, so that all rules about a run are in one place."""
    decides = decisions(file.read_text(encoding="utf-8")) != []
    assert decides is (file.stem == "lifecycle")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("run = Run(id=id, state=RunState.QUEUED)", ["Run"]),
        ("replace(run, state=RunState.NEEDS_GO, asked_at=now)", ["state"]),
        ("replace(run, state=state)", ["state"]),
        ("replace(fresh, stop_by=None, stop_at=None)", ["stop_by", "stop_at"]),
        ("replace(run, card=replace(run.card, gone=True))", ["gone"]),
        ("replace(follow_up, state=state)", []),
        ("replace(one, state=FollowUpState.WAITING)", []),
        ("lifecycle.stop(run, by, now)", []),
        ("run.state is RunState.DONE", []),
    ],
)
def test_a_decision_elsewhere_is_seen(source: str, found: list[str]) -> None:
    """The rule is tested on what it must catch and on what it must allow."""
    assert decisions(source) == found


def test_the_whole_room_must_be_covered_to_the_last_branch() -> None:
    """`make test` requires full coverage of the same folder, and the folder is not empty."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert '--include="bot/core/*" --fail-under=100' in makefile
    assert {"lifecycle", "words", "cards"} <= {*core()}
