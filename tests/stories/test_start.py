"""How a run begins: a command, a mention, and what the card shows of it."""

import pytest

from bot.core import words
from tests.conftest import Card, Make, Story
from tests.stories.shared import ON_IT


async def test_a_command_becomes_a_run_told_to_its_end(world: Story) -> None:
    """The sentence the product is for."""
    asked = await world.alice.commands("fix README in org/repo", in_="#dev")
    assert asked.ack_text == ON_IT
    assert world.card().state == "Starting"
    await world.passes(4)
    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README"]
    assert world.conversation.repository == "org/repo"

    world.openhands.finish(world.conversation, "Fixed **two** links in https://github.com/org/repo/pull/3", cost=0.12)
    await world.passes(4)

    assert world.card() == Card(
        "Done",
        "fix README",
        (
            "Fixed two links in https://github.com/org/repo/pull/3",
            "Pull requests: <https://github.com/org/repo/pull/3|org/repo #3>",
            f"Asked by <@{world.alice.id}> · `org/repo` · took 6 s · $0.12",
        ),
    )
    assert world.news() == [
        (
            f"<@{world.alice.id}> ✅ Done\n"
            "Fixed two links in https://github.com/org/repo/pull/3\n"
            "Pull requests: <https://github.com/org/repo/pull/3|org/repo #3>"
        )
    ]
    [line] = world.news("#news")
    pull_request = "<https://github.com/org/repo/pull/3|org/repo #3>"
    assert line.startswith(f"✅ Done: fix README · {pull_request} · for <@{world.alice.id}> · 6 s · <https://")


async def test_a_commands_card_opens_the_runs_thread(world: Story) -> None:
    """A command is no message, so the card is the root; all else of the run stands below it."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Done.")
    await world.passes(4)

    [card] = world.cards()
    told = [one for one in world.posts("#dev") if one.ts != card.ts]
    assert card.thread_ts is None
    assert [(one.thread_ts, one.mentions, one.broadcasts) for one in told] == [
        (card.ts, frozenset({world.alice.id}), frozenset())
    ]


async def test_a_card_links_to_the_conversation_once_there_is_one(world: Story) -> None:
    """Open leads to the conversation's page; before the conversation exists there is nothing to open."""
    world.openhands.start_seconds = 20
    await world.alice.commands("fix README in org/repo", in_="#dev")
    [starting] = world.cards()
    assert [one["action_id"] for one in starting.blocks[-1]["elements"]] == ["stop"]

    await world.passes(30)

    [working] = world.cards()
    [button, _stop] = working.blocks[-1]["elements"]
    assert (button["text"]["text"], button["url"]) == (
        "Open in OpenHands",
        f"{world.openhands.base_url}/conversations/{world.conversation.id}",
    )


async def test_the_agent_is_told_where_the_work_came_from(world: Story) -> None:
    """Beside the task, not in it: who asked, and the thread's address for the pull request's text."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)

    [card] = world.cards()
    thread = f"{world.slack.workspace_url}archives/{card.channel}/p{card.ts.replace('.', '')}"
    assert world.conversation.suffix == words.about_for_agent("alice", thread)


async def test_the_card_shows_what_the_agent_is_doing(world: Story) -> None:
    """The last line of progress, and what it cost so far; a person need not look, so no new message."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.conversation.cost = 0.07
    world.openhands.progress(world.conversation, "Reading the README")
    await world.passes(6)

    assert world.card() == Card(
        "Working",
        "fix README",
        (
            "_Reading the README_",
            f"Asked by <@{world.alice.id}> · `org/repo` · since <!date^1772442000^{{date_short_pretty}} {{time}}|2 Mar 09:00 UTC> · $0.07",
        ),
    )
    assert world.news() == []


async def test_pull_requests_are_shown_each_once(world: Story) -> None:
    """Those the agent names as links; those OpenHands knows by number only, of no provider it names, as text."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.finish(world.conversation, "See https://github.com/org/other/pull/9 and #7", pr=[7])
    await world.passes(4)

    links = "Pull requests: org/repo #7, <https://github.com/org/other/pull/9|org/other #9>"
    assert world.card().lines[1] == links
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nSee https://github.com/org/other/pull/9 and #7\n{links}"]


async def test_a_mention_starts_a_run_in_the_thread_it_opens(world: Story) -> None:
    """The request is the thread's root, the card its first reply; the request shows how it went."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    assert world.reactions(asked) == ["eyes"]
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)

    [card] = world.cards()
    assert card.thread_ts == asked.ts
    assert world.card().state == "Done"
    assert world.conversation.messages == ["fix README"]
    assert world.reactions(asked) == ["eyes", "white_check_mark"]
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    assert world.alice.sees() == []


@pytest.mark.parametrize("mention_first", [True, False], ids=["app_mention first", "message first"])
async def test_the_two_events_of_a_mention_are_one_request(world: Story, *, mention_first: bool) -> None:
    """Slack sends a mention as two events, in either order, and both again when an ack got lost."""
    text = world.slack.wire("@OpenHands fix README in org/repo")
    ts = await world.slack.say(world.alice.id, world.place("#dev"), text, mention_first=mention_first)
    await world.settles()
    await world.slack.redeliver(ts)
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)
    await world.slack.redeliver(ts)
    await world.passes(4)

    assert len(world.cards()) == 1
    assert len(world.openhands.conversations) == 1
    assert world.news() == [f"<@{world.alice.id}> ✅ Done\nFixed it."]


async def test_a_mention_delivered_again_after_a_restart_is_still_one_request(world: Story) -> None:
    """What was seen is remembered in the database, not in the process."""
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.restarts()
    await world.slack.redeliver(asked.ts)
    await world.passes(4)

    assert len(world.cards()) == 1
    assert len(world.openhands.conversations) == 1


async def test_a_mention_may_stand_anywhere_in_the_text(world: Story) -> None:
    """People greet, and mention us in the middle; only our own mention is taken out of the task."""
    await world.alice.says("hey @OpenHands fix the typo that @bob saw in org/repo")
    await world.passes(4)

    assert world.conversation.messages == [f"hey fix the typo that <@{world.bob.id}> saw"]
    [card] = world.cards()
    assert card.mentions == {world.alice.id}


async def test_each_command_is_a_run_of_its_own(world: Story) -> None:
    """The same words twice are two requests: only Slack's own repeats are one."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.bob.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)

    assert [card.text.splitlines()[-1].split(" · ")[0] for card in world.cards()] == [
        f"Asked by <@{world.alice.id}>",
        f"Asked by <@{world.bob.id}>",
    ]
    assert [one.messages for one in world.openhands.conversations.values()] == [["fix README"], ["fix README"]]


async def test_where_the_bot_is_not_invited_nothing_is_started(world: Story) -> None:
    """A run without a card could not be followed: one sentence with the way out, to the person alone."""
    world.channel("#elsewhere", world.alice, bot_member=False)
    await world.alice.commands("fix README in org/repo", in_="#elsewhere")
    await world.passes(10)

    assert world.alice.sees() == [
        ON_IT,
        words.invite(),
    ]
    assert world.posts("#elsewhere") == []
    assert len(world.openhands.conversations) == 0
    world.logged("slack.refused")


async def test_in_a_private_channel_the_bot_cannot_see_nothing_is_started(world: Story) -> None:
    """Slack hides private channels from those outside; the sentence is the same, and no word leaves the channel."""
    world.channel("#secret", world.alice, private=True, bot_member=False)
    await world.alice.commands("fix README in org/repo", in_="#secret")
    await world.passes(10)

    assert world.alice.sees()[1:] == [words.invite()]
    assert world.posts("#news") == []
    assert len(world.openhands.conversations) == 0
    world.logged("slack.refused")


async def test_after_the_invitation_the_same_command_works(world: Story) -> None:
    """What was refused for want of an invitation needs nothing but that."""
    place = world.channel("#elsewhere", world.alice, bot_member=False)
    await world.alice.commands("fix README in org/repo", in_="#elsewhere")
    await world.passes(10)
    world.slack.join(place, world.slack.bot_user_id)
    await world.alice.commands("fix README in org/repo", in_="#elsewhere")
    await world.passes(4)

    assert world.card("#elsewhere").state == "Working"
    assert len(world.openhands.conversations) == 1
    world.leaves("alice alone: I can't post here")
    world.logged("slack.refused")


async def test_links_lead_where_people_open_openhands(make_world: Make) -> None:
    """The bot may reach it by an address that only machines know; cards and sentences name the other one."""
    world = await make_world(openhands_public_url="https://openhands.example/")
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed.")
    await world.passes(8)
    address = f"https://openhands.example/conversations/{world.conversation.id}"
    [card, told] = world.posts("#dev")
    assert address in str(card.blocks)
    assert address in str(told.blocks)
