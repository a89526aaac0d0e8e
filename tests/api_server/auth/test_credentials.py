"""Which credential a request shows, at the level of raw headers, as the gateway reads them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.auth.credentials import Presented, presented
from api_server.auth.errors import ConflictingCredentialsError, CredentialInQueryError
from common.crypto.api_tokens import new_api_token
from common.secret import Secret

TOKEN = new_api_token().reveal().encode()
OTHER = new_api_token().reveal().encode()


def basic(user: bytes, password: bytes) -> bytes:
    return b"Basic " + base64.b64encode(user + b":" + password)


def shown(*headers: tuple[bytes, bytes], query: bytes = b"") -> Presented | None:
    return presented(headers, query)


@pytest.mark.parametrize(
    ("header", "carrier"),
    [
        ((b"Authorization", b"Bearer " + TOKEN), b"authorization"),
        ((b"authorization", b"bearer " + TOKEN), b"authorization"),
        ((b"AUTHORIZATION", b" \tBEARER   " + TOKEN + b" \t"), b"authorization"),
        ((b"X-API-Key", TOKEN), b"x-api-key"),
        ((b"x-api-key", b" " + TOKEN), b"x-api-key"),
        ((b"Authorization", basic(b"", TOKEN)), b"authorization"),
        ((b"Authorization", basic(b"any:user", TOKEN)), None),
        ((b"Authorization", basic(b"any user", TOKEN)), b"authorization"),
    ],
)
def test_where_a_token_may_stand(header: tuple[bytes, bytes], carrier: bytes | None) -> None:
    found = shown((b"Host", b"x"), header)
    if carrier is None:
        assert found is None, "a user name holds no colon (RFC 7617 section 2)"
    else:
        assert found == Presented(Secret(TOKEN.decode()), frozenset({carrier}))


def test_what_belongs_to_the_device_passes() -> None:
    """Behind the gateway a service may have credentials of its own; they are neither ours nor in the way of ours."""
    theirs = (b"Authorization", b"Bearer their-own-token")
    assert shown(theirs) is None
    found = shown(theirs, (b"X-API-Key", TOKEN))
    assert found is not None
    assert found.headers == {b"x-api-key"}
    found = shown((b"X-API-Key", b"their-own-key"), (b"Authorization", b"Bearer " + TOKEN))
    assert found is not None
    assert found.headers == {b"authorization"}


def test_the_same_token_twice_is_one_and_both_carriers_are_named() -> None:
    found = shown((b"X-API-Key", TOKEN), (b"Authorization", b"Bearer " + TOKEN))
    assert found is not None
    assert found.headers == {b"authorization", b"x-api-key"}


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-API-Key", TOKEN), (b"Authorization", b"Bearer " + OTHER)],
        [(b"X-API-Key", TOKEN), (b"X-API-Key", OTHER)],
        [(b"Authorization", b"Bearer " + TOKEN), (b"authorization", basic(b"u", OTHER))],
    ],
)
def test_two_different_tokens_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ConflictingCredentialsError):
        presented(headers)


@pytest.mark.parametrize(
    "query",
    [
        b"token=" + TOKEN,
        TOKEN,
        b"a=1&api_key=" + TOKEN + b"&b=2",
        b"x=hpp_" + TOKEN[3:],
        b"x=hp%5f" + TOKEN[3:],
        b"x=%68%70_" + TOKEN[3:],
        b"Bearer%20" + TOKEN,
    ],
    ids=["token", "bare", "among others", "pairing token", "escaped", "more of it escaped", "with a scheme"],
)
def test_a_token_in_the_query_is_refused(query: bytes) -> None:
    for headers in ([], [(b"X-API-Key", TOKEN)]):
        with pytest.raises(CredentialInQueryError):
            presented(headers, query)


@pytest.mark.parametrize("query", [b"", b"a=hp_short", b"hp=1&x=%zz", b"q=ship_" + b"a" * 49, b"%" * 100, b"\xff=%ff"])
def test_a_query_without_a_token_passes(query: bytes) -> None:
    assert presented([], query) is None


def test_long_values_are_not_looked_at() -> None:
    assert shown((b"X-API-Key", b"hp_" + b"a" * 1000)) is None
    assert shown((b"Authorization", b"Basic " + b"A" * 100_000)) is None


@given(
    st.lists(st.tuples(st.sampled_from([b"Authorization", b"X-Api-Key", b"x"]), st.binary(max_size=80))), st.binary()
)
def test_no_bytes_make_it_raise_anything_else(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    try:
        found = presented(headers, query)
    except (ConflictingCredentialsError, CredentialInQueryError):
        return
    assert found is None or found.credential.reveal().startswith("hp_")


def test_a_credential_shows_nowhere() -> None:
    assert TOKEN.decode() not in repr(shown((b"X-API-Key", TOKEN)))
