"""Seeds in several processes: each core runs one scenario at a time."""

from __future__ import annotations

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hypothesis  # noqa: F401  trio's plugin for it, which puts tasks into a fixed order, is loaded with it

from tests.simulation.installation import Installation
from tests.simulation.scenario import MAX_DEVICES, Scenario
from tests.simulation.world import simulate

__all__ = ["PLANT", "Verdict", "judge", "verdicts"]

PLANT = "HOMEPORT_SIMULATION_PLANT"
"""Set: a fault is planted into each scenario that the oracles are not told of, to show that they notice."""

_PR_SET_PDEATHSIG = 1
"""prctl(2): a worker does not outlive whoever started it, who may be killed."""

HANGS = 120.0
"""Seconds of real time after which a scenario is taken to go round in circles: its process says where, and ends."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a seed."""

    seed: int
    violations: Sequence[str]
    report: str
    """All that happened; empty without a violation, unless it was asked for."""
    seen: Counter[str]


def judge(seed: int, installation: Installation, *, planted: bool, report: bool = False) -> Verdict:
    """Run a seed here."""
    scenario = Scenario.of(seed)
    if planted:
        scenario = scenario.with_planted_fault()
    result = simulate(scenario, installation)
    told = result.report() if report or result.violations else ""
    return Verdict(seed, result.violations, told, result.seen)


@contextmanager
def verdicts(seeds: Sequence[int]) -> Iterator[Mapping[int, Future[Verdict]]]:
    """Run seeds in as many processes as there are cores, in their order; each becomes known as it is done."""
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="homeport-simulation-") as folder,
        ProcessPoolExecutor(
            min(cores, len(seeds)), context, initializer=_begin, initargs=(folder, os.getpid())
        ) as pool,
    ):
        try:
            yield {seed: pool.submit(_judge, seed) for seed in seeds}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_installation: Installation


def _begin(folder: str, parent: int) -> None:
    global _installation  # the only way from an initializer to its worker
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it went before it could be asked for
        os._exit(1)
    _installation = Installation(Path(tempfile.mkdtemp(dir=folder)), devices=MAX_DEVICES)


def _judge(seed: int) -> Verdict:
    faulthandler.dump_traceback_later(HANGS, exit=True)
    try:
        return judge(seed, _installation, planted=PLANT in os.environ)
    finally:
        faulthandler.cancel_dump_traceback_later()
