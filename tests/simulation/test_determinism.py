"""A seed stands for one run: in this process again, and in another one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.installation import Installation
from tests.simulation.scenario import MAX_DEVICES, Scenario
from tests.simulation.world import simulate

SEEDS = (2, 7, 11)
"""With and without TLS, with faults of devices and of the relay."""

_IN_ANOTHER_PROCESS = f"""
import sys, tempfile
from pathlib import Path
import hypothesis  # loads trio's plugin, as pytest does
from tests.simulation.installation import Installation
from tests.simulation.scenario import Scenario
from tests.simulation.world import simulate
with tempfile.TemporaryDirectory() as folder:
    installation = Installation(Path(folder), devices={MAX_DEVICES})
    for seed in sys.argv[1:]:
        print(simulate(Scenario.of(int(seed)), installation).trace.hash())
"""


def test_the_same_seed_gives_the_same_run(installation: Installation) -> None:
    for seed in SEEDS:
        first, second = simulate(Scenario.of(seed), installation), simulate(Scenario.of(seed), installation)
        assert first.trace.lines == second.trace.lines
        assert first.trace.hash() == second.trace.hash()


def test_other_seeds_give_other_runs(installation: Installation) -> None:
    assert len({simulate(Scenario.of(seed), installation).trace.hash() for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_with_keys_of_its_own_gives_the_same_run(installation: Installation, hash_seed: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS, *map(str, SEEDS)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.split() == [simulate(Scenario.of(seed), installation).trace.hash() for seed in SEEDS]


def test_the_seeds_of_a_determinism_test_cover_what_differs() -> None:
    scenarios = [Scenario.of(seed) for seed in SEEDS]
    devices = [device for scenario in scenarios for device in scenario.devices]
    assert {device.secure for device in devices} == {False, True}
    assert any(device.faults for device in devices)
    assert any(scenario.relay_faults for scenario in scenarios)
    assert Scenario.of(SEEDS[0]) == scenarios[0]
