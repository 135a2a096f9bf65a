"""`openhands-slack audit`: lists who did what, and verifies that no row was changed, taken out or put in."""

import csv
import io
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bot.store import audit, maintenance

NOTHING = "Nothing was recorded since then."
COLUMNS = (*audit.CONTENT, "fingerprint")


class Tampered(Exception):
    """The chain is broken; `problems` has a line for each place."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


async def listed(database_url: str, since: datetime, *, as_json: bool) -> str:
    """Return the rows since a moment, as CSV or as a JSON object each. Raises what `maintenance.opened` raises."""
    async with maintenance.opened(database_url) as database, database.reading() as tx:
        rows = [shown(row) for row in await audit.since(tx, since)]
    if as_json:
        return "\n".join(json.dumps(row) for row in rows)
    out = io.StringIO()
    written = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    written.writeheader()
    written.writerows(rows)
    return out.getvalue().rstrip("\n")


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name].isoformat() if isinstance(row[name], datetime) else row[name] for name in COLUMNS}


async def verified(database_url: str, known: str | None) -> str:
    """Return how many rows there are, and the last one's fingerprint. Raises `Tampered`.

    known: the fingerprint of a row that was noted elsewhere, and must still be there: cutting off the end of a chain
    leaves a whole one.
    """
    problems: list[str] = []
    before: Mapping[str, Any] | None = None
    found = known is None
    async with maintenance.opened(database_url) as database, database.reading() as tx:
        async for row in audit.every(tx):
            problems += audit.broken(row, before)
            found = found or row["fingerprint"] == known
            before = row
    if not found:
        problems.append(f"no row has the fingerprint {known}: the end was cut off, or rows were exchanged")
    if problems:
        raise Tampered(problems)
    count = before["seq"] if before else 0
    note = f" Note the last one's fingerprint elsewhere: {before['fingerprint']}" if before else ""
    return f"{count} {'row' if count == 1 else 'rows'}, none changed, missing or added.{note}"
