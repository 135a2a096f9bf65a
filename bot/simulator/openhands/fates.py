"""What happens to a conversation from outside: people, the server, accidents."""

from datetime import timedelta
from uuid import uuid4

from bot.simulator.openhands import events_v1
from bot.simulator.openhands.agent import Agents
from bot.simulator.openhands.state import Conversation, dashed, is_id


class Fates(Agents):
    """Changes that neither the agent nor a caller of the API makes."""

    def someone_pauses(self, c: Conversation) -> None:
        """Have a person press pause in OpenHands' own page."""
        self._at_work(c)
        if c.api == "v0":
            self._pause_v0(c)
            return
        self._cut_off(c)
        self._paused(c, "PauseEvent")

    def fall_asleep(self, c: Conversation) -> None:
        """Pause its sandbox, as the server or a person does. V0 stops the runtime and thereby the work."""
        if c.api == "v0":
            self._stop_runtime(c)
            return
        for one in self._neighbours(c):
            self._cancel_runner(one)
            one.sandbox_status = "PAUSED"

    def restart_agent_server(self, c: Conversation) -> None:
        """Restart its agent server. A run that this interrupts ends as an error, and no event says why."""
        self._cancel_runner(c)
        c.unread.clear()
        c.held.clear()
        if not c.working:
            return
        c.working = False
        if c.tool is not None:
            tool, c.tool = c.tool, None
            self._add(c, events_v1.cut_off(tool.action, "A restart occurred while this tool was in progress."))
        self._become(c, "error")

    def vanish(self, c: Conversation) -> None:
        """Delete it behind the caller's back, with its start tasks. Its stored events remain."""
        self._cancel_runner(c)
        c.deleted = True
        c.working = False
        for task in c.start_tasks:
            task.deleted = True

    def lose_sandbox(self, c: Conversation) -> None:
        """Destroy its sandbox; on V0, archive the runtime."""
        for one in self._neighbours(c):
            self._cancel_runner(one)
            one.working = False
            one.sandbox_status = "MISSING" if c.api == "v1" else "ARCHIVED"

    def delete_sandbox(self, c: Conversation) -> None:
        """Delete its sandbox; the conversation and its events remain."""
        self.lose_sandbox(c)
        for one in self._neighbours(c):
            one.sandbox_exists = False

    def wreck(self, c: Conversation) -> None:
        """Replace its agent server with an empty one, for good. On V0, set the runtime to ERROR."""
        self._cancel_runner(c)
        c.working = False
        if c.api == "v0":
            c.sandbox_status = "ERROR"
            return
        c.destroyed = True
        self._new_address(c)

    def set_status(
        self, c: Conversation, *, sandbox_status: str | None = None, execution_status: str | None = None
    ) -> None:
        """Show these statuses, whatever they mean. On V0: the runtime's status and the agent's state."""
        if sandbox_status is not None:
            c.sandbox_status = sandbox_status
        if execution_status is not None:
            self._become(c, execution_status)

    def figures_go_back(self, c: Conversation) -> None:
        """Overwrite the record with an older one: cost, tokens and `updated_at` go back.

        The agent's next event corrects them.
        """
        c.older_figures = (0.0, max(0, c.tokens - 1000), c.updated_at - timedelta(milliseconds=180))

    # Internals

    def _neighbours(self, c: Conversation) -> list[Conversation]:
        """Return the conversations in its sandbox, itself included: what happens to a sandbox happens to all."""
        if c.shares is None:
            return [c]
        return [one for one in self.conversations.values() if one.shares == c.shares and not one.deleted]

    def residents(self, sandbox: str) -> list[Conversation]:
        """Return the conversations in a sandbox: a conversation's own one, which has its id, or a shared one."""
        own = self.conversations.get(dashed(sandbox)) if is_id(sandbox) else None
        if own is not None and own.shares is None:
            return [own]
        return [one for one in self.conversations.values() if one.shares == sandbox]

    def _pause_v0(self, c: Conversation) -> None:
        """Pause the agent, but not the command it waits for, which runs to its end."""
        self._cancel_runner(c)
        c.unread.clear()
        c.working = False
        self._become(c, "paused")

    def _stop_runtime(self, c: Conversation) -> None:
        """Stop a V0 runtime, and thereby the work."""
        self._cut_off(c)
        c.pending.clear()
        if c.sandbox_status != "STOPPED":
            self._become(c, "stopped")
        c.sandbox_status = "STOPPED"

    def _new_address(self, c: Conversation) -> None:
        c.wakes += 1
        c.session_api_key = f"session-{uuid4().hex}"
