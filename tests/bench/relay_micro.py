"""What the relay alone costs: CPU a GiB and for small messages, memory an idle tunnel, tunnels accepted a second.

    python -m tests.bench.relay_micro [bulk] [small] [idle]

The relay runs as a process of its own; devices and clients run in this one, on asyncio, so their cost is not in the
figures but the wall clock is shared with them: CPU seconds are what to compare.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import uvloop

from common.crypto.key_sets import ensure_key_pair
from common.crypto.keyfiles import ensure_secret
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner
from common.ids import DeviceId, TeamId
from common.secret import Secret
from common.tunnel.interfaces import Subprotocol
from tests.contract.devices import Device, echo, flood, swallow

_GIB = 1 << 30
_BULK = _GIB
_SMALL = 200
_ROUNDS = 40_000
_STREAMS = 32
_IDLE = 5_000
_DIALS = 64
"""Handshakes under way at a time."""

_SERVE = """
import sys
from pathlib import Path
from common.settings import load
from remote_proxy.app import run
from remote_proxy.settings import RelaySettings
folder = Path(sys.argv[1])
sys.exit(run(load(RelaySettings, config=None, environ={}, overrides=dict(
    tunnel_port=0, internal_port=0, internal_key_file=folder / "internal-key", drain_grace=1,
    session_keys_file=folder / "session-keys.json", ready_file=folder / "ready.json", log_level="warning",
    handshakes_burst=100_000, max_opens_per_second=1_000_000))))
"""


class BenchRelay:
    """The relay's process and the keys to it."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        ready = json.loads((folder / "ready.json").read_text())
        self.tunnel_url: str = ready["tunnel"]
        self.internal = urlsplit(ready["internal"])
        self.key = (folder / "internal-key").read_text().strip()
        self.signer = SessionTokenSigner.from_file(folder / "signing.json")
        self.process = psutil.Process(process.pid)

    def cpu(self) -> float:
        """CPU seconds so far."""
        times = self.process.cpu_times()
        return times.user + times.system

    def token(self, device: str) -> Secret:
        now = time.time()
        return self.signer.sign(
            SessionClaims(
                device=DeviceId(device),
                device_name=device,
                team=TeamId("home"),
                credential=CredentialId("bench"),
                issued_at=now,
                expires_at=now + 3600,
            )
        )

    async def stream(self, session_id: str, service: str, protocol: Client) -> Client:
        """A raw stream to a service."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: protocol, self.internal.hostname, self.internal.port)
        protocol.transport.write(
            f"POST /internal/sessions/{session_id}/streams HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\n"
            "Connection: Upgrade\r\nUpgrade: homeport-stream\r\nHomeport-Team: home\r\n"
            f"Homeport-Service: {service}\r\n\r\n".encode()
        )
        await protocol.opened
        return protocol


class Client(asyncio.Protocol):
    """The gateway's end of a stream: counts, and answers each whole message with the next."""

    transport: asyncio.Transport

    def __init__(self, *, message: bytes = b"", rounds: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.resumed = asyncio.Event()
        self.resumed.set()
        self._message = message
        self._rounds = rounds
        self._got = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            if data.startswith(b"HTTP/1.1 101"):
                self.opened.set_result(None)
            else:
                self.opened.set_exception(ConnectionRefusedError(data.decode("utf-8", "replace")))
            return
        if not self._message:
            return
        self._got += len(data)
        if self._got == len(self._message):
            self._got = 0
            self._rounds -= 1
            if self._rounds:
                self.transport.write(self._message)
            else:
                self.done.set_result(None)

    def start(self) -> None:
        self.transport.write(self._message)

    def eof_received(self) -> bool:
        if not self.done.done():
            self.done.set_result(None)
        return False

    def pause_writing(self) -> None:
        self.resumed.clear()

    def resume_writing(self) -> None:
        self.resumed.set()


@asynccontextmanager
async def bench_relay() -> AsyncIterator[BenchRelay]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ensure_key_pair(folder / "signing.json", folder / "session-keys.json")
        ensure_secret(folder / "internal-key")
        process = subprocess.Popen([sys.executable, "-c", _SERVE, str(folder)])
        try:
            while not (folder / "ready.json").exists():
                assert process.poll() is None
                await asyncio.sleep(0.01)
            yield BenchRelay(folder, process)
        finally:
            process.terminate()
            process.wait()


async def attach(relay: BenchRelay, services: dict[str, Any], subprotocol: Subprotocol) -> tuple[Device, str]:
    device = Device(services)
    await device.dial(relay.tunnel_url, relay.token("cam"), subprotocol=Subprotocol.HOMEPORT_V1)
    assert device.hello is not None
    return device, device.hello.session_id


async def bulk(relay: BenchRelay) -> None:
    services = {"flood": flood(_BULK), "swallow": swallow_all}
    device, session = await attach(relay, services, Subprotocol.HOMEPORT_V1)
    for name, run in (("download", download), ("upload", upload)):
        cpu, start = relay.cpu(), time.perf_counter()
        await run(relay, session)
        wall, spent = time.perf_counter() - start, relay.cpu() - cpu
        print(f"{name:10} {_BULK / wall / (1 << 20):7.0f} MiB/s  {spent * _GIB / _BULK:6.2f} CPU s/GiB")
    device.close()


async def download(relay: BenchRelay, session: str) -> None:
    client = await relay.stream(session, "flood", Client())
    await client.done
    client.transport.close()


async def upload(relay: BenchRelay, session: str) -> None:
    client = await relay.stream(session, "swallow", Client())
    piece = bytes(256 * 1024)
    for _ in range(_BULK // len(piece)):
        client.transport.write(piece)
        await client.resumed.wait()
    client.transport.write_eof()
    await client.done
    client.transport.close()


def swallow_all(request: Any) -> None:
    """Reads everything, then ends."""

    class Sink:
        def data_received(self, data: Any) -> None: ...

        def eof_received(self) -> None:
            stream.write_eof()

        def connection_lost(self, exc: Exception | None) -> None: ...

        def pause_writing(self) -> None: ...

        def resume_writing(self) -> None: ...

    stream = request.accept(Sink())


async def small(relay: BenchRelay) -> None:
    device, session = await attach(relay, {"echo": echo}, Subprotocol.HOMEPORT_V1)
    for streams in (1, _STREAMS):
        rounds = _ROUNDS // streams
        clients = [
            await relay.stream(session, "echo", Client(message=bytes(_SMALL), rounds=rounds)) for _ in range(streams)
        ]
        cpu, start = relay.cpu(), time.perf_counter()
        for client in clients:
            client.start()
        await asyncio.gather(*(client.done for client in clients))
        wall, spent = time.perf_counter() - start, relay.cpu() - cpu
        total = rounds * streams
        print(f"echo {_SMALL} B, {streams:2} streams  {total / wall:7.0f} /s  {spent * 1e4 / total:6.3f} CPU s/10k")
        for client in clients:
            client.transport.abort()
    cpu, start, opens = relay.cpu(), time.perf_counter(), 4000
    for _ in range(opens // _STREAMS):
        clients = await asyncio.gather(*(relay.stream(session, "echo", Client()) for _ in range(_STREAMS)))
        for client in clients:
            client.transport.abort()
    wall, spent = time.perf_counter() - start, relay.cpu() - cpu
    print(f"opens, {_STREAMS} at once    {opens / wall:7.0f} /s  {spent * 1e4 / opens:6.3f} CPU s/10k")
    device.close()


async def idle(relay: BenchRelay) -> None:
    for subprotocol in Subprotocol:
        devices: list[Device] = []
        before = relay.process.memory_info().rss
        tokens = [relay.token(f"{subprotocol.name.lower().replace('_', '-')}-{number}") for number in range(_IDLE)]
        cpu, start = relay.cpu(), time.perf_counter()

        async def dial(
            share: list[Secret], subprotocol: Subprotocol = subprotocol, devices: list[Device] = devices
        ) -> None:
            for token in share:
                device = Device({"web": swallow})
                await device.dial(relay.tunnel_url, token, subprotocol=subprotocol)
                devices.append(device)

        await asyncio.gather(*(dial(tokens[part::_DIALS]) for part in range(_DIALS)))
        wall, spent = time.perf_counter() - start, relay.cpu() - cpu
        grown = relay.process.memory_info().rss - before
        cpu, start = relay.cpu(), time.perf_counter()
        await asyncio.sleep(10)
        idle_cpu = (relay.cpu() - cpu) / (time.perf_counter() - start)
        print(
            f"{subprotocol:12} {_IDLE} tunnels: {_IDLE / wall:5.0f} accepted/s wall (device side included), "
            f"{_IDLE / spent:5.0f}/s of relay CPU, {grown / _IDLE / 1024:5.1f} KiB each, "
            f"idle {idle_cpu * 100:.1f} % CPU"
        )
        for device in devices:
            device.close()
        await asyncio.gather(*(device.wait_lost() for device in devices))


async def main(rows: list[str]) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for row in (bulk, small, idle):
        if not rows or row.__name__ in rows:
            async with bench_relay() as relay:
                await row(relay)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
