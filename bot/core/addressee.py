"""For whom a reply is: the run and its agent, the bot itself, or only the people who talk there."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from bot.core.commands import is_aside, is_only_emoji, parse, prose, repository_answer
from bot.core.lifecycle import action_for_word, restartable, suggested
from bot.core.model import (
    LIVE,
    Action,
    Command,
    Do,
    Help,
    Incoming,
    IncomingKind,
    ListRuns,
    Run,
    RunState,
    Status,
    Unclear,
    UnclearReason,
    UserId,
    Waiting,
)

MENTION = re.compile(r"<@\w+>")  # as Slack sends it
SOMEBODY = re.compile(r"<@\w+>|(?<![\w.])@(?:here|channel|everyone)\b")
"""Somebody else, in a text without our own mention."""
AT_REST = frozenset(
    {RunState.PAUSED, RunState.DONE, RunState.FAILED, RunState.STOPPED, RunState.LOST, RunState.CANCELLED}
)
"""States in which thanks would wake an agent that has nothing to do; so does the one after an answer."""
PRAISE = re.compile(
    r"thanks?|thankyou|thx|ty|tysm|cheers|merci|danke|gracias|kudos|bravo|congrats|congratulations|yay|nice|great"
    r"|awesome|perfect|cool|wow|amazing|brilliant|lovely|excellent|fantastic|super|neat|sweet|lol|lmao|rofl"
    r"|(?:ha){2,10}h?|(?:he){2,10}|ありがとう|谢谢|спасибо"
)
PRAISED = re.compile(
    r"a|again|all|and|bot|did|done|everybody|everyone|folks|good|guys|is|it|job|lot|man|many|much|oh|one|openhands"
    r"|really|so|stuff|team|that|that's|this|u|very|was|well|work|works|worked|you"
)
FOR_WHAT = re.compile(
    r"\sfor (?:that|this|it|all|everything|the|your)(?: (?:quick|great|good|fast|hard))?"
    r"(?: (?:help|fix|work|job|answer|reply|update|info|explanation|pr))?$"
)


class Addressee(StrEnum):
    """For whom a reply in a run's thread is."""

    PEOPLE = "people: the bot leaves it alone"
    BOT = "the bot"
    AGENT = "the agent"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A reply in the thread of a run."""

    run: Run
    text: str
    """As it was typed, without our mention."""
    mentions_us: bool
    files: bool = False
    """Something is attached to it."""

    @cached_property
    def command(self) -> Command:
        return parse(self.text)


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of reply and for whom it is."""

    what: str
    """In one line of Markdown."""
    to: Addressee
    holds: Callable[[Reply], bool]


def rests(reply: Reply) -> bool:
    """Return whether a run has nothing to do, and its question, if the bot asks one, is not answered by the reply."""
    run = reply.run
    if run.state is RunState.NEEDS_REPOSITORY:
        return repository_answer(reply.text, suggested(run)) is None
    return run.state in AT_REST or run.waiting is Waiting.ANSWER


def is_pleasantry(text: str) -> bool:
    """Return whether a text only thanks, praises or laughs, in words or emoji."""
    if len(text) > 120:
        return False
    if is_only_emoji(text):
        return True
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)?", re.sub(r":[\w+'-]{1,60}:", " ", text.lower()))
    said = FOR_WHAT.sub("", " ".join(words).replace("’", "'")).split()
    nice = any(map(PRAISE.fullmatch, said)) or said in (["well", "done"], ["good", "job"], ["good", "work"])
    return nice and all(PRAISE.fullmatch(word) or PRAISED.fullmatch(word) for word in said)


def is_word(reply: Reply) -> bool:
    """Return whether a reply is a word for the bot that its run can take."""
    run = reply.run
    if reply.files:  # only the agent has any use for them
        return reply.command in (Do(Action.STOP), Do(Action.CANCEL))
    match reply.command:
        case Do(Action.APPROVE | Action.REJECT) if run.waiting is Waiting.APPROVAL:
            return True
        case Do(action):
            return action_for_word(run, action) is not None or (action is Action.LEAVE and restartable(run))
        case Status() | ListRuns() | Help() | Unclear(UnclearReason.MISSPELT):
            return True
        case Unclear(UnclearReason.EMPTY):
            return not reply.text.strip()
        case _:
            return False


def counts_unmentioned(run: Run, by: UserId, text: str) -> bool:
    """Return whether a reply is for a run although it does not mention us and the thread is people's own.

    It is if the requester answers the run's question, or says alone a word that the run can take now. Whether to send
    a message again is asked of its author, so anybody may answer that.
    """
    command = parse(text)
    if run.doubtful_follow_up is not None and command in (Do(Action.AGAIN), Do(Action.LEAVE)):
        return True
    if by != run.requester:
        return False
    if run.state in (RunState.NEEDS_REPOSITORY, RunState.NEEDS_GO) or run.waiting is Waiting.QUESTION:
        return True
    if not isinstance(command, Do):
        return False
    action = action_for_word(run, command.action)
    return action is not None and (action is not Action.STOP or run.state in LIVE)


def may_answer_agent(run: Run, command: Command) -> bool:
    """Return whether a lone word that asks the bot for something may as well be the answer to the agent's question.

    "A list or a map?" has the answer "list". Whoever means the bot mentions it.
    """
    if run.state is not RunState.WAITING or run.waiting is not Waiting.QUESTION:
        return False
    return isinstance(command, Status | ListRuns | Help) or (
        isinstance(command, Unclear) and command.reason is UnclearReason.MISSPELT
    )


def is_answer(reply: Reply, by: UserId) -> bool:
    """Return whether a reply may be the answer to what its run asks: the agent's question, or which repository."""
    run = reply.run
    if run.mentions_only and not reply.mentions_us and by != run.requester:
        return False
    if run.state is RunState.NEEDS_REPOSITORY:
        return repository_answer(reply.text, suggested(run)) is not None
    asks = run.state is RunState.WAITING and run.waiting is Waiting.QUESTION
    return asks and addressee(reply) is Addressee.AGENT


def meant(run: Run, asking: Sequence[Run], text: str, by: UserId, *, mentions_us: bool) -> Sequence[Run]:
    """Return the run of a thread that a reply is for; of several that ask, those whose answer it may be.

    run: the newest there, which gets all else. asking: all there that ask something.
    """
    may_be = [one for one in asking if is_answer(Reply(run=one, text=text, mentions_us=mentions_us), by)]
    return may_be or [run]


def is_urgent(incoming: Incoming) -> bool:
    """Return whether a request waits for no older reply of its thread: a click, or a reply that only says `stop`."""
    if incoming.kind is not IncomingKind.MESSAGE:
        return True
    text = MENTION.sub("", incoming.text) if incoming.mentions_us else incoming.text
    return incoming.thread_ts is not None and parse(text) in (Do(Action.STOP), Do(Action.CANCEL))


RULES = (
    Rule("begins with `aside:`", Addressee.PEOPLE, lambda it: is_aside(it.text)),
    Rule(
        "mentions somebody else, or `@here`, and not the bot",
        Addressee.PEOPLE,
        lambda it: not it.mentions_us and SOMEBODY.search(prose(it.text)) is not None,
    ),
    Rule(
        "`thanks!`, `lol`, 👍 and the like, while the agent is at rest",
        Addressee.PEOPLE,
        lambda it: not (it.mentions_us or it.files) and rests(it) and is_pleasantry(it.text),
    ),
    Rule(
        "`status`, `list` or `help` while the agent asks something",
        Addressee.AGENT,
        lambda it: not it.mentions_us and may_answer_agent(it.run, it.command),
    ),
    Rule(
        "only says a word of the table below that fits, such as `please stop` or `stop 🛑`",
        Addressee.BOT,
        is_word,
    ),
    Rule(
        "anything, while the card asks which repository",
        Addressee.BOT,
        lambda it: it.run.state is RunState.NEEDS_REPOSITORY,
    ),
    Rule("anything else, and whatever mentions the bot", Addressee.AGENT, lambda _: True),
)
"""For whom a reply is: the first one that holds decides. A mention always means that it is not for people alone."""


def addressee(reply: Reply) -> Addressee:
    return next(rule.to for rule in RULES if rule.holds(reply))
