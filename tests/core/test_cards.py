"""What people see of a run: every state as a whole, sizes at the limit, and hostile words."""

from datetime import timedelta
from typing import Any

import pytest
from slack_sdk.models.blocks import Block
from syrupy.assertion import SnapshotAssertion

from bot.core import cards
from bot.core.model import Action, Origin, Reason, Run, RunId, RunState, Waiting
from tests.core.runs import ALICE, BOB, NOW, a_run

PAGE = "https://openhands.example/conversations/c"
THREAD = "https://team.slack.com/archives/C1/p1"
HOSTILE = "<!channel> @here <@UBOB> & `x` *b* <https://evil.example|good.example>"
IN_REPOSITORY: dict[str, Any] = {"repository": "org/repo", "origin": Origin.TYPED}
ENDED: dict[str, Any] = {**IN_REPOSITORY, "ended_at": NOW}

RUNS = {
    "asks for a repository": a_run(RunState.NEEDS_REPOSITORY),
    "asks which of two": a_run(RunState.NEEDS_REPOSITORY, candidates=("org/a", "org/b")),
    "asks whether it is one": a_run(RunState.NEEDS_REPOSITORY, candidates=("org/a",)),
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
        if reason not in (Reason.ASLEEP, Reason.GONE, Reason.SILENT, Reason.NO_WORDS, Reason.REJECTED)
    },
    "failed without a repository": a_run(RunState.FAILED, ended_at=NOW, reason=Reason.REPOSITORY),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_card(run: Run, snapshot: SnapshotAssertion) -> None:
    """The card of each state, and what Slack's own block classes say of it."""
    message = cards.card(run, PAGE if run.state is not RunState.STARTING else None)
    assert message == snapshot
    acceptable(message)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, run in RUNS.items()
        if run.state
        in (RunState.WAITING, RunState.PAUSED, RunState.DONE, RunState.FAILED, RunState.STOPPED, RunState.LOST)
    ],
)
def test_news(name: str, snapshot: SnapshotAssertion) -> None:
    """The one new message in the thread; it mentions the requester, nobody else but who stopped it."""
    message = cards.news(RUNS[name], PAGE)
    assert message == snapshot
    acceptable(message)


def test_what_was_silent_for_long_is_told_with_a_stop(snapshot: SnapshotAssertion) -> None:
    """And with the page, to look there."""
    message = cards.stale(a_run(RunState.WORKING, heard_at=NOW), PAGE)
    assert message == snapshot
    acceptable(message)


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


def test_news_without_a_page_has_no_link(snapshot: SnapshotAssertion) -> None:
    """A run that never got a conversation."""
    assert cards.news(RUNS["failed: at_capacity"], None) == snapshot


@pytest.mark.parametrize("page", [PAGE, None])
@pytest.mark.parametrize("name", ["done", "question", "hostile"])
def test_notification(name: str, page: str | None, snapshot: SnapshotAssertion) -> None:
    """One line for the team."""
    message = cards.notification(RUNS[name], page and THREAD, NOW)
    assert message == snapshot
    acceptable(message)


def test_a_private_place_tells_the_team_only_state_requester_and_link() -> None:
    """No text of one place shows up in another."""
    run = a_run(RunState.DONE, **ENDED, private=True, answer="secret plans")
    assert cards.notification(run, THREAD, NOW).text == f"✅ Done: asked by <@{ALICE}> · <{THREAD}|thread>"


def test_hostile_words_are_literal_everywhere() -> None:
    """No mention, link or markup of the outside works on a card, in the news or in a notification."""
    run = a_run(RunState.DONE, **{**ENDED, "task": HOSTILE, "answer": HOSTILE, "branch": HOSTILE})
    said = [cards.card(run, PAGE), cards.news(run, PAGE), cards.notification(run, THREAD, NOW)]
    for text in (text for message in said for text in [message.text, *mrkdwn(message.blocks)]):
        assert "<!" not in text
        assert "<https://evil" not in text
        assert "<@UBOB>" not in text


@pytest.mark.parametrize(
    "answer", ["a" * 8_999, "a" * 9_000, "a" * 9_001, "a" * 40_000, "é\n\n" * 10_000, "**b** " * 8_000]
)
def test_an_answer_of_any_size_fits(answer: str) -> None:
    """At the limit, one past it, and far past it; a longer one says where the rest is."""
    run = a_run(RunState.DONE, **ENDED, answer=answer)
    message = cards.news(run, PAGE)
    acceptable(message)
    assert ("The whole answer is in OpenHands" in str(message.blocks[-1])) == (len(answer) > cards.ANSWER_MAX)


@pytest.mark.parametrize("size", [599, 600, 601, 40_000])
def test_a_task_of_any_size_fits(size: int) -> None:
    """Escaping makes it five times as long, and it still fits."""
    acceptable(cards.card(a_run(RunState.WORKING, task="&" * size, detail="&" * size), PAGE))


@pytest.mark.parametrize(("size", "whole"), [(2_800, True), (2_801, False), (6_000, False)])
def test_what_wants_approval_says_when_it_is_cut(size: int, whole: bool) -> None:  # noqa: FBT001 - a table's column
    """Nobody approves what they can't see."""
    run = a_run(RunState.WAITING, waiting=Waiting.APPROVAL, action="e1", detail="&" * size)
    message = cards.card(run, PAGE)
    acceptable(message)
    assert ("look at the whole in OpenHands" not in str(message.blocks)) is whole


def test_many_candidates_and_links_fit() -> None:
    """Lists are cut, never refused."""
    links = tuple(f"https://github.com/org/repo/pull/{number}" for number in range(100))
    acceptable(cards.news(a_run(RunState.DONE, **ENDED, pull_requests=links), PAGE))
    names = tuple(f"org/{'x' * 90}{number}" for number in range(200))
    acceptable(cards.card(a_run(RunState.NEEDS_REPOSITORY, candidates=names), None))


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
    took = [timedelta(hours=2, minutes=5), timedelta(minutes=3, seconds=7), timedelta(seconds=9)]
    texts = [
        cards.card(a_run(RunState.DONE, **IN_REPOSITORY, created_at=NOW - time, ended_at=NOW), None).text
        for time in took
    ]
    assert [text.rsplit("· ", 1)[1] for text in texts] == ["took 2 h 5 min", "took 3 min 7 s", "took 9 s"]


def mrkdwn(blocks: list[dict[str, Any]]) -> list[str]:
    """Return every text that Slack reads as mrkdwn."""
    texts = [block["text"] for block in blocks if block["type"] == "section"]
    texts += [element for block in blocks if block["type"] == "context" for element in block["elements"]]
    return [text["text"] for text in texts]


def characters(part: Any) -> int:
    """Count what Slack counts: every text and address in the blocks."""
    match part:
        case dict():
            own = sum(len(value) for name, value in part.items() if name in ("text", "url") and isinstance(value, str))
            return own + sum(characters(value) for value in part.values())
        case list():
            return sum(map(characters, part))
        case _:
            return 0


def acceptable(message: cards.Message) -> None:
    """Fail where Slack would refuse the message, or where something in it could become a mention by itself."""
    assert 0 < len(message.text) <= cards.TEXT_MAX
    assert len(message.blocks) <= 50
    assert characters(message.blocks) <= 12_500
    for block in message.blocks:
        Block.parse(block).to_dict()  # type: ignore[union-attr]  # parse gives None only for unknown types
    texts = [block["text"] for block in message.blocks if block["type"] == "section"]
    assert all(text["verbatim"] for text in texts)
