"""Ends that a message overtook: what the events say of the turns before this one."""

from bot.core.model import Failed, Finish, Overtaken, Phase, Reason, Said
from bot.openhands.events import Event, Kind, Words, words_of

TASK = Event(id="task", kind=Kind.MESSAGE, text="fix README")
STEP = Event(id="step", kind=Kind.ACTION, text="Look around")
FINISH = Event(id="finish", kind=Kind.FINISH, text="Fixed it.")
SAID = Event(id="said", kind=Kind.SAID, text="Which docs?")
ERROR = Event(id="error", kind=Kind.ERROR, text="no key", code="LLMAuthenticationError")
REPLY = Event(id="reply", kind=Kind.MESSAGE, text="and the docs")
AGAIN = Event(id="again", kind=Kind.MESSAGE, text="and the tests")
NEXT = Event(id="next", kind=Kind.ACTION, text="Go on")


def words(*events: Event, phase: Phase = Phase.WORKING, told: str | None = None, back: bool = False) -> Words:
    """Return what events, oldest first, say of a turn that began after "step"."""
    return words_of(events[::-1], phase, "step", told=told, back=back)


def test_an_end_between_our_look_and_our_message_is_found() -> None:
    assert words(TASK, STEP, FINISH, REPLY, NEXT).overtaken == (Overtaken("finish", Finish("Fixed it.")),)
    assert words(TASK, STEP, SAID, REPLY).overtaken == (Overtaken("said", Said("Which docs?")),)
    assert words(TASK, STEP, ERROR, REPLY).overtaken == (Overtaken("error", Failed(Reason.MODEL_KEY, "no key")),)


def test_every_turn_counts_and_the_oldest_is_first() -> None:
    """Two messages may have gone out before anybody looked."""
    found = words(TASK, STEP, FINISH, REPLY, SAID, AGAIN, NEXT).overtaken
    assert [one.id for one in found] == ["finish", "said"]


def test_a_message_to_an_agent_at_work_overtakes_nothing() -> None:
    assert words(TASK, STEP, NEXT, REPLY).overtaken == ()
    assert words(TASK, STEP, SAID, NEXT, REPLY).overtaken == ()
    assert words(TASK, STEP, REPLY, AGAIN).overtaken == ()


def test_an_agent_that_finishes_goes_on_with_what_came_meanwhile() -> None:
    """The message came while it worked, and is read only when that work is over."""
    assert words(TASK, STEP, REPLY, FINISH, NEXT).overtaken == (Overtaken("finish", Finish("Fixed it.")),)
    assert words(TASK, STEP, REPLY, FINISH).overtaken == ()


def test_what_was_told_and_what_was_before_our_last_message_is_no_news() -> None:
    assert words(TASK, STEP, FINISH, REPLY, NEXT, told="finish").overtaken == ()
    assert words(TASK, FINISH, STEP, REPLY, NEXT).overtaken == ()


def test_this_turns_own_end_is_not_overtaken() -> None:
    own = words(TASK, STEP, REPLY, FINISH, phase=Phase.ENDED)
    assert (own.overtaken, own.ending, own.answers) == ((), "finish", "Fixed it.")


def test_pull_requests_are_looked_for_in_all_of_it() -> None:
    assert words(TASK, STEP, FINISH, REPLY, SAID, phase=Phase.ENDED).answers == "Fixed it.\nWhich docs?"


def test_it_is_read_back_to_the_last_message_only_where_that_is_asked_for() -> None:
    """A turn whose progress is known is read no further, unless nobody looked since it began."""
    newest = (REPLY, NEXT)
    assert words(*newest).settled
    assert not words(*newest, back=True).settled
    assert words(STEP, FINISH, *newest, back=True).settled
