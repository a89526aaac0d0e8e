"""Every fault on every hop under every load, against the table; and no leak, and no harm to another device.

`make test` runs a cover of pairs, `make faults` all cells. A cell that fails is printed with the script of its proxy,
what the proxy did, and the command that runs it alone:

    HOMEPORT_FAULTS_CELL="relay-agent/reset/upload" HOMEPORT_FAULTS_SEED=0 make test ARGS=tests/faults/test_matrix.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain

import httpx
import pytest

from tests.faults.leaks import LeakError, Level
from tests.faults.matrix import Cell, Fault, Hop, Load, all_cells, cover, outcomes
from tests.faults.rig import Result, Rig, rig
from tests.stack.certificates import make_certificate

PLACES = 8
"""Cells at the same time."""
SEED = int(os.environ.get("HOMEPORT_FAULTS_SEED", "0"))
ONE = os.environ.get("HOMEPORT_FAULTS_CELL")


def _chosen() -> list[Cell]:
    if ONE:
        return [Cell.parse(ONE)]
    return list(all_cells() if os.environ.get("HOMEPORT_FAULTS") == "all" else cover())


def _batches(*, tls: bool) -> list[list[Cell]]:
    """Cells that take long are together, so that no batch waits for one of them alone."""
    cells = [cell for cell in _chosen() if (cell.hop is Hop.TUNNEL_TLS) == tls]
    cells.sort(key=lambda cell: (cell.fault.stalls, cell.hop, cell.fault))
    return [cells[at : at + PLACES] for at in range(0, len(cells), PLACES)]


class Stage:
    """A rig, and its level at rest."""

    def __init__(self, running: Rig) -> None:
        self.rig = running
        self.level = self._warm_up()

    def _warm_up(self) -> Level:
        """Once around without faults, for what is made at first use; then the level."""
        loads = [Cell(Hop.CLIENT, Fault.MERGE, load) for load in Load]
        self.rig.batch(loads[: len(self.rig.places)])
        return self.rig.leaks.settled()


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """With TLS on the tunnel or without."""
    folder = tmp_path_factory.mktemp("matrix")
    certificate = make_certificate(folder) if request.param else None
    places = min(PLACES, max(map(len, _batches(tls=request.param))))
    with rig(folder, places=places, certificate=certificate, seed=SEED) as running:
        yield Stage(running)


def _parameters() -> Iterator[object]:
    for tls in (False, True):
        for number, cells in enumerate(_batches(tls=tls)):
            yield pytest.param(tls, cells, id=f"{'TLS' if tls else 'plain'}-{number}")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("stage", "cells"), list(_parameters()), indirect=["stage"], scope="module")
def test_cells_end_as_the_table_says(stage: Stage, cells: Sequence[Cell]) -> None:
    running, table = stage.rig, outcomes()
    results = running.batch(cells)
    # A machine that had no time for a cell's bounds gets a second look at it; what is wrong twice is wrong.
    doubtful = [result.cell for result in results if result.faults(table[result.cell])]
    looked_again = running.batch(doubtful) if doubtful else []
    faults = list(chain.from_iterable(_told(result, result.faults(table[result.cell])) for result in looked_again))
    words, running.bystander.words = running.bystander.words - {"ok"}, set()
    if words:
        faults.append(f"the bystander got: {', '.join(sorted(words))}")
    try:
        running.leaks.wait_until_level(stage.level)
    except LeakError as exc:
        faults.append(str(exc))
    assert not faults, "\n".join([*faults, "", "cells:", *map(repr, [*results, *looked_again])])
    assert running.bystander.requests


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", [False], indirect=True, scope="module")
@pytest.mark.parametrize("fault", ["both reset", "both stall"])
def test_the_hop_between_gateway_and_relay_breaks_and_no_tunnel_with_it(stage: Stage, fault: str) -> None:
    running = stage.rig
    before = _sessions(running)
    words = running.break_shared_hop(fault)
    assert words <= {"ok", "cut", "502 relay_unavailable", "502 stream_reset", "504 service_timeout"}
    assert _sessions(running) == before, "tunnels do not depend on gateways"
    running.leaks.wait_until_level(stage.level)


def _sessions(running: Rig) -> set[str]:
    answer = httpx.get(
        f"{running.api.api}/api/sessions",
        params={"limit": 100},
        headers={"Authorization": f"Bearer {running.keys.admin_token}"},
        trust_env=False,
        timeout=30,
    )
    return {session["id"] for session in answer.json()["items"]}


def _told(result: Result, faults: Sequence[str]) -> Iterator[str]:
    if faults:
        yield f'HOMEPORT_FAULTS_CELL="{result.cell}" HOMEPORT_FAULTS_SEED={SEED}   script: {result.script}'
        yield from (f"    {fault}" for fault in faults)
        yield from (f"        {entry}" for entry in result.journal)
