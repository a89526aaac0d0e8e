"""Two ends of a tunnel in one process, without I/O: bytes move when a test says so, and time passes when it does."""

from __future__ import annotations

from collections.abc import Callable

from common.ids import ServiceName
from common.tunnel.config import TunnelConfig
from common.tunnel.core import TunnelCore
from common.tunnel.dialects import open_device_tunnel, open_relay_tunnel
from common.tunnel.interfaces import OpenTicket, PendingStream, Subprotocol
from common.tunnel.websocket import Side, WebSocketLink
from common.yamux import MemoryBudget, Role, Session
from tests.common.tunnel.fakes import (
    HELLO,
    RELAY_HELLO,
    Echo,
    FakeClock,
    RecordingDevice,
    RecordingRelay,
    RecordingSink,
)

__all__ = ["FakeShell", "Pair", "RawPeer", "accept", "echo"]


class FakeShell:
    """A shell that only remembers what it was asked."""

    def __init__(self, core: TunnelCore) -> None:
        self.core = core
        self.asked = False
        core.attach(self)

    def output_ready(self) -> None:
        self.asked = True

    def deadline_moved(self, when: float) -> None:
        assert when == self.core.deadline

    def take(self) -> bytes:
        """Everything the core has to send."""
        self.asked = False
        self.core.settle()
        out = bytearray()
        while self.core.has_output:
            for buffer in self.core.data_to_send():
                out += buffer
        return bytes(out)


def echo(request: PendingStream) -> RecordingSink:
    """Serve a request with an echo."""
    sink = Echo()
    sink.stream = request.accept(sink)
    return sink


def accept(request: PendingStream) -> RecordingSink:
    """Serve a request with a sink that keeps what comes."""
    sink = RecordingSink()
    sink.stream = request.accept(sink)
    return sink


class Pair:
    """A relay's end and a device's end, joined by `pump`."""

    def __init__(
        self,
        subprotocol: Subprotocol = Subprotocol.HOMEPORT_V1,
        config: TunnelConfig | None = None,
        *,
        device_config: TunnelConfig | None = None,
        budget: MemoryBudget | None = None,
        greeted: bool = True,
    ) -> None:
        config = config or TunnelConfig()
        self.clock = FakeClock()
        self.relay = RecordingRelay()
        self.device = RecordingDevice()
        self.relay_core, self.relay_end = open_relay_tunnel(
            subprotocol, WebSocketLink(Side.SERVER), self.relay, config=config, clock=self.clock, budget=budget
        )
        self.device_core, self.device_end = open_device_tunnel(
            subprotocol,
            WebSocketLink(Side.CLIENT),
            self.device,
            hello=HELLO,
            config=device_config or config,
            clock=self.clock,
        )
        self.relay_shell = FakeShell(self.relay_core)
        self.device_shell = FakeShell(self.device_core)
        self.to_relay_blocked = False
        self.to_device_blocked = False
        if greeted:
            self.relay.tunnel.greet(RELAY_HELLO)
            self.pump()

    def pump(self, chunk: int | None = None) -> int:
        """Move bytes both ways until there are none; returns how many there were."""
        moved = 0
        while True:
            down = b"" if self.to_device_blocked else self.relay_shell.take()
            up = b"" if self.to_relay_blocked else self.device_shell.take()
            self.relay_core.settle()
            self.device_core.settle()
            if not down and not up:
                return moved
            moved += len(down) + len(up)
            _feed(self.device_core, down, chunk)
            _feed(self.relay_core, up, chunk)

    def advance(self, seconds: float, *, pumping: bool = True) -> None:
        """Let time pass, ticking both ends when they want it."""
        until = self.clock.now + seconds
        while True:
            if pumping:
                self.pump()
            when = min(self.relay_core.deadline, self.device_core.deadline)
            if when > until:
                break
            self.clock.now = max(self.clock.now, when)
            for core in (self.relay_core, self.device_core):
                if core.deadline <= self.clock.now and not core.finished:
                    core.tick()
            if self.relay_core.finished and self.device_core.finished:
                break
            if when == self.clock.now and min(self.relay_core.deadline, self.device_core.deadline) <= when:
                break  # an end that is finished asks for nothing that would move on
        self.clock.now = until
        if pumping:
            self.pump()

    def open(
        self,
        serve: Callable[[PendingStream], RecordingSink] | None = None,
        *,
        service: str = "web",
        timeout: float = 10.0,
        sink: RecordingSink | None = None,
    ) -> tuple[RecordingSink, RecordingSink]:
        """A stream that is open: the relay's sink and the device's."""
        near, _ = self.ask(service, timeout=timeout, sink=sink)
        self.pump()
        request = self.device.requests.pop()
        far = (serve or accept)(request)
        self.device.sinks.append(far)
        self.pump()
        assert near.stream is not None
        return near, far

    def ask(
        self, service: str = "web", *, timeout: float = 10.0, sink: RecordingSink | None = None
    ) -> tuple[RecordingSink, OpenTicket]:
        """Ask for a stream, and do not wait."""
        near = sink or RecordingSink()
        ticket = self.relay.tunnel.open_service(
            ServiceName(service), near, timeout=timeout, traceparent="00-a-b-01", on_result=near.got_result
        )
        return near, ticket


def _feed(core: TunnelCore, data: bytes, chunk: int | None) -> None:
    for start in range(0, len(data), chunk or len(data) or 1):
        core.receive(data[start : start + (chunk or len(data))])


class RawPeer:
    """A peer that speaks WebSocket and yamux well, and the dialect as badly as a test likes.

    Args:
        core: the end under test.
        side: the peer's.
    """

    def __init__(self, core: TunnelCore, side: Side, clock: FakeClock) -> None:
        self.core = core
        self.shell = FakeShell(core)
        self.clock = clock
        self.link = WebSocketLink(side)
        self.session = Session(Role.CLIENT if side is Side.CLIENT else Role.SERVER, now=clock())
        self.events: list[object] = []

    def send(self) -> None:
        """Let the end under test have what the session has to say, and read its answer."""
        buffers = self.session.data_to_send(10_000_000)
        if buffers:
            self.send_raw(b"".join(map(bytes, self.link.encode(buffers, sum(map(len, buffers))))))
        self.read()

    def send_raw(self, data: bytes) -> None:
        self.core.receive(data)

    def send_yamux(self, data: bytes) -> None:
        """Bytes inside the WebSocket that no session would send."""
        self.send_raw(b"".join(map(bytes, self.link.encode([data], len(data)))))

    def read(self) -> None:
        for piece in self.link.receive(self.shell.take(), self.clock()):
            self.events += self.session.receive_data(piece, self.clock())
