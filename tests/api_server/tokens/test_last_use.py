"""When tokens were used: gathered, written together, bounded, and what is lost is counted (T4)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from api_server.db.database import Database
from api_server.teams.roles import Role
from api_server.tokens.last_use import LastUse
from api_server.tokens.metrics import TokenMetrics
from common.crypto.session_tokens import SessionTokenSigner
from tests.api_server.people import Home, Person, running_domains
from tests.api_server.tokens.calls import make, try_token
from tests.api_server.tokens.test_cache import verified

pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(database: Database, signer: SessionTokenSigner) -> AsyncIterator[Home]:
    async with running_domains(database, signer) as running:
        yield running


async def last_used(home: Home, who: Person, token: str) -> float | None:
    at: float | None = (await home.call("GET", f"/api/api-tokens/{token}", who)).json()["last_used_at"]
    return at


async def test_the_last_use_is_written_behind_the_request(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made, other = await make(home, ann), await make(home, ann)
    for _ in range(3):
        assert (await try_token(home, made)).status_code == 200
    assert await last_used(home, ann, made["id"]) is None
    assert len(home.programs.last_use) == 1
    await home.programs.last_use.write()
    assert await last_used(home, ann, made["id"]) == home.clock.wall()
    assert await last_used(home, ann, other["id"]) is None
    assert len(home.programs.last_use) == 0


async def test_a_process_that_writes_later_takes_no_later_time_back(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann)
    for at in (200.0, 100.0, 300.0):
        home.programs.last_use.used(made["id"], at)
        await home.programs.last_use.write()
    assert await last_used(home, ann, made["id"]) == 300.0


async def test_a_thousand_tokens_are_written_in_a_few_transactions(home: Home) -> None:
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann)
    for number in range(1200):
        home.programs.last_use.used(f"tok_{number}", 100.0)  # of teams that are gone
    home.programs.last_use.used(made["id"], 100.0)
    await home.programs.last_use.write()
    assert await last_used(home, ann, made["id"]) == 100.0


async def test_t4_what_cannot_be_written_waits_and_what_does_not_fit_is_counted(home: Home) -> None:
    registry = CollectorRegistry()
    ann = await home.person("ann", home=Role.DEVELOPER)
    made = await make(home, ann)
    await home.database.close()
    uses = LastUse(home.database, TokenMetrics(registry), most=2)
    uses.used(made["id"], 100.0)
    uses.used("tok_2", 100.0)
    await uses.write()
    assert len(uses) == 2
    uses.used("tok_3", 100.0)
    uses.used("tok_3", 100.0)
    uses.used(made["id"], 200.0)
    assert registry.get_sample_value("homeport_api_token_uses_lost_total") == 2
    await uses.finish()
    assert registry.get_sample_value("homeport_api_token_uses_lost_total") == 4
    assert len(uses) == 0


async def test_t4_notes_that_do_not_fit_are_counted_too(home: Home) -> None:
    registry = CollectorRegistry()
    uses = LastUse(home.database, TokenMetrics(registry), most=2)
    known = [verified(f"tok_{number}") for number in range(3)]
    for _ in range(2):
        for each in known:
            uses.note(each, 100.0)
    assert len(uses) == 2
    assert registry.get_sample_value("homeport_api_token_uses_lost_total") == 2
    await uses.write()
    assert len(uses) == 0
    uses.note(known[2], 100.0)
    assert len(uses) == 1
