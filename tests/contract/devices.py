"""Devices for tests: they dial a real relay over loopback with the asyncio tunnel, and serve what a test gives them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence

from common.ids import ServiceName
from common.secret import Secret
from common.tunnel.dial import Dial
from common.tunnel.errors import TunnelError, TunnelLostError
from common.tunnel.interfaces import DeviceTunnel, PendingStream, Subprotocol
from common.tunnel.on_asyncio import connect_tunnel
from common.tunnel.stream import Buffer, ResetCode, Stream
from common.wire.messages import DeviceHello, Drain, OpenRefusal, RelayHello, Service
from tests.contract.sinks import RecordingSink

__all__ = ["SERVICES", "Device", "Serve", "echo", "flood", "ignore", "keep", "refuse", "reset", "swallow"]

Serve = Callable[[PendingStream], object]
"""Answers one request for a stream."""

_PATIENCE = 30.0


class _Echo:
    """Sends back what comes, holds the peer when it is held itself, and half-closes when the peer did."""

    def __init__(self) -> None:
        self.stream: Stream | None = None

    def data_received(self, data: Buffer) -> None:
        assert self.stream is not None
        self.stream.write(bytes(data))

    def eof_received(self) -> None:
        assert self.stream is not None
        self.stream.write_eof()

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None:
        assert self.stream is not None
        self.stream.pause_reading()

    def resume_writing(self) -> None:
        assert self.stream is not None
        self.stream.resume_reading()


def echo(request: PendingStream) -> None:
    """Sends back what comes; ends when the client has."""
    sink = _Echo()
    sink.stream = request.accept(sink)


def swallow(request: PendingStream) -> None:
    """Reads everything and says nothing."""
    request.accept(RecordingSink())


def refuse(request: PendingStream) -> None:
    """Says no."""
    request.refuse(OpenRefusal.UNREACHABLE, "connection refused")


def ignore(request: PendingStream) -> None:
    """Never answers."""


def reset(request: PendingStream) -> None:
    """Accepts, then resets."""
    request.accept(RecordingSink()).reset(ResetCode.CANCELLED)


class keep:  # noqa: N801  used like the functions beside it
    """Accepts, and keeps stream and sink for the test to drive."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.sinks: list[RecordingSink] = []
        self._came = asyncio.Event()

    def __call__(self, request: PendingStream) -> None:
        sink = RecordingSink()
        self.sinks.append(sink)
        self.streams.append(request.accept(sink))
        self._came.set()

    async def next(self, number: int = 0) -> tuple[Stream, RecordingSink]:
        """The stream with that number and its sink, once it has come."""
        async with asyncio.timeout(_PATIENCE):
            while len(self.streams) <= number:
                self._came.clear()
                await self._came.wait()
        return self.streams[number], self.sinks[number]


class flood:  # noqa: N801
    """Sends `total` bytes as fast as it is let, then half-closes. Remembers how much it got rid of."""

    def __init__(self, total: int, chunk: int = 64 * 1024) -> None:
        self.total = total
        self.chunk = bytes(chunk)
        self.written = 0
        self.paused = False
        self.held = asyncio.Event()
        """Set while it is paused."""
        self._stream: Stream | None = None
        self._loop = asyncio.get_running_loop()

    def __call__(self, request: PendingStream) -> None:
        self._stream = request.accept(self)
        self._send()

    def _send(self) -> None:
        """One chunk a turn of the loop, as if it came from a socket: a stream pauses its writer between two turns."""
        assert self._stream is not None
        if self.paused or self.total < 0:
            return
        piece = self.chunk[: self.total - self.written]
        self.written += len(piece)
        self._stream.write(piece)
        if self.written == self.total:
            self.total = -1
            self._stream.write_eof()
        else:
            self._loop.call_soon(self._send)

    def data_received(self, data: Buffer) -> None: ...

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self.total = -1

    def pause_writing(self) -> None:
        self.paused = True
        self.held.set()

    def resume_writing(self) -> None:
        self.paused = False
        self.held.clear()
        self._send()


SERVICES: Mapping[str, Serve] = {
    "echo": echo,
    "ignore": ignore,
    "refuse": refuse,
    "reset": reset,
    "swallow": swallow,
}
"""What a device offers if a test does not say otherwise. A raw yamux device serves the first, `echo`."""


class Device:
    """A device that dialled in. Implements the tunnel's `DeviceHandler`.

    Args:
        services: what it serves, by name. On subprotocol `yamux` the first one is the only one.
    """

    def __init__(self, services: Mapping[str, Serve] = SERVICES) -> None:
        self.services = dict(services)
        self.tunnel: DeviceTunnel | None = None
        self.hello: RelayHello | None = None
        self.drain: Drain | None = None
        self.lost: TunnelError | None = None
        self.requests: list[PendingStream] = []
        self._changed = asyncio.Event()

    @property
    def close_reason(self) -> str:
        """Why the relay ended the tunnel."""
        assert isinstance(self.lost, TunnelLostError), self.lost
        return self.lost.reason

    async def dial(
        self,
        url: str,
        token: Secret,
        *,
        subprotocol: Subprotocol = Subprotocol.HOMEPORT_V1,
        tls: ssl.SSLContext | None = None,
        dial: Dial | None = None,
    ) -> None:
        """Dial the relay; returns once it has greeted (`homeport.v1`), or the tunnel is open (`yamux`).

        Raises:
            HandshakeRefusedError: the relay said no.
            TunnelLostError: it ended the tunnel before it had greeted.
        """
        offered = [Service(name=name, kind="tcp", health="healthy") for name in self.services]
        self.tunnel = await connect_tunnel(
            url,
            self,
            token=token,
            hello=DeviceHello(software="test-device/1.0", services=offered),
            subprotocols=[subprotocol],
            dial=dial,
            ssl_context=tls,
        )
        if subprotocol is Subprotocol.HOMEPORT_V1:
            await self.until(lambda device: device.hello is not None or device.lost is not None)
            if self.hello is None:
                assert self.lost is not None
                raise self.lost

    async def until(self, condition: Callable[[Device], bool]) -> None:
        """Return once `condition` holds; it is looked at after each callback."""
        async with asyncio.timeout(_PATIENCE):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def wait_lost(self) -> str:
        """Wait for the end of the tunnel; returns the reason."""
        await self.until(lambda device: device.lost is not None)
        return self.close_reason

    async def wait_drain(self) -> Drain:
        """Wait until the relay asks the device to go elsewhere."""
        await self.until(lambda device: device.drain is not None)
        assert self.drain is not None
        return self.drain

    async def wait_request(self, number: int = 0) -> PendingStream:
        """Wait for the request with that number."""
        await self.until(lambda device: len(device.requests) > number)
        return self.requests[number]

    def close(self) -> None:
        """Hang up."""
        if self.tunnel is not None:
            self.tunnel.close()

    # DeviceHandler

    def tunnel_opened(self, tunnel: DeviceTunnel) -> None:
        self.tunnel = tunnel

    def hello_received(self, hello: RelayHello) -> None:
        self.hello = hello
        self._changed.set()

    def service_requested(self, request: PendingStream) -> None:
        self.requests.append(request)
        name = request.service or ServiceName(next(iter(self.services)))
        serve = self.services.get(name)
        if serve is None:
            request.refuse(OpenRefusal.UNKNOWN_SERVICE, f"no service {name!r}")
        else:
            serve(request)
        self._changed.set()

    def drain_received(self, drain: Drain) -> None:
        self.drain = drain
        self._changed.set()

    def tunnel_drained(self) -> None:
        self.close()

    def tunnel_closed(self, exc: TunnelError) -> None:
        self.lost = exc
        self._changed.set()

    def services_of(self, healths: Mapping[str, str]) -> Sequence[Service]:
        """The device's services with other healths."""
        return [Service(name=name, health=healths.get(name, "healthy")) for name in self.services]
