"""The trio shell: time, cancellation, dialling, and how seldom it wakes."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from common.secret import Secret
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.errors import (
    HandshakeFailedError,
    HandshakeRefusedError,
    ProxyRefusedError,
    TunnelLostError,
)
from common.tunnel.handshake import Admission, HandshakeRequest, PlainAnswer, Refusal
from common.tunnel.interfaces import Subprotocol
from common.tunnel.on_trio import run_client_tunnel, serve_tunnel
from common.tunnel.on_trio.tls import TLSTransport
from common.tunnel.on_trio.transport import MOST_READ, SocketTransport, StreamTransport, Transport, receive, send_all
from common.tunnel.stream import Buffer, ResetCode
from tests.common.tunnel.fakes import HELLO, RecordingDevice, RecordingRelay, RecordingSink
from tests.common.tunnel.pair import echo
from tests.common.tunnel.test_server_handshake import request

TOKEN = Secret("token")
URL = "ws://relay.example/tunnel"


def run(function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run on a clock that jumps to the next deadline when nothing else can happen."""
    trio.run(function, *arguments, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


async def dial(transport: Transport, device: RecordingDevice, **arguments: Any) -> TunnelLostError:
    return await run_client_tunnel(URL, device, token=TOKEN, hello=HELLO, transport=transport, **arguments)


class Hole:
    """A transport that is open and through which nothing comes or goes: a network that dropped us without a word.

    Args:
        inner: what it is until `open` turns false.
    """

    unsent = 0

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.fallen = False
        self.sends = 0
        self.closed = False

    def receive_nowait(self) -> bytes | None:
        return None if self.fallen else self.inner.receive_nowait()

    async def wait_readable(self) -> None:
        await self.inner.wait_readable()
        if self.fallen:
            await trio.sleep_forever()

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        if not buffers:
            return 0
        self.sends += 1
        return sum(map(len, buffers)) if self.fallen else self.inner.send_nowait(buffers)

    async def wait_writable(self) -> None:
        await self.inner.wait_writable()

    async def aclose(self) -> None:
        self.closed = True
        await self.inner.aclose()


class Memory:
    """One end of a connection in memory, on which what is sent has arrived at once. Made by `memory_pair`."""

    unsent = 0

    def __init__(self) -> None:
        self.peer = self
        self.incoming = bytearray()
        self.ended = False
        self.closed = False
        self.readers = trio.lowlevel.ParkingLot()

    def receive_nowait(self) -> bytes | None:
        if self.closed:
            raise ConnectionAbortedError
        data = bytes(self.incoming)
        self.incoming.clear()
        return data or (b"" if self.ended else None)

    async def wait_readable(self) -> None:
        if self.incoming or self.ended:
            await trio.lowlevel.checkpoint()
        else:
            await self.readers.park()

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        if self.closed or self.peer.closed:
            raise BrokenPipeError
        data = b"".join(buffers)
        self.peer.incoming += data
        self.peer.readers.unpark_all()
        return len(data)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.closed = True
        self.peer.ended = True
        self.peer.readers.unpark_all()


def memory_pair() -> tuple[Memory, Memory]:
    near, far = Memory(), Memory()
    near.peer, far.peer = far, near
    return near, far


# Time.


def test_a_head_that_does_not_come_in_time() -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        ends: list[object] = []

        async def serve() -> None:
            ends.append(
                await serve_tunnel(StreamTransport(near), lambda _: pytest.fail("asked"), limits=HandshakeLimits())
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            began = trio.current_time()
            await far.send_all(request()[:-1])
            answer = await far.receive_some()
            assert trio.current_time() - began == HandshakeLimits().timeout
            assert answer.startswith(b"HTTP/1.1 408 ")
            await far.aclose()
        assert ends == [None]

    run(main)


@pytest.mark.parametrize(
    ("asked", "status"),
    [(request(without=("authorization",)), 401), (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200), (b"\0", 400)],
)
@pytest.mark.parametrize("hangs_up", [True, False])
def test_a_peer_that_is_answered_plainly_has_a_second_to_hang_up(asked: bytes, status: int, hangs_up: bool) -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: serve_tunnel(
                    StreamTransport(near),
                    lambda _: pytest.fail("asked"),
                    respond=lambda _: PlainAnswer(status=200, body=b"ok\n"),
                )
            )
            await far.send_all(asked)
            assert (await far.receive_some()).startswith(b"HTTP/1.1 %d " % status)
            began = trio.current_time()
            if hangs_up:
                await far.aclose()
            else:
                assert await far.receive_some() == b""
                assert trio.current_time() - began == 1.0

    run(main)


def test_a_server_that_is_hung_up_on() -> None:
    async def main() -> None:
        for sent in (b"", request()[:40]):
            near, far = trio.testing.memory_stream_pair()
            await far.send_all(sent or b"G")
            await far.aclose()
            assert await serve_tunnel(StreamTransport(near), lambda _: pytest.fail("asked")) is None

    run(main)


def test_a_relay_that_does_not_answer() -> None:
    async def main() -> None:
        near, _far = trio.testing.memory_stream_pair()
        began = trio.current_time()
        with pytest.raises(HandshakeFailedError, match="within 4 s"):
            await dial(StreamTransport(near), RecordingDevice(), limits=HandshakeLimits(timeout=4.0))
        assert trio.current_time() - began == 4.0
        with pytest.raises(trio.ClosedResourceError):
            await near.receive_some()

    run(main)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Swi"])
def test_a_relay_that_hangs_up(answer: bytes) -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        await far.send_all(answer or b"H")
        await far.aclose()
        with pytest.raises(HandshakeFailedError, match="connection"):
            await dial(StreamTransport(near), RecordingDevice())

    run(main)


def test_a_refusal() -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        refusal = Refusal(status=403, code="revoked", title="Revoked", detail="by Ada")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_tunnel, StreamTransport(near), lambda _: refusal)
            with pytest.raises(HandshakeRefusedError, match="by Ada") as caught:
                await dial(StreamTransport(far), RecordingDevice())
        assert caught.value.final
        assert caught.value.reason == "revoked"

    run(main)


class Joined:
    """Two ends over memory, and the device's transport in a test's hand."""

    def __init__(self, nursery: trio.Nursery, **arguments: Any) -> None:
        near, far = memory_pair()
        self.news = trio.Event()
        self.relay = RecordingRelay(self.changed)
        self.device = RecordingDevice(self.changed)
        self.device.serve["echo"] = echo
        self.hole = Hole(near)
        self.far = Hole(far)
        self.scope = trio.CancelScope()
        self.ends: dict[str, TunnelLostError | None] = {}
        nursery.start_soon(self.serve, arguments)
        nursery.start_soon(self.dial, arguments)

    async def serve(self, arguments: dict[str, Any]) -> None:
        self.ends["relay"] = await serve_tunnel(self.hole, self.admit, remote_address="192.0.2.1:5", **arguments)
        self.changed()

    async def dial(self, arguments: dict[str, Any]) -> None:
        with self.scope:
            self.ends["device"] = await dial(self.far, self.device, **arguments)
        self.changed()

    def admit(self, asked: HandshakeRequest) -> Admission:
        assert asked.remote_address == "192.0.2.1:5"
        return Admission(handler=self.relay)

    def changed(self) -> None:
        self.news.set()

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            self.news = trio.Event()
            await self.news.wait()

    async def open(self) -> RecordingSink:
        await self.until(lambda: self.relay.hello)
        sink = RecordingSink(self.changed)
        self.relay.tunnel.open_service("echo", sink, timeout=5.0, on_result=sink.got_result)  # type: ignore[arg-type]
        await self.until(lambda: sink.stream is not None)
        return sink


def test_silence_is_death_after_fifteen_seconds_on_both_sides() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            joined = Joined(nursery)
            sink = await joined.open()
            began = trio.current_time()
            joined.hole.fallen = joined.far.fallen = True
            await joined.until(lambda: len(joined.ends) == 2)
            assert trio.current_time() - began == pytest.approx(TunnelConfig().yamux.dead_after)
            for end in joined.ends.values():
                assert end is not None
                assert (end.reason, end.by_peer) == ("silence", False)
            assert sink.reset_code is ResetCode.SESSION_LOST
            assert joined.hole.closed
            assert joined.far.closed
            assert joined.ends["relay"] is joined.relay.closed[0]
            assert joined.ends["device"] is joined.device.closed[0]

    run(main)


def test_a_quiet_tunnel_lives_for_a_day() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            joined = Joined(nursery)
            sink = await joined.open()
            await trio.sleep(86_400)
            sink.write(b"good morning")
            await joined.until(lambda: sink.received == b"good morning")
            nursery.cancel_scope.cancel()

    run(main)


def test_a_close_that_the_peer_does_not_answer_takes_three_seconds() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            joined = Joined(nursery)
            await joined.open()
            joined.hole.fallen = True
            began = trio.current_time()
            joined.relay.tunnel.close("revoked")
            await joined.until(lambda: "relay" in joined.ends)
            assert trio.current_time() - began == TunnelConfig().close_timeout
            await joined.until(lambda: "device" in joined.ends)

    run(main)


def test_cancelling_cuts_the_tunnel() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            joined = Joined(nursery)
            sink = await joined.open()
            joined.scope.cancel()
            await joined.until(lambda: joined.device.closed and "relay" in joined.ends)
            assert "device" not in joined.ends
            assert joined.device.closed[0].reason == "network"
            assert joined.device.sinks[0].reset_code is ResetCode.SESSION_LOST
            assert joined.far.closed
            assert sink.reset_code is ResetCode.SESSION_LOST

    run(main)


# How it sends.


def test_what_is_written_in_one_turn_is_one_send() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            joined = Joined(nursery)
            sinks = [await joined.open() for _ in range(30)]
            await trio.testing.wait_all_tasks_blocked()
            before = joined.hole.sends, joined.far.sends
            for sink in sinks:
                sink.write(b"hello")
            await joined.until(lambda: all(sink.received == b"hello" for sink in sinks))
            assert (joined.hole.sends - before[0], joined.far.sends - before[1]) == (1, 1)
            nursery.cancel_scope.cancel()

    run(main)


class Narrow(Hole):
    """A connection that takes few bytes at a time, and then none until it is waited for."""

    def __init__(self, inner: Transport, width: int) -> None:
        super().__init__(inner)
        self.width = width
        self.room = width
        self.waits = 0

    def send_nowait(self, buffers: Sequence[Buffer]) -> int:
        data = b"".join(buffers)[: self.room]
        self.room -= len(data)
        return self.inner.send_nowait([data]) if data else 0

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        self.waits += 1
        self.room = self.width


@pytest.mark.parametrize("width", [1, 100, 5000, 70_000])
def test_a_connection_that_takes_little_at_a_time(width: int) -> None:
    payload = bytes(range(256)) * (4 * min(width, 2000))

    async def main() -> None:
        near, far = memory_pair()
        relay, device = RecordingRelay(), RecordingDevice()
        device.serve["echo"] = echo
        narrow = Narrow(far, width)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_tunnel, near, lambda _: Admission(handler=relay))
            nursery.start_soon(dial, narrow, device)
            await trio.testing.wait_all_tasks_blocked()
            sink = RecordingSink()
            relay.tunnel.open_service("echo", sink, timeout=5.0, on_result=sink.got_result)  # type: ignore[arg-type]
            await trio.testing.wait_all_tasks_blocked()
            sink.write(payload)
            await trio.testing.wait_all_tasks_blocked()
            assert sink.received == payload
            assert narrow.waits >= len(payload) // width
            waits = narrow.waits
            await trio.testing.wait_all_tasks_blocked()
            assert narrow.waits == waits  # nobody waits for a connection that is not full
            relay.tunnel.close()

    run(main)


# Transports.


def test_a_socket_is_asked_for_as_much_as_it_has() -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        transport = SocketTransport(a)
        assert transport.receive_nowait() is None
        b.sendall(b"x" * 1000)
        assert transport.receive_nowait() == b"x" * 1000
        b.sendall(b"y")
        assert transport.receive_nowait() is None  # the read before was short: it is not asked again
        await transport.wait_readable()
        assert transport.receive_nowait() == b"y"
        sizes: list[int] = []
        total = 2_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, SocketTransport(b), bytes(total))
            while sum(sizes) < total:
                sizes.append(len(await receive(transport)))
        assert max(sizes) > 64 * 1024 or len(sizes) > 20  # the kernel may give less
        assert max(sizes) <= MOST_READ
        b.close()
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(OSError, match="Bad file"):
            transport.send_nowait([b"x"])

    trio.run(main)


def test_a_socket_that_is_full_takes_none() -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        transport = SocketTransport(a)
        chunk = [bytes(60_000), memoryview(bytes(70_000))]
        sent = 0
        while took := transport.send_nowait(chunk):
            sent += took
        assert transport.send_nowait([b"x"]) == 0
        assert transport.send_nowait([]) == 0
        b.setblocking(False)
        got = 0
        while got < sent:
            got += len(b.recv(1_000_000))
        with pytest.raises(BlockingIOError):
            b.recv(1)
        await transport.wait_writable()
        assert transport.send_nowait([b"x"]) == 1
        b.close()
        with pytest.raises(OSError, match="Broken pipe"):
            transport.send_nowait([b"x"])
        await transport.aclose()

    trio.run(main)


def test_a_stream_that_breaks_is_an_oserror() -> None:
    async def main() -> None:
        near, far = trio.testing.memory_stream_pair()
        transport = StreamTransport(near)
        await far.aclose()
        assert transport.send_nowait([b"x"]) == 1
        assert transport.send_nowait([b"y"]) == 0
        assert transport.unsent == 1
        with pytest.raises(OSError, match="broken"):
            await transport.wait_writable()
        await near.aclose()
        with pytest.raises(OSError, match="broken"):
            await transport.wait_readable()

    trio.run(main)


# TLS.


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


async def tls_pair(certificates: Contexts, width: int | None = None) -> tuple[TLSTransport, TLSTransport]:
    near, far = memory_pair()
    lower: list[Transport] = [near, far]
    if width is not None:
        lower = [Narrow(each, width) for each in lower]
    server = TLSTransport(lower[0], certificates[0], server_side=True)
    client = TLSTransport(lower[1], certificates[1], server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handshake)
        nursery.start_soon(client.handshake)
    return server, client


@pytest.mark.parametrize("width", [None, 1000, 20_000])
@pytest.mark.parametrize("size", [1, 16_384, 16_385, 1_000_000])
def test_bytes_through_tls(certificates: Contexts, size: int, width: int | None) -> None:
    payload = bytes(i % 251 for i in range(size))

    async def main() -> None:
        server, client = await tls_pair(certificates, width)
        for sender, receiver in ((server, client), (client, server)):
            received = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all, sender, payload)
                while len(received) < size:
                    received += await receive(receiver)
            assert received == payload
            assert sender.unsent == 0
        await client.aclose()
        assert await receive(server) == b""
        assert await receive(server) == b""
        await server.aclose()

    trio.run(main)


def test_several_buffers_share_records(certificates: Contexts) -> None:
    async def main() -> None:
        server, client = await tls_pair(certificates)
        assert client.send_nowait([b"head", bytearray(b"er"), memoryview(b" and body")]) == 15
        assert await receive(server) == b"header and body"

    trio.run(main)


def test_a_connection_cut_without_a_word_is_the_end(certificates: Contexts) -> None:
    async def main() -> None:
        near, far = memory_pair()
        server = TLSTransport(near, certificates[0], server_side=True)
        client = TLSTransport(far, certificates[1], server_hostname="localhost")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.handshake)
            nursery.start_soon(client.handshake)
        client.send_nowait([b"last"])
        await far.aclose()
        assert await receive(server) == b"last"
        assert await receive(server) == b""

    trio.run(main)


def test_garbage_instead_of_tls_is_an_oserror(certificates: Contexts) -> None:
    async def main() -> None:
        near, far = memory_pair()
        far.send_nowait([b"HTTP/1.1 400 Bad Request\r\n\r\n"])
        tls = TLSTransport(near, certificates[1], server_hostname="localhost")
        with pytest.raises(OSError, match="SSL"):
            await tls.handshake()
        await tls.aclose()

    trio.run(main)


# Dialling.


async def listen(serve: Callable[[trio.SocketStream], Awaitable[None]], nursery: trio.Nursery) -> int:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    return int(listener.socket.getsockname()[1])


def own(stream: trio.SocketStream) -> SocketTransport:
    return SocketTransport(socket.socket(fileno=stream.socket.detach()))


def test_nobody_listens() -> None:
    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        with pytest.raises(HandshakeFailedError, match=f"no connection to 127.0.0.1:{port}"):
            await run_client_tunnel(f"ws://127.0.0.1:{port}", RecordingDevice(), token=TOKEN, hello=HELLO)

    trio.run(main)


def test_a_certificate_that_is_not_trusted(certificates: Contexts) -> None:
    async def main() -> None:
        async def serve(stream: trio.SocketStream) -> None:
            tls = TLSTransport(own(stream), certificates[0], server_side=True)
            try:
                with contextlib.suppress(OSError):
                    await tls.handshake()
            finally:
                await tls.aclose()

        async with trio.open_nursery() as nursery:
            port = await listen(serve, nursery)
            for host, context in (("localhost", None), ("127.0.0.1", certificates[1])):
                with pytest.raises(HandshakeFailedError, match="CERTIFICATE_VERIFY_FAILED"):
                    await run_client_tunnel(
                        f"wss://{host}:{port}", RecordingDevice(), token=TOKEN, hello=HELLO, ssl_context=context
                    )
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("status", [200, 403, 407])
def test_through_an_http_proxy(certificates: Contexts, tls: bool, status: int) -> None:
    """The relay's name is only known to the proxy, which takes whoever asks to the relay of this test."""
    asked: list[bytes] = []

    async def main() -> None:
        relay = RecordingRelay()
        device = RecordingDevice()

        async def serve(stream: trio.SocketStream) -> None:
            transport: Transport = own(stream)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await receive(transport)
            asked.append(head)
            await send_all(transport, b"HTTP/1.1 %d Whatever\r\nVia: test\r\n\r\n" % status)
            if status != 200:
                await transport.aclose()
                return
            if tls:
                transport = secure = TLSTransport(transport, certificates[0], server_side=True)
                await secure.handshake()
            await serve_tunnel(transport, lambda _: Admission(handler=relay))

        async with trio.open_nursery() as nursery:
            port = await listen(serve, nursery)
            environ = {f"HTTP{'S' if tls else ''}_PROXY": f"http://ada:hunter2@127.0.0.1:{port}"}
            host = "localhost.example" if not tls else "localhost.test"
            context = None
            if tls:
                context = certificates[1]
                context.check_hostname = False
            try:
                if status == 200:
                    nursery.start_soon(
                        lambda: run_client_tunnel(
                            f"ws{'s' if tls else ''}://{host}/tunnel",
                            device,
                            token=TOKEN,
                            hello=HELLO,
                            ssl_context=context,
                            environ=environ,
                            subprotocols=(Subprotocol.YAMUX,),
                        )
                    )
                    while not device.closed:
                        if relay.tunnel is not None:
                            relay.tunnel.close()
                        await trio.lowlevel.checkpoint()
                else:
                    with pytest.raises(ProxyRefusedError) as caught:
                        await run_client_tunnel(
                            f"ws{'s' if tls else ''}://{host}/tunnel",
                            device,
                            token=TOKEN,
                            hello=HELLO,
                            environ=environ,
                        )
                    assert caught.value.http_status == status
                    assert "hunter2" not in str(caught.value)
            finally:
                if context is not None:
                    context.check_hostname = True
            nursery.cancel_scope.cancel()
        target = f"{host}:{443 if tls else 80}".encode()
        assert asked[0].startswith(b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n")
        assert b"Proxy-Authorization: Basic YWRhOmh1bnRlcjI=" in asked[0]
        assert b"token" not in asked[0]

    trio.run(main)
