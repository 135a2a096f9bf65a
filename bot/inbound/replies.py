"""Replies in the thread of a run: commands, answers to the bot's questions, decisions, words for the agent."""

from collections.abc import Sequence
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.context import Context
from bot.core import commands, lifecycle, words
from bot.core.model import (
    Action,
    Do,
    FollowUp,
    FollowUpState,
    Help,
    Incoming,
    ListRuns,
    Run,
    RunState,
    Start,
    Status,
    Unclear,
    UnclearReason,
    Waiting,
)
from bot.inbound.actions import Actions
from bot.store import runs

LISTED = 10  # runs in a list


class Replies:
    """Handles replies, each within the transaction that closes its inbox row."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.moves = Actions(ctx)

    def listed(self, found: Sequence[Run]) -> str:
        """Return a list of runs, with links to their threads."""
        return words.runs([(run, self._ctx.links.thread(run)) for run in found])

    async def take(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        """Do what a reply says: a command, an answer, a decision, or words for the agent."""
        now = self._ctx.clock.now()
        match commands.parse(text):
            case Do(Action.APPROVE | Action.REJECT) if run.waiting is Waiting.APPROVAL:
                await effects.enqueue_answer(tx, incoming, words.use_the_buttons(), now)
            case Do(action) if (move := lifecycle.action_for_word(run, action)) is not None:
                await self.moves.take(tx, run, move, incoming)
            case Do(Action.LEAVE) if lifecycle.restartable(run):
                await effects.enqueue_reply(tx, incoming, words.leave(), now)
            case Status():
                await effects.enqueue_reply(tx, incoming, words.status(run), now)
            case ListRuns():
                await effects.enqueue_answer(
                    tx, incoming, self.listed(await runs.latest_in(tx, run.channel, LISTED)), now
                )
            case Help():
                await effects.enqueue_answer(tx, incoming, words.help_text(), now)
            case Unclear(UnclearReason.MISSPELT) as misspelt:
                await effects.enqueue_answer(tx, incoming, words.unclear(misspelt), now)
            case Unclear(UnclearReason.EMPTY) as empty if not text.strip():
                await effects.enqueue_answer(tx, incoming, words.unclear(empty), now)
            case Start() | Do() | Unclear():
                await self._words(tx, run, incoming, text)
            case unread:
                assert_never(unread)

    async def _words(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        """Handle a reply that is no command: an answer to the bot's question, or words for the agent."""
        now = self._ctx.clock.now()
        if run.state is RunState.NEEDS_REPOSITORY:
            await self._choose(tx, run, incoming, text)
        elif run.state is RunState.CANCELLED:
            await effects.enqueue_reply(tx, incoming, words.follow_up_cancelled(), now)
        elif incoming.ts is not None:
            state = FollowUpState.WAITING
            if lifecycle.restartable(run):  # kept for the next conversation, which a person may ask for
                state = FollowUpState.FAILED
            elif incoming.age_s(now) >= self._ctx.patience.stale_request_s:
                state = FollowUpState.HELD
            follow_up = FollowUp(
                id=effects.new_id(),
                run=run.id,
                author=incoming.user,
                text=text,
                source_ts=incoming.ts,
                state=state,
            )
            await runs.add_follow_up(tx, follow_up)
            if state is FollowUpState.FAILED:
                await effects.enqueue_reply(tx, incoming, words.cannot_follow_up(run), now)
                return
            await effects.enqueue_send(tx, run, follow_up, now)
            await effects.enqueue_reaction(tx, run, incoming.ts, effects.RECEIVED, now)
            if state is FollowUpState.HELD:
                if run.doubtful_follow_up is None:
                    await effects.enqueue_reply(tx, incoming, words.follow_up_old(text), now)
                await self._ctx.save(tx, run, (lifecycle.asks(run, follow_up), ()))

    async def _choose(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        now = self._ctx.clock.now()
        answer = commands.repository_answer(text)
        if answer is None:
            await effects.enqueue_reply(tx, incoming, words.not_a_repository(), now)
            return
        after, effect = lifecycle.choose(run, answer.repository, answer.branch, effects.new_conversation(), now)
        await self._ctx.save(tx, run, (after, effect))
