"""Whether processes have come back to the level from before: descriptors, threads, memory, streams, tasks.

    before = check.level()
    ...                         # load, faults
    check.wait_until_level(before)

A level is a set of numbers, each named `process.what`:

    descriptors         open files, from /proc/PID/fd
    threads             from /proc/PID/task
    memory              RSS in bytes, from /proc/PID/statm
    everything else     a gauge of the process's own /metrics: sessions, streams, tasks, bytes held ...

All but memory must be exactly what they were: a process at rest holds what it held. Memory may be higher by
`MEMORY_TOLERANCE`, because CPython's allocator keeps arenas and the C library heaps that a burst has filled; a leak is
told from that by repeating the burst, which `tests/soak` and the matrix do. The agent has no /metrics: each of its
streams has a socket to a service and a task that waits for it, so descriptors count its streams and tasks too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

__all__ = ["GAUGES", "MEMORY_TOLERANCE", "LeakCheck", "LeakError", "Level", "gauges"]

MEMORY_TOLERANCE = 48 * 1024 * 1024
"""Bytes that a process may keep after a burst: six windows of 8 MiB that the allocator has not given back."""

_PROBE = 0.05
"""Seconds between two looks."""
_PAGE = os.sysconf("SC_PAGESIZE")
_MEMORY = "memory"

GAUGES = frozenset(
    {
        "homeport_gateway_active",
        "homeport_gateway_connections",
        "homeport_gateway_held_bytes",
        "homeport_gateway_streams_idle",
        "homeport_relay_handshakes_pending",
        "homeport_relay_internal_pending",
        "homeport_relay_sessions",
        "homeport_relay_streams",
        "homeport_relay_tunnels",
        "homeport_relay_window_bytes",
        "homeport_tasks",
    }
)
"""What must come back to its level."""

Level = Mapping[str, float]
Scrape = Callable[[], Mapping[str, float]]


class LeakError(AssertionError):
    """Something did not come back."""


def gauges(url: str, token: str) -> Mapping[str, float]:
    """Those of `GAUGES` that a process has at `url`, by their name without `homeport_`."""
    answer = httpx.get(
        url, headers={"Authorization": f"Bearer {token}", "Connection": "close"}, trust_env=False, timeout=30
    )
    answer.raise_for_status()
    return {
        sample.name.removeprefix("homeport_"): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name in GAUGES
    }


class LeakCheck:
    """See the module.

    Args:
        processes: id of each process, by a name.
        scrapes: asks a process for its gauges, by the same name; those that have none are left out.
        memory_tolerance: bytes.
        explained: numbers that are taken off, because they may change for a known reason.
    """

    def __init__(
        self,
        processes: Mapping[str, int],
        scrapes: Mapping[str, Scrape] | None = None,
        *,
        memory_tolerance: int = MEMORY_TOLERANCE,
        explained: Scrape = dict,
    ) -> None:
        self._explained = explained
        self._processes = processes
        self._scrapes = scrapes or {}
        self._memory_tolerance = memory_tolerance

    def level(self) -> Level:
        """The numbers of this moment."""
        numbers: dict[str, float] = {}
        for name, scrape in self._scrapes.items():
            numbers |= {f"{name}.{what}": value for what, value in scrape().items()}
        for name, pid in self._processes.items():
            proc = Path("/proc", str(pid))
            numbers[f"{name}.descriptors"] = len(os.listdir(proc / "fd"))
            numbers[f"{name}.threads"] = len(os.listdir(proc / "task"))
            numbers[f"{name}.{_MEMORY}"] = int((proc / "statm").read_text().split()[1]) * _PAGE
        for name, value in self._explained().items():
            numbers[name] -= value
        return numbers

    def settled(self, *, seconds: float = 30.0, looks: int = 4) -> Level:
        """The level once it has been the same, memory aside, for several looks in a row.

        Raises:
            LeakError: it is still changing after `seconds`.
        """
        deadline = time.monotonic() + seconds
        level, same = self.level(), 1
        while same < looks:
            if time.monotonic() > deadline:
                raise LeakError(f"the level still changes after {seconds:g} s: {level}")
            time.sleep(_PROBE)
            last, level = level, self.level()
            same = same + 1 if not self._changes(last, level, upwards_only=False) else 1
        return level

    def wait_until_level(self, before: Level, *, seconds: float = 30.0) -> Level:
        """Look until the level is that of before.

        Raises:
            LeakError: it is not, after `seconds`; the message has each number that is off.
        """
        deadline = time.monotonic() + seconds
        while changes := self._changes(before, level := self.level()):
            if time.monotonic() > deadline:
                raise LeakError("\n".join([f"not at the level from before after {seconds:g} s:", *changes]))
            time.sleep(_PROBE)
        return level

    def _changes(self, before: Level, now: Level, *, upwards_only: bool = True) -> list[str]:
        changes = []
        for name in sorted({*before, *now}):
            was, value = before.get(name, 0.0), now.get(name, 0.0)
            if name.endswith(f".{_MEMORY}"):
                off = upwards_only and value > was + self._memory_tolerance
            else:
                off = value != was
            if off:
                changes.append(f"  {name}: {was:g} before, {value:g} now")
        return changes
