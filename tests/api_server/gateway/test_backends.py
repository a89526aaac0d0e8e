"""Backends that routes lead to: a real server with TLS, and those that nobody may reach."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api_server.backends import Backends
from api_server.gateway import Route, RoutedTarget
from api_server.outbound.outbound import Outbound
from api_server.outbound.policy import Target
from tests.api_server.backends.backend import Backend
from tests.api_server.gateway.kinds import OneBackend
from tests.api_server.gateway.stage import BEARER, Stage, ok
from tests.api_server.relay.fake_relay import HOME, ServiceSide
from tests.stack.certificates import Certificate, make_certificate
from tests.stack.nginx import nginx

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("backends"))


def head(method: str, path: str, headers: str = "") -> str:
    return f"{method} /backend{path} HTTP/1.1\r\nHost: gw\r\n{BEARER}{headers}\r\n"


@asynccontextmanager
async def in_front(outbound: Outbound, target: Target) -> AsyncIterator[Stage]:
    """A gateway that sends what is below `/backend` to a target."""
    backends = Backends(outbound.connector)
    router = OneBackend(backends.streams(HOME, target), target.authority.encode())
    async with Stage(router=lambda _: router, backends=backends) as stage:
        yield stage
    await outbound.aclose()


async def test_nginx_over_tls(certificate: Certificate, tmp_path: Path) -> None:
    body = bytes(range(251)) * 40_000
    with nginx(tmp_path, tls=certificate) as server:
        (server.files / "large").write_bytes(body)
        outbound = Outbound(["127.0.0.1"], ca_file=certificate.certificate)
        async with in_front(outbound, outbound.policy.check_url(server.url)) as stage:
            client = await stage.connect()
            for _ in range(3):
                await client.send(head("GET", "/files/large"))
                reply = await client.reply()
                assert (reply.status, hashlib.sha256(reply.body).digest()) == (200, hashlib.sha256(body).digest())
            await client.send(head("GET", "/files/large", "Range: bytes=1000-1999\r\n"))
            reply = await client.reply()
            assert (reply.status, reply.body) == (206, body[1000:2000])
            await client.send(head("PUT", "/upload/it", f"Content-Length: {len(body)}\r\n"), body)
            assert (await client.reply()).status == 201
            assert (server.upload / "it").read_bytes() == body
            await client.send(head("HEAD", "/files/large") + head("GET", "/empty") + head("GET", "/files/none"))
            assert (await client.reply(head_only=True))["Content-Length"] == str(len(body))
            assert (await client.reply()).status == 204
            assert (await client.reply()).status == 404
            assert stage.backends is not None
            now = stage.backends.statistics()
            assert (now.opened, now.reused) == (1, 7)


async def test_a_certificate_that_does_not_hold(certificate: Certificate) -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()

    async with Backend(serve, tls=certificate) as backend:
        outbound = Outbound(["127.0.0.1"])
        async with in_front(outbound, outbound.policy.check_url(backend.url)) as stage:
            client = await stage.connect()
            await client.send(head("GET", "/"))
            reply = await client.reply()
            assert (reply.status, reply.code) == (502, "target_untrusted")


async def test_a_backend_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    outbound = Outbound(["127.0.0.1"])
    async with in_front(outbound, outbound.policy.check_url(f"http://127.0.0.1:{port}")) as stage:
        client = await stage.connect()
        await client.send(head("GET", "/") * 2)
        for _ in range(2):
            reply = await client.reply()
            assert (reply.status, reply.code) == (502, "target_unreachable")


async def test_idle_connections_are_ended_by_the_gateways_timer() -> None:
    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(ok())
        await side.read_to_end()

    async with Backend(serve) as backend:
        outbound = Outbound(["127.0.0.1"])
        async with in_front(outbound, outbound.policy.check_url(backend.url)) as stage:
            client = await stage.connect()
            await client.send(head("GET", "/"))
            assert (await client.reply()).status == 200
            backends = stage.backends
            assert backends is not None
            assert backends.statistics().idle == 1
            stage.advance(31)
            await stage.until(lambda: backends.statistics().open == 0)


class AllOfThem:
    """A router whose first segment is the host of an https backend."""

    def __init__(self, outbound: Outbound, backends: Backends, port: int) -> None:
        self._outbound = outbound
        self._backends = backends
        self._port = port

    def route(self, host: bytes, path: bytes) -> Route | None:
        name, _, rest = path[1:].partition(b"/")
        target = Target("https", name.decode(), self._port, "/")
        return Route(
            RoutedTarget(
                team=HOME,
                name=name.decode(),
                route_id="rte_0",
                tags=frozenset(),
                prefix=b"/" + name,
                streams=self._backends.streams(HOME, target),
                host=name,
            ),
            b"/" + rest,
        )


RESOLVED = {
    "this-machine.test": ["127.0.0.1"],
    "all-interfaces.test": ["0.0.0.0"],
    "private-10.test": ["10.1.2.3"],
    "private-172.test": ["172.16.0.1"],
    "private-192.test": ["192.168.1.1"],
    "carrier.test": ["100.64.0.1"],
    "metadata.test": ["169.254.169.254"],
    "metadata-azure.test": ["168.63.129.16"],
    "metadata-aws-v6.test": ["fd00:ec2::254"],
    "loopback-v6.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "mapped-metadata.test": ["::ffff:169.254.169.254"],
    "compatible.test": ["::127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "sixtofour.test": ["2002:7f00:1::"],
    "link-local.test": ["fe80::1"],
    "unique-local.test": ["fc00::1"],
    "multicast.test": ["224.0.0.1"],
    "broadcast.test": ["255.255.255.255"],
    "one-of-two.test": ["93.184.216.34", "127.0.0.1"],
}
"""Names that somebody may give a route to, and what they resolve to when a request comes."""


@pytest.mark.parametrize("name", RESOLVED)
async def test_g3_a_name_that_leads_inside_is_refused_at_connect(name: str) -> None:
    reached: list[str] = []

    async def serve(side: ServiceSide) -> None:
        reached.append(name)

    async def lookup(host: str, port: int) -> Sequence[str]:
        return RESOLVED[host]

    async with Backend(serve) as backend:
        outbound = Outbound(lookup=lookup)
        backends = Backends(outbound.connector)
        router = AllOfThem(outbound, backends, backend.port)
        async with Stage(router=lambda _: router, backends=backends) as stage:
            client = await stage.connect()
            await client.send(f"POST /{name}/ HTTP/1.1\r\nHost: gw\r\n{BEARER}Content-Length: 2\r\n\r\nhi")
            reply = await client.reply()
            assert (reply.status, reply.code) == (502, "target_forbidden")
            assert name.removesuffix(".test") in reply.problem["detail"]
            for address in RESOLVED[name]:
                assert address not in reply.body.decode()
        assert reached == []
        await outbound.aclose()


async def test_g3_a_name_that_changes_its_mind_is_refused_then() -> None:
    """DNS rebinding: what was fine when the last connection was made is looked at again for the next."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])

    async def lookup(host: str, port: int) -> Sequence[str]:
        return next(answers)

    async def serve(side: ServiceSide) -> None:
        await side.read_head()
        await side.send(ok(headers="Connection: close\r\n"))

    async with Backend(serve) as backend:
        outbound = Outbound(["127.0.0.1"], lookup=lookup)
        target = Target("http", "rebinding.test", backend.port, "/")
        async with in_front(outbound, target) as stage:
            client = await stage.connect()
            await client.send(head("GET", "/"))
            assert (await client.reply()).body == b"hello"
            await client.send(head("GET", "/"))
            assert (await client.reply()).code == "target_forbidden"
