"""Connections to backends: over TLS and without, how many there may be, how they are used again, and how they end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from api_server.backends import BackendFullError, BackendMetrics, Backends, BackendStream, BackendStreams
from api_server.outbound.errors import (
    TargetForbiddenError,
    TargetRefusedError,
    TargetTimeoutError,
    TargetUnreachableError,
    TargetUntrustedError,
)
from api_server.outbound.outbound import Outbound
from common.ids import TeamId
from common.tunnel.errors import StreamLostError
from common.tunnel.stream import Buffer
from tests.api_server.backends.backend import Backend
from tests.api_server.relay.fake_relay import ServiceSide
from tests.stack.certificates import Certificate

pytestmark = pytest.mark.anyio

HOME, AWAY = TeamId("home"), TeamId("away")
LOOPBACK = ("127.0.0.0/8",)


@dataclass
class Sink:
    """Keeps what comes."""

    received: bytearray = field(default_factory=bytearray)
    ended: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)
    lost: Exception | None = None

    def data_received(self, data: Buffer) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc
        self.over.set()

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def echo(side: ServiceSide) -> None:
    """Gives back what it gets, and ends when the other side does."""
    while data := await side.reader.read(65536):
        await side.send(data)


def to(backends: Backends, outbound: Outbound, url: str, team: TeamId = HOME) -> BackendStreams:
    return backends.streams(team, outbound.policy.check_url(url))


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
async def test_bytes_pass_and_an_idle_connection_is_used_again(certificate: Certificate, encrypted: bool) -> None:
    async with Backend(echo, tls=certificate if encrypted else None) as backend:
        outbound = Outbound(LOOPBACK, ca_file=certificate.certificate)
        backends = Backends(outbound.connector)
        streams = to(backends, outbound, backend.url)
        assert streams.take(0.0, None) is None
        first = await streams.get(0.0, None)
        sink = Sink()
        first.attach(sink)
        first.write(b"hello")
        await until(lambda: sink.received == b"hello")
        assert first.used == 0
        streams.put(first, 1.0)
        assert streams.take(5.0, 1.0) is None, "idle for longer than that"
        assert streams.take(5.0, None) is first
        assert first.used == 1
        second = await streams.get(5.0, None)
        assert second is not first
        await until(lambda: backend.connections == 2)
        now = backends.statistics()
        assert (now.open, now.opened, now.reused) == (2, 2, 1)
        first.reset()
        second.reset()
        await until(lambda: backends.statistics().open == 0)
        await outbound.aclose()


async def test_a_host_that_has_a_name_is_named_in_the_handshake(certificate: Certificate) -> None:
    async def lookup(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with Backend(echo, tls=certificate) as backend:
        outbound = Outbound(["localhost"], ca_file=certificate.certificate, lookup=lookup)
        backends = Backends(outbound.connector)
        # The certificate is for 127.0.0.1: a name of its own is asked for, and compared.
        with pytest.raises(TargetUntrustedError):
            await to(backends, outbound, f"https://localhost:{backend.port}").dial()
        assert backend.names == ["localhost"]
        assert backends.statistics().open == 0
        await outbound.aclose()


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Certificate) -> None:
    async with Backend(echo, tls=certificate) as backend:
        outbound = Outbound(LOOPBACK)
        backends = Backends(outbound.connector)
        with pytest.raises(TargetUntrustedError):
            await to(backends, outbound, backend.url).dial()
        assert backends.statistics().refused == {"target_untrusted": 1}
        await outbound.aclose()


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    outbound = Outbound(LOOPBACK)
    backends = Backends(outbound.connector)
    with pytest.raises(TargetUnreachableError):
        await to(backends, outbound, f"http://127.0.0.1:{port}").dial()
    assert backends.statistics().open == 0
    await outbound.aclose()


async def test_a_handshake_that_does_not_go_on_has_a_limit(certificate: Certificate) -> None:
    # The kernel accepts for it, and that is all.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outbound = Outbound(LOOPBACK, ca_file=certificate.certificate)
        backends = Backends(outbound.connector, connect_timeout=0.05)
        with pytest.raises(TargetTimeoutError):
            await to(backends, outbound, f"https://127.0.0.1:{silent.getsockname()[1]}").dial()
        assert backends.statistics().open == 0
        await outbound.aclose()


async def test_a_server_without_tls_is_not_taken_for_one(certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Backend(serve) as backend:
        outbound = Outbound(LOOPBACK, ca_file=certificate.certificate)
        with pytest.raises(TargetUntrustedError):
            await to(Backends(outbound.connector), outbound, f"https://127.0.0.1:{backend.port}").dial()
        await outbound.aclose()


async def test_an_address_that_may_not_be_reached_is_refused_when_it_is_known() -> None:
    """G3: by its own words when the URL is checked, by what it resolves to when a connection is made."""

    async def lookup(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with Backend(echo) as backend:
        outbound = Outbound(lookup=lookup)
        backends = Backends(outbound.connector)
        with pytest.raises(TargetRefusedError):
            to(backends, outbound, f"https://127.0.0.1:{backend.port}")
        with pytest.raises(TargetForbiddenError):
            await to(backends, outbound, f"https://innocent.example.org:{backend.port}").dial()
        assert backend.connections == 0
        assert backends.statistics().refused == {"target_forbidden": 1}
        await outbound.aclose()


async def test_a_backend_has_so_many_connections_and_no_more() -> None:
    async with Backend(echo) as backend, Backend(echo) as other:
        outbound = Outbound(LOOPBACK)
        backends = Backends(outbound.connector, max_per_backend=2, max_connections=3)
        streams = to(backends, outbound, backend.url)
        first, second = await streams.dial(), await streams.dial()
        with pytest.raises(BackendFullError) as refused:
            await streams.dial()
        assert refused.value.retry_after is not None
        third = await to(backends, outbound, other.url).dial()
        with pytest.raises(BackendFullError):
            await to(backends, outbound, other.url).dial()
        first.reset()
        await until(lambda: backends.statistics().open == 2)
        fourth = await streams.dial()
        for stream in (second, third, fourth):
            stream.reset()
        await until(lambda: backends.statistics().open == 0)
        await outbound.aclose()


async def test_teams_share_no_connection() -> None:
    async with Backend(echo) as backend:
        outbound = Outbound(LOOPBACK)
        backends = Backends(outbound.connector)
        mine, same, theirs = (
            to(backends, outbound, backend.url + path, team)
            for path, team in (("/a", HOME), ("/b", HOME), ("/a", AWAY))
        )
        stream = await mine.dial()
        mine.put(stream, 0.0)
        assert theirs.take(0.0, None) is None
        assert same.take(0.0, None) is stream, "whatever the path: it is the same server"
        stream.reset()
        await outbound.aclose()


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
async def test_an_idle_connection_is_ended_in_good_order(certificate: Certificate, encrypted: bool) -> None:
    ends: list[bool] = []

    async def serve(side: ServiceSide) -> None:
        ends.append(await side.was_reset())

    async with Backend(serve, tls=certificate if encrypted else None) as backend:
        outbound = Outbound(LOOPBACK, ca_file=certificate.certificate)
        backends = Backends(outbound.connector, idle_timeout=30)
        streams = to(backends, outbound, backend.url)
        streams.put(await streams.dial(), 0.0)
        streams.retire(await streams.dial(), 0.0)
        backends.expire(31.0)
        assert backends.statistics().idle == 0
        await until(lambda: len(ends) == 2)
        assert ends == [False, False]
        await until(lambda: backends.statistics().open == 0)
        await outbound.aclose()


async def test_the_end_of_the_gateway_ends_what_is_idle() -> None:
    async with Backend(echo) as backend:
        outbound = Outbound(LOOPBACK)
        backends = Backends(outbound.connector)
        streams = to(backends, outbound, backend.url)
        streams.put(await streams.dial(), 0.0)
        backends.close()
        await until(lambda: backends.statistics().open == 0)
        await outbound.aclose()


async def test_without_tls_a_half_close_passes_both_ways() -> None:
    async def serve(side: ServiceSide) -> None:
        said = await side.read_to_end()
        await side.send(said[::-1])

    async with Backend(serve) as backend:
        outbound = Outbound(LOOPBACK)
        stream, sink = await attached(to(Backends(outbound.connector), outbound, backend.url))
        stream.write(b"olleh")
        stream.write_eof()
        await sink.over.wait()
        assert (sink.received, sink.ended, sink.lost) == (b"hello", True, None)
        await outbound.aclose()


async def test_over_tls_our_end_is_kept_back_until_the_backends(certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.send(await side.read(5))

    async with Backend(serve, tls=certificate) as backend:
        outbound = Outbound(LOOPBACK, ca_file=certificate.certificate)
        stream, sink = await attached(to(Backends(outbound.connector), outbound, backend.url))
        stream.write(b"hello")
        stream.write_eof()
        await sink.over.wait()
        assert (sink.received, sink.ended, sink.lost) == (b"hello", True, None)
        await outbound.aclose()


async def test_a_tls_connection_that_is_cut_has_not_ended(certificate: Certificate) -> None:
    """Without `close_notify` anybody on the way may have cut it (RFC 9112 section 9.8)."""

    async def serve(side: ServiceSide) -> None:
        await side.send(b"hello")
        # FIN, and nothing of TLS before it.
        with socket.socket(fileno=os.dup(side.writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_WR)
        await side.was_reset()

    async with Backend(serve, tls=certificate) as backend:
        outbound = Outbound(LOOPBACK, ca_file=certificate.certificate)
        _, sink = await attached(to(Backends(outbound.connector), outbound, backend.url))
        await sink.over.wait()
        assert (sink.received, sink.ended) == (b"hello", False)
        assert isinstance(sink.lost, StreamLostError)
        await outbound.aclose()


async def test_the_figures_are_shown() -> None:
    async with Backend(echo) as backend:
        outbound = Outbound(LOOPBACK)
        registry = CollectorRegistry()
        backends = Backends(outbound.connector, max_per_backend=1)
        BackendMetrics(backends, registry)
        streams = to(backends, outbound, backend.url)
        stream = await streams.dial()
        streams.put(stream, 0.0)
        with pytest.raises(BackendFullError):
            await streams.dial()
        shown = {
            name: registry.get_sample_value(f"homeport_gateway_backend_{name}")
            for name in ("connections", "idle", "opened_total", "reused_total")
        }
        assert shown == {"connections": 1, "idle": 1, "opened_total": 1, "reused_total": 0}
        assert registry.get_sample_value("homeport_gateway_backend_refused_total", {"code": "backend_busy"}) == 1
        stream.reset()
        await outbound.aclose()


async def attached(streams: BackendStreams) -> tuple[BackendStream, Sink]:
    """A fresh stream with a sink."""
    stream, sink = await streams.dial(), Sink()
    stream.attach(sink)
    return stream, sink
