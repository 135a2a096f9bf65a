"""An app that was installed before a scope was asked for: the bot works, and says what does not."""

import json

import aiohttp
from structlog.testing import capture_logs

from bot.core import words
from bot.slack.scopes import REINSTALL, SCOPES, WITHOUT
from tests.conftest import Make
from tests.stories.test_operations import free_port


async def test_a_missing_scope_is_told_at_the_start_and_to_probes(make_world: Make) -> None:
    """One line, with what does not work; the bot is ready, since everything else does."""
    world = await make_world(start=False, http_port=free_port())
    world.slack.granted_scopes = SCOPES - {"reactions:write"}
    with capture_logs() as logs:
        await world.starts()
    [told] = [line for line in logs if line["event"] == "slack.scopes_missing"]
    url = f"http://127.0.0.1:{world.given['http_port']}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        status, body = answer.status, json.loads(await answer.text())
    without = {"reactions:write": WITHOUT["reactions:write"]}
    assert (told["without"], told["help"]) == (without, REINSTALL)
    assert (status, body["ready"], body["without"]) == (200, True, without)


async def test_without_reactions_a_run_goes_its_way(make_world: Make) -> None:
    """Nobody waits for a reaction, and none is tried again."""
    world = await make_world(start=False)
    world.slack.granted_scopes = SCOPES - {"reactions:write"}
    await world.starts()
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(60)
    assert (world.card().state, world.reactions(asked)) == ("Working", [])
    assert len([call for call in world.slack.calls if call.method == "reactions.add"]) == 1
    world.logged("slack.scopes_missing")


async def test_without_knowing_people_nobody_is_let_in(make_world: Make) -> None:
    """A guest can't be told from a member: the request is refused at once, with who can change it."""
    world = await make_world(start=False)
    world.slack.granted_scopes = SCOPES - {"users:read"}
    await world.starts()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.settles()
    assert world.alice.sees()[-1] == words.not_permitted("users:read")
    assert world.openhands.conversations == {}
    world.logged("slack.scopes_missing")
    world.logged("request.refused")


async def test_without_knowing_a_place_nobody_is_let_in(make_world: Make) -> None:
    """The channel may be shared with another company."""
    world = await make_world(start=False)
    world.slack.granted_scopes = SCOPES - {"channels:read"}
    await world.starts()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.settles()
    assert world.alice.sees()[-1].startswith("This app lacks a permission in Slack (`channels:read")
    assert world.openhands.conversations == {}
    world.logged("slack.scopes_missing")
    world.logged("request.refused")


async def test_a_thread_that_can_not_be_read_is_said(make_world: Make) -> None:
    """The run starts with the message alone, and its author knows."""
    world = await make_world()
    root = await world.alice.says("the build fails with exit code 3", in_="#dev")
    world.slack.fail("conversations.replies", error="missing_scope")
    await world.alice.says("@OpenHands fix that in org/repo", in_="#dev", thread=root)
    await world.passes(10)
    assert words.thread_unread() in world.alice.sees()
    assert "exit code 3" not in world.conversation.messages[0]
    world.leaves("#dev: card 🛠️ Working")
    world.logged("context.unreadable")
