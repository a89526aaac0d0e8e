"""What the gateway alone costs: CPU for small requests, with and without keep-alive, and for bulk both ways.

    python -m tests.bench.gateway_micro [small] [fresh] [varied] [bulk] [upload] [chunked] [--profile FILE]

Three processes: the gateway with its real authenticator and token; a stand-in for relay, device and service, which
answers the upgrade and then keep-alive requests on the same connection; and this one, which makes the load. The two
others share the machine's cores with the gateway, so CPU seconds are what to compare, not the wall clock.

`varied` sends a header field that differs each time and gets one that differs each time, so that no head is ever the
same as the one before it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import cast

import psutil
import uvloop

from api_server.auth.admin_token import AdminTokenAuthenticator
from api_server.gateway import Gateway
from api_server.relay import Forwarder, Location, ServiceDialer, SessionDirectory, StreamPool
from common.clock import SystemClock
from common.crypto.api_tokens import new_api_token
from common.guesses import GuessLimiter
from common.ids import SessionId, TeamId
from common.secret import Secret

_GIB = 1 << 30
_CONNECTIONS = 32
_REQUESTS = 40_000
_FRESH = 8_000
_ROUNDS = 3

_PAGE = b"x" * 200
_FIELDS = b"Server: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 00:00:00 GMT\r\nContent-Type: text/html\r\n"
_TAIL = b'Last-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\nConnection: keep-alive\r\nETag: "637c0000-c8"\r\n\r\n'
SMALL = b"HTTP/1.1 200 OK\r\n" + _FIELDS + b"Content-Length: %d\r\n" % len(_PAGE) + _TAIL + _PAGE
_BLOCK = bytes(256 * 1024)
_CHUNK = b"10000\r\n" + bytes(0x10000) + b"\r\n"


class Far(asyncio.Protocol):
    """Relay, device and service at once."""

    def __init__(self) -> None:
        self.opened = False
        self.left = 0
        """Bytes of an upload still to come."""
        self.source: Iterator[bytes] | None = None
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
            if self.left == 0:
                self.transport.write(SMALL)
        elif not self.opened:
            self.opened = True
            switching = b"HTTP/1.1 101 .\r\nConnection: Upgrade\r\nUpgrade: homeport-stream\r\n\r\n"
            self.transport.write(switching)
            rest = data.partition(b"\r\n\r\n")[2]
            if rest:
                self.data_received(rest)
        elif data.startswith(b"GET /small"):
            self.transport.write(SMALL)
        elif data.startswith(b"GET /varied"):
            self.number += 1
            self.transport.write(SMALL.replace(b"637c", b"%04x" % (self.number & 0xFFFF)))
        elif data.startswith(b"POST"):
            head, _, body = data.partition(b"\r\n\r\n")
            self.left = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]) - len(body)
        elif data.startswith(b"GET /bulk"):
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + _FIELDS + b"Content-Length: %d\r\n\r\n" % _GIB)
            self.source = (_BLOCK for _ in range(_GIB // len(_BLOCK)))
            self.resume_writing()
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + _FIELDS + b"Transfer-Encoding: chunked\r\n\r\n")
            blocks = (_CHUNK * 4 for _ in range(_GIB // 0x40000))
            self.source = (block for blocks_ in (blocks, iter((b"0\r\n\r\n",))) for block in blocks_)
            self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while self.source is not None and not self.paused:
            block = next(self.source, None)
            if block is None:
                self.source = None
            else:
                self.transport.write(block)


async def serve_far() -> None:
    """The process of the far side."""
    server = await asyncio.get_running_loop().create_server(Far, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def serve_gateway(relay_port: int, token: str) -> None:
    """The gateway's process."""
    clock = SystemClock()

    async def find(team: TeamId, device: str) -> Location:
        return Location(SessionId("ses_" + "0" * 32), 1)

    home = TeamId("home")
    forwarder = Forwarder(f"http://127.0.0.1:{relay_port}", key=Secret("key"))
    gateway = Gateway(
        authenticator=AdminTokenAuthenticator(Secret(token), home, clock=clock, guesses=GuessLimiter()),
        dialer=ServiceDialer(SessionDirectory(find, clock=clock), forwarder, StreamPool()),
        clock=clock,
    )
    await gateway.start("127.0.0.1", 0)
    print(gateway.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await gateway.close()


class Client(asyncio.Protocol):
    """Sends the next request when the response to the last one is complete."""

    def __init__(self, next_request: Callable[[], bytes | None], size: int, over: Callable[[], None]) -> None:
        self.next_request = next_request
        self.size = size
        self.left = 0
        self.over = over
        self.upload = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._next()

    def _next(self) -> None:
        request = self.next_request()
        if request is None:
            self.transport.close()
            self.over()
            return
        self.left = self.size
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left <= 0:
            assert self.left == 0 or self.size < 0, "a response of another length than expected"
            self._next()


class BulkClient(asyncio.Protocol):
    """Sends one request, with an upload of `upload` bytes, and reads until so many bytes of a response have come."""

    def __init__(self, request: bytes, upload: int, total: int, over: Callable[[], None]) -> None:
        self.request = request
        self.left_to_send = upload
        self.left = total
        self.over = over
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while self.left_to_send and not self.paused:
            self.transport.write(_BLOCK)
            self.left_to_send -= len(_BLOCK)

    def data_received(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left <= 0:
            self.transport.close()
            self.over()


class Bench:
    """The processes under load."""

    def __init__(self, gateway: subprocess.Popen[bytes], port: int, token: str) -> None:
        self.process = psutil.Process(gateway.pid)
        self.port = port
        self.fields = (
            b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"
            b"Authorization: Bearer %b\r\n" % (port, token.encode())
        )

    def cpu(self) -> float:
        """CPU seconds of the gateway so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def request(self, path: bytes, *, method: bytes = b"GET", extra: bytes = b"") -> bytes:
        """A request to the device's service."""
        return method + b" /d/home/cam/web" + path + self.fields + extra + b"\r\n"

    async def run(self, connections: int, factory: Callable[[Callable[[], None]], asyncio.Protocol]) -> float:
        """Wall seconds until every connection is over."""
        loop = asyncio.get_running_loop()
        left = connections
        finished = asyncio.Event()

        def over() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                finished.set()

        began = time.perf_counter()
        for _ in range(connections):
            await loop.create_connection(lambda: factory(over), "127.0.0.1", self.port)
        await finished.wait()
        return time.perf_counter() - began

    async def size_of(self, request: bytes) -> int:
        """Bytes of the response to a request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        writer.close()
        return len(head) + len(_PAGE)

    async def small(self, *, varied: bool) -> tuple[float, float]:
        """Wall and CPU seconds for `_REQUESTS` on keep-alive connections."""
        path = b"/varied" if varied else b"/small"
        size = await self.size_of(self.request(path))
        number = 0

        def next_request() -> bytes | None:
            nonlocal number
            number += 1
            if number > _REQUESTS:
                return None
            return self.request(path, extra=b"X-Number: %08d\r\n" % number) if varied else same

        same = self.request(path)
        before = self.cpu()
        wall = await self.run(_CONNECTIONS, lambda over: Client(next_request, size, over))
        return wall, self.cpu() - before

    async def fresh(self) -> tuple[float, float]:
        """Wall and CPU seconds for `_FRESH` requests, each on a connection of its own."""
        request = self.request(b"/small", extra=b"Connection: close\r\n")
        size = await self.size_of(request)
        loop = asyncio.get_running_loop()

        async def worker(requests: int) -> None:
            for _ in range(requests):
                over = asyncio.Event()
                once = iter((request,))
                await loop.create_connection(
                    lambda once=once, over=over: Client(lambda: next(once, None), size, over.set),  # type: ignore[misc]
                    "127.0.0.1",
                    self.port,
                )
                await over.wait()

        before = self.cpu()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                group.create_task(worker(_FRESH // _CONNECTIONS))
        return time.perf_counter() - began, self.cpu() - before

    async def bulk(self, path: bytes, upload: int) -> tuple[float, float]:
        """Wall and CPU seconds for a GiB in one response, or in one request."""
        before = self.cpu()
        if upload:
            request = self.request(path, method=b"POST", extra=b"Content-Length: %d\r\n" % upload)
        else:
            request = self.request(path)
        wall = await self.run(1, lambda over: BulkClient(request, upload, 1 if upload else _GIB, over))
        return wall, self.cpu() - before


@asynccontextmanager
async def running(profile: str | None) -> AsyncIterator[Bench]:
    """Far side and gateway, as processes."""
    module = [sys.executable, "-m", "tests.bench.gateway_micro"]
    token = new_api_token().reveal()
    far = subprocess.Popen([*module, "--far"], stdout=subprocess.PIPE)
    assert far.stdout is not None
    relay_port = far.stdout.readline().decode().strip()
    arguments = ["--gateway", relay_port, "--token", token, *(["--profile", profile] if profile else [])]
    gateway = subprocess.Popen([*module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert gateway.stdout is not None
    try:
        yield Bench(gateway, int(gateway.stdout.readline()), token)
    finally:
        gateway.communicate()
        far.terminate()
        far.wait()


async def measure(rows: list[str], profile: str | None) -> None:
    """Measure the rows and print them."""
    async with running(profile) as bench:
        await bench.small(varied=False)  # warm up
        for row in rows:
            taken = []
            for _ in range(_ROUNDS):
                if row in ("small", "varied"):
                    taken.append(await bench.small(varied=row == "varied"))
                elif row == "fresh":
                    taken.append(await bench.fresh())
                else:
                    taken.append(await bench.bulk(b"/" + row.encode(), _GIB if row == "upload" else 0))
            wall = statistics.median(wall for wall, _ in taken)
            cpu = statistics.median(cpu for _, cpu in taken)
            if row in ("small", "varied", "fresh"):
                count = _FRESH if row == "fresh" else _REQUESTS
                print(
                    f"{row:8} {count / wall:8.0f} requests/s wall, gateway CPU {cpu / count * 1e4:.3f} s per 10k, "
                    f"{count / cpu:.0f} requests/s a core"
                )
            else:
                print(f"{row:8} {1024 / wall:8.0f} MiB/s wall, gateway CPU {cpu:.3f} s per GiB")
        print(f"gateway RSS {bench.process.memory_info().rss >> 10} KiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=["small", "varied", "fresh", "bulk", "upload", "chunked"])
    parser.add_argument("--profile", help="where the gateway writes its cProfile statistics")
    parser.add_argument("--far", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--gateway", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    if options.far:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(serve_far())
    elif options.gateway:
        profiler = cProfile.Profile() if options.profile else contextlib.nullcontext()
        with profiler:
            uvloop.run(serve_gateway(options.gateway, options.token))
        if isinstance(profiler, cProfile.Profile):
            profiler.dump_stats(options.profile)
    else:
        uvloop.run(measure(options.rows, options.profile))


if __name__ == "__main__":
    main()
