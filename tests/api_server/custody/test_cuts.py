"""Long work that is cut at any point goes on where it was: mirrors, restorations and rotations.

Cut in this process at each call in turn, before or after it had its effect, and killed as a process at random points.
HOMEPORT_CUT_SEEDS says how many random courses there are of each; one by default.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from api_server.custody.documents.interfaces import RECORDS, Change, Document, Documents, name_of
from api_server.custody.errors import DeletionHeldError
from api_server.custody.keys import count_by_key, sealed_columns
from api_server.custody.mirror.mirror import Mirror, Synced
from api_server.custody.mirror.restoration import restore
from api_server.custody.mirror.verification import verify_mirror
from api_server.custody.records import document_of
from api_server.custody.rotation import rotate
from common.crypto.keyring import Keyring
from tests.api_server.custody.destinations import Destination, Destinations
from tests.api_server.custody.samples import opened, record
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
        self.is_atomic = inner.is_atomic

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
async def test_c4_two_databases_with_one_primary_agree_in_the_end_wherever_they_are_cut(
    stage: Stage, destination: Destination, tmp_path: Path, seed: int
) -> None:
    """Changes are made in both at random, and either is cut at random; the other one may be gone for good."""
    chance = random.Random(seed)
    (tmp_path / "other").mkdir()
    shutil.copy(stage.folder / "keyring.json", tmp_path / "other" / "keyring.json")
    async with Stage(tmp_path / "other") as other:
        stages = (stage, other)

        async def sync(number: int, *, at: int = 0) -> bool:
            made = stages[number]
            documents = CutDocuments(destination.documents(f"clone-{number}"), at, after=chance.random() < 0.5)
            mirror = Mirror(documents, made.database, made.envelope, made.leases, made.clock, primary=True, batch=3)
            try:
                return await cuts(mirror.sync())
            except DeletionHeldError:
                await mirror.allow_deletions()
                return await cuts(mirror.sync())

        await stage.add(0, 1)
        await sync(0)
        for _ in range(8):
            number = chance.randrange(2)
            # A deletion that is cut at S3, on a machine that does not come back, is for people to look at.
            await disturb(stages[number], chance, deletes=destination.documents().is_atomic)
            await sync(number, at=chance.choice((0, 0, 1, 2)))
        for number in (0, 1, 0, 1):
            assert not await sync(number)
        assert await records_of(stage) == await records_of(other) == await records_at(destination)
        report = await verify_mirror(
            destination.documents("verifier"), stage.database, stage.envelope, stage.leases, lambda _done, _total: None
        )
        assert report.findings == []


async def disturb(stage: Stage, chance: random.Random, *, deletes: bool) -> None:
    """Some changes of some of ten records."""
    for _ in range(chance.randint(1, 4)):
        number = chance.randrange(10)
        here = {each.id for each in await stage.store.list(limit=100)}
        if f"ptk_{number:04}" not in here:
            versions = {row[0]: row[5] for row in await stage.rows()}
            version = int(str(versions.get(f"ptk_{number:04}", 0))) + 1
            await stage.store.put(record(number, version=version, envelope=stage.envelope), expected=0)
        elif not deletes or chance.random() < 0.7:
            await stage.change(number)
        else:
            await stage.delete(number)


async def test_c4_what_was_half_sent_and_then_deleted_does_not_stay(stage: Stage, destination: Destination) -> None:
    await stage.add(1)
    await stage.mirror(destination.documents()).sync()
    await stage.add(2, 3)
    assert await cuts(stage.mirror(CutDocuments(destination.documents(), 1, after=False)).sync())
    await stage.delete(2)
    await stage.mirror(destination.documents()).sync()
    assert set(await records_at(destination)) == {name_of("ptk_0001"), name_of("ptk_0003")}
    report = await verify_mirror(
        destination.documents("verifier"), stage.database, stage.envelope, stage.leases, lambda _done, _total: None
    )
    assert report.findings == []


async def test_c4_what_a_machine_that_was_lost_had_half_sent_is_not_lost(
    stage: Stage, tmp_path: Path, fresh_database: FreshDatabase
) -> None:
    """At S3: it was cut between a record and its manifest, and the record before is overwritten."""
    with Destinations(tmp_path / "destinations", fresh_database).make("s3") as destination:
        await stage.add(1, 2)
        await stage.mirror(destination.documents()).sync()
        await stage.change(1)
        assert await cuts(stage.mirror(CutDocuments(destination.documents(), 1, after=False)).sync())
        before = await records_of(stage)
        assert await records_at(destination) == before
        for primary in (True, False):
            await stage.lose_everything()
            documents = destination.documents()
            if primary:
                mirror = Mirror(documents, stage.database, stage.envelope, stage.leases, stage.clock, primary=True)
                assert await mirror.sync() == Synced(1, 0, taken=2)
            else:
                place = (stage.database, stage.envelope, stage.leases, stage.clock)
                assert await restore(documents, *place, lambda _done, _total: None) == 2
            assert await records_of(stage) == before == await records_at(destination)
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
