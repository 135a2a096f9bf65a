"""What callers make agents do: messages, stop, resume and approval."""

from typing import Literal

from bot.simulator.openhands import events_v0, events_v1
from bot.simulator.openhands.fates import Fates
from bot.simulator.openhands.state import Conversation, Tool

SEND_GIVES_UP_S = 30.0  # the app server's own time-out for an agent server
Outcome = Literal["done", "busy"]


class Controls(Fates):
    """The effects of the calls, without the wire."""

    async def send(self, c: Conversation, text: str, *, run: bool) -> bool:
        """Return whether the agent took the message before the server gave up. If not, it still takes it later."""
        held = self._take_or_hold(c, text, run=run)
        return held is None or await self.timers.wait(SEND_GIVES_UP_S, held.taken)

    def interrupt(self, c: Conversation) -> None:
        """Interrupt the agent at once; no effect unless it works. Messages held by the command are delivered next."""
        c.interrupts += 1
        if c.working and not c.frozen:
            self._cut_off(c)
            self._paused(c, "InterruptEvent")
            self._release(c)

    async def pause(self, c: Conversation) -> None:
        """Pause after the running command. A model call does not delay the pause; its answer still counts."""
        if not c.working or c.state == "paused":
            return
        if c.tool is not None and not await self._still_works_after(c, c.tool):
            return
        self._paused(c, "PauseEvent")

    async def _still_works_after(self, c: Conversation, tool: Tool) -> bool:
        """Wait for the command, then cut the agent off. Return False if its turn is over by then."""
        await self.timers.wait((tool.ends - self.timers.now()).total_seconds())
        if c.working:
            self._cut_off(c)
            return True
        return False

    def run(self, c: Conversation) -> Outcome:
        """Continue after a pause, a rejection or an error. No effect on a finished or stuck agent."""
        if c.pending or (c.working and c.state != "paused"):
            return "busy"
        if c.state not in {"finished", "stuck"}:
            self._set_to_work(c, "")
        return "done"

    def respond(self, c: Conversation, *, accept: bool, reason: str) -> None:
        """Carry out or reject everything that waits. No effect if nothing waits or an approval comes too early."""
        if not accept:
            rejected = self._taken(c)
            for action in rejected:
                self._add(c, events_v1.rejection(action, reason))
            if rejected:
                self._become(c, "idle")
            return
        if c.pending_since is not None:
            waited_s = (self.timers.now() - c.pending_since).total_seconds()
            if waited_s < self.approval_deaf_s:
                return
        self._carry_out(c)

    def _respond_v0(self, c: Conversation, word: str) -> None:
        """Add the action again, as decided. Its result names the new event, and the old one stays unanswered."""
        confirmed = word == "user_confirmed"
        [asked] = self._taken(c)
        told = events_v0.command(asked["args"]["command"], confirmation="confirmed" if confirmed else "rejected")
        action = self._add(c, told)
        self._become(c, word)
        if confirmed:
            self._observe(c, action)
            self._set_to_work(c, "")
        else:
            self._add(c, events_v0.rejection(action))
            self._become(c, "awaiting_user_input")

    def change_state_v0(self, c: Conversation, word: str) -> None:
        """Pause, continue, approve or reject. Other states are recorded as an event without effect."""
        self._add(c, events_v0.asked_for_state(word, source="user"))
        match word:
            case "paused" if c.working:
                self._pause_v0(c)
            case "running" if c.state == "paused":
                self._set_to_work(c, "")
            case "user_confirmed" | "user_rejected" if c.pending:
                self._respond_v0(c, word)

    async def stop_v0(self, c: Conversation) -> None:
        """Stop the runtime, after waiting for a running command for at most half a minute."""
        c.interrupts += 1
        if c.tool is not None:
            left_s = (c.tool.ends - self.timers.now()).total_seconds()
            await self.timers.wait(min(left_s, SEND_GIVES_UP_S))
        self._stop_runtime(c)

    def wake(self, c: Conversation) -> None:
        """Wake its sandbox. A frozen agent continues by itself, unless the agent server restarts."""
        self._new_address(c)
        for one in self._neighbours(c):
            one.wakes, one.session_api_key = c.wakes, c.session_api_key
            one.sandbox_status = "RUNNING"
            if self.restarts_on_resume:
                self.restart_agent_server(one)
            if one.tool is not None and one.tool.ends <= self.timers.now():
                self._end_tool(one)
            if one.working and self.agent is not None:
                self._set_to_work(one, "")
