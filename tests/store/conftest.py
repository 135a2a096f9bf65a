"""The tests of the store run on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.store.database import Database
from tests.postgres import server
from tests.store.bench import file_in, opened


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of a database of this test's own, in which nothing is yet."""
    return await server().fresh() if request.param == "postgresql" else file_in(tmp_path)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with opened(url) as made:
        yield made
