"""A whole installation as processes that can be killed and started again where they were: one relay, two API servers,
agents, and the services behind them.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest

from tests.faults.demo_service import DemoServices, demo_services
from tests.faults.load import Load
from tests.stack.homeport import Agent, Api, Keys, Relay, agent, api, relay
from tests.stack.process import Process

__all__ = ["ALL", "Cluster", "Slot", "only_in_faults", "wait_for"]

ALL = os.environ.get("HOMEPORT_FAULTS") == "all"
"""`make faults`: everything, with the times and sizes that users meet. `make test`: a share of it, shortened."""

only_in_faults = pytest.mark.skipif(not ALL, reason="make faults runs it; make test has a share")

T = TypeVar("T", Relay, Api, Agent)


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = 60.0) -> float:
    """Look until it holds; returns the seconds that it took.

    Raises:
        AssertionError: it did not in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not {what} within {seconds:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began


class Slot(Generic[T]):
    """The place of one process.

    Args:
        start: starts it there.
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
    def process(self) -> Process:
        """Its process."""
        return self.now.process

    def start(self) -> T:
        """Start it, again; returns once it is ready. One that runs beside it still is left to the caller."""
        self._now = self._exit.enter_context(self._start())
        return self._now

    def start_beside(self, meanwhile: Callable[[], object]) -> T:
        """Start another one there; `meanwhile` is called once it runs, before it is ready."""
        before = self.process
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(self.start)
            wait_for(lambda: b"waiting for the ports" in before.log.read_bytes(), "waiting for the ports")
            meanwhile()
            return starting.result()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it by a signal, and wait for that."""
        self.process.signal(number)
        self.process.wait(seconds=90)

    def restart(self) -> None:
        """Stop it in order, and start it again."""
        self.kill(signal.SIGTERM)
        self.start()

    def close(self) -> None:
        """End all that were started here."""
        if self._now is not None and self.process.running:
            self.process.signal(signal.SIGCONT)
        self._exit.close()


class Cluster:
    """See the module. Settings are given to the process they are named for.

    Args:
        folder: for keys, logs and ready files.
        devices: names of those with a `homeport agent`; each offers `web` and `echo`.
        apis: how many API servers.
        tunnel: where agents dial, if not the relay itself: given the relay's port, the URL.
    """

    def __init__(
        self,
        folder: Path,
        *,
        devices: tuple[str, ...] = ("cam", "door"),
        apis: int = 2,
        relay_settings: Mapping[str, str] | None = None,
        api_settings: Mapping[str, str] | None = None,
        agent_settings: Mapping[str, str] | None = None,
        tunnel: Callable[[str, str], str] | None = None,
    ) -> None:
        self.folder = folder
        self.keys = Keys.make(folder)
        self._exit = ExitStack()
        self.service: DemoServices
        ports = _free_ports(2 + 2 * apis)
        self._relay_settings = {
            "HOMEPORT_TUNNEL_PORT": str(ports[0]),
            "HOMEPORT_INTERNAL_PORT": str(ports[1]),
            **(relay_settings or {}),
        }
        self._agent_settings = {
            "HOMEPORT_RETRY_BASE": "0.5",
            "HOMEPORT_RETRY_MAXIMUM": "4",
            **(agent_settings or {}),
        }
        self._tunnel = tunnel
        self.relay: Slot[Relay] = Slot(lambda: relay(folder, self.keys, environment=self._relay_settings))
        self.apis = [
            self._api_slot(number, ports[2 + 2 * number], ports[3 + 2 * number], api_settings or {})
            for number in range(apis)
        ]
        self.agents = {device: self._agent_slot(device) for device in devices}

    def _api_slot(self, number: int, api_port: int, gateway_port: int, settings: Mapping[str, str]) -> Slot[Api]:
        folder = self.folder / f"api-{number}"
        folder.mkdir()
        environment = {"HOMEPORT_API_PORT": str(api_port), "HOMEPORT_GATEWAY_PORT": str(gateway_port), **settings}
        return Slot(lambda: api(folder, self.keys, self.relay.now, environment=environment))

    def _agent_slot(self, device: str) -> Slot[Agent]:
        def start() -> AbstractContextManager[Agent]:
            to = self.relay.now
            if self._tunnel is not None:
                to = Relay(to.process, self._tunnel(device, to.tunnel), to.internal)
            services = {"web": f"{self.service.web}?health=off", "echo": f"tcp://{self.service.echo}?health=off"}
            return agent(self.folder, self.keys, to, device=device, services=services, environment=self._agent_settings)

        return Slot(start)

    def __enter__(self) -> Self:
        try:
            self.service = self._exit.enter_context(demo_services(self.folder))
            for slot in (self.relay, *self.apis, *self.agents.values()):
                self._exit.callback(slot.close)
            self.relay.start()
            for each in self.apis:
                each.start()
            for agent_slot in self.agents.values():
                agent_slot.start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    @property
    def gateways(self) -> list[str]:
        """Base URLs, in the order of the API servers."""
        return [each.now.gateway for each in self.apis]

    def load(self) -> Load:
        """A load with the right to all."""
        return Load(self.keys.admin_token, self.keys.team)

    def get(self, device: str, path: str = "/status/204", *, gateway: int = 0, timeout: float = 60.0) -> httpx.Response:
        """One request to a device's `web`, on a connection of its own."""
        url = f"{self.gateways[gateway]}/d/{self.keys.team}/{device}/web{path}"
        headers = {"Authorization": f"Bearer {self.keys.admin_token}"}
        return httpx.get(url, headers=headers, timeout=timeout, trust_env=False)

    def reaches(self, device: str, *, gateway: int = 0) -> bool:
        """Whether a request to the device is answered."""
        return self.get(device, gateway=gateway).status_code == 204

    def code(self, device: str, *, gateway: int = 0) -> str:
        """The code of the refusal of a request to the device; empty if it is answered."""
        answer = self.get(device, gateway=gateway)
        return "" if answer.status_code == 204 else str(answer.json()["code"])

    def sessions(self) -> dict[str, dict[str, object]]:
        """The relay's sessions, by the name of the device."""
        headers = {
            "Authorization": f"Bearer {self.keys.internal_key_file.read_text().strip()}",
            "Accept": "application/json",
        }
        url = f"{self.relay.now.internal}/internal/sessions"
        params = {"team": self.keys.team, "limit": "1000"}
        answer = httpx.get(url, params=params, headers=headers, timeout=60, trust_env=False)
        answer.raise_for_status()
        return {item["device_name"]: item for item in answer.json()["items"]}

    def health(self, url: str) -> int:
        """The status of `/healthz` of a process; `url` is one of its base URLs."""
        parts = urlsplit(url.replace("ws://", "http://"))
        return httpx.get(f"http://{parts.netloc}/healthz", timeout=60, trust_env=False).status_code


def _free_ports(number: int) -> list[int]:
    """Ports that nobody has now: a process that is started again must find its own."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]
