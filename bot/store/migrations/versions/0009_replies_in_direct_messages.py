"""Where a reply was written, if it is not its run's place: signs on it go there."""

import sqlalchemy as sa
from alembic import op

from bot.store.tables import ShortText

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("follow_ups", schema=None) as batch_op:
        batch_op.add_column(sa.Column("source_channel", ShortText(32), nullable=True))
