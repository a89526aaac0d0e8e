"""What the gateway's checks cost: authentication, authorisation, the route table and the upstream credential.

    checked    10,000 API tokens that are remembered, 10,000 routes, an upstream secret that is shown
    open       the same gateway, with everybody let in and one place to go: the bare forward

Each is a process of its own before the same relay, agent and nginx, loaded in turn with as many different requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvloop
from prometheus_client import CollectorRegistry

from api_server.auth.admin_token import AdminTokenAuthenticator
from api_server.auth.interfaces import Action, Identity
from api_server.gateway import Gateway, Route, RoutedTarget
from api_server.gateway.access import Gatekeeper
from api_server.gateway.device_streams import DeviceStreams
from api_server.gateway.routes import DeviceRouter
from api_server.gateway.targets import StreamSource
from api_server.outbound.policy import TargetPolicy
from api_server.relay import Forwarder, ProxyClient, ProxyClientStore, ServiceDialer, SessionDirectory, StreamPool
from api_server.routing.balancing import NoLimits
from api_server.routing.health import HealthChecks, ServiceProbe
from api_server.routing.presence import DevicePresence
from api_server.routing.records import AuthKind, DeviceTarget, StoredRoute, UpstreamAuth
from api_server.routing.route_table import RouteTable
from api_server.routing.secrets import seal_context
from api_server.routing.store import TableRow
from api_server.routing.targets import TargetMaker
from api_server.tokens.authenticator import ProgramAuthenticator
from api_server.tokens.cache import Verified, VerifiedTokens
from api_server.tokens.keys import TokenKeys
from api_server.tokens.last_use import LastUse
from api_server.tokens.metrics import TokenMetrics
from api_server.tokens.records import Issuer, LiveToken
from common.clock import SystemClock
from common.crypto.api_tokens import new_api_token
from common.crypto.envelope import Envelope
from common.crypto.key_lines import new_key_line
from common.crypto.keyfiles import read_secret
from common.crypto.keyring import Keyring, new_wrapping_key
from common.guesses import GuessLimiter
from common.ids import ServiceName, TeamId
from common.secret import Secret
from tests.bench.gateway_micro import Bench, Client
from tests.bench.rows import SMALL_FILE, Figures, Row, Scale
from tests.bench.sides import HOMEPORT, OPEN, Installation
from tests.stack.process import Process

__all__ = ["GatewayPrice", "Lookups"]

_HOME = TeamId("home")
_ROUTES = 10_000
_FEW = 10
_CONNECTIONS = 32
_WEB = ServiceName("web")
_DEVICE = "bench"
_TOKENS = 10_000
_LOOKUPS = 100_000


def path_of(number: int) -> str:
    """Where the route of that number is."""
    return f"/team-{number % 100}/service-{number}"


def table_of(number: int, dialer: ServiceDialer) -> RouteTable:
    """A table with so many routes, each with a secret."""
    nothing: Any = None  # no database, no backends: nothing is read
    envelope = Envelope(Keyring((new_wrapping_key(),)))
    presence = DevicePresence()
    maker = TargetMaker(
        dialer=dialer,
        backends=nothing,
        targets=TargetPolicy(),
        envelope=envelope,
        presence=presence,
        tokens=nothing,
        limits=NoLimits(),
        clock=SystemClock(),
    )
    table = RouteTable(nothing, nothing, maker, presence, HealthChecks(ServiceProbe(dialer), time.monotonic))
    sealed = envelope.seal(b"0123456789abcdef", seal_context(_HOME, "ups_0", "key", 1))
    rows: dict[str, TableRow | None] = {}
    for each in range(number):
        route = StoredRoute(
            id=f"rte_{each}",
            name=f"service-{each}",
            team=_HOME,
            path=path_of(each),
            target=DeviceTarget(service=_WEB, device=_DEVICE),
            tags=["bench"],
            auth=UpstreamAuth(kind=AuthKind.BEARER, secret="key"),
            strip_prefix=True,
            health=None,
            cors=None,
            inspect=False,
            version=1,
            created_at=0.0,
            created_by="user:usr_0",
            updated_at=0.0,
        )
        rows[route.id] = TableRow(
            route=route,
            device_id=_DEVICE,
            label=None,
            destination=f"device:{_DEVICE}/web",
            secret_id="ups_0",
            secret_name="key",
            secret_destination=f"device:{_DEVICE}/web",
            secret_value=sealed,
            secret_version=1,
        )
    table.apply(rows, {})
    return table


class _LetIn(Gatekeeper):
    """Lets everybody in, without a look."""

    def __init__(self) -> None:
        self._everybody = Identity(kind="token", id="x", name="x", teams={_HOME: frozenset({Action.GATEWAY_CALL})})

    def identify_nowait(self, *_: object, **__: object) -> Identity:
        return self._everybody

    def admit(self, identity: Identity, route: Route | None) -> Route:
        assert route is not None
        return route


class _OnePlace:
    """Everything goes there."""

    def __init__(self, dialer: ServiceDialer) -> None:
        self._target = RoutedTarget(
            team=_HOME,
            name="x",
            route_id="rte_x",
            tags=frozenset(),
            prefix=b"",
            streams=DeviceStreams(dialer, _HOME, _DEVICE, _WEB),
        )

    def route(self, host: bytes, path: bytes) -> Route:
        return Route(self._target, path)


class _Fresh:
    """What is remembered may be trusted."""

    def fresh(self) -> bool:
        return True


def _authenticator(token: Secret) -> ProgramAuthenticator:
    """Knows the token, and 9,999 others."""
    nothing: Any = None  # no database: everything is remembered
    clock, metrics = SystemClock(), TokenMetrics(CollectorRegistry())
    keys, cache = TokenKeys(new_key_line()), VerifiedTokens(max_age=1e9)
    now = clock.monotonic()
    for number in range(_TOKENS):
        live = LiveToken(
            id=f"tok_{number}",
            team=_HOME,
            name="bench",
            scopes=("gateway:call",),
            addresses=(),
            issuer=Issuer(kind="user", id="usr_0"),
            expires_at=None,
        )
        identity = Identity(kind="token", id=live.id, name=live.name, teams={_HOME: frozenset({Action.GATEWAY_CALL})})
        shown = token if number == _TOKENS // 2 else new_api_token()
        cache.keep(keys.digest(shown), Verified(live, identity, now), counter=cache.counter)
    return ProgramAuthenticator(
        administration=AdminTokenAuthenticator(new_api_token(), _HOME, clock=clock, guesses=GuessLimiter()),
        verifier=nothing,
        cache=cache,
        freshness=_Fresh(),
        keys=keys,
        last_use=LastUse(nothing, metrics),
        clock=clock,
        guesses=GuessLimiter(),
        lookups=GuessLimiter(),
        metrics=metrics,
    )


async def serve_gateway(relay: str, key: Secret, token: str | None) -> None:
    """The gateway's process; an open one without a token."""
    clock = SystemClock()
    forwarder, client = Forwarder(relay, key=key), ProxyClient(relay, key=key)
    directory = SessionDirectory(ProxyClientStore(client, forwarder).locate, clock=clock)
    dialer = ServiceDialer(directory, forwarder, StreamPool())
    gateway = Gateway(
        authenticator=_authenticator(Secret(token) if token is not None else new_api_token()),
        dialer=dialer,
        clock=clock,
        router=table_of(_ROUTES, dialer) if token is not None else None,
    )
    if token is None:
        gateway._core.gatekeeper = _LetIn()
        gateway._core.router = _OnePlace(dialer)
    await gateway.start("127.0.0.1", 0)
    print(gateway.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await gateway.close()
    await client.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPrice(Row):
    """Small requests through a gateway that checks them, and through one that does not."""

    sides: tuple[str, ...] = (HOMEPORT, OPEN)

    def measure(self, homeport: Installation, scale: Scale) -> dict[str, list[Figures]]:
        """All rounds, the sides in turn: two gateways before the same relay."""
        with _running(homeport) as gateways:
            rounds: dict[str, list[Figures]] = {side: [] for side in gateways}
            for number in range(scale.rounds + 1):
                for side, bench in gateways.items():
                    behind = [homeport.side.processes[part] for part in ("relay", "agent")]
                    figures = uvloop.run(_load(bench, side, scale, behind))
                    if number:  # the first one is to warm up
                        rounds[side].append(figures)
        return rounds


async def _load(bench: Bench, side: str, scale: Scale, behind: Sequence[Process]) -> Figures:
    route = random.Random(7)
    prefixes = [path_of(route.randrange(_ROUTES)).encode() for _ in range(256)]
    small = f"/files/{SMALL_FILE}".encode()
    if side == OPEN:  # as many different ones, as long as the others
        fields = bench.fields.partition(b"Authorization:")[0]
        requests = [b"GET " + small + b"?" + prefix + fields + b"\r\n" for prefix in prefixes]
    else:
        requests = [b"GET " + prefix + small + bench.fields + b"\r\n" for prefix in prefixes]
    size = await bench.size_of(requests[0])
    ends_at = time.monotonic() + scale.seconds
    done = 0

    def next_request() -> bytes | None:
        nonlocal done
        done += 1
        return requests[done % len(requests)] if time.monotonic() < ends_at else None

    before, others = bench.cpu(), sum(process.cpu_seconds() for process in behind)
    wall = await bench.run(_CONNECTIONS, lambda over: Client(next_request, size, over))
    gateway = 1e4 * (bench.cpu() - before) / done
    rest = 1e4 * (sum(process.cpu_seconds() for process in behind) - others) / done
    return {"requests/s": done / wall, "CPU s/10k": gateway + rest, "CPU s/10k, gateway": gateway}


@contextmanager
def _running(homeport: Installation) -> Iterator[Mapping[str, Bench]]:
    """Both gateways, as processes."""
    token = new_api_token().reveal()
    gateways: dict[str, subprocess.Popen[bytes]] = {}
    key = str(homeport.keys.internal_key_file)
    try:
        for side, more in ((HOMEPORT, ["--token", token]), (OPEN, [])):
            command = [sys.executable, "-m", "tests.bench.price", "--gateway", homeport.internal, "--key", key, *more]
            gateways[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        yield {
            side: Bench(gateway, int(cast(Any, gateway.stdout).readline()), token) for side, gateway in gateways.items()
        }
    finally:
        for gateway in gateways.values():
            with contextlib.suppress(BrokenPipeError):
                gateway.communicate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookups(Row):
    """What finds the route of a request, as the gateway has it, with few routes and with many; as many different
    paths for either, each route of them alike.
    """

    sides: tuple[str, ...] = (HOMEPORT,)

    def measure(self, scale: Scale) -> dict[str, list[Figures]]:
        """All rounds, few and many in turn."""
        nothing: Any = None
        tables = {number: table_of(number, nothing) for number in (_FEW, _ROUTES)}
        order = random.Random(7)
        asked = {}
        for number in tables:
            paths = [f"{path_of(each % number)}/x/y".encode() for each in range(_ROUTES)]
            order.shuffle(paths)
            asked[number] = paths * (_LOOKUPS // _ROUTES)
        rounds: list[Figures] = []
        for _ in range(scale.rounds):
            taken = {number: _microseconds(tables[number], asked[number]) for number in tables}
            rounds.append(
                {
                    f"us, {_FEW} routes": taken[_FEW],
                    f"us, {_ROUTES} routes": taken[_ROUTES],
                    "lookup many/few": taken[_ROUTES] / taken[_FEW],
                }
            )
        return {HOMEPORT: rounds}


def _microseconds(table: RouteTable, paths: list[bytes]) -> float:
    """CPU microseconds of a lookup, the best of three passes."""
    router = DeviceRouter(domain=None, streams=_no_streams, others=table)
    passes = []
    for _ in range(3):
        before = time.process_time()
        for path in paths:
            router.route(b"gw", path)
        passes.append(1e6 * (time.process_time() - before) / len(paths))
    return min(passes)


def _no_streams(*_: object) -> StreamSource:
    raise AssertionError("nothing leads to a device")


def main() -> None:
    """One of the gateways: what `GatewayPrice` starts."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.price")
    parser.add_argument("--gateway", required=True, help="Base URL of the relay's internal HTTP.")
    parser.add_argument("--key", required=True, type=Path, help="File with the internal key.")
    parser.add_argument("--token", help="Lets in who shows it; without one, everybody.")
    options = parser.parse_args()
    uvloop.run(serve_gateway(options.gateway, read_secret(options.key), options.token))


if __name__ == "__main__":
    main()
