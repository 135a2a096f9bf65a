"""Who did what, and by which rule, in a chain; decisions become rows of it."""

import sqlalchemy as sa
from alembic import op

from bot.store import audit
from bot.store.tables import ShortText, UtcTime

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    made = op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("actor", ShortText(32), nullable=False),
        sa.Column("action", ShortText(32), nullable=False),
        sa.Column("verdict", ShortText(32), nullable=False),
        sa.Column("rule", ShortText(255), nullable=False),
        sa.Column("place", ShortText(32), nullable=False),
        sa.Column("run", ShortText(36), nullable=False),
        sa.Column("shown", ShortText(64), nullable=False),
        sa.Column("before", ShortText(64), nullable=False),
        sa.Column("fingerprint", ShortText(64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("audit_at", "audit", ["at"])
    decided = sa.table(
        "decisions",
        sa.column("seq", sa.Integer()),
        sa.column("run", ShortText(36)),
        sa.column("at", UtcTime()),
        sa.column("person", ShortText(32)),
        sa.column("accept", sa.Boolean()),
        sa.column("shown", ShortText(64)),
    )
    before = ""
    for seq, one in enumerate(op.get_bind().execute(sa.select(decided).order_by(decided.c.seq)).mappings().all(), 1):
        row = {
            "seq": seq,
            "at": one["at"],
            "actor": one["person"],
            "action": "approve" if one["accept"] else "reject",
            "verdict": "allowed",
            "rule": "everybody",
            "place": "",
            "run": one["run"],
            "shown": one["shown"],
            "before": before,
        }
        before = audit.fingerprint(row)
        op.get_bind().execute(sa.insert(made).values(**row, fingerprint=before))
    op.drop_table("decisions")
