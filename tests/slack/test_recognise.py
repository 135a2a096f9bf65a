"""Payload → Incoming: requests are told from everything else Slack sends."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.model import Action, ChannelId, File, Incoming, IncomingKind, MessageTs, PlaceGone, TeamId, UserId
from bot.slack.recognise import Identity, Linked, place_gone, recognise

US = Identity(TeamId("T1"), UserId("U0BOT"), "B0BOT", "https://acme.slack.com/")
TS, ROOT = "1772442000.000200", "1772442000.000100"
JSON = dict[str, Any]
STOP: JSON = {"type": "button", "action_id": "stop", "value": "r1:1:", "action_ts": "1772442007.000100"}


def event(about: Mapping[str, Any] | None = None, **body: Any) -> JSON:
    """Return the payload of alice's message in #dev, with changes; None takes a field away."""
    message = {
        "type": "message",
        "user": "U01",
        "text": "hello",
        "ts": TS,
        "team": "T1",
        "channel": "C01",
        "channel_type": "channel",
        "event_ts": TS,
        **(about or {}),
    }
    kept = {name: value for name, value in message.items() if value is not None}
    return {"type": "event_callback", "team_id": "T1", "event_id": "Ev1", "event": kept} | body


def command(**about: Any) -> JSON:
    """Return the payload of alice's `/openhands fix README` in #dev, with changes; None takes a field away."""
    typed = {
        "command": "/openhands",
        "text": "fix README",
        "team_id": "T1",
        "channel_id": "C01",
        "channel_name": "dev",
        "user_id": "U01",
        "user_name": "alice",
        "response_url": "https://hooks.slack.com/commands/T1/1/x",
        "trigger_id": "1.2.abc",
        **about,
    }
    return {name: value for name, value in typed.items() if value is not None}


def click(**about: Any) -> JSON:
    """Return the payload of alice's click on Stop, on a card in a thread of #dev, with changes; None takes a field away."""
    clicked = {
        "type": "block_actions",
        "user": {"id": "U01", "username": "alice", "team_id": "T1"},
        "container": {"type": "message", "message_ts": TS, "channel_id": "C01", "thread_ts": ROOT},
        "trigger_id": "1.2.abc",
        "channel": {"id": "C01", "name": "dev"},
        "message": {"type": "message", "user": "U0BOT", "ts": TS, "thread_ts": ROOT},
        "response_url": "https://hooks.slack.com/actions/T1/1/x",
        "actions": [STOP],
        **about,
    }
    return {name: value for name, value in clicked.items() if value is not None}


def a_message(**about: Any) -> Incoming:
    known: JSON = {
        "key": f"msg:T1:C01:{TS}",
        "kind": IncomingKind.MESSAGE,
        "team": TeamId("T1"),
        "channel": ChannelId("C01"),
        "user": UserId("U01"),
        "text": "hello",
        "ts": MessageTs(TS),
        "actor_team": TeamId("T1"),
    }
    return Incoming(**known | about)


def a_command(**about: Any) -> Incoming:
    known: JSON = {
        "key": "cmd:1.2.abc",
        "kind": IncomingKind.COMMAND,
        "team": TeamId("T1"),
        "channel": ChannelId("C01"),
        "user": UserId("U01"),
        "text": "fix README",
        "actor_team": TeamId("T1"),
        "response_url": "https://hooks.slack.com/commands/T1/1/x",
    }
    return Incoming(**known | about)


# --- requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (event(), a_message()),
        (event({"subtype": "file_share"}), a_message()),
        (event({"text": ""}), a_message(text="")),
        (event({"text": None}), a_message(text="")),
        (event({"thread_ts": ROOT}), a_message(thread_ts=MessageTs(ROOT))),
        (
            event({"thread_ts": ROOT, "subtype": "thread_broadcast", "root": {"ts": ROOT}}),
            a_message(thread_ts=MessageTs(ROOT)),
        ),
        (event({"thread_ts": TS}), a_message()),
        (event({"text": "<@U0BOT> fix it"}), a_message(text="<@U0BOT> fix it", mentions_us=True)),
        (event({"text": "<@U0BOT|openhands> fix"}), a_message(text="<@U0BOT|openhands> fix", mentions_us=True)),
        (event({"text": "<@U0BOTHER> fix it"}), a_message(text="<@U0BOTHER> fix it")),
        (event({"text": "@openhands U0BOT"}), a_message(text="@openhands U0BOT")),
        (
            event({"channel": "D01", "channel_type": "im"}),
            a_message(key=f"msg:T1:D01:{TS}", channel=ChannelId("D01"), direct=True),
        ),
        (
            event({"channel": "D01", "channel_type": None}),
            a_message(key=f"msg:T1:D01:{TS}", channel=ChannelId("D01"), direct=True),
        ),
        (
            event({"channel": "G01", "channel_type": "mpim"}),
            a_message(key=f"msg:T1:G01:{TS}", channel=ChannelId("G01")),
        ),
        (event({"user": "W01", "user_team": "T2"}), a_message(user=UserId("W01"), actor_team=TeamId("T2"))),
        (event({"source_team": "T3"}), a_message(actor_team=TeamId("T3"))),
        (event({"team": None}), a_message(actor_team=None)),
        (event(is_ext_shared_channel=True), a_message(external=True)),
        (event({"hidden": False, "bot_id": "", "app_id": ""}), a_message()),
    ],
)
def test_a_persons_message_is_a_request(payload: JSON, expected: Incoming) -> None:
    """Kept with what decides where it belongs; whether it is for us is decided later."""
    assert recognise(payload, US) == expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (command(), a_command()),
        (command(text=None), a_command(text="")),
        (command(team_id="T2"), a_command(actor_team=TeamId("T2"))),
        (command(team_id=None), a_command(actor_team=None)),
        (command(response_url=None), a_command(response_url=None)),
        (command(trigger_id="t" * 300), a_command(key="cmd:" + "t" * 251)),
        (
            command(channel_id="D01", channel_name="directmessage"),
            a_command(channel=ChannelId("D01")),
        ),
    ],
)
def test_a_command_is_a_request(payload: JSON, expected: Incoming) -> None:
    """One key for each time it was typed; no thread and no message of its own."""
    assert recognise(payload, US) == expected


@pytest.mark.parametrize("where", [{}, {"thread_ts": ROOT}, {"channel": "G01"}])
def test_both_events_of_a_mention_are_the_same_request(where: JSON) -> None:
    """They come in either order and with ids of their own: equal to the last field, so either may be first."""
    about = {"text": "<@U0BOT> fix it", **where}
    mention = recognise(event(about | {"type": "app_mention", "channel_type": None}, event_id="Ev2"), US)
    assert mention is not None
    assert mention == recognise(event(about), US)


# --- everything else --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "event_callback"},
        {"type": "event_callback", "event": None},
        {"type": "event_callback", "event": "message"},
        {"type": "event_callback", "event": [event()["event"]]},
        {"type": "block_actions", "user": {"id": "U01"}, "trigger_id": "1.2", "actions": [{"action_id": "open"}]},
        {"type": "view_submission", "view": {}},
        {"type": "url_verification", "challenge": "x"},
        {"command": "/openhands"},
        {"trigger_id": "1.2.abc"},
        event({"type": "reaction_added"}),
        event({"type": ["message"]}),
        event({"subtype": "message_changed", "hidden": True}),
        event({"subtype": "message_deleted", "hidden": True}),
        event({"subtype": "channel_join"}),
        event({"subtype": "bot_message", "bot_id": "B1"}),
        event({"subtype": "tombstone"}),
        event({"subtype": "a_word_newer_than_this_code"}),
        event({"subtype": {}}),
        event({"hidden": True}),
        event({"bot_id": "B1"}),
        event({"app_id": "A1"}),
        event({"user": "U0BOT"}),
        event({"user": "USLACKBOT"}),
        event({"user": None}),
        event({"user": "alice"}),
        event({"user": 1}),
        event({"user": "U01\n"}),
        event({"channel": None}),
        event({"channel": "#dev"}),
        event({"channel": "C01:T1"}),
        event({"channel": "C" * 40}),
        event({"ts": None}),
        event({"ts": 1772442000.0002}),
        event({"ts": "now"}),
        event({"ts": "١٢٣.٠٠٠"}),
        event({"ts": f"{TS}; DROP TABLE inbox"}),
        command(channel_id=None),
        command(channel_id="dev"),
        command(user_id=None),
        command(user_id=["U01"]),
        command(trigger_id=7),
    ],
)
def test_everything_else_is_nothing_to_act_on(payload: JSON) -> None:
    """Other bots, our own echo, edits, joins, clicks on a link, and what no Slack sends: acknowledged and forgotten."""
    assert recognise(payload, US) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (event({"text": ["a"]}), a_message(text="")),
        (event({"thread_ts": "root"}), a_message()),
        (event({"thread_ts": 17}), a_message()),
        (event({"team": ["T1"]}), a_message(actor_team=None)),
        (event({"channel_type": ["im"]}), a_message()),
        (command(text={"a": 1}), a_command(text="{'a': 1}")),
        (command(team_id=1), a_command(actor_team=None)),
        (command(response_url=["https://evil.example"]), a_command(response_url=None)),
    ],
)
def test_an_odd_field_does_no_harm(payload: JSON, expected: Incoming) -> None:
    """What is not of the right kind counts as not there, so no `Incoming` lies about its types."""
    assert recognise(payload, US) == expected


# --- edits and deletions ----------------------------------------------------------------------------------------

LATER = "1772442060.000300"
SHOT: JSON = {"id": "F1", "name": "shot.png", "size": 7, "url_private": "https://files.slack.com/f1"}


def edit(about: Mapping[str, Any], before: Mapping[str, Any] | None = None, **outer: Any) -> JSON:
    """Return the payload of an edit of alice's "hello". about: what differs by now; before: what differed before."""
    return event(
        {
            "subtype": "message_changed",
            "hidden": True,
            "user": None,
            "text": None,
            "ts": LATER,
            "event_ts": LATER,
            "message": event(about)["event"],
            "previous_message": event(before)["event"],
            **outer,
        }
    )


def deletion(**outer: Any) -> JSON:
    gone = {"subtype": "message_deleted", "hidden": True, "user": None, "text": None, "ts": LATER, "event_ts": LATER}
    return event({**gone, "deleted_ts": TS, "previous_message": event()["event"], **outer})


def an_edit(**about: Any) -> Incoming:
    was = {"kind": IncomingKind.EDIT, "edited_at": MessageTs(LATER), "was": "hello"}
    return a_message(**{**was, "key": f"edit:T1:C01:{TS}:{LATER}", **about})


ASKS = "<@U0BOT> fix README"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (edit({"text": "bye"}), an_edit(text="bye")),
        (edit({"text": "bye"}, event_ts=None), an_edit(text="bye")),
        (edit({"text": "bye"}, previous_message=None), an_edit(text="bye", was="")),
        (edit({"files": [SHOT]}), an_edit(files=(File(id="F1", name="shot.png", url=SHOT["url_private"], size=7),))),
        (edit({"text": ASKS}), an_edit(text=ASKS, mentions_us=True, kind=IncomingKind.MESSAGE, key=f"msg:T1:C01:{TS}")),
        (
            edit({"text": "<@U0BOT> fix it"}, {"text": ASKS}),
            an_edit(text="<@U0BOT> fix it", mentions_us=True, was=ASKS),
        ),
        (edit({}), None),
        (edit({"attachments": [{"from_url": "https://example.com", "text": "x"}]}), None),
        (edit({"blocks": [{"type": "divider"}]}), None),
        (edit({"files": [SHOT]}, {"files": [{**SHOT, "size": 0}]}), None),
        (edit({"text": "bye", "bot_id": "B1"}), None),
        (edit({"text": "bye", "user": "U0BOT"}), None),
        (edit({"text": "bye"}, event_ts=None, ts=None), None),
        (edit({}, message=None), None),
        (edit({"text": "bye", "ts": "x"}), None),
    ],
)
def test_an_edit_is_about_words_or_files(payload: JSON, expected: Incoming | None) -> None:
    """One that adds our mention is a request; previews and the like are nothing."""
    assert recognise(payload, US) == expected


@pytest.mark.parametrize(
    "payload",
    [deletion(), edit({"subtype": "tombstone", "text": "This message was deleted.", "user": "USLACKBOT"})],
)
def test_a_deletion_says_which_message_is_gone(payload: JSON) -> None:
    """A root with replies is deleted by a change of it."""
    known = {"kind": IncomingKind.DELETION, "key": f"delete:T1:C01:{TS}", "text": "", "edited_at": MessageTs(LATER)}
    assert recognise(payload, US) == a_message(**known)


@pytest.mark.parametrize(
    "payload",
    [
        deletion(previous_message=None),
        deletion(previous_message=event({"bot_id": "B0BOT"})["event"]),
        deletion(event_ts=None, ts=None),
    ],
)
def test_other_deletions_are_nothing(payload: JSON) -> None:
    """Our own messages, and what can't be told."""
    assert recognise(payload, US) is None


@pytest.mark.parametrize(
    ("about", "files"),
    [
        ([SHOT], (File(id="F1", name="shot.png", url="https://files.slack.com/f1", size=7),)),
        ([{**SHOT, "url_private_download": "https://files.slack.com/d1", "size": "7"}],
         (File(id="F1", name="shot.png", url="https://files.slack.com/d1"),)),
        ([{"id": "F1", "title": "A shot", "mode": "tombstone"}], (File(id="F1", name="A shot"),)),
        ([{**SHOT, "file_access": "check_file_info"}], (File(id="F1", name="shot.png", size=7),)),
        ([{"name": "x"}, "F2", {"id": 7}], ()),
        ({"id": "F1"}, ()),
        ([SHOT] * 30, (File(id="F1", name="shot.png", url="https://files.slack.com/f1", size=7),) * 20),
    ],
)  # fmt: skip
def test_the_files_of_a_message(about: Any, files: tuple[File, ...]) -> None:
    """As Slack shows them; those that it shows by their id alone have to be asked for."""
    found = recognise(event({"subtype": "file_share", "files": about}), US)
    assert found == a_message(files=files)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)
"""What JSON can hold."""


def nearly(right: Mapping[str, Any]) -> st.SearchStrategy[JSON]:
    """Return dicts like this one, in which anything may be anything, or missing."""
    return st.fixed_dictionaries({}, optional={name: st.just(value) | ANYTHING for name, value in right.items()})


MESSAGES = nearly({**event({"thread_ts": ROOT, "subtype": "file_share", "user_team": "T2"})["event"], "hidden": False})
EVENTS = st.builds(lambda body, inner: body | {"event": inner}, nearly(event()), MESSAGES)


CHANGED = st.builds(
    lambda outer, after, before, kind: event(
        {**outer, "type": "message", "subtype": kind, "message": after, "previous_message": before}
    ),
    nearly(edit({})["event"]),
    MESSAGES,
    MESSAGES,
    st.sampled_from(["message_changed", "message_deleted"]),
)


@given(payload=st.dictionaries(st.text(max_size=8), ANYTHING, max_size=4) | nearly(command()) | EVENTS | CHANGED)
def test_no_payload_breaks_it(payload: JSON) -> None:
    """Whatever arrives gives a request with fields of the right kinds, or None; nothing is raised."""
    found = recognise(payload, US)
    assert place_gone(payload, US) is None
    assert found is None or (
        isinstance(found, Incoming)
        and isinstance(found.text, str)
        and len(found.key) <= 255
        and {type(value) for value in (found.thread_ts, found.actor_team, found.response_url)} <= {str, type(None)}
    )


# --- clicks -----------------------------------------------------------------------------------------------------


def a_click(**about: Any) -> Incoming:
    known: JSON = {
        "key": f"act:C01:{TS}:stop:U01:1772442007.000100",
        "kind": IncomingKind.CLICK,
        "team": TeamId("T1"),
        "channel": ChannelId("C01"),
        "user": UserId("U01"),
        "text": "",
        "ts": MessageTs(TS),
        "thread_ts": MessageTs(ROOT),
        "action": Action.STOP,
        "value": "r1:1:",
        "clicked_at": MessageTs("1772442007.000100"),
        "actor_team": TeamId("T1"),
        "response_url": "https://hooks.slack.com/actions/T1/1/x",
    }
    return Incoming(**known | about)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (click(), a_click()),
        (click(message=None), a_click()),
        (click(container=None), a_click()),
        (click(channel=None), a_click()),
        (click(message=["x"], container=["x"]), None),
        (click(channel="dev", container="dev"), None),
        (click(response_url=None), a_click(response_url=None)),
        (click(user={"id": "U01"}), a_click(actor_team=None)),
        (click(user="U01"), None),
        (click(message={"ts": ROOT}, container={"message_ts": ROOT}),
         a_click(key=f"act:C01:{ROOT}:stop:U01:1772442007.000100", ts=MessageTs(ROOT), thread_ts=None)),
        (click(actions=[{**STOP, "action_ts": None}]), a_click(key=f"act:C01:{TS}:stop:U01:1.2.abc", clicked_at=None)),
        (click(actions=[{**STOP, "action_ts": None}], trigger_id=None), None),
        (click(actions=[{**STOP, "value": None}]), a_click(value="")),
        (click(actions=[{**STOP, "action_id": "open"}]), None),
        (click(actions=[{**STOP, "action_id": ["stop"]}]), None),
        (click(actions=[{**STOP, "action_id": "stopped:1"}]), None),
        (click(actions=["stop"]), None),
        (click(actions=[]), None),
        (click(actions=None), None),
    ],
)  # fmt: skip
def test_a_click_on_a_button_of_ours(payload: JSON, expected: Incoming | None) -> None:
    """It is read from whichever of the places Slack tells it in; where none tells it, and on a link, it is no request."""
    assert recognise(payload, US) == expected


@given(payload=nearly(click()) | st.builds(lambda action: click(actions=[action]), nearly(STOP)))
def test_no_click_breaks_it(payload: JSON) -> None:
    """Whatever arrives gives a request, or None; nothing is raised."""
    found = recognise(payload, US)
    assert found is None or (isinstance(found, Incoming) and len(found.key) <= 255)


# --- places that are lost ---------------------------------------------------------------------------------------


def place_event(**about: Any) -> JSON:
    return {"type": "event_callback", "event": {"type": "channel_archive", "user": "U01", "channel": "C01"} | about}


@pytest.mark.parametrize(
    "about",
    [{}, {"type": "group_archive"}, {"type": "member_left_channel", "user": "U0BOT"}],
    ids=["archived", "a private one archived", "removed"],
)
def test_a_place_the_bot_has_lost(about: JSON) -> None:
    """Archived by whomever, or left by the bot itself."""
    assert place_gone(place_event(**about), US) == PlaceGone(ChannelId("C01"))


@pytest.mark.parametrize(
    "payload",
    [
        place_event(type="member_left_channel"),
        place_event(type="channel_unarchive"),
        place_event(channel={"id": "C01"}),
        place_event(channel=None),
        place_event(type=["channel_archive"]),
        {"type": "event_callback", "event": None},
        {"event": place_event()["event"]},
    ],
    ids=str,
)
def test_other_events_of_places_are_none_of_ours(payload: JSON) -> None:
    """Somebody else left, it came back, or it is not readable."""
    assert place_gone(payload, US) is None


@pytest.mark.parametrize(
    ("bot", "message", "ours"),
    [
        ("B0BOT", {"bot_id": "B0BOT"}, True),
        ("B0BOT", {"user": "U0BOT"}, True),
        ("", {"user": "U0BOT", "bot_id": "B0BOT"}, True),
        ("", {"user": "U01", "bot_id": ""}, False),
        ("B0BOT", {"user": "U01", "bot_id": "B0OTHER"}, False),
        ("B0BOT", {}, False),
    ],
)
def test_which_messages_are_our_own(bot: str, message: JSON, *, ours: bool) -> None:
    """By the bot or by its user, whichever Slack names; a bot without a name is nobody."""
    us = Identity(TeamId("T1"), UserId("U0BOT"), bot, "https://acme.slack.com/")
    assert us.wrote(message) is ours


# --- addresses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thread", "address"),
    [
        (None, "https://acme.slack.com/archives/C01/p1772442000000200"),
        (TS, "https://acme.slack.com/archives/C01/p1772442000000200"),
        (ROOT, f"https://acme.slack.com/archives/C01/p1772442000000200?thread_ts={ROOT}&cid=C01"),
    ],
)
def test_a_message_is_addressed_as_slack_does(thread: str | None, address: str) -> None:
    """A reply opens in its thread; a root is its own thread."""
    root = None if thread is None else MessageTs(thread)
    assert US.permalink(ChannelId("C01"), MessageTs(TS), root) == address


def test_the_messages_that_a_text_links() -> None:
    """By the permalinks of our own workspace, each once, in a thread or not."""
    first = US.permalink(ChannelId("C01"), MessageTs(TS))
    second = US.permalink(ChannelId("C02"), MessageTs(TS), MessageTs("1700000000.000001")).replace("&", "&amp;")
    elsewhere = "https://other.slack.com/archives/C01/p1700000000000001"
    assert US.linked(f"see <{first}|that>, <{second}>, <{first}> and <{elsewhere}>") == [
        Linked(first, ChannelId("C01"), MessageTs(TS), None),
        Linked(second, ChannelId("C02"), MessageTs(TS), MessageTs("1700000000.000001")),
    ]
