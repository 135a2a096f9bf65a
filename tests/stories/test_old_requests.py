"""What was asked long before the bot could read it is asked about, not done."""

from datetime import timedelta

from bot.core import words
from bot.core.model import RunState
from bot.simulator.slack.records import Message
from bot.simulator.world import Said
from tests.conftest import START, Make, Story
from tests.core.runs import a_run
from tests.stories.shared import labels, quick_to_doubt, working

STILL = words.explanation(a_run(RunState.NEEDS_GO, asked_at=START))


async def asked_while_away(world: Story, minutes: float = 120) -> Said:
    """Have alice ask while the bot does not run, and start it so much later."""
    await world.stops()
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await comes_back(world, minutes)
    return asked


async def comes_back(world: Story, minutes: float) -> None:
    """Start the bot so much later, and let it read back what it missed."""
    world.clock.move(world.clock.now() + timedelta(minutes=minutes))
    await world.slack.tick()
    await world.starts()
    await world.passes(12)


async def replied_while_away(world: Story, *words: str) -> Message:
    """Have a run at work, and replies in its thread which the bot reads two hours later; return the card."""
    card = await working(world)
    await world.stops()
    for one in words:
        await world.alice.says(one, thread=card)
    await comes_back(world, 120)
    return world.cards()[0]


async def test_an_old_request_is_asked_about_and_not_started(world: Story) -> None:
    """Two hours on somebody may have done it already."""
    world.slack.forgetful = True
    await asked_while_away(world)

    [card] = world.cards()
    assert (world.card().state, world.card().lines[0]) == ("Still wanted?", STILL)
    assert labels(card) == ["Start", "Cancel"]
    assert world.openhands.conversations == {}


async def test_a_command_that_was_taken_just_before_a_long_stop_is_asked_about(world: Story) -> None:
    """Slack never brings a command late, but the bot may read what it took long after."""
    world.slack.fail("users.info", status=500)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.stops()
    await comes_back(world, 120)

    assert (world.card().state, world.card().lines[0]) == ("Still wanted?", STILL)
    assert world.openhands.conversations == {}
    world.logged("request.waits")


async def test_a_request_of_less_than_an_hour_starts(world: Story) -> None:
    """A short absence costs nobody anything."""
    world.slack.forgetful = True
    await asked_while_away(world, minutes=50)
    assert world.card().state == "Working"


async def test_what_is_still_wanted_starts_once(world: Story) -> None:
    """Whoever presses first starts it; the second is told."""
    world.slack.forgetful = True
    await asked_while_away(world)
    [card] = world.cards()
    for person in (world.bob, world.alice):
        await world.slack.click(person.id, card.channel, card.ts, "go")
    await world.settles()
    await world.passes(6)

    assert world.conversation.messages == ["fix README"]
    assert world.card().state == "Working"
    [told] = world.alice.sees()
    assert told.startswith(f"<@{world.bob.id}> has already started it;")


async def test_the_word_for_it_starts_it_too(world: Story) -> None:
    """`start` alone, in the thread of the question."""
    world.slack.forgetful = True
    asked = await asked_while_away(world)
    await world.alice.says("start", thread=asked)
    await world.passes(8)
    assert world.card().state == "Working"


async def test_what_is_not_wanted_any_more_is_cancelled(world: Story) -> None:
    """Nothing was started, and nothing will be."""
    world.slack.forgetful = True
    await asked_while_away(world)
    await world.bob.clicks("cancel", world.cards()[0])
    await world.passes(6)
    assert world.card().state == "Cancelled"
    assert world.openhands.conversations == {}


async def test_old_replies_are_asked_about_together(world: Story) -> None:
    """The agent has worked on for two hours: what was meant then may not fit now. One question, one answer for all."""
    world.slack.forgetful = True
    card = await replied_while_away(world, "and the docs", "in French")
    assert world.conversation.messages == ["fix README"]
    assert labels(card) == ["Open in OpenHands", "Stop", "Send again", "Leave it"]
    assert world.news() == [words.follow_up_old("and the docs")]

    await world.bob.clicks("again", card)
    await world.passes(10)
    assert world.conversation.messages == ["fix README", "and the docs", "in French"]
    assert labels(world.cards()[0]) == ["Open in OpenHands", "Stop"]


async def test_old_replies_that_are_left_do_not_go_out(world: Story) -> None:
    """Later ones do."""
    world.slack.forgetful = True
    card = await replied_while_away(world, "and the docs")
    await world.alice.says("and the licence", thread=card)
    await world.passes(4)
    assert world.conversation.messages == ["fix README"]

    await world.alice.says("leave it", thread=card)
    await world.passes(10)
    assert world.conversation.messages == ["fix README", "and the licence"]
    world.leaves("#dev: All right", "#dev: “and the docs” was written more than an hour ago", "#dev: card 🛠️ Working")


async def test_an_old_reply_behind_one_in_doubt_is_asked_about_after_it(make_world: Make) -> None:
    """One question at a time, and none is forgotten once the first has answered itself."""
    world = await quick_to_doubt(make_world)
    world.slack.forgetful = True
    card = await working(world)
    world.openhands.break_next("send", status=502, after=True)
    await world.alice.says("and the docs", thread=card)
    world.openhands.break_next("agent_events", status=500, times=1_000)
    world.openhands.break_next("events", status=500, times=1_000)
    await world.passes(100)
    assert labels(world.cards()[0])[-2:] == ["Send again", "Leave it"]
    await world.stops()
    await world.alice.says("in French", thread=card)
    await comes_back(world, 120)
    assert len(world.news()) == 1

    world.openhands._faults.clear()
    await world.passes(80)
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert world.news()[1:] == [f"<@{world.alice.id}> {words.follow_up_old('in French')}"]
    assert labels(world.cards()[0])[-2:] == ["Send again", "Leave it"]
    await world.alice.clicks("again", world.cards()[0])
    await world.passes(10)
    assert world.conversation.messages == ["fix README", "and the docs", "in French"]
    world.leaves("#dev: card 🛠️ Working")
