"""Words stay in the company: a channel that is shared with another one gets nothing more, from that moment on."""

import pytest

from bot.core import words
from bot.core.model import ChannelId
from bot.core.policy import Verdict
from bot.ops import doctor
from tests.conftest import Make, Story
from tests.stories.shared import direct, working

SHARED = words.refused(Verdict.SHARED)


async def test_a_run_says_nothing_where_another_company_reads_along(world: Story) -> None:
    """Neither edits nor answers; who asked hears them directly, and why."""
    await working(world)
    shown = world.cards()[0].text
    world.slack.share(world.place("#dev"))
    world.openhands.ask(world.conversation, "The token in config.py is wrong. May I rotate it?")
    await world.passes(60)
    assert [card.text for card in world.cards()] == [shown]
    assert world.news() == []
    [told] = direct(world)
    assert told.startswith(words.shared_meanwhile(ChannelId(world.place("#dev"))))
    assert "The token in config.py is wrong" in told
    world.posts("#news")
    world.logged("slack.refused")
    world.logged("card.gone")


async def test_the_team_hears_nothing_in_a_channel_that_is_shared(make_world: Make) -> None:
    """It is told at the start, by doctor, and for each line."""
    world = await make_world(start=False, notify_channel="#partners")
    world.channel("#partners", world.alice, ext_shared=True)
    await world.starts()
    world.logged("notify.channel_shared")
    await working(world)
    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(30)
    assert world.posts("#partners") == []
    assert world.card().state == "Done"
    found = [str(one) for one in await doctor.examine(world.settings(), world.clock)]
    assert any("NOTIFY_CHANNEL: it is shared with another company" in one for one in found)
    world.logged("slack.refused")
    world.news()


async def test_a_command_does_not_ride_on_what_was_known_before(world: Story) -> None:
    """Commands do not say whether their channel is shared: it is asked anew once Slack says that it changed."""
    await working(world)
    world.slack.share(world.place("#dev"))
    await world.bob.commands("fix LICENSE in org/repo", in_="#dev")
    await world.bob.clicks("stop", world.cards()[0])
    assert [said for said in world.bob.sees() if not said.startswith("On it.")] == [SHARED, SHARED]
    assert len(world.openhands.conversations) == 1


@pytest.mark.parametrize("code", ["access_denied", "team_access_not_granted"])
async def test_where_slack_does_not_say_with_whom_a_place_is_shared_nothing_is_done(world: Story, code: str) -> None:
    """Whatever its reason: only a place that is not there can't leak."""
    world.slack.fail("conversations.info", error=code, times=5)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    assert world.alice.sees()[-1] == words.cannot_tell_who()
    assert world.posts("#dev") == []
    assert len(world.openhands.conversations) == 0
    world.logged("request.refused")
