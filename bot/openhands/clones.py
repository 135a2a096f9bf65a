"""Clones a repository by an Agent Server's own shell, before a start: what is wrong with it is known then."""

import difflib
import re
import shlex
from collections.abc import Sequence

from bot.core.errors import NoAccess, Rejected, Unavailable, Unsure
from bot.openhands.agent_server_answers import Ran
from bot.openhands.http import Http, read_as, shown_words

SHELL = "/api/bash/execute_bash_command"
CLONE_S = 300.0  # how long a clone may take
LOOK_S = 10.0
FOLDERS = 3  # tried in turn: a server that dies while it clones leaves one in which nothing can be done
NEAR = 5  # branches named at most

_THERE = "already exists and is not an empty directory"
_NO_BRANCH = re.compile(r"Remote branch \S+ not found")
_NO_NETWORK = re.compile(r"(?:Could not resolve|Failed to connect|timed out)[^\n]*")


class Clones:
    """Clones over HTTPS from GitHub, with the git login that the server has."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def clone(self, repository: str, branch: str | None, root: str) -> str:
        """Clone into a folder below `root`, unless that was done before, and return the folder.

        Raises `NoAccess`, `Rejected` (no such branch, or it took too long) and `Unavailable` (not known: try again).
        """
        address = _address(repository)
        name = repository.rpartition("/")[2]
        for number in range(1, FOLDERS + 1):
            folder = f"{root}/{name}" if number == 1 else f"{root}/{name}-{number}"
            picked = ["--branch", branch] if branch else []
            ran = await self._git(["clone", "--quiet", *picked, "--", address, folder], CLONE_S)
            if ran.exit_code == 0 or (_THERE in (ran.stderr or "") and await self._is_up_to_date(folder)):
                return folder
            if _THERE not in (ran.stderr or ""):
                await self._explain(ran, repository, branch, address)
        raise Unavailable("clones that did not end are in the way", faltered=True)

    async def opens(self, repository: str) -> bool:
        """Return whether the server's git can read a repository."""
        ran = await self._git(["ls-remote", "--heads", "--", _address(repository)], LOOK_S)
        return ran.exit_code == 0

    async def _is_up_to_date(self, folder: str) -> bool:
        """Bring a clone that was made before up to date; False: it is broken."""
        return (await self._git(["-C", folder, "pull", "--quiet", "--ff-only"], CLONE_S)).exit_code == 0

    async def _explain(self, ran: Ran, repository: str, branch: str | None, address: str) -> None:
        """Raise why a clone failed."""
        errors = ran.stderr or ""
        if ran.exit_code == -1:
            raise Rejected(f"cloning {repository} took longer than {CLONE_S / 60:g} minutes")
        if ran.exit_code != 128:
            raise Rejected("git could not be run on the server")
        if found := _NO_NETWORK.search(errors):
            raise Rejected(shown_words(found[0]))
        if branch and _NO_BRANCH.search(errors):
            raise Rejected(shown_words(no_branch(branch, repository, await self._branches(address))))
        raise NoAccess("the server's git can't open it")

    async def _branches(self, address: str) -> Sequence[str]:
        ran = await self._git(["ls-remote", "--heads", "--", address], LOOK_S)
        return re.findall(r"\trefs/heads/(\S+)", ran.stdout or "")

    async def _git(self, words: Sequence[str], within_s: float) -> Ran:
        command = shlex.join(["env", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C", "git", *words])
        body = {"command": command, "timeout": int(within_s)}
        try:
            answer = await self._http.post(SHELL, body, timeout_s=within_s + 10)
            return read_as(Ran, answer.value())
        except Unsure as err:  # the start has not gone out, and a clone that is there is found again
            raise Unavailable(str(err), faltered=True) from None


def _address(repository: str) -> str:
    return f"https://github.com/{repository}"


def no_branch(branch: str, repository: str, there: Sequence[str]) -> str:
    """Return a sentence that names the branches a person may have meant."""
    near = difflib.get_close_matches(branch, there, n=NEAR) or sorted(there)[:NEAR]
    named = f": is it {' or '.join(near)}?" if near else ""
    return f"{repository} has no branch {branch}{named}"
