"""What an Agent Server has around its conversations: a version, profiles, models, folders and git."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import dropwhile
from typing import Literal
from uuid import uuid4

Version = Literal["1.58.2", "1.49.1"]
NEW: Version = "1.58.2"
OLD: Version = "1.49.1"
COMMON = (
    "conversation_runtime_routes_v1",
    "profile_secret_scope_v1",
    "credential_binding_v1",
    "credential_binding_readiness_probe_v1",
    "credential_binding_activation_guard_v1",
)
CAPABILITIES: dict[str, tuple[str, ...]] = {
    NEW: (
        *COMMON,
        "idempotent_conversation_create_v1",
        "tool_catalog_v1",
        "agent_profile_draft_materialize_v1",
        "agent_launch_pipeline_v1",
    ),
    OLD: COMMON,
}
HOME = "/srv/openhands"
REMOTE = "https://github.com/"
BRANCHES = ("main", "develop")

Death = Literal["before it is made", "before its message", "before it runs"]
"""Where in a start the server dies."""


@dataclass
class Profile:
    """A profile that agents are started with."""

    name: str
    model: str = "default"  # the name of a model's profile
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(frozen=True)
class Ran:
    """What a command of the shell came to."""

    exit_code: int
    stdout: str | None = None
    stderr: str | None = None


@dataclass
class Machine:
    """One Agent Server's own things; a test changes what it wants.

    models: what can be named as a model; secrets: those the operator stored, by name.
    clone_s: how long a clone takes. stall_s: how long all answers are held up after a 500; 4 to 12 on a real server.
    dies: where in the next start the server dies, and is started again.
    """

    version: Version = NEW
    profiles: list[Profile] = field(default_factory=lambda: [Profile("default")])
    models: dict[str, str] = field(default_factory=lambda: {"default": "openhands/claude-sonnet-4-5"})
    secrets: dict[str, str] = field(default_factory=dict)
    clone_s: float = 0.0
    stall_s: float = 0.0
    dies: Death | None = None
    git: bool = True  # whether git is installed
    clones: dict[str, tuple[str, str]] = field(default_factory=dict)  # folder → repository, branch
    fetched: dict[str, str] = field(default_factory=dict)  # a branch of a run's own → the branch it began at
    worktrees: dict[str, str] = field(default_factory=dict)  # folder → the branch in it
    commands: list[str] = field(default_factory=list)
    stalled_until: datetime | None = None

    @property
    def old(self) -> bool:
        return self.version == OLD

    @property
    def active(self) -> Profile:
        return self.profiles[0]

    def run(self, command: str, can_open: Callable[[str | None], bool]) -> Ran | None:
        """Run one of the git commands that a client needs; None for any other command."""
        self.commands.append(command)
        words = shlex.split(command)
        if words[:1] == ["env"]:
            words = [*dropwhile(lambda word: "=" in word, words[1:])]
        if words[:1] != ["git"]:
            return None
        if not self.git:
            return Ran(127, stderr="env: 'git': No such file or directory\n")
        match words[1:]:
            case ["-C", kept, *then] if kept in self.clones and then[0] in {"fetch", "worktree", "ls-remote"}:
                return self._in_clone(kept, then, can_open)
            case ["-C", folder, "diff", "--quiet", "HEAD"] if folder in self.clones:
                return Ran(0)
            case ["-C", folder, *_] if folder not in self.clones:
                return Ran(128, stderr=f"fatal: cannot change to '{folder}': No such file or directory\n")
            case ["clone", "--quiet", "--branch", branch, "--", address, folder]:
                return self._clone(address, folder, branch, can_open)
            case ["clone", "--quiet", "--", address, folder]:
                return self._clone(address, folder, BRANCHES[0], can_open)
            case ["ls-remote", "--heads", "--", address]:
                return _heads(address, can_open)
            case ["-C", _, "pull", "--quiet", "--ff-only"]:
                return Ran(0)
        return None

    def _in_clone(self, kept: str, words: list[str], can_open: Callable[[str | None], bool]) -> Ran | None:
        """Run a command in a clone that is there: list what its remote has, fetch a branch, or make a worktree of it."""
        repository, _ = self.clones[kept]
        match words:
            case ["ls-remote", "--heads", "origin"]:
                return _heads(f"{REMOTE}{repository}", can_open)
            case ["fetch", "--quiet", "origin", what]:
                begin, _, own = what.partition(":refs/heads/")
                branch = BRANCHES[0] if begin == "HEAD" else begin.removeprefix("refs/heads/")
                if not can_open(repository):
                    return _no_access(f"{REMOTE}{repository}")
                if branch not in BRANCHES:
                    return Ran(128, stderr=f"fatal: couldn't find remote ref {begin}\n")
                if there := next((folder for folder, name in self.worktrees.items() if name == own), None):
                    said = f"fatal: refusing to fetch into branch 'refs/heads/{own}' checked out at '{there}'\n"
                    return Ran(128, stderr=said)
                self.fetched[own] = branch
                return Ran(0)
            case ["worktree", "add", "--quiet", folder, own] if own in self.fetched:
                if folder in self.clones:
                    return Ran(128, stderr=f"fatal: '{folder}' already exists\n")
                self.clones[folder] = (repository, self.fetched[own])
                self.worktrees[folder] = own
                return Ran(0)
        return None

    def _clone(self, address: str, folder: str, branch: str, can_open: Callable[[str | None], bool]) -> Ran:
        if not can_open(_repository(address)):
            return _no_access(address)
        if folder in self.clones:
            said = f"fatal: destination path '{folder}' already exists and is not an empty directory.\n"
            return Ran(128, stderr=said)
        if branch not in BRANCHES:
            return Ran(128, stderr=f"fatal: Remote branch {branch} not found in upstream origin\n")
        self.clones[folder] = (_repository(address), branch)
        return Ran(0)


def _repository(address: str) -> str:
    return address.removeprefix(REMOTE).removesuffix(".git")


def _heads(address: str, can_open: Callable[[str | None], bool]) -> Ran:
    if not can_open(_repository(address)):
        return _no_access(address)
    return Ran(0, stdout="".join(f"{'0' * 40}\trefs/heads/{one}\n" for one in BRANCHES))


def _no_access(address: str) -> Ran:
    said = f"fatal: could not read Username for '{address}': terminal prompts disabled\n"
    return Ran(128, stderr=said)
