"""Real sockets: a client, the forwarder, and a gateway of one page; on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from homeport.errors import ForwardError, GatewayUnreachableError, ListenError, StreamCutError, UpgradeRefusedError
from homeport.forward.forwarder import Dialer, forward_port, forward_stdio
from tests.edge_agent.certificates import Authority
from tests.homeport.forward.gateway import OPENED, gateway, opened

pytestmark = pytest.mark.anyio

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param}


class Forwarding:
    """A running `forward_port`."""

    def __init__(self, port: int, refused: asyncio.Queue[ForwardError]) -> None:
        self.port = port
        self.refused = refused

    async def connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def forwarding(dialer: Dialer) -> AsyncIterator[Forwarding]:
    listening = asyncio.get_running_loop().create_future()
    refused: asyncio.Queue[ForwardError] = asyncio.Queue()
    task = asyncio.create_task(
        forward_port(
            dialer,
            "127.0.0.1",
            0,
            on_listening=lambda addresses: listening.set_result(int(addresses[0].rpartition(":")[2])),
            on_refused=lambda _peer, exc: refused.put_nowait(exc),
        )
    )
    try:
        yield Forwarding(await listening, refused)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def reset_at_close(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_bytes_both_ways_and_half_close_first_by_the_client() -> None:
    async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Answers only after the end of the request has crossed, so a lost half-close hangs here.
        writer.write(hashlib.sha256(await reader.read()).digest())
        writer.write_eof()

    body = os.urandom(3_000_000)
    async with gateway(opened(digest)) as dialer, forwarding(dialer) as forward:
        reader, writer = await forward.connect()
        writer.write(body)
        writer.write_eof()
        assert await reader.read() == hashlib.sha256(body).digest()
        writer.close()
        await writer.wait_closed()


async def test_half_close_first_by_the_service() -> None:
    received = asyncio.get_running_loop().create_future()

    async def farewell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello and goodbye")
        writer.write_eof()
        received.set_result(await reader.read())

    async with gateway(opened(farewell)) as dialer, forwarding(dialer) as forward:
        reader, writer = await forward.connect()
        assert await reader.read() == b"hello and goodbye"
        writer.write(b"still here")
        writer.write_eof()
        assert await received == b"still here"
        writer.close()


async def test_bytes_that_come_with_the_answer_and_before_it() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The client's first bytes and its end are there before the stream is opened.
        writer.write(OPENED + b"220 ready\r\n")
        writer.write(await reader.read())

    async with gateway(greet) as dialer, forwarding(dialer) as forward:
        reader, writer = await forward.connect()
        writer.write(b"HELO\r\n")
        writer.write_eof()
        assert await reader.read() == b"220 ready\r\nHELO\r\n"
        writer.close()


async def test_a_reset_by_the_service_reaches_the_client() -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        reset_at_close(writer)

    async with gateway(opened(fail)) as dialer, forwarding(dialer) as forward:
        reader, writer = await forward.connect()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_reset_by_the_client_reaches_the_service() -> None:
    seen = asyncio.get_running_loop().create_future()

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        try:
            seen.set_result(await reader.read())
        except ConnectionResetError as exc:
            seen.set_result(exc)

    async with gateway(opened(watch)) as dialer, forwarding(dialer) as forward:
        reader, writer = await forward.connect()
        await reader.readexactly(1)
        reset_at_close(writer)
        writer.close()
        assert isinstance(await seen, ConnectionResetError)


async def write_until_stuck(writer: asyncio.StreamWriter) -> int:
    """Write until nothing moves for a while, so that everything between is full; gives the bytes written.

    On a slow machine that may be too early, never too late: the bytes between are at least those it gives.
    """
    block = b"x" * 65536
    writer.transport.set_write_buffer_limits(high=0)
    sent = 0
    while sent < 1 << 30:
        writer.write(block)
        sent += len(block)
        try:
            async with asyncio.timeout(0.3):
                await writer.drain()
        except TimeoutError:
            break
    return sent


FAR_BELOW_ALL = 64 << 20
"""Bytes; more than the socket buffers of two connections and the queues between them, far less than was offered."""


async def test_a_client_that_stands_still_holds_the_service_back() -> None:
    stuck = asyncio.get_running_loop().create_future()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stuck.set_result(await write_until_stuck(writer))
        await writer.drain()

    async with gateway(opened(pour)) as dialer, forwarding(dialer) as forward:
        reader, writer = await forward.connect()
        sent = await stuck
        assert sent < FAR_BELOW_ALL
        assert len(await reader.readexactly(sent)) == sent
        assert await reader.read() == b""
        writer.close()


async def test_a_client_is_held_back_until_the_stream_is_open() -> None:
    answer = asyncio.Event()
    received = asyncio.get_running_loop().create_future()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer.wait()
        writer.write(OPENED)
        received.set_result(len(await reader.read()))

    async with gateway(late) as dialer, forwarding(dialer) as forward:
        _, writer = await forward.connect()
        sent = await write_until_stuck(writer)
        assert sent < FAR_BELOW_ALL
        answer.set()
        writer.write_eof()
        assert await received == sent
        writer.close()


async def test_a_refusal_is_told_and_the_client_is_reset() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"code":"service_refused","detail":"demo has no service ssh"}'
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with gateway(refuse) as dialer, forwarding(dialer) as forward:
        for _ in range(2):  # and it goes on listening
            reader, writer = await forward.connect()
            refusal = await forward.refused.get()
            assert isinstance(refusal, UpgradeRefusedError)
            assert (refusal.reason, str(refusal)) == ("service_refused", "demo has no service ssh")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()


async def test_no_gateway() -> None:
    async with gateway(_unused) as dialer:
        pass
    with pytest.raises(GatewayUnreachableError, match=r"http://127.0.0.1:\d+ cannot be reached"):
        await dialer.dial()


async def test_a_port_that_is_taken() -> None:
    async with gateway(opened(_unused)) as dialer, forwarding(dialer) as forward:
        with pytest.raises(ListenError, match=rf"cannot listen on 127.0.0.1 port {forward.port}: .*choose another"):
            await forward_port(
                dialer, "127.0.0.1", forward.port, on_listening=lambda _: None, on_refused=lambda _, __: None
            )


async def _unused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raise AssertionError("nobody can get here")


async def test_a_gateway_that_hangs_up() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return

    async with gateway(hang_up) as dialer:
        with pytest.raises(GatewayUnreachableError, match="without an answer"):
            await dialer.dial()


async def test_a_gateway_that_never_answers() -> None:
    left = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    async with gateway(wait) as patient:
        dialer = Dialer(gateway=patient.gateway, target=patient.target, token=patient.token, timeout=0.05)
        with pytest.raises(GatewayUnreachableError, match=r"did not answer within 0.05 s"):
            await dialer.dial()
        await left.wait()  # the connection was given up, not forgotten


async def test_the_end_of_the_command_resets_what_is_open() -> None:
    async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()

    async with gateway(opened(idle)) as dialer:
        async with forwarding(dialer) as forward:
            reader, writer = await forward.connect()
            await reader.readexactly(1)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_gateway_behind_tls(tmp_path: Path) -> None:
    """Over TLS there is no half-close: the end of one direction ends both, but nothing that was sent is lost."""
    received = asyncio.get_running_loop().create_future()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(1_000_000)).swapcase())

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.set_result(await reader.read())

    authority = Authority(tmp_path)
    body = os.urandom(1_000_000)
    async with gateway(opened(answer), authority.server("127.0.0.1")) as plain:
        dialer = dataclasses.replace(plain, tls=ssl.create_default_context(cafile=authority.file))
        async with forwarding(dialer) as forward:
            reader, writer = await forward.connect()
            writer.write(body)
            assert await reader.read() == body.swapcase()
            writer.close()
    async with gateway(opened(collect), authority.server("127.0.0.1")) as plain:
        dialer = dataclasses.replace(plain, tls=ssl.create_default_context(cafile=authority.file))
        async with forwarding(dialer) as forward:
            reader, writer = await forward.connect()
            writer.write(body)
            writer.write_eof()
            assert await received == body
            assert await reader.read() == b""
            writer.close()


async def test_a_gateway_that_cannot_show_who_it_is(tmp_path: Path) -> None:
    async with gateway(opened(_unused), Authority(tmp_path).server("127.0.0.1")) as plain:
        dialer = dataclasses.replace(plain, tls=ssl.create_default_context())
        with pytest.raises(GatewayUnreachableError, match=r"certificate"):
            await dialer.dial()


class Pipes:
    """What stands for standard input and output: written and read by the test in threads, as another process would."""

    def __init__(self) -> None:
        self.source, self._input = os.pipe()
        self._output, self.sink = os.pipe()

    async def send(self, data: bytes) -> None:
        def write() -> None:
            with os.fdopen(self._input, "wb") as file:
                file.write(data)

        await asyncio.to_thread(write)

    async def receive(self) -> bytes:
        def read() -> bytes:
            with os.fdopen(self._output, "rb") as file:
                return file.read()

        return await asyncio.to_thread(read)


async def test_standard_input_and_output() -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.swapcase())
            await writer.drain()
        writer.write_eof()

    body = os.urandom(2_000_000)
    pipes = Pipes()
    async with gateway(opened(upper)) as dialer, asyncio.TaskGroup() as group:
        group.create_task(pipes.send(body))
        received = group.create_task(pipes.receive())
        await forward_stdio(dialer, pipes.source, pipes.sink)
    assert received.result() == body.swapcase()
    os.close(pipes.source)


async def test_a_file_as_standard_input(tmp_path: Path) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())
        writer.write_eof()

    (tmp_path / "in").write_bytes(b"x" * 300_000)
    source, sink = os.open(tmp_path / "in", os.O_RDONLY), os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    async with gateway(opened(count)) as dialer:
        await forward_stdio(dialer, source, sink)
    os.close(source)
    assert (tmp_path / "out").read_bytes() == b"300000"


async def test_standard_output_that_nobody_reads_ends_the_stream() -> None:
    gone = asyncio.get_running_loop().create_future()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        try:
            gone.set_result(await reader.read())
        except ConnectionResetError as exc:
            gone.set_result(exc)

    source, keep = os.pipe()
    output, sink = os.pipe()
    os.close(output)
    async with gateway(opened(pour)) as dialer:
        with pytest.raises(StreamCutError, match="home/demo/tcp was cut: Broken pipe"):
            await forward_stdio(dialer, source, sink)
        assert isinstance(await gone, ConnectionResetError)
    for descriptor in (source, keep, sink):
        os.close(descriptor)


async def test_a_reset_stream_is_an_error_on_standard_input_and_output() -> None:
    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        reset_at_close(writer)

    source, keep = os.pipe()
    output, sink = os.pipe()
    os.write(keep, b"x")
    async with gateway(opened(fail)) as dialer:
        with pytest.raises(StreamCutError, match=r"home/demo/tcp was cut: .* was reset"):
            await forward_stdio(dialer, source, sink)
    for descriptor in (keep, output):
        os.close(descriptor)
