"""The grants of one person at one provider: `AuthTokenStore`, and `OfflineTokenStore` for the provider of sign-in.

    store_tokens    update or insert, one change of one record: all of it holds, or nothing does
    load_tokens     what is kept; with `check_expiration_and_refresh`, refreshed first when that is due

Nothing here deletes a record because something failed (criterion B4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.custody.errors import RecordConflictError, RecordNotFoundError
from api_server.custody.interfaces import Also, RecordStore
from api_server.provider_tokens.errors import ConnectionChangedError, ConnectionNotFoundError, OfflineTokenNotFoundError
from api_server.provider_tokens.grants.records import Grant, GrantKey, open_grant, seal_grant
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.secret import Secret

__all__ = ["AuthTokenStore", "ExpirationCheck", "GrantRecords", "OfflineTokenStore"]

_ATTEMPTS = 8
"""Of a change that others get in the way of."""


class ExpirationCheck(Protocol):
    """Checks whether what is kept has run out, and refreshes it if so."""

    async def __call__(self, key: GrantKey) -> Grant:
        """The grant, with an access token that lasts for a call.

        Raises:
            ConnectionNotFoundError: there is none.
            NeedsReconnectError: it is dead.
            ProviderAwayError: it has to be refreshed, and the provider does not answer.
        """
        ...


class GrantRecords:
    """Grants as records of a store.

    Args:
        records: where they are kept.
        envelope: seals them.
        clock: wall time.
    """

    def __init__(self, records: RecordStore, envelope: Envelope, clock: Clock) -> None:
        self._records = records
        self._envelope = envelope
        self._clock = clock

    async def get(self, key: GrantKey) -> Grant:
        """What is kept.

        Raises:
            ConnectionNotFoundError: nothing is.
            CustodyError: the store is unavailable.
            SealError: the record was altered or moved, or its key is missing.
        """
        try:
            record = await self._records.get(key.record_id)
        except RecordNotFoundError:
            raise ConnectionNotFoundError(f"{key.provider} is not connected") from None
        return open_grant(self._envelope, key, record)

    async def put(self, key: GrantKey, grant: Grant, *, expected: int, also: Also | None = None) -> Grant:
        """Keep a grant.

        Args:
            key: whose it is.
            grant: as it is to be kept.
            expected: version that was read; 0 when there was none.
            also: done in the same transaction.

        Raises:
            RecordConflictError: there is another version by now.
        """
        version = expected + 1
        try:
            await self._put(key, grant, version, expected, also)
        except RecordConflictError as exc:
            if expected or exc.current == 0:
                raise
            # Deleted before: what comes now is newer than what was then. Or somebody was faster, which fails again.
            version = exc.current + 1
            await self._put(key, grant, version, 0, also)
        return dataclasses.replace(grant, version=version)

    async def change(
        self, key: GrantKey, decide: Callable[[Grant | None], Grant], also: Callable[[AsyncConnection], Awaitable[None]]
    ) -> Grant:
        """Keep what `decide` makes of what is kept, whoever else changes it meanwhile.

        Raises:
            ConnectionChangedError: others do so without end.
        """
        for _ in range(_ATTEMPTS):
            try:
                before: Grant | None = await self.get(key)
            except ConnectionNotFoundError:
                before = None
            try:
                return await self.put(key, decide(before), expected=0 if before is None else before.version, also=also)
            except RecordConflictError:
                continue
        raise ConnectionChangedError("others change it at the same time; try again", retry_after=1)

    async def ready(self) -> None:
        """Whether what is kept now would be where it has to be; see `RecordStore.ready`.

        Raises:
            CustodyError: it would not.
        """
        await self._records.ready()

    async def delete(self, key: GrantKey, *, expected: int, also: Also | None = None) -> None:
        """Forget a grant.

        Raises:
            ConnectionNotFoundError: there is none.
            RecordConflictError: there is another version by now.
        """
        try:
            await self._records.delete(key.record_id, expected=expected, also=also)
        except RecordNotFoundError:
            raise ConnectionNotFoundError(f"{key.provider} is not connected") from None

    async def _put(self, key: GrantKey, grant: Grant, version: int, expected: int, also: Also | None) -> None:
        record = seal_grant(self._envelope, key, grant, version=version, now=self._clock.wall())
        await self._records.put(record, expected=expected, also=also)


class AuthTokenStore:
    """The tokens of one person in one team at one provider.

    Args:
        key: whose.
        records: where they are kept.
        clock: wall time.
    """

    def __init__(self, key: GrantKey, records: GrantRecords, clock: Clock) -> None:
        self.key = key
        self._records = records
        self._clock = clock
        self._loaded: Grant | None = None

    async def store_tokens(
        self,
        access_token: Secret,
        refresh_token: Secret | None,
        access_token_expires_at: float,
        refresh_token_expires_at: float,
        *,
        scopes: tuple[str, ...] = (),
        account: str | None = None,
        also: Also | None = None,
    ) -> Grant:
        """Keep tokens, in place of what is kept: one transaction, an update or an insert.

        Args:
            access_token: as the provider gave it.
            refresh_token: the same; None where it gave none.
            access_token_expires_at: seconds since the Unix epoch; 0 for never.
            refresh_token_expires_at: the same.
            scopes: that were granted.
            account: who the person is at the provider.
            also: done in the same transaction.
        """
        now = self._clock.wall()
        grant = Grant(
            access_token=access_token,
            refresh_token=refresh_token,
            access_token_expires_at=access_token_expires_at,
            refresh_token_expires_at=refresh_token_expires_at,
            issued_at=now,
            scopes=scopes,
            account=account,
            connected_at=now,
        )
        self._loaded = await self._records.change(self.key, lambda _: grant, also if also is not None else _nothing)
        return self._loaded

    async def load_tokens(self, check_expiration_and_refresh: ExpirationCheck | None = None) -> Grant:
        """What is kept.

        Args:
            check_expiration_and_refresh: refreshes it first when that is due; without it, it is what it is.

        Raises:
            ConnectionNotFoundError: nothing is kept.
            NeedsReconnectError: it is dead.
            ProviderAwayError: it has to be refreshed, and the provider does not answer.
        """
        if check_expiration_and_refresh is None:
            self._loaded = await self._records.get(self.key)
        else:
            self._loaded = await check_expiration_and_refresh(self.key)
        return self._loaded

    def is_access_token_valid(self) -> bool:
        """Whether the access token that was last stored or loaded lasts for a call; False before that."""
        return self._loaded is not None and self._loaded.is_access_token_valid(self._clock.wall())

    def is_refresh_token_valid(self) -> bool:
        """Whether the refresh token that was last stored or loaded does."""
        return self._loaded is not None and self._loaded.is_refresh_token_valid(self._clock.wall())


class OfflineTokenStore:
    """The offline token of one person at the provider of sign-in: what gets access tokens while they are away.

    Args:
        user: whose.
        records: where it is kept.
        clock: wall time.
    """

    def __init__(self, user: str, records: GrantRecords, clock: Clock) -> None:
        self.key = GrantKey.offline(user)
        self._records = records
        self._clock = clock

    async def store_token(
        self, offline_token: Secret, *, expires_at: float = 0.0, scopes: tuple[str, ...] = (), also: Also | None = None
    ) -> None:
        """Keep an offline token, in place of the one before.

        Args:
            offline_token: a refresh token.
            expires_at: seconds since the Unix epoch; 0 for never.
            scopes: that were granted.
            also: done in the same transaction.
        """
        now = self._clock.wall()
        grant = Grant(
            access_token=None,
            refresh_token=offline_token,
            access_token_expires_at=0.0,
            refresh_token_expires_at=expires_at,
            issued_at=now,
            scopes=scopes,
            connected_at=now,
        )
        await self._records.change(self.key, lambda _: grant, also if also is not None else _nothing)

    async def load_token(self) -> Secret:
        """The offline token.

        Raises:
            OfflineTokenNotFoundError: none is kept.
        """
        try:
            grant = await self._records.get(self.key)
        except ConnectionNotFoundError:
            raise OfflineTokenNotFoundError("no offline token is kept") from None
        assert grant.refresh_token is not None
        return grant.refresh_token


async def _nothing(_: AsyncConnection) -> None:
    """Nothing else belongs to the change."""
