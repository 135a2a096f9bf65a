"""OpenHands' V0 API: servers before 1.0, following its public guide, plus the calls that only later ones have."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from bot.core.errors import (
    Archived,
    Asleep,
    CannotTell,
    NoAccess,
    NoSuchCall,
    NotFound,
    OpenHandsError,
    Rejected,
    Unavailable,
    Unreadable,
    Unsure,
)
from bot.core.model import (
    Api,
    ApprovalRequest,
    ConversationId,
    DecisionOutcome,
    Failed,
    Finish,
    Observation,
    Phase,
    Reason,
    Run,
    RunId,
    RunState,
    Slots,
    Started,
)
from bot.core.pacing import later
from bot.openhands import GO_ON, Before, CanCount, CanDecide, CanResume, nothing
from bot.openhands.batches import FAILURES, SPLITTING_S, is_its_own
from bot.openhands.events import Kind, begins, numbered_pull_requests, pull_requests, words_of
from bot.openhands.http import Answer, Http, read_as, readable
from bot.openhands.recent import Recent
from bot.openhands.v0_answers import (
    Conversation0,
    EventPage0,
    Started0,
    Story,
    check_taken,
    no_such_call,
    of_a_conversation,
    phase_of,
    refusal,
    told,
    too_many,
)
from bot.openhands.v0_calls import CONVERSATIONS, Calls0

PAGES_S = 120.0  # a web page instead of events for that long is no maintenance: the server lacks the call
AT_ONCE = 4  # conversations asked about concurrently: this API has no batches
EVENTS = 100  # per page; the server refuses more
EVENT_PAGES = 20  # per call of ours
STORIES = 1_000  # conversations whose events are kept, some 60 KB each; this API can't poll more within two minutes
CLOCKS_AGREE = timedelta(seconds=2)  # a conversation created longer before we asked may be an older request's

_WORDLESS = frozenset({Phase.STARTING, Phase.START_FAILED})


class V0(CanResume, CanDecide, CanCount):
    """A server of V0. Caches the events read so far and which calls the server has, in memory only."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._calls = Calls0(http)
        self._stories = Recent[ConversationId, Story](http.clock, STORIES)
        self._starting = Recent[RunId, datetime](http.clock)
        self._failed = Recent[RunId, OpenHandsError](http.clock)
        """Runs that could not be asked about while others could."""
        self._has_events: bool | None = None
        """Whether the server has this call; None until tried."""
        self._pages_since: datetime | None = None
        """Since when a web page is all that comes instead of events; None if it is not."""
        self._has_message: bool | None = None
        """As `_has_events`."""

    @property
    def api(self) -> Api:
        return Api.V0

    def link(self, conversation: ConversationId) -> str:
        return f"{self._http.base_url}/conversations/{conversation}"

    # --- start --------------------------------------------------------------------------------------------------

    async def start(
        self,
        run: Run,
        message: str,
        about: str,  # noqa: ARG002 (this API has no field for it)
        before: Before = nothing,
    ) -> Started:
        """See `OpenHands.start`. Sends just two fields: servers refuse any other. The branch is in the message."""
        body = {"initial_user_msg": message} | ({"repository": run.repository} if run.repository else {})
        # At the account's limit a server may first stop another conversation, which takes as long as a message.
        timeout_s = self._http.patience.send_timeout_s
        answer = await self._http.post(CONVERSATIONS, body, timeout_s=timeout_s, before=before)
        if 200 <= answer.status < 300:
            try:
                started = read_as(Started0, answer.value())
            except Unreadable:
                raise Unsure("the start was taken, its answer has another shape") from None
            return Started(conversation_id=ConversationId(started.conversation_id))
        if answer.status == 500 and not answer.readable and await self._refused_unseen(run, answer.asked_at):
            raise NoAccess("500")
        raise refusal(answer, repository=run.repository, key_works=self._http.key_works)

    async def _refused_unseen(self, run: Run, asked_at: datetime) -> bool:
        """Return whether a bare 500 was a refusal: a user without any git token gets one and nothing is created."""
        if run.repository is None:
            return False
        try:
            created = await self._calls.created(run, asked_at)
        except OpenHandsError:
            return False
        return created.whole and not created.conversations

    async def find_start(self, run: Run, message: str, since: datetime) -> Started | None:
        """See `OpenHands.find_start`. Matches time, repository and first message: the API takes no id from us.

        A conversation without a message after `start_stuck_s` counts as one that never gets any.
        """
        created = await self._calls.created(run, since)
        said = [(one, await self._first_message(one)) for one in created.conversations]
        silent = any(first is None for _, first in said)
        if silent and not self._out_of_time(since):
            raise NotFound("a conversation without its message yet")
        same = [one for one, first in said if first is not None and begins(first, message)]
        ours = [one for one in same if one.created is not None and one.created >= since - CLOCKS_AGREE]
        if not same and not silent:
            if not created.whole:
                raise Unreadable("it may be one of those that can't be read")
            return None
        if len(ours) != 1:
            raise CannotTell("several, one that may be an older request's, or one that never shows a message")
        return Started(conversation_id=ConversationId(ours[0].conversation_id))

    def _out_of_time(self, since: datetime) -> bool:
        """Return whether a start at that time would have succeeded or failed by now."""
        return (self._http.clock.now() - since).total_seconds() >= self._http.patience.start_stuck_s

    async def _first_message(self, conversation: Conversation0) -> str | None:
        """Return the conversation's first message from a person; None: none yet."""
        if self._has_events is False:
            raise CannotTell("no events")
        answer = await self._calls.ask("GET", conversation, "/events", params={"start_id": 0, "limit": EVENTS})
        if no_such_call(answer):
            raise CannotTell("no events")
        events = map(told, read_as(EventPage0, answer.value()).events)
        return next((one.event.text for one in events if one and one.event.kind is Kind.MESSAGE), None)

    # --- observe ------------------------------------------------------------------------------------------------

    async def observe(self, runs: Sequence[Run]) -> Mapping[RunId, Observation]:
        """See `OpenHands.observe`. Runs that failed last time are asked about last, so that they hold up no others."""
        seen: dict[RunId, Observation] = {}
        failures: dict[RunId, OpenHandsError] = {}
        in_a_row = 0
        until = later(self._http.clock.now(), SPLITTING_S)
        places = asyncio.Semaphore(AT_ONCE)

        async def look_at(run: Run) -> None:
            nonlocal in_a_row
            async with places:
                if (
                    not all(map(is_its_own, failures.values()))
                    or in_a_row >= FAILURES
                    or self._http.clock.now() >= until
                ):
                    return  # the next one would fail as well, perhaps after as long a wait
                try:
                    seen[run.id] = await self._observe(run, ConversationId(run.conversation_id or ""))
                except OpenHandsError as failure:
                    failures[run.id] = failure
                    in_a_row += 1
                else:
                    in_a_row = 0
                    self._failed.drop(run.id)

        async with asyncio.TaskGroup() as tasks:
            for run in sorted(runs, key=lambda run: self._failed.get(run.id) is not None):
                if run.conversation_id is not None:
                    tasks.create_task(look_at(run))
        for name, failure in failures.items():
            if seen and is_its_own(failure):
                self._failed.put(name, failure)
            elif not seen and not (is_its_own(failure) and self._failed.get(name)):
                raise failure
        return seen

    async def _observe(self, run: Run, name: ConversationId) -> Observation:
        conversation, asked_at = await self._calls.conversation(name)
        if conversation is None:
            return Observation(asked_at=asked_at, phase=Phase.GONE)
        has_words = conversation.runtime in {"RUNNING", "STOPPED"}
        story = await self._story(conversation) if has_words else None
        phase = phase_of(conversation.runtime, story, run.turn_after)
        blind = has_words and story is None
        last: Finish | Failed | None = Finish("") if blind and phase is Phase.ENDED else None
        if self._start_stuck(run, phase, asked_at):
            phase, last = Phase.START_FAILED, Failed(Reason.START_STUCK)
        return Observation(
            asked_at=asked_at,
            phase=phase,
            last=last,
            blind=blind,
            cost=story.cost if story else None,
            pull_requests=numbered_pull_requests(
                conversation.pr_number or (), run.repository, conversation.git_provider
            ),
        )

    def _start_stuck(self, run: Run, phase: Phase, asked_at: datetime) -> bool:
        """Return whether a start has taken `start_stuck_s`: a failed one shows as starting for ever."""
        if phase is not Phase.STARTING or run.state is not RunState.STARTING:
            self._starting.drop(run.id)
            return False
        since = self._starting.get(run.id)
        if since is None:
            self._starting.put(run.id, asked_at)
            return False
        return (asked_at - since).total_seconds() >= self._http.patience.start_stuck_s

    async def _story(self, conversation: Conversation0) -> Story | None:
        """Return the story with all newer events read; None if the server has no events.

        Raises `Unavailable` if there are more than `EVENT_PAGES` pages; the next call continues from there.
        """
        if self._has_events is False:
            return None
        name = ConversationId(conversation.conversation_id)
        story = self._stories.get(name) or Story()
        for _ in range(EVENT_PAGES):
            answer = await self._calls.ask(
                "GET", conversation, "/events", params={"start_id": story.next_id, "limit": EVENTS}
            )
            if self._has_events is None and (no_such_call(answer) or self._only_pages(answer)):
                self._has_events = False
                return None
            if of_a_conversation(answer) or (answer.no_route and story.next_id):
                return story  # older servers show no events of a conversation that does not run
            try:
                page = read_as(EventPage0, answer.value())
            except NotFound:
                raise Unreadable("404 to a call that it has") from None
            self._has_events = True
            story = story.on(page.events)
            self._stories.put(name, story)
            if not page.has_more or not page.events:
                return story
        raise Unavailable("more events than are read in one go", faltered=True)

    def _only_pages(self, answer: Answer) -> bool:
        """Return whether the server lacks the call: one that has a web page answers with it, but so does a proxy."""
        if answer.readable or not (answer.status < 300 or answer.status == 404):
            self._pages_since = None
            return False
        self._pages_since = self._pages_since or answer.asked_at
        return (answer.asked_at - self._pages_since).total_seconds() >= PAGES_S

    # --- read ---------------------------------------------------------------------------------------------------

    async def read(self, run: Run, seen: Observation) -> Observation:
        """See `OpenHands.read`. Makes no call: `observe` has read the events already."""
        story = self._stories.get(run.conversation_id) if run.conversation_id else None
        if story is None or seen.blind or seen.phase in _WORDLESS:
            return seen
        words = words_of(story.events, seen.phase, run.turn_after, told=run.ending)
        if isinstance(words.last, Finish) and run.conversation_id:
            self._stories.put(run.conversation_id, story.at_rest())
        return replace(
            seen,
            last=words.last,
            ending=words.ending,
            overtaken=words.overtaken,
            progress=words.progress,
            pull_requests=pull_requests(words.answers, seen.pull_requests, task=run.task),
        )

    async def last_event(self, run: Run) -> str | None:
        story = await self._story(await self._calls.existing(run))
        return str(story.next_id - 1) if story and story.next_id else None

    async def heard(self, run: Run, text: str, after: str | None) -> bool:
        conversation = await self._calls.existing(run)
        if self._has_events is False:
            raise CannotTell("no events")
        start_id = int(after) + 1 if after and after.isdigit() else 0
        for _ in range(EVENT_PAGES):
            answer = await self._calls.ask(
                "GET", conversation, "/events", params={"start_id": start_id, "limit": EVENTS}
            )
            if no_such_call(answer):
                raise CannotTell("no events")
            page = read_as(EventPage0, answer.value())
            events = [one for one in map(told, page.events) if one]
            if any(one.event.kind is Kind.MESSAGE and begins(one.event.text, text) for one in events):
                return True
            if not page.has_more or not events:
                return False
            start_id = events[-1].number + 1
        raise CannotTell("more events since than are read")

    # --- act ----------------------------------------------------------------------------------------------------

    async def send(self, run: Run, text: str, before: Before = nothing) -> None:
        """See `OpenHands.send`. Raises `Unavailable` while the agent still starts: it would never answer.

        If the server has only the older call, raises `Unsure` even on success: some servers accept a message and lose it.
        """
        conversation = await self._calls.existing(run)
        await self._listening(conversation)
        if self._has_message is not False:
            answer = await self._calls.ask("POST", conversation, "/message", body={"message": text}, before=before)
            before = nothing
            self._has_message = not no_such_call(answer)
            if self._has_message:
                check_taken(answer)
                return
        body = {"action": "message", "args": {"content": text}}
        answer = await self._calls.ask("POST", conversation, "/events", body=body, before=before)
        if no_such_call(answer):
            raise NoSuchCall("no call for messages")
        check_taken(answer)
        raise Unsure("accepted by a call that may lose it")

    async def _listening(self, conversation: Conversation0) -> None:
        match conversation.runtime:
            case "STOPPED" | "ERROR" if await self._story(conversation) is None:
                raise NoSuchCall("no call for messages")  # nor one to wake it: servers got both after the events
            case "STOPPED" | "ERROR":
                raise Asleep(conversation.runtime)
            case "ARCHIVED":
                raise Archived("no runtime")
            case "STARTING":
                raise Unavailable("still starting")
            case _:
                story = await self._story(conversation)
                if story is not None and story.loading:
                    raise Unavailable("still starting")

    async def stop(self, run: Run, *, interrupts: bool = True) -> None:  # noqa: ARG002 (V0 has no other way)
        """See `OpenHands.stop`. May wait for the running command, for as long as a message does."""
        conversation = await self._calls.existing(run)
        if conversation.runtime in {"STOPPED", "ERROR", "ARCHIVED"}:
            return  # no agent runs there
        answer = await self._calls.ask("POST", conversation, "/stop")
        if no_such_call(answer):
            raise NoSuchCall("no stop")
        answer.value()

    async def resume(self, run: Run) -> None:
        await self._wake(await self._calls.existing(run), nothing)

    async def _wake(self, conversation: Conversation0, before: Before) -> None:
        if conversation.runtime == "ARCHIVED":
            raise Archived("no runtime")
        if conversation.runtime in {"RUNNING", "STARTING"}:
            return
        answer = await self._calls.ask("POST", conversation, "/start", body={}, before=before)
        if no_such_call(answer):
            raise NoSuchCall("no start")
        if answer.status == 429:
            raise too_many(answer)
        answer.value()

    async def go_on(self, run: Run, before: Before = nothing) -> bool:
        """See `CanResume.go_on`. After a failure, or after being woken, the agent continues only with a message."""
        conversation = await self._calls.existing(run)
        await self._wake(conversation, before)
        if conversation.runtime != "RUNNING":
            raise Asleep("waking up")
        story = await self._story(conversation)
        if story is None:
            return False  # this server shows only that the runtime runs
        phase = phase_of(conversation.runtime, story, run.turn_after)
        match phase:
            case Phase.PAUSED:
                await self._ask_for_state(conversation, "running", before)
            case Phase.STARTING | Phase.ASLEEP:
                raise Asleep("waking up")
            case Phase.UNKNOWN:
                raise Unavailable("what it does can't be told")
            case Phase.ERROR | Phase.IDLE:
                await self.send(run, GO_ON, before)
            case Phase.ENDED if words_of(story.events, Phase.ENDED, run.turn_after).last is None:
                await self.send(run, GO_ON, before)  # it was stopped while working, and awaits a message
            case (
                Phase.START_FAILED
                | Phase.WORKING
                | Phase.ENDED
                | Phase.WANTS_APPROVAL
                | Phase.STUCK
                | Phase.UNCLEAR
                | Phase.BROKEN
                | Phase.MISSING
                | Phase.GONE
            ):
                return False
            case _:
                assert_never(phase)
        return True

    async def decide(
        self,
        run: Run,
        action_id: str,
        *,
        accept: bool,
        reason: str,  # noqa: ARG002 (this API has no field for it)
        before: Before = nothing,
    ) -> DecisionOutcome:
        """See `CanDecide.decide`. A rejection carries no reason: the agent waits for a message after it."""
        conversation = await self._calls.existing(run)
        match conversation.runtime:
            case "ARCHIVED":
                raise Archived("no runtime")
            case "STOPPED" | "ERROR" | "STARTING":
                raise Asleep("nothing waits while it does not run")
            case _:
                story = await self._story(conversation)
        if story is None:
            raise NoSuchCall("no events, so nothing to decide by")
        phase = phase_of(conversation.runtime, story, run.turn_after)
        if phase is Phase.UNKNOWN:
            raise Unavailable("what it does can't be told")
        if phase is not Phase.WANTS_APPROVAL:
            return DecisionOutcome.OVER
        waits = words_of(story.events, Phase.WANTS_APPROVAL, None).last
        if not isinstance(waits, ApprovalRequest):
            raise Unavailable("what waits can't be read yet")
        if waits.action_id != action_id:
            return DecisionOutcome.OTHER
        await self._ask_for_state(conversation, "user_confirmed" if accept else "user_rejected", before)
        return DecisionOutcome.POSTED

    async def _ask_for_state(self, conversation: Conversation0, word: str, before: Before) -> None:
        body = {"action": "change_agent_state", "args": {"agent_state": word}}
        answer = await self._calls.ask("POST", conversation, "/events", body=body, before=before)
        if no_such_call(answer):
            raise NoSuchCall("no call for the agent's state")
        check_taken(answer)

    async def slots(self) -> Slots | None:
        try:
            pages = [readable(Conversation0, page.results) async for page in self._calls.pages()]
            return Slots(running=sum(one.takes_a_slot for page in pages for one in page))
        except (CannotTell, Rejected, Unreadable):
            return None
