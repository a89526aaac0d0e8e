"""The relay is tested on the loop that it runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.relay_fixture import RunningRelay, running_relay


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def relay(tmp_path: Path, anyio_backend: object) -> AsyncIterator[RunningRelay]:
    """A relay with the default settings."""
    async with running_relay(tmp_path) as running:
        yield running
