"""Envelopes are answered side by side, and in order where order matters."""

import asyncio
from typing import Any

from slack_sdk.socket_mode.request import SocketModeRequest
from structlog.testing import capture_logs

from bot.slack.socket import Envelopes

SOON_S = 5.0


class Desk:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.envelopes = Envelopes(self.answer)

    async def answer(self, request: SocketModeRequest) -> None:
        self.begun.append(request.envelope_id)
        await self.gates[request.envelope_id].wait()
        if request.envelope_id == "broken":
            raise ConnectionError

    async def takes(self, name: str, **payload: Any) -> None:
        self.gates[name] = asyncio.Event()
        await self.envelopes.take(None, SocketModeRequest(type="any", envelope_id=name, payload=payload))
        await turn()

    async def lets(self, name: str) -> None:
        self.gates[name].set()
        await turn()


async def turn() -> None:
    """Let every task do what it can do now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_does_not_wait_for_another() -> None:
    """A command behind one whose commit takes long is taken at once."""
    desk = Desk()
    await desk.takes("slow", command="/openhands", channel_id="C1")
    await desk.takes("quick", command="/openhands", channel_id="C1")
    begun = [*desk.begun]
    await desk.lets("slow")
    await desk.lets("quick")
    await desk.envelopes.end(SOON_S)
    assert begun == ["slow", "quick"]


async def test_events_of_one_channel_keep_their_order() -> None:
    """What people write one after the other is taken in that order; other channels do not wait for it."""
    desk = Desk()
    await desk.takes("first", event={"channel": "C1"})
    await desk.takes("second", event={"channel": "C1"})
    await desk.takes("elsewhere", event={"channel": "C2"})
    before = [*desk.begun]
    await desk.lets("first")
    after = [*desk.begun]
    await desk.lets("second")
    await desk.lets("elsewhere")
    await desk.envelopes.end(SOON_S)
    assert (before, after) == (["first", "elsewhere"], ["first", "elsewhere", "second"])


async def test_an_answer_that_cannot_be_sent_is_noted_and_holds_up_nobody() -> None:
    """The connection broke before the answer: Slack sends the envelope again, and the next one is taken."""
    desk = Desk()
    with capture_logs() as logs:
        await desk.takes("broken", event={"channel": "C1"})
        await desk.takes("next", event={"channel": "C1"})
        await desk.lets("broken")
        await desk.lets("next")
        await desk.envelopes.end(SOON_S)
    assert (desk.begun, logs) == (
        ["broken", "next"],
        [{"event": "slack.not_answered", "error": "ConnectionError", "log_level": "warning"}],
    )


async def test_the_end_waits_for_what_is_under_way() -> None:
    """Stopping lets an answer go out, and cuts off one that takes too long."""
    desk = Desk()
    await desk.takes("ready")
    await desk.takes("late")
    ending = asyncio.create_task(desk.envelopes.end(0.05))
    await turn()
    waits = not ending.done()
    await desk.lets("ready")
    async with asyncio.timeout(SOON_S):
        await ending
    assert (waits, desk.envelopes._under_way) == (True, set())
