"""What callers make agents do: messages, stop, resume, approval."""

from typing import Literal

from bot.simulator.openhands import events_v0, events_v1
from bot.simulator.openhands.agent import Agents
from bot.simulator.openhands.state import Conversation, Tool

SEND_GIVES_UP_S = 30.0  # the app server's own patience with an agent server
Outcome = Literal["done", "busy"]


class Controls(Agents):
    """The effects of the calls, without the wire."""

    async def send(self, c: Conversation, text: str, *, run: bool) -> bool:
        """Whether the agent took the message before the server gave up. If not, it takes it later all the same."""
        held = self._take_or_hold(c, text, run=run)
        return held is None or await self.timers.wait(SEND_GIVES_UP_S, held.taken)

    def interrupt(self, c: Conversation) -> None:
        """Cut off what it does, at once. Without effect unless it works; what waited for the command comes next."""
        c.interrupts += 1
        if c.working:
            self._cut_off(c)
            self._paused(c, "InterruptEvent")
            self._release(c)

    async def pause(self, c: Conversation) -> None:
        """Wait for a command, then pause. The model is not waited for: paused at once, its answer still counts."""
        if not c.working or c.state == "paused":
            return
        if c.tool is not None and not await self._still_works_after(c, c.tool):
            return
        self._paused(c, "PauseEvent")

    async def _still_works_after(self, c: Conversation, tool: Tool) -> bool:
        """Wait for the command, and hold the agent there unless its turn is over by then."""
        await self.timers.wait((tool.ends - self.timers.now()).total_seconds())
        if c.working:
            self._cut_off(c)
            return True
        return False

    def run(self, c: Conversation) -> Outcome:
        """Go on after a pause, a rejection or an error."""
        if c.pending or (c.working and c.state != "paused"):
            return "busy"
        if c.state != "finished":
            self._set_to_work(c, "")
        return "done"

    def respond(self, c: Conversation, *, accept: bool, reason: str) -> None:
        """Carry out, or reject, all that waits. With nothing waiting, or asked too early to approve, nothing."""
        if not accept:
            for action in self._taken(c):
                self._add(c, events_v1.rejection(action, reason))
                self._become(c, "idle")
            return
        if c.pending_since is not None:
            waited_s = (self.timers.now() - c.pending_since).total_seconds()
            if waited_s < self.approval_deaf_s:
                return
        self._carry_out(c)

    def _respond_v0(self, c: Conversation, word: str) -> None:
        self._become(c, word)
        if word == "user_confirmed":
            self._carry_out(c)
            return
        for action in self._taken(c):
            command = action["args"]["command"]
            rejected = self._add(c, events_v0.command(command, confirmation="rejected"))
            self._add(c, events_v0.rejection(rejected))
        self._become(c, "awaiting_user_input")

    def change_state_v0(self, c: Conversation, word: str) -> None:
        """Pause, go on, approve or reject; other states are noted and change nothing."""
        self._add(c, events_v0.asked_for_state(word, source="user"))
        match word:
            case "paused" if c.working:
                self._cut_off(c)
                self._become(c, "paused")
            case "running" if c.state == "paused":
                self._set_to_work(c, "")
            case "user_confirmed" | "user_rejected" if c.pending:
                self._respond_v0(c, word)

    async def stop_v0(self, c: Conversation) -> None:
        """Stop the runtime. A running command is waited for, half a minute at most."""
        c.interrupts += 1
        if c.tool is not None:
            left_s = (c.tool.ends - self.timers.now()).total_seconds()
            await self.timers.wait(min(left_s, SEND_GIVES_UP_S))
        self._stop_runtime(c)

    def wake(self, c: Conversation) -> None:
        """Bring its sandbox back: a frozen agent goes on by itself."""
        self._new_address(c)
        c.sandbox_status = "RUNNING"
        if c.tool is not None and c.tool.ends <= self.timers.now():
            self._end_tool(c)
        if c.working and self.agent is not None:
            self._set_to_work(c, "")
