"""Effects as outbox rows: what a change of state owes to Slack and OpenHands, written in its transaction."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never
from urllib.parse import urlsplit

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.core import cards, lifecycle
from bot.core.lifecycle import Changed, restartable
from bot.core.model import (
    ChannelId,
    ConversationId,
    Effect,
    FollowUp,
    Incoming,
    MessageTs,
    Observation,
    RowId,
    Run,
    RunState,
    UserId,
)
from bot.core.owed import OutboxKind
from bot.slack.recognise import Identity
from bot.store import audit, outbox, runs
from bot.store.audit import Entry

log = structlog.get_logger("runs")

HAS_IT, DONE, FAILED = "eyes", "white_check_mark", "x"
"""Names of the reactions: the bot has a request, or the agent a reply; a run is done; a run, or a reply, came to nothing."""


@dataclass(frozen=True, slots=True)
class Links:
    """Where people find things: our workspace and OpenHands' pages; and whether the team has a channel for news."""

    us: Identity
    base_url: str
    notifies: bool
    public_url: str | None = None
    """Where people open OpenHands, if that is not where the bot reaches it."""

    @property
    def server(self) -> str:
        """Host and port of OpenHands, without the login its address may contain."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    def page(self, run: Run) -> str | None:
        """Return the address of a run's conversation for people; None before there is one."""
        if run.conversation_id is None or run.started_at is None or restartable(run):
            return None
        return f"{self.public_url or self.base_url}/conversations/{run.conversation_id}"

    def thread(self, run: Run) -> str | None:
        """Return the address of a run's thread; None before it has one."""
        ts = run.card.ts or run.thread_ts
        return None if ts is None else self.us.permalink(run.channel, ts, run.thread_ts)


def new_id() -> RowId:
    return RowId(str(uuid.uuid4()))


def row_of(run: Run, what: str) -> RowId:
    """Return the id of a row that a run has only one of."""
    return RowId(str(uuid.uuid5(uuid.UUID(run.id), what)))


def new_conversation() -> ConversationId:
    return ConversationId(str(uuid.uuid4()))


def start_lane(run: Run) -> str:
    """Return the lane of starts. Messages have another: they wait for the start, and may be enqueued before it."""
    return f"start:{run.id}"


def send_lane(run: Run) -> str:
    return f"send:{run.id}"


def stop_lane(run: Run) -> str:
    return f"stop:{run.id}"


def card_lane(run: Run) -> str:
    return f"card:{run.id}"


def payload(message: cards.Message) -> dict[str, Any]:
    return {"text": message.text, "blocks": message.blocks}


def places(run: Run) -> dict[str, str]:
    """Return log fields that lead to a run in Slack and in OpenHands, and the reason for its state."""
    found = {
        "reason": run.reason,
        "conversation": run.conversation_id,
        "channel": run.channel,
        "thread": run.thread_ts or run.card.ts,
    }
    return {name: value for name, value in found.items() if value is not None}


async def apply_transition(tx: AsyncConnection, before: Run, changed: Changed, links: Links, now: datetime) -> Run:
    """Write a run's transition together with its effects. Raises `StoreOvertaken` if another writer was first."""
    after, effects = changed
    saved = await runs.save(tx, before, after)
    if saved.state is not before.state:
        unstarted = before.state in (RunState.QUEUED, RunState.STARTING) and saved.state is RunState.FAILED
        tell = log.warning if unstarted else log.info
        tell("run.changed", run=saved.id, before=before.state, after=saved.state, **places(saved))
    if saved.state in lifecycle.ENDED and before.state not in lifecycle.ENDED:
        reason = saved.reason.value if saved.reason is not None else ""
        ended = Entry(
            actor=audit.BOT, action="end", verdict=saved.state.value, rule=reason, place=saved.channel, run=saved.id
        )
        await audit.add(tx, ended, now)
    await enqueue(tx, saved, effects, links, now)
    return saved


async def enqueue(tx: AsyncConnection, run: Run, effects: Iterable[Effect], links: Links, now: datetime) -> None:
    """Enqueue the effects of a change of state. run: as it is after the change."""
    for effect in effects:
        match effect:
            case Effect.TELL:
                await enqueue_message(tx, run, cards.news(run, links.page(run)), now)
            case Effect.NOTIFY:
                if links.notifies:
                    line = cards.notification(run, links.thread(run), now)
                    await outbox.add(
                        tx,
                        OutboxKind.NOTIFY,
                        id=new_id(),
                        lane=f"notify:{run.id}",
                        now=now,
                        run=run.id,
                        payload=payload(line),
                    )
            case Effect.REACT:
                if run.request_ts is not None:
                    name = DONE if run.state is RunState.DONE else FAILED
                    await enqueue_reaction(tx, run, run.request_ts, name, now)
            case Effect.RELEASE:
                await outbox.release(tx, send_lane(run), stop_lane(run), now=now)
            case _:
                assert_never(effect)


async def enqueue_overtaken(tx: AsyncConnection, run: Run, seen: Observation, links: Links, now: datetime) -> bool:
    """Enqueue the news of ends that a message overtook, and return whether there were any.

    run: as it was before this observation.
    """
    ended = lifecycle.overtaken(run, seen)
    for one, its_effects in ended:
        await enqueue(tx, one, its_effects, links, now)
    return bool(ended)


async def enqueue_card(tx: AsyncConnection, run: Run, asked: Incoming | None, now: datetime) -> None:
    """Enqueue the card. A command's card opens the thread; if it can't be posted, the command is answered instead."""
    about = {"channel": run.channel, "response_url": asked.response_url if asked is not None else None}
    await outbox.add(tx, OutboxKind.CARD, id=new_id(), lane=card_lane(run), now=now, run=run.id, payload=about)


async def enqueue_message(
    tx: AsyncConnection,
    run: Run,
    message: cards.Message,
    now: datetime,
    *,
    to: UserId | None = None,
    once: str | None = None,
) -> None:
    """Enqueue a new message in the run's thread, after its card.

    to: who gets it as a direct message if that thread is lost; by default whom its turn is for.
    once: an idempotency key within the run.
    """
    about = {"channel": run.channel, "user": to or lifecycle.waits_for_end(run)[0], **payload(message)}
    row = new_id() if once is None else RowId(str(uuid.uuid5(uuid.UUID(run.id), once)))
    await outbox.add(tx, OutboxKind.MESSAGE, id=row, lane=card_lane(run), now=now, run=run.id, payload=about)


async def enqueue_reply(
    tx: AsyncConnection,
    incoming: Incoming,
    text: str,
    now: datetime,
    *,
    once: RowId | None = None,
    about: Run | None = None,
) -> None:
    """Enqueue an answer that everybody there can read, in the thread of the request.

    once: the id of the row, where several requests are answered only once.
    about: the run whose buttons are to be under it.
    """
    told = {
        "channel": incoming.channel,
        "thread": incoming.thread_ts if incoming.direct else incoming.thread,
        "user": incoming.user,
        **payload(cards.sentence(text, about)),
    }
    row = once or new_id()
    await outbox.add(tx, OutboxKind.REPLY, id=row, lane=f"reply:{incoming.key}"[:96], now=now, payload=told)


async def enqueue_answer(
    tx: AsyncConnection, incoming: Incoming, text: str, now: datetime, *, once: RowId | None = None
) -> None:
    """Enqueue an answer that only its person sees; in direct messages an ordinary message, which stays.

    once: as of `enqueue_reply`.
    """
    if incoming.direct and incoming.action is None:  # the answer to a click is ephemeral there too
        await enqueue_reply(tx, incoming, text, now, once=once)
        return
    about = {
        "response_url": incoming.response_url,
        "channel": incoming.channel,
        "user": incoming.user,
        "thread": incoming.thread_ts,
        "text": text,
    }
    row = once or new_id()
    await outbox.add(tx, OutboxKind.ANSWER, id=row, lane=f"answer:{incoming.key}"[:96], now=now, payload=about)


async def enqueue_direct(
    tx: AsyncConnection,
    run: Run | None,
    user: str,
    message: cards.Message,
    now: datetime,
    *,
    instead_of: RowId | None = None,
) -> None:
    """Enqueue a direct message. instead_of: the failed row it replaces; however often that fails, it is sent once."""
    row = new_id() if instead_of is None else RowId(str(uuid.uuid5(uuid.UUID(instead_of), "direct")))
    about = {"user": user, **payload(message)}
    await outbox.add(
        tx, OutboxKind.DIRECT, id=row, lane=f"direct:{row}", now=now, run=run.id if run else None, payload=about
    )


async def enqueue_reaction(
    tx: AsyncConnection,
    run: Run,
    ts: MessageTs,
    name: str,
    now: datetime,
    *,
    channel: ChannelId | None = None,
    after_messages: bool = False,
) -> None:
    """Enqueue a reaction on a message.

    channel: where it is, if not in the run's place. after_messages: after those that are owed to the run's thread.
    """
    where = channel or run.channel
    about = {"channel": where, "ts": ts, "name": name}
    lane = card_lane(run) if after_messages else f"reaction:{where}:{ts}"
    await outbox.add(tx, OutboxKind.REACT, id=new_id(), lane=lane, now=now, run=run.id, payload=about)


async def enqueue_start(tx: AsyncConnection, run: Run, now: datetime) -> None:
    """Enqueue the start of this attempt. Idempotent: an attempt has one row."""
    row = RowId(str(uuid.uuid5(uuid.UUID(run.id), f"start {run.attempt}")))
    await outbox.add(
        tx, OutboxKind.START, id=row, lane=start_lane(run), now=now, run=run.id, payload={"attempt": run.attempt}
    )


async def enqueue_send(tx: AsyncConnection, run: Run, follow_up: FollowUp, now: datetime) -> None:
    """Enqueue a follow-up for the agent; its row has the follow-up's own id."""
    await outbox.add(tx, OutboxKind.SEND, id=RowId(follow_up.id), lane=send_lane(run), now=now, run=run.id)


async def enqueue_resume(tx: AsyncConnection, run: Run, now: datetime) -> None:
    """Enqueue a resume, after the messages to the agent that were enqueued before."""
    await outbox.add(tx, OutboxKind.RESUME, id=new_id(), lane=send_lane(run), now=now, run=run.id)


async def enqueue_decision(tx: AsyncConnection, run: Run, now: datetime) -> None:
    """Enqueue the decision on the action that waits for approval."""
    about = {"action": run.action, "accept": run.approved, "by": run.decided_by}
    await outbox.add(tx, OutboxKind.DECIDE, id=new_id(), lane=f"decide:{run.id}", now=now, run=run.id, payload=about)


async def enqueue_stop(tx: AsyncConnection, run: Run, now: datetime, *, woken: bool = False) -> None:
    """Enqueue an interrupt, and make an earlier one that is held due now.

    woken: interrupt although the run shows as stopped, since its conversation may have been woken.
    """
    about = {"woken": woken}
    await outbox.release(tx, stop_lane(run), now=now)
    await outbox.add(tx, OutboxKind.STOP, id=new_id(), lane=stop_lane(run), now=now, run=run.id, payload=about)


async def enqueue_stop_of_old(tx: AsyncConnection, run: Run, now: datetime) -> None:
    """Enqueue a stop of the conversation that a retry gives up, before the start of its next one. run: as it was."""
    about = {"conversation": run.conversation_id}
    await outbox.add(tx, OutboxKind.STOP, id=new_id(), lane=start_lane(run), now=now, run=run.id, payload=about)
