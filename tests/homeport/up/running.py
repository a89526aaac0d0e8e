"""A real `homeport up`, for tests: started, listened to, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

__all__ = ["ANY_PORTS", "Transcript", "Up", "clean_environment", "homeport", "running_up"]

ANY_PORTS = ("--api-port", "0", "--gateway-port", "0", "--tunnel-port", "0", "--internal-port", "0")


def clean_environment() -> dict[str, str]:
    """The environment without settings of the person who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOMEPORT_")}


def homeport(*arguments: object) -> list[str]:
    """The command, as it is installed beside this Python."""
    return [str(Path(sys.executable).with_name("homeport")), *map(str, arguments)]


class Transcript:
    """Lines of a pipe as they come, in a thread, so that the process never waits for us."""

    def __init__(self, pipe: Any) -> None:
        self.lines: list[str] = []
        self._pipe = pipe
        self._ended = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self._pipe:
            with self._news:
                self.lines.append(line.decode().rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, pattern: str, *, after: int = 0) -> str:
        """The first line, from the line `after` on, in which the pattern is found."""
        at = after
        with self._news:
            while True:
                for line in self.lines[at:]:
                    if re.search(pattern, line):
                        return line
                at = len(self.lines)
                assert not self._ended, f"ended without {pattern!r}:\n" + "\n".join(self.lines)
                self._news.wait()

    def join(self) -> list[str]:
        """All lines, once the process has closed the pipe."""
        self._thread.join()
        return self.lines


class Up:
    """A running supervisor.

    Args:
        data_dir: its folder.
        arguments: more for the command.
    """

    def __init__(self, data_dir: Path, *arguments: object) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            homeport("up", "--data-dir", data_dir, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
        )
        self.output = Transcript(self.process.stdout)
        self.log = Transcript(self.process.stderr)

    @property
    def run(self) -> dict[str, Any]:
        """What run.json says."""
        content: dict[str, Any] = json.loads((self.data_dir / "run.json").read_bytes())
        return content

    @property
    def token(self) -> str:
        return (self.data_dir / "admin-token").read_text().strip()

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def demo_url(self) -> str:
        run = self.run
        return f"{run['gateway']}/d/{run['team']}/{run['demo_device']}/{run['demo_service']}"

    def get(self, url: str) -> httpx.Response:
        return httpx.get(url, headers=self.authorization, trust_env=False, timeout=30)

    def child(self, name: str) -> psutil.Process:
        """One of its processes, as it is running now."""
        for process in psutil.Process(self.process.pid).children():
            command = process.cmdline()
            if name in command[command.index("homeport.up.launch") :]:
                return process
        raise LookupError(name)

    def command(self, *arguments: object, **more: Any) -> subprocess.CompletedProcess[bytes]:
        """Another `homeport` command, told of this one's data directory."""
        command = homeport(*arguments, "--data-dir", self.data_dir)
        return subprocess.run(command, capture_output=True, env=clean_environment(), check=False, **more)

    def stop(self) -> int:
        """End it; gives the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        self.output.join()
        self.log.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@contextmanager
def running_up(data_dir: Path, *arguments: object) -> Iterator[Up]:
    """A supervisor that is ready; ended at the latest when the block is left."""
    up = Up(data_dir, *ANY_PORTS, *arguments)
    try:
        try:
            up.output.wait_for("Ctrl-C")
        except AssertionError:
            raise AssertionError("homeport up did not start:\n" + "\n".join(up.log.join())) from None
        yield up
    finally:
        up.stop()
