"""The numbers: counted in the database, and what a process knows of them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.generations import GenerationBook, GenerationStore
from api_server.db.database import Database

pytestmark = pytest.mark.anyio

STORE = GenerationStore()


async def test_each_change_gets_the_next_number_whoever_makes_it(database: Database) -> None:
    async def change(topic: str) -> int:
        return await database.write(lambda tx: STORE.bump(tx, topic))

    numbers = await asyncio.gather(*(change("tokens") for _ in range(10)), change("routes"))
    assert sorted(numbers[:10]) == list(range(1, 11))
    assert await database.read(STORE.read) == {"tokens": 10, "routes": 1}


async def test_what_is_rolled_back_was_no_change(database: Database) -> None:
    async def work(tx: AsyncConnection) -> None:
        await STORE.bump(tx, "tokens")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(work)
    assert await database.read(STORE.read) == {}


def polled(book: GenerationBook, **values: int) -> frozenset[str]:
    return book.polled(values, known_before=book.known())


def test_who_has_heard_of_each_number_has_missed_nothing() -> None:
    book = GenerationBook()
    assert polled(book) == frozenset()
    assert not book.heard("tokens", 1)
    assert not book.heard("tokens", 2)
    assert polled(book, tokens=2) == frozenset()


def test_what_came_before_the_first_look_is_not_known() -> None:
    book = GenerationBook()
    assert not book.heard("tokens", 7)
    assert polled(book, tokens=7) == {"tokens"}
    assert polled(book, tokens=7) == frozenset()


def test_a_gap_is_seen_and_closes_when_the_one_between_comes_late() -> None:
    book = GenerationBook()
    polled(book, tokens=1)
    assert book.heard("tokens", 3)
    assert not book.new("tokens", 3)
    assert book.new("tokens", 2)
    assert not book.heard("tokens", 2)
    assert polled(book, tokens=3) == frozenset()


def test_a_gap_that_does_not_close_is_something_missed() -> None:
    book = GenerationBook()
    polled(book, tokens=1, routes=5)
    assert book.heard("tokens", 3)
    assert polled(book, tokens=3, routes=5) == {"tokens"}
    assert not book.heard("tokens", 4)


def test_a_change_without_a_number_is_missed_on_purpose() -> None:
    book = GenerationBook()
    polled(book, tokens=1)
    assert book.new("tokens", None)
    assert not book.heard("tokens", None)
    assert polled(book, tokens=2) == {"tokens"}


def test_what_is_heard_while_the_database_is_asked_is_not_taken_back() -> None:
    book = GenerationBook()
    polled(book, tokens=1)
    before = book.known()
    book.heard("tokens", 2)
    assert book.polled({"tokens": 1}, known_before=before) == frozenset()
    assert polled(book, tokens=2) == frozenset()


def test_a_database_from_a_backup_is_another_truth() -> None:
    book = GenerationBook()
    polled(book, tokens=9)
    assert polled(book, tokens=3) == {"tokens"}
    assert polled(book, tokens=4) == {"tokens"}


def test_numbers_from_far_ahead_are_bounded() -> None:
    book = GenerationBook()
    polled(book, tokens=1)
    for number in range(3, 5000):
        assert book.heard("tokens", number)
    assert polled(book, tokens=4999) == {"tokens"}


@given(heard=st.lists(st.integers(1, 12), max_size=30), value=st.integers(1, 12))
def test_a_poll_finds_something_missed_exactly_if_a_number_was_not_heard(heard: list[int], value: int) -> None:
    book = GenerationBook()
    polled(book)
    for number in heard:
        book.heard("tokens", number)
    missed = bool(set(range(1, value + 1)) - set(heard))
    before = book.known()
    if value >= before.get("tokens", 0):
        assert (book.polled({"tokens": value}, known_before=before) == {"tokens"}) is missed
