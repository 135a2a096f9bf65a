"""Envelopes are answered side by side, and in order where order matters."""

import asyncio
from typing import Any

from slack_sdk.socket_mode.request import SocketModeRequest
from structlog.testing import capture_logs

from bot.slack.envelopes import Envelopes

SOON_S = 5.0


class Desk:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.envelopes: Envelopes[str] = Envelopes(self.answer)

    async def answer(self, _line: str, request: SocketModeRequest) -> None:
        self.begun.append(request.envelope_id)
        await self.gates[request.envelope_id].wait()
        if request.envelope_id == "broken":
            raise ConnectionError

    async def takes(self, name: str, *, connection: str = "connection", **payload: Any) -> None:
        self.gates[name] = asyncio.Event()
        self.envelopes.take(connection, SocketModeRequest(type="any", envelope_id=name, payload=payload))
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


async def test_the_order_holds_over_two_connections() -> None:
    """While one takes over from the other, both bring what people write in one channel."""
    desk = Desk()
    await desk.takes("first", connection="old", event={"channel": "C1"})
    await desk.takes("second", connection="new", event={"channel": "C1"})
    before = [*desk.begun]
    await desk.lets("first")
    await desk.lets("second")
    await desk.envelopes.end(SOON_S)
    assert (before, desk.begun) == (["first"], ["first", "second"])


async def test_a_connection_is_settled_when_its_own_envelopes_are() -> None:
    """Those of the other one are not waited for."""
    desk = Desk()
    await desk.takes("ours", connection="old")
    await desk.takes("theirs", connection="new")
    settling = asyncio.create_task(desk.envelopes.settled("old", SOON_S))
    await turn()
    waits = not settling.done()
    await desk.lets("ours")
    async with asyncio.timeout(SOON_S):
        await settling
    await desk.envelopes.settled("old", SOON_S)
    await desk.lets("theirs")
    await desk.envelopes.end(SOON_S)
    assert waits


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
    assert (waits, desk.envelopes._under_way) == (True, {})
