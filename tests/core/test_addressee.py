"""For whom a reply is, where it could be for several."""

from typing import Any

import pytest

from bot.core.addressee import (
    RULES,
    Addressee,
    Reply,
    addressee,
    counts_unmentioned,
    is_urgent,
    may_answer_agent,
    meant,
)
from bot.core.commands import parse
from bot.core.model import (
    ChannelId,
    Incoming,
    IncomingKind,
    MessageTs,
    Reason,
    RunId,
    RunState,
    TeamId,
    UserId,
    Waiting,
)
from tests.core.runs import ALICE, BOB, a_run

ASKS = {"state": RunState.WAITING, "waiting": Waiting.QUESTION}


@pytest.mark.parametrize(
    ("given", "by", "text", "counts"),
    [
        ({"state": RunState.NEEDS_REPOSITORY}, ALICE, "org/repo", True),
        ({"state": RunState.NEEDS_REPOSITORY}, BOB, "org/repo", False),
        ({"state": RunState.NEEDS_GO}, ALICE, "yes, please", True),
        (ASKS, ALICE, "the MIT one", True),
        (ASKS, BOB, "the MIT one", False),
        ({"state": RunState.WAITING, "waiting": Waiting.ANSWER}, ALICE, "nice", False),
        ({"state": RunState.WORKING}, ALICE, "nice", False),
        ({"state": RunState.WORKING}, ALICE, "Stop!", True),
        ({"state": RunState.WORKING}, ALICE, "cancel", True),
        ({"state": RunState.WORKING}, BOB, "stop", False),
        ({"state": RunState.WORKING}, ALICE, "retry", False),
        ({"state": RunState.DONE}, ALICE, "stop", False),
        ({"state": RunState.PAUSED}, ALICE, "resume", True),
        ({"state": RunState.FAILED, "reason": Reason.STUCK}, ALICE, "again", True),
        ({"state": RunState.WORKING, "doubtful_follow_up": "f1"}, BOB, "again", True),
        ({"state": RunState.WORKING, "doubtful_follow_up": "f1"}, BOB, "leave it", True),
        ({"state": RunState.WORKING, "doubtful_follow_up": "f1"}, BOB, "who knows?", False),
    ],
)
def test_in_a_thread_of_people_only_an_answer_needs_no_mention(
    given: dict[str, Any],
    by: UserId,
    text: str,
    counts: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """The requester answers a question or says a word that fits; a doubtful message may be anybody's."""
    assert counts_unmentioned(a_run(**given), by, text) is counts


REPOSITORY = {"state": RunState.NEEDS_REPOSITORY, "candidates": ("org/repo",)}
WORKS = {"state": RunState.WORKING}


@pytest.mark.parametrize(
    ("first", "newest", "text", "may_be"),
    [
        (ASKS, WORKS, "yes, delete it", [1]),
        (ASKS, WORKS, "list", [1]),
        (ASKS, WORKS, "stop", [2]),
        (ASKS, WORKS, "aside: no idea", [2]),
        (WORKS, ASKS, "yes, delete it", [2]),
        (WORKS, WORKS, "and the docs", [2]),
        (ASKS, ASKS, "yes, delete it", [1, 2]),
        (ASKS, ASKS, "stop", [2]),
        (REPOSITORY, WORKS, "org/other", [1]),
        (REPOSITORY, WORKS, "yes", [1]),
        (REPOSITORY, WORKS, "and the docs", [2]),
        (REPOSITORY, ASKS, "and the docs", [2]),
        (REPOSITORY, ASKS, "yes", [1, 2]),
        ({"state": RunState.WAITING, "waiting": Waiting.ANSWER}, WORKS, "thank you, now the docs", [2]),
        ({**ASKS, "mentions_only": True}, {**WORKS, "mentions_only": True}, "yes", [1]),
        ({**ASKS, "mentions_only": True, "requester": BOB}, {**ASKS, "mentions_only": True}, "yes", [2]),
    ],
)
def test_with_two_runs_in_a_thread_an_answer_is_for_the_one_that_asked(
    first: dict[str, Any], newest: dict[str, Any], text: str, may_be: list[int]
) -> None:
    """All else is for the newest; where both may be answered, that has to be asked."""
    there = {1: a_run(id=RunId("1"), **first), 2: a_run(id=RunId("2"), **newest)}
    asking = [one for one in there.values() if one.state is not RunState.WORKING]
    assert meant(there[2], asking, text, ALICE, mentions_us=False) == [there[number] for number in may_be]


@pytest.mark.parametrize(
    ("given", "text", "may"),
    [
        (ASKS, "list", True),
        (ASKS, "Status", True),
        (ASKS, "help", True),
        (ASKS, "lst", True),
        (ASKS, "stop", False),
        (ASKS, "a list", False),
        (ASKS, "", False),
        ({"state": RunState.WAITING, "waiting": Waiting.ANSWER}, "list", False),
        ({"state": RunState.WORKING}, "list", False),
    ],
)
def test_a_word_may_be_the_answer_to_the_agents_question(given: dict[str, Any], text: str, may: bool) -> None:  # noqa: FBT001 - a column of the table
    """“A list or a map?”"""
    assert may_answer_agent(a_run(**given), parse(text)) is may


@pytest.mark.parametrize(
    ("kind", "thread", "mentions_us", "text", "urgent"),
    [
        (IncomingKind.CLICK, "1.0", False, "", True),
        (IncomingKind.COMMAND, None, False, "fix README", True),
        (IncomingKind.MESSAGE, "1.0", False, "stop", True),
        (IncomingKind.MESSAGE, "1.0", True, "<@UBOT> cancel", True),
        (IncomingKind.MESSAGE, "1.0", False, "<@UBOB> stop", False),
        (IncomingKind.MESSAGE, "1.0", False, "stop the flaky test", False),
        (IncomingKind.MESSAGE, None, False, "stop", False),
    ],
)
def test_clicks_and_stop_are_urgent(
    kind: IncomingKind,
    thread: str | None,
    mentions_us: bool,  # noqa: FBT001 - a column of the table
    text: str,
    urgent: bool,  # noqa: FBT001 - as above
) -> None:
    """They wait for no reply that is read back. At the top level there is nothing to wait for."""
    asked = Incoming(
        key="k",
        kind=kind,
        team=TeamId("T1"),
        channel=ChannelId("C1"),
        user=ALICE,
        text=text,
        thread_ts=MessageTs(thread) if thread else None,
        mentions_us=mentions_us,
    )
    assert is_urgent(asked) is urgent


DONE: dict[str, Any] = {"state": RunState.DONE}
ANSWERED: dict[str, Any] = {"state": RunState.WAITING, "waiting": Waiting.ANSWER}
WORKING: dict[str, Any] = {"state": RunState.WORKING}
WHICH: dict[str, Any] = {"state": RunState.NEEDS_REPOSITORY, "candidates": ("org/repo",)}
PEOPLE, BOT, AGENT = Addressee.PEOPLE, Addressee.BOT, Addressee.AGENT


@pytest.mark.parametrize(
    ("given", "text", "to"),
    [
        # among people
        (WORKING, "aside: lunch?", PEOPLE),
        (WORKING, "<@UBOB> can you review that?", PEOPLE),
        (DONE, "thanks <@UBOB>, can you merge it?", PEOPLE),
        (ASKS, "what do you think, <@UBOB>?", PEOPLE),
        (WORKING, "@here lunch", PEOPLE),
        (DONE, "thanks!", PEOPLE),
        (DONE, "Thank you so much :tada:", PEOPLE),
        (DONE, "thanks for the quick fix 🙏", PEOPLE),
        (DONE, "Nice, thanks for that!", PEOPLE),
        (DONE, "lol", PEOPLE),
        (DONE, "hahaha", PEOPLE),
        (DONE, "well done", PEOPLE),
        (DONE, "👍", PEOPLE),
        (DONE, ":+1::skin-tone-2:", PEOPLE),
        (DONE, "❤️ 🎉", PEOPLE),
        (ANSWERED, "great, that works", PEOPLE),
        ({"state": RunState.FAILED, "reason": Reason.STUCK}, "lol", PEOPLE),
        ({"state": RunState.CANCELLED}, "thanks", PEOPLE),
        (WHICH, "thanks", PEOPLE),
        # for the bot
        (WORKING, "please stop", BOT),
        (WORKING, "stop 🛑", BOT),
        (WORKING, "stop it", BOT),
        (DONE, "status please", BOT),
        (DONE, "help me", BOT),
        (DONE, "hi", BOT),
        (WORKING, "statsu", BOT),
        (WORKING, "", BOT),
        ({"state": RunState.WAITING, "waiting": Waiting.APPROVAL, "action": "e1"}, "approve", BOT),
        ({"state": RunState.FAILED, "reason": Reason.START_FAILED}, "leave it", BOT),
        (WHICH, "👍", BOT),
        (WHICH, "use org/repo", BOT),
        (WHICH, "the usual", BOT),
        # for the agent
        (WORKING, "thanks!", AGENT),
        (WORKING, "👍", AGENT),
        (ASKS, "👍", AGENT),
        (ASKS, "great", AGENT),
        (ASKS, "list", AGENT),
        (DONE, "great, now fix the tests too", AGENT),
        (DONE, "nice" + " nice" * 40, AGENT),
        (DONE, "is it done?", AGENT),
        (DONE, "ok", AGENT),
        (DONE, "1", AGENT),
        (DONE, "mail me@here.example", AGENT),
        (DONE, "> <@UBOB> said so\nplease look", AGENT),
        (DONE, "rename `<@UBOB>` to `x`", AGENT),
        (WORKING, "retry", AGENT),
        (WORKING, "approve", AGENT),
        (WORKING, "--repo", AGENT),
        (DONE, "!!!", AGENT),
    ],
)
def test_for_whom_a_reply_is(given: dict[str, Any], text: str, to: Addressee) -> None:
    """Where it is unclear, the agent gets it."""
    assert addressee(Reply(run=a_run(**given), text=text, mentions_us=False)) is to


@pytest.mark.parametrize(
    ("given", "text", "to"),
    [
        (DONE, "thanks!", AGENT),
        (DONE, "ask <@UBOB> about it", AGENT),
        (ASKS, "list", BOT),
        (WORKING, "stop it", BOT),
        (DONE, "aside: lunch?", PEOPLE),
    ],
)
def test_a_mention_means_that_it_is_not_for_people_alone(given: dict[str, Any], text: str, to: Addressee) -> None:
    """Whoever mentions the bot means it or its agent."""
    assert addressee(Reply(run=a_run(**given), text=text, mentions_us=True)) is to


@pytest.mark.parametrize(
    ("given", "text", "to"),
    [
        (DONE, "thanks!", AGENT),
        (WORKING, "", AGENT),
        (DONE, "status", AGENT),
        (WORKING, "stop", BOT),
        (DONE, "aside: lunch?", PEOPLE),
        (WHICH, "", BOT),
    ],
)
def test_a_reply_with_files_is_more_than_its_words(given: dict[str, Any], text: str, to: Addressee) -> None:
    """Only the agent has any use for what is attached; to stop is urgent all the same."""
    assert addressee(Reply(run=a_run(**given), text=text, mentions_us=False, files=True)) is to


def test_some_rule_holds_for_every_reply() -> None:
    """The last one is for whatever is left."""
    assert RULES[-1].holds(Reply(run=a_run(), text="", mentions_us=False))
