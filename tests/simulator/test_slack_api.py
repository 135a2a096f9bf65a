"""The local Slack's Web API: who may call what, where, and what it says about people and places."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient

from bot.simulator.slack import LocalSlack
from tests.simulator.slack_wire import JSON, Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


async def test_auth_test_tells_who_the_bot_is_and_what_it_may_do(at: Bench) -> None:
    """The answer names team, user and bot; the header lists the granted scopes; there is no enterprise."""
    at.slack.granted_scopes = {"chat:write", "users:read"}
    async with await at.call("auth.test") as response:
        assert await response.json() == {
            "ok": True,
            "url": at.slack.workspace_url,
            "team": "Local team",
            "user": "openhands",
            "team_id": at.slack.team_id,
            "user_id": at.slack.bot_user_id,
            "bot_id": at.slack.bot_id,
            "is_enterprise_install": False,
        }
        assert response.headers["x-oauth-scopes"] == "chat:write,users:read"


async def test_a_call_without_a_token_is_not_authed(at: Bench) -> None:
    """No token at all is its own error, with HTTP 200 as every refusal."""
    async with at.http.post(f"{at.slack.api_url}auth.test") as response:
        assert (response.status, await response.json()) == (200, {"ok": False, "error": "not_authed"})


@pytest.mark.parametrize(
    ("method", "token", "error"),
    [
        ("auth.test", "another", "invalid_auth"),
        ("auth.test", "app", "not_allowed_token_type"),
        ("apps.connections.open", "bot", "not_allowed_token_type"),
        ("apps.connections.open", "app", None),
        ("auth.test", "bot", None),
    ],
)
async def test_each_method_takes_its_own_kind_of_token(at: Bench, method: str, token: str, error: str | None) -> None:
    """Sockets are opened with the app's token, everything else is called with the bot's; another workspace's is none."""
    tokens = {"app": at.slack.app_token, "bot": at.slack.bot_token, "another": LocalSlack().bot_token}
    assert await at.error(method, token=tokens[token]) == error


async def test_a_missing_scope_is_named(at: Bench) -> None:
    """The refusal says which scope is needed and which there are."""
    at.slack.granted_scopes = {"users:read"}
    assert await at.api("chat.postMessage", channel=at.dev, text="hi") == {
        "ok": False,
        "error": "missing_scope",
        "needed": "chat:write",
        "provided": "users:read",
    }


async def test_unknown_methods_and_arguments_are_violations(at: Bench) -> None:
    """A method that does not exist is refused; an argument that does not exist is ignored; both are noted."""
    assert await at.error("chat.shout", text="x") == "unknown_method"
    assert await at.error("users.info", user=at.alice, colour="red") is None
    assert at.slack.violations == ["chat.shout: no such method", "users.info: argument not known here: colour"]


async def test_form_json_and_query_arguments_mean_the_same(at: Bench) -> None:
    """Arguments come as a form, with blocks as JSON text, as JSON, or in the address."""
    blocks = '[{"type": "divider", "block_id": "line"}]'
    headers = {"Authorization": f"Bearer {at.slack.bot_token}"}
    data = {"channel": at.dev, "text": "form", "blocks": blocks}
    async with at.http.post(f"{at.slack.api_url}chat.postMessage", data=data, headers=headers) as response:
        assert (await response.json())["message"]["blocks"] == [{"type": "divider", "block_id": "line"}]
    params = {"user": at.alice, "token": at.slack.bot_token}
    async with at.http.get(f"{at.slack.api_url}users.info", params=params) as response:
        assert (await response.json())["user"]["id"] == at.alice
    assert at.slack.calls[1].args == {"user": at.alice}


@pytest.mark.parametrize(("body", "error"), [("{", "invalid_json"), ("[]", "json_not_object")])
async def test_a_body_that_is_no_object_is_refused(at: Bench, body: str, error: str) -> None:
    """Broken JSON and JSON of another kind have their own errors."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {at.slack.bot_token}"}
    async with at.http.post(f"{at.slack.api_url}auth.test", data=body, headers=headers) as response:
        assert await response.json() == {"ok": False, "error": error}


async def test_every_call_is_recorded_with_its_outcome(at: Bench) -> None:
    """Calls keep method, arguments without the token, time, and what the caller was told."""
    await at.api("users.info", user=at.alice)
    await at.api("users.info", user="U0NOBODY")
    assert [(call.method, call.args, call.at, call.ok, call.error) for call in at.slack.calls] == [
        ("users.info", {"user": at.alice}, at.clock.time, True, None),
        ("users.info", {"user": "U0NOBODY"}, at.clock.time, False, "user_not_found"),
    ]


@pytest.mark.parametrize(
    ("private", "bot_member", "archived", "error"),
    [
        (False, True, False, None),
        (False, False, False, "not_in_channel"),
        (True, True, False, None),
        (True, False, False, "channel_not_found"),
        (False, True, True, "is_archived"),
    ],
)
async def test_posting_needs_a_live_channel_the_bot_is_in(
    at: Bench,
    private: bool,  # noqa: FBT001 - a table of cases
    bot_member: bool,  # noqa: FBT001
    archived: bool,  # noqa: FBT001
    error: str | None,
) -> None:
    """A private channel without the bot looks as if it did not exist."""
    place = at.slack.add_channel("ops", private=private, bot_member=bot_member, archived=archived)
    assert await at.error("chat.postMessage", channel=place, text="hi") == error


async def test_a_person_s_id_posts_to_their_direct_message(at: Bench) -> None:
    """chat.postMessage takes a user id as the channel; unknown ids are no channel."""
    answer = await at.api("chat.postMessage", channel=at.alice, text="hi")
    assert answer["channel"] == at.slack.dm(at.alice)
    assert await at.error("chat.postMessage", channel="U0NOBODY", text="hi") == "channel_not_found"


async def test_users_info_tells_every_kind_of_person(at: Bench) -> None:
    """Guests, bots, deleted people and people from outside carry their flags and their own team."""
    slack = at.slack
    people = {
        "member": at.alice,
        "guest": slack.add_user("gus", restricted=True),
        "single": slack.add_user("sue", ultra_restricted=True),
        "bot": slack.add_user("ci", bot=True),
        "gone": slack.add_user("dan", deleted=True),
        "outside": slack.add_user("eve", stranger=True, team_id="T0OTHER"),
    }
    flags = ("is_restricted", "is_ultra_restricted", "is_bot", "deleted", "is_stranger")
    shown = {}
    for kind, person in people.items():
        user = (await at.api("users.info", user=person))["user"]
        shown[kind] = (user["team_id"], [flag for flag in flags if user[flag]])
    assert shown == {
        "member": (slack.team_id, []),
        "guest": (slack.team_id, ["is_restricted"]),
        "single": (slack.team_id, ["is_restricted", "is_ultra_restricted"]),
        "bot": (slack.team_id, ["is_bot"]),
        "gone": (slack.team_id, ["deleted"]),
        "outside": ("T0OTHER", ["is_stranger"]),
    }


async def test_conversations_info_tells_every_kind_of_place(at: Bench) -> None:
    """Private, shared, archived, direct and group places carry their flags; hidden ones are not found."""
    slack = at.slack
    bob = slack.add_user("bob")
    places = {
        "public": at.dev,
        "private": slack.add_channel("secret", private=True),
        "shared": slack.add_channel("partners", ext_shared=True),
        "archived": slack.add_channel("old", archived=True),
        "elsewhere": slack.add_channel("other", bot_member=False),
        "im": slack.dm(at.alice),
        "mpim": slack.group_dm([at.alice, bob]),
    }
    flags = ("is_private", "is_ext_shared", "is_shared", "is_archived", "is_im", "is_mpim", "is_member")
    shown = {}
    for kind, place in places.items():
        info = (await at.api("conversations.info", channel=place))["channel"]
        shown[kind] = [flag for flag in flags if info.get(flag)]
    hidden = slack.add_channel("hidden", private=True, bot_member=False)
    assert await at.error("conversations.info", channel=hidden) == "channel_not_found"
    assert shown == {
        "public": ["is_member"],
        "private": ["is_private", "is_member"],
        "shared": ["is_ext_shared", "is_shared", "is_member"],
        "archived": ["is_archived", "is_member"],
        "elsewhere": [],
        "im": ["is_im"],
        "mpim": ["is_private", "is_mpim", "is_member"],
    }


async def test_reading_a_place_needs_the_scope_of_its_kind(at: Bench) -> None:
    """channels:read does not open private channels, channels:history not direct messages."""
    at.slack.granted_scopes = {"channels:read", "channels:history"}
    secret, direct = at.slack.add_channel("secret", private=True), at.slack.dm(at.alice)
    assert (await at.api("conversations.info", channel=secret))["needed"] == "groups:read"
    assert (await at.api("conversations.history", channel=direct))["needed"] == "im:history"
    assert await at.error("conversations.history", channel=at.dev) is None


async def test_conversations_list_pages_through_what_the_bot_may_see(at: Bench) -> None:
    """Public channels all, others only with the bot in them; the cursor of the last page is empty."""
    at.slack.add_channel("hidden", private=True, bot_member=False)
    at.slack.add_channel("old", archived=True)
    at.slack.add_channel("secret", private=True)
    asked: dict[str, Any] = {"types": "public_channel,private_channel", "exclude_archived": True, "limit": 1}
    first = await at.api("conversations.list", **asked)
    second = await at.api("conversations.list", **asked, cursor=first["response_metadata"]["next_cursor"])
    names = [place["name"] for page in (first, second) for place in page["channels"]]
    assert (names, second["response_metadata"]["next_cursor"]) == (["dev", "secret"], "")
    assert await at.error("conversations.list", cursor="?") == "invalid_cursor"
    assert await at.error("conversations.list", limit=1001) == "invalid_limit"
    assert await at.error("conversations.list", types="rooms") == "invalid_types"


async def test_users_conversations_pages_through_where_the_bot_is(at: Bench) -> None:
    """Channels of every kind it is a member of, direct messages included; each kind needs its scope to read."""
    bob = at.slack.add_user("bob")
    at.slack.add_channel("elsewhere", bot_member=False)
    old = at.slack.add_channel("old", archived=True)
    secret = at.slack.add_channel("secret", private=True)
    direct, group = at.slack.dm(bob), at.slack.group_dm([at.alice, bob])
    every: JSON = {"types": "public_channel,private_channel,mpim,im", "limit": 3}
    first = await at.api("users.conversations", **every)
    second = await at.api("users.conversations", **every, cursor=first["response_metadata"]["next_cursor"])
    assert [one["id"] for one in first["channels"] + second["channels"]] == [at.dev, old, secret, direct, group]
    assert second["response_metadata"]["next_cursor"] == ""
    public = await at.api("users.conversations", exclude_archived=True)
    assert [one["id"] for one in public["channels"]] == [at.dev]
    at.slack.granted_scopes = at.slack.granted_scopes - {"im:read"}
    assert await at.error("users.conversations", types="im") == "missing_scope"


async def test_conversations_open_gives_the_one_direct_message(at: Bench) -> None:
    """Opening twice gives the same channel; bots and unknown people have none."""
    robot = at.slack.add_user("ci", bot=True)
    first = await at.api("conversations.open", users=at.alice)
    second = await at.api("conversations.open", users=at.alice)
    assert first == {"ok": True, "channel": {"id": at.slack.dm(at.alice)}}
    assert second == first | {"no_op": True, "already_open": True}
    assert await at.error("conversations.open", users=robot) == "cannot_dm_bot"
    assert await at.error("conversations.open", users="U0NOBODY") == "user_not_found"
    assert await at.error("conversations.open", users=at.slack.add_user("dan", deleted=True)) == "user_disabled"
    assert await at.error("conversations.open") == "users_list_not_supplied"
    known = await at.api("conversations.open", channel=at.slack.dm(at.alice), return_im=True)
    assert known["channel"]["user"] == at.alice


async def test_conversations_members_lists_who_is_in(at: Bench) -> None:
    """Members come in pages."""
    answer = await at.api("conversations.members", channel=at.dev)
    assert answer == {
        "ok": True,
        "members": sorted([at.alice, at.slack.bot_user_id]),
        "response_metadata": {"next_cursor": ""},
    }


async def test_permalinks_lead_to_messages_and_replies(at: Bench) -> None:
    """A reply's link also names its thread."""
    root = await at.slack.say(at.alice, at.dev, "hi")
    reply = await at.slack.say(at.alice, at.dev, "again", thread_ts=root)
    base = f"{at.slack.workspace_url}archives/{at.dev}/p"
    links = [(await at.api("chat.getPermalink", channel=at.dev, message_ts=ts))["permalink"] for ts in (root, reply)]
    assert links == [
        base + root.replace(".", ""),
        f"{base}{reply.replace('.', '')}?thread_ts={root}&cid={at.dev}",
    ]
    assert await at.error("chat.getPermalink", channel=at.dev, message_ts="1.000000") == "message_not_found"


async def test_a_reaction_counts_once(at: Bench) -> None:
    """The second time it is already there; unknown messages and impossible names are refused."""
    ts = await at.slack.say(at.alice, at.dev, "hi")
    asked = {"channel": at.dev, "timestamp": ts, "name": "eyes"}
    assert await at.error("reactions.add", **asked) is None
    assert await at.error("reactions.add", **asked) == "already_reacted"
    assert await at.error("reactions.add", **asked | {"timestamp": "1.000000"}) == "message_not_found"
    assert await at.error("reactions.add", **asked | {"name": "👀"}) == "invalid_name"
    message = at.slack.message(at.dev, ts)
    assert message is not None
    assert await at.error("reactions.add", **asked | {"name": ""}) == "no_reaction"
    assert message.reactions == {"eyes": [at.slack.bot_user_id]}


async def test_slack_s_own_client_is_understood(at: Bench) -> None:
    """What Slack's SDK sends is known in every part: nothing is noted as a violation."""
    client = AsyncWebClient(token=at.slack.bot_token, base_url=at.slack.api_url, session=at.http)
    posted = await client.chat_postMessage(
        channel=at.dev,
        text="hi",
        blocks=[{"type": "divider"}],
        metadata={"event_type": "card", "event_payload": {"id": "1"}},
        parse="none",
        link_names=False,
        unfurl_links=False,
        unfurl_media=False,
    )
    await client.chat_update(channel=at.dev, ts=posted["ts"], text="ho", parse="none", link_names=False)
    await client.chat_postEphemeral(channel=at.dev, user=at.alice, text="psst")
    await client.reactions_add(channel=at.dev, timestamp=posted["ts"], name="eyes")
    await client.conversations_open(users=[at.alice])
    await client.conversations_list(types="public_channel", limit=10)
    found = await client.conversations_replies(channel=at.dev, ts=posted["ts"], include_all_metadata=True)
    assert found["messages"][0]["metadata"] == {"event_type": "card", "event_payload": {"id": "1"}}
    assert at.slack.violations == []


async def test_names_are_unique_and_ids_must_exist(at: Bench) -> None:
    """A story that mixes up its people or places fails where it does so."""
    with pytest.raises(ValueError, match="there is a Alice already"):
        at.slack.add_user("Alice")
    with pytest.raises(ValueError, match="no user U0NOBODY"):
        at.slack.dm("U0NOBODY")
    with pytest.raises(ValueError, match="nobody to talk to"):
        at.slack.dm(at.slack.bot_user_id)
    with pytest.raises(ValueError, match="no channel C0NOWHERE"):
        at.slack.messages("C0NOWHERE")
    with pytest.raises(ValueError, match=f"no message 1.0 in {at.dev}"):
        await at.slack.edit(at.alice, at.dev, "1.0", "x")
