"""What is said: every figure as JSON, and a page with a table of the goals and one of all figures."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.goals import Goal
from tests.bench.rows import Figures, Row, Scale
from tests.bench.sides import BARE, FIXED, FOUR, HANDLER, HOMEPORT, OPEN, REFERENCE, SSH
from tests.stack.tools import tool

__all__ = ["NAMES", "Result", "describe_machine", "page", "ratio", "ratios", "to_json"]

NAMES = {
    HOMEPORT: "Homeport",
    REFERENCE: "Go reference",
    BARE: "Go, bare front",
    FIXED: "Homeport, fixed window",
    OPEN: "Homeport, unchecked",
    FOUR: "Homeport, 4 API processes",
    HANDLER: "bare aiohttp handler",
    SSH: "ssh -R",
}
"""How the sides are called on the page."""

_BEGIN = "<!-- bench: begin -->"
_END = "<!-- bench: end -->"
_KERNEL = "kernel %, "
"""Figures that have a table of their own."""


class Result(msgspec.Struct, frozen=True):
    """The rounds of one row: what each side gave in each."""

    row: Row
    rounds: Mapping[str, Sequence[Figures]]

    def median(self, side: str, figure: str) -> float | None:
        """The median of the rounds; None when the side has no such figure."""
        values = [figures[figure] for figures in self.rounds.get(side, ()) if figure in figures]
        return statistics.median(values) if values else None


def ratios(result: Result, figure: str, of: str = HOMEPORT, to: str = REFERENCE) -> list[float]:
    """The ratio of each round; none when a side has no such figure."""
    pairs = zip(result.rounds.get(of, ()), result.rounds.get(to, ()), strict=False)
    return [a[figure] / b[figure] for a, b in pairs if b.get(figure) and figure in a]


def ratio(result: Result, figure: str, of: str = HOMEPORT, to: str = REFERENCE) -> float | None:
    """The median of the rounds' own ratios; None when a side has no such figure."""
    values = ratios(result, figure, of, to)
    return statistics.median(values) if values else None


def reached(result: Result, goal: Goal) -> float | None:
    """What Homeport reached of a goal: a ratio, or its own figure."""
    return ratio(result, goal.figure, to=goal.against) if goal.of_reference else result.median(HOMEPORT, goal.figure)


def describe_machine() -> dict[str, str]:
    """What the figures depend on."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{processor}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "go": _version([tool("go"), "version"]).removeprefix("go version "),
        "nginx": _version([tool("nginx"), "-v"]).removeprefix("nginx version: "),
    }


def _version(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return (result.stdout + result.stderr).strip().splitlines()[0]


def to_json(results: Sequence[Result], machine: Mapping[str, str], command: str, scale: Scale) -> bytes:
    """Every round of every row."""
    rows: list[dict[str, Any]] = []
    for result in results:
        goals = [
            {
                "figure": goal.figure,
                "goal": str(goal),
                "reached": (value := reached(result, goal)),
                "met": value is not None and goal.holds(value),
            }
            for goal in result.row.goals
        ]
        rows.append({"key": result.row.key, "title": result.row.title, "goals": goals, "rounds": result.rounds})
    document = {"machine": machine, "command": command, "scale": scale, "rows": rows}
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def page(text: str, results: Sequence[Result], machine: Mapping[str, str], command: str, scale: Scale) -> str:
    """`text` with the tables between its two marks; without marks, they are added at its end."""
    where = (
        f"{machine['processor']}, {machine['kernel']}, Python {machine['python']}, {machine['go']}, {machine['nginx']}"
    )
    tables = "\n".join(
        [
            _BEGIN,
            f"`{command}`, {machine['date']}; {where}. Median of {scale.rounds} rounds, the sides in turn.",
            "",
            *_goals(results),
            "",
            "Every figure; a ratio is Homeport's to the reference's, the median of the rounds' own.",
            "",
            *_figures(results),
            "",
            "Where the CPU of a row goes: each process's share of it, and how much of that is the kernel's.",
            "",
            *_shares(results),
            _END,
        ]
    )
    before, found, rest = text.partition(_BEGIN)
    if not found:
        return f"{text.rstrip()}\n\n{tables}\n".lstrip()
    return before + tables + rest.partition(_END)[2]


def _goals(results: Sequence[Result]) -> list[str]:
    lines = ["| what | figure | goal | reached | met |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        for goal in result.row.goals:
            value = reached(result, goal)
            if value is None:
                verdict = "- | not measured"
            else:
                verdict = (
                    f"{_number(value)}{' times' if goal.of_reference else ''} | {'yes' if goal.holds(value) else 'no'}"
                )
            against = "" if goal.against == REFERENCE else f" {NAMES[goal.against]}"
            lines.append(f"| {result.row.title} | {goal.figure} | {goal}{against} | {verdict} |")
    return lines


def _figures(results: Sequence[Result]) -> list[str]:
    others = [side for side in (BARE, FIXED, SSH) if any(result.rounds.get(side) for result in results)]
    lines = [
        "".join(f"| {name} " for name in ("what", "figure", "Homeport", "Go reference", "ratio")),
        "| --- | --- | --- | --- | --- |" + " --- |" * len(others),
    ]
    lines[0] += "".join(f"| {NAMES[side]} " for side in others) + "|"
    for result in results:
        names = dict.fromkeys(name for rounds in result.rounds.values() for figures in rounds for name in figures)
        for name in names:
            if name.startswith(_KERNEL):
                continue
            cells = [_cell(result.median(side, name)) for side in (HOMEPORT, REFERENCE)]
            cells += [_cell(ratio(result, name)), *(_cell(result.median(side, name)) for side in others)]
            lines.append(f"| {result.row.title} | {name} | {' | '.join(cells)} |")
    return lines


def _shares(results: Sequence[Result]) -> list[str]:
    sides = {HOMEPORT: ("gateway", "relay", "agent"), REFERENCE: ("relay", "agent")}
    columns = [(side, part) for side, parts in sides.items() for part in parts]
    lines = [
        "| what " + "".join(f"| {NAMES[side]}, {part} " for side, part in columns) + "|",
        "| --- " * (len(columns) + 1) + "|",
    ]
    for result in results:
        names = {name for rounds in result.rounds.values() for figures in rounds for name in figures}
        cost = next((name for name in names if name.startswith("CPU s/") and name.endswith(", relay")), None)
        if cost is None or not any(name.startswith(_KERNEL) for name in names):
            continue
        whole = cost.removesuffix(", relay")
        cells = [f"| {result.row.title} "]
        for side, part in columns:
            own, all_ = result.median(side, f"{whole}, {part}"), result.median(side, whole)
            kernel = result.median(side, f"{_KERNEL}{part}")
            shown = f"{own / all_:.0%}, kernel {kernel:.0f} %" if own and all_ and kernel is not None else ""
            cells.append(f"| {shown} ")
        lines.append("".join(cells) + "|")
    return lines


def _cell(value: float | None) -> str:
    return "" if value is None else _number(value)


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
