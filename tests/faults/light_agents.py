"""Thousands of devices in a few processes: the real handshake, tunnel and back-off, without an agent's services.

    with light_agents(url, session_tokens(keys, names), folder) as agents:
        agents.wait_connected(len(names))
        agents.reset_all()

Each process is `python -m tests.faults.light_agents`, driven by lines on its standard input; it answers in JSON. A
light agent dials, says hello, answers probes, and when its tunnel is lost dials again as the real agent does: with the
full jitter of `common.backoff`, from the first retry on, and never sooner than a `Retry-After`. It serves:

    echo    sends back what comes
    flood   sends for as long as it is let
    deaf    accepts, and reads nothing
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import resource
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import uvloop

from common.backoff import Backoff
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner
from common.ids import DeviceId, ServiceName, TeamId
from common.secret import Secret
from common.tunnel.client_handshake import ClientHandshake, ClientOpened, parse_tunnel_url
from common.tunnel.config import HandshakeLimits, TunnelConfig
from common.tunnel.dialects import open_device_tunnel
from common.tunnel.errors import HandshakeFailedError, HandshakeRefusedError, TunnelError
from common.tunnel.interfaces import DeviceTunnel, PendingStream, Subprotocol
from common.tunnel.on_asyncio.connection import TunnelConnection, as_transport, prepare_socket
from common.tunnel.stream import Buffer, Stream
from common.tunnel.websocket import Side, WebSocketLink
from common.wire.messages import DeviceHello, Drain, OpenRefusal, RelayHello, Service
from tests.stack.homeport import Keys
from tests.stack.process import Process

__all__ = ["Attempt", "LightAgents", "allow_open_files", "light_agents", "session_tokens"]

_FIRST_DIALS = 64
"""Dials at a time of one process when it starts; a redial waits for its back-off and for nobody else."""
_LINGER_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds: closing sends RST (socket(7))."""
_DAY = 24 * 3600.0
_CHUNK = bytes(64 * 1024)


class Attempt(NamedTuple):
    """One dial, in seconds of the machine's monotonic clock, which all processes share."""

    agent: int
    """The place of its token in the list."""
    due: float
    """When the back-off said to dial; of the first one, when it was begun."""
    ended: float
    outcome: str
    """`connected`, the code of the refusal, or `failed`."""
    retry_after: float | None
    """Seconds that the relay asked for."""


# In the tests' own process


def allow_open_files(wanted: int) -> None:
    """Let this process, and those that it starts, have `wanted` files open.

    Raises:
        RuntimeError: the system does not let it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY not in (soft, hard) and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        except (ValueError, OSError) as exc:
            raise RuntimeError(f"{wanted} open files are needed, {hard} are allowed: raise `ulimit -Hn`") from exc


def session_tokens(keys: Keys, devices: Sequence[str], *, team: str | None = None) -> list[str]:
    """A session token for each of the devices, valid for a day: some 5,000 a second."""
    signer = SessionTokenSigner.from_file(keys.signing_keys_file)
    now = time.time()
    return [
        signer.sign(
            SessionClaims(
                device=DeviceId(device),
                device_name=device,
                team=TeamId(team or keys.team),
                credential=CredentialId(f"crd-{device}"),
                issued_at=now,
                expires_at=now + _DAY,
            )
        ).reveal()
        for device in devices
    ]


class LightAgents:
    """A running fleet, over all its processes."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self.processes = processes

    @property
    def connected(self) -> int:
        """Devices that the relay has greeted, and that have not lost their tunnel since."""
        return sum(self._ask("connected"))

    @property
    def lost(self) -> int:
        """Tunnels lost so far."""
        return sum(self._ask("lost"))

    def wait_connected(self, number: int, *, seconds: float = 120.0) -> None:
        """Return once `number` devices are connected.

        Raises:
            ProcessFailedError: a process ended, or `seconds` passed.
        """
        self.processes[0].wait_until(lambda: self.connected >= number, f"connected {number} times", seconds=seconds)

    def wait_lost(self, number: int, *, seconds: float = 60.0) -> None:
        """Return once `number` tunnels have been lost since the start."""
        self.processes[0].wait_until(lambda: self.lost >= number, f"without {number} tunnels", seconds=seconds)

    def reset_all(self) -> None:
        """Reset every connection, as a firewall that lost its state would: both ends see it."""
        self._ask("reset")

    def history(self) -> list[Attempt]:
        """Every dial so far."""
        for process in self.processes:
            process.send_line("history")
        processes = len(self.processes)
        return [
            Attempt(number * processes + share, *rest)
            for share, process in enumerate(self.processes)
            for number, *rest in process.read_json()["attempts"]
        ]

    def _ask(self, what: str) -> list[int]:
        for process in self.processes:
            process.send_line(what)
        return [process.read_json()["number"] for process in self.processes]


@contextmanager
def light_agents(
    url: str,
    tokens: Sequence[str],
    folder: Path,
    *,
    processes: int = 2,
    base: float = 1.0,
    maximum: float = 60.0,
    healthy_after: float = 60.0,
) -> Iterator[LightAgents]:
    """A device for each of `tokens`, dialling `url` until the block is left.

    Args:
        url: of the relay's tunnel port.
        folder: for token files and logs.
        processes: that share the devices.
        base, maximum, healthy_after: of the back-off, seconds.
    """
    with contextlib.ExitStack() as stack:
        running = []
        for number in range(processes):
            share = tokens[number::processes]
            token_file = folder / f"light-agents-{number}-tokens"
            token_file.write_text("".join(f"{token}\n" for token in share))
            command = [sys.executable, "-m", "tests.faults.light_agents", "--url", url, "--tokens", str(token_file)]
            command += ["--base", str(base), "--maximum", str(maximum), "--healthy-after", str(healthy_after)]
            environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
            running.append(
                stack.enter_context(
                    Process(f"light-agents-{number}", command, folder=folder, environment=environment, json_output=True)
                )
            )
        yield LightAgents(running)


# In a process of light agents


class Fleet:
    """The devices of one process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.target = parse_tunnel_url(arguments.url)
        self.base: float = arguments.base
        self.maximum: float = arguments.maximum
        self.healthy_after: float = arguments.healthy_after
        self.config = TunnelConfig()
        self.limits = HandshakeLimits(timeout=30.0)
        self.hello = DeviceHello(
            software="light-agent/1",
            services=[Service(name=name, kind="tcp", health="healthy") for name in _SERVICES],
        )
        self.first_dials = asyncio.Semaphore(_FIRST_DIALS)
        self.connected = 0
        self.lost = 0
        self.attempts: list[Attempt] = []
        self.agents = [
            LightAgent(self, number, token) for number, token in enumerate(Path(arguments.tokens).read_text().split())
        ]

    async def run(self) -> None:
        """Dial until standard input ends."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        lines = b""

        def readable() -> None:
            nonlocal lines
            data = os.read(0, 4096)
            if not data:
                loop.remove_reader(0)
                over.set_result(None)
                return
            *whole, lines = (lines + data).split(b"\n")
            for line in whole:
                sys.stdout.write(json.dumps(self.answer(line.decode())) + "\n")
            sys.stdout.flush()

        loop.add_reader(0, readable)
        tasks = [asyncio.create_task(agent.run()) for agent in self.agents]
        await over
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def answer(self, line: str) -> object:
        """What a line on standard input asks for."""
        if line == "history":
            return {"attempts": self.attempts}
        if line == "connected":
            return {"number": self.connected}
        if line == "lost":
            return {"number": self.lost}
        if line == "reset":
            return {"number": sum(agent.reset() for agent in self.agents)}
        raise ValueError(line)


class LightAgent:
    """One device. Implements `DeviceHandler`."""

    __slots__ = ("_backoff", "_fleet", "_greeted", "_number", "_over", "_token", "_transport")

    def __init__(self, fleet: Fleet, number: int, token: str) -> None:
        self._fleet = fleet
        self._number = number
        self._token = Secret(token)
        self._backoff = Backoff(
            base=fleet.base, maximum=fleet.maximum, healthy_after=fleet.healthy_after, rng=random.Random(token)
        )
        self._transport: asyncio.Transport | None = None
        self._greeted = False
        self._over: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Dial, be connected, dial again."""
        fleet = self._fleet
        async with fleet.first_dials:
            delay = await self._dial(time.monotonic())
        while True:
            if delay is None:
                opened = time.monotonic()
                assert self._over is not None
                await self._over
                self._backoff.connected_for(time.monotonic() - opened)
                delay = self._backoff.next_delay()
            due = time.monotonic() + delay
            await asyncio.sleep(delay)
            delay = await self._dial(due)

    def reset(self) -> bool:
        """Reset the connection; returns whether there was one."""
        if self._transport is None:
            return False
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._transport.abort()
        return True

    async def _dial(self, due: float) -> float | None:
        """One dial; returns None when it led to a tunnel, else the seconds until the next."""
        outcome, retry_after = "connected", None
        try:
            await self._open()
        except HandshakeRefusedError as exc:
            outcome, retry_after = exc.reason or str(exc.http_status), exc.retry_after
        except (HandshakeFailedError, OSError, TimeoutError):
            outcome = "failed"
        self._fleet.attempts.append(Attempt(self._number, due, time.monotonic(), outcome, retry_after))
        return None if outcome == "connected" else self._backoff.next_delay(retry_after)

    async def _open(self) -> None:
        fleet = self._fleet
        loop = asyncio.get_running_loop()
        handshake = ClientHandshake(
            fleet.target,
            token=self._token,
            subprotocols=[Subprotocol.HOMEPORT_V1],
            user_agent="light-agent/1",
            limits=fleet.limits,
        )
        dialing = _Dialing(handshake, loop)
        async with asyncio.timeout(fleet.limits.timeout):
            await loop.create_connection(lambda: dialing, fleet.target.host, fleet.target.port)
            try:
                opened = await dialing.opened
            except BaseException:
                dialing.transport.abort()
                raise
        self._over = loop.create_future()
        self._transport = dialing.transport
        self._greeted = False
        core, _ = open_device_tunnel(
            opened.subprotocol,
            WebSocketLink(Side.CLIENT),
            self,
            hello=fleet.hello,
            config=fleet.config,
            clock=time.monotonic,
            budget=None,
        )
        TunnelConnection(core, dialing.transport, loop).begin(opened.rest + dialing.early)

    # DeviceHandler

    def tunnel_opened(self, tunnel: DeviceTunnel) -> None: ...

    def hello_received(self, hello: RelayHello) -> None:
        self._greeted = True
        self._fleet.connected += 1

    def service_requested(self, request: PendingStream) -> None:
        sink = _SERVICES.get(request.service)
        if sink is None:
            request.refuse(OpenRefusal.UNKNOWN_SERVICE)
        else:
            sink().begin(request)

    def drain_received(self, drain: Drain) -> None: ...

    def tunnel_drained(self) -> None: ...

    def tunnel_closed(self, exc: TunnelError) -> None:
        self._transport = None
        self._fleet.lost += 1
        if self._greeted:
            self._fleet.connected -= 1
        if self._over is not None and not self._over.done():
            self._over.set_result(None)


class _Dialing(asyncio.Protocol):
    """A connection until its handshake is done."""

    def __init__(self, handshake: ClientHandshake, loop: asyncio.AbstractEventLoop) -> None:
        self._handshake = handshake
        self.opened: asyncio.Future[ClientOpened] = loop.create_future()
        self.early = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = as_transport(transport)
        prepare_socket(transport)
        self.transport.write(self._handshake.request)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            self.early += data
            return
        try:
            opened = self._handshake.receive(data)
        except TunnelError as exc:
            self.opened.set_exception(exc)
        else:
            if opened is not None:
                self.opened.set_result(opened)

    def eof_received(self) -> bool:
        if not self.opened.done():
            self.opened.set_exception(self._handshake.receive_eof())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(HandshakeFailedError("the connection ended before the relay answered"))


class _Sink:
    """Base of the services."""

    __slots__ = ("stream",)

    stream: Stream

    def begin(self, request: PendingStream) -> None:
        self.stream = request.accept(self)

    def data_received(self, data: Buffer) -> None: ...

    def eof_received(self) -> None:
        self.stream.write_eof()

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class _Echo(_Sink):
    __slots__ = ()

    def data_received(self, data: Buffer) -> None:
        self.stream.write(bytes(data))

    def pause_writing(self) -> None:
        self.stream.pause_reading()

    def resume_writing(self) -> None:
        self.stream.resume_reading()


class _Flood(_Sink):
    __slots__ = ("_paused",)

    def begin(self, request: PendingStream) -> None:
        super().begin(request)
        self._paused = False
        self._send()

    def _send(self) -> None:
        while not self._paused:
            self.stream.write(_CHUNK)

    def connection_lost(self, exc: Exception | None) -> None:
        self._paused = True

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()


class _Deaf(_Sink):
    __slots__ = ()

    def begin(self, request: PendingStream) -> None:
        super().begin(request)
        self.stream.pause_reading()

    def data_received(self, data: Buffer) -> None:
        self.stream.pause_reading()


_SERVICES: dict[ServiceName, type[_Sink]] = {
    ServiceName("echo"): _Echo,
    ServiceName("flood"): _Flood,
    ServiceName("deaf"): _Deaf,
}


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--base", type=float, required=True)
    parser.add_argument("--maximum", type=float, required=True)
    parser.add_argument("--healthy-after", type=float, required=True)
    arguments = parser.parse_args()
    gc.disable()  # what lives here lives until the end
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> None:
    await Fleet(arguments).run()


if __name__ == "__main__":
    _main()
