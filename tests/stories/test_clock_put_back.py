"""Somebody puts the machine's clock back by an hour: nothing comes an hour late."""

from datetime import timedelta

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
    world.leaves("#dev: card 🛠️ Working")
