"""The database does not take a request: no ack, or a sentence to the person; never an ack with nothing kept."""

import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from bot.core import words
from tests.conftest import Card, Make, Story, until
from tests.forked import forked
from tests.stories.shared import ON_IT, SINCE, locked

ACK_PATIENCE = timedelta(seconds=4)
"""Longer than Slack waits for an ack."""
NOT_SAVED = words.not_saved(perhaps=False)
NOT_SURE = words.not_saved(perhaps=True)


# --- the database is locked --------------------------------------------------------------------------------------


async def test_a_command_that_cannot_be_saved_is_declined_in_its_ack(world: Story) -> None:
    """Slack never repeats a command, so the person is told at once, and nothing happens later behind their back."""
    with locked(world.database):
        asked = await world.alice.commands("fix README in org/repo", in_="#dev")
    assert asked.ack_text == NOT_SAVED
    assert world.alice.sees() == [NOT_SAVED]

    await world.passes(6)
    assert world.posts("#dev") == []
    assert world.openhands.conversations == {}

    again = await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(8)
    assert again.ack_text == ON_IT
    assert world.conversation.messages == ["fix README"]
    world.leaves("#dev: card 🛠️ Working")
    world.logged("intake.not_saved")


async def test_a_mention_that_cannot_be_saved_is_not_acknowledged_and_comes_again(world: Story) -> None:
    """Slack repeats events: once the database is back there is one run, as if nothing had been."""
    text = world.slack.wire("@OpenHands fix README in org/repo")
    with locked(world.database), capture_logs(processors=[format_exc_info]) as logs:
        await world.slack.say(world.alice.id, world.place("#dev"), text)
        await until(lambda: sum(line["event"] == "intake.not_saved" for line in logs) == 2)  # both of its events
    assert [one.acked_at for one in world.slack.deliveries] == [None, None]
    assert "README" not in str(logs)

    world.clock.move(world.clock.now() + ACK_PATIENCE)
    await world.slack.tick()
    await world.settles()
    await world.passes(10)
    assert all(one.acked_at for one in world.slack.deliveries)
    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README"]
    assert len(world.cards()) == 1
    world.logged("slack.bolt: Failed to run a middleware function (error: nothing was saved)")


async def test_talk_is_acknowledged_while_the_database_is_locked(world: Story) -> None:
    """What is not for the bot needs no writing down, so a busy database costs Slack no redelivery."""
    with locked(world.database):
        await world.alice.says("lunch?", in_="#dev")
    assert all(one.acked_at for one in world.slack.deliveries)
    assert world.posts("#dev") == []


async def test_a_run_goes_on_when_the_database_is_free_again(world: Story) -> None:
    """The loops come back to what they could not write down; what Slack has already is not posted twice."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.finish(world.conversation, "Fixed two links.")
    with locked(world.database):
        await world.passes(2)
    assert world.news() == []

    await world.passes(60)
    assert (world.card().state, world.card().lines[0]) == ("Done", "Fixed two links.")
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.logged("store.unavailable")
    world.logged("look.failed")


async def test_a_card_posted_while_the_database_is_locked_is_found_again(world: Story) -> None:
    """The post got through, writing down that it did not: it is looked up, not repeated."""
    async with locked_from(world, "chat.postMessage"):
        await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(90)

    asked_by = f"Asked by <@{world.alice.id}> · `org/repo`"
    assert world.card() == Card("Working", "fix README", (f"{asked_by} · {SINCE}",))
    assert len(world.posts("#dev")) == 1
    assert world.conversation.messages == ["fix README"]
    world.logged("job.unsaved")


@asynccontextmanager
async def locked_from(world: Story, method: str) -> AsyncIterator[None]:
    """Lock the database at the moment Slack has done a call of this method."""
    other = sqlite3.connect(world.database, isolation_level=None)

    async def lock(when: str, called: str, _args: object) -> None:
        if (when, called) == ("after", method) and not other.in_transaction:
            other.execute("BEGIN IMMEDIATE")

    world.slack.on_call = lock
    try:
        yield
        assert other.in_transaction
    finally:
        world.slack.on_call = None
        other.close()


async def test_a_database_somebody_broke_takes_nothing_and_logs_no_secret(world: Story) -> None:
    """Whatever the database says, the person gets a sentence, and the log neither their words nor where to answer."""
    other = sqlite3.connect(world.database, isolation_level=None)
    other.execute("DROP TABLE inbox")
    other.close()
    with capture_logs(processors=[format_exc_info]) as logs:
        asked = await world.alice.commands("fix README in org/repo", in_="#dev")

    assert asked.ack_text == NOT_SAVED
    assert "no such table: inbox" in str(logs)
    assert [part for part in ("README", asked.response_url, world.alice.id) if part in str(logs)] == []
    assert world.posts("#dev") == []
    world.leaves("alice alone: I could not save your request")


# --- the disk is full --------------------------------------------------------------------------------------------


async def test_a_command_that_meets_a_full_disk_is_not_acknowledged_as_taken(make_world: Make, tmp_path: Path) -> None:
    """The bot in a process of its own may not make its files longer, as on a full disk, and later may again."""
    world = await make_world(start=False)
    settings = {
        "SLACK_BOT_TOKEN": world.slack.bot_token,
        "SLACK_APP_TOKEN": world.slack.app_token,
        "SLACK_API_URL": world.slack.api_url,
        "OPENHANDS_API_KEY": "key",
        "OPENHANDS_BASE_URL": world.openhands.base_url,
        "DATABASE_URL": f"sqlite:///{world.database}",
        "POLL_INTERVAL_S": "0.05",
    }
    async with forked(tmp_path, settings) as app:
        await until(lambda: world.slack.sockets == 1)
        unlimited = resource.prlimit(app.pid, resource.RLIMIT_FSIZE)
        full = world.database.with_name("openhands.db-wal").stat().st_size  # its log, which is shorter, has room
        resource.prlimit(app.pid, resource.RLIMIT_FSIZE, (full, unlimited[1]))
        refused = await world.slack.command(world.alice.id, world.place("#dev"), "fix README in org/repo")
        await until(lambda: refused.acked is not None)
        assert refused.ack_text == NOT_SURE
        await world.slack.say(world.bob.id, world.place("#dev"), world.slack.wire("@OpenHands fix it in org/repo"))
        await until(lambda: app.log.count("intake.not_saved") >= 3)
        assert [one.acked_at for one in world.slack.deliveries if one.event_id] == [None, None]
        assert world.openhands.conversations == {}

        resource.prlimit(app.pid, resource.RLIMIT_FSIZE, unlimited)
        taken = await world.slack.command(world.alice.id, world.place("#dev"), "fix the links in org/repo")
        await until(lambda: bool(world.openhands.conversations))
        assert taken.ack_text == ON_IT
        assert await app.end() == 0
    assert "README" not in app.log
    assert [one.messages for one in world.openhands.conversations.values()] == [["fix the links"]]
    world.leaves("#dev: card ⏳ Starting", "alice alone: I could not make sure that your request was saved")
