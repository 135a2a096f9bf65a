"""The Slack app's manifest, `manifest.yml`: as text, or in a link to Slack's page for a new app."""

import re
from importlib.resources import files
from urllib.parse import quote

COMMAND = "/openhands"
CREATE = "https://api.slack.com/apps?new_app=1&manifest_yaml="
NAME = re.compile(r"/[a-z0-9_-]{1,31}")
ITEM = re.compile(r"^( +)  - (?=\S+$)", re.MULTILINE)
COMMENT = re.compile(r"^#.*\n|\s+# .*$", re.MULTILINE)


def manifest(command: str = COMMAND) -> str:
    """Return the manifest as YAML, with this slash command. Raises `ValueError` for one that Slack would refuse."""
    if not NAME.fullmatch(command):
        raise ValueError("a slash command is / and up to 31 small letters, digits, _ or -, such as /agent")
    return files(__package__).joinpath("manifest.yml").read_text(encoding="utf-8").replace(COMMAND, command)


def link(command: str = COMMAND) -> str:
    """Return the address of Slack's page for a new app, filled in with the manifest without its comments.

    Items of lists stand below their key instead of further in: some browsers take no more than 2,048 characters.
    """
    return CREATE + quote(ITEM.sub(r"\1- ", COMMENT.sub("", manifest(command)).strip()), safe=":/")
