"""The agent as a process: exit codes, signals, the ready file."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from common.crypto.keyfiles import write_secret
from common.tunnel.handshake import Refusal
from tests.edge_agent.relay import relay
from tests.edge_agent.running import IDLE, TOKEN
from tests.edge_agent.services import echo, serve

_RUN = """
import json, sys
from common.settings import load
from edge_agent.app import run
from edge_agent.settings import AgentSettings
sys.exit(run(load(AgentSettings, config=None, environ={}, overrides=json.loads(sys.argv[1]))))
"""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """On the real clock: the agent is another process."""
    return "trio", {}


@dataclass
class Process:
    """The agent, and the lines it logged."""

    process: trio.Process
    ready_file: Path
    log: list[dict[str, Any]]
    news: trio.Event

    async def until_logged(self, event: str) -> dict[str, Any]:
        while not any(line["event"] == event for line in self.log):
            await self.news.wait()
        return next(line for line in reversed(self.log) if line["event"] == event)

    def ready(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.ready_file.read_text())
        return content


@asynccontextmanager
async def agent_process(folder: Path, url: str, *services: str, **settings: Any) -> AsyncIterator[Process]:
    write_secret(folder / "session-token", TOKEN)
    ready_file = folder / "ready.json"
    fields = {"relay": url, "data_dir": str(folder), "services": services or [IDLE], "ready_file": str(ready_file)}
    command = [sys.executable, "-c", _RUN, json.dumps(fields | settings)]
    process = await trio.lowlevel.open_process(command, stderr=subprocess.PIPE)
    agent = Process(process, ready_file, [], trio.Event())

    async def read_log() -> None:
        rest = b""
        assert process.stderr is not None
        async for data in process.stderr:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                try:
                    agent.log.append(json.loads(line))
                except ValueError:
                    agent.log.append({"event": line.decode()})
            agent.news.set()
            agent.news = trio.Event()

    try:
        with trio.fail_after(60):  # ends a hang; nothing here takes a second
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_log)
                yield agent
                nursery.cancel_scope.cancel()
    finally:
        process.kill()
        await process.wait()
        assert process.stderr is not None
        await process.stderr.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        agent_process(tmp_path, r.url(), f"web=tcp://127.0.0.1:{port}") as agent,
    ):
        session = await r.session()
        await agent.until_logged("connected")
        ready = agent.ready()
        assert ready["connected"] is True
        assert (ready["pid"], ready["relay"]) == (agent.process.pid, r.url())
        assert (ready["session"], ready["epoch"]) == ("ses_1", 1)
        stream = await session.open("web")
        stream.write(b"before")
        assert await stream.receive(6) == b"before"
        agent.process.send_signal(number)
        await session.until(lambda: session.drain is not None)
        stream.write(b"after")
        assert await stream.receive(5) == b"after"
        stream.write_eof()
        assert await stream.receive_all() == b""
        assert await agent.process.wait() == 0
        assert not agent.ready_file.exists()
        await session.until(lambda: session.error is not None)


@pytest.mark.anyio
async def test_a_second_signal_cuts_what_is_open(tmp_path: Path) -> None:
    async with (
        serve(echo) as port,
        relay() as r,
        agent_process(tmp_path, r.url(), f"web=tcp://127.0.0.1:{port}", drain_grace=3600) as agent,
    ):
        session = await r.session()
        stream = await session.open("web")
        agent.process.send_signal(signal.SIGTERM)
        await session.until(lambda: session.drain is not None)
        agent.process.send_signal(signal.SIGTERM)
        assert await stream.lost() is not None
        assert await agent.process.wait() == 0


@pytest.mark.anyio
async def test_signals_that_go_on_to_the_end_do_not_make_it_a_failure(tmp_path: Path) -> None:
    async with relay() as r, agent_process(tmp_path, r.url()) as agent:
        await agent.until_logged("connected")
        while agent.process.poll() is None:
            agent.process.send_signal(signal.SIGTERM)
            await trio.sleep(0)
        assert agent.process.returncode == 0


@pytest.mark.anyio
async def test_a_final_refusal_is_exit_code_1_with_the_reason_in_the_log(tmp_path: Path) -> None:
    async with relay() as r:
        r.refusals = [Refusal(status=403, code="revoked", title="Revoked", detail="revoked by ops on Monday")]
        async with agent_process(tmp_path, r.url()) as agent:
            line = await agent.until_logged("giving up")
            assert await agent.process.wait() == 1
            assert (line["level"], line["reason"], line["detail"]) == ("error", "revoked", "revoked by ops on Monday")
            assert TOKEN not in json.dumps(agent.log)


@pytest.mark.anyio
async def test_the_ready_file_says_when_it_is_not_connected(tmp_path: Path) -> None:
    async with relay() as r, agent_process(tmp_path, r.url(), retry_base=0.01) as agent:
        session = await r.session()
        await agent.until_logged("connected")
        r.refusals = [Refusal(status=503, code="draining", title="", retry_after=3600)]
        assert session.tunnel is not None
        session.tunnel.close("draining")
        await agent.until_logged("refused")
        await agent.until_logged("retrying")
        while agent.ready()["state"] != "waiting":
            await trio.sleep(0.01)
        assert agent.ready()["connected"] is False
        assert agent.ready()["session"] is None


@pytest.mark.anyio
async def test_it_allows_itself_the_descriptors_that_its_streams_need(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4000:
        pytest.skip(f"the hard limit of open files is {hard}")
    async with relay() as r:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))  # inherited by the agent
        try:
            async with agent_process(tmp_path, r.url(), max_streams=3000) as agent:
                await agent.until_logged("connected")
                limits = Path(f"/proc/{agent.process.pid}/limits").read_text()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert int(line.split()[3]) >= 3000


@pytest.mark.anyio
async def test_a_ready_file_that_cannot_be_written_does_not_stop_it(tmp_path: Path) -> None:
    async with relay() as r, agent_process(tmp_path, r.url(), ready_file=str(tmp_path / "no" / "folder")) as agent:
        line = await agent.until_logged("the ready file cannot be written")
        assert line["level"] == "warning"
        await agent.until_logged("connected")
        agent.process.send_signal(signal.SIGTERM)
        assert await agent.process.wait() == 0


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"relay": "relay.example"}, 2, "wss://relay.example/tunnel"),
        ({"relay": "ws://relay.example"}, 2, "unencrypted"),
        ({"services": ["web"]}, 2, "NAME=URL"),
        ({}, 1, "session-token cannot be read"),
        ({"relay": "wss://relay.example", "ca_file": "/nowhere/ca.pem"}, 1, "/nowhere/ca.pem"),
    ],
)
def test_what_cannot_work_ends_at_once(tmp_path: Path, fields: dict[str, Any], code: int, says: str) -> None:
    settings = {"relay": "ws://127.0.0.1:1", "data_dir": str(tmp_path), "services": [IDLE]} | fields
    done = subprocess.run([sys.executable, "-c", _RUN, json.dumps(settings)], capture_output=True, text=True)
    assert done.returncode == code
    assert says in json.loads(done.stderr)["detail"]
