"""A proxy between two processes that keeps back one answer: the one to what it was told to wait for.

Whoever should have got the answer can then be killed at a moment that is not a matter of luck: the other side has done
what it was asked, and nobody has heard of it.
"""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["HoldingProxy", "holding_proxy", "socket_like"]


class HoldingProxy:
    """Forwards connections, each way in a thread.

    Args:
        listener: where it accepts.
        connect: makes a connection to the other side.
        after: what a client must send on one connection, in this order, for the answer to be kept back. That is done
            once; whatever comes later passes.
    """

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket], after: Sequence[bytes]) -> None:
        self._listener = listener
        self._connect = connect
        self._after = tuple(after)
        self._lock = threading.Lock()
        self._taken = False
        self._held = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def wait_until_held(self) -> None:
        """Wait until the other side has answered, and the answer was kept back."""
        assert self._held.wait(60), "no answer to keep back"

    def close(self) -> None:
        """End every connection, and the threads."""
        with self._lock:
            ends = [self._listener, *self._open]
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()  # the other side is not there now
                continue
            with self._lock:
                self._open += [client, server]
            holding = threading.Event()
            self._start(self._forward_questions, client, server, holding)
            self._start(self._forward_answers, server, client, holding)

    def _forward_questions(self, client: socket.socket, server: socket.socket, holding: threading.Event) -> None:
        said, awaited = b"", list(self._after)
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                said += data
                while awaited and (at := said.find(awaited[0])) >= 0:
                    said = said[at + len(awaited.pop(0)) :]
                if not awaited:
                    with self._lock:
                        if not self._taken:
                            self._taken = True
                            holding.set()
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _forward_answers(self, server: socket.socket, client: socket.socket, holding: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if holding.is_set():
                    self._held.set()
                else:
                    client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def holding_proxy(
    listener: socket.socket, connect: Callable[[], socket.socket], *, after: Sequence[bytes]
) -> Iterator[HoldingProxy]:
    """A proxy until the block ends."""
    listener.listen()
    proxy = HoldingProxy(listener, connect, after)
    try:
        yield proxy
    finally:
        proxy.close()


@contextmanager
def socket_like(original: Path) -> Iterator[tuple[socket.socket, Path]]:
    """A Unix socket of the same name in a folder of its own; its path has to be short."""
    with tempfile.TemporaryDirectory(prefix="homeport-proxy-", dir="/tmp") as folder:
        path = Path(folder) / original.name
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        yield listener, path
