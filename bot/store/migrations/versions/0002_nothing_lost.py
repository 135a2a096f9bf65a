"""Queue, approvals, who did what, and what was heard last."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import LongText, ShortText, UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for column in (
            sa.Column("action", ShortText(255), nullable=True),
            sa.Column("resume_by", ShortText(32), nullable=True),
            sa.Column("approved", sa.Boolean(), nullable=True),
            sa.Column("decided_by", ShortText(32), nullable=True),
            sa.Column("moved", ShortText(16), nullable=True),
            sa.Column("moved_by", ShortText(32), nullable=True),
            sa.Column("undecided", ShortText(36), nullable=True),
            sa.Column("undecided_text", LongText(), server_default="", nullable=False),
            sa.Column("queued_at", UtcTime(), nullable=True),
            sa.Column("queue_place", sa.Integer(), nullable=True),
            sa.Column("asked_at", UtcTime(), nullable=True),
            sa.Column("heard_at", UtcTime(), nullable=True),
            sa.Column("stale_at", UtcTime(), nullable=True),
        ):
            batch_op.add_column(column)
        batch_op.create_index("runs_state", ["state", "queued_at"], unique=False)

    with op.batch_alter_table("follow_ups", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sends", sa.Integer(), server_default="0", nullable=False))

    op.create_table(
        "marks",
        sa.Column("name", ShortText(32), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
