"""The production bot in a process of its own, with a short patience, so that a kill test ends today.

Started as `python -m tests.crash.child`; its settings come from the environment, as in production.
"""

import asyncio
import signal

from bot import settings
from bot.app import Bot
from bot.pacing import Patience

HURRY = Patience(
    poll_s=0.2,
    poll_slowest_s=1.0,
    poll_person_s=1.0,
    look_around_s=0.5,
    retry_first_s=0.2,
    retry_slowest_s=1.0,
    slack_timeout_s=5.0,
    openhands_timeout_s=5.0,
    send_timeout_s=5.0,
    start_lookups_s=(0.2, 0.5, 1.0, 1.0),
    start_settled_s=3.0,
    heard_settled_s=2.0,
    post_settled_s=1.0,
    card_gap_s=0.2,
    ping_s=0.5,
)


async def main() -> None:
    bot = Bot(settings.load(), patience=HURRY)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bot.stop)
    await bot.run()


if __name__ == "__main__":
    asyncio.run(main())
