"""A relay that breaks the rules after the handshake: the agent leaves it, dials again, and serves the next one."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from websockets.utils import accept_key

from common.wire import Drain, RelayHello, StreamOpen, encode
from tests.edge_agent.relay import relay
from tests.edge_agent.running import running_agent
from tests.edge_agent.services import Handler, echo, serve

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"", version: int = 0) -> bytes:
    """A yamux frame, right or wrong."""
    return struct.pack(">BBHII", version, kind, flags, stream, length) + payload


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, len(payload), payload)


def message(payload: bytes) -> bytes:
    """A WebSocket binary message of a server."""
    if len(payload) < 126:
        return bytes([0x82, len(payload)]) + payload
    if len(payload) < 1 << 16:
        return b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload
    return b"\x82\x7f" + len(payload).to_bytes(8, "big") + payload


HELLO = data(1, encode(RelayHello(software="evil/1", session_id="ses_evil", epoch=1)), ACK)
OPEN_WEB = data(2, encode(StreamOpen(service="web")), SYN)


def saying(*answers: bytes) -> Handler:
    """A server that shakes hands as a relay does, sends `answers`, and reads until the agent leaves."""

    async def handle(stream: trio.SocketStream) -> None:
        head = bytearray()
        while b"\r\n\r\n" not in head:
            received = await stream.receive_some()
            if not received:
                return
            head += received
        key = head.decode().partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Protocol: homeport.v1"]
        fields.append(f"Sec-WebSocket-Accept: {accept_key(key)}")
        with suppress(trio.BrokenResourceError):
            await stream.send_all("\r\n".join(["HTTP/1.1 101 Switching Protocols", *fields, "", ""]).encode())
            for answer in answers:
                await stream.send_all(answer)
            async for _ in stream:
                pass

    return handle


async def check_survival(folder: Path, impostor: Handler) -> str:
    """The agent leaves the impostor and serves the relay after it; returns why it left."""
    async with (
        serve(echo) as port,
        relay() as r,
        running_agent(folder, r.url(), f"web=tcp://127.0.0.1:{port}?health=off") as running,
    ):
        r.impostors.append(impostor)
        await (await r.session()).until(lambda: running.agent.statistics().session_id == "ses_1")
        stream = await r.sessions[0].open("web")
        stream.write(b"alive")
        assert await stream.receive(5) == b"alive"
        event = next((event for event in ("lost", "relay drains") if event in running.log.events), None)
        return "" if event is None else str(running.log.fields(event)["reason"])


CASES: dict[str, tuple[str, *tuple[bytes, ...]]] = {
    "a text message": ("protocol_error", b"\x81\x02hi"),
    "a masked frame": ("protocol_error", b"\x82\x82abcd" + b"xy"),
    "reserved bits": ("protocol_error", b"\xc2\x01x"),
    "an unknown opcode": ("protocol_error", b"\x83\x01x"),
    "a length that is not minimal": ("protocol_error", b"\x82\x7e\x00\x01x"),
    "a frame of 2^63 bytes": ("protocol_error", b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"),
    "a fragment of nothing": ("protocol_error", b"\x00\x01x"),
    "a control frame of 126 bytes": ("protocol_error", b"\x89\x7e\x00\x7e" + bytes(126)),
    "an unmasked ping and a close that is cut": ("protocol_error", b"\x89\x00\x88\x01x"),
    "garbage": ("protocol_error", bytes(range(256)) * 64),
    "a yamux version": ("protocol_error", message(frame(PING, SYN, 0, 1, version=9))),
    "a yamux type": ("protocol_error", message(frame(9, 0, 0, 0))),
    "a stream of the device's parity": ("protocol_error", message(data(3, b"x", SYN))),
    "a second SYN": ("silence", message(HELLO + OPEN_WEB + data(2, b"", SYN))),
    # The stream is reset and the tunnel lives, until it is silent for too long.
    "data beyond the window": (
        "silence",
        message(HELLO + OPEN_WEB),
        message(frame(DATA, 0, 2, 1 << 30) + bytes(1 << 20)),
    ),
    "a GoAway code": ("draining", message(frame(GO_AWAY, 0, 0, 99))),
    "a GoAway and silence": ("draining", message(frame(GO_AWAY, 0, 0, 0))),
    "a control message of 4 GiB": ("protocol_error", message(data(1, b"\xff\xff\xff\xff", ACK))),
    "a control message that is no msgpack": ("protocol_error", message(data(1, b"\0\0\0\4\xc1\xc1\xc1\xc1", ACK))),
    "a control message that is no map": ("protocol_error", message(data(1, b"\0\0\0\1\x90", ACK))),
    "an unknown mandatory message": ("protocol_error", message(data(1, b"\0\0\0\x0b\x81\xa4type\xa4evil", ACK))),
    "two hellos": ("protocol_error", message(HELLO + HELLO)),
    "the end of the control stream": ("protocol_error", message(HELLO + data(1, b"", FIN))),
    "a reset of the control stream": ("protocol_error", message(HELLO + frame(WINDOW, RST, 1, 0))),
    "a close": ("closed", message(HELLO) + b"\x88\x02\x03\xe8"),
    "a close with a reason that is no text": ("protocol_error", message(HELLO) + b"\x88\x04\x03\xe8\xff\xfe"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", CASES)
async def test_it_is_left_and_the_next_relay_is_served(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    reason, *answers = CASES[case]
    assert await check_survival(tmp_path, saying(*answers)) == reason
    assert caplog.records == [], "a callback raised"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "flood",
    [
        message(frame(PING, SYN, 0, 7)) * 50_000,
        message(frame(WINDOW, 0, 2, 0)) * 50_000,
        message(data(2, b"")) * 300_000,
        b"\x89\x00" * 50_000,
        b"\x82\x00" * 50_000,
        message(HELLO) + b"".join(message(data(1, encode(Drain()))) for _ in range(20_000)),
    ],
    ids=["yamux pings", "window updates", "empty data", "WebSocket pings", "empty messages", "drains"],
)
async def test_a_flood_does_not_take_the_agent_down(tmp_path: Path, flood: bytes) -> None:
    await check_survival(tmp_path, saying(flood))


@pytest.mark.anyio
async def test_a_relay_that_greets_and_goes_deaf_is_found_dead_within_15_seconds(tmp_path: Path) -> None:
    async with relay() as r, running_agent(tmp_path, r.url()) as running:
        r.impostors.append(saying(message(HELLO)))
        await r.session()
        assert running.log.fields("lost")["reason"] == "silence"
        assert 15 <= running.log.fields("lost")["lasted"] < 16


@pytest.mark.anyio
async def test_a_thousand_requests_that_never_end_are_bounded(tmp_path: Path) -> None:
    halves = b"".join(message(data(2 * n, encode(StreamOpen(service="web"))[:-1], SYN)) for n in range(1, 5000))
    async with relay() as r, running_agent(tmp_path, r.url(), max_streams=100) as running:
        r.impostors.append(saying(message(HELLO) + halves))
        await r.session()
        assert running.agent.statistics().streams.accepted == 0
        assert running.agent.statistics().streams.streams == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    "request_bytes",
    [b"\0\0\0\1\xc1", b"\xff\xff\xff\xff", b"\0\0\0\0", encode(RelayHello(software="x", session_id="x", epoch=1))],
)
async def test_a_broken_request_costs_its_stream_only(tmp_path: Path, request_bytes: bytes) -> None:
    async with serve(echo) as port:
        seen = bytearray()

        async def collect(stream: trio.SocketStream) -> None:
            handler = saying(message(HELLO + data(2, request_bytes, SYN) + data(4, OPEN_WEB[12:] + b"alive", SYN)))
            await handler(_Tee(stream, seen))  # type: ignore[arg-type]

        async with relay() as r, running_agent(tmp_path, r.url(), f"web=tcp://127.0.0.1:{port}?health=off") as running:
            r.impostors.append(collect)
            while running.agent.statistics().streams.accepted == 0:
                await trio.sleep(0.1)
            assert "lost" not in running.log.events
            assert seen


class _Tee:
    """A stream that keeps what is received."""

    def __init__(self, stream: trio.SocketStream, seen: bytearray) -> None:
        self._stream = stream
        self._seen = seen
        self.send_all: Callable[..., object] = stream.send_all

    async def receive_some(self) -> bytes:
        received = bytes(await self._stream.receive_some())
        self._seen += received
        return received

    def __aiter__(self) -> _Tee:
        return self

    async def __anext__(self) -> bytes:
        received = await self.receive_some()
        if not received:
            raise StopAsyncIteration
        return received


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.binary(max_size=40).map(message),
            st.builds(
                lambda kind, flags, stream, payload: message(frame(kind, flags, stream, len(payload), payload)),
                st.integers(0, 4),
                st.integers(0, 15),
                st.integers(0, 6),
                st.binary(max_size=40),
            ),
            st.sampled_from([message(HELLO), message(OPEN_WEB)]),
        ),
        max_size=12,
    )
)
def test_no_bytes_of_a_relay_take_the_agent_down(tmp_path: Path, answers: list[bytes]) -> None:
    async def main() -> None:
        async def impostor(stream: trio.SocketStream) -> None:
            await saying(*answers, b"\xff")(stream)  # at the end, something that is never right

        await check_survival(tmp_path, impostor)

    trio.run(main, clock=MockClock(autojump_threshold=0))
