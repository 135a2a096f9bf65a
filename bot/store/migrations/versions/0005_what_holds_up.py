"""What holds up a call, until when the queue rests, and the cost of earlier attempts."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import ShortText, UtcTime

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        for column in (
            sa.Column("call_waits_since", UtcTime(), nullable=True),
            sa.Column("call_waits_why", ShortText(16), nullable=True),
            sa.Column("cost_before", sa.Float(), server_default="0", nullable=False),
            sa.Column("starts_after", UtcTime(), nullable=True),
        ):
            batch_op.add_column(column)
