"""Clients that nothing is read from, and that leave or stay."""

from __future__ import annotations

import asyncio
import socket

import pytest

from common.tunnel.errors import StreamLostError
from common.tunnel.on_asyncio.connection import as_transport
from remote_proxy.internal.stalled import StalledClients
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


async def test_a_client_that_half_closed_and_then_resets_is_noticed_though_its_device_is_silent(
    relay: RunningRelay,
) -> None:
    silent = keep()
    await relay.attach(services={"silent": silent})
    async with open_stream(relay, "silent") as gone, open_stream(relay, "silent") as waiting:
        (_, sink), (stream, other_sink) = await silent.next(0), await silent.next(1)
        gone.end()
        waiting.end()
        await sink.wait_eof()
        await other_sink.wait_eof()
        gone.reset()
        assert isinstance(await sink.wait_lost(), StreamLostError)
        assert not other_sink.lost
        stream.write(b"late")
        stream.write_eof()
        assert await waiting.read_end() == b"late"


class HalfClosed(asyncio.Protocol):
    """A server's end of a connection that stays when its client has sent FIN."""

    transport: asyncio.Transport

    def __init__(self, stalled: StalledClients) -> None:
        self._stalled = stalled
        self.ended = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = as_transport(transport)

    def eof_received(self) -> bool:
        self._stalled.add_ended(self.transport)
        self.ended.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._stalled.discard(self.transport)
        self.lost.set()


async def test_a_client_that_closed_is_told_from_one_that_half_closed() -> None:
    """Both have sent FIN; the kernel of the one that closed forgets it, here after a second (TCP_LINGER2)."""
    loop = asyncio.get_running_loop()
    stalled = StalledClients(loop, ask_every=1)
    ends: asyncio.Queue[HalfClosed] = asyncio.Queue()

    def accept() -> HalfClosed:
        end = HalfClosed(stalled)
        ends.put_nowait(end)
        return end

    made: list[HalfClosed] = []
    server = await loop.create_server(accept, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    try:
        async with asyncio.timeout(60):
            with socket.create_connection(address) as waiting:
                waiting.shutdown(socket.SHUT_WR)
                made.append(await ends.get())
                await made[0].ended.wait()
                with socket.create_connection(address) as gone:
                    gone.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
                made.append(await ends.get())
                await made[1].lost.wait()
                assert made[1].ended.is_set()
                assert not made[0].lost.is_set()
                assert len(stalled) == 1
    finally:
        server.close()
        for end in made:
            end.transport.abort()
            await end.lost.wait()
