"""At the limit: requests wait in a queue, in order, with their place on the card, and start by themselves."""

import pytest

from bot.core import words
from bot.core.model import Reason, RunState
from bot.simulator.slack.records import Message
from tests.conftest import Make, Story, read_card
from tests.stories.shared import labels, starts, why

BUSY = "Every slot is busy: {}, and starts by itself when one is free."
NEXT, SECOND = BUSY.format("it is next"), BUSY.format("it is number 2 in the queue")


def states(world: Story) -> list[str]:
    return [read_card(card).state for card in world.cards()]


def explained(card: Message) -> str:
    return read_card(card).lines[0]


def names(world: Story) -> list[str]:
    """Return the tasks of the agents, in the order in which they were started."""
    return [one.messages[0] for one in world.openhands.conversations.values()]


async def three(world: Story) -> None:
    """Have three runs asked for, one after the other."""
    for name, person in (("one", world.alice), ("two", world.bob), ("three", world.alice)):
        await person.commands(f"fix {name} in org/repo", in_="#dev")
        await world.passes(2)
    await world.passes(6)


async def test_who_asks_beyond_the_slots_waits_in_order(make_world: Make) -> None:
    """Each card shows its place; each end lets the oldest in, nobody else."""
    world = await make_world(max_concurrent_runs=1)
    await three(world)
    assert states(world) == ["Working", "Queued", "Queued"]
    _, second, third = world.cards()
    assert (explained(second), explained(third)) == (NEXT, SECOND)
    assert labels(second) == labels(third) == ["Cancel"]
    assert names(world) == ["fix one"]

    world.openhands.finish(world.openhands.find("fix one"), "Fixed.")
    await world.passes(8)
    assert states(world) == ["Done", "Working", "Queued"]
    await world.passes(60)
    assert explained(world.cards()[2]) == NEXT
    world.openhands.finish(world.openhands.find("fix two"), "Fixed.")
    await world.passes(8)
    assert states(world) == ["Done", "Done", "Working"]
    assert names(world) == ["fix one", "fix two", "fix three"]
    assert len(world.news()) == 2


async def test_who_queued_many_does_not_hold_up_another(make_world: Make) -> None:
    """People get slots in turn, each for their oldest: bob is next although alice queued four before he asked."""
    world = await make_world(max_concurrent_runs=1)
    for number in range(5):
        await world.alice.commands(f"fix {number} in org/repo", in_="#dev")
        await world.passes(1)
    await world.bob.commands("fix mine in org/repo", in_="#dev")
    await world.passes(4)
    assert explained(world.cards()[5]) == NEXT
    await world.passes(64)
    assert [explained(card) for card in world.cards()[1:3]] == [SECOND, BUSY.format("it is number 3 in the queue")]
    await world.alice.commands("status", in_="#dev")
    await world.passes(2)
    assert BUSY.format("it is number 3 in the queue") in world.alice.sees()[-1]

    for task in ("fix 0", "fix mine"):
        world.openhands.finish(world.openhands.find(task), "Fixed.")
        await world.passes(8)
    assert names(world) == ["fix 0", "fix mine", "fix 1"]
    assert states(world) == ["Done", "Working", *["Queued"] * 3, "Done"]
    world.leaves(*["#dev: ✅ Done"] * 2)


async def test_who_has_as_many_queued_as_allowed_is_told_so(make_world: Make) -> None:
    """At once and alone, by command, mention, reply and button; nothing of it is kept. Others still queue."""
    world = await make_world(max_concurrent_runs=1, max_queued_per_person=1)
    await world.bob.commands("fix zero in org/repo", in_="#dev")
    await world.passes(2)
    world.openhands.fail(world.openhands.find("fix zero"))
    await world.passes(4)
    asks = await world.alice.says("@OpenHands fix README", in_="#dev")
    await three(world)
    assert states(world) == ["Failed", "Which repository?", "Working", "Queued", "Queued"]
    failed, which, *_ = world.cards()
    await world.alice.commands("fix four in org/repo", in_="#dev")
    await world.alice.says("@OpenHands fix four in org/repo", in_="#dev")
    await world.alice.says("org/repo", thread=asks)
    await world.alice.clicks("retry", failed)
    await world.passes(4)
    assert world.alice.sees().count(words.too_many_queued(1)) == 4
    assert states(world) == ["Failed", "Which repository?", "Working", "Queued", "Queued"]
    assert read_card(which).state == "Which repository?"

    world.openhands.finish(world.openhands.find("fix one"), "Fixed.")
    await world.passes(8)
    await world.bob.clicks("retry", failed)
    await world.passes(4)
    assert states(world) == ["Queued", "Which repository?", "Done", "Working", "Queued"]
    world.leaves("#dev: ❌ Failed", "#dev: ✅ Done")


async def test_who_asks_for_too_many_within_an_hour_is_told_until_when(make_world: Make) -> None:
    """Retries count too; the same holds for all who ask in one thread."""
    world = await make_world(max_runs_per_hour=2)
    talk = await world.alice.says("look at this", in_="#dev")
    for person, text in ((world.alice, "fix README"), (world.bob, "new: fix tests")):
        await person.says(f"@OpenHands {text} in org/repo", thread=talk)
        await world.passes(4)
    started = len(starts(world))
    await world.alice.says("@OpenHands new: fix more in org/repo", thread=talk)
    await world.passes(2)
    assert world.alice.sees()[-1].startswith("People in this thread started 2 runs within an hour")

    await world.bob.commands("fix more in org/repo", in_="#dev")
    await world.passes(4)
    await world.bob.commands("fix even more in org/repo", in_="#dev")
    await world.passes(2)
    assert world.bob.sees()[-1].startswith("You started 2 runs within an hour")
    assert len(starts(world)) == started + 1
    world.leaves(*["#dev: card 🛠️ Working"] * 3)


async def test_two_slots_let_two_in(make_world: Make) -> None:
    """As many as MAX_CONCURRENT_RUNS says work at once."""
    world = await make_world(max_concurrent_runs=2)
    await three(world)
    assert states(world) == ["Working", "Working", "Queued"]


async def test_a_run_that_waits_for_a_person_gives_its_slot_back(make_world: Make) -> None:
    """Its agent does nothing meanwhile, so the next one starts."""
    world = await make_world(max_concurrent_runs=1)
    await three(world)
    world.openhands.ask(world.openhands.find("fix one"), "Which licence?")
    await world.passes(8)
    assert states(world) == ["Has a question", "Working", "Queued"]
    world.leaves("#dev: 💬 Has a question")


async def test_slots_used_by_others_are_waited_for_at_a_sensible_pace(make_world: Make) -> None:
    """OpenHands names its limit: one try each half minute, by the oldest alone, until there is room."""
    world = await make_world(openhands={"limit": 1})
    others = world.openhands.start_v0("somebody else's", None)
    await three(world)
    assert states(world) == ["Queued", "Queued", "Queued"]
    assert [explained(card) for card in world.cards()] == [NEXT, SECOND, BUSY.format("it is number 3 in the queue")]
    before = len(starts(world))
    await world.passes(300)
    tries = starts(world)[before:]
    assert 8 <= len(tries) <= 11
    assert {body["initial_message"]["content"][0]["text"] for body in tries} == {"fix one"}
    assert len({body["conversation_id"] for body in starts(world)}) == len(starts(world))

    world.openhands.finish(others, "Done.")
    await world.passes(40)
    assert states(world) == ["Working", "Queued", "Queued"]
    assert world.news() == []


async def test_an_end_of_our_own_makes_room_at_once(make_world: Make) -> None:
    """Nobody waits for the next try where it is known that a slot is free."""
    world = await make_world(openhands={"limit": 1})
    await three(world)
    assert states(world) == ["Working", "Queued", "Queued"]
    world.openhands.finish(world.openhands.find("fix one"), "Fixed.")
    await world.passes(8)
    assert states(world) == ["Done", "Working", "Queued"]
    world.leaves("#dev: ✅ Done")


@pytest.mark.parametrize("how", ["button", "cancel", "stop"])
async def test_a_queued_run_is_cancelled(make_world: Make, how: str) -> None:
    """By button or word; who comes after it moves up, and it never starts."""
    world = await make_world(max_concurrent_runs=1)
    await three(world)
    second = world.cards()[1]
    await (world.bob.clicks("cancel", second) if how == "button" else world.bob.says(how, thread=second))
    await world.passes(8)
    assert states(world) == ["Working", "Cancelled", "Queued"]
    assert explained(world.cards()[1]) == f"Cancelled by <@{world.bob.id}> before anything was started."

    world.openhands.finish(world.openhands.find("fix one"), "Fixed.")
    await world.passes(8)
    assert names(world) == ["fix one", "fix three"]
    world.leaves("#dev: card ✅ Done", "#dev: card 🛠️ Working", "#dev: ✅ Done")


async def test_a_double_click_cancels_once(make_world: Make) -> None:
    """The second is told so."""
    world = await make_world(max_concurrent_runs=1)
    await three(world)
    second = world.cards()[1]
    for person in (world.alice, world.bob):
        await world.slack.click(person.id, second.channel, second.ts, "cancel")
    await world.settles()
    await world.passes(6)
    assert world.bob.sees()[-1].startswith(f"<@{world.alice.id}> has already ")
    assert states(world) == ["Working", "Cancelled", "Queued"]


async def test_replies_to_a_queued_run_go_out_once_it_works(make_world: Make) -> None:
    """Nothing that is said meanwhile is lost."""
    world = await make_world(max_concurrent_runs=1)
    await three(world)
    await world.bob.says("and the docs", thread=world.cards()[1])
    await world.passes(4)
    world.openhands.finish(world.openhands.find("fix one"), "Fixed.")
    await world.passes(12)
    assert world.openhands.find("fix two").messages == ["fix two", "and the docs"]
    world.leaves("#dev: card ✅ Done", "#dev: card 🛠️ Working", "#dev: ✅ Done")


async def test_the_queue_outlives_the_process(make_world: Make) -> None:
    """Places are in the tables; an end that came in between lets the oldest in at the next start."""
    world = await make_world(max_concurrent_runs=1)
    await three(world)
    await world.stops()
    world.openhands.finish(world.openhands.find("fix one"), "Fixed.")
    await world.starts()
    await world.passes(12)
    assert states(world) == ["Done", "Working", "Queued"]
    assert names(world) == ["fix one", "fix two"]
    world.leaves("#dev: ✅ Done")


async def test_a_retry_goes_to_the_queue_too(make_world: Make) -> None:
    """Behind those who asked before it."""
    world = await make_world(max_concurrent_runs=1)
    await three(world)
    world.openhands.fail(world.openhands.find("fix one"))
    await world.passes(8)
    assert states(world) == ["Failed", "Working", "Queued"]
    await world.alice.clicks("retry", world.cards()[0])
    await world.passes(64)
    assert states(world) == ["Queued", "Working", "Queued"]
    assert [explained(world.cards()[at]) for at in (0, 2)] == [SECOND, NEXT]

    world.openhands.finish(world.openhands.find("fix two"), "Fixed.")
    await world.passes(8)
    assert states(world) == ["Queued", "Done", "Working"]
    world.leaves("#dev: ✅ Done", "#dev: ❌ Failed")


async def test_the_run_a_server_paused_for_another_is_resumed_by_button(make_world: Make) -> None:
    """Some servers put the oldest to sleep instead of refusing: that is told as what it is."""
    world = await make_world(openhands={"limit": 1, "limit_answers": "pauses-oldest"})
    await world.alice.commands("fix one in org/repo", in_="#dev")
    await world.passes(6)
    await world.bob.commands("fix two in org/repo", in_="#dev")
    await world.passes(126)
    assert states(world) == ["Paused", "Working"]
    assert explained(world.cards()[0]) == why(Reason.ASLEEP, RunState.PAUSED)

    world.openhands.finish(world.openhands.find("fix two"), "Fixed.")
    await world.passes(6)
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(10)
    assert states(world) == ["Working", "Done"]
    world.leaves("#dev: ⏸️ Paused", "#dev: ✅ Done")


async def test_a_resume_that_finds_no_room_is_kept_and_said_once(make_world: Make) -> None:
    """The account is full of others' work: it goes on by itself when there is room."""
    world = await make_world(openhands={"limit": 1})
    await world.alice.commands("fix one in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(126)
    others = world.openhands.start_v0("somebody else's", None)
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(100)
    assert states(world) == ["Paused"]
    assert world.news()[1:] == [f"<@{world.alice.id}> {words.no_room_to_resume()}"]

    world.openhands.finish(others, "Done.")
    await world.passes(50)
    assert states(world) == ["Working"]


# --- the quota of the day, the budget of the month ---------------------------------------------------------------

NO_MORE_TODAY = {
    "detail": {
        "code": "daily_conversation_limit_reached",
        "message": "Daily limit reached.",
        "limit": 10,
        "used": 10,
        "reset_at": "2026-03-02T10:00:00Z",
    }
}
TODAY = "OpenHands starts no more conversations today{}: {}, and starts by itself after <!date^1772445600^{{date_short_pretty}} {{time}}|2 Mar 10:00 UTC>."


async def test_a_quota_of_the_day_is_told_with_its_numbers_and_waited_for(make_world: Make) -> None:
    """Who asks meanwhile is told too; nothing is tried before its time, then one alone, then all."""
    world = await make_world()
    world.openhands.break_next("start", status=429, body=NO_MORE_TODAY, times=100)
    for name in ("one", "two"):
        await world.alice.commands(f"fix {name} in org/repo", in_="#dev")
        await world.passes(4)
    one, two = world.cards()
    assert explained(one) == TODAY.format(" (10 of 10 used)", "it is next")
    assert explained(two) == TODAY.format("", "it is number 2 in the queue")
    await world.passes(3000)
    assert len(starts(world)) == 1

    world.openhands.recover()
    await world.passes(700)
    assert states(world) == ["Working", "Working"]
    assert len(starts(world)) == 3


async def test_a_quota_that_is_used_up_again_is_waited_for_again(make_world: Make) -> None:
    """One try after its time; its answer counts for all."""
    world = await make_world()
    world.openhands.break_next("start", status=429, body=NO_MORE_TODAY)
    tomorrow = {"detail": {**NO_MORE_TODAY["detail"], "reset_at": "2026-03-02T12:00:00"}}
    world.openhands.break_next("start", status=429, body=tomorrow)
    await three(world)
    await world.passes(3650, stopping_at_all=True)
    assert states(world) == ["Queued", "Queued", "Queued"]
    assert len(starts(world)) == 2
    assert all("12:00 UTC" in explained(card) for card in world.cards())
    await world.alice.says("stop", thread=world.cards()[0])
    await world.passes(4)
    assert states(world) == ["Cancelled", "Queued", "Queued"]


@pytest.mark.parametrize(
    ("status", "body"),
    [(402, {"detail": "Payment required"}), (429, {"detail": {"code": "monthly_budget_exceeded"}})],
    ids=["402", "named"],
)
async def test_a_budget_that_is_used_up_has_its_own_sentence(make_world: Make, status: int, body: object) -> None:
    """It is nothing to wait for by oneself: somebody raises it, and Retry starts anew."""
    world = await make_world()
    world.openhands.break_next("start", status=status, body=body)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    [card] = world.cards()
    assert (read_card(card).state, explained(card), labels(card)) == (
        "Failed",
        why(Reason.ACCOUNT_BUDGET),
        ["Retry"],
    )
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(Reason.ACCOUNT_BUDGET)}"]
    world.logged("run.changed")
