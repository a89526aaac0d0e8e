"""Every seed: nothing that was promised is broken, and together they reach what they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.client import Kind
from tests.simulation.conftest import BOUNDED, Judge
from tests.simulation.installation import Installation
from tests.simulation.network import Direction
from tests.simulation.scenario import FaultKind, RelayFaultKind
from tests.simulation.workers import PLANT, Verdict, judge

ROOT = Path(__file__).parents[2]
EVERY_SEED = "tests/simulation/test_seeds.py::test_seed"


def complaint(verdict: Verdict, *, planted: bool) -> str:
    """What is printed of a seed that failed."""
    environment = f"{PLANT}=1 " if planted else ""
    command = f"{environment}HOMEPORT_SIMULATION_SEED={verdict.seed} .venv/bin/python -m pytest -s {EVERY_SEED}"
    return "\n".join([*verdict.violations[:10], f"replay: {command}"])


def test_seed(seed: int, judged: Judge) -> None:
    verdict = judged(seed)
    if verdict.report:
        print(verdict.report)
    if verdict.violations:
        pytest.fail(complaint(verdict, planted=PLANT in os.environ), pytrace=False)


def test_the_seeds_reach_what_they_are_for(judged: Judge) -> None:
    """A scenario may be about something and never come to it: counted is what happened."""
    if "HOMEPORT_SIMULATION_SEED" in os.environ:
        pytest.skip("one seed does not reach everything")
    seen: Counter[str] = Counter()
    for seed in range(BOUNDED):
        seen += judged(seed).seen
    wanted = [
        *(f"fault {kind}" for kind in FaultKind if kind is not FaultKind.CORRUPT),
        *(f"fault stall {direction}" for direction in Direction),
        *(f"fault {kind} {way} at a byte" for kind in ("stall", "reset", "half-close") for way in Direction),
        "fault corrupt down at a byte",
        *(f"relay fault {kind}" for kind in RelayFaultKind),
        *(f"{kind} as it should" for kind in Kind),
        *(f"{kind} failed" for kind in (Kind.ECHO, Kind.UPLOAD, Kind.DOWNLOAD, Kind.EVENTS, Kind.SLOW)),
        *(f"offline {reason}" for reason in ("replaced", "dead", "revoked", "draining", "network")),
        "streams ended by a revocation",
        "crowd",
        "budget refused",
        "budget pressed",
    ]
    assert [what for what in wanted if not seen[what]] == []


def test_a_seed_that_fails_is_printed_with_the_command_that_replays_it(installation: Installation) -> None:
    """A fault that nobody was told of is planted, and noticed; what is printed then, typed into a shell, shows it."""
    verdict = judge(3, installation, planted=True)
    assert "nothing had happened to the device" in verdict.violations[0]
    command = complaint(verdict, planted=True).rpartition("replay: ")[2]
    replayed = subprocess.run(
        command.replace(".venv/bin/python", sys.executable),
        shell=True,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("HOMEPORT_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert replayed.returncode == 1, replayed.stdout
    assert complaint(verdict, planted=True) in replayed.stdout
    assert verdict.report in replayed.stdout, "the same story, line by line"
