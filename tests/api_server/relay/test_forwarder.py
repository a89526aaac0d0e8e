"""Opening streams at a relay, and what a stream does with FIN, RST, early bytes and full buffers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_server.relay import Forwarder, ProxyClient, RelayStream
from api_server.relay.stream import StreamPhase
from common.errors import HomeportError
from common.ids import ServiceName, SessionId, TeamId, new_session_id
from common.secret import Secret
from common.sessions.errors import (
    DrainingError,
    OverCapacityError,
    RelayUnavailableError,
    ServiceRefusedError,
    ServiceTimeoutError,
    SessionNotFoundError,
    SessionReplacedError,
    SessionStoreError,
)
from common.sessions.interfaces import OpenOptions
from common.tunnel.errors import StreamLostError
from common.tunnel.stream import ResetCode
from tests.api_server.relay.fake_relay import HOME, FakeRelay, ServiceSide
from tests.contract.sinks import RecordingSink
from tests.stack.certificates import make_certificate

pytestmark = pytest.mark.anyio

WEB = ServiceName("web")


class Held:
    """A service that hands its end of the stream to the test."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.greeting = greeting
        self.sides: asyncio.Queue[ServiceSide] = asyncio.Queue()
        self._done = asyncio.Event()

    async def __call__(self, side: ServiceSide) -> None:
        if self.greeting:
            side.writer.write(self.greeting)
        self.sides.put_nowait(side)
        await self._done.wait()


@pytest.fixture
async def relay(anyio_backend: object) -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as relay:
        yield relay


def forwarder(relay: FakeRelay, **options: object) -> Forwarder:
    return Forwarder(relay.url, key=relay.key, **options)  # type: ignore[arg-type]


async def opened(relay: FakeRelay, service: Held) -> tuple[RelayStream, RecordingSink, ServiceSide]:
    """A stream, its sink, and its far end."""
    device = relay.online("cam", web=service)
    sink = RecordingSink()
    stream = await forwarder(relay).open(device.session_id, HOME, WEB, sink)
    return stream, sink, await service.sides.get()


class TestOpening:
    async def test_the_head_says_what_is_wanted(self, relay: FakeRelay) -> None:
        device = relay.online("cam", web=Held())
        options = OpenOptions(timeout=2.5, traceparent="00-1-2-01", epoch=device.epoch)
        stream = await forwarder(relay).open(device.session_id, HOME, WEB, RecordingSink(), options)
        (headers,) = relay.opens
        assert headers == {
            "host": relay.url.removeprefix("http://"),
            "authorization": f"Bearer {relay.key.reveal()}",
            "connection": "Upgrade",
            "upgrade": "homeport-stream",
            "homeport-team": "home",
            "homeport-service": "web",
            "homeport-timeout": "2.5",
            "homeport-epoch": str(device.epoch),
            "traceparent": "00-1-2-01",
        }
        assert stream.phase is StreamPhase.OPEN
        stream.reset()

    @pytest.mark.parametrize("trace", ["a\r\nHomeport-Team: other", "\xe9", "a\x00b"])
    async def test_a_trace_that_could_end_its_line_is_left_out(self, relay: FakeRelay, trace: str) -> None:
        device = relay.online("cam", web=Held())
        stream = await forwarder(relay).open(
            device.session_id, HOME, WEB, RecordingSink(), OpenOptions(traceparent=trace)
        )
        assert "traceparent" not in relay.opens[0]
        stream.reset()

    @pytest.mark.parametrize(
        "error",
        [
            SessionNotFoundError("gone"),
            SessionReplacedError("newer"),
            ServiceRefusedError("connection refused"),
            ServiceTimeoutError("slow"),
            OverCapacityError("full", retry_after=3),
            DrainingError("leaving", retry_after=7),
        ],
    )
    async def test_a_refusal_is_raised_as_what_it_is(self, relay: FakeRelay, error: SessionStoreError) -> None:
        device = relay.online("cam", web=Held())
        relay.refusal = error
        sink = RecordingSink()
        with pytest.raises(type(error)) as caught:
            await forwarder(relay).open(device.session_id, HOME, WEB, sink)
        assert caught.value.detail == error.detail
        assert caught.value.retry_after == error.retry_after
        assert sink.calls == []

    @pytest.mark.parametrize(
        ("session_id", "team", "service", "error"),
        [
            ("ses_x", "home", "web", SessionNotFoundError),
            ("../../healthz", "home", "web", SessionNotFoundError),
            (None, "home\r\nX: y", "web", SessionNotFoundError),
            (None, "home", "web\r\nX: y", ServiceRefusedError),
        ],
    )
    async def test_what_could_end_its_line_never_leaves(
        self, relay: FakeRelay, session_id: str | None, team: str, service: str, error: type[HomeportError]
    ) -> None:
        with pytest.raises(error):
            await forwarder(relay).open(
                SessionId(session_id or new_session_id()), TeamId(team), ServiceName(service), RecordingSink()
            )
        assert relay.opens == []

    async def test_a_wrong_key_is_the_gateways_own_fault(self, relay: FakeRelay) -> None:
        device = relay.online("cam", web=Held())
        with pytest.raises(RelayUnavailableError, match="401 unauthenticated"):
            await Forwarder(relay.url, key=Secret("wrong")).open(device.session_id, HOME, WEB, RecordingSink())

    async def test_a_relay_that_is_away(self, relay: FakeRelay) -> None:
        url = relay.url
        relay.stop()
        with pytest.raises(RelayUnavailableError):
            await Forwarder(url, key=relay.key).open(new_session_id(), HOME, WEB, RecordingSink())

    async def test_a_relay_that_does_not_answer_in_time(self, relay: FakeRelay) -> None:
        device = relay.online("cam", web=Held())
        relay.answer_now.clear()
        with pytest.raises(ServiceTimeoutError):
            await forwarder(relay, answer_grace=0.0).open(
                device.session_id, HOME, WEB, RecordingSink(), OpenOptions(timeout=0.001)
            )

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 .\r\n\r\n",
            b"HTTP/1.1 500 .\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 409 .\r\nContent-Type: application/msgpack\r\nContent-Length: 3\r\n\r\n\xff\xff\xff",
            b"HTTP/1.1 404 .\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 502 ." + b"\r\nX: " + b"x" * 70_000,
        ],
    )
    async def test_an_answer_that_is_none(self, answer: bytes) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for at in range(0, len(answer), 10_000):
                    writer.write(answer[at : at + 10_000])
                    await asyncio.sleep(0)
                writer.write_eof()
                await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(RelayUnavailableError):
                await Forwarder(url, key=None).open(new_session_id(), HOME, WEB, RecordingSink())

    async def test_an_answer_in_pieces(self) -> None:
        answer = b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: homeport-stream\r\n\r\nearly"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for byte in answer:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            sink = RecordingSink()
            stream = await Forwarder(url, key=None).open(new_session_id(), HOME, WEB, sink)
            await sink.wait_received(b"early")
            stream.write_eof()
            await sink.wait_lost()

    async def test_one_that_is_cancelled_leaves_nothing_behind(self, relay: FakeRelay) -> None:
        device = relay.online("cam", web=Held())
        relay.answer_now.clear()
        sink = RecordingSink()
        opening = asyncio.ensure_future(forwarder(relay).open(device.session_id, HOME, WEB, sink))
        await relay.wait_opens(1)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        relay.answer_now.set()
        service = device.services["web"]
        assert isinstance(service, Held)
        assert await (await service.sides.get()).was_reset()
        assert sink.calls == []

    async def test_it_counts(self, relay: FakeRelay) -> None:
        device = relay.online("cam", web=Held())
        one = forwarder(relay)
        stream = await one.open(device.session_id, HOME, WEB, RecordingSink())
        with pytest.raises(ServiceRefusedError):
            await one.open(device.session_id, HOME, ServiceName("none"), RecordingSink())
        assert (one.opened, one.refused) == (1, 1)
        assert "1 streams opened, 1 refused" in repr(one)
        stream.reset()

    @pytest.mark.parametrize("url", ["ftp://relay", "relay:3801", "http://", "http://relay/path"])
    def test_a_url_that_is_none_of_a_relay(self, url: str) -> None:
        with pytest.raises(ValueError, match="relay's URL"):
            Forwarder(url, key=None)

    def test_the_key_is_not_shown(self) -> None:
        one = Forwarder("http://relay:1", key=Secret("the-internal-key"))
        assert "the-internal-key" not in repr(one)


class TestStreams:
    async def test_bytes_pass_both_ways_and_both_ends_end(self, relay: FakeRelay) -> None:
        stream, sink, side = await opened(relay, Held())
        stream.write(b"ping")
        assert await side.read(4) == b"ping"
        await side.send(b"pong")
        await sink.wait_received(b"pong")
        stream.write_eof()
        assert await side.read_to_end() == b""
        await side.send(b"after")
        side.end()
        assert await sink.wait_eof() == b"pongafter"
        assert await sink.wait_lost() is None
        assert sink.calls == ["data", "eof", "lost"]

    async def test_the_service_may_end_first(self, relay: FakeRelay) -> None:
        stream, sink, side = await opened(relay, Held())
        side.end()
        await sink.wait_eof()
        stream.write(b"still here")
        stream.write_eof()
        assert await side.read_to_end() == b"still here"
        assert await sink.wait_lost() is None

    async def test_a_reset_by_us_is_a_reset_there(self, relay: FakeRelay) -> None:
        stream, sink, side = await opened(relay, Held())
        stream.reset(ResetCode.TIMEOUT)
        stream.reset()
        assert await side.was_reset()
        error = await sink.wait_lost()
        assert isinstance(error, StreamLostError)
        assert error.reset_code is ResetCode.TIMEOUT
        assert stream.phase is StreamPhase.CLOSED

    async def test_a_reset_there_is_a_lost_stream_here(self, relay: FakeRelay) -> None:
        stream, sink, side = await opened(relay, Held())
        side.reset()
        assert isinstance(await sink.wait_lost(), StreamLostError)
        assert not sink.eof
        assert "closed" in repr(stream)

    async def test_what_comes_with_the_answer_is_kept_for_a_sink_that_comes_later(self, relay: FakeRelay) -> None:
        service = Held(b"SSH-2.0\r\n")
        device = relay.online("cam", web=service)
        stream = await forwarder(relay).open(device.session_id, HOME, WEB)
        side = await service.sides.get()
        await side.send(b"more")
        for _ in range(20):
            await asyncio.sleep(0)
        sink = RecordingSink()
        stream.attach(sink)
        await sink.wait_received(b"SSH-2.0\r\nmore")
        stream.reset()

    async def test_one_that_was_lost_before_a_sink_came_says_so(self, relay: FakeRelay) -> None:
        service = Held()
        device = relay.online("cam", web=service)
        stream = await forwarder(relay).open(device.session_id, HOME, WEB)
        (await service.sides.get()).reset()
        while stream.phase is not StreamPhase.CLOSED:
            await asyncio.sleep(0)
        sink = RecordingSink()
        stream.attach(sink)
        assert isinstance(sink.error, StreamLostError)

    async def test_one_that_ended_before_a_sink_came_says_so(self, relay: FakeRelay) -> None:
        service = Held()
        device = relay.online("cam", web=service)
        stream = await forwarder(relay).open(device.session_id, HOME, WEB)
        side = await service.sides.get()
        side.end()
        while stream.reusable:
            await asyncio.sleep(0)
        sink = RecordingSink()
        stream.attach(sink)
        assert sink.calls == ["eof"]
        stream.write_eof()
        assert await sink.wait_lost() is None

    async def test_a_sink_that_pauses_holds_the_service_and_loses_nothing(self, relay: FakeRelay) -> None:
        stream, sink, side = await opened(relay, Held())
        stream.pause_reading()
        sending = asyncio.ensure_future(side.send(*[bytes(256 * 1024)] * 100))
        for _ in range(300):
            await asyncio.sleep(0)
        assert not sending.done()
        received = len(sink.received)
        assert received < 1024 * 1024
        stream.resume_reading()
        await sink.until(lambda sink: len(sink.received) == 100 * 256 * 1024)
        await sending
        stream.reset()

    async def test_a_service_that_does_not_read_pauses_the_writer(self, relay: FakeRelay) -> None:
        stream, sink, side = await opened(relay, Held())
        written = 0
        while not sink.paused:
            stream.write(bytes(256 * 1024))
            written += 256 * 1024
        assert stream.unsent > 0
        assert not stream.reusable
        await side.read(written)
        await sink.until(lambda sink: not sink.paused)
        assert stream.reusable
        stream.reset()

    async def test_nothing_is_written_after_the_end(self, relay: FakeRelay) -> None:
        stream, _, side = await opened(relay, Held())
        stream.write_eof()
        stream.write(b"late")
        stream.write_all([b"later"])
        stream.write_eof()
        assert await side.read_to_end() == b""
        stream.reset()
        stream.write(b"too late")


class TestTls:
    @pytest.fixture
    async def relay(self, tmp_path: Path, anyio_backend: object) -> AsyncIterator[FakeRelay]:
        """A relay that demands a client certificate."""
        files = make_certificate(tmp_path)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.certificate)
        server.load_cert_chain(files.certificate, files.key)
        server.verify_mode = ssl.CERT_REQUIRED
        async with FakeRelay(tls=server) as relay:
            yield relay

    def client(self, folder: Path, *, with_certificate: bool = True) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=folder / "certificate.pem")
        if with_certificate:
            context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
        return context

    async def test_a_stream_over_mutual_tls(self, relay: FakeRelay, tmp_path: Path) -> None:
        service = Held(b"hello")
        device = relay.online("cam", web=service)
        sink = RecordingSink()
        stream = await forwarder(relay, tls=self.client(tmp_path)).open(device.session_id, HOME, WEB, sink)
        side = await service.sides.get()
        await sink.wait_received(b"hello")
        stream.write(b"ping")
        stream.write_all([b"pi", b"ng"])
        assert await side.read(8) == b"pingping"
        # TLS as asyncio does it has no half-close: our end waits for theirs, and theirs is the end of both.
        stream.write_eof()
        await side.send(b"after")
        side.writer.close()
        assert await sink.wait_eof() == b"helloafter"
        assert await sink.wait_lost() is None

    async def test_a_reset_over_tls(self, relay: FakeRelay, tmp_path: Path) -> None:
        service = Held()
        device = relay.online("cam", web=service)
        sink = RecordingSink()
        stream = await forwarder(relay, tls=self.client(tmp_path)).open(device.session_id, HOME, WEB, sink)
        stream.reset()
        assert isinstance(await sink.wait_lost(), StreamLostError)
        assert await (await service.sides.get()).was_reset()

    async def test_without_the_certificate_there_is_no_stream(self, relay: FakeRelay, tmp_path: Path) -> None:
        device = relay.online("cam", web=Held())
        with pytest.raises(RelayUnavailableError):
            await forwarder(relay, tls=self.client(tmp_path, with_certificate=False)).open(
                device.session_id, HOME, WEB, RecordingSink()
            )

    async def test_a_relay_that_is_not_trusted(self, relay: FakeRelay) -> None:
        device = relay.online("cam", web=Held())
        with pytest.raises(RelayUnavailableError):
            await forwarder(relay).open(device.session_id, HOME, WEB, RecordingSink())

    async def test_the_control_api_over_mutual_tls(self, relay: FakeRelay, tmp_path: Path) -> None:
        device = relay.online("cam")
        async with ProxyClient(relay.url, key=relay.key, tls=self.client(tmp_path)) as client:
            assert (await client.session(HOME, device.session_id)).device_name == "cam"
