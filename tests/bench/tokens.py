"""What many API tokens cost whoever shows one of them, and how long a revoked one is still let in elsewhere."""

from __future__ import annotations

import asyncio
import http.client
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from prometheus_client import CollectorRegistry
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.auth.interfaces import PENDING
from api_server.changes.feed import ChangeFeed
from api_server.changes.log import AnnouncedChanges
from api_server.db.database import Database
from api_server.programs import Programs
from api_server.teams.memberships import DatabaseMemberships
from api_server.tokens.keys import TokenKeys
from api_server.tokens.tables import api_tokens
from common.clock import SystemClock
from common.crypto.api_tokens import new_api_token, start
from common.crypto.key_lines import new_key_line
from common.guesses import GuessLimiter
from common.ids import TeamId, new_id
from common.secret import Secret
from tests.api_server.changes.recorded import RecordedBoard
from tests.bench.rows import AloneRow, Figures, Scale
from tests.databases.servers import make_database_file
from tests.stack.homeport import Keys, api, relay

__all__ = ["ManyApiTokens", "Revocation"]

_HERE = "192.0.2.1"
_BATCHES = 1_000
_CALLS = 100
"""Of a batch."""
_LOOKUPS = 300
_GIVE_UP = 30.0
"""Seconds."""
_CUT = 0
_REFUSED = (401, 429, _CUT)
"""The second one after a number of refusals: the bench, which goes on showing what is revoked, looks like guessing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyApiTokens(AloneRow):
    """Finding out who shows a token: one that is remembered, and one that has to be looked up, with few and with many
    beside it. In this process, over SQLite.
    """

    def rounds(self, scale: Scale) -> int:
        return scale.token_rounds

    def measure(self, scale: Scale, folder: Path) -> Figures:
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_verify(scale, folder))


async def _verify(scale: Scale, folder: Path) -> Figures:
    """CPU time, which a busy machine changes less than the clock; few and many in turn."""
    async with (
        _tokens(folder / "few.db", scale.few_tokens) as few,
        _tokens(folder / "many.db", scale.many_tokens) as many,
    ):
        looked_up: tuple[list[float], list[float]] = ([], [])
        for _ in range(_LOOKUPS):
            for known, times in zip((few, many), looked_up, strict=True):
                hashes = known.keys.candidates(random.choice(known.tokens))
                began = time.process_time()
                assert await known.programs.verifier.find(hashes, known.clock.wall()) is not None
                times.append(time.process_time() - began)
        for known in (few, many):
            for token in known.tokens:
                assert await known.programs.authenticator.authenticate(token, address=_HERE) is not None
        remembered: tuple[list[float], list[float]] = ([], [])
        for _ in range(_BATCHES):
            for known, times in zip((few, many), remembered, strict=True):
                authenticate = known.programs.authenticator.authenticate_nowait
                # As a request brings it: a text of its own, which has just been read.
                asked = [Secret(token.reveal().encode().decode()) for token in random.choices(known.tokens, k=_CALLS)]
                began = time.process_time()
                for token in asked:
                    authenticate(token, address=_HERE)
                times.append((time.process_time() - began) / _CALLS)
                assert authenticate(asked[0], address=_HERE) is not PENDING
    of_few, of_many = (1e6 * statistics.median(each) for each in remembered)
    few_ms, many_ms = (1e3 * statistics.median(each) for each in looked_up)
    return {
        "us remembered, few": of_few,
        "us remembered, many": of_many,
        "remembered many/few": of_many / of_few,
        "ms looked up, few": few_ms,
        "ms looked up, many": many_ms,
        "looked up many/few": many_ms / few_ms,
    }


@dataclass(frozen=True, slots=True)
class _Known:
    """An authenticator, and the tokens that there are."""

    programs: Programs
    keys: TokenKeys
    tokens: list[Secret]
    clock: SystemClock


@asynccontextmanager
async def _tokens(file: Path, number: int) -> AsyncIterator[_Known]:
    file.unlink(missing_ok=True)
    make_database_file(file)
    clock, keys, team = SystemClock(), TokenKeys(new_key_line()), TeamId("home")
    async with Database.connect(f"sqlite:///{file}") as database:
        memberships = DatabaseMemberships(database, clock)
        await memberships.prepare(team)
        tokens = await _fill(database, keys, team, number, clock.wall())
        feed = ChangeFeed(database, clock, patience=3600)
        programs = Programs(
            database=database,
            feed=feed,
            changes=AnnouncedChanges(feed, RecordedBoard()),
            memberships=memberships,
            keys=keys,
            administration=None,
            guesses=GuessLimiter(),
            clock=clock,
            registry=CollectorRegistry(),
        )
        await feed.poll()
        yield _Known(programs, keys, tokens, clock)


async def _fill(database: Database, keys: TokenKeys, team: TeamId, number: int, now: float) -> list[Secret]:
    tokens = [new_api_token() for _ in range(number)]
    rows: list[dict[str, Any]] = [
        {
            "id": new_id("tok"),
            "team_id": team,
            "name": "bench",
            "description": "",
            "start": start(token),
            "token_hash": keys.stored(token),
            "scopes": ["devices:read"],
            "addresses": [],
            "issuer_kind": "administration",
            "issuer_id": "hp_bench",
            "created_by_kind": "token",
            "created_by": "hp_bench",
            "created_at": now,
            "issued_at": now,
            "warned": 0,
        }
        for token in tokens
    ]

    async def work(tx: AsyncConnection) -> None:
        await tx.execute(insert(api_tokens), rows)

    await database.write(work)
    return tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation(AloneRow):
    """Tokens are revoked at one API process, while another one's gateway is asked with them without a pause: from the
    answer to the revocation until the first refusal has arrived.
    """

    def rounds(self, scale: Scale) -> int:
        return 1

    def measure(self, scale: Scale, folder: Path) -> Figures:
        with _two_servers(folder) as (keys, first, gateway):
            headers = {"Authorization": f"Bearer {keys.admin_token}"}
            waits, refused_at_once = [], 0
            with httpx.Client(base_url=first, headers=headers, trust_env=False, timeout=60) as client:
                for _ in range(scale.revocations):
                    body = {"name": "bench", "scopes": ["gateway:call"]}
                    made = client.post("/api/api-tokens", json=body).raise_for_status().json()
                    while _ask(gateway, made["token"]) == 429:
                        time.sleep(0.05)  # so many were revoked that the next one has to wait to be looked up
                    client.delete(f"/api/api-tokens/{made['id']}").raise_for_status()
                    answered = time.perf_counter()
                    asked = 1
                    while _ask(gateway, made["token"]) not in _REFUSED:
                        asked += 1
                        if time.perf_counter() - answered > _GIVE_UP:
                            raise RuntimeError("a revoked token is not refused")
                    waits.append(time.perf_counter() - answered)
                    refused_at_once += asked == 1
        waits.sort()
        return {
            "p50 ms": 1e3 * statistics.median(waits),
            "p99 ms": 1e3 * waits[int(0.99 * (len(waits) - 1))],
            "most ms": 1e3 * waits[-1],
            "refused at the first question %": 100 * refused_at_once / len(waits),
        }


@contextmanager
def _two_servers(folder: Path) -> Iterator[tuple[Keys, str, http.client.HTTPConnection]]:
    """The keys, the URL of the first server's API, and a connection to the second one's gateway."""
    homes: Sequence[Path] = [folder / name for name in ("keys", "one", "two")]
    for home in homes:
        home.mkdir(parents=True)
    keys = Keys.make(homes[0])
    with (
        relay(homes[0], keys) as running,
        api(homes[1], keys, running) as one,
        api(homes[2], keys, running) as two,
    ):
        where = urlsplit(two.gateway)
        connection = http.client.HTTPConnection(str(where.hostname), where.port)
        try:
            yield keys, one.api, connection
        finally:
            connection.close()


def _ask(gateway: http.client.HTTPConnection, token: str) -> int:
    """A request for a device that does not exist: whoever is known is told so. One that is under way when its token is
    revoked is cut, which is a refusal as well.
    """
    try:
        gateway.request("GET", "/d/home/nowhere/web/", headers={"X-API-Key": token})
        answer = gateway.getresponse()
        answer.read()
    except (ConnectionError, http.client.HTTPException):
        gateway.close()
        return _CUT
    return answer.status
