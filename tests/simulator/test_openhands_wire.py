"""Keys, limits and faults of the local OpenHands, and what a test may know and hook into."""

import asyncio

import httpx
import pytest

from bot.simulator.openhands import Call, Conversation, LocalOpenHands, NoAnswer
from tests.simulator.openhands_rig import APP, Rig

COUNT = f"{APP}/count"


# Keys


@pytest.mark.parametrize(
    ("key_header", "headers", "status"),
    [
        ("bearer", {"Authorization": "Bearer right"}, 200),
        ("bearer", {"Authorization": "Bearer wrong"}, 401),
        ("bearer", {"X-Session-API-Key": "right"}, 401),
        ("bearer", {}, 401),
        ("session", {"X-Session-API-Key": "right"}, 200),
        ("session", {"X-Session-API-Key": "wrong"}, 401),
        ("session", {"Authorization": "Bearer right"}, 401),
    ],
)
async def test_a_key_is_read_from_one_header_only(key_header: str, headers: dict[str, str], status: int) -> None:
    """The cloud reads Authorization, a server of one's own X-Session-API-Key."""
    async with Rig(key="right", key_header=key_header) as rig:
        answer = await rig.client.get(COUNT, headers=headers)
        assert answer.status_code == status
        assert status == 200 or answer.json() == {"detail": "Unauthorized"}


async def test_whether_it_is_alive_needs_no_key() -> None:
    """Nor does what it does not serve: a probe of the other API is answered 404."""
    async with Rig(key="right") as rig:
        alive = await rig.client.get("/alive")
        other_api = await rig.client.get("/api/conversations")
        assert (alive.json(), other_api.status_code) == ({"status": "ok"}, 404)


async def test_the_agent_server_wants_the_key_of_the_conversation() -> None:
    """No other opens it, not even that of the account."""
    async with Rig(key="account") as rig:
        rig.client.headers["Authorization"] = "Bearer account"
        c, other = await rig.start("one"), await rig.start("two")
        path = f"{c.path}/agent_final_response"
        keys = ["account", other.session_api_key, c.session_api_key]
        answers = [await rig.client.get(path, headers={"X-Session-API-Key": key}) for key in keys]
        assert [answer.status_code for answer in answers] == [401, 401, 200]


async def test_at_an_old_address_nobody_answers() -> None:
    """While the sandbox sleeps, and after it woke elsewhere, the connection is closed."""
    async with Rig() as rig:
        c = await rig.start()
        path, headers = f"{c.path}/interrupt", {"X-Session-API-Key": c.session_api_key}
        rig.server.fall_asleep(c)
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.client.post(path, headers=headers)
        await rig.client.post(f"/api/v1/sandboxes/{c.sandbox_id}/resume")
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.client.post(path, headers=headers)
        assert c.interrupts == 0


# Limits


async def test_the_twenty_first_call_of_a_second_is_too_many() -> None:
    """429 with Retry-After, and after a second all is well."""
    async with Rig() as rig:
        answers = [await rig.client.get(COUNT) for _ in range(21)]
        await rig.later(1)
        after = await rig.client.get(COUNT)
        assert [answer.status_code for answer in answers] == [200] * 20 + [429]
        assert (answers[-1].json(), answers[-1].headers["Retry-After"]) == ({"message": "Too many requests"}, "1")
        assert after.status_code == 200


async def test_by_the_wall_clock_the_eleventh_call_of_a_second_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second on the real server. A clock moved by hand does not pass while a caller waits, so there it is not."""
    monkeypatch.setattr("bot.simulator.openhands.server.RATE_HOLDS_BACK_S", 0.2)
    server = LocalOpenHands()
    await server.start()
    async with httpx.AsyncClient(base_url=server.base_url, verify=False) as client:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(10):
            await client.get(COUNT)
        ten = loop.time() - begun
        await client.get(COUNT)
        eleven = loop.time() - begun
    await server.stop()
    assert eleven - ten >= 0.2


async def test_the_agent_servers_are_not_limited() -> None:
    """And the limit can be switched off for the rest."""
    async with Rig(rate_limit=False) as rig:
        c = await rig.start()
        many = [await rig.client.get(COUNT) for _ in range(30)]
        rig.server.rate_limit = True
        asked = [await rig.ask_agent(c, "agent_final_response") for _ in range(30)]
        assert {answer.status_code for answer in many + asked} == {200}


# Faults


@pytest.mark.parametrize("after", [False, True])
async def test_a_broken_call_has_its_effect_only_if_told_so(*, after: bool) -> None:
    """The answer is lost either way; the call after it is well again."""
    async with Rig() as rig:
        rig.server.break_next("start", drop=True, after=after)
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.post_start("fix README")
        await rig.later(0)
        assert len(rig.server.conversations) == (1 if after else 0)
        assert (await rig.post_start("again")).status_code == 200


async def test_a_lost_answer_to_a_message_leaves_the_message_there() -> None:
    """502, delivered."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.break_next("send", status=502, body={"detail": "Failed to reach agent server."}, after=True)
        answer = await rig.send(c, "second")
        assert (answer.status_code, answer.json()) == (502, {"detail": "Failed to reach agent server."})
        assert c.messages == ["first", "second"]


async def test_faults_come_in_order_and_as_often_as_told() -> None:
    """Each kind of call has its own."""
    async with Rig() as rig:
        rig.server.break_next("probe", status=503, times=2)
        rig.server.break_next("probe", html=True)
        rig.server.break_next("probe", invalid_json=True)
        await rig.client.get(f"{APP}/search")
        answers = [await rig.client.get(COUNT) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [503, 503, 200, 200, 200]
        assert [answer.headers["content-type"].partition(";")[0] for answer in answers] == [
            "text/plain",
            "text/plain",
            "text/html",
            "application/json",
            "application/json",
        ]
        assert [answer.text for answer in answers[3:]] == ['{"id": "', "0"]


async def test_what_was_to_go_wrong_may_be_taken_back() -> None:
    """From then on all is well."""
    async with Rig() as rig:
        rig.server.break_next("probe", status=500, times=100)
        broken = await rig.client.get(f"{APP}/count")
        rig.server.recover()
        assert (broken.status_code, (await rig.client.get(f"{APP}/count")).status_code) == (500, 200)


async def test_a_kind_of_call_that_does_not_exist_cannot_be_broken() -> None:
    """A misspelt fault would never come."""
    async with Rig() as rig:
        with pytest.raises(ValueError, match="sned"):
            rig.server.break_next("sned", drop=True)


async def test_a_hanging_call_does_not_keep_the_server_busy() -> None:
    """Nothing will come of it by itself, so it counts as idle; it ends with the server at the latest."""
    async with Rig() as rig:
        rig.server.break_next("probe", hang_s=60)
        with pytest.raises(httpx.ReadTimeout):
            await rig.client.get(COUNT, timeout=0.05)
        assert rig.server.idle
        assert rig.server.calls[-1].status is None


async def test_a_slow_answer_is_the_true_one() -> None:
    """hang_s with `after`: the effect at once, the answer late."""
    async with Rig() as rig:
        rig.server.break_next("probe", hang_s=0.01, after=True)
        assert (await rig.client.get(COUNT)).json() == 0


async def test_while_it_is_down_every_connection_is_closed() -> None:
    """For known paths and unknown ones; then it is back with all it had."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.down = True
        for path in (COUNT, "/nowhere"):
            with pytest.raises(httpx.RemoteProtocolError):
                await rig.client.get(path)
        rig.server.down = False
        assert await rig.words(c) == ("RUNNING", "running")


async def test_a_server_may_be_stopped_and_started_again() -> None:
    """In between connections are refused; nothing is forgotten."""
    async with Rig() as rig:
        c = await rig.start()
        port = int(rig.server.base_url.rpartition(":")[2])
        await rig.server.stop()
        with pytest.raises(httpx.ConnectError):
            await rig.client.get(COUNT)
        await rig.server.start(port)
        assert await rig.words(c) == ("RUNNING", "running")


async def test_unknown_paths_and_methods_are_violations() -> None:
    """Answered in JSON, as the real server does."""
    async with Rig() as rig:
        path = await rig.client.get("/api/v1/nothing")
        method = await rig.client.put(APP, json={})
        assert (path.status_code, path.json()) == (404, {"detail": "Not Found"})
        assert (method.status_code, method.json()) == (405, {"detail": "Method Not Allowed"})
        assert rig.server.violations == ["unknown path: GET /api/v1/nothing", f"unknown path: PUT {APP}"]


async def test_to_probe_for_the_other_api_is_no_violation() -> None:
    """It is how one finds out which there is."""
    async with Rig() as rig:
        assert (await rig.client.get("/api/conversations")).json() == {"detail": "Not Found"}
        assert rig.server.violations == []


# What a test may know


async def test_every_call_is_noted() -> None:
    """Kind, method, path, query, body, time, and the status of the answer."""
    async with Rig() as rig:
        c = await rig.start("fix README", selected_repository="org/repo")
        await rig.later(5)
        await rig.status(c)
        start, status = rig.server.calls
        body = {
            "conversation_id": c.id,
            "initial_message": {"content": [{"type": "text", "text": "fix README"}]},
            "selected_repository": "org/repo",
        }
        assert [vars(call) for call in (start, status)] == [
            vars(Call("start", "POST", APP, {}, body, rig.clock.replace(second=0), 200)),
            vars(Call("status", "GET", APP, {"ids": [c.id]}, None, rig.clock, 200)),
        ]


async def test_a_hook_sees_each_call_before_and_after_its_effect() -> None:
    """This is where a process can be made to die."""
    async with Rig() as rig:
        seen: list[tuple[str, str, int]] = []

        async def hook(phase: str, kind: str) -> None:
            seen.append((phase, kind, len(rig.server.tasks)))

        rig.server.on_call = hook
        await rig.post_start()
        assert seen == [("before", "start", 0), ("after", "start", 1)]


@pytest.mark.parametrize("phase", ["before", "after"])
async def test_a_hook_may_lose_the_call_or_its_answer(phase: str) -> None:
    """Before: without effect. After: with it. The caller cannot tell which."""
    async with Rig() as rig:

        async def hook(now: str, _kind: str) -> None:
            if now == phase:
                raise NoAnswer

        rig.server.on_call = hook
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.post_start()
        assert len(rig.server.tasks) == (0 if phase == "before" else 1)


async def test_a_hook_that_breaks_is_not_passed_over() -> None:
    """The caller gets a 500, the test a violation."""
    async with Rig() as rig:

        async def hook(_phase: str, _kind: str) -> None:
            raise LookupError("what?")

        rig.server.on_call = hook
        assert (await rig.client.get(COUNT)).status_code == 500
        assert rig.server.violations == [f"the simulator broke on GET {COUNT}: LookupError('what?')"]


def connected(server: LocalOpenHands) -> bool:
    """Whether any caller is still there."""
    assert server._runner is not None
    assert server._runner.server is not None
    return any(one.transport is not None for one in server._runner.server.connections)


async def test_a_call_whose_caller_dies_in_the_hook_has_no_effect() -> None:
    """The hook goes on to its end, whatever becomes of the caller."""
    async with Rig() as rig:
        dead = asyncio.Event()

        async def hook(phase: str, _kind: str) -> None:
            if phase == "before":
                calling.cancel()
                while connected(rig.server):  # noqa: ASYNC110  a real socket's end is told by nothing else
                    await asyncio.sleep(0)
                dead.set()

        rig.server.on_call = hook
        calling = asyncio.create_task(rig.post_start())
        await asyncio.wait_for(dead.wait(), 5)
        await rig.later(0)
        assert (rig.server.tasks, rig.server.idle) == ({}, True)


async def test_it_is_idle_until_a_call_comes_or_something_is_due() -> None:
    """What lies ahead does not count, what is due does."""
    async with Rig(start_seconds=13) as rig:
        busy: list[bool] = []

        async def hook(_phase: str, _kind: str) -> None:
            busy.append(not rig.server.idle)

        rig.server.on_call = hook
        await rig.post_start()
        ahead = rig.server.idle
        rig.clock = rig.clock.replace(second=30)
        due = rig.server.idle
        await rig.server.tick()
        assert (busy, ahead, due, rig.server.idle) == ([True, True], True, False, True)


async def test_an_agent_may_act_by_itself() -> None:
    """It gets each message in turn, and "" when it is told to go on; meanwhile the server is not idle."""
    heard: list[str] = []

    async def agent(c: Conversation, text: str) -> None:
        heard.append(text)
        if text == "approve me":
            rig.server.want_approval(c, "rm x", summary="Clear")
            return
        rig.server.progress(c, "Look")
        rig.server.finish(c, f"Heard {text!r}.")

    async with Rig(agent=agent) as rig:
        c = await rig.start("first")
        busy = not rig.server.idle
        await asyncio.sleep(0)
        await rig.send(c, "approve me")
        await asyncio.sleep(0)
        await rig.tell(c, "events/respond_to_confirmation", {"accept": True})
        await asyncio.sleep(0)
        assert (busy, rig.server.idle) == (True, True)
        assert heard == ["first", "approve me", ""]
        assert c.execution_status == "finished"


async def test_an_agent_reads_what_came_meanwhile_when_it_is_through() -> None:
    """One message after the other, each with an end of its own."""
    go_on = asyncio.Event()

    async def agent(c: Conversation, text: str) -> None:
        await go_on.wait()
        rig.server.finish(c, f"Heard {text!r}.")

    async with Rig(agent=agent) as rig:
        c = await rig.start("first")
        await rig.send(c, "second")
        go_on.set()
        await asyncio.gather(*rig.server._runners)
        said = [event["action"]["message"] for event in await rig.events(c, kind__eq="ActionEvent")]
        assert (said, c.execution_status) == (["Heard 'first'.", "Heard 'second'."], "finished")


async def test_an_agent_frozen_with_its_sandbox_is_told_to_go_on() -> None:
    """With "", as after every other pause."""
    heard: list[str] = []

    async def agent(_c: Conversation, text: str) -> None:
        heard.append(text)
        await asyncio.Event().wait()

    async with Rig(agent=agent) as rig:
        c = await rig.start("first")
        await asyncio.sleep(0)
        path = f"/api/v1/sandboxes/{c.sandbox_id}"
        await rig.client.post(f"{path}/pause")
        await rig.client.post(f"{path}/resume")
        await asyncio.sleep(0)
        assert heard == ["first", ""]


async def test_an_agent_that_acts_by_itself_is_cut_off_by_an_interrupt() -> None:
    """Whatever it was at."""

    async def never_ends(_conversation: Conversation, _text: str) -> None:
        await asyncio.Event().wait()

    async with Rig(agent=never_ends) as rig:
        c = await rig.start()
        await rig.tell(c, "interrupt")
        assert (c.execution_status, c.runner) == ("paused", None)


async def test_an_agent_that_breaks_is_not_passed_over() -> None:
    """It counts as a violation."""

    async def agent(c: Conversation, _text: str) -> None:
        rig.server.finish(c, "Done.")
        rig.server.finish(c, "Done twice.")

    async with Rig(agent=agent) as rig:
        c = await rig.start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        [violation] = rig.server.violations
        assert violation.startswith(f"the agent of {c.id} broke: RuntimeError")


async def test_by_the_wall_clock_it_keeps_time_itself() -> None:
    """Without a clock from outside nobody has to call `tick`."""
    ready = asyncio.Event()

    async def agent(_c: Conversation, _text: str) -> None:
        ready.set()

    server = LocalOpenHands(start_seconds=0.02, agent=agent)
    await server.start()
    async with httpx.AsyncClient(base_url=server.base_url, verify=False) as client:
        await client.post(APP, json={"initial_message": {"content": [{"type": "text", "text": "fix README"}]}})
        await asyncio.wait_for(ready.wait(), 5)
    await server.stop()
    assert server.find("fix README").execution_status == "running"


# What it lists


async def test_repositories_are_listed_by_what_their_name_contains() -> None:
    """Only with a git provider, which has to be named."""
    async with Rig(repositories=["org/web", "org/api", "other/web"]) as rig:
        path = "/api/v1/git/repositories/search"
        found = (await rig.client.get(path, params={"provider": "github", "query": "WEB"})).json()
        unnamed = await rig.client.get(path)
        wrong = await rig.client.get(path, params={"provider": "sourceforge"})
        other = await rig.client.get(path, params={"provider": "gitlab"})
        named = (await rig.client.get("/api/v1/settings")).json()["provider_tokens_set"]
        rig.server.providers = False
        none = await rig.client.get(path, params={"provider": "github"})
        assert [one["full_name"] for one in found["items"]] == ["org/web", "other/web"]
        assert (unnamed.status_code, wrong.status_code, other.status_code, none.status_code) == (422, 422, 403, 403)
        assert named == {"github": None}
        assert none.json() == {"detail": "Git provider token required (such as GitHub)."}


async def test_branches_are_those_of_a_repository_one_can_open() -> None:
    """Others have none."""
    async with Rig(repositories=["org/web"]) as rig:
        path = "/api/v1/git/branches/search"

        async def names(**query: str) -> list[str]:
            answer = await rig.client.get(path, params={"provider": "github"} | query)
            return [one["name"] for one in answer.raise_for_status().json()["items"]]

        assert await names(repository="org/web") == ["main", "develop", "dev"]
        assert await names(repository="org/web", query="dev") == ["develop", "dev"]
        assert await names(repository="org/none") == []
        assert (await rig.client.get(path, params={"provider": "github"})).status_code == 422


async def test_models_are_searched_and_paged() -> None:
    """And the server tells whose key it was given."""
    async with Rig() as rig:
        path = "/api/v1/config/models/search"
        first = (await rig.client.get(path, params={"query": "gpt-4o", "limit": 2})).json()
        rest = (await rig.client.get(path, params={"query": "gpt-4o", "page_id": first["next_page_id"]})).json()
        me = (await rig.client.get("/api/v1/users/me")).json()
        assert [len(first["items"]), len(rest["items"]), rest["next_page_id"]] == [2, 1, None]
        assert (me["id"], me["email"]) == (None, None)
