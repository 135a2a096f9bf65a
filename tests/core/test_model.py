"""The few things the words of the model decide."""

from dataclasses import replace
from datetime import UTC, datetime

from bot.core.model import ChannelId, Incoming, IncomingKind, MessageTs, TeamId, UserId

COMMAND = Incoming(
    key="k", kind=IncomingKind.COMMAND, team=TeamId("T1"), channel=ChannelId("C1"), user=UserId("U1"), text="x"
)


def test_slack_sends_events_again_but_no_commands() -> None:
    """So a command that can't be saved is answered in words."""
    assert not COMMAND.redelivered_by_slack
    assert replace(COMMAND, kind=IncomingKind.MESSAGE).redelivered_by_slack


def test_a_correction_is_about_an_earlier_message() -> None:
    """A deletion is one, too."""
    edit, deletion = (replace(COMMAND, kind=kind) for kind in (IncomingKind.EDIT, IncomingKind.DELETION))
    assert [(one.corrects, one.withdrawn) for one in (COMMAND, edit, deletion)] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert edit.redelivered_by_slack


def test_an_answer_goes_into_the_thread_of_the_request() -> None:
    """The one it is in, or the one it would open; a command has none."""
    message = replace(COMMAND, kind=IncomingKind.MESSAGE, ts=MessageTs("2.0"))
    assert COMMAND.thread is None
    assert message.thread == "2.0"
    assert replace(message, thread_ts=MessageTs("1.0")).thread == "1.0"


def test_the_age_of_a_request_is_that_of_its_message() -> None:
    """By Slack's clock, which may be a little ahead; a command or a click is never late."""
    now = datetime.fromtimestamp(1_000_060, UTC)
    message = replace(COMMAND, kind=IncomingKind.MESSAGE, ts=MessageTs("1000000.000000"))
    assert message.age_s(now) == 60
    assert replace(message, ts=MessageTs("1000090.000000")).age_s(now) == 0
    assert replace(message, edited_at=MessageTs("1000059.000000")).age_s(now) == 1
    assert replace(message, kind=IncomingKind.CLICK).age_s(now) == 0
    assert COMMAND.age_s(now) == 0
