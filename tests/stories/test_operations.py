"""What an operator sees: health and numbers on a port, a log with ids and without words."""

import asyncio
import json
import re
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from bot import __version__
from bot.core.errors import SettingsWrong
from tests.conftest import Make, Story, until
from tests.forked import forked
from tests.stories.shared import direct, working
from tests.stories.test_boot import environment

READY: dict[str, object] = {
    "ready": True,
    "process": "running",
    "slack": "connected",
    "database": "answers",
    "tokens": "accepted",
    "without": {},
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
        return port


async def get(world: Story, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{world.given['http_port']}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def ready(world: Story) -> tuple[int, Any]:
    status, body = await get(world, "/readyz")
    return status, json.loads(body)


async def numbers(world: Story) -> dict[str, float]:
    """Return every number by its name and labels, as Prometheus reads them."""
    _, text = await get(world, "/metrics")
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


@pytest.fixture
async def watched(make_world: Make) -> Story:
    """Make the usual world, with a port to look at."""
    return await make_world(notify_channel="#news", http_port=free_port())


# --- health -----------------------------------------------------------------------------------------------------


async def test_a_bot_that_works_is_alive_and_ready(watched: Story) -> None:
    """Each part says its word, and nothing else is told."""
    assert await get(watched, "/healthz") == (200, '{"alive": true}')
    assert await ready(watched) == (200, READY)


async def test_an_outage_of_slack_is_no_reason_to_restart(watched: Story) -> None:
    """Not ready, since nothing arrives, but alive: a restart would only turn the outage into a loop."""
    watched.slack.fail("apps.connections.open", error="internal_error", times=1000)
    watched.slack.cut_socket()
    await until(lambda: not (watched.bot.socket and watched.bot.socket.live))
    assert await get(watched, "/healthz") == (200, '{"alive": true}')
    assert await ready(watched) == (503, READY | {"ready": False, "slack": "disconnected"})
    watched.logged("slack.disconnected")
    await until(lambda: any(line["event"] == "slack.unreachable" for line in watched.lines.open))
    watched.logged("slack.unreachable")


async def test_a_bot_that_still_starts_is_alive(make_world: Make) -> None:
    """Slack is down at the start: the port answers from the first moment."""
    world = await make_world(start=False, http_port=free_port())
    world.slack.fail("auth.test", error="internal_error", times=1000)
    starting = asyncio.create_task(world.starts())
    await until(lambda: len(world.slack.calls) > 0)
    alive, not_ready = await get(world, "/healthz"), await ready(world)
    world.bot.stop()
    await starting
    world._bot = None
    assert alive == (200, '{"alive": true}')
    assert not_ready == (503, READY | {"ready": False, "slack": "connecting"})
    world.logged("slack.unreachable")


async def test_a_refused_token_is_told_until_it_works_again(watched: Story) -> None:
    """The process stays up, since what is owed waits for the token, but it is of no use meanwhile."""
    watched.slack.fail("chat.postMessage", error="token_revoked")
    await watched.alice.commands("fix README in org/repo", in_="#dev")
    await watched.settles()
    refused = await ready(watched)
    await watched.passes(61)
    assert refused == (503, READY | {"ready": False, "tokens": "refused"})
    assert await ready(watched) == (200, READY)
    watched.leaves("#dev: card ⏳ Starting")
    watched.logged("slack.locked")


async def test_one_refusal_that_passes_is_over_with_the_next_call(watched: Story) -> None:
    """The method that was refused may not be called again for an hour."""
    watched.slack.fail("reactions.add", error="account_inactive")
    await watched.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await watched.passes(10)
    assert await ready(watched) == (200, READY)
    watched.leaves("#dev: card 🛠️ Working", "outbox: react")
    watched.logged("slack.locked")


async def test_a_refused_key_is_told(watched: Story) -> None:
    """OpenHands refuses the key from some moment on."""
    await working(watched)
    watched.openhands.key = "another"
    await watched.passes(10)
    assert await ready(watched) == (503, READY | {"ready": False, "tokens": "refused"})
    watched.leaves("#dev: card 🛠️ Working")
    watched.logged("openhands.unreachable")


async def test_a_port_in_use_is_named(make_world: Make) -> None:
    """The message says which setting, which port, and what to do."""
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        world = await make_world(start=False, http_port=port)
        with pytest.raises(SettingsWrong) as wrong:
            await world.starts()
        world._bot = None
    [problem] = wrong.value.problems
    assert problem.startswith(f"HTTP_PORT: 127.0.0.1:{port} can't be opened (")
    assert problem.endswith(" an address of this machine.")


# --- numbers ----------------------------------------------------------------------------------------------------


async def test_a_run_can_be_followed_in_the_numbers(watched: Story) -> None:
    """Requests, calls of both services, runs by state, and nothing left owed."""
    await working(watched)
    found = await numbers(watched)
    assert {
        name: found[name]
        for name in (
            'bot_requests_total{kind="command"}',
            "bot_ack_seconds_count",
            'bot_slack_calls_total{method="chat.postMessage",outcome="ok"}',
            'bot_runs{state="working"}',
            "bot_inbox_rows",
            "bot_socket_up",
            "bot_database_up",
        )
    } == {
        'bot_requests_total{kind="command"}': 1,
        "bot_ack_seconds_count": 1,
        'bot_slack_calls_total{method="chat.postMessage",outcome="ok"}': 1,
        'bot_runs{state="working"}': 1,
        "bot_inbox_rows": 0,
        "bot_socket_up": 1,
        "bot_database_up": 1,
    }
    assert found['bot_openhands_calls_total{status="2xx"}'] > 0
    assert found["bot_poll_round_seconds_count"] > 0
    assert not [name for name in found if name.startswith(("bot_owed_rows{", "bot_dead_rows{"))]


async def test_what_slack_does_not_take_is_counted(watched: Story) -> None:
    """Busy once, then refused for good: the message is dead, and the numbers say so."""
    await working(watched)
    watched.slack.fail("chat.postMessage", retry_after=2, status=429)
    watched.slack.archive(watched.place("#news"))
    watched.openhands.finish(watched.conversation, "Fixed.")
    await watched.passes(20)
    found = await numbers(watched)
    assert {
        name: value
        for name, value in found.items()
        if name.startswith(("bot_dead_rows{", 'bot_slack_calls_total{method="chat.p'))
    } == {
        'bot_dead_rows{kind="notify"}': 1,
        'bot_slack_calls_total{method="chat.postMessage",outcome="busy"}': 1,
        'bot_slack_calls_total{method="chat.postMessage",outcome="ok"}': 2,
        'bot_slack_calls_total{method="chat.postMessage",outcome="refused"}': 1,
    }
    watched.leaves("#dev: card ✅ Done", "#dev: ✅ Done")
    watched.logged("slack.refused")


async def test_payloads_nobody_knows_are_counted_by_type_alone(watched: Story) -> None:
    """Acknowledged, so that Slack does not send them again, and not a word of them is kept."""
    event = {"type": "event_callback", "event": {"type": "canvas_shared", "text": "MARK"}}
    odd = {"type": "MARK of somebody's own"}
    sent = [watched.slack._deliveries.send("events_api", payload, event_id=None) for payload in (event, odd)]
    await watched.settles()
    found = await numbers(watched)
    assert all(delivery.acked_at for delivery in sent)
    assert {name: value for name, value in found.items() if name.startswith("bot_ignored_payloads_total")} == {
        'bot_ignored_payloads_total{type="canvas_shared"}': 1,
        'bot_ignored_payloads_total{type="other"}': 1,
    }


async def test_a_gap_in_the_connection_is_counted(watched: Story) -> None:
    """Its end by reason, and that what may have been missed was read back."""
    await watched.passes(31)
    watched.slack.cut_socket()
    await watched.passes(5)
    found = await numbers(watched)
    assert found['bot_socket_ended_total{reason="connection_lost"}'] == 1
    assert found['bot_gaps_read_back_total{complete="yes"}'] == 1
    assert await ready(watched) == (200, READY)
    watched.logged("slack.disconnected")


# --- the log ----------------------------------------------------------------------------------------------------


async def runs_with_real_time(world: Story) -> None:
    """Move the story's clock as time goes by: the limits of both servers are counted on it."""
    while True:
        world.clock.move(datetime.now(UTC))
        await asyncio.sleep(0.05)


async def test_a_whole_journey_leaves_no_word_in_the_log(make_world: Make, tmp_path: Path) -> None:
    """At its most talkative, and while both services fail: ids, kinds and codes; no text, link, token or name."""
    world = await make_world(start=False)
    ticking = asyncio.create_task(runs_with_real_time(world))  # the bot is a process of its own
    given = {"POLL_INTERVAL_S": "0.05", "LOG_LEVEL": "DEBUG", "NOTIFY_CHANNEL": "news", "LOG_FORMAT": "json"}
    world.openhands.branches += ("MARKbranch",)
    world.slack.fail("reactions.add", error="internal_error")
    world.slack.fail("conversations.info", after=True)
    world.openhands.break_next("start", status=503)
    async with forked(tmp_path, environment(world, **given)) as app:
        await until(lambda: world.slack.sockets == 1)
        said = await world.slack.say(
            world.alice.id, world.place("#dev"), f"<@{world.slack.bot_user_id}> MARKtask in MARKorg/MARKrepo@MARKbranch"
        )
        await until(lambda: bool(world.openhands.conversations) and bool(world.conversation.messages))
        await world.slack.say(world.bob.id, world.place("#dev"), "MARKreply", thread_ts=said)
        await until(lambda: "MARKreply" in world.conversation.messages)
        world.slack.archive(world.place("#dev"))
        world.openhands.finish(world.conversation, "MARKanswer https://MARKlink.example.com/pull/1")
        await until(lambda: bool(direct(world)))
        await until(lambda: bool(world.posts("#news")))
        assert await app.end() == 0
    ticking.cancel()
    events = [json.loads(line) for line in app.log.splitlines()]

    assert {"run.created", "run.changed", "slack.refused", "app.stopped"} <= {event["event"] for event in events}
    [run] = {event["run"] for event in events if event["event"] in ("run.created", "run.changed", "slack.refused")}
    assert run
    for word in ("MARK", "http", world.slack.bot_token, world.slack.app_token, "alice", "Traceback"):
        assert word not in app.log
    assert len(world.cards()) == 1  # how far it had come when the place was closed depends on the machine


async def test_a_failure_leads_from_the_log_to_the_thread_and_back(make_world: Make) -> None:
    """Why, and which conversation and thread; what never started is a warning."""
    world = await make_world(start=False)
    with capture_logs() as logs:
        await world.starts()
        world.openhands.fail_next_start()
        asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
        await world.passes(6)
    told = [one for one in logs if one["event"].startswith("run.")]
    where = {
        "channel": asked.channel,
        "thread": asked.ts,
        "conversation": told[0]["conversation"],
        "run": told[0]["run"],
    }
    assert told == [
        {"event": "run.created", "log_level": "info", "state": "queued", **where},
        {"event": "run.changed", "log_level": "info", "before": "queued", "after": "starting", **where},
        {
            "event": "run.changed",
            "log_level": "warning",
            "before": "starting",
            "after": "failed",
            "reason": "start_failed",
            **where,
        },
    ]
    assert list(told[-1])[:4] == ["run", "before", "after", "reason"]
    world.leaves("#dev: card ❌ Failed", "#dev: ❌ Failed", "#dev: eyes, x on a message")


async def test_one_line_says_what_has_started(make_world: Make) -> None:
    """Which version, as whom, with which database and port."""
    world = await make_world(start=False, http_port=free_port())
    with capture_logs() as logs:
        await world.starts()
    [line] = [one for one in logs if one["event"] == "app.started"]
    assert line == {
        "event": "app.started",
        "log_level": "info",
        "version": __version__,
        "workspace": "local-team.slack.com",
        "user": world.slack.bot_user_id,
        "database": str(world.database),
        "port": world.given["http_port"],
    }


@pytest.mark.parametrize(
    ("status", "cause"), [(503, "503"), (None, "refused: nothing listens there")], ids=["503", "refused"]
)
async def test_an_openhands_out_of_reach_is_named_with_the_cause(
    make_world: Make, status: int | None, cause: str
) -> None:
    """At the start, with the address's host and nothing else of it."""
    world = await make_world(start=False)
    if status is None:
        world.given["openhands_base_url"] = "http://127.0.0.1:9/secret"
    else:
        world.openhands.break_next("probe", status=status)
    with capture_logs() as logs:
        await world.starts()
    [line] = [one for one in logs if one["event"] == "openhands.unreachable"]
    server = "127.0.0.1:9" if status is None else world.openhands.base_url.partition("://")[2]
    assert (line["error"], line["cause"], line["server"]) == ("Unavailable", cause, server)
    assert "secret" not in str(line)


async def test_an_openhands_that_goes_away_is_named_with_the_cause(watched: Story) -> None:
    """As at the start, once for the whole outage."""
    await working(watched)
    watched.openhands.down = True
    with capture_logs() as logs:
        await watched.passes(30)
    [line] = [one for one in logs if one["event"] == "openhands.unreachable"]
    assert line["error"] == "Unavailable"
    assert line["cause"] not in ("", "Unavailable")
    assert line["server"] == watched.openhands.base_url.partition("://")[2]


async def test_a_restart_says_how_much_it_read_is_new(watched: Story) -> None:
    """What had arrived before is found again, and changes nothing."""
    await watched.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await watched.passes(31)
    await watched.stops()
    await watched.alice.says("@OpenHands fix the tests in org/repo", in_="#dev")
    with capture_logs() as logs:
        await watched.starts()
        await watched.passes(5)
    [line] = [one for one in logs if one["event"] == "slack.read_back"]
    assert line["new"] == 1
    assert line["found"] > 1
    watched.leaves("#dev: card 🛠️ Working", "#dev: card ⏳ Starting")


async def test_a_team_channel_without_the_bot_is_said_at_the_start(make_world: Make) -> None:
    """Rather than with the first line that is lost."""
    world = await make_world(start=False, notify_channel="#ops")
    ops = world.channel("#ops", world.alice, bot_member=False)
    with capture_logs() as logs:
        await world.starts()
    [line] = [one for one in logs if one["event"].startswith("notify.")]
    assert line == {
        "event": "notify.not_in_channel",
        "log_level": "warning",
        "channel": ops,
        "help": "/invite @OpenHands there",
    }


async def test_the_console_keeps_the_order_of_an_event(make_world: Make, tmp_path: Path) -> None:
    """As it is documented: the run, what was before, what is now, and where that is."""
    world = await make_world(start=False)
    world.clock.move(datetime.now(UTC))
    async with forked(tmp_path, environment(world)) as app:
        await until(lambda: world.slack.sockets == 1)
        await world.slack.command(world.alice.id, world.place("#dev"), "fix README in org/repo")
        await until(lambda: "after=starting" in app.log)
        assert await app.end() == 0
    changed = next(line for line in app.log.splitlines() if "run.changed" in line)
    assert re.search(r"run=\S+ before=queued after=starting conversation=\S+ channel=\S+ actor=\S+$", changed)


async def test_a_slack_out_of_reach_is_named_with_the_cause(make_world: Make, tmp_path: Path) -> None:
    """Nothing listens there: the log names the host, and that."""
    world = await make_world(start=False)
    async with forked(tmp_path, environment(world, SLACK_API_URL="http://127.0.0.1:9/api/")) as app:
        await until(lambda: "slack.unreachable" in app.log)
        assert await app.end() == 0
    line = next(line for line in app.log.splitlines() if "slack.unreachable" in line)
    assert "code=no_connection cause='refused: nothing listens there' server=127.0.0.1:9" in line
