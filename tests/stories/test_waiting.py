"""Why a run does not go on: each reason has a sentence of its own, with the next step, and buttons that take it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bot.core.model import Reason, RunState
from bot.simulator.openhands import Conversation, LocalOpenHands
from tests.conftest import Make, Story, read_card
from tests.stories.shared import APPROVE_OR_REJECT, labels, why, working

OPEN = "Open in OpenHands"
GO_ON = "Press Resume, or reply here, to continue."
Fate = Callable[[LocalOpenHands, Conversation], None]


def model(code: str, detail: str) -> Fate:
    """Let the language model fail."""
    return lambda openhands, c: openhands.fail(c, code, detail)


AT_ONCE, SLOWLY = 12, 130
"""Seconds until a kind shows; a sandbox that sleeps may just be waking up."""
KINDS: dict[str, tuple[Fate, int, str, str, list[str]]] = {
    "question": (
        lambda openhands, c: openhands.ask(c, "Which licence?"),
        AT_ONCE,
        "Has a question",
        "Reply here to answer.",
        [OPEN, "Stop"],
    ),
    "answer": (
        lambda openhands, c: openhands.ask(c, "There are two licences."),
        AT_ONCE,
        "Answered",
        "Reply here to continue.",
        [OPEN],
    ),
    "approval": (
        lambda openhands, c: openhands.want_approval(c, "rm -rf build", summary="Clean up"),
        AT_ONCE,
        "Needs approval",
        APPROVE_OR_REJECT,
        [OPEN, "Approve", "Reject", "Stop"],
    ),
    "asleep": (
        lambda openhands, c: openhands.fall_asleep(c),
        SLOWLY,
        "Paused",
        why(Reason.ASLEEP, RunState.PAUSED),
        [OPEN, "Resume", "Stop"],
    ),
    "paused by somebody": (
        lambda openhands, c: openhands.someone_pauses(c),
        AT_ONCE,
        "Paused",
        why(None, RunState.PAUSED),
        [OPEN, "Resume", "Stop"],
    ),
    "stuck": (
        lambda openhands, c: openhands.get_stuck(c),
        AT_ONCE,
        "Failed",
        why(Reason.STUCK),
        [OPEN, "Retry"],
    ),
    "model key wrong": (
        model("LLMAuthenticationError", "litellm.AuthenticationError: OpenAIException - Incorrect API key provided."),
        AT_ONCE,
        "Failed",
        why(Reason.MODEL_KEY),
        [OPEN, "Resume", "Retry"],
    ),
    "model rate limit": (
        model("LLMRateLimitError", "litellm.RateLimitError: OpenAIException - Rate limit reached for requests."),
        AT_ONCE,
        "Failed",
        why(Reason.MODEL_LIMIT),
        [OPEN, "Resume", "Retry"],
    ),
    "out of budget": (
        model("LLMRateLimitError", "litellm.RateLimitError: OpenAIException - You exceeded your current quota."),
        AT_ONCE,
        "Failed",
        why(Reason.OUT_OF_BUDGET),
        [OPEN, "Resume", "Retry"],
    ),
    "model out of reach": (
        model("LLMServiceUnavailableError", "litellm.InternalServerError: the provider is down"),
        AT_ONCE,
        "Failed",
        f"The language model could not be reached. {GO_ON}",
        [OPEN, "Resume", "Retry"],
    ),
}


async def quick_to_ask(make_world: Make) -> Story:
    """Return a world with a run at work in which two minutes without news are long."""
    world = await make_world(start=False)
    world.patience = replace(world.patience, stale_s=120.0)
    await world.starts()
    await working(world)
    return world


@pytest.mark.parametrize(("fate", "seconds", "state", "sentence", "buttons"), KINDS.values(), ids=KINDS.keys())
async def test_each_kind_of_waiting_says_what_to_do(
    world: Story, *, fate: Fate, seconds: int, state: str, sentence: str, buttons: list[str]
) -> None:
    """On the card and once in the thread, where the requester is called."""
    await working(world)
    fate(world.openhands, world.conversation)
    await world.passes(seconds)

    [card] = world.cards()
    assert (read_card(card).state, labels(card)) == (state, buttons)
    assert sentence in read_card(card).lines
    [told] = [one for one in world.posts("#dev") if one.thread_ts]
    head, *lines = told.text.split("\n")
    assert (head.split(" ", 2)[0], head.split(" ", 2)[2]) == (f"<@{world.alice.id}>", state)
    assert sentence in lines
    assert told.mentions == {world.alice.id}


@pytest.mark.parametrize("kind", ["paused by somebody", "model key wrong", "model rate limit", "out of budget"])
async def test_what_can_be_resumed_is(world: Story, kind: str) -> None:
    """Once the reason is gone: the same conversation, without a word."""
    await working(world)
    KINDS[kind][0](world.openhands, world.conversation)
    await world.passes(12)
    await world.bob.clicks("resume", world.cards()[0])
    await world.passes(8)
    assert world.card().state == "Working"

    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(6)
    assert world.card().state == "Done"
    assert world.news()[1:] == [f"<@{world.bob.id}> ✅ Done\nFixed."]
    assert world.conversation.messages == ["fix README"]


async def test_a_run_without_news_for_long_is_told_once_with_a_stop(make_world: Make) -> None:
    """Nobody calls it failed: it may work still. The question comes once, the button stays right."""
    world = await quick_to_ask(make_world)
    await world.passes(100)
    assert world.news() == []
    await world.passes(40)

    since = "since <!date^1772442001^{date_short_pretty} {time}|2 Mar 09:00 UTC>"
    [told] = [one for one in world.posts("#dev") if one.thread_ts]
    assert told.text == (
        f"<@{world.alice.id}> No sign of life from this run {since}. Check it in OpenHands, or stop it below; "
        "I go on looking, and nothing is lost."
    )
    assert labels(told) == [OPEN, "Stop"]
    assert world.card().state == "Working"
    assert f"⚠️ OpenHands shows nothing new of this run {since}." in world.card()
    await world.passes(200)
    assert len(world.news()) == 1

    await world.bob.clicks("stop", told)
    await world.passes(35)
    assert world.card().state == "Stopped"
    world.leaves("#dev: ⏹️ Stopped")


async def test_news_after_a_long_silence_take_the_warning_back(make_world: Make) -> None:
    """It did work still; from then on the silence counts anew."""
    world = await quick_to_ask(make_world)
    await world.passes(140)
    assert "⚠️" in world.card()
    world.openhands.progress(world.conversation, "Reading on")
    await world.passes(35)
    assert "⚠️" not in world.card()
    await world.passes(140)
    assert len(world.news()) == 2
    world.leaves("#dev: card 🛠️ Working")
