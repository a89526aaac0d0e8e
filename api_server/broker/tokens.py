"""Hands tokens out.

    in memory, and not due        served (hit)
    in memory, and due            served, and one flight is on its way (stale)
    otherwise                     one flight a token, which everybody who asks waits for (miss)

A flight reads the database, and has the token fetched when it is due. It belongs to nobody who waits: one who goes away
does not end it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.interfaces import PENDING, Pending
from api_server.broker.cache import Entry, TokenCache
from api_server.broker.errors import (
    BrokerError,
    FlushTooSoonError,
    ProviderFailedError,
    ProviderPausedError,
    ProviderRefusedError,
)
from api_server.broker.metrics import BrokerMetrics
from api_server.broker.records import TokenKey
from api_server.broker.refresher import Refresher, check_bound
from api_server.broker.requests import fixed_token, provider_of
from api_server.broker.seals import Seals
from api_server.broker.store import BrokerStore, State
from api_server.changes.interfaces import Change, ChangeLog, Topic
from api_server.db.database import Database
from api_server.http.routes import Caller
from api_server.leases.errors import LeaseLostError
from common.clock import Clock
from common.errors import HomeportError
from common.ids import TeamId
from common.logging import get_logger
from common.secret import Secret

__all__ = ["Issued", "TokenBroker"]

_ROUNDS: Final = 4
"""Looks at the database in one flight: a change in between makes another one necessary."""

_LONG_ENOUGH: Final = 30.0
"""Seconds of overlap from which on the old token is served while the next one is fetched: other processes may go on
serving it for some seconds after that."""

_GRACE: Final = 15.0
"""Seconds that flights get to end when the process does."""

Source = Literal["database", "upstream"]


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, as it is handed out."""

    entry: Entry
    source: Source
    """`upstream` when this process has just had it fetched."""


class _Flight:
    """On its way."""

    __slots__ = ("future", "task")

    def __init__(self, future: asyncio.Future[Issued]) -> None:
        self.future = future
        self.task: asyncio.Task[None] | None = None


class TokenBroker:
    """Implements `TokenSource`. Close it.

    Args:
        database: with realms, secrets and tokens.
        refresher: fetches.
        cache: told of changes.
        seals: open what is kept.
        changes: told of flushes.
        audit: told of flushes that somebody asks for.
        metrics: count.
        clock: wall time.
    """

    def __init__(
        self,
        *,
        database: Database,
        refresher: Refresher,
        cache: TokenCache,
        seals: Seals,
        changes: ChangeLog,
        audit: AuditLog,
        metrics: BrokerMetrics,
        clock: Clock,
    ) -> None:
        self._database = database
        self._refresher = refresher
        self._cache = cache
        self._seals = seals
        self._changes = changes
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self._store = BrokerStore()
        self._flights: dict[TokenKey, _Flight] = {}
        self._log = get_logger(__name__)

    # TokenSource

    def token_nowait(self, team: TeamId, realm: str, key: str) -> Secret | Pending:
        entry = self.entry_nowait(team, realm, key)
        return PENDING if entry is None else entry.token

    async def token(self, team: TeamId, realm: str, key: str) -> Secret:
        return (await self.issue(TokenKey(team, realm, key))).entry.token

    async def refused(self, team: TeamId, realm: str, key: str, token: Secret) -> Secret:
        which = TokenKey(team, realm, key)
        current = (await self._fly(which, "refused")).entry.token
        if current != token:
            return current
        state = await self._database.read(lambda tx: self._store.state(tx, which))
        try:
            await self._flush(which, state.config.flush_interval, None)
        except FlushTooSoonError:
            # Somebody else was told the same, and has it fetched; or that was a moment ago, and did not help.
            current = (await self._fly(which, "refused")).entry.token
            if current == token:
                raise
            return current
        return (await self._fly_anew(which, "refused")).entry.token

    # The API

    def entry_nowait(self, team: TeamId, realm: str, key: str) -> Entry | None:
        """The token as it is in memory, if it may be served from there."""
        now = self._clock.wall()
        entry = self._cache.get(team, realm, key, now)
        if entry is None:
            return None
        if now < entry.due_at:
            self._metrics.hits += 1
        else:
            self._metrics.stale += 1
            which = TokenKey(team, realm, key)
            if which not in self._flights:
                self._start(which, "due")
        return entry

    async def issue(self, key: TokenKey) -> Issued:
        """The token.

        Raises:
            BrokerError, OutboundError, DatabaseError, CredentialError: it cannot be had.
        """
        entry = self.entry_nowait(key.team, key.realm, key.key)
        if entry is not None:
            return Issued(entry, "database")
        self._metrics.misses += 1
        return await self._fly(key, "due")

    async def flush(self, caller: Caller, key: TokenKey) -> Issued:
        """A token that was fetched because of this call; the one before is not handed out again (B7).

        Raises:
            FlushTooSoonError: that was done a moment ago.
            BrokerError, OutboundError, DatabaseError, CredentialError: it cannot be had.
        """
        state = await self._database.read(lambda tx: self._store.state(tx, key))
        await self._flush(key, state.config.flush_interval, caller)
        return await self._fly_anew(key, "flush")

    async def aclose(self) -> None:
        """Give flights some time to end, so that what a provider has given is kept."""
        running = [flight.task for flight in self._flights.values() if flight.task is not None]
        if running:
            _, late = await asyncio.wait(running, timeout=_GRACE)
            for task in late:
                task.cancel()
            for task in late:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    # Flights

    async def _fly(self, key: TokenKey, reason: str) -> Issued:
        while (flight := self._flights.get(key)) is not None and flight.future.done():
            assert flight.task is not None
            await asyncio.wait([flight.task])  # it has served an old token, and fetches the next one
        if flight is None:
            flight = self._start(key, reason)
        return await asyncio.shield(flight.future)

    async def _fly_anew(self, key: TokenKey, reason: str) -> Issued:
        """As `_fly`, by a flight that begins now: what is under way may have looked before the flush."""
        if (flight := self._flights.get(key)) is not None and flight.task is not None:
            await asyncio.wait([flight.task])
        return await self._fly(key, reason)

    def _start(self, key: TokenKey, reason: str) -> _Flight:
        loop = asyncio.get_running_loop()
        flight = self._flights[key] = _Flight(loop.create_future())
        flight.task = loop.create_task(self._run(key, reason, flight.future), name=f"token {key.subject}")
        return flight

    async def _run(self, key: TokenKey, reason: str, future: asyncio.Future[Issued]) -> None:
        try:
            await self._flight(key, reason, future)
        except HomeportError as exc:
            if future.done():
                self._log.info("a token that is due was not refreshed", realm=key.realm, key=key.key, code=exc.code)
            else:
                future.set_exception(exc)
                future.exception()  # perhaps nobody waits any more
        except Exception as exc:
            self._log.exception("a token could not be had", team=key.team, realm=key.realm, key=key.key)
            if not future.done():
                future.set_exception(exc)
                future.exception()
        finally:
            if not future.done():
                future.cancel()
            del self._flights[key]

    async def _flight(self, key: TokenKey, reason: str, future: asyncio.Future[Issued]) -> None:
        source: Source = "database"
        failure: HomeportError | None = None
        for _ in range(_ROUNDS):
            mark = self._cache.mark()
            state = await self._database.read(lambda tx: self._store.state(tx, key))
            now = self._clock.wall()
            if state.config.kind == "fixed":
                _resolve(future, Issued(self._fixed(state, mark), "database"))
                return
            if state.fresh(now):
                _resolve(future, Issued(self._entry(state, mark), source))
                return
            failure = failure or _remembered(state, now)
            servable = state.servable(now)
            if servable and (failure is not None or _serves_while_due(state)):
                _resolve(future, Issued(self._entry(state, mark), "database"))
            if failure is not None:
                if future.done():
                    return
                raise failure
            check_bound(state, provider_of(state.config))
            try:
                called = await self._refresher.refresh(state, _reason(state, reason))
            except LeaseLostError:
                continue  # this process was held up; another one has done it
            except BrokerError as exc:
                failure = exc
            else:
                source = "upstream" if called else source
        if not future.done():
            raise ProviderPausedError("realm or secret are changed again and again", retry_after=1.0)

    def _entry(self, state: State, mark: int) -> Entry:
        token = state.token
        due = float("inf") if token.due_at is None else token.due_at
        if token.retry_at is not None:
            due = max(due, token.retry_at)
        if token.refused_at is not None:
            due = float("inf")
        until = state.servable_until
        if not _serves_while_due(state):
            until = min(until, due)
        made = _made(self._seals.open_token(state.key, token), token.token_type, token.expires_at, due, until)
        self._cache.put(state.key, made, mark)
        return made

    def _fixed(self, state: State, mark: int) -> Entry:
        token = Secret(fixed_token(state.config, self._seals.open_fields(state.key, state.secret)))
        made = _made(token, state.config.token_type, None, float("inf"), float("inf"))
        self._cache.put(state.key, made, mark)
        return made

    async def _flush(self, key: TokenKey, interval: float, caller: Caller | None) -> None:
        now = self._clock.wall()

        async def work(tx: AsyncConnection) -> Change:
            if not await self._store.flush(tx, key, now, interval):
                raise FlushTooSoonError(
                    f"{key.subject} may be flushed once in {interval:g} seconds", retry_after=interval
                )
            change = Change(topic=Topic.REALMS, team=key.team, subject=key.subject)
            change = await self._changes.record(tx, change)
            if caller is not None:
                target = ("realm_secret", key.subject)
                await self._audit.record(tx, entry_of(caller, key.team, "realm_token.flushed", target))
            return change

        change = await self._database.write(work)
        await self._changes.announce([change])


def _resolve(future: asyncio.Future[Issued], issued: Issued) -> None:
    if not future.done():
        future.set_result(issued)


def _serves_while_due(state: State) -> bool:
    """Whether the old token is good enough while the next one is fetched (B2)."""
    return state.config.overlap is None or state.config.overlap >= _LONG_ENOUGH


def _remembered(state: State, now: float) -> HomeportError | None:
    """What went wrong a moment ago, while the provider is not asked again (B3, B4)."""
    token, subject = state.token, state.key.subject
    said = f"{token.failed_code}: {token.failed_detail}" if token.failed_detail else token.failed_code
    if token.refused_at is not None:
        return ProviderRefusedError(f"the provider refuses {subject} ({said}); change the secret or the realm")
    if token.retry_at is not None and token.retry_at > now:
        return ProviderFailedError(
            f"the provider gave no token for {subject} ({said})", retry_after=token.retry_at - now
        )
    return None


def _reason(state: State, reason: str) -> str:
    return "missing" if state.token.sealed is None else reason


def _made(token: Secret, token_type: str, expires_at: float | None, due_at: float, until: float) -> Entry:
    said = {"token": token.reveal(), "token_type": token_type, "expires_at": expires_at, "source": "database"}
    head = msgspec.json.encode(said)[:-1] + b',"expires_in":'
    return Entry(token, token_type, expires_at, due_at, until, head)
