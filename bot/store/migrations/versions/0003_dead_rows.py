"""Indexes of closed rows of the outbox, so that nobody reads a whole week of them to count the dead ones."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for name, column in (("outbox_dead", "failed_at"), ("outbox_old", "done_at")):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, "outbox", [column], unique=False, sqlite_where=where, postgresql_where=where)
