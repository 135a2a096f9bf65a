"""When things happen next."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.pacing import Patience, asked_to_wait, later, on_grid, poll_at, poll_ended_at, retry_at

NOW = datetime(2026, 3, 2, 9, 0, 0, tzinfo=UTC)
USUAL = Patience()


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (1_000, 60)])
def test_retries_double_up_to_the_slowest_pace(attempts: int, seconds: int) -> None:
    """And no number of attempts overflows."""
    assert retry_at(attempts, NOW, USUAL) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(("asked_s", "seconds"), [(30, 30), (1, 1), (0, 1)])
def test_there_is_a_pause_though_none_was_asked_for(asked_s: float, seconds: int) -> None:
    """A limit that names no pause would be a loop without one."""
    assert asked_to_wait(asked_s, NOW, USUAL) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("age_s", "person", "pause_s"),
    [
        (0, False, 2),
        (60, False, 2),
        (119, False, 2),
        (120, False, 4),
        (240, False, 8),
        (480, False, 16),
        (960, False, 30),
        (86_400, False, 30),
        (0, True, 2),
        (960, True, 32),
        (86_400, True, 300),
    ],
)
def test_the_pause_grows_with_the_age_of_the_news(age_s: int, person: bool, pause_s: int) -> None:  # noqa: FBT001 - a table's column
    """On every step in the first minute, then rarer, and rarest where a person must act."""
    now = datetime(2026, 3, 2, 0, 0, 0, tzinfo=UTC)
    at = poll_at(now, news_at=now - timedelta(seconds=age_s), person=person, patience=USUAL)
    assert at == on_grid(now, pause_s)
    assert at - now <= timedelta(seconds=pause_s)


@given(
    now=st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - hypothesis wants them naive
    step=st.sampled_from([0.05, 0.2, 0.5, 1.0, 2.0, 4.0, 30.0]),
)
def test_the_grid_is_ahead_and_the_same_for_all(now: datetime, step: float) -> None:
    """Runs with the same step share their requests."""
    now = now.replace(tzinfo=UTC)
    at = on_grid(now, step)
    assert now < at <= now + timedelta(seconds=step * 1.001)
    assert on_grid(now + (at - now) / 2, step) == at


def test_a_slow_base_is_the_slowest_pace_too() -> None:
    """An operator may ask for one look a minute."""
    slow = Patience(poll_s=60)
    assert poll_at(NOW, news_at=NOW - timedelta(days=1), person=False, patience=slow) == later(NOW, 60)


@pytest.mark.parametrize(
    ("age_s", "pause_s"), [(0, 300), (2_399, 300), (2_400, 600), (4_800, 1_200), (86_399, 19_200), (86_400, None)]
)
def test_what_may_come_back_is_looked_at_more_and_more_rarely(age_s: int, pause_s: int | None) -> None:
    """Every few minutes at first, and after a day no more."""
    now = datetime(2026, 3, 2, 0, 0, 0, tzinfo=UTC)
    at = poll_ended_at(now, ended_at=now - timedelta(seconds=age_s), patience=USUAL)
    assert at == (None if pause_s is None else on_grid(now, pause_s))
