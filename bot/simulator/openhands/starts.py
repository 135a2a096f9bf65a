"""How conversations start: start tasks, repositories, and the limit on how many run."""

from datetime import datetime
from functools import partial
from typing import Literal
from uuid import UUID, uuid4

from bot.simulator.openhands import events_v0, events_v1
from bot.simulator.openhands.hosted import Hosted
from bot.simulator.openhands.machine import Machine
from bot.simulator.openhands.state import Agent, Conversation, Event, StartTask, bare, dashed, images_in
from bot.simulator.openhands.timers import Timers

# When each state is reached, as a fraction of the whole start. The sandbox takes most of it.
STEPS = (
    ("WAITING_FOR_SANDBOX", 0.74),
    ("PREPARING_REPOSITORY", 0.75),
    ("RUNNING_SETUP_SCRIPT", 0.77),
    ("SETTING_UP_GIT_HOOKS", 0.78),
    ("SETTING_UP_SKILLS", 0.79),
    ("STARTING_CONVERSATION", 0.8),
    ("READY", 1.0),
)
TITLE_AFTER_S = 5.0  # the model sets the title 3 to 12 s after READY
AGENT_SERVER = "http://127.0.0.1:3200"  # an internal address, as start tasks and their errors show it
DEFAULT_MODEL = "openhands/claude-sonnet-4-5"

LimitAnswers = Literal["429", "pauses-oldest"]


class Starts(Hosted):
    """Starts conversations on both APIs of the app server, as slowly and destructively as the real one."""

    def __init__(
        self,
        timers: Timers,
        agent: Agent | None,
        *,
        start_seconds: float,
        limit: int | None,
        limit_answers: LimitAnswers,
        shared_sandbox: bool,
        providers: bool,
        repositories: frozenset[str] | None,
        closed: frozenset[str],
        machine: Machine,
    ) -> None:
        super().__init__(timers, agent)
        self.start_seconds = start_seconds
        self.limit = limit
        self.limit_answers = limit_answers
        self.runs_full = False  # agent servers keep messages, but set no more agents to work
        self.shared_sandbox = shared_sandbox
        self.providers = providers  # whether a git provider is connected
        self.git_providers = ("github",)  # which
        self.repositories = repositories  # None: it has every repository
        self.machine = machine  # what an Agent Server has besides conversations
        self.closed = closed  # except these, which the git provider gives no access to
        self.branches: tuple[str, ...] = ("main", "develop", "dev")  # of every repository that can be opened
        self.tasks: dict[str, StartTask] = {}
        self._by_conversation: dict[UUID, list[StartTask]] = {}
        self._failing: list[str] = []

    def fail_next_start(self, detail: str = "500: Agent Server Failed to start properly") -> None:
        """Make the next V1 start end in ERROR with this detail, or the next V0 start stay STARTING for ever."""
        self._failing.append(detail)

    def can_open(self, repository: str | None) -> bool:
        if not repository:
            return True
        open_to_all = self.repositories is None or repository in self.repositories
        return self.providers and open_to_all and repository not in self.closed

    # The limit

    def _busy_slots(self, but: Conversation | None = None) -> list[Conversation]:
        """Return one conversation per running sandbox, oldest first."""
        alive = (c for c in self.conversations.values() if c.sandbox_exists and not c.deleted and c is not but)
        return list({c.sandbox_id: c for c in alive if c.sandbox_status in {"RUNNING", "STARTING"}}.values())

    def make_room(self, waking: Conversation | None = None) -> bool:
        """Make room for one more sandbox, and return whether there is room.

        With "pauses-oldest" it pauses the oldest sandbox, working or not; with "429" only one without work.
        """
        if self.limit is None:
            return True
        slots = self._busy_slots(but=waking)
        if self.shared_sandbox and slots and waking is None:
            return True
        starting = sum(task.under_way and not task.deleted for task in self.tasks.values())
        if len(slots) + starting < self.limit:
            return True
        if self.limit_answers == "429":
            slots = [c for c in slots if c.sandbox_status == "RUNNING" and not self._anybody_works(c)]
        elif any(c.api == "v0" for c in slots):
            slots.sort(key=lambda c: c.updated_at)  # V0 takes the one updated longest ago
        if slots:
            self.fall_asleep(slots[0])
        return bool(slots) or self.limit_answers == "pauses-oldest"

    def _anybody_works(self, c: Conversation) -> bool:
        return any(one.working or one.pending for one in self._neighbours(c))

    # V1

    def start_v1(self, conversation_id: UUID | None, request: Event) -> StartTask:
        """Begin a start. Unless sandboxes are shared, a second start of an id destroys the first: see `_collide`."""
        now = self.timers.now()
        task = StartTask(conversation_id or uuid4(), request, now, now)
        if not self.shared_sandbox:
            self._collide(task)
        if self._failing:
            task.sandbox_error = self._failing.pop(0)
        self.tasks[task.id] = task
        self._by_conversation.setdefault(task.conversation_id, []).append(task)
        for status, share in STEPS:
            self.timers.after(self.start_seconds * share, partial(self._step, task, status))
        return task

    def _collide(self, task: StartTask) -> None:
        """Fail starts of the same id: two under way fail each other; one after READY wrecks the conversation."""
        unauthorised = f"Client error '401 Unauthorized' for url '{AGENT_SERVER}/api/conversations'"
        for other in self._tasks_of(task):
            if other.under_way:
                other.agent_error = task.agent_error = unauthorised
        conversation = self.conversations.get(dashed(task.conversation_id))
        if conversation is not None and not conversation.deleted:
            task.overwrites = conversation
            task.agent_error = f"Server error '500 Internal Server Error' for url '{AGENT_SERVER}/api/conversations'"
            conversation.start_tasks.append(task)

    def _tasks_of(self, task: StartTask) -> list[StartTask]:
        """Return the starts with the same conversation id, except those deleted along with a conversation."""
        return [one for one in self._by_conversation.get(task.conversation_id, ()) if not one.deleted]

    def _step(self, task: StartTask, status: str) -> None:
        if not task.under_way:
            return
        task.updated_at = self.timers.now()
        error = self._error_on_the_way(task, status)
        if error is not None:
            task.status, task.detail = "ERROR", error
            return
        task.status = status
        if status == "WAITING_FOR_SANDBOX":
            task.sandbox_id = self._sandbox_of_all() if self.shared_sandbox else bare(task.conversation_id)
            if task.overwrites is not None:
                self.wreck(task.overwrites)
        elif status == "STARTING_CONVERSATION":
            task.agent_server_url = AGENT_SERVER
        elif status == "READY":
            self._begin(task, task.updated_at)

    def _sandbox_of_all(self) -> str:
        """Return the id of the shared sandbox that runs or is being made; else a new id."""
        made = (task.sandbox_id for task in self.tasks.values() if task.under_way and task.sandbox_id)
        there = (c.sandbox_id for c in self._busy_slots())
        return next(there, None) or next(made, None) or uuid4().hex

    def leftovers(self) -> list[StartTask]:
        """Return failed starts that left an empty sandbox behind."""
        failed = (task for task in self.tasks.values() if task.status == "ERROR" and task.sandbox_id)
        return [task for task in failed if not self.residents(task.sandbox_id or "")]

    def _error_on_the_way(self, task: StartTask, status: str) -> str | None:
        """Return why this state is never reached; None if it is. Without a git provider the server's text is empty."""
        match status:
            case "WAITING_FOR_SANDBOX":
                return task.sandbox_error
            case "RUNNING_SETUP_SCRIPT" if not self.can_open(task.request["selected_repository"]):
                return "Git provider authentication issue when getting remote URL" if self.providers else ""
            case "READY":
                return task.agent_error
            case _:
                return None

    def _begin(self, task: StartTask, now: datetime) -> None:
        request = task.request
        key = dashed(task.conversation_id)
        if self.shared_sandbox and (there := self.conversations.get(key)) and not there.deleted:
            self._begin_again(there, task, now)
            return
        before = self.conversations.pop(key, None)
        c = Conversation(
            key,
            "v1",
            created_at=now,
            updated_at=now,
            title=f"Conversation {task.conversation_id.hex[:5]}",
            repository=request["selected_repository"],
            branch=request["selected_branch"],
            git_provider=request["git_provider"],
            model=request["llm_model"] or DEFAULT_MODEL,
            suffix=request["system_message_suffix"],
            trigger=request["trigger"],
            events=[] if before is None else before.events,
            copied=0 if before is None else before.copied,
            start_tasks=self._tasks_of(task),
            sandbox_status="RUNNING",
            pull_requests=list(request["pr_number"]),
        )
        if self.shared_sandbox and task.sandbox_id:
            c.shares = task.sandbox_id
            host = next(iter(self.residents(c.shares)), c)
            c.wakes, c.session_api_key = host.wakes, host.session_api_key
        self.conversations[key] = c
        self._add(c, events_v1.system_prompt())
        self._become(c, "idle")
        if (first := request["initial_message"]) is not None:
            text = "".join(part.get("text", "") for part in first["content"])
            c.images += images_in(first["content"])
            self.take(c, text, run=True)
            self.timers.after(TITLE_AFTER_S, partial(setattr, c, "title", title_of(text)))

    def _begin_again(self, c: Conversation, task: StartTask, now: datetime) -> None:
        """Repeat a start in a shared sandbox: the conversation continues, its record is reset, the message is lost."""
        c.start_tasks.append(task)
        c.title = f"Conversation {task.conversation_id.hex[:5]}"
        c.trigger = task.request["trigger"]
        c.created_at = now

    # V0

    def start_v0(self, message: str | None, repository: str | None) -> Conversation:
        """Begin a conversation with an id made by the server. Repeating the request makes another conversation."""
        now = self.timers.now()
        key = uuid4().hex
        c = Conversation(
            key,
            "v0",
            created_at=now,
            updated_at=now,
            title=f"Conversation {key[:5]}",
            repository=repository or None,
            trigger="gui",
        )
        self.conversations[key] = c
        self._become(c, "loading")
        if self._failing:
            self._failing.pop(0)
            return c
        self.timers.after(self.start_seconds, partial(self._runtime_up, c, message))
        return c

    def start_again_v0(self, c: Conversation) -> None:
        """Wake a stopped runtime. The agent does not continue its work, but waits for a message."""
        if c.sandbox_status != "STOPPED":
            return
        c.sandbox_status = "STARTING"
        self._become(c, "loading")
        self.timers.after(self.start_seconds, partial(self._runtime_up, c, None))

    def _runtime_up(self, c: Conversation, message: str | None) -> None:
        if c.deleted or c.sandbox_status != "STARTING":
            return
        c.sandbox_status = "RUNNING"
        if not any(event.get("action") == "system" for event in c.events):
            self._add(c, events_v0.system_prompt())
        if not message:
            self._add(c, events_v0.asked_for_state("awaiting_user_input", source="environment"))
            self._become(c, "awaiting_user_input")
            return
        self.take(c, message, run=True)
        self.timers.after(TITLE_AFTER_S, partial(setattr, c, "title", title_of(message)))


def title_of(message: str) -> str:
    """Return a title, in place of the model's."""
    first_line = message.strip().partition("\n")[0]
    return first_line[:50] or "A scripted conversation"
