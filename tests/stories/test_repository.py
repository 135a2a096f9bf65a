"""Which repository: typed, linked, the thread's, the default, or asked for."""

from dataclasses import replace

import pytest

from bot.core import words
from bot.core.model import Reason, RunState
from bot.inbound.dispatcher import WIDTH
from bot.simulator.slack.records import Message
from tests.conftest import HURRY, Make, Story, until
from tests.core.runs import a_run
from tests.watch import open_rows

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


ACCOUNT = {"repositories": ["org/repo", "org/other"]}


@pytest.mark.parametrize(
    ("wire", "task", "repository", "why"),
    [
        ("fix the build in org/repo and add tests", None, "org/repo", "from your words"),
        ("org/repo fix README", None, "org/repo", "from your words"),
        ("<https://github.com/org/repo>のREADMEを直して", "https://github.com/org/repo のREADMEを直して", "org/repo", "from the link"),
        ("fix README in `org/repo`", "fix README", "org/repo", ""),
        ("--repo “org/repo” fix README", "fix README", "org/repo", ""),
        ("fix <https://git.acme.com/org/repo/issues/12|the login bug>", "fix the login bug (https://git.acme.com/org/repo/issues/12)", "org/repo", "from the link"),
        ("add and/or tests for client/server", None, "org/other", "default"),
    ],
)  # fmt: skip
async def test_what_people_send_starts_where_they_mean(
    make_world: Make, wire: str, task: str | None, repository: str, why: str
) -> None:
    """As Slack sends it, with a default that must not win over what was said."""
    world = await make_world(openhands=ACCOUNT, default_repository="org/other")
    await world.slack.say(world.alice.id, world.place("#dev"), f"<@{world.slack.bot_user_id}> {wire}")
    await world.passes(4)

    assert world.conversation.messages == [task or wire]
    assert world.conversation.repository == repository
    [card] = world.cards()
    assert facts(card) == f"Asked by <@{world.alice.id}> · `{repository}`" + (f" ({why})" if why else "")


@pytest.mark.parametrize(
    ("text", "named", "suggested"),
    [
        ("fix the build in vercel/next.js", "vercel/next.js", "org/other"),
        ("fix README in docs/website", "docs/website", "org/other"),
        ("fix README in org/rebo", "org/rebo", "org/repo"),
    ],
)
async def test_what_the_account_does_not_have_is_asked_about(
    make_world: Make, text: str, named: str, suggested: str
) -> None:
    """Nothing starts in the default in silence; a yes takes what is suggested."""
    world = await make_world(openhands=ACCOUNT, default_repository="org/other")
    asked = await world.alice.says(f"@OpenHands {text}")
    asking = a_run(RunState.NEEDS_REPOSITORY, repository=named, candidates=(suggested,), reason=Reason.UNLISTED)
    assert world.card().lines[0] == words.which_repository(asking)

    await world.alice.says("yes please", thread=asked)
    await world.passes(4)

    assert world.conversation.repository == suggested
    world.leaves("#dev: card 🛠️ Working")


async def test_a_new_repository_is_found_before_the_list_is_read_again(make_world: Make) -> None:
    """What is not in the list is looked up by its name; a while later it is in the list."""
    world = await make_world(openhands=ACCOUNT)
    world.openhands.repositories = frozenset({"org/repo", "org/new"})
    await world.alice.commands("fix README in org/new", in_="#dev")
    await world.passes(4)

    assert world.conversation.repository == "org/new"
    world.leaves("#dev: card 🛠️ Working")


async def test_look_ups_that_hang_hold_up_nothing_else(make_world: Make) -> None:
    """OpenHands takes calls and never answers: `help`, `stop` and clicks are handled meanwhile."""
    world = await make_world(openhands=ACCOUNT, patience=replace(HURRY, lookup_s=60, drain_s=0.1))
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.alice.commands("fix README in org/other", in_="#dev")
    await world.passes(4)
    for kind in ("repositories", "other"):
        world.openhands.break_next(kind, hang_s=60, times=1000)
    dev, alice, bob = world.place("#dev"), world.alice.id, world.bob.id
    cards = world.cards()
    for number in range(WIDTH + 1):
        await world.slack.command(bob, dev, f"fix README in org/new-{number}, in org/newer and org/newest")
    await world.slack.command(alice, dev, "help")
    await world.slack.say(alice, dev, "stop", thread_ts=asked.ts)
    await world.slack.click(alice, dev, cards[1].ts, "stop")
    await until(lambda: words.help_text() in world.alice.sees() and requests_open(world) == WIDTH + 1)

    await world.stops()
    assert len(world.cards()) == 2
    world.leaves(*["inbox: request"] * (WIDTH + 1), *["outbox: stop"] * 2)


def requests_open(world: Story) -> int:
    return sum(one.short == "inbox: request" for one in open_rows(world.database))


async def test_a_repository_that_was_used_here_counts_as_known(world: Story) -> None:
    """A server that lists nothing does not make the bot ask for what ran here minutes ago."""
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.alice.commands("fix the build in org/repo and add tests", in_="#dev")
    await world.passes(4)

    _, second = world.cards()
    assert facts(second) == f"Asked by <@{world.alice.id}> · `org/repo` (from your words)"


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


def unopened(repository: str, *near: str) -> str:
    """Return the question about a repository that could not be opened."""
    asking = a_run(RunState.NEEDS_REPOSITORY, repository=repository, candidates=near, reason=Reason.REPOSITORY)
    return words.which_repository(asking)


async def test_a_repository_that_cannot_be_opened_is_asked_about(make_world: Make) -> None:
    """OpenHands finds out only while it starts: the question comes back with names alike, and an answer starts it."""
    account = {"repositories": ["org/repo", "org/rebo"], "closed": ["org/rebo"], "start_seconds": 10}
    world = await make_world(openhands=account, notify_channel="#news")
    asked = await world.alice.says("@OpenHands fix README in org/rebo")
    await world.passes(12)

    question = unopened("org/rebo", "org/repo")
    assert world.card().state == "Which repository?"
    assert world.card().lines[0] == question
    assert world.news() == [f"<@{world.alice.id}> ❔ Which repository?\n{question}"]
    assert world.reactions(asked) == ["eyes"]
    assert world.news("#news") == []

    await world.alice.says("sorry, I meant org/repo", thread=asked)
    await world.passes(14)

    assert world.card().state == "Working"
    assert (world.conversation.messages, world.conversation.repository) == (["fix README"], "org/repo")
    assert len(world.cards()) == 1


async def test_again_tries_a_failed_start_anew(make_world: Make) -> None:
    """Once access is given, one word is enough; it is a new conversation of the same run and card."""
    world = await make_world(openhands={"repositories": []})
    asked = await world.alice.says("@OpenHands fix README in org/repo")
    await world.passes(6)
    assert world.card().state == "Which repository?"
    assert world.news() == [f"<@{world.alice.id}> ❔ Which repository?\n{unopened('org/repo')}"]

    world.openhands.repositories = frozenset({"org/repo"})
    await world.alice.says("again", thread=asked)
    await world.passes(6)

    assert world.card().state == "Working"
    assert world.conversation.messages == ["fix README"]
    assert len(world.cards()) == 1


async def test_a_branch_that_is_not_there_is_refused_with_those_that_are_near(world: Story) -> None:
    """OpenHands itself would start without the repository, and say so only in its log."""
    await world.alice.commands("fix README in org/repo on branch develp", in_="#dev")
    await world.passes(4)
    assert world.card().state == "Failed"
    assert world.card().lines[0] == (
        "There is no branch `develp` in `org/repo`, so nothing was started. Did you mean `develop` or `dev`? "
        "Ask again with its name, or press Retry once it is there."
    )
    assert world.openhands.conversations == {}

    world.openhands.branches += ("develp",)
    await world.bob.clicks("retry", world.cards()[0])
    await world.passes(4)
    assert (world.conversation.branch, world.conversation.git_provider) == ("develp", "github")
    assert len(world.news()) == 1
    world.leaves("#dev: card 🛠️ Working")
    world.logged("run.changed")


async def test_where_no_branch_can_be_looked_up_the_start_goes_on(make_world: Make) -> None:
    """As on a server without that list."""
    world = await make_world(openhands={"lacks": ["branches"]})
    await world.alice.commands("fix README in org/repo on branch none", in_="#dev")
    await world.passes(4)
    assert (world.card().state, world.conversation.branch) == ("Working", "none")


async def test_what_is_said_while_it_is_asked_reaches_the_agent(make_world: Make) -> None:
    """An answer that says more than the repository is also for the agent, once it has started."""
    world = await make_world(openhands=ACCOUNT)
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.alice.says("org/repo, and please look at the cache first", thread=asked)
    await world.passes(8)

    assert world.conversation.repository == "org/repo"
    assert world.conversation.messages == ["why is the build slow?", "org/repo, and please look at the cache first"]
    world.leaves("#dev: card 🛠️ Working")


async def test_an_answer_that_is_not_listed_is_asked_about_once(make_world: Make) -> None:
    """With what is alike; who names it again means it."""
    world = await make_world(openhands=ACCOUNT | {"closed": []})
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.alice.says("acme/rep", thread=asked)
    await world.passes(4)
    question = words.which_repository(a_run(RunState.NEEDS_REPOSITORY, repository="acme/rep", reason=Reason.UNLISTED))
    assert world.card().lines[0] == question
    assert world.news() == [question]

    world.openhands.repositories = frozenset({"acme/rep"})
    await world.alice.says("use acme/rep", thread=asked)
    await world.passes(4)

    assert world.conversation.repository == "acme/rep"
    world.leaves("#dev: card 🛠️ Working")


@pytest.mark.parametrize(
    ("button", "repository"), [("use:1", "org/repo"), ("use:2", "org/rebo"), ("no_repository", None)]
)
async def test_a_button_answers_the_question(make_world: Make, button: str, repository: str | None) -> None:
    """One for each repository that may be meant, and one for none; who clicks second is told who was first."""
    world = await make_world(openhands=ACCOUNT)
    await world.alice.commands("fix README in org/rebo", in_="#dev")
    [asking] = world.cards()
    world.openhands.repositories = frozenset({"org/repo", "org/rebo"})
    await world.bob.clicks(button, asking)
    await world.alice.clicks("no_repository", asking)
    await world.passes(4)

    assert world.conversation.repository == repository
    [told] = [text for text in world.alice.sees() if "has already" in text]
    assert told.startswith(f"<@{world.bob.id}> has already ")
    [card] = world.cards()
    origin = f"`{repository}` (chosen here)" if repository else "no repository"
    assert facts(card) == f"Asked by <@{world.alice.id}> · {origin}"
