"""Lifecycle, store and everything between them, under every order of events that hypothesis generates.

The real dispatcher, poller and outbound handlers work on a real database file; only OpenHands and Slack are in memory.
After each step the promises are checked from the tables, and at the end everything must settle by itself.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import StaticPool, create_engine, select

from bot.context import Context
from bot.core.model import Action, FollowUp, Incoming, IncomingKind, MessageTs, Phase, Run, Start, UserId
from bot.core.owed import TO_OPENHANDS, OutboxKind, OutboxRow
from bot.core.retrying import MISSES
from bot.door import Asker, Door
from bot.inbound.dispatcher import Dispatcher
from bot.inbound.poller import Poller
from bot.inbound.replies import Replies
from bot.openhands.repositories import Repositories
from bot.outbound.to_openhands import ToOpenHands
from bot.outbound.to_slack import ToSlack
from bot.store import outbox, runs
from bot.store.checkpoints import Mark
from bot.store.database import Database, open_database
from bot.store.inbox import InboxRow
from bot.store.mapping import from_row
from bot.store.tables import follow_ups as follow_up_table
from bot.store.tables import marks as mark_table
from bot.store.tables import outbox as outbox_table
from bot.store.tables import runs as run_table
from tests.openhands.account import Account, Button, Died, Fate, Memory, Talk, TickingClock, What, buttons_in
from tests.promises import LIMITS, LINKS, PATIENCE, SAID, SLOTS, Now, Promises
from tests.store.bench import ALICE, BOB, DEV, TEAM

RUNS = 5
DOINGS = (
    "finishes",
    "says",
    "wants",
    "wants",
    "fails",
    "sleeps",
    "STUCK",
    "IDLE",
    "PAUSED",
    "GONE",
    "MISSING",
    "BROKEN",
)
"""What happens to an agent; in capitals: the phase that its conversation shows from then on."""
AT_ONCE = 30
"""Rows of one lane that may be done in one round: more than there ever are."""
WORDS = ("stop", "resume", "retry", "again", "leave it", "start", "approve", "org/repo")
Came = TypeVar("Came")

people = st.sampled_from([ALICE, BOB])
which = st.integers(0, 5)
rarely = st.sampled_from([False, False, False, True])
pauses = st.sampled_from([2, 4, 40, 700])  # seconds
fates = st.sampled_from([*Fate, *[Fate.FINE] * 4, Fate.ANSWER_LOST, Fate.ANSWER_LOST, Fate.DIES_AFTER])
acts = st.sampled_from([None, None, "stop", "retry", "resume"])


class Requests(Dispatcher):
    """Takes requests without the loop, and without asking Slack who made them."""

    async def begins(self, incoming: Incoming, command: Start) -> None:
        known = self._ctx.repositories.known
        await self._start(row_of(incoming), command, await self.asker(incoming), known, earlier=[])

    async def clicked(self, incoming: Incoming, action: Action) -> None:
        await self._click(row_of(incoming), action, await self.asker(incoming))

    async def asker(self, incoming: Incoming) -> Asker:
        return await self._ctx.door.asker(incoming.user, incoming.channel)


class Looks(Poller):
    """Polls once, without the loop."""

    async def looks(self) -> None:
        await self._round()
        await asyncio.gather(*self.reading.values())


def row_of(incoming: Incoming) -> InboxRow:
    return InboxRow(seq=0, lane="", incoming=incoming, received_at=TickingClock().now(), attempts=0)


class Life(RuleBasedStateMachine):
    """Two people, a few runs, two slots."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.beside = create_engine(f"sqlite:///{self.folder.name}/openhands.db", poolclass=StaticPool)
        self.clock = TickingClock()
        self.account = Account(self.clock)
        self.slack = Memory()
        self.requests = 0
        self.promises = Promises(self.account, self.slack)
        self.well = True
        self.do(self.opens())

    # --- doing things -------------------------------------------------------------------------------------------

    def do(self, what: Coroutine[Any, Any, Came]) -> Came | None:
        """Do something to its end, or until the process dies of it, which then restarts at once."""
        try:
            return self.loop.run(what)
        except Died:
            self.loop.run(self.reopens())
            return None

    async def opens(self) -> None:
        self.database: Database = await open_database(f"sqlite:///{self.folder.name}/openhands.db")

        async def reached() -> Account:
            return self.account

        ctx = Context(
            database=self.database,
            gateway=self.slack,
            door=Door(self.slack, LINKS.us),
            openhands=reached,
            repositories=Repositories(reached, self.clock, PATIENCE),
            links=LINKS,
            limits=LIMITS,
            clock=self.clock,
            patience=PATIENCE,
        )
        self.dispatcher = Requests(ctx, default_repository=None, is_ahead=lambda _incoming: False)
        self.replies = Replies(ctx)
        self.poller = Looks(ctx)
        self.to_slack = ToSlack(ctx, notify_channel=None)
        self.to_openhands = ToOpenHands(ctx)

    async def reopens(self) -> None:
        await self.database.close()
        await self.opens()

    def teardown(self) -> None:
        try:
            if self.well:
                self.comes_to_rest()
        finally:
            self.loop.run(self.database.close())
            self.beside.dispose()
            self.loop.close()
            self.folder.cleanup()

    def reads(self) -> Now:
        with self.beside.connect() as there:
            found_runs = there.execute(select(run_table).order_by(run_table.c.created_at)).mappings().all()
            said = there.execute(select(follow_up_table).order_by(follow_up_table.c.seq)).mappings().all()
            owed = there.execute(select(outbox_table).order_by(outbox_table.c.seq)).mappings().all()
            full = there.execute(select(mark_table).where(mark_table.c.name == Mark.FULL)).first()
        return Now(
            [from_row(Run, row) for row in found_runs],
            [from_row(FollowUp, row) for row in said],
            list(owed),
            full=full is not None,
        )

    async def owes(self, kinds: frozenset[OutboxKind]) -> list[OutboxRow]:
        async with self.database.reading() as tx:
            return [row for row in await outbox.due(tx, self.clock.now(), [], 100) if row.kind in kinds]

    async def run_at(self, at: int) -> Run:
        async with self.database.reading() as tx:
            found = await runs.latest_in(tx, DEV, RUNS)
        return found[at % len(found)]

    def message(self, who: UserId, *, old: bool, thread: MessageTs | None = None) -> Incoming:
        self.requests += 1
        written = self.clock.now() - timedelta(hours=2 if old else 0)
        ts = MessageTs(f"{written.timestamp():.6f}")
        kind = IncomingKind.MESSAGE
        return Incoming(
            key=f"msg:{self.requests}",
            kind=kind,
            team=TEAM,
            channel=DEV,
            user=who,
            text="",
            ts=ts,
            thread_ts=thread,
            mentions_us=thread is None,
        )

    # --- what people do -----------------------------------------------------------------------------------------

    @initialize(fate=fates, full=rarely)
    def a_busy_morning(self, fate: Fate, *, full: bool) -> None:
        """Create more runs than there are slots, and start the first ones if the account has room."""
        self.account.full = full
        for _ in range(SLOTS + 2):
            self.do(self.dispatcher.begins(self.message(ALICE, old=False), Start("fix it", repository="org/repo")))
        self.do(self.works_all(fate))

    @precondition(lambda self: len(self.promises.before.runs) < RUNS)
    @rule(who=people, lost=rarely, old=rarely)
    def somebody_asks(self, who: UserId, *, lost: bool, old: bool) -> None:
        asked = Start(f"fix {self.requests}", repository=None if lost else "org/repo")
        self.do(self.dispatcher.begins(self.message(who, old=old), asked))

    @rule(at=which, who=people, word=st.sampled_from([*WORDS, *[None] * len(WORDS)]), old=rarely)
    def somebody_writes(self, at: int, who: UserId, word: str | None, *, old: bool) -> None:
        self.do(self.reply(at, who, word, old=old))

    async def reply(self, at: int, who: UserId, word: str | None, *, old: bool = False) -> None:
        """Reply in a run's thread with a word for the bot or a message for the agent."""
        run = await self.run_at(at)
        if run.thread_ts is None:
            return
        incoming = self.message(who, old=old, thread=run.thread_ts)
        async with self.database.transaction() as tx:
            text = word or f"{SAID}{self.requests}"
            await self.replies.take(
                tx,
                await runs.get(tx, run.id),
                incoming,
                text,
                self.clock.now(),
                asker=await self.dispatcher.asker(incoming),
            )

    @precondition(lambda self: bool(self.slack.buttons))
    @rule(at=which, who=people, old=rarely)
    def somebody_clicks_twice(self, at: int, who: UserId, *, old: bool) -> None:
        """Click a current button, or an old one, twice; the second click must change nothing."""
        there = [one for message in self.slack.shown.values() for one in buttons_in(message)]
        buttons = list(self.slack.buttons)[::-1] if old or not there else sorted(there, key=is_stop)
        button = buttons[at % len(buttons)]
        self.do(self.click(button, who))
        once = self.reads()
        self.do(self.click(button, who))
        assert self.reads().without_answers() == once.without_answers(), button

    async def click(self, button: Button, who: UserId) -> None:
        action = Action(button.action)
        clicked = replace(self.message(who, old=False), kind=IncomingKind.CLICK, action=action, value=button.value)
        await self.dispatcher.clicked(clicked, action)

    # --- what the bot does --------------------------------------------------------------------------------------

    async def tells(self) -> None:
        """Post and edit everything that is owed to Slack."""
        while rows := await self.owes(frozenset(OutboxKind) - TO_OPENHANDS):
            for row in rows:
                await self.to_slack.do(row)
        async with self.database.reading() as tx:
            behind = await runs.behind(tx, [], [], 100)
        for card in behind:
            await self.to_slack.edit(card.run)

    @rule(at=which, fate=fates, act=acts, who=people)
    def openhands_is_called(self, at: int, fate: Fate, act: str | None, who: UserId) -> None:
        """Do one due row; people may act while its call is under way."""
        self.clock.passes(1)
        self.do(self.calls(at, fate, None if act is None else lambda: self.reply(at, who, act)))

    async def calls(self, at: int, fate: Fate, act: Callable[[], Awaitable[None]] | None) -> None:
        await self.tells()
        if rows := await self.owes(TO_OPENHANDS):
            async with self.under(fate, act):
                await self.to_openhands.do(rows[at % len(rows)])

    @asynccontextmanager
    async def under(self, fate: Fate, act: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[None]:
        """Give the first call that goes out this fate."""
        self.account.fate, self.account.meanwhile = fate, act
        try:
            yield
        finally:
            self.account.fate, self.account.meanwhile = Fate.FINE, None

    @rule(after_s=pauses, fate=fates, at=which, does=st.sampled_from([*DOINGS, *[None] * 4]))
    def time_goes_on(self, after_s: float, fate: Fate, at: int, does: str | None) -> None:
        """Have an agent do something, let time pass, and have the bot do everything that is due by then."""
        self.agents_begin()
        if does is not None and self.account.talks:
            self.agent(self.talk_at(at), does)
        self.clock.passes(after_s)
        self.do(self.works_all(fate))

    # --- what happens elsewhere ---------------------------------------------------------------------------------

    @rule(what=st.sampled_from(["restart", "full", "free", "down", "up", "13 h"]))
    def something_happens(self, what: str) -> None:
        match what:
            case "restart":
                self.do(self.reopens())
            case "full" | "free":
                self.account.full = what == "full"
            case "down" | "up":
                self.account.down = what == "down"
            case _:
                self.clock.passes(13 * 3600)

    def agent(self, talk: Talk, does: str) -> None:
        """Have an agent do something, if it can."""
        if does in ("GONE", "MISSING", "BROKEN") and talk.phase not in (Phase.STARTING, Phase.START_FAILED):
            talk.phase = Phase[does]
        elif does == "sleeps" and talk.phase in (Phase.ENDED, Phase.WANTS_APPROVAL, Phase.ERROR, Phase.WORKING):
            self.account.falls_asleep(talk)
        elif talk.phase is Phase.WORKING:
            self.turn_ends(talk, does)

    def turn_ends(self, talk: Talk, does: str) -> None:
        match does:
            case "finishes":
                self.account.ends(talk, What.FINISH, Phase.ENDED)
            case "says":
                self.account.ends(talk, What.SAID, Phase.ENDED)
            case "wants":
                self.account.ends(talk, What.WANTS, Phase.WANTS_APPROVAL)
            case "fails":
                self.account.ends(talk, What.FAILED, Phase.ERROR)
            case _:
                talk.phase = Phase[does]

    def talk_at(self, at: int) -> Talk:
        """Return a conversation. Working ones come first, since more can happen there."""
        talks = sorted(self.account.talks.values(), key=lambda talk: talk.phase is not Phase.WORKING)
        return talks[at % len(talks)]

    # --- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def every_promise_is_kept(self) -> None:
        """Check the promises after each step."""
        self.well = False
        self.promises.kept(self.reads())
        self.well = True

    # --- the end ------------------------------------------------------------------------------------------------

    def comes_to_rest(self) -> None:
        """End all outages, and check that everything settles by itself."""
        self.account.full = self.account.down = False
        self.settles()
        self.promises.at_rest(self.reads())

    def settles(self) -> None:
        for _ in range(MISSES + 4):  # one try of each call that is repeated so often, and what comes of it
            self.clock.passes(61)
            self.agents_begin()
            self.do(self.works_all())
            self.every_promise_is_kept()

    def agents_begin(self) -> None:
        for talk in self.account.talks.values():
            if talk.phase is Phase.STARTING:
                talk.phase = Phase.WORKING

    async def works_all(self, fate: Fate = Fate.FINE) -> None:
        await self.tells()
        async with self.under(fate):
            for _ in range(AT_ONCE):
                if not (rows := await self.owes(TO_OPENHANDS)):
                    break
                for row in rows:
                    await self.to_openhands.do(row)
        await self.poller.looks()
        await self.tells()


def is_stop(button: Button) -> bool:
    return button.action in (Action.STOP, Action.CANCEL)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=8,
    stateful_step_count=30,
    derandomize=True,  # the same code gives the same result; for a longer search, run more examples at random
    deadline=None,  # other processes share the machine
    suppress_health_check=[HealthCheck.too_slow],
)
