"""The local Slack's messages: order, threads, edits, deletions, metadata, and who is notified."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bot.simulator.slack import Ephemeral, LocalSlack, Message
from tests.simulator.slack_wire import Bench, bench


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def stored(at: Bench, ts: str) -> Message:
    message = at.slack.message(at.dev, ts)
    assert message is not None
    return message


async def posted(at: Bench, **args: Any) -> Message:
    answer = await at.api("chat.postMessage", channel=at.dev, **args)
    return stored(at, answer["ts"])


def mrkdwn(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"type": "section", "text": {"type": "mrkdwn", "text": text, **more}}]


async def test_ts_grow_in_a_channel_even_when_the_clock_stands_still(at: Bench) -> None:
    """A ts is seconds with six decimals, unique and increasing within its channel."""
    first, second = [await at.slack.say(at.alice, at.dev, "hi") for _ in range(2)]
    assert (first, second) == ("1772442000.000000", "1772442000.000001")


async def test_the_answer_to_a_post_shows_the_message(at: Bench) -> None:
    """It carries our bot's ids, the blocks with ids of their own, and the whole metadata."""
    metadata = {"event_type": "card", "event_payload": {"id": "1"}}
    answer = await at.api("chat.postMessage", channel=at.dev, text="hi", blocks=mrkdwn("*hi*"), metadata=metadata)
    message = answer["message"]
    assert (answer["channel"], message["ts"], message["bot_id"], message["user"], message["metadata"]) == (
        at.dev,
        answer["ts"],
        at.slack.bot_id,
        at.slack.bot_user_id,
        metadata,
    )
    assert message["blocks"] == [mrkdwn("*hi*")[0] | {"block_id": message["blocks"][0]["block_id"]}]


async def test_a_reply_to_a_reply_is_in_the_root_s_thread(at: Bench) -> None:
    """The thread is the root's, whichever message of it was named; the root counts its replies."""
    root = await at.slack.say(at.alice, at.dev, "one")
    reply = await posted(at, text="two", thread_ts=root)
    deeper = await posted(at, text="three", thread_ts=reply.ts)
    thread = (await at.api("conversations.replies", channel=at.dev, ts=deeper.ts))["messages"]
    assert [(one["text"], one["thread_ts"], one.get("parent_user_id")) for one in thread] == [
        ("one", root, None),
        ("two", root, at.alice),
        ("three", root, at.alice),
    ]
    assert (thread[0]["reply_count"], thread[0]["latest_reply"]) == (2, deeper.ts)
    assert [one.text for one in at.slack.messages(at.dev, thread_ts=root)] == ["one", "two", "three"]


async def test_a_reply_to_nothing_lands_in_the_channel(at: Bench) -> None:
    """Where the root does not exist (any more), Slack posts at the top."""
    assert (await posted(at, text="hello?", thread_ts="1.000000")).thread_ts is None


async def test_history_shows_the_newest_first_and_hides_replies(at: Bench) -> None:
    """Replies are in the channel's history only when they were also sent to it."""
    root = await at.slack.say(at.alice, at.dev, "one")
    await at.slack.say(at.alice, at.dev, "aside", thread_ts=root)
    await at.slack.say(at.alice, at.dev, "for all", thread_ts=root, broadcast=True)
    await posted(at, text="for all, too", thread_ts=root, reply_broadcast=True)
    history = await at.api("conversations.history", channel=at.dev)
    assert [one["text"] for one in history["messages"]] == ["for all, too", "for all", "one"]


async def test_history_is_read_in_pages_within_bounds(at: Bench) -> None:
    """Bounds are exclusive unless `inclusive`; has_more and the cursor lead to the next page."""
    ts = [await at.slack.say(at.alice, at.dev, str(number)) for number in range(5)]

    async def texts(**args: Any) -> list[str]:
        answer = await at.api("conversations.history", channel=at.dev, **args)
        return [one["text"] for one in answer["messages"]]

    assert await texts(oldest=ts[1], latest=ts[4]) == ["3", "2"]
    assert await texts(oldest=ts[1], latest=ts[3], inclusive=True) == ["3", "2", "1"]
    first = await at.api("conversations.history", channel=at.dev, limit=3)
    assert first["has_more"] is True
    assert await at.error("conversations.history", channel=at.dev, oldest="soon") == "invalid_ts_oldest"
    hidden = at.slack.add_channel("hidden", bot_member=False)
    assert await at.error("conversations.history", channel=hidden) == "not_in_channel"
    assert await texts(limit=3, cursor=first["response_metadata"]["next_cursor"]) == ["1", "0"]


async def test_replies_repeat_the_root_on_every_page(at: Bench) -> None:
    """A thread is read oldest first; its root heads each page."""
    root = await at.slack.say(at.alice, at.dev, "root")
    for text in ("a", "b", "c"):
        await at.slack.say(at.alice, at.dev, text, thread_ts=root)
    first = await at.api("conversations.replies", channel=at.dev, ts=root, limit=2)
    cursor = first["response_metadata"]["next_cursor"]
    second = await at.api("conversations.replies", channel=at.dev, ts=root, limit=2, cursor=cursor)
    texts = [[one["text"] for one in page["messages"]] for page in (first, second)]
    assert texts == [["root", "a", "b"], ["root", "c"]]
    assert await at.error("conversations.replies", channel=at.dev, ts="1.000000") == "thread_not_found"


async def test_metadata_is_read_back_only_when_asked_for(at: Bench) -> None:
    """Without include_all_metadata a history shows the type and hides the payload."""
    metadata = {"event_type": "card", "event_payload": {"id": "1"}}
    await posted(at, text="hi", metadata=metadata)
    plain = await at.api("conversations.history", channel=at.dev)
    full = await at.api("conversations.history", channel=at.dev, include_all_metadata=True)
    assert plain["messages"][0]["metadata"] == {"event_type": "card"}
    assert full["messages"][0]["metadata"] == metadata


async def test_an_update_keeps_metadata_and_drops_blocks_it_does_not_repeat(at: Bench) -> None:
    """Text alone removes the blocks; metadata stays until it is given anew; the former version is remembered."""
    metadata = {"event_type": "card", "event_payload": {"id": "1"}}
    before = await posted(at, text="one", blocks=mrkdwn("one"), metadata=metadata)
    await at.api("chat.update", channel=at.dev, ts=before.ts, text="two")
    after = stored(at, before.ts)
    assert (after.text, after.blocks, after.metadata, after.edited) == ("two", (), metadata, 1)
    assert after.history == (("one", before.blocks),)
    other = {"event_type": "card", "event_payload": {"id": "2"}}
    await at.api("chat.update", channel=at.dev, ts=before.ts, text="three", metadata=other)
    assert stored(at, before.ts).metadata == other


async def test_only_our_own_living_messages_are_updated_or_deleted(at: Bench) -> None:
    """What others wrote, what is gone, and what is in an archived channel each have their own error."""
    others = await at.slack.say(at.alice, at.dev, "mine")
    ours = await posted(at, text="ours")
    assert await at.error("chat.update", channel=at.dev, ts=others, text="x") == "cant_update_message"
    assert await at.error("chat.delete", channel=at.dev, ts=others) == "cant_delete_message"
    assert await at.error("chat.update", channel=at.dev, ts="1.000000", text="x") == "message_not_found"
    at.slack.archive(at.dev)
    assert await at.error("chat.update", channel=at.dev, ts=ours.ts, text="x") == "is_inactive"


async def test_a_deleted_card_is_not_found(at: Bench) -> None:
    """Deleted by us or by an admin, a message can be updated no more."""
    ours, second = await posted(at, text="ours"), await posted(at, text="second")
    await at.slack.delete(at.alice, at.dev, ours.ts)
    assert await at.error("chat.update", channel=at.dev, ts=ours.ts, text="x") == "message_not_found"
    assert await at.error("chat.delete", channel=at.dev, ts=second.ts) is None
    assert at.slack.messages(at.dev) == []


async def test_a_deleted_reply_leaves_its_thread(at: Bench) -> None:
    """The root counts it no more; a root whose replies are all gone is deleted like any other."""
    root = await at.slack.say(at.alice, at.dev, "root")
    replies = [await at.slack.say(at.alice, at.dev, text, thread_ts=root) for text in ("a", "b")]
    await at.slack.delete(at.alice, at.dev, replies[0])
    thread = (await at.api("conversations.replies", channel=at.dev, ts=root))["messages"]
    assert ([one["text"] for one in thread], thread[0]["reply_count"]) == (["root", "b"], 1)
    await at.slack.delete(at.alice, at.dev, replies[1])
    await at.slack.delete(at.alice, at.dev, root)
    assert at.slack.messages(at.dev) == []


async def test_a_deleted_root_with_replies_leaves_a_tombstone(at: Bench) -> None:
    """The thread goes on under "This message was deleted."; the tombstone itself cannot be updated."""
    root = await posted(at, text="root")
    reply = await at.slack.say(at.alice, at.dev, "reply", thread_ts=root.ts)
    await at.slack.delete(at.alice, at.dev, root.ts)
    assert [(one.user, one.text, one.subtype) for one in at.slack.messages(at.dev)] == [
        ("USLACKBOT", "This message was deleted.", "tombstone"),
        (at.alice, "reply", None),
    ]
    assert stored(at, reply).thread_ts == root.ts
    assert await at.error("chat.update", channel=at.dev, ts=root.ts, text="x") == "message_not_found"


async def test_an_ephemeral_message_is_seen_by_one_member_and_not_stored(at: Bench) -> None:
    """Its ts leads nowhere; people who are not in the channel cannot get one."""
    bob = at.slack.add_user("bob")
    answer = await at.api("chat.postEphemeral", channel=at.dev, user=at.alice, text="psst")
    assert await at.error("chat.postEphemeral", channel=at.dev, user=bob, text="psst") == "user_not_in_channel"
    assert await at.error("chat.update", channel=at.dev, ts=answer["message_ts"], text="x") == "message_not_found"
    assert at.slack.messages(at.dev) == []
    seen = Ephemeral(at.alice, at.dev, "psst", (), None, at.clock.time, "chat.postEphemeral")
    assert (at.slack.ephemerals(at.alice), at.slack.ephemerals(at.alice, "C0OTHER")) == ([seen], [])


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"event_type": "card", "event_payload": {"id": "1"}}, None),
        ('{"event_type": "card", "event_payload": {"id": "1"}}', None),
        ("{", "invalid_metadata_format"),
        ({"event_type": "card"}, "invalid_metadata_format"),
        ({"event_type": "card", "event_payload": "1"}, "invalid_metadata_format"),
        ({"event_type": "card", "event_payload": {"id": "x" * 1024}}, "metadata_too_large"),
    ],
)
async def test_metadata_has_a_type_and_a_small_payload(at: Bench, metadata: Any, error: str | None) -> None:
    """Both fields are needed, the payload is an object, and the whole stays below a kilobyte."""
    assert await at.error("chat.postMessage", channel=at.dev, text="hi", metadata=metadata) == error


@pytest.mark.parametrize(
    ("typed", "wire"),
    [
        ("@OpenHands fix #dev, please", "<@U000000001> fix <#C000000001|dev>, please"),
        ("@alice: a < b && c > d", "<@U000000002>: a &lt; b &amp;&amp; c &gt; d"),
        ("@here and @nobody", "<!here> and @nobody"),
        ("org/repo#dev and me@alice and org/repo@dev", "org/repo#dev and me@alice and org/repo@dev"),
    ],
)
def test_typed_text_becomes_slack_s_wire_form(typed: str, wire: str) -> None:
    """Known names become ids, the three special characters are escaped, everything else stays."""
    slack = LocalSlack()
    slack.add_channel("dev", members=[slack.add_user("alice")])
    assert slack.wire(typed) == wire


async def test_a_mention_notifies_members_of_the_channel_only(at: Bench) -> None:
    """People outside the channel, and the author, are not notified."""
    bob = at.slack.add_user("bob")
    message = await posted(at, text=f"<@{at.alice}> <@{bob}> <@{at.slack.bot_user_id}>")
    assert message.mentions == {at.alice}


PINGS: list[tuple[dict[str, Any], set[str]]] = [
    ({"text": "<!channel> <!here|here> <!subteam^S1>"}, {"channel", "here", "subteam^S1"}),
    ({"text": "&lt;!channel&gt; @here"}, set()),
    ({"text": "@here", "parse": "none"}, set()),
    ({"text": "@here", "parse": "full"}, {"here"}),
    ({"text": "@here", "link_names": True}, {"here"}),
    ({"text": "x", "blocks": mrkdwn("@here", verbatim=True), "link_names": True}, {"here"}),
    ({"text": "x", "blocks": mrkdwn("@everyone look")}, {"everyone"}),
    ({"text": "x", "blocks": mrkdwn("@everyone look"), "parse": "none"}, {"everyone"}),
    ({"text": "x", "blocks": mrkdwn("@everyone look", verbatim=True)}, set()),
    ({"text": "x", "blocks": mrkdwn("<!here>", verbatim=True)}, {"here"}),
    ({"text": "x", "blocks": mrkdwn("me@here.org &lt;!here&gt;")}, set()),
    ({"text": "x", "blocks": [{"type": "header", "text": {"type": "plain_text", "text": "@here <!here>"}}]}, set()),
    ({"text": "x", "blocks": [{"type": "markdown", "text": "<!channel>"}]}, {"channel"}),
    ({"markdown_text": "@channel <!here>"}, {"here"}),
]


@pytest.mark.parametrize(("args", "broadcasts"), PINGS)
async def test_every_way_to_call_a_whole_group_is_seen(at: Bench, args: dict[str, Any], broadcasts: set[str]) -> None:
    """Escaped, plain or verbatim text calls nobody; `mrkdwn` calls by raw @name unless it is verbatim."""
    assert (await posted(at, **args)).broadcasts == broadcasts


async def test_link_names_calls_people_by_their_names(at: Bench) -> None:
    """`@alice` is only text unless the post asks for names to be linked."""
    plain = await posted(at, text="@alice and @nobody")
    linked = await posted(at, text="@alice and @nobody", link_names=True)
    in_blocks = await posted(at, text="x", blocks=mrkdwn("@alice"), link_names=True)
    assert [one.mentions for one in (plain, linked, in_blocks)] == [set(), {at.alice}, {at.alice}]


async def test_rich_text_calls_people_only_through_its_own_elements(at: Bench) -> None:
    """Text elements are literal, whatever they look like."""

    def rich(*elements: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}]

    literal = await posted(at, text="x", blocks=rich({"type": "text", "text": f"<!channel> @here <@{at.alice}>"}))
    called = await posted(
        at,
        text="x",
        blocks=rich(
            {"type": "user", "user_id": at.alice},
            {"type": "broadcast", "range": "here"},
            {"type": "usergroup", "usergroup_id": "S1"},
        ),
    )
    assert (literal.mentions, literal.broadcasts) == (frozenset(), frozenset())
    assert (called.mentions, called.broadcasts) == (frozenset({at.alice}), frozenset({"here", "subteam^S1"}))


async def test_an_update_without_parse_reads_names_again(at: Bench) -> None:
    """chat.update resets `parse` to "client" when it is not given; what it calls is kept in `broadcasts`."""
    quiet, loud = await posted(at, text="x"), await posted(at, text="x")
    await at.api("chat.update", channel=at.dev, ts=quiet.ts, text="@channel", parse="none", link_names=False)
    await at.api("chat.update", channel=at.dev, ts=loud.ts, text="@channel")
    assert stored(at, quiet.ts).broadcasts == frozenset()
    assert stored(at, loud.ts).broadcasts == {"channel"}


async def test_naming_a_person_only_beside_the_blocks_is_a_violation(at: Bench) -> None:
    """With blocks, the text is only the fallback: whether it notifies is not documented."""
    message = await posted(at, text=f"<@{at.alice}> done", blocks=mrkdwn("done"))
    assert message.mentions == frozenset()
    assert at.slack.violations == [f"{at.alice} is named only where Slack may not notify them"]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a &lt;b&gt; &amp; c", True),
        ("> a quotation, and -> an arrow", True),
        (
            "<@U000000002> <#C000000001|dev> <!here> <!date^1^{date}|then> <https://x.org?a=1&b=2|x> <mailto:a@x.org>",
            True,
        ),
        ("a < b", False),
        ("see <div>", False),
        ("<script|x>", False),
        ("this & that", False),
        ("&nbsp;", False),
    ],
)
async def test_text_that_is_not_escaped_is_a_violation(at: Bench, text: str, escaped: bool) -> None:  # noqa: FBT001
    """In the text and in mrkdwn, `<` and `&` stand only in Slack's own syntax; plain text takes anything."""
    await posted(at, text=text)
    await posted(at, text="x", blocks=mrkdwn(text, verbatim=True))
    await posted(at, text="x", blocks=[{"type": "header", "text": {"type": "plain_text", "text": text}}])
    assert [one for one in at.slack.violations if "not escaped" in one] == (
        [] if escaped else [f"not escaped: {text}"] * 2
    )


async def test_people_do_only_what_slack_lets_them(at: Bench) -> None:
    """Talking where one is not, in an archived channel, or editing others' words is a mistake in the story."""
    bob = at.slack.add_user("bob")
    ts = await at.slack.say(at.alice, at.dev, "hi")
    with pytest.raises(ValueError, match="bob is not in dev"):
        await at.slack.say(bob, at.dev, "hi")
    with pytest.raises(ValueError, match="people edit only what they wrote"):
        await at.slack.edit(bob, at.dev, ts, "ho")
    at.slack.archive(at.dev)
    with pytest.raises(ValueError, match="dev is archived"):
        await at.slack.say(at.alice, at.dev, "hi")
