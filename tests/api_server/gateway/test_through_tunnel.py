"""The gateway in front of a real relay with real tunnels: what the scripted relay only claims, seen to be so."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api_server.gateway import Gateway
from api_server.relay import (
    DialerUpdates,
    EventFeed,
    Forwarder,
    ProxyClient,
    ProxyClientStore,
    ServiceDialer,
    SessionDirectory,
    StreamPool,
)
from common.clock import SystemClock
from common.tunnel.interfaces import PendingStream, Subprotocol
from common.tunnel.stream import Buffer, Stream
from tests.api_server.gateway.stage import BEARER, Client, FakeAuthenticator, request_head
from tests.contract.devices import echo, flood
from tests.contract.relay_fixture import RunningRelay, running_relay

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


class HttpService:
    """A little HTTP server on a stream: the hash of what it is sent, or as many bytes as it is asked for."""

    def __init__(self, stream_of: Callable[[HttpService], Stream]) -> None:
        self._head = b""
        self._left = -1
        self._digest = hashlib.sha256()
        self._stream = stream_of(self)
        self._to_send = 0
        self._paused = False
        self.lost = False

    def data_received(self, data: Buffer) -> None:
        data = bytes(data)
        if self._left < 0:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = b""
            self._left = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    self._left = int(line.partition(b":")[2])
            self._path = head.split(b" ")[1]
            self._digest = hashlib.sha256()
        self._digest.update(data)
        self._left -= len(data)
        if self._left == 0:
            self._left = -1
            self._answer()

    def _answer(self) -> None:
        if self._path.startswith(b"/bytes/"):
            self._to_send = int(self._path.rpartition(b"/")[2])
            self._stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._to_send)
            self._send()
        else:
            body = self._digest.hexdigest().encode()
            self._stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def _send(self) -> None:
        if self._to_send and not self._paused and not self.lost:
            piece = bytes(min(self._to_send, 64 * 1024))
            self._to_send -= len(piece)
            self._stream.write(piece)
            asyncio.get_running_loop().call_soon(self._send)

    def eof_received(self) -> None:
        self._stream.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()


class Web:
    """Serves HTTP, and remembers its streams."""

    def __init__(self) -> None:
        self.services: list[HttpService] = []

    def __call__(self, request: PendingStream) -> None:
        self.services.append(HttpService(request.accept))


class Scene:
    """Relay, gateway, and the feed between them."""

    def __init__(self, relay: RunningRelay, gateway: Gateway, pool: StreamPool) -> None:
        self.relay = relay
        self.gateway = gateway
        self.pool = pool
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.gateway.port))
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.writer.close()


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    clock = SystemClock()
    async with running_relay(folder) as relay, ProxyClient(relay.internal_url, key=relay.internal_key) as client:
        forwarder = Forwarder(relay.internal_url, key=relay.internal_key)
        pool = StreamPool()
        dialer = ServiceDialer(
            SessionDirectory(ProxyClientStore(client, forwarder).locate, clock=clock), forwarder, pool
        )
        feed = EventFeed(client, clock=clock)
        feed.add(DialerUpdates(dialer, clock))
        gateway = Gateway(authenticator=FakeAuthenticator(), dialer=dialer, clock=clock)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(feed.run())
            await gateway.start("127.0.0.1", 0)
            made = Scene(relay, gateway, pool)
            try:
                yield made
            finally:
                made.close()
                await gateway.close()
                following.cancel()


@pytest.fixture
async def stage(tmp_path: Path, anyio_backend: object) -> AsyncIterator[Scene]:
    async with scene(tmp_path) as made:
        yield made


@pytest.mark.parametrize("subprotocol", list(Subprotocol))
async def test_requests_of_all_sizes(stage: Scene, subprotocol: Subprotocol) -> None:
    web = Web()
    await stage.relay.attach("cam", services={"web": web}, subprotocol=subprotocol)
    client = await stage.connect()
    for _ in range(50):
        assert (await client.get("/bytes/10")).body == bytes(10)
    assert len(web.services) == 1
    reply = await client.get(f"/bytes/{20 * MIB}")
    assert len(reply.body) == 20 * MIB
    body = bytes(range(256)) * 4096 * 20
    reply = await client.request("POST", body=body)
    assert reply.body.decode() == hashlib.sha256(body).hexdigest()


async def test_many_clients_at_once(stage: Scene) -> None:
    web = Web()
    await stage.relay.attach("cam", services={"web": web})

    async def ask(number: int) -> None:
        client = await stage.connect()
        for _ in range(10):
            body = b"%d" % number * 1000
            reply = await client.request("POST", body=body)
            assert reply.body.decode() == hashlib.sha256(body).hexdigest()

    await asyncio.gather(*(ask(number) for number in range(32)))
    assert len(web.services) <= 32


async def test_a_device_that_reconnects_serves_the_next_request(stage: Scene) -> None:
    await stage.relay.attach("cam", services={"web": Web()})
    client = await stage.connect()
    for _ in range(5):
        assert (await client.get("/bytes/5")).status == 200
        # The newer session takes over from the older one, whose streams are reset.
        await stage.relay.attach("cam", services={"web": Web()})
        reply = await client.get("/bytes/5")
        assert (reply.status, reply.body) == (200, bytes(5))


async def test_a_device_that_leaves_is_offline_and_one_that_comes_back_is_not(stage: Scene) -> None:
    device = await stage.relay.attach("cam", services={"web": Web()})
    client = await stage.connect()
    assert (await client.get("/bytes/5")).status == 200
    device.close()
    await stage.relay.until(lambda: not len(stage.pool))
    while (reply := await client.get("/bytes/5")).status == 200:
        await asyncio.sleep(0)
    assert (reply.status, reply.code) == (502, "device_offline")
    await stage.relay.attach("cam", services={"web": Web()})
    while (reply := await client.get("/bytes/5")).status != 200:
        assert reply.code == "device_offline"
        await asyncio.sleep(0)


async def test_the_loss_of_the_tunnel_cuts_what_flows(stage: Scene) -> None:
    source = flood(1 << 40)
    device = await stage.relay.attach("cam", services={"tcp": source})
    client = await stage.connect()
    await client.send(
        f"GET /t/home/cam/tcp HTTP/1.1\r\nHost: gw\r\n{BEARER}Connection: upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"
    )
    assert (await client.head()).status == 101
    await client.read(MIB)
    device.close()
    assert await client.was_cut()


async def test_a_client_that_leaves_ends_the_services_stream(stage: Scene) -> None:
    web = Web()
    await stage.relay.attach("cam", services={"web": web})
    client = await stage.connect()
    await client.send(request_head(path=f"/bytes/{1 << 40}"))
    await client.head()
    await client.read(MIB)
    client.cut()
    await stage.relay.until(lambda: web.services[0].lost)


async def test_a_client_that_does_not_read_holds_the_device(stage: Scene) -> None:
    source = flood(1 << 40)
    await stage.relay.attach("cam", services={"tcp": source})
    client = await stage.connect()
    await client.send(
        f"GET /t/home/cam/tcp HTTP/1.1\r\nHost: gw\r\n{BEARER}Connection: upgrade\r\nUpgrade: homeport-tcp\r\n\r\n"
    )
    assert (await client.head()).status == 101
    await source.held.wait()
    assert stage.gateway.statistics().held < 2 * MIB


async def test_raw_tcp_with_half_close(stage: Scene) -> None:
    await stage.relay.attach("cam", services={"tcp": echo})
    client = await stage.connect()
    await client.send(
        f"GET /t/home/cam/tcp HTTP/1.1\r\nHost: gw\r\n{BEARER}Connection: upgrade\r\nUpgrade: homeport-tcp\r\n\r\nearly"
    )
    assert (await client.head()).status == 101
    body = bytes(range(256)) * 4096
    sending = asyncio.ensure_future(client.send(body))
    received = await client.read(5 + len(body))
    await sending
    assert received == b"early" + body
    client.end()
    assert await client.read_to_end() == b""


async def test_what_the_device_does_not_offer(stage: Scene) -> None:
    await stage.relay.attach("cam")
    client = await stage.connect()
    assert (await client.get(service="none")).code == "service_refused"
    assert (await client.get(service="refuse")).code == "service_refused"
    # The device's acceptance and its reset may reach the relay together; then it never was open.
    assert (await client.get(service="reset")).code in ("stream_reset", "service_refused")
    assert (await client.get(device="nobody")).code == "device_offline"
