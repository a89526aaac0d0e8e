"""Bytes that no device of ours would send to the tunnel port, before and after the handshake: refused with a code, and
the tunnels of others carry on. What the codecs do with each is in their own tests; this is about the relay around them.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.ids import DeviceId
from common.tunnel.interfaces import Subprotocol
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.wire import RawClient, connect, open_stream, undisturbed

pytestmark = pytest.mark.anyio


def handshake(relay: RunningRelay, *, device: str = "hostile", changes: dict[str, str | None] | None = None) -> bytes:
    headers: dict[str, str | None] = {
        "Host": "relay",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "yamux",
        "Authorization": f"Bearer {relay.token(device, service='echo').reveal()}",
        **(changes or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    return f"GET /tunnel HTTP/1.1\r\n{lines}\r\n".encode()


def message(payload: bytes, *, opcode: int = 2, masked: bool = True, first: int | None = None) -> bytes:
    """A WebSocket frame (RFC 6455 section 5.2) from a client."""
    head = bytes([0x80 | opcode if first is None else first])
    mask_bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 1 << 16:
        head += bytes([mask_bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    return head + bytes(4) + payload  # a mask of zeros is a mask


def yamux(kind: int, flags: int, stream: int, length: int, payload: bytes = b"", version: int = 0) -> bytes:
    return struct.pack("!BBHII", version, kind, flags, stream, length) + payload


HOSTILE = DeviceId("hostile")
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


@contextlib.asynccontextmanager
async def hostile_tunnel(relay: RunningRelay) -> AsyncIterator[RawClient]:
    """An open tunnel that a test writes to byte by byte."""
    async with connect(relay.tunnel_url) as client:
        client.send(handshake(relay))
        assert (await client.read_answer()).status == 101
        await relay.until(lambda: relay.store.find_device(relay.team, HOSTILE) is not None)
        yield client


# Before the handshake is done


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x16\x03\x01\x00\xa5\x01\x00", 400),
        (b"\x00" * 64, 400),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
        (b"POST /tunnel HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /internal/sessions?team=home HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /tunnel HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET /tunnel HTTP/1.1\r\nbad header\r\n\r\n", 400),
    ],
    ids=repr,
)
async def test_what_is_no_handshake(relay: RunningRelay, garbage: bytes, status: int) -> None:
    async with undisturbed(relay):
        async with connect(relay.tunnel_url) as client:
            client.send(garbage)
            assert (await client.read_answer()).status == status
            assert await client.read_end() == b""
        await relay.until(lambda: relay.metric("handshakes_pending") == 0)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Authorization": None}, 401),
        ({"Authorization": "Basic aG9tZTpwb3J0"}, 401),
        ({"Upgrade": "homeport-stream"}, 426),
        ({"Sec-WebSocket-Version": "12"}, 426),
        ({"Sec-WebSocket-Protocol": None}, 400),
        ({"Sec-WebSocket-Protocol": "mqtt"}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Padding": "p" * 20_000}, 431),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_handshake_that_is_wrong(relay: RunningRelay, changes: dict[str, str | None], status: int) -> None:
    async with undisturbed(relay), connect(relay.tunnel_url) as client:
        client.send(handshake(relay, changes=changes))
        answer = await client.read_answer()
        assert answer.status == status
        assert answer.code
        assert relay.store.find_device(relay.team, HOSTILE) is None


async def test_the_size_of_a_handshake_is_a_setting(tmp_path: Path) -> None:
    async with running_relay(tmp_path, max_handshake_bytes=1_500) as relay:
        for padding, status in ((1, 101), (1_500, 431)):
            async with connect(relay.tunnel_url) as client:
                client.send(handshake(relay, changes={"Padding": "p" * padding}))
                assert (await client.read_answer()).status == status


@pytest.mark.parametrize("start", [b"", b"GET /tunnel HTTP/1.1\r\nHost: x\r\nX: "], ids=repr)
async def test_a_handshake_that_does_not_come_is_not_waited_for(hasty_relay: RunningRelay, start: bytes) -> None:
    async with undisturbed(hasty_relay), connect(hasty_relay.tunnel_url) as client:
        client.send(start)
        assert (await client.read_answer()).code == "handshake_timeout"
        await client.wait_closed_by_peer()


# After it


VIOLATIONS = {
    "unmasked": message(b"unmasked", masked=False),
    "reserved bit": message(b"x", first=0xC2),
    "reserved opcode": message(b"x", opcode=3),
    "text": message(b"x", opcode=1),
    "continuation of nothing": message(b"x", opcode=0),
    "long ping": message(b"p" * 126, opcode=9),
    "fragmented ping": message(b"x", first=0x09),
    "long length": b"\x82\xfe" + struct.pack("!H", 5) + bytes(9),
    "yamux version": message(yamux(DATA, 0, 1, 0, version=1)),
    "yamux type": message(yamux(9, 0, 1, 0)),
    "data on an unknown stream": message(yamux(DATA, 0, 1, 5, b"hello")),
    "our own parity": message(yamux(WINDOW_UPDATE, SYN, 2, 0)),
    "ping on a stream": message(yamux(PING, SYN, 7, 1)),
    "noise": message(bytes(range(1, 256)) * 16),
}


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS)
async def test_a_violation_ends_that_tunnel_alone(relay: RunningRelay, violation: bytes) -> None:
    async with undisturbed(relay), hostile_tunnel(relay) as client:
        client.send(violation)
        await relay.until(lambda: relay.metric("tunnels_closed_total", reason="protocol_error") == 1)
        assert relay.store.find_device(relay.team, HOSTILE) is None


FLOODS = {
    "yamux pings": (message(yamux(PING, SYN, 0, 1) * 100) * 100, "protocol_error"),
    "WebSocket pings": (message(b"ping", opcode=9) * 5_000, "limit"),
    "empty messages": (message(b"") * 5_000, "limit"),
    "a frame of an exabyte": (b"\x82\xff" + struct.pack("!Q", 1 << 60) + bytes(4), "limit"),
}


@pytest.mark.parametrize(("flood", "reason"), FLOODS.values(), ids=FLOODS)
async def test_too_much_of_it_ends_that_tunnel_alone(relay: RunningRelay, flood: bytes, reason: str) -> None:
    async with undisturbed(relay), hostile_tunnel(relay) as client:
        client.send(flood)
        await relay.until(lambda: relay.metric("tunnels_closed_total", reason=reason) == 1)
        assert relay.store.find_device(relay.team, HOSTILE) is None


async def test_streams_that_a_device_opens_are_refused_and_cost_nothing(relay: RunningRelay) -> None:
    """On `yamux` the relay opens; a device that does so is told RST, for as long as it likes."""
    async with undisturbed(relay), hostile_tunnel(relay) as client:
        for number in range(1, 4_001, 2):
            client.send(message(yamux(WINDOW_UPDATE, SYN, number, 0)))
        await client.read(2_000 * 12)
        summary = relay.store.lookup_device_nowait(relay.team, "hostile").describe()
        assert summary.streams == 0


async def test_a_device_that_overruns_the_window_has_that_stream_reset(tmp_path: Path) -> None:
    """Nobody reads there, and it sends on, more than the kernel's buffers and the window hold together; its other
    stream, and the tunnel, are not touched.
    """
    async with (
        running_relay(tmp_path, session_memory_budget=0) as relay,
        undisturbed(relay),
        hostile_tunnel(relay) as device,
        open_stream(relay, device="hostile", receive_buffer=64 * 1024) as first,
        open_stream(relay, device="hostile") as second,
    ):
        first.writer.transport.pause_reading()  # type: ignore[attr-defined]
        chunk = bytes(16 * 1024)
        for _ in range(1024):
            device.send(message(yamux(DATA, 0, 2, len(chunk), chunk)))
        device.send(message(yamux(DATA, ACK, 4, 5, b"still")))
        assert await second.read(5) == b"still"
        first.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionResetError):
            await first.read_end()
        assert relay.store.lookup_device_nowait(relay.team, HOSTILE).describe().streams == 1


async def test_a_device_that_never_reads_is_bounded(relay: RunningRelay) -> None:
    """What a client sends to it waits at the client, not in the relay."""
    async with undisturbed(relay), connect(relay.tunnel_url, receive_buffer=8 * 1024) as device:
        device.send(handshake(relay))
        assert (await device.read_answer()).status == 101
        device.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await relay.until(lambda: relay.store.find_device(relay.team, HOSTILE) is not None)
        async with open_stream(relay, device="hostile") as client:
            client.send(bytes(64 * 1024 * 1024))
            tunnel = relay.store.lookup_device_nowait(relay.team, "hostile")
            # The relay stops reading from the client: by then it holds no more than its high-water marks.
            transport = client.writer.transport
            before = -1
            while transport.get_write_buffer_size() != before:
                before = transport.get_write_buffer_size()
                async with open_stream(relay, device="bystander") as pace:
                    pace.send(b"x")
                    await pace.read(1)
            assert before > 32 * 1024 * 1024
            assert tunnel.describe().bytes_out < 1024 * 1024


@pytest.mark.parametrize("subprotocol", list(Subprotocol))
async def test_a_device_that_says_hello_with_nothing_behind(relay: RunningRelay, subprotocol: Subprotocol) -> None:
    """It may be silent for as long as liveness allows, and opens that nobody answers end by themselves."""
    async with undisturbed(relay), connect(relay.tunnel_url) as client:
        client.send(handshake(relay, changes={"Sec-WebSocket-Protocol": subprotocol}))
        assert (await client.read_answer()).status == 101
        await relay.until(lambda: relay.store.find_device(relay.team, HOSTILE) is not None)
