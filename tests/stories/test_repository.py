"""Which repository: typed, linked, the thread's, the default, or asked for."""

import pytest

from bot.core import words
from bot.simulator.slack.records import Message
from tests.conftest import Make, Story
from tests.core.runs import a_run

WHICH = words.which_repository(a_run())


def facts(card: Message) -> str:
    """Return the card's last line but for its times."""
    return " · ".join(part for part in card.text.splitlines()[-1].split(" · ") if not part.startswith("since "))


@pytest.mark.parametrize(
    ("typed", "task", "branch"),
    [
        ("fix README in org/repo@dev", "fix README", "dev"),
        ("org/repo: fix README", "fix README", None),
        ("--repo org/repo --branch dev fix README", "fix README", "dev"),
    ],
)
async def test_a_stated_repository_is_cut_out_of_the_task(
    world: Story, typed: str, task: str, branch: str | None
) -> None:
    """The agent gets the task; repository and branch go where OpenHands has fields for them, and on the card."""
    await world.alice.commands(typed, in_="#dev")
    await world.passes(4)

    conversation = world.conversation
    assert (conversation.messages, conversation.repository, conversation.branch) == ([task], "org/repo", branch)
    [card] = world.cards()
    shown = f" · branch `{branch}`" if branch else ""
    assert facts(card) == f"Asked by <@{world.alice.id}> · `org/repo`{shown}"


async def test_a_repository_in_a_link_leaves_the_task_whole(world: Story) -> None:
    """The link says what to do as well; the card says that the repository was taken from it."""
    await world.alice.commands("fix https://github.com/org/repo/issues/12", in_="#dev")
    await world.passes(4)

    assert world.conversation.messages == ["fix https://github.com/org/repo/issues/12"]
    [card] = world.cards()
    assert facts(card) == f"Asked by <@{world.alice.id}> · `org/repo` (from the link)"


async def test_a_link_as_slack_writes_it_is_read_as_it_was_typed(world: Story) -> None:
    """In messages Slack wraps links, and makes some of what only looks like one."""
    await world.slack.say(
        world.alice.id,
        world.place("#dev"),
        f"<@{world.slack.bot_user_id}> fix <http://README.md|README.md> as in "
        "<https://github.com/org/repo/issues/12> &amp; tests",
    )
    await world.passes(4)

    assert world.conversation.messages == ["fix README.md as in https://github.com/org/repo/issues/12 & tests"]
    assert world.conversation.repository == "org/repo"
    world.leaves("#dev: card 🛠️ Working")


async def test_the_model_is_chosen_by_name(world: Story) -> None:
    """A model that was asked for is used, and shown."""
    await world.alice.commands("[repo=org/repo model=anthropic/claude-opus-4-5] fix README", in_="#dev")
    await world.passes(4)

    assert world.conversation.model == "anthropic/claude-opus-4-5"
    [card] = world.cards()
    assert facts(card) == f"Asked by <@{world.alice.id}> · `org/repo` · model `anthropic/claude-opus-4-5`"


async def test_the_repository_of_the_thread_is_used_before_the_default(make_world: Make) -> None:
    """What people talked about in their thread is meant, and the card says why."""
    world = await make_world(default_repository="org/usual")
    talk = await world.bob.says("CI is red: https://github.com/org/repo/actions/runs/1", in_="#dev")
    await world.alice.says("@OpenHands find out why", thread=talk)
    await world.passes(4)

    assert world.conversation.repository == "org/repo"
    [card] = world.cards()
    assert facts(card) == f"Asked by <@{world.alice.id}> · `org/repo` (from this thread)"


async def test_the_default_repository_is_used_where_none_is_named(make_world: Make) -> None:
    """An operator's DEFAULT_REPOSITORY, and the card says that it is one."""
    world = await make_world(default_repository="org/usual")
    await world.alice.commands("why is the build slow?", in_="#dev")
    await world.passes(4)

    assert world.conversation.repository == "org/usual"
    [card] = world.cards()
    assert facts(card) == f"Asked by <@{world.alice.id}> · `org/usual` (default)"


async def test_without_a_repository_the_card_asks(world: Story) -> None:
    """Nothing starts on a guess; the question is the card itself, and no second message repeats it."""
    await world.alice.commands("why is the build slow?", in_="#dev")
    await world.passes(10)

    assert world.card().state == "Which repository?"
    assert world.card().lines[0] == WHICH
    assert world.news() == []
    assert len(world.openhands.conversations) == 0


async def test_a_reply_with_a_repository_answers_the_question(world: Story) -> None:
    """The run starts with the task it had."""
    await world.alice.commands("why is the build slow?", in_="#dev")
    [card] = world.cards()
    await world.alice.says("org/repo", thread=card)
    await world.passes(6)

    assert (world.conversation.messages, world.conversation.repository) == (["why is the build slow?"], "org/repo")
    [card] = world.cards()
    assert card.text.splitlines()[0] == "*🛠️ Working*"
    assert facts(card) == f"Asked by <@{world.alice.id}> · `org/repo` (chosen here)"
    assert world.news() == []


async def test_the_answer_may_name_a_branch(world: Story) -> None:
    """As in a request."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.alice.says("org/repo on branch dev", thread=asked)
    await world.passes(6)

    assert (world.conversation.repository, world.conversation.branch) == ("org/repo", "dev")
    world.leaves("#dev: card 🛠️ Working")


async def test_the_answer_may_be_that_none_is_needed(world: Story) -> None:
    """Not every task has a repository."""
    asked = await world.alice.says("@OpenHands what is a monad?")
    await world.alice.says("none", thread=asked)
    await world.passes(6)

    assert (world.conversation.messages, world.conversation.repository) == (["what is a monad?"], None)
    [card] = world.cards()
    assert facts(card) == f"Asked by <@{world.alice.id}> · no repository"


async def test_anybody_may_answer_the_question(world: Story) -> None:
    """Whoever knows, answers; the run stays the requester's."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.bob.says("org/repo", thread=asked)
    await world.passes(6)

    assert world.conversation.repository == "org/repo"
    [card] = world.cards()
    assert facts(card) == f"Asked by <@{world.alice.id}> · `org/repo` (chosen here)"


async def test_an_unreadable_answer_is_said_to_be_one(world: Story) -> None:
    """The question stays, and the sentence says what would be an answer."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.alice.says("the usual one", thread=asked)
    await world.passes(6)

    assert world.card().state == "Which repository?"
    assert world.news() == [words.not_a_repository(a_run())]
    assert len(world.openhands.conversations) == 0


async def test_two_repositories_are_asked_about_by_name(world: Story) -> None:
    """Both are in the question, and either is an answer."""
    asked = await world.alice.says("@OpenHands compare org/a with org/b")
    assert world.card().lines[0] == words.which_repository(a_run(candidates=("org/a", "org/b")))

    await world.alice.says("org/b", thread=asked)
    await world.passes(6)

    assert (world.conversation.messages, world.conversation.repository) == (["compare org/a with org/b"], "org/b")
    world.leaves("#dev: card 🛠️ Working")


async def test_what_may_be_a_repository_is_asked_about_if_openhands_lists_it(make_world: Make) -> None:
    """`org/repo` in passing: the bot looks it up, and asks rather than guesses."""
    world = await make_world(openhands={"repositories": ["org/repo"]})
    await world.alice.commands("compare org/repo with its fork", in_="#dev")
    await world.passes(2)

    assert world.card().lines[0] == words.which_repository(a_run(candidates=("org/repo",)))


async def test_what_only_looks_like_a_repository_is_not_asked_about(make_world: Make) -> None:
    """`client/server` is nobody's repository, so the default is used."""
    world = await make_world(openhands={"repositories": ["org/usual"]}, default_repository="org/usual")
    await world.alice.commands("explain the client/server split", in_="#dev")
    await world.passes(4)

    assert world.conversation.repository == "org/usual"
    assert world.conversation.messages == ["explain the client/server split"]
    world.leaves("#dev: card 🛠️ Working")


async def test_the_question_survives_a_restart_and_does_not_expire(world: Story) -> None:
    """A long weekend and a new process later the answer still starts the run."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.stops()
    world.clock.move(world.clock.now().replace(day=6))
    await world.starts()
    assert world.card().state == "Which repository?"

    await world.alice.says("org/repo", thread=asked)
    await world.passes(10)

    assert (world.conversation.messages, world.conversation.repository) == (["why is the build slow?"], "org/repo")
    assert world.card().state == "Working"
    assert len(world.cards()) == 1


async def test_an_answer_in_direct_messages_needs_no_thread(world: Story) -> None:
    """People answer where they write; with one run asking there is no doubt which is meant."""
    asked = await world.alice.says("why is the build slow?", in_="dm")
    await world.alice.says("org/repo", in_="dm")
    await world.passes(6)

    assert (world.conversation.messages, world.conversation.repository) == (["why is the build slow?"], "org/repo")
    assert len(world.cards(asked.channel)) == 1


async def test_a_second_answer_is_a_follow_up(world: Story) -> None:
    """The first answer counts; what comes later is for the agent, who can tell what is meant."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.alice.says("org/repo", thread=asked)
    await world.bob.says("org/other", thread=asked)
    await world.passes(6)

    assert world.conversation.repository == "org/repo"
    assert world.conversation.messages == ["why is the build slow?", "org/other"]
    world.leaves("#dev: card 🛠️ Working")


async def test_a_run_that_asks_can_be_stopped(world: Story) -> None:
    """Nothing was started, so nothing has to be interrupted; the card says who called it off."""
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.bob.says("stop", thread=asked)
    await world.passes(6)

    assert world.card().state == "Cancelled"
    assert world.card().lines[0] == f"Cancelled by <@{world.bob.id}> before anything was started."
    assert len(world.openhands.conversations) == 0


async def test_a_repository_that_does_not_exist_is_said_to_be_so(make_world: Make) -> None:
    """OpenHands finds out only while it starts: the run has failed, with what to check and how to go on."""
    world = await make_world(openhands={"repositories": ["org/repo"], "start_seconds": 10}, notify_channel="#news")
    asked = await world.alice.says("@OpenHands fix README in org/nothing")
    await world.passes(12)

    why = (
        "OpenHands could not open `org/nothing`: is the name right, and has OpenHands access to it, by a git provider "
        "connected there or a git login on its server? Press Retry to start over."
    )
    assert world.card().state == "Failed"
    assert world.card().lines[0] == why
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why}"]
    assert world.reactions(asked) == ["eyes", "x"]
    [line] = world.news("#news")
    assert line.startswith(f"❌ Failed: fix README, asked by <@{world.alice.id}> · `org/nothing` · ")
    world.logged("run.changed")


async def test_again_tries_a_failed_start_anew(make_world: Make) -> None:
    """Once access is given, one word is enough; it is a new conversation of the same run and card."""
    world = await make_world(openhands={"repositories": []})
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(6)
    assert world.card().state == "Failed"

    world.openhands.repositories = frozenset({"org/repo"})
    await world.alice.says("again", thread=asked)
    await world.passes(6)

    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README"]
    assert len(world.cards()) == 1
    world.leaves("#dev: eyes, x on a message", "#dev: ❌ Failed")
    world.logged("run.changed")
