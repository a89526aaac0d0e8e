"""A gateway with a route table over a database, the API that changes it, a scripted relay, and backends on loopback.

    async with routed(url, signer, web=serve) as stage:
        await route(stage.home, path="/cam", target=...)
        await stage.table.catch_up()
        reply = await stage.get("/cam/x")

The devices `cam`, `mill` and `saw` are known; `cam` is online.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.backends import Backends
from api_server.db.database import Database
from api_server.devices.book import DeviceBook
from api_server.devices.tables import devices
from api_server.domains import Domains
from api_server.gateway import Router
from api_server.gateway.governor import Governor
from api_server.gateway.inspection import Recorder
from api_server.gateway.route_calls import RouteWatch
from api_server.limits.limiter import Limiter
from api_server.outbound.outbound import Outbound
from api_server.relay import ServiceDialer
from api_server.rest import Endpoints
from api_server.routing.balancing import NoLimits
from api_server.routing.health import HealthChecks, ServiceProbe
from api_server.routing.presence import DevicePresence
from api_server.routing.route_table import RouteTable
from api_server.routing.targets import TargetMaker
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.fakes import HOME
from tests.api_server.gateway.stage import BEARER, Client, Reply, Stage, ok
from tests.api_server.people import Home, running_domains
from tests.api_server.relay.fake_relay import Service, ServiceSide

__all__ = ["DEVICES", "Routed", "echo", "head", "routed"]

DEVICES = ("cam", "mill", "saw")

_LOOPBACK = ("127.0.0.0/8",)


async def echo(side: ServiceSide) -> None:
    """Answers with the head that it got."""
    while True:
        await side.send(ok(await side.read_head()))


def head(path: str, headers: str = "", *, method: str = "GET", bearer: str = BEARER) -> str:
    """The head of a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: gw.example.org\r\n{bearer}{headers}\r\n"


@dataclass
class Routed:
    """What runs."""

    home: Home
    stage: Stage
    table: RouteTable
    presence: DevicePresence
    checks: HealthChecks
    outbound: Outbound

    async def get(self, path: str, headers: str = "", *, client: Client | None = None) -> Reply:
        """GET a path of the gateway, by the caller who may."""
        client = client if client is not None else await self.stage.connect()
        await client.send(head(path, headers))
        return await client.reply()

    async def lines(self, path: str, headers: str = "") -> list[str]:
        """The head that arrives at the service, line by line."""
        reply = await self.get(path, headers)
        assert reply.status == 200, reply
        return reply.body.decode("latin-1").split("\r\n")[:-2]


@asynccontextmanager
async def routed(
    url: str,
    signer: SessionTokenSigner,
    *,
    more: Callable[[Domains, Database, AuditLog], Endpoints] | None = None,
    recorder: Recorder | None = None,
    limiter: Limiter | None = None,
    **services: Service,
) -> AsyncIterator[Routed]:
    """Run it.

    Args:
        url: of a migrated database.
        signer: of session tokens.
        more: makes what the API serves beside.
        recorder: is told of requests to routes that are inspected.
        limiter: has limits for the gateway; None for none.
        services: of the device `cam`.
    """
    outbound = Outbound(_LOOPBACK)
    presence = DevicePresence()
    tables: list[RouteTable] = []
    checks: list[HealthChecks] = []
    async with (
        Database.connect(url) as database,
        running_domains(database, signer, outbound=outbound, more=more) as home,
    ):
        await database.write(_furnish)

        def router(dialer: ServiceDialer) -> Router:
            maker = TargetMaker(
                dialer=dialer,
                backends=Backends(outbound.connector),
                targets=outbound.policy,
                envelope=home.domains.envelope,
                tokens=home.domains.broker.tokens,
                presence=presence,
                limits=limiter if limiter is not None else NoLimits(),
                clock=stage.clock,
            )
            checks.append(HealthChecks(ServiceProbe(dialer), stage.clock.monotonic))
            tables.append(RouteTable(database, DeviceBook(), maker, presence, checks[0]))
            return tables[0]

        governor = None if limiter is None else Governor(limiter)
        stage = Stage(router=router, recorder=recorder, governor=governor, **services)
        async with stage:
            (table,) = tables
            table.on_replaced(RouteWatch(stage.gateway.connections).replaced)
            home.changes.feed.add(table)
            home.changes.feed.add(table.labels)
            yield Routed(home, stage, table, presence, checks[0], outbound)
    await outbound.aclose()


async def _furnish(tx: AsyncConnection) -> None:
    for name in DEVICES:
        values: dict[str, Any] = {"id": f"id-of-{name}", "team_id": HOME, "name": name, "services": []}
        await tx.execute(insert(devices).values(created_at=0, created_by_kind="user", created_by="usr_0", **values))
