"""What is measured. A row is a load, the figures that it gives, and the goals of performance.md for them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tests.bench import loads
from tests.bench.sides import BARE, HOMEPORT, REFERENCE, RelaySide, Side
from tests.stack.process import Process

__all__ = ["ROWS", "AtLeast", "AtMost", "Figures", "Goal", "IdleTunnels", "LoadRow", "Row", "Scale"]

Figures = Mapping[str, float]
"""What one measurement gave, by the figure's name and unit."""

_GIB = 2**30
_MIB = 2**20
BULK_FILE = "bulk"
SMALL_FILE = "small"
SMALL_SIZE = 200
"""Bytes of the answer to a small request, without its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much of each load."""

    rounds: int = 5
    bulk_bytes: int = 512 * _MIB
    seconds: float = 4.0
    warm_up: float = 1.0
    idle_tunnels: int = 5_000
    idle_seconds: float = 11.0
    """How long the tunnels are held: two probes of 5 s each."""
    idle_rounds: int = 3

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
        )


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach."""

    figure: str
    limit: float
    of_reference: bool
    """Whether the limit is for the ratio to the reference, or for Homeport's own figure."""

    def holds(self, value: float) -> bool:
        """Whether `value` (a ratio or a figure) reaches the goal."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class AtLeast(Goal):
    """The more, the better."""

    def holds(self, value: float) -> bool:
        return value >= self.limit

    def __str__(self) -> str:
        return f"at least {self.limit:g}{' times' if self.of_reference else ''}"


@dataclass(frozen=True, slots=True)
class AtMost(Goal):
    """The less, the better."""

    def holds(self, value: float) -> bool:
        return value <= self.limit

    def __str__(self) -> str:
        return f"at most {self.limit:g}{' times' if self.of_reference else ''}"


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

    @abstractmethod
    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        """Load `side` once."""

    def warm_up(self, side: Side, scale: Scale) -> None:
        """Load `side` before the first round, so that its pools, windows and caches are as they stay."""
        if scale.warm_up:
            loads.requests(_small(side), side.token_file, connections=32, seconds=scale.warm_up)
            loads.bulk(_bulk(side), side.token_file, method="GET", size=scale.bulk_bytes)


@contextmanager
def _cpu(side: Side) -> Iterator[dict[str, float]]:
    """CPU seconds that each process of `side` used within the block, and their sum as `all`."""
    used: dict[str, float] = {}
    before = {part: process.cpu_seconds() for part, process in side.processes.items()}
    yield used
    for part, process in side.processes.items():
        used[part] = process.cpu_seconds() - before[part]
    used["all"] = sum(used.values())


def _small(side: Side) -> str:
    return f"{side.url}/files/{SMALL_FILE}"


def _bulk(side: Side) -> str:
    return f"{side.url}/files/{BULK_FILE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk(LoadRow):
    """One stream that carries one big body."""

    method: str

    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        url = _bulk(side) if self.method == "GET" else f"{side.url}/upload/{side.name}"
        with _cpu(side) as cpu:
            result = loads.bulk(url, side.token_file, method=self.method, size=scale.bulk_bytes)
        share = result.bytes / _GIB
        return {
            "MiB/s": result.bytes / _MIB / result.seconds,
            "CPU s/GiB": cpu["all"] / share,
            **{f"CPU s/GiB, {part}": cpu[part] / share for part in side.processes},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests(LoadRow):
    """Small requests, as many as go through."""

    connections: int
    close: bool = False

    def measure(self, side: Side, scale: Scale, folder: Path) -> Figures:
        with _cpu(side) as cpu:
            result = loads.requests(
                _small(side),
                side.token_file,
                connections=self.connections,
                seconds=scale.seconds,
                close=self.close,
            )
        share = result.requests / 10_000
        return {
            "requests/s": result.requests / result.seconds,
            "p50 ms": result.p50_ms,
            "p99 ms": result.p99_ms,
            "CPU s/10k": cpu["all"] / share,
            **{f"CPU s/10k, {part}": cpu[part] / share for part in side.processes},
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
            _small(side), side.token_file, rate=self.rate, connections=self.connections, seconds=scale.seconds
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
            _hold(holding, scale.idle_seconds)
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


def _hold(process: Process, seconds: float) -> None:
    """Let time pass: a load, not a wait for something."""
    deadline = time.monotonic() + seconds
    process.wait_until(lambda: time.monotonic() >= deadline, "held", seconds=seconds + 60)


def _more(figure: str, limit: float) -> Goal:
    return AtLeast(figure, limit, of_reference=True)


def _less(figure: str, limit: float) -> Goal:
    return AtMost(figure, limit, of_reference=True)


_ALL = (HOMEPORT, REFERENCE, BARE)
_SAME = (_more("MiB/s", 1.3), _less("CPU s/GiB", 0.9))

ROWS: tuple[Row, ...] = (
    Bulk(key="download", title="bulk download, one stream", method="GET", goals=_SAME, sides=_ALL),
    Bulk(key="upload", title="bulk upload, one stream", method="PUT", goals=_SAME, sides=_ALL),
    Requests(
        key="small",
        title="small requests, 32 keep-alive connections",
        connections=32,
        goals=(_more("requests/s", 1.0),),
        sides=_ALL,
    ),
    Requests(
        key="close",
        title="small requests, 32 connections, without keep-alive",
        connections=32,
        close=True,
        goals=(_more("requests/s", 1.5),),
        sides=_ALL,
    ),
    Requests(
        key="one",
        title="small requests, one connection",
        connections=1,
        goals=(_less("p50 ms", 1.5),),
        sides=_ALL,
    ),
    Mixed(
        key="mixed",
        title="small requests while a bulk download fills the same tunnel",
        goals=(AtMost("p99 busy/quiet", 3.0, False), AtLeast("bulk busy/alone", 0.8, False)),
    ),
    Bulk(
        key="tls-download",
        title="bulk download, one stream, TLS on the tunnel",
        method="GET",
        goals=(_more("MiB/s", 1.0),),
        tls=True,
    ),
    Bulk(
        key="tls-upload",
        title="bulk upload, one stream, TLS on the tunnel",
        method="PUT",
        goals=(_more("MiB/s", 1.0),),
        tls=True,
    ),
    Requests(
        key="tls-small",
        title="small requests, 32 keep-alive connections, TLS on the tunnel",
        connections=32,
        goals=(_more("requests/s", 1.0),),
        tls=True,
    ),
    IdleTunnels(
        key="idle",
        title="idle tunnels",
        goals=(AtMost("KiB a tunnel", 12.0, False), AtLeast("accepts/s", 1_500.0, False)),
    ),
)
"""Every row, in the order in which they are measured."""
