"""OpenHands' V1 API: the cloud, and servers since 1.0."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Generic, TypeVar, assert_never
from uuid import UUID

from pydantic import BaseModel

from bot.core.commands import is_repository
from bot.core.errors import (
    Archived,
    Asleep,
    CannotTell,
    NoAccess,
    NoSuchCall,
    NotFound,
    OpenHandsError,
    Rejected,
    Unauthorised,
    Unavailable,
    Unreadable,
    Unsure,
)
from bot.core.lifecycle import reads_back
from bot.core.model import (
    Api,
    ApprovalRequest,
    ConversationId,
    DecisionOutcome,
    Failed,
    Listed,
    Observation,
    Phase,
    Reason,
    Run,
    RunId,
    RunState,
    Slots,
    Started,
)
from bot.openhands import (
    IMAGE_TYPES,
    Before,
    CanChooseModel,
    CanCount,
    CanDecide,
    CanFindRepository,
    CanListBranches,
    CanListRepositories,
    CanResume,
    CanSeeImages,
    nothing,
)
from bot.openhands.batches import Batches
from bot.openhands.events import heard_among, pull_requests, words_of
from bot.openhands.http import Http, read_as, readable
from bot.openhands.recent import Recent
from bot.openhands.v1_agent import CONVERSATIONS, AgentCalls, content
from bot.openhands.v1_answers import (
    Branch,
    BranchPage,
    Conversation,
    ConversationPage,
    Repository,
    RepositoryPage,
    ServerSettings,
    StartTask,
    TaskOf,
    TaskPage,
    id_of,
    seen_of,
    uuid_of,
)
from bot.openhands.v1_events import EventReader

TASKS = f"{CONVERSATIONS}/start-tasks"

ABOUT_REPOSITORY = re.compile(r"\brepo|\bgit\b|git ?(hub|lab)|bitbucket|provider", re.IGNORECASE)

CLOCKS_DIFFER = timedelta(minutes=5)  # the most by which the server's clock may differ from ours, to find a lost start
TASK_PAGES = 100  # of 100 start tasks; a list with more is treated as unreadable

WORDS_LIMIT, WORDS_PAGES = 20, 10  # events per page, pages; a turn with more steps since its last words has not ended
HEARD_LIMIT, HEARD_PAGES = 100, 20
SLOT_PAGES = 10  # of 100 conversations; an account with more is not counted

PAGE = 100  # branches asked for at once
PROVIDERS = ("github", "gitlab", "bitbucket", "bitbucket_data_center", "forgejo", "azure_devops", "enterprise_sso")
"""The git providers there are, asked in turn where the server does not name those of the account."""
REPOSITORY_PAGES = 20  # of 100 repositories of one provider; an account with more is not listed to its end

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Found(Generic[Model]):
    """One entry of a batch."""

    entry: Model | None
    asked_at: datetime


class V1(
    CanResume,
    CanDecide,
    CanSeeImages,
    CanChooseModel,
    CanListBranches,
    CanListRepositories,
    CanFindRepository,
    CanCount,
):
    """The app server of V1. Caches the latest state of each conversation, with its agent server's key, in memory only."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._reader = EventReader(http)
        self._asking = Batches(http.clock)
        self._odd = Recent[UUID, OpenHandsError](http.clock)
        """Entries that could not be read while others could."""
        self._calls = AgentCalls(http)
        self._known = Recent[ConversationId, Conversation](http.clock)
        self._providers = Recent[str, str](http.clock)
        """By repository, in lower case: where it was seen."""
        self._task_news = Recent[RunId, tuple[str | None, datetime]](http.clock)

    @property
    def api(self) -> Api:
        return Api.V1

    @property
    def image_types(self) -> Collection[str]:
        return IMAGE_TYPES

    @property
    def takes_models(self) -> bool:
        return True

    def link(self, conversation: ConversationId) -> str:
        return f"{self._http.base_url}/conversations/{conversation}"

    # --- start --------------------------------------------------------------------------------------------------

    async def start(
        self, run: Run, message: str, about: str, before: Before = nothing, *, images: Sequence[str] = ()
    ) -> Started:
        body = {
            "conversation_id": run.conversation_id,
            "initial_message": {"content": content(message, images)},
            "selected_repository": run.repository,
            "selected_branch": run.branch,
            "git_provider": self._providers.get((run.repository or "").lower()),
            "llm_model": run.model,
            "trigger": "slack",
            "system_message_suffix": about or None,
        }
        given = {key: value for key, value in body.items() if value is not None}
        answer = await self._http.post(CONVERSATIONS, given, before=before)
        if answer.status == 403 and answer.readable and self._http.key_works:  # a key that works is not what is wrong
            raise (
                NoAccess("403") if run.repository and ABOUT_REPOSITORY.search(answer.words) else Rejected(answer.words)
            )
        try:
            task = read_as(StartTask, answer.value())
        except (NotFound, NoSuchCall, Asleep, Archived):
            raise Unreadable(f"{answer.status} to a start") from None
        except Unreadable:
            if 200 <= answer.status < 300:
                raise Unsure("the start was taken, its answer has another shape") from None
            raise
        return Started(conversation_id=id_of(run), start_task_id=str(task.id))

    async def find_start(
        self,
        run: Run,
        message: str,  # noqa: ARG002 (V0 finds it by these)
        since: datetime,
        *,
        images: Sequence[str] = (),  # noqa: ARG002 (an Agent Server may have to send them again)
    ) -> Started | None:
        """See `OpenHands.find_start`. Matches the conversation's id, so nothing else can be mistaken for it."""
        try:
            return await self._find_start(run, since)
        except NotFound:  # one of the lists is missing, which says nothing about the start
            raise Unreadable("no such list") from None

    async def _find_start(self, run: Run, since: datetime) -> Started | None:
        ours = uuid_of(id_of(run))
        if ours is None:
            raise CannotTell("not an id of V1")
        if await self._conversation(run) is not None:
            return Started(conversation_id=id_of(run), start_task_id=run.start_task_id)
        # Filtering by conversation finds a task only once it is ready; the unfiltered list has it within a second.
        since_text = (since - CLOCKS_DIFFER).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        page_id: str | None = None
        for _ in range(TASK_PAGES):
            params = {"created_at__gte": since_text, "limit": 100}
            answer = await self._http.get(
                f"{TASKS}/search", params if page_id is None else {**params, "page_id": page_id}
            )
            page = read_as(TaskPage, answer.value())
            for item in page.items:
                if _mentions(item, ours):
                    return Started(conversation_id=id_of(run), start_task_id=str(read_as(StartTask, item).id))
            page_id = page.next_page_id
            if page_id is None:
                return None
        raise Unreadable("a list of start tasks without an end")

    # --- observe ------------------------------------------------------------------------------------------------

    async def observe(self, runs: Sequence[Run]) -> Mapping[RunId, Observation]:
        starting = [run for run in runs if run.state is RunState.STARTING and run.start_task_id]
        tasks, no_tasks = await self._entries(
            TASKS, {run.id: uuid_of(run.start_task_id) for run in starting}, StartTask
        )
        seen: dict[RunId, Observation] = {}
        for run in starting:
            found = tasks.get(run.id)
            if found and found.entry and not found.entry.ready:
                seen[run.id] = self._started(run, found.entry, found.asked_at)
        unasked = {run.id for run in starting if run.id not in tasks}
        there = [run for run in runs if run.id not in seen and run.conversation_id]
        entries, no_entries = await self._entries(
            CONVERSATIONS, {run.id: uuid_of(run.conversation_id) for run in there}, Conversation
        )
        for run in there:
            one = entries.get(run.id)
            if one and (one.entry or run.id not in unasked):  # without its task, none may only mean: not yet
                seen[run.id] = self._seen(run, one.entry, one.asked_at)
        if not seen and (failure := no_tasks or no_entries):
            raise failure
        return seen

    def _started(self, run: Run, task: StartTask, asked_at: datetime) -> Observation:
        """Return the state of a start that is not ready: under way, failed, or stuck."""
        phase, last = Phase.STARTING, None
        news = self._task_news.get(run.id)
        if task.failed:
            phase, last = Phase.START_FAILED, task.failure(run)
        elif news is None or news[0] != task.updated_at:
            self._task_news.put(run.id, (task.updated_at, asked_at))  # by our clock: the server's may differ
        elif (asked_at - news[1]).total_seconds() >= self._http.patience.start_stuck_s:
            phase, last = Phase.START_FAILED, Failed(Reason.START_STUCK)
        return Observation(asked_at=asked_at, phase=phase, last=last, start_task_id=run.start_task_id)

    def _seen(self, run: Run, conversation: Conversation | None, asked_at: datetime) -> Observation:
        self._task_news.drop(run.id)
        if conversation is not None:
            self._known.put(id_of(run), conversation)
            return seen_of(run, conversation, asked_at)
        self._known.drop(id_of(run))
        # Without a start task, a conversation not there yet can't be told from one that was deleted.
        on_its_way = run.state is RunState.STARTING and run.start_task_id is None
        phase = Phase.STARTING if on_its_way else Phase.GONE
        return Observation(asked_at=asked_at, phase=phase, start_task_id=run.start_task_id)

    async def _entries(
        self, path: str, ids: Mapping[RunId, UUID | None], shape: type[Model]
    ) -> tuple[dict[RunId, _Found[Model]], OpenHandsError | None]:
        """Return many entries by run, and the last failure. Entries that could not be asked or read are missing.

        Malformed ids are left out, since one would fail its whole batch.
        """
        odd: dict[UUID, OpenHandsError] = {}

        async def fetch(part: Sequence[UUID]) -> Mapping[UUID, _Found[Model]]:
            asked_at, entries = await self._batch(path, part)
            found: dict[UUID, _Found[Model]] = {}
            for one, entry in zip(part, entries, strict=True):
                try:
                    found[one] = _Found(None if entry is None else read_as(shape, entry), asked_at)
                except Unreadable as err:
                    odd[one] = err
            return found

        found, failure = await self._asking.ask([one for one in ids.values() if one is not None], fetch)
        by_run = {run: found[one] for run, one in ids.items() if one is not None and one in found}
        for one in odd if found else ():  # the server is fine, so from now on it is no failure
            self._odd.put(one, odd[one])
        return by_run, next((err for one, err in odd.items() if self._odd.get(one) is None), failure)

    async def _batch(self, path: str, ids: Sequence[UUID]) -> tuple[datetime, list[Any]]:
        """Return one entry for each id, null if unknown, and when the request was sent."""
        answer = await self._http.get(path, {"ids": [str(one) for one in ids]})
        entries = answer.value()
        if not isinstance(entries, list) or len(entries) != len(ids):
            raise Unreadable("not one entry for each id")
        return answer.asked_at, entries

    async def _conversation(self, run: Run) -> Conversation | None:
        """Fetch one conversation afresh: acting needs its current state. None: not there."""
        name = uuid_of(id_of(run))
        if name is None:
            return None
        _, [entry] = await self._batch(CONVERSATIONS, [name])
        if entry is None:
            return None
        conversation = read_as(Conversation, entry)
        self._known.put(id_of(run), conversation)
        return conversation

    # --- read ---------------------------------------------------------------------------------------------------

    async def read(self, run: Run, seen: Observation) -> Observation:
        if seen.phase in {Phase.STARTING, Phase.START_FAILED} or run.conversation_id is None:
            return seen
        words_in = partial(
            words_of, phase=seen.phase, turn_after=run.turn_after, told=run.ending, back=reads_back(run, seen)
        )
        reading = await self._reader.read(
            run.conversation_id,
            await self._latest(run, seen.phase),
            limit=WORDS_LIMIT,
            pages=WORDS_PAGES,
            enough=lambda events: words_in(events).settled,
        )
        words = words_in(reading.events)
        return replace(
            seen,
            last=words.last,
            ending=words.ending,
            overtaken=words.overtaken,
            progress=words.progress,
            pull_requests=pull_requests(words.answers, seen.pull_requests, task=run.task),
        )

    async def _latest(self, run: Run, phase: Phase | None) -> Conversation | None:
        """Return the cached conversation, or fetch it after a restart; None if the conversation is gone."""
        if phase is Phase.GONE:
            return None
        return self._known.get(id_of(run)) or await self._conversation(run)

    async def last_event(self, run: Run) -> str | None:
        known = await self._latest(run, run.watch.phase)
        reading = await self._reader.read(id_of(run), known, limit=1, pages=1, enough=bool)
        return reading.events[0].id if reading.events else None

    async def heard(self, run: Run, text: str, after: str | None) -> bool:
        """See `OpenHands.heard`. While `after` itself is not there yet, no event is known to be newer."""
        reading = await self._reader.read(
            id_of(run),
            await self._latest(run, run.watch.phase),
            limit=HEARD_LIMIT,
            pages=HEARD_PAGES,
            enough=lambda events: any(event.id == after for event in events),
        )
        return heard_among(reading.events, text, after, complete=reading.complete)

    # --- act ----------------------------------------------------------------------------------------------------

    async def send(self, run: Run, text: str, before: Before = nothing, *, images: Sequence[str] = ()) -> None:
        await self._calls.send(id_of(run), text, before, images)

    async def stop(self, run: Run, *, interrupts: bool = True) -> None:
        await self._calls.stop(await self._existing(run), interrupts=interrupts)

    async def resume(self, run: Run) -> None:
        conversation = await self._existing(run)
        if conversation.phase is Phase.MISSING:
            raise Archived("no sandbox")  # the call would answer 200 and do nothing
        if conversation.phase is Phase.ASLEEP:
            await self._calls.sandbox(conversation, "resume")

    async def go_on(self, run: Run, before: Before = nothing) -> bool:
        return await self._calls.go_on(await self._existing(run), id_of(run), before)

    async def decide(
        self, run: Run, action_id: str, *, accept: bool, reason: str, before: Before = nothing
    ) -> DecisionOutcome:
        """See `CanDecide.decide`. Reads what waits from the agent server itself, since a decision covers all of it."""
        conversation = await self._existing(run)
        match conversation.phase:
            case Phase.MISSING | Phase.BROKEN:
                raise Archived("no sandbox")
            case Phase.ASLEEP:
                raise Asleep("it waits in a sleeping sandbox")
            case Phase.UNCLEAR | Phase.UNKNOWN:
                raise Unavailable("what it does can't be told")
            case Phase.WANTS_APPROVAL:
                waits = await self._waits(conversation)
                if waits.action_id != action_id:
                    return DecisionOutcome.OTHER
                await self._calls.decide(conversation, accept=accept, reason=reason, before=before)
                return DecisionOutcome.POSTED
            case (
                Phase.STARTING
                | Phase.START_FAILED
                | Phase.WORKING
                | Phase.ENDED
                | Phase.PAUSED
                | Phase.IDLE
                | Phase.ERROR
                | Phase.STUCK
                | Phase.GONE
            ):
                return DecisionOutcome.OVER
            case _:
                assert_never(conversation.phase)

    async def _waits(self, conversation: Conversation) -> ApprovalRequest:
        """Return what waits for approval now. Raises `Unavailable` if it can't be read yet."""
        reading = await self._reader.read_now(
            conversation,
            limit=WORDS_LIMIT,
            pages=WORDS_PAGES,
            enough=lambda events: words_of(events, Phase.WANTS_APPROVAL, None).settled,
        )
        last = words_of(reading.events, Phase.WANTS_APPROVAL, None).last
        if not isinstance(last, ApprovalRequest):
            raise Unavailable("what waits can't be read yet")
        return last

    async def slots(self) -> Slots | None:
        """See `CanCount.slots`. Counts sandboxes, since conversations may share one."""
        running = set[str]()
        page_id: str | None = None
        for _ in range(SLOT_PAGES):
            params = {"limit": 100} if page_id is None else {"limit": 100, "page_id": page_id}
            try:
                answer = await self._http.get(f"{CONVERSATIONS}/search", params)
                page = read_as(ConversationPage, answer.value())
            except (NotFound, Rejected, Unreadable, NoSuchCall):
                return None
            there = readable(Conversation, page.items)
            running |= {one.sandbox_id or str(one.id) for one in there if one.takes_a_slot}
            page_id = page.next_page_id
            if page_id is None:
                return Slots(running=len(running))
        return None

    async def _existing(self, run: Run) -> Conversation:
        conversation = await self._conversation(run)
        if conversation is None:
            raise NotFound("no such conversation")
        return conversation

    # --- repositories -------------------------------------------------------------------------------------------

    async def branches(self, repository: str, like: str) -> Sequence[str] | None:
        named = await self._named_providers()
        for provider in PROVIDERS if named is None else named:
            similar = await self._branches(provider, repository, like)
            if like in similar:
                self._providers.put(repository.lower(), provider)
                return similar
            every = await self._branches(provider, repository, "")
            if every and len(similar) < PAGE:  # else its name may be on a later page
                return [*similar, *every]
        return None

    async def _branches(self, provider: str, repository: str, query: str) -> list[str]:
        params = {"provider": provider, "repository": repository, "query": query, "limit": PAGE}
        try:
            answer = await self._http.get("/api/v1/git/branches/search", params)
            items = read_as(BranchPage, answer.value()).items
        except (NotFound, Rejected, Unauthorised, Unreadable, NoSuchCall):
            return []  # the provider is not connected, or has no such repository
        return [one.name for one in readable(Branch, items)]

    async def repositories(self) -> Listed:
        """See `CanListRepositories.repositories`. A provider that the account names but that lists nothing leaves it incomplete."""
        names: list[str] = []
        named = await self._named_providers()
        whole = True
        for provider in PROVIDERS if named is None else named:
            there = await self._repositories_of(provider)
            names += there.names
            whole = whole and (there.whole or (named is None and not there.names))
        return Listed(tuple(names), whole=whole and bool(names))

    async def _repositories_of(self, provider: str) -> Listed:
        names: list[str] = []
        page_id: str | None = None
        for _ in range(REPOSITORY_PAGES):
            page = await self._repository_page(provider, {} if page_id is None else {"page_id": page_id})
            if page is None:
                return Listed(tuple(names))
            names += (one.full_name for one in readable(Repository, page.items) if is_repository(one.full_name))
            page_id = page.next_page_id
            if page_id is None:
                return Listed(tuple(names), whole=bool(names))
        return Listed(tuple(names))

    async def lists(self, repository: str) -> bool:
        named = await self._named_providers()
        for provider in PROVIDERS if named is None else named:
            page = await self._repository_page(provider, {"query": repository})
            items = [] if page is None else readable(Repository, page.items)
            if repository.lower() in (one.full_name.lower() for one in items):
                self._providers.put(repository.lower(), provider)
                return True
        return False

    async def _repository_page(self, provider: str, asked: Mapping[str, str]) -> RepositoryPage | None:
        """Return one page of a provider's repositories; None if it is not connected, or this server lacks the list."""
        try:
            answer = await self._http.get("/api/v1/git/repositories/search", {"provider": provider, **asked})
            return read_as(RepositoryPage, answer.value())
        except (NotFound, Rejected, Unauthorised, Unreadable, NoSuchCall):
            return None

    async def _named_providers(self) -> Sequence[str] | None:
        """Return the git providers that the account is connected to; None if the server does not say."""
        try:
            settings = read_as(ServerSettings, (await self._http.get("/api/v1/settings")).value())
        except (NotFound, Rejected, Unreadable, NoSuchCall):
            return None
        return None if settings.provider_tokens_set is None else tuple(settings.provider_tokens_set)


def _mentions(task: Any, conversation: UUID) -> bool:
    """Return whether a start task is the conversation's, whatever the shape of its other parts."""
    try:
        return read_as(TaskOf, task).request.conversation_id == conversation
    except Unreadable:
        return conversation.hex in str(task).lower().replace("-", "")
