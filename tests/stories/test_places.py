"""Whose thread it is: ours, people's, direct messages, groups."""

import pytest

from bot.core import words
from bot.simulator.slack.records import Message
from tests.conftest import Card, Make, Story
from tests.stories.shared import permalink, said_by

NONE_TO = "There's nothing of yours here to `{}`. `/openhands list` shows recent runs."


async def test_talk_among_people_is_none_of_our_business(world: Story) -> None:
    """Without a mention, outside our threads, nothing is answered and nothing written down."""
    said = await world.alice.says("please fix README in org/repo", in_="#dev")
    await world.bob.says("sure, I will", thread=said)
    await world.passes(4)

    assert world.posts("#dev") == []
    assert world.alice.sees() == world.bob.sees() == []
    assert world.kept() == []


async def test_every_reply_below_a_commands_card_steers(world: Story) -> None:
    """The card's thread is the run's: nobody needs to mention the bot there."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    [card] = world.cards()
    reply = await world.bob.says("and the licence too", thread=card)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.reactions(reply) == ["eyes"]


async def test_every_reply_below_a_request_steers(world: Story) -> None:
    """The thread of the mention that started the run is the run's as well."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.bob.says("and the licence too", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_mention_inside_a_reply_is_no_second_run(world: Story) -> None:
    """In the run's own thread a mention is a reply like any other, only politer."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.alice.says("@OpenHands and the licence too", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert len(world.cards()) == 1


async def test_a_reply_sent_to_the_channel_too_steers_once(world: Story) -> None:
    """A reply that is also sent to the channel is one message in two places, not two replies."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.slack.say(world.alice.id, asked.channel, "and the licence too", thread_ts=asked.ts, broadcast=True)
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_mention_in_peoples_thread_takes_along_what_they_said(world: Story) -> None:
    """The agent reads the talk before the mention; the card is a reply in that thread."""
    talk = await world.bob.says("the build of org/repo is red since noon", in_="#dev")
    await world.alice.says("looks like the new linter", thread=talk)
    asked = await world.alice.says("@OpenHands find out why in org/repo", thread=talk)
    await world.passes(4)

    [card] = world.cards()
    assert card.thread_ts == talk.ts
    assert world.card().task == "find out why"
    assert world.reactions(asked) == ["eyes"]
    assert world.conversation.messages == [
        (
            "find out why\n\n"
            f"{words.CAME_UP}\n"
            f"{said_by(world.bob, 'the build of org/repo is red since noon')}\n"
            f"{said_by(world.alice, 'looks like the new linter')}"
        )
    ]


async def test_of_a_long_talk_the_newest_goes_along(world: Story) -> None:
    """The last thirty messages at most: what was said just now matters, not how it began."""
    talk = await world.bob.says("the build is red", in_="#dev")
    for number in range(1, 206):
        await world.slack.say(world.bob.id, talk.channel, f"guess {number}", thread_ts=talk.ts)
    await world.alice.says("@OpenHands find out why in org/repo", thread=talk)
    await world.passes(4)

    [message] = world.conversation.messages
    said = message.split(f"{words.CAME_UP}\n")[1]
    assert said.split("\n") == [said_by(world.bob, f"guess {number}") for number in range(176, 206)]
    world.leaves("#dev: card 🛠️ Working")


async def test_of_a_message_too_long_the_beginning_goes_along(world: Story) -> None:
    """8,000 characters in all: a log pasted by the way must not keep everything from the agent."""
    talk = await world.bob.says("the build is red since friday", in_="#dev")
    await world.bob.says("x" * 8_100, thread=talk)
    await world.alice.says("it says disk full", thread=talk)
    await world.alice.says("@OpenHands find out why in org/repo", thread=talk)
    await world.passes(4)

    [message] = world.conversation.messages
    said = message.split(f"{words.CAME_UP}\n")[1]
    room = 8_000 - len("it says disk full") - len("…")
    assert said == f"{said_by(world.bob, 'x' * room + '…')}\n{said_by(world.alice, 'it says disk full')}"
    world.leaves("#dev: card 🛠️ Working")


async def test_in_peoples_thread_only_mentions_steer(world: Story) -> None:
    """They were talking before the bot came, and go on talking, which a mention takes along as a quotation."""
    talk = await world.bob.says("the build is red", in_="#dev")
    await world.alice.says("@OpenHands find out why in org/repo", thread=talk)
    await world.passes(4)
    chat = await world.bob.says("lunch first?", thread=talk)
    steer = await world.bob.says("@OpenHands look at the linter", thread=talk)
    await world.passes(4)

    said = said_by(world.bob, "lunch first?")
    assert world.conversation.messages[1:] == [f"look at the linter\n\n{words.SINCE_THEN}\n{said}"]
    assert world.reactions(chat) == []
    assert world.reactions(steer) == ["eyes"]
    assert len(world.cards()) == 1


async def test_words_of_a_people_thread_do_not_reach_the_card(world: Story) -> None:
    """What goes along for the agent was not said to the bot: the card shows the task, and how much went along."""
    talk = await world.bob.says("the build is red", in_="#dev")
    await world.alice.says("@OpenHands find out why in org/repo", thread=talk)
    await world.passes(4)

    assert world.card() == Card(
        "Working",
        "find out why",
        (
            "1 earlier message went along. To leave it out, begin with `only:`.",
            f"Asked by <@{world.alice.id}> · `org/repo` · since <!date^1772442000^{{date_short_pretty}} {{time}}|2 Mar 09:00 UTC>",
        ),
    )


async def test_aside_is_people_talking(world: Story) -> None:
    """In our thread a reply that begins with `aside:` is left alone, which only its author is told."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    aside = await world.bob.says("aside: do we still need that file?", thread=asked)
    await world.passes(4)

    assert world.conversation.messages == ["fix README"]
    assert world.reactions(aside) == []
    assert world.bob.sees() == [words.kept_among_people()]
    assert world.news() == []
    world.leaves("#dev: card 🛠️ Working")


async def test_a_direct_message_starts_a_run(world: Story) -> None:
    """No mention needed there; the card answers in the message's thread, and the end is told there."""
    asked = await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    world.openhands.finish(world.conversation, "Fixed it.")
    await world.passes(4)

    here = asked.channel
    [card] = world.cards(here)
    assert card.thread_ts == asked.ts
    assert world.card(here).state == "Done"
    assert world.news(here) == [f"<@{world.alice.id}> ✅ Done\nFixed it."]
    assert world.reactions(asked) == ["eyes", "white_check_mark"]
    assert world.posts("#dev") == []


async def test_a_command_in_direct_messages_is_a_run_like_any_other(world: Story) -> None:
    """The card is the root there; its replies steer."""
    here = world.slack.dm(world.alice.id)
    await world.alice.commands("fix README in org/repo", in_=here)
    await world.passes(4)
    [card] = world.cards(here)
    await world.alice.says("and the licence too", thread=card)
    await world.passes(4)

    assert card.thread_ts is None
    assert world.conversation.messages == ["fix README", "and the licence too"]


async def test_a_direct_message_without_a_repository_goes_to_the_only_live_run(world: Story) -> None:
    """People do not open threads in direct messages: what names no repository belongs to what runs."""
    asked = await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    more = await world.alice.says("and the licence too", in_="dm")
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "and the licence too"]
    assert world.reactions(more) == ["eyes"]
    assert len(world.cards(asked.channel)) == 1


async def test_a_direct_message_with_a_slash_goes_to_the_only_live_run(make_world: Make) -> None:
    """`client/server` is a way of writing: nobody's repository, so it names none."""
    world = await make_world(openhands={"repositories": ["org/repo"]})
    asked = await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    await world.alice.says("please use the client/server wording", in_="dm")
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "please use the client/server wording"]
    assert len(world.cards(asked.channel)) == 1


def read_state(card: Message) -> str:
    return card.text.splitlines()[0]


async def failed(world: Story, task: str = "fix README in org/repo", *, in_: str = "dm") -> str:
    """Have a run of alice's fail to start, and give the place it is in."""
    world.openhands.fail_next_start("boom")
    asked = await world.alice.says(task, in_=in_)
    await world.passes(40)
    return asked.channel


async def test_again_in_direct_messages_starts_the_only_failed_run_anew(world: Story) -> None:
    """The bot said to reply `again`, and people open no threads there; their other runs have nothing to decide."""
    await world.alice.says("fix LICENSE in org/other", in_="dm")
    await world.passes(4)
    here = await failed(world)
    await world.alice.says("again", in_="dm")
    await world.passes(6)

    assert [read_state(card) for card in world.cards(here)] == ["*🛠️ Working*", "*🛠️ Working*"]
    assert world.news(here)[-1] == words.taken(permalink(world, world.cards(here)[-1]))
    assert [one.messages for one in world.openhands.conversations.values()][-1] == ["fix README"]
    world.leaves("dm: eyes, x on a message")
    world.logged("run.changed")


async def test_a_decision_as_a_command_is_for_the_only_run_that_can_take_it(world: Story) -> None:
    """`/openhands again` is no task called "again": no new card is promised, and only the person is answered."""
    here = await failed(world)
    await world.alice.commands("again", in_=here)
    await world.passes(6)

    assert world.alice.sees() == [words.taken(permalink(world, world.cards(here)[0]))]
    assert world.card(here).state == "Working"
    world.leaves("dm: eyes, x on a message", "dm: ❌ Failed")
    world.logged("run.changed")


async def test_leave_it_in_direct_messages_is_for_the_message_that_was_asked_about(world: Story) -> None:
    """The question is the run's, and it is the only one that waits for an answer."""
    asked = await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    world.openhands.break_next("send", status=502)
    world.openhands.break_next("events", status=500, times=1_000)
    await world.alice.says("and the docs", in_="dm")
    await world.passes(700)
    assert words.follow_up_unsure("and the docs") in world.news(asked.channel)[-1]
    await world.alice.says("leave it", in_="dm")
    await world.passes(4)

    assert world.news(asked.channel)[-1] == "All right, I leave it as it is."
    assert world.conversation.messages == ["fix README"]
    world.leaves("dm: card 🛠️ Working")


async def test_again_is_not_guessed_at_with_two_failed_runs(world: Story) -> None:
    """Nothing starts; the answer links the threads it could be meant for, the newest first."""
    here = await failed(world)
    await failed(world, "fix LICENSE in org/other")
    await world.alice.says("again", in_="dm")
    await world.passes(6)

    head, *listed = world.news(here)[-1].split("\n")
    assert head == "Several of your runs here can take that. Reply `again` in the thread of the one you mean:"
    assert [line.partition("|")[2].partition(",")[0] for line in listed] == [
        "fix LICENSE> in `org/other`",
        "fix README> in `org/repo`",
    ]
    assert [read_state(card) for card in world.cards(here)] == ["*❌ Failed*", "*❌ Failed*"]
    world.leaves("dm: eyes, x on a message", "dm: eyes, x on a message")
    world.logged("run.changed")


async def test_again_in_a_channel_is_for_a_run_of_ones_own(world: Story) -> None:
    """Outside of a thread a word means the person's only run that can take it; others' runs are not meant."""
    await failed(world, "@OpenHands fix README in org/repo", in_="#dev")
    await world.bob.commands("again", in_="#dev")
    await world.passes(6)
    assert world.bob.sees() == [NONE_TO.format("again")]
    assert world.card().state == "Failed"

    await world.alice.says("@OpenHands again", in_="#dev")
    await world.passes(6)
    assert world.alice.sees() == [words.taken(permalink(world, world.cards()[0]))]
    assert world.card().state == "Working"
    world.leaves("#dev: eyes, x on a message", "#dev: ❌ Failed")
    world.logged("run.changed")


@pytest.mark.parametrize(("word", "read"), [("again", "again"), ("Retry!", "retry"), ("leave it", "leave it")])
async def test_a_decision_alone_never_becomes_a_task(world: Story, word: str, read: str) -> None:
    """Where nothing waits for it, a sentence says so, and what to do instead."""
    asked = await world.alice.says(word, in_="dm")
    await world.passes(4)

    assert [one.text for one in world.posts(asked.channel)] == [NONE_TO.format(read)]


async def test_with_nothing_to_decide_again_is_for_the_agent_of_the_only_live_run(world: Story) -> None:
    """As in that run's thread: the agent may have asked whether to try again."""
    await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    await world.alice.says("try again", in_="dm")
    await world.passes(4)

    assert world.conversation.messages == ["fix README", "try again"]
    world.leaves("dm: card 🛠️ Working")


async def test_a_direct_message_with_a_repository_is_a_new_run(world: Story) -> None:
    """Whoever names a repository means a new task, whatever else runs."""
    asked = await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    await world.alice.says("fix README in org/other", in_="dm")
    await world.passes(6)

    assert [one.repository for one in world.openhands.conversations.values()] == ["org/repo", "org/other"]
    assert len(world.cards(asked.channel)) == 2


async def test_with_two_live_runs_a_direct_message_is_not_guessed_at(world: Story) -> None:
    """It could be meant for either, so it is a request of its own, and asks for its repository."""
    asked = await world.alice.says("fix README in org/repo", in_="dm")
    await world.alice.says("fix README in org/other", in_="dm")
    await world.passes(6)
    await world.alice.says("and the licence too", in_="dm")
    await world.passes(4)

    assert [one.messages for one in world.openhands.conversations.values()] == [["fix README"], ["fix README"]]
    assert [card.text.splitlines()[0] for card in world.cards(asked.channel)] == [
        "*🛠️ Working*",
        "*🛠️ Working*",
        "*❔ Which repository?*",
    ]


async def test_direct_messages_of_two_people_do_not_mix(world: Story) -> None:
    """One person's live run is no place for another's words."""
    hers = await world.alice.says("fix README in org/repo", in_="dm")
    await world.passes(4)
    his = await world.bob.says("and the licence too", in_="dm")
    await world.passes(4)

    assert world.conversation.messages == ["fix README"]
    assert world.card(hers.channel).state == "Working"
    assert world.card(his.channel).state == "Which repository?"


async def test_a_group_direct_message_behaves_like_a_channel(world: Story) -> None:
    """Several people talk there: only a mention is for the bot, then the thread is the run's."""
    group = world.slack.group_dm([world.alice.id, world.bob.id])
    await world.alice.says("shall we fix the README in org/repo?", in_=group)
    asked = await world.bob.says("@OpenHands fix README in org/repo", in_=group)
    await world.passes(4)
    await world.alice.says("and the licence too", thread=asked)
    await world.passes(4)

    [card] = world.cards(group)
    assert card.thread_ts == asked.ts
    assert world.conversation.messages == ["fix README", "and the licence too"]


async def test_what_is_edited_or_deleted_later_starts_nothing(world: Story) -> None:
    """The agent has read it already; an edit is no new request, as its author hears, and a deletion takes nothing back."""
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.slack.edit(
        world.alice.id, asked.channel, asked.ts, world.slack.wire("@OpenHands fix LICENSE in org/repo")
    )
    await world.slack.delete(world.alice.id, asked.channel, asked.ts)
    await world.passes(4)

    assert world.conversation.messages == ["fix README"]
    assert len(world.cards()) == 1
    assert len(world.alice.sees()) == 1
