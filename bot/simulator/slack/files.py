"""Files that people attach: what Slack tells of them, and their bytes behind the app's token."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from bot.simulator.slack.records import JSON, Refused
from bot.simulator.slack.workspace import Workspace

FILE = "file"  # the name of a download in calls and faults, beside the Web API's methods
SCOPE = "files:read"
LOGIN_PAGE = (
    "<!DOCTYPE html><html><head><title>Sign in to Local team | Slack</title></head><body>Sign in to Slack</body></html>"
)
"""What a browser without a login gets, and so does an app without the scope: with status 200, not 403."""


@dataclass(frozen=True)
class Stored:
    """A file, with its bytes."""

    shown: JSON
    data: bytes


class Files:
    """The workspace's files. A deleted one is gone at once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stored: dict[str, Stored] = {}
        self._count = 0

    def add(self, user: str, name: str, data: bytes, mimetype: str, address: str, *, snippet: bool) -> JSON:
        """Store a file, and return it as messages show it. address: of this server."""
        self._count += 1
        team, key = self._workspace.team, f"F0{self._count:08d}"
        url = f"{address}/files-pri/{team.id}-{key}/{name.replace(' ', '_')}"
        shown: JSON = {
            "id": key,
            "created": int(self._workspace.now().timestamp()),
            "timestamp": int(self._workspace.now().timestamp()),
            "name": name,
            "title": name,
            "mimetype": mimetype,
            "filetype": name.rpartition(".")[2],
            "pretty_type": "",
            "user": user,
            "user_team": team.id,
            "editable": snippet,
            "size": len(data),
            "mode": "snippet" if snippet else "hosted",
            "is_external": False,
            "is_public": True,
            "file_access": "visible",
            "url_private": url,
            "url_private_download": url,
            "permalink": f"{team.url}files/{user}/{key}/{name}",
        }
        self._stored[key] = Stored(shown, data)
        return shown

    def delete(self, key: str) -> None:
        del self._stored[key]

    def info(self, args: JSON) -> JSON:
        """Answer `files.info`."""
        found = self._stored.get(str(args.get("file")))
        if found is None:
            raise Refused("file_not_found")
        return {"file": found.shown, "comments": [], "response_metadata": {"next_cursor": ""}}

    def download(self, path: str, headers: Mapping[str, str]) -> web.Response:
        """Answer a download: the bytes, or a page to sign in for whoever may not read them."""
        team = self._workspace.team
        if headers.get("Authorization") != f"Bearer {team.bot_token}" or SCOPE not in self._workspace.scopes:
            return web.Response(text=LOGIN_PAGE, content_type="text/html")
        found = self._stored.get(path.removeprefix(f"{team.id}-"))
        if found is None:
            return web.Response(text="<!DOCTYPE html><title>Not found</title>", content_type="text/html", status=404)
        return web.Response(body=found.data, headers={"Content-Type": found.shown["mimetype"]})


def in_connect(shown: JSON) -> JSON:
    """Return what a message in a channel shared with another company shows of a file: only where to ask for it."""
    return {"id": shown["id"], "created": 0, "timestamp": 0, "mode": "file_access", "file_access": "check_file_info"}
