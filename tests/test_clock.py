"""The machine's own time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bot.clock import WallClock

SOON_S = 0.02
LATE_S = 5.0  # real seconds after which a test counts as hung


def test_now_is_utc() -> None:
    """Aware, and the machine's."""
    before, now, after = datetime.now(UTC), WallClock().now(), datetime.now(UTC)
    assert (now.tzinfo, before <= now <= after) == (UTC, True)


async def test_waiting_ends_at_the_time() -> None:
    """Not before it, and the event is left as it is."""
    clock, event = WallClock(), asyncio.Event()
    until = clock.now() + timedelta(seconds=SOON_S)
    async with asyncio.timeout(LATE_S):
        await clock.wait(event, until)
    assert (clock.now() >= until, event.is_set()) == (True, False)


@pytest.mark.parametrize("until", [None, datetime(9999, 1, 1, tzinfo=UTC)])
async def test_waiting_ends_with_the_event(until: datetime | None) -> None:
    """Long before the time, if there is one; whoever waited clears the event."""
    event = asyncio.Event()
    waiting = asyncio.create_task(WallClock().wait(event, until))
    await asyncio.sleep(0)
    event.set()
    async with asyncio.timeout(LATE_S):
        await waiting
    assert event.is_set()


@pytest.mark.parametrize("event", [None, asyncio.Event()])
async def test_a_time_that_is_past_is_not_waited_for(event: asyncio.Event | None) -> None:
    """Late is now."""
    async with asyncio.timeout(LATE_S):
        await WallClock().wait(event, datetime(2000, 1, 1, tzinfo=UTC))


async def test_waiting_for_nothing_ends_when_it_is_cancelled() -> None:
    """Neither event nor time: only the end of the task ends it."""
    waiting = asyncio.create_task(WallClock().wait(None, None))
    done, _ = await asyncio.wait([waiting], timeout=SOON_S)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == set()


async def turns(number: int) -> None:
    """Let the event loop turn so often."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("late", range(4))
async def test_a_loop_told_to_end_as_it_is_woken_ends(late: int) -> None:
    """A cancellation is heard at every moment, that of the event included."""
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
