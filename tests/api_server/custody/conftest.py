"""Places and installations for the tests of mirrors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api_server.custody.destinations import KINDS, Destination, Destinations
from tests.api_server.custody.stage import Stage
from tests.databases.fixtures import FreshDatabase

__all__ = ["destination", "stage"]


@pytest.fixture(params=KINDS)
async def destination(
    anyio_backend: str, request: pytest.FixtureRequest, tmp_path: Path, fresh_database: FreshDatabase
) -> AsyncIterator[Destination]:
    """An empty place of each kind in turn."""
    with Destinations(tmp_path / "destinations", fresh_database).make(request.param) as made:
        yield made
        await made.close()


@pytest.fixture
async def stage(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """An installation without records."""
    async with Stage(tmp_path / "installation") as made:
        yield made
