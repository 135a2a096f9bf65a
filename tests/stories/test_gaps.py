"""The bot was deaf for a while: what people said meanwhile is acted on, once, whether or not Slack repeats it."""

from dataclasses import replace
from datetime import timedelta

import aiohttp
import pytest

from bot.core import words
from tests.conftest import HURRY, Make, Story, until
from tests.stories.shared import said_by, working

forgetful = pytest.mark.parametrize("forgetful", [True, False], ids=["gone for good", "sent again"])
"""Reports disagree on what Slack does with an event that found no connection."""


async def say(world: Story, text: str, *, in_: str = "#dev", thread: str | None = None) -> str:
    """Have alice say something this very moment: nothing else happens in between."""
    channel = world.slack.dm(world.alice.id) if in_ == "dm" else world.place(in_)
    return await world.slack.say(world.alice.id, channel, world.slack.wire(text), thread_ts=thread)


async def repeated(world: Story) -> None:
    """Let the bot come back, and Slack send again what it sends again: at once, a minute and five minutes later."""
    await world.passes(8)
    for minutes in (1, 5):
        await world._moves(world.clock.now() + timedelta(minutes=minutes))
        await world.passes(2)
    await world.passes(4)


def tasks(world: Story) -> list[list[str]]:
    """Return what each conversation was told."""
    return [one.messages for one in world.openhands.conversations.values()]


# --- what was said -----------------------------------------------------------------------------------------------


@forgetful
async def test_a_reply_written_while_the_line_was_cut_reaches_the_agent(world: Story, forgetful: bool) -> None:  # noqa: FBT001 - given by pytest
    """It is read back from the thread of a live run; sent again as well, it is the same reply."""
    card = await working(world)
    world.slack.forgetful = forgetful
    world.slack.cut_socket()
    await say(world, "and the docs", thread=card.ts)
    await repeated(world)

    assert world.conversation.messages == ["fix README", "and the docs"]
    world.logged("slack.disconnected")


@forgetful
async def test_a_mention_written_while_the_line_was_cut_starts_one_run(world: Story, forgetful: bool) -> None:  # noqa: FBT001 - as above
    """Its two events and the message itself have one key."""
    await world.passes(1)
    world.slack.forgetful = forgetful
    world.slack.cut_socket()
    await say(world, "@OpenHands fix README in org/repo")
    await repeated(world)

    assert tasks(world) == [["fix README"]]
    assert len(world.cards()) == 1
    world.logged("slack.disconnected")


@forgetful
async def test_a_direct_message_written_while_the_line_was_cut_starts_one_run(world: Story, forgetful: bool) -> None:  # noqa: FBT001 - as above
    """Even the first one of somebody: Slack lists the talk."""
    await world.passes(1)
    world.slack.forgetful = forgetful
    world.slack.cut_socket()
    await say(world, "fix README in org/repo", in_="dm")
    await repeated(world)

    assert tasks(world) == [["fix README"]]
    world.leaves("dm: card 🛠️ Working")
    world.logged("slack.disconnected")


async def test_a_mention_in_a_thread_of_people_is_found_by_its_root(world: Story) -> None:
    """The channel shows which threads were replied to; what was said there before goes along."""
    root = await world.bob.says("the links in the README are dead")
    await world._moves(world.clock.now() + timedelta(hours=1))
    world.slack.forgetful = True
    world.slack.cut_socket()
    await say(world, "@OpenHands fix that in org/repo", thread=root.ts)
    await world.passes(10)

    assert tasks(world) == [[f"fix that\n\n{words.CAME_UP}\n{said_by(world.bob, 'the links in the README are dead')}"]]
    world.leaves("#dev: card 🛠️ Working")
    world.logged("slack.disconnected")


async def test_a_reply_to_a_run_that_has_ended_wakes_it(world: Story) -> None:
    """People often look at the result while nobody listens."""
    card = await working(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    world.slack.forgetful = True
    world.slack.cut_socket()
    await say(world, "and the docs", thread=card.ts)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", "and the docs"]
    world.leaves("#dev: card 🛠️ Working", "#dev: ✅ Done")
    world.logged("slack.disconnected")


async def test_several_replies_keep_their_order(world: Story) -> None:
    """One heard, two missed, one heard again."""
    card = await working(world)
    await world.alice.says("first", thread=card)
    world.slack.forgetful = True
    world.slack.cut_socket()
    await say(world, "second", thread=card.ts)
    await say(world, "third", thread=card.ts)
    await world.passes(4)
    await world.alice.says("fourth", thread=card)
    await world.passes(8)

    assert world.conversation.messages == ["fix README", "first", "second", "third", "fourth"]
    world.logged("slack.disconnected")


# --- what was not ------------------------------------------------------------------------------------------------


async def test_a_later_reply_does_not_go_before_one_that_was_missed(world: Story) -> None:
    """It waits until its thread is read back, though it came at once."""
    card = await working(world)
    world.slack.forgetful = True
    world.slack.cut_socket()
    await say(world, "first", thread=card.ts)
    await until(lambda: world.slack.sockets == 1)
    await say(world, "second", thread=card.ts)
    await world.passes(12)

    assert world.conversation.messages == ["fix README", "first", "second"]
    world.logged("slack.disconnected")


async def test_what_was_handled_before_the_gap_is_not_done_again(world: Story) -> None:
    """Reading goes back a little further than the gap, and finds old requests with their keys."""
    card = await working(world)
    await world.alice.says("and the docs", thread=card)
    await world.alice.says("@OpenHands help")
    await world.passes(10)
    kept, sees = world.kept(), world.alice.sees()
    world.slack.cut_socket()
    await world.passes(8)

    assert (world.kept(), world.alice.sees()) == (kept, sees)
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.logged("slack.disconnected")


async def test_talk_between_people_is_read_and_not_kept(world: Story) -> None:
    """As ever: what is not for the bot is never written down."""
    root = await world.bob.says("anyone for lunch?")
    world.slack.cut_socket()
    world.slack.forgetful = True
    await say(world, "me", thread=root.ts)
    await say(world, "and the docs are outdated")
    await world.passes(10)

    assert world.kept() == []
    world.logged("slack.disconnected")


async def test_a_command_typed_while_nobody_listens_is_told_as_failed_by_slack_and_not_done_later(world: Story) -> None:
    """Slack keeps no commands: the person is told at once, and asks again."""
    await world.passes(1)
    world.slack.cut_socket()
    asked = await world.slack.command(world.alice.id, world.place("#dev"), "fix README in org/repo")
    await repeated(world)

    assert asked.failed
    assert tasks(world) == []
    world.logged("slack.disconnected")


# --- other gaps --------------------------------------------------------------------------------------------------


async def test_what_was_said_while_the_bot_was_stopped_is_acted_on_at_the_next_start(world: Story) -> None:
    """A reply, a mention and a direct message, of some minutes; not what was said before the first start."""
    card = await working(world)
    await world.stops()
    world.slack.forgetful = True
    world.clock.move(world.clock.now() + timedelta(minutes=10))
    await say(world, "and the docs", thread=card.ts)
    await say(world, "@OpenHands fix the tests in org/repo")
    await say(world, "fix the build in org/repo", in_="dm")
    world.clock.move(world.clock.now() + timedelta(minutes=10))
    await world.starts()
    await world.passes(10)

    assert tasks(world) == [["fix README", "and the docs"], ["fix the tests"], ["fix the build"]]
    world.leaves("#dev: card 🛠️ Working", "#dev: card 🛠️ Working", "dm: card 🛠️ Working")


async def test_before_its_first_start_nothing_is_for_the_bot(make_world: Make) -> None:
    """Invited long before it runs, it does not begin with old work."""
    world = await make_world(start=False)
    world.slack.forgetful = True
    await say(world, "@OpenHands fix README in org/repo")
    world.clock.move(world.clock.now() + timedelta(minutes=10))
    await world.starts()
    await world.passes(10)

    assert world.kept() == []


async def test_what_went_into_a_dead_connection_is_read_back(make_world: Make) -> None:
    """It looks open on both sides; the bot finds out by its pings."""
    world = await make_world(start=False)
    world.patience = replace(HURRY, ping_s=0.1)
    await world.starts()
    card = await working(world)
    world.slack.forgetful = True
    await world.slack.half_open()
    await say(world, "and the docs", thread=card.ts)
    await until(lambda: world.slack.sockets == 1 and world.slack.idle)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", "and the docs"]
    world.logged("slack.disconnected")


async def test_news_does_not_wait_for_a_long_reading(make_world: Make) -> None:
    """Reading back waits for its own pace, cards and ends do not."""
    world = await make_world(start=False)
    world.patience = replace(HURRY, heard_pace=1)
    await world.starts()
    for number in range(3):
        await world.alice.commands(f"fix part {number} in org/repo", in_="#dev")
        await world.passes(4)
    world.slack.cut_socket()
    await world.passes(5)
    conversation = next(iter(world.openhands.conversations.values()))
    world.openhands.finish(conversation, "Fixed two links.")
    await world.passes(4)
    read = [call.method for call in world.slack.calls].count("conversations.replies")

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert read == 1
    world.leaves("#dev: card ✅ Done", "#dev: card 🛠️ Working", "#dev: card 🛠️ Working")
    world.logged("slack.disconnected")


# --- what waits while it is read ---------------------------------------------------------------------------------


async def slow(make_world: Make) -> Story:
    """Return a world that reads one page a minute, and holds replies for long."""
    world = await make_world(start=False)
    world.patience = replace(HURRY, heard_pace=1)
    await world.starts()
    return world


async def asked(world: Story, number: int) -> str:
    """Have a run asked for by a mention; return its thread."""
    said = await world.alice.says(f"@OpenHands fix part {number} in org/repo")
    await world.passes(4)
    return said.ts


@pytest.mark.parametrize("how", ["click", "word"])
async def test_stop_waits_for_no_reading(make_world: Make, how: str) -> None:
    """A restart, and Slack lets nobody read for long: clicks and `stop` are done all the same."""
    world = await slow(make_world)
    for number in range(4):
        await asked(world, number)
    card = world.cards()[0]
    world.slack.fail("conversations.replies", status=500, times=100)
    await world.restarts()
    await world.passes(4)
    if how == "click":
        await world.alice.clicks("stop", card)
    else:
        await world.alice.says("stop", thread=card)
    await world.passes(4)

    assert world.openhands.find("fix part 0").state == "paused"
    await world.passes(60)
    world.leaves("#dev: card ⏹️ Stopped", "#dev: ⏹️ Stopped")


async def test_a_reply_waits_only_until_its_own_thread_is_read(make_world: Make) -> None:
    """That is read next, whatever the pace."""
    world = await slow(make_world)
    threads = [await asked(world, number) for number in range(4)]
    await world.stops()
    world.slack.forgetful = True
    await say(world, "first", thread=threads[0])
    await world.starts()
    await world.passes(4)
    await say(world, "second", thread=threads[0])
    await world.passes(8)

    assert world.openhands.find("fix part 0").messages == ["fix part 0", "first", "second"]
    world.leaves(*["#dev: card 🛠️ Working"] * 4)


async def test_a_held_reply_does_not_hold_a_whole_direct_conversation(make_world: Make) -> None:
    """Only its own thread waits."""
    world = await slow(make_world)
    root = await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    world.slack.fail("conversations.replies", status=500, times=100)
    await world.restarts()
    await world.passes(4)
    await world.alice.says("and the docs", thread=root)
    await world.alice.says("fix LICENSE in org/other", in_="dm")
    await world.passes(6)

    assert tasks(world) == [["fix README"], ["fix LICENSE"]]
    await world.passes(310)
    assert tasks(world) == [["fix README", "and the docs"], ["fix LICENSE"]]
    world.leaves("dm: card 🛠️ Working", "dm: card 🛠️ Working")


async def test_what_was_written_before_a_stop_and_read_after_it_is_asked_about(make_world: Make) -> None:
    """Sent, it would wake the agent that somebody stopped."""
    world = await slow(make_world)
    await asked(world, 0)
    world.slack.fail("conversations.replies", status=500, times=8)
    await world.restarts()
    await world.passes(4)
    await world.alice.says("and the docs", thread=world.cards()[0])
    await world.passes(2)
    await world.alice.clicks("stop", world.cards()[0])
    await world.passes(10)
    assert world.card().state == "Stopped"
    await world.passes(310)

    assert world.conversation.messages == ["fix part 0"]
    assert world.news()[-1] == words.follow_up_overtaken("and the docs")
    await world.bob.says("again", thread=world.cards()[0])
    await world.passes(6)
    assert world.conversation.messages == ["fix part 0", "and the docs"]
    world.leaves("#dev: card 🛠️ Working")


async def test_what_slack_says_it_dropped_is_read_back(world: Story) -> None:
    """A workspace with more events than Slack delivers in an hour: what was for us arrives all the same, once."""
    card = await working(world)
    world.slack.dropping = True
    await say(world, "and the docs", thread=card.ts)
    await world.passes(5)
    world.slack.dropping = False
    world.slack.say_dropped()
    await world.passes(30)
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.logged("slack.events_dropped")


async def test_a_reply_while_its_mention_is_read_back_is_heard(world: Story) -> None:
    """It came after Slack had looked, and before the mention was there: then it was nobody's, and is read as well."""
    world.slack.dropping = True
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(5)
    world.slack.dropping = False

    async def meanwhile(phase: str, method: str, _args: object) -> None:
        if (phase, method) == ("after", "conversations.history"):
            world.slack.on_call = None
            await world.slack.say(world.alice.id, asked.channel, "and the docs", thread_ts=asked.ts)
            await until(lambda: world.slack.deliveries[-1].acked_at is not None)

    world.slack.on_call = meanwhile
    world.slack.say_dropped()
    await world.passes(60)
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert world.card().state == "Working"
    world.logged("slack.events_dropped")


async def test_another_copy_of_the_bot_is_named_once(make_world: Make) -> None:
    """Slack counts the connections of the app: the other one gets part of what people write."""
    world = await make_world(start=False)
    async with aiohttp.ClientSession() as http:

        async def other() -> aiohttp.ClientWebSocketResponse:
            headers = {"Authorization": f"Bearer {world.slack.app_token}"}
            async with http.post(f"{world.slack.api_url}apps.connections.open", headers=headers) as answer:
                return await http.ws_connect((await answer.json())["url"])

        connected = await other()
        await world.starts()
        [said] = world.logged("slack.not_alone")
        assert said["others"] == 1
        world.slack.disconnect("refresh_requested")
        await until(lambda: world.slack.sockets == 1)
        await world.passes(40)
        await connected.close()
