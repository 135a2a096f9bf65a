"""What is installed is what is pinned: today, and after the next release of anything.

Older pips, such as the 23.2 that Python 3.11.7 brings, take a pin for the very form it stands in: where `coverage` is
pinned and something asks for `coverage[toml]`, they take the newest release, and end since that one has no hash. The
other way round is the same.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FILES = {"requirements.txt": (), "requirements-dev.txt": ("dev",)}
"""With the groups of pyproject.toml that each is made for."""

Form = tuple[str, frozenset[str]]
"""A name and the extras it stands with."""


def pins(text: str) -> list[Requirement]:
    """Read the requirements of a file; their hashes are not looked at."""
    return [Requirement(line.rstrip("\\ ")) for line in re.findall(r"^[^\s#].*", text, re.MULTILINE)]


def form(requirement: Requirement) -> Form:
    return canonicalize_name(requirement.name), frozenset(requirement.extras)


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Return whether it is meant for this machine, and for what was asked for with one of these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})


def asked_by(pin: Requirement) -> Iterator[Requirement]:
    """Say what a pinned package asks for, by its own words."""
    for line in metadata.requires(pin.name) or ():
        if applies(asked := Requirement(line), pin.extras):
            yield asked


def missing(text: str, roots: Iterable[str]) -> list[str]:
    """List what is asked for and not pinned in the form it is asked for, with who asks."""
    pinned = [pin for pin in pins(text) if applies(pin, ())]
    asked = [(root, "pyproject.toml") for root in map(Requirement, roots)]
    asked += [(one, str(pin)) for pin in pinned for one in asked_by(pin)]
    forms = {form(pin) for pin in pinned}
    return sorted({f"{one}, for {who}" for one, who in asked if form(one) not in forms})


@pytest.mark.parametrize("name", FILES)
def test_everything_is_pinned_in_the_form_it_is_asked_for(name: str) -> None:
    """With the extra by whom asks with it, and without by whom asks without."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    roots = [*project["project"]["dependencies"]]
    for group in FILES[name]:
        roots += project["dependency-groups"][group]
    assert missing((ROOT / name).read_text(encoding="utf-8"), roots) == []


@pytest.mark.parametrize("name", FILES)
def test_a_name_has_one_version(name: str) -> None:
    """Its two forms say the same, hashes included."""
    blocks = re.findall(r"^[^\s#].*\n(?: .*\n)+", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    without = [re.sub(r"\[.*?\]", "", block, count=1) for block in blocks]
    assert len(set(without)) == len({pin.name for pin in pins("".join(blocks))})


@pytest.mark.parametrize("name", FILES)
def test_the_tests_run_on_what_is_pinned(name: str) -> None:
    """What passes here is what people install."""
    pinned = [pin for pin in pins((ROOT / name).read_text(encoding="utf-8")) if applies(pin, ())]
    assert [str(pin) for pin in pinned if metadata.version(pin.name) not in pin.specifier] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("coverage==7.17.4\npytest==9.2.0\npytest-cov==7.1.0\n", "coverage[toml]"),
        ("alembic==1.20.1\nsqlalchemy[asyncio]==2.1.9 \\\n    --hash=sha256:00\n", "SQLAlchemy"),
    ],
    ids=["an extra is left out", "only with the extra"],
)
def test_a_pin_in_another_form_is_seen(text: str, found: str) -> None:
    """The rule itself is tried on both mistakes."""
    asked = [line.partition(">=")[0] for line in missing(text, ())]
    assert found in asked
