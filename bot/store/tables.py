"""Every table, in one definition for each database."""

from datetime import UTC, datetime

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
    text,
)
from sqlalchemy.types import TypeDecorator


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


metadata = MetaData()

inbox = Table(
    "inbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("key", String(255), nullable=False, unique=True),
    Column("lane", String(255), nullable=False),  # the thread it belongs to: its rows go in order
    Column("position", String(32), nullable=False),  # the message's ts: order within the lane, however it arrived
    Column("payload", JSON),  # an Incoming; null once done
    Column("received_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
)
Index("inbox_open", inbox.c.lane, inbox.c.seq, sqlite_where=inbox.c.done_at.is_(None))
Index("inbox_old", inbox.c.done_at)

threads = Table(
    "threads",
    metadata,
    Column("team", String(32), primary_key=True),
    Column("channel", String(32), primary_key=True),
    Column("thread_ts", String(32), primary_key=True),
    Column("run", String(36), nullable=False),
    Column("every_reply", Boolean, nullable=False),  # false: people's own thread, where only mentions steer
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("team", String(32), nullable=False),
    Column("channel", String(32), nullable=False),
    Column("thread_ts", String(32)),
    Column("request_ts", String(32)),
    Column("card_ts", String(32)),
    Column("private", Boolean, nullable=False),
    Column("requester", String(32), nullable=False),
    Column("task", Text, nullable=False),
    Column("context", Text, nullable=False),
    Column("repository", String(255)),
    Column("origin", String(16)),
    Column("candidates", JSON, nullable=False),
    Column("branch", String(255)),
    Column("model", String(255)),
    Column("state", String(32), nullable=False),
    Column("waiting", String(32)),
    Column("reason", String(32)),
    Column("detail", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("pull_requests", JSON, nullable=False),
    Column("cost", Float, nullable=False),
    Column("progress", Text, nullable=False),
    Column("blind", Boolean, nullable=False),
    Column("api", String(8)),
    Column("conversation_id", String(64)),
    Column("start_task_id", String(64)),
    Column("attempt", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("turn_at", UtcTime, nullable=False),
    Column("turn_after", String(64)),
    Column("ending", String(64)),
    Column("phase", String(32)),
    Column("seen_at", UtcTime, nullable=False),
    Column("unsettled_since", UtcTime),
    Column("stop_by", String(32)),
    Column("stop_at", UtcTime),
    Column("unreachable_since", UtcTime),
    Column("key_refused", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("card_version", Integer, nullable=False),
    Column("card_at", UtcTime),
    Column("cards", Integer, nullable=False),
    Column("card_gone", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("news_at", UtcTime, nullable=False),
    Column("next_poll_at", UtcTime),
)
Index("runs_due", runs.c.next_poll_at)
Index("runs_behind", runs.c.card_at, sqlite_where=text("version > card_version"))
Index("runs_place", runs.c.channel, runs.c.requester, runs.c.created_at)

follow_ups = Table(
    "follow_ups",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("run", String(36), nullable=False, index=True),
    Column("author", String(32), nullable=False),
    Column("text", Text, nullable=False),
    Column("source_ts", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("last_event", String(64)),
    Column("quiet_since", UtcTime),
    Column("asked_at", UtcTime),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("run", String(36)),
    Column("kind", String(16), nullable=False),
    Column("lane", String(96), nullable=False),  # its rows go in order
    Column("rank", Integer, nullable=False),  # who goes first when Slack's budget is short: the lower
    Column("payload", JSON),  # null once done
    Column("created_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("tried_at", UtcTime),  # committed before the call: null means never sent
    Column("next_at", UtcTime, nullable=False),
    Column("done_at", UtcTime),
    Column("failed_at", UtcTime),
    Column("result", String(255)),  # Slack's or OpenHands' own word for what became of it
    UniqueConstraint("id"),
)
Index("outbox_open", outbox.c.lane, outbox.c.seq, sqlite_where=text("done_at IS NULL AND failed_at IS NULL"))
