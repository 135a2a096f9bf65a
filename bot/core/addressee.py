"""For whom a reply is: the run and its agent, the bot itself, or only the people who talk there."""

import re

from bot.core.commands import parse
from bot.core.lifecycle import action_for_word
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


def is_urgent(incoming: Incoming) -> bool:
    """Return whether a request waits for no older reply of its thread: a click, or a reply that only says `stop`."""
    if incoming.kind is not IncomingKind.MESSAGE:
        return True
    text = MENTION.sub("", incoming.text) if incoming.mentions_us else incoming.text
    return incoming.thread_ts is not None and parse(text) in (Do(Action.STOP), Do(Action.CANCEL))
