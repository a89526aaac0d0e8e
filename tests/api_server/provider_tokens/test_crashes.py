"""B5: a process is killed while it refreshes a token that rotates, at each point where that could cost the grant."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from api_server.db.database import Database
from api_server.db.engine import Kind
from api_server.outbound.http import OutboundHttp
from api_server.provider_tokens.errors import NeedsReconnectError
from common.clock import SystemClock
from common.crypto.envelope import Envelope
from common.crypto.keyring import KeyringFile, ensure_keyring
from common.secret import Secret
from tests.api_server.fakes import FakeClock
from tests.api_server.provider_tokens.double import Double
from tests.api_server.provider_tokens.parts import KEY, Parts, parts_over
from tests.databases.fixtures import FreshDatabase

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]


async def killed(url: str, folder: Path, double: Double, point: str) -> None:
    """A process that refreshes, until it is killed."""
    told = {"database": url, "keyring": str(folder / "keyring.json"), "provider": double.url, "point": point}
    module = "tests.api_server.provider_tokens.dying"
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, json.dumps(told), cwd=ROOT)
    assert await process.wait() == -9


async def after_a_crash(
    url: str, folder: Path, double: Double, outbound: OutboundHttp, point: str, database: Database
) -> Parts:
    """A grant whose access token has run out, a process that died while it refreshed it, and one that comes after."""
    ensure_keyring(folder / "keyring.json")
    envelope = Envelope(KeyringFile(folder / "keyring.json"))
    double.current["r1"] = 1
    now = SystemClock().wall()
    before = parts_over(database, envelope, FakeClock(now - 7200), double.url, outbound)
    await before.tokens.auth_tokens(KEY).store_tokens(Secret("a1"), Secret("r1"), now - 10, 0)
    await killed(url, folder, double, point)
    # The lease of the dead runs out.
    return parts_over(database, envelope, FakeClock(now + 60), double.url, outbound)


@pytest.mark.parametrize(
    ("kind", "point"),
    [
        (Kind.SQLITE, "before_request"),
        (Kind.SQLITE, "after_answer"),
        (Kind.SQLITE, "after_commit"),
        (Kind.POSTGRESQL, "after_answer"),
    ],
    ids=lambda each: each.name.lower() if isinstance(each, Kind) else each,
)
async def test_b5_what_a_crash_leaves_is_recovered(
    tmp_path: Path, fresh_database: FreshDatabase, double: Double, outbound: OutboundHttp, kind: Kind, point: str
) -> None:
    with fresh_database(kind) as url:
        async with Database.connect(url) as database:
            parts = await after_a_crash(url, tmp_path, double, outbound, point, database)
            grant = await parts.tokens.access_token(KEY)
            assert grant.access_token is not None
            assert grant.access_token.reveal() != "a1"
            assert grant.refresh_token is not None
            assert double.current == {grant.refresh_token.reveal(): 1}, "what is kept is what the provider takes"
            assert double.shown == {"r1": 1}
            assert await parts.attempts.pending(KEY) is None


@pytest.mark.parametrize("kind", [Kind.SQLITE, Kind.POSTGRESQL], ids=lambda kind: kind.name.lower())
async def test_b5_an_answer_that_nobody_wrote_down_is_said_to_be_unknown(
    tmp_path: Path, fresh_database: FreshDatabase, double: Double, outbound: OutboundHttp, kind: Kind
) -> None:
    """The one moment that nothing can save: the provider has rotated, and who knew the new token is dead."""
    with fresh_database(kind) as url:
        async with Database.connect(url) as database:
            parts = await after_a_crash(url, tmp_path, double, outbound, "before_answer", database)
            attempt = await parts.attempts.pending(KEY)
            assert attempt is not None
            assert attempt.is_unknown
            assert (await parts.attempts.problems([KEY.record_id]))[KEY.record_id].is_unknown
            with pytest.raises(NeedsReconnectError, match="refresh_outcome_lost"):
                await parts.tokens.access_token(KEY)
            assert double.shown == {"r1": 2}
            grant = await parts.records.get(KEY)
            assert grant.dead == "refresh_outcome_lost"
            assert [change.event for change in parts.mourned.told] == ["provider_token.needs_reconnect"]


async def test_b5_the_same_at_a_provider_that_does_not_rotate_is_made_up_for(
    tmp_path: Path, fresh_database: FreshDatabase, double: Double, outbound: OutboundHttp
) -> None:
    double.rotates = False
    with fresh_database(Kind.SQLITE) as url:
        async with Database.connect(url) as database:
            parts = await after_a_crash(url, tmp_path, double, outbound, "before_answer", database)
            grant = await parts.tokens.access_token(KEY)
            assert grant.refresh_token == Secret("r1")
            assert double.shown == {"r1": 2}
