"""Stopping a run: at once, while it starts, while a message is on its way, and when there is nothing to stop."""

from bot.core import words
from bot.simulator.world import Said
from tests.conftest import Story
from tests.stories.shared import permalink


async def working(world: Story) -> Said:
    """Let alice start a run and give her request; its agent works."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(6)
    return asked


async def test_stop_interrupts_the_agent_and_says_who_did(world: Story) -> None:
    """One word in the thread; the card and one message say who stopped it and how to go on."""
    asked = await working(world)
    await world.bob.says("stop", thread=asked)
    await world.passes(6)

    assert (world.conversation.state, world.conversation.interrupts) == ("paused", 1)
    assert world.conversation.messages == ["fix README"]
    assert world.card().state == "Stopped"
    assert world.card().lines[0] == f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\nStopped by <@{world.bob.id}>. Reply here to continue."]
    assert world.news("#news") == []
    world.leaves("outbox: stop")


async def test_a_stopped_run_is_no_success(world: Story) -> None:
    """The request itself shows neither a tick nor a cross."""
    asked = await working(world)
    await world.alice.says("stop", thread=asked)
    await world.passes(6)

    assert world.reactions(asked) == ["eyes"]
    world.leaves("#dev: card ⏹️ Stopped", "#dev: ⏹️ Stopped", "outbox: stop")


async def test_a_reply_lets_a_stopped_run_go_on(world: Story) -> None:
    """Nothing is lost: the same conversation takes the next words."""
    asked = await working(world)
    await world.alice.says("stop", thread=asked)
    await world.passes(6)
    await world.alice.says("now only the links", thread=asked)
    await world.passes(6)

    assert world.conversation.messages == ["fix README", "now only the links"]
    assert world.card().state == "Working"
    assert world.card().lines[0].startswith("Asked by ")

    world.openhands.finish(world.conversation, "Fixed the links.")
    await world.passes(4)

    assert world.card().state == "Done"
    world.leaves("#dev: ⏹️ Stopped", "#dev: ✅ Done")


async def test_stop_with_more_words_is_for_the_agent(world: Story) -> None:
    """A word is a command only when it stands alone."""
    asked = await working(world)
    await world.alice.says("stop using tabs", thread=asked)
    await world.passes(6)

    assert world.conversation.messages == ["fix README", "stop using tabs"]
    assert world.card().state == "Working"


async def test_stop_before_anything_was_started_calls_it_off(world: Story) -> None:
    """While Slack takes no card nothing is started; what was stopped meanwhile never is."""
    world.slack.fail("chat.postMessage", status=429, retry_after=10)
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.alice.says("stop", thread=asked)
    await world.passes(20)

    assert world.card().state == "Cancelled"
    assert world.card().lines[0] == f"Cancelled by <@{world.alice.id}> before anything was started."
    assert len(world.openhands.conversations) == 0


async def test_stop_while_starting_is_kept_until_it_can_be_done(world: Story) -> None:
    """OpenHands can't be interrupted before the conversation is there; the card says that it will be."""
    world.openhands.start_seconds = 45
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(10)
    await world.bob.says("stop", thread=asked)
    await world.passes(10)
    assert world.card().state == "Starting"
    assert world.card().lines[0] == f"Stop requested by <@{world.bob.id}>."

    await world.passes(40)

    assert (world.conversation.state, world.conversation.interrupts) == ("paused", 1)
    assert world.card().state == "Stopped"
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\nStopped by <@{world.bob.id}>. Reply here to continue."]


async def test_replies_that_waited_for_the_start_are_withdrawn_with_it(world: Story) -> None:
    """What was not sent yet is not sent any more, and the thread is told so."""
    world.openhands.start_seconds = 45
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.alice.says("and the licence", thread=asked)
    await world.bob.says("and the changelog", thread=asked)
    await world.passes(10)
    await world.alice.says("stop", thread=asked)
    await world.passes(60)

    assert world.conversation.messages == ["fix README"]
    assert world.card().state == "Stopped"
    assert world.news() == [
        words.withdrawn(2),
        "⏹️ Stopped\nReply here to continue.",
    ]


async def test_stop_does_not_wait_behind_a_message_on_its_way(world: Story) -> None:
    """A message waits for the running command; the stop does not, and what the message woke is stopped again."""
    asked = await working(world)
    world.openhands.work_on(world.conversation, "make test", seconds=25)
    on_its_way = await world.alice.says("and the licence", thread=asked)
    behind_it = await world.alice.says("and the changelog", thread=asked)
    await world.bob.says("stop", thread=asked)
    await world.passes(30)

    assert world.conversation.messages == ["fix README", "and the licence"]
    assert world.conversation.state == "paused"
    assert world.card().state == "Stopped"
    assert world.reactions(on_its_way) == ["eyes"]
    assert world.reactions(behind_it) == []
    assert world.news() == [
        words.withdrawn(1),
        f"<@{world.alice.id}> ⏹️ Stopped\nStopped by <@{world.bob.id}>. Reply here to continue.",
    ]


async def test_what_was_stopped_twice_was_stopped_by_the_first(world: Story) -> None:
    """Two people stop it at once: one stop, told once, with the name of who was first."""
    world.openhands.start_seconds = 45
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(10)
    await world.alice.says("stop", thread=asked)
    await world.bob.says("stop", thread=asked)
    await world.passes(60)

    assert world.news() == ["⏹️ Stopped\nReply here to continue."]
    world.leaves("#dev: card ⏹️ Stopped", "bob alone: There is nothing to stop")


async def test_a_run_that_waits_for_an_answer_is_stopped_at_once(world: Story) -> None:
    """Nobody works there, so there is nothing to interrupt."""
    asked = await working(world)
    world.openhands.ask(world.conversation, "Which licence do you want?")
    await world.passes(4)
    await world.alice.says("stop", thread=asked)
    await world.passes(4)

    assert world.card().state == "Stopped"
    assert world.news()[1:] == ["⏹️ Stopped\nReply here to continue."]
    assert world.conversation.interrupts == 0


async def test_a_paused_run_is_stopped_at_once(world: Story) -> None:
    """Nobody works there; from then on it counts as stopped, and a reply still goes on."""
    asked = await working(world)
    world.openhands.someone_pauses(world.conversation)
    await world.passes(4)
    await world.bob.says("stop", thread=asked)
    await world.passes(4)
    assert world.card().state == "Stopped"
    assert world.card().lines[0] == f"Stopped by <@{world.bob.id}>. Reply here to continue."

    await world.alice.says("go on", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "go on"]
    assert world.card().state == "Working"
    world.leaves("#dev: ⏸️ Paused", "#dev: ⏹️ Stopped")


async def test_stop_while_an_approval_is_wanted_rejects_the_action(world: Story) -> None:
    """Stopping must not carry out what nobody approved."""
    asked = await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Remove the build")
    await world.passes(4)
    await world.alice.says("stop", thread=asked)
    await world.passes(10)

    assert world.conversation.pending == []
    assert [event["kind"] for event in world.conversation.events if "Reject" in event["kind"]] == [
        "UserRejectObservation"
    ]
    assert world.card().state == "Stopped"
    assert world.card().lines[0] == f"Stopped by <@{world.alice.id}>. Reply here to continue."
    world.leaves("#dev: ⏹️ Stopped", "#dev: ✋ Needs approval")


async def test_where_the_run_is_over_there_is_nothing_to_stop(world: Story) -> None:
    """Said to the person alone; the run stays what it was."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    await world.bob.says("stop", thread=asked)
    await world.passes(4)

    assert world.bob.sees() == ["There is nothing to stop: it's done."]
    assert world.card().state == "Done"
    assert world.conversation.interrupts == 0
    assert len(world.news()) == 1


async def test_an_end_that_was_quicker_than_the_stop_is_told_as_it_was(world: Story) -> None:
    """The agent finished before it could be interrupted: done is done."""
    asked = await working(world)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.bob.says("stop", thread=asked)
    await world.passes(10)

    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]


async def test_the_command_stops_the_persons_only_run(world: Story) -> None:
    """Commands can't be typed in threads; with one live run in the channel there is no doubt."""
    await working(world)
    await world.bob.commands("stop", in_="#dev")
    assert world.bob.sees() == [words.no_run_of_yours()]

    stopped = await world.alice.commands("stop", in_="#dev")
    await world.passes(6)

    assert stopped.acked
    assert world.alice.sees() == [words.stopping(permalink(world, world.cards()[0]))]
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped", "outbox: stop")


async def test_with_several_runs_the_command_asks_which(world: Story) -> None:
    """It does not guess: the list links to each thread, where one word is enough."""
    first = await world.alice.says("@OpenHands fix README in org/repo")
    second = await world.alice.says("@OpenHands fix LICENSE in org/repo")
    await world.passes(6)
    await world.alice.commands("stop", in_="#dev")
    await world.passes(6)

    cards = {card.thread_ts: card.ts.replace(".", "") for card in world.cards()}
    base = f"{world.slack.workspace_url}archives/{first.channel}/p"
    [told] = world.alice.sees()
    head, *listed = told.split("\n")
    by = f" in `org/repo`, asked by <@{world.alice.id}> <!date^"
    assert (head, [line.partition(by)[0] for line in listed]) == (
        words.which_run(),
        [
            f"• 🛠️ Working: <{base}{cards[one.ts]}?thread_ts={one.ts}&amp;cid={first.channel}|fix {what}>"
            for one, what in ((second, "LICENSE"), (first, "README"))
        ],
    )
    assert [one.interrupts for one in world.openhands.conversations.values()] == [0, 0]


async def test_where_the_agent_server_is_out_of_reach_its_sandbox_is_paused(world: Story) -> None:
    """Stop means stop: the second way works through the server that answers."""
    asked = await working(world)
    world.openhands.break_next("interrupt", drop=True)
    await world.alice.says("stop", thread=asked)
    await world.passes(10)

    assert world.conversation.sandbox_status == "PAUSED"
    assert world.card().state == "Stopped"
    assert world.card().lines[0] == f"Stopped by <@{world.alice.id}>. Reply here to continue."
    world.leaves("#dev: ⏹️ Stopped")


async def test_an_agent_that_is_deaf_to_interrupts_has_its_sandbox_paused(world: Story) -> None:
    """Frozen in mid-run it shows as working for ever: the card says that nothing new is seen, and Stop still ends it."""
    asked = await working(world)
    world.conversation.frozen = True
    await world.passes(1300)
    assert world.card().state == "Working"
    assert any("shows nothing new of this run since" in line for line in world.card().lines)
    assert world.news() == []

    await world.bob.says("stop", thread=asked)
    await world.passes(60)
    assert world.conversation.sandbox_status == "PAUSED"
    assert world.card().state == "Stopped"
    assert len(world.news()) == 1
