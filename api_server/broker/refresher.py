"""Fetches a token from its provider: one process at a time, and so that a death at any moment is survived.

    1. the lease of the token        others wait for it, or for what comes of it (B1)
    2. leave to call the provider    cap, rate, circuit breaker (B3)
    3. begin, a transaction          the lease is checked; the fetch is written down as running; where a call before
                                     it never ended, that is written down as unknown
    4. the call, without any transaction, bounded in time and size
    5. commit, a transaction         the lease is checked, and that realm and secret are those that were used; the token
                                     is sealed and kept, or the failure is
    6. announce                      every process drops what it had

A process that dies after 4 leaves a fetch that runs for ever in the log. The next one to hold the lease, which is free
after seconds, marks it `unknown` and fetches anew (B5). Meanwhile the token is doubtful: where the provider ends the
old token when it gives a new one (`overlap`), the old one is served for that long after 3, and no longer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.broker.answers import Obtained, ProviderAnswerError, interpret
from api_server.broker.cache import TokenCache
from api_server.broker.errors import ProviderPausedError, RealmSecretUnboundError
from api_server.broker.metrics import BrokerMetrics
from api_server.broker.providers import Providers
from api_server.broker.records import Fetch, TokenKey
from api_server.broker.requests import build_request
from api_server.broker.schedule import due_at, retry_at
from api_server.broker.seals import Seals
from api_server.broker.store import BrokerStore, State, new_fetch_id
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.db.errors import DatabaseUnavailableError
from api_server.leases.interfaces import Lease, Leases
from api_server.outbound.errors import (
    OutboundError,
    TargetForbiddenError,
    TargetNotResolvedError,
    TargetUntrustedError,
)
from common.backoff import Backoff
from common.clock import Clock
from common.logging import get_logger

__all__ = ["LEASE", "Refresher", "check_bound"]

LEASE: Final = 5.0
"""Seconds: how long others wait when the process that fetches dies."""

_LOOK = (0.1, 0.3)
"""Seconds between two looks at what another process does; a change that is heard of is quicker."""

_PERSISTENCE: Final = 6
"""Attempts to keep a token while the database is away: it cannot be had again where each new one ends the last."""

_CERTAIN: Final = (TargetForbiddenError, TargetNotResolvedError, TargetUntrustedError)
"""Nothing was sent, so the provider has made no token."""


class Refresher:
    """Fetches.

    Args:
        database: with the tokens.
        leases: of the same database.
        changes: told of what was fetched.
        seals: for what is kept.
        providers: that are called.
        cache: told by the changes; wakes who waits for another process.
        metrics: count.
        clock: wall time.
        rng: for jitter.
        lease: seconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        leases: Leases,
        changes: ChangeLog,
        seals: Seals,
        providers: Providers,
        cache: TokenCache,
        metrics: BrokerMetrics,
        clock: Clock,
        rng: random.Random | None = None,
        lease: float = LEASE,
    ) -> None:
        self._database = database
        self._leases = leases
        self._changes = changes
        self._seals = seals
        self._providers = providers
        self._cache = cache
        self._metrics = metrics
        self._clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._lease = lease
        self._store = BrokerStore()
        self._log = get_logger(__name__)

    async def refresh(self, before: State, reason: str) -> bool:
        """Have something come of a token that is due: by this process, or by another that is at it already.

        Read the state again afterwards: it says what came of it.

        Args:
            before: as it was read.
            reason: for the log of fetches.

        Returns:
            Whether this process has called the provider.

        Raises:
            DatabaseError: nobody knows.
            ProviderPausedError: the provider is not called now, or another process takes too long.
            RealmNotFoundError, RealmSecretNotFoundError: it is gone.
        """
        key, config = before.key, before.config
        give_up = self._clock.monotonic() + config.timeout + 3 * self._lease
        while True:
            async with self._leases.hold(key.lease, self._lease) as lease:
                if lease is not None:
                    return await self._fetch(lease, key, reason)
            while True:
                await self._cache.wait_for_change(key, self._rng.uniform(*_LOOK))
                state = await self._database.read(lambda tx: self._store.state(tx, key))
                if _came_of_it(before, state, self._clock.wall()):
                    return False
                if self._clock.monotonic() > give_up:
                    raise ProviderPausedError("another process takes too long to ask the provider", retry_after=1.0)
                if await self._leases.until(key.lease) is None:
                    break

    async def _fetch(self, lease: Lease, key: TokenKey, reason: str) -> bool:
        state = await self._database.read(lambda tx: self._store.state(tx, key))
        if not _due(state, self._clock.wall()):
            return False
        async with self._providers.turn(key.team, state.secret.provider, state.config.timeout) as gate:
            begun = await self._database.write(lambda tx: self._begin(tx, lease, key, reason))
            if begun is None:
                return False
            state, fetch = begun
            fields = self._seals.open_fields(key, state.secret)
            request = build_request(state.config, fields)
            status: int | None = None
            try:
                with self._metrics.fetch_seconds.time():
                    answer = await self._providers.call(gate, request, state.config.timeout)
                status = answer.status
                outcome: Obtained | ProviderAnswerError = interpret(
                    state.config,
                    status,
                    dict(answer.headers),
                    answer.body,
                    now=self._clock.wall(),
                    secrets=fields.values(),
                )
            except ProviderAnswerError as exc:
                if exc.retry_after is not None and status in (429, 503):
                    self._providers.pause(gate, exc.retry_after)
                outcome = exc
            except OutboundError as exc:
                outcome = ProviderAnswerError(exc.code, exc.detail, certain=isinstance(exc, _CERTAIN))
        await self._commit(lease, state, fetch, outcome, status)
        return True

    async def _begin(self, tx: AsyncConnection, lease: Lease, key: TokenKey, reason: str) -> tuple[State, Fetch] | None:
        await self._leases.check(tx, lease)
        state = await self._store.state(tx, key)
        now = self._clock.wall()
        if not _due(state, now):
            return None
        fetch = Fetch(
            id=new_fetch_id(now),
            realm=key.realm,
            key=key.key,
            reason=reason,
            started_at=now,
            ended_at=None,
            outcome="running",
            status=None,
            code="",
            detail="",
            process=lease.owner,
        )
        await self._store.begin_fetch(tx, fetch, key.team)
        token = state.token
        due = now if token.due_at is None else min(now, token.due_at)
        doubtful = now if token.doubtful_since is None else token.doubtful_since
        await self._store.change_token(tx, key, {"due_at": due, "doubtful_since": doubtful})
        return state, fetch

    async def _commit(
        self, lease: Lease, state: State, fetch: Fetch, outcome: Obtained | ProviderAnswerError, status: int | None
    ) -> None:
        ended = msgspec.structs.replace(fetch, ended_at=self._clock.wall(), status=status)

        async def work(tx: AsyncConnection) -> tuple[Fetch, Change | None]:
            await self._leases.check(tx, lease)
            now = await self._store.versions(tx, state.key)
            if now != (state.realm_version, state.secret.uid, state.secret.version):
                # Somebody has corrected it meanwhile: whatever came of the old one says nothing about the new one (B4).
                done = msgspec.structs.replace(ended, outcome="discarded", detail="realm or secret were changed")
                await self._store.end_fetch(tx, done, state.key.team)
                return done, None
            if isinstance(outcome, Obtained):
                done, change = await self._keep(tx, state, ended, outcome)
            else:
                done, change = await self._keep_failure(tx, state, ended, outcome)
            await self._store.end_fetch(tx, done, state.key.team)
            return done, await self._changes.record(tx, change)

        done, change = await self._persistently(lambda: self._database.write(work))
        self._metrics.fetches.labels(done.outcome).inc()
        if done.outcome != "done":
            self._log.warning(
                "a provider gave no token",
                team=state.key.team,
                realm=done.realm,
                key=done.key,
                outcome=done.outcome,
                status=done.status,
                code=done.code,
            )
        if change is not None:
            await self._changes.announce([change])

    async def _keep(self, tx: AsyncConnection, state: State, fetch: Fetch, obtained: Obtained) -> tuple[Fetch, Change]:
        key, token = state.key, state.token
        now = fetch.ended_at or self._clock.wall()
        version, expires_at = token.version + 1, now + obtained.life
        await self._store.change_token(
            tx,
            key,
            {
                "version": version,
                "sealed": self._seals.seal_token(key, token.uid, version, obtained.token),
                "token_type": obtained.token_type,
                "fetched_at": now,
                "expires_at": expires_at,
                "due_at": due_at(now, obtained.life, state.config.refresh_margin, self._rng),
                "doubtful_since": None,
                "failures": 0,
                "failed_code": "",
                "failed_detail": "",
                "retry_at": None,
                "refused_at": None,
            },
        )
        detail = "" if obtained.said_life else "the answer does not say how long it lives: the realm's default"
        done = msgspec.structs.replace(fetch, outcome="done", detail=detail)
        return done, _change(key, "realm_token.refreshed", {"expires_at": expires_at})

    async def _keep_failure(
        self, tx: AsyncConnection, state: State, fetch: Fetch, failure: ProviderAnswerError
    ) -> tuple[Fetch, Change]:
        key, token = state.key, state.token
        now = fetch.ended_at or self._clock.wall()
        failures = token.failures + 1
        values: dict[str, Any] = {
            "failures": failures,
            "failed_code": failure.code[:64],
            "failed_detail": failure.detail[:300],
            "retry_at": retry_at(now, failures, failure.retry_after),
            "refused_at": now if failure.refused else None,
        }
        if failure.certain and token.doubtful_since is None:
            values["doubtful_since"] = None  # what `begin` had noted: nothing came of it
        await self._store.change_token(tx, key, values)
        outcome = "refused" if failure.refused else "failed"
        done = msgspec.structs.replace(fetch, outcome=outcome, code=failure.code[:64], detail=failure.detail[:300])
        event = f"realm_token.{outcome}" if failures == 1 or failure.refused else None
        return done, _change(key, event, {"code": done.code})

    async def _persistently(
        self, write: Callable[[], Awaitable[tuple[Fetch, Change | None]]]
    ) -> tuple[Fetch, Change | None]:
        backoff = Backoff(base=0.25, maximum=4.0)
        for remaining in reversed(range(_PERSISTENCE)):
            try:
                return await write()
            except DatabaseUnavailableError:
                if not remaining:
                    raise
            await asyncio.sleep(backoff.next_delay())
        raise AssertionError("the last attempt returns or raises")


def check_bound(state: State, provider: str) -> None:
    """Whether a secret may be sent to the realm's provider (G2).

    Raises:
        RealmSecretUnboundError: it was saved for another one.
    """
    if state.secret.provider != provider:
        raise RealmSecretUnboundError(
            f"the secret {state.key.key} was saved for another provider than {state.key.realm} names now; save it again"
        )


def _due(state: State, now: float) -> bool:
    """Whether a call to the provider is called for."""
    token = state.token
    return not state.fresh(now) and token.refused_at is None and (token.retry_at is None or token.retry_at <= now)


def _came_of_it(before: State, state: State, now: float) -> bool:
    """Whether another process has got a token since, or has failed."""
    changed = (before.realm_version, before.secret) != (state.realm_version, state.secret)
    return changed or not _due(state, now)


def _change(key: TokenKey, event: str | None, data: dict[str, Any]) -> Change:
    return Change(
        topic=Topic.REALMS,
        team=key.team,
        subject=key.subject,
        event=event,
        data={"realm": key.realm, "key": key.key, **data},
    )
