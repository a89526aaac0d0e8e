"""G3 at connect: whatever a name meant when it was saved, no connection goes where none may go.

A real server listens on this machine; behind every refusal stands that it was not reached.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from api_server.outbound.errors import (
    TargetForbiddenError,
    TargetNotResolvedError,
    TargetTimeoutError,
    TargetUnreachableError,
    TargetUntrustedError,
)
from api_server.outbound.outbound import Outbound
from api_server.outbound.policy import Target
from common.settings import SettingsError
from tests.api_server.outbound.stage import OK, FakeNames, listening, saying
from tests.stack.certificates import Certificate, make_certificate

pytestmark = pytest.mark.anyio

HELLO = OK + b"Content-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "provider.test")


def server_tls(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.1"], id="loopback"),
        pytest.param(["::1"], id="loopback-ipv6"),
        pytest.param(["0.0.0.0"], id="unspecified"),
        pytest.param(["10.0.0.1"], id="private"),
        pytest.param(["100.64.0.1"], id="carrier-nat"),
        pytest.param(["169.254.1.1"], id="link-local"),
        pytest.param(["169.254.169.254"], id="metadata"),
        pytest.param(["fd00:ec2::254"], id="metadata-ipv6"),
        pytest.param(["168.63.129.16"], id="metadata-azure"),
        pytest.param(["224.0.0.1"], id="multicast"),
        pytest.param(["::ffff:127.0.0.1"], id="mapped"),
        pytest.param(["::127.0.0.1"], id="compatible"),
        pytest.param(["64:ff9b::7f00:1"], id="nat64"),
        pytest.param(["2002:7f00:1::"], id="6to4"),
        pytest.param(["2001:0:808:808::80ff:fffe"], id="teredo"),
        pytest.param(["fe80::1%1"], id="scoped"),
        pytest.param(["8.8.8.8", "127.0.0.1"], id="one-of-several"),
        pytest.param(["127.0.0.1", "8.8.8.8"], id="one-of-several-first"),
    ],
)
async def test_g3_a_name_that_leads_inside(addresses: Sequence[str]) -> None:
    outbound = Outbound(lookup=FakeNames(provider_test=[addresses]))
    async with listening(saying(HELLO)) as server:
        url = f"https://provider.test:{server.port}/token"
        target = outbound.policy.check_url(url)  # nothing can be said against it yet
        with pytest.raises(TargetForbiddenError) as caught:
            await outbound.http.request("GET", url, timeout=5, max_bytes=1000)
        with pytest.raises(TargetForbiddenError):
            await outbound.connector.connect(asyncio.Protocol, target, timeout=5)
        assert server.connections == 0
    assert (caught.value.code, caught.value.status) == ("target_forbidden", 502)
    assert not any(address in caught.value.detail for address in addresses)
    await outbound.aclose()


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
)
async def test_g3_hosts_that_say_this_machine_by_themselves(host: str) -> None:
    """Asked of the real resolver: it would understand every one of them."""
    outbound = Outbound()
    async with listening(saying(HELLO)) as server:
        with pytest.raises(TargetForbiddenError):
            await outbound.http.request("GET", f"https://{host}:{server.port}/", timeout=5, max_bytes=1000)
        target = Target("https", host.strip("[]"), server.port, "/")
        with pytest.raises(TargetForbiddenError):  # as if it had been saved in spite of all
            await outbound.connector.connect(asyncio.Protocol, target, timeout=5)
        assert server.connections == 0
    await outbound.aclose()


async def test_g3_a_name_that_is_bound_anew_after_it_was_looked_at() -> None:
    """It is asked for once a connection, and the answer that was looked at is where the connection goes."""
    names = FakeNames(rebinding_test=[["127.0.0.2"], ["127.0.0.1"]])
    outbound = Outbound(["127.0.0.2"], lookup=names)
    async with listening(saying(HELLO)) as inside, listening(saying(HELLO), host="127.0.0.2") as outside:
        target = Target("http", "rebinding.test", outside.port, "/")
        transport, _ = await outbound.connector.connect(asyncio.Protocol, target, timeout=5)
        assert transport.get_extra_info("peername") == ("127.0.0.2", outside.port)
        transport.close()
        assert len(names.asked) == 1
        target = Target("http", "rebinding.test", inside.port, "/")
        with pytest.raises(TargetForbiddenError):
            await outbound.connector.connect(asyncio.Protocol, target, timeout=5)
        assert inside.connections == 0
    await outbound.aclose()


async def test_g3_a_redirect_is_an_answer() -> None:
    async with listening(saying(HELLO)) as inside:
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{inside.port}/\r\nContent-Length: 0\r\n\r\n"
        async with listening(saying(moved.encode()), host="127.0.0.2") as server:
            outbound = Outbound(["127.0.0.2"])
            url = f"http://127.0.0.2:{server.port}/"
            answer = await outbound.http.request("GET", url, timeout=5, max_bytes=1000)
            await outbound.aclose()
        assert answer.status == 302
        assert inside.connections == 0


async def test_g3_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(saying(HELLO)) as proxy, listening(saying(HELLO), host="127.0.0.2") as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        outbound = Outbound(["127.0.0.2"])
        answer = await outbound.http.request("GET", f"http://127.0.0.2:{server.port}/", timeout=5, max_bytes=1000)
        assert (answer.status, proxy.connections, server.connections) == (200, 0, 1)
        await outbound.aclose()


async def test_the_certificate_is_that_of_the_name_and_the_name_is_sent(certificate: Certificate) -> None:
    shown: list[str | None] = []
    tls = server_tls(certificate)
    tls.sni_callback = lambda _socket, name, _context: shown.append(name)
    names = FakeNames(provider_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
    outbound = Outbound(["127.0.0.1"], ca_file=certificate.certificate, lookup=names)
    async with listening(saying(HELLO), tls=tls) as server:
        url = f"https://provider.test:{server.port}/token"
        answer = await outbound.http.request("GET", url, timeout=5, max_bytes=1000)
        assert (answer.status, answer.body, answer.header("Content-Type")) == (200, b"{}", "application/json")
        assert f"host: provider.test:{server.port}".encode() in server.heads[0].lower()
        transport, _ = await outbound.connector.connect(asyncio.Protocol, outbound.policy.check_url(url), timeout=5)
        assert transport.get_extra_info("ssl_object").version() is not None
        transport.abort()
        assert shown == ["provider.test", "provider.test"]

        wrong = f"https://other.test:{server.port}/token"
        with pytest.raises(TargetUntrustedError):
            await outbound.http.request("GET", wrong, timeout=5, max_bytes=1000)
        with pytest.raises(TargetUntrustedError):
            await outbound.connector.connect(asyncio.Protocol, outbound.policy.check_url(wrong), timeout=5)
        await outbound.aclose()

        strict = Outbound(["127.0.0.1"], lookup=names)  # which does not know who signed
        with pytest.raises(TargetUntrustedError):
            await strict.http.request("GET", url, timeout=5, max_bytes=1000)
        await strict.aclose()


async def test_the_next_address_is_tried() -> None:
    outbound = Outbound(["127.0.0.0/8"], lookup=FakeNames(provider_test=[["127.0.0.3", "127.0.0.2"]]))
    async with listening(saying(HELLO), host="127.0.0.2") as server:
        target = Target("http", "provider.test", server.port, "/")
        transport, _ = await outbound.connector.connect(asyncio.Protocol, target, timeout=5)
        assert transport.get_extra_info("peername")[0] == "127.0.0.2"
        transport.close()
    with pytest.raises(TargetUnreachableError):
        await outbound.connector.connect(asyncio.Protocol, target, timeout=5)
    await outbound.aclose()


async def test_a_name_without_an_address() -> None:
    outbound = Outbound(lookup=FakeNames(nobody_test=[[]]))
    for host in ("nobody.test", "unknown.test"):
        with pytest.raises(TargetNotResolvedError):
            await outbound.http.request("GET", f"https://{host}/", timeout=5, max_bytes=1000)
        with pytest.raises(TargetNotResolvedError):
            await outbound.connector.connect(asyncio.Protocol, Target("https", host, 443, "/"), timeout=5)
    await outbound.aclose()


async def test_a_name_server_that_does_not_answer_is_bounded_by_the_deadline() -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    outbound = Outbound(lookup=silent)
    with pytest.raises(TargetTimeoutError):
        await outbound.connector.connect(asyncio.Protocol, Target("https", "a.test", 443, "/"), timeout=0.05)
    with pytest.raises(TargetTimeoutError):
        await outbound.http.request("GET", "https://a.test/", timeout=0.05, max_bytes=1)
    await outbound.aclose()


def test_a_file_of_certificates_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SettingsError, match="outbound_ca_file"):
        Outbound(ca_file=tmp_path / "ca.pem")
