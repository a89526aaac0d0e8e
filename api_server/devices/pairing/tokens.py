"""Pairing tokens: made by somebody of a team, good for one device or for a fleet, for minutes.

Only a hash of a token is kept. What comes of it is in `exchange`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api_server.audit.interfaces import AuditLog
from api_server.audit.records import entry_of
from api_server.auth.errors import ForbiddenError
from api_server.auth.interfaces import Action
from api_server.db.database import Database
from api_server.devices.pairing.errors import PairingTokenNotFoundError
from api_server.devices.pairing.records import PairingToken
from api_server.devices.service import check_name
from api_server.devices.tables import pairing_tokens
from api_server.http.routes import Caller
from common.clock import Clock
from common.crypto.api_tokens import PAIRING_TOKEN_PREFIX, new_token, start, stored_hash
from common.ids import TeamId, new_id
from common.secret import Secret

__all__ = ["PairingTokenService", "pairing_token"]


class PairingTokenService:
    """Makes, shows and withdraws pairing tokens.

    Args:
        database: where they are kept.
        audit: gets a line for each change.
        clock: wall time.
    """

    def __init__(self, database: Database, audit: AuditLog, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    async def create(
        self, caller: Caller, team: TeamId, *, name: str | None, uses: int, expires_in: float
    ) -> tuple[PairingToken, Secret]:
        """Make a pairing token.

        Args:
            caller: who asks.
            team: of the devices that will come.
            name: what the device will be called; with several uses, what the names begin with.
            uses: how many devices it is good for.
            expires_in: seconds.

        Returns:
            It, and the token itself, which cannot be had again.

        Raises:
            ValidationFailedError: the name is none.
        """
        if name is not None:
            check_name(name)
        now = self._clock.wall()
        token = new_token(PAIRING_TOKEN_PREFIX)
        made = PairingToken(
            id=new_id("ppt"),
            team=team,
            start=start(token),
            name=name,
            uses=uses,
            used=0,
            created_by=f"{caller.identity.kind}:{caller.identity.id}",
            created_at=now,
            expires_at=now + expires_in,
            revoked_at=None,
            last_used_at=None,
            reuse_count=0,
            last_reuse_at=None,
        )

        async def work(tx: AsyncConnection) -> None:
            await tx.execute(
                insert(pairing_tokens).values(
                    id=made.id,
                    team_id=team,
                    token_hash=stored_hash(token),
                    start=made.start,
                    name=name,
                    uses=uses,
                    used=0,
                    created_by_kind=caller.identity.kind,
                    created_by=caller.identity.id,
                    created_at=now,
                    expires_at=made.expires_at,
                    reuse_count=0,
                )
            )
            after = {"name": name, "uses": uses, "expires_at": made.expires_at}
            await self._record(tx, caller, made, "pairing_token.created", after=after)

        await self._database.write(work)
        return made, token

    async def those_of(self, team: TeamId, *, limit: int, after: str | None) -> list[PairingToken]:
        """Pairing tokens of a team in the order of their ids, the spent ones included."""
        query = select(pairing_tokens).where(pairing_tokens.c.team_id == team).order_by(pairing_tokens.c.id)
        if after is not None:
            query = query.where(pairing_tokens.c.id > after)

        async def work(tx: AsyncConnection) -> list[PairingToken]:
            return [pairing_token(row) for row in await tx.execute(query.limit(limit))]

        return await self._database.read(work)

    async def show(self, team: TeamId, token: str) -> PairingToken:
        """One pairing token.

        Raises:
            PairingTokenNotFoundError: the team has none of that id.
        """
        return await self._database.read(lambda tx: self._get(tx, team, token))

    async def revoke(self, caller: Caller, token: str) -> None:
        """Withdraw a pairing token; devices that have come stay. Twice is no error.

        Raises:
            ForbiddenError: somebody else has made it, and the caller may withdraw their own only.
            PairingTokenNotFoundError: the team has none of that id.
        """

        async def work(tx: AsyncConnection) -> None:
            found = await self._get(tx, caller.team, token)
            kind, _, creator = found.created_by.partition(":")
            change, own = Action.PAIRING_TOKENS_CHANGE, Action.PAIRING_TOKENS_CHANGE_OWN
            if not caller.identity.may_change(change, own, found.team, (kind, creator)):
                raise ForbiddenError(f"{caller.identity.name!r} may withdraw own pairing tokens only")
            changed = await tx.execute(
                update(pairing_tokens)
                .where(pairing_tokens.c.id == token, pairing_tokens.c.revoked_at.is_(None))
                .values(revoked_at=self._clock.wall())
            )
            if changed.rowcount:
                await self._record(tx, caller, found, "pairing_token.revoked")

        await self._database.write(work)

    async def _get(self, tx: AsyncConnection, team: TeamId, token: str) -> PairingToken:
        query = select(pairing_tokens).where(pairing_tokens.c.id == token, pairing_tokens.c.team_id == team)
        row = (await tx.execute(query)).first()
        if row is None:
            raise PairingTokenNotFoundError("the team has no pairing token of that id")
        return pairing_token(row)

    async def _record(
        self,
        tx: AsyncConnection,
        caller: Caller,
        token: PairingToken,
        action: str,
        *,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        await self._audit.record(tx, entry_of(caller, token.team, action, ("pairing_token", token.id), after=after))


def pairing_token(row: Row[Any]) -> PairingToken:
    """A row of the table, as it is shown."""
    return PairingToken(
        id=row.id,
        team=row.team_id,
        start=row.start,
        name=row.name,
        uses=row.uses,
        used=row.used,
        created_by=f"{row.created_by_kind}:{row.created_by}",
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        reuse_count=row.reuse_count,
        last_reuse_at=row.last_reuse_at,
    )
