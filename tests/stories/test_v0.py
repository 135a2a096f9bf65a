"""The older API: what it can tell is told, what it can't is said."""

from bot.core import words
from bot.core.model import Reason, RunState
from tests.conftest import Card, Make, Story
from tests.stories.shared import ON_IT, ONLY_THERE, SINCE, asked_by, why


async def v0(make_world: Make, *, events: bool = True, stop: bool = True) -> Story:
    """Have a V0 server, with or without the calls that only some of them have."""
    return await make_world(openhands={"api": "v0", "v0_events": events, "v0_stop": stop}, notify_channel="#news")


async def test_a_run_is_told_to_its_end(make_world: Make) -> None:
    """Where the server has events, the end and the agent's words are the same as on V1."""
    world = await v0(make_world)
    asked = await world.alice.commands("fix README in org/repo", in_="#dev")
    assert asked.ack_text == ON_IT
    await world.passes(6)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))

    world.openhands.finish(world.conversation, "Fixed two links in https://github.com/org/repo/pull/3")
    await world.passes(4)
    pull_request = "Pull requests: <https://github.com/org/repo/pull/3|org/repo #3>"
    assert world.card() == Card(
        "Done",
        "fix README",
        (
            "Fixed two links in https://github.com/org/repo/pull/3",
            pull_request,
            f"{asked_by(world)} · took 8 s",
        ),
    )
    assert world.news() == [
        f"<@{world.alice.id}> ✅ Done\nFixed two links in https://github.com/org/repo/pull/3\n{pull_request}"
    ]
    assert len(world.news("#news")) == 1


async def test_the_start_is_exactly_what_the_guide_says(make_world: Make) -> None:
    """Two fields and nothing else: servers refuse any other. A branch is a sentence of the message."""
    world = await v0(make_world)
    await world.alice.commands("fix README in org/repo on branch dev", in_="#dev")
    await world.passes(4)

    [start] = [call for call in world.openhands.calls if call.kind == "start"]
    assert (start.method, start.path) == ("POST", "/api/conversations")
    assert start.body == {
        "initial_user_msg": "fix README\n\nWork on the branch dev.",
        "repository": "org/repo",
    }
    world.leaves("#dev: card 🛠️ Working")


async def test_a_model_is_refused_in_words(make_world: Make) -> None:
    """This API lets nobody choose one: better said than ignored."""
    world = await v0(make_world)
    await world.alice.commands("--model gpt-9 fix README in org/repo", in_="#dev")
    await world.passes(4)

    no_model = why(Reason.MODEL_UNSUPPORTED)
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{no_model}"]
    assert world.openhands.conversations == {}
    world.leaves("#dev: card ❌ Failed")
    world.logged("run.changed")


async def test_a_question_is_answered_in_the_thread(make_world: Make) -> None:
    """The agent's plain message ends its turn; the reply goes on."""
    world = await v0(make_world)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.ask(world.conversation, "Which README?")
    await world.passes(6)
    assert world.news() == [f"<@{world.alice.id}> 💬 Has a question\nWhich README?\nReply here to answer."]

    await world.bob.says("the first", thread=world.cards()[0])
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(6)
    assert world.conversation.messages == ["fix README", "the first"]
    assert world.news()[1:] == [f"<@{world.bob.id}> ✅ Done\nFixed two links."]
    world.leaves("#dev: card ✅ Done")


async def test_a_failure_is_told_with_its_reason(make_world: Make) -> None:
    """The reason stands in the change of state; it is told in people's words."""
    world = await v0(make_world)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.fail(world.conversation)
    await world.passes(6)

    refused = why(Reason.MODEL_KEY)
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{refused}"]
    world.leaves("#dev: card ❌ Failed")


async def test_a_stop_is_a_stop_of_the_runtime(make_world: Make) -> None:
    """The card says who stopped it, and the next reply wakes it."""
    world = await v0(make_world)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    await world.bob.says("stop", thread=world.cards()[0])
    await world.passes(6)
    stopped = f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\n{stopped}"]
    assert world.conversation.interrupts == 1

    await world.alice.says("go on", thread=world.cards()[0])
    await world.passes(12)
    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README", "go on"]


async def test_a_reply_waits_until_the_agent_listens(make_world: Make) -> None:
    """A message to a starting runtime would be taken and never answered."""
    world = await make_world(openhands={"api": "v0", "start_seconds": 14.0})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.alice.says("and the docs", thread=world.cards()[0])
    await world.passes(6)
    assert [call.kind for call in world.openhands.calls].count("send") == 0

    await world.passes(30)
    assert world.conversation.messages == ["fix README", "and the docs"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_deleted_conversation_is_lost(make_world: Make) -> None:
    """The server answers 200 with null; people are told that it is gone."""
    world = await v0(make_world)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.vanish(world.conversation)
    await world.passes(330)

    gone = why(Reason.GONE)
    assert world.news() == [f"<@{world.alice.id}> ⚠️ Lost\n{gone}"]
    world.leaves("#dev: card ⚠️ Lost")


async def test_a_key_refused_later_is_told(make_world: Make) -> None:
    """The guide's AuthenticationError, as this server words it."""
    world = await v0(make_world)
    world.openhands.key = "another"
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)

    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(Reason.KEY_REFUSED)}"]
    world.leaves("#dev: card ❌ Failed")
    world.logged("run.changed")


async def test_the_guides_authentication_error_is_about_the_repository_once_the_key_has_worked(
    make_world: Make,
) -> None:
    """The guide has one error for three things; what a good key meets is the repository."""
    world = await v0(make_world)
    world.openhands.break_next("start", status=401, body={"error": "AuthenticationError"}, times=2)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)

    question = why(Reason.REPOSITORY, RunState.NEEDS_REPOSITORY, repository="org/repo")
    assert world.news() == [f"<@{world.alice.id}> ❔ Which repository?\n{question}"]
    assert world.card().lines[0] == question


async def test_without_events_the_card_says_that_only_the_running_is_told(make_world: Make) -> None:
    """Nobody is left to wait for an answer: STOPPED is the end, and the result is only there."""
    world = await v0(make_world, events=False)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE} · {ONLY_THERE}",))

    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    assert world.card().state == "Working"
    world.openhands.fall_asleep(world.conversation)
    await world.passes(10)
    assert (world.card().state, world.card().lines[0], len(world.card().lines)) == ("Done", ONLY_THERE, 2)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\n{ONLY_THERE}"]
    assert len(world.news("#news")) == 1


async def test_without_a_call_for_messages_a_reply_is_declined_in_words(make_world: Make) -> None:
    """Its author learns where to write instead."""
    world = await v0(make_world, events=False)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    said = await world.bob.says("and the docs", thread=world.cards()[0])
    await world.passes(6)

    address = f"{world.openhands.base_url}/conversations/{world.conversation.id}"
    assert world.news() == [f"<@{world.bob.id}> {words.follow_up_unsupported(address)}"]
    message = world.slack.message(world.place("#dev"), said.ts)
    assert message is not None
    assert list(message.reactions) == ["x"]
    world.leaves("#dev: x on a message")


async def test_without_a_call_for_stop_the_run_goes_on_and_that_is_said(make_world: Make) -> None:
    """The card does not claim that a stop is on its way."""
    world = await v0(make_world, stop=False)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    await world.bob.says("stop", thread=world.cards()[0])
    await world.passes(8)

    address = f"{world.openhands.base_url}/conversations/{world.conversation.id}"
    assert world.news() == [f"<@{world.bob.id}> {words.cannot_stop(address)}"]
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
