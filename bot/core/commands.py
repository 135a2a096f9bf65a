"""Parse what people type into a command.

A repository counts as *stated* in these forms, which are cut out of the task:

- `[repo=org/repo branch=dev model=x] …`
- `--repo org/repo --branch dev --model x …`, at the start, or at the end if the repository is one of the options or
  stands right before them
- `org/repo: …`, `in org/repo, …`
- `… in org/repo`, at the end of the text or of its first line

where `org/repo` may be `org/repo@dev`, `org/repo#dev`, `org/repo on branch dev`, a nested group or an address. It is
*linked* if an address or `org/repo#12` occurs anywhere else; the text then stays whole. Any other `x/y` is a candidate,
unless it is a path: see `_is_path`. Code, and lines quoted with `>`, are never searched.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import unquote

from bot.core.model import Command, Help, Start, Unclear, UnclearReason
from bot.core.vocabulary import ALONE, ASIDE, NEW, NO_REPOSITORY, SUGGESTED, Word

_AROUND_WORDS = " \t\n.,;:!?…'\"`*_~-–—/"


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to "which repository?"."""

    repository: str | None
    """None: the person said that none is needed."""
    branch: str | None = None


def parse(text: str) -> Command:
    """Parse one request: plain text, our own mention and Slack's escaping already removed.

    Every string yields a command, possibly `Unclear`; nothing is raised. A word such as "stop" is a command only
    when it stands alone: "stop the flaky test in org/repo" is a task for the agent.

    >>> parse("fix README in org/repo@dev")
    Start(task='fix README', repository='org/repo', branch='dev', model=None, candidates=(), linked=False)
    """
    text = text.strip()
    return _lone_word(text) or _start(text)


def repository_answer(text: str) -> Answer | None:
    """Parse a reply to "which repository?"; return None if it does not answer that."""
    if _bare(text) in NO_REPOSITORY.spellings:
        return Answer(repository=None)
    found = _ANSWER.fullmatch(text.strip())
    named = _read(found["name"]) if found else None
    if found is None or named is None:
        return None
    branch = _trimmed(found["branch"]) if found["branch"] else named.branch
    if branch is not None and not is_branch(branch):
        return None
    return Answer(named.repository, branch)


def anew(text: str) -> str | None:
    """Return what follows `new: …`, the task for another run; None if the text does not begin with it."""
    found = _begins_with(NEW, text)
    return text[found.end() :].lstrip() or None if found else None


def is_aside(text: str) -> bool:
    """Return whether people talk among themselves, as they marked with `aside: …`."""
    return _begins_with(ASIDE, text) is not None


def named_repositories(text: str) -> tuple[str, ...]:
    """Return the repositories a text states or links, each once, the stated ones first."""
    asked = _stated(text.strip())
    if isinstance(asked, Unclear):
        return ()
    return _distinct([*asked.repositories, *(named.repository for named in _mentioned(asked.task) if named.certain)])


def is_repository(name: str) -> bool:
    """Return whether a name is well formed: two or more segments, each a valid name of a repository or group."""
    segments = name.split("/")
    return len(name) <= 255 and 2 <= len(segments) <= 20 and all(map(_SEGMENT.fullmatch, segments)) and ".." not in name


def is_branch(name: str) -> bool:
    """Return whether git accepts a name for a branch, as far as that matters here."""
    return (
        _BRANCH.fullmatch(name) is not None
        and not any(part in name for part in ("..", "//", "/.", "@{"))
        and not name.startswith(("-", "/", "."))
        and not name.endswith(("/", ".", ".lock"))
    )


# --- commands ---------------------------------------------------------------------------------------------------


def _bare(text: str) -> str:
    """Return a short reply's words in lower case, without the punctuation around them."""
    return " ".join(text.strip(_AROUND_WORDS).lower().split())


def _begins_with(word: Word, text: str) -> re.Match[str] | None:
    """Match the beginning of a text: a word that is declared with a colon and an …, without which it is only text."""
    [spelling] = word.spellings
    return re.match(rf"\s*{re.escape(spelling.removesuffix(': …'))}\s?:", text, re.IGNORECASE)


def _lone_word(text: str) -> Command | None:
    word = _bare(text)
    if text == "?":
        return Help()
    if command := ALONE.get(word):
        return command
    for meant in SUGGESTED:
        if _is_slip(word, meant):
            return Unclear(UnclearReason.MISSPELT, word, meant)
    return None


def _is_slip(word: str, meant: str) -> bool:
    """Return whether `word` is `meant` with one typing slip.

    A slip is a letter too many or too few, or two letters swapped; in long words also a wrong letter. In a short word
    that would be another word: "lint" is a task, not "list".
    """
    if abs(len(word) - len(meant)) == 1:
        return word in _each_without_one(meant) or meant in _each_without_one(word)
    if len(word) != len(meant):
        return False
    wrong = [at for at, (one, other) in enumerate(zip(word, meant, strict=True)) if one != other]
    if len(wrong) == 1:
        return len(meant) >= 6
    return len(wrong) == 2 and wrong[1] == wrong[0] + 1 and sorted(word) == sorted(meant)


def _each_without_one(word: str) -> set[str]:
    return {word[:at] + word[at + 1 :] for at in range(len(word))}


# --- tasks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Asked:
    """A task and what was stated about it so far; each thing should be stated once."""

    task: str
    repositories: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def also(self, named: "_Named", branch: str | None = None) -> "_Asked":
        branches = (*self.branches, *filter(None, (named.branch, branch)))
        return replace(self, repositories=(*self.repositories, named.repository), branches=branches)


def _start(text: str) -> Command:
    asked = _stated(text)
    if isinstance(asked, Unclear):
        return asked
    for values in (asked.branches, asked.models):
        if other := next((value for value in values if value != values[0]), None):
            return Unclear(UnclearReason.OPTION, other)
    branch, model = next(iter(asked.branches), None), next(iter(asked.models), None)
    repositories = _distinct(asked.repositories)
    if len(repositories) > 1:
        return Start(text, branch=branch, model=model, candidates=repositories)
    if not re.search(r"\w", asked.task) or _explicit(asked.task):
        return Unclear(UnclearReason.EMPTY)
    if repositories:
        return Start(asked.task, repositories[0], branch, model)
    mentioned = _mentioned(asked.task)
    linked = _distinct(named.repository for named in mentioned if named.certain)
    if len(linked) != 1:
        candidates = _distinct(named.repository for named in mentioned)
        return Start(asked.task, branch=branch, model=model, candidates=candidates)
    linked_branches = {named.branch for named in mentioned if named.certain and named.branch}
    if branch is None and len(linked_branches) == 1:
        branch = linked_branches.pop()
    return Start(asked.task, linked[0], branch, model, linked=True)


def _stated(text: str) -> _Asked | Unclear:
    """Cut the explicit forms out of a text."""
    asked = _Asked(text)
    for form in (_bracket, _first_options, _leading, _last_options, _trailing):
        found = form(asked)
        if isinstance(found, Unclear):
            return found
        asked = found
    return asked


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Return the first spelling of each name: services treat `Org/Repo` and `org/repo` as one repository."""
    spellings: dict[str, str] = {}
    for name in names:
        spellings.setdefault(name.lower(), name)
    return tuple(spellings.values())


# --- the explicit forms -----------------------------------------------------------------------------------------

_BRACKET = re.compile(r"\[([^\[\]\n]*)\][\s,:]*")
_PAIR = re.compile(r"(repo|repository|branch|model)=(.*)", re.IGNORECASE)
_DASHES = "(?:--|—|–)"  # keyboards turn two hyphens into a dash
_FIRST_OPTION = re.compile(rf"{_DASHES}(repo|repository|branch|model)(?:[=\s]\s*|$)(\S*)\s*", re.IGNORECASE)
_LAST_OPTION = re.compile(rf"(?<!\s)\s+{_DASHES}(repo|repository|branch|model)(?:=|\s+)(\S+)$", re.IGNORECASE)
_MOST_OPTIONS = 6  # each of the three twice; nobody writes more in one request
_ON_BRANCH = r"(?:\s+on\s+branch\s+(?P<branch>\S+?))?"
_LEADING = re.compile(rf"(?:in\s+(?P<in>\S+?){_ON_BRANCH}[,:]|(?P<name>\S+?):)(?:\s+|$)", re.IGNORECASE)
_TRAILING = re.compile(rf"(?:^|\s)in\s+(?P<name>\S+){_ON_BRANCH}$", re.IGNORECASE)
_ANSWER = re.compile(rf"(?:in\s+)?(?P<name>\S+){_ON_BRANCH}", re.IGNORECASE)


def _bracket(asked: _Asked) -> _Asked | Unclear:
    found = _BRACKET.match(asked.task)
    words = found[1].replace(",", " ").split() if found else []
    if found is None or not any(map(_PAIR.fullmatch, words)):
        return asked  # [WIP] is only text
    options = []
    for word in words:
        pair = _PAIR.fullmatch(word)
        if pair is None:
            return Unclear(UnclearReason.OPTION, word)
        options.append(pair)
    return _with_options(replace(asked, task=asked.task[found.end() :]), options)


def _first_options(asked: _Asked) -> _Asked | Unclear:
    options, end = [], 0
    while found := _FIRST_OPTION.match(asked.task, end):
        options.append(found)
        end = found.end()
    return _with_options(replace(asked, task=asked.task[end:]), options)


def _last_options(asked: _Asked) -> _Asked | Unclear:
    options: list[re.Match[str]] = []
    rest = _masked(asked.task)
    while len(options) < _MOST_OPTIONS and (found := _LAST_OPTION.search(rest)):
        options.insert(0, found)
        rest = rest[: found.start()]
    asked_before = replace(asked, task=asked.task[: len(rest)])
    has_repository = any(option[1].lower().startswith("repo") and _read_whole(option[2]) for option in options)
    if not has_repository and _ending(asked_before, len(rest)) is None:
        return asked  # "explain the --branch option" is only text
    return _with_options(asked_before, options)


def _with_options(asked: _Asked, options: Iterable[re.Match[str]]) -> _Asked | Unclear:
    """Apply the options that were matched: group 1 is the name, group 2 the value."""
    for option in options:
        name, value = option[1].lower(), option[2]
        if name == "branch" and is_branch(_trimmed(value)):
            asked = replace(asked, branches=(*asked.branches, _trimmed(value)))
        elif name == "model" and _MODEL.fullmatch(_trimmed(value)):
            asked = replace(asked, models=(*asked.models, _trimmed(value)))
        elif name.startswith("repo") and (named := _read_whole(value)):
            asked = asked.also(named)
        else:
            return Unclear(UnclearReason.OPTION, option[0].strip())
    return asked


def _leading(asked: _Asked) -> _Asked:
    found = _LEADING.match(_masked(asked.task))
    stated = _state(asked, found["in"] or found["name"], found["branch"]) if found else None
    return replace(stated, task=asked.task[found.end() :]) if found and stated else asked


def _trailing(asked: _Asked) -> _Asked:
    text = asked.task
    return _ending(asked, len(text)) or _ending(asked, len(text.partition("\n")[0])) or asked


def _ending(asked: _Asked, end: int) -> _Asked | None:
    """Cut out an `in org/repo` that ends at `end`, punctuation aside; return None if there is none."""
    text, masked = asked.task, _masked(asked.task)[:end]
    line = masked.rstrip(" \t\n.,;:!?…")
    found = _TRAILING.search(line)
    stated = _state(asked, found["name"], found["branch"]) if found else None
    if found is None or stated is None:
        return None
    question = "?" if "?" in masked[len(line) :] else ""
    return replace(stated, task=text[: found.start()].rstrip() + question + text[end:])


def _state(asked: _Asked, name: str, branch: str | None) -> _Asked | None:
    """Add a repository that a sentence names; return None if it names none."""
    named = _explicit(name)
    branch = _trimmed(branch) if branch else None
    if named is None or (branch is not None and not is_branch(branch)):
        return None
    return asked.also(named, branch)


# --- names of repositories --------------------------------------------------------------------------------------

_SEGMENT = re.compile(r"(?=[^a-z0-9]?[a-z0-9])[a-z0-9._-]{1,100}", re.IGNORECASE | re.ASCII)
_BRANCH = re.compile(r"[^\s\x00-\x1f\x7f~^:?*\[\\]{1,200}")
_MODEL = re.compile(r"\w[\w.:/@+-]{0,199}", re.ASCII)
_CODE_OR_QUOTE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|^[ \t]*>[^\n]*", re.DOTALL | re.MULTILINE)
_WORD = re.compile(r"[^\s,;()\[\]{}<>\"'|]+")
_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)+)(?:([@#])(\S+))?", re.ASCII)
_ADDRESS = re.compile(
    r"(?:(?:https?|ssh)://)?(?:[\w.-]+@)?((?:www\.)?(?:github|gitlab|bitbucket)(?:\.[\w-]+)+)(?::\d+)?[/:]([^\s?#]*)([?#]\S*)?",
    re.IGNORECASE | re.ASCII,
)
_NOT_OWNERS = frozenset(
    {"about", "api", "apps", "collections", "dashboard", "enterprise", "explore", "features", "groups"}
    | {"help", "issues", "login", "marketplace", "notifications", "orgs", "pricing", "projects", "pulls"}
    | {"search", "settings", "sponsors", "topics", "trending", "users"}
)  # pages of the services themselves
_GITLAB_PAGES = frozenset({"-", "blob", "commit", "commits", "issues", "merge_requests", "pipelines", "raw", "tree"})
_FOLDERS = frozenset(
    {"app", "apps", "assets", "bin", "config", "doc", "docs", "etc", "examples", "home", "lib"}
    | {"node_modules", "packages", "public", "scripts", "src", "test", "tests", "tmp", "usr", "var"}
    | {"vendor"}  # of a source tree
    | {"bugfix", "chore", "feat", "feature", "fix", "hotfix", "origin", "refs", "release", "upstream"}  # of branches
)
_FILE = re.compile(
    r"\.(?:c|cc|cfg|conf|cpp|cs|css|csv|env|gif|go|h|hpp|html?|ini|ipynb|java|jpe?g|jsx?|json|kts?|lock|log|lua|mdx?|mjs"
    r"|pdf|php|pl|png|py|rb|rs|rst|scala|scss|sh|sql|svg|swift|toml|tsx?|txt|vue|xml|ya?ml)",
    re.IGNORECASE,
)
_DEEPEST = 4  # segments; a deeper bare name is a path: a repository that deep needs an option or its address


@dataclass(frozen=True, slots=True)
class _Named:
    """A repository that one word names."""

    repository: str
    branch: str | None = None
    certain: bool = False
    """It can't be anything else: an address, or `org/repo#12`."""
    whole: bool = True
    """The word says only repository and branch, so it can be cut out of a text."""


def _mentioned(text: str) -> list[_Named]:
    """Return what is or may be a repository in a text whose explicit forms were cut out."""
    names = (_read(word) for word in _WORD.findall(_masked(text)) if "/" in word)
    return [named for named in names if named and (named.certain or not _is_path(named.repository))]


def _explicit(word: str) -> _Named | None:
    """Parse a word where a sentence states a repository; return None for a path, which may stand there too."""
    named = _read_whole(word)
    return named if named and (named.certain or not _is_path(named.repository)) else None


def _read_whole(word: str) -> _Named | None:
    """Parse a word that can be cut out; return None for a link to a repository's page, which says more."""
    named = _read(word)
    return named if named and named.whole else None


def _read(word: str) -> _Named | None:
    """Parse a word as a repository, perhaps with a branch. Paths are not told apart from repositories here."""
    word = _trimmed(word)
    if address := _ADDRESS.fullmatch(word):
        return _read_address(address[1].lower(), address[2], more=bool(address[3]))
    found = _NAME.fullmatch(word)
    if found is None:
        return None
    name, branch = found[1].removesuffix(".git"), found[3]
    if not is_repository(name):
        return None
    if found[2] == "#" and branch.isdecimal():
        return _Named(name, certain=not _is_path(name), whole=False)  # an issue, as GitHub writes it
    return _Named(name, branch) if branch is None or is_branch(branch) else None


def _read_address(host: str, path: str, *, more: bool) -> _Named | None:
    segments = [unquote(segment) for segment in path.split("/") if segment]
    size = 2
    if "gitlab" in host:
        size = next((at for at, segment in enumerate(segments) if at >= 2 and segment in _GITLAB_PAGES), len(segments))
    page = [segment for segment in segments[size:] if segment != "-"]
    name = "/".join(segments[:size]).removesuffix(".git")
    if not is_repository(name) or segments[0].lower() in _NOT_OWNERS:
        return None
    # A longer path under /tree/ may be a branch with slashes or a folder of a branch: only the service can tell.
    shows_branch = len(page) == 2 and page[0] == ("src" if "bitbucket" in host else "tree") and is_branch(page[1])
    branch = page[1] if shows_branch else None
    return _Named(name, branch, certain=True, whole=not more and (shows_branch or not page))


def _is_path(name: str) -> bool:
    """Return whether a name is a path, a date or the like, not a possible repository, by the name alone.

    A path has a file's ending, starts with a usual folder or a name with a dot in it (a web site), is deep, or has a
    part without a letter (24/7). `and/or` and `client/server` pass: only a list of repositories can exclude those.
    """
    first, *_, last = segments = name.split("/")
    return (
        len(segments) > _DEEPEST
        or first.lower() in _FOLDERS
        or "." in first
        or _FILE.search(last, last.rfind(".")) is not None
        or not all(re.search("[a-zA-Z]", segment) for segment in segments)
    )


def _trimmed(word: str) -> str:
    """Strip the punctuation that a sentence puts around a word."""
    return word.lstrip("([{<\"'`*").rstrip(".,;:!?…)]}>\"'`*")


def _masked(text: str) -> str:
    """Mask code and quotes, so that nothing is found in them; every other character keeps its position."""
    return _CODE_OR_QUOTE.sub(lambda found: re.sub(r"\S", "\0", found[0]), text)
