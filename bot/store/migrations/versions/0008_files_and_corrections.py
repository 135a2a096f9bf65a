"""The files of messages, and indexes by which an edit or a deletion finds what its message became."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import Document

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for table in ("runs", "follow_ups"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("files", Document(), server_default="[]", nullable=False))
    op.create_index("runs_request", "runs", ["request_ts"], unique=False)
    op.create_index("ix_follow_ups_source_ts", "follow_ups", ["source_ts"], unique=False)
