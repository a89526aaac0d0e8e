"""One request through the relay, as the gateway makes it, held byte by byte against what it must give."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import trio

from common.ids import ServiceName
from common.sessions.errors import SessionStoreError
from common.sessions.interfaces import OpenOptions
from common.tunnel.errors import StreamLostError
from common.tunnel.stream import Buffer, ResetCode, Stream, StreamSink
from remote_proxy.tunnels.session import LiveTunnel
from tests.simulation.services import Wish, content, digest

__all__ = ["Client", "Kind", "Outcome", "Request"]

OPEN_TIMEOUT = 10.0
PATIENCE = 150.0
"""Simulated seconds after which a request is taken to hang. The slowest that a scenario makes takes about a third."""

PAUSES = 20
"""How often a slow reader stops, at most."""


class Kind(StrEnum):
    """What a request does."""

    ECHO = "echo"
    UPLOAD = "upload"
    SLOW_UPLOAD = "slow upload"
    """To a service that is slow to read."""
    DOWNLOAD = "download"
    EVENTS = "events"
    SLOW = "slow"
    """A download whose reader stops again and again."""
    ABORT = "abort"
    """A download that the client gives up."""
    FLAKY = "flaky"
    """A service that hangs up."""
    REFUSED = "refused"
    UNKNOWN = "unknown"
    TARPIT = "tarpit"


_SERVICES = {
    Kind.ECHO: "echo",
    Kind.UPLOAD: "sink",
    Kind.SLOW_UPLOAD: "slow-sink",
    Kind.FLAKY: "flaky",
    Kind.REFUSED: "closed",
    Kind.UNKNOWN: "no-such-service",
    Kind.TARPIT: "tarpit",
}
_REFUSALS = {
    Kind.REFUSED: "service_refused",
    Kind.UNKNOWN: "service_refused",
    Kind.TARPIT: "service_timeout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for."""

    number: int
    device: int
    at: float
    """Seconds."""
    kind: Kind
    start: int = 0
    """Which content."""
    size: int = 0
    piece: int = 16 * 1024
    """Bytes written at once by whoever sends the bulk."""
    pause: float = 0.0
    """Seconds between two pieces of events, or before a slow reader reads on."""
    cut: int = 0
    """Bytes after which the client gives up."""
    early_eof: bool = False
    """The client ends its side before it reads the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request ended."""

    request: Request
    ok: bool
    """As it does on a device that nothing happens to."""
    code: str
    """`completed`, or the code of its failure."""
    opened: bool
    started: float
    ended: float
    wrong: str = ""
    """What must never happen, whatever else does."""


class Client(StreamSink):
    """Makes a request. Implements `StreamSink`.

    Args:
        request: what to ask for.
        rng: for the sizes of what is written.
    """

    def __init__(self, request: Request, rng: random.Random) -> None:
        self._request = request
        self._rng = rng
        data = content(request.start, request.size)
        match request.kind:
            case Kind.UPLOAD | Kind.SLOW_UPLOAD:
                self._send, self._expected = data, memoryview(digest(data))
            case Kind.ECHO:
                self._send, self._expected = data, data
            case Kind.REFUSED | Kind.UNKNOWN | Kind.TARPIT:
                self._send, self._expected = data, data[:0]
            case _:
                pause = request.pause if request.kind is Kind.EVENTS else 0.0
                wish = Wish(request.start, request.size, request.piece, pause).pack()
                self._send, self._expected = memoryview(wish), data
        if request.kind is Kind.FLAKY:
            self._send = memoryview(bytes(self._send) + b"unread" * 200)
        self._stream: Stream | None = None
        self._failure: SessionStoreError | None = None
        self._received = 0
        self._wrong = ""
        self._eof = False
        self._over = False
        self._error: Exception | None = None
        self._may_write = True
        self._paused = False
        self._pause_at = 0
        self._changed = trio.Event()

    async def run(self, find: Callable[[], LiveTunnel | None]) -> Outcome:
        """Make the request.

        Args:
            find: the device's session, if it has one.
        """
        started = trio.current_time()
        with trio.move_on_after(PATIENCE) as patience:
            await self._run(find)
        if patience.cancelled_caught:
            self._wrong = (
                self._wrong or f"hangs after {self._received} of {len(self._expected)} bytes: {self._stream!r}"
            )
            if self._stream is not None:
                self._stream.reset()
        code = "completed" if self._whole else self._code()
        return Outcome(
            request=self._request,
            ok=self._as_it_should(code),
            code=code,
            opened=self._stream is not None,
            started=started,
            ended=trio.current_time(),
            wrong=self._wrong,
        )

    async def _run(self, find: Callable[[], LiveTunnel | None]) -> None:
        tunnel = find()
        if tunnel is None:
            return
        name = ServiceName(_SERVICES.get(self._request.kind, "source"))
        try:
            tunnel.open_nowait(name, self, OpenOptions(timeout=OPEN_TIMEOUT), self._opened)
        except SessionStoreError as exc:
            self._failure = exc
            return
        await self._until(lambda: self._stream or self._failure)
        if self._stream is None:
            return
        await self._write(self._stream)
        if self._request.kind in (Kind.ECHO, Kind.UPLOAD, Kind.SLOW_UPLOAD) or self._request.early_eof:
            self._stream.write_eof()
        while not self._over:
            await self._until(lambda: self._over or self._eof or self._paused)
            if self._eof:
                self._stream.write_eof()
                await self._until(lambda: self._over)
            elif self._paused:
                await trio.sleep(self._request.pause)
                self._paused = False
                self._stream.resume_reading()

    async def _write(self, stream: Stream) -> None:
        rest = self._send
        while rest and not self._over:
            await self._until(lambda: self._may_write or self._over)
            size = self._rng.randint(1, self._request.piece * 2)
            stream.write(rest[:size])
            rest = rest[size:]
            if self._rng.random() < 0.1:
                await trio.lowlevel.checkpoint()

    async def _until(self, holds: Callable[[], object]) -> None:
        while not holds():
            self._changed = trio.Event()
            await self._changed.wait()

    @property
    def open(self) -> bool:
        """Whether its stream is."""
        return self._stream is not None and not self._over

    def __repr__(self) -> str:
        return f"<Client {self._request} {self._received} of {len(self._expected)} bytes, {self._stream!r}>"

    @property
    def _whole(self) -> bool:
        return self._eof and self._over and self._error is None and self._received == len(self._expected)

    def _code(self) -> str:
        if self._failure is not None:
            return self._failure.code
        if isinstance(self._error, StreamLostError):
            return f"reset {self._error.reset_code.name.lower()}"
        if self._stream is None:
            return "device_offline"
        if not self._over:
            return "hangs"
        if self._error is None and self._request.kind is Kind.FLAKY:
            return "cut"
        self._wrong = self._wrong or f"ended with {self._error!r} after {self._received} of {len(self._expected)} bytes"
        return "uncoded"

    def _as_it_should(self, code: str) -> bool:
        kind = self._request.kind
        if kind in _REFUSALS:
            return code == _REFUSALS[kind]
        if kind is Kind.FLAKY:
            return self._stream is not None
        if kind is Kind.ABORT:
            return code == "reset cancelled"
        return code == "completed"

    # What the relay calls.

    def _opened(self, result: Stream | SessionStoreError) -> None:
        if isinstance(result, SessionStoreError):
            self._failure = result
        else:
            self._stream = result
        self._changed.set()

    def data_received(self, data: Buffer) -> None:
        if self._over or self._eof:
            self._wrong = self._wrong or "bytes after the end"
        size = len(data)
        if data != self._expected[self._received : self._received + size]:
            self._wrong = self._wrong or f"wrong bytes within {size} after {self._received} of {len(self._expected)}"
        self._received += size
        assert self._stream is not None
        if self._request.kind is Kind.ABORT and self._received >= self._request.cut:
            self._stream.reset(ResetCode.CANCELLED)
        elif self._request.kind is Kind.SLOW and not self._paused and self._received >= self._pause_at:
            self._pause_at = self._received + self._request.size // PAUSES
            self._paused = True
            self._stream.pause_reading()
            self._changed.set()

    def eof_received(self) -> None:
        if self._eof or self._over:
            self._wrong = self._wrong or "a second end"
        self._eof = True
        if self._received < len(self._expected) and self._request.kind is not Kind.FLAKY:
            self._wrong = self._wrong or f"an orderly end after {self._received} of {len(self._expected)} bytes"
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._over:
            self._wrong = self._wrong or "lost twice"
        self._over = True
        self._error = exc
        self._changed.set()

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._changed.set()
