"""Many at once: the limits of the account, of OpenHands' and of Slack's calls, and who goes first when they are short."""

from bot.core import words
from bot.core.model import Reason, RunState
from tests.conftest import Make, Story
from tests.stories.shared import why

PLACES = ("#one", "#two", "#three", "#four")
RUNS = 12


async def crowd(world: Story) -> None:
    """Have twelve people ask for a run each, all at the same moment, in four places."""
    people = [world.person(f"person{number}") for number in range(RUNS)]
    for place in PLACES:
        world.channel(place, *people)
    for number, person in enumerate(people):
        await person.commands(f"fix part {number} in org/repo", in_=PLACES[number % len(PLACES)])


def refused_for_speed(world: Story) -> list[str]:
    """Return the calls a service refused because there were too many."""
    slack = [call.method for call in world.slack.calls if call.error == "ratelimited"]
    return slack + [call.path for call in world.openhands.calls if call.status == 429]


async def test_a_crowd_gets_a_run_each_within_all_limits(make_world: Make) -> None:
    """Every request has one card and one conversation, and no service had to slow the bot down."""
    world = await make_world(max_concurrent_runs=RUNS)
    await crowd(world)
    await world.passes(20)

    labels = [card.text.split("\n")[0] for place in PLACES for card in world.cards(place)]
    assert labels == ["*🛠️ Working*"] * RUNS
    assert sorted(one.messages[0] for one in world.openhands.conversations.values()) == sorted(
        f"fix part {number}" for number in range(RUNS)
    )
    assert refused_for_speed(world) == []


async def test_many_runs_are_one_question(make_world: Make) -> None:
    """All live runs share their looks: twelve runs cost as many calls as one."""
    world = await make_world(max_concurrent_runs=RUNS)
    await crowd(world)
    await world.passes(20)
    before = len(world.openhands.calls)
    await world.passes(10)

    looks = [call for call in world.openhands.calls[before:] if call.kind == "status"]
    assert [len(call.query["ids"]) for call in looks] == [RUNS] * 5
    world.leaves(*[f"{place}: card 🛠️ Working" for place in PLACES] * (RUNS // len(PLACES)))


async def test_the_progress_of_many_is_not_read_all_at_once(make_world: Make) -> None:
    """After a start none of it is known: were it asked for in one go, every end would have to wait behind that."""
    world = await make_world(max_concurrent_runs=RUNS)
    await crowd(world)
    await world.passes(20)
    before = len(world.openhands.calls)
    await world.restarts()
    await world.passes(3)

    read = [call for call in world.openhands.calls[before:] if call.kind == "agent_events"]
    assert 1 <= len(read) <= 8
    world.leaves(*[f"{place}: card 🛠️ Working" for place in PLACES] * (RUNS // len(PLACES)))


async def test_progress_of_many_leaves_room_for_the_end_of_one(make_world: Make) -> None:
    """Cards of live runs share 40 edits a minute; an end is told and shown at once all the same."""
    world = await make_world(max_concurrent_runs=RUNS)
    await crowd(world)
    await world.passes(20)
    for step in range(12):
        for one in world.openhands.conversations.values():
            world.openhands.progress(one, f"Step {step}")
        await world.passes(5)
    edits = [call for call in world.slack.calls if call.method == "chat.update"]
    last_minute = [call for call in edits if (world.clock.now() - call.at).total_seconds() < 60]
    assert 20 <= len(last_minute) <= 40

    world.openhands.finish(world.openhands.find("fix part 0"), "Fixed.")
    await world.passes(4)
    first = world.cards("#one")[0]
    assert first.text.startswith("*✅ Done*\nfix part 0\nFixed.\n")
    assert len(world.news("#one")) == 1
    assert refused_for_speed(world) == []
    world.leaves(*[f"{place}: card 🛠️ Working" for place in PLACES[1:]] * (RUNS // len(PLACES)))


async def test_the_run_openhands_puts_to_sleep_for_another_is_told_and_can_be_woken(make_world: Make) -> None:
    """Some servers make room without a word: who loses the place hears of it, and what to do."""
    world = await make_world(openhands={"limit": 1, "limit_answers": "pauses-oldest"})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    await world.bob.commands("update the docs in org/docs", in_="#dev")
    await world.passes(126)

    asleep = why(Reason.ASLEEP, RunState.PAUSED)
    assert world.news() == [f"<@{world.alice.id}> ⏸️ Paused\n{asleep}"]
    alices, bobs = world.cards()
    assert alices.text.startswith(f"*⏸️ Paused*\nfix README\n{asleep}\n")
    assert bobs.text.startswith("*🛠️ Working*\nupdate the docs\n")

    world.openhands.finish(world.openhands.find("update the docs"), "Updated.")
    await world.passes(6)
    await world.alice.says("go on", thread=alices)
    await world.passes(12)
    assert world.openhands.find("go on").messages == ["fix README", "go on"]
    assert world.cards()[0].text.startswith("*🛠️ Working*\nfix README\n")
    world.leaves("#dev: ✅ Done")


async def test_a_reply_that_cannot_wake_its_run_for_want_of_room_waits_for_it(make_world: Make) -> None:
    """That is said once, and why: not that OpenHands is out of reach. It arrives by itself when there is room."""
    world = await make_world(openhands={"limit": 1})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(6)
    await world.bob.commands("update the docs in org/docs", in_="#dev")
    await world.passes(6)
    said = await world.alice.says("and the changelog", thread=world.cards()[0])
    await world.passes(6)

    assert world.news()[1:] == [f"<@{world.alice.id}> {words.no_room_to_wake()}"]
    message = world.slack.message(said.channel, said.ts)
    assert message is not None
    assert list(message.reactions) == []

    world.openhands.finish(world.openhands.find("update the docs"), "Updated.")
    await world.passes(40)
    assert world.openhands.find("and the changelog").messages == ["fix README", "and the changelog"]
    world.leaves("#dev: card ✅ Done", "#dev: card 🛠️ Working", "#dev: ✅ Done")
