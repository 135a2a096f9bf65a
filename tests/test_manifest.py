"""`manifest.yml` asks for exactly what the code uses."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bot.core import words
from bot.core.model import ChannelId, PlaceGone, TeamId, UserId
from bot.core.vocabulary import USAGE_HINT
from bot.slack import gateway
from bot.slack.recognise import Identity, place_changed, place_gone, recognise
from bot.slack.scopes import SCOPES

ROOT = Path(__file__).parents[1]
MANIFEST: dict[str, Any] = yaml.safe_load((ROOT / "manifest.yml").read_text(encoding="utf-8"))
US = Identity(TeamId("T1"), UserId("UBOT"), "B1", "https://team.slack.com/")

METHOD = re.compile(r"[a-z]+(\.[a-zA-Z]+)+")
EVERYWHERE = {"channels", "groups", "im", "mpim"}
"""Requests come from public and private channels, direct and group direct messages, so each read needs all four."""

SCOPES_OF_METHODS = {
    "apps.connections.open": set(),  # the app-level token's own scope, which no manifest grants
    "auth.test": set(),
    "chat.postEphemeral": {"chat:write"},
    "chat.postMessage": {"chat:write"},
    "chat.update": {"chat:write"},
    "conversations.history": {f"{kind}:history" for kind in EVERYWHERE},
    "conversations.info": {f"{kind}:read" for kind in EVERYWHERE},
    "conversations.list": {"channels:read", "groups:read"},  # public and private channels, looked up by name
    "conversations.open": {"im:write"},  # with one person
    "conversations.replies": {f"{kind}:history" for kind in EVERYWHERE},
    "files.info": {"files:read"},
    "reactions.add": {"reactions:write"},
    "users.conversations": {f"{kind}:read" for kind in EVERYWHERE},
    "usergroups.users.list": {"usergroups:read"},
    "users.info": {"users:read"},
    "users.list": {"users:read"},
}
SCOPES_OF_EVENTS = {
    "app_mention": {"app_mentions:read"},
    "channel_archive": {"channels:read"},
    "channel_shared": {"channels:read"},
    "channel_unshared": {"channels:read"},
    "group_archive": {"groups:read"},
    "member_left_channel": {"channels:read", "groups:read"},
    "message.channels": {"channels:history"},
    "message.groups": {"groups:history"},
    "message.im": {"im:history"},
    "message.mpim": {"mpim:history"},
}
SCOPES_OF_COMMANDS = {"commands"}

SHARING = {"channel_shared", "channel_unshared"}
"""Events that say with whom a place is shared by now."""
PLACES = {"channel_archive", "group_archive", "member_left_channel"}
"""Events that are not requests, but say that the bot can't write somewhere any more."""

CHANNEL_TYPES = {"message.channels": "channel", "message.groups": "group", "message.im": "im", "message.mpim": "mpim"}
OTHER_EVENTS = (
    "app_home_opened",
    "app_uninstalled",
    "channel_id_changed",
    "file_shared",
    "link_shared",
    "member_joined_channel",
    "reaction_added",
    "reaction_removed",
    "team_join",
    "tokens_revoked",
    "user_change",
)


def methods_used() -> set[str]:
    """Return the Web API methods the gateway calls: each call's first argument that looks like one, except in logs."""
    source = Path(gateway.__file__).read_text(encoding="utf-8")
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args)
    firsts = (call.args[0] for call in calls if not ast.unparse(call.func).startswith("log."))
    names = (first.value for first in firsts if isinstance(first, ast.Constant) and isinstance(first.value, str))
    return {name for name in names if METHOD.fullmatch(name)}


def sdk_methods_used() -> set[str]:
    """Return the methods of the SDK's client that the gateway calls."""
    source = Path(gateway.__file__).read_text(encoding="utf-8")
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self.client" and node.attr != "proxy"
    }


def envelope(event: str) -> dict[str, Any]:
    """Return what Slack sends for a subscribed event caused by a person who mentions us."""
    inner = {
        "type": event.partition(".")[0],
        "user": "UALICE",
        "channel": "C0DEV",
        "ts": "1.000001",
        "text": "<@UBOT> hi",
    }
    if event in CHANNEL_TYPES:
        inner["channel_type"] = CHANNEL_TYPES[event]
    return {"type": "event_callback", "event": inner}


def asked() -> set[str]:
    scopes: list[str] = MANIFEST["oauth_config"]["scopes"]["bot"]
    return set(scopes)


def subscribed() -> set[str]:
    events: list[str] = MANIFEST["settings"]["event_subscriptions"]["bot_events"]
    return set(events)


def test_the_manifest_is_one_slack_takes() -> None:
    """The manifest is valid against Slack's own schema."""
    schema = json.loads((ROOT / "tests/schemas/manifest.schema.2.0.0.json").read_text(encoding="utf-8"))
    problems = [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(MANIFEST)]
    assert problems == []


def test_each_method_is_called_by_the_name_it_is_counted_under() -> None:
    """The method names in the budget and in the tables of this file match the calls themselves."""
    assert {name.replace(".", "_") for name in methods_used()} == sdk_methods_used()


def test_every_method_and_event_has_its_scopes_written_down() -> None:
    """A new call or event needs a line in the tables of this file."""
    assert (methods_used(), subscribed()) == (set(SCOPES_OF_METHODS), set(SCOPES_OF_EVENTS))


def test_the_manifest_asks_for_the_scopes_the_code_needs_and_for_no_other() -> None:
    """Methods, events and the command together need exactly the scopes asked for."""
    needed = set.union(*SCOPES_OF_METHODS.values(), *SCOPES_OF_EVENTS.values(), SCOPES_OF_COMMANDS)
    assert asked() == needed


def test_the_scopes_checked_at_start_are_those_of_the_manifest() -> None:
    """A token of an app made from this manifest passes the check at start."""
    assert asked() == SCOPES


@pytest.mark.parametrize("event", sorted(SCOPES_OF_EVENTS.keys() - PLACES - SHARING))
def test_each_subscribed_request_is_read(event: str) -> None:
    """Every subscribed event has a handler."""
    incoming = recognise(envelope(event), US)
    assert incoming is not None
    assert (incoming.key, incoming.direct) == ("msg:T1:C0DEV:1.000001", event == "message.im")


@pytest.mark.parametrize("event", sorted(PLACES))
def test_each_subscribed_loss_of_a_place_is_read(event: str) -> None:
    """The bot left the place, or it was archived."""
    told = {"type": "event_callback", "event": {"type": event, "user": "UBOT", "channel": "C0DEV"}}
    assert (recognise(told, US), place_gone(told, US)) == (None, PlaceGone(ChannelId("C0DEV")))


@pytest.mark.parametrize("event", sorted(SHARING))
def test_each_subscribed_change_of_a_place_is_read(event: str) -> None:
    """What was known of it is asked anew."""
    told = {"type": "event_callback", "event": {"type": event, "channel": "C0DEV", "connected_team_id": "T2"}}
    assert (recognise(told, US), place_changed(told)) == (None, "C0DEV")


@pytest.mark.parametrize("event", OTHER_EVENTS)
def test_an_event_that_is_not_subscribed_has_no_reader(event: str) -> None:
    """Only subscribed events have a handler: any other handler would wait for ever."""
    assert (recognise(envelope(event), US), place_gone(envelope(event), US), place_changed(envelope(event))) == (
        None,
    ) * 3


def test_the_command_is_the_one_people_are_told() -> None:
    """Mentions in it arrive as ids, and the help text names the command."""
    [command] = MANIFEST["features"]["slash_commands"]
    assert (command["command"], command["should_escape"]) == ("/openhands", True)
    assert "`/openhands " in words.help_text()


def test_slack_hints_at_the_words_that_are_declared() -> None:
    """The hint is shown while somebody types the command."""
    [command] = MANIFEST["features"]["slash_commands"]
    assert command["usage_hint"] == USAGE_HINT


def test_clicks_on_the_link_button_reach_us_over_the_socket() -> None:
    """Slack warns people who click a button of an app without interactivity. The socket needs no address of ours."""
    settings = MANIFEST["settings"]
    assert settings["interactivity"] == {"is_enabled": True}
    assert settings["socket_mode_enabled"] is True
