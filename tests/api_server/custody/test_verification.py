"""What is kept is as it was left, or it is told what is not: C7, on each kind of destination."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.documents.interfaces import name_of
from api_server.custody.errors import StoreBusyError
from api_server.custody.mirror.statements import MANIFEST, MARKER
from api_server.custody.mirror.verification import Problem, Report, verify_database, verify_mirror
from api_server.custody.tables import custody_records
from common.crypto.envelope import Envelope
from common.crypto.keyring import Keyring, new_wrapping_key
from tests.api_server.custody.destinations import Destination
from tests.api_server.custody.samples import record
from tests.api_server.custody.stage import Stage

pytestmark = pytest.mark.anyio


def silent(_done: int, _total: int) -> None:
    """Nothing."""


async def verify(stage: Stage, destination: Destination) -> list[tuple[Problem, str | None]]:
    report = await verify_mirror(
        destination.documents("verifier"), stage.database, stage.envelope, stage.leases, silent
    )
    return _found(report)


def _found(report: Report) -> list[tuple[Problem, str | None]]:
    return [(finding.problem, finding.record) for finding in report.findings]


async def contents(destination: Destination) -> dict[str, bytes]:
    return {name: document.content for name, document in (await destination.everything()).items()}


async def test_c7_everything_that_was_done_at_the_destination_is_found(stage: Stage, destination: Destination) -> None:
    mirror = stage.mirror(destination.documents())
    await stage.add(1, 2, 3, 4, 5)
    await mirror.sync()
    old = await contents(destination)
    await stage.change(4)
    await mirror.sync()
    good = await contents(destination)
    assert await verify(stage, destination) == []
    # What the mirror was not told of yet is no finding.
    await stage.change(5)
    assert await verify(stage, destination) == []

    one, two, four = (name_of(f"ptk_000{number}") for number in (1, 2, 4))
    await destination.become(
        {
            **{name: content for name, content in good.items() if name != name_of("ptk_0003")},
            one: good[two],  # swapped
            two: good[two].replace(b"sample", b"simple"),  # altered
            four: old[four],  # rolled back
            name_of("planted"): good[one],
        }
    )
    assert sorted(await verify(stage, destination), key=repr) == sorted(
        [
            (Problem.MISSING, "ptk_0003"),
            (Problem.UNEXPECTED, None),
            (Problem.ALTERED, "ptk_0001"),
            (Problem.ALTERED, "ptk_0002"),
            (Problem.ALTERED, "ptk_0004"),
        ],
        key=repr,
    )
    await destination.become(old)
    assert (Problem.ROLLED_BACK, None) in await verify(stage, destination)
    await destination.become({name: content for name, content in good.items() if name not in (MARKER, MANIFEST)})
    found = await verify(stage, destination)
    assert found[:2] == [(Problem.UNPROVEN, None), (Problem.MANIFEST_ALTERED, None)]


async def test_c7_records_of_the_database_are_opened_each(stage: Stage) -> None:
    await stage.add(1, 2, 3)

    async def report(envelope: Envelope = stage.envelope) -> Report:
        return await verify_database(stage.database, envelope, stage.clock, silent)

    assert (await report()).intact
    forged = record(9, envelope=stage.envelope).sealed
    there = custody_records.c.id == "ptk_0002"

    async def forge(tx: AsyncConnection) -> None:
        await tx.execute(update(custody_records).where(there).values(sealed=forged))

    await stage.database.write(forge)
    assert _found(await report()) == [(Problem.DOES_NOT_OPEN, "ptk_0002")]
    without = await report(Envelope(Keyring([new_wrapping_key()])))
    assert _found(without) == [(Problem.KEY_MISSING, f"ptk_000{number}") for number in (1, 2, 3)]


async def test_it_does_not_run_into_a_sync(stage: Stage, destination: Destination) -> None:
    documents = destination.documents()
    async with stage.leases.hold(f"custody:{documents.name}", 60):
        with pytest.raises(StoreBusyError, match="another process is at"):
            await verify_mirror(documents, stage.database, stage.envelope, stage.leases, silent)
