"""A policy file: who may do what, where and in which repositories, when it is asked for and when it is done."""

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from bot.core import words
from bot.core.model import Act, UserId, Why
from bot.core.policy import Allowed, Refused, Verdict, What
from bot.explain import explained
from bot.ops.audit import verified
from tests.conftest import Make, Story
from tests.stories.shared import working
from tests.stories.test_approval import asking, asks, decisions_of

SAID = Callable[..., str]


@pytest.fixture
def ruled(make_world: Make, tmp_path: Path) -> Callable[..., Awaitable[Story]]:
    """Return a function that makes a world with a policy file, written once its people are known."""

    async def make(file: Callable[[Story], str], **given: object) -> Story:
        policy = tmp_path / "policy.toml"
        world = await make_world(start=False, policy_file=policy, **given)
        policy.write_text(file(world))
        await world.starts()
        return world

    return make


Ruled = Callable[..., Awaitable[Story]]


async def rules(world: Story, text: str) -> None:
    """Write the file anew, and tell the bot so."""
    world.given["policy_file"].write_text(text)
    world.bot.read_policy()
    await world.settles()


def recorded(world: Story) -> list[tuple[str, ...]]:
    """Return who did what, how that was judged, and by which rule."""
    with closing(sqlite3.connect(world.database)) as file:
        return file.execute("SELECT actor, action, verdict, rule FROM audit ORDER BY seq").fetchall()


def denied(rule: str, act: Act, repository: str | None, *admins: str) -> str:
    return words.denied(Refused(rule), What(act=act, repository=repository), admins)


async def test_agents_work_only_in_the_repositories_listed(ruled: Ruled) -> None:
    """However another one is named: typed, linked, in passing, by the thread, by default, or as an answer."""
    world = await ruled(
        lambda world: f'admins = ["{world.bob.id}"]\nrepositories = ["org/*"]', default_repository="evil/default"
    )
    evil = denied("repositories", Act.START, "evil/payload", world.bob.id)
    await world.alice.commands("fix README in evil/payload", in_="#dev")
    await world.alice.says("@OpenHands fix https://github.com/evil/payload/issues/1", in_="#dev")
    thread = await world.alice.says("same as https://github.com/evil/payload/issues/1", in_="#dev")
    await world.alice.says("@OpenHands look into this", thread=thread)
    await world.passes(4)
    assert [said for said in world.alice.sees() if not said.startswith("On it.")] == [evil] * 3
    await world.alice.commands("fix the build", in_="#dev")
    await world.passes(4)
    assert world.alice.sees()[-1] == denied("repositories", Act.START, "evil/default", world.bob.id)

    asked = await world.alice.says("@OpenHands compare org/a with org/b", in_="#dev")
    await world.alice.says("evil/payload", thread=asked)
    await world.alice.says("none", thread=asked)
    await world.passes(4)
    assert world.alice.sees()[-2:] == [evil, denied("repositories", Act.START, None, world.bob.id)]
    assert world.card().state == "Which repository?"
    assert len(world.openhands.conversations) == 0


async def test_an_edit_to_a_repository_that_is_not_listed_is_not_taken(ruled: Ruled) -> None:
    """The question stays as it was."""
    world = await ruled(lambda world: f'admins = ["{world.bob.id}"]\nrepositories = ["org/*"]')
    asked = await world.alice.says("@OpenHands compare org/a with org/b", in_="#dev")
    await world.passes(4)
    await world.slack.edit(
        world.alice.id, asked.channel, asked.ts, world.slack.wire("@OpenHands fix it in evil/payload")
    )
    await world.passes(4)
    assert world.alice.sees() == [denied("repositories", Act.START, "evil/payload", world.bob.id)]
    assert (world.card().state, world.card().task) == ("Which repository?", "compare org/a with org/b")


async def test_only_who_is_listed_starts_and_steers(ruled: Ruled) -> None:
    """By user group; everybody else is told the rule and who can change it, and the agent hears nothing of them."""
    world = await ruled(
        lambda world: (
            f'admins = ["{world.alice.id}"]\nstarters = ["{world.slack.add_group([world.alice.id])}"]\nstop = ["requester"]'
        )
    )
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.bob.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    await world.bob.says("and the licence", thread=asked)
    await world.bob.says("stop", thread=asked)
    await world.bob.says("status", thread=asked)
    await world.passes(4)
    assert world.bob.sees()[1:] == [
        denied(rule, act, "org/repo", world.alice.id)
        for rule, act in (("starters", Act.START), ("starters", Act.ANSWER), ("stop", Act.STOP))
    ]
    assert world.conversation.messages == ["fix README"]
    assert world.card().state == "Working"
    [told] = world.news()
    assert told.startswith("*🛠️ Working*: fix README · `org/repo` · <https://")


async def test_a_group_that_can_not_be_read_has_nobody_in_it(ruled: Ruled) -> None:
    """As without the scope `usergroups:read`: who is named only by a group is refused, who is named is not."""
    world = await ruled(lambda world: f'starters = ["S0UNKNOWN", "{world.alice.id}"]')
    await world.bob.commands("fix README in org/repo", in_="#dev")
    await working(world)
    assert world.bob.sees()[-1] == denied("starters", Act.START, "org/repo")
    assert world.card().state == "Working"
    world.logged("policy.group_unread")


@pytest.mark.parametrize("how", ["deactivated", "rules"])
async def test_the_rules_are_asked_again_when_a_queued_run_starts(ruled: Ruled, how: str) -> None:
    """Who has left, become a guest or lost the right meanwhile starts nothing: it is cancelled, and the thread hears why."""
    world = await ruled(lambda _world: "", max_concurrent_runs=1)
    await world.bob.commands("fix LICENSE in org/repo", in_="#dev")
    await world.passes(4)
    await world.alice.commands("delete the audit log in org/repo", in_="#dev")
    await world.passes(4)
    refused = {
        "deactivated": Refused("deleted", Verdict.DELETED),
        "rules": Refused("starters"),
    }[how]
    if how == "rules":
        await rules(world, f'starters = ["{world.bob.id}"]')
    else:
        world.slack.change_user(world.alice.id, deleted=True)
        await world.passes(310)  # what was known of her is too old by then
    world.openhands.finish(world.conversation, "Done.")
    await world.passes(40)
    said = words.barred(refused, What(act=Act.START), UserId(world.alice.id))
    assert world.cards()[1].text.startswith("*🚫 Cancelled*")
    assert f"{words.mention(UserId(world.alice.id))} {said}" in world.news()
    assert [one.messages for one in world.openhands.conversations.values()] == [["fix LICENSE"]]
    world.cards()


async def test_what_a_leaver_left_is_told(ruled: Ruled) -> None:
    """Within an hour: what waits is cancelled, what goes on is told there and to an admin, once."""
    world = await ruled(lambda world: f'admins = ["{world.slack.add_group([world.bob.id])}"]', max_concurrent_runs=1)
    await working(world)
    await world.alice.commands("delete the audit log in org/repo", in_="#dev")
    await world.passes(4)
    world.slack.change_user(world.alice.id, deleted=True)
    await world.passes(3700)
    await world.passes(4)
    alice = UserId(world.alice.id)
    barred = words.barred(Refused("deleted", Verdict.DELETED), What(act=Act.START), alice)
    left = words.left_behind(Verdict.DELETED, alice)
    assert sorted(world.news()) == sorted([barred, left])
    [told] = world.posts(world.slack.dm(world.bob.id))
    assert told.text.startswith(left)
    assert [card.text.split("*")[1] for card in world.cards()] == ["🛠️ Working", "🚫 Cancelled"]


async def test_what_waits_for_the_agent_is_judged_when_it_goes_out(ruled: Ruled) -> None:
    """A reply that was held, and a resume: their people may not do that any more."""
    world = await ruled(lambda _world: "")
    asked = await world.alice.says("@OpenHands fix README in org/repo", in_="#dev")
    await world.bob.says("and push to main", thread=asked)
    await rules(world, f'answer = ["{world.alice.id}"]')
    await world.passes(20)
    said = words.barred(Refused("answer"), What(act=Act.ANSWER), UserId(world.bob.id))
    assert f"{words.mention(UserId(world.bob.id))} {said}" in world.news()
    assert world.conversation.messages == ["fix README"]
    assert world.card().state == "Working"
    world.leaves("#dev: x on a message")


async def test_nobody_approves_what_their_own_run_asks_for(ruled: Ruled) -> None:
    """With `not the requester` somebody else must; to reject it is free."""
    world = await ruled(lambda _world: 'approval = "not the requester"')
    card = await asking(world)
    await world.alice.clicks("approve", card)
    assert world.alice.sees()[-1] == denied('approval = "not the requester"', Act.APPROVE, "org/repo")
    assert decisions_of(world) == []
    await world.bob.clicks("approve", card)
    await world.passes(6)
    assert decisions_of(world) == [{"accept": True}]
    world.cards()
    world.news()


async def test_two_people_approve(ruled: Ruled) -> None:
    """The card names the first; the same one twice is one person, and another action asks for both anew."""
    world = await ruled(lambda _world: 'approval = "two people"')
    card = await asking(world)
    await world.alice.clicks("approve", card)
    await world.passes(4)
    assert f"<@{world.alice.id}> approved it; another person must, too" in world.card().lines[0]
    await world.alice.clicks("approve", card)
    assert world.alice.sees()[-1] == words.another_must_approve()
    assert decisions_of(world) == []
    await world.bob.clicks("approve", card)
    await world.passes(6)
    assert decisions_of(world) == [{"accept": True}]

    card = await asks(world, "rm -rf /")
    await world.bob.clicks("approve", card)
    await world.passes(6)
    assert decisions_of(world) == [{"accept": True}]
    assert f"<@{world.bob.id}> approved it" in world.card().lines[0]
    world.news()


async def test_a_wrong_file_changes_nothing(ruled: Ruled) -> None:
    """The rules in force stay, every mistake is in the log with its line; a right one holds from then on."""
    world = await ruled(lambda world: f'starters = ["{world.alice.id}"]')
    await rules(world, 'starters = ["everybody"]\nstop = ["@bob"]')
    [line] = world.logged("policy.wrong")
    assert line["problems"] == (
        'policy.toml, line 2: stop: "@bob" is no id: write U… of a person, S… of a user group, "everybody" or "requester"',
    )
    await world.bob.commands("fix README in org/repo", in_="#dev")
    assert world.bob.sees()[-1] == denied("starters", Act.START, "org/repo")
    await rules(world, 'starters = ["everybody"]')
    await world.bob.commands("fix README in org/repo", in_="#dev")
    await world.passes(4)
    assert world.card().state == "Working"


async def test_admins_ask_why(ruled: Ruled) -> None:
    """By mention or name; others are refused, and Slack is not asked for them."""
    world = await ruled(lambda world: f'admins = ["{world.alice.id}"]\nrepositories = ["org/*"]\nstarters = []')
    bob = f"<@{world.bob.id}>"
    await world.alice.commands(world.slack.wire("why @bob #dev evil/payload"), in_="#dev")
    await world.alice.commands("why @bob #dev org/repo stop", in_="#dev")
    await world.alice.commands("why @alice direct org/repo", in_="#dev")
    await world.alice.commands("why @nobody #dev org/repo", in_="#dev")
    why = (
        Why(bob, "#dev", "evil/payload", Act.START),
        Why("@bob", "#dev", "org/repo", Act.STOP),
        Why("@alice", "direct", "org/repo", Act.START),
        Why("@nobody", "#dev", "org/repo", Act.START),
    )
    assert world.alice.sees() == [
        words.explained(why[0], Refused("repositories")),
        words.explained(why[1], Refused("starters")),
        words.explained(why[2], Allowed("admins")),
        words.not_found_to_explain(why[3]),
    ]
    await world.bob.commands("why @bob #dev org/repo", in_="#dev")
    assert world.bob.sees() == [words.denied(Refused("admins"), What(act=Act.ADMINISTER), [world.alice.id])]
    command_line = Why("@bob", "#dev", "org/repo", Act.STOP)
    assert await explained(world.settings(), world.clock, command_line) == words.explained(
        command_line, Refused("starters")
    )


async def test_all_that_people_do_is_recorded(ruled: Ruled) -> None:
    """Starts, refusals, words, choices, decisions, ends and changes of the rules; and the chain is whole."""
    world = await ruled(lambda _world: 'repositories = ["org/*"]\napproval = "not the requester"')
    gast = world.person("gast", restricted=True)
    world.slack.join(world.place("#dev"), gast.id)
    await gast.commands("fix README in org/repo", in_="#dev")
    await world.bob.commands("fix README in evil/payload", in_="#dev")
    asked = await world.alice.says("@OpenHands why is the build slow?")
    await world.bob.says("org/repo", thread=asked)
    await world.passes(4)
    await world.bob.says("and the tests", thread=asked)
    await world.passes(8)
    card = await asks(world, "rm -rf build")
    await world.alice.clicks("approve", card)
    await world.bob.clicks("reject", card)
    await world.passes(8)
    await world.bob.says("stop", thread=asked)
    await rules(world, "")
    await world.passes(8)
    alice, bob = world.alice.id, world.bob.id
    assert recorded(world) == [
        ("", "policy", "in force", ""),
        (gast.id, "start", "refused", "guest"),
        (bob, "start", "refused", "repositories"),
        (alice, "start", "allowed", "everybody"),
        (bob, "use", "allowed", "everybody"),
        (bob, "answer", "allowed", "everybody"),
        (alice, "approve", "refused", 'approval = "not the requester"'),
        (bob, "reject", "allowed", "everybody"),
        (bob, "stop", "allowed", "everybody"),
        ("", "end", "stopped", ""),
        ("", "policy", "in force", ""),
    ]
    assert (await verified(world.settings().database_url, None)).startswith("11 rows, none changed")
    world.cards()
    world.news()
    for person in (gast, world.alice, world.bob):
        person.sees()


async def test_the_log_says_who(world: Story) -> None:
    """In each line of what a request causes."""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await world.alice.commands("fix README in org/repo", in_="#dev")
    by_request = [line["actor"] for line in lines if line["event"] in ("run.created", "run.changed")]
    assert by_request[:2] == [world.alice.id] * 2
    assert world.card().state in ("Starting", "Working")
