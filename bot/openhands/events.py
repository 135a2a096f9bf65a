"""What happened in a conversation, in one shape for both APIs, and what of it counts. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from bot.core.model import ApprovalRequest, Failed, Finish, Last, Phase, Reason, Said
from bot.core.mrkdwn import clean, outside, redact, shorten

ANSWER_LENGTH = 30_000  # characters of the agent's last words that are kept
DETAIL_LENGTH = 300  # characters
LINE_LENGTH = 150  # characters of progress
WANTED_SHOWN = 10  # actions that wait together and are shown one by one
WANTED_LENGTH = 2_000  # characters of all the commands that wait for approval; who approves has to see them
NAME_LENGTH = 200  # characters of an event's id, within what the database and a button hold


class Kind(StrEnum):
    """What an event is to us."""

    MESSAGE = "message"
    """A person's message: a turn begins."""
    FINISH = "finish"
    SAID = "said"
    """A plain message of the agent."""
    ACTION = "action"
    ANSWER = "answer"
    """An action was carried out, or refused."""
    ERROR = "error"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; which fields are filled goes by its kind."""

    id: str
    kind: Kind
    text: str = ""
    """A message as it was written; the words of an end, an error, or a line on what is being done. Not redacted."""
    code: str = ""
    """The server's name for an error."""
    answers: str = ""
    """The id of the action an answer is to, or, where an error names none, of the tool call."""
    call: str = ""
    """The id of an action's tool call."""
    batch: str = ""
    """Names the model's answer an action came with: those of one answer wait for approval together."""
    tool: str = ""
    command: str = ""
    risk: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the events say of this turn."""

    last: Last | None
    ending: str | None
    """The id of the event that holds `last`; None where none does."""
    progress: str
    settled: bool
    """Older events would not change this."""


# Phases in which the turn may have ended with words. Asleep, lost or deleted, the last words are still there.
_ENDINGS = frozenset({Phase.ENDED, Phase.ASLEEP, Phase.MISSING, Phase.GONE})


def words_of(events: Sequence[Event], phase: Phase, turn_after: str | None) -> Words:
    """Read newest events first, as far as they are this turn's: after the newest message and after `turn_after`.

    What waits for approval is told by the phase: whatever stands unanswered is what it waits for, in any turn.
    """
    turn, whole = _this_turn(events, turn_after)
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
    elif phase is Phase.STUCK:
        last = Failed(Reason.STUCK)
    elif phase is Phase.WANTS_APPROVAL:
        last, whole = _wanted(events)
    told = last is not None and phase is not Phase.WANTS_APPROVAL  # more may wait than was found so far
    wordless = phase not in _ENDINGS | {Phase.ERROR, Phase.WANTS_APPROVAL}
    return Words(
        last=last,
        ending=end.id if end is not None else None,
        progress=progress,
        settled=whole or told or (wordless and bool(progress)),
    )


def _this_turn(events: Iterable[Event], turn_after: str | None) -> tuple[list[Event], bool]:
    """Cut off what is older than this turn; also tell whether the cut was reached.

    `turn_after` before any message: ours has not shown up yet, so all of it is of the turn before.
    """
    turn: list[Event] = []
    for event in events:
        if event.id == turn_after:
            return [], True
        if event.kind is Kind.MESSAGE:
            return turn, True
        turn.append(event)
    return turn, False


def _ending(turn: Iterable[Event]) -> Event | None:
    """Return the event the turn ended with; None where the agent's newest step is no end."""
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
    """Return the newest action nobody has carried out or refused, with all that came in the same answer of the model.

    One approval runs them all, so they are shown and named as one. Also tell whether older events can add none.
    """
    answered = set[str]()
    waiting: list[Event] = []
    for event in events:
        if event.kind is Kind.ANSWER:
            answered.add(event.answers)
        elif waiting and event.batch != waiting[0].batch:
            if event.kind in _BEFORE_A_BATCH:
                return _all_wanted(waiting[::-1]), True
        elif event.kind is Kind.ACTION and not answered & {event.id, event.call or event.id}:
            waiting.append(event)
    return (_all_wanted(waiting[::-1]) if waiting else None), False


_BEFORE_A_BATCH = frozenset({Kind.ACTION, Kind.MESSAGE, Kind.SAID, Kind.FINISH})


def _all_wanted(waiting: Sequence[Event]) -> ApprovalRequest:
    """Describe actions that wait together, in the order in which they would run."""
    newest, more = waiting[-1], len(waiting) - 1
    shown = waiting[:WANTED_SHOWN]
    lines = [outside(one.command, WANTED_LENGTH // len(shown)) or one_line(one.text) for one in shown]
    if len(waiting) > WANTED_SHOWN:
        lines.append(f"… (+{len(waiting) - WANTED_SHOWN})")
    tools = dict.fromkeys(outside(one.tool, LINE_LENGTH) for one in waiting)
    return ApprovalRequest(
        newest.id[:NAME_LENGTH] + (f"+{more}" if more else ""),
        ", ".join(filter(None, tools)),
        "\n".join(lines),
        one_line(max((one.risk for one in waiting), key=_danger)),
    )


def _danger(risk: str) -> int:
    """Order risks; what is not known counts for more than what is low."""
    return {"HIGH": 4, "MEDIUM": 3, "LOW": 1, "": 0}.get(risk.upper(), 2)


# --- errors -----------------------------------------------------------------------------------------------------

# Parts of a V1 error code, of a V0 status code or of an error's words, the first that fits counts.
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
"""Providers answer an empty account as they answer too many calls; only their words tell."""
_LITELLM = re.compile(r"^(?:\w+: )?litellm\.\w+: .{0,120}? - ")  # the library's own words before the provider's


def failed(code: str, detail: str) -> Failed:
    """Turn an error into a reason and the provider's own words.

    code: the server's name for it; where it has one, that decides, since the words quote anything.
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


def pull_requests(text: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """List links to pull and merge requests, the known ones first, each once."""
    return tuple(dict.fromkeys([*known, *_PULL_REQUEST.findall(text)]))


def numbered_pull_requests(numbers: Iterable[int], repository: str | None, provider: str | None) -> tuple[str, ...]:
    """Make links of bare numbers, which is possible on GitHub only: elsewhere the host is not known."""
    if repository is None or provider not in {None, "github"}:
        return ()
    return tuple(f"https://github.com/{repository}/pull/{number}" for number in numbers)
