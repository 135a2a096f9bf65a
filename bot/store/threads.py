"""Where the bot's runs live in Slack, for reading back what was said there."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, bindparam, case, delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core.lifecycle import OCCUPIES
from bot.core.model import ChannelId, MessageTs, TeamId
from bot.store.runs import GOES_ON
from bot.store.tables import runs, threads


class Thread(NamedTuple):
    """A thread, by its root."""

    channel: ChannelId
    ts: MessageTs


async def of_runs(
    connection: AsyncConnection, team: TeamId, *, live: bool, news_after: datetime | None = None
) -> Sequence[Thread]:
    """Return the threads whose run is live, or is not: where an agent works first, then by news, the newest first.

    A run that answered long ago counts as one that ended.

    news_after: leave out those whose last news is older.
    """
    wanted = select(threads.c.channel, threads.c.thread_ts).join(runs, runs.c.id == threads.c.run)
    wanted = wanted.where(threads.c.team == team, GOES_ON if live else ~GOES_ON)
    if news_after is not None:
        wanted = wanted.where(runs.c.news_at > news_after)
    works = case((runs.c.state.in_([state.value for state in OCCUPIES]), 0), else_=1)
    found = await connection.execute(wanted.order_by(works, runs.c.news_at.desc()))
    return [Thread(channel, ts) for channel, ts in found]


async def places(connection: AsyncConnection, team: TeamId) -> Sequence[ChannelId]:
    """Return every place that has a run, the newest run first."""
    found = await connection.execute(
        select(runs.c.channel)
        .where(runs.c.team == team)
        .group_by(runs.c.channel)
        .order_by(func.max(runs.c.created_at).desc())
    )
    return [ChannelId(channel) for (channel,) in found]


OUTLIVED = and_(
    threads.c.team == bindparam("team"),
    threads.c.channel == bindparam("channel"),
    threads.c.thread_ts == bindparam("thread"),
    ~exists().where(runs.c.id == threads.c.run),
)


async def let_go(connection: AsyncConnection, team: TeamId, channel: ChannelId, thread: MessageTs) -> bool:
    """Delete a thread whose run is not kept any more; return whether it was one."""
    gone = await connection.execute(
        delete(threads).where(OUTLIVED), {"team": team, "channel": channel, "thread": thread}
    )
    return gone.rowcount > 0


async def forget(connection: AsyncConnection, before: datetime) -> None:
    """Delete the threads from before then whose run is not kept any more."""
    older = threads.c.thread_ts < f"{before.timestamp():.6f}"
    await connection.execute(delete(threads).where(older, ~exists().where(runs.c.id == threads.c.run)))
