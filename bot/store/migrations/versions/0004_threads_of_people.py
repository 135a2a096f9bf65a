"""Which runs live in a thread of people, where only mentions are for the bot."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("runs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("mentions_only", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE runs SET mentions_only = true WHERE id IN (SELECT run FROM threads WHERE NOT every_reply)")
