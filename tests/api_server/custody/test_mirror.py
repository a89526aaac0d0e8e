"""Mirrors, on each kind of destination: C3 to C8, and the two losses that are documented of the system before."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from api_server.custody.documents.interfaces import RECORDS, name_of
from api_server.custody.errors import (
    DeletionHeldError,
    DestinationAheadError,
    DestinationAlteredError,
    DestinationChangedError,
    DestinationError,
    DestinationUnprovenError,
    StoreBusyError,
)
from api_server.custody.mirror.mirror import Synced
from api_server.custody.mirror.statements import MANIFEST, MARKER, Marker, Signer
from api_server.custody.records import document_of, record_in
from tests.api_server.custody.destinations import Destination
from tests.api_server.custody.samples import CANARY, opened
from tests.api_server.custody.stage import Stage

pytestmark = pytest.mark.anyio


async def records_at(destination: Destination) -> dict[str, bytes]:
    """What is there of records."""
    return {
        name: document.content
        for name, document in (await destination.everything()).items()
        if name.startswith(RECORDS)
    }


async def records_of(stage: Stage) -> dict[str, bytes]:
    """What should be there."""
    return {name_of(each.id): document_of(each) for each in await stage.store.list(limit=10_000)}


async def contents(destination: Destination) -> dict[str, bytes]:
    return {name: document.content for name, document in (await destination.everything()).items()}


async def test_c4_what_changes_here_is_changed_there(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents(), batch=3)
    await stage.add(1, 2, 3, 4, 5, 6, 7)
    told: list[tuple[int, int]] = []
    assert await mirror.sync(lambda done, total: told.append((done, total))) == Synced(7, 0)
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert await records_at(destination) == await records_of(stage)
    await stage.change(2, 5)
    await stage.delete(7)
    assert await stage.pending(mirror) == (2, 1)
    assert await mirror.sync() == Synced(2, 1)
    assert await stage.pending(mirror) == (0, 0)
    assert await records_at(destination) == await records_of(stage)
    assert await mirror.sync() == Synced(0, 0)
    # A process that starts now goes on from there.
    await stage.change(1)
    assert await stage.mirror(destination.documents()).sync() == Synced(1, 0)
    assert await records_at(destination) == await records_of(stage)


async def test_c4_what_was_made_and_deleted_in_between_never_leaves(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2)
    await stage.delete(1)
    assert await mirror.sync() == Synced(1, 0)
    assert list(await records_at(destination)) == [name_of("ptk_0002")]


async def test_c4_a_sync_that_would_delete_over_a_fifth_stops_and_asks(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(*range(10))
    await mirror.sync()
    await stage.delete(0, 1)
    assert await mirror.sync() == Synced(0, 2)  # a fifth, and no more
    await stage.delete(2, 3)
    await stage.change(9)
    before = await records_at(destination)
    for _ in range(2):
        with pytest.raises(DeletionHeldError, match=r"2 of the 8 records .* would be deleted"):
            await mirror.sync()
    assert await records_at(destination) == before
    assert await mirror.allow_deletions() == 2
    await stage.delete(4)  # one more than was allowed
    with pytest.raises(DeletionHeldError, match="3 of the 8"):
        await mirror.sync()
    assert await mirror.allow_deletions() == 3
    assert await mirror.sync() == Synced(1, 3)
    await stage.delete(5, 6)  # what was allowed was allowed once
    with pytest.raises(DeletionHeldError):
        await mirror.sync()


async def test_c4_one_record_may_always_go(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1)
    await mirror.sync()
    await stage.delete(1)
    assert await mirror.sync() == Synced(0, 1)
    assert await records_at(destination) == {}


async def test_loss_1_a_failed_pull_never_ends_in_an_empty_push(stage: Stage, destination: Destination) -> None:
    """An instance came up with an empty folder, because its pull had failed, and pushed that: all tokens were gone."""
    mirror = stage.mirror(destination.documents())
    await stage.add(*range(10))
    await mirror.sync()
    before = await contents(destination)
    await stage.lose_everything()
    again = stage.mirror(destination.documents("a-new-machine"))
    for _ in range(2):
        with pytest.raises(DestinationAheadError, match="holds 10 records that this database has not"):
            await again.sync()
    assert await contents(destination) == before


async def test_loss_2_an_upgrade_never_pushes_the_example_over_the_data(
    stage: Stage, destination: Destination, tmp_path: Path
) -> None:
    """A new version came up with the example's records in place of one's own, and pushed those over them."""
    await stage.add(*range(10))
    await stage.mirror(destination.documents()).sync()
    before = await contents(destination)
    async with Stage(tmp_path / "upgraded") as example:  # with a keyring of its own, too
        await example.add(1, 2)
        with pytest.raises(DestinationUnprovenError, match="neither empty nor marked by this installation"):
            await example.mirror(destination.documents("upgraded")).sync()
    assert await contents(destination) == before
    # With the right keyring, and the example in the database.
    await stage.lose_everything()
    await stage.add(1, 2)
    with pytest.raises(DestinationAheadError, match="10 records"):
        await stage.mirror(destination.documents("upgraded")).sync()
    assert await contents(destination) == before


async def test_c4_a_database_that_is_older_than_the_destination_overwrites_nothing(
    stage: Stage, destination: Destination
) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2)
    await mirror.sync()
    backup = (stage.folder / "homeport.db").read_bytes()
    await stage.change(1)
    await mirror.sync()
    before = await contents(destination)
    await stage.database.close()
    for leftover in stage.folder.glob("homeport.db*"):
        leftover.unlink()
    (stage.folder / "homeport.db").write_bytes(backup)
    async with Stage(stage.folder) as restored:
        if await restored.store.list(limit=1):
            await restored.change(2)
        with pytest.raises(DestinationAheadError):
            await restored.mirror(destination.documents()).sync()
    assert await contents(destination) == before


async def test_c5_a_destination_is_pinned(stage: Stage, destination: Destination) -> None:
    documents = destination.documents()
    await stage.add(1)
    await stage.mirror(documents).sync()
    elsewhere = destination.documents("elsewhere")
    elsewhere.destination += "-of-somebody-else"  # type: ignore[misc]
    before = await contents(destination)
    await stage.change(1)
    with pytest.raises(DestinationChangedError, match="homeport custody adopt"):
        await stage.mirror(elsewhere).sync()
    assert await contents(destination) == before
    assert await stage.mirror(destination.documents()).sync() == Synced(1, 0)


@pytest.mark.parametrize("what", ["gone", "garbage", "of another installation", "for another place"])
async def test_c5_a_destination_without_our_marker_gets_nothing(
    stage: Stage, destination: Destination, tmp_path: Path, what: str
) -> None:
    await stage.add(1)
    await stage.mirror(destination.documents()).sync()
    before = await contents(destination)
    marker = json.loads(before[MARKER])
    async with Stage(tmp_path / "other") as other:
        forged = {
            "gone": None,
            "garbage": b"{}",
            "of another installation": other_marker(other, marker["destination"]),
            "for another place": other_marker(stage, marker["destination"] + "/x"),
        }[what]
    await destination.become({**without(before, MARKER), **({} if forged is None else {MARKER: forged})})
    await stage.change(1)
    with pytest.raises(DestinationUnprovenError, match="does not show the marker"):
        await stage.mirror(destination.documents()).sync()
    assert (await records_at(destination)) == {name: before[name] for name in before if name.startswith(RECORDS)}


def other_marker(stage: Stage, destination: str) -> bytes:
    signer = Signer(stage.envelope.keyring)
    return signer.sign(Marker(installation=signer.installation, destination=destination, made_at=1.0))


def without(documents: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {each: content for each, content in documents.items() if each != name}


async def test_c5_a_place_that_holds_something_else_is_not_taken(stage: Stage, destination: Destination) -> None:
    await destination.become({"auths/somebody-elses.json": b"{}" * 20})
    await stage.add(1)
    with pytest.raises(DestinationUnprovenError, match="neither empty nor marked"):
        await stage.mirror(destination.documents()).sync()
    assert list(await contents(destination)) == ["auths/somebody-elses.json"]


async def test_c7_an_older_state_that_was_put_back_is_noticed(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2)
    await mirror.sync()
    old = await contents(destination)
    await stage.change(1)
    await mirror.sync()
    await destination.become(old)
    await stage.change(2)
    with pytest.raises(DestinationAlteredError, match="has number 1, where number 2 was left"):
        await stage.mirror(destination.documents()).sync()
    assert await contents(destination) == old


@pytest.mark.parametrize("what", ["gone", "garbage", "a record less", "another number"])
async def test_c7_a_manifest_that_was_altered_is_noticed(stage: Stage, destination: Destination, what: str) -> None:
    await stage.add(1, 2)
    await stage.mirror(destination.documents()).sync()
    before = await contents(destination)
    manifest = json.loads(before[MANIFEST])
    altered: dict[str, bytes] = {
        "garbage": b"x" * 100,
        "a record less": json.dumps({**manifest, "records": {}}).encode(),
        "another number": json.dumps({**manifest, "number": 2}).encode(),
    }
    forged = {**without(before, MANIFEST), **({MANIFEST: altered[what]} if what in altered else {})}
    await destination.become(forged)
    await stage.change(1)
    with pytest.raises(DestinationAlteredError):
        await stage.mirror(destination.documents()).sync()
    assert await contents(destination) == forged


async def test_c1_nothing_that_an_attacker_swaps_or_puts_back_there_opens_here(
    stage: Stage, destination: Destination
) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2)
    await mirror.sync()
    first = record_in((await contents(destination))[name_of("ptk_0001")])
    second = record_in((await contents(destination))[name_of("ptk_0002")])
    assert first is not None
    assert second is not None
    assert opened(first, stage.envelope) == f"{CANARY}-0001-1"
    swapped = type(first)(
        **{name: getattr(first, name) for name in first.__struct_fields__} | {"sealed": second.sealed}
    )
    with pytest.raises(Exception, match="altered, or belongs to another"):
        opened(swapped, stage.envelope)


async def test_c7_a_document_that_somebody_else_has_put_in_the_place_of_ours_is_not_overwritten_unseen(
    stage: Stage, destination: Destination
) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1)
    await mirror.sync()
    before = await contents(destination)
    await destination.become({**before, name_of("ptk_0001"): b"{}" * 50})
    await stage.change(1)
    with pytest.raises(DestinationAlteredError, match="is not what was left there"):
        await stage.mirror(destination.documents()).sync()
    assert (await contents(destination))[name_of("ptk_0001")] == b"{}" * 50


async def test_adopting_sends_everything_anew(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents(), batch=2)
    await stage.add(1, 2, 3)
    await mirror.sync()
    await destination.become({**await contents(destination), name_of("ptk_0001"): b"{}" * 50})
    await stage.change(1)
    with pytest.raises(DestinationError):
        await mirror.sync()
    await stage.delete(3)
    await mirror.adopt()
    assert await stage.pending(mirror) == (2, 1)
    assert await mirror.sync() == Synced(2, 1)
    assert await records_at(destination) == await records_of(stage)


async def test_adopting_does_not_lose_what_is_only_there(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2)
    await mirror.sync()
    await stage.lose_everything()
    await stage.add(1)
    before = await contents(destination)
    with pytest.raises(DestinationAheadError, match="holds 1 records that this database has not"):
        await mirror.adopt()
    assert await contents(destination) == before
    await mirror.adopt(discard=True)
    await mirror.sync()
    after = await contents(destination)
    assert after[name_of("ptk_0002")] == before[name_of("ptk_0002")]
    assert list(json.loads(after[MANIFEST])["records"]) == ["ptk_0001"]


async def test_one_process_at_a_time(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1)
    async with stage.leases.hold(f"custody:{mirror.name}", 60):
        with pytest.raises(StoreBusyError):
            await mirror.sync()
    assert await mirror.sync() == Synced(1, 0)


async def test_c8_what_is_at_the_destination_and_in_the_log_holds_no_canary(
    stage: Stage, destination: Destination, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2, 3)
    await mirror.sync()
    await stage.change(1)
    await mirror.sync()
    texts = [document.decode() for document in (await contents(destination)).values()]
    assert len(texts) == 5
    texts += [file.read_bytes().decode("latin-1") for file in stage.folder.rglob("*") if file.is_file()]
    for text in [*texts, caplog.text]:
        for canary in (CANARY, "secret-of-s3", "token-of-git"):
            assert canary not in text
