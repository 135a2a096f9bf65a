"""Who approved first what two people must approve."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import ShortText

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("first_approval", ShortText(32)))
