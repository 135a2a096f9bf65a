"""The local Agent Server answers as the recorded ones did."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.openhands.recorded import exchange
from tests.simulator.agent_rig import ALL, UNKNOWN, AgentRig, kind_of, lasting, relation

SAME = [
    "as-batch.03",
    "as-batch.04",
    "as-batch.05",
    "as-batch.08",
    "as-batch.09",
    "as-batch.11",
    "as-batch.12",
    "as-batch.13",
    "as-bodies.04",
    "as-bodies.06",
    "as-bodies.07",
    "as-bodies.08",
    "as-bodies.09",
    "as-bodies.10",
    "as-bodies.11",
    "as-bodies.14",
    "as-bodies.15",
    "as-bodies.16",
    "as-bodies.18",
    "as-bodies.19",
    "as-bodies.30",
    "as-bodies.34",
    "as-confirm.17",
    "as-delete.09",
    "as-events.18",
    "as-events.19",
    "as-events.20",
    "as-follow-up.23",
    "as-follow-up.24",
    "as-follow-up.25",
    "as-fresh.03",
    "as-fresh.08",
    "as-fresh.09",
    "as-fresh.17",
    "as-git.01",
    "as-git.02",
    "as-git.03",
    "as-git.04",
    "as-secrets.03",
    "as-stop.31",
    "as-stop.32",
    "as-title.07",
]
"""Answers that depend on nothing that went before: the same to the letter."""


@pytest.mark.parametrize("name", SAME)
async def test_what_depends_on_nothing_is_answered_to_the_letter(name: str) -> None:
    """Status and body, without ids and times."""
    async with AgentRig() as rig:
        answer, recording = await rig.replay(name)
    real = rig.here(recording["response"], recording)
    assert (answer.status_code, lasting(answer.json())) == (recording["status"], lasting(real))


async def test_a_hundred_ids_are_refused_and_ninety_nine_are_not() -> None:
    """The recording leaves the ids out of the refusal."""
    async with AgentRig() as rig:
        most, _ = await rig.replay("as-batch.06")
        more, recording = await rig.replay("as-batch.07")
    [refusal] = more.json()["detail"]
    assert (most.status_code, most.json()) == (200, [None] * 99)
    assert more.status_code == recording["status"]
    assert refusal | {"input": "(100 ids)"} == recording["response"]["detail"][0]


# --- what it is, and its key ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "name"), [("1.58.2", "as-fresh.04"), ("1.49.1", "as-old-fresh.04")])
async def test_it_tells_what_it_is_without_a_key(version: Any, name: str) -> None:
    """Title, version and what a client may count on."""
    async with AgentRig(key="right", version=version) as rig:
        told, recording = await rig.replay(name)
    real = recording["response"]
    assert told.status_code == recording["status"]
    assert (told.json()["title"], told.json()["version"]) == (real["title"], real["version"])
    assert set(told.json()["capabilities"]) <= set(real["capabilities"])
    assert ("idempotent_conversation_create_v1" in told.json()["capabilities"]) == (version == "1.58.2")


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, "as-auth.01"),
        ({"X-Session-API-Key": "wrong"}, "as-auth.04"),
        ({"Authorization": "Bearer right"}, "as-auth.07"),
        ({"X-Session-API-Key": "right"}, "as-auth.10"),
    ],
)
async def test_it_takes_its_key_in_one_header_only(headers: dict[str, str], name: str) -> None:
    """None, a wrong one and a bearer are refused."""
    async with AgentRig(key="right") as rig:
        answer = await rig.client.get(f"{ALL}/count", headers=headers)
    recording = exchange(name)
    assert (answer.status_code, answer.json()) == (recording["status"], recording["response"])


async def test_an_unknown_path_is_not_found_even_without_a_key() -> None:
    """So a 404 proves nothing."""
    async with AgentRig(key="right") as rig:
        answer, recording = await rig.replay("as-auth.14")
        violations = rig.server.violations
    assert (answer.status_code, answer.json()) == (recording["status"], recording["response"])
    assert violations == ["unknown path: GET /api/v1/app-conversations/count"]


async def test_profiles_and_what_one_of_them_misses() -> None:
    """The dry run says what a start would."""
    async with AgentRig() as rig:
        listed, recording = await rig.replay("as-fresh.12")
        assert listed.json()["profiles"][0].keys() == recording["response"]["profiles"][0].keys()
        assert listed.json()["active_agent_profile_id"] == listed.json()["profiles"][0]["id"]
        rig.server.machine.models.clear()
        dry, missing = await rig.replay("as-fresh.18")
        refused, refusal = await rig.replay("as-fresh.19")
        old = rig.server.machine
        old.version = "1.49.1"
        as_old, old_refusal = await rig.replay("as-old-fresh.19")
    assert {name: missing["response"][name] for name in dry.json()} == dry.json()
    assert (refused.status_code, refused.json()) == (refusal["status"], refusal["response"])
    assert (as_old.status_code, as_old.json()) == (old_refusal["status"], old_refusal["response"])


# --- starts -----------------------------------------------------------------------------------------------------


async def test_a_start_is_new_once_and_known_ever_after() -> None:
    """201 and idle, 200 and running, 200 and finished; of other words nothing is heard."""
    async with AgentRig() as rig:
        body = rig.body("STEPS 2")
        first = await rig.post_start(body)
        again = await rig.post_start(body)
        c = rig.server.find("STEPS 2")
        running = await rig.look(c)
        rig.server.finish(c, "Took 2 steps.")
        ended = await rig.look(c)
        other = await rig.post_start(body | rig.body("FINISH Second.") | {"conversation_id": c.id.replace("-", "")})
        messages = await rig.events(c, source="user")
    for answer, name in ((first, "as-start.02"), (again, "as-start.03"), (other, "as-start.09")):
        recording = exchange(name)
        assert (answer.status_code, relation(answer.json())) == (recording["status"], relation(recording["response"]))
    for look, name in ((running, "as-start.04"), (ended, "as-start.05")):
        assert relation(look) == relation(exchange(name)["response"][0])
        assert look.keys() <= exchange(name)["response"][0].keys()
    assert first.json().keys() <= exchange("as-start.02")["response"].keys()
    assert [one["llm_message"]["content"][0]["text"] for one in messages] == ["STEPS 2"]
    assert rig.server.violations == []


async def test_a_deleted_one_starts_anew() -> None:
    """Deleting twice is not found, and the id is free again."""
    async with AgentRig() as rig:
        body = rig.body("FINISH Soon gone.")
        await rig.post_start(body)
        path = f"{ALL}/{body['conversation_id']}"
        answers = [await rig.client.delete(path), await rig.client.delete(path)]
        gone = await rig.look(body["conversation_id"])
        again = await rig.post_start(body)
    assert [(one.status_code, one.json()) for one in answers] == [
        (exchange(name)["status"], exchange(name)["response"]) for name in ("as-delete.01", "as-delete.02")
    ]
    assert (gone, again.status_code) == (None, exchange("as-delete.06")["status"])


@pytest.mark.parametrize(
    ("dies", "look", "again"),
    [
        ("before it is made", "as-lost-start.01", "as-lost-start.02"),
        ("before its message", "as-lost-start.04", "as-lost-start.05"),
        ("before it runs", "as-lost-start.10", "as-lost-start.11"),
    ],
)
async def test_a_start_in_which_the_server_dies(dies: Any, look: str, again: str) -> None:
    """Nothing there; there without its message; there and not run: the same start then only says that it is known."""
    async with AgentRig() as rig:
        rig.server.machine.dies = dies
        body = rig.body("COUNT 9")
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.post_start(body)
        seen = await rig.look(body["conversation_id"])
        repeated = await rig.post_start(body)
        later = await rig.look(body["conversation_id"])
    [real] = exchange(look)["response"]
    recording = exchange(again)
    assert (seen and relation(seen)) == (real and relation(real))
    assert (repeated.status_code, relation(repeated.json())) == (
        recording["status"],
        relation(recording["response"]),
    )
    assert later["execution_status"] == ("running" if dies == "before it is made" else "idle")


async def test_what_a_dead_start_left_is_brought_to_run() -> None:
    """Without its message by sending it, with it by /run."""
    async with AgentRig() as rig:
        for dies in ("before its message", "before it runs"):
            rig.server.machine.dies = dies
            body = rig.body(dies)
            with pytest.raises(httpx.RemoteProtocolError):
                await rig.post_start(body)
            c = rig.server.conversations[body["conversation_id"]]
            went = await (rig.tell(c, "run") if c.messages else rig.send(c, dies, run=True))
            assert (went.status_code, went.json(), await rig.word(c)) == (200, {"success": True}, "running")


async def test_a_500_holds_up_every_answer() -> None:
    """A real server draws its traceback for seconds."""
    async with AgentRig() as rig:
        rig.server.machine.stall_s = 8
        refused = await rig.post_start(rig.body(workspace={"working_dir": "/proc/nowhere"}))
        looking = asyncio.create_task(rig.client.get(f"{ALL}/count"))
        await rig.until_parked()
        await rig.later(7)
        waits = not looking.done()
        await rig.later(1)
        assert (refused.status_code, waits, (await looking).json()) == (500, True, 0)


# --- the limit --------------------------------------------------------------------------------------------------


async def test_one_run_too_many_is_refused_by_kind() -> None:
    """A start and a run do nothing, a message is saved, an approval waits on, a rejection goes."""
    async with AgentRig() as rig:
        waits, ended = await rig.start("wants"), await rig.start("ends")
        rig.server.want_approval(waits, "rm a", summary="Delete")
        rig.server.finish(ended, "Done.")
        rig.server.limit = 1
        first = await rig.post_start(body := rig.body("first"))
        found = {
            "as-limit.02": await rig.post_start(more := rig.body("more")),
            "as-limit.06": await rig.send(ended, "go on", run=True),
            "as-limit.09": await rig.tell(ended, "run"),
            "as-limit.16": await rig.tell(waits, "events/respond_to_confirmation", {"accept": True}),
            "as-limit.18": await rig.tell(waits, "events/respond_to_confirmation", {"accept": False, "reason": "No."}),
        }
        known = await rig.post_start(body)
        saved = await rig.look(ended)
        unmade = await rig.look(more["conversation_id"])
        await rig.tell(rig.server.find("first"), "interrupt")
        room = await rig.tell(ended, "run")
    for name, answer in found.items():
        recording = exchange(name)
        real = str(recording["response"]).replace(recording["path"].split("/")[-2], ended.id)
        assert (answer.status_code, str(answer.json())) == (recording["status"], real), name
    assert (first.status_code, known.status_code, unmade) == (201, 200, None)
    assert relation(saved) == relation(exchange("as-limit.08")["response"][0])
    assert (room.status_code, ended.messages) == (200, ["ends", "go on"])


async def test_the_older_server_refuses_nothing() -> None:
    """Not even far above its limit."""
    async with AgentRig(version="1.49.1", limit=1) as rig:
        assert [(await rig.post_start()).status_code for _ in range(3)] == [201, 201, 201]


# --- messages, stop, approval -----------------------------------------------------------------------------------


async def test_a_message_is_run_only_if_that_is_said() -> None:
    """Without it nobody works; /run then does, and after the end nothing."""
    async with AgentRig() as rig:
        c = await rig.start()
        busy = await rig.tell(c, "run")
        rig.server.finish(c, "Done.")
        await rig.send(c, "more")
        unread = await rig.look(c)
        ran = await rig.tell(c, "run")
        rig.server.finish(c, "Done again.")
        after = await rig.tell(c, "run")
        empty = await rig.client.post(f"{ALL}/{c.id}/events", json={"role": "user", "content": [], "run": False})
        ended = await rig.word(c)
    recording = exchange("as-follow-up.03")
    assert (busy.status_code, busy.json()) == (recording["status"], recording["response"])
    assert relation(unread) == relation(exchange("as-follow-up.06")["response"][0])
    assert [one.status_code for one in (ran, after, empty)] == [200, 200, 200]
    assert ended == "idle"  # the empty message waits to be read


async def test_a_message_waits_for_the_end_of_a_command() -> None:
    """However long that takes; its answer comes then."""
    async with AgentRig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 100", seconds=100)
        sending = asyncio.create_task(rig.send(c, "and more", run=True))
        await rig.until_parked()
        await rig.later(60)
        waits = not sending.done()
        await rig.later(40)
        answer = await sending
    assert (waits, answer.status_code, c.messages) == (True, 200, ["fix README", "and more"])


async def test_an_interrupt_stops_a_command_and_may_be_repeated() -> None:
    """As recorded, event by event; then it goes on."""
    async with AgentRig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 40", seconds=40)
        answers = [(await rig.tell(c, "interrupt")).json() for _ in range(2)]
        kinds = await rig.kinds(c, limit=4)
        paused = await rig.look(c)
        on = await rig.tell(c, "run")
        word = await rig.word(c)
    assert answers == [{"success": True}] * 2
    assert kinds == [kind_of(one) for one in exchange("as-stop.11")["response"]["items"]]
    assert relation(paused) == relation(exchange("as-stop.09")["response"][0])
    assert (on.status_code, word) == (200, "running")


async def test_a_pause_waits_for_the_command_and_lets_a_model_call_end() -> None:
    """Which is why nobody should use it."""
    async with AgentRig() as rig:
        c = await rig.start()
        await rig.tell(c, "pause")
        in_a_call = await rig.word(c)
        rig.server.work_on(c, "sleep 11", seconds=11)
        pausing = asyncio.create_task(rig.tell(c, "pause"))
        await rig.until_parked()
        await rig.later(11)
        answer = await pausing
        assert (in_a_call, answer.json(), await rig.word(c)) == ("running", {"success": True}, "paused")


async def test_what_waits_is_decided_and_a_message_or_a_run_decides_it_too() -> None:
    """Approved, rejected, approved by a message, approved by /run; an interrupt leaves it."""
    async with AgentRig() as rig:
        decide = "events/respond_to_confirmation"
        c = await rig.start()
        rig.server.want_approval(c, "rm a", summary="Delete")
        waits = await rig.look(c)
        await rig.tell(c, "interrupt")
        still = await rig.word(c)
        bad = await rig.tell(c, decide, {"yes": 1})
        await rig.tell(c, decide, {"accept": True})
        approved = await rig.word(c)
        rig.server.want_approval(c, "rm b", summary="Delete")
        await rig.tell(c, decide, {"accept": False, "reason": "No."})
        rejected = await rig.look(c)
        await rig.send(c, "another way", run=True)
        rig.server.want_approval(c, "rm c", summary="Delete")
        await rig.send(c, "no!", run=True)
        by_message = await rig.word(c)
        rig.server.want_approval(c, "rm d", summary="Delete")
        await rig.tell(c, "run")
        by_run = await rig.word(c)
        nothing = await rig.tell(c, decide, {"accept": True})
    assert relation(waits) == relation(exchange("as-confirm.03")["response"][0])
    assert relation(rejected) == relation(exchange("as-confirm.08")["response"][0])
    recording = exchange("as-confirm.16")
    assert (bad.status_code, bad.json()) == (recording["status"], recording["response"])
    assert [still, approved, by_message, by_run] == ["waiting_for_confirmation", "running", "running", "running"]
    assert nothing.status_code == exchange("as-confirm.14")["status"]


# --- ends of the server -----------------------------------------------------------------------------------------


async def test_a_killed_server_leaves_errors_without_a_word_of_why() -> None:
    """What worked in a command, what worked in a model call, what waited, what was paused, what had ended."""
    async with AgentRig() as rig:
        command, call, waits, paused, ended = [await rig.start(text) for text in "abcde"]
        rig.server.work_on(command, "sleep 60", seconds=60)
        rig.server.want_approval(waits, "rm a", summary="Delete")
        await rig.tell(paused, "interrupt")
        rig.server.finish(ended, "Before the restart.")
        rig.server.kill_server()
        looks = [await rig.look(c) for c in (command, ended, waits, paused, call)]
        kinds = await rig.kinds(command, limit=3)
        on = await rig.tell(command, "run")
        word = await rig.word(command)
    assert [relation(one) for one in looks] == [relation(one) for one in exchange("as-restart.01")["response"]]
    assert kinds == [kind_of(one) for one in exchange("as-restart.02")["response"]["items"]]
    assert (on.status_code, word) == (200, "running")


async def test_a_message_on_its_way_into_a_killed_server_is_lost() -> None:
    """Its connection breaks, and nobody ever reads it."""
    async with AgentRig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 60", seconds=60)
        sending = asyncio.create_task(rig.send(c, "and more", run=True))
        await rig.until_parked()
        rig.server.kill_server()
        with pytest.raises(httpx.RemoteProtocolError):
            await sending
    assert c.messages == ["fix README"]


async def test_a_server_that_ends_in_order_pauses_what_works() -> None:
    """Its command has ended by then."""
    async with AgentRig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 60", seconds=60)
        rig.server.end_server()
        look = await rig.look(c)
        kinds = await rig.kinds(c, limit=3)
    assert relation(look) == relation(exchange("as-restart.15")["response"][0])
    assert kinds == [kind_of(one) for one in exchange("as-restart.16")["response"]["items"]]


# --- looks ------------------------------------------------------------------------------------------------------


async def test_looks_grow_with_every_call_of_the_model_and_sum_its_cost() -> None:
    """`metrics` stays empty."""
    async with AgentRig() as rig:
        c = await rig.start()
        small = len(str(await rig.look(c)))
        for _ in range(46):
            rig.server.progress(c, "a step")
        rig.server.finish(c, "Done.", cost=0.053)
        look = await rig.look(c)
    real = exchange("as-cost.01")["response"][0]
    assert look["metrics"] is real["metrics"] is None
    assert look["stats"]["usage_to_metrics"]["default"]["accumulated_cost"] == 0.053
    assert look["stats"]["usage_to_metrics"].keys() == real["stats"]["usage_to_metrics"].keys()
    assert len(str(look)) > small + 15_000


@pytest.mark.parametrize(("version", "name"), [("1.58.2", "as-events.05"), ("1.49.1", "as-old-events.05")])
async def test_a_bare_kind_finds_events_only_on_the_newer_server(version: Any, name: str) -> None:
    """Three actions there, none here."""
    async with AgentRig(version=version) as rig:
        c = await rig.start()
        for _ in range(2):
            rig.server.progress(c, "a step")
        rig.server.finish(c, "Done.")
        found = await rig.events(c, kind="ActionEvent")
        by_source = await rig.events(c, source="user")
        first = await rig.events(c, limit=1)
        lost_page = await rig.events(c, limit=1, page_id="nonsense")
    assert len(found) == len(exchange(name)["response"]["items"])
    assert len(by_source) == 1
    assert lost_page == first  # an unknown page starts at the beginning, silently


async def test_lists_and_single_looks_show_the_same_entry() -> None:
    """Newest first, by page, and by what they do."""
    async with AgentRig() as rig:
        first, second = await rig.start("first"), await rig.start("second")
        rig.server.finish(first, "Done.")
        page = (await rig.client.get(f"{ALL}/search", params={"limit": 1})).json()
        rest = (await rig.client.get(f"{ALL}/search", params={"page_id": page["next_page_id"]})).json()
        done = (await rig.client.get(f"{ALL}/search", params={"status": "finished"})).json()
        one = (await rig.client.get(f"{ALL}/{first.id}")).json()
        words = (await rig.client.get(f"{ALL}/{first.id}/agent_final_response")).json()
        none_yet = (await rig.client.get(f"{ALL}/{second.id}/agent_final_response")).json()
        count = (await rig.client.get(f"{ALL}/count", params={"status": "running"})).json()
        same = one == await rig.look(first)
    assert [entry["id"] for entry in (*page["items"], *rest["items"])] == [second.id, first.id]
    assert ([entry["id"] for entry in done["items"]], rest["next_page_id"], same) == ([first.id], None, True)
    assert (words, none_yet, count) == ({"response": "Done."}, exchange("as-words.08")["response"], 1)


async def test_titles_and_tags_may_be_changed() -> None:
    """Ours stays; a blank one is refused."""
    async with AgentRig() as rig:
        c = await rig.start("fix README")
        await rig.later(2)
        made = (await rig.look(c))["title"]
        answers = [
            await rig.client.patch(f"{ALL}/{c.id}", json=body)
            for body in ({"title": "Our own title"}, {"title": " "}, {"tags": {"card": "done"}})
        ]
        look = await rig.look(c)
    recordings = [exchange(name) for name in ("as-title.03", "as-title.05", "as-title.06")]
    assert [(one.status_code, one.json()) for one in answers] == [
        (one["status"], one["response"]) for one in recordings
    ]
    assert (made, look["title"], look["tags"]) == ("fix README", "Our own title", {"card": "done"})


async def test_a_deletion_waits_for_the_command() -> None:
    """Half a minute was seen."""
    async with AgentRig() as rig:
        c = await rig.start()
        rig.server.work_on(c, "sleep 29", seconds=29)
        deleting = asyncio.create_task(rig.client.delete(f"{ALL}/{c.id}"))
        await rig.until_parked()
        await rig.later(29)
        assert ((await deleting).status_code, await rig.look(c)) == (exchange("as-delete.07")["status"], None)


async def test_with_a_stored_token_repositories_are_listed_and_models_by_their_names() -> None:
    """A profile that is not there is not found."""
    async with AgentRig(repositories=["org/repo", "org/other"]) as rig:
        rig.server.machine.secrets["GITHUB_TOKEN"] = "hidden"
        found = await rig.client.get("/api/git/repositories/search", params={"provider": "github", "query": "REPO"})
        secrets = (await rig.client.get("/api/settings/secrets")).json()
        models = (await rig.client.get("/api/profiles")).json()
        dry = await rig.client.post("/api/agent-profiles/mine/materialize")
    assert [one["full_name"] for one in found.json()["items"]] == ["org/repo"]
    assert [one["name"] for one in secrets["secrets"]] == ["GITHUB_TOKEN"]
    assert [one["name"] for one in models["profiles"]] == [models["active_profile"]] == ["default"]
    assert dry.status_code == 404


# --- the shell --------------------------------------------------------------------------------------------------


async def clone(rig: AgentRig, *words: str, timeout: float = 60) -> Any:  # noqa: ASYNC109 - the server's own word
    answer = await rig.client.post(
        "/api/bash/execute_bash_command", json={"command": " ".join(("git", *words)), "timeout": timeout}
    )
    return answer.raise_for_status().json()


async def test_the_shell_clones_and_says_why_it_can_not() -> None:
    """Once; again; without access; without the branch; too long. The exit codes are those that were recorded."""
    address = "https://github.com/org/repo"
    async with AgentRig(closed=["org/nowhere"]) as rig:
        found = {
            "as-workspace.01": await clone(rig, "clone --quiet --", address, "/srv/runs/one"),
            "as-workspace.02": await clone(rig, "clone --quiet --", address, "/srv/runs/one"),
            "as-workspace.03": await clone(rig, "clone --quiet -- https://github.com/org/nowhere", "/srv/runs/two"),
            "as-workspace.04": await clone(rig, "clone --quiet --branch nowhere --", address, "/srv/runs/three"),
            "as-workspace.05": await clone(rig, "ls-remote --heads --", address),
        }
        rig.server.machine.clone_s = 20
        cloning = asyncio.create_task(clone(rig, "clone --quiet --", address, "/srv/runs/four", timeout=2))
        await rig.until_parked()
        await rig.later(2)
        found["as-workspace.06"] = await cloning
        clones = rig.server.machine.clones
    for name, answer in found.items():
        real = exchange(name)["response"]
        assert (answer["exit_code"], answer.keys()) == (real["exit_code"], real.keys()), name
    assert "already exists" in found["as-workspace.02"]["stderr"]
    assert found["as-workspace.04"]["stderr"] == exchange("as-workspace.04")["response"]["stderr"]
    assert found["as-workspace.05"]["stdout"].endswith("\trefs/heads/develop\n")
    assert clones == {"/srv/runs/one": ("org/repo", "main")}


async def test_the_shell_has_git_and_nothing_else() -> None:
    """Where git is missing, not even that; whoever asks for more is noted, since no bot should."""
    async with AgentRig() as rig:
        pull = await clone(rig, "-C", "/srv/runs/one", "pull --quiet --ff-only")
        rig.server.machine.git = False
        missing = await clone(rig, "ls-remote --heads -- https://github.com/org/repo")
        answer = await rig.client.post("/api/bash/execute_bash_command", json={"command": "rm -rf /"})
        nothing = await rig.client.post("/api/bash/execute_bash_command", json={})
        violations = rig.server.violations
    assert [one["exit_code"] for one in (pull, missing, answer.json())] == [128, 127, 127]
    assert (nothing.status_code, violations) == (422, ["a command that is not git's: 'rm -rf /'"])


async def test_a_start_with_two_agents_or_an_unknown_field_is_noted() -> None:
    """Two are refused; a field is ignored, as by the real one, but no bot sends it."""
    async with AgentRig() as rig:
        two = await rig.post_start(rig.body(agent_settings={"llm": {}}))
        odd = await rig.post_start(rig.body(colour="red"))
        empty = await rig.post_start(rig.body(None))
        violations = rig.server.violations
    assert two.json()["detail"][0]["msg"] == exchange("as-bodies.05")["response"]["detail"][0]["msg"]
    assert (odd.status_code, empty.status_code) == (201, 201)
    assert relation(empty.json()) == relation(exchange("as-bodies.26")["response"])
    assert violations == ["a start with fields that no bot sends: ['colour']"]


async def test_an_unknown_conversation_is_told_from_an_unknown_call() -> None:
    """V1's path for messages is not here."""
    async with AgentRig() as rig:
        c = await rig.start()
        answer = await rig.tell(c, "send-message", {"role": "user", "content": []})
        unknown = await rig.tell(UNKNOWN, "run")
    assert (answer.status_code, unknown.status_code) == (404, 404)
