"""Who approved or rejected what, and a fingerprint of what they were shown."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import ShortText, UtcTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "decisions",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("run", ShortText(36), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("person", ShortText(32), nullable=False),
        sa.Column("accept", sa.Boolean(), nullable=False),
        sa.Column("action", ShortText(255), nullable=False),
        sa.Column("shown", ShortText(64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
