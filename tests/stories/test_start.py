"""How a run begins: a command, a mention, a direct message."""

from tests.conftest import Story


async def test_a_command_becomes_a_run_told_to_its_end(world: Story) -> None:
    """The sentence the product is for."""
    asked = await world.alice.commands("fix README in org/repo", in_="#dev")
    assert asked.ack_text == "On it. A card for this run appears in the channel in a moment."
    assert world.card().state == "Starting"
    await world.passes(4)
    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README"]
    assert world.conversation.repository == "org/repo"

    world.openhands.finish(world.conversation, "Fixed **two** links in https://github.com/org/repo/pull/3", cost=0.12)
    await world.passes(4)

    card = world.card()
    assert card.state == "Done"
    assert card.task == "fix README"
    assert card.lines == (
        "Fixed two links in https://github.com/org/repo/pull/3",
        "Pull requests: <https://github.com/org/repo/pull/3|org/repo #3>",
        f"Asked by <@{world.alice.id}> · `org/repo` · took 6 s · $0.12",
    )
    assert world.news() == [
        f"<@{world.alice.id}> ✅ Done\n"
        "Fixed two links in https://github.com/org/repo/pull/3\n"
        "Pull requests: <https://github.com/org/repo/pull/3|org/repo #3>"
    ]
    [line] = world.news("#news")
    assert line.startswith(f"✅ Done: fix README, asked by <@{world.alice.id}> · `org/repo` · 6 s · <https://")
