"""The generated pages of the reference are those that the code would write now."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import fields_of
from homeport.reference import pages, write_pages
from homeport.settings import ALL_SETTINGS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
REFRESH = "run: .venv/bin/python -m homeport.reference docs/reference"


@pytest.mark.parametrize("name", ["api.md", "commands.md", "errors.md", "settings.md"])
def test_a_page_is_current(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == pages()[name], REFRESH


def test_writing_writes_all_of_them(tmp_path: Path) -> None:
    write_pages(tmp_path)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == pages()


def test_every_setting_of_every_process_is_on_the_page() -> None:
    page = pages()["settings.md"]
    for process in ALL_SETTINGS:
        section = page.partition(f"Table `[{process.section}]` of the file.")[2].partition("\n## ")[0]
        for field in fields_of(process):
            assert f"| `{field.name}` | `{field.variable}` |" in section


def test_a_code_means_one_status() -> None:
    """A script that matches on a code must not have to look where it came from."""
    for row in pages()["errors.md"].splitlines():
        if row.startswith("| `"):
            assert row.split("|")[2].strip().isdigit(), row
