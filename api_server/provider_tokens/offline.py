"""Offline tokens that come with sign-ins, kept with a line in the audit log."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import Actor, AuditEntry
from api_server.auth.signin.interfaces import UserRecord, Visit
from api_server.provider_tokens.grants.records import GrantKey
from api_server.provider_tokens.grants.tokens import TokenManager
from common.secret import Secret

__all__ = ["OfflineKeeper"]


class OfflineKeeper:
    """Implements `OfflineTokens` of sign-in.

    Args:
        tokens: keeps them.
        audit: gets a line.
    """

    def __init__(self, tokens: TokenManager, audit: AuditLog) -> None:
        self._tokens = tokens
        self._audit = audit

    async def keep(
        self, user: UserRecord, token: Secret, *, expires_at: float, scopes: tuple[str, ...], visit: Visit
    ) -> None:
        key = GrantKey.offline(user.id)

        async def also(tx: AsyncConnection) -> None:
            entry = AuditEntry(
                actor=Actor("user", user.id, user.name),
                team=None,
                action="offline_token.stored",
                target_kind=key.kind.value,
                target_id=key.record_id,
                after={"scopes": list(scopes), "expires_at": expires_at or None},
                request_id=visit.request_id,
                address=visit.address,
            )
            await self._audit.record(tx, entry)

        await self._tokens.store_offline_token(user.id, token, expires_at=expires_at, scopes=scopes, also=also)
