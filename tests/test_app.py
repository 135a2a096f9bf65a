"""The loops end together."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from bot import settings
from bot.app import Bot


async def fails(word: str) -> None:
    raise RuntimeError(word)


async def fails_at_the_end(word: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        raise RuntimeError(word)


@pytest.mark.parametrize("loops", [(fails, fails), (fails, fails_at_the_end)], ids=["at once", "as it is ended"])
async def test_the_error_of_one_loop_hides_no_other(loops: tuple[Any, Any]) -> None:
    """The first is raised, and ends the process; the others are in the log."""
    given = {"slack_bot_token": "xoxb-1", "slack_app_token": "xapp-1"}
    bot = Bot(settings.load(_env_file=None, **given))
    first, second = loops
    running: list[Coroutine[Any, Any, None]] = [first("one"), second("two")]
    with capture_logs() as logged, pytest.raises(RuntimeError, match="one"):
        await bot._loops(*running)
    assert [(line["event"], str(line["exc_info"])) for line in logged] == [("app.loop_failed", "two")]
