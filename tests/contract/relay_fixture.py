"""A real relay in the test's own process: real ports on loopback, real tunnels, keys of its own.

async with running_relay(tmp_path) as relay:
    device = await relay.attach("cam")
    ... relay.internal_url, relay.internal_key, relay.store ...
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import httpx

from common.clock import Clock
from common.crypto.key_sets import ensure_key_pair
from common.crypto.keyfiles import ensure_secret
from common.crypto.session_tokens import CredentialId, SessionClaims, SessionTokenSigner
from common.ids import DeviceId, ServiceName, TeamId
from common.secret import Secret
from common.settings import load
from common.tunnel.interfaces import Subprotocol
from remote_proxy.relay import Relay
from remote_proxy.settings import RelaySettings
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.session import LiveTunnel
from tests.contract.devices import SERVICES, Device, Serve

__all__ = ["RunningRelay", "running_relay"]

HOME = TeamId("home")


class RunningRelay:
    """A relay, the keys to it, and the devices that a test attached."""

    def __init__(self, relay: Relay, *, internal_key: Secret, signer: SessionTokenSigner) -> None:
        self.relay = relay
        self.internal_key = internal_key
        self.signer = signer
        self.devices: list[Device] = []
        self.team = HOME
        """The team of a device that a test does not give another."""

    @property
    def tunnel_url(self) -> str:
        return self.relay.tunnel_url

    @property
    def internal_url(self) -> str:
        return self.relay.internal_url

    @property
    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    @property
    def store(self) -> InMemoryStore[LiveTunnel]:
        return self.relay.store

    def token(
        self,
        device: str = "cam",
        *,
        team: TeamId = HOME,
        name: str | None = None,
        credential: str = "cred",
        expires_in: float = 3600.0,
        service: str | None = None,
        at: float | None = None,
    ) -> Secret:
        """A session token that this relay accepts, unless `expires_in` is over.

        Args:
            at: the time of its issue, if the relay does not live now.
        """
        now = self.now if at is None else at
        return self.signer.sign(
            SessionClaims(
                device=DeviceId(device),
                device_name=name or device,
                team=team,
                credential=CredentialId(credential),
                issued_at=now + min(0.0, expires_in),
                expires_at=now + expires_in,
                service=ServiceName(service) if service is not None else None,
            )
        )

    async def attach(
        self,
        device: str = "cam",
        *,
        team: TeamId = HOME,
        name: str | None = None,
        credential: str = "cred",
        services: Mapping[str, Serve] = SERVICES,
        subprotocol: Subprotocol = Subprotocol.HOMEPORT_V1,
        tls: ssl.SSLContext | None = None,
    ) -> Device:
        """Dial a device in; returns once the relay has its session and knows its services.

        On subprotocol `yamux` the device's one service is the first of `services`.
        """
        attached = Device(services)
        only = next(iter(services)) if subprotocol is Subprotocol.YAMUX else None
        token = self.token(device, team=team, name=name, credential=credential, service=only)
        await attached.dial(self.tunnel_url, token, subprotocol=subprotocol, tls=tls)
        self.devices.append(attached)
        return attached

    def control(self, accept: str = "application/json") -> httpx.AsyncClient:
        """A client of internal HTTP that holds the key; use it as a context manager."""
        headers = {"Authorization": f"Bearer {self.internal_key.reveal()}", "Accept": accept}
        return httpx.AsyncClient(base_url=self.internal_url, headers=headers, trust_env=False, verify=False)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric, without `homeport_relay_`; 0 if it has none yet."""
        return self.relay.registry.get_sample_value(f"homeport_relay_{name}", labels) or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop turn until `condition` holds: for what nothing calls back about."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running_relay(
    folder: Path, clock: Clock | None = None, /, **overrides: object
) -> AsyncIterator[RunningRelay]:
    """Start a relay on free ports.

    Args:
        folder: where its key files are written.
        clock: the relay's source of time for sessions and credentials; None for the machine's.
        overrides: settings other than the defaults.
    """
    keys = folder / "session-keys.json"
    signing = folder / "session-signing-keys.json"
    ensure_key_pair(signing, keys)
    internal_key = ensure_secret(folder / "internal-key")
    settings = load(
        RelaySettings,
        config=None,
        environ={},
        overrides={
            "tunnel_port": 0,
            "internal_port": 0,
            "internal_key_file": folder / "internal-key",
            "session_keys_file": keys,
            "relay_name": "test-relay",
            **overrides,
        },
    )
    async with Relay(settings, clock=clock) as relay:
        running = RunningRelay(relay, internal_key=internal_key, signer=SessionTokenSigner.from_file(signing))
        try:
            yield running
        finally:
            for device in running.devices:
                device.close()
