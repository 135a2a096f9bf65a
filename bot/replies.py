"""Replies in the thread of a run: commands, answers to the bot's questions, decisions, words for the agent."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import commands, effects, lifecycle, words
from bot.means import Worker
from bot.model import (
    ConversationId,
    Decision,
    FollowUp,
    FollowUpState,
    Help,
    Incoming,
    ListRuns,
    Run,
    RunState,
    Status,
    Stop,
    Unclear,
    UnclearReason,
)
from bot.store import outbox, runs
from bot.store.outbox import Owed

LISTED = 10  # runs in a list


class Replies(Worker):
    """Takes replies, each within the transaction that closes its inbox row."""

    def listed(self, found: Sequence[Run]) -> str:
        """List runs with links to their threads."""
        return words.runs([(run, self._site.thread(run)) for run in found])

    async def take(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        """Do what a reply says: a command, an answer, a decision, or words for the agent."""
        now = self._clock.now()
        match commands.parse(text):
            case Stop():
                await self.stop(tx, run, incoming)
            case Status():
                await effects.owe_reply(tx, incoming, words.status(run), now)
            case ListRuns():
                await effects.owe_answer(tx, incoming, self.listed(await runs.latest_in(tx, run.channel, LISTED)), now)
            case Help():
                await effects.owe_answer(tx, incoming, words.help_text(), now)
            case Unclear(UnclearReason.MISSPELT) as misspelt:
                await effects.owe_answer(tx, incoming, words.unclear(misspelt), now)
            case Unclear(UnclearReason.EMPTY) as empty if not text.strip():
                await effects.owe_answer(tx, incoming, words.unclear(empty), now)
            case _:
                await self._words(tx, run, incoming, text)

    async def _words(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        """Take a reply that is no command: an answer to the bot's question, a decision, or words for the agent."""
        now = self._clock.now()
        if run.state is RunState.NEEDS_REPOSITORY:
            await self._choose(tx, run, incoming, text)
        elif (decision := commands.decision(text)) and await self._decide(tx, run, incoming, decision):
            return
        elif run.state is RunState.CANCELLED:
            await effects.owe_reply(tx, incoming, words.follow_up_cancelled(), now)
        elif lifecycle.restartable(run):
            await effects.owe_reply(tx, incoming, words.cannot_follow_up(run), now)
        elif incoming.ts is not None:
            follow_up = FollowUp(
                id=effects.new_id(), run=run.id, author=incoming.user, text=text, source_ts=incoming.ts
            )
            await runs.add_follow_up(tx, follow_up)
            await effects.owe_send(tx, run, follow_up, now)
            await effects.owe_reaction(tx, run, incoming.ts, effects.RECEIVED, now)

    async def _choose(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        now = self._clock.now()
        answer = commands.repository_answer(text)
        if answer is None:
            await effects.owe_reply(tx, incoming, words.not_a_repository(), now)
            return
        after, effect = lifecycle.choose(run, answer.repository, answer.branch, new_conversation(), now)
        await self._save(tx, run, (after, effect))
        if run.card_ts is not None:
            await effects.owe_start(tx, after, now)

    async def _decide(self, tx: AsyncConnection, run: Run, incoming: Incoming, decision: Decision) -> bool:
        """Act on `again` or `leave it` where there is something to decide; else they are words like any other."""
        now = self._clock.now()
        unsure = [one for one in await runs.follow_ups_of(tx, run.id, [FollowUpState.UNSURE]) if one.asked_at]
        if not unsure and not lifecycle.restartable(run):
            return False
        if decision is Decision.LEAVE:
            for one in unsure:
                await runs.save_follow_up(tx, replace(one, state=FollowUpState.WITHDRAWN))
                await outbox.release(tx, effects.send_lane(run), now)
            await effects.owe_reply(tx, incoming, words.leave(), now)
        elif unsure:
            for one in unsure:
                await runs.save_follow_up(tx, replace(one, state=FollowUpState.WAITING, asked_at=None))
                await outbox.release(tx, effects.send_lane(run), now)
        else:
            after, effect = lifecycle.again(run, new_conversation(), now)
            await self._save(tx, run, (after, effect))
            await effects.owe_start(tx, after, now)
        return True

    async def stop(self, tx: AsyncConnection, run: Run, incoming: Incoming) -> None:
        """Stop the run; what was not sent to the agent yet is not sent any more."""
        now = self._clock.now()
        no_card_yet = run.cards == 0  # and without one no start is owed
        if run.state is RunState.STARTING and (no_card_yet or await outbox.never_sent(tx, run.id, Owed.START, now)):
            after, effect = lifecycle.cancel(run, incoming.user, now)
        else:
            after, effect = lifecycle.stop(run, incoming.user, now)
        waiting = await runs.follow_ups_of(tx, run.id, [FollowUpState.WAITING])
        under_way = await runs.follow_ups_of(tx, run.id, [FollowUpState.SENDING, FollowUpState.UNSURE])
        if after == run and under_way:
            after = lifecycle.stop_later(run, incoming.user, now)
        if after == run and not waiting:
            await effects.owe_answer(tx, incoming, words.nothing_to_stop(run), now)
            return
        await self._save(tx, run, (after, effect))
        if after.state not in lifecycle.ENDED:
            await effects.owe_stop(tx, after, now)
        for one in waiting:
            await runs.save_follow_up(tx, replace(one, state=FollowUpState.WITHDRAWN))
        if waiting:
            await outbox.release(tx, effects.send_lane(run), now)
            await effects.owe_reply(tx, incoming, words.withdrawn(len(waiting)), now)


def new_conversation() -> ConversationId:
    return ConversationId(str(uuid.uuid4()))
