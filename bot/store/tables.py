"""Every table, defined once for both databases."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps it as text that sorts like the time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


HALVES = re.compile("[\ud800-\udfff]")
"""Lone surrogates, which JSON can carry and no database stores. PostgreSQL stores no null character either."""


def storable(value: Any) -> Any:
    """Return a text, or JSON with texts in it, in a form that every database stores."""
    if isinstance(value, str):
        return HALVES.sub("\ufffd", value.replace("\x00", ""))
    if isinstance(value, Mapping):
        return {storable(name): storable(one) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [storable(one) for one in value]
    return value


class ShortText(TypeDecorator[str]):
    """A short text, compared byte by byte. Its length is for the reader: no database cuts or refuses a longer one."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        return Text(collation="C") if dialect.name == "postgresql" else self.impl_instance

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else storable(value)


class LongText(TypeDecorator[str]):
    """A text of any length."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else storable(value)


class Document(TypeDecorator[Any]):
    """JSON."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - SQLAlchemy's signature
        return storable(value)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        """Return JSON's own type, so that a path into the document stays a path."""
        return self.impl_instance.coerce_compared_value(op, value)


def partial(name: str, *columns: Any, where: str) -> Index:
    """Index only the rows that `where` selects."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


metadata = MetaData()

inbox = Table(
    "inbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("key", ShortText(255), nullable=False, unique=True),
    Column("lane", ShortText(255), nullable=False),  # the thread it belongs to: its rows are handled in order
    Column(
        "position", ShortText(32), nullable=False
    ),  # Slack's time of the message or click: order within the lane, however it arrived
    Column("payload", Document),  # an Incoming; null once done
    Column("received_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
)
partial("inbox_open", inbox.c.lane, inbox.c.seq, where="done_at IS NULL")
Index("inbox_old", inbox.c.done_at)

threads = Table(
    "threads",
    metadata,
    Column("team", ShortText(32), primary_key=True),
    Column("channel", ShortText(32), primary_key=True),
    Column("thread_ts", ShortText(32), primary_key=True),
    Column("run", ShortText(36), nullable=False),
    Column("every_reply", Boolean, nullable=False),  # false: people's own thread, where only mentions steer
)

runs = Table(
    "runs",
    metadata,
    Column("id", ShortText(36), primary_key=True),
    Column("team", ShortText(32), nullable=False),
    Column("channel", ShortText(32), nullable=False),
    Column("thread_ts", ShortText(32)),
    Column("request_ts", ShortText(32)),
    Column("card_ts", ShortText(32)),
    Column("private", Boolean, nullable=False),
    Column("mentions_only", Boolean, nullable=False, server_default=false()),
    Column("requester", ShortText(32), nullable=False),
    Column("task", LongText, nullable=False),
    Column("context", LongText, nullable=False),
    Column("files", Document, nullable=False, server_default="[]"),
    Column("repository", ShortText(255)),
    Column("origin", ShortText(16)),
    Column("candidates", Document, nullable=False),
    Column("branch", ShortText(255)),
    Column("model", ShortText(255)),
    Column("state", ShortText(32), nullable=False),
    Column("waiting", ShortText(32)),
    Column("action", ShortText(255)),
    Column("reason", ShortText(32)),
    Column("detail", LongText, nullable=False),
    Column("answer", LongText, nullable=False),
    Column("first_answer", LongText, nullable=False, server_default=""),
    Column("told_team", ShortText(255), nullable=False, server_default=""),
    Column("pull_requests", Document, nullable=False),
    Column("cost", Float, nullable=False),
    Column("cost_before", Float, nullable=False, server_default="0"),
    Column("progress", LongText, nullable=False),
    Column("blind", Boolean, nullable=False),
    Column("api", ShortText(8)),
    Column("conversation_id", ShortText(64)),
    Column("start_task_id", ShortText(64)),
    Column("attempt", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("turn_at", UtcTime, nullable=False),
    Column("turn_by", Document, nullable=False, server_default="[]"),
    Column("worked_s", Float, nullable=False, server_default="0"),
    Column("turn_after", ShortText(64)),
    Column("ending", ShortText(64)),
    Column("phase", ShortText(32)),
    Column("seen_at", UtcTime, nullable=False),
    Column("unsettled_since", UtcTime),
    Column("stop_by", ShortText(32)),
    Column("stop_at", UtcTime),
    Column("resume_by", ShortText(32)),
    Column("approved", Boolean),
    Column("decided_by", ShortText(32)),
    Column("first_approval", ShortText(32)),
    Column("moved", ShortText(16)),
    Column("moved_by", ShortText(32)),
    Column("undecided", ShortText(36)),
    Column("undecided_text", LongText, nullable=False, server_default=""),
    Column("queued_at", UtcTime),
    Column("admitted_at", UtcTime),
    Column("queue_place", Integer),
    Column("starts_after", UtcTime),
    Column("unreachable_since", UtcTime),
    Column("key_refused", Boolean, nullable=False),
    Column("call_waits_since", UtcTime),
    Column("call_waits_why", ShortText(16)),
    Column("version", Integer, nullable=False),
    Column("card_version", Integer, nullable=False),
    Column("card_at", UtcTime),
    Column("cards", Integer, nullable=False),
    Column("card_gone", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("asked_at", UtcTime),
    Column("news_at", UtcTime, nullable=False),
    Column("heard_at", UtcTime),
    Column("stale_at", UtcTime),
    Column("next_poll_at", UtcTime),
)
Index("runs_due", runs.c.next_poll_at)
partial("runs_behind", runs.c.card_at, where="version > card_version")
Index("runs_place", runs.c.channel, runs.c.requester, runs.c.created_at)
Index("runs_state", runs.c.state, runs.c.queued_at)
Index("runs_request", runs.c.request_ts)
Index("runs_admitted", runs.c.requester, runs.c.admitted_at)

follow_ups = Table(
    "follow_ups",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", ShortText(36), nullable=False, unique=True),
    Column("run", ShortText(36), nullable=False, index=True),
    Column("author", ShortText(32), nullable=False),
    Column("text", LongText, nullable=False),
    Column("files", Document, nullable=False, server_default="[]"),
    Column("source_ts", ShortText(32), nullable=False, index=True),
    Column("source_channel", ShortText(32)),
    Column("state", ShortText(16), nullable=False),
    Column("last_event", ShortText(64)),
    Column("quiet_since", UtcTime),
    Column("asked_at", UtcTime),
    Column("sends", Integer, nullable=False, server_default="0"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", ShortText(36), nullable=False),
    Column("run", ShortText(36)),
    Column("kind", ShortText(16), nullable=False),
    Column("lane", ShortText(96), nullable=False),  # its rows are done in order
    Column("rank", Integer, nullable=False),  # the lower goes first when Slack's budget is short
    Column("payload", Document),  # null once done
    Column("created_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("tried_at", UtcTime),  # committed before the call: null means never sent
    Column("next_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    Column("failed_at", UtcTime),
    Column("result", ShortText(255)),  # Slack's or OpenHands' own word for what became of it
    UniqueConstraint("id"),
)
partial("outbox_open", outbox.c.lane, outbox.c.seq, where="done_at IS NULL AND failed_at IS NULL")
partial("outbox_dead", outbox.c.failed_at, where="failed_at IS NOT NULL")
partial("outbox_old", outbox.c.done_at, where="done_at IS NOT NULL")

audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("actor", ShortText(32), nullable=False),  # empty: the bot
    Column("action", ShortText(32), nullable=False),
    Column("verdict", ShortText(32), nullable=False),
    Column("rule", ShortText(255), nullable=False),
    Column("place", ShortText(32), nullable=False),
    Column("run", ShortText(36), nullable=False),
    Column("shown", ShortText(64), nullable=False),  # SHA-256 of what was shown, in hexadecimal
    Column("before", ShortText(64), nullable=False),  # the fingerprint of the row before
    Column("fingerprint", ShortText(64), nullable=False),
)
Index("audit_at", audit.c.at)

marks = Table(
    "marks",
    metadata,
    Column("name", ShortText(32), primary_key=True),  # one of `store.checkpoints.Mark`
    Column("at", UtcTime, nullable=False),
)
