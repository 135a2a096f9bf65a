"""Slack repeats itself, or the line is cut: one request stays one, and what is said afterwards arrives."""

import pytest

from tests.conftest import Story
from tests.stories.shared import working

# --- the same thing again, and cut lines -------------------------------------------------------------------------


async def test_a_redelivered_mention_is_one_request(world: Story) -> None:
    """Both of its events again: the same key, no second run."""
    said = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.slack.redeliver(said.ts)
    await world.passes(10)
    await world.slack.redeliver(said.ts)
    await world.passes(10)

    assert len(world.cards()) == 1
    assert world.conversation.messages == ["fix README"]


async def test_a_redelivered_reply_is_sent_once(world: Story) -> None:
    """The agent reads it once, however often Slack repeats it."""
    card = await working(world)
    said = await world.alice.says("and the docs", thread=card)
    await world.slack.redeliver(said.ts)
    await world.passes(10)
    await world.slack.redeliver(said.ts)
    await world.passes(10)

    assert world.conversation.messages == ["fix README", "and the docs"]


@pytest.mark.parametrize("when", ["before_ack", "after_ack"])
async def test_a_socket_cut_at_the_ack_doubles_nothing(world: Story, when: str) -> None:
    """Whether Slack got the ack or not: one request, one card, one conversation."""
    world.slack.cut_socket(**{when: True})
    await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(70)

    assert len(world.cards()) == 1
    assert world.conversation.messages == ["fix README"]
    world.logged("slack.disconnected")
    world.logged("slack.not_answered")


async def test_a_command_whose_ack_was_cut_off_runs_all_the_same(world: Story) -> None:
    """It was saved before the ack, so its card appears although Slack showed an error."""
    world.slack.cut_socket(before_ack=True)
    asked = await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(10)

    assert asked.failed
    assert len(world.cards()) == 1
    assert world.conversation.messages == ["fix README"]
    world.logged("slack.disconnected")


async def test_a_socket_cut_in_mid_run_is_opened_again(world: Story) -> None:
    """What is said afterwards arrives."""
    card = await working(world)
    world.slack.cut_socket()
    await world.settle()
    await world.alice.says("and the docs", thread=card)
    await world.passes(8)

    assert world.conversation.messages == ["fix README", "and the docs"]
    world.logged("slack.disconnected")


async def test_a_socket_slack_wants_to_renew_is_renewed(world: Story) -> None:
    """Connections last some hours; the change is nothing people notice."""
    card = await working(world)
    world.slack.disconnect("refresh_requested")
    await world.settle()
    await world.alice.says("and the docs", thread=card)
    await world.passes(20)

    assert world.conversation.messages == ["fix README", "and the docs"]
