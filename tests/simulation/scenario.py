"""What a seed stands for: devices, the ways to them, the faults that befall them, and what clients ask of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.simulation.client import Kind, Request
from tests.simulation.network import Direction, Quality
from tests.simulation.services import CONTENT_SIZE

__all__ = [
    "AMPLE",
    "CREDENTIALS",
    "DURATION",
    "HARD",
    "MAX_DEVICES",
    "DeviceFault",
    "DevicePlan",
    "FaultKind",
    "RelayFault",
    "RelayFaultKind",
    "Scenario",
]

DURATION = 60.0
"""Simulated seconds in which requests are made and faults begin."""

MAX_DEVICES = 4

CREDENTIALS = 4
"""Of each device, one after the other: a device has three faults at most, and each may take one."""

AMPLE = 64 * 1024 * 1024
"""Bytes of a memory budget that no scenario uses up."""

HANDSHAKE = 1500
"""Bytes: where the handshake of a device without TLS has ended, and frames have begun."""


class FaultKind(StrEnum):
    """What may happen to one device."""

    STALL = "stall"
    """One direction, for `duration`."""
    DEAD_LINE = "dead line"
    """Both directions, for `duration`."""
    RESET = "reset"
    HALF_CLOSE = "half-close"
    CORRUPT = "corrupt"
    SLOW_LINE = "slow line"
    """Two seconds of delay and little bandwidth, both ways, for `duration`."""
    POWER = "power"
    """The device is off for `duration`."""
    RESTART = "restart"
    """The agent is stopped in order, and started after `duration`."""
    REVOKE = "revoke"
    """Its credential is revoked; after `duration` it gets another one, and its agent is started with that."""


class RelayFaultKind(StrEnum):
    """What may happen to the relay."""

    KILL = "kill"
    """SIGKILL, and a new one after `duration`."""
    POWER = "power"
    """Its machine is off for `duration`."""
    DRAIN = "drain"
    """It is drained, while a new one serves; `duration` is the grace."""


HARD: frozenset[FaultKind | RelayFaultKind] = frozenset(
    {*FaultKind, *RelayFaultKind} - {FaultKind.RESTART, RelayFaultKind.DRAIN}
)
"""Those that may break streams which are open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFault:
    """One fault: at a moment, or after a number of bytes on one connection of the device."""

    kind: FaultKind
    at: float
    """Seconds; 0 for one that comes after a number of bytes."""
    duration: float = 0.0
    direction: Direction = Direction.UP
    connection: int = 0
    """Number of the connection, from 1; 0 for one that comes at a moment."""
    offset: int = 0
    mask: int = 0
    """Bits that are changed; 0 for a byte that becomes zero."""
    told: bool = False
    """A device that is back resets its old connection, instead of being silent about it."""
    planted: bool = False
    """The oracles are not told of it, and must notice: for the tests of the oracles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """One device."""

    name: str
    secure: bool
    up: Quality
    down: Quality
    retry_maximum: float
    max_streams: int
    faults: tuple[DeviceFault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFault:
    """One fault of the relay."""

    kind: RelayFaultKind
    at: float
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """See the module. Everything else that is random in a run is drawn from generators that `seed` seeds."""

    seed: int
    devices: tuple[DevicePlan, ...]
    relay_faults: tuple[RelayFault, ...]
    requests: tuple[Request, ...]
    budget: int = AMPLE
    """Bytes that receive windows may grow by, in the relay and in each agent."""

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """The scenario of a seed; always the same."""
        rng = random.Random(f"scenario {seed}")
        devices = tuple(_device(rng, number) for number in range(rng.randint(2, MAX_DEVICES)))
        relay_faults = _relay_faults(rng)
        requests = list(_requests(rng, devices, relay_faults))
        budget = AMPLE
        if rng.random() < 0.15:
            budget = rng.choice((0, 300_000, 1_000_000))
            requests += _bulk(rng, devices, len(requests))
        if rng.random() < 0.1:
            requests += _crowd(rng, devices, len(requests))
        return cls(seed=seed, devices=devices, relay_faults=relay_faults, requests=tuple(requests), budget=budget)

    def with_planted_fault(self) -> Scenario:
        """The same, and what was promised to the first device is broken: nothing may happen to it, and its line is cut
        again and again.
        """
        faults = tuple(
            DeviceFault(kind=FaultKind.RESET, at=float(at), planted=True) for at in range(5, int(DURATION), 2)
        )
        first, *others = self.devices
        return replace(self, devices=(replace(first, faults=(*first.faults, *faults)), *others))

    def __str__(self) -> str:
        lines = [f"seed {self.seed} budget={self.budget}"]
        for device in self.devices:
            lines.append(
                f"  {device.name}{' TLS' if device.secure else ''} up={device.up} down={device.down} "
                f"retry_maximum={device.retry_maximum} max_streams={device.max_streams}"
            )
            lines += [f"    {fault}" for fault in device.faults]
        lines += [f"  {fault}" for fault in self.relay_faults]
        return "\n".join(lines)


def _device(rng: random.Random, number: int) -> DevicePlan:
    secure = rng.random() < 0.35
    faults = []
    # The first device is left alone: it shows that the faults of the others do not reach it.
    if number:
        faults = [_device_fault(rng, secure) for _ in range(rng.choice((0, 1, 1, 2, 3)))]
    return DevicePlan(
        name=f"device-{number}",
        secure=secure,
        up=_quality(rng),
        down=_quality(rng),
        retry_maximum=rng.choice((2.0, 8.0, 60.0)),
        max_streams=rng.choice((3, 512, 512)),
        faults=tuple(faults),
    )


def _quality(rng: random.Random) -> Quality:
    return Quality(
        delay=rng.choice((0.0005, 0.01, 0.05, 0.3)) * rng.uniform(0.5, 1.0),
        jitter=rng.choice((0.0, 0.005, 0.2)),
        bandwidth=rng.choice((math.inf, math.inf, 4e6, 256e3)),
        segment=rng.choice((1400, 16 * 1024, 64 * 1024, 64 * 1024)),
        send_buffer=rng.choice((16 * 1024, 64 * 1024, 256 * 1024)),
    )


def _device_fault(rng: random.Random, secure: bool) -> DeviceFault:
    kind = rng.choice(list(FaultKind))
    at = rng.uniform(0.5, DURATION)
    direction = rng.choice(list(Direction))
    connection = offset = mask = 0
    if kind is FaultKind.CORRUPT or (
        kind in (FaultKind.STALL, FaultKind.RESET, FaultKind.HALF_CLOSE) and rng.random() < 0.5
    ):
        at = 0.0
        connection = rng.choice((1, 1, 2, 3))
        offset = int(10 ** rng.uniform(0, 5.5))
    if kind is FaultKind.CORRUPT:
        mask = rng.randint(1, 255)
        if not secure and offset < HANDSHAKE:
            # The handshake has random text, and a zero byte breaks all of it alike. Nothing but TLS could tell a token
            # that was changed on the way from a wrong one, which is final: that one is left whole.
            mask = 0
            direction = Direction.DOWN
    return DeviceFault(
        kind=kind,
        at=at,
        duration=rng.choice((1.0, 8.0, 20.0, 40.0)) * rng.uniform(0.5, 1.0),
        direction=direction,
        connection=connection,
        offset=offset,
        mask=mask,
        told=rng.random() < 0.5,
    )


def _relay_faults(rng: random.Random) -> tuple[RelayFault, ...]:
    if rng.random() < 0.7:
        return ()
    kind = rng.choice(list(RelayFaultKind))
    return (RelayFault(kind=kind, at=rng.uniform(5.0, DURATION), duration=rng.uniform(2.0, 25.0)),)


_WEIGHTS = {
    Kind.ECHO: 5,
    Kind.UPLOAD: 2,
    Kind.SLOW_UPLOAD: 2,
    Kind.DOWNLOAD: 4,
    Kind.EVENTS: 4,
    Kind.SLOW: 4,
    Kind.ABORT: 2,
    Kind.FLAKY: 1,
    Kind.REFUSED: 1,
    Kind.UNKNOWN: 1,
    Kind.TARPIT: 1,
}


def _requests(
    rng: random.Random, devices: Sequence[DevicePlan], relay_faults: Sequence[RelayFault]
) -> Iterator[Request]:
    """Some at any time, some together, and many just before something happens to their device."""
    burst = rng.uniform(2.0, DURATION)
    times: list[tuple[float, int]] = []
    for device, plan in enumerate(devices):
        moments = [fault.at for fault in (*plan.faults, *relay_faults) if fault.at > 2.0]
        for _ in range(rng.randint(4, 8)):
            at = rng.uniform(2.0, DURATION)
            if rng.random() < 0.3:
                at = burst + rng.random()
            elif moments and rng.random() < 0.6:
                at = max(2.0, rng.choice(moments) - rng.uniform(0.0, 5.0))
            times.append((at, device))
    kinds = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=len(times))
    for number, ((at, device), kind) in enumerate(zip(sorted(times), kinds, strict=True)):
        yield _request(rng, number, device, at, kind)


def _request(rng: random.Random, number: int, device: int, at: float, kind: Kind) -> Request:
    size = min(int(10 ** rng.uniform(0, 5.2)), CONTENT_SIZE)
    if rng.random() < 0.08:
        size = rng.randint(256 * 1024, CONTENT_SIZE)
    piece = rng.choice((100, 1400, 16 * 1024, 64 * 1024))
    piece = max(piece, size // 100)
    pause = 0.0
    if kind is Kind.EVENTS:
        size, piece, pause = rng.randint(1, 20) * 64, 64, rng.uniform(0.1, 2.0)
    elif kind is Kind.SLOW:
        pause = rng.uniform(0.05, 1.5)
    return Request(
        number=number,
        device=device,
        at=at,
        kind=kind,
        start=rng.randrange(CONTENT_SIZE),
        size=size,
        piece=piece,
        pause=pause,
        cut=rng.randint(1, size),
        early_eof=rng.random() < 0.5,
    )


def _bulk(rng: random.Random, devices: Sequence[DevicePlan], first: int) -> Iterator[Request]:
    """Transfers that ask for large windows, all at once."""
    at = rng.uniform(2.0, DURATION - 20.0)
    for number in range(first, first + rng.randint(4, 8)):
        yield Request(
            number=number,
            device=rng.randrange(len(devices)),
            at=at + rng.random() * 5.0,
            kind=rng.choice((Kind.DOWNLOAD, Kind.DOWNLOAD, Kind.UPLOAD, Kind.SLOW, Kind.SLOW_UPLOAD)),
            start=rng.randrange(CONTENT_SIZE),
            size=rng.randint(CONTENT_SIZE // 2, CONTENT_SIZE),
            piece=64 * 1024,
            pause=rng.uniform(0.05, 1.0),
        )


def _crowd(rng: random.Random, devices: Sequence[DevicePlan], first: int) -> Iterator[Request]:
    """Very many streams of one device at once; some that last, most of them small."""
    device = rng.randrange(len(devices))
    at = rng.uniform(2.0, DURATION - 10.0)
    for number in range(first, first + rng.randint(100, 200)):
        kind = rng.choice((Kind.ECHO, Kind.ECHO, Kind.EVENTS, Kind.SLOW, Kind.ABORT))
        size = rng.randint(1, 5) * 64
        yield Request(
            number=number,
            device=device,
            at=at + rng.random() * 0.5,
            kind=kind,
            start=rng.randrange(CONTENT_SIZE),
            size=size,
            piece=64,
            pause=rng.uniform(0.05, 1.0),
            cut=rng.randint(1, size),
        )
