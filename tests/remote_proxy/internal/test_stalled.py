"""Clients that are held because their device does not read, and leave or stay."""

from __future__ import annotations

import asyncio

import pytest

from common.tunnel.errors import StreamLostError
from tests.contract.devices import keep
from tests.contract.relay_fixture import RunningRelay
from tests.remote_proxy.wire import RawClient, open_stream

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def fill(relay: RunningRelay, client: RawClient) -> None:
    """Send until the relay has stopped reading."""
    transport = client.writer.transport
    chunk = bytes(64 * 1024)
    async with asyncio.timeout(30):
        while relay.metric("held_bytes") < 256 * 1024:
            if transport.get_write_buffer_size() < MIB:
                client.send(chunk)
            await asyncio.sleep(0)


async def test_a_client_that_resets_while_it_is_held_is_noticed(relay: RunningRelay) -> None:
    """A connection that is not read from tells nobody of its end."""
    deaf = keep()
    await relay.attach(services={"deaf": deaf})
    async with open_stream(relay, "deaf") as client:
        stream, sink = await deaf.next()
        stream.pause_reading()
        await fill(relay, client)
        client.reset()
        assert isinstance(await sink.wait_lost(), StreamLostError)
    await relay.until(lambda: relay.metric("held_bytes") == 0)


async def test_a_client_that_is_held_and_stays_is_let_alone(relay: RunningRelay) -> None:
    deaf = keep()
    await relay.attach(services={"deaf": deaf})
    async with open_stream(relay, "deaf") as held, open_stream(relay, "deaf") as gone:
        (stream, sink), (other, other_sink) = await deaf.next(0), await deaf.next(1)
        stream.pause_reading()
        other.pause_reading()
        await fill(relay, held)
        await fill(relay, gone)
        held.end()
        gone.reset()
        await other_sink.wait_lost()
        assert not sink.lost
        stream.resume_reading()
        await sink.wait_eof()
        assert not sink.lost
