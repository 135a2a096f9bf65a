"""What a run's first result was, for whom its turn is, what the team was told, and how long it worked."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import Document, LongText, ShortText

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("first_answer", LongText(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("told_team", ShortText(255), server_default="", nullable=False))
        batch_op.add_column(sa.Column("turn_by", Document(), server_default="[]", nullable=False))
        batch_op.add_column(sa.Column("worked_s", sa.Float(), server_default="0", nullable=False))
    op.execute("UPDATE runs SET first_answer = answer WHERE state = 'done'")
    lite = op.get_bind().dialect.name == "sqlite"
    took = (
        "(julianday(ended_at) - julianday(created_at)) * 86400" if lite else "extract(epoch FROM ended_at - created_at)"
    )
    op.execute(f"UPDATE runs SET worked_s = {took} WHERE ended_at IS NOT NULL AND turn = 1")  # noqa: S608 - both texts are above
