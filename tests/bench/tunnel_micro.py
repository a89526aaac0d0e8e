"""A microbench of the tunnel alone: a relay's end and a device's end, each a process, over loopback TCP.

    .venv/bin/python -m tests.bench.tunnel_micro [--device trio|asyncio] [--tls] [--streams N] [--idle N]

`down` is device to relay, `up` relay to device: chunks of 64 KiB on one stream, thrown away at the other end.
`echo` is 200-byte messages on 32 streams (or `--streams`), each answered before the next is sent. `idle` is the memory
of the relay's process a tunnel, and how many were accepted a second. Figures of one run; CPU is user and system time of
each process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
import uvloop

from common.ids import ServiceName
from common.secret import Secret
from common.tunnel.config import TunnelConfig
from common.tunnel.errors import TunnelError
from common.tunnel.handshake import Admission
from common.tunnel.interfaces import DeviceTunnel, PendingStream, RelayTunnel
from common.tunnel.on_asyncio import TunnelListener, connect_tunnel
from common.tunnel.on_trio import run_client_tunnel
from common.tunnel.stream import Buffer, Stream
from common.wire.messages import DeviceHello

CHUNK = bytes(64 * 1024)
MESSAGE = bytes(200)
HELLO = DeviceHello(software="bench/1")


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


class Sink:
    """Throws away what it gets, and counts it."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.received = 0

    def data_received(self, data: Buffer) -> None:
        self.received += len(data)

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Source(Sink):
    """Writes `left` bytes, then ends its half."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left
        self.paused = False

    def begin(self, stream: Stream) -> None:
        self.stream = stream
        self.pump()

    def pump(self) -> None:
        assert self.stream is not None
        while self.left and not self.paused:
            self.left -= len(CHUNK)
            self.stream.write(CHUNK)
        if not self.left:
            self.stream.write_eof()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.left:
            self.pump()


class Echo(Sink):
    def data_received(self, data: Buffer) -> None:
        assert self.stream is not None
        self.stream.write(data)

    def eof_received(self) -> None:
        assert self.stream is not None
        self.stream.write_eof()


class Swallow(Sink):
    """Answers the end of a stream with its own."""

    def eof_received(self) -> None:
        assert self.stream is not None
        self.stream.write_eof()


class Device:
    """The device's handler: a service for each measurement, the service's name ends in the number of bytes."""

    def __init__(self, closed: Callable[[], None] = lambda: None) -> None:
        self.closed = closed

    def service_requested(self, request: PendingStream) -> None:
        kind, _, size = request.service.partition("-")
        sink: Sink
        if kind == "down":
            sink = source = Source(int(size))
            source.begin(request.accept(source))
            return
        sink = Echo() if kind == "echo" else Swallow()
        sink.stream = request.accept(sink)

    def tunnel_opened(self, tunnel: DeviceTunnel) -> None: ...

    def hello_received(self, hello: Any) -> None: ...

    def drain_received(self, drain: Any) -> None: ...

    def tunnel_drained(self) -> None: ...

    def tunnel_closed(self, exc: TunnelError) -> None:
        self.closed()


class Relay:
    """The relay's handler."""

    def __init__(self, opened: asyncio.Queue[RelayTunnel]) -> None:
        self.opened = opened

    def tunnel_opened(self, tunnel: RelayTunnel) -> None:
        self.opened.put_nowait(tunnel)

    def hello_received(self, hello: Any) -> None: ...

    def services_changed(self, services: Any) -> None: ...

    def stats_received(self, stats: Any) -> None: ...

    def drain_received(self, drain: Any) -> None: ...

    def tunnel_drained(self) -> None: ...

    def tunnel_closed(self, exc: TunnelError) -> None: ...


class Counter(Sink):
    """Counts until the other end is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.done: asyncio.Future[None] = loop.create_future()

    def eof_received(self) -> None:
        assert self.stream is not None
        self.stream.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


class Upload(Source):
    def __init__(self, left: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(left)
        self.done: asyncio.Future[None] = loop.create_future()

    connection_lost = Counter.connection_lost  # type: ignore[assignment]


class Pinger(Counter):
    """Sends a message, waits for all of it, and again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, times: int) -> None:
        super().__init__(loop)
        self.times = times

    def data_received(self, data: Buffer) -> None:
        assert self.stream is not None
        self.received += len(data)
        if self.received == len(MESSAGE):
            self.received = 0
            self.times -= 1
            if self.times:
                self.stream.write(MESSAGE)
            else:
                self.stream.write_eof()

    def eof_received(self) -> None: ...


async def open_stream(tunnel: RelayTunnel, service: str, sink: Sink) -> Stream:
    result: asyncio.Future[Stream | TunnelError] = asyncio.get_running_loop().create_future()
    tunnel.open_service(ServiceName(service), sink, timeout=10.0, on_result=result.set_result)
    stream = await result
    if isinstance(stream, TunnelError):
        raise stream
    sink.stream = stream
    return stream


class DeviceProcess:
    """The device's end in a process of its own, which tells its CPU seconds for a line on its standard input."""

    def __init__(self, kind: str, url: str, ca: str, count: int) -> None:
        command = [sys.executable, "-m", "tests.bench.tunnel_micro", "--role", kind, "--url", url, "--ca", ca]
        self.process = subprocess.Popen(
            [*command, "--count", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def cpu_seconds(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("cpu\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def answer_cpu() -> bool:
    """Answer one line; False at the end of input."""
    if not os.read(0, 100):
        return False
    sys.stdout.write(f"{cpu_seconds()}\n")
    sys.stdout.flush()
    return True


async def asyncio_device(url: str, context: ssl.SSLContext | None, count: int) -> None:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.add_reader(0, lambda: answer_cpu() or over.done() or over.set_result(None))
    for _ in range(count):
        await connect_tunnel(url, Device(), token=Secret("bench"), hello=HELLO, ssl_context=context)
    await over


async def trio_device(url: str, context: ssl.SSLContext | None) -> None:
    async def answer() -> None:
        while True:
            await trio.lowlevel.wait_readable(0)
            if not answer_cpu():
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await run_client_tunnel(url, Device(), token=Secret("bench"), hello=HELLO, ssl_context=context)
        nursery.cancel_scope.cancel()


async def measure(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    opened: asyncio.Queue[RelayTunnel] = asyncio.Queue()
    listener = TunnelListener(lambda _: Admission(handler=Relay(opened)), config=TunnelConfig())
    with tempfile.TemporaryDirectory() as folder:
        context = make_certificate(Path(folder)) if arguments.tls else None
        server = await loop.create_server(listener, "127.0.0.1", 0, ssl=context, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        scheme = "wss" if arguments.tls else "ws"
        url, ca = f"{scheme}://localhost:{port}/tunnel", f"{folder}/cert.pem" if arguments.tls else ""
        if arguments.idle:
            await measure_idle(arguments, url, ca, opened)
            return
        device = DeviceProcess(arguments.device, url, ca, 1)
        tunnel = await opened.get()
        size = arguments.bulk * 1024 * 1024
        gib = size / 2**30

        async def timed(
            name: str, run: Callable[[], Any], per: float, unit: str, speed: Callable[[float], str]
        ) -> None:
            own, other, began = cpu_seconds(), device.cpu_seconds(), time.perf_counter()
            await run()
            took = time.perf_counter() - began
            own, other = cpu_seconds() - own, device.cpu_seconds() - other
            print(f"{name:5} {speed(took):>18}   CPU s {unit}: relay {own / per:.3f}  device {other / per:.3f}")

        async def down() -> None:
            counter = Counter(loop)
            await open_stream(tunnel, f"down-{size}", counter)
            await counter.done
            assert counter.received == size

        async def up() -> None:
            upload = Upload(size, loop)
            upload.begin(await open_stream(tunnel, "up", upload))
            await upload.done

        async def echo() -> None:
            pingers = [Pinger(loop, arguments.echo // arguments.streams) for _ in range(arguments.streams)]
            for pinger in pingers:
                (await open_stream(tunnel, "echo", pinger)).write(MESSAGE)
            await asyncio.gather(*(pinger.done for pinger in pingers))

        for _ in range(arguments.repeat):
            await timed("down", down, gib, "a GiB", lambda took: f"{gib / took:.2f} GiB/s")
            await timed("up", up, gib, "a GiB", lambda took: f"{gib / took:.2f} GiB/s")
            per = arguments.echo / 10_000
            await timed("echo", echo, per, "per 10k", lambda took: f"{arguments.echo / took:.0f} messages/s")
        assert device.process.stdin is not None
        device.process.stdin.close()
        server.close()
        await loop.run_in_executor(None, device.process.wait)


async def measure_idle(arguments: argparse.Namespace, url: str, ca: str, opened: asyncio.Queue[RelayTunnel]) -> None:
    warm = DeviceProcess("asyncio", url, ca, 50)
    for _ in range(50):
        await opened.get()
    before, began, own = resident_kib(), time.perf_counter(), cpu_seconds()
    device = DeviceProcess("asyncio", url, ca, arguments.idle)
    tunnels = [await opened.get() for _ in range(arguments.idle)]
    took, own = time.perf_counter() - began, cpu_seconds() - own
    await asyncio.sleep(1.0)
    print(
        f"idle  {len(tunnels)} tunnels: {(resident_kib() - before) / len(tunnels):.1f} KiB each in the relay, "
        f"accepted {len(tunnels) / took:.0f}/s, relay CPU {own / len(tunnels) * 1e6:.0f} us each"
    )
    for each in (warm, device):
        assert each.process.stdin is not None
        each.process.stdin.close()
        await asyncio.get_running_loop().run_in_executor(None, each.process.wait)


def make_certificate(folder: Path) -> ssl.SSLContext:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["trio", "asyncio"], default="trio")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--bulk", type=int, default=1024, help="MiB each way")
    parser.add_argument("--echo", type=int, default=96_000, help="messages")
    parser.add_argument("--streams", type=int, default=32, help="that echo at once")
    parser.add_argument("--idle", type=int, default=0, help="measure that many idle tunnels instead")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--ca", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    context = ssl.create_default_context(cafile=arguments.ca) if arguments.ca else None
    if arguments.role == "asyncio":
        uvloop.run(asyncio_device(arguments.url, context, arguments.count))
    elif arguments.role == "trio":
        trio.run(trio_device, arguments.url, context)
    else:
        uvloop.run(measure(arguments))


if __name__ == "__main__":
    main()
