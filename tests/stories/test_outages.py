"""OpenHands breaks, stays silent, or says what nobody understands: what people see, and how it goes on."""

from typing import Any

import pytest

from bot.core.model import Reason, RunState
from bot.core.pacing import Patience
from tests.conftest import Card, Make, Story
from tests.stories.shared import NOBODY, SINCE, asked_by, reactions, starts, why, working

OUT_OF_REACH = "⚠️ I haven't got through to OpenHands since <!date^1772442000^{date_short_pretty} {time}|2 Mar 09:00 UTC>. I keep trying; nothing is lost."
TURNED_AWAY = (
    "⚠️ OpenHands has turned away what I ask of it for this run since <!date^1772442004^{date_short_pretty} {time}|2 Mar 09:00 UTC>: too many calls "
    "at once. I keep trying; nothing is lost."
)
SHORT = Patience(ping_s=0.2, drain_s=5.0, openhands_timeout_s=0.15, send_timeout_s=0.15)
"""Time-outs in real seconds for a server that hangs; everything else is in the story's own time."""


# --- what OpenHands answers when something is broken -------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [{"html": True}, {"invalid_json": True}, {"status": 500}, {"status": 502}, {"drop": True}],
    ids=["a web page", "broken JSON", "500", "502", "nothing"],
)
async def test_a_start_with_a_broken_answer_runs_once(world: Story, fault: dict[str, Any]) -> None:
    """Whether it arrived is looked up for a minute; since it did not, it is posted once more with the same id."""
    world.openhands.break_next("start", **fault)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(50)

    assert world.card() == Card("Starting", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert len(starts(world)) == 1

    await world.passes(16)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert world.news() == []
    first, second = starts(world)
    assert first == second
    assert world.conversation.messages == ["fix README"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_login_page_fails_no_start(world: Story, status: int) -> None:
    """A proxy before the server lets nobody through for a while; the card says so, and the run starts afterwards."""
    world.openhands.break_next("start", status=status, html=True, times=1_000)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(100)
    assert world.card().state == "Starting"
    assert "⚠️ OpenHands has moved" in world.card()

    world.openhands.recover()
    await world.passes(70)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert world.news() == []
    world.logged("openhands.unreachable")


async def test_a_start_that_answers_too_slowly_is_found_again(make_world: Make) -> None:
    """The bot gives up waiting, looks for it, and finds the one that is there."""
    world = await make_world(start=False)
    world.patience = SHORT
    await world.starts()
    world.openhands.break_next("start", hang_s=5, after=True)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)

    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert len(starts(world)) == 1
    assert world.conversation.messages == ["fix README"]


async def test_a_start_that_is_nowhere_even_the_second_time_is_left_to_a_person(world: Story) -> None:
    """Two lost answers are no reason to go on: somebody looks, and decides."""
    world.openhands.break_next("start", drop=True, times=2)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(150)

    unsure = why(Reason.START_UNSURE)
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{unsure}"]
    assert len(starts(world)) == 2

    await world.alice.says("leave it", thread=world.cards()[0])
    await world.passes(10)
    assert world.news()[1:] == ["All right, I leave it as it is."]
    assert len(starts(world)) == 2
    world.logged("run.changed")


@pytest.mark.parametrize(
    "fault",
    [{"html": True}, {"invalid_json": True}, {"status": 500}, {"status": 503}, {"drop": True}],
    ids=["a web page", "broken JSON", "500", "503", "nothing"],
)
async def test_a_broken_look_is_no_news(world: Story, fault: dict[str, Any]) -> None:
    """One bad answer to a question changes nothing that people see; the next good one does."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.break_next("status", times=3, **fault)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(2)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))

    await world.passes(20)
    assert (world.card().state, world.card().lines[0]) == ("Done", "Fixed two links.")
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.logged("openhands.unreachable")


async def test_a_look_that_hangs_is_given_up_and_repeated(make_world: Make) -> None:
    """A slow server costs one time-out, not the run."""
    world = await make_world(start=False)
    world.patience = SHORT
    await world.starts()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.break_next("status", hang_s=5)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.leaves("#dev: card ✅ Done")
    world.logged("openhands.unreachable")


@pytest.mark.parametrize(
    "fault", [{"html": True}, {"invalid_json": True}, {"status": 500}, {"drop": True}], ids=lambda fault: str(*fault)
)
async def test_unreadable_words_are_read_later(world: Story, fault: dict[str, Any]) -> None:
    """A run has ended only when its last words were read: nobody is told of an end without them."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.break_next("agent_events", **fault)
    world.openhands.break_next("events", **fault)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.leaves("#dev: card ✅ Done")


async def test_too_many_calls_are_waited_out(world: Story) -> None:
    """A 429 that speaks of calls, not of slots, is nothing a person has to know."""
    world.openhands.break_next("start", status=429, body={"message": "Too many requests"}, times=2)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.break_next("status", status=429, body={"message": "Too many requests"}, times=2)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)

    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    assert len(world.openhands.conversations) == 1
    world.logged("openhands.unreachable")


async def test_an_hour_that_a_gateway_asks_for_holds_up_no_news_for_longer_than_a_minute(world: Story) -> None:
    """It is asked again after a minute, and the end of the run is told then."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.break_next("status", status=429, body={"message": "slow down"}, retry_after_s=3600)
    await world.passes(2)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(65)

    assert world.card().state == "Done"
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.logged("openhands.unreachable")


async def test_a_message_that_is_too_much_for_long_is_told_and_asked_less_and_less(world: Story) -> None:
    """A gateway answers 429, and a second later again: the card says so after a minute, and it is no hammering."""
    card = await working(world)
    world.openhands.break_next("send", status=429, body={"message": "Too many requests"}, times=10_000)
    await world.alice.says("and the docs", thread=card)
    await world.passes(75, stopping_at_all=True)
    assert TURNED_AWAY in world.card()
    edits = world.cards()[0].edited

    await world.passes(1000, stopping_at_all=True)
    assert TURNED_AWAY in world.card()
    assert world.cards()[0].edited == edits
    assert sum(call.kind == "send" for call in world.openhands.calls) < 50
    world.openhands.recover()
    await world.passes(75)
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert "⚠️" not in world.cards()[0].text
    world.logged("openhands.unreachable")


async def test_an_openhands_that_moved_is_named_and_fails_no_start(world: Story) -> None:
    """A redirect is not followed, since the key is for the address that was set; nothing is lost until that is mended."""
    world.openhands.moved_to = "https://openhands.example"
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(90)
    assert (
        "⚠️ OpenHands has moved: I haven't got through to it since <!date^1772442000^{date_short_pretty} {time}|2 Mar 09:00 UTC>. Please tell this "
        "bot's operator: it needs the new address. I keep trying; nothing is lost."
    ) in world.card()
    assert world.card().state == "Starting"

    world.openhands.moved_to = ""
    await world.passes(75)
    assert world.card().state == "Working"
    assert len(world.openhands.conversations) == 1
    for said in world.logged("openhands.unreachable"):
        assert said["cause"] == "redirected to https://openhands.example"


# --- outages -----------------------------------------------------------------------------------------------------


async def test_a_request_made_during_an_outage_starts_after_it(world: Story) -> None:
    """Nothing is asked of the person: the card says since when, and the run starts by itself, once."""
    await world.openhands.stop()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(50)
    assert world.card() == Card("Starting", "fix README", (f"{asked_by(world)} · {SINCE}",))

    await world.passes(30)
    assert world.card() == Card("Starting", "fix README", (OUT_OF_REACH, f"{asked_by(world)} · {SINCE}"))
    assert world.news() == []

    await world.openhands.start(int(world.openhands.base_url.rsplit(":", 1)[1]))
    await world.passes(60)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert world.conversation.messages == ["fix README"]
    world.logged("openhands.unreachable")


async def test_an_outage_in_mid_run_is_shown_after_a_minute_and_forgotten_after_it(world: Story) -> None:
    """Short gaps are nobody's business; a long one is on the card, and no new message is made of it."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.down = True
    await world.passes(50)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))

    await world.passes(60)
    out_of_reach = OUT_OF_REACH.replace("1772442000", "1772442006")
    assert world.card() == Card("Working", "fix README", (out_of_reach, f"{asked_by(world)} · {SINCE}"))

    world.openhands.down = False
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(90)
    assert (world.card().state, world.card().lines[0], len(world.card().lines)) == ("Done", "Fixed two links.", 2)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.logged("openhands.unreachable")


async def test_status_says_that_openhands_is_out_of_reach(world: Story) -> None:
    """Who asks during an outage is not told yesterday's news as today's."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.down = True
    await world.passes(120)
    await world.alice.says("status", thread=world.cards()[0])

    out_of_reach = OUT_OF_REACH.replace("1772442000", "1772442006")
    [told] = world.news()
    assert told.startswith("*🛠️ Working*: fix README · `org/repo` · <https://")
    assert told.endswith(f"\n{out_of_reach}")
    world.logged("openhands.unreachable")


async def test_a_follow_up_during_an_outage_arrives_after_it(world: Story) -> None:
    """The reply keeps its eyes until the agent has it, and it has it once."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.openhands.stop()
    said = await world.alice.says("and the docs", thread=world.cards()[0])
    await world.passes(30)
    assert reactions(world, said.ts) == []

    await world.openhands.start(int(world.openhands.base_url.rsplit(":", 1)[1]))
    await world.passes(60)
    assert reactions(world, said.ts) == ["eyes"]
    assert world.conversation.messages == ["fix README", "and the docs"]
    assert world.news() == []
    world.logged("openhands.unreachable")


async def test_a_reply_to_a_sleeping_run_during_an_outage_wakes_it_afterwards(world: Story) -> None:
    """An outage is no refusal to wake up: however long it takes, the reply waits for its end."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(130)
    assert world.card().state == "Paused"
    await world.openhands.stop()
    said = await world.alice.says("go on", thread=world.cards()[0])
    await world.passes(60)
    assert reactions(world, said.ts) == []
    assert len(world.news()) == 1

    await world.openhands.start(int(world.openhands.base_url.rsplit(":", 1)[1]))
    await world.passes(40)
    assert reactions(world, said.ts) == ["eyes"]
    assert world.conversation.messages == ["fix README", "go on"]
    assert world.card().state == "Working"
    world.logged("openhands.unreachable")


async def test_a_stop_during_an_outage_is_done_after_it(world: Story) -> None:
    """What was asked for is not forgotten: the card says who asked, and later who stopped it."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.openhands.stop()
    await world.bob.says("stop", thread=world.cards()[0])
    await world.passes(10)
    requested = f"Stop requested by <@{world.bob.id}>."
    assert world.card() == Card("Working", "fix README", (requested, f"{asked_by(world)} · {SINCE}"))

    await world.openhands.start(int(world.openhands.base_url.rsplit(":", 1)[1]))
    await world.passes(60)
    stopped = f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert (world.card().state, world.card().lines[0]) == ("Stopped", stopped)
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\n{stopped}"]
    assert world.conversation.interrupts == 1
    world.logged("openhands.unreachable")


# --- what nobody expected ----------------------------------------------------------------------------------------


async def test_a_status_word_newer_than_the_bot_changes_nothing(world: Story) -> None:
    """The run stays as it was shown, and is still followed to its end."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.set_status(world.conversation, execution_status="pondering")
    await world.passes(30)
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert world.news() == []

    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(10)
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed two links."]
    world.leaves("#dev: card ✅ Done")


async def test_a_conversation_deleted_behind_our_back_is_lost_and_can_start_anew(world: Story) -> None:
    """The team hears of it too; `again` is a new conversation, in the same thread and on the same card."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.vanish(world.conversation)
    await world.passes(330, stopping_at_all=True)

    gone = why(Reason.GONE)
    assert world.card() == Card("Lost", "fix README", (gone, f"{asked_by(world)} · took 5 min 20 s"))
    assert world.news() == [f"<@{world.alice.id}> ⚠️ Lost\n{gone}"]
    [line] = world.news("#news")
    assert line.startswith(f"⚠️ Lost: fix README · `org/repo` · for <@{world.alice.id}> · 5 min 20 s · <https://")

    await world.alice.says("again", thread=world.cards()[0])
    await world.passes(4)
    assert world.card().state == "Working"
    assert [one.deleted for one in world.openhands.conversations.values()] == [True, False]


async def test_a_reply_to_a_deleted_conversation_is_told_that_it_went_nowhere(world: Story) -> None:
    """Nobody is left to believe that the agent read it."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.vanish(world.conversation)
    await world.passes(330)
    await world.bob.says("and the docs", thread=world.cards()[0])

    assert world.news()[1:] == [NOBODY]


async def test_a_reply_at_the_moment_of_the_deletion_goes_nowhere_aloud(world: Story) -> None:
    """The conversation goes before the bot has noticed: the reply is marked, and its author told."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.vanish(world.conversation)
    said = await world.bob.says("and the docs", thread=world.cards()[0])
    await world.passes(330)

    gone = why(Reason.GONE)
    assert sorted(world.news()) == sorted(
        [
            f"<@{world.alice.id}> ⚠️ Lost\n{gone}",
            f"<@{world.bob.id}> {NOBODY}",
        ]
    )
    assert reactions(world, said.ts) == ["x"]
    world.leaves("#dev: card ⚠️ Lost")


async def test_a_dead_sandbox_is_lost(world: Story) -> None:
    """A sandbox that is missing can't be woken: better told than waited for."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.lose_sandbox(world.conversation)
    await world.passes(330)

    gone = why(Reason.GONE)
    assert world.news() == [f"<@{world.alice.id}> ⚠️ Lost\n{gone}"]
    world.leaves("#dev: card ⚠️ Lost")


async def test_an_agent_that_falls_silent_is_lost_after_five_minutes(world: Story) -> None:
    """The sandbox runs and nobody in it answers: for some minutes that may be a hiccup."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.wreck(world.conversation)
    await world.passes(290)
    assert world.card().state == "Working"

    await world.passes(40)
    silent = why(Reason.SILENT, RunState.LOST)
    assert world.news() == [f"<@{world.alice.id}> ⚠️ Lost\n{silent}"]
    world.leaves("#dev: card ⚠️ Lost")
