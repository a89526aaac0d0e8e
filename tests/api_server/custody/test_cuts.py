"""Long work that is cut at any point goes on where it was: mirrors, restorations and rotations.

Cut in this process at each call in turn, before or after it had its effect, and killed as a process at random points.
HOMEPORT_CUT_SEEDS says how many random courses there are of each; one by default.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from api_server.custody.documents.interfaces import RECORDS, Change, Document, Documents, name_of
from api_server.custody.keys import count_by_key, sealed_columns
from api_server.custody.mirror.restoration import restore
from api_server.custody.mirror.verification import verify_mirror
from api_server.custody.records import document_of
from api_server.custody.rotation import rotate
from common.crypto.keyring import Keyring
from tests.api_server.custody.destinations import Destination, Destinations
from tests.api_server.custody.samples import opened
from tests.api_server.custody.stage import Stage
from tests.databases.fixtures import FreshDatabase
from tests.stack.homeport import command

pytestmark = pytest.mark.anyio

SEEDS = range(int(os.environ.get("HOMEPORT_CUT_SEEDS", "1")))

RECORD_COUNT = 1_000


class CutError(Exception):
    """The process is gone."""


class CutDocuments:
    """A store that is cut at one of its calls, before or after that had its effect.

    Args:
        inner: the store.
        at: number of the writing call at which it is cut.
        after: once the call has had its effect.
    """

    def __init__(self, inner: Documents, at: int, *, after: bool) -> None:
        self._inner = inner
        self._at = at
        self._after = after
        self.calls = 0
        self.name = inner.name
        self.destination = inner.destination

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def forget(self) -> None:
        await self._inner.forget()

    async def refresh(self) -> None:
        await self._inner.refresh()

    async def read(self, name: str) -> Document | None:
        return await self._inner.read(name)

    async def names(self, prefix: str) -> Sequence[str]:
        return await self._inner.names(prefix)

    async def read_many(self, names: Sequence[str]) -> Mapping[str, Document]:
        return await self._inner.read_many(names)

    async def apply(self, changes: Sequence[Change]) -> Sequence[str]:
        self.calls += 1
        if self.calls != self._at:
            return await self._inner.apply(changes)
        if self._after:
            await self._inner.apply(changes)
        elif self.name == "s3" and len(changes) > 1:
            await self._inner.apply(changes[: len(changes) // 2])  # which has done a part
        raise CutError


async def records_at(destination: Destination) -> dict[str, bytes]:
    there = await destination.everything()
    return {name: document.content for name, document in there.items() if name.startswith(RECORDS)}


async def records_of(stage: Stage) -> dict[str, bytes]:
    return {name_of(each.id): document_of(each) for each in await stage.store.list(limit=10_000)}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_c4_a_sync_that_is_cut_at_any_write_goes_on(stage: Stage, destination: Destination, after: bool) -> None:
    """The first write is the marker; then there are two batches."""
    await stage.add(1, 2, 3, 4)
    cut = []
    for at in (1, 2, 1):
        documents = CutDocuments(destination.documents(), at, after=after)
        cut.append(await cuts(stage.mirror(documents, batch=2).sync()))
        if at == 2:
            await stage.change(1)  # between the cut and the next process
            await stage.delete(2)
    assert cut[:2] == [True, True]
    await stage.mirror(destination.documents(), batch=2).sync()
    assert await records_at(destination) == await records_of(stage)
    await stage.change(3)
    await stage.delete(4)
    assert await cuts(stage.mirror(CutDocuments(destination.documents(), 1, after=after), batch=5).sync())
    await stage.mirror(destination.documents(), batch=2).sync()
    assert await records_at(destination) == await records_of(stage)
    report = await verify_mirror(
        destination.documents("verifier"), stage.database, stage.envelope, stage.leases, lambda _done, _total: None
    )
    assert report.findings == []


class Killed:
    """Runs a command of `homeport custody`, and kills it at random lines of its progress until it gets through."""

    def __init__(self, stage: Stage, settings: Mapping[str, str], seed: int) -> None:
        self._folder = stage.folder
        self._random = random.Random(seed)
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(stage.folder),
            "HOMEPORT_DATA_DIR": str(stage.folder),
            **settings,
        }
        self.kills = 0
        self.output = ""

    def through(self, *arguments: str) -> None:
        """Until it has ended by itself, with 0."""
        limits = [self._random.randint(1, 6) for _ in range(2)]
        for limit in [*limits, 10_000]:
            if self._run(limit, *arguments):
                return
            self.kills += 1
            # As time would: the lease of a process that is gone runs out.
            with closing(sqlite3.connect(self._folder / "homeport.db", timeout=30)) as database, database:
                database.execute("UPDATE leases SET expires_at = 0")
        raise AssertionError("it was not killed the last time")

    def _run(self, lines: int, *arguments: str) -> bool:
        with subprocess.Popen(
            [command(), "custody", *arguments], env=self._environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            if self._kill_at(process, process.stderr, lines):
                return False
            assert process.stdout is not None
            self.output += process.stdout.read()
            assert process.wait(timeout=60) == 0, self.output
            return True

    def _kill_at(self, process: subprocess.Popen[str], stream: IO[str], lines: int) -> bool:
        for number, line in enumerate(stream, 1):
            self.output += line
            if number == lines:
                process.send_signal(signal.SIGKILL)
                return True
        return False


@pytest.mark.parametrize("seed", SEEDS)
async def test_c4_a_thousand_records_are_mirrored_rotated_and_restored_by_processes_that_are_killed(
    stage: Stage, tmp_path: Path, fresh_database: FreshDatabase, seed: int
) -> None:
    with Destinations(tmp_path / "destinations", fresh_database).make("postgresql") as destination:
        await stage.fill(RECORD_COUNT)
        killed = Killed(stage, destination.settings, seed)
        killed.through("sync", "postgresql")
        assert await records_at(destination) == await records_of(stage)

        (old,) = Keyring.from_file(stage.folder / "keyring.json").ids
        killed.through("rotate-keys")
        keyring = Keyring.from_file(stage.folder / "keyring.json")
        assert [key.id for key in keyring.retired] == [old]
        counted = await stage.database.read(lambda tx: count_by_key(tx, sealed_columns()))
        assert counted == {keyring.first.id: RECORD_COUNT}
        killed.through("sync", "postgresql")
        before = await records_of(stage)
        assert await records_at(destination) == before

        await stage.lose_everything()
        killed.through("restore", "postgresql")
        assert await records_of(stage) == before
        for each in (await stage.store.list(limit=RECORD_COUNT))[:: RECORD_COUNT // 10]:
            assert "canary" in opened(each, stage.envelope)
        assert killed.kills > 2
        assert f"of {RECORD_COUNT} sent to postgresql" in killed.output
        assert f"of {RECORD_COUNT} re-wrapped" in killed.output
        assert f"of {RECORD_COUNT} restored from postgresql" in killed.output
        assert "canary" not in killed.output
        await destination.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_c4_work_that_is_cut_between_any_two_batches_goes_on(
    stage: Stage, tmp_path: Path, fresh_database: FreshDatabase, seed: int
) -> None:
    """At S3, where a batch is not one transaction."""
    chance = random.Random(seed)

    def cut(_done: int, _total: int) -> None:
        if chance.random() < 0.3:
            raise CutError

    with Destinations(tmp_path / "destinations", fresh_database).make("s3") as destination:
        await stage.fill(60)
        for _ in range(100):
            at = chance.randint(1, 4)
            documents = CutDocuments(destination.documents(), at, after=chance.random() < 0.5)
            if not await cuts(stage.mirror(documents, batch=10).sync(cut)):
                break
            if chance.random() < 0.3:
                await stage.change(chance.randrange(60))
        assert await records_at(destination) == await records_of(stage)
        before = await records_of(stage)
        await stage.lose_everything()
        while await cuts(
            restore(destination.documents(), stage.database, stage.envelope, stage.leases, stage.clock, cut, batch=10)
        ):
            pass
        assert await records_of(stage) == before
        while await cuts(rotate(stage.database, stage.folder / "keyring.json", cut, batch=10)):
            pass
        assert json.loads((stage.folder / "keyring.json").read_text())["retired"]
        await destination.close()


async def cuts(work: Awaitable[object]) -> bool:
    """Whether it was cut."""
    try:
        await work
    except CutError:
        return True
    return False
