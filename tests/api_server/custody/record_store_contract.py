"""What holds for every record store; each back-end runs all of it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.custody.errors import InvalidRecordIdError, RecordConflictError, RecordNotFoundError
from api_server.custody.interfaces import RecordStore
from api_server.custody.records import Record, check_record_id
from common.ids import TeamId
from tests.api_server.custody.samples import changed, opened, record

__all__ = ["BAD_IDS", "RecordStoreContract"]

BAD_IDS = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "A",
    "-a",
    ".a",
    "_a",
    "a..b",
    "a.",
    "a.lock",
    "a b",
    "a\n",
    "a\x00",
    "a%2fb",
    "ä",
    "\uff41",
    "a:b",
    "~",
    "a" * 129,
]


async def _all(store: RecordStore, limit: int) -> list[Record]:
    found: list[Record] = []
    while page := await store.list(limit=limit, after=found[-1].id if found else None):
        assert len(page) <= limit
        found += page
    return found


class RecordStoreContract:
    """Derive from it, and give the fixture `store`: an empty one."""

    async def test_what_was_put_comes_back(self, store: RecordStore) -> None:
        one = record(1)
        await store.put(one, expected=0)
        assert await store.get(one.id) == one
        two = changed(one)
        await store.put(two, expected=1)
        assert await store.get(one.id) == two
        assert opened(await store.get(one.id)) == opened(two)

    async def test_what_is_not_there_is_not_found(self, store: RecordStore) -> None:
        with pytest.raises(RecordNotFoundError, match="ptk_0001"):
            await store.get("ptk_0001")
        with pytest.raises(RecordNotFoundError):
            await store.delete("ptk_0001", expected=1)
        with pytest.raises(RecordConflictError) as caught:
            await store.put(record(1, version=2), expected=1)
        assert caught.value.current == 0
        assert await store.list(limit=10) == []

    async def test_c3_a_change_of_another_version_is_a_conflict_that_says_which_one_is_there(
        self, store: RecordStore
    ) -> None:
        await store.put(record(1), expected=0)
        await store.put(record(1, version=5), expected=1)
        for attempt in (
            store.put(record(1, version=2), expected=1),
            store.put(record(1, version=9), expected=0),
            store.put(record(1, version=9), expected=8),
            store.delete("ptk_0001", expected=1),
        ):
            with pytest.raises(RecordConflictError) as caught:
                await attempt
            assert caught.value.current == 5
        assert (await store.get("ptk_0001")).version == 5

    async def test_c3_of_changes_at_once_exactly_one_holds(self, store: RecordStore) -> None:
        await store.put(record(1), expected=0)
        rivals = [record(1, version=2, secret=f"rival {number}") for number in range(6)]
        outcomes = await asyncio.gather(*(store.put(each, expected=1) for each in rivals), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [RecordConflictError] * 5
        assert await store.get("ptk_0001") == rivals[outcomes.index(None)]

    async def test_c3_of_two_that_make_the_same_record_one_holds(self, store: RecordStore) -> None:
        rivals = [record(1, secret=f"rival {number}") for number in range(4)]
        outcomes = await asyncio.gather(*(store.put(each, expected=0) for each in rivals), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [RecordConflictError] * 3
        assert await store.get("ptk_0001") == rivals[outcomes.index(None)]

    async def test_a_version_must_grow(self, store: RecordStore) -> None:
        await store.put(record(1, version=3), expected=0)
        for version, expected in ((3, 3), (2, 3), (0, 0), (-1, 0)):
            with pytest.raises(ValueError, match="higher"):
                await store.put(record(1, version=version), expected=expected)

    async def test_what_was_deleted_is_gone_and_can_be_made_anew(self, store: RecordStore) -> None:
        await store.put(record(1), expected=0)
        await store.put(record(2), expected=0)
        await store.delete("ptk_0001", expected=1)
        with pytest.raises(RecordNotFoundError):
            await store.get("ptk_0001")
        with pytest.raises(RecordNotFoundError):
            await store.delete("ptk_0001", expected=1)
        assert [each.id for each in await store.list(limit=10)] == ["ptk_0002"]
        await store.put(record(1, version=7), expected=0)
        assert (await store.get("ptk_0001")).version == 7

    async def test_records_are_listed_in_pages_in_the_order_of_their_ids(self, store: RecordStore) -> None:
        for number in (5, 3, 1, 4, 2):
            await store.put(record(number, team="away" if number % 2 else "home", user=f"usr_{number}"), expected=0)
        for limit in (1, 2, 5, 100):
            assert [each.id for each in await _all(store, limit)] == [f"ptk_000{number}" for number in range(1, 6)]
        home = await store.list(limit=10, team=TeamId("home"))
        assert [each.id for each in home] == ["ptk_0002", "ptk_0004"]
        assert [each.id for each in await store.list(limit=10, team=TeamId("away"), user="usr_3")] == ["ptk_0003"]
        assert await store.list(limit=10, team=TeamId("home"), user="usr_3") == []
        assert [each.id for each in await store.list(limit=1, after="ptk_0001", team=TeamId("away"))] == ["ptk_0003"]

    async def test_any_text_in_the_fields_in_clear_is_kept(self, store: RecordStore) -> None:
        one = record("a.b-c_d", user='usr "ä" \N{SNOWMAN}')
        await store.put(one, expected=0)
        assert await store.get(one.id) == one

    async def test_c6_an_id_that_is_none_is_refused(self, store: RecordStore) -> None:
        for bad in BAD_IDS:
            forged = msgspec.structs.replace(record(1), id=bad)
            for attempt in (store.get(bad), store.put(forged, expected=0), store.delete(bad, expected=1)):
                with pytest.raises(InvalidRecordIdError) as caught:
                    await attempt
                assert len(bad) < 3 or bad not in caught.value.detail
        assert await store.list(limit=1) == []

    async def test_it_is_well(self, store: RecordStore) -> None:
        health = await store.health()
        assert health.ok, health
        assert health.store == store.name


@given(text=st.text())
def test_c6_fuzzed_every_id_that_passes_is_a_plain_name(text: str) -> None:
    try:
        check_record_id(text)
    except InvalidRecordIdError:
        return
    assert 0 < len(text) <= 128
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert text[0].isalnum()
    assert ".." not in text
