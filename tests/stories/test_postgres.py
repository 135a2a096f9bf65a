"""The bot on PostgreSQL: the same as ever, while the server is stopped, started, and throws it out."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from bot.core import words
from bot.core.errors import StoreInUse
from bot.store import inbox
from bot.store.database import open_database
from tests.conftest import Card, Make, Story, until
from tests.forked import forked
from tests.postgres import Server, database_of, server
from tests.stories.shared import ON_IT, SINCE, asked_by, working
from tests.stories.test_boot import ended, environment

SLACK_WAITS = timedelta(seconds=4)
"""Longer than Slack waits for an acknowledgement."""
NOT_SAVED = words.not_saved(perhaps=False)


@pytest.fixture
def postgres() -> Server:
    return server()


@pytest.fixture
async def url(postgres: Server) -> AsyncIterator[str]:
    yield await postgres.fresh()
    await postgres.start()


@pytest.fixture
async def world(make_world: Make, url: str) -> Story:
    return await make_world(notify_channel="#news", database_url=url)


async def test_a_run_is_told_to_its_end(world: Story) -> None:
    """The card, the thread and the team, across a restart of the bot."""
    await working(world)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))

    await world.restarts()
    await world.bob.says("and the docs", thread=world.cards()[0])
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(4)
    assert (world.card().state, world.news()) == (
        "Done",
        [f"<@{world.alice.id}> <@{world.bob.id}> ✅ Done\nFixed two links."],
    )
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert len(world.news("#news")) == 1


async def test_the_database_is_restarted_while_a_run_works(world: Story, postgres: Server) -> None:
    """Who asks meanwhile is told to ask again; the run's end is told late, and once."""
    await working(world)
    await postgres.stop()
    answer = await world.slack.command(world.bob.id, world.place("#dev"), "update the docs in org/docs")
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    assert (answer.ack_text, world.card().state, world.news()) == (NOT_SAVED, "Working", [])

    await postgres.start()
    await world.passes(60)
    assert (world.card().state, world.news()) == ("Done", [f"<@{world.alice.id}> ✅ Done\nFixed two links."])
    assert (len(world.cards()), len(world.news("#news")), len(world.openhands.conversations)) == (1, 1, 1)
    assert world.bob.sees() == [NOT_SAVED]
    world.logged("intake.not_saved")
    world.logged("store.unavailable")


async def test_a_mention_comes_again_once_the_database_is_back(world: Story, postgres: Server) -> None:
    """It was not acknowledged, so Slack repeats it: one run, as if nothing had been."""
    await postgres.stop()
    with capture_logs() as logs:
        await world.slack.say(
            world.alice.id, world.place("#dev"), world.slack.wire("@OpenHands fix README in org/repo")
        )
        await until(lambda: sum(line["event"] == "intake.not_saved" for line in logs) == 2)  # both of its events
    await postgres.start()
    world.clock.move(world.clock.now() + SLACK_WAITS)
    await world.slack.tick()
    await world.passes(10)
    assert (world.card().state, world.conversation.messages, len(world.cards())) == ("Working", ["fix README"], 1)
    world.logged("slack.bolt: Failed to run a middleware function (error: nothing was saved)")


async def test_sessions_that_are_ended_are_no_news(world: Story, postgres: Server, url: str) -> None:
    """An administrator throws everybody out: the bot comes back without a word."""
    await working(world)
    await postgres.throw_out(url)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(60)
    assert (world.card().state, len(world.news())) == ("Done", 1)


async def test_a_second_process_is_refused(world: Story, url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two processes would do everything twice; the first is not disturbed."""
    async with forked(tmp_path_factory.mktemp("second"), environment(world, DATABASE_URL=url)) as app:
        code = await ended(app)
    assert (code, "Traceback" in app.log) == (2, False)
    last = app.log.splitlines()[-1]
    assert last.startswith(f"Another process works on {database_of(url)} on ")
    assert last.endswith(": one bot per database. Stop it, or set another DATABASE_URL.")

    await working(world)
    assert world.card().state == "Working"


async def test_who_lost_the_database_to_another_process_ends(world: Story, postgres: Server, url: str) -> None:
    """It could do nothing any more; a request that Slack gave it is kept for the other one."""
    await postgres.throw_out(url)
    other = await open_database(url)
    answer = await world.slack.command(world.alice.id, world.place("#dev"), "fix README in org/repo")
    assert world._running is not None
    with pytest.raises(StoreInUse):
        await asyncio.wait_for(world._running, 5)
    world._bot = None
    async with other.reading() as tx:
        [row] = await inbox.due(tx, world.clock.now(), (), 10)
    await other.close()
    assert row.incoming.text == "fix README in org/repo"
    assert answer.ack_text == ON_IT
    assert world.alice.sees() == [ON_IT]
    world.logged("job.unsaved")


async def test_an_address_the_server_refuses_ends_the_process(
    make_world: Make, postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Starting again changes nothing: the server's words are the last line, and the password is not in it."""
    still = await make_world(start=False)
    wrong = postgres.url("nowhere").replace("postgres@", "postgres:hunter2@")
    async with forked(tmp_path_factory.mktemp("wrong"), environment(still, DATABASE_URL=wrong)) as app:
        code = await ended(app)
    assert code == 2
    assert app.log.splitlines()[-1] == 'DATABASE_URL is refused by PostgreSQL: database "nowhere" does not exist.'
    assert "hunter2" not in app.log


async def test_a_stop_is_heard_while_the_database_is_waited_for(make_world: Make, postgres: Server, url: str) -> None:
    """Nobody has to wait for half a minute to stop what has not begun."""
    still = await make_world(start=False, database_url=url)
    await postgres.stop()
    starting = asyncio.create_task(still.starts())
    await asyncio.sleep(0.05)
    await still.stops()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    still.logged("store.unreachable")
