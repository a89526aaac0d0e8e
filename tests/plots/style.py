"""How every plot looks, and how it becomes a file.

A file is the same for the same figures: ids come from a fixed salt, and neither a date nor a version is written. Text
stays text, drawn by whatever sans-serif font the reader has: files are small, can be searched, and differ where figures
do. Colours are those of Okabe and Ito, which people who cannot tell red from green can tell apart, on white, which is
drawn too: a page with a dark background shows the same plot.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["BAD", "COLOURS", "GOOD", "MUTED", "plot"]

COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#000000")
"""One after the other, for what stands side by side."""
GOOD: Final = "#009E73"
BAD: Final = "#D55E00"
MUTED: Final = "#6B6B6B"

_STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": "#222222",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "homeport",
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


@contextmanager
def plot(path: Path, *, width: float = 8.0, height: float = 3.2) -> Iterator[Figure]:
    """A figure to draw on; written to `path` when the block ends.

    Args:
        path: of the SVG file; its folder is made.
        width: inches.
        height: inches.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
