"""curl, with the token in a file of its own: arguments of a process can be read by everyone."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.stack.tools import tool

__all__ = ["Answer", "Curl"]

_REPORT = "%{stderr}\\n%{http_code} %{http_version} %{num_connects}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl got."""

    status: int
    http_version: str
    connections: int
    """Opened for this transfer; 0 when an earlier one was reused."""
    body: bytes
    trace: str
    """Standard error: with `--verbose`, the heads of both sides."""


class Curl:
    """curl with fixed headers.

    Args:
        folder: for the file with the headers.
        headers: of each request.
    """

    def __init__(self, folder: Path, headers: Mapping[str, str]) -> None:
        self._program = tool("curl")
        self._options = ["--silent", "--show-error", "--noproxy", "*", "--max-time", "120"]
        if headers:
            file = folder / "headers"
            file.touch(mode=0o600)
            file.write_text("".join(f"{name}: {value}\n" for name, value in headers.items()))
            self._options += ["--header", f"@{file}"]

    def __call__(self, *arguments: str | Path, body: bytes | None = None) -> Answer:
        """One transfer.

        Args:
            arguments: of curl, the URL among them.
            body: given on standard input.

        Raises:
            RuntimeError: curl failed: there was no answer, or a broken one.
        """
        return self._run([*self._options, "--write-out", _REPORT, *map(str, arguments)], body)

    def second(self, first: Sequence[str | Path], second: Sequence[str | Path]) -> Answer:
        """Two transfers by one curl, which keeps the connection if it can: the answer to the second.

        Args:
            first: arguments of the first one, which must write its body elsewhere.
            second: arguments of the second one.
        """
        both = [*self._options, *map(str, first), "--next", *self._options, "--write-out", _REPORT, *map(str, second)]
        return self._run(both, None)

    def _run(self, arguments: list[str], body: bytes | None) -> Answer:
        result = subprocess.run([self._program, *arguments], input=body, capture_output=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"curl failed with {result.returncode}: {result.stderr.decode()}")
        trace, _, report = result.stderr.decode(errors="replace").rpartition("\n")
        status, version, connections = report.split()
        return Answer(int(status), version, int(connections), result.stdout, trace)
