"""Replies in the thread of a run: commands, answers to the bot's questions, decisions, words for the agent."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects
from bot.context import Context
from bot.core import addressee, commands, lifecycle, policy, words
from bot.core.model import (
    Act,
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
    Why,
)
from bot.door import Asker
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

    async def take(
        self,
        tx: AsyncConnection,
        run: Run,
        incoming: Incoming,
        text: str,
        sent_at: datetime,
        *,
        asker: Asker,
        since: str = "",
    ) -> None:
        """Do what a reply says, if the rules allow it: a command, an answer, a decision, or words for the agent.

        since: what people said in the thread since the last message to the agent, which goes along.
        """
        now = self._ctx.clock.now()
        reply = addressee.Reply(run=run, text=text, mentions_us=incoming.mentions_us, files=bool(incoming.files))
        to = addressee.addressee(reply)
        if to is addressee.Addressee.PEOPLE:
            return
        if to is addressee.Addressee.AGENT:
            await self._words(tx, run, incoming, text, sent_at, asker=asker, since=since)
            return
        if isinstance(reply.command, Status | ListRuns) and not await self.moves.may(
            tx, asker, incoming, policy.what_of(run, Act.LOOK), run
        ):
            return
        match reply.command:
            case Do(Action.APPROVE | Action.REJECT) if run.waiting is Waiting.APPROVAL:
                card = self._ctx.links.thread(run)
                await effects.enqueue_answer(tx, incoming, words.use_the_buttons(card), now)
            case Do(action) if (move := lifecycle.action_for_word(run, action)) is not None:
                await self.moves.take(tx, run, move, incoming, asker)
            case Do(Action.LEAVE) if lifecycle.restartable(run):
                await effects.enqueue_reply(tx, incoming, words.leave(), now)
            case Status():
                [run] = await runs.with_positions(tx, [run])
                await effects.enqueue_reply(tx, incoming, words.status(run, self._ctx.links.thread(run)), now)
            case ListRuns():
                await effects.enqueue_answer(
                    tx, incoming, self.listed(await runs.latest_in(tx, run.channel, LISTED)), now
                )
            case Help():
                await effects.enqueue_answer(tx, incoming, words.help_text(mentions_only=run.mentions_only), now)
            case Unclear(UnclearReason.MISSPELT) as misspelt:
                await effects.enqueue_answer(tx, incoming, words.unclear(misspelt), now)
            case Unclear(UnclearReason.EMPTY) as empty if not text.strip():
                await effects.enqueue_answer(tx, incoming, words.unclear(empty), now)
            case Start() | Do() | Unclear() | Why():
                await self._words(tx, run, incoming, text, sent_at, asker=asker)
            case unread:
                assert_never(unread)

    async def _words(
        self,
        tx: AsyncConnection,
        run: Run,
        incoming: Incoming,
        text: str,
        sent_at: datetime,
        *,
        asker: Asker,
        since: str = "",
    ) -> None:
        """Handle a reply that is no command: an answer to the bot's question, or words for the agent."""
        if run.state is RunState.NEEDS_REPOSITORY:
            await self._choose(tx, run, incoming, text, sent_at, asker=asker)
        elif run.state is RunState.CANCELLED:
            await self._say_once(tx, run, incoming, words.follow_up_cancelled())
        elif allowed := await self.moves.may(tx, asker, incoming, policy.what_of(run, Act.ANSWER), run):
            await self.moves.note(tx, Act.ANSWER, incoming, allowed, run)
            await self.to_agent(tx, run, incoming, words.with_what_was_said(text, since), sent_at)

    async def to_agent(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str, sent_at: datetime) -> None:
        """Enqueue a message for the agent, or ask whether it is still to be sent."""
        now = self._ctx.clock.now()
        if incoming.ts is not None:
            state = FollowUpState.WAITING
            overtaken = run.state is RunState.STOPPED and run.stop_at is not None and sent_at < run.stop_at
            if lifecycle.restartable(run):  # kept for the next conversation, which a person may ask for
                state = FollowUpState.FAILED
            elif overtaken or incoming.age_s(now) >= self._ctx.patience.stale_request_s:
                state = FollowUpState.HELD
            follow_up = FollowUp(
                id=effects.new_id(),
                run=run.id,
                author=incoming.user,
                text=text,
                files=incoming.files,
                source_ts=incoming.ts,
                source_channel=incoming.channel if incoming.channel != run.channel else None,
                state=state,
            )
            await runs.add_follow_up(tx, follow_up)
            if state is FollowUpState.FAILED:
                await self._say_once(tx, run, incoming, words.cannot_follow_up(run))
                return
            await effects.enqueue_send(tx, run, follow_up, now)
            if state is FollowUpState.HELD:
                asking = await self._ctx.save(tx, run, (lifecycle.asks(run, follow_up), ()))
                if run.doubtful_follow_up is None:
                    told = words.follow_up_overtaken(text) if overtaken else words.follow_up_old(text)
                    await effects.enqueue_reply(tx, incoming, told, now, about=asking)

    async def _say_once(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> None:
        """Say to everybody why a reply goes nowhere; afterwards only to who mentions us: others may talk there."""
        to_us = incoming.mentions_us or incoming.direct
        once = None if to_us else effects.row_of(run, f"goes nowhere: {run.state} {run.attempt}")
        await effects.enqueue_reply(tx, incoming, text, self._ctx.clock.now(), once=once, about=run)

    def answer(self, run: Run, text: str) -> commands.Answer | None:
        """Return the answer to "which repository?" that a reply gives."""
        return commands.repository_answer(text, lifecycle.suggested(run))

    async def _choose(
        self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str, sent_at: datetime, *, asker: Asker
    ) -> None:
        """Take the repository that a reply names, or ask about it if the account has none of that name."""
        now = self._ctx.clock.now()
        answer = self.answer(run, text)
        if answer is None:
            await self._say_once(tx, run, incoming, words.not_a_repository(run))
            return
        known = self._ctx.repositories.known.also(await runs.used_in(tx, run.channel))
        name = answer.repository
        what = replace(policy.what_of(run, Act.START), repository=name)
        allowed = await self.moves.may(tx, asker, incoming, what, run)
        if allowed is None:
            return
        if name is not None:
            named_before = {one.lower() for one in (*run.candidates, run.repository) if one is not None}
            spelled = known.spelled(name)
            if spelled is None and known.whole and name.lower() not in named_before:
                asking = lifecycle.asked_again(run, name, policy.allowed(asker.rules, known.near(name)))
                await self._ctx.save(tx, run, (asking, ()))
                await effects.enqueue_reply(tx, incoming, words.which_repository(asking), now, about=asking)
                return
            name = spelled or name
        if not await self.moves.has_room(tx, incoming, Action.USE, run):
            return
        await self.moves.note(tx, Action.USE, incoming, allowed, run)
        after = await self._ctx.save(
            tx, run, lifecycle.choose(run, name, answer.branch, effects.new_conversation(), now)
        )
        if answer.more or incoming.files:
            await self.to_agent(tx, after, incoming, text, sent_at)
