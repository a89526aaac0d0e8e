"""How many seeds are run, and what all runs share."""

from __future__ import annotations

import os

import pytest

from tests.simulation.installation import Installation
from tests.simulation.scenario import MAX_DEVICES

BOUNDED = 80
"""Seeds in `make test`."""
ALL = 3000
"""Seeds in `make faults`."""


def _seeds() -> range:
    if "HOMEPORT_SIMULATION_SEED" in os.environ:
        seed = int(os.environ["HOMEPORT_SIMULATION_SEED"])
        return range(seed, seed + 1)
    bounded = ALL if os.environ.get("HOMEPORT_FAULTS") == "all" else BOUNDED
    return range(int(os.environ.get("HOMEPORT_SIMULATION_SEEDS", bounded)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each seed."""
    if "seed" in metafunc.fixturenames and "seed" not in metafunc.definition.keywords:
        metafunc.parametrize("seed", _seeds())


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("installation"), devices=MAX_DEVICES)
