"""The Autobahn WebSocket test suite: a client that breaks the protocol in every way, and says what the server did.

It runs on Python 2.7 only. Where there is one, `install` puts the suite from PyPI into the project's `.cache`; `run`
gives its verdicts.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Verdict", "find_python", "install", "run"]

_DRIVER = Path(__file__).with_name("driver.py2")
_CACHE = Path(__file__).parents[3] / ".cache" / "autobahn"
_SUITE = "autobahntestsuite==25.10.1"

Verdict = tuple[str, str, int | None]
"""Of a case: how the server behaved, how it closed, and with which code."""


def find_python() -> str | None:
    """A Python 2.7, if there is one on this machine."""
    candidates = [Path(found) for name in ("python2.7", "python2") if (found := shutil.which(name))]
    candidates += sorted(Path.home().glob(".pyenv/versions/2.7.*/bin/python2.7"))
    for candidate in candidates:
        probe = [str(candidate), "-c", "import sys, pip; sys.stdout.write(sys.version)"]
        result = subprocess.run(probe, capture_output=True, text=True, check=False)
        if result.returncode == 0 and result.stdout.startswith("2.7"):
            return str(candidate)
    return None


def install(python: str) -> Path:
    """The folder with the suite, fetched from PyPI if it is not there yet.

    Raises:
        RuntimeError: PyPI did not give it.
    """
    folder = _CACHE / _SUITE
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = _CACHE / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            result = subprocess.run(
                [*command, "--target", str(partial), _SUITE], capture_output=True, text=True, check=False
            )
            if result.returncode != 0:
                raise RuntimeError(f"pip could not install {_SUITE}:\n{result.stderr}")
            (partial / "zope" / "__init__.py").touch()  # a namespace package, which --target leaves half made
            partial.rename(folder)
    return folder


def run(
    python: str,
    suite: Path,
    folder: Path,
    servers: Mapping[str, tuple[str, Mapping[str, str]]],
    *,
    cases: Sequence[str],
    excluded: Sequence[str],
) -> dict[str, dict[str, Verdict]]:
    """Run the cases against each server, one after the other.

    Args:
        python: a Python 2.7.
        suite: what `install` gave.
        folder: for the reports.
        servers: by a name: URL, and headers of the opening handshake.
        cases: patterns of case ids to run, such as `5.*`.
        excluded: patterns of those not to run.

    Returns:
        By server and case id, the verdict.

    Raises:
        RuntimeError: the suite itself failed.
    """
    specification = {
        "outdir": str(folder),
        "servers": [{"agent": name, "url": url, "headers": headers} for name, (url, headers) in servers.items()],
        "cases": list(cases),
        "exclude-cases": list(excluded),
        "exclude-agent-cases": {},
    }
    result = subprocess.run(
        [python, str(_DRIVER)],
        input=json.dumps(specification),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(suite), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(f"the suite failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    index = json.loads((folder / "index.json").read_bytes())
    return {
        name: {
            case: (report["behavior"], report["behaviorClose"], report["remoteCloseCode"])
            for case, report in index.get(name, {}).items()
        }
        for name in servers
    }
