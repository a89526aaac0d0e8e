"""What people and programs do with connections that are made: see them, get access tokens, disconnect.

    a person     has their own, in the teams that they belong to
    a program    with the scope `provider_tokens:use` has those of the person who made its token, in its team; it names
                 nobody, so it cannot name somebody else

An access token that is handed out has its line in the audit log before it leaves. A refresh token never leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.changes.interfaces import Change, ChangeLog
from api_server.custody.errors import PrimaryBehindError
from api_server.custody.interfaces import RecordStore
from api_server.db.database import Database
from api_server.http.routes import Caller
from api_server.provider_tokens.errors import (
    ConnectionNotFoundError,
    NobodyBehindTokenError,
    OfflineTokenNotFoundError,
    ProviderNotFoundError,
    TooManyHandOutsError,
)
from api_server.provider_tokens.grants.attempts import Attempts, Problem
from api_server.provider_tokens.grants.obituaries import change_of
from api_server.provider_tokens.grants.records import Grant, GrantKey, GrantKind, open_grant
from api_server.provider_tokens.grants.store import GrantRecords
from api_server.provider_tokens.grants.tokens import Revoked, TokenManager
from api_server.provider_tokens.metrics import ProviderTokenMetrics
from api_server.provider_tokens.pace import Pace
from api_server.provider_tokens.people import PeopleBehind
from api_server.provider_tokens.providers.catalogue import Providers
from common.clock import Clock
from common.crypto.envelope import Envelope
from common.ids import TeamId, is_name

__all__ = ["ConnectionState", "GrantService", "ShownGrant"]

_UNDER_WAY = 30.0
"""Seconds that a refresh may take; one that began before has met a crash."""


class ConnectionState(StrEnum):
    """What is known of a connection."""

    ACTIVE = "active"
    UNKNOWN = "unknown"
    """A refresh has no answer that is known: its refresh token may be spent. The next refresh tells."""
    NEEDS_RECONNECT = "needs_reconnect"


@dataclass(frozen=True, slots=True)
class ShownGrant:
    """A grant without its tokens."""

    key: GrantKey
    grant: Grant
    problem: Problem | None

    @property
    def state(self) -> ConnectionState:
        """What is known of it."""
        if self.grant.dead is not None:
            return ConnectionState.NEEDS_RECONNECT
        unknown = self.problem is not None and self.problem.is_unknown
        return ConnectionState.UNKNOWN if unknown else ConnectionState.ACTIVE


class GrantService:
    """Connections that are made.

    Args:
        providers: that are set up.
        tokens: keeps, refreshes and revokes.
        stored: where records are.
        records: the same, as grants.
        attempts: refreshes without an answer.
        envelope: opens records.
        people: who is behind a program.
        database: for hand-outs.
        audit: gets a line for each change and each hand-out.
        changes: tells everybody.
        pace: how often one caller gets a token.
        metrics: counts.
        clock: of both kinds.
    """

    def __init__(
        self,
        providers: Providers,
        tokens: TokenManager,
        stored: RecordStore,
        records: GrantRecords,
        attempts: Attempts,
        envelope: Envelope,
        people: PeopleBehind,
        database: Database,
        audit: AuditLog,
        changes: ChangeLog,
        pace: Pace,
        metrics: ProviderTokenMetrics,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._tokens = tokens
        self._stored = stored
        self._records = records
        self._attempts = attempts
        self._envelope = envelope
        self._people = people
        self._database = database
        self._audit = audit
        self._changes = changes
        self._pace = pace
        self._metrics = metrics
        self._clock = clock

    async def own(self, caller: Caller, *, limit: int, after: str | None) -> tuple[list[ShownGrant], str | None]:
        """The caller's connections in a team, in the order of their records' ids, and where the next page begins."""
        user = await self._user(caller)
        found = await self._stored.list(limit=limit + 1, after=after, team=caller.team, user=user)
        page = [each for each in found[:limit] if each.kind == GrantKind.PROVIDER_TOKEN]
        problems = await self._problems(each.id for each in page)
        shown = []
        for record in page:
            key = GrantKey(TeamId(record.team), record.user, record.provider)
            shown.append(ShownGrant(key, open_grant(self._envelope, key, record), problems.get(record.id)))
        return shown, found[limit - 1].id if len(found) > limit else None

    async def show(self, caller: Caller, provider: str) -> ShownGrant:
        """One of them.

        Raises:
            ConnectionNotFoundError: the caller has not connected it.
            ProviderNotFoundError: there is none of that name.
        """
        return await self._show(await self._key(caller, provider))

    async def show_offline(self, caller: Caller) -> ShownGrant:
        """The caller's offline token.

        Raises:
            OfflineTokenNotFoundError: none is kept.
        """
        try:
            return await self._show(GrantKey.offline(await self._user(caller)))
        except ConnectionNotFoundError:
            raise OfflineTokenNotFoundError("no offline token is kept; oidc_offline_access, and sign in") from None

    async def hand_out(self, caller: Caller, provider: str) -> Grant:
        """An access token that lasts for a call.

        Raises:
            ConnectionNotFoundError: the caller has not connected the provider.
            NeedsReconnectError: the person has to connect it anew.
            ProviderAwayError: it has to be refreshed, and the provider does not answer.
            ProviderNotFoundError: there is none of that name.
            TooManyHandOutsError: too many in a short time.
        """
        key = await self._key(caller, provider)
        self._keep_pace(caller, key)
        return await self._handed_out(caller, key, await self._tokens.access_token(key))

    async def hand_out_offline(self, caller: Caller) -> Grant:
        """An access token of the provider of sign-in, by the caller's offline token.

        Raises:
            OfflineTokenNotFoundError: none is kept.
            HomeportError: as `hand_out`.
        """
        user = await self._user(caller)
        key = GrantKey.offline(user)
        self._keep_pace(caller, key)
        return await self._handed_out(caller, key, await self._tokens.offline_access_token(user))

    async def disconnect(self, caller: Caller, provider: str) -> Revoked:
        """Take a connection back.

        Raises:
            ConnectionNotFoundError: the caller has not connected it.
            ProviderNotFoundError: there is none of that name.
        """
        return await self._end(caller, await self._key(caller, provider), "provider_token.disconnected")

    async def disconnect_offline(self, caller: Caller) -> Revoked:
        """Take the caller's offline token back.

        Raises:
            OfflineTokenNotFoundError: none is kept.
        """
        try:
            return await self._end(caller, GrantKey.offline(await self._user(caller)), "offline_token.revoked")
        except ConnectionNotFoundError:
            raise OfflineTokenNotFoundError("no offline token is kept") from None

    async def _show(self, key: GrantKey) -> ShownGrant:
        grant = await self._records.get(key)
        problems = await self._problems([key.record_id])
        return ShownGrant(key, grant, problems.get(key.record_id))

    async def _problems(self, record_ids: Iterable[str]) -> dict[str, Problem]:
        """What is known of refreshes without an answer, but for those that are under way."""
        since = self._clock.wall() - _UNDER_WAY
        found = await self._attempts.problems(record_ids)
        return {key: each for key, each in found.items() if each.code is not None or each.since < since}

    async def _handed_out(self, caller: Caller, key: GrantKey, grant: Grant) -> Grant:
        after = {"provider": key.provider, "user": key.user, "expires_at": grant.access_token_expires_at or None}
        entry = entry_of(caller, caller.team, f"{key.kind}.handed_out", (key.kind.value, key.record_id), after=after)
        await self._database.write(lambda tx: self._audit.record(tx, entry))
        self._metrics.handed_out.labels(key.provider).inc()
        return grant

    async def _end(self, caller: Caller, key: GrantKey, event: str) -> Revoked:
        said: list[Change] = []

        async def also(tx: AsyncConnection, revoked: Revoked) -> None:
            said[:] = [await self._changes.record(tx, change_of(key, event))]
            target = (key.kind.value, key.record_id)
            after = {"revoked_at_provider": revoked.at_provider, "problem": revoked.problem}
            await self._audit.record(tx, entry_of(caller, caller.team, event, target, after=after))

        try:
            revoked = await self._tokens.revoke(key, also)
        except PrimaryBehindError:
            await self._changes.announce(said)  # it is forgotten here, and that counts
            raise
        await self._changes.announce(said)
        return revoked

    def _keep_pace(self, caller: Caller, key: GrantKey) -> None:
        identity = caller.identity
        wait = self._pace.take(f"{identity.kind}:{identity.id} {key.record_id}", self._clock.monotonic())
        if wait is not None:
            raise TooManyHandOutsError("keep an access token until it expires", retry_after=wait)

    async def _key(self, caller: Caller, provider: str) -> GrantKey:
        user = await self._user(caller)
        if not is_name(provider):
            raise ProviderNotFoundError("no such provider is set up; /api/providers lists those that are")
        key = GrantKey(caller.team, user, provider)
        if not self._providers.knows(provider):
            try:  # one that was taken out of the settings can still be seen, and disconnected
                await self._records.get(key)
            except ConnectionNotFoundError:
                self._providers.get(provider)
        return key

    async def _user(self, caller: Caller) -> str:
        identity = caller.identity
        user = identity.id if identity.kind == "user" else await self._people.user_behind(identity)
        if user is None:
            raise NobodyBehindTokenError("provider tokens belong to people, and nobody made this token as a person")
        return user
