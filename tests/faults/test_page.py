"""The table is whole, its cover covers, and the page in the docs is written from it."""

from __future__ import annotations

from itertools import product

from tests.faults.matrix import Cell, Fault, Hop, Load, all_cells, cover, outcomes
from tests.faults.page import PAGE, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: .venv/bin/python -m tests.faults.page"


def test_there_is_an_outcome_for_each_cell() -> None:
    table = outcomes()
    assert set(table) == set(all_cells())
    assert len(table) == len(Hop) * len(Fault) * len(Load)
    known = {"ok", "cut", "short", "silent", "any"}
    for cell, expected in table.items():
        for word in expected.client | expected.service:
            assert word in known or word[:3].isdecimal(), cell


def test_only_a_hop_without_tls_may_change_bytes() -> None:
    for cell, expected in outcomes().items():
        if "any" in expected.client | expected.service:
            assert cell.fault in (Fault.CORRUPT_UP, Fault.CORRUPT_DOWN)
            assert cell.hop is not Hop.TUNNEL_TLS


def test_only_who_is_behind_a_dead_line_is_not_told() -> None:
    for cell, expected in outcomes().items():
        if "silent" in expected.client:
            assert cell.hop is Hop.CLIENT
            assert cell.fault.stalls
        if "silent" in expected.service:
            assert cell.hop is Hop.SERVICE
            assert cell.fault.stalls


def test_the_share_covers_all_pairs() -> None:
    cells = list(cover())
    assert {(cell.hop, cell.fault) for cell in cells} == set(product(Hop, Fault))
    assert {(cell.fault, cell.load) for cell in cells} == set(product(Fault, Load))
    assert {(cell.hop, cell.load) for cell in cells} == set(product(Hop, Load))


def test_a_cell_has_the_same_script_each_time() -> None:
    cell = Cell(Hop.TUNNEL, Fault.CORRUPT_UP, Load.UPLOAD)
    assert cell.script(3) == cell.script(3) != cell.script(4)
    assert Cell.parse(str(cell)) == cell
    assert cell.script(3).startswith("down corrupt 0x"), "the agent dials: up to the service is down from the relay"
