"""Inbox row → parse → facts → policy → one transaction: the run, what it owes, and the row done."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import effects, slots
from bot.context import Context
from bot.core import addressee, cards, commands, lifecycle, policy, repositories, words
from bot.core.errors import SlackBusy, SlackError, SlackNoScope, SlackRefused, StoreUnreadable
from bot.core.files import LeftOut, Omission
from bot.core.model import (
    Act,
    Action,
    Command,
    Do,
    FollowUp,
    Help,
    Incoming,
    IncomingKind,
    ListRuns,
    MessageTs,
    Run,
    RunId,
    RunState,
    Start,
    Status,
    Unclear,
    UserId,
    Why,
)
from bot.core.mrkdwn import unescape_request
from bot.core.pacing import asked_to_wait, later, retry_at
from bot.core.policy import Allowed, What
from bot.door import Asker
from bot.inbound.corrections import Corrections, is_new_request, read
from bot.inbound.replies import LISTED, Replies
from bot.lanes import LaneScheduler
from bot.slack.gateway import Spoken
from bot.slack.recognise import as_edit
from bot.slack.said import Reader
from bot.store import inbox, runs, threads
from bot.store.inbox import InboxRow

log = structlog.get_logger("dispatcher")

WIDTH = 16
MOVABLE = timedelta(days=1)
"""Outside its thread, `retry` and `resume` do not mean a run that ended longer ago than this."""
READ_BACK_S = 120.0
"""Slack's clock and ours differ by less than this."""
LOOKED_UP = 3  # names of a request that are looked up by themselves
CONTEXT_MAX = 8_000  # characters of a thread that go along with a task
LINKS_READ = 3  # messages that a request links


ALONE = (Do, Status, ListRuns, Help)
"""Words for the bot itself."""
MARKED = {
    policy.Verdict.DROPPED: "app",
    policy.Verdict.GUEST: "guest",
    policy.Verdict.OUTSIDE: "from another company",
}
"""Authors whose words count as less than a colleague's."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier message of a thread, as it goes along with a task."""

    spoken: Spoken
    name: str
    what: str
    """What there is to know of its author; empty for a colleague."""
    text: str
    link: str = ""
    """Set if it is not of the thread, but somebody pointed to it."""


class Dispatcher:
    """Turns requests into runs, follow-ups, commands and answers."""

    def __init__(self, ctx: Context, *, default_repository: str | None, is_ahead: Callable[[Incoming], bool]) -> None:
        """default_repository: for requests that name none. is_ahead: whether older replies may be unread."""
        self._ctx = ctx
        self._is_ahead = is_ahead
        self._default_repository = default_repository
        self._replies = Replies(ctx)
        self._corrections = Corrections(ctx, self._replies, default_repository=default_repository)
        self.lanes = LaneScheduler[InboxRow](
            "dispatcher",
            ctx.clock,
            ctx.patience,
            due=self._due,
            work=self._work,
            give_up=self._give_up,
            width=WIDTH,
            wake=ctx.wake_dispatcher,
        )

    async def _due(self, now: datetime, busy: Collection[str]) -> tuple[Sequence[InboxRow], datetime | None]:
        try:
            async with self._ctx.database.reading() as tx:
                return await inbox.due(tx, now, busy, WIDTH), await inbox.next_at(tx, now)
        except StoreUnreadable as err:
            await self._ctx.close_unreadable(err)
            return [], now

    async def _give_up(self, row: InboxRow) -> None:
        await self._finish(row, words.broken())

    async def _finish(self, row: InboxRow, answer: str = "") -> None:
        """Close a row, with an answer that only its person sees, if there is one."""
        now = self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            if answer:
                await effects.enqueue_answer(tx, row.incoming, answer, now)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()

    async def _refuse(self, row: InboxRow, verdict: policy.Verdict) -> None:
        """Close a row that a first rule refuses. Other bots are no people: nothing is recorded of them."""
        if verdict is not policy.Verdict.DROPPED:
            act = policy.ACTS.get(row.incoming.action) if row.incoming.action else Act.START
            async with self._ctx.database.transaction() as tx:
                said = policy.Refused(verdict.value, verdict)
                await self._replies.moves.note(tx, act or Act.START, row.incoming, said, None)
        await self._finish(row, words.refused(verdict))

    # --- facts and rules ----------------------------------------------------------------------------------------

    async def _work(self, row: InboxRow) -> datetime | None:
        incoming = row.incoming
        structlog.contextvars.bind_contextvars(actor=incoming.user)  # each job is a task of its own
        if await self._waits(incoming):
            return later(self._ctx.clock.now(), self._ctx.patience.retry_first_s)
        thing = await self._became(incoming)
        if incoming.withdrawn:
            return await self._delete(row)
        if incoming.kind is IncomingKind.MESSAGE:
            meant = await self._corrections.corrected(incoming)
            if meant is None or (thing is not None and incoming.edited_at is None):
                await self._finish(row)  # deleted, or sent once more after its key was forgotten
                return None
            incoming = meant if thing is None else as_edit(meant)
        elif incoming.corrects and thing is None:
            was = unescape_request(incoming.was, self._ctx.links.us.user)
            if not is_new_request(incoming, was):
                await self._finish(row)
                return None
            incoming = replace(incoming, kind=IncomingKind.MESSAGE)
        row = replace(row, incoming=incoming)
        text = unescape_request(incoming.text, self._ctx.links.us.user)
        talk = await self._is_talk(incoming, text)  # first: talk is neither looked up nor refused
        if talk is None:
            return later(self._ctx.clock.now(), self._ctx.patience.retry_first_s)
        if talk:
            await self._talk(row)
            return None
        aside = is_aside(incoming, text)
        try:
            asker = await self._ctx.door.asker(
                incoming.user, incoming.channel, team=incoming.actor_team, external=incoming.external
            )
        except SlackError as err:
            await self._facts_missing(row, err)
            return None
        verdict = policy.first_rules(asker.who, asker.where)
        if aside:  # nobody is refused what the bot has no part in
            await self._finish(row, words.kept_among_people() if verdict is policy.Verdict.ALLOWED else "")
            return None
        if verdict is not policy.Verdict.ALLOWED:
            log.info("request.refused", rule=verdict, user=incoming.user, channel=incoming.channel)
            await self._refuse(row, verdict)
            return None
        if incoming.action is not None:
            await self._click(row, incoming.action, asker)
            return None
        if thing is not None:
            await self._edit(row, text, asker)
            return None
        if incoming.kind is IncomingKind.COMMAND:
            return await self._command(row, text, asker)
        return await self._message(row, text, asker)

    async def _waits(self, incoming: Incoming) -> bool:
        """Return whether a request waits for older ones of its thread: missed ones that are unread, or ones in other lanes.

        What is urgent does not wait for a reading, nor for the replies that do.
        """
        if incoming.corrects:
            async with self._ctx.database.reading() as tx:
                return await inbox.is_open(tx, incoming, incoming.ts or MessageTs(""))
        ahead = self._is_ahead(incoming)
        if ahead and not addressee.is_urgent(incoming):
            return True
        if incoming.thread_ts is None:
            return False
        async with self._ctx.database.reading() as tx:
            return await inbox.waits_for_earlier(tx, incoming, incoming.thread_ts, ahead=ahead)

    async def _became(self, incoming: Incoming) -> Run | FollowUp | None:
        """Return what a message became already: one that was changed, or that comes again after its key was forgotten."""
        late = incoming.age_s(self._ctx.clock.now()) >= self._ctx.patience.keep_keys_s
        if incoming.ts is None or incoming.action is not None or not (incoming.edited_at or incoming.corrects or late):
            return None
        async with self._ctx.database.reading() as tx:
            return await runs.of_message(tx, incoming.channel, incoming.ts)

    async def _edit(self, row: InboxRow, text: str, asker: Asker) -> None:
        incoming, now = row.incoming, self._ctx.clock.now()
        command = read(text)
        known = await self._known(command, incoming)
        async with self._ctx.database.transaction() as tx:
            thing = incoming.ts and await runs.of_message(tx, incoming.channel, incoming.ts)
            if thing:
                await self._corrections.edit(tx, thing, incoming, text, known, asker=asker)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()

    async def _delete(self, row: InboxRow) -> datetime | None:
        incoming, now = row.incoming, self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            thing = incoming.ts and await runs.of_message(tx, incoming.channel, incoming.ts)
            if thing and not await self._corrections.delete(tx, thing):
                return later(now, self._ctx.patience.retry_slowest_s)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()
        return None

    async def _is_talk(self, incoming: Incoming, text: str) -> bool | None:
        """Return whether a reply is talk among people, since the thread turned out not to be ours.

        None: not known yet, since a card is on its way that may be this thread's root.
        """
        if incoming.thread_ts is None or incoming.kind is not IncomingKind.MESSAGE:
            return False
        if incoming.mentions_us or incoming.direct:
            return False
        async with self._ctx.database.reading() as tx:
            found = await runs.of_thread(tx, incoming.team, incoming.channel, incoming.thread_ts)
            if found is not None:
                run, every_reply = found
                asking = await runs.asking_in(tx, incoming.channel, incoming.thread_ts)
                heard = [one for one in (run, *asking) if addressee.counts_unmentioned(one, incoming.user, text)]
                if not (every_reply or heard):
                    return True
                if addressee.meant(run, asking, text, incoming.user, mentions_us=False) != [run]:
                    return False
                reply = addressee.Reply(run=run, text=text, mentions_us=False, files=bool(incoming.files))
                return addressee.addressee(reply) is addressee.Addressee.PEOPLE and not commands.is_aside(text)
            return None if await inbox.card_owed(tx, incoming.channel) else True

    async def _talk(self, row: InboxRow) -> None:
        """Close a row that is not for the bot. In a thread whose run is not kept any more, it was meant to be: say so once."""
        incoming, now = row.incoming, self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            if incoming.thread_ts and await threads.let_go(tx, incoming.team, incoming.channel, incoming.thread_ts):
                await effects.enqueue_answer(tx, incoming, words.not_kept(), now)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()

    async def _facts_missing(self, row: InboxRow, err: SlackError) -> None:
        """Retry while Slack can't say who asked; after `facts_person_s`, or if Slack refuses, refuse in words."""
        if isinstance(err, SlackRefused) or self._waited(row, self._ctx.patience.facts_person_s):
            if is_aside(row.incoming, row.incoming.text):
                await self._finish(row)
                return
            log.warning("request.refused", verdict="unknown", code=err.code)
            who = words.not_permitted(err.needed) if isinstance(err, SlackNoScope) else words.cannot_tell_who()
            await self._finish(row, who)
            return
        await self._wait(row, err)
        return

    def _waited(self, row: InboxRow, seconds: float) -> bool:
        return self._ctx.clock.now() - row.received_at >= timedelta(seconds=seconds)

    async def _wait(self, row: InboxRow, err: SlackError) -> None:
        """Try a request again when Slack may answer."""
        now = self._ctx.clock.now()
        if row.attempts == 0:
            log.warning("request.waits", code=err.code, user=row.incoming.user, channel=row.incoming.channel)
        at = (
            asked_to_wait(err.retry_after_s, now, self._ctx.patience)
            if isinstance(err, SlackBusy)
            else retry_at(row.attempts + 1, now, self._ctx.patience)
        )
        async with self._ctx.database.transaction() as tx:
            await inbox.again(tx, row.seq, at)

    # --- what was asked -----------------------------------------------------------------------------------------

    async def _command(self, row: InboxRow, text: str, asker: Asker) -> datetime | None:
        command = commands.parse(text)
        if isinstance(command, Start):
            known = await self._known(command, row.incoming)
            await self._begin(row, command, asker, known)
            return None
        await self._here(row, command, asker)
        return None

    async def _message(self, row: InboxRow, text: str, asker: Asker) -> datetime | None:
        incoming = row.incoming
        words_alone = commands.only(text) if incoming.mentions_us else None
        bare, text = words_alone is not None, text if words_alone is None else words_alone
        async with self._ctx.database.reading() as tx:
            found = incoming.thread and await runs.of_thread(tx, incoming.team, incoming.channel, incoming.thread)
            mine: Sequence[Run] = ()
            if incoming.direct:
                asking = await runs.asking_directly(tx, incoming.channel, incoming.user)
                mine = asking or await runs.live_of(tx, incoming.channel, incoming.user)
        if found:
            return await self._reply(row, found[0], text, asker, bare=bare)
        only = mine[0] if len(mine) == 1 and incoming.thread_ts is None else None
        anew = commands.anew(text)
        if anew is not None:
            only, text = None, anew
        command = commands.parse(text)
        if incoming.files and isinstance(command, Unclear):
            command = Start(text.strip() or words.look_at_files())
        known = await self._known(command, incoming)
        if only is not None and await self._is_meant_for(only, command, text, incoming, known):
            return await self._reply(row, only, text, asker, bare=bare)
        above = incoming.thread_ts is not None and incoming.mentions_us and commands.points_above(text)
        if above and not incoming.files:
            command = Start(words.look_above())
        if not isinstance(command, Start):
            await self._here(row, command, asker)
            return None
        await self._begin(row, command, asker, known, bare=bare)
        return None

    async def _begin(
        self,
        row: InboxRow,
        command: Start,
        asker: Asker,
        known: repositories.Known,
        *,
        said: str = "",
        bare: bool = False,
    ) -> None:
        """Start a run; what was said before in its thread, and the messages that it links, go along as context.

        said: what the person is told about it. bare: nothing goes along.
        """
        incoming = row.incoming
        notes = [said] if said else []
        earlier: list[Earlier] = []
        if not bare:
            read = await self._before(row, asker)
            if read is None:
                return
            earlier = read[0] + await self._linked(incoming, asker, notes)
            notes += read[1]
        if refused := [LeftOut(file.name, Omission.AUTHOR) for one in earlier if one.what for file in one.spoken.files]:
            notes.append(words.files_left_out(refused))
        if command.task == words.look_above() and not earlier:
            now = self._ctx.clock.now()
            async with self._ctx.database.transaction() as tx:
                await effects.enqueue_reply(tx, incoming, words.nothing_above(), now)
                await inbox.done(tx, row.seq, now)
            self._ctx.wake_sender.set()
            return
        await self._start(row, command, asker, known, earlier=earlier, notes=notes)

    async def _before(
        self, row: InboxRow, asker: Asker, *, after: MessageTs | None = None
    ) -> tuple[list[Earlier], list[str]] | None:
        """Return what was said in a request's thread before it, and what its person is told of the reading.

        after: only what is newer than that message. None: Slack is asked again later.
        """
        incoming = row.incoming
        if incoming.thread_ts is None or incoming.ts is None:
            return [], []
        try:
            spoken, whole = await self._ctx.gateway.spoken(
                incoming.channel, incoming.thread_ts, incoming.ts, self._ctx.links.us, after=after
            )
        except SlackRefused as err:
            log.warning("context.unreadable", code=err.code, channel=incoming.channel)
            return [], [words.thread_unread()]
        except SlackError as err:
            if not self._waited(row, self._ctx.patience.context_s):
                await self._wait(row, err)
                return None
            log.warning("context.unreadable", code=err.code, channel=incoming.channel)
            return [], [words.thread_unread_for_now()]
        earlier = await self._earlier(asker, spoken)
        return earlier, [] if whole else [words.thread_read_in_part(len(earlier))]

    async def _linked(self, incoming: Incoming, asker: Asker, notes: list[str]) -> list[Earlier]:
        """Return the messages that a request links, as far as they may be passed on: of its own place, or a public one.

        notes: gets what its person is told of the others.
        """
        found: list[Earlier] = []
        linked = self._ctx.links.us.linked(incoming.text)
        for one in linked[:LINKS_READ]:
            try:
                if one.channel != incoming.channel:
                    there = await self._ctx.gateway.place(one.channel)
                    if there.private or there.external:
                        continue
                spoken = await self._ctx.gateway.spoken_at(one, self._ctx.links.us)
            except SlackError as err:
                log.warning("link.unreadable", code=err.code, channel=one.channel)
                continue
            read = await self._earlier(asker, [spoken] if spoken else [])
            found += [replace(earlier, link=one.address) for earlier in read]
        if len(found) < len(linked):
            notes.append(words.links_unread(len(linked) - len(found)))
        return found

    async def _here(self, row: InboxRow, command: Do | Status | ListRuns | Help | Unclear | Why, asker: Asker) -> None:
        """Answer a command that was given outside of a run's thread, to its person alone."""
        incoming, now = row.incoming, self._ctx.clock.now()
        is_admin = isinstance(asker.judge(What(act=Act.ADMINISTER)), Allowed)
        told = await self._why(command) if isinstance(command, Why) and is_admin else ""
        async with self._ctx.database.transaction() as tx:
            match command:
                case Status() | ListRuns() if not await self._replies.moves.may(tx, asker, incoming, policy.LOOKING):
                    answer = ""
                case Do(Action.STOP | Action.CANCEL):
                    answer = await self._stop_only(tx, incoming, asker)
                case Do(action):
                    answer = await self._move_only(tx, incoming, action, asker)
                case Status():
                    mine = await runs.with_positions(tx, await runs.live_of(tx, incoming.channel, incoming.user))
                    each = (words.status(run, self._ctx.links.thread(run)) for run in mine)
                    answer = "\n".join(each) or words.no_run_of_yours()
                case ListRuns():
                    answer = self._replies.listed(await runs.latest_in(tx, incoming.channel, LISTED))
                case Why():
                    allowed = await self._replies.moves.may(tx, asker, incoming, What(act=Act.ADMINISTER))
                    answer = told if allowed else ""
                case Help():
                    answer = words.help_text()
                case Unclear():
                    answer = words.unclear(command)
                case _:
                    assert_never(command)
            if answer:
                await effects.enqueue_answer(tx, incoming, answer, now)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()

    async def _why(self, asked: Why) -> str:
        """Tell an admin whether somebody may do something somewhere."""
        try:
            return words.explained(asked, await self._ctx.door.explain(asked))
        except SlackError:
            return words.not_found_to_explain(asked)

    async def _stop_only(self, tx: AsyncConnection, incoming: Incoming, asker: Asker) -> str:
        """Stop the person's only live run in this place, or ask which; return the answer."""
        mine = await runs.live_of(tx, incoming.channel, incoming.user)
        match list(mine):
            case []:
                return words.no_run_of_yours()
            case [run]:
                taken = await self._replies.moves.take(tx, run, Action.STOP, incoming, asker)
                return words.stopping(self._ctx.links.thread(run)) if taken else ""
            case several:
                return f"{words.which_run()}\n{self._replies.listed(several)}"

    async def _move_only(self, tx: AsyncConnection, incoming: Incoming, action: Action, asker: Asker) -> str:
        """Apply a word to the person's only run here that can take it, or ask which; return the answer.

        A word can mean different things to different runs, so among several the thread must say which is meant.
        """
        match await self._moves(tx, incoming, action):
            case []:
                return words.none_to(action)
            case [(run, Action.APPROVE | Action.REJECT)]:
                return words.use_the_buttons(self._ctx.links.thread(run))
            case [(run, move)]:
                taken = await self._replies.moves.take(tx, run, move, incoming, asker)
                return words.taken(self._ctx.links.thread(run)) if taken and move is not Action.LEAVE else ""
            case several:
                return f"{words.which_to(action)}\n{self._replies.listed([run for run, _ in several][:LISTED])}"

    async def _moves(self, tx: AsyncConnection, incoming: Incoming, action: Action) -> list[tuple[Run, Action]]:
        """Return the person's runs here that can take a word, each with the action it means there, newest first."""
        recent = await runs.recent_of(tx, incoming.channel, incoming.user, self._ctx.clock.now() - MOVABLE)
        return [(run, move) for run in recent if (move := lifecycle.action_for_word(run, action)) is not None]

    async def _is_meant_for(
        self, run: Run, command: Command, text: str, incoming: Incoming, known: repositories.Known
    ) -> bool:
        """Return whether a direct message outside of any thread is for the person's only live run there.

        It is if it names no repository, or only a repository when the run asks for one. Words such as `again` are for it
        too: if the run can't take them as commands, they go to the agent. What another run can take is for that one.
        """
        if run.state is RunState.NEEDS_REPOSITORY and self._replies.answer(run, text) is not None:
            return True
        if addressee.may_answer_agent(run, command):
            return True
        if isinstance(command, Do):
            return command.action not in (Action.STOP, Action.CANCEL) and not await self._movable(incoming, command)
        if not isinstance(command, Start):
            return False
        return not repositories.names_one(command, known)

    async def _movable(self, incoming: Incoming, command: Command) -> bool:
        """Return whether a word applies to any of the person's runs here."""
        if not isinstance(command, Do):
            return False
        async with self._ctx.database.reading() as tx:
            return bool(await self._moves(tx, incoming, command.action))

    async def _click(self, row: InboxRow, action: Action, asker: Asker) -> None:
        """Do what a button stands for, if it still does: the run may have changed since the button was drawn."""
        incoming, now = row.incoming, self._ctx.clock.now()
        async with self._ctx.database.transaction() as tx:
            drawn = cards.drawn(incoming.value)
            run = None if drawn is None else await runs.find(tx, drawn.run)
            if run is None or drawn is None or not is_shown(run, incoming):
                await effects.enqueue_answer(tx, incoming, words.unknown_button(), now)
            elif (move := lifecycle.action_for_click(run, action, drawn.turn, drawn.thing)) is None:
                await effects.enqueue_answer(tx, incoming, words.not_now(run, action, incoming.user), now)
            else:
                await self._replies.moves.take(tx, run, move, incoming, asker)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()

    # --- new runs -----------------------------------------------------------------------------------------------

    async def _start(
        self,
        row: InboxRow,
        command: Start,
        asker: Asker,
        known: repositories.Known,
        *,
        earlier: Sequence[Earlier],
        notes: Sequence[str] = (),
    ) -> None:
        """Create the run. earlier: of its thread. notes: what its person alone is told about it."""
        incoming, now = row.incoming, self._ctx.clock.now()
        said = [one.text for one in earlier if not one.what]
        others = [one.text for one in earlier if one.what]
        async with self._ctx.database.transaction() as tx:
            before = incoming.thread and await runs.of_thread(tx, incoming.team, incoming.channel, incoming.thread)
            run = lifecycle.requested(
                command,
                incoming,
                asker.who.person,
                asker.where,
                id=RunId(effects.new_id()),
                conversation=effects.new_conversation(),
                context=transcript(
                    [one for one in earlier if not (before and isinstance(commands.parse(one.text), ALONE))]
                ),
                files=(
                    *incoming.files,
                    *(file for one in reversed(earlier) if not one.what for file in one.spoken.files),
                ),
                choice=repositories.choose(
                    command,
                    known,
                    thread=repository_of_thread(before[0] if before else None, said),
                    default=self._default_repository,
                    others=tuple(sorted(named_in(others))),
                ),
                now=now,
            )
            every_reply = incoming.thread_ts is None or incoming.direct or bool(before and before[1])
            run = replace(run, mentions_only=not every_reply)
            asked_at = written_at(row, now)
            if now - asked_at >= timedelta(seconds=self._ctx.patience.stale_request_s):
                run = lifecycle.asked_long_ago(run, asked_at)
            what = replace(policy.what_of(run, Act.START), requester=None)
            allowed = await self._replies.moves.may(tx, asker, incoming, what)
            if allowed and await self._replies.moves.has_room(tx, incoming, Act.START, None):
                await self._replies.moves.note(tx, Act.START, incoming, allowed, run)
                run = replace(run, candidates=policy.allowed(asker.rules, run.candidates))
                await self._add(tx, run, incoming, notes)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()

    async def _add(self, tx: AsyncConnection, run: Run, incoming: Incoming, notes: Sequence[str]) -> None:
        """Keep a new run, and what it owes."""
        now = self._ctx.clock.now()
        await runs.add(tx, run)
        log.info("run.created", run=run.id, state=run.state, **effects.places(run))
        if incoming.thread is not None:
            await runs.own_thread(tx, run, incoming.thread, every_reply=not run.mentions_only)
        await effects.enqueue_card(tx, run, incoming, now)
        await slots.admit_waiting(tx, self._ctx.links, self._ctx.limits, now)
        run = await runs.get(tx, run.id)
        if incoming.ts is not None:
            await effects.enqueue_reaction(tx, run, incoming.ts, effects.HAS_IT, now)
        if notes:
            await effects.enqueue_answer(tx, incoming, "\n".join(notes), now)

    async def _earlier(self, asker: Asker, context: Sequence[Spoken]) -> list[Earlier]:
        """Return what was said before, with its authors, but not what people kept to themselves or told the bot."""
        us, found = self._ctx.links.us, []
        for one in context:
            text = unescape_request(one.text, us.user)
            ours = Reader(us.user).mentioned(one.text) and isinstance(commands.parse(text), ALONE)
            if commands.is_aside(text) or ours or not (text or one.files):
                continue
            name, what = one.app or "", "app"
            if one.app is None:
                name, what = await self._author(one.user, asker)
            found.append(Earlier(one, name, what, text))
        return found

    async def _author(self, user: UserId, asker: Asker) -> tuple[str, str]:
        """Return the name of who said something earlier, and what there is to know of them."""
        try:
            person = await self._ctx.gateway.person(user)
        except SlackError:
            return "", "unknown"
        author = replace(asker.who, person=person, team=None, groups=frozenset())
        return person.name, MARKED.get(policy.first_rules(author, asker.where), "")

    async def _known(self, command: Command, incoming: Incoming) -> repositories.Known:
        """Return the repositories that are known: the account's, and those that were used in this place before.

        A name that is not among them may be too new for the list, so it is looked up by itself, once for a request.
        """
        known = self._ctx.repositories.known
        if not (isinstance(command, Start) and repositories.named(command)):
            return known
        async with self._ctx.database.reading() as tx:
            used = await runs.used_in(tx, incoming.channel)
        known = known.also(used)
        asked = [name for name in repositories.asked_about(command) if known.spelled(name) is None][:LOOKED_UP]
        if not asked:
            return known
        with self.lanes.beside():
            return known.also(await self._ctx.repositories.listed(asked))

    # --- replies in the thread of a run -------------------------------------------------------------------------

    async def _reply(self, row: InboxRow, run: Run, text: str, asker: Asker, *, bare: bool) -> datetime | None:
        """Take a reply in the thread of a run. bare: what others said there since does not go along."""
        incoming, now = row.incoming, self._ctx.clock.now()
        anew = commands.anew(text)
        if anew is not None or (run.state is RunState.CANCELLED and incoming.mentions_us):
            command = commands.parse(text if anew is None else anew)
            if isinstance(command, Start):
                said = "" if anew is None else words.another_run()
                known = await self._known(command, incoming)
                await self._begin(row, command, asker, known, said=said, bare=bare)
                return None
        since, notes = "", list[str]()
        if not bare and takes_talk_along(run, incoming, text):
            async with self._ctx.database.reading() as tx:
                after = await runs.last_heard(tx, run)
            read = await self._before(row, asker, after=after)
            if read is None:
                return None
            since, notes = transcript(read[0] + await self._linked(incoming, asker, read[1])), read[1]
        async with self._ctx.database.transaction() as tx:
            run = await runs.get(tx, run.id)
            meant, text = await self._meant(tx, run, incoming, text)
            if meant is None:
                await effects.enqueue_answer(tx, incoming, text, now)
            else:
                await self._replies.take(tx, meant, incoming, text, sent_at(row), asker=asker, since=since)
            if notes:
                await effects.enqueue_answer(tx, incoming, "\n".join(notes), now)
            await inbox.done(tx, row.seq, now)
        self._ctx.wake_sender.set()
        return None

    async def _meant(self, tx: AsyncConnection, run: Run, incoming: Incoming, text: str) -> tuple[Run | None, str]:
        """Return the run of its thread that a reply is for, with its text; None, with what to ask, if that is not clear.

        run: the newest there, or the one that a direct message outside of any thread is for.
        """
        channel, thread = incoming.channel, incoming.thread_ts
        if thread is None:
            return run, text
        if (picked := commands.numbered(text)) is not None:
            number, rest = picked
            there = await runs.in_thread(tx, channel, thread)
            if len(there) > 1 and number <= len(there):
                return there[number - 1], rest
        asking = await runs.asking_in(tx, channel, thread)
        several = addressee.meant(run, asking, text, incoming.user, mentions_us=incoming.mentions_us)
        if len(several) == 1:
            return several[0], text
        ids = {one.id for one in several}
        there = await runs.in_thread(tx, channel, thread)
        return None, words.which_asks([(number, one) for number, one in enumerate(there, 1) if one.id in ids])


def named_in(said: Sequence[str]) -> set[str]:
    """Return the repositories that people or apps named."""
    return {name for text in said for name in commands.named_repositories(text)}


def repository_of_thread(before: Run | None, said: Sequence[str]) -> str | None:
    """Return the repository of a thread: its run's, or the only one that people named there."""
    if before is not None and before.repository is not None and before.state is not RunState.NEEDS_REPOSITORY:
        return before.repository
    named = named_in(said)
    return named.pop() if len(named) == 1 else None


def is_aside(incoming: Incoming, text: str) -> bool:
    """Return whether a reply is marked as talk among people, in a thread where it would have gone to the agent."""
    in_thread = incoming.kind is IncomingKind.MESSAGE and incoming.thread_ts is not None
    return in_thread and commands.is_aside(text)


def takes_talk_along(run: Run, incoming: Incoming, text: str) -> bool:
    """Return whether a mention is for the agent of a run in a thread of people, of whose talk it has heard nothing."""
    if not (run.mentions_only and incoming.mentions_us):
        return False
    to = addressee.addressee(addressee.Reply(run=run, text=text, mentions_us=True))
    return to is addressee.Addressee.AGENT


def is_shown(run: Run, incoming: Incoming) -> bool:
    """Return whether a button may be where it was clicked.

    That is in the run's place or, once that is lost, in the direct messages of who is told instead.
    """
    return run.channel == incoming.channel or (incoming.direct and incoming.user in (run.requester, *run.turn_by))


def transcript(earlier: Sequence[Earlier]) -> str:
    """Return what was said before, for the agent: the newest that fit, the oldest of these perhaps shortened."""
    lines: list[str] = []
    room = CONTEXT_MAX
    for one in reversed(earlier):
        if room <= 0:
            break
        at = datetime.fromtimestamp(float(one.spoken.ts), UTC)
        names = [file.name for file in one.spoken.files]
        lines.append(
            words.said_for_agent(
                one.spoken.user, one.name, one.what, one.text, at=at, limit=room, files=names, link=one.link
            )
        )
        room -= len(one.text)
    return "\n".join(reversed(lines))


def sent_at(row: InboxRow) -> datetime:
    """Return when a reply was sent: when it was committed, unless it was read back so late that clocks don't explain it."""
    late_s = row.incoming.age_s(row.received_at)
    return row.received_at - timedelta(seconds=late_s) if late_s > READ_BACK_S else row.received_at


def written_at(row: InboxRow, now: datetime) -> datetime:
    """Return when a person wrote a request: by Slack's clock, or when it was committed if that is earlier."""
    return min(row.received_at, now - timedelta(seconds=row.incoming.age_s(now)))
