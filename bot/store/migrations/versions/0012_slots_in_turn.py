"""When a run got its slot, so that people get theirs in turn."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import UtcTime

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("admitted_at", UtcTime(), nullable=True))
        batch_op.create_index("runs_admitted", ["requester", "admitted_at"])
