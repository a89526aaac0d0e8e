"""The bench itself works: one short round of each kind of load against every side. Its figures mean nothing here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.table import ROWS

KEYS = [
    "download",
    "small",
    "mixed",
    "tls-small",
    "far",
    "curve",
    "idle",
    "many",
    "price",
    "lookups",
    "tokens",
    "revocation",
    "broker",
]


@pytest.mark.timeout(600)  # the first time, three Go programs are built
def test_each_kind_of_row_gives_figures_for_its_sides_and_no_load_meets_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert main(["--quick", "--write", str(page), "--rows", *KEYS]) == 0
    rows = json.loads(page.with_suffix(".json").read_bytes())["rows"]
    chosen = {row.key: row for row in ROWS if row.key in KEYS}
    assert {row["key"]: set(row["rounds"]) for row in rows} == {key: set(row.sides) for key, row in chosen.items()}
    assert all(rounds for row in rows for rounds in row["rounds"].values())
    for row in chosen.values():
        assert f"| {row.title} | {row.goals[0].figure if row.goals else 'p50 ms at 100/s'} |" in page.read_text()
    assert {plot.name for plot in page.with_suffix("").iterdir()} == {"ratios.svg", "latency.svg"}
