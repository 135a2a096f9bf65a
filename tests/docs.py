"""Writes the tables of words, buttons and servers from what the code declares: `python -m tests.docs`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bot import openhands
from bot.core.addressee import RULES
from bot.core.vocabulary import BUTTONS, EVERYWHERE, OPEN, WORDS, Word
from bot.openhands.agent_server import AgentServer
from bot.openhands.v0 import V0
from bot.openhands.v1 import V1

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("using.md", "operations.md")

SERVERS = {"cloud, Enterprise (`v1`)": V1, "Agent Server (`agent`)": AgentServer, "older servers (`v0`)": V0}


@dataclass(frozen=True)
class Ability:
    """A row of the table of servers: whether a client has it, its type says."""

    what: str
    of: type = openhands.OpenHands
    how: Mapping[type, str] = field(default_factory=dict)
    """Remarks: how it works there, or what happens instead."""

    def cell(self, client: type) -> str:
        remark = self.how.get(client)
        return ("yes" if self.of in client.__mro__ else "no") + (f": {remark}" if remark else "")


ABILITIES = (
    Ability(
        "start",
        how={
            V1: "a lost answer is found by our id",
            AgentServer: "a lost answer is found by our id, or asked for again",
            V0: "a lost answer is found by time and message, where the server has events; else a person decides",
        },
    ),
    Ability(
        "start in a repository",
        how={
            V1: "the account's git provider opens it",
            AgentServer: "the server's own git clones it from GitHub first, or makes a worktree of a clone in `WORKSPACES`",
            V0: "the account's git provider opens it",
        },
    ),
    Ability(
        "list of repositories, from which names that are near are offered",
        openhands.CanListRepositories,
        how={AgentServer: "those that its stored `GITHUB_TOKEN` sees, and `WORKSPACES`"},
    ),
    Ability(
        "a repository is known before the start",
        openhands.CanFindRepository,
        how={AgentServer: "its git is asked", V0: "a wrong one is told at the start"},
    ),
    Ability(
        "a branch is known before the start, and near ones are named",
        openhands.CanListBranches,
        how={V0: "the branch is a sentence to the agent"},
    ),
    Ability(
        "model",
        openhands.CanChooseModel,
        how={AgentServer: "name of a model profile, with 1.58; not with 1.49", V0: "refused in words"},
    ),
    Ability("images", openhands.CanSeeImages, how={V0: "text only"}),
    Ability("follow-ups", how={V0: "from 0.49 on; what 0.39 to 0.48 lose is noticed"}),
    Ability("words, questions, pull requests, cost", how={V0: "from 0.39.1 on, where the server has events"}),
    Ability("stop", how={V0: "from 0.41.1 on"}),
    Ability("resume", openhands.CanResume, how={V0: "from 0.41.1 on, by a message"}),
    Ability("approval", openhands.CanDecide, how={V0: "where the server has events"}),
    Ability(
        "limit: runs wait in the queue",
        how={AgentServer: "1.49 refuses nothing", V0: "some stop another run instead of refusing"},
    ),
    Ability("`doctor` counts what runs", openhands.CanCount),
    Ability("`doctor` looks at the agent profile", openhands.SelfHosted),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def row(word: Word) -> list[str]:
    spellings = ", ".join(f"`{spelling}`" for spelling in word.spellings)
    where = "everywhere" if word.where == EVERYWHERE else ", ".join(word.where)
    return [spellings, where, word.help + (f", as in `{word.example}`" if word.example else "")]


TABLES = {
    "replies": table(["a reply that …", "is for"], [[rule.what, rule.to.value] for rule in RULES]),
    "words": table(["word", "where", "what it does"], [row(word) for word in WORDS]),
    "buttons": table(
        ["button", "what it does"],
        [[OPEN.label, OPEN.help], *([button.label, button.help] for button in BUTTONS.values())],
    ),
    "servers": table(["works with", *SERVERS], [[one.what, *map(one.cell, SERVERS.values())] for one in ABILITIES]),
}


def written(page: str) -> str:
    """Return the page with each table, between its marker and the next end, replaced by the declared one."""
    for name, lines in TABLES.items():
        before, marker, rest = page.partition(f"<!-- {name}: written by `make docs` -->\n")
        if not marker:
            continue
        _, end, after = rest.partition("<!-- end -->")
        page = f"{before}{marker}{lines}\n{end}{after}"
    return page


if __name__ == "__main__":
    for name in PAGES:
        (DOCS / name).write_text(written((DOCS / name).read_text(encoding="utf-8")), encoding="utf-8")
