"""The gateway in front of either kind of target: a device's service, or a backend over http or https.

    async with stage_of("https", serve, certificate) as stage:
        client = await stage.connect()
        await client.send(stage.head("GET", "/"))

What answers is the same coroutine function for each kind, so that one test says what holds for all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from api_server.backends import Backends, BackendStreams
from api_server.gateway import GatewayLimits, Route, RoutedTarget
from api_server.outbound.outbound import Outbound
from tests.api_server.backends.backend import Backend
from tests.api_server.gateway.stage import BEARER, Stage
from tests.api_server.relay.fake_relay import HOME, Service
from tests.stack.certificates import Certificate

__all__ = ["KINDS", "Kind", "KindStage", "OneBackend", "stage_of"]

Kind = Literal["device", "http", "https"]

KINDS: Final[tuple[Kind, ...]] = ("device", "http", "https")

_DEVICE: Final = "/d/home/cam/web"
_BACKEND: Final = "/backend"


class OneBackend:
    """A router that sends everything below `/backend` to one backend."""

    def __init__(self, streams: BackendStreams, host: bytes) -> None:
        self.target = RoutedTarget(
            team=HOME,
            name="backend",
            route_id="rte_0",
            tags=frozenset(),
            prefix=_BACKEND.encode(),
            streams=streams,
            host=host,
        )

    def route(self, host: bytes, path: bytes) -> Route | None:
        prefix = self.target.prefix
        if path == prefix or path.startswith(prefix + b"/"):
            return Route(self.target, path[len(prefix) :])
        return None


class KindStage(Stage):
    """A stage with one target, of either kind."""

    base: str = _DEVICE
    """The path of the target."""
    host: str = "gw"
    """What the target sees as Host."""

    def head(self, method: str = "GET", path: str = "/", headers: str = "") -> str:
        """The head of a request to the target, by the caller who may."""
        return f"{method} {self.base}{path} HTTP/1.1\r\nHost: gw\r\n{BEARER}{headers}\r\n"

    @property
    def opened(self) -> int:
        """How many streams to the target were opened."""
        return self.dialer.forwarder.opened if self.backends is None else self.backends.statistics().opened

    @property
    def reused(self) -> int:
        """How often an idle stream to the target was used again."""
        pool = self.pool if self.backends is None else self.backends.pool
        return pool.statistics().reused


@asynccontextmanager
async def stage_of(
    kind: Kind, serve: Service, certificate: Certificate, *, limits: GatewayLimits | None = None
) -> AsyncIterator[KindStage]:
    """A gateway whose one target does on each stream what `serve` says."""
    if kind == "device":
        async with KindStage(limits=limits, web=serve) as stage:
            yield stage
        return
    outbound = Outbound(["127.0.0.0/8"], ca_file=certificate.certificate)
    async with Backend(serve, tls=certificate if kind == "https" else None) as backend:
        backends = Backends(outbound.connector)
        target = outbound.policy.check_url(backend.url)
        router = OneBackend(backends.streams(HOME, target), target.authority.encode())
        async with KindStage(limits=limits, router=lambda _: router, backends=backends) as stage:
            stage.base = _BACKEND
            stage.host = target.authority
            yield stage
    await outbound.aclose()
