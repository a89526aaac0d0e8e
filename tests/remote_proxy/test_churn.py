"""Tunnels that come and go under load: what each held is free when it ends, not when the garbage collector comes by.

A relay's collector comes by seldom, see `remote_proxy.app`. What ends in a cycle of references would stay until then,
and with it, under TLS, the half MiB that the event loop keeps for a connection.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from common.secret import Secret
from common.tunnel.interfaces import Subprotocol
from tests.contract.devices import Device, flood, ignore
from tests.contract.relay_fixture import running_relay
from tests.faults.chaos import chaos_process
from tests.remote_proxy.test_tls import trusting
from tests.remote_proxy.wire import connect
from tests.stack.certificates import Certificate, make_certificate
from tests.stack.homeport import Keys, relay

pytestmark = pytest.mark.anyio

KIB, MIB = 1024, 1024 * 1024
ENDLESS = 1024 * MIB

BROKEN_AFTER = 2 * MIB
"""Bytes of the device."""

CYCLES = 24
GROWTH = 4 * MIB
"""Of a relay while `CYCLES` tunnels are reset. It was 18 MiB when each left its buffers."""

OURS = frozenset(
    {
        "common.tunnel.dialects.homeport_v1.HomeportRelay",
        "common.tunnel.dialects.homeport_v1.Opening",
        "common.tunnel.dialects.raw_yamux.RawOpening",
        "common.tunnel.dialects.raw_yamux.RawRelay",
        "common.tunnel.on_asyncio.connection.SharedBufferConnection",
        "common.tunnel.on_asyncio.server.HandshakeConnection",
        "remote_proxy.internal.connections._HeadReader",
        "remote_proxy.internal.connections._Opening",
        "remote_proxy.internal.splice.ClientEnd",
        "remote_proxy.internal.splice.DeviceEnd",
        "remote_proxy.tunnels.session.LiveTunnel",
    }
)
"""What a relay makes for a tunnel and its streams, and the devices and clients of the tests do not."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def census() -> Counter[str]:
    """How many there are of each of `OURS`."""
    names = (f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    return Counter(name for name in names if name in OURS)


def private_memory(pid: int) -> int:
    """Bytes that the process has written to and not given back (proc_pid_status(5), RssAnon)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * KIB
    raise AssertionError("no RssAnon")


class Churn:
    """Tunnels of one device, one after another, over a line that breaks.

    Args:
        tunnel: URL of the relay's tunnel port, through the line.
        internal: URL of its internal port.
        internal_key: of the relay.
        token: of the device, whose one service is `flood`.
        session: finds the id of the device's session.
        certificate: of both ports; None if they are without TLS.
    """

    def __init__(
        self,
        *,
        tunnel: str,
        internal: str,
        internal_key: Secret,
        token: Secret,
        session: Callable[[Device], str],
        certificate: Certificate | None,
    ) -> None:
        self._tunnel = tunnel
        self._internal = internal
        self._internal_key = internal_key
        self._token = token
        self._session = session
        self._device_tls = trusting(certificate) if certificate is not None else None
        self._client_tls = trusting(certificate, client=certificate) if certificate is not None else None

    async def cycle(self, subprotocol: Subprotocol = Subprotocol.HOMEPORT_V1) -> None:
        """A tunnel from dial to reset: under a download, one whose client does not read, and, of a device that can
        leave it so, an open without an answer.
        """
        device = Device({"flood": lambda request: flood(ENDLESS)(request), "ignore": ignore})
        await device.dial(self._tunnel, self._token, subprotocol=subprotocol, tls=self._device_tls)
        session = self._session(device)
        async with AsyncExitStack() as stack:
            services = ["flood", "flood"] if subprotocol is Subprotocol.YAMUX else ["ignore", "flood", "flood"]
            clients = []
            for service in services:
                client = await stack.enter_async_context(connect(self._internal, tls=self._client_tls))
                client.send(self._head(session, service))
                clients.append(client)
            await clients[-1].wait_closed_by_peer()
            for client in clients[:-1]:
                await client.wait_closed_by_peer()
        await device.wait_lost()

    def _head(self, session: str, service: str) -> bytes:
        return (
            f"POST /internal/sessions/{session}/streams HTTP/1.1\r\nHost: relay\r\n"
            f"Authorization: Bearer {self._internal_key.reveal()}\r\n"
            "Connection: Upgrade\r\nUpgrade: homeport-stream\r\n"
            f"Homeport-Team: home\r\nHomeport-Service: {service}\r\n\r\n"
        ).encode()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("subprotocol", list(Subprotocol))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_tunnel_that_is_reset_under_load_leaves_no_object(
    tmp_path: Path, tls: bool, subprotocol: Subprotocol
) -> None:
    certificate = make_certificate(tmp_path) if tls else None
    settings: dict[str, object] = {}
    if certificate is not None:
        settings = {
            f"{port}_tls_{what}_file": path
            for port in ("tunnel", "internal")
            for what, path in (("cert", certificate.certificate), ("key", certificate.key))
        }
    before = census()
    async with running_relay(tmp_path, **settings) as running:
        address = urlsplit(running.tunnel_url).netloc
        with chaos_process(tmp_path, address, f"up reset at {BROKEN_AFTER}") as line:
            churn = Churn(
                tunnel=running.tunnel_url.replace(address, line),
                internal=running.internal_url,
                internal_key=running.internal_key,
                token=running.token(service="flood"),
                session=lambda _: running.store.lookup_device_nowait(running.team, "cam").session_id,
                certificate=certificate,
            )
            for _ in range(3):
                await churn.cycle(subprotocol)
        # The loop tells of an end in a later turn, and lets go of the connection in another.
        for _ in range(10):
            if not (left := census() - before):
                break
            for _ in range(100):
                await asyncio.sleep(0)
        assert not left


async def test_tunnels_that_are_reset_under_load_leave_the_memory_level(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path)
    certificate = make_certificate(tmp_path)
    internal = {
        "HOMEPORT_INTERNAL_TLS_CERT_FILE": str(certificate.certificate),
        "HOMEPORT_INTERNAL_TLS_KEY_FILE": str(certificate.key),
    }
    with relay(tmp_path, keys, certificate=certificate, environment=internal) as running:
        address = urlsplit(running.tunnel).netloc
        with chaos_process(tmp_path, address, f"up reset at {BROKEN_AFTER}") as line:
            churn = Churn(
                tunnel=running.tunnel.replace(address, line),
                internal=running.internal,
                internal_key=Secret(keys.internal_key_file.read_text(encoding="ascii").strip()),
                token=keys.session_token("cam"),
                session=_session_of,
                certificate=certificate,
            )
            for _ in range(CYCLES // 2):
                await churn.cycle()
            before = private_memory(running.process.pid)
            for _ in range(CYCLES):
                await churn.cycle()
            grown = private_memory(running.process.pid) - before
    assert grown < GROWTH


def _session_of(device: Device) -> str:
    assert device.hello is not None
    return device.hello.session_id
