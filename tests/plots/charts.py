"""The charts that the documentation uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from tests.plots.style import BAD, COLOURS, GOOD, MUTED, plot

__all__ = ["Curve", "Line", "Mark", "Ratio", "latency_curves", "lines_over_time", "ratio_bars"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Something that changes over time."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    """A NaN interrupts the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment, or a time, at which something was done."""

    label: str
    begin: float
    end: float | None = None
    """None for a moment."""


def lines_over_time(
    path: Path,
    title: str,
    lines: Sequence[Line],
    *,
    y_label: str,
    x_label: str = "minutes",
    marks: Sequence[Mark] = (),
    from_zero: bool = True,
) -> None:
    """Lines over one axis of time.

    Args:
        path: of the SVG file.
        title: of the plot.
        lines: at most as many as there are colours are told apart.
        y_label: what is drawn, and its unit.
        x_label: the unit of time.
        marks: drawn behind the lines; those of one label share a colour and one entry of the legend.
        from_zero: the y axis begins at zero.
    """
    with plot(path) as figure:
        axes = figure.subplots()
        for number, line in enumerate(lines):
            axes.plot(line.x, line.y, label=line.label, color=_colour(number))
        _draw(axes, marks)
        axes.set_title(title)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.margins(x=0.01)
        if from_zero:
            axes.set_ylim(bottom=0)
        if lines or marks:
            figure.legend(loc="outside right upper", fontsize=8)


def _draw(axes: Axes, marks: Sequence[Mark]) -> None:
    labels = list(dict.fromkeys(mark.label for mark in marks))
    for mark in marks:
        number = labels.index(mark.label)
        first = next(other for other in marks if other.label == mark.label)
        label = mark.label if mark is first else "_"  # a label that begins so is not in the legend
        colour = _colour(len(COLOURS) - 2 - number)
        if mark.end is None:
            axes.axvline(mark.begin, color=colour, alpha=0.9, linewidth=1.0, linestyle=":", label=label, zorder=0.5)
        else:
            axes.axvspan(mark.begin, mark.end, color=colour, alpha=0.15, linewidth=0, label=label, zorder=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One row of a table of ratios."""

    name: str
    ratio: float
    goal: float
    at_least: bool = True
    """Whether more is better; else at most `goal` is wanted."""
    low: float | None = None
    """Of several rounds, the lowest."""
    high: float | None = None

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def ratio_bars(path: Path, title: str, ratios: Sequence[Ratio], *, x_label: str) -> None:
    """A bar each, with the goal as a tick across it; bars that miss their goal have another colour.

    The axis is logarithmic and bars begin at 1, so that twice and half are equally long.

    Args:
        path: of the SVG file.
        title: of the plot.
        ratios: from the top down; each above zero.
        x_label: what is divided by what.
    """
    with plot(path, height=1.1 + 0.32 * max(1, len(ratios))) as figure:
        axes = figure.subplots()
        places = range(len(ratios))
        axes.set_xscale("log", base=2)
        axes.barh(
            places,
            [row.ratio - 1.0 for row in ratios],
            left=1.0,
            height=0.55,
            color=[GOOD if row.met else BAD for row in ratios],
        )
        for place, row in zip(places, ratios, strict=True):
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [place, place], color=MUTED, linewidth=1.0)
            axes.plot([row.goal, row.goal], [place - 0.4, place + 0.4], color="black", linewidth=1.6)
            sign = "≥" if row.at_least else "≤"
            axes.annotate(
                f"{row.ratio:.2f} ({sign} {row.goal:g})",
                (1.0, place),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color="#222222" if row.met else BAD,
            )
        axes.axvline(1.0, color=MUTED, linewidth=0.8)
        axes.set_yticks(list(places), [row.name for row in ratios])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(title)
        axes.set_xlabel(x_label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The latency of one side, as its load grows."""

    label: str
    load: Sequence[float]
    milliseconds: Sequence[float]
    dashed: bool = False
    """For a second quantile of the same side: it has the colour of the solid curve before it."""


def latency_curves(path: Path, title: str, curves: Sequence[Curve], *, x_label: str = "requests a second") -> None:
    """Latency over load, on a logarithmic axis of milliseconds.

    Args:
        path: of the SVG file.
        title: of the plot.
        curves: dashed ones after the solid one that they belong to.
        x_label: what the load is counted in.
    """
    with plot(path) as figure:
        axes = figure.subplots()
        side = -1
        for curve in curves:
            side += not curve.dashed
            axes.plot(
                curve.load,
                curve.milliseconds,
                label=curve.label,
                color=_colour(max(0, side)),
                linestyle="--" if curve.dashed else "-",
                marker="o",
                markersize=3,
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(left=0)
        axes.set_title(title)
        axes.set_xlabel(x_label)
        axes.set_ylabel("milliseconds")
        if curves:
            figure.legend(loc="outside right upper", fontsize=8)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
