"""`python -m bot dead`: lists, retries or drops outbox rows that failed for good, while the bot runs."""

from collections.abc import Collection, Sequence
from datetime import datetime

from bot.core.mrkdwn import clean, shorten
from bot.core.owed import REPOSTABLE
from bot.store import maintenance, outbox
from bot.store.outbox import DeadRow

NONE = "Nothing is dead."
HEADINGS = ("id", "kind", "run", "failed (UTC)", "why", "thread", "about")
TASK_LENGTH = 40
WHERE = "A thread's address is that of your workspace (https://….slack.com) with what stands under `thread` after it."


class Unknown(Exception):
    """At least one id belongs to no dead row; nothing was changed."""


async def listed(database_url: str) -> str:
    """Return a table with a line per dead row: where it belongs and what it is about, but never its text.

    Raises what `maintenance.opened` raises, as do `retried` and `dropped`.
    """
    async with maintenance.opened(database_url) as database, database.reading() as tx:
        rows = await outbox.dead(tx)
    if not rows:
        return NONE
    cells = [HEADINGS, *map(cells_of, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    where = [WHERE] if any(row.channel for row in rows) else []
    return "\n".join(
        [*lines, "", *where, f"`retry` posts these again: {', '.join(sorted(REPOSTABLE))}.", *others(rows)]
    )


def cells_of(row: DeadRow) -> tuple[str, ...]:
    when = f"{row.failed_at:%Y-%m-%d %H:%M}"
    return (str(row.seq), row.kind, row.run or "-", when, row.result, thread_of(row), about(row))


def thread_of(row: DeadRow) -> str:
    """Return the path of a link to the thread, or to the channel if there is none; only Slack knows the workspace."""
    if row.channel is None:
        return "-"
    return f"/archives/{row.channel}" + (f"/p{row.thread.replace('.', '')}" if row.thread else "")


def about(row: DeadRow) -> str:
    """Return the first words of the run's task; "-" for private places, whose text must not leak."""
    return "-" if row.task is None else shorten(" ".join(clean(row.task).split()), TASK_LENGTH)


def others(rows: Collection[DeadRow]) -> list[str]:
    """Return a line on what to do about rows that no command can enqueue again."""
    left = sorted({row.kind for row in rows if row.kind not in REPOSTABLE})
    if not left:
        return []
    return [f"These were told to a person, who can go on in Slack (reply, or ask again): {', '.join(left)}."]


async def retried(database_url: str, ids: Collection[int] | None, now: datetime) -> str:
    """Enqueue dead rows again (ids None: all). The bot picks them up at its next poll. Raises `Unknown`."""
    async with maintenance.opened(database_url) as database, database.transaction() as tx:
        rows = chosen(await outbox.dead(tx), ids)
        again = [row.seq for row in rows if row.kind in REPOSTABLE]
        await outbox.revive(tx, again, now)
    return "\n".join([f"Owed again: {len(again)}. A running bot posts them within seconds.", *others(rows)])


async def dropped(database_url: str, ids: Collection[int] | None) -> str:
    """Delete dead rows (ids None: all). Raises `Unknown`."""
    async with maintenance.opened(database_url) as database, database.transaction() as tx:
        rows = chosen(await outbox.dead(tx), ids)
        await outbox.drop(tx, [row.seq for row in rows])
    return f"Dropped: {len(rows)}."


def chosen(rows: Sequence[DeadRow], ids: Collection[int] | None) -> Sequence[DeadRow]:
    """Return the rows with these ids. Raises `Unknown` for ids that belong to no dead row."""
    if ids is None:
        return rows
    if unknown := set(ids) - {row.seq for row in rows}:
        raise Unknown(", ".join(map(str, sorted(unknown))))
    return [row for row in rows if row.seq in ids]
