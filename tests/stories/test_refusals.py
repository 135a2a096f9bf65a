"""What is refused, and to whom it is said: guests, strangers, shared channels, bots, and empty words."""

import pytest

from bot.core import words
from bot.core.model import Unclear, UnclearReason
from bot.core.policy import Verdict
from tests.conftest import Story

GUEST = words.refused(Verdict.GUEST)
OUTSIDE = words.refused(Verdict.OUTSIDE)
SHARED = words.refused(Verdict.SHARED)
EMPTY = words.unclear(Unclear(UnclearReason.EMPTY))


@pytest.mark.parametrize("kind", ["restricted", "ultra_restricted"])
async def test_guests_are_refused_in_one_sentence_only_they_see(world: Story, kind: str) -> None:
    """Whatever way they ask; the channel sees nothing and nothing starts."""
    gast = world.person("gast", **{kind: True})
    world.slack.join(world.place("#dev"), gast.id)
    await gast.commands("fix README in org/repo", in_="#dev")
    asked = await gast.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)

    assert gast.sees()[1:] == [GUEST, GUEST]
    assert world.posts("#dev") == []
    assert world.reactions(asked) == []
    assert len(world.openhands.conversations) == 0


async def test_a_guests_reply_does_not_steer(world: Story) -> None:
    """They may read along in the thread; their words do not reach the agent, nor do their commands."""
    gast = world.person("gast", restricted=True)
    world.slack.join(world.place("#dev"), gast.id)
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    await gast.says("and the licence too", thread=asked)
    await gast.says("stop", thread=asked)
    await world.passes(4)

    assert gast.sees() == [GUEST, GUEST]
    assert world.conversation.messages == ["fix README"]
    assert world.card().state == "Working"
    assert world.alice.sees() == []


async def test_a_guest_may_talk_aside(world: Story) -> None:
    """What is not meant for the bot is not answered by it, whoever says it."""
    gast = world.person("gast", restricted=True)
    world.slack.join(world.place("#dev"), gast.id)
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    await gast.says("aside: nice!", thread=asked)
    await world.passes(4)

    assert gast.sees() == []
    world.leaves("#dev: card 🛠️ Working")


async def test_a_guests_answer_chooses_no_repository(world: Story) -> None:
    """The question stays open for those who may answer."""
    gast = world.person("gast", restricted=True)
    world.slack.join(world.place("#dev"), gast.id)
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await gast.says("org/repo", thread=asked)
    await world.passes(4)

    assert world.card().state == "Which repository?"
    assert len(world.openhands.conversations) == 0
    world.leaves("gast alone: Guests can't use OpenHands here")


async def test_people_from_outside_are_refused(world: Story) -> None:
    """Slack Connect brings people of other companies into our channels; they may not start runs."""
    visitor = world.person("visitor", stranger=True, team_id="T0OTHER")
    world.slack.join(world.place("#dev"), visitor.id)
    await visitor.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)

    assert visitor.sees() == [OUTSIDE]
    assert world.posts("#dev") == []
    assert len(world.openhands.conversations) == 0


async def test_in_channels_shared_with_another_company_nobody_starts_anything(world: Story) -> None:
    """Members neither: what the agent says would leave the company."""
    world.channel("#partners", world.alice, ext_shared=True)
    await world.alice.says("@OpenHands fix README in org/repo", in_="#partners")
    await world.alice.commands("fix README in org/repo", in_="#partners")
    await world.passes(4)

    assert [said for said in world.alice.sees() if not said.startswith("On it.")] == [SHARED, SHARED]
    assert world.posts("#partners") == []
    assert len(world.openhands.conversations) == 0


async def test_replies_stop_steering_once_a_channel_is_shared(world: Story) -> None:
    """Rules are asked anew for every reply, not remembered from the start of the run."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.slack._workspace.channel(world.place("#dev")).ext_shared = True
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(4)

    assert world.alice.sees() == [SHARED]
    assert world.conversation.messages == ["fix README"]
    world.leaves("#dev: card 🛠️ Working")


async def test_bots_are_not_answered(world: Story) -> None:
    """Answering them loops: no card, no word, no reaction, at the top level or in a run's thread."""
    robot = world.person("robot", bot=True)
    world.slack.join(world.place("#dev"), robot.id)
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    mention = await robot.says("@OpenHands fix LICENSE in org/repo", in_="#dev")
    reply = await robot.says("status", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README"]
    assert world.reactions(mention) == world.reactions(reply) == []
    assert world.news() == []
    assert robot.sees() == []
    world.leaves("#dev: card 🛠️ Working")


async def test_two_bots_that_talk_to_each_other_come_to_rest(world: Story) -> None:
    """A bot that answers whatever we post, by mentioning us, gets no answer and starts nothing."""
    robot = world.person("robot", bot=True)
    world.slack.join(world.place("#dev"), robot.id)
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, f"Done, <@{robot.id}>.")
    await world.passes(4)
    await robot.says("@OpenHands thanks! What next?", thread=asked)
    await robot.says("@OpenHands hello?", thread=asked)
    await world.passes(60)

    assert world.conversation.messages == ["fix README"]
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nDone, &lt;@{robot.id}&gt;."]
    assert all(robot.id not in one.mentions for one in world.posts("#dev"))


async def test_our_own_messages_are_no_requests(world: Story) -> None:
    """Slack sends us what we post: an answer that names us and says stop is still only an answer."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.ask(world.conversation, f"<@{world.slack.bot_user_id}> fix LICENSE in org/repo")
    await world.passes(60)

    assert world.conversation.messages == ["fix README"]
    assert len(world.cards()) == 1
    assert len(world.news()) == 1


@pytest.mark.parametrize("typed", ["", "   ", "🙂", "in org/repo", "<>", "@OpenHands"])
async def test_a_command_without_a_task_says_what_to_type(world: Story, typed: str) -> None:
    """Nothing to do is no task; one sentence, and no card."""
    asked = await world.alice.commands(world.slack.wire(typed), in_="#dev")
    await world.passes(4)

    assert asked.acked
    assert world.alice.sees() == [EMPTY]
    assert world.posts("#dev") == []
    assert len(world.openhands.conversations) == 0


async def test_a_bare_mention_says_what_to_type(world: Story) -> None:
    """People try the bot by calling its name."""
    await world.alice.says("@OpenHands", in_="#dev")
    await world.passes(4)

    assert world.alice.sees() == [EMPTY]
    assert world.posts("#dev") == []


async def test_an_option_that_cannot_be_read_starts_nothing(world: Story) -> None:
    """A guess would work on the wrong thing."""
    await world.alice.commands("[repo=org] fix README", in_="#dev")
    await world.passes(4)

    assert world.alice.sees() == [words.unclear(Unclear(UnclearReason.OPTION, "repo=org"))]
    assert world.posts("#dev") == []


async def test_while_slack_cannot_say_who_asked_the_request_waits(world: Story) -> None:
    """An outage of one call is no reason to refuse; unknown people are no reason to start."""
    world.slack.fail("users.info", status=500, times=3)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    assert world.posts("#dev") == []

    await world.passes(20)

    assert world.card().state == "Working"
    world.logged("request.waits")


async def test_who_cannot_be_known_for_ten_minutes_is_refused(world: Story) -> None:
    """The request ends in a sentence, never in silence."""
    world.slack.fail("users.info", status=500, times=1000)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(700)

    assert world.alice.sees()[1:] == [words.cannot_tell_who()]
    assert world.posts("#dev") == []
    assert len(world.openhands.conversations) == 0
    world.logged("request.refused")
    world.logged("request.waits")
