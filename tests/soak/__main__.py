"""`python -m tests.soak`: a soak, and its report."""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.soak.report import Run, describe_machine, write
from tests.soak.soak import findings, soak

_ROOT = Path(__file__).parents[2]


def main() -> int:
    """The command of the module; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="make soak", description="The whole stack under churn, faults and traffic.")
    parser.add_argument("--minutes", type=float, default=30.0, help="of traffic and churn (30)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (1)")
    parser.add_argument(
        "--output", type=Path, default=_ROOT / "docs" / "reference", help="where soak.md and its plots go"
    )
    parser.add_argument("--note", default="", help="a sentence about the machine, for the report")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homeport-soak-") as folder:
        soaked = soak(Path(folder), minutes=arguments.minutes, seed=arguments.seed)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    command = "make soak" if arguments.minutes == 30.0 else f'make soak ARGS="--minutes {arguments.minutes:g}"'
    run = Run(
        command=command,
        commit=commit or "unknown",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        note=arguments.note,
        machine=describe_machine(),
    )
    write(arguments.output, soaked, run)
    found = findings(soaked)
    print("\n".join(found) or "soak: nothing was found")
    print(f"soak: the report is {arguments.output / 'soak.md'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
