"""Writing to the log, on each kind of database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.checkpoints import CheckpointTask
from api_server.audit.errors import AuditLogBrokenError
from api_server.audit.records import Actor
from api_server.audit.tables import audit_checkpoints, audit_head, audit_log
from api_server.auth.signin.tables import once
from api_server.db.database import Database
from tests.api_server.audit.stage import Stage, entry

pytestmark = pytest.mark.anyio


async def _act(tx: AsyncConnection, key: str) -> None:
    await tx.execute(insert(once).values(kind="test", key=key, expires_at=0.0))


async def _count(database: Database, table: object) -> int:
    return await database.read(lambda tx: tx.scalar(select(func.count()).select_from(table)))  # type: ignore[arg-type, return-value]


async def test_an_entry_is_kept_as_it_was_given(stage: Stage) -> None:
    await stage.write()
    row = (await stage.database.read(lambda tx: tx.execute(select(audit_log)))).one()
    assert row._asdict() == {
        "seq": 1,
        "id": row.id,
        "time": pytest.approx(stage.clock.wall(), abs=1e-6),
        "actor_kind": "user",
        "actor_id": "usr_0",
        "actor_name": "Ada",
        "team_id": "home",
        "action": "device.renamed",
        "target_kind": "device",
        "target_id": "dev-0",
        "before": {"name": "one"},
        "after": {"name": "number-0"},
        "request_id": "req_0",
        "address": "192.0.2.1",
        "outcome": "done",
        "prev_hash": "0" * 64,
        "hash": row.hash,
    }
    assert row.id.startswith("aud_")
    assert len(row.hash) == 64


async def test_the_action_is_undone_when_its_entry_cannot_be_written(stage: Stage) -> None:
    await stage.database.write(lambda tx: tx.execute(delete(audit_head)))

    async def work(tx: AsyncConnection) -> None:
        await _act(tx, "a")
        await stage.log.record(tx, entry())

    with pytest.raises(AuditLogBrokenError):
        await stage.database.write(work)
    assert await _count(stage.database, once) == 0


async def test_an_entry_goes_with_its_action(stage: Stage) -> None:
    await stage.write()

    async def work(tx: AsyncConnection) -> None:
        await stage.log.record(tx, entry())
        raise LookupError

    with pytest.raises(LookupError):
        await stage.database.write(work)
    await stage.write(first=1)
    report = await stage.verify()
    assert report.intact
    assert report.rows == 2


async def test_writers_of_two_processes_make_one_chain(stage: Stage, database_url: str, tmp_path: Path) -> None:
    async with Database.connect(database_url) as other:
        stages = [stage, Stage(other, tmp_path)]

        async def act(number: int) -> None:
            async def work(tx: AsyncConnection) -> None:
                await _act(tx, str(number))
                await stages[number % 2].log.record(tx, entry(number))

            await stages[number % 2].database.write(work)

        await asyncio.gather(*(act(number) for number in range(100)))
    report = await stage.verify()
    assert report.findings == []
    assert (report.rows, report.checkpoints, report.checkpoint) == (100, 1, 100)
    assert await _count(stage.database, once) == 100


@pytest.mark.parametrize(
    "text",
    ["", "\0", "\ud800", "\N{PILE OF POO}" * 100, "x" * 5000, "'; DROP TABLE audit_log; --", "a\r\nb", "5:x,-,"],
    ids=["empty", "nul", "surrogate", "emoji", "long", "sql", "lines", "netstring"],
)
async def test_any_text_can_be_written(stage: Stage, text: str) -> None:
    await stage.database.write(
        lambda tx: stage.log.record(
            tx,
            entry(
                actor=Actor("user", text, text),
                target_id=text,
                request_id=text,
                address=text,
                before={"text": text.encode("utf-8", "replace").decode()},
            ),
        )
    )
    report = await stage.verify()
    assert report.intact
    row = (await stage.database.read(lambda tx: tx.execute(select(audit_log)))).one()
    if len(text) == 5000:
        assert row.address == "x" * 63 + "\N{HORIZONTAL ELLIPSIS}"
    if text.startswith("'"):
        assert row.target_id == text


async def test_too_much_is_kept_as_its_size(stage: Stage) -> None:
    await stage.database.write(lambda tx: stage.log.record(tx, entry(before={"x": "y" * 70_000}, after=None)))
    row = (await stage.database.read(lambda tx: tx.execute(select(audit_log)))).one()
    assert row.before == {"left_out_bytes": 70_008}
    assert row.after is None
    assert (await stage.verify()).intact


async def test_each_hundredth_row_has_a_checkpoint(stage: Stage) -> None:
    await stage.fill(205)
    seqs = (await stage.database.read(lambda tx: tx.execute(select(audit_checkpoints.c.seq)))).scalars().all()
    assert sorted(seqs) == [100, 200]
    assert (await stage.verify()).checkpoint == 200


async def test_no_row_is_older_than_an_hour_without_one(stage: Stage) -> None:
    assert not await stage.task.sign(older_than=3600)
    await stage.write(2)
    assert not await stage.task.sign(older_than=3600)
    stage.clock.advance(3600)
    assert await stage.task.sign(older_than=3600)
    assert (await stage.verify()).checkpoint == 2
    assert not await stage.task.sign(older_than=3600)
    await stage.write()
    assert not await stage.task.sign(older_than=3600)
    assert await stage.task.sign()
    assert (await stage.verify()).checkpoint == 3


async def test_of_two_processes_one_signs(stage: Stage, database_url: str, tmp_path: Path) -> None:
    await stage.write(3)
    async with Database.connect(database_url) as other:
        signed = await asyncio.gather(stage.task.sign(), Stage(other, tmp_path).task.sign())
    assert sorted(signed) == [False, True]
    assert (await stage.verify()).checkpoints == 1


async def test_the_task_looks_again_and_again(stage: Stage) -> None:
    await stage.write()
    looks = 0

    async def sleep(_: float) -> None:
        nonlocal looks
        looks += 1
        stage.clock.advance(1800)
        if looks == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await CheckpointTask(stage.database, stage.checkpoints, stage.clock, sleep=sleep).run()
    assert (await stage.verify()).checkpoint == 1


async def test_without_a_database_the_task_goes_on(stage: Stage) -> None:
    await stage.database.close()
    assert not await stage.task.sign()
