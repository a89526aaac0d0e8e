"""One stream, one local socket: every way in which either may go on, stop or break."""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from common.tunnel.stream import ResetCode
from edge_agent.splice import LINGER, STALLED, Splice
from tests.edge_agent.fakes import FakeStream
from tests.edge_agent.services import reset

pytestmark = pytest.mark.anyio

KIB = 1024
MIB = 1024 * KIB


@dataclass
class Joined:
    """A splice at work between a fake stream and a service that the test plays."""

    stream: FakeStream
    service: trio.SocketStream
    nursery: trio.Nursery
    sock: socket.socket
    """The splice's own."""
    done: trio.Event
    """`run` has returned."""

    async def settle(self) -> None:
        """Let everything happen that can."""
        await wait_all_tasks_blocked()

    async def service_sees(self, count: int) -> bytes:
        """The next `count` bytes that reach the service."""
        data = bytearray()
        while len(data) < count:
            piece = await self.service.receive_some(count - len(data))
            assert piece, f"end of file after {len(data)} of {count} bytes"
            data += piece
        return bytes(data)


@asynccontextmanager
async def joined(*, high_water: int = 256 * KIB) -> AsyncIterator[Joined]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sock = socket.create_connection(listener.getsockname())
        sock.setblocking(False)
        accepted, _ = listener.accept()
    service = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
    async with trio.open_nursery() as nursery:
        splice = Splice(sock, nursery)
        stream = FakeStream(splice, high_water=high_water)
        pair = Joined(stream, service, nursery, sock, trio.Event())

        async def run() -> None:
            await splice.run(stream)
            pair.done.set()

        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        async with service:
            yield pair
        nursery.cancel_scope.cancel()
    assert sock.fileno() == -1, "the splice left its socket open"


async def test_bytes_go_both_ways() -> None:
    async with joined() as j:
        j.stream.sink.data_received(b"ping")
        j.stream.sink.data_received(memoryview(b"pong!")[:4])
        assert await j.service_sees(8) == b"pingpong"
        await j.service.send_all(b"answer")
        await j.settle()
        assert j.stream.written == b"answer"


async def test_a_service_that_speaks_first_is_heard() -> None:
    async with joined() as j:
        await j.service.send_all(b"220 ready\r\n")
        await j.settle()
        assert j.stream.written == b"220 ready\r\n"


async def test_half_close_of_the_stream_reaches_the_service_and_the_answer_still_comes() -> None:
    async with joined() as j:
        j.stream.sink.data_received(b"all of it")
        j.stream.sink.eof_received()
        assert await j.service_sees(9) == b"all of it"
        assert await j.service.receive_some(1) == b""
        await j.service.send_all(b"late answer")
        await j.settle()
        assert j.stream.written == b"late answer"
        assert not j.stream.eof
        assert not j.done.is_set()


async def test_half_close_of_the_service_reaches_the_stream_and_the_request_still_goes() -> None:
    async with joined() as j:
        await j.service.send_all(b"all of it")
        await j.service.send_eof()
        await j.settle()
        assert j.stream.written == b"all of it"
        assert j.stream.eof
        j.stream.sink.data_received(b"late request")
        assert await j.service_sees(12) == b"late request"
        assert not j.done.is_set()


@pytest.mark.parametrize("service_first", [True, False])
async def test_both_ends_are_the_end(service_first: bool) -> None:
    async with joined() as j:
        if service_first:
            await j.service.send_eof()
            await j.settle()
            j.stream.sink.eof_received()
        else:
            j.stream.sink.eof_received()
            await j.settle()
            await j.service.send_eof()
        await j.settle()
        assert j.stream.eof
        j.stream.end()
        await j.done.wait()
        assert await j.service.receive_some(1) == b""
        assert j.stream.reset_with is None


@pytest.mark.parametrize("code", [ResetCode.CANCELLED, ResetCode.SESSION_LOST])
async def test_reset_of_the_stream_is_a_reset_for_the_service(code: ResetCode) -> None:
    async with joined() as j:
        j.stream.sink.data_received(b"half of")
        assert await j.service_sees(7) == b"half of"
        j.stream.lose(code)
        await j.done.wait()
        with pytest.raises(trio.BrokenResourceError):
            await j.service.receive_some(1)


async def test_reset_of_the_stream_after_its_half_close_is_a_reset_too() -> None:
    async with joined() as j:
        j.stream.sink.eof_received()
        assert await j.service.receive_some(1) == b""
        j.stream.lose()
        await j.done.wait()
        with pytest.raises(trio.BrokenResourceError):
            await j.service.send_all(b"x")


async def test_reset_by_the_service_resets_the_stream() -> None:
    async with joined() as j:
        reset(j.service)
        await j.done.wait()
        assert j.stream.reset_with is ResetCode.CANCELLED
        assert not j.stream.eof
        j.stream.lose()  # as the tunnel does after any reset
        j.stream.sink.data_received(b"too late")


async def test_reset_by_the_service_after_its_half_close_resets_the_stream() -> None:
    async with joined() as j:
        await j.service.send_all(b"413 too large")
        await j.service.send_eof()
        await j.settle()
        reset(j.service)
        await j.settle()
        j.stream.sink.data_received(b"more of the upload")
        j.stream.sink.data_received(b"and more")
        await j.done.wait()
        assert j.stream.written == b"413 too large"
        assert j.stream.reset_with is ResetCode.CANCELLED


async def test_the_answer_of_a_service_that_stopped_reading_is_delivered_before_the_reset() -> None:
    async with joined() as j:
        started = trio.current_time()
        await j.service.send_all(b"413 too large")
        await j.service.send_eof()
        reset(j.service)
        j.stream.sink.data_received(b"upload")  # EPIPE, before the answer was read
        j.stream.sink.data_received(b"upload")
        await j.settle()
        assert j.stream.written == b"413 too large"
        assert j.stream.eof
        assert j.stream.reset_with is None
        await j.done.wait()
        assert trio.current_time() - started == pytest.approx(LINGER)
        assert j.stream.reset_with is ResetCode.CANCELLED


async def test_lingering_ends_when_the_client_has_had_enough() -> None:
    async with joined() as j:
        started = trio.current_time()
        await j.service.send_all(b"413 too large")
        await j.service.send_eof()
        reset(j.service)
        j.stream.sink.data_received(b"upload")
        await j.settle()
        j.stream.lose()
        await j.done.wait()
        assert trio.current_time() == started


async def test_a_slow_service_holds_the_peer_back_and_gets_every_byte() -> None:
    async with joined() as j:
        blob = random.Random(1).randbytes(64 * KIB)
        sent = bytearray()
        while not j.stream.reading_paused:
            j.stream.sink.data_received(memoryview(blob))
            sent += blob
        # What the peer was already allowed to send still comes.
        for _ in range(70):
            j.stream.sink.data_received(memoryview(blob)[:1000])
            sent += blob[:1000]
        assert j.stream.pauses == 1
        assert await j.service_sees(len(sent)) == sent
        await j.settle()
        assert not j.stream.reading_paused
        j.stream.sink.data_received(b"and on")
        assert await j.service_sees(6) == b"and on"


async def test_what_was_kept_for_a_slow_service_does_not_change_with_the_tunnels_buffer() -> None:
    async with joined() as j:
        sent = 0
        while not j.stream.reading_paused:
            j.stream.sink.data_received(b"a" * 64 * KIB)
            sent += 64 * KIB
        buffer = bytearray(b"b" * 1000)
        j.stream.sink.data_received(memoryview(buffer))
        buffer[:] = b"c" * 1000
        received = await j.service_sees(sent + 1000)
        assert received == b"a" * sent + b"b" * 1000


async def test_half_close_waits_for_what_was_kept() -> None:
    async with joined() as j:
        sent = 0
        while not j.stream.reading_paused:
            j.stream.sink.data_received(bytes(64 * KIB))
            sent += 64 * KIB
        j.stream.sink.eof_received()
        assert len(await j.service_sees(sent)) == sent
        assert await j.service.receive_some(1) == b""


async def test_the_end_waits_for_what_was_kept() -> None:
    async with joined() as j:
        await j.service.send_eof()
        await j.settle()
        sent = 0
        while not j.stream.reading_paused:
            j.stream.sink.data_received(bytes(64 * KIB))
            sent += 64 * KIB
        j.stream.sink.eof_received()
        j.stream.end()
        await j.settle()
        assert not j.done.is_set()
        assert len(await j.service_sees(sent)) == sent
        assert await j.service.receive_some(1) == b""
        await j.done.wait()


async def test_the_end_does_not_wait_for_ever_for_a_service_that_reads_nothing() -> None:
    async with joined() as j:
        await j.service.send_eof()
        await j.settle()
        while not j.stream.reading_paused:
            j.stream.sink.data_received(bytes(64 * KIB))
        j.stream.sink.eof_received()
        j.stream.end()
        started = trio.current_time()
        await j.done.wait()
        assert trio.current_time() - started == pytest.approx(STALLED)


async def test_the_end_waits_as_long_as_the_service_gets_on() -> None:
    async with joined() as j:
        await j.service.send_eof()
        await j.settle()
        sent = 0
        while sent < 8 * MIB or not j.stream.reading_paused:
            j.stream.sink.data_received(bytes(64 * KIB))
            sent += 64 * KIB
        j.stream.sink.eof_received()
        j.stream.end()
        received = 0
        while received < sent:
            await trio.sleep(STALLED * 0.9)
            received += len(await j.service_sees(min(2 * MIB, sent - received)))
        assert await j.service.receive_some(1) == b""


async def test_reset_drops_what_was_kept() -> None:
    async with joined() as j:
        while not j.stream.reading_paused:
            j.stream.sink.data_received(bytes(64 * KIB))
        j.stream.lose()
        await j.done.wait()
        with pytest.raises(trio.BrokenResourceError):  # and not an end of file: a cut transfer must not look whole
            await j.service_sees(1024 * MIB)


async def test_a_service_that_dies_while_bytes_are_kept_for_it_resets_the_stream() -> None:
    async with joined() as j:
        while not j.stream.reading_paused:
            j.stream.sink.data_received(bytes(64 * KIB))
        reset(j.service)
        await j.done.wait()
        assert j.stream.reset_with is ResetCode.CANCELLED


async def test_a_slow_client_holds_the_service_back() -> None:
    async with joined(high_water=128 * KIB) as j:
        blob = random.Random(2).randbytes(16 * MIB)
        sent = trio.Event()

        async def send() -> None:
            await j.service.send_all(blob)
            await j.service.send_eof()
            sent.set()

        j.nursery.start_soon(send)
        await j.settle()
        assert j.stream.writing_paused
        assert 128 * KIB < len(j.stream.written) <= 192 * KIB
        assert not sent.is_set()
        while not j.stream.eof:
            j.stream.take()
            await j.settle()
        assert j.stream.written == blob


async def test_a_stream_that_is_lost_while_the_client_is_slow_lets_go_of_the_service() -> None:
    async with joined(high_water=KIB) as j:
        await j.service.send_all(bytes(2 * KIB))
        await j.settle()
        assert j.stream.writing_paused
        j.stream.lose()
        await j.done.wait()
        with pytest.raises(trio.BrokenResourceError):
            await j.service.receive_some(1)


async def test_cancelling_resets_both_sides() -> None:
    async with joined() as j:
        j.nursery.cancel_scope.cancel()
    assert j.stream.reset_with is ResetCode.CANCELLED
    assert not j.done.is_set()


async def test_every_byte_survives_any_timing_of_both_sides() -> None:
    rng = random.Random(4)
    upload, download = rng.randbytes(3 * MIB), rng.randbytes(3 * MIB)
    async with joined(high_water=100 * KIB) as j:
        received = bytearray()

        async def service_reads() -> None:
            while data := await j.service.receive_some(rng.randrange(1, 200 * KIB)):
                received.extend(data)
                if rng.random() < 0.3:
                    await trio.sleep(rng.random())

        async def service_writes() -> None:
            sent = 0
            while sent < len(download):
                piece = download[sent : sent + rng.randrange(1, 300 * KIB)]
                await j.service.send_all(piece)
                sent += len(piece)
            await j.service.send_eof()

        async def client_writes() -> None:
            sent = 0
            while sent < len(upload):
                if not j.stream.reading_paused:
                    piece = upload[sent : sent + rng.randrange(1, 64 * KIB)]
                    j.stream.sink.data_received(memoryview(piece))
                    sent += len(piece)
                await trio.sleep(rng.random() / 10)
            j.stream.sink.eof_received()

        async def client_reads() -> None:
            while not j.stream.eof:
                j.stream.take()
                await trio.sleep(rng.random())

        async with trio.open_nursery() as nursery:
            for task in (service_reads, service_writes, client_writes, client_reads):
                nursery.start_soon(task)
        assert received == upload
        assert j.stream.written == download
        j.stream.end()
        await j.done.wait()
