"""Canaries, planted in a real API server with a mirror, are seen nowhere but sealed: C8."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import psutil
import pytest

from api_server.custody.mirror.ledger import MirrorLedger
from tests.api_server.custody.destinations import Destinations
from tests.api_server.custody.samples import CANARY
from tests.api_server.custody.stage import Stage
from tests.databases.fixtures import FreshDatabase
from tests.stack.homeport import Keys, api, relay

pytestmark = pytest.mark.anyio

GIT_TOKEN = "token-of-git"


async def test_c8_no_canary_in_logs_arguments_commits_or_files(tmp_path: Path, fresh_database: FreshDatabase) -> None:
    keys = Keys.make(tmp_path)
    with Destinations(tmp_path / "destinations", fresh_database).make("git") as destination:
        (repository,) = (tmp_path / "destinations" / "served").glob("*.git")
        hook = repository / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")  # so that there are errors, too
        hook.chmod(0o755)
        settings = {**destination.settings, "HOMEPORT_CUSTODY_INTERVAL": "250ms"}
        async with Stage(tmp_path) as stage:
            await stage.add(1, 2)
            with relay(tmp_path, keys) as up, api(tmp_path, keys, up, environment=settings) as server:
                arguments: set[str] = set()
                ledger = MirrorLedger("git")

                async def look() -> None:
                    for process in [psutil.Process(server.process.pid), *psutil.Process().children(recursive=True)]:
                        try:
                            arguments.add(" ".join(process.cmdline()))
                        except psutil.Error:
                            continue
                    await asyncio.sleep(0.005)

                while (known := await stage.database.read(ledger.known)) is None or known.problem is None:
                    await look()
                hook.unlink()
                await stage.change(1)
                await stage.delete(2)
                while (drift := await stage.database.read(ledger.drift)).changes or drift.copies != 1:
                    await look()
                logged = server.process.log.read_text()
            assert "a mirror is not in step" in logged
            assert "store_refused" in logged
            assert "a mirror has failed" not in logged
            commits = subprocess.run(
                ["git", "-C", str(repository), "log", "-p", "--format=%B%an%ae", "main"],
                capture_output=True, check=True, text=True,
            ).stdout  # fmt: skip
            assert "auths/ptk_0001.json" in commits
            files = [path for path in tmp_path.rglob("*") if path.is_file()]
            texts = [logged, commits, *arguments, *(path.read_bytes().decode("latin-1") for path in files)]
            assert any("fast-import" in line or "push" in line for line in arguments)
            for canary in (CANARY, GIT_TOKEN):
                assert not [text[:200] for text in texts if canary in text]
        await destination.close()
