"""An audit log to write to, and what is needed to verify it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_server.audit.checkpoints import Checkpoints, CheckpointTask
from api_server.audit.keys import CheckpointSigner, CheckpointVerifier
from api_server.audit.log import ChainedAuditLog
from api_server.audit.records import Actor, AuditEntry
from api_server.audit.verification import Head, Report, verify
from api_server.db.database import Database
from common.crypto.key_sets import ensure_key_pair
from common.ids import TeamId
from tests.api_server.fakes import FakeClock

__all__ = ["Stage", "entry"]


def entry(number: int = 0, **changes: Any) -> AuditEntry:
    """An entry that has a value everywhere."""
    values: dict[str, Any] = {
        "actor": Actor("user", f"usr_{number}", "Ada"),
        "team": TeamId("home"),
        "action": "device.renamed",
        "target_kind": "device",
        "target_id": f"dev-{number}",
        "before": {"name": "one"},
        "after": {"name": f"number-{number}"},
        "request_id": f"req_{number}",
        "address": "192.0.2.1",
    }
    return AuditEntry(**(values | changes))


@dataclass
class Stage:
    """A log in a database."""

    database: Database
    folder: Path
    key: str = "private.json"
    """The key that signs; `public.json` is the one that is believed."""

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        ensure_key_pair(self.folder / "private.json", self.folder / "public.json")
        self.checkpoints = Checkpoints(CheckpointSigner(self.folder / self.key))
        self.log = ChainedAuditLog(self.checkpoints, self.clock)
        self.task = CheckpointTask(self.database, self.checkpoints, self.clock)

    async def write(self, count: int = 1, *, first: int = 0) -> None:
        """Write entries, each in a transaction of its own."""
        for number in range(first, first + count):
            await self.database.write(lambda tx, number=number: self.log.record(tx, entry(number)))

    async def fill(self, count: int) -> None:
        """Write entries in one transaction, which is quick."""

        async def work(tx: Any) -> None:
            for number in range(count):
                await self.log.record(tx, entry(number))

        await self.database.write(work)

    async def verify(self, *expected: Head) -> Report:
        """Verify the log."""
        return await verify(self.database, CheckpointVerifier(self.folder / "public.json"), expected=expected)

    async def problems(self, *expected: Head) -> list[tuple[str, int]]:
        """What is wrong with it, and where."""
        return [(finding.problem.value, finding.seq) for finding in (await self.verify(*expected)).findings]
