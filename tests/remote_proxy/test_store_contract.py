"""The contract of every session store, on the relay's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.relay_fixture import running_relay
from tests.contract.session_store import RELAY_SETTINGS, SessionStoreContract, StoreUnderTest


class TestInMemoryStore(SessionStoreContract):
    @pytest.fixture
    async def under_test(self, tmp_path: Path, anyio_backend: object) -> AsyncIterator[StoreUnderTest]:
        async with running_relay(tmp_path, **RELAY_SETTINGS) as relay:
            yield StoreUnderTest(relay=relay, store=relay.store, holds_tunnels=True)
