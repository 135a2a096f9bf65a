"""A conversation's events in one shape for all APIs, and what they say about the turn. Pure."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from bot.core.errors import CannotTell
from bot.core.model import ApprovalRequest, Failed, Finish, Last, Overtaken, Phase, Reason, Said
from bot.core.mrkdwn import ELLIPSIS, clean, is_git_host, literal, outside, redact, shorten, web_host

ANSWER_LENGTH = 30_000  # characters of the agent's last words that are kept
DETAIL_LENGTH = 300  # characters
LINE_LENGTH = 150  # characters of progress
WANTED_SHOWN = 10  # actions shown one by one of those that wait together
WANTED_LENGTH = 2_000  # characters of all commands that wait for approval; whoever approves has to see them
UNKNOWN_RISK = "UNKNOWN"  # also of an action that names none
NAME_LENGTH = 200  # characters of an event's id; fits the database column and a button's value


class Kind(StrEnum):
    """What kind of event this is for us."""

    MESSAGE = "message"
    """A person's message, which begins a turn."""
    FINISH = "finish"
    SAID = "said"
    """A plain message of the agent."""
    ACTION = "action"
    ANSWER = "answer"
    """An action was carried out or rejected."""
    ERROR = "error"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. Its kind determines which fields are filled."""

    id: str
    kind: Kind
    text: str = ""
    """A message as written, the final words, an error, or a line about what is being done. Not redacted."""
    code: str = ""
    """The server's name for an error."""
    answers: str = ""
    """The id of the action this answers or, if an error names none, of the tool call."""
    call: str = ""
    """The id of an action's tool call."""
    batch: str = ""
    """The model response an action came with: the actions of one response wait for approval together."""
    tool: str = ""
    command: str = ""
    """All that an action would be carried out with, letter by letter; see `command_of`."""
    risk: str = ""
    unread: bool = False
    """It is an action of an unknown shape: it may wait for approval, and can't be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the events say about this turn."""

    last: Last | None
    ending: str | None
    """The id of the event that holds `last`; None if no event does."""
    overtaken: tuple[Overtaken, ...]
    """Ends after which the agent went on at once, so that they may be untold, the oldest first."""
    progress: str
    settled: bool
    """Older events would not change this."""

    @property
    def answers(self) -> str:
        """All that the agent said at the ends of turns: pull requests are looked for there."""
        lasts = [*(one.last for one in self.overtaken), self.last]
        return "\n".join(last.words for last in lasts if isinstance(last, Finish | Said))


# Phases in which the turn may have ended with words, which survive a sandbox that is asleep, lost or deleted.
_ENDINGS = frozenset({Phase.ENDED, Phase.ASLEEP, Phase.MISSING, Phase.GONE})


def words_of(
    events: Sequence[Event], phase: Phase, turn_after: str | None, *, told: str | None = None, back: bool = False
) -> Words:
    """Return what this turn's events say: those after the newest message and after `turn_after`.

    events: newest first. In phase WANTS_APPROVAL every unanswered action counts, whatever turn it is from.
    told: the event of the last end that was told. back: read on to that one, or to `turn_after`, for ends after which
    the agent went on at once.
    """
    turn, whole = _this_turn(events, turn_after)
    overtaken, reached = _overtaken(events, {turn_after, told})
    progress = next((one_line(event.text) for event in turn if event.kind is Kind.ACTION), "")
    last: Last | None = None
    end: Event | None = None
    if phase in _ENDINGS:
        end = _ending(turn)
        if end is not None:
            said = outside(end.text, ANSWER_LENGTH)
            last = Finish(said) if end.kind is Kind.FINISH else Said(said)
    elif phase is Phase.ERROR:
        end = next((event for event in turn if event.kind is Kind.ERROR), None)
        last = failed(end.code, end.text) if end is not None else None
        if isinstance(last, Failed) and last.reason is Reason.MAX_STEPS:  # it may have finished on its last step
            ended = _ending([event for event in turn if event.kind is not Kind.ERROR])
            if ended is not None and ended.kind is Kind.FINISH:
                end, last = ended, Finish(outside(ended.text, ANSWER_LENGTH), last.reason)
    elif phase is Phase.STUCK:
        last = Failed(Reason.STUCK)
    elif phase is Phase.WANTS_APPROVAL:
        last, whole = _wanted(events)
    known = last is not None and phase is not Phase.WANTS_APPROVAL  # there, older actions may be waiting too
    wordless = phase not in _ENDINGS | {Phase.ERROR, Phase.WANTS_APPROVAL}
    return Words(
        last=last,
        ending=end.id if end is not None else None,
        overtaken=tuple(one for one in overtaken if end is None or one.id != end.id),
        progress=progress,
        settled=(whole or known or (wordless and bool(progress))) and (reached or not back),
    )


def _this_turn(events: Iterable[Event], turn_after: str | None) -> tuple[list[Event], bool]:
    """Return this turn's events, and whether its beginning was among `events`.

    If `turn_after` comes before any message, ours has not shown up yet and all events are of the previous turn.
    """
    turn: list[Event] = []
    for event in events:
        if event.id == turn_after:
            return [], True
        if event.kind is Kind.MESSAGE:
            return turn, True
        turn.append(event)
    return turn, False


def _overtaken(events: Iterable[Event], until: Collection[str | None]) -> tuple[tuple[Overtaken, ...], bool]:
    """Return the ends after which the agent went on, back to an event of `until`, and whether that was among `events`.

    It goes on with a message that came after the end, or while it still worked.
    """
    ends: list[Overtaken] = []
    newest: Event | None = None
    """What shows whether the event before it was an end: the next message, or the agent's next step."""
    for event in events:
        if event.id in until:
            return tuple(reversed(ends)), True
        if event.kind in (Kind.ANSWER, Kind.OTHER):
            continue
        end = None if newest is None else _end(event, newest)
        if end is not None:
            ends.append(end)
        newest = event
    return tuple(reversed(ends)), False


def _end(event: Event, following: Event) -> Overtaken | None:
    """Return the end of a turn that an event was, as what follows shows; None if the agent was at work."""
    if event.kind is Kind.FINISH:
        return Overtaken(event.id, Finish(outside(event.text, ANSWER_LENGTH)))
    if following.kind is Kind.MESSAGE and event.kind is Kind.SAID:
        return Overtaken(event.id, Said(outside(event.text, ANSWER_LENGTH)))
    if following.kind is Kind.MESSAGE and event.kind is Kind.ERROR:
        return Overtaken(event.id, failed(event.code, event.text))
    return None


def _ending(turn: Iterable[Event]) -> Event | None:
    """Return the event the turn ended with; None if the agent's newest step does not end a turn."""
    for event in turn:
        match event.kind:
            case Kind.FINISH | Kind.SAID:
                return event
            case Kind.ACTION | Kind.ERROR:
                return None
            case Kind.MESSAGE | Kind.ANSWER | Kind.OTHER:
                continue
            case _:
                assert_never(event.kind)
    return None


def _wanted(events: Iterable[Event]) -> tuple[ApprovalRequest | None, bool]:
    """Return all unanswered actions of this turn, and whether the newest one's batch is complete.

    One approval runs them all, so they are shown and named as one. None: nothing is unanswered. V0, whose actions name
    no tool call, wants one thing at a time.
    """
    answered = set[str]()
    waiting: list[Event] = []
    complete = False
    for event in events:
        if event.kind is Kind.ANSWER:
            answered.add(event.answers)
            continue
        if waiting and event.batch != waiting[0].batch and event.kind in _BEFORE_A_BATCH:
            complete = True
            if event.kind is Kind.MESSAGE or not waiting[0].call:
                break
        if (event.kind is Kind.ACTION or event.unread) and not answered & {event.id, event.call or event.id}:
            waiting.append(event)
    return (_all_wanted(waiting[::-1]) if waiting else None), complete


def begins(message: str, text: str) -> bool:
    """Return whether a message is this text, or has more paragraphs after it."""
    return message.strip() == text.strip() or message.strip().startswith(f"{text.strip()}\n\n")


def heard_among(events: Sequence[Event], text: str, after: str | None, *, complete: bool) -> bool:
    """Return whether a person's message with this text is among the events newer than `after`.

    What its files say may follow, as further paragraphs. events: newest first. complete: there are no older ones. Raises `CannotTell` if more events are needed to tell.
    """
    ids = [event.id for event in events]
    if after is not None and after not in ids:
        if complete:
            return False
        raise CannotTell("more events since than are read")
    newer = events if after is None else events[: ids.index(after)]
    heard = any(event.kind is Kind.MESSAGE and begins(event.text, text) for event in newer)
    if not heard and after is None and not complete:
        raise CannotTell("more events than are read")
    return heard


_BEFORE_A_BATCH = frozenset({Kind.ACTION, Kind.MESSAGE, Kind.SAID, Kind.FINISH})


def _all_wanted(waiting: Sequence[Event]) -> ApprovalRequest:
    """Return the request for actions that wait together, given in the order in which they would run."""
    newest, more = waiting[-1], len(waiting) - 1
    commands = [one.command for one in waiting[:WANTED_SHOWN]]
    readable = [redact(command) for command in commands]
    longest = WANTED_LENGTH // len(commands) if sum(map(len, readable)) > WANTED_LENGTH else WANTED_LENGTH
    lines = [shorten(one, longest) or one_line(action.text) for one, action in zip(readable, waiting, strict=False)]
    whole = lines == commands and len(waiting) <= WANTED_SHOWN and not any(map(_OUT_OF_SIGHT.search, lines))
    if len(waiting) > WANTED_SHOWN:
        lines.append(f"… (+{len(waiting) - WANTED_SHOWN})")
    tools = dict.fromkeys(shorten(literal(one.tool), LINE_LENGTH) for one in waiting)
    return ApprovalRequest(
        newest.id[:NAME_LENGTH] + (f"+{more}" if more else ""),
        ", ".join(filter(None, tools)),
        "\n".join(lines),
        one_line(max((one.risk for one in waiting), key=_danger)),
        whole=whole and all(commands),
    )


_OUT_OF_SIGHT = re.compile(r" {40}|(?:\n *){5}")  # a gap that pushes what comes after it away


def command_of(arguments: Mapping[str, Any]) -> str:
    """Return a tool's arguments letter by letter: a command by itself, else each by its name.

    An argument's further lines are set in, so that none looks like another argument. What is far too long is cut, but
    not below `WANTED_LENGTH`.
    """
    if list(arguments) == ["command"] and isinstance(arguments["command"], str):
        return literal(arguments["command"][: 2 * WANTED_LENGTH])
    lines = []
    for name, value in arguments.items():
        text = value if isinstance(value, str) else _json(value)
        lines.append(f"{literal(name)}: {literal(text[: 2 * WANTED_LENGTH])}".replace("\n", "\n  | "))
    return "\n".join(lines)[: 2 * WANTED_LENGTH]


def _danger(risk: str) -> int:
    """Return a rank for a risk. An unknown risk ranks above a low one."""
    return {"HIGH": 4, "MEDIUM": 3, "LOW": 1}.get(risk.upper(), 2)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # far too deep to be shown
        return ELLIPSIS * 2 * WANTED_LENGTH


# --- errors -----------------------------------------------------------------------------------------------------

# Patterns in a V1 error code, a V0 status code or an error's words; the first match counts.
_REASONS = (
    (re.compile(r"max_?iterations|maximum iteration", re.IGNORECASE), Reason.MAX_STEPS),
    (re.compile(r"stuck", re.IGNORECASE), Reason.STUCK),
    (re.compile(r"LLM_?Authentication|litellm\.AuthenticationError", re.IGNORECASE), Reason.MODEL_KEY),
    (re.compile(r"budget|out_of_credits|quota", re.IGNORECASE), Reason.OUT_OF_BUDGET),
    (re.compile(r"rate_?limit", re.IGNORECASE), Reason.MODEL_LIMIT),
    (
        re.compile(r"service_?unavailable|internal_?server_?error|llm_?timeout|APIConnection", re.IGNORECASE),
        Reason.MODEL_DOWN,
    ),
    (re.compile(r"^LLM|_LLM_|litellm\.", re.IGNORECASE), Reason.MODEL_REFUSED),
)
_SPENT = re.compile(r"insufficient_quota|exceeded your current quota|credit balance|budget", re.IGNORECASE)
"""Providers report an empty account as a rate limit; only their words tell the two apart."""
_LITELLM = re.compile(r"^(?:\w+: )?litellm\.\w+: .{0,120}? - ")  # the library's own words before the provider's


def failed(code: str, detail: str) -> Failed:
    """Return an error as a reason with the provider's own words.

    code: the server's name for the error. If there is one it decides, since the words may quote anything.
    """
    named = code or detail
    reason = next((reason for pattern, reason in _REASONS if pattern.search(named)), Reason.AGENT_ERROR)
    if reason is Reason.MODEL_LIMIT and _SPENT.search(detail):
        reason = Reason.OUT_OF_BUDGET
    words = "" if detail.startswith("STATUS$") else _LITELLM.sub("", detail)
    return Failed(reason, outside(words, DETAIL_LENGTH))


# --- text from outside ------------------------------------------------------------------------------------------

_PULL_REQUEST = re.compile(
    r"https://[\w.-]{1,200}(?::\d{1,5})?/[\w.~/-]{1,300}?/(?:pull|merge_requests|pull-requests)/\d{1,10}(?!\d)",
    re.ASCII,
)


def one_line(text: str, limit: int = LINE_LENGTH) -> str:
    return shorten(" ".join(redact(clean(text)).split()), limit)


_ADDRESS = re.compile(r"https?://([\w.-]{1,200}(?::\d{1,5})?)", re.ASCII)


def pull_requests(text: str, known: Iterable[str] = (), *, task: str = "") -> tuple[str, ...]:
    """Return links to pull and merge requests, the known ones first, without duplicates.

    The agent may name any address; only a git provider's counts, or that of a link in the task.
    """
    own = {host.lower() for host in _ADDRESS.findall(task)}
    found = [url for url in _PULL_REQUEST.findall(text) if is_git_host(web_host(url)) or _host(url) in own]
    return tuple(dict.fromkeys([*known, *found]))


def _host(url: str) -> str:
    return url.split("/", 3)[2].lower()


def numbered_pull_requests(numbers: Iterable[int], repository: str | None, provider: str | None) -> tuple[str, ...]:
    """Return links for bare numbers; names where no provider is named, or its host is not known."""
    if repository is None:
        return ()
    form = "https://github.com/{}/pull/{}" if provider == "github" else "{} #{}"
    return tuple(form.format(repository, number) for number in numbers)
