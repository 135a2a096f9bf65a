"""Conversations on an Agent Server: how they start, what the limit refuses, and what a killed server leaves."""

from datetime import timedelta
from functools import partial
from typing import Literal
from uuid import UUID

from bot.simulator.openhands import events_v1
from bot.simulator.openhands.control import Controls
from bot.simulator.openhands.machine import Machine
from bot.simulator.openhands.state import Conversation

COMMAND_ENDS_S = 86_400.0  # a message waits for the running command, however long that takes
TITLE_S = 1.5
RESTARTED = (
    "A restart occurred while this tool was in progress. This may indicate a fatal memory error or system crash. "
    "The tool execution was interrupted and did not complete."
)

Outcome = Literal["done", "busy", "full"]


class Hosted(Controls):
    """The effects of an Agent Server's calls, without the wire."""

    limit: int | None
    machine: Machine

    def hosted(self) -> list[Conversation]:
        """Return the conversations that are not deleted, newest first."""
        every = [c for c in reversed(self.conversations.values()) if c.api == "agent" and not c.deleted]
        return sorted(every, key=lambda c: c.created_at, reverse=True)

    @property
    def full(self) -> bool:
        """Whether one more run would be refused. One that waits or is paused takes no room; 1.49 refuses nothing."""
        if self.limit is None or self.machine.old:
            return False
        return sum(c.working for c in self.hosted()) >= self.limit

    def make_hosted(self, identifier: UUID, folder: str) -> Conversation:
        """Make a conversation without a message."""
        now = self.timers.now()
        key = str(identifier)
        repository, branch = self.machine.clones.get(folder, (None, None))
        c = Conversation(
            key,
            "agent",
            created_at=now,
            updated_at=now,
            title="",
            repository=repository,
            branch=branch,
            folder=folder,
            sandbox_status="RUNNING",
            state="idle",
        )
        self.conversations.pop(key, None)
        self.conversations[key] = c
        return c

    def save_hosted(self, c: Conversation, text: str) -> None:
        """Save a message; nobody reads it yet."""
        if not c.messages:
            self._add(c, events_v1.system_prompt())
        self.take(c, text, run=False)
        self.timers.after(TITLE_S, partial(_entitle, c, text))

    def run_hosted(self, c: Conversation) -> Outcome:
        """Continue, unless it has ended. While it waits for approval, this approves."""
        if c.working:
            return "busy"
        if self.full:
            return "full"
        if c.pending:
            self._carry_out(c)
        elif c.state not in {"finished", "stuck"}:
            self._set_to_work(c, c.messages[-1] if c.messages and self.unread_by_agent(c) else "")
        return "done"

    @staticmethod
    def unread_by_agent(c: Conversation) -> bool:
        """Return whether its newest message was never worked on."""
        return last_message(c) is not None and last_message(c) == leaf(c)

    async def send_hosted(self, c: Conversation, text: str, *, run: bool) -> Literal["done", "saved", "lost"]:
        """Deliver a message, after the running command if there is one. "saved": there is no room to run it."""
        full = run and not c.working and self.full
        if not c.messages:
            self._add(c, events_v1.system_prompt())
        held = self._take_or_hold(c, text, run=run and not full)
        if held is not None:
            await self.timers.wait(COMMAND_ENDS_S, held.taken)
            if held.taken.cancelled():
                return "lost"
        return "saved" if full else "done"

    def respond_hosted(self, c: Conversation, *, accept: bool, reason: str) -> Outcome:
        if accept and c.pending and self.full:
            return "full"
        again = c.pending if c.forgot and accept else []
        self.respond(c, accept=accept, reason=reason)
        c.forgot = False
        if again:
            commands = [action["action"]["command"] for action in again]
            self.want_approval(c, *commands, summary=again[0]["summary"], risk=again[0]["security_risk"])
        return "done"

    async def pause_hosted(self, c: Conversation) -> None:
        """Pause after the running command. During a model call it has no effect."""
        if c.tool is not None:
            await self.pause(c)

    def stall(self) -> None:
        """Hold up every answer for a while, as the drawing of a traceback does."""
        self.machine.stalled_until = self.timers.now() + timedelta(seconds=self.machine.stall_s)

    def kill_server(self) -> None:
        """Kill the server, and start it again: what worked ends as an error, and nothing goes on by itself."""
        for c in self.hosted():
            self._cancel_runner(c)
            c.unread.clear()
            for held in c.held:
                held.taken.cancel()
            c.held.clear()
            c.forgot = bool(c.pending)
            if c.working:
                c.working = False
                tool, c.tool = c.tool, None
                self._become(c, "error")
                if tool is not None:
                    self._add(c, events_v1.cut_off(tool.action, RESTARTED))

    def end_server(self) -> None:
        """End the server in good order, and start it again: what worked is paused."""
        for c in self.hosted():
            c.forgot = bool(c.pending)
            if c.working:
                self._end_tool(c)
                self._cancel_runner(c)
                c.unread.clear()
                c.working = False
                self._paused(c, "PauseEvent")


def last_message(c: Conversation) -> str | None:
    """Return the id of the newest message of a person."""
    mine = (one["id"] for one in reversed(c.events) if one["kind"] == "MessageEvent" and one["source"] == "user")
    return next(mine, None)


def leaf(c: Conversation) -> str | None:
    """Return the id of the newest event of the talk itself; changes of state do not count."""
    outside = {"ConversationStateUpdateEvent", "SystemPromptEvent"}
    return next((one["id"] for one in reversed(c.events) if one["kind"] not in outside), None)


def _entitle(c: Conversation, text: str) -> None:
    """Set a title in place of the model's, unless there is one."""
    c.title = c.title or text.strip().partition("\n")[0][:50]
