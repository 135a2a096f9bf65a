"""Every kind of outbox row has somebody who does it."""

from pathlib import Path

from bot.context import Context
from bot.core.owed import OutboxKind
from bot.core.pacing import Patience
from bot.door import Door
from bot.effects import Links
from bot.openhands.repositories import Repositories
from bot.outbound.to_openhands import ToOpenHands
from bot.outbound.to_slack import ToSlack
from bot.slots import Limits
from bot.store.database import open_database
from tests.inbound.test_catch_up import no_openhands
from tests.slack.bench import bench
from tests.store.bench import file_in


async def test_each_kind_is_done_by_one_handler(tmp_path: Path) -> None:
    """A kind that nobody does would stay owed for ever, in silence."""
    async with bench() as at:
        us, _ = await at.gateway.identity()
        database = await open_database(file_in(tmp_path))
        ctx = Context(
            database=database,
            gateway=at.gateway,
            door=Door(at.gateway, us),
            openhands=no_openhands,
            repositories=Repositories(no_openhands, at.clock, Patience()),
            links=Links(us, "https://openhands.example", notifies=False),
            limits=Limits(slots=10, full_s=60.0),
            clock=at.clock,
            patience=Patience(),
        )
        to_slack, to_openhands = ToSlack(ctx, notify_channel=None).kinds, ToOpenHands(ctx).kinds
        await database.close()
    assert sorted([*to_slack, *to_openhands]) == sorted(OutboxKind)
