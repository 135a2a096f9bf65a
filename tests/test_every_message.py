"""Every message the bot can make, at any size, against Slack's own block classes and limits."""

from collections.abc import Iterator
from typing import Any

import pytest
from slack_sdk.models.blocks import Block

from bot.core import cards, words
from bot.core.model import Action, Run, RunState, Unclear, UnclearReason
from tests.changes import changed
from tests.core.runs import BOB, NOW, a_run
from tests.core.test_cards import PAGE, RUNS, THREAD
from tests.core.test_words import SENTENCES

JSON = dict[str, Any]

TEXT_MAX = 4_000  # characters of `text` that chat.update takes
BLOCKS_MAX = 50
LISTED = 10
ALL_BLOCKS_MAX = 12_500  # characters; somewhat below Slack's limit per message
SECTION_MAX = 3_000
ELEMENTS_MAX = {"context": 10, "actions": 25}
LABEL_MAX = 75
STYLES = {None, "primary", "danger"}
BUTTON_MAX = {"action_id": 255, "value": 2_000, "url": 3_000}

FILLINGS = {
    "a word without end": "a",
    "what is escaped": "&",
    "mentions": "<!channel> ",
    "lines": "é\n\n",
    "marks": "**b** ",
    "wide": "👩‍👩‍👧‍👦 ",
    "back quotes": "`x` ",
    "links": "https://evil.example/x ",
}
EDGES = [599, 600, 601, 2_800, 2_801, 8_999, 9_000, 9_001]
"""Sizes around each limit at which a text is cut."""
FAR = 40_000
"""The most characters that a message in Slack may have."""
WORDY = {
    "asks for a repository": RUNS["asks for a repository"],
    "working": changed(RUNS["working, a message to decide about"], progress="Reading README.md"),
    "question": RUNS["question"],
    "approval by button": RUNS["approval by button"],
    "done": RUNS["done"],
    "failed": RUNS["failed: agent_error"],
}
"""Runs that together show every text that comes from outside."""


def messages_of(run: Run, page: str | None, thread: str | None) -> dict[str, cards.Message]:
    """Return every message that is about a run as a whole."""
    return {
        "card": cards.card(run, page),
        "news": cards.news(run, page),
        "stale": cards.stale(run, page),
        "notification": cards.notification(run, thread, NOW),
        "status": cards.sentence(words.status(run, thread)),
        "not now": cards.sentence(words.not_now(run, Action.RESUME, BOB)),
        "not posted": cards.sentence(words.not_posted(run)),
        "cannot follow up": cards.sentence(words.cannot_follow_up(run)),
    }


def stuffed(run: Run, text: str) -> Run:
    """Return the run with this text in every field that comes from outside."""
    return changed(
        run,
        task=text,
        detail=text if run.detail else "",
        answer=text if run.answer else "",
        progress=text if run.progress else "",
        doubtful_text=text if run.doubtful_follow_up else "",
        branch=text,
        model=text,
    )


def quoting(text: str) -> Iterator[cards.Message]:
    """Yield the messages that quote somebody."""
    yield cards.sentence(words.follow_up_rejected(text))
    yield cards.sentence(words.follow_up_unsure(text))
    yield cards.sentence(words.follow_up_old(text))
    yield from (cards.sentence(words.unclear(Unclear(reason, text))) for reason in UnclearReason)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_is_said_of_a_run_is_acceptable(run: Run) -> None:
    """That holds with a page and without one."""
    for page, thread in ((PAGE, THREAD), (None, None)):
        for message in messages_of(run, page, thread).values():
            acceptable(message)


@pytest.mark.parametrize("run", WORDY.values(), ids=WORDY)
@pytest.mark.parametrize("text", ["a", "&"])
def test_what_is_said_of_a_run_fits_at_each_edge(run: Run, text: str) -> None:
    """That holds at each limit and one past it. Escaping makes a text five times as long."""
    for size in EDGES:
        for message in messages_of(stuffed(run, text * size), PAGE, THREAD).values():
            acceptable(message)


@pytest.mark.parametrize("run", WORDY.values(), ids=WORDY)
@pytest.mark.parametrize("text", FILLINGS.values(), ids=FILLINGS)
def test_what_is_said_of_a_run_fits_whatever_its_words(run: Run, text: str) -> None:
    """That holds far past every limit."""
    for message in messages_of(stuffed(run, (text * FAR)[:FAR]), PAGE, THREAD).values():
        acceptable(message)


@pytest.mark.parametrize("text", FILLINGS.values(), ids=FILLINGS)
def test_a_list_of_runs_fits_whatever_their_tasks(text: str) -> None:
    """That holds with links and without."""
    run = stuffed(RUNS["done"], (text * EDGES[-1])[: EDGES[-1]])
    for thread in (THREAD, None):
        acceptable(cards.sentence(words.runs([(run, thread)] * LISTED)))


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_a_sentence_is_acceptable(sentence: str) -> None:
    """That holds for each sentence in the table of sentences."""
    acceptable(cards.sentence(sentence))


@pytest.mark.parametrize("text", FILLINGS.values(), ids=FILLINGS)
def test_a_sentence_fits_whatever_it_quotes(text: str) -> None:
    """That holds at each limit and far past it."""
    for size in (*EDGES, FAR):
        for message in quoting((text * size)[:size]):
            acceptable(message)


def test_many_candidates_and_links_fit() -> None:
    """Lists are cut, never refused."""
    links = tuple(f"https://github.com/org/repo/pull/{number}" for number in range(100))
    names = tuple(f"org/{'x' * 90}{number}" for number in range(200))
    for run in (changed(RUNS["done"], pull_requests=links), a_run(RunState.NEEDS_REPOSITORY, candidates=names)):
        for message in messages_of(run, PAGE, THREAD).values():
            acceptable(message)


def acceptable(message: cards.Message) -> None:
    """Fail if Slack would refuse the message, or if something in it could become a mention by itself."""
    assert 0 < len(message.text) <= TEXT_MAX
    assert 0 < len(message.blocks) <= BLOCKS_MAX
    assert characters(message.blocks) <= ALL_BLOCKS_MAX
    for block in message.blocks:
        parsed = Block.parse(block)
        assert parsed is not None, f"Slack knows no {block['type']}"
        assert parsed.to_dict() == block  # it validates, and keeps only the fields that it knows
        for element in block.get("elements", ()):
            assert within(block, element)
        if block["type"] == "section":
            assert mrkdwn(block["text"])


def within(block: JSON, element: JSON) -> bool:
    """Return whether Slack accepts one of a block's elements, or fail."""
    assert len(block["elements"]) <= ELEMENTS_MAX.get(block["type"], len(block["elements"]))
    match block["type"]:
        case "context":
            return mrkdwn(element)
        case "actions":
            assert 0 < len(element["text"]["text"]) <= LABEL_MAX
            assert element.get("style") in STYLES
            return all(0 < len(element[name]) <= most for name, most in BUTTON_MAX.items() if name in element)
        case _:
            return True


def mrkdwn(text: JSON) -> bool:
    """Return whether a text is mrkdwn within the size limit, with nothing that becomes a mention by itself."""
    return text["type"] == "mrkdwn" and text["verbatim"] is True and 0 < len(text["text"]) <= SECTION_MAX


def characters(part: Any) -> int:
    """Return the number of characters as Slack counts: every text and address in the blocks."""
    match part:
        case dict():
            own = sum(len(value) for name, value in part.items() if name in ("text", "url") and isinstance(value, str))
            return own + sum(characters(value) for value in part.values())
        case list():
            return sum(map(characters, part))
        case _:
            return 0
