"""Plots are well-formed SVG, show what they are given, and are the same bytes for the same figures."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.plots import Curve, Line, Mark, Ratio, latency_curves, lines_over_time, ratio_bars
from tests.plots.style import BAD, GOOD

ROOT = Path(__file__).parents[2]


def lines(path: Path, last: float = 4.0) -> None:
    series = [Line(label="relay", x=[0, 1, 2, 3], y=[1, 2, math.nan, last]), Line(label="agent", x=[0, 3], y=[3, 3])]
    marks = [Mark(label="stall", begin=1, end=2), Mark(label="kill", begin=2.5), Mark(label="kill", begin=2.8)]
    lines_over_time(path, "Memory", series, y_label="MiB", marks=marks)


def bars(path: Path) -> None:
    rows = [
        Ratio(name="download", ratio=2.2, goal=1.3, low=2.0, high=2.5),
        Ratio(name="one connection, p50", ratio=1.9, goal=1.5, at_least=False),
    ]
    ratio_bars(path, "Against the reference", rows, x_label="ours / theirs")


def curves(path: Path) -> None:
    both = [
        Curve(label="p50", load=[100, 200], milliseconds=[1, 2]),
        Curve(label="p99", load=[100, 200], milliseconds=[5, 90], dashed=True),
    ]
    latency_curves(path, "Latency", both)


def texts(path: Path) -> list[str]:
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [text for element in root.iter("{http://www.w3.org/2000/svg}text") for text in element.itertext()]


@pytest.mark.parametrize("draw", [lines, bars, curves])
def test_the_same_figures_give_the_same_file(draw: Callable[[Path], None], tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "first.svg", tmp_path / "second.svg"
    draw(first)
    draw(second)
    assert first.read_bytes() == second.read_bytes()
    assert b"matplotlib.org" not in first.read_bytes()
    assert not any(line.endswith(" ") for line in first.read_text().splitlines())


def test_another_process_draws_the_same_file(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from {__name__} import *; lines(Path({str(tmp_path / 'other.svg')!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    lines(tmp_path / "own.svg")
    assert (tmp_path / "own.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_other_figures_give_another_file(tmp_path: Path) -> None:
    lines(tmp_path / "first.svg")
    lines(tmp_path / "second.svg", last=5.0)
    assert (tmp_path / "first.svg").read_bytes() != (tmp_path / "second.svg").read_bytes()


def test_lines_have_a_legend_with_each_label_once(tmp_path: Path) -> None:
    lines(tmp_path / "plot.svg")
    found = texts(tmp_path / "plot.svg")
    assert {"Memory", "MiB", "minutes"} < set(found)
    assert [found.count(label) for label in ("relay", "agent", "stall", "kill")] == [1, 1, 1, 1]


def test_bars_say_their_goal_and_a_miss_has_another_colour(tmp_path: Path) -> None:
    bars(tmp_path / "plot.svg")
    assert {"download", "2.20 (≥ 1.3)", "one connection, p50", "1.90 (≤ 1.5)"} < set(texts(tmp_path / "plot.svg"))
    drawn = (tmp_path / "plot.svg").read_text().lower()
    assert GOOD.lower() in drawn
    assert BAD.lower() in drawn


@pytest.mark.parametrize(
    ("ratio", "goal", "at_least", "met"), [(1.0, 1.0, True, True), (0.9, 1.0, True, False), (0.9, 1.0, False, True)]
)
def test_a_goal_is_met_from_its_own_side(ratio: float, goal: float, *, at_least: bool, met: bool) -> None:
    assert Ratio(name="x", ratio=ratio, goal=goal, at_least=at_least).met is met


def test_curves(tmp_path: Path) -> None:
    curves(tmp_path / "plot.svg")
    assert {"p50", "p99", "milliseconds", "requests a second"} < set(texts(tmp_path / "plot.svg"))
