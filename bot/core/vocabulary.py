"""What people type and click, each declared once.

These tables are the source of the parser's words, `help`, the buttons, the tables in `docs/using.md` and the slash
command's hint. `policy.judge` decides who may use which.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bot.core.model import Action, Command, Do, Help, ListRuns, Status


class Where(StrEnum):
    """Where a word is meant for the bot; elsewhere it is part of a task or a message to the agent."""

    THREAD = "thread"
    """A run's thread."""
    COMMAND = "`/openhands`"
    MENTION = "mention"
    DIRECT = "direct message"


EVERYWHERE = tuple(Where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Something people type to the bot itself."""

    spellings: tuple[str, ...]
    """People are told the first one; … stands for what follows."""
    also: tuple[str, ...] = ()
    """Other ways of saying it, which people are not told of."""
    command: Command | None = None
    """What it means when it stands alone; None if it comes with other text, which a function of `commands` parses."""
    where: tuple[Where, ...] = EVERYWHERE
    help: str
    """What it does, in one line of Slack's `mrkdwn` that is Markdown as well."""
    example: str = ""
    """Set if a spelling alone does not show how the word is used."""
    answers: bool = False
    """It answers a question of the bot that names it, or is for admins: `help` does not list it, no typing slip suggests it."""


STATUS = Word(
    spellings=("status",),
    also=("what's the status", "how is it going", "how's it going"),
    command=Status(),
    help="tells how the run is; outside of a thread how yours are, only to you",
)
LIST = Word(spellings=("list",), command=ListRuns(), help="shows the latest runs of this place, only to you")
HELP = Word(
    spellings=("help",),
    also=("help me", "help us", "hi", "hello", "hey", "what can you do"),
    command=Help(),
    help="tells what to type; while the agent asks something, this, `status` and `list` go to it unless you mention me",
)
NEW = Word(
    spellings=("new: …",),
    where=(Where.THREAD, Where.DIRECT),
    help="starts another run there, with what follows as its task",
    example="new: fix the tests in org/repo",
)
ASIDE = Word(
    spellings=("aside: …",),
    where=(Where.THREAD,),
    help="keeps a reply among people: the agent does not get it",
    example="aside: who reviews this?",
)
ONLY = Word(
    spellings=("only: …",),
    where=(Where.MENTION,),
    help="leaves out what people said in the thread before: the agent gets these words alone",
    example="only: fix README in org/repo",
)
REPOSITORY = Word(
    spellings=("org/repo",),
    where=(Where.THREAD, Where.DIRECT),
    help='answers "which repository?"',
    example="org/repo on branch dev",
    answers=True,
)
WHY = Word(
    spellings=("why @person #channel org/repo …",),
    where=(Where.COMMAND, Where.MENTION, Where.DIRECT),
    help="tells the bot's admins whether somebody may do something there, and by which rule",
    example="why @bob #dev org/repo approve",
    answers=True,
)
NO_REPOSITORY = Word(
    spellings=("none", "no repository", "no repo"),
    where=(Where.THREAD, Where.DIRECT),
    help="answers it too: the task needs none",
    answers=True,
)

WORDS = (
    STATUS,
    Word(
        spellings=("stop",),
        command=Do(Action.STOP),
        help="interrupts the agent, or takes the run out of the queue; the card says who did it",
    ),
    Word(spellings=("cancel",), command=Do(Action.CANCEL), help="does the same as `stop`"),
    Word(
        spellings=("resume",),
        command=Do(Action.RESUME),
        help="lets a run go on that was paused, stopped, put to sleep or failed",
    ),
    Word(spellings=("retry",), command=Do(Action.RETRY), help="starts the run over, in a new conversation"),
    NEW,
    LIST,
    HELP,
    ASIDE,
    ONLY,
    REPOSITORY,
    NO_REPOSITORY,
    WHY,
    Word(
        spellings=("again", "try again"),
        command=Do(Action.AGAIN),
        help="sends a message again that may not have arrived; else as `retry`",
        answers=True,
    ),
    Word(
        spellings=("leave it", "leave"),
        command=Do(Action.LEAVE),
        help="leaves that message as it is",
        answers=True,
    ),
    Word(
        spellings=("start",),
        command=Do(Action.GO),
        help="starts what was asked for long ago, as the button does",
        answers=True,
    ),
    Word(
        spellings=("approve",),
        command=Do(Action.APPROVE),
        help="tells you to use the buttons, which stand for the action they show",
        answers=True,
    ),
    Word(spellings=("reject",), command=Do(Action.REJECT), help="does the same as `approve`", answers=True),
)
"""In the order people read them."""

ALONE: Mapping[str, Command] = {
    spelling: word.command for word in WORDS if word.command is not None for spelling in (*word.spellings, *word.also)
}
"""The command of each spelling that is one when it stands alone."""
SUGGESTED = tuple(
    spelling for word in WORDS if word.command is not None and not word.answers for spelling in word.spellings
)
"""What a mistyped word may have been meant for."""
TYPED: Mapping[Action, str] = {word.command.action: word.spellings[0] for word in WORDS if isinstance(word.command, Do)}
"""The word that does the same as a button."""
USAGE_HINT = " | ".join(["fix README in org/repo", *(word.spellings[0] for word in (STATUS, LIST, HELP))])
"""What Slack shows while somebody types the slash command."""


# --- buttons ----------------------------------------------------------------------------------------------------


class About(StrEnum):
    """What must not have changed since a button was drawn, or a click on it no longer counts."""

    RUN = "run"
    TURN = "turn"
    APPROVAL = "approval"
    """The action that waits for approval."""
    MESSAGE = "message"
    """The message that may not have arrived."""
    REPOSITORY = "repository"
    """The question which repository is meant, among others this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """A button of the card; `lifecycle.offers` decides when it is shown."""

    label: str
    help: str
    """What it does, in one line of Markdown."""
    about: About
    done: str
    """What whoever clicked it first has done, for whoever comes second."""
    style: str | None = None
    """One of Slack's own: "primary" or "danger"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkButton:
    """A button that leads to a page. Its click is only acknowledged."""

    action_id: str
    label: str
    help: str


OPEN = LinkButton(action_id="open", label="Open in OpenHands", help="opens the conversation")

BUTTONS: Mapping[Action, Button] = {
    Action.STOP: Button(label="Stop", help="interrupts the agent", about=About.RUN, done="asked it to stop"),
    Action.RESUME: Button(
        label="Resume",
        help="lets a paused, stopped, failed or sleeping run go on",
        about=About.TURN,
        done="asked it to go on",
    ),
    Action.RETRY: Button(
        label="Retry",
        help="starts over in a new conversation, which gets the task and what was said in the thread",
        about=About.TURN,
        done="restarted it",
    ),
    Action.APPROVE: Button(
        label="Approve",
        help="lets the agent do the very action the card shows: tool, command, risk",
        about=About.APPROVAL,
        done="approved the action",
        style="primary",
    ),
    Action.REJECT: Button(
        label="Reject",
        help="keeps the agent from that action; it waits for other words",
        about=About.APPROVAL,
        done="rejected the action",
        style="danger",
    ),
    Action.CANCEL: Button(
        label="Cancel",
        help="takes a run out of the queue, or calls it off before it starts",
        about=About.RUN,
        done="cancelled it",
    ),
    Action.GO: Button(
        label="Start",
        help="starts what was asked for more than an hour before the bot could read it",
        about=About.TURN,
        done="started it",
        style="primary",
    ),
    Action.USE: Button(
        label="org/repo",
        help="answers which repository is meant: the one it names",
        about=About.REPOSITORY,
        done="chosen the repository",
    ),
    Action.NO_REPOSITORY: Button(
        label="No repository",
        help="answers it too: the task needs none",
        about=About.RUN,
        done="started it without a repository",
    ),
    Action.AGAIN: Button(
        label="Send again",
        help="sends a message again that may not have arrived",
        about=About.MESSAGE,
        done="had the message sent again",
    ),
    Action.LEAVE: Button(
        label="Leave it",
        help="leaves that message as it is",
        about=About.MESSAGE,
        done="left the message as it is",
    ),
}
"""Every action has its button, in the order people read them."""
ACTION_IDS: Mapping[str, Action] = {action.value: action for action in BUTTONS}
"""Our buttons by the ids that Slack sends in a click, without what tells several of one action apart: `use:2`."""
