"""Which repository a request means, by the repositories there are."""

import pytest

from bot.core.commands import parse
from bot.core.model import Choice, Origin, Reason, RunState, Start
from bot.core.repositories import COMPARED, NEAR, Known, asked_about, choose, named, names_one, suggest
from tests.changes import changed
from tests.core.runs import a_run

DEFAULT = "org/other"
ACCOUNT = Known.of(["org/repo", "Org/Other", "org/site", "OpenHands/OpenHands"], whole=True)
USED = Known.of(["org/repo"])
NOTHING = Known.of([], whole=True)


def chosen(text: str, known: Known, *, thread: str | None = None, default: str | None = DEFAULT) -> Choice:
    """Choose by a text that is a task."""
    command = parse(text)
    assert isinstance(command, Start)
    return choose(command, known, thread=thread, default=default)


def test_what_only_others_named_is_asked_about() -> None:
    """An alert or a guest chooses no repository, and a default is none where they may be right."""
    command = Start("fix that")
    others = ("Org/Repo", "acme/x")
    assert choose(command, ACCOUNT, thread=None, default=DEFAULT, others=others) == asks("org/repo", "acme/x")
    assert choose(command, ACCOUNT, thread="org/site", default=DEFAULT, others=others).repository == "org/site"


def asks(*candidates: str, unlisted: str | None = None) -> Choice:
    return Choice(candidates=candidates, unlisted=unlisted)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        # stated, and there
        ("fix README in org/repo", Choice("org/repo", Origin.TYPED)),
        ("fix README in ORG/repo", Choice("org/repo", Origin.TYPED)),
        ("fix README in `org/repo`", Choice("org/repo", Origin.TYPED)),
        ("fix https://github.com/org/repo/issues/12", Choice("org/repo", Origin.LINKED)),
        ("fix README in @OpenHands/OpenHands", Choice("OpenHands/OpenHands", Origin.TYPED)),
        # in passing, and there
        ("fix the build in org/repo and add tests", Choice("org/repo", Origin.WORDS)),
        ("org/repo fix README", Choice("org/repo", Origin.WORDS)),
        ("fix README for org/repo", Choice("org/repo", Origin.WORDS)),
        ("fix org/repo@dev now", Choice("org/repo", Origin.WORDS, branch="dev")),
        ("bump vercel/next.js in the package file of org/repo", Choice("org/repo", Origin.WORDS)),
        ("use `org/repo`", Choice("org/repo", Origin.WORDS)),
        ("compare org/repo with org/site", asks("org/repo", "org/site")),
        # stated, and not there
        ("fix README in org/rebo", asks("org/repo", unlisted="org/rebo")),
        ("--repo org/rebo fix README", asks("org/repo", unlisted="org/rebo")),
        ("fix https://github.com/acme/repo/issues/12", asks("org/repo", unlisted="acme/repo")),
        ("fix the build in vercel/next.js", asks(DEFAULT, unlisted="vercel/next.js")),
        ("fix the build in apps/web", asks(DEFAULT, unlisted="apps/web")),
        ("fix README in docs/website", asks(DEFAULT, unlisted="docs/website")),
        # in passing, and not there
        ("org/rebo fix README", asks("org/repo", unlisted="org/rebo")),
        ("compare acme/a with acme/b", asks("acme/a", "acme/b")),
        # none
        ("fix the links in docs/api.md", Choice(DEFAULT, Origin.DEFAULT)),
        ("add and/or tests for client/server", Choice(DEFAULT, Origin.DEFAULT)),
        ("use `path/to/file`", Choice(DEFAULT, Origin.DEFAULT)),
        ("read https://example.com/blog/2024/post", Choice(DEFAULT, Origin.DEFAULT)),
        ("why does @OpenHands/typescript-client fail to install?", Choice(DEFAULT, Origin.DEFAULT)),
        ("why is the build slow?", Choice(DEFAULT, Origin.DEFAULT)),
    ],
)
def test_the_account_decides_what_a_text_means(text: str, choice: Choice) -> None:
    """What it has is taken, what looks like a repository and is not there is asked about, all else is text."""
    assert chosen(text, ACCOUNT) == choice


@pytest.mark.parametrize("known", [USED, NOTHING])
@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("fix README in acme/new", Choice("acme/new", Origin.TYPED)),
        ("fix https://github.com/acme/new/issues/12", Choice("acme/new", Origin.LINKED)),
        ("fix the build in apps/web", asks("apps/web")),
        ("fix README for acme/new", asks("acme/new")),
        ("compare acme/a with acme/b", asks("acme/a", "acme/b")),
        ("add and/or tests for client/server", Choice(DEFAULT, Origin.DEFAULT)),
    ],
)
def test_without_a_list_the_shape_decides(text: str, choice: Choice, known: Known) -> None:
    """A server may list nothing; what was used here before is known all the same."""
    assert chosen(text, known) == choice
    assert chosen("fix README for org/repo", USED) == Choice("org/repo", Origin.WORDS)


def test_the_thread_goes_before_the_default_and_neither_before_the_text() -> None:
    """Without either it is asked for."""
    assert chosen("why?", ACCOUNT, thread="org/site") == Choice("org/site", Origin.THREAD)
    assert chosen("fix README for acme/new", ACCOUNT, thread="org/site") == asks(DEFAULT, unlisted="acme/new")
    assert chosen("why?", ACCOUNT, default=None) == Choice()
    assert chosen("fix it in apps/web", ACCOUNT, default=None) == asks(unlisted="apps/web")


def test_names_that_may_be_meant_are_offered() -> None:
    """Those alike, and those of another owner; few, and never the name itself."""
    many = Known.of([f"o{number}/tool" for number in range(COMPARED + 5)])
    assert ACCOUNT.near("org/repos") == ("org/repo",)
    assert ACCOUNT.near("acme/other") == ("Org/Other",)
    assert ACCOUNT.near("acme/nothing") == ()
    assert len(many.near("acme/tool")) == NEAR


def test_of_one_owner_only_the_names_below_it_are_compared() -> None:
    """A long owner makes no two of its repositories alike; that of another owner may be a slip in both parts."""
    long = Known.of(["a-company-of-long-standing/web", "a-company-of-long-standing/api", "acme-corp/webapp"])
    assert long.near("a-company-of-long-standing/webb") == ("a-company-of-long-standing/web",)
    assert long.near("acmecorp/web-app") == ("acme-corp/webapp",)


def test_what_could_not_be_opened_comes_with_names_alike() -> None:
    """Once, and only where a repository is asked about for that reason."""
    asking = a_run(RunState.NEEDS_REPOSITORY, repository="org/rebo", reason=Reason.REPOSITORY)
    assert suggest(asking, ACCOUNT).candidates == ("org/repo",)
    others = (
        a_run(repository="org/rebo"),
        changed(asking, reason=Reason.UNLISTED),
        changed(asking, candidates=("a/b",)),
    )
    assert [suggest(run, ACCOUNT) for run in others] == [*others]


def test_a_request_names_what_may_be_a_repository() -> None:
    """Where nothing is listed, what looks like one is enough."""
    stated, passing, faint = (parse(text) for text in ("fix x in org/a", "fix org/a now", "use and/or"))
    assert isinstance(stated, Start)
    assert isinstance(passing, Start)
    assert isinstance(faint, Start)
    assert [named(one) for one in (stated, passing, faint)] == [("org/a",), ("org/a",), ("and/or",)]
    assert [asked_about(one) for one in (stated, passing, faint)] == [("org/a",), ("org/a",), ()]
    assert [names_one(one, NOTHING) for one in (stated, passing, faint)] == [True, True, False]
    assert [names_one(one, ACCOUNT) for one in (stated, passing, faint)] == [True, False, False]
    assert names_one(passing, Known.of(["org/a"], whole=True))


def test_names_from_elsewhere_are_known_too_and_the_lists_own_spelling_counts() -> None:
    known = Known.of(["Org/Repo"], whole=True).also(["org/repo", "acme/Tool"])
    assert (known.spelled("org/repo"), known.spelled("acme/tool"), known.whole) == ("Org/Repo", "acme/Tool", True)
    assert not Known.of([]).also(["acme/tool"]).whole
