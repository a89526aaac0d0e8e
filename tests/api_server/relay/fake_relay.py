"""A relay's internal HTTP, scripted: real sockets on loopback, and behind each opened stream whatever a test says.

    async with FakeRelay() as relay:
        relay.online("cam", web=serve_web)        a device whose service `web` is the coroutine function `serve_web`
        relay.url, relay.key

A service is called with a `ServiceSide`, the far end of one stream: it reads what the client sent and writes what it
likes, in whatever pieces, and ends or resets it. Refusals are raised: any `HomeportError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httptools
import msgpack
import msgspec

from common.errors import HomeportError
from common.ids import DeviceId, SessionId, TeamId, new_session_id
from common.secret import Secret
from common.sessions.errors import DeviceOfflineError, ServiceRefusedError, SessionNotFoundError, SessionReplacedError
from common.sessions.interfaces import SessionState, Summary

__all__ = ["HOME", "FakeDevice", "FakeRelay", "Service", "ServiceSide", "read_request"]

HOME = TeamId("home")

_PATIENCE = 20.0
"""Seconds after which a test that waits has failed."""


class ServiceSide:
    """The far end of a stream, as the device's service has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
        self.reader = reader
        self.writer = writer
        self.opened_with = headers
        """Headers of the open, by lower-case name."""
        self.ended = False
        """Whether this side has half-closed."""

    async def read_head(self) -> bytes:
        """The next request head, with its empty line."""
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.readexactly(size)

    async def read_to_end(self) -> bytes:
        """All bytes up to the client's end of the stream.

        Raises:
            ConnectionResetError: it was reset.
        """
        async with asyncio.timeout(_PATIENCE):
            return await self.reader.read()

    async def was_reset(self) -> bool:
        """Whether the stream ends by a reset; waits for its end."""
        try:
            await self.read_to_end()
        except ConnectionResetError:
            return True
        return False

    async def send(self, *pieces: bytes) -> None:
        """Write pieces one by one; each leaves before the next is written.

        Raises:
            ConnectionError: the stream is over.
        """
        for piece in pieces:
            if self.writer.is_closing():
                raise ConnectionResetError("the stream is over")
            self.writer.write(piece)
            async with asyncio.timeout(_PATIENCE):
                await self.writer.drain()

    def end(self) -> None:
        """Half-close."""
        self.ended = True
        self.writer.write_eof()

    def reset(self) -> None:
        """Reset the stream."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Service = Callable[[ServiceSide], Awaitable[None]]


class FakeDevice:
    """A device with a live session."""

    def __init__(self, name: str, team: TeamId, services: dict[str, Service], epoch: int) -> None:
        self.name = name
        self.team = team
        self.services = services
        self.session_id: SessionId = new_session_id()
        self.epoch = epoch

    def summary(self, state: SessionState = SessionState.HEALTHY) -> Summary:
        """What a list shows of it."""
        return Summary(
            id=self.session_id,
            device=DeviceId(f"id-of-{self.name}"),
            device_name=self.name,
            team=self.team,
            relay="fake",
            epoch=self.epoch,
            state=state,
            connected_at=1.0,
            last_heartbeat=2.0,
            rtt_ms=3.5,
            streams=0,
            bytes_in=0,
            bytes_out=0,
            subprotocol="homeport.v1",
            remote_address="192.0.2.1",
            agent_version="1.0",
            services=dict.fromkeys(self.services, "healthy"),
        )


class _Head:
    """httptools' callbacks for a request head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()


def read_request(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers (by lower-case name; the last of each) of a request head."""
    reader = _Head()
    parser = httptools.HttpRequestParser(reader)
    with contextlib.suppress(httptools.HttpParserUpgrade):
        parser.feed_data(head)
    return parser.get_method().decode(), reader.url.decode(), reader.headers


class FakeRelay:
    """The relay. Use it as an async context manager."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.key = Secret("internal-key-of-the-fake-relay")
        self.devices: list[FakeDevice] = []
        self.requests: list[tuple[str, str]] = []
        """Method and target of each call of the control API."""
        self.opens: list[dict[str, str]] = []
        """Headers of each open."""
        self.revocations: list[tuple[str, dict[str, Any]]] = []
        self.refusal: HomeportError | None = None
        """Answer of every open from now on."""
        self.answers: dict[str, bytes] = {}
        """Raw answers to a path, instead of the proper one."""
        self.answer_now = asyncio.Event()
        """Opens are answered while it is set."""
        self.answer_now.set()
        self.find_now = asyncio.Event()
        """Lists are answered while it is set."""
        self.find_now.set()
        self.ready = True
        self._events: list[bytes] = []
        self._event_added = asyncio.Event()
        self._breaks = 0
        self._tls = tls
        self._epoch = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._errors: list[BaseException] = []

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> FakeRelay:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if exc is None and self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """Stop listening."""
        self._server.close()

    def online(self, name: str, *, team: TeamId = HOME, **services: Service) -> FakeDevice:
        """A device dials in, taking over from an older session of its own."""
        self.devices = [device for device in self.devices if (device.name, device.team) != (name, team)]
        self._epoch += 1
        device = FakeDevice(name, team, services, self._epoch)
        self.devices.append(device)
        return device

    def offline(self, device: FakeDevice) -> None:
        """Its session is over."""
        self.devices.remove(device)

    def tell(self, kind: str, summary: Summary, *, event_id: str, reason: str | None = None) -> None:
        """Send an event to whoever follows."""
        event = {"id": event_id, "type": kind, "time": 5.0, "team": summary.team, "session": summary}
        if reason is not None:
            event["reason"] = reason
        self.tell_raw(f"id: {event_id}\nevent: {kind}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n")

    def tell_raw(self, text: bytes) -> None:
        """Send bytes of an event stream."""
        self._events.append(text)
        self._event_added.set()

    def break_events(self) -> None:
        """End the event streams of all who follow."""
        self._breaks += 1
        self._event_added.set()

    async def wait_opens(self, number: int) -> None:
        """Return once so many streams were asked for."""
        await self._until(lambda: len(self.opens) >= number)

    async def wait_requests(self, number: int) -> None:
        """Return once the control API was called so many times."""
        await self._until(lambda: len(self.requests) >= number)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE), self._changed:
            await self._changed.wait_for(condition)

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # The server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, headers = read_request(head)
                if target.endswith("/streams"):
                    await self._open(target, headers, reader, writer)
                    return
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                await self._control(method, target, headers, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as exc:
            self._errors.append(exc)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _open(
        self, target: str, headers: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.opens.append(headers)
        await self._note()
        await self.answer_now.wait()
        try:
            service = self._find_service(target, headers)
        except HomeportError as exc:
            self._answer_problem(writer, exc)
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: homeport-stream\r\n\r\n")
        await service(ServiceSide(reader, writer, headers))

    def _find_service(self, target: str, headers: dict[str, str]) -> Service:
        if headers.get("authorization") != f"Bearer {self.key.reveal()}":
            raise _WrongKeyError
        if self.refusal is not None:
            raise self.refusal
        session_id = target.split("/")[3]
        for device in self.devices:
            if device.session_id == session_id and device.team == headers["homeport-team"]:
                break
        else:
            raise SessionNotFoundError
        if "homeport-epoch" in headers and int(headers["homeport-epoch"]) != device.epoch:
            raise SessionReplacedError
        service = device.services.get(headers["homeport-service"])
        if service is None:
            raise ServiceRefusedError(f"no service {headers['homeport-service']}")
        return service

    async def _control(
        self, method: str, target: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> None:
        self.requests.append((method, target))
        await self._note()
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path in self.answers:
            writer.write(self.answers[url.path])
        elif url.path == "/readyz":
            writer.write(b"HTTP/1.1 %d .\r\nContent-Length: 0\r\n\r\n" % (200 if self.ready else 503))
        elif headers.get("authorization") != f"Bearer {self.key.reveal()}":
            self._answer_problem(writer, _WrongKeyError())
        elif url.path == "/internal/events":
            await self._send_events(writer, headers.get("last-event-id"))
        elif url.path.startswith("/internal/revocations/"):
            self.revocations.append((unquote(url.path.rpartition("/")[2]), msgpack.unpackb(body)))
            self._answer(writer, {"closed": 1})
        else:
            await self.find_now.wait()
            self._sessions(method, url.path, query, writer)

    def _sessions(self, method: str, path: str, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        found = [device for device in self.devices if device.team == query["team"]]
        if path == "/internal/sessions":
            if "device" in query:
                wanted = query["device"]
                found = [device for device in found if wanted in (device.name, f"id-of-{device.name}")]
            self._answer(writer, {"items": [device.summary() for device in found], "next": None})
            return
        found = [device for device in found if device.session_id == path.rpartition("/")[2]]
        if method == "DELETE":
            closed = [device for device in found if int(query.get("epoch", device.epoch)) == device.epoch]
            for device in closed:
                self.offline(device)
            self._answer(writer, {"closed": bool(closed)})
        elif found:
            self._answer(writer, found[0].summary())
        else:
            self._answer_problem(writer, SessionNotFoundError())

    async def _send_events(self, writer: asyncio.StreamWriter, last_event_id: str | None) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        sent, breaks = 0, self._breaks
        if last_event_id is not None:
            marker = f"id: {last_event_id}\n".encode()
            sent = next((i + 1 for i, event in enumerate(self._events) if marker in event), 0)
        while True:
            self._event_added.clear()
            if self._breaks != breaks:
                raise ConnectionResetError("the stream of events is broken off")
            for event in self._events[sent:]:
                sent += 1
                writer.write(event)
            await writer.drain()
            await self._event_added.wait()

    @staticmethod
    def _answer(writer: asyncio.StreamWriter, value: object) -> None:
        body = msgpack.packb(msgspec.to_builtins(value))
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/msgpack\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )

    @staticmethod
    def _answer_problem(writer: asyncio.StreamWriter, error: HomeportError) -> None:
        body = msgpack.packb(error.problem())
        retry_after = f"Retry-After: {error.retry_after:.0f}\r\n" if error.retry_after is not None else ""
        head = (
            f"HTTP/1.1 {error.status} .\r\nContent-Type: application/msgpack\r\n{retry_after}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)


class _WrongKeyError(DeviceOfflineError):
    """The internal key is wrong: a code that no client knows."""

    code = "unauthenticated"
    status = 401
