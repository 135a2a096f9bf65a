"""What the local OpenHands shows of a conversation."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from bot.simulator.openhands import Conversation, LocalOpenHands
from tests.simulator.openhands_rig import APP, Rig

UNKNOWN = "0b07bff2-e73a-49bd-b24f-9d0057b26279"

Deed = Callable[[LocalOpenHands, Conversation], object]


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (lambda server, c: server.progress(c, "Look"), ("RUNNING", "running")),
        (lambda server, c: server.finish(c, "Done."), ("RUNNING", "finished")),
        (lambda server, c: server.ask(c, "Which?"), ("RUNNING", "finished")),
        (
            lambda server, c: server.want_approval(c, "rm -r x", summary="Clear"),
            ("RUNNING", "waiting_for_confirmation"),
        ),
        (lambda server, c: server.fail(c), ("RUNNING", "error")),
        (lambda server, c: server.get_stuck(c), ("RUNNING", "stuck")),
        (lambda server, c: server.someone_pauses(c), ("RUNNING", "paused")),
        (lambda server, c: server.wreck(c), ("RUNNING", None)),
        (lambda _, c: setattr(c, "silent", True), ("RUNNING", None)),
        (lambda server, c: server.fall_asleep(c), ("PAUSED", None)),
        (lambda server, c: server.lose_sandbox(c), ("MISSING", None)),
        (lambda server, c: server.set_status(c, sandbox_status="STARTING"), ("STARTING", None)),
        (lambda server, c: server.set_status(c, sandbox_status="ERROR"), ("ERROR", None)),
        (lambda server, c: server.set_status(c, execution_status="deleting"), ("RUNNING", "deleting")),
    ],
)
async def test_each_turn_of_events_has_its_words(deed: Deed, words: tuple[str, str | None]) -> None:
    """The agent's status is null unless its sandbox runs and its agent server answers."""
    async with Rig() as rig:
        c = await rig.start()
        deed(rig.server, c)
        assert await rig.words(c) == words


async def test_a_sleeping_sandbox_has_neither_address_nor_key() -> None:
    """Both come back with it, and are new."""
    async with Rig() as rig:
        c = await rig.start()
        before = await rig.status(c)
        rig.server.fall_asleep(c)
        asleep = await rig.status(c)
        await rig.client.post(f"/api/v1/sandboxes/{c.sandbox_id}/resume")
        after = await rig.status(c)
        url = f"{rig.server.base_url}/agent/{c.sandbox_id}-0/api/conversations/{c.sandbox_id}"
        assert before["conversation_url"] == url
        assert (asleep["conversation_url"], asleep["session_api_key"]) == (None, None)
        assert after["conversation_url"] not in {before["conversation_url"], None}
        assert after["session_api_key"] not in {before["session_api_key"], None}


async def test_a_vanished_conversation_is_null_everywhere() -> None:
    """Deleted behind our back: in the look-up, the list, the number, and for its start task."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.vanish(c)
        assert await rig.status(c) is None
        assert await rig.task(c.start_tasks[0].id) is None
        assert (await rig.client.get(f"{APP}/search")).json() == {"items": [], "next_page_id": None}
        assert (await rig.client.get(f"{APP}/count")).json() == 0


async def test_a_batch_keeps_the_order_asked_for() -> None:
    """Null for an unknown one, the same twice where asked twice."""
    async with Rig() as rig:
        first, second = await rig.start("first"), await rig.start("second")
        ids = [second.id, UNKNOWN, first.sandbox_id, second.sandbox_id]
        answer = (await rig.client.get(APP, params={"ids": ids})).json()
        shown = [one and one["id"] for one in answer]
        assert shown == [second.sandbox_id, None, first.sandbox_id, second.sandbox_id]


async def test_a_batch_has_at_most_99_ids() -> None:
    """99 are answered, 100 are refused for all."""
    async with Rig() as rig:
        ids = [str(uuid4()) for _ in range(100)]
        most = await rig.client.get(APP, params={"ids": ids[:99]})
        too_many = await rig.client.get(APP, params={"ids": ids})
        assert (most.status_code, most.json()) == (200, [None] * 99)
        assert (too_many.status_code, too_many.json()) == (400, {"detail": "Too many ids requested. Maximum is 99."})


async def test_a_batch_of_none_is_malformed() -> None:
    """422: the field is missing."""
    async with Rig() as rig:
        answer = await rig.client.get(APP)
        assert (answer.status_code, answer.json()["detail"][0]["type"]) == (422, "missing")


async def test_one_malformed_id_spoils_the_batch() -> None:
    """400 for all, and a violation."""
    async with Rig() as rig:
        answer = await rig.client.get(APP, params={"ids": [UNKNOWN, "not-an-id"]})
        assert (answer.status_code, answer.json()) == (400, {"detail": "Invalid UUID format for ids: ['not-an-id']"})
        assert rig.server.violations == ["malformed ids: ['not-an-id']"]


async def test_the_list_has_the_newest_first_and_pages() -> None:
    """The id of the next page is opaque; nonsense gives the first page."""
    async with Rig() as rig:
        for text in ("one", "two", "three"):
            await rig.start(text)
            await rig.later(10)
        names = {c.sandbox_id: c.messages[0] for c in rig.server.conversations.values()}

        async def listed(**query: str | int) -> tuple[list[str], str | None]:
            answer = (await rig.client.get(f"{APP}/search", params=query)).json()
            return [names[one["id"]] for one in answer["items"]], answer["next_page_id"]

        assert await listed(limit=2) == (["three", "two"], "Mg")
        assert await listed(limit=2, page_id="Mg") == (["one"], None)
        assert await listed(page_id="nonsense") == (["three", "two", "one"], None)
        assert (await rig.client.get(f"{APP}/count")).json() == 3


@pytest.mark.parametrize(("limit", "status"), [(0, 422), (1, 200), (100, 200), (101, 422)])
async def test_a_page_holds_1_to_100(limit: int, status: int) -> None:
    """Other limits are refused, here and for start tasks and events."""
    async with Rig() as rig:
        paths = (f"{APP}/search", f"{APP}/start-tasks/search", f"/api/v1/conversation/{UNKNOWN}/events/search")
        answers = [await rig.client.get(path, params={"limit": limit}) for path in paths]
        assert [answer.status_code for answer in answers] == [status] * 3


async def test_cost_and_pull_requests_are_shown() -> None:
    """Cost in USD, and the numbers of those the agent made."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.finish(c, "Done.", cost=0.42, pr=[12])
        shown = await rig.status(c)
        assert (shown["metrics"]["accumulated_cost"], shown["pr_number"]) == (0.42, [12])


async def test_figures_go_backwards_when_an_older_record_is_written() -> None:
    """Cost, tokens and `updated_at` fall; the next thing the agent does puts them right."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.progress(c, "Look")
        rig.server.finish(c, "Done.", cost=0.42)
        before = await rig.status(c)
        rig.server.figures_go_back(c)
        after = await rig.status(c)
        await rig.send(c, "more")
        later = await rig.status(c)
        assert after["metrics"]["accumulated_cost"] < before["metrics"]["accumulated_cost"]
        assert after["updated_at"] < before["updated_at"] < later["updated_at"]
        assert later["metrics"]["accumulated_cost"] == 0.42


async def test_a_pause_rewrites_created_at() -> None:
    """So it tells nothing of the age."""
    async with Rig() as rig:
        c = await rig.start()
        await rig.later(60)
        rig.server.someone_pauses(c)
        assert (await rig.status(c))["created_at"] == "2026-11-24T09:01:00Z"


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [
        ("PATCH", 500, "Internal Server Error"),
        ("DELETE", 400, '{"detail": "Invalid conversation ID format"}'),
    ],
)
async def test_a_malformed_id_in_a_path_is_refused_in_its_own_way(method: str, status: int, body: str) -> None:
    """Each call has its answer, and it counts as a violation."""
    async with Rig() as rig:
        answer = await rig.client.request(method, f"{APP}/not-an-id", json={"title": "New"})
        assert (answer.status_code, answer.text) == (status, body)
        assert rig.server.violations == ["malformed id: 'not-an-id'"]


async def test_what_is_unknown_cannot_be_renamed_or_deleted() -> None:
    """404, each with its own words."""
    async with Rig() as rig:
        renamed = await rig.client.patch(f"{APP}/{UNKNOWN}", json={"title": "New"})
        deleted = await rig.client.delete(f"{APP}/{UNKNOWN}")
        assert (renamed.status_code, renamed.json()) == (404, {"detail": "unknown_app_conversation"})
        assert (deleted.status_code, deleted.json()) == (404, {"detail": "Conversation not found"})


async def test_an_agent_that_is_not_at_work_does_nothing() -> None:
    """A test that lets a finished, sleeping or stopped agent act is wrong, and told so."""
    async with Rig() as rig:
        finished, asleep, stopped = [await rig.start(text) for text in ("one", "two", "three")]
        rig.server.finish(finished, "Done.")
        rig.server.fall_asleep(asleep)
        await rig.tell(stopped, "interrupt")
        with pytest.raises(RuntimeError, match="not at work"):
            rig.server.finish(finished, "Again.")
        with pytest.raises(RuntimeError, match="PAUSED"):
            rig.server.progress(asleep, "Look")
        with pytest.raises(RuntimeError, match="paused"):
            rig.server.ask(stopped, "Which?")
