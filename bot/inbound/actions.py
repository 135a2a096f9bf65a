"""What people do to a run, by a button or by a word: each within the transaction that closes its inbox row."""

from dataclasses import replace
from typing import assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects, slots
from bot.context import Context
from bot.core import cards, lifecycle, policy, words
from bot.core.model import Act, Action, FollowUpState, Incoming, Run, RunState
from bot.core.owed import OutboxKind
from bot.core.policy import Allowed, Refused, What
from bot.door import Asker
from bot.store import audit, outbox, runs
from bot.store.audit import Entry

log = structlog.get_logger("policy")

QUEUES = frozenset({Action.RETRY, Action.GO, Action.USE, Action.NO_REPOSITORY})
"""What makes a run wait for a slot."""


class Actions:
    """Does what a person asked for if it still applies; if not, answers that person alone."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def may(
        self, tx: AsyncConnection, asker: Asker, incoming: Incoming, what: What, run: Run | None = None
    ) -> Allowed | None:
        """Return what allows an act; where the rules refuse it, tell the person, alone, and return None."""
        match asker.judge(what):
            case Allowed() as allowed:
                return allowed
            case Refused() as refused:
                log.info(
                    "request.refused", rule=refused.rule, act=what.act, user=incoming.user, channel=incoming.channel
                )
                await self.note(tx, what.act, incoming, refused, run)
                told = words.denied(refused, what, asker.rules.admins)
                if told:
                    await effects.enqueue_answer(tx, incoming, told, self._ctx.clock.now())
                return None
            case unread:
                assert_never(unread)

    async def has_room(self, tx: AsyncConnection, incoming: Incoming, action: Act | Action, run: Run | None) -> bool:
        """Return whether one more run of a person may wait for a slot, and begin; where not, tell them, alone.

        run: the one that an action queues; None for a new one. Only a new run and a retry count to the hour.
        """
        now, limits, person = self._ctx.clock.now(), self._ctx.limits, incoming.user
        over = await slots.over_limit(tx, limits, person)
        if over is None and (run is None or action is Action.RETRY):
            channel, ts = (incoming.channel, incoming.thread) if run is None else (run.channel, run.thread_ts)
            over = await slots.over_hour(tx, limits, person, (channel, ts) if ts else None, now)
        if over is None:
            return True
        log.info("request.refused", rule=over.rule, act=action, user=person, channel=incoming.channel)
        await self.note(tx, action, incoming, Refused(over.rule), run)
        await effects.enqueue_answer(tx, incoming, over.told, now)
        return False

    async def note(
        self, tx: AsyncConnection, action: Act | Action, incoming: Incoming, said: Allowed | Refused, run: Run | None
    ) -> None:
        """Record what somebody did, or was refused; of a decision also what they were shown."""
        decides = run is not None and action in (Action.APPROVE, Action.REJECT)
        entry = Entry(
            actor=incoming.user,
            action=action.value,
            verdict="allowed" if isinstance(said, Allowed) else "refused",
            rule=said.rule,
            place=incoming.channel,
            run="" if run is None else run.id,
            shown=audit.sha256(run.detail) if run is not None and decides else "",
        )
        await audit.add(tx, entry, self._ctx.clock.now())

    async def take(self, tx: AsyncConnection, run: Run, action: Action, incoming: Incoming, asker: Asker) -> bool:
        """Do an action, if the run as it is now, in this transaction, offers it and the rules allow it.

        Return False if they do not.
        """
        allowed = await self.may(tx, asker, incoming, meant(run, action, incoming), run)
        if allowed is None:
            return False
        if action in QUEUES & set(lifecycle.offers(run)) and not await self.has_room(tx, incoming, action, run):
            return False
        if action in lifecycle.offers(run) or action in (Action.STOP, Action.CANCEL):
            await self.note(tx, action, incoming, allowed, run)
        await self._take(tx, run, action, incoming, allowed)
        return True

    async def _take(self, tx: AsyncConnection, run: Run, action: Action, incoming: Incoming, allowed: Allowed) -> None:
        now = self._ctx.clock.now()
        if action is Action.STOP or action is Action.CANCEL:
            await self._stop(tx, run, incoming)
            return
        if action not in lifecycle.offers(run):
            await effects.enqueue_answer(tx, incoming, words.not_now(run, action, incoming.user), now)
            return
        by = incoming.user
        match action:
            case Action.RESUME:
                after = lifecycle.resume(run, by)
                await self._ctx.save(tx, run, (after, ()))
                await effects.enqueue_resume(tx, after, now)
            case Action.RETRY:
                await self._begin_anew(tx, run, incoming)
            case Action.APPROVE if allowed.approvals > 1 and run.first_approval in (None, by):
                if run.first_approval is None:
                    await self._ctx.save(tx, run, (lifecycle.approved_by_one(run, by), ()))
                else:
                    await effects.enqueue_answer(tx, incoming, words.another_must_approve(), now)
            case Action.APPROVE | Action.REJECT:
                after = lifecycle.decide(run, by, approve=action is Action.APPROVE)
                await self._ctx.save(tx, run, (after, ()))
                await effects.enqueue_decision(tx, after, now)
            case Action.GO:
                await self._ctx.save(tx, run, lifecycle.go(run, by, now))
            case Action.USE | Action.NO_REPOSITORY:
                name = meant(run, action, incoming).repository
                chosen = lifecycle.acted(run, action, by)
                await self._ctx.save(tx, run, lifecycle.choose(chosen, name, None, effects.new_conversation(), now))
            case Action.AGAIN | Action.LEAVE:
                await self._settle(tx, run, action, incoming)
            case _:
                assert_never(action)

    async def _begin_anew(self, tx: AsyncConnection, run: Run, incoming: Incoming) -> None:
        """Retry in a new conversation, and send it the messages of uncertain delivery: surely it has none of them."""
        now = self._ctx.clock.now()
        if lifecycle.may_live(run):
            await effects.enqueue_stop_of_old(tx, run, now)
        after, effect = lifecycle.retry(run, incoming.user, effects.new_conversation(), now)
        for one in await runs.follow_ups_of(tx, run.id, [FollowUpState.SENDING, FollowUpState.UNSURE]):
            unsent = replace(
                one, state=FollowUpState.WAITING, last_event=None, quiet_since=None, asked_at=None, sends=0
            )
            await runs.save_follow_up(tx, unsent)
            after = lifecycle.asks_no_more(after, one.id)
        await self._ctx.save(tx, run, (after, effect))

    async def _settle(self, tx: AsyncConnection, run: Run, action: Action, incoming: Incoming) -> None:
        """Send what a person was asked about, or withdraw it: one uncertain message, or all old ones."""
        now = self._ctx.clock.now()
        after = FollowUpState.WAITING if action is Action.AGAIN else FollowUpState.WITHDRAWN
        found = await runs.follow_ups_of(tx, run.id, [FollowUpState.UNSURE, FollowUpState.HELD])
        asked = [one.state for one in found if one.id == run.doubtful_follow_up]
        for follow_up in found:
            if follow_up.state in asked:  # only the first in line can be unsure
                await runs.save_follow_up(tx, replace(follow_up, state=after, asked_at=None))
        await self._ctx.save(tx, run, (lifecycle.asks_no_more(lifecycle.acted(run, action, incoming.user)), ()))
        await outbox.release(tx, effects.send_lane(run), now=now)
        if action is Action.LEAVE:
            answer = effects.enqueue_answer if asked_elsewhere(incoming) else effects.enqueue_reply
            await answer(tx, incoming, words.leave(), now)

    async def _stop(self, tx: AsyncConnection, run: Run, incoming: Incoming) -> None:
        """Stop the run, and withdraw the messages that were not sent to the agent yet."""
        now = self._ctx.clock.now()
        no_card_yet = run.card.posts == 0  # and without a card no start is enqueued
        if run.state is RunState.STARTING and (
            no_card_yet or await outbox.never_sent(tx, run.id, OutboxKind.START, now)
        ):
            after, effect = lifecycle.cancel(run, incoming.user, now)
        else:
            after, effect = lifecycle.stop(run, incoming.user, now)
        waiting = await runs.follow_ups_of(tx, run.id, [FollowUpState.WAITING, FollowUpState.HELD])
        under_way = await runs.follow_ups_of(tx, run.id, [FollowUpState.SENDING, FollowUpState.UNSURE])
        if after == run and under_way:
            after = lifecycle.stop_later(run, incoming.user, now)
        if after == run and not waiting:
            await effects.enqueue_answer(tx, incoming, words.nothing_to_stop(run), now)
            return
        if any(one.id == after.doubtful_follow_up for one in waiting):
            after = lifecycle.asks_no_more(after)
        await self._ctx.save(tx, run, (after, effect))
        being_woken = after.state is RunState.STOPPED and bool(run.resume_by or waiting)
        if being_woken or after.state not in lifecycle.ENDED:
            await effects.enqueue_stop(tx, after, now, woken=being_woken)
        for one in waiting:
            await runs.save_follow_up(tx, replace(one, state=FollowUpState.WITHDRAWN))
        if waiting:
            await outbox.release(tx, effects.send_lane(run), now=now)
            told = words.withdrawn(len(waiting))
            if not asked_elsewhere(incoming):
                await effects.enqueue_reply(tx, incoming, told, now)
            elif all(one.author == incoming.user for one in waiting):
                await effects.enqueue_answer(tx, incoming, told, now)
            else:  # whoever else wrote one must read it
                await effects.enqueue_message(tx, run, cards.sentence(told), now)


def meant(run: Run, action: Action, incoming: Incoming) -> What:
    """Return what an action does to a run; the button of a repository, or of none, chooses it."""
    what = policy.what_of(run, policy.ACTS[action])
    if action is Action.NO_REPOSITORY:
        return replace(what, repository=None)
    if action is Action.USE:
        drawn = cards.drawn(incoming.value)
        return replace(what, repository=None if drawn is None else drawn.thing)
    return what


def asked_elsewhere(incoming: Incoming) -> bool:
    """Return whether a word was said at the top level of a channel: an answer there would be for all who read it."""
    return incoming.action is None and incoming.thread_ts is None and not incoming.direct
