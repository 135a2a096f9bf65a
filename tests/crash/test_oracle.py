"""The oracle sees what it is there for: a true state is made wrong, one fault at a time."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, insert

from bot.core.model import FollowUp, FollowUpState, MessageTs, RunState, UserId, Waiting
from bot.core.owed import OutboxKind
from bot.core.pacing import Patience
from bot.simulator.slack.records import Message
from bot.store import tables as stored
from bot.store.mapping import to_row
from tests.core.runs import NOW, a_run
from tests.crash.errands import Errand
from tests.crash.oracle import complaints, kept, unheard
from tests.crash.tables import late
from tests.crash.town import TEAM, Hosted, Kind, town

PATIENCE = Patience()
Rows = list[tuple[Any, Mapping[str, Any]]]


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def of_inbox(age_s: float) -> Rows:
    return [(stored.inbox, {"key": "k", "lane": "l", "position": "1", "received_at": ago(age_s), "next_at": NOW})]


def of_outbox(kind: str, age_s: float, *, seq: int = 1, **given: Any) -> Rows:
    row = {
        "seq": seq,
        "id": f"row{seq}",
        "kind": kind,
        "lane": "l",
        "rank": 1,
        "created_at": ago(age_s),
        "next_at": NOW,
    }
    return [(stored.outbox, row | given)]


def of_run(state: RunState, age_s: float, **given: Any) -> Rows:
    """Return a run that has been in its state for so long, in all else at peace."""
    usual = {"card_ts": MessageTs("1.2"), "card_version": 1, "next_poll_at": NOW, "news_at": ago(age_s)}
    return [(stored.runs, to_row(a_run(state)) | usual | given)]


def of_follow_up(state: FollowUpState) -> Rows:
    one = FollowUp(id="f", run=a_run().id, author=UserId("U1"), text="and", source_ts=MessageTs("1.3"), state=state)
    return [(stored.follow_ups, to_row(one))]


LATE: Mapping[str, tuple[Callable[[float], Rows], float]] = {
    "request of l": (of_inbox, 1000),
    **{f"{kind} of l": (partial(of_outbox, kind), 3600) for kind in OutboxKind},
    "start of run": (lambda age_s: of_run(RunState.STARTING, age_s), 1300),
    "stop of run": (lambda age_s: of_run(RunState.WORKING, 9e9, stop_by="U1", stop_at=ago(age_s)), 1300),
    "free slot of run": (lambda age_s: of_run(RunState.QUEUED, 0, queued_at=ago(age_s)), 600),
    "card of run": (lambda age_s: of_run(RunState.DONE, age_s, version=2), 1000),
    "look of run": (lambda age_s: of_run(RunState.WORKING, 60, next_poll_at=ago(age_s)), 1000),
}
"""What is late once it is so many seconds old."""
FORGOTTEN: Mapping[str, Rows] = {
    "look that will never come of run": of_run(RunState.WORKING, 1, next_poll_at=None),
    "resume or decision that is in no row of run": of_run(RunState.PAUSED, 1, resume_by="U1"),
    "reply that is in no row of run": of_run(RunState.WORKING, 1) + of_follow_up(FollowUpState.UNSURE),
}
"""What nothing will ever do."""
RIGHT: Mapping[str, Rows] = {
    "a question waits for a person": of_run(RunState.WAITING, 9e5, waiting=Waiting.QUESTION.value),
    "an answered run rests": of_run(RunState.WAITING, 9e5, waiting=Waiting.ANSWER.value, next_poll_at=None),
    "an end": of_run(RunState.DONE, 9e5, next_poll_at=None),
    "what is done": of_outbox("card", 9e5, done_at=NOW),
    "what was given up": of_outbox("card", 9e5, failed_at=NOW),
    "a reply waits for the start": of_run(RunState.STARTING, 60)
    + of_outbox("send", 9e5, run="run", id="f")
    + of_follow_up(FollowUpState.WAITING),
    "the second of a lane waits for the first": of_outbox("card", 10) + of_outbox("message", 9e5, seq=2),
    "the second of a lane has just become the first": of_outbox("card", 9e5, done_at=ago(10))
    + of_outbox("message", 9e5, seq=2),
    "a reply that was delivered": of_run(RunState.WORKING, 60) + of_follow_up(FollowUpState.DELIVERED),
}


async def found(rows: Rows, file: Path, empty: Path) -> list[str]:
    """Put rows into a fresh database, and return what is late in it."""
    shutil.copy(empty, file)
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as there:
        for table, row in rows:
            there.execute(insert(table), [dict(row)])
    engine.dispose()
    return await late(f"sqlite:///{file}", NOW, PATIENCE)


async def test_a_row_older_than_its_promise_is_seen(tmp_path: Path, tables: Path) -> None:
    """Each kind of row is late after its time, and not after a moment."""
    for what, (rows, late_s) in LATE.items():
        assert await found(rows(late_s), tmp_path / "late.db", tables) == [f"late: {what}"]
        assert await found(rows(5), tmp_path / "late.db", tables) == [], what
    for what, forgotten in FORGOTTEN.items():
        assert await found(forgotten, tmp_path / "late.db", tables) == [f"late: {what}"]


@pytest.mark.parametrize("rows", RIGHT.values(), ids=RIGHT)
async def test_what_may_take_its_time_is_not_late(rows: Rows, tmp_path: Path, tables: Path) -> None:
    assert await found(rows, tmp_path / "right.db", tables) == []


# --- what both servers saw ----------------------------------------------------------------------------------------


@contextmanager
def undone(at: Hosted) -> Iterator[None]:
    """Let the servers' state be made wrong, and put it right at the end of the block."""
    places = [*at.world.slack._workspace.channels.values()]
    talks = at.world.openhands.conversations
    messages = [(dict(one.messages), {root: [*replies] for root, replies in one.threads.items()}) for one in places]
    kept_ = [(one, [*one.messages], [*one.events], [*one.start_tasks]) for one in talks.values()]
    try:
        yield
    finally:
        for place, (texts, threads) in zip(places, messages, strict=True):
            place.messages, place.threads = texts, threads
        talks.clear()
        for one, texts_, events, starts in kept_:
            one.messages, one.events, one.start_tasks = texts_, events, starts
            talks[one.id] = one


def forgets(at: Hosted, message: Message) -> None:
    """Let a post never have been made."""
    place = at.world.slack._workspace.channel(message.channel)
    del place.messages[message.ts]
    for replies in place.threads.values():
        if message.ts in replies:
            replies.remove(message.ts)


def repeats(at: Hosted, message: Message) -> None:
    """Let a post have been made twice."""
    place = at.world.slack._workspace.channel(message.channel)
    again = replace(message, ts=f"{float(message.ts) + 1000:.6f}")
    place.messages[again.ts] = again
    if message.thread_ts is not None:
        place.threads[message.thread_ts].append(again.ts)


def reads(at: Hosted, message: Message, text: str) -> None:
    """Let a post have another text."""
    at.world.slack._workspace.channel(message.channel).messages[message.ts] = replace(message, text=text)


def news_of(errand: Errand, words: str) -> Message:
    [found] = [one for one in errand.news() if words in one.text]
    return found


def line_of(errand: Errand, words: str) -> Message:
    [found] = [one for one in errand.town.world.posts(TEAM) if one.text in errand.team_lines() and words in one.text]
    return found


def card_of(errand: Errand) -> Message:
    assert errand.card is not None
    return errand.card


Doctor = Callable[[Hosted, Errand, Errand], object]
WRONG: Mapping[str, tuple[Doctor, str]] = {
    "a question was never told": (lambda at, whole, _: forgets(at, news_of(whole, "go on?")), "was told 0 times"),
    "an end was told twice": (lambda at, whole, _: repeats(at, news_of(whole, "✅ Done")), "was told 2 times"),
    "a post was made twice": (lambda at, whole, _: repeats(at, news_of(whole, "✅ Done")), "posted twice"),
    "an approval was never asked for": (
        lambda at, _, gated: forgets(at, news_of(gated, "✋ Needs approval")),
        "'✋ Needs approval' was told 0 times",
    ),
    "a stop was told twice": (
        lambda at, _, gated: repeats(at, news_of(gated, "⏹️ Stopped")),
        "'⏹️ Stopped' was told 2 times",
    ),
    "the team was not told": (
        lambda at, whole, _: forgets(at, line_of(whole, "💬 Has a question")),
        "1 times in the thread and 0 times to the team",
    ),
    "the team was told twice": (
        lambda at, whole, _: repeats(at, line_of(whole, "✅ Done")),
        "1 times in the thread and 2 times to the team",
    ),
    "there are two cards": (lambda at, whole, _: repeats(at, card_of(whole)), "2 cards"),
    "a card says something else": (
        lambda at, whole, _: reads(at, card_of(whole), card_of(whole).text.replace("✅ Done", "🛠️ Working")),
        "is not any more",
    ),
    "a reply did not arrive": (lambda _, whole, __: whole.conversations[0].messages.pop(), "and agents heard"),
    "a reply arrived twice": (
        lambda _, whole, __: whole.conversations[0].messages.append(whole.replies[-1].text),
        "and agents heard",
    ),
    "replies arrived in another order": (
        lambda _, whole, __: whole.conversations[0].messages.append(whole.conversations[0].messages.pop(1)),
        "overtook",
    ),
    "there are two conversations": (
        lambda at, whole, _: at.world.openhands.conversations.update(again=whole.conversations[0]),
        "2 conversations for 1 attempts",
    ),
    "a conversation was started twice": (
        lambda _, whole, __: whole.conversations[0].start_tasks.append(whole.conversations[0].start_tasks[0]),
        "has 2 starts",
    ),
    "what was approved was not carried out": (
        lambda _, __, gated: gated.conversations[0].events.clear(),
        "was carried out 0 times",
    ),
    "a person still waits": (lambda _, whole, __: setattr(whole, "over", False), "not seen through"),
}


async def test_what_both_services_saw_wrong_is_seen(tmp_path: Path) -> None:
    """Two whole journeys are right; each fault that is then made in what the services keep is complained of."""
    async with town(tmp_path, f"sqlite:///{tmp_path / 'oracle.db'}", seed=0) as at:
        whole = Errand(at, 0, Kind.WHOLE, "#place0", typed=True)
        gated = Errand(at, 1, Kind.GATED, "#place1", typed=False)
        at.child.start()
        await at.connected()
        async with asyncio.timeout(45):
            await asyncio.gather(whole.run(), gated.run())
        assert [*complaints(at, [whole, gated]), *await kept(at, [whole, gated], 10)] == []
        unseen = list[str]()
        for what, (spoil, complaint) in WRONG.items():
            with undone(at):
                spoil(at, whole, gated)
                if not any(complaint in one for one in complaints(at, [whole, gated])):
                    unseen.append(what)
            whole.over = True
        assert unseen == []
        assert complaints(at, [whole, gated]) == []

        taken = {one.ts: NOW for one in whole.replies}
        first, second = whole.replies
        fates = {first.ts: "failed"}
        assert unheard([whole], taken, fates) == [
            f"{whole.task}: {first.text!r} is failed",
            f"{whole.task}: {second.text!r} is forgotten",
        ]
