"""What every test shares: the async backend, databases, bounded hypothesis profiles, and who runs beside whom.

`make test` runs two workers. The tests of a file stay together, so that what they share is made once. Those that start
many processes, or watch how they get on with little time, follow one another in one worker: beside them runs the other
worker, and nothing more.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.databases.fixtures import database, database_kind, database_url, databases, fresh_database

__all__ = [
    "anyio_backend",
    "database",
    "database_kind",
    "database_url",
    "databases",
    "fresh_database",
    "pytest_xdist_make_scheduler",
]

settings.register_profile("default", max_examples=60, deadline=None, print_blob=True)
settings.register_profile(
    "thorough", max_examples=2_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

IN_A_ROW = ("bench/", "e2e/", "faults/", "homeport/up/", "simulation/", "soak/")
"""Folders whose tests follow one another."""


class Scheduling(LoadScopeScheduling):
    """Says which tests belong to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0].removeprefix("tests/")
        return "in a row" if file.startswith(IN_A_ROW) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """What `--numprocesses` asks for."""
    return Scheduling(config, log)


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio unless their module says trio."""
    return "asyncio"
