"""The stack under soak: one relay with TLS, two API servers, three devices, and the services behind them.

    quiet     nothing is done to its agent or its line
    shaky     its line to the relay has every fault that there is
    restless  its agent is killed, stopped and started all the time

Ports stay the same over restarts, as they do in an installation. A proxy stands before the agent of `shaky`, another
one before the first gateway, for the clients that have a bad line of their own.
"""

from __future__ import annotations

import random
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tests.faults.chaos import ChaosProxy
from tests.soak.samples import Source
from tests.soak.traffic import Client
from tests.stack.certificates import make_certificate
from tests.stack.echo import echo
from tests.stack.homeport import Agent, Api, Keys, Relay, agent, api, command, relay
from tests.stack.process import Process

__all__ = ["GRACE", "QUIET", "RESTLESS", "SHAKY", "Slot", "Stand", "stand"]

QUIET, SHAKY, RESTLESS = "quiet", "shaky", "restless"

GRACE = 3.0
"""Seconds that a process which is stopped in order gives to what is under way."""

_AGENT = {"HOMEPORT_RETRY_BASE": "0.5", "HOMEPORT_RETRY_MAXIMUM": "4", "HOMEPORT_DRAIN_GRACE": str(GRACE)}
_BUFFER = 64 * 1024

T = TypeVar("T", bound=Relay | Api | Agent)


class Slot(Generic[T]):
    """The place of one process: it can be ended, and started again where it was. All of it blocks.

    Args:
        start: starts it there, and waits until it is ready.
    """

    def __init__(self, start: Callable[[], AbstractContextManager[T]]) -> None:
        self._start = start
        self._exit = ExitStack()
        self._now: T | None = None

    @property
    def now(self) -> T:
        """The one that was started last."""
        assert self._now is not None
        return self._now

    @property
    def pid(self) -> int | None:
        """Of the process, while it runs."""
        return self._now.process.pid if self._now is not None and self._now.process.running else None

    def start(self) -> None:
        """Start it, again."""
        self._now = self._exit.enter_context(self._start())

    def end(self, number: signal.Signals) -> int:
        """Send it a signal, and wait until it has ended; returns its exit code."""
        self.now.process.signal(number)
        code = self.now.process.wait(seconds=90)
        self._exit.close()
        return code

    def close(self) -> None:
        """End it, if it runs."""
        self._exit.close()


@dataclass(frozen=True, slots=True)
class Stand:
    """See the module."""

    keys: Keys
    relay: Slot[Relay]
    apis: dict[str, Slot[Api]]
    agents: dict[str, Slot[Agent]]
    tunnel_line: ChaosProxy
    """Between the agent of `shaky` and the relay."""
    client_line: ChaosProxy
    """Between some clients and the first gateway."""
    folder: Path

    def gateway(self, name: str) -> str:
        """Base URL of a gateway."""
        return self.apis[name].now.gateway

    def clients(self) -> list[Client]:
        """Who asks: every kind of traffic to each device."""
        first, second = self.apis
        shares = [
            (first, QUIET, ("small", "small", "download", "upload", "events", "websocket", "tcp", "slow")),
            (second, QUIET, ("small", "download", "slow", "events", "tcp")),
            (first, SHAKY, ("small", "upload", "websocket", "tcp")),
            (second, SHAKY, ("small", "download", "events", "slow")),
            (first, RESTLESS, ("small", "download", "events", "tcp")),
            (second, RESTLESS, ("small", "upload", "websocket", "slow")),
        ]
        clients = [
            Client(kind=kind, gateway=name, url=self.gateway(name), device=device)
            for name, device, kinds in shares
            for kind in kinds
        ]
        bad = f"http://{self.client_line.address}"
        clients += [
            Client(kind=kind, gateway=first, url=bad, device=QUIET, shaky=True)
            for kind in ("small", "download", "upload", "websocket", "slow")
        ]
        return clients

    def sources(self) -> list[Source]:
        """What is sampled."""
        internal = self.keys.internal_key_file.read_text(encoding="ascii").strip()
        relay_slot, token = self.relay, self.keys.admin_token
        sources = [Source("relay", _pid_of(relay_slot), lambda: (f"{relay_slot.now.internal}/metrics", internal))]
        for name, slot in self.apis.items():
            sources.append(Source(name, _pid_of(slot), _metrics_of(slot, token)))
        sources += [Source(f"agent {name}", _pid_of(agent_slot)) for name, agent_slot in self.agents.items()]
        return sources


def _pid_of(slot: Slot[T]) -> Callable[[], int | None]:
    return lambda: slot.pid


def _metrics_of(slot: Slot[Api], token: str) -> Callable[[], tuple[str, str]]:
    return lambda: (f"{slot.now.api}/metrics", token)


@contextmanager
def stand(folder: Path, *, seed: int) -> Iterator[Stand]:
    """Start it; everything has ended when the block is left.

    Args:
        folder: for keys, logs and ready files.
        seed: of what the proxies draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = Keys.make(folder)
    certificate = make_certificate(folder)
    ports = _free_ports(6)
    with ExitStack() as stack:
        web = stack.enter_context(_demo(folder))
        raw = stack.enter_context(echo(folder / "echo")).tcp

        def slot(start: Callable[[], AbstractContextManager[T]]) -> Slot[T]:
            made = Slot(start)
            stack.callback(made.close)
            made.start()
            return made

        relay_settings = {
            "HOMEPORT_TUNNEL_PORT": str(ports[0]),
            "HOMEPORT_INTERNAL_PORT": str(ports[1]),
            "HOMEPORT_DRAIN_GRACE": str(GRACE),
        }
        relaying = slot(lambda: relay(folder, keys, certificate=certificate, environment=relay_settings))

        def api_slot(number: int) -> Slot[Api]:
            settings = {
                "HOMEPORT_API_PORT": str(ports[2 + 2 * number]),
                "HOMEPORT_GATEWAY_PORT": str(ports[3 + 2 * number]),
                "HOMEPORT_DRAIN_GRACE": str(GRACE),
            }
            own = folder / f"api-{number}"
            own.mkdir()
            return slot(lambda: api(own, keys, relaying.now, environment=settings))

        apis = {f"api-{number}": api_slot(number) for number in range(2)}
        tunnel_line = stack.enter_context(
            ChaosProxy(("127.0.0.1", ports[0]), seed=seed, name="relay-agent", socket_buffer=_BUFFER)
        )
        client_line = stack.enter_context(
            ChaosProxy(("127.0.0.1", ports[3]), seed=seed, name="client-gateway", socket_buffer=_BUFFER)
        )

        def agent_slot(device: str) -> Slot[Agent]:
            def start() -> AbstractContextManager[Agent]:
                to = relaying.now
                if device == SHAKY:
                    url = to.tunnel.replace(f":{ports[0]}", f":{tunnel_line.port}")
                    to = Relay(to.process, url, to.internal)
                services = {"web": f"{web}?health=off", "echo": f"tcp://{raw}?health=off"}
                return agent(
                    folder, keys, to, device=device, services=services, certificate=certificate, environment=_AGENT
                )

            return slot(start)

        agents = {device: agent_slot(device) for device in (QUIET, SHAKY, RESTLESS)}
        yield Stand(keys, relaying, apis, agents, tunnel_line, client_line, folder)


@contextmanager
def _demo(folder: Path) -> Iterator[str]:
    """`homeport demo`; its URL."""
    ready = folder / "demo-ready.json"
    arguments = ["demo", "--port", "0", "--ready-file", str(ready)]
    with Process("demo", [command(), *arguments], folder=folder) as process:
        yield str(process.wait_for_file(ready)["url"])


def _free_ports(number: int) -> list[int]:
    """Ports that nobody has now: a process that is started again must find its own. They are below those that the
    kernel gives to whoever asks for any (32768 and up), which would have some of them taken soon.
    """
    with ExitStack() as stack:
        sockets: list[socket.socket] = []
        while len(sockets) < number:
            with suppress(OSError):
                port = random.randrange(20_000, 32_000)
                sockets.append(stack.enter_context(socket.create_server(("127.0.0.1", port))))
        return [each.getsockname()[1] for each in sockets]
