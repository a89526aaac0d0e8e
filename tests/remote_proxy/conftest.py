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


@pytest.fixture
async def hasty_relay(tmp_path: Path, anyio_backend: object) -> AsyncIterator[RunningRelay]:
    """A relay that waits for nobody: heads and handshakes have a tenth of a second."""
    async with running_relay(tmp_path, head_timeout=0.1, handshake_timeout=0.1) as running:
        yield running


@pytest.fixture
async def idle_relay(tmp_path: Path, anyio_backend: object) -> AsyncIterator[RunningRelay]:
    """A relay whose streams may be idle for a tenth of a second."""
    async with running_relay(tmp_path, stream_idle_timeout=0.1) as running:
        yield running


@pytest.fixture
async def slow_relay(tmp_path: Path, anyio_backend: object) -> AsyncIterator[RunningRelay]:
    """A relay that lets one stream a tunnel be opened in 1,000 seconds."""
    async with running_relay(tmp_path, max_opens_per_second=0.001) as running:
        yield running
