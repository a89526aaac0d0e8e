"""Plots of the documentation: one style, SVG, and the same bytes for the same figures.

    style     how everything looks, and how a figure becomes a file
    charts    lines over time, ratios against a goal, latency curves under load

Nothing here measures anything. Whoever measures keeps the figures beside the plots as JSON, so that a plot can be drawn
again.
"""

from tests.plots.charts import Curve, Line, Mark, Ratio, latency_curves, lines_over_time, ratio_bars

__all__ = ["Curve", "Line", "Mark", "Ratio", "latency_curves", "lines_over_time", "ratio_bars"]
