"""`policy.toml` → Rules. Read as a whole: every mistake is named with its line, and a wrong file changes nothing."""

import re
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bot.core.errors import SettingsWrong
from bot.core.policy import DIRECT, EVERYBODY, KEYS, NONE, OPEN, REQUESTER, Approval, Rule, Rules

PERSON = re.compile(r"[UWS][A-Z0-9]{2,31}")
CHANNEL = re.compile(r"[CDG][A-Z0-9]{2,31}")
PATTERN = re.compile(r"[\w.*-]+(?:/[\w.*-]+)+|\*")
TOML_LINE = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)")


def _person(one: str) -> str:
    if one not in (EVERYBODY, REQUESTER) and not PERSON.fullmatch(one):
        raise ValueError(f'"{one}" is no id: write U… of a person, S… of a user group, "everybody" or "requester"')
    return one


def _admin(one: str) -> str:
    if not PERSON.fullmatch(one):
        raise ValueError(f'"{one}" is no id: write U… of a person or S… of a user group')
    return one


def _channel(one: str) -> str:
    if one != DIRECT and not CHANNEL.fullmatch(one):
        raise ValueError(f'"{one}" is no id: write C… of a channel, or "direct" for direct messages')
    return one


def _pattern(one: str) -> str:
    if one != NONE and not PATTERN.fullmatch(one):
        raise ValueError(f'"{one}" is no repository: write "org/repo", "org/*", or "none" for tasks without any')
    return one


People = tuple[Annotated[str, AfterValidator(_person)], ...]
Channels = tuple[Annotated[str, AfterValidator(_channel)], ...]
Patterns = tuple[Annotated[str, AfterValidator(_pattern)], ...]


class Part(BaseModel):
    """What the general part of the file and each of its rules can say."""

    model_config = ConfigDict(extra="forbid")

    channels: Channels = ()
    repositories: Patterns = ()
    starters: People | None = None
    approvers: People | None = None
    watchers: People | None = None
    stop: People | None = None
    resume: People | None = None
    retry: People | None = None
    answer: People | None = None
    approval: Approval | None = None

    def people(self) -> Mapping[str, tuple[str, ...]]:
        return {key: ids for key in KEYS if (ids := getattr(self, key)) is not None}


class Named(Part):
    """One of `[[rules]]`."""

    name: Annotated[str, Field(min_length=1, max_length=40)]


class Whole(Part):
    """The whole file."""

    admins: tuple[Annotated[str, AfterValidator(_admin)], ...] = ()
    denied_channels: Channels = ()
    rules: tuple[Named, ...] = ()

    def as_rules(self) -> Rules:
        return Rules(
            admins=self.admins,
            channels=self.channels,
            denied_channels=self.denied_channels,
            repositories=self.repositories,
            general=Rule(people=self.people(), approval=self.approval),
            rules=tuple(
                Rule(
                    name=one.name,
                    channels=one.channels,
                    repositories=one.repositories,
                    people=one.people(),
                    approval=one.approval,
                )
                for one in self.rules
            ),
        )


def read(file: Path | None) -> tuple[Rules, str]:
    """Return the rules of a file, and its fingerprint; without a file the open rules. Raises `SettingsWrong`."""
    if file is None:
        return OPEN, ""
    try:
        raw = file.read_bytes()
        text = raw.decode()
    except OSError as err:
        raise SettingsWrong([f"{file}: it can't be read ({err.strerror})"]) from None
    except UnicodeDecodeError:
        raise SettingsWrong([f"{file}: it is not UTF-8"]) from None
    return parse(text, file.name), sha256(raw).hexdigest()


def parse(text: str, name: str = "policy.toml") -> Rules:
    """Return the rules of a text. name: of its file, for the mistakes. Raises `SettingsWrong`."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        said = TOML_LINE.fullmatch(str(err))
        line = said[2] if said and said[2] else len(text.splitlines())
        raise SettingsWrong([f"{name}, line {line}: {said[1] if said else err}"]) from None
    try:
        return Whole.model_validate(found).as_rules()
    except ValidationError as err:
        problems = sorted((line_of(text, one["loc"], one["input"]), _problem(one)) for one in err.errors())
        raise SettingsWrong([f"{name}, line {line}: {what}" for line, what in problems]) from None


def _problem(found: Any) -> str:
    """Return what is wrong with a value."""
    keys = [str(part) for part in found["loc"] if isinstance(part, str) and part != "rules"]
    key = keys[-1] if keys else "rules"
    match found["type"]:
        case "extra_forbidden":
            return f"{key} is no key of this file"
        case "missing":
            return f"{key} is missing"
        case "tuple_type":
            return f"{key} must be a list, as in [{'…'}]"
        case _:
            return f"{key}: {found['msg'].removeprefix('Value error, ').replace('Input should be', 'it must be')}"


def line_of(text: str, place: tuple[int | str, ...], value: object) -> int:
    """Return the line of a value that was found in a TOML text, or of the nearest thing around it that stands there.

    place: the keys and positions that lead to it, as the readers of the file name them.
    """
    lines, rest, start = text.splitlines(), list(place), 0
    if rest[:1] == ["rules"] and len(rest) > 1 and isinstance(rest[1], int):
        headers = [at for at, line in enumerate(lines) if re.match(r"\s*\[\[\s*rules\s*\]\]", line)]
        start, rest = (headers[rest[1]] if rest[1] < len(headers) else 0), rest[2:]
    key = next((part for part in rest if isinstance(part, str)), "")
    end = _first(lines, start + 1, r"\s*\[\[?\s*[\w\"']") or len(lines)
    at = _first(lines[:end], start, rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]") if key else None
    if at is None and not start:  # a table where none belongs
        at = _first(lines, 0, rf"\s*\[+\s*{re.escape(key)}\b") if key else None
    if at is None:
        return start + 1
    if isinstance(value, str) and any(isinstance(part, int) for part in rest):
        within = _first(lines, at, rf".*[\"']{re.escape(value)}[\"']")
        return (at if within is None else within) + 1
    return at + 1


def _first(lines: list[str], start: int, pattern: str) -> int | None:
    return next((at for at in range(start, len(lines)) if re.match(pattern, lines[at])), None)
