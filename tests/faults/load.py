"""Traffic of every kind through the gateways, all the time, each piece of it with what became of it.

    with Load() as load:
        load.small("api1", gateway, "cam", connections=4)
        load.events("api1", gateway, "cam")
        load.wait_progress()
        mark = load.mark()
        ...                                   # a fault
        assert load.since(mark).failures("small") == []

The clients behave as RFC 9110 section 9.2.2 and RFC 9112 section 9.3.1 ask: a GET on a connection that was used before
and ended without a byte of the answer is sent again, once, on a new one. That is no failure, and is counted apart. All
else that is not the whole and right answer is a failure, with the code that the client saw:

    502 device_offline     the gateway said so (status and code of the problem)
    refused, reset, cut    no connection; it was reset; it ended in the middle
    silent                 nothing came for `PATIENCE` seconds
    wrong                  other bytes than were sent: never right, whatever the fault
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from homeport.demo.keystream import keystream

__all__ = ["PATIENCE", "Load", "Outcome", "Report"]

PATIENCE = 60.0
"""Seconds without a byte after which a client calls it a hang."""
_PAUSE = 0.05
"""Seconds between two requests of one client, so that the load fills no processor."""
_AFTER_FAILURE = 0.1
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, stream or message."""

    kind: str
    gateway: str
    """The name that was given to it."""
    device: str
    began: float
    """Monotonic time."""
    ended: float
    result: str
    """`ok`, or as the module says."""
    again: bool = False
    """It was sent again, because a connection in use had ended."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


class Report:
    """What became of the traffic of some time."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes

    def of(self, kind: str | None = None, *, gateway: str | None = None, device: str | None = None) -> Report:
        """The part of one kind, gateway or device."""
        return Report(
            [
                each
                for each in self.outcomes
                if kind in (None, each.kind) and gateway in (None, each.gateway) and device in (None, each.device)
            ]
        )

    def results(self) -> Counter[str]:
        """How often each result came."""
        return Counter(each.result for each in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """Those that were not `ok`, for people."""
        return [
            f"{each.kind} by {each.gateway} to {each.device} after {each.seconds:.1f} s: {each.result}"
            for each in self.outcomes
            if each.result != "ok"
        ]

    @property
    def ok(self) -> int:
        """How many were."""
        return sum(each.result == "ok" for each in self.outcomes)

    @property
    def again(self) -> int:
        """How many had to be sent again."""
        return sum(each.again for each in self.outcomes)

    @property
    def slowest(self) -> float:
        """Seconds of the slowest that was answered well."""
        return max((each.seconds for each in self.outcomes if each.result == "ok"), default=0.0)

    def __str__(self) -> str:
        kinds = sorted({each.kind for each in self.outcomes})
        return "; ".join(f"{kind}: {dict(self.of(kind).results())}" for kind in kinds)


class _FailedError(Exception):
    """A client did not get what it should."""

    def __init__(self, result: str, *, untouched: bool = False) -> None:
        super().__init__(result)
        self.result = result
        self.untouched = untouched
        """No byte of an answer had come."""


class Load:
    """See the module.

    Args:
        token: of the API.
        team: of the devices.
    """

    def __init__(self, token: str, team: str = "home") -> None:
        self._token = token
        self._team = team
        self._outcomes: list[Outcome] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load", daemon=True)
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: Counter[tuple[str, str, str]] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # What there is

    def small(self, name: str, gateway: str, device: str, *, connections: int = 2, others: Sequence[str] = ()) -> None:
        """GET 512 bytes, again and again, on kept connections.

        Args:
            others: gateways to try when no connection to this one is to be had, as a load balancer would.
        """
        for _ in range(connections):
            self._start(lambda: self._small(name, [gateway, *others], device))

    def download(self, name: str, gateway: str, device: str, size: int) -> None:
        """Downloads of `size` bytes, one after the other; each byte is compared."""
        self._start(lambda: self._repeat("download", name, device, lambda: self._download(gateway, device, size)))

    def events(self, name: str, gateway: str, device: str, *, number: int) -> None:
        """Event streams; each is left after that many events, of which none may be missing."""
        self._start(lambda: self._repeat("events", name, device, lambda: self._events(gateway, device, number)))

    def websocket(self, name: str, gateway: str, device: str, *, messages: int) -> None:
        """WebSockets; each is closed after so many messages and echoes."""
        self._start(lambda: self._repeat("websocket", name, device, lambda: self._websocket(gateway, device, messages)))

    def raw_tcp(self, name: str, gateway: str, device: str, *, messages: int) -> None:
        """Raw TCP connections to the service `echo`; each is ended after so many messages and echoes."""
        self._start(lambda: self._repeat("raw_tcp", name, device, lambda: self._raw_tcp(gateway, device, messages)))

    def everything(self, name: str, gateway: str, device: str, *, seconds: float = 0.5, size: int = 1_000_000) -> None:
        """A little of each.

        Args:
            seconds: about how long an event stream, WebSocket or TCP connection lasts.
            size: of a download, bytes.
        """
        self.small(name, gateway, device)
        self.download(name, gateway, device, size)
        self.events(name, gateway, device, number=max(2, int(seconds / 0.1)))
        self.websocket(name, gateway, device, messages=max(2, int(seconds / _PAUSE)))
        self.raw_tcp(name, gateway, device, messages=max(2, int(seconds / _PAUSE)))

    # What became of it

    def mark(self) -> int:
        """A point in time, for `since`."""
        return len(self._outcomes)

    def since(self, mark: int = 0) -> Report:
        """What has ended since then."""
        return Report(self._outcomes[mark:])

    def wait(
        self, condition: Callable[[Report], object], what: str, *, since: int = 0, seconds: float = 60.0
    ) -> Report:
        """Look until `condition` holds of what has ended since then.

        Raises:
            AssertionError: it did not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while not condition(report := self.since(since)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not {what} within {seconds:.0f} s: {report}; {report.failures[-10:]}")
            time.sleep(0.02)
        return report

    def wait_all_well(self, *, since: int | None = None, each: int = 2, seconds: float = 60.0) -> Report:
        """Wait until each client's kind, gateway and device has had so many good ends since then (now)."""
        mark = self.mark() if since is None else since
        wanted = set(self._under_way)

        def well(report: Report) -> bool:
            ends = Counter((e.kind, e.gateway, e.device) for e in report.outcomes if e.result == "ok")
            return all(ends[one] >= each for one in wanted)

        return self.wait(well, "all well", since=mark, seconds=seconds)

    # The clients

    def _start(self, client: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await client()

        async def start() -> None:
            self._tasks.append(asyncio.get_running_loop().create_task(run()))

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(30)

    def _note(self, kind: str, name: str, device: str, began: float, result: str, *, again: bool = False) -> None:
        self._outcomes.append(Outcome(kind, name, device, began, time.monotonic(), result, again))

    async def _repeat(self, kind: str, name: str, device: str, once: Callable[[], Awaitable[None]]) -> None:
        self._under_way[kind, name, device] += 1
        while True:
            began = time.monotonic()
            try:
                with _named_failures():
                    await once()
            except _FailedError as exc:
                self._note(kind, name, device, began, exc.result)
                await asyncio.sleep(_AFTER_FAILURE)
            else:
                self._note(kind, name, device, began, "ok")

    async def _small(self, name: str, gateways: Sequence[str], device: str) -> None:
        self._under_way["small", name, device] += 1
        expected = b"".join(keystream(0, 512))
        connection: _Connection | None = None
        turn = 0
        try:
            while True:
                began, again, result = time.monotonic(), False, "ok"
                refusals = 0
                while True:
                    used = connection is not None
                    try:
                        with _named_failures():
                            if connection is None:
                                connection = await _Connection.open(gateways[turn % len(gateways)])
                            await connection.ask(self._get(device, "/bytes/512"))
                            body = await connection.body()
                            if body != expected:
                                raise _FailedError("wrong")
                    except _FailedError as exc:
                        if connection is not None:
                            connection.close()
                            connection = None
                        if exc.untouched and used and not again:
                            again = True
                            continue
                        if exc.result == "refused" and refusals + 1 < len(gateways):
                            refusals += 1
                            turn += 1
                            continue
                        result = exc.result
                    break
                if connection is not None and not connection.persistent:
                    connection.close()
                    connection = None
                self._note("small", name, device, began, result, again=again)
                await asyncio.sleep(_PAUSE if result == "ok" else _AFTER_FAILURE)
        finally:
            if connection is not None:
                connection.close()

    async def _download(self, gateway: str, device: str, size: int) -> None:
        async with _connected(gateway) as connection:
            await connection.ask(self._get(device, f"/bytes/{size}"))
            if connection.length != size:
                raise _FailedError("wrong")
            for expected in keystream(0, size):
                if await connection.exactly(len(expected)) != expected:
                    raise _FailedError("wrong")

    async def _events(self, gateway: str, device: str, number: int) -> None:
        async with _connected(gateway) as connection:
            await connection.ask(self._get(device, "/clock"))
            for count in range(number):
                event = b""
                while not event.endswith(b"\n\n"):
                    event += await connection.chunk()
                if not event.startswith(b"id: %d\n" % count):
                    raise _FailedError("wrong")

    async def _websocket(self, gateway: str, device: str, messages: int) -> None:
        async with _connected(gateway) as connection:
            path = f"/d/{self._team}/{device}/web/echo"
            handshake = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            await connection.ask(self._request(path, f"Connection: Upgrade\r\nUpgrade: websocket\r\n{handshake}"), 101)
            for number in range(messages):
                text = b"%08d" % number
                mask = os.urandom(4)
                connection.send(
                    b"\x82"
                    + bytes([0x80 | len(text)])
                    + mask
                    + bytes(a ^ b for a, b in zip(text, mask * 2, strict=True))
                )
                if await connection.exactly(2 + len(text)) != b"\x82" + bytes([len(text)]) + text:
                    raise _FailedError("wrong")
                await asyncio.sleep(_PAUSE)
            connection.send(b"\x88\x80" + os.urandom(4))

    async def _raw_tcp(self, gateway: str, device: str, messages: int) -> None:
        async with _connected(gateway) as connection:
            path = f"/t/{self._team}/{device}/echo"
            await connection.ask(self._request(path, "Connection: Upgrade\r\nUpgrade: homeport-tcp\r\n"), 101)
            for number in range(messages):
                piece = b"%08d" % number * 128
                connection.send(piece)
                if await connection.exactly(len(piece)) != piece:
                    raise _FailedError("wrong")
                await asyncio.sleep(_PAUSE)
            connection.end()
            if await connection.rest():
                raise _FailedError("wrong")

    def _get(self, device: str, path: str) -> bytes:
        return self._request(f"/d/{self._team}/{device}/web{path}")

    def _request(self, path: str, more: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self._token}\r\n{more}\r\n".encode()


class _named_failures:  # noqa: N801 -- used like a function
    """Turns what a socket raises into a `_FailedError`."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, TimeoutError):
            raise _FailedError("silent") from exc
        if isinstance(exc, ConnectionRefusedError):
            raise _FailedError("refused") from exc
        if isinstance(exc, ConnectionError):
            raise _FailedError("reset") from exc
        if isinstance(exc, asyncio.IncompleteReadError):
            raise _FailedError("cut") from exc


class _Connection:
    """A client's connection to a gateway, and the response that is being read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._headers: dict[bytes, bytes] = {}
        self.persistent = True

    @classmethod
    async def open(cls, gateway: str) -> Self:
        """Connect."""
        parts = urlsplit(gateway)
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        return cls(reader, writer)

    def close(self) -> None:
        """Leave."""
        self._writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Send it, some time."""
        self._writer.write(data)

    def end(self) -> None:
        """Half-close."""
        self._writer.write_eof()

    @property
    def length(self) -> int:
        """Of the body, as it was declared."""
        return int(self._headers.get(b"content-length", b"0"))

    async def ask(self, request: bytes, status: int = 200) -> None:
        """Send a request and read the head of its response."""
        self.send(request)
        self.persistent = True
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as exc:
            raise _FailedError("cut", untouched=not exc.partial) from exc
        except ConnectionError as exc:
            raise _FailedError("reset", untouched=True) from exc
        first, *lines = head[:-4].split(b"\r\n")
        self._headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self.persistent = self._headers.get(b"connection", b"").lower() != b"close"
        answered = int(first.split()[1])
        if answered != status:
            code = ""
            if self._headers.get(b"content-type", b"").startswith(b"application/problem+json"):
                code = " " + json.loads(await self.body())["code"]
            self.persistent = False
            raise _FailedError(f"{answered}{code}")

    async def body(self) -> bytes:
        """All of it, by Content-Length."""
        return await self.exactly(self.length)

    async def exactly(self, size: int) -> bytes:
        """The next bytes."""
        parts = []
        while size:
            async with asyncio.timeout(PATIENCE):
                part = await self._reader.read(min(size, _PIECE))
            if not part:
                raise _FailedError("cut")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    async def chunk(self) -> bytes:
        """The next chunk of a body (RFC 9112 section 7.1)."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
        if not size:
            raise _FailedError("cut")
        return data[:-2]

    async def rest(self) -> bytes:
        """Up to the peer's end."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()


@asynccontextmanager
async def _connected(gateway: str) -> AsyncIterator[_Connection]:
    connection = await _Connection.open(gateway)
    try:
        yield connection
    finally:
        connection.close()
