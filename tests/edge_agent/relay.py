"""A relay on trio that the test scripts: the tunnel's own server side, without any of `remote_proxy`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from common.ids import ServiceName
from common.tunnel.config import TunnelConfig
from common.tunnel.errors import TunnelError
from common.tunnel.handshake import Admission, HandshakeRequest, Refusal
from common.tunnel.interfaces import RelayTunnel
from common.tunnel.on_trio import serve_tunnel
from common.tunnel.on_trio.tls import TLSTransport
from common.tunnel.on_trio.transport import SocketTransport, Transport
from common.tunnel.stream import Buffer, ResetCode, Stream, StreamSink
from common.wire.messages import DeviceHello, Drain, RelayHello, Service, Stats
from tests.edge_agent.services import Handler

__all__ = ["Relay", "RelayStream", "Session", "relay"]


class RelayStream(StreamSink):
    """A stream of the relay's, as tasks like them: write at once, wait for what comes."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.received = bytearray()
        self.eof = False
        self.over = False
        self.error: Exception | None = None
        self._changed = trio.Event()
        self._may_write = trio.Event()
        self._may_write.set()

    # For the test.

    def write(self, data: Buffer) -> None:
        assert self.stream is not None
        self.stream.write(data)

    async def send(self, data: bytes, piece: int = 64 * 1024) -> None:
        """Write `data` as fast as the agent takes it."""
        for start in range(0, len(data), piece):
            await self._may_write.wait()
            self.write(memoryview(data)[start : start + piece])

    def write_eof(self) -> None:
        assert self.stream is not None
        self.stream.write_eof()

    def reset(self, code: ResetCode = ResetCode.CANCELLED) -> None:
        assert self.stream is not None
        self.stream.reset(code)

    def pause(self) -> None:
        assert self.stream is not None
        self.stream.pause_reading()

    def resume(self) -> None:
        assert self.stream is not None
        self.stream.resume_reading()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about this stream holds."""
        while not holds():
            await self._changed.wait()

    async def receive(self, count: int) -> bytes:
        """The next `count` bytes."""
        await self.until(lambda: len(self.received) >= count or self.eof or self.over)
        data = bytes(self.received[:count])
        assert len(data) == count, f"{len(data)} of {count} bytes; eof={self.eof}, error={self.error!r}"
        del self.received[:count]
        return data

    async def receive_all(self) -> bytes:
        """Everything up to the end of file."""
        await self.until(lambda: self.eof or self.over)
        assert self.eof, f"no end of file; error={self.error!r}"
        return bytes(self.received)

    async def lost(self) -> Exception | None:
        """Wait until it is over; why."""
        await self.until(lambda: self.over)
        return self.error

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # StreamSink

    def data_received(self, data: Buffer) -> None:
        self.received += data
        self._change()

    def eof_received(self) -> None:
        self.eof = True
        self._change()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self.error = exc
        self._may_write.set()
        self._change()

    def pause_writing(self) -> None:
        self._may_write = trio.Event()

    def resume_writing(self) -> None:
        self._may_write.set()


class Session:
    """One tunnel, as the relay sees it. Implements `RelayHandler`."""

    def __init__(self, relay: Relay, request: HandshakeRequest) -> None:
        self.relay = relay
        self.request = request
        self.tunnel: RelayTunnel | None = None
        self.hello: DeviceHello | None = None
        self.services: list[dict[str, str]] = []
        self.stats: list[Stats] = []
        self.drain: Drain | None = None
        self.drained = False
        self.error: TunnelError | None = None

    async def open(self, service: str, *, timeout: float = 10.0) -> RelayStream:
        """A stream to a service; raises what `open_service` reports."""
        stream = RelayStream()
        results: list[Stream | TunnelError] = []
        answered = trio.Event()

        def on_result(result: Stream | TunnelError) -> None:
            results.append(result)
            if not isinstance(result, TunnelError):
                stream.stream = result
            answered.set()

        assert self.tunnel is not None
        self.tunnel.open_service(ServiceName(service), stream, timeout=timeout, on_result=on_result)
        await answered.wait()
        if isinstance(results[0], TunnelError):
            raise results[0]
        return stream

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about this session holds."""
        await self.relay.until(holds)

    def tunnel_opened(self, tunnel: RelayTunnel) -> None:
        self.tunnel = tunnel
        self.relay.change()

    def hello_received(self, hello: DeviceHello) -> None:
        self.hello = hello
        self.services.append({service.name: service.health for service in hello.services})
        if self.relay.greets:
            assert self.tunnel is not None
            epoch = self.relay.sessions.index(self) + 1
            self.tunnel.greet(RelayHello(software="relay/1", session_id=f"ses_{epoch}", epoch=epoch))
        self.relay.change()

    def services_changed(self, services: Sequence[Service]) -> None:
        self.services.append({service.name: service.health for service in services})
        self.relay.change()

    def stats_received(self, stats: Stats) -> None:
        self.stats.append(stats)
        self.relay.change()

    def drain_received(self, drain: Drain) -> None:
        self.drain = drain
        self.relay.change()

    def tunnel_drained(self) -> None:
        self.drained = True
        self.relay.change()

    def tunnel_closed(self, exc: TunnelError) -> None:
        self.error = exc
        self.relay.change()


@dataclass
class Relay:
    """Admits every device, after it has refused as often as `refusals` says."""

    nursery: trio.Nursery
    refusals: list[Refusal] = field(default_factory=list)
    greets: bool = True
    config: TunnelConfig | None = None
    tls: ssl.SSLContext | None = None
    port: int = 0
    requests: list[HandshakeRequest] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    tls_failures: list[str] = field(default_factory=list)
    impostors: list[Handler] = field(default_factory=list)
    """Serve the first connections instead."""
    _changed: trio.Event = field(default_factory=trio.Event)

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{'wss' if self.tls else 'ws'}://{host}:{self.port}/tunnel"

    async def session(self, number: int = 1) -> Session:
        """The session of that number, counted from 1, once its device has said hello."""
        await self.until(lambda: len(self.sessions) >= number and self.sessions[number - 1].hello is not None)
        return self.sessions[number - 1]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something about this relay or its sessions holds."""
        while not holds():
            await self._changed.wait()

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def admit(self, request: HandshakeRequest) -> Admission | Refusal:
        self.requests.append(request)
        self.change()
        if self.refusals:
            return self.refusals.pop(0)
        session = Session(self, request)
        self.sessions.append(session)
        return Admission(handler=session)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Be the relay on one accepted connection."""
        if self.impostors:
            async with stream:
                await self.impostors.pop(0)(stream)
            return
        transport: Transport = SocketTransport(socket.socket(fileno=stream.socket.detach()))
        if self.tls is not None:
            transport = tls = TLSTransport(transport, self.tls, server_side=True)
            try:
                await tls.handshake()
            except OSError as exc:
                self.tls_failures.append(str(exc))
                await transport.aclose()
                return
        await serve_tunnel(transport, self.admit, config=self.config)


@asynccontextmanager
async def relay(
    *, tls: ssl.SSLContext | None = None, greets: bool = True, config: TunnelConfig | None = None
) -> AsyncIterator[Relay]:
    """A relay that listens on a free port of 127.0.0.1."""
    async with trio.open_nursery() as nursery:
        served = Relay(nursery, greets=greets, tls=tls, config=config)
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        served.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, served.serve, [listener])
        yield served
        nursery.cancel_scope.cancel()
