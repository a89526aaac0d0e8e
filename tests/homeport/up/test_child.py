"""One supervised process: the demo service, which needs nothing else, in all that can happen to a process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from common.clock import SystemClock
from homeport.up.child import SUPERVISOR, Child, Ready
from homeport.up.errors import ChildFailedError
from homeport.up.log import LogPrinter

pytestmark = pytest.mark.anyio

Command = Callable[[Ready | None], list[str]]


class Transcript(io.StringIO):
    """An output that one can wait on."""

    def __init__(self) -> None:
        super().__init__()
        self._written = asyncio.Event()

    def write(self, text: str) -> int:
        self._written.set()
        return super().write(text)

    async def wait_for(self, text: str) -> None:
        while text not in self.getvalue():
            self._written.clear()
            await self._written.wait()


class Supervised:
    """A child, and what was said."""

    def __init__(self, folder: Path, command: Command, group: asyncio.TaskGroup) -> None:
        self.ready_file = folder / "demo-ready.json"
        self.output = Transcript()
        self.commands: list[Ready | None] = []

        async def arguments(before: Ready | None) -> list[str]:
            self.commands.append(before)
            return command(before)

        log = LogPrinter(self.output, [SUPERVISOR, "demo"], colour=False)
        self.child = Child("demo", arguments, self.ready_file, log=log, clock=SystemClock(), group=group)

    async def stop(self) -> None:
        await self.child.stop(10.0, asyncio.Event())


@asynccontextmanager
async def supervised(folder: Path, command: Command) -> AsyncIterator[Supervised]:
    async with asyncio.TaskGroup() as group:
        subject = Supervised(folder, command, group)
        try:
            yield subject
        finally:
            await subject.stop()


def demo_command(folder: Path) -> Command:
    ready_file = str(folder / "demo-ready.json")
    return lambda _before: ["demo", "--port", "0", "--ready-file", ready_file]


async def test_start_and_stop(tmp_path: Path) -> None:
    async with supervised(tmp_path, demo_command(tmp_path)) as subject:
        ready = await subject.child.start()
        assert ready["url"].startswith("http://127.0.0.1:")
        assert repr(subject.child) == f"<Child demo: pid {ready['pid']}, runs>"
        process = psutil.Process(ready["pid"])
        await subject.stop()
        assert not process.is_running()
        assert not subject.ready_file.exists()
        assert repr(subject.child) == f"<Child demo: pid {ready['pid']}, ended with exit code 0>"
    assert subject.commands == [None]


async def test_a_process_that_is_killed_comes_back(tmp_path: Path) -> None:
    async with supervised(tmp_path, demo_command(tmp_path)) as subject:
        first = await subject.child.start()
        os.kill(first["pid"], signal.SIGKILL)
        await subject.output.wait_for("demo is running again")
        assert "demo was killed by SIGKILL; it starts again in" in subject.output.getvalue()
        # It was told what the first life had told, so that it can keep its port.
        assert subject.commands == [None, first]


async def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    ready_file = str(tmp_path / "missing" / "ready.json")
    async with supervised(tmp_path, lambda _: ["demo", "--port", "0", "--ready-file", ready_file]) as subject:
        with pytest.raises(ChildFailedError) as failed:
            await subject.child.start()
    first, *lines = str(failed.value).splitlines()
    assert first == "demo ended with exit code 1 before it was ready; it said:"
    assert "cannot be written" in lines[-1]


async def test_wrong_usage_is_shown(tmp_path: Path) -> None:
    async with supervised(tmp_path, lambda _: ["demo", "--port", "no"]) as subject:
        with pytest.raises(ChildFailedError, match=r"ended with exit code 2(.|\n)*'no' is not a valid integer"):
            await subject.child.start()


async def test_the_ready_file_of_an_earlier_life_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "demo-ready.json").write_text('{"pid": 1, "url": "http://127.0.0.1:9"}')
    async with supervised(tmp_path, demo_command(tmp_path)) as subject:
        assert (await subject.child.start())["pid"] != 1


async def test_stop_while_it_waits_to_start_again(tmp_path: Path) -> None:
    started = False

    def once(_before: Ready | None) -> list[str]:
        nonlocal started
        if started:
            return ["demo", "--port", "no"]
        started = True
        return demo_command(tmp_path)(None)

    async with supervised(tmp_path, once) as subject:
        first = await subject.child.start()
        os.kill(first["pid"], signal.SIGTERM)
        await subject.output.wait_for("demo ended with exit code 0; it starts again in")
        await subject.output.wait_for("demo ended with exit code 2 before it was ready")


async def test_ctrl_c_at_the_terminal_does_not_reach_it(tmp_path: Path) -> None:
    async with supervised(tmp_path, demo_command(tmp_path)) as subject:
        ready = await subject.child.start()
        assert os.getpgid(ready["pid"]) == ready["pid"]


async def test_a_process_that_ignores_the_end_is_killed(tmp_path: Path) -> None:
    """SIGSTOP stands for a process that hangs."""
    async with supervised(tmp_path, demo_command(tmp_path)) as subject:
        ready = await subject.child.start()
        os.kill(ready["pid"], signal.SIGSTOP)
        hurry = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(subject.child.stop(3600.0, hurry))
            await asyncio.sleep(0)
            hurry.set()
        assert not psutil.pid_exists(ready["pid"])
    assert "demo has not ended; killing it" in subject.output.getvalue()


async def test_it_does_not_outlive_a_killed_supervisor() -> None:
    program = """
import os, subprocess, sys
command = [sys.executable, "-m", "homeport.up.launch", str(os.getpid()), "demo", "--port", "0", "--json"]
subprocess.run(command)
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert supervisor.stdout is not None
    told = json.loads(await supervisor.stdout.readuntil(b"}"))
    gone = asyncio.Event()
    watched = os.pidfd_open(told["pid"])  # readable once the process has ended, whoever its parent is
    asyncio.get_running_loop().add_reader(watched, gone.set)
    supervisor.kill()
    await supervisor.wait()
    await gone.wait()
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)


async def test_it_does_not_start_for_a_supervisor_that_is_gone() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "homeport.up.launch", "1", "version"),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 1
    assert output == b""
    assert b"the supervisor ended before this process began" in errors
