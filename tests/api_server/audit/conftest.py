"""Fixtures of the audit log's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_server.db.database import Database
from tests.api_server.audit.stage import Stage


@pytest.fixture
async def stage(database: Database, tmp_path: Path) -> Stage:
    """An empty log, on each kind of database."""
    return Stage(database, tmp_path)
