"""A device's live tunnel: the session that the store holds, and the handler that the tunnel calls back.

It is in the store from `tunnel_opened` on, until the store takes it out or `tunnel_closed` does. All of it is
synchronous: an open is a call with a callback, and no stream costs a task or a timer here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.clock import Clock
from common.crypto.session_tokens import DEFAULT_SERVICE, SessionClaims
from common.ids import DeviceId, ServiceName, SessionId, TeamId, is_name, new_session_id
from common.logging import Logger
from common.sessions.errors import (
    DrainingError,
    OverCapacityError,
    ServiceRefusedError,
    SessionNotFoundError,
    SessionReplacedError,
    SessionStoreError,
)
from common.sessions.interfaces import DEFAULT_OPEN_OPTIONS, OpenOptions, SessionState, Summary
from common.tunnel.dial import Dial
from common.tunnel.errors import TunnelError
from common.tunnel.handshake import HandshakeRequest
from common.tunnel.interfaces import CloseReason, OpenTicket, RelayTunnel, Subprotocol
from common.tunnel.stream import ResetCode, Stream, StreamSink
from common.wire.messages import DeviceHello, Drain, Health, OpenRefusal, RelayHello, Service, Stats
from remote_proxy.limits import TokenBucket
from remote_proxy.revocations import RevocationKey, RevocationKind, Revocations
from remote_proxy.store import InMemoryStore
from remote_proxy.tunnels.live import LiveTunnels
from remote_proxy.tunnels.outcomes import as_session_error, close_reason, printable
from remote_proxy.tunnels.traffic import Traffic

__all__ = ["LiveTunnel", "OnOpened", "TunnelContext", "revocation_keys"]

OnOpened = Callable[[Stream | SessionStoreError], None]
"""Gets the stream once the device accepted it, or why there is none. Called once, unless the open was cancelled."""

_CHANGES_PER_SECOND = 0.2
_CHANGES_BURST = 10
"""Changes of one session that are told at once. The events of all teams share one ring, and a device that changes its
services all the time must not push those of others out of it; what is over this waits for the next sweep.
"""

_HEALTH_WORDS = frozenset(health.value for health in Health)

_REFUSED_BY_LOAD = frozenset((OpenRefusal.OVER_CAPACITY, "limit"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelContext:
    """What all tunnels of a relay share: an idle tunnel holds one reference for all of it."""

    clock: Clock
    store: InMemoryStore[LiveTunnel]
    revocations: Revocations
    traffic: Traffic
    live: LiveTunnels[LiveTunnel]
    log: Logger
    relay_name: Callable[[], str]
    """What people know this relay by; asked for late, because a port of 0 is known when the relay listens."""
    software: str
    """Said to the device: name and version of this relay."""
    probe_interval: float
    dead_after: float
    max_streams: int
    opens_per_second: float
    replaced_grace: float = 30.0
    """Seconds that the streams of a session that was replaced may go on, if its device still answers."""
    retiring: dict[tuple[TeamId, DeviceId], LiveTunnel] = field(default_factory=dict)
    """Tunnels that were replaced and still carry streams: at most one of a device."""

    @property
    def degraded_after(self) -> float:
        """Seconds of silence after which a session shows as degraded: a probe went out, and its answer is late."""
        return min(self.probe_interval * 1.5, self.dead_after)


def revocation_keys(claims: SessionClaims) -> tuple[RevocationKey, RevocationKey]:
    """What a revocation may name that ends this device's tunnel."""
    return (
        RevocationKey(RevocationKind.DEVICE, claims.team, claims.device),
        RevocationKey(RevocationKind.CREDENTIAL, claims.team, claims.credential),
    )


class LiveTunnel:
    """One session of one device. Implements `common.sessions.interfaces.Tunnel` and the tunnel's `RelayHandler`.

    Args:
        context: what the relay's tunnels share.
        claims: what the session token said.
        epoch: rises with each session.
        request: the handshake.
        dial: which of its agent's dials this is, if it said so.
    """

    __slots__ = (
        "_agent_version",
        "_changes",
        "_claims",
        "_connected_at",
        "_context",
        "_counted",
        "_draining",
        "_left",
        "_opens",
        "_remote_address",
        "_services",
        "_subprotocol",
        "_tunnel",
        "dial",
        "epoch",
        "revision",
        "revocation_keys",
        "session_id",
    )

    def __init__(
        self,
        context: TunnelContext,
        claims: SessionClaims,
        *,
        epoch: int,
        request: HandshakeRequest,
        dial: Dial | None = None,
    ) -> None:
        self.session_id: SessionId = new_session_id()
        self.epoch = epoch
        self.dial = dial
        self.revision = 0
        self.revocation_keys = revocation_keys(claims)
        self._context = context
        self._claims = claims
        self._subprotocol = request.subprotocol
        self._remote_address = request.remote_address
        self._connected_at = context.clock.wall()
        self._agent_version: str | None = None
        self._services: dict[str, str] = {}
        if request.subprotocol is Subprotocol.YAMUX:
            self._services = {self._only_service: Health.UNKNOWN.value}
        self._tunnel: RelayTunnel | None = None
        self._draining = False
        self._left = False
        """Whether it is the device that drains."""
        now = context.clock.monotonic()
        self._opens = TokenBucket(context.opens_per_second, max(1.0, context.opens_per_second), now=now)
        self._changes = TokenBucket(_CHANGES_PER_SECOND, _CHANGES_BURST, now=now)
        self._counted = (0, 0)

    def __repr__(self) -> str:
        return f"<LiveTunnel {self.session_id} of {self._claims.team}/{self._claims.device}, {self.state.value}>"

    # common.sessions.interfaces.Tunnel

    @property
    def state(self) -> SessionState:
        tunnel = self._tunnel
        if tunnel is None or self._draining or tunnel.closed:
            return SessionState.DRAINING
        if self.silence() > self._context.degraded_after or Health.UNHEALTHY.value in self._services.values():
            return SessionState.DEGRADED
        return SessionState.HEALTHY

    def silence(self) -> float:
        if self._tunnel is None:
            return 0.0
        return self._context.clock.monotonic() - self._tunnel.last_received

    def describe(self) -> Summary:
        claims = self._claims
        statistics = self._tunnel.statistics() if self._tunnel is not None else None
        silence = self._context.clock.monotonic() - statistics.last_received if statistics is not None else 0.0
        rtt = statistics.rtt if statistics is not None else None
        return Summary(
            id=self.session_id,
            device=claims.device,
            device_name=claims.device_name,
            team=claims.team,
            relay=self._context.relay_name(),
            epoch=self.epoch,
            state=self.state,
            connected_at=self._connected_at,
            # The loop's clock, which the tunnel goes by, stands still within one turn of it.
            last_heartbeat=max(self._connected_at, self._context.clock.wall() - silence),
            rtt_ms=rtt * 1000 if rtt is not None else None,
            streams=statistics.streams if statistics is not None else 0,
            bytes_in=statistics.bytes_in if statistics is not None else 0,
            bytes_out=statistics.bytes_out if statistics is not None else 0,
            subprotocol=self._subprotocol,
            remote_address=self._remote_address,
            agent_version=self._agent_version,
            services=self._services,
        )

    async def summary(self) -> Summary:
        if self._tunnel is None or self._tunnel.closed:
            raise SessionNotFoundError
        return self.describe()

    async def open_stream(
        self, service: ServiceName, sink: StreamSink, options: OpenOptions = DEFAULT_OPEN_OPTIONS
    ) -> Stream:
        opened: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()

        def settle(result: Stream | SessionStoreError) -> None:
            if isinstance(result, SessionStoreError):
                if not opened.done():
                    opened.set_exception(result)
            elif opened.done():  # whoever waited was cancelled in the same turn of the loop
                result.reset(ResetCode.CANCELLED)
            else:
                opened.set_result(result)

        ticket = self.open_nowait(service, sink, options, settle)
        try:
            return await opened
        except asyncio.CancelledError:
            ticket.cancel()
            if opened.done() and not opened.cancelled() and opened.exception() is None:
                opened.result().reset(ResetCode.CANCELLED)
            raise

    def close(self, reason: str) -> None:
        # Whoever closes it, it leaves the store in the same call. The store calls back here, and then knows it no more.
        if self._forget(reason):
            return
        self._draining = True
        tunnel = self._tunnel
        if tunnel is None or tunnel.closed:
            return
        retiring = self._context.retiring
        if reason == CloseReason.REPLACED and retiring.get(self._place) is not self and tunnel.statistics().streams:
            earlier, retiring[self._place] = retiring.get(self._place), self
            if earlier is not None and earlier._tunnel is not None:
                earlier._tunnel.close(reason)  # one is enough: a device could pile them up
            tunnel.retire(reason, grace=self._context.replaced_grace, proof_within=self._context.probe_interval / 2)
        else:
            tunnel.close(reason)

    # What the relay does with it

    def open_nowait(
        self, service: ServiceName, sink: StreamSink, options: OpenOptions, on_opened: OnOpened
    ) -> OpenTicket:
        """Open a stream; `on_opened` is called later, never from inside this call.

        Raises:
            SessionNotFoundError: the tunnel is over.
            SessionReplacedError: `options.epoch` is of another session.
            DrainingError: it takes no new streams.
            OverCapacityError: too many opens a second.
            ServiceRefusedError: a device without our agent has one service, and it is another.
        """
        try:
            tunnel = self._may_open(service, options)
        except SessionStoreError as exc:
            self._context.traffic.opens_failed[exc.code] += 1
            raise
        traffic = self._context.traffic

        def settle(result: Stream | TunnelError) -> None:
            if isinstance(result, TunnelError):
                error = as_session_error(result)
                traffic.opens_failed[error.code] += 1
                on_opened(error)
            else:
                traffic.opened += 1
                on_opened(result)

        return tunnel.open_service(
            service, sink, timeout=options.timeout, traceparent=options.traceparent, on_result=settle
        )

    def drain(self, reconnect_after: float) -> None:
        """Ask the device to dial anew after that many seconds; the streams that are open go on."""
        if self._tunnel is not None and not self._draining:
            self._draining = True
            if self._tunnel.statistics().streams:
                self._changed()  # what is idle is gone at once, and that is told
            self._tunnel.drain(reconnect_after=reconnect_after)

    def account(self) -> int:
        """Add what was carried since the last call to the relay's totals; returns the streams that are open."""
        if self._tunnel is None:
            return 0
        statistics = self._tunnel.statistics()
        bytes_in, bytes_out = self._counted
        self._context.traffic.bytes_in += statistics.bytes_in - bytes_in
        self._context.traffic.bytes_out += statistics.bytes_out - bytes_out
        self._counted = (statistics.bytes_in, statistics.bytes_out)
        return statistics.streams

    # common.tunnel.interfaces.RelayHandler

    def tunnel_opened(self, tunnel: RelayTunnel) -> None:
        context = self._context
        self._tunnel = tunnel
        context.live.add(self)
        context.traffic.tunnels_opened[self._subprotocol] += 1
        # Asked at the handshake as well; a later dial may have been admitted since, and registered first.
        present = context.store.find_device(*self._place)
        if self.dial is not None and present is not None and self.dial.is_before(present.dial):
            self.close("replaced")
            return
        try:
            context.store.register_nowait(self)
        except SessionReplacedError:
            self.close("replaced")
            return
        context.revocations.attach(self)
        tunnel.greet(
            RelayHello(
                software=context.software,
                session_id=self.session_id,
                epoch=self.epoch,
                probe_interval=context.probe_interval,
                dead_after=context.dead_after,
                max_streams=context.max_streams,
            )
        )
        context.log.info("session online", **self._names(), subprotocol=self._subprotocol, address=self._remote_address)

    def hello_received(self, hello: DeviceHello) -> None:
        self._agent_version = printable(hello.software)
        self.services_changed(hello.services)

    def services_changed(self, services: Sequence[Service]) -> None:
        # The names and words are the device's own, and go on to terminals and pages: only what is one is kept.
        self._services = {
            service.name: service.health if service.health in _HEALTH_WORDS else Health.UNKNOWN.value
            for service in services
            if is_name(service.name)
        }
        self._changed()

    def stats_received(self, stats: Stats) -> None:
        """Not kept: what this relay needs to know of a tunnel, it counts itself."""

    def drain_received(self, drain: Drain) -> None:
        if not self._draining:
            self._left = True
        self._draining = True
        self._changed()
        self._context.log.info("session draining", **self._names(), by="device", reason=printable(drain.reason))
        if self._tunnel is not None:
            # Ours ends when the last stream has: the device waits for that.
            self._tunnel.drain()

    def tunnel_drained(self) -> None:
        # On an idle tunnel the device has not been told yet when to come back: that is among the last words of a close.
        # Who waits for the device wants to know whether it goes by itself, or was sent away and will be back.
        self.close("closed_by_device" if self._left else "draining")

    def tunnel_closed(self, exc: TunnelError) -> None:
        context = self._context
        self._draining = True
        self.account()
        reason = close_reason(exc)
        context.traffic.tunnels_closed[reason] += 1
        context.live.discard(self)
        context.revocations.detach(self)
        if context.retiring.get(self._place) is self:
            del context.retiring[self._place]
        self._forget(reason)
        context.log.info("session offline", **self._names(), reason=reason, detail=printable(exc.detail))
        self._tunnel = None  # which holds us: neither is left to the garbage collector

    # Inside

    def _changed(self) -> None:
        """Services or state are others than before: tell at once, or leave it to the next sweep of the store."""
        self.revision += 1
        if not self._changes.take(self._context.clock.monotonic()):
            self._context.store.update_nowait(self._claims.team, self.session_id)

    def _forget(self, reason: str) -> bool:
        store = self._context.store
        return store.unregister_nowait(self._claims.team, self.session_id, self.epoch, reason=reason)

    @property
    def _place(self) -> tuple[TeamId, DeviceId]:
        return self._claims.team, self._claims.device

    @property
    def _only_service(self) -> ServiceName:
        """The service of a device that has no agent to tell services apart."""
        return self._claims.service or DEFAULT_SERVICE

    def _may_open(self, service: ServiceName, options: OpenOptions) -> RelayTunnel:
        tunnel = self._tunnel
        if tunnel is None or tunnel.closed:
            raise SessionNotFoundError
        if options.epoch is not None and options.epoch != self.epoch:
            raise SessionReplacedError(f"the session is of epoch {self.epoch}, not {options.epoch}")
        if self._draining:
            raise DrainingError("the session takes no new streams", retry_after=1.0)
        if self._subprotocol is Subprotocol.YAMUX and service != self._only_service:
            raise ServiceRefusedError(f"the device has the service {self._only_service!r} alone")
        wait = self._opens.take(self._context.clock.monotonic())
        if wait:
            raise OverCapacityError("too many streams a second to this device", retry_after=wait)
        return tunnel

    def _names(self) -> dict[str, object]:
        claims = self._claims
        return {"session": self.session_id, "team": claims.team, "device": claims.device, "epoch": self.epoch}
