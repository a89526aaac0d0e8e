"""Who is asked, how often, and what happens when nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from api_server.auth.admin_token import AdminTokenAuthenticator
from api_server.auth.errors import TooManyAttemptsError
from api_server.auth.interfaces import PENDING, Identity
from api_server.db.errors import DatabaseUnavailableError
from api_server.tokens.authenticator import ProgramAuthenticator
from api_server.tokens.cache import VerifiedTokens
from api_server.tokens.keys import TokenKeys
from api_server.tokens.last_use import Use
from api_server.tokens.metrics import TokenMetrics
from api_server.tokens.records import Issuer, LiveToken
from common.crypto.api_tokens import new_api_token
from common.crypto.key_lines import new_key_line
from common.guesses import GuessLimiter
from common.ids import new_id
from common.secret import Secret
from tests.api_server.fakes import HOME, FakeClock

pytestmark = pytest.mark.anyio

HERE = "192.0.2.1"


class Stage:
    """An authenticator; it is the database, the freshness and whatever is told of uses itself."""

    def __init__(self, *, burst: int = 5, lookups: int = 10) -> None:
        self.clock = FakeClock()
        self.keys = TokenKeys(new_key_line())
        self.cache = VerifiedTokens()
        self.there: dict[str, tuple[LiveToken, Identity]] = {}
        self.asked = 0
        self.away = False
        self.is_fresh = True
        self.uses: dict[str, float] = {}
        self.gate = asyncio.Event()
        """Answers of the database wait for it."""
        self.gate.set()
        self.admin_token = new_api_token()
        guesses = GuessLimiter(burst=burst, interval=6)
        registry = CollectorRegistry()
        self.authenticator = ProgramAuthenticator(
            administration=AdminTokenAuthenticator(self.admin_token, HOME, clock=self.clock, guesses=guesses),
            verifier=self,  # type: ignore[arg-type]
            cache=self.cache,
            freshness=self,
            keys=self.keys,
            last_use=self,  # type: ignore[arg-type]
            clock=self.clock,
            guesses=guesses,
            lookups=GuessLimiter(burst=lookups, interval=0.125),
            metrics=TokenMetrics(registry),
        )

    def issue(self, *, expires_at: float | None = None) -> Secret:
        token, name = new_api_token(), new_id("tok")
        live = LiveToken(
            id=name,
            team=HOME,
            name="ci",
            scopes=(),
            addresses=(),
            issuer=Issuer(kind="user", id="usr_1"),
            expires_at=expires_at,
        )
        self.there[self.keys.stored(token)] = (live, Identity(kind="token", id=name, name="ci", teams={}))
        return token

    def revoke(self, token: Secret) -> None:
        """In the database, and on the bus."""
        live, _ = self.there.pop(self.keys.stored(token))
        self.cache.forget(live.id)

    async def find(self, hashes: Sequence[str], now: float) -> tuple[LiveToken, Identity] | None:
        self.asked += 1
        found = next((self.there[each] for each in hashes if each in self.there), None)
        await self.gate.wait()
        if self.away:
            raise DatabaseUnavailableError("the database cannot be reached", retry_after=2)
        return found

    def fresh(self) -> bool:
        return self.is_fresh

    def note(self, use: Use, at: float) -> None:
        self.uses[use.identity.id] = at

    async def call(self, token: Secret, address: str = HERE) -> Identity | None:
        return await self.authenticator.authenticate(token, address=address)


async def test_a_token_is_looked_up_once_and_then_known_without_waiting() -> None:
    stage = Stage()
    token = stage.issue()
    assert stage.authenticator.authenticate_nowait(token, address=HERE) is PENDING
    found = await stage.call(token)
    assert found is not None
    assert stage.authenticator.authenticate_nowait(token, address=HERE) is found
    assert stage.asked == 1
    assert stage.uses == {found.id: stage.clock.wall()}


async def test_the_administration_token_needs_no_database() -> None:
    stage = Stage()
    stage.away = stage.is_fresh = True
    found = await stage.call(stage.admin_token)
    assert found is not None
    assert found.name == "administration token"
    assert stage.asked == 0


async def test_many_who_show_one_token_ask_one_question() -> None:
    stage = Stage()
    token = stage.issue()
    stage.gate.clear()
    calls = [asyncio.ensure_future(stage.call(token)) for _ in range(50)]
    await asyncio.sleep(0)
    stage.gate.set()
    assert len({found.id for found in await asyncio.gather(*calls) if found is not None}) == 1
    assert stage.asked == 1


async def test_who_asked_for_all_and_goes_away_is_replaced_by_another() -> None:
    stage = Stage()
    token = stage.issue()
    stage.gate.clear()
    calls = [asyncio.ensure_future(stage.call(token)) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    while stage.asked < 2:
        await asyncio.sleep(0)
    stage.gate.set()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, asyncio.CancelledError)
    assert all(isinstance(each, Identity) for each in others)
    assert stage.asked == 2


async def test_one_of_those_who_wait_may_go_away() -> None:
    stage = Stage()
    token = stage.issue()
    stage.gate.clear()
    calls = [asyncio.ensure_future(stage.call(token)) for _ in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    stage.gate.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, Identity) for each in found] == [True, False, True]
    assert stage.asked == 1


async def test_t3_a_late_answer_brings_no_revoked_token_back() -> None:
    """The database has answered, and before that arrives the token is revoked."""
    stage = Stage()
    token = stage.issue()
    stage.gate.clear()
    call = asyncio.ensure_future(stage.call(token))
    await asyncio.sleep(0)
    stage.revoke(token)
    stage.gate.set()
    assert await call is None, "it is asked again, because the answer is from before"
    assert stage.authenticator.authenticate_nowait(token, address=HERE) is None
    assert len(stage.cache) == 0


async def test_t3_what_is_remembered_is_not_trusted_when_nothing_is_heard() -> None:
    stage = Stage()
    token = stage.issue()
    assert await stage.call(token) is not None
    stage.is_fresh = False
    assert stage.authenticator.authenticate_nowait(token, address=HERE) is PENDING
    assert await stage.call(token) is not None, "the database says so"
    assert stage.asked == 2
    del stage.there[stage.keys.stored(token)]  # revoked elsewhere, and nobody told us
    assert await stage.call(token) is None


async def test_t3_without_bus_and_database_nobody_is_let_in_and_it_is_said_why() -> None:
    stage = Stage()
    known, unknown = stage.issue(), stage.issue()
    assert await stage.call(known) is not None
    stage.away = True
    assert await stage.call(known) is not None, "what is remembered is still fresh"
    with pytest.raises(DatabaseUnavailableError) as caught:
        await stage.call(unknown)
    assert (caught.value.status, caught.value.retry_after) == (503, 2)
    stage.is_fresh = False
    with pytest.raises(DatabaseUnavailableError):
        await stage.call(known)


async def test_an_error_of_the_database_is_everybodys_who_waits_and_not_remembered() -> None:
    stage = Stage()
    token = stage.issue()
    stage.away = True
    stage.gate.clear()
    calls = [asyncio.ensure_future(stage.call(token)) for _ in range(3)]
    await asyncio.sleep(0)
    stage.gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, DatabaseUnavailableError) for each in answers)
    assert stage.asked == 1
    stage.away = False
    assert await stage.call(token) is not None


async def test_a_token_that_has_expired_meanwhile_is_nobodys() -> None:
    stage = Stage()
    token = stage.issue(expires_at=stage.clock.wall() + 10)
    assert await stage.call(token) is not None
    stage.clock.advance(10)
    del stage.there[stage.keys.stored(token)]
    assert await stage.call(token) is None


async def test_t1_a_bad_checksum_costs_no_look_up() -> None:
    stage = Stage(burst=1)
    for text in ("hp_", "hp_" + "x" * 49, new_api_token().reveal()[:-1], "x" * 500, "hp_é" + "x" * 48):
        assert await stage.call(Secret(text)) is None
    assert stage.asked == 0
    assert await stage.call(new_api_token()) is None, "the one try is still there"


async def test_a_wrong_token_is_looked_up_once() -> None:
    stage = Stage()
    wrong = new_api_token()
    assert await stage.call(wrong) is None
    assert await stage.call(wrong) is None
    assert stage.asked == 1


async def test_t4_guessing_is_limited_by_address_and_valid_tokens_from_there_are_not() -> None:
    stage = Stage(burst=3)
    known, unknown = stage.issue(), stage.issue()
    assert await stage.call(known) is not None
    for _ in range(3):
        assert await stage.call(new_api_token()) is None
    with pytest.raises(TooManyAttemptsError) as caught:
        await stage.call(new_api_token())
    assert caught.value.retry_after == 6
    assert await stage.call(known) is not None
    assert await stage.call(unknown) is not None, "one that is not remembered may be right"
    assert await stage.call(new_api_token(), "192.0.2.2") is None, "elsewhere nobody has guessed"


async def test_t4_what_guessing_costs_is_limited_too() -> None:
    stage = Stage(burst=3, lookups=10)
    known, unknown = stage.issue(), stage.issue()
    assert await stage.call(known) is not None
    for _ in range(100):
        try:
            await stage.call(new_api_token())
        except TooManyAttemptsError as exc:
            assert exc.retry_after is not None  # noqa: PT017
    assert stage.asked == 1 + 10
    assert await stage.call(known) is not None
    with pytest.raises(TooManyAttemptsError):
        await stage.call(unknown)
    stage.clock.advance(0.125)
    assert await stage.call(unknown) is not None


async def test_10_000_tokens_are_no_further_away_than_10() -> None:
    """Looks are counted here; what each costs is a row of `make bench`."""
    for number in (10, 10_000):
        stage = Stage()
        tokens = [stage.issue() for _ in range(number)]
        for token in tokens:
            assert await stage.call(token) is not None
        assert stage.asked == number
        for token in tokens:
            assert stage.authenticator.authenticate_nowait(token, address=HERE) is not PENDING
        assert stage.asked == number
