"""What people see of a run: every state as a whole, and hostile words. Sizes are in `test_every_message`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion

from bot.core import cards, lifecycle
from bot.core.model import Action, Origin, Reason, Run, RunId, RunState, Waiting
from tests.core.runs import ALICE, BOB, NOW, a_run
from tests.reading import read, said

PAGE = "https://openhands.example/conversations/c"
THREAD = "https://team.slack.com/archives/C1/p1"
HOSTILE = "<!channel> @here <@UBOB> & `x` *b* <https://evil.example|good.example>"
IN_REPOSITORY: dict[str, Any] = {"repository": "org/repo", "origin": Origin.TYPED}
ENDED: dict[str, Any] = {**IN_REPOSITORY, "ended_at": NOW, "worked_s": 600}

RUNS = {
    "asks for a repository": a_run(RunState.NEEDS_REPOSITORY),
    "asks which of two": a_run(RunState.NEEDS_REPOSITORY, candidates=("org/a", "org/b")),
    "asks whether it is one": a_run(RunState.NEEDS_REPOSITORY, candidates=("org/a",)),
    "asks about an unlisted one": a_run(
        RunState.NEEDS_REPOSITORY, repository="org/b", candidates=("org/a",), reason=Reason.UNLISTED
    ),
    "can't open it": a_run(
        RunState.NEEDS_REPOSITORY, repository="org/b", candidates=("org/a" + "a" * 80,), reason=Reason.REPOSITORY
    ),
    "still wanted?": a_run(RunState.NEEDS_GO, **IN_REPOSITORY, asked_at=NOW - timedelta(hours=2)),
    "queued": a_run(RunState.QUEUED, **IN_REPOSITORY),
    "queued, next": a_run(RunState.QUEUED, **IN_REPOSITORY, queue_position=1),
    "queued, third": a_run(RunState.QUEUED, **IN_REPOSITORY, queue_position=3),
    "starting": a_run(RunState.STARTING, **IN_REPOSITORY, branch="dev", model="claude"),
    "starting, to be stopped": a_run(RunState.STARTING, **IN_REPOSITORY, stop_by=BOB),
    "working": a_run(RunState.WORKING, **IN_REPOSITORY, progress="Reading README_old.md", cost=0.05),
    "working, default repository": a_run(RunState.WORKING, repository="org/repo", origin=Origin.DEFAULT),
    "working, linked repository": a_run(RunState.WORKING, repository="org/repo", origin=Origin.LINKED),
    "working, the thread's repository": a_run(RunState.WORKING, repository="org/repo", origin=Origin.THREAD),
    "working, chosen repository": a_run(RunState.WORKING, repository="org/repo", origin=Origin.CHOSEN),
    "working, no repository": a_run(RunState.WORKING, origin=Origin.NONE),
    "working, nothing new for long": a_run(RunState.WORKING, **IN_REPOSITORY, silence_told_at=NOW),
    "working, a message to decide about": a_run(
        RunState.WORKING, **IN_REPOSITORY, doubtful_follow_up="m1", doubtful_text="and <!channel>"
    ),
    "working, out of reach": a_run(RunState.WORKING, **IN_REPOSITORY, unreachable_since=NOW),
    "working, blind": a_run(RunState.WORKING, **IN_REPOSITORY, blind=True),
    "question": a_run(RunState.WAITING, **IN_REPOSITORY, waiting=Waiting.QUESTION, answer="Which *one*?"),
    "answer": a_run(RunState.WAITING, **IN_REPOSITORY, waiting=Waiting.ANSWER, answer="It is slow."),
    "approval": a_run(
        RunState.WAITING, **IN_REPOSITORY, waiting=Waiting.APPROVAL, detail="terminal · rm `x` · risk high"
    ),
    "approval by button": a_run(
        RunState.WAITING, **IN_REPOSITORY, waiting=Waiting.APPROVAL, detail="terminal · rm `x`", action="e1"
    ),
    "approved": a_run(
        RunState.WAITING,
        **IN_REPOSITORY,
        waiting=Waiting.APPROVAL,
        detail="terminal · rm `x`",
        action="e1",
        approved=True,
        decided_by=BOB,
    ),
    "rejected": a_run(
        RunState.WAITING,
        **IN_REPOSITORY,
        waiting=Waiting.APPROVAL,
        detail="terminal · rm `x`",
        action="e1",
        approved=False,
        decided_by=BOB,
    ),
    "approval of something": a_run(RunState.WAITING, **IN_REPOSITORY, waiting=Waiting.APPROVAL),
    "paused": a_run(RunState.PAUSED, **IN_REPOSITORY),
    "paused, to be resumed": a_run(RunState.PAUSED, **IN_REPOSITORY, resume_by=BOB),
    "paused after a rejection": a_run(
        RunState.PAUSED, **IN_REPOSITORY, reason=Reason.REJECTED, last_action=Action.REJECT, last_action_by=BOB
    ),
    "paused after a rejection elsewhere": a_run(RunState.PAUSED, **IN_REPOSITORY, reason=Reason.REJECTED),
    "failed, to be resumed": a_run(RunState.FAILED, **ENDED, reason=Reason.MODEL_KEY, resume_by=BOB),
    "stopped, to be resumed": a_run(RunState.STOPPED, **ENDED, stop_by=BOB, resume_by=BOB),
    "asleep": a_run(RunState.PAUSED, **IN_REPOSITORY, reason=Reason.ASLEEP),
    "done": a_run(
        RunState.DONE, **ENDED, answer="Fixed **two** links.", pull_requests=("https://github.com/org/repo/pull/3",)
    ),
    "working again": a_run(RunState.WORKING, **IN_REPOSITORY, turn=2, first_answer="Fixed **two** links."),
    "done again": a_run(
        RunState.DONE,
        **ENDED,
        turn=2,
        turn_by=(ALICE, BOB),
        answer="And the docs.",
        first_answer="Fixed **two** links.",
    ),
    "done, blind": a_run(RunState.DONE, **ENDED, blind=True),
    "done without words": a_run(RunState.DONE, **ENDED, reason=Reason.NO_WORDS),
    "stopped": a_run(RunState.STOPPED, **ENDED, stop_by=BOB),
    "stopped by nobody known": a_run(RunState.STOPPED, **ENDED),
    "cancelled": a_run(RunState.CANCELLED, **ENDED, stop_by=BOB),
    "cancelled by nobody known": a_run(RunState.CANCELLED, **ENDED),
    "lost": a_run(RunState.LOST, **ENDED, reason=Reason.GONE),
    "silent": a_run(RunState.LOST, **ENDED, reason=Reason.SILENT),
    "hostile": a_run(RunState.WORKING, repository="org/repo", branch=HOSTILE, task=HOSTILE, progress=HOSTILE),
    **{
        f"failed: {reason}": a_run(RunState.FAILED, **ENDED, reason=reason, detail="litellm: no")
        for reason in Reason
        if reason not in (Reason.ASLEEP, Reason.GONE, Reason.SILENT, Reason.NO_WORDS, Reason.REJECTED, Reason.UNLISTED)
    },
    "failed without a repository": a_run(RunState.FAILED, ended_at=NOW, reason=Reason.REPOSITORY),
}


TOLD = {name: run for name, run in RUNS.items() if run.state in lifecycle.TOLD}
"""The runs of which the thread hears."""


def test_cards(snapshot: SnapshotAssertion) -> None:
    """The card of each state."""
    assert page({name: cards.card(run, page_of(run)) for name, run in RUNS.items()}) == snapshot


def test_news(snapshot: SnapshotAssertion) -> None:
    """The one new message in the thread; it mentions the requester, nobody else but who stopped it."""
    assert page({name: cards.news(run, PAGE) for name, run in TOLD.items()}) == snapshot


def test_other_messages(snapshot: SnapshotAssertion) -> None:
    """What was silent for long is told with a stop and the page; the team gets a line."""
    told = {
        "stale": cards.stale(a_run(RunState.WORKING, heard_at=NOW), PAGE),
        "news of a run that never got a conversation": cards.news(RUNS["failed: at_capacity"], None),
    }
    for name in ("done", "question", "hostile"):
        told[f"notification: {name}"] = cards.notification(RUNS[name], THREAD, NOW)
        told[f"notification: {name}, no thread yet"] = cards.notification(RUNS[name], None, NOW)
    assert page(told) == snapshot


@pytest.mark.parametrize(
    ("run", "action", "carries"),
    [
        (a_run(RunState.PAUSED, turn=3), Action.RESUME, cards.Drawn(RunId("run"), 3, "")),
        (
            a_run(RunState.WAITING, waiting=Waiting.APPROVAL, action="e:1"),
            Action.REJECT,
            cards.Drawn(RunId("run"), 1, "e:1"),
        ),
        (a_run(RunState.WORKING, doubtful_follow_up="m"), Action.LEAVE, cards.Drawn(RunId("run"), 1, "m")),
    ],
)
def test_a_button_tells_how_the_run_was_when_it_was_drawn(run: Run, action: Action, carries: cards.Drawn) -> None:
    """And nothing else: no names, no authority."""
    assert cards.drawn(cards.button(run, action)["value"]) == carries


@pytest.mark.parametrize("value", ["", "run", "run:1", "run:x:", "run:-1:", "::"])
def test_another_value_is_no_button_of_ours(value: str) -> None:
    """It may come from anywhere."""
    assert cards.drawn(value) is None


def test_a_private_place_tells_the_team_only_state_requester_and_link() -> None:
    """No text of one place shows up in another."""
    run = a_run(RunState.DONE, **ENDED, private=True, answer="secret plans")
    assert cards.notification(run, THREAD, NOW).text == f"✅ Done · for <@{ALICE}> · <{THREAD}|thread>"


def test_hostile_words_are_literal_everywhere() -> None:
    """No mention, link or markup of the outside works on a card, in the news or in a notification."""
    run = a_run(RunState.DONE, **{**ENDED, "task": HOSTILE, "answer": HOSTILE, "branch": HOSTILE})
    said = [cards.card(run, PAGE), cards.news(run, PAGE), cards.notification(run, THREAD, NOW)]
    for text in (text for message in said for text in [message.text, *mrkdwn(message.blocks)]):
        assert "<!" not in text
        assert "<https://evil" not in text
        assert "<@UBOB>" not in text


@pytest.mark.parametrize("size", [8_999, 9_000, 9_001, 40_000])
def test_a_long_answer_says_where_the_rest_is(size: int) -> None:
    """In the thread it is told as a whole up to the limit."""
    message = cards.news(a_run(RunState.DONE, **ENDED, answer="a" * size), PAGE)
    assert ("The whole answer is in OpenHands" in said(message.blocks[-1:])) == (size > cards.ANSWER_MAX)


def test_pull_requests_show_where_they_lead() -> None:
    """At a git provider by their name, elsewhere with the host; a bare number is text until its address is known."""
    known = "https://github.com/org/repo/pull/7"
    listed = ("org/repo #7", "org/<b> #8", known, "https://git.corp.example/org/repo/pull/9")
    line = cards.pull_requests(a_run(RunState.DONE, pull_requests=listed))
    assert line == (
        f"Pull requests: <{known}|org/repo #7>, org/&lt;b&gt; #8, "
        "<https://git.corp.example/org/repo/pull/9|org/repo #9 (git.corp.example)>"
    )


def test_nothing_from_outside_draws_a_line_of_the_card() -> None:
    """Task, answer and progress are literal blocks: no bold state, and no file name without its underscores."""
    drawn = "fix\n*✅ Done*\n_Approved by security_"
    done = cards.card(a_run(RunState.DONE, task=drawn, answer="\\*✅ Approved\\*"), PAGE)
    working = cards.card(a_run(RunState.WORKING, task=" ", progress="Reading test_a_b.py"), PAGE)
    ours = [block["text"]["text"] for block in (*done.blocks, *working.blocks) if block["type"] == "section"]
    literal = [
        block["elements"][0]["elements"][0] for block in (*done.blocks, *working.blocks) if block["type"] == "rich_text"
    ]
    assert ours == ["*✅ Done*", "*🛠️ Working*"]
    assert [one["text"] for one in literal] == [drawn, "*✅ Approved*", "Reading test_a_b.py"]
    assert done.text.splitlines()[:2] == ["*✅ Done*", "fix *✅ Done* _Approved by security_"]


def test_what_wants_approval_says_when_it_is_not_whole() -> None:
    """Nobody approves what they can't see: the way to OpenHands is there, Approve is not."""
    run = a_run(RunState.WAITING, waiting=Waiting.APPROVAL, action=None, detail="&" * 6_000)
    for message in (cards.card(run, PAGE), cards.news(run, PAGE)):
        shown = said(message.blocks)
        assert "decide in OpenHands" in shown
        assert "This is not all of it" in shown
        assert "Approve" not in shown
        assert PAGE in str(message.blocks)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/org/repo/pull/12", "org/repo #12"),
        ("https://github.com/org/repo/pull/12/files", "org/repo #12"),
        ("https://gitlab.com/group/sub/repo/-/merge_requests/7", "group/sub/repo #7"),
        ("https://gitlab.com/group/repo/merge_requests/7", "group/repo #7"),
        ("https://bitbucket.org/org/repo/pull-requests/3", "org/repo #3"),
        ("https://codeberg.org/org/repo/pulls/4", "org/repo #4"),
        ("https://example.com/x/y", "x/y"),
    ],
)
def test_a_pull_request_is_named_by_its_number(url: str, name: str) -> None:
    """As people know it."""
    assert cards.name_of(url) == name


@pytest.mark.parametrize(
    ("text", "limit", "result"),
    [
        ("short", 5, "short"),
        ("one two three", 9, "one …"),
        ("one\ntwo three", 8, "one …"),
        ("abcdefghij", 5, "abc …"),
        ("one &amp;&amp;&amp;", 12, "one …"),
        (f"one {'&amp;' * 200}", 612, f"one {'&amp;' * 121} …"),
        ("see <https://a.example/|the label>", 30, "see …"),
        (f"see <https://a.example/|{'x' * 600}>", 600, "see …"),
    ],
)
def test_cut_ends_between_words(text: str, limit: int, result: str) -> None:
    """So that no link or escape is cut in two."""
    assert cards.cut(text, limit) == result


def test_a_long_run_says_how_long() -> None:
    """Hours and minutes, minutes and seconds, seconds."""
    took = [timedelta(hours=2, minutes=5), timedelta(minutes=3, seconds=7), timedelta(minutes=10), timedelta(seconds=9)]
    runs = [a_run(RunState.DONE, **IN_REPOSITORY, worked_s=time.total_seconds(), ended_at=NOW) for time in took]
    texts = [cards.card(run, None).text for run in runs]
    assert [text.rsplit("· ", 1)[1] for text in texts] == [
        "took 2 h 5 min",
        "took 3 min 7 s",
        "took 10 min",
        "took 9 s",
    ]


def mrkdwn(blocks: list[dict[str, Any]]) -> list[str]:
    """Return every text that Slack reads as mrkdwn."""
    texts = [block["text"] for block in blocks if block["type"] == "section"]
    texts += [element for block in blocks if block["type"] == "context" for element in block["elements"]]
    return [text["text"] for text in texts]


def page_of(run: Run) -> str | None:
    return PAGE if run.state is not RunState.STARTING else None


def page(messages: Mapping[str, cards.Message]) -> str:
    """Write messages below each other, each under its name."""
    return "\n\n".join(f"{name}\n{read(message)}" for name, message in messages.items())
