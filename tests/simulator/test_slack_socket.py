"""The local Slack's Socket Mode: tickets, sockets, acknowledgements and what follows without one."""

from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest
from slack_bolt import BoltResponse
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.web.async_client import AsyncWebClient

from bot.simulator.slack import LocalSlack, delivery
from tests.simulator.slack_wire import JSON, Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def retry(envelope: JSON) -> tuple[str, int, str]:
    return envelope["payload"]["event_id"], envelope["retry_attempt"], envelope["retry_reason"]


# -- tickets and sockets


async def test_a_ticket_opens_one_socket(at: Bench) -> None:
    """The second use of an address is refused with HTTP 408."""
    url = await at.url()
    ws = await at.http.ws_connect(url)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="408"):
        await at.http.ws_connect(url)
    await ws.close()


async def test_a_ticket_expires(at: Bench) -> None:
    """An address that was not used in time is refused, as is one that never was."""
    url = await at.url()
    forgotten = await at.url()
    at.clock.time += timedelta(seconds=30)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="408"):
        await at.http.ws_connect(url)
    await at.slack.tick()
    with pytest.raises(aiohttp.WSServerHandshakeError, match="408"):
        await at.http.ws_connect(forgotten)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="408"):
        await at.http.ws_connect(url.split("?")[0])


async def test_hello_counts_the_app_s_connections(at: Bench) -> None:
    """Each socket is greeted with its app and the number of sockets now open."""
    sockets = [await at.connect(), await at.connect()]
    assert [(one.hello["type"], one.hello["num_connections"]) for one in sockets] == [("hello", 1), ("hello", 2)]
    assert sockets[0].hello["connection_info"] == {"app_id": at.slack.app_id}
    assert at.slack.sockets == 2


async def test_the_eleventh_socket_is_sent_away(at: Bench) -> None:
    """It is told `too_many_websockets` instead of hello, then closed; ten stay."""
    for _ in range(10):
        await at.connect()
    eleventh = await at.connect()
    assert (eleventh.hello["type"], eleventh.hello["reason"]) == ("disconnect", "too_many_websockets")
    assert await eleventh.ended()
    assert at.slack.sockets == 10


async def test_a_closed_socket_no_longer_counts(at: Bench) -> None:
    """The place of a socket that its client closed is free."""
    socket = await at.connect()
    await socket.ws.close()
    await at.until(lambda: at.slack.sockets == 0)
    assert (await at.connect()).hello["num_connections"] == 1


async def test_pings_are_answered(at: Bench) -> None:
    """A ping comes back as a pong with the same payload."""
    socket = await at.connect()
    await socket.ws.ping(b"sdk-ping-pong")
    answer = await socket.ws.receive(timeout=2)
    assert (answer.type, bytes(answer.data)) == (aiohttp.WSMsgType.PONG, b"sdk-ping-pong")


async def test_envelopes_take_turns_over_the_sockets(at: Bench) -> None:
    """Each payload goes to one socket only."""
    first, second = await at.connect(), await at.connect()
    for text in ("a", "b"):
        await at.slack.say(at.alice, at.dev, text)
    assert {(await first.event())["text"], (await second.event())["text"]} == {"a", "b"}


async def test_a_half_open_socket_is_silent(at: Bench) -> None:
    """It takes no acks and answers no pings; what was sent into it fails after 3 s and goes to a new socket."""
    frozen = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    envelope = await frozen.next()
    await at.slack.half_open()
    await frozen.ack(envelope["envelope_id"])
    await frozen.ws.ping()
    await at.slack.say(at.alice, at.dev, "anyone?")
    with pytest.raises(TimeoutError):
        await frozen.ws.receive(timeout=0.05)
    assert at.slack.idle is False
    await at.move(3)
    fresh = await at.connect()
    await at.move(60)
    assert retry(await fresh.next()) == (envelope["payload"]["event_id"], 2, "timeout")


@pytest.mark.parametrize("reason", ["refresh_requested", "link_disabled", "too_many_websockets"])
async def test_a_socket_told_to_go_gets_nothing_new_and_is_closed(at: Bench, reason: str) -> None:
    """The reason is named; ten seconds later the connection ends from Slack's side."""
    old = await at.connect()
    at.slack.disconnect(reason)
    fresh = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    assert (await fresh.event())["text"] == "hi"
    told = await old.next()
    assert (told["type"], told["reason"], at.slack.sockets) == ("disconnect", reason, 1)
    await at.move(10)
    assert await old.ended()


async def test_a_warned_socket_works_on(at: Bench) -> None:
    """A warning comes ahead of the real thing and changes nothing yet."""
    socket = await at.connect()
    at.slack.disconnect("warning")
    await at.slack.say(at.alice, at.dev, "hi")
    assert (await socket.next())["reason"] == "warning"
    assert (await socket.event())["text"] == "hi"
    with pytest.raises(ValueError, match="no such reason: bored"):
        at.slack.disconnect("bored")


async def test_the_oldest_socket_alone_is_told(at: Bench) -> None:
    """As Slack does, whose connections each have their own age."""
    old, fresh = await at.connect(), await at.connect()
    at.slack.disconnect("refresh_requested", oldest=True)
    await at.slack.say(at.alice, at.dev, "hi")
    assert ((await old.next())["reason"], (await fresh.event())["text"]) == ("refresh_requested", "hi")
    assert at.slack.sockets == 1


# -- acknowledgements


async def test_an_ack_in_time_ends_a_delivery(at: Bench) -> None:
    """It is recorded with when it was sent and acknowledged; nothing is sent again."""
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    envelope = await socket.next()
    assert at.slack.idle is False
    await at.move(2.9)
    await socket.ack(envelope["envelope_id"])
    await at.until(lambda: at.slack.idle)
    await at.move(600)
    [one] = at.slack.deliveries
    assert (one.type, one.envelope_id, one.event_id, one.attempts, one.ack_payload) == (
        "events_api",
        envelope["envelope_id"],
        envelope["payload"]["event_id"],
        1,
        None,
    )
    assert one.sent_at is not None
    assert one.acked_at == one.sent_at + timedelta(seconds=2.9)


async def test_an_unacknowledged_event_is_sent_three_times_more(at: Bench) -> None:
    """At once, a minute and five minutes after the first failure: same event, counted retries; then never again."""
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    envelopes = [await socket.next()]
    event_id = envelopes[0]["payload"]["event_id"]
    await at.move(3)
    envelopes.append(await socket.next())
    await at.move(59)
    assert at.slack.deliveries[0].attempts == 2
    await at.move(1)
    envelopes.append(await socket.next())
    await at.move(240)
    envelopes.append(await socket.next())
    await at.move(3600)
    assert [retry(envelope) for envelope in envelopes] == [
        (event_id, 0, ""),
        (event_id, 1, "timeout"),
        (event_id, 2, "timeout"),
        (event_id, 3, "timeout"),
    ]
    assert len({envelope["envelope_id"] for envelope in envelopes}) == 4
    assert (at.slack.deliveries[0].attempts, at.slack.deliveries[0].failed, at.slack.idle) == (4, True, True)


async def test_only_the_right_envelope_id_counts_as_an_ack(at: Bench) -> None:
    """Anything else is a violation and acknowledges nothing."""
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    await socket.next()
    await socket.ack("something-else")
    await socket.ws.send_str("thanks")
    await at.until(lambda: len(at.slack.violations) == 2)
    assert at.slack.violations == [
        'not the ack of any envelope: {"envelope_id": "something-else"}',
        "not the ack of any envelope: thanks",
    ]
    assert at.slack.deliveries[0].acked_at is None


async def test_a_late_ack_counts_for_nothing(at: Bench) -> None:
    """After 3 s the event is on its way again, whatever comes for the first envelope."""
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    first = await socket.next()
    await at.move(3)
    second = await socket.next()
    await socket.ack(first["envelope_id"])
    await socket.ack(second["envelope_id"])
    await at.until(lambda: at.slack.idle)
    [one] = at.slack.deliveries
    assert (one.envelope_id, one.attempts, one.acked_at) == (second["envelope_id"], 2, at.clock.time)
    assert at.slack.sockets == 1


async def test_an_ack_is_late_whether_or_not_anyone_looked(at: Bench) -> None:
    """What counts is the time it arrives, not when time-outs are next dealt with."""
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    envelope = await socket.next()
    at.clock.time += timedelta(seconds=3)
    await socket.ack(envelope["envelope_id"])
    await socket.ack("marker")
    await at.until(lambda: at.slack.violations != [])
    await at.slack.tick()
    assert retry(await socket.next())[1:] == (1, "timeout")


async def test_an_event_s_ack_carries_no_payload(at: Bench) -> None:
    """Events do not accept a response: one is a violation."""
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    envelope = await socket.next()
    assert envelope["accepts_response_payload"] is False
    await socket.ack(envelope["envelope_id"], {"text": "hello"})
    await at.until(lambda: at.slack.idle)
    assert at.slack.violations == ["ack of an event with a payload: {'text': 'hello'}"]


async def test_events_without_a_socket_are_failed_deliveries(at: Bench) -> None:
    """They come with the next retry after a socket is there; a minute later at the earliest."""
    await at.slack.say(at.alice, at.dev, "hi")
    assert (at.slack.deliveries[0].attempts, at.slack.idle) == (2, True)
    socket = await at.connect()
    await at.move(60)
    assert retry(await socket.next())[1:] == (2, "connection_failed")


async def test_a_forgetful_slack_gives_up_what_met_no_connection(at: Bench) -> None:
    """Without a socket, or on one that breaks; what a living one does not acknowledge in time comes again as ever."""
    at.slack.forgetful = True
    await at.slack.say(at.alice, at.dev, "nobody there")
    taken = await at.connect()
    await at.slack.say(at.alice, at.dev, "cut off")
    await taken.next()
    await taken.ws.close()
    await at.until(lambda: at.slack.idle)
    other = await at.connect()
    await at.slack.say(at.alice, at.dev, "late")
    await other.next()
    await at.move(3)
    await other.event()
    await at.until(lambda: at.slack.idle)
    await at.move(3600)
    assert [(one.attempts, one.failed) for one in at.slack.deliveries] == [(1, True), (1, True), (2, False)]
    assert at.slack.forgetful


async def test_what_a_lost_socket_had_not_acknowledged_goes_to_another(at: Bench) -> None:
    """A connection that ends takes its open envelopes with it; they fail at once."""
    taken = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    other = await at.connect()
    await taken.ws.close()
    assert retry(await other.next())[1:] == (1, "connection_failed")


async def test_sockets_are_cut_at_once(at: Bench) -> None:
    """Every connection breaks without a word."""
    socket = await at.connect()
    at.slack.cut_socket()
    assert await socket.ended()
    assert at.slack.sockets == 0


async def test_a_socket_is_cut_before_the_ack_arrives(at: Bench) -> None:
    """The ack is lost with the connection, so the event comes again on another."""
    taken = await at.connect()
    at.slack.cut_socket(before_ack=True)
    await at.slack.say(at.alice, at.dev, "hi")
    envelope = await taken.next()
    other = await at.connect()
    await taken.ack(envelope["envelope_id"])
    assert await taken.ended()
    assert retry(await other.next()) == (envelope["payload"]["event_id"], 1, "connection_failed")


async def test_a_socket_is_cut_right_after_the_ack(at: Bench) -> None:
    """The ack counts, then the connection is gone."""
    socket = await at.connect()
    at.slack.cut_socket(after_ack=True)
    await at.slack.say(at.alice, at.dev, "hi")
    await socket.event()
    assert await socket.ended()
    assert (at.slack.deliveries[0].acked_at, at.slack.sockets) == (at.clock.time, 0)


async def test_a_cut_is_before_or_after_the_ack(at: Bench) -> None:
    """Both at once cannot be."""
    with pytest.raises(ValueError, match="before or after, not both"):
        at.slack.cut_socket(before_ack=True, after_ack=True)


async def test_a_message_is_redelivered_on_demand(at: Bench) -> None:
    """Both events of a mention come again with their own event_id, marked as retries."""
    socket = await at.connect()
    ts = await at.slack.say(at.alice, at.dev, at.slack.wire("@OpenHands hi"))
    ids = [one.event_id for one in at.slack.deliveries]
    await socket.event()
    await socket.event()
    await at.slack.redeliver(ts)
    assert [retry(await socket.next()) for _ in ids] == [(one, 1, "timeout") for one in ids]


async def test_one_envelope_is_redelivered_on_demand(at: Bench) -> None:
    """By its envelope id only this event comes again; what does not exist cannot."""
    socket = await at.connect()
    await at.slack.say(at.alice, at.dev, "hi")
    envelope = await socket.next()
    await socket.ack(envelope["envelope_id"])
    await at.slack.redeliver(envelope["envelope_id"])
    assert retry(await socket.next()) == (envelope["payload"]["event_id"], 1, "timeout")
    with pytest.raises(ValueError, match="no event to redeliver"):
        await at.slack.redeliver("nothing")


async def test_with_the_wall_clock_time_outs_come_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a clock of its own nobody needs to call tick."""
    monkeypatch.setattr(delivery, "ACK_TIMEOUT", timedelta(seconds=0.05))
    slack = LocalSlack()
    alice = slack.add_user("alice")
    await slack.start()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {slack.app_token}"}) as http:
        answer = await (await http.post(f"{slack.api_url}apps.connections.open")).json()
        async with http.ws_connect(answer["url"]) as ws:
            await slack.say(alice, slack.dm(alice), "hi")
            received = [await ws.receive_json(timeout=2) for _ in range(3)]
    await slack.stop()
    assert [one.get("retry_attempt") for one in received] == [None, 0, 1]


# -- Slack's own client


async def test_bolt_receives_acknowledges_and_comes_back(at: Bench) -> None:
    """Bolt's Socket Mode client works against this server, over a refresh and a broken connection too."""
    texts: list[str] = []

    async def authorize() -> AuthorizeResult:
        return AuthorizeResult(
            enterprise_id=None,
            team_id=at.slack.team_id,
            bot_user_id=at.slack.bot_user_id,
            bot_id=at.slack.bot_id,
            bot_token=at.slack.bot_token,
        )

    async def take(body: JSON) -> BoltResponse:
        texts.append(body["event"]["text"])
        return BoltResponse(status=200, body="")

    client = AsyncWebClient(base_url=at.slack.api_url, session=at.http)
    app = AsyncApp(client=client, authorize=authorize)
    app.use(take)
    handler = AsyncSocketModeHandler(app, at.slack.app_token, web_client=client, ping_interval=0.05)
    await handler.connect_async()  # type: ignore[no-untyped-call]  # Bolt leaves its types out
    await at.until(lambda: at.slack.sockets == 1)
    await at.slack.say(at.alice, at.dev, "one")
    await at.until(lambda: texts == ["one"] and at.slack.idle)
    at.slack.disconnect("refresh_requested")
    await at.until(lambda: at.slack.sockets == 1)
    await at.slack.say(at.alice, at.dev, "two")
    await at.until(lambda: texts == ["one", "two"] and at.slack.idle)
    at.slack.cut_socket()
    await at.until(lambda: at.slack.sockets == 1)
    await at.slack.say(at.alice, at.dev, "three")
    await at.until(lambda: texts == ["one", "two", "three"] and at.slack.idle)
    await handler.close_async()  # type: ignore[no-untyped-call]  # as above
    assert at.slack.violations == []
