"""The pure parts: reasons of errors, links, and what is remembered."""

from datetime import timedelta

import pytest

from bot.core.model import Failed, Reason
from bot.openhands.events import DETAIL_LENGTH, failed, one_line, pull_requests
from bot.openhands.recent import Recent
from tests.conftest import HandClock


@pytest.mark.parametrize(
    ("code", "detail", "expected"),
    [
        (
            "LLMAuthenticationError",
            "litellm.AuthenticationError: X - Wrong key.",
            Failed(Reason.MODEL_KEY, "Wrong key."),
        ),
        ("LLMRateLimitError", "Slow down.", Failed(Reason.MODEL_LIMIT, "Slow down.")),
        ("LLMServiceUnavailableError", "Down.", Failed(Reason.MODEL_DOWN, "Down.")),
        ("LLMTimeoutError", "", Failed(Reason.MODEL_DOWN)),
        ("LLMBadRequestError", "No such model.", Failed(Reason.MODEL_REFUSED, "No such model.")),
        ("LLMNoSuchThingYet", "?", Failed(Reason.MODEL_REFUSED, "?")),
        ("MaxIterationsReached", "500 steps", Failed(Reason.MAX_STEPS, "500 steps")),
        ("SomethingNew", "rate limit, stuck", Failed(Reason.AGENT_ERROR, "rate limit, stuck")),
        ("", "STATUS$ERROR_LLM_OUT_OF_CREDITS", Failed(Reason.OUT_OF_BUDGET)),
        (
            "LLMRateLimitError",
            "You exceeded your current quota.",
            Failed(Reason.OUT_OF_BUDGET, "You exceeded your current quota."),
        ),
        ("", "STATUS$ERROR_LLM_SERVICE_UNAVAILABLE", Failed(Reason.MODEL_DOWN)),
        ("", "STATUS$ERROR_LLM_CONTENT_POLICY_VIOLATION", Failed(Reason.MODEL_REFUSED)),
        ("rate_limited", "", Failed(Reason.MODEL_LIMIT)),
        ("", "", Failed(Reason.AGENT_ERROR)),
    ],
)
def test_an_error_is_sorted_by_its_code(code: str, detail: str, expected: Failed) -> None:
    """Its words, which may quote anything, count only where it has none, or to tell an empty account from too many calls."""
    assert failed(code, detail) == expected


def test_an_errors_words_are_short_and_without_secrets() -> None:
    """They are shown to people."""
    words = failed("", "key ghp_" + "a" * 36 + " " + "very " * 200 + "long").detail
    assert words.startswith("key [redacted] very very")
    assert len(words) <= DETAIL_LENGTH


def test_a_line_is_one_line() -> None:
    """Of any text."""
    assert one_line("a\n\n b\tc\x00") == "a b c"


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("(https://github.com/o/r/pull/12)", ("https://github.com/o/r/pull/12",)),
        ("https://github.com/o/r/pull/12/files#diff", ("https://github.com/o/r/pull/12",)),
        ("https://git.corp.example:8443/o/r/pull/1.", ("https://git.corp.example:8443/o/r/pull/1",)),
        ("https://acme.ghe.com/o/r/pull/1", ("https://acme.ghe.com/o/r/pull/1",)),
        ("https://github.com.evil.example/o/r/pull/1 https://git.corp.example/o/r/pull/1", ()),
        ("https://github.com/o/r/pull/1 https://github.com/o/r/pull/1", ("https://github.com/o/r/pull/1",)),
        ("https://github.com/o/r/pulls https://github.com/o/r/pull/x http://a.b/o/pull/1 o/r#1", ()),
        ("https://" * 4_000, ()),
    ],
)
def test_links_to_pull_requests_are_found(text: str, links: tuple[str, ...]) -> None:
    """Over https at a git provider, or where the task itself leads, in whatever stands around them."""
    assert pull_requests(text, task="fix https://git.corp.example:8443/o/r/issues/3") == links


def test_the_longest_untouched_is_forgotten_first() -> None:
    """What was put again is young again."""
    recent = Recent[str, int](HandClock(), room=2)
    recent.put("a", 1)
    recent.put("b", 2)
    recent.put("a", 3)
    recent.put("c", 4)
    recent.drop("never there")
    assert [recent.get(key) for key in "abc"] == [3, None, 4]


def test_what_nobody_touched_for_an_hour_is_forgotten() -> None:
    """Of runs that ended nothing stays, however many there is room for."""
    clock = HandClock()
    recent = Recent[int, str](clock)
    for number in range(1_000):
        clock.move(clock.now() + timedelta(minutes=1))
        recent.put(-1, "still looked at")
        recent.put(number, "ended")
    assert (len(recent), recent.get(-1), recent.get(900), recent.get(999)) == (62, "still looked at", None, "ended")
