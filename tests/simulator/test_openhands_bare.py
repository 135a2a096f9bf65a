"""The local OpenHands that has only the two calls of the published guide."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest

from bot.simulator.openhands.bare import BareOpenHands

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
BASE = "/api/conversations"


@asynccontextmanager
async def bare() -> AsyncIterator[tuple[BareOpenHands, httpx.AsyncClient]]:
    server = BareOpenHands(key="right", now=lambda: NOW)
    await server.start()
    headers = {"Authorization": "Bearer right"}
    async with httpx.AsyncClient(base_url=server.base_url, headers=headers, verify=False) as client:
        yield server, client
    await server.stop()


async def test_a_conversation_runs_until_it_is_stopped() -> None:
    """The answers are the guide's, field by field."""
    async with bare() as (server, client):
        started = (await client.post(BASE, json={"initial_user_msg": "fix README", "repository": "org/repo"})).json()
        identifier = started["conversation_id"]
        running = (await client.get(f"{BASE}/{identifier}")).json()
        server.stop_run(identifier)
        stopped = (await client.get(f"{BASE}/{identifier}")).json()
        assert started == {"status": "ok", "conversation_id": identifier}
        assert running == {
            "conversation_id": identifier,
            "title": "",
            "created_at": "2026-11-24T09:00:00+00:00",
            "last_updated_at": "2026-11-24T09:00:00+00:00",
            "status": "RUNNING",
            "selected_repository": "org/repo",
            "trigger": "openhands_api",
        }
        assert stopped == running | {"status": "STOPPED"}
        assert server.runs[identifier].message == "fix README"


@pytest.mark.parametrize("body", [{}, {"initial_user_msg": 1}, {"initial_user_msg": "fix README", "colour": "red"}])
async def test_a_start_is_exactly_as_published(body: object) -> None:
    """A message, perhaps a repository, nothing else."""
    async with bare() as (server, client):
        answer = await client.post(BASE, json=body)
        assert (answer.status_code, server.runs) == (422, {})


async def test_an_unknown_conversation_is_null() -> None:
    """200, as on the real server."""
    async with bare() as (_server, client):
        answer = await client.get(f"{BASE}/abc1234")
        assert (answer.status_code, answer.json()) == (200, None)


async def test_a_wrong_key_is_refused() -> None:
    """401, named as in the cloud."""
    async with bare() as (_server, client):
        answer = await client.get(f"{BASE}/abc1234", headers={"Authorization": "Bearer wrong"})
        assert (answer.status_code, answer.json()) == (401, {"error": "NoCredentialsError"})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", BASE),
        ("GET", f"{BASE}/abc1234/events"),
        ("POST", f"{BASE}/abc1234/message"),
        ("POST", f"{BASE}/abc1234/stop"),
        ("GET", "/api/v1/app-conversations/count"),
    ],
)
async def test_there_is_nothing_else(method: str, path: str) -> None:
    """404 in JSON, also for another method on a known path."""
    async with bare() as (_server, client):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})
