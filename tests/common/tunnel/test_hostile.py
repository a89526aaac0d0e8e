"""Hostile bytes at the tunnel's port: refused with a code, while another tunnel's traffic goes on untouched."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.handshake import Admission, PlainAnswer
from common.tunnel.interfaces import CloseReason
from common.wire import encode
from common.wire.messages import Stats
from tests.common.tunnel.fakes import HELLO, RecordingRelay, RecordingSink
from tests.common.tunnel.frames import BINARY, CLOSE, CONTINUATION, KEY, PING, TEXT, frame, unmask
from tests.common.tunnel.test_server_handshake import request
from tests.common.tunnel.worlds import AsyncioWorld, World


class HostileWorld(AsyncioWorld):
    """A tunnel that does its work, and room for others who do not."""

    def __init__(self, **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self.intruders: list[RecordingRelay] = []
        self.admit = self._admit_all
        self.limits = HandshakeLimits(timeout=0.3, max_head=2048)
        self.neighbour: RecordingSink | None = None

    def _admit_all(self, asked: object) -> Admission:
        if self.relay.tunnel is None:
            return Admission(handler=self.relay)
        self.intruders.append(RecordingRelay(self.changed))
        return Admission(handler=self.intruders[-1])

    async def assert_untouched(self) -> None:
        """Our own tunnel still carries what it should."""
        if self.neighbour is None:
            self.neighbour = await self.open("echo")
        before = len(self.neighbour.received)
        self.neighbour.write(b"x" * 1000)
        await self.until(lambda: self.neighbour and len(self.neighbour.received) == before + 1000)
        assert not self.relay.closed
        assert not self.neighbour.lost


class Intruder:
    """A connection to the tunnel's port that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send_for_ever(self) -> None:
        while True:
            await self.send(bytes(100_000))

    async def shake_hands(self, subprotocol: str = "homeport.v1") -> None:
        await self.send(request(sec_websocket_protocol=subprotocol))
        assert (await self.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    async def problem(self) -> tuple[int, str]:
        """Status and code of the refusal, after which the connection is closed."""
        head, _, body = (await self.reader.read()).partition(b"\r\n\r\n")
        problem = json.loads(body)
        assert head.startswith(b"HTTP/1.1 %d " % problem["status"])
        return problem["status"], problem["code"]

    async def close_code(self) -> tuple[int, str]:
        """Code and reason of the WebSocket close, which comes after whatever else the relay had to say."""
        while True:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            payload = await self.reader.readexactly(size)
            if first == 0x80 | CLOSE:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()


@asynccontextmanager
async def intruding(world: World) -> AsyncIterator[Intruder]:
    assert isinstance(world, HostileWorld)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(world.url.split(":")[2].split("/")[0]))
    try:
        yield Intruder(reader, writer)
    finally:
        writer.transport.abort()


REQUESTS = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, "invalid_request")),
    "an endless head": (b"GET /tunnel HTTP/1.1\r\nX: " + b"a" * 100_000, (431, "head_too_large")),
    "an endless line": (b"GET /" + b"a" * 100_000, (431, "head_too_large")),
    "another method": (request(line="DELETE /tunnel HTTP/1.1"), (405, "method_not_allowed")),
    "another version": (request(sec_websocket_version="7"), (426, "upgrade_required")),
    "no subprotocol": (request(without=("sec-websocket-protocol",)), (400, "subprotocol_required")),
    "no token": (request(without=("authorization",)), (401, "missing_session_token")),
    "half a head": (request()[:-2], (408, "handshake_timeout")),
    "nothing": (b"", (408, "handshake_timeout")),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_no_handshake(name: str) -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        await world.assert_untouched()
        data, expected = REQUESTS[name]
        async with intruding(world) as intruder:
            await intruder.send(data)
            assert await intruder.problem() == expected
        await world.assert_untouched()
        assert world.listener.tunnels == 1
        assert world.intruders == []

    HostileWorld().run(scenario)


def test_a_head_that_drips_is_cut_at_its_time() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        async with intruding(world) as intruder:
            answer = asyncio.ensure_future(intruder.problem())
            head = request(extra=("X: " + "a" * 1000,))
            for i in range(len(head) - 4):
                intruder.writer.write(head[i : i + 1])
                await world.assert_untouched()
                if answer.done():
                    break
            assert await answer == (408, "handshake_timeout")
        await world.assert_untouched()

    HostileWorld().run(scenario)


def test_a_refused_peer_that_does_not_hang_up_is_cut() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        async with intruding(world) as intruder:
            await intruder.send(b"\0garbage")
            await intruder.problem()  # until EOF
            with pytest.raises(ConnectionError):
                await intruder.send_for_ever()
        await world.assert_untouched()
        assert world.listener.handshaking == 0

    HostileWorld().run(scenario)


def test_many_half_open_connections_all_go_away() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        intruders = [await asyncio.open_connection("127.0.0.1", int(world.url.split(":")[2][:-7])) for _ in range(50)]
        for _, writer in intruders:
            writer.write(request()[:20])
        await world.assert_untouched()
        for reader, writer in intruders:
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            writer.close()
        await world.assert_untouched()

    HostileWorld().run(scenario)


def yamux(kind: int, flags: int, stream_id: int, length: int, payload: bytes = b"") -> bytes:
    return frame(BINARY, struct.pack("!BBHII", 0, kind, flags, stream_id, length) + payload, key=KEY)


TRAFFIC = {
    "garbage": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002, "protocol_error"),
    "a text frame": (frame(TEXT, b"hello", key=KEY), 1003, "protocol_error"),
    "no mask": (frame(BINARY, b"hello"), 1002, "protocol_error"),
    "a reserved bit": (frame(BINARY, b"hello", key=KEY, reserved=2), 1002, "protocol_error"),
    "an oversize frame": (frame(BINARY, b"", key=KEY, length=2**34), 1009, "limit"),
    "a continuation of nothing": (frame(CONTINUATION, b"x", key=KEY), 1002, "protocol_error"),
    "a flood of pings": (frame(PING, b"", key=KEY) * 2000, 1008, "limit"),
    "a flood of empty frames": (frame(BINARY, b"", key=KEY) * 2000, 1008, "limit"),
    "a yamux version": (frame(BINARY, b"\x02" + bytes(11), key=KEY), 1002, "protocol_error"),
    "a yamux type": (yamux(7, 0, 0, 0), 1002, "protocol_error"),
    "a flood of yamux pings": (b"".join(yamux(2, 1, 0, i) for i in range(2000)), 1002, "protocol_error"),
    "a stream of the relay's parity": (yamux(0, 1, 2, 0), 1002, "protocol_error"),
    "data before any stream": (yamux(0, 0, 99, 3, b"abc"), 1002, "protocol_error"),
    "a control stream of garbage": (yamux(0, 1, 1, 4, b"\xff\xff\xff\xff"), 1002, "protocol_error"),
    "a huge hello": (yamux(0, 1, 1, 4, b"\x00\x02\x00\x00"), 1002, "protocol_error"),
    "stats before hello": (
        yamux(0, 1, 1, len(encode(Stats())), encode(Stats())),
        1002,
        "protocol_error",
    ),
}


@pytest.mark.parametrize("pace", ["whole", "in pieces"])
@pytest.mark.parametrize("name", TRAFFIC)
def test_what_is_no_tunnel(name: str, pace: str) -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        await world.assert_untouched()
        data, code, reason = TRAFFIC[name]
        async with intruding(world) as intruder:
            await intruder.shake_hands()
            size = len(data) if pace == "whole" else max(1, len(data) // 7)
            for start in range(0, len(data), size):
                await intruder.send(data[start : start + size])
                await world.assert_untouched()
            assert await intruder.close_code() == (code, reason)
            await world.until(lambda: world.intruders[0].closed)
            assert (world.intruders[0].closed[0].reason, world.intruders[0].closed[0].by_peer) == (reason, False)
            # It may go on as it likes, for as long as a close may take: nothing of it is looked at.
            with suppress(ConnectionError):  # cut, by now or while we read
                await intruder.send(data)
                await world.assert_untouched()
                assert await intruder.reader.read() == b""
        await world.assert_untouched()
        assert world.listener.tunnels == 1

    HostileWorld(relay_config=TunnelConfig(close_timeout=0.2)).run(scenario)


def test_a_hello_that_never_comes() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        async with intruding(world) as intruder:
            await intruder.shake_hands()
            assert await intruder.close_code() == (1002, CloseReason.HELLO_TIMEOUT)
        await world.assert_untouched()

    HostileWorld(relay_config=TunnelConfig(hello_timeout=0.1)).run(scenario)


def test_a_peer_that_does_not_answer_the_close_is_cut() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        async with intruding(world) as intruder:
            await intruder.shake_hands()
            await world.until(lambda: world.intruders)
            world.intruders[0].tunnel.close("revoked")
            assert await intruder.close_code() == (1000, "revoked")
            assert await intruder.reader.read() == b""  # cut, with no answer given
        await world.assert_untouched()

    HostileWorld(relay_config=TunnelConfig(close_timeout=0.1)).run(scenario)


def test_a_window_overrun_costs_the_stream_and_not_the_tunnel() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        async with intruding(world) as intruder:
            await intruder.shake_hands("yamux")
            await world.until(lambda: world.intruders)
            sink = world.sink()
            world.intruders[0].tunnel.open_service("", sink, timeout=5.0, on_result=sink.got_result)  # type: ignore[arg-type]
            await world.until(lambda: sink.stream is not None)
            assert sink.stream is not None
            sink.stream.pause_reading()
            for _ in range(6):
                await intruder.send(yamux(0, 0, 2, 60_000, bytes(60_000)))
            await world.until(lambda: sink.over)
            assert sink.reset_code.name == "FLOW_CONTROL"
            assert len(sink.received) <= 256 * 1024
            assert not world.intruders[0].closed
        await world.assert_untouched()

    HostileWorld().run(scenario)


def test_early_data_after_the_head_is_the_tunnels() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        hello = encode(HELLO)
        async with intruding(world) as intruder:
            await intruder.send(request() + yamux(0, 1, 1, len(hello), hello))
            await world.until(lambda: world.intruders and world.intruders[0].hello)
            assert world.intruders[0].hello == HELLO
            # And a close from the peer is answered with its code.
            await intruder.reader.readuntil(b"\r\n\r\n")
            await intruder.send(frame(CLOSE, struct.pack("!H", 4321) + b"bye", key=KEY))
            assert await intruder.close_code() == (4321, "")
            assert await intruder.reader.read() == b""
            await world.until(lambda: world.intruders[0].closed)
            assert (world.intruders[0].closed[0].reason, world.intruders[0].closed[0].by_peer) == ("bye", True)

    HostileWorld().run(scenario)


def test_plain_requests_and_abort_all() -> None:
    async def scenario(world: World) -> None:
        assert isinstance(world, HostileWorld)
        world.listener.respond = lambda path: PlainAnswer(status=200, body=b"ok\n") if path == "/healthz" else None
        async with intruding(world) as intruder:
            await intruder.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await intruder.reader.read()).endswith(b"\r\n\r\nok\n")
        async with intruding(world) as half_way, intruding(world) as other:
            await half_way.send(request()[:50])
            await other.shake_hands()
            await world.assert_untouched()
            assert world.listener.handshaking >= 1
            assert world.listener.tunnels == 2
            assert repr(world.listener).endswith("tunnels=2>")
            world.listener.abort_all()
            assert await half_way.reader.read() == b""
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await other.close_code()
        await world.until(lambda: world.relay.closed)

    HostileWorld().run(scenario)


def test_the_masks_of_the_tests_are_right() -> None:
    assert unmask(unmask(b"hello")) == b"hello"
