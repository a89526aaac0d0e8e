"""The agent's tests run on trio, on a clock that jumps whenever every task waits: minutes of back-off take no time."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock


@pytest.fixture
def clock() -> MockClock:
    """Time, as every test of the agent sees it."""
    # Loopback delivers within the sender's system call, so whoever has bytes to read is found runnable first.
    return MockClock(autojump_threshold=0)


@pytest.fixture
def anyio_backend(clock: MockClock) -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": clock}
