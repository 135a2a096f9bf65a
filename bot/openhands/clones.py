"""Gets a repository into a run's folder by an Agent Server's own shell, before a start: what is wrong is known then."""

import re
import shlex
from collections.abc import Mapping, Sequence

from bot.core.errors import NoAccess, Rejected, Unavailable, Unsure
from bot.openhands.agent_server_answers import Ran
from bot.openhands.http import Http, read_as, shown_words

SHELL = "/api/bash/execute_bash_command"
CLONE_S = 300.0  # how long a clone may take
LOOK_S = 10.0
FOLDERS = 3  # tried in turn: a server that dies while it clones leaves one in which nothing can be done

_THERE = "already exists"
_CHECKED_OUT = "refusing to fetch into branch"
_TOLD = re.compile(r"(?:Remote branch|couldn't find remote ref|Could not resolve|Failed to connect|timed out)[^\n]*")
"""What git says that people can make something of, when neither the name nor the rights are what is wrong."""


class Clones:
    """Clones over HTTPS from GitHub, or makes worktrees of clones that are there, with the git login that the server has."""

    def __init__(self, http: Http, workspaces: Mapping[str, str] | None = None) -> None:
        """workspaces: by the name of a repository, the folder of a clone that an operator keeps on the server."""
        self._http = http
        self._workspaces = {name.lower(): folder for name, folder in (workspaces or {}).items()}

    async def checkout(self, repository: str, branch: str | None, root: str) -> str:
        """Get a repository into a folder below `root`, unless that was done before, and return the folder.

        Raises `NoAccess`, `Rejected` (it took too long, or can't be done there) and `Unavailable` (not known: try again).
        """
        kept = self._workspaces.get(repository.lower())
        name = repository.rpartition("/")[2]
        for number in range(1, FOLDERS + 1):
            suffix = "" if number == 1 else f"-{number}"
            folder = f"{root}/{name}{suffix}"
            if kept is None:
                there = await self._clone(repository, branch, folder)
            else:
                there = await self._worktree(
                    repository, branch, folder, kept, f"openhands/{root.rpartition('/')[2]}{suffix}"
                )
            if there:
                return folder
        raise Unavailable("clones that did not end are in the way", faltered=True)

    async def opens(self, repository: str) -> bool:
        """Return whether the server's git can read a repository."""
        return (await self._heads(repository)).exit_code == 0

    async def branches(self, repository: str) -> Sequence[str] | None:
        """Return the names of a repository's branches; None if the server's git can't read it."""
        ran = await self._heads(repository)
        return re.findall(r"\trefs/heads/(\S+)", ran.stdout or "") if ran.exit_code == 0 else None

    async def _heads(self, repository: str) -> Ran:
        kept = self._workspaces.get(repository.lower())
        where = ["ls-remote", "--heads", "--", _address(repository)]
        return await self._git(["-C", kept, "ls-remote", "--heads", "origin"] if kept else where, LOOK_S)

    async def _clone(self, repository: str, branch: str | None, folder: str) -> bool:
        """Return whether the folder holds a clone that is up to date; False: what is there is broken."""
        picked = ["--branch", branch] if branch else []
        ran = await self._git(["clone", "--quiet", *picked, "--", _address(repository), folder], CLONE_S)
        if ran.exit_code == 0:
            return True
        if _THERE in (ran.stderr or ""):
            return (await self._git(["-C", folder, "pull", "--quiet", "--ff-only"], CLONE_S)).exit_code == 0
        _explain(ran, repository)
        return False

    async def _worktree(self, repository: str, branch: str | None, folder: str, kept: str, own: str) -> bool:
        """Return whether the folder holds a worktree of the clone in `kept`, on a branch of its own.

        That branch begins where the remote's is now, whatever the clone itself has. False: what is there is broken.
        """
        begin = f"refs/heads/{branch}" if branch else "HEAD"
        ran = await self._git(["-C", kept, "fetch", "--quiet", "origin", f"{begin}:refs/heads/{own}"], CLONE_S)
        if ran.exit_code == 0:
            ran = await self._git(["-C", kept, "worktree", "add", "--quiet", folder, own], CLONE_S)
            if ran.exit_code == 0:
                return True
        if _CHECKED_OUT in (ran.stderr or ""):
            return (await self._git(["-C", folder, "diff", "--quiet", "HEAD"], LOOK_S)).exit_code == 0
        if _THERE not in (ran.stderr or ""):
            _explain(ran, repository)
        return False

    async def _git(self, words: Sequence[str], within_s: float) -> Ran:
        command = shlex.join(["env", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "git", *words])
        body = {"command": command, "timeout": int(within_s)}
        try:
            answer = await self._http.post(SHELL, body, timeout_s=within_s + 10)
            return read_as(Ran, answer.value())
        except Unsure as err:  # the start has not gone out, and a clone that is there is found again
            raise Unavailable(str(err), faltered=True) from None


def _explain(ran: Ran, repository: str) -> None:
    """Raise why a clone or worktree failed."""
    errors = ran.stderr or ""
    if ran.exit_code == -1:
        raise Rejected(f"cloning {repository} took longer than {CLONE_S / 60:g} minutes")
    if ran.exit_code != 128:
        raise Rejected("git could not be run on the server")
    if found := _TOLD.search(errors):
        raise Rejected(shown_words(found[0]))
    raise NoAccess("the server's git can't open it")


def _address(repository: str) -> str:
    return f"https://github.com/{repository}"
