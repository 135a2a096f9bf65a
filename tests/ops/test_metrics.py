"""Numbers for Prometheus: what is counted, by which words, and what is left out."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.ops.metrics import TYPES_MAX, Metrics, Moment, exposition, status_class, type_of
from bot.store.stats import Standing
from tests.store.bench import NOW

NOTHING = Standing(runs={}, waiting=0, owed={}, oldest={}, dead={})


def moment(standing: Standing | None = NOTHING, ended: Mapping[str, int] = MappingProxyType({})) -> Moment:
    return Moment(now=NOW, connected=True, ended=ended, standing=standing)


def read(metrics: Metrics, at: Moment, *names: str) -> dict[tuple[str, ...], float]:
    """Read the exposition as Prometheus does: name and labels of each number of these families."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(exposition(metrics, at).decode())
        for sample in family.samples
        if family.name in names and not sample.name.endswith("_created")
    }


@pytest.mark.parametrize(
    ("status", "name"), [(None, "none"), (200, "2xx"), (302, "3xx"), (404, "4xx"), (429, "429"), (503, "5xx")]
)
def test_answers_are_counted_by_what_they_mean(status: int | None, name: str) -> None:
    """Too many calls, or no free slot, is a matter of its own."""
    assert status_class(status) == name


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"type": "event_callback", "event": {"type": "reaction_added"}}, "reaction_added"),
        ({"type": "block_actions"}, "block_actions"),
        ({"type": "event_callback", "event": "text"}, "event_callback"),
        ({"type": "event_callback", "event": {}}, "other"),
        ({"type": "Fix the README"}, "other"),
        ({"type": "a" * 41}, "other"),
        ({"type": 1}, "other"),
        ({}, "other"),
    ],
)
def test_a_payload_is_named_by_its_type(body: dict[str, object], name: str) -> None:
    """Nothing that could be somebody's words becomes a label."""
    assert type_of(body) == name


def test_new_types_do_not_grow_without_end() -> None:
    """Each label is kept for as long as the process lives."""
    metrics = Metrics()
    for number in range(TYPES_MAX + 10):
        metrics.ignored({"type": "x" + chr(97 + number // 26) + chr(97 + number % 26)})
    found = read(metrics, moment(), "bot_ignored_payloads")
    assert len(found) == TYPES_MAX + 1
    assert found["bot_ignored_payloads_total", "other"] == 10


def test_what_the_tables_hold_is_written_with_its_age() -> None:
    """Ages are those of this moment, not of the last change."""
    standing = Standing(
        runs={"working": 3, "queued": 2},
        waiting=1,
        owed={"message": 2},
        oldest={"message": NOW - timedelta(seconds=90)},
        dead={"direct": 1},
    )
    names = ("bot_runs", "bot_inbox_rows", "bot_owed_rows", "bot_owed_oldest_seconds", "bot_dead_rows")
    assert read(Metrics(), moment(standing), *names) == {
        ("bot_runs", "working"): 3,
        ("bot_runs", "queued"): 2,
        ("bot_inbox_rows",): 1,
        ("bot_owed_rows", "message"): 2,
        ("bot_owed_oldest_seconds", "message"): 90,
        ("bot_dead_rows", "direct"): 1,
    }


def test_while_the_database_is_silent_its_numbers_are_left_out() -> None:
    """An old number would look like a true one."""
    names = ("bot_database_up", "bot_socket_up", "bot_inbox_rows", "bot_runs")
    assert read(Metrics(), moment(None), *names) == {("bot_database_up",): 0, ("bot_socket_up",): 1}


def test_ends_of_connections_are_counted_by_slacks_reason() -> None:
    """A word that is none of Slack's is not repeated."""
    found = read(Metrics(), moment(ended={"refresh_requested": 2, "Something else": 1}), "bot_socket_ended")
    assert found == {("bot_socket_ended_total", "refresh_requested"): 2, ("bot_socket_ended_total", "other"): 1}


def test_two_bots_in_one_process_count_apart() -> None:
    """There is no registry of the whole process."""
    one, other = Metrics(), Metrics()
    one.requested("command")
    assert read(one, moment(), "bot_requests") == {("bot_requests_total", "command"): 1}
    assert read(other, moment(), "bot_requests") == {}


def test_an_acknowledgement_that_failed_is_none() -> None:
    """Only what Slack got an answer for is measured."""
    metrics = Metrics()
    with pytest.raises(ValueError, match="not saved"), metrics.acknowledging():
        raise ValueError("not saved")
    with metrics.acknowledging():
        pass
    assert read(metrics, moment(), "bot_ack_seconds")[("bot_ack_seconds_count",)] == 1
