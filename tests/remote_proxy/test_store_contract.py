"""The contract of every session store, on the relay's own."""

from __future__ import annotations

import pytest

from tests.contract.relay_fixture import RunningRelay
from tests.contract.session_store import SessionStoreContract, StoreUnderTest


class TestInMemoryStore(SessionStoreContract):
    @pytest.fixture
    def under_test(self, relay: RunningRelay) -> StoreUnderTest:
        return StoreUnderTest(relay=relay, store=relay.store, holds_tunnels=True)
