"""The page of the documentation is the table of the code."""

from __future__ import annotations

from pathlib import Path

from common.yamux.diagram import draw
from common.yamux.states import TRANSITIONS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "yamux-states.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == draw()


def test_every_pair_is_on_the_page() -> None:
    page = draw()
    for state, row in TRANSITIONS.items():
        for what, after in row.items():
            words = what.name.replace("_", " ").replace("SEND", "send").replace("RECEIVE", "receive")
            assert f"| {words} |" in page
            if after is not state:
                arrow = next(line for line in page.splitlines() if f"{state.name} --> {after.name}:" in line)
                assert words in arrow
