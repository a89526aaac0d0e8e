"""A process that the tests started: ready when it says so, measured from outside, ended when its block is left."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

__all__ = ["Process", "ProcessFailedError"]

_PROBE = 0.01
"""Seconds between two looks at something that cannot be waited for."""


class ProcessFailedError(RuntimeError):
    """A process ended before it was ready, was not ready in time, or ended as it should not."""


class Process:
    """A running program; its output is in a file, which every error of this class quotes.

    Args:
        name: for messages, and of the log file.
        command: the program and its arguments.
        folder: where its log is written; its working directory.
        environment: added to ours, from which `HOMEPORT_*` and proxies are taken out.
        json_output: it says on its standard output when it is ready, for `read_json`.
        descriptors: open files that it inherits.
        user: as whom it runs, with no other groups than that user's first; None: as we do.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        json_output: bool = False,
        descriptors: Sequence[int] = (),
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("HOMEPORT_") and not key.lower().endswith("_proxy")
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env={**inherited, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if json_output else log,
                stderr=log,
                pass_fds=descriptors,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def read_json(self) -> dict[str, Any]:
        """The next JSON object on its standard output, which begins and ends with a line.

        Raises:
            ProcessFailedError: it ended instead.
        """
        assert self._process.stdout is not None
        text = b""
        while line := self._process.stdout.readline():
            text += line
            try:
                answer = json.loads(text)
            except ValueError:
                continue  # an object over several lines
            assert isinstance(answer, dict)
            return answer
        self._process.wait()
        raise self._failed("ended instead of saying that it is ready")

    def send_line(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()

    def close_input(self) -> None:
        """End its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait_until(self, ready: Callable[[], bool], what: str, *, seconds: float = 90.0) -> None:
        """Look until `ready()` holds.

        Raises:
            ProcessFailedError: the process ended first, or `seconds` passed.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                raise self._failed(f"not {what} after {seconds:.0f} s")
            try:
                self._process.wait(_PROBE)
            except subprocess.TimeoutExpired:
                continue
            raise self._failed(f"ended before it was {what}")

    def wait_for_file(self, path: Path, *, seconds: float = 90.0) -> dict[str, Any]:
        """The JSON object that it writes to `path`, whole or not at all, once it is ready.

        Raises:
            ProcessFailedError: it ended first, or `seconds` passed.
        """
        self.wait_until(path.exists, "ready", seconds=seconds)
        answer = json.loads(path.read_bytes())
        assert isinstance(answer, dict)
        return answer

    def wait_until_connected(self, path: Path) -> None:
        """Return once an agent has a tunnel. Its file at `path` is there as soon as it dials, and on a busy machine it
        has not connected by then.

        Raises:
            ProcessFailedError: as of `wait_for_file`.
        """
        self.wait_until(lambda: self.wait_for_file(path)["connected"] is True, "connected")

    def wait(self, *, seconds: float = 30.0) -> int:
        """Its exit code, once it has ended.

        Raises:
            ProcessFailedError: it is still running after `seconds`.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self._failed(f"still running after {seconds:.0f} s") from None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def cpu_seconds(self) -> float:
        """User and system time that it and its living children used, all threads, in seconds (to 10 ms)."""
        return sum(self.cpu_times())

    def cpu_times(self) -> tuple[float, float]:
        """The same, user and system time apart."""
        family = [process.cpu_times() for process in self._family()]
        return sum(times.user for times in family), sum(times.system for times in family)

    def memory_bytes(self) -> int:
        """Resident memory of it and its children, in bytes; pages that they share are counted once each (PSS)."""
        return sum(process.memory_full_info().pss for process in self._family())

    def _family(self) -> list[psutil.Process]:
        own = psutil.Process(self.pid)
        return [own, *own.children(recursive=True)]

    def stop(self, *, seconds: float = 10.0) -> int:
        """End it: SIGTERM, and SIGKILL after `seconds`. Returns its exit code."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return code

    def _failed(self, what: str) -> ProcessFailedError:
        tail = self.log.read_text(errors="replace")[-4000:]
        code = self._process.poll()
        state = "" if code is None else f" (exit code {code})"
        return ProcessFailedError(f"{self.name} {what}{state}; its output ends with:\n{tail}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
