"""A remote store as the primary: a change is answered once it is there, and it is believed when it is ahead."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from api_server.custody.composition import Custody
from api_server.custody.database import DatabaseRecordStore
from api_server.custody.documents.interfaces import RECORDS, name_of
from api_server.custody.errors import (
    DestinationAlteredError,
    DestinationUnprovenError,
    PrimaryBehindError,
    RecordConflictError,
    StoreUnavailableError,
)
from api_server.custody.interfaces import RecordStore
from api_server.custody.mirror.mirror import Mirror, Synced
from api_server.custody.mirror.statements import MANIFEST
from api_server.custody.postgresql.documents import PostgresDocuments
from api_server.custody.records import document_of
from api_server.custody.settings import CustodySettings
from api_server.custody.status import status_of
from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.leases.store import DatabaseLeases
from common.ids import TeamId
from common.secret import Secret
from common.settings import load
from tests.api_server.custody.destinations import Destination, git_destination, s3_destination
from tests.api_server.custody.record_store_contract import RecordStoreContract
from tests.api_server.custody.samples import changed, record
from tests.api_server.custody.stage import Stage
from tests.databases.fixtures import FreshDatabase
from tests.databases.servers import unreachable
from tests.stack.git_http import GitServer, git_server
from tests.stack.s3 import s3_server

pytestmark = pytest.mark.anyio


class Process:
    """What an API server runs of custody, over a database connection of its own."""

    def __init__(
        self, stage: Stage, environment: Mapping[str, str], name: str, database: Database | None = None
    ) -> None:
        kind = {"GITSTORE": "git", "OBJECTSTORE": "s3", "PGSTORE": "postgresql"}
        given = {
            "HOMEPORT_CUSTODY_PRIMARY": kind[next(iter(environment)).partition("_")[0]],
            "HOMEPORT_CUSTODY_INTERVAL": "1h",
            "GITSTORE_LOCAL_PATH": str(stage.folder / f"clone-{name}"),
            **environment,
        }
        settings = load(CustodySettings, config=None, environ=given, overrides={})
        self.registry = CollectorRegistry()
        self.database = database or Database.connect(f"sqlite:///{stage.folder}/homeport.db")
        self.copy = DatabaseRecordStore(self.database, stage.clock)
        self.custody = Custody(
            settings,
            database=self.database,
            copy=self.copy,
            envelope=stage.envelope,
            leases=DatabaseLeases(self.database, stage.clock),
            registry=self.registry,
            clock=stage.clock,
        )

    @property
    def store(self) -> RecordStore:
        return self.custody.records

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()


@asynccontextmanager
async def running(
    stage: Stage, destination: Destination, name: str = "one", database: Database | None = None, **more: str
) -> AsyncIterator[Process]:
    """Such a process, begun; over a database of its own, or over the one of `stage`."""
    process = Process(stage, destination.settings | more, name, database)
    task = asyncio.create_task(process.custody.run())
    try:
        await process.custody.begin()
        yield process
    finally:
        task.cancel()
        await asyncio.wait([task])
        await process.custody.close()
        await process.database.close()


async def records_at(destination: Destination) -> dict[str, bytes]:
    there = await destination.everything()
    return {name: document.content for name, document in there.items() if name.startswith(RECORDS)}


async def records_of(stage: Stage) -> dict[str, bytes]:
    return {name_of(each.id): document_of(each) for each in await stage.store.list(limit=10_000)}


async def until_in_step(stage: Stage, destination: Destination) -> None:
    """Once the primary has everything."""
    async with asyncio.timeout(60):
        while await records_at(destination) != await records_of(stage):
            await asyncio.sleep(0.02)


def as_primary(stage: Stage, destination: Destination, name: str = "homeport", *, batch: int = 2) -> Mirror:
    return Mirror(
        destination.documents(name), stage.database, stage.envelope, stage.leases, stage.clock,
        primary=True, batch=batch,
    )  # fmt: skip


class TestPrimaryRecordStore(RecordStoreContract):
    """The contract."""

    @pytest.fixture
    async def store(self, stage: Stage, destination: Destination) -> AsyncIterator[RecordStore]:
        async with running(stage, destination) as process:
            yield process.store


async def test_a_change_is_answered_once_the_primary_has_it(stage: Stage, destination: Destination) -> None:
    async with running(stage, destination) as process:
        one = record(1, envelope=stage.envelope)
        await process.store.put(one, expected=0)
        assert await records_at(destination) == {name_of(one.id): document_of(one)}
        two = changed(one, envelope=stage.envelope)
        await process.store.put(two, expected=1)
        assert await records_at(destination) == {name_of(one.id): document_of(two)}
        with pytest.raises(RecordConflictError):
            await process.store.put(two, expected=1)
        await process.store.delete(one.id, expected=2)
        assert await records_at(destination) == {}
        (status,) = (
            await status_of(
                stage.database, stage.envelope.keyring, [destination.documents()], primary=process.store.name
            )
        ).mirrors
        assert (status.primary, status.state) == (True, "in_step")
        assert "homeport_custody_unacknowledged_changes_total 0.0" in process.metrics()


async def test_two_processes_share_a_primary(stage: Stage, destination: Destination) -> None:
    """Whichever of them is at it: nobody is refused because the other one is."""
    async with running(stage, destination, "one") as one, running(stage, destination, "two") as two:
        async with asyncio.TaskGroup() as tasks:
            for number in range(12):
                store = (one, two)[number % 2].store
                tasks.create_task(store.put(record(number, envelope=stage.envelope), expected=0))
        assert await records_at(destination) == await records_of(stage)
        assert len(await two.store.list(limit=100)) == 12
        await asyncio.gather(one.store.ready(), two.store.ready())


async def test_what_a_process_that_was_killed_had_not_sent_is_sent_by_the_next(
    stage: Stage, destination: Destination
) -> None:
    async with running(stage, destination) as process:
        await process.store.put(record(1, envelope=stage.envelope), expected=0)
    await stage.add(2)  # committed, and then nothing more
    async with running(stage, destination):
        assert set(await records_at(destination)) == {name_of("ptk_0001"), name_of("ptk_0002")}


async def test_an_empty_database_has_everything_of_the_primary_at_the_start(
    stage: Stage, destination: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.add(*range(5))
    await stage.mirror(destination.documents()).sync()
    before, there = await stage.store.list(limit=10), await records_at(destination)
    await stage.lose_everything()
    async with running(stage, destination) as process:
        assert await process.store.list(limit=10) == before
        await process.store.put(changed(before[0], envelope=stage.envelope), expected=1)
        assert (await records_at(destination)).keys() == there.keys()
    assert await records_at(destination) == await records_of(stage)


async def test_of_two_databases_the_higher_version_counts(
    stage: Stage, destination: Destination, tmp_path: Path
) -> None:
    """One is an older backup of the other, and has changes of its own that the primary has never seen."""
    (tmp_path / "older").mkdir()
    shutil.copy(stage.folder / "keyring.json", tmp_path / "older" / "keyring.json")
    async with Stage(tmp_path / "older") as older:
        await stage.add(1, 2, 3, 4, 5, 6)
        newer, behind = as_primary(stage, destination), as_primary(older, destination, "older")
        await newer.sync()
        assert await behind.sync() == Synced(0, 0, taken=6)
        assert await older.store.list(limit=10) == await stage.store.list(limit=10)

        await stage.change(1, 3)
        await stage.change(3)
        await stage.delete(2, 4)
        await stage.add(7)
        await newer.allow_deletions()
        assert await newer.sync() == Synced(3, 2)
        await older.change(3, 4, 5)
        await older.delete(1, 6)
        await older.add(8)
        told: list[tuple[int, int]] = []
        synced = await behind.sync(taking=lambda done, total: told.append((done, total)))
        assert told == [(2, 5), (3, 5), (5, 5)]
        assert synced == Synced(3, 1, taken=5)
        found = {each.id: each.version for each in await older.store.list(limit=10)}
        assert found == {
            "ptk_0001": 2,  # changed there and deleted here, with one number: the primary counts
            "ptk_0003": 3,  # changed in both, more often there
            "ptk_0004": 2,  # deleted there, changed here
            "ptk_0005": 2,  # changed here
            "ptk_0007": 1,  # made there
            "ptk_0008": 1,  # made here; 2 was deleted there, 6 here
        }
        assert await records_at(destination) == await records_of(older)
        assert (await older.store.get("ptk_0003")) == (await stage.store.get("ptk_0003"))
        await newer.sync()
        assert await records_of(stage) == await records_of(older)
        assert await newer.sync() == await behind.sync() == Synced(0, 0)
        # Versions go on from where the others had come.
        await older.change(1, 7)
        assert await behind.sync() == Synced(2, 0)


async def test_taking_that_is_cut_goes_on(stage: Stage, destination: Destination) -> None:
    await stage.add(*range(7))
    await stage.mirror(destination.documents()).sync()
    before = await stage.store.list(limit=10)
    await stage.lose_everything()

    def cut(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    taken = []
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            await as_primary(stage, destination).sync(taking=cut)
        taken.append(len(await stage.store.list(limit=10)))
    assert taken == [2, 4, 6]
    assert await as_primary(stage, destination).sync() == Synced(0, 0, taken=1)
    assert await stage.store.list(limit=10) == before


async def test_c7_a_primary_that_was_altered_or_rolled_back_is_not_believed(
    stage: Stage, destination: Destination, tmp_path: Path
) -> None:
    await stage.add(1, 2)
    await as_primary(stage, destination).sync()
    old = {name: document.content for name, document in (await destination.everything()).items()}
    await stage.change(1)
    await as_primary(stage, destination).sync()
    good = {name: document.content for name, document in (await destination.everything()).items()}
    rows = await stage.rows()
    one, two = name_of("ptk_0001"), name_of("ptk_0002")
    await destination.become(old)
    with pytest.raises(DestinationAlteredError, match="older state was put back"):
        await as_primary(stage, destination, "again").sync()
    assert await stage.rows() == rows
    await stage.lose_everything()
    for forged in (
        {**good, one: good[two]},
        {**good, one: old[one]},
        {name: content for name, content in good.items() if name != two},
        {**good, MANIFEST: good[MANIFEST].replace(b'"number": 2', b'"number": 3')},
    ):
        await destination.become(forged)
        with pytest.raises(DestinationAlteredError):
            await as_primary(stage, destination, "again").sync()
        assert await stage.store.list(limit=10) == []
    async with Stage(tmp_path / "stranger") as stranger:
        with pytest.raises(DestinationUnprovenError):
            await as_primary(stranger, destination, "stranger").sync()


async def test_many_that_disconnect_at_once_are_no_mass_deletion_and_the_end_of_a_team_is(stage: Stage) -> None:
    """C4: the guard is for deletions that nobody waits for."""
    with s3_server() as server:
        destination = s3_destination(server)
        async with running(stage, destination) as process:
            for number in range(8):
                await process.store.put(
                    record(number, team="away" if number % 2 else "home", envelope=stage.envelope), expected=0
                )
            await asyncio.gather(*(process.store.delete(f"ptk_000{number}", expected=1) for number in (0, 2, 4)))
            assert len(await records_at(destination)) == 5
            await process.database.write(lambda tx: process.copy.drop_team(tx, TeamId("away")))
            with pytest.raises(PrimaryBehindError, match=r"4 of the 5 records .* would be deleted; .*allow-deletions"):
                await process.store.put(record(9, envelope=stage.envelope), expected=0)
            assert len(await records_at(destination)) == 5
            mirror = stage.mirror(destination.documents())
            await mirror.allow_deletions()
            await process.store.put(record(10, envelope=stage.envelope), expected=0)
            assert set(await records_at(destination)) == {name_of(f"ptk_00{each}") for each in ("06", "09", "10")}


async def test_b5_a_primary_that_refuses_is_told_of_at_once_and_nothing_is_lost(stage: Stage) -> None:
    with s3_server() as server:
        destination = s3_destination(server)
        async with running(stage, destination) as process:
            one = record(1, envelope=stage.envelope)
            await process.store.put(one, expected=0)
            await process.store.ready()
            server.manners.refuses = True
            two = changed(one, envelope=stage.envelope)
            with pytest.raises(PrimaryBehindError, match="kept in the database, and sent to s3 ") as caught:
                await process.store.put(two, expected=1)
            assert (caught.value.status, caught.value.code) == (503, "primary_behind")
            assert caught.value.retry_after
            assert "secret-of-s3" not in caught.value.detail
            assert await process.store.get(one.id) == two
            with pytest.raises(StoreUnavailableError, match="does not take changes"):
                await process.store.ready()
            assert not (await process.store.health()).ok
            assert "homeport_custody_unacknowledged_changes_total 1.0" in process.metrics()
            server.manners.refuses = False
            await until_in_step(stage, destination)
            async with asyncio.timeout(60):
                while not (await process.store.health()).ok:
                    await asyncio.sleep(0.02)
            await process.store.ready()


async def test_b5_a_primary_that_went_away_is_found_again(stage: Stage, fresh_database: FreshDatabase) -> None:
    with fresh_database(Kind.POSTGRESQL, migrated=False) as url:
        dsn = {"PGSTORE_DSN": url.replace("+psycopg", "")}
        destination = Destination(dsn, lambda _: PostgresDocuments(Secret(dsn["PGSTORE_DSN"]), "homeport_custody"))
        async with running(stage, destination) as process:
            await process.store.put(record(1, envelope=stage.envelope), expected=0)
            with unreachable(url):
                with pytest.raises(PrimaryBehindError):
                    await process.store.delete("ptk_0001", expected=1)
                with pytest.raises(StoreUnavailableError):
                    await process.store.ready()
                assert await process.store.list(limit=10) == []
            await until_in_step(stage, destination)
            assert await records_at(destination) == {}
        await destination.close()


async def test_the_working_copy_may_be_in_any_database(stage: Stage, database: Database) -> None:
    with s3_server() as server:
        destination = s3_destination(server)
        async with running(stage, destination, database=database) as process:
            for number in range(6):
                await process.store.put(record(number, envelope=stage.envelope), expected=0)
            await asyncio.gather(*(process.store.delete(f"ptk_000{number}", expected=1) for number in (0, 1, 2)))
            there = await records_at(destination)
            assert set(there) == {name_of(f"ptk_000{number}") for number in (3, 4, 5)}
            # Another database goes past it, and this one follows.
            assert await as_primary(stage, destination).sync() == Synced(0, 0, taken=3)
            await stage.change(3)
            await stage.add(7)
            await stage.delete(4)
            assert await as_primary(stage, destination).sync() == Synced(2, 1)
            await process.store.put(changed(await process.store.get("ptk_0005"), envelope=stage.envelope), expected=1)
            found = {each.id: each.version for each in await process.store.list(limit=10)}
            assert found == {"ptk_0003": 2, "ptk_0005": 2, "ptk_0007": 1}
            assert (await process.store.get("ptk_0003")) == await stage.store.get("ptk_0003")


async def test_a_primary_that_hangs_is_waited_for_no_longer_than_is_set(stage: Stage, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as server:
        destination = repository_of(server, tmp_path)
        patience = {"HOMEPORT_CUSTODY_PRIMARY_TIMEOUT": "1s", "HOMEPORT_CUSTODY_TIMEOUT": "3s"}
        async with running(stage, destination, **patience) as process:
            server.manners.stalled.set()
            with pytest.raises(PrimaryBehindError, match="has not answered in 1 s"):
                await process.store.put(record(1, envelope=stage.envelope), expected=0)
            with pytest.raises(StoreUnavailableError):
                await process.store.ready()
            assert (await process.store.get("ptk_0001")).version == 1
            server.manners.stalled.clear()
            await until_in_step(stage, destination)
        server.manners.stalled.set()
        async with running(stage, destination, "begins without", **patience) as process:
            assert (await process.store.get("ptk_0001")).version == 1
            with pytest.raises(StoreUnavailableError):
                await process.store.ready()
            server.manners.stalled.clear()


async def test_changes_that_wait_share_a_push(stage: Stage, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as server:
        destination = repository_of(server, tmp_path)
        async with running(stage, destination) as process:
            await asyncio.gather(
                *(process.store.put(record(number, envelope=stage.envelope), expected=0) for number in range(40))
            )
        assert len(await records_at(destination)) == 40
        (repository,) = server.folder.glob("*.git")
        counted = subprocess.run(
            ["git", "-C", str(repository), "rev-list", "--count", "main"], check=True, capture_output=True
        )
        assert int(counted.stdout) < 20


def repository_of(server: GitServer, folder: Path) -> Destination:
    """A repository of a server."""
    repository = server.folder / "custody.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repository)], check=True)
    subprocess.run(["git", "-C", str(repository), "config", "http.receivepack", "true"], check=True)
    return git_destination(server, repository.name, folder)


def test_a_primary_that_no_setting_names_is_an_error() -> None:
    for primary, needed in (("git", "gitstore_git_url"), ("s3", "objectstore_endpoint"), ("postgresql", "pgstore_dsn")):
        settings = CustodySettings(custody_primary=primary)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"{needed} is needed for custody_primary {primary}"):
            settings.check_mirrors()
    CustodySettings().check_mirrors()
    with pytest.raises(ValueError, match="a second at least"):
        CustodySettings(custody_primary_timeout=0.0).check_mirrors()
