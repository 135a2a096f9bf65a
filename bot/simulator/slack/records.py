"""The local Slack's state: people, places, messages, calls and deliveries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

JSON = dict[str, Any]
Kind = Literal["channel", "group", "im", "mpim"]


class Refused(Exception):
    """The Web API's answer is `ok: false`, still with HTTP 200."""

    def __init__(self, error: str, **extra: Any) -> None:
        """extra: further fields of the answer, such as `needed` and `provided`."""
        super().__init__(error)
        self.error = error
        self.extra = extra


@dataclass(frozen=True)
class User:
    id: str
    name: str
    team_id: str
    bot_id: str | None = None  # a bot user's own B… id
    restricted: bool = False
    ultra_restricted: bool = False
    deleted: bool = False
    stranger: bool = False


@dataclass(frozen=True)
class Message:
    """One version of a stored message; a change makes a new object.

    `thread_ts` is the root of the thread a reply is in; None for a root. `mentions` are the people in the channel whom
    it notified when it was posted; an edit notifies nobody. `broadcasts` are the groups (`channel`, `here`, …) that
    any version of it named.
    """

    ts: str
    channel: str
    user: str
    text: str
    posted_at: datetime
    bot_id: str | None = None
    blocks: tuple[JSON, ...] = ()
    thread_ts: str | None = None
    subtype: str | None = None
    metadata: JSON | None = None
    reactions: Mapping[str, list[str]] = field(default_factory=dict)
    edited: int = 0
    history: tuple[tuple[str, tuple[JSON, ...]], ...] = ()
    mentions: frozenset[str] = frozenset()
    broadcasts: frozenset[str] = frozenset()
    client_msg_id: str | None = None
    attachments: tuple[JSON, ...] = ()
    files: tuple[JSON, ...] = ()


@dataclass
class Channel:
    id: str
    name: str
    kind: Kind
    creator: str
    members: set[str]
    ext_shared: bool = False
    archived: bool = False
    messages: dict[str, Message] = field(default_factory=dict)
    threads: dict[str, list[str]] = field(default_factory=dict)  # root ts → ts of its replies
    last_us: int = 0  # newest ts given out, in microseconds


@dataclass(frozen=True)
class Ephemeral:
    """What one person saw but Slack did not store. `via`: chat.postEphemeral, response_url or ack."""

    user: str
    channel: str
    text: str
    blocks: tuple[JSON, ...]
    thread_ts: str | None
    at: datetime
    via: str


@dataclass
class Command:
    """A slash command somebody typed, and everything that came back; `acked` is None until it is acked or failed."""

    user: str
    channel: str
    text: str
    trigger_id: str
    response_url: str
    acked: bool | None = None
    ack_text: str | None = None
    ack_seconds: float | None = None
    failed: bool = False
    responses: list[JSON] = field(default_factory=list)


@dataclass
class Call:
    """One Web API call. `ok` is what the caller was told: None until then; False with an error if told nothing."""

    method: str
    args: JSON
    at: datetime
    ok: bool | None = None
    error: str | None = None


@dataclass
class Delivery:
    """One event, command or click on its way to the app, over all its attempts.

    `envelope_id` and `sent_at` belong to the latest attempt. `event_id` never changes, and is None for all but events.
    """

    type: str
    payload: JSON
    event_id: str | None
    envelope_id: str = ""
    sent_at: datetime | None = None
    acked_at: datetime | None = None
    ack_payload: Any = None
    attempts: int = 0
    retries: int = 0
    first_failed_at: datetime | None = None
    failed: bool = False  # given up
    settled: Callable[["Delivery"], None] | None = None
