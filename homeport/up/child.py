"""One supervised process: started, watched until it is ready, started again when it dies, stopped.

"Ready" is a JSON object that the process itself writes to its ready file, with its pid, so that the file of an earlier
life is not believed; `connected` in it must not be false.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.backoff import Backoff
from common.clock import Clock
from common.errors import HomeportError
from homeport.up.errors import ChildFailedError
from homeport.up.log import LineSplitter, LogPrinter

__all__ = ["SUPERVISOR", "Arguments", "Child", "Ready"]

SUPERVISOR = "up"
"""The name under which the supervisor itself writes to the log."""

Ready = Mapping[str, Any]
"""What a process told when it was ready."""

Arguments = Callable[[Ready | None], Awaitable[Sequence[str]]]
"""Gives the command of a process at each of its starts, from what it told at the last one; None at the first."""

_READY_WITHIN = 60.0
"""Seconds; a busy machine may take ten, a wrong one takes for ever."""

_READY_CHECKS = 0.02
"""Seconds between two looks at the ready file."""

_STOP_MARGIN = 5.0
"""Seconds beyond the grace after which a process that does not end is killed."""


class Child:
    """A process under supervision.

    Args:
        name: for people.
        arguments: gives its command.
        ready_file: that the command makes it write.
        log: shows what it says.
        clock: tells how long it lived.
        group: runs the tasks that read its output and start it again.
    """

    def __init__(
        self,
        name: str,
        arguments: Arguments,
        ready_file: Path,
        *,
        log: LogPrinter,
        clock: Clock,
        group: asyncio.TaskGroup,
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._ready_file = ready_file
        self._log = log
        self._clock = clock
        self._group = group
        self._backoff = Backoff(base=0.5, maximum=30.0, healthy_after=30.0)
        self._ready: Ready | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._started = 0.0

    def __repr__(self) -> str:
        state = "not started" if self._process is None else f"pid {self._process.pid}, {self._state()}"
        return f"<Child {self.name}: {state}>"

    async def start(self) -> Ready:
        """Start it for the first time, and from then on again whenever it dies; returns once it is ready.

        Raises:
            ChildFailedError: it ended, or did not get ready in time; its last lines are in the detail.
        """
        self._ready = await self._launch()
        self._keeper = self._group.create_task(self._keep_running(), name=f"keep {self.name} running")
        return self._ready

    async def stop(self, grace: float, hurry: asyncio.Event) -> None:
        """Ask it to end, and wait until it has.

        Args:
            grace: seconds that it was told it may take.
            hurry: when set, there is no grace.
        """
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        process = self._process
        if process is None:
            return
        if process.returncode is None and not hurry.is_set():
            process.terminate()
            await _wait_first(process.wait(), hurry.wait(), timeout=grace + _STOP_MARGIN)
        if process.returncode is None:
            self._say(f"{self.name} has not ended; killing it")
            process.kill()
        await process.wait()
        await self._finish_output()
        self._ready_file.unlink(missing_ok=True)

    async def _launch(self) -> Ready:
        arguments = await self._arguments(self._ready)
        self._ready_file.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            # -P: never import from the folder that the user happens to be in.
            *("-P", "-m", "homeport.up.launch", str(os.getpid()), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            # Of its own: Ctrl-C at the terminal is for the supervisor, which stops the processes in order.
            process_group=0,
        )
        self._started = self._clock.monotonic()
        self._output = self._group.create_task(self._show_output(self._process), name=f"output of {self.name}")
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while (ready := self._read_ready(self._process.pid)) is None:
                    if self._process.returncode is not None:
                        await self._finish_output()
                        raise ChildFailedError(self._explain(f"{self.name} {self._state()} before it was ready"))
                    await asyncio.sleep(_READY_CHECKS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            await self._finish_output()
            raise ChildFailedError(
                self._explain(f"{self.name} was not ready within {_READY_WITHIN:.0f} s, and was killed")
            ) from None
        return ready

    async def _keep_running(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            await self._finish_output()
            self._backoff.connected_for(self._clock.monotonic() - self._started)
            delay = self._backoff.next_delay()
            self._say(f"{self.name} {self._state()}; it starts again in {delay:.1f} s")
            await asyncio.sleep(delay)
            try:
                self._ready = await self._launch()
            except HomeportError as exc:
                self._say(exc.detail.partition("\n")[0])
            except OSError as exc:
                self._say(f"{self.name} cannot be started: {exc.strerror or exc}")
            else:
                self._say(f"{self.name} is running again")

    def _read_ready(self, pid: int) -> Ready | None:
        try:
            told = json.loads(self._ready_file.read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(told, dict) or told.get("pid") != pid or told.get("connected") is False:
            return None
        return told

    async def _show_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        splitter = LineSplitter()
        while data := await process.stdout.read(65536):
            for line in splitter.feed(data):
                self._log.line(self.name, line)
        for line in splitter.finish():
            self._log.line(self.name, line)

    async def _finish_output(self) -> None:
        """Let what it said last be shown before what is said about it."""
        if self._output is not None:
            await asyncio.wait({self._output}, timeout=1.0)

    def _state(self) -> str:
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "runs"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def _explain(self, text: str) -> str:
        lines = self._log.last_lines(self.name)
        if not lines:
            return f"{text}; it said nothing"
        return "\n".join([f"{text}; it said:", *(f"    {line}" for line in lines)])

    def _say(self, text: str) -> None:
        self._log.line(SUPERVISOR, text)


async def _wait_first(*events: Awaitable[object], timeout: float) -> None:
    """Wait until one of them happened, or `timeout` seconds have passed."""
    tasks = [asyncio.ensure_future(event) for event in events]
    try:
        await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
