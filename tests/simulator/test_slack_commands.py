"""The local Slack's slash commands: what the app gets, and what the person sees."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from bot.simulator.slack import Ephemeral
from tests.simulator.slack_wire import Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def answered(at: Bench, url: str, **payload: Any) -> tuple[int, dict[str, Any]]:
    async with at.http.post(url, json=payload) as response:
        return response.status, await response.json()


async def test_a_command_envelope_has_slack_s_shape(at: Bench) -> None:
    """Mentions in the text come with names; there is no thread; a response is accepted."""
    socket = await at.connect()
    command = await at.slack.command(at.alice, at.dev, at.slack.wire("ask @alice"))
    envelope = await socket.next()
    assert envelope == {
        "envelope_id": at.slack.deliveries[0].envelope_id,
        "type": "slash_commands",
        "accepts_response_payload": True,
        "payload": {
            "token": "local-verification-token",
            "team_id": at.slack.team_id,
            "team_domain": "local-team",
            "channel_id": at.dev,
            "channel_name": "dev",
            "user_id": at.alice,
            "user_name": "alice",
            "command": "/openhands",
            "text": f"ask <@{at.alice}|alice>",
            "api_app_id": at.slack.app_id,
            "is_enterprise_install": "false",
            "response_url": command.response_url,
            "trigger_id": command.trigger_id,
        },
    }
    assert re.fullmatch(r"\d+\.\d+\.[0-9a-f]{32}", command.trigger_id)


async def test_private_places_are_not_named(at: Bench) -> None:
    """A command in a private channel or a direct message tells only what kind of place it is."""
    places = [at.slack.add_channel("secret", private=True, members=[at.alice]), at.slack.dm(at.alice)]
    for place in places:
        await at.slack.command(at.alice, place, "help")
    names = [one.payload["channel_name"] for one in at.slack.deliveries]
    assert names == ["privategroup", "directmessage"]


@pytest.mark.parametrize("payload", [{"text": "on it"}, "on it"])
async def test_the_ack_s_text_is_seen_by_the_person(at: Bench, payload: Any) -> None:
    """It comes as an object or as plain text, and only the one who typed sees it."""
    socket = await at.connect()
    command = await at.slack.command(at.alice, at.dev, "fix it")
    assert (command.acked, command.failed) == (None, False)
    await at.move(1)
    await socket.ack((await socket.next())["envelope_id"], payload)
    await at.until(lambda: at.slack.idle)
    assert (command.acked, command.ack_text, command.ack_seconds, command.failed) == (True, "on it", 1.0, False)
    assert at.slack.ephemerals(at.alice) == [Ephemeral(at.alice, at.dev, "on it", (), None, at.clock.time, "ack")]


async def test_a_bare_ack_shows_nothing(at: Bench) -> None:
    """The command is taken and the person waits for what comes."""
    socket = await at.connect()
    command = await at.slack.command(at.alice, at.dev, "fix it")
    await socket.ack((await socket.next())["envelope_id"])
    await at.until(lambda: at.slack.idle)
    assert (command.acked, command.ack_text, at.slack.ephemerals(at.alice)) == (True, None, [])


async def test_an_ack_in_channel_is_a_message_for_all(at: Bench) -> None:
    """`response_type: in_channel` posts as the bot instead of whispering."""
    socket = await at.connect()
    await at.slack.command(at.alice, at.dev, "fix it")
    await socket.ack((await socket.next())["envelope_id"], {"response_type": "in_channel", "text": "hello all"})
    assert (await socket.event())["text"] == "hello all"
    [message] = at.slack.messages(at.dev)
    assert (message.text, message.bot_id) == ("hello all", at.slack.bot_id)
    assert at.slack.ephemerals(at.alice) == []


async def test_an_ack_that_slack_could_not_show_is_a_violation(at: Bench) -> None:
    """Its blocks are held to the same rules as a message's."""
    socket = await at.connect()
    await at.slack.command(at.alice, at.dev, "fix it")
    await socket.ack((await socket.next())["envelope_id"], {"text": "x", "blocks": [{"type": "carousel"}]})
    await at.until(lambda: at.slack.idle)
    assert at.slack.violations == ["ack of a command: invalid_blocks"]


async def test_a_command_without_an_ack_fails_and_is_never_repeated(at: Bench) -> None:
    """After 3 s the person sees an error; a late ack changes nothing."""
    socket = await at.connect()
    command = await at.slack.command(at.alice, at.dev, "fix it")
    envelope = await socket.next()
    await at.move(3)
    assert (command.acked, command.failed, at.slack.idle) == (False, True, True)
    await socket.ack(envelope["envelope_id"], {"text": "late"})
    await at.move(600)
    assert (at.slack.deliveries[0].attempts, command.ack_text) == (1, None)
    with pytest.raises(ValueError, match="no event to redeliver"):
        await at.slack.redeliver(envelope["envelope_id"])


async def test_a_command_without_a_socket_fails_at_once(at: Bench) -> None:
    """Nobody is there to take it."""
    command = await at.slack.command(at.alice, at.dev, "fix it")
    assert (command.acked, command.failed) == (False, True)


async def test_a_response_url_whispers_by_default(at: Bench) -> None:
    """Also where the bot is not a member; the payloads are kept with the command."""
    other = at.slack.add_channel("other", members=[at.alice], bot_member=False)
    command = await at.slack.command(at.alice, other, "fix it")
    assert await answered(at, command.response_url, text="please invite me") == (200, {"ok": True})
    assert [(one.text, one.via) for one in at.slack.ephemerals(at.alice, other)] == [
        ("please invite me", "response_url")
    ]
    assert (command.responses, at.slack.messages(other)) == ([{"text": "please invite me"}], [])


async def test_a_response_url_takes_json_objects_only(at: Bench) -> None:
    """Anything else is refused and uses nothing up."""
    command = await at.slack.command(at.alice, at.dev, "fix it")
    headers = {"Content-Type": "application/json"}
    async with at.http.post(command.response_url, data="hello", headers=headers) as response:
        assert (response.status, await response.json()) == (400, {"ok": False, "error": "invalid_json"})


async def test_a_response_url_can_post_to_the_channel(at: Bench) -> None:
    """`in_channel` makes a message of the bot."""
    command = await at.slack.command(at.alice, at.dev, "fix it")
    await answered(at, command.response_url, text="hello", response_type="in_channel")
    assert [(one.text, one.bot_id) for one in at.slack.messages(at.dev)] == [("hello", at.slack.bot_id)]


async def test_a_response_url_is_used_up_after_five_answers(at: Bench) -> None:
    """The sixth is refused with HTTP 404; one that showed nothing does not count."""
    command = await at.slack.command(at.alice, at.dev, "fix it")
    assert await answered(at, command.response_url) == (404, {"ok": False, "error": "no_text"})
    statuses = [(await answered(at, command.response_url, text=str(number)))[0] for number in range(5)]
    assert statuses == [200] * 5
    assert await answered(at, command.response_url, text="6") == (404, {"ok": False, "error": "used_url"})
    assert len(at.slack.ephemerals(at.alice)) == 5


async def test_a_response_url_ends_after_half_an_hour(at: Bench) -> None:
    """Then it is refused with HTTP 404, before and after it is forgotten."""
    command = await at.slack.command(at.alice, at.dev, "fix it")
    at.clock.time += timedelta(minutes=30)
    expired = (404, {"ok": False, "error": "expired_url"})
    assert await answered(at, command.response_url, text="late") == expired
    await at.slack.tick()
    assert at.slack._server._response_urls == {}
    assert await answered(at, command.response_url, text="late") == expired


async def test_a_typed_command_cannot_be_replaced(at: Bench) -> None:
    """replace_original has nothing to replace, and unknown arguments mean nothing: both are violations."""
    command = await at.slack.command(at.alice, at.dev, "fix it")
    await answered(at, command.response_url, text="x", replace_original=True, colour="red")
    assert at.slack.violations == [
        "response_url: argument not known here: colour",
        "response_url: a typed command cannot be replaced",
    ]


async def test_commands_are_typed_by_the_app_s_own_people_where_they_are(at: Bench) -> None:
    """People from another workspace have no command of ours, nor has anyone in a private place they are not in."""
    eve = at.slack.add_user("eve", team_id="T0OTHER")
    secret = at.slack.add_channel("secret", private=True)
    with pytest.raises(ValueError, match="only to people of the app's own workspace"):
        await at.slack.command(eve, at.dev, "help")
    with pytest.raises(ValueError, match="alice is not in secret"):
        await at.slack.command(at.alice, secret, "help")
