"""The plots of the page: a bar for each goal that is a ratio, and latency as the offered load grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench.goals import AtLeast
from tests.bench.report import NAMES, Result, ratio, ratios
from tests.bench.rows import Curve as CurveRow
from tests.bench.sides import REFERENCE
from tests.plots import Curve, Ratio, latency_curves, ratio_bars

__all__ = ["draw"]


def draw(folder: Path, results: Sequence[Result]) -> None:
    """Write `ratios.svg` and `latency.svg` into `folder`, as far as there are figures for them."""
    bars = [
        Ratio(
            name=f"{result.row.title}: {goal.figure}",
            ratio=value,
            goal=goal.limit,
            at_least=isinstance(goal, AtLeast),
            low=min(ratios(result, goal.figure)),
            high=max(ratios(result, goal.figure)),
        )
        for result in results
        for goal in result.row.goals
        if goal.of_reference and goal.against == REFERENCE and (value := ratio(result, goal.figure))
    ]
    if bars:
        ratio_bars(
            folder / "ratios.svg",
            "Homeport against the Go reference; the tick is the goal, the line the range of the rounds",
            bars,
            x_label="Homeport's figure divided by the reference's",
        )
    for result in results:
        if isinstance(result.row, CurveRow):
            latency_curves(
                folder / "latency.svg",
                "Latency of small requests over the offered load, counted from when a request was due",
                [
                    Curve(
                        label=f"{NAMES[side]}, {quantile}",
                        load=[rate for rate, _ in points],
                        milliseconds=[value for _, value in points],
                        dashed=quantile == "p99",
                    )
                    for side in result.rounds
                    for quantile in ("p50", "p99")
                    if (points := _points(result, side, quantile))
                ],
                x_label="requests a second, offered",
            )


def _points(result: Result, side: str, quantile: str) -> list[tuple[float, float]]:
    names = {name for figures in result.rounds[side] for name in figures if name.startswith(f"{quantile} ms at ")}
    rates = {int(name.removeprefix(f"{quantile} ms at ").removesuffix("/s")): name for name in names}
    return [(rate, value) for rate in sorted(rates) if (value := result.median(side, rates[rate])) is not None]
