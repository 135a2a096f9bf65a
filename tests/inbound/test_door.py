"""The matrix person × path × place, made from the types: who is refused changes nothing by any way of asking."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count, product
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import select

from bot.context import Context
from bot.core import lifecycle
from bot.core.errors import Unavailable
from bot.core.model import (
    Action,
    ChannelId,
    Command,
    Do,
    Help,
    Incoming,
    IncomingKind,
    MessageTs,
    Person,
    Place,
    Run,
    RunState,
    TeamId,
    Unclear,
    UserId,
    Waiting,
)
from bot.core.owed import TO_OPENHANDS
from bot.core.policy import KEYS, Rule, Rules
from bot.core.vocabulary import WORDS
from bot.door import Door
from bot.inbound.dispatcher import Dispatcher
from bot.openhands import OpenHands
from bot.openhands.repositories import Repositories
from bot.slack.gateway import Spoken
from bot.slack.recognise import Identity
from bot.store import runs
from bot.store.database import Database, open_database
from bot.store.inbox import InboxRow
from bot.store.tables import follow_ups as follow_up_table
from bot.store.tables import outbox as outbox_table
from bot.store.tables import runs as run_table
from tests.openhands.account import Memory, TickingClock
from tests.promises import LIMITS, LINKS, PATIENCE
from tests.store.bench import ALICE, BOB, DEV, TEAM, a_run

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MEMBER = Person(id=BOB, team=TEAM)
PEOPLE: dict[str, Person] = {
    "a guest": replace(MEMBER, guest=True),
    "a stranger": replace(MEMBER, stranger=True),
    "of another company": replace(MEMBER, team=TeamId("TOTHER")),
    "deactivated": replace(MEMBER, deleted=True),
    "another bot": replace(MEMBER, bot=True),
    "not listed": MEMBER,
}
PLACES = {
    "a channel": Place(id=DEV, private=False),
    "a private one": Place(id=DEV, private=True),
    "a shared one": Place(id=DEV, private=False, external=True),
}
NOBODY = Rules(general=Rule(people=dict.fromkeys(KEYS, ())))


class Town(Memory):
    """Slack in memory, where the one who asks and the place can be anything."""

    asks = MEMBER
    where = PLACES["a channel"]

    async def person(self, user: UserId) -> Person:
        return replace(self.asks, id=user)

    async def place(self, channel: ChannelId) -> Place:
        return replace(self.where, id=channel)

    async def spoken(
        self, channel: ChannelId, thread: MessageTs, before: MessageTs, us: Identity, *, after: MessageTs | None = None
    ) -> tuple[list[Spoken], bool]:
        del channel, thread, before, us, after
        return [], True


def offering(action: Action) -> Run:
    """Return a run whose card offers an action."""
    states: list[dict[str, Any]] = [
        {
            "state": state,
            "waiting": waiting,
            "action": "e1",
            "detail": "make",
            "undecided": doubt,
            "candidates": ("o/r",),
        }
        for state in RunState
        for waiting in (None, Waiting.APPROVAL)
        for doubt in (None, "f1")
    ]
    for given in states:
        doubt = given.pop("undecided")
        run = a_run(f"6a6c6d4e-0000-4000-8000-{[*Action].index(action):012d}", doubtful_follow_up=doubt, **given)
        if action in lifecycle.offers(run):
            return replace(run, thread_ts=MessageTs(f"1772442000.{[*Action].index(action):06d}"))
    raise AssertionError(action)


def asked(**given: Any) -> Incoming:
    kind = given.pop("kind", IncomingKind.MESSAGE)
    ts = None if kind is IncomingKind.COMMAND else MessageTs("1772442000.900000")
    return Incoming(key="k", kind=kind, team=TEAM, channel=DEV, user=BOB, ts=ts, **{"text": "", **given})


RUNS = {action: offering(action) for action in Action}
CLICKS = {
    f"click: {action}": asked(
        kind=IncomingKind.CLICK, action=action, value=f"{run.id}:{run.turn}:{lifecycle.thing(run, action) or 'o/r'}"
    )
    for action, run in RUNS.items()
}
FREE = (Help, Unclear)
"""What everybody may ask, since it tells nothing."""
TYPED = {
    f"{kind}, {thread}: {word.spellings[0]}": asked(
        kind=kind, text=f"<@{LINKS.us.user}> {word.spellings[0]}", mentions_us=True, thread_ts=thread
    )
    for word in WORDS
    if word.command is not None and not isinstance(word.command, FREE)
    for kind, thread in (
        (IncomingKind.COMMAND, None),
        (IncomingKind.MESSAGE, None),
        (IncomingKind.MESSAGE, RUNS[getattr(word.command, "action", Action.RESUME)].thread_ts),
    )
}
OTHER = {
    "a command": asked(kind=IncomingKind.COMMAND, text="fix it in org/repo"),
    "a mention": asked(text=f"<@{LINKS.us.user}> fix it in org/repo", mentions_us=True),
    "a direct message": asked(text="fix it in org/repo", direct=True),
    "words for the agent": asked(
        text=f"<@{LINKS.us.user}> and the licence", mentions_us=True, thread_ts=RUNS[Action.RESUME].thread_ts
    ),
    "a repository": asked(text="org/repo", mentions_us=True, thread_ts=RUNS[Action.USE].thread_ts),
    "new": asked(text="new: fix it in org/repo", mentions_us=True, thread_ts=RUNS[Action.RESUME].thread_ts),
}
PATHS = CLICKS | TYPED | OTHER


async def no_openhands() -> OpenHands:
    raise Unavailable("nothing there")


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[tuple[Dispatcher, Town, Database]]:
    """Return a dispatcher whose rules let nobody do anything, and runs that offer every action."""
    database, slack, clock = await open_database(f"sqlite:///{tmp_path}/openhands.db"), Town(), TickingClock()
    async with database.transaction() as tx:
        for run in RUNS.values():
            await runs.add(tx, run)
            await runs.own_thread(tx, run, run.thread_ts or MessageTs(""), every_reply=True)
    ctx = Context(
        database=database,
        gateway=slack,
        door=Door(slack, LINKS.us, NOBODY),
        openhands=no_openhands,
        repositories=Repositories(no_openhands, clock, PATIENCE),
        links=LINKS,
        limits=LIMITS,
        clock=clock,
        patience=PATIENCE,
    )
    yield Dispatcher(ctx, default_repository="org/repo", is_ahead=lambda _incoming: False), slack, database
    await database.close()


async def there(database: Database) -> tuple[list[Any], list[Any], list[Any]]:
    """Return all runs and messages to agents, and what is owed to agents."""
    owed = select(outbox_table).where(outbox_table.c.kind.in_([kind.value for kind in TO_OPENHANDS]))
    async with database.reading() as tx:
        found = [(await tx.execute(one)).all() for one in (select(run_table), select(follow_up_table), owed)]
    return [*found[0]], [*found[1]], [*found[2]]


async def test_who_is_refused_changes_nothing(town: tuple[Dispatcher, Town, Database]) -> None:
    """By no button, word or message, in no place; each is answered to them alone, other bots not at all."""
    dispatcher, slack, database = town
    before, number = await there(database), count(1)
    for (who, person), (where, place) in product(PEOPLE.items(), PLACES.items()):
        slack.asks, slack.where = person, place
        for incoming in PATHS.values():
            seq = next(number)
            row = InboxRow(seq, "lane", replace(incoming, key=f"k{seq}"), NOW, 0)
            await dispatcher._work(row)
        assert await there(database) == before, (who, where)
    assert before[0]


def test_every_path_is_walked() -> None:
    """Each button, and each command that does or tells something: a new one is walked too, or missed here."""
    assert {incoming.action for incoming in CLICKS.values()} == {*Action}
    walked = {type(word.command) for word in WORDS if word.command is not None} - {*FREE}
    assert walked <= {*get_args(Command)}
    assert Do in walked
    assert ALICE in {run.requester for run in RUNS.values()}
