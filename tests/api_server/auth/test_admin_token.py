"""The first source of identity."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from api_server.auth.admin_token import AdminTokenAuthenticator, ensure_admin_token
from api_server.auth.errors import TooManyAttemptsError
from api_server.auth.interfaces import INSTALLATION_ACTIONS, Action, Decision
from common.crypto.api_tokens import new_api_token
from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import write_secret
from common.guesses import GuessLimiter
from common.secret import Secret
from tests.api_server.fakes import AWAY, HOME, FakeClock

pytestmark = pytest.mark.anyio


def authenticator(token: Secret, clock: FakeClock | None = None, burst: int = 2) -> AdminTokenAuthenticator:
    return AdminTokenAuthenticator(
        token, HOME, clock=clock or FakeClock(), guesses=GuessLimiter(burst=burst, interval=10)
    )


async def test_the_token_is_the_administrator_of_the_team_and_the_installation() -> None:
    token = new_api_token()
    identity = authenticator(token).authenticate_nowait(token, address="192.0.2.1")
    assert identity is not None
    assert identity == await authenticator(token).authenticate(token, address="192.0.2.1")
    for action in Action:
        team = None if action in INSTALLATION_ACTIONS else HOME
        assert identity.decide(action, team) is Decision.ALLOWED
        assert identity.may(action, team)
        assert identity.decide(action, AWAY) is Decision.UNKNOWN_TEAM
        assert not identity.may(action, AWAY)
    assert identity.decide(Action.SESSIONS_READ, None) is Decision.FORBIDDEN
    assert token.reveal() not in repr(identity)


def test_another_token_is_nobody() -> None:
    assert authenticator(new_api_token()).authenticate_nowait(new_api_token(), address="a") is None


def test_garbage_costs_nothing() -> None:
    checked = authenticator(new_api_token(), burst=1)
    for text in ("", "hp_", "hp_" + "x" * 49, new_api_token().reveal()[:-1], "x" * 1000):
        assert checked.authenticate_nowait(Secret(text), address="a") is None
    assert checked.authenticate_nowait(new_api_token(), address="a") is None, "the one try is still there"


def test_wrong_tokens_are_limited_by_address_and_the_right_one_never() -> None:
    token, clock = new_api_token(), FakeClock()
    checked = authenticator(token, clock)
    for _ in range(2):
        assert checked.authenticate_nowait(new_api_token(), address="a") is None
    with pytest.raises(TooManyAttemptsError) as caught:
        checked.authenticate_nowait(new_api_token(), address="a")
    assert caught.value.retry_after == 10
    assert checked.authenticate_nowait(token, address="a") is not None
    assert checked.authenticate_nowait(new_api_token(), address="b") is None
    clock.advance(10)
    assert checked.authenticate_nowait(new_api_token(), address="a") is None


def test_the_token_itself_is_not_kept() -> None:
    token = new_api_token().reveal()
    checked = authenticator(Secret(token))
    reachable: dict[int, object] = {id(checked): checked}
    waiting: list[object] = [checked]
    while waiting:
        for referent in gc.get_referents(waiting.pop()):
            if id(referent) not in reachable and not isinstance(referent, type) and not callable(referent):
                reachable[id(referent)] = referent
                waiting.append(referent)
    assert len(reachable) > 5
    assert not [found for found in reachable.values() if isinstance(found, str) and token in found]
    assert not [found for found in reachable.values() if isinstance(found, bytes) and token.encode() in found]


def test_a_file_that_holds_no_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "admin-token"
    write_secret(path, new_api_token().reveal()[:-1])
    with pytest.raises(KeyFileError, match=r"admin-token: .*cut off") as caught:
        AdminTokenAuthenticator.from_file(path, HOME, clock=FakeClock(), guesses=GuessLimiter())
    assert path.read_text()[3:] not in str(caught.value)


def test_an_administration_token_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "admin-token"
    token = ensure_admin_token(path)
    assert ensure_admin_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600
    checked = AdminTokenAuthenticator.from_file(path, HOME, clock=FakeClock(), guesses=GuessLimiter())
    assert checked.authenticate_nowait(token, address="a") is not None
