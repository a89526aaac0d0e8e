"""What was done to the log behind its back is found, on each kind of database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, Text, delete, insert, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.chain import Row, hash_of
from api_server.audit.keys import CheckpointSigner, CheckpointVerifier
from api_server.audit.tables import audit_checkpoints, audit_head, audit_log
from api_server.audit.verification import Head, verify
from api_server.db.engine import Kind
from api_server.db.types import Json, Time
from common.crypto.key_sets import generate_key_pair
from tests.api_server.audit.stage import Stage, entry

pytestmark = pytest.mark.anyio

_OTHER: dict[str, Any] = {
    "time": type_coerce(1, BigInteger()),
    "team_id": None,
    "before": type_coerce('{"name": "one"}', Text()),
    "after": None,
}
"""What a column is changed to; text by default. JSON that means the same is another text."""


async def _do(stage: Stage, *statements: Any) -> None:
    async def work(tx: AsyncConnection) -> None:
        for statement in statements:
            await tx.execute(statement)

    await stage.database.write(work)


async def _rows(stage: Stage) -> list[dict[str, Any]]:
    columns = [
        type_coerce(column, Text() if isinstance(column.type, Json) else BigInteger()).label(column.name)
        if isinstance(column.type, Json | Time)
        else column
        for column in audit_log.columns
    ]
    found = await stage.database.read(lambda tx: tx.execute(select(*columns).order_by(audit_log.c.seq)))
    return [row._asdict() for row in found]


def _insert(row: dict[str, Any]) -> Any:
    types = {"time": BigInteger(), "before": Text(), "after": Text()}
    return insert(audit_log).values(
        {name: type_coerce(value, types[name]) if name in types else value for name, value in row.items()}
    )


def _hash(row: dict[str, Any]) -> str:
    return hash_of(Row(**{name: value for name, value in row.items() if name != "hash"}))


async def test_an_empty_log_is_intact(stage: Stage) -> None:
    report = await stage.verify()
    assert report.intact
    assert (report.rows, report.head) == (0, None)


async def test_what_was_not_touched_is_intact(stage: Stage) -> None:
    await stage.fill(7)
    await stage.task.sign()
    await stage.write(first=7)
    report = await stage.verify()
    assert report.findings == []
    assert (report.intact, report.rows, report.checkpoints, report.checkpoint) == (True, 8, 1, 7)
    assert report.head == Head(seq=8, hash=(await _rows(stage))[-1]["hash"])
    assert (await stage.verify(report.head)).intact


@pytest.mark.parametrize("database_kind", [Kind.SQLITE], ids=["sqlite"])
async def test_a_log_of_several_batches_is_intact(stage: Stage) -> None:
    await stage.fill(1001)
    report = await stage.verify()
    assert report.findings == []
    assert (report.rows, report.checkpoints, report.checkpoint) == (1001, 10, 1000)


async def test_a_change_of_any_column_is_found(stage: Stage) -> None:
    await stage.fill(5)
    for column in audit_log.columns:
        name = column.name
        if name in ("seq", "hash", "prev_hash"):
            continue
        (original,) = [row for row in await _rows(stage) if row["seq"] == 3]
        await _do(stage, update(audit_log).where(audit_log.c.seq == 3).values({name: _OTHER.get(name, "other")}))
        assert await stage.problems() == [("changed", 3)], name
        await _do(stage, delete(audit_log).where(audit_log.c.seq == 3), _insert(original))
        assert await stage.problems() == [], name


async def test_a_change_of_the_hashes_is_found(stage: Stage) -> None:
    await stage.fill(5)
    await _do(stage, update(audit_log).where(audit_log.c.seq == 3).values(hash="f" * 64))
    assert await stage.problems() == [("changed", 3), ("not_linked", 4)]


async def test_a_change_with_its_hash_computed_anew_is_found(stage: Stage) -> None:
    await stage.fill(5)
    row = (await _rows(stage))[2] | {"actor_id": "somebody"}
    row["hash"] = _hash(row)
    await _do(stage, delete(audit_log).where(audit_log.c.seq == 3), _insert(row))
    assert await stage.problems() == [("not_linked", 4)]


async def _rewrite(stage: Stage, seq: int) -> None:
    """Change a row and compute every hash behind it anew, as somebody would who can write to the database."""
    rows = await _rows(stage)
    rows[seq - 1]["actor_id"] = "somebody"
    for number in range(seq - 1, len(rows)):
        if number:
            rows[number]["prev_hash"] = rows[number - 1]["hash"]
        rows[number]["hash"] = _hash(rows[number])
    await _do(stage, delete(audit_log), *map(_insert, rows), update(audit_head).values(hash=rows[-1]["hash"]))


async def test_a_rewritten_log_is_found_by_a_checkpoint(stage: Stage) -> None:
    await stage.fill(5)
    await stage.task.sign()
    await _rewrite(stage, 3)
    assert await stage.problems() == [("checkpoint_contradicted", 5)]


async def test_what_was_rewritten_behind_the_newest_checkpoint_is_found_by_a_noted_head(stage: Stage) -> None:
    await stage.fill(5)
    noted = (await stage.verify()).head
    assert noted is not None
    await _rewrite(stage, 3)
    assert (await stage.verify()).intact, "who can write to the database can do this; that is why heads are noted"
    assert await stage.problems(noted) == [("not_as_expected", 5)]


@pytest.mark.parametrize(("seq", "found"), [(1, [("missing", 1)]), (3, [("missing", 3)]), (5, [("wrong_end", 4)])])
async def test_a_removed_row_is_found(stage: Stage, seq: int, found: list[tuple[str, int]]) -> None:
    await stage.fill(5)
    await _do(stage, delete(audit_log).where(audit_log.c.seq == seq))
    assert await stage.problems() == found


async def test_an_inserted_row_is_found(stage: Stage) -> None:
    await stage.fill(5)
    row = (await _rows(stage))[4] | {"seq": 6, "id": "aud_inserted"}
    row["prev_hash"] = row["hash"]
    row["hash"] = _hash(row)
    await _do(stage, _insert(row))
    assert await stage.problems() == [("outside", 6)]
    await _do(stage, update(audit_log).where(audit_log.c.seq == 6).values(seq=0))
    assert await stage.problems() == [("outside", 0)]


async def test_a_row_inserted_in_between_is_found(stage: Stage) -> None:
    await stage.fill(5)
    rows = await _rows(stage)
    inserted = [*rows[:2], rows[1] | {"id": "aud_inserted"}, *rows[2:]]
    for number, row in enumerate(inserted, 1):
        row["seq"] = number
    await _do(stage, delete(audit_log), *map(_insert, inserted), update(audit_head).values(seq=6))
    altered = [("not_linked", 3), ("changed", 3), ("changed", 4), ("changed", 5), ("changed", 6)]
    assert await stage.problems() == altered


async def test_rows_that_changed_places_are_found(stage: Stage) -> None:
    await stage.fill(5)
    rows = await _rows(stage)
    rows[1]["seq"], rows[2]["seq"] = 3, 2
    await _do(stage, delete(audit_log), *map(_insert, rows))
    assert await stage.problems() == [
        ("not_linked", 2),
        ("changed", 2),
        ("not_linked", 3),
        ("changed", 3),
        ("not_linked", 4),
    ]


async def test_a_cut_tail_is_found(stage: Stage) -> None:
    await stage.fill(5)
    await _do(stage, delete(audit_log).where(audit_log.c.seq > 3))
    assert await stage.problems() == [("wrong_end", 3)]


async def test_a_tail_cut_with_the_end_of_the_chain_is_found_down_to_the_last_checkpoint(stage: Stage) -> None:
    await stage.fill(5)
    await stage.task.sign()
    await stage.fill(3)
    rows = await _rows(stage)
    for left, found in ((6, []), (5, []), (4, [("checkpoint_contradicted", 5)])):
        cut = delete(audit_log).where(audit_log.c.seq > left)
        await _do(stage, cut, update(audit_head).values(seq=left, hash=rows[left - 1]["hash"]))
        assert await stage.problems() == found, left


async def test_an_end_that_was_changed_or_removed_is_found(stage: Stage) -> None:
    await stage.fill(5)
    await _do(stage, update(audit_head).values(hash="f" * 64))
    assert await stage.problems() == [("wrong_end", 5)]
    await _do(stage, delete(audit_head))
    assert ("wrong_end", 0) in await stage.problems()


async def test_a_replaced_signature_is_found(stage: Stage, tmp_path: Path) -> None:
    await stage.fill(5)
    await stage.task.sign()
    genuine = await stage.database.read(lambda tx: tx.scalar(select(audit_checkpoints.c.signature)))
    generate_key_pair(tmp_path / "other-private.json", tmp_path / "other-public.json")
    forger = Stage(stage.database, stage.folder, "other-private.json")
    for signature in ("", "AAAA", "!", genuine[:-4] + "AAAA", "A" * 86, genuine[::-1]):
        await _do(stage, update(audit_checkpoints).values(signature=signature))
        assert await stage.problems() == [("checkpoint_forged", 5)], signature
    await _do(stage, delete(audit_checkpoints))
    await forger.task.sign()
    assert await stage.problems() == [("checkpoint_key_unknown", 5)]
    await _do(stage, update(audit_checkpoints).values(key_id=CheckpointSigner(tmp_path / "private.json").key_id))
    assert await stage.problems() == [("checkpoint_forged", 5)]


@pytest.mark.parametrize("change", [{"hash": "f" * 64}, {"time": 5.0}, {"seq": 4}])
async def test_a_changed_checkpoint_is_found(stage: Stage, change: dict[str, Any]) -> None:
    await stage.fill(5)
    await stage.task.sign()
    await _do(stage, update(audit_checkpoints).values(change))
    assert await stage.problems() == [("checkpoint_forged", change.get("seq", 5))]


async def test_a_removed_checkpoint_is_found_where_there_must_be_one(stage: Stage) -> None:
    await stage.fill(101)
    await _do(stage, delete(audit_checkpoints))
    assert await stage.problems() == [("checkpoint_missing", 100)]


async def test_an_empty_log_in_place_of_one_that_was_noted_is_found(stage: Stage) -> None:
    await stage.fill(3)
    noted = (await stage.verify()).head
    assert noted is not None
    await _do(stage, delete(audit_log), update(audit_head).values(seq=0, hash="0" * 64))
    assert await stage.problems() == []
    assert await stage.problems(noted) == [("not_as_expected", 3)]


async def test_it_can_be_verified_while_others_write(stage: Stage) -> None:
    await stage.fill(5)

    class Busy:
        """A database to which something is written before each of the first reads."""

        left = 5

        async def read(self, work: Any) -> Any:
            if self.left:
                self.left -= 1
                await stage.database.write(lambda tx: stage.log.record(tx, entry()))
            return await stage.database.read(work)

    busy: Any = Busy()
    report = await verify(busy, CheckpointVerifier(stage.folder / "public.json"))
    assert report.findings == []
    assert report.rows == 10


async def test_a_retired_key_is_still_believed(stage: Stage) -> None:
    await stage.fill(3)
    await stage.task.sign()
    old = (stage.folder / "public.json").read_text()
    (stage.folder / "private.json").unlink()
    (stage.folder / "public.json").unlink()
    renewed = Stage(stage.database, stage.folder)
    await renewed.fill(3)
    await renewed.task.sign()
    assert await renewed.problems() == [("checkpoint_key_unknown", 3)]
    new = (stage.folder / "public.json").read_text()
    (stage.folder / "public.json").write_text(new.rstrip().removesuffix("]\n}").rstrip() + "," + old.split("[", 1)[1])
    assert (await renewed.verify()).intact


async def test_a_private_key_verifies_too(stage: Stage) -> None:
    await stage.fill(3)
    await stage.task.sign()
    assert (await verify(stage.database, CheckpointVerifier(stage.folder / "private.json"))).intact
