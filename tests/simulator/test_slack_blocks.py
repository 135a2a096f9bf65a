"""The local Slack's sizes: each at its limit and one past it, with Slack's own error."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.simulator.slack_wire import Bench, bench

Block = dict[str, Any]


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    async with bench() as made:
        yield made


def plain(size: int) -> Block:
    return {"type": "plain_text", "text": "x" * size}


def mrkdwn(size: int) -> Block:
    return {"type": "mrkdwn", "text": "x" * size}


def button(**fields: Any) -> Block:
    return {"type": "actions", "elements": [{"type": "button", "text": plain(4), "action_id": "a", **fields}]}


def select(**fields: Any) -> Block:
    menu = {"type": "static_select", "placeholder": plain(4), "action_id": "a", "options": [option()], **fields}
    return {"type": "actions", "elements": [menu]}


def option(text: int = 4, value: int = 4) -> Block:
    return {"text": plain(text), "value": "x" * value}


def confirm(**fields: Any) -> Block:
    return {"title": plain(4), "text": plain(4), "confirm": plain(4), "deny": plain(4), **fields}


def rich(*elements: Block) -> Block:
    return {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": list(elements)}]}


# Name, a message's blocks at the limit, the same one past it.
SIZES: list[tuple[str, list[Block], list[Block]]] = [
    ("blocks", [{"type": "divider"}] * 50, [{"type": "divider"}] * 51),
    ("section text", [{"type": "section", "text": mrkdwn(3000)}], [{"type": "section", "text": mrkdwn(3001)}]),
    ("field", [{"type": "section", "fields": [plain(2000)]}], [{"type": "section", "fields": [plain(2001)]}]),
    ("fields", [{"type": "section", "fields": [plain(1)] * 10}], [{"type": "section", "fields": [plain(1)] * 11}]),
    ("header", [{"type": "header", "text": plain(150)}], [{"type": "header", "text": plain(151)}]),
    ("context", [{"type": "context", "elements": [plain(1)] * 10}], [{"type": "context", "elements": [plain(1)] * 11}]),
    (
        "actions",
        [{"type": "actions", "elements": [{"type": "button", "text": plain(1)}] * 25}],
        [{"type": "actions", "elements": [{"type": "button", "text": plain(1)}] * 26}],
    ),
    ("button text", [button(text=plain(75))], [button(text=plain(76))]),
    ("button value", [button(value="x" * 2000)], [button(value="x" * 2001)]),
    ("button url", [button(url="x" * 3000)], [button(url="x" * 3001)]),
    ("action_id", [button(action_id="x" * 255)], [button(action_id="x" * 256)]),
    ("block_id", [{"type": "divider", "block_id": "x" * 255}], [{"type": "divider", "block_id": "x" * 256}]),
    ("options", [select(options=[option()] * 100)], [select(options=[option()] * 101)]),
    ("option text", [select(options=[option(text=75)])], [select(options=[option(text=76)])]),
    ("option value", [select(options=[option(value=150)])], [select(options=[option(value=151)])]),
    ("confirm title", [button(confirm=confirm(title=plain(100)))], [button(confirm=confirm(title=plain(101)))]),
    ("confirm text", [button(confirm=confirm(text=mrkdwn(300)))], [button(confirm=confirm(text=mrkdwn(301)))]),
    ("confirm button", [button(confirm=confirm(deny=plain(30)))], [button(confirm=confirm(deny=plain(31)))]),
]


@pytest.mark.parametrize(("fits", "too_much"), [case[1:] for case in SIZES], ids=[case[0] for case in SIZES])
async def test_a_size_is_kept_to_the_character(at: Bench, fits: list[Block], too_much: list[Block]) -> None:
    """At the limit it is posted, one past it the whole message is refused as `invalid_blocks`."""
    assert await at.error("chat.postMessage", channel=at.dev, text="x", blocks=fits) is None
    assert await at.error("chat.postMessage", channel=at.dev, text="x", blocks=too_much) == "invalid_blocks"


LINK = {"type": "link", "url": "https://x.org", "text": "x", "style": {"bold": True}}
IMAGE = {"type": "image", "image_url": "https://x.org/x.png", "alt_text": "x"}

EVERY_KIND: list[Block] = [
    {"type": "header", "text": plain(4) | {"emoji": True}, "block_id": "head"},
    {"type": "section", "text": mrkdwn(4) | {"verbatim": True}, "accessory": IMAGE},
    {"type": "divider"},
    {"type": "context", "elements": [IMAGE, plain(4)]},
    IMAGE | {"title": plain(4)},
    {"type": "markdown", "text": "**x**"},
    {
        "type": "actions",
        "elements": [
            {"type": "button", "text": plain(4), "action_id": "stop", "style": "danger", "confirm": confirm()},
            {"type": "external_select", "placeholder": plain(4), "action_id": "repo", "min_query_length": 0},
            {"type": "overflow", "action_id": "more", "options": [option() | {"description": plain(4)}]},
        ],
    },
    {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_section", "elements": [LINK, {"type": "emoji", "name": "eyes"}]},
            {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "x"}], "border": 0},
            {"type": "rich_text_quote", "elements": [{"type": "text", "text": "x"}]},
            {
                "type": "rich_text_list",
                "style": "ordered",
                "indent": 8,
                "elements": [{"type": "rich_text_section", "elements": [LINK]}],
            },
        ],
    },
]


async def test_every_kind_of_block_is_taken(at: Bench) -> None:
    """The vocabulary of a message, all of it at once."""
    assert (await at.api("chat.postMessage", channel=at.dev, text="x", blocks=EVERY_KIND))["ok"] is True


def rich_list(**fields: Any) -> Block:
    items = {
        "type": "rich_text_list",
        "style": "bullet",
        "elements": [{"type": "rich_text_section", "elements": [LINK]}],
    }
    return {"type": "rich_text", "elements": [items | fields]}


WRONG: list[tuple[Any, str | None]] = [
    ("{", "invalid_blocks_format"),
    ({"type": "divider"}, "invalid_blocks_format"),
    (["divider"], "invalid_blocks"),
    ([{"type": "carousel"}], "invalid_blocks"),
    ([{"type": "section"}], "invalid_blocks"),
    ([{"type": "section", "text": "x"}], "invalid_blocks"),
    ([{"type": "section", "text": mrkdwn(0)}], "invalid_blocks"),
    ([{"type": "section", "text": plain(1) | {"verbatim": True}}], "invalid_blocks"),
    ([{"type": "section", "text": plain(1), "colour": "red"}], "invalid_blocks"),
    ([{"type": "header", "text": mrkdwn(1)}], "invalid_blocks"),
    ([{"type": "actions", "elements": []}], "invalid_blocks"),
    ([{"type": "divider", "block_id": "a"}] * 2, "invalid_blocks"),
    ([{"type": "actions", "elements": [{"type": "button", "text": plain(1), "action_id": "a"}] * 2}], "invalid_blocks"),
    ([button(style="loud")], "invalid_blocks"),
    ([rich({"type": "text", "text": ""})], "invalid_blocks"),
    ([rich({"type": "text", "text": "x", "style": {"big": True}})], "invalid_blocks"),
    ([rich({"type": "text", "text": "x", "style": {"bold": True}}, {"type": "link", "url": "https://x.org"})], None),
    ([{"type": "rich_text", "elements": [{"type": "text", "text": "x"}]}], "invalid_blocks"),
    ([rich({"type": "sound"})], "invalid_blocks"),
    ([rich_list()], None),
    ([rich_list(style="dotted")], "invalid_blocks"),
    ([rich_list(indent=9)], "invalid_blocks"),
    ([rich_list(elements=[{"type": "text", "text": "x"}])], "invalid_blocks"),
    ([{"type": "image", "image_url": "https://x.org/x.png"}], "invalid_blocks"),
    ([{"type": "context", "elements": [{"type": "image", "alt_text": "x"}]}], "invalid_blocks"),
    ([{"type": "section", "text": plain(1), "accessory": "button"}], "invalid_blocks"),
    ([{"type": "actions", "elements": [{"type": "dial"}]}], "invalid_blocks"),
    ([{"type": "actions", "elements": [{"type": "external_select", "action_id": "a"}]}], "invalid_blocks"),
    ([select(options=["x"])], "invalid_blocks"),
    ([select(options=[option() | {"description": plain(76)}])], "invalid_blocks"),
    ([button(confirm="sure?")], "invalid_blocks"),
    ([button(confirm={"title": plain(1)})], "invalid_blocks"),
]


@pytest.mark.parametrize(("blocks", "error"), WRONG)
async def test_malformed_blocks_are_refused(at: Bench, blocks: Any, error: str | None) -> None:
    """What is no list of blocks has another error than blocks with something wrong in them."""
    assert await at.error("chat.postMessage", channel=at.dev, text="x", blocks=blocks) == error


async def test_invalid_blocks_say_what_and_where(at: Bench) -> None:
    """The answer points at the place in the JSON."""
    answer = await at.api("chat.postMessage", channel=at.dev, text="x", blocks=[{"type": "header", "text": plain(151)}])
    problem = "[ERROR] must be less than 151 characters [json-pointer:/blocks/0/text/text]"
    assert answer == {
        "ok": False,
        "error": "invalid_blocks",
        "errors": [problem],
        "response_metadata": {"messages": [problem]},
    }


@pytest.mark.parametrize(
    ("blocks", "error"),
    [
        ([{"type": "markdown", "text": "x" * 6000}] * 2, None),
        ([{"type": "markdown", "text": "x" * 6000}, {"type": "markdown", "text": "x" * 6001}], "msg_blocks_too_long"),
        ([{"type": "section", "text": plain(2600)}] * 5, None),
        (
            [{"type": "section", "text": plain(2600)}] * 5 + [{"type": "section", "text": plain(1)}],
            "msg_blocks_too_long",
        ),
    ],
)
async def test_all_blocks_together_have_a_limit_too(at: Bench, blocks: list[Block], error: str | None) -> None:
    """Markdown blocks share 12,000 characters, all blocks of a message about 13,000."""
    assert await at.error("chat.postMessage", channel=at.dev, text="x", blocks=blocks) == error


async def test_a_long_post_is_cut_and_a_long_update_refused(at: Bench) -> None:
    """chat.postMessage keeps 40,000 characters; chat.update takes 4,000."""
    posted = await at.api("chat.postMessage", channel=at.dev, text="x" * 40_001)
    assert len(posted["message"]["text"]) == 40_000
    update = {"channel": at.dev, "ts": posted["ts"]}
    assert await at.error("chat.update", **update, text="x" * 4_000) is None
    assert await at.error("chat.update", **update, text="x" * 4_001) == "msg_too_long"


async def test_markdown_text_stands_alone_and_is_limited(at: Bench) -> None:
    """It takes 12,000 characters and no text or blocks beside it."""
    assert await at.error("chat.postMessage", channel=at.dev, markdown_text="x" * 12_000) is None
    assert await at.error("chat.postMessage", channel=at.dev, markdown_text="x" * 12_001) == "msg_too_long"
    both = {"markdown_text": "x", "text": "x"}
    assert await at.error("chat.postMessage", channel=at.dev, **both) == "markdown_text_conflict"


async def test_a_message_without_text_is_refused(at: Bench) -> None:
    """Nothing at all is Slack's own error; blocks without the text that notifies are refused here, and noted."""
    assert await at.error("chat.postMessage", channel=at.dev) == "no_text"
    assert at.slack.violations == []
    assert await at.error("chat.postMessage", channel=at.dev, blocks=[{"type": "divider"}]) == "no_text"
    assert at.slack.violations == ["blocks without a text to notify people with"]
