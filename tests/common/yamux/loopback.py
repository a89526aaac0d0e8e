"""A session on a TCP connection of this machine, driven by one loop, with the Go library at the other end."""

from __future__ import annotations

import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from common.yamux import (
    Buffer,
    Config,
    DataReceived,
    Event,
    GoAwayReceived,
    Pong,
    Role,
    Session,
    StreamClosed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from tests.golang import build

_PATIENCE = 60.0
"""Seconds without a byte after which a test gives up: far beyond anything that happens."""


@dataclass
class Heard:
    """What was heard on a stream."""

    received: bytearray = field(default_factory=bytearray)
    ended: bool = False
    closed: bool = False
    reset_code: int | None = None


class Loopback:
    """Our end. It consumes all that comes, and sends back what comes on streams that the peer opens."""

    def __init__(self, session: Session, connection: socket.socket, peer: subprocess.Popen[bytes]) -> None:
        self.session = session
        self.streams: dict[int, Heard] = {}
        self.others: list[Event] = []
        """Pong and GoAwayReceived."""
        self.reset_on: bytes | None = None
        """A stream of the peer's that says this is reset."""
        self.hold = False
        """Nothing is written; what the peer says is still read."""
        self._ours: set[int] = set()
        self._connection = connection
        self._peer = peer
        self._out: list[Buffer] = []
        self._answers = b""
        assert peer.stdout is not None
        connection.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._selector.register(peer.stdout, selectors.EVENT_READ)

    def open(self, content: bytes = b"", *, end: bool = False) -> int:
        """Open a stream and send on it."""
        stream_id = self.session.open_stream(time.monotonic())
        self.streams[stream_id] = Heard()
        self._ours.add(stream_id)
        self.session.send_data(stream_id, content)
        if end:
            self.session.end_stream(stream_id)
        return stream_id

    def ask(self, command: str) -> bytes:
        """Open a stream for that command, and return all that it answers."""
        stream_id = self.open(command.encode() + b"\n", end=True)
        self.run_until(lambda: self.streams[stream_id].closed)
        return bytes(self.streams[stream_id].received)

    def tell(self, command: str) -> None:
        """Give the Go program a command on its standard input."""
        assert self._peer.stdin is not None
        self._peer.stdin.write(command.encode() + b"\n")
        self._peer.stdin.flush()

    def answer(self) -> str:
        """The next line of its standard output, while bytes are carried."""
        self.run_until(lambda: b"\n" in self._answers)
        line, _, self._answers = self._answers.partition(b"\n")
        return line.decode()

    def run_until(self, done: Callable[[], bool]) -> None:
        """Carry bytes both ways until it is so."""
        progress = time.monotonic()
        while True:
            self._write()
            if done():
                return
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
            self._selector.modify(self._connection, wanted)
            ready = self._selector.select(timeout=1.0)
            now = time.monotonic()
            assert ready or now - progress < _PATIENCE, f"nothing moves: {self.session!r}"
            for key, mask in ready:
                progress = now
                if key.fileobj is not self._connection:
                    assert self._peer.stdout is not None
                    self._answers += self._peer.stdout.read1()
                elif mask & selectors.EVENT_READ:
                    data = self._connection.recv(262_144)
                    assert data, "the peer closed the connection"
                    for event in self.session.receive_data(data, now):
                        self._handle(event, now)

    def _write(self) -> None:
        while not self.hold:
            if not self._out:
                self._out = self.session.data_to_send(131_072)
                for event in self.session.events():
                    self._handle(event, 0.0)
                if not self._out:
                    return
            try:
                n = self._connection.send(self._out[0])
            except BlockingIOError:
                return
            if n == len(self._out[0]):
                del self._out[0]
            else:
                self._out[0] = memoryview(self._out[0])[n:]

    def _handle(self, event: Event, now: float) -> None:
        session = self.session
        if isinstance(event, Pong | GoAwayReceived):
            self.others.append(event)
            return
        stream_id = event.stream_id
        theirs = stream_id not in self._ours
        if isinstance(event, StreamOpened):
            self.streams[stream_id] = Heard()
        heard = self.streams[stream_id]
        if isinstance(event, DataReceived):
            heard.received += event.data
            session.consumed(stream_id, len(event.data), now)
            if theirs and heard.received == self.reset_on:
                session.reset_stream(stream_id, 4)
            elif theirs:
                session.send_data(stream_id, event.data)
        elif isinstance(event, StreamEnded):
            heard.ended = True
            if theirs:
                session.end_stream(stream_id)
        elif isinstance(event, StreamReset):
            heard.reset_code = event.code
        elif isinstance(event, StreamClosed):
            heard.closed = True


@contextmanager
def loopback(role: Role, config: Config | None = None, *arguments: str) -> Iterator[Loopback]:
    """A session of ours in that role, and the Go program, started with those arguments, in the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [str(build("yamux-peer")), "-connect", f"127.0.0.1:{listener.getsockname()[1]}", *arguments]
        if role is Role.CLIENT:
            command.append("-server")
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with peer:
            listener.settimeout(_PATIENCE)
            connection, _ = listener.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                session = Session(role, config or Config(), now=time.monotonic())
                try:
                    yield Loopback(session, connection, peer)
                finally:
                    peer.kill()
