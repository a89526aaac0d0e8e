"""Where each process of Homeport spends its CPU under a row's load: kernel, interpreter, native libraries, by `perf`.

    python -m tests.bench.shares [download] [upload] [small] [close] [tls-upload] [tls-small] ...

The interpreter's share is our code and that of the standard library, which run nowhere else. Needs `perf` and the right
to use it; `make bench` does not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.bench.__main__ import fill
from tests.bench.rows import LoadRow, Scale
from tests.bench.sides import HOMEPORT, Side, side
from tests.bench.table import ROWS
from tests.stack.certificates import make_certificate
from tests.stack.nginx import nginx
from tests.stack.tools import tool

__all__ = ["group_of", "main"]

_GROUPS = {
    "kernel": ("[kernel", "[vdso", "[k"),
    "interpreter": ("libpython", "python"),
    "cryptography": ("libssl", "libcrypto", "_ssl"),
    "event loop": ("loop.cpython",),
}
"""What an object file belongs to, by how its name begins."""
_REST = "other native code"
_SECONDS = 3.0


def group_of(name: str) -> str:
    """The group of an object file."""
    return next((group for group, starts in _GROUPS.items() if name.startswith(starts)), _REST)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table. Returns the exit code."""
    known = {row.key: row for row in ROWS if isinstance(row, LoadRow) and HOMEPORT in row.sides and not row.line}
    parser = argparse.ArgumentParser(prog="python -m tests.bench.shares", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(known)}")
    options = parser.parse_args(arguments)
    scale = Scale(seconds=_SECONDS + 1, warm_up=0.5)
    columns = [*_GROUPS, _REST]
    print("| row | process |", " | ".join(columns), "|")
    print("| --- | --- |", " | ".join(["---"] * len(columns)), "|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homeport-shares-", dir="/dev/shm")))
        service = stack.enter_context(nginx(folder / "nginx"))
        fill(service, scale)
        certificate = make_certificate(folder)
        for key in options.rows or known:
            row = known[key]
            home = folder / key
            with side(HOMEPORT, home, service.address, certificate if row.tls else None) as running:
                row.warm_up(running, scale)
                for part, shares in _measure(row, running, scale, home).items():
                    cells = " | ".join(f"{shares.get(name, 0.0):.0f} %" for name in columns)
                    print(f"| {key} | {part} | {cells} |", flush=True)
    return 0


def _measure(row: LoadRow, running: Side, scale: Scale, folder: Path) -> dict[str, dict[str, float]]:
    """The shares of each process in percent, while the row's load goes on."""
    with ThreadPoolExecutor() as threads:
        recorders = {}
        for part, process in running.processes.items():
            command = [tool("perf"), "record", "-q", "-F", "499", "-o", str(folder / f"{part}.perf")]
            command += ["-p", str(process.pid), "--", "sleep", str(_SECONDS)]
            recorders[part] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        load = threads.submit(row.measure, running, scale, folder)
        for recorder in recorders.values():
            recorder.wait()
        load.result()
    return {part: _shares(folder / f"{part}.perf") for part in recorders}


def _shares(recording: Path) -> dict[str, float]:
    command = [tool("perf"), "report", "-i", str(recording), "--sort", "dso", "-t", ";", "--stdio"]
    shares: dict[str, float] = {}
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.strip() and not line.startswith("#"):
            percent, _, name = line.partition(";")
            group = group_of(name.strip())
            shares[group] = shares.get(group, 0.0) + float(percent.strip().rstrip("%"))
    return shares


if __name__ == "__main__":
    sys.exit(main())
