"""What is installed is what is pinned, today and after the next release of any package.

Older pips, such as the 23.2 of Python 3.11.7, apply a pin only to the exact form in which it is written: if `coverage`
is pinned and something requires `coverage[toml]`, they take the newest release, and fail since that has no hash. The
reverse is true as well.
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
"""Each file, with the dependency groups of pyproject.toml that it pins."""

Form = tuple[str, frozenset[str]]
"""A name and its extras."""


def pins(text: str) -> list[Requirement]:
    """Return the requirements of a file, without their hashes."""
    return [Requirement(line.rstrip("\\ ")) for line in re.findall(r"^[^\s#].*", text, re.MULTILINE)]


def form(requirement: Requirement) -> Form:
    return canonicalize_name(requirement.name), frozenset(requirement.extras)


def applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    """Return whether a requirement applies to this machine with any or none of these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})


def asked_by(pin: Requirement) -> Iterator[Requirement]:
    """Yield what a pinned package requires, from its own metadata."""
    for line in metadata.requires(pin.name) or ():
        if applies(asked := Requirement(line), pin.extras):
            yield asked


def missing(text: str, roots: Iterable[str]) -> list[str]:
    """Return what is required but not pinned in the required form, with who requires it."""
    pinned = [pin for pin in pins(text) if applies(pin, ())]
    asked = [(root, "pyproject.toml") for root in map(Requirement, roots)]
    asked += [(one, str(pin)) for pin in pinned for one in asked_by(pin)]
    forms = {form(pin) for pin in pinned}
    return sorted({f"{one}, for {who}" for one, who in asked if form(one) not in forms})


@pytest.mark.parametrize("name", FILES)
def test_everything_is_pinned_in_the_form_it_is_asked_for(name: str) -> None:
    """A package required with and without an extra is pinned in both forms."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    roots = [*project["project"]["dependencies"]]
    for group in FILES[name]:
        roots += project["dependency-groups"][group]
    assert missing((ROOT / name).read_text(encoding="utf-8"), roots) == []


@pytest.mark.parametrize("name", FILES)
def test_a_name_has_one_version(name: str) -> None:
    """All forms of a name have the same version and hashes."""
    blocks = re.findall(r"^[^\s#].*\n(?: .*\n)+", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    without = [re.sub(r"\[.*?\]", "", block, count=1) for block in blocks]
    assert len(set(without)) == len({pin.name for pin in pins("".join(blocks))})


@pytest.mark.parametrize("name", FILES)
def test_the_tests_run_on_what_is_pinned(name: str) -> None:
    """The tests run on the versions that people install."""
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
    """The rule itself is tested on both mistakes."""
    asked = [line.partition(">=")[0] for line in missing(text, ())]
    assert found in asked
