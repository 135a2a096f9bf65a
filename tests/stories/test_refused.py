"""OpenHands says no: to a start, a reply, a stop, or to waking up. What people are told, and what they can do."""

from datetime import timedelta

import pytest

from bot.core import words
from bot.core.model import Obstacle, Reason, RunState
from tests.conftest import START, Card, Make, Story
from tests.core.runs import a_run
from tests.stories.shared import NOBODY, SINCE, asked_by, reactions, starts, why, working

GONE = why(Reason.GONE)


# --- starts --------------------------------------------------------------------------------------------------


async def test_a_key_refused_later_is_told_and_mended_without_a_new_request(world: Story) -> None:
    """Who asked learns that it is the key, and whose job that is; the same thread goes on once it is right."""
    world.openhands.key = "another"
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)

    refused = why(Reason.KEY_REFUSED)
    assert world.card() == Card("Failed", "fix README", (refused, f"{asked_by(world)} · took 0 s"))
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{refused}"]
    assert len(world.news("#news")) == 1
    assert len(world.openhands.conversations) == 0

    world.openhands.key = "key"
    await world.alice.says("again", thread=world.cards()[0])
    await world.passes(8)

    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert world.conversation.messages == ["fix README"]
    world.logged("run.changed")


@pytest.mark.parametrize("api", ["v1", "v0"])
async def test_a_repository_that_cannot_be_opened_is_named(make_world: Make, api: str) -> None:
    """Nothing runs, and the person learns what to check."""
    world = await make_world(openhands={"api": api, "closed": ["org/repo"]}, notify_channel="#news")
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)

    could_not = why(Reason.REPOSITORY, RunState.NEEDS_REPOSITORY, repository="org/repo")
    card = world.card()
    assert (card.state, card.task, card.lines[0], len(card.lines)) == ("Which repository?", "fix README", could_not, 2)
    assert world.news() == [f"<@{world.alice.id}> ❔ Which repository?\n{could_not}"]
    assert world.news("#news") == []
    assert len(world.openhands.conversations) == 0


@pytest.mark.parametrize("api", ["v1", "v0"])
async def test_a_full_account_is_told_and_the_run_starts_when_there_is_room(make_world: Make, api: str) -> None:
    """A 429 of the account costs nobody a run: it waits in the queue, and starts by itself."""
    world = await make_world(openhands={"api": api, "limit": 1})
    await world.bob.commands("update the docs in org/docs", in_="#dev")
    await world.passes(6)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)

    busy = "Every slot is busy: it is next, and starts by itself when one is free."
    bobs, alices = world.cards()
    assert bobs.text.startswith("*🛠️ Working*\nupdate the docs\n")
    assert alices.text.startswith(
        f"*🕒 Queued*\nfix README\n{busy}\n{words.who_hears(a_run(RunState.QUEUED))}\n{asked_by(world)} · since "
    )
    assert world.news() == []

    world.openhands.finish(world.conversation, "Updated.")
    await world.passes(6)

    assert [card.text.split("\n")[0] for card in world.cards()] == ["*✅ Done*", "*🛠️ Working*"]
    assert [one.messages for one in world.openhands.conversations.values()] == [
        ["update the docs"],
        ["fix README"],
    ]
    world.leaves("#dev: ✅ Done")


async def test_what_openhands_says_of_a_refused_task_is_shown(world: Story) -> None:
    """A 422 has reasons in words; they are quoted, and nobody is pinged by them."""
    world.openhands.break_next("start", status=422, body={"detail": "no such model, <!channel>"})
    await world.alice.commands("--model gpt-9 fix README in org/repo", in_="#dev")
    await world.passes(4)

    refused = why(Reason.START_REJECTED)
    quoted = "> no such model, &lt;!channel&gt;"
    assert world.card() == Card(
        "Failed", "fix README", (refused, quoted, f"{asked_by(world)} · model `gpt-9` · took 0 s")
    )
    [told] = [one for one in world.posts("#dev") if one.thread_ts]
    assert told.text == f"<@{world.alice.id}> ❌ Failed\n{refused}\n{quoted}"
    assert (set(told.mentions), set(told.broadcasts)) == ({world.alice.id}, set())
    world.logged("run.changed")


async def test_a_web_server_that_is_no_openhands_is_named(world: Story) -> None:
    """A 404 page to a start comes from some other server: the operator has to look at the address."""
    world.openhands.break_next("start", html=True, status=404)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)

    other = why(Reason.START_UNREADABLE)
    assert world.card() == Card("Failed", "fix README", (other, f"{asked_by(world)} · took 0 s"))
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{other}"]
    world.logged("run.changed")


async def test_a_start_that_fails_on_the_way_is_told_in_our_words(world: Story) -> None:
    """The server's own detail holds inner addresses, so it is not shown; `again` is a new conversation."""
    world.openhands.fail_next_start("500: http://10.0.0.7:3200 said no")
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)

    failed = why(Reason.START_FAILED)
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{failed}"]
    await world.alice.says("again", thread=world.cards()[0])
    await world.passes(6)

    assert world.card().state == "Working"
    first, second = starts(world)
    assert first["conversation_id"] != second["conversation_id"]
    assert world.conversation.messages == ["fix README"]
    world.logged("run.changed")


# --- replies -----------------------------------------------------------------------------------------------------


async def test_a_reply_openhands_refuses_is_given_back_with_its_words(world: Story) -> None:
    """The agent did not get it: its author is told why, and the next reply is not held up."""
    card = await working(world)
    world.openhands.break_next("send", status=422, body={"detail": "no text in it, <!here>"})
    refused = await world.bob.says("and the docs", thread=card)
    await world.alice.says("and the changelog", thread=card)
    await world.passes(4)

    [told] = [one for one in world.posts("#dev") if one.thread_ts]
    assert told.text == f"<@{world.bob.id}> {words.follow_up_rejected('no text in it, <!here>')}"
    assert (set(told.mentions), set(told.broadcasts)) == ({world.bob.id}, set())
    assert reactions(world, refused.ts) == ["x"]
    assert world.conversation.messages == ["fix README", "and the changelog"]


async def test_a_reply_to_a_sandbox_gone_for_good_is_given_back(world: Story) -> None:
    """Nothing can wake it, which minutes confirm; the run is told lost once, and the reply is not sent."""
    card = await working(world)
    world.openhands.lose_sandbox(world.conversation)
    said = await world.bob.says("and the docs", thread=card)
    await world.passes(480)

    assert sorted(world.news()) == sorted(
        [
            f"<@{world.alice.id}> ⚠️ Lost\n{GONE}",
            f"<@{world.bob.id}> {NOBODY}",
        ]
    )
    assert reactions(world, said.ts) == ["x"]
    world.leaves("#dev: card ⚠️ Lost")


async def test_a_reply_to_a_sleeping_conversation_deleted_meanwhile_is_given_back(world: Story) -> None:
    """It can't be woken any more: the run is lost, which is told, and the reply is not sent."""
    card = await working(world)
    world.openhands.fall_asleep(world.conversation)
    await world.passes(130)
    assert world.card().state == "Paused"
    world.openhands.vanish(world.conversation)
    said = await world.bob.says("go on", thread=card)
    await world.passes(480)

    assert world.card().state == "Lost"
    assert world.news()[-1] == f"<@{world.bob.id}> {NOBODY}"
    assert reactions(world, said.ts) == ["x"]


async def test_a_conversation_that_sleeps_on_is_not_woken_for_ever(world: Story) -> None:
    """OpenHands says yes and does nothing: after a while its author has the reply back."""
    card = await working(world)
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(8)
    world.openhands.fall_asleep(world.conversation)
    world.openhands.break_next("sandbox_resume", status=200, body={"success": True}, times=20)
    said = await world.bob.says("and the docs", thread=card)
    await world.passes(420)

    assert world.news()[1:] == [f"<@{world.bob.id}> {words.cannot_wake()}"]
    assert reactions(world, said.ts) == ["x"]
    world.leaves("#dev: card ✅ Done")


async def test_a_lost_reply_on_a_server_that_cannot_show_it_is_left_to_a_person_at_once(make_world: Make) -> None:
    """Where nothing can tell whether it arrived, waiting would not help."""
    world = await make_world(openhands={"api": "v0"})
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.break_next("send", drop=True)
    await world.alice.says("and the docs", thread=world.cards()[0])
    world.openhands.break_next("events", status=404, body={"detail": "Not Found"}, times=3)
    await world.passes(20)

    assert world.conversation.messages == ["fix README"]
    assert world.news() == [f"<@{world.alice.id}> {words.follow_up_unsure('and the docs')}"]
    world.leaves("#dev: card 🛠️ Working", "outbox: send")


# --- stops -------------------------------------------------------------------------------------------------------


async def test_a_stop_the_agent_server_does_not_take_pauses_the_sandbox(world: Story) -> None:
    """The address of the agent is out of reach: the app server is not, and it ends the work as well."""
    card = await working(world)
    world.openhands.break_next("interrupt", status=500)
    await world.bob.says("stop", thread=card)
    await world.passes(10)

    stopped = f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\n{stopped}"]
    assert world.conversation.sandbox_status == "PAUSED"
    world.leaves("#dev: card ⏹️ Stopped")


async def test_a_stop_openhands_does_not_know_is_tried_again(world: Story) -> None:
    """404 while a conversation comes up is no answer to a person."""
    card = await working(world)
    world.openhands.break_next("interrupt", status=404, body={"detail": "Not Found"}, times=2)
    await world.bob.says("stop", thread=card)
    await world.passes(20)

    stopped = f"Stopped by <@{world.bob.id}>. Reply here to continue."
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\n{stopped}"]
    world.leaves("#dev: card ⏹️ Stopped")


async def test_a_stop_openhands_refuses_is_said_and_the_run_goes_on(world: Story) -> None:
    """The card does not claim that a stop is on its way."""
    card = await working(world)
    world.openhands.break_next("interrupt", status=422, body={"detail": "no"})
    await world.bob.says("stop", thread=card)
    await world.passes(8)

    address = f"{world.openhands.base_url}/conversations/{world.conversation.id}"
    [told] = world.news()
    assert told.endswith(f"Stop it <{address}|in OpenHands>.")
    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))


# --- questions on the way ----------------------------------------------------------------------------------------


async def test_what_may_be_a_repository_is_asked_about_while_openhands_cannot_say(make_world: Make) -> None:
    """In doubt nothing starts in the default repository: the person knows, and is asked."""
    world = await make_world(default_repository="org/usual")
    world.openhands.down = True
    await world.alice.commands("fix the login of acme/web please", in_="#dev")
    world.openhands.down = False
    await world.passes(60)

    assert world.card().lines[0] == (
        "Should I work in `acme/web`? Press a button, or reply here with another `org/repo`."
    )
    assert starts(world) == []


async def test_a_lookup_answered_with_a_web_page_is_no_answer(world: Story) -> None:
    """A start whose answer was lost is looked for until the look is a real one."""
    world.openhands.break_next("start", drop=True, after=True)
    world.openhands.break_next("status", html=True, times=3)
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(30)

    assert world.card() == Card("Working", "fix README", (f"{asked_by(world)} · {SINCE}",))
    assert len(starts(world)) == 1


async def test_a_key_refused_while_a_run_works_is_on_its_card(world: Story) -> None:
    """Whoever looks knows what is wrong and who can mend it; the run goes on as soon as the key works again."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    world.openhands.key = "another"
    await world.passes(8)
    assert words.unreachable(START + timedelta(seconds=8), Obstacle.KEY) in world.card()
    world.openhands.key = "key"
    world.openhands.finish(world.conversation, "Fixed two links.")
    await world.passes(70)
    assert world.card().state == "Done"
    assert "refuses" not in str(world.card().lines)
    world.leaves("#dev: ✅ Done")
    world.logged("openhands.unreachable")
