"""An Agent Server that people host themselves: the whole journey of a run on it, and what can go wrong on the way."""

from typing import Any

import pytest

from bot.core import words
from bot.core.model import Reason, RunState
from tests.conftest import Card, Make, Story, read_card
from tests.stories.shared import APPROVE_OR_REJECT, asked_by, in_database, labels, starts, why, working

ROOT = "/srv/runs"
LOOK = "git ls-remote --heads -- https://github.com/org/repo"


async def hosted(
    make_world: Make, *, version: str = "1.58.2", given: dict[str, Any] | None = None, **more: Any
) -> Story:
    """Have an Agent Server; `more` is about it, `given` are settings of the bot."""
    settings = {"openhands_workspace_root": ROOT, "notify_channel": "#news"} | (given or {})
    return await make_world(openhands={"api": "agent", "version": version, **more}, **settings)


def shells(world: Story) -> list[str]:
    """Return the commands that the server's shell ran, without their environment."""
    return [one.replace("env GIT_TERMINAL_PROMPT=0 LC_ALL=C ", "") for one in world.openhands.machine.commands]


@pytest.mark.parametrize("version", ["1.58.2", "1.49.1"])
async def test_a_run_is_followed_from_a_repository_to_a_pull_request(make_world: Make, version: str) -> None:
    """Cloned before it starts, told where, shown at work, told at its end, with its cost; and a reply goes on."""
    world = await hosted(make_world, version=version)
    await world.alice.commands("fix README in org/repo on branch develop", in_="#dev")
    await world.passes(6)
    c = world.conversation
    folder = f"{ROOT}/{in_database(world, 'id')}/repo"
    assert shells(world) == [
        LOOK,
        LOOK,  # for its branches
        f"git clone --quiet --branch develop -- https://github.com/org/repo {folder}",
    ]
    assert (c.folder, c.repository, c.branch) == (folder, "org/repo", "develop")
    assert c.messages[0].startswith(
        f"fix README\n\nThe repository org/repo, branch develop, is cloned in {folder}: work there.\n\nThis task was "
        'given by "alice" in this Slack thread: https://'
    )
    assert c.tags["slackthread"] == f"{world.place('#dev')}:{world.cards()[0].ts}"
    world.openhands.progress(c, "Reading the code")
    await world.passes(8)
    assert world.card().state == "Working"
    assert "Reading the code" in world.card()

    world.openhands.finish(c, "See https://github.com/org/repo/pull/3", cost=0.25)
    await world.passes(4)
    assert world.card().state == "Done"
    assert "Pull requests: <https://github.com/org/repo/pull/3|org/repo #3>" in world.card()
    assert "$0.25" in world.card()
    await world.bob.says("and the tests", thread=world.cards()[0])
    await world.passes(6)
    assert c.messages[1:] == ["and the tests"]
    world.openhands.finish(c, "They are green.")
    await world.passes(4)
    assert [one.split("\n")[1] for one in world.news()] == ["See https://github.com/org/repo/pull/3", "They are green."]
    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ✅ Done")


async def test_its_pages_may_be_elsewhere(make_world: Make) -> None:
    """A bare server has none; something in front of it has."""
    world = await hosted(make_world, given={"openhands_public_url": "https://openhands.example/canvas"})
    card = await working(world)
    [page] = [one["url"] for block in card.blocks for one in block.get("elements", ()) if "url" in one]
    assert page == f"https://openhands.example/canvas/conversations/{world.conversation.id}"


async def test_a_question_is_answered_in_the_thread(make_world: Make) -> None:
    """The agent's plain message ends its turn; the reply goes on."""
    world = await hosted(make_world)
    card = await working(world)
    world.openhands.ask(world.conversation, "Which README?")
    await world.passes(4)
    assert world.news() == [f"<@{world.alice.id}> 💬 Has a question\nWhich README?\nReply here to answer."]
    await world.bob.says("the first", thread=card)
    await world.passes(4)
    assert world.conversation.messages[1:] == ["the first"]
    assert world.card().state == "Working"
    assert len(world.news("#news")) == 1


@pytest.mark.parametrize(
    ("button", "kind", "state"),
    [("approve", "ObservationEvent", "Working"), ("reject", "UserRejectObservation", "Paused")],
)
async def test_what_waits_is_decided_in_the_thread(make_world: Make, button: str, kind: str, state: str) -> None:
    """Shown before it is decided, and only then carried out or not."""
    world = await hosted(make_world)
    card = await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(6)
    assert world.card().lines[:3] == (APPROVE_OR_REJECT, "terminal · the agent rates it high", "rm -rf build")
    await world.bob.clicks(button, world.cards()[0])
    await world.passes(14)
    kinds = [event["kind"] for event in world.conversation.events if event["kind"] == kind]
    assert (kinds, world.card().state) == ([kind], state)
    assert card.ts == world.cards()[0].ts
    assert len(world.news()) == (1 if button == "approve" else 2)
    assert len(world.news("#news")) == 1


async def test_a_stop_interrupts_and_resume_lets_it_go_on(make_world: Make) -> None:
    """At once, in the middle of a command."""
    world = await hosted(make_world)
    card = await working(world)
    world.openhands.work_on(world.conversation, "make test", seconds=600)
    await world.bob.says("stop", thread=card)
    await world.passes(8)
    assert world.news() == [f"<@{world.alice.id}> ⏹️ Stopped\nStopped by <@{world.bob.id}>. Reply here to continue."]
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(4)
    assert (world.card().state, world.conversation.state) == ("Working", "running")
    assert world.conversation.messages[1:] == []


async def test_a_stop_of_what_waits_rejects_it(make_world: Make) -> None:
    """An interrupt would leave it waiting."""
    world = await hosted(make_world)
    card = await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(6)
    await world.bob.says("stop", thread=card)
    await world.passes(10)
    assert world.card().state == "Stopped"
    assert world.conversation.pending == []
    assert len(world.news()) == 2
    assert len(world.news("#news")) == 1


# --- the repository ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("fix README in org/secret", "❔ Which repository?\nOpenHands can't open `org/secret`."),
        ("fix README in org/repo on branch develpo", "❌ Failed\n"),
    ],
)
async def test_a_repository_that_can_not_be_cloned_is_told_before_anything_starts(
    make_world: Make, asked: str, said: str
) -> None:
    """No access, or no such branch: then those that are near are named."""
    world = await hosted(make_world, closed=["org/secret"])
    await world.alice.commands(asked, in_="#dev")
    await world.passes(6)
    [told] = world.news()
    assert told.startswith(f"<@{world.alice.id}> {said}")
    assert "develpo" not in asked or "`develop`" in told
    assert (starts(world), world.openhands.conversations) == ([], {})
    [card] = world.cards()
    if read_card(card).state == "Failed":
        assert len(world.news("#news")) == 1
        world.logged("run.changed")


async def test_a_clone_that_is_kept_gives_each_run_a_worktree_of_its_own(make_world: Make) -> None:
    """At the same time, too; a short way to the right branch is named as ever."""
    world = await hosted(make_world, given={"workspaces": "org/repo = /srv/kept"})
    world.openhands.machine.clones["/srv/kept"] = ("org/repo", "main")
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.bob.commands("fix the tests in org/repo on branch develop", in_="#dev")
    await world.passes(6)
    folders = {c.folder: c.branch for c in world.openhands.conversations.values()}
    assert set(folders.values()) == {"develop", "main"}
    assert set(folders) == set(world.openhands.machine.worktrees)
    assert all(folder.startswith(f"{ROOT}/") for folder in folders)
    assert not any("clone" in one for one in shells(world))
    await world.alice.commands("fix README in org/repo on branch develpo", in_="#dev")
    await world.passes(6)
    [told] = world.news()
    assert "`develop`" in told
    assert len(world.news("#news")) == 1
    world.leaves("#dev: card 🛠️ Working", "#dev: card 🛠️ Working", "#dev: card ❌ Failed")
    world.logged("run.changed")


async def test_a_clone_whose_answer_was_lost_is_found_again(make_world: Make) -> None:
    """It is there by then, and whole."""
    world = await hosted(make_world)
    world.openhands.break_next("shell", drop=True, after=True, times=2)  # the look at it, and the clone
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(8)
    folder = f"{ROOT}/{in_database(world, 'id')}/repo"
    clone = f"git clone --quiet -- https://github.com/org/repo {folder}"
    assert shells(world) == [LOOK, clone, clone, f"git -C {folder} pull --quiet --ff-only"]
    assert (world.card().state, world.conversation.folder) == ("Working", folder)


async def test_a_run_without_a_repository_gets_an_empty_folder(make_world: Make) -> None:
    """Below the server's home, if nobody set another place."""
    world = await hosted(make_world, given={"openhands_workspace_root": None})
    await world.alice.commands("say hello without a repository", in_="#dev")
    await world.passes(2)
    await world.alice.says("none", thread=world.cards()[0])
    await world.passes(6)
    assert world.conversation.folder == f"/srv/openhands/openhands-for-slack/{in_database(world, 'id')}"
    assert shells(world) == []
    world.leaves("#dev: card 🛠️ Working")


# --- starts -----------------------------------------------------------------------------------------------------


async def test_a_lost_answer_to_a_start_is_asked_for_again(make_world: Make) -> None:
    """The server knows the start by its id, so nothing is begun twice and nobody has to wait."""
    world = await hosted(make_world)
    world.openhands.break_next("start", drop=True, after=True)
    await working(world)
    assert len(starts(world)) == 2
    assert (world.card().state, len(world.conversation.messages)) == ("Working", 1)


async def test_an_older_server_is_looked_at_after_a_lost_answer(make_world: Make) -> None:
    """There two starts at the same instant would be two messages."""
    world = await hosted(make_world, version="1.49.1")
    world.openhands.break_next("start", drop=True, after=True)
    await working(world)
    assert len(starts(world)) == 1
    assert (world.card().state, len(world.conversation.messages)) == ("Working", 1)


@pytest.mark.parametrize("version", ["1.58.2", "1.49.1"])
@pytest.mark.parametrize("dies", ["before it is made", "before its message", "before it runs"])
async def test_a_start_in_which_the_server_dies_comes_to_run(make_world: Make, version: str, dies: Any) -> None:
    """Once, with its whole message, wherever the server died."""
    world = await hosted(make_world, version=version)
    world.openhands.machine.dies = dies
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(90)
    assert (world.card().state, world.conversation.state) == ("Working", "running")
    assert len(world.conversation.messages) == 1
    assert 'This task was given by "alice"' in world.conversation.messages[0]


async def test_a_folder_that_the_server_refuses_is_told(make_world: Make) -> None:
    """After a 500 that holds up all its answers; nothing was made."""
    world = await hosted(make_world, given={"openhands_workspace_root": "/proc/nowhere"})
    world.openhands.machine.stall_s = 8
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(20)
    refused = f"{why(Reason.START_REJECTED)}\n> [Errno 2] No such file or directory: '/proc/nowhere/"
    [news] = world.news()
    assert news.startswith(f"<@{world.alice.id}> ❌ Failed\n{refused}")
    assert world.openhands.conversations == {}
    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ❌ Failed")
    world.logged("run.changed")


@pytest.mark.parametrize("version", ["1.58.2", "1.49.1"])
async def test_a_profile_without_its_model_is_told(make_world: Make, version: str) -> None:
    """As the server says it."""
    world = await hosted(make_world, version=version)
    world.openhands.machine.models.clear()
    await world.alice.commands("fix README in org/repo", in_="#dev")
    await world.passes(6)
    refused = f"{why(Reason.START_REJECTED)}\n> LLM profile 'default' not found"
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{refused}"]
    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ❌ Failed")
    world.logged("run.changed")


async def test_a_model_is_chosen_by_the_name_of_its_profile(make_world: Make) -> None:
    """Where the server can."""
    world = await hosted(make_world)
    world.openhands.machine.models["quick"] = "openhands/quick"
    await world.alice.commands("--model quick fix README in org/repo", in_="#dev")
    await world.passes(6)
    assert (world.card().state, world.conversation.model) == ("Working", "openhands/quick")


async def test_an_older_server_lets_nobody_choose_a_model(make_world: Make) -> None:
    """Better said than ignored."""
    world = await hosted(make_world, version="1.49.1")
    await world.alice.commands("--model quick fix README in org/repo", in_="#dev")
    await world.passes(6)
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(Reason.MODEL_UNSUPPORTED)}"]
    assert starts(world) == []
    world.leaves("#dev: card ❌ Failed")
    world.logged("run.changed")


async def test_the_operators_token_goes_along_by_its_name(make_world: Make) -> None:
    """The bot never sees it."""
    world = await hosted(make_world)
    world.openhands.machine.secrets["GITHUB_TOKEN"] = "hidden"
    await working(world)
    headers = {"X-Session-API-Key": "key"}
    lookup = {"kind": "LookupSecret", "url": "/api/settings/secrets/GITHUB_TOKEN", "headers": headers}
    assert world.conversation.secrets == {"GITHUB_TOKEN": lookup}


# --- ends of the server -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["make test", ""])
async def test_a_killed_server_is_told_and_resume_lets_it_go_on(make_world: Make, command: str) -> None:
    """No event says why: that is how it is known."""
    world = await hosted(make_world)
    await working(world)
    if command:  # else it is in a call of its model
        world.openhands.work_on(world.conversation, command, seconds=600)
    world.openhands.kill_server()
    await world.passes(10)
    assert world.news() == [f"<@{world.alice.id}> ❌ Failed\n{why(Reason.CUT_OFF)}"]
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(6)
    assert (world.card().state, world.conversation.state) == ("Working", "running")
    assert len(world.conversation.messages) == 1
    assert len(world.news("#news")) == 1


async def test_a_server_that_ended_in_order_is_a_pause(make_world: Make) -> None:
    """Resume lets it go on."""
    world = await hosted(make_world)
    await working(world)
    world.openhands.end_server()
    await world.passes(10)
    assert world.card().state == "Paused"
    assert (
        "Somebody paused it in OpenHands, or its server was restarted; nothing is lost. Press Resume" in world.news()[0]
    )
    await world.alice.clicks("resume", world.cards()[0])
    await world.passes(6)
    assert (world.card().state, world.conversation.state) == ("Working", "running")
    assert len(world.news()) == 1


async def test_what_waited_while_the_server_was_killed_is_asked_for_anew(make_world: Make) -> None:
    """The approved action is carried out; the agent has forgotten that it asked, and asks for the same again."""
    world = await hosted(make_world)
    await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(6)
    world.openhands.kill_server()
    await world.passes(10)
    assert (world.card().state, len(world.news())) == ("Needs approval", 1)
    await world.bob.clicks("approve", world.cards()[0])
    await world.passes(14)
    assert (world.card().state, len(world.news())) == ("Needs approval", 2)
    assert [event["kind"] for event in world.conversation.events].count("ObservationEvent") == 1
    await world.bob.clicks("approve", world.cards()[0])
    await world.passes(14)
    assert world.card().state == "Working"
    assert [event["kind"] for event in world.conversation.events].count("ObservationEvent") == 2
    assert len(world.news()) == 2
    assert len(world.news("#news")) == 1


async def test_a_failure_of_the_model_is_told_with_its_reason(make_world: Make) -> None:
    """Also when its event comes a moment after its status."""
    world = await hosted(make_world)
    await working(world)
    world.openhands.fail(world.conversation)
    await world.passes(6)
    [news] = world.news()
    assert news.startswith(f"<@{world.alice.id}> ❌ Failed\n{why(Reason.MODEL_KEY)}")
    assert len(world.news("#news")) == 1
    world.leaves("#dev: card ❌ Failed")


# --- the limit --------------------------------------------------------------------------------------------------


async def test_one_run_too_many_waits_for_its_turn(make_world: Make) -> None:
    """In the queue, and it starts by itself when the first one has ended."""
    world = await hosted(make_world, limit=1)
    await world.alice.commands("first in org/repo", in_="#dev")
    await world.passes(4)
    await world.bob.commands("second in org/repo", in_="#dev")
    await world.passes(6)
    assert [card.text.split("\n")[0] for card in world.cards()] == ["*🛠️ Working*", "*🕒 Queued*"]
    world.openhands.finish(world.conversation, "Done.")
    await world.passes(40)
    second = world.openhands.find("second")
    assert (second.state, len(second.messages)) == ("running", 1)
    assert len(world.openhands.machine.clones) == 2  # however often it asked for room
    assert world.cards()[1].text.startswith("*🛠️ Working*")
    assert len(world.news()) == 1
    assert len(world.news("#news")) == 1


async def test_a_message_without_room_is_delivered_once_and_run_later(make_world: Make) -> None:
    """The server has saved it: sent again it would be there twice."""
    world = await hosted(make_world, limit=1)
    card = await working(world)
    first = world.conversation
    world.openhands.finish(first, "Done.")
    await world.passes(4)
    await world.bob.commands("second in org/repo", in_="#dev")
    await world.passes(6)
    await world.alice.says("and the tests", thread=card)
    await world.passes(60)
    assert (first.messages[1:], first.state) == (["and the tests"], "idle")
    world.openhands.finish(world.openhands.find("second"), "Done too.")
    await world.passes(70)
    assert (first.messages[1:], first.state) == (["and the tests"], "running")
    assert world.cards()[0].text.startswith("*🛠️ Working*")
    assert len(world.news()) == 2
    assert len(world.news("#news")) == 2


async def test_a_message_without_room_is_not_run_once_its_run_was_stopped(make_world: Make) -> None:
    """Though there is room later."""
    world = await hosted(make_world, limit=1)
    card = await working(world)
    first = world.conversation
    world.openhands.finish(first, "Done.")
    await world.passes(4)
    await world.bob.commands("second in org/repo", in_="#dev")
    await world.passes(6)
    await world.alice.says("and the tests", thread=card)
    await world.passes(14)
    await world.alice.says("stop", thread=card)
    await world.passes(10)
    assert world.cards()[0].text.startswith("*⏹️ Stopped*")
    world.openhands.finish(world.openhands.find("second"), "Done too.")
    await world.passes(40)
    assert (first.messages[1:], first.state) == (["and the tests"], "idle")
    assert world.cards()[0].text.startswith("*⏹️ Stopped*")
    assert len(world.news()) == 3
    assert len(world.news("#news")) == 2


async def test_an_approval_without_room_waits(make_world: Make) -> None:
    """Its maker is told, and it is carried out when there is room."""
    world = await hosted(make_world, limit=1)
    await working(world)
    waits = world.conversation
    world.openhands.want_approval(waits, "rm -rf build", summary="Clean up")
    await world.passes(6)
    await world.bob.commands("second in org/repo", in_="#dev")
    await world.passes(6)
    await world.alice.clicks("approve", world.cards()[0])
    await world.passes(10)
    assert waits.state == "waiting_for_confirmation"
    assert any(words.no_room_to_resume() in one for one in world.news())
    world.openhands.finish(world.openhands.find("second"), "Done too.")
    await world.passes(40)
    assert world.news()[-1] == f"<@{world.bob.id}> ✅ Done\nDone too."
    assert waits.state == "running"
    assert world.cards()[0].text.startswith("*🛠️ Working*")
    assert len(world.news("#news")) == 2


async def test_a_message_is_never_sent_to_an_agent_that_waits_for_approval(make_world: Make) -> None:
    """It would be an approval; it goes once that is decided."""
    world = await hosted(make_world)
    card = await working(world)
    world.openhands.want_approval(world.conversation, "rm -rf build", summary="Clean up")
    await world.passes(6)
    await world.bob.says("better not", thread=card)
    await world.passes(6)
    assert world.conversation.messages[1:] == []
    await world.bob.clicks("reject", world.cards()[0])
    await world.passes(10)
    assert world.conversation.messages[1:] == ["better not"]
    assert [event["kind"] for event in world.conversation.events].count("UserRejectObservation") == 1
    assert world.card().state == "Working"
    assert len(world.news()) >= 1
    assert len(world.news("#news")) == 1


async def test_a_message_whose_answer_was_lost_is_looked_for(make_world: Make) -> None:
    """It arrived, and is not sent again."""
    world = await hosted(make_world)
    card = await working(world)
    world.openhands.break_next("send", drop=True, after=True)
    await world.bob.says("and the tests", thread=card)
    await world.passes(10)
    assert world.conversation.messages[1:] == ["and the tests"]
    assert world.card() == Card("Working", "fix README", world.card().lines)
    assert asked_by(world) in world.card()


async def test_stop_works_while_a_message_hangs_behind_a_command(make_world: Make) -> None:
    """The command is interrupted, the message delivered after it, and the stop holds."""
    world = await hosted(make_world)
    card = await working(world)
    world.openhands.work_on(world.conversation, "make test", seconds=600)
    await world.alice.says("and more", thread=card)
    await world.passes(4)
    await world.bob.says("stop", thread=card)
    await world.passes(20)
    assert world.card().state == "Stopped"
    assert world.conversation.state == "paused"
    assert labels(world.cards()[0]) == ["Open in OpenHands", "Resume", "Retry"]
    assert len(world.news()) >= 1


def test_the_reason_of_a_cut_off_run_offers_to_go_on() -> None:
    """Nothing has to be begun anew."""
    assert "Press Resume" in why(Reason.CUT_OFF, RunState.FAILED)
