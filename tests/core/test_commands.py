"""What people type: when it is a command, where the repository is, what is left for the agent."""

import doctest
import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core import commands
from bot.core.commands import (
    Answer,
    anew,
    is_aside,
    is_branch,
    is_repository,
    named_repositories,
    numbered,
    only,
    parse,
    repository_answer,
)
from bot.core.model import Act, Action, Command, Do, Help, ListRuns, Start, Status, Unclear, UnclearReason, Why


def without_faint(command: Command) -> Command:
    """Drop what would only count if the account had it."""
    return replace(command, faint=()) if isinstance(command, Start) else command


EMPTY = Unclear(UnclearReason.EMPTY)
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
PIECES = st.sampled_from(
    [
        *(
            "fix",
            "the",
            "README",
            "in",
            "on",
            "branch",
            "dev",
            "org/repo",
            "Org/Repo",
            "org/b",
            "g/sub/repo",
            "docs/api.md",
        ),
        *(
            "org/repo@dev",
            "org/repo#dev",
            "org/repo#12",
            "org/repo:",
            "org/repo,",
            "org/repo.",
            "in org/repo",
            "and/or",
        ),
        *(
            "--repo org/repo",
            "--repo=org/b",
            "--branch dev",
            "--model x",
            "--foo",
            "[repo=org/repo branch=dev]",
            "[WIP]",
        ),
        *(
            "https://github.com/org/repo",
            "https://github.com/org/repo/tree/dev",
            "github.com/org/b/pull/3",
            "a/b/c/d/e",
        ),
        *("`in org/x`", "\n", "\n> org/x\n", "?", "!", "…", "stop", "--repo", "```", "“", "org/"),
    ]
)
PIECED_TEXT = st.lists(PIECES, max_size=10).map(" ".join)


# --- commands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("stop", Do(Action.STOP)),
        ("Stop!", Do(Action.STOP)),
        (" STOP. ", Do(Action.STOP)),
        ("`stop`", Do(Action.STOP)),
        ("cancel", Do(Action.CANCEL)),
        ("resume", Do(Action.RESUME)),
        ("Retry!", Do(Action.RETRY)),
        ("again", Do(Action.AGAIN)),
        ("Try  again!", Do(Action.AGAIN)),
        ("leave it.", Do(Action.LEAVE)),
        ("Leave", Do(Action.LEAVE)),
        ("start", Do(Action.GO)),
        ("approve", Do(Action.APPROVE)),
        ("reject", Do(Action.REJECT)),
        ("status?", Status()),
        ("List", ListRuns()),
        ("help", Help()),
        ("/help", Help()),
        ("--help", Help()),
        ("?", Help()),
        ("please stop", Do(Action.STOP)),
        ("stop 🛑", Do(Action.STOP)),
        ("stop :octagonal_sign:", Do(Action.STOP)),
        ("Stop please!", Do(Action.STOP)),
        ("stop it", Do(Action.STOP)),
        ("ok stop the run right now, thanks", Do(Action.STOP)),
        ("could you stop?", Do(Action.STOP)),
        ("hey @OpenHands, please stop", Do(Action.STOP)),
        ("try again, please 🙏", Do(Action.AGAIN)),
        ("status please", Status()),
        ("what’s the status?", Status()),
        ("help me", Help()),
        ("can you help?", Help()),
        ("Hi!", Help()),
        ("hello 👋", Help()),
        ("hey", Help()),
    ],
)
def test_a_word_alone_is_a_command(text: str, command: Command) -> None:
    """In any case, with punctuation around it."""
    assert parse(text) == command


@pytest.mark.parametrize(
    "text",
    [
        "stop the flaky test",
        "help me with CI",
        "list all errors",
        "status page is down",
        "please stop the flaky test",
        "stop it from crashing",
        "help me fix CI",
        "hi, fix README",
        "the run",
        "deploy",
        "lint",
        "shop",
        "statistics",
    ],
)
def test_other_words_are_a_task(text: str) -> None:
    """A word such as stop among others is for the agent, and so is any other word."""
    assert parse(text) == Start(text)


@pytest.mark.parametrize(
    ("text", "word", "meant"),
    [
        ("statsu", "statsu", "status"),
        ("Stauts?", "stauts", "status"),
        ("statis", "statis", "status"),
        ("hlep", "hlep", "help"),
        ("hep", "hep", "help"),
        ("stopp", "stopp", "stop"),
        ("lists", "lists", "list"),
        ("cancle", "cancle", "cancel"),
    ],
)
def test_a_misspelt_command_gets_a_suggestion_not_an_agent(text: str, word: str, meant: str) -> None:
    """One slip of the fingers; a wrong letter counts only in long words."""
    assert parse(text) == Unclear(UnclearReason.MISSPELT, word, meant)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "!!!",
        "…",
        "🎉",
        "org/repo",
        "in org/repo.",
        "org/repo:",
        "[repo=org/repo]",
        "--repo org/repo",
        "https://github.com/org/repo",
        "in org/repo?",
    ],
)
def test_a_request_without_a_task_is_unclear(text: str) -> None:
    """A repository alone says nothing of what to do there."""
    assert parse(text) == EMPTY


# --- repositories -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "start"),
    [
        # the forms
        ("fix README in org/repo", Start("fix README", "org/repo")),
        ("fix README in org/repo@dev", Start("fix README", "org/repo", "dev")),
        ("fix README in org/repo#dev", Start("fix README", "org/repo", "dev")),
        ("fix README in org/repo on branch dev", Start("fix README", "org/repo", "dev")),
        ("org/repo: fix README", Start("fix README", "org/repo")),
        ("in org/repo, fix README", Start("fix README", "org/repo")),
        ("[repo=org/repo branch=dev model=x] fix README", Start("fix README", "org/repo", "dev", "x")),
        ("--repo org/repo --branch dev fix README", Start("fix README", "org/repo", "dev")),
        ("update src/utils.py in org/repo.", Start("update src/utils.py", "org/repo")),
        # at the end
        ("fix README In org/repo", Start("fix README", "org/repo")),
        ("why is CI red in org/repo?", Start("why is CI red?", "org/repo")),
        ("fix README in org/repo on branch feature/x.", Start("fix README", "org/repo", "feature/x")),
        ("fix README in group/sub/repo", Start("fix README", "group/sub/repo")),
        ("fix README in a/b/c/repo", Start("fix README", "a/b/c/repo")),
        ("fix README in org/.github", Start("fix README", "org/.github")),
        ("fix README in https://github.com/org/repo", Start("fix README", "org/repo")),
        ("fix README in <https://github.com/org/repo.git>.", Start("fix README", "org/repo")),
        ("fix README in https://github.com/org/repo/tree/dev", Start("fix README", "org/repo", "dev")),
        ("fix README in github.com/org/repo", Start("fix README", "org/repo")),
        ("fix README in org/repo\nIt says\n> in org/other", Start("fix README\nIt says\n> in org/other", "org/repo")),
        ("it is red\nfix CI in org/repo", Start("it is red\nfix CI", "org/repo")),
        ("fix README in org/repo --model x", Start("fix README", "org/repo", model="x")),
        # at the start
        ("in org/repo: fix README", Start("fix README", "org/repo")),
        ("in org/repo@dev, fix README", Start("fix README", "org/repo", "dev")),
        ("in org/repo on branch dev, fix README", Start("fix README", "org/repo", "dev")),
        ("org/repo#dev:\nfix README", Start("fix README", "org/repo", "dev")),
        ("git@github.com:org/repo.git: fix README", Start("fix README", "org/repo")),
        ("https://gitlab.example.com/g/s/repo: fix README", Start("fix README", "g/s/repo")),
        # options
        ("[repository=org/repo, branch=dev]: fix README", Start("fix README", "org/repo", "dev")),
        ("[model=openai/gpt-5] fix README", Start("fix README", model="openai/gpt-5")),
        ("[branch=dev] fix README in org/repo", Start("fix README", "org/repo", "dev")),
        ("[WIP] fix README in org/repo", Start("[WIP] fix README", "org/repo")),
        ("[repo=https://gitlab.com/g/s/repo/-/tree/dev] fix README", Start("fix README", "g/s/repo", "dev")),
        ("--repo=vercel/next.js fix README", Start("fix README", "vercel/next.js")),
        ("—repo org/repo fix README", Start("fix README", "org/repo")),
        ("--repo `org/repo` fix README", Start("fix README", "org/repo")),
        ("fix README --repo org/repo --branch dev", Start("fix README", "org/repo", "dev")),
        ("--repo org/repo --foo x fix README", Start("--foo x fix README", "org/repo")),
        ("explain the --branch option", Start("explain the --branch option")),
        ("org/repo: explain the --branch option", Start("explain the --branch option", "org/repo")),
        ("explain the --repo option", Start("explain the --repo option")),
        ("fix `tool --repo org/repo`", Start("fix `tool --repo org/repo`")),
        # the same thing twice
        ("[repo=org/repo] fix README in Org/Repo", Start("fix README", "org/repo")),
        ("in org/repo@dev, fix README in org/repo#dev", Start("fix README", "org/repo", "dev")),
        # Slack's formatting, a keyboard's quotes, manners
        ("fix README in `org/repo`", Start("fix README", "org/repo")),
        ("fix README in `org/repo`.", Start("fix README", "org/repo")),
        ("`org/repo`: fix README", Start("fix README", "org/repo")),
        ("in `org/repo`, fix README", Start("fix README", "org/repo")),
        ("fix README in _org/repo_", Start("fix README", "org/repo")),
        ("fix README in *org/repo*", Start("fix README", "org/repo")),
        ("fix README in *_org/repo_*!", Start("fix README", "org/repo")),
        ("fix README in ~org/repo~", Start("fix README", "org/repo")),
        ("*org/repo*: fix README", Start("fix README", "org/repo")),
        ("fix README in “org/repo”", Start("fix README", "org/repo")),
        ("fix README in „org/repo“.", Start("fix README", "org/repo")),
        ("fix README in «org/repo»", Start("fix README", "org/repo")),
        ("fix README in ‘org/repo’?", Start("fix README?", "org/repo")),
        ("fix README in (org/repo)", Start("fix README", "org/repo")),
        ("fix README in 「org/repo」。", Start("fix README", "org/repo")),
        ("fix README in org/\u200brepo", Start("fix README", "org/repo")),
        ("--repo “org/repo” fix README", Start("fix README", "org/repo")),
        ("--repo=‘org/repo’ fix README", Start("fix README", "org/repo")),
        ('--repo "org/repo" fix README', Start("fix README", "org/repo")),
        ("[repo=“org/repo” branch=‘dev’] fix README", Start("fix README", "org/repo", "dev")),
        ("fix README in org/repo please", Start("fix README please", "org/repo")),
        ("fix README in org/repo, please!", Start("fix README, please", "org/repo")),
        ("can you fix README in org/repo, thanks 🙏?", Start("can you fix README, thanks 🙏?", "org/repo")),
        ("fix README in @OpenHands/OpenHands", Start("fix README", "OpenHands/OpenHands")),
        ("--repo docs/website fix README", Start("fix README", "docs/website")),
        # addresses by their own path
        ("fix README in https://git.acme.com/org/repo.git", Start("fix README", "org/repo")),
        ("fix README in git@code.acme.com:g/s/repo.git", Start("fix README", "g/s/repo")),
        ("fix README in https://dev.azure.com/acme/proj/_git/repo", Start("fix README", "acme/proj/repo")),
        ("fix README" + " --repo org/repo" * 7, Start("fix README --repo org/repo", "org/repo")),
    ],
)  # fmt: skip
def test_a_stated_repository_is_cut_out_of_the_task(text: str, start: Start) -> None:
    """The agent gets the task alone; repository, branch and model are known apart."""
    assert parse(text) == start


@pytest.mark.parametrize(
    ("text", "repository", "branch"),
    [
        ("fix https://github.com/org/repo/issues/12", "org/repo", None),
        ("fix the crash in https://github.com/org/repo/issues/12", "org/repo", None),
        ("https://github.com/org/repo/issues/12", "org/repo", None),
        ("port (https://github.com/org/repo) to Rust", "org/repo", None),
        ("look at github.com/org/repo/pull/3, please", "org/repo", None),
        ("see https://www.github.com/org/repo?tab=readme now", "org/repo", None),
        ("fix it in https://github.com/org/repo?tab=readme", "org/repo", None),
        ("start from https://github.com/org/repo/tree/dev please", "org/repo", "dev"),
        ("start from https://github.com/org/repo/tree/feature%2Fx please", "org/repo", "feature/x"),
        ("see https://github.com/org/repo/tree/main/docs please", "org/repo", None),
        ("see https://gitlab.com/g/s/repo/-/issues/3 please", "g/s/repo", None),
        ("see https://gitlab.com/g/repo/issues/3 please", "g/repo", None),
        ("see https://gitlab.company.example:8443/g/s/repo/-/tree/dev please", "g/s/repo", "dev"),
        ("see https://bitbucket.org/team/repo/src/dev please", "team/repo", "dev"),
        ("see https://bitbucket.org/team/repo/pull-requests/3 please", "team/repo", None),
        ("fix org/repo#12", "org/repo", None),
        ("fix it in org/repo#12.", "org/repo", None),
        ("org/repo#12: fix", "org/repo", None),
        ("fix https://git.acme.com/org/repo/issues/12", "org/repo", None),
        ("fix https://acme.ghe.com/org/repo/pull/12", "org/repo", None),
        ("fix https://code.acme.com/org/repo/pull/12/files please", "org/repo", None),
        ("fix https://source.acme.com/g/s/repo/-/issues/3 please", "g/s/repo", None),
        ("fix http://gitea:3000/org/repo/issues/4 please", "org/repo", None),
        ("fix http://localhost:3000/org/repo/pulls/4 please", "org/repo", None),
        ("fix https://dev.azure.com/acme/proj/_git/repo/pullrequest/7 please", "acme/proj/repo", None),
        ("fix https://stash.acme.com/projects/PROJ/repos/repo/pull-requests/3 please", "PROJ/repo", None),
        ("fix https://stash.acme.com/scm/proj/repo.git please", "proj/repo", None),
        ("https://github.com/org/repoのREADMEを直して", "org/repo", None),
        ("see https://git.acme.com/g/s/repo please", "g/s/repo", None),
        ("fix the login bug (https://github.com/org/repo/issues/12)", "org/repo", None),
        ("compare https://github.com/org/repo/tree/a with https://github.com/org/repo/tree/b", "org/repo", None),
        ("is https://github.com/org/repo/pull/3 like docs/api.md and/or x?", "org/repo", None),
    ],
)  # fmt: skip
def test_a_link_in_passing_names_the_repository_and_stays(text: str, repository: str, branch: str | None) -> None:
    """The text is whole: the agent needs the link too."""
    assert parse(text) == Start(text, repository, branch, linked=True)


def test_a_branch_that_is_stated_wins_over_a_linked_one() -> None:
    """What people say goes before what an address happens to show."""
    assert parse("[branch=b] see https://github.com/org/repo/tree/a now") == Start(
        "see https://github.com/org/repo/tree/a now", "org/repo", "b", linked=True
    )


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("compare org/a with org/b", ("org/a", "org/b")),
        ("is org/repo's README fine?", ("org/repo",)),
        ("use (org/a,org/b)", ("org/a", "org/b")),
        ("copy org/a to Org/A", ("org/a",)),
        ("in org/a on branch a..b, fix", ("org/a",)),
        ("[repo=org/a] fix README in org/b", ("org/a", "org/b")),
        ("in org/a, do as in org/b", ("org/a", "org/b")),
        ("move https://github.com/org/a to https://github.com/org/b", ("org/a", "org/b")),
        ("move org/a to https://github.com/org/b and https://github.com/org/c", ("org/a", "org/b", "org/c")),
    ],
)
def test_what_may_be_a_repository_is_a_candidate(text: str, candidates: tuple[str, ...]) -> None:
    """The text stays whole; others know which of them exist. Two that are stated are two candidates."""
    assert parse(text) == Start(text, candidates=candidates)


@pytest.mark.parametrize(
    ("text", "candidates", "faint"),
    [
        ("fix the build in vercel/next.js", ("vercel/next.js",), ()),
        ("fix the build in apps/web", ("apps/web",), ()),
        ("fix README in docs/website", ("docs/website",), ()),
        ("fix the build in apps/web and add tests", ("apps/web",), ()),
        ("clean up apps/web", (), ("apps/web",)),
        ("bump vercel/next.js", (), ("vercel/next.js",)),
        ("fix the build in org/repo and add tests", ("org/repo",), ()),
        ("org/repo fix README", ("org/repo",), ()),
        ("fix README for org/repo", ("org/repo",), ()),
        ("org/repoのREADMEを直して", ("org/repo",), ()),
        ("「org/repo」を直して", ("org/repo",), ()),
        ("add and/or tests for client/server", (), ("and/or", "client/server")),
        ("use `path/to/file`", (), ("path/to/file",)),
        ("use `org/repo`", (), ("org/repo",)),
        ("fix it in `core/db/session`", ("core/db/session",), ()),
        ("it makes 5 MB/s and 3 req/s over TCP/IP", (), ("MB/s", "req/s", "TCP/IP")),
        ("add sign-in/sign-up", (), ("sign-in/sign-up",)),
        ("why does @OpenHands/typescript-client fail to install?", (), ("OpenHands/typescript-client",)),
        ("fix the types in @types/node", ("types/node",), ()),
        ("read https://example.com/blog/2024/post", (), ("blog/2024/post",)),
        ("as in https://example.com/blog/2024/post", (), ("blog/2024/post",)),
        ("fix README in https://code.acme.com/org/repo", ("org/repo",), ()),
        ("use `https://github.com/org/repo`", (), ("org/repo",)),
        ("read https://example.com/" + "x" * 3_000 + "/y", (), ()),
    ],
)
def test_what_only_a_list_can_tell_is_left_to_it(
    text: str, candidates: tuple[str, ...], faint: tuple[str, ...]
) -> None:
    """A candidate is asked about where the account has no such repository; a faint one is then none."""
    assert parse(text) == Start(text, candidates=candidates, faint=faint)


def test_a_branch_in_passing_is_known() -> None:
    """It goes with the repository if that is the one."""
    assert commands.branch_of("fix org/repo@dev, not org/other@x or org/repo", "Org/Repo") == "dev"
    assert commands.branch_of("fix org/repo", "org/repo") is None


@pytest.mark.parametrize(
    "text",
    [
        "why is the build slow?",
        "fix the links in docs/api.md",
        "fix the typo in src/components",
        "docs/api.md: fix the links",
        "look at src/utils.py#12 and lib/x",
        "see ./org/repo, ~/org/repo, /org/repo, ../org/repo and org/../repo",
        "it runs 24/7 since 2024/05/01",
        "rebase feature/x on origin/main",
        "see https://example.com/org/repo and example.com/org",
        "see https://docs.github.com/en/actions and https://github.com/settings/tokens and https://github.com/org",
        "see https://github.com/features/copilot: nice",
        "install @scope/package, mail me@example.com/x",
        "look in a/b/c/d/e",
        "run `git clone org/repo` now",
        "run ```\nfix it in org/repo\n``` now",
        "run ```\nfix it in org/repo",
        "he said\n> fix README in org/repo",
        "> org/repo: fix",
        "fix README in org/repo@-x",
        "fix README in org/" + "x" * 101,
    ],
)
def test_paths_code_and_quotes_name_no_repository(text: str) -> None:
    """Files, folders, dates, web sites, branches; and nothing that is code or somebody else's words."""
    assert without_faint(parse(text)) == Start(text)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[repo=foo] fix", "repo=foo"),
        ("[repo=org/repo bran=dev] fix", "bran=dev"),
        ("[repo=org/repo branch=] fix", "branch="),
        ("--repo foo fix", "--repo foo"),
        ("--repo", "--repo"),
        ("--repo org/repo#12 fix", "--repo org/repo#12"),
        ("--repo org/repo --branch --model x fix", "--branch --model"),
        ("--model ?? fix", "--model ??"),
        ("fix --repo org/repo --branch a..b", "--branch a..b"),
        ("--branch a --branch b fix", "b"),
        ("[model=a model=b] fix", "b"),
        ("[branch=a] fix README in org/repo@b", "b"),
        ("fix README in org/repo@a on branch b", "b"),
    ],
)
def test_an_option_that_cannot_be_followed_is_unclear(text: str, word: str) -> None:
    """A guess would send the agent to the wrong place."""
    assert parse(text) == Unclear(UnclearReason.OPTION, word)


# --- replies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("org/repo", Answer("org/repo")),
        (" Org/repo. ", Answer("Org/repo")),
        ("`vercel/next.js`", Answer("vercel/next.js")),
        ("in org/repo", Answer("org/repo")),
        ("org/repo@dev", Answer("org/repo", "dev")),
        ("in org/repo on branch dev.", Answer("org/repo", "dev")),
        ("https://github.com/org/repo", Answer("org/repo")),
        ("<https://gitlab.com/g/s/repo/-/tree/dev>", Answer("g/s/repo", "dev")),
        ("none", Answer(None)),
        ("No repository!", Answer(None)),
        ("no  repo", Answer(None)),
        ("", None),
        ("repo", None),
        ("the one in org/repo", Answer("org/repo")),
        ("org/repo on branch a..b", None),
        ("https://code.acme.com/org/repo", Answer("org/repo")),
        ("stop", None),
        ("use org/repo", Answer("org/repo")),
        ("org/repo please", Answer("org/repo")),
        ("sorry, I meant org/other", Answer("org/other")),
        ("Oh no, it’s “org/other”, sorry!", Answer("org/other")),
        ("retry in org/other", Answer("org/other")),
        ("use `org/repo` on branch dev, please", Answer("org/repo", "dev")),
        ("the repo is org/repo@dev", Answer("org/repo", "dev")),
        ("[repo=org/repo branch=dev]", Answer("org/repo", "dev")),
        ("docs/website", Answer("docs/website")),
        ("it's apps/web", Answer("apps/web")),
        ("the apps folder in apps/web", Answer("apps/web", more=True)),
        ("use `org/repo`", Answer("org/repo")),
        ("and/or the usual one", None),
        ("org/repo, and add tests", Answer("org/repo", more=True)),
        ("no repository needed, thanks", Answer(None)),
        ("not org/repo", None),
        ("don’t use org/repo", None),
        ("org/a or org/b", None),
        ("use org/repo on branch a..b", None),
        ("[repo=foo]", None),
        ("yes", None),
        ("please", None),
    ],
)
def test_a_reply_can_name_the_repository(text: str, answer: Answer | None) -> None:
    """A repository with or without branch, "none", or no answer to the question."""
    assert repository_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "candidates", "answer"),
    [
        ("yes", ["org/repo"], Answer("org/repo")),
        ("Yes!", ["org/repo"], Answer("org/repo")),
        ("yes please", ["org/repo"], Answer("org/repo")),
        ("Yep, that one. Thanks", ["org/repo"], Answer("org/repo")),
        ("👍", ["org/repo"], Answer("org/repo")),
        (":+1:", ["org/repo"], Answer("org/repo")),
        ("yes", ["org/repo", "org/other"], None),
        ("no", ["org/repo"], None),
        ("please", ["org/repo"], None),
        ("other", ["org/repo", "org/other"], Answer("org/other")),
        ("the Other one, please", ["org/repo", "org/other"], Answer("org/other")),
        ("repo", ["org/repo", "acme/repo"], None),
        ("yes, and tests", ["org/repo"], None),
    ],
)
def test_a_reply_can_take_what_the_question_names(text: str, candidates: list[str], answer: Answer | None) -> None:
    """A yes where one is named, or the end of a name where one ends so."""
    assert repository_answer(text, candidates) == answer


@pytest.mark.parametrize("text", ["leave it as it is", "try again with tests", "start with the tests", "approved"])
def test_with_more_words_it_is_something_for_the_agent(text: str) -> None:
    """A word decides only where it stands alone, and none of these is taken for a slip of the fingers."""
    assert parse(text) == Start(text)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("new: fix README in org/repo", "fix README in org/repo"),
        (" New : tests, please", "tests, please"),
        ("New test fails now, please fix it too", None),
        ("new", None),
        ("new:  ", None),
        ("newer docs", None),
        ("a new one", None),
        ("", None),
    ],
)
def test_another_run_can_be_asked_for(text: str, task: str | None) -> None:
    """By the first word and its colon, with something to do after it; without the colon it is only English."""
    assert anew(text) == task


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2: yes", (2, "yes")),
        (" #12:org/repo ", (12, "org/repo")),
        ("1: yes,\nboth", (1, "yes,\nboth")),
        ("0: no", None),
        ("1: 8080", (1, "8080")),
        ("1:", None),
        ("1. first do this", None),
        ("12:30 is fine", None),
        ("two: yes", None),
    ],
)
def test_a_reply_may_begin_with_the_number_of_its_run(text: str, read: tuple[int, str] | None) -> None:
    """With a colon; a time of day is none."""
    assert numbered(text) == read


@pytest.mark.parametrize(
    ("text", "aside"),
    [
        ("aside: lunch?", True),
        (" Aside :", True),
        ("aside", False),
        ("Aside from that, also update the licence", False),
        ("asides", False),
        ("an aside", False),
        ("", False),
    ],
)
def test_people_talk_aside(text: str, aside: bool) -> None:  # noqa: FBT001 - a column of the table
    """By the first word and its colon."""
    assert is_aside(text) is aside


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fix README in org/a", ("org/a",)),
        ("[repo=org/a] do as in https://github.com/org/b/pull/1 and org/c#3, org/d", ("org/a", "org/b", "org/c")),
        ("see https://github.com/org/a and https://github.com/Org/A", ("org/a",)),
        ("compare org/a with org/b", ()),
        ("[repo=foo] fix https://github.com/org/a", ()),
        ("go on", ()),
    ],
)
def test_repositories_that_a_text_surely_names(text: str, names: tuple[str, ...]) -> None:
    """Stated or linked; candidates are not sure."""
    assert named_repositories(text) == names


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "well_formed"),
    [
        ("org/repo", True),
        ("a/b", True),
        ("org/.github", True),
        ("g/" * 19 + "r", True),
        ("g/" * 20 + "r", False),
        ("o/" + "x" * 100, True),
        ("o/" + "x" * 101, False),
        ("/".join(["x" * 84] * 3), True),
        ("/".join(["x" * 85] * 3), False),
        ("repo", False),
        ("org/", False),
        ("/repo", False),
        ("org//repo", False),
        ("org/..", False),
        ("org/a..b", False),
        ("org/.", False),
        ("org/-", False),
        ("org/re po", False),
        ("org/repo\n", False),
        ("örg/repo", False),
        ("", False),
    ],
)
def test_a_repository_is_well_formed(name: str, well_formed: bool) -> None:  # noqa: FBT001 - a column of the table
    """Two segments at least, of characters the services allow, at most 255 characters."""
    assert is_repository(name) is well_formed


@pytest.mark.parametrize(
    ("name", "well_formed"),
    [
        ("main", True),
        ("feature/x-1.2_y", True),
        ("überarbeitung", True),
        ("x" * 200, True),
        ("x" * 201, False),
        ("", False),
        ("a b", False),
        ("a..b", False),
        ("a//b", False),
        ("a/.b", False),
        ("a@{1}", False),
        ("-a", False),
        ("/a", False),
        ("a/", False),
        ("a.", False),
        ("a.lock", False),
        ("a~1", False),
        ("a:b", False),
        ("a\0", False),
    ],
)
def test_a_branch_is_well_formed(name: str, well_formed: bool) -> None:  # noqa: FBT001 - a column of the table
    """What git refuses is refused here."""
    assert is_branch(name) is well_formed


# --- any text ---------------------------------------------------------------------------------------------------


@given(ANY_TEXT | PIECED_TEXT)
def test_any_text_gives_a_sound_command(text: str) -> None:
    """Nothing raises, and what a start names can be handed on as it is."""
    command = parse(text)
    names = named_repositories(text)
    answer = repository_answer(text)
    start = command if isinstance(command, Start) else Start("x")
    answered = answer or Answer(None)

    assert start.task.strip()
    named = (*start.candidates, *start.faint, *names)
    assert all(map(is_repository, (*filter(None, (start.repository, answered.repository)), *named)))
    assert all(map(is_branch, filter(None, (start.branch, answered.branch))))
    assert not (start.repository and start.candidates)


MARKUP = {"in", "on", "branch", "repo", "repository", "model", "https", "git", "github", "com", "tree"}


@given(PIECED_TEXT)
def test_no_word_is_lost(text: str) -> None:
    """Every word that is not part of a form's own markup is in the task, the repository, the branch or the model."""
    command = parse(text)
    start = command if isinstance(command, Start) else Start(text)
    kept = " ".join(filter(None, (start.task, start.repository, start.branch, start.model))).lower()

    assert set(re.findall(r"\w+", text.lower())) - MARKUP <= set(re.findall(r"\w+", kept))


@pytest.mark.parametrize(
    "piece", ["in ", "in a/b ", "--repo a/b ", "--repo=a/b\n", "`", "```", "> ", " ", "a/b ", "a/", "[", "[repo=a/b] ", "on branch x ", "a", "https://github.com/"]
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "x", "\n."])
def test_hostile_text_is_read_fast(piece: str, end: str) -> None:
    """Work grows with the length of the text, not with its square."""
    text = f"x {piece * (40_000 // len(piece))}{end}"
    began = time.process_time()

    parse(text)
    repository_answer(text)
    named_repositories(text)

    assert time.process_time() - began < 2


def test_the_examples_in_the_docstrings_hold() -> None:
    """People read them first."""
    assert doctest.testmod(commands) == (0, 1)


@pytest.mark.parametrize(
    "text", ["", " ", "^", "^^", "👆", "👆🏽", "☝️", ":point_up:", ":point_up_2::skin-tone-3:", ":arrow_up:"]
)
def test_a_bare_mention_points_at_what_is_above(text: str) -> None:
    assert commands.points_above(text)


@pytest.mark.parametrize("text", ["fix it", "^ fix it", ":tada:", "?"])
def test_words_do_not_point_above(text: str) -> None:
    assert not commands.points_above(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("why <@U1> #dev org/repo", Why("<@U1>", "#dev", "org/repo", Act.START)),
        ("Why @bob direct none STOP", Why("@bob", "direct", "none", Act.STOP)),
        ("why U1 C1 org/repo retry", Why("U1", "C1", "org/repo", Act.RETRY)),
    ],
)
def test_admins_ask_why(text: str, meant: Why) -> None:
    """In this form alone."""
    assert commands.parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "why is the build slow?",
        "why did <@U1> change #dev in org/repo",
        "why <@U1> #dev fails",
        "why <@U1> #dev org/repo x",
    ],
)
def test_other_whys_are_tasks(text: str) -> None:
    """People ask the agent why all the time."""
    assert isinstance(commands.parse(text), Start)


@pytest.mark.parametrize(
    ("text", "alone"),
    [("only: fix README", "fix README"), ("Only : fix it", "fix it"), ("only fix README", None), ("only:", "")],
)
def test_only_leaves_the_thread_out(text: str, alone: str | None) -> None:
    """It needs its colon, since it is a word of ordinary English."""
    assert only(text) == alone
