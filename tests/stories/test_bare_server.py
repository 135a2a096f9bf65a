"""A second OpenHands, with the two calls of the published guide and nothing else: the bot lives with it."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from bot.core import words
from bot.core.errors import SettingsWrong
from bot.core.model import Reason
from bot.ops.doctor import examine
from bot.simulator.openhands.bare import BareOpenHands
from tests.conftest import Card, Make, Story
from tests.stories.shared import ONLY_THERE, SINCE, asked_by, why


@pytest.fixture
async def bare() -> AsyncIterator[BareOpenHands]:
    server = BareOpenHands()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def world(make_world: Make, bare: BareOpenHands) -> Story:
    """Make the usual world, but for its OpenHands: that is the bare one."""
    return await make_world(openhands_base_url=bare.base_url, notify_channel="#news")


@pytest.mark.parametrize("path", ["/conversations", "/api"])
async def test_an_address_with_a_path_too_much_is_told(make_world: Make, bare: BareOpenHands, path: str) -> None:
    """Copied from the browser: the operator reads it at the start and from doctor, people read no setting's name."""
    with capture_logs() as logs:
        world = await make_world(openhands_base_url=f"{bare.base_url}{path}")
    advice = f"OPENHANDS_BASE_URL is the server's address alone: leave out {path}"
    assert [one["help"] for one in logs if one["event"] == "openhands.not_there"] == [advice]
    assert [str(one) for one in await examine(world.settings(), world.clock) if "OpenHands: " in one.what] == [
        f"✗ OpenHands: no OpenHands at this address → {advice}"
    ]

    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    assert world.news() == [
        (
            f"<@{world.alice.id}> ❌ Failed\nNot started: this bot is pointed at something that isn't OpenHands. "
            "Please tell its operator. Press Retry to start over."
        )
    ]
    assert bare.runs == {}
    world.leaves("#dev: card ❌ Failed")
    world.logged("run.changed")


def page(bare: BareOpenHands) -> str:
    [run] = bare.runs.values()
    return f"{bare.base_url}/conversations/{run.id}"


async def test_a_run_is_started_linked_and_told_to_its_end(world: Story, bare: BareOpenHands) -> None:
    """The card says what this server can't tell, and where to look."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    [run] = bare.runs.values()
    assert (run.message, run.repository) == ("fix README", "org/repo")
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE} · {ONLY_THERE}",))
    [button] = [block for block in world.cards()[0].blocks if block["type"] == "actions"]
    assert button["elements"][0]["url"] == page(bare)

    bare.stop_run(run.id)
    await world.passes(10)
    assert world.card() == Card("Done", "fix README", (ONLY_THERE, f"{asked_by(world)} · took 8 s"))
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\n{ONLY_THERE}"]
    [line] = world.news("#news")
    assert line.startswith(f"✅ Done: fix README · `org/repo` · for <@{world.alice.id}> · 8 s · <https://")
    assert len(bare.runs) == 1


async def test_a_run_is_followed_across_a_restart(world: Story, bare: BareOpenHands) -> None:
    """The server's id is in the database: no second conversation."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    await world.stops()
    [run] = bare.runs.values()
    bare.stop_run(run.id)
    await world.starts()
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\n{ONLY_THERE}"]
    assert len(bare.runs) == 1
    world.leaves("#dev: card ✅ Done")


async def test_a_reply_is_declined_in_words(world: Story, bare: BareOpenHands) -> None:
    """There is no call for it; the author is told where to write."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    await world.bob.says("and the docs", thread=world.cards()[0])
    await world.passes(6)

    assert world.news() == [f"<@{world.bob.id}> {words.follow_up_unsupported(page(bare))}"]
    world.leaves("#dev: x on a message")


async def test_a_stop_is_declined_in_words(world: Story, bare: BareOpenHands) -> None:
    """There is no call for that either, and the card goes on to say that it works."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    await world.alice.says("stop", thread=world.cards()[0])
    await world.passes(6)

    assert world.news() == [f"<@{world.alice.id}> {words.cannot_stop(page(bare))}"]
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE} · {ONLY_THERE}",))


async def test_a_wrong_key_ends_the_start(make_world: Make, bare: BareOpenHands) -> None:
    """This server has no list the key could be tried on, but it looks a conversation up."""
    world = await make_world(start=False, openhands_base_url=bare.base_url, openhands_api_key="wrong")
    with pytest.raises(SettingsWrong, match="OPENHANDS_API_KEY is refused by OpenHands"):
        await world.starts()
    world._bot = None


async def test_a_conversation_it_forgets_is_lost(world: Story, bare: BareOpenHands) -> None:
    """200 with null is all it says of one it does not know."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    bare.runs.clear()
    await world.passes(330)

    gone = why(Reason.GONE)
    assert world.card().lines[0] == gone
    assert world.news() == [f"<@{world.alice.id}> ⚠️ Lost\n{gone}"]


async def test_several_runs_are_told_apart(world: Story, bare: BareOpenHands) -> None:
    """One call each: the end of one is not the end of the other."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.bob.commands("update the docs in org/docs", in_="#dev")
    await world.passes(6)
    [docs] = [run for run in bare.runs.values() if run.repository == "org/docs"]
    bare.stop_run(docs.id)
    await world.passes(10)

    assert [card.text.split("\n")[:2] for card in world.cards()] == [
        ["*🛠️ Working*", "fix README"],
        ["*✅ Done*", "update the docs"],
    ]
    assert world.news() == [f"<@{world.bob.id}> ✅ Done\n{ONLY_THERE}"]
