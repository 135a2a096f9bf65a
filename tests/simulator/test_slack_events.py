"""The local Slack's events: which ones come, for whom, and what they look like."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.simulator.slack_wire import JSON, Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def events(at: Bench) -> list[JSON]:
    """Return every event sent so far, without waiting for a socket."""
    return [one.payload["event"] for one in at.slack.deliveries]


def kinds(at: Bench) -> list[tuple[str, str | None]]:
    return [(event["type"], event.get("subtype")) for event in events(at)]


async def test_an_events_envelope_has_slack_s_shape(at: Bench) -> None:
    """Who it is for, which event, and when, around the event itself."""
    socket = await at.connect()
    ts = await at.slack.say(at.alice, at.dev, "hi")
    envelope = await socket.next()
    event = envelope["payload"].pop("event")
    assert envelope == {
        "envelope_id": at.slack.deliveries[0].envelope_id,
        "type": "events_api",
        "accepts_response_payload": False,
        "retry_attempt": 0,
        "retry_reason": "",
        "payload": {
            "token": "local-verification-token",
            "team_id": at.slack.team_id,
            "context_team_id": at.slack.team_id,
            "context_enterprise_id": None,
            "api_app_id": at.slack.app_id,
            "type": "event_callback",
            "event_id": "Ev000000001",
            "event_time": 1772442000,
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": at.slack.team_id,
                    "user_id": at.slack.bot_user_id,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": False,
            "event_context": "4-Ev000000001",
        },
    }
    assert event == {
        "type": "message",
        "user": at.alice,
        "ts": ts,
        "text": "hi",
        "team": at.slack.team_id,
        "client_msg_id": event["client_msg_id"],
        "blocks": event["blocks"],
        "channel": at.dev,
        "channel_type": "channel",
        "event_ts": ts,
    }


@pytest.mark.parametrize(
    ("mention_first", "order"), [(True, ["app_mention", "message"]), (False, ["message", "app_mention"])]
)
async def test_a_mention_is_two_events_in_either_order(
    at: Bench,
    mention_first: bool,  # noqa: FBT001 - a table of cases
    order: list[str],
) -> None:
    """They share channel, ts and text, and differ in event_id; only the message has a channel_type."""
    text = at.slack.wire("@OpenHands fix it")
    ts = await at.slack.say(at.alice, at.dev, text, mention_first=mention_first)
    first, second = events(at)
    assert [first["type"], second["type"]] == order
    assert {(one["channel"], one["ts"], one["text"], one["user"]) for one in (first, second)} == {
        (at.dev, ts, text, at.alice)
    }
    assert ["channel_type" in one for one in (first, second)] == [kind == "message" for kind in order]
    assert len({one.event_id for one in at.slack.deliveries}) == 2


async def test_channel_type_tells_the_kind_of_place(at: Bench) -> None:
    """Channel, group, im and mpim; a mention in a direct message is only a message."""
    bob = at.slack.add_user("bob")
    places = [
        at.dev,
        at.slack.add_channel("secret", private=True, members=[at.alice]),
        at.slack.dm(at.alice),
        at.slack.group_dm([at.alice, bob]),
    ]
    for place in places:
        await at.slack.say(at.alice, place, "hi")
    await at.slack.say(at.alice, places[2], at.slack.wire("@OpenHands hi"))
    assert [event["channel_type"] for event in events(at)] == ["channel", "group", "im", "mpim", "im"]


async def test_blocks_of_a_person_s_message_say_the_same_as_its_text(at: Bench) -> None:
    """Slack's composer adds rich text: mentions, channels and links as elements, the rest unescaped."""
    await at.slack.say(at.alice, at.dev, f"<@{at.alice}> &lt;see&gt; <#{at.dev}|dev> <https://x.org|x> <!here>")
    [block] = events(at)[0]["blocks"]
    assert block["elements"][0]["elements"] == [
        {"type": "user", "user_id": at.alice},
        {"type": "text", "text": " <see> "},
        {"type": "channel", "channel_id": at.dev},
        {"type": "text", "text": " "},
        {"type": "link", "url": "https://x.org", "text": "x"},
        {"type": "text", "text": " "},
        {"type": "broadcast", "range": "here"},
    ]


async def test_replies_name_their_thread(at: Bench) -> None:
    """A reply has thread_ts and parent_user_id; one sent to the channel too is a thread_broadcast with its root."""
    root = await at.slack.say(at.alice, at.dev, "one")
    await at.slack.say(at.alice, at.dev, "two", thread_ts=root)
    await at.slack.say(at.alice, at.dev, "three", thread_ts=root, broadcast=True)
    _, reply, shout = events(at)
    assert (reply["thread_ts"], reply["parent_user_id"], "subtype" in reply) == (root, at.alice, False)
    assert (shout["thread_ts"], shout["subtype"], shout["root"]["text"]) == (root, "thread_broadcast", "one")


async def test_an_edit_tells_both_versions(at: Bench) -> None:
    """message_changed is hidden, has a ts of its own, and shows the message before and after."""
    ts = await at.slack.say(at.alice, at.dev, "one")
    await at.slack.edit(at.alice, at.dev, ts, "two")
    event = events(at)[1]
    assert (event["subtype"], event["hidden"], event["channel"], event["ts"] > ts) == (
        "message_changed",
        True,
        at.dev,
        True,
    )
    assert (event["previous_message"]["text"], event["message"]["text"], event["message"]["ts"]) == ("one", "two", ts)
    assert event["message"]["edited"]["user"] == at.alice


async def test_a_deletion_tells_what_was_there(at: Bench) -> None:
    """message_deleted names the ts that is gone and shows the message."""
    ts = await at.slack.say(at.alice, at.dev, "one")
    await at.slack.delete(at.alice, at.dev, ts)
    event = events(at)[1]
    assert (event["subtype"], event["deleted_ts"], event["previous_message"]["text"]) == ("message_deleted", ts, "one")


async def test_deleting_a_root_with_replies_is_told_as_a_change(at: Bench) -> None:
    """The root turns into a tombstone; no message_deleted comes."""
    ts = await at.slack.say(at.alice, at.dev, "one")
    await at.slack.say(at.alice, at.dev, "two", thread_ts=ts)
    await at.slack.delete(at.alice, at.dev, ts)
    event = events(at)[2]
    assert (event["subtype"], event["message"]["subtype"], event["message"]["user"]) == (
        "message_changed",
        "tombstone",
        "USLACKBOT",
    )
    assert event["previous_message"]["text"] == "one"


async def test_the_bot_s_own_posts_come_back_to_it(at: Bench) -> None:
    """Post, update and delete echo with our bot_id; of metadata only the type is told."""
    metadata = {"event_type": "card", "event_payload": {"id": "1"}}
    ts = (await at.api("chat.postMessage", channel=at.dev, text="one", metadata=metadata))["ts"]
    await at.api("chat.update", channel=at.dev, ts=ts, text="two")
    await at.api("chat.delete", channel=at.dev, ts=ts)
    posted, changed, deleted = events(at)
    assert (posted["bot_id"], posted["user"], posted["app_id"], posted["metadata"]) == (
        at.slack.bot_id,
        at.slack.bot_user_id,
        at.slack.app_id,
        {"event_type": "card"},
    )
    assert (changed["message"]["bot_id"], changed["message"]["text"]) == (at.slack.bot_id, "two")
    assert (deleted["subtype"], deleted["previous_message"]["bot_id"]) == ("message_deleted", at.slack.bot_id)


async def test_ephemeral_messages_raise_no_event(at: Bench) -> None:
    """They are not stored, so there is nothing to tell."""
    await at.api("chat.postEphemeral", channel=at.dev, user=at.alice, text="psst")
    assert events(at) == []


async def test_another_app_s_messages_carry_its_bot_id(at: Bench) -> None:
    """A bot speaks with a user id as people do; bot_id and app_id tell them apart."""
    robot = at.slack.add_user("ci", bot=True)
    at.slack.join(at.dev, robot)
    await at.slack.say(robot, at.dev, "build failed")
    event = events(at)[-1]
    assert event["user"] == robot
    assert event["bot_id"] not in {None, at.slack.bot_id}
    assert event["app_id"] != at.slack.app_id
    assert "client_msg_id" not in event


async def test_people_from_outside_are_told_by_their_team(at: Bench) -> None:
    """In a shared channel the payload says so, and the event has the author's own team."""
    eve = at.slack.add_user("eve", stranger=True, team_id="T0OTHER")
    partners = at.slack.add_channel("partners", ext_shared=True, members=[eve])
    await at.slack.say(eve, partners, "hi")
    payload = at.slack.deliveries[0].payload
    event = payload["event"]
    assert (payload["is_ext_shared_channel"], payload["team_id"]) == (True, at.slack.team_id)
    assert (event["team"], event["user_team"], event["source_team"]) == ("T0OTHER", "T0OTHER", "T0OTHER")


async def test_the_bot_hears_only_where_it_is(at: Bench) -> None:
    """In a channel without it, not even a mention reaches it."""
    other = at.slack.add_channel("other", members=[at.alice], bot_member=False)
    await at.slack.say(at.alice, other, at.slack.wire("@OpenHands hi"))
    assert events(at) == []


async def test_the_bot_hears_only_what_its_scopes_allow(at: Bench) -> None:
    """Without the history scope of a place only the mention comes, without app_mentions:read only the message."""
    at.slack.granted_scopes = {"app_mentions:read"}
    await at.slack.say(at.alice, at.dev, at.slack.wire("@OpenHands hi"))
    at.slack.granted_scopes = {"channels:history"}
    await at.slack.say(at.alice, at.dev, at.slack.wire("@OpenHands hi"))
    assert kinds(at) == [("app_mention", None), ("message", None)]


async def test_joining_leaving_and_archiving_are_told(at: Bench) -> None:
    """A join is an event and a message; of its own leaving the bot hears too, and then no more."""
    bob = at.slack.add_user("bob")
    at.slack.join(at.dev, bob)
    at.slack.join(at.dev, bob)
    at.slack.leave(at.dev, bob)
    at.slack.leave(at.dev, bob)
    at.slack.archive(at.dev)
    at.slack.leave(at.dev, at.slack.bot_user_id)
    at.slack.leave(at.dev, at.alice)
    assert kinds(at) == [
        ("member_joined_channel", None),
        ("message", "channel_join"),
        ("member_left_channel", None),
        ("channel_archive", None),
        ("member_left_channel", None),
    ]
    joined = events(at)[0]
    assert (joined["user"], joined["channel"], joined["channel_type"], joined["team"]) == (
        bob,
        at.dev,
        "C",
        at.slack.team_id,
    )


async def test_the_bot_s_arrival_is_told(at: Bench) -> None:
    """Invited into a private channel, it hears of itself there, and of its end as a group."""
    secret = at.slack.add_channel("secret", private=True, members=[at.alice], bot_member=False)
    at.slack.join(secret, at.slack.bot_user_id)
    at.slack.archive(secret)
    assert kinds(at) == [("member_joined_channel", None), ("message", "group_join"), ("group_archive", None)]
    assert events(at)[0]["user"] == at.slack.bot_user_id


async def test_reactions_are_told(at: Bench) -> None:
    """The event names who, what, and on whose message."""
    ts = await at.slack.say(at.alice, at.dev, "hi")
    await at.api("reactions.add", channel=at.dev, timestamp=ts, name="eyes")
    event: dict[str, Any] = events(at)[1]
    assert event == {
        "type": "reaction_added",
        "user": at.slack.bot_user_id,
        "reaction": "eyes",
        "item": {"type": "message", "channel": at.dev, "ts": ts},
        "item_user": at.alice,
        "event_ts": event["event_ts"],
    }
