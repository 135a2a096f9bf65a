"""The inbox: each request once, in the order of its lane, and only what is for us."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from bot.core.model import Action, Incoming, IncomingKind, MessageTs, RowId, RunId, RunState, TeamId, UserId
from bot.core.owed import OutboxKind
from bot.store import inbox, outbox, runs
from bot.store.database import Database
from bot.store.inbox import InboxRow
from bot.store.tables import inbox as table
from tests.store.bench import ALICE, DEV, DIRECT, NOW, TEAM, a_command, a_message, a_run, at

ROOT = MessageTs("1.000001")


async def add(database: Database, *incoming: Incoming) -> list[bool]:
    return [await inbox.add(database, one, NOW) for one in incoming]


async def due(database: Database, seconds: float = 0, busy: tuple[str, ...] = (), limit: int = 100) -> list[InboxRow]:
    async with database.reading() as tx:
        return list(await inbox.due(tx, at(seconds), busy, limit))


async def kept(database: Database) -> list[tuple[str, Any]]:
    """Return the keys and payloads that are stored."""
    async with database.reading() as tx:
        found = await tx.execute(select(table.c.key, table.c.payload).order_by(table.c.seq))
        return [(key, payload) for key, payload in found]


def reply(ts: str, **about: Any) -> Incoming:
    return a_message(ts, thread_ts=ROOT, **about)


# --- once -------------------------------------------------------------------------------------------------------


async def test_a_request_is_written_down_once(database: Database) -> None:
    """Slack redelivers, a mention comes as two events: the second changes nothing."""
    asked = a_message("1.000001", mentions_us=True)
    assert await add(database, asked, replace(asked, text="again"), a_message("1.000002")) == [True, False, True]
    assert [row.incoming.text for row in await due(database)] == ["hello", "hello"]


async def test_a_request_comes_back_as_it_was(database: Database) -> None:
    """Every field, odd text and all, survives the table, but for what no database keeps: that is replaced."""
    asked = Incoming(
        key="cmd:1.2.ab",
        kind=IncomingKind.COMMAND,
        team=TEAM,
        channel=DEV,
        user=ALICE,
        text="täsk \u202e \U0001f600 \x00\ud83d ';--",
        ts=MessageTs("1.000001"),
        thread_ts=MessageTs("1.000000"),
        mentions_us=True,
        direct=True,
        actor_team=TeamId("T2"),
        external=True,
        response_url="https://hooks.slack.com/commands/1",
    )
    await add(database, asked)
    [row] = await due(database)
    kept = replace(asked, text="täsk \u202e \U0001f600 \ufffd ';--")
    assert row == InboxRow(seq=row.seq, lane="cmd:1.2.ab", incoming=kept, received_at=NOW, attempts=0)


async def test_a_done_request_loses_its_words_and_keeps_its_key(database: Database) -> None:
    """Words go at once; the key still turns away a late repeat, and nothing is due."""
    asked = a_command("1")
    await add(database, asked)
    [row] = await due(database)
    async with database.transaction() as tx:
        await inbox.done(tx, row.seq, at(1))
    assert await add(database, asked) == [False]
    assert (await kept(database), await due(database, 60)) == ([("cmd:1", None)], [])


async def test_keys_go_when_no_repeat_can_come(database: Database) -> None:
    """Only done requests, and only after so long; an open one stays however old it is."""
    await add(database, a_command("old"), a_command("newer"), a_command("open"))
    old, newer, _ = await due(database)
    async with database.transaction() as tx:
        await inbox.done(tx, old.seq, NOW)
        await inbox.done(tx, newer.seq, at(1))
        await inbox.forget(tx, at(100), keep_s=99.5)
    assert [key for key, _ in await kept(database)] == ["cmd:newer", "cmd:open"]


async def waits(database: Database, asked: Incoming, *, ahead: bool = False) -> bool:
    async with database.reading() as tx:
        return await inbox.waits_for_earlier(tx, asked, ROOT, ahead=ahead)


# --- in order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "lane"),
    [
        (a_command("1"), "cmd:1"),
        (a_message("1.000001"), "C1:1.000001"),
        (reply("1.000002"), "C1:1.000001"),
        (a_message("1.000001", channel=DIRECT, direct=True), "D1"),
        (reply("1.000002", channel=DIRECT, direct=True), "D1:1.000001"),
        (replace(reply("1.000002"), text="stop"), "C1:1.000001:urgent"),
        (replace(reply("1.000002"), kind=IncomingKind.CLICK, action=Action.STOP), "C1:1.000001:urgent"),
    ],
    ids=["command", "root", "reply", "direct", "direct-reply", "stop", "click"],
)
def test_a_lane_is_what_must_go_in_order(asked: Incoming, lane: str) -> None:
    """A thread with its root, what is said in private outside of threads; a command stands alone, and stop goes ahead."""
    assert inbox.lane(asked) == lane


async def test_the_first_of_each_lane_is_due(database: Database) -> None:
    """A reply waits for its thread's root, other threads and commands do not; oldest first."""
    await add(database, a_message(ROOT), reply("1.000002"), a_command("1"), a_message("1.000003"))
    first = await due(database)
    async with database.transaction() as tx:
        await inbox.done(tx, first[0].seq, NOW)
    then = await due(database)
    assert [row.incoming.key for row in first] == ["msg:T1:C1:1.000001", "cmd:1", "msg:T1:C1:1.000003"]
    assert [row.incoming.key for row in then] == ["msg:T1:C1:1.000002", "cmd:1", "msg:T1:C1:1.000003"]


async def test_a_lane_goes_as_people_wrote_it(database: Database) -> None:
    """Slack may deliver in another order than people wrote: of what is open the oldest message is next."""
    await add(database, reply("1.000003"), reply("1.000002"), a_message("1.000001"))
    order = []
    for _ in range(3):
        [row] = await due(database)
        order.append(row.incoming.ts)
        async with database.transaction() as tx:
            await inbox.done(tx, row.seq, NOW)
    assert order == ["1.000001", "1.000002", "1.000003"]


async def test_a_request_put_off_holds_its_lane(database: Database) -> None:
    """What comes after it in its lane waits with it; the attempt is counted, and the time to look again known."""
    await add(database, a_message(ROOT), reply("1.000002"), a_command("1"))
    [first, _] = await due(database)
    async with database.transaction() as tx:
        await inbox.again(tx, first.seq, at(10))
    async with database.reading() as tx:
        times = [await inbox.next_at(tx, at(seconds)) for seconds in (0, 10)]
    later = await due(database, 10)
    assert [row.incoming.key for row in await due(database, 9)] == ["cmd:1"]
    assert [(row.incoming.key, row.attempts) for row in later] == [("msg:T1:C1:1.000001", 1), ("cmd:1", 0)]
    assert times == [at(10), None]


async def test_busy_lanes_and_more_than_asked_for_are_left(database: Database) -> None:
    """Busy: somebody works on it. Limit: so many at once."""
    await add(database, a_command("1"), a_command("2"), a_command("3"))
    assert [row.lane for row in await due(database, busy=("cmd:1",))] == ["cmd:2", "cmd:3"]
    assert [row.lane for row in await due(database, limit=2)] == ["cmd:1", "cmd:2"]


# --- for us -----------------------------------------------------------------------------------------------------


async def for_us(database: Database, incoming: Incoming) -> bool:
    async with database.reading() as tx:
        return await inbox.is_for_us(tx, incoming)


@pytest.mark.parametrize(
    ("incoming", "verdict"),
    [
        (a_command("1"), True),
        (a_message(ROOT, mentions_us=True), True),
        (a_message(ROOT, direct=True), True),
        (reply("1.000002", mentions_us=True), True),
        (a_message(ROOT), False),
        (reply("1.000002"), False),
    ],
    ids=["command", "mention", "direct", "mention-in-thread", "talk", "talk-in-thread"],
)
async def test_talk_is_told_from_requests(database: Database, incoming: Incoming, *, verdict: bool) -> None:
    """Commands, mentions and direct messages are for us; other talk is not, with nothing else known."""
    assert await for_us(database, incoming) is verdict


@pytest.mark.parametrize(("every_reply", "verdict"), [(True, True), (False, False)])
async def test_a_reply_in_a_known_thread(database: Database, *, every_reply: bool, verdict: bool) -> None:
    """In our own thread every reply is for us, in people's thread only a mention."""
    async with database.transaction() as tx:
        await runs.add(tx, a_run())
        await runs.own_thread(tx, a_run(), ROOT, every_reply=every_reply)
    elsewhere = [reply("1.000002", team=TeamId("T2")), reply("1.000002", channel="C2"), a_message("1.000002")]
    assert await for_us(database, reply("1.000002")) is verdict
    assert [await for_us(database, other) for other in elsewhere] == [False, False, False]


async def test_a_reply_to_a_request_that_nobody_looked_at_yet(database: Database) -> None:
    """Its thread will be ours in a moment: kept until the root is done, then the thread decides."""
    await add(database, a_message(ROOT, mentions_us=True))
    before = await for_us(database, reply("1.000002", user=UserId("U2")))
    [row] = await due(database)
    async with database.transaction() as tx:
        await inbox.done(tx, row.seq, NOW)
    assert (before, await for_us(database, reply("1.000002"))) == (True, False)


@pytest.mark.parametrize("close", [outbox.done, outbox.failed])
async def test_a_reply_while_a_first_card_is_owed_there(database: Database, close: Any) -> None:
    """A command's card may be its root: kept in that channel until the card is confirmed or given up."""
    run = a_run(state=RunState.STARTING)
    async with database.transaction() as tx:
        await runs.add(tx, run)
        await outbox.add(
            tx, OutboxKind.CARD, id=RowId("row"), lane="card:run-1", now=NOW, run=run.id, payload={"channel": DEV}
        )
    early = reply("1.000002"), reply("1.000002", channel="C2"), a_message("1.000002")
    before = [await for_us(database, one) for one in early]
    async with database.reading() as tx:
        [row] = await outbox.due(tx, NOW, [], 10)
        owed = [await inbox.card_owed(tx, channel) for channel in ("C1", "C2")]
    async with database.transaction() as tx:
        await close(tx, row.seq, NOW, "")
    assert (before, owed, await for_us(database, early[0])) == ([True, False, False], [True, False], False)


async def test_the_card_of_a_mention_opens_no_thread(database: Database) -> None:
    """It belongs to the thread of the message that asked for it, which is known."""
    run = a_run(state=RunState.STARTING, thread_ts=ROOT, request_ts=ROOT)
    async with database.transaction() as tx:
        await runs.add(tx, run)
        await outbox.add(
            tx, OutboxKind.CARD, id=RowId("row"), lane="card:run-1", now=NOW, run=run.id, payload={"channel": DEV}
        )
    assert await for_us(database, reply("1.000002")) is False


@pytest.mark.parametrize(
    ("state", "author", "text", "kept"),
    [
        (RunState.NEEDS_REPOSITORY, "U1", "org/repo", True),
        (RunState.NEEDS_REPOSITORY, "U2", "org/repo", False),
        (RunState.WORKING, "U1", "stop", True),
        (RunState.WORKING, "U1", "let us see", False),
    ],
)
async def test_in_a_thread_of_people_an_answer_is_kept(
    database: Database,
    state: RunState,
    author: str,
    text: str,
    kept: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """What the requester says there otherwise is talk like everybody's."""
    run = a_run(state=state, requester=UserId("U1"), thread_ts=ROOT, mentions_only=True)
    async with database.transaction() as tx:
        await runs.add(tx, run)
        await runs.own_thread(tx, run, ROOT, every_reply=False)
    said = replace(reply("1.000002", user=UserId(author)), text=text)
    assert await for_us(database, said) is kept


async def test_a_private_reply_waits_for_its_root(database: Database) -> None:
    """They have two lanes."""
    await add(database, a_message(ROOT, channel=DIRECT, direct=True))
    said = reply("1.000002", channel=DIRECT, direct=True)
    before = await waits(database, said)
    [row] = await due(database)
    async with database.transaction() as tx:
        await inbox.done(tx, row.seq, NOW)
    assert (before, await waits(database, said)) == (True, False)


@pytest.mark.parametrize("known", [True, False])
async def test_stop_waits_for_earlier_replies_unless_they_wait_for_a_reading(
    database: Database,
    known: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Where the thread's run is not known yet, an earlier one may be what starts it."""
    run = a_run(thread_ts=ROOT)
    async with database.transaction() as tx:
        if known:
            await runs.add(tx, run)
            await runs.own_thread(tx, run, ROOT, every_reply=True)
    await add(database, reply("1.000002"))
    stop = replace(reply("1.000003"), text="stop")
    early = replace(reply("1.000001"), text="stop")
    assert await waits(database, reply("1.000004")) is False  # the lane does that
    assert await waits(database, early) is False
    assert (await waits(database, stop), await waits(database, stop, ahead=True)) == (True, not known)


async def test_other_rows_owed_are_no_first_card(database: Database) -> None:
    """A card in a people's thread has its root already, and a reply owed is no card."""
    async with database.transaction() as tx:
        await outbox.add(tx, OutboxKind.CARD, id=RowId("1"), lane="card:run-1", now=NOW, run=RunId("run-1"))
        await outbox.add(tx, OutboxKind.REPLY, id=RowId("2"), lane="reply:1", now=NOW, payload={"channel": DEV})
    assert await for_us(database, reply("1.000002")) is False
