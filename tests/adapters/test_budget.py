"""Slack's limits, kept before Slack has to name them."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.slack.budget import Budget

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DEV, NEWS = "C1", "C2"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def admitted(budget: Budget, method: str, times: int, seconds: float, *, live: bool = False) -> int:
    """Ask so often, all at once, and count how often it was granted."""
    return sum(budget.admit(method, DEV, at(seconds), live=live) is None for _ in range(times))


def test_one_message_a_second_in_each_channel() -> None:
    """Another channel has its own second; asking early costs nothing."""
    budget = Budget()
    asked = [(DEV, 0), (DEV, 0.4), (NEWS, 0.5), (DEV, 1), (DEV, 1.2), (NEWS, 1.5)]
    answers = [budget.admit("chat.postMessage", channel, at(seconds)) for channel, seconds in asked]
    assert answers == [None, at(1), None, None, at(2), None]


@pytest.mark.parametrize("method", ["chat.update", "reactions.add"])
def test_fifty_calls_a_minute(method: str) -> None:
    """The next one when the oldest is a minute old; all channels count together, each method by itself."""
    budget = Budget()
    first = admitted(budget, method, 1, 0), admitted(budget, method, 60, 10)
    refused = budget.admit(method, NEWS, at(20))
    then = [budget.admit(method, NEWS, at(60)), budget.admit(method, NEWS, at(60))]
    assert (first, refused, then) == ((1, 49), at(60), [None, at(70)])


def test_methods_do_not_share_a_budget() -> None:
    """Used up for one, the other goes on."""
    budget = Budget()
    assert [admitted(budget, method, 60, 0) for method in ("chat.update", "reactions.add")] == [50, 50]


def test_edits_of_live_cards_leave_room_for_final_states() -> None:
    """40 of the 50 edits a minute; final states have the rest, and count for the live ones too."""
    budget = Budget()
    live = admitted(budget, "chat.update", 60, 0, live=True)
    final = admitted(budget, "chat.update", 60, 1)
    waits = [budget.admit("chat.update", DEV, at(2), live=live) for live in (True, False)]
    assert (live, final, waits) == (40, 10, [at(60), at(60)])
    assert [admitted(budget, "chat.update", 60, 60, live=live) for live in (True, False)] == [30, 10]


def test_a_live_edit_waits_until_there_is_room_for_it() -> None:
    """With final states on top, the time named is the first at which fewer than 40 are left."""
    budget = Budget()
    admitted(budget, "chat.update", 5, 0)
    admitted(budget, "chat.update", 40, 10)
    named = budget.admit("chat.update", DEV, at(20), live=True)
    assert named == at(70)
    assert [admitted(budget, "chat.update", 1, seconds, live=True) for seconds in (69.9, 70)] == [0, 1]


def test_a_method_that_slack_closed() -> None:
    """Nothing of it until then, whatever its own count says; others are not affected."""
    budget = Budget()
    budget.close("chat.postMessage", at(30))
    answers = [budget.admit("chat.postMessage", channel, at(seconds)) for channel, seconds in [(DEV, 0), (NEWS, 29)]]
    other = budget.admit("chat.update", DEV, at(0))
    after = budget.admit("chat.postMessage", DEV, at(30))
    assert (answers, other, after) == ([at(30), at(30)], None, None)
