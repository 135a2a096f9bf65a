"""The machine's clock is put back, or wrong by an hour: nothing comes late, or twice, or is missed."""

from datetime import timedelta

import pytest

from tests.conftest import Story
from tests.stories.shared import working

HOUR = timedelta(hours=1)


async def test_an_end_and_a_new_request_do_not_wait_for_the_hour_to_come_back(world: Story) -> None:
    """What is due was written down before, and goes on; one line of the log says what happened."""
    await working(world)
    world.clock.skew = -HOUR
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(35)
    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]

    await world.alice.commands("fix docs in org/repo", in_="#dev")
    await world.passes(10)
    assert [card.text.split("\n")[0] for card in world.cards()][1:] == ["*🛠️ Working*"]
    [said] = world.logged("clock.went_back")
    assert said["by_s"] > 3500
    world.logged("clock.wrong")


async def test_a_clock_put_back_between_two_starts_holds_nothing_up(world: Story) -> None:
    """The tables hold times that lie ahead: the bot sees it by the last of its own marks."""
    card = await working(world)
    await world.passes(40)
    await world.stops()
    world.clock.skew = -HOUR
    world.openhands.ask(world.conversation, "Which licence?")
    await world.starts()
    await world.passes(35)
    assert world.card().state == "Has a question"
    await world.alice.says("MIT", thread=card)
    await world.passes(10)
    assert world.conversation.messages == ["fix README", "MIT"]
    assert len(world.news()) == 1
    world.logged("clock.went_back")
    world.logged("clock.wrong")
    world.leaves("#dev: card 🛠️ Working")


@pytest.mark.parametrize("wrong", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_lost_answer_is_looked_up_though_the_clock_is_wrong(world: Story, wrong: timedelta) -> None:
    """Slack keeps its own time: the end and the team's line are found where they are, and not told again."""
    world.clock.skew = wrong
    await working(world)
    world.slack.fail("chat.postMessage", after=True, times=2)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(35)
    assert world.card().state == "Done"
    assert len(world.news()) == len(world.news("#news")) == 1
    assert [line["ahead_s"] for line in world.logged("clock.wrong")] == [wrong.total_seconds()]
    world.lines.claim("clock.went_back")  # it was, where it is behind


async def test_a_gap_is_read_back_though_the_clock_is_ahead(world: Story) -> None:
    """What was said in it is older than the bot's own time of it, by as much as the clock is wrong."""
    card = await working(world)
    world.clock.skew = HOUR / 2
    await world.passes(40)
    world.slack.dropping = True
    await world.alice.says("and the docs", thread=card)
    await world.passes(5)
    world.slack.dropping = False
    world.slack.cut_socket()
    await world.passes(60)
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.logged("clock.wrong")
    world.logged("slack.disconnected")
    world.leaves("#dev: card 🛠️ Working")
