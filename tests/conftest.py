"""What every test shares: the async backend, databases, bounded hypothesis profiles, and who runs beside whom.

`make test ARGS="-n 2 --dist loadgroup"` runs two workers. The tests of a file stay together, so that what they share is
made once. Those that start many processes, or watch how they get on with little time, follow one another in one
worker: beside them runs the other worker, and nothing more.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.databases.fixtures import database, database_kind, database_url, databases, fresh_database

__all__ = [
    "anyio_backend",
    "database",
    "database_kind",
    "database_url",
    "databases",
    "fresh_database",
    "pytest_collection_modifyitems",
]

settings.register_profile("default", max_examples=60, deadline=None, print_blob=True)
settings.register_profile(
    "thorough", max_examples=2_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ROOT = Path(__file__).parent
IN_A_ROW = ("bench", "e2e", "faults", "homeport/up", "simulation", "soak")
"""Folders whose tests follow one another."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests belong to one worker."""
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        heavy = any(file.startswith(f"{folder}/") for folder in IN_A_ROW)
        item.add_marker(pytest.mark.xdist_group("in a row" if heavy else file))


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio unless their module says trio."""
    return "asyncio"
