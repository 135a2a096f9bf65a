"""The wall clock."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bot.clock import WallClock

SOON_S = 0.02
LATE_S = 5.0  # real seconds after which a test counts as hung


def test_now_is_utc() -> None:
    """The time is aware and the machine's own."""
    before, now, after = datetime.now(UTC), WallClock().now(), datetime.now(UTC)
    assert (now.tzinfo, before <= now <= after) == (UTC, True)


async def test_waiting_ends_at_the_time() -> None:
    """It does not end earlier, and it leaves the event unchanged."""
    clock, event = WallClock(), asyncio.Event()
    until = clock.now() + timedelta(seconds=SOON_S)
    async with asyncio.timeout(LATE_S):
        await clock.wait(event, until)
    assert (clock.now() >= until, event.is_set()) == (True, False)


@pytest.mark.parametrize("until", [None, datetime(9999, 1, 1, tzinfo=UTC)])
async def test_waiting_ends_with_the_event(until: datetime | None) -> None:
    """It ends long before the time, if there is one, and leaves the event set."""
    event = asyncio.Event()
    waiting = asyncio.create_task(WallClock().wait(event, until))
    await asyncio.sleep(0)
    event.set()
    async with asyncio.timeout(LATE_S):
        await waiting
    assert event.is_set()


@pytest.mark.parametrize("event", [None, asyncio.Event()])
async def test_a_time_that_is_past_is_not_waited_for(event: asyncio.Event | None) -> None:
    """A time in the past means now."""
    async with asyncio.timeout(LATE_S):
        await WallClock().wait(event, datetime(2000, 1, 1, tzinfo=UTC))


async def test_waiting_for_nothing_ends_when_it_is_cancelled() -> None:
    """Without event and time, only cancelling the task ends it."""
    waiting = asyncio.create_task(WallClock().wait(None, None))
    done, _ = await asyncio.wait([waiting], timeout=SOON_S)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == set()


async def turns(number: int) -> None:
    """Run so many iterations of the event loop."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("late", range(4))
async def test_a_loop_told_to_end_as_it_is_woken_ends(late: int) -> None:
    """No cancellation is lost, even at the moment of the event."""
    event = asyncio.Event()

    async def loop() -> None:
        while True:
            event.clear()
            await WallClock().wait(event, WallClock().now() + timedelta(seconds=LATE_S))

    looping = asyncio.create_task(loop())
    await turns(3)
    event.set()
    await turns(late)
    looping.cancel()
    await asyncio.wait([looping], timeout=SOON_S)
    ended = looping.cancelled()
    looping.cancel()
    assert ended
