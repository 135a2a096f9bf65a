"""An Agent Server, as people host it themselves: one host for all, no app server and no sandboxes around it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from bot.core.commands import is_repository
from bot.core.errors import (
    AtCapacity,
    NoSuchCall,
    NotFound,
    OpenHandsError,
    Rejected,
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
    Slots,
    Started,
)
from bot.openhands import (
    GO_ON,
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
    SelfHosted,
    nothing,
)
from bot.openhands.agent_server_answers import (
    Conversation,
    DryRun,
    Home,
    Profile,
    Profiles,
    Secrets,
    ServerInfo,
    is_full,
    is_saved,
    not_begun,
    said,
    seen_of,
)
from bot.openhands.batches import Batches
from bot.openhands.clones import Clones
from bot.openhands.events import Event, heard_among, pull_requests, words_of
from bot.openhands.http import Answer, Http, read_as, readable, shown_words
from bot.openhands.recent import Recent
from bot.openhands.v1_agent import CONFIRMATION, REJECTION, content
from bot.openhands.v1_answers import EventPage, Repository, RepositoryPage, id_of, uuid_of
from bot.openhands.v1_events import Reading, collect, newest_first, page_of

CONVERSATIONS = "/api/conversations"
PROFILES = "/api/agent-profiles"
TOKEN = "GITHUB_TOKEN"  # noqa: S105 - a secret's name
FOLDER = "openhands-for-slack"  # below the server's home, if no root is set

BATCH = 24  # ids per request: each entry grows with every call of its model; measured in docs/performance.md
UNREAD = timedelta(seconds=10)  # a message that nobody works on for so long was never run
WORDS_LIMIT, WORDS_PAGES = 20, 10  # events per page, pages; a turn with more steps since its last words has not ended
HEARD_LIMIT, HEARD_PAGES = 100, 20
REPOSITORY_PAGES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """What an operator may set for an Agent Server."""

    profile: str = ""
    """Name or id of the agent profile; empty: the active one."""
    root: str = ""
    """Where the folders of runs are made: an absolute path on the server. Empty: below its home."""
    workspaces: Mapping[str, str] = field(default_factory=dict)
    """By repository: the folder of a clone on the server, of which each run gets a worktree."""


@dataclass(frozen=True, slots=True)
class _Unread:
    """What was done about a message that nobody works on."""

    since: datetime
    tried_at: datetime | None = None
    ran: bool = False


class AgentServer(
    CanResume,
    CanDecide,
    CanSeeImages,
    CanChooseModel,
    CanListBranches,
    CanListRepositories,
    CanFindRepository,
    CanCount,
    SelfHosted,
):
    """An Agent Server. The key is that of the whole machine: it opens a shell there."""

    def __init__(self, http: Http, info: ServerInfo, hosting: Hosting | None = None) -> None:
        self._http = http
        self._hosting = hosting or Hosting()
        self._asking = Batches(http.clock, BATCH)
        self._clones = Clones(http, self._hosting.workspaces)
        self._root = self._hosting.root.rstrip("/")
        self._texts = Recent[RunId, str](http.clock)
        """What the starts of runs say, in case one dies before its message is there."""
        self._unread = Recent[tuple[ConversationId, str], _Unread](http.clock)
        self.info = info

    @property
    def api(self) -> Api:
        return Api.AGENT

    @property
    def version(self) -> str:
        return self.info.version

    @property
    def image_types(self) -> Collection[str]:
        return IMAGE_TYPES

    @property
    def takes_models(self) -> bool:
        return self.info.takes_models

    def link(self, conversation: ConversationId) -> str:
        return f"{self._http.base_url}/conversations/{conversation}"

    # --- start --------------------------------------------------------------------------------------------------

    async def start(
        self, run: Run, message: str, about: str, before: Before = nothing, *, images: Sequence[str] = ()
    ) -> Started:
        """See `OpenHands.start`. The repository is cloned first: nothing is started where that fails."""
        profile = await self.profile()
        folder, text = await self._folder(run), message
        if run.repository:
            on = f", branch {run.branch}," if run.branch else ""
            text = f"{text}\n\nThe repository {run.repository}{on} is cloned in {folder}: work there."
        text = f"{text}\n\n{about}" if about else text
        self._texts.put(run.id, text)
        body: dict[str, Any] = {
            "conversation_id": id_of(run),
            "agent_profile_id": str(profile.id),
            "workspace": {"working_dir": folder},
            "initial_message": {"content": content(text, images)},
            "tags": _tags(run),
        }
        if run.model:
            body["agent_launch_additions"] = {"llm_profile_ref": run.model}
        if await self._stores(TOKEN):
            headers = {"headers": self._http.as_session} if self._http.as_session else {}
            body["secrets"] = {TOKEN: {"kind": "LookupSecret", "url": f"/api/settings/secrets/{TOKEN}", **headers}}
        return await self._begun(run, await self._posted(body, before))

    async def profile(self) -> Profile:
        """Return the agent profile for starts. Raises `Rejected` if there is none of that name."""
        found = read_as(Profiles, (await self._http.get(PROFILES)).value())
        wanted = self._hosting.profile or str(found.active_agent_profile_id)
        profile = next((one for one in found.profiles if wanted in (one.name, str(one.id))), None)
        if profile is None:
            raise Rejected(f"the server has no agent profile {self._hosting.profile or 'that is active'}")
        return profile

    async def profile_name(self) -> str:
        return (await self.profile()).name

    async def lacks(self) -> Sequence[str]:
        """Return what a start would miss on the server; empty if it has all."""
        answer = await self._http.post(f"{PROFILES}/{await self.profile_name()}/materialize")
        dry = read_as(DryRun, answer.value())
        return [] if dry.valid else [shown_words(one) for one in dry.errors] or ["its model"]

    async def _folder(self, run: Run) -> str:
        """Return the run's folder, with its repository in it.

        Each Retry has its own, by the run's turn; a run that waits for room keeps the one it has.
        """
        if not self._root:
            home = read_as(Home, (await self._http.get("/api/file/home")).value()).home
            self._root = f"{home.rstrip('/')}/{FOLDER}"
        own = f"{self._root}/{run.id}" if run.turn == 1 else f"{self._root}/{run.id}-{run.turn}"
        return await self._clones.checkout(run.repository, run.branch, own) if run.repository else own

    async def _stores(self, secret: str) -> bool:
        """Return whether the operator stored a secret of this name on the server."""
        try:
            stored = read_as(Secrets, (await self._http.get("/api/settings/secrets")).value()).secrets
        except (NotFound, Rejected, Unreadable, NoSuchCall):
            return False
        return any(one.name == secret for one in stored)

    async def _posted(self, body: Mapping[str, Any], before: Before) -> Answer:
        """Post a start. Where the server knows a start again, a lost answer is asked for once more."""
        try:
            return await self._http.post(CONVERSATIONS, body, before=before)
        except Unsure:
            if not self.info.knows_starts:
                raise
        try:
            return await self._http.post(CONVERSATIONS, body)
        except Unavailable as err:  # nothing of this call arrived; of the one before, nobody knows
            raise Unsure(str(err)) from None

    async def _begun(self, run: Run, answer: Answer) -> Started:
        if is_full(answer):
            raise AtCapacity("as many work as the server allows")
        if answer.status in {404, 422} and answer.readable:
            raise Rejected(said(answer))
        if answer.status == 500:
            await self._broken(run, answer)
        entry = _read_start(answer)
        if entry.last_user_message_id is None:
            raise Unsure("it is there, and its message is not")
        return self._started(run)

    async def _broken(self, run: Run, answer: Answer) -> None:
        """Raise what a 500 means: a refusal if nothing was made, as of a folder that can't be."""
        try:
            there = await self._entry(run)
        except OpenHandsError:
            raise Unsure("500") from None
        exception = answer.body.get("exception") if isinstance(answer.body, dict) else None
        if there is None and isinstance(exception, str):
            raise Rejected(shown_words(exception))
        raise Unsure("500")

    def _started(self, run: Run) -> Started:
        """Return the start with a task's id, as V1 has one: it tells a start that arrived from one on its way."""
        self._texts.drop(run.id)
        return Started(conversation_id=id_of(run), start_task_id=id_of(run))

    async def find_start(
        self, run: Run, message: str, since: datetime, *, images: Sequence[str] = ()
    ) -> Started | None:
        """See `OpenHands.find_start`. One whose server died before its message was there gets the message now."""
        entry = await self._entry(run)
        if entry is None:
            return None
        if entry.last_user_message_id is None:
            if self._http.clock.now() - since < UNREAD:
                return None  # it may still be on its way
            await self.send(run, self._texts.get(run.id) or message, images=images)
        return self._started(run)

    # --- observe ------------------------------------------------------------------------------------------------

    async def observe(self, runs: Sequence[Run]) -> Mapping[RunId, Observation]:
        """See `OpenHands.observe`. A message that waits to be worked on is brought to run."""
        odd: list[OpenHandsError] = []

        async def fetch(part: Sequence[UUID]) -> Mapping[UUID, tuple[Conversation | None, datetime]]:
            asked_at, entries = await self._batch(part)
            found: dict[UUID, tuple[Conversation | None, datetime]] = {}
            for one, entry in zip(part, entries, strict=True):
                try:
                    found[one] = (None if entry is None else read_as(Conversation, entry), asked_at)
                except Unreadable as err:
                    odd.append(err)
            return found

        names = {run.id: name for run in runs if (name := uuid_of(run.conversation_id)) is not None}
        found, failure = await self._asking.ask(dict.fromkeys(names.values()), fetch)
        seen: dict[RunId, Observation] = {}
        for run in runs:
            name = names.get(run.id)
            if name is not None and name in found:
                entry, asked_at = found[name]
                seen[run.id] = await self._seen(run, entry, asked_at)
        if not seen and (err := failure or next(iter(odd), None)):
            raise err
        return seen

    async def _seen(self, run: Run, entry: Conversation | None, asked_at: datetime) -> Observation:
        seen = seen_of(run, entry, asked_at)
        if entry is None or entry.unread is None or not_begun(run):
            return seen
        waits = run.stop_by is None and await self._runs_yet(run, entry.unread, asked_at)
        return seen if waits else replace(seen, phase=Phase.IDLE)

    async def _runs_yet(self, run: Run, message: str, asked_at: datetime) -> bool:
        """Bring a message to run that nobody works on; return False if that was of no use, so that a person decides."""
        key = (id_of(run), message)
        known = self._unread.get(key) or _Unread(asked_at)
        pause = timedelta(seconds=self._http.patience.full_s)
        if asked_at - known.since >= UNREAD and (known.tried_at is None or asked_at - known.tried_at >= pause):
            if known.ran:
                return False
            known = replace(known, tried_at=asked_at)
            with suppress(OpenHandsError):  # full, or out of reach: tried again
                known = replace(known, ran=await self._run(run))
        self._unread.put(key, known)
        return True

    async def _batch(self, ids: Sequence[UUID]) -> tuple[datetime, list[Any]]:
        """Return one entry for each id, null if unknown, and when the request was sent."""
        answer = await self._http.get(CONVERSATIONS, {"ids": [str(one) for one in ids]})
        entries = answer.value()
        if not isinstance(entries, list) or len(entries) != len(ids):
            raise Unreadable("not one entry for each id")
        return answer.asked_at, entries

    async def _entry(self, run: Run) -> Conversation | None:
        """Fetch one conversation afresh: acting needs its current state. None: not there."""
        name = uuid_of(id_of(run))
        if name is None:
            return None
        _, [entry] = await self._batch([name])
        return None if entry is None else read_as(Conversation, entry)

    async def _existing(self, run: Run) -> Conversation:
        entry = await self._entry(run)
        if entry is None:
            raise NotFound("no such conversation")
        return entry

    # --- read ---------------------------------------------------------------------------------------------------

    async def read(self, run: Run, seen: Observation) -> Observation:
        """See `OpenHands.read`. An error that no event explains is a server that was killed at work."""
        if seen.phase in {Phase.STARTING, Phase.GONE} or run.conversation_id is None:
            return seen
        words_in = partial(
            words_of, phase=seen.phase, turn_after=run.turn_after, told=run.ending, back=reads_back(run, seen)
        )
        reading = await self._events(run, WORDS_LIMIT, WORDS_PAGES, lambda events: words_in(events).settled)
        words = words_in(reading.events)
        last = words.last
        if seen.phase is Phase.ERROR and last is None and words.settled and run.watch.phase is Phase.ERROR:
            last = Failed(Reason.CUT_OFF)  # not at the first look: an error's event comes a moment after its word
        return replace(
            seen,
            last=last,
            ending=words.ending,
            overtaken=words.overtaken,
            progress=words.progress,
            pull_requests=pull_requests(words.answers, seen.pull_requests, task=run.task),
        )

    async def last_event(self, run: Run) -> str | None:
        reading = await self._events(run, 1, 1, bool)
        return reading.events[0].id if reading.events else None

    async def heard(self, run: Run, text: str, after: str | None) -> bool:
        reading = await self._events(
            run, HEARD_LIMIT, HEARD_PAGES, lambda events: any(event.id == after for event in events)
        )
        return heard_among(reading.events, text, after, complete=reading.complete)

    async def _events(self, run: Run, limit: int, pages: int, enough: Callable[[Sequence[Event]], bool]) -> Reading:
        fetch = partial(self._page, run, limit)
        return await collect(await fetch(), fetch, pages, enough)

    async def _page(self, run: Run, limit: int, page_id: str | None = None) -> EventPage:
        path = f"{_path(run)}/events/search"
        return await page_of(limit, lambda limit: self._http.get(path, newest_first(limit, page_id)))

    # --- act ----------------------------------------------------------------------------------------------------

    async def send(self, run: Run, text: str, before: Before = nothing, *, images: Sequence[str] = ()) -> None:
        """See `OpenHands.send`. A message that the server has no room to work on is delivered: `observe` runs it."""
        body = {"role": "user", "content": content(text, images), "run": True}
        answer = await self._http.post(
            f"{_path(run)}/events", body, timeout_s=self._http.patience.send_timeout_s, before=before
        )
        if not is_saved(answer):
            answer.value()

    async def stop(self, run: Run, *, interrupts: bool = True) -> None:
        """See `OpenHands.stop`. While the agent waits for approval, only a rejection stops it.

        There is no sandbox to pause: an agent that interrupts do not reach is asked to pause after its step.
        """
        if (await self._existing(run)).phase is Phase.WANTS_APPROVAL:
            (await self._tell(run, CONFIRMATION, {"accept": False, "reason": REJECTION})).value()
        else:
            (await self._tell(run, "interrupt" if interrupts else "pause")).value()

    async def resume(self, run: Run) -> None:
        """See `CanResume.resume`. Nothing sleeps here."""

    async def go_on(self, run: Run, before: Before = nothing) -> bool:
        """See `CanResume.go_on`. A stuck agent gets a message, since it would stop again at once."""
        match (await self._existing(run)).phase:
            case Phase.PAUSED | Phase.IDLE | Phase.ERROR | Phase.STARTING:
                return await self._run(run, before)
            case Phase.STUCK:
                await self.send(run, GO_ON, before)
                return True
            case Phase.UNCLEAR | Phase.UNKNOWN:
                raise Unavailable("what it does can't be told")
            case _:
                return False

    async def _run(self, run: Run, before: Before = nothing) -> bool:
        """Let the agent work; return False if it does already. Raises `AtCapacity`.

        Never call it while the agent waits for approval: it would count as approval.
        """
        answer = await self._tell(run, "run", before=before)
        if answer.status == 409:
            return False
        if is_full(answer):
            raise AtCapacity("as many work as the server allows")
        answer.value()
        return True

    async def decide(
        self, run: Run, action_id: str, *, accept: bool, reason: str, before: Before = nothing
    ) -> DecisionOutcome:
        """See `CanDecide.decide`. Raises `AtCapacity` too: an approval needs room, and waits."""
        phase = (await self._existing(run)).phase
        if phase in {Phase.UNCLEAR, Phase.UNKNOWN}:
            raise Unavailable("what it does can't be told")
        if phase is not Phase.WANTS_APPROVAL:
            return DecisionOutcome.OVER
        if (await self._waits(run)).action_id != action_id:
            return DecisionOutcome.OTHER
        body: dict[str, object] = {"accept": True} if accept else {"accept": False, "reason": reason}
        answer = await self._tell(run, CONFIRMATION, body, before=before)
        if is_full(answer):
            raise AtCapacity("as many work as the server allows")
        answer.value()
        return DecisionOutcome.POSTED

    async def _waits(self, run: Run) -> ApprovalRequest:
        """Return what waits for approval now. Raises `Unavailable` if it can't be read yet."""
        reading = await self._events(
            run, WORDS_LIMIT, WORDS_PAGES, lambda events: words_of(events, Phase.WANTS_APPROVAL, None).settled
        )
        last = words_of(reading.events, Phase.WANTS_APPROVAL, None).last
        if not isinstance(last, ApprovalRequest):
            raise Unavailable("what waits can't be read yet")
        return last

    async def _tell(
        self, run: Run, call: str, body: Mapping[str, object] | None = None, *, before: Before = nothing
    ) -> Answer:
        return await self._http.post(f"{_path(run)}/{call}", body, before=before)

    # --- the server ---------------------------------------------------------------------------------------------

    async def slots(self) -> Slots | None:
        """See `CanCount.slots`. Counts whoever works, also without us."""
        answer = await self._http.get(f"{CONVERSATIONS}/count", {"status": "running"})
        try:
            count = answer.value()
        except (NotFound, Rejected, Unreadable, NoSuchCall):
            return None
        return Slots(running=count, of="agent") if type(count) is int else None

    async def branches(self, repository: str, like: str) -> Sequence[str] | None:  # noqa: ARG002 - git lists all
        return await self._clones.branches(repository)

    async def repositories(self) -> Listed:
        """See `CanListRepositories.repositories`. Never whole: the server's git may open what its stored token can't see."""
        names = [*self._hosting.workspaces]
        page_id: str | None = None
        for _ in range(REPOSITORY_PAGES):
            asked = {"provider": "github"} | ({} if page_id is None else {"page_id": page_id})
            answer = await self._http.get("/api/git/repositories/search", asked)
            try:
                page = read_as(RepositoryPage, answer.value())
            except (NoSuchCall, NotFound, Rejected, Unavailable, Unreadable):
                break  # no such list in this version, or GitHub is out of its reach
            names += (one.full_name for one in readable(Repository, page.items) if is_repository(one.full_name))
            page_id = page.next_page_id
            if page_id is None:
                break
        return Listed(tuple(names))

    async def lists(self, repository: str) -> bool:
        """See `CanFindRepository.lists`. The server's git is asked: it lists only what a stored token sees."""
        return await self._clones.opens(repository)


def _read_start(answer: Answer) -> Conversation:
    try:
        return read_as(Conversation, answer.value())
    except Unreadable:
        if 200 <= answer.status < 300:
            raise Unsure("the start was taken, its answer has another shape") from None
        raise


def _tags(run: Run) -> dict[str, str]:
    """Return where a run lives in Slack; their names may have small letters and digits only."""
    ts = run.thread_ts or run.card.ts
    return {"slackteam": run.team} | ({} if run.private or ts is None else {"slackthread": f"{run.channel}:{ts}"})


def _path(run: Run) -> str:
    return f"{CONVERSATIONS}/{id_of(run)}"
