"""The gateway: what it asks of Slack, and what comes back."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from bot.core.cards import Message
from bot.core.errors import SlackRefused, SlackUnsure
from bot.core.model import ChannelId, MessageTs, Person, Place, RowId, TeamId, UserId
from bot.slack.gateway import FACTS, PAGE, Posted, Spoken, part
from bot.slack.recognise import Identity
from tests.conftest import HandClock
from tests.slack.bench import Bench, bench, gateway

SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*Working*", "verbatim": True}}
CARD = Message("Working", [SECTION])
LITERAL = {"parse": "none", "link_names": False}
"""What keeps names and links in a text from turning into mentions and previews."""


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def sent(at: Bench) -> Mapping[str, Any]:
    """Return the arguments of the last call, without what it was about."""
    about = {"channel", "text", "blocks", "metadata", "ts", "thread_ts", "user"}
    return {name: value for name, value in at.slack.calls[-1].args.items() if name not in about}


# --- who we are -------------------------------------------------------------------------------------------------


async def test_who_we_are_and_what_we_may(at: Bench) -> None:
    """The scopes are in a header of the answer."""
    at.slack.granted_scopes = ["chat:write", "commands"]
    assert await at.gateway.identity() == (
        Identity(
            TeamId(at.slack.team_id), UserId(at.slack.bot_user_id), at.slack.bot_id, "https://local-team.slack.com/"
        ),
        frozenset({"chat:write", "commands"}),
    )


async def test_a_server_that_names_no_scopes(at: Bench) -> None:
    """None known, which is not the same as none given."""
    at.slack.granted_scopes = []
    assert (await at.gateway.identity())[1] == frozenset()


async def test_a_ticket_is_asked_for_with_the_app_token(at: Bench) -> None:
    """The bot's own token opens no socket."""
    url = await at.gateway.socket_url(at.slack.app_token)
    assert url.startswith(f"{at.slack.api_url.replace('http', 'ws').removesuffix('api/')}link?ticket=")


# --- messages ---------------------------------------------------------------------------------------------------


async def test_a_post_carries_its_row(at: Bench) -> None:
    """Text, blocks and the row's id as metadata; nothing in it can turn into a mention or a preview."""
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"))
    [message] = at.slack.messages(at.dev)
    assert (posted, message.text, len(message.blocks)) == (Posted(MessageTs(message.ts), None), "Working", 1)
    assert message.metadata == {"event_type": "openhands_card", "event_payload": {"id": "row-1"}}
    assert sent(at) == LITERAL | {"unfurl_links": False, "unfurl_media": False}


async def test_a_post_in_a_thread(at: Bench) -> None:
    """It is a reply to the thread's root."""
    root = MessageTs(await at.slack.say(at.alice, at.dev, "hello"))
    posted = await at.gateway.post(at.dev, Message("Hi"), RowId("row-1"), thread=root)
    [_, message] = at.slack.messages(at.dev, thread_ts=root)
    assert (posted, message.text) == (Posted(MessageTs(message.ts), root), "Hi")


async def test_a_post_to_a_thread_that_is_gone(at: Bench) -> None:
    """Slack puts it in the channel itself, and the answer says so: it opens a thread of its own."""
    root = MessageTs(await at.slack.say(at.alice, at.dev, "hello"))
    await at.slack.delete(at.alice, at.dev, root)
    posted = await at.gateway.post(at.dev, Message("Hi"), RowId("row-1"), thread=root)
    [message] = at.slack.messages(at.dev)
    assert posted == Posted(MessageTs(message.ts), None)


async def test_an_answer_that_shows_no_message() -> None:
    """Then it is where it was asked to be."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.json_response({"ok": True, "ts": "1.000002"})

    root = MessageTs("1.000001")
    async with RawTestServer(answer) as server, gateway(str(server.make_url("/api/")), HandClock()) as slack:
        posted = await slack.post(ChannelId("C1"), CARD, RowId("row-1"), thread=root)
    assert posted == Posted(MessageTs("1.000002"), root)


async def test_an_edit_may_be_repeated(at: Bench) -> None:
    """The second changes nothing more, and the message keeps its row."""
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"))
    for _ in range(2):
        await at.gateway.update(at.dev, posted.ts, Message("Done", [SECTION, SECTION]))
    [edited] = at.slack.messages(at.dev)
    assert (edited.text, len(edited.blocks)) == ("Done", 2)
    assert edited.metadata == {"event_type": "openhands_card", "event_payload": {"id": "row-1"}}
    assert sent(at) == LITERAL


@pytest.mark.parametrize("thread", [None, MessageTs("1.000001")])
async def test_a_whisper_is_for_one_person(at: Bench, thread: MessageTs | None) -> None:
    """Only they see it, and it is no message of the channel."""
    await at.gateway.whisper(at.dev, at.alice, "psst", thread=thread)
    [seen] = at.slack.ephemerals(at.alice)
    assert (seen.text, seen.channel, seen.thread_ts, at.slack.messages(at.dev)) == ("psst", at.dev, thread, [])
    assert sent(at) == LITERAL


async def test_a_command_is_answered_for_its_author(at: Bench) -> None:
    """Through the command's own address, where only its author sees it."""
    command = await at.slack.command(at.alice, at.dev, "help")
    await at.gateway.respond(command.response_url, "Try this")
    assert command.responses == [{"response_type": "ephemeral", "text": "Try this"}]


async def test_an_emoji_twice_is_the_emoji_once(at: Bench) -> None:
    """It is there: what else was wanted?"""
    ts = MessageTs(await at.slack.say(at.alice, at.dev, "hello"))
    await at.gateway.react(at.dev, ts, "eyes")
    await at.gateway.react(at.dev, ts, "eyes")
    [message] = at.slack.messages(at.dev)
    assert message.reactions == {"eyes": [at.slack.bot_user_id]}


async def test_an_emoji_on_nothing_is_refused(at: Bench) -> None:
    """Any other refusal is one."""
    with pytest.raises(SlackRefused, match="message_not_found"):
        await at.gateway.react(at.dev, MessageTs("1.000001"), "eyes")


async def test_a_direct_conversation_is_the_same_every_time(at: Bench) -> None:
    """Opened when it is first needed, found afterwards."""
    first = await at.gateway.direct(at.alice)
    assert (first, await at.gateway.direct(at.alice)) == (at.slack.dm(at.alice), first)


# --- looking for a message whose answer was lost ----------------------------------------------------------------


async def find(at: Bench, row: str = "row-1", *, thread: str | None = None, sent_s: float = 0) -> Posted | None:
    root = None if thread is None else MessageTs(thread)
    sent_at = at.clock.now() + timedelta(seconds=sent_s)
    return await at.gateway.find(at.dev, RowId(row), at.us, thread=root, sent_at=sent_at)


async def talk(at: Bench, messages: int, thread: str | None = None) -> list[str]:
    return [await at.slack.say(at.alice, at.dev, f"say {count}", thread_ts=thread) for count in range(messages)]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_message_is_found_by_its_row(at: Bench, *, in_thread: bool) -> None:
    """In the channel or the thread it was meant for; another row's id finds nothing."""
    [root] = await talk(at, 1)
    thread = MessageTs(root) if in_thread else None
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"), thread=thread)
    assert await find(at, thread=thread) == posted
    assert await find(at, "row-2", thread=thread) is None


async def test_a_root_with_replies_is_found_as_a_root(at: Bench) -> None:
    """Slack then names it as its own thread."""
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"))
    await talk(at, 1, posted.ts)
    assert await find(at) == posted


async def test_a_message_whose_thread_is_gone_is_found(at: Bench) -> None:
    """Slack put it in the channel itself: there it is looked for, and nothing more is posted."""
    [root] = await talk(at, 1)
    await at.slack.delete(at.alice, at.dev, root)
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"), thread=MessageTs(root))
    assert await find(at, thread=root) == posted
    assert await find(at, "row-2", thread=root) is None


async def test_a_place_that_can_not_be_read_is_refused(at: Bench) -> None:
    """Not found is one thing, not allowed to look another."""
    at.slack.leave(at.dev, at.slack.bot_user_id)
    with pytest.raises(SlackRefused, match="not_in_channel"):
        await find(at)


async def test_a_message_is_found_behind_many_others(at: Bench) -> None:
    """A channel is read from its newest message, a thread from its oldest: page by page, to the end."""
    on_top = await at.gateway.post(at.dev, CARD, RowId("top"))
    [root, *_] = await talk(at, PAGE + 1)
    await talk(at, PAGE + 1, root)
    last = await at.gateway.post(at.dev, CARD, RowId("last"), thread=MessageTs(root))
    before = len(at.slack.calls)
    assert (await find(at, "top"), await find(at, "last", thread=root)) == (on_top, last)
    assert at.called()[before:] == ["conversations.history"] * 2 + ["conversations.replies"] * 2


async def test_a_message_is_found_though_nobody_told_the_bots_id(at: Bench) -> None:
    """`auth.test` may leave it out: our user is on the message as well."""
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"))
    nameless = replace(at.us, bot="")
    now = at.clock.now()
    assert await at.gateway.find(at.dev, RowId("row-1"), nameless, thread=None, sent_at=now) == posted


@pytest.mark.parametrize("in_thread", [True, False])
async def test_a_thread_that_is_gone(at: Bench, *, in_thread: bool) -> None:
    """Root and all; with replies left under it there is still a thread."""
    [root] = await talk(at, 1)
    if in_thread:
        await talk(at, 1, root)
    before = await at.gateway.is_gone(at.dev, MessageTs(root))
    await at.slack.delete(at.alice, at.dev, root)
    assert (before, await at.gateway.is_gone(at.dev, MessageTs(root))) == (False, not in_thread)


async def test_a_thread_nobody_may_look_into_is_not_gone(at: Bench) -> None:
    """Only Slack's own word for it counts."""
    [root] = await talk(at, 1)
    at.slack.leave(at.dev, at.slack.bot_user_id)
    assert not await at.gateway.is_gone(at.dev, MessageTs(root))


async def test_another_bots_message_is_not_ours(at: Bench) -> None:
    """Every app can read our metadata, and write the same."""
    other = at.slack.add_user("other-bot", bot=True)
    at.slack.join(at.dev, other)
    workspace = at.slack._workspace
    theirs = {"event_type": "openhands_card", "event_payload": {"id": "row-1"}}
    workspace.post(workspace.channel(at.dev), workspace.user(other), "Working", metadata=theirs)
    bare = {"event_type": "deployed", "event_payload": {}}
    workspace.post(workspace.channel(at.dev), workspace.user(other), "Deployed", metadata=bare)
    assert await find(at) is None


@pytest.mark.parametrize(("sent_s", "found"), [(599, True), (601, False), (-599, True), (-601, False)])
async def test_only_the_time_around_the_attempt_is_read(at: Bench, sent_s: float, *, found: bool) -> None:
    """Slack's clock and ours may differ by ten minutes, in either direction, not by more."""
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"))
    assert await find(at, sent_s=sent_s) == (posted if found else None)


async def test_what_was_said_long_afterwards_is_not_read(at: Bench) -> None:
    """A lost message may be looked for days later: the search must end, however much was said since."""
    sent_at = at.clock.now()
    posted = await at.gateway.post(at.dev, CARD, RowId("row-1"))
    at.clock.move(sent_at + timedelta(hours=1))
    await talk(at, PAGE + 1)
    before = len(at.slack.calls)
    assert await at.gateway.find(at.dev, RowId("row-1"), at.us, thread=None, sent_at=sent_at) == posted
    assert at.called()[before:] == ["conversations.history"]


# --- facts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({}, {}),
        ({"bot": True}, {"bot": True}),
        ({"restricted": True}, {"guest": True}),
        ({"ultra_restricted": True}, {"guest": True}),
        ({"stranger": True}, {"stranger": True}),
        ({"deleted": True}, {"deleted": True}),
        ({"team_id": "T2"}, {"team": "T2"}),
    ],
)
async def test_what_somebody_is(at: Bench, about: dict[str, Any], expected: dict[str, Any]) -> None:
    """Whatever decides who may do what is in Slack's answer."""
    bob = UserId(at.slack.add_user("Bob", **about))
    whole: dict[str, Any] = {"id": bob, "team": at.slack.team_id, "name": "Bob"}
    assert await at.gateway.person(bob) == Person(**whole | expected)


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ({"profile": {"display_name": "Al"}, "real_name": "Alice", "name": "alice"}, "Al"),
        ({"profile": {"display_name": ""}, "real_name": "Alice", "name": "alice"}, "Alice"),
        ({"profile": None, "name": "alice"}, "alice"),
        ({}, ""),
    ],
)
async def test_what_somebody_is_called(user: dict[str, Any], name: str) -> None:
    """The name they chose, else what there is."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.json_response({"ok": True, "user": user})

    async with RawTestServer(answer) as server, gateway(str(server.make_url("/api/")), HandClock()) as slack:
        assert await slack.person(UserId("U1")) == Person(id=UserId("U1"), team=None, name=name)


async def test_what_a_place_is(at: Bench) -> None:
    """Only a public channel is public; shared with another company is told apart."""
    bob = at.slack.add_user("bob")
    places = [
        at.dev,
        at.slack.add_channel("secret", private=True),
        at.slack.dm(at.alice),
        at.slack.group_dm([at.alice, bob]),
        at.slack.add_channel("partners", ext_shared=True),
    ]
    assert [await at.gateway.place(ChannelId(place)) for place in places] == [
        Place(id=ChannelId(places[0]), private=False),
        Place(id=ChannelId(places[1]), private=True),
        Place(id=ChannelId(places[2]), private=True),
        Place(id=ChannelId(places[3]), private=True),
        Place(id=ChannelId(places[4]), private=False, external=True),
    ]


async def test_facts_are_remembered_for_five_minutes(at: Bench) -> None:
    """Then they are asked for again: people become guests, channels private."""
    for seconds in (0, 300, 301):
        at.clock.move(at.clock.now() + timedelta(seconds=seconds))
        await at.gateway.person(at.alice)
        await at.gateway.place(at.dev)
    assert at.called() == ["users.info", "conversations.info"] * 2


async def test_facts_too_old_to_be_used_are_not_kept(at: Bench) -> None:
    """However many people and places there are in a workspace, those of the last minutes are remembered."""
    for number in range(20):
        await at.gateway.person(UserId(at.slack.add_user(f"person{number}")))
        await at.gateway.place(ChannelId(at.slack.add_channel(f"place{number}")))
        at.clock.move(at.clock.now() + timedelta(seconds=100))
    assert (len(at.gateway._people), len(at.gateway._places)) == (4, 4)


async def test_facts_are_bounded_in_number(at: Bench) -> None:
    """A burst from thousands of people within minutes: the oldest go first, an evicted one is asked for again."""
    now = at.clock.now()
    at.gateway._people.update(
        (UserId(f"U{number}"), (now, Person(id=UserId(f"U{number}"), team=None))) for number in range(FACTS)
    )
    await at.gateway.person(at.alice)
    assert len(at.gateway._people) == FACTS
    assert (UserId("U0") in at.gateway._people, at.alice in at.gateway._people) == (False, True)


async def test_a_fact_that_could_not_be_had_is_asked_for_again(at: Bench) -> None:
    """A refusal is no fact."""
    for _ in range(2):
        with pytest.raises(SlackRefused, match="user_not_found"):
            await at.gateway.person(UserId("U404"))
        with pytest.raises(SlackRefused, match="channel_not_found"):
            await at.gateway.place(ChannelId("C404"))
    assert at.called() == ["users.info", "conversations.info"] * 2


async def test_a_channel_is_found_by_its_name(at: Bench) -> None:
    """Also far down the list; one the bot can't see is not there."""
    for count in range(PAGE):
        at.slack.add_channel(f"channel-{count}")
    last = at.slack.add_channel("news")
    at.slack.add_channel("secret", private=True, bot_member=False)
    at.slack.add_channel("old", archived=True)
    names = ("dev", "news", "secret", "old", "new")
    assert [await at.gateway.channel_named(name) for name in names] == [at.dev, last, None, None, None]


# --- what was said before ---------------------------------------------------------------------------------------


async def test_what_people_said_before_a_message(at: Bench) -> None:
    """Oldest first, the root included; not the message itself, what came after it, or what bots said."""
    root = MessageTs(await at.slack.say(at.alice, at.dev, "It &amp; that"))
    await at.gateway.post(at.dev, CARD, RowId("row-1"), thread=root)
    bob = UserId(at.slack.add_user("bob"))
    at.slack.join(at.dev, bob)
    second = MessageTs(await at.slack.say(bob, at.dev, "Me too", thread_ts=root, broadcast=True))
    asked = MessageTs(await at.slack.say(at.alice, at.dev, "fix it", thread_ts=root))
    await at.slack.say(at.alice, at.dev, "please", thread_ts=root)
    said = [Spoken(at.alice, "It &amp; that", root), Spoken(bob, "Me too", second)]
    assert await at.gateway.spoken(at.dev, root, asked, at.us) == (said, True)
    assert await at.gateway.spoken(at.dev, root, asked, at.us, after=root) == (said[1:], True)


async def test_only_the_last_words_of_a_long_thread(at: Bench) -> None:
    """The 30 just before the message, however many pages of others come first."""
    [root] = await talk(at, 1)
    said = await talk(at, PAGE + 5, root)
    asked = MessageTs(await at.slack.say(at.alice, at.dev, "fix it", thread_ts=root))
    found, _ = await at.gateway.spoken(at.dev, MessageTs(root), asked, at.us)
    assert [one.ts for one in found] == said[-30:]


async def test_the_root_stands_once(at: Bench) -> None:
    """Slack puts it at the head of every page."""
    [root] = await talk(at, 1)
    workspace = at.slack._workspace
    for _ in range(PAGE + 1):
        workspace.post(workspace.channel(at.dev), workspace.bot, "Working", thread_ts=root)
    asked = MessageTs(await at.slack.say(at.alice, at.dev, "fix it", thread_ts=root))
    found, _ = await at.gateway.spoken(at.dev, MessageTs(root), asked, at.us)
    assert [one.ts for one in found] == [root]
    assert at.called() == ["conversations.replies"] * 2


async def test_a_deleted_root_says_nothing(at: Bench) -> None:
    """What Slack puts in its place was said by nobody."""
    [root] = await talk(at, 1)
    [said] = await talk(at, 1, root)
    asked = MessageTs(await at.slack.say(at.alice, at.dev, "fix it", thread_ts=root))
    await at.slack.delete(at.alice, at.dev, root)
    found, _ = await at.gateway.spoken(at.dev, MessageTs(root), asked, at.us)
    assert [one.ts for one in found] == [said]


@pytest.mark.parametrize("answer", [{"ok": True}, {"ok": True, "user": None}, {"ok": True, "user": "alice"}])
def test_a_fact_that_is_missing_from_an_answer_is_not_known(answer: dict[str, Any]) -> None:
    """`ok` alone says nothing about anybody: it is asked again."""
    with pytest.raises(SlackUnsure, match="answer_unreadable"):
        part(answer, "user")
