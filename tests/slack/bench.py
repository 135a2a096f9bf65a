"""The gateway on a local Slack, over HTTP, with a clock moved by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from bot.core.model import ChannelId, TeamId, UserId
from bot.core.pacing import Patience
from bot.simulator.slack import LocalSlack
from bot.slack.gateway import Gateway
from bot.slack.recognise import Identity
from tests.conftest import HandClock


@dataclass
class Bench:
    """A local Slack with alice in #dev, the bot too."""

    slack: LocalSlack
    clock: HandClock
    gateway: Gateway
    alice: UserId
    dev: ChannelId

    @property
    def us(self) -> Identity:
        slack = self.slack
        return Identity(TeamId(slack.team_id), UserId(slack.bot_user_id), slack.bot_id, slack.workspace_url)

    def called(self) -> list[str]:
        """Return the calls Slack has seen."""
        return [call.method for call in self.slack.calls]


@asynccontextmanager
async def gateway(
    api_url: str, clock: HandClock, *, token: str = "xoxb-any", timeout_s: float = 10
) -> AsyncIterator[Gateway]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
        yield Gateway(token, api_url, session, clock, Patience())


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Open both; Slack must have nothing to complain of at the end."""
    clock = HandClock()
    slack = LocalSlack(now=clock.now)
    alice = UserId(slack.add_user("alice"))
    dev = ChannelId(slack.add_channel("dev", members=[alice]))
    await slack.start()
    try:
        async with gateway(slack.api_url, clock, token=slack.bot_token) as made:
            yield Bench(slack, clock, made, alice, dev)
    finally:
        await slack.stop()
    assert slack.violations == []
