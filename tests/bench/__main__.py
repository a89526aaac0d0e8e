"""The command line of the bench: `python -m tests.bench`."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from tests.bench import plots, report
from tests.bench.broker import BrokerTokens
from tests.bench.many import LIMITS, ManyTunnels
from tests.bench.price import GatewayPrice, Lookups
from tests.bench.rows import (
    BULK_FILE,
    FAR_FILE,
    FIXED_FILE,
    SMALL_FILE,
    SMALL_SIZE,
    AloneRow,
    Figures,
    IdleTunnels,
    LoadRow,
    Row,
    Scale,
)
from tests.bench.sides import HOMEPORT, SIDES, Side, installation, relay_alone, side
from tests.bench.table import ROWS, with_peers
from tests.stack.certificates import Certificate, make_certificate
from tests.stack.nginx import Nginx, nginx

_REFERENCE_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "performance.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for. Returns the exit code: 1 when a load met errors."""
    options = _parse(arguments)
    rows = [row for row in (with_peers(ROWS) if options.peers else ROWS) if not options.rows or row.key in options.rows]
    scale = Scale.quick() if options.quick else Scale()
    if options.rounds:
        kinds = ("rounds", "idle_rounds", "far_rounds", "curve_rounds", "many_rounds", "token_rounds")
        scale = dataclasses.replace(scale, **dict.fromkeys(kinds, options.rounds))
    with tempfile.TemporaryDirectory(prefix="homeport-bench-", dir=_memory()) as folder:
        results = _measure(rows, scale, Path(folder), options.sides)
    whole = not (options.quick or options.rows or options.rounds or options.sides)
    given = " ".join(sys.argv[1:] if arguments is None else arguments)
    command = "make bench" if whole else f"python -m tests.bench {given}"
    machine = report.describe_machine()
    Console(width=160).print(Markdown(report.page("", results, machine, command, scale)))
    if page := options.write or (_REFERENCE_PAGE if whole else None):
        text = page.read_text() if page.exists() else "# Performance\n"
        page.write_text(report.page(text, results, machine, command, scale))
        page.with_suffix(".json").write_bytes(report.to_json(results, machine, command, scale))
        plots.draw(page.with_suffix(""), results)
    wrong = [
        f"{result.row.key}, {name}: {figures[kind]:.0f} {kind}"
        for result in results
        for name, rounds in result.rounds.items()
        for figures in rounds
        for kind in ("errors", "lost")
        if figures.get(kind)
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, measures nothing")
    parser.add_argument("--rows", nargs="+", choices=[row.key for row in ROWS], help="only these")
    parser.add_argument("--rounds", type=int, help="rounds of each row")
    parser.add_argument("--peers", action="store_true", help="measure OpenSSH's ssh -R too")
    parser.add_argument("--sides", nargs="+", choices=SIDES, help="only these")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="PAGE",
        help="write the tables into this page, JSON beside it and plots into a folder of its name; a whole run does so "
        "to docs/reference/performance.md",
    )
    return parser.parse_args(arguments)


def _memory() -> str | None:
    """A folder in memory when the system has one: uploads should not measure a disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _measure(rows: Sequence[Row], scale: Scale, folder: Path, only: Sequence[str] | None) -> list[report.Result]:
    console = Console(stderr=True)
    certificate = make_certificate(folder)
    load_rows = [row for row in rows if isinstance(row, LoadRow)]
    results: list[report.Result] = []
    with nginx(folder / "nginx") as service:
        fill(service, scale)
        for number, (tls, line) in enumerate(dict.fromkeys((row.tls, row.line) for row in load_rows)):
            group = [row for row in load_rows if (row.tls, row.line) == (tls, line)]
            home = folder / f"group-{number}"
            results += _measure_loads(group, scale, home, service, certificate if tls else None, only, console)
        for row in rows:
            if isinstance(row, ManyTunnels) and (not only or row.sides[0] in only):
                results.append(_measure_many(row, scale, folder / row.key, service, console))
            elif isinstance(row, GatewayPrice) and (not only or HOMEPORT in only):
                with installation(folder / row.key, service.address) as homeport:
                    results.append(_told(report.Result(row, row.measure(homeport, scale)), console))
    for row in rows:
        if isinstance(row, IdleTunnels):
            results.append(_measure_idle(row, scale, folder, only, console))
        elif isinstance(row, Lookups) and (not only or HOMEPORT in only):
            results.append(_told(report.Result(row, row.measure(scale)), console))
        elif isinstance(row, BrokerTokens) and (not only or HOMEPORT in only):
            results.append(_told(report.Result(row, row.measure(scale, folder / row.key)), console))
        elif isinstance(row, AloneRow) and (not only or row.sides[0] in only):
            results.append(_measure_alone(row, scale, folder / row.key, console))
    return sorted(results, key=lambda result: [row.key for row in rows].index(result.row.key))


def fill(service: Nginx, scale: Scale) -> None:
    """The files that nginx serves: random bytes, so that nothing on the way can profit from what they are."""
    (service.files / SMALL_FILE).write_bytes(b"x" * SMALL_SIZE)
    block = os.urandom(1 << 20)
    for name, size in ((BULK_FILE, scale.bulk_bytes), (FAR_FILE, scale.far_bytes), (FIXED_FILE, scale.fixed_bytes)):
        with (service.files / name).open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)


def _measure_loads(
    rows: Sequence[LoadRow],
    scale: Scale,
    folder: Path,
    service: Nginx,
    certificate: Certificate | None,
    only: Sequence[str] | None,
    console: Console,
) -> list[report.Result]:
    names = [name for name in dict.fromkeys(name for row in rows for name in row.sides) if not only or name in only]
    results = []
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for name in names:
            sides[name] = stack.enter_context(side(name, folder / name, service.address, certificate, rows[0].line))
        for row in rows:
            taking_part = [sides[name] for name in row.sides if name in sides]
            rounds: dict[str, list[Figures]] = {running.name: [] for running in taking_part}
            for running in taking_part:
                row.warm_up(running, scale)
            for number in range(row.rounds(scale)):
                for running in taking_part:
                    figures = row.measure(running, scale, folder)
                    rounds[running.name].append(figures)
                    console.print(f"{row.key} {number + 1}/{row.rounds(scale)} {running.name}: {_short(figures)}")
            results.append(report.Result(row, rounds))
    return results


def _measure_many(row: ManyTunnels, scale: Scale, folder: Path, service: Nginx, console: Console) -> report.Result:
    with installation(folder, service.address, environment=LIMITS) as homeport:
        rounds = row.measure(homeport, scale, folder)
    for number, figures in enumerate(rounds):
        console.print(f"{row.key} {number + 1}/{len(rounds)} {homeport.side.name}: {_short(figures)}")
    return report.Result(row, {homeport.side.name: rounds})


def _measure_idle(
    row: IdleTunnels, scale: Scale, folder: Path, only: Sequence[str] | None, console: Console
) -> report.Result:
    rounds: dict[str, list[Figures]] = {name: [] for name in row.sides if not only or name in only}
    for number in range(scale.idle_rounds):
        for name in rounds:
            home = folder / f"{name}-idle-{number}"
            with relay_alone(name, home) as running:
                figures = row.measure(running, scale, home)
            rounds[name].append(figures)
            console.print(f"{row.key} {number + 1}/{scale.idle_rounds} {name}: {_short(figures)}")
    return report.Result(row, rounds)


def _told(result: report.Result, console: Console) -> report.Result:
    for name, rounds in result.rounds.items():
        for number, figures in enumerate(rounds):
            console.print(f"{result.row.key} {number + 1}/{len(rounds)} {name}: {_short(figures)}")
    return result


def _measure_alone(row: AloneRow, scale: Scale, folder: Path, console: Console) -> report.Result:
    rounds: list[Figures] = []
    for number in range(row.rounds(scale)):
        rounds.append(row.measure(scale, folder / str(number)))
        console.print(f"{row.key} {number + 1}/{row.rounds(scale)} {row.sides[0]}: {_short(rounds[-1])}")
    return report.Result(row, {row.sides[0]: rounds})


def _short(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items())


if __name__ == "__main__":
    sys.exit(main())
