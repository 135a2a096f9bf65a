"""What people decided on what agents wanted, kept for good: who, when, and on what as shown how."""

import hashlib
from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.model import Run
from bot.store.tables import decisions

ADD = insert(decisions)


async def add(connection: AsyncConnection, run: Run, now: datetime) -> None:
    """Keep the decision that the run was just given, with a fingerprint of what its card showed as wanted."""
    about = {
        "run": run.id,
        "at": now,
        "person": run.decided_by,
        "accept": run.approved,
        "action": run.action,
        "shown": hashlib.sha256(run.detail.encode()).hexdigest(),
    }
    await connection.execute(ADD, about)
