"""`homeport up` as a person starts it, with everything on free ports, and its REST API for what the tests need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from common.crypto.keyfiles import read_secret
from tests.stack.homeport import command
from tests.stack.process import Process

__all__ = ["Installation", "homeport_up"]


@dataclass(frozen=True, slots=True)
class Installation:
    """A running installation."""

    process: Process
    folder: Path
    """Its data directory."""
    run: Mapping[str, Any]
    """What `run.json` says."""

    @property
    def team(self) -> str:
        """The first team."""
        return str(self.run["team"])

    @property
    def gateway(self) -> str:
        """Base URL of the gateway."""
        return str(self.run["gateway"])

    @property
    def token_file(self) -> Path:
        """The administration token."""
        return self.folder / "admin-token"

    @property
    def token(self) -> str:
        """The administration token itself."""
        return read_secret(self.token_file).reveal()

    @property
    def authorization(self) -> dict[str, str]:
        """The header that shows the token."""
        return {"Authorization": f"Bearer {self.token}"}

    def client(self) -> httpx.Client:
        """An HTTP client of the REST API."""
        return httpx.Client(base_url=str(self.run["api"]), headers=self.authorization, trust_env=False, timeout=30)

    def url(self, device: str, service: str, path: str = "/") -> str:
        """Of a device's service, through the gateway."""
        return f"{self.gateway}/d/{self.team}/{device}/{service}{path}"

    def session_token_file(self, device: str, service: str | None = None) -> Path:
        """Ask the REST API for a session token of a device, and keep it in a file of mode 0600.

        Args:
            service: the one service of a third-party client.
        """
        body: dict[str, object] = {"expires_in": 3600}
        if service is not None:
            body["service"] = service
        with self.client() as client:
            made = client.post("/api/devices", json={"team": self.team, "name": device})
            assert made.status_code in (201, 409), made.text
            answer = client.post(f"/api/devices/{device}/session-tokens", params={"team": self.team}, json=body)
            answer.raise_for_status()
        path = self.folder / f"token-{device}"
        path.touch(mode=0o600)
        path.write_text(answer.json()["session_token"])
        return path

    @contextmanager
    def agent(self, device: str, services: Mapping[str, str]) -> Iterator[Process]:
        """`homeport agent` of a new device, connected.

        Args:
            services: URL of each service, by its name.
        """
        name = f"agent-{device}"
        ready = self.folder / f"{name}-ready.json"
        arguments = ["--relay", str(self.run["tunnel"]), "--token-file", str(self.session_token_file(device))]
        for service, url in services.items():
            arguments += ["--service", f"{service}={url}"]
        environment = {"HOMEPORT_READY_FILE": str(ready)}
        with Process(name, [command(), "agent", *arguments], folder=self.folder, environment=environment) as process:
            process.wait_until_connected(ready)
            yield process


@contextmanager
def homeport_up(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Installation]:
    """Start everything, with the demo device; its state is in `folder`.

    Args:
        folder: for its state.
        environment: settings beside the usual ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ports = ["--api-port", "0", "--gateway-port", "0", "--tunnel-port", "0", "--internal-port", "0"]
    with Process(
        "up", [command(), "up", "--data-dir", folder, *ports], folder=folder, environment=environment
    ) as process:
        yield Installation(process, folder, process.wait_for_file(folder / "run.json", seconds=60))
