"""Slack's limits, kept before Slack has to name them."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.core.owed import POST
from bot.slack.budget import EDIT, Budget

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DEV, NEWS = "C1", "C2"


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def admitted(budget: Budget, method: str, times: int, seconds: float) -> int:
    """Ask so often, all at once, and count how often it was granted."""
    return sum(budget.admit(method, DEV, at(seconds)) is None for _ in range(times))


def admitted_live(budget: Budget, times: int, seconds: float, *, at_work: int = 0) -> int:
    return sum(budget.admit_live_edit(at_work, at(seconds)) is None for _ in range(times))


def test_one_message_a_second_in_each_channel() -> None:
    """Another channel has its own second; asking early costs nothing."""
    budget = Budget()
    asked = [(DEV, 0), (DEV, 0.4), (NEWS, 0.5), (DEV, 1), (DEV, 1.2), (NEWS, 1.5)]
    answers = [budget.admit(POST, channel, at(seconds)) for channel, seconds in asked]
    assert answers == [None, at(1), None, None, at(2), None]


@pytest.mark.parametrize(
    ("method", "limit"),
    [(EDIT, 50), ("reactions.add", 50), ("conversations.replies", 50), ("users.info", 100), ("conversations.list", 20)],
)
def test_so_many_calls_a_minute(method: str, limit: int) -> None:
    """The next one when the oldest is a minute old; all channels count together, each method by itself."""
    budget = Budget()
    first = admitted(budget, method, 1, 0), admitted(budget, method, limit + 10, 10)
    refused = budget.admit(method, NEWS, at(20))
    then = [budget.admit(method, NEWS, at(60)), budget.admit(method, NEWS, at(60))]
    assert (first, refused, then) == ((1, limit - 1), at(60), [None, at(70)])


def test_methods_do_not_share_a_budget() -> None:
    """Used up for one, the other goes on."""
    budget = Budget()
    assert [admitted(budget, method, 60, 0) for method in (EDIT, "reactions.add")] == [50, 50]


# --- edits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at_work", "live"), [(0, 40), (5, 40), (6, 39), (30, 15), (40, 5), (1000, 5)])
def test_edits_of_live_cards_leave_room_for_the_end_of_each_run_at_work(at_work: int, live: int) -> None:
    """And for five more; but even then they have five a minute."""
    budget = Budget()
    shown = admitted_live(budget, 60, 0, at_work=at_work)
    final = admitted(budget, EDIT, 60, 1)
    assert (shown, final) == (live, 50 - live)


def test_final_states_do_not_take_the_share_of_live_cards() -> None:
    """However many there were, live cards have theirs as long as five places are left for final states."""
    budget = Budget()
    final = admitted(budget, EDIT, 30, 0)
    live = admitted_live(budget, 60, 1, at_work=20)
    more = admitted(budget, EDIT, 60, 2)
    assert (final, live, more) == (30, 15, 5)


def test_a_live_edit_waits_until_there_is_room_for_it() -> None:
    """The time named is the first at which it would be granted."""
    budget = Budget()
    admitted_live(budget, 3, 0, at_work=30)
    admitted_live(budget, 12, 10, at_work=30)
    named = budget.admit_live_edit(30, at(20))
    few_at_work = budget.admit_live_edit(0, at(20))
    assert (named, few_at_work) == (at(60), None)


def test_with_many_final_states_live_edits_wait_for_those() -> None:
    """Five places of all fifty are none of theirs."""
    budget = Budget()
    admitted(budget, EDIT, 2, 0)
    admitted(budget, EDIT, 43, 10)
    named = budget.admit_live_edit(0, at(20))
    assert [named, admitted_live(budget, 1, 59.9), admitted_live(budget, 3, 60)] == [at(60), 0, 2]


# --- what Slack closed ------------------------------------------------------------------------------------------


def test_a_method_that_slack_closed() -> None:
    """Nothing of it until then, whatever its own count says; others are not affected."""
    budget = Budget()
    budget.close(EDIT, DEV, at(30), at(0))
    answers = [budget.admit(EDIT, channel, at(seconds)) for channel, seconds in [(DEV, 0), (NEWS, 29)]]
    live, other = budget.admit_live_edit(0, at(29)), budget.admit("reactions.add", DEV, at(0))
    after = budget.admit(EDIT, DEV, at(30))
    assert (answers, live, other, after) == ([at(30), at(30)], at(30), None, None)


def test_a_refused_post_closes_its_channel_alone() -> None:
    """Slack does not say whose limit it was: another channel's news goes on."""
    budget = Budget()
    budget.close(POST, DEV, at(30), at(0))
    budget.close(POST, DEV, at(40), at(30))
    closed = [budget.closed(POST, channel, at(35)) for channel in (DEV, NEWS)]
    assert (closed, budget.admit(POST, DEV, at(40))) == ([at(40), None], None)


def test_two_refused_channels_close_them_all() -> None:
    """The second within the wait of the first: it is the workspace's limit."""
    budget = Budget()
    budget.close(POST, DEV, at(30), at(0))
    budget.close(POST, NEWS, at(40), at(10))
    closed = [budget.closed(POST, channel, at(20)) for channel in (DEV, NEWS, "C3")]
    assert (closed, budget.closed(POST, "C3", at(40))) == ([at(40), at(40), at(40)], None)


def test_refusals_one_after_the_other_are_two_channels_own() -> None:
    """The first one's wait was over."""
    budget = Budget()
    budget.close(POST, DEV, at(30), at(0))
    budget.close(POST, NEWS, at(50), at(30))
    assert [budget.closed(POST, channel, at(30)) for channel in (DEV, NEWS, "C3")] == [None, at(50), None]


def test_a_limit_of_the_whole_workspace() -> None:
    """Where Slack says so no channel is tried."""
    budget = Budget()
    budget.close(POST, "", at(120), at(0))
    assert [budget.closed(POST, channel, at(119)) for channel in (DEV, NEWS)] == [at(120), at(120)]


def test_a_clock_that_was_put_back_closes_nothing() -> None:
    """What was noted before lies an hour ahead now, and would be waited for."""
    budget = Budget()
    budget.close(EDIT, "", NOW + timedelta(seconds=30), NOW)
    assert budget.admit(EDIT, "", NOW) is not None
    assert budget.admit(EDIT, "", NOW - timedelta(hours=1)) is None
