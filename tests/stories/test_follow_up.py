"""Replies on their way to the agent: in order, each once, whatever the run is doing."""

from bot.core import words
from bot.core.model import Reason, RunState
from bot.simulator.world import Said
from tests.conftest import Card, Story
from tests.stories.shared import APPROVE_OR_REJECT, NOBODY, SINCE, asked_by, why


async def working(world: Story) -> Said:
    """Let alice start a run and give her request; its agent works."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    return asked


async def test_a_reply_reaches_a_working_agent(world: Story) -> None:
    """👀 when it is taken, ✅ when the agent has it; the card goes on showing the run."""
    asked = await working(world)
    reply = await world.bob.says("and the licence too", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.reactions(reply) == ["eyes"]
    assert world.card().state == "Working"
    assert world.news() == []


async def test_replies_wait_while_the_run_is_starting(world: Story) -> None:
    """The agent gets them, in order, as soon as it is there; until then 👀 says that they are kept."""
    world.openhands.start_seconds = 60
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    first = await world.alice.says("and the licence", thread=asked)
    second = await world.bob.says("and the changelog", thread=asked)
    await world.passes(20)
    assert world.reactions(first) == world.reactions(second) == []
    assert world.card().state == "Starting"

    await world.passes(60)

    assert world.conversation.messages == ["fix README", "and the licence", "and the changelog"]
    assert world.reactions(first) == world.reactions(second) == ["eyes"]
    world.leaves("#dev: card 🛠️ Working")


async def test_replies_arrive_in_the_order_they_were_written(world: Story) -> None:
    """Also while the agent takes none: each waits for the one before it."""
    asked = await working(world)
    world.openhands.work_on(world.conversation, "make test", seconds=20)
    await world.alice.says("point 1", thread=asked)
    await world.bob.says("point 2", thread=asked)
    await world.alice.says("point 3", thread=asked)
    assert world.conversation.messages == ["fix README"]

    await world.passes(30)

    assert world.conversation.messages == ["fix README", "point 1", "point 2", "point 3"]
    world.leaves("#dev: card 🛠️ Working")


async def test_replies_in_one_breath_keep_their_order(world: Story) -> None:
    """Slack sends them faster than they can be looked at; the agent reads them as they were written."""
    asked = await working(world)
    for number in range(1, 7):
        await world.slack.say(world.alice.id, asked.channel, f"point {number}", thread_ts=asked.ts)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", *(f"point {number}" for number in range(1, 7))]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_reply_in_the_same_breath_as_the_request_is_not_lost(world: Story) -> None:
    """Nobody has looked at the request yet, so the thread is nobody's; the reply waits for that."""
    text = world.slack.wire("@OpenHands fix README in org/repo")
    asked = await world.slack.say(world.alice.id, world.place("#dev"), text)
    await world.slack.say(world.alice.id, world.place("#dev"), "and the licence too", thread_ts=asked)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_reply_delivered_twice_by_slack_reaches_the_agent_once(world: Story) -> None:
    """Slack repeats what it is not sure of; the agent must not hear it twice."""
    asked = await working(world)
    reply = await world.alice.says("and the licence too", thread=asked)
    await world.slack.redeliver(reply.ts)
    await world.passes(4)
    await world.slack.redeliver(reply.ts)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.reactions(reply) == ["eyes"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_reply_wakes_a_finished_run(world: Story) -> None:
    """No end is final: the same conversation goes on, and its next end is told anew."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(4)
    assert world.card().state == "Working"

    world.openhands.finish(world.conversation, "Fixed the licence.")
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.card().state == "Done"
    assert world.card().lines[0] == "Fixed the licence."
    assert world.news() == [
        f"<@{world.alice.id}> ✅ Done\nFixed it.",
        f"<@{world.alice.id}> ✅ Done\nFixed the licence.",
    ]
    assert "First result: Fixed it." in world.card()
    assert len(world.news("#news")) == 1
    assert len(world.cards()) == 1


async def test_the_old_answer_is_not_told_again_after_a_reply(world: Story) -> None:
    """Right after a message OpenHands still shows the end before it: that is old news."""
    world.openhands.status_lag_s = 3
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(10)

    assert world.card().state == "Working"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]


async def test_a_reply_answers_the_agents_question(world: Story) -> None:
    """A turn that ends in a question waits for people, and says so."""
    asked = await working(world)
    world.openhands.ask(world.conversation, "Which licence do you want?")
    await world.passes(4)
    assert world.card().state == "Has a question"
    assert world.card().lines[:2] == ("Which licence do you want?", "Reply here to answer.")
    assert world.news() == [f"<@{world.alice.id}> 💬 Has a question\nWhich licence do you want?\nReply here to answer."]

    await world.bob.says("MIT", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "MIT"]
    assert world.card().state == "Working"
    assert len(world.news()) == 1


async def test_words_without_a_question_are_shown_as_an_answer(world: Story) -> None:
    """An agent may end its turn with plain words; the run can go on from there."""
    asked = await world.alice.says("@OpenHands what does the build do in org/repo")
    await world.passes(4)
    world.openhands.ask(world.conversation, "It compiles the docs.")
    await world.passes(4)

    assert world.card().state == "Answered"
    assert world.news() == [f"<@{world.alice.id}> 💬 Answered\nIt compiles the docs.\nReply here to continue."]
    assert world.reactions(asked) == ["eyes"]


async def test_a_sleeping_run_is_woken_for_a_reply(world: Story) -> None:
    """OpenHands puts sandboxes to sleep; the reply resumes it first, then is delivered."""
    asked = await working(world)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(130)
    assert world.card().state == "Paused"
    assert world.news() == [f"<@{world.alice.id}> ⏸️ Paused\n{why(Reason.ASLEEP, RunState.PAUSED)}"]

    reply = await world.alice.says("please go on", thread=asked)
    await world.passes(20)

    assert world.conversation.messages == ["fix README", "please go on"]
    assert world.reactions(reply) == ["eyes"]
    assert world.card().state == "Working"


async def test_a_wake_up_of_five_minutes_is_shown_as_one(world: Story) -> None:
    """No slot for two minutes, then a sandbox whose agent server is not there yet: neither is an outage or the end."""
    asked = await working(world)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(130)
    world.openhands.break_next("sandbox_resume", status=429, body={"detail": {"error": "full"}}, times=4)
    world.conversation.silent = True
    reply = await world.alice.says("please go on", thread=asked)
    await world.passes(110)
    assert world.card().state == "Paused"
    for _ in range(2):
        await world.passes(75)
        assert world.card().state == "Working"
        assert any(line.startswith("⏳ Waking up: ") for line in world.card().lines)
    world.conversation.silent = False
    await world.passes(40)

    assert world.conversation.messages == ["fix README", "please go on"]
    assert world.reactions(reply) == ["eyes"]
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert words.no_room_to_wake() in world.news()[-1]


async def test_a_run_that_fell_asleep_after_its_end_is_woken_too(world: Story) -> None:
    """Falling asleep after the end is no news; a reply days later still goes on."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(60)
    assert world.card().state == "Done"
    assert len(world.news()) == 1

    await world.alice.says("and the licence too", thread=asked)
    await world.passes(20)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.card().state == "Working"


async def test_what_somebody_paused_in_openhands_is_told_and_a_reply_goes_on(world: Story) -> None:
    """Not the requester's doing, so they hear of it."""
    asked = await working(world)
    await world.passes(4)
    world.openhands.someone_pauses(world.conversation)
    await world.passes(10)
    assert world.card().state == "Paused"
    assert world.news() == [f"<@{world.alice.id}> ⏸️ Paused\n{why(None, RunState.PAUSED)}"]

    await world.alice.says("please go on", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "please go on"]
    assert world.card().state == "Working"


async def test_replies_wait_while_an_approval_is_wanted(world: Story) -> None:
    """To OpenHands a message would mean yes: only a person in OpenHands approves, then the reply goes."""
    asked = await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Remove the build")
    await world.passes(4)
    wish = APPROVE_OR_REJECT
    assert world.card().state == "Needs approval"
    assert world.card().lines[0] == wish
    assert world.news() == [
        f"<@{world.alice.id}> ✋ Needs approval\n{wish}\nterminal · the agent rates it high\nrm -rf build"
    ]

    reply = await world.alice.says("is that needed?", thread=asked)
    await world.passes(60)
    assert world.conversation.messages == ["fix README"]
    assert world.conversation.pending != []
    assert world.reactions(reply) == []

    world.openhands.respond(world.conversation, accept=False, reason="no")
    world.openhands.run(world.conversation)
    await world.passes(120)

    assert world.conversation.messages == ["fix README", "is that needed?"]
    assert world.reactions(reply) == ["eyes"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_reply_lets_a_failed_run_go_on(world: Story) -> None:
    """The conversation is still there; what failed is said in people's words, with what helps."""
    asked = await working(world)
    world.openhands.fail(world.conversation)
    await world.passes(4)
    because = why(Reason.MODEL_KEY)
    assert world.card().state == "Failed"
    assert world.card().lines[:2] == (because, "> Incorrect API key provided.")
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{because}\n> Incorrect API key provided."]
    assert world.reactions(asked) == ["eyes", "x"]

    await world.alice.says("the key is mended", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "the key is mended"]
    assert world.card().state == "Working"
    assert len(world.cards()) == 1


async def test_an_agent_that_goes_in_circles_is_told_so(world: Story) -> None:
    """A hint from a person gets it out."""
    asked = await working(world)
    await world.passes(4)
    world.openhands.get_stuck(world.conversation)
    await world.passes(10)
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(Reason.STUCK)}"]

    await world.alice.says("use make, not npm", thread=asked)
    await world.passes(4)

    assert world.card().state == "Working"
    world.leaves("#dev: eyes, x on a message")


async def test_a_conversation_deleted_behind_our_back_is_lost(world: Story) -> None:
    """Nothing can be sent there any more: the thread hears it, with the way on, and again starts anew."""
    asked = await working(world)
    gone = world.conversation
    world.openhands.vanish(gone)
    await world.passes(330)
    because = why(Reason.GONE)
    assert world.card().state == "Lost"
    assert world.news() == [f"<@{world.alice.id}> ⚠️ Lost\n{because}"]

    reply = await world.alice.says("and the licence too", thread=asked)
    await world.passes(4)
    assert world.news()[1:] == [NOBODY]
    assert world.reactions(reply) == []

    await world.alice.says("again", thread=asked)
    await world.passes(6)

    [anew] = [one for one in world.openhands.conversations.values() if one is not gone]
    assert anew.messages == [
        "fix README\n\nAn earlier attempt came to nothing. Since then people added:\n\nand the licence too"
    ]
    assert gone.messages == ["fix README"]
    assert world.card().state == "Working"
    assert len(world.cards()) == 1
    world.leaves("#dev: eyes, x on a message")


async def test_a_reply_whose_conversation_is_gone_is_given_back(world: Story) -> None:
    """The run had ended and was not looked at any more: the reply finds out, and its author hears it."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    world.openhands.vanish(world.conversation)
    reply = await world.bob.says("and the licence too", thread=asked)
    await world.passes(480, stopping_at_all=True)

    because = why(Reason.GONE)
    assert world.card().state == "Lost"
    assert world.news()[1:] == [
        f"<@{world.alice.id}> ⚠️ Lost\n{because}",
        f"<@{world.bob.id}> {NOBODY}",
    ]
    assert world.reactions(reply) == ["x"]
    world.leaves("#dev: eyes, white_check_mark, x on a message")


async def test_a_reply_to_a_cancelled_run_says_how_to_start_anew(world: Story) -> None:
    """There is no conversation to reach, and none is made behind the person's back."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.alice.says("stop", thread=asked)
    await world.alice.says("org/repo", thread=asked)
    await world.passes(4)

    assert world.news() == [words.follow_up_cancelled()]
    assert len(world.openhands.conversations) == 0
    world.leaves("#dev: card 🚫 Cancelled")


async def test_a_mention_starts_anew_where_a_run_was_cancelled(world: Story) -> None:
    """The way out that the sentence names: the thread gets a new run and a new card."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.alice.says("stop", thread=asked)
    await world.alice.says("@OpenHands why is the build slow in org/repo", thread=asked)
    await world.passes(6)

    assert [card.text.splitlines()[0] for card in world.cards()] == ["*🚫 Cancelled*", "*🛠️ Working*"]
    await world.alice.says("look at the linter", thread=asked)
    await world.passes(4)
    assert world.conversation.messages[-1] == "look at the linter"


async def test_again_is_a_word_like_any_other_where_nothing_failed(world: Story) -> None:
    """It is a decision only where there is one to make."""
    asked = await working(world)
    await world.alice.says("again", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "again"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_reply_naming_another_repository_is_still_a_follow_up(world: Story) -> None:
    """A thread is one run; what a reply means the agent can tell."""
    asked = await working(world)
    await world.alice.says("do the same in org/other", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "do the same in org/other"]
    assert len(world.openhands.conversations) == 1
    world.leaves("#dev: card 🛠️ Working")


async def test_two_runs_do_not_hold_up_each_other(world: Story) -> None:
    """A message that waits for a long command is no reason for others to wait."""
    hers = await world.alice.says("@OpenHands fix README in org/repo")
    his = await world.bob.says("@OpenHands fix LICENSE in org/repo")
    await world.passes(4)
    busy, free = world.openhands.find("fix README"), world.openhands.find("fix LICENSE")
    world.openhands.work_on(busy, "make test", seconds=25)
    await world.alice.says("and the changelog", thread=hers)
    await world.bob.says("and the notice", thread=his)
    await world.passes(4)
    assert (busy.messages, free.messages) == (["fix README"], ["fix LICENSE", "and the notice"])

    await world.passes(30)

    assert busy.messages == ["fix README", "and the changelog"]
    world.leaves("#dev: card 🛠️ Working", "#dev: card 🛠️ Working")


async def test_a_message_that_is_kept_but_not_run_is_run_until_it_is_taken(world: Story) -> None:
    """The agent server is full: the message is there, sent once, and its turn neither ends without words nor pauses."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    world.openhands.runs_full = True
    reply = await world.bob.says("and the licence too", thread=asked)
    await world.passes(200)
    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.reactions(reply) == ["eyes"]
    assert world.card().state == "Working"
    assert any("runs no more agents for now" in line for line in world.card().lines)

    world.openhands.runs_full = False
    await world.passes(35)
    assert not any("runs no more agents" in line for line in world.card().lines)
    world.openhands.finish(world.conversation, "Fixed the licence.")
    await world.passes(40)
    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.card().state == "Done"
    assert [line.split("\n")[-1] for line in world.news()] == ["Fixed it.", "Fixed the licence."]


async def test_a_message_that_is_kept_can_be_stopped(world: Story) -> None:
    """Before the agent begins with it: then nobody sets the agent to work any more."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    world.openhands.runs_full = True
    await world.bob.says("and the licence too", thread=asked)
    await world.passes(10)
    await world.bob.says("stop", thread=asked)
    await world.passes(20)
    world.openhands.runs_full = False
    await world.passes(60)
    assert world.card().state == "Stopped"
    assert not world.conversation.working
    world.leaves("#dev: ✅ Done", "#dev: ⏹️ Stopped")
