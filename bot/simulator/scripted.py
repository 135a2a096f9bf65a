"""A scripted agent: it plays what agents do, in a few seconds, with sensible words."""

import asyncio
import re
from dataclasses import dataclass, field

from bot.simulator.openhands import Conversation, LocalOpenHands

STEPS = ("Read the code", "Make the change", "Open a pull request")
DEPLOYS = re.compile(r"\bdeploy", re.IGNORECASE)
DEPLOYMENT = "make deploy"
FIRST_PULL_REQUEST = 7
LOOK_S = 0.05
COST = 0.07  # USD per turn


@dataclass
class Job:
    """What one conversation is about."""

    task: str
    todo: list[str]
    added: list[str] = field(default_factory=list)
    """What was asked since the task or the last answer."""
    answered: int = 0
    asked_at: int | None = None
    """The number of events when it asked for approval; None: it did not ask."""


class Scripted:
    """The agent of every conversation. It asks for approval if the task contains "deploy".

    step_s: how long a step takes. waits_for_reply: the last step waits until somebody has replied.
    """

    def __init__(self, step_s: float, *, waits_for_reply: bool = False) -> None:
        self.step_s = step_s
        self.waits_for_reply = waits_for_reply
        self._jobs: dict[str, Job] = {}

    async def __call__(self, openhands: LocalOpenHands, c: Conversation, text: str) -> None:
        """Handle a message, or continue if `text` is empty, until there is an answer."""
        job = self._hear(c, text)
        if text.endswith("?"):
            openhands.ask(c, "I only play an agent, so I can't know. A real one looks into the code and answers here.")
            return
        while job.todo:
            step = job.todo.pop(0)
            if step == DEPLOYMENT:
                job.asked_at = len(c.events)
                openhands.want_approval(c, DEPLOYMENT, summary="Deploy to production")
                return
            openhands.progress(c, step)
            await asyncio.sleep(self.step_s)
            while self.waits_for_reply and len(job.todo) == 1 and not (job.added or c.unread):  # noqa: ASYNC110 - nothing tells when a message comes
                await asyncio.sleep(LOOK_S)
            while c.unread:
                self._hear(c, c.unread.pop(0))
        link = pull_request(openhands, c)
        openhands.finish(c, answer(job, link, rejected=was_rejected(c, job)), cost=COST * (job.answered + 1))
        job.answered += 1
        job.added.clear()
        job.asked_at = None

    def _hear(self, c: Conversation, text: str) -> Job:
        """Record what is asked. Only the first line of a message counts, since more comes with the task."""
        said = text.strip().partition("\n")[0]
        job = self._jobs.get(c.id)
        if job is None:
            steps = STEPS if c.repository else STEPS[:1]
            job = self._jobs[c.id] = Job(said, [*steps, *([DEPLOYMENT] if DEPLOYS.search(said) else [])])
        elif said:
            job.added.append(said)
            job.todo.insert(0, f"Consider: {said}")
        return job


def answer(job: Job, link: str, *, rejected: bool) -> str:
    """Return an agent's final answer, in Markdown."""
    if not job.answered:
        parts = [f"Done: {job.task}. The tests pass."]
        if job.added:
            parts.append("Also done, as you asked on the way:\n\n" + "\n".join(f"- {one}" for one in job.added))
    elif job.added:
        parts = ["Done too: " + "; ".join(job.added) + "."]
    else:
        parts = ["I went on; there was nothing left to do."]
    if job.asked_at is not None:
        parts.append("I did not deploy it, since that was rejected." if rejected else "It is deployed.")
    if link:
        parts.append(f"The pull request: {link}")
    return "\n\n".join(parts)


def pull_request(openhands: LocalOpenHands, c: Conversation) -> str:
    """Return the address of the pull request; empty if there is no repository."""
    number = FIRST_PULL_REQUEST + list(openhands.conversations).index(c.id)
    return f"https://github.com/{c.repository}/pull/{number}" if c.repository else ""


def was_rejected(c: Conversation, job: Job) -> bool:
    since = c.events[job.asked_at :] if job.asked_at is not None else []
    return any(event.get("kind") == "UserRejectObservation" for event in since)
