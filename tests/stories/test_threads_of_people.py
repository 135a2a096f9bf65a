"""A run in a thread that people had before: only mentions are for it, and what answers it."""

import pytest

from bot.core import words
from tests.conftest import Story
from tests.stories.shared import asked_by


async def discussed(world: Story, task: str = "find out why in org/repo") -> str:
    """Have people talk, and alice mention the bot there; return the thread."""
    talk = await world.bob.says("the build is red since noon")
    await world.alice.says(f"@OpenHands {task}", thread=talk)
    await world.passes(4)
    return talk.ts


async def says(world: Story, who: str, text: str, thread: str) -> None:
    person = world.alice if who == "alice" else world.bob
    await world.slack.say(person.id, world.place("#dev"), world.slack.wire(text), thread_ts=thread)
    await world.passes(6)


async def test_the_requester_answers_which_repository_without_a_mention(world: Story) -> None:
    """The bot asked her there, and says so; another person's line stays talk."""
    thread = await discussed(world, "find out why")
    asked = f"<@{world.alice.id}>, reply here (anybody else, mention me) with `org/repo`, or `none`."
    assert asked in world.card().lines[0]

    await says(world, "bob", "org/other", thread)
    assert world.card().state == "Which repository?"
    await says(world, "alice", "org/repo", thread)

    assert world.card().state == "Working"
    assert [one.repository for one in world.openhands.conversations.values()] == ["org/repo"]
    assert len(world.kept()) == 2


async def test_the_requester_answers_the_agents_question_without_a_mention(world: Story) -> None:
    """Before and after the question her words stay among people."""
    thread = await discussed(world)
    await says(world, "alice", "let us see", thread)
    world.openhands.ask(world.conversation, "Which compiler do you want?")
    await world.passes(10)
    asks = f"<@{world.alice.id}>, reply here (anybody else, mention me) to answer."
    assert world.news() == [f"<@{world.alice.id}> 💬 Has a question\nWhich compiler do you want?\n{asks}"]

    await says(world, "bob", "the old one", thread)
    await says(world, "alice", "the new one", thread)
    await says(world, "alice", "that should do", thread)

    assert world.conversation.messages[1:] == ["the new one"]
    assert len(world.kept()) == 2
    world.leaves("#dev: card 🛠️ Working")


async def test_the_requester_stops_it_with_the_bare_word(world: Story) -> None:
    """Anybody else mentions the bot; the card says how to go on."""
    thread = await discussed(world)
    await says(world, "bob", "stop", thread)
    assert world.card().state == "Working"
    await says(world, "alice", "stop", thread)

    assert (world.card().state, world.card().lines[0]) == (
        "Stopped",
        f"Stopped by <@{world.alice.id}>. Mention me here to continue.",
    )
    assert world.news() == ["⏹️ Stopped\nMention me here to continue."]
    assert asked_by(world) in world.card()
    await world.passes(60)


async def test_the_answer_to_an_older_runs_question_needs_no_mention_either(world: Story) -> None:
    """Another run began there meanwhile, and the older one asks."""
    thread = await discussed(world)
    await says(world, "bob", "@OpenHands new: fix README in org/repo", thread)
    older, newer = world.openhands.conversations.values()
    world.openhands.ask(older, "Which compiler do you want?")
    await world.passes(10)
    await says(world, "bob", "the old one", thread)
    await says(world, "alice", "the new one", thread)

    assert (older.messages[1:], newer.messages[1:]) == (["the new one"], [])
    assert world.bob.sees() == [words.another_run()]
    world.leaves("#dev: 💬 Has a question", *["#dev: card 🛠️ Working"] * 2)


async def test_help_in_a_thread_of_people_says_who_is_heard_there(world: Story) -> None:
    """It is drawn for that thread."""
    thread = await discussed(world)
    await says(world, "bob", "@OpenHands help", thread)

    assert world.bob.sees() == [words.help_text(mentions_only=True)]
    world.leaves("#dev: card 🛠️ Working")


# --- words that are only English -----------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["New test fails now, please fix it too", "Aside from that, also update the licence"])
async def test_ordinary_english_goes_to_the_agent(world: Story, said: str) -> None:
    """`new` and `aside` are words of the bot only with their colon."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    await world.bob.says(said, thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", said]
    world.leaves("#dev: card 🛠️ Working")


@pytest.mark.parametrize("place", ["#dev", "dm"])
async def test_list_may_be_the_answer_to_the_agents_question(world: Story, place: str) -> None:
    """With a mention it is the bot's word all the same."""
    start = "@OpenHands fix README in org/repo" if place == "#dev" else "fix README in org/repo"
    asked = await world.alice.says(start, in_=place)
    await world.passes(4)
    world.openhands.ask(world.conversation, "A list or a map?")
    await world.passes(10)
    await world.alice.says("@OpenHands status", thread=asked)
    await world.passes(2)
    assert "Has a question" in world.news(asked.channel)[-1]
    if place == "dm":
        await world.alice.says("list", in_="dm")
    else:
        await world.alice.says("list", thread=asked)
    await world.passes(6)

    assert world.conversation.messages == ["fix README", "list"]
    assert world.alice.sees() == []
    world.leaves(f"{place}: card 🛠️ Working")


# --- said once -----------------------------------------------------------------------------------------------------


async def test_below_a_question_for_a_repository_talk_is_answered_once(world: Story) -> None:
    """Afterwards only who mentions the bot is answered; the right answer counts all the same."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.passes(4)
    for line in ("no idea", "the cache?", "ask carol"):
        await world.bob.says(line, thread=asked)
        await world.passes(2)
    assert len(world.news()) == 1
    await world.bob.says("@OpenHands the cache one", thread=asked)
    await world.passes(2)
    assert len(world.news()) == 2
    await world.bob.says("org/repo", thread=asked)
    await world.passes(6)

    assert world.card().state == "Working"


async def test_below_a_cancelled_run_talk_is_answered_once(world: Story) -> None:
    """People go on talking there."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.passes(4)
    await world.alice.says("cancel", thread=asked)
    await world.passes(2)
    for line in ("no idea", "the cache?", "ask carol"):
        await world.bob.says(line, thread=asked)
        await world.passes(2)

    assert world.news() == [words.follow_up_cancelled()]
    world.leaves("#dev: card 🚫 Cancelled")


async def test_below_a_run_that_never_started_talk_is_answered_once(world: Story) -> None:
    """What they said is kept for a retry."""
    world.openhands.fail_next_start("boom")
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(40)
    for line in ("no idea", "the cache?"):
        await world.bob.says(line, thread=asked)
        await world.passes(2)

    assert [one.startswith("No agent is running here") for one in world.news()] == [False, True]
    world.leaves("#dev: card ❌ Failed", "#dev: eyes, x on a message")
    world.logged("run.changed")


# --- a command, and who reads its answer ---------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["alice", "bob"])
async def test_a_command_that_stops_waiting_replies_tells_whom_it_concerns(world: Story, who: str) -> None:
    """Its person alone, or the run's thread if somebody else wrote one; never the whole channel."""
    await world.alice.commands("why is the build slow?", in_="#dev")
    await world.passes(2)
    [card] = world.cards()
    world.openhands.start_seconds = 45
    await world.alice.says("org/repo", thread=card)
    await world.passes(2)
    await (world.alice if who == "alice" else world.bob).says("and the docs", thread=card)
    await world.alice.commands("stop", in_="#dev")
    await world.passes(6)

    top_level = [one.text for one in world.posts("#dev") if one.thread_ts is None and one.ts != card.ts]
    assert top_level == []
    assert (words.withdrawn(1) in world.alice.sees()) is (who == "alice")
    assert (words.withdrawn(1) in world.news()) is (who == "bob")
    await world.passes(60)
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped")
