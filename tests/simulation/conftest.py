"""How many seeds are run, and what all runs share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.simulation.installation import Installation
from tests.simulation.scenario import MAX_DEVICES
from tests.simulation.workers import PLANT, Verdict, judge, verdicts

BOUNDED = 100
"""Seeds in `make test`."""
ALL = 2400
"""Seeds in `make faults`."""

Judge = Callable[[int], Verdict]


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


@pytest.fixture(scope="session")
def judged(request: pytest.FixtureRequest) -> Iterator[Judge]:
    """What came of a seed: of one alone here, where a debugger reaches it, of many in as many processes as cores."""
    seeds = _seeds()
    if len(seeds) == 1:
        installation = request.getfixturevalue("installation")
        yield lambda seed: judge(seed, installation, planted=PLANT in os.environ, report=True)
        return
    with verdicts(seeds) as coming:
        yield lambda seed: coming[seed].result()
