"""The few things the words of the model decide."""

from dataclasses import replace

from bot.model import ChannelId, Incoming, IncomingKind, MessageTs, TeamId, UserId

COMMAND = Incoming(
    key="k", kind=IncomingKind.COMMAND, team=TeamId("T1"), channel=ChannelId("C1"), user=UserId("U1"), text="x"
)


def test_slack_sends_events_again_but_no_commands() -> None:
    """So a command that can't be saved is answered in words."""
    assert not COMMAND.redelivered_by_slack
    assert replace(COMMAND, kind=IncomingKind.MESSAGE).redelivered_by_slack


def test_an_answer_goes_into_the_thread_of_the_request() -> None:
    """The one it is in, or the one it would open; a command has none."""
    message = replace(COMMAND, kind=IncomingKind.MESSAGE, ts=MessageTs("2.0"))
    assert COMMAND.thread is None
    assert message.thread == "2.0"
    assert replace(message, thread_ts=MessageTs("1.0")).thread == "1.0"
