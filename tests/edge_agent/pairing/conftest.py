"""An API for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.crypto.key_sets import generate_key_pair
from common.crypto.session_tokens import SessionTokenSigner
from tests.edge_agent.pairing import Installation, installation


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Installation]:
    """A running API, with a database of its own."""
    generate_key_pair(tmp_path / "private.json", tmp_path / "public.json")
    with installation(tmp_path, SessionTokenSigner.from_file(tmp_path / "private.json")) as running:
        yield running
