"""A TCP proxy that harms what passes, by a script; on a thread of its own, or as a process.

    with ChaosProxy(("127.0.0.1", 3801), "both delay 50ms; #1 down stall at 65536", name="gateway-relay") as proxy:
        dial(proxy.address)
        proxy.apply("up reset")     # now, whatever the script says

`ChaosProxy.apply` works on the connections that are open, `ChaosProxy.script` on those to come. What was done is in
`ChaosProxy.journal()`, and `str(proxy)` is what to print when a test fails: the script with its seed, and the journal.

Delay is a delay and no limit: a line holds up to `LINE` bytes under way in each direction, so that 2 s at full speed
pass. A stall stops reading as well, so that the sender's buffers fill as behind a dead link; neither FIN nor RST of
the stalled side gets through. Sizes of writes are exact as long as the receiver keeps up.

As a process, `python -m tests.faults.chaos --to HOST:PORT [--script TEXT]` says `{"address": "HOST:PORT"}` when it
listens, and ends on SIGTERM; `chaos_process` starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.faults.line import LINE, Line, Note
from tests.faults.script import Direction, Script
from tests.stack.process import Process

__all__ = ["LINE", "Address", "ChaosProxy", "Entry", "Passed", "chaos_process"]

Address = tuple[str, int]
_T = TypeVar("_T")
_ROOT = Path(__file__).parents[2]
_RESET = struct.pack("ii", 1, 0)
"""struct linger: on, for no time, which makes close() send RST."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was done."""

    seconds: float
    """Since the connection was made."""
    connection: int
    direction: Direction
    offset: int
    """Bytes of the direction that had passed."""
    what: str

    def __str__(self) -> str:
        return f"{self.seconds:9.3f}s #{self.connection} {self.direction:4} {self.offset:>10} B: {self.what}"


@dataclass(frozen=True, slots=True)
class Passed:
    """What has passed on a connection."""

    up: int
    """Bytes written to the target."""
    down: int
    """Bytes written to who dialled."""
    open: bool
    head: bytes
    """The first 2 KiB that who dialled has sent."""


class _Connection:
    """Two sockets and a line each way."""

    def __init__(self, proxy: ChaosProxy, number: int, near: socket.socket, far: socket.socket) -> None:
        self._proxy = proxy
        self._sockets = (near, far)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._pumps: list[asyncio.Future[None]] = []
        self._reset = False
        self.open = True
        script = proxy.script
        self.lines = {
            direction: Line(
                source,
                sink,
                steps=script.of_connection(number, direction),
                rng=partial(script.rng, number, direction),
                note=self._noted(number, direction),
                on_reset=self.reset,
                on_broken=partial(self._broken, direction),
                size=proxy.line,
            )
            for direction, source, sink in ((Direction.UP, near, far), (Direction.DOWN, far, near))
        }

    def _noted(self, number: int, direction: Direction) -> Note:
        def note(offset: int, what: str) -> None:
            self._proxy.note(Entry(self._loop.time() - self._began, number, direction, offset, what))

        return note

    def _broken(self, direction: Direction) -> None:
        other = Direction.DOWN if direction is Direction.UP else Direction.UP
        self.lines[other].source_broken = True

    async def run(self) -> None:
        """Until both directions have ended, or a reset."""
        pumps = self._pumps
        try:
            if not self._reset:
                pumps += [asyncio.ensure_future(pump()) for line in self.lines.values() for pump in line.pumps]
                await asyncio.wait(pumps)
            for pump in pumps:
                if not pump.cancelled():
                    pump.result()
        finally:
            self.open = False
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for line in self.lines.values():
                line.close()
            for each in self._sockets:
                each.close()

    def reset(self) -> None:
        """Send RST to both ends."""
        self._reset = True
        for each in self._sockets:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        for pump in self._pumps:
            pump.cancel()


class ChaosProxy:
    """See the module. Every method may be called from any thread.

    Args:
        target: where to connect for each connection that is made to us; may be changed.
        script: for the connections to come; the one in the environment (`HOMEPORT_CHAOS`) goes before it.
        seed: of everything random, unless the script names one.
        name: for messages.
        listen: address to listen on; port 0 for any.
        line: bytes under way in each direction of a connection, at most.
        socket_buffer: SO_RCVBUF and SO_SNDBUF of our sockets; None for the system's. Small ones make a stall felt soon.
        environ: may hold a script to replay.
    """

    def __init__(
        self,
        target: Address,
        script: Script | str = "",
        *,
        seed: int = 0,
        name: str = "chaos",
        listen: Address = ("127.0.0.1", 0),
        line: int = LINE,
        socket_buffer: int | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._environ = environ
        self.name = name
        self.target = target
        self.line = line
        self._seed = seed
        self._script = self._read(script).or_replayed(self._environ)
        self._buffer = socket_buffer
        self._connections: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._journal: list[Entry] = []
        self._listener = socket.create_server(listen)
        self._listener.setblocking(False)
        self._size_buffers(self._listener)
        self.host, self.port = self._listener.getsockname()[:2]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    @property
    def address(self) -> str:
        """HOST:PORT to dial."""
        return f"{self.host}:{self.port}"

    @property
    def script(self) -> Script:
        """For the connections to come."""
        return self._script

    @script.setter
    def script(self, script: Script | str) -> None:
        self._script = self._read(script).or_replayed(self._environ)

    def _read(self, script: Script | str) -> Script:
        if isinstance(script, Script):
            return script
        parsed = Script.parse(script)
        return parsed if script.lstrip().startswith("seed ") else Script(parsed.steps, self._seed)

    def apply(self, steps: str) -> None:
        """Take steps now on the connections that are open; `at` and `after` count from now.

        A step is dropped by a connection in whose direction nothing passes any more.
        """
        taken = Script.parse(steps).steps

        def take() -> None:
            for number, connection in enumerate(self._connections, 1):
                for step in taken:
                    if connection.open and step.connection in (0, number):
                        for direction in step.direction.parts():
                            connection.lines[direction].take(step, self._script.rng(number, direction, "calls"))

        self._call(take)

    def connections(self) -> tuple[Passed, ...]:
        """All that there were, in the order in which they were made."""

        def look() -> tuple[Passed, ...]:
            return tuple(
                Passed(up.written, down.written, each.open, up.head)
                for each in self._connections
                for up, down in [each.lines.values()]
            )

        return self._call(look)

    def journal(self) -> tuple[Entry, ...]:
        """What was done, in order."""
        return self._call(lambda: tuple(self._journal))

    def note(self, entry: Entry) -> None:
        """Add to the journal; from connections only."""
        self._journal.append(entry)

    def __str__(self) -> str:
        entries = "".join(f"\n  {entry}" for entry in self._journal[-200:])
        return f'chaos proxy {self.name}: HOMEPORT_CHAOS="{self._script}"{entries}'

    def start(self) -> Self:
        """Begin to accept."""
        self._thread.start()
        self._call(lambda: self._spawn(self._accept()))
        return self

    def close(self) -> None:
        """Close every connection, in order, and end the thread; once more does nothing."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
        self._listener.close()

    def _call(self, function: Callable[[], _T]) -> _T:
        if not self._thread.is_alive():
            return function()

        async def call() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(30)

    def _spawn(self, what: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _cancel_all(self) -> None:
        own = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listener)
            self._spawn(self._serve(near))

    async def _serve(self, near: socket.socket) -> None:
        far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        far.setblocking(False)
        self._size_buffers(far)
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._loop.sock_connect(far, self.target)
        except OSError:
            # As who dials the target itself would find: refused.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            near.close()
            far.close()
            return
        except BaseException:
            near.close()
            far.close()
            raise
        connection = _Connection(self, len(self._connections) + 1, near, far)
        self._connections.append(connection)
        await connection.run()

    def _size_buffers(self, each: socket.socket) -> None:
        if self._buffer is not None:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def chaos_process(folder: Path, target: str, script: str = "") -> Iterator[str]:
    """A proxy as a process, for measurements that must not share ours; HOST:PORT of it.

    Args:
        folder: for its log.
        target: HOST:PORT.
        script: see `tests.faults.script`.
    """
    command = [sys.executable, "-m", "tests.faults.chaos", "--to", target, "--script", script]
    with Process("chaos", command, folder=folder, environment={"PYTHONPATH": str(_ROOT)}, json_output=True) as process:
        yield str(process.read_json()["address"])


def main() -> None:
    """The command of the module."""
    parser = argparse.ArgumentParser(description="A TCP proxy that harms what passes.")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--script", default="", metavar="TEXT", help="see tests/faults/script.py")
    arguments = parser.parse_args()
    host, _, port = arguments.to.rpartition(":")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with ChaosProxy((host, int(port)), arguments.script) as proxy:
        print(json.dumps({"address": proxy.address}), flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
