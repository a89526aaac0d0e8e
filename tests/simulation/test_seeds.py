"""Every seed: nothing that was promised is broken, and the same seed gives the same run."""

from __future__ import annotations

import os

import pytest

from tests.simulation.installation import Installation
from tests.simulation.world import simulate


def test_seed(seed: int, installation: Installation) -> None:
    result = simulate(seed, installation)
    if result.violations or "HOMEPORT_SIMULATION_SEED" in os.environ:
        print(result.report())
    if result.violations:
        pytest.fail(
            "\n".join(
                [
                    *result.violations[:10],
                    f"replay: HOMEPORT_SIMULATION_SEED={seed} .venv/bin/pytest -s tests/simulation/test_seeds.py",
                ]
            ),
            pytrace=False,
        )
