"""The encoding of what is hashed and signed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api_server.audit.chain import FIRST, Checkpoint, Row, checkpoint_bytes, hash_of, row_bytes

ROW = Row(
    seq=1,
    id="aud_1",
    time=1_700_000_000_123_456,
    actor_kind="user",
    actor_id="usr_1",
    actor_name="Ada \u00e9",
    team_id=None,
    action="team.created",
    target_kind="team",
    target_id="home",
    before=None,
    after='{"name":"Home"}',
    request_id="req_1",
    address="192.0.2.1",
    outcome="done",
    prev_hash=FIRST,
)

texts = st.text(max_size=8)
values = {
    "seq": st.integers(1, 10**12),
    "time": st.integers(0, 10**17),
    "team_id": st.none() | texts,
    "before": st.none() | texts,
    "after": st.none() | texts,
}
rows = st.builds(
    Row,
    **{field.name: values.get(field.name, texts) for field in dataclasses.fields(Row)},  # type: ignore[arg-type]
)


def test_a_row_is_encoded_as_documented() -> None:
    assert (
        row_bytes(ROW)
        == (
            "16:homeport-audit-1,1:1,5:aud_1,16:1700000000123456,4:user,5:usr_1,6:Ada \u00e9,"
            '-,12:team.created,4:team,4:home,-,15:{"name":"Home"},5:req_1,9:192.0.2.1,4:done,'
            "64:0000000000000000000000000000000000000000000000000000000000000000,"
        ).encode()
    )


def test_its_hash_is_sha_256_of_that() -> None:
    assert hash_of(ROW) == hashlib.sha256(row_bytes(ROW)).hexdigest()


def test_a_checkpoint_is_encoded_as_documented() -> None:
    checkpoint = Checkpoint(seq=100, hash="ab", time=5, key_id="key")
    assert checkpoint_bytes(checkpoint) == b"27:homeport-audit-checkpoint-1,3:100,2:ab,1:5,3:key,"


def test_the_verifier_on_the_page_of_the_reference_is_right() -> None:
    """It is what others are told to write."""
    page = (Path(__file__).parents[3] / "docs" / "reference" / "audit.md").read_text()
    (_, code) = page.split("```python\n")
    names: dict[str, Any] = {"hashlib": hashlib, "COLUMNS": [field.name for field in dataclasses.fields(Row)]}
    exec(code.split("```")[0], names)
    assert names["hash_of"](dataclasses.asdict(ROW)) == hash_of(ROW)


@given(rows, rows)
def test_two_rows_that_differ_are_encoded_differently(one: Row, other: Row) -> None:
    assert (row_bytes(one) == row_bytes(other)) == (one == other)


@given(rows, st.data())
def test_what_moves_from_one_value_to_the_next_is_seen(row: Row, data: st.DataObject) -> None:
    """`ab`, `c` is not `a`, `bc`; nothing is not an empty text."""
    names = [field.name for field in dataclasses.fields(Row) if isinstance(getattr(row, field.name), str)]
    first = data.draw(st.sampled_from(names[:-1]))
    second = names[names.index(first) + 1]
    together = getattr(row, first) + getattr(row, second)
    cut = data.draw(st.integers(0, len(together)))
    changes: dict[str, Any] = {first: together[:cut], second: together[cut:]}
    moved = dataclasses.replace(row, **changes)
    assert (row_bytes(moved) == row_bytes(row)) == (moved == row)
    assert row_bytes(dataclasses.replace(row, team_id="")) != row_bytes(dataclasses.replace(row, team_id=None))
