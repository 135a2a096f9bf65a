"""What agents do by themselves, and how their conversations record it."""

import asyncio
import shlex
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from uuid import uuid4

from bot.simulator.openhands import events_v0, events_v1
from bot.simulator.openhands.state import Agent, Conversation, Event, Held, Tool, naive
from bot.simulator.openhands.timers import Timers

COPY_AT_ONCE = 5  # the agent server sends events to the app server in batches of five, the rest after a while

# V0 has no event of its own for a failure: the reason is part of the state change.
V0_REASONS = {
    "LLMAuthenticationError": "STATUS$ERROR_LLM_AUTHENTICATION",
    "LLMServiceUnavailableError": "STATUS$ERROR_LLM_INTERNAL_SERVER_ERROR",
    "LLMBadRequestError": "BadRequestError: {detail}",
}


class Agents:
    """Every conversation, and what its agent does. Callers of the API decide nothing in here.

    Raises RuntimeError for what an agent can't do in its state, such as finish while it is not at work.
    """

    def __init__(self, timers: Timers, agent: Agent | None) -> None:
        self.timers = timers
        self.agent = agent
        self.conversations: dict[str, Conversation] = {}
        self.violations: list[str] = []  # what a well-behaved caller never does
        self.events_lag_s = 0.0  # how long the app server's copy of a few events may lag; 30 on a real server
        self.status_lag_s = 0.0  # how long the old status is still shown after a message; 0.3 on a real server
        self.approval_deaf_s = 0.0  # how long after the question an approval has no effect; ~1 on a real server
        self.restarts_on_resume = False  # a woken sandbox restarts its agent server instead of thawing it
        self._runners: set[asyncio.Task[None]] = set()  # agents acting by themselves, those being cancelled included
        self._thinking = 0  # how many of them wait for the clock

    def find(self, text: str) -> Conversation:
        """Return the conversation whose messages contain this text. Raises LookupError for none or several."""
        self.timers.do_what_is_due()
        found = [c for c in self.conversations.values() if any(text in message for message in c.messages)]
        if len(found) != 1:
            raise LookupError(f"{len(found)} conversations contain {text!r}")
        return found[0]

    # What the agent does

    async def think(self, seconds: float) -> None:
        """Let an agent that acts by itself wait for so long, by this server's clock."""
        self._thinking += 1
        try:
            await self.timers.passes(seconds)
        finally:
            self._thinking -= 1

    def progress(self, c: Conversation, summary: str, *, command: str | None = None) -> None:
        """Carry out one command that takes no time."""
        self._observe(c, self._act(c, summary, command or f"echo {shlex.quote(summary)}"))

    def work_on(self, c: Conversation, command: str, *, seconds: float, summary: str | None = None) -> None:
        """Begin a command that takes this long. On V1 no message is read and no pause answered before it ends."""
        action = self._act(c, summary or f"Run {command}", command)
        tool = c.tool = Tool(action, self.timers.now() + timedelta(seconds=seconds))
        self.timers.after(seconds, partial(self._tool_may_end, c, tool))

    def finish(self, c: Conversation, message: str, *, cost: float | None = None, pr: Iterable[int] = ()) -> None:
        """End the turn with a finish action. cost: USD of the whole conversation; pr: numbers of pull requests."""
        self._at_work(c)
        self._end_tool(c)
        c.cost = c.cost if cost is None else cost
        c.pull_requests += pr
        if c.api != "v0":
            self._add(c, events_v1.finish_result(self._add(c, events_v1.finish(message))))
        else:
            self._add(c, events_v0.finish(message) | {"llm_metrics": events_v0.metrics(c.cost, c.tokens)})
        self._rest(c, "finished")

    def ask(self, c: Conversation, message: str) -> None:
        """End the turn with a plain message: a question or an answer, which only its words tell apart."""
        self._at_work(c)
        self._end_tool(c)
        if c.api != "v0":
            self._add(c, events_v1.message(message, source="agent"))
            self._rest(c, "finished")
        else:
            metrics = {"llm_metrics": events_v0.metrics(c.cost, c.tokens)}
            self._add(c, events_v0.message(message, source="agent") | metrics)
            self._rest(c, "awaiting_user_input")

    def fail(
        self,
        c: Conversation,
        code: str = "LLMAuthenticationError",
        detail: str = "litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key provided.",
    ) -> None:
        """End the turn because the model, or the agent itself, failed."""
        self._at_work(c)
        self._end_tool(c)
        if c.api != "v0":
            self._rest(c, "error")
            self._add(c, events_v1.failure(code, detail))
        elif code == "LLMRateLimitError":
            self._rest(c, "rate_limited")
        else:
            self._rest(c, "error", V0_REASONS.get(code, f"{code}: {{detail}}").format(detail=detail))

    def get_stuck(self, c: Conversation) -> None:
        """Repeat a command until the server notices the loop."""
        for _ in range(4):
            self.progress(c, "Run echo again", command="echo again")
        if c.api != "v0":
            self._rest(c, "stuck")
        else:
            self._rest(c, "error", "AgentStuckInLoopError: Agent got stuck in a loop")

    def want_approval(self, c: Conversation, *commands: str, summary: str, risk: str = "HIGH") -> None:
        """Wait until somebody approves or rejects a command; on V1 it may be several commands at once."""
        self._at_work(c)
        if c.api == "v0" and len(commands) != 1:
            raise RuntimeError("a V0 agent wants one thing at a time")
        self._end_tool(c)
        c.working = False
        c.pending_since = self.timers.now()
        if c.api != "v0":
            wanted = [events_v1.command(command, summary=summary, risk=risk) for command in commands]
            c.pending += [self._add(c, action) for action in events_v1.one_answer(wanted)]
            self._become(c, "waiting_for_confirmation")
        else:
            self._become(c, "awaiting_user_confirmation")
            c.pending.append(self._add(c, events_v0.command(commands[0], confirmation="awaiting_confirmation")))

    # Internals

    def _add(self, c: Conversation, event: Event) -> Event:
        """Store an event. Times within a conversation strictly increase, as those of real agents do."""
        now = self.timers.now()
        if c.events:
            now = max(now, c.updated_at + timedelta(microseconds=1))
        c.updated_at = now
        c.older_figures = None
        if c.api == "v0":
            stored: Event = {"id": len(c.events), "timestamp": naive(now)} | event
        else:
            parent = c.events[-1]["id"] if c.events else None
            stored = {"id": str(uuid4()), "timestamp": naive(now), "parent_id": parent} | event
        c.events.append(stored)
        if not self.events_lag_s or len(c.events) - c.copied >= COPY_AT_ONCE:
            c.copied = len(c.events)
        else:
            upto = len(c.events)
            self.timers.after(self.events_lag_s, partial(self._copy, c, upto))
        return stored

    @staticmethod
    def _copy(c: Conversation, upto: int) -> None:
        c.copied = max(c.copied, upto)

    def _become(self, c: Conversation, word: str, reason: str = "") -> None:
        c.state = word
        self._add(c, events_v1.state("execution_status", word) if c.api != "v0" else events_v0.state(word, reason))

    def _rest(self, c: Conversation, word: str, reason: str = "") -> None:
        """End the turn."""
        c.working = False
        c.tokens += 1000
        self._become(c, word, reason)

    def _paused(self, c: Conversation, kind: str) -> None:
        self._become(c, "paused")
        if c.api != "v0":
            self._add(c, events_v1.stopped_by_user(kind))
        if c.api == "v1":
            c.created_at = self.timers.now()  # recorded: a pause or an interrupt rewrites it

    def _at_work(self, c: Conversation) -> None:
        if not (c.working and c.awake):
            where = f"its sandbox is {c.sandbox_status}, its state {c.state}"
            raise RuntimeError(f"the agent of {c.id} is not at work: {where}")

    def _act(self, c: Conversation, summary: str, command: str) -> Event:
        self._at_work(c)
        self._end_tool(c)
        c.tokens += 1000
        if c.api != "v0":
            return self._add(c, events_v1.command(command, summary=summary, risk="LOW"))
        metrics = {"llm_metrics": events_v0.metrics(c.cost, c.tokens)}
        return self._add(c, events_v0.command(command, confirmation="confirmed") | metrics)

    def _observe(self, c: Conversation, action: Event) -> None:
        result = events_v1.command_result if c.api != "v0" else events_v0.command_result
        self._add(c, result(action))

    def _tool_may_end(self, c: Conversation, tool: Tool) -> None:
        """End the command, unless it was interrupted meanwhile or its sandbox is frozen."""
        if c.tool is tool and c.awake:
            self._end_tool(c)

    def _end_tool(self, c: Conversation) -> None:
        if c.tool is not None:
            tool, c.tool = c.tool, None
            self._observe(c, tool.action)
            self._release(c)

    def _release(self, c: Conversation) -> None:
        """Deliver the messages that waited for the command."""
        held, c.held = c.held, []
        for one in held:
            self.take(c, one.text, run=one.run)
            if not one.taken.done():
                one.taken.set_result(None)

    def _cut_off(self, c: Conversation) -> None:
        """Interrupt the agent in the middle of its work."""
        self._cancel_runner(c)
        c.working = False
        c.unread.clear()
        if c.tool is not None:
            tool, c.tool = c.tool, None
            self._add(c, (events_v1.cut_off if c.api != "v0" else events_v0.cut_off)(tool.action))

    # Messages, and the agent that acts by itself

    def someone_says(self, c: Conversation, text: str) -> None:
        """Have a person write a message in OpenHands' own page."""
        if not c.awake:
            raise RuntimeError(f"nobody can write to {c.id}: its sandbox is {c.sandbox_status}")
        self._take_or_hold(c, text, run=True)

    def _take_or_hold(self, c: Conversation, text: str, *, run: bool) -> Held | None:
        """Deliver a message and return None, or hold it: on V1 nothing is read before the running command ends."""
        if c.tool is None or c.api == "v0":
            self.take(c, text, run=run)
            return None
        held = Held(text, run, asyncio.get_running_loop().create_future())
        c.held.append(held)
        return held

    def take(self, c: Conversation, text: str, *, run: bool) -> None:
        """Deliver a message to the agent. While it waits for approval, a message with `run` counts as approval."""
        if c.api == "v0":
            self._take_v0(c, text)
            return
        lag_s = self.status_lag_s if run and c.state == "finished" else 0.0
        if c.state == "finished" and not lag_s:
            self._become(c, "idle")
        message = self._add(c, events_v1.message(text, source="user"))
        self._add(c, events_v1.state("last_user_message_id", message["id"]))
        c.messages.append(text)
        if run:
            for action in self._taken(c):
                self._observe(c, action)
            self._set_to_work(c, text, lag_s=lag_s)

    def _take_v0(self, c: Conversation, text: str) -> None:
        self._add(c, events_v0.message(text, source="user"))
        if c.sandbox_status != "RUNNING":
            return  # accepted by a runtime that is not up yet, and never answered
        c.messages.append(text)
        if not c.pending:
            self._set_to_work(c, text)

    @staticmethod
    def _taken(c: Conversation) -> list[Event]:
        """Return what waited for approval, and clear it."""
        pending, c.pending = c.pending, []
        return pending

    def _carry_out(self, c: Conversation) -> None:
        """Carry out everything that waits, as approved, and let the agent continue."""
        pending = self._taken(c)
        for action in pending:
            self._observe(c, action)
        if pending:
            self._set_to_work(c, "")

    def _set_to_work(self, c: Conversation, text: str, *, lag_s: float = 0.0) -> None:
        """text: what the agent has to read; empty if it only continues."""
        if not c.working or c.state == "paused":
            c.working = True
            if lag_s:
                self.timers.after(lag_s, partial(self._show_work, c))
            else:
                self._show_work(c)
        if self.agent is not None:
            c.unread.append(text)
            if c.runner is None:
                c.runner = asyncio.create_task(self._run(c, self.agent))
                self._runners.add(c.runner)
                c.runner.add_done_callback(partial(self._ran, c))

    def _show_work(self, c: Conversation) -> None:
        """Show the agent as running, unless its turn is already over."""
        if c.working and c.state != "running":
            self._become(c, "running")

    async def _run(self, c: Conversation, agent: Agent) -> None:
        while c.unread and not c.pending:
            text = c.unread.pop(0)
            if not c.working:
                c.working = True
                self._become(c, "running")
            await agent(c, text)

    def _ran(self, c: Conversation, task: asyncio.Task[None]) -> None:
        if c.runner is task:
            c.runner = None
        self._runners.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.violations.append(f"the agent of {c.id} broke: {error!r}")

    def _cancel_runner(self, c: Conversation) -> None:
        if c.runner is not None and c.runner is not asyncio.current_task():
            c.runner.cancel()
        c.runner = None
