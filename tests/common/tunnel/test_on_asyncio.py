"""The asyncio shell: dialling from it, how it writes, and what it does to a connection that is full."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from common.secret import Secret
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.core import FLUSH_SIZE
from common.tunnel.dialects import open_relay_tunnel
from common.tunnel.errors import HandshakeFailedError, HandshakeRefusedError, ProxyRefusedError
from common.tunnel.handshake import Admission, Refusal
from common.tunnel.interfaces import Subprotocol
from common.tunnel.on_asyncio import TunnelListener, connect_tunnel
from common.tunnel.on_asyncio.connection import TunnelConnection
from common.tunnel.websocket import Side, WebSocketLink
from tests.common.tunnel.fakes import HELLO, RecordingDevice, RecordingRelay, RecordingSink

TOKEN = Secret("token")
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def patiently() -> None:
        async with asyncio.timeout(30.0):
            await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(patiently())


async def listen(factory: Callable[[], asyncio.Protocol], **arguments: Any) -> tuple[asyncio.Server, int]:
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, **arguments)
    return server, server.sockets[0].getsockname()[1]


async def dial(url: str, device: RecordingDevice | None = None, **arguments: Any) -> Any:
    return await connect_tunnel(url, device or RecordingDevice(), token=TOKEN, hello=HELLO, **arguments)


# Dialling.


def test_a_refusal() -> None:
    async def main() -> None:
        refusal = Refusal(status=429, code="rate_limited", title="Slow down", retry_after=7.0)
        server, port = await listen(TunnelListener(lambda _: refusal))
        with pytest.raises(HandshakeRefusedError, match="Slow down") as caught:
            await dial(f"ws://127.0.0.1:{port}/tunnel")
        assert (caught.value.reason, caught.value.retry_after, caught.value.final) == ("rate_limited", 7.0, False)
        server.close()

    run(main)


class Scripted(asyncio.Protocol):
    """A server that answers the first bytes with its script, and may hang up then."""

    def __init__(self, script: bytes, *, hang_up: bool) -> None:
        self.script = script
        self.hang_up = hang_up

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.script)
        if self.hang_up:
            self.transport.close()


@pytest.mark.parametrize(
    ("script", "hang_up", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, "not HTTP/1"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", False, "no WebSocket handshake"),
        (b"HTTP/1.1 101 Swi", True, "before the relay answered"),
        (b"", True, "before the relay answered"),
        (b"", False, "within 0.1 s"),
    ],
)
def test_what_is_no_relay(script: bytes, hang_up: bool, why: str) -> None:
    async def main() -> None:
        server, port = await listen(lambda: Scripted(script, hang_up=hang_up))
        with pytest.raises(HandshakeFailedError, match=why):
            await dial(f"ws://127.0.0.1:{port}/tunnel", limits=HandshakeLimits(timeout=0.1 if not hang_up else 10.0))
        server.close()

    run(main)


def test_nobody_listens() -> None:
    async def main() -> None:
        server, port = await listen(asyncio.Protocol)
        server.close()
        await server.wait_closed()
        with pytest.raises(HandshakeFailedError, match=f"no connection to 127.0.0.1:{port}"):
            await dial(f"ws://127.0.0.1:{port}/tunnel")

    run(main)


def test_a_certificate_that_is_not_trusted(certificates: Contexts) -> None:
    async def main() -> None:
        relay = RecordingRelay()
        server, port = await listen(TunnelListener(lambda _: Admission(handler=relay)), ssl=certificates[0])
        with pytest.raises(HandshakeFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            await dial(f"wss://localhost:{port}/tunnel")
        assert relay.tunnel is None
        server.close()

    run(main)


class ProxyTo(asyncio.Protocol):
    """An HTTP proxy that takes whoever asks to another protocol of this process."""

    def __init__(self, asked: list[bytes], status: int, then: Callable[[], asyncio.Protocol]) -> None:
        self.asked = asked
        self.status = status
        self.then = then
        self.head = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.head += data
        if self.head.endswith(b"\r\n\r\n"):
            self.asked.append(self.head)
            self.transport.write(b"HTTP/1.0 %d Whatever\r\n\r\n" % self.status)
            if self.status == 200:
                protocol = self.then()
                self.transport.set_protocol(protocol)
                protocol.connection_made(self.transport)
            else:
                self.transport.close()


@pytest.mark.parametrize("status", [200, 403])
def test_through_an_http_proxy(status: int) -> None:
    async def main() -> None:
        relay = RecordingRelay()
        listener = TunnelListener(lambda _: Admission(handler=relay))
        asked: list[bytes] = []
        server, port = await listen(lambda: ProxyTo(asked, status, listener))
        dialled = dial("ws://relay.test/tunnel", environ={"http_proxy": f"127.0.0.1:{port}"})
        if status == 200:
            tunnel = await dialled
            assert tunnel.subprotocol is Subprotocol.HOMEPORT_V1
            tunnel.close()
        else:
            with pytest.raises(ProxyRefusedError, match="403"):
                await dialled
        assert asked == [b"CONNECT relay.test:80 HTTP/1.1\r\nHost: relay.test:80\r\n\r\n"]
        listener.abort_all()
        server.close()

    run(main)


def test_a_dial_that_is_cancelled_leaves_no_connection() -> None:
    async def main() -> None:
        over = asyncio.Event()
        begun = asyncio.Event()

        class Silent(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                begun.set()

            def connection_lost(self, exc: Exception | None) -> None:
                over.set()

        server, port = await listen(Silent)
        task = asyncio.ensure_future(dial(f"ws://127.0.0.1:{port}/tunnel"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await over.wait()
        server.close()

    run(main)


# Writing, to a transport that only remembers.


class FakeTransport(asyncio.Transport):
    """Takes what is written until it holds `room` bytes, as a socket would."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.writes: list[int] = []
        self.protocol: Any = None
        self.closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (1, 0)

    def get_write_buffer_size(self) -> int:
        return max(0, -self.room)

    def write(self, data: Any) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Any) -> None:
        assert not self.closed
        size = sum(map(len, list_of_data))
        self.writes.append(size)
        self.room -= size
        if self.room < 0:
            self.protocol.pause_writing()

    def take_all(self) -> None:
        """The kernel took everything."""
        self.room = 10**9
        self.protocol.resume_writing()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Bare:
    """A relay's raw tunnel on a transport in a test's hand."""

    def __init__(self, room: int = 10**9) -> None:
        self.relay = RecordingRelay()
        self.transport = FakeTransport(room)
        core, _ = open_relay_tunnel(
            Subprotocol.YAMUX,
            WebSocketLink(Side.SERVER),
            self.relay,
            config=TunnelConfig(),
            clock=asyncio.get_running_loop().time,
        )
        self.connection = TunnelConnection(core, self.transport, asyncio.get_running_loop())
        self.connection.begin(b"")

    def open(self) -> RecordingSink:
        sink = RecordingSink()
        self.relay.tunnel.open_service("", sink, timeout=1.0, on_result=sink.got_result)  # type: ignore[arg-type]
        return sink

    def end(self) -> None:
        self.connection.connection_lost(None)


def test_what_is_written_in_one_turn_is_one_write() -> None:
    async def main() -> None:
        bare = Bare()
        sinks = [bare.open() for _ in range(30)]
        await asyncio.sleep(0)
        assert len(bare.transport.writes) == 1
        for sink in sinks:
            sink.write(b"hello")
        assert len(bare.transport.writes) == 1
        await asyncio.sleep(0)
        assert len(bare.transport.writes) == 2
        bare.end()

    run(main)


def test_a_transport_that_is_full_is_given_no_more() -> None:
    """What waits stays in the session, so that it can still be overtaken, or dropped."""

    async def main() -> None:
        bare = Bare(room=100_000)
        bulk, small = bare.open(), bare.open()
        await asyncio.sleep(0)
        bulk.write(bytes(250_000))
        await asyncio.sleep(0)
        assert bare.transport.room < 0
        assert sum(bare.transport.writes) <= 100_000 + FLUSH_SIZE
        before = len(bare.transport.writes)
        small.write(b"hello")
        assert small.stream is not None
        small.stream.reset()
        await asyncio.sleep(0)
        assert len(bare.transport.writes) == before
        assert small.over  # callbacks are not held up by a full connection
        bare.transport.take_all()
        assert len(bare.transport.writes) > before
        assert sum(bare.transport.writes) >= 250_000
        bare.end()
        assert bulk.over

    run(main)


def test_the_last_words_wait_for_a_full_transport() -> None:
    async def main() -> None:
        bare = Bare(room=0)
        bare.open()
        await asyncio.sleep(0)
        before = len(bare.transport.writes)
        bare.relay.tunnel.close("revoked")
        await asyncio.sleep(0)
        assert bare.relay.closed
        assert len(bare.transport.writes) == before
        assert not bare.transport.closed
        bare.transport.take_all()
        assert len(bare.transport.writes) == before + 1
        bare.connection.eof_received()
        assert bare.transport.closed
        bare.end()

    run(main)
