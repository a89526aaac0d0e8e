"""The verdict of a soak: a page with plots, and the figures as JSON."""

from __future__ import annotations

import json
import math
import os
import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.plots import Line, Mark, lines_over_time
from tests.soak.samples import Life
from tests.soak.slopes import BUDGETS
from tests.soak.soak import LEAST_LIFE, Soaked, findings

__all__ = ["Run", "describe_machine", "write"]

_PLOTS = {
    "memory": ("Memory of each process", "MiB (RssAnon)"),
    "descriptors": ("Open descriptors of each process", "descriptors"),
    "streams": ("Streams of the relay, clients of the gateways with something under way", "streams"),
    "tasks": ("Tasks of the event loops of relay and API servers", "tasks"),
}
_POINTS = 200
"""Of a series, in the JSON file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where, when and how it was."""

    command: str
    commit: str
    date: str
    note: str
    machine: Mapping[str, str]


def describe_machine() -> dict[str, str]:
    """What it ran on."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "processor": processor,
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def write(folder: Path, soaked: Soaked, run: Run) -> None:
    """Write `soak.md`, `soak/*.svg` and `soak/soak.json` into a folder."""
    plots = folder / "soak"
    plots.mkdir(parents=True, exist_ok=True)
    marks = list(_marks(soaked))
    for what, (title, label) in _PLOTS.items():
        lines_over_time(plots / f"{what}.svg", title, _lines(soaked.lives, what), y_label=label, marks=marks)
    lines_over_time(
        plots / "latency.svg", "Small requests", list(_latency(soaked)), y_label="milliseconds", marks=marks
    )
    (plots / "soak.json").write_text(json.dumps(_figures(soaked, run), indent=1) + "\n", encoding="utf-8")
    (folder / "soak.md").write_text(_page(soaked, run), encoding="utf-8")


def _lines(lives: Sequence[Life], what: str) -> list[Line]:
    """A line a source, broken between two lives."""
    points: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for life in lives:
        if values := life.values.get(what):
            x, y = points[life.source]
            if x:
                x.append(x[-1])
                y.append(math.nan)
            x += life.minutes[what]
            y += values
    return [Line(label=source, x=x, y=y) for source, (x, y) in sorted(points.items())]


def _marks(soaked: Soaked) -> Iterator[Mark]:
    for window in soaked.windows:
        if window.label.startswith("relay"):
            yield Mark(label="relay restarted", begin=soaked.minute(window.began), end=soaked.minute(window.ended))


def _latency(soaked: Soaked) -> Iterator[Line]:
    width = max(soaked.minutes / 60, 0.05)
    buckets: dict[int, list[float]] = defaultdict(list)
    for minute, milliseconds in soaked.small:
        buckets[int(minute / width)].append(milliseconds)
    full = {number: quantiles(values, n=100) for number, values in sorted(buckets.items()) if len(values) >= 2}
    for label, place in (("p50", 49), ("p99", 98)):
        yield Line(
            label=label, x=[(number + 0.5) * width for number in full], y=[found[place] for found in full.values()]
        )


def _figures(soaked: Soaked, run: Run) -> dict[str, Any]:
    return {
        "command": run.command,
        "commit": run.commit,
        "date": run.date,
        "note": run.note,
        "machine": dict(run.machine),
        "minutes": soaked.minutes,
        "seed": soaked.seed,
        "findings": findings(soaked),
        "outcomes": [[kind, result, count] for (kind, result), count in sorted(soaked.outcomes.items())],
        "excused": [[fault, result, count] for (fault, result), count in sorted(soaked.excused.items())],
        "growth": [
            {
                "process": life.name,
                "what": what,
                "a_minute": round(found.slope, 4),
                "budget": BUDGETS[what].a_minute,
                "first": round(found.first, 2),
                "last": round(found.last, 2),
                "points": found.points,
                "minutes": round(found.minutes, 2),
                "counts": counts,
            }
            for life, what, found, counts in soaked.growths()
        ],
        "done_to_it": [
            [window.label, round(soaked.minute(window.began), 3), round(soaked.minute(window.ended), 3)]
            for window in soaked.windows
        ],
        "series": [
            {
                "process": life.name,
                **{
                    what: {
                        "minutes": [round(minute, 3) for minute in _thin(life.minutes[what])],
                        "values": [round(value, 2) for value in _thin(values)],
                    }
                    for what, values in life.values.items()
                },
            }
            for life in soaked.lives
            if life.lasted >= soaked.minutes / 10
        ],
    }


def _thin(values: Sequence[float]) -> Sequence[float]:
    return values[:: max(1, math.ceil(len(values) / _POINTS))]


def _page(soaked: Soaked, run: Run) -> str:
    found = findings(soaked)
    done = sum(soaked.outcomes.values())
    failed = sum(soaked.excused.values())
    verdict = "Nothing was found." if not found else "Found:\n\n" + "\n".join(f"- {text}" for text in found)
    acts: dict[str, int] = defaultdict(int)
    for window in soaked.windows:
        acts[window.label] += 1
    return "".join(
        [
            _INTRODUCTION,
            "\n## The last run\n\n",
            f"`{run.command}`, {run.date}, commit {run.commit}, seed {soaked.seed}; {_words(run.machine)}.",
            f" {run.note}" if run.note else "",
            f"\n\n{done} requests in {soaked.minutes:g} minutes; {failed} failed by a fault that was in force, ",
            f"{soaked.unexpected_count} without. {verdict}\n",
            "\n### What was asked, and what became of it\n\n",
            "\n".join(_outcomes(soaked)),
            "\n\n### What was done to the stack\n\n",
            "| what | times | requests that failed by it |\n| --- | --- | --- |\n",
            "\n".join(
                f"| {label} | {count} | "
                + (
                    ", ".join(
                        f"`{result}` {number}"
                        for (fault, result), number in sorted(soaked.excused.items())
                        if fault == label
                    )
                    or "none"
                )
                + " |"
                for label, count in sorted(acts.items())
            ),
            "\n\n### Growth\n\n",
            "\n".join(_growth(soaked)),
            "\n\n### Over time\n\n",
            *(f"![{title}](soak/{what}.svg)\n\n" for what, (title, _) in _PLOTS.items()),
            "![Latency of small requests](soak/latency.svg)\n\n",
            "All figures are in [soak.json](soak/soak.json).\n",
        ]
    )


def _words(machine: Mapping[str, str]) -> str:
    return f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}"


def _outcomes(soaked: Soaked) -> Iterator[str]:
    yield "| traffic | done | of these well | otherwise |"
    yield "| --- | --- | --- | --- |"
    for kind in sorted({kind for kind, _ in soaked.outcomes}):
        results = {result: count for (one, result), count in sorted(soaked.outcomes.items()) if one == kind}
        others = ", ".join(f"`{result}` {count}" for result, count in results.items() if result != "ok")
        yield f"| {kind} | {sum(results.values())} | {results.get('ok', 0)} | {others or 'none'} |"


def _growth(soaked: Soaked) -> Iterator[str]:
    yield "| process | what | a minute | budget | from, to | over |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for life, what, found, counts in soaked.growths():
        if counts:
            budget = BUDGETS[what]
            yield (
                f"| {life.name} | {what} | {found.slope:+.3f} {budget.unit} | {budget.a_minute} {budget.unit} | "
                f"{found.first:.1f}, {found.last:.1f} | {found.minutes:.1f} minutes |"
            )


_INTRODUCTION = f"""\
# Soak

`make soak` runs the whole stack for half an hour under churn, faults and traffic of every kind, and fails if anything
grows, hangs, goes wrong, or fails without a fault that explains it. `ARGS="--minutes 5"` makes it shorter. It takes no
part in `make test`, but a quarter of a minute of the same program does. This page is written by it.

One relay with TLS on its tunnels, two API servers, three devices with an agent each. Nothing is done to the agent or
the line of the first device; the line of the second has every fault of the chaos proxy; the agent of the third is
killed, stopped and started. The API servers and the relay are killed, and stopped in order. Some clients have a bad
line of their own. Small requests, uploads, downloads, slow readers, event streams, WebSockets and raw TCP go on all the
time, and every byte is compared.

A failure is expected if a fault was in force that can have caused it, or had been until 20 s before: that time is what
a peer that says nothing has to be found dead, and an agent has to dial again. Wrong bytes, and 60 s without a byte,
are never expected.

The leak budget holds for every process that lived for at least {LEAST_LIFE:g} minutes. Looked at is the second half of
its life; the slope is Theil and Sen's, which bursts do not tilt.

| what | may grow a minute | |
| --- | --- | --- |
"""
_INTRODUCTION += "".join(
    f"| {what} | {budget.a_minute} {budget.unit}".rstrip() + f" | {budget.why} |\n" for what, budget in BUDGETS.items()
)
