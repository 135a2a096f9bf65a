"""V1 against recorded answers: starting, looking, and what people do."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from bot.core import errors
from bot.core.model import ConversationId, Failed, Listed, Observation, Phase, Reason, Run, RunId, RunState, Started
from bot.core.pacing import Patience
from bot.openhands.v1 import V1
from tests.openhands.recorded import BASE, NOON, JumpingClock, Wire, a_run, client, exchange, response_of

FINISHED = "d1448b71-b4ad-4750-96f8-7a089f33bef0"
FINISHED_TASK = "39ed7128-4541-408a-b34b-074d4fc02247"
LOST = "fd38556c-af41-46a7-a01e-92621dc60b4b"
CONVERSATIONS = "/api/v1/app-conversations"


@asynccontextmanager
async def v1(transport: Any, clock: JumpingClock | None = None, patience: Patience | None = None) -> AsyncIterator[V1]:
    http = client(transport, clock=clock, patience=patience)
    yield V1(http)
    await http.aclose()


def conversation_of(name: str) -> str:
    """Return the id a recording asks about."""
    return str(UUID(exchange(name)["query"]["ids"]))


async def looked_at(name: str, **changes: Any) -> Observation:
    """Look at the conversation of a recording."""
    run = a_run(conversation_of(name), **changes)
    async with v1(Wire(name)) as openhands:
        return (await openhands.observe([run]))[run.id]


# --- start ------------------------------------------------------------------------------------------------------


async def test_a_start_sends_our_id_and_only_what_is_known() -> None:
    """The recorded request, without the title, which is ignored."""
    wire = Wire("finished.01")
    async with v1(wire) as openhands:
        started = await openhands.start(
            a_run(FINISHED), "FINISH Added a section on installing.", "Answer in one sentence."
        )
    sent = exchange("finished.01")["request"]
    del sent["title"]
    assert wire.bodies == [sent]
    assert started == Started(conversation_id=ConversationId(FINISHED), start_task_id=FINISHED_TASK)


async def test_pictures_go_with_a_start() -> None:
    """As recorded."""
    wire, request = Wire("images.01"), exchange("images.01")["request"]
    text, pictures = request["initial_message"]["content"]
    async with v1(wire) as openhands:
        await openhands.start(a_run(request["conversation_id"]), text["text"], "", images=pictures["image_urls"])
    assert wire.bodies[0]["initial_message"] == request["initial_message"]


@pytest.mark.parametrize("name", ["images.03", "images.05"])
async def test_pictures_go_with_a_message_or_alone(name: str) -> None:
    """As recorded."""
    wire, recorded = Wire(name), exchange(name)
    text = "".join(one.get("text", "") for one in recorded["request"]["content"])
    images = recorded["request"]["content"][-1]["image_urls"]
    async with v1(wire) as openhands:
        await openhands.send(a_run(recorded["path"].split("/")[4]), text, images=images)
    assert wire.bodies == [recorded["request"]]


async def test_a_start_sends_repository_branch_and_model() -> None:
    """Each in its own field."""
    wire = Wire("finished.01")
    async with v1(wire) as openhands:
        await openhands.start(a_run(FINISHED, repository="org/repo", branch="dev", model="some/model"), "fix it", "")
    assert wire.bodies == [
        {
            "conversation_id": FINISHED,
            "initial_message": {"content": [{"type": "text", "text": "fix it"}]},
            "selected_repository": "org/repo",
            "selected_branch": "dev",
            "llm_model": "some/model",
            "trigger": "slack",
        }
    ]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"detail": "Unauthorized"}, errors.Unauthorised),
        (403, {"detail": "No access to this repository."}, errors.NoAccess),
        (403, {"detail": "Your plan has ended."}, errors.Rejected),
        (404, {"detail": "Not Found"}, errors.Unreadable),
        (422, exchange("app.27")["response"], errors.Rejected),
        (429, {"detail": {"error": "CONCURRENCY_LIMIT_REACHED", "limit": 3, "current": 3}}, errors.AtCapacity),
        (429, {"message": "Too many requests"}, errors.TooFast),
        (500, "Internal Server Error", errors.Unsure),
        (503, {}, errors.Unavailable),
        (302, {}, errors.Moved),
        (200, {"id": "no task"}, errors.Unsure),
        (200, [], errors.Unsure),
    ],
)
async def test_a_refused_start_says_why(status: int, body: object, error: type[Exception]) -> None:
    """What was taken and can't be understood is looked for, not repeated."""
    async with v1(lambda _: httpx.Response(status, json=body)) as openhands:
        openhands._http.key_works = True
        with pytest.raises(error):
            await openhands.start(a_run(FINISHED, repository="org/repo"), "fix it", "")


async def test_a_start_that_is_refused_before_the_key_ever_worked_is_about_the_key() -> None:
    """Whatever else it asks for."""
    async with v1(lambda _: httpx.Response(403, json={"detail": "No."})) as openhands:
        with pytest.raises(errors.Unauthorised):
            await openhands.start(a_run(FINISHED, repository="org/repo"), "fix it", "")


async def test_a_lost_start_is_found_among_the_tasks() -> None:
    """The conversation is not there yet, its task is, five minutes of difference between the clocks allowed."""
    wire = Wire("lost-start.03", "lost-start.01")
    since = datetime(2026, 11, 24, 20, 49, 8, tzinfo=UTC)
    async with v1(wire) as openhands:
        found = await openhands.find_start(a_run(LOST), "any", since)
    task = exchange("lost-start.01")["response"]["items"][0]
    assert found is not None
    assert (found.conversation_id, found.start_task_id) == (LOST, str(UUID(task["id"])))


async def test_a_lost_start_that_runs_is_found_by_its_id() -> None:
    """One look is enough."""
    wire = Wire("finished.12")
    async with v1(wire) as openhands:
        found = await openhands.find_start(a_run(FINISHED), "any", NOON)
    assert (found, wire.calls) == (
        Started(conversation_id=ConversationId(FINISHED)),
        [f"GET {CONVERSATIONS}"],
    )


def task_pages(wire: Wire, *pages: list[str | None]) -> Wire:
    """List start tasks of these conversations, a page each; LOST itself is not there yet."""
    wire.then("GET", CONVERSATIONS, httpx.Response(200, json=[None]), query={"ids": LOST})
    for number, conversations in enumerate(pages):
        items = [{"id": FINISHED_TASK, "request": {"conversation_id": one}} for one in conversations]
        more = str(number + 1) if number + 1 < len(pages) else None
        query = {"created_at__gte": "2026-11-24T11:55:00Z", "limit": 100}
        wire.then(
            "GET",
            f"{CONVERSATIONS}/start-tasks/search",
            httpx.Response(200, json={"items": items, "next_page_id": more}),
            query={**query, "page_id": str(number)} if number else query,
        )
    return wire


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([[None, FINISHED]], None),
        ([[]], None),
        ([[FINISHED], [LOST.replace("-", "")]], FINISHED_TASK),
        ([[FINISHED], [], [LOST.upper()]], FINISHED_TASK),
    ],
)
async def test_all_pages_of_tasks_are_searched(pages: list[list[str | None]], found: str | None) -> None:
    """Ids are compared as UUIDs; a start without an id of its own is nobody's."""
    async with v1(task_pages(Wire(), *pages)) as openhands:
        started = await openhands.find_start(a_run(LOST), "any", NOON)
    assert (started and started.start_task_id) == found


def odd_tasks(*tasks: object) -> Wire:
    page = httpx.Response(200, json={"items": tasks, "next_page_id": None})
    query = {"created_at__gte": "2026-11-24T11:55:00Z", "limit": 100}
    return Wire("lost-start.03").then("GET", f"{CONVERSATIONS}/start-tasks/search", page, query=query)


@pytest.mark.parametrize(("conversation", "found"), [(LOST, FINISHED_TASK), (FINISHED, None)], ids=["ours", "another"])
async def test_a_task_of_odd_shape_hides_no_other(conversation: str, found: str | None) -> None:
    """It is not the one that is looked for."""
    one = {"id": FINISHED_TASK, "request": {"conversation_id": conversation}}
    async with v1(odd_tasks("odd", {"id": 7, "request": None}, one)) as openhands:
        started = await openhands.find_start(a_run(LOST), "any", NOON)
    assert (started and started.start_task_id) == found


@pytest.mark.parametrize(
    "task",
    [{"id": None, "request": {"conversation_id": LOST}}, {"id": FINISHED_TASK, "request": [LOST.upper()]}],
    ids=["no id", "odd request"],
)
async def test_our_task_of_odd_shape_is_no_answer(task: dict[str, Any]) -> None:
    """It is there, so nothing may be posted again."""
    async with v1(odd_tasks(task)) as openhands:
        with pytest.raises(errors.Unreadable):
            await openhands.find_start(a_run(LOST), "any", NOON)


async def test_a_search_that_fails_is_no_answer() -> None:
    """It must not be taken for "not there": then the same id would be posted again, which destroys the run."""
    wire = Wire("lost-start.03").then(
        "GET",
        f"{CONVERSATIONS}/start-tasks/search",
        httpx.Response(500, text="Internal Server Error"),
        query={"created_at__gte": "2026-11-24T11:55:00Z", "limit": 100},
    )
    async with v1(wire) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.find_start(a_run(LOST), "any", NOON)


async def test_a_list_of_tasks_without_an_end_is_no_answer() -> None:
    """Nor is it read for ever."""
    page = httpx.Response(200, json={"items": [], "next_page_id": "1"})
    query = {"created_at__gte": "2026-11-24T11:55:00Z", "limit": 100}
    wire = Wire("lost-start.03")
    wire.then("GET", f"{CONVERSATIONS}/start-tasks/search", page, query=query)
    wire.then("GET", f"{CONVERSATIONS}/start-tasks/search", page, query={**query, "page_id": "1"})
    async with v1(wire) as openhands:
        with pytest.raises(errors.Unreadable):
            await openhands.find_start(a_run(LOST), "any", NOON)


async def test_an_id_of_another_api_cannot_be_told() -> None:
    """Tasks without an id of their own must not be taken for it."""
    async with v1(Wire()) as openhands:
        with pytest.raises(errors.CannotTell):
            await openhands.find_start(a_run("abc1234"), "any", NOON)


# --- look -------------------------------------------------------------------------------------------------------

STARTING = {"state": RunState.STARTING, "start_task_id": FINISHED_TASK}


async def test_a_start_is_followed_by_its_task_until_the_conversation_is_there() -> None:
    """Eight recorded states, then the conversation in the same look."""
    names = [f"finished.{number:02}" for number in range(4, 13)]
    run = a_run(FINISHED, **STARTING)
    async with v1(Wire(*names)) as openhands:
        phases = [(await openhands.observe([run]))[run.id].phase for _ in range(8)]
    assert phases == [Phase.STARTING] * 7 + [Phase.WORKING]


@pytest.mark.parametrize(
    ("name", "repository", "reason"),
    [
        ("repository.05", "org/repo", Reason.REPOSITORY),
        ("repository.05", None, Reason.START_FAILED),
        ("failed-sandbox.03", "org/repo", Reason.START_FAILED),
        ("failed-agent.09", None, Reason.START_FAILED),
    ],
)
async def test_a_failed_start_has_a_reason_and_none_of_the_servers_words(
    name: str, repository: str | None, reason: Reason
) -> None:
    """They hold internal addresses; they are empty where the repository can't be opened."""
    task = exchange(name)["query"]["ids"]
    run = a_run(FINISHED, state=RunState.STARTING, start_task_id=task, repository=repository)
    async with v1(Wire(name)) as openhands:
        seen = (await openhands.observe([run]))[run.id]
        assert await openhands.read(run, seen) == seen
    assert (seen.phase, seen.last) == (Phase.START_FAILED, Failed(reason))


async def test_a_repository_without_permission_is_told_from_other_failures() -> None:
    """With a git provider connected the server names it."""
    task = {
        "id": FINISHED_TASK,
        "status": "ERROR",
        "detail": "Git provider authentication issue when getting remote URL",
    }
    run = a_run(FINISHED, **STARTING)
    async with v1(lambda _: httpx.Response(200, json=[task])) as openhands:
        assert (await openhands.observe([run]))[run.id].last == Failed(Reason.REPOSITORY)


async def test_a_start_task_without_news_has_failed() -> None:
    """A restarted server leaves it as it was, for ever; ten minutes by our own clock."""
    clock, run = JumpingClock(), a_run(FINISHED, **STARTING)
    seen = []
    async with v1(Wire("finished.04", "finished.05"), clock) as openhands:
        for minutes in (0, 9, 18, 19):
            clock.time = NOON + timedelta(minutes=minutes)
            seen.append((await openhands.observe([run]))[run.id])
        clock.time = NOON + timedelta(minutes=19, seconds=1)
        seen.append((await openhands.observe([run]))[run.id])
    assert [(one.phase, one.last) for one in seen] == [
        (Phase.STARTING, None),
        (Phase.STARTING, None),
        (Phase.STARTING, None),
        (Phase.START_FAILED, Failed(Reason.START_STUCK)),
        (Phase.START_FAILED, Failed(Reason.START_STUCK)),
    ]


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("finished.12", Phase.WORKING),
        ("finished.14", Phase.ENDED),
        ("asked.01", Phase.ENDED),
        ("confirm.01", Phase.WANTS_APPROVAL),
        ("failed-model.01", Phase.ERROR),
        ("stuck.01", Phase.STUCK),
        ("interrupted.03", Phase.PAUSED),
        ("finished.33", Phase.IDLE),
        ("asked.07", Phase.IDLE),
        ("duplicate.16", Phase.UNCLEAR),
        ("wrecked.01", Phase.UNCLEAR),
        ("sandbox.03", Phase.ASLEEP),
        ("sandbox.13", Phase.MISSING),
        ("sandbox.18", Phase.MISSING),
        ("finished.39", Phase.GONE),
    ],
)
async def test_recorded_statuses_are_read(name: str, phase: Phase) -> None:
    """One vocabulary for what a conversation does."""
    assert (await looked_at(name)).phase is phase


@pytest.mark.parametrize(
    ("sandbox", "execution", "phase"),
    [
        ("STARTING", None, Phase.ASLEEP),
        ("ERROR", None, Phase.BROKEN),
        ("running", "FINISHED", Phase.ENDED),
        ("RUNNING", "deleting", Phase.GONE),
        ("RUNNING", "levitating", Phase.UNKNOWN),
        ("STOPPED", None, Phase.ASLEEP),
        ("ARCHIVED", None, Phase.MISSING),
        ("HIBERNATING", "running", Phase.UNKNOWN),
        (None, None, Phase.UNKNOWN),
    ],
)
async def test_other_statuses_are_read(sandbox: str | None, execution: str | None, phase: Phase) -> None:
    """A word newer than this code is no error."""
    entry = {"id": FINISHED, "sandbox_status": sandbox, "execution_status": execution}
    run = a_run(FINISHED)
    async with v1(lambda _: httpx.Response(200, json=[entry])) as openhands:
        assert await openhands.observe([run]) == {run.id: Observation(asked_at=NOON, phase=phase)}


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({"state": RunState.STARTING}, Phase.STARTING),
        ({"state": RunState.WORKING}, Phase.GONE),
    ],
)
async def test_what_is_not_there_is_on_its_way_or_gone(changes: dict[str, Any], phase: Phase) -> None:
    """A start found without its task may still come."""
    assert (await looked_at("finished.02", **changes)).phase is phase


async def test_a_start_whose_task_is_gone_too_is_gone() -> None:
    """Deleting a conversation takes its task with it."""
    run = a_run(FINISHED, **STARTING)
    async with v1(Wire("finished.42", "finished.39")) as openhands:
        assert (await openhands.observe([run]))[run.id].phase is Phase.GONE


def entry_of(repository: str | None, provider: str | None, numbers: object = (7,)) -> dict[str, Any]:
    return {
        "id": FINISHED,
        "selected_repository": repository,
        "git_provider": provider,
        "pr_number": list(numbers) if isinstance(numbers, Sequence) else numbers,
        "metrics": {"accumulated_cost": 0.5},
    }


@pytest.mark.parametrize(
    ("entry", "links"),
    [
        (
            entry_of("org/repo", "github", (7, 9)),
            ("https://github.com/org/repo/pull/7", "https://github.com/org/repo/pull/9"),
        ),
        (entry_of("org/repo", None), ("org/repo #7",)),
        (entry_of(None, None), ("own/one #7",)),
        (entry_of("org/repo", "gitlab"), ("org/repo #7",)),
        (entry_of("org/repo", "github", None), ()),
    ],
)
async def test_pull_requests_are_links_where_the_host_is_known(entry: dict[str, Any], links: tuple[str, ...]) -> None:
    """A bare number leads nowhere, and is shown as it is; the cost comes along."""
    run = a_run(FINISHED, repository="own/one")
    async with v1(lambda _: httpx.Response(200, json=[entry])) as openhands:
        seen = (await openhands.observe([run]))[run.id]
    assert (seen.pull_requests, seen.cost) == (links, 0.5)


async def test_metrics_may_be_missing() -> None:
    """They are null on some servers."""
    run = a_run(FINISHED)
    async with v1(lambda _: httpx.Response(200, json=[{"id": FINISHED, "metrics": None}])) as openhands:
        assert (await openhands.observe([run]))[run.id].cost is None


async def test_many_runs_share_a_request() -> None:
    """99 ids fit in one, as recorded; the order tells which entry is whose, with or without dashes."""
    names = exchange("app.20")["query"]["ids"]
    async with v1(Wire("app.20")) as openhands:
        seen = await openhands.observe([a_run(name) for name in names])
    assert [one.phase for one in seen.values()] == [Phase.GONE] * 99
    mixed = [a_run(name, id=RunId(str(number))) for number, name in enumerate(exchange("finished.28")["query"]["ids"])]
    async with v1(Wire("finished.28")) as openhands:
        seen = await openhands.observe(mixed)
    assert [one.phase for one in seen.values()] == [Phase.GONE, Phase.ENDED, Phase.ENDED]


def batches(answer: Callable[[list[str]], httpx.Response]) -> tuple[httpx.MockTransport, list[int]]:
    """Answer each batch by its ids; also note how many each has."""
    sizes: list[int] = []

    def respond(request: httpx.Request) -> httpx.Response:
        ids = request.url.params.get_list("ids")
        sizes.append(len(ids))
        return answer(ids)

    return httpx.MockTransport(respond), sizes


def runs_seen(seen: Mapping[RunId, Observation]) -> set[RunId]:
    return set(seen)


def many(count: int) -> list[Run]:
    return [a_run(f"00000000-0000-0000-0000-{number:012}") for number in range(count)]


async def test_the_hundredth_run_is_asked_about_in_a_second_request() -> None:
    """A server refuses 100."""
    transport, sizes = batches(lambda ids: httpx.Response(200, json=[None] * len(ids)))
    async with v1(transport) as openhands:
        assert len(await openhands.observe(many(100))) == 100
        assert await openhands.observe([]) == {}
    assert sizes == [99, 1]


def failing_with(bad: list[Run], answer: httpx.Response | Exception) -> Callable[[list[str]], httpx.Response]:
    """Answer as a server that fails at these runs, whatever else is asked with them."""

    def respond(ids: list[str]) -> httpx.Response:
        if not {run.conversation_id for run in bad} & set(ids):
            return httpx.Response(200, json=[None] * len(ids))
        if isinstance(answer, Exception):
            raise answer
        return answer

    return respond


@pytest.mark.parametrize(
    "answer",
    [response_of(exchange("app.19")), httpx.Response(500), httpx.ReadTimeout("slow"), httpx.Response(200, json=[])],
    ids=["400", "500", "a time-out", "too few"],
)
@pytest.mark.parametrize("bad", [[0], [98], [50, 100], [0, 30, 60, 90, 120]], ids=str)
async def test_an_id_that_fails_costs_the_others_nothing(answer: httpx.Response | Exception, bad: list[int]) -> None:
    """A batch that fails is asked again in halves; what fails by itself is missing, and soon asked by itself."""
    clock, runs = JumpingClock(), many(150)
    poison = [runs[number] for number in bad]
    transport, sizes = batches(failing_with(poison, answer))
    async with v1(transport, clock) as openhands:
        assert runs_seen(await openhands.observe(runs)) == {run.id for run in runs if run not in poison}
        asked = len(sizes)
        assert runs_seen(await openhands.observe(runs)) == {run.id for run in runs if run not in poison}
    assert len(sizes) - asked < asked


async def test_an_id_that_failed_is_seen_again_once_it_is_answered() -> None:
    """It rests a minute, is asked by itself, and then among more and more others."""
    clock, runs = JumpingClock(), many(20)
    bad = runs[:1]
    transport, sizes = batches(failing_with(bad, httpx.Response(500)))
    async with v1(transport, clock) as openhands:
        assert runs_seen(await openhands.observe(runs)) == {run.id for run in runs[1:]}
        assert await openhands.observe(runs[:1]) == {}
        asked = len(sizes)
        clock.time += timedelta(seconds=61)
        assert await openhands.observe(runs[:1]) == {}
        assert len(sizes) == asked + 1
        bad.clear()
        for _ in range(8):
            clock.time += timedelta(seconds=61)
            assert len(await openhands.observe(runs)) == 20
        sizes.clear()
        await openhands.observe(runs)
    assert sizes == [20]


async def test_a_server_that_fails_at_everything_is_not_asked_about_each_run() -> None:
    """Fifteen failures in a row are the server's; after it, a request still asks about a dozen at least."""
    clock, runs = JumpingClock(), many(990)
    answers = [httpx.Response(500)]
    transport, sizes = batches(lambda ids: answers[0] if answers else httpx.Response(200, json=[None] * len(ids)))
    async with v1(transport, clock) as openhands:
        for _ in range(50):
            with pytest.raises(errors.Unavailable):
                await openhands.observe(runs)
        assert len(sizes) == 50 * 15
        answers.clear()
        sizes.clear()
        assert len(await openhands.observe(runs)) == 990
    assert len(sizes) < 90


async def test_a_server_that_hangs_is_left_after_a_while() -> None:
    """Each request takes half a minute then: the rest waits for the next time."""
    clock = JumpingClock()

    def hang(_: list[str]) -> httpx.Response:
        clock.time += timedelta(seconds=30)
        raise httpx.ReadTimeout("slow")

    transport, sizes = batches(hang)
    async with v1(transport, clock) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.observe(many(99))
    assert sizes == [99, 49, 50]


async def test_a_start_whose_task_cannot_be_asked_about_is_seen_by_its_conversation() -> None:
    """As long as it is not there, nothing is known of it."""
    here, away = (a_run(run.conversation_id, state=RunState.STARTING, start_task_id=FINISHED_TASK) for run in many(2))
    wire = Wire().then("GET", f"{CONVERSATIONS}/start-tasks", httpx.Response(500), query={"ids": [FINISHED_TASK] * 2})
    wire.then("GET", f"{CONVERSATIONS}/start-tasks", httpx.Response(500), query={"ids": FINISHED_TASK})
    entry = exchange("finished.14")["response"][0] | {"id": here.conversation_id}
    both = {"ids": [here.conversation_id, away.conversation_id]}
    wire.then("GET", CONVERSATIONS, httpx.Response(200, json=[entry, None]), query=both)
    async with v1(wire) as openhands:
        assert list(await openhands.observe([here, away])) == [here.id]


async def test_a_malformed_id_is_left_out() -> None:
    """It would cost its whole batch the answer."""
    runs = [*many(1), a_run("not-an-id"), a_run(None)]
    transport, sizes = batches(lambda ids: httpx.Response(200, json=[None] * len(ids)))
    async with v1(transport) as openhands:
        assert list(await openhands.observe(runs)) == [runs[0].id]
    assert sizes == [1]


@pytest.mark.parametrize(
    "body",
    [{"detail": "?"}, [None] * 3, ["x", 1], [{"id": "x"}, {}]],
    ids=["object", "long", "text", "shapes"],
)
async def test_an_answer_of_another_shape_is_unreadable(body: object) -> None:
    """If it is all there is."""
    async with v1(lambda _: httpx.Response(200, json=body)) as openhands:
        with pytest.raises(errors.Unreadable):
            await openhands.observe(many(2))


async def test_one_unreadable_entry_costs_the_others_nothing() -> None:
    """Each is read by itself."""
    runs = many(2)
    entry = {"id": runs[0].conversation_id, "sandbox_status": 7}
    async with v1(lambda _: httpx.Response(200, json=[entry, None])) as openhands:
        assert list(await openhands.observe(runs)) == [runs[1].id]
    async with v1(
        lambda request: httpx.Response(200, json=[entry, None][: len(request.url.params.multi_items())])
    ) as one:
        with pytest.raises(errors.Unreadable):
            await one.observe(runs[:1])
        await one.observe(runs)
        assert await one.observe(runs[:1]) == {}


async def test_what_only_adorns_an_entry_does_not_hide_it() -> None:
    """Pull requests and cost of an odd shape count as missing."""
    [run] = many(1)
    entry = exchange("finished.14")["response"][0] | {"id": run.conversation_id, "pr_number": [None], "metrics": 7}
    async with v1(lambda _: httpx.Response(200, json=[entry])) as openhands:
        [seen] = (await openhands.observe([run])).values()
    assert (seen.phase, seen.cost, seen.pull_requests) == (Phase.ENDED, None, ())


async def test_when_openhands_is_out_of_reach_the_second_batch_is_not_waited_for() -> None:
    """It would fare no better."""
    transport, sizes = batches(lambda _: httpx.Response(503))
    async with v1(transport) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.observe(many(300))
    assert sizes == [99]


# --- messages ---------------------------------------------------------------------------------------------------


async def test_a_message_is_sent_to_run() -> None:
    """As recorded."""
    wire = Wire("running.02")
    run = a_run("d2d9b697-4ee6-416a-93e8-4b414027a79b")
    async with v1(wire) as openhands:
        await openhands.send(run, "FINISH Heard you.")
    assert wire.bodies == [exchange("running.02")["request"]]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("lost-start.05", errors.NotFound),
        ("finished.40", errors.NotFound),
        ("app.35", errors.NotFound),
        ("sandbox.19", errors.Archived),
        ("sandbox.14", errors.Archived),
        ("wrecked.02", errors.Archived),
        ("sandbox.05", errors.Asleep),
        ("running-long.01", errors.Unsure),
        ("app.36", errors.Rejected),
        ("app.37", errors.Rejected),
    ],
)
async def test_a_message_that_was_not_taken_says_what_to_do(name: str, error: type[Exception]) -> None:
    """Recorded refusals; only the lost answer may have been delivered."""
    conversation = exchange(name)["path"].split("/")[4]
    async with v1(Wire(name)) as openhands:
        with pytest.raises(error):
            await openhands.send(a_run(conversation), "Hello")


FULL = {"detail": {"error": "CONCURRENCY_LIMIT_REACHED", "limit": 3, "current": 3}}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(503, json={"detail": "Sandbox is STARTING. Try again later."}), errors.Unavailable),
        (httpx.Response(429, json={"message": "Too many requests"}), errors.TooFast),
        (httpx.Response(429, json=FULL), errors.AtCapacity),
        (httpx.ReadTimeout("slow"), errors.Unsure),
        (httpx.ConnectError("refused"), errors.Unavailable),
    ],
    ids=["503", "too fast", "full", "lost", "refused"],
)
async def test_a_message_that_may_be_sent_later_says_so(answer: Any, error: type[Exception]) -> None:
    """Only one whose answer was lost may be there."""
    wire = Wire().then("POST", f"{CONVERSATIONS}/{FINISHED}/send-message", answer)
    async with v1(wire) as openhands:
        with pytest.raises(error):
            await openhands.send(a_run(FINISHED), "Hello")


async def test_a_message_has_longer_than_other_calls() -> None:
    """While a tool runs the answer waits for it; past our own time-out nobody knows."""
    timeouts: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json={"success": True})

    async with v1(answer, patience=Patience(openhands_calls_per_s=1000)) as openhands:
        await openhands.send(a_run(FINISHED), "Hello")
    assert timeouts == [40.0]


# --- stop, resume -----------------------------------------------------------------------------------------------


def conversation(name: str, **changes: object) -> httpx.Response:
    """Return a recorded look at one conversation, changed."""
    [entry] = exchange(name)["response"]
    return httpx.Response(200, json=[{**entry, **changes}])


def about(run_id: str, answer: httpx.Response) -> Wire:
    return Wire().then("GET", CONVERSATIONS, answer, query={"ids": run_id})


INTERRUPTED = "9d1da2ff-feac-4857-9b7a-628bd63cb3bd"
AGENT = f"http://127.0.0.1:3200/api/conversations/{INTERRUPTED.replace('-', '')}"
SANDBOX = f"/api/v1/sandboxes/{INTERRUPTED.replace('-', '')}"


def working() -> Wire:
    return about(
        INTERRUPTED,
        conversation(
            "interrupted.03",
            execution_status="running",
            conversation_url=AGENT,
            sandbox_id=INTERRUPTED.replace("-", ""),
        ),
    )


async def test_stop_interrupts_the_agent_with_the_sessions_key() -> None:
    """Never with ours."""
    wire = working()
    wire.then("POST", f"{AGENT}/interrupt", response_of(exchange("interrupted.01")))
    async with v1(wire) as openhands:
        await openhands.stop(a_run(INTERRUPTED))
    last = wire.requests[-1]
    assert str(last.url) == f"{AGENT}/interrupt"
    assert last.headers["X-Session-API-Key"] == "SESSION-API-KEY"
    assert "Authorization" not in last.headers


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(401, json={"detail": "Unauthorized"}),
        httpx.Response(404, html="<html>another server</html>"),
    ],
)
async def test_stop_pauses_the_sandbox_when_the_agent_is_out_of_reach(failure: Any) -> None:
    """Its address may be another machine's inner one."""
    wire = working().then("POST", f"{AGENT}/interrupt", failure)
    wire.then("POST", f"{SANDBOX}/pause", response_of(exchange("sandbox.02")))
    async with v1(wire) as openhands:
        await openhands.stop(a_run(INTERRUPTED))
    assert wire.calls[-1] == f"POST {SANDBOX}/pause"


async def test_stop_of_what_waits_for_approval_rejects_it() -> None:
    """An interrupt has no effect there, and a message would count as approval."""
    run_id = conversation_of("confirm.01")
    wire = Wire("confirm.01", "confirm.04")
    async with v1(wire) as openhands:
        await openhands.stop(a_run(run_id))
    assert wire.bodies == [{"accept": False, "reason": "Stopped by a person."}]


async def test_stop_of_what_the_agent_server_does_not_know_is_not_found() -> None:
    """A second start has left another server in its place."""
    wire = working().then("POST", f"{AGENT}/interrupt", response_of(exchange("paused.17")))
    async with v1(wire) as openhands:
        with pytest.raises(errors.NotFound):
            await openhands.stop(a_run(INTERRUPTED))


@pytest.mark.parametrize(
    ("pause", "last"),
    [("interrupted.01", f"POST {httpx.URL(AGENT).path}/pause"), ("paused.18", f"POST {SANDBOX}/pause")],
)
async def test_stop_takes_the_older_ways_where_there_is_no_interrupt(pause: str, last: str) -> None:
    """A path that no code serves is a 404 in the framework's own words."""
    wire = working().then("POST", f"{AGENT}/interrupt", httpx.Response(404, json={"detail": "Not Found"}))
    wire.then("POST", f"{AGENT}/pause", response_of(exchange(pause)))
    wire.then("POST", f"{SANDBOX}/pause", response_of(exchange("sandbox.02")))
    async with v1(wire) as openhands:
        await openhands.stop(a_run(INTERRUPTED))
    assert wire.calls[-1] == last


async def test_stop_before_there_is_a_conversation_is_not_found() -> None:
    """The caller keeps it until there is one."""
    async with v1(Wire("finished.02")) as openhands:
        with pytest.raises(errors.NotFound):
            await openhands.stop(a_run(FINISHED))
        with pytest.raises(errors.NotFound):
            await openhands.stop(a_run(None))


@pytest.mark.parametrize("name", ["sandbox.03", "sandbox.13"])
async def test_stop_of_a_sandbox_that_does_not_run_does_nothing(name: str) -> None:
    """Nobody works there."""
    wire = Wire(name)
    async with v1(wire) as openhands:
        await openhands.stop(a_run(conversation_of(name)))
    assert wire.calls == [f"GET {CONVERSATIONS}"]


async def test_stop_of_a_sandbox_that_wakes_up_pauses_it() -> None:
    """There is no agent server to tell yet, and the agent would go on by itself."""
    waking = conversation("sandbox.03", sandbox_status="STARTING", sandbox_id="a sandbox/1")
    wire = about(FINISHED, waking).then(
        "POST", "/api/v1/sandboxes/a%20sandbox%2F1/pause", response_of(exchange("sandbox.02"))
    )
    async with v1(wire) as openhands:
        await openhands.stop(a_run(FINISHED))
    assert wire.requests[-1].url.raw_path == b"/api/v1/sandboxes/a%20sandbox%2F1/pause"


async def test_stop_without_agent_and_sandbox_is_not_found() -> None:
    """There is nothing to stop it by."""
    async with v1(about(FINISHED, conversation("wrecked.01", conversation_url=None, sandbox_id=None))) as openhands:
        with pytest.raises(errors.NotFound):
            await openhands.stop(a_run(FINISHED))


async def test_stop_that_cannot_look_says_so() -> None:
    """Nothing was done."""
    async with v1(lambda _: httpx.Response(503)) as openhands:
        with pytest.raises(errors.Unavailable):
            await openhands.stop(a_run(FINISHED))


async def test_resume_wakes_a_sleeping_sandbox() -> None:
    """By the sandbox's own id."""
    wire = Wire("sandbox.03", "sandbox.08")
    async with v1(wire) as openhands:
        await openhands.resume(a_run(conversation_of("sandbox.03")))
    assert wire.calls[-1] == "POST " + exchange("sandbox.08")["path"]


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (("sandbox.03", "sandbox.20"), errors.Archived),
        (("sandbox.13",), errors.Archived),
        (("finished.39",), errors.NotFound),
    ],
)
async def test_resume_of_what_is_lost_says_so(names: tuple[str, ...], error: type[Exception]) -> None:
    """The server itself answers 200 for a lost sandbox and does nothing."""
    async with v1(Wire(*names)) as openhands:
        with pytest.raises(error):
            await openhands.resume(a_run(conversation_of(names[0])))


async def test_resume_of_what_runs_does_nothing() -> None:
    """Safe to repeat."""
    wire = Wire("sandbox.09")
    async with v1(wire) as openhands:
        await openhands.resume(a_run(conversation_of("sandbox.09")))
    assert wire.calls == [f"GET {CONVERSATIONS}"]


# --- the rest ---------------------------------------------------------------------------------------------------


class Git:
    """A server with git providers; `names` are the pages of each, and `named` those its settings name."""

    def __init__(self, names: dict[str, list[list[str]]], named: list[str] | None = None) -> None:
        self.names = names
        self.named = named
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/settings"):
            return httpx.Response(
                200, json={"provider_tokens_set": None if self.named is None else dict.fromkeys(self.named)}
            )
        asked = request.url.params
        self.asked.append(asked["provider"])
        if asked["provider"] not in self.names:
            return response_of(exchange("app.59"))
        at, pages = int(asked.get("page_id", 0)), self.names[asked["provider"]]
        following = str(at + 1) if at + 1 < len(pages) else None
        items = [{"full_name": name} for name in pages[at]]
        return httpx.Response(200, json={"items": items, "next_page_id": following})


async def test_a_repository_is_listed_under_exactly_its_name() -> None:
    """With any of the providers; one that is not connected answers 403, as recorded."""
    async with v1(Git({"azure_devops": [["org/repo-two", "Org/Repo"]]})) as openhands:
        assert [await openhands.lists(name) for name in ("org/repo", "org/rep")] == [True, False]


async def test_the_account_lists_its_repositories_provider_by_provider() -> None:
    """Only those that its settings name are asked, and page after page."""
    git = Git({"github": [["org/a", "org/b"], ["org/c", "no name"]], "forgejo": [["own/d"]]}, ["github", "forgejo"])
    async with v1(git) as openhands:
        assert await openhands.repositories() == Listed(("org/a", "org/b", "org/c", "own/d"), whole=True)
    assert git.asked == ["github", "github", "forgejo"]


@pytest.mark.parametrize(
    ("git", "listed"),
    [
        (Git({}), Listed()),
        (Git({"github": [["org/a"]]}, []), Listed()),
        (Git({"gitlab": [["g/s/a"]]}), Listed(("g/s/a",), whole=True)),
        (Git({"github": [["org/a"]]}, ["github", "gitlab"]), Listed(("org/a",))),
        (Git({"github": [["org/a"]], "bitbucket": [[]]}, ["github", "bitbucket"]), Listed(("org/a",))),
        (Git({"github": [["org/a"]] * 30}, ["github"]), Listed(("org/a",) * 20)),
    ],
    ids=["none connected", "none by the settings", "none named", "one refuses", "one is empty", "endless"],
)
async def test_a_list_may_be_incomplete(git: Git, listed: Listed) -> None:
    """Where a provider does not tell, or has no end; without settings all are asked, and those that refuse have none."""
    async with v1(git) as openhands:
        assert await openhands.repositories() == listed


async def test_without_settings_every_provider_is_asked() -> None:
    """An older server has no such call."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json={}) if request.url.path.endswith("/settings") else git(request)

    git = Git({"github": [["org/a"]]})
    async with v1(answer) as openhands:
        assert await openhands.repositories() == Listed(("org/a",), whole=True)
    assert len(git.asked) == 7


async def test_a_provider_goes_along_with_a_start_once_it_is_known() -> None:
    """From the list in which the repository, or its branch, was seen."""
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            bodies.append(json.loads(request.content))
            return response_of(exchange("finished.01"))
        if request.url.path == "/api/v1/settings":
            return httpx.Response(404, json={"detail": "Not Found"})
        if request.url.params["provider"] != "gitlab":
            return response_of(exchange("app.59"))
        return httpx.Response(200, json={"items": [{"name": "dev"}, {"full_name": "Org/Repo"}]})

    async with v1(answer) as openhands:
        assert await openhands.lists("org/repo")
        assert await openhands.branches("org/other", "dev") == ["dev"]
        for name in ("org/repo", "org/other", "org/third"):
            await openhands.start(a_run(FINISHED, repository=name), "fix it", "")
    assert [body.get("git_provider") for body in bodies] == ["gitlab", "gitlab", None]


async def test_people_see_a_conversation_under_its_link() -> None:
    """On the app server."""
    async with v1(Wire()) as openhands:
        assert openhands.link(ConversationId(FINISHED)) == f"{BASE}/conversations/{FINISHED}"


async def test_the_sessions_key_is_in_no_text() -> None:
    """Neither in what is remembered nor in what is seen."""
    run = a_run(conversation_of("asked.01"))
    async with v1(Wire("asked.01")) as openhands:
        seen = await openhands.observe([run])
        assert "SESSION-API-KEY" in json.dumps(exchange("asked.01"))
        assert "SESSION-API-KEY" not in repr(seen) + repr(
            openhands._known.get(ConversationId(conversation_of("asked.01")))
        )
