"""The types everything else is written in: what people ask, a run, and what OpenHands shows of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType

TeamId = NewType("TeamId", str)
ChannelId = NewType("ChannelId", str)
UserId = NewType("UserId", str)
MessageTs = NewType("MessageTs", str)
"""Slack's id of a message within its channel: seconds with six decimals, compared as text of equal length."""
RunId = NewType("RunId", str)
"""UUID of a run; it never changes."""
RowId = NewType("RowId", str)
"""UUID of an outbox row; Slack messages carry it as metadata."""
ConversationId = NewType("ConversationId", str)
"""OpenHands' id of a conversation: a UUID with dashes that we made (V1), or 32 hex digits that it made (V0)."""


# --- requests ---------------------------------------------------------------------------------------------------


class IncomingKind(StrEnum):
    COMMAND = "command"
    MESSAGE = "message"
    CLICK = "click"
    EDIT = "edit"
    """What a message says since its author changed it."""
    DELETION = "deletion"


class Action(StrEnum):
    """What a person can do to a run, by a button of its card or by a word."""

    STOP = "stop"
    CANCEL = "cancel"
    RESUME = "resume"
    RETRY = "retry"
    """A new conversation for the same run."""
    APPROVE = "approve"
    REJECT = "reject"
    AGAIN = "again"
    """Send a message again that the agent may not have got."""
    LEAVE = "leave"
    """Leave that message as it is."""
    GO = "go"
    """Start what was asked for long ago, or before the bot could read it."""
    USE = "use"
    """Work in the repository that the button names."""
    NO_REPOSITORY = "no_repository"
    """The task needs none."""


class Act(StrEnum):
    """What a person can do, as far as rules tell it apart."""

    LOOK = "look"
    START = "start"
    STOP = "stop"
    RESUME = "resume"
    RETRY = "retry"
    ANSWER = "answer"
    """Tell the agent something."""
    APPROVE = "approve"
    REJECT = "reject"
    ADMINISTER = "administer"
    """Ask why somebody may do something, or what everybody did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that somebody attached to a message. Its bytes stay at Slack until the message goes to the agent."""

    id: str
    name: str
    """As its owner called it."""
    url: str = ""
    """Where its bytes are, for the bot's token; empty if Slack has to be asked."""
    size: int = 0
    """In bytes, as Slack says; 0 if it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One request as a person made it, recognised but not yet understood."""

    key: str
    """Equal for every delivery of the same request."""
    kind: IncomingKind
    team: TeamId
    channel: ChannelId
    user: UserId
    text: str
    """As Slack sends it: mentions as ids, `&`, `<`, `>` escaped."""
    ts: MessageTs | None = None
    """The message itself, or the one whose button was clicked; None for a command, which is no message."""
    thread_ts: MessageTs | None = None
    """The root of the thread it was written in; None at the top level."""
    mentions_us: bool = False
    direct: bool = False
    """Written in the one-to-one conversation with the bot."""
    action: Action | None = None
    """The button that was clicked; `ts` is the message it is on."""
    value: str = ""
    """The value of that button: the run, the turn, and the action or message it was drawn for."""
    clicked_at: MessageTs | None = None
    """Slack's time of the click."""
    actor_team: TeamId | None = None
    """The person's own team, if the event names another one than ours."""
    external: bool = False
    """The channel is shared with another company."""
    response_url: str | None = None
    """Address for answers that only this person sees: up to five, within 30 minutes. A secret."""
    files: tuple[File, ...] = ()
    """Those of the messages it forwards included."""
    edited_at: MessageTs | None = None
    """Slack's time of the edit or deletion of the message `ts`; None if it is as it was written."""
    was: str = ""
    """What an edited message said before."""

    @property
    def redelivered_by_slack(self) -> bool:
        """Return whether Slack sends it again if it is not acknowledged: it does so for events, not for commands."""
        return self.kind in (IncomingKind.MESSAGE, IncomingKind.EDIT, IncomingKind.DELETION)

    def age_s(self, now: datetime) -> float:
        """Return the seconds since a person wrote it, by Slack's clock; 0 for what Slack never delivers late."""
        said_at = self.edited_at or self.ts
        late = self.kind is IncomingKind.MESSAGE and said_at is not None
        return max(0.0, now.timestamp() - float(said_at or 0)) if late else 0.0

    @property
    def withdrawn(self) -> bool:
        """Return whether its author, or an admin, deleted it."""
        return self.kind is IncomingKind.DELETION

    @property
    def corrects(self) -> bool:
        """Return whether it is about an earlier message, `ts`."""
        return self.kind in (IncomingKind.EDIT, IncomingKind.DELETION)

    @property
    def thread(self) -> MessageTs | None:
        """Return the root of the thread an answer belongs in: the request's own, or the one an answer would open."""
        return self.thread_ts or self.ts


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What Slack says about the person who acts."""

    id: UserId
    team: TeamId | None
    name: str = ""
    bot: bool = False
    guest: bool = False
    stranger: bool = False
    """From outside the company (Slack Connect)."""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What Slack says about one of its conversations: a channel, a group, direct messages."""

    id: ChannelId
    private: bool
    """Anything but a public channel: its words stay inside."""
    external: bool = False


@dataclass(frozen=True, slots=True)
class PlaceGone:
    """A Slack conversation that was archived, or the bot removed from it: nothing can be written there."""

    channel: ChannelId


class UnclearReason(StrEnum):
    EMPTY = "empty"
    MISSPELT = "misspelt"
    OPTION = "option"
    """`word` names a repository, branch or model in a way that can't be read, or a second, different one."""


@dataclass(frozen=True, slots=True)
class Start:
    """A task for an agent."""

    task: str
    repository: str | None = None
    branch: str | None = None
    model: str | None = None
    candidates: tuple[str, ...] = ()
    """What looks like a repository, in the order of the text: asked about, unless the account has exactly one of them."""
    linked: bool = False
    """The repository was found in passing, in a link."""
    faint: tuple[str, ...] = ()
    """Folders, packages, pairs of words and the like: repositories only if the account has one of that name."""


@dataclass(frozen=True, slots=True)
class Do:
    """An action on the run, as its button does it."""

    action: Action


@dataclass(frozen=True, slots=True)
class Status:
    """Asks how the run is."""


@dataclass(frozen=True, slots=True)
class ListRuns:
    """Asks which runs there are."""


@dataclass(frozen=True, slots=True)
class Help:
    """Asks what can be typed."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """Neither a task nor a command."""

    reason: UnclearReason
    word: str = ""
    suggestion: str | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """Asks whether somebody may do something somewhere, and by which rule."""

    person: str
    """As it was typed: a mention, an id or a name."""
    place: str
    repository: str
    act: Act


Command = Start | Do | Status | ListRuns | Help | Unclear | Why


# --- runs -------------------------------------------------------------------------------------------------------


class Api(StrEnum):
    V0 = "v0"
    V1 = "v1"
    AGENT = "agent"
    """An Agent Server by itself, as people host it."""


class RunState(StrEnum):
    NEEDS_REPOSITORY = "needs_repository"
    NEEDS_GO = "needs_go"
    """Asked for so long ago that a person must say whether it is still wanted."""
    QUEUED = "queued"
    """Waits for a free slot of the account."""
    STARTING = "starting"
    WORKING = "working"
    WAITING = "waiting"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    CANCELLED = "cancelled"


LIVE = frozenset(
    {
        RunState.NEEDS_REPOSITORY,
        RunState.NEEDS_GO,
        RunState.QUEUED,
        RunState.STARTING,
        RunState.WORKING,
        RunState.WAITING,
        RunState.PAUSED,
    }
)
"""States of a run that has not ended: it is listed as live, and `stop` and `status` can mean it."""


class Origin(StrEnum):
    """Where a run's repository came from."""

    TYPED = "typed"
    LINKED = "linked"
    THREAD = "thread"
    WORDS = "words"
    """Found in the task's own words: the account has exactly one of the repositories they may name."""
    DEFAULT = "default"
    CHOSEN = "chosen"
    NONE = "none"
    """The person said that none is needed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The repository of a request and where it came from, or what has to be asked about it."""

    repository: str | None = None
    origin: Origin | None = None
    """None: it has to be asked for."""
    branch: str | None = None
    """The branch that was named beside it in passing."""
    candidates: tuple[str, ...] = ()
    unlisted: str | None = None
    """What was named, and is not among the account's repositories."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The repositories that an account has, as far as its server lists them."""

    names: tuple[str, ...] = ()
    whole: bool = False
    """There are no others."""


class Waiting(StrEnum):
    """What a waiting run waits for."""

    QUESTION = "question"
    ANSWER = "answer"
    """The agent said something and stopped: a reply continues the run."""
    APPROVAL = "approval"


class Reason(StrEnum):
    """Why a run is in its state, as far as people are told."""

    MODEL_KEY = "model_key"
    MODEL_LIMIT = "model_limit"
    MODEL_DOWN = "model_down"
    MODEL_REFUSED = "model_refused"
    STUCK = "stuck"
    MAX_STEPS = "max_steps"
    AGENT_ERROR = "agent_error"
    CUT_OFF = "cut_off"
    """The server was killed or ended while the agent worked; it can go on."""
    SANDBOX_BROKEN = "sandbox_broken"
    ASLEEP = "asleep"
    START_FAILED = "start_failed"
    """The server took the task and could not start it."""
    START_STUCK = "start_stuck"
    REPOSITORY = "repository"
    """The repository could not be opened."""
    BRANCH = "branch"
    """The repository has no such branch; `detail` has names that are near."""
    UNLISTED = "unlisted"
    """The account has no repository of the name that was given."""
    KEY_REFUSED = "key_refused"
    AT_CAPACITY = "at_capacity"
    START_REJECTED = "start_rejected"
    """The server will not start it as asked; `detail` has its words."""
    START_UNREADABLE = "start_unreadable"
    """The server's answer is not one of OpenHands'."""
    START_UNSURE = "start_unsure"
    """It may have started; only a person can tell."""
    FORGOTTEN = "forgotten"
    """A fault of ours: nothing was going to start it."""
    MODEL_UNSUPPORTED = "model_unsupported"
    """A V0 server takes no model."""
    GONE = "gone"
    """The conversation was deleted or belongs to another key."""
    SILENT = "silent"
    """The sandbox runs, the agent in it does not answer."""
    REJECTED = "rejected"
    """A person rejected what the agent wanted to do, and it waits for other words."""
    OUT_OF_BUDGET = "out_of_budget"
    """The language model's budget is used up."""
    DAY_LIMIT = "day_limit"
    """OpenHands starts no more conversations today; `detail` has its numbers."""
    ACCOUNT_BUDGET = "account_budget"
    """The budget of the OpenHands account is used up, so it starts nothing."""
    NOT_ALLOWED = "not_allowed"
    """The rules do not allow it any more."""
    UNANSWERED = "unanswered"
    """Nobody answered what the bot asked before it could start."""
    NO_WORDS = "no_words"
    """It ended, and what the agent said could not be read."""


class Obstacle(StrEnum):
    """What holds up a call to OpenHands, as far as people are told."""

    AWAY = "away"
    KEY = "key"
    BUSY = "busy"
    """OpenHands, or a gateway before it, takes no more calls for now."""
    MOVED = "moved"
    FULL = "full"
    """The agent server keeps a message, but runs no more agents for now."""
    WAKING = "waking"
    """The sandbox was told to wake up, which may take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The one message that shows a run, from its post until it is gone."""

    ts: MessageTs | None = None
    """None before it is posted."""
    version: int = 0
    """The run's version that it shows; while the run's is higher, an edit is owed."""
    edited_at: datetime | None = None
    posts: int = 0
    """How often it was posted: a deleted card comes back once."""
    gone: bool = False
    """There is no card to edit any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What polling knows of a run, and when it looks next. Times are ours: the server's go backwards."""

    phase: "Phase | None" = None
    """None before the first look after a message or a wake-up."""
    observed_at: datetime
    """When the request for the last applied observation was sent."""
    next_poll_at: datetime | None = None
    news_at: datetime
    """When the run's state last changed, for the pace of polling."""
    heard_at: datetime | None = None
    """When OpenHands last showed anything new of it."""
    ambiguous_since: datetime | None = None
    """Since when observations are ambiguous: no words, or a status that may pass."""
    unreachable_since: datetime | None = None
    """Since when OpenHands could not be asked about this run; None while it answers."""
    key_refused: bool = False
    """It could not be asked because it refuses the bot's key."""
    call_waits_since: datetime | None = None
    """Since when a call of ours for this run does not get through; looks at the run may, all the while."""
    call_waits_why: Obstacle | None = None
    silence_told_at: datetime | None = None
    """When people were told that nothing had been heard of it for long; None if they were not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One task as the bot follows it, from the request to its end.

    Times are aware and UTC.
    """

    id: RunId
    team: TeamId
    channel: ChannelId
    thread_ts: MessageTs | None
    """Root of the thread it lives in; None until a command's card is posted, which is that root."""
    request_ts: MessageTs | None
    """The message that asked, to react to; None for a command."""
    private: bool
    """From direct messages or a private channel: elsewhere only state, requester and link are shown."""
    requester: UserId
    task: str
    context: str = ""
    """What people had said in their thread before the bot was mentioned there."""
    files: tuple[File, ...] = ()
    """Those that go along with the task."""
    repository: str | None = None
    origin: Origin | None = None
    candidates: tuple[str, ...] = ()
    branch: str | None = None
    model: str | None = None
    card: Card = Card()
    watch: Watch
    state: RunState
    waiting: Waiting | None = None
    action: str | None = None
    """Id of the action that waits for approval, so that nobody approves anything but what was shown."""
    reason: Reason | None = None
    detail: str = ""
    """Words of OpenHands that explain the reason or the approval it wants; redacted."""
    answer: str = ""
    """The agent's last words of this turn, Markdown, redacted."""
    first_answer: str = ""
    """What the agent said when it was done, or had answered, for the first time."""
    told_team: str = ""
    """The outcome that the team's channel was told last."""
    pull_requests: tuple[str, ...] = ()
    cost: float = 0.0
    """USD, the highest seen; of all attempts together."""
    cost_before: float = 0.0
    """That of the attempts before this one."""
    progress: str = ""
    blind: bool = False
    """This server shows only whether the run is active: no words, no questions."""
    api: Api | None = None
    conversation_id: ConversationId | None = None
    """Made by us for each attempt; a V0 server replaces it with its own at the start."""
    start_task_id: str | None = None
    attempt: int = 1
    turn: int = 1
    turn_at: datetime
    """When this turn's message went out, or its conversation was woken."""
    turn_by: tuple[UserId, ...] = ()
    """Whose replies or click this turn works on: they are called when it ends; empty for the requester alone."""
    worked_s: float = 0.0
    """Seconds in which it started or worked, up to its last change of state."""
    turn_after: str | None = None
    """The last event before this turn's message; None in a conversation's first turn."""
    ending: str | None = None
    """The event whose words were told last."""
    stop_by: UserId | None = None
    """Who asked to stop this turn."""
    stop_at: datetime | None = None
    resume_by: UserId | None = None
    """Who asked to resume it; None once that took effect."""
    approved: bool | None = None
    """The decision on `action`; None if there is none yet."""
    decided_by: UserId | None = None
    first_approval: UserId | None = None
    """Who approved `action` first, where two people must."""
    last_action: Action | None = None
    """What a person did last, so that whoever comes second can be told who was first."""
    last_action_by: UserId | None = None
    doubtful_follow_up: str | None = None
    """The follow-up a person is asked about: it may not have arrived, or is old."""
    doubtful_text: str = ""
    """Its text."""
    queued_at: datetime | None = None
    """Since when it waits for a slot; among those of one person the oldest goes first."""
    admitted_at: datetime | None = None
    """When it got its slot last; None if OpenHands had no room for it. Who had none for longest is next."""
    queue_position: int | None = None
    """Its position in the queue as the card shows it; 1 is next. Those that are to be drawn are given the true one."""
    starts_after: datetime | None = None
    """When OpenHands starts conversations again; until then the queue rests."""
    version: int = 1
    """Goes up when the card would look different; polling's own bookkeeping leaves it as it is."""
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    asked_at: datetime | None = None
    """When a person asked for it, if that was long before the bot could read it."""
    mentions_only: bool = False
    """It lives in a thread of people, where a reply is for it only if it mentions us or answers its question."""


class FollowUpState(StrEnum):
    WAITING = "waiting"
    SENDING = "sending"
    UNSURE = "unsure"
    DELIVERED = "delivered"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"
    HELD = "held"
    """Written so long ago that a person is asked before it is sent at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """One later message for a run."""

    id: str
    run: RunId
    author: UserId
    text: str
    files: tuple[File, ...] = ()
    source_ts: MessageTs
    source_channel: ChannelId | None = None
    """Where it was written; None: in its run's place."""
    state: FollowUpState = FollowUpState.WAITING
    last_event: str | None = None
    """The newest event before the message was sent; the message's own event is newer."""
    quiet_since: datetime | None = None
    """Since when the message is unsure and the run not running."""
    asked_at: datetime | None = None
    """When a person was asked what to do with it."""
    sends: int = 0
    """How often it was sent."""


# --- what OpenHands shows ---------------------------------------------------------------------------------------


class Phase(StrEnum):
    """What a conversation is doing, in one vocabulary for all APIs."""

    STARTING = "starting"
    START_FAILED = "start_failed"
    WORKING = "working"
    ENDED = "ended"
    """The turn is over; the agent's last words tell whether it finished, asks or says something."""
    WANTS_APPROVAL = "wants_approval"
    PAUSED = "paused"
    IDLE = "idle"
    ERROR = "error"
    STUCK = "stuck"
    ASLEEP = "asleep"
    UNCLEAR = "unclear"
    """The sandbox runs but says nothing of the agent."""
    BROKEN = "broken"
    MISSING = "missing"
    GONE = "gone"
    UNKNOWN = "unknown"
    """A word newer than this code."""


@dataclass(frozen=True, slots=True)
class Finish:
    words: str
    """What the agent says it did; empty where the server does not tell."""
    reason: Reason | None = None
    """Why it ended there, if not by its own decision."""


@dataclass(frozen=True, slots=True)
class Said:
    words: str


@dataclass(frozen=True, slots=True)
class Failed:
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """An action that waits for approval, or several that would all be approved together."""

    action_id: str
    """Differs as soon as anything else waits."""
    tool: str
    command: str
    """All that would run, letter by letter."""
    risk: str
    whole: bool = True
    """Whether nothing of it had to be cut or hidden."""


Last = Finish | Said | Failed | ApprovalRequest


@dataclass(frozen=True, slots=True)
class Overtaken:
    """The end of a turn after which the agent went on, with the next message, before anybody looked."""

    id: str
    """The event that holds the words."""
    last: Last


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a conversation."""

    asked_at: datetime
    """Our clock when the request was sent; the server's own times go backwards."""
    phase: Phase
    last: Last | None = None
    """Newest decisive words of this turn; None when there are none, or they were not read."""
    ending: str | None = None
    """The event that holds them; the same one never ends two turns."""
    overtaken: tuple[Overtaken, ...] = ()
    """Ends of turns before this one that may be untold, the oldest first."""
    cost: float | None = None
    pull_requests: tuple[str, ...] = ()
    progress: str = ""
    blind: bool = False
    start_task_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """OpenHands accepted the task."""

    conversation_id: ConversationId
    start_task_id: str | None = None


class DecisionOutcome(StrEnum):
    """What became of a person's decision on an action."""

    POSTED = "posted"
    """The server accepted it; the next observation shows whether it took effect."""
    OVER = "over"
    """Nothing waits for approval any more."""
    OTHER = "other"
    """What waits is not what the person was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """How full the account is."""

    running: int
    """How many run now, other people's included."""
    of: Literal["sandbox", "agent"] = "sandbox"
    """What is counted."""


class Effect(StrEnum):
    """What a change of state causes besides the edit of the card."""

    TELL = "tell"
    """One new message in the thread that mentions the requester."""
    NOTIFY = "notify"
    """One line in the team's channel."""
    RELEASE = "release"
    """Follow-ups that were held may go now."""
    REACT = "react"
    """A reaction on the request that shows the end."""
