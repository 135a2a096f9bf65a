"""Environment and `.env` → Settings. All problems are reported at once, each with how to fix it."""

import difflib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bot.core.commands import is_repository
from bot.core.errors import SettingsWrong
from bot.openhands.agent_server import Hosting
from bot.store.address import PostgresServer, read_address

FILE = Path(".env")
ENCODING = "utf-8-sig"  # editors on Windows write a byte order mark
LIKENESS = 0.8
"""Similarity from which a name counts as a typo of another: NOTIFY_CHANEL does, HTTP_PROXY for HTTP_PORT does not."""
NOT_UTF_8 = f"`{FILE}` is not UTF-8: save it as UTF-8."


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


def address(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("it must begin with https:// (or http:// for a server of your own)")
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = None
    if parts is None or not parts.hostname:
        raise ValueError("it names no server")
    if parts.username or parts.password:
        raise ValueError("it must name no user or password: the address is shown to people")
    if parts.query or parts.fragment:
        raise ValueError("it must end before the ? or #")
    return value.rstrip("/")


def api_address(value: str) -> str:
    return f"{address(value)}/"


ROTATING = "xoxe"
"""How tokens begin that end after twelve hours."""


def bot_token(value: SecretStr) -> SecretStr:
    if value.get_secret_value().startswith(ROTATING):
        raise ValueError(
            "a token that begins with xoxe ends after twelve hours, since token rotation is on under OAuth & Permissions > "
            "Advanced token security; it can't be switched off again, so make the app anew from manifest.yml"
        )
    if not value.get_secret_value().startswith("xoxb-"):
        raise ValueError("a bot token begins with xoxb-")
    return value


def app_token(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("xapp-"):
        raise ValueError("an app-level token begins with xapp-")
    return value


def printable(value: SecretStr) -> SecretStr:
    if not (value.get_secret_value().isascii() and value.get_secret_value().isprintable()):
        raise ValueError("it has characters that no key has: copy it again")
    return value


def database(value: str) -> str:
    read_address(value)
    return value


def repository(value: str) -> str:
    if not is_repository(value):
        raise ValueError("write it as org/repo")
    return value


def retention(value: int) -> int:
    if 0 < value < 8:
        raise ValueError("the keys of requests are kept for 7 days, and runs for longer")
    return value


def absolute(value: str) -> str:
    if not PurePosixPath(value).is_absolute() and not PureWindowsPath(value).is_absolute():
        raise ValueError("it must begin at the root, since it is on the server")
    return value


def clones(value: str) -> str:
    pairs(value)
    return value


def pairs(value: str) -> dict[str, str]:
    """Parse `org/repo = /path, org/other = /path`."""
    found: dict[str, str] = {}
    for part in value.split(","):
        name, _, folder = (word.strip() for word in part.partition("="))
        found[repository(name)] = absolute(folder).rstrip("/")
    return found


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class Settings(BaseSettings):
    """What an operator sets. Descriptions say how to get a secret, and which values every other setting takes."""

    model_config = SettingsConfigDict(env_file=FILE, env_file_encoding=ENCODING, extra="ignore", case_sensitive=False)

    slack_bot_token: Annotated[SecretStr, AfterValidator(bot_token), AfterValidator(printable)] = Field(
        description="Slack app settings > OAuth & Permissions > Bot User OAuth Token (xoxb-…)"
    )
    slack_app_token: Annotated[SecretStr, AfterValidator(app_token), AfterValidator(printable)] = Field(
        description="Slack app settings > Basic Information > App-Level Tokens, scope connections:write (xapp-…)"
    )
    slack_api_url: Annotated[str, AfterValidator(api_address)] = Field(
        "https://slack.com/api/", description="nothing, unless you test against a local Slack"
    )
    openhands_api_key: Annotated[SecretStr, AfterValidator(printable)] = Field(
        SecretStr(""), description="OpenHands > Settings > API Keys; empty where your own server needs none"
    )
    openhands_base_url: Annotated[str, AfterValidator(address)] = Field(
        "https://app.all-hands.dev", description="the address at which people open your OpenHands in the browser"
    )
    openhands_public_url: Annotated[str, AfterValidator(address)] | None = Field(
        None, description="the address of OpenHands' pages, if it is another one; /conversations/ follows it"
    )
    openhands_api: Annotated[Literal["auto", "v1", "v0", "agent"], BeforeValidator(lower)] = Field(
        "auto", description="auto, which finds out what your server speaks; or v1, v0 or agent, which says it"
    )
    openhands_agent_hosts: str | None = Field(
        None,
        description="hosts of agent servers that OpenHands may name, as *.runtime.example.com, 10.0.0.5; without it any",
    )
    openhands_agent_profile: str | None = Field(
        None, description="name of an agent profile of your Agent Server; without it the active one"
    )
    openhands_workspace_root: Annotated[str, AfterValidator(absolute)] | None = Field(
        None, description="a folder of your Agent Server, from its root: /srv/runs; without it one in its home"
    )
    workspaces: Annotated[str, AfterValidator(clones)] | None = Field(
        None,
        description="org/repo = /srv/repo, org/other = /srv/other: clones on your Agent Server, of which runs get worktrees",
    )
    database_url: Annotated[str, AfterValidator(database)] = Field(
        "sqlite:///openhands.db",
        description="sqlite:///file.db, where four slashes begin an absolute path, or postgresql://user:password@host/database",
    )
    poll_interval_s: float = Field(2.0, ge=0.05, le=60, description="seconds from 0.05 to 60")
    notify_channel: str | None = Field(None, description="name or id of a channel the bot is in")
    policy_file: Path | None = Field(None, description="a file that exists, such as policy.toml")
    default_repository: Annotated[str, AfterValidator(repository)] | None = Field(None, description="org/repo")
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(upper)] = Field(
        "INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Annotated[LogFormat, BeforeValidator(lower)] = Field(LogFormat.CONSOLE, description="console or json")
    http_port: int | None = Field(
        None, ge=1, le=65535, description="a free port, from 1 to 65535; without it no server"
    )
    http_host: str = Field(
        "127.0.0.1", description="the address that HTTP_PORT is opened on; 0.0.0.0 for all, as in a container"
    )
    stale_after_h: float = Field(12.0, gt=0, le=1000, description="hours, fractions allowed, above 0 and up to 1000")
    max_concurrent_runs: int = Field(10, ge=1, le=1000, description="a whole number from 1 to 1000")
    max_queued_per_person: int = Field(5, ge=0, le=1000, description="a whole number up to 1000; or 0, for no limit")
    max_runs_per_hour: int = Field(20, ge=0, le=1000, description="a whole number up to 1000; or 0, for no limit")
    retention_days: Annotated[int, AfterValidator(retention)] = Field(
        90, ge=0, le=36500, description="whole days, from 8; or 0, which keeps all"
    )

    @model_validator(mode="before")
    @classmethod
    def without_empty(cls, found: dict[str, Any]) -> dict[str, Any]:
        """Drop empty values, which stand for the default.

        The environment has overridden the file by now, so an empty variable there hides the value in the file.
        """
        return {name: value for name, value in found.items() if value != ""}

    @property
    def agent_hosts(self) -> tuple[str, ...]:
        """The patterns of `openhands_agent_hosts`; none: any host."""
        return tuple((self.openhands_agent_hosts or "").lower().replace(",", " ").split())

    @property
    def hosting(self) -> Hosting:
        """What is set for an Agent Server."""
        return Hosting(
            profile=self.openhands_agent_profile or "",
            root=self.openhands_workspace_root or "",
            workspaces=pairs(self.workspaces) if self.workspaces else {},
        )


def load(**given: Any) -> Settings:
    """Read the settings; `given` overrides the environment. Raises `SettingsWrong` with a line for each problem."""
    try:
        return Settings(**given)
    except UnicodeDecodeError:
        raise SettingsWrong([NOT_UTF_8]) from None
    except ValidationError as err:
        problems = [problem(detail["loc"], detail["type"], detail["msg"]) for detail in err.errors()]
        if any(detail["type"] == "missing" for detail in err.errors()):
            problems.append(where_to_put_them())
        raise SettingsWrong(problems) from None


def problem(place: tuple[int | str, ...], kind: str, said: str) -> str:
    """Return what is wrong with one setting and how to fix it, without its value, which may be a secret."""
    name = str(place[0]).lower()
    said = said.removeprefix("Value error, ").replace("Input should be", "it must be")
    what = "is missing" if kind == "missing" else f"is wrong: {said}"
    secret = Settings.model_fields[name].annotation is SecretStr
    return f"{name.upper()} {what}. {'How to get it' if secret else 'Expected'}: {how_to(name)}."


def where_to_put_them() -> str:
    if FILE.exists() or not Path(".env.example").exists():
        return f"Put them in `{FILE}` in {Path.cwd()}, or in the environment."
    return f"Put them in `{FILE}`: cp .env.example {FILE}"


def how_to(name: str) -> str:
    """Return how an operator gets a setting's value. name: the field, such as `slack_bot_token`."""
    return Settings.model_fields[name].description or ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that seems meant for the bot, but that it does not read."""

    name: str
    where: str
    meant: str | None
    """The setting with a similar name."""

    def __str__(self) -> str:
        did = f"did you mean {self.meant}?" if self.meant else "it changes nothing, so take it out"
        return f"{self.name} in {self.where} is no setting of the bot: {did}"


def unknown() -> list[Unknown]:
    """Return the names in `.env` that are not settings, and those in the environment that look like a typo of one.

    Call it after `load`, which reports what is wrong with the file itself.
    """
    written = [name.upper() for name in dotenv_values(FILE, encoding=ENCODING)]
    in_file = [Unknown(name, f"`{FILE}`", alike(name)) for name in written if not is_setting(name)]
    around = [
        Unknown(name, "the environment", alike(name)) for name in map(str.upper, os.environ) if not is_setting(name)
    ]
    return [*in_file, *(one for one in around if one.meant)]


def risks(settings: Settings) -> list[str]:
    """Return a sentence for each setting that lets others read along: no reason not to start."""
    found = []
    with suppress(OSError):
        if FILE.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            found.append(f"`{FILE}` can be read by other users of this machine: chmod 600 {FILE}")
    for name in ("slack_api_url", "openhands_base_url"):
        url = urlsplit(getattr(settings, name))
        if url.scheme == "http" and not is_near(url.hostname or ""):
            found.append(f"{name.upper()} sends the key unencrypted to another network: write https://")
    where = read_address(settings.database_url)
    if isinstance(where, PostgresServer) and not where.encrypted and not all(map(is_near, where.hosts)):
        found.append("DATABASE_URL does not insist on encryption: add ?sslmode=verify-full, or require")
    return found


def is_near(host: str) -> bool:
    """Return whether a host is on this machine or in a private network: a name without a dot, or a private address."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan"))
    return address.is_private or address.is_link_local


def is_setting(name: str) -> bool:
    return name.lower() in Settings.model_fields


def alike(name: str) -> str | None:
    """Return the setting with the most similar name, if any is similar enough."""
    names = map(str.upper, Settings.model_fields)
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=LIKENESS)), None)
