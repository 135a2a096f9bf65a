"""Parse what people type into a command.

A repository counts as *stated* in these forms, which are cut out of the task:

- `[repo=org/repo branch=dev model=x] …`
- `--repo org/repo --branch dev --model x …`, at the start, or at the end if the repository is one of the options or
  stands right before them
- `org/repo: …`, `in org/repo, …`
- `… in org/repo`, at the end of the text or of its first line

where `org/repo` may be `org/repo@dev`, `org/repo#dev`, `org/repo on branch dev`, a nested group or an address. It is
*linked* if an address or `org/repo#12` occurs anywhere else; the text then stays whole. Any other `x/y` is a candidate,
or only a faint one: see `_Sure`. Code, and lines quoted with `>`, are never searched; a name alone in back quotes counts
where a repository is stated, and is faint elsewhere. Emphasis and quotation marks are no part of a name.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from urllib.parse import unquote

from bot.core.model import Act, Command, Do, Help, Start, Unclear, UnclearReason, Why
from bot.core.mrkdwn import NAME
from bot.core.vocabulary import ALONE, ASIDE, NEW, NO_REPOSITORY, ONLY, SUGGESTED, Word

_AROUND_WORDS = " \t\n.,;:!?…'\"`*_~-–—/"
_END = " \t\n.,;:!?…。、！？"
_POLITE = frozenset({":pray:", "again", "asap", "now", "please", "pls", "plz", "thanks", "thx", "today", "too", "🙏"})


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to "which repository?"."""

    repository: str | None
    """None: the person said that none is needed."""
    branch: str | None = None
    more: bool = False
    """The text says more than that, so the agent should read it too."""


def parse(text: str) -> Command:
    """Parse one request: plain text, our own mention and Slack's escaping already removed.

    Every string yields a command, possibly `Unclear`; nothing is raised. A word such as "stop" is a command only
    when it stands alone: "stop the flaky test in org/repo" is a task for the agent.

    >>> parse("fix README in org/repo@dev")
    Start(task='fix README', repository='org/repo', branch='dev', model=None, candidates=(), linked=False, faint=())
    """
    text = text.strip()
    return _lone_word(text) or _start(text)


def repository_answer(text: str, candidates: Sequence[str] = ()) -> Answer | None:
    """Parse a reply to "which repository?"; return None if it does not answer that.

    candidates: those the question names; a "yes" means the only one, the last part of a name the one that ends so.
    """
    if found := _ANSWER.fullmatch(text.strip()):
        named = _read(found["name"])
        if named is not None:
            branch = _trimmed(found["branch"]) if found["branch"] else named.branch
            return Answer(named.repository, branch) if branch is None or is_branch(branch) else None
    words = _words(text)
    said = [word for word in words if word not in _FILLERS]
    if " ".join(word for word in words if word not in _MANNERS) in NO_REPOSITORY.spellings:
        return Answer(repository=None)
    short = [name for name in candidates if [name.lower().rpartition("/")[2]] == said]
    if len(short) == 1:
        return Answer(short[0])
    if words and all(word in _FILLERS for word in words):
        return Answer(candidates[0]) if len(candidates) == 1 and not _YES.isdisjoint(words) else None
    return _answer_in_words(text, words)


def _answer_in_words(text: str, words: Sequence[str]) -> Answer | None:
    """Return the one repository that a sentence names, unless it says not to use it."""
    asked = _stated(text.strip())
    if isinstance(asked, Unclear) or not _NEGATIONS.isdisjoint(words):
        return None
    passing = (named for named in _mentioned(asked.task, lone=True) if named.sure is not _Sure.FAINT)
    names = _distinct([*asked.repositories, *(named.repository for named in passing)])
    if len(names) != 1:
        return None
    found = _ANY_BRANCH.search(text)
    branch = _trimmed(found[1]) if found else next(iter(asked.branches), None) or branch_of(text, names[0])
    if branch is not None and not is_branch(branch):
        return None
    return Answer(
        names[0], branch, more=any(not re.search("[/=]", word) and word not in {*_FILLERS, branch} for word in words)
    )


def _words(text: str) -> list[str]:
    """Return the words of a short text in lower case, without the punctuation around them."""
    stripped = (word.strip(_AROUND_WORDS + _QUOTES).lower() for word in text.split())
    return [word.replace("’", "'") for word in stripped if word]


def anew(text: str) -> str | None:
    """Return what follows `new: …`, the task for another run; None if the text does not begin with it."""
    found = _begins_with(NEW, text)
    return text[found.end() :].lstrip() or None if found else None


def numbered(text: str) -> tuple[int, str] | None:
    """Return the number and the rest of `2: …`, which says for which run of a thread a reply is; None for all else."""
    found = _NUMBERED.fullmatch(text.strip())
    return (int(found[1]), found[2]) if found else None


def only(text: str) -> str | None:
    """Return what follows `only: …`, which takes nothing of its thread along; None if the text does not begin with it."""
    found = _begins_with(ONLY, text)
    return text[found.end() :].lstrip() if found else None


def points_above(text: str) -> bool:
    """Return whether a request is empty or only points at what stands above it: `^`, 👆."""
    return _ABOVE.fullmatch(text) is not None


def is_aside(text: str) -> bool:
    """Return whether people talk among themselves, as they marked with `aside: …`."""
    return _begins_with(ASIDE, text) is not None


def named_repositories(text: str) -> tuple[str, ...]:
    """Return the repositories a text states or links, each once, the stated ones first."""
    asked = _stated(text.strip())
    if isinstance(asked, Unclear):
        return ()
    linked = (named.repository for named in _mentioned(asked.task) if named.sure is _Sure.CERTAIN)
    return _distinct([*asked.repositories, *linked])


def branch_of(text: str, repository: str) -> str | None:
    """Return the branch that a text names beside a repository it names in passing: `org/repo@dev`."""
    named = [one for one in _mentioned(text) if one.repository.lower() == repository.lower()]
    return next((one.branch for one in named if one.branch), None)


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


_YES = frozenset(
    {"+1", "correct", "exactly", "ja", "ok", "okay", "oui", "right", "si", "sure", "thumbsup"}
    | {"white_check_mark", "y", "ya", "yeah", "yep", "yes", "yup", "✅", "👍"}
)
_FILLERS = _YES | frozenset(
    {"a", "actually", "again", "ah", "be", "branch", "but", "for", "from", "go", "hi", "i", "i'd", "i'm"}
    | {"in", "is", "it", "it's", "its", "just", "let's", "like", "make", "mean", "meant", "my", "needed"}
    | {"no", "of", "oh", "on", "one", "oops", "our", "please", "pls", "plz", "repo", "repository", "retry"}
    | {"should", "so", "sorry", "start", "sure", "take", "thank", "thanks", "that", "that's", "the", "then"}
    | {"there", "this", "to", "try", "typo", "use", "want", "was", "we", "with", "would", "you"}
)
"""Words around an answer that say nothing more."""
_NUMBERED = re.compile(r"#?([1-9]\d?):(?:\s+|(?=\D))(\S.*)", re.DOTALL)
_ABOVE = re.compile(r"(?:[\s^.!↑⬆☝👆\ufe0f\U0001f3fb-\U0001f3ff]|:(?:point_up(?:_2)?|arrow_up)(?:::skin-tone-\d)?:)*")
_SHORT = 80  # characters of a text that may be a command with manners
_EMOJI = re.compile(r":[\w+'-]{1,60}:|[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\u200d]")
_ADDRESSING = frozenset(
    {"please", "pls", "plz", "thanks", "thx", "now", "just", "can", "could", "would", "you", "@openhands"}
)
_GREETINGS = frozenset({"hi", "hello", "hey", "ok", "okay", "openhands"})
_OBJECTS = frozenset({"it", "this", "that", "the", "run", "agent", "everything", "right", "immediately"})
_MANNERS = frozenset({"is", "it", "needed", "needs", "please", "pls", "thank", "thanks", "you"})
_NEGATIONS = frozenset({"don't", "dont", "except", "isn't", "isnt", "neither", "never", "not"})

# --- commands ---------------------------------------------------------------------------------------------------


def _bare(text: str) -> str:
    """Return a short reply's words in lower case, without the punctuation around them."""
    return " ".join(text.strip(_AROUND_WORDS).lower().split())


def _begins_with(word: Word, text: str) -> re.Match[str] | None:
    """Match the beginning of a text: a word that is declared with a colon and an …, without which it is only text."""
    [spelling] = word.spellings
    return re.match(rf"\s*{re.escape(spelling.removesuffix(': …'))}\s?:", text, re.IGNORECASE)


def is_only_emoji(text: str) -> bool:
    """Return whether a text is emoji and nothing else, as characters or as Slack writes them: `:tada:`."""
    rest = _EMOJI.sub("", text)
    return not re.search(r"\w", rest) and (rest != text or not text.isascii())


def prose(text: str) -> str:
    """Return a text without code and quoted lines."""
    return _masked(text).replace("\0", " ")


_WHY = re.compile(
    rf"why\s+(?P<person><@\w+>|@\S+|U\w+)\s+(?P<place>#\S+|C\w+|direct)\s+(?P<repository>\S+)(?:\s+(?P<act>{'|'.join(Act)}))?",
    re.IGNORECASE,
)


def _asked_why(text: str) -> Why | None:
    """Read `why @person #channel org/repo start`; other questions that begin so are tasks."""
    found = _WHY.fullmatch(text)
    if found is None or (found["repository"] != NO_REPOSITORY.spellings[0] and not is_repository(found["repository"])):
        return None
    return Why(found["person"], found["place"], found["repository"], Act((found["act"] or Act.START).lower()))


def _lone_word(text: str) -> Command | None:
    if text == "?":
        return Help()
    if asked := _asked_why(text):
        return asked
    word = _bare(text)
    if command := ALONE.get(word) or (_with_manners(text) if len(text) <= _SHORT else None):
        return command
    for meant in SUGGESTED:
        if _is_slip(word, meant):
            return Unclear(UnclearReason.MISSPELT, word, meant)
    return None


def _with_manners(text: str) -> Command | None:
    """Return the command that a text is with a please, an emoji or the like around it: `stop it, please 🛑`."""
    words = [word for word in _words(_EMOJI.sub(" ", text)) if word not in _ADDRESSING and re.search(r"\w", word)]
    command = ALONE.get(" ".join(words)) or ALONE.get(" ".join(word for word in words if word not in _GREETINGS))
    if command is None and words and words[0] not in _OBJECTS:
        action = ALONE.get(" ".join(word for word in words if word not in _OBJECTS | _GREETINGS))
        command = action if isinstance(action, Do) else None
    return command


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
    linked = _distinct(named.repository for named in mentioned if named.sure is _Sure.CERTAIN)
    if len(linked) != 1:
        candidates = _distinct(named.repository for named in mentioned if named.sure is not _Sure.FAINT)
        faint = _distinct(named.repository for named in mentioned if named.sure is _Sure.FAINT)
        return Start(asked.task, branch=branch, model=model, candidates=candidates, faint=faint)
    linked_branches = {named.branch for named in mentioned if named.sure is _Sure.CERTAIN and named.branch}
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
_ANY_BRANCH = re.compile(r"\bon\s+branch\s+(\S+)", re.IGNORECASE)
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
    found = _LEADING.match(_masked(asked.task, names=True))
    stated = _state(asked, found["in"] or found["name"], found["branch"]) if found else None
    return replace(stated, task=asked.task[found.end() :]) if found and stated else asked


def _trailing(asked: _Asked) -> _Asked:
    text = asked.task
    return _ending(asked, len(text)) or _ending(asked, len(text.partition("\n")[0])) or asked


def _ending(asked: _Asked, end: int) -> _Asked | None:
    """Cut out an `in org/repo` that ends at `end`, punctuation aside; return None if there is none."""
    text, masked = asked.task, _masked(asked.task, names=True)[:end]
    line = masked.rstrip(_END)
    for _ in range(2):  # "…, please. Thanks!"
        before, _, last = line.rpartition(" ")
        if last.lower() in _POLITE:
            line = before.rstrip(_END)
    found = _TRAILING.search(line)
    stated = _state(asked, found["name"], found["branch"]) if found else None
    if found is None or stated is None:
        return None
    after = masked[len(line) :]
    said = text[len(line) : end].rstrip(_END) if re.search(r"[^\s.,;:!?…。、！？]", after) else ""
    question = "?" if "?" in after else ""
    return replace(stated, task=text[: found.start()].rstrip() + said + question + text[end:])


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
_NAME_IN_CODE = re.compile(r"`[^`\s]+/[^`\s]+`")
_OTHER_SCRIPTS = "\u0e00-\u0e7f\u3000-\u9fff\uac00-\ud7af\uff00-\uffef"  # written without blanks around a name
_QUOTES = "\"'“”„‟‘’‚‹›«»"
_WORD = re.compile(rf"[^\s,;()\[\]{{}}<>|{_QUOTES}{_OTHER_SCRIPTS}]+")
_AFTER_IN = re.compile(rf"(?:^|\s)in(?:to)?\s+[*_~(\[<{_QUOTES}]*$", re.IGNORECASE)
_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)+)(?:([@#])(\S+))?", re.ASCII)
_ADDRESS = re.compile(
    r"(?:(?P<scheme>https?|ssh|git)://)?(?:(?P<user>[\w.-]+)@)?(?P<host>[\w-]+(?:\.[\w-]+)*)(?::\d+)?[/:]"
    r"(?P<path>[^\s?#]*)(?P<more>[?#]\S*)?",
    re.IGNORECASE | re.ASCII,
)
_GIT_HOST = re.compile(
    r"(?:www\.)?(?:git|github|gitlab|bitbucket|gitea|forgejo|codeberg)(?:-[\w-]+)?(?:\.[\w-]+)+|[\w-]+\.ghe\.com"
)
"""Hosts whose name says that they hold repositories. On any other one the path must show it."""
_TWO_PARTS = re.compile(r"(?:www\.)?(?:github|bitbucket|gitea|forgejo|codeberg)[.-]|[\w-]+\.ghe\.com$")
"""Services without nested groups."""
_NOT_OWNERS = frozenset(
    {"about", "api", "apps", "collections", "dashboard", "enterprise", "explore", "features", "groups"}
    | {"help", "issues", "login", "marketplace", "notifications", "orgs", "pricing", "projects", "pulls"}
    | {"search", "settings", "sponsors", "topics", "trending", "users"}
)  # pages of the services themselves
_PAGES = frozenset(
    {"blame", "blob", "branch", "commit", "commits", "compare", "edit", "issues", "merge_requests", "pull"}
    | {"pull-requests", "pulls", "pullrequest", "raw", "src", "tree"}
)  # what follows a repository in an address, with something behind it, on any host
_GITLAB_PAGES = frozenset({"-", "pipelines"}) | _PAGES - {"src", "branch"}
_SOURCES = frozenset(
    {"bin", "dir", "etc", "file", "files", "folder", "home", "lib", "node_modules", "path", "src", "test", "tests"}
    | {"tmp", "usr", "var"}  # of a source tree
    | {"bugfix", "chore", "feat", "feature", "fix", "hotfix", "origin", "refs", "release", "upstream"}  # of branches
)
_FOLDERS = frozenset(
    {"app", "apps", "assets", "config", "doc", "docs", "examples", "packages", "public", "scripts", "vendor"}
)  # of a source tree, and owners of repositories as well
_FILE = re.compile(
    r"\.(?:c|cc|cfg|conf|cpp|cs|css|csv|env|gif|go|h|hpp|html?|ini|ipynb|java|jpe?g|jsx?|json|kts?|lock|log|lua|mdx?|mjs"
    r"|pdf|php|pl|png|py|rb|rs|rst|scala|scss|sh|sql|svg|swift|toml|tsx?|txt|vue|xml|ya?ml)",
    re.IGNORECASE,
)
_LIKE_A_FILE = re.compile(r"\.(?:cpp|cs|css|go|java|js|lua|php|py|rb|rs|scala|sh|swift|ts|vue)", re.IGNORECASE)
"""Endings that names of repositories have as well: next.js, llama.cpp, normalize.css."""
_PAIRED = re.compile(
    "a|ad|after|all|am|and|android|any|api|area|async|auth|back|backend|before|bug|build|business|cache|"
    "cd|ci|class|client|close|code|consumer|create|css|customer|dark|data|date|day|db|debug|decode|delete|"
    "deny|desktop|dev|device|disable|document|down|download|dr|draft|edit|email|enable|encode|end|entity|"
    "error|even|exit|export|fail|fallback|false|feature|female|file|first|fix|folder|front|frontend|get|"
    "glob|go|he|header|height|her|hers|him|his|host|hour|hours|html|http|https|id|import|in|income|inner|"
    "input|insert|integration|ios|issue|js|key|left|length|level|light|linux|load|local|lock|login|logout|"
    "mac|male|manual|master|max|member|message|min|minute|mobile|mock|module|month|mr|ms|name|network|new|"
    "next|no|node|none|null|object|of|off|offline|old|on|online|open|operator|opt|or|out|outer|output|"
    "page|parent|parse|pass|pause|phone|plus|pm|post|prev|previous|producer|production|project|pros|"
    "publish|pull|push|put|query|question|read|reader|receive|redo|register|reply|request|resource|"
    "response|rest|result|resume|right|role|row|save|schema|search|second|select|send|serializer|server|"
    "service|session|set|she|show|sign|signin|signout|signup|sms|source|staging|start|state|status|stop|"
    "string|style|subscribe|success|sync|table|tag|target|task|tcp|team|test|them|they|time|title|to|true|"
    "try|ts|type|udp|ui|undo|unit|unix|unlock|unmock|up|update|upload|upsert|url|user|users|ux|value|"
    "version|view|warning|web|week|width|windows|without|worker|write|writer|year|yes"
)
"""Words that people write with a slash between them: and/or, client/server. Pairs of these are no repository."""
_UNITS = re.compile(r"(?:[kmgt]?i?b|k?m|mi|req|reqs|requests|tokens|msgs?|ops|w|n|i|a)/[a-z]", re.IGNORECASE)
_SHOUTED = re.compile(r"[A-Z0-9]{1,5}(?:/[A-Z0-9]{1,5})+")
_DEEPEST = 4  # segments; a deeper bare name is a path: a repository that deep needs an option or its address
_LONGEST = 2_000  # characters of a word that is read


class _Sure(IntEnum):
    """How surely a word names a repository, by itself."""

    FAINT = 0
    """Only if the account has it: a path, a package, a pair of words, a page of some web site."""
    PERHAPS = 1
    """It may as well be a folder or a file: a candidate where `in` stands before it, else faint."""
    LIKELY = 2
    CERTAIN = 3
    """It can't be anything else: an address, or `org/repo#12`."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A repository that one word names."""

    repository: str
    branch: str | None = None
    sure: _Sure = _Sure.LIKELY
    whole: bool = True
    """The word says only repository and branch, so it can be cut out of a text."""


def _mentioned(text: str, *, lone: bool = False) -> list[_Named]:
    """Return what is or may be a repository in a text whose explicit forms were cut out.

    lone: the text is about a repository and little else, so what may be one is one.
    """
    masked = _masked(text, names=True)
    found = []
    for word in _WORD.finditer(masked):
        if "/" not in word[0]:
            continue
        package, code = word[0].startswith("@"), "`" in word[0]
        named = _read(word[0].removeprefix("@"))
        if named is None:
            continue
        sure = named.sure
        if sure is _Sure.PERHAPS or (sure is _Sure.LIKELY and (package or code)):
            after_in = _AFTER_IN.search(masked[max(0, word.start() - 16) : word.start()])
            sure = _Sure.LIKELY if after_in or lone else _Sure.FAINT
        found.append(replace(named, sure=_Sure.FAINT if code and sure is _Sure.CERTAIN else sure))
    return found


def _explicit(word: str) -> _Named | None:
    """Parse a word where a sentence states a repository; return None for what may be a path there."""
    ours = f"@{NAME}/".lower()
    named = _read_whole(word[1:] if word.lower().startswith(ours) else word)
    if named is None or named.sure < _Sure.LIKELY or ("`" in word and named.repository.count("/") > 1):
        return None
    return named


def _read_whole(word: str) -> _Named | None:
    """Parse a word that can be cut out; return None for a link to a repository's page, which says more."""
    named = _read(word)
    return named if named and named.whole else None


def _read(word: str) -> _Named | None:
    """Parse a word as a repository, perhaps with a branch."""
    word = _trimmed(word)
    if len(word) > _LONGEST:
        return None
    if (address := _ADDRESS.fullmatch(word)) and (named := _read_address(address)):
        return named
    found = _NAME.fullmatch(word)
    if found is None:
        return None
    name, branch = found[1].removesuffix(".git"), found[3]
    if not is_repository(name):
        return None
    sure = _sure(name)
    if found[2] == "#" and branch.isdecimal():  # an issue, as GitHub writes it
        return _Named(name, sure=_Sure.CERTAIN if sure is _Sure.LIKELY else sure, whole=False)
    return _Named(name, branch, sure) if branch is None or is_branch(branch) else None


def _read_address(address: re.Match[str]) -> _Named | None:
    """Parse an address by its own path. A host is not known by name, though its name may say that it holds git."""
    host, more = address["host"].lower(), bool(address["more"])
    holds_git = _GIT_HOST.fullmatch(host) is not None or address["user"] == "git" or address["scheme"] in ("ssh", "git")
    if not (holds_git or address["scheme"]):
        return None  # `docs/api`, `example.com/org`: not an address by itself
    segments = [unquote(segment) for segment in address["path"].split("/") if segment]
    named, page, shown = _split(host, segments, holds_git=holds_git)
    name = "/".join(named).removesuffix(".git")
    if not is_repository(name) or named[0].lower() in _NOT_OWNERS:
        return None
    if not (shown or holds_git or segments[-1].endswith(".git")):
        return _Named(name, sure=_Sure.PERHAPS if len(named) == 2 and _sure(name) > _Sure.FAINT else _Sure.FAINT)
    # A longer path under /tree/ may be a branch with slashes or a folder of a branch: only the service can tell.
    shows_branch = len(page) == 2 and page[0] == ("src" if "bitbucket" in host else "tree") and is_branch(page[1])
    branch = page[1] if shows_branch else None
    return _Named(name, branch, _Sure.CERTAIN, whole=not more and (shows_branch or not page))


def _split(host: str, path: list[str], *, holds_git: bool) -> tuple[list[str], list[str], bool]:
    """Split a path into repository and page; the third tells whether the path itself shows that it is one."""
    if "_git" in path[1:-1]:  # Azure DevOps: organisation/project/_git/repository
        at = path.index("_git", 1)
        return [*path[:at], path[at + 1]], path[at + 2 :], True
    match [segment.lower() for segment in path]:
        case ["projects" | "users", _, "repos", _, *_]:  # Bitbucket Data Center
            return [path[1], path[3]], path[4:], True
        case ["scm", _, _]:
            return path[1:], [], True
    if "-" in path[2:]:  # GitLab
        at = path.index("-", 2)
        return path[:at], path[at + 1 :], True
    if _TWO_PARTS.match(host):
        return path[:2], path[2:], False
    last = len(path) if holds_git else len(path) - 1  # elsewhere a page of a repository has something behind it
    pages = _GITLAB_PAGES if "gitlab" in host else _PAGES
    at = next((at for at, segment in enumerate(path[:last]) if at >= 2 and segment in pages), len(path))
    return path[:at], path[at:], at < len(path)


def _sure(name: str) -> _Sure:
    """Return how surely a bare name is a repository, by the name alone.

    A path has a file's ending, starts with a usual folder or a name with a dot in it (a web site), is deep, or has a
    part without a letter (24/7). Some of these only may be one: `apps/web`, `vercel/next.js`.
    """
    first, *_, last = segments = name.split("/")
    ending = _FILE.search(last, last.rfind("."))
    code = len(segments) == 2 and _LIKE_A_FILE.search(last, last.rfind("."))
    if (
        len(segments) > _DEEPEST
        or first.lower() in _SOURCES
        or "." in first
        or (ending is not None and (not code or first.lower() in _FOLDERS))
        or not all(re.search("[a-zA-Z]", segment) for segment in segments)
        or _UNITS.fullmatch(name)
        or _SHOUTED.fullmatch(name)
        or all(_PAIRED.fullmatch(part) for part in re.split(r"[/_-]", name.lower()))
    ):
        return _Sure.FAINT
    return _Sure.PERHAPS if ending is not None or first.lower() in _FOLDERS else _Sure.LIKELY


def _trimmed(word: str) -> str:
    """Strip what a sentence puts around a word: punctuation, quotation marks, Slack's emphasis."""
    word = word.translate(_UNSEEN).lstrip("([{<`*_~" + _OPENING).rstrip(".,;:!?…)]}>`*~" + _CLOSING)
    return word if word.count("_") % 2 == 0 and not word.endswith("_") else word.rstrip("_")


_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))
_OPENING = _QUOTES + "「『【（《"
_CLOSING = _QUOTES + "」』】）》。、！？"


def _masked(text: str, *, names: bool = False) -> str:
    """Mask code and quotes, so that nothing is found in them; every other character keeps its position.

    names: code that is one name with a slash in it stays.
    """

    def hidden(found: re.Match[str]) -> str:
        return found[0] if names and _NAME_IN_CODE.fullmatch(found[0]) else re.sub(r"\S", "\0", found[0])

    return _CODE_OR_QUOTE.sub(hidden, text)
