"""What every test shares: the async backend, databases, and bounded hypothesis profiles."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.databases.fixtures import database, database_kind, database_url, databases, fresh_database

__all__ = ["anyio_backend", "database", "database_kind", "database_url", "databases", "fresh_database"]

settings.register_profile("default", max_examples=60, deadline=None, print_blob=True)
settings.register_profile(
    "thorough", max_examples=2_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on asyncio unless their module says trio."""
    return "asyncio"
