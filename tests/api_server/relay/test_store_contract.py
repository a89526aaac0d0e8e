"""The contract of a session store, on the one that asks a real relay over its real internal HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_server.relay import Forwarder, ProxyClient, ProxyClientStore, RelayStream
from api_server.relay.stream import StreamPhase
from common.ids import ServiceName, SessionId, TeamId
from common.sessions.interfaces import DEFAULT_OPEN_OPTIONS, OpenOptions
from common.tunnel.stream import StreamSink
from tests.contract.relay_fixture import running_relay
from tests.contract.session_store import RELAY_SETTINGS, SessionStoreContract, StoreUnderTest


class RememberingForwarder(Forwarder):
    """Remembers what it opened, so that nothing of it outlives the test."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.streams: list[RelayStream] = []

    async def open(
        self,
        session_id: SessionId,
        team: TeamId,
        service: ServiceName,
        sink: StreamSink | None = None,
        options: OpenOptions = DEFAULT_OPEN_OPTIONS,
    ) -> RelayStream:
        stream = await super().open(session_id, team, service, sink, options)
        self.streams.append(stream)
        return stream

    async def close(self) -> None:
        for stream in self.streams:
            stream.reset()
        while any(stream.phase is not StreamPhase.CLOSED for stream in self.streams):
            await asyncio.sleep(0)


class TestProxyClientStore(SessionStoreContract):
    @pytest.fixture
    async def under_test(self, tmp_path: Path, anyio_backend: object) -> AsyncIterator[StoreUnderTest]:
        async with running_relay(tmp_path, **RELAY_SETTINGS) as relay:
            forwarder = RememberingForwarder(relay.internal_url, key=relay.internal_key)
            async with ProxyClient(relay.internal_url, key=relay.internal_key) as client:
                yield StoreUnderTest(relay=relay, store=ProxyClientStore(client, forwarder), holds_tunnels=False)
            await forwarder.close()
