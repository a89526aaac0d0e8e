"""One refresh at a time of each grant, whoever asks and in whichever process.

    look ── not due ──> the grant
      │ due
      ├─ this process is at it      wait for what comes of it
      ├─ another process is at it   its lease is held: look again until it is done (criterion B1)
      └─ nobody is                  take the lease, look again, and then
            a mark with an answer   keep the answer that a crash had left
            otherwise               ask whether records can be kept, mark, send, write the answer down, keep it
                                    (`attempts`)

    the provider says                            what becomes of the grant
    ───────────────────────────────────────────  ─────────────────────────────────────────────────────────────────────
    tokens                                       kept, under the fencing token of the lease
    invalid_grant, and the store has the same    "needs reconnect", with an event and an entry in the audit log
    invalid_grant, and the store has another     the other one counts
    anything else, or nothing                    it stays; what is left of the access token is handed out; nobody asks
                                                 again for a second, then two ... a minute, or for `Retry-After`

Where records have to be at a primary (`api_server.custody.primary`), nothing is sent while that does not answer. What
a provider has given and the primary has not acknowledged is in the database, and is handed out.

What has begun is carried to its end when whoever asked has gone: an answer of a provider that rotates refresh tokens is
the only one there will be. No transaction is open while the provider is asked.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.changes.interfaces import Change
from api_server.custody.errors import CustodyError, PrimaryBehindError, RecordConflictError
from api_server.custody.interfaces import Also
from api_server.db.errors import DatabaseError
from api_server.leases.errors import LeaseLostError
from api_server.leases.interfaces import Lease, Leases
from api_server.provider_tokens.errors import (
    ConnectionChangedError,
    ConnectionNotFoundError,
    GrantRefusedError,
    NeedsReconnectError,
    ProviderAwayError,
    ProviderRefusesClientError,
)
from api_server.provider_tokens.grants.attempts import OUTCOME_UNKNOWN, Attempt, Attempts, RefreshAnswer
from api_server.provider_tokens.grants.records import Grant, GrantKey
from api_server.provider_tokens.grants.store import GrantRecords
from api_server.provider_tokens.metrics import ProviderTokenMetrics
from api_server.provider_tokens.providers.answers import GivenTokens
from common.backoff import Backoff
from common.clock import Clock
from common.errors import HomeportError
from common.logging import Logger, get_logger
from common.secret import Secret

__all__ = ["Mourner", "RefreshSource", "Refresher", "Sources"]

_LEASE = 15.0
"""Seconds; more than an exchange with a provider takes. It is renewed while its holder lives."""
_PATIENCE = 25.0
"""Seconds that somebody waits for another process: for one that died as long as its lease lasts."""
_LOOKS = (0.02, 0.5)
"""Seconds between two looks at what another process is at: the first, and the most."""
_MAX_RETRY = 60.0
_LATE_ANSWER = 300.0
"""Seconds for which an answer is held on to while it cannot be written down."""
_LAST_WORDS = 5.0
"""The same, in a process that is about to end."""


class RefreshSource(Protocol):
    """The provider of a grant."""

    @property
    def name(self) -> str:
        """As people know it."""
        ...

    @property
    def refresh_margin(self) -> float:
        """Seconds before the end of an access token at which it is refreshed, as configured."""
        ...

    async def refresh(self, refresh_token: Secret) -> GivenTokens:
        """See `ProviderClient.refresh`."""
        ...

    async def revoke(self, access: Secret | None, refresh: Secret | None) -> bool:
        """See `ProviderClient.revoke`."""
        ...


Sources = Callable[[GrantKey], RefreshSource]
"""Gives the provider of a grant; raises ProviderNotFoundError where it is not set up any more."""


class Mourner(Protocol):
    """Is told when a grant has died."""

    async def record(self, tx: AsyncConnection, key: GrantKey, reason: str) -> Change:
        """Write it down, as part of the transaction; it is the last that happens in it."""
        ...

    async def announce(self, change: Change) -> None:
        """Tell everybody, after it. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class _Late:
    """An answer that the record does not have yet, and the refresh token that it is for."""

    shown: Secret
    answer: RefreshAnswer


class Refresher:
    """Refreshes grants. An `ExpirationCheck`.

    Args:
        records: where grants are kept.
        attempts: the marks.
        leases: one refresh at a time.
        sources: the providers.
        mourner: told of grants that have died.
        clock: of both kinds.
        metrics: counts.
        sleep: waits for so many seconds.
        log: for what nobody asked about.
    """

    def __init__(
        self,
        records: GrantRecords,
        attempts: Attempts,
        leases: Leases,
        sources: Sources,
        mourner: Mourner,
        clock: Clock,
        metrics: ProviderTokenMetrics,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        log: Logger | None = None,
    ) -> None:
        self._records = records
        self._attempts = attempts
        self._leases = leases
        self._sources = sources
        self._mourner = mourner
        self._clock = clock
        self._metrics = metrics
        self._sleep = sleep
        self._log = log if log is not None else get_logger(__name__)
        self._running: dict[str, asyncio.Task[Grant]] = {}
        self._late: dict[str, _Late] = {}
        self._closing = False

    def statistics(self) -> dict[str, Any]:
        """What is under way."""
        return {"refreshing": sorted(self._running)}

    async def __call__(self, key: GrantKey) -> Grant:
        """The grant, with an access token that lasts for a call.

        Raises:
            ConnectionNotFoundError: there is none.
            CustodyError: it has to be refreshed, and what comes of that could not be kept.
            NeedsReconnectError: it is dead.
            ProviderAwayError: it has to be refreshed, and the provider does not answer.
            ProviderNotFoundError: the provider is not set up any more.
            ProviderRefusesClientError: it has to be refreshed, and the provider does not take Homeport.
        """
        grant = await self._records.get(key)
        if not self._is_due(key, grant):
            return grant
        task = self._running.get(key.record_id)
        if task is None:
            if self._closing:
                raise ProviderAwayError("this process is ending; ask another", undone=True)
            task = asyncio.get_running_loop().create_task(self._refresh(key), name=key.lease)
            self._running[key.record_id] = task
            task.add_done_callback(lambda done: self._ended(key.record_id, done))
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Wait for what has begun. Nothing else begins."""
        self._closing = True
        while self._running:
            await asyncio.wait(self._running.values())

    def _ended(self, record_id: str, task: asyncio.Task[Grant]) -> None:
        self._running.pop(record_id, None)
        if not task.cancelled():
            task.exception()  # nobody may be left to look at it

    def _is_due(self, key: GrantKey, grant: Grant) -> bool:
        """Whether something has to be done before the access token is handed out.

        Raises:
            NeedsReconnectError: nothing can be.
        """
        now = self._clock.wall()
        if grant.dead is not None:
            raise NeedsReconnectError(f"{key.provider} has to be connected anew: {grant.dead}")
        if not grant.is_refresh_due(now, self._sources(key).refresh_margin):
            return False
        # What is left of a token that nothing can refresh is handed out.
        return grant.is_refresh_token_valid(now) or not grant.is_access_token_valid(now)

    async def _refresh(self, key: GrantKey) -> Grant:
        began = self._clock.monotonic()
        looks = Backoff(base=_LOOKS[0], maximum=_LOOKS[1])
        try:
            while True:
                if key.record_id not in self._late:
                    grant = await self._records.get(key)
                    if not self._is_due(key, grant):
                        return grant
                    if (rest := await self._without_asking(key, grant)) is not None:
                        return rest
                async with self._leases.hold(key.lease, _LEASE) as lease:
                    if lease is not None:
                        try:
                            return await self._refresh_under(lease, key)
                        except LeaseLostError:
                            self._log.warning("another process has taken a refresh over", record=key.record_id)
                if self._clock.monotonic() - began > self._patience(key):
                    return self._left_of(grant, ProviderAwayError("another process is refreshing it", retry_after=1))
                await self._sleep(looks.next_delay())
        finally:
            self._late.pop(key.record_id, None)

    def _patience(self, key: GrantKey) -> float:
        if self._closing:
            return _LAST_WORDS
        return _LATE_ANSWER if key.record_id in self._late else _PATIENCE

    async def _without_asking(self, key: GrantKey, grant: Grant) -> Grant | None:
        """What there is while nobody should ask the provider; None when one may."""
        attempt = await self._attempts.pending(key)
        if attempt is None or attempt.answer is not None or attempt.version != grant.version:
            return None
        now = self._clock.wall()
        if attempt.is_unknown and grant.is_access_token_valid(now):
            # Somebody is at it, or its refresh token may be spent. Showing it again may end the whole grant (RFC 9700
            # section 4.14.2): not before that is all that is left.
            return grant
        if attempt.retry_at is None or attempt.retry_at <= now:
            return None
        fault = ProviderAwayError(
            f"{key.provider} did not refresh the token: {attempt.problem}", retry_after=attempt.retry_at - now
        )
        return self._left_of(grant, fault)

    def _left_of(self, grant: Grant, fault: HomeportError) -> Grant:
        """The grant, while its access token is still good for something.

        Raises:
            HomeportError: `fault`: it is not.
        """
        if grant.is_access_token_valid(self._clock.wall()):
            return grant
        raise fault

    async def _refresh_under(self, lease: Lease, key: GrantKey) -> Grant:
        if (late := self._late.get(key.record_id)) is not None:
            return await self._keep(lease, key, late)
        grant = await self._records.get(key)
        if not self._is_due(key, grant):
            return grant
        shown = grant.refresh_token
        if shown is None or not grant.is_refresh_token_valid(self._clock.wall()):
            return await self._bury(lease, key, grant, "no_refresh_token" if shown is None else "refresh_token_expired")
        attempt = await self._attempts.pending(key)
        if attempt is not None and attempt.version == grant.version and attempt.answer is not None:
            self._log.warning("an answer that a crash had left is kept now", record=key.record_id)
            return await self._keep(lease, key, _Late(shown, attempt.answer))
        try:
            await self._records.ready()
        except CustodyError as exc:
            self._log.warning("a refresh is not begun: nothing could be kept", record=key.record_id, code=exc.code)
            return self._left_of(grant, exc)
        attempt = await self._attempts.begin(lease, key, grant.version)
        asked_at = self._clock.wall()
        try:
            given = await self._sources(key).refresh(shown)
        except GrantRefusedError as exc:
            self._metrics.refreshes.labels(key.provider, exc.code).inc()
            return await self._bury(lease, key, grant, "refresh_outcome_lost" if attempt.doubtful else exc.error)
        except (ProviderAwayError, ProviderRefusesClientError) as exc:
            self._metrics.refreshes.labels(key.provider, exc.code).inc()
            await self._note(key, attempt, exc)
            return self._left_of(grant, exc)
        self._metrics.refreshes.labels(key.provider, "ok").inc()
        late = self._late[key.record_id] = _Late(shown, RefreshAnswer(given, asked_at))
        await self._write_down(key, attempt, late.answer)
        return await self._keep(lease, key, late)

    async def _note(self, key: GrantKey, attempt: Attempt, exc: ProviderAwayError | ProviderRefusesClientError) -> None:
        pause = min(max(2.0 ** min(attempt.tries - 1, 10), exc.retry_after or 0.0), _MAX_RETRY)
        self._log.warning(
            "a provider token is not refreshed", record=key.record_id, code=exc.code, detail=exc.detail, retry_in=pause
        )
        undone = isinstance(exc, ProviderRefusesClientError) or exc.undone
        await self._attempts.failed(key, attempt, problem=exc.code if undone else OUTCOME_UNKNOWN, retry_in=pause)

    async def _write_down(self, key: GrantKey, attempt: Attempt, answer: RefreshAnswer) -> None:
        """Have the answer where a crash does not reach it; while the database is away, try again."""
        began = self._clock.monotonic()
        backoff = Backoff(base=0.05, maximum=2.0)
        while True:
            try:
                await self._attempts.answered(key, attempt, answer)
            except DatabaseError as exc:
                if self._clock.monotonic() - began > self._patience(key):
                    self._log.error("an answer of a provider is lost", record=key.record_id, code=exc.code)
                    raise
                await self._sleep(backoff.next_delay())
            else:
                return

    async def _keep(self, lease: Lease, key: GrantKey, late: _Late) -> Grant:
        """Put what was given in the place of what was shown for it, whatever happened to the record meanwhile: that
        somebody believed it to be dead included.
        """
        began = self._clock.monotonic()
        backoff = Backoff(base=0.05, maximum=2.0)
        while True:
            try:
                grant = await self._records.get(key)
                if grant.refresh_token != late.shown:
                    return self._current(key, grant)
                return await self._put(key, grant, late.answer.renew(grant), self._settling(lease, key))
            except ConnectionNotFoundError:
                await self._take_back(key, late.answer)
                raise
            except RecordConflictError:
                continue
            except (CustodyError, DatabaseError) as exc:
                if self._clock.monotonic() - began > self._patience(key):
                    raise  # the mark has the answer: whoever comes next keeps it
                self._log.warning("a refreshed token cannot be kept yet", record=key.record_id, code=exc.code)
            await self._sleep(backoff.next_delay())

    def _current(self, key: GrantKey, grant: Grant) -> Grant:
        """What somebody else has put there meanwhile: connected anew, or refreshed."""
        if self._is_due(key, grant):
            raise ConnectionChangedError("it was changed at the same time; try again", retry_after=1)
        return grant

    async def _take_back(self, key: GrantKey, answer: RefreshAnswer) -> None:
        """The person has disconnected meanwhile: what was given since then is not to live on."""
        try:
            await self._sources(key).revoke(answer.given.access_token, answer.given.refresh_token)
        except (ProviderAwayError, ProviderRefusesClientError) as exc:
            self._log.warning("a token given after a disconnect is not revoked", record=key.record_id, code=exc.code)

    async def _bury(self, lease: Lease, key: GrantKey, grant: Grant, reason: str) -> Grant:
        """Mark a grant dead, if the store still has the one that was refused (criterion B4)."""
        said: list[Change] = []

        async def also(tx: AsyncConnection) -> None:
            await self._settling(lease, key)(tx)
            said[:] = [await self._mourner.record(tx, key, reason)]

        try:
            await self._put(key, grant, dataclasses.replace(grant, dead=reason), also)
        except RecordConflictError:
            return self._current(key, await self._records.get(key))
        self._log.warning("a grant has ended; the person has to connect anew", record=key.record_id, reason=reason)
        for change in said:
            await self._mourner.announce(change)
        raise NeedsReconnectError(f"{key.provider} has to be connected anew: {reason}")

    async def _put(self, key: GrantKey, before: Grant, after: Grant, also: Also) -> Grant:
        """Put a grant in the place of another. What a primary has not acknowledged is kept, and counts."""
        try:
            return await self._records.put(key, after, expected=before.version, also=also)
        except PrimaryBehindError:
            return dataclasses.replace(after, version=before.version + 1)

    def _settling(self, lease: Lease, key: GrantKey) -> Also:
        async def also(tx: AsyncConnection) -> None:
            await self._leases.check(tx, lease)
            await self._attempts.settle(tx, key)

        return also
