"""A client's connection without sockets or event loop: bytes in on either side, bytes out on the other.

Idle streams are in the pool from the start, so nothing ever has to be waited for.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any

from api_server.gateway.access import Gatekeeper
from api_server.gateway.connection import ClientConnection
from api_server.gateway.core import GatewayCore
from api_server.gateway.device_streams import DeviceStreams
from api_server.gateway.limits import GatewayLimits
from api_server.gateway.metrics import GatewayMetrics
from api_server.gateway.registry import ConnectionRegistry
from api_server.gateway.routes import DeviceRouter, NoRoutes
from api_server.gateway.timers import TimerWheel
from api_server.relay.dialer import ServiceDialer
from api_server.relay.directory import Location, SessionDirectory
from api_server.relay.forwarder import Forwarder
from api_server.relay.pool import StreamPool
from api_server.relay.stream import RelayStream
from common.ids import ServiceName, SessionId, TeamId
from common.tunnel.stream import Buffer
from tests.api_server.fakes import FakeClock
from tests.api_server.gateway.stage import FakeAuthenticator

__all__ = ["Memory", "Wire", "pieces", "without_traces"]

SESSION = SessionId("ses_" + "0" * 32)
WEB = ServiceName("web")


class Wire:
    """A transport that keeps what is written to it."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self._address = address
        self.written = bytearray()
        self.ended = False
        self.closed = False
        self.aborted = False

    def write(self, data: Buffer) -> None:
        assert not self.ended, "written after the end"
        self.written += data

    def writelines(self, buffers: Iterable[Buffer]) -> None:
        for data in buffers:
            self.write(data)

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> Any:
        return (self._address, 3722) if name in ("peername", "sockname") else None


class _Answered:
    """What a stream's opener would wait for."""

    def done(self) -> bool:
        return False

    def set_result(self, result: None) -> None: ...


class _Waiting:
    """A task that never ends."""

    def cancel(self) -> None: ...


class Memory:
    """One connection, and one stream to the service `web` of the device `cam`, over and over again."""

    def __init__(self, *, limits: GatewayLimits | None = None, wire: type[Wire] = Wire) -> None:
        self._wire = wire
        clock = FakeClock()
        self.authenticator = FakeAuthenticator()

        async def find(team: TeamId, device: str) -> Location:
            return Location(SESSION, 1)

        directory = SessionDirectory(find, clock=clock, ttl=1e9)
        with contextlib.suppress(StopIteration):  # it has nothing to wait for
            directory.get(TeamId("home"), "cam").send(None)
        self.pool = StreamPool()
        dialer = ServiceDialer(directory, Forwarder("http://127.0.0.1:1", key=None), self.pool)
        self.registry = registry = ConnectionRegistry()
        self.core = GatewayCore(
            limits=limits or GatewayLimits(),
            router=DeviceRouter(domain=None, streams=partial(DeviceStreams, dialer), others=NoRoutes()),
            gatekeeper=Gatekeeper(self.authenticator),
            dialer=dialer,
            clock=clock,
            wheel=TimerWheel(tick=1.0, now=clock.monotonic()),
            metrics=GatewayMetrics(dialer, registry=None, occupancy=registry.occupancy, held=registry.held),
            spawn=self._spawn,
        )
        self.stream, self.service = self._open()
        self.pool.put(self.stream, clock.monotonic())
        self.client, self.connection = self.connect("127.0.0.1")

    def connect(self, address: str) -> tuple[Wire, ClientConnection]:
        """One more client, from that address."""
        wire, connection = self._wire(address), ClientConnection(self.core, self.registry)
        connection.connection_made(wire)  # type: ignore[arg-type]
        return wire, connection

    def _open(self) -> tuple[RelayStream, Wire]:
        stream = RelayStream(SESSION, WEB, request=b"open", answered=_Answered())  # type: ignore[arg-type]
        wire = self._wire()
        stream.connection_made(wire)  # type: ignore[arg-type]
        stream.data_received(b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: homeport-stream\r\n\r\n")
        wire.written.clear()
        return stream, wire

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> Any:
        # Only a request for something else than the one service has to be waited for: it waits for ever.
        coroutine.close()
        return _Waiting()

    def from_client(self, parts: Iterable[bytes]) -> None:
        """The client sends."""
        for part in parts:
            self.connection.data_received(part)

    def from_service(self, parts: Iterable[bytes]) -> None:
        """The service sends."""
        for part in parts:
            self.stream.data_received(part)


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`data` cut at these places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def without_traces(data: bytes) -> bytes:
    """What went to a service, but for the random numbers in it."""
    return re.sub(rb"traceparent: [^\r]*", b"traceparent: -", data)
