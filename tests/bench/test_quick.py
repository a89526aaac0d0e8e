"""The bench itself works: one short round of every load against every side. Its figures mean nothing here."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.__main__ import main
from tests.bench.rows import ROWS


def test_every_row_gives_figures_for_every_side_and_no_load_meets_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert main(["--quick", "--write", str(page)]) == 0
    rows = json.loads(page.with_suffix(".json").read_bytes())["rows"]
    assert {row["key"]: set(row["rounds"]) for row in rows} == {row.key: set(row.sides) for row in ROWS}
    assert all(rounds for row in rows for rounds in row["rounds"].values())
    for row in ROWS:
        assert f"| {row.title} | {row.goals[0].figure} |" in page.read_text()
