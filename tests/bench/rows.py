"""Kinds of rows. A row is a load, the figures that it gives, and the goals for them; `table` has all of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.bench import loads
from tests.bench.goals import Goal
from tests.bench.sides import FIXED, HOMEPORT, REFERENCE, RelaySide, Side
from tests.stack.process import Process

__all__ = [
    "AloneRow",
    "Bulk",
    "Curve",
    "Far",
    "Figures",
    "IdleTunnels",
    "LoadRow",
    "Mixed",
    "Requests",
    "Row",
    "Scale",
    "cpu_of",
    "hold",
    "small_url",
]

Figures = Mapping[str, float]
"""What one measurement gave, by the figure's name and unit."""

_GIB = 2**30
_MIB = 2**20
BULK_FILE = "bulk"
FAR_FILE = "far"
FIXED_FILE = "far-fixed"
SMALL_FILE = "small"
SMALL_SIZE = 200
"""Bytes of the answer to a small request, without its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of each load."""

    rounds: int = 5
    bulk_bytes: int = 512 * _MIB
    seconds: float = 3.0
    warm_up: float = 1.0
    idle_tunnels: int = 5_000
    idle_seconds: float = 11.0
    """How long the tunnels are held: two probes of 5 s each."""
    idle_rounds: int = 3
    far_bytes: int = 64 * _MIB
    fixed_bytes: int = 8 * _MIB
    """For the side whose window does not grow: it takes 5 s for these at 100 ms."""
    far_rounds: int = 3
    curve_rates: tuple[int, ...] = (500, 1_000, 2_000, 4_000, 6_000, 8_000)
    curve_seconds: float = 2.0
    curve_rounds: int = 2
    few_tunnels: int = 100
    many_tunnels: int = 10_000
    many_rounds: int = 3
    few_tokens: int = 10
    many_tokens: int = 10_000
    token_rounds: int = 3
    revocations: int = 200

    @classmethod
    def quick(cls) -> Scale:
        """Enough to see that it works; its figures mean nothing."""
        return cls(
            rounds=1,
            bulk_bytes=16 * _MIB,
            seconds=1.0,
            warm_up=0.0,
            idle_tunnels=100,
            idle_seconds=0.0,
            idle_rounds=1,
            far_bytes=2 * _MIB,
            fixed_bytes=1 * _MIB,
            far_rounds=1,
            curve_rates=(100, 200),
            curve_seconds=1.0,
            curve_rounds=1,
            few_tunnels=10,
            many_tunnels=100,
            many_rounds=1,
            many_tokens=100,
            token_rounds=1,
            revocations=5,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One load."""

    key: str
    """What `--rows` takes."""
    title: str
    goals: tuple[Goal, ...]
    sides: tuple[str, ...] = (HOMEPORT, REFERENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRow(Row, ABC):
    """A load on whole sides."""

    tls: bool = False
    line: str = ""
    """What the network between agent and relay does, as a script of `tests.faults.script`."""

    def rounds(self, scale: Scale) -> int:
        """How often each side is measured."""
        return scale.rounds

    @abstractmethod
    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        """Load `side` once."""

    def warm_up(self, side: Side, scale: Scale) -> None:
        """Load `side` before the first round, so that its pools, windows and caches are as they stay."""
        if scale.warm_up:
            loads.requests(small_url(side), side.token_file, connections=32, seconds=scale.warm_up)
            loads.bulk(_bulk(side), side.token_file, method="GET", size=scale.bulk_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AloneRow(Row, ABC):
    """A load that starts whatever it needs by itself; of Homeport alone."""

    sides: tuple[str, ...] = (HOMEPORT,)

    @abstractmethod
    def rounds(self, scale: Scale) -> int:
        """How often it is measured."""

    @abstractmethod
    def measure(self, scale: Scale, folder: Path) -> Figures:
        """Measure it once; `folder` is its own."""


@contextmanager
def cpu_of(side: Side, unit: str) -> Iterator[Callable[[float], Figures]]:
    """CPU seconds that `side` used within the block, as figures: all, each process, and the kernel's share of each.

    Yields a function that gives them, once the block is over, for so many units of work.
    """
    before = {part: process.cpu_times() for part, process in side.processes.items()}
    used: dict[str, tuple[float, float]] = {}

    def figures(units: float) -> Figures:
        each = {part: sum(times) / units for part, times in used.items()}
        return {
            f"CPU s/{unit}": sum(each.values()),
            **{f"CPU s/{unit}, {part}": seconds for part, seconds in each.items()},
            **{f"kernel %, {part}": 100 * system / (user + system or 1.0) for part, (user, system) in used.items()},
        }

    yield figures
    for part, process in side.processes.items():
        user, system = process.cpu_times()
        used[part] = (user - before[part][0], system - before[part][1])


def small_url(side: Side) -> str:
    """What small requests ask for."""
    return f"{side.url}/files/{SMALL_FILE}"


def _bulk(side: Side) -> str:
    return f"{side.url}/files/{BULK_FILE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk(LoadRow):
    """One stream that carries one big body."""

    method: str

    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        url = _bulk(side) if self.method == "GET" else f"{side.url}/upload/{side.name}"
        with cpu_of(side, "GiB") as cpu:
            result = loads.bulk(url, side.token_file, method=self.method, size=scale.bulk_bytes)
        return {"MiB/s": result.bytes / _MIB / result.seconds, **cpu(result.bytes / _GIB)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Far(LoadRow):
    """One stream over a long line: what its window lets through."""

    def rounds(self, scale: Scale) -> int:
        return scale.far_rounds

    def warm_up(self, side: Side, scale: Scale) -> None:
        pass  # a stream begins with a small window, and that is part of what is measured

    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        size, file = (scale.fixed_bytes, FIXED_FILE) if side.name == FIXED else (scale.far_bytes, FAR_FILE)
        result = loads.bulk(f"{side.url}/files/{file}", side.token_file, method="GET", size=size)
        return {"MiB/s": result.bytes / _MIB / result.seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve(LoadRow):
    """Latency as the offered load grows. The load does not wait: a request that is late counts from when it was due."""

    connections: int = 64

    def rounds(self, scale: Scale) -> int:
        return scale.curve_rounds

    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        figures: dict[str, float] = {}
        for rate in scale.curve_rates:
            result = loads.paced(
                small_url(side), side.token_file, rate=rate, connections=self.connections, seconds=scale.curve_seconds
            )
            figures[f"p50 ms at {rate}/s"] = result.p50_ms
            figures[f"p99 ms at {rate}/s"] = result.p99_ms
        return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests(LoadRow):
    """Small requests, as many as go through."""

    connections: int
    close: bool = False

    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        with cpu_of(side, "10k") as cpu:
            result = loads.requests(
                small_url(side),
                side.token_file,
                connections=self.connections,
                seconds=scale.seconds,
                close=self.close,
            )
        return {
            "requests/s": result.requests / result.seconds,
            "p50 ms": result.p50_ms,
            "p99 ms": result.p99_ms,
            **cpu(result.requests / 10_000),
            "errors": float(result.errors),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed(LoadRow):
    """Small requests at a low fixed rate: alone, and while a bulk download fills the same tunnel."""

    rate: float = 400.0
    connections: int = 8

    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        quiet = self._paced(side, scale)
        with loads.start_bulk(
            _bulk(side), side.token_file, size=scale.bulk_bytes, seconds=scale.seconds / 2, folder=folder
        ) as process:
            alone = msgspec.convert(process.read_json(), loads.Bulk)
        with loads.start_bulk(
            _bulk(side), side.token_file, size=scale.bulk_bytes, seconds=scale.seconds, folder=folder
        ) as process:
            busy = self._paced(side, scale)
            filling = msgspec.convert(process.read_json(), loads.Bulk)
        return {
            "p50 ms, quiet": quiet.p50_ms,
            "p99 ms, quiet": quiet.p99_ms,
            "p50 ms, busy": busy.p50_ms,
            "p99 ms, busy": busy.p99_ms,
            "p99 busy/quiet": busy.p99_ms / quiet.p99_ms,
            "MiB/s, busy": filling.bytes / _MIB / filling.seconds,
            "bulk busy/alone": (filling.bytes / filling.seconds) / (alone.bytes / alone.seconds),
        }

    def _paced(self, side: Side, scale: Scale) -> loads.Paced:
        return loads.paced(
            small_url(side), side.token_file, rate=self.rate, connections=self.connections, seconds=scale.seconds
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTunnels(Row):
    """Tunnels that carry nothing but the relay's own probes. Each measurement starts a relay of its own."""

    def measure(self, side: RelaySide, scale: Scale, folder: Path) -> Figures:
        """Open the tunnels, hold them, and count."""
        tokens = folder / "tokens"
        tokens.write_text("".join(f"{side.session_token(f'idle-{n}')}\n" for n in range(scale.idle_tunnels)))
        with ExitStack() as stack:
            before, cpu = side.process.memory_bytes(), side.process.cpu_seconds()
            holding, opened = stack.enter_context(loads.tunnels(side.url, tokens, folder=folder))
            accepting = side.process.cpu_seconds() - cpu
            hold(holding, scale.idle_seconds)
            used = side.process.memory_bytes() - before
            idling = side.process.cpu_seconds() - cpu - accepting
            holding.close_input()
            lost = msgspec.convert(holding.read_json(), loads.Tunnels).lost
        return {
            "KiB a tunnel": used / 1024 / opened.opened,
            "accepts/s": opened.opened / opened.seconds,
            "CPU ms an accept": accepting * 1e3 / opened.opened,
            "CPU %, idle": 100 * idling / scale.idle_seconds if scale.idle_seconds else 0.0,
            "lost": float(lost),
        }


def hold(process: Process, seconds: float) -> None:
    """Let time pass: a load, not a wait for something."""
    deadline = time.monotonic() + seconds
    process.wait_until(lambda: time.monotonic() >= deadline, "held", seconds=seconds + 60)
