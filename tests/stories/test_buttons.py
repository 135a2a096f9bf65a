"""Buttons and the words that do the same: what fits each state, who may press, and what becomes of a second click."""

import pytest

from bot.core import words
from bot.core.model import RunState, Waiting
from bot.core.policy import Verdict
from bot.simulator.slack.records import Message
from tests.conftest import Make, Story, read_card, until
from tests.core.runs import a_run
from tests.stories.shared import ON_IT, in_database, labels, locked, meanwhile, quick_to_doubt, starts, working

OPEN = "Open in OpenHands"
GUEST = words.refused(Verdict.GUEST)
OUTSIDE = words.refused(Verdict.OUTSIDE)
SHARED = words.refused(Verdict.SHARED)
NOT_SAVED = words.click_not_saved()


def card_of(world: Story) -> tuple[str, list[str]]:
    """Read the only card's state and buttons."""
    [card] = world.cards()
    return read_card(card).state, labels(card)


async def paused(world: Story) -> Message:
    """Have a run that somebody paused in OpenHands, and give its card."""
    await working(world)
    world.openhands.someone_pauses(world.conversation)
    await world.passes(12)
    return world.cards()[0]


async def failed(world: Story) -> Message:
    """Have a run whose model failed, and give its card."""
    await working(world)
    world.openhands.fail(world.conversation)
    await world.passes(6)
    return world.cards()[0]


async def unsure(world: Story) -> Message:
    """Have a message nobody can find in a run at work, a later one behind it, and give the run's card."""
    card = await working(world)
    world.openhands.break_next("send", status=502)
    await world.alice.says("and the docs", thread=card)
    await world.alice.says("and the licence", thread=card)
    world.openhands.break_next("agent_events", status=500, times=1_000)
    world.openhands.break_next("events", status=500, times=1_000)
    await world.passes(100)
    world.openhands._faults.clear()
    return world.cards()[0]


# --- what fits ---------------------------------------------------------------------------------------------------


async def test_each_state_has_the_buttons_that_fit_it(world: Story) -> None:
    """What can't be done is not offered; Open comes with the conversation."""
    world.openhands.start_seconds = 10
    await world.alice.commands("fix README in org/repo", in_="#dev")
    seen = [card_of(world)]
    await world.passes(16)
    seen.append(card_of(world))
    world.openhands.someone_pauses(world.conversation)
    await world.passes(12)
    seen.append(card_of(world))
    await world.alice.clicks("stop", world.cards()[0])
    await world.passes(4)
    seen.append(card_of(world))
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(6)
    world.openhands.ask(world.conversation, "Which licence?")
    await world.passes(6)
    seen.append(card_of(world))
    await world.alice.says("MIT", thread=world.cards()[0])
    await world.passes(6)
    world.openhands.fail(world.conversation)
    await world.passes(6)
    seen.append(card_of(world))
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(6)
    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(6)
    seen.append(card_of(world))

    assert seen == [
        ("Starting", ["Stop"]),
        ("Working", [OPEN, "Stop"]),
        ("Paused", [OPEN, "Resume", "Stop"]),
        ("Stopped", [OPEN, "Resume", "Retry"]),
        ("Has a question", [OPEN, "Stop"]),
        ("Failed", [OPEN, "Resume", "Retry"]),
        ("Done", [OPEN]),
    ]
    assert world.conversation.messages == ["fix README", "MIT"]
    world.leaves("#dev: ⏸️ Paused", "#dev: ⏹️ Stopped", "#dev: ✅ Done", "#dev: ❌ Failed", "#dev: 💬 Has a question")


async def test_a_run_that_asks_for_its_repository_can_be_cancelled(world: Story) -> None:
    """Nothing has started, so nothing needs stopping."""
    await world.alice.says("@OpenHands why is the build slow?")
    assert card_of(world) == ("Which repository?", ["No repository", "Cancel"])

    await world.bob.clicks("cancel", world.cards()[0])
    await world.passes(4)
    assert card_of(world) == ("Cancelled", [])
    assert world.card().lines[0] == f"Cancelled by <@{world.bob.id}> before anything was started."


# --- stop, resume ------------------------------------------------------------------------------------------------


async def test_a_double_click_is_one_stop(world: Story) -> None:
    """The second is told what the first did, and nothing is done twice."""
    card = await working(world)
    for _ in range(2):
        await world.slack.click(world.alice.id, card.channel, card.ts, "stop")
    await world.settles()
    await world.passes(6)

    assert world.conversation.interrupts == 1
    assert world.card().state == "Stopped"
    assert world.alice.sees()[1:] == ["You have already asked it to stop; it's working."]
    assert len(world.news()) == 1
    world.leaves("outbox: stop")


async def test_of_two_people_at_once_the_second_is_told_who_was_first(world: Story) -> None:
    """Both see the same card; one resumes, the other stops, and the words say in what order."""
    card = await paused(world)
    await world.slack.click(world.alice.id, card.channel, card.ts, "resume")
    await world.slack.click(world.bob.id, card.channel, card.ts, "resume")
    await world.settles()
    await world.passes(6)

    assert world.alice.sees() == [ON_IT]
    [told] = world.bob.sees()  # its last words, the run's state, depend on how far the first click has come
    assert told.startswith(f"<@{world.alice.id}> has already asked it to go on;")
    assert world.card().state == "Working"
    assert [call.status for call in world.openhands.calls if call.kind == "run"] == [200]
    world.leaves("#dev: ⏸️ Paused")


async def test_a_click_two_states_old_does_nothing(world: Story) -> None:
    """The screen had not followed: what the button stood for then is not what it would do now."""
    old = await paused(world)
    await world.alice.clicks("resume", old)
    await world.passes(6)
    world.openhands.someone_pauses(world.conversation)
    await world.passes(12)
    assert card_of(world)[0] == "Paused"

    await world.bob.clicks("resume", old)
    await world.passes(6)
    assert card_of(world)[0] == "Paused"
    assert world.bob.sees() == [f"<@{world.alice.id}> has already asked it to go on; it's paused."]
    world.leaves("#dev: ⏸️ Paused", "#dev: ⏸️ Paused")


async def test_an_old_stop_button_still_stops(world: Story) -> None:
    """Who wants a run stopped wants that in each of its turns."""
    old = await working(world)
    await world.alice.says("and the docs", thread=old)
    await world.passes(6)
    await world.bob.clicks("stop", old)
    await world.passes(6)
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped", "outbox: stop")


async def test_a_stop_overtakes_a_resume(world: Story) -> None:
    """Asked for while the resume is on its way: what that woke is stopped again, and told as stopped."""
    card = await paused(world)

    async def stop() -> None:
        await world.slack.click(world.bob.id, card.channel, card.ts, "stop")
        await until(lambda: in_database(world, "state") == RunState.STOPPED)

    meanwhile(world, "after", "run", stop)
    await world.alice.clicks("resume", card)
    await world.passes(12)

    assert world.conversation.state == "paused"
    assert world.card().state == "Stopped"
    assert world.card().lines[0] == f"Stopped by <@{world.bob.id}>. Reply here to continue."
    world.leaves("#dev: ⏸️ Paused", "#dev: ⏹️ Stopped", "#dev: ⏹️ Stopped", "outbox: stop", "outbox: stop")


@pytest.mark.parametrize("lost", ["before", "after"])
async def test_a_resume_whose_answer_is_lost_is_repeated(world: Story, lost: str) -> None:
    """It may be: what runs already is left alone, and the run is told to its end."""
    card = await paused(world)
    world.openhands.break_next("run", drop=True, after=lost == "after")
    await world.alice.clicks("resume", card)
    await world.passes(8)
    assert world.card().state == "Working"

    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(6)
    assert world.card().state == "Done"
    assert world.news()[1:] == [f"<@{world.alice.id}> ✅ Done\nFixed."]
    assert world.conversation.messages == ["fix README"]


async def test_a_resume_that_ends_before_its_lost_answer_is_known_is_told_to_its_end(world: Story) -> None:
    """The agent was quicker than the second try: what it said meanwhile is the news."""
    card = await failed(world)
    world.openhands.break_next("run", drop=True, after=True)
    await world.slack.click(world.alice.id, card.channel, card.ts, "resume")
    await world.settles()
    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(10)

    assert world.card().state == "Done"
    assert world.news()[1:] == [f"<@{world.alice.id}> ✅ Done\nFixed."]
    assert world.alice.sees() == [ON_IT]


async def test_a_sleeping_run_is_woken_by_resume(world: Story) -> None:
    """A frozen agent goes on by itself: no message is needed."""
    await working(world)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(130)
    assert card_of(world) == ("Paused", [OPEN, "Resume", "Stop"])

    await world.alice.says("resume", thread=world.cards()[0])
    await world.passes(8)
    assert card_of(world)[0] == "Working"
    assert world.conversation.sandbox_status == "RUNNING"
    assert world.conversation.messages == ["fix README"]
    world.leaves("#dev: ⏸️ Paused")


async def test_a_run_that_went_in_circles_goes_on_with_words_or_anew(world: Story) -> None:
    """The same conversation would stop at once again, so Resume is not offered."""
    await working(world)
    world.openhands.get_stuck(world.conversation)
    await world.passes(12)
    assert card_of(world) == ("Failed", [OPEN, "Retry"])
    world.leaves("#dev: ❌ Failed")


# --- retry -------------------------------------------------------------------------------------------------------


async def test_retry_is_a_new_conversation_on_the_same_card(world: Story) -> None:
    """One more attempt, one more start; a second click of the same button makes no third."""
    card = await failed(world)
    for person in (world.alice, world.bob):
        await world.slack.click(person.id, card.channel, card.ts, "retry")
    await world.settles()
    await world.passes(6)

    assert [one.messages for one in world.openhands.conversations.values()] == [["fix README"], ["fix README"]]
    assert card_of(world)[0] == "Working"
    assert world.bob.sees()[0].startswith(f"<@{world.alice.id}> has already restarted it;")
    assert len(world.news()) == 1


@pytest.mark.parametrize("word", ["retry", "again", "Try again."])
async def test_the_words_for_retry_do_the_same(world: Story, word: str) -> None:
    """A lone word in the thread is no message to the agent where the run can be begun anew."""
    card = await failed(world)
    await world.bob.says(word, thread=card)
    await world.passes(6)
    assert [one.messages for one in world.openhands.conversations.values()] == [["fix README"], ["fix README"]]
    world.leaves("#dev: card 🛠️ Working", "#dev: ❌ Failed")


@pytest.mark.parametrize("loss", ["lose_sandbox", "vanish"])
async def test_retry_carries_over_what_was_said_to_a_lost_conversation(world: Story, loss: str) -> None:
    """The new agent starts from the task, what people added before, and what came too late."""
    card = await working(world)
    await world.alice.says("and the docs", thread=card)
    await world.passes(6)
    getattr(world.openhands, loss)(world.conversation)
    await world.passes(330)
    assert card_of(world) == ("Lost", ["Retry"])
    await world.bob.says("in French", thread=card)
    await world.passes(4)
    await world.bob.clicks("retry", world.cards()[0])
    await world.passes(6)

    [_, anew] = world.openhands.conversations.values()
    assert anew.messages == [
        "fix README\n\nAn earlier attempt came to nothing. Since then people added:\n\nand the docs\n\nin French"
    ]
    assert card_of(world)[0] == "Working"
    world.leaves("#dev: No agent is running here", "#dev: ⚠️ Lost")


async def test_new_in_a_runs_thread_starts_another_run_there(world: Story) -> None:
    """The thread follows the newer run from then on, which its author is told; the older one has its own card."""
    card = await working(world)
    await world.bob.says("new: fix LICENSE in org/other", thread=card)
    await world.passes(6)

    assert [one.messages for one in world.openhands.conversations.values()] == [["fix README"], ["fix LICENSE"]]
    assert [read_card(one).task for one in world.cards()] == ["fix README", "fix LICENSE"]
    assert world.bob.sees() == [words.another_run()]
    await world.bob.says("and the year", thread=card)
    await world.passes(4)
    assert world.openhands.find("fix LICENSE").messages == ["fix LICENSE", "and the year"]


async def test_of_two_runs_in_a_thread_the_one_that_asked_gets_the_answer(world: Story) -> None:
    """Where both ask, nobody gets it before its author says which is meant."""
    card = await working(world)
    await world.bob.says("new: fix LICENSE in org/other", thread=card)
    await world.passes(6)
    older, newer = world.openhands.find("fix README"), world.openhands.find("fix LICENSE")
    world.openhands.ask(older, "May I delete LICENSE?")
    await world.passes(6)
    await world.bob.says("Yes, delete it", thread=card)
    await world.passes(6)
    assert older.messages == ["fix README", "Yes, delete it"]

    for conversation in (older, newer):
        world.openhands.ask(conversation, "Which one?")
    await world.passes(12)
    await world.bob.says("the MIT one", thread=card)
    asks = [a_run(RunState.WAITING, waiting=Waiting.QUESTION, task=task) for task in ("fix README", "fix LICENSE")]
    assert world.bob.sees()[1:] == [words.which_asks([*enumerate(asks, 1)])]
    await world.bob.says("2: the MIT one", thread=card)
    await world.passes(6)
    assert (older.messages[2:], newer.messages[1:]) == ([], ["the MIT one"])
    assert len(world.news()) == 3
    world.leaves("#dev: card 💬 Has a question", "#dev: card 🛠️ Working")


# --- send again, leave it ----------------------------------------------------------------------------------------


async def test_send_again_sends_the_message_and_those_behind_it(make_world: Make) -> None:
    """A person looked, and decided; nothing went out before."""
    world = await quick_to_doubt(make_world)
    card = await unsure(world)
    assert labels(card) == [OPEN, "Stop", "Send again", "Leave it"]
    assert words.follow_up_unsure("and the docs") in world.news()[-1]
    assert world.conversation.messages == ["fix README"]

    for _ in range(2):
        await world.slack.click(world.bob.id, card.channel, card.ts, "again")
    await world.settles()
    await world.passes(10)
    assert world.conversation.messages == ["fix README", "and the docs", "and the licence"]
    assert labels(world.cards()[0]) == [OPEN, "Stop"]
    assert world.bob.sees() == ["You have already had the message sent again; it's working."]


async def test_leave_it_lets_the_next_message_go(make_world: Make) -> None:
    """The one in doubt is not sent any more."""
    world = await quick_to_doubt(make_world)
    card = await unsure(world)
    await world.bob.clicks("leave", card)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", "and the licence"]
    assert labels(world.cards()[0]) == [OPEN, "Stop"]
    assert world.news()[-1] == "All right, I leave it as it is."


# --- who may -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "told"), [("restricted", [GUEST]), ("stranger", [OUTSIDE]), ("bot", [])])
async def test_a_click_is_authorised_anew(world: Story, kind: str, told: list[str]) -> None:
    """Whoever sees the card may press; what comes of it goes by who they are. Bots get no answer at all."""
    card = await working(world)
    other = world.person("other", **{kind: True})
    world.slack.join(card.channel, other.id)
    before = len(other.sees())
    await other.clicks("stop", card)
    await world.passes(6)

    assert other.sees()[before:] == told
    assert world.card().state == "Working"
    assert world.conversation.interrupts == 0


async def test_a_click_in_a_channel_that_is_shared_by_now_does_nothing(world: Story) -> None:
    """Another company has come in since the card was posted."""
    card = await working(world)
    world.slack._workspace.channel(card.channel).ext_shared = True
    await world.passes(320)
    await world.bob.clicks("stop", card)
    await world.passes(6)

    assert world.bob.sees() == [SHARED]
    assert world.conversation.interrupts == 0


async def test_a_click_that_cannot_be_saved_is_answered_all_the_same(world: Story) -> None:
    """Slack never repeats a click, and nobody sees its acknowledgement: the sentence goes where only its maker reads."""
    card = await working(world)
    with locked(world.database):
        click = await world.alice.clicks("stop", card)
    await world.passes(6)
    assert click.acked_at is not None
    assert world.alice.sees() == [ON_IT, NOT_SAVED]
    assert world.conversation.interrupts == 0

    await world.alice.clicks("stop", card)
    await world.passes(6)
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped", "outbox: stop")
    world.logged("intake.not_saved")


async def test_a_click_survives_a_restart(world: Story) -> None:
    """What was acknowledged is done, though the process ended right after."""
    card = await failed(world)
    world.openhands.down = True
    await world.alice.clicks("resume", card)
    await world.stops()
    world.openhands.down = False
    await world.starts()
    await world.passes(12)
    assert card_of(world)[0] == "Working"
    assert len(starts(world)) == 1
    world.leaves("#dev: ❌ Failed")
