"""The documentation names tests as proof: they must be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]

_NAMED = re.compile(r"tests/[\w/.-]*[\w/]")
_BARE = re.compile(r"(?<![\w/])test_\w+\.py")
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)[^)]*\)")


def named(text: str) -> list[str]:
    """Paths of tests in a text."""
    return _NAMED.findall(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [path for path in named(text) if not (ROOT / path).exists()] == []
    assert _BARE.findall(text) == [], "a test is named by its whole path"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_is_there(page: Path) -> None:
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_promise_has_a_proof() -> None:
    text = (ROOT / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")
    levels = text.partition("## Service levels")[2].partition("\n## ")[0]
    rows = [
        line for line in levels.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
    ]
    assert len(rows) > 20
    for row in rows:
        promise, _, proof = row.strip("| ").split("|")
        assert re.search(r"`tests/|the simulation|the matrix|the soak", proof), promise


def test_what_is_found_in_a_text() -> None:
    assert named("`tests/a/test_b.py`, tests/c, and `tests/d/e.py::test_f`.") == [
        "tests/a/test_b.py",
        "tests/c",
        "tests/d/e.py",
    ]
    assert _BARE.findall("`tests/a/test_b.py` and `test_c.py`") == ["test_c.py"]
    assert _LINK.findall("[a](b.md#c) [d](https://e.f) [g](../h.md)") == ["b.md", "../h.md"]
