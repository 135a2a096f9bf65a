"""The events of V1 conversations: the app server's copy, and the agent server's own."""

import pytest

from tests.simulator.openhands_rig import Rig, key_of

UNKNOWN = "0b07bff2-e73a-49bd-b24f-9d0057b26279"
MESSAGE = "openhands.sdk.event.llm_convertible.message.MessageEvent"


async def test_a_whole_turn_is_told_in_events() -> None:
    """From the system prompt, which is the agent's too, to the finish action and the state that follows."""
    async with Rig() as rig:
        c = await rig.start("fix README")
        rig.server.progress(c, "Look at README", command="cat README")
        rig.server.finish(c, "Fixed.")
        events = await rig.events(c)
        told = [(event["kind"], event["source"]) for event in events if event["kind"] != "ConversationStateUpdateEvent"]
        states = [event["value"] for event in events if event.get("key") == "execution_status"]
        assert told == [
            ("SystemPromptEvent", "agent"),
            ("MessageEvent", "user"),
            ("ActionEvent", "agent"),
            ("ObservationEvent", "environment"),
            ("ActionEvent", "agent"),
            ("ObservationEvent", "environment"),
        ]
        assert states == ["idle", "running", "finished"]


async def test_a_finish_action_holds_the_answer() -> None:
    """And a command its summary, tool, command and risk."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.progress(c, "Look at README", command="cat README")
        rig.server.finish(c, "Fixed.")
        command, finish = await rig.events(c, kind__eq="ActionEvent")
        assert finish["action"] == {"message": "Fixed.", "kind": "FinishAction"}
        assert (command["summary"], command["tool_name"], command["security_risk"]) == (
            "Look at README",
            "terminal",
            "LOW",
        )
        assert command["action"]["command"] == "cat README"


async def test_a_failure_is_told_in_an_event_of_the_environment() -> None:
    """With the model's code and words."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.fail(c, "LLMRateLimitError", "litellm.RateLimitError: slow down")
        [error] = await rig.events(c, kind__eq="ConversationErrorEvent")
        assert {name: error[name] for name in ("source", "code", "detail")} == {
            "source": "environment",
            "code": "LLMRateLimitError",
            "detail": "litellm.RateLimitError: slow down",
        }


async def test_times_rise_and_ids_differ_though_the_clock_stands_still() -> None:
    """No two events of a conversation share a time, which has no zone."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.progress(c, "Look")
        events = await rig.events(c)
        times = [event["timestamp"] for event in events]
        assert times == sorted(set(times))
        assert len({event["id"] for event in events}) == len(events)
        assert times[0] == "2026-11-24T09:00:00"


async def test_events_are_paged_by_offset() -> None:
    """Oldest first unless asked otherwise."""
    async with Rig() as rig:
        c = await rig.start()
        path = f"/api/v1/conversation/{c.id}/events/search"
        ids = [event["id"] for event in await rig.events(c)]
        first = (await rig.client.get(path, params={"limit": 2})).json()
        second = (await rig.client.get(path, params={"limit": 2, "page_id": first["next_page_id"]})).json()
        newest = await rig.events(c, sort_order="TIMESTAMP_DESC", limit=1)
        count = (await rig.client.get(f"/api/v1/conversation/{c.id}/events/count")).json()
        assert [event["id"] for event in first["items"] + second["items"]] == ids[:4]
        assert (first["next_page_id"], newest[0]["id"], count) == ("2", ids[-1], len(ids))


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ("2026-11-24T09:00:05.115788", 1),
        ("2026-11-24T09:00:05", 1),
        ("2026-11-24T09:00:05Z", 1),
        ("2026-11-24T09:00:05.115788Z", 0),
        ("2026-11-24T09:00:05.115789", 0),
    ],
)
async def test_times_of_events_are_compared_as_texts(since: str, found: int) -> None:
    """The exact time without a zone finds the event; with a Z it does not."""
    async with Rig() as rig:
        c = await rig.start("first")
        rig.server.finish(c, "Done.")
        rig.server.status_lag_s = 1.0  # so that the message is the first event of its instant
        await rig.later(5.115788)
        await rig.send(c, "second")
        assert len(await rig.events(c, kind__eq="MessageEvent", timestamp__gte=since)) == found


async def test_an_upper_bound_leaves_its_own_instant_out() -> None:
    """`timestamp__lt` is strict."""
    async with Rig() as rig:
        c = await rig.start("first")
        [message] = await rig.events(c, kind__eq="MessageEvent")
        before = await rig.kinds(c, timestamp__lt=message["timestamp"])
        assert before == ["SystemPromptEvent", "ConversationStateUpdateEvent"]


async def test_the_copy_lags_behind_the_agent_server() -> None:
    """Events are brought in fives, the rest after half a minute; the agent server has them at once."""
    async with Rig() as rig:
        c = await rig.start()
        rig.server.events_lag_s = 30.0
        rig.server.fail(c)
        own = (await rig.ask_agent(c, "events/search")).json()["items"]
        early = await rig.events(c, kind__eq="ConversationErrorEvent")
        await rig.later(30)
        late = await rig.events(c, kind__eq="ConversationErrorEvent")
        assert (own[-1]["kind"], early) == ("ConversationErrorEvent", [])
        assert [event["id"] for event in late] == [own[-1]["id"]]


async def test_five_events_are_brought_at_once() -> None:
    """However long the lag."""
    async with Rig() as rig:
        c = await rig.start()
        before = len(await rig.events(c))
        rig.server.events_lag_s = 30.0
        for _ in range(3):
            rig.server.progress(c, "Look")
        assert len(await rig.events(c)) == before + 5


async def test_the_copy_outlives_sleep_loss_and_deletion() -> None:
    """Last words stay readable there when the agent server is gone."""
    async with Rig() as rig:
        asleep, lost, deleted = [await rig.start(text) for text in ("one", "two", "three")]
        rig.server.fall_asleep(asleep)
        rig.server.lose_sandbox(lost)
        rig.server.vanish(deleted)
        assert [await rig.kinds(c, kind__eq="MessageEvent") for c in (asleep, lost, deleted)] == [["MessageEvent"]] * 3


async def test_odd_questions_about_events_have_odd_answers() -> None:
    """An unknown conversation has none; a malformed id or page is a bare 500; an unknown kind or order 422."""
    async with Rig() as rig:

        async def status(identifier: str, **query: str) -> tuple[int, str]:
            answer = await rig.client.get(f"/api/v1/conversation/{identifier}/events/search", params=query)
            return answer.status_code, answer.text[:21]

        assert await status(UNKNOWN) == (200, '{"items": [], "next_p')
        assert await status("not-an-id") == (500, "Internal Server Error")
        assert await status(UNKNOWN, page_id="nonsense") == (500, "Internal Server Error")
        assert (await status(UNKNOWN, kind__eq="NoSuchEvent"))[0] == 422
        assert (await status(UNKNOWN, sort_order="RANDOM"))[0] == 422
        assert (await status(UNKNOWN, timestamp__gte="yesterday"))[0] == 422


# The agent server


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ({"source": "user"}, ["fix README", "Again?"]),
        ({"body": "AGAIN"}, ["Again?"]),
        ({"kind": MESSAGE}, ["fix README", "Which?", "Again?"]),
        ({"kind": "MessageEvent"}, []),
        ({"kind": MESSAGE, "sort_order": "TIMESTAMP_DESC", "limit": 1}, ["Again?"]),
    ],
)
async def test_the_agent_server_has_filters_of_its_own(query: dict[str, str | int], texts: list[str]) -> None:
    """By source, by text in any case, and by the full class name of the kind, of which a short one finds nothing."""
    async with Rig() as rig:
        c = await rig.start("fix README")
        rig.server.ask(c, "Which?")
        await rig.send(c, "Again?")
        items = (await rig.ask_agent(c, "events/search", **query)).json()["items"]
        said = [event["llm_message"]["content"][0]["text"] for event in items if event["kind"] == "MessageEvent"]
        assert said == texts


async def test_the_agent_server_pages_by_event() -> None:
    """The id of the next page is that of its first event."""
    async with Rig() as rig:
        c = await rig.start()
        ids = [event["id"] for event in await rig.events(c)]
        first = (await rig.ask_agent(c, "events/search", limit=2)).json()
        second = (await rig.ask_agent(c, "events/search", limit=100, page_id=first["next_page_id"])).json()
        assert first["next_page_id"] == ids[2]
        assert [event["id"] for event in second["items"]] == ids[2:]
        assert second["next_page_id"] is None


async def test_the_final_response_is_the_last_words_ever() -> None:
    """Empty before the first, and old after a follow-up that failed."""
    async with Rig() as rig:
        c = await rig.start()

        async def last_words() -> str:
            words: str = (await rig.ask_agent(c, "agent_final_response")).json()["response"]
            return words

        none_yet = await last_words()
        rig.server.ask(c, "Which branch?")
        asked = await last_words()
        await rig.send(c, "main")
        rig.server.finish(c, "Fixed.")
        done = await last_words()
        await rig.send(c, "more")
        rig.server.fail(c)
        assert (none_yet, asked, done, await last_words()) == ("", "Which branch?", "Fixed.", "Fixed.")


async def test_the_agent_server_tells_the_state() -> None:
    """Its own view of the conversation, with the id in dashes."""
    async with Rig() as rig:
        c = await rig.start()
        shown = (await rig.client.get(c.path, headers=key_of(c))).json()
        assert (shown["id"], shown["execution_status"]) == (c.id, "running")
