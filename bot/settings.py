"""Environment and `.env` → Settings; everything that is wrong is reported at once, with how to get it right."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bot.core.commands import is_repository
from bot.core.errors import SettingsWrong
from bot.store.address import read_address


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


def address(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("it must begin with https:// (or http:// for a server of your own)")
    return value.rstrip("/")


def api_address(value: str) -> str:
    return f"{address(value)}/"


def bot_token(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("xoxb-"):
        raise ValueError("a bot token begins with xoxb-")
    return value


def app_token(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith("xapp-"):
        raise ValueError("an app-level token begins with xapp-")
    return value


def database(value: str) -> str:
    read_address(value)
    return value


def repository(value: str) -> str:
    if not is_repository(value):
        raise ValueError("write it as org/repo")
    return value


class Settings(BaseSettings):
    """What an operator sets. Descriptions say how to get the value."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore", case_sensitive=False
    )

    slack_bot_token: Annotated[SecretStr, AfterValidator(bot_token)] = Field(
        description="Slack app settings > OAuth & Permissions > Bot User OAuth Token (xoxb-…)"
    )
    slack_app_token: Annotated[SecretStr, AfterValidator(app_token)] = Field(
        description="Slack app settings > Basic Information > App-Level Tokens, scope connections:write (xapp-…)"
    )
    slack_api_url: Annotated[str, AfterValidator(api_address)] = Field(
        "https://slack.com/api/", description="leave it out, unless you test against a local Slack"
    )
    openhands_api_key: SecretStr = Field(
        SecretStr(""), description="OpenHands > Settings > API Keys; empty where your own server needs none"
    )
    openhands_base_url: Annotated[str, AfterValidator(address)] = Field(
        "https://app.all-hands.dev", description="where people open your OpenHands in the browser"
    )
    openhands_api: Literal["auto", "v1", "v0"] = Field(
        "auto", description="auto finds out what your server speaks; v1 or v0 says it"
    )
    database_url: Annotated[str, AfterValidator(database)] = Field(
        "sqlite:///openhands.db",
        description="sqlite:///file.db, where four slashes begin an absolute path, or postgresql://user:password@host/database",
    )
    poll_interval_s: float = Field(2.0, ge=0.05, le=60, description="seconds from 0.05 to 60")
    notify_channel: str | None = Field(None, description="name or id of a channel the bot is in")
    default_repository: Annotated[str, AfterValidator(repository)] | None = Field(None, description="org/repo")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: LogFormat = Field(LogFormat.CONSOLE, description="console or json")
    http_port: int | None = Field(
        None, ge=1, le=65535, description="a free port, from 1 to 65535; without it no server"
    )
    stale_after_h: float = Field(12.0, gt=0, le=1000, description="hours, fractions allowed, above 0 and up to 1000")
    max_concurrent_runs: int = Field(10, ge=1, le=1000, description="a whole number from 1 to 1000")


def load(**given: Any) -> Settings:
    """Read the settings; `given` goes before the environment. Raises `SettingsWrong` with a line for each problem."""
    try:
        return Settings(**given)
    except ValidationError as err:
        raise SettingsWrong(
            [problem(detail["loc"], detail["type"], detail["msg"]) for detail in err.errors()]
        ) from None


def problem(place: tuple[int | str, ...], kind: str, said: str) -> str:
    """Say what is wrong with one setting and how to get it right; its value, which may be a secret, stays out."""
    name = str(place[0]).lower()
    said = said.removeprefix("Value error, ").replace("Input should be", "it must be")
    what = "is missing" if kind == "missing" else f"is wrong: {said}"
    return f"{name.upper()} {what}. How to get it: {how_to(name)}."


def how_to(name: str) -> str:
    """Return how an operator gets a setting's value. name: the field, as `slack_bot_token`."""
    return Settings.model_fields[name].description or ""
