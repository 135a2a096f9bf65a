"""Edits and deletions of messages: what still waits changes with them; of what has gone out, people are told."""

from dataclasses import replace
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.context import Context
from bot.core import addressee, commands, lifecycle, policy, repositories, words
from bot.core.lifecycle import NOT_BEGUN
from bot.core.model import (
    Act,
    Action,
    Do,
    FollowUp,
    FollowUpState,
    Incoming,
    Origin,
    Run,
    RunState,
    Start,
    Unclear,
)
from bot.core.owed import OutboxKind
from bot.door import Asker
from bot.inbound.replies import Replies
from bot.store import inbox, outbox, runs

UNSENT = frozenset({FollowUpState.WAITING, FollowUpState.HELD, FollowUpState.FAILED})
"""States of a reply that no agent has: a failed one goes to the next conversation, if there is one."""
ON_ITS_WAY = frozenset({FollowUpState.SENDING, FollowUpState.UNSURE})


class Corrections:
    """Handles edits and deletions, each within the transaction that closes its inbox row."""

    def __init__(self, ctx: Context, replies: Replies, *, default_repository: str | None) -> None:
        self._ctx = ctx
        self._replies = replies
        self._default_repository = default_repository

    async def corrected(self, incoming: Incoming) -> Incoming | None:
        """Return a request as its author wants it by now; None if it was deleted before anything was done about it."""
        async with self._ctx.database.reading() as tx:
            found = await inbox.corrections(tx, incoming)
        for one in found:
            if one.withdrawn:
                return None
            incoming = replace(incoming, text=one.text, files=one.files)
        return incoming

    # --- edits --------------------------------------------------------------------------------------------------

    async def edit(
        self,
        tx: AsyncConnection,
        thing: Run | FollowUp,
        incoming: Incoming,
        text: str,
        known: repositories.Known,
        *,
        asker: Asker,
    ) -> None:
        """Take an edit over, as far as the rules allow it, or tell its author that the agent has the message as it was."""
        if incoming.mentions_us and (alone := commands.only(text)) is not None:
            text = alone
        if isinstance(thing, FollowUp):
            await self._edit_reply(tx, thing, incoming, text, asker)
            return
        run = thing
        if await self._unsent(tx, run):
            await self._reword(tx, run, incoming, text, known, asker=asker)
        elif incoming.edited_at is None:
            await self._late_files(tx, run, incoming, run, asker)
        elif run.state is RunState.CANCELLED:
            await self._answer(tx, run, incoming, words.follow_up_cancelled())
        elif lifecycle.has_words(run) and read(text).task != run.task:
            await self._answer(tx, run, incoming, words.edited_too_late(run))

    async def _unsent(self, tx: AsyncConnection, run: Run) -> bool:
        """Return whether no agent was asked yet to do what a run is about, or only an attempt that came to nothing."""
        if run.state in NOT_BEGUN or (lifecycle.restartable(run) and run.turn == 1):
            return True
        no_card_yet = run.card.posts == 0  # and without a card no start is enqueued
        unsent = no_card_yet or await outbox.is_unsent(tx, run.id, OutboxKind.START)
        return run.state is RunState.STARTING and unsent

    async def _reword(
        self,
        tx: AsyncConnection,
        run: Run,
        incoming: Incoming,
        text: str,
        known: repositories.Known,
        *,
        asker: Asker,
    ) -> None:
        """Change the task of a run that has not begun, and where it is to be done if the words say so."""
        now = self._ctx.clock.now()
        if incoming.edited_at is None:
            files = (*incoming.files, *(one for one in run.files if one not in incoming.files))
            await self._ctx.save(tx, run, (replace(run, files=files), ()))
            return
        match commands.parse(text if (anew := commands.anew(text)) is None else anew):
            case Start() as command:
                pass
            case Do(Action.STOP | Action.CANCEL):
                await self._replies.moves.take(tx, run, Action.STOP, incoming, asker)
                return
            case _:
                await effects.enqueue_answer(tx, incoming, words.edit_unread(), now)
                return
        answered = run.origin in (Origin.CHOSEN, Origin.NONE) and not repositories.names_one(command, known)
        choice = None
        if not answered:
            thread = run.repository if run.origin is Origin.THREAD else None
            choice = repositories.choose(command, known, thread=thread, default=self._default_repository)
            choice = replace(choice, candidates=policy.allowed(asker.rules, choice.candidates))
        changed = lifecycle.reworded(
            run, command, choice, files=incoming.files, conversation=effects.new_conversation(), now=now
        )
        if not await self._replies.moves.may(tx, asker, incoming, policy.what_of(changed[0], Act.START)):
            return
        queues = changed[0].state is RunState.QUEUED and run.state is not RunState.QUEUED
        if queues and not await self._replies.moves.has_room(tx, incoming, Act.START, run):
            return
        after = await self._ctx.save(tx, run, changed)
        if lifecycle.restartable(after):
            await self._answer(tx, run, incoming, words.edited_for_retry())

    async def _edit_reply(
        self, tx: AsyncConnection, follow_up: FollowUp, incoming: Incoming, text: str, asker: Asker
    ) -> None:
        run = await runs.get(tx, follow_up.run)
        if incoming.thread_ts is not None and (picked := commands.numbered(text)) is not None:
            several = len(await runs.in_thread(tx, incoming.channel, incoming.thread_ts)) > 1
            text = picked[1] if several else text
        if incoming.edited_at is None:
            if follow_up.state in UNSENT and not follow_up.files:
                await runs.save_follow_up(tx, replace(follow_up, files=incoming.files))
            else:
                await self._late_files(tx, run, incoming, follow_up, asker)
            return
        before = words.own_words(follow_up.text)
        if (text, incoming.files) == (before, follow_up.files) or not (follow_up.text or follow_up.files):
            return
        if follow_up.state is FollowUpState.WITHDRAWN:
            await self._answer(tx, run, incoming, words.edited_withdrawn())
            return
        if follow_up.state not in UNSENT:
            await self._answer(tx, run, incoming, words.edited_too_late(run))
            return
        said = addressee.Reply(run=run, text=text, mentions_us=incoming.mentions_us, files=bool(incoming.files))
        match addressee.addressee(said):
            case addressee.Addressee.AGENT:
                after = replace(follow_up, text=text + follow_up.text[len(before) :], files=incoming.files)
                await runs.save_follow_up(tx, after)
                await self._ctx.save(tx, run, (lifecycle.asks_anew(run, after), ()))
            case addressee.Addressee.PEOPLE:
                await self._withdraw(tx, run, follow_up)
                await effects.enqueue_answer(tx, incoming, words.kept_among_people(), self._ctx.clock.now())
            case addressee.Addressee.BOT:
                await self._withdraw(tx, run, follow_up)
                now = self._ctx.clock.now()
                await self._replies.take(tx, await runs.get(tx, run.id), incoming, text, now, asker=asker)
            case to:
                assert_never(to)

    async def _late_files(
        self, tx: AsyncConnection, run: Run, incoming: Incoming, thing: Run | FollowUp, asker: Asker
    ) -> None:
        """Send files after a message that went out before Slack told of them."""
        if not lifecycle.has_words(run) or any(one in thing.files for one in incoming.files):
            return
        if await self._replies.moves.may(tx, asker, incoming, policy.what_of(run, Act.ANSWER)):
            await self._replies.to_agent(tx, run, incoming, "", self._ctx.clock.now())

    async def _answer(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        """Tell the author, once for each message however often it is edited."""
        once = effects.row_of(run, f"edited {incoming.ts}")
        await effects.enqueue_answer(tx, incoming, text, self._ctx.clock.now(), once=once)

    # --- deletions ----------------------------------------------------------------------------------------------

    async def delete(self, tx: AsyncConnection, thing: Run | FollowUp) -> bool:
        """Withdraw what waits and blank what is kept. Return False while that can't be: the message is on its way."""
        if isinstance(thing, FollowUp):
            if thing.state in ON_ITS_WAY:
                return False
            await self._withdraw(tx, await runs.get(tx, thing.run), thing)
            return True
        now = self._ctx.clock.now()
        unsent = thing.state in NOT_BEGUN or (thing.state is RunState.STARTING and await self._unsent(tx, thing))
        if unsent:
            await outbox.never_sent(tx, thing.id, OutboxKind.START, now)
        after, effect = lifecycle.taken_back(thing, now) if unsent else (thing, ())
        await self._ctx.save(tx, thing, (lifecycle.without_words(after), effect))
        return True

    async def _withdraw(self, tx: AsyncConnection, run: Run, follow_up: FollowUp) -> None:
        """Keep a reply from the agent, unless it has it, and forget what it says."""
        state = FollowUpState.WITHDRAWN if follow_up.state in UNSENT else follow_up.state
        await runs.save_follow_up(tx, replace(follow_up, state=state, text="", files=()))
        await self._ctx.save(tx, run, (lifecycle.asks_no_more(run, follow_up.id), ()))
        await outbox.release(tx, effects.send_lane(run), now=self._ctx.clock.now())


def read(text: str) -> Start:
    """Return an edited text as the task it would be."""
    command = commands.parse(text if (anew := commands.anew(text)) is None else anew)
    return command if isinstance(command, Start) else Start(text)


def is_new_request(incoming: Incoming, was: str) -> bool:
    """Return whether an edit is to be handled as a request: before it, its message was none that the bot could read.

    was: what it said, without our mention.
    """
    return (incoming.mentions_us or incoming.direct) and isinstance(commands.parse(was), Unclear)
