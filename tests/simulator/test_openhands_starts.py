"""Starts on the local OpenHands: what they go through, and what a second one does to the first."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.simulator.openhands_rig import APP, Rig, content

UNAUTHORISED = "Client error '401 Unauthorized' for url 'http://127.0.0.1:3200/api/conversations'"
SERVER_ERROR = "Server error '500 Internal Server Error' for url 'http://127.0.0.1:3200/api/conversations'"


async def test_a_start_is_answered_at_once_with_a_task_that_knows_nothing_yet() -> None:
    """200 and WORKING: no conversation, no sandbox, the request as the server understood it, times with Z."""
    async with Rig() as rig:
        identifier = str(uuid4())
        answer = await rig.post_start("fix README", conversation_id=identifier, title="Mine", colour="red")
        task = answer.json()
        assert answer.status_code == 200
        assert {name: task[name] for name in ("status", "detail", "app_conversation_id", "sandbox_id")} == {
            "status": "WORKING",
            "detail": None,
            "app_conversation_id": None,
            "sandbox_id": None,
        }
        assert task["created_at"] == "2026-11-24T09:00:00Z"
        assert task["request"]["conversation_id"] == identifier
        assert task["request"]["initial_message"] == {
            "role": "user",
            "content": [{"cache_prompt": False, "type": "text", "text": "fix README"}],
            "run": False,
        }
        assert "colour" not in task["request"]


@pytest.mark.parametrize(
    ("after_s", "status"),
    [
        (73, "WORKING"),
        (74, "WAITING_FOR_SANDBOX"),
        (75, "PREPARING_REPOSITORY"),
        (77, "RUNNING_SETUP_SCRIPT"),
        (78, "SETTING_UP_GIT_HOOKS"),
        (79, "SETTING_UP_SKILLS"),
        (80, "STARTING_CONVERSATION"),
        (100, "READY"),
    ],
)
async def test_a_start_goes_through_its_states_in_time(after_s: int, status: str) -> None:
    """Most of the time goes into the sandbox, the rest follows in quick steps."""
    async with Rig(start_seconds=100) as rig:
        task = (await rig.post_start()).json()
        await rig.later(after_s)
        assert (await rig.task(task["id"]))["status"] == status


async def test_a_start_without_duration_is_ready_at_the_next_look() -> None:
    """Its answer says WORKING all the same."""
    async with Rig() as rig:
        task = (await rig.post_start()).json()
        assert (await rig.task(task["id"]))["status"] == "READY"


async def test_before_ready_nothing_but_its_task_knows_the_conversation() -> None:
    """Look-ups give null; it can be neither written to nor deleted."""
    async with Rig(start_seconds=13) as rig:
        identifier = (await rig.post_start()).json()["request"]["conversation_id"]
        sent = await rig.send(identifier, "Hello")
        deleted = await rig.client.delete(f"{APP}/{identifier}")
        assert await rig.status(identifier) is None
        assert (sent.status_code, sent.json()) == (404, {"detail": f"Conversation {identifier} not found"})
        assert (deleted.status_code, deleted.json()) == (404, {"detail": "Conversation not found"})


async def test_ids_are_taken_with_and_without_dashes_and_given_without() -> None:
    """Only the request keeps its dashes. Times in lists of tasks have no zone."""
    async with Rig() as rig:
        c = await rig.start()
        bare = UUID(c.id).hex
        [task] = c.start_tasks
        shown = await rig.task(str(UUID(task.id)))
        assert (await rig.status(bare))["id"] == bare
        assert await rig.status(bare) == await rig.status(c.id)
        assert (shown["id"], shown["app_conversation_id"], shown["sandbox_id"]) == (task.id, bare, bare)
        assert shown["request"]["conversation_id"] == c.id
        assert shown["created_at"] == "2026-11-24T09:00:00"


async def test_a_start_without_an_id_gets_one_from_the_server() -> None:
    """The answer does not tell it; READY does."""
    async with Rig() as rig:
        task = (await rig.client.post(APP, json={"initial_message": {"content": content("Hello")}})).json()
        ready = await rig.task(task["id"])
        assert task["request"]["conversation_id"] is None
        assert rig.server.find("Hello").sandbox_id == ready["app_conversation_id"]


async def test_a_start_without_a_message_is_idle() -> None:
    """Nobody works before the first message."""
    async with Rig() as rig:
        identifier = (await rig.post_start(None)).json()["request"]["conversation_id"]
        shown = await rig.status(identifier)
        assert (shown["sandbox_status"], shown["execution_status"]) == ("RUNNING", "idle")


async def test_the_title_of_a_start_is_ignored_and_one_given_too_early_is_overwritten() -> None:
    """First the word and five digits, seconds later the model's title; only a title given after that stays."""
    async with Rig() as rig:
        c = await rig.start("fix README\nand more", title="Sent")
        first = (await rig.status(c))["title"]
        await rig.client.patch(f"{APP}/{c.id}", json={"title": "Too early"})
        await rig.later(5)
        second = (await rig.status(c))["title"]
        await rig.client.patch(f"{APP}/{c.id}", json={"title": "Mine"})
        await rig.later(60)
        assert (first, second) == (f"Conversation {c.id[:5]}", "fix README")
        assert (await rig.status(c))["title"] == "Mine"


async def test_what_a_start_asks_for_is_what_the_conversation_has() -> None:
    """Repository, branch, model, the words added to the system message, and pull requests sent along."""
    async with Rig() as rig:
        c = await rig.start(
            selected_repository="org/repo",
            selected_branch="dev",
            git_provider="github",
            llm_model="openai/gpt",
            trigger="slack",
            system_message_suffix="Be brief.",
            pr_number=[7],
        )
        shown = await rig.status(c)
        assert c.suffix == "Be brief."
        assert {name: shown[name] for name in ("selected_repository", "selected_branch", "llm_model")} == {
            "selected_repository": "org/repo",
            "selected_branch": "dev",
            "llm_model": "openai/gpt",
        }
        assert (shown["git_provider"], shown["trigger"], shown["pr_number"]) == ("github", "slack", [7])


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"conversation_id": "not-an-id"}, ["body", "conversation_id"]),
        ({"trigger": "carrier-pigeon"}, ["body", "trigger"]),
        ({"git_provider": "sourceforge"}, ["body", "git_provider"]),
        ({"selected_repository": 1}, ["body", "selected_repository"]),
        ({"initial_message": "Hello"}, ["body", "initial_message"]),
        ({"initial_message": {"content": "Hello"}}, ["body", "initial_message", "content"]),
        (
            {"initial_message": {"content": [{"type": "poem"}]}},
            ["body", "initial_message", "content", 0, "TextContent", "type"],
        ),
        ([], ["body"]),
    ],
)
async def test_a_malformed_start_is_refused(body: object, loc: list[object]) -> None:
    """422 that names the place; nothing starts."""
    async with Rig() as rig:
        answer = await rig.client.post(APP, json=body)
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, loc)
        assert rig.server.tasks == {}


async def test_a_start_that_is_no_json_is_refused() -> None:
    """422, too, not 400."""
    async with Rig() as rig:
        answer = await rig.client.post(APP, content="{nonsense")
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "json_invalid")


# A repository that cannot be opened


@pytest.mark.parametrize(
    ("providers", "detail"), [(False, ""), (True, "Git provider authentication issue when getting remote URL")]
)
async def test_a_repository_that_cannot_be_opened_fails_the_start_late(*, providers: bool, detail: str) -> None:
    """The start is accepted. Without a git provider the error that follows has an empty text."""
    async with Rig(providers=providers, repositories=["org/other"], start_seconds=13) as rig:
        answer = await rig.post_start(selected_repository="org/repo")
        await rig.later(13)
        task = await rig.task(answer.json()["id"])
        assert answer.status_code == 200
        assert (task["status"], task["detail"], task["app_conversation_id"]) == ("ERROR", detail, None)
        assert await rig.status(task["request"]["conversation_id"]) is None
        assert rig.server.conversations == {}


async def test_a_sandbox_that_does_not_start_fails_the_start_early() -> None:
    """ERROR with the server's words, and no sandbox."""
    async with Rig() as rig:
        rig.server.fail_next_start()
        task = await rig.task((await rig.post_start()).json()["id"])
        assert (task["status"], task["detail"]) == ("ERROR", "500: Agent Server Failed to start properly")
        assert task["sandbox_id"] is None


# The same id twice


async def test_two_starts_with_one_id_on_their_way_both_fail() -> None:
    """Nothing runs in the end but a sandbox with nothing in it."""
    async with Rig(start_seconds=13) as rig:
        identifier = str(uuid4())
        first = (await rig.post_start(conversation_id=identifier)).json()
        await rig.later(2)
        second = (await rig.post_start(conversation_id=identifier)).json()
        await rig.later(20)
        ends = [await rig.task(first["id"]), await rig.task(second["id"])]
        left = (await rig.client.get("/api/v1/sandboxes/search")).json()["items"]
        assert [(task["status"], task["detail"]) for task in ends] == [("ERROR", UNAUTHORISED)] * 2
        assert await rig.status(identifier) is None
        assert rig.server.conversations == {}
        assert [(one["id"], one["status"]) for one in left] == [(UUID(identifier).hex, "RUNNING")]


@pytest.mark.parametrize("over", [False, True], ids=["running", "finished"])
async def test_a_second_start_wrecks_a_conversation_that_is_there(*, over: bool) -> None:
    """The status is null for good, at an empty agent server; sends fail; the stored events remain."""
    async with Rig() as rig:
        c = await rig.start()
        if over:
            rig.server.finish(c, "Done.")
        second = (await rig.post_start("again", conversation_id=c.id)).json()
        task = await rig.task(second["id"])
        final = await rig.ask_agent(c, "agent_final_response")
        sent = await rig.send(c, "Hello?")
        assert (task["status"], task["detail"]) == ("ERROR", SERVER_ERROR)
        assert (c.destroyed, c.messages) == (True, ["fix README"])
        assert await rig.words(c) == ("RUNNING", None)
        assert (final.status_code, (await rig.tell(c, "interrupt")).status_code) == (404, 400)
        assert (sent.status_code, sent.json()) == (502, {"detail": "Agent server error: 404"})
        assert await rig.kinds(c, kind__eq="MessageEvent") == ["MessageEvent"]


async def test_after_a_failed_start_the_same_id_starts_normally() -> None:
    """A failure leaves only its task behind."""
    async with Rig() as rig:
        identifier = str(uuid4())
        rig.server.fail_next_start()
        failed = (await rig.post_start(conversation_id=identifier)).json()
        c = await rig.start("second try", conversation_id=identifier)
        assert [task.status for task in c.start_tasks] == ["ERROR", "READY"]
        assert (c.messages, (await rig.task(failed["id"]))["status"]) == (["second try"], "ERROR")


async def test_a_deleted_conversation_takes_its_task_along_and_frees_its_id() -> None:
    """A new conversation may follow under the old id; the events of both are kept under it."""
    async with Rig() as rig:
        c = await rig.start("first")
        deleted = await rig.client.delete(f"{APP}/{c.id}")
        gone = (await rig.status(c), await rig.task(c.start_tasks[0].id))
        again = await rig.start("second", conversation_id=c.id)
        texts = [
            event["llm_message"]["content"][0]["text"] for event in await rig.events(again, kind__eq="MessageEvent")
        ]
        assert deleted.json() == {"success": True}
        assert gone == (None, None)
        assert (again.destroyed, again.messages, texts) == (False, ["second"], ["first", "second"])


# The same id twice where sandboxes are shared


async def test_in_a_shared_sandbox_two_starts_on_their_way_are_one() -> None:
    """Two tasks READY, one conversation, one message."""
    async with Rig(shared_sandbox=True, start_seconds=13) as rig:
        identifier = str(uuid4())
        posted = [(await rig.post_start(conversation_id=identifier)).json() for _ in range(2)]
        await rig.later(13)
        tasks = [await rig.task(one["id"]) for one in posted]
        shown = await rig.status(identifier)
        assert [(task["status"], task["app_conversation_id"]) for task in tasks] == [("READY", shown["id"])] * 2
        assert {task["sandbox_id"] for task in tasks} == {shown["sandbox_id"]}
        assert (shown["execution_status"], rig.server.find("fix README").messages) == ("running", ["fix README"])


@pytest.mark.parametrize("over", [False, True], ids=["running", "finished"])
async def test_in_a_shared_sandbox_a_second_start_only_loses_its_message(*, over: bool) -> None:
    """The conversation stays as it is; its record is written anew."""
    async with Rig(shared_sandbox=True) as rig:
        c = await rig.start(trigger="slack")
        if over:
            rig.server.finish(c, "Done.")
        before = await rig.words(c)
        await rig.later(60)
        second = (await rig.post_start("again", conversation_id=c.id, trigger="gui")).json()
        task, shown = await rig.task(second["id"]), await rig.status(c)
        assert (task["status"], await rig.words(c), c.messages) == ("READY", before, ["fix README"])
        assert (shown["title"], shown["trigger"]) == (f"Conversation {c.id[:5]}", "gui")
        assert shown["created_at"] == "2026-11-24T09:01:00Z"


# Finding a start


async def test_a_start_on_its_way_is_found_only_in_the_full_list() -> None:
    """By conversation only what is READY is found; without that filter every state is listed."""
    async with Rig(start_seconds=13) as rig:
        identifier = (await rig.post_start()).json()["request"]["conversation_id"]
        by_conversation = {"conversation_id__eq": identifier}
        before = (await rig.client.get(f"{APP}/start-tasks/search", params=by_conversation)).json()["items"]
        listed = (await rig.client.get(f"{APP}/start-tasks/search")).json()["items"]
        await rig.later(13)
        after = (await rig.client.get(f"{APP}/start-tasks/search", params=by_conversation)).json()["items"]
        assert before == []
        assert [(task["status"], task["request"]["conversation_id"]) for task in listed] == [("WORKING", identifier)]
        assert [task["status"] for task in after] == ["READY"]


async def test_the_list_of_starts_has_the_newest_first_and_pages_by_offset() -> None:
    """`created_at__gte` counts equal times in and takes them with and without zone."""
    async with Rig() as rig:
        for text in ("one", "two", "three"):
            await rig.start(text)
            await rig.later(10)

        async def texts(**query: str | int) -> tuple[list[str], str | None]:
            answer = (await rig.client.get(f"{APP}/start-tasks/search", params=query)).json()
            first = [task["request"]["initial_message"]["content"][0]["text"] for task in answer["items"]]
            return first, answer["next_page_id"]

        assert await texts() == (["three", "two", "one"], None)
        assert await texts(limit=2) == (["three", "two"], "2")
        assert await texts(limit=2, page_id="2") == (["one"], None)
        assert await texts(created_at__gte="2026-11-24T09:00:10Z") == (["three", "two"], None)
        assert await texts(created_at__gte="2026-11-24T09:00:10.000001") == (["three"], None)


async def test_starts_of_the_same_instant_are_listed_newest_first_too() -> None:
    """The order is that of arrival, not only of the clock."""
    async with Rig() as rig:
        first, second = (await rig.post_start("one")).json(), (await rig.post_start("two")).json()
        listed = (await rig.client.get(f"{APP}/start-tasks/search")).json()["items"]
        assert [task["id"] for task in listed] == [second["id"], first["id"]]


@pytest.mark.parametrize("query", [{}, {"ids": "not-an-id"}], ids=["none", "malformed"])
async def test_start_tasks_are_looked_up_by_well_formed_ids(query: dict[str, str]) -> None:
    """422 otherwise; a malformed id counts as a violation."""
    async with Rig() as rig:
        answer = await rig.client.get(f"{APP}/start-tasks", params=query)
        assert answer.status_code == 422
        assert rig.server.violations == [f"malformed id: {text!r}" for text in query.values()]


# The limit


async def test_at_the_limit_a_start_is_refused_while_all_work() -> None:
    """429 with the numbers; as soon as one is at rest it is put to sleep to make room."""
    async with Rig(limit=1) as rig:
        c = await rig.start("first")
        refused = await rig.post_start("second")
        rig.server.finish(c, "Done.")
        accepted = await rig.post_start("second")
        assert (refused.status_code, refused.json()) == (
            429,
            {"detail": {"error": "CONCURRENCY_LIMIT_REACHED", "limit": 1, "current": 1}},
        )
        assert (accepted.status_code, c.sandbox_status) == (200, "PAUSED")


async def test_a_start_on_its_way_takes_a_place() -> None:
    """It is refused by what is starting as well as by what runs."""
    async with Rig(limit=1, start_seconds=13) as rig:
        await rig.post_start("first")
        assert (await rig.post_start("second")).status_code == 429


async def test_a_server_that_pauses_silently_pauses_the_oldest() -> None:
    """Working or not, and nothing tells the one who started the next."""
    async with Rig(limit=2, limit_answers="pauses-oldest") as rig:
        oldest, other = await rig.start("first"), await rig.start("second")
        rig.server.finish(other, "Done.")
        newest = await rig.start("third")
        assert [await rig.words(c) for c in (oldest, other, newest)] == [
            ("PAUSED", None),
            ("RUNNING", "finished"),
            ("RUNNING", "running"),
        ]


async def test_waking_a_sandbox_counts_against_the_limit_too() -> None:
    """Resuming one pauses another where the server pauses, and is refused where it refuses."""
    async with Rig(limit=1) as rig:
        asleep = await rig.start("first")
        rig.server.fall_asleep(asleep)
        await rig.start("second")
        refused = await rig.client.post(f"/api/v1/sandboxes/{asleep.sandbox_id}/resume")
        rig.server.limit_answers = "pauses-oldest"
        woken = await rig.client.post(f"/api/v1/sandboxes/{asleep.sandbox_id}/resume")
        assert (refused.status_code, woken.status_code) == (429, 200)
        assert await rig.words(rig.server.find("second")) == ("PAUSED", None)


async def test_a_shared_sandbox_takes_one_place_however_many_are_in_it() -> None:
    """A start joins it, at the limit too; only another sandbox would need a place."""
    async with Rig(limit=1, shared_sandbox=True) as rig:
        first, second = await rig.start("first"), await rig.start("second")
        assert first.sandbox_id == second.sandbox_id


async def test_find_names_the_one_conversation_that_was_given_a_text() -> None:
    """None and several are errors, so that no test goes on with the wrong one."""
    async with Rig() as rig:
        first = await rig.start("fix README")
        await rig.start("fix README too")
        await rig.send(first, "and the docs")
        assert rig.server.find("the docs") is first
        with pytest.raises(LookupError, match="2 conversations"):
            rig.server.find("README")
        with pytest.raises(LookupError, match="0 conversations"):
            rig.server.find("nothing")


async def test_created_at_of_a_conversation_is_that_of_ready() -> None:
    """Not that of the start."""
    async with Rig(start_seconds=13) as rig:
        c = await rig.start()
        assert (await rig.status(c))["created_at"] == "2026-11-24T09:00:13Z"
        assert c.start_tasks[0].created_at == c.created_at - timedelta(seconds=13)
