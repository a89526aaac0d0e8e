"""What is remembered of tokens, and for how long."""

from __future__ import annotations

import pytest

from api_server.auth.interfaces import Identity
from api_server.changes.interfaces import Change, Topic
from api_server.tokens.cache import Verified, VerifiedTokens
from api_server.tokens.records import Issuer, LiveToken
from tests.api_server.fakes import HOME


def verified(token: str = "tok_1", *, issuer: str = "usr_1", addresses: tuple[str, ...] = ()) -> Verified:
    live = LiveToken(
        id=token,
        team=HOME,
        name="ci",
        scopes=(),
        addresses=addresses,
        issuer=Issuer(kind="user", id=issuer),
        expires_at=None,
    )
    return Verified(live, Identity(kind="token", id=token, name="ci", teams={}), 0.0)


def filled(*tokens: str, limit: int = 10) -> VerifiedTokens:
    cache = VerifiedTokens(limit=limit, max_age=60)
    for token in tokens:
        cache.keep(token.encode(), verified(token), counter=cache.counter)
    return cache


def test_a_token_is_remembered_for_a_while() -> None:
    cache = filled("tok_1")
    assert cache.get(b"tok_1", 59.9) is not None
    assert cache.get(b"tok_1", 60) is None
    assert cache.get(b"tok_2", 0) is None


def test_the_oldest_makes_way() -> None:
    cache = filled("tok_1", "tok_2", "tok_3", limit=2)
    assert len(cache) == 2
    assert cache.get(b"tok_1", 0) is None
    cache.forget("tok_1")
    assert len(cache) == 2


def test_hashes_that_are_nobodys_are_bounded_too() -> None:
    cache = VerifiedTokens(limit=2, max_age=60)
    for digest in (b"a", b"b", b"c"):
        cache.keep_nobody(digest, 0.0, counter=cache.counter)
    assert [cache.nobody(digest, 1) for digest in (b"a", b"b", b"c")] == [False, True, True]
    assert not cache.nobody(b"c", 60)


def test_a_change_forgets_the_token_under_both_its_hashes() -> None:
    cache = filled("tok_1", "tok_2")
    cache.keep(b"before the rotation", verified("tok_1"), counter=cache.counter)
    tokens, _ = cache.listeners()
    tokens.changed(Change(topic=Topic.TOKENS, team=HOME, subject="tok_1"))
    assert cache.get(b"tok_1", 0) is None
    assert cache.get(b"before the rotation", 0) is None
    assert cache.get(b"tok_2", 0) is not None


def test_a_change_of_rights_forgets_what_the_user_issued() -> None:
    cache = filled("tok_1")
    cache.keep(b"x", verified("tok_x", issuer="usr_2"), counter=cache.counter)
    _, people = cache.listeners()
    people.changed(Change(topic=Topic.PEOPLE, team=HOME, subject="usr_2"))
    assert cache.get(b"x", 0) is None
    assert cache.get(b"tok_1", 0) is not None


@pytest.mark.parametrize("which", [0, 1])
def test_when_something_was_missed_nothing_is_remembered(which: int) -> None:
    cache = filled("tok_1", "tok_2")
    cache.keep_nobody(b"n", 0.0, counter=cache.counter)
    cache.listeners()[which].all_changed()
    assert len(cache) == 0
    assert not cache.nobody(b"n", 0)


@pytest.mark.parametrize("what", ["the token", "another token", "its issuer", "anything"])
def test_t3_an_answer_that_is_overtaken_is_not_kept(what: str) -> None:
    cache = filled()
    counter = cache.counter  # taken, and then the database is asked
    match what:
        case "the token":
            cache.forget("tok_1")
        case "another token":
            cache.forget("tok_2")
        case "its issuer":
            cache.forget_issuer("usr_1")
        case _:
            cache.forget_all()
    cache.keep(b"tok_1", verified(), counter=counter)
    cache.keep_nobody(b"n", 0.0, counter=counter)
    assert cache.get(b"tok_1", 0) is None
    assert not cache.nobody(b"n", 0)


def test_a_token_that_is_found_is_nobodys_no_more() -> None:
    cache = filled()
    cache.keep_nobody(b"tok_1", 0.0, counter=cache.counter)
    cache.forget("tok_1")
    cache.keep(b"tok_1", verified(), counter=cache.counter)
    assert not cache.nobody(b"tok_1", 0)
    assert cache.get(b"tok_1", 0) is not None


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("11.1.2.3", False),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("unix", False),
        ("10.1.2.3 ", False),
    ],
)
def test_a_token_is_used_from_its_networks_alone(address: str, allowed: bool) -> None:
    known = verified(addresses=("10.0.0.0/8", "2001:db8::/32"))
    assert known.allows(address) is allowed
    assert known.allows(address) is allowed
    assert verified().allows(address)
