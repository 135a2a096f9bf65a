"""The first tables."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import Document, LongText, ShortText, UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "follow_ups",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", ShortText(36), nullable=False),
        sa.Column("run", ShortText(36), nullable=False),
        sa.Column("author", ShortText(32), nullable=False),
        sa.Column("text", LongText(), nullable=False),
        sa.Column("source_ts", ShortText(32), nullable=False),
        sa.Column("state", ShortText(16), nullable=False),
        sa.Column("last_event", ShortText(64), nullable=True),
        sa.Column("quiet_since", UtcTime(), nullable=True),
        sa.Column("asked_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    with op.batch_alter_table("follow_ups", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_follow_ups_run"), ["run"], unique=False)

    op.create_table(
        "inbox",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("key", ShortText(255), nullable=False),
        sa.Column("lane", ShortText(255), nullable=False),
        sa.Column("position", ShortText(32), nullable=False),
        sa.Column("payload", Document(), nullable=True),
        sa.Column("received_at", UtcTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_at", UtcTime(), nullable=False),
        sa.Column("done_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("key"),
    )
    with op.batch_alter_table("inbox", schema=None) as batch_op:
        batch_op.create_index("inbox_old", ["done_at"], unique=False)
        batch_op.create_index(
            "inbox_open",
            ["lane", "seq"],
            unique=False,
            sqlite_where=sa.text("done_at IS NULL"),
            postgresql_where=sa.text("done_at IS NULL"),
        )

    op.create_table(
        "outbox",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", ShortText(36), nullable=False),
        sa.Column("run", ShortText(36), nullable=True),
        sa.Column("kind", ShortText(16), nullable=False),
        sa.Column("lane", ShortText(96), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("payload", Document(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tried_at", UtcTime(), nullable=True),
        sa.Column("next_at", UtcTime(), nullable=False),
        sa.Column("done_at", UtcTime(), nullable=True),
        sa.Column("failed_at", UtcTime(), nullable=True),
        sa.Column("result", ShortText(255), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(
            "outbox_open",
            ["lane", "seq"],
            unique=False,
            sqlite_where=sa.text("done_at IS NULL AND failed_at IS NULL"),
            postgresql_where=sa.text("done_at IS NULL AND failed_at IS NULL"),
        )

    op.create_table(
        "runs",
        sa.Column("id", ShortText(36), nullable=False),
        sa.Column("team", ShortText(32), nullable=False),
        sa.Column("channel", ShortText(32), nullable=False),
        sa.Column("thread_ts", ShortText(32), nullable=True),
        sa.Column("request_ts", ShortText(32), nullable=True),
        sa.Column("card_ts", ShortText(32), nullable=True),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("requester", ShortText(32), nullable=False),
        sa.Column("task", LongText(), nullable=False),
        sa.Column("context", LongText(), nullable=False),
        sa.Column("repository", ShortText(255), nullable=True),
        sa.Column("origin", ShortText(16), nullable=True),
        sa.Column("candidates", Document(), nullable=False),
        sa.Column("branch", ShortText(255), nullable=True),
        sa.Column("model", ShortText(255), nullable=True),
        sa.Column("state", ShortText(32), nullable=False),
        sa.Column("waiting", ShortText(32), nullable=True),
        sa.Column("reason", ShortText(32), nullable=True),
        sa.Column("detail", LongText(), nullable=False),
        sa.Column("answer", LongText(), nullable=False),
        sa.Column("pull_requests", Document(), nullable=False),
        sa.Column("cost", sa.Float(), nullable=False),
        sa.Column("progress", LongText(), nullable=False),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("api", ShortText(8), nullable=True),
        sa.Column("conversation_id", ShortText(64), nullable=True),
        sa.Column("start_task_id", ShortText(64), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("turn_at", UtcTime(), nullable=False),
        sa.Column("turn_after", ShortText(64), nullable=True),
        sa.Column("ending", ShortText(64), nullable=True),
        sa.Column("phase", ShortText(32), nullable=True),
        sa.Column("seen_at", UtcTime(), nullable=False),
        sa.Column("unsettled_since", UtcTime(), nullable=True),
        sa.Column("stop_by", ShortText(32), nullable=True),
        sa.Column("stop_at", UtcTime(), nullable=True),
        sa.Column("unreachable_since", UtcTime(), nullable=True),
        sa.Column("key_refused", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("card_version", sa.Integer(), nullable=False),
        sa.Column("card_at", UtcTime(), nullable=True),
        sa.Column("cards", sa.Integer(), nullable=False),
        sa.Column("card_gone", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("ended_at", UtcTime(), nullable=True),
        sa.Column("news_at", UtcTime(), nullable=False),
        sa.Column("next_poll_at", UtcTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.create_index(
            "runs_behind",
            ["card_at"],
            unique=False,
            sqlite_where=sa.text("version > card_version"),
            postgresql_where=sa.text("version > card_version"),
        )
        batch_op.create_index("runs_due", ["next_poll_at"], unique=False)
        batch_op.create_index("runs_place", ["channel", "requester", "created_at"], unique=False)

    op.create_table(
        "threads",
        sa.Column("team", ShortText(32), nullable=False),
        sa.Column("channel", ShortText(32), nullable=False),
        sa.Column("thread_ts", ShortText(32), nullable=False),
        sa.Column("run", ShortText(36), nullable=False),
        sa.Column("every_reply", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("team", "channel", "thread_ts"),
    )
