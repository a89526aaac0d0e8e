"""What token endpoints say, and what is made of it; byte by byte where it matters."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_server.provider_tokens.errors import GrantRefusedError, ProviderAwayError, ProviderRefusesClientError
from api_server.provider_tokens.providers.answers import GivenTokens, read_token_answer
from common.errors import HomeportError
from common.secret import Secret

CANARY = "c4nary-t0ken"


def read(content: object, status: int = 200) -> GivenTokens:
    return read_token_answer(status, json.dumps(content).encode())


def test_json() -> None:
    given = read(
        {
            "access_token": "a",
            "token_type": "Bearer",
            "refresh_token": "r",
            "expires_in": 7200,
            "refresh_token_expires_in": 15811200,
            "scope": "repo read:user",
            "id_token": "e.y.J",
            "anything": {"else": True},
        }
    )
    assert given == GivenTokens(
        access_token=Secret("a"),
        refresh_token=Secret("r"),
        expires_in=7200.0,
        refresh_expires_in=15811200.0,
        scopes=("repo", "read:user"),
        id_token=Secret("e.y.J"),
    )


def test_a_form_as_github_sends_it() -> None:
    body = b"access_token=gho_a&expires_in=28800&refresh_token=ghr_r&refresh_token_expires_in=15897600"
    given = read_token_answer(200, body + b"&scope=repo%2Cread%3Auser&token_type=bearer")
    assert (given.access_token.reveal(), given.expires_in, given.scopes) == ("gho_a", 28800.0, ("repo", "read:user"))
    assert given.refresh_token == Secret("ghr_r")
    assert given.refresh_expires_in == 15897600.0


def test_bitbucket_says_scopes() -> None:
    assert read({"access_token": "a", "scopes": "account repository:write"}).scopes == ("account", "repository:write")


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("", None),
        (0, None),
        ("0", None),
        (60, 60.0),
        ("28800", 28800.0),
        (1e30, 100 * 365 * 86400.0),
        (-5, 3600.0),
        ("soon", 3600.0),
        (True, 3600.0),
        ([60], 3600.0),
    ],
)
def test_how_long_a_token_lives(said: object, seconds: float | None) -> None:
    """Missing and 0 are never; what makes no sense is an hour, not never."""
    assert read({"access_token": "a", "expires_in": said}).expires_in == seconds


def test_a_missing_lifetime_is_never() -> None:
    given = read({"access_token": "a", "refresh_token": "r"})
    assert (given.expires_in, given.refresh_expires_in) == (None, None)


@pytest.mark.parametrize(
    ("status", "error", "expected", "undone"),
    [
        (400, "invalid_grant", GrantRefusedError, None),
        (200, "bad_refresh_token", GrantRefusedError, None),  # GitHub
        (200, "bad_verification_code", GrantRefusedError, None),
        (401, "invalid_client", ProviderRefusesClientError, None),
        (200, "incorrect_client_credentials", ProviderRefusesClientError, None),
        (400, "invalid_scope", ProviderRefusesClientError, None),
        (400, "temporarily_unavailable", ProviderAwayError, False),
        (429, "slow_down", ProviderAwayError, True),
        (429, "anything", ProviderAwayError, True),
        (503, "anything", ProviderAwayError, False),
        (400, "<script>", ProviderRefusesClientError, None),
        (400, ["invalid_grant"], ProviderRefusesClientError, None),
    ],
)
def test_b4_only_invalid_grant_says_that_a_grant_is_dead(
    status: int, error: object, expected: type[HomeportError], undone: bool | None
) -> None:
    with pytest.raises(expected) as caught:
        read({"error": error, "error_description": CANARY, "access_token": "a"}, status)
    assert CANARY not in str(caught.value)
    assert "<" not in str(caught.value)
    if undone is not None:
        assert isinstance(caught.value, ProviderAwayError)
        assert caught.value.undone is undone


def test_an_error_in_a_form() -> None:
    with pytest.raises(GrantRefusedError):
        read_token_answer(200, b"error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"access_token": ""}',
        b'{"access_token": 5}',
        b'{"access_token": "two words"}',
        b'{"access_token": "caf\xc3\xa9"}',
        b'{"access_token": "a", "refresh_token": ["r"]}',
        b'{"access_token": "a", "token_type": "mac"}',
        b'{"access_token": "' + b"a" * 16385 + b'"}',
        b"access_token=a&access_token=b",
        b"<html>Sign in</html>",
        b"\xff\xfe",
        b'{"access_token": "cut',
        b'{"a":' * 5000,
    ],
)
def test_what_makes_no_sense_may_have_been_done_all_the_same(body: bytes) -> None:
    with pytest.raises(ProviderAwayError) as caught:
        read_token_answer(200, body)
    assert not caught.value.undone


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_bytes_are_tokens_or_an_error_of_this_domain(status: int, body: bytes) -> None:
    try:
        given = read_token_answer(status, body)
    except (GrantRefusedError, ProviderAwayError, ProviderRefusesClientError):
        return
    assert given.access_token


def test_c8_nothing_of_the_tokens_is_printed() -> None:
    assert CANARY not in repr(read({"access_token": CANARY, "refresh_token": CANARY, "id_token": CANARY}))
