"""One thing overtakes another: a stop, a retry or a sleep, just as a call is on its way or the agent turns."""

from collections.abc import Callable
from dataclasses import replace

from bot.simulator.slack.records import Message
from tests.conftest import Make, Story, until
from tests.stories.shared import in_database, labels, meanwhile, quick_to_doubt, starts, working

WARNING = "I haven't got through to OpenHands"


async def failed(world: Story) -> Message:
    """Have a run that failed, and give its card."""
    await working(world)
    world.openhands.fail(world.conversation)
    await world.passes(40)
    return world.cards()[0]


async def types(world: Story, word: str, done: Callable[[], bool]) -> None:
    """Let alice type a word under the card, and wait until the bot has taken it, though nothing is at rest."""
    card = world.cards()[0]
    await world.slack.say(world.alice.id, card.channel, word, thread_ts=card.ts)
    await until(done)


def calls(world: Story, kind: str) -> int:
    return sum(call.kind == kind for call in world.openhands.calls)


def told(world: Story) -> list[list[str]]:
    """Return what each agent was told, oldest conversation first."""
    return [one.messages for one in world.openhands.conversations.values()]


# --- stop -------------------------------------------------------------------------------------------------------


async def test_a_stop_just_as_the_agent_wants_approval_is_repeated(world: Story) -> None:
    """An interrupt does nothing then; what the agent wants is rejected instead, and nobody is asked to decide."""
    card = await working(world)

    async def wants() -> None:
        world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")

    meanwhile(world, "before", "interrupt", wants)
    await world.alice.clicks("stop", card)
    await world.passes(20)
    assert world.conversation.pending == []
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped", "#dev: ✋ Needs approval")


async def test_a_stop_that_never_takes_effect_is_given_back(world: Story) -> None:
    """Every call is answered by a broken gateway: after some tries a person hears that the run goes on."""
    card = await working(world)
    world.openhands.break_next("interrupt", drop=True, times=1_000)
    world.openhands.break_next("sandbox_pause", status=502, times=1_000)
    await world.alice.clicks("stop", card)
    await world.passes(150)
    assert calls(world, "sandbox_pause") == 7
    assert labels(world.cards()[0]) == ["Open in OpenHands", "Stop"]
    [news] = world.news()
    assert "can't be told to stop a run, so it continues" in news


async def test_a_second_stop_does_not_wait_for_the_first_to_be_looked_at(world: Story) -> None:
    """Stopped, told to go on, and stopped again, all within seconds."""
    card = await working(world)
    for word in ("stop", "and the docs", "stop"):
        await world.alice.says(word, thread=card)
    await world.passes(1)
    assert (world.conversation.state, world.conversation.messages) == ("paused", ["fix README", "and the docs"])
    world.leaves("alice alone: There is nothing to stop", "outbox: stop", "outbox: stop")


async def test_a_stop_while_a_start_is_refused_cancels_it(make_world: Make) -> None:
    """The account is full: the run does not wait for a slot it must not take."""
    world = await make_world(openhands={"limit": 1})
    others = world.openhands.start_v0("somebody else's", None)
    meanwhile(world, "before", "start", lambda: types(world, "stop", lambda: in_database(world, "stop_by") is not None))
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    assert world.card().state == "Cancelled"
    assert world.card().lines[0] == f"Cancelled by <@{world.alice.id}> before anything was started."
    world.openhands.finish(others, "Done.")
    await world.passes(60)
    assert len(starts(world)) == 1
    assert (world.card().state, world.news()) == ("Cancelled", [])


async def test_a_stop_while_a_start_is_surely_not_taken_cancels_it(world: Story) -> None:
    """OpenHands is out of order for a moment: what was stopped meanwhile is not asked for again."""
    world.openhands.break_next("start", status=503)
    meanwhile(world, "before", "start", lambda: types(world, "stop", lambda: in_database(world, "stop_by") is not None))
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(30)
    assert len(starts(world)) == 1
    assert (world.card().state, told(world)) == ("Cancelled", [])


async def test_a_stop_while_a_sandbox_wakes_up_stops_what_goes_on_by_itself(world: Story) -> None:
    """A frozen agent works on as soon as its sandbox is there, which may be seconds after the stop."""
    await working(world)
    c = world.conversation
    world.openhands.fall_asleep(c)
    await world.passes(130)

    async def takes_a_while() -> None:
        c.sandbox_status = "STARTING"

    meanwhile(world, "after", "sandbox_resume", takes_a_while)
    await world.alice.clicks("resume", world.cards()[0])
    await world.alice.says("stop", thread=world.cards()[0])
    await world.passes(4)
    c.sandbox_status = "RUNNING"
    await world.passes(30)
    assert c.state == "paused"
    assert world.card().state == "Stopped"
    assert world.news()[1:] == ["⏹️ Stopped\nReply here to continue."]
    world.leaves("outbox: stop")


async def test_a_stop_while_a_reply_wakes_a_sandbox_stops_what_goes_on_by_itself(world: Story) -> None:
    """The reply is called off, its call to wake the sandbox was on its way already."""
    await working(world)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(130)
    meanwhile(
        world,
        "before",
        "sandbox_resume",
        lambda: types(world, "stop", lambda: in_database(world, "state") == "stopped"),
    )
    await world.alice.says("and the docs", thread=world.cards()[0])
    await world.passes(30)
    assert (world.conversation.state, world.conversation.messages) == ("paused", ["fix README"])
    assert world.card().state == "Stopped"
    world.leaves(
        "#dev: 1 waiting message was dropped",
        "#dev: ⏸️ Paused",
        "#dev: ⏹️ Stopped",
        "outbox: stop",
        "outbox: stop",
    )


async def test_a_button_that_came_by_direct_message_works_there(make_world: Make) -> None:
    """The run's channel is archived, so what has a button was sent to who asked for the run."""
    world = await make_world(start=False)
    world.patience = replace(world.patience, stale_s=60.0)
    await world.starts()
    await working(world)
    world.slack.archive(world.place("#dev"))
    await world.passes(100)
    [told_directly] = [one for one in world.posts(world.slack.dm(world.alice.id)) if "Stop" in labels(one)]
    await world.alice.clicks("stop", told_directly)
    await world.passes(20)
    assert world.conversation.state == "paused"
    assert world.posts(world.slack.dm(world.alice.id))[-1].text.endswith("⏹️ Stopped\nReply here to continue.")
    world.logged("place.lost")
    world.logged("slack.refused")


async def test_a_stop_takes_the_warning_of_an_outage_off_an_ended_card(world: Story) -> None:
    """Nothing is tried any more, so nothing is out of reach."""
    await failed(world)
    world.openhands.down = True
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(90)
    assert WARNING in world.card()
    await world.alice.says("stop", thread=world.cards()[0])
    await world.passes(90)
    assert world.card().state == "Failed"
    assert WARNING not in world.card()
    world.leaves("#dev: ❌ Failed")
    world.logged("openhands.unreachable")


# --- retry ------------------------------------------------------------------------------------------------------


async def test_a_retry_overtakes_a_message_to_the_old_conversation(world: Story) -> None:
    """The answer about the old one moves the new one nowhere, and the new one gets the message as well."""
    card = await failed(world)
    meanwhile(world, "before", "send", lambda: types(world, "retry", lambda: in_database(world, "attempt") == 2))
    await world.alice.says("and the docs", thread=card)
    await world.passes(20)
    assert told(world) == [["fix README", "and the docs"]] * 2
    assert world.card().state == "Working"
    world.leaves("#dev: ❌ Failed")


async def test_a_message_that_may_have_arrived_goes_to_the_new_conversation(world: Story) -> None:
    """There it surely is not, so nothing waits for it to be found."""
    card = await failed(world)
    world.openhands.break_next("send", status=502)
    await world.alice.says("and the docs", thread=card)
    await world.passes(2)
    await world.alice.clicks("retry", world.cards()[0])
    await world.passes(20)
    assert told(world) == [["fix README"], ["fix README", "and the docs"]]
    world.leaves("#dev: card 🛠️ Working", "#dev: ❌ Failed")


async def test_a_retry_overtakes_a_resume_that_was_stopped(world: Story) -> None:
    """Its late answer is about the conversation before."""
    card = await failed(world)

    async def stops_and_retries() -> None:
        await types(world, "stop", lambda: in_database(world, "resume_by") is None)
        await types(world, "retry", lambda: in_database(world, "attempt") == 2)

    meanwhile(world, "before", "run", stops_and_retries)
    await world.alice.clicks("resume", card)
    await world.passes(20)
    assert len(starts(world)) == 2
    assert world.card().state == "Working"
    assert in_database(world, "conversation_id") == list(world.openhands.conversations)[1]
    world.leaves("#dev: ❌ Failed")


async def test_a_cancelled_retry_does_not_say_that_nothing_was_ever_started(make_world: Make) -> None:
    """The first attempt did start, and perhaps did something."""
    world = await make_world(max_concurrent_runs=1)
    await failed(world)
    await world.bob.commands("fix two in org/repo", in_="#dev")
    await world.passes(4)
    await world.alice.clicks("retry", world.cards()[0])
    await world.passes(4)
    await world.alice.clicks("cancel", world.cards()[0])
    await world.passes(4)
    assert f"Cancelled by <@{world.alice.id}> before it was restarted." in world.cards()[0].text
    world.leaves("#dev: ❌ Failed")


# --- resume and approve -----------------------------------------------------------------------------------------


async def test_a_resume_that_never_takes_effect_is_given_back(world: Story) -> None:
    """Every call is answered by a broken gateway: after some tries a person hears that it is still as it was."""
    card = await failed(world)
    world.openhands.break_next("run", status=502, times=1_000)
    await world.alice.clicks("resume", card)
    await world.passes(430)
    assert calls(world, "run") == 12
    assert labels(world.cards()[0]) == ["Open in OpenHands", "Resume", "Retry"]
    assert world.news()[1].startswith(f"<@{world.alice.id}> It could not be resumed: it has failed.")


async def asleep_wanting_approval(world: Story) -> Message:
    """Have a run whose agent waits for approval in a sandbox that was put to sleep, and give its card."""
    await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(6)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(8)
    return world.cards()[0]


async def test_an_approval_wakes_the_sandbox_in_which_the_action_waits(world: Story) -> None:
    """Nobody answers for hours, and OpenHands puts it to sleep: what is approved then is carried out all the same."""
    card = await asleep_wanting_approval(world)
    assert labels(card) == ["Open in OpenHands", "Approve", "Reject", "Stop"]
    await world.bob.clicks("approve", card)
    await world.passes(10)
    assert world.conversation.pending == []
    assert (world.card().state, calls(world, "sandbox_resume")) == ("Working", 1)
    world.leaves("#dev: ✋ Needs approval")


async def test_an_approval_waits_for_a_slot_to_wake_the_sandbox(make_world: Make) -> None:
    """Who decided is told once, and it is carried out when there is room."""
    world = await make_world(openhands={"limit": 1})
    card = await asleep_wanting_approval(world)
    ours = world.conversation
    others = world.openhands.start_v0("somebody else's", None)
    await world.bob.clicks("approve", card)
    await world.passes(70)
    [said] = world.news()[1:]
    assert said.startswith(f"<@{world.bob.id}> Every slot of the OpenHands account is busy")
    world.openhands.finish(others, "Done.")
    await world.passes(40)
    assert ours.pending == []
    assert world.card().state == "Working"


async def test_an_approval_that_can_never_reach_the_sandbox_is_given_back(make_world: Make) -> None:
    """It is said to wake up, and does not: after a while it is for a person to decide again."""
    world = await make_world(start=False)
    world.patience = replace(world.patience, unsure_person_s=20.0)
    await world.starts()
    card = await asleep_wanting_approval(world)

    async def on_call(phase: str, kind: str) -> None:
        if (phase, kind) == ("after", "sandbox_resume"):
            world.openhands.fall_asleep(world.conversation)

    world.openhands.on_call = on_call
    await world.bob.clicks("approve", card)
    await world.passes(30)
    assert labels(world.cards()[0]) == ["Open in OpenHands", "Approve", "Reject", "Stop"]
    [said] = world.news()[1:]
    assert said.startswith(f"<@{world.bob.id}> OpenHands did not take your decision")


async def test_a_stop_ends_what_waits_for_approval_in_a_sleeping_sandbox(world: Story) -> None:
    """Nobody works there, so it is stopped at once."""
    card = await asleep_wanting_approval(world)
    await world.bob.clicks("stop", card)
    await world.passes(10)
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped", "#dev: ✋ Needs approval")


async def test_an_old_server_forgets_in_its_sleep_what_waited_for_approval(make_world: Make) -> None:
    """V0 does not go on with it, so there is nothing left to approve: the card offers to wake it instead."""
    world = await make_world(openhands={"api": "v0"})
    await asleep_wanting_approval(world)
    await world.passes(130)
    card = world.cards()[0]
    assert labels(card) == ["Open in OpenHands", "Resume", "Stop"]
    assert world.card().state == "Paused"
    await world.alice.clicks("resume", card)
    await world.passes(10)
    assert world.card().state == "Working"
    world.leaves("#dev: ⏸️ Paused", "#dev: ✋ Needs approval")


# --- follow-ups -------------------------------------------------------------------------------------------------


async def test_send_again_sends_nothing_that_has_arrived_since(make_world: Make) -> None:
    """The agent took the message just before the click, and the card does not know it yet."""
    world = await quick_to_doubt(make_world)
    card = await working(world)
    world.openhands.work_on(world.conversation, "make test", seconds=104)
    await world.alice.says("and the docs", thread=card)
    await world.passes(105)
    assert labels(world.cards()[0])[-2:] == ["Send again", "Leave it"]
    assert world.conversation.messages == ["fix README", "and the docs"]
    await world.alice.clicks("again", world.cards()[0])
    await world.passes(10)
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert labels(world.cards()[0]) == ["Open in OpenHands", "Stop"]
    world.leaves("#dev: Did the agent get “and the docs”? I can't tell")


async def test_a_stop_of_what_was_to_be_woken_does_not_look_for_what_is_gone(world: Story) -> None:
    """It waited for a slot, was stopped, and its conversation was deleted: there is nothing to do, and nothing is."""
    await working(world)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(130)
    full = {"detail": {"error": "CONCURRENCY_LIMIT_REACHED", "limit": 1, "current": 1}}
    world.openhands.break_next("sandbox_resume", status=429, body=full)
    await world.alice.clicks("resume", world.cards()[0])
    world.openhands.vanish(world.conversation)
    before = len(world.openhands.calls)
    await world.alice.says("stop", thread=world.cards()[0])
    await world.passes(60)
    assert len(world.openhands.calls) - before <= 3
    assert world.card().state == "Stopped"
    world.leaves("#dev: Every slot of the OpenHands account is busy", "#dev: ⏸️ Paused", "#dev: ⏹️ Stopped")
