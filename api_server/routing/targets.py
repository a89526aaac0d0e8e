"""Makes what the gateway sends requests to, of what is stored of a route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from api_server.broker.interfaces import TokenSource
from api_server.gateway.device_streams import DeviceStreams
from api_server.gateway.targets import RoutedTarget, StreamSource
from api_server.outbound.errors import TargetRefusedError
from api_server.outbound.policy import TargetPolicy
from api_server.relay.dialer import ServiceDialer
from api_server.routing.balancing import BalancedStreams, DeviceLimits, Usable
from api_server.routing.credentials import credential_of
from api_server.routing.health import RouteHealth
from api_server.routing.presence import DevicePresence
from api_server.routing.records import UrlTarget
from api_server.routing.refused import RefusedStreams
from api_server.routing.store import TableRow
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.ids import ServiceName, TeamId

if TYPE_CHECKING:
    from api_server.backends import Backends

__all__ = ["Entry", "TargetMaker"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A route as a gateway has it."""

    id: str
    path: str
    versions: tuple[int, int]
    """Of the route, and of the secret that it shows."""
    devices: tuple[str, ...]
    """Ids of those that it shares, if it leads to a label."""
    label: tuple[TeamId, str] | None
    """The team and the label."""
    target: RoutedTarget
    health: RouteHealth | None
    """What is thought of its devices, if it wants them to be asked."""


class TargetMaker:
    """Makes entries of a route table.

    Args:
        dialer: gets streams to devices.
        backends: give those to URLs.
        targets: says which URLs can be reached.
        envelope: opens secrets.
        tokens: has tokens of providers.
        presence: knows who is there.
        limits: of devices.
        clock: of both kinds.
    """

    def __init__(
        self,
        *,
        dialer: ServiceDialer,
        backends: Backends,
        targets: TargetPolicy,
        envelope: Envelope,
        tokens: TokenSource,
        presence: DevicePresence,
        limits: DeviceLimits,
        clock: Clock,
    ) -> None:
        self._dialer = dialer
        self._backends = backends
        self._targets = targets
        self._envelope = envelope
        self._tokens = tokens
        self._presence = presence
        self._limits = limits
        self._now: Callable[[], float] = clock.monotonic

    def make(self, row: TableRow, devices: Sequence[str], known: Entry | None = None) -> Entry:
        """The entry of a route.

        Args:
            row: what is stored of it.
            devices: ids of those that have its label.
            known: the one that it replaces; what is thought of its devices is kept.
        """
        route, target = row.route, row.route.target
        credential = credential_of(self._envelope, self._tokens, row)
        health: RouteHealth | None = None
        device: str | None = None
        host: bytes | None = None
        base = b""
        streams: StreamSource
        if isinstance(target, UrlTarget):
            try:
                url = self._targets.check_url(target.url)
            except TargetRefusedError as exc:  # it was let through when it was saved, and is no more
                streams = RefusedStreams(exc.detail)
            else:
                streams = cast(StreamSource, self._backends.streams(route.team, url))
                host = url.authority.encode("ascii")
                base = url.path.encode("ascii")
        elif row.device_id is not None:
            device = row.device_id
            streams = DeviceStreams(self._dialer, route.team, device, ServiceName(target.service))
        else:
            service = ServiceName(target.service)
            judges: list[Usable] = [self._presence]
            if route.health is not None:
                health = RouteHealth(route.team, service, route.health, credential)
                health.cover(devices, known.health if known is not None else None)
                judges.append(health)
            streams = BalancedStreams(
                self._dialer, route.team, devices, service, judges=judges, limits=self._limits, now=self._now
            )
        return Entry(
            id=route.id,
            path=route.path,
            versions=(route.version, row.secret_version or 0),
            devices=tuple(devices),
            label=None if row.label is None else (route.team, row.label),
            target=RoutedTarget(
                strips=route.strip_prefix,
                base=base.removesuffix(b"/"),
                root=base or b"/",
                team=route.team,
                name=route.name,
                route_id=route.id,
                tags=frozenset(route.tags),
                prefix=route.path.encode("ascii") if route.strip_prefix and route.path != "/" else b"",
                streams=streams,
                device=device,
                host=host,
                credential=credential,
                cors=route.cors,
                inspect=route.inspect,
            ),
            health=health,
        )
