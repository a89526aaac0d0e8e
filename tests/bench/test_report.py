"""What the bench says of the figures that it was given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import plots, report
from tests.bench.goals import AtLeast, AtMost
from tests.bench.rows import Curve, Figures, Row, Scale
from tests.bench.sides import FIXED, HOMEPORT, REFERENCE

MACHINE = {
    "date": "2026-11-22",
    "processor": "a processor, 2 cores",
    "kernel": "Linux 6",
    "python": "3.11",
    "go": "go1.19",
    "nginx": "nginx/1.22",
}

ROW = Row(
    key="row",
    title="a row",
    goals=(
        AtLeast("rate", 1.3, of_reference=True),
        AtMost("cost", 0.9, of_reference=True),
        AtMost("memory", 12.0, of_reference=False),
    ),
)


def rounds(**figures: list[float]) -> list[Figures]:
    return [dict(zip(figures, values, strict=True)) for values in zip(*figures.values(), strict=True)]


@pytest.fixture
def result() -> report.Result:
    """Three rounds on a machine that became slower: the sides of a round belong together."""
    ours = rounds(rate=[200.0, 150.0, 60.0], cost=[1.0, 1.1, 2.0], memory=[11.0, 13.0, 12.5])
    theirs = rounds(rate=[100.0, 100.0, 50.0], cost=[2.0, 2.0, 2.0], memory=[40.0, 40.0, 40.0])
    return report.Result(ROW, {HOMEPORT: ours, REFERENCE: theirs})


def test_a_ratio_is_the_median_of_the_rounds_own(result: report.Result) -> None:
    assert report.ratio(result, "rate") == 1.5  # and not 150 / 100 of the medians by chance: 200/100, 150/100, 60/50
    assert report.ratio(result, "cost") == 0.55


def test_a_figure_that_a_side_does_not_have_gives_no_ratio(result: report.Result) -> None:
    assert report.ratio(result, "rate", to="another") is None
    assert report.ratio(result, "unknown") is None


def test_the_page_says_what_was_reached_of_each_goal(result: report.Result) -> None:
    page = report.page("", [result], MACHINE, "make bench", Scale())
    assert "| a row | rate | at least 1.3 times | 1.5 times | yes |" in page
    assert "| a row | cost | at most 0.9 times | 0.55 times | yes |" in page
    assert "| a row | memory | at most 12 | 12.5 | no |" in page
    assert "`make bench`, 2026-11-22; a processor, 2 cores" in page


def test_a_goal_may_be_against_another_side_than_the_reference() -> None:
    row = Row(key="far", title="far", goals=(AtLeast("rate", 10.0, of_reference=True, against=FIXED),))
    result = report.Result(row, {side: rounds(rate=[rate]) for side, rate in ((HOMEPORT, 50.0), (FIXED, 2.0))})
    page = report.page("", [result], MACHINE, "make bench", Scale())
    assert "| far | rate | at least 10 times Homeport, fixed window | 25 times | yes |" in page


def test_the_page_says_where_the_cpu_goes() -> None:
    figures = {"CPU s/GiB": 4.0, "CPU s/GiB, relay": 1.0, "CPU s/GiB, agent": 3.0}
    row = Row(key="bulk", title="bulk", goals=())
    result = report.Result(row, {REFERENCE: [{**figures, "kernel %, relay": 70.0, "kernel %, agent": 41.6}]})
    page = report.page("", [result], MACHINE, "make bench", Scale())
    assert "| bulk |  |  |  | 25%, kernel 70 % | 75%, kernel 42 % |" in page
    assert page.count("kernel %") == 0, "not in the table of figures as well"


def test_the_plots_show_ratios_with_goals_and_latencies_by_their_rate(result: report.Result, tmp_path: Path) -> None:
    curve = Curve(key="curve", title="curve", goals=())
    figures = {"p50 ms at 100/s": 1.0, "p99 ms at 100/s": 2.0, "p50 ms at 2000/s": 3.0, "p99 ms at 2000/s": 4.0}
    plots.draw(tmp_path, [result, report.Result(curve, {HOMEPORT: [figures]})])
    ratios = (tmp_path / "ratios.svg").read_text()
    assert "a row: rate" in ratios
    assert "a row: memory" not in ratios, "that goal is no ratio"
    assert "Homeport, p99" in (tmp_path / "latency.svg").read_text()


def test_the_tables_replace_the_former_ones_and_nothing_else(result: report.Result) -> None:
    first = report.page("# Title\n\nbefore\n", [result], MACHINE, "first", Scale())
    second = report.page(first + "\nafter\n", [result], MACHINE, "second", Scale())
    assert second.startswith("# Title\n\nbefore\n")
    assert second.endswith("\nafter\n")
    assert "`first`" not in second
    assert second.count("| a row | rate | at least") == 1


def test_the_json_has_every_round(result: report.Result) -> None:
    document = json.loads(report.to_json([result], MACHINE, "make bench", Scale()))
    (row,) = document["rows"]
    assert [figures["rate"] for figures in row["rounds"][HOMEPORT]] == [200.0, 150.0, 60.0]
    assert [goal["met"] for goal in row["goals"]] == [True, True, False]
