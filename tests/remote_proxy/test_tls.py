"""TLS on either port, and certificates in place of the internal key."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.settings import SettingsError
from common.tunnel.errors import HandshakeFailedError
from common.tunnel.interfaces import Subprotocol
from remote_proxy.tls import server_context
from tests.contract.devices import flood
from tests.contract.relay_fixture import RunningRelay, running_relay
from tests.remote_proxy.wire import connect, open_stream, stream_head
from tests.stack.certificates import Certificate, make_certificate

pytestmark = pytest.mark.anyio


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


@pytest.fixture
async def relay(tmp_path: Path, certificate: Certificate, anyio_backend: object) -> AsyncIterator[RunningRelay]:
    """A relay with TLS on both ports, that takes a client certificate and the key."""
    async with running_relay(
        tmp_path,
        tunnel_tls_cert_file=certificate.certificate,
        tunnel_tls_key_file=certificate.key,
        internal_tls_cert_file=certificate.certificate,
        internal_tls_key_file=certificate.key,
        internal_tls_client_ca_file=certificate.certificate,
    ) as running:
        yield running


def trusting(certificate: Certificate, *, client: Certificate | None = None) -> ssl.SSLContext:
    """A context that trusts `certificate`, and shows `client`."""
    context = ssl.create_default_context(cafile=str(certificate.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


@pytest.mark.parametrize("subprotocol", list(Subprotocol))
async def test_bytes_cross_over_tls_on_both_ports(
    relay: RunningRelay, certificate: Certificate, subprotocol: Subprotocol
) -> None:
    assert relay.tunnel_url.startswith("wss://")
    assert relay.internal_url.startswith("https://")
    total = 8 * 1024 * 1024
    device_tls, client_tls = trusting(certificate), trusting(certificate, client=certificate)
    await relay.attach("cam", services={"flood": flood(total)}, subprotocol=subprotocol, tls=device_tls)
    async with open_stream(relay, "flood", tls=client_tls) as client:
        assert hashlib.sha256(await client.read_end()).digest() == hashlib.sha256(bytes(total)).digest()


async def test_a_client_without_a_certificate_gets_no_answer(relay: RunningRelay, certificate: Certificate) -> None:
    await relay.attach("cam", tls=trusting(certificate))
    assert await answer_to(relay, trusting(certificate)) == b""
    assert await answer_to(relay, trusting(certificate, client=certificate)) == b"HTTP/1.1 101"


async def test_a_client_with_a_certificate_of_somebody_else_gets_no_answer(
    relay: RunningRelay, certificate: Certificate, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    await relay.attach("cam", tls=trusting(certificate))
    assert await answer_to(relay, trusting(certificate, client=make_certificate(tmp_path / "other"))) == b""
    assert relay.metric("streams_opened_total") == 0


async def answer_to(relay: RunningRelay, tls: ssl.SSLContext) -> bytes:
    """The first bytes of the answer to a stream request. In TLS 1.3 the client's certificate is refused after the
    client's own part of the handshake, so it may see an alert, an end or a reset.
    """
    with contextlib.suppress(ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        async with connect(relay.internal_url, tls=tls) as client:
            client.send(stream_head(relay))
            return await client.read(12)
    return b""


async def test_a_certificate_does_not_stand_for_the_key_where_both_are_set(
    relay: RunningRelay, certificate: Certificate
) -> None:
    await relay.attach("cam", tls=trusting(certificate))
    async with connect(relay.internal_url, tls=trusting(certificate, client=certificate)) as client:
        client.send(stream_head(relay, {"Authorization": None}))
        assert (await client.read_answer()).code == "unauthenticated"


async def test_a_certificate_is_enough_where_there_is_no_key(tmp_path: Path, certificate: Certificate) -> None:
    async with running_relay(
        tmp_path,
        internal_key_file=None,
        internal_tls_cert_file=certificate.certificate,
        internal_tls_key_file=certificate.key,
        internal_tls_client_ca_file=certificate.certificate,
    ) as relay:
        await relay.attach("cam")
        async with connect(relay.internal_url, tls=trusting(certificate, client=certificate)) as client:
            client.send(stream_head(relay, {"Authorization": None}) + b"hello")
            assert (await client.read_answer()).status == 101
            assert await client.read(5) == b"hello"


async def test_plain_text_on_a_tls_port(relay: RunningRelay, certificate: Certificate) -> None:
    with pytest.raises(HandshakeFailedError):
        await relay.attach("cam", tls=trusting(make_certificate(certificate.key.parent)))
    for url in (relay.tunnel_url, relay.internal_url):
        async with connect(url) as client:
            client.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.wait_closed_by_peer()


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_context(None, None) is None


@pytest.mark.parametrize("broken", ["certificate", "key", "authority"])
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, certificate: Certificate, broken: str) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("a secret")
    with pytest.raises(SettingsError) as caught:
        server_context(
            nonsense if broken == "certificate" else certificate.certificate,
            nonsense if broken == "key" else certificate.key,
            nonsense if broken == "authority" else certificate.certificate,
        )
    assert "nonsense.pem" in caught.value.detail
    assert "a secret" not in caught.value.detail


def test_old_versions_of_tls_are_not_spoken(certificate: Certificate) -> None:
    context = server_context(certificate.certificate, certificate.key)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
