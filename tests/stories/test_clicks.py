"""Clicks: until buttons do something, a link button's click is acknowledged and nothing else."""

from tests.conftest import Story


async def test_a_click_on_open_is_acknowledged_and_changes_nothing(world: Story) -> None:
    """Slack sends a click for a link button too, and shows a warning sign where nobody answers it."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    [card] = world.cards()
    before = len(world.slack.calls)

    click = await world.slack.click(world.bob.id, card.channel, card.ts, "open")
    await world.settles()

    assert click.acked_at is not None
    assert not click.ack_payload
    assert world.cards() == [card]
    assert len(world.slack.calls) == before
