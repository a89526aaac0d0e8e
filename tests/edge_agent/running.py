"""The whole agent, as `homeport agent` builds it, in the test's own trio run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from common.crypto.keyfiles import write_secret
from edge_agent.agent import Agent
from edge_agent.app import build_agent
from edge_agent.settings import AgentSettings
from tests.edge_agent.logs import RecordingLogger

__all__ = ["TOKEN", "Running", "running_agent"]

IDLE = "web=http://127.0.0.1:1?health=off"
"""A service for tests that need none."""

TOKEN = "eyJhbGciOiJFZERTQSJ9.test-session-token.c2lnbmF0dXJl"


@dataclass
class Running:
    """An agent and what it says."""

    agent: Agent
    log: RecordingLogger
    token_file: Path
    done: trio.Event = field(default_factory=trio.Event)
    code: int | None = None

    async def end(self) -> int:
        """Its exit code, once it has ended."""
        await self.done.wait()
        assert self.code is not None
        return self.code


@asynccontextmanager
async def running_agent(
    folder: Path,
    relay: str,
    *services: str,
    environ: Mapping[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """Run an agent with its token in `folder` until the block ends."""
    token_file = folder / "session-token"
    if not token_file.exists():
        write_secret(token_file, TOKEN)
    log = RecordingLogger()
    agent, _ = build_agent(
        AgentSettings(relay=relay, data_dir=folder, services=services or (IDLE,), **settings),
        log.as_logger(),
        environ={} if environ is None else environ,
    )
    running = Running(agent, log, token_file)

    async def run() -> None:
        running.code = await agent.run()
        running.done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield running
        nursery.cancel_scope.cancel()
