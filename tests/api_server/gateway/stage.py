"""A gateway in front of a scripted relay, and clients that speak to it in bytes.

    async with Stage(web=serve) as stage:
        client = await stage.connect()
        reply = await client.get("/")

Time stands still unless a test calls `advance`, so no timeout happens by accident, and each happens on demand.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry

from api_server.auth.browsers import BrowserSignIn
from api_server.auth.errors import TooManyAttemptsError
from api_server.auth.interfaces import PENDING, Action, Identity, Pending
from api_server.backends import Backends
from api_server.gateway import Gateway, GatewayLimits, Router
from api_server.gateway.governor import Governor
from api_server.gateway.inspection import Recorder
from api_server.relay import Forwarder, ProxyClient, ProxyClientStore, ServiceDialer, SessionDirectory, StreamPool
from common.ids import TeamId
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.api_server.relay.fake_relay import HOME, FakeDevice, FakeRelay, Service, ServiceSide

__all__ = ["AWAY", "BEARER", "Client", "FakeAuthenticator", "Reply", "Stage", "answering", "ok", "request_head"]

AWAY = TeamId("away")

CALLER = "hp_caller"
BEARER = f"Authorization: Bearer {CALLER}\r\n"
"""The header line of a caller who may call services of the team home."""

_PATIENCE = 20.0
"""Seconds until a wait is a failure. No test passes by it."""


def _identity(name: str, teams: Mapping[TeamId, frozenset[Action]]) -> Identity:
    return Identity(kind="token", id=name, name=name, teams=teams)


class FakeAuthenticator:
    """Knows a few tokens."""

    def __init__(self) -> None:
        self.known = {
            CALLER: _identity("caller", {HOME: frozenset({Action.GATEWAY_CALL})}),
            "hp_reader": _identity("reader", {HOME: frozenset({Action.SESSIONS_READ})}),
            "hp_stranger": _identity("stranger", {AWAY: frozenset({Action.GATEWAY_CALL})}),
        }
        self.slow: set[str] = set()
        """Tokens that cannot be told without waiting."""
        self.asked: list[tuple[str, str]] = []
        """Tokens and addresses that were waited for."""
        self.answer_now = asyncio.Event()
        self.answer_now.set()

    def authenticate_nowait(self, credential: Secret, *, address: str) -> Identity | Pending | None:
        token = credential.reveal()
        if token == "hp_guesser":
            raise TooManyAttemptsError("too many wrong tokens", retry_after=7.2)
        return PENDING if token in self.slow else self.known.get(token)

    async def authenticate(self, credential: Secret, *, address: str) -> Identity | None:
        self.asked.append((credential.reveal(), address))
        await self.answer_now.wait()
        return self.known.get(credential.reveal())


@dataclass
class Reply:
    """A response, as a client sees it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    complete: bool
    """By its own framing; of a response without one, by the connection's orderly end."""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def __getitem__(self, name: str) -> str | None:
        """The value of a field; None without it."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} is there more than once"
        return values[0] if values else None

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for other, value in self.fields if other.lower() == name.lower()]

    @property
    def problem(self) -> dict[str, Any]:
        """The problem object in the body."""
        assert self["Content-Type"] == "application/problem+json"
        assert self["X-Homeport-Error"] is not None
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        assert problem["code"] == self["X-Homeport-Error"]
        return problem

    @property
    def code(self) -> str:
        """The code of the problem."""
        return str(self.problem["code"])


class Client:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: str | bytes) -> None:
        """Write pieces one by one, each handed to the kernel before the next."""
        for piece in pieces:
            self.writer.write(piece.encode("latin-1") if isinstance(piece, str) else piece)
            async with asyncio.timeout(_PATIENCE):
                await self.writer.drain()

    async def get(self, path: str = "/", *, headers: str = "", device: str = "cam", service: str = "web") -> Reply:
        """GET a path of the device's service."""
        await self.send(request_head("GET", path, headers, device=device, service=service))
        return await self.reply()

    async def request(
        self, method: str, path: str = "/", body: bytes = b"", *, headers: str = "", head_only: bool = False
    ) -> Reply:
        """Send a request with a body of known length."""
        await self.send(request_head(method, path, f"{headers}Content-Length: {len(body)}\r\n").encode() + body)
        return await self.reply(head_only=head_only or method == "HEAD")

    async def head(self) -> Reply:
        """Read a response head; the body is left unread."""
        async with asyncio.timeout(_PATIENCE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        start, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = (start + " ").split(" ", 2)
        assert version == "HTTP/1.1"
        fields = []
        for line in lines:
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        return Reply(int(status), fields, b"", complete=True)

    async def reply(self, *, head_only: bool = False) -> Reply:
        """Read a response with its body."""
        reply = await self.head()
        if head_only or reply.status < 200 or reply.status in (204, 304):
            return reply
        async with asyncio.timeout(_PATIENCE):
            if reply["Transfer-Encoding"] == "chunked":
                await self._read_chunks(reply)
            elif reply["Content-Length"] is not None:
                length = int(reply["Content-Length"])
                reply.body = await self._read_at_most(length)
                reply.complete = len(reply.body) == length
            else:
                reply.body, reply.complete = await self._read_to_end()
        return reply

    async def _read_chunks(self, reply: Reply) -> None:
        try:
            while True:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                if size == 0:
                    break
                reply.body += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                name, _, value = line.decode("latin-1").partition(":")
                reply.trailers.append((name, value.strip()))
        except (asyncio.IncompleteReadError, ConnectionError) as exc:
            reply.complete = False
            if isinstance(exc, asyncio.IncompleteReadError):
                reply.body += exc.partial

    async def _read_at_most(self, length: int) -> bytes:
        try:
            return await self.reader.readexactly(length)
        except asyncio.IncompleteReadError as exc:
            return exc.partial
        except ConnectionError:
            return b""

    async def _read_to_end(self) -> tuple[bytes, bool]:
        received = bytearray()
        try:
            while chunk := await self.reader.read(65536):
                received += chunk
        except ConnectionError:
            return bytes(received), False
        return bytes(received), True

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.readexactly(size)

    async def read_to_end(self) -> bytes:
        """All bytes until the gateway ends the connection in good order."""
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.read()

    async def was_cut(self) -> bool:
        """Whether the gateway ends the connection by a reset; waits for its end."""
        async with asyncio.timeout(_PATIENCE):
            return not (await self._read_to_end())[1]

    async def closed(self) -> bool:
        """Whether the gateway ends the connection, in whichever way, without another byte."""
        async with asyncio.timeout(_PATIENCE):
            return (await self._read_to_end())[0] == b""

    def end(self) -> None:
        """Half-close."""
        self.writer.write_eof()

    def cut(self) -> None:
        """Reset the connection."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Stage:
    """The gateway, its relay with the device `cam`, and their clock. Use it as an async context manager."""

    def __init__(
        self,
        *,
        limits: GatewayLimits | None = None,
        domain: str | None = None,
        router: Callable[[ServiceDialer], Router] | None = None,
        pool: StreamPool | None = None,
        backends: Backends | None = None,
        governor: Governor | None = None,
        clock: FakeClock | None = None,
        browsers: BrowserSignIn | None = None,
        recorder: Recorder | None = None,
        **services: Service,
    ) -> None:
        self.clock = clock if clock is not None else FakeClock()
        self._governor = governor
        self.relay = FakeRelay()
        self.registry = CollectorRegistry()
        self.authenticator = FakeAuthenticator()
        self.pool = pool if pool is not None else StreamPool()
        self.backends = backends
        self._browsers = browsers
        self._recorder = recorder
        self.limits = limits if limits is not None else GatewayLimits()
        self._domain = domain
        self._router = router
        self._services = services
        self._clients: list[Client] = []
        self.gateway: Gateway
        self.cam: FakeDevice

    async def __aenter__(self) -> Stage:
        await self.relay.__aenter__()
        self.cam = self.relay.online("cam", **self._services)
        forwarder = Forwarder(self.relay.url, key=self.relay.key)
        self._client = ProxyClient(self.relay.url, key=self.relay.key)
        store = ProxyClientStore(self._client, forwarder)
        self.dialer = ServiceDialer(SessionDirectory(store.locate, clock=self.clock), forwarder, self.pool)
        self.gateway = Gateway(
            authenticator=self.authenticator,
            dialer=self.dialer,
            clock=self.clock,
            limits=self.limits,
            domain=self._domain,
            router=self._router(self.dialer) if self._router is not None else None,
            backends=self.backends,
            browsers=self._browsers,
            recorder=self._recorder,
            registry=self.registry,
            governor=self._governor,
        )
        await self.gateway.start("127.0.0.1", 0)
        self.port = self.gateway.port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.gateway.close()
        await self._client.aclose()
        for client in self._clients:
            client.writer.close()
        await self.relay.__aexit__(kind, exc, trace)

    async def connect(self, *, receive_buffer: int | None = None) -> Client:
        """A fresh connection to the gateway.

        Args:
            receive_buffer: bytes that the client's kernel takes without it; small for one that reads slowly.
        """
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        limit = 2**16 if receive_buffer is None else receive_buffer
        client = Client(*await asyncio.open_connection(sock=sock, limit=limit))
        self._clients.append(client)
        return client

    def advance(self, seconds: float) -> None:
        """Let time pass, and the gateway see it."""
        self.clock.advance(seconds)
        self.gateway.tick()

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, without `homeport_gateway_`; 0 if it has none yet."""
        return self.registry.get_sample_value(f"homeport_gateway_{name}", labels) or 0.0

    async def turn(self, times: int = 50) -> None:
        """Let the loop turn, so that whatever would go on without being told to does."""
        for _ in range(times):
            await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until `condition` holds: for what nothing calls back about."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(0)


def request_head(
    method: str = "GET", path: str = "/", headers: str = "", *, device: str = "cam", service: str = "web"
) -> str:
    """The head of a request to a device's service, by the caller who may."""
    return f"{method} /d/home/{device}/{service}{path} HTTP/1.1\r\nHost: gw\r\n{BEARER}{headers}\r\n"


def ok(body: bytes = b"hello", *, headers: str = "") -> bytes:
    """A plain response."""
    return f"HTTP/1.1 200 OK\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answering(*responses: bytes) -> Service:
    """A service that gives these responses to the requests of a connection, the last one to all that follow."""

    async def serve(side: ServiceSide) -> None:
        number = 0
        while True:
            head = await side.read_head()
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if lengths:
                await side.read(int(lengths[0].partition(b":")[2]))
            await side.send(responses[min(number, len(responses) - 1)])
            number += 1

    return serve
