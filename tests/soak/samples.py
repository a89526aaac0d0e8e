"""What each process holds, every few seconds: from /proc from outside, and from its own /metrics.

    memory        MiB, VmRSS without pages of files (RssAnon), which come and go as the kernel likes
    descriptors   open files
    threads
    streams       relay: streams that carry a service; gateway: clients with something under way
    idle          gateway: streams kept for the next request
    sessions      relay: sessions in its store
    tasks         of the event loop, the one that answers the question included
    held          MiB: relay and gateway, bytes held for readers and windows granted beyond the first 256 KiB

A series belongs to one life of a process: a restart begins a new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Life", "Samples", "Source", "proc_figures"]

_MIB = 1024 * 1024
_GAUGES = {
    "homeport_gateway_active": "streams",
    "homeport_gateway_held_bytes": "held",
    "homeport_gateway_streams_idle": "idle",
    "homeport_relay_held_bytes": "held",
    "homeport_relay_sessions": "sessions",
    "homeport_relay_streams": "streams",
    "homeport_relay_window_bytes": "held",
    "homeport_tasks": "tasks",
}
_TIMEOUT = aiohttp.ClientTimeout(total=20)


@dataclass(frozen=True, slots=True)
class Source:
    """A place where a process runs."""

    name: str
    pid: Callable[[], int | None]
    """None while there is none."""
    metrics: Callable[[], tuple[str, str] | None] = lambda: None
    """URL and token of its /metrics, if it has them."""


@dataclass(slots=True)
class Life:
    """One process from its start to its end."""

    source: str
    number: int
    """From 1, of its source."""
    pid: int
    minutes: dict[str, list[float]] = field(default_factory=dict)
    """When each figure was taken, since the beginning of the soak."""
    values: dict[str, list[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people."""
        return self.source if self.number == 1 else f"{self.source} #{self.number}"

    @property
    def lasted(self) -> float:
        """Minutes from its first sample to its last."""
        taken = self.minutes.get("memory", [])
        return taken[-1] - taken[0] if taken else 0.0

    def add(self, minute: float, figures: Mapping[str, float]) -> None:
        """One look at it."""
        for what, value in figures.items():
            self.minutes.setdefault(what, []).append(minute)
            self.values.setdefault(what, []).append(value)


def proc_figures(pid: int) -> dict[str, float]:
    """What /proc says.

    Raises:
        OSError: there is no such process.
    """
    proc = Path("/proc", str(pid))
    status = dict(
        line.split(":", 1) for line in (proc / "status").read_text(encoding="utf-8").splitlines() if ":" in line
    )
    if "RssAnon" not in status:  # it has ended, and nobody has asked for its exit code yet
        raise ProcessLookupError(f"{pid} has ended")
    return {
        "memory": int(status["RssAnon"].split()[0]) / 1024,
        "threads": float(status["Threads"]),
        "descriptors": float(len(os.listdir(proc / "fd"))),
    }


class Samples:
    """All lives of all sources.

    Args:
        sources: what to look at.
        client: to ask for metrics with.
    """

    def __init__(self, sources: list[Source], client: aiohttp.ClientSession) -> None:
        self.lives: list[Life] = []
        self._sources = sources
        self._client = client
        self._now: dict[str, Life] = {}

    async def take(self, minute: float) -> None:
        """One look at each; one that is away, or just starting or ending, is left out."""
        for source in self._sources:
            pid = source.pid()
            if pid is None:
                continue
            try:
                figures = proc_figures(pid) | await self._gauges(source)
            except (OSError, aiohttp.ClientError, TimeoutError):
                continue
            if source.pid() == pid:
                self._life(source, pid).add(minute, figures)

    async def _gauges(self, source: Source) -> dict[str, float]:
        place = source.metrics()
        if place is None:
            return {}
        url, token = place
        headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        async with self._client.get(url, headers=headers, timeout=_TIMEOUT) as answer:
            answer.raise_for_status()
            text = await answer.text()
        figures: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if (what := _GAUGES.get(sample.name)) is not None:
                    value = sample.value / _MIB if what == "held" else sample.value
                    figures[what] = figures.get(what, 0.0) + value
        return figures

    def _life(self, source: Source, pid: int) -> Life:
        life = self._now.get(source.name)
        if life is None or life.pid != pid:
            number = 1 if life is None else life.number + 1
            life = self._now[source.name] = Life(source.name, number, pid)
            self.lives.append(life)
        return life

    def now(self) -> list[Life]:
        """The life that each source has at the moment."""
        return list(self._now.values())
