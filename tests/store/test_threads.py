"""Where runs live in Slack."""

from bot.core.model import ChannelId, MessageTs, Run, RunId, RunState, TeamId, Waiting
from bot.store import runs, threads
from bot.store.database import Database
from bot.store.threads import Thread
from tests.changes import changed
from tests.store.bench import DEV, DIRECT, TEAM, a_run, at

OPS = ChannelId("C2")


async def put(database: Database, *made: Run) -> None:
    """Store runs, each in a thread with the run's id for its root."""
    async with database.transaction() as tx:
        for run in made:
            await runs.add(tx, run)
            await runs.own_thread(tx, run, MessageTs(run.id), every_reply=True)


async def test_threads_of_live_runs_are_told_from_others_newest_news_first(database: Database) -> None:
    """Whatever the state is called; another team's are nobody's business."""
    await put(
        database,
        a_run("queued", state=RunState.QUEUED, news_at=at(1)),
        a_run("paused", state=RunState.PAUSED, channel=DIRECT, news_at=at(3)),
        a_run("done", state=RunState.DONE, news_at=at(2)),
        a_run("lost", state=RunState.LOST, news_at=at(4)),
        a_run("other", team=TeamId("T2")),
    )
    async with database.reading() as tx:
        live = await threads.of_runs(tx, TEAM, live=True)
        ended = await threads.of_runs(tx, TEAM, live=False)
        lately = await threads.of_runs(tx, TEAM, live=False, news_after=at(2))

    assert live == [Thread(DIRECT, MessageTs("paused")), Thread(DEV, MessageTs("queued"))]
    assert ended == [Thread(DEV, MessageTs("lost")), Thread(DEV, MessageTs("done"))]
    assert lately == [Thread(DEV, MessageTs("lost"))]


async def test_a_run_that_answered_long_ago_counts_as_ended(database: Database) -> None:
    """A hundred of them would use up what may be read after a gap, before the threads where something goes on."""
    answered = changed(a_run("answered", state=RunState.WAITING, next_poll_at=at(9)), waiting=Waiting.ANSWER)
    resting = changed(answered, id=RunId("resting"), next_poll_at=None)
    await put(database, answered, resting)
    async with database.reading() as tx:
        live = await threads.of_runs(tx, TEAM, live=True)
        ended = await threads.of_runs(tx, TEAM, live=False)
        recent = await runs.recent_of(tx, DEV, answered.requester, answered.watch.news_at)

    assert ([one.ts for one in live], [one.ts for one in ended]) == (["answered"], ["resting"])
    assert [run.id for run in recent] == ["answered"]


async def test_threads_where_an_agent_works_come_first(database: Database) -> None:
    """People are most likely to write there, however long ago its last news is."""
    await put(
        database,
        a_run("answered", state=RunState.WAITING, news_at=at(9)),
        a_run("working", state=RunState.WORKING, news_at=at(1)),
        a_run("starting", state=RunState.STARTING, news_at=at(2)),
    )
    async with database.reading() as tx:
        live = await threads.of_runs(tx, TEAM, live=True)

    assert [thread.ts for thread in live] == ["starting", "working", "answered"]


async def test_a_thread_counts_with_the_run_it_has_now(database: Database) -> None:
    """A later run may take a thread over."""
    first, second = a_run("1.0", state=RunState.DONE), a_run("2.0")
    await put(database, first, second)
    async with database.transaction() as tx:
        await runs.own_thread(tx, second, MessageTs(RunId("1.0")), every_reply=False)
    async with database.reading() as tx:
        live = await threads.of_runs(tx, TEAM, live=True)
        ended = await threads.of_runs(tx, TEAM, live=False)

    assert ({*live}, ended) == ({Thread(DEV, MessageTs("1.0")), Thread(DEV, MessageTs("2.0"))}, [])


async def test_places_are_given_once_the_one_with_the_newest_run_first(database: Database) -> None:
    """However many runs a place has."""
    await put(
        database,
        a_run("1", created_at=at(1)),
        a_run("2", created_at=at(2), channel=OPS),
        a_run("3", created_at=at(3)),
        a_run("4", created_at=at(0), channel=DIRECT, state=RunState.DONE),
        a_run("5", created_at=at(9), channel=ChannelId("C9"), team=TeamId("T2")),
    )
    async with database.reading() as tx:
        assert await threads.places(tx, TEAM) == [DEV, OPS, DIRECT]
