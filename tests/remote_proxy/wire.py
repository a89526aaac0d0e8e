"""A raw TCP client for tests of what is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgpack

from tests.contract.relay_fixture import RunningRelay

__all__ = ["Answer", "RawClient", "connect", "open_stream", "stream_head", "undisturbed"]

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, its body read by Content-Length."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The body, if it is an error."""
        kind = self.headers["content-type"]
        found: dict[str, Any] = msgpack.unpackb(self.body) if kind.endswith("msgpack") else json.loads(self.body)
        assert found["status"] == self.status
        return found

    @property
    def code(self) -> str:
        return str(self.problem["code"])


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_answer(self) -> Answer:
        """The next response; a 101 has no body."""
        async with asyncio.timeout(_PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.readexactly(size)

    async def read_end(self) -> bytes:
        """Everything up to the peer's orderly end.

        Raises:
            ConnectionResetError: it ended by a reset.
        """
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.read()

    async def wait_closed_by_peer(self) -> None:
        """Wait until the peer has ended it, in whatever way."""
        with contextlib.suppress(ConnectionError):
            await self.read_end()

    def end(self) -> None:
        """Half-close."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Leave with a reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def connect(
    url: str, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
) -> AsyncIterator[RawClient]:
    """A connection to host and port of `url`.

    Args:
        receive_buffer: bytes that the kernel may hold unread (SO_RCVBUF); a small one makes back-pressure quick to see.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, (parts.hostname, parts.port))
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=tls, server_hostname=parts.hostname if tls is not None else None, limit=64 * 1024
    )
    client = RawClient(reader, writer)
    try:
        yield client
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def stream_head(relay: RunningRelay, changes: dict[str, str | None] | None = None, *, device: str = "cam") -> bytes:
    """The head of a stream request to the device's session; `changes` replaces headers, None leaves one out."""
    session = relay.store.lookup_device_nowait(relay.team, device)
    headers: dict[str, str | None] = {
        "Host": "relay",
        "Authorization": f"Bearer {relay.internal_key.reveal()}",
        "Connection": "Upgrade",
        "Upgrade": "homeport-stream",
        "Homeport-Team": relay.team,
        "Homeport-Service": "echo",
        **(changes or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value is not None)
    return f"POST /internal/sessions/{session.session_id}/streams HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


@contextlib.asynccontextmanager
async def open_stream(
    relay: RunningRelay,
    service: str = "echo",
    *,
    device: str = "cam",
    tls: ssl.SSLContext | None = None,
    receive_buffer: int | None = None,
) -> AsyncIterator[RawClient]:
    """A raw stream to a service of a device, through the internal port."""
    async with connect(relay.internal_url, tls=tls, receive_buffer=receive_buffer) as client:
        client.send(stream_head(relay, {"Homeport-Service": service}, device=device))
        answer = await client.read_answer()
        assert answer.status == 101, answer
        assert answer.headers["upgrade"] == "homeport-stream"
        assert answer.headers["connection"].lower() == "upgrade"
        yield client


@contextlib.asynccontextmanager
async def undisturbed(relay: RunningRelay) -> AsyncIterator[None]:
    """A stream that is open before and goes on after, and a tunnel that takes new ones."""
    device = await relay.attach("bystander")
    async with open_stream(relay, device="bystander") as stream:
        stream.send(b"before")
        assert await stream.read(6) == b"before"
        yield
        stream.send(b"after")
        assert await stream.read(5) == b"after"
        async with open_stream(relay, device="bystander") as another:
            another.send(b"new")
            assert await another.read(3) == b"new"
    assert device.lost is None
