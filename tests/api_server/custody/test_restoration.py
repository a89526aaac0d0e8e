"""Records come back into an empty database, proven, or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from api_server.custody.documents.interfaces import name_of
from api_server.custody.errors import (
    DatabaseNotEmptyError,
    DestinationAheadError,
    DestinationAlteredError,
    DestinationUnprovenError,
)
from api_server.custody.mirror.mirror import Progress, Synced
from api_server.custody.mirror.restoration import restore
from common.crypto.errors import KeyMissingError
from common.crypto.keyring import Keyring, new_wrapping_key
from common.secret import Secret
from tests.api_server.custody.destinations import Destination
from tests.api_server.custody.samples import CANARY, opened
from tests.api_server.custody.stage import Stage

pytestmark = pytest.mark.anyio


class CutError(Exception):
    """As if the process were killed between two batches."""


async def bring(stage: Stage, destination: Destination, progress: Progress = lambda _done, _total: None) -> int:
    documents = destination.documents("restored")
    return await restore(documents, stage.database, stage.envelope, stage.leases, stage.clock, progress, batch=2)


async def contents(destination: Destination) -> dict[str, bytes]:
    return {name: document.content for name, document in (await destination.everything()).items()}


async def mirrored(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2, 3, 4, 5, 6)
    await mirror.sync()
    await stage.change(2)
    await stage.delete(6)
    await mirror.sync()


async def test_records_come_back_and_the_mirror_goes_on_from_there(stage: Stage, destination: Destination) -> None:
    await mirrored(stage, destination)
    before = await stage.store.list(limit=10)
    await stage.lose_everything()
    told: list[tuple[int, int]] = []
    assert await bring(stage, destination, lambda done, total: told.append((done, total))) == 5
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert await stage.store.list(limit=10) == before
    assert opened(before[1], stage.envelope) == f"{CANARY}-ptk_0002-2"
    mirror = stage.mirror(destination.documents())
    assert await mirror.sync() == Synced(0, 0)
    await stage.change(3)
    assert await mirror.sync() == Synced(1, 0)


async def test_one_that_was_cut_sends_nothing_and_goes_on(stage: Stage, destination: Destination) -> None:
    await mirrored(stage, destination)
    before = await stage.store.list(limit=10)
    await stage.lose_everything()

    def cut(done: int, _total: int) -> None:
        if done == 4:
            raise CutError

    with pytest.raises(CutError):
        await bring(stage, destination, cut)
    there = await contents(destination)
    with pytest.raises(DestinationAheadError, match="being restored"):
        await stage.mirror(destination.documents()).sync()
    assert await contents(destination) == there
    assert await bring(stage, destination) == 5
    assert await stage.store.list(limit=10) == before


async def test_a_database_with_records_takes_none(stage: Stage, destination: Destination) -> None:
    await mirrored(stage, destination)
    with pytest.raises(DatabaseNotEmptyError):
        await bring(stage, destination)
    await stage.lose_everything()
    await stage.add(9)
    with pytest.raises(DatabaseNotEmptyError, match="has 1 records"):
        await bring(stage, destination)


async def test_c7_what_was_altered_is_not_brought_back(stage: Stage, destination: Destination, tmp_path: Path) -> None:
    await mirrored(stage, destination)
    good = await contents(destination)
    await stage.lose_everything()
    one, two = name_of("ptk_0001"), name_of("ptk_0002")
    for forged in (
        {**good, one: good[two]},
        {name: content for name, content in good.items() if name != one},
        {**good, one: good[one].replace(b"sample", b"simple")},
    ):
        await destination.become(forged)
        with pytest.raises(DestinationAlteredError):
            await bring(stage, destination)
        assert await stage.store.list(limit=10) == []
        await stage.lose_everything()
    async with Stage(tmp_path / "other") as other:
        with pytest.raises(DestinationUnprovenError, match="restore with the keyring"):
            await bring(other, destination)


async def test_c2_a_key_that_is_missing_is_named(stage: Stage, destination: Destination) -> None:
    await mirrored(stage, destination)
    await stage.lose_everything()
    path = stage.folder / "keyring.json"
    before = Keyring.from_file(path)
    path.write_text(Keyring([new_wrapping_key()], signing=before.signing).dump().reveal())
    with pytest.raises(KeyMissingError, match=before.first.id):
        await bring(stage, destination)
    path.write_text(before.dump().reveal())
    assert await bring(stage, destination) == 5
    assert isinstance(before.dump(), Secret)
    assert msgspec.json.decode(path.read_bytes())
