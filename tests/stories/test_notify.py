"""The team hears, in its own channel, what somebody has to know of; one line each."""

from bot.core import words
from bot.simulator.slack.records import Message
from tests.conftest import Make, Story


def thread_of(world: Story, card: Message) -> str:
    """Link to a run's thread as people follow it."""
    place = f"{world.slack.workspace_url}archives/{card.channel}/p{card.ts.replace('.', '')}"
    return f"<{place}|thread>"


async def test_the_team_hears_that_a_run_is_done(world: Story) -> None:
    """State, task, requester, repository, duration, and the way to the thread."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(124)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(60)

    [card] = world.cards()
    [line] = world.posts("#news")
    assert line.text.startswith(f"✅ Done: fix README · `org/repo` · for <@{world.alice.id}> · 2 min ")
    assert line.text.endswith(f" · {thread_of(world, card)}")
    assert (line.thread_ts, line.mentions, line.broadcasts) == (None, frozenset(), frozenset())
    world.leaves("#dev: ✅ Done")


async def test_the_team_hears_of_failures_questions_and_approvals(world: Story) -> None:
    """Each time somebody has to look; the answer itself stays in the thread."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.ask(world.conversation, "Which licence do you want?")
    await world.passes(4)
    await world.alice.says("MIT", thread=asked)
    await world.passes(4)
    world.openhands.want_approval(world.conversation, "git push", summary="Push")
    await world.passes(4)
    world.openhands.respond(world.conversation, accept=True, reason="")
    await world.passes(60)
    world.openhands.fail(world.conversation)
    await world.passes(60)

    assert [line.split(" · ")[0] for line in world.news("#news")] == [
        "💬 Has a question: fix README",
        "✋ Needs approval: fix README",
        "❌ Failed: fix README",
    ]
    assert all("licence" not in line and "git push" not in line for line in world.news("#news"))
    world.leaves(
        "#dev: card ❌ Failed",
        "#dev: eyes, x on a message",
        "#dev: ✋ Needs approval",
        "#dev: ❌ Failed",
        "#dev: 💬 Has a question",
    )


async def test_the_team_hears_that_a_run_is_lost(world: Story) -> None:
    """It ended, though not as anybody wanted."""
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.vanish(world.conversation)
    await world.passes(330)

    assert [line.split(" · ")[0] for line in world.news("#news")] == ["⚠️ Lost: fix README"]
    world.leaves("#dev: card ⚠️ Lost", "#dev: eyes, x on a message", "#dev: ⚠️ Lost")


async def test_the_team_is_not_told_what_nobody_has_to_know(world: Story) -> None:
    """Not that a run starts, works, is paused, or was stopped by its own people."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(10)
    world.openhands.someone_pauses(world.conversation)
    await world.passes(10)
    await world.alice.says("go on", thread=asked)
    await world.passes(10)
    await world.alice.says("stop", thread=asked)
    await world.passes(10)

    assert world.card().state == "Stopped"
    assert world.posts("#news") == []
    world.leaves("#dev: ⏸️ Paused", "#dev: ⏹️ Stopped")


async def test_of_private_places_the_team_hears_no_words(world: Story) -> None:
    """No text of one place shows up in another: only state, requester and link."""
    world.channel("#secret", world.alice, private=True)
    await world.alice.says("@OpenHands fix the leak in org/secret", in_="#secret")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed the leak.")
    await world.passes(4)

    [card] = world.cards("#secret")
    [line] = world.news("#news")
    assert line.startswith(f"✅ Done · for <@{world.alice.id}> · <{world.slack.workspace_url}archives/{card.channel}/")
    assert "leak" not in line
    assert "org/secret" not in line
    world.leaves("#secret: ✅ Done")


async def test_of_direct_messages_the_team_hears_no_words(world: Story) -> None:
    """The same for what somebody asked the bot alone."""
    await world.alice.says("fix the leak in org/secret", in_="dm")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed the leak.")
    await world.passes(4)

    [line] = world.news("#news")
    assert line.startswith(f"✅ Done · for <@{world.alice.id}> · <")
    assert "leak" not in line
    assert "org/secret" not in line
    world.leaves("dm: card ✅ Done", "dm: ✅ Done")


async def test_the_thread_of_a_private_place_is_not_given_to_the_agent(world: Story) -> None:
    """What the agent writes into a pull request may be public."""
    world.channel("#secret", world.alice, private=True)
    await world.alice.says("@OpenHands fix the leak in org/secret", in_="#secret")
    await world.passes(4)

    assert world.conversation.suffix == words.about_for_agent("alice", None)
    world.leaves("#secret: card 🛠️ Working")


async def test_without_a_channel_for_it_the_team_is_not_told(make_world: Make) -> None:
    """NOTIFY_CHANNEL is optional; the thread is told either way."""
    world = await make_world()
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)

    assert world.posts("#news") == []
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    world.leaves("#dev: card ✅ Done")


async def test_the_teams_channel_may_be_named_by_its_id(make_world: Make) -> None:
    """Names change, ids stay."""
    world = await make_world(start=False)
    world.given = {"notify_channel": world.place("#news")}
    await world.starts()
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)

    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ✅ Done", "#dev: ✅ Done")


async def test_a_channel_that_is_not_there_yet_is_looked_up_again(make_world: Make) -> None:
    """A wrong NOTIFY_CHANNEL stops nothing; once the channel exists it is used, without a restart."""
    world = await make_world(notify_channel="#late")
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    assert world.card().state == "Done"

    world.channel("#late")
    await world.bob.says("@OpenHands fix LICENSE in org/repo")
    await world.passes(4)
    world.openhands.finish(world.openhands.find("fix LICENSE"), "Fixed it.")
    await world.passes(4)

    assert [line.split(" · ")[0] for line in world.news("#late")] == ["✅ Done: fix LICENSE"]
    world.leaves("#dev: card ✅ Done", "#dev: ✅ Done", "#dev: ✅ Done")
    world.logged("notify.channel_not_found")


async def test_where_the_bot_may_not_post_the_team_is_not_told_but_the_thread_is(world: Story) -> None:
    """A notification nobody can take holds up nothing."""
    world.slack.leave(world.place("#news"), world.slack.bot_user_id)
    await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)

    assert world.posts("#news") == []
    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    world.logged("slack.refused")
